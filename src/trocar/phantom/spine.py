"""Vertebrae as shapes, and two patients built of them: a lytic L3 and a collapsed T10.

All sizes are in mm and were chosen to look like an adult of average size; they are not clinical
data. Pedicle widths come from ``facts.anatomy``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from math import cos, radians, sin

import numpy as np

from trocar.facts import anatomy, tissue
from trocar.model.case import Site
from trocar.phantom.growth import Port
from trocar.phantom.patient import Patient, PedicleAxis, VertebraForm
from trocar.phantom.scene import Bone, Box, Part
from trocar.phantom.shapes import (
    Array,
    Point,
    Shape,
    block,
    both_sides,
    capsule,
    cut,
    ellipse,
    ellipsoid,
    even,
    grown,
    meet,
    mirrored,
    outside,
    pillar,
    placed,
    smooth_max,
    squeezed,
    tube,
    union,
)


@dataclass(frozen=True, kw_only=True)
class Form:
    """Sizes of one vertebra; its body's centre is the origin, left parts are given for x > 0."""

    level: str
    half_width: float
    half_depth: float
    anterior: float  # body heights at the rims
    posterior: float
    dish: float  # depth of each end plate's hollow
    waist: float  # part of the width lost half way up
    bend: float  # how far the sides lie behind the middle (kidney shape)
    pedicle_at: Point  # middle of the left isthmus
    pedicle_height: float
    pedicle_angle: float  # degrees, medial going forward
    canal_at: float  # y of the canal's centre
    canal_half: tuple[float, float]
    lamina_at: tuple[float, float]  # y and z where the laminae meet
    spinous: tuple[float, float, float]  # length, half height, drop per mm of length
    transverse: tuple[Point, ...]  # from root to tip, left
    transverse_radii: tuple[float, ...]
    facet_above: Point  # centre of the superior facet, left
    facet_below: Point
    facet_half: tuple[float, float, float]  # thickness, breadth, height (half)
    facet_yaw: float  # degrees: 0 faces straight back, 90 sideways
    pedicle_reach: float = 9.0  # how far forward the pedicle's bridge goes from its middle
    body_drop: float = 0.0  # how far the body's centre lies below the origin


LUMBAR = Form(
    level="L3",
    half_width=23.0,
    half_depth=16.5,
    anterior=28.5,
    posterior=27.5,
    dish=1.6,
    waist=0.12,
    bend=5.0,
    pedicle_at=(17.9, 20.0, 5.5),
    pedicle_height=14.5,
    pedicle_angle=14.0,
    canal_at=24.0,
    canal_half=(11.8, 9.0),
    lamina_at=(36.0, -7.0),
    spinous=(30.0, 9.5, -0.12),
    transverse=((19.0, 25.5, 4.5), (30.0, 28.0, 6.0), (45.0, 32.0, 5.0)),
    transverse_radii=(4.2, 3.2, 2.6),
    facet_above=(20.6, 29.5, 17.0),
    facet_below=(12.8, 35.0, -20.0),
    facet_half=(3.7, 6.6, 9.5),
    facet_yaw=55.0,
)

THORACIC = Form(
    level="T10",
    half_width=16.0,
    half_depth=14.0,
    anterior=21.5,
    posterior=22.5,
    dish=1.0,
    waist=0.10,
    bend=4.0,
    pedicle_at=(11.95, 18.0, 4.0),
    pedicle_height=13.0,
    pedicle_angle=4.0,
    canal_at=22.0,
    canal_half=(8.4, 8.2),
    lamina_at=(33.0, -5.0),
    spinous=(26.0, 6.5, -0.75),
    transverse=((12.5, 26.0, 3.0), (21.0, 32.5, 5.0), (29.5, 38.5, 7.0)),
    transverse_radii=(5.0, 4.2, 4.4),
    facet_above=(11.5, 26.5, 15.0),
    facet_below=(10.5, 31.5, -14.0),
    facet_half=(2.6, 5.0, 7.0),
    facet_yaw=12.0,
)

PLANA = replace(
    THORACIC,
    half_width=17.5,
    half_depth=15.2,
    anterior=5.2,
    posterior=6.4,
    dish=0.4,
    waist=-0.04,
    pedicle_reach=5.0,
    body_drop=1.5,
)

