"""What applicators do to tissue: an electrode with its generator, an antenna, cryoprobes.

Electrode and antenna say for every look at the generator what heat they make; probes say where
tissue is held and how cold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trocar.errors import InputError
from trocar.facts import ablation as facts
from trocar.facts import dielectric, thermal
from trocar.kernels.potential import Conductor, Field
from trocar.kernels.rod import Laid, Rod, lay
from trocar.model.ablation import Phase, Placed
from trocar.model.space import Float, Segment
from trocar.simulation.ablation_scene import MM, Constants, Scene

Bool = NDArray[np.bool_]

_SETTLE_S = 4.0  # in which the generator means to make good a difference in temperature
_SETTLE_STEPS = 1.6  # or in so many looks, if that is longer
_CHANGED = 0.03  # of conductivity; less does not move the current
_TOLERANCE = 1e-4  # of the potential
_SHAFT = 0.75  # of a cube: so near the axis of a thin shaft tissue counts as shaft
_BACK = 3.0  # active lengths of shaft behind the part that works
_LOCAL_M = 15e-3  # tissue this near to an antenna damps its waves
_SLOWEST = 1e-9  # K/s for each watt; less is no warming
_NEIGHBOURS = ndimage.generate_binary_structure(3, 1)


@dataclass(frozen=True, eq=False, kw_only=True)
class Look:
    """One look at the generator: how things stand, and until when nobody looks again."""

    celsius: Float
    time_s: float  # since the ablation began
    elapsed_s: float  # since the phase began
    step_s: float
    halted: bool  # by a thermocouple

    def ramp(self, phase: Phase, share_of_step: float) -> float:
        """How far a phase has come up its ramp, 0 to 1."""
        if not phase.ramp_s:
            return 1.0
        return min(1.0, (self.elapsed_s + share_of_step * self.step_s) / phase.ramp_s)


@dataclass(frozen=True, kw_only=True)
class Told:
    """What one applicator gave: nan where there is nothing to tell."""

    power_w: float = 0.0
    ohm: float = float("nan")
    surface_c: float = float("nan")


class Electrode:
    """One radiofrequency electrode and its generator, which holds temperature or power."""

    def __init__(self, scene: Scene, placed: Placed, part: Segment) -> None:
        self.scene, self.device = scene, placed.device
        h, r = scene.h_m, self.device.radius_mm * MM
        a, b = scene.place(part.start_mm), scene.place(part.end_mm)
        length = float(np.linalg.norm(b - a))
        u = (b - a) / length
        self._bipolar = self.device.kind == "rf_bipolar"
        spans = [(a, b)]
        if self._bipolar:
            half = (self.device.active_mm - self.device.gap_mm) / 2 * MM
            spans = [(a, a + half * u), (b - half * u, b)]
        rods = []
        for start, end in spans:
            inset = min(r, 0.45 * float(np.linalg.norm(end - start)))  # round ends count as length
            rods.append(Rod(start_m=start + inset * u, end_m=end - inset * u, radius_m=r))
        shape = scene.grid.shape
        self.laid = lay(rods, shape=shape, spacing_m=(h, h, h))
        self._volts = (0.5, -0.5) if self._bipolar else (1.0,)
        self._middle = ((a + b) / 2).tolist()
        # What insulates: the gap between two poles, and the shaft behind.
        back = Rod(start_m=a - _BACK * length * u, end_m=b, radius_m=r)
        reach = max(r, _SHAFT * h)
        box, points = back.around(reach, shape, (h, h, h))
        self._shaft, gap = np.zeros(shape, bool), np.zeros(shape, bool)
        self._shaft[box] = back.distance_m(points) <= reach
        self._shaft &= ~self.laid.every
        gap[box] = (points - a) @ u >= 0
        self._gap = np.flatnonzero(gap & self._shaft)
        free = ~self.laid.every & ~self._shaft
        self._skins = [
            np.flatnonzero(ndimage.binary_dilation(one, _NEIGHBOURS) & free)
            for one in self.laid.held
        ]
        self._skin = np.unique(np.concatenate(self._skins))
        self._conductor: Conductor | None = None
        self._field: Field | None = None
        self._sigma = self._warmed = np.zeros(0)
        self._first_ohm = float("nan")
        self._last: tuple[float, float] | None = None
        self._power_w, self._off_until_s = 0.0, -1.0
        self.pauses = 0

    def heat(self, look: Look, phase: Phase) -> Float:
        """Set the power for the next moments; returns the heat it makes, W/m3."""
        field = self._solved(look.celsius)
        self._power_w = self._wanted_w(field, look, phase)
        return self._power_w / field.power_w * field.joule_w_m3

    def told(self, celsius: Float) -> Told:
        """Power and impedance, and what the thermocouple showed."""
        assert self._field is not None
        return Told(
            power_w=self._power_w,
            ohm=self._ohm(self._field),
            surface_c=self._reads(celsius, self._power_w),
        )

    def _solved(self, celsius: Float) -> Field:
        """The field at one volt; solved again when conductivity has changed."""
        warmed = dielectric.warmed(celsius)
        if self._field is not None and np.abs(warmed / self._warmed - 1.0).max() < _CHANGED:
            return self._field
        sigma = self.scene.electric * warmed
        sigma[self._shaft] = 0.0
        if self._conductor is None:
            h = self.scene.h_m
            self._conductor = Conductor(
                sigma, shape=self.scene.grid.shape, spacing_m=(h, h, h),
                electrodes=list(self.laid.held), laid=self.laid,
                far_from_m=None if self._bipolar else self._middle,
            )  # fmt: skip
        else:
            self._conductor.conduct(sigma)
        start = None if self._field is None else self._field.volts
        self._field = self._conductor.solve(self._volts, start=start, tolerance=_TOLERANCE)
        self._sigma, self._warmed = sigma, warmed
        if not self._field.power_w > 0:
            raise InputError(
                f"no current flows from {self.device.name}: it touches nothing that "
                "conducts (gas, cement or metal around it?)"
            )
        return self._field

    @staticmethod
    def _ohm(field: Field) -> float:
        return 1.0 / field.power_w  # one volt is laid on

    def _reads(self, celsius: Float, power_w: float) -> float:
        """What a thermocouple in the needle shows: the mean of the hotter half of its surface.

        Cubes are coarse beside a thin needle. From a cube's centre to the surface tissue gets
        warmer by sigma U^2 / 2 k, with U the voltage between them: so potential and temperature go
        together around a conductor that takes no heat itself (Kohlrausch).
        """
        assert self._field is not None
        flat, volts = celsius.ravel(), self._field.volts.ravel()
        sigma, k = self._sigma.ravel(), self.scene.conductivity.ravel()
        found = [flat[self._gap]]
        for skin, volt in zip(self._skins, self._volts, strict=True):
            fall_sq = (volt - volts[skin]) ** 2 * power_w / self._field.power_w
            found.append(flat[skin] + sigma[skin] * fall_sq / (2.0 * k[skin]))
        every = np.sort(np.concatenate(found))
        return float(every[len(every) // 2 :].mean())

    def _wanted_w(self, field: Field, look: Look, phase: Phase) -> float:
        """The generator's next power: of the target, unless impedance or a wire says stop."""
        if look.time_s < self._off_until_s:
            return 0.0
        if np.isnan(self._first_ohm):
            self._first_ohm = self._ohm(field)
        if self._ohm(field) - self._first_ohm > min(
            float(facts.value("impedance_rise_ohm")),
            float(facts.value("impedance_rise_share")) * self._first_ohm,
        ):
            self._off_until_s = look.time_s + float(facts.value("roll_off_rest"))
            self.pauses += 1
            return 0.0
        ramp, most = look.ramp(phase, 1.0), 0.0
        if not look.halted:
            most = float(self.device.power_w or facts.value("power_cap_rf"))
        if self.device.target_c is None:
            return most * phase.level * ramp
        body_c = float(thermal.value("blood_temperature"))
        target = body_c + (self.device.target_c - body_c) * phase.level * ramp
        return min(max(self._power_w + self._change_w(field, look, target), 0.0), most)

    def _change_w(self, field: Field, look: Look, target_c: float) -> float:
        """By how much more power the difference is made good in a few seconds.

        Less what the temperature is doing already; some of a change shows at once.
        """
        shown = self._reads(look.celsius, self._power_w)
        jump = self._reads(look.celsius, 1.0) - self._reads(look.celsius, 0.0)  # for each watt
        slow, going = shown - jump * self._power_w, 0.0
        if self._last is not None and look.time_s > self._last[1]:
            going = (slow - self._last[0]) / (look.time_s - self._last[1])
        self._last = (slow, look.time_s)
        skin = self._skin
        warming = field.joule_w_m3.ravel()[skin] / field.power_w / self.scene.capacity.ravel()[skin]
        rate = float(warming.max()) + jump / look.step_s
        settle = max(_SETTLE_S, _SETTLE_STEPS * look.step_s)
        return ((target_c - shown) / settle - going) / max(rate, _SLOWEST)


