"""Draw what a radiologist sees of cement: reslices, the chance of a leak, pressure over time.

Cement in bone is a plain fill, a leak is hatched, each compartment in its own way, so that a
black-and-white print says the same as the screen. Reslices follow the rules of ``figures``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trocar.model.plan import CementPlan
from trocar.model.result import Anatomy, Fill, Injection, LeakForecast
from trocar.model.space import Float, Grid, Mask, Volume
from trocar.report import charts, figures, scene
from trocar.report.figures import Figure, Outlines, Pane, Style
from trocar.report.page import Speaker
from trocar.report.scene import Layer, Look
from trocar.report.words import Language, translate
from trocar.stats.exact import Proportion

ALARMS = ("epidural or canal", "foraminal", "intra-articular")  # worst first
_FILL = "#3fe0ff"
_LEAK = "#ff5fd2"
_HATCHES = ("////", "xxxx", "....", "\\\\\\\\", "++++", "oo", "||||", "----")
_SIDE_MM = 84.0  # of a reslice, at least
_ROOM_MM = 8.0  # shown beyond the cement
_FLOOR = 0.5  # share of cement from which a pixel is drawn as cement
_DASHED = (0, (3, 2))  # the line of what was predicted
_IN_A_ROW = 4  # words of a legend
_ROW_IN = 0.17  # inches of a row of a legend
_CURVE = 120  # points of a curve
_CALM = 0.7  # pixels of smoothing of an edge of cement
_MINUTE_S = 60.0
_BAR_PA = 1e6  # one megapascal
_PLANES = (
    ("axial", figures.SUPERIOR),
    ("sagittal", figures.LEFT),
    ("coronal", figures.POSTERIOR),
)
_BONE = Style(colour="#f5e9c8", dashes="-", width=0.9)
_CLEAR_CANAL = Look(colour=(0.97, 0.78, 0.20), opacity=0.28)
_LOOKS = {
    "cement": Look(colour=(0.10, 0.62, 0.78), opacity=0.95),
    "leak": Look(colour=(0.80, 0.10, 0.62), opacity=1.0),
}


@dataclass(frozen=True, eq=False, kw_only=True)
class Part:
    """Something filled in on a reslice: its share of each voxel, its word, its pattern.

    The word is English; the picture says it in its own language, if there is a font for it.
    """

    share: Volume
    word: str
    hatch: str = ""
    colour: str = _FILL


def parts_of(fill: Fill) -> list[Part]:
    """The cement that did not leak and each compartment's leaks, alarms first, to be drawn."""
    kept = np.array(fill.fraction.values, dtype=np.float32)
    leaks = sorted(fill.leaks, key=lambda k: (rank(k.compartment), -k.volume_ml))
    for leak in leaks:
        kept[leak.mask.on(fill.fraction.grid).values] = 0
    rest = Volume(grid=fill.fraction.grid, values=kept, unit="1")
    parts = [Part(share=rest, word="cement in bone")]
    for number, name in enumerate(dict.fromkeys(k.compartment for k in leaks)):
        here = np.zeros(fill.fraction.grid.shape, bool)
        for leak in leaks:
            if leak.compartment == name:
                here |= leak.mask.on(fill.fraction.grid).values
        # A leak is drawn where its mask is: thin ones would vanish at half of a voxel.
        share = Volume(grid=fill.fraction.grid, values=here.astype(np.float32), unit="1")
        hatch = _HATCHES[number % len(_HATCHES)]
        parts.append(Part(share=share, word=name, hatch=hatch, colour=_LEAK))
    return parts


def is_alarm(compartment: str) -> bool:
    """Whether cement there must be told before all else: canal, foramen, joint."""
    return compartment in ALARMS


def rank(compartment: str) -> int:
    """0 for the worst place; all places that are no alarm come last, together."""
    return ALARMS.index(compartment) if is_alarm(compartment) else len(ALARMS)


def planes_at(centre_mm: Float, side_mm: float) -> list[tuple[str, Pane]]:
    """Axial, sagittal and coronal cut through a point."""
    out = []
    for name, normal in _PLANES:
        right, down = figures.upright(normal)
        size = (side_mm, side_mm)
        out.append((name, Pane(centre_mm=centre_mm, right=right, down=down, size_mm=size)))
    return out


