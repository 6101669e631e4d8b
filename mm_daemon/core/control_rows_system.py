"""Controls on the daemon and its ties to the venue: sessions, orders, loop, journal, permit."""

from __future__ import annotations

from mm_daemon.core.control_types import (
    Action,
    Control,
    Level,
    Reset,
    each,
    one,
    within_ms,
    within_s,
)
from mm_daemon.domain.units import NS_PER_S

RECONCILE_BROKEN_S = 30.0
TRADING_LOST_S = 10.0
LOOP_LAG_ONCE_NS = NS_PER_S
"""A turn that is later than this counts by itself."""

SYSTEM_CONTROLS: tuple[Control, ...] = (
    Control(
        "C19",
        "a session is not ready, its feed is silent, or a setting was not read back",
        Level.VENUE,
        Action.PULL,
        Reset.AUTO,
        one(
            lambda s, p: (
                not (
                    s.sessions_ready
                    and s.settings_confirmed
                    and within_ms(s.feed_silence_ns, p.feed_silence_ms_max)
                )
            )
        ),
        hysteresis_s=0.0,
    ),
    Control(
        "C19.lasting",
        f"the trading session is not ready for {TRADING_LOST_S:g} s",
        Level.VENUE,
        Action.CANCEL_ALL,
        Reset.AUTO,
        one(lambda s, p: s.trading_lost_ns > TRADING_LOST_S * NS_PER_S),
    ),
    Control(
        "C20",
        "reconcile found orders, fills, positions or cash that differ",
        Level.VENUE,
        Action.HALT_QUOTING,
        Reset.AUTO,
        one(lambda s, p: s.reconcile_broken),
        hysteresis_s=0.0,
    ),
    Control(
        "C20.lasting",
        f"a break of the reconcile that lasts {RECONCILE_BROKEN_S:g} s",
        Level.VENUE,
        Action.CANCEL_ALL,
        Reset.OPERATOR,
        one(
            lambda s, p: (
                s.reconcile_broken and s.reconcile_broken_ns > RECONCILE_BROKEN_S * NS_PER_S
            )
        ),
    ),
    Control(
        "C21",
        "orders without a known outcome: too many, or too old",
        Level.UNDERLYING,
        Action.HALT_QUOTING,
        Reset.AUTO,
        each(
            lambda u, p: (
                not (
                    u.unknown_orders <= p.unknown_orders_max
                    and within_s(u.unknown_age_ns, p.unknown_age_s_max)
                )
            )
        ),
        hysteresis_s=0.0,
    ),
    Control(
        "C22",
        "loop lag: the 99th percentile over its limit for two seconds, or one turn over a second",
        Level.VENUE,
        Action.HALT_QUOTING,
        Reset.AUTO,
        one(
            lambda s, p: (
                not (
                    within_ms(s.loop_lag_held_ns, p.loop_lag_ms_max)
                    and 0 <= s.loop_lag_ns <= LOOP_LAG_ONCE_NS
                )
            )
        ),
    ),
    Control(
        "C23",
        "the journal fails: nothing may be sent without it",
        Level.VENUE,
        Action.CANCEL_ALL,
        Reset.OPERATOR,
        one(lambda s, p: s.journal_failed),
    ),
    Control(
        "C23.lag",
        "the journal was not synced to the disk for too long: a host crash would lose it",
        Level.VENUE,
        Action.HALT_QUOTING,
        Reset.AUTO,
        one(lambda s, p: not within_ms(s.journal_lag_ns, p.journal_lag_ms_max)),
    ),
    Control(
        "C24.quote",
        "permit older than T1, where a lease is required; elsewhere the modes pull alone",
        Level.VENUE,
        Action.PULL,
        Reset.AUTO,
        one(lambda s, p: not within_s(s.permit_age_ns, p.permit_quote_age_s_max)),
        hysteresis_s=0.0,
    ),
    Control(
        "C24.order",
        "permit older than T2, where a lease is required: the guard has not ended this trader",
        Level.VENUE,
        Action.HANDS_OFF,
        Reset.OPERATOR,
        one(lambda s, p: not within_s(s.permit_age_ns, p.permit_order_age_s_max)),
    ),
    Control(
        "C25",
        "an order of a newer epoch of ours is at the venue: we have lost the fence",
        Level.FIRM,
        Action.HARD_STOP,
        Reset.TWO_PERSONS,
        one(lambda s, p: s.newer_epoch_seen),
    ),
    Control(
        "C30",
        "open orders or trades on our account that are not ours",
        Level.VENUE,
        Action.HALT_QUOTING,
        Reset.OPERATOR,
        one(lambda s, p: s.foreign_orders > 0),
    ),
)
