"""A small real exchange behind the wire, and clients that speak frames to it without a socket."""

from typing import Any

import orjson

from mm_daemon.sim.deribit_wire import HttpAnswer, WireVenue
from mm_daemon.sim.deribit_wire_auth import TEST_SECRET
from mm_daemon.sim.deribit_wire_session import Session
from mm_daemon.sim.exchange import Exchange
from mm_daemon.sim.exchange_config import AccountConfig, ExchangeConfig
from mm_daemon.sim.exchange_records import Mark
from mm_daemon.sim.exchange_types import MarginModel
from mm_daemon.sim.spec import (
    DAY_US,
    E8,
    PERPETUAL_EXPIRY_US,
    InstrumentSpec,
    Kind,
    OptionType,
    TickStep,
    next_settlement_us,
)

START_US = 1_795_000_000_000_000
PERP = "BTC-PERPETUAL"
CALL = "BTC-25DEC26-100000-C"
PUT = "BTC-25DEC26-100000-P"
FUTURE = "BTC-25DEC26"
EXPIRY_US = 1_798_185_600_000_000
SPOT = 100_000


def _spec(name: str, number: int, **changed: Any) -> InstrumentSpec:
    terms: dict[str, Any] = {
        "name": name,
        "instrument_id": number,
        "currency": "BTC",
        "base_currency": "BTC",
        "counter_currency": "USD",
        "settlement_currency": "BTC",
        "price_index": "btc_usd",
        "is_inverse": True,
        "creation_us": START_US - DAY_US,
        "expiry_us": EXPIRY_US,
        "settlement_period": "month",
        "max_liquidation_commission_e8": 750_000,
        "band_ratio_e8": 3_000_000,
        "band_abs_e8": 0,
        "block_trade_commission_e8": 25_000,
        "block_trade_tick_size_e8": 1_000_000,
        "block_trade_min_trade_amount_e8": 200_000 * E8,
    }
    return InstrumentSpec(**(terms | changed))


def future_spec(name: str, number: int, **changed: Any) -> InstrumentSpec:
    """An inverse future of ten dollars a contract."""
    terms = {
        "kind": Kind.FUTURE,
        "quote_currency": "USD",
        "tick_size_e8": E8 // 2,
        "min_trade_amount_e8": 10 * E8,
        "amount_step_e8": 10 * E8,
        "contract_size_e8": 10 * E8,
        "max_leverage": 50,
        "maker_commission_e8": 0,
        "taker_commission_e8": 50_000,
    }
    return _spec(name, number, **(terms | changed))


def option_spec(name: str, number: int, **changed: Any) -> InstrumentSpec:
    """An inverse option of one coin a contract."""
    terms = {
        "kind": Kind.OPTION,
        "quote_currency": "BTC",
        "tick_size_e8": 10_000,
        "tick_steps": (TickStep(above_price_e8=500_000, tick_size_e8=50_000),),
        "min_trade_amount_e8": E8 // 10,
        "amount_step_e8": E8 // 10,
        "contract_size_e8": E8,
        "strike_e8": 100_000 * E8,
        "option_type": OptionType.CALL if name.endswith("C") else OptionType.PUT,
        "maker_commission_e8": 30_000,
        "taker_commission_e8": 30_000,
        "band_ratio_e8": 0,
        "band_abs_e8": E8,
    }
    return _spec(name, number, **(terms | changed))


def small_exchange(now_us: int = START_US) -> Exchange:
    """Four BTC instruments with marks, and the demo accounts."""
    assert next_settlement_us(now_us) > now_us
    exchange = Exchange(ExchangeConfig(), now_us)
    exchange.open_account(
        AccountConfig(
            name="demo-maker",
            user_id=1001,
            balances_e8={"BTC": 200 * E8, "USDC": 1_000_000 * E8},
            tier=1,
            margin_model=MarginModel.PORTFOLIO,
            mass_quotes_enabled=True,
        ),
        now_us,
    )
    exchange.open_account(
        AccountConfig(name="demo-taker", user_id=1002, balances_e8={"BTC": 50 * E8}, tier=1),
        now_us,
    )
    exchange.set_index("btc_usd", SPOT * E8, now_us)
    exchange.list_instrument(
        future_spec(PERP, 1, settlement_period="perpetual", expiry_us=PERPETUAL_EXPIRY_US),
        now_us,
    )
    exchange.list_instrument(future_spec(FUTURE, 2), now_us)
    exchange.list_instrument(option_spec(CALL, 3), now_us)
    exchange.list_instrument(option_spec(PUT, 4), now_us)
    publish_marks(exchange, now_us)
    return exchange


