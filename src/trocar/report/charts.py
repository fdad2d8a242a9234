"""Draw the charts of an audit: pain over time, lesions as swimmers, responses, forest, funnel.

Each chart is a small SVG with real text, so that it stays sharp on paper and a browser sets
Chinese in its own font. Lines differ by dash and marker, areas by hatching: a black-and-white
print tells them apart. Matplotlib is imported inside the functions.
"""

from __future__ import annotations

import base64
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from math import ceil
from textwrap import fill
from typing import Any

from trocar.report.figures import Figure

INK, SOFT, LINE, ACCENT, WARN = "#15202b", "#55626f", "#c3cbd3", "#0b4f6c", "#a4161a"
_LABEL = 34  # letters of a label on one line
_MOST_LINES = 40  # single courses drawn faintly behind the median
MOST_SWIMMERS = 60  # lanes that can be told apart on one page
_SHADES = ("#0b4f6c", "#5b9bb5", "#d9e3e8", "#e8b4a0", "#b9502f", "#ffffff")
_HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "")


@dataclass(frozen=True, kw_only=True)
class PainPoint:
    """Pain at one nominal time: how many lesions were scored, median and quartiles."""

    label: str
    n: int
    median: float | None
    low: float | None = None  # lower quartile
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One lesion of a swimmer plot: until when it was followed, when its pain was relieved.

    ``relieved`` are spans (from day, to day); ``marks`` are (day, kind) with a kind of ``MARKS``;
    ``open_end`` says that relief went on when the lesion was last seen.
    """

    label: str
    end_day: float
    relieved: tuple[tuple[float, float], ...] = ()
    marks: tuple[tuple[float, str], ...] = ()
    open_end: bool = False


MARKS = {"death": "X", "recurrence": "v", "fracture": "D", "retreatment": "s", "complication": "*"}


@dataclass(frozen=True, kw_only=True)
class ForestRow:
    """One line of a forest plot, as fractions: a series, or a pooled estimate."""

    label: str
    estimate: float
    low: float
    high: float
    text: str = ""  # counts, printed at the right
    weight: float = 1.0  # 0 to 1, the size of the square
    pooled: bool = False
    prediction: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class FunnelPoint:
    """One unit or operator of a funnel plot."""

    label: str
    x: int
    n: int


@contextmanager
def _canvas(width: float, height: float, **grid: Any) -> Iterator[tuple[Any, Any]]:
    """A figure and its axes in the house style; closed whatever happens."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure as Canvas

    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": "trocar",
        "font.family": ["sans-serif"],
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 9.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": SOFT,
        "axes.labelcolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "text.color": INK,
        "hatch.linewidth": 0.7,
    }
    with rc_context(style):
        figure = Canvas(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots(**grid)


def _finished(figure: Any, title: str, caption: str) -> Figure:
    page = BytesIO()
    with warnings.catch_warnings():
        # Matplotlib measures Chinese with a font that lacks it; the browser has one.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(page, format="svg", metadata={"Date": None, "Creator": None})
    # The reader's own fonts, wherever the name of ours stands.
    text = page.getvalue().decode("utf-8")
    text = text.replace("'DejaVu Sans'", "system-ui, 'Noto Sans CJK HK', 'Noto Sans CJK TC'")
    uri = "data:image/svg+xml;base64," + base64.b64encode(text.encode("utf-8")).decode("ascii")
    return Figure(uri=uri, title=title, caption=caption)


def pain_course(
    points: Sequence[PainPoint],
    *,
    courses: Sequence[Sequence[float | None]] = (),
    carried: Sequence[float | None] = (),
    title: str,
    caption: str,
    words: Mapping[str, str],
) -> Figure:
    """Median pain at each nominal time with n under it.

    ``courses`` are single lesions on the same times, drawn faintly when they are few; ``carried``
    is the median with the last score carried forward, drawn dashed. ``words`` holds ``score``,
    ``observed``, ``carried``, ``n``, ``quartiles``.
    """
    with _canvas(8.6, 4.0) as (figure, axis):
        at = list(range(len(points)))
        if len(courses) <= _MOST_LINES:
            for course in courses:
                seen = [(x, y) for x, y in zip(at, course, strict=True) if y is not None]
                axis.plot(*zip(*seen, strict=True), color=LINE, lw=0.8, zorder=1) if seen else None
        spans = [
            (x, p.low, p.high)
            for x, p in zip(at, points, strict=True)
            if p.low is not None and p.high is not None
        ]
        for k, (x, low, high) in enumerate(spans):
            label = words["quartiles"] if k == 0 else None
            axis.plot([x, x], [low, high], color=ACCENT, lw=5, alpha=0.28, zorder=2, label=label)
        if any(v is not None for v in carried):
            seen = [(x, y) for x, y in zip(at, carried, strict=True) if y is not None]
            axis.plot(
                *zip(*seen, strict=True),
                color=SOFT,
                lw=1.2,
                ls=(0, (4, 2)),
                marker="s",
                ms=3.5,
                mfc="white",
                label=words["carried"],
                zorder=3,
            )
        seen = [(x, p.median) for x, p in zip(at, points, strict=True) if p.median is not None]
        if seen:
            axis.plot(
                *zip(*seen, strict=True),
                color=ACCENT,
                lw=2.2,
                marker="o",
                ms=6,
                label=words["observed"],
                zorder=4,
            )
        for x, y in seen:
            axis.annotate(
                f"{y:g}",
                (x, y),
                xytext=(0, 8),
                textcoords="offset points",
                ha="center",
                fontweight="bold",
                fontsize=9,
                zorder=5,
            )
        axis.set_ylim(-0.3, 10.6)
        axis.set_yticks(range(0, 11, 2))
        axis.set_ylabel(words["score"])
        axis.set_xticks(at, [f"{p.label}\n{words['n']} {p.n}" for p in points])
        axis.set_xlim(-0.5, len(points) - 0.5)
        axis.grid(axis="y", color=LINE, lw=0.5)
        axis.set_axisbelow(True)
        axis.legend(frameon=False, loc="upper right", fontsize=9, ncols=3)
        return _finished(figure, title, caption)


def swimmers(
    lanes: Sequence[Lane], *, title: str, caption: str, words: Mapping[str, str]
) -> Figure:
    """One lane a lesion, the longest at the top: followed, relieved, what happened.

    ``words`` holds ``weeks``, ``followed``, ``relieved``, ``goes on`` and the kinds of ``MARKS``.
    At most ``MOST_SWIMMERS`` lanes are drawn; the caller says in the caption which.
    """
    drawn = sorted(lanes, key=lambda lane: lane.end_day)[-MOST_SWIMMERS:]
    high = 1.5 + 0.25 * max(len(drawn), 3)
    with _canvas(8.6, high) as (figure, axis):
        used: dict[str, Any] = {}
        for y, lane in enumerate(drawn):
            end = lane.end_day / 7
            used["followed"] = axis.barh(
                y, end, height=0.62, color="white", edgecolor=SOFT, lw=0.8, zorder=1
            )
            for a, b in lane.relieved:
                used["relieved"] = axis.barh(
                    y,
                    (b - a) / 7,
                    left=a / 7,
                    height=0.62,
                    color="#8fc1d4",
                    edgecolor=ACCENT,
                    lw=0.8,
                    hatch="////",
                    zorder=2,
                )
            if lane.open_end:
                (used["goes on"],) = axis.plot(
                    [end], [y], marker=">", color=ACCENT, ms=7, ls="", zorder=4, clip_on=False
                )
            for day, kind in lane.marks:
                (used[kind],) = axis.plot(
                    [day / 7],
                    [y],
                    marker=MARKS[kind],
                    color=INK,
                    mfc="white" if kind in ("fracture", "retreatment") else INK,
                    ms=7,
                    ls="",
                    zorder=5,
                    clip_on=False,
                )
        axis.set_yticks(range(len(drawn)), [lane.label for lane in drawn], fontsize=8.5)
        axis.set_ylim(-0.6, len(drawn) - 0.4)
        axis.set_xlim(0, max([1.0, *(lane.end_day / 7 for lane in drawn)]) * 1.02)
        axis.set_xlabel(words["weeks"])
        axis.tick_params(axis="y", length=0)
        axis.spines["left"].set_visible(False)
        figure.legend(
            used.values(),
            [words[k] for k in used],
            frameon=False,
            fontsize=8.5,
            loc="outside lower center",
            ncols=4,
        )
        return _finished(figure, title, caption)


def response_bars(
    times: Sequence[str],
    counts: Mapping[str, Sequence[int]],
    *,
    title: str,
    caption: str,
    words: Mapping[str, str],
) -> Figure:
    """Shares of each kind of response at each time, best at the left, with the counts in the bars.

    ``counts`` maps a kind, best first, to its count at each time; ``words`` names the kinds and
    ``share``, ``n``.
    """
    with _canvas(8.6, 1.1 + 0.42 * max(1, len(times))) as (figure, axis):
        totals = [sum(c[k] for c in counts.values()) for k in range(len(times))]
        left = [0.0] * len(times)
        for kind, shade, hatch in zip(counts, _SHADES, _HATCHES, strict=False):
            share = [100 * c / t if t else 0.0 for c, t in zip(counts[kind], totals, strict=True)]
            bars = axis.barh(
                range(len(times)),
                share,
                left=left,
                height=0.66,
                color=shade,
                hatch=hatch,
                edgecolor=INK,
                lw=0.7,
                label=words[kind],
            )
            for bar, count in zip(bars, counts[kind], strict=True):
                if count and bar.get_width() > 3.5:
                    axis.text(
                        bar.get_x() + bar.get_width() / 2,
                        bar.get_y() + bar.get_height() / 2,
                        str(count),
                        ha="center",
                        va="center",
                        fontsize=8.5,
                        bbox={"boxstyle": "round,pad=0.18", "fc": "white", "ec": "none"},
                    )
            left = [a + b for a, b in zip(left, share, strict=True)]
        labels = [f"{time} ({words['n']} {n})" for time, n in zip(times, totals, strict=True)]
        axis.set_yticks(range(len(times)), labels)
        axis.invert_yaxis()
        axis.set_xlim(0, 100)
        axis.set_xlabel(words["share"])
        axis.tick_params(axis="y", length=0)
        figure.legend(
            *axis.get_legend_handles_labels(),
            frameon=False,
            fontsize=8.5,
            loc="outside lower center",
            ncols=3,
        )
        return _finished(figure, title, caption)


def forest(
    rows: Sequence[ForestRow],
    *,
    title: str,
    caption: str,
    words: Mapping[str, str],
    reference: float | None = None,
) -> Figure:
    """Proportions with intervals, one line each; pooled estimates as rhombs with prediction bars.

    ``words`` holds ``axis`` and ``prediction``; ``reference`` is drawn as a dashed line.
    """
    with _canvas(8.6, 0.9 + 0.4 * max(2, len(rows))) as (figure, axis):
        top = min(1.0, max(0.05, *(max(r.high, *(r.prediction or (0,))) for r in rows)) * 1.02)
        for y, row in enumerate(rows):
            low, mid, high = 100 * row.low, 100 * row.estimate, 100 * row.high
            if row.pooled:
                if row.prediction is not None:
                    a, b = (100 * v for v in row.prediction)
                    axis.plot([a, b], [y, y], color=SOFT, lw=1.4, ls=(0, (2, 1.5)), zorder=1)
                axis.fill(
                    [low, mid, high, mid],
                    [y, y - 0.26, y, y + 0.26],
                    color=ACCENT,
                    lw=0,
                    zorder=3,
                )
            else:
                axis.plot([low, high], [y, y], color=INK, lw=1.2, zorder=2)
                axis.plot(
                    [mid], [y], marker="s", ls="", color=INK, ms=4 + 5 * row.weight**0.5, zorder=3
                )
            said = f"{row.text}  {mid:.1f} % ({low:.1f} to {high:.1f})".strip()
            axis.text(1.015, y, said, transform=axis.get_yaxis_transform(), va="center", fontsize=9)
        if reference is not None:
            axis.axvline(100 * reference, color=WARN, lw=1, ls=(0, (5, 3)), zorder=0)
        axis.set_yticks(range(len(rows)), [fill(r.label, _LABEL) for r in rows])
        for label, row in zip(axis.get_yticklabels(), rows, strict=True):
            label.set_fontweight("bold" if row.pooled else "normal")
        axis.set_ylim(len(rows) - 0.4, -0.6)
        axis.set_xlim(0, 100 * top)
        axis.set_xlabel(words["axis"])
        axis.tick_params(axis="y", length=0)
        axis.grid(axis="x", color=LINE, lw=0.5)
        axis.set_axisbelow(True)
        return _finished(figure, title, caption)


def funnel(
    points: Sequence[FunnelPoint],
    limits: Sequence[tuple[int, float, float, float, float]],
    target: float,
    *,
    title: str,
    caption: str,
    words: Mapping[str, str],
) -> Figure:
    """Rates of units or operators against their number of cases, with 95 % and 99.8 % limits.

    ``limits`` are (n, low 95, high 95, low 99.8, high 99.8) as fractions. Points outside the outer
    limits are named. ``words`` holds ``n``, ``rate``, ``target``, ``95``, ``99.8``.
    """
    with _canvas(8.6, 3.6) as (figure, axis):
        ns = [row[0] for row in limits]
        for column, dash, key in ((1, (0, (4, 2)), "95"), (3, "-", "99.8")):
            for k, side in enumerate((column, column + 1)):
                axis.plot(
                    ns,
                    [100 * row[side] for row in limits],
                    color=SOFT,
                    lw=1,
                    ls=dash,
                    label=words[key] if k == 0 else None,
                )
        axis.axhline(100 * target, color=WARN, lw=1, ls=(0, (6, 2, 1, 2)), label=words["target"])
        bounds = {row[0]: row for row in limits}
        for p in points:
            rate = 100 * p.x / p.n
            row = bounds.get(p.n)
            out = row is not None and not 100 * row[3] <= rate <= 100 * row[4]
            axis.plot(
                [p.n], [rate], "o", color=WARN if out else ACCENT, mfc="white", ms=6.5, mew=1.6
            )
            if out or len(points) <= 12:
                axis.annotate(
                    p.label, (p.n, rate), xytext=(6, 4), textcoords="offset points", fontsize=8.5
                )
        axis.set_ylim(-2, min(102, 6 + max([100 * target * 2, *(100 * p.x / p.n for p in points)])))
        axis.set_xlim(0, max(ns, default=1) * 1.05)
        axis.set_xlabel(words["n"])
        axis.set_ylabel(words["rate"])
        axis.legend(frameon=False, fontsize=8.5, loc="upper right")
        return _finished(figure, title, caption)


def cusum(
    values: Sequence[float],
    limit: float,
    *,
    signals: Sequence[int] = (),
    vlad: Sequence[float] = (),
    title: str,
    caption: str,
    words: Mapping[str, str],
) -> Figure:
    """A log-likelihood CUSUM case by case with its limit, and the VLAD beneath when given.

    ``words`` holds ``case``, ``cusum``, ``limit``, ``vlad``.
    """
    rows = 2 if vlad else 1
    with _canvas(8.6, 2.3 * rows + 0.4, nrows=rows, squeeze=False, sharex=True) as (figure, axes):
        top = axes[0, 0]
        at = range(1, len(values) + 1)
        top.plot(at, values, color=ACCENT, lw=1.6, drawstyle="steps-post")
        top.axhline(limit, color=WARN, lw=1.1, ls=(0, (5, 2)))
        top.annotate(
            words["limit"],
            (0.005, limit),
            xycoords=top.get_yaxis_transform(),
            xytext=(2, 3),
            textcoords="offset points",
            color=WARN,
            fontsize=8.5,
        )
        for k in signals:
            top.plot([k + 1], [values[k]], marker="v", color=WARN, ms=9)
        top.set_ylim(0, max([limit * 1.15, *values]) * 1.05)
        top.set_ylabel(words["cusum"])
        if vlad:
            low = axes[1, 0]
            low.plot(at, vlad, color=INK, lw=1.6)
            low.axhline(0, color=SOFT, lw=0.8)
            low.set_ylabel(words["vlad"])
        axes[-1, 0].set_xlabel(words["case"])
        axes[-1, 0].set_xlim(0, max(2, ceil(len(values) * 1.02)))
        return _finished(figure, title, caption)


def steps(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    title: str,
    caption: str,
    words: Mapping[str, str],
    at_risk: Sequence[tuple[float, int]] = (),
) -> Figure:
    """Step curves of probabilities over weeks (survival, cumulative incidence), told by dash.

    ``curves`` maps a printed name to (days, fractions), starting at day 0; ``at_risk`` are
    (day, number) printed under the axis. ``words`` holds ``weeks``, ``share``, ``at risk``.
    """
    dashes = ("-", (0, (5, 2)), (0, (1, 1.4)), (0, (6, 1.5, 1, 1.5)))
    with _canvas(8.6, 3.3) as (figure, axis):
        for (name, (days, fractions)), dash in zip(curves.items(), dashes, strict=False):
            weeks = [d / 7 for d in days]
            axis.step(
                weeks,
                [100 * f for f in fractions],
                where="post",
                color=INK,
                ls=dash,
                lw=1.8,
                label=name,
            )
        axis.set_ylim(0, 102)
        axis.set_xlim(left=0)
        axis.set_ylabel(words["share"])
        label = words["weeks"]
        if at_risk:
            counts = " · ".join(f"{day / 7:g}: {n}" for day, n in at_risk)
            label += f"\n{words['at risk']} {counts}"
        axis.set_xlabel(label)
        axis.grid(axis="y", color=LINE, lw=0.5)
        axis.legend(frameon=False, fontsize=9)
        return _finished(figure, title, caption)
