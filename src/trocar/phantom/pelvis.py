"""One pelvis as shapes, and four patients cut from it: sacrum, acetabulum, pubic ramus, femur.

The origin lies half way between the femoral heads. All sizes are in mm and were chosen to look
like an adult of average size; they are not clinical data.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from math import atan2, cos, degrees, radians, sin

import numpy as np

from trocar.facts import tissue
from trocar.model.case import Site
from trocar.phantom.growth import Port
from trocar.phantom.patient import Patient
from trocar.phantom.scene import Bone, Box, Part
from trocar.phantom.shapes import (
    Array,
    Point,
    Shape,
    ball,
    block,
    both_sides,
    capsule,
    cut,
    ellipse,
    ellipsoid,
    even,
    grown,
    half_space,
    meet,
    mirrored,
    pillar,
    placed,
    smooth_max,
    squeezed,
    tube,
    union,
)
from trocar.phantom.spine import LUMBAR, Form, body, cortex, sized, vertebra

# Hip joint.
HIP = (88.0, 0.0, 0.0)  # centre of the left femoral head
HEAD_RADIUS = 23.5
JOINT_SPACE = 4.0  # bone to bone
OPENING = (0.68, -0.27, -0.68)  # the way the socket faces

# Iliac wing: a sheet in (s, z) bent along q; s runs back and inward, q outward.
WING_YAW = 119.7  # degrees from the left axis to s
WING_OUTLINE = (
    (-37.0, 30.0),
    (-30.0, 12.0),
    (0.0, 8.0),
    (25.0, 12.0),
    (38.0, 22.0),
    (55.0, 38.0),
    (88.0, 48.0),
    (104.0, 82.0),
    (92.0, 108.0),
    (62.0, 126.0),
    (15.0, 139.0),
    (-20.0, 128.0),
    (-45.0, 105.0),
    (-57.0, 84.0),
    (-50.0, 70.0),
    (-44.0, 52.0),
)

# Sacrum: bent about an axis in front of it; (x, v, -u) with v backward and u down its length.
SACRAL_AXIS = (-22.3, 8.4)  # y, z
SACRAL_RADIUS = 111.9
SACRAL_TOP_DEG = 54.93  # where u = 0
SACRAL_SLOPE_DEG = 42.0  # of the first end plate
SACRUM_U = (-6.0, 8.0, 28.0, 50.0, 66.0, 86.0, 112.0)
SACRUM_WIDTH = (46.0, 52.0, 52.0, 45.0, 34.0, 24.0, 10.0)  # half
SACRUM_BODY = (26.0, 25.0, 20.0, 16.0, 14.0, 11.0, 7.0)  # half width of the bodies
SACRUM_DEPTH = (16.5, 15.0, 12.0, 9.0, 7.5, 6.0, 4.0)  # half, bodies
SACRUM_ALA_AT = (6.0, 6.5, 6.5, 5.0, 4.0, 2.0, 0.5)  # how far the ala's middle lies behind
SACRUM_ALA_DEPTH = (11.0, 12.5, 11.5, 9.0, 7.0, 5.0, 3.5)  # half
CANAL_U = (-10.0, 0.0, 30.0, 60.0, 90.0, 112.0)
CANAL_AT = (25.0, 22.0, 16.0, 11.5, 8.5, 7.0)
CANAL_HALF_WIDTH = (14.0, 13.0, 10.0, 7.0, 4.0, 2.0)
CANAL_HALF_DEPTH = (7.5, 7.0, 5.0, 3.6, 2.4, 1.5)
FORAMINA = ((30.0, 21.0, 5.6), (51.0, 18.5, 5.0), (70.0, 16.0, 4.2), (87.0, 14.0, 3.4))  # u, x, r

# Femur.
SHAFT = ((122.0, 7.0, -58.0), (116.0, 2.0, -200.0))
FEMUR_CORTEX_Z = (-110.0, -78.0, -58.0, -38.0, -15.0, 0.0)
FEMUR_CORTEX = (6.5, 6.0, 4.2, 2.6, 1.7, 1.2)

_FAR: Box = ((-220, -220, -220), (220, 220, 220))


def _hu(name: str) -> float:
    return float(tissue.value(f"hu_{name}"))


def _table(u: Array, at: tuple[float, ...], values: tuple[float, ...]) -> Array:
    return np.interp(u, at, values).astype(np.float32)


# --- hip bone ------------------------------------------------------------------------------------


def _polygon(s: Array, z: Array, corners: tuple[tuple[float, float], ...]) -> Array:
    """Exact signed distance in a plane to a closed polygon."""
    best = np.full(s.shape, np.inf, np.float32)
    inside = np.zeros(s.shape, bool)
    for (s0, z0), (s1, z1) in zip(corners, corners[1:] + corners[:1], strict=True):
        ds, dz = np.float32(s1 - s0), np.float32(z1 - z0)
        u, v = s - np.float32(s0), z - np.float32(z0)
        t = np.clip((u * ds + v * dz) / (ds * ds + dz * dz), 0, 1)
        best = np.minimum(best, (u - t * ds) ** 2 + (v - t * dz) ** 2)
        if z0 != z1:
            inside ^= ((z0 > z) != (z1 > z)) & (u < ds * v / dz)
    return np.where(inside, -np.sqrt(best), np.sqrt(best))


def wing() -> Shape:
    """The left iliac wing: thin in its middle, thick at roof, crest and sacroiliac joint."""
    c, s_ = np.float32(cos(radians(WING_YAW))), np.float32(sin(radians(WING_YAW)))

    def sd(x: Array, y: Array, z: Array) -> Array:
        u, v = x - np.float32(HIP[0]), y - np.float32(HIP[1])
        s, q = c * u + s_ * v, s_ * u - c * v
        rise = np.maximum(z - 34, 0)
        q = q - np.float32(0.34) * rise * np.exp(-((s / 46) ** 2))
        joint = np.exp(-(((s - 76) / 26) ** 2) - ((z - 80) / 30) ** 2)  # by the sacrum
        q = q - np.float32(5.0) * joint
        edge = _polygon(s, z, WING_OUTLINE)
        half = (
            np.float32(2.8)
            + 7.5 * np.exp(-(((z - 20) / 18) ** 2))
            + 3.2 * np.exp(np.minimum(edge, 0) / 7)
            + 7.0 * joint
            + 1.6 * np.exp(-(((s + 12) / 12) ** 2))
        ).astype(np.float32)
        sheet = (np.abs(q) - half) * np.float32(0.94)
        return smooth_max(edge, sheet, 4.0)

    return sd


def socket() -> Shape:
    """What the hip joint takes out of the hip bone: socket and fossa."""
    return union(
        ball(HIP, HEAD_RADIUS + JOINT_SPACE), ellipsoid((66.0, 2.0, -8.0), (7.2, 11.0, 13.0)), k=2.0
    )


@cache
def hip_alone() -> Shape:
    """The left hip bone before room is made for the sacrum."""
    cup = meet(
        ball((87.0, 3.0, 5.0), 36.5),
        half_space([c + 4 * o for c, o in zip(HIP, OPENING)], OPENING),
        half_space((55.8, 0.0, 0.0), (-1.0, 0.0, 0.0)),
        k=3.0,
    )
    solid = union(
        wing(),
        cup,
        capsule((99.0, -30.0, 33.0), (86.0, -10.0, 30.0), 7.0, 11.0),  # anterior inferior spine
        tube(
            ((62.0, 52.0, 62.0), (66.0, 42.0, 36.0), (70.0, 28.0, 8.0), (71.0, 26.0, -18.0)),
            (9.0, 9.5, 10.0, 10.5),
            k=3.0,
        ),  # posterior column
        tube(
            ((71.0, 26.0, -18.0), (66.0, 30.0, -45.0), (60.0, 30.0, -66.0)),
            (10.5, 12.0, 13.0),
            k=3.0,
        ),  # ischium
        capsule((60.0, 44.0, 8.0), (47.0, 51.0, 4.0), 5.0, 2.5),  # ischial spine
        tube(
            ((57.0, 22.0, -72.0), (40.0, -6.0, -62.0), (17.0, -36.0, -36.0)), (8.0, 5.5, 6.0), k=3.0
        ),  # lower ramus
        tube(
            ((76.0, -18.0, 6.0), (48.0, -34.0, 0.0), (20.0, -46.0, -3.0)), (10.5, 7.8, 8.0), k=3.0
        ),  # upper ramus
        ellipsoid((11.0, -45.0, -17.0), (10.5, 8.0, 21.0)),  # pubic body
        ball((25.0, -52.0, 1.0), 4.5),  # pubic tubercle
        k=6.0,
    )
    return cut(solid, socket(), half_space((2.2, 0, 0), (1.0, 0, 0)), k=0.8)


@cache
def hip() -> Shape:
    """The left hip bone, congruent with the sacrum across the sacroiliac joint."""
    return cut(hip_alone(), grown(sacrum(), 2.4))


HIP_BOX: Box = ((1.0, -70.0, -84.0), (142.0, 118.0, 146.0))


# --- sacrum --------------------------------------------------------------------------------------


def bent(shape: Shape) -> Shape:
    """A shape drawn in the sacrum's straightened frame (x, v, -u), bent into place."""
    y0, z0 = (np.float32(c) for c in SACRAL_AXIS)
    radius, top = np.float32(SACRAL_RADIUS), np.float32(radians(SACRAL_TOP_DEG))

    def sd(x: Array, y: Array, z: Array) -> Array:
        v, w = y - y0, z - z0
        return shape(x, np.hypot(v, w) - radius, radius * (np.arctan2(w, v) - top))

    return sd


