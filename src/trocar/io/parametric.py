"""Numbers in space as a DICOM Parametric Map: temperatures, doses, strains, a float a voxel."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trocar import NOTICE
from trocar.errors import InputError
from trocar.io.segmentation import identity, image_headers
from trocar.model.space import Volume

UNITS = {
    "degC": ("Cel", "degree Celsius"),
    "min": ("min", "minute"),
    "s": ("s", "second"),
    "1": ("1", "no units"),
}


def write_parametric_map(
    path: Path, volume: Volume, source: Sequence[str], *, label: str, description: str
) -> None:
    """Writes a volume as a DICOM Parametric Map in the frame of the CT images in ``source``.

    The map has its own voxels, which may lie oblique to the CT's. ``label`` is what a list shows
    (up to 16 characters), ``description`` what it is. Values that are not numbers are written as
    -1. Raises InputError for a unit that is not one of ``UNITS`` and for headers that do not carry
    what an object needs.
    """
    from highdicom import Volume as Placed
    from highdicom.pm import ParametricMap, RealWorldValueMapping
    from highdicom.sr import CodedConcept

    if volume.unit not in UNITS:
        raise InputError(f"a map in {volume.unit!r}; expected one of {', '.join(UNITS)}")
    images = image_headers(source, volume.grid.spacing_mm[0])
    values = np.nan_to_num(np.asarray(volume.values, np.float32), nan=-1.0)
    code, meaning = UNITS[volume.unit]
    low, high = float(values.min()), float(values.max())
    mapping = RealWorldValueMapping(
        lut_label=label[:16],
        lut_explanation=description[:64],
        unit=CodedConcept(code, "UCUM", meaning),
        value_range=(low, max(high, low + 1e-3)),
        slope=1.0,
        intercept=0.0,
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = ParametricMap(
                source_images=images[:1],
                pixel_array=Placed(
                    array=values,
                    affine=volume.grid.affine,
                    coordinate_system="PATIENT",
                    frame_of_reference_uid=str(images[0].FrameOfReferenceUID),
                ),
                contains_recognizable_visual_features=False,
                real_world_value_mappings=[mapping],
                window_center=(low + high) / 2,
                window_width=max(high - low, 1.0),
                content_label=label[:16].upper().replace(" ", "_"),
                content_description=NOTICE,
                **identity(description[:64], series=901),
            )
            made.StudyID = str(getattr(made, "StudyID", None) or "")[:16]
            made.save_as(path)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"the CT's headers do not allow a DICOM map to refer to them ({error})"
        ) from error
