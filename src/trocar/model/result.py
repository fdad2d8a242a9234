"""What was computed: anatomy, projected views, cement and its heat, and how a result came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trocar.model.case import Finding, Site
from trocar.model.space import Float, Grid, Mask, Volume


@dataclass(frozen=True, eq=False, kw_only=True)
class Scan:
    """A CT as it came through the door: its volume and what its header said about it.

    ``contrast`` and ``kvp`` are None when the file does not say.
    """

    volume: Volume
    name: str  # what a person calls it: series description or file name
    sha256: str  # of the pixel data and geometry, the same however the files are named
    kvp: float | None = None
    kernel: str = ""
    contrast: bool | None = None
    series_uid: str = ""
    findings: tuple[Finding, ...] = ()
    source: tuple[str, ...] = ()  # DICOM files of the slices, for objects that must refer to them


@dataclass(frozen=True, eq=False, kw_only=True)
class Axes:
    """A bone's own frame: an origin and three unit LPS vectors."""

    origin_mm: Float
    left: Float
    posterior: Float
    superior: Float

    def local(self, points_mm: ArrayLike) -> Float:
        """Points as (left, posterior, superior) mm from the origin."""
        p = np.asarray(points_mm, dtype=np.float64) - self.origin_mm
        out: Float = p @ np.stack([self.left, self.posterior, self.superior], axis=1)
        return out

    def world(self, local_mm: ArrayLike) -> Float:
        """LPS points of local (left, posterior, superior) mm."""
        q = np.asarray(local_mm, dtype=np.float64)
        out: Float = q @ np.stack([self.left, self.posterior, self.superior]) + self.origin_mm
        return out


@dataclass(frozen=True, eq=False, kw_only=True)
class Isthmus:
    """The narrowest place of a pedicle: where, along which way, how wide and how high."""

    side: Literal["left", "right"]
    centre_mm: Float
    direction: Float  # unit LPS, from the back of the pedicle into the body
    width_mm: float
    height_mm: float