def side_of(anatomy: Anatomy, masks: Sequence[Mask]) -> tuple[Float, float]:
    """The middle of what the masks hold and the side of a square that shows it with a margin."""
    points = [m.points_mm() for m in masks if not m.is_empty]
    if not points:
        return anatomy.axes.origin_mm, _SIDE_MM
    every = np.vstack(points)
    low, high = every.min(axis=0), every.max(axis=0)
    return (low + high) / 2, max(_SIDE_MM, float((high - low).max()) + 2 * _ROOM_MM)


def reslices(
    ct: Volume,
    shapes: Outlines,
    parts: Sequence[Part],
    places: Sequence[Float],
    *,
    side_mm: float,
    titles: Sequence[str],
    outlined: Sequence[tuple[Volume, str]] = (),
    language: Language,
    legend: bool = True,
) -> str:
    """One row of three cuts (axial, sagittal, coronal) for each place, as a data URI.

    ``outlined`` are further shares drawn as a dashed line (what was predicted), each with its word.
    """
    with figures.drawing(language) as (plt, t):
        figure, axes = figures.panes(plt, len(places), 3)
        for row, place in enumerate(places):
            for column, (name, pane) in enumerate(planes_at(place, side_mm)):
                axis = axes[row, column]
                _cut(axis, ct, shapes, parts, pane, outlined)
                title = f"{titles[row]}: {t(name)}" if titles[row] else t(name)
                axis.set_title(title, fontsize=8, pad=3)
        if legend and parts:
            _legend(figure, parts, outlined, shapes, language, t)
        return figures.picture(figure, plt, compact=True)


def _cut(
    axis: Any,
    ct: Volume,
    shapes: Outlines,
    parts: Sequence[Part],
    pane: Pane,
    outlined: Sequence[tuple[Volume, str]],
) -> None:
    image = ct.on(pane.grid(), outside=-1000.0).values[0]
    centre, width = figures.BONE_WINDOW
    low = centre - width / 2
    axis.imshow(image, cmap="gray", vmin=low, vmax=low + width, extent=pane.extent, aspect="equal")
    rings = shapes.on(pane)
    _outline(axis, {k: r for k, r in rings.items() if k != "lesion"})
    for part in parts:
        _paint(axis, part, pane)
    _outline(axis, {k: r for k, r in rings.items() if k == "lesion"})  # seen over its cement
    for share, _ in outlined:
        _contour(axis, share, pane, colour="#ffffff", dashes=_DASHED)
    figures._letters(axis, pane.right, pane.down)
    figures._bar(axis, pane.extent, 10.0)
    figures._fit(axis, pane.extent)


def _outline(axis: Any, shapes: Mapping[str, Sequence[Float]]) -> None:
    for key, rings in shapes.items():
        look = _style(key)
        for ring in rings:
            axis.plot(
                ring[:, 0],
                ring[:, 1],
                color=look.colour,
                linestyle=look.dashes,
                linewidth=look.width if key == "lesion" else 0.8,
                path_effects=figures._halo(look.width + 1.2),
            )


def _style(key: str) -> Style:
    return _BONE if key == "bone" else figures.style(key)


def _shares(share: Volume, pane: Pane) -> tuple[Float, Float, Float]:
    from scipy.ndimage import gaussian_filter

    grid = pane.grid()
    values = gaussian_filter(share.on(grid, outside=0.0).values[0].astype(np.float64), _CALM)
    height, width = values.shape
    x = np.linspace(pane.extent[0], pane.extent[1], width)
    y = np.linspace(pane.extent[3], pane.extent[2], height)
    return x, y, values


def _paint(axis: Any, part: Part, pane: Pane) -> None:
    from matplotlib import rc_context

    x, y, values = _shares(part.share, pane)
    if values.max() < _FLOOR:
        return
    with rc_context({"hatch.linewidth": 1.1, "hatch.color": "#101418"}):
        filled = axis.contourf(
            x,
            y,
            values,
            levels=[_FLOOR, 2.0],
            colors=[part.colour],
            alpha=0.95 if part.hatch else 0.55,
            hatches=[part.hatch or None],
        )
        filled.set_edgecolor("#101418")
        filled.set_linewidth(0.0)
    _contour(axis, part.share, pane, colour="#ffffff" if part.hatch else part.colour, dashes="-")


