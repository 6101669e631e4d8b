"""A spare trader's side of the wait: everything is made ready first, then one line says who it is.

Making ready runs in a thread of low priority, so that it takes no time from the trader that quotes;
the priority is the thread's own and needs no rights to leave behind, as a process's would. Nothing
here touches the page, a session or the venue.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, MutableMapping
from concurrent.futures import Future
from typing import BinaryIO, TypeVar

from mm_daemon.domain.errors import ConfigError
from mm_daemon.run.places import INCARNATION_VARIABLE, SESSION_VARIABLE

SPARE_VARIABLE = "MM_SPARE"
NICENESS = 10
T = TypeVar("T")


def is_spare() -> bool:
    """Whether this process was started to wait; said once, no child of it is one."""
    return os.environ.pop(SPARE_VARIABLE, "") == "1"


def ready_in_background(make_ready: Callable[[], T]) -> Future[T]:
    """Runs it in a thread of low priority; a failure is raised where the result is asked for."""
    future: Future[T] = Future()

    def run() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        try:
            future.set_result(make_ready())
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that asks
            future.set_exception(error)

    threading.Thread(target=run, name="make-ready", daemon=True).start()
    return future


def wait_to_be_needed(
    orders: BinaryIO | None = None, environ: MutableMapping[str, str] | None = None
) -> bool:
    """Blocks until this process is the trader, and takes over what it is told into the environment;
    False where it is not needed any more.

    Raises: ConfigError where the line is no order.
    """
    line = (orders or sys.stdin.buffer).readline()
    if not line:
        return False
    environ = os.environ if environ is None else environ
    try:
        order = json.loads(line)
        told = {
            **{str(name): str(value) for name, value in order["env"].items()},
            INCARNATION_VARIABLE: str(int(order["incarnation"])),
            SESSION_VARIABLE: str(order["session"]),
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"a spare trader was told {line[:200]!r}, expected one JSON line with incarnation,"
            " session and env"
        ) from error
    environ.update(told)
    return True
