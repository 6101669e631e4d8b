"""The part of the composition root that turns the configuration into the lease's settings."""

from __future__ import annotations

import asyncio
from pathlib import Path

from mm_daemon.config import Config
from mm_daemon.domain.errors import ConfigError
from mm_daemon.ops.durable_number import DurableNumber
from mm_daemon.ops.firm_kill import tell_store
from mm_daemon.ops.lease import NS_PER_S, ORDER_VALID_S_MAX, LeaseTimes
from mm_daemon.ops.lease_setup import FIRM_FILE, LeaseSettings, StoreSettings
from mm_daemon.ops.redis_bus import RedisBus, Shard

KILL_STORE_S = 2.0
"""How long the command line's kill gives the firm's store for each of its calls."""


def lease_settings(config: Config, venue_address: str) -> LeaseSettings:
    """The right to trade this shard: from the firm's Redis, or by lock files on this host."""
    redis = config.redis
    quotes_valid_s = max(one.quoting.valid_for_ms for one in config.underlyings) / 1000
    clocks_s = config.breaker.clock_offset_ms_max / 1000
    permit_s = config.breaker.permit_quote_age_s_max if redis.url else config.ops.permit_s
    store = StoreSettings(redis.url, redis.timeout_s, redis.renew_s, redis.password)
    return LeaseSettings(
        shard=_shard(config),
        shard_name=config.daemon.shard,
        venue_address=venue_address,
        times=LeaseTimes(
            ttl_ns=round(redis.lease_ttl_s * NS_PER_S),
            permit_ns=round(permit_s * NS_PER_S),
            valid_ns=round((max(ORDER_VALID_S_MAX, quotes_valid_s) + clocks_s) * NS_PER_S),
        ),
        store=store if redis.url else None,
    )


def ask_store(config: Config) -> str:
    """What the firm's store is, for `mm-daemon check`. Raises StoreError and ConfigError."""

    async def ask() -> str:
        redis = config.redis
        bus = RedisBus(redis.url, _shard(config), redis.timeout_s, redis.password)
        try:
            return await bus.describe()
        finally:
            await bus.close()

    return asyncio.run(ask())


def tell_firm(config: Config, state_dir: Path, *, level: str, reason: str, by: str) -> str:
    """Tells the firm's Redis of a kill where no ops process does; what went wrong, empty =
    nothing."""
    try:
        floor = DurableNumber(state_dir / FIRM_FILE).read()
    except ConfigError:
        floor = 0  # The store's own clock is above it too; a kill is not held up by a file.

    async def tell() -> str:
        redis = config.redis
        timeout_s = min(redis.timeout_s, KILL_STORE_S)
        bus = RedisBus(redis.url, _shard(config), timeout_s, redis.password)
        try:
            return await tell_store(bus, level=level, reason=reason, by=by, floor=floor)
        finally:
            await bus.close()

    return asyncio.run(tell())


def _shard(config: Config) -> Shard:
    return Shard(
        firm=config.redis.firm,
        environment=config.daemon.environment,
        venue=config.venue.name,
        account=config.venue.account,
        underlyings=tuple(one.name for one in config.underlyings),
    )
