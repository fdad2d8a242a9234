"""The five source documents, and series to compare with, recomputed (clinical.md A.4).

What agrees, what does not, and what cannot be checked: a change of a figure breaks a line here.
"""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import pytest

from trocar.audit.arithmetic import Flag, check_all, check_mean, check_percent, rounded
from trocar.audit.evidence import Count, Item, Mean, PValue, evidence, item
from trocar.io.records import example_study
from trocar.stats.exact import sign_test, unpaired_change

FLAGS = check_all()
BY_ITEM = {(f.item, f.check): f for f in FLAGS}


def flag(key: str, check: str) -> Flag:
    return BY_ITEM[key, check]


def count(key: str) -> Count:
    found = item(key)
    assert isinstance(found, Count)
    return found


# clinical.md A.4: item, x, n, per cent to two digits, as printed, Clopper-Pearson, Wilson
A4 = [
    ("S0-relief-11", 9, 11, "81.82", "82", "48.2–97.7", "52.3–94.9"),
    ("S0-relief-14", 13, 14, "92.86", "93", "66.1–99.8", "68.5–98.7"),
    ("S0-mobility", 13, 14, "92.86", "93", "66.1–99.8", "68.5–98.7"),
    ("S0-total", 4, 18, "22.22", "22", "6.4–47.6", "9.0–45.2"),
    ("S0-clear", 7, 18, "38.89", "39", "17.3–64.3", "20.3–61.4"),
    ("S0-filling", 7, 18, "38.89", "39", "17.3–64.3", "20.3–61.4"),
    ("S0-success", 14, 14, "100.00", "", "76.8–100.0", "78.5–100.0"),
    ("S0-leak-1", 1, 18, "5.56", "6", "0.1–27.3", "1.0–25.8"),
    ("S0-leak-2", 2, 14, "14.29", "14", "1.8–42.8", "4.0–39.9"),
    ("S0-leak-3", 3, 11, "27.27", "27", "6.0–61.0", "9.7–56.6"),
    ("S0-leak-4", 9, 18, "50.00", "50", "26.0–74.0", "29.0–71.0"),
    ("S0-symptoms-1", 1, 18, "5.56", "6", "0.1–27.3", "1.0–25.8"),
    ("S0-symptoms-2", 2, 18, "11.11", "11", "1.4–34.7", "3.1–32.8"),
    ("S0-worse", 8, 11, "72.73", "73", "39.0–94.0", "43.4–90.3"),
    ("S0-fever", 5, 11, "45.45", "45", "16.7–76.6", "21.3–72.0"),
    ("S0-creatinine", 1, 11, "9.09", "9", "0.2–41.3", "1.6–37.7"),
    ("S0-total-or-clear", 11, 18, "61.11", "", None, None),
    ("S1-relief", 10, 11, "90.91", "", "58.7–99.8", "62.3–98.4"),
    ("S1-rt", 10, 12, "83.33", "", "51.6–97.9", "55.2–95.3"),
    ("S1-paralysis", 1, 12, "8.33", "", "0.2–38.5", "1.5–35.4"),
    ("S1-paralysis-rfa", 1, 3, "33.33", "", "0.8–90.6", "6.1–79.2"),
    ("S2-leak", 8, 65, "12.31", "", "5.5–22.8", "6.4–22.5"),
    ("S2-mirels", 5, 51, "9.80", "", "3.3–21.4", "4.3–21.0"),
]


@pytest.mark.parametrize(("key", "x", "n", "exact", "printed", "clopper", "wilson"), A4)
def test_proportions_of_the_source_documents(
    key: str, x: int, n: int, exact: str, printed: str, clopper: str | None, wilson: str | None
) -> None:
    found = count(key)
    assert (found.x, found.n, found.printed) == (x, n, printed)
    assert rounded(Fraction(100 * x, n), 2, "half up") == exact
    assert not printed or rounded(Fraction(100 * x, n), 0, "half up") == printed
    if clopper is not None:
        assert found.proportion.clopper_pearson().percent_text() == clopper
        assert found.proportion.wilson().percent_text() == wilson


