"""An injection to practise on: watched under the C-arm, stopped by hand, and what came of it.

The injection is the planned one made without anybody who watches: it goes on beyond its target
whatever leaks, so that it must be stopped. Where a leak could be told is worked out beforehand.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from trocar.errors import InputError
from trocar.facts import carm
from trocar.facts.source import Value, load
from trocar.io.exports import write_json
from trocar.io.formats import write_whole
from trocar.model.result import Anatomy, Injection, LeakForecast
from trocar.model.space import Float, Mask
from trocar.pathway.cement import CementCase
from trocar.pathway.runs import Progress, Spans
from trocar.simulation import cine as moving
from trocar.simulation.cine import Alarm, Cine, MovingView
from trocar.simulation.fluoroscopy import Image, magnification, path_mm, photons

FORMAT = "trocar training 1"  # raised when a reader of training.json would have to change
NUMBERS = "training.json"
KEYS = ("ap", "lateral", "barrel")  # of the views, in file names
# Of the compartments' marks, in their order; every mark has its number beside it as well.
COLOURS = (
    (230, 0, 150),
    (0, 150, 230),
    (240, 140, 0),
    (120, 80, 230),
    (0, 150, 80),
    (200, 40, 40),
)
_FILLED, _RIM = 90, 255  # how opaque
_CURVE = 61  # points of the curve of safe millilitres

Word = Literal["in time", "late", "not stopped", "unseen", "too early", "enough", "too much"]


@dataclass(frozen=True, kw_only=True)
class Pane:
    """One view of an exercise, and when a leak could first be told in it (age in s; None never)."""

    key: str
    name: str
    letters: tuple[str, str, str, str]  # left, top, right, bottom
    oblique_deg: float
    cranial_deg: float
    pixels: int  # rows, and columns
    mm_per_px: float  # at the needle's tip
    told_s: Mapping[str, float | None]


@dataclass(frozen=True, eq=False, kw_only=True)
class Training:
    """An exercise: what is shown (``strips``), and the truth that a stop is held against.

    The arrays have an entry a frame: age of the cement, ml injected, ml in each compartment, the
    share of forecast injections that reached canal, foramen or joint (nan without a forecast), the
    forecast's alarm. ``marked`` names the compartments drawn in the truth, by number from 1;
    ``alarms`` those that must stay empty. ``safe`` is the curve of safe millilitres: of each volume
    the share of the forecast that leaked anywhere, and into canal, foramen or joint. ``strips``
    holds PNG files by name, the frames of a view one below the other.
    """

    lesion_id: str
    site: str
    cement: str
    low_ml: float
    target_ml: float
    high_ml: float
    stop_ml: float | None
    latest_s: float
    age_s: Float
    injected_ml: Float
    leaked_ml: Mapping[str, Float]
    chance: Float
    alarm: tuple[Alarm, ...]
    marked: tuple[str, ...]
    alarms: tuple[str, ...]
    safe: Mapping[str, Float]
    panes: tuple[Pane, ...]
    strips: Mapping[str, bytes]

    @property
    def most_ml(self) -> float:
        """The volume not to pass; the plan's upper limit where none was called safe."""
        return self.high_ml if self.stop_ml is None else self.stop_ml

    def pane(self, key: str) -> Pane:
        """A view by its key; InputError for one there is not."""
        for pane in self.panes:
            if pane.key == key:
                return pane
        raise InputError(
            f"there is no view {key!r}; take of {', '.join(p.key for p in self.panes)}"
        )

    def pictures(self, key: str) -> NDArray[np.uint8]:
        """What a view shows, [frame, row, column]."""
        return self._frames(strip_name(key))

    def truth(self, key: str) -> NDArray[np.uint8]:
        """The leaks in a view, [frame, row, column]: 0 none, else the number of its compartment."""
        return (self._frames(truth_name(key)) + 1) // 2

    def _frames(self, name: str) -> NDArray[np.uint8]:
        from PIL import Image

        with Image.open(io.BytesIO(self.strips[name])) as strip:
            values = np.asarray(strip, dtype=np.uint8)
        return values.reshape(len(self.age_s), -1, values.shape[1])


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Points that one part of the rule takes, and of how much of what."""

    what: Literal["reaction", "alarm", "leak", "short", "over"]
    amount: float
    unit: str
    points: float


@dataclass(frozen=True, kw_only=True)
class Score:
    """What came of a stop.

    ``told_s`` is when a leak could first be told in a view that was on, ``any_s`` in any view;
    ``told_in`` names of every compartment the views (of those on) that had shown it by the stop.
    ``leaked_ml`` is the cement outside the bone at the stop, ``before_ml`` that which was outside
    before a leak could be told in any view: who switches one off answers for what it would have
    shown. ``mark`` goes from 0 to 100 less the ``losses``; no source gives
    its rule, every number of which is a placeholder.
    """

    stopped: bool
    stopped_s: float
    injected_ml: float
    leaked_ml: Mapping[str, float]
    before_ml: Mapping[str, float]
    told_s: float | None
    any_s: float | None
    told_in: Mapping[str, tuple[str, ...]]
    reaction_s: float | None
    word: Word
    losses: tuple[Loss, ...]
    mark: int

    @property
    def outside_ml(self) -> float:
        """All cement outside the bone at the stop."""
        return float(sum(self.leaked_ml.values()))

    @property
    def only_view(self) -> str | None:
        """The one view that showed any leak; None where none did, or several."""
        shown = {key for keys in self.told_in.values() for key in keys}
        return next(iter(shown)) if len(shown) == 1 else None


def value(name: str) -> Value:
    """One number of the rule by its name in ``training.toml``, such as ``reaction_free``."""
    return load("training")[name]


def strip_name(key: str) -> str:
    """The file of a view's frames.

    >>> strip_name("lateral"), truth_name("lateral")
    ('training-lateral.png', 'training-lateral-truth.png')
    """
    return f"training-{key}.png"


def truth_name(key: str) -> str:
    """The file of a view's leaks: see-through but where one is."""
    return f"training-{key}-truth.png"


