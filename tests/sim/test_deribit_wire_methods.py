"""What the methods answer: shapes, refusals, and empty lists where there is nothing."""

from typing import Any

import pytest

from mm_daemon.sim.deribit_wire_methods import METHODS
from mm_daemon.sim.spec import DAY_US, E8, HOUR_US, SECOND_US
from tests.sim.wire_rig import CALL, EXPIRY_US, FUTURE, PERP, PUT, START_US, Client, Rig

ANY_TIME = {"start_timestamp": 0, "end_timestamp": 4_000_000_000_000}


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture
def maker(rig: Rig) -> Client:
    return rig.named()


def traded(rig: Rig, *, price: float = 100_000, amount: float = 10, name: str = PERP) -> Any:
    """A fill between the demo accounts; the taker's reply."""
    maker, taker = rig.named(), rig.named("demo-taker")
    maker.order("sell", instrument_name=name, price=price, amount=amount, label="m")
    return taker.ask("private/buy", instrument_name=name, amount=amount, price=price, label="t")


# Reference and market data


def test_instruments_come_in_deribits_current_schema(maker: Client) -> None:
    rows = {row["instrument_name"]: row for row in maker.ask("public/get_instruments")}
    assert set(rows) == {PERP, FUTURE, CALL, PUT}
    call = rows[CALL]
    assert call["tick_size"] == 0.0001
    assert call["tick_size_steps"] == [{"above_price": 0.005, "tick_size": 0.0005}]
    assert (call["quote_currency"], call["counter_currency"]) == ("BTC", "USD")
    assert (call["strike"], call["option_type"], call["kind"]) == (100_000.0, "call", "option")
    assert call["expiration_timestamp"] == EXPIRY_US // 1_000
    assert rows[PERP]["settlement_period"] == "perpetual"
    assert rows[PERP]["instrument_type"] == "reversed"
    assert "strike" not in rows[PERP]
    assert maker.ask("public/get_instrument", instrument_name=CALL) == call


@pytest.mark.parametrize("currency", ["ETH", "SOL", "USDC", "USDT", "EURR", "XRP"])
def test_a_currency_with_nothing_in_it_answers_empty_lists(maker: Client, currency: str) -> None:
    for method in (
        "public/get_instruments",
        "public/get_book_summary_by_currency",
        "private/get_open_orders_by_currency",
        "private/get_order_history_by_currency",
        "private/get_positions",
    ):
        assert maker.ask(method, currency=currency) == []
    fills = maker.ask("private/get_user_trades_by_currency", currency=currency)
    assert fills == {"trades": [], "has_more": False}
    prints = maker.ask("public/get_last_trades_by_currency", currency=currency)
    assert prints == {"trades": [], "has_more": False}
    assert maker.ask("private/cancel_all_by_currency", currency=currency) == 0
    logs = maker.ask("private/get_transaction_log", currency=currency, **ANY_TIME)
    assert [row["currency"] for row in logs["logs"]] in ([], [currency])


@pytest.mark.parametrize("kind", ["spot", "future_combo", "option_combo", "combo"])
def test_a_kind_that_is_not_listed_answers_empty_lists(maker: Client, kind: str) -> None:
    assert maker.ask("public/get_instruments", currency="any", kind=kind) == []
    assert maker.ask("private/get_open_orders", kind=kind) == []
    assert maker.ask("private/cancel_all_by_kind_or_type", currency="any", kind=kind) == 0


def test_any_means_every_currency_and_kind(maker: Client) -> None:
    assert len(maker.ask("public/get_instruments", currency="any", kind="any")) == 4
    assert len(maker.ask("public/get_book_summary_by_currency", currency="any")) == 4
    assert maker.ask("private/get_positions", currency="any", kind="any") == []


