"""Every state control trips on its condition, acts at its level and resets by its rule."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest

from mm_daemon.core.breaker import Breaker, Effects
from mm_daemon.core.breaker_scan import REPEAT_INSTRUMENTS_MAX, ScanInputs, ScanResult
from mm_daemon.core.breaker_windows import FillWindow, LossWindow, RejectWindow
from mm_daemon.core.catalog import Catalog
from mm_daemon.core.controls import (
    CONTROLS,
    QUICK_CONTROLS,
    Action,
    Level,
    Reset,
    Sample,
    UnderlyingSample,
    number_of,
)
from mm_daemon.domain.metrics import CONTROLS as METRIC_CONTROLS
from mm_daemon.domain.permission import HEDGE, REDUCE, SWEEP
from mm_daemon.domain.units import NS_PER_DAY, NS_PER_MS, NS_PER_S, Ns, Side
from tests.core.account_params import params
from tests.core.account_world import CALL, CALL_FAR, EXPIRY_NEAR, PUT, T0, small_catalog

CATALOG = small_catalog()
SIZE = len(CATALOG)
EXPIRIES = len(CATALOG.expiries["BTC"])
HYSTERESIS_NS = 10 * NS_PER_S

CALM_UNDERLYING = UnderlyingSample(
    index_age_ns=0,
    index_divergence_bps=1.0,
    surface_age_ns=0,
    surface_rms_vp=0.3,
    model_age_ns=0,
    model_faults=0,
    theo_outside=(0.05,) * EXPIRIES,
    expiry_delta_coin=(0.0,) * EXPIRIES,
    expiry_delta_coin_max=4.0,
    own_loss_day_usd=0.0,
    own_loss_hour_usd=0.0,
    own_drawdown_usd=0.0,
    hedge_escalation=0,
    fills_lots=0,
    fills_delta_coin=0.0,
    fills_vega_usd=0.0,
    fills_drift=0.0,
    messages_per_fill=10.0,
    is_pulled_by_venue=False,
    streak=0,
    unknown_orders=0,
    unknown_age_ns=0,
    margin_use=0.2,
    margin_stop_ratio=0.7,
)
CALM = Sample(
    underlyings=(CALM_UNDERLYING,),
    rejects_10s=0,
    size_refusals_10s=0,
    clock_offset_ns=0,
    venue_offset_ns=0,
    loop_lag_ns=0,
    loop_lag_held_ns=0,
    journal_lag_ns=0,
    journal_failed=False,
    permit_age_ns=0,
    feed_silence_ns=0,
    sessions_ready=True,
    settings_confirmed=True,
    trading_lost_ns=0,
    reconcile_broken=False,
    reconcile_broken_ns=0,
    foreign_orders=0,
    newer_epoch_seen=False,
    loss_day_usd=0.0,
    loss_hour_usd=0.0,
    drawdown_usd=0.0,
    margin_reduce_ratios=(0.85,),
)


def sample(**changes: Any) -> Sample:
    """The calm sample with changes; names of the underlying's part go there."""
    own = {k: v for k, v in changes.items() if k in UnderlyingSample.__struct_fields__}
    rest = {k: v for k, v in changes.items() if k not in own}
    underlying = msgspec.structs.replace(CALM_UNDERLYING, **own)
    return msgspec.structs.replace(CALM, underlyings=(underlying,), **rest)


def at(seconds: float) -> Ns:
    return Ns(T0 + int(seconds * NS_PER_S))


