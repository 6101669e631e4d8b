"""Who hears what, private side: orders, fills, changes, portfolio, protection, access.

One stream per account and channel, shared by that account's connections.  Raw user.orders carries
one order object a message, aggregated forms carry arrays; user.changes says orders, trades and
positions of one instrument together.

A portfolio message waits `PORTFOLIO_LAG_US`, one round of the public beat, so that the marks it
is valued at are published to every subscriber before it.
"""

from collections import deque
from typing import Final

import msgspec
import orjson

from mm_daemon.sim.deribit_wire_channels import Channel, Family
from mm_daemon.sim.deribit_wire_encode import order_row, position_row, user_trade_row
from mm_daemon.sim.deribit_wire_hub import AGG2_STEPS, PHASES, matches_kind
from mm_daemon.sim.deribit_wire_quotes import TickerDesk
from mm_daemon.sim.deribit_wire_session import Session
from mm_daemon.sim.deribit_wire_streams import Gathering, Stream
from mm_daemon.sim.deribit_wire_summary import mmp_status_row, summary_row
from mm_daemon.sim.exchange_api import ClientApi
from mm_daemon.sim.exchange_events import MmpTriggered, PortfolioChanged, UserChanged
from mm_daemon.sim.exchange_records import AccountSummary, MmpStatus
from mm_daemon.sim.exchange_types import Caller

Json = dict[str, object]
PORTFOLIO_LAG_US: Final = 120_000
PORTFOLIOS_WAITING_MAX: Final = 10_000


class _Waiting(msgspec.Struct, frozen=True):
    due_us: int
    summary: AccountSummary


class AccountHub:
    """Private channels of every account."""

    def __init__(self, clients: ClientApi, tickers: TickerDesk) -> None:
        self._clients = clients
        self._tickers = tickers
        self._streams: dict[str, dict[str, Stream]] = {}
        self._dirty: dict[Gathering, None] = {}
        self._dirty_agg2: dict[Gathering, None] = {}
        self._portfolios: deque[_Waiting] = deque()
        self._step = 0

    def create(self, channel: Channel, account: str) -> Stream:
        """The account's stream of one channel."""
        slow = channel.interval != "raw"
        stream = Gathering(channel, account) if slow else Stream(channel, account)
        self._streams.setdefault(account, {})[channel.name] = stream
        return stream

    def remove(self, stream: Stream) -> None:
        """Forget a stream nobody listens to."""
        assert stream.account is not None
        held = self._streams.get(stream.account, {})
        held.pop(stream.channel.name, None)
        if isinstance(stream, Gathering):
            self._dirty.pop(stream, None)
            self._dirty_agg2.pop(stream, None)

    def greet(self, stream: Stream, session: Session, now_us: int) -> None:
        """A portfolio subscription starts with the account as it stands."""
        if stream.channel.family is not Family.USER_PORTFOLIO:
            return
        assert stream.account is not None
        caller = Caller(account=stream.account, connection=session.connection)
        for currency in self._clients.currencies(stream.account):
            if stream.channel.currency in ("any", currency):
                summary = self._clients.account_summary(caller, currency, now_us)
                stream.greet(session, orjson.dumps(summary_row(summary, extended=False)))

    def user_changed(self, event: UserChanged) -> None:
        """Orders, fills and positions of one account in one instrument."""
        streams = self._streams.get(event.account)
        if not streams:
            return
        spec = self._tickers.spec(event.instrument)
        rows = _ChangeRows(event)
        for stream in streams.values():
            channel = stream.channel
            if channel.instrument is not None:
                if channel.instrument != event.instrument:
                    continue
            elif not matches_kind(channel, spec.kind.value, spec.currency):
                continue
            if channel.family not in rows.families:
                continue
            if isinstance(stream, Gathering):
                stream.gather(rows.gathered(channel.family))
                dirty = self._dirty if channel.interval == "100ms" else self._dirty_agg2
                dirty[stream] = None
                continue
            for content in rows.raw(channel.family):
                stream.send(content)

    def mmp_triggered(self, event: MmpTriggered) -> None:
        """user.mmp_trigger.{index}."""
        status = MmpStatus(
            index_name=event.index_name,
            mmp_group=event.mmp_group,
            frozen_until_ms=event.frozen_until_ms,
        )
        content = orjson.dumps(mmp_status_row(status))
        for stream in self._of(event.account, Family.USER_MMP_TRIGGER):
            if stream.channel.index in ("any", event.index_name):
                stream.send(content)

    def portfolio_changed(self, event: PortfolioChanged) -> None:
        """Queue one portfolio message; it follows the marks it was valued at."""
        if len(self._portfolios) >= PORTFOLIOS_WAITING_MAX:
            self._portfolios.popleft()
        due_us = event.summary.ts_us + PORTFOLIO_LAG_US
        self._portfolios.append(_Waiting(due_us=due_us, summary=event.summary))

    def logged_in(self, session: Session, now_us: int) -> None:
        """user.access_log: one more authentication of this account."""
        grant = session.grant
        assert grant is not None
        content = orjson.dumps(
            {
                "id": session.connection,
                "timestamp": now_us // 1_000,
                "log": "success",
                "ip": session.peer,
                "country": None,
                "city": None,
                "username": grant.account,
            }
        )
        for stream in self._of(grant.account, Family.USER_ACCESS_LOG):
            stream.send(content)

    def _of(self, account: str, family: Family) -> list[Stream]:
        held = self._streams.get(account, {})
        return [stream for stream in held.values() if stream.channel.family is family]

    def step(self, now_us: int) -> None:
        """One beat of 10 ms."""
        self._step += 1
        while self._portfolios and self._portfolios[0].due_us <= now_us:
            self._send_portfolio(self._portfolios.popleft().summary)
        if self._step % PHASES == 0 and self._dirty:
            self._dirty = _flush(self._dirty)
        if self._step % AGG2_STEPS == 0 and self._dirty_agg2:
            self._dirty_agg2 = _flush(self._dirty_agg2)

    def _send_portfolio(self, summary: AccountSummary) -> None:
        streams = self._of(summary.account, Family.USER_PORTFOLIO)
        if not streams:
            return
        content = orjson.dumps(summary_row(summary, extended=False))
        for stream in streams:
            if stream.channel.currency in ("any", summary.currency):
                stream.send(content)


