"""The store that instances of one firm share, as calls that end in time or say why not.

Each call is one script and one round trip, bounded by a timeout and never tried again here: who
asks knows what a late answer is worth, and asks again. Errors carry one sentence that says where,
what and what to do, and never a secret.

Publish and subscribe only wake a waiting instance early. What holds is in the keys.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from mm_daemon.domain.permission import OPEN, Mask
from mm_daemon.ops import redis_scripts

NS_PER_MS: Final = 1_000_000
CONNECTIONS_MAX: Final = 4
_FIRM_FIELDS: Final = 7
ERROR_KINDS: Final = (
    "connection",
    "timeout",
    "password",
    "replica",
    "version",
    "loading",
    "rights",
    "answer",
)


class StoreError(Exception):
    """The store could not be used. `kind` is one of `ERROR_KINDS`; the text is for people."""

    def __init__(self, kind: str, sentence: str) -> None:
        assert kind in ERROR_KINDS, kind
        super().__init__(sentence)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Shard:
    """What one daemon needs the right to: an account's underlyings, within a firm's environment."""

    firm: str
    environment: str
    venue: str
    account: str
    underlyings: tuple[str, ...]

    @property
    def _base(self) -> str:
        """In braces what a Redis Cluster hashes by, so that one script may touch all keys."""
        return f"mm:{{{self.firm}:{self.environment}}}"

    @property
    def firm_key(self) -> str:
        return f"{self._base}:kill"

    @property
    def channel(self) -> str:
        return f"{self._base}:wake"

    @property
    def lease_keys(self) -> tuple[str, ...]:
        return self._keys("lease")

    @property
    def fence_keys(self) -> tuple[str, ...]:
        return self._keys("fence")

    def _keys(self, kind: str) -> tuple[str, ...]:
        """In the order of the names, so that every daemon takes them in the same order."""
        account = f"{self._base}:{kind}:{self.venue}:{self.account}"
        return tuple(f"{account}:{name}" for name in sorted(self.underlyings))


@dataclass(frozen=True, slots=True)
class FirmState:
    """The firm's kill as the store tells it. Generation 0: the store knows of none, ever."""

    generation: int
    is_active: bool
    mask: Mask
    level: str
    reason: str
    by: str


@dataclass(frozen=True, slots=True)
class Granted:
    """The shard is ours under a new tenure. `left_ns`: see `LeaseTimes.settle_ns`."""

    tenure: int
    left_ns: int
    firm: FirmState


@dataclass(frozen=True, slots=True)
class Held:
    """Another instance has it for at least so long; `highest` tenure ever given out."""

    holder: str
    lapses_ns: int
    highest: int
    firm: FirmState


@dataclass(frozen=True, slots=True)
class Renewed:
    firm: FirmState


@dataclass(frozen=True, slots=True)
class Refused:
    """We are no longer named. `holder` is empty where nobody is."""

    holder: str
    firm: FirmState


@dataclass(frozen=True, slots=True)
class FirmReset:
    """Whether the firm's kill was lifted; if not, why, and what holds."""

    is_done: bool
    why_not: str
    firm: FirmState


