"""Everything that can change a decision, as the only things `Node.step` takes. Each is journaled
before it is acted on.

The shell stamps each with `ts_ns` (wall clock at start + monotonic delta, strictly rising). Raw
frames are stored raw;
everything else is stored as MessagePack of the struct.
"""

from __future__ import annotations

import msgspec

from mm_daemon.domain.frames import Conn
from mm_daemon.domain.params import Params
from mm_daemon.domain.permission import OPEN_SCOPES
from mm_daemon.domain.units import Ns


class Start(msgspec.Struct, frozen=True, tag="start"):
    """The first input of a session: identity, seed, parameters, and what survived the last run.

    `epoch` is the fencing epoch, part of every client id; `first_sequence` continues the counter
    of the ledger.
    `venue_settings` and `checkpoint` are opaque to the node's callers: the venue's protocol
    settings and calibration
    state, as MessagePack; both are empty where there is none.
    """

    session: str
    epoch: int
    first_sequence: int
    seed: int
    wall_offset_ns: int
    params: Params
    venue_settings: bytes
    checkpoint: bytes
    ledger_tail: bytes
    latch_generation: int
    latch_permission: int
    latch_tasks: int
    latch_scoped: int = OPEN_SCOPES


class FrameIn(msgspec.Struct, frozen=True, gc=False):
    """One whole text frame, redacted. Journaled raw, so it carries no tag."""

    conn: Conn
    payload: bytes


class ConnectionChanged(msgspec.Struct, frozen=True, tag="connection"):
    conn: Conn
    is_up: bool
    reason: str


class Flush(msgspec.Struct, frozen=True, tag="flush"):
    """End of one loop turn over all sockets: decide once on everything that came in."""


class TimerFired(msgspec.Struct, frozen=True, tag="timer"):
    """A deadline given by `next_deadline_ns` has passed."""


class FitAnswer(msgspec.Struct, frozen=True, tag="fit"):
    """A surface fit came back from compute; `result` is MessagePack of the fit or `error` says why
    there is none."""

    ask_id: int
    underlying: str
    result: bytes
    error: str
    duration_ns: int


class InferenceAnswer(msgspec.Struct, frozen=True, tag="inference"):
    """Model outputs for the rows asked, float32 little-endian row-major; `error` names why there
    are none."""

    ask_id: int
    model: str
    outputs: bytes
    columns: int
    error: str
    duration_ns: int


class FactorsAnswer(msgspec.Struct, frozen=True, tag="factors"):
    """Factor matrices of the inventory skew, built in compute (linear algebra stays out of the
    node)."""

    ask_id: int
    underlying: str
    result: bytes
    error: str
    duration_ns: int


class Drain(msgspec.Struct, frozen=True, tag="drain"):
    """Graceful stop: pull and cancel everything, verify, then say so."""

    reason: str


class TraderKnob(msgspec.Struct, frozen=True, tag="knob"):
    """A trader's bounded live setting; `expiry_ns` 0 = all expiries, `underlying` empty = all."""

    name: str
    underlying: str
    expiry_ns: int
    instrument: str
    value: float
    actor: str


class OperatorReset(msgspec.Struct, frozen=True, tag="operator_reset"):
    """The operator's reset was accepted by the latch: re-enter in stages, in one scope or
    (empty) in all."""

    generation: int
    scope: str = ""
    is_ahead: bool = False
    """Said before the latch is lifted, so that the first quote after it is already a small one:
    only the stages begin, nothing is lifted yet."""


class AdoptVenue(msgspec.Struct, frozen=True, tag="adopt_venue"):
    """A person's word that the venue's positions are right where ours differ and stay so."""

    actor: str
    reason: str
    difference_id: str = ""
    """Of the difference that the person has seen; another one is not adopted."""


class LatchChanged(msgspec.Struct, frozen=True, tag="latch"):
    """The effective permission and tasks of the latch at `generation`: of the whole daemon, and
    (`scoped`, see `permission.scope_mask`) of each underlying's own latch in the order of the
    parameters."""

    generation: int
    permission: int
    tasks: int
    scoped: int = OPEN_SCOPES


class PermitChanged(msgspec.Struct, frozen=True, tag="permit"):
    """The permit to add risk now runs until `deadline_ns` on the daemon's clock."""

    deadline_ns: Ns


class Withheld(msgspec.Struct, frozen=True, tag="withheld"):
    """The gate did not send a frame: nothing of it left the process."""

    request_id: int
    reason: str


class HealthSample(msgspec.Struct, frozen=True, tag="health"):
    loop_lag_ns: int
    clock_offset_ns: int
    journal_lag_ns: int
    loop_lag_p99_ns: int = 0
    """What 99 % of the loop's turns since the last sample were late by at most; 0 = not measured.
    """


StructuredInput = (
    Start
    | ConnectionChanged
    | Flush
    | TimerFired
    | FitAnswer
    | InferenceAnswer
    | FactorsAnswer
    | Drain
    | TraderKnob
    | OperatorReset
    | AdoptVenue
    | LatchChanged
    | PermitChanged
    | Withheld
    | HealthSample
)
Input = FrameIn | StructuredInput
