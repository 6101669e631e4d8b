"""Builds the simulated venue from what an operator types, and serves it until told to stop.

Everything random in it comes from the seed; everything timed from the wall clock.  It says one
line when it is up, and nothing else.
"""

import asyncio
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Final

import uvloop

from mm_daemon.shell.venue_server import RisingClock, VenueServer, VenueStartError
from mm_daemon.sim.deribit_wire import WireVenue
from mm_daemon.sim.deribit_wire_auth import AuthDesk
from mm_daemon.sim.exchange import Exchange
from mm_daemon.sim.scenario import Scenario, ScenarioError, parse_scenario
from mm_daemon.sim.world import World, WorldConfig, exchange_config

TIERS: Final = {"top": 1, "1": 1, "2": 2, "3": 3, "4": 4, "load": 0}
LISTEN_DEFAULT: Final = "127.0.0.1:8712"


def parse_listen(listen: str) -> tuple[str, int]:
    """HOST:PORT; port 0 lets the system choose."""
    host, colon, port_text = listen.rpartition(":")
    if not colon or not host or not port_text.isdigit() or int(port_text) > 65_535:
        raise VenueStartError(f"venue: --listen expects HOST:PORT, found {listen!r}")
    return host.strip("[]"), int(port_text)


def load_scenario(name: str) -> Scenario:
    """A shipped scenario by its name, or a TOML file by its path."""
    path = Path(name)
    if path.suffix == ".toml":
        try:
            return parse_scenario(path.read_text("utf-8"), source=name)
        except OSError as error:
            raise VenueStartError(f"venue: cannot read scenario {name}: {error.strerror}") from None
        except (ScenarioError, UnicodeDecodeError) as error:
            raise VenueStartError(f"venue: {error}") from None
    shipped = resources.files("mm_daemon.sim").joinpath("scenarios")
    names = sorted(
        entry.name.removesuffix(".toml")
        for entry in shipped.iterdir()
        if entry.name.endswith(".toml")
    )
    if name not in names:
        raise VenueStartError(
            f"venue: no scenario {name!r}; shipped are {', '.join(names)}, or give a .toml file"
        )
    return parse_scenario(shipped.joinpath(f"{name}.toml").read_text("utf-8"), source=name)


def build_server(
    listen: str,
    *,
    seed: int,
    scenario: str,
    speed: float,
    tier: str,
    underlyings: tuple[str, ...] = ("BTC", "ETH"),
    clock: RisingClock | None = None,
) -> VenueServer:
    """A server with its world started at the present, not yet listening."""
    host, port = parse_listen(listen)
    if tier not in TIERS:
        raise VenueStartError(f"venue: --tier expects one of {', '.join(TIERS)}, found {tier!r}")
    if not 0.0 < speed < 1e6:
        raise VenueStartError(f"venue: --speed expects a positive pace, found {speed}")
    script = load_scenario(scenario)
    clock = clock if clock is not None else RisingClock()
    start_us = clock.now_us()
    exchange = Exchange(exchange_config(script), start_us)
    world = World(
        WorldConfig(
            seed=seed,
            start_us=start_us,
            scenario=script,
            speed=speed,
            tier=TIERS[tier],
            underlyings=underlyings,
        ),
        exchange,
    )
    world.start()
    venue = WireVenue(exchange, world, AuthDesk(salt=f"seed {seed}"))
    return VenueServer(venue, clock=clock, host=host, port=port)


async def serve_venue(
    listen: str = LISTEN_DEFAULT,
    *,
    seed: int = 1,
    scenario: str = "calm",
    speed: float = 1.0,
    tier: str = "top",
    announce: Callable[[str], None] | None = None,
) -> None:
    """Serve until cancelled; a failure of the world or of the venue ends it with that failure.

    Raises: VenueStartError with one line for the operator.
    """
    server = build_server(listen, seed=seed, scenario=scenario, speed=speed, tier=tier)
    await server.start()
    try:
        if announce is not None:
            announce(
                f"venue: {server.ws_url} and {server.rest_url}/api/v2, seed {seed}, {scenario}"
            )
        assert server.failure is not None
        await server.failure
    finally:
        await server.close()


def run_venue(
    listen: str = LISTEN_DEFAULT,
    *,
    seed: int = 1,
    scenario: str = "calm",
    speed: float = 1.0,
    tier: str = "top",
    announce: Callable[[str], None] | None = None,
) -> None:
    """The same as a whole process on its own loop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(
            serve_venue(
                listen, seed=seed, scenario=scenario, speed=speed, tier=tier, announce=announce
            )
        )
