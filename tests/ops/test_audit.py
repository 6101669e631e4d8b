"""The audit chain: what was written verifies, and any tampering is named by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from mm_daemon.ops.audit import AuditLog, verify


def filled(path: Path, count: int = 5) -> Path:
    log = AuditLog(path)
    for number in range(count):
        log.append({"act": "kill", "number": number})
    log.close()
    return path


def test_untouched_chain_verifies_over_restarts(tmp_path: Path) -> None:
    path = filled(tmp_path / "audit.jsonl", 3)
    filled(path, 2)
    verdict = verify(path)
    assert (verdict.lines, verdict.broken_line) == (5, 0)


@pytest.mark.parametrize("line", [1, 3, 5])
def test_changed_line_is_named(tmp_path: Path, line: int) -> None:
    path = filled(tmp_path / "audit.jsonl")
    lines = path.read_text().splitlines()
    lines[line - 1] = lines[line - 1].replace('"kill"', '"rest"')
    path.write_text("\n".join(lines) + "\n")
    verdict = verify(path)
    assert (verdict.broken_line, verdict.reason) == (line, "was changed after it was written")


def test_removed_line_is_noticed_at_the_next_one(tmp_path: Path) -> None:
    path = filled(tmp_path / "audit.jsonl")
    lines = path.read_text().splitlines()
    del lines[2]
    path.write_text("\n".join(lines) + "\n")
    assert verify(path).broken_line == 3


def test_torn_last_line_of_a_dead_writer_is_cut_and_the_chain_goes_on(tmp_path: Path) -> None:
    path = filled(tmp_path / "audit.jsonl", 2)
    path.write_text(path.read_text() + '{"act": "ki')
    filled(path, 1)
    assert (verify(path).lines, verify(path).broken_line) == (3, 0)
