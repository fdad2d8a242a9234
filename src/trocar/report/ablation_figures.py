"""Draw what a radiologist sees of an ablation: what dies and when, the margin, nerves over time.

What dies is a hatched fill, isotherms carry their number and each its own dashes, nerves and lesion
the lines they have on every sheet: a black-and-white print says the same as the screen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trocar.facts import ablation as facts
from trocar.facts import limits, thermal
from trocar.model.ablation import AblationPlan, Placed, StructureDose, ThermalDose
from trocar.model.plan import VERDICTS
from trocar.model.result import Anatomy
from trocar.model.space import Float, Mask, Segment, Volume
from trocar.report import cement_figures as cuts
from trocar.report import charts, figures
from trocar.report.figures import Figure, Outlines, Pane
from trocar.report.page import Speaker
from trocar.report.words import translate

# Facts whose temperatures are drawn, hottest (coldest) last, each with its dashes.
_ISOTHERMS_HEAT = ("dose_c", "minutes_c", "dead_c")
_ISOTHERMS_ICE = ("ice_edge_c", "lethal_twice_c", "lethal_once_c")
_COLUMNS = 3  # of the legend: "applicator (thick: the part that works)" is a long one
_ISO_DASHES: tuple[Any, ...] = ((0, (1, 1.4)), (0, (4, 1.6)), (0, (8, 1.6, 1.5, 1.6)))
_ISO_COLOURS = ("#ffffff", "#ffe08a", "#ffb060")
_DASHES: tuple[Any, ...] = (
    "-", "--", "-.", ":", (0, (6, 1, 1, 1)), (0, (1, 1)), (0, (8, 3)), (0, (3, 1, 1, 1, 1, 1)),
)  # fmt: skip
_INKS = ("#111111", "#0b4f6c", "#a4161a", "#6a4c93", "#8a5a00", "#55626f", "#1f6b3a", "#8c2f5b")
_DEAD = "#3fe0ff"
_SHAFT = "#ffffff"
_HALF = 0.5  # share of dead from which a pixel is drawn as dead
_LEAST_MM, _MOST_MM = 56.0, 120.0  # sides of a cut
_ROOM_MM = 8.0
_APART_MM = 8.0  # zone and lesion farther apart than this get cuts of their own
_NEAR_MM = 5.0  # a shaft this near to a cut counts as lying in it
_MOST_CURVES = 6
_MINUTE_S = 60.0


def worst_first(structures: Sequence[StructureDose], *, heats: bool) -> list[StructureDose]:
    """By verdict; of one verdict the warmest (coldest) first."""
    return sorted(
        structures,
        key=lambda s: (VERDICTS.index(s.verdict), -s.peak_c if heats else s.lowest_c),
    )


# --- cuts over time --------------------------------------------------------------------------


def shown_shapes(anatomy: Anatomy, lesion: Mask, dose: ThermalDose) -> Outlines:
    """Bone, lesion, everything neural, and whatever else is warned of."""
    troubled = {s.structure for s in dose.structures if s.verdict != "ok"}
    every = cuts.shown_shapes(anatomy, lesion).parts
    return Outlines(
        parts={
            key: part
            for key, part in every.items()
            if key in ("bone", "lesion") or limits.neural(key) or key in troubled
        }
    )


def places(lesion: Mask, dose: ThermalDose) -> list[tuple[str, Float]]:
    """Where to cut: through what dies and, when that lies elsewhere, through the lesion, too."""
    out: list[tuple[str, Float]] = []
    if not dose.dead.is_empty:
        out.append(("through what dies", dose.dead.centroid_mm))
    if not lesion.is_empty:
        centre = lesion.centroid_mm
        if not out or float(np.linalg.norm(centre - out[0][1])) > _APART_MM:
            out.append(("through the lesion", centre))
    if not out:
        n = np.asarray(dose.dead.grid.shape)
        out.append(("", dose.dead.grid.to_world((n - 1) / 2)))
    return out


def _side(lesion: Mask, dose: ThermalDose, where: Sequence[tuple[str, Float]]) -> float:
    points = [m.points_mm() for m in (lesion, dose.dead) if not m.is_empty]
    if not points:
        return _LEAST_MM
    every = np.vstack(points)
    far = max(float(np.abs(every - centre).max()) for _, centre in where)
    return min(max(_LEAST_MM, 2 * (far + _ROOM_MM)), _MOST_MM)


def frames(
    ct: Volume,
    anatomy: Anatomy,
    lesion: Mask,
    plan: AblationPlan,
    dose: ThermalDose,
    seconds: Sequence[float],
    t: Speaker,
) -> list[str]:
    """Axial, sagittal and coronal cuts at each time, as data URIs."""
    shapes = shown_shapes(anatomy, lesion, dose)
    where = places(lesion, dose)
    side = _side(lesion, dose, where)
    panes = [cuts.planes_at(centre, side) for _, centre in where]
    still = [[_still(ct, shapes, dose, pane) for _, pane in row] for row in panes]
    return [_frame(plan, dose, second, where, panes, still, shapes, t) for second in seconds]


def _still(
    ct: Volume, shapes: Outlines, dose: ThermalDose, pane: Pane
) -> tuple[Float, dict[str, list[Float]], Float]:
    """What does not change over time on one cut: the CT, the outlines, the extreme temperature."""
    grid = pane.grid()
    extreme = dose.peak_c if dose.heats else dose.lowest_c
    return (
        ct.on(grid, outside=-1000.0).values[0],
        shapes.on(pane),
        extreme.on(grid, outside=float(thermal.value("blood_temperature")))
        .values[0]
        .astype(np.float64),
    )


def _frame(
    plan: AblationPlan,
    dose: ThermalDose,
    second: float,
    where: Sequence[tuple[str, Float]],
    panes: Sequence[Sequence[tuple[str, Pane]]],
    still: Sequence[Sequence[tuple[Float, dict[str, list[Float]], Float]]],
    shapes: Outlines,
    t: Speaker,
) -> str:
    died = dose.dead_at(second)
    share = Volume(grid=died.grid, values=died.values.astype(np.float32), unit="1")
    with figures.drawing(t.language) as (plt, say):
        figure, axes = figures.panes(plt, len(where), 3)
        for row, (word, _) in enumerate(where):
            for column, (name, pane) in enumerate(panes[row]):
                axis = axes[row, column]
                _cut(axis, still[row][column], share, plan, pane, heats=dose.heats)
                title = say(name)
                if word and len(where) > 1:
                    title = f"{title}, {say(word)}"
                axis.set_title(title, fontsize=8, pad=3)
        _legend(figure, shapes, t, say, heats=dose.heats)
        return figures.picture(figure, plt, compact=True)


def _cut(
    axis: Any,
    still: tuple[Float, dict[str, list[Float]], Float],
    share: Volume,
    plan: AblationPlan,
    pane: Pane,
    *,
    heats: bool,
) -> None:
    image, rings, extreme = still
    centre, width = figures.BONE_WINDOW
    low = centre - width / 2
    axis.imshow(image, cmap="gray", vmin=low, vmax=low + width, extent=pane.extent, aspect="equal")
    _fill_dead(axis, share, pane)
    cuts._outline(axis, {k: r for k, r in rings.items() if k != "lesion"})
    cuts._outline(axis, {k: r for k, r in rings.items() if k == "lesion"})
    _isotherms(axis, extreme, pane, heats=heats)
    for placed in plan.applicators:
        _shaft(axis, placed, pane)
    figures._letters(axis, pane.right, pane.down)
    figures._bar(axis, pane.extent, 10.0)
    figures._fit(axis, pane.extent)


def _fill_dead(axis: Any, share: Volume, pane: Pane) -> None:
    from matplotlib import rc_context

    x, y, values = cuts._shares(share, pane)
    if values.max() < _HALF:
        return
    with rc_context({"hatch.linewidth": 0.9, "hatch.color": "#101418"}):
        filled = axis.contourf(
            x, y, values, levels=[_HALF, 2.0], colors=[_DEAD], alpha=0.5, hatches=["////"]
        )
        filled.set_edgecolor("#101418")
        filled.set_linewidth(0.0)
    axis.contour(x, y, values, levels=[_HALF], colors=[_DEAD], linewidths=1.2)


def isotherms(heats: bool) -> tuple[float, ...]:
    """The temperatures that are drawn as lines, degC."""
    return tuple(float(facts.value(n)) for n in (_ISOTHERMS_HEAT if heats else _ISOTHERMS_ICE))


def _isotherms(axis: Any, values: Float, pane: Pane, *, heats: bool) -> None:
    height, width = values.shape
    x = np.linspace(pane.extent[0], pane.extent[1], width)
    y = np.linspace(pane.extent[3], pane.extent[2], height)
    for level, dashes, colour in zip(isotherms(heats), _ISO_DASHES, _ISO_COLOURS, strict=True):
        if not values.min() < level < values.max():
            continue
        drawn = axis.contour(
            x, y, values, levels=[level], colors=[colour], linewidths=1.2, linestyles=[dashes]
        )
        drawn.set(path_effects=figures._halo(2.4))
        words = axis.clabel(drawn, fontsize=6, fmt=lambda v: f"{v:.0f}°".replace("-", "−"))
        for word in words:
            word.set_path_effects(figures._halo(2.0))


def _shaft(axis: Any, placed: Placed, pane: Pane) -> None:
    """The needle as projected on the cut: dotted where far from it, thick where it works."""
    normal = np.cross(pane.down, pane.right)
    for part, wide in ((placed.path, 1.2), (placed.active(), 3.2)):
        for piece, near in _pieces(part, pane, normal):
            flat = pane.flat(piece)
            axis.plot(
                flat[:, 0],
                flat[:, 1],
                color=_SHAFT,
                linewidth=wide if near else 0.7,
                linestyle="-" if near else (0, (1, 2)),
                solid_capstyle="butt",
                path_effects=figures._halo(wide + 1.8) if near else figures._halo(1.5),
                zorder=6,
            )


def _pieces(part: Segment, pane: Pane, normal: Float) -> list[tuple[Float, bool]]:
    """The line cut where it comes near to the plane and where it leaves it again."""
    points = part.at_mm(np.linspace(0, part.length_mm, max(2, round(2 * part.length_mm))))
    near = np.abs((points - pane.centre_mm) @ normal) <= _NEAR_MM
    out = []
    start = 0
    for k in range(1, len(points) + 1):
        if k == len(points) or near[k] != near[start]:
            piece = points[start : min(k + 1, len(points))]
            if len(piece) > 1:
                out.append((piece, bool(near[start])))
            start = k
    return out


def _legend(figure: Any, shapes: Outlines, t: Speaker, say: figures.Words, *, heats: bool) -> None:
    """A strip below the cuts."""
    from matplotlib import rc_context
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    with rc_context({"hatch.linewidth": 0.9, "hatch.color": "#101418"}):
        items: list[Any] = [
            Patch(facecolor=_DEAD, edgecolor="#101418", hatch="////", label=say("dead by then"))
        ]
        pattern = say("{level} °C reached at some time")
        for level, dashes, colour in zip(isotherms(heats), _ISO_DASHES, _ISO_COLOURS, strict=True):
            label = pattern.format(level=f"{level:.0f}".replace("-", "−"))
            items.append(_line(Line2D, colour, dashes, 1.4, label))
        items.append(
            _line(Line2D, _SHAFT, "-", 2.4, say("applicator (thick: the part that works)"))
        )
        seen = set()
        for key in shapes.parts:
            look = cuts._style(key)
            word = _group_word(key, t, say)
            if word not in seen:
                seen.add(word)
                items.append(_line(Line2D, look.colour, look.dashes, 1.4, word))
        rows = -(-len(items) // _COLUMNS)
        cuts._make_room(figure, cuts._ROW_IN * rows + 0.06)
        figure.legend(
            handles=items,
            loc="lower center",
            ncols=_COLUMNS,
            fontsize=7,
            frameon=False,
            handlelength=3.4,
            handleheight=1.3,
            borderpad=0.1,
            columnspacing=1.6,
        )


def _line(kind: Any, colour: str, dashes: Any, width: float, label: str) -> Any:
    return kind(
        [],
        [],
        color=colour,
        linestyle=dashes,
        linewidth=width,
        path_effects=figures._halo(width + 1.2),
        label=label,
    )


def _group_word(key: str, t: Speaker, say: figures.Words) -> str:
    """One word for both foramina and for all roots: they share one line."""
    if key.startswith("foramen"):
        return say("neural foramina")
    if key.startswith("nerve_root"):
        return say("nerve roots")
    return figures.structure_word(key, t.language, say)


# --- the margin ------------------------------------------------------------------------------


def margin_classes(dose: ThermalDose, margin_mm: float) -> tuple[int, int, int]:
    """How many points of the lesion's surface stay alive, die with less, and with all the margin.

    >>> margin_words(5.0)[1]
    '{low:.0f} to {high:.0f} mm'
    """
    m = dose.margin_mm
    alive, enough = int(np.sum(~(m >= 0))), int(np.sum(m >= margin_mm))
    return alive, len(m) - alive - enough, enough


def margin_words(margin_mm: float) -> tuple[str, str, str]:
    """What the three classes are called, as templates."""
    return ("below 0 mm: stays alive", "{low:.0f} to {high:.0f} mm", "{high:.0f} mm or more")


def margin_map(dose: ThermalDose, margin_mm: float, t: Speaker) -> Figure | None:
    """The lesion's surface from four sides, each point marked by how far what dies reaches beyond.

    None when the lesion has no surface.
    """
    points, m = dose.margin_points_mm, dose.margin_mm
    if not len(points):
        return None
    centre = (points.min(axis=0) + points.max(axis=0)) / 2
    side = float(np.ptp(points, axis=0).max()) + 1.5 * _ROOM_MM
    worst = int(np.argmin(np.nan_to_num(m, nan=-np.inf)))
    views = (
        ("from the front", figures.POSTERIOR),
        ("from behind", -figures.POSTERIOR),
        ("from the left", -figures.LEFT),
        ("from the right", figures.LEFT),
    )
    classes = (
        (~(m >= 0), {"marker": "x", "c": "#a4161a", "linewidths": 0.9}),
        ((m >= 0) & (m < margin_mm), {"marker": "^", "facecolors": "none", "edgecolors": "#8a5a00",
                                      "linewidths": 0.7}),
        (m >= margin_mm, {"marker": ".", "c": "#1f6b3a", "linewidths": 0}),
    )  # fmt: skip
    with figures.drawing(t.language) as (plt, say):
        figure, axes = figures.panes(plt, 1, 4)
        for axis, (title, along) in zip(axes[0], views, strict=True):
            right, down = _facing(along)
            pane = Pane(centre_mm=centre, right=right, down=down, size_mm=(side, side))
            toward = (points - centre) @ along <= 0  # the half that is seen
            flat = pane.flat(points)
            for chosen, look in classes:
                here = chosen & toward
                axis.scatter(flat[here, 0], flat[here, 1], s=9, **look)
            if toward[worst] and np.isfinite(m[worst]):
                axis.scatter(*flat[worst], marker="*", s=90, c="#111111", zorder=5)
            figures._letters(axis, right, down, dark=True)
            figures._bar(axis, pane.extent, 10.0)
            figures._fit(axis, pane.extent)
            axis.set_title(say(title), fontsize=8, pad=3)
        _margin_legend(figure, classes, margin_mm, say)
        uri = figures.picture(figure, plt, compact=True)
    return Figure(
        uri=uri,
        title=translate("Margin on the lesion's surface", t.language),
        caption=t(
            "Each mark is a point of the lesion's surface: how far what dies reaches beyond it. "
            "The star is the point with the least margin. Letters name the side of the patient."
        ),
    )


def _facing(along: Float) -> tuple[Float, Float]:
    """Image right and down for somebody who looks that way, head up."""
    down = -figures.SUPERIOR
    return np.cross(along, figures.SUPERIOR), down


def _margin_legend(figure: Any, classes: Any, margin_mm: float, say: figures.Words) -> None:
    from matplotlib.lines import Line2D

    inks = ("#a4161a", "#8a5a00", "#1f6b3a")
    items = []
    for (_, look), word, ink in zip(classes, margin_words(margin_mm), inks, strict=True):
        hollow = look["marker"] == "^"
        items.append(
            Line2D(
                [],
                [],
                linestyle="",
                marker=look["marker"],
                markersize=6,
                markeredgecolor=ink,
                markerfacecolor="none" if hollow else ink,
                label=say(word).format(low=0.0, high=margin_mm),
            )
        )
    items.append(
        Line2D([], [], linestyle="", marker="*", markersize=9, color="#111111",
               label=say("least margin"))
    )  # fmt: skip
    cuts._make_room(figure, cuts._ROW_IN + 0.06)
    figure.legend(
        handles=items, loc="lower center", ncols=4, fontsize=7, frameon=False, borderpad=0.1
    )


# --- charts ----------------------------------------------------------------------------------


def nerve_chart(dose: ThermalDose, t: Speaker) -> Figure | None:
    """How warm (cold) canal and nerves get over time, with the limits; None without any nerve."""
    shown = [s for s in dose.structures if limits.neural(s.structure)]
    shown = [s for s in shown if _curve(s, dose.heats) is not None]
    shown = worst_first(shown, heats=dose.heats)[:_MOST_CURVES]
    if not shown:
        return None
    minutes = dose.time_s / _MINUTE_S
    with charts._canvas(7.4, 3.6) as (figure, axis):
        for number, one in enumerate(shown):
            axis.plot(
                minutes,
                _curve(one, dose.heats),
                color=_INKS[number % len(_INKS)],
                linestyle=_DASHES[number % len(_DASHES)],
                lw=2.6 if one.verdict == "stop" else 1.6,
                label=t.name(one.structure),
            )
        _limit_lines(axis, shown, t, heats=dose.heats)
        axis.set_xlim(0, float(minutes[-1]))
        axis.set_xlabel(t("minutes"))
        axis.set_ylabel(t("highest (°C)") if dose.heats else t("lowest (°C)"))
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8.5, frameon=False)
        return charts._finished(
            figure,
            t("Temperature at the nerves over time"),
            t(
                "The warmest place of each structure, mean run. Dotted: limits. Thick: reaches a "
                "limit that means stop, or dies too near."
            )
            if dose.heats
            else t(
                "The coldest place of each structure, mean run. Dotted: limits. Thick: reaches a "
                "limit that means stop, or freezes too near."
            ),
        )


def _curve(one: StructureDose, heats: bool) -> Float | None:
    return one.warmest_c if heats else one.coldest_c


def limit_of(structure: str, *, heats: bool) -> thermal.HeatLimit | facts.ColdLimit | None:
    """What a structure bears of heat, or of cold; None for what has no limit."""
    return thermal.limit(structure) if heats else facts.cold_limit(structure)


def _limit_lines(axis: Any, shown: Sequence[StructureDose], t: Speaker, *, heats: bool) -> None:
    lines: dict[float, set[str]] = {}
    for one in shown:
        limit = limit_of(one.structure, heats=heats)
        if limit is not None:
            lines.setdefault(limit.harm_c, set()).add("harm")
            lines.setdefault(limit.warn_c, set()).add("warn")
    for level, kinds in lines.items():
        word = (
            t("harm from {level:.0f} °C") if "harm" in kinds else t("warning from {level:.0f} °C")
        )
        axis.axhline(
            level,
            color="#15202b",
            linestyle=(0, (1, 1.5)) if "harm" in kinds else (0, (1, 4)),
            lw=1.6 if "harm" in kinds else 1.1,
        )
        axis.annotate(
            word.format(level=level).replace("-", "−"),
            (0.995, level),
            xycoords=("axes fraction", "data"),
            xytext=(0, 2),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6},
        )


def generator_chart(plan: AblationPlan, dose: ThermalDose, t: Speaker) -> Figure:
    """Power, impedance and surface of each applicator over time; of ice the probe alone."""
    minutes = dose.time_s / _MINUTE_S
    rows: list[tuple[str, Float]] = []
    if dose.heats:
        rows.append((t("power (W)"), dose.power_w))
        if np.isfinite(dose.impedance_ohm).any():
            rows.append((t("impedance (ohm)"), dose.impedance_ohm))
    rows.append((t("surface (°C)") if dose.heats else t("probe (°C)"), dose.surface_c))
    with charts._canvas(
        7.4, 0.7 + 1.5 * len(rows), nrows=len(rows), sharex=True, squeeze=False
    ) as (
        figure,
        axes,
    ):
        for axis, (label, values) in zip(axes[:, 0], rows, strict=True):
            for k in range(values.shape[1]):
                axis.plot(
                    minutes,
                    values[:, k],
                    color=_INKS[k % len(_INKS)],
                    linestyle=_DASHES[k % len(_DASHES)],
                    lw=1.7,
                    label=t("applicator {number}", number=k + 1),
                )
            axis.set_ylabel(label)
            if dose.heats:
                axis.set_ylim(bottom=0)
        if values.shape[1] > 1:
            axes[0, 0].legend(
                loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8.5, frameon=False
            )
        axes[-1, 0].set_xlim(0, float(minutes[-1]))
        axes[-1, 0].set_xlabel(t("minutes"))
        caption = (
            t(
                "What the generator does, as computed; the surface is what a thermocouple in the "
                "needle reads."
            )
            if dose.heats
            else t("The surface of each probe, as computed.")
        )
        return charts._finished(
            figure, t("Generator") if dose.heats else t("Probe temperature"), caption
        )
