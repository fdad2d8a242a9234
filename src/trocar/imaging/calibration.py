"""From Hounsfield units to bone density: by rods in the scan, by the patient's own tissues, or not.

Densities are HA-equivalent in g/cm3, slope * HU + offset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trocar.errors import InputError
from trocar.facts import tissue
from trocar.imaging.outline import depth
from trocar.model.result import Calibration
from trocar.model.space import Mask, Volume

Rod = tuple[float, "Mask | float"]

_BIN_HU = 1.0  # of the histogram in which a tissue's peak is sought
_EVEN_BINS = 5.0
_DEPTH_MM = 2.0  # tissue is read this deep inside its own region, away from mixed voxels
_FEW = 200  # fewer voxels than this are no tissue sample
_SAMPLES = 2_000_000  # voxels looked at; more change nothing but the time


def calibrate(
    ct: Volume,
    *,
    kvp: float | None = None,
    rods: Sequence[Rod] | None = None,
    tissues: Mapping[str, Mask] | None = None,
    body: Mask | None = None,
    internal: bool = True,
) -> Calibration:
    """How does this CT's HU become HA density (g/cm3)?

    ``rods``: (known density in g/cm3, mask of the rod or its mean HU) for two rods or more: a
    straight-line fit, method ``phantom``. Otherwise ``internal``: air, fat and muscle (or blood),
    from ``tissues`` where given (names ``air``, ``fat``, ``muscle``, ``blood``), else looked for
    around and inside the patient (``body``), method ``internal``. Where those are not found, or
    with ``internal=False``, the textbook slope for the tube voltage, method ``none``, flagged
    uncalibrated. clinical.md C.2.
    """
    if rods is not None:
        return _by_rods(ct, rods)
    if internal:
        levels = _given_levels(ct, tissues) if tissues else _found_levels(ct, body)
        if len(levels) >= 2:
            return _by_tissues(levels, given=bool(tissues))
        if tissues:
            raise InputError(
                f"internal calibration needs two tissues and got {', '.join(levels) or 'none'}; "
                "give masks named air, fat, muscle or blood with some hundred voxels each"
            )
    return _by_voltage(kvp)


def _by_rods(ct: Volume, rods: Sequence[Rod]) -> Calibration:
    if len(rods) < 2:
        raise InputError(
            f"a density phantom with {len(rods)} rod(s) fits no line; give two rods or more"
        )
    hu = np.array([_rod_hu(ct, rod) for _, rod in rods])
    density = np.array([float(known) for known, _ in rods])
    if np.ptp(hu) == 0:
        raise InputError(f"all rods read {hu[0]:.0f} HU; check that each mask lies on its own rod")
    slope, offset = np.polyfit(hu, density, 1)
    if slope <= 0:
        raise InputError(
            "density falls as HU rises; check that rods and densities are in the same order"
        )
    worst = float(np.abs(slope * hu + offset - density).max())
    return Calibration(
        method="phantom",
        slope=float(slope),
        offset=float(offset),
        note=f"line through {len(rods)} rods of known density, largest residual {worst:.4f} g/cm3",
    )


def _rod_hu(ct: Volume, rod: Mask | float) -> float:
    if not isinstance(rod, Mask):
        return float(rod)
    held = rod.on(ct.grid)
    if held.is_empty:
        raise InputError("a rod's mask has no voxel inside the CT; draw it on the rod")
    return float(np.mean(_inner(ct.values, held.values, ct.grid.spacing_mm)))


def _by_tissues(levels: Mapping[str, float], *, given: bool) -> Calibration:
    """Line through the tissues' HU and their equivalent densities (clinical.md C.2.2, method A)."""
    facts = {name: tissue.value(_DENSITY[name]) for name in levels}
    hu = np.array([levels[name] for name in facts])
    density = np.array([fact.mean for fact in facts.values()])
    slope, offset = np.polyfit(hu, density, 1)
    grades = sorted({fact.evidence for fact in facts.values()})
    read = ", ".join(f"{name} {levels[name]:.0f} HU" for name in facts)
    where = "given masks" if given else "found in the scan"
    return Calibration(
        method="internal",
        slope=float(slope),
        offset=float(offset),
        note=f"line through {read} ({where}); their equivalent densities are {', '.join(grades)} "
        "values",
    )


_DENSITY = {
    "air": "density_air",
    "fat": "density_fat",
    "muscle": "density_muscle",
    "blood": "density_muscle",
}


def _by_voltage(kvp: float | None) -> Calibration:
    """The textbook slope, scaled to the tube voltage where a factor is known."""
    slope = tissue.value("density_slope_uncalibrated")
    assert slope.low is not None
    spread = 100 * (1 - slope.low / slope.mean)
    factor, said = _kvp_factor(kvp)
    return Calibration(
        method="none",
        slope=slope.mean * factor,
        offset=0.0,
        note=f"uncalibrated: textbook slope {said}, uncertain by 20 % ({slope.evidence}; published "
        f"slopes differ by {spread:.0f} %)",
    )


