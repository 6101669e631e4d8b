"""The operator's side of the control API: over the daemon's unix socket, or over HTTP with a token.

`kill` does not depend on anybody: where no ops process answers, it narrows the shared page and the
durable latch itself, wakes the trader and has the firm told. What it says it has done is what holds
afterwards. Standard library and `ipc` only, so that it starts fast.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mm_daemon.domain.permission import HARD_STOP, OPERATOR, PRESETS, SWEEP, WHOLE
from mm_daemon.ipc.control import live_page, open_latch, raise_everywhere
from mm_daemon.ipc.layout import Layout
from mm_daemon.ipc.page import (
    GENERATION_SEEN,
    SWEPT_GENERATION,
    TRADER_PID,
    Page,
    page_is_owned,
)

TIMEOUT_S = 5.0
KILL_PATIENCE_S = 1.0
"""An ops process that hangs is waited for no longer: the page stops the trading without it."""
CONFIRM_TIMEOUT_S = 20.0
FIRM_PATIENCE_S = 4.0
"""For the firm's store, from when the latch is set; its own calls end sooner."""
POLL_S = 0.05
AUTH_VARIABLE = "MM_TOKEN"
"""Over the unix socket the kernel's word is enough; a token there makes the caller its person."""
WHOLE_NAMES = ("firm", "venue", "account")
"""Scopes that are all of a daemon; its underlyings' names are the others."""
ROUTE_NONE = "none"
ELSEWHERE = "if one runs elsewhere it has NOT been killed"

TellFirm = Callable[[str, str], str]
"""Tells the firm's store of a kill (level, reason); what went wrong, empty = nothing."""


class OperatorError(Exception):
    """The daemon refused, or nobody answered. The message is one line for a person."""


@dataclass(frozen=True)
class Endpoint:
    """Where the control API is: the unix socket of a local daemon, or a URL with a token."""

    layout: Layout
    url: str = ""
    origin: str = "this configuration"
    """What named the daemon, for people."""

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
        if not (token.isascii() and token.isprintable()):
            raise OperatorError(f"{AUTH_VARIABLE} holds what no token does: set it anew")
        if token:
            headers["Authorization"] = f"Bearer {token}"
        try:
            connection.request(
                method, path, json.dumps(body) if body is not None else None, headers
            )
            response = connection.getresponse()
            text = response.read().decode()
        except (OSError, http.client.HTTPException, ValueError) as error:
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
    def named(self) -> str:
        """The daemon as its directory and what named it, for people."""
        return f"{self.origin} on {self.layout.runtime_dir}"

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
    cancels all), file (no daemon ran) or none (not even the latch file could be written)."""
    state: str
    is_confirmed: bool
    """The gate saw the latch, and the venue showed nothing left, twice; at a level that does not
    sweep, no quote of ours is believed to rest."""
    is_reached: bool
    """A running daemon has it."""
    is_whole: bool
    """A restart keeps it, and the firm was told where it was to be."""
    problem: str
    """What else is to be known; empty = nothing."""

    def is_done(self, *, is_waiting: bool) -> bool:
        """Whether nothing is left for a person to do."""
        return self.is_reached and self.is_whole and (self.is_confirmed or not is_waiting)


@dataclass(frozen=True)
class _Taken:
    """Who has a kill, before anything is confirmed."""

    generation: int
    route: str
    problem: str = ""
    is_whole: bool = True


def kill(
    endpoint: Endpoint,
    *,
    level: str,
    scope: str,
    reason: str,
    is_waiting: bool,
    underlyings: tuple[str, ...],
    tell_firm: TellFirm | None = None,
) -> KillResult:
    """Latches, by the API where it answers, else by page and file, and then has the firm told by
    `tell_firm` where it is the firm's kill; waits for the venue's word.

    Raises: OperatorError where nothing at all was latched.
    """
    _require_known(endpoint, level, scope, underlyings)
    reason = legible(reason)
    is_firms = scope == WHOLE_NAMES[0] and level != HARD_STOP
    taken = _by_api(endpoint, level, scope, reason)
    if taken is not None:
        return _followed(endpoint, taken, level, scope, is_waiting)
    taken = _kill_without_ops(endpoint, level, scope, reason)
    if tell_firm is None or not is_firms:
        if taken.route == ROUTE_NONE:
            raise OperatorError(taken.problem)
        return _followed(endpoint, taken, level, scope, is_waiting)
    firm_problem = _begin(lambda: tell_firm(level, reason))
    result = _followed(endpoint, taken, level, scope, is_waiting)
    problem = "; ".join(one for one in (taken.problem, firm_problem()) if one)
    if taken.route == ROUTE_NONE and problem != taken.problem:
        raise OperatorError(problem)
    return replace(result, problem=problem, is_whole=problem == "")


def legible(text: str) -> str:
    """The text as it can be sent and stored: bytes that are no UTF-8 must not stop a kill."""
    return text.encode(errors="replace").decode()


def _require_known(
    endpoint: Endpoint, level: str, scope: str, underlyings: tuple[str, ...]
) -> None:
    if level not in PRESETS:
        raise OperatorError(f"no kill level {level!r}; there are {', '.join(PRESETS)}")
    if not endpoint.url and scope not in (*WHOLE_NAMES, *underlyings):
        known = ", ".join((*WHOLE_NAMES, *underlyings))
        raise OperatorError(f"no scope {scope!r}; there are {known}")
    if level == HARD_STOP and scope not in WHOLE_NAMES:
        raise OperatorError(f"{HARD_STOP} ends the daemon: it takes no scope but the whole")


def _by_api(endpoint: Endpoint, level: str, scope: str, reason: str) -> _Taken | None:
    """None where a local daemon's API has not done it."""
    patience_s = TIMEOUT_S if endpoint.url else KILL_PATIENCE_S
    body = {"level": level, "scope": scope, "reason": reason}
    try:
        answer = endpoint.request("POST", "/v1/kill", body, patience_s)
        generation, problem = int(answer["generation"]), str(answer["problem"])
        is_whole = not answer.get("firm_problem")
    except (OperatorError, LookupError, TypeError, ValueError) as error:
        # Whatever the answer is, a local daemon is killed without it.
        if endpoint.url:
            raise OperatorError(str(error)) from error
        return None
    return _Taken(generation, "api", problem, is_whole)


