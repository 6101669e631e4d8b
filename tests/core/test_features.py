"""Feature rows: their layout, their symmetry between sides, and that nothing is ever not finite."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_daemon.core.features import FEATURES, LAYOUT_HASH, FeatureBoard
from mm_daemon.core.market import Market
from mm_daemon.core.theo import PRICE
from mm_daemon.domain.events import PublicTrade
from mm_daemon.domain.units import NS_PER_S, Ns, Side
from tests.core.chain_world import FORWARD, NOW, board, book_event, catalog, quoted_market

WORLD = catalog(days=(7.0, 30.0), strikes=5)
IDS = WORLD.option_ids("BTC")
AT = {name: column for column, name in enumerate(FEATURES)}


def rows_of(market: Market, features: FeatureBoard | None = None) -> np.ndarray:
    made = features or FeatureBoard(WORLD)
    return made.build("BTC", IDS, market, board(WORLD), NOW)


def test_layout_hash_is_of_the_names_in_order() -> None:
    assert len(LAYOUT_HASH) == 32
    assert len(set(FEATURES)) == len(FEATURES)
    rows = rows_of(quoted_market(WORLD, board(WORLD)))
    assert rows.shape == (2 * IDS.size, len(FEATURES))
    assert rows.dtype == np.float32


def test_sides_differ_in_the_sign_of_the_directional_features_alone() -> None:
    market = quoted_market(WORLD, board(WORLD))
    i = int(IDS[4])
    market.on_event(PublicTrade(i, Side.BUY, 0.01, 3.0, 1, 1, False), NOW)
    features = FeatureBoard(WORLD)
    features.observe("BTC", FORWARD, NOW)
    features.observe("BTC", FORWARD * 1.0003, Ns(NOW + NS_PER_S))
    rows = rows_of(market, features)
    bids, asks = rows[: IDS.size], rows[IDS.size :]
    for name, column in AT.items():
        if "toward" in name:
            assert np.array_equal(bids[:, column], -asks[:, column]), name
        elif name != "ln_touch_amount":
            assert np.array_equal(bids[:, column], asks[:, column]), name
    assert bids[4, AT["flow_toward"]] > 0.0
    calls = WORLD.is_call[IDS]
    assert (bids[calls, AT["drift_toward_half_spreads"]] > 0.0).all()
    assert (bids[~calls, AT["drift_toward_half_spreads"]] < 0.0).all()


def test_larger_bid_is_an_imbalance_toward_the_bid() -> None:
    market = Market(WORLD)
    i = int(IDS[0])
    event = book_event(WORLD, i, 40, 44)
    event.bids[0] = ("new", event.bids[0][1], 15.0)
    market.on_event(event, NOW)
    rows = rows_of(market)
    assert rows[0, AT["imbalance_toward"]] == 0.5
    assert rows[0, AT["is_one_sided"]] == 0.0
    assert rows[1, AT["is_one_sided"]] == 1.0


def test_realised_vol_of_steady_moves_converges_to_their_vol() -> None:
    features = FeatureBoard(WORLD)
    price, sign = FORWARD, 1.0
    for second in range(3_600):
        price *= math.exp(sign * 1e-4)
        sign = -sign
        features.observe("BTC", price, Ns(NOW + second * NS_PER_S))
    expected = 1e-4 * math.sqrt(365 * 86_400)
    assert abs(features.realised_vol("BTC") / expected - 1.0) < 0.01


def test_price_that_is_none_is_no_observation() -> None:
    features = FeatureBoard(WORLD)
    features.observe("BTC", FORWARD, NOW)
    digest = features.digest()
    features.observe("BTC", math.nan, Ns(NOW + 1))
    assert features.digest() == digest


@given(
    st.integers(0, 60),
    st.integers(0, 60),
    st.floats(0.0, 1.0),
    st.integers(0, 10**12),
    st.booleans(),
)
@settings(max_examples=80)
def test_rows_are_finite_whatever_the_market_shows(
    bid: int, wide: int, theo: float, age_ns: int, has_theo: bool
) -> None:
    market = Market(WORLD)
    ask = bid + wide if wide else 0
    market.on_event(book_event(WORLD, int(IDS[0]), bid, ask), Ns(NOW - age_ns))
    made = board(WORLD)
    made.columns[PRICE, IDS[0]] = theo if has_theo else math.nan
    if not has_theo:
        made.columns[:, IDS[1]] = math.nan
    rows = FeatureBoard(WORLD).build("BTC", IDS, market, made, NOW)
    assert np.isfinite(rows).all()
    assert np.abs(rows).max() <= 5.0
