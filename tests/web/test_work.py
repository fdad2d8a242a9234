"""The worklist: who sees what, in which order, in how many queries; and entering a referral."""

from __future__ import annotations

from typing import Any

import pytest

from trocar.model.care import Referral
from trocar.registry.models import MODELS, Case
from trocar.web import cases
from trocar.web.pages.work import PAGE, narrowed, page_of


def names(response: Any) -> list[str]:
    return [c.lesion.lesion_id for c in response.context["lines"]]


def test_the_series_stands_on_the_worklist(clients: dict[str, Any], registry: Any) -> None:
    response = clients["radiologist"].post("/work/", {"state": "all"})
    assert sorted(names(response)) == sorted(
        MODELS["lesions"].objects.values_list("lesion_id", flat=True)
    )


def test_what_is_due_first_stands_on_top(registry: Any) -> None:
    every = list(Case.objects.order_by("pk"))
    for case, day in zip(every[:3], ("2026-12-03", "2026-01-02", "2026-05-05"), strict=True):
        Case.objects.filter(pk=case.pk).update(next_due=day)
    for case in every[3:]:
        Case.objects.filter(pk=case.pk).update(next_due="")
    lines, more = page_of(Case.objects.all(), 1)
    assert [c.pk for c in lines] == [every[i].pk for i in (1, 2, 0, *range(3, len(every)))]
    assert not more


@pytest.mark.parametrize("dated", [0, 3, 50, 70, 120])
def test_pages_show_everything_once(registry: Any, dated: int) -> None:
    lesion = MODELS["lesions"].objects.first()
    Case.objects.all().delete()
    made = MODELS["lesions"].objects.bulk_create(
        [
            MODELS["lesions"](lesion_id=f"X{i}", patient=lesion.patient, study=registry, site="L1")
            for i in range(120)
        ]
    )
    days = [f"2026-{1 + i % 12:02}-01" for i in range(120)]
    Case.objects.bulk_create(
        [
            Case(lesion=x, since="", changed_at="", next_due=day if i < dated else "")
            for i, (x, day) in enumerate(zip(made, days, strict=True))
        ]
    )  # fmt: skip
    seen: list[int] = []
    for number in (1, 2, 3):
        lines, more = page_of(Case.objects.all(), number)
        assert len(lines) == (PAGE if number < 3 else 20)
        assert more == (number < 3)
        seen += [c.pk for c in lines]
    assert len(set(seen)) == 120
    due = [Case.objects.get(pk=pk).next_due or "z" for pk in seen]
    assert due == sorted(due)
    assert page_of(Case.objects.all(), 4) == ([], False)


def test_filters_narrow(registry: Any) -> None:
    first = Case.objects.order_by("pk").first()
    changed = {"state": "planning", "next_due": "2020-01-01", "unsigned_plan": True,
               "open_gates": 2, "missing_scores": 1, "operator": "op-1"}  # fmt: skip
    Case.objects.update(unsigned_plan=False, open_gates=0, missing_scores=0, next_due="")
    Case.objects.exclude(pk=first.pk).update(state="closed")
    Case.objects.filter(pk=first.pk).update(**changed)
    for wanted in (
        {}, {"state": "planning"}, {"state": "all", "due": "overdue"},
        {"state": "all", "due": "today"}, {"state": "all", "due": "week"},
        {"state": "all", "unsigned": True}, {"state": "all", "gates": True},
        {"state": "all", "scores": True}, {"state": "all", "operator": "op-1"},
    ):  # fmt: skip
        assert [c.pk for c in narrowed(Case.objects.all(), {"state": "", **wanted})] == [first.pk]
    lesion = first.lesion
    found = narrowed(Case.objects.all(), {"state": "all", "search": lesion.patient.patient_id})
    assert first.pk in [c.pk for c in found]
    assert not narrowed(Case.objects.all(), {"state": "all", "search": "nobody"}).exists()
    spine = narrowed(Case.objects.all(), {"state": "all", "site": "lumbar"})
    assert {c.lesion.site for c in spine} == {"L1", "lumbar spine"}


