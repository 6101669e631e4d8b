"""A restart takes over what the ledger holds, and what it holds stays small.

After an expiry, what was held of options the venue lists no more is found again.
"""

from __future__ import annotations

import msgspec
import pytest

from mm_daemon.core import warm_up
from mm_daemon.core.absent_listings import ASK_AGAIN_NS, READINGS_MAX, AbsentListings
from mm_daemon.core.catalog import Catalog
from mm_daemon.core.engine import Engine
from mm_daemon.core.fill_keys import FRESH_MAX, FillKeys
from mm_daemon.core.holding import Holding
from mm_daemon.core.outbox import Outbox
from mm_daemon.core.portfolio import Booking
from mm_daemon.core.recovery import (
    ALL_KEYS_NS,
    CHECKPOINT_BYTES_MAX,
    CHECKPOINT_NS,
    KEYS_PER_RECORD,
    Checkpoints,
    Saved,
    book_known,
    checkpoint,
    restore,
)
from mm_daemon.core.state import EngineState
from mm_daemon.domain.codec import encode_ledger
from mm_daemon.domain.events import FillUnplaced
from mm_daemon.domain.intents import ReadInstruments
from mm_daemon.domain.orders import VenueStatus
from mm_daemon.domain.outputs import CheckpointRecord, FillRecord, KeysRecord, Log, Output
from mm_daemon.domain.units import NS_PER_DAY, NS_PER_S, Lots, Ns, Side
from tests.core.account_world import order_evidence
from tests.core.control_bench import NAME, state_of
from tests.node.engine_world import Bench


def record_of(bench: Bench, instrument_id: int, trade_id: str, lots: int) -> FillRecord:
    fill = msgspec.structs.replace(
        warm_up._fill(bench.instruments, Ns(bench.now)),
        trade_id=trade_id,
        instrument_id=instrument_id,
        side=Side.BUY,
        lots=Lots(lots),
    )
    name = bench.instruments[instrument_id].name
    return FillRecord(instrument=name, fill=fill, theo_at_decision=0.05, theo_at_fill=0.05)


def reborn(bench: Bench, listed: int, tail: list[FillRecord]) -> EngineState:
    """The next life over the first `listed` instruments, with these fills on the ledger."""
    state = state_of(bench)
    start = msgspec.structs.replace(
        bench.start,
        checkpoint=checkpoint(state).state,
        ledger_tail=msgspec.msgpack.encode(tail),
    )
    catalog = Catalog(bench.instruments[:listed], state.catalog.underlyings)
    again = EngineState(start, catalog, state.modes, Outbox(1))
    restore(again, start)
    return again


def test_position_and_fills_of_an_ended_option_wait_for_its_terms_and_are_booked_once() -> None:
    bench = Bench().quoting()
    listed = len(bench.instruments) - 2
    held = record_of(bench, listed, "t1", 3)
    state_of(bench).portfolio.book(held.fill)
    tail = [record_of(bench, listed + 1, "t2", 2), record_of(bench, 0, "t3", 1), held]
    again = reborn(bench, listed, tail)
    portfolio = again.portfolio
    assert portfolio.position_lots[0] == 1
    assert [fill.trade_id for fill in portfolio.parked] == ["t2"]
    question = again.absent.poll(again.outbox, Ns(bench.now))
    assert isinstance(question, ReadInstruments)
    assert set(question.ended) == {one.name for one in bench.instruments[listed:]}
    assert portfolio.read_from_ns(held.fill.fee_currency) == held.fill.ts_venue_ns
    again.grow(Catalog(bench.instruments, again.catalog.underlyings))
    book_known(again)
    book_known(again)
    assert portfolio.position_lots[listed:].tolist() == [3, 2]
    assert portfolio.parked == []
    assert portfolio.orphans == {}
    assert again.absent.poll(again.outbox, Ns(bench.now + ASK_AGAIN_NS)) is None