# A left rib from its head along neck, tubercle and angle, about the body's centre.
RIB_PATH = (
    (16.0, 11.0, 8.0),
    (20.0, 21.0, 6.5),
    (28.0, 30.5, 6.5),
    (41.0, 40.0, 3.5),
    (62.0, 47.0, -6.0),
    (86.0, 40.5, -18.0),
    (102.0, 24.0, -31.0),
    (114.0, -15.0, -50.0),
)
RIB_RADII = (3.6, 2.7, 3.2, 3.4, 3.4, 3.3, 3.2, 3.2)
RIB_LEVER = 22.0  # how far behind the body's centre the rib's joints lie

_FACET_GAP = 1.4  # least joint width between neighbouring vertebrae

# Half width and height of each level against L3 or T10.
_SCALE = {"L1": 0.93, "L2": 0.97, "L3": 1.0, "L4": 1.04, "L5": 1.06}


def body(form: Form) -> Shape:
    """A vertebral body: kidney-shaped in cross-section, waisted, with hollow end plates."""
    w, d = np.float32(form.half_width), np.float32(form.half_depth)
    tall = np.float32((form.anterior + form.posterior) / 4)  # half the mean height
    slope = np.float32((form.posterior - form.anterior) / (4 * form.half_depth))
    drop = np.float32(form.body_drop)
    dish, waist, bend = np.float32(form.dish), np.float32(form.waist), np.float32(form.bend)

    def sd(x: Array, y: Array, z: Array) -> Array:
        z = z + drop
        level = np.clip(z / tall, -1, 1)
        lost = waist * (1 - level * level)
        v = y - bend * ((x / w) ** 2 - np.float32(0.3))
        p, q = np.abs(x) / (w * (1 - lost)), np.abs(v) / (d * (1 - np.float32(0.6) * lost))
        sp, sq = np.sqrt(p), np.sqrt(q)
        total = p * p * sp + q * q * sq  # superellipse of exponent 2.5
        rho = np.maximum(total, np.float32(1e-8)) ** np.float32(0.4)
        gx = p * sp / w
        gy = q * sq / d
        steep = np.sqrt(gx * gx + gy * gy) / np.maximum(rho * np.sqrt(rho), np.float32(1e-8))
        side = (rho - 1) / np.maximum(steep, np.float32(0.5) / w)
        hollow = dish * np.maximum(1 - rho * rho, 0) ** 2
        caps = np.abs(z) - (tall + slope * y - hollow)
        return smooth_max(side, caps, min(2.0, form.posterior / 4))

    return sd


def pedicle(form: Form) -> Shape:
    """The left pedicle: an elliptic bridge, narrowest at its middle."""
    a = np.float32((anatomy.pedicle_width_mm(form.level) or 8.0) / 2)
    b, reach = np.float32(form.pedicle_height / 2), np.float32(form.pedicle_reach)
    o = np.asarray(form.pedicle_at, dtype=np.float32)
    c, s = (np.float32(f(radians(form.pedicle_angle))) for f in (cos, sin))

    def sd(x: Array, y: Array, z: Array) -> Array:
        p, q, w = x - o[0], y - o[1], z - o[2]
        u = -s * p - c * q  # forward and medial
        v = c * p - s * q
        flare = u * u
        ends = np.maximum(u - reach, -u - np.float32(9.0))
        rim = ellipse(v, w, a + np.float32(0.035) * flare, b + np.float32(0.02) * flare)
        out: Array = np.maximum(rim, ends)
        return out

    return sd