# --- making one -----------------------------------------------------------------------------------


def make_training(
    case: CementCase,
    *,
    injection: Injection | None = None,
    frames: int = 40,
    progress: Progress | None = None,
) -> Training:
    """The exercise that a planned injection makes, the same for the same case.

    ``injection`` replaces the one that is made of the plan without watching. The views magnify, as
    ``detector_magnified`` of ``facts/carm.toml`` says, about the first needle's tip.
    """
    tell, plan = Spans(progress), case.plan
    tell("injection", 0.0)
    if injection is None:
        injection = unwatched(case, progress=tell.during("injection", 0.0, 0.7))
    shown = moving.cine(
        case.planned.scan.volume,
        injection,
        case.needles[0],
        needles=plan.needles,
        forecast=case.forecast,
        stop_ml=plan.stop_ml,
        frames=frames,
        detector_mm=float(carm.value("detector_magnified")),
    )
    tell("fluoroscopy", 0.85)
    marked = tuple(dict.fromkeys(leak.compartment for leak in injection.fill.leaks))
    body = _body(case.planned.anatomy)
    least = injection.fill.fraction.grid.spacing_mm[0] / 2
    strips, panes = {}, []
    for number, (key, view) in enumerate(zip(KEYS, shown.views, strict=True)):
        strips[strip_name(key)] = _strip(moving.live_pictures(view, seed=number))
        strips[truth_name(key)] = _marks([view.leaked[n] for n in marked], view, least)
        panes.append(_pane(key, view, shown, body, case.needles[0].target_mm))
    tell("fluoroscopy", 1.0)
    return Training(
        lesion_id=plan.lesion_id,
        site=str(plan.site),
        cement=plan.cement.name,
        low_ml=plan.low_ml,
        target_ml=plan.target_ml,
        high_ml=plan.high_ml,
        stop_ml=plan.stop_ml,
        latest_s=plan.latest_s,
        age_s=shown.age_s,
        injected_ml=shown.injected_ml,
        leaked_ml=shown.leaked_ml,
        chance=shown.chance,
        alarm=shown.alarm,
        marked=marked,
        alarms=case.forecast.alarms,
        safe=_safe(case.forecast),
        panes=tuple(panes),
        strips=strips,
    )


