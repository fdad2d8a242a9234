"""Studies in and out: taken in after a look at what would change, given out whole or shared.

Nothing is written by the look. Whatever leaves is logged, with its hash, before it leaves.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from django import forms
from django.contrib import messages
from django.core.files.uploadhandler import MemoryFileUploadHandler
from django.core.validators import MinValueValidator
from django.db import Error as DatabaseError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from trocar.audit.sharing import FEWEST, shared_tables
from trocar.audit.summary import Audit, audit_study
from trocar.errors import InputError
from trocar.io.records import problems, read_study, write_study
from trocar.model.care import CARE_TABLES
from trocar.model.columns import shown
from trocar.model.study import TABLES
from trocar.model.study import Study as StudyRecords
from trocar.registry import chain, roles, store
from trocar.registry.convert import canonical
from trocar.registry.models import Job, Person, SiteKey, Study
from trocar.web import cases, incoming, jobs, kept, sheets
from trocar.web.guard import needs, role_of
from trocar.web.pages.audit import FORMS, progress

MOST_SHOWN = 200  # faults and changes on a page
FEW = 200  # lesions whose lines are brought up to date at once
LOWEST = 2  # of the least number told: with 1 nothing would be hidden
_PSEUDONYMS = "pseudonyms"  # name of the key they are made with
_ZIP = "application/zip"
_WAITING = "import"  # in the session
EXPORTS = (
    ("zip", gettext_lazy("CSV tables in a zip (trocar reads it back)")),
    ("json", gettext_lazy("one JSON file (trocar reads it back)")),
    ("xlsx", gettext_lazy("Excel workbook")),
)
# Counts that would name operators, or repeat reasons somebody typed.
_NOT_SHARED = ("operators, ", "exclusions")


class StudyForm(forms.Form):  # type: ignore[misc]
    """Which study."""

    study = forms.ModelChoiceField(
        label=gettext_lazy("Study"), queryset=Study.objects.order_by("title"),
        to_field_name="uid", empty_label=None,
    )  # fmt: skip

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.fields["study"].label_from_instance = lambda row: row.title


class ExportForm(StudyForm):
    """Which study, as what."""

    form = forms.ChoiceField(label=gettext_lazy("As"), choices=EXPORTS, widget=forms.RadioSelect,
                             initial="zip")  # fmt: skip


class SharedForm(StudyForm):
    """Which study, and the least number that is told."""

    least = forms.IntegerField(
        label=gettext_lazy("Least number told"), max_value=100, initial=FEWEST,
        help_text=gettext_lazy("Counts below it are hidden; so are combinations of sex, age group,"
                               " primary tumour and region that fewer patients share."),
    )  # fmt: skip

    def __init__(self, *given: Any, lowest: int, **named: Any) -> None:
        super().__init__(*given, **named)
        field = self.fields["least"]
        field.min_value = lowest
        field.validators.append(MinValueValidator(lowest))
        field.widget.attrs["min"] = lowest


def lowest_told(role: str) -> int:
    """The least number an account of a role may ask for: who sees the audit sees small counts.

    >>> lowest_told("researcher"), lowest_told("audit lead")
    (5, 2)
    """
    return LOWEST if roles.may(role, roles.AUDIT) else FEWEST


# --- In -----------------------------------------------------------------------------------------


@needs(roles.IMPORT)
@csrf_exempt  # the token stands in the body, which is not read before its size is known
@require_http_methods(["GET", "POST"])
def bring(request: HttpRequest) -> HttpResponse:
    """Give a study's file."""
    if request.method == "POST":
        try:
            incoming.refuse_large(request)
        except InputError as error:
            return _refused(request, _(str(error)), status=413)
        request.upload_handlers = [incoming.Counted(request)]
    return _bring(request)


@csrf_protect
def _bring(request: HttpRequest) -> HttpResponse:
    if request.method != "POST":
        return render(request, "exchange/import.html", {"most_mb": incoming.largest() >> 20})
    upload = request.FILES.get("file")
    if upload is None:
        return _refused(request, _("No file was given; choose a zip or a JSON file."))
    try:
        name = incoming.put_aside(upload)
    except InputError as error:
        return _refused(request, _(str(error)))
    place = incoming.waiting(name)
    try:
        read_study(place)
    except InputError as error:
        found = problems(place)
        incoming.forget(name)
        if not found:
            return _refused(request, _(str(error).partition("\n")[0]))
        return _refused(request, "", found=found)
    incoming.forget(request.session.get(_WAITING, {}).get("name"))
    request.session[_WAITING] = {"name": name, "sha256": incoming.sha256_of(place)}
    return redirect("import-check")


