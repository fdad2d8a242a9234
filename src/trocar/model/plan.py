"""A plan: needles with margins, angles and reasons, and why there is none where there is none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import asin, atan2, cos, degrees, hypot, radians, sin
from typing import Literal

import numpy as np

from trocar.errors import InputError
from trocar.facts.cement import BoneCement
from trocar.facts.products import Needle
from trocar.model.case import Finding, Gravity, Lesion, Site
from trocar.model.result import Run
from trocar.model.space import Float, Segment

Position = Literal["prone", "supine"]
MadeBy = Literal["search", "hand"]
Verdict = Literal["ok", "caution", "stop", "unknown"]
VERDICTS: tuple[Verdict, ...] = ("stop", "unknown", "caution", "ok")  # worst first
_GRADES: Mapping[Gravity, Verdict] = {
    Gravity.STOP: "stop", Gravity.CAUTION: "caution", Gravity.NOTE: "ok",
}  # fmt: skip


def worst_verdict(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of some verdicts; ok when there is none.

    >>> worst_verdict(["ok", "unknown", "caution"]), worst_verdict([])
    ('unknown', 'ok')
    """
    return min(verdicts, key=VERDICTS.index, default="ok")


@dataclass(frozen=True, kw_only=True)
class Guard:
    """A structure to keep away from and the least distance from the needle's surface to it."""

    structure: str
    margin_mm: float
    caution_mm: float  # below this a margin is a caution
    source: str = ""
    verified: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class Margin:
    """How far a needle's surface stays from one structure, and what that means."""

    structure: str
    distance_mm: float  # from the needle's surface; negative when the needle is inside
    required_mm: float
    caution_mm: float
    nearest_mm: Float | None = None  # the point of the structure that is nearest

    @property
    def verdict(self) -> Literal["ok", "caution", "stop"]:
        """Stop below the limit (or not a number), caution below the caution distance, else ok."""
        if not self.distance_mm >= self.required_mm:
            return "stop"
        return "ok" if self.distance_mm >= self.caution_mm else "caution"


@dataclass(frozen=True, kw_only=True)
class GantryAngles:
    """How to hold a needle in the CT room.

    ``tilt_deg`` turns the slice about the patient's left-right axis (positive: the needle comes
    from the head side) until the needle lies in it; ``in_plane_deg`` is then the needle's angle
    from the vertical within that slice (positive: it comes from the patient's left).
    """

    in_plane_deg: float
    tilt_deg: float
    from_behind: bool

    @classmethod
    def of(cls, entry_mm: Float, target_mm: Float) -> GantryAngles:
        """Angles of the needle that goes from entry to target."""
        u = Segment(start_mm=target_mm, end_mm=entry_mm).direction
        behind = bool(u[1] >= 0)
        v = u[1] if behind else -u[1]
        return cls(
            in_plane_deg=degrees(atan2(u[0], hypot(u[1], u[2]))),
            tilt_deg=degrees(atan2(u[2], v)),
            from_behind=behind,
        )

    def direction(self) -> Float:
        """Unit LPS vector from target to entry that these angles describe."""
        a, t = radians(self.in_plane_deg), radians(self.tilt_deg)
        sign = 1.0 if self.from_behind else -1.0
        return np.array([sin(a), sign * cos(a) * cos(t), cos(a) * sin(t)])


@dataclass(frozen=True, kw_only=True)
class CArmAngles:
    """Receptor position for the view down the needle, hub towards the receptor.

    ``oblique_deg`` from the vertical through the patient as positioned, towards the patient's left
    positive; ``cranial_deg`` towards the head positive.
    """

    oblique_deg: float
    cranial_deg: float
    position: Position

    @classmethod
    def of(cls, entry_mm: Float, target_mm: Float, position: Position) -> CArmAngles:
        """Angles of the receptor that looks down the needle from its hub."""
        u = Segment(start_mm=target_mm, end_mm=entry_mm).direction
        up = u[1] if position == "prone" else -u[1]
        return cls(
            oblique_deg=degrees(atan2(u[0], up)),
            cranial_deg=degrees(asin(float(np.clip(u[2], -1, 1)))),
            position=position,
        )

    def direction(self) -> Float:
        """Unit LPS vector from target to receptor that these angles describe."""
        o, c = radians(self.oblique_deg), radians(self.cranial_deg)
        sign = 1.0 if self.position == "prone" else -1.0
        return np.array([cos(c) * sin(o), sign * cos(c) * cos(o), sin(c)])