def unwatched(case: CementCase, *, progress: Progress | None = None) -> Injection:
    """The planned injection made by nobody who looks, on beyond the volume not to pass."""
    from trocar.simulation.injection import inject
    from trocar.simulation.porous import read_bed

    planned, plan = case.planned, case.plan
    bed = read_bed(planned.scan.volume, planned.anatomy, planned.lesion)
    most = plan.high_ml if plan.stop_ml is None else plan.stop_ml
    more = max(case.forecast.volume_ml, float(value("beyond")) * most) / plan.target_ml
    needles = tuple(replace(n, volume_ml=more * n.volume_ml) for n in plan.needles)
    return inject(bed, replace(plan, needles=needles), watch=False, progress=progress)


def _body(anatomy: Anatomy) -> Mask:
    """What cement in bone fills: within its shadow a leak cannot be told from that."""
    return anatomy.regions.get("vertebral_body", anatomy.bone)


def _pane(key: str, view: MovingView, shown: Cine, body: Mask, tip_mm: Float) -> Pane:
    rest = view.view
    pitch = float(np.linalg.norm(rest.row_step_mm))
    free = path_mm(body, rest) < min(body.grid.spacing_mm) / 2
    return Pane(
        key=key,
        name=rest.name,
        letters=rest.letters,
        oblique_deg=rest.oblique_deg,
        cranial_deg=rest.cranial_deg,
        pixels=rest.image.shape[0],
        mm_per_px=pitch / float(magnification(rest, tip_mm)),
        told_s={name: _first_told_s(name, view, shown, free) for name in view.leaked},
    )


def _first_told_s(
    name: str, view: MovingView, shown: Cine, free: NDArray[np.bool_]
) -> float | None:
    """The age at which a leak can first be told in a view, once it holds what an operator sees."""
    least_ml = float(load("injection")["visible_leak"])
    for frame, age in enumerate(shown.age_s):
        held = shown.leaked_ml[name][frame] >= least_ml
        if held and signal_to_noise(view, name, frame, free) >= float(
            carm.value("told_from_noise")
        ):
            return float(age)
    return None


def signal_to_noise(view: MovingView, name: str, frame: int, free: NDArray[np.bool_]) -> float:
    """How clearly does the shadow of one leak stand out of the photon noise of a frame?

    Counted are pixels that are ``free`` of the bone's own shadow and on whose ray cement in the
    bone is lost in the noise: within both, a leak looks like cement in the bone.
    """
    leak = view.leaked[name][frame].astype(np.float64)
    without = photons(view.image(frame) - view.leaked[name][frame], view.view)
    beside = free & (view.kept[frame] * np.sqrt(without) < 1)
    signal = without * (1 - np.exp(-leak)) ** 2
    return float(np.sqrt(signal[beside].sum()))


def _safe(forecast: LeakForecast) -> dict[str, Float]:
    at = np.linspace(0.0, forecast.volume_ml, _CURVE)
    return {
        "injected_ml": at,
        "anywhere": forecast.chance(at),
        "alarms": forecast.chance(at, *forecast.alarms),
    }


def _strip(frames: NDArray[np.uint8], palette: Sequence[int] = (), opacity: bytes = b"") -> bytes:
    """Frames one below the other as a PNG; the same frames give the same bytes."""
    from PIL import Image

    image = Image.fromarray(frames.reshape(-1, frames.shape[2]))
    how: dict[str, Any] = {}
    if palette:
        image.putpalette(list(palette))
        how["transparency"] = opacity
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=9, **how)
    return out.getvalue()


