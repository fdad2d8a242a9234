"""Strength in order: read bone and cement, load the bone in the computer, write up; a cohort."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trocar.errors import InputError
from trocar.facts.strength import LoadCase, load_case, loads, loads_for
from trocar.model.case import Finding, Lesion, Site, gravest_first
from trocar.model.result import Anatomy, Fill, Run, Scan
from trocar.model.strength import Strength
from trocar.pathway import (
    _folder,
    _input_hashes,
    goes_on,
    read_case,
    read_given,
    read_lesion,
    staged,
)
from trocar.pathway.runs import Clock, Progress, Spans, inputs_of

_STATE = {"simulated": "planned", "measured": "found"}


@dataclass(frozen=True, eq=False, kw_only=True)
class StrengthCase:
    """A bone with its lesion and what it bears: intact, as it is, with planned or found cement."""

    scan: Scan
    anatomy: Anatomy
    lesion: Lesion
    strength: Strength
    run: Run

    @property
    def told(self) -> tuple[Finding, ...]:
        """Everything that was found, the gravest first, each once.

        What was read from the CT stands before what was computed from it.
        """
        read = (*self.scan.findings, *self.anatomy.findings, *self.lesion.findings)
        every = {str(f): f for f in (*read, *self.strength.findings)}
        return gravest_first(tuple(every.values()))


def strength_of(
    scan: Scan,
    anatomy: Anatomy,
    lesion: Lesion,
    *,
    planned: Fill | None = None,
    found: Fill | None = None,
    loads: Sequence[LoadCase] | None = None,
    weight_kg: float | None = None,
    voxel_mm: float | None = None,
    interval: bool = True,
    earlier: Run | None = None,
    inputs: Mapping[str, str] | None = None,
    command: str = "strength_of",
    progress: Progress | None = None,
) -> StrengthCase:
    """How strong is this bone, and what does cement give back? One CT in memory, one lesion.

    No needle is needed. ``planned`` is a fill that was simulated, ``found`` one that was measured,
    both on ``scan``, the CT before it. ``earlier`` is the record of the step before. Raises
    InputError for cement that is not in the bone, and what ``bone_strength`` raises.
    """
    from trocar.simulation.strength import bone_strength

    clock = Clock(command)
    for fill in (planned, found):
        if fill is not None:
            _require_inside(fill, anatomy)
    strength = bone_strength(
        scan.volume, anatomy, lesion=lesion.mask, planned=planned, found=found, loads=loads,
        weight_kg=weight_kg, interval=interval, voxel_mm=voxel_mm, lesion_id=lesion.lesion_id,
        progress=progress,
    )  # fmt: skip
    return StrengthCase(
        scan=scan,
        anatomy=anatomy,
        lesion=lesion,
        strength=strength,
        run=clock.run(
            inputs=inputs_of(scan, earlier) | dict(inputs or {}),
            parameters={
                **strength.constants,
                "site": str(anatomy.site),
                "lesion": lesion.found_by,
                "states": list(strength.states),
                "loads": list(strength.loads),
                "weight_kg": "not given" if weight_kg is None else weight_kg,
                "voxel_mm": strength.voxel_mm,
                "interval": interval,
            },
        ),
    )


def strength_case(
    ct: Path | str,
    *,
    out: Path | str,
    site: str | None = None,
    labels: Path | str | None = None,
    lesion: Path | str | None = None,
    click: tuple[str, tuple[float, ...]] | None = None,
    ball_mm: tuple[float, float, float, float] | None = None,
    cement: Path | str | Sequence[Path | str] = (),
    loads: Sequence[str | LoadCase] = (),
    weight_kg: float | None = None,
    voxel_mm: float | None = None,
    interval: bool = True,
    series: str | None = None,
    now_at: Path | str | None = None,
    language: str = "en",
    viewer: bool = True,
    progress: Progress | None = None,
) -> tuple[StrengthCase, dict[str, Path]]:
    """From files to a strength sheet in ``out``; nothing there is half-written if anything fails.

    ``ct`` is the CT before the cement, or the folder of a plan, whose bone and lesion are taken
    (``now_at`` says where its CT is, when it has moved). ``cement`` names folders that ``trocar
    cement`` or ``trocar assess`` wrote, or mask files in the space of the CT. ``loads`` are names
    (``facts.strength.loads``) or load cases of your own; left out, those usual at the site.
    """
    _folder(out)  # before the reading, not after
    tell = Spans(progress)
    paths = (cement,) if isinstance(cement, (str, Path)) else tuple(cement)
    earlier: Run | None = None
    given: dict[str, str] = {}
    own = {"site": site, "labels": labels, "lesion": lesion, "click": click, "ball_mm": ball_mm}
    if goes_on(ct, own, now_at):
        plan = read_case(ct, ct=now_at, series=series, progress=tell.during("", 0.0, 0.3))
        scan, anatomy, its, earlier = plan.scan, plan.anatomy, plan.lesion, plan.plan.run
        chosen = _loads(loads, plan.plan.site)
        fills = _fills(paths, scan, plan.plan.site)
    else:
        if site is None:
            raise InputError("say which bone with site, such as L1 or 'femur left'")
        where = Site.parse(site)
        chosen = _loads(loads, where)
        scan, read = read_given(
            ct, labels=labels, lesion=lesion, click=click, ball_mm=ball_mm, series=series,
            progress=tell.during("", 0.0, 0.1),
        )  # fmt: skip
        fills = _fills(paths, scan, where)  # before the bone, which takes longer
        anatomy, its = read_lesion(scan, where, **read, progress=tell.during("", 0.1, 0.3))
        given = _input_hashes({"labels": labels, "lesion": lesion})
    case = strength_of(
        scan,
        anatomy,
        its,
        **fills,
        loads=chosen,
        weight_kg=weight_kg,
        voxel_mm=voxel_mm,
        interval=interval,
        earlier=earlier,
        inputs=given | _cement_hashes(paths),
        command="trocar strength",
        progress=tell.during("", 0.3, 0.95),
    )
    tell("sheet", 0.95)
    files = write_strength_case(out, case, language=language, viewer=viewer)
    tell("sheet", 1.0)
    return case, files


def write_strength_case(
    out: Path | str, case: StrengthCase, *, language: str = "en", viewer: bool = True
) -> dict[str, Path]:
    """Write the strength sheet and its companions into a folder: all of them, or none."""
    from trocar.io.strength import write_strength
    from trocar.report.strength import write_strength_sheet

    with staged(out) as (stage, keep):
        files = write_strength(
            stage, scan=case.scan, strength=case.strength, run=case.run, findings=case.told
        )
        files["strength sheet"] = write_strength_sheet(
            stage / "strength.html",
            scan=case.scan,
            anatomy=case.anatomy,
            lesion=case.lesion,
            strength=case.strength,
            findings=case.told,
            language=language,
            viewer=viewer,
            run=case.run,
        )
        return keep(files)


def loads_at(site: str | None = None) -> tuple[str, ...]:
    """The names of the loads usual at a site, the first that is taken first; of all, without one.

    >>> loads_at("C5")
    ('cervical_compression', 'cervical_flexion')
    """
    if site is None:
        return loads()
    where = Site.parse(site)
    return tuple(case.name for case in loads_for(where.kind, where.region))


def _loads(names: Sequence[str | LoadCase], site: Site) -> tuple[LoadCase, ...] | None:
    """Load cases by name, each one that the site can bear; None for those usual there."""
    usual = loads_for(site.kind, site.region)
    out = []
    for one in names:
        if isinstance(one, str):
            case = load_case(one)
            if not case.suits(site.kind, site.region):
                raise InputError(
                    f"{one} is no load of {site}; choose {', '.join(c.name for c in usual)}"
                )
            out.append(case)
        else:
            out.append(one)
    return tuple(out) or None


def _fills(paths: Sequence[Path | str], scan: Scan, site: Site) -> dict[str, Fill]:
    """The cement of all these paths by its state, at most one planned and one found."""
    from trocar.io.fills import read_fills

    out: dict[str, Fill] = {}
    for path in paths:
        for fill in read_fills(path, scan, site):
            state = _STATE[fill.origin]
            if state in out:
                raise InputError(
                    f"{path} is a second {state} cement; give one planned and one found at most"
                )
            out[state] = fill
    return out


def _cement_hashes(paths: Sequence[Path | str]) -> dict[str, str]:
    """A file by its own hash, a folder by that of each record of cement in it."""
    files: dict[str, Path | str | None] = {}
    for k, path in enumerate(paths):
        mark = f" {k + 1}" if k else ""
        if Path(path).is_dir():
            for name in ("cement.json", "result.json"):
                if (Path(path) / name).is_file():
                    files[f"{name}{mark}"] = Path(path) / name
        else:
            files[f"cement{mark}"] = path
    return _input_hashes(files)


def _require_inside(fill: Fill, anatomy: Anatomy) -> None:
    """That some of the cement lies in the bone; where none does, it is another's or lies wrong."""
    share = fill.fraction
    if not np.any(share.values > 0):
        return  # an injection that came to nothing, or a CT without cement
    here = share.grid.to_world(np.argwhere(share.values > 0))
    if not bool(anatomy.bone.holds(here).any()):
        state = _STATE[fill.origin]
        raise InputError(
            f"none of the {state} cement lies in {anatomy.site}; check that it is in the space of "
            "the CT before the cement"
        )


# --- many ----------------------------------------------------------------------------------------


def strengths(
    cases: Iterable[Mapping[str, Any]],
    *,
    workers: int | None = None,
    scheduler: str | None = None,
) -> Iterator[StrengthCase | str]:
    """How strong are all these bones? One outcome a case, in order; no case stops the others.

    Each case is the arguments of ``strength_case`` by name. What cannot be computed yields the
    sentence that says why. ``workers`` (processes of this machine, which share its cores; 0: this
    one) and ``scheduler`` are those of :func:`trocar.farm.run_all`.
    """
    from trocar.farm import Case, run_all

    asked = (Case(name=str(n), payload=dict(case)) for n, case in enumerate(cases))
    told: dict[int, StrengthCase | str] = {}
    due = 0
    for outcome in run_all(_of_case, asked, workers=workers, scheduler=scheduler):
        told[int(outcome.name)] = outcome.value if outcome.state == "done" else outcome.error
        while due in told:
            yield told.pop(due)
            due += 1


def _of_case(case: Mapping[str, Any], tell: Progress) -> StrengthCase:
    return strength_case(**{"progress": tell, **case})[0]
