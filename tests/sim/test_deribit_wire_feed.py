"""Channels: chains of book messages, conflation, shapes, silence about bad names, faults."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_daemon.sim.scenario import FeedGap
from mm_daemon.sim.spec import E8
from tests.sim.wire_rig import CALL, FUTURE, PERP, Client, Rig, publish_marks

Book = dict[str, dict[float, float]]


@pytest.fixture
def rig() -> Rig:
    return Rig()


def rebuilt(messages: list[dict[str, Any]]) -> tuple[Book, int]:
    """Apply book messages as a careful client would; every link must hold."""
    book: Book = {"bids": {}, "asks": {}}
    last_id = None
    for message in messages:
        if message["type"] == "snapshot":
            assert "prev_change_id" not in message
            book = {"bids": {}, "asks": {}}
        else:
            assert message["prev_change_id"] == last_id
        last_id = message["change_id"]
        for side in ("bids", "asks"):
            for action, price, amount in message[side]:
                assert (action == "new") == (price not in book[side])
                if action == "delete":
                    assert amount == 0
                    del book[side][price]
                else:
                    assert amount > 0
                    book[side][price] = amount
    assert last_id is not None
    return book, last_id


def standing(rig: Rig, name: str) -> Book:
    view = rig.exchange.book_view(name, 10_000, rig.now_us)
    return {
        "bids": {price / E8: amount / E8 for price, amount in view.bids},
        "asks": {price / E8: amount / E8 for price, amount in view.asks},
    }


def subscribe(client: Client, *channels: str) -> list[str]:
    granted: list[str] = client.ask("private/subscribe", channels=list(channels))
    return granted


Action = tuple[str, int, int, int]
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["buy", "sell", "cancel", "wait", "join"]),
        st.integers(-6, 6),
        st.integers(1, 3),
        st.integers(1, 15),
    ),
    max_size=40,
)


@settings(max_examples=40)
@given(ACTIONS)
def test_every_interval_rebuilds_the_book_and_links_its_own_chain(actions: list[Action]) -> None:
    rig = Rig()
    names = [f"book.{PERP}.{interval}" for interval in ("raw", "100ms", "agg2")]
    watchers = [rig.named("demo-taker")]
    subscribe(watchers[0], *names)
    makers = [rig.named("demo-maker"), rig.named("demo-taker")]
    held: list[tuple[Client, str]] = []
    for what, offset, amount, wait in actions:
        if what == "wait":
            rig.move(10 * wait)
        elif what == "join" and len(watchers) < 4:
            watchers.append(rig.named("demo-taker"))
            subscribe(watchers[-1], *names)
        elif what == "cancel" and held:
            owner, order_id = held.pop(offset % len(held))
            owner.exchange_frame("private/cancel", order_id=order_id)
        elif what in ("buy", "sell"):
            owner = makers[amount % 2]
            reply = owner.exchange_frame(
                f"private/{what}",
                instrument_name=PERP,
                amount=10 * amount,
                price=100_000 + offset / 2,
            )
            if "result" in reply:
                held.append((owner, reply["result"]["order"]["order_id"]))
    rig.move(1_100)
    for watcher in watchers:
        for name in names:
            assert rebuilt(watcher.heard(name))[0] == standing(rig, PERP)


def test_the_snapshot_follows_its_reply_and_is_not_repeated(rig: Rig) -> None:
    client = rig.named()
    channel = f"book.{PERP}.raw"
    number = client.send("public/subscribe", channels=[channel])
    frames = client.read()
    assert frames[0]["id"] == number
    assert frames[1]["params"]["data"]["type"] == "snapshot"
    assert subscribe(client, channel) == [channel]
    assert len(client.heard(channel)) == 1
    client.ask("public/unsubscribe", channels=[channel])
    subscribe(client, channel)
    assert [m["type"] for m in client.heard(channel)] == ["snapshot", "snapshot"]


def test_changes_that_cancel_out_within_the_interval_are_not_sent(rig: Rig) -> None:
    client = rig.named()
    channel = f"book.{PERP}.100ms"
    subscribe(client, channel)
    order = client.order()["order"]
    client.ask("private/cancel", order_id=order["order_id"])
    rig.move(200)
    client.order()
    rig.move(200)
    messages = client.heard(channel)
    assert [m["type"] for m in messages] == ["snapshot", "change"]
    rebuilt(messages)


def test_bad_names_are_left_out_in_silence(rig: Rig) -> None:
    client = rig.named()
    good = [f"quote.{CALL}", "platform_state", "user.changes.any.any.raw"]
    bad = [
        "quote.BTC-1JAN20-1-C",
        "book.nonsense",
        "deribit_price_index.doge_usd",
        f"perpetual.{CALL}.raw",
    ]
    assert subscribe(client, *bad, *good) == good
    assert client.ask("public/subscribe", channels=["user.changes.any.any.100ms"]) == []


def test_raw_public_channels_need_a_name(rig: Rig) -> None:
    nameless = rig.client()
    for channel in (f"book.{PERP}.raw", "trades.option.BTC.raw", f"ticker.{PERP}.raw"):
        error = nameless.refused("public/subscribe", channels=[channel])
        assert error["code"] == 13778
    assert nameless.ask("public/subscribe", channels=[f"book.{PERP}.100ms"])


def test_more_than_five_hundred_channels_are_refused(rig: Rig) -> None:
    channels = [f"quote.{CALL}"] * 501
    assert rig.client().refused("public/subscribe", channels=channels)["code"] == -32602


def test_a_label_is_echoed_to_its_subscriber_only(rig: Rig) -> None:
    labelled, plain = rig.named(), rig.named()
    labelled.ask("private/subscribe", channels=[f"quote.{PERP}"], label="desk")
    subscribe(plain, f"quote.{PERP}")
    plain.order()
    labelled.read()
    plain.read()
    assert [note.get("label") for note in labelled.notes] == ["desk", "desk"]
    assert [note.get("label") for note in plain.notes] == [None, None]


def test_a_grouped_book_is_the_whole_top_every_time(rig: Rig) -> None:
    client = rig.named()
    for price in (99_000, 99_003, 99_007, 98_991):
        client.order(price=price)
    grouped, plain = f"book.{PERP}.10.10.100ms", f"book.{PERP}.none.1.100ms"
    subscribe(client, grouped, plain)
    first = client.heard(grouped)[0]
    assert first["bids"] == [[99_000.0, 30.0], [98_990.0, 10.0]]
    assert "type" not in first
    assert "prev_change_id" not in first
    assert client.heard(plain)[0]["bids"] == [[99_007.0, 10.0]]
    client.order("sell", price=101_003)
    rig.move(200)
    assert client.heard(grouped)[-1]["asks"] == [[101_010.0, 10.0]]
    client.order(price=98_000)
    rig.move(200)
    assert len(client.heard(plain)) == 2


def test_an_incremental_ticker_carries_only_what_changed(rig: Rig) -> None:
    client = rig.named()
    channel = f"incremental_ticker.{PERP}"
    subscribe(client, channel)
    client.order()
    rig.move(200)
    snapshot, change = client.heard(channel)
    assert snapshot["type"] == "snapshot"
    assert change["type"] == "change"
    assert change["best_bid_price"] == 99_000.0
    assert "best_ask_price" not in change
    assert {**snapshot, **change} == {**rig_ticker(client), "type": "change"} | {
        "timestamp": change["timestamp"]
    }


def rig_ticker(client: Client) -> dict[str, Any]:
    ticker: dict[str, Any] = client.ask("public/ticker", instrument_name=PERP)
    return ticker


def test_tickers_come_on_a_moved_touch_and_on_new_marks(rig: Rig) -> None:
    client = rig.named()
    subscribe(client, f"ticker.{CALL}.100ms", f"ticker.{CALL}.raw")
    publish_marks(rig.exchange, rig.now_us, option_price_e8=3_600_000)
    rig.move(200)
    client.order(instrument_name=CALL, amount=0.1, price=0.0305)
    rig.move(200)
    for interval in ("100ms", "raw"):
        marks = [t["mark_price"] for t in client.heard(f"ticker.{CALL}.{interval}")]
        assert marks == [0.035, 0.036, 0.036]
    last = client.heard(f"ticker.{CALL}.raw")[-1]
    assert last["best_bid_price"] == 0.0305
    assert 0 < last["bid_iv"] < last["mark_iv"]
    assert last["ask_iv"] == 0.0
    assert set(last["greeks"]) == {"delta", "gamma", "vega", "theta", "rho"}


def test_trades_reach_every_form_of_their_channel(rig: Rig) -> None:
    maker, taker = rig.named(), rig.named("demo-taker")
    channels = [
        f"trades.{PERP}.raw",
        f"trades.{PERP}.100ms",
        "trades.future.BTC.raw",
        "trades.any.any.100ms",
        "trades.option.any.raw",
        "chart.trades." + PERP + ".1",
    ]
    subscribe(taker, *channels)
    maker.order("sell", price=100_000, amount=50)
    taker.ask("private/buy", instrument_name=PERP, amount=20, price=100_000)
    taker.ask("private/buy", instrument_name=PERP, amount=30, price=100_000)
    rig.move(200)
    single = taker.heard(channels[0])
    assert [[t["amount"] for t in trades] for trades in single] == [[20.0], [30.0]]
    assert single[0][0]["direction"] == "buy"
    assert single[1][0]["trade_seq"] == single[0][0]["trade_seq"] + 1
    assert [len(trades) for trades in taker.heard(channels[1])] == [2]
    assert taker.heard(channels[2]) == single
    assert [len(trades) for trades in taker.heard(channels[3])] == [2]
    assert taker.heard(channels[4]) == []
    assert taker.heard(channels[5])[-1]["volume"] == 50.0


def test_user_channels_tell_a_fill_together_and_before_the_reply(rig: Rig) -> None:
    maker, taker = rig.named(), rig.named("demo-taker")
    channels = ["user.orders.any.any.raw", f"user.trades.{PERP}.raw", "user.changes.any.BTC.raw"]
    subscribe(taker, *channels)
    maker.order("sell", price=100_000)
    number = taker.send("private/buy", instrument_name=PERP, amount=10, price=100_000, label="x")
    frames = taker.read()
    assert frames[-1]["id"] == number
    assert len(frames) == 4
    order = taker.heard(channels[0])[0]
    assert (order["order_state"], order["label"]) == ("filled", "x")
    assert taker.heard(channels[1])[0][0]["liquidity"] == "T"
    change = taker.heard(channels[2])[0]
    assert change["instrument_name"] == PERP
    assert [o["order_id"] for o in change["orders"]] == [order["order_id"]]
    assert [t["order_id"] for t in change["trades"]] == [order["order_id"]]
    assert [p["size"] for p in change["positions"]] == [10.0]


def test_aggregated_user_channels_send_the_last_state_of_each_order(rig: Rig) -> None:
    client = rig.named()
    subscribe(client, "user.orders.any.any.100ms", "user.changes.any.any.100ms")
    order = client.order()["order"]
    client.ask("private/edit", order_id=order["order_id"], amount=20, price=99_000)
    client.ask("private/cancel", order_id=order["order_id"])
    rig.move(200)
    rows = client.heard("user.orders.any.any.100ms")
    assert [[o["order_state"] for o in row] for row in rows] == [["cancelled"]]
    changes = client.heard("user.changes.any.any.100ms")
    assert [[o["amount"] for o in c["orders"]] for c in changes] == [[20.0]]


def test_one_account_never_hears_anothers_orders(rig: Rig) -> None:
    maker, taker, guard = rig.named(), rig.named("demo-taker"), rig.named("demo-guard")
    for client in (maker, taker, guard):
        subscribe(client, "user.orders.any.any.raw")
    maker.order()
    assert len(maker.heard("user.orders.any.any.raw")) == 1
    assert len(guard.heard("user.orders.any.any.raw")) == 1
    assert taker.heard("user.orders.any.any.raw") == []


def test_a_portfolio_follows_the_marks_it_is_valued_at(rig: Rig) -> None:
    maker, taker = rig.named(), rig.named("demo-taker")
    maker.order("sell", instrument_name=CALL, amount=1, price=0.035)
    taker.ask("private/buy", instrument_name=CALL, amount=1, price=0.035)
    rig.move(500)
    channels = ["user.portfolio.btc", f"ticker.{CALL}.100ms", "markprice.options.btc_usd"]
    subscribe(maker, *channels)
    maker.notes.clear()
    publish_marks(rig.exchange, rig.now_us, option_price_e8=3_654_321)
    stamp_ms = rig.now_us // 1_000
    rig.move(300)
    maker.read()
    order = [note["channel"] for note in maker.notes]
    assert order.index("user.portfolio.btc") > max(order.index(name) for name in channels[1:])
    mark = next(m for m in maker.heard(channels[2])[0] if m["instrument_name"] == CALL)
    assert mark["timestamp"] == stamp_ms
    assert mark["iv"] == pytest.approx(0.45)
    summary = maker.heard("user.portfolio.btc")[-1]
    assert summary["marks_timestamp"] == stamp_ms
    assert summary["options_value"] == pytest.approx(-mark["mark_price"], abs=1e-12)
    assert summary["equity"] == pytest.approx(summary["balance"] - mark["mark_price"], abs=1e-9)


def test_index_state_and_platform_channels_speak(rig: Rig) -> None:
    client = rig.named()
    channels = [
        "deribit_price_index.btc_usd",
        "deribit_price_ranking.btc_usd",
        "deribit_price_statistics.btc_usd",
        "deribit_volatility_index.btc_usd",
        "instrument.state.any.any",
        "platform_state",
        "platform_state.public_methods_state",
    ]
    assert subscribe(client, *channels) == channels
    rig.exchange.set_index("btc_usd", 100_010 * E8, rig.now_us)
    rig.exchange.set_volatility_index("btc_usd", 55.5, rig.now_us)
    rig.exchange.set_platform_lock("btc_usd", True, rig.now_us)
    rig.move(10)
    assert client.heard(channels[0])[-1]["price"] == 100_010.0
    assert client.heard(channels[1])[-1][0]["price"] == 100_010.0
    assert client.heard(channels[2])[-1]["high24h"] == 100_010.0
    assert client.heard(channels[3])[-1]["volatility"] == 55.5
    assert client.heard(channels[5])[-1] == {"price_index": "btc_usd", "locked": True}
    assert client.ask("public/status")["locked"] == "true"
    assert client.heard(channels[6]) == [{"allow_unauthenticated_public_requests": True}]


def test_a_feed_gap_breaks_the_chain_of_one_book_and_a_new_snapshot_heals_it(rig: Rig) -> None:
    client = rig.named()
    broken, whole = f"book.{PERP}.100ms", f"book.{FUTURE}.100ms"
    subscribe(client, broken, whole)
    rig.venue.faults.add(FeedGap(at_us=rig.now_us, instrument=PERP, messages=1))
    rig.move(10)
    for price in (99_000, 98_990):
        client.order(price=price)
        client.order(instrument_name=FUTURE, price=price)
        rig.move(200)
    rebuilt(client.heard(whole))
    snapshot, change = client.heard(broken)
    assert change["prev_change_id"] != snapshot["change_id"]
    client.ask("public/unsubscribe", channels=[broken])
    subscribe(client, broken)
    client.order(price=98_980)
    rig.move(200)
    assert rebuilt(client.heard(broken)[2:])[0] == standing(rig, PERP)


def test_one_step_of_the_beat_sends_no_more_than_its_cap(rig: Rig) -> None:
    client = rig.named()
    forms = ("book.{}.100ms", "book.{}.none.1.100ms", "ticker.{}.100ms", "incremental_ticker.{}")
    subscribe(client, *[form.format(PERP) for form in forms])
    rig.venue.desk.market_hub.messages_per_step_max = 1
    client.order()
    client.read()
    counts = []
    for _ in range(20):
        rig.move(10)
        counts.append(len(client.read()))
    assert sum(counts) == len(forms)
    assert max(counts) == 1


def test_unsubscribing_from_all_is_silence(rig: Rig) -> None:
    client = rig.named()
    subscribe(client, f"quote.{PERP}", "user.orders.any.any.raw")
    assert client.ask("private/unsubscribe_all") == "ok"
    client.notes.clear()
    client.order()
    rig.move(200)
    client.read()
    assert client.notes == []
