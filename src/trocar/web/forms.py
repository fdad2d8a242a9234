"""A form for any row, made from the columns of its record, and how a value is shown.

What a column may hold is said once, in the record; the form asks for that and nothing else. An
empty answer means "not known" (None); a list that is known to be empty is asked for by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from django import forms
from django.template.loader import render_to_string
from django.utils.functional import lazy
from django.utils.text import capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from trocar.errors import InputError
from trocar.model.columns import LONGEST_TEXT, NONE_OF_THEM, Column, columns
from trocar.registry.models import MODELS_AND_HEADS

LONG_TEXTS = ("note", "reason", "question", "why", "conditions", "goals", "summary", "text")
# Lists in which the order tells what came first.
IN_ORDER = ("techniques", "leak_watch")
_PLACES = 6
_YES_NO = (("yes", _("yes")), ("no", _("no")), ("", _("not known")))


def _label(help: str) -> str:
    return str(capfirst(gettext(help)))


label = lazy(_label, str)


def unit_word(unit: str) -> str:
    """A column's unit as it is written for a reader.

    >>> unit_word("degC"), unit_word("ml")
    ('°C', 'ml')
    """
    return str(gettext(unit)).replace("degC", "°C") if unit else ""


unit_of = lazy(unit_word, str)


class InOrder(forms.SelectMultiple):  # type: ignore[misc]
    """A list in which order matters: one select a place, all of one name."""

    template_name = "components/in_order.html"
    use_fieldset = True

    def get_context(self, name: str, value: Any, attrs: Any) -> dict[str, Any]:
        """The chosen one of every place."""
        context: dict[str, Any] = super().get_context(name, value, attrs)
        chosen = [str(v) for v in value or ()]
        count = min(max(_PLACES, len(chosen) + 1), len(list(self.choices)))
        chosen += [""] * (count - len(chosen))
        context["places"] = [(i + 1, c) for i, c in enumerate(chosen)]
        context["options"] = list(self.choices)
        return context

    def _render(self, template_name: str, context: Any, renderer: Any = None) -> str:
        return render_to_string(template_name, context)  # type: ignore[no-any-return]

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        """The filled places, in order."""
        chosen = data.getlist(name) if hasattr(data, "getlist") else data.get(name) or ()
        return [v for v in chosen if v]

    def id_for_label(self, id_: str, index: str | None = None) -> str:
        """A fieldset's legend names the whole."""
        return ""


class RowForm(forms.Form):  # type: ignore[misc]
    """Asks for the columns of one record; :func:`row_form` makes one for a table.

    ``version`` is what was read when a row is changed: it is sent along, and a reason is asked for.
    ``options`` gives the names a reference may have, as a select.
    """

    table = ""
    record: type
    asked: tuple[Column, ...] = ()

    def __init__(
        self,
        *args: Any,
        version: int | None = None,
        options: Mapping[str, Sequence[str]] | None = None,
        **said: Any,
    ) -> None:
        super().__init__(*args, **said)
        for name, values in (options or {}).items():
            if name in self.fields:
                old = self.fields[name]
                self.fields[name] = _choice(old.label, [(v, v) for v in values], old.required)
        if version is not None:
            self.fields["version"] = forms.IntegerField(
                widget=forms.HiddenInput, initial=version, min_value=0
            )
            self.fields["why"] = forms.CharField(
                label=_("Reason of the change"), max_length=1000, initial="",
                widget=forms.TextInput(attrs={"autocomplete": "off"}),
            )  # fmt: skip

    @property
    def expected(self) -> int | None:
        """The version that was read, once the form is valid."""
        version: int | None = self.cleaned_data.get("version")
        return version

    @property
    def why(self) -> str:
        """The reason given, once the form is valid."""
        return str(self.cleaned_data.get("why") or "")

    def clean(self) -> dict[str, Any]:
        """Turn what was typed into the column's values and hold them against it."""
        typed: dict[str, Any] = super().clean() or self.cleaned_data
        for c in self.asked:
            if c.name not in typed or c.name in self.errors:
                continue
            value = _value(c, typed[c.name])
            fault = c.fault(value)
            if c.kind == "list" and NONE_OF_THEM in (value or ()):
                fault = gettext("expected some of them or none of them, not both")
            if fault is not None:
                self.add_error(c.name, fault)
            else:
                typed[c.name] = value
        return typed

    def to_record(self, base: Mapping[str, Any] | None = None) -> Any:
        """The record of what was typed over ``base``, or None with the faults in ``errors``."""
        if not self.is_valid():
            return None
        values: dict[str, Any] = {}
        for c in columns(self.record):
            given = (base or {}).get(c.name)
            values[c.name] = self.cleaned_data.get(c.name) if c in self.asked else given
        try:
            return self.record(**values)
        except InputError as error:
            self.refuse(error)
            return None

    def refuse(self, error: InputError) -> None:
        """Tell a fault at the first column it names, or above the form."""
        text = str(error)
        said = text.removeprefix(f"{self.record.__name__}: ")
        words = said.replace(",", " ").replace(";", " ").replace(":", " ").split()
        name = next((w for w in words if w in self.fields), None)
        self.add_error(name, said)

    def again(self, version: int) -> RowForm:
        """The same answers over a newer version, for saving again after a conflict."""
        data = self.data.copy()
        data[self.add_prefix("version")] = str(version)
        form: RowForm = type(self)(data, version=version, prefix=self.prefix)
        form.fields.update({n: f for n, f in self.fields.items() if n in form.fields})
        return form