def unbend(x: float, v: float, u: float) -> tuple[float, float, float]:
    """The place of a point of the sacrum's straightened frame."""
    angle = radians(SACRAL_TOP_DEG) - u / SACRAL_RADIUS
    r = SACRAL_RADIUS + v
    return x, SACRAL_AXIS[0] + r * cos(angle), SACRAL_AXIS[1] + r * sin(angle)


def _sacral_plate() -> Shape:
    def sd(x: Array, v: Array, w: Array) -> Array:
        u, a = -w, np.abs(x)
        middle = _table(u, SACRUM_U, SACRUM_BODY)
        t = np.clip((a / middle - np.float32(0.65)) / np.float32(0.9), 0, 1)
        t = t * t * (3 - 2 * t)
        depth = _table(u, SACRUM_U, SACRUM_DEPTH)
        half = depth + t * (_table(u, SACRUM_U, SACRUM_ALA_DEPTH) - depth)
        centre = t * _table(u, SACRUM_U, SACRUM_ALA_AT) - (1 - t)
        wide = _table(u, SACRUM_U, SACRUM_WIDTH) - np.float32(0.38) * (v - 6)
        side = (a - wide) * np.float32(0.9)
        face = (np.abs(v - centre) - half) * np.float32(0.93)
        return smooth_max(smooth_max(face, side, 7.0), u - 112, 4.0)

    return sd


