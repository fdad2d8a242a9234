"""`resample`: a whole CT onto 1 mm cubes, trilinear, beside SimpleITK's resampling filter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

import scenes
from harness import Problem, main
from trocar.kernels import field
from trocar.model.space import Grid

PEER = "SimpleITK ResampleImageFilter"


def problem() -> Problem:
    ct = scenes.torso()
    grid = Grid.from_spacing(ct.shape, scenes.SPACING_MM)
    fine = grid.isotropic(1.0)
    index_map = grid.index_map(fine)
    image = sitk.GetImageFromArray(ct)
    image.SetSpacing(scenes.SPACING_MM[::-1])
    peer = sitk.ResampleImageFilter()
    peer.SetInterpolator(sitk.sitkLinear)
    peer.SetOutputPixelType(sitk.sitkFloat32)
    peer.SetSize(fine.shape[::-1])
    peer.SetOutputSpacing((1.0, 1.0, 1.0))
    peer.SetOutputOrigin(tuple(float(v) for v in fine.affine[:3, 3]))
    peer.SetDefaultPixelValue(-1000.0)

    def check(ours: NDArray[np.float32], peers: Mapping[str, Any]) -> tuple[bool, str]:
        apart = np.abs(ours - sitk.GetArrayViewFromImage(peers[PEER]))
        return bool(apart.max() < 0.01), f"largest difference {apart.max():.1e} HU"

    return Problem(
        name="resample",
        ours=lambda: field.resample_linear(ct, index_map, fine.shape, -1000.0),
        peers={PEER: lambda: peer.Execute(image)},
        check=check,
        target_ratio={PEER: 5.0},
        bytes_moved=ct.nbytes + 2 * 4 * float(np.prod(fine.shape)),
    )


if __name__ == "__main__":
    main([problem])
