"""Own rates beside standards and series, operators, time, and patients with several lesions."""

from __future__ import annotations

from math import log

import pytest

from trocar.audit import comparison
from trocar.audit.comparison import Outcome, verdict
from trocar.audit.tables import Cases
from trocar.facts.source import load
from trocar.io.records import example_study
from trocar.model.course import Leak, Procedure
from trocar.model.patient import PainfulLesion, Patient
from trocar.model.study import Record, Study, StudyInfo


def unit(leaks: str, operators: str = "", dates: tuple[str | None, ...] = ()) -> Cases:
    """One lesion a letter: y leaked, n not, ? not known; two lesions a patient."""
    names = [f"{i:03}" for i in range(len(leaks))]
    said = {"y": True, "n": False, "?": None}
    return Cases(
        study=Study(
            info=StudyInfo(study_id="T", title="made for a test"),
            patients=tuple(Patient(patient_id=f"P{i}") for i in range(len(leaks))),
            lesions=tuple(
                PainfulLesion(lesion_id=n, patient_id=f"P{i // 2}", site="L1")
                for i, n in enumerate(names)
            ),
            procedures=tuple(
                Procedure(
                    procedure_id=n,
                    lesion_id=n,
                    date=dates[i] if dates else f"2020-01-{i % 28 + 1:02}",
                    operator_id=operators[i] if operators and operators[i] != "?" else None,
                    leak_assessed="CT",
                    leak_found=said[leaks[i]],
                )
                for i, n in enumerate(names)
            ),
            leaks=tuple(
                Leak(lesion_id=n, compartment="disc")
                for n, word in zip(names, leaks, strict=True)
                if word == "y"
            ),
        )
    )


def leak_of(cases: Cases) -> tuple[Outcome, tuple[tuple[Record, bool], ...]]:
    o = comparison.outcomes(cases)[0]
    return o, comparison.told(cases, o)


def test_verdict_in_words() -> None:
    assert verdict(0, 0, 0.27, 0.95) == "nothing recorded"
    assert verdict(1, 9, 0.27, 0.95) == "too few to tell"  # 0 of 9: limits to 0.336
    assert verdict(0, 12, 0.27, 0.95) == "below"  # 0 of 12: to 0.2646
    assert verdict(2, 12, 0.27, 0.95) == "compatible with"
    assert verdict(9, 11, 0.27, 0.95) == "above"
    assert verdict(15, 61, 0.27, 0.95) == "compatible with"
    assert verdict(40, 40, 1.0, 0.95) == "compatible with"
    assert verdict(39, 40, 1.0, 0.95) == "below"  # to 0.9994


def test_hong_kong_relief_by_both_rules() -> None:
    cases = Cases(study=example_study())
    by_name = {o.name: o for o in comparison.outcomes(cases)}
    relief = [a for _, a in comparison.told(cases, by_name["pain relief"])]
    assert (sum(relief), len(relief)) == (8, 10)
    same = [a for _, a in comparison.told(cases, by_name["not worse"])]
    assert (sum(same), len(same)) == (10, 11)


def test_nine_of_eleven_by_the_strict_rule() -> None:
    from trocar.followup.relief import relief_rules, relieved

    cases = Cases(study=example_study())
    assert str(relieved(cases.analysed, relief_rules()[1]).proportion) == "9/11 (82 %)"


def test_benchmarks_of_hong_kong() -> None:
    cases = Cases(study=example_study())
    chosen = comparison.outcomes(cases)
    answers = {o.name: comparison.told(cases, o) for o in chosen}
    rows = comparison.benchmarks(cases, chosen, answers)
    relief = next(b for b in rows if b.outcome == "pain relief" and b.kind == "standard")
    assert (relief.x, relief.n, relief.other_fraction) == (8, 10, 0.58)
    assert relief.word == "compatible with"
    assert "8 of 10 lesions (80 %)" in relief.sentence
    leak = [b for b in rows if b.outcome == "leak" and b.against.startswith("IPG179")]
    assert [(b.other_x, b.other_n) for b in leak] == [(1, 18), (2, 14), (3, 11), (9, 18)]
    assert {b.word for b in leak} == {"too few to tell"}  # one lesion is known
    assert all(b.own_key == "outcomes | patients | leak" for b in leak)
    assert leak[3].other_low == pytest.approx(0.26, abs=0.0005)
    assert leak[3].p_value == pytest.approx(1.0)  # 0/1 beside 9/18: (10/19 against 9/19)
    asked = next(b for b in rows if b.outcome == "mobility" and b.kind == "standard")
    assert asked.word == "nothing recorded"