def _sacral_canal(grow_mm: float = 0.0) -> Shape:
    def sd(x: Array, v: Array, w: Array) -> Array:
        a = _table(-w, CANAL_U, CANAL_HALF_WIDTH) + np.float32(grow_mm)
        b = _table(-w, CANAL_U, CANAL_HALF_DEPTH) + np.float32(grow_mm)
        y = v - _table(-w, CANAL_U, CANAL_AT)
        return ellipse(x, y, a * (1 - np.float32(0.3) * np.clip(y / b, -0.3, 1)), b)

    return sd


def sacral_foramina() -> Shape:
    """The left tunnels from the canal to the front and back of the sacrum, straightened frame."""
    tunnels = []
    for u, x, r in FORAMINA:
        back = float(np.interp(u, CANAL_U, CANAL_AT))
        depth = float(np.interp(u, SACRUM_U, SACRUM_DEPTH))
        tunnels += [
            tube(
                ((0.45 * x, back - 1, 8 - u), (x - 1, back - 8, 1 - u), (x, -depth - 9, -1 - u)),
                (r * 0.85, r, r),
            ),
            capsule((x - 1, back - 6, 1 - u), (x - 2, back + 16, -2 - u), r * 0.48),
        ]
    return union(*tunnels)


def _sacral_top() -> Shape:
    """Everything below the first end plate, which slopes; the alae are a little lower."""
    n = (0.0, -sin(radians(SACRAL_SLOPE_DEG)), cos(radians(SACRAL_SLOPE_DEG)))
    plane = half_space(unbend(0, 0, 0), n)
    return lambda x, y, z: plane(x, y, z) + np.float32(0.16) * np.maximum(np.abs(x) - 22, 0)


@cache
def sacrum() -> Shape:
    """The sacrum with canal, foramina, crest and upper articular processes."""
    roof = meet(
        _sacral_canal(4.6),
        half_space((0, 0, 2.0), (0, 0, 1)),
        half_space((0, 0, -96.0), (0, 0, -1)),
        k=3.0,
    )
    knobs = [
        ellipsoid((0, float(np.interp(u, CANAL_U, CANAL_AT)) + d, -u), (3.2, 7.0, 7.5))
        for u, d in ((14, 13), (38, 10), (60, 8))
    ]
    plate = meet(bent(_sacral_plate()), _sacral_top(), k=2.5)
    back = bent(union(roof, *knobs, k=3.0))
    horns = both_sides(capsule((18.5, 69.0, 100.0), (21.5, 67.5, 116.0), 6.5, 4.6))
    holes = bent(union(both_sides(sacral_foramina()), _sacral_canal(), k=1.0))
    return cut(union(plate, back, horns, k=4.0), holes, k=1.2)


