"""What every page needs of the site: links that are there, the menu, values in words."""

from __future__ import annotations

from typing import Any

from django import template
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext, gettext_lazy

from trocar.registry import roles
from trocar.web.guard import role_of

register = template.Library()

# Address name, label, rights of which any one shows it.
MENU = (
    ("worklist", gettext_lazy("Worklist"), (roles.SEE, roles.SEE_OWN)),
    ("refer", gettext_lazy("Refer"), (roles.REFER,)),
    ("audit", gettext_lazy("Audit"), (roles.AUDIT,)),
    ("shared", gettext_lazy("Shared tables"), (roles.SHARED,)),
    ("import", gettext_lazy("Import"), (roles.IMPORT,)),
    ("export", gettext_lazy("Export"), (roles.EXPORT,)),
    ("people", gettext_lazy("People"), (roles.PEOPLE,)),
    ("log", gettext_lazy("Log"), (roles.LOG,)),
    ("tokens", gettext_lazy("Tokens"), (roles.TOKENS,)),
)


@register.simple_tag
def place(name: str, *args: Any) -> str:
    """The address of a page, or "" when there is no such page."""
    try:
        return str(reverse(name, args=args))
    except NoReverseMatch:
        return ""


@register.simple_tag(takes_context=True)
def menu(context: dict[str, Any]) -> list[dict[str, Any]]:
    """The pages who looks may open."""
    request = context["request"]
    role = role_of(request)
    entries = []
    for name, label, rights in MENU:
        href = place(name)
        if href and any(roles.may(role, r) for r in rights):
            entries.append({"href": href, "label": label, "here": request.path == href})
    return entries


@register.filter
def words(value: Any) -> str:
    """A word of the records (a state, a site, a verdict) in the reader's language."""
    return str(gettext(str(value))) if value not in (None, "") else ""
