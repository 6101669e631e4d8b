"""Keeps this instance's lease: asks the store, believes its own clock, writes the page.

One task asks and asks again; another writes the page fifty times a second from what is known, so
that a lease that runs out ends in time while a question still hangs. A third listens for wake-ups.
None of them can hold up anything else in this process, and the trader sees nothing but the page.

What ends ops does not end the lease at once: started again within the ttl, ops goes on with the
tenure that the page still names, and the trader never notices.

An instance that holds the lease and cannot run a trader under it (a full disk, a damaged ledger)
gives it up after a while, or nobody would ever take over from it. It asks again once a trader
lives. What a person latched here keeps the lease here: to another it would be as if lifted.
"""

from __future__ import annotations

import asyncio
import random
import re
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from mm_daemon.domain.errors import ConfigError
from mm_daemon.ipc.page import LeaseState
from mm_daemon.ops.durable_number import DurableNumber
from mm_daemon.ops.firm_latch import FirmLatch
from mm_daemon.ops.lease import NS_PER_S, Lease, LeaseTimes
from mm_daemon.ops.lease_face import LeaseFace
from mm_daemon.ops.redis_bus import (
    Granted,
    Held,
    RedisBus,
    Refused,
    StoreError,
    is_cancelled,
)
from mm_daemon.ops.tenure_page import Standing, TenurePage

PUBLISH_S: Final = 0.02
RETRY_RATIO: Final = 0.25
"""After a failure the next question comes after this share of the renewal interval, jittered."""
IDLE_S: Final = 60.0
"""So long a tenure may have no trader: longer than a sweep is waited for, and a start after it."""
LAPSE_JITTER_S: Final = (0.005, 0.05)
"""Waiting instances ask this much after the holder's lease is over, not all at once."""


