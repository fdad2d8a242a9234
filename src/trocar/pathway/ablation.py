"""Ablation in order: place applicators, simulate heat or ice, see to the nerves, write it up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trocar.errors import InputError
from trocar.model.ablation import AblationPlan, Placed, Protection, ThermalDose
from trocar.model.case import Finding, Gravity
from trocar.model.plan import Trajectory
from trocar.model.result import Anatomy, Fill, Run
from trocar.model.space import Segment, Volume
from trocar.pathway import Planned, planned_from, staged
from trocar.pathway.cement import no_needle, used_needles
from trocar.pathway.runs import Clock, Progress, Spans, inputs_of

if TYPE_CHECKING:
    from trocar.io.unfinished import Unfinished
    from trocar.planning.ablation import AblationSearch, Alternative, Measure, Track
    from trocar.simulation.ablation import Scenario

_SUGGESTIONS = 3  # changes held against three runs before the best is believed
_ROUTES = 3  # whose best needle is looked at from all sides when several may be needed


@dataclass(frozen=True, eq=False, kw_only=True)
class AblationCase:
    """A lesion with its needles, its ablation plan, the thermal dose and the changes tried."""

    planned: Planned
    search: AblationSearch
    run: Run

    @property
    def plan(self) -> AblationPlan:
        """The ablation plan."""
        return self.search.plan

    @property
    def dose(self) -> ThermalDose:
        """What it does."""
        return self.search.dose


def ablate_lesion(
    planned: Planned,
    *,
    device: str = "osteocool_15",
    place: str = "search",
    applicators: int = 5,
    seconds: float | None = None,
    pulled_back_mm: float = 0.0,
    margin_mm: float | None = None,
    protections: Sequence[Protection] = (),
    filled: Fill | None = None,
    interval: bool = True,
    keep_in: Path | str | None = None,
    command: str = "ablate_lesion",
    progress: Progress | None = None,
) -> AblationCase:
    """How much of this planned lesion dies, and how warm or cold does every nerve get?

    With ``place`` "search" the fewest applicators (at most ``applicators``) and the shortest time
    are looked for along the needles of the plan. With "needle" the plan's best needle (or best set
    of ``applicators``) is used as it is, pulled back by ``pulled_back_mm``, for ``seconds`` or the
    device's own time. ``filled`` is cement already in place. With ``interval`` a low and a high run
    are added. Each finished run is kept in a hidden folder of ``keep_in``, where there is one, and
    read from there when this is called again after it was stopped. Raises InputError when the plan
    has no needle, for an unknown device and for a time or a place that cannot be.
    """
    from trocar.facts.ablation import applicator
    from trocar.planning import ablation as plans
    from trocar.simulation.ablation import ablate_interval

    clock, tell = Clock(command), Spans(progress)
    tool = applicator(device)
    lesion, anatomy, ct = planned.lesion.mask, planned.anatomy, planned.scan.volume
    _check(place, seconds, pulled_back_mm)
    if not planned.plan.options:
        raise no_needle(planned, "no applicator can be placed")
    count, run = [0], _Runs(planned, filled, keep_in)

    def measure(plan: AblationPlan) -> ThermalDose:
        count[0] += 1
        start = 0.9 * (1 - 0.9 ** (count[0] - 1))  # how many there will be is not known before
        end = 0.9 * (1 - 0.9 ** count[0])
        return run(
            ct, anatomy, plan, lesion=lesion, filled=filled,
            progress=tell.during("ablation", start, end),
        )  # fmt: skip

    if place == "search":
        used: tuple[Trajectory, ...] = ()  # a needle that must not go in is no track
        tracks = _tracks(planned, several=applicators > 2)
        found = plans.plan_ablation(
            anatomy, lesion, tracks, tool, measure, lesion_id=planned.lesion.lesion_id,
            margin_mm=margin_mm, most=applicators, protections=protections,
        )  # fmt: skip
    else:
        used = used_needles(planned, applicators)
        placed = [
            Placed(
                device=tool,
                path=Segment(start_mm=o.entry_mm, end_mm=o.path.at_mm(o.depth_mm - pulled_back_mm)),
                route=o.route,
            )
            for o in used
        ]
        by_hand = plans.by_hand(
            planned.plan.site, planned.lesion.lesion_id, placed, margin_mm=margin_mm,
            phases=plans.protocol(tool, seconds), protections=protections,
        )  # fmt: skip
        found = plans.AblationSearch(plan=by_hand, dose=measure(by_hand))
        others = list(plans.alternatives(found, measure))
        others += _deeper(by_hand, [o.path for o in used], pulled_back_mm, found, measure)
        found = replace(found, alternatives=tuple(others))
    if interval:
        whole = ablate_interval(
            ct, anatomy, found.plan, lesion=lesion, filled=filled,
            progress=tell.during("low and high run", 0.9, 0.98), run=run,
        )  # fmt: skip
        found = replace(found, dose=whole)
        # What is suggested is held against the same three runs as the plan itself.
        for _ in range(_SUGGESTIONS):
            best = found.suggested
            if best is None or best.dose.covered_low is not None:
                break
            again = ablate_interval(ct, anatomy, best.plan, lesion=lesion, filled=filled, run=run)
            found = replace(
                found,
                alternatives=tuple(
                    replace(a, dose=again) if a is best else a for a in found.alternatives
                ),
            )
    found = replace(found, plan=plans.judged(found.plan, found.dose, used))
    return AblationCase(
        planned=planned,
        search=found,
        run=clock.run(
            inputs=inputs_of(planned.scan, planned.plan.run),
            parameters={
                "site": str(planned.plan.site),
                "device": tool.name,
                "place": place,
                "applicators": len(found.plan.applicators),
                "seconds": found.plan.seconds,
                "pulled_back_mm": pulled_back_mm,
                "margin_mm": found.plan.margin_mm,
                "cement": "none" if filled is None else filled.origin,
                "protections": ", ".join(
                    f"{p.kind} at {p.structure}" for p in found.plan.protections
                )
                or "none",
                "runs": run.count,
                "resumed_runs": run.resumed,
                **found.dose.constants,
            },
        ),
    )


class _Runs:
    """Makes the simulated runs of a case; those that an interrupted start had finished are read."""

    def __init__(self, planned: Planned, filled: Fill | None, keep_in: Path | str | None) -> None:
        self._kept: Unfinished | None = None
        self._made = 0
        if keep_in is not None:
            from trocar.io.unfinished import Unfinished

            case = (planned.scan.sha256, planned.anatomy, planned.lesion.mask, filled)
            self._kept = Unfinished(keep_in, *case)

    @property
    def count(self) -> int:
        """How many runs there were, those that were read among them."""
        return self._made if self._kept is None else self._kept.runs

    @property
    def resumed(self) -> int:
        """How many of them were read."""
        return 0 if self._kept is None else self._kept.resumed

    def __call__(
        self, ct: Volume, anatomy: Anatomy, plan: AblationPlan, *, scenario: Scenario = "mean",
        **given: Any,
    ) -> ThermalDose:  # fmt: skip
        """As ``simulation.ablation.ablate``."""
        from trocar.simulation.ablation import ablate

        def make() -> ThermalDose:
            self._made += 1
            return ablate(ct, anatomy, plan, scenario=scenario, **given)

        if self._kept is None:
            return make()
        bare = replace(plan, rules=(), findings=())  # what was said of a plan changes no run of it
        return self._kept.once((bare, scenario), make, ThermalDose)


def _check(place: str, seconds: float | None, pulled_back_mm: float) -> None:
    if place not in ("search", "needle"):
        raise InputError(f"--place {place!r}; expected 'search' or 'needle'")
    if pulled_back_mm < 0:
        raise InputError(f"pulled back by {pulled_back_mm:g} mm; expected 0 or more")
    if place == "search" and (pulled_back_mm or seconds is not None):
        raise InputError(
            "a search finds depth and time itself; give --place needle to set them by hand"
        )


def _tracks(planned: Planned, *, several: bool) -> list[Track]:
    """The plan's needles; and where several applicators may be needed, those beside the best."""
    from trocar.planning import parallel
    from trocar.planning.ablation import Track

    safe = [o for o in planned.plan.options if o.verdict is not Gravity.STOP]
    if not safe:
        raise InputError(
            f"no needle of the plan for {planned.plan.site} may go in as it lies, so no applicator "
            "is placed along one; search for needles first"
        )
    options = list(safe)
    if several:
        seen: set[str] = set()
        for one in safe:
            if one.route not in seen and len(seen) < _ROUTES:
                seen.add(one.route)
                options += parallel.beside(planned.anatomy, planned.lesion, one)
    return [Track(path=o.path, route=o.route) for o in options]


