"""The text beside a model: what it is, what it saw, how good it is, where it is not.

Every figure is passed in; the words around them say what follows from them, also when that is that
the analytic policy does as well. A card never praises.
"""

from __future__ import annotations

import msgspec

from mm_daemon.research.datasets import Recording
from mm_daemon.research.exposure_geometry import LEVELS
from mm_daemon.research.train_fill import FillFit, FillScore
from mm_daemon.research.train_spread import SpreadFit, SpreadScore

OWN_FILLS_MIN = 5
"""Fewer held-out fills than this say nothing."""


class FillStudy(msgspec.Struct, frozen=True):
    """A fill model beside what it must beat, on the held-out share."""

    fit: FillFit
    fitted_fills: int
    model: FillScore
    constant: FillScore
    """One A and k for all options, fitted on the same rows."""
    analytic: FillScore
    own: FillScore
    """The model on quotes that rested, alone."""

    @property
    def gain_over_analytic(self) -> float:
        """Log-likelihood gained per held-out fill."""
        return (self.model.log_likelihood - self.analytic.log_likelihood) / max(
            self.model.fills, 1.0
        )

    @property
    def gain_over_constant(self) -> float:
        return (self.model.log_likelihood - self.constant.log_likelihood) / max(
            self.model.fills, 1.0
        )


class SpreadStudy(msgspec.Struct, frozen=True):
    """A spread model beside what it must beat, on the held-out share."""

    fit: SpreadFit
    fitted_fills: int
    fitted_own_fills: int
    score: SpreadScore
    """The shape on all fills."""
    own: SpreadScore
    """The model as shipped on own fills alone."""


def trained_on(recording: Recording) -> str:
    """One line on the rows, for the manifest."""
    return (
        f"{recording.seconds:.0f} s of {len(recording.sessions)} session(s),"
        f" {recording.prints} prints, {recording.own_fills} own fills"
    )


def fill_card(study: FillStudy, recording: Recording, seed: int) -> str:
    """The fill model's card, Markdown."""
    rows = {
        "model": study.model,
        "constant A and k, fitted": study.constant,
        "analytic policy": study.analytic,
        "model on own quotes alone": study.own,
    }
    fills = max(study.model.fills, 1.0)
    lines = [
        "# Fill model",
        "",
        "Fills per day of one side of an option at d half-spreads from the middle, at the front of"
        " the queue:",
        "ln λ = ln_a − k d. Outputs (ln_a, ln k) by option and side; monotone in d by construction."
        " Additive, piecewise",
        "linear in the standardised features of the manifest, fitted by censored maximum"
        " likelihood with ridge shrinkage.",
        "",
        *_data_lines(recording, seed),
        f"- Fills fitted on (rows): {study.fitted_fills}. Shrinkage: {_choice(study.fit)}.",
        f"- Own quotes, and virtual ones at the others' touch and {LEVELS - 1} ticks behind it on"
        " every option: a print at that",
        "  price or beyond fills them. Rows without a fill are sampled and weighted.",
        "",
        "## Held out: the last quarter of every session",
        "",
        "| policy | ln likelihood per fill | fills seen / expected | calibration error (noise"
        " alone) | fills in the top tenth |",
        "|---|---|---|---|---|",
        *[
            f"| {name} | {one.log_likelihood / max(one.fills, 1.0):.3f}"
            f" | {one.fills:.0f} / {one.expected_fills:.0f}"
            f" | {one.calibration_error:.2f} ({one.noise_calibration_error:.2f})"
            f" | {100.0 * one.top_decile_share:.0f} % |"
            for name, one in rows.items()
        ],
        "",
        f"Gain per held-out fill ({fills:.0f} of them): {study.gain_over_analytic:+.3f} over the"
        " analytic policy,",
        f"{study.gain_over_constant:+.3f} over a constant. {_fill_verdict(study)}",
        "",
        *_fill_limits(),
    ]
    return "\n".join(lines) + "\n"


