"""Positions and cash move by each fill once, exactly, and nothing unbookable is lost."""

from __future__ import annotations

from fractions import Fraction

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mm_daemon.core.catalog import Catalog
from mm_daemon.core.holding import Holding
from mm_daemon.core.portfolio import KEYS_KEPT_NS, Booking, Portfolio
from mm_daemon.domain.events import FillUnplaced
from mm_daemon.domain.orders import AccountEvidence, FillEvidence, PositionEvidence
from mm_daemon.domain.units import NS_PER_DAY, NS_PER_MS, NS_PER_S, CoinE8, Lots, Ns, Side
from tests.core.account_world import (
    CALL,
    CALL_FAR,
    FUTURE,
    LINEAR_CALL,
    LINEAR_PERPETUAL,
    PERPETUAL,
    T0,
    fill_evidence,
    small_catalog,
)

CATALOG = small_catalog()
E8 = 10**8
COIN = 10**8


def fill(
    trade_id: str, id_: int, side: Side, lots: int, price: float, *, fee: float = 0.0, ts: int = 0
) -> FillEvidence:
    return fill_evidence(
        trade_id,
        "o1",
        id_,
        side,
        lots,
        price_e8=round(price * E8),
        fee_e8=round(fee * E8),
        fee_currency=CATALOG.instruments[id_].settle_currency,
        ts=ts,
    )


def marks(**by_id: float) -> list[int]:
    stated = [0] * len(CATALOG)
    for name, price in by_id.items():
        stated[globals()[name]] = round(price * E8)
    return stated


@pytest.fixture
def books() -> Portfolio:
    return Portfolio(CATALOG)


def test_an_inverse_option_is_paid_in_coin_at_once(books: Portfolio) -> None:
    assert books.book(fill("1", CALL, Side.BUY, 10, 0.05, fee=0.0003)) is Booking.APPLIED
    # 10 lots of 0.1 coin at 0.05 coin and the fee of 0.0003.
    assert books.cash_e8 == {"BTC": -5_030_000}
    assert int(books.position_lots[CALL]) == 10
    equity = books.equity("BTC", marks(CALL=0.06))
    assert (equity.options_value_e8, equity.equity_e8) == (6_000_000, 970_000)


def test_an_inverse_future_earns_by_the_inverse_arithmetic(books: Portfolio) -> None:
    books.book(fill("1", PERPETUAL, Side.BUY, 6_000, 60_000.0))
    equity = books.equity("BTC", marks(PERPETUAL=61_000.0))
    exact = Fraction(60_000) * (Fraction(1, 60_000) - Fraction(1, 61_000))
    assert equity.balance_e8 == 0
    assert equity.futures_session_e8 == round(exact * COIN)
    books.book(fill("2", PERPETUAL, Side.SELL, 6_000, 61_000.0))
    assert books.equity("BTC", marks(PERPETUAL=1.0)).equity_e8 == round(exact * COIN)
    assert books.average_price_e8(PERPETUAL) == 0


def test_the_average_price_is_harmonic_for_inverse_and_plain_for_linear(books: Portfolio) -> None:
    for k, price in enumerate((50_000.0, 70_000.0)):
        books.book(fill(f"i{k}", PERPETUAL, Side.BUY, 100, price))
        books.book(fill(f"l{k}", LINEAR_PERPETUAL, Side.BUY, 100, price))
    harmonic = Fraction(2) / (Fraction(1, 50_000) + Fraction(1, 70_000))
    assert books.average_price_e8(PERPETUAL) == pytest.approx(float(harmonic * E8), abs=2)
    assert books.average_price_e8(LINEAR_PERPETUAL) == 60_000 * E8
    books.book(fill("s", LINEAR_PERPETUAL, Side.SELL, 150, 65_000.0))
    assert books.average_price_e8(LINEAR_PERPETUAL) == 60_000 * E8
    books.book(fill("f", LINEAR_PERPETUAL, Side.SELL, 100, 64_000.0))
    assert books.average_price_e8(LINEAR_PERPETUAL) == 64_000 * E8, "the flipped position is new"


