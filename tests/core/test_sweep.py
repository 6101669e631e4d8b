"""Sweeps: what the latch asks for is swept, no more and no less, and believed only when seen."""

from __future__ import annotations

import msgspec
import pytest

from mm_daemon.core.outbox import Outbox
from mm_daemon.core.sweep import Sweep, SweepState
from mm_daemon.domain.events import OpenOrdersRead
from mm_daemon.domain.inputs import Drain, LatchChanged, OperatorReset
from mm_daemon.domain.intents import (
    CancelAll,
    CancelQuotes,
    MassQuote,
    PlaceOrder,
    ReadOpenOrders,
)
from mm_daemon.domain.orders import FillEvidence
from mm_daemon.domain.outputs import Drained, Log
from mm_daemon.domain.permission import (
    OPEN,
    OPEN_SCOPES,
    PERMISSION_ALL,
    PRESETS,
    SWEEP,
    Mask,
    scopes_word,
)
from mm_daemon.domain.standing import Stage
from mm_daemon.domain.units import NS_PER_MS, NS_PER_S, CoinE8, Lots, Ns, Side
from tests.node.engine_world import Bench

CANCEL_ALL, HALT = PRESETS["cancel_all"], PRESETS["halt_quoting"]
T0 = Ns(1_700_000_000 * NS_PER_S)


def latched(bench: Bench, generation: int, *own: Mask, firm: Mask = OPEN) -> None:
    """The latch changes: masks of the whole daemon and of BTC, ETH by themselves."""
    bench.feed(LatchChanged(generation, firm.permission, firm.tasks, scopes_word(own)))


def underlyings_quoted(bench: Bench) -> set[str]:
    return {bench.instruments[id_].underlying for id_, _ in bench.resting}


def reads(outbox: Outbox) -> list[ReadOpenOrders]:
    return [one for one in outbox.take_intents() if isinstance(one, ReadOpenOrders)]


def test_nothing_is_read_before_all_that_left_has_run_out() -> None:
    sweep, outbox = Sweep(), Outbox(1)
    sweep.begin(2, T0 + 3 * NS_PER_S, T0, outbox)
    outbox.take_intents()
    sweep.poll(Ns(T0 + 3 * NS_PER_S - 1), can_read=True, outbox=outbox)
    assert reads(outbox) == []
    sweep.poll(Ns(T0 + 3 * NS_PER_S), can_read=True, outbox=outbox)
    assert len(reads(outbox)) == 1


def test_what_shows_after_the_cancel_is_cancelled_again() -> None:
    sweep, outbox = Sweep(), Outbox(1)
    sweep.begin(2, 0, T0, outbox)
    outbox.take_intents()
    sweep.poll(Ns(T0 + NS_PER_S), can_read=True, outbox=outbox)
    (read,) = reads(outbox)
    sweep.on_read(read.request_id, 1, Ns(T0 + NS_PER_S))
    sweep.poll(Ns(T0 + 2 * NS_PER_S), can_read=True, outbox=outbox)
    assert [type(one) for one in outbox.take_intents()] == [
        CancelAll,
        CancelQuotes,
        ReadOpenOrders,
    ]


def test_empty_reads_count_a_gap_apart_and_begin_anew_after_one_that_shows_something() -> None:
    sweep, outbox = Sweep(), Outbox(1)
    sweep.begin(2, 0, T0, outbox)
    now = int(T0)
    for open_orders, state in (
        (0, SweepState.RUNNING),
        (1, SweepState.RUNNING),
        (0, SweepState.RUNNING),
        (0, SweepState.CONFIRMED),
    ):
        now += 2 * NS_PER_S
        outbox.take_intents()
        sweep.poll(Ns(now), can_read=True, outbox=outbox)
        (read,) = reads(outbox)
        sweep.on_read(read.request_id, open_orders, Ns(now))
        assert sweep.state is state
    assert sweep.confirmed_generation == 2


@pytest.fixture
def bench() -> Bench:
    return Bench().quoting()


