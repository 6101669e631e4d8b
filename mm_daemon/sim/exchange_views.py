"""What the venue states about a market or an account at one moment.

Money is summed in exact integers and rounded once; greeks and margins are floats. The summary is
valued at the marks last published and says their stamp.
"""

from mm_daemon.sim.accounts import Account, Position
from mm_daemon.sim.accounts_valuation import worth
from mm_daemon.sim.exchange_listed import Listed
from mm_daemon.sim.exchange_records import AccountSummary, PositionView, Ticker
from mm_daemon.sim.exchange_state import ExchangeState
from mm_daemon.sim.exchange_stats import stats_of
from mm_daemon.sim.fees import average_price_e8, coin_size_e8, value_e18
from mm_daemon.sim.settlement import estimate_e8
from mm_daemon.sim.settlement_funding import accrue_funding, funding_8h
from mm_daemon.sim.spec import E8, E10, E18, div_half_even


def ticker(state: ExchangeState, listed: Listed, now_us: int) -> Ticker:
    spec, book = listed.spec, listed.book
    low_e8, high_e8 = listed.band_e8()
    index_e8 = state.index_of(spec)
    average = state.deliveries.get((spec.price_index, spec.expiry_us))
    in_window = average is not None and average.samples > 0
    funding = listed.funding_rate_e18 / E18 if spec.is_perpetual else None
    return Ticker(
        instrument=spec.name,
        ts_us=now_us,
        state=listed.state,
        best_bid_price_e8=book.bids.best_price_e8(),
        best_bid_amount_e8=book.bids.best_amount_e8(),
        best_ask_price_e8=book.asks.best_price_e8(),
        best_ask_amount_e8=book.asks.best_amount_e8(),
        last_price_e8=listed.last_price_e8,
        mark=listed.mark,
        index_price_e8=index_e8,
        min_price_e8=low_e8,
        max_price_e8=high_e8,
        settlement_price_e8=listed.settlement_price_e8,
        estimated_delivery_price_e8=(
            estimate_e8(state, average) if average is not None and in_window else index_e8
        ),
        delivery_price_e8=listed.delivery_price_e8,
        open_interest_e8=listed.open_interest_e8,
        stats=stats_of(listed, now_us),
        current_funding=funding,
        funding_8h=funding_8h(listed) if spec.is_perpetual else None,
        interest_value=funding,
    )


def position_view(
    state: ExchangeState, account: Account, listed: Listed, now_us: int
) -> PositionView:
    """One position, zero or not."""
    spec = listed.spec
    held = account.positions.get(spec.name) or Position()
    if spec.is_perpetual:
        accrue_funding(state, listed, now_us)
        held.fund(listed.funding_cum_e30)
    mark_e8 = listed.mark_price_e8()
    floating_e18 = value_e18(spec, held.size_e8, mark_e8) - held.cost_e18 if held.size_e8 else 0
    initial, maintenance = state.margins.position_margin(listed, held.size_e8, now_us)
    mark = listed.mark
    size = held.size_e8 / E8
    is_option = spec.is_option and mark is not None
    coin_e8 = coin_size_e8(spec, held.size_e8, mark_e8)
    orders = state.margins.instrument_orders(account, listed, now_us)
    return PositionView(
        instrument=spec.name,
        kind=spec.kind,
        size_e8=held.size_e8,
        size_currency_e8=None if spec.is_option else coin_e8,
        average_price_e8=average_price_e8(spec, held.size_e8, held.cost_e18),
        mark_price_e8=mark_e8,
        index_price_e8=state.index_of(spec),
        settlement_price_e8=listed.settlement_price_e8,
        delta=size * mark.delta if is_option and mark is not None else coin_e8 / E8,
        gamma=size * mark.gamma if is_option and mark is not None else None,
        vega=size * mark.vega if is_option and mark is not None else None,
        theta=size * mark.theta if is_option and mark is not None else None,
        floating_profit_loss_e8=div_half_even(floating_e18, E10),
        realized_profit_loss_e8=div_half_even(held.realized_e18, E10),
        total_profit_loss_e8=div_half_even(floating_e18 + held.realized_e18, E10),
        realized_funding_e8=(
            div_half_even(held.session_funding_e18, E10) if spec.is_perpetual else None
        ),
        initial_margin_e8=round(initial * E8),
        maintenance_margin_e8=round(maintenance * E8),
        open_orders_margin_e8=round(orders * E8),
        leverage=spec.max_leverage,
    )