def arch(form: Form) -> Shape:
    """Everything behind the pedicles: pillars, facets, laminae and processes."""
    py, pz = form.pedicle_at[1], form.pedicle_at[2]
    px = form.pedicle_at[0]
    up, down = form.facet_above, form.facet_below
    ly, lz = form.lamina_at
    root = (px + 0.5, py + 7.5, pz - 1.0)
    lamina_start = ((px + down[0]) / 2 - 1.0, py + 11.0)
    yaw = float(np.degrees(np.arctan2(ly - lamina_start[1], -lamina_start[0])))
    span = float(np.hypot(lamina_start[0], ly - lamina_start[1]))
    half = form.facet_half
    left = union(
        capsule(root, (up[0] - 0.5, up[1] - 0.5, up[2] - 5), 5.2, half[0] + 0.6),
        ellipsoid(up, (half[1], half[0], half[2]), -form.facet_yaw),
        capsule(root, (down[0] + 0.5, down[1] - 1.0, down[2] + 8), 5.0, half[0] + 0.8),
        ellipsoid(down, (half[1], half[0], half[2]), -form.facet_yaw),
        block(
            (lamina_start[0] / 2, (lamina_start[1] + ly) / 2, lz + 2.0),
            (span / 2 + 2.0, 3.0, 0.36 * (up[2] - down[2]) - 3.0),
            2.2,
            yaw,
            shear=(-0.22, 0.0),
        ),
        squeezed(
            tube(form.transverse, form.transverse_radii, k=2.0),
            form.transverse[1],
            (1.0, 1.0, 1.55 if form.level.startswith("L") else 1.15),
        ),
        k=2.5,
    )
    length, tall, drop = form.spinous
    process = union(
        block(
            (0, ly + length / 2, lz + drop * length / 2),
            (3.3, length / 2 + 2, tall),
            2.6,
            shear=(0.0, drop),
        ),
        ellipsoid(
            (0, ly + length - 2, lz + drop * (length - 2) - tall * 0.25), (4.2, 4.5, tall * 0.7)
        ),
        k=3.0,
    )
    return union(both_sides(left), process, k=3.0)


def canal(form: Form) -> Shape:
    """The spinal canal at one vertebra: an upright tube, wide in front, pointed behind."""
    a, b = (np.float32(h) for h in form.canal_half)
    yc = np.float32(form.canal_at)

    def sd(x: Array, y: Array, z: Array) -> Array:
        v = y - yc
        narrow = a * (1 - np.float32(0.35) * np.clip(v / b, -0.3, 1))
        return ellipse(x, v, narrow, b)

    return sd


def vertebra(form: Form) -> Shape:
    """A whole vertebra with its canal open."""
    ring = union(both_sides(pedicle(form)), arch(form), k=2.5)
    ring = cut(ring, canal(form), k=1.5)
    return union(body(form), ring, k=3.0)


def cortex(form: Form) -> Shape:
    """Cortical thickness: thin around the body, thicker on the posterior elements."""
    front = np.float32(form.pedicle_at[1] - 5)

    def thick(x: Array, y: Array, z: Array) -> Array:
        back = np.clip((y - front) / np.float32(8), 0, 1).astype(np.float32)
        out: Array = np.float32(1.1) + back * np.float32(0.6)
        return out

    return thick


def vertebra_box(form: Form) -> Box:
    """A box around a vertebra (upright, at the origin)."""
    wide = max(form.half_width, form.transverse[-1][0] + form.transverse_radii[-1]) + 3
    back = form.lamina_at[0] + form.spinous[0] + 6
    high = form.facet_above[2] + form.facet_half[2] + 3
    low = (
        min(
            form.facet_below[2] - form.facet_half[2],
            form.lamina_at[1] + form.spinous[0] * form.spinous[2] - form.spinous[1],
            -form.anterior / 2,
        )
        - 3
    )
    front = -form.half_depth - form.bend - 3
    return (-wide, front, low), (wide, back, high)


def _moved(box: Box, at: Point, slack: float = 0.0) -> Box:
    low = tuple(v + a - slack for v, a in zip(box[0], at))
    high = tuple(v + a + slack for v, a in zip(box[1], at))
    return low, high


def _hu(name: str) -> float:
    return float(tissue.value(f"hu_{name}"))


@dataclass(frozen=True, kw_only=True)
class Level:
    """A vertebra in its place: form, where its body's origin is, how far its front is raised."""

    form: Form
    at: Point
    nod_deg: float = 0.0

    @property
    def shape(self) -> Shape:
        """The vertebra where it stands."""
        return placed(vertebra(self.form), self.at, self.nod_deg)

    @property
    def box(self) -> Box:
        """A box around it."""
        return _moved(vertebra_box(self.form), self.at, 8.0 if self.nod_deg else 0.0)


def sized(form: Form, level: str) -> Form:
    """The form scaled to another level of its region."""
    s = _SCALE.get(level, 1.0)
    return replace(
        form,
        level=level,
        half_width=form.half_width * s,
        half_depth=form.half_depth * s,
        anterior=form.anterior * s,
        posterior=form.posterior * s,
    )


