"""How warm setting cement makes the bone it lies in and what lies beside it.

The mass found on a CT or simulated sets after Baliga's kinetics, each voxel at its own temperature,
in tissue that conducts and is perfused. What was not identified is unknown, never safe.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trocar.errors import InputError
from trocar.facts import cement, limits, thermal
from trocar.kernels import cure, heat
from trocar.kernels.dose import Arrhenius, Cem43
from trocar.model.case import Finding, Gravity, gravest_first
from trocar.model.result import Anatomy, CementHeat, Fill
from trocar.model.space import Float, Grid, Mask, Volume
from trocar.simulation.tissue_map import tissue_numbers

Progress = Callable[[str, float], None]
Bool = NDArray[np.bool_]

_STEP_S = (
    4.0  # of the splitting into setting and conduction; a quarter of it changes peaks by 0.1 K
)
_MM = 1e-3  # m
_CUTS = 2  # into which each voxel is cut along each axis to average the cement in it
_FACES = ndimage.generate_binary_structure(3, 1)
_NEEDED = {"canal": "spinal_canal", "nerve": "nerve_root"}  # beside every vertebra and the sacrum


def cement_heat(
    ct: Volume,
    anatomy: Anatomy,
    fill: Fill,
    *,
    lesion: Mask | None = None,
    kinetics_name: str = "B1",
    start_c: float | None = None,
    injection_age_s: float | None = None,
    seconds: float | None = None,
    voxel_mm: float = 1.0,
    progress: Progress | None = None,
) -> CementHeat:
    """How warm do the bone, the canal, the roots and whatever else is near get while cement sets?

    ``fill`` is the cement, found or simulated; ``ct`` tells cortical from spongy bone and fat from
    muscle; ``lesion`` is taken as lytic tumour. ``kinetics_name`` is a set of
    ``facts.cement.kinetics``. The clock starts when the injection ends, at the cement's age
    ``injection_age_s`` (it set at room temperature until then), with cement at ``start_c`` and
    tissue at 37 degC, and runs for ``seconds``. Computed on cubes of ``voxel_mm`` up to a margin
    around the cement, whose outer faces let no heat out (the careful side). Blood stops where bone
    has died. Defaults and limits are those of ``facts/thermal.toml``.

    Raises InputError for a fill without cement, numbers that cannot be, unknown kinetics.
    Source: Baliga 1992 as used with the constants of Borzacchiello 1998 (B1, B2) or Li 2003 (L).
    """
    start = float(thermal.value("cement_start")) if start_c is None else start_c
    age = float(thermal.value("cement_age")) if injection_age_s is None else injection_age_s
    length = float(thermal.value("followed")) if seconds is None else seconds
    if not (voxel_mm > 0 and length > 0 and age >= 0):
        raise InputError(
            f"voxels of {voxel_mm} mm, {length} s, cement {age} s old; expected a size and a time "
            "above 0 and an age not below 0"
        )
    scene = _scene(ct, anatomy, fill, lesion, voxel_mm)
    course = _set(scene, kinetics_name, start, age, length, progress)
    return _reading(scene, course, anatomy)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Scene:
    """The surroundings of the cement on cubes: shares, tissue, what lies where."""

    grid: Grid
    share: Float  # of each voxel that is cement
    bone: Bool  # the treated bone
    seen: Bool  # inside the CT
    capacity: Float
    conductivity: Float
    perfusion: Float
    structures: dict[str, Bool]


@dataclass(frozen=True, eq=False, kw_only=True)
class _Course:
    """What came out of the march."""

    peak_c: NDArray[np.float32]
    cem43_min: Float
    omega: Float
    time_s: Float
    mean_c: Float


# --- the scene ---------------------------------------------------------------------------------


def _scene(
    ct: Volume, anatomy: Anatomy, fill: Fill, lesion: Mask | None, voxel_mm: float
) -> _Scene:
    grid, share = _cement_on_cubes(fill.fraction, anatomy.grid.frame, voxel_mm)
    values = ct.on(grid).values
    seen = ct.grid.contains(grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1)))
    names = tissue_numbers(grid, values, anatomy, lesion)
    rows = [thermal.tissue(n) for n in thermal.tissues()]
    capacity = np.array([r.capacity_j_m3k for r in rows])[names]
    conductivity = np.array([r.conductivity_w_mk for r in rows])[names]
    perfusion = np.array([r.perfusion_w_m3k for r in rows])[names]
    own = _cement_numbers()
    structures = {}
    for name, mask in anatomy.structures.items():
        here = mask.on(grid).values
        if here.any():
            structures[name] = here
    return _Scene(
        grid=grid,
        share=share,
        bone=anatomy.bone.on(grid).values,
        seen=seen,
        capacity=capacity + share * (own[0] - capacity),
        conductivity=conductivity + share * (own[1] - conductivity),
        perfusion=(1.0 - share) * perfusion,
        structures=structures,
    )


def _cement_numbers() -> tuple[float, float]:
    """rho c and k of cement."""
    density, specific, k = (
        float(cement.value(n)) for n in ("density", "specific_heat", "conductivity")
    )
    return density * specific, k


def _cement_on_cubes(fraction: Volume, frame: str, voxel_mm: float) -> tuple[Grid, Float]:
    """Cubes around the cement and its share of each; the volume is kept."""
    held = Mask(grid=fraction.grid, values=fraction.values > 0)
    if held.is_empty:
        raise InputError("the fill holds no cement; there is no heat to compute")
    box = held.box(2 * voxel_mm)
    part = fraction.crop(box)
    corners = part.grid.to_world(
        np.stack(np.meshgrid(*[(-0.5, n - 0.5) for n in part.grid.shape]), axis=-1).reshape(-1, 3)
    )
    margin = float(thermal.value("margin"))
    low, high = corners.min(axis=0) - margin, corners.max(axis=0) + margin
    count = np.ceil((high - low) / voxel_mm).astype(int)
    first = (low + voxel_mm / 2).tolist()
    grid = Grid.from_spacing(count[::-1].tolist(), (voxel_mm,) * 3, first, frame)
    fine_mm = voxel_mm / _CUTS
    origin = grid.affine[:3, 3] - voxel_mm / 2 + fine_mm / 2
    fine = Grid.from_spacing((count[::-1] * _CUTS).tolist(), (fine_mm,) * 3, origin.tolist(), frame)
    z, y, x = grid.shape
    parts = part.on(fine, outside=0.0).values.reshape(z, _CUTS, y, _CUTS, x, _CUTS)
    share = np.clip(parts.mean(axis=(1, 3, 5), dtype=np.float64), 0.0, 1.0)
    wanted = float(np.sum(part.values, dtype=np.float64)) * part.grid.voxel_ml
    share = np.minimum(share * wanted / (float(share.sum()) * grid.voxel_ml), 1.0)
    return grid, share


# --- the march ---------------------------------------------------------------------------------


def _set(
    scene: _Scene,
    kinetics_name: str,
    start_c: float,
    age_s: float,
    seconds: float,
    progress: Progress | None,
) -> _Course:
    kinetics, share = _kinetics(kinetics_name, age_s)
    body_c = float(thermal.value("blood_temperature"))
    h = scene.grid.spacing_mm[0] * _MM
    own, _ = _cement_numbers()
    cement_part = scene.share * own / scene.capacity  # of the voxel's heat capacity
    body = heat.Bioheat(
        heat.Tissue(
            shape=scene.grid.shape,
            spacing_m=(h, h, h),
            heat_capacity_j_m3k=scene.capacity,
            conductivity_w_mk=scene.conductivity,
            perfusion_w_m3k=scene.perfusion,
            blood_c=body_c,
        ),
        start_c=body_c + cement_part * (start_c - body_c),
        cem43=cem43_rule(),
        arrhenius=_bone_damage(),
        shut_at_omega=float(thermal.value("bone_damage_dead")),
    )
    at = np.nonzero(scene.share)
    shares = scene.share[at]
    density = float(cement.value("density"))
    now = body.temperature_c[at]
    curing = cure.Curing(kinetics, now, share)
    source = np.zeros(scene.grid.shape)
    steps = int(np.ceil(seconds / _STEP_S))
    step = seconds / steps
    times, means = [0.0], [float(np.average(now, weights=shares))]
    for i in range(steps):
        source[at] = shares * density * kinetics.heat_j_kg * curing.advance(now, step) / step
        body.advance(step, source_w_m3=source)
        now = body.temperature_c[at]
        times.append((i + 1) * step)
        means.append(float(np.average(now, weights=shares)))
        if progress is not None:
            progress("heat of the cement", (i + 1) / steps)
    return _Course(
        peak_c=body.peak_c,
        cem43_min=body.cem43_min,
        omega=body.omega,
        time_s=np.array(times),
        mean_c=np.array(means),
    )


def _kinetics(name: str, age_s: float) -> tuple[cure.Kinetics, float]:
    """The set of constants, and how far the cement has set by the end of the injection."""
    row = cement.kinetics(name)
    keys = ("k0_per_s", "activation_j_mol", "m", "n", "heat_j_kg", "start")
    constants = cure.Kinetics(**{k: row[k] for k in keys}, glass_k=row.get("glass_k"))
    if age_s == 0:
        return constants, constants.start
    room_k = float(cement.value("reference_temperature")) + cure.ZERO_C_K
    return constants, cure.cure(constants, start_k=room_k, seconds=age_s).end


def cem43_rule() -> Cem43:
    """How minutes at 43 degC are counted, from facts."""
    return Cem43(
        above=float(thermal.value("cem43_base_above")),
        below=float(thermal.value("cem43_base_below")),
        from_c=float(thermal.value("cem43_from")),
    )


def _bone_damage() -> Arrhenius:
    return Arrhenius(
        a_per_s=float(thermal.value("bone_damage_frequency")),
        ea_j_mol=float(thermal.value("bone_damage_activation")) * cure.GAS_J_MOL_K,
    )


# --- the reading -------------------------------------------------------------------------------


def _reading(scene: _Scene, course: _Course, anatomy: Anatomy) -> CementHeat:
    mass = scene.share >= 1 / 2
    if not mass.any():
        mass = scene.share >= scene.share.max()
    beside = ndimage.binary_dilation(mass, _FACES) & ~mass
    interface = beside & scene.bone
    if not interface.any():
        interface = beside
    tissue = ~mass
    peaks, doses = {}, {}
    for name, where in scene.structures.items():
        # Where cement fills a structure altogether, its own temperature is the structure's.
        counted = where & tissue if (where & tissue).any() else where
        peaks[name] = float(course.peak_c[counted].max())
        doses[name] = float(course.cem43_min[counted].max())
    dead = (course.omega >= float(thermal.value("bone_damage_dead"))) | (
        course.cem43_min >= float(thermal.value("bone_dead_cem43"))
    )
    killed = dead & scene.bone
    dead_ml = float((1.0 - scene.share)[killed].sum() * scene.grid.voxel_ml)
    over, findings = _judged(peaks, doses)
    unknown = unknown_near(anatomy)
    findings += _unknown_findings(unknown)
    unseen = tissue & ~scene.seen
    strictest = thermal.limit("spinal_canal")
    if (
        strictest is not None
        and unseen.any()
        and strictest.warned(
            float(course.peak_c[unseen].max()), float(course.cem43_min[unseen].max())
        )
    ):
        unknown.append("beyond the image")
        findings.append(
            Finding(
                gravity=Gravity.CAUTION,
                message="Heat of the cement reaches beyond the image ({peak:.1f} degC): what lies "
                "there and how warm it gets is not known.",
                values={"peak": float(course.peak_c[unseen].max())},
            )
        )
    if dead_ml * 10 >= 1:  # a tenth of a millilitre is what the sheet can print
        findings.append(
            Finding(
                gravity=Gravity.NOTE,
                message="About {volume:.1f} ml of bone around the cement gets warm enough to die "
                "(as 47 degC for a minute does).",
                values={"volume": dead_ml},
            )
        )
    return CementHeat(
        peak_c=Volume(grid=scene.grid, values=course.peak_c, unit="degC"),
        cement_peak_c=float(course.peak_c[mass].max()),
        interface_peak_c=float(course.peak_c[interface].max()),
        structures_c=peaks,
        structures_cem43=doses,
        dead_bone_ml=dead_ml,
        time_s=course.time_s,
        cement_mean_c=course.mean_c,
        over_limit=tuple(over),
        unknown=tuple(unknown),
        findings=gravest_first(tuple(findings)),
    )


def _judged(peaks: dict[str, float], doses: dict[str, float]) -> tuple[list[str], list[Finding]]:
    """Which structures pass their limit, and what there is to say about each."""
    over: list[str] = []
    findings: list[Finding] = []
    for name, peak in peaks.items():
        limit, dose = thermal.limit(name), doses[name]
        if limit is None or not limit.warned(peak, dose):
            continue
        numbers = {"structure": name, "peak": peak, "dose": dose}
        neural = limits.neural(name)
        if limit.harmed(peak, dose):
            over.append(name)
            findings.append(
                Finding(
                    gravity=Gravity.STOP if neural else Gravity.CAUTION,
                    message="Setting cement warms {structure} to {peak:.1f} degC ({dose:.1f} min "
                    "at 43 degC); it is harmed from {limit:.0f} degC or {most:.0f} min.",
                    values=numbers | {"limit": limit.harm_c, "most": limit.harm_cem43},
                )
            )
        else:
            findings.append(
                Finding(
                    gravity=Gravity.CAUTION if neural else Gravity.NOTE,
                    message="Setting cement warms {structure} to {peak:.1f} degC ({dose:.1f} min "
                    "at 43 degC); a warning stands from {limit:.0f} degC or {most:.0f} min.",
                    values=numbers | {"limit": limit.warn_c, "most": limit.warn_cem43},
                )
            )
    return over, findings


def unknown_near(anatomy: Anatomy) -> list[str]:
    """What matters here and was not identified, by the reading or by its absence."""
    out = list(anatomy.missing)
    if anatomy.site.kind in ("vertebra", "sacrum"):
        kinds = {limits.kind(n) for n, m in anatomy.structures.items() if not m.is_empty}
        said = {limits.kind(n) for n in out}
        out += [name for kind, name in _NEEDED.items() if kind not in kinds | said]
    return out


def _unknown_findings(unknown: list[str]) -> list[Finding]:
    neural = [n for n in unknown if limits.neural(n)]
    rest = [n for n in unknown if n not in neural]
    out = []
    for gravity, names in ((Gravity.STOP, neural), (Gravity.CAUTION, rest)):
        if names:
            out.append(
                Finding(
                    gravity=gravity,
                    message="Not identified, so nobody knows how warm the cement makes it: "
                    "{names}.",
                    values={"names": ", ".join(n.replace("_", " ") for n in names)},
                )
            )
    return out
