"""How bone gives way: yield by strain or by energy, and what it still bears when it is crushed.

Stiffness is lowered where a limit is passed, and the body solved again. No number of a tissue lives
here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trocar.errors import InputError
from trocar.kernels.elastic import Body, Float, Progress, Solution, principal


@dataclass(frozen=True, eq=False, kw_only=True)
class StrainLimit:
    """Bone yields when its largest or smallest principal strain passes a limit.

    Both limits are numbers above 0, or arrays [slice, row, column]. Called with principal strains
    [3, ...], it says how many times over the limit each voxel is.
    """

    tension: ArrayLike
    compression: ArrayLike

    def __post_init__(self) -> None:
        _check_limit(self.tension, "in tension")
        _check_limit(self.compression, "in compression")

    def __call__(self, strain: Float) -> NDArray[np.float64]:
        """The share of the limit reached; above 1 it has been passed."""
        return np.asarray(
            np.maximum(
                strain[2] / np.asarray(self.tension), -strain[0] / np.asarray(self.compression)
            )
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class EnergyLimit:
    """Bone yields when its effective strain sqrt(2 U / E) passes a limit, whatever the sign.

    U is the strain energy density and E the modulus before damage (Pistoia et al., Bone
    2002;30:842). A yield energy U_y is the limit sqrt(2 U_y / E).
    """

    effective_strain: ArrayLike
    poisson: ArrayLike

    def __post_init__(self) -> None:
        _check_limit(self.effective_strain, "of effective strain")

    def __call__(self, strain: Float) -> NDArray[np.float64]:
        """The share of the limit reached; above 1 it has been passed."""
        nu = np.asarray(self.poisson, float)
        bulk = nu / ((1.0 + nu) * (1.0 - 2.0 * nu)) * strain.sum(axis=0) ** 2
        twice = bulk + (strain**2).sum(axis=0) / (1.0 + nu)  # 2 U / E
        return np.asarray(np.sqrt(twice) / np.asarray(self.effective_strain))


@dataclass(frozen=True, eq=False, kw_only=True)
class Crush:
    """What a body bears while supports are driven into it, step by step.

    ``moved_mm`` is the largest movement of a support at each step, ``load_n`` the force that does
    the same work (the force itself when all move together), ``reaction_n`` [step, 3] the sum of
    reactions of the moved supports along z, y, x. ``yield_share`` is the part of the full
    movement at which the first voxel, ``first_voxel``, reaches its limit. ``stiffness_share`` is
    what is left of each voxel's secant modulus, ``yielded_at`` the step (from 0) at which it
    first gave way, -1 where it never did. ``settled`` says of each step whether stiffness and
    strain agreed in the end. ``last`` is the solution at the last step.
    """

    moved_mm: NDArray[np.float64]
    load_n: NDArray[np.float64]
    reaction_n: NDArray[np.float64]
    yield_share: float
    first_voxel: tuple[int, int, int]
    stiffness_share: NDArray[np.float64]
    yielded_at: NDArray[np.int16]
    settled: NDArray[np.bool_]
    last: Solution

    @property
    def peak_n(self) -> float:
        """The largest load borne at any step."""
        return float(self.load_n.max())


def crush(
    body: Body,
    *,
    moved_mm: Float,
    shares: Sequence[float],
    limit: Callable[[Float], Float],
    hardening: float = 0.0,
    settle: float = 1e-4,
    rounds: int = 40,
    tolerance: float = 1e-6,
    progress: Progress | None = None,
) -> Crush:
    """How much load does the body bear as its supports are driven to ``moved_mm``?

    At each of the rising ``shares`` of that movement the body is solved, each voxel's principal
    strain is put to ``limit`` (see ``StrainLimit``), and where it is r > 1 times over, the
    voxel's modulus falls to (1 + hardening (r - 1)) / r of the first one: with ``hardening`` 0
    its stress stays on the yield surface as strain grows. That is repeated until moduli
    change, weighed by energy, by less than ``settle`` of themselves, at most ``rounds`` times.
    Stiffness lost is not regained: a voxel unloads along its secant. There is no softening, so
    the load levels off rather than falls.

    ``body`` comes undamaged and is left so. Raises InputError as ``Body.solve`` does, for shares
    that do not rise from above 0, and for limits that do not fit the grid.
    """
    steps = np.asarray(shares, float)
    if steps.ndim != 1 or steps.size == 0 or not np.all(np.diff(steps, prepend=0.0) > 0):
        raise InputError(f"steps at shares {shares}; expected rising numbers above 0")
    if rounds < 1:
        raise InputError(f"{rounds} rounds at each step; expected 1 or more")
    if not 0.0 <= hardening < 1.0:
        raise InputError(f"hardening of {hardening}; expected a share of the modulus, 0 to 1")
    young, moved = body.young_mpa, np.asarray(moved_mm, float)
    elastic = body.solve(moved, tolerance=tolerance)
    pushed = body.held & (moved != 0)
    farthest = float(np.abs(moved[pushed]).max(initial=0.0))
    if farthest == 0.0:
        raise InputError("no support is moved; give moved_mm a number other than 0 where held")
    over = _overs(body, limit, elastic.displacement_mm)
    most = float(over.max())
    first = np.unravel_index(int(np.argmax(over)), body.shape)
    if not most > 0.0:
        raise InputError("the movement strains no voxel; check which supports are moved")
    left, at = np.ones(body.shape), np.full(body.shape, -1, np.int16)
    loads, sums, settled = np.zeros(steps.size), np.zeros((steps.size, 3)), []
    guess, done = elastic.displacement_mm * steps[0], elastic
    try:
        for i, share in enumerate(steps):
            held_back, rest = left.copy(), np.inf
            for _ in range(rounds):
                done = body.solve(moved * share, tolerance=tolerance, start_mm=guess)
                guess = done.displacement_mm
                over = _overs(body, limit, guess)
                r = np.maximum(over, 1.0)
                new = np.minimum(held_back, (1.0 + hardening * (r - 1.0)) / r)
                energy = young * left * over**2  # near enough, to weigh what changes
                rest = float((energy * np.abs(new / left - 1.0)).sum() / energy.sum())
                left = new
                if rest <= settle:
                    break
                body.soften(left)
            settled.append(rest <= settle)
            at[(left < 1.0) & (at < 0)] = i
            sums[i] = (done.reaction_n * pushed).sum(axis=(1, 2, 3))
            loads[i] = abs(float((done.reaction_n * moved)[pushed].sum())) / farthest
            if progress is not None:
                progress((i + 1) / steps.size)
            if i + 1 < steps.size:
                guess = guess * (steps[i + 1] / share)
    finally:
        body.soften(1.0)
    return Crush(
        moved_mm=steps * farthest,
        load_n=loads,
        reaction_n=sums,
        yield_share=1.0 / most,
        first_voxel=(int(first[0]), int(first[1]), int(first[2])),
        stiffness_share=left,
        yielded_at=at,
        settled=np.array(settled, np.bool_),
        last=done,
    )


def _overs(body: Body, limit: Callable[[Float], Float], displacement_mm: Float) -> Float:
    """How many times over its limit each kept voxel is, 0 elsewhere."""
    strain = principal(body.strain(displacement_mm))
    try:
        over = np.asarray(limit(strain), float)
    except ValueError as error:
        raise InputError(
            f"the yield limits do not fit a grid of {body.shape} voxels; give numbers or arrays "
            "of that shape"
        ) from error
    if over.shape != body.shape or not np.all(np.isfinite(over[body.kept])):
        raise InputError(
            f"the yield criterion gave shape {over.shape}, or numbers that are not finite; "
            f"expected one number for each of {body.shape} voxels"
        )
    return np.where(body.kept, over, 0.0)


def _check_limit(values: ArrayLike, what: str) -> None:
    limit = np.asarray(values, float)
    if not np.all(np.isfinite(limit)) or not np.all(limit > 0):
        raise InputError(f"a yield limit {what} that is not above 0; give finite strains above 0")
