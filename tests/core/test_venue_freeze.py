"""What the venue's own protection pulled is held here, lifted by a person, reset there, and only
then quoted again."""

from __future__ import annotations

from mm_daemon.core.breaker import Breaker
from mm_daemon.core.venue_freeze import FREEZE_CONTROL
from mm_daemon.domain.events import InstrumentsRead, MmpTriggered, QuoteSideFailed, RequestDone
from mm_daemon.domain.inputs import LatchChanged, OperatorReset, PermitChanged, Withheld
from mm_daemon.domain.intents import MassQuote, ResetMmp
from mm_daemon.domain.orders import RejectReason
from mm_daemon.domain.permission import HEDGE, PERMISSION_ALL, PRESETS, REDUCE
from mm_daemon.domain.units import NS_PER_DAY, Ns, Side
from tests.core.control_bench import NAME, NS, active, counted, latches, resting, state_of
from tests.node.engine_world import Bench

GROUP = "mm-btc"
VENUE_TRIPS = 'mm_mmp_trips_total{by="venue"}'


def tripped(bench: Bench, until_ns: int = 0) -> None:
    """The venue pulls the group and says so."""
    bench.resting = {k: v for k, v in bench.resting.items() if v.mmp_group != GROUP}
    bench.see(MmpTriggered("btc_usd", GROUP, until_ns))


def quotes_since(bench: Bench, mark: int) -> list[MassQuote]:
    return [
        one for one in bench.since(mark) if isinstance(one, MassQuote) and one.mmp_group == GROUP
    ]


def asked(bench: Bench, mark: int = 0) -> list[ResetMmp]:
    return [one for one in bench.since(mark) if isinstance(one, ResetMmp)]


def answered(bench: Bench, reset: ResetMmp, reason: RejectReason | None = None) -> None:
    bench.see(RequestDone(reset.request_id, reason, 0, "", Ns(bench.now)))


def lifted(bench: Bench) -> ResetMmp:
    """Held for long enough, lifted by a person, and the reset that is asked for."""
    bench.run(32, step_ms=1_000)
    bench.feed(OperatorReset(generation=2, scope=NAME))
    bench.run(5)
    assert FREEZE_CONTROL not in active(bench)
    return asked(bench)[-1]


def counted_at_venue(bench: Bench) -> float:
    board = state_of(bench).metrics
    return board.counts[board._index[VENUE_TRIPS]]


def test_c12_a_trip_at_the_venue_holds_its_underlying_from_the_same_flush_on() -> None:
    bench = Bench().quoting()
    mark = len(bench.intents)
    tripped(bench)
    bench.engine.quotes.invalidate()
    bench.engine.decide(Ns(bench.now))
    bench.collect()
    bench.run(100)
    assert quotes_since(bench, mark) == []
    assert FREEZE_CONTROL in active(bench)
    assert resting(bench, "ETH") > 0, "other underlyings go on"
    (latch,) = latches(bench, FREEZE_CONTROL)
    assert (latch.scope, latch.permission) == (NAME, PRESETS["halt_quoting"].permission)
    assert (counted(bench, "C12"), counted_at_venue(bench)) == (1, 1)


def test_c12_nothing_is_reset_at_the_venue_before_a_person_has_lifted_it() -> None:
    bench = Bench().quoting()
    tripped(bench)
    bench.run(28, step_ms=1_000)
    bench.feed(OperatorReset(generation=2, scope=NAME))
    bench.run(20)
    assert FREEZE_CONTROL in active(bench), "not before thirty seconds"
    bench.run(600, step_ms=1_000)
    assert asked(bench) == []


def test_c12_quotes_come_back_with_the_venues_answer_to_the_reset_and_not_before() -> None:
    bench = Bench().quoting()
    tripped(bench)
    mark = len(bench.intents)
    reset = lifted(bench)
    assert reset.mmp_group == GROUP
    bench.run(50)
    assert asked(bench) == [reset], "one is on its way"
    assert quotes_since(bench, mark) == []
    answered(bench, reset)
    bench.run(10)
    assert quotes_since(bench, mark)
    assert resting(bench, NAME) > 0