def lived_again(saved: bytes) -> EngineState:
    """The next life from this checkpoint, brought to quoting."""
    again = Bench()
    again.start = msgspec.structs.replace(again.start, checkpoint=saved, ledger_tail=b"\x90")
    again.engine = Engine(again.start)
    return state_of(again.quoting())


def test_c11_a_restart_opens_no_fresh_allowance_for_losses() -> None:
    bench = Bench().quoting()
    state = state_of(bench)
    own, firm = state.breaker.losses_of[NAME], state.breaker.losses
    for window in (own, firm):
        window.add(window._now - 1_000.0, Ns(bench.now))
    again = lived_again(checkpoint(state).state)
    for window in (again.breaker.losses, again.breaker.losses_of[NAME]):
        assert window.losses() == pytest.approx((1_000.0,) * 3, abs=1.0)
    assert again.breaker.losses_of["ETH"].losses() == pytest.approx((0.0,) * 3, abs=1.0)


def test_a_checkpoint_that_keeps_no_losses_is_restored_as_ever() -> None:
    bench = Bench().quoting()
    saved = msgspec.msgpack.decode(checkpoint(state_of(bench)).state, type=Saved)
    old = msgspec.msgpack.encode(msgspec.structs.replace(saved, accounting=b""))
    again = lived_again(old)
    assert again.breaker.losses.losses() == pytest.approx((0.0,) * 3, abs=1.0)


def test_names_are_asked_for_at_once_and_then_at_a_pace() -> None:
    absent, outbox = AbsentListings(), Outbox(1)
    assert absent.poll(outbox, Ns(5 * NS_PER_S)) is None
    absent.want("BTC-1JAN26-50000-C")
    assert absent.poll(outbox, Ns(5 * NS_PER_S)) is not None
    assert absent.poll(outbox, Ns(6 * NS_PER_S)) is None
    absent.want("BTC-1JAN26-50000-C")
    assert absent.poll(outbox, Ns(7 * NS_PER_S)) is None
    absent.want("BTC-1JAN26-60000-C")
    again = absent.poll(outbox, Ns(8 * NS_PER_S))
    assert again is not None
    assert len(again.ended) == 2
    assert absent.poll(outbox, Ns(8 * NS_PER_S + ASK_AGAIN_NS)) is not None


def test_a_name_that_whole_readings_do_not_have_is_given_up_aloud() -> None:
    bench = Bench().quoting()
    catalog = state_of(bench).catalog
    absent, outbox = AbsentListings(), Outbox(1)
    absent.want("BTC-1JAN20-50000-C")
    now = 5 * NS_PER_S
    for reading in range(READINGS_MAX):
        assert absent.is_asked("BTC-1JAN20-50000-C"), reading
        question = absent.poll(outbox, Ns(now))
        assert question is not None
        assert absent.poll(outbox, Ns(now + 1)) is None
        outbox.take_outputs()
        absent.on_read(question.request_id + 1_000, catalog, outbox)
        absent.on_read(question.request_id, catalog, outbox)
        absent.on_read(question.request_id, catalog, outbox)
        now += ASK_AGAIN_NS
        # A question that failed is no reading.
        assert (absent.poll(outbox, Ns(now)) is None) == (reading == READINGS_MAX - 1)
        now += ASK_AGAIN_NS
    told = [one for one in outbox.take_outputs() if isinstance(one, Log)]
    assert [one.event for one in told] == ["instruments_given_up"]
    assert "adopt" in str(told[0].fields["act"])
    absent.want("BTC-1JAN20-50000-C")
    assert absent.poll(outbox, Ns(now)) is None, "nor is it asked for again"
    absent.want("BTC-1JAN20-60000-C")
    question = absent.poll(outbox, Ns(now))
    assert question is not None
    assert question.ended == ("BTC-1JAN20-60000-C",)


