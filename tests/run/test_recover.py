"""What a life begins with: the newest checkpoint of any earlier one, and every record since."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_daemon.core.recovery import CHECKPOINT_BYTES_MAX
from mm_daemon.domain.codec import decode_ledger, encode_ledger
from mm_daemon.domain.orders import FillEvidence, Lots, Purpose
from mm_daemon.domain.outputs import (
    CheckpointRecord,
    FillRecord,
    IntentRecord,
    KeysRecord,
    LedgerRecord,
    QuoteRecord,
    SavedTrade,
)
from mm_daemon.domain.units import CoinE8, Ns, Side
from mm_daemon.ipc.layout import Layout
from mm_daemon.ipc.ledger import INTENT, SEGMENT_BYTES, STEM, Ledger, read_ledger
from mm_daemon.ipc.segments import (
    RECORD_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    JournalCorruptError,
    JournalError,
    Record,
    segment_indices,
    segment_path,
)
from mm_daemon.ipc.session import create_session, list_sessions
from mm_daemon.kernel.pump import ledger_type
from mm_daemon.run.live import NOTHING_RECOVERED, SEQUENCES_SKIPPED, recover, recovered_from
from mm_daemon.run.places import ChildPlaces

SECOND_NS = 1_000_000_000
SMALL_BYTES = 4096


def life(
    data_dir: Path,
    second: int,
    *records: LedgerRecord,
    is_clean: bool = True,
    segment_bytes: int = SMALL_BYTES,
) -> Path:
    """A session with a ledger that holds these records."""
    session = create_session(data_dir, second * SECOND_NS)
    ledger = Ledger(session, segment_bytes=segment_bytes)
    for ts_ns, record in enumerate(records, start=1):
        ledger.append(ledger_type(record), 0, ts_ns, encode_ledger(record))
    if is_clean:
        ledger.close()
    return session


def intent(request_id: int) -> IntentRecord:
    return IntentRecord(
        request_id=request_id,
        client_id=f"c{request_id}",
        instrument="BTC-PERPETUAL",
        side=Side.BUY,
        price_e8=1,
        lots=Lots(1),
        purpose=Purpose.HEDGE,
        valid_until_ns=Ns(0),
        theo=1.0,
    )


def quote(request_id: int) -> QuoteRecord:
    return QuoteRecord(request_id, str(request_id), "group", (("BTC-C", 1, 1, 2, 1),), Ns(0))


def fill(number: int) -> FillRecord:
    evidence = FillEvidence(
        trade_id=f"t{number}",
        order_id="o1",
        client_id="",
        instrument_id=0,
        side=Side.BUY,
        price_e8=1,
        lots=Lots(1),
        fee_e8=CoinE8(0),
        fee_currency="BTC",
        is_maker=True,
        ts_venue_ns=Ns(number),
        mark_price_e8=1,
        index_price_e8=1,
        is_quote=True,
        source="stream",
    )
    return FillRecord(evidence, "BTC-C", theo_at_decision=1.0, theo_at_fill=1.0)


def trade(number: int) -> SavedTrade:
    return (("BTC", f"t{number}", "o1", ""), number, 1)


def checkpoint(
    state: bytes, next_sequence: int, trades: list[SavedTrade] | None = None
) -> CheckpointRecord:
    return CheckpointRecord(
        next_sequence=next_sequence, trades_since_venue_ns={}, state=state, trades=trades
    )


def long_life(data_dir: Path, second: int = 1, *, is_clean: bool = True) -> Path:
    """Many segments; in the last third a checkpoint with its keys, then fill 900."""
    before = [quote(number) for number in range(1, 200)]
    keys = [KeysRecord(is_first=True, trades=[trade(1)])]
    records = [*before, *keys, *before, checkpoint(b"whole", 500, []), *before, fill(900)]
    return life(data_dir, second, *records, is_clean=is_clean)


def first_needed(session: Path) -> int:
    """The segment in which the newest checkpoint's keys begin."""
    return max(
        record.segment
        for record in read_ledger(session)
        if isinstance(decode_ledger(record.payload), KeysRecord)
    )


def spoil(path: Path, offset: int = SEGMENT_HEADER_BYTES + RECORD_HEADER_BYTES) -> None:
    """Changes one byte of a record's payload."""
    content = bytearray(path.read_bytes())
    content[offset] ^= 0xFF
    path.write_bytes(content)


