"""An injection to practise on: watched at the C-arm, stopped by hand, and held against the truth.

Before the stop a browser is given frames, times and the forecast's alarm. Where the cement leaks
comes with the score. Nothing is kept but the event that somebody practised.
"""

from __future__ import annotations

import io
import json
from base64 import b64encode
from typing import Any
from uuid import UUID

import numpy as np
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.template.defaultfilters import floatformat
from django.template.loader import render_to_string
from django.urls import path, reverse
from django.utils.translation import gettext, gettext_noop
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_GET, require_POST

from trocar.errors import InputError
from trocar.facts import carm
from trocar.io.exports import plain
from trocar.pathway import training as practice
from trocar.pathway.training import Score, Training
from trocar.registry import chain, roles
from trocar.registry.models import MODELS
from trocar.web import bench
from trocar.web.guard import case_of, needs

VIEWS = {"ap": _("AP"), "lateral": _("Lateral"), "barrel": _("Down the barrel")}
# How the classes of cement are called in the facts; a brand is called as it is.
CEMENTS = (
    gettext_noop("low viscosity"), gettext_noop("medium viscosity"), gettext_noop("high viscosity"),
)  # fmt: skip
LETTERS = ("left", "top", "right", "bottom")
STILLS = 5  # of each view, where there is no script
_LEAST_ML, _LEAST = 0.005, 0.05  # less is printed as nothing: of cement, of points
# What each word of a score amounts to, for its colour.
GRADES = {
    "in time": "ok", "enough": "ok", "late": "caution", "too early": "caution",
    "too much": "stop", "not stopped": "stop", "unseen": "stop",
}  # fmt: skip


@needs(roles.SEE)
@require_GET
def training(request: HttpRequest, uid: UUID, sha256: str) -> HttpResponse:
    """The exercise, ready to start."""
    lesion = case_of(request, uid)
    row = _run(lesion, sha256)
    exercise = _numbers(sha256)
    _seen(request, row)
    told = {"lesion": lesion, "sha256": sha256, "exercise": exercise, "run": row}
    told |= {"views": _views(exercise, lesion, sha256), "frames": json.dumps(_shown(exercise))}
    told["no_more"] = _no_more(exercise)
    return render(request, "training/training.html", told)


@needs(roles.SEE)
@require_GET
def strip(request: HttpRequest, uid: UUID, sha256: str, key: str) -> HttpResponse:
    """The frames of one view, one below the other."""
    _run(case_of(request, uid), sha256)
    _known(key)
    return HttpResponse(
        bench.result_file(sha256, practice.strip_name(key)), content_type="image/png"
    )


@needs(roles.SEE)
@require_POST
def stop(request: HttpRequest, uid: UUID, sha256: str) -> HttpResponse:
    """What came of a stop at ``stopped_s`` (empty: nobody stopped), and where the cement leaked."""
    lesion = case_of(request, uid)
    row = _run(lesion, sha256)
    exercise = _numbers(sha256, pictures=True)
    views = request.POST.getlist("view")
    try:
        made = practice.score(exercise, _age(request.POST.get("stopped_s", "")), views=views)
    except InputError as error:
        return JsonResponse({"error": str(error)}, status=422)
    chain.log(
        "train", request.user.get_username(), f"runs:{row.uid}", word=made.word, mark=made.mark,
        stopped_s=round(made.stopped_s, 1) if made.stopped else None, views=views,
        alarm=request.POST.get("alarm") == "on",
    )  # fmt: skip
    html = render_to_string("training/score.html", _told(exercise, made, views), request)
    told = {"score": plain(made), "html": html, "truth": _truth(exercise)}
    return JsonResponse(told)


@needs(roles.SEE)
@require_GET
def stills(request: HttpRequest, uid: UUID, sha256: str) -> HttpResponse:
    """The whole injection as stills and a table, for reading without a script."""
    lesion = case_of(request, uid)
    row = _run(lesion, sha256)
    exercise = _numbers(sha256)
    _seen(request, row)
    last = len(exercise.age_s) - 1
    chosen = sorted({round(last * k / (STILLS - 1)) for k in range(STILLS)})
    pictures = [
        {
            "name": VIEWS[pane.key],
            "letters": _letters(pane),
            "stills": [
                {
                    "at": _clock(exercise.age_s[k]),
                    "ml": exercise.injected_ml[k],
                    "address": reverse("training-still", args=[lesion.uid, sha256, pane.key, k]),
                }
                for k in chosen
            ],
        }
        for pane in exercise.panes
    ]
    told = {
        "lesion": lesion, "sha256": sha256, "exercise": exercise, "pictures": pictures,
        "rows": _table(exercise), "marks": _marks(exercise),
        "curve": safe_curve(exercise, None),
    }  # fmt: skip
    return render(request, "training/stills.html", told)


