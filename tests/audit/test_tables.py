"""Tables in the form of the published ones, on the Hong Kong series and on small made studies."""

from __future__ import annotations

import pytest

from trocar.audit import tables
from trocar.audit.tables import Cases
from trocar.io.records import example_study
from trocar.model.course import (
    Complication,
    Death,
    Event,
    Leak,
    OpioidLine,
    PainScore,
    Procedure,
    Visit,
)
from trocar.model.patient import PainfulLesion, Patient
from trocar.model.study import Study, StudyInfo

INFO = StudyInfo(study_id="T", title="made for a test")


@pytest.fixture(scope="module")
def hong_kong() -> Cases:
    return Cases(study=example_study())


def made(**rows: object) -> Cases:
    """Four lesions of three patients, each with one procedure unless given."""
    base: dict[str, object] = {
        "patients": tuple(Patient(patient_id=p, sex="female") for p in "ABC"),
        "lesions": tuple(
            PainfulLesion(lesion_id=n, patient_id=p, site="L1")
            for n, p in (("1", "A"), ("2", "A"), ("3", "B"), ("4", "C"))
        ),
        "procedures": tuple(
            Procedure(procedure_id=f"x{n}", lesion_id=n, date="2020-01-01", techniques=("cement",))
            for n in "1234"
        ),
    }
    return Cases(study=Study(info=INFO, **{**base, **rows}))  # type: ignore[arg-type]


def counted(table: tables.CountTable, group: str) -> dict[str, int | None]:
    return {r.label: r.x for r in table.rows if r.group == group}


def test_table_1_of_hong_kong(hong_kong: Cases) -> None:
    table = tables.lesions_table(hong_kong)
    assert table.columns[2:] == ("sex", "age", "primary", "site", "date", "procedure")
    assert len(table.rows) == 11
    first = ("male", "69", "kidney", "acetabulum", "2006-10", "radiofrequency, then cement")
    assert table.rows[0][2:] == first
    assert table.rows[6][2:] == ("male", "72", "rectum", "acetabulum", "2010-02", "cement")
    assert table.rows[1][1] == table.rows[7][1]  # lesions 2 and 8 are one patient's


def test_characteristics_of_hong_kong(hong_kong: Cases) -> None:
    table = tables.characteristics(hong_kong)
    assert counted(table, "sex") == {"male": 7, "female": 3}
    assert counted(table, "region") == {"pelvis": 6, "lumbar": 3, "scapula": 1, "thoracic": 1}
    assert counted(table, "procedure") == {"cement alone": 8, "radiofrequency and cement": 3}
    assert counted(table, "primary tumour") == {
        "lung": 3, "kidney": 2, "rectum": 2, "myeloma": 1, "pancreas": 1, "sarcoma": 1,
    }  # fmt: skip
    assert counted(table, "lesions a patient") == {"1": 9, "2": 1}


def test_table_2_of_hong_kong(hong_kong: Cases) -> None:
    table = tables.pain_table(hong_kong)
    assert table.columns[1:] == (
        "D0", "D1", "D2", "Wk1", "Wk2", "Wk3", "M1", "M2", "M3", "M4", "M5", "M6", "M7", "M9",
    )  # fmt: skip
    six = "2 2 0 1 1 2 2 - - - 6 0 - -".replace("-", "").split(" ")
    assert table.rows[5] == ("6", *six)


def test_figure_4_of_hong_kong(hong_kong: Cases) -> None:
    rows = tables.pain_course(hong_kong)
    printed = (
        "D0 5 (10) · D1 3 (9) · D2 3 (9) · Wk1 2 (8) · Wk2 2 (6) · Wk3 0 (5) · M1 1.5 (6) · "
        "M2 1 (4) · M3 1 (5) · M4 0 (3) · M5 0 (3) · M6 0 (1) · M7 0 (2) · M9 1 (1)"
    )
    assert " · ".join(f"{r.label} {r.median:g} ({r.n})" for r in rows) == printed
    carried = {r.label: r.median_carried for r in rows}
    assert [carried[k] for k in ("D1", "D2", "Wk1", "M5", "M6", "M7", "M9")] == [
        3,
        3,
        2,
        2,
        0,
        0,
        1,
    ]


def test_the_same_medians_as_followup(hong_kong: Cases) -> None:
    from trocar.followup.change import pain_course

    ours = [(r.day, r.n, r.median) for r in tables.pain_course(hong_kong)]
    assert ours == [(p.day, p.n, p.median) for p in pain_course(hong_kong.analysed)]


