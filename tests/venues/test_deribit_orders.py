"""Intents to frames, byte for byte, and replies to outcomes in any order."""

from __future__ import annotations

import itertools

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_daemon.domain.errors import LocalProtocolError
from mm_daemon.domain.events import (
    AccountsRead,
    Event,
    FrameRefused,
    MmpTriggered,
    OpenOrdersRead,
    OrderRead,
    PositionsRead,
    QueryFailed,
    QuoteSideFailed,
    RequestDone,
    SessionChanged,
    TradesRead,
)
from mm_daemon.domain.frames import Conn, FrameKind
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
from mm_daemon.domain.permission import HEDGE, QUOTE, REDUCE
from mm_daemon.domain.units import NS_PER_S, Lots, Ns, Side, Ticks
from mm_daemon.venues.deribit.account import FOREIGN_INSTRUMENT_ID, Account
from mm_daemon.venues.deribit.encode import SIDE_TEXTS_MAX
from mm_daemon.venues.deribit.errors import LOCAL_DISCONNECT, LOCAL_NOT_SENT, LOCAL_TIMEOUT
from mm_daemon.venues.deribit.messages import OrderBody
from mm_daemon.venues.deribit.methods import classify
from tests.venues.deribit_peer import (
    CALL_70,
    CALL_80,
    ETH_CALL,
    LISTING,
    PERPETUAL,
    PUT_80,
    T0,
    T0_MS,
    VENUE_AHEAD_NS,
    Answer,
    Peer,
    RefusalError,
    SilenceError,
    ready_peer,
    summary,
)

UNTIL = Ns(T0 + 60 * NS_PER_S)
UNTIL_MS = (UNTIL + VENUE_AHEAD_NS) // 1_000_000
NO_ENTRY = (None, None)


def quote(*entries: QuoteEntry, request_id: int = 11) -> MassQuote:
    return MassQuote(request_id, "btc-main", "q77", entries, UNTIL)


def both(instrument_id: int, bid: int = 95, ask: int = 120, lots: int = 10) -> QuoteEntry:
    return QuoteEntry(instrument_id, Ticks(bid), Lots(lots), Ticks(ask), Lots(lots))


def order(**changes: object) -> PlaceOrder:
    fields: dict[str, object] = {
        "request_id": 12,
        "client_id": "s1-7",
        "instrument_id": PERPETUAL,
        "side": Side.BUY,
        "price_ticks": Ticks(150_001),
        "lots": Lots(3),
        "time_in_force": TimeInForce.IOC,
        "post_only": False,
        "reduce_only": False,
        "mmp": False,
        "purpose": Purpose.HEDGE,
        "valid_until_ns": UNTIL,
    }
    return PlaceOrder(**(fields | changes))  # type: ignore[arg-type]


def frame_of(intent: Intent) -> tuple[Peer, Answer, object]:
    """The one frame that an intent becomes: (peer, request, out frame)."""
    peer = ready_peer()
    peer.protocol.send(intent, peer.now_ns, 5)
    (frame,) = peer.protocol.take_frames()
    request = orjson.loads(frame.payload)
    assert request.pop("jsonrpc") == "2.0"
    assert isinstance(request.pop("id"), int)
    assert classify(frame.payload) is frame.kind
    assert frame.request_id == intent.request_id
    if frame.kind is not FrameKind.SAFE:
        assert frame.conn is Conn.TRADE
        assert frame.generation == 5
        assert frame.valid_until_ns > peer.now_ns
        assert frame.needs
    return peer, request, frame


