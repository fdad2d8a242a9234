"""Fluoroscopy: what the C-arm would show of this patient, from where, and where things fall on it.

The C-arm is described as at the table, by the angles of :class:`trocar.model.plan.CArmAngles`:
``oblique_deg`` swings the receptor from the vertical through the patient as positioned towards the
patient's left, ``cranial_deg`` towards the head. The tube is opposite. Pictures are oriented as
people hang them: the head up; in the AP view the patient's right at the image's left, whether the
patient lies prone or supine; in the lateral view the patient faces the image's left. Between these
the picture turns continuously with the angles. ``View.letters`` says where each edge points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import cos, pi, radians, sin
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trocar.errors import InputError
from trocar.facts import carm, tissue
from trocar.kernels import projection
from trocar.model.plan import CArmAngles, Position, Trajectory
from trocar.model.result import View
from trocar.model.space import Float, Grid, Mask, Segment, Volume

Image = NDArray[np.float32]

HOUNSFIELD = 1000.0  # the scale itself: HU = 1000 (mu / mu_water - 1)


def needle_views(
    ct: Volume,
    trajectory: Trajectory,
    *,
    detector_px: int = 512,
    detector_mm: float | None = None,
) -> tuple[View, View, View]:
    """What will be seen when this needle is placed: AP, lateral and down the barrel?

    All three have the needle's tip at the isocentre. Down the barrel the ray through the tip runs
    along the needle and the receptor is on the side of the hub, at exactly the angles of
    ``trajectory.c_arm``, so that the whole needle falls on one point. The receptor is that of
    :func:`c_arm_view`.
    """
    whole = replace(ct, values=np.ascontiguousarray(ct.values))  # copied once, not three times
    barrel = trajectory.c_arm

    def view(name: str, oblique_deg: float, cranial_deg: float) -> View:
        return c_arm_view(
            whole,
            trajectory.target_mm,
            oblique_deg=oblique_deg,
            cranial_deg=cranial_deg,
            position=trajectory.position,
            name=name,
            detector_px=detector_px,
            detector_mm=detector_mm,
        )

    return (
        view("AP", 0.0, 0.0),
        view("Lateral", lateral_deg(trajectory.position), 0.0),
        view("Down the barrel", barrel.oblique_deg, barrel.cranial_deg),
    )


def lateral_deg(position: Position) -> float:
    """The oblique angle of the lateral view that shows the patient facing the image's left.

    >>> lateral_deg("supine"), lateral_deg("prone")
    (90.0, -90.0)
    """
    return -90.0 if position == "prone" else 90.0


def c_arm_view(
    ct: Volume,
    isocentre_mm: ArrayLike,
    *,
    oblique_deg: float,
    cranial_deg: float,
    position: Position = "prone",
    name: str = "",
    detector_px: int = 512,
    detector_mm: float | None = None,
    source_detector_mm: float | None = None,
    source_isocentre_mm: float | None = None,
) -> View:
    """What would a C-arm show from this direction?

    ``isocentre_mm`` is the LPS point the central ray passes through; it falls on the middle of a
    square receptor of ``detector_px`` x ``detector_px`` pixels and side ``detector_mm``. Distances
    not given are those of ``facts/carm.toml``. ``View.image`` holds the line integral of
    attenuation (no unit) at 70 keV, with mu = mu_water (1 + HU/1000) and never below 0, cement and
    metal taken at their HU; the fraction of photons that arrive is exp(-image). What the CT does
    not hold is air. Raises InputError when the volume is not in HU or the distances make no C-arm.
    """
    if ct.unit != "HU":
        raise InputError(f"the volume is in {ct.unit!r}; fluoroscopy needs a CT in HU")
    far = _given(source_detector_mm, "source_detector")
    near = _given(source_isocentre_mm, "source_isocentre")
    side = _given(detector_mm, "detector_side")
    _require_c_arm(near, far, side, detector_px)
    centre = _point(isocentre_mm)
    towards, right, up = directions(oblique_deg, cranial_deg, position)
    pixel_mm = side / detector_px
    row_step, column_step = -pixel_mm * up, pixel_mm * right
    middle = centre + (far - near) * towards
    geometry = {
        "source_mm": centre - near * towards,
        "detector_mm": middle - (detector_px - 1) / 2 * (row_step + column_step),
        "row_step_mm": row_step,
        "column_step_mm": column_step,
    }
    return View(
        name=name,
        image=_line_integrals(ct, geometry, detector_px),
        oblique_deg=float(oblique_deg),
        cranial_deg=float(cranial_deg),
        letters=(letters(-right), letters(up), letters(right), letters(-up)),
        **geometry,
    )


def directions(
    oblique_deg: float, cranial_deg: float, position: Position
) -> tuple[Float, Float, Float]:
    """Unit LPS vectors from tube to receptor, to the image's right and to its top.

    Right and top are the ways the receptor moves when the oblique and the cranial angle grow, so
    they are defined at every angle, straight up to the head as well.
    """
    towards = CArmAngles(
        oblique_deg=oblique_deg, cranial_deg=cranial_deg, position=position
    ).direction()
    o, c = radians(oblique_deg), radians(cranial_deg)
    sign = 1.0 if position == "prone" else -1.0
    right = np.array([cos(o), -sign * sin(o), 0.0])
    up = np.array([-sin(c) * sin(o), -sign * sin(c) * cos(o), cos(c)])
    return towards, right, up


def letters(direction: ArrayLike) -> str:
    """Where a direction points on the patient: L, R, A, P, H (head), F (feet), largest part first.

    A part counts from 22.5 degrees on.

    >>> letters([1, 0, 0]), letters([0.7, -0.7, 0.1]), letters([0.1, 0, -1])
    ('L', 'LA', 'F')
    """
    d = np.asarray(direction, dtype=np.float64)
    d = d / np.linalg.norm(d)
    order = np.argsort(-np.abs(d), kind="stable")
    return "".join("RAF"[k] if d[k] < 0 else "LPH"[k] for k in order if abs(d[k]) > sin(pi / 8))


def magnification(view: View, points_mm: ArrayLike) -> Float:
    """How many times larger than life is a thing at these LPS points [..., 3] on the receptor?"""
    normal = np.cross(view.row_step_mm, view.column_step_mm)
    depth = (np.asarray(points_mm, dtype=np.float64) - view.source_mm) @ normal
    out: Float = ((view.detector_mm - view.source_mm) @ normal) / depth
    return out


def path_mm(mask: Mask, view: View) -> Image:
    """How far does the ray to each pixel of a view run inside a mask, in mm?"""
    image = np.zeros(view.image.shape, np.float32)
    if not mask.is_empty:
        one = mask.crop(mask.box(2 * max(mask.grid.spacing_mm)))
        cast(one.values.astype(np.float32), one.grid, view, into=image, slope=1.0)
    return image


def chord_mm(view: View, start_mm: ArrayLike, end_mm: ArrayLike, radius_mm: float) -> Float:
    """How far the ray to each pixel of a view runs inside a straight rod with flat ends, in mm."""
    rod = Segment(start_mm=np.asarray(start_mm), end_mm=np.asarray(end_mm))
    rows, columns = view.image.shape
    row, column = np.arange(rows)[:, None, None], np.arange(columns)[None, :, None]
    corner = view.detector_mm - view.source_mm
    ray = corner + row * view.row_step_mm + column * view.column_step_mm
    length = np.linalg.norm(ray, axis=-1)
    ray /= length[..., None]
    along, start = ray @ rod.direction, view.source_mm - rod.start_mm
    start_along = float(start @ rod.direction)
    # Across the axis |s + t r| = radius; a ray along the axis is a limit that floats stand for.
    a = np.maximum(1.0 - along**2, 1e-12)
    b = ray @ start - along * start_along
    c = float(start @ start) - start_along**2 - radius_mm**2
    half = np.sqrt(np.maximum(b**2 - a * c, 0.0)) / a
    level = np.where(np.abs(along) < 1e-12, 1e-12, along)
    ends = np.stack([-start_along / level, (rod.length_mm - start_along) / level])
    enter = np.maximum.reduce([-b / a - half, ends.min(axis=0), np.zeros_like(length)])
    leave = np.minimum.reduce([-b / a + half, ends.max(axis=0), length])
    out: Float = np.maximum(leave - enter, 0.0)
    return out


def cast(
    values: NDArray[np.float32], grid: Grid, view: View, *, into: Image, slope: float | None = None
) -> None:
    """Add the line integrals of some voxels (HU above nothing) to the pixels they fall on."""
    n = np.array(grid.shape)
    ends = [(a, b, c) for a in (0, n[0]) for b in (0, n[1]) for c in (0, n[2])]
    pixels = view.project(grid.to_world(np.array(ends) - 0.5))
    first = np.clip(np.floor(pixels.min(axis=0)).astype(int), 0, into.shape)
    last = np.clip(np.ceil(pixels.max(axis=0)).astype(int) + 1, first, into.shape)
    if not values.any() or np.any(last <= first):
        return
    into[first[0] : last[0], first[1] : last[1]] += projection.project(
        values,
        grid.affine,
        source_mm=view.source_mm,
        detector_mm=view.detector_mm + first[0] * view.row_step_mm + first[1] * view.column_step_mm,
        row_step_mm=view.row_step_mm,
        column_step_mm=view.column_step_mm,
        shape=(int(last[0] - first[0]), int(last[1] - first[1])),
        slope=tissue.value("mu_water_70kev").mean / HOUNSFIELD if slope is None else slope,
    )


def photons(image: Image, view: View) -> Float:
    """How many photons of one frame reach each pixel where the line integrals are ``image``?

    The tube is governed as a C-arm does it: what arrives behind the patient of ``view`` alone in
    the middle of the field (its median) is held at ``photons_middle`` of ``facts/carm.toml``.
    """
    pixel_mm2 = float(np.linalg.norm(np.cross(view.row_step_mm, view.column_step_mm)))
    behind = view.image[middle(view.image.shape) & (view.image > 0)]
    held = float(np.median(behind)) if behind.size else 0.0
    out: Float = float(carm.value("photons_middle")) * pixel_mm2 * np.exp(held - image)
    return out


def display(
    view: View,
    *,
    dense: Literal["dark", "white"] = "dark",
    harmonised: bool = True,
    percentiles: tuple[float, float] = (0.5, 99.5),
) -> NDArray[np.uint8]:
    """The view as an 8-bit picture [row, column] for a screen; not for measuring.

    Shown is the line integral between two percentiles of its values in the middle of the field,
    then, when ``harmonised``, with the local contrast evened out as a C-arm's processor does, so
    that a spine is seen beside lung and through bowel alike; without it grey is linear in the
    integral. ``dense="dark"`` is how a C-arm's live picture looks: bone, cement and needle dark on
    a light ground; ``"white"`` is how a radiograph is hung.
    """
    seen = view.image > 0
    if seen.any():
        inner = seen & middle(view.image.shape)
        low, high = np.percentile(view.image[inner if inner.any() else seen], percentiles)
        grey = np.clip((view.image - low) / max(float(high - low), 1e-6), 0.0, 1.0)
        grey = np.where(seen, _harmonised(grey) if harmonised else grey, 0.0)
    else:
        grey = np.zeros(view.image.shape)
    if dense == "dark":
        grey = 1.0 - grey
    out: NDArray[np.uint8] = np.rint(255 * grey).astype(np.uint8)
    return out


def middle(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The pixels in the inner three quarters of the field's radius, as automatic exposure uses."""
    row, column = np.ogrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    out: NDArray[np.bool_] = np.hypot(row, column) < 3 / 4
    return out


