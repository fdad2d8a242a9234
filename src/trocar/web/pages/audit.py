"""The audit of a study: chosen, worked out beside the pages, shown as its sheet, taken away."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from csp.decorators import csp
from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils.translation import get_language, gettext_lazy
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from trocar.audit.choice import only
from trocar.audit.summary import Audit, audit_study
from trocar.errors import InputError
from trocar.io.exports import plain
from trocar.model.patient import PainfulLesion
from trocar.registry import chain, roles, store
from trocar.registry.models import MODELS, Job, Study
from trocar.report.audit import audit_page
from trocar.web import cases, jobs, kept, sheets
from trocar.web.guard import needs

MOST_LISTED = 50
_READING, _AUDITED = 0.15, 0.9  # shares of the whole work when each is done
FORMS = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
# The sheet holds its own styles and pictures and needs nothing else, least of all a script.


# As dates are written everywhere here; a browser's own calendar writes them as its land does.
_ISO_DAY = {"placeholder": "2026-11-25", "inputmode": "numeric", "autocomplete": "off"}


class ChoiceForm(forms.Form):  # type: ignore[misc]
    """Which lesions of a study are audited, and whether the sheet is to leave the unit."""

    first = forms.CharField(
        label=gettext_lazy("First procedure from"), required=False, max_length=10,
        widget=forms.TextInput(attrs=_ISO_DAY),
    )  # fmt: skip
    last = forms.CharField(
        label=gettext_lazy("to"), required=False, max_length=10,
        widget=forms.TextInput(attrs=_ISO_DAY),
    )  # fmt: skip
    operator = forms.ChoiceField(label=gettext_lazy("Operator"), required=False)
    least = forms.IntegerField(
        label=gettext_lazy("Hide counts below"), required=False, min_value=2, max_value=100,
        help_text=gettext_lazy("For a sheet that leaves the unit, usually 5. Empty: hide none."),
    )  # fmt: skip
    regions = forms.MultipleChoiceField(
        label=gettext_lazy("Site"), required=False, widget=forms.CheckboxSelectMultiple
    )

    def __init__(self, data: Any, study: Study) -> None:
        super().__init__(data)
        rows = MODELS["procedures"].objects.filter(lesion__study=study)
        names = rows.exclude(operator_id=None).values_list("operator_id", flat=True).distinct()
        self.fields["operator"].choices = [("", _("all")), *((o, o) for o in sorted(names))]
        sites = MODELS["lesions"].objects.filter(study=study).values_list("site", flat=True)
        found = {
            PainfulLesion(lesion_id="x", patient_id="x", site=s).region for s in sites.distinct()
        }
        self.fields["regions"].choices = [(r, _(r)) for r in sorted(found)]


# --- The work -----------------------------------------------------------------------------------


def run_audit(parameters: Mapping[str, Any], who: str, tell: jobs.Tell) -> str:
    """Audit a study and keep the sheet and its numbers; returns their names and what is shown."""
    row = Study.objects.filter(uid=parameters["study"]).first()
    if row is None:
        raise InputError("the study is no longer there; choose another")
    tell("reading the study", 0.0)
    study = only(
        store.read_study(row),
        first=parameters.get("first") or None,
        last=parameters.get("last") or None,
        regions=parameters.get("regions") or (),
        operator=parameters.get("operator") or None,
    )
    if not study.lesions:
        raise InputError("no lesion fits this choice; expected at least one to audit")
    span = _AUDITED - _READING
    audited = audit_study(
        study,
        suppress_below=parameters.get("least"),
        progress=lambda step, part: tell(step, _READING + span * part),
    )
    tell("writing", _AUDITED)
    page = audit_page(audited, language=parameters.get("language", "en"), date=cases.today())
    numbers = json.dumps(numbers_of(audited), ensure_ascii=False, indent=1)
    every = audit_sheets(audited)
    names = {
        "html": kept.keep(page.encode(), "html"),
        "json": kept.keep(numbers.encode(), "json"),
        "csv": kept.keep(sheets.csv_text(every[0][1], every[0][2]).encode(), "csv"),
        "xlsx": kept.keep(sheets.workbook(every), "xlsx"),
    }
    shown = {
        "title": audited.info.title,
        "lesions": audited.n_treated,
        "choice": next((n.text for n in audited.notes if n.note_id == "choice"), ""),
        "funnels": [_funnel(f) for f in audited.funnels],
        "monitors": [_monitor(m) for m in audited.monitors],
        "rules": [_rule(r) for r in audited.governance.rules],
        "sentinels": len(audited.governance.sentinels),
        "reports": len(audited.governance.device_reports),
        "notices": [n.text for n in audited.governance.notices],
    }
    return json.dumps({"files": names, "shown": shown}, ensure_ascii=False)


def numbers_of(audited: Audit) -> dict[str, Any]:
    """Every number of an audit as JSON values, to the last digit."""
    told: dict[str, Any] = plain(audited)
    return told


def audit_sheets(audited: Audit) -> list[sheets.Sheet]:
    """The tables of an audit; the first holds every count with its interval."""
    header: tuple[str, ...] = (
        "table",
        "unit",
        "group",
        "label",
        "count",
        "of",
        "fraction",
        "low",
        "high",
    )
    counts = [
        (t.name, t.unit, r.group, r.label, r.x, r.n, r.fraction, r.low, r.high)
        for t in audited.counts.values()
        for r in t.rows
    ]
    out: list[sheets.Sheet] = [("counts", header, counts)]
    for name in ("course", "means", "walking", "changes", "sensitivity", "clusters", "benchmarks"):
        out.append(sheets.records_sheet(name, getattr(audited, name)))
    units = [
        (f.outcome, f.title, f.target, f.target_from, u.label, u.x, u.n, u.fraction,
         u.side_95, u.side_998)
        for f in audited.funnels
        for u in f.units
    ]  # fmt: skip
    header = ("outcome", "title", "target", "target from", "operator", "count", "of", "fraction",
              "side of 95 % limits", "side of 99.8 % limits")  # fmt: skip
    out.append(("funnels", header, units))
    steps = [
        (m.outcome, m.title, i, lesion, happened, value, expected, m.limit, i - 1 in m.signals)
        for m in audited.monitors
        for i, (lesion, happened, value, expected) in enumerate(
            zip(m.lesions, m.outcomes, m.values, m.vlad, strict=True), start=1
        )
    ]
    header = ("outcome", "title", "case", "lesion", "happened", "CUSUM", "VLAD", "limit", "signal")
    out.append(("CUSUM", header, steps))
    for f in fields(audited.governance):
        out.append(
            sheets.records_sheet(f"governance {f.name}", getattr(audited.governance, f.name))
        )
    out += [(t.name, t.columns, t.rows) for t in audited.tables]
    out.append(("rules used", ("for", "name", "sentence"), audited.rules))
    out.append(("notes", ("note_id", "text"), [(n.note_id, n.text) for n in audited.notes]))
    return [s for s in out if s[1]]


def _funnel(f: Any) -> dict[str, Any]:
    units = [
        {"label": u.label, "x": u.x, "n": u.n, "percent": _percent(u.fraction),
         "tone": "stop" if u.side_998 > 0 else "caution" if u.side_95 > 0 else "ok"}
        for u in f.units
    ]  # fmt: skip
    units.sort(key=lambda u: ("stop", "caution", "ok").index(u["tone"]))
    return {"title": f.title, "target": _percent(f.target), "from": f.target_from, "units": units}


def _monitor(m: Any) -> dict[str, Any]:
    return {
        "title": m.title, "cases": len(m.values), "happened": sum(m.outcomes),
        "expected": _percent(m.expected), "from": m.expected_from,
        "last": round(m.values[-1], 2) if m.values else None, "limit": round(m.limit, 2),
        "signals": [i + 1 for i in m.signals], "undated": m.undated,
    }  # fmt: skip


def _rule(r: Any) -> dict[str, Any]:
    return {
        "title": r.title, "clauses": ", ".join(r.clauses), "met": r.met, "not_met": r.not_met,
        "unknown": r.unknown, "not_applicable": r.not_applicable,
    }  # fmt: skip


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.1f} %"


# --- Pages --------------------------------------------------------------------------------------


@needs(roles.AUDIT)
@require_GET
def studies(request: HttpRequest) -> HttpResponse:
    """The studies there are, and earlier audits."""
    heads = []
    for row in Study.objects.order_by("title"):
        heads.append({"row": row, "lesions": MODELS["lesions"].objects.filter(study=row).count()})
    return render(request, "audit/studies.html", {"studies": heads, "audits": _earlier()})


@needs(roles.AUDIT)
@require_http_methods(["GET", "POST"])
def choose(request: HttpRequest, uid: Any) -> HttpResponse:
    """Choose lesions of a study and ask for their audit."""
    study = _study(uid)
    form = ChoiceForm(request.POST if request.method == "POST" else None, study)
    if request.method == "POST" and form.is_valid():
        asked = {k: v for k, v in form.cleaned_data.items() if v}
        try:
            only(_NOTHING, first=asked.get("first"), last=asked.get("last"))
        except InputError as error:
            form.add_error("first", _(str(error)))
        else:
            language = "zh-Hant" if get_language() == "zh-hant" else "en"
            asked |= {"study": str(study.uid), "title": study.title, "language": language}
            job = jobs.submit("audit", asked, request.user.get_username())
            return redirect("audit-result", uid=job.uid)
    context = {"study": study, "form": form, "audits": _earlier(study)}
    return render(request, "audit/choose.html", context)


@needs(roles.AUDIT)
@require_GET
def result(request: HttpRequest, uid: Any) -> HttpResponse:
    """How far an audit has come, or what it found."""
    job = _job(uid)
    if request.htmx and not request.htmx.history_restore_request:
        return progress(request, job, reverse("audit-result", args=[job.uid]))
    context = {"job": job, "cancel": reverse("audit-cancel", args=[job.uid]),
               "again": reverse("audit-again", args=[job.uid]),
               "poll": reverse("audit-result", args=[job.uid])}  # fmt: skip
    if job.state == "done":
        context |= json.loads(job.result)["shown"]
        chain.log("view", request.user.get_username(), f"job:{job.uid}", what="audit")
    return render(request, "audit/result.html", context)


def progress(request: HttpRequest, job: Job, poll: str) -> HttpResponse:
    """The moving part of a job's page; when the job has ended the page is loaded anew."""
    response = render(request, "audit/progress.html", {"job": job, "poll": poll})
    if job.state not in jobs.OPEN:
        response["HX-Refresh"] = "true"
    return response


