"""No request, however odd, meets a fault of the wire itself; refusals carry Deribit's codes."""

from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_daemon.sim.deribit_wire_methods import METHODS
from tests.sim.wire_rig import CALL, PERP, Rig

NAMES = [
    "instrument_name",
    "currency",
    "kind",
    "type",
    "amount",
    "price",
    "label",
    "order_id",
    "count",
    "offset",
    "sorting",
    "start_timestamp",
    "end_timestamp",
    "start_seq",
    "end_seq",
    "start_id",
    "end_id",
    "continuation",
    "depth",
    "resolution",
    "index_name",
    "interval",
    "frozen_time",
    "max_quote_quantity",
    "quantity_limit",
    "mmp_group",
    "quote_id",
    "quotes",
    "detailed",
    "channels",
    "scope",
    "grant_type",
    "client_id",
    "client_secret",
    "refresh_token",
    "access_token",
    "valid_until",
    "time_in_force",
    "post_only",
    "cancel_type",
    "min_delta",
    "max_delta",
    "mode",
    "quote_set_id",
    "currency_pair",
    "length",
    "expired",
    "extended",
    "instrument_id",
    "expected_result",
]
VALUES = st.one_of(
    st.sampled_from(
        [
            CALL,
            PERP,
            "BTC",
            "any",
            "option",
            "future",
            "limit",
            "market",
            "all",
            "asc",
            "1D",
            "btc_usd",
            "instrument",
            "delta",
            "connection",
            "client_credentials",
            "demo-maker",
        ]
    ),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.booleans(),
    st.none(),
    st.text(max_size=8),
    st.lists(st.sampled_from(["book.BTC-PERPETUAL.raw", "x", 1, None]), max_size=3),
    st.lists(
        st.dictionaries(
            st.sampled_from(["instrument_name", "bid", "ask"]),
            st.one_of(st.just(CALL), st.none(), st.just({"price": 0.03, "amount": 1e300})),
        ),
        max_size=2,
    ),
    st.dictionaries(st.sampled_from(["a", "price"]), st.integers(), max_size=1),
)
PARAMS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=7)
REQUIRED: dict[str, Any] = {"instrument_name": PERP, "currency": "BTC", "amount": 10, "price": 1}


def encodable(value: object) -> bool:
    try:
        orjson.dumps(value)
    except TypeError:
        return False
    return True


@settings(max_examples=250)
@given(st.sampled_from(sorted(METHODS)), PARAMS, st.booleans())
def test_odd_requests_are_answered_and_break_nothing(
    method: str, params: dict[str, Any], mended: bool
) -> None:
    rig = Rig()
    client = rig.named()
    params = {name: value for name, value in params.items() if encodable(value)}
    if mended:
        params = REQUIRED | params
    number = client.send(method, **params)
    replies = [frame for frame in client.read() if frame.get("id") == number]
    assert len(replies) == 1
    query = {name: orjson.dumps(value).decode() for name, value in params.items()}
    status, body = rig.http(method, query)
    assert ("error" in body) == (status != 200)
    rig.move(150)
    assert list(rig.venue.internal_errors) == []
