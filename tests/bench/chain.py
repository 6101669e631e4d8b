"""The option chain that the bench trades: listing, prices and frames as the venue would send them.

Prices are Black-76 on one flat vol and do not move; what moves is the perpetual, and with it every
forward. Books are two to three ticks wide, as the venue's are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import orjson

from mm_daemon.pricing.black76 import price as black76_price

PERPETUAL = "BTC-PERPETUAL"
SPOT_USD = 100_000.0
VOL = 0.6
TICK_FINE, TICK_COARSE, COARSE_ABOVE = 0.0001, 0.0005, 0.005
DAY_MS = 86_400_000
HOUR_MS = 3_600_000
SETTLES_AT_MS = 8 * HOUR_MS
_NOTE = b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"%b","data":%b}}'

Row = dict[str, object]


@dataclass(frozen=True)
class Option:
    name: str
    strike: float
    is_call: bool
    expiry_ms: int
    price_coin: float
    """At the spot that the books are centred on."""
    bid: float
    ask: float


@dataclass(frozen=True)
class Chain:
    """Options by name in listing order, and the listing itself."""

    options: dict[str, Option]
    listing: list[Row]
    now_ms: int


def make_chain(now_ms: int, *, expiries: int, strikes: int) -> Chain:
    """`expiries` x `strikes` x 2 options from a fortnight on, none so far out that it is worthless.

    Strikes span two standard deviations to each side, so every delta is well inside (0, 1).
    """
    options: dict[str, Option] = {}
    for row in range(expiries):
        expiry_ms = _settlement_ms(now_ms, days=14 + 10 * row)
        years = (expiry_ms - now_ms) / (365.0 * DAY_MS)
        reach = 1.8 * VOL * math.sqrt(years)
        logs = np.linspace(-reach, reach, strikes)
        for strike in np.unique(np.round(SPOT_USD * np.exp(logs), -2)):
            for is_call in (True, False):
                option = _option(float(strike), is_call, expiry_ms, years)
                options[option.name] = option
    listing = [_perpetual_row(now_ms), *(_option_row(one, now_ms) for one in options.values())]
    return Chain(options, listing, now_ms)


def book_note(channel: str, name: str, now_ms: int, change_id: int, **sides: object) -> bytes:
    """A snapshot where `prev_change_id` is not among `sides`, else a change."""
    kind = "change" if "prev_change_id" in sides else "snapshot"
    body: Row = {
        "type": kind,
        "timestamp": now_ms,
        **{key: sides[key] for key in ("prev_change_id",) if key in sides},
        "instrument_name": name,
        "change_id": change_id,
        "bids": sides["bids"],
        "asks": sides["asks"],
    }
    return note(channel, body)


def note(channel: str, body: object) -> bytes:
    """One notification, its fields in the venue's order."""
    return _NOTE % (channel.encode(), orjson.dumps(body))


def option_ticker(option: Option, now_ms: int, *, spot: float = SPOT_USD) -> Row:
    return {
        "timestamp": now_ms,
        "state": "open",
        "stats": {"high": 0.05, "low": 0.01, "price_change": 1.2, "volume": 12.0},
        "greeks": {"delta": 0.5, "gamma": 0.00001, "vega": 100.0, "theta": -50.0, "rho": 10.0},
        "index_price": spot,
        "instrument_name": option.name,
        "last_price": option.price_coin,
        "min_price": 0.0001,
        "max_price": 10.0,
        "open_interest": 100.0,
        "mark_price": round(option.price_coin, 6),
        "best_bid_price": option.bid,
        "best_ask_price": option.ask,
        "mark_iv": 100.0 * VOL,
        "bid_iv": 99.0 * VOL,
        "ask_iv": 101.0 * VOL,
        "underlying_price": spot,
        "underlying_index": "index_price",
        "interest_rate": 0.0,
        "estimated_delivery_price": spot,
        "best_bid_amount": 10.0,
        "best_ask_amount": 10.0,
    }


def perpetual_ticker(now_ms: int, *, spot: float = SPOT_USD) -> Row:
    return {
        "timestamp": now_ms,
        "state": "open",
        "index_price": spot,
        "instrument_name": PERPETUAL,
        "last_price": spot,
        "min_price": 0.9 * spot,
        "max_price": 1.1 * spot,
        "open_interest": 1e6,
        "mark_price": spot,
        "best_bid_price": spot - 0.5,
        "best_ask_price": spot + 0.5,
        "funding_8h": 0.0,
        "current_funding": 0.0,
        "best_bid_amount": 1000.0,
        "best_ask_amount": 1000.0,
    }


def grid_down(price: float) -> float:
    """The legal price next below."""
    tick = TICK_COARSE if price > COARSE_ABOVE + 1e-12 else TICK_FINE
    return round(price - tick, 4)


def grid_up(price: float) -> float:
    """The legal price next above."""
    tick = TICK_COARSE if price >= COARSE_ABOVE - 1e-12 else TICK_FINE
    return round(price + tick, 4)


def _settlement_ms(now_ms: int, *, days: int) -> int:
    return (now_ms // DAY_MS + days) * DAY_MS + SETTLES_AT_MS


def _option(strike: float, is_call: bool, expiry_ms: int, years: float) -> Option:
    price_coin = float(black76_price(SPOT_USD, strike, years, VOL, is_call)) / SPOT_USD
    tick = TICK_COARSE if price_coin > COARSE_ABOVE else TICK_FINE
    below = round(math.floor(price_coin / tick) * tick, 4)
    day = datetime.fromtimestamp(expiry_ms / 1e3, UTC)
    return Option(
        name=f"BTC-{day.day}{day:%b%y}-{strike:.0f}-{'C' if is_call else 'P'}".upper(),
        strike=strike,
        is_call=is_call,
        expiry_ms=expiry_ms,
        price_coin=price_coin,
        bid=grid_down(below),
        ask=grid_up(grid_up(below)),
    )


def _option_row(option: Option, now_ms: int) -> Row:
    return {
        "instrument_name": option.name,
        "kind": "option",
        "base_currency": "BTC",
        "quote_currency": "BTC",
        "counter_currency": "USD",
        "settlement_currency": "BTC",
        "instrument_type": "reversed",
        "price_index": "btc_usd",
        "tick_size": TICK_FINE,
        "tick_size_steps": [{"above_price": COARSE_ABOVE, "tick_size": TICK_COARSE}],
        "min_trade_amount": 0.1,
        "contract_size": 1.0,
        "strike": option.strike,
        "option_type": "call" if option.is_call else "put",
        "expiration_timestamp": option.expiry_ms,
        "creation_timestamp": now_ms - DAY_MS,
        "settlement_period": "month",
        "is_active": True,
        "state": "open",
        "maker_commission": 0.0,
        "taker_commission": 0.0003,
    }


def _perpetual_row(now_ms: int) -> Row:
    return {
        "instrument_name": PERPETUAL,
        "kind": "future",
        "base_currency": "BTC",
        "quote_currency": "USD",
        "counter_currency": "USD",
        "settlement_currency": "BTC",
        "instrument_type": "reversed",
        "price_index": "btc_usd",
        "tick_size": 0.5,
        "tick_size_steps": [],
        "min_trade_amount": 10.0,
        "contract_size": 10.0,
        "expiration_timestamp": 32_503_708_800_000,
        "creation_timestamp": now_ms - DAY_MS,
        "settlement_period": "perpetual",
        "is_active": True,
        "state": "open",
        "maker_commission": 0.0,
        "taker_commission": 0.0005,
    }
