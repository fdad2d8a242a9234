"""Simulate: what would be seen and what would happen."""
