"""Which code and configuration the trader's present life runs, by what it wrote at its start.

An upgrade in place or an edited file reaches a process only when it starts, so after one died and
was restarted the two may differ; a reset must not let such a pair quote.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from mm_daemon.ipc.layout import Layout
from mm_daemon.ipc.session import CONFIG, read_header
from mm_daemon.ops.surroundings import Identity


def config_digest(config_text: str) -> str:
    return hashlib.sha256(config_text.encode()).hexdigest()


def identity_of_trader(layout: Layout) -> Identity:
    """Raises: ValueError where there is no readable session."""
    try:
        session = Path(layout.session_file.read_text().strip())
        config_text = (session / CONFIG).read_text()
    except OSError as error:
        raise ValueError(f"no session to read: {error}") from error
    build = read_header(session).get("build")
    if not isinstance(build, dict):
        raise ValueError(f"{session}: the header names no build")
    return Identity(build, config_digest(config_text))
