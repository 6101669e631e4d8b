"""Perpetual funding: a rate from mark and index, accrued continuously in integers.

premium = (mark - index) / index; the rate per 8 h is max(c, premium) + min(-c, premium) with
c = 0.025 %, so that small premiums cost nothing. What one unit of position pays accumulates in
1e-30 of settlement currency between changes of mark or index; a position takes the rise since it
last looked. Money moves only at session settlement.
"""

from typing import Final

from mm_daemon.sim.exchange_listed import Listed
from mm_daemon.sim.exchange_state import ExchangeState
from mm_daemon.sim.spec import E8, E18, HOUR_US, MINUTE_US, div_half_even

FUNDING_PERIOD_US: Final = 8 * HOUR_US
DEAD_ZONE_E18: Final = 25 * 10**13
E12: Final = 10**12


def funding_rate_e18(mark_e8: int, index_e8: int) -> int:
    """The 8-hour rate at a mark and an index, 1e-18."""
    premium_e18 = div_half_even((mark_e8 - index_e8) * E18, index_e8)
    return max(DEAD_ZONE_E18, premium_e18) + min(-DEAD_ZONE_E18, premium_e18)


def accrue_funding(state: ExchangeState, listed: Listed, now_us: int) -> None:
    """Brings the cumulative funding of a perpetual to `now_us` at the current rate and index."""
    elapsed_us = now_us - listed.funding_us
    if elapsed_us <= 0:
        return
    listed.funding_us = now_us
    index_e8 = state.index_of(listed.spec)
    if listed.funding_rate_e18 and index_e8:
        share = listed.funding_rate_e18 * elapsed_us * E12
        if listed.spec.is_inverse:
            rise_e30 = div_half_even(share * E8, FUNDING_PERIOD_US * index_e8)
        else:
            rise_e30 = div_half_even(share * index_e8, FUNDING_PERIOD_US * E8)
        listed.funding_cum_e30 += rise_e30
        listed.funding_share_e30 += div_half_even(share, FUNDING_PERIOD_US)
    _remember(listed, now_us)


def _remember(listed: Listed, now_us: int) -> None:
    """Keeps the accumulated rate once a minute for eight hours, for `funding_8h`."""
    history = listed.funding_history
    if now_us - history[-1][0] >= MINUTE_US:
        history.append((now_us, listed.funding_share_e30))
    while len(history) > 1 and history[1][0] <= now_us - FUNDING_PERIOD_US:
        history.popleft()


def funding_8h(listed: Listed) -> float:
    """The rate accumulated over the last eight hours (or since listing), as a decimal."""
    return (listed.funding_share_e30 - listed.funding_history[0][1]) / 1e30


def update_rate(state: ExchangeState, listed: Listed, now_us: int) -> bool:
    """Accrues at the old rate, then takes the rate of the present mark and index; True if new."""
    accrue_funding(state, listed, now_us)
    index_e8 = state.index_of(listed.spec)
    if listed.mark is None or not index_e8:
        return False
    rate_e18 = funding_rate_e18(listed.mark.mark_price_e8, index_e8)
    changed = rate_e18 != listed.funding_rate_e18
    listed.funding_rate_e18 = rate_e18
    return changed
