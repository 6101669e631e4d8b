"""The fill model: how often a price fills, by censored maximum likelihood.

    ln lambda(d | x) = ln_a(x) - k(x) d,    ln_a = b0 + b'u(x),    ln k = t0 + t'z(x)

An exposure over time T that filled y times adds w (y ln lambda - lambda T); one without a fill is
censored and adds only -w lambda T. k is an exponential, so lambda falls with distance for every x
whatever is learned. The features' weights are shrunk towards zero, so towards one constant A and k
for all options; how strongly is chosen by likelihood on contiguous blocks of time left out, and the
constant itself is among the choices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from scipy import optimize

from mm_daemon.core.catalog import Bools, Floats
from mm_daemon.core.intensity import LN_A_MAX, LN_A_MIN, LN_K_MAX, LN_K_MIN
from mm_daemon.pricing.arrays import kernel
from mm_daemon.research.datasets import Exposures, taken, time_blocks
from mm_daemon.research.hinge_basis import (
    Floats32,
    HingeBasis,
    LinearHead,
    as_float64,
    fit_basis,
)

PENALTIES = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, math.inf)
"""Weights of the squared coefficients, in fills: a coefficient rests on about this many before it
is believed."""
CONSTANT = "constant"
FOLDS = 4
FILLS_MIN = 20
"""With fewer fills than this in training there is nothing to fit."""
_LN_RATE_MAX = 40.0
_STEPS_MAX = 40
_SHARE_MIN = 1e-4
_GAIN_MIN = 1e-6
"""In log-likelihood per fill."""
_INFORMATION_MIN = 1e-9


class FillFit(msgspec.Struct, frozen=True):
    """A fitted fill model and how it was arrived at."""

    head: LinearHead
    """Outputs (ln_a, ln k)."""
    choice: str
    """Shrinkage that foretold best, or the constant."""
    scores: dict[str, float]
    """Left-out log-likelihood by choice."""


class FillScore(msgspec.Struct, frozen=True):
    """Held-out figures of one policy on one table."""

    log_likelihood: float
    """Total, with weights."""
    fills: float
    expected_fills: float
    calibration_error: float
    """Sum over ten groups of equal expected fills of |seen - expected|, over fills seen."""
    noise_calibration_error: float
    """The same as a perfect model would show it, from the Poisson noise of the counts."""
    top_decile_share: float
    """Share of fills in the tenth of exposed time with the highest intensity."""


def fit_constant(table: Exposures) -> tuple[float, float]:
    """(ln_a, ln k) of one intensity for every row: A profiled out, k by bounded search.

    Raises: ValueError where nothing filled.
    """
    fills = float((table.weight * table.filled).sum())
    if not fills > 0.0:
        raise ValueError("no exposure filled: an intensity cannot be fitted")
    reach = float((table.weight * table.filled * table.distance).sum())
    base = table.weight * table.days * np.exp(table.ln_share)

    def exposed(k: float) -> float:
        return float((base * np.exp(-k * table.distance)).sum())

    def loss(ln_k: float) -> float:
        k = math.exp(ln_k)
        return k * reach + fills * math.log(exposed(k))

    found = optimize.minimize_scalar(loss, bounds=(LN_K_MIN, LN_K_MAX), method="bounded")
    ln_k = float(found.x)
    return math.log(fills / exposed(math.exp(ln_k))), ln_k


def fit_fill(table: Exposures, *, bends: bool = True) -> FillFit:
    """Fit with the penalty that foretells left-out blocks of time best.

    Raises: ValueError where fewer than `FILLS_MIN` exposures filled.
    """
    fills = int(table.filled.sum())
    if fills < FILLS_MIN:
        raise ValueError(
            f"{fills} fills to train on, expected at least {FILLS_MIN}: record longer sessions"
        )
    basis = fit_basis(table.rows, bends=bends)
    scores = _penalty_scores(table, basis)
    penalty = max(scores, key=lambda one: (scores[one], one))
    return FillFit(
        head=fit_head(table, basis, penalty),
        choice=_named(penalty),
        scores={_named(one): score for one, score in scores.items()},
    )


def fit_head(table: Exposures, basis: HingeBasis, penalty: float) -> LinearHead:
    """Maximum penalised likelihood at one penalty; infinite gives the constant."""
    return fit_path(table, basis, (penalty,))[penalty]


def fit_path(
    table: Exposures, basis: HingeBasis, penalties: Sequence[float]
) -> dict[float, LinearHead]:
    """A head for every penalty; each fit begins where the next heavier one ended."""
    size, linear = basis.size, basis.mean.size
    columns = basis.columns(table.rows)
    x = np.zeros(size + linear + 2)
    x[-2:] = fit_constant(table)
    heads = {}
    for penalty in sorted(penalties, reverse=True):
        if not math.isinf(penalty):
            x = _climb(x, columns, linear, table, penalty)
        weights = np.zeros((size, 2), dtype=np.float32)
        weights[:, 0] = x[:size]
        weights[:linear, 1] = x[size : size + linear]
        heads[penalty] = LinearHead(basis=basis, weights=weights, bias=x[-2:].astype(np.float32))
    return heads


def ln_rates(table: Exposures, ln_a: Floats, k: Floats) -> Floats:
    """ln of fills per day of each row at its distance and place in the queue."""
    rates: Floats = np.minimum(ln_a - k * table.distance + table.ln_share, _LN_RATE_MAX)
    return rates


def model_ln_rates(head: LinearHead, table: Exposures) -> Floats:
    """As the decision would use the model: the analytic policy where an output is out of range."""
    outputs = as_float64(head.outputs(table.rows))
    ln_a, ln_k = outputs[:, 0], outputs[:, 1]
    is_used = (ln_a >= LN_A_MIN) & (ln_a <= LN_A_MAX) & (ln_k >= LN_K_MIN) & (ln_k <= LN_K_MAX)
    return ln_rates(
        table,
        np.where(is_used, ln_a, table.analytic_ln_a),
        np.where(is_used, np.exp(np.clip(ln_k, LN_K_MIN, LN_K_MAX)), table.analytic_k),
    )


def log_likelihood(table: Exposures, ln_rate: Floats) -> float:
    """Censored Poisson log-likelihood, up to a constant that all policies share."""
    terms = table.filled * ln_rate - np.exp(ln_rate) * table.days
    return float((table.weight * terms).sum())


def score(table: Exposures, ln_rate: Floats) -> FillScore:
    """Likelihood and calibration of one policy; all zero where there are no rows."""
    if not len(table):
        return FillScore(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    expected = table.weight * table.days * np.exp(ln_rate)
    seen = table.weight * table.filled
    total, fills = float(expected.sum()), float(seen.sum())
    order = np.argsort(ln_rate, kind="stable")
    group = np.minimum((10 * np.cumsum(expected[order]) / total).astype(np.int64), 9)
    seen_by = np.bincount(group, seen[order], 10)
    expected_by = np.bincount(group, expected[order], 10)
    exposed = np.cumsum((table.weight * table.days)[order])
    is_top = exposed >= 0.9 * exposed[-1]
    return FillScore(
        log_likelihood=log_likelihood(table, ln_rate),
        fills=fills,
        expected_fills=total,
        calibration_error=float(np.abs(seen_by - expected_by).sum() / max(fills, 1.0)),
        # The mean of |Poisson(m) - m| is about 0.8 root m.
        noise_calibration_error=float(0.8 * np.sqrt(expected_by).sum() / max(fills, 1.0)),
        top_decile_share=float(seen[order][is_top].sum() / max(fills, 1.0)),
    )


def reliability(probability: Floats, outcome: Floats, bins: int = 10) -> tuple[float, float]:
    """(expected calibration error over bins of equal mass, Brier score) of fill probabilities."""
    order = np.argsort(probability, kind="stable")
    group = np.arange(order.size) * bins // order.size
    counts = np.bincount(group, minlength=bins)
    gap = np.bincount(group, probability[order] - outcome[order], bins)
    error = float(np.abs(gap).sum() / counts.sum())
    return error, float(((probability - outcome) ** 2).mean())


def best_distance(ln_k: Floats, cost: Floats) -> Floats:
    """Distance that maximises lambda(d) (d - cost), in half-spreads: cost + 1 / k."""
    best: Floats = cost + np.exp(-ln_k)
    return best


def _climb(x: Floats, columns: Floats32, linear: int, table: Exposures, penalty: float) -> Floats:
    """Fisher scoring with step halving, from `x` to where a step gains next to nothing.

    Second-order steps need a dozen passes where a quasi-Newton method needs hundreds, since scales
    of level and slope differ by the exposed time.
    """
    gain_min = _GAIN_MIN * float((table.weight * table.filled).sum())
    value = _value(x, columns, linear, table, penalty)
    for _ in range(_STEPS_MAX):
        gradient, information = _curvature(x, columns, linear, table, penalty)
        step = np.linalg.solve(information, gradient)
        share = 1.0
        reached = _value(x + step, columns, linear, table, penalty)
        while not reached >= value and share > _SHARE_MIN:
            share *= 0.5
            reached = _value(x + share * step, columns, linear, table, penalty)
        if not reached >= value:
            break
        x = x + share * step
        gained, value = reached - value, reached
        if gained < gain_min:
            break
    return x


def _parameters(x: Floats, columns: Floats32, linear: int) -> tuple[Floats, Floats, Bools]:
    """(ln_a, k, whether k is inside its range) of every row."""
    out = np.empty((2, len(columns)))
    _forward_into(columns, linear, x, out)
    ln_k = out[1]
    is_free = (ln_k > LN_K_MIN) & (ln_k < LN_K_MAX)
    return out[0], np.exp(np.clip(ln_k, LN_K_MIN, LN_K_MAX)), is_free


def _value(x: Floats, columns: Floats32, linear: int, table: Exposures, penalty: float) -> float:
    """Penalised log-likelihood."""
    ln_a, k, _ = _parameters(x, columns, linear)
    shrinkage = 0.5 * penalty * float((x[:-2] * x[:-2]).sum())
    return log_likelihood(table, ln_rates(table, ln_a, k)) - shrinkage


def _curvature(
    x: Floats, columns: Floats32, linear: int, table: Exposures, penalty: float
) -> tuple[Floats, Floats]:
    """Gradient and expected information of the penalised log-likelihood."""
    ln_a, k, is_free = _parameters(x, columns, linear)
    expected = table.weight * np.exp(ln_rates(table, ln_a, k)) * table.days
    residual = table.weight * table.filled - expected
    gradient = np.zeros_like(x)
    information = np.zeros((x.size, x.size))
    bend = -k * table.distance * is_free
    _accumulate_into(columns, linear, bend, residual, expected, gradient, information)
    information += np.tril(information, -1).T
    gradient[:-2] -= penalty * x[:-2]
    # A slope that no row speaks for keeps the start's value instead of making this singular.
    information[np.diag_indices(x.size)] += _INFORMATION_MIN
    information[np.diag_indices(x.size - 2)] += penalty
    return gradient, information


@kernel
def _forward_into(columns: Floats32, linear: int, x: Floats, out: Floats) -> None:
    """ln_a and ln k of every row.

    A kernel and not a product of matrices: sums in a fixed order give equal models on any number
    of cores, and a library's threads do not fight a busy machine for them.
    """
    size = columns.shape[1]
    for row in range(columns.shape[0]):
        ln_a, ln_k = x[size + linear], x[size + linear + 1]
        for c in range(size):
            ln_a += columns[row, c] * x[c]
        for c in range(linear):
            ln_k += columns[row, c] * x[size + c]
        out[0, row], out[1, row] = ln_a, ln_k


@kernel
def _accumulate_into(
    columns: Floats32,
    linear: int,
    bend: Floats,
    residual: Floats,
    expected: Floats,
    gradient: Floats,
    information: Floats,
) -> None:
    """Add up gradient and the lower triangle of the information; `bend` is d ln rate / d ln k."""
    size = columns.shape[1]
    slopes = np.empty(size + linear + 2)
    for row in range(columns.shape[0]):
        for c in range(size):
            slopes[c] = columns[row, c]
        for c in range(linear):
            slopes[size + c] = bend[row] * columns[row, c]
        slopes[size + linear], slopes[size + linear + 1] = 1.0, bend[row]
        for a in range(slopes.size):
            gradient[a] += residual[row] * slopes[a]
            weighted = expected[row] * slopes[a]
            for b in range(a + 1):
                information[a, b] += weighted * slopes[b]


def _penalty_scores(table: Exposures, basis: HingeBasis) -> dict[float, float]:
    """Left-out log-likelihood of every penalty, over contiguous blocks of time."""
    blocks = time_blocks(table, FOLDS)
    scores = dict.fromkeys(PENALTIES, 0.0)
    for block in range(FOLDS):
        out: Bools = blocks == block
        kept, left = taken(table, ~out), taken(table, out)
        if not kept.filled.any():
            continue
        for penalty, head in fit_path(kept, basis, PENALTIES).items():
            scores[penalty] += log_likelihood(left, model_ln_rates(head, left))
    return scores


def _named(penalty: float) -> str:
    return CONSTANT if math.isinf(penalty) else f"penalty {penalty:g}"
