"""`python -m mm_daemon.warm`: compiles every kernel that a first `mm-daemon run` would compile.

For images and installations: what is compiled here is in the cache that `kernel_cache` names, so
the first start is as quick as any later one. It runs each room's real code on small synthetic
markets, connects to nothing and keeps nothing but the cache.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from mm_daemon.kernel_cache import use_kernel_cache

SEED = 1
WORLD_MINUTES = 2
STRIKES = tuple(60_000.0 + 5_000.0 * step for step in range(17))
SPOT, VOL, QUOTE_HALF_WIDTH_USD = 100_000.0, 0.6, 10.0
EXPIRY_DAYS = (7, 30)
NOW_NS = 1_800_000_000 * 1_000_000_000


def main() -> int:
    directory = use_kernel_cache()
    parts: tuple[tuple[str, Callable[[], None]], ...] = (
        ("pricing", _pricing),
        ("surface fit", _surface_fit),
        ("decision", _decision),
        ("simulated venue", _world),
    )
    for name, warm in parts:
        started_s = time.monotonic()
        warm()
        sys.stdout.write(f"{name}: {time.monotonic() - started_s:.1f} s\n")
        sys.stdout.flush()
    sys.stdout.write(f"kernels are in {directory}\n")
    return 0


def _pricing() -> None:
    from mm_daemon.pricing.warm import warm_kernels

    warm_kernels()


def _surface_fit() -> None:
    """Twice, because a fit with a predecessor takes other ways than a first one."""
    import numpy as np

    from mm_daemon.pricing.arrays import YEAR_NS
    from mm_daemon.pricing.black76 import price
    from mm_daemon.pricing.surface_fit import FitRequest, fit_surface
    from mm_daemon.pricing.surface_quotes import ExpiryQuotes

    strike = np.array(STRIKES)
    is_call = strike >= SPOT
    expiries = []
    for days in EXPIRY_DAYS:
        expiry_ns = NOW_NS + days * 86_400_000_000_000
        tte_years = (expiry_ns - NOW_NS) / YEAR_NS
        smile = VOL + 0.3 * np.log(strike / SPOT) ** 2
        mid = np.atleast_1d(price(SPOT, strike, tte_years, smile, is_call))
        expiries.append(
            ExpiryQuotes(
                expiry_ns=expiry_ns,
                forward=(SPOT,) * len(STRIKES),
                strike=STRIKES,
                is_call=tuple(is_call.tolist()),
                bid_usd=tuple((mid - QUOTE_HALF_WIDTH_USD).clip(0.0).tolist()),
                ask_usd=tuple((mid + QUOTE_HALF_WIDTH_USD).tolist()),
            )
        )
    first = fit_surface(FitRequest("BTC", NOW_NS, tuple(expiries)))
    fit_surface(FitRequest("BTC", NOW_NS, tuple(expiries), previous=first.surface))


def _decision() -> None:
    from mm_daemon import app
    from mm_daemon.core.warm_up import warm_up
    from mm_daemon.domain.inputs import Start

    config = app.load_config(None)
    warm_up(
        Start(
            session="warm",
            epoch=1,
            first_sequence=1,
            seed=SEED,
            wall_offset_ns=0,
            params=config.params(fill_model=None, spread_model=None),
            venue_settings=app.venue_settings(config, "warm"),
            checkpoint=b"",
            ledger_tail=b"",
            latch_generation=0,
            latch_permission=0,
            latch_tasks=0,
        )
    )


def _world() -> None:
    from mm_daemon.shell.venue_main import load_scenario
    from mm_daemon.sim.exchange import Exchange
    from mm_daemon.sim.world import World, WorldConfig, exchange_config

    script = load_scenario("calm")
    start_us = NOW_NS // 1_000
    world = World(
        WorldConfig(seed=SEED, start_us=start_us, scenario=script),
        Exchange(exchange_config(script), start_us),
    )
    world.start()
    world.advance(start_us + WORLD_MINUTES * 60_000_000)


if __name__ == "__main__":
    sys.exit(main())
