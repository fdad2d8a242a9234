"""The sheets: kept whole or not at all, faults at the field, nobody signs for another."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from sheets_sent import client_of, form_with, hong_kong

from trocar.errors import InputError
from trocar.followup import omed
from trocar.model.care import Consent
from trocar.model.course import OpioidLine, PainScore, Procedure
from trocar.model.patient import Baseline
from trocar.registry import store
from trocar.registry.convert import to_record
from trocar.registry.models import MODELS, ChainEvent, Person
from trocar.selection import decide, worst_first
from trocar.web import cases
from trocar.web.pages.visit import interval

pytestmark = pytest.mark.django_db


@pytest.fixture
def lesion() -> Any:
    return hong_kong()


@pytest.fixture
def radiologist() -> Client:
    return client_of("radiologist-1", "radiologist")


@pytest.fixture
def coordinator() -> Client:
    return client_of("coordinator-1", "coordinator")


def rows(table: str, lesion: Any, by: str = "lesion") -> list[Any]:
    return list(MODELS[table].objects.filter(**{by: lesion}).order_by("pk"))


def send(client: Client, at: str, mark: str, **typed: Any) -> Any:
    """Open a sheet, type over some answers (``__`` stands for a dash) and send it."""
    said = {k.replace("__", "-"): v if isinstance(v, list) else [v] for k, v in typed.items()}
    return client.post(at, form_with(client.get(at), mark) | said)


# --- The meeting --------------------------------------------------------------------------------


def held(client: Client, lesion: Any, **typed: Any) -> Any:
    at = reverse("meeting", args=[lesion.uid])
    return send(client, at, "m-date", **{"m__date": "2026-11-20", "why": "meeting", **typed})


def test_the_worksheet_keeps_factors_and_decision_together(
    lesion: Any, coordinator: Client
) -> None:
    before = to_record(rows("selection", lesion)[0])
    answer = held(coordinator, lesion, b__inr="1.2", m__decision="cementoplasty")
    assert answer.status_code == 302
    kept = to_record(rows("selection", lesion)[0])
    assert kept == replace(before, inr=1.2, mdt_date=kept.mdt_date)
    assert to_record(rows("meetings", lesion)[0]).decision == "cementoplasty"

    wrong = held(coordinator, lesion, b__inr="99", m__decision="surgery first")
    assert wrong.status_code == 422
    assert form_with(wrong, "m-date")["b-inr"] == ["99"]
    assert "inr" in wrong.context["parts"][0].form.errors
    assert to_record(rows("meetings", lesion)[0]).decision == "cementoplasty"  # nothing of it


def test_a_change_of_the_worksheet_says_why(lesion: Any, coordinator: Client) -> None:
    answer = held(coordinator, lesion, b__inr="1.3", why="")
    assert answer.status_code == 422
    assert not rows("meetings", lesion)
    assert "Say in a few words why" in answer.content.decode()


def test_the_second_editor_of_a_worksheet_is_told(lesion: Any, coordinator: Client) -> None:
    at = reverse("meeting", args=[lesion.uid])
    opened = form_with(coordinator.get(at), "m-date")
    held(client_of("radiologist-1", "radiologist"), lesion, b__inr="1.2")
    sent = opened | {"b-inr": ["1.4"], "m-date": ["2026-11-21"], "why": ["mine"]}
    answer = coordinator.post(at, sent)
    assert answer.status_code == 409
    assert form_with(answer, "m-date")["b-inr"] == ["1.4"]
    assert "radiologist-1" in answer.content.decode()
    assert rows("selection", lesion)[0].inr == 1.2
    assert len(rows("meetings", lesion)) == 1
    assert coordinator.post(at, form_with(answer, "m-date")).status_code == 302
    assert rows("selection", lesion)[0].inr == 1.4


def test_scores_of_what_is_typed_are_those_of_selection(lesion: Any, coordinator: Client) -> None:
    typed = {
        "b-ecog": "2", "b-visceral": "disseminated", "b-skeletal_lesions": "3",
        "b-previous_chemotherapy": "yes", "b-crp_mg_dl": "2", "b-platelets_e9_l": "200",
        "b-calcium_mg_dl": "9", "b-bilirubin_mg_dl": "0.5", "b-inr": "1.6", "b-infection": "yes",
        "b-harrington": "III", "b-albumin_g_dl": "eleven",
    }  # fmt: skip
    answer = coordinator.post(reverse("meeting-scores", args=[lesion.uid]), typed)
    baseline = Baseline(
        lesion_id="1", ecog=2, visceral="disseminated", skeletal_lesions=3,
        previous_chemotherapy=True, crp_mg_dl=2, platelets_e9_l=200, calcium_mg_dl=9,
        bilirubin_mg_dl=0.5, inr=1.6, infection=True, harrington="III",
    )  # fmt: skip
    wanted = decide(replace(store.read_record(lesion), baseline=baseline))
    assert answer.context["decision"] == wanted
    assert [v for _, v, _ in answer.context["verdicts"]] == list(worst_first(wanted.verdicts))
    assert [t for _, _, t in answer.context["verdicts"]] == [
        v.text for v in worst_first(wanted.verdicts)
    ]
    assert len(answer.context["left_out"]) == 1
    assert wanted.outcome == "not eligible"
    assert "Katagiri" in answer.content.decode()
    assert to_record(rows("selection", lesion)[0]).infection is not True  # nothing was kept


def test_only_ones_own_vote_is_signed(
    lesion: Any, coordinator: Client, radiologist: Client
) -> None:
    held(coordinator, lesion, m__decision="cementoplasty")
    meeting = rows("meetings", lesion)[0]
    member = reverse("meeting-member", args=[lesion.uid, meeting.uid])
    sign = reverse("meeting-sign", args=[lesion.uid, meeting.uid])
    client_of("radiologist-2", "radiologist")
    for name in ("radiologist-1", "radiologist-2"):
        sent = {"member_id": name, "specialty": "radiology"}
        assert coordinator.post(member, sent).status_code == 302
    nobody = {"member_id": "nobody-9", "specialty": "radiology"}
    assert coordinator.post(member, nobody).status_code == 422
    surgeon = {"member_id": "radiologist-2", "specialty": "spinal surgery"}
    assert coordinator.post(member, surgeon).status_code == 422

    assert coordinator.post(sign, {"vote": "for"}).status_code == 403
    other = {"vote": "for", "member_id": "radiologist-2", "version": "1"}
    assert radiologist.post(sign, other).status_code == 403
    assert [v.signed_at for v in rows("votes", lesion)] == [None, None]

    assert radiologist.post(sign, {"vote": "for", "version": "1"}).status_code == 302
    mine, theirs = rows("votes", lesion)
    assert (mine.vote, bool(mine.signed_at), theirs.vote, theirs.signed_at) == (
        "for", True, None, None,
    )  # fmt: skip
    signed = ChainEvent.objects.get(kind="sign")
    assert (signed.who, signed.subject) == ("radiologist-1", f"votes:{mine.uid}")
    # A signed vote is changed with a reason, over the state that was seen.
    assert radiologist.post(sign, {"vote": "against", "version": "2"}).status_code == 422
    stale = {"vote": "against", "version": "1", "why": "new CT"}
    assert radiologist.post(sign, stale).status_code == 409
    assert radiologist.post(sign, stale | {"version": "2"}).status_code == 302
    assert rows("votes", lesion)[0].vote == "against"


def test_a_vote_bears_the_specialty_of_its_account(lesion: Any, coordinator: Client) -> None:
    held(coordinator, lesion, m__decision="cementoplasty")
    sign = reverse("meeting-sign", args=[lesion.uid, rows("meetings", lesion)[0].uid])
    surgeon = client_of("surgeon-1", "specialist")
    person = Person.objects.get(user__username="surgeon-1")
    person.specialty = ""
    person.save()
    assert surgeon.post(sign, {"vote": "for"}).status_code == 422
    person.specialty = "spinal surgery"
    person.save()
    other = {"vote": "for", "specialty": "radiology"}
    assert surgeon.post(sign, other).status_code == 422
    assert not rows("votes", lesion)
    page = surgeon.get(reverse("meeting", args=[lesion.uid]))
    sent = form_with(page, "seen") | {"vote": ["for"]}
    assert surgeon.post(sign, sent).status_code == 302
    assert to_record(rows("votes", lesion)[0]).specialty == "spinal surgery"


def test_answers_of_the_selection_alone_make_no_meeting(lesion: Any, coordinator: Client) -> None:
    at = reverse("meeting", args=[lesion.uid])
    for cleared in ({}, {"m__date": ""}):
        answer = send(coordinator, at, "m-date", b__inr="1.2", why="new value", **cleared)
        assert answer.status_code == 302
        assert rows("selection", lesion)[0].inr == 1.2
        assert not rows("meetings", lesion)
    assert send(coordinator, at, "m-date", m__reason="to be discussed").status_code == 302
    assert rows("meetings", lesion)[0].date == cases.today()


def test_no_vote_before_there_is_a_decision(
    lesion: Any, coordinator: Client, radiologist: Client
) -> None:
    held(coordinator, lesion)
    row = rows("meetings", lesion)[0]
    sign = reverse("meeting-sign", args=[lesion.uid, row.uid])
    refused = radiologist.post(sign, {"vote": "for"})
    assert refused.status_code == 422
    assert "The meeting has no decision yet" in refused.content.decode()
    ahead = str(date.fromisoformat(cases.today()) + timedelta(days=3))
    assert held(coordinator, lesion, m__decision="cementoplasty", m__date=ahead).status_code == 302
    refused = radiologist.post(sign, {"vote": "for"})
    assert refused.status_code == 422
    assert f"The meeting is on {ahead}" in refused.content.decode()
    assert not rows("votes", lesion)
    assert held(coordinator, lesion).status_code == 302  # it was held earlier
    assert radiologist.post(sign, {"vote": "for"}).status_code == 302


def test_who_only_votes_reads_the_worksheet(lesion: Any, coordinator: Client) -> None:
    held(coordinator, lesion, m__decision="cementoplasty")
    at = reverse("meeting", args=[lesion.uid])
    read = client_of("surgeon-1", "specialist").get(at).content.decode()
    assert '<fieldset class="bare" disabled>' in read
    assert '<fieldset class="bare">' in coordinator.get(at).content.decode()
    assert "Sign my vote" in read[read.index("</fieldset>\n</form>") :]  # not locked with the rest


def test_an_administrator_enters_the_specialty(lesion: Any, radiologist: Client) -> None:
    boss = client_of("boss", "administrator")
    person = Person.objects.get(user__username="radiologist-1")
    at = reverse("account_specialty", args=[person.user_id])
    assert radiologist.post(at, {"specialty": "oncology"}).status_code == 403
    for wanted, kept in (("oncology", "oncology"), ("cooking", "oncology"), ("", "")):
        boss.post(at, {"specialty": wanted})
        person.refresh_from_db()
        assert person.specialty == kept
    told = [json.loads(e.detail) for e in ChainEvent.objects.filter(kind="account", who="boss")]
    assert [(t["what"], t["old"], t["new"]) for t in told] == [
        ("specialty", "radiology", "oncology"), ("specialty", "oncology", ""),
    ]  # fmt: skip
    own = Person.objects.get(user__username="boss")
    boss.post(reverse("account_specialty", args=[own.user_id]), {"specialty": "oncology"})
    own.refresh_from_db()
    assert own.specialty == "radiology"  # somebody else enters it
    assert "Specialty of radiologist-1" in boss.get(reverse("people")).content.decode()


def test_a_changed_decision_is_signed_anew(
    lesion: Any, coordinator: Client, radiologist: Client
) -> None:
    held(coordinator, lesion, m__decision="cementoplasty")
    sign = reverse("meeting-sign", args=[lesion.uid, rows("meetings", lesion)[0].uid])
    stale = form_with(radiologist.get(reverse("meeting", args=[lesion.uid])), "seen")
    assert radiologist.post(sign, stale | {"vote": ["for"]}).status_code == 302
    held(coordinator, lesion, m__note="room 2")
    assert rows("votes", lesion)[0].signed_at
    changed = held(coordinator, lesion, m__decision="ablation alone", m__date="2026-11-21")
    assert changed.status_code == 302
    vote = to_record(rows("votes", lesion)[0])
    assert (vote.date, vote.vote, vote.signed_at) == ("2026-11-21", None, None)
    # Whoever still has the earlier decision before him does not sign the new one unseen.
    late = client_of("radiologist-2", "radiologist")
    assert late.post(sign, stale | {"vote": ["for"]}).status_code == 422
    assert len(rows("votes", lesion)) == 1


# --- Consent ------------------------------------------------------------------------------------


def test_consent_stands_beside_the_plan(lesion: Any, coordinator: Client) -> None:
    from trocar.model.care import PlanVersion

    plan = PlanVersion(lesion_id="1", number=1, techniques=("microwave", "cement"))
    cases.plan(lesion, plan, who="radiologist-1", why="first", parent=None)
    at = reverse("consent", args=[lesion.uid])
    answer = send(
        coordinator, at, "c-date", c__date="2026-11-21", c__techniques=["cement"],
        c__risks=["cement leak", "infection"], c__capacity="yes", c__form_version="3.1",
    )  # fmt: skip
    assert answer.status_code == 302
    kept = to_record(rows("consents", lesion)[0])
    assert (kept.number, kept.techniques, kept.holds) == (1, ("cement",), True)
    compared = coordinator.get(at).context["compared"]
    assert compared == [("microwave", False, True, "stop"), ("cement", True, True, "ok")]

    change = reverse("consent-row", args=[lesion.uid, rows("consents", lesion)[0].uid])
    bare = send(coordinator, change, "c-date", c__withdrawn="2026-11-22", why="phoned")
    assert bare.status_code == 422
    assert "note" in bare.context["form"].errors
    told = {"c__withdrawn": "2026-11-22", "c__note": "prefers radiotherapy", "why": "phoned"}
    assert send(coordinator, change, "c-date", **told).status_code == 302
    assert not to_record(rows("consents", lesion)[0]).holds
    # The newest stands before an older one that would hold, as at the gates.
    older = Consent(lesion_id="1", number=2, date="2026-11-20", techniques=("cement",))
    row = cases.save("consents", older, who="t", study=lesion.study)
    assert coordinator.get(at).context["holding"].number == 2
    newer = replace(older, number=3, withdrawn="2026-11-23")
    cases.save("consents", newer, who="t", study=lesion.study)
    shown = coordinator.get(at)
    assert shown.context["holding"] is None
    assert "No consent holds." in shown.content.decode()
    assert not shown.context["compared"][0][1]
    assert to_record(row).holds


# --- The procedure ------------------------------------------------------------------------------


def procedure(client: Client, lesion: Any, **typed: Any) -> Any:
    at = reverse("procedure", args=[lesion.uid])
    return send(client, at, "p-date", **{"p__date": "2026-11-25", "p__operator_id": "op", **typed})


LINES = {
    "p__procedure_id": "new-1",
    "devices__0__kind": "cement", "devices__0__name": "Cement A", "devices__0__lot": "L7",
    "injections__0__start_s": "240", "injections__0__end_s": "400", "injections__0__volume_ml": "4",
    "injection_events__0__second": "300", "injection_events__0__event": "leak detected",
    "ablations__0__kind": "microwave", "ablations__0__power_w": "40",
}  # fmt: skip


def test_a_procedure_is_kept_with_all_its_lines(lesion: Any, coordinator: Client) -> None:
    answer = procedure(coordinator, lesion, **LINES)
    assert answer.status_code == 302
    made = MODELS["procedures"].objects.get(procedure_id="new-1")
    for table in ("devices", "injections", "injection_events", "ablations"):
        assert len(rows(table, made, "procedure")) == 1, table
    assert rows("injections", made, "procedure")[0].number == 1
    # A second line is added; what stands is left alone, in content and in version.
    more = {"injections__1__start_s": "500", "injections__count": "2", "why": "second mix"}
    assert send(coordinator, answer.url, "p-date", **more).status_code == 302
    assert [(r.number, r.version) for r in rows("injections", made, "procedure")] == [
        (1, 1), (2, 1),
    ]  # fmt: skip


def test_a_procedure_with_one_wrong_line_keeps_nothing(lesion: Any, coordinator: Client) -> None:
    wrong = LINES | {"injections__0__end_s": "100"}
    answer = procedure(coordinator, lesion, **wrong)
    assert answer.status_code == 422
    sent = form_with(answer, "p-date")
    assert (sent["injections-0-end_s"], sent["devices-0-lot"]) == (["100"], ["L7"])
    assert "end_s" in str(answer.context["sections"][1][2][0].form.errors)
    assert not MODELS["procedures"].objects.filter(procedure_id="new-1").exists()
    assert not MODELS["devices"].objects.filter(lot="L7").exists()


def test_what_was_watched_is_held_against_the_procedure(lesion: Any, coordinator: Client) -> None:
    wrong = procedure(coordinator, lesion, **LINES, p__leak_found="no")
    assert wrong.status_code == 422
    assert "leak_found" in wrong.context["form"].errors
    events = {
        "injection_events__0__second": "300", "injection_events__0__event": "leak detected",
        "injection_events__1__second": "240", "injection_events__1__event": "injecting",
        "injection_events__2__second": "400", "injection_events__2__event": "leak detected",
        "injection_events__count": "3",
    }  # fmt: skip
    answer = procedure(coordinator, lesion, **LINES | events, p__leak_found="yes")
    made = MODELS["procedures"].objects.get(procedure_id="new-1")
    assert to_record(made).leak_watch == ("injecting", "leak detected")
    # What is typed stands; a later line fills nothing over it.
    more = {"injection_events__3__second": "500", "injection_events__3__event": "finished",
            "injection_events__count": "4"}  # fmt: skip
    assert send(coordinator, answer.url, "p-date", **more).status_code == 302
    made.refresh_from_db()
    assert to_record(made).leak_watch == ("injecting", "leak detected")


@pytest.mark.parametrize(("said", "warned"), [("4", False), ("4.5", True)])
def test_injections_that_do_not_add_up_are_told(
    lesion: Any, coordinator: Client, said: str, warned: bool
) -> None:
    answer = procedure(coordinator, lesion, **LINES, p__cement_ml=said)
    assert answer.status_code == 302
    page = coordinator.get(answer.url).content.decode()
    assert ("The injections add up to 4 ml" in page) is warned


def test_a_blank_line_of_a_refused_sheet_lacks_nothing(lesion: Any, coordinator: Client) -> None:
    answer = procedure(coordinator, lesion, **LINES | {"p__needles": "99"}, devices__count="2")
    assert answer.status_code == 422
    filled, blank = next(s[2] for s in answer.context["sections"] if s[0] == "devices")
    assert filled.form.is_bound
    assert not blank.form.errors
    assert 'id="id_devices-1-kind_wrong"' not in answer.content.decode()


def test_what_happened_does_not_lie_ahead(lesion: Any, coordinator: Client) -> None:
    ahead = str(date.fromisoformat(cases.today()) + timedelta(days=1))
    answer = procedure(coordinator, lesion, **LINES, p__date=ahead)
    assert answer.status_code == 422
    assert "date" in answer.context["form"].errors
    at = reverse("consent", args=[lesion.uid])
    answer = send(coordinator, at, "c-date", c__date=ahead, c__techniques=["cement"])
    assert answer.status_code == 422
    assert "date" in answer.context["form"].errors
    at = reverse("add", args=[lesion.uid, "images"])
    answer = send(coordinator, at, "modality", image_id="i1", modality="CT", date=ahead)
    assert answer.status_code == 422
    assert "date" in answer.context["form"].errors
    today = send(coordinator, at, "modality", image_id="i1", modality="CT", date=cases.today())
    assert today.status_code == 302


def test_lines_are_added_and_only_removed_by_who_may(
    lesion: Any, coordinator: Client, radiologist: Client
) -> None:
    line = coordinator.get(reverse("procedure-line", args=[lesion.uid, "devices", 3]))
    assert b"devices-3-lot" in line.content
    assert b'name="devices-count" value="4"' in line.content
    assert (
        coordinator.get(reverse("procedure-line", args=[lesion.uid, "pain", 1])).status_code == 404
    )
    plain = procedure(coordinator, lesion, **LINES, add="devices")
    assert plain.status_code == 200
    assert form_with(plain, "p-date")["devices-count"] == ["2"]
    at = procedure(coordinator, lesion, **LINES).url
    gone = {"devices__0__remove": "on", "why": "not used"}
    assert send(coordinator, at, "p-date", **gone).status_code == 403
    assert MODELS["devices"].objects.filter(lot="L7").exists()
    assert send(radiologist, at, "p-date", **gone).status_code == 302
    assert not MODELS["devices"].objects.filter(lot="L7").exists()


# --- Follow-up ----------------------------------------------------------------------------------


@pytest.fixture
def dated(lesion: Any) -> Any:
    """A lesion whose procedure has a full date, of the same cohort."""
    row = rows("procedures", lesion)[0]
    made: Procedure = replace(to_record(row), date="2026-09-01")
    cases.save("procedures", made, who="t", why="date", row=row, study=lesion.study)
    return lesion


def asked(client: Client, lesion: Any, **typed: Any) -> Any:
    at = reverse("visit", args=[lesion.uid])
    return send(client, at, "pain-seen", **{"date": "2026-11-20", "instrument": "NRS", **typed})


OXYCODONE = {
    "o__0__drug": "oxycodone", "o__0__route": "oral", "o__0__dose": "40", "o__0__unit": "mg/day",
}  # fmt: skip


def test_a_call_keeps_pain_opioids_and_visit(dated: Any, coordinator: Client) -> None:
    answer = asked(coordinator, dated, pain="3-4", v__walking="3", v__satisfied="yes", **OXYCODONE)
    assert answer.status_code == 302
    course = store.read_record(dated).course
    score = course.pain.on(80)
    assert score is not None
    assert (score.low, score.high, score.instrument) == (3, 4, "NRS")
    assert [(line.drug, line.dose) for line in course.opioids.on(80)] == [("oxycodone", 40)]
    assert [(v.day, v.walking, v.satisfied) for v in course.visits] == [(80, 3, True)]
    shown = coordinator.get(reverse("visit", args=[dated.uid])).context
    assert shown["last"]["pain"][0] == (80, "3-4")
    assert len(shown["last"]["pain"]) == 2


def test_a_call_does_not_lie_ahead(dated: Any, coordinator: Client) -> None:
    today = date.fromisoformat(cases.today())
    day = (today - date(2026, 9, 1)).days
    for typed, name in (
        ({"date": str(today + timedelta(days=1))}, "date"),
        ({"date": "", "day": str(day + 1)}, "day"),
    ):
        answer = asked(coordinator, dated, pain="3", **typed)
        assert answer.status_code == 422
        assert name in answer.context["call"].form.errors
    assert asked(coordinator, dated, pain="3", date="", day=str(day)).status_code == 302
    at = reverse("complication", args=[dated.uid])
    answer = send(coordinator, at, "h-day", h__day=str(day + 1), h__event="fever")
    assert answer.status_code == 422
    assert "day" in answer.context["form"].errors


def test_a_call_is_kept_whole_or_not_at_all(
    dated: Any, coordinator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = store.put

    def breaks(table: str, *args: Any, **said: Any) -> Any:
        if table == "opioids":
            raise InputError("opioids: the disk is full")
        return put(table, *args, **said)

    monkeypatch.setattr(store, "put", breaks)
    before = [MODELS[t].objects.count() for t in ("pain", "visits", "opioids")]
    links = ChainEvent.objects.count()
    answer = asked(coordinator, dated, pain="3", v__walking="3", **OXYCODONE)
    assert answer.status_code == 422
    assert form_with(answer, "pain-seen")["pain"] == ["3"]
    assert [MODELS[t].objects.count() for t in ("pain", "visits", "opioids")] == before
    assert ChainEvent.objects.count() == links


def test_faults_of_a_call_stand_at_their_fields(dated: Any, coordinator: Client) -> None:
    answer = asked(coordinator, dated, pain="12", v__walking="9", o__0__drug="morphine")
    call = answer.context["call"]
    assert answer.status_code == 422
    assert "pain" in call.form.errors
    assert "walking" in call.visit.form.errors
    assert {"dose", "unit"} <= set(call.opioids[0].form.errors)
    assert form_with(answer, "pain-seen")["v-walking"] == ["9"]
    silent = asked(coordinator, dated, pain="")
    assert "missing_reason" in silent.context["call"].visit.form.errors
    twice = asked(coordinator, dated, pain="3", day="12")
    assert "day" in twice.context["call"].form.errors
    assert not rows("visits", dated)
    assert asked(coordinator, dated, pain="", v__missing_reason="in hospital").status_code == 302


def test_a_call_without_a_dated_procedure_asks_for_the_day(
    lesion: Any, coordinator: Client
) -> None:
    answer = asked(coordinator, lesion, pain="3")
    assert answer.status_code == 422
    assert "day" in answer.context["call"].form.errors
    assert asked(coordinator, lesion, pain="3", date="", day="300").status_code == 302
    assert rows("visits", lesion)[0].day == 300


def test_a_visit_is_changed_and_the_second_editor_is_told(dated: Any, coordinator: Client) -> None:
    asked(coordinator, dated, pain="3", v__walking="3", **OXYCODONE)
    at = reverse("visit-row", args=[dated.uid, rows("visits", dated)[0].uid])
    opened = form_with(coordinator.get(at), "pain-seen")
    other = client_of("radiologist-1", "radiologist")
    changed = {"pain": "2", "o__0__dose": "20", "why": "misheard"}
    assert send(other, at, "pain-seen", **changed).status_code == 302
    course = store.read_record(dated).course
    assert str(course.pain.on(80)) == "2"
    assert course.opioids.on(80)[0].dose == 20
    assert len(course.visits) == 1
    answer = coordinator.post(at, opened | {"pain": ["5"], "why": ["mine"]})
    assert answer.status_code == 409
    assert str(store.read_record(dated).course.pain.on(80)) == "2"
    assert form_with(answer, "pain-seen")["pain"] == ["5"]


def scored(lesion: Any, day: float = 80.0) -> dict[Any, Any]:
    """The scores of a day by what was asked for."""
    return {r.recall: str(to_record(r)) for r in rows("pain", lesion) if r.day == day}


def analysed(lesion: Any, recall: str | None) -> None:
    """The study analyses that pain."""
    study = lesion.study
    info = replace(to_record(study), pain_recall=recall, pain_activity=None)
    store.put("study", info, who="t", why="as asked", row=study)


def enter(table: str, record: Any, lesion: Any) -> Any:
    return cases.save(table, record, who="t", why="entered", study=lesion.study)


def least(lesion: Any, recall: str = "least") -> Any:
    score = PainScore(lesion_id="1", day=80, low=1, recall=recall)  # type: ignore[arg-type]
    return enter("pain", score, lesion)


def visited(lesion: Any, client: Client, **typed: Any) -> str:
    assert asked(client, lesion, **{"pain": "3", "v__walking": "3", **typed}).status_code == 302
    return reverse("visit-row", args=[lesion.uid, rows("visits", lesion)[0].uid])


def test_changing_a_visit_leaves_scores_nobody_was_shown(dated: Any, radiologist: Client) -> None:
    analysed(dated, "worst")
    at = visited(dated, radiologist, second="2")
    least(dated)
    told = {"v__walking": "2", "why": "walks worse"}
    assert send(radiologist, at, "pain-seen", **told).status_code == 302
    assert scored(dated) == {"worst": "3", "average": "2", "least": "1"}
    assert [r.version for r in rows("pain", dated) if r.day == 80] == [1, 1, 1]
    emptied = {"second": "", "why": "was not asked"}
    assert send(radiologist, at, "pain-seen", **emptied).status_code == 302
    assert scored(dated) == {"worst": "3", "least": "1"}


def test_a_score_shows_in_the_field_of_what_was_asked_for(dated: Any, radiologist: Client) -> None:
    analysed(dated, "worst")
    at = visited(dated, radiologist, pain="", second="2", v__missing_reason="asked one alone")
    page = form_with(radiologist.get(at), "pain-seen")
    assert (page["pain"], page["second"]) == ([""], ["2"])
    told = {"v__walking": "2", "why": "walks worse"}
    assert send(radiologist, at, "pain-seen", **told).status_code == 302
    assert scored(dated) == {"average": "2"}


def test_which_pain_a_score_tells_of_is_corrected_in_place(dated: Any, coordinator: Client) -> None:
    analysed(dated, None)
    at = visited(dated, coordinator, recall="average")
    told = {"recall": "worst", "why": "misheard"}
    assert send(coordinator, at, "pain-seen", **told).status_code == 302
    assert scored(dated) == {"worst": "3"}


def test_only_who_may_correct_empties_a_score_or_removes_an_opioid(
    dated: Any, coordinator: Client, radiologist: Client
) -> None:
    analysed(dated, "worst")
    at = visited(dated, coordinator, second="2", **OXYCODONE)
    assert "o-0-remove" not in coordinator.get(at).content.decode()
    answer = send(coordinator, at, "pain-seen", second="", why="was not asked")
    assert answer.status_code == 422
    assert "may correct and remove rows" in str(answer.context["call"].form.errors["second"])
    gone = {"o__0__remove": "on", "why": "stopped"}
    assert send(coordinator, at, "pain-seen", **gone).status_code == 403
    assert scored(dated) == {"worst": "3", "average": "2"}
    assert len(rows("opioids", dated)) >= 1
    before = len(rows("opioids", dated))
    assert "o-0-remove" in radiologist.get(at).content.decode()
    assert send(radiologist, at, "pain-seen", second="", **gone).status_code == 302
    assert scored(dated) == {"worst": "3"}
    assert len(rows("opioids", dated)) == before - 1


def take_out(row: Any) -> None:
    store.remove(row, who="t", why="entered twice", expected=row.version)


def test_a_row_removed_meanwhile_does_not_come_back_unasked(
    dated: Any, coordinator: Client
) -> None:
    at = visited(dated, coordinator, **OXYCODONE)
    (opioid,) = (r for r in rows("opioids", dated) if r.day == 80)
    opened = form_with(coordinator.get(at), "pain-seen")
    take_out(opioid)
    sent = opened | {"o-0-dose": ["30"], "why": ["mine"]}
    answer = coordinator.post(at, sent)
    assert answer.status_code == 409
    assert "removed this after you opened" in answer.content.decode()
    assert not [r for r in rows("opioids", dated) if r.day == 80]
    again = form_with(answer, "pain-seen")
    assert again["o-0-dose"] == ["30"]
    assert coordinator.post(at, again).status_code == 302  # now it was decided
    assert [r.dose for r in rows("opioids", dated) if r.day == 80] == [30]

    opened = form_with(coordinator.get(at), "pain-seen")
    (score,) = (r for r in rows("pain", dated) if r.day == 80)
    take_out(score)
    answer = coordinator.post(at, opened | {"v-walking": ["2"], "why": ["mine"]})
    assert answer.status_code == 409
    assert not scored(dated)
    assert "removed this after you opened" in answer.content.decode()
    assert coordinator.post(at, form_with(answer, "pain-seen")).status_code == 302
    assert list(scored(dated).values()) == ["3"]


def test_a_line_of_a_procedure_removed_meanwhile_is_told(
    lesion: Any, coordinator: Client, radiologist: Client
) -> None:
    at = procedure(coordinator, lesion, **LINES).url
    opened = form_with(radiologist.get(at), "p-date")
    take_out(MODELS["devices"].objects.get(lot="L7"))
    answer = radiologist.post(at, opened | {"why": ["mine"], "p-operator_id": ["other"]})
    assert answer.status_code == 409
    assert "removed this after you opened" in answer.content.decode()
    assert form_with(answer, "p-date")["devices-0-lot"] == ["L7"]
    assert not MODELS["devices"].objects.filter(lot="L7").exists()
    added = radiologist.post(at, opened | {"add": ["devices"]})  # nor by asking for a line
    assert added.status_code == 409
    # Both want it out: nothing is left to decide.
    out = opened | {"why": ["mine"], "devices-0-remove": ["on"]}
    assert radiologist.post(at, out).status_code == 302
    assert not MODELS["devices"].objects.filter(lot="L7").exists()


def events_typed(first: int, last: int) -> dict[str, list[str]]:
    typed = {"injection_events-count": [str(last)]}
    for i in range(first, last):
        typed |= {f"injection_events-{i}-second": [str(10 * i)],
                  f"injection_events-{i}-event": ["leak detected"]}  # fmt: skip
    return typed


def test_no_line_is_left_out_in_silence(lesion: Any, coordinator: Client) -> None:
    at = procedure(coordinator, lesion, **LINES).url
    made = MODELS["procedures"].objects.get(procedure_id="new-1")
    opened = form_with(coordinator.get(at), "p-date") | {"why": ["more"]}
    answer = coordinator.post(at, opened | events_typed(1, 50))
    assert answer.status_code == 422
    assert "more than 40 new lines" in answer.content.decode()
    assert form_with(answer, "p-date")["injection_events-49-second"] == ["490"]
    assert len(rows("injection_events", made, "procedure")) == 1
    for first, last in ((1, 41), (41, 61)):  # beyond the limit of new ones, which kept ones pass
        opened = form_with(coordinator.get(at), "p-date") | {"why": ["more"]}
        assert coordinator.post(at, opened | events_typed(first, last)).status_code == 302
        assert len(rows("injection_events", made, "procedure")) == last
    line = reverse("procedure-line", args=[lesion.uid, "injection_events", 61])
    assert coordinator.get(line).status_code == 200
    assert coordinator.post(at, opened | {"devices-count": ["5000"]}).status_code == 400


def test_a_visit_says_when_too_many_opioids_are_typed(dated: Any, coordinator: Client) -> None:
    lines = {"o__count": "45"}
    for i in range(45):
        lines |= {k.replace("0", str(i)): v for k, v in OXYCODONE.items()}
    answer = asked(coordinator, dated, pain="3", **lines)
    assert answer.status_code == 422
    assert "more than 40 new lines" in answer.content.decode()
    assert not [r for r in rows("opioids", dated) if r.day == 80]


def test_opioids_typed_are_reckoned_as_followup_does(dated: Any, coordinator: Client) -> None:
    at = reverse("visit-reckon", args=[dated.uid])
    sent = {k.replace("__", "-"): v for k, v in OXYCODONE.items()} | {"date": "2026-11-20"}
    answer = coordinator.post(at, sent)
    line = OpioidLine(lesion_id="1", day=0, drug="oxycodone", route="oral", dose=40, unit="mg/day")
    assert answer.context["omed"].mg_per_day == omed([line]).mg_per_day == 60
    assert answer.context["day"] == 80
    assert b"2026-11-20" in answer.content
    unknown = coordinator.post(at, sent | {"o-0-drug": "methadone"})
    assert unknown.context["omed"].mg_per_day is None
    half = coordinator.post(at, {"o-0-drug": "morphine", "date": "2026-11-20"})
    assert half.context["opioid_faults"]
    assert not rows("opioids", dated)


def test_an_interval_is_read() -> None:
    assert interval("9–10") == (9, 10)
    assert interval("2,5") == (2.5, None)
    for wrong in ("11", "5-3", "3-4-5", "x", "nan", "-1"):
        with pytest.raises(InputError):
            interval(wrong)


# --- Complications ------------------------------------------------------------------------------


def test_a_complication_with_a_device_asks_for_the_yellow_card(
    lesion: Any, coordinator: Client
) -> None:
    at = reverse("complication", args=[lesion.uid])
    told = {"h__day": "2", "h__event": "fever", "h__cirse": "3", "h__device_related": "yes"}
    silent = send(coordinator, at, "h-day", **told)
    assert silent.status_code == 422
    assert "yellow_card" in silent.context["form"].errors
    assert form_with(silent, "h-day")["h-cirse"] == ["3"]
    before = len(rows("complications", lesion))
    assert send(coordinator, at, "h-day", **told, h__yellow_card="no").status_code == 302
    assert len(rows("complications", lesion)) == before + 1
    kept = to_record(rows("complications", lesion)[-1])
    assert (kept.cirse, kept.yellow_card) == (3, False)
    assert "yellowcard.mhra.gov.uk" in coordinator.get(at).content.decode()


def test_a_fatal_complication_bears_the_grade_of_death(lesion: Any, coordinator: Client) -> None:
    at = reverse("complication", args=[lesion.uid])
    told = {"h__day": "2", "h__event": "death from cement embolus"}
    wrong = send(coordinator, at, "h-day", **told, h__cirse="5", h__sir="4", h__ctcae="3")
    assert wrong.status_code == 422
    assert {"cirse", "sir", "ctcae"} <= set(wrong.context["form"].errors)
    right = send(coordinator, at, "h-day", **told, h__cirse="6", h__ctcae="5")
    assert right.status_code == 302
    to_death = reverse("add", args=[lesion.uid, "deaths"])
    assert f'<a href="{to_death}">' in coordinator.get(right.url).content.decode()


# --- Who may ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["meeting", "consent", "procedure", "visit", "complication"])
@pytest.mark.parametrize("role", ["referrer", "audit lead", "researcher", "administrator"])
def test_who_only_looks_opens_no_sheet(lesion: Any, name: str, role: str) -> None:
    client = client_of("looks", role)
    at = reverse(name, args=[lesion.uid])
    assert client.get(at).status_code == 403
    assert client.post(at, {}).status_code == 403
