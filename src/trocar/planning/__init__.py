"""Plan: routes as values and the search for needles."""
