"""The mixed model against nlme (golden.csv), statsmodels, nested ANOVA, the dense likelihood."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from trocar.errors import InputError
from trocar.stats.mixed import mixed_model, mixed_pain_course

TABLES = "13_tables_and_golden_statistics"


def simulated(
    seed: int, patients: int, lesions: int, times: int, sd: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Scores 6, 4, 3, 3, ... with spreads of patients, lesions and scores; a tenth not taken."""
    draw = np.random.default_rng(seed)
    owner = np.concatenate([np.arange(patients), draw.integers(0, patients, lesions - patients)])
    lesion, time = np.repeat(np.arange(lesions), times), np.tile(np.arange(times), lesions)
    mean = np.array([6.0, 4, 3, 3, 3, 3, 3, 3])[time]
    score = mean + sd[0] * draw.normal(size=patients)[owner[lesion]]
    score += sd[1] * draw.normal(size=lesions)[lesion] + sd[2] * draw.normal(size=lesion.size)
    taken = draw.random(lesion.size) > 0.1
    return score[taken], time[taken], owner[lesion][taken], lesion[taken]


def dense(
    y: np.ndarray, X: np.ndarray, patient: np.ndarray, lesion: np.ndarray,
    variances: tuple[float, float, float], reml: bool,
) -> tuple[float, np.ndarray]:  # fmt: skip
    """The (restricted) likelihood and (X'V^-1 X)^-1 from the whole covariance matrix V."""
    p2, l2, e2 = variances
    V = e2 * np.eye(y.size) + p2 * (patient[:, None] == patient)
    V = V + l2 * ((patient[:, None] == patient) & (lesion[:, None] == lesion))
    inverse = np.linalg.inv(V)
    xvx = X.T @ inverse @ X
    b = np.linalg.solve(xvx, X.T @ inverse @ y)
    value = stats.multivariate_normal.logpdf(y, X @ b, V)
    if reml:
        value += X.shape[1] * np.log(2 * np.pi) / 2 - np.linalg.slogdet(xvx)[1] / 2
    return float(value), np.linalg.inv(xvx)


@pytest.mark.data
def test_labour_pain_is_that_of_nlme(data: Path) -> None:
    with (data / TABLES / "golden.csv").open() as file:
        golden = {r["key"]: float(r["value"]) for r in csv.DictReader(file)}
    with (data / TABLES / "labor_pain.csv").open() as file:
        rows = list(csv.DictReader(file))
    y, treated, time = (
        np.array([float(r[k]) for r in rows]) for k in ("pain", "treatment", "time")
    )
    X = np.column_stack([np.ones(y.size), treated, time, treated * time])
    model = mixed_model(y, X, [r["subject"] for r in rows], reml=False)
    key = "labor.lme.ML"
    for value, name in zip(
        model.coefficients, ("(Intercept)", "treatment", "time", "treatment:time")
    ):
        assert value == pytest.approx(golden[f"{key}.fixed.{name}"], rel=1e-8)
    assert model.log_likelihood == pytest.approx(golden[f"{key}.loglik"], rel=1e-13)
    assert np.sqrt(model.patient_variance) == pytest.approx(golden[f"{key}.sd.re"], rel=1e-8)
    assert np.sqrt(model.residual_variance) == pytest.approx(golden[f"{key}.sd.res"], rel=1e-8)
    assert model.lesion_variance is None


def test_balanced_scores_give_the_variances_of_nested_anova() -> None:
    a, b, n = 12, 3, 4
    draw = np.random.default_rng(7)
    y = (
        5 + 2 * draw.normal(size=(a, 1, 1)) + draw.normal(size=(a, b, 1))
        + 0.8 * draw.normal(size=(a, b, n))
    )  # fmt: skip
    patients, lesions = y.mean(axis=(1, 2)), y.mean(axis=2)
    ms_p = b * n * np.sum((patients - y.mean()) ** 2) / (a - 1)
    ms_l = n * np.sum((lesions - patients[:, None]) ** 2) / (a * (b - 1))
    ms_e = np.sum((y - lesions[..., None]) ** 2) / (a * b * (n - 1))
    patient, lesion, _ = np.indices(y.shape)
    model = mixed_model(y, np.ones((y.size, 1)), patient, lesion)
    assert model.residual_variance == pytest.approx(ms_e, rel=1e-7)
    assert model.lesion_variance == pytest.approx((ms_l - ms_e) / n, rel=1e-6)
    assert model.patient_variance == pytest.approx((ms_p - ms_l) / (b * n), rel=1e-6)
    assert model.coefficients[0] == pytest.approx(y.mean(), rel=1e-12)
    assert model.se[0] == pytest.approx(np.sqrt(ms_p / y.size), rel=1e-6)
    assert (model.n_patients, model.n_lesions) == (a, a * b)  # lesions are 0..2 in each patient