def test_a_session_settlement_moves_result_into_cash_and_not_equity(books: Portfolio) -> None:
    books.book(fill("1", FUTURE, Side.SELL, 6_000, 60_000.0))
    before = books.equity("BTC", marks(FUTURE=58_000.0)).equity_e8
    paid = books.settle_session(FUTURE, 58_000 * E8, T0)
    assert paid == books.cash_e8["BTC"] == before
    assert books.equity("BTC", marks(FUTURE=58_000.0)).equity_e8 == before
    assert books.equity("BTC", marks(FUTURE=58_000.0)).futures_session_e8 == 0


@pytest.mark.parametrize(
    ("delivery", "payoff", "fee"),
    [
        (75_000.0, Fraction(15_000, 75_000), Fraction(15, 100_000)),
        # Worth 0.000599…: an eighth of it is less than the commission.
        (60_036.0, Fraction(36, 60_036), Fraction(36, 60_036) / 8),
        (60_000.0, Fraction(0), Fraction(0)),
        (40_000.0, Fraction(0), Fraction(0)),
    ],
)
def test_an_option_is_delivered_at_its_payoff_less_a_capped_fee(
    books: Portfolio, delivery: float, payoff: Fraction, fee: Fraction
) -> None:
    books.book(fill("1", CALL, Side.BUY, 30, 0.05))
    cash = books.cash_e8["BTC"]
    paid = books.deliver(CALL, round(delivery * E8))
    assert paid == round(payoff * 3 * COIN) - round(fee * 3 * COIN)
    assert books.cash_e8["BTC"] == cash + paid
    assert int(books.position_lots[CALL]) == 0


def test_a_short_option_pays_at_delivery_and_pays_the_fee_too(books: Portfolio) -> None:
    books.book(fill("1", LINEAR_CALL, Side.SELL, 100, 2_000.0))
    paid = books.deliver(LINEAR_CALL, 75_000 * E8)
    # One coin short: 15,000 paid out; 0.015 % of 75,000 is 11.25.
    assert paid == -15_000 * E8 - round(11.25 * E8)
    assert books.cash_e8["USDC"] == (2_000 - 15_000) * E8 - round(11.25 * E8)


def test_a_fee_other_than_our_own_is_booked_as_charged_and_counted(books: Portfolio) -> None:
    books.book(fill("1", CALL, Side.BUY, 10, 0.05, fee=0.0003))
    assert books.fee_mismatches == 0
    books.book(fill("2", CALL, Side.BUY, 10, 0.05, fee=0.0002))
    assert books.fee_mismatches == 1
    # 12.5 % of a premium of 0.0008 is 0.0001, less than 0.0003.
    books.book(fill("3", CALL, Side.BUY, 10, 0.0008, fee=0.0001))
    assert books.fee_mismatches == 1
    assert books.holding(CALL).fees_e8 == 60_000


def test_a_fill_is_booked_once_per_family_trade_and_order(books: Portfolio) -> None:
    one = fill("7", CALL, Side.BUY, 10, 0.05)
    assert books.book(one) is Booking.APPLIED
    assert books.book(msgspec.structs.replace(one, source="recon")) is Booking.DUPLICATE
    flipped = msgspec.structs.replace(one, order_id="o2")
    assert books.book(flipped) is Booking.APPLIED, "one trade id may fill two orders"
    other = fill("7", LINEAR_CALL, Side.BUY, 10, 2_000.0)
    assert books.book(other) is Booking.APPLIED, "trade ids are per currency"
    more = fill("8", CALL, Side.BUY, 10, 0.05)
    assert books.book(more) is Booking.APPLIED, "one order may fill in two trades"
    assert int(books.position_lots[CALL]) == 30
    assert books.duplicates == 1


def test_two_legs_of_one_trade_and_order_are_two_fills(books: Portfolio) -> None:
    near = msgspec.structs.replace(fill("7", CALL, Side.BUY, 10, 0.05), leg="1")
    far = msgspec.structs.replace(fill("7", CALL_FAR, Side.SELL, 4, 0.06), leg="2")
    assert [books.book(one) for one in (near, far, near)] == [
        Booking.APPLIED,
        Booking.APPLIED,
        Booking.DUPLICATE,
    ]
    assert (int(books.position_lots[CALL]), int(books.position_lots[CALL_FAR])) == (10, -4)


