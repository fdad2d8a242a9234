"""The case page and the generic forms: what is shown, kept, refused and never lost."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from trocar.errors import InputError
from trocar.io.records import example_study
from trocar.model.care import Consent, Imaging, Meeting, PlanVersion, Referral, Step, Vote
from trocar.model.columns import columns
from trocar.model.course import OpioidLine, PainScore, Visit
from trocar.model.study import TABLES
from trocar.registry import store
from trocar.registry.convert import to_record
from trocar.registry.models import MODELS, ChainEvent
from trocar.web import cases, kept
from trocar.web.curve import BOTTOM, LEFT, RIGHT, TOP, curve
from trocar.web.forms import posted
from trocar.web.pages.cases import TABLE_RIGHTS, TITLES


def page(client: Any, lesion: Any) -> Any:
    return client.get(f"/case/{lesion.uid}/")


def first(table: str, lesion: Any) -> Any:
    return MODELS[table].objects.filter(lesion=lesion).order_by("pk").first()


def changed(row: Any, **more: Any) -> dict[str, Any]:
    return posted(to_record(row), version=row.version, why="typed wrongly", **more)


def test_every_row_of_every_lesion_is_on_its_page(clients: dict[str, Any], registry: Any) -> None:
    for lesion in MODELS["lesions"].objects.all():
        text = page(clients["radiologist"], lesion).content.decode()
        for table in ("selection", "procedures", "pain", "opioids", "visits", "complications",
                      "leaks", "events"):  # fmt: skip
            for row in MODELS[table].objects.filter(lesion=lesion):
                assert f"/row/{table}/{row.uid}/history/" in text, table
        assert "Research use only. Not a medical device." in text
        assert lesion.lesion_id in text


def test_the_line_is_in_order_of_time(clients: dict[str, Any], lesion: Any) -> None:
    entries = page(clients["radiologist"], lesion).context["entries"]
    at = [e.position for e in entries]
    assert at == sorted(at)
    tables = [e.table for e in entries]
    before = [e for e in entries[: tables.index("procedures")] if e.table == "pain"]
    assert all(e.when in ("day 0", "day -1") for e in before)
    days = [float(e.when.removeprefix("day ")) for e in entries if e.when.startswith("day ")]
    assert days == sorted(days)


def test_pain_of_a_visit_stands_within_it(clients: dict[str, Any], lesion: Any) -> None:
    save = {"who": "x", "study": lesion.study}
    cases.save("visits", Visit(lesion_id=lesion.lesion_id, day=500), **save)
    cases.save("pain", PainScore(lesion_id=lesion.lesion_id, day=500, low=3), **save)
    entries = page(clients["radiologist"], lesion).context["entries"]
    visit = next(e for e in entries if e.table == "visits" and e.when == "day 500")
    assert [(s.table, s.short) for s in visit.subs] == [("pain", "3")]


def test_a_change_is_kept_with_its_reason(clients: dict[str, Any], lesion: Any) -> None:
    row = first("pain", lesion)
    held = to_record(row)
    answers = {**changed(row), "low": "4.5", "high": ""}
    response = clients["coordinator"].post(f"/row/pain/{row.uid}/", answers)
    assert response.status_code == 302
    row.refresh_from_db()
    assert to_record(row) == replace(held, low=4.5, high=None)
    last = store.history(row)[0]
    assert (last.column, last.who, last.why, last.new) in [
        ("low", "coordinator", "typed wrongly", 4.5), ("high", "coordinator", "typed wrongly", None)
    ]  # fmt: skip
    history = clients["coordinator"].get(f"/row/pain/{row.uid}/history/").content.decode()
    assert "typed wrongly" in history
    assert "not known" in history


@pytest.mark.parametrize("table", ["patients", "lesions", "procedures", "devices"])
def test_a_name_is_shown_but_not_asked_for_again(
    clients: dict[str, Any], lesion: Any, table: str
) -> None:
    row = {"patients": lesion.patient, "lesions": lesion}.get(table) or first("procedures", lesion)
    names = [c.name for c in columns(MODELS[table].record) if c.name.endswith(
        ("patient_id", "lesion_id", "procedure_id"))]  # fmt: skip
    if table == "devices":
        device = MODELS["devices"].record(procedure_id=row.procedure_id, kind="needle", name="11G")
        row = cases.save("devices", device, who="x", study=lesion.study)
    held = to_record(row)
    address = f"/row/{table}/{row.uid}/"
    shown = clients["radiologist"].get(address)
    text = shown.content.decode()
    assert names
    for name in names:
        assert name not in shown.context["form"].fields
        assert f"<dd>{getattr(held, name)}</dd>" in text
    said = {**changed(row), **dict.fromkeys(names, "another"), "why": "renamed"}
    assert clients["radiologist"].post(address, said).status_code == 302
    row.refresh_from_db()
    assert [getattr(to_record(row), n) for n in names] == [getattr(held, n) for n in names]


def test_no_reason_no_change(clients: dict[str, Any], lesion: Any) -> None:
    row = first("pain", lesion)
    response = clients["coordinator"].post(
        f"/row/pain/{row.uid}/", {**changed(row), "why": " ", "low": "1"}
    )
    assert response.status_code == 422
    row.refresh_from_db()
    assert row.version == 1


def test_the_second_of_two_writers_is_told_and_loses_nothing(
    clients: dict[str, Any], lesion: Any
) -> None:
    row = first("pain", lesion)
    mine = {**changed(row), "low": "2", "high": ""}
    theirs = {**changed(row), "low": "7", "high": ""}
    assert clients["radiologist"].post(f"/row/pain/{row.uid}/", theirs).status_code == 302
    response = clients["coordinator"].post(f"/row/pain/{row.uid}/", mine)
    assert response.status_code == 409
    told = response.content.decode()
    assert "radiologist saved it" in told
    assert ("Score, or the lower end of an interval", "7", "2") in response.context["differences"]
    assert 'value="2"' in told  # what was typed
    row.refresh_from_db()
    assert row.low == 7
    again = {**mine, "version": response.context["form"].data["version"]}
    assert clients["coordinator"].post(f"/row/pain/{row.uid}/", again).status_code == 302
    row.refresh_from_db()
    assert row.low == 2


def test_taking_out_needs_a_reason_and_keeps_the_history(
    clients: dict[str, Any], lesion: Any
) -> None:
    row = first("pain", lesion)
    address = f"/row/pain/{row.uid}/remove/"
    client = clients["radiologist"]
    assert client.post(address, {"version": row.version, "why": ""}).status_code == 422
    assert client.post(address, {"version": 99, "why": "twice"}).status_code == 409
    assert client.post(address, {"version": "x", "why": "twice"}).status_code == 409
    assert client.post(address, {"version": row.version, "why": "twice"}).status_code == 302
    assert not MODELS["pain"].objects.filter(pk=row.pk).exists()
    gone = client.get(f"/case/{lesion.uid}/removed/").content.decode()
    assert f"/row/pain/{row.uid}/history/" in gone
    assert "twice" in client.get(f"/row/pain/{row.uid}/history/").content.decode()


@pytest.mark.parametrize("table", sorted(set(TABLE_RIGHTS) - {"patients", "lesions"}))
def test_every_tables_form_opens_and_refuses_nonsense(
    clients: dict[str, Any], lesion: Any, table: str
) -> None:
    address = f"/case/{lesion.uid}/add/{table}/"
    response = clients["radiologist"].get(address)
    assert response.status_code == 200
    assert str(TITLES[table]) in response.content.decode()
    nonsense = dict.fromkeys(response.context["form"].fields, "\x00<x>")
    assert clients["radiologist"].post(address, nonsense).status_code == 422


def test_a_new_row_comes_to_the_page(clients: dict[str, Any], lesion: Any) -> None:
    answers = {"day": "400", "event": "infection", "cirse": "3"}
    response = clients["coordinator"].post(f"/case/{lesion.uid}/add/complications/", answers)
    assert response.status_code == 302
    assert MODELS["complications"].objects.get(day=400).event == "infection"
    again = {"day": "400", "low": "3"}
    address = f"/case/{lesion.uid}/add/pain/"
    assert clients["coordinator"].post(address, again).status_code == 302
    response = clients["coordinator"].post(address, again)  # the same day twice
    assert response.status_code == 422
    assert "there already" in response.content.decode()


def test_a_device_goes_to_a_procedure_of_this_lesion_only(
    clients: dict[str, Any], lesion: Any
) -> None:
    mine = first("procedures", lesion)
    other = MODELS["procedures"].objects.exclude(lesion=lesion).first()
    said = {"kind": "needle", "name": "11G"}
    address = f"/case/{lesion.uid}/add/devices/"
    for procedure, status in ((other, 422), (mine, 302)):
        answers = {**said, "procedure_id": procedure.procedure_id}
        assert clients["coordinator"].post(address, answers).status_code == status
    assert MODELS["devices"].objects.filter(procedure=mine, name="11G").count() == 1


def test_moving_on_and_back(clients: dict[str, Any], lesion: Any) -> None:
    client, address = clients["radiologist"], f"/case/{lesion.uid}/move/"
    held = store.read_care(lesion).steps
    seen = held[-1].number if held else 0
    assert client.post(address, {"state": "selection", "seen": "x"}).status_code == 422
    assert client.post(address, {"state": "nowhere", "seen": seen}).status_code == 422
    shown = page(client, lesion).context
    back = next(w for w in shown["others"] if w["state"])
    silent = client.post(address, {"state": back["state"], "seen": seen})
    assert silent.status_code == 422  # out of the way without a reason
    assert "reason is empty" in silent.content.decode()
    said = {"state": back["state"], "seen": seen, "reason": "asked for",
            "override": [g["gate"] for g in back["gates"]]}  # fmt: skip
    assert client.post(address, said).status_code == 302
    assert store.read_care(lesion).state == back["state"]
    assert client.post(address, said).status_code == 409  # somebody moved it
    assert ChainEvent.objects.filter(kind="move", who="radiologist").exists()


def test_the_reason_of_a_step_back_is_asked_of_everybody(lesion: Any) -> None:
    with pytest.raises(InputError, match="reason is empty"):
        cases.move(lesion, "declined", who="t", role="radiologist", reason=" ")
    assert store.read_care(lesion).state == "referred"


def test_a_consent_that_was_signed_stays(clients: dict[str, Any], lesion: Any) -> None:
    signed = Consent(lesion_id=lesion.lesion_id, number=1, date="2026-03-05")
    row = cases.save("consents", signed, who="t", study=lesion.study)
    client, address = clients["radiologist"], f"/row/consents/{row.uid}/remove/"
    assert client.post(address, {"version": 1, "why": "twice"}).status_code == 422
    shown = next(e for e in page(client, lesion).context["entries"] if e.table == "consents")
    assert not shown.may_remove
    assert f"/row/consents/{row.uid}/remove/" not in page(client, lesion).content.decode()
    # Nor after its day was emptied first.
    unsigned = replace(signed, date=None)
    row = cases.save("consents", unsigned, who="t", why="corrected", row=row, study=lesion.study)
    with pytest.raises(InputError, match="was signed"):
        cases.remove(row, who="t", why="twice")
    never = Consent(lesion_id=lesion.lesion_id, number=2)
    row = cases.save("consents", never, who="t", study=lesion.study)
    cases.remove(row, who="t", why="twice")
    assert [r.number for r in MODELS["consents"].objects.all()] == [1]


# --- What was signed ----------------------------------------------------------------------------

MEETING = Meeting(lesion_id="1", date="2026-03-02", decision="cementoplasty")
VOTE = Vote(
    lesion_id="1", date="2026-03-02", member_id="anna", specialty="radiology", vote="for",
    signed_at="2026-03-02T17:00:00+00:00",
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "stands"),
    [
        ({"decision": "ablation alone"}, False),
        ({"decision": None}, False),
        ({"conditions": "stop aspirin"}, False),
        ({"date": "2026-03-09"}, False),
        ({"note": "a room was changed"}, True),
    ],
)
def test_a_signature_is_of_what_was_signed(
    clients: dict[str, Any], lesion: Any, changes: dict[str, Any], stands: bool
) -> None:
    row = cases.save("meetings", MEETING, who="t", study=lesion.study)
    cases.save("votes", VOTE, who="anna", study=lesion.study)
    answers = changed(row, **{k: v or "" for k, v in changes.items()})
    answer = clients["coordinator"].post(f"/row/meetings/{row.uid}/", answers)
    assert answer.status_code == 302
    vote = MODELS["votes"].objects.get()
    kept = to_record(vote)
    if stands:
        assert kept == VOTE
    else:
        day = changes.get("date", MEETING.date)
        assert kept == replace(VOTE, date=day, vote=None, signed_at=None)
        told = store.history(vote)[0]
        assert (told.who, told.why) == ("coordinator", "typed wrongly")
        assert "unsigned" in ChainEvent.objects.filter(kind="sign").last().detail


def test_votes_before_there_was_a_meeting_sign_nothing(lesion: Any) -> None:
    cases.save("votes", VOTE, who="anna", study=lesion.study)
    row = cases.save("meetings", MEETING, who="t", study=lesion.study)
    assert MODELS["votes"].objects.get().signed_at is None
    # A meeting taken out and entered with another decision is another meeting.
    vote = MODELS["votes"].objects.get()
    cases.save("votes", VOTE, who="anna", why="signed", row=vote, study=lesion.study)
    cases.remove(row, who="t", why="by mistake")
    other = replace(MEETING, decision="ablation alone")
    cases.save("meetings", other, who="t", study=lesion.study)
    assert MODELS["votes"].objects.get().signed_at is None


# --- Import -------------------------------------------------------------------------------------


def test_an_import_places_only_what_it_brings(db: Any) -> None:
    series = example_study()
    first = replace(
        series,
        lesions=series.lesions[:1],
        procedures=(),
        **{t: () for t in TABLES if t not in ("patients", "lesions", "procedures")},
    )
    cases.enter(first, who="t", why="first")
    row = cases.enter(series, who="t", why="second")
    steps = MODELS["steps"].objects
    placed = set(steps.values_list("lesion__lesion_id", flat=True))
    assert placed == {x.lesion_id for x in series.lesions[1:]}
    assert store.read_care(MODELS["lesions"].objects.get(lesion_id="1")).state == "referred"
    told = json.loads(ChainEvent.objects.filter(kind="move").last().detail)
    assert (told["placed"], told["stayed"]) == (10, 1)
    assert ChainEvent.objects.filter(subject=f"study:{row.uid}", kind="move").count() == 2


def test_gates_stand_worst_first_with_their_clause(clients: dict[str, Any], lesion: Any) -> None:
    text = page(clients["radiologist"], lesion).content.decode()
    shown = page(clients["radiologist"], lesion).context["next"]
    if shown is not None:
        ranks = [g["tone"] == "ok" for g in shown["gates"]]
        assert ranks == sorted(ranks)
        for g in shown["gates"]:
            assert g["title"] in text


def test_gates_that_only_warn_are_folded_below_the_move(
    clients: dict[str, Any], lesion: Any
) -> None:
    text = page(clients["radiologist"], lesion).content.decode()
    way = page(clients["radiologist"], lesion).context["next"]
    assert way["warnings"]
    assert all(g["hard"] for g in way["shut_gates"])
    assert not any(g["hard"] for g in way["warnings"])
    assert text.index("Move to:") < text.index('class="gates-warn"')
    assert f"{len(way['warnings'])} warning" in text


def test_moments_and_gates_are_told_in_words(clients: dict[str, Any], lesion: Any) -> None:
    held = store.read_care(lesion).steps
    made = Step(
        lesion_id=lesion.lesion_id, number=len(held) + 1, at="2026-11-28T15:45:10.5+00:00",
        by="radiologist", state="selection", overridden=("plan verdict", "E2"), reason="asked for",
    )  # fmt: skip
    store.put("steps", made, who="radiologist", why="", study=lesion.study)
    text = page(clients["radiologist"], lesion).content.decode()
    assert "<dd>2026-11-28 15:45 UTC</dd>" in text
    assert "<dd>Verdict of the plan; Pain comes from this lesion</dd>" in text


def test_the_curve_lies_within_its_picture_and_leaves_gaps_out() -> None:
    scores = [PainScore(lesion_id="1", day=d, low=low) for d, low in ((0, 10), (7, 0), (30, 5))]
    lines = [
        OpioidLine(lesion_id="1", day=0, drug="morphine", route="oral", dose=60, unit="mg/day"),
        OpioidLine(lesion_id="1", day=30, drug="none", dose=0, unit="mg/day"),
    ]
    drawn = curve(scores, lines)
    assert drawn is not None
    points = [(p["x"], p["y"]) for p in drawn["points"]]
    assert points[0] == (LEFT, TOP)
    assert points[1][1] == BOTTOM
    assert points[2] == (RIGHT, (TOP + BOTTOM) / 2)
    assert len(drawn["doses"]) == 2
    assert "60 mg" in drawn["said"]
    assert curve([], []) is None


def test_a_specialist_finds_the_meeting(clients: dict[str, Any], lesion: Any) -> None:
    shown = page(clients["specialist"], lesion)
    assert [name for name, _ in shown.context["special"]] == ["bench", "results", "meeting"]
    assert not shown.context["may_move"]
    assert f'/row/pain/{first("pain", lesion).uid}/"' not in shown.content.decode()


def test_a_page_needs_a_bounded_number_of_questions(
    clients: dict[str, Any], lesion: Any, django_assert_max_num_queries: Any
) -> None:
    page(clients["radiologist"], lesion)
    with django_assert_max_num_queries(75):
        page(clients["radiologist"], lesion)


def test_a_kept_sheet_is_shown_to_who_may_see_the_case_and_that_is_logged(
    clients: dict[str, Any], lesion: Any
) -> None:
    name = kept.keep(b"<!doctype html><p>a plan</p>", "html")
    sha256 = name.partition(".")[0]
    address = f"/case/{lesion.uid}/sheet/{sha256}/"
    # It is kept, but no row of this lesion tells of it.
    assert clients["radiologist"].get(address).status_code == 404
    plan = PlanVersion(lesion_id=lesion.lesion_id, number=1, plan_sha256=sha256)
    store.put("plans", plan, who="anna", study=lesion.study)
    before = ChainEvent.objects.filter(kind="view").count()
    answer = clients["radiologist"].get(address)
    assert answer.status_code == 200
    assert b"a plan" in answer.content
    assert "sandbox" in answer["Content-Security-Policy"]
    assert ChainEvent.objects.filter(kind="view").count() == before + 1
    assert address in clients["radiologist"].get(f"/case/{lesion.uid}/").content.decode()
    assert clients["referrer"].get(address).status_code == 404
    assert clients["researcher"].get(address).status_code == 403


def test_what_came_first_stands_first_before_there_is_a_procedure(
    clients: dict[str, Any], registry: Any, lesion: Any
) -> None:
    other = replace(to_record(lesion), lesion_id="untreated")
    row = store.put("lesions", other, who="anna", study=lesion.study)
    for table, record in (
        ("referrals", Referral(lesion_id="untreated", date="2026-11-15")),
        ("images", Imaging(image_id="mr", lesion_id="untreated", date="2026-11-09", modality="MR")),
        ("meetings", Meeting(lesion_id="untreated", date="2026-11-20")),
    ):
        store.put(table, record, who="anna", study=lesion.study)
    text = page(clients["radiologist"], row).content.decode()
    places = [text.index(f">{day}<") for day in ("2026-11-09", "2026-11-15", "2026-11-20")]
    assert places == sorted(places)


def arranged(lesion: Any) -> Any:
    return to_record(MODELS["selection"].objects.get(lesion=lesion))


def untreated(registry: Any) -> Any:
    """A lesion that nobody has treated yet."""
    lesion = MODELS["lesions"].objects.order_by("pk").first()
    patient = to_record(lesion.patient)
    made = replace(to_record(lesion), lesion_id="new-1", patient_id=patient.patient_id)
    return cases.save("lesions", made, who="x", study=registry)


def test_consent_and_meeting_are_entered_once(registry: Any) -> None:
    lesion = untreated(registry)
    save = {"who": "x", "study": lesion.study}
    meeting = Meeting(lesion_id="new-1", date="2026-03-02", decision="cementoplasty")
    cases.save("meetings", meeting, **save)
    assert (arranged(lesion).mdt_date, arranged(lesion).mdt_members) == ("2026-03-02", None)
    for member, specialty, signed in (
        ("b", "radiology", VOTE.signed_at), ("a", "oncology", VOTE.signed_at),
        ("c", "spinal surgery", None),
    ):  # fmt: skip
        vote = replace(VOTE, lesion_id="new-1", date="2026-03-02", member_id=member,
                       specialty=specialty, signed_at=signed)  # fmt: skip
        cases.save("votes", vote, **save)
    assert set(arranged(lesion).mdt_members) == {"radiology", "oncology"}
    cases.save("meetings", replace(meeting, date="2999-01-01"), **save)  # planned, not held
    assert arranged(lesion).mdt_date == "2026-03-02"

    consent = Consent(lesion_id="new-1", number=1, date="2026-03-05")
    row = cases.save("consents", consent, **save)
    assert arranged(lesion).consent_date == "2026-03-05"
    told = store.history(MODELS["selection"].objects.get(lesion=lesion))
    assert {t.why for t in told if t.old != t.new} == {"from the meeting", "from the consent"}
    back = replace(consent, withdrawn="2026-03-06")
    cases.save("consents", back, who="x", why="taken back", row=row, expected=1)
    assert arranged(lesion).consent_date is None
    for row in MODELS["meetings"].objects.filter(lesion=lesion):
        cases.remove(row, who="x", why="entered at the wrong lesion")
    assert arranged(lesion).mdt_date is None


def test_what_followed_the_procedure_leaves_what_it_rested_on(lesion: Any) -> None:
    treated = min(to_record(p).date for p in MODELS["procedures"].objects.filter(lesion=lesion))
    save = {"who": "x", "study": lesion.study}
    before, after = f"{int(treated[:4]) - 1}{treated[4:]}", f"{int(treated[:4]) + 1}{treated[4:]}"
    for number, day in enumerate((before, after), start=1):
        cases.save("meetings", Meeting(lesion_id=lesion.lesion_id, date=day), **save)
        given = Consent(lesion_id=lesion.lesion_id, number=number, date=day)
        row = cases.save("consents", given, **save)
        cases.save("consents", replace(given, withdrawn=after), who="x", why="y", row=row)
    assert arranged(lesion).mdt_date == arranged(lesion).consent_date == before
