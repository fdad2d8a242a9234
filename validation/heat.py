"""Do ice and heat in the computer come out as they were measured in gels, cadavers and meat?

    python validation/heat.py

Runs the simulation of ablation in blocks of gel, meat or tumour and in a synthetic vertebra, sets
what was published beside what is computed, and writes its page. Some minutes on two cores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from trocar.facts import ablation as facts
from trocar.facts.ablation import Applicator, applicator
from trocar.imaging.bone import read_anatomy
from trocar.model.ablation import AblationPlan, Phase, Placed, ThermalDose
from trocar.model.case import Site
from trocar.model.result import Anatomy, Axes
from trocar.model.space import Float, Grid, Mask, Segment, Volume
from trocar.phantom import make
from trocar.simulation.ablation import Constants, ablate

PAGE = Path(__file__).with_suffix(".md")
WITHIN = 0.1  # of a printed figure that has no spread
MUSCLE_HU, BONE_HU = 40.0, 150.0
HOT_C = 55.0  # the middle of 50 to 60 degC, at which zones in meat are commonly read
PIXEL_MM = 0.25  # of the plane in which areas are measured
COLUMNS = "| {what} | published | computed | |\n|---|---|---|---|"
MEAN = Constants.of("mean")
DEAD = replace(MEAN, perfusion_factor=0.0, tumour_blood_ml_min_kg=0.0, csf_exchange_per_s=0.0)

HEAD = """# Heat and ice in the computer

Written by `heat.py`. A computed number agrees when it lies in the printed span, within one printed standard
deviation, or, where no spread is printed, within {within:.0f} % of the printed number. Constants are the
mean ones and nothing was fitted to these tables. Temperatures, times and sizes that are not printed are
stand-ins of `facts/ablation.toml` or chosen here, and are named.

"""

CLOSED = """## Closed forms

These run with every check; their numbers are in the tests.