def _spine_line(levels: tuple[Level, ...], y_local: float) -> Shape:
    """y of a line through the levels at ``y_local`` behind each body, as a field of z."""
    z = np.array([lv.at[2] for lv in levels], dtype=np.float32)
    y = np.array([lv.at[1] + y_local for lv in levels], dtype=np.float32)
    order = np.argsort(z)

    def field(x: Array, yy: Array, zz: Array) -> Array:
        return np.interp(zz, z[order], y[order]).astype(np.float32)

    return field


def _along(levels: tuple[Level, ...], shape: Shape) -> Shape:
    """An upright shape bent to follow the spine's curve front to back."""
    line = _spine_line(levels, 0.0)
    return lambda x, y, z: shape(x, y - line(x, y, z), z)


def _disc(above: Level, below: Level) -> Part:
    fa, fb = above.form, below.form
    za = above.at[2] - fa.body_drop - (fa.anterior + fa.posterior) / 4
    zb = below.at[2] - fb.body_drop + (fb.anterior + fb.posterior) / 4
    centre = ((above.at[0] + below.at[0]) / 2, (above.at[1] + below.at[1]) / 2, (za + zb) / 2)
    form = replace(
        fa,
        half_width=min(fa.half_width, fb.half_width) - 0.3,
        half_depth=min(fa.half_depth, fb.half_depth) - 0.3,
        anterior=za - zb + 6,
        posterior=za - zb + 5,
        dish=0.0,
        waist=-0.03,
        body_drop=0.0,
    )
    shape = placed(body(form), centre, (above.nod_deg + below.nod_deg) / 2)
    reach = (form.half_width + 3, form.half_depth + 8, (za - zb) / 2 + 7)
    box = (
        tuple(c - r for c, r in zip(centre, reach)),
        tuple(c + r for c, r in zip(centre, reach)),
    )
    return Part(name="", shape=shape, box=box, hu=_hu("disc"))


def _bones(levels: tuple[Level, ...], target: int) -> list[Part]:
    """The vertebrae as parts; each keeps a joint's width from the next one towards the target."""
    parts = []
    for k, level in enumerate(levels):
        shape = level.shape
        if k != target:
            towards = levels[k + 1] if k < target else levels[k - 1]
            shape = cut(shape, grown(towards.shape, _FACET_GAP))
        parts.append(_bone_part(level, shape))
    return parts


def _bone_part(level: Level, shape: Shape) -> Part:
    return Part(
        name=f"vertebrae_{level.form.level}",
        shape=shape,
        box=level.box,
        bone=Bone(cortex_mm=placed(cortex(level.form), level.at, level.nod_deg)),
    )


def _sides(name: str, shape: Shape, box: Box, hu: float) -> list[Part]:
    """A left-hand part and its twin; ``{side}`` in the name is filled in."""
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


def _back(furrow: float, y_skin: float, side_drop: float) -> Shape:
    """The skin of the back: a surface with a furrow in the midline, falling to the sides."""

    def sd(x: Array, y: Array, z: Array) -> Array:
        f, s, t = np.float32(furrow), np.float32(side_drop), np.float32(y_skin)
        skin = t - f * np.exp(-((x / 14) ** 2)) - s * (x / 100) ** 2
        out: Array = (y - skin) / np.sqrt(1 + (2 * s * x / 1e4) ** 2)
        return out

    return sd


_FAR: Box = ((-200, -200, -200), (200, 200, 200))


def _nerves(levels: tuple[Level, ...], path: tuple[Point, ...], radii: tuple[float, ...]) -> Shape:
    """Left nerve roots of all levels: each leaves the canal below its pedicle."""
    roots = [tube([(p[0], p[1] + lv.at[1], p[2] + lv.at[2]) for p in path], radii) for lv in levels]
    return union(*roots)


