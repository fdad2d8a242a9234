"""`sdf-ct`: signed distance map of the bone of a whole CT, beside SimpleITK's Maurer filter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray
from scipy.spatial import cKDTree

import scenes
from harness import Problem, main
from trocar.kernels import field

PEER = "SimpleITK SignedMaurer"


def oracle(mask: NDArray[np.bool_], at: NDArray[np.int64]) -> NDArray[np.float64]:
    """The signed distance at some voxels by search among all voxels at a label change."""
    h = np.asarray(scenes.SPACING_MM)
    edge = np.zeros(mask.shape, bool)
    for axis in range(3):
        a, b = np.moveaxis(mask, axis, 0)[1:], np.moveaxis(mask, axis, 0)[:-1]
        for part in (np.moveaxis(edge, axis, 0)[1:], np.moveaxis(edge, axis, 0)[:-1]):
            part |= a != b
    out = np.empty(len(at))
    inside = mask[tuple(at.T)]
    for label in (False, True):
        there = np.argwhere(edge & (mask != label)) * h
        tree = cKDTree(there)
        here = at[inside == label] * h
        centres, _ = tree.query(here)
        near = tree.query_ball_point(here, centres + np.linalg.norm(h) / 2 + 1e-6)
        boxes = [
            np.linalg.norm(np.maximum(np.abs(there[k] - p) - h / 2, 0.0), axis=1).min()
            for p, k in zip(here, near, strict=True)
        ]
        distance = np.maximum(boxes, centres - h.max() / 2)
        out[inside == label] = -distance if label else distance
    return out


def problem() -> Problem:
    mask = scenes.torso() > scenes.BONE_HU
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing(scenes.SPACING_MM[::-1])
    at = np.random.default_rng(0).integers(0, mask.shape, (600, 3))
    bone = np.argwhere(mask[::7, ::3, ::5])[::2000] * (7, 3, 5)
    at = np.concatenate([at, bone[:400]])

    def check(ours: NDArray[np.float32], peers: Mapping[str, Any]) -> tuple[bool, str]:
        error = np.abs(ours[tuple(at.T)] - oracle(mask, at)).max()
        maurer = sitk.GetArrayViewFromImage(peers[PEER])
        outside = ~mask  # there Maurer is the distance between centres; inside it is another thing
        short = maurer[outside] - ours[outside]
        low, high = min(scenes.SPACING_MM) / 2, max(scenes.SPACING_MM) / 2
        ok = error < 1e-3 and short.min() > low - 1e-3 and short.max() < high + 1e-3
        ok = ok and np.array_equal(ours < 0, mask)
        return bool(ok), (
            f"max error {error:.1e} mm at {len(at)} voxels by search; outside, Maurer (between "
            f"centres) is {short.min():.4f} to {short.max():.4f} mm longer, half a step being "
            f"{low:.4f} to {high:.4f}; bone {mask.mean():.1%}"
        )

    return Problem(
        name="sdf-ct",
        ours=lambda: field.signed_distance(mask, scenes.SPACING_MM),
        peers={
            PEER: lambda: sitk.SignedMaurerDistanceMap(
                image, insideIsPositive=False, squaredDistance=False, useImageSpacing=True
            )
        },
        check=check,
        target_ratio={PEER: 1.5},
        bytes_moved=mask.size * (1 + 2 * 4),  # mask in, float32 out with the read a write costs
    )


if __name__ == "__main__":
    main([problem])
