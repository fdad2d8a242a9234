"""Every table's form: what is typed is what is kept, and nothing known becomes unknown."""

from __future__ import annotations

from typing import Any

import pytest
from django.http import QueryDict

from trocar.model.care import ALL_TABLES, Consent, Injection
from trocar.model.columns import Column, columns
from trocar.model.course import PainScore, Procedure
from trocar.web.forms import differences, display, initial_of, posted, row_form


def sample(c: Column, way: int) -> Any:
    """A value a column may hold; ``way`` 0 is empty where it may be."""
    if way == 0 and not c.required:
        return None
    if c.kind == "yes/no":
        return way == 1
    if c.kind == "list":
        return () if way == 1 else (c.choices or ("one", "two"))[1::-1]
    if c.choices:
        return c.choices[-1 if way == 1 else 0]
    if c.kind == "date":
        return ("2026-11-25", "2026-11", "2026")[way]
    if c.kind in ("number", "whole"):
        low = 0 if c.low is None else c.low
        value = low + way if c.high is None or low + way <= c.high else low
        return int(value) if c.kind == "whole" else float(value)
    return "A-1.b" if c.identifier else ("痛 & <b>\nline", "x")[way == 1]


FIX: dict[str, dict[str, Any]] = {
    "opioids": {"drug": "morphine", "dose": 3.5},
    "plans": {"approved_by": "anna", "approved_at": "2026-11-25T10:00:00", "revoked_at": None},
    "consents": {"date": "2026-11-25"},
    "steps": {"reason": "because"},
}


def made(table: str, way: int) -> Any:
    record = ALL_TABLES[table]
    values = {c.name: sample(c, way) for c in columns(record)}
    return record(**{**values, **FIX.get(table, {})})


def query(answers: dict[str, Any]) -> QueryDict:
    data = QueryDict(mutable=True)
    for name, value in answers.items():
        data.setlist(name, [str(v) for v in value] if isinstance(value, list) else [str(value)])
    return data


@pytest.mark.parametrize("way", [0, 1, 2])
@pytest.mark.parametrize("table", ALL_TABLES)
def test_a_record_goes_through_its_form_unchanged(table: str, way: int) -> None:
    record = made(table, way)
    form = row_form(table)(query(posted(record)))
    kept = form.to_record()
    assert form.errors == {}
    for c in columns(type(record)):
        old, new = getattr(record, c.name), getattr(kept, c.name)
        if c.kind == "list" and old and c.choices and c.name not in ("techniques", "leak_watch"):
            old, new = set(old), set(new)
        assert new == old, c.name


