"""Sends what calls a person straight to whoever pages: an Alertmanager, or anything like it.

A scrape, a rule and a grouping take most of a minute; this takes one request. What is written is
the body of Alertmanager's `POST /api/v2/alerts`, which a plain webhook can read as well. Pages wait
in a bounded queue while nobody takes them, the oldest go first, and nothing waits for this: it is
the quick way besides the metric, never instead of it.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import aiohttp

QUEUE_MAX: Final = 64
TIMEOUT_S: Final = 2.0
RETRY_S: Final = 1.0
RESOLVE_S: Final = 300.0
"""A page is about a moment: without another one like it, it ends by itself."""
TEXT_CHARS_MAX: Final = 1_000
OUTCOMES: Final = ("sent", "failed", "dropped")
_OWN_KEYS: Final = ("event", "level", "ts_ns", "process")

Event = MutableMapping[str, Any]


class Pager:
    """One receiver. `put` may be called from any thread."""

    def __init__(self, url: str, labels: Mapping[str, str], retry_s: float = RETRY_S) -> None:
        """Inside the running loop. `url` empty: pages are counted nowhere and sent nowhere."""
        self._url = url
        self._labels = dict(labels)
        self._retry_s = retry_s
        self._waiting: deque[dict[str, Any]] = deque()
        self._loop = asyncio.get_running_loop()
        self._is_waiting = asyncio.Event()
        self.counts = dict.fromkeys(OUTCOMES, 0)
        """Pages taken by the receiver, requests it did not take, pages given up."""

    def put(self, line: Mapping[str, Any]) -> None:
        """A line that calls a person, with secrets gone already."""
        if self._url:
            self._loop.call_soon_threadsafe(self._take, alert(line, self._labels))

    async def run(self) -> None:
        """Sends until cancelled."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                await self._is_waiting.wait()
                batch = list(self._waiting)
                if not await self._is_taken(session, batch):
                    self.counts["failed"] += 1
                    await asyncio.sleep(self._retry_s)
                    continue
                self.counts["sent"] += len(batch)
                self._forget(batch)

    async def _is_taken(self, session: aiohttp.ClientSession, batch: list[dict[str, Any]]) -> bool:
        try:
            async with session.post(self._url, json=batch) as response:
                return response.status < 300
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    def _take(self, page: dict[str, Any]) -> None:
        if len(self._waiting) >= QUEUE_MAX:
            self._waiting.popleft()
            self.counts["dropped"] += 1
        self._waiting.append(page)
        self._is_waiting.set()

    def _forget(self, sent: list[dict[str, Any]]) -> None:
        """By identity: some of them may have been given up meanwhile."""
        known = {id(one) for one in sent}
        self._waiting = deque(one for one in self._waiting if id(one) not in known)
        if not self._waiting:
            self._is_waiting.clear()


def alert(line: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    """One alert in Alertmanager's words."""
    at = datetime.fromtimestamp(line["ts_ns"] / 1e9, UTC)
    details = {key: value for key, value in line.items() if key not in _OWN_KEYS}
    text = json.dumps(details, sort_keys=True, default=str)[:TEXT_CHARS_MAX]
    event = str(line["event"])
    return {
        "labels": {"alertname": "MmPage", "severity": "page", "event": event, **labels},
        "annotations": {"summary": f"{event}: {text}", "runbook": "deploy/RUNBOOK.md#mmpage"},
        "startsAt": at.isoformat(),
        "endsAt": (at + timedelta(seconds=RESOLVE_S)).isoformat(),
    }


def tee(put: Callable[[Mapping[str, Any]], None]) -> Callable[[Any, str, Event], Event]:
    """A processor of log lines that hands on what is critical."""

    def process(_: Any, __: str, event: Event) -> Event:
        if event.get("level") == "critical":
            put(dict(event))
        return event

    return process
