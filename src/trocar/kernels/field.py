"""Maps on a grid: resampling, sampling, distance, components."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def resample_linear(
    values: NDArray[Any], index_map: NDArray[Any], shape: tuple[int, int, int], outside: float
) -> NDArray[np.float32]:
    """Trilinear resampling; ``index_map`` (3x4) takes an output index to an input index.

    Points beyond the outer voxel *faces* get ``outside``; between the outer centres and faces the
    edge value is held.
    """
    m = np.asarray(index_map, dtype=np.float64)
    out = ndimage.affine_transform(
        values.astype(np.float32), m[:, :3], m[:, 3], output_shape=shape, order=1, mode="nearest"
    )
    inside = resample_nearest(np.ones(values.shape, np.uint8), m, shape, 0)
    return np.where(inside.astype(bool), out, np.float32(outside)).astype(np.float32)


def resample_nearest(
    values: NDArray[Any], index_map: NDArray[Any], shape: tuple[int, int, int], outside: float
) -> NDArray[Any]:
    """Nearest-voxel resampling; output has the input's dtype; ``outside`` beyond the voxels."""
    m = np.asarray(index_map, dtype=np.float64)
    return ndimage.affine_transform(
        values, m[:, :3], m[:, 3], output_shape=shape, order=0, mode="grid-constant", cval=outside
    )


def sample_linear(
    values: NDArray[Any], index: NDArray[Any], outside: float = float("nan")
) -> NDArray[np.float64]:
    """Trilinear values at fractional indices [..., 3]; ``outside`` beyond the outer voxel faces."""
    i = np.asarray(index, dtype=np.float64)
    flat = i.reshape(-1, 3).T
    out = ndimage.map_coordinates(values.astype(np.float32), flat, order=1, mode="nearest")
    n = np.asarray(values.shape)[:, None]
    inside = np.all((flat >= -0.5) & (flat <= n - 0.5), axis=0)
    return np.where(inside, out, outside).reshape(i.shape[:-1]).astype(np.float64)


def signed_distance(
    mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float]
) -> NDArray[np.float32]:
    """Signed Euclidean distance in mm: negative inside, positive outside, 0 half way between centres."""
    inside = ndimage.distance_transform_edt(mask, spacing_mm)
    outside = ndimage.distance_transform_edt(~mask, spacing_mm)
    h = 0.5 * min(spacing_mm)
    return np.where(mask, -(inside - h), outside - h).astype(np.float32)


def distance_to(
    mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float]
) -> NDArray[np.float32]:
    """Exact distance in mm from each voxel centre to the nearest set voxel centre (inf if none)."""
    if not mask.any():
        return np.full(mask.shape, np.inf, np.float32)
    return np.asarray(ndimage.distance_transform_edt(~mask, spacing_mm), np.float32)
