"""The venue's own record beside the daemon's: trades against fills, ids ever used, what rests.

Everything is read as it grows, so that asking after every one of a thousand crashes stays cheap.
Nothing here forgives: what differs is a sentence in a list of violations.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from mm_daemon.domain.codec import decode_ledger
from mm_daemon.domain.outputs import FillRecord
from mm_daemon.ipc import ledger
from tests.wire import account
from tests.wire.harness import Daemon, Venue, is_risk, wait_for

PRICE_SCALE = 100_000_000
TRADES_PAGE = 1_000
ACCOUNT = "demo-maker"
AGREE_S = 15.0
POLL_S = 0.3
"""We ask as the daemon's own account does, and share its rate limit."""
"""Patience for venue and daemon to agree: fills arrive while both are being read."""

Fill = tuple[str, int, int, int]
"""Instrument, sign of the side, price (1e-8), lots."""
TradeId = tuple[str, str]
"""Trade and order."""


class Books:
    """Every trade of the maker's account at the venue, and every fill on the daemon's ledgers."""

    def __init__(self, venue: Venue, daemon: Daemon, currency: str = "BTC") -> None:
        self._venue = venue
        self._daemon = daemon
        self._currency = currency
        self._lots: dict[str, float] = {}
        self._trades: dict[TradeId, Fill] = {}
        self._newest_ms = 0
        self._finished: dict[Path, Counter[tuple[TradeId, Fill]]] = {}

    def trades(self) -> dict[TradeId, Fill]:
        """All of them, with what came since the last call."""
        while True:
            page = self._rest(
                "private/get_user_trades_by_currency_and_time",
                currency=self._currency,
                start_timestamp=self._newest_ms,
                end_timestamp=4_000_000_000_000,
                count=TRADES_PAGE,
                sorting="asc",
            )
            before = len(self._trades)
            for row in page["trades"]:
                self._trades[(row["trade_id"], row["order_id"])] = self._fill(row)
                self._newest_ms = row["timestamp"]
            if not page["has_more"] or len(self._trades) == before:
                return self._trades

    def fills(self) -> Counter[tuple[TradeId, Fill]]:
        """What the ledgers of all lives hold, with how often."""
        *ended, last = self._daemon.sessions()
        for session in ended:
            if session not in self._finished:
                self._finished[session] = _fills_of(session, is_live=False)
        total = _fills_of(last, is_live=True)
        for one in self._finished.values():
            total.update(one)
        return total

    def differences(self) -> list[str]:
        """What is lost, doubled, invented or changed; empty where every trade was booked once."""
        fills = self.fills()
        trades = self.trades()
        booked = dict(fills.keys())
        found = [f"booked {n} times: {key}" for (key, _), n in fills.items() if n > 1]
        found += [f"lost: {key} {trades[key]}" for key in trades.keys() - booked.keys()]
        found += [f"invented: {key} {booked[key]}" for key in booked.keys() - trades.keys()]
        found += [
            f"changed: {key} {trades[key]} at the venue, {booked[key]} here"
            for key in trades.keys() & booked.keys()
            if trades[key] != booked[key]
        ]
        return found

    def positions_differ(self) -> list[str]:
        rows = self._daemon.get("/v1/positions")["positions"]
        ours = {row["instrument"]: row["amount"] for row in rows}
        held = self._rest("private/get_positions", currency=self._currency)
        theirs = {row["instrument_name"]: row["size"] for row in held if row["size"]}
        return [
            f"position of {name}: {theirs.get(name, 0.0)} at the venue, {ours.get(name, 0.0)} here"
            for name in sorted(ours.keys() | theirs.keys())
            if abs(ours.get(name, 0.0) - theirs.get(name, 0.0)) > 1e-9
        ]

    def disagreement(self) -> list[str]:
        """What still differs after patience: of fills, positions, and orders that rest."""
        last: list[str] = []
        orders = account.Compared(self._venue, self._daemon)

        def agree() -> bool:
            is_equal = orders.is_accounted_for()
            last[:] = [*self.differences(), *self.positions_differ(), *orders.differing()]
            return is_equal and not last

        try:
            wait_for("venue and daemon to agree", agree, AGREE_S, POLL_S)
        except AssertionError as error:
            return last or [str(error)]
        return []

    def _rest(self, method: str, **params: object) -> Any:
        """Asks again where the account has used up its rate limit."""
        ask = partial(self._venue.rest, method, "demo-guard", **params)
        return wait_for(method, lambda: [ask()], AGREE_S, POLL_S)[0]

    def _read_lots(self) -> None:
        for one in self._venue.rest("public/get_instruments", currency=self._currency):
            self._lots[one["instrument_name"]] = float(one["min_trade_amount"])

    def _fill(self, row: dict[str, Any]) -> Fill:
        name = row["instrument_name"]
        if name not in self._lots:
            self._read_lots()  # the venue lists new ones as prices and days go by
        lots = round(row["amount"] / self._lots[name])
        sign = 1 if row["direction"] == "buy" else -1
        return name, sign, round(row["price"] * PRICE_SCALE), lots


def _fills_of(session: Path, *, is_live: bool) -> Counter[tuple[TradeId, Fill]]:
    found: Counter[tuple[TradeId, Fill]] = Counter()
    reader = ledger.read_ledger(session, is_live=is_live)
    for raw in reader:
        record = decode_ledger(raw.payload)
        if isinstance(record, FillRecord):
            fill = record.fill
            what = (record.instrument, int(fill.side), fill.price_e8, int(fill.lots))
            found[((fill.trade_id, fill.order_id), what)] += 1
    reader.close()
    return found


class Witness:
    """Order-entry frames of our account as the venue read them, each looked at once."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self._after_us = 0
        self._quote_ids: dict[str, int] = {}
        self._labels: dict[str, int] = {}
        self.connections: set[int] = set()
        """Those that ever sent what adds risk."""
        self.violations: list[str] = []

    def read(self) -> list[dict[str, Any]]:
        """Frames that came since the last call."""
        frames = self._venue.received(self._after_us)
        if frames:
            self._after_us = frames[-1]["ts_us"]
        ours = [frame for frame in frames if frame["account"] == ACCOUNT]
        for frame in ours:
            if is_risk(frame):
                self._note(frame)
        return ours

    def _note(self, frame: dict[str, Any]) -> None:
        """An id belongs to one connection; an order's to one frame."""
        connection = frame["connection"]
        self.connections.add(connection)
        params = json.loads(frame["frame"])["params"]
        quote_id = params.get("quote_id")
        if quote_id is not None and self._quote_ids.setdefault(quote_id, connection) != connection:
            self.violations.append(f"quote id {quote_id} was used by two lives")
        label = params.get("label", "")
        if frame["method"] in ("private/buy", "private/sell"):
            if not label or label in self._labels:
                self.violations.append(f"client id {label!r} was used twice or is missing")
            self._labels[label] = connection


def is_two_sided(frame: dict[str, Any]) -> bool:
    """Whether a received frame quotes an option on both sides."""
    if frame["method"] != "private/mass_quote":
        return False
    quotes = json.loads(frame["frame"])["params"]["quotes"]
    return any(
        one.get("bid", {}).get("amount", 1.0) and one.get("ask", {}).get("amount", 1.0)
        for one in quotes
        if "bid" in one and "ask" in one
    )
