"""What radiofrequency, microwaves or ice do to a lesion in bone and to the nerves beside it.

Pennes' equation on cubes around the applicators, with the current's, the waves' or the probe's own
source, marched through the protocol; a generator that holds temperature, power and impedance; dose
to the lesion and to every structure that was identified. What was not identified is unknown, never
safe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, spatial

from trocar.errors import InputError
from trocar.facts import ablation as facts
from trocar.facts import cement, dielectric, limits, thermal
from trocar.kernels import heat
from trocar.kernels.field import distance_to, signed_distance
from trocar.kernels.potential import Conductor, Field
from trocar.kernels.rod import Laid, Rod, lay
from trocar.model.ablation import (
    VERDICTS,
    AblationPlan,
    Phase,
    Placed,
    StructureDose,
    ThermalDose,
    Verdict,
)
from trocar.model.case import Finding, Gravity, gravest_first
from trocar.model.result import Anatomy, Fill
from trocar.model.space import Float, Grid, Mask, Volume
from trocar.simulation.exotherm import cem43_rule, unknown_near
from trocar.simulation.tissue_map import tissue_numbers

Progress = Callable[[str, float], None]
Bool = NDArray[np.bool_]
Scenario = Literal["low", "mean", "high"]

_MM = 1e-3  # m
_CONTROL_S = 5.0  # between two looks at the generator; the first minute is looked at oftener
_EARLY_S, _EARLY_STEP_S = 60.0, 1.0
_SETTLE_S = 4.0  # in which the generator means to make good a difference in temperature
_SETTLE_STEPS = 1.6  # or in so many looks, if that is longer
_CHANGED = 0.03  # of conductivity; less does not move the current
_TOLERANCE_K = {"heat": 0.02, "boil": 0.2, "ice": 1.0}  # error of one step; halved: 0.1 K less
_BOILS_FROM = 95.0  # a target below this leaves water where it is
_NEIGHBOURS = ndimage.generate_binary_structure(3, 1)
_SIDES = ("left", "right")
_MARGIN_MM = {"rf": 20.0, "rf_bipolar": 20.0, "microwave": 30.0, "cryo": 32.0}  # computed around
_SPACES = ("spinal_canal", "foramen", "sacral_foram")  # with nerves in them and room around
_RELATIVES = ("canal", "nerve", "unknown")  # neural, or treated as such
_MOST_VOXELS = 3_000_000
_MOST_MIN = 1e6  # of CEM43; beyond, dead is dead


@dataclass(frozen=True, kw_only=True)
class Constants:
    """The uncertain numbers of one run; ``of("high")`` makes nerves hottest (or coldest)."""

    perfusion_factor: float
    tumour_blood_ml_min_kg: float
    tumour_s_m: float
    csf_exchange_per_s: float
    efficiency_mw: float
    transfer_w_m2k: float
    time_constant_s: float

    @classmethod
    def of(cls, scenario: Scenario) -> Constants:
        """Those of facts: all mean, or all at the end where least (low) or most (high) happens."""
        if scenario not in ("low", "mean", "high"):
            raise InputError(f"there is no run {scenario!r}; choose low, mean or high")

        def at(name: str, falls: bool) -> float:
            v = facts.value(name)
            if scenario == "mean":
                return float(v)
            end = v.low if (scenario == "high") == falls else v.high
            return float(v if end is None else end)

        return cls(
            perfusion_factor=at("perfusion_factor", True),
            tumour_blood_ml_min_kg=at("tumour_blood", True),
            tumour_s_m=at("tumour_conductivity", False),
            csf_exchange_per_s=at("csf_exchange", True),
            efficiency_mw=at("efficiency_mw", False),
            transfer_w_m2k=at("cryo_transfer", False),
            time_constant_s=at("cryo_time_constant", True),
        )


def ablate(
    ct: Volume,
    anatomy: Anatomy,
    plan: AblationPlan,
    *,
    lesion: Mask | None = None,
    filled: Fill | None = None,
    scenario: Scenario = "mean",
    constants: Constants | None = None,
    voxel_mm: float | None = None,
    progress: Progress | None = None,
) -> ThermalDose:
    """How much of the lesion dies, and how warm or cold does every structure get?

    ``ct`` tells bone, fat and muscle apart; ``lesion`` is taken as lytic tumour; ``filled`` is
    cement already in place. ``voxel_mm`` is the side of the cubes (1 mm for heat; for ice 1 to 2 mm
    by the size of what freezes). The box's outer faces let no heat out (the careful side).
    ``constants`` override those of ``scenario``.

    Raises InputError for applicators outside the image, metal that overlaps, numbers that cannot
    be. Sources: Pennes 1948; clinical.md E of the project's reference, by way of ``facts``.
    """
    used = constants or Constants.of(scenario)
    scene = _scene(ct, anatomy, plan, lesion, filled, used, voxel_mm)
    course = _march(scene, plan, used, progress)
    return _reading(scene, course, anatomy, plan, scenario, used)


def ablate_interval(
    ct: Volume,
    anatomy: Anatomy,
    plan: AblationPlan,
    *,
    lesion: Mask | None = None,
    filled: Fill | None = None,
    voxel_mm: float | None = None,
    progress: Progress | None = None,
) -> ThermalDose:
    """The mean run, with what a low and a high run make of every structure and of the lesion.

    A neural structure's verdict is that of the worst of the three. Arguments and errors as for
    ``ablate``.
    """
    runs: dict[str, ThermalDose] = {}
    names: tuple[Scenario, ...] = ("mean", "low", "high")
    for i, name in enumerate(names):
        runs[name] = ablate(
            ct, anatomy, plan, lesion=lesion, filled=filled, scenario=name, voxel_mm=voxel_mm,
            progress=_part(progress, i / 3, (i + 1) / 3),
        )  # fmt: skip
    return _together(runs["mean"], runs["low"], runs["high"])


# --- the scene ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class _Scene:
    """The surroundings of the applicators on cubes."""

    grid: Grid
    names: NDArray[np.intp]  # of thermal.tissues()
    capacity: Float
    conductivity: Float
    perfusion: Float
    electric: Float  # S/m at 37 degC
    attenuation: Float  # Np/m at the antennas' frequency
    structures: dict[str, Bool]
    lesion: Bool
    bone: Bool
    seen: Bool
    pieces_missing: tuple[str, ...]
    beyond: dict[str, Mask]  # canal and nerves that were identified and lie outside the box

    @property
    def h_m(self) -> float:
        return float(self.grid.spacing_mm[0]) * _MM

    def place(self, point_mm: Float) -> NDArray[np.float64]:
        """A point in the grid's own metres, slice, row, column."""
        return np.asarray(self.grid.to_index(point_mm), np.float64) * self.h_m