SACRUM_BOX: Box = ((-62.0, 12.0, -8.0), (62.0, 118.0, 132.0))


# --- femur ---------------------------------------------------------------------------------------


@cache
def femur() -> Shape:
    """The left proximal femur."""
    return union(
        ball(HIP, HEAD_RADIUS),
        capsule((96.0, 1.5, -7.0), (120.0, 7.5, -32.0), 15.0, 17.0),
        ellipsoid((131.0, 13.0, -18.0), (13.0, 17.0, 22.0), -12.0),
        capsule((125.0, 8.5, -38.0), SHAFT[0], 18.0, 16.0),
        ball((109.5, 20.0, -57.0), 8.0),
        capsule(SHAFT[0], SHAFT[1], 15.5, 14.0),
        k=5.0,
    )


def femur_cortex() -> Shape:
    """Cortical thickness of the femur: thick in the shaft, thin in the head."""
    return lambda x, y, z: _table(z, FEMUR_CORTEX_Z, FEMUR_CORTEX)


def _shaft_share(x: Array, y: Array, z: Array) -> Array:
    return np.clip((-55 - z) / 25, 0, 1)


FEMUR_BOX: Box = ((60.0, -30.0, -130.0), (152.0, 44.0, 30.0))


def _joint() -> Shape:
    """Cartilage and joint space of the left hip."""
    return meet(
        ball(HIP, HEAD_RADIUS + JOINT_SPACE),
        half_space([c + 3 * o for c, o in zip(HIP, OPENING)], OPENING),
    )


# --- soft tissue ---------------------------------------------------------------------------------


def skin() -> Shape:
    """The outline of pelvis and thighs."""
    w, d = np.float32(1 / 172.0), np.float32(1 / 106.0)

    def trunk(x: Array, y: Array, z: Array) -> Array:
        cleft = 9 * np.exp(-((x / 14) ** 2)) * (y > 0)
        p, q = np.abs(x) * w, np.abs(y + cleft - 12) * d
        total = p * p * np.sqrt(p) + q * q * np.sqrt(q)
        out: Array = ((total + np.float32(1e-8)) ** np.float32(0.4) - 1) * 106
        return np.maximum(out, -70 - z)

    thighs = both_sides(pillar((90.5, 6.0, -60.0), (75.0, 93.0), axis=(-0.03, 0.0)))
    return union(trunk, meet(thighs, half_space((0, 0, 10.0), (0, 0, 1))), k=8.0)


def cavity() -> Shape:
    """Abdominal and pelvic cavity, in which bowel and bladder lie in fat."""
    return union(
        ellipsoid((0, -22.0, 105.0), (108.0, 56.0, 85.0)),
        ellipsoid((0, 6.0, 18.0), (46.0, 58.0, 58.0)),
        k=20.0,
    )


def _pair(
    name: str, shape: Shape, hu: float, box: Box = ((0, -125, -130), (190, 130, 150))
) -> list[Part]:
    (x0, y0, z0), (x1, y1, z1) = box
    return [
        Part(name=name.format(side="left"), shape=shape, box=box, hu=hu),
        Part(
            name=name.format(side="right"),
            shape=mirrored(shape),
            box=((-x1, y0, z0), (-x0, y1, z1)),
            hu=hu,
        ),
    ]


