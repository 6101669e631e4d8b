"""The protocol against the simulated venue, which was written apart from it: two machines that
share no codec, joined by an in-memory pipe.
"""

from __future__ import annotations

import orjson
import pytest

from mm_daemon.domain.events import (
    AccountConfirmed,
    AccountsRead,
    BookChanged,
    BookLost,
    CreditLimits,
    Event,
    FrameRefused,
    InstrumentsRead,
    InstrumentStateChanged,
    MmpTriggered,
    OpenOrdersRead,
    OrderRead,
    PositionsRead,
    QuoteSideFailed,
    RequestDone,
    SessionChanged,
    SessionPhase,
    TickerSeen,
    TradesRead,
)
from mm_daemon.domain.frames import Conn
from mm_daemon.domain.instruments import Lifecycle
from mm_daemon.domain.intents import (
    AmendOrder,
    CancelAll,
    CancelOrder,
    CancelQuotes,
    Intent,
    MassQuote,
    PlaceOrder,
    QuoteEntry,
    ReadAccounts,
    ReadInstruments,
    ReadOpenOrders,
    ReadOrder,
    ReadPositions,
    ReadTrades,
    ResetMmp,
    Resync,
)
from mm_daemon.domain.orders import (
    AccountEvidence,
    FillEvidence,
    OrderEvidence,
    PositionEvidence,
    Purpose,
    RejectReason,
    TimeInForce,
    VenueStatus,
)
from mm_daemon.domain.units import NS_PER_S, Lots, Ns, Side, Ticks
from mm_daemon.sim.deribit_wire_auth import TEST_SECRET
from mm_daemon.sim.spec import InstrumentState
from mm_daemon.venues.deribit.methods import classify
from mm_daemon.venues.deribit.protocol import DeribitProtocol
from mm_daemon.venues.deribit.secrets import fill, redact
from mm_daemon.venues.deribit.settings import DeribitSettings, MmpGroup, Underlying
from tests.sim.wire_rig import CALL, FUTURE, PERP, PUT, Client, Rig

SETTINGS = DeribitSettings(
    client_id="demo-maker",
    session_prefix="t1",
    session_name="mm",
    underlyings=(Underlying("BTC", "btc_usd", "BTC"),),
    mmp_groups=(
        MmpGroup(
            name="btc-main",
            price_index="btc_usd",
            interval_s=5,
            frozen_time_s=0,
            max_quote_quantity=50.0,
            quantity_limit=40.0,
            delta_limit=20.0,
            vega_limit=50_000.0,
        ),
    ),
)
HOUR_S = 3_600


