"""How does bone give way under load? Linear elasticity with one stiffness a voxel, and yield.

Each voxel is an eight-node brick with trilinear displacement, integrated exactly, with its own
Young's modulus and Poisson's ratio; a modulus of 0 is void. Fully integrated bricks are too stiff
in bending where only one or two of them lie across a thin plate, and near a Poisson's ratio of
one half. Units are mm, N and MPa, so energy is in mJ.

**Order.** Voxels are [slice, row, column]; nodes are their corners, one more along each axis.
Displacements and forces are [component, slice, row, column] with components along slice, row,
column (z, y, x). Strain and stress are six numbers in the order zz, yy, xx, yx, zx, zy; shear is
the tensor's (half the engineer's angle).

**The product with the stiffness matrix** never forms that matrix. Sums and differences of the
eight nodal values along z, y and x give the modes 1, x, y, z, xy, yz, xz, xyz of each component
(a Walsh-Hadamard transform). There the exactly integrated stiffness of a brick is nearly diagonal
and takes some 60 multiplications. Voxels need not be cubes: twice as long as wide costs a third
more iterations, three times nearly doubles them.

**Solved** by conjugate gradients in float32 whose residual is replaced by the true float64 one
each time it has fallen a thousandfold, so that the last answer is as exact as float64 allows.
Preconditioned by one float32 multigrid cycle: two Chebyshev-Jacobi steps before and after,
trilinear transfer, each coarse voxel with the mean of its eight children's Lame numbers, the
coarsest grid solved outright. The number of iterations stays bounded as contrast grows, down to
void; it grows as Poisson's ratio nears one half, and where struts are as thin as a voxel or two.

Method: Arbenz et al., Int J Numer Methods Eng 2008;73:927 (voxel bone, multigrid); Wu, Dick and
Westermann, IEEE TVCG 2016;22:1195. No number of a tissue lives here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numba import get_num_threads, njit, prange
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.linalg import cho_factor, cho_solve

from trocar.errors import InputError

Float = NDArray[np.floating[Any]]
Bool = NDArray[np.bool_]
Progress = Callable[[float], None]

_SERIAL = 40_000  # voxels; fewer are not worth waking the threads
_COARSEST = 1_000  # displacements of the grid that is solved outright
_STRIDE = 1040  # between scratch rows; a constant, or the loops would not run in lanes
_SPAN = 16 * _STRIDE  # between the scratch rows of two components
_LOWEST, _ABOVE = 0.1, 1.1  # of the smoother: shares of the largest eigenvalue of D^-1 K it damps
_GUESSES = 10  # steps of the Lanczos process that finds that eigenvalue
_REPLACE = 1e-3  # fall of the residual after which the true one takes its place
_WIDEST = 1e12  # ratio of moduli beyond which a voxel is either void or a mistake


@dataclass(frozen=True, eq=False, kw_only=True)
class Solution:
    """Where everything moves, and what the supports carry.

    ``displacement_mm`` and ``reaction_n`` are [component, slice, row, column] of nodes; reactions
    are the forces the supports put in, 0 at free nodes. ``residual`` is the float64 norm of the
    forces out of balance over that of the load. ``loose_voxels`` were left out: no support
    reaches them through voxel faces, and no load either.
    """

    displacement_mm: NDArray[np.float64]
    reaction_n: NDArray[np.float64]
    iterations: int
    residual: float
    loose_voxels: int

    def total_reaction_n(self, nodes: Bool | None = None) -> NDArray[np.float64]:
        """The sum of the reactions along z, y, x: of all supports, or of those at ``nodes``."""
        part = self.reaction_n if nodes is None else self.reaction_n * nodes
        return np.asarray(part.sum(axis=(1, 2, 3)))


class Body:
    """Bone on a grid, held somewhere, ready to be loaded.

    ``young_mpa`` and ``poisson`` are arrays [slice, row, column] or one number; with two numbers
    give ``shape``. ``spacing_mm`` is the voxel's size along slice, row, column. ``held`` is a mask
    [3, slice + 1, row + 1, column + 1] of displacement components that are given rather than
    found; see ``hold``. Held nodes that touch no bone do nothing.

    Only voxels joined through faces hold each other: an edge or a corner alone is a hinge. Pieces
    that no support stops are left out, and ``loose_voxels`` counts them; ``kept`` is the mask of
    the others.

    Raises InputError for shapes that disagree, stiffness that cannot be, no bone at all, and
    supports that leave the largest piece free to move as a rigid body.
    """

    def __init__(
        self,
        young_mpa: ArrayLike,
        poisson: ArrayLike,
        *,
        spacing_mm: Sequence[float],
        held: Bool,
        shape: tuple[int, int, int] | None = None,
    ) -> None:
        self.spacing_mm = _spacing(spacing_mm)
        self.shape = _shape(young_mpa, poisson, shape)
        nodes = tuple(n + 1 for n in self.shape)
        if np.shape(held) != (3, *nodes):
            raise InputError(
                f"the supports have shape {np.shape(held)}; expected {(3, *nodes)}: "
                "three components at every corner of the voxels"
            )
        self._asked = np.ascontiguousarray(held, dtype=np.bool_)
        z, y, x = self.spacing_mm
        self._ratio = np.array([(x / z) ** 2, (x / y) ** 2, 1.0])
        # Displacement in a unit that shrinks as voxels lengthen makes every derivative's factor
        # the square of one number, and the law symmetric.
        self._measure = np.array([x / z, x / y, 1.0]).reshape(3, 1, 1, 1)
        self._unit = z * y * x / (16.0 * x**2)  # of Lame's numbers, in N / mm
        self._levels: list[_Level] = []
        self.stiffen(young_mpa, poisson)

    def stiffen(self, young_mpa: ArrayLike, poisson: ArrayLike) -> None:
        """Give every voxel another stiffness, as after damage or with cement in it."""
        young = _over(young_mpa, self.shape, "Young's modulus")
        ratio = _over(poisson, self.shape, "Poisson's ratio")
        _check_stiffness(young, ratio)
        material = young > 0
        self._material = material
        self.kept = _pieces(material, self._asked, self.spacing_mm)
        self.loose_voxels = int(np.count_nonzero(material) - np.count_nonzero(self.kept))
        self._young, self._poisson = young, ratio
        self._fill(young)

    def _fill(self, young: Float) -> None:
        """Fill in Lame's numbers on every level; which voxels are kept does not change."""
        if not self._levels:
            self._lame, self._shear = np.zeros(self.shape), np.zeros(self.shape)
            self._levels = _empty_levels(self.shape)
        _lame(young, self._poisson, self.kept, self._unit, self._lame, self._shear)
        self._largest = float(self._shear.max())
        fine = self._levels[0]
        np.divide(self._lame, self._largest, out=fine.lame, casting="same_kind")
        np.divide(self._shear, self._largest, out=fine.shear, casting="same_kind")
        _hold_touching(self._asked, fine.shear, fine.held)
        _fill_levels(self._levels, self._ratio)

    def solve(
        self,
        moved_mm: ArrayLike | None = None,
        force_n: Float | None = None,
        *,
        tolerance: float = 1e-8,
        start_mm: Float | None = None,
        most: int = 500,
        progress: Progress | None = None,
    ) -> Solution:
        """Where does everything go when supports are moved and nodes are loaded?

        ``moved_mm`` is what the held components are given (0 without it; read where held alone),
        ``force_n`` the forces on nodes, both [3, slice + 1, row + 1, column + 1]. ``start_mm`` is
        a guess, such as an earlier solution. ``tolerance`` ends the iteration when the forces out
        of balance have fallen to that share of what the load makes on a body at rest.
        ``progress`` hears a number from 0 to 1.

        Raises InputError for a load where there is no bone or on a piece nothing holds, for
        numbers that are not finite, and when ``most`` iterations do not get there.
        """
        if most < 1:
            raise InputError(f"at most {most} iterations; allow one or more")
        if not 0.0 < tolerance < 1.0:
            raise InputError(f"a tolerance of {tolerance}; expected a number between 0 and 1")
        u = self._given(moved_mm)
        g = self._loads(force_n)
        work = _Work(self, u, g, progress)
        scale = work.renew()
        if start_mm is not None:
            guess = self._nodal(start_mm, "the starting displacement") / self._measure
            if not np.all(np.isfinite(guess)):
                raise InputError("the starting displacement is not finite; leave it out")
            if scale > 0.0:
                np.copyto(u, guess, where=self._levels[0].inverse > 0)
        iterations, residual = (0, 0.0) if scale == 0.0 else work.run(scale, tolerance, most)
        u *= self._measure
        reaction = work.out
        reaction -= g if g is not None else 0.0
        reaction *= self._levels[0].held
        reaction /= self._measure
        if not (np.all(np.isfinite(u)) and np.all(np.isfinite(reaction))):
            raise InputError("the displacement is not finite; check the load and the stiffness")
        return Solution(
            displacement_mm=u,
            reaction_n=reaction,
            iterations=iterations,
            residual=residual,
            loose_voxels=self.loose_voxels,
        )

    # --- reading a displacement ------------------------------------------------------------------

    def strain(self, displacement_mm: Float) -> NDArray[np.float64]:
        """Strain at each voxel's centre, which is its mean: [6, slice, row, column], 0 in void.

        Order zz, yy, xx, yx, zx, zy; shear is the tensor's.
        """
        u = self._nodal(displacement_mm, "the displacement")
        out = np.zeros((6, *self.shape))
        over = 1.0 / (4.0 * np.array(self.spacing_mm))
        _strains(u, self.kept, over, out)
        return out

    def stress(self, displacement_mm: Float) -> NDArray[np.float64]:
        """Stress at each voxel's centre, MPa: [6, slice, row, column], ordered as strain is."""
        out = self.strain(displacement_mm)
        lame, shear = self._lame / self._unit, self._shear / self._unit
        pressure = lame * out[:3].sum(axis=0)
        out *= 2.0 * shear
        out[:3] += pressure
        return out

    def energy_mj(self, displacement_mm: Float) -> NDArray[np.float64]:
        """The strain energy each voxel stores, integrated exactly, mJ: [slice, row, column]."""
        w = self._nodal(displacement_mm, "the displacement") / self._measure
        of_lame, of_shear = _brick_stiffness(tuple(self._ratio))
        out = np.zeros(self.shape)
        _energies(w, self._lame, self._shear, of_lame, of_shear, out)
        return out

    def internal_n(self, displacement_mm: Float) -> NDArray[np.float64]:
        """The stiffness matrix times a displacement: what holds every node there, N."""
        w = self._nodal(displacement_mm, "the displacement") / self._measure
        out = np.zeros(w.shape)
        _product(w, self._lame, self._shear, self._ratio, out)
        out /= self._measure
        return out

    # --- checks ----------------------------------------------------------------------------------

    def _nodal(self, values: ArrayLike, what: str) -> NDArray[np.float64]:
        expected = (3, *(n + 1 for n in self.shape))
        if np.shape(values) != expected:
            raise InputError(
                f"{what} has shape {np.shape(values)}; expected {expected}: "
                "three components at every corner of the voxels"
            )
        out: NDArray[np.float64] = np.ascontiguousarray(values, dtype=np.float64)
        return out

    def _given(self, moved_mm: ArrayLike | None) -> NDArray[np.float64]:
        """What the supports are given, and 0 elsewhere; along each axis in its own unit."""
        held = self._levels[0].held
        out = np.zeros(held.shape)
        if moved_mm is None:
            return out
        if np.ndim(moved_mm) == 0:
            raise InputError(
                f"supports moved by {moved_mm} mm in no direction; give [component, slice, row, "
                "column]"
            )
        np.copyto(out, self._nodal(moved_mm, "the movement of the supports"), where=held)
        if not np.all(np.isfinite(out)):
            raise InputError("a support is moved by a number that is not finite; check moved_mm")
        out /= self._measure
        return out

    def _loads(self, force_n: Float | None) -> NDArray[np.float64] | None:
        if force_n is None:
            return None
        f = self._nodal(force_n, "the load")
        if not np.all(np.isfinite(f)):
            raise InputError("the load holds a number that is not finite; check force_n")
        loaded = (f != 0).any(axis=0)
        beside = loaded & ~nodes_of(self.kept)
        if beside.any():
            bare = int(np.count_nonzero(beside & ~nodes_of(self._material)))
            if bare:
                raise InputError(
                    f"{bare} of {int(loaded.sum())} loaded nodes touch no bone; load nodes of "
                    "voxels whose modulus is above 0"
                )
            raise InputError(
                f"{int(beside.sum())} loaded nodes lie on a piece of bone that no support stops; "
                "hold that piece or take its load away"
            )
        return np.asarray(f * self._measure)


