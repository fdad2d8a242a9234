"""A synthetic study is the same for the same seed, and holds what it says it holds."""

from __future__ import annotations

from collections import Counter

import pytest

from trocar.errors import InputError
from trocar.phantom.cohort import CohortRates, synthetic_study


def test_same_seed_same_study() -> None:
    assert synthetic_study(40, 3).study == synthetic_study(40, 3).study
    assert synthetic_study(40, 3).study != synthetic_study(40, 4).study


@pytest.mark.parametrize("lesions", [1, 2, 3, 97])
def test_as_many_lesions_as_asked(lesions: int) -> None:
    cohort = synthetic_study(lesions)
    assert len(cohort.study) == lesions
    assert len(cohort.study.records) == lesions


def test_nothing_is_recorded_after_death() -> None:
    for r in synthetic_study(300, 5).study:
        died = r.course.death_day
        last = max([0.0, *(s.day for s in r.course.pain), *(v.day for v in r.course.visits)])
        assert died is None or last <= died


def test_truth_follows_from_the_rates() -> None:
    cohort = synthetic_study(1, rates=CohortRates(leak=0.4, symptomatic=0.5, intervention=0.1))
    assert cohort.truth["symptomatic leak"] == 0.2
    assert cohort.truth["leak intervention"] == pytest.approx(0.02)
    median = CohortRates().death_median_days
    assert cohort.truth["death"] == pytest.approx(1 - 2 ** (-30 / median))


def test_rates_without_missing_data_within_error() -> None:
    rates = CohortRates(missing=0.0, not_looked_for=0.0, leak_icc=0.3)
    study = synthetic_study(4000, 8, rates=rates).study
    leaked = {x.lesion_id for x in study.leaks}
    assert abs(len(leaked) / 4000 - 0.22) < 3.3 * (0.22 * 0.78 / 4000 * 1.3) ** 0.5
    pairs = Counter()  # type: ignore[var-annotated]
    by_patient: dict[str, list[bool]] = {}
    for lesion in study.lesions:
        by_patient.setdefault(lesion.patient_id, []).append(lesion.lesion_id in leaked)
    for answers in by_patient.values():
        if len(answers) > 1:
            pairs[answers[0] == answers[1]] += 1
    # two lesions alike: p^2 + q^2 + 2 icc p q
    p = 0.22
    alike = p * p + (1 - p) ** 2 + 2 * 0.3 * p * (1 - p)
    n = sum(pairs.values())
    assert abs(pairs[True] / n - alike) < 3.3 * (alike * (1 - alike) / n) ** 0.5


def test_none_asked() -> None:
    with pytest.raises(InputError, match="at least 1"):
        synthetic_study(0)