SIDE = {"post_only": True, "reject_post_only": True}
GOLDEN: list[tuple[Intent, Conn, FrameKind, int, str, Answer]] = [
    (
        quote(
            both(CALL_70),
            QuoteEntry(CALL_80, None, None, Ticks(45), Lots(0)),
            QuoteEntry(PUT_80, Ticks(7), None, None, Lots(12)),
        ),
        Conn.TRADE,
        FrameKind.RISK,
        QUOTE,
        "private/mass_quote",
        {
            "mmp_group": "btc-main",
            "quote_id": "q77",
            "valid_until": UNTIL_MS,
            "detailed": True,
            "quotes": [
                {
                    "instrument_name": "BTC-13FEB26-70000-C",
                    "bid": {"price": 0.0095, "amount": 1.0, **SIDE},
                    "ask": {"price": 0.012, "amount": 1.0, **SIDE},
                },
                {
                    "instrument_name": "BTC-13FEB26-80000-C",
                    "ask": {"price": 0.0045, "amount": 0.0, **SIDE},
                },
                {
                    "instrument_name": "BTC-13FEB26-80000-P",
                    "bid": {"price": 0.0007, **SIDE},
                    "ask": {"amount": 1.2, **SIDE},
                },
            ],
        },
    ),
    (
        order(),
        Conn.TRADE,
        FrameKind.RISK,
        HEDGE,
        "private/buy",
        {
            "instrument_name": "BTC-PERPETUAL",
            "amount": 30.0,
            "label": "s1-7",
            "post_only": False,
            "reject_post_only": False,
            "reduce_only": False,
            "mmp": False,
            "valid_until": UNTIL_MS,
            "type": "limit",
            "price": 75000.5,
            "time_in_force": "immediate_or_cancel",
        },
    ),
    (
        order(
            side=Side.SELL,
            instrument_id=CALL_70,
            price_ticks=Ticks(120),
            time_in_force=TimeInForce.GTC,
            post_only=True,
            mmp=True,
            purpose=Purpose.QUOTE,
        ),
        Conn.TRADE,
        FrameKind.RISK,
        QUOTE,
        "private/sell",
        {
            "instrument_name": "BTC-13FEB26-70000-C",
            "amount": 0.3,
            "label": "s1-7",
            "post_only": True,
            "reject_post_only": True,
            "reduce_only": False,
            "mmp": True,
            "valid_until": UNTIL_MS,
            "type": "limit",
            "price": 0.012,
            "time_in_force": "good_til_cancelled",
        },
    ),
    (
        order(price_ticks=None, reduce_only=True, purpose=Purpose.FLATTEN),
        Conn.TRADE,
        FrameKind.REDUCE,
        REDUCE,
        "private/buy",
        {
            "instrument_name": "BTC-PERPETUAL",
            "amount": 30.0,
            "label": "s1-7",
            "post_only": False,
            "reject_post_only": False,
            "reduce_only": True,
            "mmp": False,
            "valid_until": UNTIL_MS,
            "type": "market",
        },
    ),
    (
        AmendOrder(13, "ETH-5", "s1-7", PERPETUAL, Ticks(150_000), Lots(4), True, UNTIL),
        Conn.TRADE,
        FrameKind.RISK,
        QUOTE,
        "private/edit",
        {
            "order_id": "ETH-5",
            "amount": 40.0,
            "price": 75000.0,
            "post_only": True,
            "reject_post_only": True,
            "valid_until": UNTIL_MS,
        },
    ),
    (
        AmendOrder(13, "", "s1-7", PERPETUAL, Ticks(150_000), Lots(4), False, UNTIL),
        Conn.TRADE,
        FrameKind.RISK,
        QUOTE,
        "private/edit_by_label",
        {
            "label": "s1-7",
            "instrument_name": "BTC-PERPETUAL",
            "amount": 40.0,
            "price": 75000.0,
            "post_only": False,
            "reject_post_only": False,
            "valid_until": UNTIL_MS,
        },
    ),
    (
        CancelOrder(14, "ETH-5", "s1-7", "ETH"),
        Conn.TRADE,
        FrameKind.SAFE,
        0,
        "private/cancel",
        {"order_id": "ETH-5"},
    ),
    (
        CancelOrder(14, "", "s1-7", "ETH"),
        Conn.TRADE,
        FrameKind.SAFE,
        0,
        "private/cancel_by_label",
        {"label": "s1-7", "currency": "ETH"},
    ),
    (
        CancelQuotes(15, "", -1, True),
        Conn.KILL,
        FrameKind.SAFE,
        0,
        "private/cancel_quotes",
        {"cancel_type": "all", "freeze_quotes": True},
    ),
    (
        CancelQuotes(15, "BTC", -1, False),
        Conn.KILL,
        FrameKind.SAFE,
        0,
        "private/cancel_quotes",
        {"cancel_type": "currency", "currency": "BTC", "freeze_quotes": False},
    ),
    (
        CancelQuotes(15, "", CALL_70, False),
        Conn.TRADE,
        FrameKind.SAFE,
        0,
        "private/cancel_quotes",
        {
            "cancel_type": "instrument",
            "instrument_name": "BTC-13FEB26-70000-C",
            "freeze_quotes": False,
        },
    ),
    (
        CancelAll(16, "", True),
        Conn.KILL,
        FrameKind.SAFE,
        0,
        "private/cancel_all",
        {"detailed": True, "freeze_quotes": True},
    ),
    (
        CancelAll(16, "ETH", False),
        Conn.KILL,
        FrameKind.SAFE,
        0,
        "private/cancel_all_by_currency",
        {"currency": "ETH", "detailed": True, "freeze_quotes": False},
    ),
    (ReadOpenOrders(17), Conn.TRADE, FrameKind.SAFE, 0, "private/get_open_orders", {}),
    (
        ReadOrder(18, "ETH-5", "s1-7", "ETH"),
        Conn.TRADE,
        FrameKind.SAFE,
        0,
        "private/get_order_state",
        {"order_id": "ETH-5"},
    ),
    (
        ReadOrder(18, "", "s1-7", "ETH"),
        Conn.TRADE,
        FrameKind.SAFE,
        0,
        "private/get_order_state_by_label",
        {"currency": "ETH", "label": "s1-7"},
    ),
    (
        ReadPositions(19),
        Conn.TRADE,
        FrameKind.SAFE,
        0,
        "private/get_positions",
        {"currency": "any"},
    ),
    (
        ReadAccounts(20),
        Conn.TRADE,
        FrameKind.SAFE,
        0,
        "private/get_account_summaries",
        {"extended": True},
    ),
    (
        ResetMmp(21, "btc-main"),
        Conn.TRADE,
        FrameKind.RISK,
        QUOTE,
        "private/reset_mmp",
        {"index_name": "btc_usd", "mmp_group": "btc-main"},
    ),
]


@pytest.mark.parametrize(("intent", "conn", "kind", "needs", "method", "params"), GOLDEN)
def test_each_intent_has_its_frame(
    intent: Intent, conn: Conn, kind: FrameKind, needs: int, method: str, params: Answer
) -> None:
    _, request, frame = frame_of(intent)
    assert (frame.conn, frame.kind, frame.needs) == (conn, kind, needs)  # type: ignore[attr-defined]
    assert request == {"method": method, "params": params}


def test_a_trades_query_asks_both_stores() -> None:
    peer = ready_peer()
    peer.protocol.send(ReadTrades(30, "BTC", Ns(T0), 500), peer.now_ns, 0)
    asked = [orjson.loads(frame.payload) for frame in peer.protocol.take_frames()]
    assert {request["method"] for request in asked} == {
        "private/get_user_trades_by_currency_and_time"
    }
    assert [request["params"].pop("historical") for request in asked] == [False, True]
    end_ms = (peer.now_ns + VENUE_AHEAD_NS) // 1_000_000 + 60_000
    for request in asked:
        assert request["params"] == {
            "currency": "BTC",
            "start_timestamp": T0_MS,
            "end_timestamp": end_ms,
            "count": 500,
            "sorting": "asc",
        }


