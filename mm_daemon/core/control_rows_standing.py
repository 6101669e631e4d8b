"""Controls that stand in the way: the pre-trade gate's and those that other modules hold.

They refuse, and remember nothing; each refusal is counted under its number.
"""

from __future__ import annotations

from mm_daemon.core.control_types import Action, Level, StandingRow

_GATE = "core/risk"

STANDING_CONTROLS: tuple[StandingRow, ...] = (
    StandingRow(
        "C1",
        "an order over its largest size in lots, notional or vega",
        Level.INSTRUMENT,
        Action.REFUSE,
        _GATE,
    ),
    StandingRow(
        "C2",
        "a price off its grid or beyond the collar around theo; no finite theo, or one beyond the"
        " collar around mark or touch",
        Level.INSTRUMENT,
        Action.REFUSE,
        _GATE,
    ),
    StandingRow(
        "C4",
        "position or a Greek, of an expiry too, beyond its limit on the worst case of position,"
        " live, in-flight and unknown",
        Level.UNDERLYING,
        Action.REFUSE,
        _GATE,
    ),
    StandingRow(
        "C5.orders",
        "open orders over their number; margin of the worst case over the stop ratio, but for what"
        " closes a position and leaves less margin to carry",
        Level.UNDERLYING,
        Action.REFUSE,
        _GATE,
    ),
    StandingRow(
        "C6",
        "no credit left of the venue's rate limit; cancels have credits of their own",
        Level.VENUE,
        Action.REFUSE,
        "core/throttle",
    ),
    StandingRow(
        "C8",
        "the same order again, or a client id ever used",
        Level.INSTRUMENT,
        Action.REFUSE,
        _GATE,
    ),
    StandingRow(
        "C9",
        "an order that would meet one of ours",
        Level.INSTRUMENT,
        Action.REFUSE,
        _GATE,
    ),
    StandingRow(
        "C26",
        "code or configuration of ops and trader differ: a reset is refused",
        Level.FIRM,
        Action.REFUSE,
        "ops/reset_terms",
        "audit log",
    ),
    StandingRow(
        "C29",
        "a person's setting out of its bounds, without its unit, or of an unknown scope",
        Level.FIRM,
        Action.REFUSE,
        "domain/knobs",
    ),
    StandingRow(
        "C31",
        "the worst stress loss of everything outstanding beyond its limit",
        Level.UNDERLYING,
        Action.REFUSE,
        _GATE,
    ),
    StandingRow(
        "C32",
        "short contracts of a wing strike beyond their limit",
        Level.INSTRUMENT,
        Action.REFUSE,
        _GATE,
    ),
    StandingRow(
        "C33",
        "gamma of options within a day of their expiry beyond its limit",
        Level.UNDERLYING,
        Action.REFUSE,
        _GATE,
    ),
)
