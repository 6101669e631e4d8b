"""How the decision stands, in the few words that the guard and the operator act on."""

from __future__ import annotations

from enum import Enum

import msgspec


class Stage(Enum):
    """Where the decision is in its life; the shell translates it for the shared page."""

    STARTING = "starting"
    RECONCILING = "reconciling"
    RUNNING = "running"
    SETTLING = "settling"
    KILLED_CONFIRMED = "killed_confirmed"
    KILLED_UNCONFIRMED = "killed_unconfirmed"


class Standing(msgspec.Struct, frozen=True):
    """`swept_generation`: the latch generation for which the venue showed nothing open, twice."""

    stage: Stage
    swept_generation: int
    is_reconciled: bool
