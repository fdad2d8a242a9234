"""Scores of the patient against tables written out here, every combination; boundaries."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from trocar.errors import InputError
from trocar.model.patient import PRIMARIES
from trocar.selection.prognosis import (
    bollen,
    ecog_from_karnofsky,
    katagiri,
    noms,
    tokuhashi,
    tomita,
)
from trocar.selection.scores import sins

# --- Katagiri ------------------------------------------------------------------------------------

SLOW = ("thyroid", "myeloma", "lymphoma")
RAPID = (
    "colon",
    "rectum",
    "stomach",
    "pancreas",
    "head and neck",
    "oesophagus",
    "bladder",
    "other urological",
    "melanoma",
    "liver",
    "gallbladder",
    "cervix",
    "unknown",
)
ASKED = ("breast", "prostate", "lung")
WELL: dict[str, Any] = {
    "primary": "thyroid",
    "visceral": "none",
    "ecog": 0,
    "previous_chemotherapy": False,
    "skeletal_lesions": 1,
    "crp_mg_dl": 0.1,
    "ldh_iu_l": 180.0,
    "albumin_g_dl": 4.2,
    "platelets_e9_l": 250.0,
    "calcium_mg_dl": 9.4,
    "bilirubin_mg_dl": 0.6,
}


@pytest.mark.parametrize("primary", PRIMARIES)
def test_every_primary_of_katagiri(primary: str) -> None:
    if primary in ASKED:
        fact = "targeted_drug" if primary == "lung" else "hormone_dependent"
        yes, no = (2, 3) if primary == "lung" else (0, 2)
        assert katagiri(**{**WELL, "primary": primary, fact: True}).points == yes
        assert katagiri(**{**WELL, "primary": primary, fact: False}).points == no
        unknown = katagiri(**{**WELL, "primary": primary})
        assert unknown.points is None
        assert unknown.missing == (fact.replace("_", " "),)
    else:
        expected = 0 if primary in SLOW else 3 if primary in RAPID else 2
        assert katagiri(**{**WELL, "primary": primary}).points == expected


def test_all_combinations_of_katagiri() -> None:
    primaries = {"thyroid": 0, "kidney": 2, "rectum": 3}
    organs = {"none": 0, "nodular removable": 1, "nodular unremovable": 1, "disseminated": 2}
    blood: dict[str, tuple[dict[str, float], int]] = {
        "normal": ({}, 0),
        "abnormal": ({"crp_mg_dl": 3.0}, 1),
        "critical": ({"calcium_mg_dl": 12.0}, 2),
        "both": ({"crp_mg_dl": 3.0, "calcium_mg_dl": 12.0}, 2),
    }
    fitness = dict.fromkeys(range(3), 0) | dict.fromkeys((3, 4), 1)
    seen = set()
    for p, v, b, e, chemo, bones in product(
        primaries, organs, blood, fitness, (False, True), (1, 2)
    ):
        score = katagiri(
            **{
                **WELL,
                **blood[b][0],
                "primary": p,
                "visceral": v,
                "ecog": e,
                "previous_chemotherapy": chemo,
                "skeletal_lesions": bones,
            }
        )
        expected = primaries[p] + organs[v] + blood[b][1] + fitness[e] + chemo + (bones > 1)
        assert score.points == expected
        group = "good" if expected <= 3 else "intermediate" if expected <= 6 else "poor"
        assert score.group == group
        assert score.evidence == "general knowledge"
        assert "not checked" in score.note
        seen.add(expected)
    assert seen == set(range(11))


def test_survival_of_the_classes_of_katagiri() -> None:
    good = katagiri(**WELL).meaning
    poor = katagiri(**{**WELL, "primary": "rectum", "visceral": "disseminated"} | _CRITICAL).meaning
    assert "98.1, 91.4, 77.8 %" in good
    assert "94.4, 77.8, 61.1 %" in good
    assert "26.9, 6.0, 2.1 %" in poor
    assert "39.1, 22.1, 9.0 %" in poor


_CRITICAL = {"platelets_e9_l": 50.0}


@pytest.mark.parametrize(
    ("test", "inside", "beyond", "points"),
    [
        ("crp_mg_dl", 0.39, 0.4, 1),
        ("ldh_iu_l", 249, 250, 1),
        ("albumin_g_dl", 3.7, 3.69, 1),
        ("platelets_e9_l", 100, 99.9, 2),
        ("calcium_mg_dl", 10.29, 10.3, 2),
        ("bilirubin_mg_dl", 1.39, 1.4, 2),
    ],
)
def test_boundaries_of_the_laboratory(
    test: str, inside: float, beyond: float, points: float
) -> None:
    assert katagiri(**{**WELL, test: inside}).parts["laboratory"] == 0
    assert katagiri(**{**WELL, test: beyond}).parts["laboratory"] == points


def test_the_example_of_katagiri() -> None:
    score = katagiri(
        **{
            **WELL,
            "primary": "rectum",
            "visceral": "nodular unremovable",
            "crp_mg_dl": 2.0,
            "ecog": 2,
            "previous_chemotherapy": True,
            "skeletal_lesions": 4,
        }
    )
    assert (score.points, score.group) == (7, "poor")


TESTS = {
    "crp_mg_dl": "C-reactive protein",
    "ldh_iu_l": "lactate dehydrogenase",
    "albumin_g_dl": "albumin",
    "platelets_e9_l": "platelets",
    "calcium_mg_dl": "calcium",
    "bilirubin_mg_dl": "bilirubin",
}


@pytest.mark.parametrize(
    ("lost", "missing"),
    [
        ("primary", "primary"),
        ("visceral", "visceral metastases"),
        ("ecog", "ECOG"),
        ("previous_chemotherapy", "previous chemotherapy"),
        ("skeletal_lesions", "number of skeletal metastases"),
        *TESTS.items(),
    ],
)
def test_an_unknown_part_of_katagiri_is_named(lost: str, missing: str) -> None:
    score = katagiri(**{**WELL, lost: None})
    assert score.points is None
    assert score.missing == (missing,)


@pytest.mark.parametrize("lost", TESTS)
def test_a_critical_value_decides_whatever_else_is_unknown(lost: str) -> None:
    blood = {t: None for t in TESTS if t != "calcium_mg_dl"} | {"calcium_mg_dl": 11.0}
    assert katagiri(**{**WELL, **blood}).parts["laboratory"] == 2
    # An abnormal value decides among the other abnormal ones, and not over the critical ones.
    abnormal = {**WELL, "albumin_g_dl": 3.0} | ({lost: None} if lost != "albumin_g_dl" else {})
    score = katagiri(**abnormal)
    if lost in ("platelets_e9_l", "calcium_mg_dl", "bilirubin_mg_dl"):
        assert score.missing == (TESTS[lost],)
    else:
        assert score.parts["laboratory"] == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"primary": "skin"}, "primary is 'skin'; expected one of lung"),
        ({"visceral": "liver"}, "visceral is 'liver'"),
        ({"ecog": 6}, "ecog is 6; expected 0 to 5"),
        ({"skeletal_lesions": 0}, "skeletal_lesions is 0; expected at least 1"),
    ],
)
def test_what_katagiri_does_not_know_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        katagiri(**{**WELL, **changed})


# --- Tokuhashi -----------------------------------------------------------------------------------

TOKUHASHI = {
    **dict.fromkeys(("lung", "osteosarcoma", "stomach", "bladder", "oesophagus", "pancreas"), 0),
    **dict.fromkeys(("liver", "gallbladder", "unknown"), 1),
    **dict.fromkeys(("kidney", "uterus"), 3),
    "rectum": 4,
    **dict.fromkeys(("thyroid", "breast", "prostate", "carcinoid"), 5),
}
ALONE: dict[str, Any] = {
    "karnofsky": 90,
    "extraspinal_lesions": 0,
    "vertebral_lesions": 1,
    "visceral": "none",
    "frankel": "E",
    "primary": "lung",
}


@pytest.mark.parametrize("primary", PRIMARIES)
def test_every_primary_of_tokuhashi(primary: str) -> None:
    assert tokuhashi(**{**ALONE, "primary": primary}).parts["primary"] == TOKUHASHI.get(primary, 2)


def test_all_combinations_of_tokuhashi() -> None:
    fitness = {10: 0, 40: 0, 50: 1, 70: 1, 80: 2, 100: 2}
    foci = {0: 2, 1: 1, 2: 1, 3: 0, 9: 0}
    bodies = {1: 2, 2: 1, 3: 0, 8: 0}
    organs = {"none": 2, "nodular removable": 1, "nodular unremovable": 0, "disseminated": 0}
    palsy = {"A": 0, "B": 0, "C": 1, "D": 1, "E": 2}
    tumours = {"lung": 0, "liver": 1, "ovary": 2, "kidney": 3, "rectum": 4, "breast": 5}
    seen = set()
    for k, f, b, o, p, t in product(fitness, foci, bodies, organs, palsy, tumours):
        score = tokuhashi(
            karnofsky=k,
            extraspinal_lesions=f,
            vertebral_lesions=b,
            visceral=o,
            frankel=p,
            primary=t,
        )
        expected = fitness[k] + foci[f] + bodies[b] + organs[o] + palsy[p] + tumours[t]
        assert score.points == expected
        if expected <= 8:
            assert score.group == "below 6 months"
        elif expected <= 11:
            assert score.group == "6 months or more"
        else:
            assert score.group == "1 year or more"
        seen.add(expected)
    assert seen == set(range(16))
    assert score.evidence == "verified"


def test_the_example_of_tokuhashi() -> None:
    score = tokuhashi(
        karnofsky=60,
        extraspinal_lesions=1,
        vertebral_lesions=1,
        visceral="none",
        frankel="E",
        primary="kidney",
    )
    assert (score.points, score.group) == (11, "6 months or more")


def test_karnofsky_between_tens_counts_with_the_lower() -> None:
    assert tokuhashi(**{**ALONE, "karnofsky": 79}).parts["performance"] == 1
    assert tokuhashi(**{**ALONE, "karnofsky": 49}).parts["performance"] == 0


@pytest.mark.parametrize(
    ("lost", "missing"),
    [
        ("karnofsky", "Karnofsky"),
        ("extraspinal_lesions", "number of skeletal metastases"),
        ("vertebral_lesions", "number of vertebral metastases"),
        ("visceral", "visceral metastases"),
        ("frankel", "Frankel"),
        ("primary", "primary"),
    ],
)
def test_an_unknown_part_of_tokuhashi_is_named(lost: str, missing: str) -> None:
    score = tokuhashi(**{**ALONE, lost: None})
    assert score.points is None
    assert score.missing == (missing,)


def test_what_tokuhashi_does_not_know_is_refused() -> None:
    for changed in ({"vertebral_lesions": 0}, {"frankel": "F"}, {"extraspinal_lesions": -1}):
        with pytest.raises(InputError, match=next(iter(changed))):
            tokuhashi(**{**ALONE, **changed})


# --- Tomita --------------------------------------------------------------------------------------

TOMITA = {
    **dict.fromkeys(("breast", "thyroid", "prostate"), 1),
    **dict.fromkeys(("kidney", "uterus"), 2),
    **dict.fromkeys(("lung", "liver", "stomach", "colon", "unknown"), 4),
}


def test_all_combinations_of_tomita() -> None:
    organs = {"none": 0, "nodular removable": 2, "nodular unremovable": 4, "disseminated": 4}
    groups = {
        **dict.fromkeys((2, 3), "wide or marginal excision"),
        **dict.fromkeys((4, 5), "marginal or intralesional excision"),
        **dict.fromkeys((6, 7), "palliative"),
        **dict.fromkeys((8, 9, 10), "supportive"),
    }
    seen = set()
    for primary, visceral, bones in product(TOMITA, organs, (1, 2, 7)):
        score = tomita(primary=primary, visceral=visceral, skeletal_lesions=bones)
        expected = TOMITA[primary] + organs[visceral] + (1 if bones == 1 else 2)
        assert score.points == expected
        assert score.group == groups[expected]
        assert score.evidence == "general knowledge"
        assert "not checked" in score.note
        seen.add(expected)
    assert seen == set(range(2, 11))


@pytest.mark.parametrize("primary", sorted(set(PRIMARIES) - set(TOMITA)))
def test_a_primary_tomita_does_not_name_is_said(primary: str) -> None:
    score = tomita(primary=primary, visceral="none", skeletal_lesions=1)
    assert score.points is None
    assert score.missing == ("primary",)
    assert "does not name" in score.note


def test_an_unknown_part_of_tomita_is_named() -> None:
    score = tomita(primary=None, visceral=None, skeletal_lesions=None)
    assert score.missing == ("primary", "visceral metastases", "number of skeletal metastases")
    assert "does not name" not in score.note


# --- Bollen --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "karnofsky", "visceral", "category", "spine", "long_bone"),
    [
        ("favourable", 80, "none", "A", "31.2", "21.9"),
        ("favourable", 80, "disseminated", "B", "15.4", "10.5"),
        ("favourable", 70, "none", "B", "15.4", "10.5"),
        ("favourable", 70, "nodular removable", "C", "4.8", "4.6"),
        ("moderate", 80, "none", "B", "15.4", "10.5"),
        ("moderate", 100, "disseminated", "B", "15.4", "10.5"),
        ("moderate", 70, "none", "C", "4.8", "4.6"),
        ("moderate", 10, "disseminated", "C", "4.8", "4.6"),
        ("unfavourable", 80, "none", "C", "4.8", "4.6"),
        ("unfavourable", 90, "disseminated", "C", "4.8", "4.6"),
        ("unfavourable", 70, "none", "D", "1.6", "2.2"),
        ("unfavourable", 70, "nodular unremovable", "D", "1.6", "2.2"),
    ],
)
def test_the_flow_chart_of_bollen(
    profile: str, karnofsky: int, visceral: str, category: str, spine: str, long_bone: str
) -> None:
    score = bollen(
        primary="other", karnofsky=karnofsky, visceral=visceral, profiles={"other": profile}
    )
    assert score.group == f"category {category}"
    assert score.points == "ABCD".index(category) + 1
    assert f"{spine} months (spine)" in score.meaning
    assert f"{long_bone} months (long bones)" in score.meaning
    assert score.evidence == "placeholder"
    assert "stand-in" in score.note


def test_bollen_does_not_guess() -> None:
    unnamed = bollen(primary="myeloma", karnofsky=90, visceral="none")
    assert unnamed.missing == ("primary",)
    assert "do not name" in unnamed.note
    lost = bollen(primary="breast", karnofsky=None, visceral=None)
    assert lost.points is None
    assert lost.missing == ("Karnofsky", "visceral metastases")
    assert "do not name" not in lost.note
    with pytest.raises(InputError, match="profile is 'fair'; expected one of favourable"):
        bollen(primary="lung", karnofsky=90, visceral="none", profiles={"lung": "fair"})


# --- Karnofsky, NOMS -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("karnofsky", "ecog"),
    [
        (100, 0),
        (90, 0),
        (80, 1),
        (70, 1),
        (60, 2),
        (50, 2),
        (40, 3),
        (30, 3),
        (20, 4),
        (10, 4),
        (0, 5),
        (99, 0),
        (89, 1),
        (75, 1),
        (69, 2),
        (31, 3),
        (29, 4),
        (5, 4),
        (1, 4),
    ],
)
def test_ecog_of_every_karnofsky(karnofsky: int, ecog: int) -> None:
    score = ecog_from_karnofsky(karnofsky=karnofsky)
    assert (score.points, score.group) == (ecog, f"ECOG {ecog}")
    assert score.evidence == "general knowledge"
    assert score.note


def test_unknown_and_wrong_karnofsky() -> None:
    assert ecog_from_karnofsky(karnofsky=None).missing == ("Karnofsky",)
    with pytest.raises(InputError, match="karnofsky is 101; expected 0 to 100"):
        ecog_from_karnofsky(karnofsky=101)


def test_the_letters_of_noms() -> None:
    stable = sins(
        level="T5",
        pain="none",
        nature="lytic",
        alignment="normal",
        collapse_percent=10,
        body_involved_percent=None,
        posterolateral="none",
    )
    facts: dict[str, Any] = {
        "escc": "1b",
        "myelopathy": False,
        "primary": "myeloma",
        "sins": stable,
        "ecog": 1,
        "visceral": "none",
    }
    letters = noms(**facts)
    assert (letters.radiosensitivity, letters.stability) == ("radiosensitive", "stable")
    assert letters.missing == ()
    assert letters.evidence == "general knowledge"
    for lost, letter in (("escc", "N"), ("myelopathy", "N"), ("primary", "O"), ("ecog", "S")):
        assert noms(**{**facts, lost: None}).missing == (letter,)


@pytest.mark.parametrize(
    ("primary", "kind"),
    [(p, "radiosensitive") for p in ("lymphoma", "myeloma", "seminoma", "breast", "prostate")]
    + [
        (p, "radioresistant")
        for p in ("kidney", "thyroid", "lung", "sarcoma", "osteosarcoma", "melanoma")
    ]
    + [(p, "radioresistant") for p in ("colon", "rectum", "stomach", "oesophagus")]
    + [("ovary", None), ("unknown", None)],
)
def test_sensitivity_to_radiotherapy(primary: str, kind: str | None) -> None:
    blank = sins(
        level=None,
        pain=None,
        nature=None,
        alignment=None,
        collapse_percent=None,
        body_involved_percent=None,
        posterolateral=None,
    )
    letters = noms(
        escc=None, myelopathy=None, primary=primary, sins=blank, ecog=None, visceral=None
    )
    assert letters.radiosensitivity == kind
    assert letters.missing == (("N", "M", "S") if kind else ("N", "O", "M", "S"))