def test_a_scoped_halt_pulls_its_underlying_in_the_same_step_and_no_other(bench: Bench) -> None:
    mark = len(bench.intents)
    latched(bench, 2, HALT)
    pulls = [one for one in bench.since(mark) if isinstance(one, CancelQuotes)]
    assert [(one.currency, one.instrument_id) for one in pulls] == [("BTC", -1)]
    mark = len(bench.intents)
    bench.run(5)
    assert underlyings_quoted(bench) == {"ETH"}
    quoted = {
        bench.instruments[entry.instrument_id].underlying
        for one in bench.since(mark)
        if isinstance(one, MassQuote)
        for entry in one.entries
    }
    assert "BTC" not in quoted


def test_a_scoped_kill_sweeps_and_reads_its_currency_alone(bench: Bench) -> None:
    mark = len(bench.intents)
    latched(bench, 2, OPEN, CANCEL_ALL)
    assert bench.engine.standing().stage is Stage.SETTLING
    bench.run(40)
    sent = bench.since(mark)
    assert {one.currency for one in sent if isinstance(one, CancelAll)} == {"ETH"}
    swept = [one.currency for one in sent if isinstance(one, ReadOpenOrders) and one.currency]
    assert len(swept) >= 2
    assert set(swept) == {"ETH"}
    assert bench.engine.standing().swept_generation == 2
    assert underlyings_quoted(bench) == {"BTC"}
    assert bench.engine.standing().stage is Stage.RUNNING


def test_a_firm_kill_over_a_scoped_one_sweeps_everything(bench: Bench) -> None:
    latched(bench, 2, CANCEL_ALL)
    mark = len(bench.intents)
    latched(bench, 3, CANCEL_ALL, firm=CANCEL_ALL)
    assert "" in {one.currency for one in bench.since(mark) if isinstance(one, CancelAll)}
    bench.run(40)
    assert bench.resting == {}
    assert bench.engine.standing().swept_generation == 3


def test_lifting_the_small_scope_leaves_the_firm_kill_in_force(bench: Bench) -> None:
    latched(bench, 2, CANCEL_ALL, firm=CANCEL_ALL)
    bench.run(30)
    latched(bench, 3, firm=CANCEL_ALL)
    bench.run(30)
    assert bench.resting == {}
    assert bench.engine.standing().swept_generation == 3


def test_a_lifted_scope_quotes_again_in_stages_and_the_other_was_never_touched(
    bench: Bench,
) -> None:
    def largest(name: str) -> int:
        return max(
            order.amount_lots
            for (id_, _), order in bench.resting.items()
            if bench.instruments[id_].underlying == name
        )

    full = {name: largest(name) for name in ("BTC", "ETH")}
    latched(bench, 2, CANCEL_ALL)
    bench.run(30)
    bench.feed(LatchChanged(3, PERMISSION_ALL, 0, OPEN_SCOPES))
    bench.feed(OperatorReset(generation=3, scope="BTC"))
    bench.run(10)
    assert largest("BTC") < full["BTC"]
    assert largest("ETH") == full["ETH"]


def test_a_sweep_is_unconfirmed_and_a_person_told_when_the_venue_does_not_answer(
    bench: Bench,
) -> None:
    bench.venue_answers = False
    bench.feed(LatchChanged(generation=2, permission=0, tasks=SWEEP))
    bench.run(115)
    assert bench.engine.standing().stage is Stage.SETTLING
    bench.run(10)
    assert bench.engine.standing().stage is Stage.KILLED_UNCONFIRMED
    said = [one for one in bench.outputs if isinstance(one, Log)]
    assert [one.event for one in said].count("sweep_unconfirmed") == 1
    bench.venue_answers = True
    bench.run(40)
    assert bench.engine.standing().stage is Stage.KILLED_CONFIRMED


def test_one_answered_read_of_two_currencies_is_no_reading() -> None:
    bench = Bench().quoting()
    bench.run(20)
    latched(bench, 2, CANCEL_ALL, CANCEL_ALL)
    bench.venue_answers = False
    bench.run(40)
    reads = [one for one in bench.intents if isinstance(one, ReadOpenOrders) and one.currency]
    newest = reads[-1]
    for _ in range(20):
        bench.see(OpenOrdersRead(newest.request_id, (), Ns(bench.now)))
        bench.run(1)
    assert bench.engine.standing().swept_generation == 0


