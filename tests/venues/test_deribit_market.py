"""Public data: book chains and their resynchronisation, lifecycle, bad input."""

from __future__ import annotations

import itertools
import json
import math

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from mm_daemon.domain.events import (
    BookChanged,
    BookLost,
    Event,
    ExpirationEstimate,
    FrameRefused,
    IndexSeen,
    InstrumentsRead,
    InstrumentStateChanged,
    PlatformChanged,
    PublicTrade,
    SessionChanged,
    SessionPhase,
    TickerSeen,
    VolIndexSeen,
)
from mm_daemon.domain.frames import Conn
from mm_daemon.domain.instruments import Lifecycle
from mm_daemon.domain.intents import ReadInstruments, Resync
from mm_daemon.domain.units import NS_PER_S, Side
from tests.venues.deribit_peer import (
    CALL_70,
    CALL_80,
    ETH_CALL,
    ETH_PERPETUAL,
    LISTING,
    SETTINGS,
    T0_MS,
    Answer,
    Peer,
    RefusalError,
    option,
    ready_peer,
)

NAME = "BTC-13FEB26-70000-C"
CHANNEL = f"book.{NAME}.100ms"


def snapshot(change_id: int, bid: float = 0.01) -> Answer:
    return {
        "type": "snapshot",
        "timestamp": T0_MS,
        "instrument_name": NAME,
        "change_id": change_id,
        "bids": [["new", bid, 1.5]],
        "asks": [],
    }


def change(previous: int, change_id: int) -> Answer:
    return {
        "type": "change",
        "timestamp": T0_MS + 1,
        "instrument_name": NAME,
        "prev_change_id": previous,
        "change_id": change_id,
        "bids": [["change", 0.01, 2.0]],
        "asks": [["new", 0.0115, 3], ["delete", 0.012, 0]],
    }


def live_peer() -> Peer:
    peer = ready_peer()
    peer.notify(Conn.MARKET, CHANNEL, snapshot(100))
    peer.events.clear()
    return peer


def test_a_linked_change_is_one_event_with_its_levels() -> None:
    peer = live_peer()
    assert peer.notify(Conn.MARKET, CHANNEL, change(100, 250)) == [
        BookChanged(
            CALL_70,
            False,
            [("change", 0.01, 2.0)],
            [("new", 0.0115, 3.0), ("delete", 0.012, 0.0)],
            250,
            (T0_MS + 1) * 1_000_000,
        )
    ]


def test_a_gap_loses_the_book_and_only_a_snapshot_brings_it_back() -> None:
    peer = live_peer()
    (lost,) = peer.notify(Conn.MARKET, CHANNEL, change(101, 102))
    assert lost == BookLost(CALL_70, "gap: change follows 101, book is at 100")
    assert peer.notify(Conn.MARKET, CHANNEL, change(102, 103)) == []
    peer.run()
    assert peer.methods(Conn.MARKET) == ["public/unsubscribe", "public/subscribe"]
    assert peer.last("public/subscribe") == {"channels": [CHANNEL]}
    assert peer.notify(Conn.MARKET, CHANNEL, change(103, 104)) == []
    (back,) = peer.notify(Conn.MARKET, CHANNEL, snapshot(200))
    assert isinstance(back, BookChanged)
    assert back.is_snapshot
    (next_one,) = peer.notify(Conn.MARKET, CHANNEL, change(200, 201))
    assert isinstance(next_one, BookChanged)


def test_a_book_is_not_subscribed_again_before_its_unsubscription_is_answered() -> None:
    peer = live_peer()
    peer.holds = ("public/unsubscribe",)
    peer.notify(Conn.MARKET, CHANNEL, change(1, 2))
    peer.run()
    assert peer.methods(Conn.MARKET) == ["public/unsubscribe"]
    peer.release([0])
    assert peer.methods(Conn.MARKET) == ["public/unsubscribe", "public/subscribe"]


