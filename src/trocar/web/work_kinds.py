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
from math import floor
from typing import Any

from django.utils.translation import gettext

from trocar import tasks
from trocar.errors import InputError
from trocar.model.care import Assessment
from trocar.model.course import COMPARTMENTS
from trocar.pathway import Planned
from trocar.registry import store
from trocar.registry.convert import to_record
from trocar.registry.models import MODELS
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
    plan, _ = _plan_of(parameters, lesion)
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


def _gather_assess(parameters: Parameters) -> tasks.Asked:
    lesion = lesion_of(parameters)
    image = _image(lesion, parameters["image"])
    return replace(
        _on_plan(parameters),
        after=file_of(f"{image.sha256}.ct"),
        predicted=_foretold(parameters),
    )


def _keep_assessment(parameters: Parameters, who: str, made: tasks.Made) -> str:
    lesion = lesion_of(parameters)
    image = _image(lesion, parameters["image"])
    told = made.told
    found = [c if c in COMPARTMENTS else "other" for c in told["compartments"]]
    fill = told["lesion_fill"]
    record = Assessment(
        lesion_id=lesion.lesion_id, date=image.date or cases.today(), image_id=image.image_id,
        read_by=who, cement_ml=round(told["cement_ml"], 2),
        cement_low_ml=round(told["low_ml"], 2), cement_high_ml=round(told["high_ml"], 2),
        fill_fraction=None if fill is None else round(min(max(fill, 0.0), 1.0), 2),
        leak_found=bool(found), compartments=tuple(dict.fromkeys(found)) or None,
        result_sha256=kept.keep(made.files, "zip").partition(".")[0],
        note=gettext("Found by the program; to be looked at."),
    )  # fmt: skip
    rows = MODELS["assessments"].objects.filter(lesion=lesion)
    old = rows.filter(image_id=image.image_id).first()
    old = old or rows.filter(date=record.date, image_id=None).first()
    there = None if old is None else to_record(old)
    if there is not None and there.result_sha256 is None:
        # A person read it: that stands, and the program fills what was left open.
        open_ = {f.name for f in fields(record) if getattr(there, f.name) is None}
        record = replace(there, **{name: getattr(record, name) for name in open_})
    row = cases.save("assessments", record, who=who, why="computed", study=lesion.study, row=old)
    return json.dumps({"assessment": str(row.uid)})


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
