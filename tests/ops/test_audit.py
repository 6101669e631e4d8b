"""The audit chain: what was written verifies, any tampering is named by line, and a writer never
goes on where lines may be missing."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_daemon.ops.audit import (
    GENESIS,
    AuditError,
    AuditLog,
    chain_files,
    tail,
    verify,
)


def filled(path: Path, count: int = 5, file_bytes_max: int = 1 << 20) -> Path:
    log = AuditLog(path, file_bytes_max)
    for number in range(count):
        log.append({"act": "kill", "number": number})
    log.close()
    return path


@contextmanager
def file_size_limited_to(size: int) -> Iterator[None]:
    """A disk that takes no more, for this process; Python ignores the signal that goes with it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_untouched_chain_verifies_over_restarts(tmp_path: Path) -> None:
    path = filled(tmp_path / "audit.jsonl", 3)
    filled(path, 2)
    verdict = verify(path)
    assert (verdict.is_whole, verdict.files, verdict.lines) == (True, 1, 5)
    assert verdict.describe() == "5 lines in 1 files follow each other"


def test_no_log_yet_is_a_whole_one(tmp_path: Path) -> None:
    assert verify(tmp_path / "audit.jsonl").is_whole


@pytest.mark.parametrize("line", [1, 3, 5])
def test_changed_line_is_named_with_what_was_expected(tmp_path: Path, line: int) -> None:
    path = filled(tmp_path / "audit.jsonl")
    lines = path.read_text().splitlines()
    was = json.loads(lines[line - 1])["hash"]
    lines[line - 1] = lines[line - 1].replace('"kill"', '"rest"')
    path.write_text("\n".join(lines) + "\n")
    verdict = verify(path)
    assert (verdict.broken_file, verdict.broken_line) == (str(path), line)
    assert verdict.lines == line - 1
    assert verdict.reason == "was changed after it was written"
    assert verdict.found == f"hash {was}"
    assert verdict.expected.startswith("hash ")


def test_removed_line_is_noticed_at_the_next_one(tmp_path: Path) -> None:
    path = filled(tmp_path / "audit.jsonl")
    lines = path.read_text().splitlines()
    before = json.loads(lines[1])["hash"]
    del lines[2]
    path.write_text("\n".join(lines) + "\n")
    verdict = verify(path)
    assert (verdict.broken_line, verdict.expected) == (3, f"prev {before}")


def test_a_line_with_a_field_twice_is_no_line_of_ours(tmp_path: Path) -> None:
    """A reader of the text would see the first, the chain the last."""
    path = filled(tmp_path / "audit.jsonl", 2)
    path.write_text(path.read_text().replace('{"act"', '{"act": "rest", "act"', 1))
    assert verify(path).broken_line == 1


@given(data=st.data())
def test_no_single_changed_byte_passes(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """But in the very last line end, where it is a torn line, which a reader sees too."""
    path = filled(tmp_path_factory.mktemp("audit") / "audit.jsonl", 3)
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 2))
    content[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    verdict = verify(path)
    assert not verdict.is_whole or verdict.torn_bytes


def test_torn_last_line_of_a_dead_writer_is_cut_and_said(tmp_path: Path) -> None:
    path = filled(tmp_path / "audit.jsonl", 2)
    path.write_text(path.read_text() + '{"act": "ki')
    assert (verify(path).is_whole, verify(path).torn_bytes) == (True, 11)
    filled(path, 1)
    assert verify(path).is_whole
    cut = tail(path, 10)[2]
    assert (cut["act"], cut["bytes"], cut["text"]) == ("audit_tail_cut", 11, '{"act": "ki')


def test_damage_in_the_middle_refuses_every_further_line_and_stays_as_it_is(tmp_path: Path) -> None:
    path = filled(tmp_path / "audit.jsonl", 3)
    damaged = path.read_text().replace('"number": 1', '"number": 9')
    path.write_text(damaged)
    log = AuditLog(path)
    assert f"{path}:2" in log.problem
    with pytest.raises(AuditError, match="damaged"):
        log.append({"act": "reset"})
    log.close()
    assert path.read_text() == damaged


def test_a_second_writer_is_noticed_before_the_next_line(tmp_path: Path) -> None:
    path = filled(tmp_path / "audit.jsonl", 1)
    log = AuditLog(path)
    with path.open("a") as file:
        file.write("{}\n")
    with pytest.raises(AuditError, match="this writer left"):
        log.append({"act": "kill"})
    log.close()
    assert verify(path).broken_line == 2


def test_full_disk_leaves_no_half_line_and_the_log_goes_on_when_there_is_room(
    tmp_path: Path,
) -> None:
    path = filled(tmp_path / "audit.jsonl", 2)
    log = AuditLog(path)
    size = path.stat().st_size
    with file_size_limited_to(size + 20), pytest.raises(AuditError, match="cannot write"):
        log.append({"act": "kill"})
    assert path.stat().st_size == size
    log.append({"act": "kill", "number": 2})
    log.close()
    assert (verify(path).is_whole, verify(path).lines) == (True, 3)


def test_full_file_is_put_aside_and_the_chain_runs_through_all(tmp_path: Path) -> None:
    path = filled(tmp_path / "audit.jsonl", 12, file_bytes_max=600)
    filled(path, 4, file_bytes_max=600)
    files = chain_files(path)
    assert len(files) > 3
    assert files[0].name == "audit-000001.jsonl"
    verdict = verify(path)
    assert (verdict.is_whole, verdict.files, verdict.lines) == (True, len(files), 16)
    assert json.loads(files[1].read_text().splitlines()[0])["prev"] != GENESIS
    assert [one["number"] for one in tail(path, 6)] == [10, 11, 0, 1, 2, 3]


def test_a_file_that_is_gone_from_the_middle_is_missed(tmp_path: Path) -> None:
    path = filled(tmp_path / "audit.jsonl", 20, file_bytes_max=600)
    chain_files(path)[1].unlink()
    verdict = verify(path)
    assert (verdict.reason, verdict.expected) == ("a file is missing", "audit-000002.jsonl")


def test_a_changed_old_file_is_named(tmp_path: Path) -> None:
    path = filled(tmp_path / "audit.jsonl", 12, file_bytes_max=600)
    old = chain_files(path)[0]
    old.write_text(old.read_text().replace('"number": 1', '"number": 7'))
    assert (verify(path).broken_file, verify(path).broken_line) == (str(old), 2)


def test_a_writer_that_died_between_two_files_chains_on(tmp_path: Path) -> None:
    path = filled(tmp_path / "audit.jsonl", 3)
    path.rename(path.with_name("audit-000001.jsonl"))
    filled(path, 2)
    assert (verify(path).is_whole, verify(path).lines) == (True, 5)


def test_what_is_not_a_number_is_null(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    log.append({"act": "kill", "equity_usd": float("nan")})
    log.close()
    assert tail(log.path, 1)[0]["equity_usd"] is None
    assert verify(log.path).is_whole
