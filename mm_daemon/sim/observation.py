"""The venue's option chain as a reader of its tickers sees it, for the statistics of
`chain_statistics`.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from mm_daemon.sim.chain_statistics import Chain
from mm_daemon.sim.exchange_records import Ticker
from mm_daemon.sim.option_math import YEAR_US
from mm_daemon.sim.spec import E8, InstrumentSpec, Kind, OptionType


class TickerSource(Protocol):
    """The part of the exchange that shows a chain."""

    def instruments(
        self, currency: str | None = None, kind: Kind | None = None, expired: bool = False
    ) -> list[InstrumentSpec]: ...

    def ticker(self, name: str, now_us: int) -> Ticker: ...


def observed_chain(venue: TickerSource, currency: str, now_us: int) -> Chain:
    """All marked options of one currency at `now_us`, tenor at the moment of reading."""
    rows = []
    for spec in venue.instruments(currency, Kind.OPTION):
        ticker = venue.ticker(spec.name, now_us)
        mark = ticker.mark
        if mark is None or mark.underlying_price_e8 is None or spec.strike_e8 is None:
            continue
        rows.append(
            (
                (spec.expiry_us - now_us) / YEAR_US,
                spec.option_type is OptionType.CALL,
                spec.strike_e8 / E8,
                mark.underlying_price_e8 / E8,
                ticker.best_bid_price_e8 / E8,
                ticker.best_ask_price_e8 / E8,
                mark.mark_price_e8 / E8,
                mark.mark_iv_pct / 100.0,
            )
        )
    columns = np.array(rows, dtype=np.float64).reshape(-1, 8).T.copy()
    return Chain(
        tte_years=columns[0],
        is_call=columns[1] > 0.5,
        strike=columns[2],
        forward=columns[3],
        bid=columns[4],
        ask=columns[5],
        mark=columns[6],
        mark_vol=columns[7],
    )
