"""Controls on what we know: prices, surfaces, models, clocks."""

from __future__ import annotations

from mm_daemon.core.control_types import (
    Action,
    Control,
    Level,
    QuickControl,
    QuickRow,
    Reset,
    Sample,
    each,
    one,
    within_ms,
    within_s,
)
from mm_daemon.domain.units import NS_PER_MS

MODEL_FAULTS_STOP = 10
"""Within the minute over which the models count their faults."""
INDEX_CLEAR_S = 60.0


def _outside(sample: Sample, limit: float) -> list[bool]:
    return [not share <= limit for one in sample.underlyings for share in one.theo_outside]


MARKET_CONTROLS: tuple[Control, ...] = (
    Control(
        "C14.index",
        "index price too old",
        Level.UNDERLYING,
        Action.PULL,
        Reset.AUTO,
        each(lambda u, p: not within_ms(u.index_age_ns, p.index_age_ms_max)),
    ),
    Control(
        "C14.surface",
        "vol surface too old or too rough",
        Level.UNDERLYING,
        Action.PULL,
        Reset.AUTO,
        each(
            lambda u, p: (
                not (
                    within_s(u.surface_age_ns, p.surface_age_s_max)
                    and u.surface_rms_vp <= p.surface_rms_vp_max
                )
            )
        ),
        hysteresis_s=0.0,
    ),
    Control(
        "C14.theo_widen",
        "theo outside the market on more than the widen share of core options",
        Level.EXPIRY,
        Action.WIDEN,
        Reset.AUTO,
        lambda s, p: _outside(s, p.theo_outside_widen_ratio),
    ),
    Control(
        "C14.theo_halt",
        "theo outside the market on more than the halt share of core options",
        Level.EXPIRY,
        Action.PULL,
        Reset.AUTO,
        lambda s, p: _outside(s, p.theo_outside_halt_ratio),
    ),
    Control(
        "C16",
        "sources of the spot (index, perpetual, parity) differ by more than the limit",
        Level.UNDERLYING,
        Action.FREEZE,
        Reset.AUTO,
        each(lambda u, p: not u.index_divergence_bps <= p.index_divergence_bps_max),
        hysteresis_s=INDEX_CLEAR_S,
    ),
    Control(
        "C17",
        "a model's answers too old, failed, late, mostly NaN or out of range",
        Level.UNDERLYING,
        Action.FALL_BACK,
        Reset.AUTO,
        each(lambda u, p: not within_s(u.model_age_ns, p.model_age_s_max) or u.model_faults > 0),
    ),
    Control(
        "C17.repeated",
        f"{MODEL_FAULTS_STOP} such answers within a minute",
        Level.UNDERLYING,
        Action.HALT_QUOTING,
        Reset.OPERATOR,
        each(lambda u, p: u.model_faults >= MODEL_FAULTS_STOP),
    ),
    Control(
        "C18",
        "our clock and the venue's, or our wall and monotonic clocks, apart by more than the limit",
        Level.VENUE,
        Action.HALT_QUOTING,
        Reset.AUTO,
        one(
            lambda s, p: (
                not max(abs(s.clock_offset_ns), abs(s.venue_offset_ns))
                <= p.clock_offset_ms_max * NS_PER_MS
            )
        ),
    ),
)

QUICK_CONTROLS: tuple[QuickRow, ...] = (
    QuickRow(
        "C7",
        "the same side of one instrument filled again and again without a person's word;"
        " on several instruments, of the underlying",
        Action.HALT_QUOTING,
        Reset.OPERATOR,
        QuickControl.REPEAT,
    ),
    QuickRow(
        "C14.book",
        "no word on the instrument for too long",
        Action.PULL,
        Reset.AUTO,
        QuickControl.BOOK_AGE,
    ),
    QuickRow(
        "C14.price",
        "theo has moved by too large a share of the edge since the quote was sent, or is gone",
        Action.PULL,
        Reset.AUTO,
        QuickControl.PRICE_MOVED,
    ),
    QuickRow(
        "C15",
        "book crossed, gapped, garbage or lost",
        Action.PULL,
        Reset.AUTO,
        QuickControl.BOOK_INVALID,
    ),
    QuickRow(
        "C27",
        "instrument not open, index locked, or too near its expiry",
        Action.PULL,
        Reset.AUTO,
        QuickControl.CLOSED,
    ),
)
