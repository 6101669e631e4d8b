"""Only two-sided out-of-the-money quotes teach a surface."""

import numpy as np
import pytest

from mm_daemon.pricing import black76
from mm_daemon.pricing.surface_quotes import ExpiryQuotes, select, usable_quotes

TTE = 30.0 / 365.0
STRIKES = (80.0, 90.0, 100.0, 110.0, 120.0)


def chain(**changes: tuple[float, ...]) -> ExpiryQuotes:
    """Both kinds of five strikes on a forward of 101, bid at 60 vol and ask at 62."""
    strike = np.array(STRIKES * 2)
    is_call = np.array([True] * 5 + [False] * 5)
    columns = {
        "bid_usd": tuple(black76.price(101.0, strike, TTE, 0.60, is_call).tolist()),
        "ask_usd": tuple(black76.price(101.0, strike, TTE, 0.62, is_call).tolist()),
        **changes,
    }
    return ExpiryQuotes(
        expiry_ns=1,
        forward=(101.0,) * 10,
        strike=tuple(strike.tolist()),
        is_call=tuple(is_call.tolist()),
        **columns,
    )


def test_out_of_the_money_quotes_are_inverted_in_order_of_strike() -> None:
    found = usable_quotes(chain(), TTE)
    assert [STRIKES[i % 5] for i in found.source] == list(STRIKES)
    assert found.source.tolist() == [5, 6, 7, 3, 4]
    assert found.bid_vol == pytest.approx(np.full(5, 0.60), abs=1e-10)
    assert found.ask_vol == pytest.approx(np.full(5, 0.62), abs=1e-10)
    assert found.width == pytest.approx(np.full(5, 0.02), abs=1e-10)
    assert found.k == pytest.approx(np.log(np.array(STRIKES) / 101.0))
    assert (found.delta[:3] < 0.0).all()
    assert (found.delta[3:] > 0.0).all()


@pytest.mark.parametrize("bid", [0.0, -1.0, float("nan"), 1e9])
def test_a_quote_without_a_sound_bid_is_left_out(bid: float) -> None:
    bids = list(chain().bid_usd)
    bids[3] = bid
    assert usable_quotes(chain(bid_usd=tuple(bids)), TTE).source.tolist() == [5, 6, 7, 4]


def test_a_quote_with_ask_at_bid_is_left_out() -> None:
    asks = list(chain().ask_usd)
    asks[4] = chain().bid_usd[4]
    assert usable_quotes(chain(ask_usd=tuple(asks)), TTE).source.tolist() == [5, 6, 7, 3]


def test_nothing_usable_gives_empty_columns() -> None:
    assert usable_quotes(chain(bid_usd=(0.0,) * 10), TTE).k.size == 0


def test_selection_keeps_columns_together() -> None:
    found = usable_quotes(chain(), TTE)
    kept = select(found, np.array([True, False, False, False, True]))
    assert kept.source.tolist() == [5, 4]
    assert kept.k.tolist() == [found.k[0], found.k[4]]
