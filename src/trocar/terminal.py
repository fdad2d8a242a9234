"""What a person reads on the terminal: the gravest first, in few lines; and the bar meanwhile."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trocar import NOTICE, __version__
from trocar.errors import TrocarError

if TYPE_CHECKING:
    from trocar.model.strength import Bearing, Spread
    from trocar.pathway import Planned
    from trocar.pathway.ablation import AblationCase
    from trocar.pathway.cement import AssessedCase, CementCase
    from trocar.pathway.strength import StrengthCase


@contextmanager
def progress(
    quiet: bool, stopped: str = "nothing was changed"
) -> Iterator[Callable[[str, float], None]]:
    """A bar with the step's name and the time left, on a terminal; silence elsewhere.

    ``stopped`` is said when somebody stops it by hand.
    """
    try:
        with _bar(quiet) as tell:
            yield tell
    except KeyboardInterrupt:
        raise TrocarError(f"stopped; {stopped}") from None


@contextmanager
def _bar(quiet: bool) -> Iterator[Callable[[str, float], None]]:
    if quiet or not sys.stderr.isatty():
        yield lambda step, fraction: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<18}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("starting", total=1.0)
        yield lambda step, fraction: bars.update(task, description=step, completed=fraction)


def part(
    tell: Callable[[str, float], None], start: float, end: float
) -> Callable[[str, float], None]:
    """A listener for a part of the work, whose own 0 to 1 becomes its span of the whole."""
    return lambda step, fraction: tell(step, start + (end - start) * min(max(fraction, 0.0), 1.0))


def say_unfinished(out: Path) -> None:
    """That an earlier start left finished runs, where it did."""
    from trocar.io.unfinished import kept_runs

    kept = kept_runs(out)
    if kept:
        runs = "1 finished run" if kept == 1 else f"{kept} finished runs"
        print(f"goes on: {runs} of an earlier start; what fits is not made again", file=sys.stderr)


def say_planned(
    planned: Planned,
    files: dict[str, Path],
    as_json: bool,
    cement: tuple[CementCase | None, AssessedCase | None] = (None, None),
    ablation: AblationCase | None = None,
    strength: StrengthCase | None = None,
) -> None:
    """Tell what was found: the gravest first, then the best needle, then where the sheet is."""
    plan = planned.plan
    case, assessed = cement
    if as_json:
        told = _summary(planned, files)
        if ablation is not None:
            told["ablation"] = _ablation_summary(ablation)
        if case is not None:
            told["cement"] = _cement_summary(case)
        if assessed is not None:
            told["assessment"] = assessed_summary(assessed, {})["fill"]
        if strength is not None:
            told["strength"] = strength_summary(strength, {})["strength"]
        print(json.dumps(told, indent=1))
        return
    for finding in plan.findings:
        if finding.gravity != "note":
            print(f"{finding.gravity.value.upper():8}{finding}")
    lesion = plan.lesion
    kind = "of unknown kind" if lesion.kind == "unknown" else lesion.kind
    print(f"lesion  {lesion.volume_ml:.1f} ml {kind} in {plan.site}, {lesion.found_by}")
    best = plan.best
    if best is None:
        print("needle  none is safe:")
        for refusal in plan.refusals:
            print(f"        {refusal.route}: {refusal.reason}")
    else:
        worst = best.worst
        near = ""
        if worst is not None:
            name = worst.structure.replace("_", " ")
            near = f", tightest {name} {worst.distance_mm:.1f} mm"
        print(f"needle  {best.route}, {best.needle}, depth {best.depth_mm:.0f} mm{near}")
        stops = sum(o.verdict == "stop" for o in plan.options)
        apart = f", {stops} of them to be stopped by what is not known" if stops else ""
        refused = len(plan.refusals)
        routes = "1 route" if refused == 1 else f"{refused} routes"
        print(f"        {len(plan.options)} options{apart}; {routes} refused")
        if planned.anatomy.missing:
            names = ", ".join(m.replace("_", " ") for m in planned.anatomy.missing)
            print(f"        not identified, so not kept away from: {names}")
    print(f"sheet   {files['sheet']}")
    if ablation is not None:
        _say_ablation(ablation)
        print(f"sheet   {files['ablation sheet']}")
    if case is not None:
        _say_cement(case)
        print(f"sheet   {files['cement sheet']}")
    if assessed is not None:
        say_assessed(assessed)
        print(f"sheet   {files['result sheet']}")
    if strength is not None:
        say_strength(strength, own=True)
        print(f"sheet   {files['strength sheet']}")
    print(NOTICE)


def _say_cement(case: CementCase) -> None:
    """Rules that do not pass, the worst first; how much and when; what was simulated."""
    from trocar.report.words import say

    plan, injection = case.plan, case.injection
    order = ("stop", "unknown", "caution")
    for verdict in order:
        for rule in plan.rules:
            if rule.verdict == verdict:
                print(f"{verdict.upper():8}{say(rule.finding, 'en')}")
    heat = injection.heat
    for finding in (*injection.findings, *(heat.findings if heat else ())):
        if finding.gravity != "note":
            print(f"{finding.gravity.value.upper():8}{say(finding, 'en')}")
    stop = "no volume is called safe" if plan.stop_ml is None else f"not past {plan.stop_ml:.1f} ml"
    print(
        f"cement  {plan.target_ml:.1f} ml of {plan.cement.name} "
        f"({plan.low_ml:.1f} to {plan.high_ml:.1f}), {stop}"
    )
    print(
        f"        {plan.start_s / 60:.1f} to {plan.latest_s / 60:.1f} minutes after mixing, "
        f"{plan.rate_ml_s:g} ml/s, at most {max(injection.syringe_pa, default=0.0) / 1e6:.1f} MPa"
    )
    filled = injection.fill
    lesion = "" if filled.lesion_fill is None else f", lesion {100 * filled.lesion_fill:.0f} % full"
    outside = f"{filled.leaked_ml:.2f} ml outside"
    print(f"        simulated: {filled.volume_ml:.1f} ml in, {outside}{lesion}")


def _say_ablation(case: AblationCase) -> None:
    """The gravest first; then what, how long, what dies; then what a change would do."""
    from trocar.model.case import gravest_first
    from trocar.report.words import say

    plan, dose = case.plan, case.dose
    told = [f for f in (*dose.findings, *(r.finding for r in plan.rules)) if f.gravity != "note"]
    lines = [f"{f.gravity.value.upper():8}{say(f, 'en')}" for f in gravest_first(tuple(told))]
    for line in dict.fromkeys(lines):
        print(line)
    device = plan.applicators[0].device.name
    how = "heat" if plan.heats else "freeze, thaw, freeze"
    print(f"ablate  {len(plan.applicators)} x {device}, {how}, {plan.seconds / 60:.1f} minutes")
    for number, one in enumerate(plan.applicators, start=1):
        print(f"        {number}: {one.route}, tip at {one.path.length_mm:.0f} mm from the skin")
    covered = (
        "" if dose.lesion_covered is None else f", {100 * dose.lesion_covered:.0f} % of lesion"
    )
    print(f"        simulated: {dose.dead_ml:.1f} ml die{covered}")
    runs, resumed = case.run.parameters["runs"], case.run.parameters["resumed_runs"]
    if resumed:
        print(f"        {resumed} of the {runs} simulated runs were already done")
    for other in case.search.alternatives:
        print(f"try     {say(other.change, 'en')} At the nerves then: {other.verdict}")


def say_assessed(case: AssessedCase) -> None:
    """What is on the CT afterwards, the worst first, and beside what was foreseen."""
    from trocar.io.results import summary_lines

    for line in summary_lines(case.fill):
        print(line)
    c = case.comparison
    if c is not None:
        overlap = "" if c.dice is None else f", overlap {c.dice:.2f}"
        hit, missed = (", ".join(names) or "none" for names in (c.hit, c.missed))
        print(f"foreseen {c.predicted_ml:.1f} ml{overlap}; leaks hit: {hit}; missed: {missed}")


def say_strength(case: StrengthCase, *, own: bool = False) -> None:
    """The gravest first; then, load by load, what the bone bears in each state.

    With ``own`` only what strength itself found; the rest has been said.
    """
    from trocar.report.words import say

    strength = case.strength
    for finding in strength.findings if own else case.told:
        if finding.gravity != "note":
            print(f"{finding.gravity.value.upper():8}{say(finding, 'en')}")
    print(f"strength of {strength.site}, cubes of {strength.voxel_mm:g} mm, {strength.law}")
    for load in strength.loads:
        rows = [strength.bearing(state, load) for state in strength.states]
        unit = "N mm" if rows[0].stiffness_n_mm is None else "N"  # a moment alone
        print(f"load    {rows[0].label}, {_span(rows[0].load_n, '.0f')} {unit}")
        print(f"        {'':9}{'bears ' + unit:24}{'load/strength':24}of intact")
        for one in rows:
            print(f"        {_row(one)}".rstrip())
    now = strength.bearing("now")
    print(f"weakest {now.weakest_in.replace('_', ' ')}, as it is under {now.label}")
    if strength.unknown:
        print("unknown " + ", ".join(strength.unknown))


def _row(one: Bearing) -> str:
    bears, ratio = _span(one.failure_n[one.criterion], ".0f"), _span(one.ratio, ".2f")
    intact = "" if one.of_intact is None else _span(one.of_intact, ".0%")
    return f"{one.state:9}{bears:24}{ratio:24}{intact}"


def _span(of: Spread, form: str) -> str:
    """A mean and, where there is one, its interval."""
    low, mean, high = (format(v, form) for v in (of.low, of.mean, of.high))
    return mean if low == high else f"{mean} ({low} to {high})"


def strength_summary(case: StrengthCase, files: dict[str, Path]) -> dict[str, Any]:
    """A strength as one object for machines."""
    from trocar.io.exports import plain

    strength = case.strength
    return {
        "notice": NOTICE,
        "version": __version__,
        "site": str(strength.site),
        "strength": {
            "states": list(strength.states),
            "bearings": [plain(b) | {"criterion": b.criterion} for b in strength.bearings],
            "law": strength.law,
            "calibration": strength.calibration,
            "voxel_mm": strength.voxel_mm,
            "unknown": list(strength.unknown),
            "findings": [{"gravity": f.gravity.value, "text": str(f)} for f in strength.findings],
        },
        "findings": [{"gravity": f.gravity.value, "text": str(f)} for f in case.told],
        "files": {name: str(path) for name, path in files.items()},
    }


def _summary(planned: Planned, files: dict[str, Path]) -> dict[str, Any]:
    from trocar.io.exports import plain

    best = planned.plan.best
    return {
        "notice": NOTICE,
        "version": __version__,
        "site": str(planned.plan.site),
        "lesion_ml": planned.lesion.volume_ml,
        "options": len(planned.plan.options),
        "best": None if best is None else plain(best),
        "findings": [{"gravity": f.gravity.value, "text": str(f)} for f in planned.plan.findings],
        "refusals": [{"route": r.route, "reason": r.reason} for r in planned.plan.refusals],
        "files": {name: str(path) for name, path in files.items()},
    }


def _cement_summary(case: CementCase) -> dict[str, Any]:
    from trocar.io.exports import plain

    plan = case.plan
    return {
        "target_ml": plan.target_ml,
        "low_ml": plan.low_ml,
        "high_ml": plan.high_ml,
        "stop_ml": plan.stop_ml,
        "verdict": plan.verdict,
        "rules": [
            {"rule": r.rule, "verdict": r.verdict, "text": str(r.finding), "source": r.source}
            for r in plan.rules
        ],
        "injected_ml": case.injection.fill.volume_ml,
        "stopped_by": case.injection.stopped_by,
        "leaks": plain(case.injection.fill.leaks),
    }


def _ablation_summary(case: AblationCase) -> dict[str, Any]:
    from trocar.io.exports import plain

    plan, dose = case.plan, case.dose
    return {
        "device": plan.applicators[0].device.name,
        "applicators": len(plan.applicators),
        "seconds": plan.seconds,
        "verdict": dose.verdict,
        "dead_ml": dose.dead_ml,
        "lesion_covered": dose.lesion_covered,
        "min_margin_mm": dose.min_margin_mm,
        "structures": [
            {
                "structure": s.structure,
                "verdict": s.verdict,
                "peak_c": s.peak_c,
                "lowest_c": s.lowest_c,
                "cem43_min": s.cem43_min,
                "distance_mm": plain(s.distance_mm),
            }
            for s in dose.structures
        ],
        "unknown": list(dose.unknown),
        "findings": [{"gravity": f.gravity.value, "text": str(f)} for f in dose.findings],
    }


def assessed_summary(case: AssessedCase, files: dict[str, Path]) -> dict[str, Any]:
    """An assessment as one object for machines."""
    from trocar.io.exports import plain

    return {
        "notice": NOTICE,
        "version": __version__,
        "fill": plain(case.fill),
        "comparison": plain(case.comparison),
        "files": {name: str(path) for name, path in files.items()},
    }
