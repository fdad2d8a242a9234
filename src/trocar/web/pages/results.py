"""What was computed for a lesion: work under way, simulations, the plan's sheet, the CT afterwards.

Sheets are pages of their own, as the command line writes them; here they stand in a frame that is
kept apart from the site.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import lru_cache
from typing import Any
from uuid import UUID

from csp.decorators import csp
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils.translation import get_language, gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.clickjacking import xframe_options_sameorigin
from django.views.decorators.http import require_GET, require_POST

from trocar import tasks
from trocar.errors import InputError
from trocar.model.plan import VERDICTS, Verdict, worst_verdict
from trocar.registry import chain, roles, store
from trocar.registry.convert import to_record
from trocar.registry.models import MODELS, Job
from trocar.web import arrivals, bench, cases, jobs, kept
from trocar.web import work_kinds as kinds
from trocar.web.guard import allowed, case_of, needs
from trocar.web.looking import RUN_NAMES, SIGNS
from trocar.web.pages.audit import progress

KINDS = ("outline", "search", "ablate", "inject", "load", "assess", "sheet", "read")
# What the sheet of a kind of run is called in its folder.
SHEETS = {
    "ablation": "ablation.html", "leak forecast": "cement.html", "injection": "cement.html",
    "strength": "strength.html", "assessment": "result.html",
}  # fmt: skip
TITLES = {
    "outline": _("Outlining the lesion"),
    "search": _("Looking for needles"),
    "ablate": _("Simulating the ablation"),
    "inject": _("Simulating the injection"),
    "load": _("Loading the bone"),
    "assess": _("Looking for cement on the CT afterwards"),
    "sheet": _("Drawing the sheet"),
    "read": _("Taking in the images"),
}
_SHOWN = 20  # of the last jobs
_SAID = re.compile(rb'<section id="verdict" class="verdict (\w+)"')  # a sheet says it once


@needs(roles.SEE)
@require_GET
def results(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Everything computed for a lesion, newest first."""
    lesion = case_of(request, uid)
    runs = MODELS["runs"].objects.filter(lesion=lesion).order_by("-pk")
    found = MODELS["assessments"].objects.filter(lesion=lesion).order_by("-pk")
    told = {
        "lesion": lesion,
        "jobs": [_told(job) for job in _jobs(lesion)],
        "runs": [_told_run(row) for row in runs],
        "found": [_told_assessment(row) for row in found],
        "plan": _computed(lesion),
        "after": [i for i in bench.images(lesion) if i.purpose == "after"],
    }
    return render(request, "results/results.html", told)


def _told_run(row: Any) -> dict[str, Any]:
    """What the list says of a simulation."""
    return {
        "row": row,
        "told": to_record(row),
        "sheet": _sheet_name(row.result_sha256),
        "title": _run_title(row.kind),
        "verdict": _verdict(row),
    }


def _run_title(kind: str) -> str:
    """What a kind of run is called, as on the workbench."""
    title = str(RUN_NAMES.get(kind) or gettext(kind))
    return title[:1].upper() + title[1:]


def _verdict(row: Any) -> dict[str, str] | None:
    """The verdict of a run with its sign: the worse of what its row and its sheet say.

    A row may say nothing, or judge by the rules alone; the sheet counts what is not known, too.
    """
    name = _sheet_name(row.result_sha256)
    said = [row.verdict, _sheet_verdict(row.result_sha256, name) if name else None]
    known: list[Verdict] = [v for v in VERDICTS if v in said]
    if not known:
        return None
    worst = worst_verdict(known)
    return {"verdict": worst, "sign": SIGNS[worst]}


@lru_cache(maxsize=512)
def _sheet_verdict(sha256: str, name: str) -> str | None:
    """What a kept sheet says first; it never changes, and is some megabytes long."""
    found = _SAID.search(bench.result_file(sha256, name))
    return None if found is None else found[1].decode()


def _told_assessment(row: Any) -> dict[str, Any]:
    """What the list says of a CT afterwards; a share in per cent, as on its sheet."""
    told = to_record(row)
    fill = told.fill_fraction
    return {
        "row": row,
        "told": told,
        "sheet": _sheet_name(row.result_sha256),
        "fill": "" if fill is None else f"{100 * fill:.0f} %",
    }


def _computed(lesion: Any) -> Any:
    rows = MODELS["plans"].objects.filter(lesion=lesion, plan_sha256__isnull=False)
    return next((r for r in rows.order_by("-number") if kept.holds(f"{r.plan_sha256}.zip")), None)


