"""What a browser would send of a form on a page, and a registry to send it to."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

from django.test import Client

from trocar.io.records import example_study
from trocar.registry import store
from trocar.registry.models import MODELS, Person


class _Fields(HTMLParser):
    """The answers in every form of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[dict[str, list[str]]] = []
        self._name = ""
        self._long: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        said = dict(attrs)
        if tag == "form":
            self.forms.append({"action": [said.get("action") or ""]})
        if not self.forms or (tag != "option" and "name" not in said):
            return
        into = self.forms[-1]
        if tag == "input":
            ticked = said.get("type") not in ("radio", "checkbox") or "checked" in said
            if ticked:
                into.setdefault(said["name"], []).append(said.get("value") or "")
        elif tag == "select":
            self._name = said["name"]
        elif tag == "option" and "selected" in said:
            into.setdefault(self._name, []).append(said.get("value") or "")
        elif tag == "textarea":
            self._name, self._long = said["name"], []

    def handle_data(self, data: str) -> None:
        if self._long is not None:
            self._long.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea" and self._long is not None:
            text = "".join(self._long).removeprefix("\n")
            self.forms[-1].setdefault(self._name, []).append(text)
            self._long = None


def form_with(response: Any, name: str) -> dict[str, list[str]]:
    """What the form that asks for ``name`` would send as it stands."""
    parser = _Fields()
    parser.feed(response.content.decode())
    return next(f for f in parser.forms if name in f)


def client_of(name: str, role: str) -> Client:
    """A browser in which an account of a role is logged in."""
    user = store.account(name)
    user.is_active = True
    user.save()
    Person.objects.get_or_create(user=user, defaults={"role": role, "specialty": "radiology"})
    client = Client(HTTP_HOST="localhost")
    client.force_login(user)
    return client


def hong_kong(lesion_id: str = "1") -> Any:
    """A lesion of the published cohort, as a registry holds it."""
    store.take_in(example_study(), who="trocar", why="example")
    return MODELS["lesions"].objects.get(lesion_id=lesion_id)
