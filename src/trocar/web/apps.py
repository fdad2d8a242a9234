"""How Django finds the site."""

from __future__ import annotations

from django.apps import AppConfig


class WebConfig(AppConfig):
    """The site over the registry."""

    name = "trocar.web"
    label = "web"
    verbose_name = "trocar"

    def ready(self) -> None:
        """Listen to logins."""
        from trocar.web import accounts  # noqa: F401