def test_a_fill_of_an_unknown_instrument_is_parked_and_booked_when_it_is_known() -> None:
    known = Catalog(CATALOG.instruments[:CALL_FAR], ("BTC",))
    books = Portfolio(known)
    late = fill("1", CALL_FAR, Side.BUY, 4, 0.05)
    assert books.book(late) is Booking.PARKED_INSTRUMENT
    assert books.book(late) is Booking.PARKED_INSTRUMENT
    assert books.parked == [late]
    assert books.retry_parked() == []
    books.resize(CATALOG)
    assert books.retry_parked() == [late]
    assert (books.parked, int(books.position_lots[CALL_FAR])) == ([], 4)
    assert books.book(late) is Booking.DUPLICATE


def test_a_trade_older_than_the_keys_is_parked_never_doubled(books: Portfolio) -> None:
    old = fill("1", CALL, Side.BUY, 4, 0.05)
    books.book(old)
    books.forget_keys(Ns(T0 + KEYS_KEPT_NS))
    assert books.book(old) is Booking.DUPLICATE
    books.forget_keys(Ns(T0 + KEYS_KEPT_NS + NS_PER_MS))
    assert books.book(old) is Booking.PARKED_OLD
    assert int(books.position_lots[CALL]) == 4


def account(balance: float, session: float, options: float) -> AccountEvidence:
    zero = CoinE8(0)
    equity = CoinE8(round((balance + session + options) * COIN))
    return AccountEvidence(
        currency="BTC",
        equity_e8=equity,
        balance_e8=CoinE8(round(balance * COIN)),
        margin_balance_e8=equity,
        available_e8=equity,
        initial_margin_e8=zero,
        maintenance_margin_e8=zero,
        session_upl_e8=zero,
        session_rpl_e8=zero,
        options_value_e8=CoinE8(round(options * COIN)),
        delta_total=0.0,
        portfolio_margin=True,
        ts_venue_ns=T0,
    )


def test_books_opened_in_the_middle_of_a_session_have_the_venues_equity(books: Portfolio) -> None:
    positions = (
        PositionEvidence(CALL, Lots(10), 4_000_000, 5_000_000, CoinE8(0), T0),
        PositionEvidence(PERPETUAL, Lots(-600), 59_000 * E8, 60_000 * E8, CoinE8(77), T0),
    )
    books.open_books((account(10.0, 0.3, 0.05),), positions, T0)
    stated = marks(CALL=0.05, PERPETUAL=60_000.0)
    assert books.equity("BTC", stated).equity_e8 == round(10.35 * COIN)
    assert books.average_price_e8(PERPETUAL) == 59_000 * E8
    moved = books.equity("BTC", marks(CALL=0.05, PERPETUAL=50_000.0)).equity_e8
    exact = Fraction(-6_000) * (Fraction(1, 60_000) - Fraction(1, 50_000))
    assert moved == round(10.35 * COIN) + round(exact * COIN)
    assert books.book(fill("old", CALL, Side.BUY, 1, 0.05, ts=-1)) is Booking.PARKED_OLD
    books.on_funding(PositionEvidence(PERPETUAL, Lots(-600), 0, 0, CoinE8(80), T0))
    assert books.equity("BTC", stated).equity_e8 == round(10.35 * COIN) + 3


def test_what_was_booked_before_the_opening_is_part_of_it(books: Portfolio) -> None:
    early = fill("1", CALL, Side.BUY, 4, 0.05)
    assert books.book(early) is Booking.APPLIED
    positions = (PositionEvidence(PERPETUAL, Lots(10), 60_000 * E8, 60_000 * E8, CoinE8(0), T0),)
    books.open_books((account(10.0, 0.0, 0.0),), positions, Ns(0))
    assert books.position_lots.tolist().count(0) == len(CATALOG) - 1
    assert books.cash_e8 == {"BTC": 10 * COIN}
    assert books.book(early) is Booking.DUPLICATE


