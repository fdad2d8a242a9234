"""The surface of a bone or lesion as triangles in LPS mm, finer than its voxels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trocar.imaging.outline import smooth
from trocar.kernels import field
from trocar.model.space import Float, Mask


@dataclass(frozen=True, eq=False, kw_only=True)
class Surface:
    """Triangles around a mask: points (n, 3) LPS mm, faces (m, 3), outward unit normals."""

    points_mm: Float
    faces: NDArray[np.int64]
    normals: Float

    @property
    def areas_mm2(self) -> Float:
        """Area of every triangle."""
        a, b, c = (self.points_mm[self.faces[:, k]] for k in range(3))
        out: Float = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
        return out

    @property
    def centres_mm(self) -> Float:
        """Middle of every triangle."""
        out: Float = self.points_mm[self.faces].mean(axis=1)
        return out


def triangulate(
    mask: Mask, *, smooth_mm: float = 0.0, keep: Callable[[Float], NDArray[np.bool_]] | None = None
) -> Surface:
    """The surface of a mask half way between its voxels and the others.

    ``smooth_mm`` evens the staircase of voxels (standard deviation of a Gaussian over the signed
    distance), which would otherwise make areas too large. A mask cut by the edge of its grid is
    closed there. ``keep`` gets the triangles' centres and says which to keep.
    """
    from skimage.measure import marching_cubes

    if mask.is_empty:
        return Surface(
            points_mm=np.zeros((0, 3)), faces=np.zeros((0, 3), int), normals=np.zeros((0, 3))
        )
    reach = [3 + int(np.ceil(3 * smooth_mm / s)) for s in mask.grid.spacing_mm]
    box = mask.box()
    values = np.pad(mask.values[box], [(n, n) for n in reach])
    distance = field.signed_distance(values, mask.grid.spacing_mm)
    if smooth_mm > 0:
        distance = smooth(distance, smooth_mm, mask.grid.spacing_mm)
    vertices, faces, _, _ = marching_cubes(distance, 0.0)
    index = vertices - np.asarray(reach, float)
    points = mask.grid.crop(box).to_world(index)
    normals = _outward(distance, vertices, mask)
    faces = faces.astype(np.int64)
    if keep is not None:
        faces = faces[keep(points[faces].mean(axis=1))]
    return _used(points, faces, normals)


def _outward(distance: NDArray[Any], vertices: Float, mask: Mask) -> Float:
    """Unit gradient of the distance at the vertices, in LPS."""
    gradient = np.stack(
        [
            field.sample_linear(part.astype(np.float32), vertices, 0.0)
            for part in np.gradient(distance)
        ],
        axis=1,
    )
    normals = gradient @ mask.grid.inverse[:3, :3]
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    out: Float = normals / np.maximum(length, 1e-9)
    return out


def _used(points: Float, faces: NDArray[np.int64], normals: Float) -> Surface:
    """The surface with only the vertices its triangles use."""
    kept, back = np.unique(faces, return_inverse=True)
    return Surface(points_mm=points[kept], faces=back.reshape(faces.shape), normals=normals[kept])
