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
    """No client id is used for two orders, over all lives. One frame doubled by the network is
    one order of ours."""
    frames: dict[str, dict[bytes, None]] = {}
    for received in sim.venue.venue.received:
        if received.method in PLACING and received.account == sim.parts.account:
            label = _requests.decode(received.frame).params.label
            frames.setdefault(label, {})[received.frame] = None
    return [
        f"client id {label!r} was used for {len(different)} orders"
        for label, different in frames.items()
        if len(different) > 1 or not label
    ]


def venue_trades(sim: Simulation) -> dict[str, int]:
    """The account's trades in the venue's record, with their time in ns."""
    caller = Caller(account=sim.parts.account, connection=0)
    trades: dict[str, int] = {}
    for currency in sim.parts.currencies:
        page = sim.exchange.user_trades(caller, currency=currency, count=TRADES_MAX)
        for trade in page.trades:
            trades[f"{trade.trade_id}/{trade.order_id}"] = trade.ts_us * 1_000
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
    """Each trade of the venue was applied exactly once.

    A life that found no checkpoint adopts the venue's position as it is: what was traded before it
    is in its opening books and is applied by nobody.
    """
    theirs, ours = venue_trades(sim), ledger_trades(sim)
    found = [f"trade {trade} is not at the venue, but applied" for trade in ours.keys() - theirs]
    for trade, at_ns in theirs.items():
        is_adopted = ours[trade] == 0 and at_ns <= sim.adopted_at_ns
        if ours[trade] != 1 and not is_adopted:
            found.append(f"trade {trade} was applied {ours[trade]} times")
    return sorted(found)
