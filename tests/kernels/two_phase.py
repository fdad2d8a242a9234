"""The slow, obvious way: cement and marrow on the whole grid, one sparse solve a step.

An oracle for ``kernels.flow``, which solves in the cement alone. Both fluids have a viscosity here;
resistances of the two parts of a partly filled voxel are in series; cement leaves a voxel only when
it is full (a sharp front). NumPy and SciPy only, shared with the kernel are the formulas of the
paper and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, cg

Float = NDArray[np.float64]


@dataclass(eq=False, kw_only=True)
class TwoPhase:
    """State of the oracle: filled share of the pores, time, injected and lost volume, pressure."""

    fill: Float
    seconds: float = 0.0
    injected_m3: float = 0.0
    lost_m3: float = 0.0
    pressure_pa: Float | None = None
    steps: int = 0


def mobility(k: Float, phi: Float, speed: Float, consistency: float, n: float) -> Float:
    """Darcy speed per pressure gradient of a power-law fluid, cell by cell."""
    if n == 1.0:
        return k / consistency
    phi = np.maximum(phi, 1e-6)
    apparent = consistency / 12 * (9 + 3 / n) ** n * (150 * k * phi) ** ((1 - n) / 2)
    passed: Float = np.divide(k, apparent, out=np.zeros_like(k), where=k > 0)
    return passed * speed ** (1 - n)


def inject(
    phi: Float,
    k: Float,
    h: float,
    *,
    tip: tuple[int, int, int],
    rate_m3_s: float,
    volume_m3: float,
    consistency: float,
    exponent: float,
    marrow_pa_s: float = 0.1,
    share: float = 0.03,
    picard: int = 2,
    most_steps: int = 100_000,
) -> TwoPhase:
    """Inject into isotropic bone; marrow leaves at pressure 0 over the open faces of the box."""
    shape = phi.shape
    state = TwoPhase(fill=np.zeros(shape))
    state.fill[tip] = 1.0
    state.injected_m3 = phi[tip] * h**3
    pores = phi * h**3
    open_ = (phi > 0) & (k > 0)
    index = np.arange(phi.size).reshape(shape)
    pairs = []
    for axis in range(3):
        a = np.take(index, range(shape[axis] - 1), axis=axis).ravel()
        b = np.take(index, range(1, shape[axis]), axis=axis).ravel()
        both = open_.ravel()[a] & open_.ravel()[b]
        pairs.append((a[both], b[both]))
    left = np.concatenate([p[0] for p in pairs])
    right = np.concatenate([p[1] for p in pairs])
    border = np.zeros(shape, bool)
    for axis in range(3):
        for side in (0, -1):
            border[tuple(side if d == axis else slice(None) for d in range(3))] = True
    border &= open_
    speed = np.full(shape, rate_m3_s / (6 * h * h))
    floor = rate_m3_s / (3 * h * h * 1e4)
    p = np.zeros(phi.size)
    source = np.zeros(phi.size)
    source[index[tip]] = rate_m3_s
    flat = open_.ravel()
    while state.injected_m3 < volume_m3 and state.steps < most_steps:
        for _ in range(picard):
            cement = mobility(k, phi, np.maximum(speed, floor), consistency, exponent)
            marrow = k / marrow_pa_s
            s = np.minimum(state.fill, 1.0)
            with np.errstate(divide="ignore", invalid="ignore"):
                resistance = np.where(open_, s / cement + (1 - s) / marrow, np.inf).ravel()
                give = h / (0.5 * resistance[left] + 0.5 * resistance[right])
                out = np.where(border.ravel(), h / (0.5 * resistance), 0.0)
            diagonal = np.bincount(left, give, phi.size) + np.bincount(right, give, phi.size) + out
            diagonal[~flat | (diagonal <= 0)] = 1.0
            matrix = sparse.csr_matrix(
                (
                    np.concatenate([diagonal, -give, -give]),
                    (
                        np.concatenate([index.ravel(), left, right]),
                        np.concatenate([index.ravel(), right, left]),
                    ),
                ),
                shape=(phi.size, phi.size),
            )
            inverse = 1.0 / diagonal
            jacobi = LinearOperator(matrix.shape, matvec=lambda v, d=inverse: d * v)
            p, _info = cg(matrix, source, x0=p, rtol=1e-6, maxiter=5000, M=jacobi)
            flux = give * (p[left] - p[right])
            square = np.bincount(left, (flux / h**2) ** 2, phi.size)
            square += np.bincount(right, (flux / h**2) ** 2, phi.size)
            speed = np.sqrt(square / 2).reshape(shape)
        full = state.fill.ravel() >= 1.0
        goes = np.where(flux > 0, full[left], full[right])
        moved = flux * goes
        gain = np.bincount(right, moved, phi.size) - np.bincount(left, moved, phi.size)
        gain[full] = 0.0
        gain = np.maximum(gain, 0.0)
        escaped = float((out * np.maximum(p, 0.0) * full).sum())
        scale = rate_m3_s / (gain.sum() + escaped)
        gain *= scale
        front = gain > 0
        if not front.any():
            break
        times = (1 - state.fill.ravel()[front]) * pores.ravel()[front] / gain[front]
        ordered = np.sort(times)
        step = ordered[min(len(ordered) - 1, int(share * len(ordered)))]
        step = min(step, (volume_m3 - state.injected_m3) / rate_m3_s)
        fill = state.fill.ravel() + np.where(
            pores.ravel() > 0, gain * step / np.maximum(pores.ravel(), 1e-30), 0.0
        )
        _hand_on(fill, pores.ravel(), left, right)
        fill[fill > 1 - 1e-12] = np.maximum(fill[fill > 1 - 1e-12], 1.0)
        state.fill = fill.reshape(shape)
        state.injected_m3 += rate_m3_s * step
        state.lost_m3 += escaped * scale * step
        state.seconds += step
        state.steps += 1
        state.pressure_pa = p.reshape(shape).copy()
    return state


def _hand_on(fill: Any, pores: Any, left: Any, right: Any) -> None:
    """What is above a voxel's pores goes in equal parts to open neighbours that are not full."""
    for i in np.flatnonzero(fill > 1.0):
        near = np.concatenate([right[left == i], left[right == i]])
        near = near[fill[near] < 1.0]
        if len(near):
            excess = (fill[i] - 1.0) * pores[i]
            fill[near] += excess / len(near) / pores[near]
            fill[i] = 1.0
