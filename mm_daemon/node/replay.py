"""Re-decides a recorded session and compares every output byte with the tape.

Pure: records in, a verdict out. The caller reads the files and times the run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from mm_daemon.domain.codec import (
    DIGEST,
    decode_input,
    encode_output,
    is_input,
)
from mm_daemon.domain.units import Ns
from mm_daemon.node.node import Node


class TapeRecord(Protocol):
    """One record as the tape's reader gives it."""

    @property
    def type(self) -> int: ...

    @property
    def flags(self) -> int: ...

    @property
    def ts_ns(self) -> int: ...

    @property
    def payload(self) -> bytes: ...


class Difference(msgspec.Struct, frozen=True):
    """The first place where the replay and the tape part."""

    record_index: int
    ts_ns: int
    expected: str
    """What the tape holds: record type, flags and payload, printable."""
    found: str


class ReplayResult(msgspec.Struct, frozen=True):
    """How a replay went. `difference` None = every output byte and every digest was equal."""

    inputs: int
    outputs: int
    digests: int
    span_ns: int
    final_digest: str
    difference: Difference | None


def replay(
    node: Node,
    records: Iterable[TapeRecord],
    *,
    verify: bool,
    on_progress: Callable[[int], None] | None = None,
) -> ReplayResult:
    """Steps `node` through the inputs of a tape.

    With `verify`, stops at the first output that differs from the recorded one in any byte.
    """
    expected: deque[tuple[int, int, bytes]] = deque()
    inputs = outputs = digests = 0
    first_ns = last_ns = 0
    difference: Difference | None = None
    for index, record in enumerate(records):
        if on_progress is not None and index % 65_536 == 0:
            on_progress(index)
        if is_input(record.type):
            if verify and expected:
                difference = _differs(index, last_ns, None, expected[0])
                break
            event = decode_input(record.type, record.flags, record.payload)
            first_ns = first_ns or record.ts_ns
            last_ns = record.ts_ns
            inputs += 1
            made = node.step(Ns(record.ts_ns), event)
            outputs += len(made)
            if verify:
                expected.extend(encode_output(output) for output in made)
        elif record.type == DIGEST:
            digests += 1
            found = node.digest()
            if verify and found != record.payload:
                difference = _differs(
                    index, last_ns, (DIGEST, 0, record.payload), (DIGEST, 0, found)
                )
                break
        elif verify:
            taped = (record.type, record.flags, record.payload)
            replayed = expected.popleft() if expected else None
            if replayed != taped:
                difference = _differs(index, last_ns, taped, replayed)
                break
    return ReplayResult(
        inputs=inputs,
        outputs=outputs,
        digests=digests,
        span_ns=last_ns - first_ns,
        final_digest=node.digest().hex(),
        difference=difference,
    )


def _differs(
    index: int,
    ts_ns: int,
    taped: tuple[int, int, bytes] | None,
    replayed: tuple[int, int, bytes] | None,
) -> Difference:
    return Difference(
        record_index=index, ts_ns=ts_ns, expected=_printable(taped), found=_printable(replayed)
    )


def _printable(record: tuple[int, int, bytes] | None) -> str:
    if record is None:
        return "no output"
    record_type, flags, payload = record
    return f"type {record_type} flags {flags} payload {payload[:2000]!r}"