@needs(roles.SEE)
@require_GET
def still(request: HttpRequest, uid: UUID, sha256: str, key: str, frame: int) -> HttpResponse:
    """One frame of a view with the leaks marked."""
    from PIL import Image

    _run(case_of(request, uid), sha256)
    _known(key)
    exercise = _numbers(sha256, pictures=True)
    if frame >= len(exercise.age_s):
        raise Http404
    side = exercise.pane(key).pixels
    box = (0, frame * side, side, (frame + 1) * side)
    with (
        Image.open(io.BytesIO(exercise.strips[practice.strip_name(key)])) as frames,
        Image.open(io.BytesIO(exercise.strips[practice.truth_name(key)])) as marks,
    ):
        picture = frames.crop(box).convert("RGBA")
        picture.alpha_composite(marks.convert("RGBA").crop(box))
    out = io.BytesIO()
    picture.convert("RGB").save(out, "PNG")
    return HttpResponse(out.getvalue(), content_type="image/png")


# --- What is looked at ----------------------------------------------------------------------------


def _run(lesion: Any, sha256: str) -> Any:
    row = MODELS["runs"].objects.filter(lesion=lesion, result_sha256=sha256).first()
    if row is None:
        raise Http404
    return row


def _numbers(sha256: str, *, pictures: bool = False) -> Training:
    """The exercise of a kept result; 404 when it has none that can be read."""
    try:
        return practice.training_from(
            bench.result_file(sha256, practice.NUMBERS),
            (lambda name: bench.result_file(sha256, name)) if pictures else None,
        )
    except InputError as error:
        raise Http404 from error


def _known(key: str) -> None:
    if key not in VIEWS:
        raise Http404


def _seen(request: HttpRequest, row: Any) -> None:
    who = request.user.get_username()
    chain.log("view", who, f"runs:{row.uid}", what="fluoroscopy", sha256=row.result_sha256)


def _age(text: str) -> float | None:
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise InputError(gettext("The time of the stop is no number.")) from None


# --- What a page is told --------------------------------------------------------------------------


def _views(exercise: Training, lesion: Any, sha256: str) -> list[dict[str, Any]]:
    return [
        {
            "key": pane.key,
            "name": VIEWS[pane.key],
            "pixels": pane.pixels,
            "letters": _letters(pane),
            "strip": reverse("training-strip", args=[lesion.uid, sha256, pane.key]),
        }
        for pane in exercise.panes
    ]


def _no_more(exercise: Training) -> bool:
    """Whether least, target and the volume not to pass are printed as one and the same."""
    volumes = (exercise.low_ml, exercise.target_ml, exercise.stop_ml)
    return len({"" if ml is None else floatformat(ml, 1) for ml in volumes}) == 1


def _letters(pane: practice.Pane) -> list[tuple[str, str]]:
    return list(zip(LETTERS, pane.letters, strict=True))


def _shown(exercise: Training) -> dict[str, Any]:
    """What a browser may know before the stop: no leak is in it."""
    return {
        "age_s": plain(exercise.age_s),
        "injected_ml": plain(exercise.injected_ml),
        "alarm": list(exercise.alarm),
        "chance": plain(exercise.chance),
    }


def _truth(exercise: Training) -> dict[str, Any]:
    """What is shown after it: the marks as pictures, where their numbers stand, how much is out."""
    marks, places = {}, {}
    for pane in exercise.panes:
        data = exercise.strips[practice.truth_name(pane.key)]
        marks[pane.key] = f"data:image/png;base64,{b64encode(data).decode()}"
        places[pane.key] = [_places(frame) for frame in exercise.truth(pane.key)]
    outside = sum(exercise.leaked_ml.values(), np.zeros(len(exercise.age_s)))
    return {"marks": marks, "places": places, "outside_ml": plain(outside)}


def _places(frame: Any) -> list[list[float]]:
    """The number of each mark in a frame and the middle of its area, [number, row, column]."""
    return [
        [int(k), *(round(float(c), 1) for c in np.argwhere(frame == k).mean(axis=0))]
        for k in np.unique(frame[frame > 0])
    ]


def _marks(exercise: Training) -> list[dict[str, Any]]:
    """The compartments that are marked: number, name, whether it must stay empty."""
    return [
        {"number": k, "name": gettext(name), "alarm": name in exercise.alarms}
        for k, name in enumerate(exercise.marked, start=1)
    ]


def _table(exercise: Training) -> list[dict[str, Any]]:
    return [
        {
            "at": _clock(age),
            "ml": exercise.injected_ml[k],
            "leaks": [exercise.leaked_ml[name][k] for name in exercise.marked],
            "alarm": exercise.alarm[k],
        }
        for k, age in enumerate(exercise.age_s)
    ]