BAD_INTENTS: list[tuple[Intent, str]] = [
    (quote(), "0 entries"),
    (quote(*[both(CALL_70)] * 101), "101 entries"),
    (MassQuote(1, "other", "q", (both(CALL_70),), UNTIL), "not configured"),
    (quote(both(CALL_70), both(ETH_CALL)), "one index"),
    (order(lots=Lots(0)), "0 lots"),
    (order(client_id=""), "client id"),
    (order(client_id="x" * 65), "client id"),
    (order(client_id='a"b'), "client id"),
    (order(client_id="a\\b"), "client id"),
    (order(client_id="ä"), "client id"),
    (order(post_only=True), "post-only"),
    (order(price_ticks=None, mmp=True), "market order"),
    (CancelOrder(1, "", "", "BTC"), "client id"),
    (ResetMmp(1, "other"), "not configured"),
    (ReadTrades(1, "BTC", Ns(0), 1001), "1001"),
]


@pytest.mark.parametrize(("intent", "words"), BAD_INTENTS)
def test_what_the_language_cannot_say_is_an_error_and_sends_nothing(
    intent: Intent, words: str
) -> None:
    peer = ready_peer()
    with pytest.raises(LocalProtocolError, match=words):
        peer.protocol.send(intent, peer.now_ns, 0)
    assert peer.protocol.take_frames() == []


def long_names_peer() -> Peer:
    """Names so long that a hundred quotes exceed the venue's frame."""
    peer = Peer()
    rows = [
        {**LISTING["BTC"][1], "instrument_name": f"BTC-{'X' * 180}-{k}-C", "strike": 1000.0 + k}
        for k in range(100)
    ]
    peer.replies["public/get_instruments"] = lambda p: rows if p["currency"] == "BTC" else []
    peer.replies["private/set_mmp_config"] = lambda params: peer.mmp.update(params) or []
    peer.connect(*Conn)
    return peer


def test_a_mass_quote_too_large_for_one_frame_is_split_and_has_one_outcome() -> None:
    peer = long_names_peer()
    entries = tuple(both(k, lots=k + 1) for k in range(100))
    peer.protocol.send(MassQuote(11, "btc-main", "q", entries, UNTIL), peer.now_ns, 0)
    frames = peer.protocol.take_frames()
    assert len(frames) == 2
    assert max(len(frame.payload) for frame in frames) < 32_000
    requests = [orjson.loads(frame.payload) for frame in frames]
    quoted = [entry for request in requests for entry in request["params"]["quotes"]]
    assert [round(entry["bid"]["amount"] * 10) for entry in quoted] == list(range(1, 101))
    good: Answer = {"orders": [], "trades": [], "errors": []}
    first = peer.say(Conn.TRADE, {"id": requests[1]["id"], "result": good, "usOut": 5})
    assert first == []
    error = {"code": 13903, "message": "too_many_quotes"}
    (done,) = peer.say(Conn.TRADE, {"id": requests[0]["id"], "error": error, "usOut": 7})
    assert isinstance(done, RequestDone)
    assert (done.request_id, done.reason) == (11, RejectReason.RATE_LIMIT)


@pytest.mark.parametrize("unknown_part", [0, 1])
def test_a_part_without_a_known_outcome_outweighs_a_refused_one(unknown_part: int) -> None:
    peer = long_names_peer()
    entries = tuple(both(k, lots=k + 1) for k in range(100))
    peer.protocol.send(MassQuote(11, "btc-main", "q", entries, UNTIL), peer.now_ns, 0)
    ids = [orjson.loads(frame.payload)["id"] for frame in peer.protocol.take_frames()]
    codes = {ids[unknown_part]: 10040, ids[1 - unknown_part]: 13903}
    done = [
        event
        for id_, code in codes.items()
        for event in peer.say(
            Conn.TRADE, {"id": id_, "error": {"code": code, "message": "no"}, "usOut": 7}
        )
    ]
    assert [type(event) for event in done] == [RequestDone]
    assert done[0].reason is RejectReason.UNKNOWN_OUTCOME


def order_body(**changes: object) -> Answer:
    body: Answer = {
        "order_id": "77",
        "order_state": "open",
        "order_type": "limit",
        "time_in_force": "good_til_cancelled",
        "instrument_name": "BTC-PERPETUAL",
        "direction": "buy",
        "price": 75000.5,
        "amount": 30.0,
        "filled_amount": 10.0,
        "average_price": 75000.5,
        "label": "s1-7",
        "post_only": False,
        "reduce_only": False,
        "mmp": False,
        "creation_timestamp": T0_MS,
        "last_update_timestamp": T0_MS + 5,
    }
    return body | changes


def trade_body(**changes: object) -> Answer:
    body: Answer = {
        "trade_id": "9001",
        "trade_seq": 3,
        "order_id": "77",
        "instrument_name": "BTC-PERPETUAL",
        "timestamp": T0_MS + 5,
        "direction": "buy",
        "price": 75000.5,
        "amount": 10.0,
        "fee": -0.00000007,
        "fee_currency": "BTC",
        "liquidity": "M",
        "label": "s1-7",
        "mark_price": 75001.23,
        "index_price": 75002.34,
        "state": "open",
        "matching_id": None,
    }
    return body | changes


