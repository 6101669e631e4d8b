"""`mm-daemon check`: everything a start would need, looked at and nothing changed.

Each thing looked at becomes one line, ok or not, with a sentence that says what was found and,
where it is not as it must be, what to do. A failure never hides the checks after it, unless they
cannot be made without it. At the venue a token is granted and nothing else happens; no file is
written.
"""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mm_daemon.domain.errors import ConfigError
from mm_daemon.domain.permission import permission_names
from mm_daemon.ipc.control import live_page, open_latch
from mm_daemon.ipc.layout import Layout
from mm_daemon.ops.redis_bus import StoreError
from mm_daemon.venues.preflight import Finding, Preflight
from mm_daemon.venues.sweep import Call, CallFailed

DISK_BYTES_MIN = 1 << 30
TIMEOUT_S = 5.0
ANSWER_BYTES_MAX = 16 << 20
SWITCHING_PROTOCOLS = 101


@dataclass(frozen=True)
class Key:
    """One API key by its place in the configuration. The secret is read when it is needed."""

    where: str
    client_id: str
    secret: Callable[[], str]


@dataclass(frozen=True)
class CheckPlan:
    """What is to be looked at, in the daemon's own values."""

    origin: str
    environment: str
    layout: Layout
    data_dir: Path
    tokens_file: Path
    listens: tuple[tuple[str, str], ...]
    """(configuration key, HOST:PORT) of what the daemon would listen on."""
    load_models: Callable[[], str]
    """Loads every configured model and says what they are. Raises ConfigError."""
    rest_url: str
    ws_url: str
    clock_offset_ms_max: float
    currencies: tuple[str, ...]
    trading_key: Key
    guard_key: Key
    preflight: Preflight
    ask_store: Callable[[], str] | None = None
    """Says what the firm's store is. Raises StoreError or ConfigError; None where there is none."""


def check(plan: CheckPlan) -> dict[str, Any]:
    """Everything found, as plain values: `ok` over all, and the items."""
    findings = [
        Finding("configuration", True, f"{plan.origin} is whole; environment {plan.environment}"),
        *_on_this_host(plan),
        *_at_the_venue(plan),
    ]
    return {
        "ok": all(finding.ok for finding in findings),
        "items": [
            {"what": finding.what, "ok": finding.ok, "detail": finding.detail}
            for finding in findings
        ],
    }


# -- this host -----------------------------------------------------------------------------------


def _on_this_host(plan: CheckPlan) -> Iterator[Finding]:
    try:
        yield Finding("models", True, plan.load_models())
    except ConfigError as error:
        yield Finding("models", False, str(error))
    for what, path in (
        ("data_dir", plan.data_dir),
        ("runtime_dir", plan.layout.runtime_dir),
        ("tokens_file", plan.tokens_file.parent),
    ):
        yield _directory(what, path)
    yield _disk(plan.data_dir)
    is_running = live_page(plan.layout) is not None
    for key, listen in plan.listens:
        yield _port(key, listen, is_running=is_running)
    yield _latch(plan.layout, plan.environment)
    if plan.ask_store is not None:
        yield _store(plan.ask_store)


def _store(ask: Callable[[], str]) -> Finding:
    try:
        return Finding("redis", True, ask())
    except (StoreError, ConfigError) as error:
        return Finding("redis", False, str(error))