def test_a_stop_sweeps_everything_whatever_scope_is_latched(bench: Bench) -> None:
    latched(bench, 2, CANCEL_ALL)
    mark = len(bench.intents)
    bench.feed(Drain(reason="test"))
    assert "" in {one.currency for one in bench.since(mark) if isinstance(one, CancelAll)}
    bench.run(60)
    ends = [one for one in bench.outputs if isinstance(one, Drained)]
    assert ends == [Drained(is_confirmed=True, open_orders=0)]


def test_generations_that_keep_coming_do_not_keep_a_sweep_from_its_end(bench: Bench) -> None:
    mark = len(bench.intents)
    for generation in range(2, 12):
        latched(bench, generation, firm=CANCEL_ALL)
        bench.run(5)
    assert bench.engine.standing().swept_generation >= 5
    assert bench.resting == {}
    cancels = [one for one in bench.since(mark) if isinstance(one, CancelAll)]
    assert len(cancels) < 10


def test_the_same_kill_again_after_its_confirmation_sweeps_again(bench: Bench) -> None:
    latched(bench, 2, firm=CANCEL_ALL)
    bench.run(40)
    mark = len(bench.intents)
    latched(bench, 3, firm=CANCEL_ALL)
    assert [one for one in bench.since(mark) if isinstance(one, CancelAll)]


def test_a_stronger_mask_sweeps_anew_at_once(bench: Bench) -> None:
    latched(bench, 2, firm=PRESETS["flatten"])
    mark = len(bench.intents)
    latched(bench, 3, firm=CANCEL_ALL)
    assert [one for one in bench.since(mark) if isinstance(one, CancelAll)]


def perpetual_fill(bench: Bench, lots: int) -> FillEvidence:
    perpetual = next(one for one in bench.instruments if one.name == "BTC-PERPETUAL")
    return FillEvidence(
        trade_id="P1",
        order_id="elsewhere",
        client_id="",
        instrument_id=perpetual.id,
        side=Side.BUY,
        price_e8=10_000_000_000_000,
        lots=Lots(lots),
        fee_e8=CoinE8(0),
        fee_currency="BTC",
        is_maker=False,
        ts_venue_ns=Ns(bench.now),
        mark_price_e8=0,
        index_price_e8=10_000_000_000_000,
        is_quote=False,
        source="stream",
    )


def test_a_kill_waits_for_a_hedge_that_left_last(bench: Bench) -> None:
    """A hedge may arrive longer than a quote: no read before it has run out says anything."""
    bench.see(perpetual_fill(bench, 10_000))
    mark = len(bench.intents)
    bench.run(1)
    hedge = next(one for one in bench.since(mark) if isinstance(one, PlaceOrder))
    assert all(quote.valid_until_ns < hedge.valid_until_ns for quote in bench.quotes())
    latched(bench, 2, firm=CANCEL_ALL)
    sweep = bench.engine.sweeps.sweep
    while bench.now < hedge.valid_until_ns - 100 * NS_PER_MS:
        bench.run(1)
        assert sweep.open_orders == -1, "nothing was read yet"
    bench.run(40)
    assert sweep.open_orders == 0


def test_a_stop_sends_no_hedge(bench: Bench) -> None:
    bench.see(perpetual_fill(bench, 10_000))
    mark = len(bench.intents)
    bench.feed(Drain("test"))
    bench.run(10)
    assert not [one for one in bench.since(mark) if isinstance(one, PlaceOrder)]


def test_a_flatten_hedges_nothing_before_its_sweep_is_over(bench: Bench) -> None:
    """What is sent meanwhile may be filled after the venue was found empty."""
    bench.see(perpetual_fill(bench, 10_000))
    option = next(id_ for id_, _ in bench.resting if bench.instruments[id_].underlying == "BTC")
    held = msgspec.structs.replace(perpetual_fill(bench, 5), instrument_id=option, trade_id="O1")
    bench.see(msgspec.structs.replace(held, price_e8=5_000_000))
    mark = len(bench.intents)
    latched(bench, 2, firm=PRESETS["flatten"])
    while bench.engine.standing().swept_generation < 2:
        bench.run(1)
        orders = [one for one in bench.since(mark) if isinstance(one, PlaceOrder)]
        assert orders == [] or bench.engine.standing().swept_generation == 2
    bench.run(10)
    assert [one for one in bench.since(mark) if isinstance(one, PlaceOrder)]
