"""The protocol machine, method by method, over a real exchange and without a socket."""

import hashlib
import hmac

import orjson
import pytest

from mm_daemon.sim.deribit_wire import HttpAnswer, HttpLater
from mm_daemon.sim.deribit_wire_session import IDLE_US, CloseReason
from mm_daemon.sim.exchange_records import Mark
from mm_daemon.sim.scenario import AckDelay, Outage
from mm_daemon.sim.spec import E8
from tests.sim.wire_rig import CALL, PERP, START_US, Rig, option_spec


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_unknown_methods_and_broken_json_are_refused_by_their_codes(rig: Rig) -> None:
    client = rig.client()
    assert client.refused("public/nonsense")["code"] == -32601
    client.raw(b"{nope")
    assert client.read()[0]["error"]["code"] == -32700
    client.raw(b"x" * 40_000)
    assert client.read()[0]["error"] == {"code": -32600, "message": "request entity too large"}


def test_a_reply_carries_deribits_extras(rig: Rig) -> None:
    reply = rig.client().exchange_frame("public/get_time")
    assert reply["result"] == START_US // 1_000
    assert (reply["usIn"], reply["usOut"], reply["usDiff"]) == (START_US, START_US, 0)
    assert reply["testnet"] is True


def test_small_session_methods_answer(rig: Rig) -> None:
    client = rig.client()
    assert client.ask("public/test")["version"]
    assert client.ask("public/hello", client_name="t", client_version="1")["version"]
    assert client.ask("public/status")["locked"] == "false"
    assert client.refused("public/test", expected_result="exception")["code"] == 11094


def test_private_methods_need_a_name_and_its_scope(rig: Rig) -> None:
    assert rig.client().refused("private/get_positions")["code"] == 13009
    reader = rig.named(scope="trade:read")
    assert reader.ask("private/get_open_orders") == []
    error = reader.refused("private/buy", instrument_name=PERP, amount=10, price=1)
    assert error["code"] == 13021


def test_an_access_token_names_one_request_and_a_session_token_the_socket(rig: Rig) -> None:
    keeper = rig.named(scope="session:desk")
    other = rig.client()
    assert other.ask("private/get_positions", access_token=keeper.token) == []
    assert other.ask("private/get_positions") == []
    bound = rig.named()
    assert rig.client().refused("private/get_positions", access_token=bound.token)["code"] == 13009


def test_an_expired_token_ends_the_name_of_its_socket_until_refreshed(rig: Rig) -> None:
    client = rig.named(scope="expires:20")
    rig.jump(21)
    assert client.refused("private/get_positions")["code"] == 13009
    params = {"grant_type": "refresh_token", "refresh_token": client.refresh_token}
    client.ask("public/auth", **params)
    assert client.ask("private/get_positions") == []


def test_heartbeats_come_and_an_answered_test_keeps_the_session(rig: Rig) -> None:
    client = rig.client()
    assert client.refused("public/set_heartbeat", interval=9)["code"] == -32602
    assert client.ask("public/set_heartbeat", interval=10) == "ok"
    for _ in range(3):
        rig.jump(10)
        kinds = [f["params"]["type"] for f in client.read() if f.get("method") == "heartbeat"]
        assert kinds == ["heartbeat", "test_request"]
        client.ask("public/test")
    assert client.session.closing is None


def test_an_unanswered_test_request_ends_the_session(rig: Rig) -> None:
    client = rig.client()
    client.ask("public/set_heartbeat", interval=10)
    rig.jump(10)
    client.ask("public/get_time")
    rig.jump(10)
    assert client.session.closing is CloseReason.HEARTBEAT_LOST


def test_ten_silent_minutes_end_the_session(rig: Rig) -> None:
    client = rig.client()
    rig.jump(IDLE_US / 1e6 - 1)
    assert client.session.closing is None
    rig.jump(1)
    assert client.session.closing is CloseReason.IDLE


def test_a_client_that_only_listens_to_a_living_stream_is_not_idle(rig: Rig) -> None:
    listener, maker = rig.client(), rig.named()
    listener.ask("public/subscribe", channels=[f"quote.{PERP}"])
    for step in range(3):
        rig.jump(IDLE_US / 1e6 - 1)
        assert listener.session.closing is None
        maker.session.last_active_us = rig.now_us
        maker.order(price=99_000 + step)
        listener.read()
        rig.jump(0.01)
    assert listener.session.closing is None