class Antenna:
    """A microwave antenna: a line that radiates evenly into lossy tissue."""

    pauses = 0

    def __init__(self, scene: Scene, placed: Placed, part: Segment, efficiency: float) -> None:
        self.device, self._efficiency, self._power_w = placed.device, efficiency, 0.0
        h = scene.h_m
        rod = Rod(
            start_m=scene.place(part.start_mm), end_m=scene.place(part.end_mm),
            radius_m=self.device.radius_mm * MM,
        )  # fmt: skip
        points = np.moveaxis(np.indices(scene.grid.shape, np.float64), 0, -1) * h
        r = np.maximum(rod.distance_m(points), rod.radius_m)
        near = r < _LOCAL_M
        damping = float(scene.attenuation[near].mean()) if near.any() else 0.0
        if not damping > 0:
            raise InputError(
                f"{self.device.name} lies in what does not absorb microwaves (gas, cement)"
            )
        shape = np.exp(-2.0 * damping * r) / r * (scene.attenuation > 0)
        self._watt = shape / (float(shape.sum()) * h**3)
        self._core = self._watt >= 0.5 * self._watt.max()

    def heat(self, look: Look, phase: Phase) -> Float:
        """Set the power for the next moments; returns the heat it makes, W/m3."""
        given = 0.0 if look.halted else float(self.device.power_w or 0.0)
        self._power_w = given * phase.level * look.ramp(phase, 0.5)
        out: Float = self._power_w * self._efficiency * self._watt
        return out

    def told(self, celsius: Float) -> Told:
        """Power at the generator, and the temperature beside the antenna."""
        return Told(power_w=self._power_w, surface_c=float(celsius[self._core].max()))