def test_paired_means_of_hong_kong(hong_kong: Cases) -> None:
    week = next(r for r in tables.mean_table(hong_kong) if r.label == "Wk1")
    # observed at week 1: 8 lesions, 7 pairs, 6 better and 1 worse (clinical.md A.3)
    assert (week.n, week.n_pairs, week.sign_p) == (8, 7, 0.125)
    fell = (5, 5, 3, 1, -2, 2, 1)  # lesions 1, 4, 5, 6, 8, 10, 11
    assert week.mean_change == pytest.approx(-sum(fell) / 7)


def test_complications_of_hong_kong(hong_kong: Cases) -> None:
    table = tables.complication_table(hong_kong)
    assert (table.row("any complication", "lesions").x, table.row("any complication").n) == (1, 11)
    ablated = table.row("radiofrequency and cement")
    assert (ablated.x, ablated.n) == (1, 3)
    assert (round(100 * ablated.low, 1), round(100 * ablated.high, 1)) == (0.8, 90.6)  # type: ignore[operator]
    assert table.row("grade 5", "complications by CIRSE grade").x == 1
    assert table.row("grade 4", "complications by SIR grade").x == 1
    assert table.row(tables.UNKNOWN, "device involved: reported to Yellow Card").x == 1
    assert table.row("any complication", "patients").n == 10


def test_leaks_of_hong_kong_are_mostly_not_known(hong_kong: Cases) -> None:
    table = tables.leak_table(hong_kong)
    assert table.row("looked for").x == 11
    assert table.row("looked for, result recorded").x == 1
    assert (table.row("any leak").x, table.row("any leak").n) == (0, 1)


def test_windows_meet_half_way() -> None:
    times = {t.label: (t.first, t.last) for t in tables.nominal_times(200)}
    assert times["D0"] == (float("-inf"), 0)
    assert times["D1"] == (0, 1.5)
    assert times["D3"] == (2.5, 5)
    assert times["Wk1"] == (5, 10.5)
    assert times["M1"] == (24.5, 42)
    assert times["M7"] == (182, 210)


def test_the_nearest_score_of_a_window_stands() -> None:
    cases = made(
        pain=tuple(
            PainScore(lesion_id="1", day=d, low=s)
            for d, s in ((-3, 9), (0, 8), (6, 5), (8, 4), (10, 3), (30, 2))
        )
    )
    found = {k: v.score for k, v in cases.seen["1"].items()}
    assert found == {"D0": 8, "Wk1": 5, "M1": 2}  # days 6 and 8 are as near: the earlier


def test_leaks_count_only_where_looked_for() -> None:
    def procedure(n: str, how: str | None, found: bool | None) -> Procedure:
        return Procedure(procedure_id=n, lesion_id=n, leak_assessed=how, leak_found=found)

    cases = made(
        procedures=(
            procedure("1", "CT", True),
            procedure("2", "CT", False),
            procedure("3", "not looked for", None),
            procedure("4", None, None),
        ),
        leaks=(
            Leak(lesion_id="1", compartment="disc", symptomatic=False, intervention=False),
            Leak(lesion_id="1", compartment="epidural or canal", symptomatic=True),
        ),
    )
    table = tables.leak_table(cases)
    assert counted(table, "how looked for")["not looked for"] == 1
    assert counted(table, "how looked for")[tables.UNKNOWN] == 1
    assert (table.row("any leak").x, table.row("any leak").n) == (1, 2)
    assert counted(table, "by compartment") == {"disc": 1, "epidural or canal": 1}
    assert (table.row("symptomatic leak", "leak").x, table.row("symptomatic leak", "leak").n) == (
        1,
        2,
    )
    # one of two leaks did not say: nobody knows whether the lesion needed an intervention
    needing = table.row("leak needing intervention", "leak")
    assert (needing.x, needing.n) == (0, 1)
    assert table.row("leak needing intervention", "not recorded").x == 1


def test_a_session_not_looked_at_says_nothing_of_the_other() -> None:
    cases = made(
        procedures=(
            Procedure(procedure_id="a", lesion_id="1", leak_assessed="CT", leak_found=False),
            Procedure(procedure_id="b", lesion_id="1", leak_assessed="not looked for"),
            Procedure(procedure_id="c", lesion_id="2", leak_assessed="not looked for"),
        )
    )
    assert [tables.leak_status(r) for r in cases.treated] == [False, None]


