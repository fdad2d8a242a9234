"""The registry in the browser: pages, forms, the programming interface, serving and backups."""
