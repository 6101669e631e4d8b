"""The choice of quotes: against a brute-force reference, its invariants, its reasons."""

from __future__ import annotations

import itertools
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_daemon.core.knobs import Knobs
from mm_daemon.core.market import Market
from mm_daemon.core.quote_kernel import IMPROVE_STEPS_MAX, KEEP_EDGE_SHARE
from mm_daemon.core.quote_terms import L_LEAN, LAST_QUOTED, CostMatrices, LiveColumns, Reason
from mm_daemon.core.quoter import Quoter
from mm_daemon.core.theo import DELTA, PRICE, VEGA, VOL, TheoBoard
from mm_daemon.domain.events import BookLost, InstrumentStateChanged, TickerSeen
from mm_daemon.domain.inputs import TraderKnob
from mm_daemon.domain.instruments import Lifecycle
from mm_daemon.domain.units import NS_PER_DAY, NS_PER_S, Ns, Ticks
from tests.core.chain_world import (
    FORWARD,
    NOW,
    OPTION_GRID,
    board,
    book_event,
    catalog,
    costs,
    live,
    quoted_market,
    quoter,
)

WORLD = catalog(days=(30.0,), strikes=5)
CHAIN = catalog(days=(2.0, 7.0, 30.0, 90.0), strikes=41, step=1_000.0)
ATM_CALL = 6
ONE = np.array([ATM_CALL], dtype=np.int64)


def only(*ids: int) -> np.ndarray:
    mask = np.zeros(len(WORLD), dtype=np.bool_)
    mask[list(ids)] = True
    return mask


class Desk:
    """One option with everything a choice needs, each part replaceable."""

    def __init__(self, theo: float, bid: int, ask: int, amount: float = 5.0) -> None:
        self.theo = board(WORLD)
        self.theo.columns[PRICE, ATM_CALL] = theo
        self.market = Market(WORLD)
        self.market.on_event(book_event(WORLD, ATM_CALL, bid, ask, amount), NOW)
        self.costs = costs(WORLD)
        self.rests = live(WORLD)
        self.quoter = quoter(WORLD)

    def choose(self, now_ns: Ns = NOW, **options: float) -> Quoter:
        self.quoter.choose(
            ONE,
            self.market.touch,
            self.rests,
            self.rests,
            self.costs,
            self.theo,
            now_ns,
            **options,
        )
        return self.quoter

    def rest(self, row: int, ticks: int, lots: int) -> None:
        names = ("bid_ticks", "bid_lots") if row == 0 else ("ask_ticks", "ask_lots")
        getattr(self.rests, names[0])[ATM_CALL] = ticks
        getattr(self.rests, names[1])[ATM_CALL] = lots

    def side(self, row: int) -> tuple[int, int, Reason]:
        wanted = self.quoter.wanted
        return (
            int(wanted.ticks[row, ATM_CALL]),
            int(wanted.lots[row, ATM_CALL]),
            Reason(int(wanted.reason[row, ATM_CALL])),
        )


def brute_force(desk: Desk, row: int, lots: int = 10) -> int:
    """The most valuable tick of one side by trying all of them, written without the kernel."""
    theo = float(desk.theo.price[ATM_CALL])
    touch = desk.market.touch.ticks
    bid, ask = int(touch[0, ATM_CALL]), int(touch[1, ATM_CALL])
    sign = 1 if row == 0 else -1
    vega = float(desk.theo.vega[ATM_CALL]) / FORWARD
    step_price = 0.0005 if theo > 0.005 else 0.0001
    half_max = max(4 * step_price, 0.04 * vega)
    middle, half = theo, min(half_max, max(step_price, 0.02 * vega))
    if bid and ask and (ask - bid) * 0.00005 <= half_max:
        middle, half = (bid + ask) * 0.00005, (ask - bid) * 0.00005
    ln_a, k, adverse = (float(desk.costs.intensity[j, row, ATM_CALL]) for j in range(3))
    lean = float(desk.costs.lean[L_LEAN, ATM_CALL])
    cap = 2.0 * half / k
    if sign * lean > cap:
        return 0
    lean = max(-cap, min(lean, cap))
    edge_min = 0.2 * step_price
    own_touch, other = (bid, ask) if sign > 0 else (ask, bid)
    if sign * (middle - own_touch * 0.0001) > 3.0 * half:
        own_touch = 0
    if other:
        theo = min(theo, other * 0.0001) if sign > 0 else max(theo, other * 0.0001)
    amount = lots * 0.1
    best, best_value, behind = 0, 0.0, 0
    ticks = range(3000, 0, -1) if sign > 0 else range(1, 3000)
    reach = own_touch + sign * IMPROVE_STEPS_MAX * (5 if own_touch > 50 else 1)
    for tick in ticks:
        if not OPTION_GRID.is_legal(tick) or (other and sign * (other - tick) <= 0):
            continue
        if own_touch and sign * (reach - tick) < 0:
            continue
        price = tick * 0.0001
        net = sign * (theo - price) - min(0.0003, 0.125 * price) - adverse * half - sign * lean
        if net < edge_min:
            continue
        is_behind = not own_touch or sign * (own_touch - tick) >= 0
        queue = 5.0 if own_touch and is_behind else 0.0
        fills = math.exp(ln_a - k * sign * (middle - price) / half)
        value = fills * net * amount / (amount + queue)
        if best == 0 or value > best_value:
            best, best_value = tick, value
        behind += is_behind
        if behind > 4:
            break
    return best