@cache
def vertebra_l3() -> Patient:
    """A lytic L3 with its neighbours, great vessels, psoas and the skin of the back."""
    forms = {n: sized(LUMBAR, n) for n in ("L1", "L2", "L3", "L4", "L5")}
    levels = (
        Level(form=forms["L1"], at=(0, 8.0, 76.0), nod_deg=10.0),
        Level(form=forms["L2"], at=(0, 2.5, 38.0), nod_deg=5.0),
        Level(form=forms["L3"], at=(0, 0, 0)),
        Level(form=forms["L4"], at=(0, 1.5, -38.5), nod_deg=-6.0),
        Level(form=forms["L5"], at=(0, 7.5, -77.0), nod_deg=-14.0),
    )
    target = levels[2]
    box: Box = ((-100.0, -78.0, -66.0), (100.0, 110.0, 66.0))
    skin = _back(6.0, 97.0, 16.0)
    parts: list[Part] = [
        Part(name="", shape=skin, box=_FAR, hu=_hu("skin")),
        Part(name="", shape=grown(skin, -2.0), box=_FAR, hu=_hu("fat")),
    ]
    parts += _lumbar_muscles(levels)
    parts += _lumbar_viscera()
    tunnel = _along(levels, canal(LUMBAR))
    parts.append(
        Part(name="spinal_canal", shape=tunnel, box=((-14, 5, -90), (14, 48, 90)), hu=-60.0)
    )
    sac = _along(levels, pillar((0, 22.6, 0), (8.6, 6.6)))
    parts.append(
        Part(name="spinal_canal", shape=sac, box=((-10, 10, -90), (10, 44, 90)), hu=_hu("csf"))
    )
    hole = union(
        *(ellipsoid((19.0, lv.at[1] + 21.0, lv.at[2] - 13.0), (7.5, 6.5, 11.0)) for lv in levels)
    )
    hole = cut(hole, tunnel)
    parts += _sides("foramen_{side}", hole, ((8, 8, -120), (30, 45, 80)), -70.0)
    path = (
        (9.0, 24.0, -1.0),
        (18.0, 22.0, -9.5),
        (27.0, 15.5, -20.0),
        (33.0, 6.0, -38.0),
        (36.0, 2.0, -60.0),
    )
    nerve = _nerves(levels, path, (1.8, 3.0, 2.2, 1.9, 1.9))
    parts += _sides("nerve_root_{side}", nerve, ((6, -12, -140), (42, 45, 80)), _hu("nerve"))
    parts += [_disc(a, b) for a, b in pairwise(levels)]
    parts += _bones(levels, 2)
    others = union(*(lv.shape for lv in (levels[1], levels[3])))
    return Patient(
        name="vertebra_l3",
        site=Site(kind="vertebra", level="L3"),
        box=box,
        parts=tuple(parts),
        bone=target.shape,
        bone_box=target.box,
        cortex=cortex(target.form),
        other_bone=others,
        lesion_at=(5.0, 1.0, 0.0),
        lesion_mm=(24.0, 19.0, 18.0),
        ports=_body_ports(target.form, (5.0, 1.0, 0.0)),
        default_defects=("posterior wall",),
        canal=tuple((0.0, lv.at[1] + LUMBAR.canal_at, lv.at[2]) for lv in levels[1:4]),
        vertebra=_measured(target.form),
        cell_mm=0.5,
    )


def _measured(form: Form) -> VertebraForm:
    p, a = form.pedicle_at, radians(form.pedicle_angle)
    left = PedicleAxis(centre=p, direction=(-sin(a), -cos(a), 0.0), search_mm=5.0)
    right = PedicleAxis(centre=(-p[0], p[1], p[2]), direction=(sin(a), -cos(a), 0.0), search_mm=5.0)
    return VertebraForm(
        body=body(form),
        pedicles={"left": left, "right": right},
        expected_height_mm=(THORACIC.posterior if form.level.startswith("T") else LUMBAR.posterior),
    )


