"""Resets: asked for by one person, approved by another, carried out in an order that is safe.

A request waits ten minutes in memory; a kill, a change of the latch or a restart of this process
ends it. It is carried out like this: the line on the audit log, then the trader is told to come
back small, then the latch, durable before it widens, then the trader again, which now lifts what
its controls held for a person. Whatever fails before the latch leaves it as it was.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from mm_daemon.domain.permission import (
    FIRM,
    WHOLE,
    LatchRefused,
    LatchState,
    permission_names,
)
from mm_daemon.ipc.wake import wake
from mm_daemon.ops.audit import AuditError
from mm_daemon.ops.auth import Actor
from mm_daemon.ops.bodies import ApproveBody, ResetBody, scope_of
from mm_daemon.ops.latch_watch import level_of, shown
from mm_daemon.ops.picture import picture
from mm_daemon.ops.refusal import RefusedError
from mm_daemon.ops.reset_terms import (
    Lift,
    check_same_build,
    check_terms,
    clearer,
    persons_needed,
    what_lifts,
)
from mm_daemon.ops.scribe import Scribe
from mm_daemon.ops.surroundings import Surroundings
from mm_daemon.ops.trader_client import TraderAwayError
from mm_daemon.ops.two_people import EXPIRES_S, Pace, Waiting, Words, people_fields


@dataclass(frozen=True)
class _Wanted:
    """What was asked for."""

    generation: int
    scope: str | None


class ResetDesk:
    """The resets of one daemon; one is judged at a time."""

    def __init__(self, around: Surroundings, scribe: Scribe) -> None:
        self._around = around
        self._scribe = scribe
        words = Words("reset", "unknown_reset", "expired_reset")
        self._waiting: Waiting[_Wanted] = Waiting(words, around.mono_ns, around.tokens.knows)
        self._pace = Pace("many_resets", around.mono_ns)
        self._judging = asyncio.Lock()

    async def request(self, actor: Actor, body: ResetBody) -> tuple[int, dict[str, Any]]:
        """Carries it out where one person suffices, else keeps it for the second. Raises
        RefusedError, and nothing has changed."""
        self._pace.require(actor)
        scope = scope_of(body.scope, self._around.page.scopes) if body.scope else None
        async with self._judging:
            lift, status = await self._judge(body.generation, scope)
            if persons_needed(lift, self._around.rules) == 1:
                return 200, await self._carry_out(lift, status, [actor], [body.reason])
            return 202, await self._keep(actor, body, lift)

    async def approve(self, actor: Actor, body: ApproveBody) -> tuple[int, dict[str, Any]]:
        """The second person's word. Raises RefusedError, and nothing has changed."""
        self._pace.require(actor)
        async with self._judging:
            pending = self._waiting.find(body.request_id, actor)
            try:
                lift, status = await self._judge(pending.what.generation, pending.what.scope)
            except RefusedError as error:
                if error.code in ("stale_generation", "not_latched"):
                    self._waiting.drop(pending.request_id)
                raise
            people, reasons = [pending.by, actor], [pending.reason, body.reason]
            answer = await self._carry_out(lift, status, people, reasons)
            self._waiting.drop(pending.request_id)
            return 200, answer

    def void(self) -> tuple[str, ...]:
        """A kill came: what waited had not seen it. Returns the ids that are gone."""
        return self._waiting.void()

    def waiting(self) -> list[dict[str, Any]]:
        """For status: what waits for its second person."""
        now_ns = self._around.mono_ns()
        return [
            {
                "request_id": one.request_id,
                "by": one.by.name,
                "reason": one.reason,
                "generation": one.what.generation,
                "scope": one.what.scope if one.what.scope is not None else "all",
                "expires_in_s": one.expires_in_s(now_ns),
            }
            for one in self._waiting.alive()
        ]

    # -- judging -------------------------------------------------------------------------------

    async def _judge(self, generation: int, scope: str | None) -> tuple[Lift, dict[str, Any]]:
        around = self._around
        await asyncio.to_thread(around.watch.look)
        has_store = around.firm is not None
        lift = what_lifts(around.latch.state(), generation, scope, has_store=has_store)
        try:
            status = await around.trader.view("status")
        except TraderAwayError as error:
            raise RefusedError("trader_away", str(error)) from error
        check_terms(lift, status, around.rules, around.watch.age_s)
        await asyncio.to_thread(check_same_build, around.identity, around.trader_identity)
        return lift, status

    async def _keep(self, actor: Actor, body: ResetBody, lift: Lift) -> dict[str, Any]:
        pending = self._waiting.draft(actor, body.reason, _Wanted(lift.generation, lift.scope))
        await self._must_write(
            "reset_requested",
            **people_fields([actor], [body.reason]),
            **_change(lift),
            request_id=pending.request_id,
        )
        self._waiting.keep(pending)
        return {
            "request_id": pending.request_id,
            "expires_in_s": EXPIRES_S,
            "generation": lift.generation,
            "by": actor.name,
            "state": "waits for a second person; a restart of ops or another kill drops it",
        }

    # -- acting --------------------------------------------------------------------------------

    async def _carry_out(
        self, lift: Lift, status: dict[str, Any], people: list[Actor], reasons: list[str]
    ) -> dict[str, Any]:
        around = self._around
        scope = lift.scope or WHOLE
        await self._must_write(
            "reset",
            **people_fields(people, reasons),
            **_change(lift),
            **await picture(around.trader, status),
        )
        try:
            await around.trader.notify_reset(lift.after.generation, scope, is_ahead=True)
            result = await asyncio.to_thread(self._lift, lift)
        except (TraderAwayError, OSError) as error:
            code = "trader_away" if isinstance(error, TraderAwayError) else "latch_unwritable"
            await self._failed(lift, str(error))
            raise RefusedError(code, str(error)) from error
        if isinstance(result, LatchRefused):
            await self._failed(lift, result.detail)
            raise RefusedError(result.code.value, result.detail)
        wake(around.layout.wake)
        mask = result.effective(scope)
        answer: dict[str, Any] = {
            "generation": result.generation,
            "by": people[0].name,
            "approved_by": people[-1].name if len(people) > 1 else "",
            "lifted": [entry.source for entry in lift.lifted],
            "state": ", ".join(permission_names(mask.permission)) or "latched",
            "problem": "",
        }
        if any(entry.source == FIRM for entry in lift.lifted):
            answer["problem"] = (
                "the firm's kill was let go here alone, because no store is configured: instances"
                " that have one keep theirs. "
            )
        try:
            await around.trader.notify_reset(result.generation, scope)
        except TraderAwayError as error:
            answer["problem"] += f"lifted, but the trader's controls were not told: {error}"
        if lift.firm is not None and around.firm is not None:
            by = " and ".join(person.name for person in people)
            answer["problem"] += await around.firm.lift(reason=reasons[0], by=by)
        return answer

    def _lift(self, lift: Lift) -> LatchState | LatchRefused:
        latch, clears = self._around.latch, clearer(self._around.firm is not None)
        if lift.after is lift.before:
            return lift.before
        return self._around.watch.lift(
            lift.lifted, lambda: latch.reset(lift.generation, None, lift.scope, clears)
        )

    async def _failed(self, lift: Lift, why: str) -> None:
        await self._scribe.write_soon("reset_failed", generation=lift.generation, error=why)

    async def _must_write(self, act: str, **fields: Any) -> None:
        try:
            await self._scribe.write_in_turn(act, **fields)
        except AuditError as error:
            raise RefusedError("audit_unwritable", str(error)) from error


def _change(lift: Lift) -> dict[str, Any]:
    scope = lift.scope or WHOLE
    return {
        "scope": lift.scope if lift.scope is not None else "all",
        "generation": lift.generation,
        "generation_to": lift.after.generation,
        "level_from": level_of(lift.before.effective(scope)),
        "level_to": level_of(lift.after.effective(scope)),
        "lifted": [shown(entry) for entry in lift.lifted],
    }