def test_options_that_are_flat_again_do_not_outlive_their_session() -> None:
    """The venue forgets their terms; nothing would ever find them."""
    bench = Bench().quoting()
    listed = len(bench.instruments) - 2
    portfolio = state_of(bench).portfolio
    bought = record_of(bench, listed, "t1", 3).fill
    sold = msgspec.structs.replace(
        bought, trade_id="t2", side=Side.SELL, price_e8=2 * bought.price_e8
    )
    for fill in (bought, sold):
        assert portfolio.book(fill) is Booking.APPLIED
    assert portfolio.holding(listed).realized_e18 > 0
    assert bench.instruments[listed].name.encode() not in portfolio.checkpoint()
    again = reborn(bench, listed, [])
    assert again.portfolio.orphans == {}
    assert again.absent.poll(again.outbox, Ns(bench.now)) is None
    assert again.portfolio.cash_e8 == portfolio.cash_e8, "what it made is in the cash"


def test_what_is_parked_stays_in_sight_over_a_restart() -> None:
    bench = Bench().quoting()
    portfolio = state_of(bench).portfolio
    waits = FillUnplaced("u1", "o9", "BTC-1JAN20-50000-C", bench.now - NS_PER_S, "recon")
    assert portfolio.park_unplaced(waits)
    newer = record_of(bench, 0, "t1", 1).fill
    portfolio.book(newer)
    portfolio.forget_keys(Ns(bench.now + 5 * NS_PER_DAY))
    assert portfolio.keys.from_ns <= waits.ts_venue_ns, "once listed, it can still be booked"
    again = reborn(bench, len(bench.instruments), [])
    assert again.portfolio.parked == [waits]
    assert again.absent.is_asked(waits.instrument)
    assert again.portfolio.read_from_ns(newer.fee_currency) == waits.ts_venue_ns


def test_books_without_a_fill_are_read_from_their_opening() -> None:
    bench = Bench().quoting()
    portfolio = state_of(bench).portfolio
    assert portfolio.newest_fill_ns == {}
    opened_ns = portfolio.read_from_ns("BTC")
    assert opened_ns is not None
    assert 0 < opened_ns <= bench.now


class Saving:
    """Checkpoints of books that hold a number of trades."""

    def __init__(self, trades: int) -> None:
        self.state = state_of(Bench().quoting())
        self.keys = self.state.portfolio.keys
        self.now_ns = self.keys.from_ns
        self.checkpoints = Checkpoints(self.state)
        self.told = 0
        self.trade(trades)
        self.state.outbox.take_outputs()

    def trade(self, count: int) -> None:
        for _ in range(count):
            self.told += 1
            key = ("BTC", f"BTC-{400_000_000 + self.told}", f"BTC-{9_000_000_000 + self.told}", "")
            self.keys.add(key, self.now_ns, 1)

    def poll(self, after_ns: int = 0) -> list[Output]:
        self.now_ns += after_ns
        self.checkpoints.poll(Ns(self.now_ns))
        return self.state.outbox.take_outputs()


def test_keys_are_written_some_at_a_time_and_the_checkpoint_follows_the_last() -> None:
    saving = Saving(2 * KEYS_PER_RECORD + 5)
    (first,) = saving.poll()
    saving.trade(2)
    (second,) = saving.poll()
    third, saved = saving.poll()
    written = [one for one in (first, second, third) if isinstance(one, KeysRecord)]
    assert [one.is_first for one in written] == [True, False, False]
    assert [len(one.trades) for one in written] == [KEYS_PER_RECORD, KEYS_PER_RECORD, 5]
    assert isinstance(saved, CheckpointRecord)
    assert saved.trades == saving.keys.saved()[-2:], "what came while they were written"
    assert saving.poll() == []