@pytest.mark.parametrize("reml", [True, False])
def test_statsmodels_agrees(reml: bool) -> None:
    pytest.importorskip("statsmodels")
    import pandas
    import statsmodels.formula.api as smf

    y, time, patient, lesion = simulated(3, 30, 55, 4, (1.5, 1.0, 0.8))
    frame = pandas.DataFrame({"y": y, "t": time, "p": patient, "l": lesion})
    peer = smf.mixedlm(
        "y ~ 0 + C(t)", frame, groups="p", re_formula="1", vc_formula={"l": "0 + C(l)"}
    ).fit(reml=reml, method=["lbfgs"])
    course = mixed_pain_course(y, time, patient, lesion, reml=reml)
    ours = course.model
    assert ours.log_likelihood == pytest.approx(peer.llf, abs=1e-6)
    assert ours.coefficients == pytest.approx(peer.fe_params.to_numpy(), abs=1e-5)
    # statsmodels inverts the Hessian of everything jointly, we (and lme4) X'V^-1 X alone
    assert ours.se == pytest.approx(peer.bse_fe.to_numpy(), rel=5e-4)
    assert ours.patient_variance == pytest.approx(float(peer.cov_re.iloc[0, 0]), rel=1e-3)
    assert ours.lesion_variance == pytest.approx(float(peer.vcomp[0]), rel=1e-3)
    assert ours.residual_variance == pytest.approx(peer.scale, rel=1e-4)


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 10**6), st.booleans(),
    st.sampled_from([(1.5, 1.0, 0.8), (0.0, 1.0, 1.0), (2.0, 0.0, 1.0), (8.0, 3.0, 0.1)]),
)  # fmt: skip
def test_the_dense_likelihood_is_the_same_and_nowhere_higher(
    seed: int, reml: bool, sd: tuple[float, float, float]
) -> None:
    y, time, patient, lesion = simulated(seed, 8, 15, 3, sd)
    X = np.column_stack([np.ones(y.size), time])
    model = mixed_model(y, X, patient, lesion, reml=reml)
    found = (model.patient_variance, model.lesion_variance or 0.0, model.residual_variance)
    here, covariance = dense(y, X, patient, lesion, found, reml)
    assert model.log_likelihood == pytest.approx(here, abs=1e-7)
    assert model.covariance == pytest.approx(covariance, rel=1e-6)
    for i in range(3):
        for factor in (0.5, 0.9, 1.1, 2.0):
            other = list(found)
            other[i] = other[i] * factor if other[i] > 0 else 0.05 * factor
            trial = dense(y, X, patient, lesion, (other[0], other[1], other[2]), reml)[0]
            assert trial <= here + 1e-7


def test_a_course_of_twenty_thousand_lesions_is_recovered() -> None:
    y, time, patient, lesion = simulated(20261120, 12_000, 20_000, 8, (1.5, 1.0, 1.2))
    course = mixed_pain_course(y, time, patient, lesion)
    model = course.model
    assert np.sqrt(model.patient_variance) == pytest.approx(1.5, abs=0.03)
    assert np.sqrt(model.lesion_variance or 0) == pytest.approx(1.0, abs=0.03)
    assert np.sqrt(model.residual_variance) == pytest.approx(1.2, abs=0.01)
    for point, true in zip(course.points, (6, 4, 3, 3, 3, 3, 3, 3)):
        assert abs(point.mean - true) < 4 * point.se
        assert point.n_scores == np.count_nonzero(time == point.time)