MARKETS = st.tuples(
    st.floats(0.0003, 0.08),
    st.integers(-6, 6),
    st.integers(1, 8),
    st.floats(-0.0008, 0.0008),
    st.floats(0.0, 6.0),
    st.floats(0.3, 4.0),
    st.floats(-0.2, 1.0),
)


def desk_of(drawn: tuple[float, int, int, float, float, float, float]) -> Desk:
    theo, shift, wide, lean, ln_a, k, adverse = drawn
    bid = int(OPTION_GRID.floor(theo)) + shift * (5 if theo > 0.005 else 1)
    bid = max(int(OPTION_GRID.floor(OPTION_GRID.price(bid))), 0)
    ask = bid
    for _ in range(wide):
        ask = OPTION_GRID.up(ask)
    desk = Desk(theo, bid, ask)
    desk.costs = costs(WORLD, ln_a, k, adverse)
    desk.costs.lean[L_LEAN, ATM_CALL] = lean
    return desk


@given(MARKETS)
@settings(max_examples=250)
def test_choice_is_the_best_legal_tick_of_a_brute_force_search(
    drawn: tuple[float, int, int, float, float, float, float],
) -> None:
    desk = desk_of(drawn)
    desk.choose()
    wants = [desk.side(row)[0] for row in (0, 1)]
    expected = [brute_force(desk, row) for row in (0, 1)]
    if expected[0] and expected[1] and expected[0] >= expected[1]:
        assert sum(want == 0 for want in wants) == 1
        return
    assert wants == expected


@given(MARKETS)
@settings(max_examples=150)
def test_quotes_are_legal_uncrossed_and_earn_the_minimum_edge(
    drawn: tuple[float, int, int, float, float, float, float],
) -> None:
    desk = desk_of(drawn)
    desk.choose()
    wanted, touch = desk.quoter.wanted, desk.market.touch.ticks
    bid, ask = (desk.side(row)[0] for row in (0, 1))
    for row, ticks in enumerate((bid, ask)):
        assert (ticks == 0) == (desk.side(row)[1] == 0) == (desk.side(row)[2] > LAST_QUOTED)
        if ticks:
            assert OPTION_GRID.is_legal(ticks)
            step = 0.0005 if drawn[0] > 0.005 else 0.0001
            assert wanted.money[2, row, ATM_CALL] / FORWARD >= 0.2 * step - 1e-12
            assert wanted.money[0, row, ATM_CALL] > 0.0
    if bid and touch[1, ATM_CALL]:
        assert bid < touch[1, ATM_CALL]
    if ask and touch[0, ATM_CALL]:
        assert ask > touch[0, ATM_CALL]
    if bid and ask:
        assert bid < ask


