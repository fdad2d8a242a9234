"""How a unit's cases went: published tables, guidance by clause, own rates beside others'."""