@needs(roles.IMPORT)
@require_GET
def check(request: HttpRequest) -> HttpResponse:
    """What taking the study in would change; nothing is written."""
    try:
        study = _waiting_study(request)
    except InputError as error:
        messages.warning(request, _(str(error)))
        return redirect("import")
    found = store.compare(study)
    waiting = request.session[_WAITING]
    waiting["would"] = _digest(found)
    request.session[_WAITING] = waiting
    changed: dict[str, set[str]] = {}
    for table, key, *_rest in found.changes:
        changed.setdefault(table, set()).add(key)
    tables = [
        {"name": t, "new": found.new.get(t, 0), "changed": len(changed.get(t, ())),
         "same": found.same.get(t, 0)}
        for t in TABLES
        if getattr(study, t)
    ]  # fmt: skip
    changes = [
        (t, key, column, _told(old), _told(new)) for t, key, column, old, new in found.changes
    ]
    context = {
        "study": study.info, "held": Study.objects.filter(study_id=study.info.study_id).exists(),
        "tables": tables, "changes": changes[:MOST_SHOWN], "more": len(changes) - MOST_SHOWN,
        "nothing": not changes and not any(found.new.values()), "would": waiting["would"],
    }  # fmt: skip
    return render(request, "exchange/check.html", context)


@needs(roles.IMPORT)
@require_POST
def confirm(request: HttpRequest) -> HttpResponse:
    """Take in the study that was looked at, if it would still change the same."""
    who = request.user.get_username()
    try:
        study = _waiting_study(request)
        why = request.POST.get("why", "").strip()
        if not why:
            raise InputError(_("The reason is empty; say why the study is taken in."))
        would = request.POST.get("would")
        row = cases.enter(study, who=who, why=why, as_seen=lambda now: _digest(now) == would)
    except store.Changed:
        messages.warning(request, _("The registry has changed since; look once more."))
        return redirect("import-check")
    except (InputError, DatabaseError) as error:
        # A database's own words may hold values.
        said = _(str(error)) if isinstance(error, InputError) else _(
            "The database does not take this study; nothing was written."
        )  # fmt: skip
        messages.error(request, said)
        return redirect("import-check" if _WAITING in request.session else "import")
    incoming.forget(request.session.pop(_WAITING, {}).get("name"))
    if len(study) <= FEW:
        run_recount({"study": str(row.uid)}, who, lambda step, fraction: None)
        messages.success(request, _("The study was taken in."))
        return redirect("import")
    job = jobs.submit("recount", {"study": str(row.uid), "title": row.title}, who)
    return redirect("import-job", uid=job.uid)


@needs(roles.IMPORT)
@require_POST
def drop(request: HttpRequest) -> HttpResponse:
    """Forget the file that waits."""
    incoming.forget(request.session.pop(_WAITING, {}).get("name"))
    return redirect("import")


def run_recount(parameters: Mapping[str, Any], who: str, tell: jobs.Tell) -> str:
    """Bring the worklist's lines of a whole study up to date."""
    row = Study.objects.get(uid=parameters["study"])
    counted = store.recount_all(row, cases.standing, lambda share: tell("worklist", 0.999 * share))
    return str(counted)


@needs(roles.IMPORT)
@require_GET
def import_job(request: HttpRequest, uid: Any) -> HttpResponse:
    """How far the worklist is."""
    job = _job(uid, "recount")
    poll = reverse("import-job", args=[job.uid])
    if request.htmx:
        return progress(request, job, poll)
    return render(request, "exchange/job.html", {"job": job, "poll": poll})


def _waiting_study(request: HttpRequest) -> StudyRecords:
    waiting = request.session.get(_WAITING, {})
    place = incoming.waiting(waiting.get("name"))
    if incoming.sha256_of(place) != waiting.get("sha256"):
        raise InputError("the file has changed; give it once more")
    return read_study(place)


def _digest(found: Any) -> str:
    told = [dict(found.new), dict(found.same), [[str(v) for v in c] for c in found.changes]]
    return hashlib.sha256(canonical(told).encode()).hexdigest()


