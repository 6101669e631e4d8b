"""Markouts give back the adverse move that made them, and no more than they can support."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from mm_daemon.research.datasets import split_by_time, taken
from mm_daemon.research.train_spread import POOLED_MEAN, fit_spread, predicted, score
from tests.research.learning_world import markouts, rows_of


def test_adverse_move_is_recovered_within_a_tenth() -> None:
    """A fill costs 0.4 half-spreads everywhere, under noise five times that: 4,000 fills give the
    mean to 3 %."""
    generator = np.random.default_rng(1)
    rows = rows_of(generator, 4_000)
    fit = fit_spread(markouts(generator, rows, np.full(4_000, 0.4), 0.7))
    found = fit.shape.outputs(rows)[:, 0]
    assert float(found.mean()) == pytest.approx(0.4, rel=0.1)
    assert float(np.abs(found - 0.4).mean()) < 0.06


def test_adverse_move_by_state_is_recovered_within_a_tenth() -> None:
    generator = np.random.default_rng(2)
    rows = rows_of(generator, 6_000)
    true = 0.5 - 0.3 * rows[:, 11].astype(np.float64)
    fit = fit_spread(markouts(generator, rows, true, 0.5))
    found = fit.shape.outputs(rows)[:, 0].astype(np.float64)
    slope = np.polyfit(rows[:, 11].astype(np.float64), found, 1)[0]
    assert slope == pytest.approx(-0.3, rel=0.1)
    assert float(found.mean()) == pytest.approx(float(true.mean()), rel=0.1)


def test_edge_that_was_never_there_is_seen_in_few_fills() -> None:
    """300 fills with one bent directional effect among fifteen features: the leaning features alone
    find it, where all of them together would drown it."""
    generator = np.random.default_rng(11)
    rows = rows_of(generator, 300)
    true = 0.4 * np.maximum(rows[:, 9].astype(np.float64), -0.4)
    fit = fit_spread(markouts(generator, rows, true, 0.6))
    assert fit.choice.startswith("leaning")
    found = fit.shape.outputs(rows)[:, 0].astype(np.float64)
    assert np.corrcoef(found, true)[0, 1] > 0.85


def test_noise_is_shrunk_to_the_pooled_mean() -> None:
    generator = np.random.default_rng(3)
    rows = rows_of(generator, 300)
    table = markouts(generator, rows, np.full(300, 0.3), 2.0)
    fit = fit_spread(table)
    assert float(fit.shape.outputs(rows)[:, 0].std()) < 0.15


def test_held_out_figures_compare_with_mean_and_analytic() -> None:
    generator = np.random.default_rng(4)
    rows = rows_of(generator, 4_000)
    true = 1.0 + 0.5 * rows[:, 9].astype(np.float64)
    table = markouts(generator, rows, true, 0.3)
    fitted, held = split_by_time(table, gap_s=60.0)
    fit = fit_spread(fitted)
    found = score(fit.shape, held, pooled_mean=float(fitted.adverse.mean()))
    ceiling = 1.0 - float(((true[-len(held) :] - held.adverse) ** 2).mean()) / found.mse_pooled_mean
    assert found.r2 == pytest.approx(ceiling, abs=0.03)
    assert found.mse_analytic == pytest.approx(found.mse_pooled_mean + 0.49, rel=0.15)
    assert found.fills == len(held)
    assert abs(found.bias) < 0.05


def test_output_out_of_range_counts_as_the_analytic_policy() -> None:
    generator = np.random.default_rng(5)
    rows = rows_of(generator, 400)
    table = markouts(generator, rows, np.full(400, 9.0), 0.1)
    fit = fit_spread(table)
    assert np.all(predicted(fit.head, table) == 0.3)


def test_too_few_fills_are_refused_with_the_number() -> None:
    generator = np.random.default_rng(6)
    table = markouts(generator, rows_of(generator, 30), np.full(30, 0.3), 0.1)
    with pytest.raises(ValueError, match="12 judged fills to train on"):
        fit_spread(taken(table, np.arange(12)))


def test_pooled_mean_is_named_among_the_choices() -> None:
    generator = np.random.default_rng(7)
    fit = fit_spread(markouts(generator, rows_of(generator, 100), np.full(100, 0.2), 1.0))
    assert POOLED_MEAN in fit.scores
    assert all(math.isfinite(one) for one in fit.scores.values())


def test_own_fills_set_the_level_and_prints_the_shape() -> None:
    """Own fills, a tenth, cost 0.3 more at every state; 300 of them outweigh the prior of 20."""
    generator = np.random.default_rng(8)
    rows = rows_of(generator, 3_000)
    table = markouts(generator, rows, 0.2 * rows[:, 9].astype(np.float64), 0.2)
    table = msgspec.structs.replace(table, adverse=table.adverse + 0.3 * table.is_own)
    fit = fit_spread(table)
    own = taken(table, table.is_own)
    assert fit.own_shift == pytest.approx(0.27 * 300 / 320, rel=0.15)
    assert float(predicted(fit.head, own).mean()) == pytest.approx(
        float(own.adverse.mean()), abs=0.03
    )
    gap = fit.head.outputs(rows) - fit.shape.outputs(rows)
    np.testing.assert_allclose(gap, fit.own_shift, atol=1e-5)


def test_no_own_fills_leave_the_level_to_prints() -> None:
    generator = np.random.default_rng(9)
    rows = rows_of(generator, 200)
    table = markouts(generator, rows, np.full(200, 0.3), 0.2)
    table = msgspec.structs.replace(table, is_own=np.zeros(200, dtype=np.bool_))
    assert fit_spread(table).own_shift == 0.0