ORDER = OrderEvidence(
    order_id="77",
    client_id="s1-7",
    instrument_id=PERPETUAL,
    side=Side.BUY,
    status=VenueStatus.OPEN,
    price_ticks=Ticks(150_001),
    amount_lots=Lots(3),
    filled_lots=Lots(1),
    ts_venue_ns=Ns((T0_MS + 5) * 1_000_000),
    is_quote=False,
    mmp_group="",
    quote_set_id="",
    cancel_reason="",
)
FILL = FillEvidence(
    trade_id="9001",
    order_id="77",
    client_id="s1-7",
    instrument_id=PERPETUAL,
    side=Side.BUY,
    price_e8=7_500_050_000_000,
    lots=Lots(1),
    fee_e8=-7,  # type: ignore[arg-type]
    fee_currency="BTC",
    is_maker=True,
    ts_venue_ns=Ns((T0_MS + 5) * 1_000_000),
    mark_price_e8=7_500_123_000_000,
    index_price_e8=7_500_234_000_000,
    is_quote=False,
    source="reply",
)


def sent(peer: Peer, *intents: Intent) -> list[int]:
    """The wire ids of intents sent and not answered."""
    ids = []
    for intent in intents:
        peer.protocol.send(intent, peer.now_ns, 0)
        ids += [orjson.loads(frame.payload)["id"] for frame in peer.protocol.take_frames()]
    return ids


def reply(wire_id: int, result: object) -> Answer:
    return {"jsonrpc": "2.0", "id": wire_id, "result": result, "usIn": 1, "usOut": 2_000_000}


def error(wire_id: int, code: int, message: str, reason: str = "") -> Answer:
    body: Answer = {"code": code, "message": message}
    if reason:
        body["data"] = {"reason": reason, "param": "instrument_name"}
    return {"jsonrpc": "2.0", "id": wire_id, "error": body, "usIn": 1, "usOut": 2_000_000}


DONE = RequestDone(12, None, 0, "", 2_000_000_000)


def test_a_placed_order_tells_its_fills_its_state_and_its_outcome() -> None:
    peer = ready_peer()
    (wire_id,) = sent(peer, order())
    body = {"order": order_body(), "trades": [trade_body()]}
    assert peer.say(Conn.TRADE, reply(wire_id, body)) == [FILL, ORDER, DONE]


def test_a_second_reply_is_harmless() -> None:
    peer = ready_peer()
    (wire_id,) = sent(peer, order())
    body = {"order": order_body(), "trades": []}
    assert len(peer.say(Conn.TRADE, reply(wire_id, body))) == 2
    assert peer.say(Conn.TRADE, reply(wire_id, body)) == []


def test_a_notification_may_come_before_its_reply() -> None:
    peer = ready_peer()
    (wire_id,) = sent(peer, order())
    changes = {
        "instrument_name": "BTC-PERPETUAL",
        "trades": [trade_body()],
        "orders": [order_body()],
        "positions": [],
    }
    events = peer.notify(Conn.TRADE, "user.changes.any.any.raw", changes)
    assert events[1] == ORDER
    assert isinstance(events[0], FillEvidence)
    assert events[0].source == "stream"
    late = peer.say(Conn.TRADE, reply(wire_id, {"order": order_body(), "trades": []}))
    assert late == [ORDER, DONE]


def test_replies_in_any_order_find_their_requests() -> None:
    intents = [order(), CancelOrder(31, "78", "", "BTC"), ReadPositions(32)]
    results: list[object] = [
        {"order": order_body(), "trades": []},
        order_body(order_id="78", order_state="cancelled", cancel_reason="user_request"),
        [],
    ]
    seen = []
    for permutation in itertools.permutations(range(3)):
        peer = ready_peer()
        ids = sent(peer, *intents)
        events: dict[int, list[Event]] = {}
        for rank in permutation:
            events[rank] = peer.say(Conn.TRADE, reply(ids[rank], results[rank]))
        seen.append([events[rank] for rank in range(3)])
    assert all(events == seen[0] for events in seen)
    assert seen[0][0] == [ORDER, DONE]
    cancelled = seen[0][1][0]
    assert isinstance(cancelled, OrderEvidence)
    assert (cancelled.status, cancelled.cancel_reason) == (VenueStatus.CANCELLED, "user_request")
    assert seen[0][2] == [PositionsRead(32, ())]


CODES = [
    (10002, "qty_too_low", "", RejectReason.AMOUNT),
    (10003, "order_overlap", "", RejectReason.SELF_TRADE),
    (10004, "order_not_found", "", RejectReason.NOT_FOUND),
    (10005, "price_too_low 43666.4288", "", RejectReason.PRICE),
    (10009, "not_enough_funds", "", RejectReason.FUNDS),
    (10010, "already_closed", "", RejectReason.NOT_OPEN),
    (10041, "settlement_in_progress", "", RejectReason.INSTRUMENT),
    (10043, "price_wrong_tick", "", RejectReason.PRICE),
    (11044, "not_open_order", "", RejectReason.NOT_OPEN),
    (11051, "system_maintenance", "", RejectReason.MAINTENANCE),
    (11054, "post_only_reject", "", RejectReason.POST_ONLY),
    (13009, "unauthorized", "", RejectReason.AUTH),
    (13030, "mmp_trigger", "", RejectReason.MMP),
    (13040, "mmp_required", "", RejectReason.CONFIG),
    (13043, "quotes_frozen", "", RejectReason.QUOTES_FROZEN),
    (13666, "request_cancelled_by_user", "", RejectReason.PURGED),
    (13777, "replaced", "", RejectReason.REPLACED),
    (13888, "timed_out", "", RejectReason.EXPIRED),
    (-32602, "Invalid params", "instrument not open", RejectReason.INSTRUMENT),
    (-32602, "Invalid params", "must be a number", RejectReason.INVALID),
    (11094, "internal_server_error", "", RejectReason.UNKNOWN_OUTCOME),
    (13028, "temporarily_unavailable", "", RejectReason.UNKNOWN_OUTCOME),
    (10040, "retry", "", RejectReason.UNKNOWN_OUTCOME),
    (99999, "new_error", "", RejectReason.OTHER),
]


