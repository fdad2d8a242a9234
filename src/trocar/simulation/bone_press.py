"""Press on a bone that is held: where it goes, and at which load it fails by each criterion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trocar.errors import InputError
from trocar.facts import strength as facts
from trocar.facts.strength import LoadCase
from trocar.kernels import elastic
from trocar.model.space import Float
from trocar.model.strength import BoneState
from trocar.simulation.bone_loads import N_MM, Grip
from trocar.simulation.bone_model import Bone, Constants

Bool = NDArray[np.bool_]
Moved = NDArray[np.float64]

_FULL = 0.5  # share of a cube from which it is asked as cement, not as bone
_TOLERANCE = 1e-5  # of the solver; strengths are those of 1e-8 to 0.02 %

PISTOIA, STRAIN, HEIGHT = "effective strain", "yield strain", "stiffness and height"


@dataclass(frozen=True, eq=False, kw_only=True)
class Loaded:
    """One state under one load in one run.

    ``used`` is the share of the yield strain in each cube, ``asked`` the cubes that the criteria
    look at, ``young`` every cube's stiffness, ``loose`` how many cubes hang on nothing.
    """

    load_n: float
    stiffness_n_mm: float | None
    failure_n: Mapping[str, float]
    used: Float
    asked: Bool
    young: Float
    cement_used: float | None
    loose: int


class Specimen:
    """A bone held in one way, for all its states and loads.

    What has been solved at one stiffness serves every load, and is where the next stiffness of the
    same state begins.
    """

    def __init__(self, bone: Bone, grip: Grip) -> None:
        self._bone, self._grip = bone, grip
        self._body: elastic.Body | None = None
        self._state: BoneState = "intact"
        self._young: Float = np.zeros(0)
        self._solved: dict[str, Moved] = {}
        self._before: dict[tuple[BoneState, str], tuple[Moved, float]] = {}

    @property
    def body(self) -> elastic.Body:
        """The bone as it is held, at its present stiffness."""
        assert self._body is not None
        return self._body

    def stiffen(self, state: BoneState, used: Constants) -> None:
        """Take on the stiffness of a state with these constants."""
        young, poisson = self._bone.stiffness(state, used)
        cap = facts.material("cap")
        self._young = np.where(self._grip.cap, float(cap.modulus_mpa), young)
        poisson = np.where(self._grip.cap, float(cap.poisson), poisson)
        if self._body is None:
            spacing = self._bone.grid.spacing_mm
            self._body = elastic.Body(
                self._young, poisson, spacing_mm=spacing, held=self._grip.held
            )
        else:
            self._body.stiffen(self._young, poisson)
        self._state, self._solved = state, {}

    def load(self, case: LoadCase, grip: Grip, weight_kg: float | None) -> Loaded:
        """What it makes of a load; ``grip`` is that of the case, held as this specimen is."""
        if grip.platen is not None:
            u, load, stiffness = self._between_plates(case, grip.platen, weight_kg)
        else:
            u, load, stiffness = self._under_forces(case, grip, weight_kg)
        return self._read(u, load, stiffness, case, grip)

    def _solve(
        self, name: str, *, moved_mm: Float | None = None, force_n: Float | None = None
    ) -> Moved:
        """Solve once at this stiffness, beginning where the state was at the stiffness before."""
        if name not in self._solved:
            # Under forces the softer goes further; pushed by a plate it goes where the plate does.
            soft = 1.0 if force_n is None else float(self._young[self._bone.bone].mean())
            u, before = self._before.get((self._state, name), (None, 1.0))
            found = self.body.solve(
                moved_mm, force_n, tolerance=_TOLERANCE,
                start_mm=None if u is None else u * (before / soft),
            )  # fmt: skip
            self._solved[name] = found.displacement_mm
            self._before[self._state, name] = found.displacement_mm, soft
        return self._solved[name]

    def _between_plates(
        self, case: LoadCase, platen: Bool, weight_kg: float | None
    ) -> tuple[Moved, float, float | None]:
        """A stiff plate pressed down on the vertebra, and bent forward where the case says so.

        Without a moment it stays level; with one it nods freely. Both are sums of two motions, one
        down and one nod.
        """
        rows = np.arange(platen.shape[1]) * self._bone.grid.spacing_mm[1]
        arm = (rows - rows[np.argwhere(platen)[:, 1]].mean())[None, :, None]  # backward
        ways = {"down": np.ones_like(arm)}
        if case.moments:
            ways["nod"] = arm / max(float(np.abs(arm).max()), 1.0)
        motions, holds = [], []
        for name, way in ways.items():
            given = np.zeros((3, *platen.shape))
            given[0] = platen * way
            motions.append(self._solve(name, moved_mm=given))
            hold = self.body.internal_n(motions[-1])[0] * platen
            holds.append([float(hold.sum()), float((hold * arm).sum())])
        force = case.forces[0].newton(weight_kg)
        # About the left axis a force upward at an arm backward turns forward.
        bend = N_MM * sum(float(m.size_nm) * m.about[0] for m in case.moments)
        n = len(motions)
        parts = np.linalg.solve(np.array(holds)[:, :n].T, np.array([-force, bend])[:n])
        u: Moved = sum(part * motion for part, motion in zip(parts, motions, strict=True))
        return u, force, float(force / -parts[0])

    def _under_forces(
        self, case: LoadCase, grip: Grip, weight_kg: float | None
    ) -> tuple[Moved, float, float | None]:
        """Stiffness is the first force over how far its surface goes its way; a twist has none."""
        u = self._solve(case.name, force_n=grip.force_n)
        if grip.pushed is None:
            return u, N_MM * float(case.moments[0].size_nm), None
        nodes, way = grip.pushed
        force = case.forces[0].newton(weight_kg)
        gone = float((u[:, nodes] * way[:, None]).sum(axis=0).mean())
        return u, force, force / gone if gone > 0 else None

    def _read(
        self, u: Moved, load: float, stiffness: float | None, case: LoadCase, grip: Grip
    ) -> Loaded:
        """The criteria: of bone that is neither lesion, cement nor too near to load or support."""
        bone, body, young = self._bone, self.body, self._young
        nowhere = np.zeros_like(bone.bone)
        cement = bone.cement.get(self._state)
        filled = nowhere if cement is None else (cement >= _FULL) & bone.bone
        soft = nowhere if self._state == "intact" else bone.lytic & ~filled
        asked = bone.bone & body.kept & ~soft & ~filled & ~grip.aside
        if not asked.any():
            raise InputError(
                "no bone is left to be asked: all of it is lesion, cement or under a load"
            )
        principal = elastic.principal(body.strain(u))
        used = facts.site(bone.site.kind).strain.used(principal[0], principal[2])
        share = 1.0 - float(facts.value("pistoia_share"))
        # Rounding may leave a whiff below 0 where nothing is strained.
        energy = np.maximum(body.energy_mj(u), 0.0) / float(np.prod(bone.grid.spacing_mm))
        effective = np.sqrt(2.0 * energy[asked] / young[asked])
        failure = {
            PISTOIA: facts.pistoia_load_n(load, float(np.quantile(effective, share))),
            STRAIN: load / float(np.quantile(used[asked], share)),
        }
        if grip.platen is not None and not case.moments and stiffness is not None:
            failure[HEIGHT] = facts.height_load_n(stiffness, _height_mm(grip, bone))
        return Loaded(
            load_n=load,
            stiffness_n_mm=stiffness,
            failure_n=failure,
            used=np.where(bone.bone & body.kept, used, 0.0),
            asked=asked,
            young=young,
            cement_used=_cement_used(body.stress(u), filled, share) if filled.any() else None,
            loose=body.loose_voxels,
        )


def _cement_used(stress: Float, filled: Bool, share: float) -> float:
    """The share of its own strength that all cement but the most stressed uses."""
    pmma = facts.material("pmma")
    assert pmma.compression_mpa is not None
    assert pmma.tension_mpa is not None
    principal = elastic.principal(stress[:, filled])
    most = np.maximum(
        -principal[0] / float(pmma.compression_mpa), principal[2] / float(pmma.tension_mpa)
    )
    return float(np.quantile(np.maximum(most, 0.0), share))


def _height_mm(grip: Grip, bone: Bone) -> float:
    """From plate to plate, where the vertebra's body and its caps lie."""
    slices = np.flatnonzero(grip.held[0].any(axis=(1, 2)))
    return float((slices[-1] - slices[0]) * bone.grid.spacing_mm[0])
