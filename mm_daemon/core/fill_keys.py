"""What a trade of ours is known by, however often and by whatever way it is told."""

from __future__ import annotations

from mm_daemon.domain.events import FillUnplaced
from mm_daemon.domain.instruments import Instrument
from mm_daemon.domain.orders import FillEvidence

FillKey = tuple[str, str, str, str]
"""(settlement currency, trade id, order id, leg). Venue and account are the books' own."""


def key_of(instrument: Instrument, fill: FillEvidence) -> FillKey:
    """The key under which a trade is booked once."""
    return instrument.settle_currency, fill.trade_id, fill.order_id, fill.leg


def is_same(one: FillEvidence | FillUnplaced, other: FillEvidence | FillUnplaced) -> bool:
    """Whether two tellings are of one trade, as far as can be said without its instrument."""
    return (one.trade_id, one.order_id, one.leg) == (other.trade_id, other.order_id, other.leg)
