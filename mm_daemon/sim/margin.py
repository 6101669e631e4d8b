"""Margin requirements, simplified and stated; the venue's real formulas are not public.

Portfolio margin: the worst loss of all positions of one settlement currency over a grid of spot
and volatility shocks (options revalued by Black-76 on the published underlying price and mark
volatility), plus a floor per short option; initial is a fixed multiple of maintenance. Orders
outside protection groups add their own worst shock. Standard margin: short options by the venue's
older percentage rules, futures by a flat share, bought options by their premium; option value is
not collateral. In both, a protection group reserves 3 % of its max_quote_quantity always, in
exchange for which its orders need nothing more. There is no liquidation.

Figures here are floats: they are estimates that gate, never money that moves.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from mm_daemon.sim.accounts import Account
from mm_daemon.sim.exchange_config import MarginConfig
from mm_daemon.sim.exchange_listed import Listed
from mm_daemon.sim.exchange_types import MarginModel
from mm_daemon.sim.option_math import YEAR_US, price_coin
from mm_daemon.sim.spec import E8, OptionType

MMP_RESERVE_SHARE: Final = 0.03
STANDARD_FUTURE_INITIAL: Final = 0.02
STANDARD_FUTURE_MAINTENANCE: Final = 0.01
STANDARD_SHORT_INITIAL: Final = 0.15
STANDARD_SHORT_INITIAL_FLOOR: Final = 0.10
STANDARD_SHORT_MAINTENANCE: Final = 0.075


class Requirement(msgspec.Struct, frozen=True):
    """In settlement currency: of positions with reserve, and of open orders on top."""

    initial: float
    maintenance: float
    open_orders: float


class Unit(msgspec.Struct, frozen=True):
    """What one unit of amount does: profit per shock, and margins of a bought or sold unit."""

    shocks: tuple[float, ...]
    standard_short_initial: float
    standard_short_maintenance: float
    mark: float
    is_option: bool

    def worst(self, sign: int) -> float:
        """The largest loss of a bought (+1) or sold (-1) unit over the shocks, >= 0."""
        return max(0.0, -min(sign * profit for profit in self.shocks))


class _Scenario(msgspec.Struct, eq=False):
    """Portfolio profit per shock of one account and currency, kept up fill by fill."""

    refreshed_us: int
    profits: list[float]
    short_options: float


class MarginBook:
    """Unit margins of instruments and scenario sums of accounts, refreshed at a bounded pace."""

    def __init__(
        self, config: MarginConfig, listed: Mapping[str, Listed], index_e8: Mapping[str, int]
    ) -> None:
        self._config = config
        self._listed = listed
        self._index_e8 = index_e8
        self._now_us = 0
        self._units: dict[str, tuple[int, Unit]] = {}
        self._scenarios: dict[tuple[str, str], _Scenario] = {}

    def set_initial_over_maintenance(self, multiple: float) -> None:
        """The venue asks for more or less from now on, as venues do ahead of wild days."""
        self._config = msgspec.structs.replace(self._config, initial_over_maintenance=multiple)

    # ------------------------------------------------------------ units

    def unit(self, listed: Listed, now_us: int) -> Unit:
        """The unit of one instrument, at most `refresh_us` old."""
        self._now_us = now_us
        name = listed.spec.name
        cached = self._units.get(name)
        if cached is not None and now_us - cached[0] < self._config.refresh_us:
            return cached[1]
        unit = self._option_unit(listed, now_us) if listed.spec.is_option else self._future(listed)
        if listed.mark is not None:
            self._units[name] = (now_us, unit)
        return unit

    def forget(self, instrument: str) -> None:
        """Drops a delivered instrument and every scenario sum that may contain it."""
        self._units.pop(instrument, None)
        self._scenarios.clear()

    def _future(self, listed: Listed) -> Unit:
        mark = listed.mark_price_e8() / E8
        spots = self._config.spot_shocks
        vols = len(self._config.vol_shocks)
        if mark <= 0.0:
            return Unit((0.0,), 0.0, 0.0, 0.0, False)
        if listed.spec.is_inverse:
            moves = [1.0 / mark - 1.0 / (mark * (1.0 + spot)) for spot in spots]
            notional = 1.0 / mark
        else:
            moves = [mark * spot for spot in spots]
            notional = mark
        return Unit(
            tuple(move for move in moves for _ in range(vols)),
            STANDARD_FUTURE_INITIAL * notional,
            STANDARD_FUTURE_MAINTENANCE * notional,
            mark,
            False,
        )

    def _option_unit(self, listed: Listed, now_us: int) -> Unit:
        spec, mark = listed.spec, listed.mark
        assert spec.strike_e8 is not None
        if mark is None or not mark.underlying_price_e8:
            return Unit((0.0,), 0.0, 0.0, 0.0, True)
        forward = mark.underlying_price_e8 / E8
        strike = spec.strike_e8 / E8
        is_call = spec.option_type is OptionType.CALL
        tte_years = max(0.0, (spec.expiry_us - now_us) / YEAR_US)
        now = mark.mark_price_e8 / E8
        scale = 1.0 if spec.is_inverse else forward
        shocks: list[float] = []
        for spot in self._config.spot_shocks:
            moved = forward * (1.0 + spot)
            unit = 1.0 if spec.is_inverse else moved
            for vol in self._config.vol_shocks:
                shocked_vol = mark.mark_iv_pct / 100.0 * (1.0 + vol)
                value = price_coin(moved, strike, tte_years, shocked_vol, is_call)
                shocks.append(value * unit - now)
        otm = max(0.0, (strike - forward) if is_call else (forward - strike)) / forward
        initial = max(STANDARD_SHORT_INITIAL - otm, STANDARD_SHORT_INITIAL_FLOOR) * scale + now
        maintenance = STANDARD_SHORT_MAINTENANCE * max(scale, now) + now
        return Unit(tuple(shocks), initial, maintenance, now, True)

    # ------------------------------------------------------------ accounts

    def on_fill(self, account: Account, listed: Listed, signed_e8: int) -> None:
        """Keeps the scenario sum of a portfolio account up to date between refreshes."""
        if account.quiet or account.config.margin_model is MarginModel.STANDARD:
            return
        scenario = self._scenarios.get((account.name, listed.spec.settlement_currency))
        if scenario is None:
            return
        after_e8 = account.position_e8(listed.spec.name)
        self._add(scenario, listed, signed_e8)
        if listed.spec.is_option:
            shorts = max(0, -after_e8) - max(0, -(after_e8 - signed_e8))
            scenario.short_options += shorts / E8 * self._floor_scale(listed)

    def _add(self, scenario: _Scenario, listed: Listed, signed_e8: int) -> None:
        shocks = self.unit(listed, self._now_us).shocks
        if len(shocks) != len(scenario.profits):
            return  # no mark yet: nothing is known about this instrument's risk
        amount = signed_e8 / E8
        profits = scenario.profits
        for i, profit in enumerate(shocks):
            profits[i] += amount * profit

    def _floor_scale(self, listed: Listed) -> float:
        if listed.spec.is_inverse:
            return 1.0
        return self._index_e8.get(listed.spec.price_index, 0) / E8

    def _scenario(self, account: Account, currency: str, now_us: int) -> _Scenario:
        key = (account.name, currency)
        scenario = self._scenarios.get(key)
        if scenario is not None and now_us - scenario.refreshed_us < self._config.refresh_us:
            return scenario
        self._now_us = now_us
        count = len(self._config.spot_shocks) * len(self._config.vol_shocks)
        scenario = _Scenario(now_us, [0.0] * count, 0.0)
        for name, held in account.positions.items():
            listed = self._listed.get(name)
            if listed is None or not held.size_e8:
                continue
            if listed.spec.settlement_currency != currency:
                continue
            self._add(scenario, listed, held.size_e8)
            if listed.spec.is_option and held.size_e8 < 0:
                scenario.short_options += -held.size_e8 / E8 * self._floor_scale(listed)
        self._scenarios[key] = scenario
        return scenario

    def requirement(self, account: Account, currency: str, now_us: int) -> Requirement:
        """What one account must hold in one settlement currency."""
        self._now_us = now_us
        if account.config.margin_model is MarginModel.PORTFOLIO:
            scenario = self._scenario(account, currency, now_us)
            maintenance = max(0.0, -min(scenario.profits))
            maintenance += self._config.short_option_floor * scenario.short_options
            initial = maintenance * self._config.initial_over_maintenance
        else:
            initial, maintenance = self._standard(account, currency, now_us)
        initial += self._reserve(account, currency)
        orders = sum(
            self.order_margin(account, self._listed[order.instrument], order.sign, now_us)
            * (order.remaining_e8 / E8)
            for order in account.plain_orders.get(currency, {}).values()
            if not order.risk_reducing
        )
        return Requirement(initial, maintenance, orders)

    def _standard(self, account: Account, currency: str, now_us: int) -> tuple[float, float]:
        initial = maintenance = 0.0
        for name, held in account.positions.items():
            listed = self._listed.get(name)
            if listed is None or not held.size_e8:
                continue
            if listed.spec.settlement_currency != currency:
                continue
            if listed.spec.is_option and held.size_e8 > 0:
                continue
            unit = self.unit(listed, now_us)
            initial += unit.standard_short_initial * abs(held.size_e8) / E8
            maintenance += unit.standard_short_maintenance * abs(held.size_e8) / E8
        return initial, maintenance

    def _reserve(self, account: Account, currency: str) -> float:
        total = 0.0
        for (index_name, _), group in account.mmp_groups.items():
            share = MMP_RESERVE_SHARE * group.config.max_quote_quantity_e8 / E8
            base, _, quote = index_name.upper().partition("_")
            if quote == "USD" and base == currency:
                total += share
            elif quote == currency:
                total += share * self._index_e8.get(index_name, 0) / E8
        return total

    def order_margin(self, account: Account, listed: Listed, sign: int, now_us: int) -> float:
        """Initial margin of one unit of an order outside protection groups."""
        unit = self.unit(listed, now_us)
        if account.config.margin_model is MarginModel.PORTFOLIO:
            return unit.worst(sign) * self._config.initial_over_maintenance
        if unit.is_option and sign > 0:
            return unit.mark
        return unit.standard_short_initial

    def instrument_orders(self, account: Account, listed: Listed, now_us: int) -> float:
        """Initial margin of the account's orders in one instrument."""
        orders = account.plain_orders.get(listed.spec.settlement_currency, {}).values()
        return sum(
            self.order_margin(account, listed, order.sign, now_us) * (order.remaining_e8 / E8)
            for order in orders
            if order.instrument == listed.spec.name and not order.risk_reducing
        )

    def position_margin(self, listed: Listed, size_e8: int, now_us: int) -> tuple[float, float]:
        """(initial, maintenance) of one position by itself, by the standard rules."""
        if listed.spec.is_option and size_e8 >= 0:
            return 0.0, 0.0
        unit = self.unit(listed, now_us)
        size = abs(size_e8) / E8
        return unit.standard_short_initial * size, unit.standard_short_maintenance * size