class _Work:
    """One solution under way: what is known of it, and the vectors it takes."""

    def __init__(
        self,
        body: Body,
        u: NDArray[np.float64],
        g: NDArray[np.float64] | None,
        progress: Progress | None,
    ) -> None:
        self.body, self.u, self.g, self.progress = body, u, g, progress
        self.levels, self.fine = body._levels, body._levels[0]
        self.out = np.empty_like(u)
        self.ranges = _ranges(body.shape)
        self.parts = np.zeros(3 * self.ranges)
        self.weights = 1.0 / body._measure.ravel() ** 2

    def renew(self, scale: float = 1.0) -> float:
        """The true residual, over ``scale``: its norm, and itself in float32 for the cycle."""
        body = self.body
        _product(self.u, body._lame, body._shear, body._ratio, self.out)
        g = np.zeros((0, 0, 0, 0)) if self.g is None else self.g
        norm = _imbalance(
            g, self.out, self.fine.inverse, self.weights, 1.0 / scale, self.fine.b, self.parts
        )  # fmt: skip
        norm /= scale
        if not np.isfinite(norm):
            raise InputError("forces are not finite; check the load, the supports and stiffness")
        return norm

    def run(self, scale: float, tolerance: float, most: int) -> tuple[int, float]:
        """Conjugate gradients until the residual is small; gives iterations and residual."""
        fine, ranges, parts = self.fine, self.ranges, self.parts
        p, x = np.zeros_like(fine.b), np.zeros_like(fine.b)
        ratio = self.body._ratio.astype(np.float32)
        rest = self.renew(scale)
        top, rho_old, onward = rest, 0.0, False
        goal = max(_REPLACE * rest, 0.9 * tolerance)
        for done in range(most):
            if rest <= tolerance:
                return done, rest
            _cycle(self.levels, 0, ratio)
            rho = _dot(fine.x, fine.b, parts, ranges)
            _onward(p, fine.x, rho / rho_old if onward else 0.0, ranges)
            _product(p, fine.lame, fine.shear, ratio, fine.other)
            bend = _dot(p, fine.other, parts, ranges)
            if not (np.isfinite(rho) and np.isfinite(bend)) or bend <= 0.0 or rho <= 0.0:
                break
            now = _advance(
                x, fine.b, p, fine.other, fine.inverse, self.weights, rho / bend, parts
            )  # fmt: skip
            rho_old, onward = rho, True
            if now <= goal or done + 1 == most:
                _take(self.u, x, scale / self.body._largest, ranges)
                rest = self.renew(scale)
                # Where float32 lost the thread, its last direction is no longer worth following.
                onward = rest <= 2.0 * now
                goal = max(_REPLACE * rest, 0.9 * tolerance)
                now = rest
            if self.progress is not None:
                fall = np.log(max(now, tolerance) / top) / np.log(tolerance / top)
                self.progress(float(np.clip(fall, 0.0, 1.0)))
        if rest <= tolerance:
            return most, rest
        raise InputError(
            f"bone has not come to rest after {done + 1} iterations (residual {rest:.1e}, wanted "
            f"{tolerance:.0e}); allow more, or check for thin or nearly loose parts"
        )


# --- supports and loads --------------------------------------------------------------------------


def nodes_of(voxels: Bool) -> Bool:
    """Which nodes are corners of these voxels? [slice + 1, row + 1, column + 1]."""
    out = np.zeros([n + 1 for n in voxels.shape], np.bool_)
    for k in (slice(None, -1), slice(1, None)):
        for j in (slice(None, -1), slice(1, None)):
            for i in (slice(None, -1), slice(1, None)):
                out[k, j, i] |= voxels
    return out


def face_nodes(shape: tuple[int, int, int], axis: int, end: int) -> Bool:
    """Which nodes lie on a face of the grid? ``axis`` 0, 1, 2 is z, y, x; ``end`` 0 or -1."""
    if axis not in (0, 1, 2) or end not in (0, -1):
        raise InputError(f"face (axis {axis}, end {end}); expected an axis 0..2 and end 0 or -1")
    out = np.zeros([n + 1 for n in shape], np.bool_)
    np.moveaxis(out, axis, 0)[end] = True
    return out


def hold(nodes: Bool, components: Sequence[int] = (0, 1, 2)) -> Bool:
    """Supports at nodes: all three components, or those named (one alone is a roller).

    Join supports with ``|``. Gives [3, slice + 1, row + 1, column + 1].
    """
    out = np.zeros((3, *nodes.shape), np.bool_)
    for component in components:
        out[component] = nodes
    return out


