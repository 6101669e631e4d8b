"""What valuing costs: greeks and implied vols an option, and the refresh of a whole chain."""

from __future__ import annotations

import numpy as np

from mm_daemon.domain.units import Ns
from mm_daemon.pricing.black76 import greeks, price
from mm_daemon.pricing.implied_vol import implied_vol
from tests.bench.figures import Figure
from tests.bench.timing import alone_ns, paired
from tests.core.chain_world import FORWARD, NOW, board, calibration, catalog

SECTION = "Pricing"
OPTIONS = 1_000
GREEKS_NS_MAX = 80.0
CHAINS = {60: ((30.0,), 30), 1_000: (tuple(14.0 + 10.0 * row for row in range(10)), 50)}
"""Options of a chain: its expiries in days, and strikes an expiry."""


def measure(*, rounds: int) -> list[Figure]:
    return [*_an_option(rounds), *(_refresh(size, rounds) for size in CHAINS)]


def _an_option(rounds: int) -> list[Figure]:
    rng = np.random.default_rng(7)
    strike = rng.uniform(60_000.0, 160_000.0, OPTIONS)
    years = rng.uniform(0.02, 1.0, OPTIONS)
    vol = rng.uniform(0.4, 1.0, OPTIONS)
    is_call = rng.random(OPTIONS) < 0.5
    paid = price(100_000.0, strike, years, vol, is_call)
    out = np.empty(OPTIONS)
    greek = paired(
        lambda: greeks(100_000.0, strike, years, vol, is_call),
        lambda: np.exp(vol, out=out),
        rounds=rounds,
        units=OPTIONS,
    )
    inverse = paired(
        lambda: implied_vol(paid, 100_000.0, strike, years, is_call),
        lambda: np.exp(vol, out=out),
        rounds=rounds,
        units=OPTIONS,
    )
    return [
        Figure(
            section=SECTION,
            name="greeks, an option of 1,000",
            value=greek.subject_ns,
            unit="ns",
            goal=GREEKS_NS_MAX,
            note=f"{greek.ratio:.1f} x one np.exp an element",
        ),
        Figure(
            section=SECTION,
            name="implied vol, an option of 1,000",
            value=inverse.subject_ns,
            unit="ns",
            note=f"{inverse.ratio:.1f} x one np.exp an element",
        ),
    ]


def _refresh(size: int, rounds: int) -> Figure:
    """The forward moves by 2 bp each time, so that every expiry is valued anew."""
    days, strikes = CHAINS[size]
    world = catalog(days=days, strikes=strikes, step=800.0)
    theo = board(world)
    calibrated = calibration(world)
    forwards = np.full(len(days), FORWARD)
    turns = [0]

    def refresh() -> None:
        turns[0] += 1
        forwards[:] = FORWARD * (1.0 + 2e-4 * (turns[0] % 2))
        theo.refresh("BTC", forwards, calibrated, Ns(NOW + turns[0]))

    spent_ns = alone_ns(refresh, rounds=4 * rounds, units=1)
    return Figure(
        section=SECTION,
        name=f"theo refresh of a chain of {size:,}",
        value=spent_ns / 1e3,
        unit="us",
        note=f"{spent_ns / size:.0f} ns an option",
    )
