"""How inputs and outputs lie on the tape: a record type, a flag byte and a payload. Equal values,
equal bytes.

Frames are stored raw with the connection in the flag byte, so that the tape is a recording of the
venue too; the common
empty inputs carry no payload; all else is MessagePack of the tagged struct.
"""

from __future__ import annotations

import struct
from typing import TypeGuard

import msgspec

from mm_daemon.domain.errors import InvariantError
from mm_daemon.domain.frames import Conn, FrameKind, OutFrame
from mm_daemon.domain.inputs import Flush, FrameIn, Input, StructuredInput, TimerFired
from mm_daemon.domain.outputs import (
    AdjustRecord,
    Ask,
    CheckpointRecord,
    Disconnect,
    Drained,
    FillRecord,
    IntentRecord,
    KeysRecord,
    LatchWanted,
    LedgerRecord,
    Log,
    Output,
    QuoteRecord,
)
from mm_daemon.domain.units import Ns

FRAME_IN = 1
STRUCTURED_IN = 2
FLUSH_IN = 3
TIMER_IN = 4
FRAME_OUT = 16
STRUCTURED_OUT = 17
DIGEST = 32
"""Written by the pump now and then: the node's digest, so that a replay finds where it first
differs."""

Record = tuple[int, int, bytes]
"""(record type, flags, payload)."""

_StructuredOutput = Ask | Disconnect | LatchWanted | Log | Drained | LedgerRecord
_LEDGER_TYPES = (
    IntentRecord,
    QuoteRecord,
    FillRecord,
    AdjustRecord,
    KeysRecord,
    CheckpointRecord,
)
_FRAME_HEAD = struct.Struct("<BBQQQb")
_encoder = msgspec.msgpack.Encoder()
_input_decoder: msgspec.msgpack.Decoder[StructuredInput] = msgspec.msgpack.Decoder(StructuredInput)
_output_decoder: msgspec.msgpack.Decoder[_StructuredOutput] = msgspec.msgpack.Decoder(
    _StructuredOutput
)
_ledger_decoder: msgspec.msgpack.Decoder[LedgerRecord] = msgspec.msgpack.Decoder(LedgerRecord)
_FLUSH: Record = (FLUSH_IN, 0, b"")
_TIMER: Record = (TIMER_IN, 0, b"")


def encode_input(event: Input) -> Record:
    kind = type(event)
    if kind is FrameIn:
        assert isinstance(event, FrameIn)
        return FRAME_IN, event.conn, event.payload
    if kind is Flush:
        return _FLUSH
    if kind is TimerFired:
        return _TIMER
    return STRUCTURED_IN, 0, _encoder.encode(event)


def decode_input(record_type: int, flags: int, payload: bytes) -> Input:
    """The input of a tape record. Raises InvariantError for an output's type."""
    if record_type == FRAME_IN:
        return FrameIn(conn=Conn(flags), payload=payload)
    if record_type == FLUSH_IN:
        return Flush()
    if record_type == TIMER_IN:
        return TimerFired()
    if record_type == STRUCTURED_IN:
        return _input_decoder.decode(payload)
    raise InvariantError(f"tape record type {record_type} is not an input; expected 1 to 4")


def is_input(record_type: int) -> bool:
    return record_type < FRAME_OUT


def encode_output(output: Output) -> Record:
    if type(output) is OutFrame:
        head = _FRAME_HEAD.pack(
            output.kind,
            output.needs,
            output.request_id,
            output.generation,
            output.valid_until_ns,
            output.scope,
        )
        return FRAME_OUT, output.conn, head + output.payload
    return STRUCTURED_OUT, 0, _encoder.encode(output)


def decode_output(record_type: int, flags: int, payload: bytes) -> Output:
    """The output of a tape record. Raises InvariantError for an input's type."""
    if record_type == FRAME_OUT:
        kind, needs, request_id, generation, valid_until_ns, scope = _FRAME_HEAD.unpack_from(
            payload
        )
        return OutFrame(
            conn=Conn(flags),
            kind=FrameKind(kind),
            payload=payload[_FRAME_HEAD.size :],
            request_id=request_id,
            needs=needs,
            generation=generation,
            valid_until_ns=Ns(valid_until_ns),
            scope=scope,
        )
    if record_type == STRUCTURED_OUT:
        return _output_decoder.decode(payload)
    raise InvariantError(f"tape record type {record_type} is not an output; expected 16 or 17")


def is_ledger_record(output: Output) -> TypeGuard[LedgerRecord]:
    return isinstance(output, _LEDGER_TYPES)


def encode_ledger(record: LedgerRecord) -> bytes:
    """The payload of the same record on the tape."""
    return _encoder.encode(record)


def decode_ledger(payload: bytes) -> LedgerRecord:
    return _ledger_decoder.decode(payload)