def test_a_page_asks_the_same_few_questions_for_any_number_of_lesions(
    clients: dict[str, Any], registry: Any, django_assert_max_num_queries: Any
) -> None:
    with django_assert_max_num_queries(12):
        assert clients["radiologist"].get("/work/").status_code == 200


def test_htmx_gets_the_lines_alone(clients: dict[str, Any], registry: Any) -> None:
    response = clients["radiologist"].post(
        "/work/", {"state": "all"}, headers={"HX-Request": "true", "HX-Target": "lines"}
    )
    assert b"<html" not in response.content
    assert b"<table" in response.content


def referred(lesion: Any, who: str) -> None:
    said = Referral(lesion_id=lesion.lesion_id, date="2026-11-01", referrer_id=who)
    cases.save("referrals", said, who=who, study=lesion.study)


def test_a_referrer_sees_only_the_own(clients: dict[str, Any], lesion: Any) -> None:
    assert names(clients["referrer"].post("/work/", {"state": "all"})) == []
    referred(lesion, "referrer")
    assert names(clients["referrer"].post("/work/", {"state": "all"})) == [lesion.lesion_id]


ANSWERS = {
    "whose-patient_id": "", "patient-sex": "female", "patient-age_years": "61",
    "lesion-site": "L3", "referral-date": "2026-11-25", "referral-question": "pain <L3>",
}  # fmt: skip


def test_a_referral_makes_patient_lesion_and_line(clients: dict[str, Any], registry: Any) -> None:
    response = clients["referrer"].post("/refer/", {**ANSWERS, "whose-study": str(registry.uid)})
    assert response.status_code == 302
    row = MODELS["referrals"].objects.get()
    assert row.referrer_id == "referrer"
    assert row.lesion.site == "L3"
    assert row.lesion.patient.sex == "female"
    assert row.lesion.case.state == "referred"
    assert response["Location"] == f"/case/{row.lesion.uid}/"
    assert row.lesion.patient.patient_id not in response["Location"]
    page = clients["referrer"].get(response["Location"]).content.decode()
    assert "pain &lt;L3&gt;" in page


def test_a_wrong_referral_keeps_nothing(clients: dict[str, Any], registry: Any) -> None:
    before = MODELS["patients"].objects.count()
    said = {**ANSWERS, "whose-study": str(registry.uid), "lesion-site": "knee"}
    response = clients["coordinator"].post("/refer/", said)
    assert response.status_code == 422
    assert "pain &lt;L3&gt;" in response.content.decode()  # what was typed stays
    assert MODELS["patients"].objects.count() == before


def test_a_referrer_cannot_attach_to_anothers_patient(clients: dict[str, Any], lesion: Any) -> None:
    said = {**ANSWERS, "whose-study": str(lesion.study.uid),
            "whose-patient_id": lesion.patient.patient_id}  # fmt: skip
    assert clients["referrer"].post("/refer/", said).status_code == 422
    assert clients["coordinator"].post("/refer/", said).status_code == 302


def test_back_finds_the_filters_in_the_address(clients: dict[str, Any], registry: Any) -> None:
    client = clients["radiologist"]
    asked = {"HX-Request": "true", "HX-Target": "lines", "HX-Current-URL": "http://localhost/work/"}
    sent = {"state": "all", "site": "lumbar", "search": "P-1", "page": "1"}
    at = client.post("/work/", sent, headers=asked)["HX-Push-Url"]
    assert at == "/work/?state=all&site=lumbar"  # and no pseudonym
    shown = client.get(at)
    assert {c.lesion.site for c in shown.context["lines"]} == {"L1", "lumbar spine"}
    assert b'<option value="lumbar" selected>' in shown.content
    again = client.post("/work/", sent, headers=asked | {"HX-Current-URL": f"http://localhost{at}"})
    assert not again.has_header("HX-Push-Url")
    everything = client.get("/work/?state=all&search=nobody")
    assert names(everything) == names(client.get("/work/?state=all"))