| what | tested in | held to |
|---|---|---|
| hot ball in bone: steady profile with blood; warming without | `tests/kernels/test_heat.py` | 0.16 and 0.15 degC, second order |
| power of that ball | `tests/kernels/test_heat.py` | 1 % |
| point source with and without blood | `tests/kernels/test_heat.py` | 0.5 %, second order |
| growing ice (Neumann's problem) | `tests/kernels/test_heat.py` | 0.25 mm |
| closed box keeps its heat | `tests/kernels/test_heat.py` | 1e-6 |
| CEM43 and Arrhenius times | `tests/kernels/test_heat.py` | 1e-4 and 5 % |
| sphere electrode: resistance, power, heat with distance | `tests/kernels/test_potential.py` | 1 %, 1 %, 2 % |
| current put in turns to heat | `tests/kernels/test_potential.py` | 1e-6 |
| heat into a cylinder thinner than a voxel, wherever it lies | `tests/kernels/test_rod.py` | 1 % |
| resistance of a needle electrode in every direction | `tests/kernels/test_rod.py` | 3 % |

"""

LEFT_OUT = """## What is not shown

- A living vertebra. No patient's temperatures were at hand; blood flow of bone and tumour and renewal of
  CSF are off in the gels, the cadaver and the meat, so nothing here tests them.
- A real device. Every applicator is a stand-in: lengths, gaps, powers and lowest temperatures were not read
  in a leaflet. Prongs, bends, cooled tips and directional antennas have no row here.
- Long bones against imaging, the directional antenna in pigs and the liver zones of makers: not repeated.
- Tissue that dries, chars or shrinks while it is heated, and gas that bubbles make.
- That what is counted as dead (240 min at 43 degC, or 60 degC; -40 degC once) dies in a patient.
"""


@dataclass(kw_only=True)
class Table:
    """Rows of published against computed."""

    what: str
    rows: list[str] = field(default_factory=list)

    def add(self, name: str, published: str, computed: str, agrees: bool | None) -> None:
        word = "" if agrees is None else "agrees" if agrees else "**does not**"
        self.rows.append(f"| {name} | {published} | {computed} | {word} |")
        print(self.rows[-1], flush=True)

    def number(self, name: str, published: float, computed: float, unit: str) -> None:
        """A printed figure without a spread."""
        near = abs(computed / published - 1.0) <= WITHIN
        self.add(name, f"{published:g} {unit}", f"{computed:.1f} {unit}", near)

    def __str__(self) -> str:
        return COLUMNS.format(what=self.what) + "\n" + "\n".join(self.rows) + "\n\n"


# --- blocks ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Block:
    """Something to ablate."""

    ct: Volume
    anatomy: Anatomy
    lesion: Mask | None = None


def block(
    half_mm: float, *, tumour_mm: float = 0.0, wide: bool = False, watch_mm: float | None = None
) -> Block:
    """A cube all of soft tissue, or of bone with a cube of tumour (half its side) in its middle.

    ``wide`` marks two voxels in far corners as tumour: so the computed box, whose faces let no heat
    out, is twice as wide around the probes. ``watch_mm`` names a spot so far up the needle's axis
    ``nerve_watched``, to follow its temperature.
    """
    n = int(half_mm) + 1
    first = -(n - 1.0)
    grid = Grid.from_spacing((n,) * 3, (2.0,) * 3, (first,) * 3)
    p = grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1))
    tumour = (np.abs(p) <= tumour_mm).all(axis=-1) if tumour_mm else np.zeros(grid.shape, bool)
    bone = np.full(grid.shape, tumour_mm > 0)
    if wide:
        tumour[1, 1, 1] = tumour[-2, -2, -2] = True
    structures = {}
    if watch_mm is not None:
        spot = np.linalg.norm(p - np.array([0.0, 0.0, watch_mm]), axis=-1) <= 1.0
        structures["nerve_watched"] = Mask(grid=grid, values=spot)
    hu = np.where(bone, BONE_HU, MUSCLE_HU)
    anatomy = Anatomy(
        site=Site.parse("femur left"),
        grid=grid,
        body=Mask(grid=grid, values=np.ones(grid.shape, bool)),
        bone=Mask(grid=grid, values=bone),
        axes=Axes(
            origin_mm=np.zeros(3),
            left=np.array([1.0, 0.0, 0.0]),
            posterior=np.array([0.0, 1.0, 0.0]),
            superior=np.array([0.0, 0.0, 1.0]),
        ),
        structures=structures,
        regions={},
    )
    lesion = Mask(grid=grid, values=tumour) if tumour.any() else None
    return Block(Volume(grid=grid, values=hu), anatomy, lesion)


def upright(device: Applicator, x_mm: float = 0.0, y_mm: float = 0.0) -> Placed:
    """An applicator from above; the middle of what works lies at height 0."""
    tip = np.array([x_mm, y_mm, -device.active_mm / 2])
    up = np.array([0.0, 0.0, 100.0])
    return Placed(device=device, path=Segment(start_mm=tip + up, end_mm=tip))


def run(
    at: Block,
    placed: Sequence[Placed],
    seconds: float,
    *,
    constants: Constants,
    voxel_mm: float,
    ramp_s: float = 30.0,
) -> ThermalDose:
    mode = "heat" if placed[0].device.heats else "freeze"
    plan = AblationPlan(
        lesion_id="block",
        site=at.anatomy.site,
        applicators=tuple(placed),
        phases=(Phase(mode=mode, seconds=seconds, ramp_s=ramp_s),),
        margin_mm=0.0,
    )
    return ablate(at.ct, at.anatomy, plan, lesion=at.lesion, constants=constants, voxel_mm=voxel_mm)


# --- ice ---------------------------------------------------------------------------------------


def plane(dose: ThermalDose, reach_mm: float = 55.0) -> Float:
    """Lowest temperatures across the probes at the middle of what works, on fine pixels."""
    x = np.arange(-reach_mm, reach_mm, PIXEL_MM)
    points = np.stack([*np.meshgrid(x, x), np.zeros((x.size, x.size))], axis=-1)
    return dose.lowest_c.sample(points, outside=37.0)


def area_mm2(celsius: Float, below_c: float) -> float:
    return float(np.count_nonzero(celsius <= below_c)) * PIXEL_MM**2


def across_mm(celsius: Float, below_c: float) -> float:
    """Diameter of the circle of the same area."""
    return 2.0 * float(np.sqrt(area_mm2(celsius, below_c) / np.pi))


def behind_mm(celsius: Float, lethal_c: float, edge_c: float) -> Float:
    """How far behind each place of the ice's edge lethal ice begins."""
    far = ndimage.distance_transform_edt(celsius > lethal_c) * PIXEL_MM
    ice = celsius <= edge_c
    out: Float = far[ice & ~ndimage.binary_erosion(ice)]
    return out


def layouts(spacing_mm: float) -> dict[int, list[tuple[float, float]]]:
    """Probes in a row, a triangle and a square."""
    h = spacing_mm / 2
    low, high = -h / np.sqrt(3.0), 2 * h / np.sqrt(3.0)
    return {
        1: [(0.0, 0.0)],
        2: [(-h, 0.0), (h, 0.0)],
        3: [(-h, low), (h, low), (0.0, high)],
        4: [(-h, -h), (h, -h), (-h, h), (h, h)],
    }


def ice() -> str:
    """Littrup 2009 (T28, T29) and the gel of PMC4850244 (T30)."""
    lethal, edge = float(facts.value("littrup_c")), float(facts.value("ice_edge_c"))
    gel = block(74.0, wide=True)
    planes: dict[tuple[str, int], Float] = {}
    for name in ("cryo_2_4", "cryo_1_7"):
        for n, places in layouts(20.0).items():
            placed = [upright(applicator(name), x, y) for x, y in places]
            planes[name, n] = plane(run(gel, placed, 900.0, constants=DEAD, voxel_mm=2.0))
    out = [
        "## Ice in a warm phantom (T28, T29)\n\nLittrup 2009 (PMC2762356): 15 minutes of argon, "
        "probes 20 mm apart. Here: muscle without blood that starts at 37 degC, -30 degC counted "
        "as lethal, areas across the probes at the middle of their active length, diameters those "
        "of a circle of the same area.\n\n"
    ]
    table = Table(what="2.4 mm probes")
    for n, mm in zip((1, 2, 3, 4), (12.0, 33.0, 41.0, 49.0), strict=True):
        table.number(f"{n}: -30 degC across", mm, across_mm(planes["cryo_2_4", n], lethal), "mm")
    for n, share in zip((1, 2, 3, 4), (13.0, 46.0, 51.0, 56.0), strict=True):
        p = planes["cryo_2_4", n]
        table.number(
            f"{n}: lethal share of the ice", share,
            100 * area_mm2(p, lethal) / area_mm2(p, edge), "%",
        )  # fmt: skip
    for n, mm in zip((1, 2, 3, 4), (12.0, 33.0, 41.0, 49.0), strict=True):
        share = (0.13, 0.46, 0.51, 0.56)[n - 1]
        table.number(
            f"{n}: ice across (printed: from the two above)", round(mm / np.sqrt(share), 1),
            across_mm(planes["cryo_2_4", n], edge), "mm",
        )  # fmt: skip
    edge_mm, lethal_mm = 6.0 / np.sqrt(0.13), 6.0
    probe = applicator("cryo_2_4")
    needed = lethal * np.log(edge_mm / probe.radius_mm) / np.log(edge_mm / lethal_mm)
    table.add(
        "1: surface of the probe that the printed pair needs, quasi-steady (here: the coldest)",
        f"{needed:.0f} degC", f"{probe.coldest_c:g} degC",
        bool(abs(needed / float(probe.coldest_c or 0.0) - 1.0) <= WITHIN),
    )  # fmt: skip
    out.append(f"{table}{{ice_note}}\n\n")
    table = Table(what="1.7 mm probes against 2.4 mm")
    for n in (1, 2, 3, 4):
        thin, thick = planes["cryo_1_7", n], planes["cryo_2_4", n]
        for c, word in ((edge, "ice"), (lethal, "lethal")):
            table.number(
                f"{n}: diameter, {word}", 84.0, 100 * across_mm(thin, c) / across_mm(thick, c), "%"
            )
            table.number(
                f"{n}: area, {word}", 71.0, 100 * area_mm2(thin, c) / area_mm2(thick, c), "%"
            )
    for name in ("cryo_2_4", "cryo_1_7"):
        for n in (1, 2, 3, 4):
            gap = behind_mm(planes[name, n], lethal, edge)
            table.add(
                f"{name[5:].replace('_', '.')} mm, {n}: lethal edge behind the ice's",
                "below 10 mm, nearly always", f"{gap.mean():.1f} mm (most {gap.max():.1f})",
                bool(gap.mean() < 10.0),
            )  # fmt: skip
    out.append(f"{table}{{thin_note}}\n\n")
    out.append(
        "## Ice of a 17 gauge probe in gel (T30)\n\nPMC4850244, gel at 37 degC. One probe, ten "
        "minutes (the time is chosen here).\n\n"
    )
    table = Table(what="17 gauge")
    p = plane(run(gel, [upright(applicator("cryo_17"))], 600.0, constants=DEAD, voxel_mm=1.5))
    r0, r20, r40 = (across_mm(p, c) / 2 for c in (0.0, -20.0, -40.0))
    table.number("-40 degC inside the 0 degC edge", 10.0, r0 - r40, "mm")
    table.add(
        "-20 degC inside the edge, if linear (within 1 mm)", f"{(r0 - r40) / 2:.1f} mm",
        f"{r0 - r20:.1f} mm", bool(abs((r0 + r40) / 2 - r20) <= 1.0),
    )  # fmt: skip
    table.add("radius of 0, -20, -40 degC", "", f"{r0:.1f}, {r20:.1f}, {r40:.1f} mm", None)
    out.append(f"{table}{{gel_note}}\n\n")
    return "".join(out)


# --- the cadaver's vertebra --------------------------------------------------------------------


def through_pedicle(anatomy: Anatomy, device: Applicator, from_canal_mm: float) -> Placed:
    """Through the left pedicle, so deep that what works is so far from the canal."""
    assert anatomy.vertebra is not None
    way = next(i for i in anatomy.vertebra.isthmuses if i.side == "left")
    canal = anatomy.structures["spinal_canal"].points_mm()
    forward = way.direction * -np.sign(way.direction @ anatomy.axes.posterior)
    for depth in np.arange(0.0, 45.0, 0.25):
        start = way.centre_mm + depth * forward
        tip = start + device.active_mm * forward
        if Segment(start_mm=start, end_mm=tip).distance_mm(canal).min() >= from_canal_mm:
            return Placed(device=device, path=Segment(start_mm=tip - 90.0 * forward, end_mm=tip))
    raise SystemExit(f"no place {from_canal_mm:g} mm from the canal")


def vertebra() -> str:
    """Groetz 2013 (T31) in a synthetic L3 without blood."""
    patient = make("vertebra_l3", lesion=False)
    anatomy = read_anatomy(patient.ct, patient.site, labels=patient.labels)
    at = Block(patient.ct, anatomy)
    table = Table(what="electrode, its distance from the canal")
    printed = {
        "rf_10": ("10 mm needle", (46.8, 4.7), (46.4, 2.5)),
        "rf_20": ("20 mm array", (49.5, 6.5), (52.2, 5.6)),
    }
    for name, (words, canal, foramen) in printed.items():
        for far in (5.0, 10.0, 15.0):
            placed = through_pedicle(anatomy, applicator(name), far)
            if not anatomy.bone.holds(placed.path.end_mm[None]).all():
                continue  # its tip would leave the body in front
            dose = run(at, [placed], placed.device.seconds, constants=DEAD, voxel_mm=1.0)
            for where, (mean, sd) in (("spinal_canal", canal), ("foramen_left", foramen)):
                peak = max(s.peak_c for s in dose.structures if s.structure.startswith(where))
                table.add(
                    f"{words}, {far:g} mm: {where.replace('_', ' ')}", f"{mean:g} ± {sd:g} degC",
                    f"{peak:.1f} degC", bool(abs(peak - mean) <= sd),
                )  # fmt: skip
    ten, twenty = applicator("rf_10"), applicator("rf_20")
    return (
        "## A cadaver's vertebra (T31)\n\nGroetz 2013 (PMC3676570), highest temperatures. Here: a "
        "synthetic L3 without tumour, blood or flow of CSF, electrode through the left pedicle, so "
        "deep that its active part is 5, 10 or 15 mm from the canal; "
        f"{ten.target_c:g} and {twenty.target_c:g} degC for {ten.seconds / 60:g} minutes are "
        "stand-ins, and one straight electrode takes the place of the array. The hottest voxel of "
        "each space is told, which lies at its wall.\n\n"
        f"{table}{{vertebra_note}}\n\n"
    )


# --- meat --------------------------------------------------------------------------------------


def size_mm(dead: Mask, part: Segment) -> tuple[float, float]:
    """Length along the needle, and width where it is thickest (a circle of the same area)."""
    h = dead.grid.spacing_mm[0]
    along = (dead.points_mm() - part.end_mm) @ part.direction
    counts = np.bincount(np.floor((along - along.min()) / h + 1e-6).astype(int))
    return float(np.ptp(along)) + h, 2.0 * float(np.sqrt(counts.max() * h**2 / np.pi))


def span(values: Sequence[float], digits: int) -> str:
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low} to {high}"


