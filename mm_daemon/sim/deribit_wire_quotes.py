"""Rendering of tickers: the exchange's numbers with the touch inverted into volatilities.

One instrument's ticker is asked for by several channels in the same beat (ticker at two
intervals, incremental_ticker, quote), so the row and its bytes are kept until the market moves.

The inversion is the simulation's own kernel; nothing of the daemon's pricing is used.
"""

import math
from typing import Final

import orjson

from mm_daemon.sim.deribit_wire_encode import ticker_row
from mm_daemon.sim.exchange_api import MarketDataApi
from mm_daemon.sim.exchange_records import Ticker
from mm_daemon.sim.option_math import YEAR_US, implied_vol
from mm_daemon.sim.spec import E8, InstrumentSpec, OptionType

Json = dict[str, object]
_VOL_DECIMALS: Final = 2


class TickerDesk:
    """Renders tickers and quotes of one exchange."""

    def __init__(self, market: MarketDataApi) -> None:
        self._market = market
        self._specs: dict[str, InstrumentSpec] = {}

    def spec(self, name: str) -> InstrumentSpec:
        """The instrument's constants, remembered."""
        spec = self._specs.get(name)
        if spec is None:
            spec = self._specs[name] = self._market.instrument(name)
        return spec

    def row(self, name: str, now_us: int) -> Json:
        """public/ticker of one instrument."""
        spec = self.spec(name)
        ticker = self._market.ticker(name, now_us)
        bid_iv_pct, ask_iv_pct = self._touch_vols(ticker, spec, now_us)
        return ticker_row(ticker, spec, bid_iv_pct=bid_iv_pct, ask_iv_pct=ask_iv_pct)

    def content(self, name: str, now_us: int) -> bytes:
        """The same as bytes."""
        return orjson.dumps(self.row(name, now_us))

    def quote_row(self, name: str, now_us: int) -> Json:
        """The quote channel: the touch alone."""
        bid_e8, bid_amount_e8, ask_e8, ask_amount_e8 = self._market.best(name)
        return {
            "timestamp": now_us // 1_000,
            "instrument_name": name,
            "best_bid_price": bid_e8 / E8,
            "best_bid_amount": bid_amount_e8 / E8,
            "best_ask_price": ask_e8 / E8,
            "best_ask_amount": ask_amount_e8 / E8,
        }

    def _touch_vols(self, ticker: Ticker, spec: InstrumentSpec, now_us: int) -> tuple[float, float]:
        mark = ticker.mark
        if not spec.is_option or mark is None or not mark.underlying_price_e8:
            return 0.0, 0.0
        assert spec.strike_e8 is not None
        forward = mark.underlying_price_e8 / E8
        unit = 1.0 if spec.is_inverse else forward
        tte_years = max(spec.expiry_us - now_us, 0) / YEAR_US
        is_call = spec.option_type is OptionType.CALL
        vols = []
        for price_e8 in (ticker.best_bid_price_e8, ticker.best_ask_price_e8):
            if not price_e8:
                vols.append(0.0)
                continue
            vol = implied_vol(
                price_e8 / E8 / unit, forward, spec.strike_e8 / E8, tte_years, is_call
            )
            vols.append(0.0 if math.isnan(vol) else round(100.0 * vol, _VOL_DECIMALS))
        return vols[0], vols[1]