def test_wrong_words_name_the_parameter(maker: Client) -> None:
    for method, params, name in (
        ("public/get_instruments", {"currency": "DOGE"}, "currency"),
        ("public/get_instruments", {"kind": "swap"}, "kind"),
        ("public/ticker", {}, "instrument_name"),
        ("public/ticker", {"instrument_name": "BTC-1JAN20"}, "instrument_name"),
        ("public/get_index_price", {"index_name": "doge_usd"}, "index_name"),
        ("private/get_open_orders_by_currency", {}, "currency"),
        ("public/get_tradingview_chart_data", {"instrument_name": PERP}, "resolution"),
    ):
        error = maker.refused(method, **params)
        assert (error["code"], error["data"]["param"]) == (-32602, name)


def test_a_ticker_speaks_of_what_its_kind_has(maker: Client) -> None:
    perp = maker.ask("public/ticker", instrument_name=PERP)
    assert {"current_funding", "funding_8h", "interest_value"} <= set(perp)
    assert "greeks" not in perp
    assert perp["best_bid_price"] == 0.0
    assert perp["last_price"] is None
    assert perp["stats"]["volume_usd"] == 0.0
    call = maker.ask("public/ticker", instrument_name=CALL)
    assert call["underlying_index"] == FUTURE
    assert (call["mark_iv"], call["bid_iv"], call["interest_rate"]) == (45.0, 0.0, 0.0)
    assert "current_funding" not in call
    assert call["min_price"] <= call["mark_price"] <= call["max_price"]


def test_an_order_book_is_the_ticker_with_levels(maker: Client) -> None:
    maker.order()
    maker.order("sell")
    book = maker.ask("public/get_order_book", instrument_name=PERP, depth=1)
    assert (book["bids"], book["asks"]) == ([[99_000.0, 10.0]], [[101_000.0, 10.0]])
    assert book["change_id"] > 0
    assert book["best_bid_price"] == 99_000.0
    number = maker.ask("public/get_instrument", instrument_name=PERP)["instrument_id"]
    again = maker.ask("public/get_order_book_by_instrument_id", instrument_id=number)
    assert again["bids"] == book["bids"]


def test_prints_page_by_count_sequence_and_time(rig: Rig, maker: Client) -> None:
    for step in range(4):
        traded(rig, price=100_000 + step)
        rig.move(10)
    newest = maker.ask("public/get_last_trades_by_instrument", instrument_name=PERP, count=2)
    assert [t["price"] for t in newest["trades"]] == [100_003.0, 100_002.0]
    assert newest["has_more"] is True
    oldest = maker.ask(
        "public/get_last_trades_by_instrument", instrument_name=PERP, count=2, sorting="asc"
    )
    assert [t["price"] for t in oldest["trades"]] == [100_000.0, 100_001.0]
    seq = oldest["trades"][1]["trade_seq"]
    later = maker.ask(
        "public/get_last_trades_by_instrument", instrument_name=PERP, start_seq=seq + 1
    )
    assert [t["price"] for t in later["trades"]] == [100_003.0, 100_002.0]
    cut_ms = START_US // 1_000 + 20
    early = maker.ask(
        "public/get_last_trades_by_currency_and_time",
        currency="BTC",
        start_timestamp=0,
        end_timestamp=cut_ms - 1,
    )
    assert [t["price"] for t in early["trades"]] == [100_001.0, 100_000.0]


def test_candles_hold_what_was_traded(rig: Rig, maker: Client) -> None:
    for price in (100_000, 100_010, 99_995):
        traded(rig, price=price)
    chart = maker.ask(
        "public/get_tradingview_chart_data", instrument_name=PERP, resolution="1", **ANY_TIME
    )
    assert chart["status"] == "ok"
    columns = [chart[name] for name in ("open", "high", "low", "close", "volume", "cost")]
    assert columns == [[100_000.0], [100_010.0], [99_995.0], [99_995.0], [30.0], [30.0]]
    empty = maker.ask(
        "public/get_tradingview_chart_data", instrument_name=CALL, resolution="1", **ANY_TIME
    )
    assert empty["status"] == "no_data"


