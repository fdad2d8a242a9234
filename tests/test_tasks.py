"""Work of minutes takes kept files and gives kept files, the same wherever it is done."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trocar import tasks
from trocar.errors import InputError
from trocar.io.exact import fingerprint
from trocar.io.kept_scan import keep_scan
from trocar.pathway import edits
from trocar.phantom import Phantom, make
from trocar.phantom.cement import after
from trocar.phantom.files import as_scan

Heard = list[tuple[str, float]]


@pytest.fixture(scope="module")
def patient() -> Phantom:
    return make("vertebra_l3", seed=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, patient: Phantom) -> Path:
    """A kept CT, and the plan of a lesion that was clicked on it."""
    folder = tmp_path_factory.mktemp("kept")
    keep_scan(folder / "before.ct", as_scan(patient))
    made = tasks.outline(clicked(folder, patient), lambda step, f: None)
    (folder / "outlined.zip").write_bytes(made.files)
    return folder


def clicked(folder: Path, patient: Phantom) -> tasks.Asked:
    options = {"site": str(patient.site), "click_mm": [float(v) for v in patient.click_mm]}
    return tasks.Asked(scan=file(folder / "before.ct"), options=options | {"case_id": "one"})


def file(place: Path, *, elsewhere: bool = False) -> tasks.File:
    if elsewhere:
        return tasks.File(place=f"/nowhere/{place.name}", data=place.read_bytes())
    return tasks.File(place=str(place))


def asked(folder: Path, plan: str = "outlined.zip", **more: Any) -> tasks.Asked:
    return tasks.Asked(scan=file(folder / "before.ct"), plan=file(folder / plan), **more)


def opened(folder: Path, plan: str) -> Any:
    with tasks.unpacked(file(folder / plan)) as place:
        return tasks.open_plan(tasks.open_scan(folder / "before.ct"), place)


def names(made: tasks.Made) -> Mapping[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(made.files)) as archive:
        return {n: archive.read(n) for n in archive.namelist()}


def test_an_outline_is_that_of_the_library(folder: Path, patient: Phantom) -> None:
    """Voxel by voxel and finding by finding, but for when and how long it took."""
    direct = edits.outlined(
        as_scan(patient), patient.site, click_mm=patient.click_mm, case_id="one"
    )
    kept = opened(folder, "outlined.zip")
    assert fingerprint(replace(kept.plan, run=None)) == fingerprint(replace(direct.plan, run=None))
    assert fingerprint(kept.anatomy) == fingerprint(direct.anatomy)


def test_elsewhere_it_is_done_with_the_bytes(folder: Path) -> None:
    here = tasks.search(asked(folder, options={"count": 2}), lambda step, f: None)
    there = tasks.search(
        tasks.Asked(
            scan=file(folder / "before.ct", elsewhere=True),
            plan=file(folder / "outlined.zip", elsewhere=True),
            options={"count": 2},
        ),
        lambda step, f: None,
    )
    (folder / "here.zip").write_bytes(here.files)
    (folder / "there.zip").write_bytes(there.files)
    one, other = opened(folder, "here.zip").plan, opened(folder, "there.zip").plan
    assert one.options
    assert fingerprint(replace(one, run=None)) == fingerprint(replace(other, run=None))


def test_it_says_how_far_it_is_and_stops_when_told(folder: Path) -> None:
    heard: Heard = []
    tasks.search(asked(folder), lambda step, f: heard.append((step, f)))
    fractions = [f for _, f in heard]
    assert fractions == sorted(fractions)
    assert fractions[-1] <= 1.0

    class Enough(Exception):
        pass

    def stop(step: str, fraction: float) -> None:
        raise Enough

    with pytest.raises(Enough):
        tasks.search(asked(folder), stop)


def test_what_is_missing_is_said(folder: Path, tmp_path: Path) -> None:
    scan = tasks.open_scan(folder / "before.ct")
    other = replace(scan, sha256="0" * 64)
    keep_scan(tmp_path / "other.ct", other)
    with pytest.raises(InputError, match="no plan to go on from"):
        tasks.search(tasks.Asked(scan=file(folder / "before.ct")), lambda step, f: None)
    with pytest.raises(InputError, match="made on another CT"):
        tasks.search(replace(asked(folder), scan=file(tmp_path / "other.ct")), lambda step, f: None)
    with pytest.raises(InputError, match="no CT afterwards"):
        tasks.assess(asked(folder), lambda step, f: None)


def test_a_folder_is_packed_the_same_each_time_and_leads_nowhere(tmp_path: Path) -> None:
    for n in ("b.json", "a.html"):
        (tmp_path / n).write_text(n)
    assert tasks.packed(tmp_path.iterdir()) == tasks.packed(sorted(tmp_path.iterdir()))
    evil = tmp_path / "evil.zip"
    with zipfile.ZipFile(evil, "w") as archive:
        archive.writestr("../out.txt", "x")
    with pytest.raises(InputError, match="no plain name"):
        tasks.unpack(evil, tmp_path)


@pytest.mark.slow
def test_a_lesion_goes_all_the_way(folder: Path, patient: Phantom) -> None:
    """Search, ablation, injection, loading and the CT afterwards, each from what is kept."""

    def quiet(step: str, fraction: float) -> None:
        assert 0 <= fraction <= 1

    (folder / "plan.zip").write_bytes(tasks.search(asked(folder), quiet).files)

    ablation = tasks.ablate(
        asked(
            folder, "plan.zip",
            options={"device": "rf_10", "place": "needle", "applicators": 1, "interval": False},
        ),
        quiet,
    )  # fmt: skip
    held = names(ablation)
    assert {"ablation.html", "ablation.zh-Hant.html", "ablation.json"} <= set(held)
    assert ablation.told["kind"] == "ablation"
    assert ablation.told["verdict"] in ("ok", "caution", "stop", "unknown")

    injection = tasks.inject(asked(folder, "plan.zip", options={"runs": 4}), quiet)
    held = names(injection)
    told = json.loads(held["cement.json"])
    assert injection.told["target_ml"] == told["target_ml"]
    assert injection.told["verdict"] == told["verdict"]
    assert {"cement.html", "cement.zh-Hant.html", "training.json", "predicted.nii.gz"} <= set(held)
    assert "研究" in held["cement.zh-Hant.html"].decode()
    (folder / "injection.zip").write_bytes(injection.files)

    load = tasks.load(
        asked(
            folder, "plan.zip", predicted=file(folder / "injection.zip"),
            options={"voxel_mm": 1.5, "interval": False},
        ),
        quiet,
    )  # fmt: skip
    assert "planned" in json.loads(names(load)["strength.json"])["states"]

    with tasks.unpacked(file(folder / "injection.zip")) as place:
        from trocar.io.results import read_predicted

        came = read_predicted(place)
    made = after(patient.name, came, seed=0)
    keep_scan(folder / "after.ct", as_scan(patient, later=made.ct))
    found = tasks.assess(
        asked(
            folder, "plan.zip", after=file(folder / "after.ct"),
            predicted=file(folder / "injection.zip"),
        ),
        quiet,
    )  # fmt: skip
    assert {"result.html", "result.zh-Hant.html"} <= set(names(found))
    assert found.told["cement_ml"] == pytest.approx(came.volume_ml, rel=0.15)
    assert found.told["low_ml"] <= found.told["cement_ml"] <= found.told["high_ml"]

    page = tasks.sheet(asked(folder, "plan.zip", options={"language": "zh-Hant"}), quiet)
    assert page.files.decode().startswith("<!")
    assert np.frombuffer(page.files, np.uint8).size > 100_000