class Pipe:
    """The protocol and the venue on one clock, every byte carried both ways."""

    def __init__(self, settings: DeribitSettings = SETTINGS) -> None:
        self.rig = Rig()
        self.protocol = DeribitProtocol(settings)
        self.clients: dict[Conn, Client] = {}
        self.vaults: dict[Conn, dict[str, str]] = {conn: {} for conn in Conn}
        self.events: list[Event] = []
        self.request_id = 0
        self.loses = b""
        """Messages that hold this do not arrive; empty loses none."""

    @property
    def now_ns(self) -> Ns:
        return Ns(self.rig.now_us * 1_000)

    def connect(self, *conns: Conn) -> None:
        for conn in conns:
            self.clients[conn] = self.rig.client()
            self.events += self.protocol.on_connection(conn, True, self.now_ns)
        self.carry()

    def carry(self) -> None:
        """Bytes to and fro until both are silent."""
        for _ in range(200):
            frames = self.protocol.take_frames()
            for frame in frames:
                assert classify(frame.payload) is frame.kind
                payload = fill(frame.payload, TEST_SECRET, self.vaults[frame.conn])
                self.clients[frame.conn].raw(payload)
            heard = 0
            for conn, client in self.clients.items():
                for message in client.session.take_outbox():
                    heard += 1
                    if self.loses and self.loses in message:
                        continue
                    payload, secrets = redact(message)
                    self.vaults[conn].update(secrets)
                    self.events += self.protocol.on_frame(conn, payload, self.now_ns)
            if not frames and not heard:
                return
        raise AssertionError("the talk does not end")

    def move(self, seconds: float) -> list[Event]:
        """Time passes for both, ten milliseconds at a time."""
        first = len(self.events)
        for _ in range(round(seconds * 100)):
            self.rig.move(10)
            deadline_ns = self.protocol.next_deadline_ns()
            if deadline_ns is not None and deadline_ns <= self.now_ns:
                self.events += self.protocol.on_timer(self.now_ns)
            self.carry()
        return self.events[first:]

    def do(self, intent: Intent, seconds: float = 0.3) -> list[Event]:
        """One intent, and everything heard in the time after it."""
        first = len(self.events)
        self.protocol.send(intent, self.now_ns, 1)
        self.carry()
        self.move(seconds)
        return self.events[first:]

    def next_id(self) -> int:
        self.request_id += 1
        return self.request_id

    def ready(self) -> Pipe:
        self.connect(*Conn)
        self.move(1.0)
        return self

    def id_of(self, name: str) -> int:
        return self.protocol.catalogue.ids[name]

    def done(self, events: list[Event]) -> RequestDone:
        (done,) = [event for event in events if isinstance(event, RequestDone)]
        return done

    def place(
        self, name: str, side: Side, price: float | None, amount: float, **flags: object
    ) -> PlaceOrder:
        terms = self.protocol.catalogue[self.id_of(name)]
        defaults: dict[str, object] = {
            "time_in_force": TimeInForce.GTC,
            "post_only": False,
            "reduce_only": False,
            "mmp": False,
            "purpose": Purpose.HEDGE,
        }
        number = self.next_id()
        return PlaceOrder(
            request_id=number,
            client_id=f"t1-{number}",
            instrument_id=terms.id,
            side=side,
            price_ticks=None if price is None else terms.grid.nearest(price),
            lots=terms.lots(amount),
            valid_until_ns=Ns(self.now_ns + NS_PER_S),
            **(defaults | flags),  # type: ignore[arg-type]
        )

    def quote(self, *entries: tuple[str, float, float, float]) -> MassQuote:
        """Entries (instrument, bid, ask, amount)."""
        made = []
        for name, bid, ask, amount in entries:
            terms = self.protocol.catalogue[self.id_of(name)]
            lots = terms.lots(amount)
            made.append(
                QuoteEntry(terms.id, terms.grid.nearest(bid), lots, terms.grid.nearest(ask), lots)
            )
        number = self.next_id()
        return MassQuote(number, "btc-main", f"q{number}", tuple(made), Ns(self.now_ns + NS_PER_S))


@pytest.fixture
def pipe() -> Pipe:
    return Pipe().ready()


def of(kind: type, events: list[Event]) -> list:  # type: ignore[type-arg]
    return [event for event in events if isinstance(event, kind)]


def test_all_three_sessions_become_ready_and_nothing_is_refused(pipe: Pipe) -> None:
    ready = [e.conn for e in of(SessionChanged, pipe.events) if e.phase is SessionPhase.READY]
    assert sorted(ready) == [0, 1, 2]
    assert of(FrameRefused, pipe.events) == []
    assert of(BookLost, pipe.events) == []
    (confirmed,) = of(AccountConfirmed, pipe.events)
    assert confirmed.cancel_on_disconnect
    assert confirmed.portfolio_margin
    assert confirmed.mmp_groups == ("btc-main",)
    (limits,) = of(CreditLimits, pipe.events)
    assert limits.orders_per_s > 0
    assert limits.mass_quotes_per_s > 0
    assert {event.instrument_id for event in of(BookChanged, pipe.events)} == {0, 1, 2, 3}
    assert {event.instrument_id for event in of(TickerSeen, pipe.events)} == {0, 1, 2, 3}
    assert 200 * 10**8 in [e.equity_e8 for e in of(AccountEvidence, pipe.events)]


def test_a_mass_quote_rests_and_is_read_back(pipe: Pipe) -> None:
    events = pipe.do(pipe.quote((CALL, 0.0340, 0.0360, 1.0), (PUT, 0.0330, 0.0370, 2.0)))
    assert pipe.done(events).reason is None
    quotes = [e for e in of(OrderEvidence, events) if e.is_quote]
    assert {(e.instrument_id, e.side) for e in quotes} == {
        (pipe.id_of(name), side) for name in (CALL, PUT) for side in Side
    }
    assert all(e.mmp_group == "btc-main" for e in quotes)
    (read,) = of(OpenOrdersRead, pipe.do(ReadOpenOrders(pipe.next_id())))
    assert {(e.price_ticks, e.amount_lots) for e in read.orders} == {
        (340, 10),
        (360, 10),
        (330, 20),
        (370, 20),
    }
    assert all(e.is_quote and e.status is VenueStatus.OPEN for e in read.orders)