def _scene(
    ct: Volume, anatomy: Anatomy, plan: AblationPlan, lesion: Mask | None, filled: Fill | None,
    used: Constants, voxel_mm: float | None,
) -> _Scene:  # fmt: skip
    grid = _grid(ct, anatomy, plan, lesion, voxel_mm)
    values = ct.on(grid).values
    names = tissue_numbers(grid, values, anatomy, lesion)
    seen = ct.grid.contains(grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1)))
    structures, missing = _structures(anatomy, grid)
    skin = _skin(anatomy, grid)
    if skin.any():
        structures.setdefault("skin", skin)
    tissues = thermal.tissues()
    rows = [thermal.tissue(n) for n in tissues]
    capacity = np.array([r.capacity_j_m3k for r in rows])[names]
    conductivity = np.array([r.conductivity_w_mk for r in rows])[names]
    perfusion = np.array([_blood(n, used) for n in tissues])[names]
    rf, mw = float(facts.value("frequency_rf")), float(facts.value("frequency_mw"))
    electric = np.array([_electric(n, rf, used) for n in tissues])[names]
    damping = np.array([_attenuation(n, mw) for n in tissues])[names]
    if filled is not None:
        share = np.clip(filled.fraction.on(grid, outside=0.0).values, 0.0, 1.0)
        own = float(cement.value("density")) * float(cement.value("specific_heat"))
        capacity = capacity + share * (own - capacity)
        conductivity = conductivity + share * (float(cement.value("conductivity")) - conductivity)
        perfusion = perfusion * (1.0 - share)
        electric = electric * (1.0 - share)
        damping = damping * (1.0 - share)
    for guard in plan.protections:
        if guard.kind == "thermocouple":
            continue
        layer, core = _layer(guard.structure, guard.gap_mm, structures, anatomy, grid)
        structures[guard.structure] = core
        gas = guard.kind == "gas"
        capacity[layer] = (
            float(facts.value("gas_density")) * float(facts.value("gas_specific_heat"))
            if gas
            else float(facts.value("fluid_capacity"))
        )
        conductivity[layer] = float(
            facts.value("gas_conductivity" if gas else "fluid_conductivity")
        )
        perfusion[layer] = 0.0
        electric[layer] = 0.0 if gas else float(facts.value("fluid_electric"))
        damping[layer] = 0.0 if gas else damping[layer]
    return _Scene(
        grid=grid,
        names=names,
        # Gas holds next to no heat; so little would only make the steps short.
        capacity=np.maximum(capacity, 2e4),
        conductivity=conductivity,
        perfusion=perfusion,
        electric=electric,
        attenuation=damping,
        structures=structures,
        lesion=np.zeros(grid.shape, bool) if lesion is None else lesion.on(grid).values,
        bone=anatomy.bone.on(grid).values,
        seen=seen,
        pieces_missing=missing,
        beyond={
            n: m
            for n, m in anatomy.structures.items()
            if limits.kind(n) in _RELATIVES
            and not m.is_empty
            and not any(k == n or k.startswith(f"{n}_") for k in structures)
        },
    )


def _grid(
    ct: Volume, anatomy: Anatomy, plan: AblationPlan, lesion: Mask | None, voxel_mm: float | None
) -> Grid:
    """Cubes around all that works at any time, and around the lesion with its margin."""
    margin = max(_MARGIN_MM[p.device.kind] for p in plan.applicators)
    ends = []
    pulls = sorted({p.pulled_mm for p in plan.phases if p.mode in ("heat", "freeze")} or {0.0})
    for k, placed in enumerate(plan.applicators, start=1):
        for pulled in pulls:
            part = placed.active(pulled)
            both = np.stack([part.start_mm, part.end_mm])
            if not np.all(ct.grid.contains(both)):
                at = ", ".join(f"{v:.0f}" for v in part.end_mm)
                raise InputError(
                    f"applicator {k} ({placed.device.name}) works at ({at}) LPS mm, outside the "
                    "CT; place it inside the image"
                )
            ends.append(both)
    every = np.concatenate(ends)
    low, high = every.min(axis=0) - margin, every.max(axis=0) + margin
    if lesion is not None and not lesion.is_empty:
        # Far parts of a long lesion need not be computed: they are not treated and stay alive.
        rim = plan.margin_mm + 2.0
        points = lesion.points_mm()
        low = np.minimum(low, np.maximum(points.min(axis=0) - rim, low - margin))
        high = np.maximum(high, np.minimum(points.max(axis=0) + rim, high + margin))
    if voxel_mm is None:
        side = float(np.max(high - low))
        voxel_mm = 1.0 if plan.heats else (1.0 if side < 70 else 1.5 if side < 95 else 2.0)
    if not 0.2 <= voxel_mm <= 4.0:
        raise InputError(f"voxels of {voxel_mm:g} mm; expected 0.2 to 4 mm")
    count = np.ceil((high - low) / voxel_mm).astype(int)
    if int(np.prod(count)) > _MOST_VOXELS:
        raise InputError(
            f"the ablation reaches over {'x'.join(str(int(n)) for n in count)} cubes of "
            f"{voxel_mm:g} mm; treat it in parts or choose larger cubes"
        )
    return Grid.from_spacing(
        count[::-1].tolist(), (voxel_mm,) * 3, (low + voxel_mm / 2).tolist(), anatomy.grid.frame
    )


def _blood(name: str, used: Constants) -> float:
    """Heat that blood (or CSF) carries off a tissue, W/m3K."""
    row = thermal.tissue(name)
    if name == "csf":
        return used.csf_exchange_per_s * row.capacity_j_m3k
    if name == "lytic_tumour":
        row = replace(row, blood_ml_min_kg=used.tumour_blood_ml_min_kg)
    factor = 1.0 if name == "blood" else used.perfusion_factor
    return factor * row.perfusion_w_m3k


def _electric(name: str, hz: float, used: Constants) -> float:
    if name == "lytic_tumour":
        return used.tumour_s_m
    known = facts.electric_name(name)
    return 0.0 if known is None else dielectric.tissue(known).conductivity(hz)


