"""Session directories and what they say about their machine."""

from pathlib import Path

import pytest

from mm_daemon.ipc.ledger import Ledger
from mm_daemon.ipc.segments import JournalError
from mm_daemon.ipc.session import (
    create_session,
    drop_unbegun,
    header_mismatches,
    list_sessions,
    machine_facts,
    previous_session,
    read_header,
    write_header,
)

START_NS = 1_795_219_200_123_456_789  # 2026-11-21 00:00:00.123456789 UTC


def test_session_is_named_by_its_start_and_private(tmp_path: Path) -> None:
    session = create_session(tmp_path, START_NS)
    assert session == tmp_path / "sessions" / "20261121T000000.123456Z"
    assert session.stat().st_mode & 0o777 == 0o700
    assert session.parent.stat().st_mode & 0o777 == 0o700


def test_sessions_list_in_order_of_start(tmp_path: Path) -> None:
    assert list_sessions(tmp_path) == []
    made = [create_session(tmp_path, START_NS + i * 10**9) for i in (2, 0, 1)]
    assert list_sessions(tmp_path) == [made[1], made[2], made[0]]


def test_previous_session_is_the_newest_earlier_one_with_a_ledger(tmp_path: Path) -> None:
    first, second, third = (create_session(tmp_path, START_NS + i * 10**9) for i in range(3))
    assert previous_session(tmp_path, third) is None
    Ledger(first).close()
    assert previous_session(tmp_path, third) == first
    Ledger(third).close()
    assert previous_session(tmp_path, third) == first
    assert previous_session(tmp_path, second) == first


def test_header_round_trips_and_tells_what_differs(tmp_path: Path) -> None:
    session = create_session(tmp_path, START_NS)
    lock = tmp_path / "requirements.lock"
    lock.write_text("a==1\n")
    facts = machine_facts(lock)
    write_header(session, facts)
    assert read_header(session) == facts
    assert header_mismatches(facts, machine_facts(lock)) == []
    lock.write_text("a==2\n")
    other = {**machine_facts(lock), "cpu_features": ["planted"], "libc": "glibc 1.0"}
    found = header_mismatches(facts, other)
    assert [line.split(":")[0] for line in found] == ["lock_sha256", "libc", "cpu_features"]
    assert "only here ['planted']" in found[2]


def test_disk_that_takes_no_header_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    session = create_session(tmp_path, START_NS)
    (session / "header.json").mkdir()  # what no file can replace
    with pytest.raises(JournalError, match=r"header\.json: cannot begin a session: Is a dir"):
        write_header(session, machine_facts(None), "[daemon]\n")
    (session / "header.json").rmdir()
    assert [path.name for path in session.iterdir()] == ["config.toml"]
    drop_unbegun(session)
    assert not session.exists()
    drop_unbegun(session)


def test_session_that_began_is_never_dropped(tmp_path: Path) -> None:
    session = create_session(tmp_path, START_NS)
    Ledger(session).close()
    drop_unbegun(session)
    assert session.exists()


@pytest.mark.parametrize("text", ["", "[1]", "{"])
def test_unreadable_header_is_named(tmp_path: Path, text: str) -> None:
    session = create_session(tmp_path, START_NS)
    (session / "header.json").write_text(text)
    with pytest.raises(ValueError, match=r"header\.json"):
        read_header(session)