def test_a_snapshot_that_does_not_come_is_asked_for_again_ever_more_slowly() -> None:
    peer = live_peer()
    peer.notify(Conn.MARKET, CHANNEL, change(1, 2))
    beats = 0
    while beats < 90:
        beats += 1
        for conn in Conn:
            peer.say(conn, {"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": "x"}})
        peer.tick(1)
    times = [
        at_ns
        for at_ns, (_, request) in zip(peer.times_ns, peer.sent, strict=True)
        if request["method"] == "public/unsubscribe" and CHANNEL in request["params"]["channels"]  # type: ignore[index]
    ]
    gaps = [(b - a) / NS_PER_S for a, b in itertools.pairwise(times)]
    assert min(gaps) >= 1.0
    assert gaps == sorted(gaps)
    assert 25 <= gaps[-1] <= 36
    assert [e for e in peer.events if isinstance(e, BookLost) and e.instrument_id == CALL_70] == [
        BookLost(CALL_70, "gap: change follows 1, book is at 100")
    ]


def test_a_book_that_keeps_breaking_is_renewed_at_most_once_a_second() -> None:
    peer = live_peer()
    for _ in range(50):
        peer.notify(Conn.MARKET, CHANNEL, change(1, 2))
        peer.run()
        peer.notify(Conn.MARKET, CHANNEL, snapshot(100))
        peer.tick(0.1)
    assert peer.methods(Conn.MARKET).count("public/unsubscribe") <= 6


def test_a_repeated_change_is_harmless() -> None:
    peer = live_peer()
    assert len(peer.notify(Conn.MARKET, CHANNEL, change(100, 101))) == 1
    assert peer.notify(Conn.MARKET, CHANNEL, change(100, 101)) == []
    assert len(peer.notify(Conn.MARKET, CHANNEL, change(101, 102))) == 1


def test_recordings_without_a_type_begin_with_the_missing_link() -> None:
    peer = ready_peer()
    body = snapshot(7)
    del body["type"]
    (event,) = peer.notify(Conn.MARKET, CHANNEL, body)
    assert isinstance(event, BookChanged)
    assert event.is_snapshot


def test_a_snapshot_that_names_a_link_is_still_a_snapshot() -> None:
    peer = live_peer()
    (event,) = peer.notify(Conn.MARKET, CHANNEL, {**snapshot(101), "prev_change_id": 100})
    assert isinstance(event, BookChanged)
    assert event.is_snapshot


def test_a_wanted_resync_loses_the_book_at_the_next_input() -> None:
    peer = live_peer()
    peer.protocol.send(Resync(5, CALL_70), peer.now_ns, 0)
    assert peer.protocol.next_deadline_ns() == 0
    assert peer.protocol.on_timer(peer.now_ns) == [BookLost(CALL_70, "resync asked")]
    peer.run()
    assert peer.methods(Conn.MARKET) == ["public/unsubscribe", "public/subscribe"]


def test_losing_the_market_connection_loses_every_live_book() -> None:
    peer = live_peer()
    events = peer.disconnect(Conn.MARKET)
    assert [event for event in events if isinstance(event, BookLost)] == [
        BookLost(CALL_70, "connection lost")
    ]
    assert peer.notify(Conn.MARKET, CHANNEL, change(100, 101)) == []


BAD_BOOKS: list[tuple[bytes, bytes]] = [
    (b"0.0115", b"-0.0115"),
    (b"0.0115", b"NaN"),
    (b"0.0115", b"null"),
    (b"0.0115", b"1e999"),
    (b"0.0115", b"0"),
    (b'"new"', b'"add"'),
    (b"3]", b"-3]"),
    (b'"bids":', b'"bid":'),
    (b'"change_id":', b'"changeid":'),
    (b"[[", b"[["[:1]),
    (b'"change",0.01', b'"\xff",0.01'),
]


@pytest.mark.parametrize(("good", "bad"), BAD_BOOKS)
def test_garbage_in_a_book_loses_it_and_never_crashes(good: bytes, bad: bytes) -> None:
    peer = live_peer()
    frame = orjson.dumps(
        {
            "jsonrpc": "2.0",
            "method": "subscription",
            "params": {"channel": CHANNEL, "data": change(100, 101)},
        }
    )
    assert good in frame
    events = peer.protocol.on_frame(Conn.MARKET, frame.replace(good, bad, 1), peer.now_ns)
    assert [type(event) for event in events] == [BookLost]
    assert peer.notify(Conn.MARKET, CHANNEL, change(101, 102)) == []


