"""The work of minutes that a case can be given: what it needs, and what becomes of its result.

``gather`` reads rows and kept files here, ``compute`` runs anywhere (``trocar.tasks``), ``keep``
writes rows and files here. Parameters hold the lesion's ``uid`` and the number of the newest plan
version that was seen (``parent``); both are in the job's row.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import date
from math import floor
from typing import Any

from django.http import Http404
from django.utils.translation import gettext

from trocar import tasks
from trocar.errors import InputError
from trocar.model.care import Assessment
from trocar.model.course import COMPARTMENTS
from trocar.pathway import Planned
from trocar.registry import store
from trocar.registry.convert import to_record
from trocar.registry.models import MODELS
from trocar.selection.rule import first_day, last_day
from trocar.web import bench, cases, kept
from trocar.web.jobs import ADDRESS, Farmed

Parameters = Mapping[str, Any]
_EXACT = 1e-9  # 2.3 is 2.2999999999999998 to a computer


def lesion_of(parameters: Parameters) -> Any:
    """The lesion a job is about; InputError when it was taken out."""
    row = MODELS["lesions"].objects.filter(uid=parameters["lesion"]).first()
    if row is None:
        raise InputError("the lesion is no longer in the registry")
    return row


def file_of(name: str) -> tasks.File:
    """A kept file for a worker; with its bytes where the worker may be another machine."""
    place = kept.place(name)
    return tasks.File(
        place=str(place), data=place.read_bytes() if os.environ.get(ADDRESS) else None
    )


def options_of(parameters: Parameters, names: tuple[str, ...]) -> dict[str, Any]:
    """Those parameters that are the work's own, without what was left open."""
    return {n: parameters[n] for n in names if parameters.get(n) is not None}


def _image(lesion: Any, uid: str) -> Any:
    for row in bench.images(lesion):
        if str(row.uid) == uid:
            return row
    raise InputError("the image is no longer kept; add the CT once more")


def _on_plan(parameters: Parameters, *names: str) -> tasks.Asked:
    lesion = lesion_of(parameters)
    row, case = _plan_of(parameters, lesion)
    return tasks.Asked(
        scan=file_of(f"{bench.image_of(lesion, case).sha256}.ct"),
        plan=file_of(f"{row.plan_sha256}.zip"),
        options=options_of(parameters, names),
    )


def _plan_of(parameters: Parameters, lesion: Any) -> tuple[Any, Planned]:
    """The computed plan as it was seen: somebody may have made a version since."""
    found = bench.newest(lesion, parameters.get("parent"))
    if found is None:
        raise InputError("there is no plan to go on from; outline the lesion first")
    return found


def _foretold(parameters: Parameters) -> tasks.File | None:
    """The newest injection that was simulated for the plan that is gone on from."""
    lesion = lesion_of(parameters)
    return _forecast(lesion, _plan_of(parameters, lesion)[0])


def _forecast(lesion: Any, plan: Any) -> tasks.File | None:
    """The newest injection that was simulated for a version of the plan."""
    runs = MODELS["runs"].objects.filter(lesion=lesion, kind="leak forecast")
    for row in runs.order_by("-pk"):
        if not bench.same_plan(lesion, row.plan_number, plan):
            continue
        if kept.holds(f"{row.result_sha256}.zip"):
            return file_of(f"{row.result_sha256}.zip")
    return None


# --- Plans ----------------------------------------------------------------------------------------


def _gather_outline(parameters: Parameters) -> tasks.Asked:
    lesion = lesion_of(parameters)
    image = _image(lesion, parameters["image"])
    options = options_of(parameters, ("click_mm",))
    return tasks.Asked(
        scan=file_of(f"{image.sha256}.ct"),
        options=options | {"site": parameters["site"], "case_id": lesion.lesion_id},
    )


def _keep_plan(parameters: Parameters, who: str, made: tasks.Made) -> str:
    """The next version; where another made one meanwhile, the result waits to be taken."""
    lesion = lesion_of(parameters)
    name = kept.keep(made.files, "zip")
    try:
        row = take(lesion, name, who=who, why=parameters["why"], parent=parameters.get("parent"))
    except store.Conflict as clash:
        told = {"waiting": name, "number": clash.row.number, "by": clash.by}
        return json.dumps(told)
    return json.dumps({"number": row.number})


def take(lesion: Any, name: str, *, who: str, why: str, parent: int | None) -> Any:
    """Make a plan that a worker packed the lesion's next version."""
    with tasks.unpacked(tasks.File(place=str(kept.place(name)))) as folder:
        wanted = tasks.made_on(folder)
        image = next((i for i in bench.images(lesion) if bench.scan(i).sha256 == wanted), None)
        if image is None:
            raise InputError("the CT that this plan was made on is no longer kept")
        case = tasks.open_plan(bench.scan(image), folder)
    return bench.keep_made(lesion, case, kept.kept(name), who=who, why=why, parent=parent)


