"""An injection under the C-arm: what AP, lateral and barrel views show while the cement grows.

A frame is the picture of the CT with the cement in it. It is computed where the cement changes it
alone, and added to the picture of the patient: line integrals add up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trocar.errors import InputError
from trocar.facts import carm, tissue
from trocar.facts.products import Needle
from trocar.model.plan import CementNeedle, Trajectory
from trocar.model.result import Injection, LeakForecast, View
from trocar.model.space import Float, Grid, Mask, Segment, Volume
from trocar.simulation.fluoroscopy import (
    HOUNSFIELD,
    Image,
    cast,
    chord_mm,
    middle,
    needle_views,
    photons,
)

Alarm = Literal["ok", "caution", "stop", "unknown"]

_FRAMES = 40
_KEPT = "kept"  # cement that is no leak of its own
_SHADE = 0.75  # of the slow shading, taken out of a live picture; a matter of looks


@dataclass(frozen=True, eq=False, kw_only=True)
class MovingView:
    """One view of a cine: the patient alone, and the line integrals each frame adds to it.

    ``view`` is without needle and cement. ``metal`` holds a picture a frame (of the needles and the
    cement in them, the same object while they stay); ``kept`` [frame, row, column] the cement that
    is no leak of its own in the injection's fill, ``leaked`` that of every leak by compartment.
    """

    view: View
    metal: tuple[Image, ...]
    kept: Image
    leaked: Mapping[str, Image]

    def cement(self, frame: int) -> Image:
        """What all cement outside the needles adds to one frame."""
        out: Image = np.sum([self.kept[frame], *(v[frame] for v in self.leaked.values())], axis=0)
        return out

    def image(self, frame: int) -> Image:
        """The line integrals of one frame, as ``View.image`` holds them."""
        return self.view.image + self.metal[frame] + self.cement(frame)


@dataclass(frozen=True, eq=False, kw_only=True)
class Cine:
    """An injection under the C-arm: three moving views, and what is true of every frame.

    The arrays have an entry a frame: the cement's age since mixing, how much is injected and how
    much of it lies in each compartment outside the bone. ``chance`` is the share of forecast
    injections that have reached canal, foramen or joint by that volume, ``alarm`` what the forecast
    says of it: ``stop`` from the volume not to pass, ``caution`` once any forecast injection has
    leaked anywhere, ``unknown`` where no volume was called safe.
    """

    views: tuple[MovingView, MovingView, MovingView]
    age_s: Float
    injected_ml: Float
    leaked_ml: Mapping[str, Float]
    chance: Float
    alarm: tuple[Alarm, ...]


def cine(
    ct: Volume,
    injection: Injection,
    trajectory: Trajectory,
    *,
    needles: Sequence[CementNeedle] = (),
    forecast: LeakForecast | None = None,
    stop_ml: float | None = None,
    frames: int = _FRAMES,
    detector_px: int = 256,
    detector_mm: float | None = None,
) -> Cine:
    """What will be seen while this injection is made: AP, lateral and down the barrel?

    ``frames`` pictures evenly in time, the first before any cement, the last at its end, in the
    directions of :func:`needle_views`. Cement attenuates by the HU of ``facts/tissue.toml``; a
    frame is the picture of :func:`with_cement` of :func:`cement_at`, computed where it changed
    alone. ``needles`` (that of the trajectory when none are given) are steel tubes full of cement
    and drawn back when the injection says so. The alarm needs a ``forecast`` and the plan's
    ``stop_ml``. Raises InputError for fewer than two frames and for what no C-arm can show.
    """
    if frames < 2:
        raise InputError(f"a cine of {frames} frames does not move; give two or more")
    ct.grid.require_frame(injection.fill.fraction.grid, "the CT and the injection")
    growing = _Growing(injection)
    ages = np.linspace(growing.age_s[0], growing.age_s[-1], frames)
    used = needles or (CementNeedle(needle=trajectory.needle, path=trajectory.path, volume_ml=1.0),)
    still = needle_views(ct, trajectory, detector_px=detector_px, detector_mm=detector_mm)
    drawn_back = [_drawn_back_mm(injection, len(used), float(age)) for age in ages]
    brought = {name: np.zeros((3, frames, *still[0].image.shape), np.float32)
               for name in growing.parts}  # fmt: skip
    part, room = growing.room(ct)
    for frame, age in enumerate(ages):
        for name, share in growing.at(float(age)).items():
            added = room * share.on(part, outside=0.0).values
            for image, view in zip(brought[name], still, strict=True):
                cast(added, part, view, into=image[frame])
    kept = brought.pop(_KEPT)
    metal = [_metal(view, used, drawn_back) for view in still]
    injected = growing.injected_ml(ages)
    chance, alarm = _alarms(injected, forecast, stop_ml)
    moving = [
        MovingView(
            view=view,
            metal=metal[k],
            kept=kept[k],
            leaked={name: images[k] for name, images in brought.items()},
        )
        for k, view in enumerate(still)
    ]
    return Cine(
        views=(moving[0], moving[1], moving[2]),
        age_s=ages,
        injected_ml=injected,
        leaked_ml={name: growing.leaked_ml(name, ages) for name in injection.leaked_ml},
        chance=chance,
        alarm=alarm,
    )


def cement_at(injection: Injection, age_s: float) -> Volume:
    """The share of each voxel that was cement when it was so old, on the injection's grid.

    Voxels fill in the order the injection keeps. Bone and each leak hold as much as its curve says
    at that age; what was never full comes last. At the end it is ``injection.fill.fraction``.
    """
    growing = _Growing(injection)
    parts = growing.at(age_s)
    values = np.zeros(injection.fill.fraction.grid.shape, np.float32)
    values[growing.box] = np.sum([p.values for p in parts.values()], axis=0)
    return replace(injection.fill.fraction, values=values)


def with_cement(ct: Volume, share: Volume) -> Volume:
    """The CT as it would be with cement in it: each voxel by its share, never darker than before.

    ``share`` (0 to 1) may lie on another grid of the same frame.
    """
    values = ct.values.astype(np.float32)
    values += _room(values) * share.on(ct.grid, outside=0.0).values
    return replace(ct, values=values)


def live_pictures(moving: MovingView, *, seed: int = 0) -> NDArray[np.uint8]:
    """The frames as 8-bit pictures [frame, row, column], dark where dense; not for measuring.

    Every frame has the same greys: those of the patient's own contrast, slow shading taken out as a
    C-arm's processor does. The noise is that of :func:`photons`, other in every frame and the same
    for the same ``seed``.
    """
    from scipy import ndimage

    rest, last = moving.view.image, len(moving.metal) - 1
    seen = rest > 0
    wide = rest.shape[0] / 8  # a fraction of the picture about as large as a vertebra
    share = ndimage.gaussian_filter(seen.astype(np.float32), wide)
    shade = ndimage.gaussian_filter(rest, wide) / np.maximum(share, np.float32(1e-3))
    shade *= np.float32(_SHADE)
    shown = seen & middle(rest.shape)
    shown = shown if shown.any() else np.ones(rest.shape, bool)
    low = float(np.percentile((rest - shade)[shown], 0.5))
    high = float(np.percentile((rest + moving.cement(last) - shade)[shown], 99.5))
    out = np.empty(moving.kept.shape, np.uint8)
    for frame in range(last + 1):
        image = moving.image(frame)
        draw = np.random.default_rng([seed, frame])
        sent = photons(np.zeros_like(image), moving.view)
        count = photons(image, moving.view)
        count += np.sqrt(count) * draw.standard_normal(image.shape)
        arrived = np.log(sent / np.maximum(count, 1.0))  # no pixel counts less than one
        grey = np.clip((arrived - shade - low) / max(high - low, 1e-6), 0.0, 1.0)
        out[frame] = np.rint(255 * np.where(image > 0, 1.0 - grey, 1.0))
    return out


class _Growing:
    """Where the cement of an injection is at any age, part by part: bone, and every leak."""

    def __init__(self, injection: Injection) -> None:
        fill = injection.fill
        whole = Mask(grid=fill.fraction.grid, values=fill.fraction.values > 0)
        # With empty voxels around it, towards which a share falls off as in the whole.
        room_mm = 2 * max(whole.grid.spacing_mm)
        self.box = (slice(0, 1),) * 3 if whole.is_empty else whole.box(room_mm)
        self.grid = fill.fraction.grid.crop(self.box)
        share = fill.fraction.values[self.box].astype(np.float64).ravel()
        order = injection.order_ml.values[self.box].astype(np.float64).ravel()
        order = np.where(np.isnan(order), np.inf, order)
        leaks = {k.compartment: k.mask.values[self.box].ravel() for k in fill.leaks}
        in_none = ~np.any([*leaks.values(), np.zeros(share.shape, bool)], axis=0)
        self.parts = {
            name: _Queue.of(mask & (share > 0), order, share * self.grid.voxel_ml)
            for name, mask in {_KEPT: in_none, **leaks}.items()
        }
        self._share, self._injection = share, injection
        self._set_curve(injection)

    def _set_curve(self, injection: Injection) -> None:
        """The curve of the record, standing still where the operator did something else."""
        start = injection.events[0].age_s if injection.events else injection.age_s[0]
        age = np.array([start, *injection.age_s])
        row = np.arange(len(age)) - 1  # -1: nothing is in yet
        halts = np.array([e.age_s for e in injection.events if e.age_s > start])
        if len(halts):
            before = np.searchsorted(age, halts, side="right") - 2
            order = np.argsort(np.concatenate([age, halts]), kind="stable")
            age = np.concatenate([age, halts])[order]
            row = np.concatenate([row, before])[order]
        self.age_s, self._row = age, row

    def _told(self, values: Float, ages_s: Float) -> Float:
        out: Float = np.interp(ages_s, self.age_s, np.concatenate([values, [0.0]])[self._row])
        return out

    def injected_ml(self, ages_s: Float) -> Float:
        """How much was in at each age."""
        return self._told(self._injection.injected_ml, ages_s)

    def leaked_ml(self, name: str, ages_s: Float) -> Float:
        """How much lay in one compartment at each age."""
        return self._told(self._injection.leaked_ml[name], ages_s)

    def at(self, age_s: float) -> dict[str, Volume]:
        """The shares of the voxels around the cement, part by part."""
        at = np.array([age_s])
        held = {n: float(self.leaked_ml(n, at)[0]) for n in self.parts if n != _KEPT}
        held[_KEPT] = float(self.injected_ml(at)[0]) - sum(held.values())
        out = {}
        for name, queue in self.parts.items():
            values = np.zeros(self._share.shape, np.float32)
            values[queue.voxels] = self._share[queue.voxels] * queue.filled(held[name])
            out[name] = Volume(grid=self.grid, values=values.reshape(self.grid.shape), unit="1")
        return out

    def room(self, ct: Volume) -> tuple[Grid, NDArray[np.float32]]:
        """The voxels of a CT that any of the cement can change, and by how many HU at most.

        The empty voxels around the cement leave a layer of them that stays as it is.
        """
        last = np.array(self.grid.shape) - 1
        ends = [(a, b, c) for a in (0, last[0]) for b in (0, last[1]) for c in (0, last[2])]
        part = ct.crop(ct.grid.around(self.grid.to_world(np.array(ends))))
        return part.grid, _room(part.values.astype(np.float32))


@dataclass(frozen=True, eq=False, kw_only=True)
class _Queue:
    """Voxels in the order in which they fill; those of one moment fill together."""

    voxels: NDArray[np.intp]
    before_ml: Float  # what is in the others when it is this one's turn
    own_ml: Float  # of all that fill with it

    @classmethod
    def of(cls, mask: NDArray[np.bool_], order: Float, ml: Float) -> _Queue:
        voxels = np.flatnonzero(mask)
        _, turn = np.unique(order[voxels], return_inverse=True)
        together: Float = np.bincount(turn, weights=ml[voxels]).astype(np.float64)
        start: Float = np.cumsum(together) - together
        return cls(voxels=voxels, before_ml=start[turn], own_ml=together[turn])

    def filled(self, held_ml: float) -> Float:
        """The part of each voxel's own cement that is there when so much is there in all."""
        out: Float = np.clip((held_ml - self.before_ml) / self.own_ml, 0.0, 1.0)
        return out


