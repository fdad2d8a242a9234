"""Devices, phase change, cold and nearness as the reference prints them."""

from __future__ import annotations

import pytest

from trocar.errors import InputError
from trocar.facts import ablation as facts
from trocar.facts import limits, source, thermal


@pytest.mark.parametrize("name", facts.applicators())
def test_every_device_can_be_made_and_says_where_it_comes_from(name: str) -> None:
    one = facts.applicator(name)
    assert one.source
    assert one.evidence in ("verified", "general knowledge", "placeholder")
    assert one.heats == (one.kind != "cryo")
    assert one.radius_mm == one.diameter_mm / 2
    assert one.label == one.called
    assert ", " not in one.called  # a sheet reads that as two names


@pytest.mark.parametrize(
    ("tissue", "kj_kg", "within"),
    [("muscle", 250, 1), ("red_marrow", 130, 5), ("cancellous_bone", 100, 1),
     ("cortical_bone", 50, 1)],
)  # fmt: skip
def test_heat_of_freezing_is_that_of_the_reference(
    tissue: str, kj_kg: float, within: float
) -> None:
    found = facts.phase_change(tissue).freezing_j_m3 / thermal.tissue(tissue).density_kg_m3
    assert found / 1000 == pytest.approx(kj_kg, abs=within)


def test_every_tissue_changes_phase_in_a_way_that_can_be() -> None:
    for name in thermal.tissues():
        change = facts.phase_change(name)
        assert change.frozen_capacity_j_m3k > 0
        assert change.frozen_conductivity_w_mk > 0
        wet = source.load("ablation").data["water"][name] > 0
        assert (change.freezing_j_m3 > 0) == wet == (change.boiling_j_m3 > 0)


def test_frozen_soft_tissue_is_within_the_printed_range() -> None:
    change = facts.phase_change("muscle")
    assert 1.76 <= change.frozen_conductivity_w_mk <= 2.0
    per_kg = change.frozen_capacity_j_m3k / thermal.tissue("muscle").density_kg_m3
    assert 1800 <= per_kg <= 2000


@pytest.mark.parametrize(
    ("distance_mm", "grade"),
    [(0.0, "stop"), (4.99, "stop"), (5.0, "caution"), (9.99, "caution"), (10.0, "ok"),
     (float("inf"), "ok"), (float("nan"), "stop")],
)  # fmt: skip
def test_how_near_to_a_nerve_is_too_near(distance_mm: float, grade: str) -> None:
    assert facts.nearness(distance_mm) == grade


def test_what_is_of_unknown_kind_bears_no_more_cold_than_a_nerve() -> None:
    nerve, unknown = facts.cold_limit("nerve_root"), facts.cold_limit("flux_capacitor")
    assert nerve is not None
    assert unknown is not None
    assert (unknown.warn_c, unknown.harm_c) == (nerve.warn_c, nerve.harm_c) == (10.0, 10.0)
    assert facts.cold_limit("other_bone") is None
    for name in source.load("limits").data["kinds"]:
        cold = facts.cold_limit(name)
        assert cold is None or cold.harm_c == (10.0 if limits.neural(name) else 0.0)


def test_devices_that_cannot_be_are_refused() -> None:
    for wrong, why in (
        ({"kind": "rf_bipolar", "target_c": 70.0}, "bipolar; give the gap"),
        ({"kind": "rf"}, "give a target temperature or a power"),
        ({"kind": "microwave"}, "give its power"),
        ({"kind": "cryo"}, "give its lowest temperature"),
        ({"kind": "cryo", "coldest_c": -300.0}, "-200 to 0"),
        ({"kind": "rf", "power_w": -1.0}, "expected more than 0"),
        ({"kind": "rf", "target_c": 70.0, "diameter_mm": 0.0}, "needs a diameter"),
    ):
        values = {"name": "x", "diameter_mm": 1.5, "active_mm": 10.0} | wrong
        with pytest.raises(InputError, match=why):
            facts.Applicator(**values)  # type: ignore[arg-type]