class Probes:
    """All cryoprobes of a plan, each falling to its lowest temperature."""

    def __init__(self, scene: Scene, placed: Sequence[Placed], parts: Sequence[Segment]) -> None:
        h = scene.h_m
        self.devices = [p.device for p in placed]
        self.laid: Laid = lay(
            [
                Rod(
                    start_m=scene.place(s.start_mm), end_m=scene.place(s.end_mm),
                    radius_m=d.radius_mm * MM,
                )
                for d, s in zip(self.devices, parts, strict=True)
            ],
            shape=scene.grid.shape, spacing_m=(h, h, h),
        )  # fmt: skip

    def cold(self, look: Look, phase: Phase, used: Constants) -> tuple[Float, list[Told]]:
        """How cold each held cube is during the next moments, and each probe."""
        body_c = float(thermal.value("blood_temperature"))
        fallen = 1.0 - np.exp(-(look.elapsed_s + look.step_s / 2) / used.time_constant_s)
        out, told = np.zeros(self.laid.held[0].shape), []
        for mask, device in zip(self.laid.held, self.devices, strict=True):
            depth = float(device.coldest_c or 0.0) - body_c
            celsius = body_c + phase.level * depth * float(fallen)
            out[mask] = celsius
            told.append(Told(surface_c=celsius))
        return out, told
