"""Where the needle goes in: search every path, keep the safe ones, say why each or why none.

``find_paths`` looks at every skin entry x target pair of every route. ``score_path`` measures one
needle made by hand with the same code. The margins printed are exact on the CT's own label voxels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trocar.errors import InputError
from trocar.facts.products import Needle
from trocar.facts.source import load
from trocar.kernels import rays
from trocar.model.case import Finding, Gravity, Lesion
from trocar.model.plan import Refusal, Trajectory
from trocar.model.result import Anatomy
from trocar.model.space import Float, Segment, Volume
from trocar.planning.aims import aims, no_skin, refuse_at_once
from trocar.planning.by_hand import ByHand
from trocar.planning.needle import measured, not_seen, shortest, with_breach
from trocar.planning.problem import Problem, Views, stock_for
from trocar.planning.routes import Route, routes_for
from trocar.planning.scene import Scene
from trocar.planning.sets import needle_sets
from trocar.planning.survey import Survey, survey
from trocar.planning.words import explain

__all__ = [
    "PathSearch",
    "SkinMap",
    "best_skin",
    "find_paths",
    "needle_sets",
    "overall_findings",
    "same_needle",
    "score_path",
    "skin_maps",
    "stock_for",
]

Progress = Callable[[str, float], None]

_TRIES = 60  # best candidates of a route measured exactly before the route is given up
_NEIGHBOUR_MM = 2.0  # a needle this near to one that failed the exact measurement is not tried


@dataclass(frozen=True, eq=False, kw_only=True)
class SkinMap:
    """How good each skin point is as an entry for one route: its best needle over all targets.

    ``cost`` and ``slack_mm`` (most room beyond the tightest limit) are nan where no needle from
    that point is allowed.
    """

    route: str
    points_mm: Float
    cost: Float
    slack_mm: Float

    @property
    def verdicts(self) -> NDArray[np.str_]:
        """For each point stop (no needle allowed), caution (little room) or ok.

        There is room where the best leaves the comfort of ``facts/routes.toml`` beyond every limit
        to a structure; how near the bone's own walls are is known of a needle, not of a point.
        """
        roomy = self.slack_mm >= float(load("routes")["margin_comfort"])
        allowed = np.isfinite(self.cost)
        return np.where(allowed, np.where(roomy, "ok", "caution"), "stop")


@dataclass(frozen=True, eq=False, kw_only=True)
class PathSearch:
    """What the search found: needles best first, and a refusal for each route without one.

    ``candidates`` is how many paths were looked at, ``looked_at`` how many of each route.
    """

    options: tuple[Trajectory, ...]
    refusals: tuple[Refusal, ...]
    findings: tuple[Finding, ...]
    candidates: int
    skin: tuple[SkinMap, ...] = ()
    looked_at: Mapping[str, int] = field(default_factory=dict)


def find_paths(
    ct: Volume,
    anatomy: Anatomy,
    lesion: Lesion,
    *,
    routes: Sequence[Route] | None = None,
    needles: Sequence[Needle] | None = None,
    count: int = 6,
    seed: int = 0,
    progress: Progress | None = None,
    accept_unknown: Sequence[str] = (),
    beside: Sequence[Trajectory] = (),
) -> PathSearch:
    """Which needles reach the lesion safely, and why is there none where there is none?

    ``routes`` default to those of the site, ``needles`` to the stock for it; ``count`` is how many
    distinct proposals to return, none the same as one of ``beside``. A canal or nerve that was not
    identified makes every needle of a route that must avoid it a stop, unless its name is in
    ``accept_unknown``.
    """
    chosen = tuple(routes_for(anatomy.site) if routes is None else routes)
    stock = tuple(stock_for(anatomy.site) if needles is None else needles)
    _check(chosen, stock, count)
    tell = progress or (lambda step, fraction: None)
    problem = Problem.of(anatomy, lesion, stock, seed=seed, accepted=accept_unknown, ct=ct)
    surveys, refusals = _survey_all(Views(problem=problem, routes=chosen), chosen, tell)
    found: list[list[Trajectory]] = []
    for k, (view, seen) in enumerate(surveys):
        tell("measuring the best needles", k / len(surveys))
        most = max(2, -(-(count + len(beside)) // len(surveys)))
        best, refusal = _best_of(problem, view, seen, most)
        found.append(best)
        refusals += [refusal] if refusal else []
    options = _with_breach(problem, surveys, _pick(found, count, beside))
    tell("measuring the best needles", 1.0)
    looked = {s.aim.route.name: s.aim.candidates for _, s in surveys}
    order = [r.name for r in chosen]
    return PathSearch(
        options=options,
        refusals=tuple(sorted(refusals, key=lambda r: order.index(r.route))),
        findings=overall_findings(anatomy, chosen),
        candidates=sum(looked.values()),
        skin=tuple(_skin_map(s, stock) for _, s in surveys),
        looked_at=looked,
    )


def skin_maps(views: Views, routes: Sequence[Route]) -> tuple[SkinMap, ...]:
    """The skin maps that ``find_paths`` gives, alone; none of a route that has no entry."""
    surveys, _ = _survey_all(views, routes, lambda step, fraction: None)
    return tuple(_skin_map(s, views.problem.stock) for _, s in surveys)


def best_skin(maps: Sequence[SkinMap], route: str = "") -> SkinMap:
    """Some skin maps as one, by the name ``route``: at each point the best needle of all of them.

    Routes see the same skin through the same voxels, so points a micrometre apart are one.
    """
    points = np.concatenate([np.empty((0, 3)), *(m.points_mm for m in maps)])
    _, first, where = np.unique(np.round(points, 3), axis=0, return_index=True, return_inverse=True)
    cost, slack = np.full(len(first), np.inf), np.full(len(first), -np.inf)
    for values, least, put in (("cost", cost, np.fmin), ("slack_mm", slack, np.fmax)):
        each = np.concatenate([np.empty(0), *(getattr(m, values) for m in maps)])
        put.at(least, where.reshape(-1), each)
        least[~np.isfinite(least)] = np.nan
    return SkinMap(route=route, points_mm=points[first], cost=cost, slack_mm=slack)


def score_path(
    anatomy: Anatomy,
    lesion: Lesion,
    *,
    entry_mm: Float,
    target_mm: Float,
    needle: Needle,
    route: Route,
    seed: int = 0,
    accept_unknown: Sequence[str] = (),
) -> Trajectory:
    """How good and how safe is a needle chosen by hand? Measured by the code of the search.

    An unsafe needle comes back with verdict stop and the reasons among margins and findings; only
    points that are no points raise.
    """
    path = Segment(start_mm=np.asarray(entry_mm), end_mm=np.asarray(target_mm))
    problem = Problem.of(anatomy, lesion, (needle,), seed=seed, accepted=accept_unknown)
    return ByHand.of(problem, (route,)).measured(path, needle, route.name)


def _check(routes: Sequence[Route], stock: Sequence[Needle], count: int) -> None:
    if count < 1:
        raise InputError(f"{count} proposals asked for; ask for at least 1")
    if not stock:
        raise InputError("there is no needle to plan with; give at least one")
    names = [r.name for r in routes]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        raise InputError(f"two routes are called {twice!r}; give each its own name")


def _survey_all(
    views: Views, routes: Sequence[Route], tell: Progress
) -> tuple[list[tuple[Scene, Survey]], list[Refusal]]:
    """Survey every route; those that share position and what they cross share their skin."""
    problem = views.problem
    surveys: list[tuple[Scene, Survey]] = []
    refusals: list[Refusal] = []
    groups: dict[tuple[str, tuple[str, ...]], list[Route]] = {}
    for route in routes:
        refusal = refuse_at_once(problem, route)
        if refusal:
            refusals.append(refusal)
        else:
            groups.setdefault((route.position, route.crosses), []).append(route)
    for k, group in enumerate(groups.values()):
        tell("searching paths", k / len(groups))
        made = aims(problem, group)
        refusals += [no_skin(aim) for aim in made if not len(aim.entries_mm)]
        made = [aim for aim in made if len(aim.entries_mm)]
        if made:
            surveys += [
                (views.of(a.route), survey(views.of(a.route), problem.anatomy, a, problem.stock))
                for a in made
            ]
    tell("searching paths", 1.0)
    return surveys, refusals


def _best_of(
    problem: Problem, view: Scene, seen: Survey, most: int
) -> tuple[list[Trajectory], Refusal | None]:
    """The best distinct needles of a route that also pass the exact measurement."""
    alive = np.isfinite(seen.cost)
    entries = seen.aim.entries_mm[seen.pairs[:, 0]]
    tips = seen.aim.targets_mm[seen.pairs[:, 1]]
    best: list[Trajectory] = []
    stopped = dict(seen.stopped_by)
    for _ in range(_TRIES):
        if not alive.any() or len(best) == most:
            break
        k = int(np.argmin(np.where(alive, seen.cost, np.inf)))
        path = Segment(start_mm=entries[k], end_mm=tips[k])
        like = problem.stock[seen.needle[k]]
        chosen = shortest(problem.stock, like, path.length_mm)
        one = measured(problem, view, seen.aim, path, chosen)
        wrong = next((m.structure for m in one.margins if m.verdict == "stop"), None)
        if wrong is None:
            best.append(one)
            alive &= ~_alike(entries, tips, path)
        else:
            near = _near(entries, path.start_mm) & _near(tips, path.end_mm) & alive
            stopped[wrong] = stopped.get(wrong, 0) + int(near.sum())
            alive &= ~near
    if best:
        return best, None
    return [], explain(problem.anatomy, problem.stock, seen, stopped)


def _near(points: Float, point: Float, within_mm: float = _NEIGHBOUR_MM) -> NDArray[np.bool_]:
    out: NDArray[np.bool_] = np.linalg.norm(points - point, axis=1) <= within_mm
    return out


def _alike(entries: Float, tips: Float, path: Segment) -> NDArray[np.bool_]:
    """Which needles are the same proposal as ``path``: like direction and like entry."""
    table = load("routes")
    ways = tips - entries
    cosine = ways @ path.direction / np.linalg.norm(ways, axis=1)
    near = _near(entries, path.start_mm, float(table["distinct_entry"]))
    out: NDArray[np.bool_] = near & (cosine > np.cos(np.radians(float(table["distinct_angle"]))))
    return out


def _pick(
    found: Sequence[Sequence[Trajectory]], count: int, beside: Sequence[Trajectory] = ()
) -> tuple[Trajectory, ...]:
    """The best of each route first, then the others, while they are distinct; ranked by cost.

    One that is the same as a needle ``beside`` them is left out: that one stands for it.
    Where two routes came to one needle it goes by the name of the route that was given first.
    """
    firsts = [r[0] for r in found if r]
    others = sorted((t for r in found for t in r[1:]), key=_rank)
    chosen: list[Trajectory] = []
    for one in (*firsts, *others):
        if len(chosen) < count and not any(same_needle(one, c) for c in (*beside, *chosen)):
            chosen.append(one)
    return tuple(sorted(chosen, key=_rank))


def _rank(one: Trajectory) -> tuple[bool, float]:
    return one.verdict is Gravity.STOP, one.cost


def same_needle(one: Trajectory, other: Trajectory) -> bool:
    """Whether two needles are one proposal: like direction, like entry and like tip."""
    within = float(load("routes")["distinct_tip"])
    tips = _near(one.target_mm[None], other.target_mm, within)
    return bool(tips[0] and _alike(one.entry_mm[None], one.target_mm[None], other.path)[0])


def _with_breach(
    problem: Problem, surveys: Sequence[tuple[Scene, Survey]], options: Sequence[Trajectory]
) -> tuple[Trajectory, ...]:
    where = {s.aim.route.name: (view, s.aim.route) for view, s in surveys}
    return tuple(with_breach(problem, *where[o.route], o) for o in options)


def _skin_map(seen: Survey, stock: Sequence[Needle]) -> SkinMap:
    """Best cost and most slack of each skin point over all targets."""
    n = len(seen.aim.entries_mm)
    cost, slack = np.full(n, np.inf), np.full(n, -np.inf)
    radius = np.array([s.radius_mm for s in stock])[seen.needle]
    np.minimum.at(cost, seen.pairs[:, 0], seen.cost)
    np.maximum.at(slack, seen.pairs[:, 0], seen.measured[:, rays.SLACK] - radius)
    none = ~np.isfinite(cost)
    cost[none], slack[none] = np.nan, np.nan
    return SkinMap(
        route=seen.aim.route.name, points_mm=seen.aim.entries_mm, cost=cost, slack_mm=slack
    )


def overall_findings(anatomy: Anatomy, routes: Sequence[Route]) -> tuple[Finding, ...]:
    """What holds for every needle of some routes, and for there being none."""
    if not routes:
        return (
            Finding(
                gravity=Gravity.STOP,
                message="there is no route for {site}: give a route of your own",
                values={"site": str(anatomy.site)},
            ),
        )
    told = {name for r in routes for name in not_seen(anatomy, r)}
    return tuple(
        Finding(
            gravity=Gravity.NOTE,
            message="{what} was not identified; none of these routes is known to pass near it",
            values={"what": name},
        )
        for name in anatomy.missing
        if name not in told
    )
