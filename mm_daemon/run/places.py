"""What a child process learns from its environment: the contract with the guard, read once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mm_daemon.domain.errors import ConfigError
from mm_daemon.ipc.layout import Layout

KEY_VARIABLE = "MM_VENUE_KEY"
GUARD_KEY_VARIABLE = "MM_GUARD_KEY"
SINCE_VARIABLE = "MM_SESSIONS_SINCE"
INCARNATION_VARIABLE = "MM_INCARNATION"
SESSION_VARIABLE = "MM_SESSION_DIR"


@dataclass(frozen=True)
class ChildPlaces:
    """Directories, page and session of one child."""

    layout: Layout
    page: Path
    data_dir: Path
    session: Path
    incarnation: int
    sessions_since: str
    """Sessions named before this are another venue's (an embedded venue lives for one run)."""


def child_places() -> ChildPlaces:
    """Raises ConfigError naming the variable where this process was not started by the guard."""
    layout = Layout(
        runtime_dir=Path(_variable("MM_RUNTIME_DIR")), state_dir=Path(_variable("MM_STATE_DIR"))
    )
    return ChildPlaces(
        layout=layout,
        page=Path(_variable("MM_PAGE")),
        data_dir=Path(_variable("MM_DATA_DIR")),
        session=Path(os.environ.get(SESSION_VARIABLE, "")),
        incarnation=int(_variable(INCARNATION_VARIABLE)),
        sessions_since=os.environ.get(SINCE_VARIABLE, ""),
    )


def _variable(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise ConfigError(f"{name} is not set: this process is started by `mm-daemon run`")
    return value
