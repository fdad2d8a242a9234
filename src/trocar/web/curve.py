"""Where the lines of a pain and opioid curve lie in a picture, for a template to draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.utils.translation import gettext

from trocar.followup.opioids import omed
from trocar.model.course import OpioidLine, PainScore

WIDTH, HEIGHT = 640, 250
LEFT, RIGHT, TOP, BOTTOM = 34, 590, 14, 216
WORST = 10  # a pain score's upper end


def curve(scores: Sequence[PainScore], lines: Sequence[OpioidLine]) -> dict[str, Any] | None:
    """The picture of one lesion's pain and opioids, or None when neither was recorded.

    Days without a score have no point; a regimen that cannot be converted has none either.
    """
    doses = _doses(lines)
    days = [s.day for s in scores] + [d for d, _ in doses]
    if not days:
        return None
    first, last = min(*days, 0.0), max(*days, 1.0)
    most = max([m for _, m in doses], default=0.0) or 1.0

    def x(day: float) -> float:
        return round(LEFT + (RIGHT - LEFT) * (day - first) / (last - first), 1)

    def y(part: float) -> float:
        return round(BOTTOM - (BOTTOM - TOP) * part, 1)

    ordered = sorted(scores, key=lambda s: s.day)
    points = [
        {"x": x(s.day), "y": y(s.score / WORST), "said": _said("pain", s.day, str(s))}
        for s in ordered
    ]
    squares = [
        {"x4": x(d) - 3.5, "y4": y(m / most) - 3.5, "said": _said("opioids", d, f"{m:.4g} mg")}
        for d, m in doses
    ]
    return {
        "width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "top": TOP,
        "bottom": BOTTOM, "left_text": LEFT - 6, "right_text": RIGHT + 6, "day_y": BOTTOM + 20,
        "pain_ticks": [
            {"y": y(v / WORST), "y_text": y(v / WORST) + 4, "word": str(v)}
            for v in range(0, WORST + 1, 2)
        ],
        "dose_ticks": [
            {"y_text": y(part) + 4, "word": f"{part * most:.3g}"} for part in (0, 0.5, 1)
        ] if doses else [],
        "day_ticks": [{"x": x(d), "word": f"{d:g}"} for d in _apart(sorted(set(days)), x)],
        "zero_x": x(0.0),
        "pain_path": _path([(p["x"], p["y"]) for p in points]),
        "dose_path": _path([(x(d), y(m / most)) for d, m in doses]),
        "intervals": [
            {"x": x(s.day), "y1": y(s.low / WORST), "y2": y(s.high / WORST)}
            for s in ordered
            if s.high is not None
        ],
        "points": points,
        "doses": squares,
        "said": "; ".join(str(p["said"]) for p in [*points, *squares]),
    }  # fmt: skip


def _doses(lines: Sequence[OpioidLine]) -> list[tuple[float, float]]:
    found = []
    for day in sorted({line.day for line in lines}):
        total = omed([line for line in lines if line.day == day]).mg_per_day
        if total is not None:
            found.append((day, total))
    return found


def _said(what: str, day: float, value: str) -> str:
    return f"{gettext(what)}, {gettext('day')} {day:g}: {value}"


def _path(points: Sequence[tuple[Any, Any]]) -> str:
    return "M" + " L".join(f"{a} {b}" for a, b in points) if len(points) > 1 else ""


def _apart(days: Sequence[float], x: Callable[[float], float], least: float = 30) -> list[float]:
    """Days whose labels do not run into each other."""
    kept: list[float] = []
    for day in days:
        if not kept or x(day) - x(kept[-1]) >= least:
            kept.append(day)
    return kept