def test_c12_a_reset_that_was_refused_lost_or_withheld_is_asked_for_again() -> None:
    bench = Bench().quoting()
    tripped(bench)
    mark = len(bench.intents)
    answered(bench, lifted(bench), RejectReason.MAINTENANCE)
    bench.run(20)
    assert len(asked(bench)) == 2
    answered(bench, asked(bench)[-1], RejectReason.UNKNOWN_OUTCOME)
    bench.run(20)
    assert len(asked(bench)) == 3
    bench.feed(Withheld(request_id=asked(bench)[-1].request_id, reason="latch"))
    bench.run(20)
    assert len(asked(bench)) == 4
    assert quotes_since(bench, mark) == []
    answered(bench, asked(bench)[-1])
    bench.run(10)
    assert quotes_since(bench, mark)


def test_c12_the_reset_waits_for_whatever_else_keeps_quotes_back() -> None:
    bench = Bench().quoting()
    tripped(bench)
    bench.feed(LatchChanged(generation=2, permission=HEDGE | REDUCE, tasks=0))
    bench.run(32, step_ms=1_000)
    bench.feed(OperatorReset(generation=3, scope=NAME))
    bench.run(50)
    assert FREEZE_CONTROL not in active(bench)
    assert asked(bench) == []
    bench.feed(LatchChanged(generation=4, permission=PERMISSION_ALL, tasks=0))
    bench.run(10)
    assert len(asked(bench)) == 1


def test_c12_a_timed_freeze_is_held_for_its_time_and_the_thirty_seconds_after() -> None:
    bench = Bench().quoting()
    tripped(bench, bench.now + 60 * NS)
    bench.run(85, step_ms=1_000)
    bench.feed(OperatorReset(generation=2, scope=NAME))
    bench.run(5)
    assert FREEZE_CONTROL in active(bench)
    assert asked(bench) == []
    bench.run(6, step_ms=1_000)
    bench.feed(OperatorReset(generation=3, scope=NAME))
    bench.run(5)
    assert len(asked(bench)) == 1


def test_c12_a_freeze_told_again_is_not_another_trip() -> None:
    bench = Bench().quoting()
    for _ in range(3):
        tripped(bench)
        bench.run(5)
    lifted(bench)
    tripped(bench)
    bench.run(20)
    assert FREEZE_CONTROL not in active(bench), "a person has lifted this one"
    assert (counted(bench, "C12"), counted_at_venue(bench)) == (1, 1)


def test_c12_quotes_refused_for_a_freeze_that_nobody_told_us_of_are_a_trip() -> None:
    for is_whole in (True, False):
        bench = Bench().quoting()
        bench.venue_answers = False
        mark = len(bench.intents)
        option = int(state_of(bench).option_ids[NAME][0])
        quote = bench.quotes()[-1]
        if is_whole:
            state_of(bench).working.register(quote, Ns(bench.now))
            bench.see(RequestDone(quote.request_id, RejectReason.MMP, 13_030, "", Ns(bench.now)))
        else:
            bench.see(QuoteSideFailed(quote.request_id, option, Side.BUY, RejectReason.MMP, 13_030))
        bench.run(20)
        assert [row for row in active(bench) if row == FREEZE_CONTROL]
        assert quotes_since(bench, mark) == []


def test_c12_a_freeze_found_at_the_start_is_held_before_the_first_quote() -> None:
    bench = Bench()
    bench.feed(bench.start)
    bench.feed(LatchChanged(generation=1, permission=PERMISSION_ALL, tasks=0))
    bench.feed(PermitChanged(deadline_ns=Ns(bench.now + NS_PER_DAY)))
    tripped(bench)
    bench.see(InstrumentsRead(0, bench.instruments))
    bench.quoting()
    assert resting(bench, "ETH") > 0
    assert quotes_since(bench, 0) == []
    assert FREEZE_CONTROL in active(bench)


def test_c12_a_group_that_is_not_ours_holds_nothing() -> None:
    bench = Bench().quoting()
    before = bench.engine.modes.halted.copy()
    bench.see(MmpTriggered("all", "", 0), MmpTriggered("btc_usd", "somebody", 0))
    bench.run(5)
    assert FREEZE_CONTROL not in active(bench)
    assert bench.engine.modes.halted == before


def test_a_freeze_is_part_of_the_digest() -> None:
    bench = Bench().quoting()
    state = state_of(bench)
    before = state.digest()
    state.freezes.on_frozen(GROUP, 0)
    assert state.digest() != before


def test_c12_a_trip_at_the_venue_survives_a_restart() -> None:
    bench = Bench().quoting()
    tripped(bench)
    bench.run(5)
    state = state_of(bench)
    again = Breaker(state.catalog, state.params)
    again.restore(state.breaker.checkpoint())
    assert (FREEZE_CONTROL, NAME) in [(row, place) for row, place, _ in again.active()]
