"""The world's side of the exchange: listing, index, marks, states, and quiet trading."""

from collections.abc import Sequence

import msgspec

from mm_daemon.sim.accounts import Account
from mm_daemon.sim.exchange_base import ExchangeBase
from mm_daemon.sim.exchange_config import AccountConfig
from mm_daemon.sim.exchange_events import (
    FundingChanged,
    IndexChanged,
    InstrumentStateChanged,
    MarksChanged,
    PlatformStateChanged,
    VolatilityIndexChanged,
)
from mm_daemon.sim.exchange_listed import Listed
from mm_daemon.sim.exchange_makers import is_trading, quote_both, take
from mm_daemon.sim.exchange_records import CashKind, FeeRow, Mark
from mm_daemon.sim.settlement import end_orders, watch_expiry
from mm_daemon.sim.settlement_funding import accrue_funding, update_rate
from mm_daemon.sim.spec import E18, NOT_TAKEN, InstrumentSpec, InstrumentState

# Quiet trading that finds nothing to trade with only touches one book: its change is told
# directly, without the general flush. This is what makes thousands of maker quotes a second cheap.


class WorldSide(ExchangeBase):
    """What only the world may do."""

    def open_account(self, config: AccountConfig, now_us: int) -> None:
        """Opens an account and books its balances as deposits."""
        self._enter(now_us)
        state = self._state
        assert config.name not in state.accounts, f"account {config.name} exists"
        account = Account(config, state.config, now_us)
        state.accounts[config.name] = account
        for currency, amount_e8 in config.balances_e8.items():
            account.balances[currency] = 0
            state.move_cash(account, currency, amount_e8, CashKind.DEPOSIT)

    def list_instrument(self, spec: InstrumentSpec, now_us: int) -> None:
        """Lists a new instrument, open from now on."""
        self._enter(now_us)
        state = self._state
        assert spec.name not in state.listed, f"{spec.name} is listed"
        assert spec.expiry_us > now_us, f"{spec.name} expired at {spec.expiry_us}, now {now_us}"
        listed = Listed(spec, state.config.public_trades_kept, now_us)
        state.listed[spec.name] = listed
        state.by_index.setdefault(spec.price_index, {})[spec.name] = listed
        if spec.is_perpetual:
            state.perpetuals.setdefault(spec.price_index, {})[spec.name] = listed
        else:
            watch_expiry(state, spec.price_index, spec.expiry_us, now_us)
        state.fee_rows.setdefault(
            (spec.price_index, spec.kind),
            FeeRow(
                index_name=spec.price_index,
                kind=spec.kind,
                maker_e8=spec.maker_commission_e8,
                taker_e8=spec.taker_commission_e8,
            ),
        )
        state.publish(InstrumentStateChanged(spec.name, InstrumentState.OPEN, now_us))
        self._due_us = self.next_due_us()

    def set_instrument_state(self, name: str, state: InstrumentState, now_us: int) -> None:
        """Halts, locks, closes or reopens a book; `inactive` also cancels what rests in it."""
        self._enter(now_us)
        listed = self._state.listed[name]
        if listed.state is state:
            return
        listed.state = state
        if state is InstrumentState.INACTIVE:
            end_orders(self._state, listed, now_us)
        self._state.publish(InstrumentStateChanged(name, state, now_us))
        self._flush(now_us)

    def set_tick_size(self, name: str, tick_size_e8: int, now_us: int) -> None:
        """Changes the finest tick, as in a maintenance: nothing is told, and what rests stays."""
        self._enter(now_us)
        listed = self._state.listed[name]
        listed.spec = msgspec.structs.replace(listed.spec, tick_size_e8=tick_size_e8)

    def set_platform_lock(self, price_index: str, locked: bool, now_us: int) -> None:
        self._enter(now_us)
        if locked:
            self._state.locked_indices[price_index] = None
        else:
            self._state.locked_indices.pop(price_index, None)
        self._state.publish(
            PlatformStateChanged(ts_us=now_us, price_index=price_index, locked=locked)
        )

    def set_maintenance(self, on: bool, now_us: int) -> None:
        self._enter(now_us)
        if self._state.maintenance is not on:
            self._state.maintenance = on
            self._state.publish(PlatformStateChanged(ts_us=now_us, maintenance=on))

    # ------------------------------------------------------------ prices

    def set_index(self, index_name: str, price_e8: int, now_us: int) -> None:
        """Moves an index; funding accrues at the old one until now."""
        self._enter(now_us)
        assert price_e8 > 0, f"{index_name} at {price_e8}"
        state = self._state
        perpetuals = self._perpetuals(index_name)
        for listed in perpetuals:
            accrue_funding(state, listed, now_us)
        state.index_e8[index_name] = price_e8
        state.publish(IndexChanged(index_name, price_e8, now_us))
        for listed in perpetuals:
            self._update_funding(listed, now_us)

    def set_volatility_index(self, index_name: str, percent: float, now_us: int) -> None:
        self._enter(now_us)
        self._state.volatility_pct[index_name] = percent
        self._state.publish(VolatilityIndexChanged(index_name, percent, now_us))

    def set_marks(self, index_name: str, marks: Sequence[Mark], now_us: int) -> None:
        """Publishes marks of one index, then the portfolios valued at exactly them.

        Marks of instruments that are no longer listed are left out.
        """
        self._enter(now_us)
        state = self._state
        listed_here = state.by_index.get(index_name, {})
        names: list[str] = []
        currencies: dict[str, None] = {}
        for mark in marks:
            listed = listed_here.get(mark.instrument)
            if listed is None:
                continue
            assert mark.mark_price_e8 >= 0, f"{mark.instrument} marked {mark.mark_price_e8}"
            if listed.spec.is_perpetual:
                accrue_funding(state, listed, now_us)
            listed.mark = mark
            names.append(mark.instrument)
            currencies[listed.spec.settlement_currency] = None
        for currency in currencies:
            state.marks_us[currency] = now_us
        state.publish(MarksChanged(index_name, tuple(names), now_us))
        for listed in self._perpetuals(index_name):
            self._update_funding(listed, now_us)
        self._publish_valued(currencies, now_us)

    def _perpetuals(self, index_name: str) -> list[Listed]:
        perpetuals = self._state.perpetuals.get(index_name)
        return [] if perpetuals is None else list(perpetuals.values())

    def _update_funding(self, listed: Listed, now_us: int) -> None:
        if update_rate(self._state, listed, now_us):
            self._state.publish(
                FundingChanged(
                    listed.spec.name,
                    listed.funding_rate_e18 / E18,
                    self._state.index_of(listed.spec),
                    now_us,
                )
            )

    def _publish_valued(self, currencies: dict[str, None], now_us: int) -> None:
        for account in self._state.accounts.values():
            if account.quiet:
                continue
            for currency in currencies:
                account.dirty_currencies.pop(currency, None)
                if currency in account.balances:
                    self._publish_portfolio(account, currency, now_us)

    # ------------------------------------------------------------ quiet trading

    def maker_quote(
        self,
        account: str,
        instrument: str,
        bid_price_e8: int,
        bid_amount_e8: int,
        ask_price_e8: int,
        ask_amount_e8: int,
        now_us: int,
    ) -> int:
        """Replaces both resting orders of a quiet account in one book; the amount traded."""
        self._enter(now_us)
        state = self._state
        listed = state.listed.get(instrument)
        if listed is None or not is_trading(state, listed):
            return NOT_TAKEN
        traded = quote_both(
            state,
            state.accounts[account],
            listed,
            (bid_price_e8, bid_amount_e8),
            (ask_price_e8, ask_amount_e8),
            now_us,
        )
        if traded:
            self._flush(now_us)
            return traded
        event = listed.book.take_event(state.change_seq + 1, now_us)
        if event is not None:
            state.change_seq += 1
            state.publish(event)
        return 0

    def taker_trade(
        self,
        account: str,
        instrument: str,
        sign: int,
        amount_e8: int,
        limit_price_e8: int,
        now_us: int,
    ) -> int:
        """An immediate-or-cancel order of a quiet account, without speed bump; amount filled."""
        self._enter(now_us)
        state = self._state
        listed = state.listed.get(instrument)
        if listed is None or not is_trading(state, listed):
            return 0
        filled_e8 = take(
            state, state.accounts[account], listed, sign, amount_e8, limit_price_e8, now_us
        )
        if filled_e8:
            self._flush(now_us)
        return filled_e8