def _body_ports(form: Form, lesion: Point, scale: float = 1.0) -> dict[str, Port]:
    """Where a lesion of a vertebral body can break out, wall by wall."""
    x, y, z = lesion
    px, py, pz = form.pedicle_at
    flat = scale * min(5.5, 0.35 * form.posterior)  # half height of a hole in a side wall

    def port(
        wall: str,
        start: Point,
        outward: Point,
        half: tuple[float, float],
        soft: tuple[float, float, float],
        offset: float,
        across: Point,
    ) -> Port:
        return Port(
            wall=wall,
            start=start,
            outward=outward,
            half_mm=half,
            soft_mm=soft,
            soft_offset_mm=offset,
            across=across,
        )

    near = (float(np.clip(x, -6, 6)), y, z)
    side = (x, y - 2, z - 0.3 * (flat - 2.2))
    ports = [
        port(
            "posterior wall",
            near,
            (0, 1, 0),
            (6.5 * scale, flat),
            (9.5, flat + 3.5, 5.5),
            0.0,
            (1, 0, 0),
        ),
        port(
            "anterior wall",
            near,
            (0, -1, 0),
            (7.0 * scale, flat),
            (14, flat + 5, 9),
            2.0,
            (1, 0, 0),
        ),
        port(
            "left lateral wall",
            side,
            (1, 0, 0),
            (6.0 * scale, 0.95 * flat),
            (14, 13, 12),
            4.0,
            (0, 1, 0),
        ),
        port(
            "right lateral wall",
            side,
            (-1, 0, 0),
            (6.0 * scale, 0.95 * flat),
            (14, 13, 12),
            4.0,
            (0, 1, 0),
        ),
        port(
            "superior end plate",
            (x, y, z),
            (0, 0, 1),
            (6.5 * scale, 5.5 * scale),
            (8, 7, 4),
            0.0,
            (1, 0, 0),
        ),
        port(
            "inferior end plate",
            (x, y, z),
            (0, 0, -1),
            (6.5 * scale, 5.5 * scale),
            (8, 7, 4),
            0.0,
            (1, 0, 0),
        ),
        port("left pedicle", (px, py, pz), (-1, 0, 0), (4.0, 3.5), (6, 6, 4), 0.0, (0, 1, 0)),
        port("right pedicle", (-px, py, pz), (1, 0, 0), (4.0, 3.5), (6, 6, 4), 0.0, (0, 1, 0)),
    ]
    return {p.wall: p for p in ports}


def _lumbar_muscles(levels: tuple[Level, ...]) -> list[Part]:
    """Erector spinae, quadratus lumborum and psoas, divided by fat."""
    erector = meet(
        union(
            _along(levels, pillar((34.0, 58.0, 0), (30.0, 24.0))),
            _along(levels, pillar((13.0, 52.0, 0), (12.0, 22.0))),
            k=6.0,
        ),
        grown(_back(8.0, 84.0, 14.0), 0.0),
        k=3.0,
    )
    quadratus = pillar((63.0, 27.0, 0), (19.0, 9.5), axis=(-0.12, 0.0))
    psoas = pillar((40.0, 4.0, 0), (15.5, 20.0), axis=(-0.10, 0.02))
    wall = cut(
        ellipsoid((0, -25, 0), (134.0, 108.0, 400.0)),
        ellipsoid((0, -25, 0), (116.0, 90.0, 400.0)),
        ellipsoid((0, 60, 0), (66.0, 50.0, 400.0)),
    )
    septum = meet(
        _sheet(_along(levels, pillar((12.0, 52.0, 0), (13.0, 24.0))), 0.7),
        grown(erector, -1.5),
    )
    muscle = _hu("muscle")
    tall = ((-1, -78, -70), (101, 112, 70))
    return [
        *_sides("", wall, tall, muscle - 5),
        *_sides("autochthon_{side}", erector, tall, muscle),
        *_sides("", septum, tall, _hu("fat")),
        *_sides("", quadratus, tall, muscle),
        *_sides("iliopsoas_{side}", psoas, tall, muscle),
    ]


def _sheet(shape: Shape, half_mm: float) -> Shape:
    """The surface of a shape as a sheet of some thickness."""
    return lambda x, y, z: np.abs(shape(x, y, z)) - np.float32(half_mm)