OUTLINE = Farmed(gather=_gather_outline, compute=tasks.outline, keep=_keep_plan)
SEARCH = Farmed(
    gather=lambda p: _on_plan(p, "count", "needles_per_lesion"),
    compute=tasks.search,
    keep=_keep_plan,
)


# --- Simulations ----------------------------------------------------------------------------------


def _keep_run(parameters: Parameters, who: str, made: tasks.Made) -> str:
    lesion = lesion_of(parameters)
    of, _ = _plan_of(parameters, lesion)
    row = bench.keep_run(lesion, made, who=who, number=of.number, summary=summary(made.told))
    return json.dumps({"run": str(row.uid)})


def down_ml(volume: float) -> float:
    """A volume not to pass, to a tenth and never rounded up.

    >>> down_ml(2.96), down_ml(2.3)
    (2.9, 2.3)
    """
    return floor(10 * volume + _EXACT) / 10


def summary(told: Mapping[str, Any]) -> str:
    """What a run found, in a sentence."""
    if told["kind"] == "ablation":
        covered = told["covered"]
        # Down, never up: 99.6 % is not all of it.
        share = "" if covered is None else f"; {floor(100 * covered)} % of the lesion dies"
        return f"{told['device']}, {told['seconds_on'] / 60:.1f} min{share}"
    if told["kind"] == "leak forecast":
        stop = "" if told["stop_ml"] is None else f"; stop at {down_ml(told['stop_ml']):.1f} ml"
        return f"{told['cement']}: {down_ml(told['target_ml']):.1f} ml planned{stop}"
    return ""


ABLATE = Farmed(
    gather=lambda p: _on_plan(
        p, "device", "place", "applicators", "seconds", "pulled_back_mm", "margin_mm"
    ),
    compute=tasks.ablate,
    keep=_keep_run,
)
INJECT = Farmed(
    gather=lambda p: _on_plan(p, "cement", "room_c", "target_ml", "needles", "runs", "seed"),
    compute=tasks.inject,
    keep=_keep_run,
)


def _gather_load(parameters: Parameters) -> tasks.Asked:
    asked = _on_plan(parameters, "weight_kg", "voxel_mm", "interval")
    return replace(asked, predicted=_foretold(parameters))


LOAD = Farmed(gather=_gather_load, compute=tasks.load, keep=_keep_run)


# --- The CT afterwards ----------------------------------------------------------------------------


_DATE = len("2026-01-05")  # of a moment


def _gather_assess(parameters: Parameters) -> tasks.Asked:
    lesion = lesion_of(parameters)
    image = _image(lesion, parameters["image"])
    treated = {**parameters, "parent": _treated(lesion, image)}
    return replace(
        _on_plan(treated),
        after=file_of(f"{image.sha256}.ct"),
        predicted=_foretold(treated),
    )


def _treated(lesion: Any, image: Any) -> int | None:
    """The version of the plan that was carried out before a CT: its forecast is what came true.

    A needle that is dragged later makes a version that nobody was treated by and that has no
    forecast. So it is the last version signed by the day of the procedure, though a later one took
    its signature since. Where none was, nobody can tell which of those made by then it was: the
    last that has a forecast.
    """
    rows = MODELS["plans"].objects.filter(lesion=lesion, plan_sha256__isnull=False)
    plans = [r for r in rows.order_by("number") if kept.holds(f"{r.plan_sha256}.zip")]
    day = _procedure_day(lesion, image)

    def by(moment: str | None) -> bool:
        return moment is not None and (day is None or first_day(moment[:_DATE]) <= day)

    def before(moment: str | None) -> bool:
        return moment is not None and day is not None and last_day(moment[:_DATE]) < day

    signed = [r for r in plans if by(r.approved_at) and not before(r.revoked_at)]
    if signed:
        return int(signed[-1].number)
    made = [r for r in plans if by(r.made_at)] or plans
    foretold = [r for r in made if _forecast(lesion, r) is not None]
    return next((int(r.number) for r in reversed(foretold or made)), None)


def _procedure_day(lesion: Any, image: Any) -> date | None:
    """The day of the last procedure before a CT, else the CT's own; None where neither is known."""
    seen = last_day(image.date) if image.date else None
    days = [last_day(p.date) for p in MODELS["procedures"].objects.filter(lesion=lesion) if p.date]
    return max((d for d in days if seen is None or d <= seen), default=seen)