def test_a_checkpoint_tells_of_new_trades_alone_until_all_keys_are_due() -> None:
    saving = Saving(3)
    assert len(saving.poll()) == 2
    saving.trade(4)
    (saved,) = saving.poll(CHECKPOINT_NS)
    assert isinstance(saved, CheckpointRecord)
    assert saved.trades == saving.keys.saved()[-4:]
    (saved,) = saving.poll(CHECKPOINT_NS)
    assert isinstance(saved, CheckpointRecord)
    assert saved.trades == []
    keys, saved = saving.poll(ALL_KEYS_NS)
    assert keys == KeysRecord(is_first=True, trades=saving.keys.saved())
    saving.trade(FRESH_MAX + 1)
    keys, *_ = saving.poll(CHECKPOINT_NS)
    assert isinstance(keys, KeysRecord), "more than a checkpoint tells of"


def test_no_record_of_a_day_of_fifty_thousand_trades_is_large() -> None:
    saving = Saving(50_000)
    records: list[Output] = []
    while not (records and isinstance(records[-1], CheckpointRecord)):
        records += saving.poll()
    kept = [one for one in records if isinstance(one, KeysRecord | CheckpointRecord)]
    assert len(kept) == 51
    assert max(len(encode_ledger(one)) for one in kept) < 64 << 10
    saving.trade(FRESH_MAX)
    (saved,) = saving.poll(CHECKPOINT_NS)
    assert isinstance(saved, CheckpointRecord)
    assert len(encode_ledger(saved)) < 64 << 10


def test_a_checkpoint_too_large_is_said_and_its_trades_wait_for_the_next() -> None:
    saving = Saving(3)
    saving.poll()
    saving.trade(2)
    name = "X" * (CHECKPOINT_BYTES_MAX + 1)
    saving.state.portfolio.orphans[name] = Holding(lots=1)
    (line,) = saving.poll(CHECKPOINT_NS)
    assert isinstance(line, Log)
    assert (line.level, line.event) == ("critical", "checkpoint_too_large")
    del saving.state.portfolio.orphans[name]
    (saved,) = saving.poll(CHECKPOINT_NS)
    assert isinstance(saved, CheckpointRecord)
    assert saved.trades == saving.keys.saved()[-2:]


def test_a_restart_knows_the_trades_of_keys_and_checkpoints_and_books_none_again() -> None:
    bench = Bench().quoting()
    state = state_of(bench)
    held = record_of(bench, 0, "t1", 3)
    state.portfolio.book(held.fill)
    saved = checkpoint(state, trades=[])
    keys = KeysRecord(is_first=True, trades=state.portfolio.keys.saved())
    tail = [keys, held, record_of(bench, 0, "t2", 2)]
    start = msgspec.structs.replace(
        bench.start, checkpoint=saved.state, ledger_tail=msgspec.msgpack.encode(tail)
    )
    again = EngineState(start, state.catalog, state.modes, Outbox(1))
    restore(again, start)
    assert again.portfolio.position_lots[0] == 5
    assert again.portfolio.keys.lots_of(held.fill.order_id) == 5
    ended = order_evidence(
        held.fill.order_id, 0, held.fill.side, VenueStatus.CANCELLED, 50, 0, ts=0, filled=5
    )
    again.working.on_order(ended, Ns(0))
    waiting = int(again.working.worst_buy_lots[0] + again.working.worst_sell_lots[0])
    assert waiting == 0, "nothing of the order is still to be booked"


def test_a_trade_told_late_is_known_as_long_as_the_younger_ones_before_it() -> None:
    keys = FillKeys()
    for trade_id, ts_ns in (("young", 20), ("late", 5), ("younger", 30)):
        keys.add(("BTC", trade_id, "o1", ""), ts_ns, 1)
    keys.forget(10)
    assert ("BTC", "late", "o1", "") in keys
    keys.forget(25)
    assert [key[1] for key, _, _ in keys.saved()] == ["younger"]
    assert keys.lots_of("o1") == 1
    keys.forget(40)
    assert keys.lots_of("o1") == 0


def test_two_waived_trades_of_one_order_are_forgotten() -> None:
    keys = FillKeys()
    for trade_id in ("1", "2"):
        keys.waive(FillUnplaced(trade_id, "o1", "X", ts_venue_ns=5, source="reconcile"))
    keys.forget(10)
    assert keys.saved() == []
