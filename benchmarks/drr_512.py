"""`drr-512`: a 512x512 radiograph through a whole CT, beside RTK's Joseph forward projector.

The CT has a layer of air around it, as the two projectors differ on one point: RTK's volume ends at
the outer voxel centres, ours at their faces (a block of n voxels of 1 mm is n - 1 mm long to RTK,
n mm to us; the gate shows it). Where a body is cut by the first and the last slice that is half a
slice at either end; everywhere else the two must agree. RTK needs the CT as float attenuation;
making that copy is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import itk
import numpy as np
from itk import RTK as rtk  # noqa: N811
from numpy.typing import NDArray

import scenes
from harness import Problem, main
from trocar.kernels.projection import project

MU_WATER = 0.0193  # per mm, for the picture only
PIXELS, SIDE_MM, SOURCE_DETECTOR_MM, SOURCE_ISOCENTRE_MM = 512, 300.0, 1100.0, 700.0
PEER = "RTK Joseph"
Image = itk.Image[itk.F, 3]


@cache
def ct() -> NDArray[np.int16]:
    out = scenes.torso()
    for axis in range(3):
        np.moveaxis(out, axis, 0)[[0, -1]] = -1000
    return out


@cache
def attenuation() -> NDArray[np.float32]:
    out = ct().astype(np.float32)
    out *= MU_WATER / 1000
    out += MU_WATER
    return np.maximum(out, 0, out=out)


def rtk_image(values: NDArray[np.float32], spacing_mm: tuple[float, float, float]) -> Any:
    """The volume around RTK's isocentre, the patient's long axis being RTK's axis of rotation."""
    image = itk.image_view_from_array(values)
    image.SetSpacing([float(s) for s in spacing_mm[::-1]])
    turn = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # columns: column, row, slice
    image.SetDirection(itk.matrix_from_array(turn))
    half = (np.asarray(values.shape[::-1]) - 1) / 2 * np.asarray(spacing_mm[::-1])
    image.SetOrigin([float(v) for v in -turn @ half])
    return image


def affine_of(image: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Index [slice, row, column] to RTK's world, read back from the image."""
    affine = np.eye(4)
    first = np.array(image.TransformIndexToPhysicalPoint([0, 0, 0]))
    for axis in range(3):
        index = [0, 0, 0]
        index[axis] = 1
        step = np.array(image.TransformIndexToPhysicalPoint(index)) - first
        affine[:3, 2 - axis] = step
    affine[:3, 3] = first
    return affine


def peer(
    image: Any, gantry_deg: float, pixels: int
) -> tuple[Callable[[], NDArray[np.float32]], dict[str, Any]]:
    """RTK's projector for one view, and the same view in our terms."""
    pixel_mm = SIDE_MM / pixels
    first = -(pixels - 1) / 2 * pixel_mm
    geometry = rtk.ThreeDCircularProjectionGeometry.New()
    geometry.AddProjection(SOURCE_ISOCENTRE_MM, SOURCE_DETECTOR_MM, gantry_deg)
    blank = rtk.ConstantImageSource[Image].New()
    blank.SetSize([pixels, pixels, 1])
    blank.SetSpacing([pixel_mm, pixel_mm, 1.0])
    blank.SetOrigin([first, first, 0.0])
    blank.SetConstant(0.0)
    blank.Update()
    projector = rtk.JosephForwardProjectionImageFilter[Image, Image].New()
    projector.SetGeometry(geometry)
    projector.SetInput(0, blank.GetOutput())
    projector.SetInput(1, image)

    def run() -> NDArray[np.float32]:
        blank.Modified()  # RTK works in place and eats its blank input, which must be made anew
        projector.Update()
        out: NDArray[np.float32] = itk.array_from_image(projector.GetOutput())[0]
        return out

    to_world = np.asarray(geometry.GetProjectionCoordinatesToFixedSystemMatrix(0))
    source = geometry.GetSourcePosition(0)
    return run, {
        "source_mm": np.array([source[k] for k in range(3)]),
        "detector_mm": (to_world @ [first, first, 0, 1])[:3],
        "row_step_mm": (to_world @ [0, pixel_mm, 0, 0])[:3],
        "column_step_mm": (to_world @ [pixel_mm, 0, 0, 0])[:3],
        "shape": (pixels, pixels),
    }


def block_lengths(n: int = 16) -> tuple[float, float]:
    """The way through a block of n voxels of 1 mm on its middle axis: ours and RTK's."""
    block = np.ones((n, n, n), np.float32)
    image = rtk_image(block, (1.0, 1.0, 1.0))
    run, geometry = peer(image, 0.0, 9)
    ours = project(block, affine_of(image, block.shape), **geometry)
    return float(ours[4, 4]), float(run()[4, 4])


def problem(gantry_deg: float) -> Problem:
    image = rtk_image(attenuation(), scenes.SPACING_MM)
    run, geometry = peer(image, gantry_deg, PIXELS)
    affine = affine_of(image, ct().shape)

    def check(ours: NDArray[np.float32], peers: Mapping[str, Any]) -> tuple[bool, str]:
        theirs = peers[PEER]
        mean = abs(float(ours.mean(dtype=float) / theirs.mean(dtype=float)) - 1)
        worst = float(np.abs(ours - theirs).max() / theirs.max())
        block, rtk_block = block_lengths()
        return mean < 2e-5 and worst < 2e-3 and abs(block - 16) < 1e-3, (
            f"mean differs by {mean:.1e}, worst pixel by {worst:.1e} of the maximum; a block of 16 "
            f"voxels of 1 mm is {block:.3f} mm long to us, {rtk_block:.3f} to RTK"
        )

    return Problem(
        name=f"drr-512 {gantry_deg:g} deg",
        ours=lambda: project(ct(), affine, slope=MU_WATER / 1000, intercept=MU_WATER, **geometry),
        peers={PEER: run},
        check=check,
        target_ratio={PEER: 1.7},
        target_s=0.2,
    )


if __name__ == "__main__":
    main([lambda angle=angle: problem(angle) for angle in (0.0, 90.0, 30.0)])
