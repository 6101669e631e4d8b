"""Whatever people, controls, time and restarts do in whatever order: nothing widens but by a reset
that names its generation, on terms that held, by as many different people as it takes, with its
line on the log before it; and page and file never tell different things."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mm_daemon.domain.permission import CONTROL_PREFIX, OPERATOR, PRESETS, WHOLE, Mask
from mm_daemon.ipc.latch import LatchStore
from mm_daemon.ops.audit import verify
from mm_daemon.ops.auth import Actor, Role
from mm_daemon.ops.bodies import ApproveBody, ResetBody
from mm_daemon.ops.refusal import RefusedError
from mm_daemon.ops.reset_desk import ResetDesk
from mm_daemon.ops.surroundings import ResetRules
from tests.ops.rig import GOOD_REASON, Rig

COOLDOWN_S = 60.0
PEOPLE = [Actor(name, Role.RISK, fingerprint=name) for name in ("alice", "bob")]
LEVELS = ("halt_quoting", "cancel_all", "hedge_only", "flatten")
ROWS = ("C13", "C30")
people = st.sampled_from(PEOPLE)


class Resets(RuleBasedStateMachine):
    """The desk over a real page, latch file, log and trader's socket."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory(prefix="mmr", dir="/tmp")
        self.runner = asyncio.Runner()
        rules = ResetRules(persons=2, cooldown_s=COOLDOWN_S, clean_age_s=30.0)
        self.rig = Rig(Path(self._directory.name), rules)
        self.runner.run(self._connect())
        self.desk = ResetDesk(self.rig.around, self.rig.scribe)
        self.asked: list[tuple[str, str, int]] = []
        """(id, person, generation) of what was ever kept for a second person."""
        self.is_clean = True
        self.holding: set[str] = set()
        self.mask = self.masks()

    async def _connect(self) -> None:
        await self.rig.link.start()
        self.connecting = asyncio.create_task(self.rig.trader.run())
        while not self.rig.trader.is_connected:
            await asyncio.sleep(0)

    async def _disconnect(self) -> None:
        self.connecting.cancel()
        await self.rig.link.close()

    def teardown(self) -> None:
        assert verify(self.rig.audit.path).is_whole
        self.runner.run(self._disconnect())
        self.runner.close()
        self.rig.stop()
        self.rig.audit.close()
        self._directory.cleanup()

    # -- what may happen -------------------------------------------------------------------------

    @rule(level=st.sampled_from(LEVELS), scope=st.sampled_from([WHOLE, "BTC"]))
    def kill(self, level: str, scope: str) -> None:
        self.rig.wall_ns += 1
        self.rig.watch.expect_raise(OPERATOR, scope, self.rig.wall_ns)
        self.rig.latch.raise_page(
            OPERATOR, PRESETS[level], "kill", ts_ns=self.rig.wall_ns, scope=scope
        )
        self.rig.latch.persist()
        self.desk.void()
        self.mask = self.masks()

    @rule(row=st.sampled_from(ROWS))
    def trip(self, row: str) -> None:
        self.rig.wall_ns += 1
        self.holding.add(row)
        source = f"{CONTROL_PREFIX}{row}"
        self.rig.latch.raise_page(source, PRESETS["halt_quoting"], "trip", ts_ns=self.rig.wall_ns)
        self.rig.latch.persist()
        self._tell()
        self.mask = self.masks()

    @rule()
    def calm(self) -> None:
        self.holding.clear()
        self._tell()

    @rule()
    def break_books(self) -> None:
        self.is_clean = False
        self._tell()

    @rule()
    def reconcile_and_cool(self) -> None:
        self.is_clean = True
        self._tell()
        self.rig.pass_time(COOLDOWN_S + 1.0)

    @rule(person=people, other=people)
    def in_order(self, person: Actor, other: Actor) -> None:
        """What is meant to happen: otherwise chance would seldom come to a lifting."""
        self.reconcile_and_cool()
        self.ask(person, 0)
        if self.asked:
            self.approve(other, 1)

    @rule()
    def restart(self) -> None:
        self.desk = ResetDesk(self.rig.around, self.rig.scribe)

    @rule(person=people, back=st.sampled_from([0, 0, 0, 0, 1]))
    def ask(self, person: Actor, back: int) -> None:
        generation = max(0, self.rig.page.generation - back)
        body = ResetBody(generation=generation, reason=GOOD_REASON)
        before = self.rig.page.generation
        outcome = self._try(self.desk.request(person, body))
        if outcome is not None:
            assert back == 0
        if outcome is not None and outcome[0] == 202:
            self.asked.append((outcome[1]["request_id"], person.name, generation))
        self._after(outcome, before)

    @precondition(lambda self: bool(self.asked))
    @rule(person=people, back=st.integers(1, 3))
    def approve(self, person: Actor, back: int) -> None:
        request_id, asker, generation = self.asked[-min(back, len(self.asked))]
        before = self.rig.page.generation
        outcome = self._try(self.desk.approve(person, ApproveBody(request_id=request_id)))
        if outcome is not None:
            assert person.name != asker
            assert generation == before
        self._after(outcome, before)

    # -- what must hold ----------------------------------------------------------------------------

    @invariant()
    def page_is_as_the_file(self) -> None:
        file = LatchStore(self.rig.layout.latch, None).load()
        assert file.entries == self.rig.latch.state().entries
        assert file.generation == self.rig.page.generation

    @invariant()
    def nothing_widened_behind_our_back(self) -> None:
        assert self.masks() == self.mask

    def _after(self, outcome: tuple[int, Any] | None, before: int) -> None:
        """A refusal changed nothing; a reset had its terms, its people and its line."""
        if outcome is None or outcome[0] != 200:
            assert self.masks() == self.mask
            assert self.rig.page.generation == before
            return
        line = self.rig.lines("reset")[-1]
        lifted = line["lifted"]
        assert self.is_clean
        assert not {f"{CONTROL_PREFIX}{row}" for row in self.holding} & {
            one["source"] for one in lifted
        }
        ages_s = [(self.rig.wall_ns - one["raised_ns"]) / 1e9 for one in lifted]
        assert all(age_s >= COOLDOWN_S for age_s in ages_s)
        signed = {line["actor"], line.get("approver", line["actor"])}
        is_plain = all(one["level"] == "halt_quoting" for one in lifted)
        assert len(signed) == 2 or is_plain, line
        assert line["generation_to"] == outcome[1]["generation"] == self.rig.page.generation
        self.mask = self.masks()

    def masks(self) -> list[Mask]:
        state = self.rig.latch.state()
        return [state.effective(scope) for scope in (WHOLE, "BTC", "ETH")]

    def _tell(self) -> None:
        self.rig.set_terms(
            parked_fills=0 if self.is_clean else 1,
            controls_holding=tuple(f"{row} venue" for row in sorted(self.holding)),
        )

    def _try(self, act: Coroutine[Any, Any, tuple[int, Any]]) -> tuple[int, Any] | None:
        try:
            return self.runner.run(act)
        except RefusedError:
            return None


Resets.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestNoOrderOfEventsLiftsWhatItMustNot = Resets.TestCase