def meat() -> str:
    """Monopolar electrodes, Cosman 2014 (T35)."""
    gauges = {22: 0.72, 20: 0.91, 18: 1.27, 16: 1.65}
    dead: dict[tuple[int, int, int], tuple[float, float]] = {}
    hot: dict[tuple[int, int, int], tuple[float, float]] = {}
    at, reached = block(32.0), list[float]()
    for gauge, diameter in gauges.items():
        for target, minutes in ((60, 2), (70, 2), (80, 1), (80, 2), (80, 3), (90, 2)):
            if target != 80 and gauge not in (22, 16):
                continue
            device = Applicator(
                name=f"{gauge} G", kind="rf", diameter_mm=diameter, active_mm=10.0,
                target_c=float(target),
            )  # fmt: skip
            placed = upright(device)
            dose = run(at, [placed], 60.0 * minutes, constants=DEAD, voxel_mm=0.5, ramp_s=10.0)
            key = (gauge, target, minutes)
            dead[key] = size_mm(dose.dead, placed.active())
            warm = Mask(grid=dose.peak_c.grid, values=dose.peak_c.values >= HOT_C)
            hot[key] = size_mm(warm, placed.active())
            if key in ((22, 80, 3), (16, 80, 3)):
                there = np.flatnonzero(dose.surface_c[:, 0] >= target - 2.0)
                reached.append(float(dose.time_s[there[0]]) if there.size else np.inf)
    lines = [
        f"| gauge | target, degC | minutes | dead: width x length, mm | {HOT_C:g} degC, mm |",
        "|---|---|---|---|---|",
    ]
    for key, (length, width) in sorted(dead.items(), reverse=True):
        gauge, target, minutes = key
        lines.append(
            f"| {gauge} | {target} | {minutes} | {width:.1f} x {length:.1f} "
            f"| {hot[key][1]:.1f} x {hot[key][0]:.1f} |"
        )
    table = Table(what="width unless said otherwise")
    for sizes, word in ((dead, "dead"), (hot, f"{HOT_C:g} degC")):

        def judged(
            name: str, low: float, high: float, values: Sequence[float], unit: str, word: str = word
        ) -> None:
            table.add(
                f"{word}: {name}", f"{low:g} to {high:g} {unit}",
                f"{span(values, 0 if unit == '%' else 1)} {unit}",
                bool(min(values) >= low and max(values) <= high),
            )  # fmt: skip

        w = {key: size[1] for key, size in sizes.items()}
        thin, thick = w[22, 80, 2], w[16, 80, 2]
        judged("22 to 16 gauge, 80 degC, 2 min", 58, 65, [100 * (thick / thin - 1)], "%")
        judged("the same in mm", 3, 4, [thick - thin], "mm")
        judged("22 gauge, 80 degC, 2 min (printed: mm by %)", round(3 / 0.65, 1),
               round(4 / 0.58, 1), [thin], "mm")  # fmt: skip
        rises = [100 * (w[g, 90, 2] / w[g, 60, 2] - 1) for g in (16, 22)]
        judged("60 to 90 degC, 2 min, 16 and 22 gauge", 108, 152, rises, "%")
        for minutes, low, high in ((2, 11, 20), (3, 23, 32)):
            rises = [100 * (w[g, 80, minutes] / w[g, 80, 1] - 1) for g in gauges]
            judged(f"{minutes} min against 1, 80 degC", low, high, rises, "%")
        beyond = [sizes[g, 80, 2][0] - 10.0 for g in gauges]
        judged("length beyond the 10 mm tip, 80 degC, 2 min", 1, 5, beyond, "mm")
    table.add("the electrode is within 2 degC of 80 after (16 and 22 gauge)", "",
              f"{span(reached, 0)} s", None)  # fmt: skip
    return (
        "## Monopolar electrodes in meat (T35)\n\nCosman 2014, 400 lesions ex vivo. Here: muscle "
        "without blood from 37 degC, 10 mm tips, target asked for in 10 s (chosen here; times count "
        "from power on), cubes of 0.5 mm. Two readings: dead (240 min at 43 degC, or 60 degC) and "
        f"what passed {HOT_C:g} degC.\n\n" + "\n".join(lines) + f"\n\n{table}{{meat_note}}\n\n"
    )


