"""The control API over real sockets: who may do what, what a kill does, what a reset needs."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer

from mm_daemon.domain.inputs import Input, OperatorReset, TraderKnob
from mm_daemon.domain.permission import PERMISSION_ALL
from mm_daemon.domain.views import StatusView
from mm_daemon.ipc.latch import LatchStore
from mm_daemon.ipc.layout import Layout
from mm_daemon.ipc.page import GENERATION_SEEN, Page
from mm_daemon.ops.api import ControlApi, Surroundings
from mm_daemon.ops.audit import AuditLog, verify
from mm_daemon.ops.auth import load_tokens
from mm_daemon.ops.trader_client import TraderClient
from mm_daemon.shell.ops_link import OpsLink

GOOD_REASON = "books checked by hand"
STATUS = StatusView(
    session="s",
    environment="prod",
    venue="deribit",
    ts_ns=1,
    uptime_s=1.0,
    state="running",
    reasons_not_quoting=(),
    generation=1,
    permission=("quote",),
    tasks=(),
    swept_generation=0,
    sessions={},
    is_reconciled=True,
    options_listed=2,
    options_two_sided=1,
    quotes_live=3,
    orders_live=0,
    unknown_orders=0,
    fills=0,
    net_delta_coin={"BTC": 0.5},
    equity_usd=float("nan"),
)


class Rig:
    """A daemon's surroundings with a trader that answers views and sees latches."""

    def __init__(self, tmp_path: Path) -> None:
        self.layout = Layout(runtime_dir=tmp_path / "r", state_dir=tmp_path / "s")
        self.layout.create()
        self.page = Page.create(self.layout.page)
        self.latch = LatchStore(self.layout.latch, self.page)
        self.latch.init(ts_ns=1)
        assert self.page.permission == PERMISSION_ALL
        self.status = STATUS
        self.fed: list[Input] = []
        self.gate_is_alive = True
        self.link = OpsLink(
            self.layout.trader_socket,
            view=self._view,
            feed=self.fed.append,
            drain=lambda reason: None,
            look_again=lambda: None,
        )
        self.tokens_path = tmp_path / "tokens.json"
        tokens = load_tokens(self.tokens_path)
        self.plain: dict[str, str] = json.loads((tmp_path / "tokens.json.new").read_text())
        self.trader = TraderClient(self.layout.trader_socket, lambda line: None)
        self.audit = AuditLog(self.layout.state_dir / "audit.jsonl")
        self.api = ControlApi(
            Surroundings(
                page=self.page,
                latch=self.latch,
                layout=self.layout,
                audit=self.audit,
                tokens=tokens,
                trader=self.trader,
                build={"version": "0"},
                is_open=False,
            )
        )
        self._stop = threading.Event()
        self._gate = threading.Thread(target=self._see, daemon=True)
        self._gate.start()

    def _view(self, name: str) -> bytes:
        return msgspec.msgpack.encode({"status": self.status}[name])

    def _see(self) -> None:
        """Stands for the gate: publishes the generation it sees, as the poll of the trader does."""
        while not self._stop.wait(0.001):
            if self.gate_is_alive:
                self.page.words[GENERATION_SEEN] = self.page.generation

    def header(self, role: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.plain[role]}"}

    def stop(self) -> None:
        self._stop.set()
        self._gate.join()


@asynccontextmanager
async def serving(tmp_path: Path) -> AsyncIterator[tuple[Rig, TestClient[Any, Any]]]:
    rig = Rig(tmp_path)
    await rig.link.start()
    connecting = asyncio.create_task(rig.trader.run())
    async with asyncio.timeout(5):
        while not rig.trader.is_connected:
            await asyncio.sleep(0)
    client = TestClient(TestServer(rig.api.application()))
    await client.start_server()
    try:
        yield rig, client
    finally:
        await client.close()
        connecting.cancel()
        await rig.link.close()
        rig.stop()


ACTS = {
    ("GET", "/v1/status"): (None, "view"),
    ("GET", "/v1/audit"): (None, "view"),
    ("POST", "/v1/kill"): ({}, "halt"),
    ("POST", "/v1/params"): ({"name": "width", "value": 1.5}, "trader"),
    ("POST", "/v1/reset"): ({"generation": 0, "reason": GOOD_REASON}, "risk"),
}
ROLES = ("view", "halt", "trader", "risk", "admin")


@pytest.mark.parametrize("role", ROLES)
async def test_each_role_reaches_exactly_its_acts(tmp_path: Path, role: str) -> None:
    async with serving(tmp_path) as (rig, client):
        for (method, path), (body, needed) in ACTS.items():
            if body is not None and path == "/v1/reset":
                body = {**body, "generation": rig.page.generation}
            response = await client.request(method, path, json=body, headers=rig.header(role))
            may = ROLES.index(role) >= ROLES.index(needed)
            assert (response.status == 200) == may, (path, response.status, await response.text())
            assert may or response.status == 403


@pytest.mark.parametrize("path", [path for _, path in ACTS])
async def test_no_token_and_a_wrong_token_are_401(tmp_path: Path, path: str) -> None:
    method = next(method for method, known in ACTS if known == path)
    async with serving(tmp_path) as (_, client):
        assert (await client.request(method, path)).status == 401
        wrong = {"Authorization": "Bearer wrong"}
        assert (await client.request(method, path, headers=wrong)).status == 401