# What the program measures of a row; all else there, and what differs, a person wrote.
_MEASURED = (
    "cement_ml", "cement_low_ml", "cement_high_ml", "fill_fraction", "leak_found", "compartments",
)  # fmt: skip
# Parts of the sheet that are there only where there was a forecast, or the bone was loaded.
_PARTS = (b'id="foreseen"', b'id="strength"')


def _keep_assessment(parameters: Parameters, who: str, made: tasks.Made) -> str:
    lesion = lesion_of(parameters)
    image = _image(lesion, parameters["image"])
    new = Assessment(
        lesion_id=lesion.lesion_id, date=image.date or cases.today(), image_id=image.image_id,
        read_by=who, result_sha256=kept.keep(made.files, "zip").partition(".")[0],
        note=gettext("Found by the program; to be looked at."), **_measured(made.told),
    )  # fmt: skip
    rows = MODELS["assessments"].objects.filter(lesion=lesion)
    old = rows.filter(image_id=image.image_id).first()
    old = old or rows.filter(date=new.date, image_id=None).first()
    record = new if old is None else _over(to_record(old), new)
    row = cases.save("assessments", record, who=who, why="computed", study=lesion.study, row=old)
    return json.dumps({"assessment": str(row.uid)})


def _measured(told: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that the program measures; no place is "none of them", not "not known"."""
    found = [c if c in COMPARTMENTS else "other" for c in told["compartments"]]
    fill = told["lesion_fill"]
    return {
        "cement_ml": round(told["cement_ml"], 2),
        "cement_low_ml": round(told["low_ml"], 2),
        "cement_high_ml": round(told["high_ml"], 2),
        "fill_fraction": None if fill is None else round(min(max(fill, 0.0), 1.0), 2),
        "leak_found": bool(found),
        "compartments": tuple(dict.fromkeys(found)),
    }


def _over(old: Assessment, new: Assessment) -> Assessment:
    """A new result in the place of an earlier row, without losing what was known.

    What a person wrote stands, whichever came first. So does the sheet of an earlier result that
    found the same and says more, such as what the bone bears.
    """
    was = _measured_then(old.result_sha256)
    open_ = {
        name: getattr(new, name)
        for name in (f.name for f in fields(new))
        if getattr(old, name) is None
        or (name in _MEASURED and name in was and getattr(old, name) == was[name])
    }
    if open_.get("leak_found", old.leak_found) != new.leak_found:
        open_.pop("compartments", None)  # the program's places are not those of a person's leak
    same = all(was.get(name) == getattr(new, name) for name in _MEASURED)
    if not (same and _parts(old.result_sha256) > _parts(new.result_sha256)):
        open_["result_sha256"] = new.result_sha256
    return replace(old, **open_)


def _measured_then(sha256: str | None) -> dict[str, Any]:
    """What an earlier result measured, by its own file; nothing where that is not kept."""
    try:
        told = json.loads(bench.result_file(sha256 or "", "result.json"))["fill"]
        return _measured(
            {
                "cement_ml": told["volume_ml"], "low_ml": told["low_ml"],
                "high_ml": told["high_ml"], "lesion_fill": told["lesion_fill"],
                "compartments": [leak["compartment"] for leak in told["leaks"]],
            }
        )  # fmt: skip
    except (Http404, KeyError, TypeError, ValueError):
        return {}


def _parts(sha256: str | None) -> set[bytes]:
    """Those parts of a result's sheet that not every sheet has."""
    try:
        page = bench.result_file(sha256 or "", "result.html")
    except Http404:
        return set()
    return {part for part in _PARTS if part in page}


ASSESS = Farmed(gather=_gather_assess, compute=tasks.assess, keep=_keep_assessment)


# --- Sheets ---------------------------------------------------------------------------------------


def _gather_sheet(parameters: Parameters) -> tasks.Asked:
    row = MODELS["plans"].objects.filter(uid=parameters["version"]).first()
    if row is None:
        raise InputError("this version of the plan is no longer there")
    case = bench.planned(row)
    return tasks.Asked(
        scan=file_of(f"{bench.image_of(row.lesion, case).sha256}.ct"),
        plan=file_of(f"{row.plan_sha256}.zip"),
        options={"language": parameters["language"]},
    )


def _keep_sheet(parameters: Parameters, who: str, made: tasks.Made) -> str:
    row = MODELS["plans"].objects.get(uid=parameters["version"])
    bench.remembered(sheet_key(row.plan_sha256, parameters["language"]), "html", lambda: made.files)
    return json.dumps({"sheet": str(row.uid)})


def sheet_key(plan_sha256: str, language: str) -> str:
    """By which a drawn plan sheet is remembered."""
    return f"sheet {plan_sha256} {language}"


SHEET = Farmed(gather=_gather_sheet, compute=tasks.sheet, keep=_keep_sheet)
