"""Frames on a venue connection: which connection, and what kind of act the bytes are.

The kind decides what may stop a frame: RISK needs journal, latch, permit, credit and a
`valid_until`; REDUCE needs a latch
that allows reducing; SAFE (cancel, query, heartbeat, auth, subscribe) is never blocked.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from mm_daemon.domain.units import Ns


class FrameKind(IntEnum):
    RISK = 0
    REDUCE = 1
    SAFE = 2


class Conn(IntEnum):
    """A connection by its purpose; market data and order entry never share a socket."""

    MARKET = 0
    TRADE = 1
    KILL = 2
    """The warm kill session: carries SAFE frames only."""


class OutFrame(msgspec.Struct, frozen=True, tag="frame"):
    """Bytes for one connection, as the protocol encoded them; secrets are placeholders that the
    gate fills.

    `generation` is the latch generation the decision saw; the gate withholds a RISK or REDUCE
    frame of an older one.
    `valid_until_ns` is on the daemon's clock; 0 only for SAFE frames.
    """

    conn: Conn
    kind: FrameKind
    payload: bytes
    request_id: int
    needs: int = 0
    """Permission bits (`permission.QUOTE`, HEDGE, REDUCE) the latch must grant; 0 only for SAFE
    frames."""
    generation: int = 0
    valid_until_ns: Ns = Ns(0)
    scope: int = -1
    """Which underlying of the parameters it trades, for latches of one underlying; −1 = not known,
    which passes only while no underlying is latched by itself."""
