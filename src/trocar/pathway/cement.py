"""Cement in order: plan it, forecast its leaks, inject it in the computer, find it on the CT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trocar.errors import InputError
from trocar.model.case import Lesion, Site
from trocar.model.plan import CementPlan, Trajectory
from trocar.model.result import Anatomy, Fill, Injection, LeakForecast, Run, Scan
from trocar.model.space import Float, Labels, Mask, Segment
from trocar.model.strength import Strength
from trocar.pathway import (
    Planned,
    _ball,
    _click_mm,
    _folder,
    _input_hashes,
    planned_from,
    staged,
)
from trocar.pathway.runs import Clock, Progress, Spans, inputs_of

if TYPE_CHECKING:
    from trocar.assessment import FillComparison, NeedleDeviation


@dataclass(frozen=True, eq=False, kw_only=True)
class CementCase:
    """A lesion with its needles, its cement plan and what was simulated of it."""

    planned: Planned
    needles: tuple[Trajectory, ...]
    plan: CementPlan
    forecast: LeakForecast
    injection: Injection  # of the plan as it stands, its volume kept below the forecast leak
    run: Run
    strength: Strength | None = None  # what the bone bears, where that was asked for


@dataclass(frozen=True, eq=False, kw_only=True)
class AssessedCase:
    """What was found on a CT after cement, beside what was predicted if that is known."""

    post: Scan
    anatomy: Anatomy
    lesion: Lesion | None
    fill: Fill
    predicted: Fill | None
    comparison: FillComparison | None
    run: Run
    needles: tuple[NeedleDeviation, ...] = ()  # achieved beside planned, in the plan's order
    strength: Strength | None = None  # what the bone bears, where that was asked for


def cement_lesion(
    planned: Planned,
    *,
    cement: str = "medium",
    room_c: float = 22.0,
    rate_ml_s: float | None = None,
    target_ml: float | None = None,
    given_ml_this_session: float = 0.0,
    needles: int = 1,
    runs: int | None = None,
    seed: int = 0,
    command: str = "cement_lesion",
    progress: Progress | None = None,
) -> CementCase:
    """How much cement may go into this planned lesion, and what becomes of it?

    ``cement`` is a class of viscosity (``low``, ``medium``, ``high``) or a brand; ``needles`` says
    how many of the plan are used: the best one, or the best set of so many. A target above the
    forecast leak is lowered and the injection made again with it. Raises InputError when the plan
    has no needle.
    """
    from trocar.facts.cement import cement as class_of
    from trocar.planning.cement import plan_cement, with_forecast
    from trocar.simulation.exotherm import cement_heat
    from trocar.simulation.injection import forecast_leaks, inject
    from trocar.simulation.porous import read_bed

    clock, tell = Clock(command), Spans(progress)
    mix = class_of(cement)  # before the work, not after
    used = used_needles(planned, needles)
    ct, anatomy, lesion = planned.scan.volume, planned.anatomy, planned.lesion
    first = plan_cement(
        anatomy,
        lesion,
        used,
        cement=mix,
        room_c=room_c,
        rate_ml_s=rate_ml_s,
        target_ml=target_ml,
        given_ml_this_session=given_ml_this_session,
    )
    tell("bone", 0.0)
    bed = read_bed(ct, anatomy, lesion)
    forecast = forecast_leaks(
        bed, first, runs=runs, seed=seed, progress=tell.during("leak forecast", 0.05, 0.75)
    )
    injection = inject(bed, first, progress=tell.during("injection", 0.75, 0.80))
    plan = with_forecast(first, forecast, injection)
    if plan.target_ml < first.target_ml:
        injection = inject(bed, plan, progress=tell.during("injection", 0.80, 0.85))
    if injection.fill.volume_ml > 0:
        heat = cement_heat(
            ct,
            anatomy,
            injection.fill,
            lesion=lesion.mask,
            kinetics_name=mix.kinetics,
            injection_age_s=float(injection.age_s[-1]),
            progress=tell.during("heat", 0.85, 0.95),
        )
        injection = replace(injection, heat=heat)
    return CementCase(
        planned=planned,
        needles=used,
        plan=plan,
        forecast=forecast,
        injection=injection,
        run=clock.run(
            seed=seed,
            inputs=inputs_of(planned.scan, planned.plan.run),
            parameters={
                "site": str(planned.plan.site),
                "cement": mix.name,
                "room_c": room_c,
                "rate_ml_s": plan.rate_ml_s,
                "target_ml": "from the plan" if target_ml is None else target_ml,
                "given_ml_this_session": given_ml_this_session,
                "needles": [t.route for t in used],
                "runs": forecast.runs,
            },
        ),
    )


def cement_case(
    ct: Path | str,
    *,
    out: Path | str,
    language: str = "en",
    viewer: bool = True,
    seed: int = 0,
    strength: bool = False,
    progress: Progress | None = None,
    options: Mapping[str, Any] | None = None,
    **how: Any,
) -> tuple[CementCase, dict[str, Path]]:
    """From files to a plan sheet and a cement sheet in ``out``.

    ``ct`` may also be the folder of a plan: it is gone on from, and only the cement is written.
    With ``strength`` the cement sheet shows what the bone bears before and with this cement.
    ``how`` are the arguments of ``pathway.planned_from``, ``options`` those of ``cement_lesion``.
    """
    tell = Spans(progress)
    planned, files = planned_from(
        ct, out=out, language=language, viewer=viewer, seed=seed,
        progress=tell.during("", 0.0, 0.4), **how,
    )  # fmt: skip
    case = cement_lesion(
        planned, seed=seed, command="trocar cement",
        progress=tell.during("", 0.4, 0.8 if strength else 0.98), **(options or {}),
    )  # fmt: skip
    if strength:
        case = replace(
            case,
            **borne(
                case.run, planned.scan, planned.anatomy, planned.lesion,
                planned=case.injection.fill, progress=tell.during("", 0.8, 0.98),
            ),
        )  # fmt: skip
    told = write_cement(out, case, language=language, viewer=viewer)
    tell("sheet", 1.0)
    return case, files | told


def write_cement(
    out: Path | str, case: CementCase, *, language: str = "en", viewer: bool = True
) -> dict[str, Path]:
    """Write the cement sheet and its companions into a folder: all of them, or none."""
    from trocar.io.results import write_cement_plan
    from trocar.report.cement import write_cement_sheet

    planned = case.planned
    with staged(out) as (stage, keep):
        files = write_cement_plan(
            stage, plan=case.plan, injection=case.injection, forecast=case.forecast, run=case.run
        )
        files["cement sheet"] = write_cement_sheet(
            stage / "cement.html",
            scan=planned.scan,
            anatomy=planned.anatomy,
            lesion=planned.lesion,
            plan=case.plan,
            injection=case.injection,
            forecast=case.forecast,
            language=language,
            viewer=viewer,
            run=case.run,
            strength=case.strength,
        )
        return keep(files)


def assess_lesion(
    post: Scan,
    site: Site,
    *,
    pre: Scan | None = None,
    labels: Labels | None = None,
    lesion_mask: Mask | None = None,
    click_mm: Any = None,
    anatomy: Anatomy | None = None,
    lesion: Lesion | None = None,
    predicted: Fill | None = None,
    tracks: Sequence[Any] = (),
    command: str = "assess_lesion",
    inputs: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> AssessedCase:
    """How much cement is in the bone on this CT, how full is the lesion, what leaked where?

    With ``pre`` labels and lesion are those of the CT before (or its ``anatomy`` and ``lesion`` as
    read already); without, of ``post`` itself. ``predicted`` is compared with what is found.
    """
    from trocar.assessment import compare_fills, find_cement
    from trocar.imaging.bone import read_anatomy
    from trocar.imaging.lesion import find_lesion

    clock, tell = Clock(command), Spans(progress)
    image = post if pre is None else pre
    engine = (
        "read before"
        if anatomy is not None
        else "given"
        if labels is not None
        else "classical engine"
    )
    if anatomy is None:
        anatomy = read_anatomy(
            image.volume,
            site,
            labels=labels,
            click_mm=click_mm,
            lesion=lesion_mask,
            kvp=image.kvp,
            progress=tell.during("anatomy", 0.0, 0.4),
        )
    if lesion is None and (lesion_mask is not None or (click_mm is not None and pre is not None)):
        part = image.volume.crop(image.volume.grid.around(anatomy.grid.corners_mm))
        lesion = find_lesion(part, anatomy, click_mm=click_mm, mask=lesion_mask)
    tell("cement", 0.45)
    fill = find_cement(
        post.volume,
        anatomy,
        lesion=None if lesion is None else lesion.mask,
        pre=None if pre is None else pre.volume,
        lesion_id=predicted.lesion_id if predicted else (lesion.lesion_id if lesion else ""),
        needle_tracks=tuple(tracks),
    )
    tell("cement", 0.9)
    comparison = None if predicted is None else compare_fills(predicted, fill)
    given = {s.name: s.sha256 for s in (post, pre) if s is not None}
    return AssessedCase(
        post=post,
        anatomy=anatomy,
        lesion=lesion,
        fill=fill,
        predicted=predicted,
        comparison=comparison,
        run=clock.run(
            inputs=given | dict(inputs or {}),
            parameters={
                "site": str(site),
                "before": "none" if pre is None else pre.name,
                "labels": engine,
                "lesion": "none" if lesion is None else lesion.found_by,
            },
        ),
    )


def assess_case(
    post: Path | str,
    *,
    site: str,
    out: Path | str,
    pre: Path | str | None = None,
    labels: Path | str | None = None,
    lesion: Path | str | None = None,
    click: tuple[str, tuple[float, ...]] | None = None,
    ball_mm: tuple[float, float, float, float] | None = None,
    predicted: Path | str | None = None,
    achieved: Path | str | None = None,
    series: str | None = None,
    pre_series: str | None = None,
    language: str = "en",
    viewer: bool = True,
    strength: bool = False,
    progress: Progress | None = None,
) -> tuple[AssessedCase, dict[str, Path]]:
    """From files to a result sheet in ``out``; nothing there is half-written if anything fails.

    With ``strength``, a CT before and a lesion, the sheet shows what the bone bore and bears.
    ``labels``, ``lesion``, ``click`` and ``ball_mm`` belong to ``pre`` where there is one, else to
    ``post``. ``predicted`` is a folder that ``trocar cement`` wrote; ``achieved`` a Slicer markups
    file with the needles as they lie on ``post``, in the order of that plan.
    """
    from trocar.io.exports import read_needles
    from trocar.io.results import read_needles_used, read_predicted
    from trocar.io.volumes import read_labels, read_mask, read_scan
    from trocar.places import NeedleTrack

    where = Site.parse(site)
    _folder(out)  # before the minutes of reading, not after
    tell = Spans(progress)
    foreseen = None if predicted is None else read_predicted(predicted)
    tracks: tuple[NeedleTrack, ...] = ()
    if predicted is not None:
        tracks = tuple(
            NeedleTrack(path=path, diameter_mm=mm) for path, mm in read_needles_used(predicted)
        )
    if foreseen is not None and foreseen.site != where:
        raise InputError(
            f"the cement plan in {predicted} is for {foreseen.site}, not for {where}; give the "
            "plan of this lesion"
        )
    done = () if achieved is None else read_needles(achieved)
    if done and len(done) != len(tracks):
        raise InputError(
            f"{Path(str(achieved)).name} holds {len(done)} needles and the cement plan "
            f"{len(tracks)}; draw one line for each planned needle and give --predicted"
        )
    tell("read", 0.0)
    after = read_scan(post, series=series, progress=tell.during("read", 0.0, 0.1))
    before = None
    if pre is not None:
        before = read_scan(pre, series=pre_series, progress=tell.during("read", 0.1, 0.2))
    image = after if before is None else before
    grid = image.volume.grid
    label_map = None if labels is None else read_labels(labels, like=grid)
    mask = None if lesion is None else read_mask(lesion, like=grid)
    if ball_mm is not None:
        mask = _ball(image, ball_mm)
    case = assess_lesion(
        after,
        where,
        pre=before,
        labels=label_map,
        lesion_mask=mask,
        click_mm=None if click is None else _click_mm(image, *click),
        predicted=foreseen,
        tracks=tracks,
        command="trocar assess",
        inputs=_input_hashes({"labels": labels, "lesion": lesion}),
        progress=tell.during("", 0.2, 0.8 if strength else 0.9),
    )
    if done:
        case = replace(case, needles=_deviations(case.fill, [t.path for t in tracks], done))
    if strength and before is not None and case.lesion is not None:
        case = replace(
            case,
            **borne(
                case.run, before, case.anatomy, case.lesion, planned=foreseen, found=case.fill,
                progress=tell.during("", 0.8, 0.95),
            ),
        )  # fmt: skip
    files = write_result(out, case, language=language, viewer=viewer)
    tell("sheet", 1.0)
    return case, files


def write_result(
    out: Path | str, case: AssessedCase, *, language: str = "en", viewer: bool = True
) -> dict[str, Path]:
    """Write the result sheet and its companions into a folder: all of them, or none."""
    from trocar.assessment import laid_over
    from trocar.io.results import write_assessment
    from trocar.report.result import write_result_sheet

    laid = case.post
    if case.fill.registration is not None:
        frame = case.anatomy.grid.frame
        laid = replace(laid, volume=laid_over(laid.volume, case.fill.registration, frame))
    with staged(out) as (stage, keep):
        files = write_assessment(
            stage,
            post=case.post,
            fill=case.fill,
            comparison=case.comparison,
            needles=case.needles,
            run=case.run,
        )
        files["result sheet"] = write_result_sheet(
            stage / "result.html",
            post=laid,
            anatomy=case.anatomy,
            fill=case.fill,
            lesion=None if case.lesion is None else case.lesion.mask,
            predicted=case.predicted,
            comparison=case.comparison,
            needles=case.needles,
            language=language,
            viewer=viewer,
            run=case.run,
            strength=case.strength,
        )
        return keep(files)


def borne(
    run: Run,
    scan: Scan,
    anatomy: Anatomy,
    lesion: Lesion,
    *,
    planned: Fill | None = None,
    found: Fill | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """What the bone bears, for a sheet that is about cement, and the record with what was done.

    A bone that cannot be loaded leaves the sheet as it is: the record says why.
    """
    from trocar.pathway.strength import strength_of

    try:
        told = strength_of(
            scan, anatomy, lesion, planned=planned, found=found, earlier=run, progress=progress
        ).strength
        why = ", ".join(told.states)
    except InputError as error:
        told, why = None, f"not computed: {error}"
    return {"strength": told, "run": replace(run, parameters={**run.parameters, "strength": why})}


def _deviations(
    fill: Fill, planned: Sequence[Segment], achieved: Sequence[Segment]
) -> tuple[NeedleDeviation, ...]:
    """Each achieved needle, laid into the space of the plan, beside the planned one."""
    from trocar.assessment import compare_needle

    back: Float = np.eye(4)
    if fill.registration is not None:
        back = np.linalg.inv(fill.registration.transform)
    laid = [
        Segment(
            start_mm=back[:3, :3] @ s.start_mm + back[:3, 3],
            end_mm=back[:3, :3] @ s.end_mm + back[:3, 3],
        )
        for s in achieved
    ]
    return tuple(compare_needle(a, b) for a, b in zip(planned, laid, strict=True))


def no_needle(planned: Planned, therefore: str) -> InputError:
    """What to say where a plan has no needle to go on with: none is safe, or none was set yet."""
    site = planned.plan.site
    if planned.plan.searched:
        return InputError(
            f"no needle reaches the lesion in {site} safely, so {therefore}; the plan sheet says "
            "why"
        )
    return InputError(
        f"no needle is planned in {site} yet, so {therefore}; set one, or have one searched for"
    )


def used_needles(planned: Planned, count: int) -> tuple[Trajectory, ...]:
    """The best needle, or the best set of so many."""
    options = planned.plan.options
    if not options:
        raise no_needle(planned, "no cement can be planned through one")
    if count == 1:
        return (options[0],)
    for together in planned.plan.sets:
        if len(together.members) == count:
            return tuple(options[i] for i in together.members)
    raise InputError(
        f"no {count} needles can be used together in {planned.plan.site}; take one, or fewer"
    )