@given(st.floats(0.02, 0.03), st.integers(1, 4), st.floats(-0.0003, 0.0003))
@settings(max_examples=60)
def test_bid_and_ask_mirror_each_other_when_the_world_is_mirrored(
    middle: float, half_steps: int, offset: float
) -> None:
    """Above the fee's cap and on one tick size, mirroring prices must mirror the choice."""
    center = round(middle / 0.0005) * 5
    theo = center * 0.0001 + offset
    mirrored = center * 0.0001 - offset
    first = Desk(theo, center - 5 * half_steps, center + 5 * half_steps)
    second = Desk(mirrored, center - 5 * half_steps, center + 5 * half_steps)
    lean = 0.3 * offset
    for desk in (first, second):
        # No candidate's edge equals the minimum exactly, where rounding would decide.
        desk.costs.intensity[2] = 0.1234567
    first.costs.lean[L_LEAN, ATM_CALL] = lean
    second.costs.lean[L_LEAN, ATM_CALL] = -lean
    first.choose()
    second.choose()
    for row in (0, 1):
        ticks, lots, reason = first.side(row)
        other_ticks, other_lots, other_reason = second.side(1 - row)
        assert (lots, reason) == (other_lots, other_reason)
        value = first.quoter.wanted.money[0, row, ATM_CALL]
        other_value = second.quoter.wanted.money[0, 1 - row, ATM_CALL]
        assert value == pytest.approx(other_value, rel=1e-9)
        # Two candidates may be worth the same; then rounding picks, and values are all there is.
        if ticks and abs(ticks - center) != abs(other_ticks - center):
            assert _is_tie(first, row, ticks) or _is_tie(second, 1 - row, other_ticks)


def _is_tie(desk: Desk, row: int, ticks: int) -> bool:
    """Whether another candidate is worth what the chosen one is."""
    made = desk.quoter.explain(
        ATM_CALL, desk.market.touch, desk.rests, desk.rests, desk.costs, desk.theo, NOW
    )
    side = (made.bid, made.ask)[row]
    values = [c["value_usd_per_hour"] for c in side.candidates if c["ticks"] != ticks]
    return any(math.isclose(value, side.value_usd_per_hour, rel_tol=1e-9) for value in values)


@given(st.floats(0.01, 0.06), st.integers(1, 6))
@settings(max_examples=40)
def test_more_inventory_never_raises_a_quote(theo: float, wide: int) -> None:
    bids, asks = [], []
    for lean in np.linspace(-0.01, 0.01, 41):
        desk = desk_of((theo, 0, wide, float(lean), 3.0, 1.5, 0.1))
        desk.choose()
        bid, ask = desk.side(0)[0], desk.side(1)[0]
        bids.append(bid)
        asks.append(ask or -1)
    assert all(before >= after for before, after in itertools.pairwise(bids))
    shown = [ask for ask in asks if ask > 0]
    assert all(before >= after for before, after in itertools.pairwise(shown))
    # Short of everything (negative lean) the ask goes first, long of everything the bid.
    assert asks[0] == -1
    assert bids[-1] == 0


def test_lean_beyond_the_cap_quotes_one_side_and_says_why() -> None:
    desk = Desk(0.0250, 245, 255)
    desk.costs.lean[L_LEAN, ATM_CALL] = 0.01
    desk.choose()
    assert desk.side(0)[2] is Reason.LEAN_CAP
    assert desk.side(1)[2] <= LAST_QUOTED


@pytest.mark.parametrize(
    ("break_it", "expected"),
    [
        (lambda d: d.market.on_event(BookLost(ATM_CALL, "gap"), NOW), Reason.BOOK_INVALID),
        (
            lambda d: d.market.on_event(
                InstrumentStateChanged(ATM_CALL, "x", Lifecycle.HALTED, 1), NOW
            ),
            Reason.NOT_OPEN,
        ),
        (lambda d: d.theo.columns.__setitem__((PRICE, ATM_CALL), np.nan), Reason.NO_THEO),
        (lambda d: d.theo.columns.__setitem__((VEGA, ATM_CALL), np.inf), Reason.NO_THEO),
        (lambda d: d.costs.lean.__setitem__((0, ATM_CALL), np.nan), Reason.NO_THEO),
        (
            lambda d: d.costs.intensity.__setitem__((1, 0, ATM_CALL), np.nan),
            Reason.NO_INTENSITY,
        ),
        (lambda d: d.quoter.set_blocked(only(ATM_CALL), only()), Reason.HELD),
        (
            lambda d: (d.quoter.set_unfitted(ONE), d.quoter.set_blocked(only(), only())),
            Reason.NO_SLICE,
        ),
        (lambda d: d.theo.columns.__setitem__((PRICE, ATM_CALL), 0.00005), Reason.NO_PRICE),
    ],
)
def test_refuses_the_bid_with_its_reason(break_it, expected: Reason) -> None:  # type: ignore[no-untyped-def]
    desk = Desk(0.0250, 245, 255)
    break_it(desk)
    desk.choose()
    assert desk.side(0) == (0, 0, expected)