def _muscles() -> list[Part]:
    """Muscles of buttock, hip and thigh, each in its film of fat."""
    muscle, fat = _hu("muscle"), _hu("fat")
    deep = grown(skin(), -19.0)
    deeper = grown(skin(), -23.0)
    maximus = cut(
        meet(
            squeezed(
                tube(((38, 86, 75), (78, 82, 15), (112, 52, -48)), (30, 33, 24), k=8.0),
                (75, 80, 0),
                (1.1, 0.85, 1.1),
            ),
            deeper,
            k=3.0,
        ),
        hip_alone(),
    )
    medius = ellipsoid((124.0, 18.0, 62.0), (23.0, 40.0, 58.0), 18.0)
    minimus = ellipsoid((119.0, 2.0, 34.0), (14.0, 28.0, 34.0), 10.0)
    tensor = ellipsoid((134.0, -38.0, 10.0), (12.0, 20.0, 62.0))
    rectus = tube(((101, -40, 30), (108, -52, -30), (108, -52, -120)), (9, 15, 16))
    vastus = tube(((132, -12, -42), (134, -8, -130)), (26, 30), k=4.0)
    sartorius = tube(((118, -60, 70), (96, -66, -10), (72, -62, -110)), (9, 9, 10))
    adductors = tube(((28, -44, -30), (58, -14, -80), (70, 0, -130)), (12, 28, 32), k=6.0)
    hamstrings = tube(((66, 48, -72), (82, 52, -130)), (15, 26), k=4.0)
    iliopsoas = union(
        tube(
            ((46, 6, 150), (60, -6, 92), (85, -33, 36), (93, -35, 2), (105, -6, -46)),
            (22, 19, 14, 11, 7),
            k=4.0,
        ),
        ellipsoid((97.0, 4.0, 82.0), (11.0, 40.0, 38.0), -30.0),
        k=6.0,
    )
    piriform = tube(((22, 66, 60), (72, 56, 26), (122, 22, 2)), (7, 8, 4))
    obturator = ellipsoid((51.0, 6.0, -2.0), (5.0, 26.0, 24.0))
    multifidus = meet(ellipsoid((18.0, 92.0, 100.0), (20.0, 22.0, 66.0)), deep, k=2.0)
    parts = [
        Part(
            name="", shape=meet(deep, half_space((0, 0, 145.0), (0, 0, 1))), box=_FAR, hu=muscle - 4
        ),
        Part(name="", shape=cavity(), box=_FAR, hu=fat),
        *_pair("", ellipsoid((32.0, 46.0, -40.0), (20.0, 32.0, 30.0)), fat),
        *_pair("", tube(((60, 64, 26), (78, 52, -30), (96, 42, -120)), 11.0), fat),
        *_pair("", tube(((72, -56, 14), (80, -58, -50), (86, -46, -120)), (16, 14, 11)), fat),
    ]
    films = [
        ("gluteus_medius_{side}", medius),
        ("gluteus_minimus_{side}", minimus),
        ("gluteus_maximus_{side}", maximus),
        ("", tensor),
        ("", vastus),
        ("", rectus),
        ("", adductors),
        ("", hamstrings),
        ("", sartorius),
        ("", piriform),
        ("", obturator),
    ]
    for name, shape in films:
        inside = meet(shape, deeper)
        parts += _pair("", meet(grown(shape, 1.6), deep), fat)
        parts += _pair(name, inside, muscle)
    parts += _pair("iliopsoas_{side}", iliopsoas, muscle)
    parts += _pair("autochthon_{side}", multifidus, muscle)
    return parts


