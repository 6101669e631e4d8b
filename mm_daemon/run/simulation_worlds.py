"""The worlds a simulation runs in: small ones for thousands of seeds, the whole one by scenario."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mm_daemon.sim.deribit_wire import WireVenue
from mm_daemon.sim.deribit_wire_auth import AuthDesk
from mm_daemon.sim.exchange import Exchange
from mm_daemon.sim.scenario import Scenario
from mm_daemon.sim.small_world import SmallWorld, SmallWorldConfig
from mm_daemon.sim.world import World, WorldConfig, exchange_config

START_US: Final = 1_795_003_200_000_000
"""2026-11-18 12:00:00 UTC, a Wednesday: between two settlements."""
EXPIRY_START_US: Final = START_US + 135_900_000_000
"""2026-11-20 01:45:00 UTC: six and a quarter hours before a weekly expiry."""


@dataclass(frozen=True)
class SimulatedVenue:
    """A started world behind a wire."""

    exchange: Exchange
    world: SmallWorld | World
    wire: WireVenue
    start_us: int


def small_venue(config: SmallWorldConfig) -> SimulatedVenue:
    """A world of a handful of instruments."""
    exchange = Exchange(config.exchange_config(), config.start_us)
    world = SmallWorld(config, exchange)
    world.start()
    wire = WireVenue(exchange, world, AuthDesk(salt=f"seed {config.seed}"))
    return SimulatedVenue(exchange, world, wire, config.start_us)


def whole_venue(
    scenario: Scenario, *, seed: int, underlyings: tuple[str, ...], start_us: int = START_US
) -> SimulatedVenue:
    """The whole listed world under a scenario."""
    exchange = Exchange(exchange_config(scenario), start_us)
    world = World(
        WorldConfig(seed=seed, start_us=start_us, scenario=scenario, underlyings=underlyings),
        exchange,
    )
    world.start()
    wire = WireVenue(exchange, world, AuthDesk(salt=f"seed {seed}"))
    return SimulatedVenue(exchange, world, wire, start_us)