def _flush(dirty: dict[Gathering, None]) -> dict[Gathering, None]:
    for stream in dirty:
        family = stream.channel.family
        merge = _MERGES.get(family)
        if merge is not None:
            for content in stream.take(merge):
                stream.send(content)
    return {}


class _ChangeRows:
    """The rows of one event, rendered when the first stream asks for them."""

    def __init__(self, event: UserChanged) -> None:
        self._event = event
        self._orders: list[Json] | None = None
        self._trades: list[Json] | None = None
        self._raw: dict[Family, list[bytes]] = {}
        self.families = [Family.USER_CHANGES]
        if event.orders:
            self.families.append(Family.USER_ORDERS)
        if event.trades:
            self.families.append(Family.USER_TRADES)

    def _order_rows(self) -> list[Json]:
        if self._orders is None:
            self._orders = [order_row(order) for order in self._event.orders]
        return self._orders

    def _trade_rows(self) -> list[Json]:
        if self._trades is None:
            self._trades = [user_trade_row(trade) for trade in self._event.trades]
        return self._trades

    def _change_row(self) -> Json:
        return {
            "instrument_name": self._event.instrument,
            "orders": self._order_rows(),
            "trades": self._trade_rows(),
            "positions": [position_row(view) for view in self._event.positions],
        }

    def gathered(self, family: Family) -> list[Json]:
        """What an aggregated stream keeps of this event."""
        if family is Family.USER_ORDERS:
            return self._order_rows()
        if family is Family.USER_TRADES:
            return self._trade_rows()
        return [self._change_row()]

    def raw(self, family: Family) -> list[bytes]:
        """The messages of a raw stream."""
        held = self._raw.get(family)
        if held is None:
            if family is Family.USER_ORDERS:
                held = [orjson.dumps(row) for row in self._order_rows()]
            elif family is Family.USER_TRADES:
                held = [orjson.dumps(self._trade_rows())]
            else:
                held = [orjson.dumps(self._change_row())]
            self._raw[family] = held
        return held


def _last_by_order(rows: list[Json]) -> list[Json]:
    latest: dict[object, Json] = {}
    for row in rows:
        latest.pop(row["order_id"], None)
        latest[row["order_id"]] = row
    return list(latest.values())


def _merge_orders(rows: list[Json]) -> list[bytes]:
    return [orjson.dumps(_last_by_order(rows))]


def _merge_trades(rows: list[Json]) -> list[bytes]:
    return [orjson.dumps(rows)]


def _merge_changes(rows: list[Json]) -> list[bytes]:
    """One message per instrument: all trades, the last state of each order and of the position."""
    merged: dict[object, Json] = {}
    for row in rows:
        held = merged.get(row["instrument_name"])
        if held is None:
            merged[row["instrument_name"]] = dict(row)
            continue
        held["orders"] = _last_by_order([*_rows(held, "orders"), *_rows(row, "orders")])
        held["trades"] = [*_rows(held, "trades"), *_rows(row, "trades")]
        held["positions"] = _rows(row, "positions") or _rows(held, "positions")
    return [orjson.dumps(row) for row in merged.values()]


def _rows(row: Json, name: str) -> list[Json]:
    held = row[name]
    assert isinstance(held, list)
    return held


_MERGES: Final = {
    Family.USER_ORDERS: _merge_orders,
    Family.USER_TRADES: _merge_trades,
    Family.USER_CHANGES: _merge_changes,
}