BROKEN = {"reconcile_broken": True}
CASES: dict[str, list[dict[str, Any]]] = {
    "C3": [{"fills_drift": 1.01}, {"fills_drift": math.nan}],
    "C5": [{"margin_use": 0.86}, {"margin_use": math.nan}],
    "C5.stop": [{"margin_use": 0.71}, {"margin_use": math.nan}],
    "C10": [{"messages_per_fill": 2_001.0}],
    "C11": [
        {"loss_day_usd": 10_001.0},
        {"loss_hour_usd": 5_001.0},
        {"drawdown_usd": 8_001.0},
        {"loss_day_usd": math.nan},
    ],
    "C11.underlying": [
        {"own_loss_day_usd": 5_001.0},
        {"own_loss_hour_usd": 2_501.0},
        {"own_drawdown_usd": math.nan},
    ],
    "C12": [
        {"fills_lots": 201},
        {"fills_delta_coin": -20.1},
        {"fills_vega_usd": 20_001.0},
        {"fills_vega_usd": math.nan},
    ],
    "C12.streak": [{"streak": 6}, {"streak": -6}],
    "C12.venue": [{"is_pulled_by_venue": True}],
    "C13": [{"rejects_10s": 21}],
    "C13.size": [{"size_refusals_10s": 3}],
    "C14.index": [{"index_age_ns": 5_001 * NS_PER_MS}],
    "C14.surface": [{"surface_age_ns": 61 * NS_PER_S}, {"surface_rms_vp": math.nan}],
    "C14.theo_halt": [{"theo_outside": (0.31, 0.0)}],
    "C14.theo_widen": [{"theo_outside": (0.0, 0.16)}, {"theo_outside": (math.nan, 0.0)}],
    "C16": [{"index_divergence_bps": 50.1}, {"index_divergence_bps": math.nan}],
    "C17": [{"model_faults": 1}, {"model_age_ns": 121 * NS_PER_S}],
    "C17.repeated": [{"model_faults": 10}],
    "C18": [{"clock_offset_ns": -251 * NS_PER_MS}, {"venue_offset_ns": 251 * NS_PER_MS}],
    "C19": [
        {"sessions_ready": False},
        {"settings_confirmed": False},
        {"feed_silence_ns": 3_001 * NS_PER_MS},
    ],
    "C19.lasting": [{"trading_lost_ns": 11 * NS_PER_S}],
    "C20": [BROKEN],
    "C20.lasting": [{**BROKEN, "reconcile_broken_ns": 31 * NS_PER_S}],
    "C21": [{"unknown_orders": 51}, {"unknown_age_ns": 6 * NS_PER_S}],
    "C22": [{"loop_lag_held_ns": 251 * NS_PER_MS}, {"loop_lag_ns": 1_001 * NS_PER_MS}],
    "C23": [{"journal_failed": True}],
    "C23.lag": [{"journal_lag_ns": 1_001 * NS_PER_MS}],
    "C24.order": [{"permit_age_ns": 11 * NS_PER_S}],
    "C24.quote": [{"permit_age_ns": 4 * NS_PER_S}],
    "C25": [{"newer_epoch_seen": True}],
    "C28": [{"hedge_escalation": 2}],
    "C28.page": [{"hedge_escalation": 3}],
    "C28.widen": [{"hedge_escalation": 1}],
    "C30": [{"foreign_orders": 1}],
    "C34": [{"expiry_delta_coin": (0.0, -4.1)}, {"expiry_delta_coin": (math.nan, 0.0)}],
}
BY_ID = {control.id: control for control in CONTROLS}


def breaker() -> Breaker:
    return Breaker(CATALOG, params())


def test_every_row_has_a_case_and_a_number_of_the_published_table() -> None:
    assert list(CASES) == [control.id for control in CONTROLS]
    texts = [*((row.id, row.trigger) for row in CONTROLS)]
    texts += [(row.id, row.trigger) for row in QUICK_CONTROLS]
    for id_, trigger in texts:
        assert number_of(id_) in METRIC_CONTROLS
        assert trigger


def test_a_calm_desk_trips_nothing() -> None:
    effects = breaker().evaluate(CALM, T0)
    assert effects == Effects(
        halted=("",),
        frozen=("",),
        width=(1.0,),
        wide_expiries=((),),
        use_analytic=(False,),
        is_slow=(False,),
        is_adding_barred=(False,),
        blocked_expiries=((),),
        latches=(),
        tripped=(),
    )


@pytest.mark.parametrize(
    ("control_id", "changes"),
    [(control_id, case) for control_id, cases in CASES.items() for case in cases],
)
def test_control_trips_acts_and_resets_by_its_rule(
    control_id: str, changes: dict[str, Any]
) -> None:
    control = BY_ID[control_id]
    desk = breaker()
    effects = desk.evaluate(sample(**changes), T0)
    assert control_id in effects.tripped
    assert desk.counts[control_id] == 1
    assert _acts(control.level, control.action, effects, control_id, desk)
    hysteresis_s = 10.0 if control.hysteresis_s is None else control.hysteresis_s
    if hysteresis_s:
        still = desk.evaluate(CALM, at(hysteresis_s - 0.1))
        assert control_id in [row for row, _, _ in desk.active()]
        assert not any(latch.clear for latch in still.latches if latch.source == control_id)
    after = desk.evaluate(CALM, at(hysteresis_s + 0.1))
    is_active = control_id in [row for row, _, _ in desk.active()]
    cleared = [latch for latch in after.latches if latch.source == control_id]
    if control.reset is Reset.AUTO:
        assert not is_active
        assert [latch.clear for latch in cleared] == ([True] if control.is_latched else [])
    else:
        assert is_active
        assert cleared == []
        assert desk.reset(at(40.0)) == ()
        desk.evaluate(CALM, at(100.0))
        assert desk.active() == ()


