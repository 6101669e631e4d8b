"""What a life begins with: the newest checkpoint of any earlier one, and every record since."""

from __future__ import annotations

from pathlib import Path

from mm_daemon.domain.codec import encode_ledger
from mm_daemon.domain.orders import Lots, Purpose
from mm_daemon.domain.outputs import CheckpointRecord, IntentRecord, LedgerRecord
from mm_daemon.domain.units import Ns, Side
from mm_daemon.ipc.layout import Layout
from mm_daemon.ipc.ledger import Ledger
from mm_daemon.ipc.session import create_session
from mm_daemon.run.live import NOTHING_RECOVERED, SEQUENCES_SKIPPED, recover
from mm_daemon.run.places import ChildPlaces

SECOND_NS = 1_000_000_000


def life(data_dir: Path, second: int, *records: LedgerRecord) -> Path:
    """A session with a ledger that holds these records."""
    session = create_session(data_dir, second * SECOND_NS)
    ledger = Ledger(session)
    for ts_ns, record in enumerate(records, start=1):
        ledger.append(1, 0, ts_ns, encode_ledger(record))
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


def checkpoint(state: bytes, next_sequence: int) -> CheckpointRecord:
    return CheckpointRecord(next_sequence=next_sequence, trades_since_venue_ns={}, state=state)


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
