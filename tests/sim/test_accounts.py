"""Money is conserved and positions are sums of fills, whatever happens in whatever order."""

from contextlib import suppress
from fractions import Fraction

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_daemon.sim.accounts import Position
from mm_daemon.sim.exchange import Exchange
from mm_daemon.sim.exchange_config import ExchangeConfig
from mm_daemon.sim.exchange_errors import VenueError
from mm_daemon.sim.exchange_records import CashKind
from mm_daemon.sim.exchange_types import OrderRequest
from mm_daemon.sim.fees import value_e18
from mm_daemon.sim.spec import BUY, DAY_US, E8, E18, HOUR_US, MINUTE_US, SELL
from tests.sim.exchange_setup import (
    CALL,
    EXPIRY,
    FUTURE,
    INDEX,
    LINEAR,
    LINEAR_PERP,
    MAKER,
    PERP,
    T0,
    TAKER,
    e8,
    future,
    mark,
    option,
    order,
    placed,
    venue,
)

SPECS = (
    option(),
    option(LINEAR, is_inverse=False),
    future(),
    future(FUTURE, expiry_us=EXPIRY),
    future(LINEAR_PERP, is_inverse=False),
)
PRICES = {
    CALL: (e8(0.0195), e8(0.0005)),
    LINEAR: (e8(1150), e8(5)),
    PERP: (e8(59_900), e8(0.5)),
    FUTURE: (e8(59_950), e8(0.5)),
    LINEAR_PERP: (e8(59_900), e8(0.5)),
}
LOTS = {CALL: e8(0.1), LINEAR: e8(0.1), PERP: e8(10), FUTURE: e8(10), LINEAR_PERP: e8(0.001)}

STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("trade"),
            st.sampled_from(tuple(PRICES)),
            st.sampled_from((BUY, SELL)),
            st.integers(1, 900),
            st.integers(0, 300),
        ),
        st.tuples(
            st.just("index"),
            st.sampled_from((INDEX, "btc_usdc")),
            st.just(0),
            st.integers(40_000, 80_000),
            st.integers(-40, 40),
        ),
        st.tuples(st.just("wait"), st.just(""), st.just(0), st.integers(1, 30), st.just(0)),
    ),
    min_size=1,
    max_size=40,
)


def client_trade(exchange: Exchange, request: OrderRequest, now_us: int) -> None:
    """The taker offers and the maker lifts; either may be refused, then nothing happened."""
    against = msgspec.structs.replace(request, sign=-request.sign)
    for caller, wanted in ((TAKER, against), (MAKER, request)):
        with suppress(VenueError):
            exchange.place(caller, wanted, now_us)


def run(steps: list[tuple[str, str, int, int, int]]) -> tuple[Exchange, int]:
    """Trades among four accounts, moves of index and mark, waits of hours over settlements."""
    exchange = venue(*SPECS, config=ExchangeConfig(delivery_sample_us=MINUTE_US))
    now_us = T0
    for action, name, sign, size, detail in steps:
        now_us += 1
        if action == "wait":
            now_us += size * HOUR_US
            exchange.advance(now_us)
        elif action == "index":
            exchange.set_index(name, size * E8, now_us)
            coin = PERP if name == INDEX else LINEAR_PERP
            exchange.set_marks(name, [mark(coin, size + detail / 2)], now_us)
        elif name in {spec.name for spec in exchange.instruments()}:
            base, tick = PRICES[name]
            price, amount = base + detail % 40 * tick, size * LOTS[name]
            if detail % 2:
                ask = price if sign > 0 else price + tick
                exchange.maker_quote("house", name, ask - tick, amount, ask, amount, now_us)
                exchange.taker_trade("flow", name, sign, amount, price + sign * tick, now_us)
            else:
                both = order(sign, 0, None, instrument=name, amount_e8=amount, price_e8=price)
                client_trade(exchange, both, now_us)
        exchange.drain_events()
    return exchange, now_us