@pytest.mark.parametrize("is_known", [True, False])
def test_what_waited_at_the_opening_is_part_of_it(books: Portfolio, is_known: bool) -> None:
    """A trade in an option that ended minutes ago: its money is in the stated cash."""
    told = fill("1", CALL, Side.BUY, 4, 0.05)
    waits = FillUnplaced("1", "o1", "BTC-N-C", T0, "recon")
    assert books.park_unplaced(waits)
    if is_known:
        books.mark_seen(told)
    books.open_books((account(10.0, 0.0, 0.0),), (), Ns(T0 - NS_PER_S))
    assert books.parked == []
    assert books.book(told) is Booking.DUPLICATE
    assert not books.park_unplaced(waits)
    again = Portfolio(CATALOG)
    again.restore(books.checkpoint())
    assert again.book(told) is Booking.DUPLICATE
    assert again.cash_e8 == {"BTC": 10 * COIN}


def test_a_trade_that_is_booked_waits_no_longer(books: Portfolio) -> None:
    told = fill("1", CALL, Side.BUY, 4, 0.05)
    books.book(told)
    books.parked.append(FillUnplaced("1", "o1", "BTC-N-C", T0, "recon"))
    assert books.book(told) is Booking.DUPLICATE
    assert books.parked == []


def test_funding_is_paid_by_the_long_and_corrected_by_the_venue(books: Portfolio) -> None:
    def follow(seconds: int) -> None:
        books.accrue_funding(
            PERPETUAL,
            mark_e8=60_120 * E8,
            index_e8=60_000 * E8,
            ts_venue_ns=Ns(T0 + seconds * NS_PER_S),
        )

    follow(0)
    books.book(fill("1", PERPETUAL, Side.BUY, 6_000, 60_000.0))
    follow(8 * 3_600)
    # Premium 0.2 % less 0.025 % over eight hours on one coin.
    assert books.holding(PERPETUAL).session_funding_e18 == -175 * 10**13
    stated = PositionEvidence(PERPETUAL, Lots(6_000), 0, 0, CoinE8(-175_000), T0)
    books.on_funding(stated)
    assert books.funding_corrections == 0
    books.on_funding(msgspec.structs.replace(stated, realized_funding_e8=CoinE8(-175_010)))
    assert books.funding_corrections == 1
    equity = books.equity("BTC", marks(PERPETUAL=60_000.0))
    assert equity.futures_session_e8 == -175_010