def test_death_at_30_days_is_not_guessed() -> None:
    cases = made(
        deaths=(Death(patient_id="A", day=12), Death(patient_id="C")),
        events=(Event(lesion_id="3", day=40, kind="last seen"),),
    )
    table = tables.death_table(cases)
    group = "30 days after a procedure"
    assert counted(table, group) == {"died": 1, "alive": 1, "not known": 1}
    known = table.row("died", f"{group}, of those known")
    assert (known.x, known.n) == (1, 2)


def test_last_seen_before_day_30_is_not_alive_at_30() -> None:
    cases = made(events=(Event(lesion_id="3", day=29, kind="last seen"),))
    assert counted(tables.death_table(cases), "30 days after a procedure") == {
        "died": 0,
        "alive": 0,
        "not known": 3,
    }


def test_72_hours_pain_and_analgesics_together() -> None:
    pain = [
        ("1", 0, 8),
        ("1", 3, 0),
        ("2", 0, 8),
        ("2", 3, 0),
        ("3", 0, 8),
        ("3", 3, 6),
        ("4", 0, 5),
    ]
    cases = made(
        pain=tuple(PainScore(lesion_id=n, day=d, low=s) for n, d, s in pain),
        visits=(
            Visit(lesion_id="1", day=3, medication="stopped"),
            Visit(lesion_id="2", day=3, medication="same"),
            Visit(lesion_id="4", day=3, medication="stopped"),
        ),
        opioids=(
            OpioidLine(lesion_id="3", day=3, drug="morphine", route="oral", dose=10, unit="mg/day"),
        ),
    )
    assert counted(tables.early_outcome(cases, None), "all lesions") == {
        "no pain without analgesics": 1,
        "important decrease of pain": 2,
        "neither": 0,
        "pain or analgesics not known": 1,
    }


def test_function_is_told_of_those_asked() -> None:
    cases = made(
        visits=(
            Visit(lesion_id="1", day=0, walking=1),
            Visit(lesion_id="1", day=7, mobility="improved", satisfied=True),
            Visit(lesion_id="1", day=28, walking=2, satisfied=True, would_have_again=True),
            Visit(lesion_id="2", day=6, mobility="worse", satisfied=False),
            Visit(lesion_id="3", day=0, walking=2),
            Visit(lesion_id="3", day=90, walking=4),
        )
    )
    table = tables.function_table(cases)
    assert counted(table, "mobility at 1 week") == {
        "answered": 2,
        "improved": 1,
        "same": 0,
        "worse": 1,
    }
    assert counted(table, "walking score at 1 month") == {
        "answered": 1,
        "better": 1,
        "same": 0,
        "worse": 0,
    }
    assert counted(table, "satisfied") == {"answered": 2, "yes": 1, "no": 1}
    assert counted(table, "satisfied and would have it again") == {"answered": 1, "yes": 1, "no": 0}
    walking = {r.label: (r.n, r.mean) for r in tables.walking_table(cases)}
    assert walking["before"] == (2, 1.5)
    assert walking["1 month, of those scored twice"] == (1, 2.0)


def test_every_table_adds_up(hong_kong: Cases) -> None:
    for table in (
        tables.characteristics(hong_kong),
        tables.leak_table(hong_kong),
        tables.complication_table(hong_kong),
        tables.death_table(hong_kong),
        tables.function_table(hong_kong),
        tables.opioid_counts(hong_kong, "Wk1", None),
    ):
        counts = table.counts()
        for s in table.all_sums():
            if all(k in counts for k in s.keys):
                parts = [counts[p] for p in s.parts]
                if s.overlapping:
                    assert max(parts) <= counts[s.total] <= sum(parts)
                else:
                    assert sum(parts) == counts[s.total], s


def test_holm() -> None:
    assert tables.holm([0.01, None, 0.04, 0.03]) == (0.03, None, 0.06, 0.06)
    assert tables.holm([0.6, 0.7]) == (1.0, 1.0)


def test_complications_are_of_lesions_with_a_procedure() -> None:
    cases = made(
        procedures=(Procedure(procedure_id="x", lesion_id="1", techniques=("cement",)),),
        complications=(Complication(lesion_id="1", day=2, event="fever", temperature_c=38.5),),
    )
    row = tables.complication_table(cases).row("any complication", "lesions")
    assert (row.x, row.n) == (1, 1)
