"""The JSON-RPC envelope: what is a request, and how answers are written."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_daemon.sim.deribit_wire_params import Params
from mm_daemon.sim.deribit_wire_rpc import (
    FRAME_BYTES_MAX,
    BadFrameError,
    Request,
    WireError,
    decode_request,
    encode_error,
    encode_result,
    notification,
)


def refusal(raw: bytes) -> BadFrameError:
    with pytest.raises(BadFrameError) as caught:
        decode_request(raw)
    return caught.value


def params_of(query: bool = False, **values: object) -> Params:
    return Params(Request(request_id=1, method="m", params=values, from_query=query))


def reason_of(error: WireError) -> tuple[int, object, object]:
    assert error.extra is not None
    return error.code, error.extra["param"], error.extra["reason"]


def test_a_whole_request_is_read() -> None:
    request = decode_request(b'{"jsonrpc":"2.0","id":"a","method":"public/test","params":{"x":1}}')
    assert request == Request(request_id="a", method="public/test", params={"x": 1})


def test_a_request_without_id_or_params_is_read() -> None:
    request = decode_request(b'{"method":"public/test"}')
    assert request.request_id is None
    assert request.params == {}


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"{", -32700),
        (b"\xff\xfe", -32700),
        (b"[]", -32600),
        (b'{"id":1}', -32600),
        (b'{"id":1.5,"method":"m"}', -32600),
        (b'{"id":true,"method":"m"}', -32600),
        (b'{"jsonrpc":"1.0","id":1,"method":"m"}', -32600),
        (b'{"id":1,"method":"m","params":[1]}', -32602),
        (b'"' + b"x" * FRAME_BYTES_MAX + b'"', -32600),
    ],
)
def test_what_is_no_request_is_refused_with_deribits_code(raw: bytes, code: int) -> None:
    assert refusal(raw).code == code


def test_a_frame_of_exactly_the_limit_is_read_and_one_byte_more_is_not() -> None:
    head = b'{"method":"m","params":{"x":"'
    tail = b'"}}'
    fill = b"y" * (FRAME_BYTES_MAX - len(head) - len(tail))
    assert decode_request(head + fill + tail).method == "m"
    assert refusal(head + fill + b"y" + tail).message == "request entity too large"


def test_a_refused_frame_keeps_its_id() -> None:
    assert refusal(b'{"id":7,"method":"m","params":[1]}').request_id == 7


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(raw: bytes) -> None:
    code = None
    try:
        decode_request(raw)
    except BadFrameError as refused:
        code = refused.code
    assert code in (None, -32700, -32600, -32602)


def test_replies_carry_the_times_and_the_id() -> None:
    reply = orjson.loads(encode_result(5, "ok", in_us=10, out_us=13))
    assert reply == {
        "jsonrpc": "2.0",
        "id": 5,
        "usIn": 10,
        "usOut": 13,
        "usDiff": 3,
        "testnet": True,
        "result": "ok",
    }
    error = WireError(10009, "not_enough_funds")
    refused = orjson.loads(encode_error(None, error, in_us=1, out_us=1))
    assert refused["error"] == {"code": 10009, "message": "not_enough_funds"}
    assert "id" not in refused


def test_a_notification_has_no_id_and_carries_its_label() -> None:
    message = orjson.loads(notification("book.X.raw", b'{"a":1}', "mine"))
    assert message == {
        "jsonrpc": "2.0",
        "method": "subscription",
        "params": {"channel": "book.X.raw", "data": {"a": 1}, "label": "mine"},
    }


def test_missing_and_mistyped_values_name_themselves() -> None:
    with pytest.raises(WireError) as caught:
        params_of().text("currency")
    assert reason_of(caught.value) == (-32602, "currency", "value required")
    for bad in (True, "5", [], {}):
        with pytest.raises(WireError):
            params_of(x=bad).number("x")
    with pytest.raises(WireError):
        params_of(x=1.5).integer("x")
    with pytest.raises(WireError):
        params_of(x=11).integer("x", high=10)


def test_query_text_is_coerced_and_json_text_is_not() -> None:
    query = params_of(query=True, n="10.5", t="true", f="False", c='["a","b"]', one="a")
    assert query.number("n") == 10.5
    assert query.flag("t") is True
    assert query.flag("f") is False
    assert query.texts("c") == ["a", "b"]
    assert query.texts("one") == ["a"]
    with pytest.raises(WireError):
        params_of(n="10.5").number("n")
    with pytest.raises(WireError):
        params_of(query=True, n="nan").number("n")


def test_null_counts_as_absent() -> None:
    params = params_of(label=None)
    assert params.text_or("label") is None
    assert params.flag("label", default=True) is True