@pytest.mark.parametrize(("code", "message", "detail", "reason"), CODES)
def test_error_codes_are_typed_outcomes(
    code: int, message: str, detail: str, reason: RejectReason
) -> None:
    peer = ready_peer()
    (wire_id,) = sent(peer, order())
    (done,) = peer.say(Conn.TRADE, error(wire_id, code, message, detail))
    assert isinstance(done, RequestDone)
    assert (done.reason, done.code, done.request_id) == (reason, code, 12)
    assert message in done.message
    assert detail in done.message


def test_10028_ends_the_session_and_every_other_outcome_is_unknown() -> None:
    peer = ready_peer()
    first, _ = sent(peer, order(), order(request_id=40, client_id="s1-8"))
    events = peer.say(Conn.TRADE, error(first, 10028, "too_many_requests"))
    assert isinstance(events[0], RequestDone)
    assert events[0].reason is RejectReason.RATE_LIMIT
    assert isinstance(events[1], SessionChanged)
    assert isinstance(events[2], RequestDone)
    assert (events[2].request_id, events[2].reason, events[2].code) == (
        40,
        RejectReason.UNKNOWN_OUTCOME,
        LOCAL_DISCONNECT,
    )
    assert peer.protocol.take_disconnects() == [Conn.TRADE]


def test_a_request_without_reply_is_unknown_and_its_late_reply_is_still_evidence() -> None:
    peer = ready_peer()
    (wire_id,) = sent(peer, order())
    assert peer.tick(4.9) == []
    events = peer.tick(0.2)
    assert events == [
        RequestDone(12, RejectReason.UNKNOWN_OUTCOME, LOCAL_TIMEOUT, "no reply in time", 0)
    ]
    late = peer.say(Conn.TRADE, reply(wire_id, {"order": order_body(), "trades": []}))
    assert late == [ORDER, DONE]


def test_a_read_without_reply_failed_and_its_late_reply_says_nothing() -> None:
    peer = ready_peer()
    (wire_id,) = sent(peer, ReadPositions(33))
    (failed,) = peer.tick(6)
    assert failed == QueryFailed(33, LOCAL_TIMEOUT, "no reply in time")
    assert peer.say(Conn.TRADE, reply(wire_id, [])) == []


def test_a_lost_connection_leaves_outcomes_unknown_and_reads_failed() -> None:
    peer = ready_peer()
    sent(peer, order(), quote(both(CALL_70)), ReadOpenOrders(34))
    events = peer.disconnect(Conn.TRADE)
    outcomes = {e.request_id: e.reason for e in events if isinstance(e, RequestDone)}
    assert outcomes == {12: RejectReason.UNKNOWN_OUTCOME, 11: RejectReason.UNKNOWN_OUTCOME}
    assert [e.request_id for e in events if isinstance(e, QueryFailed)] == [34]


@pytest.mark.parametrize("body", [{}, {"order": {}}, [], "ok", {"order": 5, "trades": []}])
def test_a_reply_that_cannot_be_read_leaves_the_outcome_unknown(body: object) -> None:
    peer = ready_peer()
    (wire_id,) = sent(peer, order())
    events = peer.say(Conn.TRADE, reply(wire_id, body))
    assert [type(event) for event in events] == [FrameRefused, RequestDone]
    assert events[1].reason is RejectReason.UNKNOWN_OUTCOME  # type: ignore[union-attr]


def test_a_read_that_cannot_be_read_failed() -> None:
    peer = ready_peer()
    (wire_id,) = sent(peer, ReadOpenOrders(35))
    events = peer.say(Conn.TRADE, reply(wire_id, {"nothing": 1}))
    assert [type(event) for event in events] == [FrameRefused, QueryFailed]


def test_a_mass_quote_tells_each_part() -> None:
    peer = ready_peer()
    (wire_id,) = sent(peer, quote(both(CALL_70)))
    quoted = order_body(
        order_id="90",
        instrument_name="BTC-13FEB26-70000-C",
        price=0.0095,
        amount=0.6,
        filled_amount=0.4,
        label="",
        quote=True,
        mmp_group="btc-main",
        quote_id="q77",
        quote_set_id="1",
    )
    body = {
        "orders": [quoted],
        "trades": [],
        "errors": [
            {
                "instrument_name": "BTC-13FEB26-70000-C",
                "side": "ask",
                "error": {"code": 11054, "message": "post_only_reject"},
            }
        ],
    }
    evidence, failed, done = peer.say(Conn.TRADE, reply(wire_id, body))
    assert isinstance(evidence, OrderEvidence)
    assert (evidence.is_quote, evidence.mmp_group, evidence.quote_set_id) == (
        True,
        "btc-main",
        "1",
    )
    assert (evidence.amount_lots, evidence.filled_lots) == (6, 4)
    assert failed == QuoteSideFailed(11, CALL_70, Side.SELL, RejectReason.POST_ONLY, 11054)
    assert done == RequestDone(11, None, 0, "", 2_000_000_000)


