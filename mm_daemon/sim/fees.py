"""The venue's money arithmetic per trade: values, premiums, commissions, caps, payoffs.

All integers; each function states its scale. Commission is rounded half-to-even to 1e-8 of the
settlement currency once per fill and side. The value of an amount is linear in v(p): v(p) = p
for options and linear futures, v(p) = -1/p for inverse futures, so that for every instrument the
profit of holding `amount` from p to q is value(amount, q) - value(amount, p).
"""

from typing import Final

from mm_daemon.sim.spec import E8, E10, E18, InstrumentSpec, OptionType, div_half_even

# An option commission never exceeds 12.5 % of the option's price: one eighth.
OPTION_FEE_CAP_DIVISOR: Final = 8


def value_e18(spec: InstrumentSpec, amount_e8: int, price_e8: int) -> int:
    """Settlement-currency value of a signed amount at a price, v(p) as the module says."""
    if spec.is_inverse_future:
        return -div_half_even(amount_e8 * E18, price_e8)
    return amount_e8 * price_e8 * 100


def average_price_e8(spec: InstrumentSpec, amount_e8: int, amount_value_e18: int) -> int:
    """The one price at which `amount_e8` would have `amount_value_e18`; 0 for no amount."""
    if amount_e8 == 0 or amount_value_e18 == 0:
        return 0
    if spec.is_inverse_future:
        return abs(div_half_even(abs(amount_e8) * E18, abs(amount_value_e18)))
    return div_half_even(abs(amount_value_e18), abs(amount_e8) * 100)


def premium_e8(spec: InstrumentSpec, amount_e8: int, price_e8: int) -> int:
    """Cash that a buyer pays for an option; signed as the amount. 0 for futures."""
    if not spec.is_option:
        return 0
    return div_half_even(amount_e8 * price_e8, E8)


def coin_size_e8(spec: InstrumentSpec, amount_e8: int, price_e8: int) -> int:
    """The amount in base coin: USD / price for inverse futures, else the amount itself."""
    if spec.is_inverse_future:
        return div_half_even(amount_e8 * E8, price_e8) if price_e8 > 0 else 0
    return amount_e8


def contracts_e8(spec: InstrumentSpec, amount_e8: int) -> int:
    return div_half_even(amount_e8 * E8, spec.contract_size_e8)


def _notional_fee_e8(
    spec: InstrumentSpec, rate_e8: int, amount_e8: int, price_e8: int, index_e8: int
) -> int:
    if spec.is_inverse_future:
        return div_half_even(rate_e8 * amount_e8, price_e8)
    if not spec.is_option:
        return div_half_even(rate_e8 * amount_e8 * price_e8, E8 * E8)
    if spec.is_inverse:
        return div_half_even(rate_e8 * amount_e8, E8)
    return div_half_even(rate_e8 * amount_e8 * index_e8, E8 * E8)


def trade_fee_e8(
    spec: InstrumentSpec, *, amount_e8: int, price_e8: int, index_e8: int, is_maker: bool
) -> int:
    """Commission of one side of a fill, amount positive; negative is a rebate.

    Futures: rate x value. Options: rate x amount in coin (inverse) or rate x index x amount
    (linear), at most 12.5 % of the premium; a rebate is capped by the same magnitude.
    """
    assert amount_e8 > 0
    rate_e8 = spec.maker_commission_e8 if is_maker else spec.taker_commission_e8
    fee_e8 = _notional_fee_e8(spec, rate_e8, amount_e8, price_e8, index_e8)
    if not spec.is_option:
        return fee_e8
    cap_e8 = div_half_even(amount_e8 * price_e8, E8 * OPTION_FEE_CAP_DIVISOR)
    return max(-cap_e8, min(cap_e8, fee_e8))


def payoff_e18(spec: InstrumentSpec, amount_e8: int, delivery_e8: int) -> int:
    """What a signed option amount is paid at expiry: max(0, +-(S - K)) per coin, / S if inverse."""
    assert spec.strike_e8 is not None, f"{spec.name} has no strike"
    sign = 1 if spec.option_type is OptionType.CALL else -1
    intrinsic_e8 = max(0, sign * (delivery_e8 - spec.strike_e8))
    if spec.is_inverse:
        return div_half_even(amount_e8 * intrinsic_e8 * E10, delivery_e8)
    return amount_e8 * intrinsic_e8 * 100


def delivery_fee_e8(spec: InstrumentSpec, amount_e8: int, delivery_e8: int) -> int:
    """Delivery commission of a position: of the underlying's value, for options at most 12.5 %
    of what the option is worth at delivery. Perpetuals are never delivered and pay none."""
    rate_e8 = spec.delivery_commission_e8
    fee_e8 = _notional_fee_e8(spec, rate_e8, abs(amount_e8), delivery_e8, delivery_e8)
    if not spec.is_option:
        return fee_e8
    worth_e18 = payoff_e18(spec, abs(amount_e8), delivery_e8)
    return min(fee_e8, div_half_even(worth_e18, E10 * OPTION_FEE_CAP_DIVISOR))