@needs(roles.AUDIT)
@require_POST
def stop(request: HttpRequest, uid: Any) -> HttpResponse:
    """Cancel an audit that is being made."""
    job = _job(uid)
    jobs.cancel(job)
    return redirect("audit-result", uid=job.uid)


@needs(roles.AUDIT)
@require_POST
def anew(request: HttpRequest, uid: Any) -> HttpResponse:
    """Make the same audit once more, of the rows as they are now."""
    job = jobs.again(_job(uid), request.user.get_username())
    return redirect("audit-result", uid=job.uid)


@needs(roles.AUDIT)
@require_GET
@csp(kept.SHEET_POLICY)
def sheet(request: HttpRequest, uid: Any) -> HttpResponse:
    """The audit sheet, shown in a frame that runs nothing."""
    return HttpResponse(kept.kept(_files(uid)["html"]))


@needs(roles.AUDIT)
@require_POST
def take(request: HttpRequest, uid: Any, form: str) -> HttpResponse:
    """The numbers of an audit as a file; that they were taken is logged."""
    if form not in FORMS:
        raise Http404
    name = _files(uid)[form]
    data = kept.kept(name)
    chain.log(
        "export", request.user.get_username(), f"job:{uid}",
        what="audit", form=form, sha256=name.partition(".")[0], bytes=len(data),
    )  # fmt: skip
    response = HttpResponse(data, content_type=FORMS[form])
    response["Content-Disposition"] = f'attachment; filename="audit.{form}"'
    return response