def test_index_volatility_and_expiry_methods_answer(rig: Rig, maker: Client) -> None:
    rig.exchange.set_volatility_index("btc_usd", 55.0, rig.now_us)
    rig.move(10)
    assert maker.ask("public/get_index_price", index_name="btc_usd")["index_price"] == 100_000.0
    assert maker.ask("public/get_index", currency="BTC")["BTC"] == 100_000.0
    assert maker.ask("public/get_index_price_names") == ["btc_usd"]
    candles = maker.ask(
        "public/get_volatility_index_data", currency="BTC", resolution="60", **ANY_TIME
    )
    assert candles["data"][0][1:] == [55.0, 55.0, 55.0, 55.0]
    expirations = maker.ask("public/get_expirations", currency="BTC", kind="any")
    assert expirations == {"future": ["25DEC26", "PERPETUAL"], "option": ["25DEC26"]}
    grouped = maker.ask("public/get_expirations", currency="grouped", kind="option")
    assert grouped == {"btc": {"option": ["25DEC26"]}}
    assert maker.ask("public/get_delivery_prices", index_name="btc_usd") == {
        "data": [],
        "records_total": 0,
    }
    assert maker.ask("public/get_contract_size", instrument_name=PERP) == {"contract_size": 10.0}
    assert "BTC" in [row["currency"] for row in maker.ask("public/get_currencies")]


def test_funding_methods_serve_perpetuals_only(maker: Client) -> None:
    params = {"instrument_name": PERP, **ANY_TIME}
    assert maker.ask("public/get_funding_rate_value", **params) == 0.0
    assert maker.ask("public/get_funding_rate_history", **params) == []
    chart = maker.ask("public/get_funding_chart_data", instrument_name=PERP, length="8h")
    assert chart["index_price"] == 100_000.0
    error = maker.refused("public/get_funding_rate_value", instrument_name=CALL, **ANY_TIME)
    assert error["data"]["param"] == "instrument_name"


# Orders


def test_an_order_object_has_deribits_fields(maker: Client) -> None:
    order = maker.order(label="q1", mmp=False, reduce_only=False)["order"]
    assert order["order_state"] == "open"
    assert (order["price"], order["amount"], order["contracts"]) == (99_000.0, 10.0, 1.0)
    assert (order["filled_amount"], order["average_price"]) == (0.0, 0.0)
    assert (order["label"], order["direction"], order["api"]) == ("q1", "buy", True)
    assert (order["time_in_force"], order["order_type"]) == ("good_til_cancelled", "limit")
    assert order["reject_post_only"] is True
    assert "cancel_reason" not in order
    assert maker.ask("private/get_order_state", order_id=order["order_id"]) == order


def test_a_fill_is_in_the_reply_and_in_the_history(rig: Rig, maker: Client) -> None:
    reply = traded(rig)
    assert reply["order"]["order_state"] == "filled"
    trade = reply["trades"][0]
    assert (trade["liquidity"], trade["direction"], trade["label"]) == ("T", "buy", "t")
    assert (trade["fee_currency"], trade["matching_id"]) == ("BTC", None)
    assert trade["fee"] == pytest.approx(10 / 100_000 * 0.0005)
    mine = maker.ask("private/get_user_trades_by_instrument", instrument_name=PERP)
    assert [t["liquidity"] for t in mine["trades"]] == ["M"]
    order_id = mine["trades"][0]["order_id"]
    assert maker.ask("private/get_user_trades_by_order", order_id=order_id) == mine["trades"]
    history = maker.ask("private/get_order_history_by_currency", currency="BTC")
    assert [o["order_id"] for o in history] == [order_id]
    timed = maker.ask(
        "private/get_user_trades_by_currency_and_time", currency="BTC", **ANY_TIME, count=1
    )
    assert timed == {"trades": mine["trades"], "has_more": False}