def test_an_illegal_quote_fails_alone(pipe: Pipe) -> None:
    intent = pipe.quote((CALL, 0.0340, 0.0360, 1.0))
    entry = intent.entries[0]
    wrong = QuoteEntry(
        entry.instrument_id, Ticks(341), entry.bid_lots, entry.ask_ticks, entry.ask_lots
    )
    events = pipe.do(MassQuote(7, "btc-main", "q7", (wrong,), intent.valid_until_ns))
    assert pipe.done(events).reason is None
    failed = of(QuoteSideFailed, events)
    assert (failed[0].side, failed[0].reason) == (Side.BUY, RejectReason.PRICE)


def test_quotes_are_hit_and_the_fill_is_told_by_stream(pipe: Pipe) -> None:
    pipe.do(pipe.quote((CALL, 0.0340, 0.0360, 1.0)))
    taker = pipe.rig.named("demo-taker")
    first = len(pipe.events)
    taker.ask("private/buy", instrument_name=CALL, amount=0.4, type="market", post_only=False)
    pipe.move(0.3)
    events = pipe.events[first:]
    (fill_seen,) = of(FillEvidence, events)
    assert (fill_seen.side, fill_seen.lots, fill_seen.price_e8) == (Side.SELL, 4, 3_600_000)
    assert fill_seen.is_maker
    assert fill_seen.is_quote
    assert fill_seen.fee_e8 == 12_000
    assert fill_seen.fee_currency == "BTC"
    remaining = [e for e in of(OrderEvidence, events) if e.side is Side.SELL][-1]
    assert (remaining.amount_lots, remaining.status) == (6, VenueStatus.OPEN)
    position = of(PositionEvidence, events)[-1]
    assert (position.instrument_id, position.lots) == (pipe.id_of(CALL), -4)
    (read,) = of(PositionsRead, pipe.do(ReadPositions(pipe.next_id())))
    assert [(e.instrument_id, e.lots) for e in read.positions if e.lots] == [(pipe.id_of(CALL), -4)]
    since = Ns(pipe.now_ns - HOUR_S * NS_PER_S)
    (page,) = of(TradesRead, pipe.do(ReadTrades(pipe.next_id(), "BTC", since, 100)))
    assert [(e.trade_id, e.order_id) for e in page.fills] == [
        (fill_seen.trade_id, fill_seen.order_id)
    ]
    assert page.fills[0].source == "recon"
    assert not page.has_more


def test_an_order_lives_and_dies(pipe: Pipe) -> None:
    intent = pipe.place(PERP, Side.BUY, 99_000.0, 100.0, post_only=True)
    events = pipe.do(intent)
    assert pipe.done(events).reason is None
    order = of(OrderEvidence, events)[0]
    assert (order.client_id, order.status) == (intent.client_id, VenueStatus.OPEN)
    assert (order.price_ticks, order.amount_lots) == (198_000, 10)
    (by_id,) = of(OrderRead, pipe.do(ReadOrder(50, order.order_id, "", "BTC")))
    (by_label,) = of(OrderRead, pipe.do(ReadOrder(51, "", intent.client_id, "BTC")))
    assert by_id.order is not None
    assert by_label.order is not None
    assert by_id.order.order_id == by_label.order.order_id == order.order_id
    events = pipe.do(
        AmendOrder(
            52,
            order.order_id,
            intent.client_id,
            order.instrument_id,
            Ticks(197_000),
            Lots(20),
            True,
            Ns(pipe.now_ns + NS_PER_S),
        )
    )
    assert pipe.done(events).reason is None
    assert of(OrderEvidence, events)[-1].amount_lots == 20
    events = pipe.do(CancelOrder(53, order.order_id, intent.client_id, "BTC"))
    assert pipe.done(events).reason is None
    assert of(OrderEvidence, events)[-1].status is VenueStatus.CANCELLED
    events = pipe.do(CancelOrder(54, order.order_id, intent.client_id, "BTC"))
    assert pipe.done(events).reason in (RejectReason.NOT_FOUND, RejectReason.NOT_OPEN)


def test_a_hedge_takes_and_its_reply_carries_the_fill(pipe: Pipe) -> None:
    taker = pipe.rig.named("demo-taker")
    taker.ask(
        "private/sell",
        instrument_name=PERP,
        amount=1000,
        type="limit",
        price=100_000,
        post_only=False,
    )
    events = pipe.do(pipe.place(PERP, Side.BUY, 100_100.0, 500.0, time_in_force=TimeInForce.IOC))
    assert pipe.done(events).reason is None
    fills = of(FillEvidence, events)
    assert {e.trade_id for e in fills} == {fills[0].trade_id}
    assert {e.source for e in fills} == {"reply", "stream"}
    assert (fills[0].lots, fills[0].is_maker) == (50, False)
    (accounts,) = of(AccountsRead, pipe.do(ReadAccounts(60)))
    assert "BTC" in [row.currency for row in accounts.accounts]


