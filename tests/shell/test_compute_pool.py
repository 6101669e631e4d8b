"""The compute process and its link: answers, errors, death and return, over a real process."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest

from mm_daemon.domain.inputs import FactorsAnswer, FitAnswer
from mm_daemon.domain.outputs import AskFactors, AskFit
from mm_daemon.shell.compute_pool import FACTORS, FIT, Answer, ComputeLink, serve_compute

CONTEXT = multiprocessing.get_context("spawn")


def double(request: bytes) -> bytes:
    return request + request


def fail(request: bytes) -> bytes:
    raise ValueError(f"cannot do {request!r}")


def serve(path: Path) -> None:
    serve_compute(path, {FIT: double, FACTORS: fail})


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "compute.sock"
    child = CONTEXT.Process(target=serve, args=(path,), daemon=True)
    child.start()
    yield path
    child.kill()
    child.join()


async def connect(path: Path) -> tuple[ComputeLink, asyncio.Queue[Answer], asyncio.Task[None]]:
    answers: asyncio.Queue[Answer] = asyncio.Queue()
    link = ComputeLink(path, answers.put_nowait)
    task = asyncio.create_task(link.run())
    while not link.is_connected:
        await asyncio.sleep(0.01)
    return link, answers, task


async def test_request_is_answered_by_another_process_under_its_id(process: Path) -> None:
    async with asyncio.timeout(20):
        link, answers, task = await connect(process)
        link.ask(AskFit(ask_id=7, underlying="BTC", request=b"ab"))
        answer = await answers.get()
        assert isinstance(answer, FitAnswer)
        assert (answer.ask_id, answer.underlying, answer.result, answer.error) == (
            7,
            "BTC",
            b"abab",
            "",
        )
        task.cancel()


async def test_failing_request_answers_with_its_error_and_the_process_goes_on(
    process: Path,
) -> None:
    async with asyncio.timeout(20):
        link, answers, task = await connect(process)
        link.ask(AskFactors(ask_id=1, underlying="BTC", request=b"x"))
        answer = await answers.get()
        assert isinstance(answer, FactorsAnswer)
        assert answer.error == "ValueError: cannot do b'x'"
        link.ask(AskFit(ask_id=2, underlying="BTC", request=b"c"))
        assert (await answers.get()).result == b"cc"
        task.cancel()


async def test_request_without_a_process_is_answered_at_once(tmp_path: Path) -> None:
    answers: asyncio.Queue[Answer] = asyncio.Queue()
    link = ComputeLink(tmp_path / "absent.sock", answers.put_nowait)
    link.ask(AskFit(ask_id=3, underlying="ETH", request=b""))
    assert answers.get_nowait().error == "the compute process is not connected"


async def test_death_of_the_process_answers_every_open_request(tmp_path: Path) -> None:
    async with asyncio.timeout(20):
        path = tmp_path / "compute.sock"
        child = CONTEXT.Process(target=serve, args=(path,), daemon=True)
        child.start()
        link, answers, task = await connect(path)
        child.kill()
        for ask_id in range(3):
            link.ask(AskFit(ask_id=ask_id, underlying="BTC", request=b"z" * 100_000))
        found = [await answers.get() for _ in range(3)]
        assert {answer.ask_id for answer in found} == {0, 1, 2}
        assert all(answer.error or answer.result for answer in found)
        child.join()
        task.cancel()
