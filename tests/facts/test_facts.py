"""Every number has a unit, a source and a grade; what is unknown is kept furthest away."""

from __future__ import annotations

from importlib import resources

import pytest

from trocar.facts import limits, products, source

FILES = sorted(source.versions())


@pytest.mark.parametrize("name", FILES)
def test_every_value_has_unit_source_and_grade(name: str) -> None:
    for value in source.load(name).values.values():
        assert value.unit
        assert len(value.source) > 8
        assert value.evidence in ("verified", "general knowledge", "placeholder")
        if value.low is not None and value.high is not None:
            assert value.low <= value.mean <= value.high


def test_the_version_of_every_file_is_reported() -> None:
    files = [f.name for f in resources.files("trocar.facts").iterdir() if f.name.endswith(".toml")]
    assert sorted(f.removesuffix(".toml") for f in files) == FILES
    assert all("(" in v for v in source.versions().values())


@pytest.mark.parametrize(
    ("structure", "mm"),
    [
        ("spinal_canal", 2.0),
        ("foramen_left", 3.0),
        ("nerve_root_right", 3.0),
        ("aorta", 5.0),
        ("inferior_vena_cava", 5.0),
        ("iliac_vena_left", 3.0),
        ("femoral_vessels_left", 5.0),
        ("lung_left", 3.0),
        ("urinary_bladder", 5.0),
        ("hip_joint_right", 3.0),
    ],
)
def test_default_margins(structure: str, mm: float) -> None:
    assert limits.margin(structure).mean == mm


def test_an_unknown_structure_gets_the_largest_margin() -> None:
    largest = max(
        v.mean for k, v in source.load("limits").values.items() if k.startswith("margin_")
    )
    assert limits.kind("something_new") == "unknown"
    assert limits.margin("something_new").mean == largest


def test_dead_volume_of_a_100_mm_lumen() -> None:
    volumes = {g: round(products.needle(g, 100).dead_volume_ml, 2) for g in (10, 11, 13, 15)}
    assert volumes == {10: 0.57, 11: 0.45, 13: 0.25, 15: 0.15}