@pytest.mark.parametrize(
    ("name", "price", "amount", "flags", "reason"),
    [
        (CALL, 0.0351, 1.0, {}, RejectReason.PRICE),
        (PERP, 150_000.0, 100.0, {}, RejectReason.PRICE),
        (PERP, 99_000.0, 100.0, {"reduce_only": True}, None),
        (CALL, 0.0350, 10_000.0, {}, RejectReason.FUNDS),
    ],
)
def test_refusals_are_typed(
    pipe: Pipe,
    name: str,
    price: float,
    amount: float,
    flags: dict[str, object],
    reason: RejectReason | None,
) -> None:
    done = pipe.done(pipe.do(pipe.place(name, Side.BUY, price, amount, **flags)))
    if reason is None:
        assert done.reason is not None
    else:
        assert done.reason is reason, done


def test_post_only_that_would_cross_is_refused_not_moved(pipe: Pipe) -> None:
    taker = pipe.rig.named("demo-taker")
    taker.ask(
        "private/sell",
        instrument_name=PERP,
        amount=1000,
        type="limit",
        price=100_000,
        post_only=False,
    )
    done = pipe.done(pipe.do(pipe.place(PERP, Side.BUY, 100_000.0, 100.0, post_only=True)))
    assert done.reason is RejectReason.POST_ONLY


def test_an_order_that_is_too_late_is_expired(pipe: Pipe) -> None:
    intent = pipe.place(PERP, Side.BUY, 99_000.0, 100.0)
    late = PlaceOrder(
        **{f: getattr(intent, f) for f in intent.__struct_fields__ if f != "valid_until_ns"},
        valid_until_ns=Ns(pipe.now_ns - NS_PER_S),
    )
    assert pipe.done(pipe.do(late)).reason is RejectReason.EXPIRED


def open_count(pipe: Pipe) -> int:
    (read,) = of(OpenOrdersRead, pipe.do(ReadOpenOrders(pipe.next_id())))
    return len(read.orders)


def fill_the_book(pipe: Pipe) -> None:
    pipe.do(pipe.quote((CALL, 0.0340, 0.0360, 1.0), (PUT, 0.0330, 0.0370, 2.0)))
    pipe.do(pipe.place(PERP, Side.BUY, 99_000.0, 100.0))
    pipe.do(pipe.place(FUTURE, Side.BUY, 99_000.0, 100.0))
    assert open_count(pipe) == 6


def test_wide_cancels_go_on_the_kill_session_and_empty_the_book(pipe: Pipe) -> None:
    fill_the_book(pipe)
    events = pipe.do(CancelQuotes(70, "", -1, False))
    assert pipe.done(events).reason is None
    assert open_count(pipe) == 2
    events = pipe.do(CancelAll(71, "BTC", True))
    assert pipe.done(events).reason is None
    assert open_count(pipe) == 0


def test_quotes_of_one_instrument_are_cancelled_alone(pipe: Pipe) -> None:
    fill_the_book(pipe)
    assert pipe.done(pipe.do(CancelQuotes(70, "", pipe.id_of(CALL), False))).reason is None
    assert open_count(pipe) == 4


def test_a_cancel_by_label_finds_its_order(pipe: Pipe) -> None:
    intent = pipe.place(PERP, Side.BUY, 99_000.0, 100.0)
    pipe.do(intent)
    assert pipe.done(pipe.do(CancelOrder(80, "", intent.client_id, "BTC"))).reason is None
    assert open_count(pipe) == 0
    done = pipe.done(pipe.do(CancelOrder(81, "", intent.client_id, "BTC")))
    assert done.reason is RejectReason.NOT_FOUND


def test_the_emergency_set_empties_the_account_without_touching_the_protocol(pipe: Pipe) -> None:
    fill_the_book(pipe)
    before = pipe.protocol.digest()
    frames = pipe.protocol.kill_frames(pipe.now_ns, 9)
    assert pipe.protocol.digest() == before
    assert {frame.conn for frame in frames} == {Conn.KILL}
    for frame in frames:
        assert classify(frame.payload) is frame.kind
        pipe.clients[frame.conn].raw(frame.payload)
    pipe.carry()
    pipe.move(0.3)
    assert open_count(pipe) == 0
    assert of(FrameRefused, pipe.events) == []


