"""What the board values an expiring option at in its window, against the delivery that follows.

The venue samples, foresees and delivers by its own arithmetic; the board knows only what the venue
says of it. Where the index stands still from some moment on, nothing is open any more but the risk
that it moves: every value from then on must be the one delivered.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_daemon.core.market import Market
from mm_daemon.core.theo import TheoBoard
from mm_daemon.domain.events import ExpirationEstimate, IndexSeen
from mm_daemon.domain.units import Ns
from mm_daemon.pricing.valuation import Averaging
from mm_daemon.sim.exchange_events import EstimatedDelivery
from mm_daemon.sim.spec import E8, MINUTE_US, SECOND_US
from tests.core.chain_world import FORWARD, calibration, catalog
from tests.sim.exchange_setup import INDEX, of_type, option, venue

NS_PER_US = 1_000
WORLD = catalog(days=(11.0, 12.0), strikes=15)
EXPIRY_NS = WORLD.expiries["BTC"][0].expiry_ns
EXPIRY_US = EXPIRY_NS // NS_PER_US
DEEP_CALL = 2
"""Strike 56,000: worth its forward less the strike, all through the window."""
SAMPLES = 300
STEP_US = 6 * SECOND_US
DELIVERY_TICK_USD = 0.01


def said(event: EstimatedDelivery) -> ExpirationEstimate:
    """As the venue's channel words it."""
    share = event.left_ticks / event.total_ticks
    price, seconds = event.price_e8 / E8, float(event.seconds_left)
    return ExpirationEstimate(event.index_name, price, seconds, event.is_estimated, share)


class Window:
    """A venue that averages an index, and a board that hears of it."""

    def __init__(self) -> None:
        self.exchange = venue(option(expiry_us=EXPIRY_US))
        self.market = Market(WORLD)
        self.board = TheoBoard(WORLD)
        self.index_usd = FORWARD
        self.seen: list[tuple[Averaging, float]] = []
        """The average, and what the deep call says the delivery will be."""
        self.set_index(FORWARD, EXPIRY_US - 31 * MINUTE_US)

    def set_index(self, index_usd: float, now_us: int) -> None:
        self.index_usd = index_usd
        self.exchange.set_index(INDEX, round(index_usd * E8), now_us)
        self.exchange.drain_events()
        self.market.on_event(IndexSeen(INDEX, index_usd, 1), Ns(now_us * NS_PER_US))

    def sample(self, number: int) -> None:
        """The venue takes one sample and the board values on what it hears of it."""
        now_us = EXPIRY_US - (SAMPLES - number) * STEP_US
        self.exchange.advance(now_us)
        now = Ns(now_us * NS_PER_US)
        (event,) = of_type(self.exchange.drain_events(), EstimatedDelivery)
        self.market.on_event(said(event), now)
        average = self.market.averaging(INDEX, now)
        still = np.full(2, self.index_usd)
        self.board.refresh("BTC", still, calibration(WORLD), now, average)
        price_usd = float(self.board.price_usd[DEEP_CALL])
        self.seen.append((average, price_usd + WORLD.strike[DEEP_CALL]))

    def delivered_usd(self) -> float:
        ((expiry_us, price_e8),) = self.exchange.delivery_prices(INDEX)
        assert expiry_us == EXPIRY_US
        return price_e8 / E8


moves = st.dictionaries(
    st.integers(1, 200), st.floats(0.97 * FORWARD, 1.03 * FORWARD).map(round), min_size=1
)


@settings(max_examples=15, deadline=None)
@given(moves)
def test_once_the_index_stands_still_theo_is_the_delivery_that_follows(
    path: dict[int, int],
) -> None:
    window = Window()
    for number in range(1, SAMPLES + 1):
        if number in path:
            window.set_index(path[number], EXPIRY_US - (SAMPLES - number) * STEP_US - 1)
        window.sample(number)
    delivered = window.delivered_usd()
    # The last sample is taken at the expiry itself, when the option has no time and no value left.
    for average, settled in window.seen[max(path) - 1 : -1]:
        assert average.expiry_ns == EXPIRY_NS
        assert settled == pytest.approx(delivered, abs=0.51 * DELIVERY_TICK_USD)


def test_delta_is_the_share_of_the_samples_still_open_and_the_next_day_keeps_its_own() -> None:
    window = Window()
    for number in range(1, SAMPLES + 1):
        window.sample(number)
        if number < SAMPLES:
            open_share = (SAMPLES - number) / SAMPLES
            assert window.board.delta[DEEP_CALL] == pytest.approx(open_share, abs=1e-9)
        tomorrow = window.board.delta[WORLD.expiries["BTC"][1].ids]
        assert tomorrow[0] == pytest.approx(1.0, abs=0.01)
        assert np.isfinite(tomorrow).all()