def _told(exercise: Training, made: Score, views: list[str]) -> dict[str, Any]:
    """The score in the words of a page."""
    numbers = {name: k for k, name in enumerate(exercise.marked, start=1)}
    leaks = [
        {
            "number": numbers.get(name, ""),
            "name": gettext(name),
            "alarm": name in exercise.alarms,
            "ml": ml,
            "out": ml >= _LEAST_ML,  # else it stands there plain: its mark is drawn later
            "told_in": [VIEWS[key] for key in made.told_in.get(name, ())],
        }
        for name, ml in sorted(made.leaked_ml.items(), key=lambda item: -item[1])
        if name in numbers or ml >= _LEAST_ML
    ]
    sooner = None
    if made.any_s is not None and made.any_s < made.stopped_s and len(views) < len(VIEWS):
        sooner = (made.stopped_s if made.told_s is None else made.told_s) - made.any_s
    return {
        "exercise": exercise,
        "score": made,
        "grade": GRADES[made.word],
        "stopped": _clock(made.stopped_s),
        "told": None if made.told_s is None else _clock(made.told_s),
        "before_ml": sum(made.before_ml.values()),
        "leaks": leaks,
        "leaked": any(leak["out"] for leak in leaks),
        "only": VIEWS[made.only_view] if made.only_view and len(views) > 1 else "",
        "sooner": sooner,
        "losses": [(LOSSES[loss.what], loss) for loss in made.losses if loss.points >= _LEAST],
        "rule": [practice.value(name) for name in RULE],
        "photons": carm.value("photons_middle"),
        "clear": carm.value("told_from_noise"),
        "curve": safe_curve(exercise, made.injected_ml),
    }


LOSSES = {
    "reaction": _("time from a leak that could be told to the stop"),
    "alarm": _("cement into canal, foramen or joint in that time"),
    "leak": _("cement elsewhere outside the bone in that time"),
    "short": _("cement short of the least wanted volume"),
    "over": _("cement beyond the volume not to pass"),
}
RULE = (
    "reaction_free", "reaction_cost", "alarm_cost", "leak_cost", "short_cost", "over_cost",
    "amount_tolerance",
)  # fmt: skip


def _clock(age_s: float) -> str:
    """Minutes and seconds.

    >>> _clock(188.01)
    '3:08'
    """
    minutes, seconds = divmod(int(age_s), 60)
    return f"{minutes}:{seconds:02d}"


# --- The curve of safe millilitres ----------------------------------------------------------------

_WIDE, _HIGH, _LEFT, _RIGHT, _TOP, _BOTTOM = 640, 260, 48, 620, 26, 220


def safe_curve(exercise: Training, given_ml: float | None) -> dict[str, Any]:
    """Where the curve of safe millilitres lies in a picture, for a template to draw.

    ``given_ml`` is marked on it. Its lines: forecast injections that leaked anywhere, and into
    canal, foramen or joint, of each volume.
    """
    at = exercise.safe["injected_ml"]
    marks = [("target", exercise.target_ml, gettext("target"))]
    if exercise.stop_ml is not None:
        marks.append(("stop", exercise.stop_ml, gettext("not to pass")))
    if given_ml is not None:
        marks.append(("given", given_ml, gettext("given")))
    most = max(float(at[-1]), *(ml for _kind, ml, _word in marks)) or 1.0

    def x(ml: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * ml / most, 1)

    def y(share: float) -> float:
        return round(_BOTTOM - (_BOTTOM - _TOP) * share, 1)

    def line(name: str) -> str:
        # A step: what had leaked by a volume holds until the next.
        points = [f"{x(float(at[0]))} {y(float(exercise.safe[name][0]))}"]
        for ml, share in zip(at[1:], exercise.safe[name][1:], strict=True):
            points.append(f"H{x(float(ml))} V{y(float(share))}")
        return "M" + " ".join(points)

    step = next(s for s in (0.5, 1, 2, 5, 10, 20) if most / s <= 10 or s == 20)
    return {
        "wide": _WIDE, "high": _HIGH, "left": _LEFT, "right": _RIGHT, "top": _TOP,
        "bottom": _BOTTOM, "ml_y": _BOTTOM + 18, "text_x": _LEFT - 6, "word_y": _HIGH - 4,
        "anywhere": line("anywhere"), "alarms": line("alarms"),
        "shares": [{"y": y(s), "y_text": y(s) + 4, "word": f"{100 * s:.0f} %"}
                   for s in (0, 0.25, 0.5, 0.75, 1)],
        "volumes": [{"x": x(k * step), "word": f"{k * step:g}"}
                    for k in range(int(most / step) + 1)],
        "marks": [
            {"kind": kind, "x": x(ml), "y": _TOP + 2 + 15 * row, "word": f"{word} {ml:.1f} ml",
             "x_text": x(ml) + (5 if x(ml) < _RIGHT - 130 else -5),
             "anchor": "start" if x(ml) < _RIGHT - 130 else "end"}
            for row, (kind, ml, word) in enumerate(marks)
        ],
        "said": "; ".join(f"{word} {ml:.1f} ml" for _kind, ml, word in marks),
    }  # fmt: skip


urlpatterns = [
    path("case/<uuid:uid>/training/<slug:sha256>/", training, name="training"),
    path("case/<uuid:uid>/training/<slug:sha256>/stop/", stop, name="training-stop"),
    path("case/<uuid:uid>/training/<slug:sha256>/stills/", stills, name="training-stills"),
    path(
        "case/<uuid:uid>/training/<slug:sha256>/stills/<slug:key>-<int:frame>.png",
        still,
        name="training-still",
    ),
    path("case/<uuid:uid>/training/<slug:sha256>/<slug:key>.png", strip, name="training-strip"),
]