def _deeper(
    plan: AblationPlan, tracks: Sequence[Segment], pulled_back_mm: float, found: AblationSearch,
    measure: Measure,
) -> list[Alternative]:  # fmt: skip
    """The needles as deep as planned; and with dextrose where that is not enough for a nerve."""
    from trocar.planning import ablation as plans

    forward = plans.moved_forward(plan, tracks)
    if forward is None or plans.neural_verdict(found.dose) not in ("stop", "caution"):
        return []
    change = Finding(
        gravity=Gravity.NOTE,
        message="The needle {mm:.0f} mm deeper, as planned.",
        values={"mm": pulled_back_mm},
    )
    first = plans.Alternative(change=change, plan=forward, dose=measure(forward))
    out = [first]
    names = plans.troubled(first.dose)
    if names:
        guarded, gap = plans.with_fluid(forward, names)
        both = Finding(
            gravity=Gravity.NOTE,
            message="The needle {mm:.0f} mm deeper, as planned, and dextrose 5 %, a layer of "
            "{gap:.0f} mm before {names}.",
            values={
                "mm": pulled_back_mm, "gap": gap,
                "names": ", ".join(names),
            },
        )  # fmt: skip
        out.append(plans.Alternative(change=both, plan=guarded, dose=measure(guarded)))
    return out