def test_wide_cancels_report_failed_parts() -> None:
    peer = ready_peer()
    (wire_id,) = sent(peer, CancelAll(50, "", True))
    gone = order_body(order_state="cancelled")
    reports = [
        {"currency": "BTC", "type": "limit", "instrument_name": "BTC-PERPETUAL", "result": [gone]},
        {"currency": "ETH", "type": "limit", "error": {"code": 10050, "message": "lock"}},
    ]
    evidence, done = peer.say(Conn.KILL, reply(wire_id, reports))
    assert isinstance(evidence, OrderEvidence)
    assert isinstance(done, RequestDone)
    assert (done.reason, done.message) == (RejectReason.UNKNOWN_OUTCOME, "ETH: lock")
    (wire_id,) = sent(peer, CancelAll(51, "", True))
    (counted,) = peer.say(Conn.KILL, reply(wire_id, 7))
    assert isinstance(counted, RequestDone)
    assert (counted.reason, counted.message) == (None, "7 cancelled")


def test_a_cancel_by_label_of_nothing_is_not_found() -> None:
    peer = ready_peer()
    (wire_id,) = sent(peer, CancelOrder(52, "", "s1-7", "BTC"))
    (done,) = peer.say(Conn.TRADE, reply(wire_id, 0))
    assert isinstance(done, RequestDone)
    assert done.reason is RejectReason.NOT_FOUND


def test_an_order_that_the_venue_does_not_know_is_none_and_other_errors_are_failures() -> None:
    peer = ready_peer()
    first, second, third = sent(
        peer,
        ReadOrder(53, "77", "", "BTC"),
        ReadOrder(54, "77", "", "BTC"),
        ReadOrder(55, "", "s1-7", "BTC"),
    )
    assert peer.say(Conn.TRADE, error(first, 10004, "order_not_found")) == [OrderRead(53, None)]
    assert peer.say(Conn.TRADE, error(second, 11094, "internal_server_error")) == [
        QueryFailed(54, 11094, "internal_server_error")
    ]
    older = order_body(order_id="76", last_update_timestamp=T0_MS)
    assert peer.say(Conn.TRADE, reply(third, [older, order_body()])) == [OrderRead(55, ORDER)]


def test_open_orders_are_whole_with_quotes_triggers_and_foreign_instruments() -> None:
    peer = ready_peer()
    (wire_id,) = sent(peer, ReadOpenOrders(56))
    trigger = order_body(order_id="S-1", order_state="untriggered", price="market_price")
    del trigger["filled_amount"]
    foreign = order_body(order_id="F-1", instrument_name="SOL_USDC-PERPETUAL", label="other")
    (read,) = peer.say(Conn.TRADE, reply(wire_id, [order_body(), trigger, foreign]))
    assert isinstance(read, OpenOrdersRead)
    assert read.orders[0] == ORDER
    assert (read.orders[1].status, read.orders[1].price_ticks) == (VenueStatus.OPEN, 0)
    assert (read.orders[2].order_id, read.orders[2].instrument_id) == ("F-1", -1)
    assert (read.request_id, read.ts_venue_ns) == (56, 2_000_000_000)


def test_an_unknown_order_state_counts_as_open() -> None:
    peer = ready_peer()
    changes = {"trades": [], "orders": [order_body(order_state="dreaming")], "positions": []}
    (evidence,) = peer.notify(Conn.TRADE, "user.changes.any.any.raw", changes)
    assert isinstance(evidence, OrderEvidence)
    assert evidence.status is VenueStatus.OPEN


def test_trades_of_both_stores_are_one_page_without_holes() -> None:
    peer = ready_peer()
    recent, historical = sent(peer, ReadTrades(57, "BTC", Ns(T0), 2))
    rows = [trade_body(trade_id=str(k), timestamp=T0_MS + k, trade_seq=k) for k in range(6)]
    assert peer.say(Conn.TRADE, reply(recent, {"trades": rows[3:5], "has_more": True})) == []
    (page,) = peer.say(Conn.TRADE, reply(historical, {"trades": rows[0:2], "has_more": True}))
    assert isinstance(page, TradesRead)
    assert [fill.trade_id for fill in page.fills] == ["0", "1"]
    assert page.has_more
    recent, historical = sent(peer, ReadTrades(58, "BTC", Ns(T0), 100))
    peer.say(Conn.TRADE, reply(historical, {"trades": rows[0:4], "has_more": False}))
    (page,) = peer.say(Conn.TRADE, reply(recent, {"trades": rows[2:6], "has_more": False}))
    assert isinstance(page, TradesRead)
    assert [fill.trade_id for fill in page.fills] == ["0", "1", "2", "3", "4", "5"]
    assert {fill.source for fill in page.fills} == {"recon"}
    assert not page.has_more


def test_one_store_alone_is_no_answer() -> None:
    for order_of in ((0, 1), (1, 0)):
        peer = ready_peer()
        ids = sent(peer, ReadTrades(59, "BTC", Ns(T0), 2))
        answers = [
            reply(ids[0], {"trades": [trade_body()], "has_more": False}),
            error(ids[1], 11094, "internal_server_error"),
        ]
        events = [event for rank in order_of for event in peer.say(Conn.TRADE, answers[rank])]
        assert events == [QueryFailed(59, 11094, "internal_server_error")]


def test_a_trade_that_cannot_be_booked_is_told() -> None:
    peer = ready_peer()
    changes = {"trades": [trade_body(instrument_name="SOL_USDC-PERPETUAL")]}
    (refused,) = peer.notify(Conn.TRADE, "user.changes.any.any.raw", changes)
    assert isinstance(refused, FrameRefused)
    assert "9001" in refused.reason