def _room(hu: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much brighter each voxel would be if it were all cement."""
    out: NDArray[np.float32] = np.maximum(np.float32(tissue.value("hu_cement").mean) - hu, 0.0)
    return out


def _drawn_back_mm(injection: Injection, count: int, age_s: float) -> tuple[float, ...]:
    """How far each needle had been drawn back at an age."""
    out = [0.0] * count
    for event in injection.events:
        if event.age_s <= age_s and event.needle < count:
            out[event.needle] += event.moved_mm
    return tuple(out)


def _metal(
    view: View, needles: Sequence[CementNeedle], drawn_back: Sequence[tuple[float, ...]]
) -> tuple[Image, ...]:
    """The needles in every frame; a picture is computed once for each way they lie."""
    made: dict[tuple[float, ...], Image] = {}
    for back in drawn_back:
        if back not in made:
            made[back] = np.sum(
                [
                    _tube(view, n.needle, n.path, mm)
                    for n, mm in zip(needles, back, strict=True)
                ],
                axis=0,
            ).astype(np.float32)  # fmt: skip
    return tuple(made[back] for back in drawn_back)


def _tube(view: View, needle: Needle, path: Segment, back_mm: float) -> Float:
    """What a needle adds: steel around cement in place of water, by closed form.

    The tip lies ``back_mm`` short of the path's end; the needle is at least as long as the path.
    """
    way = path.direction
    tip = path.end_mm - back_mm * way
    hub = tip - max(needle.length_mm, path.length_mm) * way
    water, steel = tissue.value("mu_water_70kev").mean, carm.value("needle_attenuation").mean
    cement = water * tissue.value("hu_cement").mean / HOUNSFIELD
    whole = chord_mm(view, hub, tip, needle.outer_mm / 2)
    lumen = chord_mm(view, hub, tip, needle.inner_mm / 2)
    out: Float = (steel - water) * (whole - lumen) + cement * lumen
    return out


def _alarms(
    injected_ml: Float, forecast: LeakForecast | None, stop_ml: float | None
) -> tuple[Float, tuple[Alarm, ...]]:
    """Of each volume: the share of the forecast that raised an alarm, and what it means."""

    def state(ml: float, leaked: float) -> Alarm:
        if forecast is None or stop_ml is None:
            return "unknown"
        return "stop" if ml >= stop_ml else "caution" if leaked > 0 else "ok"

    nothing = np.full(len(injected_ml), np.nan)
    anywhere = nothing if forecast is None else forecast.chance(injected_ml)
    chance = nothing if forecast is None else forecast.chance(injected_ml, *forecast.alarms)
    states = [state(float(v), float(c)) for v, c in zip(injected_ml, anywhere, strict=True)]
    return chance, tuple(states)
