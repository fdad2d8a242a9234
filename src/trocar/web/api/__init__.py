"""The programming interface: the records of the registry as JSON, for programs with a token."""