EIGHT = (T0 // NS_PER_DAY + 1) * NS_PER_DAY + 8 * 3_600 * NS_PER_S
"""08:00 UTC of the day after: a session ends and the next begins."""


def funded(stated_e8: int, at: int) -> PositionEvidence:
    return PositionEvidence(PERPETUAL, Lots(6_000), 0, 0, CoinE8(stated_e8), Ns(at))


def test_the_venues_funding_restarts_each_session_and_equity_does_not_move(
    books: Portfolio,
) -> None:
    stated = marks(PERPETUAL=60_000.0)
    books.book(fill("1", PERPETUAL, Side.BUY, 6_000, 60_000.0))
    for day in range(3):
        books.on_funding(funded(-1_000, EIGHT + day * NS_PER_DAY - 60 * NS_PER_S))
        before = books.equity("BTC", stated).equity_e8
        assert before == -1_000 * (day + 1)
        # At the time of the settlement the venue may still state the session that has ended.
        for late_e8, after_s in ((-1_000, 0), (0, 1), (-1_000, 2), (0, 70)):
            books.on_funding(funded(late_e8, EIGHT + day * NS_PER_DAY + after_s * NS_PER_S))
            assert books.equity("BTC", stated).equity_e8 == before
        # What is older than the session that we follow says nothing of it.
        books.on_funding(funded(-1_000, EIGHT + day * NS_PER_DAY - NS_PER_S))
        assert books.equity("BTC", stated).equity_e8 == before
    books.on_funding(funded(-7, EIGHT + 2 * NS_PER_DAY + 3_600 * NS_PER_S))
    assert books.equity("BTC", stated).equity_e8 == -3_007


@pytest.mark.parametrize("is_ticked", [False, True])
def test_what_accrued_over_a_settlement_is_split_at_it(books: Portfolio, is_ticked: bool) -> None:
    """Premium 0.2 % less 0.025 % over eight hours on one coin: four hours before and four after."""

    def follow(at: int) -> None:
        books.accrue_funding(
            PERPETUAL, mark_e8=60_120 * E8, index_e8=60_000 * E8, ts_venue_ns=Ns(at)
        )

    four_hours = 4 * 3_600 * NS_PER_S
    books.book(fill("1", PERPETUAL, Side.BUY, 6_000, 60_000.0))
    follow(EIGHT - four_hours)
    if is_ticked:
        follow(EIGHT + four_hours)
    books.on_funding(funded(-87_500, EIGHT + four_hours))
    assert books.funding_corrections == 0
    held = books.holding(PERPETUAL)
    assert (held.session_funding_e18, held.funding_e18) == (-175 * 10**13, -875 * 10**12)


@pytest.mark.parametrize("is_held", [True, False])
def test_books_that_are_taken_over_go_on_with_the_funding_from_there(
    books: Portfolio, is_held: bool
) -> None:
    """The meters run on; the venue's figure of the session is the one that it goes on with."""

    def follow(hours: int) -> None:
        at = Ns(EIGHT + hours * 3_600 * NS_PER_S)
        books.accrue_funding(PERPETUAL, mark_e8=60_120 * E8, index_e8=60_000 * E8, ts_venue_ns=at)

    books.open_books((account(0.0, 0.0, 0.0),), (), T0)
    books.book(fill("1", PERPETUAL, Side.BUY, 6_000, 60_000.0, ts=NS_PER_S))
    follow(1)
    follow(2)
    if not is_held:
        sold = fill(
            "2", PERPETUAL, Side.SELL, 6_000, 60_000.0, ts=EIGHT - T0 + 2 * 3_600 * NS_PER_S
        )
        books.book(sold)
    lots = 6_000 if is_held else 0
    stated = PositionEvidence(
        PERPETUAL, Lots(lots), 60_000 * E8, 60_000 * E8, CoinE8(-21_875),
        Ns(EIGHT + 2 * 3_600 * NS_PER_S),
    )  # fmt: skip
    books.take_over((account(10.0, -0.5, 0.0),), (stated,) if is_held else ())
    prices = marks(PERPETUAL=60_000.0)
    assert books.equity("BTC", prices).equity_e8 == round(9.5 * COIN)
    follow(10)
    earned_e8 = -175_000 if is_held else 0
    assert books.equity("BTC", prices).equity_e8 == round(9.5 * COIN) + earned_e8
    books.on_funding(funded(-21_875 + earned_e8, EIGHT + 10 * 3_600 * NS_PER_S))
    assert books.funding_corrections == 0


def test_a_restart_goes_on_in_the_session_of_funding_that_it_left(books: Portfolio) -> None:
    stated = marks(PERPETUAL=60_000.0)
    books.book(fill("1", PERPETUAL, Side.BUY, 6_000, 60_000.0))
    books.on_funding(funded(-1_000, EIGHT + 3_600 * NS_PER_S))
    books.book(fill("2", PERPETUAL, Side.SELL, 6_000, 60_000.0))
    for hours, stated_e8, total_e8 in ((2, -1_000, -1_000), (25, -30, -1_030)):
        again = Portfolio(CATALOG)
        again.restore(books.checkpoint())
        again.on_funding(funded(stated_e8, EIGHT + hours * 3_600 * NS_PER_S))
        assert again.equity("BTC", stated).equity_e8 == total_e8
        books = again


def test_an_adjustment_is_reversed_by_its_opposite(books: Portfolio) -> None:
    before = books.checkpoint()
    books.adjust_position(CALL, 5, 5_000_000)
    assert (int(books.position_lots[CALL]), books.cash_e8["BTC"]) == (5, -2_500_000)
    books.adjust_position(CALL, -5, 5_000_000)
    assert int(books.position_lots[CALL]) == 0
    assert books.cash_e8["BTC"] == 0
    assert books.checkpoint() != before, "the cash account exists now"


def test_a_checkpoint_restores_by_name_and_keeps_what_it_cannot_place(books: Portfolio) -> None:
    books.book(fill("1", CALL, Side.BUY, 10, 0.05, fee=0.0003))
    books.book(fill("2", PERPETUAL, Side.SELL, 10**8, 60_000.0))
    books.settle_session(PERPETUAL, 61_000 * E8, T0)
    saved = books.checkpoint()
    fewer = [i for i in CATALOG.instruments if i.id != CALL]
    shuffled = Catalog(
        tuple(msgspec.structs.replace(i, id=k) for k, i in enumerate(reversed(fewer))), ("BTC",)
    )
    again = Portfolio(shuffled)
    again.restore(saved)
    id_ = shuffled.id_of["BTC-PERPETUAL"]
    assert int(again.position_lots[id_]) == -(10**8)
    assert again.cash_e8 == books.cash_e8
    assert list(again.orphans) == ["BTC-N-C"]
    assert again.orphans["BTC-N-C"].lots == 10
    perpetual = shuffled.instruments[id_]
    assert perpetual.name == "BTC-PERPETUAL"
    assert again.checkpoint() != b""


def test_a_flat_future_leaves_its_session_result_and_not_itself(books: Portfolio) -> None:
    """It may have ended by the time of the restart, and nobody would know its terms."""
    books.open_books((account(10.0, 0.5, 0.0),), (), T0)
    books.book(fill("1", FUTURE, Side.BUY, 6_000, 60_000.0))
    books.book(fill("2", FUTURE, Side.SELL, 6_000, 61_000.0))
    before = books.equity("BTC", marks()).equity_e8
    assert before > round(10.5 * COIN)
    left = [one for one in CATALOG.instruments if one.id != FUTURE]
    fewer = Catalog(
        tuple(msgspec.structs.replace(one, id=k) for k, one in enumerate(left)), ("BTC",)
    )
    again = Portfolio(fewer)
    again.restore(books.checkpoint())
    assert again.orphans == {}
    assert again.equity("BTC", marks()).equity_e8 == before


def test_books_saved_by_an_earlier_build_are_read(books: Portfolio) -> None:
    """Their holdings have a field less: the figure is of the session settled last. And they hold
    what is flat, options among it that the venue has forgotten since."""
    at = EIGHT + 3_600 * NS_PER_S
    books.settle_if_due((msgspec.structs.replace(account(0.0, 0.0, 0.0), ts_venue_ns=Ns(at)),))
    books.book(fill("1", PERPETUAL, Side.BUY, 6_000, 60_000.0))
    books.on_funding(funded(-1_000, at))
    saved = msgspec.msgpack.decode(books.checkpoint())
    saved["holdings"] = [(name, parts[:9]) for name, parts in saved["holdings"]]
    flat = Holding(realized_e18=7, fees_e8=3).saved()[:9]
    saved["holdings"].append(("BTC-1JAN20-50000-C", flat))
    del saved["parked"]
    again = Portfolio(CATALOG)
    again.restore(msgspec.msgpack.encode(saved))
    assert again.orphans == {}
    again.on_funding(funded(-1_000, at + NS_PER_S))
    assert again.equity("BTC", marks(PERPETUAL=60_000.0)).equity_e8 == -1_000


def test_what_was_booked_before_a_restart_is_a_duplicate_after_it(books: Portfolio) -> None:
    one = fill("1", CALL, Side.BUY, 10, 0.05)
    books.book(one)
    again = Portfolio(CATALOG)
    again.restore(books.checkpoint())
    assert again.digest() == books.digest()
    assert again.book(one) is Booking.DUPLICATE
    assert again.newest_fill_ns == {"BTC": one.ts_venue_ns}


def test_settlement_is_at_eight_oclock_utc_and_not_at_midnight(books: Portfolio) -> None:
    midnight = Ns((T0 // NS_PER_DAY + 1) * NS_PER_DAY)
    first = msgspec.structs.replace(account(10.0, 0.0, 0.0), ts_venue_ns=midnight)
    books.open_books((first,), (), midnight)
    assert books.settle_if_due((first,)) == {}
    for hours, settled in ((-1, {}), (1, {}), (7.9, {}), (8.1, {"BTC": 500}), (9, {}), (24, {})):
        stated = msgspec.structs.replace(
            first,
            balance_e8=CoinE8(10 * COIN + 500),
            ts_venue_ns=Ns(midnight + int(hours * 3_600) * NS_PER_S),
        )
        assert books.settle_if_due((stated,)) == settled, hours


def test_settlement_by_balance_happens_once_a_day_and_keeps_equity(books: Portfolio) -> None:
    books.open_books((account(10.0, 0.0, 0.0),), (), T0)
    first = account(10.0, 0.0, 0.0)
    assert books.settle_if_due((first,)) == {}
    books.book(fill("1", PERPETUAL, Side.BUY, 6_000, 60_000.0))
    stated = marks(PERPETUAL=61_000.0)
    before = books.equity("BTC", stated).equity_e8
    later = msgspec.structs.replace(
        first, balance_e8=CoinE8(10 * COIN + 1_639_344), ts_venue_ns=Ns(T0 + NS_PER_DAY)
    )
    assert books.settle_if_due((later,)) == {"BTC": 1_639_344}
    assert books.equity("BTC", stated).equity_e8 == before
    assert books.cash_e8["BTC"] == later.balance_e8
    assert books.settle_if_due((later,)) == {}


@given(
    st.lists(
        st.tuples(
            st.sampled_from([CALL, PERPETUAL, FUTURE, LINEAR_CALL, LINEAR_PERPETUAL]),
            st.integers(-50, 50).filter(bool),
            st.integers(1, 400),
        ),
        max_size=40,
    )
)
def test_equity_equals_exact_rationals(trades: list[tuple[int, int, int]]) -> None:
    """An independent ledger in fractions: cash of options, and for futures the value of each fill
    at the mark less its value at its own price."""
    books = Portfolio(CATALOG)
    exact = {"BTC": Fraction(0), "USDC": Fraction(0)}
    final = dict.fromkeys(range(len(CATALOG)), 60_000 * E8)
    final[CALL] = final[CALL_FAR] = 5_000_000
    final[LINEAR_CALL] = 3_000 * E8
    for k, (id_, lots, step) in enumerate(trades):
        instrument = CATALOG.instruments[id_]
        price_e8 = (final[id_] * (800 + step)) // 1_000
        amount = Fraction(lots * instrument.lot_e9, 10**9)
        price, mark = Fraction(price_e8, E8), Fraction(final[id_], E8)
        if instrument.is_inverse and not instrument.is_option:
            exact["BTC"] += amount * (1 / price - 1 / mark)
        else:
            exact[instrument.settle_currency] += amount * (mark - price)
        side = Side.BUY if lots > 0 else Side.SELL
        books.book(fill(f"t{k}", id_, side, abs(lots), float(price)))
    for currency, total in exact.items():
        equity = books.equity(currency, [final[i] for i in range(len(CATALOG))]).equity_e8
        # Each option fill rounds its cash once; futures round once in all.
        assert abs(equity - total * COIN) <= Fraction(len(trades) + 2, 2)


class Books(RuleBasedStateMachine):
    """Fills come twice, late and over restarts; the books always equal the set of trades."""

    @initialize()
    def start(self) -> None:
        self.books = Portfolio(CATALOG)
        self.trades: dict[str, FillEvidence] = {}

    @rule(
        number=st.integers(0, 30),
        id_=st.sampled_from([CALL, PERPETUAL, LINEAR_CALL]),
        is_buy=st.booleans(),
        lots=st.integers(1, 9),
    )
    def a_trade_arrives(self, number: int, id_: int, is_buy: bool, lots: int) -> None:
        trade_id = f"{id_}-{number}"
        side = Side.BUY if is_buy else Side.SELL
        known = self.trades.get(trade_id)
        new = fill(trade_id, id_, side, lots, 0.05 if id_ == CALL else 50_000.0, ts=number)
        expected = Booking.APPLIED if known is None else Booking.DUPLICATE
        assert self.books.book(known or new) is expected
        self.trades.setdefault(trade_id, new)

    @rule()
    def the_daemon_restarts(self) -> None:
        again = Portfolio(CATALOG)
        again.restore(self.books.checkpoint())
        self.books = again

    @invariant()
    def position_is_the_sum_of_trades(self) -> None:
        if not hasattr(self, "books"):
            return
        lots = np.zeros(len(CATALOG), dtype=np.int64)
        for trade in self.trades.values():
            lots[trade.instrument_id] += int(trade.side) * trade.lots
        assert self.books.position_lots.tolist() == lots.tolist()
        cash = -sum(
            int(t.side) * t.lots * t.price_e8 // 10
            for t in self.trades.values()
            if t.instrument_id == CALL
        )
        assert self.books.cash_e8.get("BTC", 0) == cash


TestBooks = Books.TestCase