def test_cancel_on_disconnect_fires_on_a_broken_link_for_that_link_only(rig: Rig) -> None:
    first, second = rig.named(), rig.named()
    assert first.ask("private/enable_cancel_on_disconnect") == "ok"
    assert first.ask("private/get_cancel_on_disconnect") == {
        "scope": "connection",
        "enabled": True,
    }
    first.order(label="first")
    second.order(label="second")
    first.close()
    labels = [order["label"] for order in second.ask("private/get_open_orders")]
    assert labels == ["second"]
    gone = second.ask("private/get_order_state_by_label", currency="BTC", label="first")
    assert gone[0]["cancel_reason"] == "cancel_on_disconnect"


def test_logout_is_graceful_and_does_not_cancel(rig: Rig) -> None:
    leaver, stayer = rig.named(), rig.named()
    leaver.ask("private/enable_cancel_on_disconnect")
    leaver.order(label="kept")
    leaver.send("private/logout")
    assert leaver.session.closing is CloseReason.LOGOUT
    leaver.close()
    assert [o["label"] for o in stayer.ask("private/get_open_orders")] == ["kept"]


def test_an_outage_ends_sessions_and_leaves_orders(rig: Rig) -> None:
    client = rig.named()
    client.ask("private/enable_cancel_on_disconnect")
    client.order(label="survivor")
    until_us = rig.now_us + 5_000_000
    rig.venue.faults.add(Outage(at_us=rig.now_us, until_us=until_us))
    rig.move(10)
    assert client.session.closing is CloseReason.OUTAGE
    assert rig.venue.faults.in_outage(rig.now_us)
    client.close()
    rig.jump(5)
    assert not rig.venue.faults.in_outage(rig.now_us)
    assert [o["label"] for o in rig.named().ask("private/get_open_orders")] == ["survivor"]


def test_running_out_of_credits_is_answered_and_then_ends_the_session(rig: Rig) -> None:
    client = rig.named()
    codes = []
    while client.session.closing is None and len(codes) < 500:
        reply = client.exchange_frame("private/get_positions")
        codes.append(reply.get("error", {}).get("code"))
    assert codes[-1] == 10028
    assert client.session.closing is CloseReason.TOO_MANY_REQUESTS
    assert codes[:-1].count(None) == len(codes) - 1


def test_nameless_callers_share_the_credits_of_their_address(rig: Rig) -> None:
    one, two, elsewhere = rig.client(), rig.client(), rig.client(peer="10.0.0.2")
    for _ in range(50):
        one.ask("public/get_time")
        two.ask("public/get_time")
    assert one.refused("public/get_time")["code"] == 10028
    elsewhere.ask("public/get_time")
    rig.jump(0.05)
    two.ask("public/get_time")


def test_slow_acknowledgements_leave_late_and_in_order(rig: Rig) -> None:
    client = rig.named()
    until_us = rig.now_us + 60_000_000
    rig.venue.faults.add(AckDelay(at_us=rig.now_us, until_us=until_us, delay_us=200_000))
    ids = [
        client.send("private/buy", instrument_name=PERP, amount=10, price=99_000 - step)
        for step in (0, 1)
    ]
    query = client.send("private/get_open_orders")
    assert not [f for f in client.read() if "result" in f]
    rig.move(190)
    assert not [f for f in client.read() if "result" in f]
    rig.move(20)
    assert [f["id"] for f in client.read() if "result" in f] == [*ids, query]


def test_the_venue_remembers_every_order_entry_frame_with_its_arrival(rig: Rig) -> None:
    client = rig.named()
    client.ask("private/get_open_orders")
    client.order()
    rig.move(10)
    client.ask("private/cancel_all")
    kept = list(rig.venue.received)
    assert [frame.method for frame in kept] == ["private/buy", "private/cancel_all"]
    assert [frame.ts_us for frame in kept] == [START_US, START_US + 10_000]
    assert kept[0].account == "demo-maker"
    assert orjson.loads(kept[0].frame)["params"]["instrument_name"] == PERP


