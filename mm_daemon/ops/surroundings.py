"""What the control API acts on, and the rules it acts by."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mm_daemon.ipc.latch import LatchStore
from mm_daemon.ipc.layout import Layout
from mm_daemon.ipc.page import Page
from mm_daemon.ops.audit import AuditLog
from mm_daemon.ops.firm_kill import FirmKill
from mm_daemon.ops.idempotency import AnswerStore
from mm_daemon.ops.latch_watch import LatchWatch
from mm_daemon.ops.token_file import TokenFile
from mm_daemon.ops.trader_client import TraderClient


@dataclass(frozen=True)
class ResetRules:
    """What a reset needs; see `ops.reset_desk`."""

    persons: int
    cooldown_s: float
    clean_age_s: float


@dataclass(frozen=True)
class Identity:
    """What must be the same for trader and ops: the code they run and how they are configured."""

    build: dict[str, Any] = field(default_factory=dict)
    config_sha256: str = ""


@dataclass
class Surroundings:
    """One daemon, as its control API sees it."""

    page: Page
    latch: LatchStore
    layout: Layout
    audit: AuditLog
    watch: LatchWatch
    tokens: TokenFile
    answers: AnswerStore
    trader: TraderClient
    identity: Identity
    """Of this process."""
    trader_identity: Callable[[], Identity]
    """Of the trader's present life. Raises ValueError where it cannot be told."""
    rules: ResetRules
    is_open: bool
    """`sim`: reading needs no token from loopback, so that the console works out of the box."""
    body_timeout_s: float = 2.0
    kill_step_timeout_s: float = 2.0
    """What a kill does beside the latch is waited for no longer: a disk may hang."""
    throttled_line_s: float = 60.0
    """Refusals while strangers are throttled share a line on the audit log each so often."""
    wall_ns: Callable[[], int] = time.time_ns
    mono_ns: Callable[[], int] = time.monotonic_ns
    lease: Callable[[], dict[str, Any]] = dict
    """How this instance stands with the right to trade its shard."""
    firm: FirmKill | None = None
    """Where several instances share a store."""