def _lumbar_viscera() -> list[Part]:
    """Great vessels, kidneys, colon and small bowel in front and beside the spine."""
    blood, organ, gas = _hu("blood"), _hu("organ"), _hu("bowel_gas")
    kidney = ellipsoid((70.0, -12.0, 58.0), (24.0, 27.0, 50.0), 25.0)
    colon = tube(((88, -40, -90), (90, -35, 0), (92, -38, 90)), 16.0)
    hollow = tube(((89, -44, -90), (91, -39, 0), (93, -42, 90)), (9.0, 11.0, 8.0))
    bowel = union(
        tube(
            ((-45, -62, 60), (-20, -66, 35), (-48, -64, 8), (-15, -70, -18), (-45, -62, -50)), 12.0
        ),
        tube(((50, -60, 55), (25, -68, 20), (52, -62, -10), (20, -72, -45)), 12.5),
        k=2.0,
    )
    aorta = tube(((9, -29, 90), (10, -29, 0), (6, -31, -46)), (9.0, 8.5, 8.0))
    left = tube(((5, -31, -48), (20, -26, -80)), 5.5)
    right = tube(((5, -31, -48), (-14, -28, -80)), 5.5)
    cava = squeezed(
        tube(((-15, -27, 90), (-14, -27, 0), (-12, -25, -70)), 9.5), (-14, -27, 0), (1.2, 0.95, 1.0)
    )
    far = ((-101, -79, -95), (101, 40, 95))
    return [
        *_sides("kidney_{side}", kidney, ((40, -45, 5), (101, 20, 95)), organ - 10),
        Part(name="small_bowel", shape=bowel, box=far, hu=organ - 20),
        *_sides("colon", colon, ((70, -60, -95), (101, -15, 95)), organ - 10),
        *_sides("colon", hollow, ((70, -60, -95), (101, -15, 95)), gas),
        Part(name="iliac_artery_left", shape=left, box=far, hu=blood),
        Part(name="iliac_artery_right", shape=right, box=far, hu=blood),
        Part(name="inferior_vena_cava", shape=cava, box=far, hu=blood),
        Part(name="aorta", shape=aorta, box=far, hu=blood),
    ]


@cache
def vertebra_t10_plana() -> Patient:
    """A T10 collapsed to a plate (vertebra plana), with ribs, lungs, aorta and its neighbours."""
    forms = {n: replace(THORACIC, level=n) for n in ("T7", "T8", "T9", "T11", "T12")}
    levels = (
        Level(form=forms["T7"], at=(0, -11.5, 69.5), nod_deg=-16.0),
        Level(form=forms["T8"], at=(0, -4.5, 44.5), nod_deg=-14.0),
        Level(form=forms["T9"], at=(0, 1.0, 19.0), nod_deg=-12.0),
        Level(form=PLANA, at=(0, 0, 0)),
        Level(form=forms["T11"], at=(0, 1.0, -20.5), nod_deg=12.0),
        Level(form=forms["T12"], at=(0, -4.5, -47.0), nod_deg=9.0),
    )
    target = levels[3]
    box: Box = ((-98.0, -74.0, -58.0), (98.0, 98.0, 60.0))
    skin = _back(4.0, 86.0, 18.0)
    parts: list[Part] = [
        Part(name="", shape=skin, box=_FAR, hu=_hu("skin")),
        Part(name="", shape=grown(skin, -2.0), box=_FAR, hu=_hu("fat")),
    ]
    parts += _chest(levels)
    tunnel = _along(levels, canal(THORACIC))
    parts += [
        Part(name="spinal_canal", shape=tunnel, box=((-12, -15, -90), (12, 40, 90)), hu=-40.0),
        Part(
            name="spinal_canal",
            shape=_along(levels, pillar((0, 21.8, 0), (6.9, 6.7))),
            box=((-10, -15, -90), (10, 40, 90)),
            hu=_hu("csf"),
        ),
        Part(
            name="spinal_canal",
            shape=_along(levels, pillar((0, 21.5, 0), (4.6, 3.6))),
            box=((-10, -15, -90), (10, 40, 90)),
            hu=_hu("nerve") + 5,
        ),
    ]
    gaps = union(
        *(ellipsoid((12.5, lv.at[1] + 19.5, lv.at[2] - 8.5), (5.5, 5.0, 6.0)) for lv in levels)
    )
    parts += _sides("foramen_{side}", cut(gaps, tunnel), ((5, -10, -90), (20, 35, 90)), -70.0)
    path = ((6.5, 21.5, -4.0), (12.5, 20.0, -7.5), (22.0, 22.0, -8.0), (40.0, 37.0, -4.0))
    nerve = _nerves(levels, path, (1.3, 2.2, 1.3, 1.2))
    parts += _sides("nerve_root_{side}", nerve, ((4, -15, -90), (45, 50, 90)), _hu("nerve"))
    parts += [_disc(a, b) for a, b in pairwise(levels)]
    for lv in levels:
        parts += _ribs(lv)
    parts += _bones(levels, 3)
    lesion = (1.0, 0.0, -1.5)
    return Patient(
        name="vertebra_t10_plana",
        site=Site(kind="vertebra", level="T10"),
        box=box,
        parts=tuple(parts),
        bone=target.shape,
        bone_box=target.box,
        cortex=cortex(target.form),
        other_bone=union(levels[2].shape, levels[4].shape),
        lesion_at=lesion,
        lesion_mm=(27.0, 22.0, 7.0),
        ports=_body_ports(PLANA, lesion),
        default_defects=("posterior wall",),
        canal=tuple((0.0, lv.at[1] + THORACIC.canal_at, lv.at[2]) for lv in levels[2:5]),
        vertebra=_measured(PLANA),
        cell_mm=0.5,
    )


