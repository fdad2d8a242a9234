"""Where an ablation takes place: tissue on cubes around what works, layers that protect, cement.

Every number of a tissue comes from ``facts``; the uncertain ones are ``Constants``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trocar.errors import InputError
from trocar.facts import ablation as facts
from trocar.facts import cement, dielectric, limits, thermal
from trocar.kernels.field import distance_to, signed_distance
from trocar.model.ablation import AblationPlan, Protection
from trocar.model.result import Anatomy, Fill
from trocar.model.space import Float, Grid, Mask, Volume
from trocar.simulation.tissue_map import tissue_numbers

Bool = NDArray[np.bool_]
Scenario = Literal["low", "mean", "high"]

MM = 1e-3  # m
_MARGIN_MM = {"rf": 20.0, "rf_bipolar": 20.0, "microwave": 30.0, "cryo": 32.0}  # computed around
_BEYOND_MM = 2.0  # computed beyond the margin that is asked for around the lesion
_ICE_CUBES_MM = ((70.0, 1.0), (95.0, 1.5), (float("inf"), 2.0))  # up to which side which cubes
_MOST_VOXELS = 3_000_000
_LEAST_CAPACITY = 2e4  # J/m3K; gas holds next to no heat, and so little would make steps short
_SPACES = ("spinal_canal", "foramen", "sacral_foram")  # with nerves in them and room around


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


@dataclass(frozen=True, eq=False, kw_only=True)
class Scene:
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
    seen: Bool
    pieces_missing: tuple[str, ...]
    beyond: dict[str, Mask]  # canal and nerves that were identified and lie outside the box

    @property
    def h_m(self) -> float:
        """The cubes' side, m."""
        return float(self.grid.spacing_mm[0]) * MM

    def place(self, point_mm: Float) -> NDArray[np.float64]:
        """A point in the grid's own metres, slice, row, column."""
        return np.asarray(self.grid.to_index(point_mm), np.float64) * self.h_m


def build(
    ct: Volume, anatomy: Anatomy, plan: AblationPlan, lesion: Mask | None, filled: Fill | None,
    used: Constants, voxel_mm: float | None,
) -> Scene:  # fmt: skip
    """The surroundings of a plan's applicators, with cement and protection in place.

    Raises InputError as ``ablation.ablate`` does.
    """
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
        layer, structures[guard.structure] = _layer(guard, structures, anatomy, grid)
        if guard.kind == "gas":
            heat_held = float(facts.value("gas_density")) * float(facts.value("gas_specific_heat"))
            capacity[layer] = max(heat_held, _LEAST_CAPACITY)
            conductivity[layer] = float(facts.value("gas_conductivity"))
            electric[layer] = damping[layer] = 0.0
        else:
            capacity[layer] = float(facts.value("fluid_capacity"))
            conductivity[layer] = float(facts.value("fluid_conductivity"))
            electric[layer] = float(facts.value("fluid_electric"))
        perfusion[layer] = 0.0
    return Scene(
        grid=grid,
        names=names,
        capacity=capacity,
        conductivity=conductivity,
        perfusion=perfusion,
        electric=electric,
        attenuation=damping,
        structures=structures,
        lesion=np.zeros(grid.shape, bool) if lesion is None else lesion.on(grid).values,
        seen=seen,
        pieces_missing=missing,
        beyond={
            n: m
            for n, m in anatomy.structures.items()
            if limits.neural(n)
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
        rim = plan.margin_mm + _BEYOND_MM
        points = lesion.points_mm()
        low = np.minimum(low, np.maximum(points.min(axis=0) - rim, low - margin))
        high = np.maximum(high, np.minimum(points.max(axis=0) + rim, high + margin))
    if voxel_mm is None:
        side = float(np.max(high - low))
        voxel_mm = 1.0 if plan.heats else next(h for most, h in _ICE_CUBES_MM if side < most)
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
    guard: Protection, structures: Mapping[str, Bool], anatomy: Anatomy, grid: Grid
) -> tuple[Bool, Bool]:
    """Where gas or fluid lies, and what is left of the structure it protects.

    In a canal or a foramen the layer is the outer part of the space, and the nerves are what is
    left within; any other structure is moved away: the tissue around it is replaced.
    """
    name, gap_mm = guard.structure, guard.gap_mm
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