@pytest.mark.parametrize(
    ("size", "direction", "lots"),
    [(30.0, "buy", 3), (-30.0, "sell", -3), (30.0, "sell", -3), (-30.0, "", -3), (0.0, "zero", 0)],
)
def test_positions_are_signed_lots(size: float, direction: str, lots: int) -> None:
    peer = ready_peer()
    position = {
        "instrument_name": "BTC-PERPETUAL",
        "size": size,
        "direction": direction,
        "average_price": 75000.12,
        "mark_price": 75001.0,
        "realized_funding": -0.00000123,
    }
    changes = {"trades": [], "orders": [order_body()], "positions": [position]}
    _, evidence = peer.notify(Conn.TRADE, "user.changes.any.any.raw", changes)
    assert evidence == PositionEvidence(
        instrument_id=PERPETUAL,
        lots=Lots(lots),
        average_price_e8=7_500_012_000_000,
        mark_price_e8=7_500_100_000_000,
        realized_funding_e8=-123,  # type: ignore[arg-type]
        ts_venue_ns=Ns((T0_MS + 5) * 1_000_000),
    )


def test_portfolio_and_protection_messages() -> None:
    peer = ready_peer()
    (account,) = peer.notify(Conn.TRADE, "user.portfolio.btc", summary("BTC"))
    assert isinstance(account, AccountEvidence)
    assert (account.currency, account.equity_e8, account.available_e8) == (
        "BTC",
        20_012_345_678,
        18_050_000_000,
    )
    assert account.portfolio_margin
    trigger = {"index_name": "btc_usd", "frozen_until": T0_MS, "mmp_group": "btc-main"}
    assert peer.notify(Conn.TRADE, "user.mmp_trigger.btc_usd", trigger) == [
        MmpTriggered("btc_usd", "btc-main", T0_MS * 1_000_000)
    ]


def test_account_summaries_are_read_as_an_object_or_as_a_list() -> None:
    peer = ready_peer()
    for body in ({"summaries": [summary("BTC")]}, [summary("BTC")]):
        (wire_id,) = sent(peer, ReadAccounts(60))
        (read,) = peer.say(Conn.TRADE, reply(wire_id, body))
        assert isinstance(read, AccountsRead)
        assert [row.currency for row in read.accounts] == ["BTC"]


@pytest.mark.parametrize(
    "intent", [order(), quote(both(CALL_70)), ResetMmp(21, "btc-main"), CancelAll(22, "", True)]
)
def test_what_no_connection_can_carry_was_certainly_not_sent(intent: Intent) -> None:
    peer = ready_peer()
    peer.disconnect(Conn.TRADE)
    peer.disconnect(Conn.KILL)
    peer.protocol.send(intent, peer.now_ns, 0)
    assert peer.protocol.take_frames() == []
    (done,) = peer.protocol.on_timer(peer.now_ns)
    assert isinstance(done, RequestDone)
    assert (done.reason, done.code) == (RejectReason.OTHER, LOCAL_NOT_SENT)


@pytest.mark.parametrize(
    "intent", [ReadOpenOrders(1), ReadTrades(1, "BTC", Ns(0), 1), ReadInstruments(1)]
)
def test_a_read_that_was_not_sent_failed(intent: Intent) -> None:
    peer = ready_peer()
    for conn in Conn:
        peer.disconnect(conn)
    peer.protocol.send(intent, peer.now_ns, 0)
    (failed,) = peer.protocol.on_timer(peer.now_ns)
    assert isinstance(failed, QueryFailed)


def test_risk_waits_for_a_ready_session_and_cancels_do_not() -> None:
    peer = Peer()

    def silent(_: dict[str, object]) -> object:
        raise SilenceError

    peer.replies["private/get_account_summaries"] = silent
    peer.replies["private/set_mmp_config"] = lambda params: peer.mmp.update(params) or []
    peer.connect(Conn.MARKET, Conn.TRADE)
    peer.protocol.take_frames()
    peer.protocol.send(order(), peer.now_ns, 0)
    quote = MassQuote(3, "btc-main", "q", (both(0),), UNTIL)
    peer.protocol.send(quote, peer.now_ns, 0)
    assert peer.protocol.take_frames() == []
    peer.protocol.send(CancelAll(2, "", True), peer.now_ns, 0)
    (frame,) = peer.protocol.take_frames()
    assert frame.conn is Conn.TRADE


def test_reads_and_wide_cancels_change_connection_when_theirs_is_down() -> None:
    peer = ready_peer()
    peer.disconnect(Conn.TRADE)
    peer.protocol.send(ReadOpenOrders(1), peer.now_ns, 0)
    peer.protocol.send(CancelOrder(2, "77", "", "BTC"), peer.now_ns, 0)
    assert [frame.conn for frame in peer.protocol.take_frames()] == [Conn.KILL, Conn.KILL]
    peer = ready_peer()
    peer.disconnect(Conn.KILL)
    peer.protocol.send(CancelQuotes(3, "", -1, True), peer.now_ns, 0)
    assert [frame.conn for frame in peer.protocol.take_frames()] == [Conn.TRADE]


def test_the_emergency_set_is_whole_safe_and_leaves_no_trace() -> None:
    peer = ready_peer()
    before = peer.protocol.digest()
    frames = peer.protocol.kill_frames(peer.now_ns, 3)
    assert peer.protocol.kill_frames(peer.now_ns, 3) == frames
    assert peer.protocol.digest() == before
    assert all(frame.kind is FrameKind.SAFE is classify(frame.payload) for frame in frames)
    requests = [orjson.loads(frame.payload) for frame in frames]
    methods = [(r["method"], r["params"].get("currency", "")) for r in requests]
    assert methods == [
        ("private/cancel_all", ""),
        ("private/cancel_quotes", ""),
        ("private/cancel_all_block_rfq_quotes", ""),
        ("private/cancel_all_by_currency", "BTC"),
        ("private/cancel_quotes", "BTC"),
        ("private/cancel_all_by_currency", "ETH"),
        ("private/cancel_quotes", "ETH"),
    ]
    assert len({request["id"] for request in requests}) == len(requests)
    assert max(request["id"] for request in requests) < 2**53
    assert peer.say(Conn.KILL, reply(requests[0]["id"], 4)) == []
    (refused,) = peer.say(Conn.KILL, error(requests[1]["id"], 10050, "lock"))
    assert isinstance(refused, FrameRefused)
    peer.disconnect(Conn.KILL)
    assert {f.conn for f in peer.protocol.kill_frames(peer.now_ns, 3)} == {Conn.TRADE}
    peer.disconnect(Conn.TRADE)
    assert peer.protocol.kill_frames(peer.now_ns, 3) == []


