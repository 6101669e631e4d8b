"""Positions end at the venue's delivery price, once, and only what expired."""

from __future__ import annotations

import pytest

from mm_daemon.core.delivery import delivery_price_e8, expired
from mm_daemon.core.portfolio import Portfolio
from mm_daemon.domain.events import ExpirationEstimate
from mm_daemon.domain.units import NS_PER_S, Ns, Side
from tests.core.account_world import (
    CALL,
    CALL_FAR,
    EXPIRY_NEAR,
    LINEAR_CALL,
    fill_evidence,
    small_catalog,
)

CATALOG = small_catalog()
FINAL = ExpirationEstimate("btc_usd", 61_234.567, 0.0, is_estimated=True)
AT_EXPIRY = Ns(EXPIRY_NEAR)


def holding() -> Portfolio:
    books = Portfolio(CATALOG)
    for k, id_ in enumerate((CALL, CALL_FAR, LINEAR_CALL)):
        books.book(fill_evidence(str(k), "o", id_, Side.BUY, 10))
    return books


def test_the_last_sample_delivers_what_expires_now_on_its_index() -> None:
    books = holding()
    assert expired(FINAL, CATALOG, books, AT_EXPIRY) == [(CALL, 61_234_57_000_000)]
    books.deliver(CALL, 61_234_57_000_000)
    assert expired(FINAL, CATALOG, books, AT_EXPIRY) == [], "nothing is delivered twice"


@pytest.mark.parametrize(
    ("estimate", "now_ns"),
    [
        (ExpirationEstimate("btc_usd", 61_000.0, 6.0, is_estimated=True), AT_EXPIRY),
        (ExpirationEstimate("btc_usd", 61_000.0, 0.0, is_estimated=False), AT_EXPIRY),
        (ExpirationEstimate("btc_usd", float("nan"), 0.0, is_estimated=True), AT_EXPIRY),
        (ExpirationEstimate("btc_usd", 0.0, 0.0, is_estimated=True), AT_EXPIRY),
        (ExpirationEstimate("eth_usd", 3_000.0, 0.0, is_estimated=True), AT_EXPIRY),
        (FINAL, Ns(AT_EXPIRY - 2 * NS_PER_S)),
        (FINAL, Ns(AT_EXPIRY + 120 * NS_PER_S)),
    ],
)
def test_anything_else_delivers_nothing(estimate: ExpirationEstimate, now_ns: Ns) -> None:
    assert expired(estimate, CATALOG, holding(), now_ns) == []


def test_the_price_is_settled_in_whole_cents() -> None:
    assert delivery_price_e8(60_000.004999) == 60_000 * 10**8
    assert delivery_price_e8(60_000.0051) == 60_000 * 10**8 + 10**6