async def test_kill_returns_after_the_gate_has_seen_it_and_is_durable(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, client):
        response = await client.post("/v1/kill", json={}, headers=rig.header("halt"))
        answer = await response.json()
        assert (response.status, answer["state"], answer["durable"]) == (200, "settling", True)
        assert rig.page.permission == 0
        assert rig.page.words[GENERATION_SEEN] == answer["generation"]
        assert LatchStore(rig.layout.latch, None).load().generation == answer["generation"]


async def test_kill_needs_no_body_and_survives_a_broken_one(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, client):
        for data in (b"", b"{", b"[1]"):
            response = await client.post("/v1/kill", data=data, headers=rig.header("halt"))
            assert response.status == 200
        assert rig.page.permission == 0


async def test_kill_says_when_no_gate_has_seen_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, client):
        rig.gate_is_alive = False
        response = await client.post("/v1/kill", json={}, headers=rig.header("halt"))
        assert (response.status, (await response.json())["state"]) == (503, "unseen")
        assert rig.page.permission == 0


async def test_unknown_level_is_refused_with_the_levels_there_are(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, client):
        body = {"level": "half"}
        response = await client.post("/v1/kill", json=body, headers=rig.header("halt"))
        assert response.status == 400
        assert "cancel_all" in (await response.json())["error"]
        assert rig.page.permission == PERMISSION_ALL


async def test_reset_lifts_the_operators_latch_and_tells_the_trader(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, client):
        await client.post("/v1/kill", json={}, headers=rig.header("halt"))
        body = {"generation": rig.page.generation, "reason": GOOD_REASON}
        response = await client.post("/v1/reset", json=body, headers=rig.header("risk"))
        assert response.status == 200
        assert rig.page.permission == PERMISSION_ALL
        assert OperatorReset(generation=rig.page.generation) in rig.fed


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"reason": GOOD_REASON}, 400),
        ({"generation": "1", "reason": GOOD_REASON}, 400),
        ({"generation": 2, "reason": "short"}, 400),
        ({"generation": 1, "reason": GOOD_REASON}, 409),
    ],
)
async def test_reset_that_misses_something_changes_nothing(
    tmp_path: Path, body: dict[str, Any], status: int
) -> None:
    async with serving(tmp_path) as (rig, client):
        await client.post("/v1/kill", json={}, headers=rig.header("halt"))
        response = await client.post("/v1/reset", json=body, headers=rig.header("risk"))
        assert response.status == status
        assert rig.page.permission == 0


async def test_reset_waits_for_a_clean_reconcile(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, client):
        await client.post("/v1/kill", json={}, headers=rig.header("halt"))
        rig.status = msgspec.structs.replace(STATUS, is_reconciled=False, unknown_orders=2)
        body = {"generation": rig.page.generation, "reason": GOOD_REASON}
        response = await client.post("/v1/reset", json=body, headers=rig.header("risk"))
        assert response.status == 409
        assert rig.page.permission == 0


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}]
)
async def test_browser_of_another_site_is_refused(tmp_path: Path, headers: dict[str, str]) -> None:
    async with serving(tmp_path) as (rig, client):
        sent = {**rig.header("admin"), **headers}
        assert (await client.post("/v1/kill", json={}, headers=sent)).status == 403
        assert rig.page.permission == PERMISSION_ALL


async def test_oversized_body_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, client):
        body = {"name": "x" * 70_000, "value": 1}
        response = await client.post("/v1/params", json=body, headers=rig.header("trader"))
        assert response.status == 413


async def test_knob_reaches_the_trader_with_its_actor(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, client):
        body = {"name": "width", "value": 1.5, "underlying": "BTC"}
        await client.post("/v1/params", json=body, headers=rig.header("trader"))
        assert rig.fed == [TraderKnob("width", "BTC", 0, "", 1.5, "trader")]


async def test_every_act_and_every_refusal_is_on_the_audit_chain(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, client):
        await client.post("/v1/kill", json={"reason": "drill"}, headers=rig.header("halt"))
        await client.post("/v1/reset", json={"generation": 1}, headers=rig.header("risk"))
        entries = [(entry["act"], entry["actor"]) for entry in rig.audit.tail(10)]
        assert entries == [("kill", "halt"), ("reset_refused", "risk")]
        assert verify(rig.audit.path).broken_line == 0


async def test_status_answers_without_a_trader_and_numbers_are_json(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, client):
        answer = await (await client.get("/v1/status", headers=rig.header("view"))).json()
        assert answer["equity_usd"] is None
        await rig.link.close()
        async with asyncio.timeout(5):
            while rig.trader.is_connected:
                await asyncio.sleep(0)
        response = await client.get("/v1/status", headers=rig.header("view"))
        assert "not running" in (await response.json())["trader_error"]
        assert (await client.get("/v1/quotes", headers=rig.header("view"))).status == 503


async def test_stream_sends_numbered_snapshots(tmp_path: Path) -> None:
    async with serving(tmp_path) as (rig, client):
        response = await client.get("/v1/stream", headers=rig.header("view"))
        assert await response.content.readline() == b"id: 0\n"
        line = await response.content.readline()
        assert json.loads(line.removeprefix(b"data: "))["status"]["session"] == "s"