def _attenuation(name: str, hz: float) -> float:
    known = facts.electric_name(name)
    return 0.0 if known is None else dielectric.tissue(known).attenuation_np_m(hz)


def _structures(anatomy: Anatomy, grid: Grid) -> tuple[dict[str, Bool], tuple[str, ...]]:
    """Structures on the cubes; foramina by level: above and below the pedicle of this vertebra."""
    out: dict[str, Bool] = {}
    missing: list[str] = []
    for name, mask in anatomy.structures.items():
        here = mask.on(grid).values
        if name in ("foramen_left", "foramen_right") and anatomy.vertebra is not None:
            found = [i for i in anatomy.vertebra.isthmuses if name.endswith(i.side)]
            if found:
                split = float(anatomy.axes.local(found[0].centre_mm)[2])
                # Of the whole mask: a part beyond the box is seen all the same, only not reached.
                heights = anatomy.axes.local(mask.points_mm())[:, 2]
                points = grid.to_world(np.argwhere(here).astype(float)) if here.any() else None
                for part, upper in (("above", True), ("below", False)):
                    if not ((heights > split) == upper).any():
                        missing.append(f"{name}_{part}")
                    if points is None:
                        continue
                    level = (anatomy.axes.local(points)[:, 2] > split) == upper
                    one = np.zeros(grid.shape, bool)
                    one[tuple(np.argwhere(here)[level].T)] = True
                    if one.any():
                        out[f"{name}_{part}"] = one
                continue
        if here.any():
            out[name] = here
    return out, tuple(missing)


def _skin(anatomy: Anatomy, grid: Grid) -> Bool:
    """The outermost millimetres of the body, where the image shows its edge."""
    body = anatomy.body.on(grid).values
    own = anatomy.body.grid
    at = own.to_index(grid.to_world(np.moveaxis(np.indices(grid.shape, np.float64), 0, -1)))
    drawn = np.all((at >= 0) & (at <= np.array(own.shape) - 1), axis=-1)
    outside = ~body & drawn
    if not outside.any():
        return np.zeros(grid.shape, bool)
    thick = max(float(facts.value("skin_thickness")), grid.spacing_mm[0])
    out: Bool = body & (distance_to(outside, grid.spacing_mm) <= thick)
    return out


def _layer(
    name: str, gap_mm: float, structures: Mapping[str, Bool], anatomy: Anatomy, grid: Grid
) -> tuple[Bool, Bool]:
    """Where gas or fluid lies, and what is left of the structure it protects.

    In a canal or a foramen the layer is the outer part of the space, and the nerves are what is
    left within; any other structure is moved away: the tissue around it is replaced.
    """
    if name not in structures:
        known = ", ".join(sorted(structures)) or "none"
        raise InputError(
            f"{name!r} was not identified near the ablation, so nothing can be put before it; "
            f"there is: {known}"
        )
    own = structures[name]
    away = signed_distance(own, grid.spacing_mm)
    if name.startswith(_SPACES):
        core = own & (away <= -gap_mm)
        if not core.any():  # the space is narrower than twice the gap: its middle is left
            core = own & (away <= float(away[own].min()) + 0.5 * grid.spacing_mm[0])
        return own & ~core, core
    others = np.zeros(grid.shape, bool)
    for other, mask in structures.items():
        if other != name:
            others |= mask
    bone = anatomy.bone.on(grid).values
    layer = (away > 0) & (away <= gap_mm) & ~bone & ~others
    return layer, own


# --- sources -----------------------------------------------------------------------------------


