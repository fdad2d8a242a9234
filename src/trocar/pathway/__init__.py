"""The steps in order, on one page: select, image, plan, look, follow, audit. Read this first.

Every step is a room with the step's name. Rooms hand each other frozen records and do not know
one another; only this page knows their order::

    scan     = io.volumes.read_scan(path)                      # a CT, turned at the door
    anatomy  = imaging.bone.read_anatomy(scan.volume, site)    # bone, canal, structures at risk
    lesion   = imaging.lesion.find_lesion(...)                 # the hole, its walls, its distances
    search   = planning.trajectory.find_paths(...)             # every skin entry x target pair
    views    = simulation.fluoroscopy.needle_views(...)        # what the C-arm will show
    sheet    = report.sheet.write_plan_sheet(...)              # what is taken to the table

Heat or ice may come first (``pathway.ablation``)::

    found     = planning.ablation.plan_ablation(...)           # applicators, time, protection
    dose      = simulation.ablation.ablate_interval(...)       # what dies, how warm each nerve gets

Cement goes on from there (``pathway.cement``)::

    plan      = planning.cement.plan_cement(...)               # how much, when, when to stop
    forecast  = simulation.injection.forecast_leaks(...)       # how likely a leak is at each volume
    injection = simulation.injection.inject(...)               # where it goes, watched
    heat      = simulation.exotherm.cement_heat(...)           # how warm nerves get while it sets
    fill      = assessment.find_cement(post, ...)              # what is there on the CT afterwards

What the bone bears, before and with cement, needs no needle (``pathway.strength``)::

    strength  = simulation.strength.bone_strength(...)         # intact, now, planned, found

And over the records of a unit, lesion by lesion::

    study    = io.records.read_study(path)                     # tables a spreadsheet can edit
    decision = selection.criteria.decide(record)               # clause by clause, to be signed
    told     = followup.response(...), omed(...), ...          # pain, opioids, length of relief
    audit    = audit.summary.audit_study(study)                # what an audit lead must show
    page     = report.audit.write_audit_page(...)
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trocar.errors import InputError
from trocar.facts.products import Needle
from trocar.model.case import Finding, Gravity, Lesion, Site, gravest_first
from trocar.model.decision import Decision
from trocar.model.plan import Plan
from trocar.model.result import Anatomy, Scan, View
from trocar.model.space import Float, Labels, Mask
from trocar.model.study import Record, Study
from trocar.pathway.runs import Clock, Progress, Spans

if TYPE_CHECKING:
    from trocar.audit.summary import Audit
    from trocar.followup import Duration, LesionResponse

_STEPS = {
    "read": 0.10,
    "anatomy": 0.35,
    "lesion": 0.45,
    "search": 0.80,
    "views": 0.85,
    "sheet": 1.0,
}
_OF_THE_PLAN = ("site", "labels", "lesion", "click", "ball_mm", "case_id")
_KERNELS = ("field", "rays", "projection", "flow", "cure", "heat", "potential", "elastic")


@dataclass(frozen=True, eq=False, kw_only=True)
class Planned:
    """A whole planned case: what came in, what was read, what is proposed, what would be seen."""

    scan: Scan
    anatomy: Anatomy
    plan: Plan
    views: Mapping[int, tuple[View, View, View]]  # by option; none when read back from a folder
    skin: tuple[Any, ...] = ()  # the search's skin maps, for the sheet

    @property
    def lesion(self) -> Lesion:
        """The lesion the plan is for."""
        return self.plan.lesion


def plan_lesion(
    scan: Scan,
    site: Site,
    *,
    labels: Labels | None = None,
    lesion_mask: Mask | None = None,
    click_mm: Float | None = None,
    case_id: str = "unnamed",
    needles: tuple[Needle, ...] | None = None,
    count: int = 6,
    needles_per_lesion: int = 2,
    seed: int = 0,
    command: str = "plan_lesion",
    inputs: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Planned:
    """Where may a needle go into this lesion? One CT in memory, one lesion, every step in order.

    Give ``labels`` (regions by TotalSegmentator or VerSe names) where there are any; without them
    the classical engine reads the bone from ``click_mm``. The lesion comes from ``lesion_mask``,
    from ``click_mm`` (LPS mm, inside the lesion), or is proposed when neither is given.
    Raises InputError for what cannot be used; a lesion that no needle reaches safely is a result.
    """
    from trocar.planning.trajectory import find_paths, needle_sets

    clock, tell = Clock(command), Spans(progress)
    anatomy, lesion = read_lesion(
        scan,
        site,
        labels=labels,
        lesion_mask=lesion_mask,
        click_mm=click_mm,
        progress=tell.during("", _STEPS["read"], _STEPS["lesion"]),
    )
    ct = scan.volume.crop(scan.volume.grid.around(anatomy.grid.corners_mm))
    tell("search", _STEPS["lesion"])
    search = find_paths(
        ct,
        anatomy,
        lesion,
        needles=needles,
        count=count,
        seed=seed,
        progress=tell.during("", _STEPS["lesion"], _STEPS["search"]),
    )
    tell("views", _STEPS["search"])
    views = _views(ct, search.options)
    run = clock.run(
        inputs={scan.name: scan.sha256, **(inputs or {})},
        parameters={
            "site": str(site),
            "click_mm": None if click_mm is None else [float(v) for v in click_mm],
            "labels": "given" if labels is not None else "classical engine",
            "count": count,
            "candidates": search.candidates,
        },
        seed=seed,
    )
    plan = Plan(
        case_id=case_id,
        site=site,
        lesion=lesion,
        options=search.options,
        sets=needle_sets(search.options, needles_per_lesion),
        refusals=search.refusals,
        findings=gravest_first(
            (*scan.findings, *anatomy.findings, *lesion.findings, *search.findings)
        ),
        run=run,
    )
    return Planned(scan=scan, anatomy=anatomy, plan=plan, views=views, skin=search.skin)


def read_lesion(
    scan: Scan,
    site: Site,
    *,
    labels: Labels | None = None,
    lesion_mask: Mask | None = None,
    click_mm: Float | None = None,
    progress: Progress | None = None,
) -> tuple[Anatomy, Lesion]:
    """The bone with what lies around it, and its lesion.

    Takes and raises what ``plan_lesion`` does.
    """
    from trocar.imaging.bone import read_anatomy
    from trocar.imaging.lesion import find_lesion, propose

    tell = Spans(progress)
    ready = (_STEPS["anatomy"] - _STEPS["read"]) / (_STEPS["lesion"] - _STEPS["read"])
    anatomy = read_anatomy(
        scan.volume,
        site,
        labels=labels,
        click_mm=click_mm,
        lesion=lesion_mask,
        kvp=scan.kvp,
        progress=tell.during("", 0.0, ready),
    )
    tell("lesion", ready)
    ct = scan.volume.crop(scan.volume.grid.around(anatomy.grid.corners_mm))
    proposed = lesion_mask is None and click_mm is None
    if proposed:
        lesion_mask, note = _proposed(propose(ct, anatomy), site)
    lesion = find_lesion(ct, anatomy, click_mm=click_mm, mask=lesion_mask)
    if proposed:
        lesion = replace(lesion, found_by="proposed", findings=(note, *lesion.findings))
    return anatomy, lesion


def plan_case(
    ct: Path | str,
    *,
    site: str,
    out: Path | str,
    labels: Path | str | None = None,
    lesion: Path | str | None = None,
    click: tuple[str, tuple[float, ...]] | None = None,
    ball_mm: tuple[float, float, float, float] | None = None,
    series: str | None = None,
    case_id: str | None = None,
    language: str = "en",
    viewer: bool = True,
    count: int = 6,
    needles_per_lesion: int = 2,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Planned, dict[str, Path]]:
    """From files to a plan sheet in ``out``; nothing there is half-written if anything fails.

    ``click`` is ("lps" | "ras", mm) or ("ijk", (column, row, slice)), a point inside the lesion;
    ``ball_mm`` (LPS x, y, z, radius) stands for a lesion that cannot be outlined on the CT.
    Returns the planned case and the files by name (``sheet``, ``plan``, ``needles``, ...).
    """
    where = Site.parse(site)
    _folder(out)  # before the minutes of planning, not after
    tell = Spans(progress)
    scan, given = read_given(
        ct,
        labels=labels,
        lesion=lesion,
        click=click,
        ball_mm=ball_mm,
        series=series,
        progress=tell.during("", 0.0, _STEPS["read"]),
    )
    planned = plan_lesion(
        scan,
        where,
        **given,
        case_id=case_id or f"case {scan.sha256[:8]}",  # a file name may be somebody's name
        count=count,
        needles_per_lesion=needles_per_lesion,
        seed=seed,
        command="trocar plan",
        inputs=_input_hashes({"labels": labels, "lesion": lesion}),
        progress=progress,
    )
    files = write_case(
        out, planned, language=language, viewer=viewer, ct=ct, series=series, progress=progress
    )
    return planned, files


def read_given(
    ct: Path | str,
    *,
    labels: Path | str | None = None,
    lesion: Path | str | None = None,
    click: tuple[str, tuple[float, ...]] | None = None,
    ball_mm: tuple[float, float, float, float] | None = None,
    series: str | None = None,
    progress: Progress | None = None,
) -> tuple[Scan, dict[str, Any]]:
    """A CT from files, with the ``labels``, ``lesion_mask`` and ``click_mm`` that belong to it.

    Takes what ``plan_case`` does, and gives what ``read_lesion`` and ``plan_lesion`` take.
    """
    from trocar.io.volumes import read_labels, read_mask, read_scan

    Spans(progress)("read", 0.0)
    scan = read_scan(ct, series=series, progress=progress)
    grid = scan.volume.grid
    mask = None if lesion is None else read_mask(lesion, like=grid)
    return scan, {
        "labels": None if labels is None else read_labels(labels, like=grid),
        "lesion_mask": mask if ball_mm is None else _ball(scan, ball_mm),
        "click_mm": None if click is None else _click_mm(scan, *click),
    }


def write_case(
    out: Path | str,
    planned: Planned,
    *,
    language: str = "en",
    viewer: bool = True,
    ct: Path | str | None = None,
    series: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Path]:
    """Write the sheet and its companions into a folder: all of them, or none.

    Files are made in a hidden folder beside ``out`` and moved in when the last one is whole, so a
    cancelled run leaves an older sheet as it was. ``ct`` (and ``series``) is what the scan was read
    from: ``read_case`` looks for it there.
    """
    from trocar.io.exports import write_plan
    from trocar.io.plans import keep_plan
    from trocar.report.sheet import write_plan_sheet

    tell = Spans(progress)
    tell("sheet", _STEPS["views"])
    with staged(out) as (stage, keep):
        files = dict(write_plan(stage, planned.scan, planned.anatomy, planned.plan))
        files["sheet"] = write_plan_sheet(
            stage / "plan.html",
            scan=planned.scan,
            anatomy=planned.anatomy,
            plan=planned.plan,
            views=planned.views,
            language=language,
            viewer=viewer,
            skin=planned.skin,
        )
        files["kept"] = keep_plan(
            stage, planned.scan, planned.anatomy, planned.plan, ct=ct, series=series, home=out
        )
        moved = keep(files)
    tell("sheet", 1.0)
    return moved


def read_case(
    folder: Path | str,
    *,
    ct: Path | str | None = None,
    series: str | None = None,
    progress: Progress | None = None,
) -> Planned:
    """The planned case that ``write_case`` left in a folder, to go on from; its CT is read again.

    ``ct`` says where the CT is now, when it has moved. Views and skin maps, which only the plan's
    own sheet shows, are not kept. Raises InputError when the folder holds no whole plan, when the
    CT is not there, and when it is another one than the plan was made on.
    """
    from trocar.io.plans import read_plan
    from trocar.io.volumes import read_scan

    kept = read_plan(folder)
    there = next((p for p in kept.places if p.exists()), None) if ct is None else Path(ct)
    if there is None:
        gone = f"no longer at {kept.places[0]}" if kept.places else "in no file that it knows"
        raise InputError(f"the CT of the plan in {folder} is {gone}; say with --ct where it is")
    scan = read_scan(there, series=series or kept.series, progress=progress)
    if scan.sha256 != kept.sha256:
        raise InputError(
            f"{there} is not the CT that the plan in {folder} was made on (its content differs); "
            "give that CT with --ct, or plan again on this one"
        )
    return Planned(scan=scan, anatomy=kept.anatomy, plan=kept.plan, views={})


def seen(planned: Planned) -> Mapping[int, tuple[View, View, View]]:
    """What the C-arm would show of every needle of a planned case, by option."""
    box = planned.scan.volume.grid.around(planned.anatomy.grid.corners_mm)
    return _views(planned.scan.volume.crop(box), planned.plan.options)


def planned_from(
    source: Path | str,
    *,
    out: Path | str,
    language: str = "en",
    viewer: bool = True,
    now_at: Path | str | None = None,
    progress: Progress | None = None,
    **how: Any,
) -> tuple[Planned, dict[str, Path]]:
    """A planned case and its files: from a CT, planned into ``out``; or from the folder of a plan.

    ``how`` are the arguments of ``plan_case``; a plan has its own site, labels and lesion.
    ``now_at`` is where the CT of a plan is, when it has moved.
    """
    from trocar.planning.trajectory import needle_sets

    if not goes_on(source, how, now_at):
        return plan_case(
            source, out=out, language=language, viewer=viewer, progress=progress, **how
        )
    _folder(out)
    planned = read_case(source, ct=now_at, series=how.get("series"), progress=progress)
    if "needles_per_lesion" in how:
        sets = needle_sets(planned.plan.options, how["needles_per_lesion"])
        planned = replace(planned, plan=replace(planned.plan, sets=sets))
    return planned, {"sheet": Path(source) / "plan.html"}


def goes_on(source: Path | str, own: Mapping[str, Any], now_at: Path | str | None) -> bool:
    """Whether ``source`` is the folder of a plan, to go on from, rather than a CT.

    Raises InputError for what does not go with it: ``own`` are the arguments that say which bone
    and lesion, which a plan says itself; ``now_at`` is where the CT of a plan has moved.
    """
    from trocar.io.plans import holds_plan

    if not holds_plan(source):
        if now_at is not None:
            raise InputError(
                f"--ct says where the CT of a plan has moved, but {source} is no folder of a plan; "
                "give that folder first, or the CT alone"
            )
        return False
    if any(own.get(name) is not None for name in _OF_THE_PLAN):
        raise InputError(
            f"{source} holds a plan, which has its own site, labels, lesion and case; leave out "
            "--site, --labels, --lesion and --case, or give the CT instead of the plan"
        )
    return True


@contextmanager
def staged(
    out: Path | str,
) -> Iterator[tuple[Path, Callable[[Mapping[str, Path]], dict[str, Path]]]]:
    """A hidden folder beside ``out`` to write into, and what moves whole files from it to ``out``.

    What has not been moved when the block ends, for whatever reason, is gone. Files beside those
    given (a label map's names) move along.
    """
    folder = _folder(out)
    stage = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))

    def keep(files: Mapping[str, Path]) -> dict[str, Path]:
        folder.mkdir(exist_ok=True)
        for path in stage.iterdir():
            os.replace(path, folder / path.name)
        return {name: folder / Path(path).name for name, path in files.items()}

    try:
        yield stage, keep
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _folder(out: Path | str) -> Path:
    """The folder for the sheet; its parent is made, itself only when there is a sheet."""
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give a folder for the plan sheet")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the folder {folder.parent} cannot be made ({error.strerror}); give another --out"
        ) from error
    return folder


@dataclass(frozen=True, eq=False, kw_only=True)
class SelectedCase:
    """One lesion with the decision on it, and where its sheet is."""

    record: Record
    decision: Decision
    sheet: Path | None = None


def select_cases(
    study: Study,
    lesion_id: str | None = None,
    *,
    out: Path | str | None = None,
    language: str = "en",
) -> tuple[SelectedCase, ...]:
    """Is cementoplasty of these lesions supported? Every rule, lesion by lesion.

    With ``out`` a decision sheet of each lesion is written into that folder.
    Raises InputError when the study has no such lesion or the folder cannot be used.
    """
    from trocar.report.decision import write_decision_sheet
    from trocar.selection.criteria import decide

    records = study.records if lesion_id is None else (study.record(lesion_id),)
    folder = None if out is None else _folder(out)
    cases = []
    for record in records:
        decision = decide(record)
        sheet = None
        if folder is not None:
            folder.mkdir(exist_ok=True)
            sheet = write_decision_sheet(
                folder / f"decision-{record.lesion_id}.html",
                record,
                decision,
                language=language,
                date=_today(),
            )
        cases.append(SelectedCase(record=record, decision=decision, sheet=sheet))
    return tuple(cases)


@dataclass(frozen=True, eq=False, kw_only=True)
class FollowedLesion:
    """What became of one lesion: responses by time, opioids, how long relief lasted."""

    record: Record
    responses: Mapping[str, LesionResponse]  # by nominal time
    relief: Duration | None
    no_relief: str  # why there is no duration; "" when there is one
    walking: tuple[float | None, float | None]  # before, last

    @property
    def lesion_id(self) -> str:
        """The lesion this is about."""
        return self.record.lesion_id


def follow_cases(
    study: Study, lesion_id: str | None = None, *, opioid_table: str | None = None
) -> tuple[FollowedLesion, ...]:
    """What became of the pain, lesion by lesion, at 1 week and 1, 2 and 3 months?

    Raises InputError when the study has no such lesion or there is no such table of opioids.
    """
    from trocar.audit.tables import nominal_time
    from trocar.followup import LastInWindow, default_rule, relief_durations, responses

    records = study.records if lesion_id is None else (study.record(lesion_id),)
    times = [nominal_time(label) for label in ("Wk1", "M1", "M2", "M3")]
    found: dict[str, dict[str, LesionResponse]] = {r.lesion_id: {} for r in records}
    for time_ in times:
        # As in the audit: week 1 by its rule, later times by a score of their own window.
        rule = default_rule()
        if time_.label != "Wk1":
            rule = LastInWindow(time_.last, after_day=max(0.0, time_.first))
        for row in responses(records, rule=rule, table=opioid_table).rows:
            found[row.lesion_id][time_.label] = row
    spells = relief_durations(records)
    relief = {d.lesion_id: d for d in spells.durations}
    none = {one.lesion_id: one.reason for one in spells.left_out}
    return tuple(
        FollowedLesion(
            record=r,
            responses=found[r.lesion_id],
            relief=relief.get(r.lesion_id),
            no_relief=none.get(r.lesion_id, ""),
            walking=_walking(r),
        )
        for r in records
    )


def _walking(record: Record) -> tuple[float | None, float | None]:
    scored = [(v.day, v.walking) for v in record.course.visits if v.walking is not None]
    before = [w for day, w in scored if day <= 0]
    after = [w for day, w in scored if day > 0]
    return (before[-1] if before else None, after[-1] if after else None)


def audit_cases(
    study: Study,
    *,
    out: Path | str,
    opioid_table: str | None = None,
    suppress_below: int | None = None,
    language: str = "en",
    progress: Progress | None = None,
) -> tuple[Audit, dict[str, Path]]:
    """Audit a study and write its page and ``audit.json`` into ``out``: both, or neither.

    Raises InputError for a study without lesions or a folder that cannot be used.
    """
    from trocar.audit.summary import audit_study
    from trocar.io.exports import write_json
    from trocar.report.audit import write_audit_page

    folder = _folder(out)
    clock, tell = Clock("trocar audit"), Spans(progress)
    audited = audit_study(
        study,
        opioid_table=opioid_table,
        suppress_below=suppress_below,
        progress=lambda step, fraction: tell(step, 0.9 * fraction),
    )
    run = clock.run(
        inputs={study.info.study_id: study.sha256},
        parameters={"opioid_table": opioid_table, "suppress_below": suppress_below},
        packages=("numpy", "scipy"),
    )
    tell("page", 0.9)
    stage = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        page = write_audit_page(
            stage / "audit.html", audited, language=language, date=_today(), seconds=run.seconds
        )
        numbers = write_json(stage / "audit.json", {"run": run, "audit": audited})
        folder.mkdir(exist_ok=True)
        moved = {}
        for name, path in (("page", page), ("numbers", numbers)):
            moved[name] = folder / path.name
            os.replace(path, moved[name])
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    tell("page", 1.0)
    return audited, moved


def _today() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d")


def warm_kernels(progress: Progress | None = None) -> float:
    """Compile every kernel into Numba's cache, each in its own process; returns the seconds."""
    clock, done = time.perf_counter(), 0
    with ProcessPoolExecutor(max_workers=min(len(_KERNELS), os.cpu_count() or 1)) as pool:
        for _ in as_completed([pool.submit(_warm, name) for name in _KERNELS]):
            done += 1
            Spans(progress)("compiling", done / len(_KERNELS))
    return time.perf_counter() - clock


def _warm(name: str) -> None:
    import_module(f"trocar.kernels.{name}").warm()


def _click_mm(scan: Scan, kind: str, numbers: tuple[float, ...]) -> Float:
    """LPS mm of a click given as lps, ras or ijk (column, row, slice); it must hit the image."""
    point: Float = np.asarray(numbers, dtype=np.float64)
    grid = scan.volume.grid
    if kind == "ras":
        point = point * [-1.0, -1.0, 1.0]
    if kind == "ijk":
        point = grid.to_world(point[::-1])
    if not bool(grid.contains(point)):
        low, high = grid.corners_mm
        raise InputError(
            f"the click at {np.round(point, 1).tolist()} mm (LPS) is outside the image, which runs "
            f"from {np.round(low, 1).tolist()} to {np.round(high, 1).tolist()}; click inside it "
            "(viewers that show RAS: write ras:x,y,z)"
        )
    return point


def _ball(scan: Scan, ball_mm: tuple[float, float, float, float]) -> Mask:
    """A ball around an LPS point as a mask on the scan's grid."""
    grid = scan.volume.grid
    centre, radius_mm = _click_mm(scan, "lps", ball_mm[:3]), ball_mm[3]
    if not radius_mm > 0:
        raise InputError(f"the ball has a radius of {radius_mm} mm; give more than 0")
    box = grid.around(centre, radius_mm)
    part = grid.crop(box)
    points = part.to_world(np.indices(part.shape).transpose(1, 2, 3, 0))
    values = np.zeros(grid.shape, dtype=bool)
    values[box] = np.linalg.norm(points - centre, axis=-1) <= radius_mm
    return Mask(grid=grid, values=values)


def _proposed(candidates: tuple[Mask, ...], site: Site) -> tuple[Mask, Finding]:
    if not candidates:
        raise InputError(
            f"no lytic region stands out in {site}; click inside the lesion or give its mask"
        )
    note = Finding(
        gravity=Gravity.CAUTION,
        message="the lesion was proposed by the program ({count} candidates); confirm that it is "
        "the painful one",
        values={"count": len(candidates)},
    )
    return candidates[0], note


def _views(ct: Any, options: tuple[Any, ...]) -> dict[int, tuple[View, View, View]]:
    from trocar.simulation.fluoroscopy import needle_views

    return {i: needle_views(ct, option) for i, option in enumerate(options)}


def _input_hashes(paths: Mapping[str, Path | str | None]) -> dict[str, str]:
    from trocar.io.volumes import file_hash

    return {name: file_hash(path) for name, path in paths.items() if path is not None}
