"""The synthetic CT the image benchmarks share: 600x512x512 voxels, int16 HU, 3.5 % of them bone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SPACING_MM = (0.8, 0.75, 0.75)  # slice, row, column
BONE_HU = 200


def _disc(
    y: NDArray[np.float32], x: NDArray[np.float32], cy: float, cx: float, ry: float, rx: float
) -> NDArray[np.bool_]:
    return ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1


def torso(shape: tuple[int, int, int] = (600, 512, 512), *, seed: int = 0) -> NDArray[np.int16]:
    """A trunk with a spine of discs and bodies, arches, ribs that run down, and noise.

    Lengths below are parts of the array, so that any shape gives the same picture.
    """
    rng = np.random.default_rng(seed)
    nz, ny, nx = shape
    y = np.linspace(-1, 1, ny, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, nx, dtype=np.float32)[None, :]
    body = _disc(y, x, 0.05, 0.0, 0.62, 0.86)
    muscle = _disc(y, x, 0.05, 0.0, 0.56, 0.80)
    angle = np.arctan2((y - 0.05) / 0.5, x / 0.74)
    radius = np.hypot((y - 0.05) / 0.5, x / 0.74)
    vertebra = _disc(y, x, 0.30, 0.0, 0.13, 0.17)
    marrow = _disc(y, x, 0.30, 0.0, 0.11, 0.15)
    arch = _disc(y, x, 0.49, 0.0, 0.10, 0.16) & ~_disc(y, x, 0.47, 0.0, 0.06, 0.09)
    process = (abs(x) < 0.02) & (y > 0.55) & (y < 0.64)
    out = np.empty(shape, np.int16)
    for k in range(nz):
        z = k / nz
        hu = np.where(body, -100.0, -1000.0).astype(np.float32)
        hu[muscle] = 40.0
        along = (z * 14) % 1.0  # 0 to 1 within one vertebra
        if along < 0.78:
            hu[vertebra] = 900.0
            if 0.06 < along < 0.72:
                hu[marrow] = 220.0
        if 0.15 < along < 0.7:
            hu[arch] = 700.0
        if 0.3 < along < 0.55:
            hu[process] = 700.0
        ribs = (radius > 0.93) & (radius < 1.0) & (((z * 14 + np.sin(angle) * 0.8) % 1.0) < 0.485)
        hu[ribs & (y < 0.6)] = 500.0
        noise = rng.standard_normal((ny, nx), dtype=np.float32) * 12
        out[k] = np.clip(np.rint(hu + np.where(body, noise, 0)), -1024, 3071).astype(np.int16)
    return out