# --- devices -----------------------------------------------------------------------------------


def extents_mm(dead: Mask) -> tuple[float, float, float]:
    """Left to right, front to back, up the needles."""
    p = dead.points_mm()
    x, y, z = (float(v) + dead.grid.spacing_mm[0] for v in np.ptp(p, axis=0))
    return x, y, z


def devices() -> str:
    """Zones that makers or reviews print, in lytic tumour with its blood."""
    table = Table(what="device")

    def both(name: str, printed: tuple[float, float], got: tuple[float, float]) -> None:
        for word, a, b in zip(("length", "width"), printed, got, strict=True):
            table.number(f"{name}: {word}", a, b, "mm")

    cool = applicator("osteocool_20")
    lean = np.tan(np.radians(20.0))
    pair = []
    for side in (-1.0, 1.0):
        tip = np.array([5.0 * side, 0.0, -cool.active_mm / 2])
        up = np.array([100.0 * lean * side, 0.0, 100.0])
        pair.append(Placed(device=cool, path=Segment(start_mm=tip + up, end_mm=tip)))
    dose = run(block(40.0, tumour_mm=34.0), pair, cool.seconds, constants=MEAN, voxel_mm=1.0)
    x, y, z = extents_mm(dose.dead)
    assert cool.zone_mm is not None
    both("osteocool_20, two needles", cool.zone_mm, (max(x, z), y))
    table.add(
        "the same: across both, up the needles, front to back", "",
        f"{x:.0f} x {z:.0f} x {y:.0f} mm", None,
    )  # fmt: skip

    star = applicator("star")
    assert star.zone_mm is not None
    needle = upright(star)
    dose = run(
        block(40.0, tumour_mm=34.0, watch_mm=10.0), [needle], star.seconds,
        constants=MEAN, voxel_mm=1.0,
    )  # fmt: skip
    watched = dose.structure("nerve_watched").warmest_c
    assert watched is not None
    past = np.flatnonzero(watched >= 50.0)
    stop = float(dose.time_s[past[0]]) if past.size else star.seconds
    table.number("star: warming of the spot 10 mm from the centre", 50.0 - 37.0,
                 float(watched.max()) - 37.0, "K")  # fmt: skip
    both(f"star, off after {stop:.0f} s", star.zone_mm,
         size_mm(dose.dead_at(stop), needle.active()))  # fmt: skip

    wave = applicator("microwave_17")
    assert wave.zone_mm is not None
    needle = upright(wave)
    dose = run(block(52.0, tumour_mm=46.0), [needle], wave.seconds, constants=MEAN, voxel_mm=1.5)
    both(f"microwave_17, {wave.power_w:g} W, {wave.seconds / 60:g} min", wave.zone_mm,
         size_mm(dose.dead, needle.active()))  # fmt: skip
    return (
        "## Zones of devices in lytic tumour\n\nPrinted zones are unverified (a leaflet or a "
        "review, no tissue named). Here: a cube of lytic tumour with its blood. osteocool_20: two "
        "needles that lean 20 degrees to each other's side, tips 10 mm apart; its longest extent "
        "against 29 mm, the one across the plane of both needles against 21 mm. star: power off "
        "when the spot 10 mm up the needle from its middle reads 50 degC.\n\n"
        f"{table}{{device_note}}\n\n"
    )


