"""structlog JSON lines: UTC nanoseconds, snake_case events, no secrets.

Repeats of one event beyond a pace are counted instead of printed, so a storm cannot fill the disk.
What calls a person is critical, and counted in `mm_pages_total` too, which no storm can drop.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog

from mm_daemon.domain.outputs import calls_a_person
from mm_daemon.ops.trader_client import LogLine

SECRET_KEYS = ("secret", "token", "password", "signature", "authorization")
REPEATS_PER_WINDOW = 50
WINDOW_S = 10.0


def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replaces the value of every key that names a secret."""
    for key in event:
        if any(word in key.lower() for word in SECRET_KEYS):
            event[key] = "[redacted]"
    return event


class RepeatLimiter:
    """Drops lines of one event beyond a pace and says how many it dropped."""

    def __init__(self, mono_s: Callable[[], float]) -> None:
        self._mono_s = mono_s
        self._windows: dict[str, tuple[float, int]] = {}

    def __call__(
        self, _: Any, __: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        name = str(event.get("event", ""))
        now_s = self._mono_s()
        start_s, count = self._windows.get(name, (now_s, 0))
        if now_s - start_s >= WINDOW_S:
            if count > REPEATS_PER_WINDOW:
                event["repeats_dropped"] = count - REPEATS_PER_WINDOW
            start_s, count = now_s, 0
        self._windows[name] = (start_s, count + 1)
        if count >= REPEATS_PER_WINDOW:
            raise structlog.DropEvent
        return event


def stamp(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Adds the wall time where the line brought none."""
    event.setdefault("ts_ns", time.time_ns())
    return event


def write_line(log: structlog.typing.FilteringBoundLogger, line: LogLine) -> None:
    """A line of the trader's: as critical where it calls a person, whatever else it is."""
    levels = {"debug": log.debug, "warning": log.warning, "error": log.error}
    emit = levels.get(line.level, log.info)
    if calls_a_person(line.level, line.fields):
        emit = log.critical
    emit(line.event, **{**line.fields, "ts_ns": line.ts_ns, "source": "trader"})


class LineLogger:
    """What structlog hands rendered lines to. `put` must not wait: it is called in ops's loop,
    which renews the permit."""

    def __init__(self, put: Callable[[str], None]) -> None:
        self._put = put

    def msg(self, line: str) -> None:
        self._put(line)

    debug = info = warning = error = critical = msg


def make_logger(
    level: str, process: str, put: Callable[[str], None], *more: structlog.typing.Processor
) -> structlog.typing.FilteringBoundLogger:
    """A JSON logger bound to the process's name; rendered lines go to `put`. `more` see every
    line, before repeats are held back."""
    logger: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
        LineLogger(put),
        processors=[
            structlog.processors.add_log_level,
            stamp,
            redact,
            *more,
            RepeatLimiter(time.monotonic),
            structlog.processors.JSONRenderer(sort_keys=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        process=process,
    )
    return logger