class RedisBus:
    """One daemon's connection to the store."""

    def __init__(
        self, url: str, shard: Shard, timeout_s: float, password: Callable[[], str]
    ) -> None:
        self.shard = shard
        self.where = place(url)
        self.is_up = False
        self.problem = ""
        self.errors: Counter[str] = Counter()
        self._url = url
        self._timeout_s = timeout_s
        self._password = password
        self._client: Any = None
        self._scripts: dict[str, Any] = {}

    # -- the lease ----------------------------------------------------------------------------

    async def acquire(self, token: str, *, ttl_ns: int, rest_ns: int, floor: int) -> Granted | Held:
        """Takes every lease of the shard, or none. Raises StoreError."""
        arguments = [token, ttl_ns // NS_PER_MS, rest_ns // NS_PER_MS, floor]
        answer = await self._run(redis_scripts.ACQUIRE, self._lease_keys(), arguments)
        word, first, second, third = answer[:4]
        if word == "old":
            raise self._too_old(first)
        firm = _firm(answer)
        if word == "held":
            return Held(_holder(first), int(second) * NS_PER_MS, int(third), firm)
        return Granted(int(first), int(second) * NS_PER_MS, firm)

    async def renew(self, token: str, tenure: int, *, ttl_ns: int) -> Renewed | Refused:
        """Renews all leases if every one still names this token and tenure. Raises StoreError."""
        arguments = [token, tenure, ttl_ns // NS_PER_MS]
        answer = await self._run(redis_scripts.RENEW, self._lease_keys(), arguments)
        if answer[0] == "refused":
            return Refused(_holder(answer[1]), _firm(answer))
        return Renewed(_firm(answer))

    async def release(self, token: str, tenure: int, *, is_clean: bool) -> int:
        """Lets go of what is still ours; the number of leases. `is_clean`: the trader has ended in
        order, so nothing of it rests at the venue. Raises StoreError."""
        arguments = [token, tenure, self.shard.channel, int(is_clean)]
        return int(await self._run(redis_scripts.RELEASE, self._lease_keys(), arguments))

    async def describe(self) -> str:
        """What the store is and who holds our leases, in one sentence; changes nothing.

        Raises: StoreError where it could not serve us, or another daemon trades on our account.
        """
        client = await self._connected()
        try:
            found = await self._bounded(client.info("everything"))
            owners = await self._bounded(client.mget(self.shard.lease_keys))
            beside = await self._bounded(self._leases_beside(client))
        except (exceptions.RedisError, OSError) as error:
            raise self._error(error) from error
        version = str(found["redis_version"])
        if tuple(int(one) for one in version.split(".")[:2]) < redis_scripts.VERSION_MIN:
            raise self._too_old(version)
        if found["role"] != "master":
            raise self._error(exceptions.ReadOnlyError())
        if beside:
            raise self._noted(
                "answer",
                f"{', '.join(beside)}: leased by another daemon on this account, and sweeps are of"
                " the whole account: give each daemon a sub-account of its own",
            )
        held = sorted({_holder(owner) for owner in owners if owner})
        return f"{self.where} is Redis {version}; our leases are with {', '.join(held) or 'nobody'}"

    async def _leases_beside(self, client: Any) -> list[str]:
        """Leases of other underlyings on our account that somebody holds now."""
        ours = self.shard.lease_keys
        pattern = re.sub(r"([*?\[\]\\])", r"\\\1", ours[0].rpartition(":")[0]) + ":*"
        found = [str(key) async for key in client.scan_iter(match=pattern, count=1000)]
        return sorted(set(found) - set(ours))

    # -- the firm's kill ----------------------------------------------------------------------

    async def raise_firm(
        self,
        mask: Mask,
        *,
        level: str,
        reason: str,
        by: str,
        floor: int = 0,
        only_if_lost: bool = False,
    ) -> FirmState:
        """Latches the whole firm, or narrows what is latched already. Raises StoreError.

        `floor`: a generation that the new one must exceed. `only_if_lost`: only where the store
        has forgotten that there ever was a kill.
        """
        arguments = [mask.permission, mask.tasks, level, reason, by, self.shard.channel]
        arguments += [int(only_if_lost), floor]
        return _firm(await self._run(redis_scripts.RAISE_FIRM, [self.shard.firm_key], arguments))

    async def reset_firm(self, generation: int, *, reason: str, by: str) -> FirmReset:
        """Lifts the firm's kill if it is at this generation. Raises StoreError."""
        arguments = [generation, reason, by, self.shard.channel]
        answer = await self._run(redis_scripts.RESET_FIRM, [self.shard.firm_key], arguments)
        firm = _firm(answer)
        why_not = {
            "stale": f"reset expects generation {generation}, the firm's kill is at"
            f" {firm.generation}: read the status again and decide anew",
            "not latched": "the firm is not killed",
        }.get(answer[0], "")
        return FirmReset(not why_not, why_not, firm)

    async def wake_ups(self, wake: Callable[[], None]) -> None:
        """Calls `wake` whenever another instance has changed something; until cancelled.

        Ends by StoreError where the subscription breaks; the caller subscribes again.
        """
        client = await self._connected()
        listener = client.pubsub(ignore_subscribe_messages=True)
        try:
            await self._bounded(listener.subscribe(self.shard.channel))
            wake()
            while not is_cancelled():
                if await listener.get_message(timeout=self._timeout_s) is not None:
                    wake()
        except (exceptions.RedisError, OSError) as error:
            raise self._error(error) from error
        finally:
            await listener.aclose()

    async def close(self) -> None:
        """Drops every connection."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    # -- inside -------------------------------------------------------------------------------

    def _lease_keys(self) -> list[str]:
        return [self.shard.firm_key, *self.shard.lease_keys, *self.shard.fence_keys]

    async def _run(self, script: str, keys: list[str], arguments: list[Any]) -> Any:
        client = await self._connected()
        if script not in self._scripts:
            self._scripts[script] = client.register_script(script)
        try:
            answer = await self._bounded(
                self._scripts[script](keys=keys, args=arguments, client=client)
            )
        except (exceptions.RedisError, OSError) as error:
            told = self._error(error)
            if told.kind == "password":
                await self.close()  # so that a password changed meanwhile is read
            raise told from error
        self.is_up, self.problem = True, ""
        return answer

    async def _bounded(self, work: Awaitable[Any]) -> Any:
        async with asyncio.timeout(self._timeout_s):
            return await work

    async def _connected(self) -> Any:
        if self._client is None:
            password = await asyncio.to_thread(self._password)
            self._scripts.clear()
            options: dict[str, Any] = {
                "password": password or None,
                "decode_responses": True,
                "socket_timeout": self._timeout_s,
                "socket_connect_timeout": self._timeout_s,
                "retry": Retry(NoBackoff(), 0),
                "max_connections": CONNECTIONS_MAX,
                "client_name": "mm-daemon",
                "protocol": 2,
            }
            self._client = Redis.from_url(self._url, **options)
        return self._client

    def _too_old(self, version: str) -> StoreError:
        least = ".".join(str(part) for part in redis_scripts.VERSION_MIN)
        return self._noted(
            "version", f"{self.where} is Redis {version}, expected {least} or later: upgrade it"
        )

    def _error(self, error: Exception) -> StoreError:
        return self._noted(*self._explain(error))

    def _noted(self, kind: str, sentence: str) -> StoreError:
        self.is_up, self.problem = False, sentence
        self.errors[kind] += 1
        return StoreError(kind, sentence)

    def _explain(self, error: Exception) -> tuple[str, str]:
        where = self.where
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, exceptions.AuthenticationError) or text.startswith("NOAUTH"):
            return "password", f"{where} refuses us ({text}): check redis.password_file"
        if isinstance(error, exceptions.BusyLoadingError):
            return "loading", f"{where} is still loading its data"
        if isinstance(error, exceptions.TimeoutError | TimeoutError):
            return "timeout", f"{where} did not answer within {self._timeout_s:g} s"
        if isinstance(error, exceptions.ReadOnlyError):
            return "replica", f"{where} is a read-only replica: redis.url must name the primary"
        if isinstance(error, exceptions.NoPermissionError):
            return "rights", f"{where} does not let this user run what a lease needs: {text}"
        if isinstance(error, exceptions.ConnectionError | OSError):
            return "connection", f"{where} cannot be reached: {text}"
        return "answer", f"{where} answered: {text}"


def is_cancelled() -> bool:
    """Whether this task was told to end. Looked at in every loop that talks to the store, because
    a cancellation that meets an answer just arriving is lost inside the client library."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def place(url: str) -> str:
    """The address as people may see it."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return f"redis at {parts.path}"
    return f"redis at {parts.hostname}:{parts.port or 6379}"


def _holder(owner: str) -> str:
    """Who holds a lease, without the token's secret half."""
    return owner.partition(":")[0].partition("/")[0]


def _firm(answer: list[str]) -> FirmState:
    generation, active, permission, tasks, level, reason, by = answer[-_FIRM_FIELDS:]
    is_active = active == "1"
    return FirmState(
        generation=int(generation or 0),
        is_active=is_active,
        mask=Mask(int(permission), int(tasks)) if is_active else OPEN,
        level=level,
        reason=reason,
        by=by,
    )
