"""What frames say of themselves for the gate: which underlying they trade and under which
permission; and the words for one underlying's cancels, reads and unlisted trades."""

from __future__ import annotations

import msgspec
import orjson
import pytest

from mm_daemon.domain.codec import decode_output, encode_output
from mm_daemon.domain.events import FillUnplaced
from mm_daemon.domain.frames import Conn, FrameKind, OutFrame
from mm_daemon.domain.intents import (
    AmendOrder,
    CancelAll,
    CancelQuotes,
    Intent,
    ReadOpenOrders,
    ResetMmp,
)
from mm_daemon.domain.orders import Purpose
from mm_daemon.domain.permission import HEDGE, QUOTE, REDUCE
from mm_daemon.domain.units import Lots, Ticks
from mm_daemon.venues.deribit.requests import _only_place
from tests.venues.deribit_peer import CALL_70, ETH_CALL, SETTINGS, Peer, ready_peer
from tests.venues.test_deribit_orders import UNTIL, both, order, quote, trade_body

BTC, ETH = 0, 1


def frame_of(intent: Intent, peer: Peer | None = None) -> OutFrame:
    peer = peer or ready_peer()
    peer.protocol.send(intent, peer.now_ns, 5)
    (frame,) = peer.protocol.take_frames()
    return frame


@pytest.mark.parametrize(
    ("intent", "scope"),
    [
        (quote(both(CALL_70)), BTC),
        (order(), BTC),
        (order(instrument_id=ETH_CALL, price_ticks=Ticks(100)), ETH),
        (AmendOrder(13, "o1", "s1-7", ETH_CALL, Ticks(100), Lots(1), False, UNTIL), ETH),
        (ResetMmp(21, "btc-main"), BTC),
        (CancelAll(16, "", True), -1),
        (ReadOpenOrders(17), -1),
    ],
)
def test_a_frame_names_the_underlying_that_it_trades(intent: Intent, scope: int) -> None:
    frame = frame_of(intent)
    assert frame.scope == scope
    assert decode_output(*encode_output(frame)) == frame, "and says so on the tape"


def test_a_quote_of_an_index_that_two_underlyings_share_names_none() -> None:
    shared = msgspec.structs.replace(SETTINGS.underlyings[1], price_index="btc_usd")
    settings = msgspec.structs.replace(SETTINGS, underlyings=(SETTINGS.underlyings[0], shared))
    assert _only_place(SETTINGS, "btc_usd") == BTC
    assert _only_place(settings, "btc_usd") == -1


@pytest.mark.parametrize(
    ("changes", "kind", "needs"),
    [
        ({}, FrameKind.RISK, HEDGE),
        ({"is_reducing": True}, FrameKind.RISK, REDUCE),
        ({"reduce_only": True, "purpose": Purpose.FLATTEN}, FrameKind.REDUCE, REDUCE),
        ({"purpose": Purpose.QUOTE}, FrameKind.RISK, QUOTE),
    ],
)
def test_an_order_leaves_under_the_permission_of_its_purpose(
    changes: dict[str, object], kind: FrameKind, needs: int
) -> None:
    frame = frame_of(order(**changes))
    assert (frame.kind, frame.needs) == (kind, needs)


def test_an_amend_needs_the_permission_to_quote_and_never_counts_as_reducing() -> None:
    frame = frame_of(AmendOrder(13, "o1", "s1-7", CALL_70, Ticks(100), Lots(1), False, UNTIL))
    assert (frame.kind, frame.needs) == (FrameKind.RISK, QUOTE)


@pytest.mark.parametrize(
    ("intent", "method", "params"),
    [
        (
            CancelAll(16, "", True, "btc_usd"),
            "private/cancel_all_by_currency_pair",
            {"currency_pair": "btc_usd", "detailed": True, "freeze_quotes": True},
        ),
        (
            CancelQuotes(15, "", -1, True, "btc_usd"),
            "private/cancel_quotes",
            {"cancel_type": "currency_pair", "currency_pair": "btc_usd", "freeze_quotes": True},
        ),
        (
            ReadOpenOrders(17, "ETH"),
            "private/get_open_orders_by_currency",
            {"currency": "ETH", "type": "all"},
        ),
    ],
)
def test_one_underlyings_cancels_and_reads_are_safe_words(
    intent: Intent, method: str, params: dict[str, object]
) -> None:
    frame = frame_of(intent)
    said = orjson.loads(frame.payload)
    assert (said["method"], said["params"]) == (method, params)
    assert frame.kind is FrameKind.SAFE
    assert frame.needs == 0


def test_a_trade_in_a_listing_not_yet_known_is_told_to_be_kept() -> None:
    changes = {"trades": [trade_body(instrument_name="BTC-1JAN30-1-C")]}
    (told,) = ready_peer().notify(Conn.TRADE, "user.changes.any.any.raw", changes)
    assert isinstance(told, FillUnplaced)
    assert (told.trade_id, told.instrument) == ("9001", "BTC-1JAN30-1-C")
