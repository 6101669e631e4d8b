"""Chooses what keeps this daemon's lease, from its settings: the store's leases, or lock files."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from mm_daemon.domain.permission import (
    CONTROL_PREFIX,
    CRASH,
    CRASHES,
    FIRM,
    LATCH_FILE,
    LatchState,
)
from mm_daemon.ipc.latch import LatchStore
from mm_daemon.ipc.layout import Layout
from mm_daemon.ipc.page import Page
from mm_daemon.ops.durable_number import DurableNumber
from mm_daemon.ops.firm_latch import FirmLatch
from mm_daemon.ops.lease import LeaseTimes
from mm_daemon.ops.lease_face import LeaseFace
from mm_daemon.ops.lease_keeper import LeaseKeeper, instance_token
from mm_daemon.ops.permit import LocalPermit, lock_paths
from mm_daemon.ops.redis_bus import RedisBus, Shard
from mm_daemon.ops.tenure_page import TenurePage

EPOCH_FILE: Final = "epoch"
OWN_TROUBLES: Final = (
    FIRM,
    CRASH,
    CRASHES,
    LATCH_FILE,
    *(f"{CONTROL_PREFIX}{row}" for row in ("C22", "C23", "C24.order")),
)
"""Sources of latches that say nothing of the account: loop, journal, lease, the trader's life."""
FIRM_FILE: Final = "firm-kill"
TOKEN_FILE: Final = "lease-token"  # noqa: S105 - a file's name


@dataclass(frozen=True)
class StoreSettings:
    """The firm's Redis."""

    url: str
    timeout_s: float
    renew_s: float
    password: Callable[[], str]


@dataclass(frozen=True)
class LeaseSettings:
    """The shard, and who lends the right to it. `store` None: lock files on this host."""

    shard: Shard
    shard_name: str
    venue_address: str
    times: LeaseTimes
    store: StoreSettings | None


def must_keep(state: LatchState) -> bool:
    """Whether something is latched that another instance would not hold: a person's kill here, or
    a limit of the account's. The firm's kill holds everywhere, and this instance's own troubles
    hold nobody else back."""
    return any(entry.source not in OWN_TROUBLES for entry in state.entries)


class Tenure(Protocol):
    """Whatever keeps the lease."""

    async def run(self) -> None: ...

    def face(self) -> LeaseFace: ...


@dataclass(frozen=True)
class LeaseHouse:
    """The keeper of the lease; `bus` and `firm` only where there is a store."""

    tenure: Tenure
    bus: RedisBus | None
    firm: FirmLatch | None


def set_up_lease(
    settings: LeaseSettings,
    *,
    layout: Layout,
    page: Page,
    latch: LatchStore,
    on_firm_lifted: Callable[[int], Awaitable[None]],
    log: structlog.typing.FilteringBoundLogger,
) -> LeaseHouse:
    """Inside the running loop. Raises: OSError where a file it needs cannot be made, ConfigError
    where one holds what it must not."""
    epochs = DurableNumber(layout.state_dir / EPOCH_FILE)
    words = TenurePage(page)
    if settings.store is None:
        shard = settings.shard
        paths = lock_paths(
            shard.environment, settings.venue_address, shard.account, shard.underlyings
        )
        permit = LocalPermit(
            lock_paths=paths,
            home=layout.runtime_dir,
            epochs=epochs,
            page=words,
            times=settings.times,
            mono_ns=time.monotonic_ns,
            log=log,
        )
        return LeaseHouse(permit, None, None)
    store = settings.store
    bus = RedisBus(store.url, settings.shard, store.timeout_s, store.password)
    firm = FirmLatch(
        latch, layout.wake, DurableNumber(layout.state_dir / FIRM_FILE), on_firm_lifted
    )
    keeper = LeaseKeeper(
        bus=bus,
        page=words,
        times=settings.times,
        renew_s=store.renew_s,
        token=instance_token(layout.runtime_dir / TOKEN_FILE, settings.shard_name),
        epochs=epochs,
        firm=firm,
        mono_ns=time.monotonic_ns,
        jitter=random.Random(secrets.randbits(64)),
        must_keep=lambda: must_keep(latch.state()),
        log=log,
    )
    return LeaseHouse(keeper, bus, firm)