def press(
    voxels: Bool,
    axis: int,
    end: int,
    *,
    force_n: Sequence[float] | None = None,
    traction_mpa: Sequence[float] | None = None,
    spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
) -> NDArray[np.float64]:
    """What does each node bear when a surface is pressed?

    The surface is made of those faces of ``voxels`` that look along ``axis`` (``end`` 0 towards
    its beginning, -1 towards its end) and have none of ``voxels`` beyond them. Either a total
    ``force_n`` (z, y, x) is spread over it evenly by area, or ``traction_mpa`` acts on it; each
    face gives a quarter to its corners. Gives nodal forces in N, [3, slice + 1, row + 1,
    column + 1]. Raises InputError when there is no such face.
    """
    if axis not in (0, 1, 2) or end not in (0, -1):
        raise InputError(f"face (axis {axis}, end {end}); expected an axis 0..2 and end 0 or -1")
    if (force_n is None) == (traction_mpa is None):
        raise InputError("give either a total force or a traction, not both and not neither")
    given = np.asarray(force_n if traction_mpa is None else traction_mpa, float)
    if given.shape != (3,) or not np.all(np.isfinite(given)):
        raise InputError(f"a load of {given.tolist()}; expected three finite numbers (z, y, x)")
    v = np.moveaxis(np.asarray(voxels, np.bool_), axis, 0)
    beyond = np.zeros_like(v)
    if end == 0:
        beyond[1:] = v[:-1]
    else:
        beyond[:-1] = v[1:]
    face = v & ~beyond
    faces = int(np.count_nonzero(face))
    if faces == 0:
        raise InputError("there is no bone to press on; the mask of voxels is empty")
    share = np.zeros([n + 1 for n in v.shape])
    at = slice(None, -1) if end == 0 else slice(1, None)
    for j in (slice(None, -1), slice(1, None)):
        for i in (slice(None, -1), slice(1, None)):
            share[at, j, i] += 0.25 * face
    share = np.moveaxis(share, 0, axis)
    if traction_mpa is None:
        each = given / faces
    else:
        h = _spacing(spacing_mm)
        each = given * (h[0] * h[1] * h[2] / h[axis])
    return np.asarray(each.reshape(3, 1, 1, 1) * share)


# --- principal values ----------------------------------------------------------------------------


def principal(six: Float) -> NDArray[np.float64]:
    """The principal values of strain or stress, ascending: [6, ...] to [3, ...].

    ``six`` is ordered zz, yy, xx, yx, zx, zy. By the trigonometric formula of Smith, Comm ACM
    1961;4:168; of two nearly equal values each is good to about 1e-8 of the largest.
    """
    if np.shape(six)[:1] != (6,):
        raise InputError(f"a tensor of shape {np.shape(six)}; expected six numbers in front")
    flat = np.ascontiguousarray(six, dtype=np.float64).reshape(6, -1)
    out = np.empty((3, flat.shape[1]))
    _principal(flat, out)
    return out.reshape(3, *np.shape(six)[1:])


# --- yield ---------------------------------------------------------------------------------------


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
    young = body._young
    moved = body._nodal(moved_mm, "the movement of the supports")
    pushed = body._asked & (moved != 0)
    farthest = float(np.abs(moved[pushed]).max(initial=0.0))
    if farthest == 0.0:
        raise InputError("no support is moved; give moved_mm a number other than 0 where held")
    elastic = body.solve(moved, tolerance=tolerance)
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
                body._fill(young * left)
            settled.append(rest <= settle)
            at[(left < 1.0) & (at < 0)] = i
            sums[i] = (done.reaction_n * pushed).sum(axis=(1, 2, 3))
            loads[i] = abs(float((done.reaction_n * moved)[pushed].sum())) / farthest
            if progress is not None:
                progress((i + 1) / steps.size)
            if i + 1 < steps.size:
                guess = guess * (steps[i + 1] / share)
    finally:
        body._fill(young)
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


# --- checks of what is given ---------------------------------------------------------------------


def _spacing(spacing_mm: Sequence[float]) -> tuple[float, float, float]:
    h = [float(v) for v in spacing_mm]
    if len(h) != 3 or not all(np.isfinite(v) and v > 0 for v in h):
        raise InputError(f"a spacing of {tuple(h)} mm; expected three numbers above 0")
    return h[0], h[1], h[2]


def _shape(
    young: ArrayLike, poisson: ArrayLike, shape: tuple[int, int, int] | None
) -> tuple[int, int, int]:
    """The grid's shape, from whichever of the three has one."""
    found = tuple(shape or np.shape(young) or np.shape(poisson))
    if len(found) != 3 or min(found) < 1:
        raise InputError(
            f"a grid of shape {found}; expected three numbers above 0: give stiffness as an "
            "array [slice, row, column], or a shape"
        )
    if found[2] > _STRIDE - 16:
        raise InputError(
            f"a grid of {found[2]} columns; expected at most {_STRIDE - 16}: crop to the bone"
        )
    return int(found[0]), int(found[1]), int(found[2])


def _over(values: ArrayLike, shape: tuple[int, int, int], what: str) -> Float:
    """Values for each voxel, without a copy where one number or an array of floats is given."""
    given = np.asarray(values)
    if given.dtype.kind != "f":
        given = given.astype(np.float64)
    if given.shape not in ((), shape):
        raise InputError(f"{what} has shape {given.shape}; expected {shape} or one number")
    return np.broadcast_to(given, shape)


def _check_stiffness(young: Float, poisson: Float) -> None:
    if not np.all(np.isfinite(young)) or young.min() < 0:
        raise InputError("Young's modulus must be finite and not below 0 (void) in every voxel")
    highest = float(young.max())
    if highest == 0.0:
        raise InputError("every voxel is void; give bone a Young's modulus above 0")
    lowest = float(np.min(young, where=young > 0, initial=highest))
    if highest > _WIDEST * lowest:
        raise InputError(
            f"Young's modulus runs from {lowest:.2g} to {highest:.2g} MPa; give 0 where there is "
            "no bone"
        )
    good = (poisson > -1.0) & (poisson < 0.5)
    bad = (young > 0) & ~good
    if bad.any():
        raise InputError(
            f"Poisson's ratio is {float(poisson[bad][0]):.3g} in {int(bad.sum())} voxels; "
            "expected numbers above -1 and below 0.5"
        )


# --- which pieces are held -----------------------------------------------------------------------


def _pieces(material: Bool, held: Bool, spacing_mm: tuple[float, float, float]) -> Bool:
    """The voxels of those pieces, joined through faces, that supports stop in all six motions.

    Raises InputError when the largest piece is not among them.
    """
    label, count = ndimage.label(material)
    sizes = np.bincount(label.ravel(), minlength=count + 1)
    sums, grip = np.zeros((count + 1, 3)), np.zeros((count + 1, 6, 6))
    _centres(label, sums)
    centres = (sums / np.maximum(sizes, 1)[:, None] + 0.5) * np.array(spacing_mm)
    _grip(label, held, centres, np.array(spacing_mm), grip)
    stopped = np.zeros(count + 1, np.int64)  # rigid motions of each piece that supports stop
    some = np.flatnonzero(np.trace(grip, axis1=1, axis2=2) > 0)
    if some.size:
        diagonal = np.einsum("nii->ni", grip[some])
        size = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
        even = grip[some] / (size[:, :, None] * size[:, None, :])
        stopped[some] = (np.linalg.eigvalsh(even) > 1e-9).sum(axis=1)
    stopped[0] = 0
    sizes[0] = 0
    free = 6 - int(stopped[np.argmax(sizes)])
    if free:
        raise InputError(
            f"the supports leave {free} of 6 rigid motions of the largest piece of bone free; "
            "hold more of its nodes or components"
        )
    return np.asarray((stopped == 6)[label])


@njit(cache=True, nogil=True, error_model="numpy")
def _centres(label: Any, sums: Any) -> None:
    nz, ny, nx = label.shape
    for k in range(nz):
        for j in range(ny):
            for i in range(nx):
                one = label[k, j, i]
                sums[one, 0] += k
                sums[one, 1] += j
                sums[one, 2] += i


