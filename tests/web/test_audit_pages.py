"""The audit pages: the numbers of the audit itself, to the last digit, for whom may see them."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from trocar.audit.choice import only
from trocar.audit.summary import audit_study
from trocar.io.exports import plain
from trocar.io.records import example_study
from trocar.phantom.cohort import synthetic_study
from trocar.registry import chain, store
from trocar.registry.models import ChainEvent, Job, Study
from trocar.web import jobs
from trocar.web.serve import make_account

pytestmark = pytest.mark.django_db
PASSWORD = "four-quiet-lanterns"


def browser(role: str) -> Client:
    name = role.replace(" ", "-")
    user = make_account(name, PASSWORD, role=role, who="test")
    client = Client(HTTP_HOST="localhost")
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


@pytest.fixture(autouse=True)
def _here(settings: Any, tmp_path: Any) -> None:
    settings.JOBS_HERE = True
    settings.KEPT_FILES = tmp_path / "files"


@pytest.fixture
def lead() -> Client:
    return browser("audit lead")


def take_in(study: Any) -> Study:
    store.take_in(study, who="test", why="test")
    return Study.objects.get(study_id=study.info.study_id)


def ask(client: Client, row: Study, capture: Any, **chosen: Any) -> Job:
    with capture(execute=True):
        answer = client.post(reverse("audit-study", args=[row.uid]), chosen)
    assert answer.status_code == 302, answer.content.decode()
    return Job.objects.latest("pk")


def numbers(client: Client, job: Job, form: str) -> bytes:
    answer = client.post(reverse("audit-numbers", args=[job.uid, form]))
    assert answer.status_code == 200
    return bytes(answer.content)


def test_the_numbers_are_those_of_the_audit(
    lead: Client, django_capture_on_commit_callbacks: Any
) -> None:
    row = take_in(example_study())
    job = ask(lead, row, django_capture_on_commit_callbacks)
    assert job.state == "done", job.error
    told = json.loads(numbers(lead, job, "json"))
    expected = json.loads(json.dumps(plain(audit_study(store.read_study(row)))))
    assert told == expected
    assert told["changes"][0]["p_value"] == 0.0390625
    lines = list(csv.reader(io.StringIO(numbers(lead, job, "csv").decode("utf-8-sig"))))
    counts = [r for t in expected["counts"].values() for r in t["rows"]]
    assert [(x[4], x[5]) for x in lines[1:]] == [(str(r["x"]), str(r["n"])) for r in counts]
    assert [float(x[7]) for x in lines[1:] if x[7]] == [
        r["low"] for r in counts if r["low"] is not None
    ]
    page = lead.get(reverse("audit-result", args=[job.uid])).content.decode()
    assert "<iframe" in page
    assert "Governance pack" in page


def test_filters_equal_an_audit_of_the_filtered_study(
    lead: Client, django_capture_on_commit_callbacks: Any
) -> None:
    row = take_in(synthetic_study(60, 2).study)
    study = store.read_study(row)
    dates = sorted(p.date for p in study.procedures if p.date)
    first, operator = dates[len(dates) // 4], study.procedures[0].operator_id
    region = study.record(study.procedures[0].lesion_id).lesion.region
    assert operator
    job = ask(lead, row, django_capture_on_commit_callbacks, first=first, operator=operator,
              regions=[region])  # fmt: skip
    part = only(study, first=first, operator=operator, regions=[region])
    if not len(part):
        assert job.state == "failed"
        job = ask(lead, row, django_capture_on_commit_callbacks, operator=operator)
        part = only(study, operator=operator)
    assert 0 < len(part) < len(study)
    assert json.loads(numbers(lead, job, "json")) == json.loads(
        json.dumps(plain(audit_study(part)))
    )


def test_the_sheet_runs_nothing_and_is_framed_by_this_site_alone(
    lead: Client, django_capture_on_commit_callbacks: Any
) -> None:
    job = ask(lead, take_in(example_study()), django_capture_on_commit_callbacks)
    answer = lead.get(reverse("audit-sheet", args=[job.uid]))
    policy = answer["Content-Security-Policy"]
    assert "sandbox" in policy
    assert "default-src 'none'" in policy
    assert "script" not in policy
    assert "frame-ancestors 'self'" in policy
    assert b"Audit" in answer.content
    assert b"<script" not in answer.content


def test_small_counts_are_hidden_when_asked(
    lead: Client, django_capture_on_commit_callbacks: Any
) -> None:
    job = ask(lead, take_in(example_study()), django_capture_on_commit_callbacks, least="5")
    told = json.loads(numbers(lead, job, "json"))
    counts = [r["x"] for t in told["counts"].values() for r in t["rows"] if r["x"] is not None]
    assert counts
    assert not [x for x in counts if 0 < x < 5]
    assert told["tables"] == []
    assert told["monitors"] == []


def test_numbers_taken_away_and_looks_are_logged(
    lead: Client, django_capture_on_commit_callbacks: Any
) -> None:
    job = ask(lead, take_in(example_study()), django_capture_on_commit_callbacks)
    for form in ("json", "csv", "xlsx"):
        numbers(lead, job, form)
    lead.get(reverse("audit-result", args=[job.uid]))
    told = [json.loads(e.detail) for e in ChainEvent.objects.filter(kind="export")]
    assert [t["form"] for t in told] == ["json", "csv", "xlsx"]
    assert all(len(t["sha256"]) == 64 for t in told)
    assert ChainEvent.objects.filter(kind="view", subject=f"job:{job.uid}").count() == 1
    assert chain.verify().sound


def test_progress_and_cancel(lead: Client) -> None:
    row = take_in(example_study())
    lead.post(reverse("audit-study", args=[row.uid]), {})  # not kept yet: it waits
    job = Job.objects.get()
    at = reverse("audit-result", args=[job.uid])
    page = lead.get(at)
    assert b"hx-get" in page.content
    assert b"Cancel" in page.content
    part = lead.get(at, headers={"HX-Request": "true"})
    assert b"<html" not in part.content
    assert "HX-Refresh" not in part
    lead.post(reverse("audit-cancel", args=[job.uid]))
    job.refresh_from_db()
    assert job.state == "cancelled"
    jobs.perform(str(job.uid))
    job.refresh_from_db()
    assert job.state == "cancelled"
    assert lead.get(at, headers={"HX-Request": "true"})["HX-Refresh"] == "true"
    assert b"Make it again" in lead.get(at).content
    assert lead.post(reverse("audit-numbers", args=[job.uid, "json"])).status_code == 404


def test_a_choice_without_lesions_is_told(
    lead: Client, django_capture_on_commit_callbacks: Any
) -> None:
    job = ask(lead, take_in(example_study()), django_capture_on_commit_callbacks,
              first="2090-01-01")  # fmt: skip
    assert job.state == "failed"
    assert b"no lesion fits" in lead.get(reverse("audit-result", args=[job.uid])).content


def test_wrong_days_stay_on_the_form(lead: Client) -> None:
    row = take_in(example_study())
    at = reverse("audit-study", args=[row.uid])
    answer = lead.post(at, {"first": "2024-05-01", "last": "2024-01-01"})
    assert answer.status_code == 200
    assert b"before the first" in answer.content
    assert not Job.objects.exists()


@pytest.mark.parametrize("role", ["referrer", "coordinator", "researcher", "administrator"])
def test_others_are_refused(role: str) -> None:
    assert browser(role).get(reverse("audit")).status_code == 403
