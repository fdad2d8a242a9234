"""How strong a bone is: intact, as it is, with the cement that is planned and that was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from trocar.errors import InputError
from trocar.model.case import Finding, Site
from trocar.model.space import Float, Mask, Volume

BoneState = Literal["intact", "now", "planned", "found"]
BONE_STATES: tuple[BoneState, ...] = ("intact", "now", "planned", "found")


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A number of three runs: the least, that of the mean constants, and the most."""

    low: float
    mean: float
    high: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Bearing:
    """What the bone in one state makes of one load.

    ``load_n`` is the load that is expected, ``failure_n`` the one at which the bone fails by each
    criterion (proportionally larger), ``ratio`` load over failure load by the first criterion: at
    1 and more the bone is expected to break. ``of_intact`` and ``stiffness_of_intact`` are shares
    of what the intact bone bears and how stiff it is. ``weakest_mm`` (LPS) is the middle of the
    part that is nearest to yield, ``weakest_in`` its name. ``cement_used`` is the share of the
    cement's own strength that the load uses, None without cement. For a moment alone loads are in
    N mm and ``stiffness_n_mm`` is None.
    """

    state: BoneState
    load: str
    label: str
    load_n: Spread
    stiffness_n_mm: Spread | None
    failure_n: Mapping[str, Spread]
    ratio: Spread
    of_intact: Spread | None
    stiffness_of_intact: Spread | None
    weakest_mm: Float
    weakest_in: str
    cement_used: Spread | None = None

    @property
    def criterion(self) -> str:
        """The criterion whose failure load makes the ratio."""
        return next(iter(self.failure_n))


@dataclass(frozen=True, eq=False, kw_only=True)
class Strength:
    """How strong the treated bone is, in each state and under each load that is usual for it.

    ``used`` holds for each state, under the first load as expected, the share of the yield strain
    that each voxel of bone uses (1: it yields), ``modulus_mpa`` its stiffness; both on one grid of
    cubes along the bone's axes. Nothing here was compared with this patient's own bone.
    """

    lesion_id: str
    site: Site
    bearings: tuple[Bearing, ...]
    used: Mapping[BoneState, Volume]
    modulus_mpa: Mapping[BoneState, Volume]
    bone: Mask
    law: str
    calibration: str  # method: phantom, internal or none
    voxel_mm: float
    constants: Mapping[str, float | str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def states(self) -> tuple[BoneState, ...]:
        """The states that were computed, from intact to found."""
        return tuple(s for s in BONE_STATES if s in self.used)

    @property
    def loads(self) -> tuple[str, ...]:
        """The loads, the usual one first."""
        return tuple(dict.fromkeys(b.load for b in self.bearings))

    def bearing(self, state: BoneState, load: str = "") -> Bearing:
        """What holds in a state under a load (the first without one)."""
        wanted = load or self.loads[0]
        for one in self.bearings:
            if one.state == state and one.load == wanted:
                return one
        raise InputError(
            f"no strength of state {state!r} under {wanted!r}; there are "
            f"{', '.join(self.states)} under {', '.join(self.loads)}"
        )