@dataclass(frozen=True, eq=False, kw_only=True)
class VertebraMeasures:
    """Heights of a vertebral body and what Genant's method makes of them."""

    anterior_mm: float
    middle_mm: float
    posterior_mm: float
    genant_grade: int  # 0 to 3, the worst of wedge, biconcave and crush
    wedge_loss: float  # 1 - anterior/posterior
    biconcave_loss: float  # 1 - middle/posterior
    crush_loss: float | None  # 1 - posterior/mean of the neighbours', None when they are not seen
    isthmuses: tuple[Isthmus, ...] = ()
    plana: bool = False


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How Hounsfield units become HA density (g/cm3): slope * HU + offset."""

    method: Literal["phantom", "internal", "none"]
    slope: float
    offset: float
    note: str = ""

    def density(self, hu: ArrayLike) -> Float:
        """HA-equivalent density in g/cm3, never below 0."""
        out: Float = np.maximum(0.0, self.slope * np.asarray(hu, dtype=np.float64) + self.offset)
        return out


@dataclass(frozen=True, eq=False, kw_only=True)
class Anatomy:
    """What was read from one CT around the bone to be treated; all masks share one grid.

    ``bone`` is the treated bone filled (cortex, marrow and any lesion inside its outline).
    ``structures`` are the things a needle must keep away from, by name; ``regions`` the parts of
    the bone (``vertebral_body``, ``pedicle_left``, ``anterior_third``, ``supra_acetabular``, ...).
    ``missing`` names structures that matter at this site and could not be found: unknown, not safe.
    """

    site: Site
    grid: Grid
    body: Mask
    bone: Mask
    axes: Axes
    structures: Mapping[str, Mask]
    regions: Mapping[str, Mask]
    missing: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(
        default_factory=dict
    )  # structure -> "given labels" or engine
    confidence: Mapping[str, float] = field(default_factory=dict)  # 0 to 1, where it is known
    vertebra: VertebraMeasures | None = None
    calibration: Calibration | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class View:
    """A projection radiograph computed from a CT, with the geometry to draw on it.

    ``image`` is [row, column], the line integral of attenuation. A pixel centre (row, column) lies
    at ``detector_mm + row * row_step_mm + column * column_step_mm``; rays start at ``source_mm``.
    """

    name: str
    image: NDArray[np.float32]
    source_mm: Float
    detector_mm: Float  # LPS centre of pixel [0, 0]
    row_step_mm: Float
    column_step_mm: Float
    oblique_deg: float = 0.0  # receptor towards the patient's left positive
    cranial_deg: float = 0.0  # receptor towards the head positive
    # Where the image's edges point on the patient (L R A P H F): left, top, right, bottom.
    letters: tuple[str, str, str, str] = ("", "", "", "")

    def project(self, points_mm: ArrayLike) -> Float:
        """Pixel (row, column) onto which each LPS point falls; exact perspective projection."""
        p = np.asarray(points_mm, dtype=np.float64)
        normal = np.cross(self.row_step_mm, self.column_step_mm)
        ray = p - self.source_mm
        t = ((self.detector_mm - self.source_mm) @ normal) / (ray @ normal)
        hit = self.source_mm + t[..., None] * ray - self.detector_mm
        r, c = self.row_step_mm, self.column_step_mm
        gram = np.array([[r @ r, r @ c], [r @ c, c @ c]])
        rhs = np.stack([hit @ r, hit @ c], axis=-1)
        out: Float = rhs @ np.linalg.inv(gram).T
        return out


@dataclass(frozen=True, kw_only=True)
class Run:
    """How a result came about, so that it can be made again."""

    version: str
    command: str
    inputs: Mapping[str, str]  # name -> sha256
    facts: Mapping[str, str]
    parameters: Mapping[str, Any]
    seed: int
    started: str  # ISO 8601, UTC
    seconds: float = 0.0
    peak_mb: float = 0.0
    packages: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, kw_only=True)
class Registration:
    """How the treated bone of a later image lies against that of the planning image.

    ``transform`` (4x4) takes an LPS point of the planning image to the same place of the bone in
    the later one. ``error_mm`` is the standard error over the bone, ``correlation`` that of both
    images around the bone, ``overlap`` the share of the bone that the later image holds.
    """

    transform: Float
    error_mm: float
    correlation: float
    overlap: float
    shift_mm: float  # how far the bone's centre moved
    turn_deg: float


@dataclass(frozen=True, eq=False, kw_only=True)
class CementLeak:
    """Cement outside the bone in one compartment, simulated or measured.

    ``compartment`` is one of ``model.course.COMPARTMENTS``; ``kind`` Yeom's class (B basivertebral,
    S segmental vein, C cortical defect, D disc), "" where none applies. ``reach_mm`` is how far
    beyond the bone's surface it gets; ``distances_mm`` from its surface to structures at risk, 0
    when it touches; a structure that was not identified is absent, not far.
    """

    compartment: str
    kind: Literal["B", "S", "C", "D", ""]
    volume_ml: float
    low_ml: float
    high_ml: float
    reach_mm: float
    mask: Mask
    distances_mm: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, kw_only=True)
class Fill:
    """Where the cement is: the same record whether simulated or measured on a CT.

    ``fraction`` is the share of each voxel that is cement, 0 to 1. ``volume_ml`` is all of it, in
    bone, in the needle's track and leaked; ``low_ml`` and ``high_ml`` its interval. Fills are
    shares of the lesion's and of the bone's volume; None where lesion or bone is not known.
    ``unknown`` names what could not be told apart (such as a canal without a label). A measured
    fill has the voxels of the CT it was read on, laid by ``registration`` into the space of the
    planning image, where everything else of the case lies.
    """

    lesion_id: str
    site: Site
    origin: Literal["simulated", "measured"]
    fraction: Volume
    volume_ml: float
    low_ml: float
    high_ml: float
    in_bone_ml: float | None
    in_lesion_ml: float | None
    lesion_fill: float | None
    bone_fill: float | None
    leaks: tuple[CementLeak, ...] = ()
    crosses_midline: bool | None = None
    touches_end_plates: tuple[str, ...] = ()  # "superior", "inferior"
    old_cement_ml: float = 0.0  # seen before the procedure; not counted in volume_ml
    unknown: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    registration: Registration | None = None

    @property
    def leaked_ml(self) -> float:
        """All cement outside the bone."""
        return float(sum(leak.volume_ml for leak in self.leaks))


InjectionState = Literal[
    "injecting", "leak detected", "waiting to harden", "repositioned", "resumed", "finished"
]
StopReason = Literal["planned volume", "leak", "pressure", "working window", "no room"]


@dataclass(frozen=True, kw_only=True)
class InjectionEvent:
    """A change of state while cement was injected: when, how much was in, where it leaked."""

    state: InjectionState
    age_s: float  # of the cement, since mixing
    injected_ml: float
    needle: int  # which needle of the plan, from 0
    compartment: str = ""  # of the leak that was seen, "" when there was none
    moved_mm: float = 0.0  # how far the needle was pulled back


@dataclass(frozen=True, eq=False, kw_only=True)
class CementHeat:
    """How warm the setting cement makes the bone and what lies beside it.

    ``peak_c`` is the highest temperature each voxel reached, on the grid of the injection;
    ``structures_c`` the highest in each structure that was identified and comes within reach of
    the computation, ``structures_cem43`` its dose in minutes at 43 degC. ``over_limit`` names the
    structures that pass their limit; what was not identified is in ``unknown``, never safe.
    """

    peak_c: Volume
    cement_peak_c: float
    interface_peak_c: float  # in bone one voxel from the cement
    structures_c: Mapping[str, float]
    structures_cem43: Mapping[str, float]
    dead_bone_ml: float  # bone past the damage threshold, cement not counted
    time_s: Float  # since the injection ended
    cement_mean_c: Float  # over time
    over_limit: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class Injection:
    """One planned injection carried out in the computer.

    ``fill`` is what there is at its end. ``order_ml`` says for each voxel how much had been
    injected when cement filled it (nan: never), so that the fill at any volume can be drawn.
    The arrays of the curve have one entry a step: cement age, volume, rate, pressure at the
    needle's tip and at the syringe, and how much of the volume lies in bone and in the lesion;
    ``leaked_ml`` the same for every compartment that holds cement at the end.
    """

    lesion_id: str
    site: Site
    cement: str
    fill: Fill
    order_ml: Volume
    age_s: Float
    injected_ml: Float
    rate_ml_s: Float
    tip_pa: Float
    syringe_pa: Float
    in_bone_ml: Float
    in_lesion_ml: Float
    leaked_ml: Mapping[str, Float]
    events: tuple[InjectionEvent, ...]
    stopped_by: StopReason
    heat: CementHeat | None = None
    findings: tuple[Finding, ...] = ()

    def at_ml(self, injected_ml: float) -> Mask:
        """The voxels that cement has filled once so much is injected."""
        values = self.order_ml.values <= injected_ml  # nan compares false
        return Mask(grid=self.order_ml.grid, values=values)


@dataclass(frozen=True, eq=False, kw_only=True)
class LeakForecast:
    """How likely a leak is, by compartment and injected volume: many injections, each different.

    ``onset_ml`` holds for every compartment the volume at which each of the ``runs`` injections
    had put ``least_ml`` there (inf: never); ``ended_ml`` how much each run could inject before
    ``volume_ml``, the hand's force or the cement's age ended it. ``reached`` is the share of runs
    in which a voxel holds cement at the end. ``alarms`` are the compartments that must stay empty.
    """

    lesion_id: str
    site: Site
    runs: int
    seed: int
    volume_ml: float
    least_ml: float
    onset_ml: Mapping[str, Float]
    ended_ml: Float
    reached: Volume
    alarms: tuple[str, ...]
    drawn: Mapping[str, Float]  # the uncertain constants of each run
    unknown: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    def first_ml(self, *compartments: str) -> Float:
        """For each run the volume at its first leak into any of these (none named: anywhere)."""
        names = [n for n in (compartments or tuple(self.onset_ml)) if n in self.onset_ml]
        if not names:
            return np.full(self.runs, np.inf)
        out: Float = np.min([self.onset_ml[n] for n in names], axis=0)
        return out

    def chance(self, injected_ml: ArrayLike, *compartments: str) -> Float:
        """Share of runs that have leaked (there) by the time so much is injected."""
        at = np.asarray(injected_ml, np.float64)
        out: Float = np.mean(self.first_ml(*compartments) <= at[..., None], axis=-1)
        return out

    def safe_ml(self, accepted: float, *compartments: str) -> float:
        """The largest volume, up to ``volume_ml``, by which at most this share has leaked there."""
        onset = np.sort(self.first_ml(*compartments))
        allowed = int(np.floor(accepted * self.runs + 1e-9))
        if allowed >= self.runs:
            return self.volume_ml
        return float(min(self.volume_ml, np.nextafter(onset[allowed], 0.0)))