def _acts(level: Level, action: Action, effects: Effects, control_id: str, desk: Breaker) -> bool:
    if action is Action.PAGE:
        return effects.halted == ("C28",) and effects.tripped[-1] == "C28.widen"
    if action is Action.HEDGE:
        return not any((effects.halted[0], *effects.blocked_expiries[0]))
    if action is Action.PULL_ADDING:
        return effects.is_adding_barred == (True,) and effects.halted in (("",), ("C5",))
    if action is Action.SLOW:
        return effects.is_slow == (True,) and effects.halted == ("",)
    if action is Action.FREEZE:
        return effects.halted == effects.frozen == (control_id,)
    if level in (Level.VENUE, Level.FIRM):
        latches = [latch for latch in effects.latches if latch.source == control_id]
        assert effects.halted[0].partition(".")[0] == control_id.partition(".")[0]
        if action is Action.PULL:
            return not latches
        (latch,) = latches
        assert action.mask is not None
        return (latch.permission, latch.tasks) == tuple(action.mask) and not latch.clear
    if action is Action.WIDEN and level is Level.EXPIRY:
        return len(effects.wide_expiries[0]) == 1 and effects.width == (1.0,)
    if action is Action.WIDEN:
        return effects.width[0] > 1.0
    if action is Action.FALL_BACK:
        return effects.use_analytic[0] and effects.width[0] > 1.0
    if action is Action.PULL_SIDE:
        result = scan(desk)
        return bool(result.blocked_bid.any()) != bool(result.blocked_ask.any())
    if level is Level.EXPIRY:
        return len(effects.blocked_expiries[0]) == 1 and effects.halted == ("",)
    scopes = [latch.scope for latch in effects.latches if latch.source == control_id]
    is_person = BY_ID[control_id].reset is not Reset.AUTO
    return effects.halted == (control_id,) and scopes == (["BTC"] if is_person else [])


def test_a_trip_latches_once_and_again_after_it_was_cleared() -> None:
    desk = breaker()
    bad = sample(loop_lag_ns=2 * NS_PER_S)
    seen = []
    for seconds, one in ((0, bad), (1, bad), (2, CALM), (20, CALM), (21, CALM), (22, bad)):
        effects = desk.evaluate(one, at(seconds))
        seen.append([latch.clear for latch in effects.latches])
    assert seen == [[False], [], [], [True], [], [False]]
    assert desk.counts["C22"] == 2


def test_the_latch_of_a_loss_is_hedge_only_and_of_a_dead_journal_sweeps() -> None:
    (loss,) = breaker().evaluate(sample(loss_day_usd=1e9), T0).latches
    assert (loss.permission, loss.tasks) == (REDUCE, 0)
    (journal,) = breaker().evaluate(sample(journal_failed=True), T0).latches
    assert (journal.permission, journal.tasks) == (0, SWEEP)
    (rejects,) = breaker().evaluate(sample(rejects_10s=99), T0).latches
    assert rejects.permission == HEDGE | REDUCE


def test_a_condition_that_still_holds_trips_again_after_a_reset() -> None:
    desk = breaker()
    bad = sample(foreign_orders=1)
    desk.evaluate(bad, T0)
    desk.reset(T0)
    effects = desk.evaluate(bad, at(1))
    assert effects.tripped == ("C30",)
    assert [latch.clear for latch in effects.latches] == [False]


def test_what_only_a_person_lifts_survives_a_restart_and_the_rest_does_not() -> None:
    desk = breaker()
    desk.evaluate(sample(fills_lots=500, index_age_ns=NS_PER_DAY), T0)
    for _ in range(8):
        fill(desk, CALL, Side.BUY, T0)
    again = breaker()
    again.restore(desk.checkpoint())
    assert sorted(row for row, _, _ in again.active()) == ["C12", "C7"]
    assert again.evaluate(CALM, at(1)).halted == ("C12",)