def places(data_dir: Path, second: int = 100, sessions_since: str = "") -> ChildPlaces:
    layout = Layout(runtime_dir=data_dir / "run", state_dir=data_dir / "state")
    return ChildPlaces(
        layout=layout,
        page=layout.page,
        data_dir=data_dir,
        session=create_session(data_dir, second * SECOND_NS),
        incarnation=1,
        sessions_since=sessions_since,
    )


def test_a_first_life_finds_nothing(tmp_path: Path) -> None:
    assert recover(places(tmp_path)) == NOTHING_RECOVERED


def test_a_life_that_died_before_its_first_checkpoint_hands_on_the_one_it_began_with(
    tmp_path: Path,
) -> None:
    life(tmp_path, 1, checkpoint(b"oldest", 5))
    life(tmp_path, 2, intent(7), checkpoint(b"newest", 9), intent(11))
    life(tmp_path, 3, intent(23))
    life(tmp_path, 4)
    found = recover(places(tmp_path))
    assert found.checkpoint == b"newest"
    assert [one.request_id for one in found.records if isinstance(one, IntentRecord)] == [11, 23]
    assert found.next_sequence == 24 + SEQUENCES_SKIPPED


def test_sessions_of_another_venue_are_left_alone(tmp_path: Path) -> None:
    first = life(tmp_path, 1, checkpoint(b"another", 50))
    second = life(tmp_path, 2, intent(7))
    assert recover(places(tmp_path, 100, second.name)).checkpoint == b""
    assert recover(places(tmp_path, 200, first.name)).checkpoint == b"another"


def test_an_old_ledger_without_types_is_read_from_its_newest_checkpoint(tmp_path: Path) -> None:
    session = create_session(tmp_path, SECOND_NS)
    ledger = Ledger(session, segment_bytes=SMALL_BYTES)
    saved = {"type": "checkpoint", "next_sequence": 100, "trades_since_venue_ns": {}}
    old = [encode_ledger(quote(number)) for number in range(1, 100)]
    old += [msgspec.msgpack.encode({**saved, "state": b"old"}), encode_ledger(fill(1))]
    for payload in old:
        ledger.append(INTENT, 0, 1, payload)
    spoil(segment_path(session, STEM, 0))
    found = recover(places(tmp_path))
    assert found.checkpoint == b"old"
    assert found.records == (fill(1),)


def test_a_start_reads_nothing_older_than_the_keys_of_the_newest_checkpoint(
    tmp_path: Path,
) -> None:
    """What is older is made unreadable: its cost cannot depend on it, nor can damage in it."""
    older = life(tmp_path, 1, checkpoint(b"older", 3))
    session = long_life(tmp_path, 2)
    needed = first_needed(session)
    assert 3 < needed < segment_indices(session, STEM)[-1] - 3
    expected = recover(places(tmp_path))
    assert expected.checkpoint == b"whole"
    assert expected.records == (KeysRecord(is_first=True, trades=[trade(1)]), fill(900))
    for index in range(needed):
        segment_path(session, STEM, index).write_bytes(b"spoilt")
    segment_path(older, STEM, 0).write_bytes(b"spoilt")
    assert recover(places(tmp_path, 200)) == expected
    for index in range(needed):
        segment_path(session, STEM, index).unlink()
    assert recover(places(tmp_path, 300)) == expected


@pytest.mark.parametrize("behind", [0, 1, 2])
def test_damage_in_the_middle_of_what_is_needed_is_refused_by_file_and_offset(
    tmp_path: Path, behind: int
) -> None:
    session = long_life(tmp_path)
    path = segment_path(session, STEM, first_needed(session) + behind)
    spoil(path)
    with pytest.raises(JournalCorruptError) as caught:
        recover(places(tmp_path))
    assert (caught.value.path, caught.value.offset) == (path, SEGMENT_HEADER_BYTES)


def test_a_missing_segment_of_what_is_needed_is_refused_by_name(tmp_path: Path) -> None:
    session = long_life(tmp_path)
    path = segment_path(session, STEM, first_needed(session))
    path.unlink()
    with pytest.raises(JournalError, match=f"{path.name}: missing"):
        recover(places(tmp_path))


