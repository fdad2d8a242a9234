"""Heat and ice made on purpose: what is to be done, and what it does to lesion and nerves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from trocar.errors import InputError
from trocar.facts.ablation import Applicator
from trocar.model.case import Finding, Site
from trocar.model.plan import PlanRule, Verdict, worst_verdict
from trocar.model.space import Float, Mask, Segment, Volume

Mode = Literal["heat", "freeze", "thaw", "rest"]
MOST_APPLICATORS = 8


@dataclass(frozen=True, eq=False, kw_only=True)
class Placed:
    """An applicator where it lies: ``path`` runs from the skin to its tip, LPS mm."""

    device: Applicator
    path: Segment
    route: str = ""

    def active(self, pulled_mm: float = 0.0) -> Segment:
        """The part that works, from its hub end to the tip, pulled back by so much."""
        length = self.path.length_mm
        end = length - pulled_mm
        start = end - self.device.active_mm
        if start < -1e-6:
            raise InputError(
                f"{self.device.name} has {self.device.active_mm:g} mm that work, pulled back "
                f"{pulled_mm:g} mm, on a track of {length:.0f} mm: it would work outside the skin"
            )
        ends = self.path.at_mm([max(start, 0.0), end])
        return Segment(start_mm=ends[0], end_mm=ends[1])


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One part of a protocol: all applicators do the same.

    ``ramp_s`` is how long a target temperature (or power) takes to be reached; ``level`` a share of
    the device's power or of its target above body temperature; ``pulled_mm`` how far the needles
    are pulled back from their first place.
    """

    mode: Mode
    seconds: float
    level: float = 1.0
    ramp_s: float = 30.0
    pulled_mm: float = 0.0

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise InputError(f"a phase of {self.seconds:g} s; expected more than 0")
        if not 0 < self.level <= 1 or self.ramp_s < 0 or self.pulled_mm < 0:
            raise InputError(
                f"a phase at level {self.level:g}, ramp {self.ramp_s:g} s, pulled back "
                f"{self.pulled_mm:g} mm; expected a level in (0, 1] and nothing below 0"
            )


@dataclass(frozen=True, kw_only=True)
class Protection:
    """What keeps a structure from heat or cold.

    ``gas`` and ``fluid`` open a gap of ``gap_mm`` between it and what is treated; a
    ``thermocouple`` beside it ends the power whenever it reads ``stop_c`` (cold: lets the probes
    rest).
    """

    kind: Literal["gas", "fluid", "thermocouple"]
    structure: str
    gap_mm: float = 0.0
    stop_c: float | None = None

    def __post_init__(self) -> None:
        if self.kind == "thermocouple":
            if self.stop_c is None:
                raise InputError("a thermocouple needs the temperature at which power goes off")
        elif not self.gap_mm > 0:
            raise InputError(f"a layer of {self.kind} of {self.gap_mm:g} mm; expected more than 0")


@dataclass(frozen=True, eq=False, kw_only=True)
class AblationPlan:
    """Which applicators go where, what they do over time, and how it was judged."""

    lesion_id: str
    site: Site
    applicators: tuple[Placed, ...]
    phases: tuple[Phase, ...]
    margin_mm: float
    protections: tuple[Protection, ...] = ()
    rules: tuple[PlanRule, ...] = ()
    findings: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.applicators)
        if not 1 <= n <= MOST_APPLICATORS:
            raise InputError(f"{n} applicators; expected 1 to {MOST_APPLICATORS}")
        if not self.phases:
            raise InputError("the ablation has no phase; say for how long to heat or freeze")
        if self.margin_mm < 0:
            raise InputError(f"a margin of {self.margin_mm:g} mm; expected 0 or more")
        heats = {p.device.heats for p in self.applicators}
        if len(heats) > 1:
            raise InputError("some applicators heat and some freeze; plan them one after the other")
        wrong = "freeze" if self.heats else "heat"
        if any(p.mode == wrong for p in self.phases):
            raise InputError(f"the protocol says {wrong}, which these applicators cannot do")

    @property
    def heats(self) -> bool:
        """Whether it heats (else it freezes)."""
        return self.applicators[0].device.heats

    @property
    def seconds(self) -> float:
        """How long all phases take."""
        return float(sum(p.seconds for p in self.phases))


@dataclass(frozen=True, eq=False, kw_only=True)
class StructureDose:
    """How warm and cold one structure gets, and what that means.

    ``peak_c``, ``lowest_c`` and ``cem43_min`` are the worst of its voxels; ``low_c`` and
    ``high_c`` span its worst temperature (the peak of heat, the lowest of ice) over the low, mean
    and high run, where those were made. The times say when each limit was first passed (s; None:
    never). ``distance_mm`` is from the edge of what dies (of the ice, when freezing). The verdict
    of a neural structure is that of the worst run.
    """

    structure: str
    peak_c: float
    lowest_c: float
    cem43_min: float
    verdict: Verdict
    distance_mm: float
    warned_s: float | None = None
    harmed_s: float | None = None
    warmest_c: Float | None = None  # over time
    coldest_c: Float | None = None
    low_c: float | None = None
    high_c: float | None = None
    high_cem43: float | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class ThermalDose:
    """What an ablation does, as computed.

    Volumes lie on one grid of cubes. ``dead_s`` says when each voxel died (nan: never).
    ``margin_mm`` belongs to points on the lesion's surface: how far what is dead reaches beyond it
    (negative: alive for so far; -inf: nothing died). Curves have one entry for each of ``time_s``:
    lesion covered (a share), and for each applicator its power (W), impedance (ohm) and what a
    thermocouple in it reads (a probe: its surface). What was not identified is in ``unknown``,
    never safe.
    """

    lesion_id: str
    site: Site
    heats: bool
    peak_c: Volume
    lowest_c: Volume
    cem43_min: Volume
    dead: Mask
    dead_s: Volume
    dead_ml: float
    ice_ml: float
    lesion_covered: float | None
    rim_covered: float | None  # of the lesion and the margin asked for around it
    margin_points_mm: Float
    margin_mm: Float
    min_margin_mm: float | None
    structures: tuple[StructureDose, ...]
    time_s: Float
    covered: Float
    power_w: Float
    impedance_ohm: Float
    surface_c: Float
    zone_mm: tuple[float, float] | None = None  # length along and width across the first needle
    covered_low: float | None = None  # of the run in which least dies
    covered_high: float | None = None
    scenario: str = "mean"
    constants: Mapping[str, float] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    def structure(self, name: str) -> StructureDose:
        """The dose of one structure. Raises InputError naming those there are."""
        for one in self.structures:
            if one.structure == name:
                return one
        known = ", ".join(s.structure for s in self.structures) or "none"
        raise InputError(f"no dose of {name!r}; there is: {known}")

    @property
    def verdict(self) -> Verdict:
        """The worst of its structures; unknown when something that matters was not identified."""
        told: list[Verdict] = [s.verdict for s in self.structures]
        if self.unknown:
            told.append("unknown")
        return worst_verdict(told)

    def dead_at(self, seconds: float) -> Mask:
        """What had died by then."""
        return Mask(grid=self.dead_s.grid, values=self.dead_s.values <= seconds)
