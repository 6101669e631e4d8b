"""What must hold once the faults have ended: everything settles, agrees and returns, in bounded
virtual time, and a stop says the truth.

Each phase waits for its condition and no longer; a phase that times out is a violation with what
was still wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mm_daemon.core.state import EngineState
from mm_daemon.domain.permission import OPERATOR
from mm_daemon.domain.units import Ns
from mm_daemon.run.simulate import Simulation
from mm_daemon.run.simulation_checks import book_violations, violations
from mm_daemon.run.simulation_faults import end_faults
from mm_daemon.run.simulation_invariants import Invariants

SETTLE_S: Final = 60.0
QUOTE_S: Final = 60.0
RESET_S: Final = 5.0
"""Pace of an operator whose reset did not last."""
BOOKS_S: Final = 10.0
HEDGE_S: Final = 30.0
KILL_S: Final = 15.0
STOP_S: Final = 20.0
QUIET_S: Final = 2.0
"""How long one waits for a moment at which nothing is on its way."""
LOOK_EVERY_STEPS: Final = 8


class End:
    """The end of one run: `judge_end` does it all."""

    def __init__(self, sim: Simulation, judge: Invariants) -> None:
        self._sim = sim
        self._judge = judge
        self._looked_at = 0

    def run(self, *, with_kill: bool, with_quotes: bool = True) -> None:
        """Ends faults, then waits, compares, and stops the daemon; at the first violation it is
        over. `with_quotes` False where what is left of the world has no surface to quote by."""
        end_faults(self._sim)
        phases = [
            self._clock_is_right,
            self._settles,
            *([self._quotes_return] if with_quotes else []),
            self._delta_returns,
            self._books_agree,
        ]
        if with_kill:
            phases.append(self._kill_confirms)
        for phase in [*phases, self._stops]:
            phase()
            if self._judge.found:
                return
        for sentence in violations(self._sim):
            self._judge.note("end", "books, fills and ids as the venue has them", sentence)

    # -- phases -----------------------------------------------------------------------------------

    def _clock_is_right(self) -> None:
        """The host's clock is set right; a life that began by a wrong one is replaced by a person,
        for its stamps stay wrong."""
        sim = self._sim
        sim.wall.error_ns = 0
        if sim.trader.is_alive and sim.trader.wall_error_ns:
            sim.crash()

    def _settles(self) -> None:
        """I24, I26: a living trader, reconciled, nothing unknown, nothing parked, and what a stream
        lost found by the next reading."""
        if not self._wait(lambda: not self._unsettled(), SETTLE_S):
            self._judge.note("I24/I26", f"all settled in {SETTLE_S} s", self._unsettled())

    def _quotes_return(self) -> None:
        """I28: by itself where the reset is automatic; elsewhere an operator resets, and again
        where what tripped a control was still so."""
        sim = self._sim
        state = sim.latch.state()
        if any(entry.source == OPERATOR for entry in state.entries):
            sim.reset_if_latched()
        reset_s = [-RESET_S]

        def quotes() -> bool:
            if self._needs_reset() and sim.elapsed_s - reset_s[0] >= RESET_S:
                reset_s[0] = sim.elapsed_s
                sim.reset_if_latched()
            return sim.open_orders() > 0

        if not self._wait(quotes, QUOTE_S):
            self._judge.note("I28", f"quotes in {QUOTE_S} s", self._why_no_quotes())

    def _delta_returns(self) -> None:
        """I29."""
        if not self._wait(lambda: self._delta_beyond() <= 0.0, HEDGE_S):
            self._judge.note(
                "I29", f"delta in its band in {HEDGE_S} s", f"{self._delta_beyond()} coin beyond"
            )

    def _books_agree(self) -> None:
        """I15, I27, and what we believe rests is what rests, at a moment of quiet."""
        last = [""]

        def agree() -> bool:
            last[0] = self._disagreement()
            return not last[0]

        if not self._wait(agree, BOOKS_S):
            self._judge.note("I15/I27", "our books and quotes as the venue's", last[0])

    def _kill_confirms(self) -> None:
        """I25."""
        sim = self._sim
        generation = sim.kill(reason="end of the run")
        if not self._wait(lambda: sim.is_swept(generation), KILL_S):
            self._judge.note("I25", f"a kill confirmed in {KILL_S} s", "none")
        elif sim.open_orders():
            self._judge.note("I25", "nothing at the venue once confirmed", str(sim.open_orders()))

    def _stops(self) -> None:
        """I30; that its word is true is in `violations`."""
        sim = self._sim
        if sim.trader.is_alive:
            sim.drain()
        if not self._wait(lambda: not sim.trader.is_alive, STOP_S):
            self._judge.note("I30", f"a stop in {STOP_S} s", "a trader that still runs")

    # -- inside -----------------------------------------------------------------------------------

    def _wait(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Looks every few steps; over at once where something is found."""
        sim = self._sim

        def is_over() -> bool:
            if self._judge.found:
                return True
            self._looked_at += 1
            return self._looked_at % LOOK_EVERY_STEPS == 0 and condition()

        return condition() or sim.run_until_true(is_over, timeout_s)

    def _state(self) -> EngineState | None:
        trader = self._sim.trader
        return self._sim.parts.state(trader.node) if trader.is_alive else None

    def _unsettled(self) -> str:
        state = self._state()
        if state is None:
            return "no living trader with a catalogue"
        if self._sim.trader.is_paused:
            return "the trader is stopped"
        if not state.modes.is_reconciled:
            return "not reconciled"
        if not state.modes.journal_is_sound:
            return "no sound journal"
        if state.portfolio.parked:
            return f"parked: {state.portfolio.parked}"
        unknowns = state.working.unknowns()
        if unknowns.count:
            return f"unknown: {unknowns}"
        if state.reconcile_broken_since_ns:
            return "a break of the reconcile"
        now_ns = self._sim.scheduler.now_ns
        for instrument in state.catalog.instruments:
            if 0 < instrument.expiry_ns <= now_ns and state.portfolio.is_carried(instrument.id):
                return f"{instrument.name} waits for its delivery price"
        return next(iter(book_violations(self._sim)), "")

    def _needs_reset(self) -> bool:
        """Whether a control holds back until a person's word."""
        state = self._state()
        return state is not None and (bool(state.modes.halted) or bool(self._latched_controls()))

    def _latched_controls(self) -> list[str]:
        return [one.source for one in self._sim.latch.state().entries]

    def _why_no_quotes(self) -> str:
        state = self._state()
        if state is None:
            return "no living trader"
        return f"{state.modes.quoting_reasons} {state.modes.halted} {self._latched_controls()}"

    def _delta_beyond(self) -> float:
        """How far delta lies outside its band where hedging is permitted; 0 inside, NaN where it is
        not known."""
        state = self._state()
        if state is None:
            return 0.0
        beyond = 0.0
        now_ns = Ns(self._sim.scheduler.now_ns)
        for name in state.underlyings:
            totals = state.position_greeks(name, now_ns)
            found = abs(totals.delta_adjusted) - state.hedger.state(name, now_ns).band_coin
            if state.modes.may_hedge(name) and not found <= beyond:
                beyond = found
        return beyond

    def _disagreement(self) -> str:
        """The first difference between what we believe and what is, where nothing moves."""
        sim, state = self._sim, self._state()
        if state is None:
            return "no living trader"
        if any(pipe.in_flight for pipe in sim.network.pipes):
            return "something is on its way"
        rests: dict[tuple[str, int], int] = {}
        for order in sim.exchange.open_of(sim.parts.account):
            key = (order.instrument, order.sign)
            rests[key] = rests.get(key, 0) + order.remaining_e8
        market, working = state.market, state.working
        for instrument in state.catalog.instruments:
            id_, name = instrument.id, instrument.name
            if 0 < instrument.expiry_ns <= sim.scheduler.now_ns:
                continue
            if not market.book_valid[id_]:
                return f"the book of {name} is not valid"
            for sign, live in ((1, working.live_bid_lots), (-1, working.live_ask_lots)):
                ours = int(live[id_]) * instrument.lot_e9 // 10
                theirs = rests.get((name, sign), 0)
                if instrument.is_option and ours != theirs:
                    return f"{name} side {sign}: we believe {ours} rests, at the venue {theirs}"
            bid_e8, _, ask_e8, _ = sim.exchange.best(name)
            tick_e9 = instrument.grid.tick_e9
            seen = (
                int(market.bid_ticks[id_]) * tick_e9 // 10,
                int(market.ask_ticks[id_]) * tick_e9 // 10,
            )
            if seen != (bid_e8, ask_e8):
                return f"{name}: we see {seen}, the venue has {(bid_e8, ask_e8)}"
        return ""
