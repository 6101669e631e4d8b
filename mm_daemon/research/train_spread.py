"""The spread model: what a fill costs, by regression of markouts.

    adverse(x) = c + b'u(x)            half-spreads lost against theo before the fill, delta-hedged

Markouts are noise by far more than signal, so the features' weights are shrunk towards zero and the
whole towards the pooled mean; how strongly is chosen on contiguous blocks of time left out, with
the pooled mean itself among the choices. The fit can so be no better than it deserves to be.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from mm_daemon.core.catalog import Floats
from mm_daemon.core.intensity import ADVERSE_MAX, ADVERSE_MIN
from mm_daemon.research.datasets import Markouts, taken, time_blocks
from mm_daemon.research.hinge_basis import HingeBasis, LinearHead, as_float64, fit_basis

PENALTIES = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, math.inf)
"""In fills: a coefficient rests on about this many before it is believed."""
FOLDS = 4
FILLS_MIN = 20


class SpreadFit(msgspec.Struct, frozen=True):
    """A fitted spread model and how it was arrived at."""

    head: LinearHead
    penalty: float
    """Infinite where the pooled mean was best."""
    penalty_scores: dict[str, float]
    """Mean squared error on what was left out, by penalty."""


class SpreadScore(msgspec.Struct, frozen=True):
    """Held-out figures."""

    fills: int
    mean_adverse: float
    standard_error: float
    """Of the mean."""
    mse: float
    mse_pooled_mean: float
    """Of the mean of the training fills."""
    mse_analytic: float
    r2: float
    """Against the mean of the training fills; below 0 it foretells worse than that."""
    bias: float
    """Mean of foretold less seen."""


def fit_spread(table: Markouts, *, bends: bool = True) -> SpreadFit:
    """Fit with the shrinkage that foretells left-out blocks of time best.

    Raises: ValueError where there are fewer than `FILLS_MIN` fills.
    """
    if len(table) < FILLS_MIN:
        raise ValueError(
            f"{len(table)} judged fills to train on, expected at least {FILLS_MIN}: record longer"
            " sessions"
        )
    basis = fit_basis(table.rows, bends=bends)
    blocks = time_blocks(table, FOLDS)
    scores = {}
    for penalty in PENALTIES:
        squares = 0.0
        for block in range(FOLDS):
            left = taken(table, blocks == block)
            head = fit_head(taken(table, blocks != block), basis, penalty)
            squares += float(((predicted(head, left) - left.adverse) ** 2).sum())
        scores[penalty] = squares / len(table)
    penalty = min(scores, key=lambda one: (scores[one], -one))
    return SpreadFit(
        head=fit_head(table, basis, penalty),
        penalty=penalty,
        penalty_scores={
            "pooled_mean" if math.isinf(one) else f"{one:g}": mse for one, mse in scores.items()
        },
    )


def fit_head(table: Markouts, basis: HingeBasis, penalty: float) -> LinearHead:
    """Ridge regression with a free mean; infinite penalty gives the mean alone."""
    weights = np.zeros((basis.size, 1), dtype=np.float32)
    mean = float(table.adverse.mean())
    columns = as_float64(basis.columns(table.rows))
    centre = columns.mean(axis=0)
    if not math.isinf(penalty):
        centred = columns - centre
        gram = centred.T @ centred + penalty * np.eye(basis.size)
        weights[:, 0] = np.linalg.solve(gram, centred.T @ (table.adverse - mean))
    bias = mean - float(centre @ as_float64(weights[:, 0]))
    return LinearHead(basis=basis, weights=weights, bias=np.array([bias], dtype=np.float32))


def predicted(head: LinearHead, table: Markouts) -> Floats:
    """As the decision would use the model: the analytic policy where an output is out of range."""
    outputs = as_float64(head.outputs(table.rows)[:, 0])
    is_used = (outputs >= ADVERSE_MIN) & (outputs <= ADVERSE_MAX)
    return np.where(is_used, outputs, table.analytic)


def score(head: LinearHead, table: Markouts, *, pooled_mean: float) -> SpreadScore:
    """Figures of a table the model was not fitted on; at least two fills."""
    foretold = predicted(head, table)
    mse = float(((foretold - table.adverse) ** 2).mean())
    mse_mean = float(((pooled_mean - table.adverse) ** 2).mean())
    return SpreadScore(
        fills=len(table),
        mean_adverse=float(table.adverse.mean()),
        standard_error=float(table.adverse.std(ddof=1) / math.sqrt(len(table))),
        mse=mse,
        mse_pooled_mean=mse_mean,
        mse_analytic=float(((table.analytic - table.adverse) ** 2).mean()),
        r2=1.0 - mse / mse_mean if mse_mean > 0.0 else 0.0,
        bias=float((foretold - table.adverse).mean()),
    )
