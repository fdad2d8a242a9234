"""Studies in and out: a look writes nothing, hostile files are refused early, no name leaks."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from openpyxl import load_workbook

from trocar.audit.sharing import age_group, shared_tables
from trocar.errors import InputError
from trocar.io.records import example_study, read_study, write_study
from trocar.model.study import TABLES, Study
from trocar.phantom.cohort import synthetic_study
from trocar.registry import chain, store
from trocar.registry.models import MODELS_AND_HEADS, Case, ChainEvent, Job, SiteKey
from trocar.registry.models import Study as StudyRow
from trocar.web import incoming
from trocar.web.serve import make_account

pytestmark = pytest.mark.django_db
PASSWORD = "four-quiet-lanterns"
FORMULA = '=HYPERLINK("http://x.example","y")'


def browser(role: str, **more: Any) -> Client:
    name = role.replace(" ", "-")
    user = make_account(name, PASSWORD, role=role, who="test")
    client = Client(HTTP_HOST="localhost", **more)
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


@pytest.fixture(autouse=True)
def _here(settings: Any, tmp_path: Path) -> None:
    settings.JOBS_HERE = True
    settings.KEPT_FILES = tmp_path / "home" / "files"


@pytest.fixture
def keeper() -> Client:
    return browser("administrator")


def state() -> tuple[dict[str, int], int]:
    rows = {t: m.objects.count() for t, m in MODELS_AND_HEADS.items()}
    kinds = ("change", "import")
    return rows, ChainEvent.objects.filter(kind__in=kinds).count()


def packed(study: Study, place: Path, name: str = "study.zip") -> bytes:
    return write_study(place / name, study).read_bytes()


def give(client: Client, data: bytes, name: str = "study.zip") -> Any:
    return client.post(reverse("import"), {"file": SimpleUploadedFile(name, data)})


def confirm(client: Client, why: str = "taken over") -> Any:
    page = client.get(reverse("import-check"))
    return client.post(reverse("import-confirm"), {"would": page.context["would"], "why": why})


@pytest.mark.parametrize("name", ["study.zip", "study.json"])
def test_a_look_writes_nothing_and_a_yes_takes_in(
    keeper: Client, tmp_path: Path, name: str
) -> None:
    before = state()
    assert give(keeper, packed(example_study(), tmp_path, name), name).status_code == 302
    page = keeper.get(reverse("import-check"))
    assert [(t["name"], t["new"]) for t in page.context["tables"]] == [
        (t, len(getattr(example_study(), t))) for t in TABLES if getattr(example_study(), t)
    ]
    assert state() == before
    assert confirm(keeper).status_code == 302
    assert store.read_study(StudyRow.objects.get()) == example_study()
    assert Case.objects.count() == len(example_study())
    assert chain.verify().sound
    assert not list((tmp_path / "home" / "incoming").iterdir())


def test_what_changed_is_shown_old_and_new(keeper: Client, tmp_path: Path) -> None:
    store.take_in(example_study(), who="test", why="test")
    first = example_study().patients[0]
    other = replace(first, age_years=(first.age_years or 40) + 1, note="<b>bold</b>")
    study = replace(example_study(), patients=(other, *example_study().patients[1:]))
    before = state()
    give(keeper, packed(study, tmp_path))
    page = keeper.get(reverse("import-check"))
    told = {(c[2], c[3], c[4]) for c in page.context["changes"]}
    assert ("age_years", f"{first.age_years:g}", f"{other.age_years:g}") in told
    assert b"<b>bold" not in page.content
    assert b"&lt;b&gt;bold" in page.content
    assert state() == before
    confirm(keeper)
    assert store.read_study(StudyRow.objects.get()) == study


def test_a_registry_that_changed_in_between_is_looked_at_again(
    keeper: Client, tmp_path: Path
) -> None:
    give(keeper, packed(example_study(), tmp_path))
    would = keeper.get(reverse("import-check")).context["would"]
    store.take_in(example_study(), who="other", why="first")
    before = state()
    answer = keeper.post(reverse("import-confirm"), {"would": would, "why": "second"})
    assert answer["Location"] == reverse("import-check")
    assert state() == before


def test_without_a_reason_nothing_is_written(keeper: Client, tmp_path: Path) -> None:
    give(keeper, packed(example_study(), tmp_path))
    before = state()
    confirm(keeper, why="  ")
    assert state() == before


def test_confirming_without_a_file_leads_back(keeper: Client) -> None:
    answer = keeper.post(reverse("import-confirm"), {"would": "", "why": "x"})
    assert answer["Location"] == reverse("import")


def test_large_studies_are_counted_in_a_job(
    keeper: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Any,
) -> None:  # fmt: skip
    monkeypatch.setattr("trocar.web.pages.exchange.FEW", 5)
    give(keeper, packed(example_study(), tmp_path))
    with django_capture_on_commit_callbacks(execute=True):
        answer = confirm(keeper)
    job = Job.objects.get()
    assert (job.kind, job.state, job.result) == ("recount", "done", "11"), job.error
    assert keeper.get(answer["Location"]).status_code == 200
    assert Case.objects.count() == 11


# --- Hostile files ------------------------------------------------------------------------------


def zipped(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def refused(client: Client, data: bytes, name: str = "study.zip") -> str:
    before = state()
    answer = give(client, data, name)
    assert answer.status_code in (400, 413)
    assert state() == before
    sentence = str(answer.context["refused"])
    assert sentence
    assert "\n" not in sentence
    assert len(sentence) < 250
    return sentence


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"hello", "neither a zip nor JSON"),
        (b"\x89PNG\r\n\x1a\n" + b"0" * 99, "neither a zip nor JSON"),
        (b"PK\x03\x04 and then nothing of a zip", "damaged"),
        (zipped({"../../evil.csv": b"x", "study.json": b"{}"}), "points outside"),
        (zipped({"/etc/evil.csv": b"x"}), "points outside"),
        (zipped({"C:\\evil.csv": b"x"}), "points outside"),
        (zipped({"study.json": b"{}", "inner.zip": b"PK"}), "another archive"),
        (zipped({"study.json": random.Random(1).randbytes(5 << 20)}), "study.json"),
        (zipped({"study.json": b"{}", "pain.csv": b"0" * (60 << 20)}), "unpack"),
        (zipped({f"{i}.csv": b"" for i in range(20_000)}), "too many files"),
    ],
    ids=["empty", "text", "picture", "broken", "up", "root", "drive", "nested", "head", "bomb",
         "many"],
)  # fmt: skip
def test_hostile_files_are_refused_early(keeper: Client, data: bytes, says: str) -> None:
    tracemalloc.start()
    try:
        if data:
            assert says in refused(keeper, data)
        else:
            assert give(keeper, data).status_code == 400
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 32 << 20


class Zeros(io.RawIOBase):
    """Many zero bytes that are nowhere; remembers how many were asked for."""

    def __init__(self, size: int) -> None:
        self.left, self.came = size, 0

    def read(self, size: int = -1) -> bytes:
        """The next zeros."""
        size = min(self.left, 1 << 16 if size < 0 else size)
        self.left -= size
        self.came += size
        return bytes(size)


def test_100_mb_are_refused_before_they_are_read(keeper: Client) -> None:
    body = Zeros(100 << 20)
    answer = keeper.generic(
        "POST", reverse("import"), b"", content_type="multipart/form-data; boundary=x",
        **{"CONTENT_LENGTH": str(100 << 20), "wsgi.input": body},
    )  # fmt: skip
    assert answer.status_code == 413
    assert b"expected at most 32 MB" in answer.content
    assert body.came < 1 << 20


def test_a_file_larger_than_told_is_cut_off_while_it_comes(
    keeper: Client, settings: Any, tmp_path: Path
) -> None:
    settings.LARGEST_IMPORT = 10_000
    assert give(keeper, b"{" + b" " * 50_000).status_code == 400
    assert not list((tmp_path / "home").glob("incoming/*"))


def test_faults_are_listed_and_nothing_kept(keeper: Client, tmp_path: Path) -> None:
    broken = json.loads(packed(example_study(), tmp_path, "study.json"))
    broken["tables"]["patients"][0]["age_years"] = "old"
    broken["tables"]["lesions"][0]["site"] = ["L1"]
    before = state()
    answer = give(keeper, json.dumps(broken).encode(), "study.json")
    assert answer.status_code == 400
    assert answer.context["count"] == 2
    assert "number from 0 to 120" in answer.context["found"][0].expected
    assert state() == before
    assert not list((tmp_path / "home" / "incoming").iterdir())


def test_a_foreign_page_cannot_send_a_file(tmp_path: Path) -> None:
    client = browser("administrator", enforce_csrf_checks=True)
    assert give(client, packed(example_study(), tmp_path)).status_code == 403


# --- Out ----------------------------------------------------------------------------------------


def with_formulas() -> Study:
    first, *rest = example_study().patients
    texts = (FORMULA, "-1+2", "'=already", "@x", "+1", "'plain", "''=twice")
    patients = [replace(p, note=t) for p, t in zip((first, *rest), texts, strict=False)]
    return replace(
        example_study(), patients=(*patients, *example_study().patients[len(patients) :])
    )


@pytest.mark.parametrize("kind", ["zip", "json"])
def test_an_export_reads_back_without_loss(tmp_path: Path, kind: str) -> None:
    store.take_in(with_formulas(), who="test", why="test")
    lead = browser("audit lead")
    row = StudyRow.objects.get()
    answer = lead.post(reverse("export"), {"study": str(row.uid), "form": kind})
    place = tmp_path / f"back.{kind}"
    place.write_bytes(answer.content)
    assert read_study(place) == with_formulas()
    event = ChainEvent.objects.get(kind="export")
    told = json.loads(event.detail)
    assert told["sha256"] == hashlib.sha256(answer.content).hexdigest()
    assert told["rows"]["lesions"] == 11
    assert event.subject == f"study:{row.uid}"
    if kind == "zip":
        with zipfile.ZipFile(place) as archive:
            for name in archive.namelist():
                if name.endswith(".csv"):
                    text = archive.read(name).decode("utf-8-sig")
                    for cell in (c for line in csv.reader(io.StringIO(text)) for c in line):
                        number = cell.lstrip("-").replace(".", "", 1).isdigit()
                        assert number or not cell.startswith(("=", "+", "-", "@", "\t"))


def test_a_workbook_holds_no_formula() -> None:
    store.take_in(with_formulas(), who="test", why="test")
    lead = browser("audit lead")
    answer = lead.post(
        reverse("export"), {"study": str(StudyRow.objects.get().uid), "form": "xlsx"}
    )
    book = load_workbook(io.BytesIO(answer.content))
    cells = [c for sheet in book for line in sheet.iter_rows() for c in line]
    assert FORMULA in [c.value for c in cells]
    assert not [c for c in cells if c.data_type == "f"]
    assert book["pain"].max_row == 1 + len(with_formulas().pain)


def test_who_may_not_export_is_refused_and_gets_nothing() -> None:
    store.take_in(example_study(), who="test", why="test")
    for role in ("referrer", "coordinator", "radiologist", "researcher", "administrator"):
        answer = browser(role).post(reverse("export"), {"form": "zip"})
        assert answer.status_code == 403
    assert not ChainEvent.objects.filter(kind="export").exists()


# --- Shared -------------------------------------------------------------------------------------


def marked(study: Study) -> tuple[Study, set[str]]:
    """A study whose every name, note and date can be looked for."""
    p = {x.patient_id: f"PSEUDO-{i}" for i, x in enumerate(study.patients)}
    x = {y.lesion_id: f"LESION-{i}" for i, y in enumerate(study.lesions)}
    d = {y.procedure_id: f"PROC-{i}" for i, y in enumerate(study.procedures)}
    o = {y.operator_id: f"OPER-{i}" for i, y in enumerate(study.procedures) if y.operator_id}
    new = {"patient_id": p, "lesion_id": x, "procedure_id": d, "operator_id": o}
    held = {}
    for table in TABLES:
        rows = []
        for i, row in enumerate(getattr(study, table)):
            changed = {
                n: to[getattr(row, n)] for n, to in new.items()
                if getattr(row, n, None) in to
            }  # fmt: skip
            if hasattr(row, "note"):
                changed["note"] = f"NOTE-{table}-{i}"
            if table == "devices":
                changed |= {"name": f"DEVICE-{i}", "lot": f"LOT-{i}"}
            rows.append(replace(row, **changed))
        held[table] = tuple(rows)
    whole = replace(study, **held)
    secret = {v for to in new.values() for v in to.values()}
    for table in TABLES:
        for row in getattr(whole, table):
            for name in ("note", "date", "decided_on", "mdt_date", "consent_date",
                         "radiotherapy_end", "lot", "name", "reason", "cause"):  # fmt: skip
                if getattr(row, name, None):
                    secret.add(str(getattr(row, name)))
    return whole, secret


def share(client: Client, capture: Any, least: int) -> Job:
    row = StudyRow.objects.get()
    with capture(execute=True):
        client.post(reverse("shared"), {"study": str(row.uid), "least": least})
    job = Job.objects.get()
    assert job.state == "done", job.error
    return job


def test_shared_tables_hold_no_name_date_or_note(django_capture_on_commit_callbacks: Any) -> None:
    study, secret = marked(synthetic_study(150, 6).study)
    store.take_in(study, who="test", why="test")
    client = browser("researcher")
    job = share(client, django_capture_on_commit_callbacks, 5)
    page = client.get(reverse("shared-result", args=[job.uid])).content.decode()
    texts = [page]
    answer = client.post(reverse("shared-tables", args=[job.uid, "zip"]))
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        held = {n: archive.read(n).decode("utf-8-sig") for n in archive.namelist()}
    texts += held.values()
    book = load_workbook(
        io.BytesIO(client.post(reverse("shared-tables", args=[job.uid, "xlsx"])).content)
    )
    texts.append("\n".join(str(c.value) for s in book for line in s.iter_rows() for c in line))
    assert len(secret) > 300
    # The page's own head tells today's date and the study's title, not a patient's.
    leaked = {s for s in secret for t in texts if s in t}
    assert not leaked
    counts = [int(x[3]) for x in list(csv.reader(io.StringIO(held["counts.csv"])))[1:] if x[3]]
    assert counts
    assert not [x for x in counts if 0 < x < 5]
    assert {"patients.csv", "lesions.csv", "pain.csv"} <= set(held)
    told = [json.loads(e.detail) for e in ChainEvent.objects.filter(kind="export")]
    assert [t["form"] for t in told] == ["zip", "xlsx"]
    assert told[0]["rows"]["patients"]


@pytest.mark.parametrize("least", [3, 5, 20])
def test_what_singles_out_is_shared_by_enough_patients(least: int) -> None:
    study = synthetic_study(150, 6).study
    tables = {t.name: t for t in shared_tables(study, renamed=lambda c, n: n, below=least)}
    people = {r[0]: r for r in tables["patients"].rows}
    names = tables["patients"].columns
    lesions = [dict(zip(tables["lesions"].columns, r, strict=True)) for r in tables["lesions"].rows]
    groups: dict[Any, set[str]] = {}
    for x in lesions:
        who = dict(zip(names, people[x["patient_id"]], strict=True))
        key = (who["sex"], who["age_group"], who["primary"], x["region"])
        groups.setdefault(key, set()).add(x["patient_id"])
    assert groups
    assert min(map(len, groups.values())) >= least
    assert not {"site", "age_years", "note", "side"} & {*names, *tables["lesions"].columns}


@pytest.mark.slow
def test_new_names_hold_together_and_differ_between_registries(settings: Any) -> None:
    from trocar.web.pages.exchange import run_shared

    browser("audit lead")

    store.take_in(synthetic_study(40, 1).study, who="test", why="test")
    row = StudyRow.objects.get()
    asked = {"study": str(row.uid), "least": 2}

    def made() -> str:
        told = run_shared(asked, "audit-lead", lambda s, f: None)
        return str(json.loads(told)["files"]["zip"])

    first = made()
    settings.SECRET_KEY = "another-key"  # as of a restored registry: backups leave it out
    assert first == made()
    assert SiteKey.objects.count() == 1
    SiteKey.objects.update(key="of-another-registry")
    assert first != made()


@pytest.mark.parametrize(("role", "least", "right"), [
    ("researcher", 2, False), ("researcher", 4, False), ("researcher", 5, True),
    ("audit lead", 2, True), ("audit lead", 1, False),
])  # fmt: skip
def test_who_sees_no_audit_is_told_no_small_count(
    role: str, least: int, right: bool, django_capture_on_commit_callbacks: Any
) -> None:
    from trocar.web.pages.exchange import run_shared

    store.take_in(example_study(), who="test", why="test")
    client, asked = browser(role), {"study": str(StudyRow.objects.get().uid), "least": least}
    with django_capture_on_commit_callbacks(execute=True):
        answer = client.post(reverse("shared"), asked)
    assert Job.objects.filter(state="done").count() == right
    assert (answer.status_code == 302) == right
    if not right:
        assert "least" in answer.context["form"].errors
        # Nor does a job that came to be in another way.
        with pytest.raises(InputError, match="the least number is"):
            run_shared(asked, role.replace(" ", "-"), lambda s, f: None)


def test_another_researcher_does_not_find_them(django_capture_on_commit_callbacks: Any) -> None:
    store.take_in(example_study(), who="test", why="test")
    job = share(browser("researcher"), django_capture_on_commit_callbacks, 5)
    other = browser("audit lead")
    assert other.get(reverse("shared-result", args=[job.uid])).status_code == 404


def test_ages_are_told_in_groups() -> None:
    assert [age_group(a) for a in (0.0, 4.9, 5.0, 64.0, 89.9, 90.0, 104.0)] == [
        "0-4", "0-4", "5-9", "60-64", "85-89", "90 or more", "90 or more",
    ]  # fmt: skip


def test_waiting_files_are_forgotten_after_an_hour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = incoming.put_aside(SimpleUploadedFile("a.json", b"{}"))
    monkeypatch.setattr("trocar.web.incoming._KEEP_S", -1)
    incoming.put_aside(SimpleUploadedFile("b.json", b"{}"))
    with pytest.raises(Exception, match="no longer here"):
        incoming.waiting(old)
    with pytest.raises(Exception, match="no longer here"):
        incoming.waiting("../../secret-key")