def test_every_percentage_of_nice_is_right() -> None:
    """A.4: half-up to whole per cent, all of them; and nothing else of NICE's is flagged."""
    printed = [i for i in evidence(document="S0") if isinstance(i, Count) and i.printed]
    assert len(printed) == 15
    for i in printed:
        checked = flag(i.key, "percent")
        assert (checked.verdict, checked.should_be) == ("possible", i.printed), i.key
        assert "half up" in checked.roundings
    nice = [f for f in FLAGS if f.item.startswith(("S0-", "S3-", "T15-"))]
    assert nice
    assert not [f for f in nice if f.flagged]


def test_percentages_of_htg3_cannot_be_checked() -> None:
    of_htg3 = [f for f in FLAGS if f.item.startswith("S3-")]
    assert {f.printed for f in of_htg3} == {"58–97", "50–91", "93", "100", "27", "1", "5"}
    assert {f.verdict for f in of_htg3} == {"cannot be checked"}


def test_the_p_of_ipg179_is_not_derivable() -> None:
    found = flag("S0-vas-p", "p value")
    assert found.verdict == "cannot be checked"
    assert "not derivable" in found.why
    below = [c for c in found.candidates if float(c.rpartition(": ")[2]) < 0.0016]
    nearest = max(below, key=lambda c: float(c.rpartition(": ")[2]))
    assert nearest == "signed rank, normal, 13 of 13 better: 0.00147"


def test_walking_score_and_pain_of_ipg179() -> None:
    before, after = (item(k) for k in ("S0-walk-before", "S0-walk-after"))
    assert isinstance(before, Mean)
    assert isinstance(after, Mean)
    assert (before.mean, after.mean, before.n, before.scale) == ("1.1", "2.1", 18, (0, 4))
    for key in ("S0-walk-before", "S0-walk-after", "S0-vas-before", "S0-vas-after"):
        assert flag(key, "mean").verdict == "possible"


# ---- Hong Kong


def test_hong_kong_sums() -> None:
    for key in (
        "S1-primaries", "S1-sites", "S1-procedures-11", "S1-procedures-13", "S1-patients-total",
        "S1-lesions-total",
    ):  # fmt: skip
        assert flag(key, "total").verdict == "possible", key


def test_hong_kong_flags_f1_to_f3() -> None:
    f1, f2, f3 = (flag(f"S1-F{k}", "twice") for k in (1, 2, 3))
    assert (f1.verdict, f1.printed) == ("impossible", "Methods: 13, Abstract and Results: 12")
    assert f2.verdict == "only if"
    assert f2.why == "only if both lesions left out had cement alone"
    assert f3.verdict == "impossible"
    assert all(f.flagged for f in (f1, f2, f3))
    assert {n.note_id for n in example_study().notes} >= {"F1", "F2", "F3"}


def test_hong_kong_p() -> None:
    p = item("S1-p")
    assert isinstance(p, PValue)
    assert p.better is not None
    assert p.worse is not None
    assert sign_test(p.better, p.worse, p.ties).p_value == 0.0390625
    assert flag("S1-p", "p value").verdict == "possible"


def test_the_figures_are_those_of_the_study_inside() -> None:
    study = example_study()
    sites = item("S1-sites")
    assert sum(map(int, sites.parts.values())) == len(list(study))  # type: ignore[attr-defined]
    ages = [p.age_years for p in study.patients if p.age_years is not None]
    age = item("S1-age")
    assert (age.low, age.high) == (f"{min(ages):g}", f"{max(ages):g}")  # type: ignore[attr-defined]


# ---- Sun 2014


@pytest.mark.parametrize(
    ("key", "change", "share"),
    [("S2-vas-3d", "3.25", "39.7"), ("S2-vas-1m", "4.78", "58.4"), ("S2-vas-3m", "5.17", "63.1")],
)
def test_sun_changes(key: str, change: str, share: str) -> None:
    before, after = item("S2-vas-before"), item(key)
    assert isinstance(before, Mean)
    assert isinstance(after, Mean)
    found = unpaired_change(
        float(before.mean), float(before.sd), float(after.mean), float(after.sd), 51
    )
    assert (f"{found.change:.2f}", f"{found.percent:.1f}") == (change, share)


def test_sun_p_holds_for_any_pairing() -> None:
    found = flag("S2-p", "p value")
    assert found.verdict == "possible"
    assert "2e-11" in found.why  # A.4: P <= 2e-11 even with correlation -1