def test_a_torn_tail_is_cut_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    session = long_life(tmp_path, is_clean=False)
    last = list(read_ledger(session))[-1]
    path = segment_path(session, STEM, last.segment)
    spoil(path, last.offset + RECORD_HEADER_BYTES)
    found = recover(places(tmp_path))
    assert found.records == (KeysRecord(is_first=True, trades=[trade(1)]),)
    said = capsys.readouterr().err
    assert str(path) in said
    assert str(last.offset) in said


def test_a_checkpoint_without_its_keys_is_refused() -> None:
    """Its trades would be booked a second time."""
    record = checkpoint(b"state", 1, [])
    part = [_raw(record)]
    with pytest.raises(JournalError, match="without the keys"):
        recovered_from([part])


def test_the_largest_checkpoint_fits_a_segment() -> None:
    assert CHECKPOINT_BYTES_MAX <= SEGMENT_BYTES // 2


def _raw(record: LedgerRecord) -> Record:
    return Record(ledger_type(record), 0, 1, encode_ledger(record), 0, 0)


class Writer:
    """One life: books fills once, tells of them in checkpoints as the engine does, and may end
    after any record."""

    def __init__(self, data_dir: Path, second: int) -> None:
        begun = places(data_dir, second)
        found = recover(begun)
        self.booked = booked_by(found.records)
        self._next_sequence = found.next_sequence
        self._ledger = Ledger(begun.session, segment_bytes=SMALL_BYTES)
        self._fresh: list[SavedTrade] = []
        self._left: list[SavedTrade] = []
        self._has_keys = False

    def put(self, record: LedgerRecord) -> None:
        self._ledger.append(ledger_type(record), 0, 1, encode_ledger(record))

    def book(self, number: int) -> None:
        self.put(fill(number))
        self.booked.append(number)
        self._fresh.append(trade(number))

    def quote(self) -> None:
        self.put(quote(self._next_sequence))
        self._next_sequence += 1

    def write_keys(self) -> None:
        is_first = not self._left
        if is_first:
            self._left = [trade(number) for number in self.booked]
            self._fresh = []
        self.put(KeysRecord(is_first=is_first, trades=self._left[:3]))
        del self._left[:3]
        self._has_keys = True

    def save(self) -> None:
        if self._has_keys and not self._left:
            state = repr(sorted(self.booked)).encode()
            self.put(checkpoint(state, self._next_sequence, self._fresh))
            self._fresh = []

    def close(self) -> None:
        self._ledger.close()


def booked_by(records: Iterable[LedgerRecord]) -> list[int]:
    """The numbers of trades that a restart knows, each as often as it is told of it."""
    told = []
    for record in records:
        if isinstance(record, KeysRecord):
            told += [ts for _, ts, _ in record.trades]
        elif isinstance(record, FillRecord):
            told.append(record.fill.ts_venue_ns)
    return told


@settings(max_examples=200, deadline=None)
@given(
    acts=st.lists(
        st.sampled_from(["fill", "fill", "quotes", "keys", "keys", "save", "die", "close"]),
        max_size=100,
    )
)
def test_whatever_was_written_each_fill_is_known_once_and_as_if_read_from_the_beginning(
    tmp_path_factory: pytest.TempPathFactory, acts: list[str]
) -> None:
    data_dir = tmp_path_factory.mktemp("lives")
    numbers = itertools.count(1)
    seconds = itertools.count(1)
    writer = Writer(data_dir, next(seconds))
    booked: list[int] = []
    for act in [*acts, "die"]:
        if act == "fill":
            booked.append(next(numbers))
            writer.book(booked[-1])
        elif act == "quotes":
            for _ in range(12):
                writer.quote()
        elif act == "keys":
            writer.write_keys()
        elif act == "save":
            writer.save()
        else:
            if act == "close":
                writer.close()
            found = recover(places(data_dir, next(seconds)))
            assert sorted(booked_by(found.records)) == booked
            keys = [one for one in found.records if isinstance(one, KeysRecord)]
            assert found.checkpoint in (b"", repr(sorted(booked_by(keys))).encode())
            whole = [list(read_ledger(path)) for path in list_sessions(data_dir)]
            if any(whole):
                assert recovered_from(whole) == found
            writer = Writer(data_dir, next(seconds))
