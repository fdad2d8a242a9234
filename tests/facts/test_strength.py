"""Laws, materials, failure and loads of bone against every value the reference prints."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trocar.errors import InputError
from trocar.facts import source, tissue
from trocar.facts import strength as facts

# clinical.md C.3, TEST: MPa at an apparent density of 0.2 and of 1.0 g/cm3.
PRINTED = {
    "morgan_vertebra": ("384.1", "4730"),
    "morgan_neck": ("622.6", "6850"),
    "morgan_trochanter": ("449.4", "15010"),
    "morgan_tibia": ("694.8", "15520"),
    "morgan_pooled": ("469.1", "8920"),
    "dalstra": ("38.5", "2017.3"),
    "carter_hayes": ("23.0", "2875"),
}


def as_printed(number: float, printed: str) -> bool:
    """Whether a number rounds to what is printed."""
    digits = len(printed.split(".")[1]) if "." in printed else 0
    return f"{number:.{digits}f}" == printed


@pytest.mark.parametrize("name", PRINTED)
def test_a_law_of_apparent_density_gives_what_is_printed(name: str) -> None:
    law = facts.law(name)
    assert law.takes == "app"
    for got, printed in zip(law.modulus_mpa([0.2, 1.0]), PRINTED[name], strict=True):
        assert as_printed(float(got), printed)


# Densities of 1 and 0.5 g/cm3: factor and factor / 2 ** exponent, by hand from clinical.md C.3.
@pytest.mark.parametrize(
    ("name", "at_1", "at_half"),
    [("keller_femur", "10500", "2147"), ("keller_pooled", "10500", "1768"),
     ("keller_spine", "757", "197"), ("wirtz_cancellous", "1904", "611"),
     ("wirtz_cortical", "2065", "243")],
)  # fmt: skip
def test_the_laws_without_a_printed_test_have_the_printed_constants(
    name: str, at_1: str, at_half: str
) -> None:
    got = [f"{v:.0f}" for v in facts.law(name).modulus_mpa([1.0, 0.5])]
    assert got == [at_1, at_half]


def test_keyak_and_kopperdahl_give_what_is_printed() -> None:
    keyak = facts.law("keyak")
    got = [f"{v:.1f}" for v in keyak.modulus_mpa([0.1, 0.4, 1.0])]
    assert got == ["213.9", "2591.8", "10200.0"]
    assert f"{facts.law('kopperdahl').modulus_mpa(0.1):.1f}" == "288.3"
    assert facts.law("kopperdahl").strength_mpa(0.1) == pytest.approx(-0.75 + 2.49)
    for at, below, above in ((0.27, 1902.0, 1901.9), (0.60, 3653.2, 3653.3)):
        assert keyak.modulus_mpa(at - 1e-9) == pytest.approx(below, abs=0.06)
        assert keyak.modulus_mpa(at) == pytest.approx(above, abs=0.06)
    assert keyak.strength_mpa([0.3, 0.317]) == pytest.approx([137 * 0.3**1.88, 114 * 0.317**1.72])


def test_the_chain_from_hu_to_modulus_is_as_printed() -> None:
    ha = tissue.value("density_slope_uncalibrated").mean * 150.0
    assert f"{ha:.3f}" == "0.120"
    assert f"{facts.density(ha, of='ha', to='ash'):.4f}" == "0.1842"
    assert f"{facts.density(ha, of='ha', to='app'):.4f}" == "0.3071"
    assert f"{facts.law('morgan_neck').modulus_mpa(ha, of='ha'):.0f}" == "1179"
    assert f"{facts.law('kopperdahl').modulus_mpa(ha, of='ha'):.0f}" == "353"
    water = facts.density([0.0, -0.1], of="ha", to="ash")
    assert water.tolist() == [0.079, 0.079]
    assert f"{facts.law('morgan_neck').modulus_mpa(0.0, of='ha'):.0f}" == "334"


def test_densities_turn_into_each_other_or_say_why_not() -> None:
    assert facts.density(0.1, of="k2hpo4", to="ash") == pytest.approx(0.1743)
    assert facts.density(0.1, of="k2hpo4", to="ha") == pytest.approx(0.09)
    assert facts.density(0.5, of="app", to="ash") == pytest.approx(0.30)
    assert facts.density(0.5, of="ash", to="ash") == 0.5
    for of, to in (("qct", "ash"), ("ash", "qct"), ("ash", "ha"), ("ha", "k2hpo4")):
        with pytest.raises(InputError, match="no way from the density"):
            facts.density(0.1, of=of, to=to)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="choose qct, ha"):
        facts.density(0.1, of="lead", to="ash")  # type: ignore[arg-type]
    assert facts.density_factor("none").low == pytest.approx(0.8)  # C.2.3: +- 20 %
    assert facts.density_factor("none").high == pytest.approx(1.2)
    with pytest.raises(InputError, match="phantom, internal, none"):
        facts.density_factor("guess")


@pytest.mark.parametrize("name", facts.laws())
def test_every_law_rises_keeps_its_bounds_and_says_where_it_comes_from(name: str) -> None:
    law = facts.law(name)
    assert law.source
    assert law.label
    e = law.modulus_mpa(np.linspace(0.0, 4.0, 401).reshape(1, 401))
    assert e.shape == (1, 401)
    assert (np.diff(e) >= -0.2).all()  # Keyak's pieces join within 0.1
    assert e.min() >= 1.0
    assert e.max() <= 20_000.0
    if law.strength:
        assert (np.diff(law.strength_mpa(np.linspace(0.0, 2.0, 201))) >= 0).all()
    else:
        with pytest.raises(InputError, match="gives no strength; those that do are kopperdahl"):
            law.strength_mpa(0.2)


def test_a_density_that_is_no_number_gets_no_modulus() -> None:
    assert np.isnan(facts.law("keyak").modulus_mpa(float("nan")))


def test_a_law_knows_where_it_was_measured() -> None:
    assert facts.law("kopperdahl").measured([0.04, 0.05, 0.25, 0.26]).tolist() == [
        False, True, True, False,
    ]  # fmt: skip
    assert not facts.law("keyak").measured([0.3]).any()


# Bonelab/spineFE-benchmark, notebook 2: density, modulus and yield stress of its elements.
@pytest.mark.parametrize(
    ("rho", "modulus", "strength"),
    [(1.3744, 4161.4274, 58.191), (1.5999, 4881.0255, 71.872), (1.8855, 5799.7644, 90.305)],
)
def test_the_power_law_is_that_of_the_public_benchmark(
    rho: float, modulus: float, strength: float
) -> None:
    law = facts.law("kopperdahl_power")
    assert law.modulus_mpa(rho) == pytest.approx(modulus, rel=1e-4)
    assert law.strength_mpa(rho) == pytest.approx(strength, rel=1e-4)


def test_every_site_has_its_law_and_what_is_chosen_is_marked() -> None:
    laws = {kind: facts.site(kind).law.name for kind in source.load("strength").data["site_of"]}
    assert laws == {
        "vertebra": "kopperdahl",
        "sacrum": "kopperdahl",
        "ilium": "dalstra",
        "acetabulum": "dalstra",
        "ischium": "dalstra",
        "pubis": "dalstra",
        "femur": "keyak",
        "humerus": "morgan_neck",
    }
    for kind in laws:
        found = facts.site(kind)
        assert found.strength.strength
        assert found.alternative.name != found.law.name
        assert (found.evidence == "placeholder") == (kind not in ("vertebra", "femur"))
    assert facts.site("vertebra").alternative.name == "morgan_vertebra"
    with pytest.raises(InputError, match="choose vertebra, sacrum"):
        facts.site("skull")


@pytest.mark.parametrize("name", facts.materials())
def test_every_material_can_be_made(name: str) -> None:
    one = facts.material(name)
    assert one.label
    assert one.modulus_mpa.unit == "MPa"
    assert 0.0 < one.poisson.mean < 0.5
    for strength in (one.compression_mpa, one.tension_mpa):
        assert strength is None or strength.mean > 0


def test_materials_are_those_of_the_reference() -> None:
    def spread(v: facts.Value | None) -> tuple[float | None, ...]:
        return () if v is None else (v.low, v.mean, v.high)

    m = facts.material
    assert spread(m("pmma_regular").modulus_mpa) == (1937 - 478, 1937, 1937 + 478)
    assert spread(m("pmma_soft").modulus_mpa) == (954 - 141, 954, 954 + 141)
    assert spread(m("pmma_soft").compression_mpa) == (80, 97.5, 115)
    assert spread(m("pmma").modulus_mpa) == (1937 - 478, 1937, 3000)
    assert spread(m("cortical").modulus_mpa) == (12_000, 14_500, 17_000)
    assert spread(m("cortical").tension_mpa) == (80, 105, 130)
    assert spread(m("tumour").modulus_mpa) == (10, 17.5, 25)
    assert spread(m("vertebra_cortex").modulus_mpa) == (4700, 8350, 12_000)
    assert m("titanium").compression_mpa is None
    assert m("infiltrated").modulus_mpa.mean == 1500
    share = facts.value("infiltrated_share")
    assert share.mean * 1937 == pytest.approx(1500, rel=1e-3)
    assert not m("pmma").verified
    with pytest.raises(InputError, match="choose pmma"):
        m("chewing_gum")


def test_strain_and_stress_reach_their_limits_where_the_reference_says() -> None:
    spongy, compact = facts.strain_limit("vertebra"), facts.strain_limit("femur")
    assert spongy.used([-0.0084, 0.0, 0.001], [0.0, 0.0061, 0.002])[:2] == pytest.approx(1.0)
    assert compact.used(-0.0104, 0.0) == pytest.approx(1.0)
    assert compact.used(0.0, 0.0073) == pytest.approx(1.0)
    assert spongy.used(0.001, -0.001) == 0.0
    assert np.isnan(spongy.used(float("nan"), 0.0))
    # Uniaxial compression and tension at the strengths, hydrostatic pressure never.
    dp = facts.drucker_prager(80.0, 25.0)
    for stress in (-80.0, 25.0):
        assert dp.used(stress, abs(stress) / math.sqrt(3.0)) == pytest.approx(1.0)
    assert dp.used(-300.0, 0.0) == 0.0
    assert dp.alpha == pytest.approx(55.0 / (math.sqrt(3.0) * 105.0))
    assert facts.drucker_prager(50.0, 50.0).alpha == 0.0  # von Mises
    with pytest.raises(InputError, match="both above 0"):
        facts.drucker_prager(80.0, 0.0)


def test_loads_at_failure_follow_their_closed_forms() -> None:
    assert facts.pistoia_load_n(800.0, 0.007) == pytest.approx(800.0)
    with pytest.raises(InputError, match="more than 0"):
        facts.pistoia_load_n(800.0, float("nan"))
    # Bonelab/spineFE-benchmark: stiffness (N/mm), height (mm), linear failure load (kN).
    for stiffness, height, printed in (
        (20139.0, 32.0, 4.3822464), (34480.0, 35.0, 8.20624), (12645.0, 30.0, 2.57958),
    ):  # fmt: skip
        assert facts.height_load_n(stiffness, height) / 1e3 == pytest.approx(printed, rel=1e-9)
    assert float(facts.value("apparent_strain")) == 0.019
    assert facts.at_high_risk(1000.0, 900.0)
    assert facts.fold_foretells_fracture(float("nan"))


@pytest.mark.parametrize("name", facts.loads())
def test_every_load_presses_on_something_that_is_held(name: str) -> None:
    case = facts.load_case(name)
    assert case.label
    assert case.fixed
    assert all(case.suits(kind, region) for kind in case.kinds for region in case.regions or ("",))
    for force in case.forces:
        assert force.newton(70.0, "low") <= force.newton(70.0) <= force.newton(70.0, "high")
        assert force.on != case.fixed
        for side in ("left", "right"):
            assert np.linalg.norm(force.direction(side)) == pytest.approx(1.0)
    for moment in case.moments:
        assert moment.size_nm.unit == "N m"
        assert np.linalg.norm(moment.about) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("region", "newton"),
    [("lumbar", 1000), ("lower_thoracic", 600), ("upper_thoracic", 600), ("cervical", 400)],
)
def test_a_vertebra_is_pressed_by_its_region_and_bent_forward(region: str, newton: float) -> None:
    pressed, bent = facts.loads_for("vertebra", region)[:2]
    for case in (pressed, bent):
        assert [f.newton() for f in case.forces] == [newton]
        assert case.forces[0].direction() == (0.0, 0.0, -1.0)
        assert not case.by_weight()
    assert not pressed.moments
    assert float(bent.moments[0].size_nm) == 10.0
    # The top of the bone (up, +z in LPS) goes to the front (-y).
    assert np.cross(bent.moments[0].about, [0.0, 0.0, 1.0]).tolist() == [0.0, -1.0, 0.0]


def test_the_hip_presses_down_outward_and_back_and_the_cup_the_other_way() -> None:
    head = facts.load_case("femur_stance").forces[0]
    cup = facts.load_case("pelvis_stance").forces[0]
    for side, outward in (("left", 1.0), ("right", -1.0)):
        x, y, z = head.direction(side)
        assert math.degrees(math.atan2(x * outward, -z)) == pytest.approx(13.0)
        assert math.degrees(math.atan2(y, -z)) == pytest.approx(7.5)
        assert cup.direction(side) == pytest.approx((-x, -y, -z))
        pull = facts.load_case("femur_stance").forces[1].direction(side)
        assert pull[0] * outward < 0 < pull[2]  # to the midline and up
    with pytest.raises(InputError, match="give left or right"):
        head.direction()


def test_forces_of_the_hip_go_with_the_weight() -> None:
    walking = facts.load_case("femur_walking").forces[0]
    assert walking.newton(80.0) == pytest.approx(2.38 * 80.0 * 9.80665)
    assert walking.newton() == walking.newton(70.0)  # a placeholder stands in
    assert facts.value("body_weight").evidence == "placeholder"
    with pytest.raises(InputError, match="more than 0"):
        walking.newton(0.0)
    usual = [facts.loads_for(kind)[0].name for kind in ("femur", "humerus", "ilium", "sacrum")]
    assert usual == ["femur_stance", "humerus_both", "pelvis_stance", "sacrum_compression"]
    assert facts.loads_for("sacrum")[0].evidence == "placeholder"
    for kind, region in (("vertebra", ""), ("skull", "")):
        with pytest.raises(InputError, match="a vertebra needs"):
            facts.loads_for(kind, region)


def test_what_cannot_be_is_refused() -> None:
    for pieces, why in (
        ((), "has no piece"),
        (((0.1, 0.0, 1.0, 1.0),), "begin at 0"),
        (((0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 2.0, 1.0)), "to rise"),
    ):
        with pytest.raises(InputError, match=why):
            facts.DensityLaw(name="x", takes="ash", pieces=pieces)
    with pytest.raises(InputError, match="neither a force nor a moment"):
        facts.LoadCase(name="x", label="x", kinds=("femur",), frame="bone", fixed="distal end")
    for make in (facts.law, facts.material, facts.strain_limit, facts.load_case):
        with pytest.raises(InputError, match=r"there is no .* 'x'; choose"):
            make("x")  # type: ignore[operator]
