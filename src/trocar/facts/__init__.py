"""Numbers that are known, each with its source and its evidence grade."""
