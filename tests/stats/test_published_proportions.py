"""Every proportion, interval and change the source documents print (clinical.md A.4)."""

from __future__ import annotations

import pytest

from trocar.stats.exact import Proportion, unpaired_change

# item, x, n, per cent to two digits, as printed by the source, Clopper-Pearson, Wilson
PUBLISHED = [
    ("good relief", 9, 11, "81.82", "82", "48.2–97.7", "52.3–94.9"),
    ("good relief; mobility at 1 week", 13, 14, "92.86", "93", "66.1–99.8", "68.5–98.7"),
    ("total improvement at 72 h", 4, 18, "22.22", "22", "6.4–47.6", "9.0–45.2"),
    ("clear improvement; good filling", 7, 18, "38.89", "39", "17.3–64.3", "20.3–61.4"),
    ("technical success", 14, 14, "100.00", None, "76.8–100.0", "78.5–100.0"),
    ("leak", 1, 18, "5.56", "6", "0.1–27.3", "1.0–25.8"),
    ("leak", 2, 14, "14.29", "14", "1.8–42.8", "4.0–39.9"),
    ("leak", 3, 11, "27.27", "27", "6.0–61.0", "9.7–56.6"),
    ("leak", 9, 18, "50.00", "50", "26.0–74.0", "29.0–71.0"),
    ("symptomatic leak", 1, 18, "5.56", "6", "0.1–27.3", "1.0–25.8"),
    ("symptomatic leak", 2, 18, "11.11", "11", "1.4–34.7", "3.1–32.8"),
    ("transient worse pain", 8, 11, "72.73", "73", "39.0–94.0", "43.4–90.3"),
    ("fever below 39 degC", 5, 11, "45.45", "45", "16.7–76.6", "21.3–72.0"),
    ("creatinine rise", 1, 11, "9.09", "9", "0.2–41.3", "1.6–37.7"),
    ("Hong Kong, lesions relieved", 10, 11, "90.91", None, "58.7–99.8", "62.3–98.4"),
    ("Hong Kong, prior radiotherapy", 10, 12, "83.33", None, "51.6–97.9", "55.2–95.3"),
    ("Hong Kong, paralysis by patient", 1, 12, "8.33", None, "0.2–38.5", "1.5–35.4"),
    ("Hong Kong, paralysis by RFA", 1, 3, "33.33", None, "0.8–90.6", "6.1–79.2"),
    ("Sun, leaks", 8, 65, "12.31", None, "5.5–22.8", "6.4–22.5"),
    ("Sun, high Mirels", 5, 51, "9.80", None, "3.3–21.4", "4.3–21.0"),
]

# Sun 2014, 51 patients: mean and SD before, at 3 days, 1 month, 3 months; what follows from them
SUN_BEFORE = (8.19, 1.1)
SUN = [
    (4.94, 1.6, "3.25", "39.7", "2.70–3.80", "8.6"),
    (3.41, 2.1, "4.78", "58.4", "4.11–5.45", "10.7"),
    (3.02, 1.9, "5.17", "63.1", "4.55–5.79", "12.3"),
]


@pytest.mark.parametrize(("item", "x", "n", "percent", "printed", "exact", "wilson"), PUBLISHED)
def test_proportion_as_published(
    item: str, x: int, n: int, percent: str, printed: str | None, exact: str, wilson: str
) -> None:
    share = Proportion(x, n)
    assert share.percent_text(2) == percent, item
    assert printed is None or share.percent_text() == printed, item
    assert share.clopper_pearson().percent_text() == exact, item
    assert share.wilson().percent_text() == wilson, item


def test_total_and_clear_improvement_together() -> None:
    assert Proportion(4 + 7, 18).percent_text(1) == "61.1"


@pytest.mark.parametrize(("mean", "sd", "change", "percent", "interval", "t"), SUN)
def test_sun_changes(
    mean: float, sd: float, change: str, percent: str, interval: str, t: str
) -> None:
    course = unpaired_change(*SUN_BEFORE, mean, sd, n=51)
    assert f"{course.change:.2f}" == change
    assert f"{course.percent:.1f}" == percent
    independent = course.at(0).interval
    assert f"{independent.low:.2f}–{independent.high:.2f}" == interval
    worst, best = course.bounds()
    assert f"{worst.t:.1f}" == t
    assert worst.p_value is not None
    assert float(f"{worst.p_value:.0e}") <= 2e-11  # as printed: "P < 0.01" holds for any pairing
    assert best.p_value is not None
    assert best.p_value < worst.p_value