@pytest.mark.parametrize("cut", range(1, 330, 7))
def test_a_truncated_book_frame_is_never_a_change(cut: int) -> None:
    peer = live_peer()
    frame = orjson.dumps(
        {
            "jsonrpc": "2.0",
            "method": "subscription",
            "params": {"channel": CHANNEL, "data": change(100, 101)},
        }
    )
    events = peer.protocol.on_frame(Conn.MARKET, frame[: -min(cut, len(frame) - 1)], peer.now_ns)
    assert [type(event) for event in events] in ([BookLost], [FrameRefused])


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x00",
        b"hello",
        b"[]",
        b"[" * 5_000,
        b'{"a":' * 5_000,
        b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"book.X.raw","data":{}}}',
        b'{"jsonrpc":"2.0","method":"subscription","params":{}}',
        b'{"jsonrpc":"2.0","method":"subscription"}',
        b'{"jsonrpc":"2.0","method":"other","params":{}}',
        b'{"jsonrpc":"2.0","id":999999,"result":"ok"}',
        b'{"jsonrpc":"2.0","id":"x","result":"ok"}',
        b'{"jsonrpc":"2.0","error":{"code":-32600,"message":"request entity too large"}}',
        b'{"jsonrpc":"2.0","method":"heartbeat","params":7}',
    ],
)
def test_what_cannot_be_understood_is_refused(frame: bytes) -> None:
    peer = ready_peer()
    for conn in Conn:
        (event,) = peer.protocol.on_frame(conn, frame, peer.now_ns)
        assert isinstance(event, FrameRefused)
        assert event.conn == conn


def test_a_bad_ticker_is_refused_without_touching_the_book() -> None:
    peer = live_peer()
    channel = f"ticker.{NAME}.100ms"
    (event,) = peer.notify(Conn.MARKET, channel, {"timestamp": 1, "mark_price": -0.1})
    assert isinstance(event, FrameRefused)
    (fine,) = peer.notify(Conn.MARKET, channel, {"timestamp": 1})
    assert isinstance(fine, TickerSeen)
    assert all(math.isnan(value) for value in msgspec.structs.astuple(fine)[1:-1])
    assert len(peer.notify(Conn.MARKET, CHANNEL, change(100, 101))) == 1


def test_grouped_books_replace_the_book_each_time() -> None:
    peer = ready_peer(replace(SETTINGS, option_book="none.20.100ms"))
    channel = f"book.{NAME}.none.20.100ms"
    body = {
        "timestamp": T0_MS,
        "instrument_name": NAME,
        "change_id": 5,
        "bids": [[0.01, 2.0]],
        "asks": [[0.0115, 3.0]],
    }
    for change_id in (5, 9, 9):
        (event,) = peer.notify(Conn.MARKET, channel, {**body, "change_id": change_id})
        assert event == BookChanged(
            CALL_70,
            True,
            [("new", 0.01, 2.0)],
            [("new", 0.0115, 3.0)],
            change_id,
            T0_MS * 1_000_000,
        )
    (lost,) = peer.notify(Conn.MARKET, channel, {**body, "bids": [["new", 0.01, 2.0]]})
    assert isinstance(lost, BookLost)


def test_the_other_public_channels() -> None:
    peer = ready_peer()
    stamp_ns = T0_MS * 1_000_000
    said = [
        (
            "deribit_price_index.btc_usd",
            {"timestamp": T0_MS, "price": 75000.5, "index_name": "btc_usd"},
            IndexSeen("btc_usd", 75000.5, stamp_ns),
        ),
        (
            "deribit_volatility_index.btc_usd",
            {"timestamp": T0_MS, "volatility": 52.5, "index_name": "btc_usd"},
            VolIndexSeen("btc_usd", 0.525, stamp_ns),
        ),
        (
            "estimated_expiration_price.eth_usd",
            {
                "seconds": 900,
                "price": 2000.5,
                "is_estimated": True,
                "left_ticks": 150,
                "total_ticks": 300,
            },
            ExpirationEstimate("eth_usd", 2000.5, 900.0, True, 0.5),
        ),
        (
            "estimated_expiration_price.eth_usd",
            {"seconds": 76228, "price": 2000.5, "is_estimated": False},
            ExpirationEstimate("eth_usd", 2000.5, 76228.0, False),
        ),
        (
            "platform_state",
            {"price_index": "btc_usd", "locked": True},
            PlatformChanged("btc_usd", True),
        ),
        ("platform_state", {"maintenance": True}, PlatformChanged("", True)),
    ]
    for channel, body, expected in said:
        assert peer.notify(Conn.MARKET, channel, body) == [expected]


