"""The operator's side of the control API: over the daemon's unix socket, or over HTTP with a token.

`kill` does not depend on anybody: where no ops process answers, it narrows the shared page and the
durable latch itself and wakes the trader. Standard library and `ipc` only, so that it starts fast.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mm_daemon.domain.permission import HARD_STOP, OPERATOR, PRESETS, SWEEP, WHOLE
from mm_daemon.ipc.control import live_page, open_latch, raise_everywhere
from mm_daemon.ipc.layout import Layout
from mm_daemon.ipc.page import GENERATION_SEEN, SWEPT_GENERATION, TRADER_PID, Page

TIMEOUT_S = 5.0
KILL_PATIENCE_S = 1.0
"""An ops process that hangs is waited for no longer: the page stops the trading without it."""
CONFIRM_TIMEOUT_S = 20.0
POLL_S = 0.05
AUTH_VARIABLE = "MM_TOKEN"
"""Over the unix socket the kernel's word is enough; a token there makes the caller its person."""
WHOLE_NAMES = ("firm", "venue", "account")
"""Scopes that are all of a daemon; its underlyings' names are the others."""


class OperatorError(Exception):
    """The daemon refused, or nobody answered. The message is one line for a person."""


@dataclass(frozen=True)
class Endpoint:
    """Where the control API is: the unix socket of a local daemon, or a URL with a token."""

    layout: Layout
    url: str = ""

    def request(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Any:
        """The JSON answer. Raises OperatorError with the API's own words where it refuses."""
        connection = self._connect(timeout_s)
        headers = {"Content-Type": "application/json"}
        token = os.environ.get(AUTH_VARIABLE, "")
        if token:
            headers["Authorization"] = f"Bearer {token}"
        try:
            connection.request(
                method, path, json.dumps(body) if body is not None else None, headers
            )
            response = connection.getresponse()
            text = response.read().decode()
        except OSError as error:
            raise OperatorError(f"no daemon answers at {self.where}: {error}") from error
        finally:
            connection.close()
        try:
            answer = json.loads(text) if text else {}
        except ValueError as error:
            raise OperatorError(f"{self.where}{path}: not JSON: {text[:200]!r}") from error
        if response.status >= 400:
            refusal = answer.get("error", text)
            raise OperatorError(f"{self.where}{path}: {response.status} {refusal}")
        return answer

    @property
    def where(self) -> str:
        return self.url or str(self.layout.ops_socket)

    def _connect(self, timeout_s: float) -> http.client.HTTPConnection:
        if not self.url:
            return _UnixConnection(self.layout.ops_socket, timeout_s)
        parts = urlsplit(self.url)
        if parts.scheme == "https":
            return http.client.HTTPSConnection(parts.netloc, timeout=timeout_s)
        return http.client.HTTPConnection(parts.netloc, timeout=timeout_s)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@dataclass(frozen=True)
class KillResult:
    """What a kill came to."""

    generation: int
    level: str
    scope: str
    route: str
    """api, page (ops was dead), guard (the page could not be read either: by the kill file, which
    cancels all) or file (no daemon ran)."""
    state: str
    is_confirmed: bool
    """The gate saw the latch, and the venue showed nothing left, twice; at a level that does not
    sweep, no quote of ours is believed to rest."""


def kill(
    endpoint: Endpoint,
    *,
    level: str,
    scope: str,
    reason: str,
    is_waiting: bool,
    underlyings: tuple[str, ...],
) -> KillResult:
    """Latches, by the API where it answers, else by page and file; then waits for the venue's word.

    Raises: OperatorError where not even the durable latch could be written.
    """
    if level not in PRESETS:
        raise OperatorError(f"no kill level {level!r}; there are {', '.join(PRESETS)}")
    if not endpoint.url and scope not in (*WHOLE_NAMES, *underlyings):
        known = ", ".join((*WHOLE_NAMES, *underlyings))
        raise OperatorError(f"no scope {scope!r}; there are {known}")
    if level == HARD_STOP and scope not in WHOLE_NAMES:
        raise OperatorError(f"{HARD_STOP} ends the daemon: it takes no scope but the whole")
    patience_s = TIMEOUT_S if endpoint.url else KILL_PATIENCE_S
    try:
        body = {"level": level, "scope": scope, "reason": reason}
        answer = endpoint.request("POST", "/v1/kill", body, patience_s)
        generation, route = int(answer["generation"]), "api"
    except OperatorError:
        if endpoint.url:
            raise
        generation, route = _kill_without_ops(endpoint.layout, level, scope, reason)
    if route == "file":
        state = "no daemon runs; it will start latched"
        return KillResult(generation, level, scope, route, state, True)
    if route == "guard":
        is_taken = _wait_until(lambda: not endpoint.layout.kill_file.exists())
        state = "taken by the guard" if is_taken else "not taken by the guard"
        return KillResult(generation, level, scope, route, state, False)
    if not is_waiting:
        return KillResult(generation, level, scope, route, "settling", False)
    if PRESETS[level].tasks & SWEEP:
        # Attached once: a hard stop ends the daemon, whose last word is then in this mapping.
        page = None if endpoint.url else live_page(endpoint.layout)
        is_confirmed = _wait_until(lambda: _is_swept(endpoint, page, generation))
    else:
        is_confirmed = _wait_until(lambda: _is_pulled(endpoint, generation, scope))
    state = "confirmed" if is_confirmed else "unconfirmed"
    return KillResult(generation, level, scope, route, state, is_confirmed)


def reset(endpoint: Endpoint, generation: int, scope: str, reason: str) -> dict[str, Any]:
    """Asks for a reset; a negative generation stands for the present one. Raises OperatorError."""
    if generation < 0:
        generation = int(endpoint.request("GET", "/v1/status")["generation"])
    body = {"generation": generation, "reason": reason, "scope": scope}
    return dict(endpoint.request("POST", "/v1/reset", body))


def approve(endpoint: Endpoint, request_id: str, reason: str) -> dict[str, Any]:
    """Approves somebody else's request. Raises OperatorError."""
    body = {"request_id": request_id, "reason": reason}
    return dict(endpoint.request("POST", "/v1/reset/approve", body))


def _kill_without_ops(layout: Layout, level: str, scope: str, reason: str) -> tuple[int, str]:
    source = HARD_STOP if level == HARD_STOP else OPERATOR
    where = WHOLE if scope in WHOLE_NAMES else scope
    try:
        raised = raise_everywhere(
            layout, source, PRESETS[level], reason, ts_ns=time.time_ns(), scope=where
        )
    except OSError as error:
        raise OperatorError(f"the page is latched, but the file is not: {error}") from error
    if level == HARD_STOP:
        open_latch(layout).block_start(reason)
    if raised.is_guard_told:
        return raised.generation, "guard"
    return raised.generation, "file" if raised.page is None else "page"


def _wait_until(is_true: Callable[[], bool]) -> bool:
    deadline_s = time.monotonic() + CONFIRM_TIMEOUT_S
    while not is_true():
        if time.monotonic() >= deadline_s:
            return False
        time.sleep(POLL_S)
    return True


def _is_swept(endpoint: Endpoint, page: Page | None, generation: int) -> bool:
    if page is None:
        status = _status(endpoint)
        seen, swept = status.get("generation_seen", 0), status.get("swept_generation", 0)
        return bool(seen >= generation and swept >= generation)
    words = page.words
    is_seen = words[GENERATION_SEEN] >= generation or not words[TRADER_PID]
    return is_seen and words[SWEPT_GENERATION] >= generation


def _is_pulled(endpoint: Endpoint, generation: int, scope: str) -> bool:
    """Needs a living ops: the page alone cannot say what rests."""
    status = _status(endpoint)
    if scope not in WHOLE_NAMES:
        # Quotes of the others go on; of this one the gate lets none through any more.
        return bool(status.get("generation_seen", 0) >= generation)
    return bool(status.get("generation_seen", 0) >= generation and status.get("quotes_live") == 0)


def _status(endpoint: Endpoint) -> dict[str, Any]:
    """Nothing where nobody answers: the kill holds, only its confirmation is still to come."""
    try:
        return dict(endpoint.request("GET", "/v1/status"))
    except OperatorError:
        return {}
