"""Draw how strong a bone is: bars of what it bears, and where it comes near to its yield strain.

States and strains differ by hatching as well as by colour: a black-and-white print says the same
as the screen. The cuts follow the rules of ``figures``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from textwrap import fill
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trocar.errors import InputError
from trocar.facts import strength as facts
from trocar.model.result import Anatomy
from trocar.model.space import Float, Mask, Volume
from trocar.model.strength import Bearing, BoneState, Spread, Strength
from trocar.report import cement_figures as cuts
from trocar.report import charts, figures
from trocar.report.figures import Figure, Outlines, Pane
from trocar.report.page import Speaker
from trocar.report.words import Language

_LOOKS = {  # colour and hatch of each state's bar
    "intact": ("#ffffff", ""),
    "now": ("#e8b4a0", "////"),
    "planned": ("#d9e3e8", "...."),
    "found": ("#5b9bb5", "xxxx"),
}
_MARKS = ("D", "s", "^", "v")
# Shares of the yield strain, each twice the one before; the last is yield itself.
LEVELS = (1 / 8, 1 / 4, 1 / 2, 1.0)
_PAINTS = (("#ffe08a", "..."), ("#ffa63d", "///"), ("#e8452c", "xxx"), ("#a0007a", "***"))
_CEMENT = "#3fe0ff"
_CEMENT_DASHES = (0, (3, 2))
_FULL = 0.5  # share of a cube from which it is drawn as cement
_SIDE_MM, _MOST_MM, _ROOM_MM = 56.0, 150.0, 6.0
_BRIGHT = 99.0  # percentile of stiffness that is drawn white
_ROOT = 0.5  # grey is the square root of stiffness: trabecular bone is seen beside cortex
_PERCENT = 100.0
_N_MM = 1000.0  # in a newton metre
_IN_A_ROW = 4
_WORD = 9  # letters of a state on one line


def is_twist(one: Bearing) -> bool:
    """Whether a load is a moment alone: its numbers are N mm then, and are told in N m."""
    try:
        case = facts.load_case(one.load)
    except InputError:  # a load of the user's own
        return one.stiffness_n_mm is None and one.load_n.low == one.load_n.high
    return not case.forces


def told_in(one: Bearing) -> tuple[float, str]:
    """What to divide the loads of a bearing by, and the unit they are then in."""
    return (_N_MM, "N m") if is_twist(one) else (1.0, "N")


def lytic(strength: Strength, state: BoneState) -> NDArray[np.bool_]:
    """Cubes that are tumour in a state: their strain is not bone's and is not shown."""
    modulus = strength.modulus_mpa[state].values
    mean = float(facts.material("tumour").modulus_mpa)
    soft: NDArray[np.bool_] = np.isclose(modulus, mean, rtol=1e-5) & strength.bone.values
    return soft


def cement(strength: Strength, state: BoneState) -> Float:
    """The share of cement in each cube, as far as it stiffens the cube; 0 without cement.

    Bone that is stiffer than cement is not stiffened by it, so its cement is not seen here.
    """
    out = np.zeros(strength.bone.grid.shape)
    if state not in ("planned", "found") or "now" not in strength.modulus_mpa:
        return out
    now = np.asarray(strength.modulus_mpa["now"].values, np.float64)
    pure, mixed = (float(facts.material(n).modulus_mpa) for n in ("pmma", "infiltrated"))
    room = np.where(lytic(strength, "now"), pure, mixed) - now
    gain = np.asarray(strength.modulus_mpa[state].values, np.float64) - now
    np.divide(gain, room, out=out, where=(room > 1) & strength.bone.values)
    return np.clip(out, 0.0, 1.0)


def strained(strength: Strength, state: BoneState) -> Volume:
    """The share of the yield strain that bone uses; 0 in tumour, in cement and outside."""
    asked = strength.bone.values & ~lytic(strength, state) & (cement(strength, state) < _FULL)
    used = strength.used[state]
    values = np.where(asked, used.values, 0.0).astype(np.float32)
    return Volume(grid=used.grid, values=values, unit="1")


# --- bars ----------------------------------------------------------------------------------------


def bars(strength: Strength, t: Speaker) -> Figure:
    """What the bone bears in each state, one panel for each load, beside the load expected."""
    n = len(strength.loads)
    with charts._canvas(3.9 * n + 0.4, 3.9, ncols=n, squeeze=False) as (figure, axes):
        marks: list[Any] = []
        for axis, load in zip(axes[0], strength.loads, strict=True):
            marks = max(marks, _panel(axis, strength, load, t), key=len)
        figure.legend(
            handles=marks, loc="outside lower center", ncols=2, fontsize=8.5, frameon=False
        )
        return charts._finished(
            figure,
            t("What the bone bears, and what it is asked to bear"),
            t(
                "Bars: the load at which the bone fails, by the criterion “{criterion}”, mean run; "
                "the line on each from the run where all is at its weak end to that at its strong "
                "end. Small marks: other criteria. Percent: of the intact bone. Dashed: the load "
                "that is expected.",
                criterion=strength.bearings[0].criterion,
            ),
        )


