"""Expiry: what we hold ends at the venue's delivery price, by our own arithmetic.

Once an instrument's time is over (by its own terms, or by the venue's word) its position waits for
the delivery price, which is asked for until the venue states it. All instruments of one expiry and
underlying are delivered at one price, so one question serves them all. The reconcile that follows
shows whether cash agrees.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mm_daemon.core.pnl_desk import PnlDesk
from mm_daemon.core.state import EngineState
from mm_daemon.core.throttle import Pool
from mm_daemon.domain.events import DeliveryRead
from mm_daemon.domain.intents import ReadDelivery
from mm_daemon.domain.units import COIN_SCALE, NS_PER_S, Ns

LOOK_NS = NS_PER_S
ASK_AGAIN_NS = 2 * NS_PER_S


class SettlementDesk:
    """Delivers ended positions."""

    def __init__(
        self, state: EngineState, pnl: PnlDesk, on_delivered: Callable[[Ns], None]
    ) -> None:
        self._s = state
        self._pnl = pnl
        self._on_delivered = on_delivered
        self._look_ns = 0
        self._asked_ns: dict[str, int] = {}
        """By underlying and expiry: when the price was last asked for."""

    def poll(self, now_ns: Ns) -> None:
        """Asks for the delivery price of whatever has ended and is still held."""
        s = self._s
        if now_ns < self._look_ns or not s.portfolio.is_open:
            return
        self._look_ns = now_ns + LOOK_NS
        for key, instrument_id in self._ended(now_ns).items():
            is_due = now_ns - self._asked_ns.get(key, 0) >= ASK_AGAIN_NS
            if not is_due or s.throttle.available(Pool.QUERIES, now_ns) < 1:
                continue
            self._asked_ns[key] = now_ns
            intent = ReadDelivery(request_id=s.outbox.take_id(), instrument_id=instrument_id)
            s.throttle.try_spend(intent, now_ns)
            s.outbox.send(intent)

    def on_delivery(self, read: DeliveryRead, now_ns: Ns) -> None:
        """Delivers everything of that expiry; nothing while the venue has no price yet."""
        if read.price_e8 <= 0:
            return
        s = self._s
        ended = s.catalog.instruments[read.instrument_id]
        for instrument in s.catalog.instruments:
            is_same = instrument.underlying == ended.underlying
            if is_same and instrument.expiry_ns == ended.expiry_ns:
                self._deliver(instrument.id, read.price_e8)
        self._asked_ns.pop(_key(ended.underlying, ended.expiry_ns), None)
        s.risk.refresh_all(s.portfolio.position_lots, s.working)
        self._on_delivered(now_ns)

    def digest_words(self) -> tuple[object, ...]:
        return (self._look_ns, self._asked_ns)

    def _ended(self, now_ns: Ns) -> dict[str, int]:
        """One held instrument of every expiry that is over, by underlying and expiry."""
        catalog = self._s.catalog
        over = (catalog.expiry_ns > 0) & (catalog.expiry_ns <= now_ns)
        found: dict[str, int] = {}
        for instrument_id in np.flatnonzero(over).tolist():
            if self._s.portfolio.is_carried(instrument_id):
                instrument = catalog.instruments[instrument_id]
                found.setdefault(_key(instrument.underlying, instrument.expiry_ns), instrument_id)
        return found

    def _deliver(self, instrument_id: int, price_e8: int) -> None:
        s = self._s
        lots = int(s.portfolio.position_lots[instrument_id])
        paid_e8 = s.portfolio.deliver(instrument_id, price_e8)
        if lots == 0 and paid_e8 == 0:
            return
        instrument = s.catalog.instruments[instrument_id]
        self._pnl.on_delivery(instrument_id, lots, paid_e8)
        s.outbox.log(
            "info",
            "delivered",
            instrument=instrument.name,
            amount=instrument.amount(lots),
            price=price_e8 / COIN_SCALE,
            paid_coin=paid_e8 / COIN_SCALE,
        )


def _key(underlying: str, expiry_ns: int) -> str:
    return f"{underlying} {expiry_ns}"