@cache
def _row_form(table: str, names: tuple[str, ...]) -> type[RowForm]:
    record = MODELS_AND_HEADS[table].record
    asked = tuple(c for c in columns(record) if c.name in names)
    body: dict[str, Any] = {"table": table, "record": record, "asked": asked}
    body.update({c.name: _field(c) for c in asked})
    body["__doc__"] = record.__doc__
    return type(f"{record.__name__}Form", (RowForm,), body)


def row_form(
    table: str, *, only: Sequence[str] | None = None, leave_out: Sequence[str] = ()
) -> type[RowForm]:
    """The form of a table's rows; ``only`` some columns, or all but those left out."""
    every = [c.name for c in columns(MODELS_AND_HEADS[table].record)]
    names = [n for n in every if (only is None or n in only) and n not in leave_out]
    return _row_form(table, tuple(names))


def initial_of(record: Any) -> dict[str, Any]:
    """What a form shows at first for a record."""
    return {c.name: _typed(c, getattr(record, c.name)) for c in columns(type(record))}


def posted(record: Any, **more: Any) -> dict[str, Any]:
    """What a browser would send for a record left as it is."""
    typed = {n: v for n, v in initial_of(record).items() if v is not None}
    return {**typed, **more}


def display(c: Column, value: Any) -> str:
    """A value as a page shows it; an empty one is named.

    >>> from trocar.model.patient import Patient
    >>> display(columns(Patient)[2], 61.0)
    '61 years'
    """
    if value is None:
        return str(gettext("not known"))
    if isinstance(value, bool):
        return str(gettext("yes") if value else gettext("no"))
    if isinstance(value, list | tuple):
        words = [gettext(v) if c.choices else v for v in value]
        return "; ".join(words) if words else str(gettext("none of them"))
    if isinstance(value, int | float):
        number = f"{value:.10g}"
        return f"{number} {unit_word(c.unit)}".strip()
    return gettext(value) if c.choices and value else str(value)


def sentence(reason: str, values: Mapping[str, Any]) -> str:
    """What a rule or a gate says, with the words put in its places translated as well.

    >>> sentence("Signed: {signed}; at least {least}.", {"signed": "radiology", "least": 2})
    'Signed: radiology; at least 2.'
    """
    said = {n: _in_words(v) if isinstance(v, str) else v for n, v in values.items()}
    return str(gettext(reason).format(**said))


def _in_words(value: str) -> str:
    whole = gettext(value) if value else value
    if whole != value:
        return str(whole)
    return ", ".join(gettext(w) if w else w for w in value.split(", "))