def _marks(leaks: Sequence[Image], view: MovingView, least_mm: float) -> bytes:
    """The leaks in every frame: of the k-th the area (2 k - 1) and its rim (2 k)."""
    from scipy import ndimage

    from trocar.facts import tissue

    # A leak is marked where its shadow is that of half a voxel of cement in water.
    per_mm = tissue.value("mu_water_70kev").mean * tissue.value("hu_cement").mean / 1000
    frames = np.zeros(view.kept.shape, np.uint8)
    palette, opacity = [0, 0, 0], [0]
    for number, leak in enumerate(leaks):
        here = leak >= least_mm * per_mm
        inner = ndimage.binary_erosion(here, ndimage.generate_binary_structure(3, 1)[1:2])
        frames[here] = 2 * number + 2
        frames[inner] = 2 * number + 1
        palette += [*COLOURS[number % len(COLOURS)]] * 2
        opacity += [_FILLED, _RIM]
    return _strip(frames, palette, bytes(opacity))


# --- what came of a stop --------------------------------------------------------------------------


def score(
    training: Training, stopped_s: float | None, *, views: Iterable[str] | None = None
) -> Score:
    """What came of stopping when the cement was so old (None: nobody stopped)?

    ``views`` are the keys of the views that were on, all of them when not given. Raises InputError
    for an age that is none and for views there are not.
    """
    on = [training.pane(key) for key in (KEYS if views is None else dict.fromkeys(views))]
    if not on:
        raise InputError("no view was on; train with one at least")
    if stopped_s is not None and not (isfinite(stopped_s) and stopped_s >= 0):
        raise InputError(f"the stop is at {stopped_s} s; expected the cement's age, 0 or more")
    first, end = float(training.age_s[0]), float(training.age_s[-1])
    stopped = stopped_s is not None and stopped_s < end
    at = end if stopped_s is None else float(np.clip(stopped_s, first, end))
    given, leaked = _at(training, training.injected_ml, at), _leaked(training, at)
    told = _within(_earliest(on), at)
    seen = _within(_earliest(training.panes), at)
    before = leaked if seen is None else _leaked(training, seen)
    reaction = at - told if stopped and told is not None else None
    losses = _losses(training, given, leaked, before, told, seen, at)
    return Score(
        stopped=stopped,
        stopped_s=at,
        injected_ml=given,
        leaked_ml=leaked,
        before_ml=before,
        told_s=told,
        any_s=_earliest(training.panes),
        told_in={
            name: tuple(p.key for p in on if _by(p.told_s.get(name), at))
            for name in training.marked
        },
        reaction_s=reaction,
        word=_word(training, given, told, seen, reaction),
        losses=losses,
        mark=round(max(0.0, 100.0 - sum(loss.points for loss in losses))),
    )


def _within(moment_s: float | None, at_s: float) -> float | None:
    return moment_s if _by(moment_s, at_s) else None


def _by(moment_s: float | None, at_s: float) -> bool:
    return moment_s is not None and moment_s <= at_s


def _earliest(panes: Iterable[Pane]) -> float | None:
    return min((s for p in panes for s in p.told_s.values() if s is not None), default=None)


def _at(training: Training, values: Float, age_s: float) -> float:
    return float(np.interp(age_s, training.age_s, values))


def _leaked(training: Training, age_s: float) -> dict[str, float]:
    return {name: _at(training, v, age_s) for name, v in training.leaked_ml.items()}


def _word(
    training: Training,
    given_ml: float,
    told_s: float | None,
    seen_s: float | None,
    reaction_s: float | None,
) -> Word:
    tolerance = float(value("amount_tolerance"))
    if told_s is not None:
        if reaction_s is None:
            return "not stopped"
        return "in time" if reaction_s <= float(value("reaction_free")) else "late"
    if seen_s is not None:
        return "unseen"
    if given_ml < training.low_ml - tolerance:
        return "too early"
    return "too much" if given_ml > training.most_ml + tolerance else "enough"