def _kvp_factor(kvp: float | None) -> tuple[float, str]:
    """Factor on the slope at a tube voltage, linear between the voltages there are factors for."""
    if kvp is None:
        return 1.0, "for 120 kVp, tube voltage unknown"
    known = {120.0: 1.0}
    known |= {float(v): tissue.value(f"kvp_factor_{v}").mean for v in (80, 100, 140)}
    at = sorted(known)
    factor = float(np.interp(kvp, at, [known[v] for v in at]))
    if at[0] <= kvp <= at[-1]:
        return factor, f"scaled to {kvp:.0f} kVp"
    return factor, f"for {at[0] if kvp < at[0] else at[-1]:.0f} kVp, the nearest to {kvp:.0f} kVp"


def _given_levels(ct: Volume, tissues: Mapping[str, Mask]) -> dict[str, float]:
    unknown = set(tissues) - set(_DENSITY)
    if unknown:
        raise InputError(
            f"internal calibration knows no tissue {', '.join(sorted(unknown))}; name the masks "
            "air, fat, muscle or blood"
        )
    levels = {}
    for name, mask in tissues.items():
        held = mask.on(ct.grid)
        if held.voxels >= _FEW:
            inner = _inner(ct.values, held.values, ct.grid.spacing_mm)
            levels[name] = float(np.median(inner))
    return levels


def _inner(values: NDArray[Any], mask: NDArray[np.bool_], spacing_mm: Any) -> NDArray[Any]:
    """The values deep inside a mask, or all of them where it is too thin to have a depth."""
    deep = depth(mask, spacing_mm) > _DEPTH_MM
    return values[deep if np.count_nonzero(deep) >= _FEW else mask]


def _found_levels(ct: Volume, body: Mask | None) -> dict[str, float]:
    """HU of air, fat and muscle, each the peak of the histogram in its own window.

    Air is read outside the patient, fat and muscle inside, in voxels whose neighbours read alike,
    so that mixed voxels (skin, gas, marrow) do not pull the peaks.
    """
    step = max(1, int(np.ceil(np.prod(ct.grid.shape) / _SAMPLES)))
    view = ct.values[::step].astype(np.float32)
    # Without a body, what is far from air is patient.
    inside = (
        view > tissue.value("hu_body").mean if body is None else body.on(ct.grid).values[::step]
    )
    even = _even(view)
    fat, muscle = tissue.value("hu_fat"), tissue.value("hu_muscle")
    middle = (fat.mean + muscle.mean) / 2
    half = abs(muscle.mean - middle)
    windows = {
        "air": (~inside, tissue.value("hu_air").mean, half),
        "fat": (inside, fat.mean, half),
        "muscle": (inside, muscle.mean, half),
    }
    found = {}
    for name, (where, centre, width) in windows.items():
        sample = view[where & even & (np.abs(view - centre) < width)]
        peak = _peak(sample) if sample.size >= _FEW else np.inf
        # A peak at the window's edge is the flank of something else (foam, gas, liver).
        if abs(peak - centre) < width - 2 * _EVEN_BINS:
            found[name] = peak
    # Air alone with one soft tissue is a line too; two soft tissues without air are too close.
    return found if "air" in found or len(found) == 0 else {}


def _even(view: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Voxels whose in-plane neighbours read alike: no edge runs through them."""
    steps = [np.abs(np.diff(view, axis=axis)) for axis in (1, 2)]
    limit = abs(tissue.value("hu_muscle").mean - tissue.value("hu_fat").mean) / 2
    out = np.zeros(view.shape, dtype=bool)
    out[:, 1:-1, 1:-1] = (
        (steps[0][:, :-1, 1:-1] < limit)
        & (steps[0][:, 1:, 1:-1] < limit)
        & (steps[1][:, 1:-1, :-1] < limit)
        & (steps[1][:, 1:-1, 1:] < limit)
    )
    return out


def _peak(hu: NDArray[Any]) -> float:
    """Where the smoothed histogram of a tissue is highest (centre of the top by a parabola)."""
    from scipy.ndimage import gaussian_filter1d

    edges = np.arange(hu.min() - 3 * _EVEN_BINS, hu.max() + 3 * _EVEN_BINS + _BIN_HU, _BIN_HU)
    counts, _ = np.histogram(hu, edges)
    smooth = gaussian_filter1d(counts.astype(float), _EVEN_BINS)
    k = int(np.clip(np.argmax(smooth), 1, len(smooth) - 2))
    a, b, c = smooth[k - 1 : k + 2]
    bend = a - 2 * b + c
    shift = 0.0 if bend == 0 else 0.5 * (a - c) / bend
    return float(edges[k] + _BIN_HU / 2 + shift * _BIN_HU)