class LeaseKeeper:
    """One daemon's lease."""

    def __init__(
        self,
        *,
        bus: RedisBus,
        page: TenurePage,
        times: LeaseTimes,
        renew_s: float,
        token: str,
        epochs: DurableNumber,
        firm: FirmLatch,
        mono_ns: Callable[[], int],
        jitter: random.Random,
        must_keep: Callable[[], bool],
        log: structlog.typing.FilteringBoundLogger,
        idle_s: float = IDLE_S,
    ) -> None:
        """`must_keep`: the latch holds something that would be lost with the lease."""
        self._bus = bus
        self._page = page
        self._times = times
        self._renew_s = renew_s
        self._token = token
        self._epochs = epochs
        self._firm = firm
        self._mono_ns = mono_ns
        self._jitter = jitter
        self._must_keep = must_keep
        self._idle_ns = int(idle_s * NS_PER_S)
        self._needed_ns = 0
        """When a trader was last seen under a tenure, or when this one began."""
        self._has_given_up = False
        self._log = log
        self._lease = Lease()
        self._wake = asyncio.Event()
        self._floor = 0
        self._holder = ""
        self._proved_ns = 0
        self._said_problem = ""
        self._said_state = LeaseState.NONE

    # -- life ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Holds or waits until cancelled; then lets go, if no trader lives that relies on it."""
        self._go_on()
        helpers = [asyncio.create_task(self._publish_often()), asyncio.create_task(self._listen())]
        try:
            while not is_cancelled():
                await self._pause(await self._turn())
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            await self._let_go()

    def face(self) -> LeaseFace:
        """For status; never waits."""
        now_ns = self._mono_ns()
        return LeaseFace(
            state=self._lease.state(now_ns).name.lower(),
            tenure=self._lease.fence(now_ns),
            holder=self._holder,
            age_s=(now_ns - self._proved_ns) / NS_PER_S if self._proved_ns else None,
            store=self._bus.where,
            store_is_up=self._bus.is_up,
            problem=self._bus.problem,
        )

    # -- asking -------------------------------------------------------------------------------

    async def _turn(self) -> float:
        """One question and what follows from it; seconds until the next."""
        asked_ns = self._mono_ns()
        try:
            if self._is_idle(asked_ns):
                await self._give_up()
                next_s = self._renew_s
            elif self._lease.tenure:
                await self._renew(asked_ns)
                next_s = self._renew_s if self._lease.tenure else 0.0
            elif self._has_given_up and not self._page.has_process:
                next_s = self._renew_s
            else:
                next_s = await self._acquire(asked_ns)
        except StoreError as error:
            self._say_problem(str(error), kind=error.kind)
            next_s = self._renew_s * RETRY_RATIO * self._jitter.uniform(0.5, 1.5)
        except (OSError, ConfigError) as error:
            self._say_problem(str(error), kind="disk")
            next_s = self._renew_s
        else:
            self._say_problem("", kind="")
        self._publish()
        return next_s

    async def _renew(self, asked_ns: int) -> None:
        answer = await self._bus.renew(self._token, self._lease.tenure, ttl_ns=self._times.ttl_ns)
        # The answer counts before the firm's word, which a full disk may refuse to keep: the store
        # names us from now on, and we must know it.
        if isinstance(answer, Refused):
            self._holder = answer.holder
            self._log.warning("lease_lost", tenure=self._lease.tenure, holder=answer.holder)
            self._lease = self._lease.lost(to_another=bool(answer.holder))
        else:
            self._lease = self._lease.renewed(asked_ns=asked_ns, times=self._times)
            self._proved_ns = asked_ns
        await self._firm.follow(answer.firm, self._bus)

    async def _acquire(self, asked_ns: int) -> float:
        """Seconds until the next question."""
        times = self._times
        self._floor = max(self._floor, await asyncio.to_thread(self._epochs.read))
        answer = await self._bus.acquire(
            self._token,
            ttl_ns=times.ttl_ns,
            rest_ns=times.ttl_ns - times.hold_ns,
            floor=self._floor,
        )
        try:
            if isinstance(answer, Held):
                return self._until_lapse_s(answer)
            await self._begin(answer, asked_ns)
            return self._renew_s
        finally:
            await self._firm.follow(answer.firm, self._bus)

    def _until_lapse_s(self, held: Held) -> float:
        self._holder = held.holder
        self._floor = max(self._floor, held.highest)
        lapse_s = held.lapses_ns / NS_PER_S + self._jitter.uniform(*LAPSE_JITTER_S)
        return min(self._renew_s, lapse_s)

    async def _begin(self, grant: Granted, asked_ns: int) -> None:
        """A tenure counts from when this host can no longer forget its number."""
        self._floor = grant.tenure
        try:
            await asyncio.to_thread(self._epochs.raise_to, grant.tenure)
        except (OSError, ConfigError):
            # Whoever cannot begin must not keep others from it.
            await self._bus.release(self._token, grant.tenure, is_clean=False)
            raise
        now_ns = self._mono_ns()
        self._lease = self._lease.granted(
            grant.tenure, grant.left_ns, asked_ns=asked_ns, now_ns=now_ns, times=self._times
        )
        self._holder = ""
        self._proved_ns = asked_ns
        self._needed_ns = now_ns
        self._has_given_up = False
        wait_s = (self._lease.quote_from_ns - now_ns) / NS_PER_S
        self._log.info("lease_acquired", tenure=grant.tenure, quiet_s=round(wait_s, 3))

    def _is_idle(self, now_ns: int) -> bool:
        """Whether nobody has used our tenure for too long, and nothing is lost by letting it go."""
        if not self._lease.tenure:
            return False
        if self._page.has_trader:
            self._needed_ns = now_ns
        return now_ns - self._needed_ns >= self._idle_ns and not self._must_keep()

    async def _give_up(self) -> None:
        """No trader has sent anything under this tenure for longer than anything is valid."""
        tenure = self._lease.tenure
        self._has_given_up = True
        self._lease = Lease()
        self._publish()
        self._log.warning("lease_given_up", tenure=tenure, idle_s=self._idle_ns / NS_PER_S)
        await self._bus.release(self._token, tenure, is_clean=True)

    async def _pause(self, seconds: float) -> None:
        """Ends early when another instance has changed something."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    async def _listen(self) -> None:
        while not is_cancelled():
            try:
                await self._bus.wake_ups(self._wake.set)
            except StoreError:
                await asyncio.sleep(self._renew_s * self._jitter.uniform(0.5, 1.5))

    # -- the page -----------------------------------------------------------------------------

    async def _publish_often(self) -> None:
        while True:
            self._publish()
            await asyncio.sleep(PUBLISH_S)

    def _publish(self) -> None:
        if self._lease.is_superseded and not self._page.has_trader:
            self._lease = self._lease.stood_down()
        now_ns = self._mono_ns()
        lease = self._lease
        state = lease.state(now_ns)
        self._page.publish(
            Standing(
                state=state,
                fence=lease.fence(now_ns),
                until_ns=lease.until_ns,
                permit_deadline_ns=lease.permit_deadline_ns(now_ns, self._times),
                renewed_ns=self._proved_ns,
            ),
            now_ns,
        )
        if state is not self._said_state:
            self._log.info("lease_state", state=state.name.lower(), tenure=lease.tenure)
            self._said_state = state

    def _go_on(self) -> None:
        """Takes up what ops of a former life held under this guard."""
        found = self._page.found()
        if not found.fence:
            return
        quote_from_ns = 0
        if found.state is not LeaseState.HELD:
            quote_from_ns = self._mono_ns() + self._times.settle_ns(self._times.ttl_ns)
        self._lease = Lease(
            tenure=found.fence,
            asked_ns=found.renewed_ns,
            until_ns=found.until_ns,
            quote_from_ns=quote_from_ns,
        )
        self._proved_ns = found.renewed_ns
        self._needed_ns = self._mono_ns()
        self._log.info("lease_taken_up", tenure=found.fence)

    async def _let_go(self) -> None:
        """In an ordered stop the trader has ended before us; else the lease is left to lapse, and
        whoever starts us again goes on with it."""
        tenure = self._lease.tenure
        if tenure and not self._page.has_trader:
            self._lease = Lease()
            self._publish()
            try:
                await self._bus.release(self._token, tenure, is_clean=True)
            except StoreError as error:
                self._log.warning("lease_not_released", problem=str(error))
        await self._bus.close()

    def _say_problem(self, problem: str, *, kind: str) -> None:
        """One line when a problem comes, changes or goes; none for each attempt."""
        if problem == self._said_problem:
            return
        self._said_problem = problem
        if problem:
            self._log.warning("store_unusable", kind=kind, problem=problem)
        else:
            self._log.info("store_usable", store=self._bus.where)


def instance_token(path: Path, shard: str) -> str:
    """`NAME/SECRET` of this instance, kept beside its page; the same for every life of its ops.

    The name is for people. The secret half keeps two instances apart whatever they are called.
    Raises: OSError where the file cannot be written.
    """
    try:
        kept = path.read_text().strip()
    except FileNotFoundError:
        kept = ""
    if re.fullmatch(r"[A-Za-z0-9_.-]+/[0-9a-f]{32}", kept):
        return kept
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", f"{socket.gethostname()}-{shard}")
    token = f"{name}/{secrets.token_hex(16)}"
    path.unlink(missing_ok=True)
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(token)
    return token
