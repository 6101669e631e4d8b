"""However requests, answers, reports and fills are lost, late or overtaken: what the venue could
still do to us stays inside every hard limit.

The venue here is a few lines that know the truth: what has filled, what rests, what is on its way.
After each act the worst of all that is laid against the limits, and the gate's own worst case
against the truth, which it may never be below.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_daemon.core.theo import DELTA_ADJUSTED, VEGA
from mm_daemon.domain.events import RequestDone
from mm_daemon.domain.intents import MassQuote, QuoteEntry
from mm_daemon.domain.orders import FillEvidence, OrderEvidence, RejectReason, VenueStatus
from mm_daemon.domain.units import NS_PER_MS, NS_PER_S, Lots, Ns, Side, Ticks
from tests.core.account_params import params
from tests.core.account_world import (
    CALL,
    CALL_FAR,
    GROUP,
    PUT,
    T0,
    fill_evidence,
    order_evidence,
)
from tests.core.test_risk import CATALOG, Desk

OPTIONS = (CALL, PUT, CALL_FAR)
PRICES = {Side.BUY: 480, Side.SELL: 520}
LIMITS = {
    "position_lots_max": 14,
    "delta_coin_max": 0.9,
    "vega_usd_max": 130.0,
    "vega_expiry_usd_max": 100.0,
    "gamma_usd_max": 4_000.0,
}
Key = tuple[int, Side]
Report = OrderEvidence | FillEvidence


class Resting:
    """One quote at the venue."""

    def __init__(self, key: Key, order_id: str, lots: int) -> None:
        self.key, self.order_id, self.lots, self.filled = key, order_id, lots, 0

    def evidence(self, status: VenueStatus, ts: int) -> OrderEvidence:
        id_, side = self.key
        return order_evidence(
            self.order_id, id_, side, status, PRICES[side], self.lots, ts=ts, filled=self.filled
        )


class World:
    """Desk and venue, with every message between them held in the hand."""

    def __init__(self) -> None:
        self.desk = Desk(params(**LIMITS))
        self.desk.refresh()
        self.now = T0
        self.truth = dict.fromkeys(OPTIONS, 0)
        self.resting: dict[Key, Resting] = {}
        self.upward: list[MassQuote] = []
        self.replies: list[tuple[int, list[OrderEvidence]]] = []
        self.reports: list[Report] = []
        self.count = 0
        self.sent = 0

    def quote(self, id_: int, side: Side, lots: int) -> None:
        """Asks for one side; the gate decides, what it allows is registered and leaves."""
        self.count += 1
        self.desk.gate.refresh(self.desk.positions, self.desk.working)
        terms = (Ticks(PRICES[side]), Lots(lots))
        bid, ask = (terms, (None, None)) if side is Side.BUY else ((None, None), terms)
        until = Ns(self.now + NS_PER_S)
        intent = MassQuote(self.count, GROUP, "", (QuoteEntry(id_, *bid, *ask),), until)
        allowed = self.desk.gate.check(intent, self.desk.working, Ns(self.now)).allowed
        if isinstance(allowed, MassQuote) and allowed.entries:
            self.desk.working.register(allowed, Ns(self.now))
            self.upward.append(allowed)
            self.sent += 1

    def arrive(self, index: int, *, is_answered: bool) -> None:
        """A request reaches the venue, in any order; its answer may be lost on the way back."""
        if not self.upward:
            return
        intent = self.upward.pop(index % len(self.upward))
        (entry,) = intent.entries
        side = Side.BUY if entry.bid_lots is not None else Side.SELL
        lots = int((entry.bid_lots if side is Side.BUY else entry.ask_lots) or 0)
        key = (entry.instrument_id, side)
        said: list[OrderEvidence] = []
        before = self.resting.pop(key, None)
        if before is not None:
            before.lots = 0
            said.append(before.evidence(VenueStatus.CANCELLED, self.tick()))
        if lots:
            now = Resting(key, f"q{intent.request_id}", lots)
            self.resting[key] = now
            said.append(now.evidence(VenueStatus.OPEN, self.tick()))
        self.reports += said
        if is_answered:
            self.replies.append((intent.request_id, said))
        else:
            self.time_out(intent.request_id)

    def lose(self, index: int) -> None:
        """A request never arrives, and nobody knows."""
        if self.upward:
            self.time_out(self.upward.pop(index % len(self.upward)).request_id)

    def time_out(self, request_id: int) -> None:
        done = RequestDone(request_id, RejectReason.UNKNOWN_OUTCOME, 0, "", Ns(self.now))
        self.desk.working.on_request_done(done, Ns(self.now))

    def fill(self, index: int, lots: int) -> None:
        """Somebody trades with a quote that rests."""
        if not self.resting:
            return
        key = list(self.resting)[index % len(self.resting)]
        quote = self.resting[key]
        done = min(lots, quote.lots)
        quote.lots -= done
        quote.filled += done
        self.truth[key[0]] += int(key[1]) * done
        self.count += 1
        ts = self.tick()
        self.reports.append(
            fill_evidence(f"t{self.count}", quote.order_id, key[0], key[1], done, ts=ts)
        )
        status = VenueStatus.OPEN if quote.lots else VenueStatus.FILLED
        self.reports.append(quote.evidence(status, ts))
        if not quote.lots:
            del self.resting[key]

    def hear(self, index: int) -> None:
        """One report comes in, whichever is quickest."""
        if not self.reports:
            return
        report = self.reports.pop(index % len(self.reports))
        if isinstance(report, OrderEvidence):
            self.desk.working.on_order(report, Ns(self.now))
        else:
            self.desk.positions[report.instrument_id] += int(report.side) * report.lots
            self.desk.working.on_fill(report, Ns(self.now))

    def answer(self, index: int) -> None:
        """A reply comes in: its evidence, then that it is one."""
        if not self.replies:
            return
        request_id, said = self.replies.pop(index % len(self.replies))
        for evidence in said:
            self.desk.working.on_order(evidence, Ns(self.now))
        done = RequestDone(request_id, None, 0, "", Ns(self.now))
        self.desk.working.on_request_done(done, Ns(self.now))

    def forget(self, index: int) -> None:
        """An answer is lost."""
        if self.replies:
            self.time_out(self.replies.pop(index % len(self.replies))[0])

    def tick(self) -> int:
        self.now = Ns(self.now + NS_PER_MS)
        return self.now - T0

    def reach(self, id_: int) -> tuple[int, int]:
        """(lowest, highest) position that the venue could make of what it has and what comes."""
        buys = sells = 0
        for (other, side), quote in self.resting.items():
            if other == id_:
                buys += quote.lots if side is Side.BUY else 0
                sells += quote.lots if side is Side.SELL else 0
        for intent in self.upward:
            (entry,) = intent.entries
            if entry.instrument_id == id_:
                buys += int(entry.bid_lots or 0)
                sells += int(entry.ask_lots or 0)
        return self.truth[id_] - sells, self.truth[id_] + buys

    def check(self) -> None:
        desk = self.desk
        desk.gate.refresh(desk.positions, desk.working)
        believed = desk.gate.worst_case("BTC")
        lot = CATALOG.lot
        delta = desk.columns[DELTA_ADJUSTED] * lot
        vega = desk.columns[VEGA] * lot * 0.01
        for unit, row, limit in (
            (delta, 0, LIMITS["delta_coin_max"]),
            (vega, 2, LIMITS["vega_usd_max"]),
        ):
            low = high = 0.0
            for id_ in OPTIONS:
                ends = [end * float(unit[id_]) for end in self.reach(id_)]
                low, high = low + min(ends), high + max(ends)
            assert -limit - 1e-9 <= low
            assert high <= limit + 1e-9
            assert believed[row][0] <= low + 1e-9
            assert high <= believed[row][1] + 1e-9
        for expiry in ((CALL, PUT), (CALL_FAR,)):
            for side in (0, 1):
                total = sum(self.reach(id_)[side] * float(vega[id_]) for id_ in expiry)
                assert abs(total) <= LIMITS["vega_expiry_usd_max"] + 1e-9
        for id_ in OPTIONS:
            low_lots, high_lots = self.reach(id_)
            assert -LIMITS["position_lots_max"] <= low_lots
            assert high_lots <= LIMITS["position_lots_max"]


index = st.integers(0, 7)
act = st.one_of(
    st.tuples(
        st.just("quote"),
        st.sampled_from(OPTIONS),
        st.sampled_from([Side.BUY, Side.SELL]),
        st.integers(0, 6),
    ),
    st.tuples(st.just("arrive"), index, st.booleans()),
    st.tuples(st.just("fill"), index, st.integers(1, 6)),
    st.tuples(st.sampled_from(["hear", "answer", "lose", "forget"]), index),
)


@given(acts=st.lists(act, max_size=60))
@settings(max_examples=200)
def test_c04_no_interleaving_takes_the_worst_case_over_a_hard_limit(acts: list[Any]) -> None:
    world = World()
    for name, *rest in acts:
        if name == "arrive":
            world.arrive(rest[0], is_answered=rest[1])
        else:
            getattr(world, name)(*rest)
        world.check()


def test_c04_the_limit_is_reached_and_held_by_quotes_that_all_fill() -> None:
    """The property above is about something: without a limit this desk would be far beyond it."""
    world = World()
    for _ in range(40):
        for id_ in OPTIONS:
            world.quote(id_, Side.BUY, 6)
            world.arrive(0, is_answered=True)
            world.answer(0)
            world.fill(0, 6)
            while world.reports:
                world.hear(0)
        world.check()
    held = np.array([world.truth[id_] for id_ in OPTIONS])
    assert held.sum() >= 12
    assert world.sent < 40 * len(OPTIONS)
