"""Text that is code, requests from elsewhere, other people's cases, redirects that lead away."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client
from django.urls import get_resolver

from trocar.model.care import ALL_TABLES, Referral
from trocar.model.columns import columns
from trocar.registry import store
from trocar.registry.models import MODELS
from trocar.web import cases

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7|add:1 }}"
_SAMPLES = {
    "yes/no": True, "number": 1.0, "whole": 1, "date": "2026-11-25", "list": ("x",),
}  # fmt: skip
FIX: dict[str, dict[str, Any]] = {
    "opioids": {"drug": "morphine"},
    "plans": {"approved_by": None, "approved_at": None, "revoked_at": None},
    "pain": {"day": 77.0}, "visits": {"day": 78.0},
}  # fmt: skip


def evil(table: str, **names: str) -> Any:
    """A row whose every free text bears a script."""
    values: dict[str, Any] = {}
    for c in columns(ALL_TABLES[table]):
        if c.identifier:
            values[c.name] = names.get(c.name, "evil-1")
        elif c.kind == "list" and c.choices:
            values[c.name] = c.choices[:1]
        elif c.choices:
            values[c.name] = c.choices[0]
        elif c.kind == "text":
            values[c.name] = EVIL
        elif c.kind in ("number", "whole"):
            low = max(1, c.low or 0)
            values[c.name] = int(low) if c.kind == "whole" else float(low)
        else:
            values[c.name] = (EVIL.replace(";", ","),) if c.kind == "list" else _SAMPLES[c.kind]
    return ALL_TABLES[table](**{**values, **FIX.get(table, {})})


def clean(response: Any) -> str:
    text = str(response.content.decode())
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert not re.search(r"<[^>]* onerror=alert\(2\)>", text.replace("&quot;", ""))
    return text


@pytest.mark.parametrize("table", ALL_TABLES)
def test_a_script_in_any_text_of_any_table_is_only_text(
    clients: dict[str, Any], lesion: Any, table: str
) -> None:
    procedure = MODELS["procedures"].objects.filter(lesion=lesion).first()
    free = MODELS["patients"].objects.filter(lesions__isnull=False, deaths=None).first()
    names = {"lesion_id": lesion.lesion_id, "patient_id": lesion.patient.patient_id,
             "procedure_id": procedure.procedure_id}  # fmt: skip
    if table == "deaths" and lesion.patient.deaths.exists():
        lesion = free.lesions.first()
        names |= {"patient_id": free.patient_id, "lesion_id": lesion.lesion_id}
    own = {"patients": "patient_id", "lesions": "lesion_id", "procedures": "procedure_id"}
    row = None
    if table in own:  # there already: changed
        row = {"patients": lesion.patient, "lesions": lesion, "procedures": procedure}[table]
    elif table == "selection":
        row = MODELS[table].objects.filter(lesion=lesion).first()
    record = evil(table, **names)
    row = store.put(table, record, who="x", why=EVIL, study=lesion.study, row=row)
    lesion = MODELS["lesions"].objects.get(pk=lesion.pk)
    has_text = any(
        c.kind == "text" and not c.choices and not c.identifier for c in columns(type(record))
    )
    text = clean(clients["radiologist"].get(f"/case/{lesion.uid}/"))
    if has_text:
        assert "&lt;script&gt;alert(1)" in text
        assert "{{ 7|add:1 }}" in text  # shown, not run
    for address in (f"/row/{table}/{row.uid}/", f"/row/{table}/{row.uid}/history/",
                    f"/row/{table}/{row.uid}/remove/", "/work/"):  # fmt: skip
        clean(clients["radiologist"].get(address))
    for name in ("meeting", "consent", "plan", "procedure", "visit", "complication"):
        response = clients["radiologist"].get(f"/case/{lesion.uid}/{name}/")
        if response.status_code == 200:
            clean(response)


def test_typed_scripts_come_back_as_text(clients: dict[str, Any], lesion: Any) -> None:
    client = clients["radiologist"]
    clean(client.post(f"/case/{lesion.uid}/add/pain/", {"day": EVIL, "low": EVIL}))
    clean(client.post("/work/", {"search": EVIL, "operator": EVIL, "state": EVIL}))
    clean(client.post("/refer/", {"whose-patient_id": EVIL, "referral-question": EVIL}))
    clean(client.post(f"/case/{lesion.uid}/move/", {"state": EVIL, "seen": EVIL}))


def test_no_page_needs_what_the_policy_forbids(clients: dict[str, Any], lesion: Any) -> None:
    for address in ("/work/", f"/case/{lesion.uid}/", "/refer/", "/about/",
                    f"/case/{lesion.uid}/add/procedures/"):  # fmt: skip
        response = clients["radiologist"].get(address)
        text = response.content.decode()
        assert not re.search(r"<script(?![^>]*\ssrc=)[^>]*>", text)
        assert not re.search(r"<[^>]*\sstyle=", text)
        assert "<style" not in text
        assert not re.search(r"<[^>]*\son[a-z]+=", text)
        policy = response["Content-Security-Policy"]
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy


def _ours() -> list[tuple[str, str]]:
    found = []
    for p in get_resolver().url_patterns:
        if hasattr(p, "url_patterns") or getattr(p.callback, "own_authentication", False):
            continue
        route = re.sub(r"<(\w+):(\w+)>", lambda m: _FILL.get(m[2], _FILL[m[1]]), str(p.pattern))
        found.append((p.name or "", "/" + route))
    return found


_FILL = {
    "uuid": "00000000-0000-0000-0000-000000000001", "int": "1", "slug": "pain", "str": "x",
    "path": "x",
}  # fmt: skip


def test_every_address_refuses_a_post_from_elsewhere(people: dict[str, Any]) -> None:
    """With a session but without the token no address takes a POST."""
    addresses = _ours()
    assert len(addresses) > 15
    for role, user in people.items():
        client = Client(HTTP_HOST="localhost", enforce_csrf_checks=True)
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        for name, address in addresses:
            assert client.post(address).status_code in (403, 405), (role, name)


def test_a_referrer_cannot_reach_anothers(clients: dict[str, Any], lesion: Any) -> None:
    client = clients["referrer"]
    said = Referral(lesion_id=lesion.lesion_id, date="2026-11-01", referrer_id="referrer")
    other = MODELS["lesions"].objects.exclude(patient=lesion.patient).first()
    assert client.get(f"/case/{lesion.uid}/").status_code == 404
    mine = cases.save("referrals", said, who="referrer", study=lesion.study)
    assert client.get(f"/case/{lesion.uid}/").status_code == 200
    assert client.get(f"/case/{other.uid}/").status_code == 404
    assert client.get(f"/case/{other.uid}/add/referrals/").status_code == 404
    theirs = cases.save(
        "referrals", Referral(lesion_id=other.lesion_id, date="2026-11-01", referrer_id="else"),
        who="else", study=lesion.study,
    )  # fmt: skip
    assert client.get(f"/row/referrals/{mine.uid}/").status_code == 200
    assert client.get(f"/row/referrals/{theirs.uid}/").status_code == 404
    answers = {"date": "2026-11-02", "version": "1", "why": "x"}
    assert client.post(f"/row/referrals/{theirs.uid}/", answers).status_code == 404
    assert client.post(f"/row/lesions/{lesion.uid}/", answers).status_code == 403
    assert client.post(f"/row/patients/{lesion.patient.uid}/", answers).status_code == 403
    # Nor hand the own to somebody else, or enter one in another's name.
    taken = client.post(f"/row/referrals/{mine.uid}/", {**answers, "referrer_id": "else"})
    assert taken.status_code == 302
    mine.refresh_from_db()
    assert (mine.referrer_id, mine.date) == ("referrer", "2026-11-02")
    client.post(f"/case/{lesion.uid}/add/referrals/", {**answers, "referrer_id": "else"})
    assert {r.referrer_id for r in lesion.referrals.all()} == {"referrer"}


@pytest.mark.parametrize(
    "away",
    ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)",
     "http:///evil.example", "https:evil.example", "\tjavascript:alert(1)", ""],
)  # fmt: skip
def test_the_language_switch_leads_nowhere_else(client: Any, db: Any, away: str) -> None:
    said = {"language": "zh-hant", "next": away}
    response = client.post("/language/", said, HTTP_HOST="localhost")
    assert response.status_code == 302
    assert response["Location"] == "/"


def test_the_language_is_kept(clients: dict[str, Any], people: dict[str, Any]) -> None:
    said = {"language": "zh-hant", "next": "/about/"}
    response = clients["coordinator"].post("/language/", said)
    assert response["Location"] == "/about/"
    people["coordinator"].person.refresh_from_db()
    assert people["coordinator"].person.language == "zh-hant"
    assert 'lang="zh-hant"' in clients["coordinator"].get("/about/").content.decode()
    clients["coordinator"].post("/language/", {"language": "../../etc", "next": "/"})
    people["coordinator"].person.refresh_from_db()
    assert people["coordinator"].person.language == "zh-hant"


def test_health_says_only_ok(client: Any, db: Any) -> None:
    response = client.get("/health/", HTTP_HOST="localhost")
    assert (response.status_code, response.content) == (200, b"ok")


def test_another_host_is_refused(client: Any, db: Any) -> None:
    assert client.get("/health/", HTTP_HOST="evil.example").status_code == 400