def test_a_restart_without_a_single_expiry_takes_over_what_a_person_must_lift() -> None:
    """After the last expiry of a listing the places by expiry are gone."""
    desk = breaker()
    desk.evaluate(sample(fills_lots=500), T0)
    futures = [one for one in CATALOG.instruments if not one.is_option]
    nothing = Catalog(
        tuple(msgspec.structs.replace(one, id=id_) for id_, one in enumerate(futures)),
        CATALOG.underlyings,
    )
    again = Breaker(nothing, params())
    again.restore(desk.checkpoint())
    assert [row for row, _, _ in again.active()] == ["C12"]


def test_a_reset_of_one_underlying_lifts_nothing_of_the_firm() -> None:
    desk = breaker()
    desk.evaluate(sample(fills_lots=500, loss_day_usd=20_000.0, rejects_10s=50), T0)
    assert sorted(row for row, _, _ in desk.active()) == ["C11", "C12", "C13"]
    assert desk.reset(at(60), scope="BTC") == ()
    assert sorted(row for row, _, _ in desk.active()) == ["C11", "C13"]
    assert desk.reset(at(60)) == ()
    assert desk.active() == ()


def scan(desk: Breaker, now: Ns = T0, **changes: Any) -> ScanResult:
    calm = ScanInputs(
        seen_ns=np.full(SIZE, now, dtype=np.int64),
        book_valid=np.ones(SIZE, dtype=np.bool_),
        is_open=np.ones(SIZE, dtype=np.bool_),
        theo=np.full(SIZE, 0.05),
        theo_sent=np.full(SIZE, 0.05),
        edge_sent=np.full(SIZE, 0.001),
        live_bid_lots=np.full(SIZE, 3, dtype=np.int64),
        live_ask_lots=np.full(SIZE, 3, dtype=np.int64),
    )
    return desk.scan(msgspec.structs.replace(calm, **changes), now)


def spoiled(field: str, value: Any) -> dict[str, Any]:
    base = {
        "seen_ns": np.full(SIZE, T0, dtype=np.int64),
        "book_valid": np.ones(SIZE, dtype=np.bool_),
        "is_open": np.ones(SIZE, dtype=np.bool_),
        "theo": np.full(SIZE, 0.05),
    }[field]
    base[PUT] = value
    return {field: base}


@pytest.mark.parametrize(
    ("field", "value", "row"),
    [
        ("seen_ns", T0 - 5_001 * NS_PER_MS, "C14.book"),
        ("book_valid", False, "C15"),
        ("is_open", False, "C27"),
    ],
)
def test_c14_c15_c27_an_instrument_that_may_not_be_quoted_is_pulled_alone(
    field: str, value: Any, row: str
) -> None:
    desk = breaker()
    result = scan(desk, **spoiled(field, value))
    assert np.flatnonzero(result.blocked_bid).tolist() == [PUT]
    assert result.pull_bid.tolist() == result.pull_ask.tolist() == [PUT]
    assert desk.counts[row] == 1
    scan(desk, **spoiled(field, value))
    assert desk.counts[row] == 1, "a lasting condition is one trip"


def test_c15_a_book_without_a_valid_state_is_pulled_and_comes_back_with_it() -> None:
    desk = breaker()
    assert scan(desk, **spoiled("book_valid", False)).blocked_bid[PUT]
    assert not scan(desk, at(0.1)).blocked_bid.any(), "a resynchronised book may be quoted at once"


def test_only_what_rests_is_pulled() -> None:
    lots = np.zeros(SIZE, dtype=np.int64)
    result = scan(breaker(), **spoiled("book_valid", False), live_bid_lots=lots)
    assert result.pull_bid.tolist() == []
    assert result.pull_ask.tolist() == [PUT]


def test_c14_a_book_that_was_too_old_stays_blocked_for_the_hysteresis_time() -> None:
    desk = breaker()
    scan(desk, **spoiled("seen_ns", 0))
    assert scan(desk, at(9.9)).blocked_bid.tolist().count(True) == 1
    assert not scan(desk, at(10.1)).blocked_bid.any()


@pytest.mark.parametrize(
    ("theo", "is_moved"), [(0.0504, False), (0.0506, True), (0.0494, True), (math.nan, True)]
)
def test_c14_a_quote_whose_theo_moved_by_half_its_edge_must_move(
    theo: float, is_moved: bool
) -> None:
    result = scan(breaker(), **spoiled("theo", theo))
    assert result.moved.tolist() == ([PUT] if is_moved else [])
    assert not result.blocked_bid.any(), "it may be quoted anew at once"