def _ribs(level: Level) -> list[Part]:
    """The two ribs of a thoracic level, clear of the vertebra by a joint's width."""
    y, z = level.at[1], level.at[2]
    # A nod carries the joints behind the body up or down; the cage follows the spine's curve less.
    rise = z - float(np.tan(radians(level.nod_deg))) * RIB_LEVER
    points = [(p[0], p[1] + (y if k < 3 else 0.3 * y), p[2] + rise) for k, p in enumerate(RIB_PATH)]
    shape = cut(tube(points, RIB_RADII, k=2.0), grown(level.shape, 1.2))
    number = level.form.level[1:]
    box = ((8, -60, points[-1][2] - 8), (101, 60, points[0][2] + 10))
    (x0, y0, z0), (x1, y1, z1) = box
    bone = Bone(cortex_mm=even(1.0))
    return [
        Part(name=f"rib_left_{number}", shape=shape, box=box, bone=bone),
        Part(
            name=f"rib_right_{number}",
            shape=mirrored(shape),
            box=((-x1, y0, z0), (-x0, y1, z1)),
            bone=bone,
        ),
    ]


def _chest(levels: tuple[Level, ...]) -> list[Part]:
    """Back muscles, chest wall, lungs, heart, great vessels and the dome of the liver."""
    muscle = _hu("muscle")
    tall = ((-1, -76, -62), (99, 99, 64))
    hull = pillar((62.0, -12.0, 0), (50.0, 54.0))
    lung = cut(
        hull,
        _along(levels, pillar((0, 12.0, 0), (26.0, 31.0))),
        pillar((0, -60.0, 0), (34.0, 60.0)),
        k=5.0,
    )
    erector = meet(
        union(
            _along(levels, pillar((23.0, 53.0, 0), (20.0, 15.0))),
            _along(levels, pillar((9.0, 47.0, 0), (9.0, 16.0))),
            k=5.0,
        ),
        _back(6.0, 74.0, 14.0),
        k=2.0,
    )
    lats = meet(grown(hull, 23.0), grown(_back(5.0, 76.0, 18.0), 0.0), outside(grown(hull, 13.0)))
    heart = ellipsoid((25.0, -92.0, 45.0), (62.0, 48.0, 52.0))
    liver = ellipsoid((-72.0, -40.0, -78.0), (76.0, 74.0, 64.0))
    gullet = tube(((6, -34, 64), (3, -38, 0), (10, -42, -64)), 6.5)
    aorta = tube(((15, -26, 64), (12, -25, 0), (7, -24, -64)), (11.5, 11.0, 10.5))
    azygos = tube(((-7, -22, 64), (-7, -19, 0), (-6, -21, -64)), 3.2)
    far = ((-99, -75, -64), (99, 60, 64))
    left_lung, right_lung = _sides("lung_lower_lobe_{side}", lung, tall, _hu("lung"))
    return [
        *_sides("", grown(hull, 9.5), tall, muscle - 5),
        *_sides("", lats, tall, muscle - 5),
        *_sides("autochthon_{side}", erector, tall, muscle),
        left_lung,
        right_lung,
        Part(
            name="", shape=_along(levels, pillar((0, 8.0, 0), (22.0, 26.0))), box=far, hu=_hu("fat")
        ),
        Part(name="heart", shape=heart, box=far, hu=_hu("blood")),
        Part(name="liver", shape=liver, box=far, hu=_hu("organ") + 10),
        Part(name="esophagus", shape=gullet, box=far, hu=_hu("organ") - 10),
        Part(name="", shape=azygos, box=far, hu=_hu("blood")),
        Part(name="aorta", shape=aorta, box=far, hu=_hu("blood")),
    ]
