"""Images come in: a folder or a zip, dragged or chosen; freed of names before anything is kept."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils.translation import gettext
from django.views.decorators.http import require_GET, require_POST

from trocar.errors import InputError
from trocar.io import arrival
from trocar.io.deidentify import deidentify_folder
from trocar.io.pseudonyms import Key
from trocar.io.volumes import Inspection, read_scan
from trocar.model.care import Imaging
from trocar.model.result import Scan
from trocar.registry import chain, roles
from trocar.registry.models import MODELS
from trocar.report.words import say
from trocar.web import arrivals, bench, cases, jobs
from trocar.web import work_kinds as kinds
from trocar.web.guard import case_of, needs

_COUNT = re.compile(r"[0-9]{1,5}")
PURPOSES = ("planning", "after", "diagnosis", "during", "follow-up")


@needs(roles.MEET)
@require_GET
def upload(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Where images are dragged to."""
    return render(request, "upload/upload.html", _page(case_of(request, uid)))


def _page(lesion: Any, **more: Any) -> dict[str, Any]:
    return {"lesion": lesion, "purposes": PURPOSES, "today": cases.today(), **more}


@needs(roles.MEET)
@require_POST
def begin(request: HttpRequest, uid: UUID) -> HttpResponse:
    """A place for the files of one CT, sent one after another."""
    lesion = case_of(request, uid)
    token = arrivals.begin(str(lesion.uid), request.user.get_username())
    return JsonResponse(
        {
            "file": reverse("upload-file", args=[lesion.uid, token, 0])[: -len("0/")],
            "end": reverse("upload-end", args=[lesion.uid, token]),
        }
    )


@needs(roles.MEET)
@require_POST
def receive(request: HttpRequest, uid: UUID, token: str, number: int) -> HttpResponse:
    """A file or a piece of it, as the body of the request."""
    lesion = case_of(request, uid)
    size = int(request.META.get("CONTENT_LENGTH") or 0)
    try:
        folder = arrivals.folder_of(token, str(lesion.uid), request.user.get_username())
        whole = arrivals.receive(
            folder, number, request.headers.get("X-Ending", ""), request, size=size,
            at=_bytes(request, "at", 0), of=_bytes(request, "of", size),
        )  # fmt: skip
    except arrivals.NoImage as error:  # the sender may go on without it
        return JsonResponse({"error": str(error)}, status=415)
    except InputError as error:
        return JsonResponse({"error": str(error)}, status=422)
    return JsonResponse({"whole": whole})


def _bytes(request: HttpRequest, name: str, default: int) -> int:
    told = request.GET.get(name, str(default))
    if not told.isdigit():
        raise InputError(f"{name} is {told[:20]!r}; expected a number of bytes")
    return int(told)


@needs(roles.MEET)
@require_POST
def end(request: HttpRequest, uid: UUID, token: str) -> HttpResponse:
    """All files are there: have them read."""
    lesion = case_of(request, uid)
    try:
        arrivals.folder_of(token, str(lesion.uid), request.user.get_username())
        job = _submit(request, lesion, token)
    except InputError as error:
        return JsonResponse({"error": str(error)}, status=422)
    return JsonResponse({"job": reverse("lesion-job", args=[lesion.uid, job.uid])})


@needs(roles.MEET)
@require_POST
def whole(request: HttpRequest, uid: UUID) -> HttpResponse:
    """One file by the form alone, for browsers without scripts."""
    lesion = case_of(request, uid)
    came = request.FILES.get("file")
    token = arrivals.begin(str(lesion.uid), request.user.get_username())
    try:
        if came is None:
            raise InputError(gettext("No file came; choose a zip of the CT's folder."))
        folder = arrivals.folder_of(token, str(lesion.uid))
        size = came.size or 0
        arrivals.receive(folder, 0, came.name or "", came.file, size=size, of=size)
        job = _submit(request, lesion, token)
    except InputError as error:
        arrivals.remove(token)
        told = _page(lesion, refused=str(error))
        return render(request, "upload/upload.html", told, status=422)
    return redirect("lesion-job", uid=lesion.uid, job=job.uid)


def _submit(request: HttpRequest, lesion: Any, token: str) -> Any:
    asked = arrivals.parameters_of(request.POST)
    if asked["purpose"] not in PURPOSES:
        raise InputError(gettext("Say what the CT is for."))
    if asked["date"]:
        try:
            day = date.fromisoformat(asked["date"]).isoformat()
        except ValueError:
            raise InputError(gettext("The day is none; expected such as 2026-05-31.")) from None
        if day > cases.today():
            raise InputError(gettext("The day has not come yet; give the day of the CT."))
    passed = request.POST.get("passed", "")
    told = {
        "lesion": str(lesion.uid), "token": token, **asked,
        "passed": int(passed) if _COUNT.fullmatch(passed) else 0,
    }  # fmt: skip
    return jobs.submit("read", told, request.user.get_username())