def test_c27_stops_before_expiry() -> None:
    desk = breaker()
    hour = Ns(EXPIRY_NEAR - 3_600 * NS_PER_S)
    assert not scan(desk, Ns(hour - 1)).blocked_bid.any()
    blocked = np.flatnonzero(scan(desk, hour).blocked_bid).tolist()
    near = [i.id for i in CATALOG.instruments if i.expiry_ns == EXPIRY_NEAR]
    assert blocked == near


def fill(desk: Breaker, id_: int, side: Side, now: Ns) -> None:
    desk.on_fill(id_, side, 2, lot_delta=0.05, lot_vega_usd=6.0, now_ns=now)


def test_c07_blocks_an_instrument_filled_too_often_until_a_person_resets() -> None:
    desk = breaker()
    for _ in range(7):
        fill(desk, CALL, Side.BUY, T0)
        fill(desk, CALL, Side.SELL, T0)
    assert not scan(desk).blocked_bid.any()
    fill(desk, CALL, Side.BUY, T0)
    assert np.flatnonzero(scan(desk).blocked_bid).tolist() == [CALL]
    assert scan(desk, at(3_600)).blocked_bid.any()
    desk.reset(T0, ("C7",))
    assert not scan(desk).blocked_bid.any()


def test_c07_fills_spread_over_time_do_not_trip() -> None:
    desk = breaker()
    for second in range(0, 200, 2):
        fill(desk, CALL, Side.BUY, at(second))
    assert not scan(desk, at(200)).blocked_bid.any()


def test_c07_on_many_instruments_halts_the_underlying() -> None:
    options = [i.id for i in CATALOG.instruments if i.is_option]
    assert len(options) > REPEAT_INSTRUMENTS_MAX
    desk = breaker()
    for id_ in options:
        for _ in range(8):
            fill(desk, id_, Side.BUY, T0)
    assert desk.evaluate(CALM, T0).halted == ("C7",)


def test_c12_a_run_of_buys_over_strikes_pulls_bids_only() -> None:
    desk = breaker()
    for k in range(6):
        fill(desk, (CALL, PUT)[k % 2], Side.BUY, T0)
    totals = desk.fills["BTC"].totals(T0)
    assert (totals.streak, totals.lots) == (6, 12)
    desk.evaluate(sample(streak=totals.streak), T0)
    result = scan(desk)
    assert result.blocked_bid.all()
    assert not result.blocked_ask.any()
    assert result.pull_ask.tolist() == []


def test_one_sided_fills_in_one_instrument_are_no_run_over_strikes() -> None:
    window = FillWindow(5 * NS_PER_S)
    for _ in range(9):
        window.add(CALL, Side.SELL, 1, lot_delta=0.05, lot_vega_usd=6.0, now_ns=T0)
    assert window.totals(T0).streak == 0
    window.add(PUT, Side.SELL, 1, lot_delta=-0.05, lot_vega_usd=6.0, now_ns=T0)
    assert window.totals(T0).streak == -10
    window.add(PUT, Side.BUY, 1, lot_delta=-0.05, lot_vega_usd=6.0, now_ns=T0)
    assert window.totals(T0).streak == 0


def test_c12_the_fill_window_sums_signed_greeks_and_slides() -> None:
    window = FillWindow(5 * NS_PER_S)
    window.add(CALL, Side.BUY, 10, lot_delta=0.05, lot_vega_usd=6.0, now_ns=T0)
    window.add(PUT, Side.SELL, 4, lot_delta=-0.05, lot_vega_usd=6.0, now_ns=at(3))
    totals = window.totals(at(4))
    assert totals.lots == 14
    assert totals.delta_coin == pytest.approx(0.7)
    assert totals.vega_usd == pytest.approx(36.0)
    assert window.totals(at(5)).lots == 4
    assert window.totals(at(9)).lots == 0


def test_c13_rejects_leave_their_window_after_ten_seconds() -> None:
    window = RejectWindow()
    for second in range(5):
        window.add(at(second))
    assert [window.count(at(s)) for s in (4, 10, 12.5, 20)] == [5, 4, 2, 0]


