"""The acting half of the control API: kill, knobs, and the way in to resets.

A kill is done before its body is looked at for niceties: latch first, everything else after, and
each of the rest by itself, so that no full disk, dead trader or defect in here can come between a
person and the latch. It answers when the trader's gate has published that it saw the generation, or
says that it has not. What widens, by contrast, is refused as soon as anything is not as it must be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from aiohttp import web

from mm_daemon.domain.inputs import TraderKnob
from mm_daemon.domain.knobs import why_refused
from mm_daemon.domain.permission import HARD_STOP, OPERATOR, PRESETS, Mask
from mm_daemon.ipc.page import GENERATION_SEEN, SWEPT_GENERATION, TRADER_PID
from mm_daemon.ipc.wake import wake
from mm_daemon.ops.adopt_desk import AdoptDesk
from mm_daemon.ops.answers import ACTOR, NOTE, Handler, json_response, who
from mm_daemon.ops.audit import AuditError
from mm_daemon.ops.auth import Actor
from mm_daemon.ops.bodies import (
    WHOLE_NAMES,
    AdoptBody,
    ApproveBody,
    KillOrder,
    ParamsBody,
    ResetBody,
    kill_order,
    read_body,
)
from mm_daemon.ops.idempotency import Answer, sha256_of
from mm_daemon.ops.latch_watch import level_of
from mm_daemon.ops.picture import picture
from mm_daemon.ops.refusal import RefusedError
from mm_daemon.ops.reset_desk import ResetDesk
from mm_daemon.ops.scribe import Scribe
from mm_daemon.ops.surroundings import Surroundings

SEEN_TIMEOUT_S: Final = 5.0
"""Longer than the guard needs to end a trader that hangs and to sweep in its place."""
SEEN_POLL_S: Final = 0.001
encode = msgspec.json.encode
KEY_HEADER: Final = "Idempotency-Key"
REPLAYED_HEADER: Final = "Idempotency-Replayed"
_NS_PER_S: Final = 1e9

Outcome = tuple[int, dict[str, Any]]


@dataclass(frozen=True)
class _Raised:
    """A kill as it stands on the page."""

    generation: int
    is_repeated: bool
    level_from: str


class Acting:
    """Handlers by route name."""

    def __init__(self, around: Surroundings, scribe: Scribe) -> None:
        self._around = around
        self._scribe = scribe
        self.resets = ResetDesk(around, scribe)
        self.adoptions = AdoptDesk(around, scribe)
        self._last_kill: tuple[str, str, str, int] | None = None
        """Person, level, scope and generation of the last kill by this process."""
        self._afterwards: set[asyncio.Task[None]] = set()
        self._latch_thread = ThreadPoolExecutor(1, "latch")
        """The kills' own: whatever else waits for a disk, no kill waits behind it."""

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "kill": self._kill,
            "reset": self._reset,
            "reset_approve": self._approve,
            "adopt": self._adopt,
            "adopt_approve": self._adopt_approve,
            "params": self._params,
        }

    async def close(self) -> None:
        """Waits for the lines that follow a kill."""
        await asyncio.gather(*self._afterwards, return_exceptions=True)
        self._latch_thread.shutdown(wait=False)

    # -- kill ----------------------------------------------------------------------------------

    async def _kill(self, request: web.Request) -> web.Response:
        around, actor = self._around, request[ACTOR]
        started_ns = around.mono_ns()
        order = await kill_order(request, around.page.scopes)
        raised = self._raise(actor, order)
        problems: list[str] = [order.fault]
        _attempt(problems, "wake", lambda: wake(around.layout.wake))
        dropped = (*self.resets.void(), *self.adoptions.void())
        steps = (
            self._step("durable", lambda: self._on_disk(around.latch.persist)),
            self._step("block", lambda: self._block_start(order)),
            self._step("audit", lambda: self._note_kill(actor, order, raised, dropped)),
            self._step("firm", lambda: self._tell_firm(actor, order)),
        )
        is_seen, *faults = await asyncio.gather(self._wait_seen(raised.generation), *steps)
        problems += faults
        self._later(self._after_kill(actor, raised))
        answer = {
            "generation": raised.generation,
            "level": order.level,
            "scope": order.scope_name,
            "covers": self._covers(order),
            "by": actor.name,
            "state": "settling" if is_seen else "unseen",
            "durable": not (faults[0] or faults[1]),
            "audited": not faults[2],
            "repeated": raised.is_repeated,
            "resets_dropped": list(dropped),
            "firm_problem": faults[3],
            "problem": "; ".join(problem for problem in problems if problem),
            "elapsed_ms": (around.mono_ns() - started_ns) / 1e6,
        }
        return json_response(answer, 200 if is_seen and answer["durable"] else 503)

    def _raise(self, actor: Actor, order: KillOrder) -> _Raised:
        """Narrows the page. The same person's same kill, where it still holds and nothing has
        changed the latch since, is the same kill: a reset that saw it knows of it."""
        around = self._around
        source = HARD_STOP if order.level == HARD_STOP else OPERATOR
        before = Mask(around.page.permission, around.page.tasks)
        mask = PRESETS[order.level]
        told = (actor.name, order.level, order.scope)
        generation = around.page.generation
        if self._last_kill == (*told, generation):
            around.watch.repeated(source, order.scope)
            self._later(self._sweep_again())
            return _Raised(generation, True, level_of(before))
        ts_ns = around.wall_ns()
        around.watch.expect_raise(source, order.scope, ts_ns)
        generation = around.latch.raise_page(
            source, mask, order.reason, ts_ns=ts_ns, scope=order.scope
        )
        around.watch.count(source, mask)
        self._last_kill = (*told, generation)
        return _Raised(generation, False, level_of(before))

    async def _block_start(self, order: KillOrder) -> None:
        """The guard sees the block, stops the daemon in order and starts none before it is gone."""
        if order.level == HARD_STOP:
            await self._on_disk(lambda: self._around.latch.block_start(order.reason))

    async def _on_disk(self, act: Callable[[], None]) -> None:
        """Who stops waiting does not take it back: it is done as soon as the disk lets it."""
        loop = asyncio.get_running_loop()
        await asyncio.shield(loop.run_in_executor(self._latch_thread, act))

    async def _note_kill(
        self, actor: Actor, order: KillOrder, raised: _Raised, dropped: tuple[str, ...]
    ) -> None:
        page = self._around.page
        fields = {
            **who(actor),
            "route": "/v1/kill",
            "scope": order.scope_name,
            "level": order.level,
            "level_from": raised.level_from,
            "level_to": level_of(Mask(page.permission, page.tasks)),
            "reason": order.reason,
            "generation": raised.generation,
            "repeated": raised.is_repeated,
            "resets_dropped": dropped,
        }
        await self._scribe.write_in_turn("kill", **fields)

    async def _tell_firm(self, actor: Actor, order: KillOrder) -> None:
        firm = self._around.firm
        if firm is None or order.scope_name != WHOLE_NAMES[0] or order.level == HARD_STOP:
            return
        problem = await firm.tell(level=order.level, reason=order.reason, by=actor.name)
        if problem:
            raise OSError(problem)

    def _covers(self, order: KillOrder) -> str:
        if order.scope:
            return f"{order.scope} alone"
        if self._around.firm is None:
            return "this daemon, which is all of firm, venue and account: the three are one here"
        if order.scope_name == WHOLE_NAMES[0] and order.level != HARD_STOP:
            return "every instance of the firm that shares this one's store"
        return "this daemon alone: its venue and its account"

    async def _after_kill(self, actor: Actor, raised: _Raised) -> None:
        """What was held when it came: nothing may wait for the trader to say it."""
        held = await picture(self._around.trader)
        fields = {"actor": actor.name, "generation": raised.generation, **held}
        await self._scribe.write_soon("kill_picture", **fields)

    async def _sweep_again(self) -> None:
        await self._step("sweep", self._around.trader.sweep_again)

    async def _step(self, what: str, act: Callable[[], Awaitable[object]]) -> str:
        """One thing a kill does beside the latch; its failure is said and stops no other."""
        try:
            async with asyncio.timeout(self._around.kill_step_timeout_s):
                await act()
        except Exception as error:  # noqa: BLE001 - no defect of ours may stand before a kill
            return f"{what}: {error!r}"
        return ""

    async def _wait_seen(self, generation: int) -> bool:
        """Until the gate published that it saw the generation, or no trader lives and the venue was
        swept since."""
        words = self._around.page.words
        deadline_ns = self._around.mono_ns() + int(SEEN_TIMEOUT_S * _NS_PER_S)
        while words[GENERATION_SEEN] < generation:
            if not words[TRADER_PID] and words[SWEPT_GENERATION] >= generation:
                return True
            if self._around.mono_ns() > deadline_ns:
                return False
            await asyncio.sleep(SEEN_POLL_S)
        return True

    def _later(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._afterwards.add(task)
        task.add_done_callback(self._afterwards.discard)

    # -- what widens, or may -------------------------------------------------------------------

    async def _reset(self, request: web.Request) -> web.Response:
        body, raw = await read_body(request, ResetBody, self._around.body_timeout_s)
        request[NOTE].fields.update(msgspec.to_builtins(body))
        return await self._keyed(request, raw, lambda: self.resets.request(request[ACTOR], body))

    async def _approve(self, request: web.Request) -> web.Response:
        body, raw = await read_body(request, ApproveBody, self._around.body_timeout_s)
        request[NOTE].fields.update(msgspec.to_builtins(body))
        return await self._keyed(request, raw, lambda: self.resets.approve(request[ACTOR], body))

    async def _adopt(self, request: web.Request) -> web.Response:
        body, raw = await read_body(request, AdoptBody, self._around.body_timeout_s)
        request[NOTE].fields.update(msgspec.to_builtins(body))
        return await self._keyed(request, raw, lambda: self.adoptions.request(request[ACTOR], body))

    async def _adopt_approve(self, request: web.Request) -> web.Response:
        body, raw = await read_body(request, ApproveBody, self._around.body_timeout_s)
        request[NOTE].fields.update(msgspec.to_builtins(body))
        return await self._keyed(request, raw, lambda: self.adoptions.approve(request[ACTOR], body))

    async def _params(self, request: web.Request) -> web.Response:
        body, raw = await read_body(request, ParamsBody, self._around.body_timeout_s)
        request[NOTE].fields.update(msgspec.to_builtins(body))
        return await self._keyed(request, raw, lambda: self._turn(request[ACTOR], body))

    async def _turn(self, actor: Actor, body: ParamsBody) -> Outcome:
        why = why_refused(body.name, body.value, body.unit)
        if why:
            raise RefusedError("bad_knob", why)
        knob = TraderKnob(
            name=body.name,
            underlying=body.underlying,
            expiry_ns=body.expiry_ns,
            instrument=body.instrument,
            value=body.value,
            actor=actor.name,
        )
        if not self._around.trader.is_connected:
            raise RefusedError("trader_away", "the trader is not running")
        fields = {**who(actor), **msgspec.to_builtins(body)}
        try:
            await self._scribe.write_in_turn("params", **fields)
        except AuditError as error:
            raise RefusedError("audit_unwritable", str(error)) from error
        await self._around.trader.knob(knob)
        return 200, {"accepted": True}

    async def _keyed(
        self, request: web.Request, raw: bytes, act: Callable[[], Awaitable[Outcome]]
    ) -> web.Response:
        """Carries the act out, once for each Idempotency-Key."""
        key = request.headers.get(KEY_HEADER)
        if key is None:
            status, answer = await act()
            return json_response(answer, status)
        answers, person = self._around.answers, request[ACTOR].name
        now_s = self._around.wall_ns() / _NS_PER_S
        asked = f"{request.method} {request.path}\n".encode() + raw
        known = answers.begin(person, key, asked, now_s)
        if known is not None:
            return await self._again(request, key, known)
        refused: RefusedError | None = None
        try:
            try:
                status, answer = await act()
            except RefusedError as error:
                if error.status >= 500 or error.status == 429:
                    raise
                refused, status, answer = error, error.status, error.body()
            given = Answer(person, key, sha256_of(asked), status, encode(answer), now_s)
            await asyncio.to_thread(answers.finish, given)
        finally:
            answers.drop(person, key)
        if refused is not None:
            raise refused
        return json_response(answer, status)

    async def _again(self, request: web.Request, key: str, known: Answer) -> web.Response:
        fields = {"route": request.path, "key": key, "status": known.status}
        await self._scribe.write_soon("replayed", **who(request[ACTOR]), **fields)
        return web.Response(
            body=known.body,
            status=known.status,
            content_type="application/json",
            headers={REPLAYED_HEADER: "true"},
        )


def _attempt(problems: list[str], what: str, act: Callable[[], object]) -> None:
    try:
        act()
    except Exception as error:  # noqa: BLE001 - no defect of ours may stand before a kill
        problems.append(f"{what}: {error!r}")
