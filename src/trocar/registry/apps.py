"""How Django finds the registry."""

from __future__ import annotations

from django.apps import AppConfig


class RegistryConfig(AppConfig):
    """The registry as a Django app."""

    name = "trocar.registry"
    label = "registry"
    verbose_name = "registry"
    default_auto_field = "django.db.models.BigAutoField"
