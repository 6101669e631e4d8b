"""A spare's wait: what it is told becomes its environment, or it is not needed."""

import io
import os
import threading

import pytest

from mm_daemon.domain.errors import ConfigError
from mm_daemon.run.spare import NICENESS, ready_in_background, wait_to_be_needed


def test_the_line_names_life_session_and_environment() -> None:
    environ = {"KEPT": "yes", "MM_INCARNATION": "0"}
    line = b'{"incarnation": 7, "session": "/s/7", "env": {"EXTRA": "x"}}\n'
    assert wait_to_be_needed(io.BytesIO(line), environ)
    assert environ == {
        "KEPT": "yes",
        "MM_INCARNATION": "7",
        "MM_SESSION_DIR": "/s/7",
        "EXTRA": "x",
    }


def test_an_end_without_a_line_means_not_needed() -> None:
    environ: dict[str, str] = {}
    assert not wait_to_be_needed(io.BytesIO(b""), environ)
    assert environ == {}


@pytest.mark.parametrize(
    "line", [b"go\n", b"[]\n", b'{"incarnation": 7}\n', b'{"incarnation": "x", "session": "/s"}\n']
)
def test_anything_else_is_refused_and_changes_nothing(line: bytes) -> None:
    environ: dict[str, str] = {}
    with pytest.raises(ConfigError, match="expected one JSON line"):
        wait_to_be_needed(io.BytesIO(line), environ)
    assert environ == {}


def test_making_ready_is_niced_alone_and_its_failure_is_raised_to_who_asks() -> None:
    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    def priority() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    assert ready_in_background(priority).result(10.0) == NICENESS
    assert priority() == before

    def fail() -> None:
        raise ConfigError("no such model")

    with pytest.raises(ConfigError, match="no such model"):
        ready_in_background(fail).result(10.0)
