"""Who may do what has changed, or cannot be told: onto the audit log and the log."""

from __future__ import annotations

import structlog

from mm_daemon.ops.auth import Actor
from mm_daemon.ops.scribe import Scribe
from mm_daemon.ops.token_file import TokenFile


def follow_tokens(
    tokens: TokenFile, scribe: Scribe, log: structlog.typing.FilteringBoundLogger
) -> None:
    """Has every change of the file written down."""

    def changed(added: list[Actor], removed: list[Actor]) -> None:
        log.warning("tokens_changed", added=len(added), removed=len(removed))
        scribe.try_write("tokens_changed", added=_named(added), removed=_named(removed))

    def judged(problem: str) -> None:
        if problem:
            log.critical("credentials_unusable", problem=problem)
        else:
            log.warning("credentials_usable")
        scribe.try_write("tokens_unusable" if problem else "tokens_usable", error=problem)

    tokens.on_change, tokens.on_problem = changed, judged


def _named(actors: list[Actor]) -> list[str]:
    return [f"{one.name} ({one.role.name.lower()}, {one.fingerprint})" for one in actors]
