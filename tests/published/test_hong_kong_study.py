"""The Hong Kong series inside the package says what its document says, and no more.

Leung OC, Poon WL, Nyaw SF, Luk SH. Hong Kong Med J 2013;19:317-22: Tables 1 and 2, and the text.
"""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from statistics import median

import pytest

from trocar.io.records import example_study

STUDY = example_study()
# clinical.md A.2: nominal days, months of 28 days.
DAYS = {"D0": 0, "D1": 1, "D2": 2, "W1": 7, "W2": 14, "W3": 21} | {
    f"M{k}": 28 * k for k in range(1, 10)
}


def test_patients() -> None:
    assert len(STUDY.patients) == 10
    assert Counter(p.sex for p in STUDY.patients) == {"male": 7, "female": 3}
    ages = [p.age_years for p in STUDY.patients if p.age_years is not None]
    assert (min(ages), max(ages), median(ages), len(ages)) == (28, 72, 60.5, 10)
    assert Counter(p.primary for p in STUDY.patients) == {
        "lung": 3, "kidney": 2, "rectum": 2, "pancreas": 1, "myeloma": 1, "sarcoma": 1,
    }  # fmt: skip


def test_lesions() -> None:
    assert [r.lesion_id for r in STUDY] == [str(i) for i in range(1, 12)]
    regions = Counter(r.lesion.region for r in STUDY)
    assert regions == {"pelvis": 6, "lumbar": 3, "thoracic": 1, "scapula": 1}
    pelvis = Counter(r.lesion.site for r in STUDY if r.lesion.region == "pelvis")
    assert pelvis == {"acetabulum": 3, "ischium": 1, "pubic ramus": 1, "pelvis": 1}
    assert STUDY.record("2").patient is STUDY.record("8").patient
    soft = [r.lesion_id for r in STUDY if r.lesion.soft_tissue]
    assert soft == ["1", "2", "5"]
    assert all(r.lesion.posterior_wall_defect is None for r in STUDY)


def test_procedures() -> None:
    done = {r.lesion_id: r.procedures for r in STUDY}
    assert all(len(p) == 1 for p in done.values())
    ablated = [name for name, (p,) in done.items() if p.ablation]
    assert ablated == ["1", "2", "5"]
    assert done["1"][0].techniques == ("radiofrequency", "cement")
    assert sum(p.techniques == ("cement",) for (p,) in done.values()) == 8
    assert [p.date for (p,) in done.values()] == [
        "2006-10", "2009-01", "2009-05", "2009-09", "2009-09", "2010-01", "2010-02", "2010-02",
        "2010-02", "2010-04", "2010-05",
    ]  # fmt: skip
    assert {p.leak_assessed for (p,) in done.values()} == {"CT"}
    # The document speaks of leakage for one lesion only; for the others it is not known.
    assert [name for name, (p,) in done.items() if p.leak_found is not None] == ["5"]
    assert done["5"][0].leak_found is False


def test_the_paralysis() -> None:
    (harm,) = STUDY.complications
    assert (harm.lesion_id, harm.event, harm.cirse, harm.sir) == ("5", "paralysis", 5, 4)
    assert (harm.relation, harm.device_related, harm.day) == ("ablation", True, 1)
    assert STUDY.record("5").lesion.region == "lumbar"
    assert STUDY.leaks == ()


def test_two_patients_are_left_out_and_told() -> None:
    assert len(STUDY.exclusions) == 2
    entered = {p.patient_id for p in STUDY.patients}
    assert not entered & {e.patient_id for e in STUDY.exclusions}
    assert {e.stage for e in STUDY.exclusions} == {"from analysis"}


def test_flags_are_said() -> None:
    assert [n.note_id for n in STUDY.notes] == ["F1", "F2", "F3", "F4", "F5", "F6", "F7"]


def test_what_is_not_said_is_not_known() -> None:
    for b in STUDY.selection:
        assert b.pain_present is True
        assert b.analgesia_maximised is True
        assert b.radiotherapy_given is None  # 10 of 12 patients, not said which
        assert b.mdt_date is None
        assert b.consent_date is None
    assert STUDY.deaths == STUDY.visits == STUDY.opioids == ()


def test_scores_as_read_in_the_reference() -> None:
    assert len(STUDY.pain) == 72  # the n of figure 4 together
    at = {(s.lesion_id, s.day): s.score for s in STUDY.pain}
    assert (at["1", 0], at["2", 252], at["6", 140], at["6", 168]) == (6, 1, 6, 0)
    assert ("7", 0) not in at
    before = [s for (_, day), s in at.items() if day == 0]
    assert sorted(before) == [2, 2, 2, 3, 5, 5, 5, 6, 7, 8]
    # Figure 4 as derived in A.3: the median of the scores there are, and how many.
    series = {name: sorted(s for (_, d), s in at.items() if d == day) for name, day in DAYS.items()}
    assert {n: (median(v), len(v)) for n, v in series.items() if v} == {
        "D0": (5, 10), "D1": (3, 9), "D2": (3, 9), "W1": (2, 8), "W2": (2, 6), "W3": (0, 5),
        "M1": (1.5, 6), "M2": (1, 4), "M3": (1, 5), "M4": (0, 3), "M5": (0, 3), "M6": (0, 1),
        "M7": (0, 2), "M9": (1, 1),
    }  # fmt: skip
    assert {s.instrument for s in STUDY.pain} == {"VAS"}
    assert all(s.high is None for s in STUDY.pain)


@pytest.mark.data
def test_every_score_equals_table_2(data: Path) -> None:
    file = data / "13_tables_and_golden_statistics" / "hk_table2.csv"
    with file.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    table = {
        (row["lesion"], float(DAYS[name])): float(cell)
        for row in rows
        for name, cell in row.items()
        if name != "lesion" and cell
    }
    assert {(s.lesion_id, s.day): s.score for s in STUDY.pain} == table