def _sheet_name(sha256: str | None) -> str:
    """The sheet in a kept folder, "" when there is none."""
    names = bench.result_names(sha256 or "")
    return next((n for n in SHEETS.values() if n in names), "")


@needs(roles.SEE)
@require_GET
def run(request: HttpRequest, uid: UUID, row: UUID) -> HttpResponse:
    """A simulation: its sheet, and what can be done with it."""
    lesion = case_of(request, uid)
    return _framed(request, lesion, _row(lesion, "runs", row))


@needs(roles.SEE)
@require_GET
def assessment(request: HttpRequest, uid: UUID, row: UUID) -> HttpResponse:
    """What was found on the CT afterwards, beside what was foretold."""
    lesion = case_of(request, uid)
    return _framed(request, lesion, _row(lesion, "assessments", row))


def _framed(request: HttpRequest, lesion: Any, row: Any) -> HttpResponse:
    name = _sheet_name(row.result_sha256)
    if not name:
        raise Http404
    who = request.user.get_username()
    chain.log("view", who, f"{row.table}:{row.uid}", what="sheet", sha256=row.result_sha256)
    told = {
        "lesion": lesion,
        "row": row,
        "told": to_record(row),
        "title": _run_title(row.kind) if row.table == "runs" else "",
        "verdict": _verdict(row) if row.table == "runs" else None,
        "address": reverse(
            "result-file",
            args=[lesion.uid, row.result_sha256, _spoken(name, row.result_sha256)],
        ),
        "exercise": "training.json" in bench.result_names(row.result_sha256),
        "taken": SHEETS.get(getattr(row, "kind", "")) in ("cement.html", "ablation.html"),
        "newest": bench.last_number(lesion),
    }
    return render(request, "results/sheet.html", told)


def _spoken(name: str, sha256: str) -> str:
    """The sheet in the reader's language where it was written in that, too."""
    wanted = tasks.translated(name, _language())
    return wanted if wanted in bench.result_names(sha256) else name


@needs(roles.SEE)
@require_GET
@xframe_options_sameorigin
@csp(kept.MOVING_SHEET_POLICY)
def result_file(request: HttpRequest, uid: UUID, sha256: str, name: str) -> HttpResponse:
    """A sheet of a result of this lesion, for the frame around it."""
    lesion = case_of(request, uid)
    held = [
        *MODELS["runs"].objects.filter(lesion=lesion, result_sha256=sha256),
        *MODELS["assessments"].objects.filter(lesion=lesion, result_sha256=sha256),
    ]
    if not held or not name.endswith(".html"):
        raise Http404
    return HttpResponse(bench.result_file(sha256, name))


# --- The plan's sheet -----------------------------------------------------------------------------


@needs(roles.SEE)
@require_GET
def plan_sheet(request: HttpRequest, uid: UUID, version: UUID) -> HttpResponse:
    """The sheet of a version; drawn when it is asked for the first time."""
    lesion = case_of(request, uid)
    row = _row(lesion, "plans", version)
    if not kept.holds(f"{row.plan_sha256}.zip"):
        raise Http404
    language = _language()
    who = request.user.get_username()
    if not bench.is_remembered(kinds.sheet_key(row.plan_sha256, language), "html"):
        asked = {"lesion": str(lesion.uid), "version": str(row.uid), "language": language}
        open_ = Job.objects.filter(
            kind="sheet", state__in=("waiting", "running"), parameters__version=str(row.uid),
            parameters__language=language,
        ).first()  # fmt: skip
        job = open_ or jobs.submit("sheet", asked, who)
        return redirect("lesion-job", uid=lesion.uid, job=job.uid)
    chain.log("view", who, f"plans:{row.uid}", what="sheet", sha256=row.plan_sha256)
    told = {
        "lesion": lesion,
        "row": row,
        "told": to_record(row),
        "address": reverse("plan-sheet-file", args=[lesion.uid, row.uid]),
    }
    return render(request, "results/sheet.html", told)


@needs(roles.SEE)
@require_GET
@xframe_options_sameorigin
@csp(kept.MOVING_SHEET_POLICY)
def plan_sheet_file(request: HttpRequest, uid: UUID, version: UUID) -> HttpResponse:
    """The drawn sheet, for the frame around it."""
    row = _row(case_of(request, uid), "plans", version)
    key = kinds.sheet_key(row.plan_sha256, _language())
    if not bench.is_remembered(key, "html"):
        raise Http404
    return HttpResponse(bench.remembered(key, "html", bytes))


