"""Which cement a path names, where it lies on the CT before it, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trocar.errors import InputError
from trocar.io.fills import read_fills
from trocar.io.formats import write_volume
from trocar.io.results import write_assessment
from trocar.model.case import Site
from trocar.model.result import Fill, Registration, Run, Scan
from trocar.model.space import Grid, Volume

L1 = Site.parse("L1")
GRID = Grid.from_spacing((6, 7, 8), (2.0, 1.0, 1.0), (-3.0, 4.0, 100.0), "before")
PRE = Scan(volume=Volume(grid=GRID, values=np.zeros(GRID.shape)), name="ct", sha256="abc")


def shares() -> Any:
    values = np.zeros(GRID.shape, np.float32)
    values[2:4, 3:6, 2:5] = 0.75
    return values


def file(folder: Path, values: Any, name: str = "cement.nii.gz") -> Path:
    return write_volume(folder / name, Volume(grid=GRID, values=values, unit=""))


def run(**inputs: str) -> Run:
    return Run(
        version="0", command="trocar assess", inputs=inputs, facts={}, parameters={}, seed=0,
        started="",
    )  # fmt: skip


def test_shares_and_masks_of_any_program_are_taken(tmp_path: Path) -> None:
    (fill,) = read_fills(file(tmp_path, shares()), PRE, L1)
    assert fill.origin == "measured"
    assert fill.site == L1
    assert fill.fraction.grid.matches(GRID)
    assert fill.fraction.grid.frame == "before"
    assert np.array_equal(fill.fraction.values, shares())
    assert fill.volume_ml == pytest.approx(18 * 0.75 * 2.0 / 1000)
    for full in (1, 255):
        mask = (full * (shares() > 0)).astype(np.uint8)
        (fill,) = read_fills(file(tmp_path, mask, f"{full}.nii.gz"), PRE, L1)
        assert fill.volume_ml == pytest.approx(18 * 2.0 / 1000)


def test_found_cement_is_laid_back_onto_the_ct_before(tmp_path: Path) -> None:
    angle = np.radians(10.0)
    moved = np.eye(4)
    moved[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    moved[:3, 3] = [12.0, -5.0, 30.0]
    # The later CT has its own voxels; laid into the space of the CT before, they lie oblique.
    later = Grid.from_spacing((9, 20, 22), (1.5, 0.8, 0.8), (0.0, -4.0, 128.0), "after")
    own = Grid(shape=later.shape, affine=np.linalg.inv(moved) @ later.affine, frame="before")
    values = np.random.default_rng(3).uniform(0, 1, own.shape).astype(np.float32)
    turn = Registration(
        transform=moved, error_mm=0.1, correlation=1.0, overlap=1.0, shift_mm=33.0, turn_deg=10.0
    )
    found = Fill(
        lesion_id="1", site=L1, origin="measured",
        fraction=Volume(grid=own, values=values, unit="1"), volume_ml=2.0, low_ml=1.8, high_ml=2.2,
        in_bone_ml=1.9, in_lesion_ml=None, lesion_fill=None, bone_fill=0.1, registration=turn,
    )  # fmt: skip
    post = Scan(volume=Volume(grid=later, values=np.zeros(later.shape)), name="post", sha256="def")
    write_assessment(tmp_path, post=post, fill=found, run=run(ct="abc", post="def"))
    (fill,) = read_fills(tmp_path, PRE, L1)
    assert fill.fraction.grid.affine == pytest.approx(own.affine, abs=1e-4)
    assert fill.fraction.grid.frame == "before"
    assert np.array_equal(fill.fraction.values, values)
    assert (fill.origin, fill.volume_ml, fill.in_bone_ml) == ("measured", 2.0, 1.9)
    with pytest.raises(InputError, match="is in L1, not in L2"):
        read_fills(tmp_path, PRE, Site.parse("L2"))
    write_assessment(tmp_path, post=post, fill=found, run=run(post="def"))
    with pytest.raises(InputError, match="belongs to another CT than ct"):
        read_fills(tmp_path, PRE, L1)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros(GRID.shape, np.float32), "holds no cement: all its voxels are 0"),
        (np.arange(336, dtype=np.int32).reshape(GRID.shape), "from 0 to 335"),
        (np.full(GRID.shape, -1.0, np.float32), "expected a mask of the cement, or the share"),
    ],
)
def test_what_is_no_cement_is_refused(tmp_path: Path, values: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_fills(file(tmp_path, values), PRE, L1)


def test_folders_that_cannot_be_used_end_in_one_sentence(tmp_path: Path) -> None:
    def refused(words: str) -> None:
        with pytest.raises(InputError, match=words):
            read_fills(tmp_path, PRE, L1)

    def record(name: str, told: Any) -> None:
        (tmp_path / name).write_text(json.dumps(told))

    with pytest.raises(InputError, match=r"gone.nii.gz does not exist"):
        read_fills(tmp_path / "gone.nii.gz", PRE, L1)
    refused("holds no cement .cement.json and result.json are missing")
    result: dict[str, Any] = {"format": "trocar result 1", "run": {"inputs": {"ct": "abc"}}}
    record("result.json", result | {"fill": {"registration": None}})
    refused(r"found without the CT before it.* assess again with --pre")
    record("result.json", result | {"fill": {}})
    refused("cannot be read as an assessment")
    record("result.json", result | {"format": "trocar result 0"})
    refused("this version reads 'trocar result 1'")
    record("result.json", [])
    refused("is no record of trocar's")
    (tmp_path / "result.json").write_text("{")
    refused("cannot be read")
    (tmp_path / "result.json").unlink()
    record("cement.json", {"run": None})
    refused("belongs to another CT than ct")
