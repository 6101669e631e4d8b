"""Empties a venue over REST with the guard's own key, and believes only two empty reads.

One round cancels everything, wide and by currency side by side, then reads. Rounds repeat with a
jittered pause until two reads, a stated gap apart, were both whole and empty and nothing was left
to cancel between them. A call that fails, times out or makes no sense counts as "not empty".

What is said to the venue and how its answers read is the venue's sweep module, given as `protocol`.
This module knows HTTP, time-outs and patience. It never writes a secret or a token to a log.
"""

from __future__ import annotations

import http.client
import random
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar
from urllib.parse import urlsplit

from mm_daemon.venues.sweep import Call, CallFailed, Failure, SweepProtocol, Token

ANSWER_BYTES_MAX: Final = 64 << 20
_LANE_SLACK_S: Final = 0.25

Outcome = TypeVar("Outcome")


@dataclass(frozen=True, slots=True)
class SweepConfig:
    """Where the venue is, who we are there, and how patient we are."""

    rest_url: str
    client_id: str
    client_secret: str = field(repr=False)
    currencies: tuple[str, ...]
    timeout_s: float = 1.0
    empty_gap_s: float = 1.0
    retry_s_min: float = 0.05
    retry_s_max: float = 0.2


@dataclass(frozen=True, slots=True)
class SweepReport:
    """How a sweep ended. `detail` names the last thing that stood in the way."""

    is_confirmed: bool
    rounds: int
    cancelled: int
    open_count: int | None
    detail: str
    seconds: float


class _CallError(Exception):
    """A call brought no usable answer. `is_unauthorized` asks for a new token first."""

    def __init__(self, detail: str, *, is_unauthorized: bool = False) -> None:
        super().__init__(detail)
        self.is_unauthorized = is_unauthorized


class _Wire:
    """One kept-alive HTTP connection, opened again when it has died."""

    def __init__(self, rest_url: str, timeout_s: float) -> None:
        parts = urlsplit(rest_url)
        assert parts.scheme in ("http", "https"), rest_url
        assert parts.hostname, rest_url
        self._path = parts.path or "/"
        self._connection: http.client.HTTPConnection
        if parts.scheme == "https":
            context = ssl.create_default_context()
            self._connection = http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=timeout_s, context=context
            )
        else:
            self._connection = http.client.HTTPConnection(
                parts.hostname, parts.port, timeout=timeout_s
            )

    def post(self, body: bytes, headers: dict[str, str]) -> bytes:
        """The answer's body, whatever its status: the venue's errors are in it."""
        is_reused = self._connection.sock is not None
        try:
            return self._post(body, headers)
        except (http.client.HTTPException, ConnectionError):
            self._connection.close()
            if not is_reused:
                raise
            return self._post(body, headers)
        except OSError:
            self._connection.close()
            raise

    def close(self) -> None:
        self._connection.close()

    def _post(self, body: bytes, headers: dict[str, str]) -> bytes:
        all_headers = {"Content-Type": "application/json", **headers}
        self._connection.request("POST", self._path, body=body, headers=all_headers)
        answer = self._connection.getresponse().read(ANSWER_BYTES_MAX + 1)
        if len(answer) > ANSWER_BYTES_MAX:
            self._connection.close()
            raise http.client.HTTPException(f"answer larger than {ANSWER_BYTES_MAX} bytes")
        return answer


