"""The door: files in and out, turned into records at the sill."""