def test_prints_name_their_taker_and_blocks_and_leave_out_what_we_do_not_follow() -> None:
    peer = ready_peer()
    body = {
        "trade_id": "5",
        "trade_seq": 77,
        "timestamp": T0_MS,
        "price": 0.012,
        "amount": 2.5,
        "direction": "sell",
        "instrument_name": NAME,
    }
    rows = [body, {**body, "instrument_name": "BTC-X"}, {**body, "block_trade_id": "B-1"}]
    events = peer.notify(Conn.MARKET, "trades.option.BTC.100ms", rows)
    stamp_ns = T0_MS * 1_000_000
    assert events == [
        PublicTrade(CALL_70, Side.SELL, 0.012, 2.5, stamp_ns, 77, False),
        PublicTrade(CALL_70, Side.SELL, 0.012, 2.5, stamp_ns, 77, True),
    ]


def state_of(peer: Peer, name: str, state: str) -> list[Event]:
    return peer.notify(
        Conn.MARKET,
        "instrument.state.option.BTC",
        {"timestamp": T0_MS, "state": state, "instrument_name": name},
    )


def test_a_delivered_instrument_is_unsubscribed_and_its_book_lost() -> None:
    peer = live_peer()
    events = state_of(peer, NAME, "delivered")
    assert events == [
        InstrumentStateChanged(CALL_70, NAME, Lifecycle.DELIVERED, T0_MS * 1_000_000),
        BookLost(CALL_70, "instrument is delivered"),
    ]
    peer.tick(1)
    assert peer.last("public/unsubscribe") == {"channels": [CHANNEL, f"ticker.{NAME}.100ms"]}
    assert "public/subscribe" not in peer.methods(Conn.MARKET)


def test_an_instrument_that_reopens_is_subscribed_again() -> None:
    peer = live_peer()
    peer.holds = ("public/unsubscribe",)
    state_of(peer, NAME, "inactive")
    peer.tick(1)
    state_of(peer, NAME, "open")
    peer.tick(1)
    assert peer.methods(Conn.MARKET) == ["public/unsubscribe"]
    peer.release([0])
    asked = [
        name
        for _, request in peer.sent
        if request["method"] == "public/subscribe"
        for name in request["params"]["channels"]  # type: ignore[index]
    ]
    assert sorted(asked) == [CHANNEL, f"ticker.{NAME}.100ms"]


def test_instruments_that_ended_while_we_were_away_are_told_and_not_subscribed() -> None:
    peer = live_peer()
    peer.disconnect(Conn.MARKET)
    rows = LISTING["BTC"][:3]
    peer.replies["public/get_instruments"] = lambda p: rows if p["currency"] == "BTC" else []
    peer.connect(Conn.MARKET)
    assert peer.phase(Conn.MARKET) is SessionPhase.READY
    told = [event for event in peer.events if isinstance(event, InstrumentStateChanged)]
    assert [(event.instrument_id, event.lifecycle) for event in told] == [
        (CALL_70, Lifecycle.INACTIVE),
        (ETH_PERPETUAL, Lifecycle.INACTIVE),
        (ETH_CALL, Lifecycle.INACTIVE),
    ]
    assert CHANNEL not in peer.last("public/subscribe")["channels"]  # type: ignore[operator]
    peer.events.clear()
    peer.sent.clear()
    peer.replies["public/get_instruments"] = lambda p: LISTING[str(p["currency"])]
    peer.protocol.send(ReadInstruments(9), peer.now_ns, 0)
    peer.tick(12)
    batches = [r["params"]["channels"] for _, r in peer.sent if r["method"] == "public/subscribe"]  # type: ignore[index]
    assert [batch for batch in batches if CHANNEL in batch] == [
        [
            CHANNEL,
            f"ticker.{NAME}.100ms",
            "book.ETH-PERPETUAL.raw",
            "ticker.ETH-PERPETUAL.100ms",
            "book.ETH-13FEB26-3000-C.100ms",
            "ticker.ETH-13FEB26-3000-C.100ms",
        ]
    ]
    (read,) = [event for event in peer.events if isinstance(event, InstrumentsRead)]
    assert read.instruments[CALL_70].name == NAME
    told = [event for event in peer.events if isinstance(event, InstrumentStateChanged)]
    assert [(event.instrument_id, event.lifecycle) for event in told] == [
        (CALL_70, Lifecycle.OPEN),
        (ETH_PERPETUAL, Lifecycle.OPEN),
        (ETH_CALL, Lifecycle.OPEN),
    ]


