"""Scores of the lesion against tables written out here: every combination, every boundary."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trocar.errors import InputError
from trocar.selection.scores import (
    bilsky,
    collapse_percent,
    escc,
    genant,
    genant_grade,
    harrington,
    mirels,
    sins,
    sins_location,
)

# --- Mirels: the 81 sums by hand, site by site; rows size x nature, columns pain 1 2 3 -----------

BY_SITE = {
    "upper limb": "456 567 678 567 678 789 678 789 89A",
    "lower limb": "567 678 789 678 789 89A 789 89A 9AB",
    "trochanteric": "678 789 89A 789 89A 9AB 89A 9AB ABC",
}
MIRELS = [
    (site, size, nature, pain, int(BY_SITE[site].split()[3 * i + j][k], 16))
    for site in BY_SITE
    for i, size in enumerate((0.2, 0.5, 0.9))
    for j, nature in enumerate(("blastic", "mixed", "lytic"))
    for k, pain in enumerate(("mild", "moderate", "functional"))
]


def test_all_81_combinations_of_mirels() -> None:
    assert len(MIRELS) == 81
    for site, size, nature, pain, expected in MIRELS:
        score = mirels(site=site, size_fraction=size, nature=nature, pain=pain)
        assert score.points == expected
        group = "low risk" if expected <= 7 else "borderline" if expected == 8 else "high risk"
        assert score.group == group
        assert score.missing == ()
        assert score.evidence == "verified"


@pytest.mark.parametrize(
    ("site", "size", "nature", "pain", "points"),
    [
        ("upper limb", 0.2, "blastic", "mild", 4),
        ("lower limb", 0.5, "mixed", "moderate", 8),
        ("trochanteric", 0.5, "lytic", "functional", 11),
        ("trochanteric", 0.2, "mixed", "moderate", 8),
        ("trochanteric", 0.5, "mixed", "functional", 10),
    ],
)
def test_published_examples_of_mirels(
    site: str, size: float, nature: str, pain: str, points: int
) -> None:
    assert mirels(site=site, size_fraction=size, nature=nature, pain=pain).points == points


@pytest.mark.parametrize(
    ("size", "points"), [(0, 1), (0.333, 1), (1 / 3, 2), (2 / 3, 2), (0.667, 3), (1, 3)]
)
def test_thirds_of_the_bone(size: float, points: float) -> None:
    score = mirels(site="upper limb", size_fraction=size, nature="blastic", pain="mild")
    assert score.parts["size"] == points


def test_risk_texts_of_mirels() -> None:
    said = {p: mirels(**_mirels_of(p)).meaning for p in (7, 8, 9)}
    assert "0 to 4 %" in said[7]
    assert "15 %" in said[8]
    assert "33 % or more" in said[9]


def _mirels_of(points: int) -> dict[str, object]:
    row = next(r for r in MIRELS if r[4] == points)
    return dict(zip(("site", "size_fraction", "nature", "pain"), row[:4], strict=True))


def test_the_humerus_is_flagged_at_8_only() -> None:
    for site, size, nature, pain, points in MIRELS:
        if site == "upper limb":
            args = {"site": site, "size_fraction": size, "nature": nature, "pain": pain}
            flagged = "humerus" in mirels(**args, humerus=True).group
            assert flagged == (points == 8)
            assert "humerus" not in mirels(**args).group


def test_irradiated_bone_is_said() -> None:
    args = _mirels_of(8)
    assert "irradiated" in mirels(**args, irradiated=True).note
    assert mirels(**args, irradiated=None).note == mirels(**args).note == ""


@pytest.mark.parametrize("lost", ["site", "size_fraction", "nature", "pain"])
def test_an_unknown_part_of_mirels_is_named(lost: str) -> None:
    score = mirels(**{**_mirels_of(9), lost: None})
    assert score.points is None
    assert score.group == score.meaning == ""
    assert score.missing == (lost.removesuffix("_fraction"),)
    assert len(score.parts) == 3


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"site": "spine"}, "site is 'spine'; expected one of upper limb, lower limb"),
        ({"size_fraction": 1.2}, "size_fraction is 1.2; expected 0 to 1"),
        ({"size_fraction": float("nan")}, "size_fraction is nan"),
        ({"pain": "none"}, "pain is 'none'; expected one of mild"),
    ],
)
def test_what_mirels_does_not_know_is_refused(changed: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        mirels(**{**_mirels_of(9), **changed})


# --- SINS ----------------------------------------------------------------------------------------

LOCATION = {
    **dict.fromkeys(["C1", "C2", "C7", "T1", "T2", "T11", "T12", "L1", "L5", "S1"], 3),
    **dict.fromkeys(["C3", "C4", "C5", "C6", "L2", "L3", "L4"], 2),
    **dict.fromkeys(["T3", "T4", "T5", "T6", "T7", "T8", "T9", "T10"], 1),
    **dict.fromkeys(["S2", "S3", "S4", "S5"], 0),
}
PAIN = {"mechanical": 3, "occasional": 1, "none": 0}
NATURE = {"lytic": 2, "mixed": 1, "blastic": 0}
ALIGNMENT = {"subluxation": 4, "deformity": 2, "normal": 0}
COLLAPSE = {(80, 100): 3, (80, None): 3, (30, 100): 2, (30, 10): 2, (0, 51): 1, (0, 50): 0}
POSTEROLATERAL = {"bilateral": 3, "unilateral": 1, "none": 0}


def test_all_29_levels_of_sins() -> None:
    levels = [
        *(f"C{i}" for i in range(1, 8)),
        *(f"T{i}" for i in range(1, 13)),
        *(f"L{i}" for i in range(1, 6)),
        *(f"S{i}" for i in range(1, 6)),
    ]
    assert len(levels) == len(LOCATION) == 29
    for level in levels:
        assert _sins(level=level).parts["location"] == LOCATION[level]


def _sins(**changed: object) -> object:
    args: dict[str, object] = {
        "level": "L2",
        "pain": "none",
        "nature": "blastic",
        "alignment": "normal",
        "collapse_percent": 0,
        "body_involved_percent": 0,
        "posterolateral": "none",
    }
    return sins(**{**args, **changed})


def test_all_combinations_of_sins() -> None:
    seen = set()
    for level, pain, nature, alignment, collapse, posterolateral in product(
        ("C1", "C3", "T3", "S2"), PAIN, NATURE, ALIGNMENT, COLLAPSE, POSTEROLATERAL
    ):
        score = sins(
            level=level,
            pain=pain,
            nature=nature,
            alignment=alignment,
            collapse_percent=collapse[0],
            body_involved_percent=collapse[1],
            posterolateral=posterolateral,
        )
        expected = (
            LOCATION[level]
            + PAIN[pain]
            + NATURE[nature]
            + ALIGNMENT[alignment]
            + COLLAPSE[collapse]
            + POSTEROLATERAL[posterolateral]
        )
        assert score.points == expected
        if expected <= 6:
            assert score.group == "stable"
        elif expected <= 12:
            assert score.group == "potentially unstable"
        else:
            assert score.group == "unstable"
        seen.add(expected)
    assert seen == set(range(19))


@pytest.mark.parametrize(
    ("items", "points", "group"),
    [
        (("T10", "mechanical", "lytic", "normal", 90, None, "unilateral"), 10, "potentially"),
        (("L1", "mechanical", "lytic", "deformity", 60, None, "bilateral"), 16, "unstable"),
        (("S3", "none", "blastic", "normal", 0, 0, "none"), 0, "stable"),
    ],
)
def test_examples_of_sins(items: tuple[object, ...], points: int, group: str) -> None:
    names = (
        "level",
        "pain",
        "nature",
        "alignment",
        "collapse_percent",
        "body_involved_percent",
        "posterolateral",
    )
    score = sins(**dict(zip(names, items, strict=True)))  # type: ignore[arg-type]
    assert score.points == points
    assert score.group.startswith(group)


@pytest.mark.parametrize(
    ("collapse", "points", "evidence"),
    [
        (0.5, 2, "verified"),
        (49.9, 2, "verified"),
        (50, 2, "general knowledge"),
        (50.1, 3, "verified"),
        (100, 3, "verified"),
    ],
)
def test_half_a_body(collapse: float, points: float, evidence: str) -> None:
    score = _sins(collapse_percent=collapse)
    assert score.parts["collapse"] == points
    assert score.evidence == evidence
    assert bool(score.note) == (evidence != "verified")


@pytest.mark.parametrize(
    ("changed", "missing"),
    [
        ({"level": None}, "level"),
        ({"level": "lumbar spine"}, "level"),
        ({"level": "T13"}, "level"),
        ({"pain": None}, "pain"),
        ({"nature": None}, "nature"),
        ({"alignment": None}, "alignment"),
        ({"collapse_percent": None}, "collapse"),
        ({"body_involved_percent": None}, "body involved"),
        ({"posterolateral": None}, "posterolateral"),
    ],
)
def test_an_unknown_part_of_sins_is_named(changed: dict[str, object], missing: str) -> None:
    score = _sins(**changed)
    assert score.points is None
    assert score.missing == (missing,)


def test_the_body_involved_matters_only_without_collapse() -> None:
    assert _sins(collapse_percent=10, body_involved_percent=None).points == 4
    assert sins_location("sacrum") is None


def test_what_sins_does_not_know_is_refused() -> None:
    with pytest.raises(InputError, match="collapse_percent is 120; expected 0 to 100"):
        _sins(collapse_percent=120)
    with pytest.raises(InputError, match="alignment is 'kyphosis'"):
        _sins(alignment="kyphosis")


# --- ESCC, Harrington ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grade", "points", "kind"),
    [
        ("0", 0, "low"),
        ("1a", 1, "low"),
        ("1b", 1, "low"),
        ("1c", 1, ""),
        ("2", 2, "high"),
        ("3", 3, "high"),
    ],
)
def test_every_grade_of_escc(grade: str, points: int, kind: str) -> None:
    score = escc(grade=grade)
    assert score.points == points
    assert score.group == (f"grade {grade} ({kind})" if kind else f"grade {grade}")
    assert score.evidence == "verified"
    assert "MRI" in score.note
    assert ("compressed" in score.meaning) == (points >= 2)
    assert bilsky(grade=grade) == score


def test_unknown_and_wrong_grades_of_escc() -> None:
    assert escc(grade=None).missing == ("ESCC grade",)
    assert escc(grade=None).points is None
    with pytest.raises(InputError, match="grade is '1'; expected one of 0, 1a, 1b, 1c, 2, 3"):
        escc(grade="1")


@pytest.mark.parametrize(("grade", "points"), [("I", 1), ("II", 2), ("III", 3), ("IV", 4)])
def test_every_class_of_harrington(grade: str, points: int) -> None:
    score = harrington(grade=grade)
    assert (score.points, score.group, score.evidence) == (points, f"class {grade}", "verified")
    assert ("cement may leak" in score.meaning) == (grade in ("II", "III"))


def test_unknown_and_wrong_classes_of_harrington() -> None:
    assert harrington(grade=None).missing == ("Harrington class",)
    with pytest.raises(InputError, match="expected one of I, II, III, IV"):
        harrington(grade="V")


# --- Genant --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "grade"),
    [(-5, 0), (0, 0), (19.99, 0), (20, 1), (24.99, 1), (25, 2), (40, 2), (40.01, 3), (100, 3)],
)
def test_boundaries_of_genant(loss: float, grade: int) -> None:
    assert genant_grade(loss) == grade
    if loss < 100:
        score = genant(anterior_mm=100 - loss, middle_mm=100, posterior_mm=100)
        assert score.points == grade
        assert score.group == f"grade {grade}"


def test_the_example_of_genant() -> None:
    score = genant(anterior_mm=18, middle_mm=20, posterior_mm=25)
    assert score.parts == {"wedge": 28, "biconcave": 20}
    assert score.points == 2
    assert "neighbour" in score.note
    assert score.evidence == "general knowledge"


def test_crush_is_judged_against_the_mean_of_the_neighbours() -> None:
    heights = {"anterior_mm": 14, "middle_mm": 14, "posterior_mm": 14}
    assert genant(**heights).points == 0
    crushed = genant(**heights, neighbours_posterior_mm=(24, 26))
    assert crushed.parts["crush"] == 44
    assert crushed.points == 3
    assert crushed.note
    assert "neighbour" not in crushed.note


@pytest.mark.parametrize("lost", ["anterior", "middle", "posterior"])
def test_an_unknown_height_is_named(lost: str) -> None:
    heights: dict[str, float | None] = {"anterior_mm": 18, "middle_mm": 20, "posterior_mm": 25}
    score = genant(**{**heights, f"{lost}_mm": None})  # type: ignore[arg-type]
    assert score.points is None
    assert score.missing == (f"{lost} height",)


@pytest.mark.parametrize("height", [0, -1, float("nan"), float("inf")])
def test_a_height_must_be_above_0(height: float) -> None:
    with pytest.raises(InputError, match="middle_mm is"):
        genant(anterior_mm=18, middle_mm=height, posterior_mm=25)
    with pytest.raises(InputError, match="neighbours_posterior_mm is"):
        genant(anterior_mm=18, middle_mm=18, posterior_mm=25, neighbours_posterior_mm=(24, height))
    with pytest.raises(InputError, match="give at least one of each"):
        collapse_percent(heights_mm=(20, height), neighbours_mm=(24,))


def test_collapse_for_sins() -> None:
    assert collapse_percent(heights_mm=(18, 20, 25), neighbours_mm=(24, 26)) == 28
    assert collapse_percent(heights_mm=(12.5,), neighbours_mm=(25,)) == 50
    assert collapse_percent(heights_mm=(30,), neighbours_mm=(25,)) == 0
    with pytest.raises(InputError, match="give at least one of each"):
        collapse_percent(heights_mm=(), neighbours_mm=(24,))


@given(
    st.tuples(*[st.floats(1, 60)] * 3), st.lists(st.floats(1, 60), max_size=2), st.floats(0.1, 10)
)
def test_grades_do_not_depend_on_the_unit(
    heights: tuple[float, float, float], neighbours: list[float], scale: float
) -> None:
    def of(k: float) -> dict[str, float]:
        a, m, p = (h * k for h in heights)
        near = [n * k for n in neighbours]
        return dict(
            genant(anterior_mm=a, middle_mm=m, posterior_mm=p, neighbours_posterior_mm=near).parts
        )

    assert of(scale) == pytest.approx(of(1.0), abs=1e-6)