def test_a_complete_course_is_the_means_and_their_paired_differences() -> None:
    # every lesion scored at every time: the model's means are the plain ones
    draw = np.random.default_rng(1)
    y = np.round(6 + draw.normal(size=(20, 1)) - [0, 2, 3] + 0.5 * draw.normal(size=(20, 3)), 2)
    lesion, _ = np.indices(y.shape)
    time = np.tile(["D0", "Wk1", "Wk12"], 20)
    course = mixed_pain_course(y, time, lesion // 2, lesion)
    first, week, last = course.points
    assert (first.time, last.time) == ("D0", "Wk12")
    assert week.mean == pytest.approx(y[:, 1].mean(), rel=1e-10)
    assert last.change == pytest.approx((y[:, 2] - y[:, 0]).mean(), rel=1e-10)
    assert (first.n_scores, first.n_lesions, first.change, first.change_se) == (20, 20, 0.0, None)
    assert last.change_se == pytest.approx(np.sqrt(2 * course.model.residual_variance / 20))
    assert last.change_low == pytest.approx(last.change - 1.959963984540054 * last.change_se)
    assert course.wald_df == 2
    assert course.wald_p_value == pytest.approx(stats.chi2.sf(course.wald, 2), rel=1e-9)


def test_missing_visits_are_judged_by_the_lesions_that_have_both() -> None:
    # the two worst lesions were not scored later; their absence must not look like relief
    base = np.array([2.0, 4, 6, 8, 10])
    later = base[:3] - 1 + np.array([0.1, 0, -0.1])
    lesion = np.concatenate([np.arange(5), np.arange(3)])
    score, time = np.concatenate([base, later]), np.repeat([0, 1], [5, 3])
    change = mixed_pain_course(score, time, lesion, lesion).points[1].change
    assert change == pytest.approx(-1, abs=0.01)
    assert later.mean() - base.mean() < -2.9


def test_order_names_the_baseline_and_a_line_has_two_coefficients() -> None:
    y, time, patient, lesion = simulated(5, 10, 18, 3, (1.0, 1.0, 1.0))
    words = np.array(["before", "after", "later"])[time]
    ordered = mixed_pain_course(y, words, patient, lesion, order=["before", "after", "later"])
    assert [p.time for p in ordered.points] == ["before", "after", "later"]
    codes = mixed_pain_course(y, time, patient, lesion)
    assert [p.mean for p in ordered.points] == [p.mean for p in codes.points]
    line = mixed_pain_course(y, time, patient, lesion, continuous=True)
    X = np.column_stack([np.ones(y.size), time])
    assert line.model.coefficients == pytest.approx(
        mixed_model(y, X, patient, lesion).coefficients, rel=1e-10
    )
    assert line.points[2].change == pytest.approx(2 * line.model.coefficients[1], rel=1e-10)
    assert line.wald == pytest.approx(
        (line.model.coefficients[1] / line.model.se[1]) ** 2, rel=1e-9
    )


def test_one_lesion_a_patient_leaves_one_spread() -> None:
    y, time, patient, _ = simulated(5, 18, 18, 3, (1.0, 0.0, 1.0))
    course = mixed_pain_course(y, time, patient, patient)
    assert not course.lesions_apart
    assert course.model.lesion_variance is None
    same = mixed_model(y, np.eye(3)[time], patient)
    assert course.model.log_likelihood == same.log_likelihood


def test_scores_may_lie_far_from_zero() -> None:
    y, time, patient, lesion = simulated(5, 10, 18, 3, (1.0, 1.0, 1.0))
    near, far = (mixed_pain_course(y + c, time, patient, lesion) for c in (0.0, 1e6))
    assert far.points[1].mean == pytest.approx(near.points[1].mean + 1e6, abs=1e-6)
    assert far.model.residual_variance == pytest.approx(near.model.residual_variance, rel=1e-6)


def test_what_cannot_be_fitted_is_said() -> None:
    y, ones = [1.0, 2, 3, 5], np.ones((4, 1))
    with pytest.raises(InputError, match="no patient has two lesions"):
        mixed_model(y, ones, [1, 1, 2, 2], [1, 1, 2, 2])
    with pytest.raises(InputError, match="no lesion has two scores"):
        mixed_model(y, ones, [1, 1, 2, 2], [1, 2, 3, 4])
    with pytest.raises(InputError, match="depend on each other"):
        mixed_model(y, np.ones((4, 2)), [1, 1, 2, 2])
    with pytest.raises(InputError, match="missing value"):
        mixed_model([1, 2, None, 4], ones, [1, 1, 2, 2])
    with pytest.raises(InputError, match="missing label"):
        mixed_model(y, ones, [1, 1, None, 2])
    with pytest.raises(InputError, match="explains y wholly"):
        mixed_model([1, 1, 1, 1], ones, [1, 1, 2, 2])
    with pytest.raises(InputError, match="at least two times"):
        mixed_pain_course(y, [0, 0, 0, 0], [1, 1, 2, 2], [1, 1, 2, 2])
    with pytest.raises(InputError, match="'b' is not in the order"):
        mixed_pain_course(y, ["a", "b", "a", "b"], [1, 1, 2, 2], [1, 1, 2, 2], order=["a"])
    with pytest.raises(InputError, match="4 scores came with 3 patients"):
        mixed_model(y, ones, [1, 1, 2])