def _viscera() -> list[Part]:
    """Bladder, rectum, sigmoid, small bowel, vessels and nerves of the pelvis."""
    blood, nerve, organ = _hu("blood"), _hu("nerve"), _hu("organ")
    rectum = tube(
        ((8, 18, 112), (-6, 46, 74), (0, 60, 42), (0, 57, 5), (0, 46, -40)),
        (13, 14, 15, 14, 9),
        k=4.0,
    )
    gas = tube(((-6, 44, 74), (0, 57, 42), (0, 55, 14)), (5, 7, 5), k=3.0)
    sigmoid = tube(((84, -10, 140), (72, -22, 100), (34, -16, 84), (8, 18, 112)), 14.0, k=4.0)
    caecum = tube(((-84, -10, 140), (-74, -26, 96), (-66, -28, 80)), 19.0)
    caecal_gas = tube(((-82, -20, 140), (-74, -36, 98)), 8.0)
    loops = union(
        tube(((-40, -40, 70), (-8, -50, 62), (30, -44, 70), (52, -52, 96), (20, -58, 104)), 12.5),
        tube(((-50, -50, 100), (-20, -56, 112), (-44, -40, 128), (10, -44, 138)), 12.5),
        k=1.0,
    )
    artery = tube(
        ((26, 10, 150), (38, 8, 112), (48, -6, 82), (60, -30, 44), (71, -46, 15)),
        (6, 5.5, 5, 4.8, 4.6),
    )
    inner = tube(((39, 9, 108), (42, 36, 78), (46, 48, 48), (48, 38, 18)), (4.2, 3.8, 3.2, 2.4))
    vein = tube(
        ((18, 20, 150), (30, 20, 110), (40, 6, 82), (50, -22, 44), (59, -42, 15)),
        (7.5, 7, 6, 5.8, 5.5),
    )
    inner_vein = tube(((33, 22, 106), (37, 44, 78), (40, 55, 48)), (4.5, 4.0, 3.2))
    femoral = union(
        tube(((71, -46, 15), (78, -51, 0), (82, -51, -50), (86, -42, -130)), (4.6, 4.6, 4.4, 4.0)),
        tube(((59, -42, 15), (66, -48, 0), (71, -48, -50), (78, -38, -130)), (5.5, 5.6, 5.2, 4.6)),
    )
    femoral_nerve = tube(((70, -14, 92), (86, -46, 36), (91, -53, 10), (94, -53, -25)), 2.3)
    sciatic = squeezed(
        tube(
            (
                (50, 64, 38),
                (62, 64, 22),
                (70, 59, -5),
                (78, 51, -38),
                (92, 44, -75),
                (96, 38, -130),
            ),
            (4.0, 4.2, 4.0, 4.0, 3.8, 3.6),
        ),
        (75, 55, 0),
        (1.25, 0.9, 1.0),
    )
    obturator = tube(
        ((50, 26, 44), (49, 0, 12), (47, -18, -6), (46, -31, -19), (46, -38, -40)), 2.2
    )
    gluteal = tube(((48, 50, 50), (58, 62, 46), (74, 66, 58)), (3, 2.8, 2.2))
    cord = tube(((52, -58, 22), (32, -66, 6), (22, -66, -30)), (4.5, 5, 5))
    parts = [
        Part(name="small_bowel", shape=loops, box=_FAR, hu=organ - 15),
        Part(name="colon", shape=union(rectum, sigmoid, caecum), box=_FAR, hu=organ - 10),
        Part(name="colon", shape=union(gas, caecal_gas), box=_FAR, hu=_hu("bowel_gas")),
        Part(
            name="urinary_bladder",
            shape=ellipsoid((0, -16.0, 20.0), (36.0, 25.0, 25.0)),
            box=((-40, -50, -10), (40, 15, 50)),
            hu=organ - 10,
        ),
        Part(
            name="urinary_bladder",
            shape=ellipsoid((0, -16.0, 20.0), (33.0, 22.0, 22.0)),
            box=((-40, -50, -10), (40, 15, 50)),
            hu=_hu("csf") - 8,
        ),
    ]
    for name, shape, hu in (
        ("", cord, _hu("fat") + 120),
        ("iliac_vena_{side}", union(vein, inner_vein), blood),
        ("iliac_artery_{side}", union(artery, inner), blood),
        ("femoral_vessels_{side}", femoral, blood),
        ("gluteal_artery_{side}", gluteal, blood),
        ("obturator_vessels_{side}", obturator, blood),
        ("femoral_nerve_{side}", femoral_nerve, nerve),
        ("sciatic_nerve_{side}", sciatic, nerve),
    ):
        parts += _pair(name, shape, hu)
    return parts


def _fifth_lumbar() -> list[Part]:
    """L5 and its disc on the sacrum."""
    form = sized(LUMBAR, "L5")
    at, nod = (0.0, 30.0, 118.5), -27.0
    box: Box = ((-55, -10, 80), (55, 120, 160))
    tilted = cut(placed(vertebra(form), at, nod), grown(sacrum(), 1.4))
    slope = radians((SACRAL_SLOPE_DEG - nod) / 2)
    top = unbend(0, 0, 0)
    middle = (0.0, top[1] - 5.0 * sin(slope), top[2] + 5.0 * cos(slope))
    disc = placed(body(_wedge()), middle, -degrees(slope))
    return [
        Part(name="", shape=disc, box=((-30, 0, 75), (30, 75, 130)), hu=_hu("disc")),
        Part(
            name="vertebrae_L5",
            shape=tilted,
            box=box,
            bone=Bone(cortex_mm=placed(cortex(form), at, nod)),
        ),
    ]


def _wedge() -> Form:
    """The last disc, drawn as a flat body that is taller in front."""
    return replace(sized(LUMBAR, "L5"), anterior=22.0, posterior=14.0, dish=0.0, waist=-0.03)


