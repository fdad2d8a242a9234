"""Synthetic patients with known truth, one per bone route; they are drawn, not copied from anyone.

>>> from trocar import phantom
>>> phantom.NAMES[0]
'vertebra_l3'
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from trocar.errors import InputError
from trocar.facts import tissue
from trocar.model.case import Site
from trocar.model.space import Float, Labels, Mask, Volume
from trocar.phantom.growth import Growth, grow
from trocar.phantom.measures import Truth, measure
from trocar.phantom.patient import Patient
from trocar.phantom.pelvis import (
    acetabulum_patient,
    femur_patient,
    pubic_ramus_patient,
    sacrum_patient,
)
from trocar.phantom.scene import ORIGIN_MM, Canvas, Lattice, Part, develop, evaluate, texture
from trocar.phantom.spine import vertebra_l3, vertebra_t10_plana

__all__ = ["NAMES", "ORIGIN_MM", "Phantom", "Truth", "make", "truth", "walls"]

_LYTIC_HU = float(tissue.value("hu_lytic"))

_PATIENTS: dict[str, Callable[[], Patient]] = {
    "vertebra_l3": vertebra_l3,
    "vertebra_t10_plana": vertebra_t10_plana,
    "sacrum": sacrum_patient,
    "acetabulum": acetabulum_patient,
    "pubic_ramus": pubic_ramus_patient,
    "femur": femur_patient,
}
NAMES: tuple[str, ...] = tuple(_PATIENTS)


@dataclass(frozen=True, eq=False, kw_only=True)
class Phantom:
    """A synthetic patient: its CT, its labels, its lesion and what is exactly known of them.

    ``labels`` carry TotalSegmentator class names where there is one; the treated bone's label is
    the filled bone, lesion included. ``lesion`` includes the soft-tissue part outside the bone.
    ``click_mm`` is an LPS point well inside the lesion (inside the bone when there is no lesion).
    """

    name: str
    site: Site
    ct: Volume
    labels: Labels
    lesion: Mask
    click_mm: Float
    truth: Truth


def walls(name: str) -> tuple[str, ...]:
    """The walls of a phantom's bone in which a defect can be asked for."""
    return tuple(_patient(name).ports)


def make(
    name: str,
    *,
    seed: int = 0,
    spacing_mm: Sequence[float] = (1.0, 0.8, 0.8),
    defects: Sequence[str] | None = None,
    soft_tissue: bool = False,
    lesion: bool = True,
    lesion_mm: float | Sequence[float] | None = None,
    noise_hu: float = 20.0,
    blur_mm: float = 1.2,
) -> Phantom:
    """What would a CT of this synthetic patient look like, and what is true of it?

    ``spacing_mm`` is (slice, row, column). ``defects`` names the walls the lesion has broken
    (``walls(name)`` lists them; None takes the phantom's usual ones, () none). ``soft_tissue`` lets
    tumour grow out of the first of them. ``lesion_mm`` are the diameters of the lesion's core along
    left, posterior and superior, or one diameter. ``noise_hu`` is the standard deviation of the
    noise and ``blur_mm`` the full width at half maximum of the scanner's point spread. The same
    arguments always give the same patient; ``seed`` changes noise and trabecular texture only.
    Raises InputError for a name, wall or size there is not.
    """
    patient = _patient(name)
    spacing = _three(spacing_mm, "spacing_mm")
    growth, known = _wished(name, defects, soft_tissue, lesion, lesion_mm)
    rng = np.random.default_rng([seed, *name.encode()])
    lattice = Lattice.over(patient.box, spacing[::-1])
    canvas = _draw(patient, growth, lattice, rng)
    grid = lattice.grid()
    mask = np.zeros(lattice.shape, bool)
    if growth is not None:
        where = lattice.window(growth.box)
        mask[where] = evaluate(growth.whole, lattice.part(where), 0.0) < 0
    values = develop(canvas.image, lattice, blur_mm, noise_hu, rng)
    return Phantom(
        name=name,
        site=patient.site,
        ct=Volume(grid=grid, values=values),
        labels=Labels(
            grid=grid, values=canvas.labels, names={v: k for k, v in canvas.names.items()}
        ),
        lesion=Mask(grid=grid, values=mask),
        click_mm=np.asarray(patient.lesion_at, float) + ORIGIN_MM,
        truth=known,
    )


def truth(
    name: str,
    *,
    defects: Sequence[str] | None = None,
    soft_tissue: bool = False,
    lesion: bool = True,
    lesion_mm: float | Sequence[float] | None = None,
) -> Truth:
    """What is true of a synthetic patient, without drawing it; arguments as in :func:`make`."""
    return _wished(name, defects, soft_tissue, lesion, lesion_mm)[1]


def _wished(
    name: str,
    defects: Sequence[str] | None,
    soft_tissue: bool,
    lesion: bool,
    lesion_mm: float | Sequence[float] | None,
) -> tuple[Growth | None, Truth]:
    patient = _patient(name)
    if not lesion:
        return _known(name, None)
    asked = patient.default_defects if defects is None else tuple(defects)
    sizes = patient.lesion_mm if lesion_mm is None else _three(lesion_mm, "lesion_mm")
    return _known(name, asked, soft_tissue, sizes)


def _patient(name: str) -> Patient:
    if name not in _PATIENTS:
        raise InputError(f"there is no phantom {name!r}; choose one of {', '.join(NAMES)}")
    return _PATIENTS[name]()


def _three(value: float | Sequence[float], what: str) -> tuple[float, float, float]:
    sizes = [float(value)] * 3 if isinstance(value, int | float) else [float(v) for v in value]
    if len(sizes) != 3 or not all(np.isfinite(sizes)) or min(sizes) <= 0:
        raise InputError(f"{what} is {value}; expected three lengths above 0 mm")
    return sizes[0], sizes[1], sizes[2]


@lru_cache(maxsize=64)
def _known(
    name: str,
    defects: tuple[str, ...] | None,
    soft_tissue: bool = False,
    lesion_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> tuple[Growth | None, Truth]:
    """Lesion shapes and truth; they depend on neither seed nor grid, so they are kept."""
    patient = _patient(name)
    if defects is None:
        return None, measure(patient, None)
    for wall in defects:
        if wall not in patient.ports:
            raise InputError(
                f"the phantom {name} has no wall {wall!r} to break; "
                f"it has {', '.join(patient.ports)}"
            )
    if soft_tissue and not defects:
        raise InputError("tumour cannot leave an unbroken bone; name a wall in defects")
    growth = grow(
        patient.bone,
        patient.cortex,
        patient.lesion_at,
        lesion_mm,
        [patient.ports[w] for w in defects],
        patient.other_bone,
        soft_tissue=soft_tissue,
    )
    return growth, measure(patient, growth)


def _draw(
    patient: Patient, growth: Growth | None, lattice: Lattice, rng: np.random.Generator
) -> Canvas:
    """Paint every part in order, then the lesion (which has no label of its own)."""
    names = list(dict.fromkeys(p.name for p in patient.parts if p.name))
    canvas = Canvas(
        lattice=lattice,
        names={n: i + 1 for i, n in enumerate(names)},
        mottle=texture(lattice.shape, patient.trabecular_spread_hu, rng),
    )
    for part in patient.parts:
        canvas.paint(part)
    if growth is not None:
        canvas.paint(Part(name="", shape=growth.whole, box=growth.box, hu=_LYTIC_HU))
    return canvas
