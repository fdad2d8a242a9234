"""`rf-128`: the potential around an electrode in uneven tissue, beside algebraic multigrid.

Lesion in bone in muscle in fat, each with a texture, a bipolar needle across the middle, outer
faces insulated; to a residual of 1e-6. At 64^3 ours (setting up and solving, from conductivities
to potential, current and heat) beside PyAMG on the assembled matrix of the very same equations,
which it is given: smoothed aggregation and Ruge-Stuben, each with conjugate gradients, its own
set-up counted. PyAMG's loops use one thread; its spectral radii are bounded instead of estimated
(`weighting="local"`), which is several times faster to set up and costs two iterations. At 128^3
ours alone.

Gates: the potentials agree, and the resistance of a ball of 5 mm in even bone is the known one.
The share of the triad counts the bytes of the iterations alone, and the seconds of everything.

    python benchmarks/rf_128.py --threads 2 --repeats 3
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from harness import Problem, main
from trocar.kernels.potential import Conductor, Field

AGGREGATION, CLASSICAL = "PyAMG smoothed aggregation + CG", "PyAMG Ruge-Stuben + CG"
SPACING_M = 1e-3
TOLERANCE, WITHIN = 1e-6, 1e-4
LESION, BONE, MUSCLE, FAT = 0.3, 0.087, 0.44, 0.044  # S/m near 500 kHz, rounded
BALL_M, OHM_WITHIN = 5e-3, 0.02
# Of one iteration, for a voxel: what each pass over the finest grid reads and writes, a write to
# another array counted twice. One cycle 214 (coarser grids add a seventh), the gradients 120.
BYTES = 360
Double = NDArray[np.float64]


def block(n: int) -> tuple[Double, NDArray[np.bool_], NDArray[np.bool_]]:
    """Conductivities and the two poles of a needle."""
    x = np.arange(n) + 0.5 - n / 2
    z, y, x = x[:, None, None], x[:, None], x
    r = np.sqrt(z**2 + y**2 + x**2) / n
    texture = 1 + 0.3 * np.sin(2.1 * x + 1) * np.sin(1.7 * y + 2) * np.sin(1.9 * z + 3)
    sigma = np.select([r < 0.15, r < 0.3, r < 0.48], [LESION, BONE, MUSCLE], FAT) * texture
    plus, minus = np.zeros((n, n, n), bool), np.zeros((n, n, n), bool)
    half = n // 2
    plus[half - 9 : half - 2, half, half] = True
    minus[half + 2 : half + 9, half, half] = True
    return sigma.astype(np.float32).astype(float), plus, minus


def ours(sigma: Double, plus: Any, minus: Any) -> Field:
    tissue = Conductor(
        sigma, shape=sigma.shape, spacing_m=(SPACING_M,) * 3, electrodes=[plus, minus]
    )
    return tissue.solve([1.0, -1.0], tolerance=TOLERANCE)


def bytes_moved(sigma: Double, plus: Any, minus: Any) -> float:
    return float(BYTES * sigma.size * ours(sigma, plus, minus).iterations)


def ball() -> tuple[bool, str]:
    """Resistance between a ball and the far away: 1 / (4 pi sigma radius)."""
    n = 64
    centre = (np.full(3, (n - 1) / 2) + np.array([0.13, 0.27, -0.31])) * SPACING_M
    at = np.moveaxis(np.indices((n, n, n)), 0, -1) * SPACING_M
    outside = np.linalg.norm(at - centre, axis=-1) - BALL_M
    tissue = Conductor(
        BONE, shape=(n, n, n), spacing_m=(SPACING_M,) * 3, electrodes=[outside <= 0],
        outside_m=outside, far_from_m=centre.tolist(),
    )  # fmt: skip
    ohm = 1.0 / float(tissue.solve([1.0], tolerance=TOLERANCE).current_a[0])
    exact = 1.0 / (4 * np.pi * BONE * BALL_M)
    off = ohm / exact - 1
    return bool(abs(off) <= OHM_WITHIN), f"ball {ohm:.1f} ohm, {off:+.1%} from the known"


def assembled(sigma: Double, plus: Any, minus: Any) -> tuple[Any, Double, NDArray[np.bool_]]:
    """The same equations as a matrix of the free voxels and its right-hand side."""
    held = plus | minus
    number = np.arange(sigma.size).reshape(sigma.shape)
    rows, columns, values = [], [], []
    for axis in range(3):
        near, far = [slice(None)] * 3, [slice(None)] * 3
        near[axis], far[axis] = slice(None, -1), slice(1, None)
        a, b = sigma[tuple(near)], sigma[tuple(far)]
        one, two = held[tuple(near)], held[tuple(far)]
        # Between free and held the free voxel's own conductivity counts.
        k = np.where(one & ~two, b, np.where(two & ~one, a, 2 * a * b / (a + b))) * SPACING_M
        i, j = number[tuple(near)].ravel(), number[tuple(far)].ravel()
        rows += [i, j, i, j]
        columns += [j, i, i, j]
        values += [-k.ravel(), -k.ravel(), k.ravel(), k.ravel()]
    matrix = sparse.csr_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    )
    free = ~held.ravel()
    volts = plus.astype(float).ravel() - minus.astype(float).ravel()
    rhs = -matrix[free][:, ~free] @ volts[~free]
    return matrix[free][:, free].tocsr(), np.asarray(rhs), free


def pyamg_way(
    kind: str, matrix: Any, rhs: Double, free: NDArray[np.bool_], volts: Double
) -> Callable[[], Double]:
    def go() -> Double:
        import pyamg  # type: ignore[import-not-found,import-untyped,unused-ignore]

        if kind == AGGREGATION:
            levels = pyamg.smoothed_aggregation_solver(
                matrix, smooth=("jacobi", {"weighting": "local"}), improve_candidates=None
            )
        else:
            levels = pyamg.ruge_stuben_solver(matrix)
        found = levels.solve(rhs, tol=TOLERANCE, accel="cg", maxiter=200)
        out = volts.ravel().copy()
        out[free] = found
        return out.reshape(volts.shape)

    return go


def agree(mine: Field, peers: Mapping[str, Double]) -> tuple[bool, str]:
    """Differences are told as a share of the 2 V between the poles."""
    worst = {name: float(np.abs(v - mine.volts).max()) / 2.0 for name, v in peers.items()}
    told = ", ".join(f"{name} {w:.1e}" for name, w in worst.items()) or "no peer"
    round_ball, words = ball()
    good = round_ball and all(w < WITHIN for w in worst.values())
    return good, (
        f"{mine.iterations} iterations; largest difference, of the voltage: {told}; {words}"
    )


def small() -> Problem:
    sigma, plus, minus = block(64)
    matrix, rhs, free = assembled(sigma, plus, minus)
    volts = plus.astype(float) - minus.astype(float)
    peers = {}
    try:
        print(f"PyAMG {metadata.version('pyamg')}", flush=True)
        peers = {
            kind: pyamg_way(kind, matrix, rhs, free, volts) for kind in (AGGREGATION, CLASSICAL)
        }
    except metadata.PackageNotFoundError:
        print("PyAMG is not installed: ours alone", flush=True)
    return Problem(
        name="rf-64",
        ours=partial(ours, sigma, plus, minus),
        check=agree,
        peers=peers,
        target_ratio=dict.fromkeys(peers, 10.0),
        bytes_moved=bytes_moved(sigma, plus, minus),
    )


def large() -> Problem:
    sigma, plus, minus = block(128)

    def settled(mine: Field, _: Mapping[str, Double]) -> tuple[bool, str]:
        """The residual worked out anew, with the assembled matrix."""
        matrix, rhs, free = assembled(sigma, plus, minus)
        rest = np.linalg.norm(rhs - matrix @ mine.volts.ravel()[free]) / np.linalg.norm(rhs)
        return bool(rest < 3 * TOLERANCE), (
            f"{mine.iterations} iterations; residual of the assembled equations {rest:.1e}"
        )

    return Problem(
        name="rf-128",
        ours=partial(ours, sigma, plus, minus),
        check=settled,
        target_s=0.4,
        bytes_moved=bytes_moved(sigma, plus, minus),
    )


if __name__ == "__main__":
    main([small, large])