def _harmonised(grey: Float) -> Float:
    """Contrast-limited adaptive equalisation in fields about as large as a vertebra."""
    from skimage.exposure import equalize_adapthist

    out: Float = equalize_adapthist(grey, kernel_size=max(1, grey.shape[0] // 4), clip_limit=0.02)
    return out


def _line_integrals(
    ct: Volume, geometry: Mapping[str, Float], detector_px: int
) -> NDArray[np.float32]:
    mu_water = tissue.value("mu_water_70kev").mean
    return projection.project(
        ct.values,
        ct.grid.affine,
        shape=(detector_px, detector_px),
        slope=mu_water / HOUNSFIELD,
        intercept=mu_water,
        **geometry,
    )


def _point(point_mm: ArrayLike) -> Float:
    point = np.array(point_mm, dtype=np.float64)
    if point.shape != (3,) or not np.all(np.isfinite(point)):
        raise InputError(f"the isocentre is {point.tolist()}; expected three finite LPS mm")
    return point


def _require_c_arm(near_mm: float, far_mm: float, side_mm: float, pixels: int) -> None:
    if not (0 < near_mm < far_mm and side_mm > 0 and pixels >= 1):
        raise InputError(
            f"a C-arm with {near_mm:g} mm from source to isocentre, {far_mm:g} mm from source to "
            f"receptor and a receptor of {side_mm:g} mm in {pixels} pixels does not exist; put the "
            "isocentre between source and receptor and give the receptor a size"
        )


def _given(chosen_mm: float | None, fact: str) -> float:
    return float(carm.value(fact)) if chosen_mm is None else float(chosen_mm)