def test_c11_losses_are_counted_from_day_open_hour_best_and_peak() -> None:
    window = LossWindow()
    assert window.losses() == (0.0, 0.0, 0.0)
    day_open = Ns((T0 // NS_PER_DAY + 1) * NS_PER_DAY + 8 * 3_600 * NS_PER_S)
    window.add(900.0, Ns(day_open - NS_PER_S))
    for seconds, equity in ((0, 1_000.0), (600, 1_300.0), (1_200, 1_100.0)):
        window.add(equity, Ns(day_open + seconds * NS_PER_S))
    assert window.losses() == (-100.0, 200.0, 200.0)
    window.add(950.0, Ns(day_open + 4_300 * NS_PER_S))
    assert window.losses() == (50.0, 150.0, 350.0)
    window.add(math.nan, Ns(day_open + 4_301 * NS_PER_S))
    assert all(math.isnan(loss) for loss in window.losses())
    window.add(950.0, Ns(day_open + 4_302 * NS_PER_S))
    window.restart()
    assert window.losses()[2] == 0.0


DAY_OPEN = Ns((T0 // NS_PER_DAY + 1) * NS_PER_DAY + 8 * 3_600 * NS_PER_S)


def next_life(window: LossWindow) -> LossWindow:
    lost = window.checkpoint()
    assert lost is not None
    again = LossWindow()
    again.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(lost), type=type(lost)))
    return again


def lossy_day() -> LossWindow:
    """700 down since the open, 900 from the hour's best at 70 min, 1,000 from the peak at 0."""
    window = LossWindow()
    for minutes, equity in ((0, 10_000.0), (1, 10_300.0), (70, 10_200.0), (100, 9_300.0)):
        window.add(equity, Ns(DAY_OPEN + minutes * 60 * NS_PER_S))
    assert window.losses() == (700.0, 900.0, 1_000.0)
    return window


def after(minutes: float) -> Ns:
    return Ns(DAY_OPEN + int(minutes * 60 * NS_PER_S))


def test_c11_losses_go_on_over_a_restart_whatever_equity_is_measured_from() -> None:
    window = next_life(lossy_day())
    window.add(5.0, after(101))
    assert window.losses() == (700.0, 900.0, 1_000.0)
    window.add(-95.0, after(110))
    assert window.losses() == (800.0, 1_000.0, 1_100.0)
    window.add(-95.0, after(131))
    assert window.losses() == (800.0, 100.0, 1_100.0), "the best of the hour has left it"
    assert next_life(window).checkpoint() == window.checkpoint()


def test_c11_losses_go_on_over_lives_that_ended_before_their_first_equity() -> None:
    window = next_life(next_life(next_life(lossy_day())))
    window.add(math.nan, after(101))
    window = next_life(window)
    window.add(0.0, after(102))
    assert window.losses() == (700.0, 900.0, 1_000.0)


def test_c11_the_loss_of_an_earlier_day_ends_with_it_over_a_restart_too() -> None:
    window = next_life(lossy_day())
    window.add(0.0, Ns(DAY_OPEN + NS_PER_DAY))
    assert window.losses() == (0.0, 0.0, 1_000.0)
    window = next_life(lossy_day())
    window.add(0.0, Ns(DAY_OPEN + NS_PER_DAY - 1))
    assert window.losses() == (700.0, 0.0, 1_000.0)


def test_c11_an_equity_that_was_unknown_at_the_end_of_a_life_does_not_forgive_its_losses() -> None:
    window = lossy_day()
    window.add(math.nan, after(101))
    window = next_life(window)
    window.add(0.0, after(102))
    assert window.losses() == (700.0, 900.0, 1_000.0)


def test_c11_a_reset_forgives_what_an_earlier_life_lost_but_the_day() -> None:
    window = next_life(lossy_day())
    window.restart()
    window.add(0.0, after(102))
    assert window.losses() == (700.0, 0.0, 0.0)


def test_c14_an_expiry_that_disagrees_with_the_market_is_blocked_alone() -> None:
    desk = breaker()
    desk.evaluate(sample(theo_outside=(0.31, 0.0)), T0)
    result = scan(desk)
    assert result.blocked_bid[CALL]
    assert not result.blocked_bid[CALL_FAR]
    assert not result.pull_bid.tolist().count(CALL_FAR)


def test_equal_histories_have_equal_digests() -> None:
    first, second = breaker(), breaker()
    for desk in (first, second):
        desk.evaluate(sample(rejects_10s=99), T0)
        scan(desk)
    assert first.digest() == second.digest()
    fill(second, CALL, Side.BUY, T0)
    assert first.digest() != second.digest()