NOTES = {
    "ice_note": (
        "Ice agrees throughout and lethal ice does with two to four probes. Around a single probe it "
        "is printed far narrower than computed. A surface less cold than the stand-in's would give "
        "the printed pair, but then less ice in the groups, too; the warm load around the phantom, "
        "which is not modelled, may be another part of it. Neither was tried."
    ),
    "thin_note": (
        "Of which area the printed ratio is, is not known here, so both are told. By lethal ice it "
        "agrees but for the area of one probe; by the whole ice the thin probes in groups come out "
        "too much like the thick ones, for in the model they differ in diameter, active length and "
        "10 degC, not in their flow of gas. The lethal edge is judged by its mean distance."
    ),
    "gel_note": (
        "The isotherms lie closer together than printed: the ice of ten minutes at one probe is too "
        "narrow to hold a span of 1 cm between them. The paper's time and number of probes are not "
        "known here; a longer freeze spreads them."
    ),
    "vertebra_note": (
        "How far the cadavers' electrodes were from the canal is not known here, and distance "
        "decides: the printed temperatures are met at about 5 mm and not at 10 mm or more. The "
        "likely reasons are an electrode nearer the wall, more power, a longer time, or prongs that "
        "spread to the wall; the table cannot tell them apart, so it does not show that the computed "
        "fall of temperature with distance is right. Where 15 mm has no row the tip would leave the "
        "vertebral body."
    ),
    "meat_note": (
        "Only length agrees. A thin electrode makes too wide a zone, so the step from 22 to 16 gauge "
        "is too small, and width still grows too fast from the first to the third minute. Part of "
        "that is the generator, which brings the electrode to its target only late in the first "
        "minute (last row), so that the first minute's zone is too small. Part is what is called the "
        "lesion: the stricter reading lessens the growth with time, but does not bring it to the "
        "printed one. Meat colder than 37 degC at the start would make narrower zones; its "
        "temperature is not known here. The same electrode regulated at a sensor inside its tip, "
        "not at the hottest place of its surface, would differ again."
    ),
    "device_note": (
        "The microwave zone is much too large, in length and in width, and must not be relied on: "
        "an even source along the whole radiating length, tissue that keeps absorbing as it dries and "
        "a share of the power lost on the way that nobody measured are the likely reasons, and the "
        "printed zone is in bone, not in tumour. The zone of the pair depends on how far the needles "
        "lie apart, which is chosen here; where its length is too great and its width too small, "
        "they lie too far apart. star: the highest temperature and the lengths of its poles are "
        "stand-ins."
    ),
}


def page() -> str:
    """The whole page from what was computed."""
    parts = [ice(), vertebra(), meat(), devices()]
    return HEAD.format(within=100 * WITHIN) + CLOSED + "".join(parts).format(**NOTES) + LEFT_OUT


if __name__ == "__main__":
    PAGE.write_text(page())