@njit(cache=True, nogil=True, error_model="numpy")
def _grip(label: Any, held: Any, centres: Any, spacing: Any, grip: Any) -> None:
    """Sum over held components of v v^T, v being what the six rigid motions do to each."""
    nz, ny, nx = label.shape
    seen, v, at = np.zeros(8, np.int64), np.zeros(6), np.zeros(3)
    for k in range(nz + 1):
        for j in range(ny + 1):
            for i in range(nx + 1):
                if not (held[0, k, j, i] or held[1, k, j, i] or held[2, k, j, i]):
                    continue
                count = 0
                for c in range(max(k - 1, 0), min(k + 1, nz)):
                    for b in range(max(j - 1, 0), min(j + 1, ny)):
                        for a in range(max(i - 1, 0), min(i + 1, nx)):
                            one = label[c, b, a]
                            new = one > 0
                            for s in range(count):
                                new = new and seen[s] != one
                            if new:
                                seen[count] = one
                                count += 1
                for s in range(count):
                    one = seen[s]
                    at[0] = k * spacing[0] - centres[one, 0]
                    at[1] = j * spacing[1] - centres[one, 1]
                    at[2] = i * spacing[2] - centres[one, 2]
                    for d in range(3):
                        if not held[d, k, j, i]:
                            continue
                        v[:] = 0.0
                        v[d] = 1.0
                        e, f = (d + 1) % 3, (d + 2) % 3
                        v[3 + e] = at[f]
                        v[3 + f] = -at[e]
                        for p in range(6):
                            for q in range(6):
                                grip[one, p, q] += v[p] * v[q]


# --- levels --------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Level:
    """One grid of the multigrid: Lame's numbers of its voxels and the vectors of its nodes."""

    lame: NDArray[np.float32]
    shear: NDArray[np.float32]
    held: Bool
    inverse: NDArray[np.float32]  # of K's diagonal; 0 where held or void
    b: NDArray[np.float32]
    x: NDArray[np.float32]
    other: NDArray[np.float32]
    step: NDArray[np.float32]
    weights: tuple[float, float, float] = (0.0, 0.0, 0.0)
    live: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, np.intp))
    solved: NDArray[np.float64] | None = None  # the inverse of K at the live displacements

    @classmethod
    def empty(cls, shape: tuple[int, int, int]) -> _Level:
        nodes = (3, *(n + 1 for n in shape))

        def vector() -> NDArray[np.float32]:
            return np.zeros(nodes, np.float32)

        return cls(
            lame=np.zeros(shape, np.float32),
            shear=np.zeros(shape, np.float32),
            held=np.zeros(nodes, np.bool_),
            inverse=vector(),
            b=vector(),
            x=vector(),
            other=vector(),
            step=vector(),
        )


def _empty_levels(shape: tuple[int, int, int]) -> list[_Level]:
    """Grids of half as many voxels each, down to one that can be solved outright."""
    levels = [_Level.empty(shape)]
    while levels[-1].b.size > _COARSEST:
        z, y, x = ((n + 1) // 2 for n in levels[-1].lame.shape)
        levels.append(_Level.empty((z, y, x)))
    return levels


def _fill_levels(levels: list[_Level], ratio: NDArray[np.float64]) -> None:
    """Coarse voxels, diagonals, the smoother's weights and the coarsest grid's inverse."""
    single = ratio.astype(np.float32)
    for above, below in pairwise(levels):
        _coarsen(above.lame, above.shear, below.lame, below.shear)
        _coarsen_held(above.held, above.shear, below.held)
    for level in levels:
        _invert_diagonal(level.lame, level.shear, level.held, ratio, level.inverse)
    for level in levels[:-1]:
        level.weights = _smoother(_largest_eigenvalue(level, single))
    _solve_outright(levels[-1], ratio)


def _largest_eigenvalue(level: _Level, ratio: NDArray[np.float32]) -> float:
    """The largest eigenvalue of D^-1 K, by the Lanczos process inside conjugate gradients."""
    ranges = _ranges(level.lame.shape)
    parts, weights = np.zeros(3 * ranges), np.ones(3)
    _noise(level.b, level.inverse)
    r, p, q, z = level.b, level.x, level.other, level.step
    none = np.zeros((0, 0, 0, 0), np.float32)
    along, onward, rho_old = [], [0.0], 0.0
    for i in range(_GUESSES):
        _first(r, level.inverse, 1.0, z, p if i == 0 else none, ranges)
        rho = _dot(z, r, parts, ranges)
        if not rho > 0.0:
            break
        if i > 0:
            onward.append(rho / rho_old)
            _onward(p, z, onward[-1], ranges)
        _product(p, level.lame, level.shear, ratio, q)
        bend = _dot(p, q, parts, ranges)
        if not bend > 0.0:
            break
        along.append(rho / bend)
        rho_old = rho
        _advance(none, r, p, q, level.inverse, weights, along[-1], parts)
    if not along:
        return 1.0
    a, b = np.array(along), np.array(onward[: len(along)])
    diagonal = 1.0 / a
    diagonal[1:] += b[1:] / a[:-1]
    beside = np.sqrt(b[1:]) / a[:-1]
    return float(
        np.linalg.eigvalsh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))[-1]
    )


def _smoother(largest: float) -> tuple[float, float, float]:
    """Of two Chebyshev steps: what the residual weighs in each, and the last step in the second."""
    high, low = _ABOVE * largest, _LOWEST * largest
    middle, half = (high + low) / 2, (high - low) / 2
    rho0 = half / middle
    rho1 = 1.0 / (2.0 * middle / half - rho0)
    return 1.0 / middle, 2.0 * rho1 / half, rho1 * rho0


@lru_cache(maxsize=8)
def _brick_stiffness(ratio: tuple[float, ...]) -> tuple[Float, Float]:
    """What Lame's two numbers weigh in a brick's 24 x 24 stiffness: components, then corners."""
    one, none = np.ones((1, 1, 1)), np.zeros((1, 1, 1))
    out = np.zeros((2, 24, 24))
    for i in range(24):
        u, f = np.zeros((3, 2, 2, 2)), np.zeros((3, 2, 2, 2))
        u.flat[i] = 1.0
        for k, (lame, shear) in enumerate(((one, none), (none, one))):
            _product(u, lame, shear, np.array(ratio), f)
            out[k, :, i] = f.ravel()
    return out[0], out[1]


def _solve_outright(level: _Level, ratio: NDArray[np.float64]) -> None:
    """Invert the coarsest stiffness; a little is added where nothing may hold a piece of it."""
    of_lame, of_shear = _brick_stiffness(tuple(ratio))
    k = np.zeros((level.b.size, level.b.size))
    _assemble(level.lame, level.shear, of_lame, of_shear, k)
    level.live = np.flatnonzero(level.inverse.ravel() > 0)
    k = k[np.ix_(level.live, level.live)]
    k[np.diag_indices_from(k)] *= 1.0 + 1e-7
    level.solved = np.zeros_like(k)
    if k.size:
        level.solved = cho_solve(cho_factor(k, lower=True), np.eye(len(k)))


def _cycle(levels: list[_Level], i: int, ratio: NDArray[np.float32]) -> None:
    """One V-cycle on level i for its right-hand side ``b``; the result is its ``x``."""
    level = levels[i]
    if level.solved is not None:
        level.x.reshape(-1)[level.live] = level.solved @ level.b.reshape(-1)[level.live]
        return
    ranges, below = _ranges(level.lame.shape), levels[i + 1]
    first, second, again = level.weights
    inverse, b, x, other = level.inverse, level.b, level.x, level.other
    _first(b, inverse, first, level.step, x, ranges)
    _product(x, level.lame, level.shear, ratio, other)
    _onto(b, other, inverse, again, second, level.step, x, ranges)
    _product(x, level.lame, level.shear, ratio, other)
    _rest(b, other, inverse, ranges)
    _restrict(other, below.b, ranges)
    _cycle(levels, i + 1, ratio)
    _prolong(below.x, x, inverse, ranges)
    for last, weight in ((0.0, first), (again, second)):
        _product(x, level.lame, level.shear, ratio, other)
        _onto(b, other, inverse, last, weight, level.step, x, ranges)


def warm() -> None:
    """Compile everything, so that the first use is quick."""
    for n in (8, 36):  # few voxels run on one thread, many on all
        shape = (n, n, n)
        bottom, top = face_nodes(shape, 0, 0), face_nodes(shape, 0, -1)
        body = Body(1.0, 0.25, spacing_mm=(1.0, 1.0, 1.0), held=hold(bottom), shape=shape)
        push = 1.0 * hold(top, [0])
        u = body.solve(force_n=push, tolerance=1e-3).displacement_mm
        principal(body.stress(u))
        body.energy_mj(u)


def _ranges(shape: tuple[int, ...]) -> int:
    """Into how many ranges a pass is cut: one runs on this thread alone."""
    return 1 if int(np.prod(shape)) < _SERIAL else int(get_num_threads())


