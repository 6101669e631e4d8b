"""The spread model: what a fill costs, by regression of markouts.

    adverse(x) = c + b'u(x)            half-spreads lost against theo before the fill, delta-hedged

Markouts are noise by far more than signal, so the features' weights are shrunk towards zero and the
whole towards the pooled mean; how strongly, and whether on all features or only on those that say
which way the market leans, is chosen on contiguous blocks of time left out, with the pooled mean
itself among the choices. The fit can so be no better than it deserves to be.

The leaning features come first for a reason: where theo stands off the market's middle, the side
that looks cheap is the one that fills, and most of that edge was never there.

Prints seen as fills outnumber own fills and give the shape, but not the level: our quotes stand
where our theo likes them, so those who take them choose better than those who take any quote. Own
fills set the level, by their mean residual shrunk as if a few more had shown none.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from mm_daemon.core.catalog import Floats, Ints
from mm_daemon.core.features import FEATURES
from mm_daemon.core.intensity import ADVERSE_MAX, ADVERSE_MIN
from mm_daemon.research.datasets import Markouts, taken, time_blocks
from mm_daemon.research.hinge_basis import HingeBasis, LinearHead, as_float64, fit_basis

PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, math.inf)
"""In fills: a coefficient rests on about this many before it is believed."""
FOLDS = 4
FILLS_MIN = 20
GROUPS: dict[str, tuple[int, ...] | None] = {
    "leaning": tuple(i for i, name in enumerate(FEATURES) if "_toward" in name),
    "all": None,
}
POOLED_MEAN = "pooled mean"
OWN_PRIOR = 20.0
"""Own fills without any residual that the level is shrunk by."""


class SpreadFit(msgspec.Struct, frozen=True):
    """A fitted spread model and how it was arrived at."""

    head: LinearHead
    """The model: the shape, at the level of own fills."""
    shape: LinearHead
    """The same at the level of all fills."""
    own_shift: float
    """Half-spreads that own fills cost more than the shape says."""
    choice: str
    """Features and shrinkage that foretold best, or the pooled mean."""
    scores: dict[str, float]
    """Mean squared error on what was left out, by choice."""


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


def fit_spread(table: Markouts) -> SpreadFit:
    """Fit with the shrinkage that foretells left-out blocks of time best.

    Raises: ValueError where there are fewer than `FILLS_MIN` fills.
    """
    if len(table) < FILLS_MIN:
        raise ValueError(
            f"{len(table)} judged fills to train on, expected at least {FILLS_MIN}: record longer"
            " sessions"
        )
    blocks = time_blocks(table, FOLDS)
    scores: dict[tuple[str, float], float] = {}
    for group, only in GROUPS.items():
        basis = fit_basis(table.rows, only=only)
        for penalty in PENALTIES:
            scores[group, penalty] = _left_out_error(table, basis, penalty, blocks)
    group, penalty = min(scores, key=lambda one: (scores[one], -one[1]))
    shape = fit_head(table, fit_basis(table.rows, only=GROUPS[group]), penalty)
    shift = _own_shift(shape, table)
    bias = (shape.bias + shift).astype(np.float32)
    return SpreadFit(
        head=LinearHead(basis=shape.basis, weights=shape.weights, bias=bias),
        shape=shape,
        own_shift=shift,
        choice=_named(group, penalty),
        scores={_named(*one): mse for one, mse in scores.items()},
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
    """Figures of a table the model was not fitted on; all zero below two fills."""
    if len(table) < 2:
        return SpreadScore(len(table), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
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


def _own_shift(shape: LinearHead, table: Markouts) -> float:
    """Mean residual of own fills, shrunk towards none."""
    own = taken(table, table.is_own)
    residual = own.adverse - as_float64(shape.outputs(own.rows)[:, 0])
    return float(residual.sum() / (len(own) + OWN_PRIOR))


def _left_out_error(table: Markouts, basis: HingeBasis, penalty: float, blocks: Ints) -> float:
    """Mean squared error over contiguous blocks of time, each foretold from the others."""
    squares = 0.0
    for block in range(FOLDS):
        left = taken(table, blocks == block)
        head = fit_head(taken(table, blocks != block), basis, penalty)
        squares += float(((predicted(head, left) - left.adverse) ** 2).sum())
    return squares / len(table)


def _named(group: str, penalty: float) -> str:
    return POOLED_MEAN if math.isinf(penalty) else f"{group} {penalty:g}"
