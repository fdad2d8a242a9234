"""The programming interface: tables, tokens, who reaches what, and what is logged."""

from __future__ import annotations

import json
import secrets
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from trocar.io.records import example_study, read_study
from trocar.model.care import ALL_TABLES
from trocar.model.columns import columns
from trocar.model.study import Exclusion
from trocar.registry import chain, roles, store
from trocar.registry.columns import reference
from trocar.registry.convert import to_record
from trocar.registry.models import MODELS, ChainEvent, Person, Study, Token
from trocar.web.api.core import API_RIGHTS, api
from trocar.web.api.rows import OF_STUDY, WRITE
from trocar.web.api.tokens import hash_of

pytestmark = pytest.mark.django_db
V1 = "/api/v1"


class Api:
    """Calls with one token, and keeps the last answer."""

    def __init__(self, key: str = "") -> None:
        self.client = Client(headers={"Authorization": f"Bearer {key}"} if key else {})

    def __call__(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        more = {} if body is None else {"data": json.dumps(body)}
        answer = self.client.generic(
            method, f"{V1}{path}", more.get("data", ""), content_type="application/json"
        )
        assert answer.status_code == status, (method, path, answer.status_code, answer.content)
        assert answer["Content-Type"].startswith("application/json")
        return answer.json()


def account(name: str, role: str, specialty: str = "radiology") -> Any:
    user = get_user_model().objects.create_user(name, password=None)
    Person.objects.create(user=user, role=role, specialty=specialty)
    return user


def token(user: Any, scopes: Any = None, **more: Any) -> str:
    """A key made past the rule of who may make tokens, so that every role can be tried."""
    key = secrets.token_urlsafe(32)
    ends = datetime.now(UTC) + timedelta(days=1)
    held = roles.EVERY_RIGHT if scopes is None else scopes
    values = {"ends_at": ends.isoformat(), "made_at": chain.now(), **more}
    Token.objects.create(user=user, name="test", sha256=hash_of(key), scopes=sorted(held), **values)
    return key


@pytest.fixture
def study(db: None) -> Study:
    store.take_in(example_study(), who="trocar", why="example")
    return Study.objects.get()


@pytest.fixture
def radiologist(db: None) -> Any:
    return account("rad", "radiologist")


@pytest.fixture
def coordinator(db: None) -> Any:
    return account("coord", "coordinator")


@pytest.fixture
def lesion(study: Study) -> Any:
    return MODELS["lesions"].objects.order_by("pk").first()


def sample(table: str, lesion: Any, who: str) -> dict[str, Any]:
    """A row with every column filled, within its ranges; another where names must be new."""
    procedure = MODELS["procedures"].objects.filter(lesion=lesion).first()
    values: dict[str, Any] = {}
    for c in columns(ALL_TABLES[table]):
        to = reference(table, c.name)
        if to is not None:
            continue
        if c.kind == "list":
            values[c.name] = list(c.choices[:2]) or ["a gate"]
        elif c.choices:
            values[c.name] = c.choices[-1]
        elif c.kind in ("number", "whole"):
            low = -99 if c.low is None else c.low
            high = low + 200 if c.high is None else c.high
            values[c.name] = int((low + high) // 2) if c.kind == "whole" else (low + high) / 2
        elif c.kind == "yes/no":
            values[c.name] = True
        elif c.kind == "date":
            values[c.name] = "2026-02-03"
        elif c.identifier:
            values[c.name] = f"new-{table}"
        else:
            values[c.name] = "some words; 痛, <b>bold</b>"
    if any(c.name == "procedure_id" for c in columns(ALL_TABLES[table])) and table != "procedures":
        values["procedure_id"] = procedure.procedure_id
    if table == "procedures":
        values["leak_assessed"] = "CT"  # leak_found is given
    if table == "lesions":
        values["patient_id"] = lesion.patient.patient_id
    if table == "votes":
        values["member_id"], values["specialty"] = who, "radiology"
    if table == "consents":
        del values["date"], values["withdrawn"]  # one that was signed is not taken out
    return values


# --- Every table ----------------------------------------------------------------------------------


@pytest.mark.parametrize("table", sorted(WRITE))
def test_every_table_is_entered_read_changed_and_removed(
    table: str, lesion: Any, radiologist: Any
) -> None:
    call = Api(token(radiologist))
    under = f"/studies/{lesion.study.uid}" if table in OF_STUDY else f"/lesions/{lesion.uid}"
    for keyed in ("selection", "deaths"):  # one a lesion or patient: make room
        if table == keyed:
            for row in list(MODELS[table].objects.all()):
                store.remove(row, who="trocar", why="room for a test")
    before = call("GET", f"{under}/{table}/?limit=1")["total"]
    body = sample(table, lesion, "rad")
    if table == "opioids":
        body |= {"dose": 5.0, "drug": "morphine"}
    made = call("POST", f"{under}/{table}/", {"record": body, "why": "entered"}, 201)
    row = MODELS[table].objects.get(uid=made["uid"])
    want = to_record(row)
    assert (
        type(want)(**{k: tuple(v) if isinstance(v, list) else v for k, v in made["record"].items()})
        == want
    )
    if table == "votes":  # the registry says itself when
        assert made["record"]["signed_at"] != body.pop("signed_at")
        assert ChainEvent.objects.filter(kind="sign", subject=f"votes:{row.uid}").exists()
    for name, value in body.items():
        assert made["record"][name] == value
    assert call("GET", f"{under}/{table}/?limit=1")["total"] == before + 1

    at = f"/rows/{table}/{made['uid']}/"
    read = call("GET", at)
    assert read == made
    # Set to empty what may be empty: nothing else tests that no change is lost.
    empty = (
        next(
            c.name
            for c in reversed(columns(ALL_TABLES[table]))
            if not c.required and c.name not in ("revoked_at",)
        )
        if table != "devices"
        else "radiopacifier"
    )
    changed = dict(read["record"])
    changed[empty] = None
    if changed == read["record"]:
        changed[empty] = "x"
    put = {"record": changed, "why": "typing error", "version": 1}
    kept = call("PUT", at, put)
    assert kept["version"] == 2
    if table == "votes":
        assert kept["record"]["signed_at"] > changed["signed_at"]
        changed["signed_at"] = kept["record"]["signed_at"]
    assert kept["record"] == changed
    row.refresh_from_db()
    assert getattr(to_record(row), empty) == changed[empty]

    clash = call("PUT", at, {"record": read["record"], "why": "late", "version": 1}, 409)
    assert clash["theirs"] == changed
    assert {n for n, v in clash["yours"].items() if v != read["record"][n]} <= {"signed_at"}
    assert (clash["by"], clash["version"]) == ("rad", 2)
    assert call("GET", at) == kept

    items = call("GET", f"{at}history/?limit=200")["rows"]
    items = [i for i in items if i["column"] != "signed_at"]
    assert (items[0]["column"], items[0]["new"], items[0]["why"]) == (
        empty, changed[empty], "typing error",
    )  # fmt: skip
    call("DELETE", at, {"why": "a mistake", "version": 1}, 409)
    call("DELETE", at, {"why": " ", "version": 2}, 422)
    call("DELETE", at, {"why": "a mistake", "version": 2})
    call("GET", at, status=404)
    gone = call("GET", f"{at}history/?limit=200")["rows"]
    assert gone[0]["why"] == "a mistake"
    assert gone[0]["new"] is None
    assert chain.verify().sound


def test_a_row_neither_changes_its_lesion_nor_its_name(lesion: Any, radiologist: Any) -> None:
    call = Api(token(radiologist))
    row = MODELS["pain"].objects.filter(lesion=lesion).first()
    other = MODELS["lesions"].objects.exclude(pk=lesion.pk).first()
    at = f"/rows/pain/{row.uid}/"
    body = call("GET", at)["record"] | {"lesion_id": other.lesion_id}
    told = call("PUT", at, {"record": body, "why": "moved", "version": 1}, 422)
    assert told["detail"].startswith("lesion_id differs from what is kept")
    at = f"/rows/lesions/{lesion.uid}/"
    body = call("GET", at)["record"] | {"lesion_id": "another"}
    call("PUT", at, {"record": body, "why": "renamed", "version": 1}, 422)
    assert chain.verify().sound


def test_words_are_those_of_the_forms(lesion: Any, radiologist: Any) -> None:
    call = Api(token(radiologist))
    at = f"/lesions/{lesion.uid}/pain/"
    told = call("POST", at, {"record": {"day": 3, "low": 11}}, 422)["detail"]
    assert told == "record.low is 11; expected a number from 0 to 10"
    told = call("POST", at, {"record": {"day": 3, "low": 5, "high": 4}}, 422)["detail"]
    assert told == "PainScore: high is 4; expected at least low, 5"
    told = call("POST", at, {"record": {"day": 3}, "colour": 1}, 422)["detail"]
    assert told == "record.low is missing; colour is not known here; leave it out"
    told = call("POST", at, {"record": {"day": True, "low": "5"}}, 422)["detail"]
    assert told.startswith("record.day is yes; expected a number from -365 to 36500 (days)")
    for wrong in ("NaN", "Infinity", "1e999", '"5"', "[5]", "{}", "null"):
        raw = '{"record": {"day": 3, "low": ' + wrong + "}}"
        answer = call.client.post(f"{V1}{at}", raw, content_type="application/json")
        assert answer.status_code == 422, wrong
    for broken in ("", "{", "\xff", "[" * 100_000, "9" * 5000):
        answer = call.client.post(f"{V1}{at}", broken, content_type="application/json")
        assert answer.status_code in (400, 422), broken[:9]
    call("POST", at, {"record": {"day": 3, "low": 5, "instrument": "x\x00"}}, 422)
    call("POST", at, {"record": {"day": 3, "low": 5}, "why": "a\x00b"}, 422)


def test_procedures_of_other_lesions_are_refused(lesion: Any, radiologist: Any) -> None:
    other = MODELS["procedures"].objects.exclude(lesion=lesion).first()
    body = {"record": {"procedure_id": other.procedure_id, "kind": "needle", "name": "N"}}
    Api(token(radiologist))("POST", f"/lesions/{lesion.uid}/devices/", body, 422)


def test_nobody_votes_for_another(lesion: Any, radiologist: Any) -> None:
    body = {"date": "2026-01-01", "member_id": "somebody", "specialty": "radiology", "vote": "for"}
    Api(token(radiologist))("POST", f"/lesions/{lesion.uid}/votes/", {"record": body}, 403)
    assert not MODELS["votes"].objects.exists()


def test_a_vote_bears_the_specialty_of_its_account(lesion: Any, radiologist: Any) -> None:
    call = Api(token(radiologist))
    at = f"/lesions/{lesion.uid}/votes/"
    body = {"date": "2026-01-01", "member_id": "rad", "specialty": "spinal surgery", "vote": "for"}
    assert "specialty" in call("POST", at, {"record": body}, 403)["detail"]
    made = call("POST", at, {"record": body | {"specialty": "radiology"}}, 201)
    changed = made["record"] | {"specialty": "spinal surgery"}
    change = {"record": changed, "why": "x", "version": 1}
    call("PUT", f"/rows/votes/{made['uid']}/", change, 403)
    assert to_record(MODELS["votes"].objects.get()).specialty == "radiology"


def test_a_changed_meeting_is_signed_anew(lesion: Any, radiologist: Any, coordinator: Any) -> None:
    call = Api(token(radiologist))
    held = {"date": "2026-01-01", "decision": "cementoplasty"}
    at = f"/lesions/{lesion.uid}/meetings/"
    meeting = call("POST", at, {"record": held}, 201)
    vote = {"date": "2026-01-01", "member_id": "rad", "specialty": "radiology", "vote": "for"}
    signed = call("POST", f"/lesions/{lesion.uid}/votes/", {"record": vote}, 201)
    changed = meeting["record"] | {"decision": "ablation alone"}
    body = {"record": changed, "why": "new CT", "version": 1}
    Api(token(coordinator))("PUT", f"/rows/meetings/{meeting['uid']}/", body)
    left = call("GET", f"/rows/votes/{signed['uid']}/")["record"]
    assert (left["vote"], left["signed_at"]) == (None, None)


def test_a_signed_consent_is_not_taken_out(lesion: Any, radiologist: Any) -> None:
    call = Api(token(radiologist))
    body = {"number": 1, "date": "2026-01-01", "withdrawn": "2026-01-02"}
    made = call("POST", f"/lesions/{lesion.uid}/consents/", {"record": body}, 201)
    at = f"/rows/consents/{made['uid']}/"
    assert "signed" in call("DELETE", at, {"why": "a mistake", "version": 1}, 422)["detail"]
    assert MODELS["consents"].objects.count() == 1


# --- Plans and steps ------------------------------------------------------------------------------


def test_plans_are_versioned_signed_revoked_and_restored(lesion: Any, radiologist: Any) -> None:
    call = Api(token(radiologist))
    at = f"/lesions/{lesion.uid}/plans/"
    first = call("POST", at, {"record": {"cement_ml": 3.0}, "why": "first"}, 201)
    assert (first["record"]["number"], first["record"]["made_by"]) == (1, "rad")
    second = call("POST", at, {"record": {"cement_ml": 5.0}, "why": "more", "parent": 1}, 201)
    late = call("POST", at, {"record": {"cement_ml": 4.0}, "why": "late", "parent": 1}, 409)
    assert late["theirs"]["number"] == 2
    approve = f"/rows/plans/{second['uid']}/approve/"
    call("POST", f"/rows/plans/{first['uid']}/approve/", {"version": 1}, 422)
    call("POST", approve, {"version": 9}, 409)
    signed = call("POST", approve, {"version": 1})
    assert signed["record"]["approved_by"] == "rad"
    assert ChainEvent.objects.filter(kind="sign").count() == 1
    back = call("POST", f"{at}restore/", {"number": 1, "parent": 2, "why": "undo"}, 201)
    assert back["record"]["cement_ml"] == 3.0
    assert back["record"]["number"] == 3
    assert call("GET", f"/rows/plans/{second['uid']}/")["record"]["revoked_at"] is not None
    call("POST", f"/rows/plans/{second['uid']}/revoke/", {"why": "again"}, 422)
    # A plan is written in no other way.
    for method in ("PUT", "DELETE"):
        call(method, f"/rows/plans/{first['uid']}/", {"why": "x", "version": 1}, 405)
    call("POST", at, {"record": {"approved_by": "rad"}, "why": "forged", "parent": 3}, 422)


def test_a_case_moves_through_its_gates(lesion: Any, radiologist: Any, coordinator: Any) -> None:
    call = Api(token(radiologist))
    gates = call("GET", f"/lesions/{lesion.uid}/gates/")
    assert (gates["state"], gates["seen"]) == ("referred", 0)
    assert "selection" in [n["state"] for n in gates["next"]]
    at = f"/lesions/{lesion.uid}/move/"
    call("POST", at, {"state": "closed"}, 422)
    call("POST", at, {"state": "selection", "seen": 0}, 201)
    gates = call("GET", f"/lesions/{lesion.uid}/gates/")
    assert (gates["state"], gates["seen"]) == ("selection", 1)
    forward = next(n for n in gates["next"] if n["state"] == "meeting")["gates"]
    shut = [g["gate"] for g in forward if g["hard"] and g["open"] is not True]
    assert shut, "nothing is known of the example before its meeting"
    told = call("POST", at, {"state": "meeting"}, 422)["detail"]
    assert shut[0] in told
    weak = Api(token(radiologist, roles.EVERY_RIGHT - {roles.OVERRIDE}))
    body = {"state": "meeting", "overridden": shut, "reason": "by letter", "seen": 1}
    weak("POST", at, body, 403)
    Api(token(coordinator))("POST", at, body, 403)
    call("POST", at, body | {"reason": None}, 422)
    step = call("POST", at, body, 201)
    assert (step["record"]["by"], set(step["record"]["overridden"])) == ("rad", set(shut))
    call("POST", at, {"state": "consent", "seen": 1}, 409)
    assert call("GET", f"/lesions/{lesion.uid}/standing/")["state"] == "meeting"
    assert call("GET", "/worklist/?state=meeting")["rows"][0]["lesion"] == str(lesion.uid)
    assert call("GET", f"/lesions/{lesion.uid}/decision/")["lesion_id"] == lesion.lesion_id
    silent = call("POST", at, {"state": "selection", "seen": 2}, 422)  # a step back
    assert "reason is empty" in silent["detail"]
    for method in ("POST", "PUT", "DELETE"):  # a step is written in no other way
        call(method, f"/rows/steps/{step['uid']}/", {"why": "x", "version": 1}, 405)


# --- Tokens ---------------------------------------------------------------------------------------


def test_what_a_token_may_is_its_scopes_within_its_role(lesion: Any, coordinator: Any) -> None:
    at = f"/rows/lesions/{lesion.uid}/"
    Api(token(coordinator))("GET", at)
    Api(token(coordinator, {roles.FOLLOW}))("GET", at, status=403)
    call = Api(token(coordinator))  # every scope there is, but no radiologist
    call("POST", f"/lesions/{lesion.uid}/plans/", {"record": {}, "why": "x"}, 403)
    call("DELETE", at, {"why": "x", "version": 1}, 403)
    call("GET", f"/studies/{lesion.study.uid}/export/", status=403)
    last = ChainEvent.objects.order_by("-number").first()
    assert (last.kind, last.who) == ("refused", "coord")
    assert str(lesion.uid) not in last.detail


@pytest.mark.parametrize(
    "wrong",
    [
        {"revoked_at": "2026-01-01T00:00:00+00:00"},
        {"ends_at": "2026-01-01T00:00:00+00:00"},
        {"ends_at": "2020-01-01"},
        {"ends_at": "never"},
    ],
)
def test_tokens_end(wrong: dict[str, str], lesion: Any, coordinator: Any) -> None:
    told = Api(token(coordinator, **wrong))("GET", "/worklist/", status=401)
    assert "Bearer" in told["detail"]


def test_a_closed_account_has_no_token(lesion: Any, coordinator: Any) -> None:
    key = token(coordinator)
    Api(key)("GET", "/worklist/")
    coordinator.is_active = False
    coordinator.save()
    Api(key)("GET", "/worklist/", status=401)


def test_an_account_whose_password_is_to_be_changed_has_no_token(
    lesion: Any, coordinator: Any
) -> None:
    key = token(coordinator)
    Api(key)("GET", f"/lesions/{lesion.uid}/")
    Person.objects.filter(user=coordinator).update(must_change=True)
    Api(key)("GET", f"/lesions/{lesion.uid}/", status=401)


def test_a_session_is_no_token(lesion: Any, radiologist: Any) -> None:
    call = Api()
    call.client.force_login(radiologist)
    for method, path in API_RIGHTS:
        call(method, path.replace("{uid}", str(lesion.uid)), {}, 401)


def test_a_token_made_on_its_page_is_one_here(lesion: Any, coordinator: Any) -> None:
    page = Client()
    page.force_login(coordinator)
    answer = page.post("/tokens/", {"name": "ward", "scopes": [roles.SEE], "days": 7})
    key = answer.context["token"]
    assert len(key) >= 43  # 256 bits
    assert Token.objects.get().sha256 == hash_of(key)
    Api(key)("GET", "/worklist/")
    page.post(f"/tokens/{Token.objects.get().pk}/revoke/")
    Api(key)("GET", "/worklist/", status=401)


def test_calls_of_a_minute_are_counted(lesion: Any, coordinator: Any, settings: Any) -> None:
    settings.API_CALLS_A_MINUTE = 3
    call = Api(token(coordinator))
    for _ in range(3):
        call("GET", "/worklist/")
    told = call("GET", "/worklist/", status=429)
    assert told["detail"].startswith("more than the calls of one minute")
    settings.API_CALLS_A_MINUTE = 4
    call("GET", "/worklist/", status=429)  # the refused one counts too
    Api(token(coordinator))("GET", "/worklist/")  # another token has its own minute


def test_every_operation_names_rights_there_are() -> None:
    assert len(API_RIGHTS) > 150
    for address, rights in API_RIGHTS.items():
        assert rights, address
        assert set(rights) <= roles.EVERY_RIGHT, address


@pytest.mark.parametrize("role", roles.ROLES)
def test_a_role_is_refused_what_it_has_no_right_to(role: str, lesion: Any) -> None:
    call = Api(token(account("who", role)))
    for (method, path), rights in API_RIGHTS.items():
        at = path.replace("{uid}", "00000000-0000-4000-8000-000000000000")
        answer = call.client.generic(method, f"{V1}{at}", "{}", content_type="application/json")
        allowed = bool(set(rights) & roles.RIGHTS[role])
        assert (answer.status_code != 403) is allowed, (role, method, path, answer.content)


# --- Pages, absence, other methods ----------------------------------------------------------------


def test_pages_have_bounds(lesion: Any, radiologist: Any) -> None:
    call = Api(token(radiologist))
    at = f"/studies/{lesion.study.uid}/lesions/"
    every = call("GET", at)
    assert (every["total"], len(every["rows"])) == (11, 11)
    parts = [call("GET", f"{at}?limit=4&offset={o}")["rows"] for o in (0, 4, 8, 12)]
    assert [r for part in parts for r in part] == every["rows"]
    for wrong in ("limit=0", "limit=201", "offset=-1", "limit=x", "offset=99999999999999999999"):
        call("GET", f"{at}?{wrong}", status=422)
    call("GET", f"{at}?limit=200")


def test_what_is_not_there_is_told_as_such(lesion: Any, radiologist: Any) -> None:
    call = Api(token(radiologist))
    for path in (
        "/rows/pain/00000000-0000-4000-8000-000000000000/",
        f"/rows/pain/{lesion.uid}/",
        "/rows/pain/7/",
        "/rows/secrets/7/",
        "/studies/00000000-0000-4000-8000-000000000000/export-all/",
        "/nothing",
        "/",
    ):
        call("GET", path, status=404)
    assert "expected" in call("PATCH", f"/rows/pain/{lesion.uid}/", {}, 405)["detail"]


def test_the_schema_needs_no_token_and_names_every_right() -> None:
    told = Api()("GET", "/openapi.json")
    listed = {
        (method.upper(), path.removeprefix(V1)): tuple(operation["x-rights"])
        for path, methods in told["paths"].items()
        for method, operation in methods.items()
    }
    assert listed == API_RIGHTS


def test_the_schema_is_made_once_and_asked_for_again_only_when_new(monkeypatch: Any) -> None:
    first = Client().get(f"{V1}/openapi.json", headers={"host": "localhost"})
    monkeypatch.setattr(api, "get_openapi_schema", None)
    again = Client().get(f"{V1}/openapi.json", headers={"host": "localhost"})
    assert again.content == first.content
    known = {"host": "localhost", "if-none-match": first["ETag"]}
    assert Client().get(f"{V1}/openapi.json", headers=known).status_code == 304
    assert Client().post(f"{V1}/openapi.json", headers={"host": "localhost"}).status_code == 405


# --- Referrers ------------------------------------------------------------------------------------


def test_a_referrer_reaches_own_cases_alone(study: Study, radiologist: Any) -> None:
    referrer = account("ref", "referrer")
    call = Api(token(referrer))
    foreign = MODELS["lesions"].objects.first()
    pain = MODELS["pain"].objects.filter(lesion=foreign).first()
    for path in (
        f"/lesions/{foreign.uid}/", f"/lesions/{foreign.uid}/pain/", f"/rows/pain/{pain.uid}/",
        f"/rows/patients/{foreign.patient.uid}/", f"/lesions/{foreign.uid}/decision/",
    ):  # fmt: skip
        call("GET", path, status=404)
    for table in OF_STUDY:
        assert call("GET", f"/studies/{study.uid}/{table}/")["total"] == 0
    assert call("GET", "/worklist/")["total"] == 0
    # Not even by entering a lesion of somebody's patient.
    body = {"lesion_id": "new", "patient_id": foreign.patient.patient_id, "site": "L1"}
    call("POST", f"/studies/{study.uid}/lesions/", {"record": body}, 403)
    referral = {"date": "2026-11-01", "urgency": "soon"}
    whole = {
        "patient": {"patient_id": foreign.patient.patient_id}, "lesion": body,
        "referral": referral,
    }  # fmt: skip
    other = call("POST", f"/studies/{study.uid}/refer/", whole, 422)["detail"]
    # Whoever repeats what is kept of another's patient is told the same, and adds nothing.
    kept = to_record(foreign.patient)
    whole["patient"] = {c.name: getattr(kept, c.name) for c in columns(type(kept))}
    assert call("POST", f"/studies/{study.uid}/refer/", whole, 422)["detail"] == other
    whole["patient"] = {"patient_id": "own-patient"}
    taken = body | {"lesion_id": foreign.lesion_id, "patient_id": "own-patient"}
    told = call("POST", f"/studies/{study.uid}/refer/", whole | {"lesion": taken}, 422)["detail"]
    assert told == other
    assert not MODELS["patients"].objects.filter(patient_id="own-patient").exists()
    assert MODELS["lesions"].objects.count() == 11

    whole["patient"], body["patient_id"] = {"patient_id": "own-patient"}, "own-patient"
    forged = whole | {"referral": referral | {"referrer_id": "somebody"}}
    call("POST", f"/studies/{study.uid}/refer/", forged, 422)
    made = call("POST", f"/studies/{study.uid}/refer/", whole, 201)
    assert made["referral"]["record"]["referrer_id"] == "ref"
    own = made["lesion"]["uid"]
    assert call("GET", f"/lesions/{own}/")["patient"] == made["patient"]["uid"]
    assert call("GET", "/worklist/")["rows"][0]["lesion"] == own
    assert call("GET", f"/studies/{study.uid}/lesions/")["total"] == 1
    call("GET", f"/lesions/{own}/gates/")
    call("POST", f"/lesions/{own}/pain/", {"record": {"day": 0, "low": 5}}, 403)
    # Nor may it be handed to a patient who is not theirs.
    moved = made["lesion"]["record"] | {"patient_id": foreign.patient.patient_id}
    call("PUT", f"/rows/lesions/{own}/", {"record": moved, "why": "x", "version": 1}, 422)
    away = made["referral"]["record"] | {"referrer_id": "somebody"}
    at = f"/rows/referrals/{made['referral']['uid']}/"
    call("PUT", at, {"record": away, "why": "x", "version": 1}, 403)
    call("PUT", at, {"record": made["referral"]["record"] | {"urgency": "urgent"},
                     "why": "worse", "version": 1})  # fmt: skip
    # Another referrer sees nothing of it.
    Api(token(account("other", "referrer")))("GET", f"/lesions/{own}/", status=404)
    Api(token(radiologist))("GET", f"/lesions/{own}/")


# --- Studies, audit, log --------------------------------------------------------------------------


def test_an_export_is_the_study_and_is_logged(study: Study, tmp_path: Any) -> None:
    call = Api(token(account("lead", "audit lead")))
    told = call("GET", f"/studies/{study.uid}/export/")
    file = tmp_path / "study.json"
    file.write_text(json.dumps(told), encoding="utf-8")
    assert read_study(file) == example_study()
    event = ChainEvent.objects.filter(kind="export").get()
    assert (event.who, event.subject) == ("lead", f"study:{study.uid}")
    assert json.loads(event.detail)["lesions"] == 11


def test_the_audit_is_told_whole_or_without_small_counts(study: Study) -> None:
    whole = Api(token(account("lead", "audit lead")))("GET", f"/studies/{study.uid}/audit/")
    assert (whole["n_patients"], whole["suppress_below"]) == (10, None)
    shared = Api(token(account("res", "researcher")))("GET", f"/studies/{study.uid}/audit/")
    assert (shared["suppress_below"], sorted(shared)) == (5, ["counts", "suppress_below"])
    details = [json.loads(e.detail) for e in ChainEvent.objects.filter(kind="export")]
    assert [d["suppress_below"] for d in details] == [None, 5]


def _told_by_name(told: Any) -> str:
    return json.dumps(told, ensure_ascii=False)


def test_the_shared_audit_tells_what_the_page_does_and_no_name_or_note(
    study: Study, django_user_model: Any, settings: Any, tmp_path: Any
) -> None:
    from trocar.web.pages.exchange import run_shared

    settings.KEPT_FILES = tmp_path
    row = MODELS["procedures"].objects.first()
    secret = replace(to_record(row), operator_id="OPERATOR-X")
    store.put("procedures", secret, who="trocar", why="named", row=row, study=study)
    info = replace(to_record(study), note="STUDY-NOTE-X")
    store.put("study", info, who="trocar", why="noted", row=study)
    out = Exclusion(patient_id="GONE-X", stage="before treatment", reason="REASON-X typed freely")
    store.put("exclusions", out, who="trocar", why="left out", study=study)
    whole = Api(token(account("lead", "audit lead")))("GET", f"/studies/{study.uid}/audit/")
    assert "OPERATOR-X" in _told_by_name(whole)
    shared = Api(token(account("res", "researcher")))("GET", f"/studies/{study.uid}/audit/")
    for word in ("OPERATOR-X", "NOTE-X", "REASON-X", "GONE-X", *_pseudonyms(study)):
        assert word not in _told_by_name(shared), word
    asked = {"study": str(study.uid), "least": 5}
    page = json.loads(run_shared(asked, "res", lambda step, part: None))
    assert shared["counts"] == page["counts"]


def _pseudonyms(study: Study) -> list[str]:
    held = store.read_study(study)
    return [v for v in (x.operator_id for x in held.procedures) if v]


@pytest.mark.parametrize("what", ["audit", "export"])
def test_a_large_study_is_refused_before_it_is_read(
    study: Study, what: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr(f"trocar.web.api.studies.LARGEST_{what.upper()}", 10)
    monkeypatch.setattr(store, "read_study", lambda row: pytest.fail("it was read"))
    told = Api(token(account("lead", "audit lead")))("GET", f"/studies/{study.uid}/{what}/",
                                                    status=422)  # fmt: skip
    assert "11 lesions; expected at most 10" in told["detail"]
    assert "in the browser" in told["detail"]


def test_an_administrator_exports_no_study(study: Study) -> None:
    assert not roles.may("administrator", roles.EXPORT)
    call = Api(token(account("adm", "administrator")))
    call("GET", f"/studies/{study.uid}/export/", status=403)


def test_a_study_is_begun_by_an_administrator(radiologist: Any) -> None:
    body = {"record": {"study_id": "own", "title": "Own register"}, "why": "begun"}
    Api(token(radiologist))("POST", "/studies/", body, 403)
    admin = Api(token(account("adm", "administrator")))
    made = admin("POST", "/studies/", body, 201)
    assert admin("GET", f"/studies/{made['uid']}/") == made
    admin("POST", "/studies/", body, 422)
    lead = Api(token(account("lead", "audit lead")))
    told = lead("GET", f"/studies/{made['uid']}/export/")
    assert told["study"] == {"study_id": "own", "title": "Own register"}
    assert "no lesions" in lead("GET", f"/studies/{made['uid']}/audit/", status=422)["detail"]


def test_the_log_is_verified(study: Study) -> None:
    call = Api(token(account("adm", "administrator")))
    head = call("GET", "/log/head/")
    assert call("POST", "/log/verify/", {"known_head": head["sha256"]})["sound"]
    MODELS["pain"].objects.filter(lesion__lesion_id="1").update(low=1)
    told = call("POST", "/log/verify/", {})
    assert not told["sound"]
    assert told["changed_rows"]
    assert not call("POST", "/log/verify/", {"rows": False, "known_head": "f" * 64})["sound"]


@pytest.mark.parametrize("rest", ["nothing/", "rows/devices/%0A/", "rows/devices/a%0D%0Ab/"])
def test_what_is_not_there_is_said_in_json(client: Any, db: None, rest: str) -> None:
    answer = client.get(f"/api/v1/{rest}")
    assert answer.status_code == 404
    assert answer["Content-Type"].startswith("application/json")