def answers(record: Any, *, leave_out: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Label and value of every column that is known."""
    told = []
    for c in columns(type(record)):
        value = getattr(record, c.name)
        if value is not None and c.name not in leave_out:
            told.append((_label(c.help), display(c, value)))
    return told


def differences(theirs: Any, yours: Any) -> list[tuple[str, str, str]]:
    """Label, their value and yours of every column in which two records differ."""
    told = []
    for c in columns(type(theirs)):
        a, b = getattr(theirs, c.name), getattr(yours, c.name)
        if a != b:
            told.append((_label(c.help), display(c, a), display(c, b)))
    return told


def _choice(label: Any, choices: Sequence[tuple[str, Any]], required: bool) -> forms.ChoiceField:
    empty = ("", _("choose") if required else _("not known"))
    return forms.ChoiceField(label=label, choices=[empty, *choices], required=required)


def _field(c: Column) -> forms.Field:
    said: dict[str, Any] = {"label": label(c.help), "required": c.required}
    choices = [(v, _(v)) for v in c.choices]
    field: forms.Field
    if c.kind == "yes/no":
        said["required"] = False
        field = forms.ChoiceField(choices=_YES_NO, widget=forms.RadioSelect, **said)
    elif c.kind == "list":
        field = _list_field(c, choices, said)
    elif c.choices:
        field = _choice(said["label"], choices, c.required)
    elif c.kind in ("number", "whole"):
        field = _number_field(c, said)
    else:
        field = _text_field(c, said)
    field.unit = unit_of(c.unit)  # type: ignore[attr-defined]
    return field


def _list_field(c: Column, choices: list[tuple[str, Any]], said: dict[str, Any]) -> forms.Field:
    if not choices:
        return forms.CharField(help_text=_("several are parted by ; (or the word none)"), **said)
    ordered = c.name in IN_ORDER
    if not ordered:
        with_none = [*choices, (NONE_OF_THEM, _("none of them"))]
        return forms.MultipleChoiceField(
            choices=with_none, widget=forms.CheckboxSelectMultiple, **said
        )
    return forms.MultipleChoiceField(
        choices=[(NONE_OF_THEM, _("none of them")), *choices], widget=InOrder, **said
    )


def _number_field(c: Column, said: dict[str, Any]) -> forms.Field:
    whole = c.kind == "whole"
    low, high = c.low, c.high
    if whole:
        low = None if low is None else int(low)
        high = None if high is None else int(high)
    widget = forms.NumberInput(
        attrs={"step": "1" if whole else "any", "inputmode": "numeric" if whole else "decimal"}
    )
    kind = forms.IntegerField if whole else forms.FloatField
    if low is not None and high is not None and high < 10**9:
        said["help_text"] = f"{low:g} – {high:g}"
    return kind(min_value=low, max_value=high, widget=widget, **said)


def _text_field(c: Column, said: dict[str, Any]) -> forms.Field:
    attrs: dict[str, str] = {"autocomplete": "off"}
    if c.kind == "date":
        attrs |= {"placeholder": "2026-11-25", "pattern": r"\d{4}(-\d{2}(-\d{2})?)?",
                  "inputmode": "numeric"}  # fmt: skip
        said["help_text"] = _("2026-11-25, or 2026-11 or 2026 when no more is known")
        return forms.CharField(max_length=10, widget=forms.TextInput(attrs=attrs), **said)
    if c.identifier:
        attrs["pattern"] = r"[A-Za-z0-9][A-Za-z0-9._\-]*"
        said["help_text"] = _("letters, digits, dot, dash, underscore")
        return forms.CharField(max_length=100, widget=forms.TextInput(attrs=attrs), **said)
    widget: type[forms.Widget] = forms.Textarea if c.name in LONG_TEXTS else forms.TextInput
    if widget is forms.Textarea:
        attrs["rows"] = "3"
    return forms.CharField(max_length=LONGEST_TEXT, widget=widget(attrs=attrs), **said)


def _value(c: Column, typed: Any) -> Any:
    """A cleaned answer as the column's value."""
    if c.kind == "yes/no":
        return {"yes": True, "no": False}.get(typed)
    if c.kind == "list":
        words = typed if isinstance(typed, list) else [w.strip() for w in typed.split(";")]
        words = [w for w in words if w]
        return () if words == [NONE_OF_THEM] else tuple(words) or None
    if isinstance(typed, str):
        # A browser ends lines with two characters; the record keeps one.
        return typed.replace("\r\n", "\n").replace("\r", "\n") or None
    return typed


def _typed(c: Column, value: Any) -> Any:
    """A column's value as a form shows it."""
    if value is None:
        return "" if c.kind == "yes/no" else None
    if c.kind == "yes/no":
        return "yes" if value else "no"
    if c.kind == "list":
        words = list(value) or [NONE_OF_THEM]
        return words if c.choices else "; ".join(words)
    return value