def _existing(path: Path) -> Path:
    """The path, or its nearest parent that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _directory(what: str, path: Path) -> Finding:
    there = _existing(path)
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return Finding(what, False, f"{path}: {there} is not a directory we may write to")
    return Finding(what, True, f"{path} {'is writable' if there == path else 'can be made'}")


def _disk(path: Path) -> Finding:
    free = shutil.disk_usage(_existing(path)).free
    text = f"{free / (1 << 30):.1f} GiB free for {path}"
    if free < DISK_BYTES_MIN:
        return Finding("disk", False, f"{text}, expected at least 1 GiB: without a journal no send")
    return Finding("disk", True, text)


def _port(key: str, listen: str, *, is_running: bool) -> Finding:
    if is_running:
        return Finding(key, True, f"{listen}: a daemon runs here and holds it")
    host, _, port = listen.rpartition(":")
    try:
        with socket.create_server((host, int(port))):
            return Finding(key, True, f"{listen} is free")
    except OSError as error:
        return Finding(key, False, f"{listen}: {error.strerror}: end its user or choose another")


def _latch(layout: Layout, environment: str) -> Finding:
    store = open_latch(layout)
    block = store.start_block()
    if block is not None:
        return Finding("latch", False, block)
    if environment == "sim" and not layout.latch.exists():
        return Finding("latch", True, "no latch file yet: the first start in `sim` makes it")
    state = store.state()
    if not state.entries:
        return Finding("latch", True, f"open, generation {state.generation}")
    held = "; ".join(f"{entry.source}: {entry.reason}" for entry in state.entries)
    permitted = ", ".join(permission_names(state.effective().permission)) or "nothing"
    return Finding(
        "latch", False, f"latched at generation {state.generation} by {held}; permits {permitted}"
    )


# -- the venue -----------------------------------------------------------------------------------


def _at_the_venue(plan: CheckPlan) -> Iterator[Finding]:
    rest = _Rest(plan.rest_url)
    try:
        clock, is_answering = _clock(plan, rest)
        yield clock
        if not is_answering:
            return
        yield _websocket(plan.ws_url)
        trading, account = _account(plan, rest, plan.trading_key, is_trading=True)
        yield trading
        if account:
            yield from plan.preflight.read_account(account, plan.currencies)
        guard, guard_account = _account(plan, rest, plan.guard_key, is_trading=False)
        yield guard
        if account and guard_account:
            yield _same_account(plan, account, guard_account)
    finally:
        rest.close()


def _clock(plan: CheckPlan, rest: _Rest) -> tuple[Finding, bool]:
    """Whether the venue answers and its clock is near ours; the second: whether it answers."""
    before_ns = time.time_ns()
    body = rest.ask(plan.preflight.time_call(), {})
    after_ns = time.time_ns()
    if isinstance(body, str):
        return Finding("venue", False, f"{plan.rest_url}: {body}"), False
    venue_ns = plan.preflight.read_time_ns(body)
    if isinstance(venue_ns, CallFailed):
        return Finding("venue", False, f"{plan.rest_url}: {venue_ns.detail}"), False
    offset_ms = (venue_ns - (before_ns + after_ns) // 2) / 1e6
    text = (
        f"{plan.rest_url} answers in {(after_ns - before_ns) / 1e6:.1f} ms, its clock is"
        f" {offset_ms:+.1f} ms from ours"
    )
    if abs(offset_ms) > plan.clock_offset_ms_max:
        why = f"{text}: more than breaker.clock_offset_ms_max {plan.clock_offset_ms_max:g}: set it"
        return Finding("venue", False, f"{why} right (chrony, ntpd)"), True
    return Finding("venue", True, text), True


def _websocket(url: str) -> Finding:
    """One handshake, closed again."""
    parts = urlsplit(url)
    connection = _connection(parts.scheme == "wss", parts.hostname or "", parts.port)
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "bW0tZGFlbW9uIGNoZWNrLg==",
    }
    try:
        connection.request("GET", parts.path or "/", headers=headers)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return Finding("websocket", False, f"{url}: {error}")
    finally:
        connection.close()
    if status != SWITCHING_PROTOCOLS:
        return Finding("websocket", False, f"{url}: expected a websocket, found HTTP {status}")
    return Finding("websocket", True, f"{url} takes websockets")


def _account(
    plan: CheckPlan, rest: _Rest, key: Key, *, is_trading: bool
) -> tuple[Finding, bytes | None]:
    """Whether a key is let in, and what its account says of itself."""
    preflight = plan.preflight
    try:
        body = rest.ask(preflight.auth_call(key.client_id, key.secret()), {})
    except ConfigError as error:
        return Finding(key.where, False, str(error)), None
    if isinstance(body, str):
        return Finding(key.where, False, body), None
    token = preflight.read_token(body)
    if isinstance(token, CallFailed):
        text = f"the venue refuses {key.client_id!r}: {token.detail}: check id and secret"
        return Finding(key.where, False, text), None
    missing = preflight.missing_scopes(body) if is_trading else ()
    if missing:
        return Finding(key.where, False, f"{key.client_id!r} lacks {', '.join(missing)}"), None
    account = rest.ask(preflight.account_call(), preflight.auth_headers(token))
    if isinstance(account, str):
        return Finding(key.where, False, account), None
    return Finding(key.where, True, f"{key.client_id!r} is let in"), account


def _same_account(plan: CheckPlan, account: bytes, guard_account: bytes) -> Finding:
    """A guard whose key belongs to another account would sweep the wrong one, and believe it."""
    ours, its = plan.preflight.account_id(account), plan.preflight.account_id(guard_account)
    if plan.trading_key.client_id == plan.guard_key.client_id:
        return Finding("two keys", False, "guard.key is the trading key: give the guard its own")
    if not ours or ours != its:
        text = f"the trading key's account is {ours or 'untold'}, the guard's {its or 'untold'}"
        return Finding("two keys", False, f"{text}: the guard could not sweep ours")
    return Finding("two keys", True, f"the guard has a key of its own to the same account {ours}")


class _Rest:
    """JSON-RPC by POST on one connection."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._path = parts.path or "/"
        self._connection = _connection(parts.scheme == "https", parts.hostname or "", parts.port)

    def ask(self, call: Call, headers: dict[str, str]) -> bytes | str:
        """The answer's body, or a sentence why there is none."""
        try:
            self._connection.request(
                "POST", self._path, call.body, {"Content-Type": "application/json", **headers}
            )
            return self._connection.getresponse().read(ANSWER_BYTES_MAX)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            return f"{call.name}: {error}"

    def close(self) -> None:
        self._connection.close()


def _connection(is_tls: bool, host: str, port: int | None) -> http.client.HTTPConnection:
    if is_tls:
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
    return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)


def render(report: dict[str, Any]) -> str:
    """One line an item, and the verdict."""
    width = max(len(item["what"]) for item in report["items"])
    lines = [
        f"{'ok  ' if item['ok'] else 'FAIL'} {item['what']:<{width}}  {item['detail']}"
        for item in report["items"]
    ]
    failed = sum(not item["ok"] for item in report["items"])
    lines.append("ready to run" if not failed else f"not ready: {failed} of {len(lines)} failed")
    return "\n".join(lines)