def ablate_case(
    ct: Path | str,
    *,
    out: Path | str,
    language: str = "en",
    viewer: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
    options: Mapping[str, Any] | None = None,
    **how: Any,
) -> tuple[AblationCase, dict[str, Path]]:
    """From files to a plan sheet and an ablation sheet in ``out``.

    ``ct`` may also be the folder of a plan: it is gone on from, and only the ablation is written.
    ``how`` are the arguments of ``pathway.planned_from``, ``options`` those of ``ablate_lesion``.
    When it is stopped, the runs that were finished stay in a hidden folder of ``out`` and are read
    at the next start.
    """
    from trocar.facts.ablation import applicator
    from trocar.io.unfinished import forget

    given = dict(options or {})
    # Before the minutes of reading, not after.
    applicator(given.get("device", "osteocool_15"))
    _check(
        given.get("place", "search"), given.get("seconds"), float(given.get("pulled_back_mm", 0.0))
    )
    tell = Spans(progress)
    planned, files = planned_from(
        ct, out=out, language=language, viewer=viewer, seed=seed,
        progress=tell.during("", 0.0, 0.5), **how,
    )  # fmt: skip
    case = ablate_lesion(
        planned, keep_in=out, command="trocar ablate", progress=tell.during("", 0.5, 0.98),
        **given,
    )  # fmt: skip
    told = write_ablation_case(out, case, language=language, viewer=viewer)
    forget(out)
    tell("sheet", 1.0)
    return case, files | told


def write_ablation_case(
    out: Path | str, case: AblationCase, *, language: str = "en", viewer: bool = True
) -> dict[str, Path]:
    """Write the ablation sheet and its companions into a folder: all of them, or none."""
    from trocar.io.ablation import write_ablation
    from trocar.report.ablation import write_ablation_sheet
    from trocar.report.words import say

    planned = case.planned
    with staged(out) as (stage, keep):
        files = write_ablation(
            stage, scan=planned.scan, plan=case.plan, dose=case.dose,
            alternatives=[
                (say(a.change, "en"), a.plan, a.dose) for a in case.search.alternatives
            ],
            run=case.run,
        )  # fmt: skip
        files["ablation sheet"] = write_ablation_sheet(
            stage / "ablation.html",
            scan=planned.scan,
            anatomy=planned.anatomy,
            lesion=planned.lesion,
            search=case.search,
            language=language,
            viewer=viewer,
            run=case.run,
        )
        return keep(files)