# --- compiled: the product with the stiffness matrix ---------------------------------------------
#
# One slab of voxels at a time, in it one row of voxels along x at a time. Scratch rows of each
# component, _STRIDE apart:
#    0,  1      sum and difference along z at the row of nodes last read
#    2 ..  5    the same after sum and difference along y: ss, sd, ds, dd (z first)
#    6 ..  8    what a voxel does to its left nodes: sd, ds, dd
#    9 .. 12    to its right nodes, one place further on: ss, sd, ds, dd (left of ss is its minus)
#   13, 14      what the row of voxels before did to the row of nodes: s, d
# Every inner loop runs over range() and reads at a constant plus x, so that it runs in lanes.


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _gather(rows: Any, u: Any, k: int, j: int) -> None:
    """Sums and differences along z and y, with a new row of nodes."""
    for a in range(3):
        s = rows[a * _SPAN : (a + 1) * _SPAN]
        below, above = u[a, k, j], u[a, k + 1, j]
        for x in range(below.size):
            t, d = below[x] + above[x], above[x] - below[x]
            t0, d0 = s[x], s[_STRIDE + x]
            s[2 * _STRIDE + x] = t0 + t
            s[3 * _STRIDE + x] = t - t0
            s[4 * _STRIDE + x] = d0 + d
            s[5 * _STRIDE + x] = d - d0
            s[x] = t
            s[_STRIDE + x] = d


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _scatter(rows: Any, carry: Any, out: Any, k: int, j: int) -> None:
    """Back along x, y and z: the nodes below are done, those above wait in ``carry``."""
    for a in range(3):
        s = rows[a * _SPAN : (a + 1) * _SPAN]
        below, above = out[a, k, j], carry[a, j]
        for x in range(below.size):
            ss = s[9 * _STRIDE + x] - s[9 * _STRIDE + x + 1]
            sd = s[6 * _STRIDE + x] + s[10 * _STRIDE + x]
            ds = s[7 * _STRIDE + x] + s[11 * _STRIDE + x]
            dd = s[8 * _STRIDE + x] + s[12 * _STRIDE + x]
            t = s[13 * _STRIDE + x] + (ss - sd)
            d = s[14 * _STRIDE + x] + (ds - dd)
            s[13 * _STRIDE + x] = ss + sd
            s[14 * _STRIDE + x] = ds + dd
            below[x] = above[x] + (t - d)
            above[x] = t + d


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _law(s: Any, lames: Any, shears: Any, k: int, j: int, az: Any, ay: Any, ax: Any) -> None:
    """The modes of a row of voxels to the forces on them, and those back along x.

    ``z_xy`` is mode xy of component z, ``gz_xy`` its force. A factor a_i = (h_x / h_i)^2 stands
    for every derivative along i.
    """
    third = s.dtype.type(1.0 / 3.0)
    two = s.dtype.type(2.0)
    lame, shear = lames[k, j], shears[k, j]
    for x in range(lame.size):
        l, m = lame[x], shear[x]
        z_x = s[2 * _STRIDE + x + 1] - s[2 * _STRIDE + x]
        a, b = s[3 * _STRIDE + x], s[3 * _STRIDE + x + 1]
        z_y, z_xy = a + b, b - a
        a, b = s[4 * _STRIDE + x], s[4 * _STRIDE + x + 1]
        z_z, z_xz = a + b, b - a
        a, b = s[5 * _STRIDE + x], s[5 * _STRIDE + x + 1]
        z_yz, z_xyz = a + b, b - a
        y_x = s[_SPAN + 2 * _STRIDE + x + 1] - s[_SPAN + 2 * _STRIDE + x]
        a, b = s[_SPAN + 3 * _STRIDE + x], s[_SPAN + 3 * _STRIDE + x + 1]
        y_y, y_xy = a + b, b - a
        a, b = s[_SPAN + 4 * _STRIDE + x], s[_SPAN + 4 * _STRIDE + x + 1]
        y_z, y_xz = a + b, b - a
        a, b = s[_SPAN + 5 * _STRIDE + x], s[_SPAN + 5 * _STRIDE + x + 1]
        y_yz, y_xyz = a + b, b - a
        x_x = s[2 * _SPAN + 2 * _STRIDE + x + 1] - s[2 * _SPAN + 2 * _STRIDE + x]
        a, b = s[2 * _SPAN + 3 * _STRIDE + x], s[2 * _SPAN + 3 * _STRIDE + x + 1]
        x_y, x_xy = a + b, b - a
        a, b = s[2 * _SPAN + 4 * _STRIDE + x], s[2 * _SPAN + 4 * _STRIDE + x + 1]
        x_z, x_xz = a + b, b - a
        a, b = s[2 * _SPAN + 5 * _STRIDE + x], s[2 * _SPAN + 5 * _STRIDE + x + 1]
        x_yz, x_xyz = a + b, b - a
        # linear: strain that is the same throughout
        t = l * (az * z_z + ay * y_y + ax * x_x)
        mm = two * m
        gz_z = az * (t + mm * az * z_z)
        gy_y = ay * (t + mm * ay * y_y)
        gx_x = ax * (t + mm * ax * x_x)
        gzy = az * ay * m * (z_y + y_z)
        gzx = az * ax * m * (z_x + x_z)
        gyx = ay * ax * m * (y_x + x_y)
        # bilinear: bending and torsion
        l3, m3 = l * third, m * third
        t = l3 * (ax * x_xy + az * z_yz)
        gx_xy = ax * (t + m3 * (two * ax + ay) * x_xy)
        gz_yz = az * (t + m3 * (two * az + ay) * z_yz)
        t = l3 * (ax * x_xz + ay * y_yz)
        gx_xz = ax * (t + m3 * (two * ax + az) * x_xz)
        gy_yz = ay * (t + m3 * (two * ay + az) * y_yz)
        t = l3 * (ay * y_xy + az * z_xz)
        gy_xy = ay * (t + m3 * (two * ay + ax) * y_xy)
        gz_xz = az * (t + m3 * (two * az + ax) * z_xz)
        p, q, r = x_yz + y_xz, x_yz + z_xy, y_xz + z_xy
        gx_yz = m3 * ax * (ay * p + az * q)
        gy_xz = m3 * ay * (ax * p + az * r)
        gz_xy = m3 * az * (ax * q + ay * r)
        # trilinear
        l9, m9 = l3 * third, m3 * third
        gx_xyz = ax * ((l9 + two * m9) * ax + m9 * (ay + az)) * x_xyz
        gy_xyz = ay * ((l9 + two * m9) * ay + m9 * (ax + az)) * y_xyz
        gz_xyz = az * ((l9 + two * m9) * az + m9 * (ax + ay)) * z_xyz
        # back along x
        s[9 * _STRIDE + x + 1] = gzx
        s[6 * _STRIDE + x] = gzy - gz_xy
        s[10 * _STRIDE + x + 1] = gzy + gz_xy
        s[7 * _STRIDE + x] = gz_z - gz_xz
        s[11 * _STRIDE + x + 1] = gz_z + gz_xz
        s[8 * _STRIDE + x] = gz_yz - gz_xyz
        s[12 * _STRIDE + x + 1] = gz_yz + gz_xyz
        s[_SPAN + 9 * _STRIDE + x + 1] = gyx
        s[_SPAN + 6 * _STRIDE + x] = gy_y - gy_xy
        s[_SPAN + 10 * _STRIDE + x + 1] = gy_y + gy_xy
        s[_SPAN + 7 * _STRIDE + x] = gzy - gy_xz
        s[_SPAN + 11 * _STRIDE + x + 1] = gzy + gy_xz
        s[_SPAN + 8 * _STRIDE + x] = gy_yz - gy_xyz
        s[_SPAN + 12 * _STRIDE + x + 1] = gy_yz + gy_xyz
        s[2 * _SPAN + 9 * _STRIDE + x + 1] = gx_x
        s[2 * _SPAN + 6 * _STRIDE + x] = gyx - gx_xy
        s[2 * _SPAN + 10 * _STRIDE + x + 1] = gyx + gx_xy
        s[2 * _SPAN + 7 * _STRIDE + x] = gzx - gx_xz
        s[2 * _SPAN + 11 * _STRIDE + x + 1] = gzx + gx_xz
        s[2 * _SPAN + 8 * _STRIDE + x] = gx_yz - gx_xyz
        s[2 * _SPAN + 12 * _STRIDE + x + 1] = gx_yz + gx_xyz