def _contour(axis: Any, share: Volume, pane: Pane, *, colour: str, dashes: Any) -> None:
    x, y, values = _shares(share, pane)
    if values.max() < _FLOOR:
        return
    axis.contour(
        x, y, values, levels=[_FLOOR], colors=[colour], linewidths=1.0, linestyles=[dashes]
    )


def _legend(
    figure: Any,
    parts: Sequence[Part],
    outlined: Sequence[tuple[Volume, str]],
    shapes: Outlines,
    language: Language,
    t: figures.Words,
) -> None:
    """A strip below the cuts, where it hides nothing of them."""
    from matplotlib import rc_context
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    with rc_context({"hatch.linewidth": 1.0, "hatch.color": "#101418"}):
        items: list[Any] = [
            Patch(facecolor=p.colour, edgecolor="#101418", hatch=p.hatch, label=t(p.word))
            for p in parts
        ]
        for key in ("lesion", "bone", "spinal_canal"):
            if key in shapes.parts:
                look = _style(key)
                rim = figures._halo(2.6)
                items.append(
                    Line2D(
                        [],
                        [],
                        color=look.colour,
                        linestyle=look.dashes,
                        linewidth=1.4,
                        path_effects=rim,
                        label=figures.structure_word(key, language, t),
                    )
                )
        for _, word in outlined:
            rim = figures._halo(3.0)
            items.append(
                Line2D([], [], color="#ffffff", linestyle=_DASHED, path_effects=rim, label=t(word))
            )
        rows = -(-len(items) // _IN_A_ROW)
        _make_room(figure, _ROW_IN * rows + 0.06)
        figure.legend(
            handles=items,
            loc="lower center",
            ncols=min(_IN_A_ROW, len(items)),
            fontsize=7,
            frameon=False,
            handlelength=2.6,
            handleheight=1.3,
            borderpad=0.1,
            columnspacing=1.6,
        )


def _make_room(figure: Any, strip_in: float) -> None:
    """Let the figure grow downwards; its axes keep their size."""
    width, height = figure.get_size_inches()
    whole = height + strip_in
    for axis in figure.axes:
        box = axis.get_position()
        low, tall = (box.y0 * height + strip_in) / whole, box.height * height / whole
        axis.set_position((box.x0, low, box.width, tall))
    figure.set_size_inches(width, whole)


def frames(
    ct: Volume,
    anatomy: Anatomy,
    lesion: Mask,
    injection: Injection,
    volumes_ml: Sequence[float],
    t: Speaker,
) -> list[str]:
    """The three cuts through the lesion at each injected volume, as data URIs."""
    shapes = shown_shapes(anatomy, lesion)
    grid = injection.order_ml.grid
    bone = anatomy.bone.on(grid).values
    end = injection.at_ml(np.inf)
    place, side = side_of(anatomy, [lesion, Mask(grid=grid, values=end.values & bone)])
    if not lesion.is_empty:
        place = lesion.centroid_mm
    out = []
    for volume in volumes_ml:
        filled = injection.at_ml(volume).values
        inside = Volume(grid=grid, values=(filled & bone).astype(np.float32), unit="1")
        beyond = Volume(grid=grid, values=(filled & ~bone).astype(np.float32), unit="1")
        parts = [
            Part(share=inside, word="cement in bone"),
            Part(share=beyond, word="outside the bone", hatch=_HATCHES[0], colour=_LEAK),
        ]
        out.append(
            reslices(ct, shapes, parts, [place], side_mm=side, titles=[""], language=t.language)
        )
    return out


def shown_shapes(anatomy: Anatomy, lesion: Mask | None) -> Outlines:
    """Outlines of the bone, of the lesion and of what must stay free of cement."""
    empty = Mask(grid=anatomy.grid, values=np.zeros(anatomy.grid.shape, bool))
    shown = figures.outlines(anatomy, empty if lesion is None else lesion)
    return Outlines(parts={**Outlines.of({"bone": anatomy.bone}).parts, **shown.parts})


# --- charts ----------------------------------------------------------------------------------


def chance_chart(
    forecast: LeakForecast, *, target_ml: float, stop_ml: float | None, t: Speaker
) -> Figure:
    """The share of simulated injections that have leaked, by compartment, against the volume.

    Alarms are thick and have the 95 % Wilson interval of their share as a band.
    """
    at = np.linspace(0.0, forecast.volume_ml, _CURVE)
    ranked = sorted(forecast.onset_ml, key=lambda n: (n not in forecast.alarms, n))
    dashes = ("-", "--", "-.", ":", (0, (6, 1, 1, 1)), (0, (1, 1)), (0, (8, 3)))
    greys = ("#111111", "#0b4f6c", "#a4161a", "#6a4c93", "#8a5a00", "#55626f", "#1f6b3a")
    # Numbers of the drawing only; the text table beside it repeats what matters.
    with charts._canvas(7.4, 3.5) as (figure, axis):
        for number, name in enumerate(ranked):
            share = 100 * forecast.chance(at, name)
            alarm = name in forecast.alarms
            label = f"{t(name)}{' (!)' if alarm else ''}"
            axis.step(
                at,
                share,
                where="post",
                color=greys[number % len(greys)],
                linestyle=dashes[number % len(dashes)],
                linewidth=2.8 if alarm else 1.2,
                label=label,
            )
            if alarm:
                low, high = _band(forecast, at, (name,))
                axis.fill_between(
                    at, low, high, color=greys[number % len(greys)], alpha=0.12, linewidth=0
                )
        marks: list[tuple[float, Any, str]] = [(target_ml, "-", t("planned"))]
        if stop_ml is not None:
            marks.append((stop_ml, (0, (4, 2)), t("not to pass")))
        marks.sort(key=lambda mark: mark[0])
        for number, (x, dash, word) in enumerate(marks):
            axis.axvline(x, color="#15202b", linestyle=dash, linewidth=1.4)
            # The words of two near lines stand on either side of them.
            left = number == 0 and x > forecast.volume_ml / 2
            axis.annotate(
                f"{word} {x:.1f} ml",
                (x, 1.0 - 0.075 * number),
                xycoords=("data", "axes fraction"),
                xytext=(-4 if left else 4, -9),
                textcoords="offset points",
                ha="right" if left else "left",
                fontsize=8.5,
            )
        axis.set_xlim(0, max(forecast.volume_ml, *(x for x, _, _ in marks)) * 1.05)
        axis.set_ylim(0, 105)
        axis.set_xlabel(t("injected (ml)"))
        axis.set_ylabel(t("injections that have leaked (%)"))
        if ranked:
            axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8.5, frameon=False)
        return charts._finished(
            figure,
            t("Chance of a leak by injected volume"),
            t(
                "From {runs} simulated injections, each with other constants. Thick, marked (!): "
                "places that must stay free of cement, with the 95 % interval of the share "
                "(Wilson) as a band. The interval says how many runs there were, not how true the "
                "model is.",
                runs=forecast.runs,
            ),
        )


