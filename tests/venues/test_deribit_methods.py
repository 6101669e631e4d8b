"""The method table fails closed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_daemon.domain.frames import FrameKind
from mm_daemon.venues.deribit.methods import SAFE_METHODS, classify, request

CANCEL = request(1, "private/cancel_all", {"detailed": True})


@pytest.mark.parametrize("method", sorted(SAFE_METHODS))
def test_safe_methods_neither_place_nor_widen(method: bytes) -> None:
    words = ("buy", "sell", "edit", "mass_quote", "reset_mmp", "disable", "logout", "withdraw")
    assert not any(word in method.decode() for word in words)
    assert classify(request(7, method.decode(), {"a": 1})) is FrameKind.SAFE


@pytest.mark.parametrize(
    "method",
    [
        "private/buy",
        "private/sell",
        "private/edit",
        "private/edit_by_label",
        "private/mass_quote",
        "private/reset_mmp",
        "private/close_position",
        "private/add_block_rfq_quote",
        "private/disable_cancel_on_disconnect",
        "private/logout",
        "private/withdraw",
        "private/new_thing",
        "private/cancel_all2",
    ],
)
def test_everything_else_is_risk(method: str) -> None:
    assert classify(request(7, method, {"amount": 0.0})) is FrameKind.RISK


def test_only_a_plain_reducing_order_is_reduce() -> None:
    for method in ("private/buy", "private/sell"):
        assert classify(request(1, method, {"reduce_only": True})) is FrameKind.REDUCE
        assert classify(request(1, method, {"reduce_only": False})) is FrameKind.RISK
        nested = {"reduce_only": True, "otoco_config": [{"reduce_only": False}]}
        assert classify(request(1, method, nested)) is FrameKind.RISK
        assert classify(request(1, method, {"label": '"reduce_only":true'})) is FrameKind.RISK
    assert classify(request(1, "private/edit", {"reduce_only": True})) is FrameKind.RISK
    both = request(1, "private/buy", {"reduce_only": True})[:-2] + b',"reduce_only":false}}'
    assert classify(both) is FrameKind.RISK, "a venue may believe the last of two words"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"not json",
        CANCEL[:-1],
        b" " + CANCEL,
        CANCEL + b" ",
        CANCEL[:-1] + b',"method":"private/buy"}',
        CANCEL[:-1] + b',"params":{"a":1}}',
        CANCEL[:-1] + b',"method":"private/buy","more":{"a":1}}',
        CANCEL.replace(b'"method"', b'"params":{"amount":1},"method"'),
        CANCEL[:-1] + b',"m\\u0065thod":"private/buy"}',
        CANCEL.replace(b'"id":1', b'"id":"1"'),
        CANCEL.replace(b'"2.0"', b'"2.0","method":"private/buy"'),
        CANCEL.replace(b"private/cancel_all", b"private/cancel_all\x00"),
    ],
)
def test_a_frame_of_another_shape_is_risk(payload: bytes) -> None:
    assert classify(payload) is FrameKind.RISK


@given(st.binary(max_size=200))
def test_random_bytes_are_risk(payload: bytes) -> None:
    assert classify(payload) is FrameKind.RISK