def test_stops_before_expiry_and_beyond_the_longest_expiry() -> None:
    desk = Desk(0.0250, 245, 255)
    expiry_ns = WORLD.instruments[ATM_CALL].expiry_ns
    desk.choose(Ns(expiry_ns - 3600 * NS_PER_S))
    assert desk.side(0)[2] is Reason.EXPIRY_NEAR
    desk.choose(Ns(expiry_ns - 3600 * NS_PER_S - 1))
    assert desk.side(0)[2] <= LAST_QUOTED
    desk.choose(Ns(expiry_ns - 401 * NS_PER_DAY))
    assert desk.side(0)[2] is Reason.EXPIRY_FAR


def test_fee_forbids_the_touch_and_the_quote_stands_behind_it() -> None:
    """A two-tick market around theo: half a tick of edge cannot pay three ticks of fee."""
    desk = Desk(0.0040, 39, 41)
    desk.costs = costs(WORLD, 4.0, 1.5, 0.0)
    desk.choose()
    ticks, _, reason = desk.side(0)
    assert reason is Reason.BEHIND_FEE
    assert ticks == 36


def test_fee_is_capped_at_an_eighth_of_a_small_premium() -> None:
    """At 0.0004 the fee is 0.00005, not 0.0003: the bid one tick under theo stands."""
    desk = Desk(0.0004, 2, 6)
    desk.costs = costs(WORLD, 4.0, 1.5, 0.0)
    desk.choose()
    assert desk.side(0)[0] == 3


def test_theo_beyond_the_market_is_believed_up_to_the_market_alone() -> None:
    """A theo of 0.0300 over an ask at 0.0255 buys no dearer than one of 0.0255 does."""
    beyond, level = Desk(0.0300, 245, 255), Desk(0.0255, 245, 255)
    beyond.choose()
    level.choose()
    assert 0 < beyond.side(0)[0] <= level.side(0)[0] < 255
    assert beyond.side(1)[0] >= 300


def test_stub_bid_far_below_theo_is_not_the_touch() -> None:
    """With a bid at one tick and no real market, the bid stands near theo, not near the stub."""
    desk = Desk(0.0250, 1, 0)
    desk.choose()
    assert desk.side(0)[0] > 200


def test_own_quotes_are_not_the_market() -> None:
    """Our own bid alone at the top is taken out: the touch is the level below it."""
    desk = Desk(0.0250, 245, 255, amount=1.0)
    desk.rest(0, 245, 10)
    desk.rest(1, 255, 4)
    desk.choose()
    explained = desk.quoter.explain(
        ATM_CALL, desk.market.touch, desk.rests, desk.rests, desk.costs, desk.theo, NOW
    )
    assert explained.bid.touch_ticks == 240
    assert (explained.ask.touch_ticks, explained.ask.touch_amount) == (255, pytest.approx(0.6))


def test_alone_at_the_touch_we_do_not_outbid_ourselves() -> None:
    desk = Desk(0.0250, 240, 260, amount=0.001)
    desk.choose()
    first = desk.side(0)[:2]
    again = Desk(0.0250, first[0], 260, amount=first[1] * 0.1)
    again.rest(0, *first)
    again.choose()
    assert 0 < again.side(0)[0] <= first[0]


def test_quote_stays_when_moving_gains_less_than_it_costs() -> None:
    desk = Desk(0.0250, 245, 255)
    desk.choose()
    ticks, lots, _ = desk.side(0)
    desk.rest(0, ticks, lots)
    desk.theo.columns[PRICE, ATM_CALL] += 0.00002
    desk.choose(credit_price_usd=1e9)
    assert desk.side(0) == (ticks, lots, Reason.KEPT)
    assert desk.quoter.wanted.money[1, 0, ATM_CALL] == 0.0


def test_quote_without_half_its_minimum_edge_moves_whatever_a_credit_costs() -> None:
    desk = Desk(0.0250, 245, 255)
    desk.choose()
    ticks, lots, _ = desk.side(0)
    desk.rest(0, ticks, lots)
    edge = float(desk.quoter.wanted.money[2, 0, ATM_CALL]) / FORWARD
    desk.theo.columns[PRICE, ATM_CALL] -= edge - KEEP_EDGE_SHARE * 0.2 * 0.0005 + 1e-7
    desk.choose(credit_price_usd=1e9)
    assert desk.side(0)[0] != ticks


