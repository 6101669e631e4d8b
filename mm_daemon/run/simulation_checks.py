"""What must hold at the end of every simulated run, whatever happened on the way.

The venue's own ledgers are the truth. A violation is a sentence with the numbers; an empty list is
the only good end.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import msgspec

from mm_daemon.domain.codec import decode_ledger
from mm_daemon.domain.outputs import FillRecord
from mm_daemon.run.simulate import Simulation
from mm_daemon.sim.exchange_types import Caller

TRADES_MAX: Final = 100_000


class _Labelled(msgspec.Struct):
    label: str = ""


class _Request(msgspec.Struct):
    method: str
    params: _Labelled = msgspec.field(default_factory=_Labelled)


_requests = msgspec.json.Decoder(_Request)
PLACING: Final = ("private/buy", "private/sell")


def violations(sim: Simulation) -> list[str]:
    """Everything that is wrong with a run that was drained and is over."""
    found = [f"a life ended by our own defect: {error!r}" for error in sim.defects()]
    found += end_violations(sim)
    found += book_violations(sim)
    found += duplicate_labels(sim)
    found += fill_violations(sim)
    return found


def end_violations(sim: Simulation) -> list[str]:
    """A drained daemon says truly whether the venue is empty."""
    found = []
    result = sim.trader.result
    left = sim.open_orders()
    if result is None:
        found.append("the drain did not end")
    elif not result.is_confirmed:
        found.append(f"drained without confirmation, {result.open_orders} open orders known")
    if left:
        found.append(f"{left} orders rest at the venue after the end")
    return found


def book_violations(sim: Simulation) -> list[str]:
    """Cash and positions equal the venue's, to the unit."""
    ours, theirs = sim.our_books(), sim.venue_books()
    found = []
    for currency, cash_e8 in theirs.cash_e8.items():
        if ours.cash_e8.get(currency) != cash_e8:
            found.append(
                f"cash of {currency}: ours {ours.cash_e8.get(currency)}, the venue's {cash_e8}"
            )
    names = dict.fromkeys([*ours.positions_e8, *theirs.positions_e8])
    for name in names:
        mine, true = ours.positions_e8.get(name, 0), theirs.positions_e8.get(name, 0)
        if mine != true:
            found.append(f"position in {name}: ours {mine}, the venue's {true}")
    return found


def duplicate_labels(sim: Simulation) -> list[str]:
    """No client id is used for two orders, over all lives."""
    labels: Counter[str] = Counter()
    for received in sim.venue.venue.received:
        if received.method in PLACING and received.account == sim.parts.account:
            labels[_requests.decode(received.frame).params.label] += 1
    return [
        f"client id {label!r} was used for {count} orders"
        for label, count in labels.items()
        if count > 1 or not label
    ]


def venue_trades(sim: Simulation) -> Counter[str]:
    """How often each trade of the account is in the venue's record: always once."""
    caller = Caller(account=sim.parts.account, connection=0)
    trades: Counter[str] = Counter()
    for currency in sim.parts.currencies:
        page = sim.exchange.user_trades(caller, currency=currency, count=TRADES_MAX)
        trades.update(f"{trade.trade_id}/{trade.order_id}" for trade in page.trades)
    return trades


def ledger_trades(sim: Simulation) -> Counter[str]:
    """How often each trade was applied, by the ledgers of all lives."""
    trades: Counter[str] = Counter()
    for records in sim.journals.ledgers():
        for raw in records:
            record = decode_ledger(raw.payload)
            if isinstance(record, FillRecord):
                trades[f"{record.fill.trade_id}/{record.fill.order_id}"] += 1
    return trades


def fill_violations(sim: Simulation) -> list[str]:
    """Each trade of the venue was applied exactly once."""
    theirs, ours = venue_trades(sim), ledger_trades(sim)
    return [
        f"trade {trade}: {theirs[trade]} at the venue, applied {ours[trade]} times"
        for trade in dict.fromkeys([*theirs, *ours])
        if theirs[trade] != ours[trade]
    ]