def spread_card(study: SpreadStudy, recording: Recording, seed: int) -> str:
    """The spread model's card, Markdown."""
    score, own = study.score, study.own
    lines = [
        "# Spread model",
        "",
        "Half-spreads that a fill loses against the theo before it, delta-hedged, at"
        f" {recording.horizon_s:.0f} s. One output by option and side.",
        "Additive, piecewise linear in the standardised features of the manifest; ridge"
        " regression shrunk to the pooled mean.",
        "",
        *_data_lines(recording, seed),
        f"- Fills fitted on: {study.fitted_fills}, of which own {study.fitted_own_fills}; the"
        " others are prints seen as fills of the side",
        f"  they hit. Features and shrinkage: {_choice(study.fit)}.",
        f"- Own fills cost {study.fit.own_shift:+.3f} half-spreads more than that shape says"
        " (shrunk); the level shipped is theirs.",
        "- Markouts count at most 20 half-spreads.",
        "",
        "## Held out: the last quarter of every session",
        "",
        "| mean squared error | all fills | own fills alone |",
        "|---|---|---|",
        f"| model (all fills: before the own level) | {score.mse:.3f} | {own.mse:.3f} |",
        f"| mean of the training fills | {score.mse_pooled_mean:.3f} | {own.mse_pooled_mean:.3f} |",
        f"| analytic policy | {score.mse_analytic:.3f} | {own.mse_analytic:.3f} |",
        "",
        f"All: {score.fills} fills, mean adverse {score.mean_adverse:+.3f} ±"
        f" {score.standard_error:.3f} half-spreads, R² against the training mean {score.r2:+.3f}.",
        f"Own: {own.fills} fills, mean adverse {own.mean_adverse:+.3f} ±"
        f" {own.standard_error:.3f}, foretold less seen {own.bias:+.3f}.",
        f"On all fills {_spread_verdict(score)} On own fills {_spread_verdict(own)}",
        "",
        "## Limits",
        "",
        "- The value at the horizon is the middle of the others' market (theo where there is none):"
        " half a tick of noise, no bias.",
        "- Theo before the fill is that of the interval's start, up to a second before it: what"
        " moved in that second counts as adverse.",
        "- A print that met somebody else may have met us on other terms: its taker chose that"
        " quote. Own fills are few beside them.",
        "- Fills at distances we never quoted are not in the data; cost is taken not to depend on"
        " the distance.",
    ]
    return "\n".join(lines) + "\n"


def _data_lines(recording: Recording, seed: int) -> list[str]:
    return [
        "## Data",
        "",
        f"- {len(recording.sessions)} recorded session(s), {recording.seconds:.0f} s in all:"
        f" {', '.join(recording.sessions)}. Seed {seed}.",
        f"- {recording.prints} prints in the book, {recording.own_fills} own passive fills.",
    ]


def _choice(fit: FillFit | SpreadFit) -> str:
    return f"{fit.choice}, chosen on left-out blocks of time among {len(fit.scores)}"


def _fill_verdict(study: FillStudy) -> str:
    if study.gain_over_analytic <= 0.0:
        return "It is no better than the analytic policy."
    if study.gain_over_constant <= 0.0:
        return (
            "It is better than the analytic policy by its level and slope; its features add"
            " nothing held out."
        )
    return "It is better than both."


def _spread_verdict(score: SpreadScore) -> str:
    if score.fills < OWN_FILLS_MIN:
        return f"nothing can be said from {score.fills}."
    if score.mse >= score.mse_analytic:
        return "it is no better than the analytic policy."
    if score.mse >= score.mse_pooled_mean:
        return "it is better than the analytic policy, and no better than the mean."
    return "it is better than both."


def _fill_limits() -> list[str]:
    return [
        "## Limits",
        "",
        "- Selection: the distances of own quotes were chosen by the policy from the same state"
        " that moves fills (skew, edge), so own",
        "  rows alone would confuse the two. Virtual rows stand at every option and level instead,"
        " but only at and behind the touch: how",
        "  intensity rises inside the spread is the formula's extrapolation, checked by own quotes"
        " alone.",
        "- Virtual and own rows share prints: coefficients are consistent, their standard errors"
        " would be too small and are not given.",
        "- Where our own quote stood in front of the touch, virtual rows are left out: the market"
        " was measured with us in it.",
        "- An own quote that moved within a second counts at the distance it began with. Queue"
        " shares are the quoter's reckoning.",
        "- A fill counts once whatever its size.",
        "- The world is the embedded venue's. On another venue train again.",
    ]
