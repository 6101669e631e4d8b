"""Controls on what we do and what comes of it: fills, losses, margin, rejects, hedges."""

from __future__ import annotations

from mm_daemon.core.control_types import (
    Action,
    Control,
    Level,
    Reset,
    Sample,
    each,
    one,
)
from mm_daemon.domain.params import BreakerParams

SIZE_REFUSALS_MAX = 2
"""Within ten seconds. An order over its limit is a defect or a wrong setting, not bad luck."""
FILLS_HELD_S = 30.0
FILL_TRIPS_PER_HOUR_MAX = 3


def _sides(sample: Sample, limits: BreakerParams) -> list[bool]:
    """(buy, sell) by underlying: a run of our buys pulls the bids."""
    tripped: list[bool] = []
    for underlying in sample.underlyings:
        tripped.append(underlying.streak >= limits.same_side_streak_max)
        tripped.append(-underlying.streak >= limits.same_side_streak_max)
    return tripped


def _margin(sample: Sample, limits: BreakerParams) -> list[bool]:
    pairs = zip(sample.underlyings, sample.margin_reduce_ratios, strict=True)
    return [any(not underlying.margin_use <= ratio for underlying, ratio in pairs)]


def _expiry_delta(sample: Sample, limits: BreakerParams) -> list[bool]:
    return [
        not abs(delta) <= underlying.expiry_delta_coin_max
        for underlying in sample.underlyings
        for delta in underlying.expiry_delta_coin
    ]


DESK_CONTROLS: tuple[Control, ...] = (
    Control(
        "C3",
        "our own fills of one option walked its price, beyond what its delta explains, by more"
        " than the rolling collar",
        Level.UNDERLYING,
        Action.HALT_QUOTING,
        Reset.OPERATOR,
        each(lambda u, p: not u.fills_drift <= 1.0),
    ),
    Control(
        "C5",
        "initial margin over the reduce ratio of the margin balance",
        Level.VENUE,
        Action.HEDGE_ONLY,
        Reset.AUTO,
        _margin,
    ),
    Control(
        "C5.stop",
        "initial margin over the stop ratio of the margin balance",
        Level.UNDERLYING,
        Action.PULL_ADDING,
        Reset.AUTO,
        each(lambda u, p: not u.margin_use <= u.margin_stop_ratio),
    ),
    Control(
        "C10",
        "requests for each fill over the limit",
        Level.UNDERLYING,
        Action.SLOW,
        Reset.AUTO,
        each(lambda u, p: not u.messages_per_fill <= p.messages_per_fill_max),
    ),
    Control(
        "C11",
        "loss of the day, of the rolling hour, or from the peak over its limit; NaN is a breach",
        Level.FIRM,
        Action.HEDGE_ONLY,
        Reset.TWO_PERSONS,
        one(
            lambda s, p: (
                not (
                    s.loss_day_usd <= p.loss_day_usd_max
                    and s.loss_hour_usd <= p.loss_hour_usd_max
                    and s.drawdown_usd <= p.drawdown_usd_max
                )
            )
        ),
    ),
    Control(
        "C11.underlying",
        "the same of its settlement currency alone, over its share of those limits",
        Level.UNDERLYING,
        Action.HEDGE_ONLY,
        Reset.TWO_PERSONS,
        each(
            lambda u, p: (
                not (
                    u.own_loss_day_usd <= p.loss_underlying_ratio * p.loss_day_usd_max
                    and u.own_loss_hour_usd <= p.loss_underlying_ratio * p.loss_hour_usd_max
                    and u.own_drawdown_usd <= p.loss_underlying_ratio * p.drawdown_usd_max
                )
            )
        ),
    ),
    Control(
        "C12",
        "lots, net delta or net vega filled in the sliding window over their limits (own MMP twin)",
        Level.UNDERLYING,
        Action.HALT_QUOTING,
        Reset.OPERATOR,
        each(
            lambda u, p: (
                not (
                    u.fills_lots <= p.fills_window_lots_max
                    and abs(u.fills_delta_coin) <= p.fills_window_delta_coin_max
                    and abs(u.fills_vega_usd) <= p.fills_window_vega_usd_max
                )
            )
        ),
        held_s_min=FILLS_HELD_S,
        trips_per_hour_max=FILL_TRIPS_PER_HOUR_MAX,
    ),
    Control(
        "C12.streak",
        "a run of fills on one side over strikes",
        Level.UNDERLYING,
        Action.PULL_SIDE,
        Reset.AUTO,
        _sides,
    ),
    Control(
        "C12.venue",
        "the venue's own protection pulled our quotes; lifted, it is reset there before any quote",
        Level.UNDERLYING,
        Action.HALT_QUOTING,
        Reset.OPERATOR,
        each(lambda u, p: u.is_pulled_by_venue),
        held_s_min=FILLS_HELD_S,
        trips_per_hour_max=FILL_TRIPS_PER_HOUR_MAX,
    ),
    Control(
        "C13",
        "venue rejects in ten seconds over the limit",
        Level.VENUE,
        Action.HALT_QUOTING,
        Reset.OPERATOR,
        one(lambda s, p: s.rejects_10s > p.rejects_per_10s_max),
    ),
    Control(
        "C13.size",
        f"more than {SIZE_REFUSALS_MAX} orders over their size limit (C1) in ten seconds",
        Level.VENUE,
        Action.HALT_QUOTING,
        Reset.OPERATOR,
        one(lambda s, p: s.size_refusals_10s > SIZE_REFUSALS_MAX),
    ),
    Control(
        "C28.widen",
        "hedging fails or delta stays out of its band",
        Level.UNDERLYING,
        Action.WIDEN,
        Reset.AUTO,
        each(lambda u, p: u.hedge_escalation >= 1),
        hysteresis_s=0.0,
    ),
    Control(
        "C28",
        "hedging keeps failing or delta stays out of its band for long, where it may be hedged",
        Level.UNDERLYING,
        Action.HALT_QUOTING,
        Reset.OPERATOR,
        each(lambda u, p: u.hedge_escalation >= 2),
    ),
    Control(
        "C28.page",
        "delta stays out of its band although quoting has stopped",
        Level.UNDERLYING,
        Action.PAGE,
        Reset.AUTO,
        each(lambda u, p: u.hedge_escalation >= 3),
        hysteresis_s=0.0,
    ),
    Control(
        "C34",
        "delta of one expiry with a future of its own over its limit",
        Level.EXPIRY,
        Action.HEDGE,
        Reset.AUTO,
        _expiry_delta,
        hysteresis_s=0.0,
    ),
)
