"""The measuring code finds on recorded chains what the calibration tables say, and is exact on
made ones.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyarrow import csv as pa_csv

from mm_daemon.sim.calibration import CHAIN, Row
from mm_daemon.sim.chain_statistics import (
    Chain,
    ask_only_share,
    bid_only_share,
    bucket_statistics,
    first_component_share,
    mark_inside_share,
    robust_sd,
    smile_statistics,
    tenor_bucket,
)
from mm_daemon.sim.option_math import price_coin

DATA = Path(os.environ.get("MM_REFERENCE_DATA", "../shared/data")) / "deribit-chains"
YEAR_S = 365.0 * 86_400.0
HALF_HOUR_YEARS = 0.5 / (24.0 * 365.0)


def recorded(currency: str) -> Iterator[Chain]:
    """One chain a snapshot; every row with its own forward, tenor to the venue's expiry."""
    as_text = pa_csv.ConvertOptions(
        column_types={"timestamp": pa.string(), "expiry_datetime": pa.string()}
    )
    for path in sorted(DATA.glob("*.csv.gz")):
        table = pa_csv.read_csv(path, convert_options=as_text)
        table = table.filter(pc.equal(table["currency"], currency))
        now_s = datetime.fromisoformat(table["timestamp"][0].as_py()).timestamp()
        texts = table["expiry_datetime"].to_pylist()
        at_s = {text: datetime.fromisoformat(text).timestamp() for text in dict.fromkeys(texts)}
        tte = np.array([(at_s[text] - now_s) / YEAR_S for text in texts])
        alive = tte > HALF_HOUR_YEARS

        def column(name: str, table: pa.Table = table, alive: np.ndarray = alive) -> np.ndarray:
            values = pc.fill_null(table[name].cast(pa.float64()), 0.0)
            return values.to_numpy()[alive].copy()

        yield Chain(
            tte_years=tte[alive],
            is_call=np.array([kind == "call" for kind in table["option_type"].to_pylist()])[alive],
            strike=column("strike"),
            forward=column("underlying"),
            bid=column("bid_price"),
            ask=column("ask_price"),
            mark=column("mark_price"),
            mark_vol=column("implied_volatility"),
        )


def pooled(chains: list[Chain]) -> Chain:
    fields = Chain.__struct_fields__
    return Chain(*(np.concatenate([getattr(chain, f) for chain in chains]) for f in fields))


def worst(found: np.ndarray, target: Row) -> float:
    """Largest relative difference over the cells with a number, beyond the tables' rounding."""
    wanted = np.array(target)
    known = ~np.isnan(wanted)
    return float(np.max(np.abs(found[known] - wanted[known]) / np.abs(wanted[known])))


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no recorded chains at {DATA} (MM_REFERENCE_DATA)")
@pytest.mark.parametrize("name", sorted(CHAIN))
def test_recorded_chains_show_the_tables_the_world_is_calibrated_to(name: str) -> None:
    chains = list(recorded(name))
    everything = pooled(chains)
    stats = bucket_statistics(everything)
    target = CHAIN[name]
    assert worst(stats.spread_vp[:, 0], target.spread_atm_vp) <= 0.1
    assert worst(stats.spread_vp[:, 2], target.spread_d10_25_vp) <= 0.1
    assert worst(stats.spread_vp[:, 3], target.spread_d5_10_vp) <= 0.1
    assert worst(stats.spread_vp[:, 4], target.spread_d1_5_vp) <= 0.1
    assert worst(stats.spread_ticks[:, 0], target.ticks_atm) <= 0.34
    assert worst(100.0 * stats.two_sided[:, 4], target.two_sided_d1_5_pct) <= 0.02
    assert 0.09 <= ask_only_share(everything) <= 0.12
    assert bid_only_share(everything) <= 0.001
    assert 0.92 <= mark_inside_share(everything) <= 0.99


def made_chain() -> Chain:
    """Five strikes of one 60 % expiry, quoted two ticks wide around the model."""
    strike = np.array([80.0, 90.0, 100.0, 110.0, 120.0, 80.0, 90.0, 100.0, 110.0, 120.0]) * 700.0
    is_call = np.array([False] * 5 + [True] * 5)
    tte = np.full(10, 30.0 / 365.0)
    forward = np.full(10, 70_000.0)
    vol = np.full(10, 0.6)
    mark = np.array(
        [
            price_coin(f, k, t, v, bool(c))
            for f, k, t, v, c in zip(forward, strike, tte, vol, is_call, strict=True)
        ]
    )
    return Chain(tte, is_call, strike, forward, mark - 0.0005, mark + 0.0005, mark, vol)


def test_a_flat_smile_has_no_risk_reversal_and_its_quotes_their_width() -> None:
    chain = made_chain()
    smile = smile_statistics(chain)
    assert smile.atm_vp.size == 0
    stats = bucket_statistics(chain)
    bucket = int(tenor_bucket(chain.tte_years)[0])
    assert bucket == 6
    assert stats.count[bucket].tolist() == [0, 1, 2, 1, 0, 0]
    assert stats.spread_ticks[bucket, 1] == pytest.approx(2.0)
    d1 = 0.5 * 0.6 * math.sqrt(30.0 / 365.0) + math.log(1.0 / 1.1) / 0.6 / math.sqrt(30.0 / 365.0)
    vega = math.sqrt(30.0 / 365.0) * math.exp(-0.5 * d1 * d1) / math.sqrt(2.0 * math.pi)
    assert stats.spread_vp[bucket, 1] == pytest.approx(100.0 * 0.001 / vega, rel=0.02)
    assert mark_inside_share(chain) == 1.0


def test_sides_are_counted_on_out_of_the_money_options_only() -> None:
    chain = made_chain()
    bid = chain.bid.copy()
    bid[0] = 0.0
    bid[4] = 0.0
    ask_only = Chain(
        chain.tte_years, chain.is_call, chain.strike, chain.forward, bid, chain.ask,
        chain.mark, chain.mark_vol,
    )  # fmt: skip
    assert ask_only_share(ask_only) == pytest.approx(1.0 / 5.0)
    assert bid_only_share(ask_only) == 0.0


def test_robust_sd_equals_the_sd_of_a_normal_sample() -> None:
    sample = np.random.default_rng(1).standard_normal(20_000) * 3.0
    assert robust_sd(sample) == pytest.approx(3.0, rel=0.03)
    sample[:200] = 1e6
    assert robust_sd(sample) == pytest.approx(3.0, rel=0.05)


def test_first_component_share_of_one_common_driver() -> None:
    rng = np.random.default_rng(2)
    common = rng.standard_normal((5_000, 1))
    moves = 2.0 * common + rng.standard_normal((5_000, 4))
    # Correlation 0.8 between any two of four: (1 + 3 x 0.8) / 4.
    assert first_component_share(moves) == pytest.approx(0.85, abs=0.01)
