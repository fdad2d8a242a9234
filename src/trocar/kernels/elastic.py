"""How does bone deform under load? Linear elasticity with one stiffness a voxel.

Each voxel is an eight-node brick with trilinear displacement, integrated exactly, with its own
Young's modulus and Poisson's ratio; a modulus of 0 is void. Fully integrated bricks are too stiff
in bending where only one or two of them lie across a thin plate, and near a Poisson's ratio of
one half. Units are mm, N and MPa, so energy is in mJ.

**Order.** Voxels are [slice, row, column]; nodes are their corners, one more along each axis.
Displacements and forces are [component, slice, row, column] with components along slice, row,
column (z, y, x). Strain and stress are six numbers in the order zz, yy, xx, yx, zx, zy; shear is
the tensor's (half the engineer's angle).

**Solved** by conjugate gradients in float32 whose residual is replaced by the true float64 one
each time it has fallen a thousandfold, so that the last answer is as exact as float64 allows.
Preconditioned by one float32 multigrid cycle (``cycle``); the stiffness matrix is never formed
(``bricks``). The number of iterations stays bounded as contrast grows, down to void; it grows as
Poisson's ratio nears one half, and where struts are as thin as a voxel or two. Voxels need not be
cubes: twice as long as wide costs a third more iterations, three times nearly doubles them.

Method: Arbenz et al., Int J Numer Methods Eng 2008;73:927 (voxel bone, multigrid); Wu, Dick and
Westermann, IEEE TVCG 2016;22:1195. No number of a tissue lives here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from trocar.errors import InputError
from trocar.kernels.bricks import (
    MOST_COLUMNS,
    bent,
    brick_stiffness,
    energies,
    lame_numbers,
    product,
    ranges_of,
    strains,
)
from trocar.kernels.cycle import (
    Level,
    advance,
    cycle,
    empty_levels,
    fill_levels,
    hold_touching,
    imbalance,
    take,
    turned,
)

Float = NDArray[np.floating[Any]]
Bool = NDArray[np.bool_]
Progress = Callable[[float], None]

_PATIENCE = 70  # iterations in which the plain cycle must take the residual to the next renewal
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

    Arrays are not copied: do not change them while the body is in use. Raises InputError for shapes
    that disagree, stiffness that cannot be, no bone at all, and supports that leave the largest
    piece free to move as a rigid body.
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
        self.held = np.ascontiguousarray(held, dtype=np.bool_)
        z, y, x = self.spacing_mm
        self._ratio = np.array([(x / z) ** 2, (x / y) ** 2, 1.0])
        # Displacement in a unit that shrinks as voxels lengthen makes every derivative's factor
        # the square of one number, and the law symmetric.
        self._measure = np.array([x / z, x / y, 1.0]).reshape(3, 1, 1, 1)
        self._unit = z * y * x / (16.0 * x**2)  # of Lame's numbers, in N / mm
        self._levels: list[Level] = []
        self.stiffen(young_mpa, poisson)

    def stiffen(self, young_mpa: ArrayLike, poisson: ArrayLike) -> None:
        """Give every voxel another stiffness, as after damage or with cement in it."""
        young = _over(young_mpa, self.shape, "Young's modulus")
        ratio = _over(poisson, self.shape, "Poisson's ratio")
        _check_stiffness(young, ratio)
        material = young > 0
        self._material = material
        self.kept = _pieces(material, self.held, self.spacing_mm)
        self.loose_voxels = int(np.count_nonzero(material) - np.count_nonzero(self.kept))
        self.young_mpa, self._poisson = young, ratio
        self._fill(young)

    def soften(self, share: ArrayLike) -> None:
        """Leave so much (above 0) of the stiffness that was given; 1 gives all of it back."""
        self._fill(self.young_mpa * np.asarray(share, float))

    def _fill(self, young: Float) -> None:
        """Fill in Lame's numbers on every level; which voxels are kept does not change."""
        if not self._levels:
            self._lame, self._shear = np.zeros(self.shape), np.zeros(self.shape)
            self._levels = empty_levels(self.shape)
        lame_numbers(young, self._poisson, self.kept, self._unit, self._lame, self._shear)
        self._largest = float(self._shear.max())
        fine = self._levels[0]
        np.divide(self._lame, self._largest, out=fine.lame, casting="same_kind")
        np.divide(self._shear, self._largest, out=fine.shear, casting="same_kind")
        hold_touching(self.held, fine.shear, fine.held)
        fill_levels(self._levels, self._ratio)

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
        strains(u, self.kept, over, out)
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
        of_lame, of_shear = brick_stiffness(tuple(self._ratio))
        out = np.zeros(self.shape)
        energies(w, self._lame, self._shear, of_lame, of_shear, out)
        return out

    def internal_n(self, displacement_mm: Float) -> NDArray[np.float64]:
        """The stiffness matrix times a displacement: what holds every node there, N."""
        w = self._nodal(displacement_mm, "the displacement") / self._measure
        out = np.zeros(w.shape)
        product(w, self._lame, self._shear, self._ratio, out)
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
        self.ranges = ranges_of(body.shape)
        self.parts = np.zeros(3 * self.ranges)
        self.weights = 1.0 / body._measure.ravel() ** 2

    def renew(self, scale: float = 1.0) -> float:
        """The true residual, over ``scale``: its norm, and itself in float32 for the cycle."""
        body = self.body
        product(self.u, body._lame, body._shear, body._ratio, self.out)
        g = np.zeros((0, 0, 0, 0)) if self.g is None else self.g
        norm = imbalance(
            g, self.out, self.fine.inverse, self.weights, 1.0 / scale, self.fine.b, self.parts
        )  # fmt: skip
        norm /= scale
        if not np.isfinite(norm):
            raise InputError("forces are not finite; check the load, the supports and stiffness")
        return norm

    def run(self, scale: float, tolerance: float, most: int) -> tuple[int, float]:
        """Conjugate gradients until the residual is small; gives iterations and residual."""
        fine, ranges = self.fine, self.ranges
        p, x = np.zeros_like(fine.b), np.zeros_like(fine.b)
        ratio = self.body._ratio.astype(np.float32)
        rest = self.renew(scale)
        top, rho_old, onward = rest, 0.0, False
        visits, since, may_visit = 1, 0, True
        goal = max(_REPLACE * rest, 0.9 * tolerance)
        for done in range(most):
            if rest <= tolerance:
                return done, rest
            rho = cycle(self.levels, 0, ratio, visits)
            turned(p, fine.x, rho / rho_old if onward else 0.0, ranges)
            bend = bent(p, fine.lame, fine.shear, ratio, fine.other)
            if not (np.isfinite(rho) and np.isfinite(bend)) or bend <= 0.0 or rho <= 0.0:
                if visits == 1:
                    break
                # Visited twice, a coarse grid that is too soft for its own cycle turns it over;
                # once never does.
                visits, may_visit = 1, False
                take(self.u, x, scale / self.body._largest, ranges)
                rest, onward, since = self.renew(scale), False, 0
                goal = max(_REPLACE * rest, 0.9 * tolerance)
                continue
            now = advance(
                x, fine.b, p, fine.other, fine.inverse, self.weights, rho / bend,
                self.parts,
            )  # fmt: skip
            rho_old, onward, since = rho, True, since + 1
            slow = may_visit and visits == 1 and since > _PATIENCE
            if now <= goal or slow or done + 1 == most:
                take(self.u, x, scale / self.body._largest, ranges)
                rest = self.renew(scale)
                # Where float32 lost the thread, its last direction is no longer worth following.
                onward = rest <= 2.0 * now and not slow
                visits, since = 2 if slow else visits, 0
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
def _principal_parallel(six: Any, out: Any, ranges: int) -> None:
    n = six.shape[1]
    for i in prange(ranges):
        _principal_part(six, out, n * i // ranges, n * (i + 1) // ranges)


def _principal(six: Any, out: Any) -> None:
    ranges = ranges_of(six.shape[1:])
    if ranges == 1:
        _principal_part(six, out, 0, six.shape[1])
    else:
        _principal_parallel(six, out, ranges)


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
    if found[2] > MOST_COLUMNS:
        raise InputError(
            f"a grid of {found[2]} columns; expected at most {MOST_COLUMNS}: crop to the bone"
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