def _language() -> str:
    return "en" if (get_language() or "en").startswith("en") else "zh-Hant"


# --- Taking a simulation over into the plan -------------------------------------------------------


@needs(roles.PLAN)
@require_POST
def take_run(request: HttpRequest, uid: UUID, row: UUID) -> HttpResponse:
    """The next version of the plan, with the cement or the ablation that was simulated."""
    lesion = case_of(request, uid)
    of = _row(lesion, "runs", row)
    last = MODELS["plans"].objects.filter(lesion=lesion).order_by("-number").first()
    seen = request.POST.get("parent", "")
    if last is None or not seen.isdigit():
        raise Http404
    old = to_record(last)
    verdict = worst_verdict((old.verdict or "unknown", of.verdict or "unknown"))
    why = gettext("Taken over from %(run)s") % {"run": of.run_id}
    try:
        if not bench.same_plan(lesion, of.plan_number, last):
            raise InputError(
                gettext("It was simulated for another needle; simulate it for this version.")
            )
        made = replace(old, **_of_run(of), parent=int(seen), verdict=verdict)
        cases.plan(lesion, made, who=request.user.get_username(), why=why, parent=int(seen))
    except (store.Conflict, InputError) as error:
        messages.error(request, str(error))
        return redirect("run", uid=lesion.uid, row=of.uid)
    return redirect("plan", uid=lesion.uid)


def _of_run(row: Any) -> dict[str, Any]:
    if row.kind == "ablation":
        return {"ablation": row.summary}
    told = json.loads(bench.result_file(row.result_sha256, "cement.json"))
    plan = told["plan"]
    return {
        "cement": plan["cement"]["name"],
        "cement_ml": kinds.down_ml(told["target_ml"]),
        "stop_ml": None if plan["stop_ml"] is None else kinds.down_ml(plan["stop_ml"]),
    }


# --- The CT afterwards ----------------------------------------------------------------------------


