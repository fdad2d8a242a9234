"""Small words the templates need."""
