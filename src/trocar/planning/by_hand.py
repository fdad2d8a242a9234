"""Needles that a person places: the maps are made once, then each needle is quick to measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trocar.facts.products import Needle
from trocar.model.plan import MadeBy, Trajectory
from trocar.model.space import Float, Segment
from trocar.planning import survey
from trocar.planning.aims import target_region
from trocar.planning.needle import beyond_image, measured, shortest, with_breach
from trocar.planning.problem import Problem, Views
from trocar.planning.routes import Route, guards_of
from trocar.planning.scene import REACH_MM
from trocar.planning.survey import Aim

_PAIR = np.zeros((1, 2), np.int64)  # the only entry with the only target
# The rules that say a needle does not go in where its route goes in.
_PLACE = (survey.WRONG_PLACE, survey.MISSES_CORRIDOR, survey.NOT_THROUGH)


@dataclass(frozen=True, eq=False, kw_only=True)
class ByHand:
    """What measuring needles by hand needs again and again, for each of some routes by name.

    ``reached`` says whether the lesion lies where the route leads.
    """

    problem: Problem
    views: Views
    aims: Mapping[str, Aim]
    reached: Mapping[str, bool]

    @classmethod
    def of(cls, problem: Problem, routes: Sequence[Route]) -> ByHand:
        """Ready for the first needle; this is what takes time."""
        views = Views(problem=problem, routes=tuple(routes))
        found = {r.name: target_region(problem, r) for r in routes}
        aims = {}
        for route in routes:
            views.of(route)
            region, part = found[route.name] or ("", problem.anatomy.bone)
            aims[route.name] = Aim(
                route=route,
                entries_mm=np.empty((0, 3)),
                targets_mm=np.empty((0, 3)),
                middle_mm=part.centroid_mm,
                region=region,
            )
            for guard in guards_of(route, problem.anatomy):
                problem.surface(guard.structure)
        reached = {name: part is not None for name, part in found.items()}
        return cls(problem=problem, views=views, aims=aims, reached=reached)

    def measured(
        self, path: Segment, needle: Needle, route: str, *, made_by: MadeBy = "hand"
    ) -> Trajectory:
        """Everything about one needle, the chances when it is misplaced among them.

        An unsafe needle comes back with verdict stop and the reasons among margins and findings.
        """
        aim = self._aim(route)
        return self._with_chances(aim, self._measured(aim, path, needle, made_by))

    def fitted(self, path: Segment, stock: Sequence[Needle], route: str) -> Trajectory:
        """The same of the thickest needle in stock that fits, in the shortest length that reaches.

        Of the thinnest where none fits. As the search chooses, by the maps; but never one that the
        exact margins stop while a thinner one would pass them.
        """
        aim = self._aim(route)
        like = stock[int(survey.thickest(self._row(aim, path, stock), aim.route, stock)[0])]
        one = self._measured(aim, path, shortest(stock, like, path.length_mm), "hand")
        room = self._room_mm(one)
        if room < like.radius_mm:
            thinner = sorted(
                (n for n in stock if n.radius_mm < like.radius_mm), key=lambda n: -n.radius_mm
            )
            like = next((n for n in thinner if n.radius_mm <= room), [like, *thinner][-1])
            one = self._measured(aim, path, shortest(stock, like, path.length_mm), "hand")
        return self._with_chances(aim, one)

    def route_of(self, path: Segment, stock: Sequence[Needle]) -> str:
        """The route whose way into the bone a needle takes.

        The one whose place of entry and corridor it keeps; then in whose directions it comes; then
        whose other rules it keeps; then by which it costs least; then the one given first.
        """
        return min(self.aims, key=lambda name: self._misfit(self.aims[name], path, stock))

    def _misfit(
        self, aim: Aim, path: Segment, stock: Sequence[Needle]
    ) -> tuple[int, float, int, float]:
        route, anatomy = aim.route, self.problem.anatomy
        alone, row = _alone(aim, path), self._row(aim, path, stock)
        thin = min(n.radius_mm for n in stock)
        broken = survey.rules(anatomy, alone, _PAIR, row, thin)
        through = self.views.of(route).through_other_bone_mm(
            _PAIR, alone.entries_mm, alone.targets_mm
        )
        broken |= survey.through_rules(route, through)
        failed = {name for name, bad in broken.items() if bad[0]}
        cosine = float(-path.direction @ route.direction(anatomy.axes))
        away = float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))
        costs = survey.cost_parts(anatomy, alone, _PAIR, row, np.array([thin]))
        return (
            len(failed.intersection(_PLACE)) + (not self.reached[route.name]),
            max(0.0, away - route.cone_deg),
            len(failed.difference(_PLACE)),
            float(sum(v[0] for v in costs.values())),
        )

    def _row(self, aim: Aim, path: Segment, stock: Sequence[Needle]) -> NDArray[np.float32]:
        """What the search's survey measures of this needle."""
        return self.views.of(aim.route).measure(
            _PAIR,
            path.start_mm[None],
            path.end_mm[None],
            corridor=aim.route.corridor,
            settle_mm=survey.settle_mm(min(n.radius_mm for n in stock)),
            ahead_mm=REACH_MM,
        )

    def _measured(self, aim: Aim, path: Segment, needle: Needle, made_by: MadeBy) -> Trajectory:
        """Everything but the chances."""
        view = self.views.of(aim.route)
        one = measured(self.problem, view, aim, path, needle, made_by=made_by)
        ends = np.stack([path.start_mm, path.end_mm])
        if not bool(np.all(self.problem.anatomy.grid.contains(ends))):
            one = replace(one, findings=(*one.findings, beyond_image()))
        return one

    def _with_chances(self, aim: Aim, one: Trajectory) -> Trajectory:
        return with_breach(self.problem, self.views.of(aim.route), aim.route, one)

    def _room_mm(self, one: Trajectory) -> float:
        """How thick (as a radius) a needle may be in this one's place by its exact margins."""
        spare = [
            m.distance_mm - m.required_mm
            for m in one.margins
            if m.structure in self.problem.anatomy.structures
        ]
        return one.needle.radius_mm + min(spare, default=float("inf"))

    def _aim(self, route: str) -> Aim:
        return self.aims[self.views.named(route).name]


def _alone(aim: Aim, path: Segment) -> Aim:
    """The aim with one needle."""
    points: Float = np.stack([path.start_mm, path.end_mm])
    return replace(aim, entries_mm=points[:1], targets_mm=points[1:])
