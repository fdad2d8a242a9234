"""Edits of a planned case, one step at a time: a lesion outlined, corrected, needles set and moved.

Every function takes a ``Planned`` and gives the next one; nothing is changed in place and nothing
is written. What depends on an edit is made anew with it: measures of the lesion, margins, sets of
needles, findings; the record of the run says which edit it was. All of it works on a case that
``pathway.read_case`` read back.

A needle under the mouse is measured by :class:`Live`, which makes its maps once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from trocar.errors import InputError
from trocar.facts.products import Needle
from trocar.kernels import rays
from trocar.model.case import Finding, Gravity, Lesion, Site, gravest_first
from trocar.model.plan import Plan, Trajectory
from trocar.model.result import Anatomy, Scan
from trocar.model.space import Float, Labels, Mask, Segment, Volume
from trocar.pathway import Planned, read_lesion
from trocar.pathway.runs import Clock, Progress, Spans, inputs_of
from trocar.planning.by_hand import ByHand
from trocar.planning.problem import Problem, Views
from trocar.planning.routes import Route, routes_for
from trocar.planning.trajectory import (
    SkinMap,
    best_skin,
    find_paths,
    needle_sets,
    overall_findings,
    skin_maps,
    stock_for,
)

__all__ = [
    "Live",
    "outlined",
    "preferred",
    "relesioned",
    "searched",
    "skin_of",
    "skins_of",
    "with_needle",
    "without_needle",
]

_TOGETHER = 2  # needles of a set, where the plan at hand has no set to say it


# --- the lesion ----------------------------------------------------------------------------------


def outlined(
    scan: Scan,
    site: Site,
    *,
    labels: Labels | None = None,
    click_mm: Float | None = None,
    lesion_mask: Mask | None = None,
    case_id: str,
    seed: int = 0,
    progress: Progress | None = None,
) -> Planned:
    """The bone and its lesion, before any needle is looked for.

    Takes and raises what ``plan_lesion`` does. ``searched`` and ``with_needle`` go on from it.
    """
    clock = Clock("outline")
    click = None if click_mm is None else np.asarray(click_mm, dtype=np.float64)
    anatomy, lesion = read_lesion(
        scan,
        site,
        labels=labels,
        lesion_mask=lesion_mask,
        click_mm=click,
        progress=Spans(progress).during("", 0.0, 1.0),
    )
    plan = Plan(
        case_id=case_id,
        site=site,
        lesion=lesion,
        options=(),
        findings=_findings(scan, anatomy, lesion),
        run=clock.run(
            inputs={scan.name: scan.sha256},
            parameters={
                "site": str(site),
                "click_mm": None if click is None else click.tolist(),
                "labels": "given" if labels is not None else "classical engine",
            },
            seed=seed,
        ),
        searched=False,
    )
    return Planned(scan=scan, anatomy=anatomy, plan=plan, views={})


def relesioned(planned: Planned, mask: Mask) -> Planned:
    """The lesion as a person corrected it, measured again, and every needle measured against it.

    ``mask`` lies on any grid of the CT's frame. Raises InputError for a mask that is empty or does
    not touch the bone, and for a needle whose route is not one of the site's.
    """
    from trocar.imaging.lesion import find_lesion

    clock = Clock("lesion corrected")
    anatomy, plan = planned.anatomy, planned.plan
    found = find_lesion(_ct(planned), anatomy, mask=mask, lesion_id=plan.lesion.lesion_id)
    lesion = replace(found, found_by="corrected by hand")
    options: tuple[Trajectory, ...] = ()
    if plan.options:
        hand = _by_hand(replace(planned, plan=replace(plan, lesion=lesion)))
        options = tuple(
            hand.measured(o.path, o.needle, o.route, made_by=o.made_by) for o in plan.options
        )
    made = replace(
        plan,
        lesion=lesion,
        refusals=(),  # they were of the lesion as it was
        findings=_findings(planned.scan, anatomy, lesion),
        searched=plan.searched and bool(options),
    )
    told = {"edit": f"lesion corrected by hand to {lesion.volume_ml:.2f} ml"}
    # Radiographs show the needles, which are where they were; the skin map is of the old lesion.
    return _edited(replace(planned, plan=made, skin=()), options, clock, told)


# --- one needle, while it is dragged -------------------------------------------------------------


class Live:
    """A planned case made ready to measure needles: maps once, then each in milliseconds.

    ``routes`` are those of the site and ``stock`` the needles on the shelf for it, where none are
    given. What is measured equals ``planning.trajectory.score_path`` of the same needle, digit by
    digit: it is the same code on the same maps.
    """

    def __init__(
        self,
        planned: Planned,
        *,
        routes: Sequence[Route] | None = None,
        needles: Sequence[Needle] | None = None,
    ) -> None:
        rays.warm()  # what a process compiles or loads must not fall on the first needle
        self.planned = planned
        self._hand = _by_hand(planned, routes, needles)

    @property
    def routes(self) -> tuple[str, ...]:
        """The names of the routes that may be asked for."""
        return tuple(self._hand.aims)

    @property
    def stock(self) -> tuple[Needle, ...]:
        """The needles that are chosen from."""
        return self._hand.problem.stock

    def measure(
        self,
        *,
        entry_mm: Float,
        target_mm: Float,
        gauge: int | None = None,
        length_mm: float | None = None,
        route: str | None = None,
    ) -> Trajectory:
        """How good and how safe is a needle from this skin point to this tip (LPS mm)?

        Without ``gauge`` it is the thickest in stock that fits (the thinnest where none does),
        without ``length_mm`` the shortest that reaches, without ``route`` the one whose place of
        entry and corridor it fits best; the answer names all three. An unsafe needle comes back
        with verdict stop. Raises InputError for points that are no points, a needle that is not in
        stock and a route that does not lead to the site.
        """
        path = Segment(start_mm=np.asarray(entry_mm), end_mm=np.asarray(target_mm))
        shelf = self._shelf(gauge, length_mm)
        name = self._hand.route_of(path, shelf) if route is None else route
        return self._hand.fitted(path, shelf, name)

    def skin(self, route: str | None = None) -> SkinMap:
        """What :func:`skin_of` gives, from the maps that are there already."""
        return _skin(self._hand.views, route)

    def _shelf(self, gauge: int | None, length_mm: float | None) -> tuple[Needle, ...]:
        fitting = tuple(
            n for n in self.stock if gauge in (None, n.gauge) and length_mm in (None, n.length_mm)
        )
        if not fitting:
            wanted = [] if gauge is None else [f"{gauge} gauge"]
            wanted += [] if length_mm is None else [f"{length_mm:g} mm"]
            raise InputError(
                f"no needle of {' and '.join(wanted)} is in stock for {self.planned.plan.site}; "
                f"choose among: {'; '.join(str(n) for n in self.stock)}"
            )
        return fitting


def skin_of(planned: Planned, route: str | None = None) -> SkinMap:
    """Where on the skin may a needle go in, and how good is its best needle from there?

    As the search maps it for one route; without a route the best of all at each point. No point
    where the route cannot be used. ``SkinMap.verdicts`` colours it.
    """
    return _skin(_views(planned), route)


def skins_of(planned: Planned) -> tuple[SkinMap, ...]:
    """The skin maps of every route with an entry, as the search leaves them for the sheet."""
    views = _views(planned)
    return skin_maps(views, views.routes)


# --- needles of the plan -------------------------------------------------------------------------


def with_needle(planned: Planned, trajectory: Trajectory, replacing: int | None = None) -> Planned:
    """The plan with one needle more, behind the others, or with it in the place of one (from 0)."""
    clock, options = Clock("needle set"), list(planned.plan.options)
    order: list[int | None] = [*range(len(options))]
    if replacing is None:
        options.append(trajectory)
        order.append(None)
        edit = f"needle {len(options)} added"
    else:
        _there(planned, replacing)
        options[replacing], order[replacing] = trajectory, None
        edit = f"needle {replacing + 1} replaced"
    return _edited(_seen(planned, order), options, clock, {"edit": f"{edit}: {_told(trajectory)}"})


def without_needle(planned: Planned, index: int) -> Planned:
    """The plan without one of its needles (from 0)."""
    clock = Clock("needle taken out")
    _there(planned, index)
    order = [k for k in range(len(planned.plan.options)) if k != index]
    told = {"edit": f"needle {index + 1} taken out"}
    made = _edited(_seen(planned, order), _in_order(planned, order), clock, told)
    # That a person left none says nothing about the routes.
    return replace(made, plan=replace(made.plan, searched=made.plan.searched and bool(order)))


def preferred(planned: Planned, index: int) -> Planned:
    """The plan with one of its needles (from 0) as the first, the others behind it as they were."""
    clock = Clock("needle preferred")
    _there(planned, index)
    order = [index, *(k for k in range(len(planned.plan.options)) if k != index)]
    told = {"edit": f"needle {index + 1} preferred"}
    return _edited(_seen(planned, order), _in_order(planned, order), clock, told)


def searched(
    planned: Planned,
    *,
    count: int = 6,
    needles_per_lesion: int = _TOGETHER,
    seed: int | None = None,
    progress: Progress | None = None,
) -> Planned:
    """The plan with the search's ``count`` best needles beside those that a person made.

    What a person made stands first as it was, a needle that is stopped last. A proposal that is
    the same needle as one of them is left out; those of an earlier search go. ``seed`` is that of
    the plan, by which what a person made was measured, unless another is given.
    """
    clock, plan = Clock("search"), planned.plan
    if seed is None:
        seed = 0 if plan.run is None else plan.run.seed
    own = [k for k, o in enumerate(plan.options) if o.made_by == "hand"]
    kept = _in_order(planned, own)
    search = find_paths(
        _ct(planned),
        planned.anatomy,
        plan.lesion,
        count=count,
        seed=seed,
        beside=kept,
        progress=Spans(progress).during("", 0.0, 1.0),
    )
    options = [*kept, *search.options]
    order: list[int | None] = [*own, *(None for _ in search.options)]
    rank = sorted(range(len(options)), key=lambda k: options[k].verdict is Gravity.STOP)
    made = replace(
        plan,
        refusals=search.refusals,
        findings=_findings(planned.scan, planned.anatomy, plan.lesion),
        searched=True,
    )
    told = {"edit": "searched", "count": count, "candidates": search.candidates}
    return _edited(
        replace(_seen(planned, [order[k] for k in rank]), plan=made, skin=search.skin),
        [options[k] for k in rank],
        clock,
        told,
        together=needles_per_lesion,
        seed=seed,
    )


# --- what edits have in common -------------------------------------------------------------------


def _edited(
    planned: Planned,
    options: Sequence[Trajectory],
    clock: Clock,
    told: Mapping[str, Any],
    *,
    together: int | None = None,
    seed: int | None = None,
) -> Planned:
    """The case with these needles, the sets they make, and the record that tells of the edit."""
    plan, earlier = planned.plan, planned.plan.run
    before: Mapping[str, Any] = {} if earlier is None else earlier.parameters
    kept_seed = 0 if earlier is None else earlier.seed
    made = replace(
        plan,
        options=tuple(options),
        sets=needle_sets(options, together or _together(plan)),
        findings=gravest_first(plan.findings),
    )
    run = clock.run(
        inputs=inputs_of(planned.scan, earlier),
        parameters={**before, **told},
        seed=kept_seed if seed is None else seed,
    )
    return replace(planned, plan=replace(made, run=run))


def _together(plan: Plan) -> int:
    return len(plan.sets[0].members) if plan.sets else _TOGETHER


def _in_order(planned: Planned, order: Sequence[int]) -> list[Trajectory]:
    return [planned.plan.options[k] for k in order]


def _seen(planned: Planned, order: Sequence[int | None]) -> Planned:
    """The case with its needles' radiographs in a new order; None stands for a new needle."""
    views = {
        new: planned.views[old]
        for new, old in enumerate(order)
        if old is not None and old in planned.views
    }
    return replace(planned, views=views)