class WhichSeries(InputError):
    """The CT can be read once it is said which of its series is meant."""


def run_read(parameters: Mapping[str, Any], who: str, tell: jobs.Tell) -> str:
    """Free the images of names, read the CT, keep its voxels and its row.

    It is done on this machine and by no worker elsewhere: until then they may name a patient.
    """
    token = parameters["token"]
    came = arrivals.folder_of(token, parameters["lesion"])
    try:
        lesion = kinds.lesion_of(parameters)
        with tempfile.TemporaryDirectory(prefix="trocar-", dir=came.parent) as name:
            out = Path(name)
            read, found = _freed(came, out, tell)
            scan = _scan(read, parameters["series"], found)
            tell("keeping", 0.9)
            row = _keep(lesion, scan, parameters, who)
    except WhichSeries:  # the files wait for the answer
        raise
    except BaseException:
        arrivals.remove(token)
        raise
    arrivals.remove(token)
    chain.log("upload", who, f"images:{row.uid}", purpose=parameters["purpose"])
    lines = [*_lines(found), *(say(f, "en") for f in scan.findings)]
    told = {"image": str(row.uid), "lines": lines, "passed": parameters.get("passed", 0)}
    return json.dumps(told)


def _freed(came: Path, out: Path, tell: jobs.Tell) -> tuple[Path, Inspection]:
    """The folder of what came, freed of names, and what the import doctor says of it."""
    tell("unpacking", 0.0)
    zips = [p for p in came.iterdir() if p.suffix == ".zip"]
    if len(zips) > 1 or (zips and len(list(came.iterdir())) > 1):
        raise InputError("several files came, a zip among them; expected a folder or one zip")
    source = out / "plain"
    # A folder, too, passes the gate whole: its first pieces were as small as the sender liked.
    arrival.unpack(zips[0] if zips else came, source)
    arrival.require_ct(source)
    tell("freeing of names", 0.1)
    freed = out / "freed"
    with Key.at(arrivals.key_place()) as key:
        deidentify_folder(
            source, freed, key, progress=lambda step, f: tell("freeing of names", 0.1 + 0.4 * f)
        )
    tell("reading", 0.5)
    return freed, arrival.require_ct(freed)


def _lines(found: Inspection) -> list[str]:
    """What the import doctor says of what can be used, and what was passed over and why."""
    lines: list[str] = []
    for row in found.rows:
        # Labels cannot be given here, though the command line takes them.
        why = row.why.removesuffix("; give it as labels")
        lines += row.lines() if row.usable else [f"passed over: {row.description}: {why}"]
    return lines


def _scan(folder: Path, series: str, found: Inspection) -> Scan:
    """The CT of a folder, told without this server's paths and the command line's options."""
    try:
        return read_scan(folder, series=series or None)
    except InputError as error:
        why = str(error).replace(f" at {folder}", "").replace(" with --series", "")
        why = why.partition("; see trocar inspect")[0]
        choices = [
            f"{number}: {row.name}, {row.geometry}"
            for number, row in enumerate(found.rows, start=1)
            if row.usable and row.series_uid
        ]
        if len(choices) < (1 if series else 2):
            raise InputError(why) from error
        if "choose one" not in why:
            why += f"; choose one ({'; '.join(choices[:8])})"
        raise WhichSeries(why) from error


def _keep(lesion: Any, scan: Any, parameters: Mapping[str, Any], who: str) -> Any:
    grid = scan.volume.grid
    sha256 = bench.keep_image(scan)
    number = MODELS["images"].objects.filter(lesion=lesion).count() + 1
    while MODELS["images"].objects.filter(image_id=f"{lesion.lesion_id}-ct-{number}").exists():
        number += 1
    record = Imaging(
        image_id=f"{lesion.lesion_id}-ct-{number}", lesion_id=lesion.lesion_id, modality="CT",
        date=parameters["date"] or None, purpose=parameters["purpose"], sha256=sha256,
        slices=grid.shape[0], thickness_mm=round(grid.spacing_mm[0], 3), deidentified=True,
    )  # fmt: skip
    return cases.save("images", record, who=who, why="uploaded", study=lesion.study)


urlpatterns = [
    path("case/<uuid:uid>/upload/", upload, name="upload"),
    path("case/<uuid:uid>/upload/begin/", begin, name="upload-begin"),
    path("case/<uuid:uid>/upload/whole/", whole, name="upload-whole"),
    path("case/<uuid:uid>/upload/<slug:token>/<int:number>/", receive, name="upload-file"),
    path("case/<uuid:uid>/upload/<slug:token>/end/", end, name="upload-end"),
]