def test_a_trip_of_the_protection_is_told_and_reset(pipe: Pipe) -> None:
    pipe.do(pipe.quote((CALL, 0.0340, 0.0360, 39.0)))
    taker = pipe.rig.named("demo-taker")
    taker.ask("private/buy", instrument_name=CALL, amount=39, type="market", post_only=False)
    pipe.move(0.3)
    pipe.do(pipe.quote((CALL, 0.0340, 0.0360, 5.0)))
    taker.ask("private/buy", instrument_name=CALL, amount=5, type="market", post_only=False)
    pipe.move(0.3)
    tripped = [event for event in pipe.events if type(event).__name__ == "MmpTriggered"]
    assert tripped
    assert (tripped[0].index_name, tripped[0].mmp_group) == ("btc_usd", "btc-main")
    assert tripped[0].frozen_until_ns == 0
    events = pipe.do(pipe.quote((CALL, 0.0340, 0.0360, 1.0)))
    reasons = {e.reason for e in of(QuoteSideFailed, events)} | {pipe.done(events).reason}
    assert RejectReason.MMP in reasons
    assert pipe.done(pipe.do(ResetMmp(90, "btc-main"))).reason is None
    events = pipe.do(pipe.quote((CALL, 0.0340, 0.0360, 1.0)))
    assert pipe.done(events).reason is None
    assert of(QuoteSideFailed, events) == []


def test_a_frozen_group_is_found_by_a_new_session_until_it_is_reset(pipe: Pipe) -> None:
    taker = pipe.rig.named("demo-taker")
    for size in (39.0, 5.0):
        pipe.do(pipe.quote((CALL, 0.0340, 0.0360, size)))
        taker.ask("private/buy", instrument_name=CALL, amount=size, type="market", post_only=False)
        pipe.move(0.3)

    def found_by_a_new_session() -> list[MmpTriggered]:
        pipe.events += pipe.protocol.on_connection(Conn.TRADE, False, pipe.now_ns)
        first = len(pipe.events)
        pipe.connect(Conn.TRADE)
        pipe.move(1.0)
        assert of(AccountConfirmed, pipe.events[first:])
        return of(MmpTriggered, pipe.events[first:])

    assert found_by_a_new_session() == [MmpTriggered("btc_usd", "btc-main", 0)]
    assert pipe.done(pipe.do(ResetMmp(90, "btc-main"))).reason is None
    assert found_by_a_new_session() == []


def test_a_resync_brings_a_fresh_snapshot_of_that_book_alone(pipe: Pipe) -> None:
    pipe.do(pipe.place(PERP, Side.BUY, 99_000.0, 100.0))
    events = pipe.do(Resync(95, pipe.id_of(PERP)), 0.5)
    assert [e.instrument_id for e in of(BookLost, events)] == [pipe.id_of(PERP)]
    (again,) = [e for e in of(BookChanged, events) if e.is_snapshot]
    assert again.instrument_id == pipe.id_of(PERP)
    assert again.bids == [("new", 99_000.0, 100.0)]


def test_lost_book_messages_are_noticed_and_healed(pipe: Pipe) -> None:
    pipe.rig.venue.desk.market_hub.lose_book_messages(PERP, 1)
    pipe.do(pipe.place(PERP, Side.BUY, 99_000.0, 100.0))
    pipe.do(pipe.place(PERP, Side.BUY, 98_000.0, 100.0), 1.0)
    (lost,) = of(BookLost, pipe.events)
    assert lost.instrument_id == pipe.id_of(PERP)
    last = [e for e in of(BookChanged, pipe.events) if e.instrument_id == lost.instrument_id][-1]
    assert last.is_snapshot
    assert [price for _, price, _ in last.bids] == [99_000.0, 98_000.0]


def test_sessions_outlive_heartbeats_and_refreshes(pipe: Pipe) -> None:
    first = len(pipe.events)
    for _ in range(120):
        pipe.rig.jump(9)
        pipe.events += pipe.protocol.on_timer(pipe.now_ns)
        pipe.carry()
    assert of(SessionChanged, pipe.events[first:]) == []
    assert pipe.done(pipe.do(pipe.place(PERP, Side.BUY, 99_000.0, 100.0))).reason is None