class _Totals:
    """Sums over the positions of one account in one currency."""

    __slots__ = (
        "by_index",
        "funding_e18",
        "futures_pl_e18",
        "futures_rpl_e18",
        "futures_upl_e18",
        "options_pl_e18",
        "options_rpl_e18",
        "options_upl_e18",
    )

    def __init__(self) -> None:
        self.futures_rpl_e18 = self.futures_upl_e18 = self.futures_pl_e18 = 0
        self.options_rpl_e18 = self.options_upl_e18 = self.options_pl_e18 = 0
        self.funding_e18 = 0
        self.by_index: dict[str, list[float]] = {}

    def add(self, listed: Listed, held: Position) -> None:
        spec, mark_e8 = listed.spec, listed.mark_price_e8()
        value = value_e18(spec, held.size_e8, mark_e8) if held.size_e8 else 0
        upl_e18 = value - held.session_cost_e18
        pl_e18 = held.realized_e18 + value - held.cost_e18
        greeks = self.by_index.setdefault(spec.price_index, [0.0] * 5)
        if not spec.is_option:
            self.futures_rpl_e18 += held.session_realized_e18
            self.futures_upl_e18 += upl_e18
            self.futures_pl_e18 += pl_e18 + held.funding_e18
            self.funding_e18 += held.session_funding_e18
            greeks[4] += coin_size_e8(spec, held.size_e8, mark_e8) / E8
            return
        self.options_rpl_e18 += held.session_realized_e18
        self.options_upl_e18 += upl_e18
        self.options_pl_e18 += pl_e18
        if listed.mark is not None:
            _add_greeks(greeks, listed, held.size_e8 / E8)


def _add_greeks(greeks: list[float], listed: Listed, size: float) -> None:
    """Delta, gamma, vega, theta, and the delta total net of premium for inverse options."""
    mark = listed.mark
    assert mark is not None
    greeks[0] += size * mark.delta
    greeks[1] += size * mark.gamma
    greeks[2] += size * mark.vega
    greeks[3] += size * mark.theta
    premium = mark.mark_price_e8 / E8 if listed.spec.is_inverse else 0.0
    greeks[4] += size * (mark.delta - premium)


def account_summary(
    state: ExchangeState, account: Account, currency: str, now_us: int
) -> AccountSummary:
    """The account in one currency; equity is exactly balance + futures session + options."""
    value = worth(state, account, currency, now_us)
    totals = _Totals()
    for name, held in account.positions.items():
        listed = state.listed.get(name)
        if listed is not None and listed.spec.settlement_currency == currency:
            totals.add(listed, held)
    need = state.margins.requirement(account, currency, now_us)
    margin_balance_e8 = value.margin_balance_e8(account.config.margin_model)
    initial_e8 = round((need.initial + need.open_orders) * E8)
    futures_rpl_e8 = div_half_even(totals.futures_rpl_e18 + totals.funding_e18, E10)
    futures_upl_e8 = value.futures_session_e8 - futures_rpl_e8
    options_rpl_e8 = div_half_even(totals.options_rpl_e18, E10)
    options_upl_e8 = div_half_even(totals.options_upl_e18, E10)
    options_pl_e8 = div_half_even(totals.options_pl_e18, E10)
    futures_pl_e8 = div_half_even(totals.futures_pl_e18, E10)
    by_index = totals.by_index
    delta_total = sum(greeks[4] for greeks in by_index.values())
    return AccountSummary(
        account=account.name,
        user_id=account.config.user_id,
        currency=currency,
        ts_us=now_us,
        marks_ts_us=state.marks_us.get(currency, 0),
        balance_e8=value.balance_e8,
        equity_e8=value.equity_e8,
        margin_balance_e8=margin_balance_e8,
        available_funds_e8=margin_balance_e8 - initial_e8,
        initial_margin_e8=initial_e8,
        maintenance_margin_e8=round(need.maintenance * E8),
        projected_initial_margin_e8=round(need.initial * E8),
        projected_maintenance_margin_e8=round(need.maintenance * E8),
        options_value_e8=value.options_value_e8,
        options_session_rpl_e8=options_rpl_e8,
        options_session_upl_e8=options_upl_e8,
        futures_session_rpl_e8=futures_rpl_e8,
        futures_session_upl_e8=futures_upl_e8,
        session_rpl_e8=options_rpl_e8 + futures_rpl_e8,
        session_upl_e8=options_upl_e8 + futures_upl_e8,
        session_funding_e8=div_half_even(totals.funding_e18, E10),
        options_pl_e8=options_pl_e8,
        futures_pl_e8=futures_pl_e8,
        total_pl_e8=options_pl_e8 + futures_pl_e8,
        delta_total=delta_total,
        projected_delta_total=delta_total,
        options_delta=sum(greeks[0] for greeks in by_index.values()),
        options_gamma=sum(greeks[1] for greeks in by_index.values()),
        options_vega=sum(greeks[2] for greeks in by_index.values()),
        options_theta=sum(greeks[3] for greeks in by_index.values()),
        options_delta_by_index={name: greeks[0] for name, greeks in by_index.items()},
        options_gamma_by_index={name: greeks[1] for name, greeks in by_index.items()},
        options_vega_by_index={name: greeks[2] for name, greeks in by_index.items()},
        options_theta_by_index={name: greeks[3] for name, greeks in by_index.items()},
        delta_total_by_index={name: greeks[4] for name, greeks in by_index.items()},
        margin_model=account.config.margin_model,
        mmp_enabled=account.config.mass_quotes_enabled,
        limits=account.credits.statement(),
        fees=tuple(state.fee_rows[key] for key in sorted(state.fee_rows)),
        index_price_e8=_index_of_currency(state, currency),
    )


def _index_of_currency(state: ExchangeState, currency: str) -> int:
    """USD per coin of a settlement currency: its own index, or 1 for a dollar coin."""
    return state.index_e8.get(f"{currency.lower()}_usd", E8 if currency.startswith("USD") else 0)
