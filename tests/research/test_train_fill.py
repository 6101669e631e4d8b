"""The fit finds the truth behind censored exposures, shrinks what is noise, and says how good it
is."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mm_daemon.core.features import FEATURES
from mm_daemon.research.datasets import Exposures, taken
from mm_daemon.research.hinge_basis import as_float64, fit_basis
from mm_daemon.research.train_fill import (
    CONSTANT,
    best_distance,
    fit_constant,
    fit_fill,
    fit_head,
    ln_rates,
    log_likelihood,
    model_ln_rates,
    reliability,
    score,
)
from tests.research.learning_world import exposures, rows_of

A, K = 1.4, 1.5
DISTANCES = np.linspace(-1.0, 8.0, 40)


def truth(count: int, seed: int = 1) -> Exposures:
    """A e^(-k d) fills a second, one second of exposure, distances uniform on (0, 2)."""
    generator = np.random.default_rng(seed)
    rows = rows_of(generator, count)
    return exposures(generator, rows, np.full(count, math.log(A)), np.full(count, K))


def test_constant_intensity_is_recovered_from_censored_exposures() -> None:
    """Tolerances are three standard errors at 20,000 exposures: 2.0 % of A, 1.6 % of k."""
    table = truth(20_000)
    assert 0.3 < 1.0 - table.filled.mean() < 0.9, "the case must be censored to mean anything"
    ln_a, ln_k = fit_constant(table)
    assert math.exp(ln_k) == pytest.approx(K, rel=0.05)
    assert math.exp(ln_a) == pytest.approx(A, rel=0.06)
    cost = 0.2
    best = best_distance(np.array([ln_k]), np.array([cost]))[0]
    assert best == pytest.approx(1.0 / K + cost, rel=0.05)


def test_fill_probabilities_are_calibrated_and_as_sharp_as_the_truth() -> None:
    table = truth(20_000)
    ln_a, ln_k = fit_constant(table)
    fitted = 1.0 - np.exp(-np.exp(ln_a - math.exp(ln_k) * table.distance))
    true = 1.0 - np.exp(-A * np.exp(-K * table.distance))
    error, brier = reliability(fitted, table.filled)
    _, brier_true = reliability(true, table.filled)
    assert error < 0.015
    assert brier - brier_true < 5e-4
    assert brier_true == pytest.approx(0.176, abs=0.006)
    falling = np.diff(fitted[np.argsort(table.distance)])
    assert np.all(falling <= 0.0)


def test_naive_fit_that_ignores_censoring_would_be_wrong() -> None:
    """The test can fail: counting unfilled quotes as exposed for nothing overstates intensity."""
    table = truth(20_000)
    ln_a, _ = fit_constant(taken(table, table.filled > 0.0))
    assert math.exp(ln_a) > 1.2 * A


def test_covariates_of_level_and_slope_are_recovered() -> None:
    generator = np.random.default_rng(3)
    rows = rows_of(generator, 20_000)
    x = rows.astype(np.float64)
    ln_a = 0.5 + 0.8 * x[:, 0] - 0.5 * x[:, 8]
    ln_k = 0.3 + 0.4 * x[:, 4]
    table = exposures(generator, rows, ln_a, np.exp(ln_k))
    fit = fit_fill(table)
    assert fit.choice != CONSTANT
    found = as_float64(fit.head.outputs(rows))
    assert np.abs(found[:, 0] - ln_a).mean() < 0.1
    assert np.abs(found[:, 1] - ln_k).mean() < 0.1
    best = log_likelihood(table, ln_rates(table, ln_a, np.exp(ln_k)))
    flat = fit_constant(table)
    constant = log_likelihood(
        table, ln_rates(table, np.full(len(table), flat[0]), np.full(len(table), math.exp(flat[1])))
    )
    model = log_likelihood(table, model_ln_rates(fit.head, table))
    assert model - constant > 0.97 * (best - constant)


def test_bend_in_a_feature_is_followed() -> None:
    generator = np.random.default_rng(4)
    rows = rows_of(generator, 30_000)
    ln_a = 1.5 * np.maximum(rows[:, 3].astype(np.float64), 0.0)
    table = exposures(generator, rows, ln_a, np.full(len(rows), 1.0))
    bent = fit_head(table, fit_basis(rows, bends=True), 3.0)
    straight = fit_head(table, fit_basis(rows, bends=False), 3.0)
    gain = log_likelihood(table, model_ln_rates(bent, table)) - log_likelihood(
        table, model_ln_rates(straight, table)
    )
    assert gain > 100.0


def test_features_without_signal_are_shrunk_to_the_constant() -> None:
    table = truth(1_500, seed=8)
    fit = fit_fill(table)
    found = as_float64(fit.head.outputs(table.rows))
    assert found[:, 0].std() < 0.1
    assert found[:, 1].std() < 0.1


def test_weighted_draw_of_unfilled_rows_keeps_the_estimate() -> None:
    table = truth(20_000)
    generator = np.random.default_rng(6)
    kept = (table.filled > 0.0) | (generator.random(len(table)) < 0.3)
    thinned = taken(table, kept)
    thinned = type(table)(
        *[
            np.where(thinned.filled > 0.0, 1.0, 1.0 / 0.3) if name == "weight"
            else getattr(thinned, name)
            for name in table.__struct_fields__
        ]
    )  # fmt: skip
    ln_a, ln_k = fit_constant(thinned)
    assert math.exp(ln_k) == pytest.approx(K, rel=0.06)
    assert math.exp(ln_a) == pytest.approx(A, rel=0.07)


def test_queue_share_is_taken_out_of_the_intensity() -> None:
    """Quotes that get half of every print show half the fills, and the same intensity at the
    front."""
    generator = np.random.default_rng(7)
    n = 20_000
    rows = rows_of(generator, n)
    table = exposures(generator, rows, np.full(n, math.log(A * 0.5)), np.full(n, K))
    shared = type(table)(
        *[
            np.full(n, math.log(0.5)) if name == "ln_share" else getattr(table, name)
            for name in table.__struct_fields__
        ]
    )
    assert math.exp(fit_constant(shared)[0]) == pytest.approx(A, rel=0.06)


def test_intensity_falls_with_distance_at_every_state() -> None:
    generator = np.random.default_rng(9)
    table = truth(5_000)
    head = fit_head(table, fit_basis(table.rows, bends=True), 3.0)
    wild = (5.0 * generator.normal(size=(500, len(FEATURES)))).astype(np.float32)
    found = as_float64(head.outputs(wild))
    rates = found[:, :1] - np.exp(found[:, 1:]) * DISTANCES
    assert np.all(np.diff(rates, axis=1) < 0.0)


def test_score_tells_a_good_policy_from_one_of_the_wrong_level() -> None:
    table = truth(20_000)
    n = len(table)
    good = score(table, ln_rates(table, np.full(n, math.log(A)), np.full(n, K)))
    doubled = score(table, ln_rates(table, np.full(n, math.log(2.0 * A)), np.full(n, K)))
    assert good.calibration_error < 2.5 * good.noise_calibration_error
    assert doubled.calibration_error > 0.8
    assert good.log_likelihood > doubled.log_likelihood
    assert good.expected_fills == pytest.approx(good.fills, rel=0.03)


def test_too_few_fills_are_refused_with_the_number() -> None:
    table = truth(2_000)
    few = taken(table, np.flatnonzero(table.filled > 0.0)[:7])
    with pytest.raises(ValueError, match="7 fills to train on, expected at least 20"):
        fit_fill(few)
    with pytest.raises(ValueError, match="no exposure filled"):
        fit_constant(taken(table, table.filled == 0.0))
