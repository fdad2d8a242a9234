"""Records through a file and back, bit for bit; what a damaged or foreign file does."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trocar.errors import InputError
from trocar.facts.products import needle
from trocar.io.exact import fingerprint, read_exact, write_exact
from trocar.io.unfinished import FOLDER, Unfinished, forget, kept_runs
from trocar.io.volumes import Inspection
from trocar.model.case import Finding, Gravity, Site
from trocar.model.space import Grid, Mask, Volume

GRID = Grid.from_spacing((3, 4, 5), (1.1, 0.8, 1 / 3), (-10.123456789, 20.0, 0.1), "1.2.3")


def records() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    return {
        "volume": Volume(grid=GRID, values=rng.normal(size=GRID.shape).astype(np.float32)),
        "mask": Mask(grid=GRID, values=rng.random(GRID.shape) > 0.5),
        "curve": np.array([0.1, np.nan, -0.0, np.inf]),
        "across": rng.normal(size=(4, 3)).T,
        "none": np.zeros((0, 3)),
        "site": Site.parse("L1"),
        "needle": needle(13, 100),
        "finding": Finding(
            gravity=Gravity.STOP, message="{n} of {name}", values={"n": np.int64(3), "name": "x"}
        ),
        "plain": (1, 2.5, 1 / 3, float("inf"), "中", None, True, [1, (2,)], {3: "three"}),
        "yes": np.bool_(True),
    }


def test_what_comes_back_is_equal_bit_for_bit(tmp_path: Path) -> None:
    told = records()
    back = read_exact(write_exact(tmp_path / "r.npz", told))
    assert fingerprint(back) == fingerprint(told)
    assert back["volume"].values.tobytes() == told["volume"].values.tobytes()
    assert np.array_equal(back["mask"].values, told["mask"].values)
    assert back["mask"].grid.matches(GRID)
    assert back["curve"].tobytes() == told["curve"].tobytes()
    assert back["across"].flags.f_contiguous  # sums run over memory in its order
    assert back["none"].shape == (0, 3)
    assert back["plain"] == told["plain"]
    assert back["needle"] == told["needle"]
    assert str(back["finding"]) == "3 of x"
    assert back["finding"].gravity is Gravity.STOP
    assert isinstance(back["yes"], np.bool_)


def test_every_bit_counts_in_a_fingerprint() -> None:
    told, seen = records(), {fingerprint(records())}
    changed = told["volume"].values.copy()
    changed.view(np.uint32)[0, 0, 0] ^= 1
    for other in (
        told | {"volume": Volume(grid=GRID, values=changed)},
        told | {"mask": Mask(grid=GRID, values=~told["mask"].values)},
        told | {"curve": told["curve"].astype(np.float32)},
        told | {"none": np.zeros((3, 0))},
        told | {"plain": (1.0, *told["plain"][1:])},
    ):
        seen.add(fingerprint(other))
    assert len(seen) == 6


def test_only_records_are_made_from_a_file(tmp_path: Path) -> None:
    for name in ("subprocess:Popen", "trocar.model.case:re", "trocar.facts.source:load"):
        text = json.dumps({"record": name, "held": {"args": "x", "name": "limits"}}).encode()
        digest = np.array(hashlib.sha256(text).hexdigest())
        np.savez(tmp_path / "bad.npz", json=np.frombuffer(text, np.uint8), sha256=digest)
        with pytest.raises(InputError, match="is no record"):
            read_exact(tmp_path / "bad.npz")
    with pytest.raises(TypeError, match="cannot be kept"):
        write_exact(tmp_path / "x.npz", {1, 2})
    with pytest.raises(TypeError, match="no record that can be kept"):
        write_exact(tmp_path / "x.npz", Inspection(path="x", rows=()))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.npz"]


def test_a_run_is_made_once_and_read_at_the_next_start(tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> Volume:
        made.append(1)
        return Volume(grid=GRID, values=np.arange(60.0).reshape(GRID.shape))

    first = Unfinished(tmp_path, "scan", GRID)
    one = first.once(("plan", 1), make, Volume)
    first.once(("plan", 1), make, Volume)
    assert (len(made), first.runs, first.resumed) == (1, 1, 0)  # nothing is resumed in one go
    again = Unfinished(tmp_path, "scan", GRID)
    two = again.once(("plan", 1), make, Volume)
    again.once(("plan", 2), make, Volume)
    assert (len(made), again.runs, again.resumed) == (2, 2, 1)
    assert one.values.tobytes() == two.values.tobytes()
    # Another scan, or another kind of record, is another run.
    Unfinished(tmp_path, "other scan", GRID).once(("plan", 1), make, Volume)
    assert len(made) == 3
    assert kept_runs(tmp_path) == 3
    mask = Mask.empty(GRID)
    assert Unfinished(tmp_path, "scan", GRID).once(("plan", 1), lambda: mask, Mask) is mask
    forget(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert kept_runs(tmp_path) == 0


@pytest.mark.parametrize("damage", ["emptied", "cut", "text"])
def test_a_damaged_run_is_made_anew(tmp_path: Path, damage: str) -> None:
    volume = Volume(grid=GRID, values=np.arange(60.0).reshape(GRID.shape))
    Unfinished(tmp_path, 1).once("a", lambda: volume, Volume)
    (file,) = (tmp_path / FOLDER).glob("*.npz")
    whole = file.read_bytes()
    file.write_bytes(
        {
            "emptied": b"",
            "cut": whole[:-40],
            "text": b"not an archive",
        }[damage]
    )
    again = Unfinished(tmp_path, 1)
    assert again.once("a", lambda: volume, Volume) is volume
    assert again.resumed == 0
    assert file.read_bytes()[:2] == b"PK"
    assert Unfinished(tmp_path, 1).once("a", lambda: volume, Volume) is not volume


def test_no_flipped_byte_passes(tmp_path: Path) -> None:
    told = records()
    file = write_exact(tmp_path / "r.npz", told)
    whole, found = file.read_bytes(), set()
    for k in range(0, len(whole), 5):
        file.write_bytes(whole[:k] + bytes([whole[k] ^ 255]) + whole[k + 1 :])
        try:
            found.add(fingerprint(read_exact(file)))  # a byte that nothing rests on
        except InputError:
            found.add("refused")
    assert found == {"refused", fingerprint(told)}


def test_a_run_that_cannot_be_kept_is_still_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    volume = Volume(grid=GRID, values=np.zeros(GRID.shape))
    assert Unfinished(tmp_path / "file", 1).once("a", lambda: volume, Volume) is volume