def _there(planned: Planned, index: int) -> None:
    count = len(planned.plan.options)
    if not 0 <= index < count:
        raise InputError(
            f"there is no needle {index} in this plan of {planned.plan.site}, which has {count} "
            "counted from 0; look at its newest version"
        )


def _told(one: Trajectory) -> str:
    entry, tip = (
        "(" + ", ".join(f"{v:.1f}" for v in point) + ")" for point in (one.entry_mm, one.target_mm)
    )
    return f"{one.route}, {one.needle}, from {entry} to {tip} mm, made by {one.made_by}"


def _findings(scan: Scan, anatomy: Anatomy, lesion: Lesion) -> tuple[Finding, ...]:
    """What holds for the whole plan, as ``plan_lesion`` gathers it."""
    general = overall_findings(anatomy, routes_for(anatomy.site))
    return gravest_first((*scan.findings, *anatomy.findings, *lesion.findings, *general))


def _ct(planned: Planned) -> Volume:
    """The CT where the anatomy was read."""
    volume = planned.scan.volume
    return volume.crop(volume.grid.around(planned.anatomy.grid.corners_mm))


def _problem(planned: Planned, needles: Sequence[Needle] | None = None) -> Problem:
    """The lesion to reach, with the plan's own seed."""
    plan = planned.plan
    return Problem.of(
        planned.anatomy,
        plan.lesion,
        stock_for(plan.site) if needles is None else needles,
        seed=0 if plan.run is None else plan.run.seed,
        ct=_ct(planned),
    )


def _by_hand(
    planned: Planned,
    routes: Sequence[Route] | None = None,
    needles: Sequence[Needle] | None = None,
) -> ByHand:
    chosen = routes_for(planned.plan.site) if routes is None else routes
    return ByHand.of(_problem(planned, needles), chosen)


def _views(planned: Planned) -> Views:
    return Views(problem=_problem(planned), routes=routes_for(planned.plan.site))


def _skin(views: Views, route: str | None) -> SkinMap:
    wanted = views.routes if route is None else (views.named(route),)
    return best_skin(skin_maps(views, wanted), route or "")