def test_sun_baseline_is_no_mean_of_51_whole_scores() -> None:
    """Not in clinical.md: 8.19 is neither of 51 patients nor of 65 lesions in whole points."""
    found = flag("S2-vas-before", "mean")
    assert (found.verdict, found.candidates) == ("only if", ("8.18", "8.20"))
    assert "whole numbers" in found.why
    assert check_mean("8.19", 65).verdict == "impossible"
    assert check_mean("8.19", 51, step="0.1").verdict == "possible"
    assert flag("S2-vas-3d", "mean").verdict == "possible"


# ---- series to compare with


def test_slips_in_the_series_to_compare_with() -> None:
    expected = {
        ("T21-complete", "percent"): ("impossible", "60"),
        ("T21-partial", "percent"): ("impossible", "40"),
        ("T24-technical", "percent"): ("only if", "99.0"),
        ("T24-groups-copy", "total"): ("impossible", "761"),
        ("T09-leak", "percent"): ("only if", "56.64"),
        ("T10-posterior", "percent"): ("only if", "0.8"),
        ("T22-after", "mean"): ("only if", ""),
        ("T22-disability", "percent"): ("impossible", ""),
        ("T06-osteoporotic", "interval"): ("only if", "47.6–84.1"),
    }
    found = {
        (f.item, f.check): (f.verdict, f.should_be) for f in FLAGS if f.flagged and f.item[0] != "S"
    }
    assert found == expected
    assert "second 167 for 67" in flag("T24-groups-copy", "total").candidates
    assert rounded(Fraction(100 * 852, 861), 2, "half up") == "98.95"
    assert flag("T24-groups", "total").verdict == "possible"


def test_flags_of_the_source_documents_are_these() -> None:
    assert {f.item for f in FLAGS if f.flagged and f.item[0] == "S"} == {
        "S1-F1", "S1-F2", "S1-F3", "S2-vas-before",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("key", "digits", "limits"),
    [
        ("T06-osteoporotic", 2, "47.65–84.12"),
        ("T06-osteolytic", 2, "16.38–57.27"),
        ("T14-serious", 2, "1.56–3.60"),
        ("T18-leak", 1, "30.4–61.2"),
    ],
)
def test_recomputed_limits(key: str, digits: int, limits: str) -> None:
    """Clopper and Pearson's, as recomputed when the series were collected."""
    assert count(key).proportion.clopper_pearson().percent_text(digits) == limits


def test_fisher_of_the_ct_fluoroscopy_series() -> None:
    found = flag("T06-p", "p value")
    assert found.verdict == "possible"
    assert "P = 0.0256" in found.why


def test_sums_and_changes_to_compare_with() -> None:
    for key in (
        "T06-patients", "T07-compartments", "T09-types", "T14-parts", "T16-sites",
        "T16-procedures", "T17-analgesics", "T18-needles", "T20-sum", "T23-sites", "T24-groups",
    ):  # fmt: skip
        assert flag(key, "total").verdict == "possible", key
    assert flag("T17-change", "change").verdict == "possible"
    assert flag("T18-change", "change").verdict == "possible"
    assert flag("T20-total", "twice").verdict == "possible"


def test_a_changed_figure_is_caught() -> None:
    """Each detector fires when one printed digit of a right figure is changed."""

    def flagged(changed: Item) -> bool:
        return any(f.flagged for f in check_all([changed]))

    def but(key: str, **fields: object) -> Item:
        return dataclasses.replace(item(key), **fields)  # type: ignore[arg-type]

    assert not flagged(item("S0-leak-4"))
    assert flagged(but("S0-leak-4", printed="51"))
    assert flagged(but("S0-leak-4", x=8))
    assert flagged(but("S1-primaries", total="11"))
    assert flagged(but("S1-p", printed="0.022"))
    assert flagged(but("S2-vas-3d", mean="4.95"))
    assert flagged(but("S2-vas-3d", sd="5.1"))
    assert flagged(but("S2-p", printed="<0.01", of=("S2-vas-before", "S2-vas-before"))) is False
    assert flagged(but("T17-change", printed="6.0"))
    assert flagged(but("T20-total", x=5, printed="28"))  # no longer as IPG179 tells it
    assert flagged(but("T06-p", printed="<0.01"))
    assert check_percent(3, 11, "28").flagged
