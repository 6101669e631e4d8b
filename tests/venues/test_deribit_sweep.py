"""The sweep's language: three families, and no failed answer read as empty."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_daemon.venues.deribit import sweep
from mm_daemon.venues.sweep import Call, CallFailed, Failure, OpenOrders, Token

CURRENCIES = ("BTC", "ETH")
READ = sweep.read_calls(CURRENCIES)[0]
CANCEL = sweep.cancel_lanes(CURRENCIES)[0][0]
OPTIONAL = sweep.cancel_lanes(CURRENCIES)[0][1]


def result(value: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": value}).encode()


def error(code: int, message: str = "why") -> bytes:
    return json.dumps({"id": 1, "error": {"code": code, "message": message}}).encode()


def test_wide_lane_reaches_orders_quotes_and_rfq_quotes_and_freezes_quoting() -> None:
    bodies = [json.loads(call.body) for call in sweep.cancel_lanes(CURRENCIES)[0]]
    assert [(body["method"], body["params"]) for body in bodies] == [
        ("private/cancel_all", {"detailed": False, "freeze_quotes": True}),
        ("private/cancel_quotes", {"cancel_type": "all", "freeze_quotes": True}),
        ("private/cancel_all_block_rfq_quotes", {"detailed": False}),
    ]
    assert all(body["jsonrpc"] == "2.0" and body["id"] for body in bodies)


def test_each_currency_has_a_lane_of_its_own() -> None:
    lanes = sweep.cancel_lanes(CURRENCIES)[1:]
    found = [[json.loads(call.body)["params"]["currency"] for call in lane] for lane in lanes]
    assert found == [["BTC", "BTC"], ["ETH", "ETH"]]


def test_reads_cover_the_account_and_each_currency() -> None:
    bodies = [json.loads(call.body) for call in sweep.read_calls(CURRENCIES)]
    assert [body["method"] for body in bodies] == [
        "private/get_open_orders",
        "private/get_open_orders_by_currency",
        "private/get_open_orders_by_currency",
    ]
    assert [body["params"].get("currency") for body in bodies] == [None, "BTC", "ETH"]


def test_auth_call_shows_its_secret_to_the_venue_only() -> None:
    call = sweep.auth_call("demo-guard", "hush-hush")
    assert json.loads(call.body)["params"]["client_secret"] == "hush-hush"
    assert "hush-hush" not in repr(call)
    token = sweep.read_token(result({"access_token": "tok-en", "expires_in": 900}))
    assert token == Token("tok-en", 900)
    assert "tok-en" not in repr(token)
    assert isinstance(token, Token)
    assert sweep.auth_headers(token) == {"Authorization": "Bearer tok-en"}


@pytest.mark.parametrize(
    "body",
    [
        error(13004),
        result({}),
        result(None),
        result({"access_token": "", "expires_in": 1}),
        result({"access_token": 3, "expires_in": 1}),
        b"",
        b"<html>",
    ],
)
def test_auth_without_token_is_a_failure(body: bytes) -> None:
    assert isinstance(sweep.read_token(body), CallFailed)


@pytest.mark.parametrize(("value", "count"), [(0, 0), (7, 7), ([], 0), ([{}, {}], 2)])
def test_cancel_counts_what_it_cancelled(value: Any, count: int) -> None:
    assert sweep.read_cancel(CANCEL, result(value)) == count


def test_empty_list_is_the_only_empty_answer() -> None:
    assert sweep.read_open(READ, result([])) == OpenOrders(0)


@given(
    st.one_of(
        st.binary(max_size=60),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["result", "error", "id"]), inner, max_size=3)
            ),
            max_leaves=6,
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_no_answer_but_a_list_reads_as_empty(body: bytes) -> None:
    found = sweep.read_open(READ, body)
    if isinstance(found, OpenOrders) and found.count == 0:
        answer = json.loads(body)
        assert answer["result"] == []
        assert answer.get("error") is None


@pytest.mark.parametrize("state", ["open", "untriggered", "triggered", "speed_bumped", "new", None])
def test_every_state_not_known_as_final_counts_as_open(state: str | None) -> None:
    entry = {"order_id": "ETH-1"} if state is None else {"order_id": "ETH-1", "order_state": state}
    found = sweep.read_open(READ, result([entry, {"order_state": "cancelled"}]))
    assert found == OpenOrders(1, ("ETH-1",))


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        (13009, Failure.UNAUTHORIZED),
        (13004, Failure.UNAUTHORIZED),
        (10028, Failure.BUSY),
        (11051, Failure.BUSY),
        (-32602, Failure.REFUSED),
        (-32601, Failure.REFUSED),
        (99999, Failure.REFUSED),
    ],
)
@pytest.mark.parametrize("read", [sweep.read_cancel, sweep.read_open])
def test_error_is_a_failure_that_says_what_to_do_next(
    read: Any, code: int, failure: Failure
) -> None:
    found = read(CANCEL, error(code, "price_too_high"))
    assert isinstance(found, CallFailed)
    assert found.failure is failure
    assert str(code) in found.detail
    assert "private/cancel_all" in found.detail


@pytest.mark.parametrize("code", [-32601, 13902, 13021])
def test_feature_the_venue_lacks_cancels_nothing_and_is_no_failure(code: int) -> None:
    assert sweep.read_cancel(OPTIONAL, error(code)) == 0


def test_optional_call_that_fails_otherwise_is_a_failure() -> None:
    assert isinstance(sweep.read_cancel(OPTIONAL, error(10028)), CallFailed)


def test_call_is_named_without_its_body() -> None:
    assert repr(Call("private/x", b"secret")) == "Call(private/x)"