def publish_marks(exchange: Exchange, now_us: int, option_price_e8: int = 3_500_000) -> None:
    """Marks of every instrument of the rig."""
    option = {
        "mark_price_e8": option_price_e8,
        "mark_iv_pct": 45.0,
        "underlying_price_e8": SPOT * E8,
        "underlying_index": FUTURE,
        "gamma": 0.00002,
        "vega": 120.0,
        "theta": -60.0,
        "rho": 10.0,
    }
    exchange.set_marks(
        "btc_usd",
        [
            Mark(instrument=PERP, mark_price_e8=SPOT * E8, delta=1.0),
            Mark(instrument=FUTURE, mark_price_e8=SPOT * E8, delta=1.0),
            Mark(instrument=CALL, delta=0.52, **option),
            Mark(instrument=PUT, delta=-0.48, **option),
        ],
        now_us,
    )


class Rig:
    """A venue at a moment that tests move by hand."""

    def __init__(self) -> None:
        self.now_us = START_US
        self.exchange = small_exchange(self.now_us)
        self.venue = WireVenue(self.exchange)
        self.venue.pump(self.now_us)

    def client(self, peer: str = "10.0.0.1") -> "Client":
        """A nameless client."""
        return Client(self, self.venue.open_session(peer=peer, now_us=self.now_us))

    def named(self, client_id: str = "demo-maker", scope: str = "") -> "Client":
        """A client authenticated by credentials."""
        client = self.client()
        reply = client.ask(
            "public/auth",
            grant_type="client_credentials",
            client_id=client_id,
            client_secret=TEST_SECRET,
            scope=scope,
        )
        client.token = reply["access_token"]
        client.refresh_token = reply["refresh_token"]
        return client

    def move(self, milliseconds: float) -> None:
        """Let time pass in steps of ten milliseconds, as a server's timer would."""
        end_us = self.now_us + round(milliseconds * 1_000)
        while self.now_us < end_us:
            self.now_us = min(self.now_us + 10_000, end_us)
            self.venue.pump(self.now_us)

    def jump(self, seconds: float) -> None:
        """Let time pass in one step."""
        self.now_us += round(seconds * 1e6)
        self.venue.pump(self.now_us)

    def http(
        self,
        method: str,
        query: dict[str, object] | None = None,
        *,
        token: str | None = None,
        body: bytes = b"",
    ) -> tuple[int, dict[str, Any]]:
        """One REST call answered at once: status and body."""
        answer = self.venue.http(
            http_method="POST" if body else "GET",
            uri=f"/api/v2/{method}",
            rpc_method=method or None,
            query=query or {},
            authorization=f"Bearer {token}" if token is not None else None,
            body=body,
            peer="10.0.0.9",
            now_us=self.now_us,
        )
        assert isinstance(answer, HttpAnswer)
        return answer.status, orjson.loads(answer.body)


class Client:
    """One connection, spoken to in frames."""

    def __init__(self, rig: Rig, session: Session) -> None:
        self.rig = rig
        self.session = session
        self.token = ""
        self.refresh_token = ""
        self.notes: list[dict[str, Any]] = []
        self.frames: list[dict[str, Any]] = []
        self._id = 0

    def raw(self, frame: bytes) -> None:
        """Send bytes as they are."""
        self.rig.venue.receive(self.session, frame, self.rig.now_us)

    def send(self, method: str, **params: object) -> int:
        """Send a request; returns its id."""
        self._id += 1
        frame = {"jsonrpc": "2.0", "id": self._id, "method": method, "params": params}
        self.raw(orjson.dumps(frame))
        return self._id

    def read(self) -> list[dict[str, Any]]:
        """Every frame sent to this client since the last reading."""
        frames = [orjson.loads(message) for message in self.session.take_outbox()]
        self.frames += frames
        self.notes += [f["params"] for f in frames if f.get("method") == "subscription"]
        return frames

    def exchange_frame(self, method: str, **params: object) -> dict[str, Any]:
        """The whole reply frame of one request."""
        number = self.send(method, **params)
        replies = [frame for frame in self.read() if frame.get("id") == number]
        assert len(replies) == 1, f"{method}: {len(replies)} replies"
        return replies[0]

    def ask(self, method: str, **params: object) -> Any:
        """The result of a request that must succeed."""
        reply = self.exchange_frame(method, **params)
        assert "result" in reply, f"{method}: {reply.get('error')}"
        return reply["result"]

    def refused(self, method: str, **params: object) -> dict[str, Any]:
        """The error of a request that must fail."""
        reply = self.exchange_frame(method, **params)
        assert "error" in reply, f"{method}: unexpectedly {reply.get('result')}"
        error: dict[str, Any] = reply["error"]
        return error

    def heard(self, channel: str) -> list[Any]:
        """The content of every notification of one channel so far."""
        self.read()
        return [note["data"] for note in self.notes if note["channel"] == channel]

    def close(self) -> None:
        """The TCP connection breaks."""
        self.rig.venue.close_session(self.session, self.rig.now_us)

    def order(self, side: str = "buy", **changed: object) -> Any:
        """Place a resting limit order on the perpetual unless told otherwise."""
        params: dict[str, object] = {
            "instrument_name": PERP,
            "amount": 10,
            "price": 99_000 if side == "buy" else 101_000,
            "post_only": True,
            "reject_post_only": True,
        }
        params |= changed
        return self.ask(f"private/{side}", **params)
