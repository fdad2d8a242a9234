"""The whole audit: Hong Kong to the digit, a synthetic cohort within error, nothing given away."""

from __future__ import annotations

import pytest

from trocar.audit.summary import _SAME, Audit, Curve, audit_study, coarse, ledger
from trocar.audit.suppression import Sum, solvable
from trocar.errors import InputError
from trocar.followup.rules import HighestInWindow
from trocar.io.records import example_study
from trocar.model.study import Study, StudyInfo
from trocar.phantom.cohort import synthetic_study


@pytest.fixture(scope="module")
def hong_kong() -> Audit:
    return audit_study(example_study())


@pytest.fixture(scope="module")
def shared() -> tuple[Audit, Audit]:
    """The same synthetic study audited for the unit, and to be shared."""
    study = synthetic_study(400, 4).study
    return audit_study(study), audit_study(study, suppress_below=5)


def test_hong_kong_before_and_at_week_1(hong_kong: Audit) -> None:
    first = hong_kong.changes[0]
    assert (first.median_before, first.n_before) == (5, 10)
    assert (first.median_after, first.n_after) == (2, 11)
    assert first.median_after_paired == 2.5
    assert first.signs == "8/1/1"
    assert first.p_value == 0.0390625
    counts = hong_kong.counts["changes"]
    assert counts.row("improved").x == 8


def test_hong_kong_table_of_rules(hong_kong: Audit) -> None:
    rows = [
        (r.median_after, r.n_after, r.signs, round(r.p_value or 0, 4)) for r in hong_kong.changes
    ]
    assert rows == [
        (2, 11, "8/1/1", 0.0391), (2, 11, "8/1/1", 0.0391), (2, 10, "8/1/0", 0.0391),
        (2, 8, "6/1/0", 0.125), (3, 11, "5/2/3", 0.4531), (4, 11, "5/2/3", 0.4531),
        (3, 11, "8/2/0", 0.1094), (2, 11, "9/1/1", 0.0215),
    ]  # fmt: skip


def test_hong_kong_follow_up_relief_and_response(hong_kong: Audit) -> None:
    assert hong_kong.follow_up.median_days == 16 * 7
    not_worse = hong_kong.counts["outcomes"].row("not worse at 1 week", "lesions")
    assert (not_worse.x, not_worse.n) == (10, 11)
    assert not_worse.low == pytest.approx(0.587, abs=5e-4)
    assert not_worse.high == pytest.approx(0.998, abs=5e-4)
    week = hong_kong.counts["response Wk1"]
    assert [week.row(k).x for k in ("CR", "PR", "IR", "PP", "not evaluable")] == [1, 4, 4, 1, 1]
    responders = week.row("responders (CR or PR)")
    assert (responders.x, responders.n) == (5, 10)
    important = {r.label: (r.x, r.n) for r in hong_kong.counts["important"].rows}
    assert list(important.values())[:3] == [(5, 10), (7, 10), (4, 10)]


def test_hong_kong_by_patient(hong_kong: Audit) -> None:
    by_unit = {r.unit: r for r in hong_kong.sensitivity}
    assert by_unit["patient mean"].signs == "8/1/0"
    assert by_unit["first lesion"].signs == "8/0/1"
    assert by_unit["first lesion"].p_value == 0.0078125


def test_hong_kong_says_what_it_does_not_know(hong_kong: Audit) -> None:
    assert [n.note_id for n in hong_kong.notes] == [f"F{i}" for i in range(1, 8)]
    assert hong_kong.survival is None  # no death was recorded: a flat line would mislead
    assert (hong_kong.n_patients, hong_kong.n_treated, hong_kong.n_analysed) == (10, 11, 11)
    assert hong_kong.counts["exclusions"].row("from analysis").x == 2
    assert "not corrected" in hong_kong.multiplicity
    assert any("A lesion" in s or "score" in s for _, _, s in hong_kong.rules)
    assert "governance" in hong_kong.facts
    assert hong_kong.mixed is not None
    assert hong_kong.mixed_note.startswith("Linear mixed model")


def test_hong_kong_lanes(hong_kong: Audit) -> None:
    lanes = {lane.lesion_id: lane for lane in hong_kong.lanes}
    assert lanes["6"].relieved == ((2, 21), (168, 168))  # from D2 to Wk3, and again at M6
    assert lanes["5"].marks == ((1, "complication"),)
    assert lanes["7"].relieved == ()  # no score before: relief cannot be told
    assert lanes["2"].end_day == 252


def test_another_rule_for_week_1() -> None:
    audit = audit_study(example_study(), week1_rule=HighestInWindow(7))
    assert audit.changes[0].signs == "5/2/3"
    assert audit.counts["outcomes"].row("less pain at 1 week", "lesions").x == 5


def test_synthetic_rates_are_found_again() -> None:
    cohort = synthetic_study(1500, 11)
    audit = audit_study(cohort.study)
    found = {c.outcome: c for c in audit.clusters}
    assert set(cohort.truth) <= set(found)
    for outcome, rate in cohort.truth.items():
        row = found[outcome]
        assert row.lesions is not None
        x, n = row.lesions
        effect = max(1.0, row.design_effect or 1.0)
        error = (rate * (1 - rate) / n * effect) ** 0.5
        assert abs(x / n - rate) < 3.3 * error, (outcome, x, n, rate)
    consent = audit.governance.rule("consent")
    assert consent.met is not None
    assert abs(consent.met / 1500 - cohort.rates.consent) < 3.3 * (0.97 * 0.03 / 1500) ** 0.5


