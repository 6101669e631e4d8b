"""A scripted venue for the protocol's tests: it answers each request as Deribit would, unless told
otherwise, and keeps everything that was said.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import orjson

from mm_daemon.domain.events import Event, SessionChanged, SessionPhase
from mm_daemon.domain.frames import Conn, OutFrame
from mm_daemon.domain.units import NS_PER_S, Ns
from mm_daemon.venues.deribit.methods import classify
from mm_daemon.venues.deribit.protocol import DeribitProtocol
from mm_daemon.venues.deribit.secrets import fill, redact
from mm_daemon.venues.deribit.settings import DeribitSettings, MmpGroup, Underlying

T0 = Ns(1_770_000_000 * NS_PER_S)
T0_MS = T0 // 1_000_000
SECRET = "AMANDASECRECT"
RTT_NS = 1_000_000
VENUE_AHEAD_NS = 250_000_000
"""The scripted venue's clock runs this far ahead of the daemon's."""

Answer = dict[str, object]
Reply = Callable[[dict[str, object]], object]

GROUP = MmpGroup(
    name="btc-main",
    price_index="btc_usd",
    interval_s=5,
    frozen_time_s=0,
    max_quote_quantity=20.0,
    quantity_limit=10.0,
    delta_limit=4.0,
    vega_limit=5000.5,
)

SETTINGS = DeribitSettings(
    client_id="AMANDA",
    session_prefix="s1",
    session_name="mm",
    underlyings=(Underlying("BTC", "btc_usd", "BTC"), Underlying("ETH", "eth_usd", "ETH")),
    mmp_groups=(GROUP,),
    with_block_rfq=True,
)

SCOPE = "session:mm account:read_write trade:read_write block_rfq:read_write"


class RefusalError(Exception):
    """Answer with this error object instead of a result."""

    def __init__(self, code: int, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.reason = code, message, reason


class SilenceError(Exception):
    """Do not answer at all."""


def option(name: str, strike: float, kind: str = "call", base: str = "BTC") -> Answer:
    return {
        "instrument_name": name,
        "kind": "option",
        "base_currency": base,
        "quote_currency": base,
        "counter_currency": "USD",
        "settlement_currency": base,
        "instrument_type": "reversed",
        "price_index": f"{base.lower()}_usd",
        "tick_size": 0.0001,
        "tick_size_steps": [{"above_price": 0.005, "tick_size": 0.0005}],
        "min_trade_amount": 0.1 if base == "BTC" else 1,
        "contract_size": 1.0,
        "strike": strike,
        "option_type": kind,
        "expiration_timestamp": T0_MS + 7 * 86_400_000,
        "creation_timestamp": T0_MS - 86_400_000,
        "settlement_period": "week",
        "is_active": True,
        "state": "open",
        "maker_commission": 0.0003,
        "taker_commission": 0.0003,
    }


def future(name: str, base: str, period: str = "perpetual") -> Answer:
    return {
        "instrument_name": name,
        "kind": "future",
        "base_currency": base,
        "quote_currency": "USD",
        "settlement_currency": base,
        "instrument_type": "reversed",
        "price_index": f"{base.lower()}_usd",
        "tick_size": 0.5,
        "tick_size_steps": [],
        "min_trade_amount": 10.0,
        "contract_size": 10.0,
        "expiration_timestamp": 32503708800000,
        "settlement_period": period,
        "is_active": True,
        "maker_commission": 0.0,
        "taker_commission": 0.0005,
    }


LISTING = {
    "BTC": [
        option("BTC-13FEB26-80000-P", 80000.0, "put"),
        option("BTC-13FEB26-80000-C", 80000.0),
        future("BTC-PERPETUAL", "BTC"),
        option("BTC-13FEB26-70000-C", 70000.0),
    ],
    "ETH": [future("ETH-PERPETUAL", "ETH"), option("ETH-13FEB26-3000-C", 3000.0, base="ETH")],
}
PERPETUAL, CALL_70, CALL_80, PUT_80, ETH_PERPETUAL, ETH_CALL = range(6)


def summary(currency: str) -> Answer:
    return {
        "currency": currency,
        "equity": 200.12345678,
        "balance": 200.0,
        "margin_balance": 200.0,
        "available_funds": 180.5,
        "portfolio_margining_enabled": True,
        "margin_model": "segregated_pm",
        "delta_total": 1.25,
        "limits": {
            "non_matching_engine": {"rate": 20, "burst": 100},
            "limits_per_currency": False,
            "matching_engine": {
                "trading": {"total": {"rate": 30, "burst": 100}},
                "spot": {"rate": 5, "burst": 20},
                "maximum_quotes": {"rate": 500, "burst": 500},
                "maximum_mass_quotes": {"rate": 10, "burst": 10},
                "guaranteed_mass_quotes": {"rate": 2, "burst": 2},
                "cancel_all": {"rate": 5, "burst": 20},
            },
        },
    }


class Peer:
    """One protocol object against one scripted venue, on a clock that the test moves."""

    def __init__(self, settings: DeribitSettings = SETTINGS) -> None:
        self.protocol = DeribitProtocol(settings)
        self.now_ns = T0
        self.events: list[Event] = []
        self.sent: list[tuple[Conn, Answer]] = []
        self.frames: list[OutFrame] = []
        self.times_ns: list[Ns] = []
        self.vaults: dict[Conn, dict[str, str]] = {conn: {} for conn in Conn}
        self.held: list[tuple[Conn, Answer]] = []
        self.holds: tuple[str, ...] = ()
        """Methods whose requests are kept unanswered, for the test to answer in its own order."""
        self.replies: dict[str, Reply] = {
            "public/auth": self._auth,
            "public/set_heartbeat": lambda _: "ok",
            "public/test": lambda _: {"version": "1.2.26"},
            "public/status": lambda _: {"locked": "false", "locked_indices": []},
            "public/get_instruments": lambda params: LISTING[str(params["currency"])],
            "public/subscribe": lambda params: params["channels"],
            "public/unsubscribe": lambda params: params["channels"],
            "private/subscribe": lambda params: params["channels"],
            "private/enable_cancel_on_disconnect": lambda _: "ok",
            "private/get_cancel_on_disconnect": lambda p: {"enabled": True, "scope": p["scope"]},
            "private/set_mmp_config": lambda params: [params],
            "private/get_mmp_config": lambda _: [{**self.mmp, "id": 7}],
            "private/get_mmp_status": lambda _: [],
            "private/get_account_summaries": lambda _: {
                "id": 1,
                "summaries": [summary("BTC"), summary("ETH")],
            },
        }
        self.mmp: Answer = {}

    # Driving

    def connect(self, *conns: Conn) -> None:
        for conn in conns:
            self._collect(self.protocol.on_connection(conn, True, self.now_ns))
        self.run()

    def disconnect(self, conn: Conn) -> list[Event]:
        return self._collect(self.protocol.on_connection(conn, False, self.now_ns))

    def run(self, turns: int = 200) -> None:
        """Answers everything until nothing is said any more."""
        for _ in range(turns):
            frames = self.protocol.take_frames()
            if not frames:
                return
            for frame in frames:
                self._serve(frame)
        raise AssertionError("the dialogue does not end")

    def tick(self, seconds: float) -> list[Event]:
        """Moves the clock, obeying every deadline on the way."""
        end_ns = Ns(self.now_ns + round(seconds * NS_PER_S))
        first = len(self.events)
        self.run()
        for _ in range(1_000):
            deadline_ns = self.protocol.next_deadline_ns()
            if deadline_ns is None or deadline_ns > end_ns:
                self.now_ns = end_ns
                return self.events[first:]
            self.now_ns = Ns(max(self.now_ns + 1, deadline_ns))
            self._collect(self.protocol.on_timer(self.now_ns))
            self.run()
        raise AssertionError("deadlines do not advance")

    def say(self, conn: Conn, frame: object) -> list[Event]:
        """One frame from the venue, redacted as the shell does."""
        compact = (",", ":")  # the standard encoder also prints numbers beyond 64 bits
        raw = frame if isinstance(frame, bytes) else json.dumps(frame, separators=compact).encode()
        payload, secrets = redact(raw)
        self.vaults[conn].update(secrets)
        return self._collect(self.protocol.on_frame(conn, payload, self.now_ns))

    def notify(self, conn: Conn, channel: str, data: object) -> list[Event]:
        return self.say(
            conn,
            {
                "jsonrpc": "2.0",
                "method": "subscription",
                "params": {"channel": channel, "data": data},
            },
        )

    def answer(self, conn: Conn, request: Answer) -> list[Event]:
        """The scripted answer to one request."""
        params = request["params"]
        assert isinstance(params, dict)
        method = str(request["method"])
        stamp_us = (self.now_ns + VENUE_AHEAD_NS) // 1_000
        reply: Answer = {"jsonrpc": "2.0", "id": request["id"]}
        self.now_ns = Ns(self.now_ns + RTT_NS)
        try:
            reply["result"] = self.replies[method](params)
        except RefusalError as refusal:
            data = {"reason": refusal.reason} if refusal.reason else None
            error = {"code": refusal.code, "message": refusal.message}
            reply["error"] = error if data is None else {**error, "data": data}
        except SilenceError:
            return []
        reply |= {"usIn": stamp_us + 500, "usOut": stamp_us + 500, "usDiff": 0, "testnet": True}
        return self.say(conn, reply)

    def release(self, order: list[int]) -> None:
        """Answers held requests in the given order."""
        held, self.held = self.held, []
        for rank in order:
            self.answer(*held[rank])
        self.run()

    # Looking

    def phase(self, conn: Conn) -> SessionPhase:
        for event in reversed(self.events):
            if isinstance(event, SessionChanged) and event.conn == conn:
                return event.phase
        return SessionPhase.DOWN

    def reasons(self, conn: Conn) -> list[str]:
        return [
            event.reason
            for event in self.events
            if isinstance(event, SessionChanged) and event.conn == conn and event.reason
        ]

    def methods(self, conn: Conn) -> list[str]:
        return [str(request["method"]) for where, request in self.sent if where is conn]

    def last(self, method: str) -> Answer:
        """The parameters of the last request of a method."""
        for _, request in reversed(self.sent):
            if request["method"] == method:
                params = request["params"]
                assert isinstance(params, dict)
                return params
        raise AssertionError(f"{method} was never sent")

    def _serve(self, frame: OutFrame) -> None:
        assert classify(frame.payload) is frame.kind, frame.payload
        assert len(frame.payload) < 32_768
        self.frames.append(frame)
        self.times_ns.append(self.now_ns)
        request = orjson.loads(fill(frame.payload, SECRET, self.vaults[frame.conn]))
        self.sent.append((frame.conn, request))
        if request["method"] in self.holds:
            self.held.append((frame.conn, request))
            return
        self.answer(frame.conn, request)

    def _collect(self, events: list[Event]) -> list[Event]:
        self.events += events
        return events

    def _auth(self, params: dict[str, object]) -> object:
        return {
            "access_token": f"access-{self.now_ns}",
            "refresh_token": f"refresh-{self.now_ns}",
            "expires_in": 900,
            "scope": SCOPE,
            "token_type": "bearer",
        }


def ready_peer(settings: DeribitSettings = SETTINGS) -> Peer:
    """All three sessions ready, and what was said on the way forgotten."""
    peer = Peer(settings)
    peer.replies["private/set_mmp_config"] = lambda params: peer.mmp.update(params) or []
    peer.connect(*Conn)
    for conn in Conn:
        assert peer.phase(conn) is SessionPhase.READY, (conn, peer.reasons(conn))
    peer.events.clear()
    peer.sent.clear()
    peer.frames.clear()
    peer.times_ns.clear()
    return peer