def _losses(
    training: Training,
    given_ml: float,
    leaked: Mapping[str, float],
    before: Mapping[str, float],
    told_s: float | None,
    seen_s: float | None,
    at_s: float,
) -> tuple[Loss, ...]:
    """What each part of the rule takes."""
    tolerance = float(value("amount_tolerance"))
    fresh = {name: leaked[name] - before[name] for name in leaked}
    alarm = sum(ml for name, ml in fresh.items() if name in training.alarms)
    late = 0.0 if told_s is None else max(0.0, at_s - told_s - float(value("reaction_free")))
    over = max(0.0, given_ml - training.most_ml - tolerance)
    missing = 0.0
    if seen_s is None and given_ml < training.low_ml - tolerance:
        missing = training.low_ml - given_ml
    taken = (
        Loss(what="reaction", amount=late, unit="s",
             points=late * float(value("reaction_cost"))),
        Loss(what="alarm", amount=alarm, unit="ml", points=alarm * float(value("alarm_cost"))),
        Loss(what="leak", amount=sum(fresh.values()) - alarm, unit="ml",
             points=(sum(fresh.values()) - alarm) * float(value("leak_cost"))),
        Loss(what="short", amount=missing, unit="ml",
             points=missing / max(training.low_ml, 1e-9) * float(value("short_cost"))),
        Loss(what="over", amount=over, unit="ml", points=over * float(value("over_cost"))),
    )  # fmt: skip
    return tuple(loss for loss in taken if loss.points > 0)


# --- as files -------------------------------------------------------------------------------------


def write_training(folder: Path | str, training: Training) -> dict[str, Path]:
    """Write an exercise into a folder; returns the files by name.

    ``training`` training.json, every number; by its own name each PNG of frames and of marks. The
    same exercise gives the same bytes. The numbers are written last: where they are, all is.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, data in training.strips.items():

        def write(part: Path, data: bytes = data) -> None:
            part.write_bytes(data)

        files[name] = write_whole(place / name, write)
    told = {f: getattr(training, f) for f in Training.__dataclass_fields__ if f != "strips"}
    files["training"] = write_json(
        place / NUMBERS, {"format": FORMAT, **told, "files": sorted(training.strips)}
    )
    return files


def read_training(folder: Path | str) -> Training:
    """The exercise that :func:`write_training` left in a folder.

    Raises InputError for a folder without a whole one.
    """
    place = Path(folder)
    try:
        return training_from(
            (place / NUMBERS).read_bytes(), lambda name: (place / name).read_bytes()
        )
    except OSError as error:
        raise InputError(
            f"{place} holds no exercise ({Path(str(error.filename)).name} is missing); give the "
            "folder of a simulated injection"
        ) from error


def training_from(numbers: bytes, strip: Callable[[str], bytes] | None = None) -> Training:
    """An exercise from the bytes of training.json; ``strip`` gives those of a PNG by its name.

    Without ``strip`` it has no pictures, which a score does not need.
    """
    try:
        told = json.loads(numbers)
        if told["format"] != FORMAT:
            raise InputError(
                f"the exercise is {told['format']!r}; this version reads {FORMAT!r}: run the "
                "injection again"
            )
        names = told["files"]
        if not set(names) <= {n(key) for key in KEYS for n in (strip_name, truth_name)}:
            raise ValueError(f"unknown files {names}")
        exercise = Training(
            **{name: told[name] for name in _PLAIN},
            alarm=_alarms(told["alarm"]),
            age_s=_array(told["age_s"]),
            injected_ml=_array(told["injected_ml"]),
            chance=_array(told["chance"]),
            leaked_ml={name: _array(v) for name, v in told["leaked_ml"].items()},
            safe={name: _array(v) for name, v in told["safe"].items()},
            marked=tuple(told["marked"]),
            alarms=tuple(told["alarms"]),
            panes=tuple(Pane(**{**p, "letters": tuple(p["letters"])}) for p in told["panes"]),
            strips={} if strip is None else {name: strip(name) for name in names},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{NUMBERS} cannot be read as an exercise ({type(error).__name__}: {error})"
        ) from error
    return exercise


_PLAIN = (
    "lesion_id", "site", "cement", "low_ml", "target_ml", "high_ml", "stop_ml", "latest_s",
)  # fmt: skip


def _array(values: Sequence[float | None]) -> Float:
    return np.array([np.nan if v is None else v for v in values], np.float64)


def _alarms(states: Sequence[str]) -> tuple[Alarm, ...]:
    if not set(states) <= set(get_args(Alarm)):
        raise ValueError(f"unknown alarms {sorted(set(states))}")
    return tuple(states)  # type: ignore[arg-type]
