"""An expiry over the wire: what is held to its end is settled to the venue's cash.

The venue lists options that expire minutes after its start and averages the delivery price over
seconds. They are too short for a fitted surface, so the daemon quotes none of them; a person trades
them on its account by hand, and the daemon must follow that too.
"""

from __future__ import annotations

import time
from typing import Any

from tests.wire.harness import Daemon, Venue, house, wait_for

QUOTED_MIN = 400
AMOUNT = 2.0
SCRIPT = """
name = "script"
description = "Options that expire 75 s after the start, delivered at the average of 15 s."
activity = -0.25
delivery_window_s = 15.0

[[short_expiries]]
after_min = 1.25
"""


def shortest(venue: Venue) -> tuple[int, list[str]]:
    """The nearest expiry in ms, and its call and put around the money that somebody offers."""
    listed = venue.rest("public/get_instruments", currency="BTC", kind="option", expired="false")
    expiry_ms = min(one["expiration_timestamp"] for one in listed)
    index = venue.rest("public/get_index_price", index_name="btc_usd")["index_price"]
    mine = [one for one in listed if one["expiration_timestamp"] == expiry_ms]
    mine.sort(key=lambda one: abs(one["strike"] - index))
    chosen: dict[str, str] = {}
    for one in mine:
        ticker = venue.rest("public/ticker", instrument_name=one["instrument_name"])
        if ticker["best_ask_price"]:
            chosen.setdefault(one["option_type"], one["instrument_name"])
    assert set(chosen) == {"call", "put"}, chosen
    return expiry_ms, [chosen["call"], chosen["put"]]


def bought(venue: Venue, instrument: str) -> float:
    """Buys by hand at whatever is offered; the amount that was filled."""
    ask = venue.rest("public/ticker", instrument_name=instrument)["best_ask_price"]
    answer = venue.rest(
        "private/buy",
        instrument_name=instrument,
        amount=AMOUNT,
        type="limit",
        price=ask,
        time_in_force="immediate_or_cancel",
    )
    return float(answer["order"]["filled_amount"])


def held(venue: Venue) -> dict[str, float]:
    rows = venue.rest("private/get_positions", currency="BTC")
    return {row["instrument_name"]: row["size"] for row in rows if row["size"]}


def believed(daemon: Daemon) -> dict[str, float]:
    rows = daemon.get("/v1/positions")["positions"]
    return {row["instrument"]: row["amount"] for row in rows}


def equity_is_the_venues(daemon: Daemon) -> bool:
    """To the last place of each unit's rounded mark; cash is exact."""
    units = sum(abs(amount) for name, amount in believed(daemon).items() if "PERP" not in name)
    view: dict[str, Any] = daemon.get("/v1/pnl")
    return bool(abs(view["venue_difference_e8"]["BTC"]) <= max(1.0, units))


def test_options_held_to_their_end_are_settled_to_the_venues_cash() -> None:
    with house() as (venue, daemon):
        script = daemon.directory / "script.toml"
        script.write_text(SCRIPT)
        venue.start(scenario=str(script))
        daemon.start()
        daemon.wait_quoting(QUOTED_MIN)
        expiry_ms, names = shortest(venue)
        assert time.time() * 1e3 < expiry_ms - 20_000, "the daemon took too long to start"
        filled = {name: bought(venue, name) for name in names}
        assert all(filled.values()), filled
        wait_for("equal positions", lambda: set(names) <= set(believed(daemon)), 10.0)
        left_s = expiry_ms / 1e3 - time.time()
        wait_for("the delivery", lambda: not set(names) & set(held(venue)), left_s + 20.0)
        wait_for("ours", lambda: not set(names) & set(believed(daemon)), 30.0)
        wait_for("equal equity", lambda: equity_is_the_venues(daemon), 20.0)
        settled = venue.rest("private/get_settlement_history_by_currency", currency="BTC")
        kinds = [one["type"] for one in settled["settlements"]]
        assert kinds.count("delivery") == len(names), settled
        assert not daemon.events("crash")
        assert daemon.stop() == 0
