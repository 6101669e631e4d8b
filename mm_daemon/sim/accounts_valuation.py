"""What an account is worth at the published marks, and whether it can afford an order.

Sums run over exact integers and are rounded once to 1e-8, so that equity never depends on the
order or number of positions. Options count at their mark, futures by their session result.
"""

import msgspec

from mm_daemon.sim.accounts import Account
from mm_daemon.sim.exchange_errors import Code, VenueError
from mm_daemon.sim.exchange_listed import Listed
from mm_daemon.sim.exchange_state import ExchangeState
from mm_daemon.sim.exchange_types import MarginModel
from mm_daemon.sim.settlement_funding import accrue_funding
from mm_daemon.sim.spec import E8, E10, div_half_even


class Worth(msgspec.Struct, frozen=True, kw_only=True):
    """One account in one currency, valued at the present marks; all in 1e-8 coin."""

    balance_e8: int
    options_value_e8: int
    futures_session_e8: int

    @property
    def equity_e8(self) -> int:
        return self.balance_e8 + self.options_value_e8 + self.futures_session_e8

    def margin_balance_e8(self, model: MarginModel) -> int:
        """Under standard margin the value of options is not collateral."""
        if model is MarginModel.STANDARD:
            return self.balance_e8 + self.futures_session_e8
        return self.equity_e8


def worth(state: ExchangeState, account: Account, currency: str, now_us: int) -> Worth:
    """Values every position that settles in `currency`."""
    options_e16 = 0
    futures_e18 = 0
    for name, held in account.positions.items():
        listed = state.listed.get(name)
        if listed is None or listed.spec.settlement_currency != currency:
            continue
        if listed.spec.is_option:
            options_e16 += held.size_e8 * listed.mark_price_e8()
            continue
        if listed.spec.is_perpetual:
            accrue_funding(state, listed, now_us)
            held.fund(listed.funding_cum_e30)
        futures_e18 += held.session_result_e18(listed.spec, listed.mark_price_e8())
    return Worth(
        balance_e8=account.balances.get(currency, 0),
        options_value_e8=div_half_even(options_e16, E8),
        futures_session_e8=div_half_even(futures_e18, E10),
    )


def check_funds(
    state: ExchangeState,
    account: Account,
    listed: Listed,
    *,
    sign: int,
    added_e8: int,
    mmp: bool,
    now_us: int,
) -> None:
    """Refuses with 10009 an order that the account cannot carry.

    Orders in a protection group are covered by the group's reserve: they only need funds that
    are not already short. Quiet accounts are never refused.
    """
    if account.quiet:
        return
    currency = listed.spec.settlement_currency
    free = available_funds(state, account, currency, now_us)
    if not mmp:
        unit = state.margins.order_margin(account, listed, sign, now_us)
        free -= unit * added_e8 / E8
    if free < 0.0:
        raise VenueError(Code.NOT_ENOUGH_FUNDS)


def available_funds(state: ExchangeState, account: Account, currency: str, now_us: int) -> float:
    """Margin balance less initial margin of positions, reserves and open orders."""
    balance_e8 = worth(state, account, currency, now_us).margin_balance_e8(
        account.config.margin_model
    )
    need = state.margins.requirement(account, currency, now_us)
    return balance_e8 / E8 - need.initial - need.open_orders