def _sacral_contents() -> list[Part]:
    """Canal, foramina, roots and sacroiliac joints."""
    canal = bent(meet(_sacral_canal(), half_space((0, 0, -104.0), (0, 0, -1))))
    sac = bent(
        lambda x, v, w: np.maximum(
            ellipse(
                x,
                v - _table(-w, CANAL_U, CANAL_AT) + 0.5,
                np.float32(0.6) * _table(-w, CANAL_U, CANAL_HALF_WIDTH),
                np.float32(0.65) * _table(-w, CANAL_U, CANAL_HALF_DEPTH),
            ),
            -w - 48,
        )
    )
    roots = []
    for u, x, r in FORAMINA:
        back = float(np.interp(u, CANAL_U, CANAL_AT))
        depth = float(np.interp(u, SACRUM_U, SACRUM_DEPTH))
        roots.append(
            tube(
                (
                    (0.45 * x, back - 1, 8 - u),
                    (x - 1, back - 8, 1 - u),
                    (x, -depth - 4, -1 - u),
                    (x + 8, -depth - 8, -14 - u),
                ),
                (r * 0.4, r * 0.55, r * 0.5, r * 0.5),
            )
        )
    lumbar_root = tube(
        ((11, 60, 118), (24, 44, 108), (36, 40, 94), (44, 50, 62)), (2.2, 3.2, 2.8, 2.8)
    )
    gap = meet(grown(sacrum(), 2.6), grown(hip_alone(), 1.0))
    lane = ((4, 10, -10), (62, 120, 135))
    return [
        *_pair("sacroiliac_joint_{side}", gap, _hu("disc") - 20, ((22, 20, 20), (62, 110, 125))),
        *_pair("sacral_foramina_{side}", bent(sacral_foramina()), _hu("fat") + 30, lane),
        Part(name="spinal_canal", shape=canal, box=((-16, 20, -10), (16, 120, 140)), hu=-60.0),
        Part(name="spinal_canal", shape=sac, box=((-16, 20, 20), (16, 120, 140)), hu=_hu("csf")),
        *_pair("nerve_root_{side}", union(bent(union(*roots)), lumbar_root), _hu("nerve"), lane),
    ]


@cache
def _pelvis() -> tuple[Part, ...]:
    """Every part of the pelvis, outermost first."""
    sacral = sacrum()
    left, right = hip(), mirrored(hip())
    thigh = Bone(cortex_mm=femur_cortex(), thickest_mm=max(FEMUR_CORTEX), fatty=_shaft_share)
    (x0, y0, z0), (x1, y1, z1) = HIP_BOX
    (a0, b0, c0), (a1, b1, c1) = FEMUR_BOX
    return (
        Part(name="", shape=skin(), box=_FAR, hu=_hu("skin")),
        Part(name="", shape=grown(skin(), -2.0), box=_FAR, hu=_hu("fat")),
        *_muscles(),
        *_viscera(),
        Part(
            name="",
            shape=block((0, -45, -18), (5, 7, 18), 3.0),
            box=((-8, -60, -45), (8, -30, 8)),
            hu=_hu("disc"),
        ),
        *_pair("hip_joint_{side}", _joint(), _hu("disc"), ((55, -30, -30), (118, 30, 30))),
        *_sacral_contents(),
        *_fifth_lumbar(),
        Part(
            name="hip_right",
            shape=right,
            box=((-x1, y0, z0), (-x0, y1, z1)),
            bone=Bone(cortex_mm=even(1.5)),
        ),
        Part(name="hip_left", shape=left, box=HIP_BOX, bone=Bone(cortex_mm=even(1.5))),
        Part(
            name="femur_right",
            shape=mirrored(femur()),
            box=((-a1, b0, c0), (-a0, b1, c1)),
            bone=thigh,
        ),
        Part(name="femur_left", shape=femur(), box=FEMUR_BOX, bone=thigh),
        Part(name="sacrum", shape=sacral, box=SACRUM_BOX, bone=Bone(cortex_mm=even(1.2))),
    )


# --- the four patients ---------------------------------------------------------------------------


@cache
def sacrum_patient() -> Patient:
    """A lytic lesion of the left sacral ala."""
    at = unbend(38.0, 8.0, 21.0)
    front = unbend(38.0, -8.0, 21.0)
    ventral = tuple(f - a for f, a in zip(front, at))
    return Patient(
        name="sacrum",
        site=Site(kind="sacrum"),
        box=((-96.0, -12.0, -6.0), (96.0, 124.0, 136.0)),
        parts=_pelvis(),
        bone=sacrum(),
        bone_box=SACRUM_BOX,
        cortex=even(1.2),
        other_bone=union(both_sides(hip())),
        lesion_at=at,
        lesion_mm=(22.0, 20.0, 24.0),
        ports={
            "cortex": Port(
                wall="cortex",
                start=at,
                outward=ventral,
                half_mm=(7.0, 6.0),
                soft_mm=(13.0, 12.0, 8.0),
                soft_offset_mm=1.5,
            ),
        },
        default_defects=("cortex",),
        canal=tuple(
            unbend(0.0, float(np.interp(u, CANAL_U, CANAL_AT)), u) for u in (0, 20, 40, 60, 80)
        ),
    )


