"""A page is at its receiver within seconds, whatever the receiver does meanwhile, and once."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client import CollectorRegistry, generate_latest

from mm_daemon.config import example_text, parse
from mm_daemon.domain.errors import ConfigError
from mm_daemon.domain.outputs import Log
from mm_daemon.domain.units import Ns
from mm_daemon.ops.logs import make_logger, write_line
from mm_daemon.ops.metrics import PagerCollector
from mm_daemon.ops.pager import QUEUE_MAX, RESOLVE_S, Pager, alert, tee
from mm_daemon.ops.trader_client import TraderClient
from mm_daemon.shell.ops_link import OpsLink

PROMISED_S = 5.0
LABELS = {"environment": "sim", "instance": "host-a"}


class Receiver:
    """Takes alerts over HTTP as an Alertmanager does; `status` is what it answers."""

    def __init__(self) -> None:
        self.status = 200
        self.asked = 0
        self.taken: list[dict[str, Any]] = []
        self.arrived = asyncio.Event()
        self.server = TestServer(self._application())

    def _application(self) -> web.Application:
        async def take(request: web.Request) -> web.Response:
            self.asked += 1
            if self.status == 200:
                self.taken += await request.json()
            self.arrived.set()
            return web.Response(status=self.status)

        app = web.Application()
        app.router.add_post("/api/v2/alerts", take)
        return app

    @property
    def url(self) -> str:
        return str(self.server.make_url("/api/v2/alerts"))

    async def until(self, count: int) -> None:
        async with asyncio.timeout(PROMISED_S):
            while len(self.taken) < count:
                self.arrived.clear()
                await self.arrived.wait()

    async def until_asked(self, count: int) -> None:
        async with asyncio.timeout(PROMISED_S):
            while self.asked < count:
                self.arrived.clear()
                await self.arrived.wait()


@asynccontextmanager
async def paging(retry_s: float = 0.01) -> AsyncIterator[tuple[Receiver, Pager]]:
    receiver = Receiver()
    await receiver.server.start_server()
    pager = Pager(receiver.url, LABELS, retry_s)
    running = asyncio.create_task(pager.run())
    try:
        yield receiver, pager
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await receiver.server.close()


def line(number: int = 0) -> dict[str, Any]:
    return {"event": "control_tripped", "level": "critical", "ts_ns": 10**18, "number": number}


async def test_from_the_decisions_line_to_the_receiver_within_the_promise_a_hundred_times(
    tmp_path: Path,
) -> None:
    """Over the real socket between trader and ops, the real logger and real HTTP."""
    async with paging() as (receiver, pager):
        log = make_logger("error", "ops", lambda _line: None, tee(pager.put))
        link = OpsLink(
            tmp_path / "s",
            view=lambda name: b"",
            feed=lambda one: None,
            drain=lambda reason: None,
            look_again=lambda: None,
        )
        await link.start()
        client = TraderClient(tmp_path / "s", lambda said: write_line(log, said))
        connecting = asyncio.create_task(client.run())
        async with asyncio.timeout(PROMISED_S):
            while not link._peers:
                await asyncio.sleep(0)
        slowest_s = 0.0
        for number in range(100):
            started_s = time.monotonic()
            fields: dict[str, str | int | float | bool] = {"control": f"C{number}", "page": True}
            link.log(Ns(10**18), Log("warning", "control_tripped", fields))
            link.log(Ns(10**18), Log("warning", "underlying_pulled", {"page": False}))
            await receiver.until(number + 1)
            slowest_s = max(slowest_s, time.monotonic() - started_s)
        async with asyncio.timeout(PROMISED_S):
            while pager.counts["sent"] < 100:
                await asyncio.sleep(0)
        connecting.cancel()
        await link.close()
    assert slowest_s < PROMISED_S
    texts = [one["annotations"]["summary"] for one in receiver.taken]
    assert [f'"C{number}"' in text for number, text in enumerate(texts)] == [True] * 100
    assert (pager.counts["failed"], pager.counts["dropped"]) == (0, 0)


def test_an_alert_has_what_alertmanager_wants_and_ends_by_itself() -> None:
    made = alert(line(7), LABELS)
    assert made["labels"] == {
        "alertname": "MmPage",
        "severity": "page",
        "event": "control_tripped",
        **LABELS,
    }
    assert made["annotations"]["summary"] == 'control_tripped: {"number": 7}'
    assert made["startsAt"] == "2001-09-09T01:46:40+00:00"
    assert made["endsAt"] == "2001-09-09T01:51:40+00:00"
    assert RESOLVE_S == 300.0


async def test_a_receiver_that_refuses_is_asked_again_and_nothing_is_lost_or_doubled() -> None:
    async with paging() as (receiver, pager):
        receiver.status = 503
        pager.put(line(1))
        pager.put(line(2))
        await receiver.until_asked(3)
        assert receiver.taken == []
        receiver.status = 200
        await receiver.until(2)
        pager.put(line(3))
        await receiver.until(3)
    numbers = [one["annotations"]["summary"][-2] for one in receiver.taken]
    assert numbers == ["1", "2", "3"]
    assert pager.counts["failed"] >= 3


async def test_a_storm_while_the_receiver_refuses_costs_the_oldest_pages() -> None:
    async with paging() as (receiver, pager):
        receiver.status = 503
        for number in range(QUEUE_MAX + 5):
            pager.put(line(number))
        await receiver.until_asked(2)
        receiver.status = 200
        await receiver.until(QUEUE_MAX)
    texts = [one["annotations"]["summary"] for one in receiver.taken]
    newest = range(5, QUEUE_MAX + 5)
    assert texts == [f'control_tripped: {{"number": {number}}}' for number in newest]


async def test_nobody_listening_is_said_with_what_it_cost() -> None:
    pager = Pager("http://127.0.0.1:1/", LABELS, 0.01)
    running = asyncio.create_task(pager.run())
    for number in range(QUEUE_MAX + 5):
        pager.put(line(number))
    registry = CollectorRegistry()
    registry.register(PagerCollector(pager.counts))
    async with asyncio.timeout(PROMISED_S):
        while not pager.counts["failed"]:
            await asyncio.sleep(0)
    running.cancel()
    text = generate_latest(registry).decode()
    assert 'mm_pages_pushed_total{outcome="dropped"} 5.0' in text
    assert 'mm_pages_pushed_total{outcome="sent"} 0.0' in text


async def test_only_critical_lines_are_pages_and_a_storm_of_one_event_is_paged_too() -> None:
    seen: list[Any] = []
    written: list[str] = []
    log = make_logger("debug", "ops", written.append, tee(seen.append))
    for level in (log.debug, log.info, log.warning, log.error):
        level("control_tripped")
    for _ in range(200):
        log.critical("sweep_unconfirmed", api_secret="x")
    assert len(seen) == 200
    assert {one["event"] for one in seen} == {"sweep_unconfirmed"}
    assert seen[0]["api_secret"] == "[redacted]"
    assert sum(json.loads(one)["event"] == "sweep_unconfirmed" for one in written) < 200


async def test_without_a_receiver_nothing_is_kept() -> None:
    pager = Pager("", LABELS)
    pager.put(line())
    await asyncio.sleep(0)
    assert not pager._waiting


@pytest.mark.parametrize(
    "url",
    ["alertmanager:9093", "ftp://x/", "https:///x", "http://user:pw@host/", "http://tok@host/"],
)
def test_a_receiver_that_cannot_be_one_is_refused_without_being_quoted(url: str) -> None:
    text = example_text().replace('page_url = ""', f'page_url = "{url}"')
    with pytest.raises(ConfigError, match=r"ops\.page_url") as refused:
        parse(text, "c.toml")
    assert url not in str(refused.value)