def test_rest_serves_get_with_text_and_post_with_json(rig: Rig) -> None:
    status, body = rig.http("public/get_order_book", {"instrument_name": CALL, "depth": "5"})
    assert (status, body["result"]["instrument_name"]) == (200, CALL)
    assert "id" not in body
    post = orjson.dumps({"jsonrpc": "2.0", "id": 3, "method": "public/get_time", "params": {}})
    status, body = rig.http("", body=post)
    assert (status, body["id"], body["result"]) == (200, 3, START_US // 1_000)
    bare = orjson.dumps({"instrument_name": CALL})
    status, body = rig.http("public/ticker", body=bare)
    assert (status, body["result"]["instrument_name"]) == (200, CALL)


def test_rest_refusals_have_http_statuses_and_deribits_bodies(rig: Rig) -> None:
    status, body = rig.http("public/ticker", {"instrument_name": "NONE"})
    assert status == 400
    assert body["error"]["data"]["param"] == "instrument_name"
    assert rig.http("private/get_positions")[0] == 401
    assert rig.http("private/get_positions", token="wrong")[0] == 401
    assert rig.http("nothing/here")[1]["error"]["code"] == -32601


def test_rest_trades_under_a_bearer_token_and_subscribes_to_nothing(rig: Rig) -> None:
    secret = {"client_id": "demo-maker", "client_secret": "demo-secret"}
    query = {"grant_type": "client_credentials", **secret}
    token = rig.http("public/auth", query)[1]["result"]["access_token"]
    order = {"instrument_name": PERP, "amount": "10", "price": "99000.5", "post_only": "true"}
    status, body = rig.http("private/buy", order, token=token)
    assert (status, body["result"]["order"]["price"]) == (200, 99_000.5)
    status, body = rig.http("private/subscribe", {"channels": '["x"]'}, token=token)
    assert body["error"]["code"] == 11050
    assert rig.http("private/cancel_all", token=token)[1]["result"] == 1


def bumped(rig: Rig) -> str:
    """An option whose aggressors wait three milliseconds, with an offer to lift."""
    name = "BTC-25DEC26-110000-C"
    rig.exchange.list_instrument(option_spec(name, 9, speed_bump_us=3_000), rig.now_us)
    mark = Mark(
        instrument=name,
        mark_price_e8=3_000_000,
        mark_iv_pct=45.0,
        underlying_price_e8=100_000 * E8,
        underlying_index="BTC-25DEC26",
        delta=0.4,
    )
    rig.exchange.set_marks("btc_usd", [mark], rig.now_us)
    rig.named().order("sell", instrument_name=name, amount=1, price=0.03)
    return name


def test_an_aggressor_waits_out_the_speed_bump_and_is_answered_after_it(rig: Rig) -> None:
    name = bumped(rig)
    taker = rig.named("demo-taker")
    number = taker.send("private/buy", instrument_name=name, amount=0.1, price=0.03)
    assert taker.read() == []
    rig.now_us += 3_000
    rig.venue.pump(rig.now_us)
    (reply,) = [frame for frame in taker.read() if frame.get("id") == number]
    assert reply["result"]["order"]["order_state"] == "filled"
    assert reply["usDiff"] == 3_000


def test_a_bumped_order_over_rest_is_answered_later(rig: Rig) -> None:
    name = bumped(rig)
    secret = {"client_id": "demo-taker", "client_secret": "demo-secret"}
    query = {"grant_type": "client_credentials", **secret}
    token = rig.http("public/auth", query)[1]["result"]["access_token"]
    promise = rig.venue.http(
        http_method="GET",
        uri="/api/v2/private/buy",
        rpc_method="private/buy",
        query={"instrument_name": name, "amount": "0.1", "price": "0.03"},
        authorization=f"Bearer {token}",
        body=b"",
        peer="10.0.0.9",
        now_us=rig.now_us,
    )
    assert isinstance(promise, HttpLater)
    rig.now_us += 3_000
    rig.venue.pump(rig.now_us)
    ((number, answer),) = rig.venue.take_http_answers(rig.now_us)
    assert number == promise.number
    assert orjson.loads(answer.body)["result"]["order"]["order_state"] == "filled"


def test_a_late_reply_to_a_closed_connection_goes_nowhere(rig: Rig) -> None:
    name = bumped(rig)
    taker = rig.named("demo-taker")
    taker.send("private/buy", instrument_name=name, amount=0.1, price=0.03)
    taker.close()
    rig.move(10)
    assert taker.read() == []


def test_a_signed_post_is_served_and_its_body_is_under_the_signature(rig: Rig) -> None:
    body = orjson.dumps({"id": 4, "method": "private/get_positions", "params": {}})
    stamp = rig.now_us // 1_000
    text = f"{stamp}\nn1\nPOST\n/api/v2\n{body.decode()}\n"
    signature = hmac.new(b"demo-secret", text.encode(), hashlib.sha256).hexdigest()
    header = f"deri-hmac-sha256 id=demo-guard,ts={stamp},sig={signature},nonce=n1"
    common = {"http_method": "POST", "uri": "/api/v2", "rpc_method": None, "query": {}}
    for sent, status in ((body + b" ", 401), (body, 200)):
        answer = rig.venue.http(
            **common,  # type: ignore[arg-type]
            authorization=header,
            body=sent,
            peer="10.0.0.9",
            now_us=rig.now_us,
        )
        assert isinstance(answer, HttpAnswer)
        assert answer.status == status