def test_fisher_against_a_series() -> None:
    # 10 of 10 beside 9 of 18: 10, 3, 2 or 1 of the 19 among the 10, of C(28, 10) ways
    by_hand = (92378 + 34884 + 1539 + 19) / 13123110
    assert comparison.fisher_p(10, 10, 9, 18) == pytest.approx(by_hand, rel=1e-9)
    assert comparison.fisher_p(0, 0, 9, 18) is None


def test_operators_add_up_and_stand_out() -> None:
    cases = unit("y" * 14 + "n" * 6 + "n" * 19 + "y" + "n?", "A" * 20 + "B" * 20 + "??")
    o, known = leak_of(cases)
    shown, table = comparison.funnel(cases, o, known)
    assert [(u.label, u.x, u.n) for u in shown.units] == [("A", 14, 20), ("B", 1, 20)]
    assert [(u.side_95, u.side_998) for u in shown.units] == [(1, 1), (-1, 0)]
    assert shown.operator_unknown == 1
    assert shown.target == load("governance")["leak_at_most"].mean
    counts = table.counts()
    for s in table.all_sums():
        assert counts[s.total] == sum(counts[k] for k in s.parts)


def test_funnel_limits_are_those_of_the_reference() -> None:
    from dataclasses import replace

    cases = unit("y" * 2 + "n" * 18, "A" * 20)
    o, known = leak_of(cases)
    standard = replace(load("governance")["leak_at_most"], mean=0.10)
    shown, _ = comparison.funnel(cases, replace(o, standard=standard), known)
    row = next(r for r in shown.limits if r[0] == 20)
    assert [round(v, 4) for v in row[1:]] == [0, 0.2285, 0, 0.3352]


def test_cusum_runs_in_the_order_of_the_procedures() -> None:
    dates = ("2020-03-01", "2020-01-01", None, "2020-02", "2020-02")
    cases = unit("ynyny", dates=dates)
    o, known = leak_of(cases)
    assert o.standard is not None
    found = comparison.monitor(cases, o, known, o.standard)
    assert found is not None
    assert found.lesions == ("001", "003", "004", "000")
    assert found.outcomes == (False, False, True, True)
    assert (found.undated, found.ties) == (1, 2)
    assert (found.expected, found.raised) == (0.27, 0.54)
    assert found.values == pytest.approx([0, 0, log(2), 2 * log(2)])
    assert found.vlad == pytest.approx([0.27, 0.54, -0.19, -0.92])
    assert found.signals == ()


def test_patients_and_lesions_are_told_apart() -> None:
    # patients: yy, yn, nn, n? -> 2 of 4 patients, 3 of 7 lesions, first lesions 2 of 4
    cases = unit("yyynnnn?")
    o, known = leak_of(cases)
    row = comparison.cluster_rows(cases, [o], {o.name: known})[0]
    assert (row.lesions, row.patients, row.first_lesions) == ((3, 7), (2, 4), (2, 4))
    assert row.patient_average == pytest.approx((1 + 0.5 + 0 + 0) / 4)
    assert row.design_effect is not None
    assert row.design_effect > 1
    assert row.cluster_interval is not None
    assert row.lesions_interval is not None
    wide = row.cluster_interval[1] - row.cluster_interval[0]
    assert wide > row.lesions_interval[1] - row.lesions_interval[0]
    assert "Korn" in row.method