def _told(value: Any) -> str:
    if isinstance(value, tuple):
        return "; ".join(value) or _("none")
    return "" if value is None else shown(value).strip("'")


def _refused(
    request: HttpRequest, sentence: str, *, found: Any = (), status: int = 400
) -> HttpResponse:
    context = {
        "refused": sentence, "found": found[:MOST_SHOWN], "count": len(found),
        "most_mb": incoming.largest() >> 20,
    }  # fmt: skip
    # Without reading the body: rendering a token does not need it.
    if status == 413:
        request.upload_handlers = [MemoryFileUploadHandler(request)]
        request.POST, request._files = {}, {}
    return render(request, "exchange/import.html", context, status=status)


# --- Out ----------------------------------------------------------------------------------------


@needs(roles.EXPORT)
@require_http_methods(["GET", "POST"])
def export(request: HttpRequest) -> HttpResponse:
    """Give out a whole study."""
    form = ExportForm(request.POST or None)
    if request.method != "POST" or not form.is_valid():
        told = {"form": form, "leaving": _named(("study", "notes", *TABLES)),
                "staying": _named(CARE_TABLES)}  # fmt: skip
        return render(request, "exchange/export.html", told)
    row, kind = form.cleaned_data["study"], form.cleaned_data["form"]
    study = store.read_study(row)
    data = study_bytes(study, kind)
    counts = {t: len(getattr(study, t)) for t in TABLES if getattr(study, t)}
    chain.log(
        "export", request.user.get_username(), f"study:{row.uid}",
        what="whole study", form=kind, sha256=hashlib.sha256(data).hexdigest(), rows=counts,
    )  # fmt: skip
    return _file(data, f"study.{kind}", FORMS.get(kind, _ZIP))


def _named(tables: Iterable[str]) -> str:
    """Names of tables as a list in the reader's language."""
    return ", ".join(_(t.replace("_", " ")) for t in tables)


def study_bytes(study: StudyRecords, kind: str) -> bytes:
    """A whole study as a zip of CSV tables, one JSON file or a workbook."""
    if kind == "xlsx":
        return sheets.workbook(sheets.study_sheets(study))
    with tempfile.TemporaryDirectory() as folder:
        return write_study(Path(folder) / f"study.{kind}", study).read_bytes()


@needs(roles.SHARED)
@require_http_methods(["GET", "POST"])
def shared(request: HttpRequest) -> HttpResponse:
    """Ask for the pseudonymised tables of a study."""
    form = SharedForm(request.POST or None, lowest=lowest_told(role_of(request)))
    who = request.user.get_username()
    if request.method == "POST" and form.is_valid():
        row = form.cleaned_data["study"]
        asked = {"study": str(row.uid), "title": row.title, "least": form.cleaned_data["least"]}
        job = jobs.submit("shared", asked, who)
        return redirect("shared-result", uid=job.uid)
    mine = Job.objects.filter(kind="shared", asked_by=who).order_by("-pk")[:20]
    return render(request, "exchange/shared.html", {"form": form, "jobs": mine})


def run_shared(parameters: Mapping[str, Any], who: str, tell: jobs.Tell) -> str:
    """Make the tables a researcher may see, and keep them."""
    row = Study.objects.filter(uid=parameters["study"]).first()
    if row is None:
        raise InputError("the study is no longer there; choose another")
    tell("reading the study", 0.0)
    study = store.read_study(row)
    least, lowest = int(parameters["least"]), _lowest_of(who)
    if least < lowest:
        raise InputError(f"the least number is {least}; expected {lowest} or more")
    key = _pseudonym_key()

    def renamed(column: str, name: str) -> str:
        # Keyed by a secret: who holds a list of pseudonyms cannot try them out.
        told = hmac.new(key, f"{row.uid}|{column}|{name}".encode(), hashlib.sha256)
        return f"{column[0].upper()}{told.hexdigest()[:16]}"

    tables = shared_tables(study, renamed=renamed, below=least)
    tell("counting", 0.2)
    audited = audit_study(
        study, suppress_below=least, progress=lambda step, part: tell(step, 0.2 + 0.7 * part)
    )
    counts = shared_counts(audited)
    header = ("table", "group", "label", "count", "of")
    lines = [(t["title"], *r) for t in counts for r in t["rows"]]
    texts = {f"{t.name}.csv": sheets.csv_text(t.columns, t.rows) for t in tables if t.rows}
    texts["counts.csv"] = sheets.csv_text(header, lines)
    book: list[sheets.Sheet] = [("counts", header, lines)]
    book += [(t.name, t.columns, t.rows) for t in tables if t.rows]
    files = {
        "zip": kept.keep(sheets.zipped(texts), "zip"),
        "xlsx": kept.keep(sheets.workbook(book), "xlsx"),
    }
    sizes = {t.name: len(t.rows) for t in tables if t.rows}
    return json.dumps({"files": files, "rows": sizes, "counts": counts}, ensure_ascii=False)