class SweepClient:
    """Sweeps one account. Not for two threads; its lanes are its own affair.

    `wait` pauses for some seconds and returns True where the sweep should give up; `rng` spreads
    retries so that two sweepers do not keep step.
    """

    def __init__(
        self,
        config: SweepConfig,
        protocol: SweepProtocol,
        rng: random.Random,
        wait: Callable[[float], bool],
    ) -> None:
        self._config = config
        self._protocol = protocol
        self._rng = rng
        self._wait = wait
        self._token: Token | None = None
        self._wires: dict[int, _Wire] = {}
        self._cancelled = 0
        self._detail = "not begun"
        self._is_unauthorized = False

    def sweep(self, deadline_s: float) -> SweepReport:
        """Cancel and read until two reads are empty or `deadline_s` from now has passed."""
        started_s = time.monotonic()
        self._cancelled = 0
        rounds = 0
        is_once_empty = False
        while True:
            rounds += 1
            cancelled = self._cancel_round()
            open_count = self._read_round()
            if cancelled is not None and open_count == 0:
                if is_once_empty and cancelled == 0:
                    return self._report(True, rounds, open_count, started_s)
                is_once_empty = True
                pause_s = self._config.empty_gap_s
            else:
                is_once_empty = False
                pause_s = self._rng.uniform(self._config.retry_s_min, self._config.retry_s_max)
            is_late = time.monotonic() - started_s + pause_s > deadline_s
            if is_late or self._wait(pause_s):
                return self._report(False, rounds, open_count, started_s)

    def read_once(self) -> int | None:
        """How many orders and quotes are open; None where the venue did not say."""
        return self._read_round()

    def close(self) -> None:
        """Drop all connections."""
        for wire in self._wires.values():
            wire.close()
        self._wires.clear()

    @property
    def detail(self) -> str:
        """The last thing that stood in the way."""
        return self._detail

    def _report(
        self, is_confirmed: bool, rounds: int, open_count: int | None, started_s: float
    ) -> SweepReport:
        detail = "two empty reads" if is_confirmed else self._detail
        seconds = time.monotonic() - started_s
        return SweepReport(is_confirmed, rounds, self._cancelled, open_count, detail, seconds)

    def _cancel_round(self) -> int | None:
        """Run all lanes at once. How many things they cancelled, or None where the first lane,
        which covers the account, did not go through."""
        token = self._authorize()
        if token is None:
            return None
        lanes = self._protocol.cancel_lanes(self._config.currencies)
        outcomes: list[int | None] = [None] * len(lanes)

        def run(index: int, wire: _Wire) -> None:
            outcomes[index] = self._run_lane(wire, lanes[index], token)

        threads = [
            threading.Thread(target=run, args=(index, self._wire(index)), daemon=True)
            for index in range(len(lanes))
        ]
        for thread in threads:
            thread.start()
        budget_s = self._config.timeout_s * max(len(lane) for lane in lanes) + _LANE_SLACK_S
        deadline_s = time.monotonic() + budget_s
        for index, thread in enumerate(threads):
            thread.join(max(0.0, deadline_s - time.monotonic()))
            if thread.is_alive():
                self._wires.pop(index)
        total = sum(count for count in outcomes if count is not None)
        self._cancelled += total
        return None if outcomes[0] is None else total

    def _run_lane(self, wire: _Wire, lane: tuple[Call, ...], token: Token) -> int | None:
        """How many things the lane cancelled; None where one of its calls failed, or was not made
        because the sweep was given up meanwhile."""
        total = 0
        is_whole = True
        for call in lane:
            if self._wait(0.0):
                return None
            try:
                total += self._ask(wire, call, token, self._protocol.read_cancel)
            except _CallError as error:
                self._note(error)
                is_whole = False
        return total if is_whole else None

    def _read_round(self) -> int | None:
        token = self._authorize()
        if token is None:
            return None
        most = 0
        for call in self._protocol.read_calls(self._config.currencies):
            try:
                found = self._ask(self._wire(0), call, token, self._protocol.read_open)
            except _CallError as error:
                self._note(error)
                return None
            if found.count > most:
                most = found.count
                self._detail = f"{most} open after cancel, among them {found.examples}"
        return most

    def _authorize(self) -> Token | None:
        if self._token is not None and not self._is_unauthorized:
            return self._token
        self._token = None
        call = self._protocol.auth_call(self._config.client_id, self._config.client_secret)
        try:
            token = self._protocol.read_token(_post(self._wire(0), call, {}))
        except _CallError as error:
            self._note(error)
            return None
        if isinstance(token, CallFailed):
            self._detail = token.detail
            return None
        self._token = token
        self._is_unauthorized = False
        return token

    def _ask(
        self,
        wire: _Wire,
        call: Call,
        token: Token,
        read: Callable[[Call, bytes], Outcome | CallFailed],
    ) -> Outcome:
        """Raises: _CallError where the venue's word is missing or is a failure."""
        outcome = read(call, _post(wire, call, self._protocol.auth_headers(token)))
        if isinstance(outcome, CallFailed):
            is_unauthorized = outcome.failure is Failure.UNAUTHORIZED
            raise _CallError(outcome.detail, is_unauthorized=is_unauthorized)
        return outcome

    def _wire(self, lane: int) -> _Wire:
        if lane not in self._wires:
            self._wires[lane] = _Wire(self._config.rest_url, self._config.timeout_s)
        return self._wires[lane]

    def _note(self, error: _CallError) -> None:
        self._detail = str(error)
        if error.is_unauthorized:
            self._is_unauthorized = True


def _post(wire: _Wire, call: Call, headers: dict[str, str]) -> bytes:
    try:
        return wire.post(call.body, headers)
    except (OSError, http.client.HTTPException) as error:
        what = str(error) or type(error).__name__
        raise _CallError(f"{call.name}: {what}") from error
