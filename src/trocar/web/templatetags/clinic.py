"""How the clinic's pages show a value, a moment and a plan."""

from __future__ import annotations

from typing import Any

from django import template
from django.utils.translation import gettext

from trocar.model.care import PLANNED
from trocar.model.columns import columns
from trocar.web.forms import display

register = template.Library()


@register.filter
def cell(value: Any) -> str:
    """A value without its column: yes, no, words, a number; an empty one is named."""
    if value is None or value == "":
        return str(gettext("not known"))
    if isinstance(value, bool):
        return str(gettext("yes") if value else gettext("no"))
    if isinstance(value, list | tuple):
        return "; ".join(gettext(v) for v in value) or str(gettext("none of them"))
    return f"{value:.10g}" if isinstance(value, int | float) else gettext(str(value))


@register.filter
def word(value: str | None) -> str:
    """A word of a fixed list, translated."""
    return gettext(value) if value else ""


@register.filter
def moment(value: str | None) -> str:
    """A moment to the minute.

    >>> moment("2026-11-28T14:05:09.123456+00:00")
    '2026-11-28 14:05 UTC'
    """
    if not value:
        return ""
    day, _t, time = value.partition("T")
    return f"{day} {time[: len('14:05')]} UTC" if time else day


@register.filter
def planned(version: Any) -> list[tuple[str, str]]:
    """Label and value of what a version plans, as far as it says."""
    return [
        (gettext(c.help), display(c, getattr(version, c.name)))
        for c in columns(type(version))
        if c.name in PLANNED and c.name != "plan_sha256" and getattr(version, c.name) is not None
    ]