def _band(
    forecast: LeakForecast, at_ml: Float, compartments: tuple[str, ...]
) -> tuple[Float, Float]:
    pairs = [interval_percent(forecast, float(v), *compartments) for v in at_ml]
    return np.array([p[1] for p in pairs]), np.array([p[2] for p in pairs])


def interval_percent(
    forecast: LeakForecast, injected_ml: float, *compartments: str
) -> tuple[float, float, float]:
    """The share of runs that leaked by this volume in per cent and its 95 % Wilson interval."""
    count = int(np.sum(forecast.first_ml(*compartments) <= injected_ml))
    share = Proportion(count, forecast.runs)
    interval = share.wilson()
    return share.percent or 0.0, 100 * interval.low, 100 * interval.high


def course_chart(injection: Injection, plan: CementPlan, t: Speaker) -> Figure:
    """Pressure and volume against the cement's age, with the hand's limit and the window."""
    minutes = injection.age_s / _MINUTE_S
    with charts._canvas(7.4, 4.3, nrows=2, sharex=True) as (figure, (top, bottom)):
        top.plot(
            minutes,
            injection.syringe_pa / _BAR_PA,
            color="#15202b",
            lw=1.8,
            label=t("at the syringe"),
        )
        top.plot(
            minutes,
            injection.tip_pa / _BAR_PA,
            color="#0b4f6c",
            lw=1.4,
            linestyle="--",
            label=t("at the tip"),
        )
        top.axhline(
            plan.pressure_limit_pa / _BAR_PA,
            color="#a4161a",
            linestyle=":",
            lw=1.6,
            label=t("the hand's limit"),
        )
        top.set_ylabel(t("pressure (MPa)"))
        top.set_ylim(bottom=0)
        bottom.plot(
            minutes, injection.injected_ml, color="#15202b", lw=1.8, label=t("injected, all")
        )
        bottom.plot(
            minutes,
            injection.in_lesion_ml,
            color="#a4161a",
            lw=1.4,
            linestyle="--",
            label=t("of it in the lesion"),
        )
        leaked = sum(injection.leaked_ml.values(), np.zeros_like(injection.age_s))
        bottom.plot(minutes, leaked, color="#6a4c93", lw=1.4, linestyle=":", label=t("leaked, all"))
        bottom.set_ylabel(t("volume (ml)"))
        bottom.set_ylim(bottom=0)
        bottom.set_xlabel(t("minutes after mixing"))
        for axis in (top, bottom):
            axis.axvspan(
                plan.start_s / _MINUTE_S,
                plan.latest_s / _MINUTE_S,
                color="#1f6b3a",
                alpha=0.10,
                linewidth=0,
                label=t("working window"),
            )
            axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8.5, frameon=False)
        return charts._finished(
            figure,
            t("Pressure and volume over time"),
            t("One planned injection, as computed. The shaded time is the working window."),
        )


