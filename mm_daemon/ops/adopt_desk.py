"""Adoptions: the venue's positions taken over ours, on people's word, as the last resort.

Nobody adopts blindly: status shows the difference with its id, and the wish names both the id and
the latch's generation that were seen. It is judged here, when it is asked and again when it is
approved; and by the decision itself, which books only what is still the same on the next whole
picture of the venue. Its end is waited for, answered, and on the audit log.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from mm_daemon.domain.inputs import AdoptVenue
from mm_daemon.domain.permission import QUOTE
from mm_daemon.ops.audit import AuditError
from mm_daemon.ops.auth import Actor
from mm_daemon.ops.bodies import AdoptBody, ApproveBody
from mm_daemon.ops.refusal import RefusedError
from mm_daemon.ops.reset_terms import check_same_build
from mm_daemon.ops.scribe import Scribe
from mm_daemon.ops.surroundings import Surroundings
from mm_daemon.ops.trader_client import TraderAwayError
from mm_daemon.ops.two_people import EXPIRES_S, Pace, Waiting, Words, people_fields

OUTCOME_S: Final = 10.0
"""A whole picture of the venue takes a second or two."""
LOOK_S: Final = 0.05
SHOWN_KEYS: Final = ("difference_id", "differences", "standing_s")
ADOPTED: Final = "adopted"
DROPPED_BY: Final = ("stale_generation", "stale_difference", "no_difference")


@dataclass(frozen=True)
class _Wanted:
    """What was asked for, as it was shown."""

    generation: int
    difference_id: str
    shown: dict[str, Any]


class AdoptDesk:
    """The adoptions of one daemon; one is judged at a time."""

    def __init__(self, around: Surroundings, scribe: Scribe) -> None:
        self._around = around
        self._scribe = scribe
        words = Words("adoption", "unknown_adoption", "expired_adoption")
        self._waiting: Waiting[_Wanted] = Waiting(words, around.mono_ns, around.tokens.knows)
        self._pace = Pace("many_adoptions", around.mono_ns)
        self._judging = asyncio.Lock()

    async def request(self, actor: Actor, body: AdoptBody) -> tuple[int, dict[str, Any]]:
        """Carries it out where one person suffices, else keeps it for the second. Raises
        RefusedError, and nothing has changed."""
        self._pace.require(actor)
        async with self._judging:
            view = await self._judge(body.generation, body.difference_id)
            wanted = _Wanted(body.generation, body.difference_id, _shown(view))
            if self._around.rules.persons == 1:
                return 200, await self._carry_out(wanted, view, [actor], [body.reason])
            pending = self._waiting.draft(actor, body.reason, wanted)
            await self._must_write(
                "adopt_requested",
                **people_fields([actor], [body.reason]),
                **_fields(wanted),
                request_id=pending.request_id,
            )
            self._waiting.keep(pending)
            return 202, {
                "request_id": pending.request_id,
                "expires_in_s": EXPIRES_S,
                "by": actor.name,
                **wanted.shown,
                "state": "waits for a second person; a restart of ops or a kill drops it",
            }

    async def approve(self, actor: Actor, body: ApproveBody) -> tuple[int, dict[str, Any]]:
        """The second person's word. Raises RefusedError, and nothing has changed."""
        self._pace.require(actor)
        async with self._judging:
            pending = self._waiting.find(body.request_id, actor)
            wanted = pending.what
            try:
                view = await self._judge(wanted.generation, wanted.difference_id)
            except RefusedError as error:
                if error.code in DROPPED_BY:
                    self._waiting.drop(pending.request_id)
                raise
            people, reasons = [pending.by, actor], [pending.reason, body.reason]
            answer = await self._carry_out(wanted, view, people, reasons)
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
                **one.what.shown,
                "expires_in_s": one.expires_in_s(now_ns),
            }
            for one in self._waiting.alive()
        ]

    # -- judging -------------------------------------------------------------------------------

    async def _judge(self, generation: int, difference_id: str) -> dict[str, Any]:
        """What may be adopted. Raises: RefusedError with the first term that is not met."""
        page = self._around.page
        if generation != page.generation:
            raise RefusedError(
                "stale_generation",
                f"the latch is at generation {page.generation}, not {generation}: look again",
                generation=page.generation,
            )
        if page.permission & QUOTE:
            raise RefusedError(
                "not_stopped", "the daemon may quote: stop it first (mm-daemon kill)"
            )
        view = await self._view()
        if not view["difference_id"]:
            raise RefusedError("no_difference", "no position differs from the venue's")
        if view["difference_id"] != difference_id:
            raise RefusedError(
                "stale_difference",
                f"the difference is now {view['difference_id']}, not {difference_id!r}: look again",
                **_shown(view),
            )
        if view["why_not"]:
            raise RefusedError("not_adoptable", view["why_not"], **_shown(view))
        identity, theirs = self._around.identity, self._around.trader_identity
        await asyncio.to_thread(check_same_build, identity, theirs)
        return view

    async def _view(self) -> dict[str, Any]:
        try:
            status = await self._around.trader.view("status")
        except TraderAwayError as error:
            raise RefusedError("trader_away", str(error)) from error
        view = status.get("adoption")
        if view is None:
            raise RefusedError("not_reconciled", "the trader knows no positions yet: wait")
        return dict(view)

    # -- acting --------------------------------------------------------------------------------

    async def _carry_out(
        self, wanted: _Wanted, before: dict[str, Any], people: list[Actor], reasons: list[str]
    ) -> dict[str, Any]:
        names = " and ".join(one.name for one in people)
        await self._must_write("adopt", **people_fields(people, reasons), **_fields(wanted))
        try:
            await self._around.trader.adopt(
                AdoptVenue(actor=names, reason=reasons[0], difference_id=wanted.difference_id)
            )
        except TraderAwayError as error:
            await self._note_end(wanted, f"the trader went away: {error}")
            raise RefusedError("trader_away", str(error)) from error
        outcome = await self._outcome(before["ended"])
        await self._note_end(wanted, outcome or "not known yet")
        if outcome and not outcome.startswith(ADOPTED):
            raise RefusedError("not_adopted", f"the decision said: {outcome}")
        return {
            "by": people[0].name,
            "approved_by": people[-1].name if len(people) > 1 else "",
            **wanted.shown,
            "state": outcome or "asked: the venue's next whole picture decides, see status",
        }

    async def _outcome(self, ended_before: int) -> str:
        """What the decision made of it, empty where it has not said so in time."""
        try:
            async with asyncio.timeout(OUTCOME_S):
                while True:
                    view = await self._view()
                    if view["ended"] > ended_before:
                        return str(view["outcome"])
                    await asyncio.sleep(LOOK_S)
        except (TimeoutError, RefusedError):
            return ""

    async def _note_end(self, wanted: _Wanted, outcome: str) -> None:
        await self._scribe.write_soon(
            "adopt_ended", difference_id=wanted.difference_id, outcome=outcome
        )

    async def _must_write(self, act: str, **fields: Any) -> None:
        try:
            await self._scribe.write_in_turn(act, **fields)
        except AuditError as error:
            raise RefusedError("audit_unwritable", str(error)) from error


def _shown(view: dict[str, Any]) -> dict[str, Any]:
    return {key: view[key] for key in SHOWN_KEYS}


def _fields(wanted: _Wanted) -> dict[str, Any]:
    return {"generation": wanted.generation, **wanted.shown}