def test_refusals_of_orders_carry_deribits_codes(maker: Client) -> None:
    base: dict[str, object] = {"instrument_name": CALL, "amount": 0.1, "price": 0.03}
    cases: list[tuple[dict[str, object], int]] = [
        ({"amount": None}, -32602),
        ({"price": 0.0305123456789}, 10026),
        ({"price": 0.03052}, 10043),
        ({"amount": -1}, 10021),
        ({"type": "stop_limit", "trigger_price": 1}, -32602),
        ({"advanced": "usd"}, -32602),
        ({"display_amount": 0.05}, -32602),
        ({"type": "market", "time_in_force": "fill_or_kill"}, -32602),
        ({"label": "x" * 65}, -32602),
        ({"time_in_force": "forever"}, -32602),
        ({"valid_until": START_US // 1_000 - 1}, 13888),
        ({"price": "0.03"}, -32602),
    ]
    for change, code in cases:
        assert maker.refused("private/buy", **(base | change))["code"] == code, change
    assert maker.ask("private/get_open_orders") == []


def test_edits_by_id_and_label_change_the_order(maker: Client) -> None:
    order_id = maker.order(label="q")["order"]["order_id"]
    edited = maker.ask("private/edit", order_id=order_id, amount=30, price=98_000)
    assert (edited["order"]["amount"], edited["order"]["price"]) == (30.0, 98_000.0)
    assert edited["trades"] == []
    again = maker.ask(
        "private/edit_by_label", label="q", instrument_name=PERP, amount=40, price=98_000
    )
    assert again["order"]["amount"] == 40.0
    maker.order(label="q", price=97_000)
    error = maker.refused(
        "private/edit_by_label", label="q", instrument_name=PERP, amount=10, price=98_000
    )
    assert error["code"] == 13032


@pytest.mark.parametrize(
    ("method", "params", "left"),
    [
        ("cancel_all", {}, []),
        ("cancel_all_by_currency", {"currency": "BTC"}, []),
        ("cancel_all_by_currency", {"currency": "BTC", "kind": "option"}, ["perp"]),
        ("cancel_all_by_currency_pair", {"currency_pair": "btc_usd"}, []),
        ("cancel_all_by_instrument", {"instrument_name": CALL}, ["perp"]),
        ("cancel_all_by_instrument", {"instrument_name": CALL, "type": "stop"}, ["call", "perp"]),
        ("cancel_all_by_kind_or_type", {"currency": ["BTC", "ETH"], "kind": "future"}, ["call"]),
        ("cancel_all_by_kind_or_type", {"currency": "any", "type": "limit"}, []),
        ("cancel_by_label", {"label": "perp"}, ["call"]),
    ],
)
def test_every_mass_cancel_takes_what_it_names(
    maker: Client, method: str, params: dict[str, object], left: list[str]
) -> None:
    maker.order(label="perp")
    maker.order(label="call", instrument_name=CALL, amount=0.1, price=0.03)
    assert maker.ask(f"private/{method}", **params) == 2 - len(left)
    still = sorted(o["label"] for o in maker.ask("private/get_open_orders"))
    assert still == left


def test_a_detailed_cancel_returns_the_reports_by_book(maker: Client) -> None:
    maker.order(label="a")
    maker.order(label="b")
    (report,) = maker.ask("private/cancel_all", detailed=True)
    assert (report["instrument_name"], report["currency"]) == (PERP, "BTC")
    states = {(o["label"], o["order_state"], o["cancel_reason"]) for o in report["result"]}
    assert states == {("a", "cancelled", "user_request"), ("b", "cancelled", "user_request")}


def test_open_orders_are_found_by_instrument_and_label(maker: Client) -> None:
    maker.order(label="a")
    maker.order(label="b", instrument_name=CALL, amount=0.1, price=0.03)

    def labels(method: str, **params: object) -> list[str]:
        return [o["label"] for o in maker.ask(f"private/{method}", **params)]

    assert labels("get_open_orders", kind="option") == ["b"]
    assert labels("get_open_orders_by_currency", currency="BTC") == ["a", "b"]
    assert labels("get_open_orders_by_instrument", instrument_name=PERP) == ["a"]
    assert labels("get_open_orders_by_label", currency="BTC", label="b") == ["b"]


def test_close_position_sends_the_opposite_of_what_is_held(rig: Rig) -> None:
    traded(rig)
    maker, taker = rig.named(), rig.named("demo-taker")
    maker.order(price=99_900, amount=100)
    reply = taker.ask("private/close_position", instrument_name=PERP, type="market")
    assert (reply["order"]["direction"], reply["order"]["filled_amount"]) == ("sell", 10.0)
    error = taker.refused("private/close_position", instrument_name=PERP, type="market")
    assert error["code"] == 10010


# Mass quotes


def quoting(rig: Rig) -> Client:
    client = rig.named()
    client.ask("private/enable_cancel_on_disconnect")
    stored = client.ask(
        "private/set_mmp_config",
        index_name="btc_usd",
        mmp_group="g",
        interval=1,
        frozen_time=2,
        max_quote_quantity=10,
        quantity_limit=50,
    )
    assert stored[0]["mmp_group"] == "g"
    return client


def quote(name: str = CALL, bid: float = 0.03, ask: float = 0.04) -> dict[str, object]:
    return {
        "instrument_name": name,
        "quote_set_id": "s1",
        "bid": {"price": bid, "amount": 1, "post_only": True, "reject_post_only": True},
        "ask": {"price": ask, "amount": 1, "post_only": True, "reject_post_only": True},
    }


def test_a_mass_quote_is_counted_or_detailed(rig: Rig) -> None:
    client = quoting(rig)
    counted = client.ask("private/mass_quote", mmp_group="g", quote_id="1", quotes=[quote()])
    assert counted == {"errors_count": 0, "pending_requests_count": 0}
    detailed = client.ask(
        "private/mass_quote",
        mmp_group="g",
        quote_id="2",
        quotes=[quote(PUT), quote(CALL, bid=0.03001)],
        detailed=True,
    )
    assert {o["quote_id"] for o in detailed["orders"]} >= {"2"}
    assert detailed["errors"][0]["side"] == "bid"
    assert detailed["errors"][0]["error"]["code"] == 10043
    live = client.ask("private/get_open_orders")
    assert all(o["quote"] and o["mmp_group"] == "g" for o in live)


@pytest.mark.parametrize(
    ("params", "count"),
    [
        ({"cancel_type": "all"}, 4),
        ({"cancel_type": "instrument", "instrument_name": CALL}, 2),
        ({"cancel_type": "quote_set_id", "quote_set_id": "s1"}, 4),
        ({"cancel_type": "currency", "currency": "BTC"}, 4),
        ({"cancel_type": "currency", "currency": "ETH"}, 0),
        ({"cancel_type": "instrument_kind", "kind": "option", "currency": "BTC"}, 4),
        ({"cancel_type": "delta", "min_delta": 0.1, "max_delta": 0.9}, 2),
        ({"cancel_type": "currency_pair", "currency_pair": "btc_usd"}, 4),
    ],
)
def test_quotes_are_cancelled_by_every_type(
    rig: Rig, params: dict[str, object], count: int
) -> None:
    client = quoting(rig)
    client.ask("private/mass_quote", mmp_group="g", quote_id="1", quotes=[quote(), quote(PUT)])
    assert client.ask("private/cancel_quotes", **params) == count


def test_mass_quotes_are_refused_without_their_conditions(rig: Rig) -> None:
    bare = rig.named()
    params: dict[str, Any] = {"mmp_group": "g", "quote_id": "1", "quotes": [quote()]}
    assert bare.refused("private/mass_quote", **params)["code"] == 13042
    bare.ask("private/enable_cancel_on_disconnect")
    assert bare.refused("private/mass_quote", **params)["code"] == 13040
    assert rig.named("demo-taker").refused("private/mass_quote", **params)["code"] == 13902


def test_protection_is_configured_read_back_triggered_and_reset(rig: Rig) -> None:
    client = quoting(rig)
    (config,) = client.ask("private/get_mmp_config", index_name="btc_usd", mmp_group="g")
    limits = (config["quantity_limit"], config["delta_limit"], config["max_quote_quantity"])
    assert limits == (50.0, 0.0, 10.0)
    tight = {"quantity_limit": 0.5, "max_quote_quantity": 10, "interval": 10, "frozen_time": 0}
    client.ask("private/set_mmp_config", index_name="btc_usd", mmp_group="g", **tight)
    client.ask("private/subscribe", channels=["user.mmp_trigger.btc_usd"])
    small = quote()
    small["ask"] = {"price": 0.04, "amount": 0.4, "post_only": True}
    small["bid"] = {"price": 0.03, "amount": 0.4, "post_only": True}
    client.ask("private/mass_quote", mmp_group="g", quote_id="1", quotes=[small])
    taker = rig.named("demo-taker")
    for amount, quote_id in ((0.4, "2"), (0.2, "3")):
        params = {"instrument_name": CALL, "amount": amount, "price": 0.04}
        taker.ask("private/buy", **params, time_in_force="immediate_or_cancel")
        client.exchange_frame(
            "private/mass_quote", mmp_group="g", quote_id=quote_id, quotes=[small]
        )
    (trigger,) = client.heard("user.mmp_trigger.btc_usd")
    assert trigger == {"index_name": "btc_usd", "frozen_until": 0, "mmp_group": "g"}
    assert client.ask("private/get_mmp_status") == [trigger]
    assert client.ask("private/reset_mmp", index_name="btc_usd", mmp_group="g") == "ok"
    assert client.ask("private/get_mmp_status") == []


# Account


def test_positions_speak_of_what_their_kind_has(rig: Rig, maker: Client) -> None:
    traded(rig)
    traded(rig, name=CALL, price=0.035, amount=1)
    rows = {p["instrument_name"]: p for p in maker.ask("private/get_positions", currency="BTC")}
    perp, call = rows[PERP], rows[CALL]
    assert (perp["size"], perp["direction"]) == (-10.0, "sell")
    assert perp["size_currency"] == pytest.approx(-10 / 100_000, rel=1e-6)
    assert (call["size"], call["delta"]) == (-1.0, -0.52)
    assert {"gamma", "vega", "theta"} <= set(call)
    assert "size_currency" not in call
    flat = maker.ask("private/get_position", instrument_name=PUT)
    assert (flat["size"], flat["direction"]) == (0.0, "zero")


def test_account_summaries_state_limits_and_fees(maker: Client) -> None:
    row = maker.ask("private/get_account_summary", currency="BTC", extended=True)
    assert (row["equity"], row["balance"], row["currency"]) == (200.0, 200.0, "BTC")
    assert row["margin_model"] == "segregated_pm"
    assert row["portfolio_margining_enabled"] is True
    engine = row["limits"]["matching_engine"]
    assert engine["trading"]["total"] == {"rate": 30, "burst": 100}
    assert set(engine) >= {"maximum_quotes", "maximum_mass_quotes", "cancel_all"}
    assert {fee["instrument_type"] for fee in row["fees"]} == {"option", "future", "perpetual"}
    both = maker.ask("private/get_account_summaries", extended=True)
    assert [s["currency"] for s in both["summaries"]] == ["BTC", "USDC"]
    assert both["id"] == row["id"]
    (sub,) = maker.ask("private/get_subaccounts", with_portfolio=True)
    assert sub["portfolio"]["btc"]["equity"] == 200.0


def test_a_currency_the_account_does_not_hold_is_all_zeros(maker: Client) -> None:
    held = maker.ask("private/get_account_summary", currency="BTC")
    row = maker.ask("private/get_account_summary", currency="SOL")
    assert set(row) == set(held)
    assert row["currency"] == "SOL"
    assert row["equity"] == 0.0


def test_the_transaction_log_pages_newest_first_and_sums_to_the_balance(
    rig: Rig, maker: Client
) -> None:
    for step in range(5):
        traded(rig, name=CALL, price=0.035 + step / 1_000, amount=1)
    rows: list[Any] = []
    params: dict[str, Any] = {"currency": "BTC", "count": 3, **ANY_TIME}
    while True:
        page = maker.ask("private/get_transaction_log", **params)
        rows += page["logs"]
        if page["continuation"] is None:
            break
        params["continuation"] = page["continuation"]
    assert len({row["id"] for row in rows}) == len(rows)
    balance = maker.ask("private/get_account_summary", currency="BTC")["balance"]
    assert sum(row["change"] for row in rows) == pytest.approx(balance, abs=1e-9)
    assert rows[0]["balance"] == balance


def test_self_trading_is_set_and_read_back(maker: Client) -> None:
    assert maker.ask("private/get_self_trading_config")["mode"] == "reject_taker"
    maker.ask("private/set_self_trading_config", mode="cancel_maker")
    assert maker.ask("private/get_self_trading_config")["mode"] == "cancel_maker"
    maker.order("sell", price=100_000, label="rests")
    maker.ask("private/buy", instrument_name=PERP, amount=10, price=100_000, label="takes")
    assert [o["label"] for o in maker.ask("private/get_open_orders")] == ["takes"]


def test_an_expiry_settles_and_its_ledgers_say_so(rig: Rig, maker: Client) -> None:
    traded(rig, name=CALL, price=0.035, amount=1)
    maker.ask("private/subscribe", channels=["instrument.state.option.BTC"])
    for day in range((EXPIRY_US - START_US) // DAY_US):
        rig.now_us = START_US + (day + 1) * DAY_US
        rig.venue.pump(rig.now_us)
        maker.session.last_active_us = rig.now_us
    rig.now_us = EXPIRY_US - HOUR_US
    while rig.now_us < EXPIRY_US + 10 * SECOND_US:
        rig.now_us += 6 * SECOND_US
        rig.exchange.set_index("btc_usd", 110_000 * E8, rig.now_us)
        rig.venue.pump(rig.now_us)
    states = [s["state"] for s in maker.heard("instrument.state.option.BTC")]
    assert states[-1] in ("delivered", "archivized")
    client = rig.named()
    history = client.ask("private/get_settlement_history_by_currency", currency="BTC")
    delivery = next(r for r in history["settlements"] if r["type"] == "delivery")
    assert delivery["instrument_name"] == CALL
    assert delivery["position"] == -1.0
    prices = client.ask("public/get_delivery_prices", index_name="btc_usd")
    assert prices["data"][0] == {"date": "2026-12-25", "delivery_price": 110_000.0}
    public = client.ask("public/get_last_settlements_by_currency", currency="BTC", type="delivery")
    assert CALL in [r["instrument_name"] for r in public["settlements"]]
    error = client.refused("private/buy", instrument_name=CALL, amount=1, price=0.03)
    assert error["code"] in (-32602, 10020, 10012)


def test_reads_that_have_nothing_to_say_say_it(maker: Client) -> None:
    for method in ("get_deposits", "get_withdrawals", "get_transfers"):
        assert maker.ask(f"private/{method}", currency="BTC") == {"count": 0, "data": []}
    assert maker.ask("private/get_block_rfqs")["block_rfqs"] == []
    assert maker.ask("public/get_combos", currency="BTC") == []
    assert maker.ask("private/get_current_deposit_address", currency="BTC") is None
    assert maker.ask("private/get_trigger_order_history", currency="BTC")["entries"] == []
    log = maker.ask("private/get_access_log")
    assert log["records_total"] == 1


def test_withheld_methods_are_told_apart_from_unknown_ones(maker: Client) -> None:
    assert maker.refused("private/withdraw", currency="BTC")["code"] == 13025
    assert maker.refused("private/never_heard_of")["code"] == -32601


def test_every_method_survives_a_call_without_parameters(rig: Rig) -> None:
    for name in METHODS:
        client = rig.named()
        rig.jump(5)
        frame = client.exchange_frame(name)
        error = frame.get("error")
        assert error is None or error["code"] in (-32602, 13025, 11050, 11054, 10004), (name, error)