@njit(cache=True, nogil=True, error_model="numpy")
def _product_planes(
    u: Any, lame: Any, shear: Any, ratio: Any, out: Any, first: int, last: int
) -> None:
    """out = K u in planes of nodes first .. last - 1; the slab before them is done again."""
    nz, ny, nx = lame.shape
    n = nx + 1
    rows = np.empty(3 * _SPAN, u.dtype)
    carry = np.zeros((3, ny + 1, n), u.dtype)
    az, ay, ax = ratio[0], ratio[1], ratio[2]
    for a in range(3):
        for r in range(6, 13):
            rows[a * _SPAN + r * _STRIDE] = 0.0
            rows[a * _SPAN + r * _STRIDE + nx] = 0.0
        rows[a * _SPAN + 9 * _STRIDE + nx + 1] = 0.0
    for k in range(max(first - 1, 0), min(last, nz)):
        at = max(k, first)  # what the slab before writes there is written over
        for a in range(3):
            for x in range(n):
                rows[a * _SPAN + x] = 0.0
                rows[a * _SPAN + _STRIDE + x] = 0.0
                rows[a * _SPAN + 13 * _STRIDE + x] = 0.0
                rows[a * _SPAN + 14 * _STRIDE + x] = 0.0
        _gather(rows, u, k, 0)
        for j in range(ny):
            _gather(rows, u, k, j + 1)
            _law(rows, lame, shear, k, j, az, ay, ax)
            _scatter(rows, carry, out, at, j)
        for a in range(3):
            for x in range(n):
                t = rows[a * _SPAN + 13 * _STRIDE + x]
                d = rows[a * _SPAN + 14 * _STRIDE + x]
                out[a, at, ny, x] = carry[a, ny, x] + (t - d)
                carry[a, ny, x] = t + d
    if last == nz + 1:
        for a in range(3):
            for j in range(ny + 1):
                for x in range(n):
                    out[a, nz, j, x] = carry[a, j, x]


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _product_parallel(u: Any, lame: Any, shear: Any, ratio: Any, out: Any, ranges: int) -> None:
    n = u.shape[1]
    for i in prange(ranges):
        _product_planes(u, lame, shear, ratio, out, n * i // ranges, n * (i + 1) // ranges)


def _product(u: Any, lame: Any, shear: Any, ratio: Any, out: Any) -> None:
    """out = K u, in the precision of its arguments."""
    ranges = min(_ranges(lame.shape), lame.shape[0])
    if ranges == 1:
        _product_planes(u, lame, shear, ratio, out, 0, u.shape[1])
    else:
        _product_parallel(u, lame, shear, ratio, out, ranges)


# --- compiled: vectors ---------------------------------------------------------------------------
#
# Each comes as a stretch of numbers that one thread does, and as a pass over all of them.


@njit(cache=True, nogil=True, error_model="numpy")
def _first_part(b: Any, inverse: Any, weight: Any, step: Any, x: Any, lo: int, hi: int) -> None:
    b, inverse, step, x = b[lo:hi], inverse[lo:hi], step[lo:hi], x[lo:hi]
    for i in range(b.size):
        step[i] = weight * inverse[i] * b[i]
    if x.size > 0:
        for i in range(b.size):
            x[i] = step[i]


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _onto_part(
    b: Any, q: Any, inverse: Any, again: Any, weight: Any, step: Any, x: Any, lo: int, hi: int
) -> None:
    b, q, inverse, step, x = b[lo:hi], q[lo:hi], inverse[lo:hi], step[lo:hi], x[lo:hi]
    if again == 0.0:
        for i in range(b.size):
            step[i] = weight * inverse[i] * (b[i] - q[i])
            x[i] += step[i]
    else:
        for i in range(b.size):
            step[i] = weight * inverse[i] * (b[i] - q[i]) + again * step[i]
            x[i] += step[i]


@njit(cache=True, nogil=True, error_model="numpy")
def _rest_part(b: Any, q: Any, inverse: Any, lo: int, hi: int) -> None:
    b, q, inverse = b[lo:hi], q[lo:hi], inverse[lo:hi]
    none = b.dtype.type(0.0)
    for i in range(b.size):
        q[i] = b[i] - q[i] if inverse[i] > none else none


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
def _dot_part(a: Any, b: Any, lo: int, hi: int) -> float:
    a, b = a[lo:hi], b[lo:hi]
    total = 0.0
    for i in range(a.size):
        total += np.float64(a[i]) * np.float64(b[i])
    return total


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _onward_part(p: Any, z: Any, beta: Any, lo: int, hi: int) -> None:
    p, z = p[lo:hi], z[lo:hi]
    for i in range(p.size):
        p[i] = z[i] + beta * p[i]


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
def _advance_part(
    x: Any, r: Any, p: Any, q: Any, inverse: Any, along: Any, lo: int, hi: int
) -> float:
    x, r, p, q, inverse = x[lo:hi], r[lo:hi], p[lo:hi], q[lo:hi], inverse[lo:hi]
    none = r.dtype.type(0.0)
    total = 0.0
    for i in range(r.size):
        r[i] = r[i] - along * q[i] if inverse[i] > none else none
        total += np.float64(r[i]) * np.float64(r[i])
    if x.size > 0:
        for i in range(r.size):
            x[i] += along * p[i]
    return total


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
def _imbalance_part(g: Any, q: Any, inverse: Any, factor: float, b: Any, lo: int, hi: int) -> float:
    q, inverse, b = q[lo:hi], inverse[lo:hi], b[lo:hi]
    total = 0.0
    if g.size == 0:
        for i in range(b.size):
            r = -q[i] if inverse[i] > 0.0 else 0.0
            b[i] = r * factor
            total += r * r
    else:
        g = g[lo:hi]
        for i in range(b.size):
            r = g[i] - q[i] if inverse[i] > 0.0 else 0.0
            b[i] = r * factor
            total += r * r
    return total


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _take_part(u: Any, x: Any, factor: float, lo: int, hi: int) -> None:
    u, x = u[lo:hi], x[lo:hi]
    for i in range(u.size):
        u[i] += factor * x[i]
        x[i] = 0.0


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _first_parallel(b: Any, inverse: Any, weight: Any, step: Any, x: Any, ranges: int) -> None:
    for k in prange(ranges):
        lo, hi = b.size * k // ranges, b.size * (k + 1) // ranges
        _first_part(b, inverse, weight, step, x, lo, hi)


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _onto_parallel(
    b: Any, q: Any, inverse: Any, again: Any, weight: Any, step: Any, x: Any, ranges: int
) -> None:
    for k in prange(ranges):
        lo, hi = b.size * k // ranges, b.size * (k + 1) // ranges
        _onto_part(b, q, inverse, again, weight, step, x, lo, hi)


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _rest_parallel(b: Any, q: Any, inverse: Any, ranges: int) -> None:
    for k in prange(ranges):
        _rest_part(b, q, inverse, b.size * k // ranges, b.size * (k + 1) // ranges)


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _dot_parallel(a: Any, b: Any, parts: Any, ranges: int) -> None:
    for k in prange(ranges):
        parts[k] = _dot_part(a, b, a.size * k // ranges, a.size * (k + 1) // ranges)


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _onward_parallel(p: Any, z: Any, beta: Any, ranges: int) -> None:
    for k in prange(ranges):
        _onward_part(p, z, beta, p.size * k // ranges, p.size * (k + 1) // ranges)


@njit(cache=True, nogil=True, error_model="numpy")
def _advance_one(
    x: Any, r: Any, p: Any, q: Any, inverse: Any, weights: Any, along: Any, parts: Any, k: int
) -> None:
    ranges, n = parts.size // 3, r.size // 3
    a, i = k // ranges, k % ranges
    lo, hi = a * n + n * i // ranges, a * n + n * (i + 1) // ranges
    parts[k] = weights[a] * _advance_part(x, r, p, q, inverse, along, lo, hi)


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _advance_parallel(
    x: Any, r: Any, p: Any, q: Any, inverse: Any, weights: Any, along: Any, parts: Any
) -> None:
    for k in prange(parts.size):
        _advance_one(x, r, p, q, inverse, weights, along, parts, k)


@njit(cache=True, nogil=True, error_model="numpy")
def _imbalance_one(
    g: Any, q: Any, inverse: Any, weights: Any, factor: float, b: Any, parts: Any, k: int
) -> None:
    ranges, n = parts.size // 3, b.size // 3
    a, i = k // ranges, k % ranges
    lo, hi = a * n + n * i // ranges, a * n + n * (i + 1) // ranges
    parts[k] = weights[a] * _imbalance_part(g, q, inverse, factor, b, lo, hi)


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _imbalance_parallel(
    g: Any, q: Any, inverse: Any, weights: Any, factor: float, b: Any, parts: Any
) -> None:
    for k in prange(parts.size):
        _imbalance_one(g, q, inverse, weights, factor, b, parts, k)


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _take_parallel(u: Any, x: Any, factor: float, ranges: int) -> None:
    for k in prange(ranges):
        _take_part(u, x, factor, u.size * k // ranges, u.size * (k + 1) // ranges)


def _first(b: Any, inverse: Any, weight: float, step: Any, x: Any, ranges: int) -> None:
    """step = x = weight D^-1 b; an empty ``x`` is left out."""
    flat = (b.reshape(-1), inverse.reshape(-1), np.float32(weight), step.reshape(-1), x.reshape(-1))
    if ranges == 1:
        _first_part(*flat, 0, b.size)
    else:
        _first_parallel(*flat, ranges)


def _onto(
    b: Any, q: Any, inverse: Any, again: float, weight: float, step: Any, x: Any, ranges: int
) -> None:
    """step = weight D^-1 (b - q) + again step; x += step."""
    flat = (
        b.reshape(-1), q.reshape(-1), inverse.reshape(-1), np.float32(again), np.float32(weight),
        step.reshape(-1), x.reshape(-1),
    )  # fmt: skip
    if ranges == 1:
        _onto_part(*flat, 0, b.size)
    else:
        _onto_parallel(*flat, ranges)


def _rest(b: Any, q: Any, inverse: Any, ranges: int) -> None:
    """q = b - q where free, else 0."""
    flat = b.reshape(-1), q.reshape(-1), inverse.reshape(-1)
    if ranges == 1:
        _rest_part(*flat, 0, b.size)
    else:
        _rest_parallel(*flat, ranges)


def _dot(a: Any, b: Any, parts: Any, ranges: int) -> float:
    if ranges == 1:
        return float(_dot_part(a.reshape(-1), b.reshape(-1), 0, a.size))
    _dot_parallel(a.reshape(-1), b.reshape(-1), parts, ranges)
    return float(parts[:ranges].sum())


def _onward(p: Any, z: Any, beta: float, ranges: int) -> None:
    """p = z + beta p."""
    flat = p.reshape(-1), z.reshape(-1), np.float32(beta)
    if ranges == 1:
        _onward_part(*flat, 0, p.size)
    else:
        _onward_parallel(*flat, ranges)


def _advance(
    x: Any, r: Any, p: Any, q: Any, inverse: Any, weights: Any, along: float, parts: Any
) -> float:
    """x += along p; r -= along q where free; the norm of r. An empty ``x`` is left out.

    ``parts`` has three numbers for each range of a component.
    """
    flat = (
        x.reshape(-1), r.reshape(-1), p.reshape(-1), q.reshape(-1), inverse.reshape(-1), weights,
        np.float32(along), parts,
    )  # fmt: skip
    if parts.size == 3:
        for k in range(3):
            _advance_one(*flat, k)
    else:
        _advance_parallel(*flat)
    return float(np.sqrt(parts.sum()))


def _imbalance(
    g: Any, q: Any, inverse: Any, weights: Any, factor: float, b: Any, parts: Any
) -> float:
    """b = factor (g - q) where free; the norm of g - q. An empty ``g`` is 0."""
    flat = (
        g.reshape(-1), q.reshape(-1), inverse.reshape(-1), weights, factor, b.reshape(-1), parts,
    )  # fmt: skip
    if parts.size == 3:
        for k in range(3):
            _imbalance_one(*flat, k)
    else:
        _imbalance_parallel(*flat)
    return float(np.sqrt(parts.sum()))


def _take(u: Any, x: Any, factor: float, ranges: int) -> None:
    """u += factor x; x = 0."""
    flat = u.reshape(-1), x.reshape(-1), factor
    if ranges == 1:
        _take_part(*flat, 0, u.size)
    else:
        _take_parallel(*flat, ranges)


@njit(cache=True, nogil=True, error_model="numpy")
def _noise(b: Any, inverse: Any) -> None:
    """The same random numbers each time, where free; scaled so that D^-1 b is even."""
    flat, over = b.reshape(-1), inverse.reshape(-1)
    state = np.uint32(12345)
    for i in range(flat.size):
        state = np.uint32(state * np.uint32(1664525) + np.uint32(1013904223))
        even = np.float32(state >> np.uint32(8)) / np.float32(8388608.0) - np.float32(1.0)
        flat[i] = even / np.sqrt(over[i]) if over[i] > 0.0 else 0.0


# --- compiled: between levels --------------------------------------------------------------------


@njit(cache=True, nogil=True, error_model="numpy")
def _add_row(t: Any, row: Any, weight: Any) -> None:
    for x in range(row.size):
        t[x] += weight * row[x]


@njit(cache=True, nogil=True, error_model="numpy")
def _restrict_planes(r: Any, out: Any, first: int, last: int) -> None:
    """Coarse b = transpose of trilinear interpolation of r; fine rows are joined first."""
    n, my, mx = r.shape[3], out.shape[2], out.shape[3]
    t = np.zeros(2 * mx + 1, r.dtype)  # one place before the first node, up to past the last
    half = r.dtype.type(0.5)
    one = r.dtype.type(1.0)
    for k in range(first, last):
        for a in range(3):
            for j in range(my):
                t[:] = 0.0
                for c in range(max(2 * k - 1, 0), min(2 * k + 2, r.shape[1])):
                    for b in range(max(2 * j - 1, 0), min(2 * j + 2, r.shape[2])):
                        weight = (one if c == 2 * k else half) * (one if b == 2 * j else half)
                        _add_row(t[1 : n + 1], r[a, c, b], weight)
                row = out[a, k, j]
                for i in range(mx):
                    row[i] = t[2 * i + 1] + half * (t[2 * i] + t[2 * i + 2])


@njit(cache=True, nogil=True, error_model="numpy")
def _prolong_planes(coarse: Any, x: Any, inverse: Any, first: int, last: int) -> None:
    """x += trilinear interpolation of the coarse correction, where free."""
    ny, n, mx = x.shape[2], x.shape[3], coarse.shape[3]
    t = np.zeros(mx, x.dtype)
    half, one, none = x.dtype.type(0.5), x.dtype.type(1.0), x.dtype.type(0.0)
    for a in range(3):
        for k in range(first, last):
            for j in range(ny):
                t[:] = 0.0
                weight = (half if k % 2 else one) * (half if j % 2 else one)
                for c in range(k // 2, (k + 1) // 2 + 1):
                    for b in range(j // 2, (j + 1) // 2 + 1):
                        _add_row(t, coarse[a, c, b], weight)
                row, free = x[a, k, j], inverse[a, k, j]
                for i in range((n + 1) // 2):
                    row[2 * i] += t[i] if free[2 * i] > none else none
                for i in range(n // 2):
                    both = half * (t[i] + t[i + 1])
                    row[2 * i + 1] += both if free[2 * i + 1] > none else none


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _restrict_parallel(r: Any, out: Any, ranges: int) -> None:
    n = out.shape[1]
    for i in prange(ranges):
        _restrict_planes(r, out, n * i // ranges, n * (i + 1) // ranges)


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _prolong_parallel(coarse: Any, x: Any, inverse: Any, ranges: int) -> None:
    n = x.shape[1]
    for i in prange(ranges):
        _prolong_planes(coarse, x, inverse, n * i // ranges, n * (i + 1) // ranges)


def _restrict(r: Any, out: Any, ranges: int) -> None:
    if ranges == 1:
        _restrict_planes(r, out, 0, out.shape[1])
    else:
        _restrict_parallel(r, out, ranges)


def _prolong(coarse: Any, x: Any, inverse: Any, ranges: int) -> None:
    if ranges == 1:
        _prolong_planes(coarse, x, inverse, 0, x.shape[1])
    else:
        _prolong_parallel(coarse, x, inverse, ranges)


# --- compiled: set-up ----------------------------------------------------------------------------


@njit(cache=True, nogil=True, error_model="numpy")
def _lame(young: Any, poisson: Any, kept: Any, unit: float, lame: Any, shear: Any) -> None:
    """Lame's two numbers of every voxel, times ``unit``; 0 in void."""
    nz, ny, nx = kept.shape
    for k in range(nz):
        for j in range(ny):
            for i in range(nx):
                if kept[k, j, i]:
                    e, nu = np.float64(young[k, j, i]), np.float64(poisson[k, j, i])
                    lame[k, j, i] = unit * e * nu / ((1.0 + nu) * (1.0 - 2.0 * nu))
                    shear[k, j, i] = unit * e / (2.0 * (1.0 + nu))
                else:
                    lame[k, j, i] = 0.0
                    shear[k, j, i] = 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def _coarsen(lame: Any, shear: Any, coarse_lame: Any, coarse_shear: Any) -> None:
    """The mean of eight children, those past the grid void, for voxels twice as wide."""
    nz, ny, nx = lame.shape
    mz, my, mx = coarse_lame.shape
    for k in range(mz):
        for j in range(my):
            for i in range(mx):
                l, m = np.float32(0.0), np.float32(0.0)
                for c in range(2 * k, min(2 * k + 2, nz)):
                    for b in range(2 * j, min(2 * j + 2, ny)):
                        for a in range(2 * i, min(2 * i + 2, nx)):
                            l += lame[c, b, a]
                            m += shear[c, b, a]
                coarse_lame[k, j, i] = l * np.float32(0.25)  # an eighth, times the width 2
                coarse_shear[k, j, i] = m * np.float32(0.25)


@njit(cache=True, nogil=True, error_model="numpy")
def _touches(shear: Any, k: int, j: int, i: int) -> bool:
    """Whether a node is a corner of any bone."""
    nz, ny, nx = shear.shape
    for c in range(max(k - 1, 0), min(k + 1, nz)):
        for b in range(max(j - 1, 0), min(j + 1, ny)):
            for a in range(max(i - 1, 0), min(i + 1, nx)):
                if shear[c, b, a] > 0.0:
                    return True
    return False


@njit(cache=True, nogil=True, error_model="numpy")
def _hold_touching(asked: Any, shear: Any, held: Any) -> None:
    nz, ny, nx = asked.shape[1:]
    for k in range(nz):
        for j in range(ny):
            for i in range(nx):
                here = asked[0, k, j, i] or asked[1, k, j, i] or asked[2, k, j, i]
                here = here and _touches(shear, k, j, i)
                for a in range(3):
                    held[a, k, j, i] = here and asked[a, k, j, i]


@njit(cache=True, nogil=True, error_model="numpy")
def _coarsen_held(held: Any, shear: Any, out: Any) -> None:
    """A coarse node is held where the fine one in its place is.

    Where that one is void, or past the grid, it is held if any of its neighbours is: a support
    on an odd plane of nodes would be lost otherwise.
    """
    nz, ny, nx = held.shape[1:]
    mz, my, mx = out.shape[1:]
    for k in range(mz):
        for j in range(my):
            for i in range(mx):
                z, y, x = 2 * k, 2 * j, 2 * i
                inside = z < nz and y < ny and x < nx
                inside = inside and _touches(shear, z, y, x)
                for a in range(3):
                    found = False
                    if inside:
                        found = held[a, z, y, x]
                    else:
                        for r in range(max(z - 1, 0), min(z + 2, nz)):
                            for q in range(max(y - 1, 0), min(y + 2, ny)):
                                for p in range(max(x - 1, 0), min(x + 2, nx)):
                                    found = found or held[a, r, q, p]
                    out[a, k, j, i] = found


@njit(cache=True, nogil=True, error_model="numpy")
def _invert_diagonal(lame: Any, shear: Any, held: Any, ratio: Any, inverse: Any) -> None:
    """1 / diagonal of K, which is 16/9 of what the eight voxels around a node give."""
    nz, ny, nx = lame.shape
    for k in range(nz + 1):
        for j in range(ny + 1):
            for i in range(nx + 1):
                l, m = 0.0, 0.0
                for c in range(max(k - 1, 0), min(k + 1, nz)):
                    for b in range(max(j - 1, 0), min(j + 1, ny)):
                        for a in range(max(i - 1, 0), min(i + 1, nx)):
                            l += lame[c, b, a]
                            m += shear[c, b, a]
                every = ratio[0] + ratio[1] + ratio[2]
                for d in range(3):
                    own = ratio[d]
                    value = 16.0 / 9.0 * own * (own * (l + m) + every * m)
                    free = m > 0.0 and not held[d, k, j, i]
                    inverse[d, k, j, i] = 1.0 / value if free else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def _assemble(lame: Any, shear: Any, of_lame: Any, of_shear: Any, k: Any) -> None:
    nz, ny, nx = lame.shape
    n = (nz + 1) * (ny + 1) * (nx + 1)
    number = np.zeros(24, np.int64)
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                l, m = np.float64(lame[z, y, x]), np.float64(shear[z, y, x])
                for p in range(24):
                    a, c, b, i = p // 8, p // 4 % 2, p // 2 % 2, p % 2
                    number[p] = a * n + ((z + c) * (ny + 1) + y + b) * (nx + 1) + x + i
                for p in range(24):
                    for q in range(24):
                        k[number[p], number[q]] += l * of_lame[p, q] + m * of_shear[p, q]


# --- compiled: reading ---------------------------------------------------------------------------


@njit(cache=True, nogil=True, error_model="numpy")
def _strain_planes(u: Any, kept: Any, over: Any, out: Any, first: int, last: int) -> None:
    ny, nx = kept.shape[1:]
    g = np.zeros((3, 3))
    for k in range(first, last):
        for j in range(ny):
            for i in range(nx):
                if not kept[k, j, i]:
                    continue
                for a in range(3):
                    z, y, x = 0.0, 0.0, 0.0
                    for c in range(2):
                        for b in range(2):
                            for d in range(2):
                                v = u[a, k + c, j + b, i + d]
                                z += v if c else -v
                                y += v if b else -v
                                x += v if d else -v
                    g[a, 0], g[a, 1], g[a, 2] = z * over[0], y * over[1], x * over[2]
                for a in range(3):
                    out[a, k, j, i] = g[a, a]
                out[3, k, j, i] = 0.5 * (g[1, 2] + g[2, 1])
                out[4, k, j, i] = 0.5 * (g[0, 2] + g[2, 0])
                out[5, k, j, i] = 0.5 * (g[0, 1] + g[1, 0])


@njit(cache=True, nogil=True, error_model="numpy")
def _energy_planes(
    u: Any, lame: Any, shear: Any, of_lame: Any, of_shear: Any, out: Any, first: int, last: int
) -> None:
    ny, nx = lame.shape[1:]
    v = np.zeros(24)
    for k in range(first, last):
        for j in range(ny):
            for i in range(nx):
                l, m = lame[k, j, i], shear[k, j, i]
                if m == 0.0:
                    continue
                for p in range(24):
                    v[p] = u[p // 8, k + p // 4 % 2, j + p // 2 % 2, i + p % 2]
                total = 0.0
                for p in range(24):
                    row = 0.0
                    for q in range(24):
                        row += (l * of_lame[p, q] + m * of_shear[p, q]) * v[q]
                    total += v[p] * row
                out[k, j, i] = 0.5 * total


@njit(cache=True, nogil=True, error_model="numpy")
def _principal_part(six: Any, out: Any, first: int, last: int) -> None:
    for i in range(first, last):
        a, b, c = six[0, i], six[1, i], six[2, i]
        bc, ac, ab = six[3, i], six[4, i], six[5, i]
        mean = (a + b + c) / 3.0
        a, b, c = a - mean, b - mean, c - mean
        size = np.sqrt((a * a + b * b + c * c + 2.0 * (ab * ab + ac * ac + bc * bc)) / 6.0)
        if size == 0.0:
            out[0, i], out[1, i], out[2, i] = mean, mean, mean
            continue
        a, b, c = a / size, b / size, c / size
        ab, ac, bc = ab / size, ac / size, bc / size
        half = (a * (b * c - bc * bc) - ab * (ab * c - bc * ac) + ac * (ab * bc - b * ac)) / 2.0
        angle = np.arccos(min(1.0, max(-1.0, half))) / 3.0
        high = 2.0 * np.cos(angle)
        low = 2.0 * np.cos(angle + 2.0 * np.pi / 3.0)
        out[0, i] = mean + size * low
        out[1, i] = mean - size * (high + low)
        out[2, i] = mean + size * high


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _strain_parallel(u: Any, kept: Any, over: Any, out: Any, ranges: int) -> None:
    n = kept.shape[0]
    for i in prange(ranges):
        _strain_planes(u, kept, over, out, n * i // ranges, n * (i + 1) // ranges)


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _energy_parallel(
    u: Any, lame: Any, shear: Any, of_lame: Any, of_shear: Any, out: Any, ranges: int
) -> None:
    n = lame.shape[0]
    for i in prange(ranges):
        lo, hi = n * i // ranges, n * (i + 1) // ranges
        _energy_planes(u, lame, shear, of_lame, of_shear, out, lo, hi)


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _principal_parallel(six: Any, out: Any, ranges: int) -> None:
    n = six.shape[1]
    for i in prange(ranges):
        _principal_part(six, out, n * i // ranges, n * (i + 1) // ranges)


def _strains(u: Any, kept: Any, over: Any, out: Any) -> None:
    ranges = _ranges(kept.shape)
    if ranges == 1:
        _strain_planes(u, kept, over, out, 0, kept.shape[0])
    else:
        _strain_parallel(u, kept, over, out, ranges)


def _energies(w: Any, lame: Any, shear: Any, of_lame: Any, of_shear: Any, out: Any) -> None:
    ranges = _ranges(lame.shape)
    if ranges == 1:
        _energy_planes(w, lame, shear, of_lame, of_shear, out, 0, lame.shape[0])
    else:
        _energy_parallel(w, lame, shear, of_lame, of_shear, out, ranges)


def _principal(six: Any, out: Any) -> None:
    ranges = _ranges(six.shape[1:])
    if ranges == 1:
        _principal_part(six, out, 0, six.shape[1])
    else:
        _principal_parallel(six, out, ranges)
