"""Tables with a known truth, and a small market whose prints follow one."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mm_daemon.core.catalog import Catalog, Floats
from mm_daemon.core.features import FEATURES, FeatureBoard, Rows
from mm_daemon.core.market import Market
from mm_daemon.core.quote_terms import LiveColumns
from mm_daemon.core.theo import TheoBoard
from mm_daemon.domain.params import IntensityParams
from mm_daemon.domain.units import NS_PER_S
from mm_daemon.research.datasets import Exposures, Markouts
from mm_daemon.research.exposure_sampler import ExposureSampler, SamplingSettings
from tests.core import chain_world

INTENSITY = IntensityParams(fills_per_day_atm=20.0, k_per_half_spread=1.5,
                            adverse_half_spread_ratio=0.3)  # fmt: skip


def rows_of(generator: np.random.Generator, count: int) -> Rows:
    """Features as the decision builds them: two flags, the others continuous."""
    rows = generator.normal(0.0, 0.8, (count, len(FEATURES)))
    for flag in (1, 2, 7):
        rows[:, flag] = rows[:, flag] > 0.0
    return rows.astype(np.float32)


def exposures(
    generator: np.random.Generator,
    rows: Rows,
    ln_a: Floats,
    k: Floats,
    *,
    days: float = 1.0,
    distance_max: float = 2.0,
) -> Exposures:
    """Quotes at random distances, each exposed until it fills or `days` are over."""
    n = len(rows)
    distance = generator.uniform(0.0, distance_max, n)
    waiting = generator.exponential(1.0, n) / np.exp(ln_a - k * distance)
    return Exposures(
        rows=rows,
        distance=distance,
        days=np.minimum(waiting, days),
        filled=(waiting <= days).astype(np.float64),
        weight=np.ones(n),
        ln_share=np.zeros(n),
        is_own=np.arange(n) % 10 == 0,
        ts_ns=np.arange(n, dtype=np.int64) * NS_PER_S,
        session=np.zeros(n, dtype=np.int64),
        analytic_ln_a=np.full(n, 1.0),
        analytic_k=np.full(n, 1.0),
    )


def markouts(generator: np.random.Generator, rows: Rows, mean: Floats, noise: float) -> Markouts:
    n = len(rows)
    return Markouts(
        rows=rows,
        adverse=mean + noise * generator.standard_t(4, n),
        is_own=np.arange(n) % 10 == 0,
        ts_ns=np.arange(n, dtype=np.int64) * NS_PER_S,
        session=np.zeros(n, dtype=np.int64),
        analytic=np.full(n, 0.3),
    )


@dataclass
class SmallDecision:
    """What the sampler reads of a decision, over the market of `chain_world`."""

    catalog: Catalog = field(default_factory=chain_world.catalog)
    theo: TheoBoard = field(init=False)
    market: Market = field(init=False)
    features: FeatureBoard = field(init=False)
    rests: LiveColumns = field(init=False)

    def __post_init__(self) -> None:
        self.theo = chain_world.board(self.catalog)
        self.market = chain_world.quoted_market(self.catalog, self.theo, half_ticks=2)
        self.features = FeatureBoard(self.catalog)
        self.rests = chain_world.live(self.catalog)

    def live(self) -> LiveColumns:
        return self.rests


def sampler(**settings: float) -> ExposureSampler:
    return ExposureSampler(
        {"BTC": INTENSITY},
        SamplingSettings(**settings),  # type: ignore[arg-type]
        np.random.default_rng(5),
        "small",
    )
