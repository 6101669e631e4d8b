"""A log's reader that stops reading holds up nobody, and learns what it missed."""

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from mm_daemon.ipc.line_pipe import LinePipe

PATIENCE_S = 10.0


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)


def fill(writer: int) -> int:
    """Write until the pipe takes nothing more; how many bytes it took."""
    os.set_blocking(writer, False)
    taken = 0
    with suppress(BlockingIOError):
        while True:
            taken += os.write(writer, b"\n" * 4096)
    os.set_blocking(writer, True)
    return taken


def read_until(reader: int, last: bytes) -> list[str]:
    found = b""
    while not found.endswith(last):
        found += os.read(reader, 1 << 16)
    return [line for line in found.decode().splitlines() if line]


def test_lines_arrive_whole_and_in_order(ends: tuple[int, int]) -> None:
    reader, writer = ends
    pipe = LinePipe(writer, "test")
    for number in range(100):
        pipe.put(f"line {number}")
    assert read_until(reader, b"line 99\n") == [f"line {number}" for number in range(100)]
    pipe.close()


def test_full_pipe_holds_up_no_writer_and_what_was_dropped_is_said(ends: tuple[int, int]) -> None:
    reader, writer = ends
    fill(writer)
    pipe = LinePipe(writer, "test", lines_max=10)
    began_s = time.monotonic()
    for number in range(1000):
        pipe.put(f"line {number}")
    assert time.monotonic() - began_s < 1.0
    answered: list[list[str]] = []
    listener = threading.Thread(target=lambda: answered.append(read_until(reader, b"later\n")))
    listener.start()
    deadline_s = time.monotonic() + PATIENCE_S
    while pipe.waiting:
        assert time.monotonic() < deadline_s
        time.sleep(0.001)
    pipe.put("later")
    listener.join(PATIENCE_S)
    (lines,) = answered
    kept = [line for line in lines if line.startswith("line ")]
    assert kept == [f"line {number}" for number in range(len(kept))], "the first are kept"
    assert 10 <= len(kept) <= 11, "one may be in the thread's hand"
    gap = json.loads(lines[len(kept)])
    assert (gap["event"], gap["process"]) == ("log_lines_dropped", "test")
    assert gap["count"] == 1000 - len(kept)
    assert lines[-1] == "later"
    pipe.close()


def test_close_writes_what_is_left_and_waits_for_a_reader_no_longer_than_told(
    ends: tuple[int, int],
) -> None:
    reader, writer = ends
    pipe = LinePipe(writer, "test")
    pipe.put("last words")
    pipe.close()
    assert os.read(reader, 100) == b"last words\n"
    fill(writer)
    stuck = LinePipe(writer, "test")
    stuck.put("unheard")
    began_s = time.monotonic()
    stuck.close(0.1)
    assert 0.1 <= time.monotonic() - began_s < 2.0


def test_reader_that_is_gone_ends_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    pipe = LinePipe(writer, "test")
    pipe.put("into nothing")
    pipe.put("into nothing")
    pipe.close()
    assert pipe.waiting == 0
    os.close(writer)