def _followed(
    endpoint: Endpoint, taken: _Taken, level: str, scope: str, is_waiting: bool
) -> KillResult:
    """Waits for what becomes of a kill that somebody has."""
    state, is_confirmed, is_reached = "settling", False, True
    if taken.route == ROUTE_NONE:
        state, is_reached = "nothing is latched here", False
    elif taken.route == "file":
        state = f"no daemon runs by {endpoint.named}: it will start latched; {ELSEWHERE}"
        is_reached = False
    elif taken.route == "guard":
        is_reached = _wait_until(lambda: not endpoint.layout.kill_file.exists())
        state = "taken by the guard" if is_reached else "not taken by the guard"
    elif is_waiting:
        is_confirmed = _is_confirmed(endpoint, taken.generation, level, scope)
        state = "confirmed" if is_confirmed else "unconfirmed"
    return KillResult(
        generation=taken.generation,
        level=level,
        scope=scope,
        route=taken.route,
        state=state,
        is_confirmed=is_confirmed,
        is_reached=is_reached,
        is_whole=taken.is_whole,
        problem=taken.problem,
    )


def _is_confirmed(endpoint: Endpoint, generation: int, level: str, scope: str) -> bool:
    if PRESETS[level].tasks & SWEEP:
        # Attached once: a hard stop ends the daemon, whose last word is then in this mapping.
        page = None if endpoint.url else live_page(endpoint.layout)
        return _wait_until(lambda: _is_swept(endpoint, page, generation))
    return _wait_until(lambda: _is_pulled(endpoint, generation, scope))


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


def _kill_without_ops(endpoint: Endpoint, level: str, scope: str, reason: str) -> _Taken:
    layout, ts_ns = endpoint.layout, time.time_ns()
    source = HARD_STOP if level == HARD_STOP else OPERATOR
    where = WHOLE if scope in WHOLE_NAMES else scope
    try:
        raised = raise_everywhere(layout, source, PRESETS[level], reason, ts_ns=ts_ns, scope=where)
        if level == HARD_STOP:
            open_latch(layout).block_start(reason)
    except OSError as error:
        return _what_holds(endpoint, source, where, ts_ns, error)
    if raised.is_guard_told:
        return _Taken(raised.generation, "guard")
    return _Taken(raised.generation, "file" if raised.page is None else "page")


def _what_holds(endpoint: Endpoint, source: str, scope: str, ts_ns: int, error: OSError) -> _Taken:
    """Where a file refused: the page of a living guard is narrowed before any file is touched, so
    a kill may hold all the same."""
    try:
        store = open_latch(endpoint.layout)
        state = store.state()
    except OSError:
        hint = ": be the daemon's own user" if isinstance(error, PermissionError) else ""
        why = f"whether a daemon runs by {endpoint.named} cannot be seen ({error}){hint}"
        return _Taken(0, ROUTE_NONE, f"nothing is latched: {why}", is_whole=False)
    entry = state.entry(source, scope)
    if entry is None or entry.ts_ns != ts_ns:
        why = f"no daemon runs by {endpoint.named}, and its latch file cannot be written ({error})"
        if page_is_owned(endpoint.layout.page):
            why = f"neither page nor files of the daemon of {endpoint.named} can be used ({error})"
            why += ": send SIGUSR1 to its guard"
        return _Taken(0, ROUTE_NONE, f"nothing is latched: {why}; {ELSEWHERE}", is_whole=False)
    route = "file" if store.page is None else "page"
    problem = f"latched, but not on the disk as it must be, so a restart may forget it: {error}"
    return _Taken(state.generation, route, problem, is_whole=False)


def _begin(work: Callable[[], str]) -> Callable[[], str]:
    """Starts telling the firm beside everything else; the call that is returned waits for it."""
    said: list[str] = []
    deadline_s = time.monotonic() + FIRM_PATIENCE_S

    def tell() -> None:
        try:
            said.append(work())
        except Exception as error:  # noqa: BLE001 - whatever it is, the operator must learn of it
            said.append(f"the firm's store was not told, other instances go on: {error!r}")

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()

    def result() -> str:
        thread.join(max(0.0, deadline_s - time.monotonic()))
        late = f"the firm's store did not answer within {FIRM_PATIENCE_S:g} s: others may go on"
        return said[0] if said else late

    return result


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
