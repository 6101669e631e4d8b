"""Ready-made worlds for tests: the real exchange, its trades and quotes on record."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import resources
from typing import NamedTuple

from mm_daemon.sim.exchange import Exchange
from mm_daemon.sim.exchange_events import Event
from mm_daemon.sim.scenario import Scenario, parse_scenario
from mm_daemon.sim.spec import SECOND_US
from mm_daemon.sim.world import World, WorldConfig, exchange_config

START_US = int(datetime(2026, 2, 3, 21, 35, tzinfo=UTC).timestamp()) * SECOND_US


class Take(NamedTuple):
    """One order of a quiet taker and what it got."""

    ts_us: int
    account: str
    instrument: str
    sign: int
    amount_e8: int
    limit_price_e8: int
    filled_e8: int


class RecordingExchange(Exchange):
    """The exchange itself, remembering what quiet accounts asked of it."""

    def __init__(self, scenario: Scenario, now_us: int) -> None:
        super().__init__(exchange_config(scenario), now_us)
        self.takes: list[Take] = []
        self.quotes: list[tuple[int, str, str]] = []

    def taker_trade(
        self,
        account: str,
        instrument: str,
        sign: int,
        amount_e8: int,
        limit_price_e8: int,
        now_us: int,
    ) -> int:
        filled = super().taker_trade(account, instrument, sign, amount_e8, limit_price_e8, now_us)
        self.takes.append(
            Take(now_us, account, instrument, sign, amount_e8, limit_price_e8, filled)
        )
        return filled

    def maker_quote(
        self,
        account: str,
        instrument: str,
        bid_price_e8: int,
        bid_amount_e8: int,
        ask_price_e8: int,
        ask_amount_e8: int,
        now_us: int,
    ) -> int:
        self.quotes.append((now_us, account, instrument))
        return super().maker_quote(
            account, instrument, bid_price_e8, bid_amount_e8, ask_price_e8, ask_amount_e8, now_us
        )


def shipped_scenario(name: str) -> Scenario:
    text = resources.files("mm_daemon.sim").joinpath(f"scenarios/{name}.toml").read_text()
    return parse_scenario(text, source=name)


def started(
    scenario: Scenario,
    *,
    seed: int = 1,
    start_us: int = START_US,
    speed: float = 1.0,
    underlyings: tuple[str, ...] = ("BTC", "ETH"),
) -> tuple[World, RecordingExchange]:
    """A world that has opened its books."""
    exchange = RecordingExchange(scenario, start_us)
    config = WorldConfig(
        seed=seed, start_us=start_us, scenario=scenario, speed=speed, underlyings=underlyings
    )
    world = World(config, exchange)
    world.start()
    return world, exchange


def run(world: World, until_us: int, *, step_us: int = SECOND_US) -> list[Event]:
    """All events until then, from advances of `step_us`."""
    events = world.drain_events()
    now_us = world.config.start_us
    while now_us < until_us:
        now_us = min(now_us + step_us, until_us)
        world.advance(now_us)
        events += world.drain_events()
    return events