def shared_counts(audited: Audit) -> list[dict[str, Any]]:
    """All that is told of an audit to who sees shared tables alone, small counts hidden."""
    return [
        {"title": t.title, "unit": t.unit, "rows": [
            (r.group, r.label, r.x, r.n) for r in t.rows
        ]}
        for t in audited.counts.values()
        if not t.name.startswith(_NOT_SHARED) and t.rows
    ]  # fmt: skip


def _lowest_of(who: str) -> int:
    """The same for the account that asked, as its role is when the work is done."""
    person = Person.objects.filter(user__username=who).first()
    return lowest_told("" if person is None else person.role)


def _pseudonym_key() -> bytes:
    """The secret of the new pseudonyms; in the database, so that a restored one names alike."""
    made = {"key": secrets.token_urlsafe(48)}
    held, _made = SiteKey.objects.get_or_create(name=_PSEUDONYMS, defaults=made)
    return held.key.encode()


@needs(roles.SHARED)
@require_GET
def shared_result(request: HttpRequest, uid: Any) -> HttpResponse:
    """The counts with small ones hidden, and the tables to take away."""
    job = _job(uid, "shared", request)
    poll = reverse("shared-result", args=[job.uid])
    if request.htmx:
        return progress(request, job, poll)
    context = {"job": job, "poll": poll, "cancel": reverse("shared-cancel", args=[job.uid])}
    if job.state == "done":
        context |= json.loads(job.result)
    return render(request, "exchange/shared_result.html", context)


@needs(roles.SHARED)
@require_POST
def shared_cancel(request: HttpRequest, uid: Any) -> HttpResponse:
    """Stop making the tables."""
    job = _job(uid, "shared", request)
    jobs.cancel(job)
    return redirect("shared-result", uid=job.uid)


@needs(roles.SHARED)
@require_POST
def shared_take(request: HttpRequest, uid: Any, form: str) -> HttpResponse:
    """The pseudonymised tables as a file; that they were taken is logged."""
    job = _job(uid, "shared", request)
    told = json.loads(job.result) if job.state == "done" else {"files": {}}
    if form not in told["files"]:
        raise Http404
    name = told["files"][form]
    data = kept.kept(name)
    chain.log(
        "export", request.user.get_username(), f"study:{job.parameters['study']}",
        what="pseudonymised tables", form=form, least=job.parameters["least"],
        sha256=name.partition(".")[0], rows=told["rows"],
    )  # fmt: skip
    return _file(data, f"shared.{form}", FORMS.get(form, _ZIP))


def _job(uid: Any, kind: str, request: HttpRequest | None = None) -> Job:
    """A job of a kind; with a request only who asked for it finds it."""
    job = Job.objects.filter(uid=uid, kind=kind).first()
    if job is None or (request is not None and job.asked_by != request.user.get_username()):
        raise Http404
    return job


def _file(data: bytes, name: str, content_type: str) -> HttpResponse:
    response = HttpResponse(data, content_type=content_type)
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


urlpatterns = [
    path("import/", bring, name="import"),
    path("import/check/", check, name="import-check"),
    path("import/confirm/", confirm, name="import-confirm"),
    path("import/drop/", drop, name="import-drop"),
    path("import/job/<uuid:uid>/", import_job, name="import-job"),
    path("export/", export, name="export"),
    path("shared/", shared, name="shared"),
    path("shared/<uuid:uid>/", shared_result, name="shared-result"),
    path("shared/<uuid:uid>/cancel/", shared_cancel, name="shared-cancel"),
    path("shared/<uuid:uid>/tables/<slug:form>/", shared_take, name="shared-tables"),
]
