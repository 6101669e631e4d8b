"""Protection groups: windows, limits, freezes, and the configuration's own rules."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_daemon.sim.exchange import Exchange
from mm_daemon.sim.exchange_errors import Code, VenueError
from mm_daemon.sim.exchange_events import MmpTriggered
from mm_daemon.sim.exchange_records import MmpConfig
from mm_daemon.sim.exchange_types import (
    CancelFilter,
    CancelReason,
    MassQuoteReply,
    MmpConfigRequest,
    OrderState,
)
from mm_daemon.sim.mmp import MmpGroup, trade_measures
from mm_daemon.sim.spec import BUY, E8, MS_US, SECOND_US, SELL, OptionType
from tests.sim.exchange_setup import (
    CALL,
    GROUP,
    INDEX,
    MAKER,
    PERP,
    PUT,
    T0,
    TAKER,
    account,
    e8,
    future,
    mark,
    mass,
    of_type,
    option,
    order,
    placed,
    protect,
    quote,
    venue,
)


def group(**limits: int) -> MmpGroup:
    config = MmpConfig(
        index_name=INDEX,
        mmp_group=GROUP,
        interval_s=10,
        frozen_time_s=5,
        max_quote_quantity_e8=100 * E8,
        quantity_limit_e8=limits.get("quantity"),
        delta_limit_e8=limits.get("delta"),
        vega_limit_e8=limits.get("vega"),
    )
    return MmpGroup(config)


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 30)), min_size=1, max_size=30))
def test_windows_start_with_a_trade_and_do_not_slide(trades: list[tuple[int, int]]) -> None:
    """Against a reference that cuts the trades into windows beforehand."""
    limit = 50
    guarded = group(quantity=limit * E8)
    now_s, start_s, total, expected = 0, None, 0, None
    for index, (wait_s, amount) in enumerate(trades):
        now_s += wait_s
        if start_s is None or now_s - start_s >= 10:
            start_s, total = now_s, 0
        total += amount
        if total >= limit and expected is None:
            expected = index
    now_us, seen = 0, None
    for index, (wait_s, amount) in enumerate(trades):
        now_us += wait_s * SECOND_US
        if guarded.on_trade(coin_e8=-amount * E8, delta=0.0, vega_usd=0.0, now_us=now_us):
            seen = index
            break
    assert seen == expected


def test_delta_and_vega_net_where_quantity_adds_up() -> None:
    guarded = group(quantity=10 * E8, delta=3 * E8, vega=100 * E8)
    for sign in (1, -1, 1, -1):
        assert not guarded.on_trade(
            coin_e8=2 * E8 * sign, delta=2.9 * sign, vega_usd=90.0 * sign, now_us=0
        )
    assert guarded.on_trade(coin_e8=E8, delta=3.0, vega_usd=0.0, now_us=1)
    guarded.reset()
    assert guarded.on_trade(coin_e8=E8, delta=0.0, vega_usd=-100.0, now_us=2)


def test_measures_are_net_transaction_delta_and_signed_vega() -> None:
    coin_e8, delta, vega = trade_measures(option(), mark(CALL, 0.02), -2 * E8, e8(0.02))
    assert coin_e8 == -2 * E8
    assert delta == pytest.approx(-2 * (0.5 - 0.02), abs=1e-12)
    assert vega == pytest.approx(-40.0, abs=1e-12)
    usd = trade_measures(future(), mark(PERP, 60_000), 60_000 * E8, 60_000 * E8)
    assert usd == (E8, 1.0, 0.0)


def struck(exchange: Exchange) -> None:
    """The maker quotes call and put; a taker buys two of the call."""
    entries = (quote(CALL, (0.018, 1.5), (0.022, 1.9)), quote(PUT, (0.018, 1.5), (0.022, 1.9)))
    reply = exchange.mass_quote(MAKER, mass(*entries), T0)
    assert isinstance(reply, MassQuoteReply)
    assert not reply.errors
    exchange.taker_trade("flow", CALL, BUY, e8(1.9), e8(0.022), T0)
    exchange.taker_trade("flow", PUT, BUY, e8(1.9), e8(0.022), T0)


def two_books(**changes: object) -> Exchange:
    exchange = venue(option(), option(PUT, option_type=OptionType.PUT, number=2), future())
    protect(exchange, **{"quantity_limit_e8": e8(2), **changes})
    return exchange


def test_a_trigger_pulls_every_quote_of_the_group_and_says_so() -> None:
    exchange = two_books()
    struck(exchange)
    events = exchange.drain_events()
    (trigger,) = of_type(events, MmpTriggered)
    assert (trigger.mmp_group, trigger.frozen_until_ms) == (GROUP, (T0 + 5 * SECOND_US) // MS_US)
    assert not exchange.open_orders(MAKER, CancelFilter(), T0)
    pulled = [
        row
        for row in exchange.order_history(MAKER, CancelFilter(), 0, 10, True)
        if row.state is OrderState.CANCELLED
    ]
    assert {(row.cancel_reason, row.mmp_cancelled) for row in pulled} == {
        (CancelReason.MMP_TRIGGER, True)
    }


def test_a_group_that_triggers_in_a_sweep_trades_no_further() -> None:
    """Two protected orders at one price: the first fill breaks the limit, the second is gone."""
    exchange = venue()
    protect(exchange, quantity_limit_e8=e8(2), mmp_group="")
    for _ in range(2):
        placed(exchange, MAKER, order(BUY, 1.9, 0.02, mmp=True), T0)
    placed(exchange, MAKER, order(BUY, 1.9, 0.02, mmp=True), T0)
    filled = exchange.taker_trade("flow", CALL, SELL, e8(5.7), e8(0.02), T0)
    assert filled == e8(3.8)


def test_frozen_refuses_with_13030_until_the_freeze_ends() -> None:
    exchange = two_books()
    struck(exchange)
    again = mass(quote(CALL, (0.018, 1), None), number=2)
    until = T0 + 5 * SECOND_US
    with pytest.raises(VenueError) as caught:
        exchange.mass_quote(MAKER, again, until - 1)
    assert caught.value.code is Code.MMP_TRIGGER
    assert [row.mmp_group for row in exchange.mmp_status(MAKER, None, None, until - 1)] == [GROUP]
    assert isinstance(exchange.mass_quote(MAKER, again, until), MassQuoteReply)
    assert exchange.mmp_status(MAKER, None, None, until) == []


def test_frozen_time_zero_waits_for_a_reset() -> None:
    exchange = two_books(frozen_time_s=0)
    struck(exchange)
    later = T0 + 3_600 * SECOND_US
    (status,) = exchange.mmp_status(MAKER, INDEX, GROUP, later)
    assert status.frozen_until_ms == 0
    again = mass(quote(CALL, (0.018, 1), None), number=2)
    with pytest.raises(VenueError) as caught:
        exchange.mass_quote(MAKER, again, later)
    assert caught.value.code is Code.MMP_TRIGGER
    exchange.reset_mmp(MAKER, INDEX, GROUP, later)
    assert isinstance(exchange.mass_quote(MAKER, again, later), MassQuoteReply)


def test_orders_with_mmp_need_the_default_group() -> None:
    exchange = venue()
    with pytest.raises(VenueError) as caught:
        exchange.place(MAKER, order(BUY, 1, 0.02, mmp=True), T0)
    assert caught.value.code is Code.MMP_REQUIRED
    protect(exchange, mmp_group="")
    assert placed(exchange, MAKER, order(BUY, 1, 0.02, mmp=True), T0).order.mmp


def config(**changes: object) -> MmpConfigRequest:
    values: dict[str, object] = {
        "index_name": INDEX,
        "interval_s": 10,
        "frozen_time_s": 5,
        "max_quote_quantity_e8": 10 * E8,
        "mmp_group": GROUP,
    }
    return MmpConfigRequest(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"interval_s": 3601}, "interval"),
        ({"frozen_time_s": -1}, "frozen_time"),
        ({"max_quote_quantity_e8": None}, "max_quote_quantity"),
        ({"quantity_limit_e8": 1_000}, "quantity_limit"),
        ({"quantity_limit_e8": 501 * E8}, "quantity_limit"),
        ({"quantity_limit_e8": 5 * E8, "delta_limit_e8": 5 * E8}, "delta_limit"),
        ({"mmp_group": "g" * 65}, "mmp_group"),
        ({"index_name": "doge_usd"}, "index_name"),
    ],
)
def test_a_bad_configuration_names_its_parameter(changes: dict[str, object], param: str) -> None:
    with pytest.raises(VenueError) as caught:
        venue().set_mmp_config(MAKER, config(**changes), T0)
    assert caught.value.code is Code.INVALID_PARAMS
    assert caught.value.data is not None
    assert caught.value.data["param"] == param


def test_a_configuration_is_read_back_and_unsent_limits_are_cleared() -> None:
    exchange = venue()
    exchange.set_mmp_config(MAKER, config(vega_limit_e8=50 * E8), T0)
    exchange.set_mmp_config(MAKER, config(quantity_limit_e8=5 * E8), T0)
    (stored,) = exchange.mmp_configs(MAKER, INDEX, GROUP)
    assert (stored.quantity_limit_e8, stored.vega_limit_e8) == (5 * E8, None)


def test_interval_zero_deletes_pulls_and_frees_the_reserve() -> None:
    exchange = two_books()
    before = exchange.account_summary(MAKER, "BTC", T0).initial_margin_e8
    assert before == 3 * E8
    exchange.mass_quote(MAKER, mass(quote(CALL, (0.018, 1), None)), T0)
    assert exchange.set_mmp_config(MAKER, config(interval_s=0), T0) is None
    (pulled,) = exchange.order_history(MAKER, CancelFilter(), 0, 10, True)
    assert pulled.cancel_reason is CancelReason.MMP_CONFIG_CURTAILMENT
    assert exchange.account_summary(MAKER, "BTC", T0).initial_margin_e8 == 0


def test_a_group_belongs_to_one_index() -> None:
    linear = option("BTC_USDC-13FEB26-60000-C", is_inverse=False)
    exchange = venue(option(), linear)
    exchange.set_mmp_config(MAKER, config(), T0)
    with pytest.raises(VenueError) as caught:
        exchange.set_mmp_config(MAKER, config(index_name="btc_usdc"), T0)
    assert caught.value.code is Code.INVALID_PARAMS


def test_at_most_sixteen_groups() -> None:
    exchange = venue()
    for number in range(16):
        exchange.set_mmp_config(MAKER, config(mmp_group=str(number)), T0)
    with pytest.raises(VenueError) as caught:
        exchange.set_mmp_config(MAKER, config(mmp_group="17"), T0)
    assert caught.value.code is Code.OTHER_REJECT


def test_a_reserve_beyond_the_funds_is_refused_and_changes_nothing() -> None:
    exchange = venue()
    exchange.open_account(account("poor", 30, balances={"BTC": e8(0.2)}), T0)
    poor = type(MAKER)("poor", 0)
    with pytest.raises(VenueError) as caught:
        exchange.set_mmp_config(poor, config(), T0)
    assert caught.value.code is Code.NOT_ENOUGH_FUNDS
    assert exchange.mmp_configs(poor, None, None) == []


def test_the_taker_side_of_a_group_counts_too() -> None:
    exchange = two_books()
    placed(exchange, TAKER, order(SELL, 1.9, 0.02), T0)
    exchange.mass_quote(MAKER, mass(quote(CALL, (0.02, 1.9), None)), T0)
    exchange.mass_quote(MAKER, mass(quote(CALL, (0.019, 1.9), None)), T0)
    exchange.taker_trade("flow", CALL, SELL, e8(0.1), e8(0.019), T0)
    assert exchange.mmp_status(MAKER, None, None, T0)
