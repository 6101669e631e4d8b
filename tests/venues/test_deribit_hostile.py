"""A venue that says anything: whatever comes, in whatever order, nothing is raised and nothing that
was refused is taken for granted.
"""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from mm_daemon.domain.events import SessionChanged, SessionPhase
from mm_daemon.domain.frames import Conn
from mm_daemon.domain.intents import (
    CancelAll,
    CancelOrder,
    Intent,
    ReadAccounts,
    ReadInstruments,
    ReadOpenOrders,
    ReadOrder,
    ReadPositions,
    ReadTrades,
    ResetMmp,
    Resync,
)
from mm_daemon.domain.units import Ns
from tests.venues.deribit_peer import LISTING, T0, T0_MS, Peer, ready_peer, summary
from tests.venues.test_deribit_orders import both, order, order_body, quote, trade_body

EXTREMES = st.sampled_from(
    [0, -1, 2**31, 2**53, 2**63, 2**64, -(2**63), 1e308, -1e308, 1e15, 5e-324, "", "x", None, True]
)
JSON = st.recursive(
    EXTREMES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["order", "trades", "result", "scope", "x"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)
SHAPES = [
    order_body(),
    trade_body(),
    {"order": order_body(), "trades": [trade_body()]},
    {"trades": [trade_body()], "has_more": False},
    {"orders": [order_body()], "trades": [trade_body()], "errors": []},
    {"summaries": [summary("BTC")]},
    [LISTING["BTC"][1]],
    {"access_token": "a", "refresh_token": "b", "expires_in": 900, "scope": "trade:read_write"},
    {"enabled": True, "scope": "connection"},
    {"timestamp": T0_MS, "change_id": 7, "bids": [["new", 1, 1]], "asks": []},
]


@st.composite
def spoiled(draw: st.DrawFn) -> object:
    """A message of the right shape with some values made extreme."""
    body = json.loads(json.dumps(draw(st.sampled_from(SHAPES))))
    spots: list[tuple[object, object]] = []

    def walk(node: object) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                spots.append((node, key))
                walk(value)
        elif isinstance(node, list):
            for key, value in enumerate(node):
                spots.append((node, key))
                walk(value)

    walk(body)
    for _ in range(draw(st.integers(1, 3))):
        holder, key = draw(st.sampled_from(spots))
        holder[key] = draw(EXTREMES)  # type: ignore[index]
    return body


ANY = JSON | spoiled()
METHODS = [
    "public/auth",
    "public/set_heartbeat",
    "public/status",
    "public/get_instruments",
    "public/subscribe",
    "private/subscribe",
    "private/get_cancel_on_disconnect",
    "private/get_mmp_config",
    "private/get_mmp_status",
    "private/get_account_summaries",
]


def advance(peer: Peer, seconds: float) -> None:
    peer.tick(seconds)
    peer.protocol.digest()
    for conn in peer.protocol.take_disconnects():
        peer.disconnect(conn)


@settings(max_examples=250)
@given(st.sampled_from(METHODS), ANY)
def test_no_answer_in_a_dialogue_raises(method: str, answer: object) -> None:
    peer = Peer()
    peer.replies["private/set_mmp_config"] = lambda params: peer.mmp.update(params) or []
    peer.replies[method] = lambda _: json.loads(json.dumps(answer))
    peer.connect(*Conn)
    advance(peer, 3)


INTENTS: list[Intent] = [
    order(),
    quote(both(1)),
    CancelOrder(3, "77", "", "BTC"),
    CancelOrder(4, "", "s1-7", "BTC"),
    CancelAll(5, "", True),
    ReadOpenOrders(6),
    ReadOrder(7, "77", "", "BTC"),
    ReadOrder(8, "", "s1-7", "BTC"),
    ReadTrades(9, "BTC", Ns(T0), 10),
    ReadPositions(10),
    ReadAccounts(11),
    ReadInstruments(12),
    ResetMmp(13, "btc-main"),
    Resync(14, 1),
]
SHARED = ready_peer()


@settings(max_examples=400)
@given(st.sampled_from(INTENTS), ANY, st.booleans(), st.sampled_from(list(Conn)))
def test_no_answer_to_an_intent_raises(
    intent: Intent, answer: object, is_error: bool, conn: Conn
) -> None:
    peer = SHARED
    for each in Conn:
        if not peer.protocol._sessions[each].is_ready:
            peer.disconnect(each)
            peer.connect(each)
    peer.protocol.send(intent, peer.now_ns, 0)
    for frame in peer.protocol.take_frames():
        wire_id = json.loads(frame.payload)["id"]
        reply = {"jsonrpc": "2.0", "id": wire_id, "error" if is_error else "result": answer}
        peer.say(conn, json.dumps(reply).encode())
        peer.say(frame.conn, json.dumps(reply).encode())
    peer.run()
    peer.protocol.digest()
    peer.events.clear()
    peer.sent.clear()
    peer.frames.clear()


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["up", "down", "tick", "intent", "kill", "noise"]),
            st.sampled_from(list(Conn)),
            st.integers(0, len(INTENTS) - 1),
        ),
        max_size=25,
    )
)
def test_any_history_ends_in_ready_sessions_once_the_venue_behaves(
    steps: list[tuple[str, Conn, int]],
) -> None:
    peer = Peer()
    peer.replies["private/set_mmp_config"] = lambda params: peer.mmp.update(params) or []
    for kind, conn, rank in steps:
        if kind == "up":
            peer.connect(conn)
        elif kind == "down":
            peer.disconnect(conn)
        elif kind == "tick":
            advance(peer, 0.5 + rank)
        elif kind == "intent" and len(peer.protocol.catalogue):
            peer.protocol.send(INTENTS[rank], peer.now_ns, 0)
            peer.protocol.take_frames()
        elif kind == "kill":
            peer.protocol.kill_frames(peer.now_ns, rank)
        elif kind == "noise":
            peer.protocol.on_frame(conn, b'{"jsonrpc":"2.0","id":1,"result":{}}', peer.now_ns)
    for conn in Conn:
        peer.disconnect(conn)
    advance(peer, 15)
    peer.connect(*Conn)
    peer.tick(12)
    phases = {event.conn: event.phase for event in peer.events if isinstance(event, SessionChanged)}
    assert phases == {int(conn): SessionPhase.READY for conn in Conn}, peer.events[-20:]
