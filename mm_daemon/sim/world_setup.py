"""How a world is set up: its configuration, the accounts it opens, and the exchange it needs."""

from __future__ import annotations

from typing import Protocol

import msgspec

from mm_daemon.sim.exchange_api import MarketDataApi, WorldApi
from mm_daemon.sim.exchange_config import AccountConfig, ExchangeConfig
from mm_daemon.sim.exchange_types import MarginModel
from mm_daemon.sim.flow import EARLY_TAKERS, TAKERS, FutureTaker
from mm_daemon.sim.future_makers import LEVELS
from mm_daemon.sim.makers import MAKERS
from mm_daemon.sim.scenario import Scenario
from mm_daemon.sim.spec import E8, SECOND_US


class WorldExchange(WorldApi, MarketDataApi, Protocol):
    """The exchange as the world sees it."""

    def position_e8(self, account: str, instrument: str) -> int: ...


class WorldConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`start_us` is the venue's clock at the start; `tier` is the demo maker's, 1 the highest."""

    seed: int
    start_us: int
    scenario: Scenario
    speed: float = 1.0
    tier: int = 1
    underlyings: tuple[str, ...] = ("BTC", "ETH")


def exchange_config(scenario: Scenario) -> ExchangeConfig:
    """How the exchange must be set up for this scenario's deliveries."""
    return ExchangeConfig(delivery_window_us=round(scenario.delivery_window_s * SECOND_US))


def demo_accounts(tier: int) -> tuple[AccountConfig, ...]:
    """The accounts behind the published test keys."""
    return (
        AccountConfig(
            name="demo-maker",
            user_id=1001,
            balances_e8={"BTC": 200 * E8, "ETH": 3_000 * E8, "USDC": 1_000_000 * E8},
            tier=tier,
            margin_model=MarginModel.PORTFOLIO,
            mass_quotes_enabled=True,
        ),
        AccountConfig(
            name="demo-taker",
            user_id=1002,
            balances_e8={"BTC": 50 * E8, "ETH": 1_000 * E8, "USDC": 500_000 * E8},
            tier=1,
        ),
    )


def quiet_accounts() -> list[AccountConfig]:
    takers = {f"taker-{config.name}": None for configs in TAKERS.values() for config in configs}
    takers |= {f"taker-{config.name}": None for config in EARLY_TAKERS}
    names = [config.name for config in MAKERS]
    names += [level.account for level in LEVELS]
    names += [*takers, FutureTaker.account]
    return [AccountConfig(name=n, user_id=2001 + i, quiet=True) for i, n in enumerate(names)]