def _study(uid: Any) -> Study:
    row = Study.objects.filter(uid=uid).first()
    if row is None:
        raise Http404
    return row


def _job(uid: Any) -> Job:
    job = Job.objects.filter(uid=uid, kind="audit").first()
    if job is None:
        raise Http404
    return job


def _files(uid: Any) -> Mapping[str, str]:
    job = _job(uid)
    if job.state != "done":
        raise Http404
    files: Mapping[str, str] = json.loads(job.result)["files"]
    return files


def _earlier(study: Study | None = None) -> list[dict[str, Any]]:
    rows = Job.objects.filter(kind="audit").order_by("-pk")
    if study is not None:
        rows = rows.filter(parameters__study=str(study.uid))
    return [{"job": j, "choice": _in_words(j.parameters)} for j in rows[:MOST_LISTED]]


def _in_words(asked: Mapping[str, Any]) -> str:
    parts = []
    if asked.get("first") or asked.get("last"):
        parts.append(f"{asked.get('first', '')} – {asked.get('last', '')}".strip())
    parts += [_(r) for r in asked.get("regions", ())]
    if asked.get("operator"):
        parts.append(f"{_('Operator')} {asked['operator']}")
    if asked.get("least"):
        parts.append(_("counts below %(least)s hidden") % {"least": asked["least"]})
    return "; ".join(parts) or _("all lesions")


def _nothing() -> Any:
    from trocar.model.study import Study as Records
    from trocar.model.study import StudyInfo

    return Records(info=StudyInfo(study_id="none", title="none"))


_NOTHING = _nothing()

urlpatterns = [
    path("audit/", studies, name="audit"),
    path("audit/study/<uuid:uid>/", choose, name="audit-study"),
    path("audit/<uuid:uid>/", result, name="audit-result"),
    path("audit/<uuid:uid>/cancel/", stop, name="audit-cancel"),
    path("audit/<uuid:uid>/again/", anew, name="audit-again"),
    path("audit/<uuid:uid>/sheet/", sheet, name="audit-sheet"),
    path("audit/<uuid:uid>/numbers/<slug:form>/", take, name="audit-numbers"),
]