@dataclass(frozen=True, eq=False, kw_only=True)
class Trajectory:
    """One needle from skin to tip, measured against everything it must respect.

    Distances are mm, angles degrees, points LPS. ``breach_probability`` is the chance that the
    needle, misplaced as ``placement_error_mm`` (standard deviation of the tip across the axis)
    says, comes closer than a limit to a structure or leaves its corridor; ``contact_probability``
    the chance that it touches a canal, nerve, vessel, joint or organ.
    """

    route: str
    needle: Needle
    entry_mm: Float
    target_mm: Float
    position: Position
    bone_entry_mm: Float
    bone_length_mm: float
    cortex_angle_deg: float
    margins: tuple[Margin, ...]
    corridor_clearance_mm: float | None = None  # needle surface to the corridor's cortex
    breach_probability: float = float("nan")
    breach_interval: tuple[float, float] = (float("nan"), float("nan"))
    contact_probability: float = float("nan")
    contact_interval: tuple[float, float] = (float("nan"), float("nan"))
    placement_error_mm: float = float("nan")
    cost: float = float("nan")
    reason: str = ""
    cost_parts: Mapping[str, float] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    made_by: MadeBy = "search"

    def __post_init__(self) -> None:
        if not self.needle.outer_mm > 0:
            raise InputError(f"needle diameter {self.needle.outer_mm} mm; expected more than 0")
        Segment(start_mm=self.entry_mm, end_mm=self.target_mm)

    @property
    def path(self) -> Segment:
        """The needle as a segment from skin to tip."""
        return Segment(start_mm=self.entry_mm, end_mm=self.target_mm)

    @property
    def depth_mm(self) -> float:
        """Distance from skin to tip."""
        return self.path.length_mm

    @property
    def gantry(self) -> GantryAngles:
        """Angles for the CT room."""
        return GantryAngles.of(self.entry_mm, self.target_mm)

    @property
    def c_arm(self) -> CArmAngles:
        """Angles for the view down the needle."""
        return CArmAngles.of(self.entry_mm, self.target_mm, self.position)

    @property
    def worst(self) -> Margin | None:
        """The margin that matters most: smallest distance beyond its limit."""
        return min(self.margins, key=lambda m: m.distance_mm - m.required_mm, default=None)

    @property
    def verdict(self) -> Gravity:
        """Stop, caution or note (all well), from the margins and the findings."""
        grades = [f.gravity for f in self.findings]
        grades += [Gravity(m.verdict) for m in self.margins if m.verdict != "ok"]
        return min(grades, key=lambda g: g.rank, default=Gravity.NOTE)


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a route gave no needle, in words and in counts of what stopped its candidates."""

    route: str
    reason: str
    candidates: int
    stopped_by: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, kw_only=True)
class NeedleSet:
    """Several needles used together: their indices among the options and their spacing."""

    members: tuple[int, ...]
    tip_spacing_mm: float
    shaft_spacing_mm: float  # smallest surface-to-surface distance of two shafts
    name: str = ""


@dataclass(frozen=True, eq=False, kw_only=True)
class CementNeedle:
    """One needle that cement goes through: where it lies, how much, how it is pulled back.

    ``path`` runs from skin to tip. ``pull_backs`` are (after how many ml through this needle, by
    how many mm) in that order.
    """

    needle: Needle
    path: Segment
    volume_ml: float
    pull_backs: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if not self.volume_ml > 0:
            raise InputError(f"the needle is to inject {self.volume_ml} ml; expected more than 0")


@dataclass(frozen=True, kw_only=True)
class PlanRule:
    """One rule a plan (of cement, of ablation) was held against, what it gave, and its source."""

    rule: str  # "fill of the body", "start after mixing", "syringe pressure", ...
    verdict: Verdict
    finding: Finding
    source: str
    verified: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class CementPlan:
    """How much cement, through what, when, and when to stop.

    Ages are seconds after mixing. ``target_ml`` lies between ``low_ml`` and ``high_ml``; ``reason``
    says why. ``stop_ml`` is the volume not to pass: the least of the plan's own limit and of the
    forecast leak, None before there is a forecast. ``pressure_limit_pa`` is what the syringe gives.
    """

    lesion_id: str
    site: Site
    cement: BoneCement
    room_c: float
    needles: tuple[CementNeedle, ...]
    rate_ml_s: float
    start_s: float
    latest_s: float
    pressure_limit_pa: float
    low_ml: float
    high_ml: float
    stop_ml: float | None = None
    reason: Finding | None = None
    rules: tuple[PlanRule, ...] = ()
    findings: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        if not self.needles:
            raise InputError("the cement plan has no needle; give at least one")
        if not (self.rate_ml_s > 0 and self.pressure_limit_pa > 0):
            raise InputError(
                f"the cement plan has a rate of {self.rate_ml_s} ml/s and a pressure limit of "
                f"{self.pressure_limit_pa} Pa; expected both above 0"
            )
        if not 0 <= self.start_s < self.latest_s:
            raise InputError(
                f"the cement is to be injected from {self.start_s:g} to {self.latest_s:g} s after "
                "mixing; expected a start before the end"
            )

    @property
    def target_ml(self) -> float:
        """All that is to be injected."""
        return float(sum(n.volume_ml for n in self.needles))

    @property
    def verdict(self) -> Verdict:
        """The worst of its rules: stop, unknown, caution, ok."""
        return worst_verdict(r.verdict for r in self.rules)


@dataclass(frozen=True, eq=False, kw_only=True)
class Plan:
    """What is proposed for one lesion: ranked needles, sets of needles, refusals and findings.

    ``searched`` is False where no search stands behind a plan without needles: none was made yet,
    or a person took its needles out. Then there being none says nothing about the routes.
    """

    case_id: str
    site: Site
    lesion: Lesion
    options: tuple[Trajectory, ...]
    sets: tuple[NeedleSet, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    findings: tuple[Finding, ...] = ()
    run: Run | None = None
    searched: bool = True

    @property
    def best(self) -> Trajectory | None:
        """The first option, or None when there is no safe needle."""
        return self.options[0] if self.options else None

    @property
    def verdict(self) -> Verdict:
        """The worst of the first option and of what is said of the whole, such as a wrong level.

        Without an option: stop where they were looked for, else unknown.
        """
        told = [f.gravity for f in self.findings]
        if self.best is not None:
            told.append(self.best.verdict)
        grades: list[Verdict] = [_GRADES[gravity] for gravity in told]
        if self.best is None:
            grades.append("stop" if self.searched else "unknown")
        return worst_verdict(grades)