@pytest.mark.parametrize("table", ALL_TABLES)
def test_what_a_browser_would_send_is_what_the_form_shows(table: str) -> None:
    """The page itself holds every value: it is parsed as a browser does and sent back."""
    from html.parser import HTMLParser

    class Browser(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.sent = QueryDict(mutable=True)
            self.select, self.area, self.picked = "", "", False
            self.text = ""

        def handle_starttag(self, tag: str, attrs: Any) -> None:
            a = dict(attrs)
            if tag == "input" and (a.get("type") not in ("radio", "checkbox") or "checked" in a):
                self.sent.appendlist(a["name"], a.get("value") or "")
            elif tag == "select":
                self.select, self.picked = a["name"], False
            elif tag == "option" and "selected" in a:
                self.sent.appendlist(self.select, a["value"])
            elif tag == "textarea":
                self.area, self.text = a["name"], ""

        def handle_data(self, data: str) -> None:
            self.text += data if self.area else ""

        def handle_endtag(self, tag: str) -> None:
            if tag == "textarea":
                # A browser drops the first line break and ends lines with two characters.
                text = self.text.removeprefix("\r").removeprefix("\n")
                self.sent.appendlist(self.area, text.replace("\n", "\r\n"))
                self.area = ""

    record = made(table, 1)
    browser = Browser()
    browser.feed("".join(str(f) for f in row_form(table)(initial=initial_of(record))))
    kept = row_form(table)(browser.sent).to_record()
    assert kept == record


def consent(**typed: Any) -> Any:
    answers = {"lesion_id": "1", "number": "1", **typed}
    return row_form("consents")(query(answers))


def test_not_known_is_not_none_of_them() -> None:
    assert consent().to_record().risks is None
    assert consent(risks=["none"]).to_record().risks == ()
    assert consent(risks=["infection"]).to_record().risks == ("infection",)
    both = consent(risks=["none", "infection"])
    assert both.to_record() is None
    assert "not both" in both.errors["risks"][0]


def test_not_known_is_not_no() -> None:
    assert consent().to_record().capacity is None
    assert consent(capacity="no").to_record().capacity is False
    assert consent(capacity="yes").to_record().capacity is True


def test_the_order_of_techniques_is_kept() -> None:
    answers = {
        "procedure_id": "p",
        "lesion_id": "1",
        "techniques": ["radiofrequency", "", "cement"],
    }
    form = row_form("procedures")(query(answers))
    assert form.to_record().techniques == ("radiofrequency", "cement")
    said = str(row_form("procedures")(initial=initial_of(form.to_record()))["techniques"])
    assert said.index('"radiofrequency" selected') < said.index('"cement" selected')


@pytest.mark.parametrize(
    ("table", "answers", "field", "word"),
    [
        ("pain", {"day": "7", "low": "11"}, "low", "10"),
        ("pain", {"day": "7"}, "low", "required"),
        ("pain", {"day": "7", "low": "nan"}, "low", "number"),
        ("pain", {"day": "7", "low": "8", "high": "3"}, "high", "at least low"),
        ("deaths", {"patient_id": "p", "date": "2026-02-30"}, "date", "2026-11-25"),
        ("deaths", {"patient_id": "p", "date": "25/11/2026"}, "date", "2026-11-25"),
        ("lesions", {"patient_id": "Mrs Wong", "site": "L1"}, "patient_id", "letters"),
        ("lesions", {"patient_id": "p", "site": "knee"}, "site", "knee"),
        ("visits", {"day": "7", "walking": "2.5"}, "walking", "whole"),
        ("opioids", {"day": "7", "drug": "none", "dose": "4", "unit": "mg/day"}, "drug", "dose 0"),
        ("visits", {"day": "7", "note": "a\x07b"}, "note", "U+0007"),
    ],
)
def test_a_fault_is_told_at_its_field(
    table: str, answers: dict[str, Any], field: str, word: str
) -> None:
    form = row_form(table)(query({"lesion_id": "1", **answers}))
    assert form.to_record() is None
    assert word in " ".join(form.errors[field])


def test_columns_that_are_not_asked_come_from_the_base() -> None:
    form = row_form("pain", only=("low",))(query({"low": "4"}))
    kept = form.to_record({"lesion_id": "L9", "day": 7.0, "instrument": "NRS", "low": 1})
    assert kept == PainScore(lesion_id="L9", day=7, low=4, instrument="NRS")


def test_a_change_asks_for_a_reason_and_carries_the_version() -> None:
    made = row_form("pain", only=("low",))
    silent = made(query({"low": "4", "version": "3"}), version=3)
    assert silent.to_record({"lesion_id": "1", "day": 1.0}) is None
    assert set(silent.errors) == {"why"}
    form = made(query({"low": "4", "version": "3", "why": "typed wrongly"}), version=9)
    assert form.to_record({"lesion_id": "1", "day": 1.0}).low == 4
    assert (form.expected, form.why) == (3, "typed wrongly")
    again = form.again(9)
    assert again.data["version"] == "9"
    assert again.data["low"] == "4"


def test_values_in_words() -> None:
    by_name = {c.name: c for c in columns(Consent)}
    assert display(by_name["risks"], None) == "not known"
    assert display(by_name["risks"], ()) == "none of them"
    assert display(by_name["capacity"], False) == "no"
    volume = next(c for c in columns(Injection) if c.name == "volume_ml")
    assert display(volume, 3.5) == "3.5 ml"


def test_differences_name_only_what_differs() -> None:
    a = Procedure(procedure_id="1", lesion_id="1", cement_ml=3)
    b = Procedure(procedure_id="1", lesion_id="1", cement_ml=4)
    assert differences(a, b) == [("Cement injected", "3 ml", "4 ml")]