def test_equal_histories_have_equal_digests_and_different_ones_do_not() -> None:
    digests = []
    for lots in (3, 3, 4):
        peer = ready_peer()
        sent(peer, order(lots=Lots(lots)))
        peer.notify(Conn.TRADE, "user.portfolio.btc", summary("BTC"))
        digests.append(peer.protocol.digest())
    assert digests[0] == digests[1] == digests[2]
    peer.protocol.send(order(), peer.now_ns, 0)
    assert peer.protocol.digest() != digests[0]
    assert len(digests[0]) == 16


def test_a_correction_of_ticks_reaches_the_next_quote() -> None:
    peer = ready_peer()
    sent(peer, quote(both(CALL_70)))
    changed = {**LISTING["BTC"][3], "tick_size": 0.0005, "tick_size_steps": []}
    peer.replies["public/get_instruments"] = lambda p: [changed] if p["currency"] == "BTC" else []
    peer.protocol.send(ReadInstruments(9), peer.now_ns, 0)
    peer.run()
    peer.protocol.send(quote(both(CALL_70, bid=19, ask=24)), peer.now_ns, 0)
    (frame,) = peer.protocol.take_frames()
    (entry,) = orjson.loads(frame.payload)["params"]["quotes"]
    assert (entry["bid"]["price"], entry["ask"]["price"]) == (0.0095, 0.012)


def test_an_order_told_again_is_the_same_evidence_until_words_or_units_change() -> None:
    catalogue = ready_peer().protocol.catalogue
    account = Account(catalogue)

    def tell(**changes: object) -> OrderEvidence:
        return account.order(msgspec.convert(order_body(**changes), OrderBody))

    first = tell()
    assert tell() is first
    assert tell(filled_amount=20.0).filled_lots == 2
    assert tell(order_id="other").order_id == "other"
    assert tell() == first
    (changed,) = [terms for terms in catalogue.instruments if terms.id == first.instrument_id]
    coarser = msgspec.structs.replace(changed.grid, tick_e9=2 * changed.grid.tick_e9)
    catalogue._correct(changed.id, msgspec.structs.replace(changed, grid=coarser))
    assert tell().price_ticks == round(first.price_ticks / 2)


def test_an_order_in_an_unknown_instrument_is_read_anew_each_time() -> None:
    catalogue = ready_peer().protocol.catalogue
    account = Account(catalogue)
    body = msgspec.convert(order_body(instrument_name="BTC-1JAN30-1-C"), OrderBody)
    assert account.order(body).instrument_id == FOREIGN_INSTRUMENT_ID
    catalogue.ids["BTC-1JAN30-1-C"] = 0
    assert account.order(body).instrument_id == 0


def test_refused_account_questions_are_failures() -> None:
    peer = ready_peer()

    def refuse(_: dict[str, object]) -> object:
        raise RefusalError(13021, "forbidden")

    peer.replies["private/get_open_orders"] = refuse
    peer.protocol.send(ReadOpenOrders(1), peer.now_ns, 0)
    peer.run()
    assert peer.events == [QueryFailed(1, 13021, "forbidden")]


SHARED = ready_peer()
SIDES = st.tuples(
    st.none() | st.integers(1, 5_000).map(Ticks), st.none() | st.integers(0, 400).map(Lots)
)


@settings(max_examples=100)
@given(st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=6))
def test_quotes_say_the_same_from_remembered_texts_as_from_fresh_ones(
    sides: list[tuple[tuple[Ticks | None, Lots | None], tuple[Ticks | None, Lots | None]]],
) -> None:
    peer = SHARED
    entries = [QuoteEntry(1 + k % 3, *bid, *ask) for k, (bid, ask) in enumerate(sides)]
    bodies = []
    for _ in range(2):
        peer.protocol.send(quote(*entries), peer.now_ns, 0)
        (frame,) = peer.protocol.take_frames()
        bodies.append(orjson.loads(frame.payload)["params"])
    assert bodies[0] == bodies[1]
    for entry, said in zip(entries, bodies[0]["quotes"], strict=True):
        terms = peer.protocol.catalogue[entry.instrument_id]
        assert said["instrument_name"] == terms.name
        for key, ticks, lots in (
            ("bid", entry.bid_ticks, entry.bid_lots),
            ("ask", entry.ask_ticks, entry.ask_lots),
        ):
            expected = {**SIDE}
            if ticks is not None:
                expected["price"] = terms.grid.price(ticks)
            if lots is not None:
                expected["amount"] = terms.amount(lots)
            assert said.get(key) == (None if ticks is lots is None else expected)


def test_remembered_texts_are_bounded() -> None:
    peer = ready_peer()
    encoder = peer.protocol._requests._encoder
    for first in range(0, SIDE_TEXTS_MAX + 400, 100):
        entries = [both(CALL_70, bid=first + k + 1, ask=first + k + 1) for k in range(100)]
        encoder.mass_quotes(quote(*entries), 1)
    ((texts, _asks),) = encoder._texts.values()
    assert 0 < sum(map(len, texts.values())) <= SIDE_TEXTS_MAX