def test_an_unknown_state_counts_as_halted() -> None:
    peer = live_peer()
    events = state_of(peer, NAME, "dreaming")
    assert [type(event) for event in events] == [FrameRefused, InstrumentStateChanged]
    assert events[1] == InstrumentStateChanged(CALL_70, NAME, Lifecycle.HALTED, T0_MS * 1_000_000)


def test_an_unknown_state_in_a_reading_is_told_and_counts_as_halted() -> None:
    peer = live_peer()
    rows = [*LISTING["BTC"][:3], {**LISTING["BTC"][3], "state": "dreaming"}]
    peer.replies["public/get_instruments"] = lambda p: (
        rows if p["currency"] == "BTC" else LISTING["ETH"]
    )
    peer.protocol.send(ReadInstruments(9), peer.now_ns, 0)
    peer.run()
    refused = [event.reason for event in peer.events if isinstance(event, FrameRefused)]
    assert refused == [f"1 instruments in an unknown state, first {NAME} is 'dreaming'"]
    told = [event for event in peer.events if isinstance(event, InstrumentStateChanged)]
    assert [(event.instrument_id, event.lifecycle) for event in told] == [
        (CALL_70, Lifecycle.HALTED)
    ]


def test_a_new_listing_is_read_and_subscribed_and_no_id_moves() -> None:
    peer = live_peer()
    name = "BTC-13FEB26-60000-C"
    rows = [*LISTING["BTC"], option(name, 60000.0)]
    peer.replies["public/get_instruments"] = lambda p: rows if p["currency"] == "BTC" else []
    assert state_of(peer, name, "open") == [
        InstrumentStateChanged(-1, name, Lifecycle.OPEN, T0_MS * 1_000_000)
    ]
    peer.tick(1)
    read = next(event for event in peer.events if isinstance(event, InstrumentsRead))
    assert read.request_id == 0
    assert [terms.name for terms in read.instruments][-2:] == ["ETH-13FEB26-3000-C", name]
    assert read.instruments[ETH_CALL].id == ETH_CALL
    assert read.instruments[-1].id == 6
    assert peer.last("public/subscribe") == {
        "channels": [f"book.{name}.100ms", f"ticker.{name}.100ms"]
    }


def test_a_later_read_corrects_ticks_and_fees_but_never_the_size() -> None:
    peer = live_peer()
    changed = {
        **LISTING["BTC"][3],
        "tick_size": 0.0005,
        "tick_size_steps": [],
        "maker_commission": 0.0001,
        "min_trade_amount": 1.0,
    }
    rows = [*LISTING["BTC"][:3], changed]
    peer.replies["public/get_instruments"] = lambda p: rows if p["currency"] == "BTC" else []
    peer.protocol.send(ReadInstruments(9), peer.now_ns, 0)
    peer.run()
    (read,) = [event for event in peer.events if isinstance(event, InstrumentsRead)]
    terms = read.instruments[CALL_70]
    assert read.request_id == 9
    assert (terms.grid.tick_e9, terms.fees.maker, terms.lot_e9) == (500_000, 0.0001, 100_000_000)


def test_instruments_that_are_not_open_are_told() -> None:
    peer = Peer()
    rows = [
        {**row, "state": "locked"} if row["kind"] == "option" else row for row in LISTING["BTC"]
    ]
    peer.replies["public/get_instruments"] = lambda p: rows if p["currency"] == "BTC" else []
    peer.connect(Conn.MARKET)
    told = [event for event in peer.events if isinstance(event, InstrumentStateChanged)]
    assert sorted(event.instrument_id for event in told) == [CALL_70, CALL_80, 3]
    assert all(event.lifecycle is Lifecycle.LOCKED for event in told)