def test_orders_die_with_their_connection_and_all_is_read_again_after_it(pipe: Pipe) -> None:
    fill_the_book(pipe)
    client = pipe.clients[Conn.TRADE]
    pipe.rig.venue.close_session(client.session, pipe.rig.now_us)
    pipe.events += pipe.protocol.on_connection(Conn.TRADE, False, pipe.now_ns)
    pipe.move(0.1)
    pipe.connect(Conn.TRADE)
    pipe.move(1.0)
    phases = [e.phase for e in of(SessionChanged, pipe.events) if e.conn == Conn.TRADE]
    assert phases[-1] is SessionPhase.READY
    assert open_count(pipe) == 0


def test_a_wrong_key_is_told_and_never_ready() -> None:
    pipe = Pipe()
    pipe.connect(Conn.TRADE)
    wrong = DeribitSettings(
        **{f: getattr(SETTINGS, f) for f in SETTINGS.__struct_fields__ if f != "client_id"},
        client_id="nobody",
    )
    pipe = Pipe(wrong)
    pipe.connect(Conn.TRADE)
    reasons = [e.reason for e in of(SessionChanged, pipe.events) if e.reason]
    assert "13004" in reasons[0]


def test_instruments_are_read_on_demand(pipe: Pipe) -> None:
    events = pipe.do(ReadInstruments(99))
    assert [event.request_id for event in events if type(event).__name__ == "InstrumentsRead"] == [
        99
    ]


def states(pipe: Pipe, first: int, name: str) -> list[Lifecycle]:
    changes = of(InstrumentStateChanged, pipe.events[first:])
    return [change.lifecycle for change in changes if change.name == name]


def reconnect(pipe: Pipe) -> None:
    client = pipe.clients[Conn.MARKET]
    pipe.rig.venue.close_session(client.session, pipe.rig.now_us)
    pipe.events += pipe.protocol.on_connection(Conn.MARKET, False, pipe.now_ns)
    pipe.move(0.1)


@pytest.mark.parametrize("state", [InstrumentState.HALTED, InstrumentState.INACTIVE])
def test_an_instrument_that_reopens_while_the_connection_is_down_is_told_open_and_flows(
    pipe: Pipe, state: InstrumentState
) -> None:
    pipe.rig.exchange.set_instrument_state(CALL, state, pipe.rig.now_us)
    pipe.move(0.5)
    reconnect(pipe)
    pipe.rig.exchange.set_instrument_state(CALL, InstrumentState.OPEN, pipe.rig.now_us)
    first = len(pipe.events)
    pipe.connect(Conn.MARKET)
    pipe.move(1.0)
    assert states(pipe, first, CALL) == [Lifecycle.OPEN]
    snapshots = [e.instrument_id for e in of(BookChanged, pipe.events[first:]) if e.is_snapshot]
    assert snapshots.count(pipe.id_of(CALL)) == 1


def test_what_opens_without_a_word_is_read_open_after_a_while() -> None:
    """The venue sends no state of an instrument when it locks or unlocks a currency."""
    pipe = Pipe()
    pipe.rig.exchange.set_platform_lock("btc_usd", True, pipe.rig.now_us)
    pipe.ready()
    assert states(pipe, 0, CALL) == [Lifecycle.LOCKED]
    pipe.loses = b'"channel":"platform_state"'
    pipe.rig.exchange.set_platform_lock("btc_usd", False, pipe.rig.now_us)
    first = len(pipe.events)
    pipe.move(35.0)
    assert states(pipe, first, CALL) == [Lifecycle.OPEN]
    pipe.move(70.0)
    assert len(of(InstrumentsRead, pipe.events)) == 2, "all is open: nothing more is asked"


def test_the_end_of_a_lock_is_followed_by_a_reading_at_once(pipe: Pipe) -> None:
    pipe.rig.exchange.set_platform_lock("btc_usd", True, pipe.rig.now_us)
    pipe.move(0.1)
    pipe.do(ReadInstruments(99))
    assert states(pipe, 0, CALL) == [Lifecycle.LOCKED]
    pipe.rig.exchange.set_platform_lock("btc_usd", False, pipe.rig.now_us)
    first = len(pipe.events)
    pipe.move(1.0)
    assert states(pipe, first, CALL) == [Lifecycle.OPEN]


def test_no_secret_is_in_what_the_protocol_holds(pipe: Pipe) -> None:
    tokens = [token for vault in pipe.vaults.values() for token in vault.values()]
    assert len(tokens) == 6
    seen = repr(pipe.events).encode() + orjson.dumps(repr(pipe.protocol.__dict__))
    assert all(token.encode() not in seen for token in tokens)