@dataclass(eq=False)
class _Rf:
    """One electrode and its generator: it holds the hottest place of its surface at a target."""

    scene: _Scene
    placed: Placed
    part: Any  # the segment that works
    where: Bool = None  # type: ignore[assignment]
    laid: Laid = None  # type: ignore[assignment]
    power_w: float = 0.0
    off_until_s: float = -1.0

    def __post_init__(self) -> None:
        device, h = self.placed.device, self.scene.h_m
        a, b = self.scene.place(self.part.start_mm), self.scene.place(self.part.end_mm)
        u = (b - a) / max(float(np.linalg.norm(b - a)), 1e-12)
        r = device.radius_mm * _MM
        if device.kind == "rf_bipolar":
            half = (device.active_mm - device.gap_mm) / 2 * _MM
            spans = [(a, a + half * u), (b - half * u, b)]
        else:
            spans = [(a, b)]
        rods = []
        for start, end in spans:
            inset = min(r, 0.45 * float(np.linalg.norm(end - start)))  # round ends count as length
            rods.append(Rod(start_m=start + inset * u, end_m=end - inset * u, radius_m=r))
        shape = self.scene.grid.shape
        self.laid = lay(rods, shape=shape, spacing_m=(h, h, h))
        self.where = self.laid.every
        # What insulates: the gap, and the shaft behind.
        length = float(np.linalg.norm(b - a))
        back = Rod(start_m=a - 3 * length * u, end_m=b, radius_m=r)
        self.shaft = _near(back, max(r, 0.75 * h), shape, h) & ~self.where
        self.middle = ((a + b) / 2).tolist()
        self.conductor: Conductor | None = None
        self.field: Field | None = None
        self._share = np.zeros(0)
        self.shaft_gap = self.shaft & ~_behind(self.scene, a, u, h)
        self._volts = (0.5, -0.5) if device.kind == "rf_bipolar" else (1.0,)
        free = ~self.where & ~self.shaft
        self._skins = [
            np.flatnonzero(ndimage.binary_dilation(one, _NEIGHBOURS) & free)
            for one in self.laid.held
        ]
        self._skin = np.unique(np.concatenate(self._skins))
        self.first_ohm = float("nan")
        self._last: tuple[float, float] | None = None

    def look(self, celsius: Float) -> None:
        """Solve again when conductivity has changed."""
        share = dielectric.warmed(celsius)
        if self.field is not None and np.abs(share / self._share - 1.0).max() < _CHANGED:
            return
        sigma = self.scene.electric * share
        sigma[self.shaft] = 0.0
        self._sigma = sigma
        bipolar = self.placed.device.kind == "rf_bipolar"
        if self.conductor is None:
            h = self.scene.h_m
            self.conductor = Conductor(
                sigma, shape=self.scene.grid.shape, spacing_m=(h, h, h),
                electrodes=list(self.laid.held), laid=self.laid,
                far_from_m=None if bipolar else self.middle,
            )  # fmt: skip
        else:
            self.conductor.conduct(sigma)
        start = None if self.field is None else self.field.volts
        self.field = self.conductor.solve(self._volts, start=start, tolerance=1e-4)
        self._share = share
        if not self.field.power_w > 0:
            raise InputError(
                f"no current flows from {self.placed.device.name}: it touches nothing that "
                "conducts (gas, cement or metal around it?)"
            )

    @property
    def ohm(self) -> float:
        assert self.field is not None
        return 1.0 / self.field.power_w  # one volt is laid on

    def reads(self, celsius: Float) -> float:
        """What a thermocouple in the needle shows: the mean of the hotter half of its surface.

        Cubes are coarse beside a thin needle. From a cube's centre to the surface tissue gets
        warmer by sigma U^2 / 2 k, with U the voltage between them: so potential and temperature go
        together around a conductor that takes no heat itself (Kohlrausch).
        """
        flat = celsius.ravel()
        found = [flat[np.flatnonzero(self.shaft_gap)]]
        for skin, volt in zip(self._skins, self._volts, strict=True):
            t = flat[skin]
            if self.field is not None and self.power_w > 0:
                fall = (volt - self.field.volts.ravel()[skin]) ** 2
                scale = self.power_w / self.field.power_w
                k = self.scene.conductivity.ravel()[skin]
                t = t + self._sigma.ravel()[skin] * fall * scale / (2.0 * k)
            found.append(t)
        every = np.sort(np.concatenate(found))
        return float(every[len(every) // 2 :].mean())

    def _jump(self, celsius: Float) -> float:
        """By how much the reading rises at once for each watt more."""
        before, self.power_w = self.power_w, 0.0
        cold = self.reads(celsius)
        self.power_w = 1.0
        out = self.reads(celsius) - cold
        self.power_w = before
        return out

    def drive(
        self, celsius: Float, wanted_c: float | None, most_w: float, now_s: float, step_s: float
    ) -> Float:
        """Set the power for the next moments; returns the heat it makes, W/m3."""
        self.look(celsius)
        assert self.field is not None
        unit = self.field.joule_w_m3 / self.field.power_w
        if now_s < self.off_until_s:
            self.power_w = 0.0
            return self.power_w * unit
        if np.isnan(self.first_ohm):
            self.first_ohm = self.ohm
        if self.ohm - self.first_ohm > min(
            float(facts.value("impedance_rise_ohm")),
            float(facts.value("impedance_rise_share")) * self.first_ohm,
        ):
            self.off_until_s = now_s + float(facts.value("roll_off_rest"))
            self.power_w = 0.0
            return self.power_w * unit
        if wanted_c is None:
            self.power_w = most_w
            return self.power_w * unit
        t, jump = self.reads(celsius), self._jump(celsius)
        here = unit.ravel()[self._skin] / self.scene.capacity.ravel()[self._skin]
        slow, gone = t - jump * self.power_w, 0.0
        if self._last is not None and now_s > self._last[1]:
            gone = (slow - self._last[0]) / (now_s - self._last[1])
        self._last = (slow, now_s)
        # Power changes by what would make good the difference in a few seconds, less what the
        # temperature is doing already; some of a change shows at once.
        rate = float(here.max()) + jump / step_s
        settle = max(_SETTLE_S, _SETTLE_STEPS * step_s)
        self.power_w += ((wanted_c - t) / settle - gone) / max(rate, 1e-9)
        self.power_w = min(max(self.power_w, 0.0), most_w)
        return self.power_w * unit


def _near(rod: Rod, reach_m: float, shape: tuple[int, int, int], h: float) -> Bool:
    """Voxels so near to a rod's axis."""
    out = np.zeros(shape, bool)
    ends = np.stack([rod.start_m, rod.end_m])
    low = np.maximum(np.floor((ends.min(axis=0) - reach_m) / h), 0).astype(int)
    high = np.minimum(np.ceil((ends.max(axis=0) + reach_m) / h) + 1, shape).astype(int)
    if np.any(high <= low):
        return out
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    points = np.moveaxis(np.asarray(np.mgrid[box], np.float64), 0, -1) * h
    out[box] = rod.distance_m(points) <= reach_m
    return out


def _behind(scene: _Scene, start: Float, u: Float, h: float) -> Bool:
    """Voxels on the hub's side of where the active part starts."""
    points = np.moveaxis(np.indices(scene.grid.shape, np.float64), 0, -1) * h
    out: Bool = (points - start) @ u < 0
    return out


def _radiated(scene: _Scene, part: Any, device: facts.Applicator) -> Float:
    """Heat of one watt from an antenna: a line that radiates evenly into lossy tissue, W/m3."""
    h = scene.h_m
    a, b = scene.place(part.start_mm), scene.place(part.end_mm)
    rod = Rod(start_m=a, end_m=b, radius_m=device.radius_mm * _MM)
    points = np.moveaxis(np.indices(scene.grid.shape, np.float64), 0, -1) * h
    r = np.maximum(rod.distance_m(points), rod.radius_m)
    near = r < 15e-3
    damping = float(scene.attenuation[near].mean()) if near.any() else 0.0
    if not damping > 0:
        raise InputError(f"{device.name} lies in what does not absorb microwaves (gas, cement)")
    shape = np.exp(-2.0 * damping * r) / r * (scene.attenuation > 0)
    out: Float = shape / (float(shape.sum()) * h**3)
    return out


# --- the march ---------------------------------------------------------------------------------


@dataclass(eq=False)
class _Course:
    """What came out of the march."""

    body: heat.Bioheat
    dead: Bool
    dead_s: Float
    ice: Bool
    times: list[float]
    warmest: dict[str, list[float]]
    coldest: dict[str, list[float]]
    warned: dict[str, float]
    harmed: dict[str, float]
    covered: list[float]
    power: list[list[float]]
    ohm: list[list[float]]
    surface: list[list[float]]
    rolled_off: int = 0
    tripped: set[str] | None = None


def _march(
    scene: _Scene, plan: AblationPlan, used: Constants, progress: Progress | None
) -> _Course:
    body = _body(scene, plan)
    spots = {n: np.flatnonzero(m) for n, m in scene.structures.items()}
    shape = scene.grid.shape
    course = _Course(
        body=body, dead=np.zeros(shape, bool), dead_s=np.full(shape, np.nan),
        ice=np.zeros(shape, bool), times=[], warmest={n: [] for n in spots},
        coldest={n: [] for n in spots}, warned={}, harmed={}, covered=[], power=[], ohm=[],
        surface=[], tripped=set(),
    )  # fmt: skip
    guards = [g for g in plan.protections if g.kind == "thermocouple"]
    for g in guards:
        if g.structure not in spots:
            raise InputError(
                f"the thermocouple is to lie at {g.structure!r}, which was not identified near the "
                "ablation"
            )
    cycles = np.zeros(shape, np.int8)  # freezes in which a voxel got lethally cold
    _record(scene, plan, course, spots, [0.0] * len(plan.applicators), None, None)
    done = 0.0
    for phase in plan.phases:
        works = phase.mode in ("heat", "freeze")
        tools = _tools(scene, plan, phase, used) if works else []
        before = body.lowest_c.copy()
        if phase.mode == "freeze":
            body.lowest_c[...] = body.temperature_c
        elapsed = 0.0
        while elapsed < phase.seconds - 1e-6:
            early = elapsed < _EARLY_S
            step = min(_EARLY_STEP_S if early else _CONTROL_S, phase.seconds - elapsed)
            now = body.temperature_c
            halted = _halted(guards, spots, now, plan.heats, course)
            powers, ohms, surfaces = _act(
                scene, plan, phase, tools, body, now, elapsed, step, used, halted, course
            )
            elapsed += step
            done += step
            if not plan.heats:
                _ice(body, cycles, phase, course, before)
            _record(scene, plan, course, spots, powers, ohms, surfaces)
            if progress is not None:
                progress("ablation", done / plan.seconds)
        if phase.mode == "freeze":
            cycles += (body.lowest_c <= float(facts.value("lethal_twice_c"))).astype(np.int8)
            # Frozen through, tissue and its vessels do not come back.
            body.shut_perfusion(body.lowest_c <= float(facts.value("lethal_twice_c")))
            np.minimum(body.lowest_c, before, out=body.lowest_c)
    return course


def _body(scene: _Scene, plan: AblationPlan) -> heat.Bioheat:
    h = scene.h_m
    tissue = heat.Tissue(
        shape=scene.grid.shape,
        spacing_m=(h, h, h),
        heat_capacity_j_m3k=scene.capacity,
        conductivity_w_mk=scene.conductivity,
        perfusion_w_m3k=scene.perfusion,
        blood_c=float(thermal.value("blood_temperature")),
    )
    phases = [facts.phase(n) for n in thermal.tissues()]
    names = scene.names
    rules: dict[str, Any] = {
        "cem43": cem43_rule(),
        "arrhenius": heat.Arrhenius(
            a_per_s=float(facts.value("damage_frequency")),
            ea_j_mol=float(facts.value("damage_activation")),
        ),
        "shut_at_cem43": float(facts.value("dead_cem43")),
        "shut_at_omega": float(facts.value("damage_dead")),
    }
    kind = "heat"
    if not plan.heats:
        kind = "ice"
        rules = {
            "freezing": heat.Change(
                from_c=float(facts.value("freeze_from_c")),
                to_c=float(facts.value("freeze_to_c")),
                latent_j_m3=np.array([p.freezing_j_m3 for p in phases])[names],
                frozen_capacity_j_m3k=np.array([p.frozen_capacity_j_m3k for p in phases])[names],
                frozen_conductivity_w_mk=np.array(
                    [p.frozen_conductivity_w_mk for p in phases]
                )[names],
            ),
            "cem43": cem43_rule(),
        }  # fmt: skip
    elif any(_boils(p) for p in plan.applicators):
        kind = "boil"
        rules["boiling"] = heat.Change(
            from_c=float(facts.value("vapour_from_c")),
            to_c=float(facts.value("vapour_to_c")),
            latent_j_m3=np.array([p.boiling_j_m3 for p in phases])[names],
        )
    return heat.Bioheat(
        tissue,
        start_c=float(thermal.value("blood_temperature")),
        tolerance_k=_TOLERANCE_K[kind],
        **rules,
    )


def _boils(placed: Placed) -> bool:
    target = placed.device.target_c
    return target is None or target >= _BOILS_FROM


def _tools(scene: _Scene, plan: AblationPlan, phase: Phase, used: Constants) -> list[Any]:
    """For each applicator what makes its heat or cold, where it lies in this phase."""
    h, shape = scene.h_m, scene.grid.shape
    parts = [p.active(phase.pulled_mm) for p in plan.applicators]
    # All metal at once, to be told when two overlap.
    rods = [
        Rod(
            start_m=scene.place(s.start_mm), end_m=scene.place(s.end_mm),
            radius_m=p.device.radius_mm * _MM,
        )
        for p, s in zip(plan.applicators, parts, strict=True)
    ]  # fmt: skip
    _apart(plan, parts)
    if not plan.heats:
        return [lay(rods, shape=shape, spacing_m=(h, h, h))]
    out: list[Any] = []
    for p, s in zip(plan.applicators, parts, strict=True):
        if p.device.kind == "microwave":
            out.append(_radiated(scene, s, p.device))
        else:
            out.append(_Rf(scene, p, s))
    return out


def _apart(plan: AblationPlan, parts: Sequence[Any]) -> None:
    for i in range(len(parts)):
        for j in range(i):
            along = np.linspace(0.0, parts[i].length_mm, 41)
            gap = float(parts[j].distance_mm(parts[i].at_mm(along)).min())
            least = plan.applicators[i].device.radius_mm + plan.applicators[j].device.radius_mm
            if gap < least:
                raise InputError(
                    f"applicators {j + 1} and {i + 1} come within {gap:.1f} mm of each other: "
                    "metal overlaps; move one"
                )


def _act(
    scene: _Scene, plan: AblationPlan, phase: Phase, tools: list[Any], body: heat.Bioheat,
    now: Float, elapsed: float, step: float, used: Constants, halted: bool, course: _Course,
) -> tuple[list[float], list[float] | None, list[float] | None]:  # fmt: skip
    """March on by one look at the generator; what each applicator gave."""
    n = len(plan.applicators)
    nothing = np.zeros(scene.grid.shape, bool)
    if phase.mode in ("rest", "thaw") or not tools:
        body.fix(nothing, 0.0)
        body.advance(step)
        return [0.0] * n, None, None
    if phase.mode == "freeze":
        laid = tools[0]
        body_c = float(thermal.value("blood_temperature"))
        probe = np.zeros(scene.grid.shape)
        told = []
        for mask, placed in zip(laid.held, plan.applicators, strict=True):
            coldest = float(placed.device.coldest_c or 0.0)
            coldest = body_c + phase.level * (coldest - body_c)
            part = 1.0 - np.exp(-(elapsed + step / 2) / used.time_constant_s)
            t = body_c + (coldest - body_c) * part
            probe[mask] = t
            told.append(float(t))
        if halted:
            body.fix(nothing, 0.0)
        else:
            body.fix(laid.every, probe, laid=laid, transfer_w_m2k=used.transfer_w_m2k)
        body.advance(step)
        return [0.0] * n, None, told
    source = np.zeros(scene.grid.shape)
    held, cold_c = nothing.copy(), 37.0
    powers, ohms, surfaces = [], [], []
    laid_cooled: Laid | None = None
    for tool, placed in zip(tools, plan.applicators, strict=True):
        device = placed.device
        if device.kind == "microwave":
            ramp = min(1.0, (elapsed + step / 2) / phase.ramp_s) if phase.ramp_s else 1.0
            watt = 0.0 if halted else phase.level * float(device.power_w or 0.0) * ramp
            source += watt * used.efficiency_mw * tool
            powers.append(watt)
            ohms.append(float("nan"))
            surfaces.append(float(now[tool >= 0.5 * tool.max()].max()))
            continue
        ramp = min(1.0, (elapsed + step) / phase.ramp_s) if phase.ramp_s else 1.0
        wanted = None
        most = float(device.power_w or facts.value("power_cap_rf"))
        if device.target_c is not None:
            base = float(thermal.value("blood_temperature"))
            wanted = base + (device.target_c - base) * phase.level * ramp
        else:
            most *= phase.level * ramp
        rolled = tool.off_until_s
        made = tool.drive(now, wanted, 0.0 if halted else most, body.time_s, step)
        course.rolled_off += int(tool.off_until_s > rolled)
        source += made
        powers.append(tool.power_w)
        ohms.append(tool.ohm)
        surfaces.append(tool.reads(now))
        if device.cooled_c is not None:
            held |= tool.where
            laid_cooled, cold_c = tool.laid, device.cooled_c
    source[held] = 0.0
    # Several cooled electrodes share one description of surfaces only when there is one.
    one = sum(p.device.cooled_c is not None for p in plan.applicators) == 1
    body.fix(held, cold_c, laid=laid_cooled if one else None)
    body.advance(step, source_w_m3=source)
    return powers, ohms, surfaces


def _halted(
    guards: Sequence[Any], spots: Mapping[str, Any], now: Float, heats: bool, course: _Course
) -> bool:
    """Whether a thermocouple says to stop for now."""
    flat = now.ravel()
    for g in guards:
        t = flat[spots[g.structure]]
        if (heats and t.max() >= g.stop_c) or (not heats and t.min() <= g.stop_c):
            assert course.tripped is not None
            course.tripped.add(g.structure)
            return True
    return False


def _ice(
    body: heat.Bioheat, cycles: NDArray[np.int8], phase: Phase, course: _Course, before: Any
) -> None:
    once, twice = float(facts.value("lethal_once_c")), float(facts.value("lethal_twice_c"))
    lowest = body.lowest_c
    again = phase.mode == "freeze"
    course.dead |= lowest <= once
    if again:
        course.dead |= (cycles >= 1) & (lowest <= twice)
    course.ice |= lowest <= float(facts.value("ice_edge_c"))


def _record(
    scene: _Scene, plan: AblationPlan, course: _Course, spots: Mapping[str, Any],
    powers: list[float], ohms: list[float] | None, surfaces: list[float] | None,
) -> None:  # fmt: skip
    """Write down how things stand now."""
    body, n = course.body, len(plan.applicators)
    now = body.temperature_c.ravel()
    t = body.time_s
    course.times.append(t)
    if plan.heats:
        course.dead |= (body.cem43_min >= float(facts.value("dead_cem43"))) | (
            body.peak_c >= float(facts.value("dead_c"))
        )
    course.dead_s[course.dead & np.isnan(course.dead_s)] = t
    peak, lowest, dose = body.peak_c.ravel(), body.lowest_c.ravel(), body.cem43_min.ravel()
    for name, at in spots.items():
        course.warmest[name].append(float(now[at].max()))
        course.coldest[name].append(float(now[at].min()))
        warned, harmed = _passed(
            name, plan.heats, float(peak[at].max()), float(lowest[at].min()), float(dose[at].max())
        )
        if warned:
            course.warned.setdefault(name, t)
        if harmed:
            course.harmed.setdefault(name, t)
    inside = scene.lesion
    total = int(np.count_nonzero(inside))
    course.covered.append(
        float(np.count_nonzero(course.dead & inside)) / total if total else float("nan")
    )
    course.power.append(powers)
    course.ohm.append(ohms or [float("nan")] * n)
    course.surface.append(surfaces or [float("nan")] * n)


def _passed(name: str, heats: bool, peak: float, lowest: float, dose: float) -> tuple[bool, bool]:
    """Whether a structure is past its warning, and past harm."""
    if heats:
        limit = thermal.limit(name)
        if limit is None:
            return False, False
        return limit.warned(peak, dose), limit.harmed(peak, dose)
    cold = facts.cold_limit(name)
    if cold is None:
        return False, False
    return not lowest >= cold.warn_c, not lowest >= cold.harm_c


# --- the reading -------------------------------------------------------------------------------


def _reading(
    scene: _Scene, course: _Course, anatomy: Anatomy, plan: AblationPlan, scenario: str,
    used: Constants,
) -> ThermalDose:  # fmt: skip
    body, grid = course.body, scene.grid
    heats = plan.heats
    zone = course.dead if heats else course.ice
    far = distance_to(zone, grid.spacing_mm)
    structures = tuple(
        _structure(name, at, scene, course, float(far[at].min()), heats)
        for name, at in scene.structures.items()
        if limits.kind(name) not in ("other_bone", "metal")
    )
    structures += tuple(
        _out_of_reach(name, mask, zone, scene, course) for name, mask in scene.beyond.items()
    )
    points, margins = _margins(scene, course.dead)
    rim = _rim(scene, plan.margin_mm)
    unknown = unknown_near(anatomy)
    unknown += [n for n in scene.pieces_missing if n not in unknown]
    if plan.site.kind == "vertebra":
        told = {s.structure for s in structures}
        unknown += [
            f"foramen_{side}_{level}"
            for side in _SIDES
            for level in ("above", "below")
            if f"foramen_{side}_{level}" not in told and f"foramen_{side}" not in scene.beyond
        ]
    findings = _warnings(plan, structures, unknown, course)
    unseen = ~scene.seen
    if unseen.any() and _reaches(unseen, course, heats):
        unknown.append("beyond the image")
        findings.append(
            Finding(
                gravity=Gravity.CAUTION,
                message="Heat or cold reaches beyond the image: what lies there is not known.",
            )
        )
    if _at_the_edge(zone):
        unknown.append("beyond what was computed")
        findings.append(
            Finding(
                gravity=Gravity.CAUTION,
                message="What dies or freezes reaches the edge of what was computed: it is larger "
                "than shown.",
            )
        )
    total = int(np.count_nonzero(scene.lesion))
    return ThermalDose(
        lesion_id=plan.lesion_id,
        site=plan.site,
        heats=heats,
        peak_c=Volume(grid=grid, values=body.peak_c.copy(), unit="degC"),
        lowest_c=Volume(grid=grid, values=body.lowest_c.copy(), unit="degC"),
        cem43_min=Volume(
            grid=grid, values=np.minimum(body.cem43_min, _MOST_MIN).astype(np.float32), unit="min"
        ),
        dead=Mask(grid=grid, values=course.dead.copy()),
        dead_s=Volume(grid=grid, values=course.dead_s.astype(np.float32), unit="s"),
        dead_ml=float(np.count_nonzero(course.dead)) * grid.voxel_ml,
        ice_ml=float(np.count_nonzero(course.ice)) * grid.voxel_ml,
        lesion_covered=course.covered[-1] if total else None,
        rim_covered=(
            float(np.count_nonzero(course.dead & rim)) / max(1, int(np.count_nonzero(rim)))
            if total
            else None
        ),
        margin_points_mm=points,
        margin_mm=margins,
        min_margin_mm=float(margins.min()) if margins.size else None,
        structures=structures,
        time_s=np.array(course.times),
        covered=np.array(course.covered),
        power_w=np.array(course.power),
        impedance_ohm=np.array(course.ohm),
        surface_c=np.array(course.surface),
        zone_mm=_zone(scene, plan, course.dead),
        scenario=scenario,
        constants={k: float(v) for k, v in vars(used).items()},
        unknown=tuple(dict.fromkeys(unknown)),
        findings=gravest_first(tuple(findings)),
    )


def _structure(
    name: str, at: Bool, scene: _Scene, course: _Course, distance_mm: float, heats: bool
) -> StructureDose:
    body = course.body
    peak = float(body.peak_c[at].max())
    lowest = float(body.lowest_c[at].min())
    dose = min(float(body.cem43_min[at].max()), _MOST_MIN)
    return StructureDose(
        structure=name,
        peak_c=peak,
        lowest_c=lowest,
        cem43_min=dose,
        verdict=_verdict(name, heats, peak, lowest, dose, distance_mm),
        distance_mm=distance_mm,
        warned_s=course.warned.get(name),
        harmed_s=course.harmed.get(name),
        warmest_c=np.array(course.warmest[name]),
        coldest_c=np.array(course.coldest[name]),
    )


def _out_of_reach(
    name: str, mask: Mask, zone: Bool, scene: _Scene, course: _Course
) -> StructureDose:
    """Canal and nerves beyond what was computed: at body temperature, and how far away."""
    body_c = float(thermal.value("blood_temperature"))
    distance = float("inf")
    if zone.any():
        tree = spatial.cKDTree(scene.grid.to_world(np.argwhere(zone).astype(float)))
        distance = float(tree.query(mask.points_mm())[0].min())
    calm = np.full(len(course.times), body_c)
    return StructureDose(
        structure=name,
        peak_c=body_c,
        lowest_c=body_c,
        cem43_min=0.0,
        verdict=_verdict(name, True, body_c, body_c, 0.0, distance),
        distance_mm=distance,
        warmest_c=calm,
        coldest_c=calm,
    )


def _verdict(
    name: str, heats: bool, peak: float, lowest: float, dose: float, distance_mm: float
) -> Verdict:
    """From temperature, dose and, for what is neural, the distance to what dies or freezes."""
    warned, harmed = _passed(name, heats, peak, lowest, dose)
    out: Verdict = "stop" if harmed else "caution" if warned else "ok"
    if limits.kind(name) in _RELATIVES:
        near: Verdict = "ok"
        if not distance_mm >= float(facts.value("distance_stop")):
            near = "stop"
        elif distance_mm < float(facts.value("distance_ok")):
            near = "caution"
        out = min(out, near, key=VERDICTS.index)
    return out


def _margins(scene: _Scene, dead: Bool) -> tuple[Float, Float]:
    """On the lesion's surface: how far what is dead reaches beyond it, mm."""
    inside = scene.lesion
    if not inside.any():
        return np.zeros((0, 3)), np.zeros(0)
    skin = inside & ~ndimage.binary_erosion(inside, _NEIGHBOURS, border_value=0)
    half = 0.5 * scene.grid.spacing_mm[0]  # a voxel's centre lies inside the surface
    signed = signed_distance(dead, scene.grid.spacing_mm)
    reach = np.where(np.isfinite(signed), -signed, np.where(signed > 0, -999.0, 999.0)) - half
    index = np.argwhere(skin)
    return scene.grid.to_world(index.astype(float)), reach[skin].astype(np.float64)


def _rim(scene: _Scene, margin_mm: float) -> Bool:
    """The lesion and the margin around it, nerves and canal left out."""
    out = distance_to(scene.lesion, scene.grid.spacing_mm) <= margin_mm
    for name, at in scene.structures.items():
        if limits.kind(name) in _RELATIVES:
            out &= ~at
    return out


def _zone(scene: _Scene, plan: AblationPlan, dead: Bool) -> tuple[float, float] | None:
    """Length along the first needle and mean width across it at its thickest."""
    if not dead.any():
        return None
    part = plan.applicators[0].active()
    p = scene.grid.to_world(np.argwhere(dead).astype(float)) - part.end_mm
    along = p @ part.direction
    h = scene.grid.spacing_mm[0]
    length = float(along.max() - along.min()) + h
    counts = np.bincount(np.floor((along - along.min()) / h).astype(int))
    return length, 2.0 * float(np.sqrt(counts.max() * h**2 / np.pi))


def _at_the_edge(zone: Bool) -> bool:
    return any(bool(np.take(zone, end, axis).any()) for axis in range(3) for end in (0, -1))


def _reaches(unseen: Bool, course: _Course, heats: bool) -> bool:
    body = course.body
    peak, dose = float(body.peak_c[unseen].max()), float(body.cem43_min[unseen].max())
    return _passed("unknown structure", heats, peak, float(body.lowest_c[unseen].min()), dose)[0]


def _warnings(
    plan: AblationPlan, structures: Sequence[StructureDose], unknown: Sequence[str], course: _Course
) -> list[Finding]:
    out: list[Finding] = []
    if plan.heats and plan.site.kind == "vertebra":
        out.append(
            Finding(
                gravity=Gravity.CAUTION,
                message="One patient of twelve in the Hong Kong series lost the strength of a leg "
                "after radiofrequency in L1: the needle lay well, no cement was in the canal, "
                "heated nerve roots were blamed. Test the legs before and after.",
            )
        )
    for one in structures:
        finding = _told(one, plan.heats)
        if finding is not None:
            out.append(finding)
    neural = [n for n in unknown if limits.kind(n) in _RELATIVES]
    rest = [n for n in unknown if n not in neural]
    for gravity, names in ((Gravity.STOP, neural), (Gravity.CAUTION, rest)):
        if names:
            out.append(
                Finding(
                    gravity=gravity,
                    message="Not identified, so nobody knows how warm or cold the ablation makes "
                    "it: {names}.",
                    values={"names": ", ".join(n.replace("_", " ") for n in names)},
                )
            )
    doubtful = sorted({p.device.name for p in plan.applicators if not p.device.verified})
    if doubtful:
        out.append(
            Finding(
                gravity=Gravity.CAUTION,
                message="Not verified: the data of {devices}. Compare them with the maker's "
                "leaflet before use.",
                values={"devices": ", ".join(d.replace("_", " ") for d in doubtful)},
            )
        )
    if any(p.device.kind == "microwave" for p in plan.applicators):
        out.append(
            Finding(
                gravity=Gravity.CAUTION,
                message="Microwaves make zones too large in this model (twice the printed volume "
                "and more): do not count on the coverage it shows.",
            )
        )
    if course.rolled_off:
        out.append(
            Finding(
                gravity=Gravity.NOTE,
                message="Impedance rose and the generator paused {times} times.",
                values={"times": course.rolled_off},
            )
        )
    for name in sorted(course.tripped or ()):
        out.append(
            Finding(
                gravity=Gravity.NOTE,
                message="The thermocouple at {structure} ended the power for a while.",
                values={"structure": name},
            )
        )
    return out


def _told(one: StructureDose, heats: bool) -> Finding | None:
    """What there is to say about one structure."""
    if one.verdict == "ok":
        return None
    neural = limits.kind(one.structure) in _RELATIVES
    worst = Gravity.STOP if one.verdict == "stop" and neural else Gravity.CAUTION
    values: dict[str, Any] = {
        "structure": one.structure,
        "peak": one.peak_c,
        "lowest": one.lowest_c,
        "dose": one.cem43_min,
        "distance": one.distance_mm,
    }
    warned, harmed = _passed(one.structure, heats, one.peak_c, one.lowest_c, one.cem43_min)
    if heats and warned:
        limit = thermal.limit(one.structure)
        assert limit is not None
        if harmed:
            return Finding(
                gravity=worst,
                message="The ablation warms {structure} to {peak:.1f} degC ({dose:.1f} min at 43 "
                "degC); it is harmed from {limit:.0f} degC or {most:.0f} min.",
                values=values | {"limit": limit.harm_c, "most": limit.harm_cem43},
            )
        return Finding(
            gravity=worst if neural else Gravity.NOTE,
            message="The ablation warms {structure} to {peak:.1f} degC ({dose:.1f} min at 43 "
            "degC); a warning stands from {limit:.0f} degC or {most:.0f} min.",
            values=values | {"limit": limit.warn_c, "most": limit.warn_cem43},
        )
    if not heats and warned:
        cold = facts.cold_limit(one.structure)
        assert cold is not None
        return Finding(
            gravity=worst,
            message="The ablation cools {structure} to {lowest:.1f} degC; it is to stay at "
            "{limit:.0f} degC or above.",
            values=values | {"limit": cold.warn_c},
        )
    return Finding(
        gravity=worst,
        message="What dies or freezes ends {distance:.1f} mm from {structure}; below "
        "{ok:.0f} mm protection and monitoring are needed, below {least:.0f} mm it is too near.",
        values=values
        | {"ok": float(facts.value("distance_ok")), "least": float(facts.value("distance_stop"))},
    )


# --- three runs ----------------------------------------------------------------------------------


def _together(mean: ThermalDose, low: ThermalDose, high: ThermalDose) -> ThermalDose:
    """The mean run with the span of the three."""
    runs = (mean, low, high)
    out = []
    for one in mean.structures:
        same = [r.structure(one.structure) for r in runs]
        worst = [s.peak_c if mean.heats else s.lowest_c for s in same]
        neural = limits.kind(one.structure) in _RELATIVES
        verdict = min((s.verdict for s in same), key=VERDICTS.index) if neural else one.verdict
        out.append(
            replace(
                one, verdict=verdict, low_c=min(worst), high_c=max(worst),
                high_cem43=max(s.cem43_min for s in same),
            )
        )  # fmt: skip
    told = list(mean.findings)
    for one, before in zip(out, mean.structures, strict=True):
        if one.verdict != before.verdict:
            told.append(
                Finding(
                    gravity=Gravity.STOP if one.verdict == "stop" else Gravity.CAUTION,
                    message="With less blood flow than usual {structure} fares worse: between "
                    "{low:.1f} and {high:.1f} degC.",
                    values={"structure": one.structure, "low": one.low_c, "high": one.high_c},
                )
            )
    covered = [r.lesion_covered for r in runs if r.lesion_covered is not None]
    return replace(
        mean,
        structures=tuple(out),
        covered_low=min(covered) if covered else None,
        covered_high=max(covered) if covered else None,
        unknown=tuple(dict.fromkeys(n for r in runs for n in r.unknown)),
        findings=gravest_first(tuple(told)),
    )


def _part(progress: Progress | None, start: float, end: float) -> Progress | None:
    if progress is None:
        return None
    return lambda name, f: progress(name, start + (end - start) * f)