# --- three dimensions ------------------------------------------------------------------------


def cement_scene(anatomy: Anatomy, fill: Fill, t: Speaker) -> Figure:
    """Two views of the translucent bone with its cement and, in another colour, the leaks."""
    empty = Mask(grid=anatomy.grid, values=np.zeros(anatomy.grid.shape, bool))
    parts: dict[str, tuple[Volume, Look]] = {
        kind: (part, scene._LOOKS[kind])
        for kind, part in scene._parts(anatomy, empty).items()
        if kind in ("bone", "canal", "nerve")
    }
    if "canal" in parts:  # a leak inside it must be seen through it
        parts["canal"] = (parts["canal"][0], _CLEAR_CANAL)
    leaked = np.zeros(fill.fraction.grid.shape, bool)
    for leak in fill.leaks:
        leaked |= leak.mask.on(fill.fraction.grid).values
    solid = np.asarray(fill.fraction.values) >= _FLOOR
    for kind, values in (("cement", solid & ~leaked), ("leak", leaked)):
        mask = Mask(grid=fill.fraction.grid, values=values)
        if not mask.is_empty:
            box = mask.box(3.0)
            parts[kind] = (scene._smoothed(mask.crop(box)), _LOOKS[kind])
    shown = anatomy.bone
    with figures.drawing(t.language) as (plt, say):
        figure, axes = figures.panes(plt, 1, 2)
        for axis, (title, eye) in zip(axes[0], _eyes(say), strict=True):
            grid: Grid = scene._eye_grid(shown, eye)
            layers: list[Layer] = [
                scene._surface(part, grid, look) for part, look in parts.values()
            ]
            axis.imshow(scene._compose(layers, grid.shape[1] * scene._ZOOM), aspect="equal")
            axis.set_title(title, fontsize=8, pad=3)
            figures.annotate_scene(axis, [], (grid.shape[1] * scene._ZOOM,) * 2, grid.axes)
        uri = figures.picture(figure, plt, colours=None, compact=True)
    return Figure(
        uri=uri,
        title=translate("Bone and cement in three dimensions", t.language),
        caption=translate(
            "Bone is drawn translucent, cement blue (mid-grey in print), leaks purple (darker). "
            "Letters name the side of the patient each edge of the picture points to.",
            t.language,
        ),
    )


def _eyes(t: figures.Words) -> tuple[tuple[str, Float], tuple[str, Float]]:
    """From behind and above on the right, and from the left side."""
    first = -(figures.POSTERIOR - 0.45 * figures.LEFT + 0.45 * figures.SUPERIOR)
    second = -(0.25 * figures.POSTERIOR + figures.LEFT + 0.3 * figures.SUPERIOR)
    return (
        (t("Seen from behind and the right"), first / np.linalg.norm(first)),
        (t("Seen from the left"), second / np.linalg.norm(second)),
    )


def leaks_by_compartment(fill: Fill) -> Mapping[str, float]:
    """Millilitres in each compartment, alarms first."""
    out: dict[str, float] = {}
    for leak in sorted(fill.leaks, key=lambda k: (rank(k.compartment), -k.volume_ml)):
        out[leak.compartment] = out.get(leak.compartment, 0.0) + leak.volume_ml
    return out
