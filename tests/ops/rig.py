"""A daemon's surroundings for the control API: real page, latch, log and sockets; the trader's end
of its socket is the real one too, over a status that the test sets."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from mm_daemon.domain.inputs import AdoptVenue, Input
from mm_daemon.domain.permission import PERMISSION_ALL
from mm_daemon.domain.views import (
    AdoptionView,
    GreeksView,
    PositionDifference,
    ResetTerms,
    StatusView,
    UnderlyingGreeks,
)
from mm_daemon.ipc.latch import LatchStore
from mm_daemon.ipc.layout import Layout
from mm_daemon.ipc.page import GENERATION_SEEN, Page
from mm_daemon.ops.api import ControlApi
from mm_daemon.ops.audit import AuditLog, tail
from mm_daemon.ops.idempotency import AnswerStore
from mm_daemon.ops.latch_watch import LatchWatch
from mm_daemon.ops.logs import make_logger
from mm_daemon.ops.refusal import MEANINGS
from mm_daemon.ops.routes import BY_PLACE
from mm_daemon.ops.scribe import Scribe
from mm_daemon.ops.service import console_handlers
from mm_daemon.ops.surroundings import Identity, ResetRules, Surroundings
from mm_daemon.ops.token_file import TokenFile
from mm_daemon.ops.token_notes import follow_tokens
from mm_daemon.ops.trader_client import TraderClient
from mm_daemon.shell.ops_link import OpsLink

NS_PER_S = 1_000_000_000
GOOD_REASON = "books checked by hand"
ROLES = ("view", "halt", "trader", "risk", "admin")
IDENTITY = Identity({"version": "0"}, "c0ffee")
CLEAN = ResetTerms(reconcile_age_s=1.0, parked_fills=0, is_informed=True, controls_holding=())
NOTHING_DIFFERS = AdoptionView(
    difference_id="",
    differences=(),
    standing_s=0.0,
    why_not="no position differs from the venue's",
    wanted_by="",
    ended=0,
    outcome="",
    lots_standing=0,
)
DIFFERENCE = msgspec.structs.replace(
    NOTHING_DIFFERS,
    difference_id="d1ff",
    differences=(PositionDifference("BTC-PERPETUAL", 0.0, 70.0),),
    standing_s=31.0,
    why_not="",
)
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
    reset=CLEAN,
    adoption=NOTHING_DIFFERS,
)
GREEKS = GreeksView(
    underlyings={
        "BTC": UnderlyingGreeks(
            delta_coin=0.5,
            delta_black_coin=0.5,
            delta_band_coin=1.0,
            gamma_usd=2.0,
            vega_usd=3.0,
            theta_usd_day=-4.0,
            expiries=(),
            limit_use={},
        )
    }
)


class Rig:
    """One daemon as ops sees it. Time stands still until a test moves it."""

    def __init__(
        self, tmp_path: Path, rules: ResetRules, sync: Callable[[int], None] = os.fsync
    ) -> None:
        self.layout = Layout(runtime_dir=tmp_path / "r", state_dir=tmp_path / "s")
        self.layout.create()
        self.page = Page.create(self.layout.page, scopes=("BTC", "ETH"))
        self.latch = LatchStore(self.layout.latch, self.page)
        self.latch.init(ts_ns=1)
        assert self.page.permission == PERMISSION_ALL
        self.status = STATUS
        self.trader_identity = IDENTITY
        self.fed: list[Input] = []
        self.adoption_outcome = ""
        """What the decision makes of a wish to adopt; empty = it does not say."""
        self.looks_again = 0
        self.gate_is_alive = True
        self.wall_ns = 1_700_000_000 * NS_PER_S
        self.mono_ns = 1_000 * NS_PER_S
        self.link = OpsLink(
            self.layout.trader_socket,
            view=self._view,
            feed=self._feed,
            drain=lambda reason: None,
            look_again=self._look_again,
        )
        self.tokens_path = tmp_path / "tokens.json"
        tokens = TokenFile(self.tokens_path)
        self.plain: dict[str, str] = json.loads((tmp_path / "tokens.json.new").read_text())
        self.trader = TraderClient(self.layout.trader_socket, lambda line: None)
        self.audit = AuditLog(self.layout.state_dir / "audit.jsonl", sync=sync)
        self.scribe = Scribe(
            self.audit,
            build=IDENTITY.build,
            config_sha256=IDENTITY.config_sha256,
            wall_ns=lambda: self.wall_ns,
            mono_ns=lambda: self.mono_ns,
        )
        self.watch = LatchWatch(
            self.page,
            self.latch,
            self.scribe,
            wall_ns=lambda: self.wall_ns,
            mono_ns=lambda: self.mono_ns,
        )
        self.watch.begin()
        follow_tokens(tokens, self.scribe, make_logger("critical", "ops", lambda _line: None))
        self.around = Surroundings(
            page=self.page,
            latch=self.latch,
            layout=self.layout,
            audit=self.audit,
            watch=self.watch,
            tokens=tokens,
            answers=AnswerStore(self.layout.state_dir / "answers.jsonl", self.wall_ns / 1e9),
            trader=self.trader,
            identity=IDENTITY,
            trader_identity=lambda: self.trader_identity,
            rules=rules,
            is_open=False,
            body_timeout_s=0.05,
            wall_ns=lambda: self.wall_ns,
            mono_ns=lambda: self.mono_ns,
        )
        self.api = ControlApi(self.around, self.scribe)
        self._stop = threading.Event()
        self._gate = threading.Thread(target=self._see, daemon=True)
        self._gate.start()

    def _view(self, name: str) -> bytes:
        return msgspec.msgpack.encode({"status": self.status, "greeks": GREEKS}[name])

    def _feed(self, one: Input) -> None:
        self.fed.append(one)
        if isinstance(one, AdoptVenue) and self.adoption_outcome:
            view = self.status.adoption
            assert view is not None
            self.set_adoption(view, ended=view.ended + 1, outcome=self.adoption_outcome)

    def set_adoption(self, view: AdoptionView, **changes: Any) -> None:
        """What the trader says of adoptions."""
        adoption = msgspec.structs.replace(view, **changes)
        self.status = msgspec.structs.replace(self.status, adoption=adoption)

    def _look_again(self) -> None:
        self.looks_again += 1

    def _see(self) -> None:
        """Stands for the gate: publishes the generation it sees, as the poll of the trader does."""
        while not self._stop.wait(0.001):
            if self.gate_is_alive:
                self.page.words[GENERATION_SEEN] = self.page.generation

    def pass_time(self, seconds: float) -> None:
        self.wall_ns += int(seconds * NS_PER_S)
        self.mono_ns += int(seconds * NS_PER_S)

    def set_terms(self, **changes: Any) -> None:
        """What the trader says of a reset."""
        terms = msgspec.structs.replace(CLEAN, **changes)
        self.status = msgspec.structs.replace(STATUS, reset=terms)

    def header(self, role: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.plain[role]}"}

    def lines(self, *acts: str) -> list[dict[str, Any]]:
        """Audit lines, of these acts or all."""
        return [one for one in tail(self.audit.path, 1000) if not acts or one["act"] in acts]

    def stop(self) -> None:
        self._stop.set()
        self._gate.join()


class Door:
    """The API from outside. Every answer must be one that the table of routes has."""

    def __init__(self, rig: Rig, client: TestClient[Any, Any]) -> None:
        self.rig = rig
        self.client = client

    async def ask(
        self, method: str, path: str, *, role: str | None = None, **more: Any
    ) -> tuple[int, Any]:
        headers = {**(self.rig.header(role) if role else {}), **more.pop("headers", {})}
        response = await self.client.request(method, path, headers=headers, **more)
        answer = await response.json()
        _require_documented(method, path, response, answer)
        return response.status, answer

    async def get(self, path: str, role: str | None = "view") -> tuple[int, Any]:
        return await self.ask("GET", path, role=role)

    async def post(
        self, path: str, body: Any = None, role: str | None = "admin", **more: Any
    ) -> tuple[int, Any]:
        return await self.ask("POST", path, role=role, json=body, **more)

    async def kill(self, role: str = "halt", **body: Any) -> int:
        status, answer = await self.post("/v1/kill", body, role)
        assert status == 200, answer
        return int(answer["generation"])

    async def reset(self, role: str = "risk", **body: Any) -> tuple[int, Any]:
        """At the present generation with a good reason, where the body says nothing else."""
        whole = {"generation": self.rig.page.generation, "reason": GOOD_REASON, **body}
        return await self.post("/v1/reset", whole, role)

    async def approve(self, request_id: str, role: str = "admin") -> tuple[int, Any]:
        return await self.post("/v1/reset/approve", {"request_id": request_id}, role)


def _require_documented(method: str, path: str, response: ClientResponse, answer: Any) -> None:
    route = BY_PLACE.get((method, path))
    if route is None:
        return
    if "code" not in answer:
        assert response.status in route.answers, (path, response.status, answer)
        return
    assert answer["code"] in route.all_codes, (path, answer)
    assert response.status == MEANINGS[answer["code"]][0]


@asynccontextmanager
async def serving(
    tmp_path: Path,
    *,
    persons: int = 1,
    cooldown_s: float = 0.0,
    is_open: bool = False,
    sync: Callable[[int], None] = os.fsync,
) -> AsyncIterator[tuple[Rig, Door]]:
    rules = ResetRules(persons=persons, cooldown_s=cooldown_s, clean_age_s=30.0)
    rig = Rig(tmp_path, rules, sync)
    rig.around.is_open = is_open
    await rig.link.start()
    connecting = asyncio.create_task(rig.trader.run())
    async with asyncio.timeout(5):
        while not rig.trader.is_connected:
            await asyncio.sleep(0)
    client = TestClient(TestServer(rig.api.application(console_handlers())))
    await client.start_server()
    try:
        yield rig, Door(rig, client)
    finally:
        await client.close()
        connecting.cancel()
        await rig.link.close()
        rig.stop()


async def lose_trader(rig: Rig) -> None:
    await rig.trader.view("status")
    await rig.link.close()
    async with asyncio.timeout(5):
        while rig.trader.is_connected:
            await asyncio.sleep(0)


def with_token(rig: Rig, name: str, role: str, **more: Any) -> str:
    """Another token in the file; its plain text."""
    plain = f"token of {name} {role} {sorted(more)}"
    content = json.loads(rig.tokens_path.read_text())
    digest = hashlib.sha256(plain.encode()).hexdigest()
    content["tokens"].append({"name": name, "role": role, "sha256": digest, **more})
    rig.tokens_path.write_text(json.dumps(content))
    return plain
