"""The maker's account as the venue shows it, beside what the daemon believes of it."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from tests.wire.harness import Daemon, Venue

Resting = dict[tuple[str, str], tuple[float, float]]
"""(instrument, side) to (price, amount that rests) of quotes."""


def quotes_at_venue(orders: list[dict[str, Any]]) -> Resting:
    """Our quotes by instrument and side; an instrument has one on each side at most."""
    found: Resting = {}
    for order in orders:
        if not order.get("quote"):
            continue
        key = (order["instrument_name"], order["direction"])
        assert key not in found, f"two quotes on {key}"
        found[key] = (order["price"], round(order["amount"] - order["filled_amount"], 8))
    return found


def quotes_believed(daemon: Daemon) -> Resting:
    """The same from the daemon's own view."""
    view = daemon.get("/v1/quotes")
    found: Resting = {}
    for row, name in enumerate(view["instrument"]):
        for side, price, amount in (("buy", "bid", "bid_amount"), ("sell", "ask", "ask_amount")):
            if view[amount][row]:
                found[(name, side)] = (round(view[price][row], 8), round(view[amount][row], 8))
    return found


def orders_believed(daemon: Daemon) -> set[str]:
    """Venue ids of the single orders the daemon believes to be open."""
    return {row["order_id"] for row in daemon.get("/v1/orders")["orders"]}


class Compared:
    """Looks at the orders of venue and daemon until none is left that differed in every look.

    Quotes move between two readings, so that one look finds some that differ whenever the desk is
    busy; an order nobody owns, or one believed to rest that does not, differs each time.
    """

    def __init__(self, venue: Venue, daemon: Daemon) -> None:
        self._venue = venue
        self._daemon = daemon
        self._differing: dict[object, str] | None = None

    def is_accounted_for(self) -> bool:
        """One more look."""
        quotes, singles = quotes_believed(self._daemon), orders_believed(self._daemon)
        orders = self._venue.open_orders()
        at_venue = quotes_at_venue(orders)
        found: dict[object, str] = {
            key: f"{key}: {at_venue.get(key)} at the venue, {quotes.get(key)} here"
            for key in at_venue.keys() | quotes.keys()
            if at_venue.get(key) != quotes.get(key)
        }
        open_singles = {order["order_id"] for order in orders if not order.get("quote")}
        found.update((one, f"order {one} is unknown here") for one in open_singles - singles)
        found.update((one, f"order {one} is not at the venue") for one in singles - open_singles)
        before = self._differing
        kept = found if before is None else {k: found[k] for k in found if k in before}
        self._differing = kept
        return not kept

    def differing(self) -> list[str]:
        """What differed in every look so far."""
        return sorted((self._differing or {}).values())


def crossed_with_itself(orders: list[dict[str, Any]]) -> list[str]:
    """Instruments in which our best bid reaches our best ask."""
    bids: dict[str, float] = defaultdict(float)
    asks: dict[str, float] = defaultdict(lambda: float("inf"))
    for order in orders:
        name, price = order["instrument_name"], order["price"]
        if order["direction"] == "buy":
            bids[name] = max(bids[name], price)
        else:
            asks[name] = min(asks[name], price)
    return [name for name, bid in bids.items() if bid >= asks[name]]


def two_sided(orders: list[dict[str, Any]]) -> int:
    """Options with a quote of ours on both sides."""
    sides: dict[str, set[str]] = defaultdict(set)
    for order in orders:
        if order.get("quote"):
            sides[order["instrument_name"]].add(order["direction"])
    return sum(len(one) == 2 for one in sides.values())
