"""The venue's money arithmetic as we recompute it: values, premiums, commissions, payoffs.

All integers, each in the scale its name says (1e-8 or 1e-18 of the settlement currency). The one
rounding rule is half to even: cash is rounded once per booking to 1e-8, profit of futures stays at
1e-18 until it is paid. The value of an amount is linear in v(p): v(p) = p for options and linear
futures and v(p) = -1/p for inverse futures, so that the profit of holding an amount from p to q is
value(q) - value(p) for every contract. The simulated venue computes the same by code of its own.
"""

from __future__ import annotations

from mm_daemon.domain.instruments import Instrument, Kind

E8 = 10**8
E10 = 10**10
E18 = 10**18


def div_half_even(numerator: int, denominator: int) -> int:
    """The nearest integer to the quotient, ties to even; exact for any size."""
    assert denominator > 0, denominator
    quotient, remainder = divmod(numerator, denominator)
    if 2 * remainder > denominator or (2 * remainder == denominator and quotient % 2):
        return quotient + 1
    return quotient


def amount_e8(instrument: Instrument, lots: int) -> int:
    """A signed number of lots as the venue's amount."""
    amount_e9 = lots * instrument.lot_e9
    assert amount_e9 % 10 == 0, (instrument.name, lots, instrument.lot_e9)
    return amount_e9 // 10


def value_e18(instrument: Instrument, lots: int, price_e8: int) -> int:
    """v(p) times a signed amount, in the settlement currency."""
    amount = amount_e8(instrument, lots)
    if instrument.is_inverse and not instrument.is_option:
        assert price_e8 > 0, (instrument.name, price_e8)
        return -div_half_even(amount * E18, price_e8)
    return amount * price_e8 * 100


def average_price_e8(instrument: Instrument, lots: int, cost_e18: int) -> int:
    """The one price at which `lots` would have cost `cost_e18`; 0 for no position."""
    amount = abs(amount_e8(instrument, lots))
    if amount == 0 or cost_e18 == 0:
        return 0
    if instrument.is_inverse and not instrument.is_option:
        return div_half_even(amount * E18, abs(cost_e18))
    return div_half_even(abs(cost_e18), amount * 100)


def premium_e8(instrument: Instrument, lots: int, price_e8: int) -> int:
    """Cash that buying these lots costs at once, signed as the lots; 0 for futures."""
    if not instrument.is_option:
        return 0
    return div_half_even(amount_e8(instrument, lots) * price_e8, E8)


def trade_fee_e8(
    instrument: Instrument, *, lots: int, price_e8: int, index_price_e8: int, is_maker: bool
) -> int:
    """What the venue's schedule charges for a fill of `lots` > 0; negative is a rebate."""
    assert lots > 0, lots
    fees = instrument.fees
    rate_e8 = round((fees.maker if is_maker else fees.taker) * E8)
    fee = _notional_fee_e8(instrument, rate_e8, lots, price_e8, index_price_e8)
    if not instrument.is_option:
        return fee
    cap_rate_e8 = round(fees.premium_cap * E8)
    cap = div_half_even(amount_e8(instrument, lots) * price_e8 * cap_rate_e8, E8 * E8)
    return max(-cap, min(cap, fee))


def payoff_e18(instrument: Instrument, lots: int, delivery_price_e8: int) -> int:
    """What a signed option position is paid at expiry, in the settlement currency."""
    assert instrument.is_option, instrument.name
    strike_e8 = round(instrument.strike * E8)
    sign = 1 if instrument.is_call else -1
    intrinsic = max(0, sign * (delivery_price_e8 - strike_e8))
    amount = amount_e8(instrument, lots)
    if instrument.is_inverse:
        return div_half_even(amount * intrinsic * E10, delivery_price_e8)
    return amount * intrinsic * 100


def delivery_fee_e8(instrument: Instrument, lots: int, delivery_price_e8: int) -> int:
    """Commission of a delivery: capped for options at a share of what they are worth there."""
    fees = instrument.fees
    rate_e8 = round(fees.delivery * E8)
    fee = _notional_fee_e8(instrument, rate_e8, abs(lots), delivery_price_e8, delivery_price_e8)
    if not instrument.is_option:
        return fee
    worth_e18 = payoff_e18(instrument, abs(lots), delivery_price_e8)
    cap_rate_e8 = round(fees.delivery_cap * E8)
    return min(fee, div_half_even(worth_e18 * cap_rate_e8, E10 * E8))


def is_delivered(instrument: Instrument) -> bool:
    """Whether the contract ends by delivery (a perpetual never does)."""
    return instrument.kind is not Kind.PERPETUAL


def _notional_fee_e8(
    instrument: Instrument, rate_e8: int, lots: int, price_e8: int, index_price_e8: int
) -> int:
    amount = amount_e8(instrument, lots)
    if instrument.is_inverse and not instrument.is_option:
        return div_half_even(rate_e8 * amount, price_e8)
    if not instrument.is_option:
        return div_half_even(rate_e8 * amount * price_e8, E8 * E8)
    if instrument.is_inverse:
        return div_half_even(rate_e8 * amount, E8)
    return div_half_even(rate_e8 * amount * index_price_e8, E8 * E8)