@cache
def acetabulum_patient() -> Patient:
    """A lytic lesion of the roof of the left acetabulum."""
    outward = (sin(radians(WING_YAW)), -cos(radians(WING_YAW)), 0.0)
    at = (HIP[0] + 2.0 * outward[0], HIP[1] + 2.0 * outward[1], 36.0)
    towards_head = tuple(h - a for h, a in zip(HIP, at, strict=True))

    def port(
        wall: str,
        start: Point,
        outward: Point,
        soft: tuple[float, float, float],
        across: Point = (0, 1, 0),
        half: tuple[float, float] = (6.0, 5.5),
    ) -> Port:
        return Port(
            wall=wall,
            start=start,
            outward=outward,
            half_mm=half,
            soft_mm=soft,
            soft_offset_mm=0.15 * soft[2],
            across=across,
        )

    ports = (
        port("medial wall", (60.5, 3.0, 13.0), (-1.0, 0.0, 0.0), (13.0, 13.0, 10.0)),
        port("articular surface", at, towards_head, (7.0, 7.0, 4.0), half=(5.5, 4.5)),
        port("lateral wall", (109.0, 5.0, 22.0), (0.82, 0.15, 0.55), (13.0, 13.0, 10.0)),
        port("anterior wall", at, (0.5, -0.85, -0.12), (9.0, 9.0, 8.0), (0, 0, 1)),
        port("posterior wall", (88.0, 30.0, 10.0), (0.1, 1.0, 0.1), (11.0, 11.0, 8.0), (1, 0, 0)),
    )
    return Patient(
        name="acetabulum",
        site=Site(kind="acetabulum", side="left"),
        box=((26.0, -106.0, -48.0), (180.0, 122.0, 104.0)),
        parts=_pelvis(),
        bone=hip(),
        bone_box=HIP_BOX,
        cortex=even(1.5),
        other_bone=union(femur(), sacrum()),
        lesion_at=at,
        lesion_mm=(22.0, 32.0, 22.0),
        ports={p.wall: p for p in ports},
        default_defects=("medial wall",),
        joint_space_mm=JOINT_SPACE,
    )


@cache
def pubic_ramus_patient() -> Patient:
    """A lytic lesion of the left superior pubic ramus."""
    at = (48.0, -34.0, 0.0)
    way = atan2(12.0, 28.0)  # the ramus runs forward as it nears the midline
    forward, backward = (sin(way), -cos(way), 0.1), (-sin(way), cos(way), 0.1)

    def port(wall: str, outward: Point) -> Port:
        return Port(
            wall=wall,
            start=at,
            outward=outward,
            half_mm=(6.0, 4.5),
            soft_mm=(10.0, 8.0, 7.0),
            soft_offset_mm=1.5,
        )

    return Patient(
        name="pubic_ramus",
        site=Site(kind="pubis", side="left"),
        box=((-36.0, -108.0, -62.0), (116.0, 66.0, 62.0)),
        parts=_pelvis(),
        bone=hip(),
        bone_box=HIP_BOX,
        cortex=even(1.5),
        other_bone=femur(),
        lesion_at=at,
        lesion_mm=(24.0, 15.0, 13.0),
        ports={
            "anterior wall": port("anterior wall", forward),
            "posterior wall": port("posterior wall", backward),
        },
        default_defects=("anterior wall",),
        joint_space_mm=JOINT_SPACE,
    )


@cache
def femur_patient() -> Patient:
    """A lytic lesion between neck and trochanters of the left femur."""
    at = (117.0, 7.0, -34.0)
    return Patient(
        name="femur",
        site=Site(kind="femur", side="left"),
        box=((44.0, -106.0, -112.0), (184.0, 124.0, 46.0)),
        parts=_pelvis(),
        bone=femur(),
        bone_box=FEMUR_BOX,
        cortex=femur_cortex(),
        other_bone=hip(),
        lesion_at=at,
        lesion_mm=(28.0, 24.0, 26.0),
        ports={
            "cortex": Port(
                wall="cortex",
                start=at,
                outward=(0.0, -1.0, 0.0),
                half_mm=(7.0, 6.5),
                soft_mm=(12.0, 12.0, 8.0),
                soft_offset_mm=1.5,
            ),
        },
        default_defects=("cortex",),
        joint_space_mm=JOINT_SPACE,
    )