@settings(max_examples=60)
@given(STEPS)
def test_cash_is_conserved_to_the_last_unit(
    steps: list[tuple[str, str, int, int, int]],
) -> None:
    """Through fills, fees, funding, sessions and deliveries: balances sum to the deposits."""
    exchange, now_us = run(steps)
    exchange.advance(max(now_us, EXPIRY) + 2 * DAY_US)
    deposits: dict[str, int] = {}
    balances: dict[tuple[str, str], int] = {}
    for move in exchange.cash_ledger():
        if move.kind is CashKind.DEPOSIT:
            deposits[move.currency] = deposits.get(move.currency, 0) + move.amount_e8
        key = (move.account, move.currency)
        balances[key] = balances.get(key, 0) + move.amount_e8
        assert balances[key] == move.balance_e8
    for currency in ("BTC", "USDC"):
        assert exchange.total_cash_e8(currency) == deposits[currency]


@settings(max_examples=40)
@given(STEPS)
def test_positions_are_the_sum_of_fills_and_net_to_zero(
    steps: list[tuple[str, str, int, int, int]],
) -> None:
    exchange, now_us = run(steps)
    names = ("maker", "taker", "house", "flow")
    for spec in exchange.instruments():
        held = [exchange.position_e8(name, spec.name) for name in names]
        assert sum(held) == 0
        open_interest = sum(size for size in held if size > 0)
        assert exchange.ticker(spec.name, now_us).open_interest_e8 == open_interest


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.integers(-50, 50).filter(bool), st.integers(20_000, 90_000)), min_size=1),
    st.booleans(),
    st.integers(20_000, 90_000),
)
def test_total_profit_equals_exact_cash_flow(
    fills: list[tuple[int, int]], is_inverse: bool, last: int
) -> None:
    """Realised + unrealised = sum of exact value flows, to 1e-18 per fill, average irrelevant."""
    spec = future(is_inverse=is_inverse)
    held = Position()
    exact = Fraction(0)
    for lots, price in fills:
        held.trade(spec, lots * 10 * E8, price * E8)
        sign = -1 if is_inverse else 1
        unit = Fraction(1, price) if is_inverse else Fraction(price)
        exact -= sign * lots * 10 * unit
    size = sum(lots for lots, _ in fills) * 10
    assert held.size_e8 == size * E8
    exact += size * (-Fraction(1, last) if is_inverse else Fraction(last))
    total = held.session_result_e18(spec, last * E8)
    assert abs(total - exact * E18) <= 2 * len(fills) + 1
    unrealized = value_e18(spec, held.size_e8, last * E8) - held.cost_e18 if held.size_e8 else 0
    assert abs(held.realized_e18 + unrealized - exact * E18) <= 2 * len(fills) + 1


def test_reducing_keeps_the_average_and_flipping_restarts_it() -> None:
    spec = option(is_inverse=False)
    held = Position()
    held.trade(spec, 2 * E8, 100 * E8)
    held.trade(spec, 2 * E8, 200 * E8)
    assert held.trade(spec, -1 * E8, 180 * E8) == 30 * E18
    assert held.cost_e18 == 450 * E18
    assert held.trade(spec, -5 * E8, 160 * E8) == 30 * E18
    assert (held.size_e8, held.cost_e18) == (-2 * E8, -320 * E18)


def test_the_random_walk_reaches_every_kind_of_cash() -> None:
    """Guards the properties above against passing on nothing."""
    steps = [
        ("trade", name, sign, 50, detail)
        for name in PRICES
        for sign in (BUY, SELL, BUY)
        for detail in (3, 4)
    ]
    moved = [("index", INDEX, 0, 61_000, 40), ("index", "btc_usdc", 0, 61_000, 40)]
    exchange, _ = run([*steps, *moved, ("wait", "", 0, 30, 0)])
    exchange.advance(EXPIRY)
    kinds = {move.kind for move in exchange.cash_ledger()}
    assert kinds >= set(CashKind) - {CashKind.ROUNDING}
    for caller in (MAKER, TAKER):
        traded = {trade.instrument for trade in exchange.user_trades(caller, count=1000).trades}
        assert traded == set(PRICES)


def test_the_trade_record_carries_what_it_realised() -> None:
    exchange = venue()
    placed(exchange, TAKER, order(SELL, 2, 0.02), T0)
    placed(exchange, MAKER, order(BUY, 2, 0.02), T0)
    placed(exchange, TAKER, order(BUY, 1, 0.025), T0)
    (trade,) = placed(exchange, MAKER, order(SELL, 1, 0.025), T0).trades
    assert trade.profit_loss_e8 == e8(0.005)