def _panel(axis: Any, strength: Strength, load: str, t: Speaker) -> list[Any]:
    """One load; returns what the legend has to explain."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    told = [strength.bearing(s, load) for s in strength.states]
    by, unit = told_in(told[0])
    for x, one in enumerate(told):
        colour, hatch = _LOOKS[one.state]
        main = _over(one.failure_n[one.criterion], by)
        axis.bar(
            x, main.mean, width=0.62, color=colour, hatch=hatch, edgecolor=charts.INK, linewidth=0.9
        )
        axis.errorbar(
            x, main.mean, yerr=[[main.mean - main.low], [main.high - main.mean]],
            color=charts.INK, capsize=4, linewidth=1.2,
        )  # fmt: skip
        for mark, other in zip(_MARKS, list(one.failure_n)[1:], strict=False):
            axis.plot(x + 0.2, one.failure_n[other].mean / by, mark, ms=4.5, mfc="white",
                      color=charts.INK, mew=0.9)  # fmt: skip
        if one.of_intact is not None:
            axis.annotate(
                f"{_PERCENT * one.of_intact.mean:.0f} %", (x, 0), xytext=(0, 5),
                textcoords="offset points", ha="center", fontsize=9, fontweight="bold",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
            )  # fmt: skip
    asked = _over(told[0].load_n, by)
    axis.axhline(asked.mean, color=charts.WARN, linestyle="--", linewidth=1.6)
    if asked.high > asked.low:
        axis.axhspan(asked.low, asked.high, color=charts.WARN, alpha=0.12, linewidth=0)
    axis.set_xlim(-0.6, len(told) - 0.4)
    axis.set_ylim(bottom=0)
    axis.set_xticks(range(len(told)), [fill(t(STATES[one.state]), _WORD) for one in told])
    axis.set_ylabel(t("load at failure (N m)") if unit == "N m" else t("load at failure (N)"))
    axis.set_title(t(told[0].label), fontsize=10)
    others = list(told[0].failure_n)[1:]
    return [
        Line2D([], [], color=charts.WARN, linestyle="--", label=t("load expected")),
        Patch(facecolor="white", edgecolor=charts.INK, label=t(told[0].criterion)),
        *(
            Line2D([], [], linestyle="", marker=m, mfc="white", color=charts.INK, label=t(o))
            for m, o in zip(_MARKS, others, strict=False)
        ),
    ]


def _over(one: Spread, by: float) -> Spread:
    return Spread(low=one.low / by, mean=one.mean / by, high=one.high / by)


STATES = {
    "intact": "intact",
    "now": "as it is",
    "planned": "cement planned",
    "found": "cement found",
}


# --- where it is weakest -------------------------------------------------------------------------


def strain_map(strength: Strength, anatomy: Anatomy, lesion: Mask | None, t: Speaker) -> Figure:
    """Three cuts through the weakest point of the bone as it is; a row of them for each state."""
    state: BoneState = "now" if "now" in strength.states else strength.states[-1]
    weakest = strength.bearing(state).weakest_mm
    masks = {"bone": anatomy.bone} | ({} if lesion is None else {"lesion": lesion})
    shapes = Outlines.of(masks)
    planes = _planes(strength, lesion, weakest)
    white = _white(strength)
    with figures.drawing(t.language) as (plt, say):
        figure, axes = figures.panes(plt, len(strength.states), 3)
        for row, one in enumerate(strength.states):
            share = strained(strength, one)
            filled = Volume(grid=share.grid, values=cement(strength, one), unit="1")
            # Without the plates that press on it.
            modulus = np.where(strength.bone.values, strength.modulus_mpa[one].values, 0.0)
            stiff = Volume(grid=share.grid, values=modulus, unit="MPa")
            for column, (name, pane) in enumerate(planes):
                axis = axes[row, column]
                _cut(axis, stiff, white, share, filled, shapes, pane)
                if one == state:
                    _cross(axis, pane, weakest)
                figures._letters(axis, pane.right, pane.down)
                figures._bar(axis, pane.extent, 10.0)
                figures._fit(axis, pane.extent)
                axis.set_title(f"{say(STATES[one])}: {say(name)}", fontsize=8, pad=3)
        _legend(figure, strength, shapes, t.language, say)
        uri = figures.picture(figure, plt, compact=True)
    return Figure(
        uri=uri,
        title=t("Where the bone comes near to its yield strain"),
        caption=t(
            "Share of the yield strain that bone uses under {load} as expected, mean run, in three "
            "cuts through the weakest place of the bone as it is (cross). Grey: stiffness as "
            "computed. Tumour and cement are not asked. Letters name the side of the patient.",
            load=t(strength.bearing(state).label),
        ),
    )


def _planes(strength: Strength, lesion: Mask | None, weakest: Float) -> list[tuple[str, Pane]]:
    """Cuts through the weakest point that show what is strained, and the lesion, whole."""
    share = np.max([strained(strength, s).values for s in strength.states], axis=0)
    shown = [Mask(grid=strength.bone.grid, values=share >= LEVELS[0]).points_mm()]
    shown += [] if lesion is None else [lesion.points_mm()]
    points = np.vstack([*shown, weakest[None]])
    low, high = points.min(axis=0), points.max(axis=0)
    middle, span = (low + high) / 2, float((high - low).max()) + 2 * _ROOM_MM
    out = []
    for name, pane in cuts.planes_at(middle, min(max(span, _SIDE_MM), _MOST_MM)):
        normal = np.cross(pane.down, pane.right)
        through = pane.centre_mm + ((weakest - middle) @ normal) * normal
        out.append((name, replace(pane, centre_mm=through)))
    return out


def _white(strength: Strength) -> float:
    every = [m.values[strength.bone.values] for m in strength.modulus_mpa.values()]
    return max(float(np.percentile(np.concatenate(every), _BRIGHT)), 1.0)


def _cut(
    axis: Any,
    stiff: Volume,
    white: float,
    share: Volume,
    filled: Volume,
    shapes: Outlines,
    pane: Pane,
) -> None:
    from matplotlib import rc_context

    grey = np.maximum(stiff.on(pane.grid(), outside=0.0).values[0], 0.0) / white
    axis.imshow(grey**_ROOT, cmap="gray", vmin=0, vmax=1.0, extent=pane.extent, aspect="equal")
    x, y, values = cuts._shares(share, pane)
    if values.max() >= LEVELS[0]:
        with rc_context({"hatch.linewidth": 0.7, "hatch.color": "#101418"}):
            painted = axis.contourf(
                x, y, values, levels=[*LEVELS, np.inf], colors=[c for c, _ in _PAINTS],
                hatches=[h for _, h in _PAINTS], alpha=0.62,
            )  # fmt: skip
            painted.set_edgecolor("#101418")
            painted.set_linewidth(0.0)
    if values.max() >= LEVELS[-1]:
        line = axis.contour(x, y, values, levels=[LEVELS[-1]], colors=["#ffffff"], linewidths=1.8)
        line.set(path_effects=figures._halo(3.2))
    if filled.values.any():
        cuts._contour(axis, filled, pane, colour=_CEMENT, dashes=_CEMENT_DASHES)
    cuts._outline(axis, shapes.on(pane))


def _cross(axis: Any, pane: Pane, point: Float) -> None:
    x, y = pane.flat(point)
    axis.plot(x, y, "+", color="#ffffff", ms=11, mew=1.6, path_effects=figures._halo(3.2), zorder=7)


def _legend(
    figure: Any, strength: Strength, shapes: Outlines, language: Language, say: figures.Words
) -> None:
    """A strip below the cuts."""
    from matplotlib import rc_context
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    with rc_context({"hatch.linewidth": 0.7, "hatch.color": "#101418"}):
        words = [*_between(say), say("100 % or more: yields")]
        items: list[Any] = [
            Patch(facecolor=colour, edgecolor="#101418", hatch=hatch, alpha=0.75, label=word)
            for (colour, hatch), word in zip(_PAINTS, words, strict=True)
        ]
        for key in shapes.parts:
            look = cuts._style(key)
            word = figures.structure_word(key, language, say)
            items.append(_line(Line2D, look.colour, look.dashes, word))
        if any(cement(strength, s).max(initial=0.0) >= _FULL for s in strength.states):
            items.append(_line(Line2D, _CEMENT, _CEMENT_DASHES, say("cement")))
        items.append(
            Line2D([], [], linestyle="", marker="+", ms=9, mew=1.6, color="#ffffff",
                   path_effects=figures._halo(3.2), label=say("weakest place"))
        )  # fmt: skip
        rows = -(-len(items) // _IN_A_ROW)
        cuts._make_room(figure, cuts._ROW_IN * rows + 0.06)
        figure.legend(
            handles=items, loc="lower center", ncols=_IN_A_ROW, fontsize=7, frameon=False,
            handlelength=3.0, handleheight=1.5, borderpad=0.1, columnspacing=1.6,
        )  # fmt: skip


def _between(say: figures.Words) -> Sequence[str]:
    pattern = say("{low:g} to {high:g} % of yield strain")
    return [pattern.format(low=_PERCENT * a, high=_PERCENT * b) for a, b in pairwise(LEVELS)]


def _line(kind: Any, colour: str, dashes: Any, word: str) -> Any:
    return kind([], [], color=colour, linestyle=dashes, linewidth=1.4,
                path_effects=figures._halo(2.6), label=word)  # fmt: skip