def test_what_the_stream_says_during_a_reading_is_newer_than_the_reading() -> None:
    peer = live_peer()
    peer.holds = ("public/get_instruments",)
    peer.protocol.send(ReadInstruments(9), peer.now_ns, 0)
    peer.run()
    state_of(peer, NAME, "halted")
    peer.events.clear()
    peer.holds = ()
    peer.release([0, 1])
    peer.tick(1)
    assert any(isinstance(event, InstrumentsRead) for event in peer.events)
    assert not [event for event in peer.events if isinstance(event, InstrumentStateChanged)]


def test_a_row_that_cannot_be_read_costs_neither_the_session_nor_a_known_instrument() -> None:
    peer = live_peer()
    broken = {**LISTING["BTC"][3], "tick_size": "much"}
    rows = [*LISTING["BTC"][:3], broken]
    peer.replies["public/get_instruments"] = lambda p: rows if p["currency"] == "BTC" else []
    peer.protocol.send(ReadInstruments(9), peer.now_ns, 0)
    peer.run()
    told = [event for event in peer.events if isinstance(event, FrameRefused)]
    assert len(told) == 1
    assert NAME in told[0].reason
    assert "1 of 4" in told[0].reason
    closed = [e.instrument_id for e in peer.events if isinstance(e, InstrumentStateChanged)]
    assert closed == [ETH_PERPETUAL, ETH_CALL]
    assert not [event for event in peer.events if isinstance(event, SessionChanged)]
    assert len(peer.notify(Conn.MARKET, CHANNEL, change(100, 101))) == 1
    del broken["instrument_name"]
    peer.events.clear()
    peer.replies["public/get_instruments"] = lambda p: [broken] if p["currency"] == "BTC" else []
    peer.protocol.send(ReadInstruments(10), peer.now_ns, 0)
    peer.tick(12)
    assert not [event for event in peer.events if isinstance(event, InstrumentStateChanged)]


def test_a_listing_whose_reading_was_refused_is_read_again() -> None:
    peer = live_peer()
    name = "BTC-13FEB26-60000-C"

    def refuse(_: dict[str, object]) -> object:
        raise RefusalError(11094, "internal_server_error")

    peer.replies["public/get_instruments"] = refuse
    state_of(peer, name, "open")
    peer.tick(1)
    rows = [*LISTING["BTC"], option(name, 60000.0)]
    peer.replies["public/get_instruments"] = lambda p: rows if p["currency"] == "BTC" else []
    peer.tick(31)
    assert name in peer.protocol.catalogue.ids


def test_a_failed_reading_leaves_the_catalogue_as_it_was() -> None:
    peer = live_peer()

    def refuse(_: dict[str, object]) -> object:
        raise RefusalError(11094, "internal_server_error")

    peer.replies["public/get_instruments"] = refuse
    peer.protocol.send(ReadInstruments(9), peer.now_ns, 0)
    peer.run()
    names = [type(event).__name__ for event in peer.events]
    assert names == ["QueryFailed"]
    assert len(peer.notify(Conn.MARKET, CHANNEL, change(100, 101))) == 1


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 11), st.sampled_from(["keep", "drop", "twice", "swap"]))))
def test_dropped_repeated_or_swapped_messages_lose_the_book_or_leave_its_chain_whole(
    faults: list[tuple[int, str]],
) -> None:
    """The applied changes always form an unbroken run of the true ones from some snapshot on."""
    messages = [snapshot(100), *(change(99 + k, 100 + k) for k in range(1, 12))]
    for where, fault in faults:
        where %= len(messages) or 1
        if fault == "drop" and messages:
            del messages[where]
        elif fault == "twice" and messages:
            messages.insert(where, messages[where])
        elif fault == "swap" and where + 1 < len(messages):
            messages[where], messages[where + 1] = messages[where + 1], messages[where]
    peer = SHARED
    peer.notify(Conn.MARKET, CHANNEL, snapshot(1))
    applied = 1
    lost = False
    for body in messages:
        for event in peer.notify(Conn.MARKET, CHANNEL, body):
            if isinstance(event, BookLost):
                lost = True
            else:
                assert isinstance(event, BookChanged)
                assert event.is_snapshot or (not lost and body["prev_change_id"] == applied)
                lost = False
                applied = event.change_id


