"""Where the patient ends, also on a mattress and where the image cuts a lung open."""

from __future__ import annotations

import numpy as np

from trocar.imaging.skin import find_body
from trocar.model.space import Grid, Volume


def ct(front_hu: float) -> Volume:
    """A block of patient, 60 mm thick, on air that a mattress makes dense; before it a cavity."""
    rng = np.random.default_rng(0)
    grid = Grid.from_spacing((30, 60, 60), (3.0, 3.0, 3.0))
    values = np.full(grid.shape, 40.0)
    values[:, 40:] = -1000.0
    mattress = values[:, 40:52]
    mattress[:] = rng.uniform(-990, -800, mattress.shape)
    values[:, :8] = front_hu
    return Volume(grid=grid, values=np.rint(values).astype(np.int16))


def test_a_mattress_is_not_the_patient() -> None:
    body = find_body(ct(40.0))
    index = np.argwhere(body.values)
    assert index[:, 1].max() * body.grid.spacing_mm[1] <= 39 * 3.0 + 3.0


def test_lung_cut_open_by_the_image_edge_belongs_to_the_patient() -> None:
    assert find_body(ct(-800.0)).values[:, 0].all()
    assert not find_body(ct(-1000.0)).values[:, 0].any()