@needs(roles.PLAN)
@require_POST
def assess(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Ask for cement to be looked for on a CT afterwards."""
    lesion = case_of(request, uid)
    image = next((i for i in bench.images(lesion) if str(i.uid) == request.POST.get("image")), None)
    if image is None:
        raise Http404
    asked = {"lesion": str(lesion.uid), "image": str(image.uid)}
    job = jobs.submit("assess", asked, request.user.get_username())
    return redirect("lesion-job", uid=lesion.uid, job=job.uid)


# --- Work under way -------------------------------------------------------------------------------


def _jobs(lesion: Any) -> list[Job]:
    found = Job.objects.filter(kind__in=KINDS, parameters__lesion=str(lesion.uid))
    return list(found.defer("log").order_by("-pk")[:_SHOWN])


def _job(lesion: Any, uid: UUID) -> Job:
    job = Job.objects.filter(kind__in=KINDS, uid=uid, parameters__lesion=str(lesion.uid)).first()
    if job is None:
        raise Http404
    return job


def _may_change(request: HttpRequest, job: Job) -> bool:
    """Whether who asks may have such work done, and so stop it or have it done again."""
    return allowed(request, roles.MEET if job.kind == "read" else roles.PLAN)


def _told(job: Job) -> dict[str, Any]:
    """What a page says of a job, and where its result is seen."""
    result = json.loads(job.result) if job.state == "done" and job.result else {}
    lesion = job.parameters["lesion"]
    if "waiting" in result:
        later = MODELS["plans"].objects.filter(lesion__uid=lesion, number__gt=result["number"])
        if later.filter(plan_sha256=result["waiting"].partition(".")[0]).exists():
            del result["waiting"]  # it was taken
    target = ""
    if "run" in result:
        target = reverse("run", args=[lesion, result["run"]])
    elif "assessment" in result:
        target = reverse("assessment", args=[lesion, result["assessment"]])
    elif "sheet" in result:
        target = reverse("plan-sheet", args=[lesion, result["sheet"]])
    elif "image" in result or ("number" in result and "waiting" not in result):
        target = reverse("bench", args=[lesion])
    return {
        "job": job,
        "title": str(TITLES[job.kind]),
        "result": result,
        "target": target,
        "address": reverse("lesion-job", args=[lesion, job.uid]),
        "open": job.state in jobs.OPEN,
    }


@needs(roles.SEE)
@require_GET
def lesion_job(request: HttpRequest, uid: UUID, job: UUID) -> HttpResponse:
    """How far work on a lesion has come; ``?json`` for the workbench."""
    lesion = case_of(request, uid)
    one = _job(lesion, job)
    told = _told(one)
    if "json" in request.GET:
        return JsonResponse(
            {
                "state": one.state, "step": gettext(one.step) if one.step else "",
                "fraction": one.fraction, "seconds_left": one.seconds_left,
                "error": one.error, "result": told["result"], "target": told["target"],
            }
        )  # fmt: skip
    if request.headers.get("HX-Request"):
        return progress(request, one, told["address"])
    may_change = _may_change(request, one)
    there = one.kind == "read" and arrivals.wait(one.parameters["token"], str(lesion.uid))
    told |= {
        "lesion": lesion,
        "poll": told["address"],
        "newest": bench.last_number(lesion),
        "may_change": may_change,
        # What was refused is no longer here; another try could only say so.
        "helps": one.kind != "read" or there,
        "which": may_change and there and one.state == "failed",
    }
    return render(request, "results/job.html", told)


@needs(roles.PLAN, roles.MEET)
@require_POST
def cancel(request: HttpRequest, uid: UUID, job: UUID) -> HttpResponse:
    """Stop work on a lesion."""
    lesion = case_of(request, uid)
    one = _job(lesion, job)
    if not _may_change(request, one):
        raise Http404
    jobs.cancel(one)
    return redirect("results", uid=lesion.uid)


@needs(roles.PLAN, roles.MEET)
@require_POST
def again(request: HttpRequest, uid: UUID, job: UUID) -> HttpResponse:
    """The same work once more, from the plan as it is now; of a CT another series, when named."""
    lesion = case_of(request, uid)
    one = _job(lesion, job)
    if not _may_change(request, one):
        raise Http404
    parameters = dict(one.parameters)
    if one.kind == "read" and "series" in request.POST:
        parameters["series"] = request.POST["series"].strip()
    if "parent" in parameters:
        parameters["parent"] = bench.last_number(lesion)
    made = jobs.submit(one.kind, parameters, request.user.get_username())
    return redirect("lesion-job", uid=lesion.uid, job=made.uid)


@needs(roles.PLAN)
@require_POST
def take(request: HttpRequest, uid: UUID, job: UUID) -> HttpResponse:
    """A result that came after somebody else's version: make it the next one all the same."""
    lesion = case_of(request, uid)
    one = _job(lesion, job)
    result = _told(one)["result"]
    seen = request.POST.get("parent", "")
    if "waiting" not in result or not seen.isdigit():
        raise Http404
    try:
        kinds.take(
            lesion, result["waiting"], who=request.user.get_username(),
            why=one.parameters["why"], parent=int(seen),
        )  # fmt: skip
    except (store.Conflict, InputError) as error:
        messages.error(request, str(error))
        return redirect("lesion-job", uid=lesion.uid, job=one.uid)
    return redirect("bench", uid=lesion.uid)


def _row(lesion: Any, table: str, uid: UUID) -> Any:
    row = MODELS[table].objects.filter(lesion=lesion, uid=uid).first()
    if row is None:
        raise Http404
    return row


urlpatterns = [
    path("case/<uuid:uid>/results/", results, name="results"),
    path("case/<uuid:uid>/run/<uuid:row>/", run, name="run"),
    path("case/<uuid:uid>/run/<uuid:row>/take/", take_run, name="run-take"),
    path("case/<uuid:uid>/assess/", assess, name="assess"),
    path("case/<uuid:uid>/assessment/<uuid:row>/", assessment, name="assessment"),
    path("case/<uuid:uid>/result/<slug:sha256>/<str:name>", result_file, name="result-file"),
    path("case/<uuid:uid>/plan/<uuid:version>/sheet/", plan_sheet, name="plan-sheet"),
    path("case/<uuid:uid>/plan/<uuid:version>/sheet.html", plan_sheet_file, name="plan-sheet-file"),
    path("case/<uuid:uid>/job/<uuid:job>/", lesion_job, name="lesion-job"),
    path("case/<uuid:uid>/job/<uuid:job>/cancel/", cancel, name="lesion-job-cancel"),
    path("case/<uuid:uid>/job/<uuid:job>/again/", again, name="lesion-job-again"),
    path("case/<uuid:uid>/job/<uuid:job>/take/", take, name="lesion-job-take"),
]