def test_progress_goes_up_to_1() -> None:
    told: list[tuple[str, float]] = []
    audit_study(synthetic_study(20, 1).study, progress=lambda step, part: told.append((step, part)))
    parts = [part for _, part in told]
    assert parts == sorted(parts)
    assert parts[-1] == 1.0


def test_what_is_shared_names_nobody(shared: tuple[Audit, Audit]) -> None:
    _, audit = shared
    assert audit.hidden > 0
    assert audit.tables == ()
    assert audit.lanes == ()
    assert audit.monitors == ()
    assert audit.governance.sentinels == ()
    assert audit.governance.device_reports == ()
    assert all(r.failing == r.unknown_ids == () for r in audit.governance.rules)
    assert all(row.left_out == () for row in audit.changes)
    for curve in (audit.survival, *audit.recurrence):
        assert curve is not None
        assert curve.at_risk == ()
        assert curve.happened == ()


def test_no_small_count_is_left_anywhere(shared: tuple[Audit, Audit]) -> None:
    _, audit = shared
    for table in audit.counts.values():
        for row in table.rows:
            if row.x is not None and row.n is not None:
                assert not 0 < row.x < 5, (table.name, row)
                assert table.public or not 0 < row.n - row.x < 5, (table.name, row)
            else:
                assert row.low is None
                assert row.high is None
    for rule in audit.governance.rules:
        assert not any(0 < (x or 0) < 5 for x in (rule.met, rule.not_met, rule.unknown))
    for b in audit.benchmarks:
        assert not 0 < (b.x or 0) < 5
    for f in audit.funnels:
        assert all(not 0 < (u.x or 0) < 5 for u in f.units)
    for c in audit.clusters:
        for pair in (c.lesions, c.patients, c.first_lesions):
            assert pair is None or not 0 < pair[0] < 5


def test_nothing_hidden_can_be_worked_out_from_all_tables_together(
    shared: tuple[Audit, Audit],
) -> None:
    whole, audit = shared
    counts, sums = ledger(whole.counts.values())
    printed = {
        key
        for table in audit.counts.values()
        for row in table.rows
        if row.x is not None
        for key in (row.key, row.of)
    }
    hidden = {
        row.key
        for table in audit.counts.values()
        for row in table.rows
        if row.x is None and row.key not in printed
    }
    rests = {k for k in counts if " but not " in k}
    subtracted = {k for k in rests if set(k.split(" but not ")) <= printed}
    unknown = frozenset(k for k, v in counts.items() if v > 0 and k not in printed | subtracted)
    assert hidden <= unknown | {k for k, v in counts.items() if v == 0}
    assert len(unknown) > 20
    # the proof itself: exact integer bounds, for a reader who holds every printed table
    small = {k for k in unknown if counts[k] < 5}
    assert not solvable(counts, sums, unknown) & small


def test_counts_that_stand_in_two_tables_are_tied(shared: tuple[Audit, Audit]) -> None:
    counts, sums = ledger(shared[0].counts.values())
    ties = [s for s in sums if len(s.parts) == 1 and not s.overlapping]
    for here, there in _SAME:
        assert counts[here] == counts[there]
        assert Sum(here, (there,)) in ties


def test_large_counts_are_still_told(shared: tuple[Audit, Audit]) -> None:
    whole, audit = shared
    leak = audit.counts["leaks"].row("any leak")
    assert (leak.x, leak.n) == (whole.counts["leaks"].row("any leak").x, leak.n)
    assert audit.n_treated == 400
    shown = sum(not r.hidden for t in audit.counts.values() for r in t.rows)
    assert shown > 250


def test_a_curve_is_told_in_steps_of_many() -> None:
    curve = Curve(
        name="c", title="C", days=(0, 1, 2, 3, 4, 5), fractions=(0, 0.1, 0.2, 0.4, 0.5, 0.9),
        low=(0,) * 6, high=(1,) * 6, at_risk=((0, 20),), n=20, events=12, median_days=4,
        note="", happened=((0, 0), (2, 0), (3, 0), (4, 1), (3, 4), (6, 0)),
        left=(40, 40, 38, 30, 20, 6),
    )  # fmt: skip
    shown = coarse(curve, 5)
    assert shown.days == (0, 2, 4)  # 2 + 3 of the first cause; 4 + 3 and 1 + 4; then none at risk
    assert shown.fractions == (0, 0.2, 0.5)
    assert shown.n is None
    assert shown.median_days == 4


@pytest.mark.parametrize(
    ("asked", "said"), [({"level": 1.0}, "level"), ({"suppress_below": 1}, "suppress_below")]
)
def test_what_cannot_be_asked(asked: dict[str, float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        audit_study(example_study(), **asked)  # type: ignore[arg-type]


def test_a_study_without_lesions() -> None:
    with pytest.raises(InputError, match="no lesions"):
        audit_study(Study(info=StudyInfo(study_id="E", title="empty")))


def test_one_lesion_of_which_little_is_known() -> None:
    audit = audit_study(synthetic_study(1, 3).study)
    assert audit.n_analysed == 1
    assert audit.benchmarks
    hidden = audit_study(synthetic_study(1, 3).study, suppress_below=5)
    assert hidden.n_analysed is None
    assert all(r.hidden or r.x == 0 for t in hidden.counts.values() for r in t.rows)