SHARED = ready_peer()


@settings(max_examples=300)
@given(st.binary(max_size=80), st.sampled_from(list(Conn)))
def test_random_bytes_never_raise(noise: bytes, conn: Conn) -> None:
    for event in SHARED.protocol.on_frame(conn, noise, SHARED.now_ns):
        assert isinstance(event, FrameRefused)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
CHANNELS = [
    CHANNEL,
    f"ticker.{NAME}.100ms",
    "trades.option.BTC.100ms",
    "deribit_price_index.btc_usd",
    "instrument.state.option.BTC",
    "platform_state",
    "user.changes.any.any.raw",
    "user.portfolio.btc",
    "user.mmp_trigger.btc_usd",
]


@settings(max_examples=300)
@given(st.sampled_from(CHANNELS), JSON, st.sampled_from(list(Conn)))
def test_any_json_in_a_known_channel_never_raises(channel: str, body: object, conn: Conn) -> None:
    frame = {
        "jsonrpc": "2.0",
        "method": "subscription",
        "params": {"channel": channel, "data": body},
    }
    SHARED.say(conn, json.dumps(frame).encode())
    SHARED.protocol.take_frames()


@settings(max_examples=200)
@given(st.data())
def test_a_damaged_frame_never_raises(data: st.DataObject) -> None:
    frame = bytearray(
        orjson.dumps(
            {
                "jsonrpc": "2.0",
                "method": "subscription",
                "params": {"channel": CHANNEL, "data": change(100, 101)},
            }
        )
    )
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    SHARED.protocol.on_frame(Conn.MARKET, bytes(frame), SHARED.now_ns)
    SHARED.protocol.take_frames()


def test_ended_instruments_are_read_by_name_and_never_subscribed() -> None:
    peer = ready_peer()
    ended = {**LISTING["BTC"][0], "is_active": False, "state": "closed"}
    wanted = {**ended, "instrument_name": "BTC-6FEB26-80000-P", "instrument_id": 901}
    other = {**ended, "instrument_name": "BTC-6FEB26-90000-P", "instrument_id": 902}
    asked: list[tuple[object, object]] = []

    def listing(params: Answer) -> object:
        asked.append((params["currency"], params["expired"]))
        if params["expired"]:
            return [wanted, other]
        return LISTING[str(params["currency"])]

    peer.replies["public/get_instruments"] = listing
    before = len(peer.protocol.catalogue)
    peer.sent.clear()
    peer.protocol.send(ReadInstruments(9, ended=("BTC-6FEB26-80000-P",)), peer.now_ns, 0)
    peer.tick(12)
    assert ("BTC", True) in asked
    assert ("ETH", True) not in asked
    (read,) = [event for event in peer.events if isinstance(event, InstrumentsRead)][-1:]
    assert read.request_id == 9
    assert [one.name for one in read.instruments[before:]] == ["BTC-6FEB26-80000-P"]
    told = [event for event in peer.events if isinstance(event, InstrumentStateChanged)]
    assert told[-1].lifecycle is Lifecycle.INACTIVE
    assert "6FEB26-80000" not in repr([r for _, r in peer.sent if r["method"] != "public/test"])
    asked.clear()
    peer.protocol.send(ReadInstruments(10, ended=("BTC-6FEB26-80000-P",)), peer.now_ns, 0)
    peer.tick(30)
    assert asked == [("BTC", False), ("ETH", False)], "it is known by now"


def test_an_ended_instrument_that_is_not_found_burdens_no_later_reading() -> None:
    """A new listing would wait for answers that nobody asked for any more."""
    peer = ready_peer()
    asked: list[tuple[object, object]] = []

    def listing(params: Answer) -> object:
        asked.append((params["currency"], params["expired"]))
        return [] if params["expired"] else LISTING[str(params["currency"])]

    peer.replies["public/get_instruments"] = listing
    peer.protocol.send(ReadInstruments(9, ended=("BTC-6FEB20-80000-P",)), peer.now_ns, 0)
    peer.tick(30)
    assert asked == [("BTC", False), ("ETH", False), ("BTC", True)]
    asked.clear()
    peer.protocol.send(ReadInstruments(10), peer.now_ns, 0)
    peer.tick(30)
    assert asked == [("BTC", False), ("ETH", False)]