def test_half_filled_quote_is_sent_again_in_full() -> None:
    desk = Desk(0.0250, 245, 255)
    desk.choose()
    ticks, lots, _ = desk.side(0)
    desk.rest(0, ticks, lots // 2 - 1)
    desk.choose()
    assert desk.side(0)[:2] == (ticks, lots)


def test_quote_is_stale_once_theo_moved_by_half_the_edge_since_it_was_approved() -> None:
    desk = Desk(0.0250, 245, 255)
    desk.choose()
    ticks, lots, _ = desk.side(0)
    desk.quoter.approve(ONE, desk.theo)
    desk.rest(0, ticks, lots)
    edge_usd = float(desk.quoter.wanted.money[2, 0, ATM_CALL])
    vega = float(desk.theo.vega[ATM_CALL])
    desk.theo.columns[PRICE, ATM_CALL] = 0.0120
    desk.theo.columns[VOL, ATM_CALL] += 0.49 * edge_usd / vega
    desk.choose()
    assert not desk.quoter.wanted.is_stale[0, ATM_CALL]
    desk.theo.columns[VOL, ATM_CALL] += 0.02 * edge_usd / vega
    desk.choose()
    assert desk.quoter.wanted.is_stale[0, ATM_CALL]
    assert not desk.quoter.wanted.is_stale[1, ATM_CALL]


def test_blocks_are_replaced_whole_and_tell_which_options_changed() -> None:
    desk = Desk(0.0250, 245, 255)
    assert desk.quoter.set_blocked(only(ATM_CALL), only()).tolist() == [ATM_CALL]
    assert desk.quoter.set_blocked(only(ATM_CALL), only()).tolist() == []
    desk.choose()
    assert desk.side(0)[2] is Reason.HELD
    assert desk.side(1)[2] <= LAST_QUOTED
    assert desk.quoter.set_blocked(only(2), only(3)).tolist() == [2, 3, ATM_CALL]
    desk.choose()
    assert desk.side(0)[2] <= LAST_QUOTED


def test_approval_is_of_what_was_sent_or_found_still_right() -> None:
    desk = Desk(0.0250, 245, 255)
    desk.choose()
    assert math.isnan(desk.quoter.approved[0, 2])
    desk.quoter.approve(ONE, desk.theo)
    edges = desk.quoter.wanted.money[2, :, ATM_CALL] / FORWARD
    assert desk.quoter.approved[:, ATM_CALL] == pytest.approx([0.0250, edges.min()])
    for row in (0, 1):
        desk.rest(row, *desk.side(row)[:2])
    desk.theo.columns[PRICE, ATM_CALL] = 0.02501
    desk.choose(credit_price_usd=1e9)
    assert desk.side(0)[2] is desk.side(1)[2] is Reason.KEPT
    assert desk.quoter.approved[0, ATM_CALL] == 0.02501
    desk.theo.columns[PRICE, ATM_CALL] = 0.0300
    desk.choose()
    assert desk.quoter.approved[0, ATM_CALL] == 0.02501


def test_price_band_of_the_venue_is_respected() -> None:
    desk = Desk(0.0250, 245, 255)
    nan = math.nan
    band = TickerSeen(ATM_CALL, 0.02, 0.5, 7e4, 7e4, nan, nan, 0.0300, 0.0200, 0.0, 0.0, 1)
    desk.market.on_event(band, NOW)
    desk.choose()
    assert 0 < desk.side(0)[0] <= 200
    assert desk.side(1)[0] >= 300


def test_wing_size_near_size_and_reduced_size() -> None:
    desk = Desk(0.0250, 245, 255)
    desk.choose()
    assert desk.side(0)[1] == 10
    desk.choose(lots_ratio=0.25)
    assert desk.side(0)[1] == 2
    desk.choose(lots_ratio=0.0)
    assert desk.side(0) == (0, 0, Reason.NO_SIZE)
    desk.theo.columns[DELTA, ATM_CALL] = 0.05
    desk.choose()
    assert desk.side(0)[1] == 20


def test_widening_never_narrows_and_is_undone() -> None:
    desk = Desk(0.0250, 230, 270, amount=0.001)
    desk.choose()
    normal = (desk.side(0)[0], desk.side(1)[0])
    desk.quoter.widen(ONE, 3.0)
    desk.choose()
    assert desk.side(0)[0] <= normal[0]
    assert desk.side(1)[0] >= normal[1]
    assert (desk.side(0)[0], desk.side(1)[0]) != normal
    desk.quoter.widen(ONE, 1.0)
    desk.choose()
    assert (desk.side(0)[0], desk.side(1)[0]) == normal


def test_knobs_reach_the_choice() -> None:
    knobs = Knobs()
    name = WORLD.instruments[ATM_CALL].name
    assert knobs.set(TraderKnob("blacklist", "", 0, name, 1.0, "trader"), WORLD) is None
    desk = Desk(0.0250, 245, 255)
    desk.quoter = quoter(WORLD, knobs)
    desk.choose()
    assert desk.side(0)[2] is Reason.BLACKLIST
    knobs.set(TraderKnob("blacklist", "", 0, name, 0.0, "trader"), WORLD)
    knobs.set(TraderKnob("size_ratio", "BTC", 0, "", 2.0, "trader"), WORLD)
    desk.quoter = quoter(WORLD, knobs)
    desk.choose()
    assert desk.side(0)[1] == 20


def test_explanation_is_the_choice_with_its_terms_and_changes_nothing() -> None:
    desk = desk_of((0.0250, 0, 3, 0.0001, 4.0, 1.5, 0.1))
    desk.choose()
    digest = desk.quoter.digest()
    explained = desk.quoter.explain(
        ATM_CALL, desk.market.touch, desk.rests, desk.rests, desk.costs, desk.theo, NOW
    )
    assert desk.quoter.digest() == digest
    for row, side in enumerate((explained.bid, explained.ask)):
        assert side.ticks == desk.side(row)[0]
        good = [c for c in side.candidates if c["net"] >= 0.2 * 0.0005]
        best = max(good, key=lambda c: c["value_usd_per_hour"])
        assert best["ticks"] == side.ticks
        assert best["value_usd_per_hour"] == pytest.approx(side.value_usd_per_hour, rel=1e-12)
        for c in side.candidates:
            parts = c["edge"] - c["fee"] - c["adverse"] - c["lean"] - c["own_size"]
            assert c["net"] == pytest.approx(parts, abs=1e-15)
    assert msgspec.json.decode(msgspec.json.encode(explained))["bid"]["reason"]


def test_whole_chain_is_quoted_two_sided_wherever_a_bid_exists() -> None:
    theo: TheoBoard = board(CHAIN)
    market = quoted_market(CHAIN, theo)
    made = quoter(CHAIN, delta_abs_max=1.0)
    ids = CHAIN.option_ids("BTC")
    rests: LiveColumns = live(CHAIN)
    made.choose(ids, market.touch, rests, rests, costs(CHAIN), theo, NOW)
    worth = theo.price[ids] > 0.0003
    assert worth.sum() > 200
    assert (made.wanted.reason[:, ids[worth]] <= LAST_QUOTED).all()
    assert (made.wanted.ticks[1, ids] > 0).all()


def test_equal_histories_have_equal_digests() -> None:
    first, second = Desk(0.0250, 245, 255), Desk(0.0250, 245, 255)
    assert first.choose().digest() == second.choose().digest()
    second.quoter.set_blocked(only(ATM_CALL), only(ATM_CALL))
    assert first.quoter.digest() != second.quoter.digest()


def test_new_listing_keeps_wants_and_bars_what_has_no_settings() -> None:
    desk = Desk(0.0250, 245, 255)
    desk.choose()
    ticks = Ticks(desk.side(0)[0])
    larger = catalog(days=(30.0, 60.0), strikes=5)
    desk.quoter.resize(larger)
    assert desk.quoter.wanted.ticks[0, ATM_CALL] == ticks
    assert desk.quoter.wanted.reason[0, len(larger) - 1] == Reason.UNDECIDED
    assert desk.quoter.settings_of(len(larger) - 1)["blacklisted"] == 1.0


def test_costs_are_passed_as_matrices_by_side() -> None:
    """The two sides read their own intensity: a dead ask side does not silence the bid."""
    desk = Desk(0.0250, 245, 255)
    matrices: CostMatrices = desk.costs
    matrices.intensity[1, 1, ATM_CALL] = np.nan
    desk.choose()
    assert desk.side(0)[2] <= LAST_QUOTED
    assert desk.side(1)[2] is Reason.NO_INTENSITY
