"""The training commands: sessions in, a model directory and its figures out.

What is fitted is what is shipped: the last quarter of every session grades the very weights that
are written, and they are not fitted again on everything afterwards. A model that turns out no
better than the analytic policy is written all the same and says so; whether it is used is the
desk's decision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from mm_daemon.core.features import Rows
from mm_daemon.core.intensity import (
    ADVERSE_MAX,
    ADVERSE_MIN,
    LN_A_MAX,
    LN_A_MIN,
    LN_K_MAX,
    LN_K_MIN,
)
from mm_daemon.domain.errors import ConfigError
from mm_daemon.inference.manifest import Manifest, OutputRange
from mm_daemon.research.datasets import Exposures, Recording, split_by_time, taken
from mm_daemon.research.export_onnx import ModelFacts, write_model
from mm_daemon.research.model_card import (
    FillStudy,
    SpreadStudy,
    fill_card,
    spread_card,
    trained_on,
)
from mm_daemon.research.session_reader import MakeNode, Progress, read_sessions
from mm_daemon.research.train_fill import (
    fit_constant,
    fit_fill,
    ln_rates,
    model_ln_rates,
    score,
)
from mm_daemon.research.train_spread import SpreadScore, fit_spread
from mm_daemon.research.train_spread import score as spread_score

CHECK_ROWS = 4096
HELD_FILLS_MIN = 10
FILL_OUTPUTS = (
    OutputRange("ln_a", LN_A_MIN, LN_A_MAX),
    OutputRange("ln_k", LN_K_MIN, LN_K_MAX),
)
SPREAD_OUTPUTS = (OutputRange("adverse_half_spreads", ADVERSE_MIN, ADVERSE_MAX),)

Trainer = Callable[[Recording, Path, int, str], Manifest]


def train(
    kind: str,
    sessions: Sequence[Path],
    out: Path,
    make_node: MakeNode,
    *,
    seed: int,
    today: str,
    on_progress: Progress,
) -> dict[str, Any]:
    """`mm-daemon train KIND`, as plain values. Raises ConfigError where nothing can be learned."""
    trainers: dict[str, Trainer] = {"fill": train_fill, "spread": train_spread}
    if kind not in trainers:
        raise ConfigError(f"no trainer for {kind!r}: expected one of {', '.join(trainers)}")
    recording = read_sessions(sessions, make_node, seed=seed, on_progress=on_progress)
    try:
        manifest = trainers[kind](recording, out, seed, today)
    except ValueError as error:
        raise ConfigError(f"train {kind}: {error}") from error
    report: dict[str, Any] = msgspec.to_builtins(manifest)
    return {"directory": str(out), **report}


def train_fill(recording: Recording, out: Path, seed: int, today: str) -> Manifest:
    """Fit, grade on the held-out quarter, write. ValueError where there are too few fills."""
    fitted, held = split_by_time(recording.exposures, gap_s=0.0)
    study = study_fill(fitted, held)
    return write_model(
        out,
        study.fit.head,
        ModelFacts(
            kind="fill",
            outputs=FILL_OUTPUTS,
            trained_at=today,
            trained_on=trained_on(recording),
            metrics=_fill_metrics(study),
            seed=seed,
        ),
        fill_card(study, recording, seed),
        _check_rows(recording.exposures.rows),
    )


def study_fill(fitted: Exposures, held: Exposures) -> FillStudy:
    """A fit and its figures beside the constant and the analytic policy."""
    if int(held.filled.sum()) < HELD_FILLS_MIN:
        raise ValueError(
            f"{int(held.filled.sum())} fills held out, expected at least {HELD_FILLS_MIN}: record"
            " longer sessions"
        )
    fit = fit_fill(fitted)
    ln_a, ln_k = fit_constant(fitted)
    flat = np.full(len(held), ln_a)
    own = taken(held, held.is_own)
    return FillStudy(
        fit=fit,
        fitted_fills=int(fitted.filled.sum()),
        model=score(held, model_ln_rates(fit.head, held)),
        constant=score(held, ln_rates(held, flat, np.full(len(held), math.exp(ln_k)))),
        analytic=score(held, ln_rates(held, held.analytic_ln_a, held.analytic_k)),
        own=score(own, model_ln_rates(fit.head, own)),
    )


def train_spread(recording: Recording, out: Path, seed: int, today: str) -> Manifest:
    """Fit, grade on the held-out quarter, write. ValueError where there are too few fills."""
    fitted, held = split_by_time(recording.markouts, gap_s=recording.horizon_s)
    if len(held) < HELD_FILLS_MIN:
        raise ValueError(
            f"{len(held)} judged fills held out, expected at least {HELD_FILLS_MIN}: record longer"
            " sessions"
        )
    fit = fit_spread(fitted)
    study = SpreadStudy(
        fit=fit,
        fitted_fills=len(fitted),
        fitted_own_fills=int(fitted.is_own.sum()),
        score=spread_score(fit.shape, held, pooled_mean=float(fitted.adverse.mean())),
        own=spread_score(
            fit.head, taken(held, held.is_own), pooled_mean=float(fitted.adverse.mean())
        ),
    )
    return write_model(
        out,
        fit.head,
        ModelFacts(
            kind="spread",
            outputs=SPREAD_OUTPUTS,
            trained_at=today,
            trained_on=trained_on(recording),
            metrics={
                "horizon_s": recording.horizon_s,
                "fills_fitted": float(len(fitted)),
                "own_shift": fit.own_shift,
                **_named_figures("", study.score),
                **_named_figures("own_", study.own),
            },
            seed=seed,
        ),
        spread_card(study, recording, seed),
        _check_rows(recording.markouts.rows),
    )


def _fill_metrics(study: FillStudy) -> dict[str, float]:
    return {
        "fills_fitted": float(study.fitted_fills),
        "fills_held_out": study.model.fills,
        "expected_fills_held_out": study.model.expected_fills,
        "gain_over_analytic_per_fill": study.gain_over_analytic,
        "gain_over_constant_per_fill": study.gain_over_constant,
        "calibration_error": study.model.calibration_error,
        "calibration_error_analytic": study.analytic.calibration_error,
        "calibration_error_noise": study.model.noise_calibration_error,
        "own_fills_held_out": study.own.fills,
        "own_expected_fills_held_out": study.own.expected_fills,
        "top_decile_share": study.model.top_decile_share,
    }


def _named_figures(prefix: str, figures: SpreadScore) -> dict[str, float]:
    return {f"{prefix}{key}": float(one) for key, one in msgspec.structs.asdict(figures).items()}


def _check_rows(rows: Rows) -> Rows:
    """Evenly spread rows to compare the served model on."""
    return rows[:: max(len(rows) // CHECK_ROWS, 1)]
