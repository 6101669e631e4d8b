"""Everything the decision knows, in one place; components are side by side and know nothing of
each other. What needs two of them is written in the desks.
"""

from __future__ import annotations

import math
from hashlib import blake2b

import numpy as np

from mm_daemon.core.absent_listings import AbsentListings
from mm_daemon.core.adjustments import Adjustments
from mm_daemon.core.breaker import Breaker
from mm_daemon.core.calibrator import Calibrator
from mm_daemon.core.catalog import Catalog, Floats, Ints
from mm_daemon.core.client_ids import ClientIds
from mm_daemon.core.features import FeatureBoard
from mm_daemon.core.flatten import Flattener
from mm_daemon.core.forwards import Forwards
from mm_daemon.core.hedger import Hedger
from mm_daemon.core.intensity import Intensity
from mm_daemon.core.knobs import Knobs
from mm_daemon.core.margin import RESERVE_SHARE, Margin, MarginScales, MarginTerms
from mm_daemon.core.market import Market
from mm_daemon.core.metric_board import MetricBoard
from mm_daemon.core.modes import Modes
from mm_daemon.core.outbox import Outbox
from mm_daemon.core.portfolio import Portfolio
from mm_daemon.core.portfolio_greeks import (
    LOT_ROWS,
    GreekTotals,
    buckets_of,
    lot_greeks,
    portfolio_greeks,
)
from mm_daemon.core.quote_terms import LiveColumns
from mm_daemon.core.quoter import Quoter
from mm_daemon.core.risk import RiskGate
from mm_daemon.core.risk_sides import Seen
from mm_daemon.core.risk_verdict import SIZE_REASONS, AccountState, Refused
from mm_daemon.core.scheduler import Scheduler
from mm_daemon.core.skew import Skew
from mm_daemon.core.theo import FORWARD, PRICE, TheoBoard
from mm_daemon.core.throttle import Throttle
from mm_daemon.core.venue_freeze import VenueFreezes
from mm_daemon.core.working_orders import WorkingOrders
from mm_daemon.domain.inputs import Start
from mm_daemon.domain.params import UnderlyingParams
from mm_daemon.domain.permission import OPEN, Mask
from mm_daemon.domain.units import Ns


class EngineState:
    """Components over one catalogue. Made when the first catalogue is known."""

    def __init__(self, start: Start, catalog: Catalog, modes: Modes, outbox: Outbox) -> None:
        params = start.params
        self.start = start
        self.params = params
        self.modes = modes
        self.outbox = outbox
        self.underlyings: dict[str, UnderlyingParams] = {
            underlying.name: underlying for underlying in params.underlyings
        }
        self.catalog = catalog
        self.market = Market(catalog)
        self.forwards = Forwards(catalog)
        self.calibrator = Calibrator(
            catalog, params.surface, age_s_max=params.breaker.surface_age_s_max
        )
        self.theo = TheoBoard(catalog)
        self.features = FeatureBoard(catalog)
        self.intensity = Intensity(catalog, params.fill_model, params.spread_model)
        self.skew = Skew(catalog)
        self.knobs = Knobs()
        self.quoter = Quoter(catalog)
        self.scheduler = Scheduler()
        self.portfolio = Portfolio(catalog)
        self.working = WorkingOrders(catalog, self.portfolio.keys)
        self.adjustments = Adjustments()
        self.absent = AbsentListings()
        self.risk = RiskGate(catalog, params)
        self.throttle = Throttle(params.throttle)
        self.client_ids = ClientIds(_label_prefix(start), start.epoch, start.first_sequence)
        self.metrics = MetricBoard(self.underlyings)
        is_open = Mask(start.latch_permission, start.latch_tasks) == OPEN
        self.breaker = Breaker(catalog, params, is_latched=not is_open)
        self.hedger = Hedger(catalog, params.underlyings)
        self.flattener = Flattener(catalog, params.underlyings)
        self.reconcile_broken_since_ns = 0
        """When the last reconcile was first found to differ; 0 = it is clean."""
        self.freezes = VenueFreezes(params.underlyings)
        self.foreign_fills = 0
        """Trades of orders that are not ours, since a person last looked (C30)."""
        self.slowed: dict[str, str] = {}
        """Underlyings whose quotes move only for a larger gain, and the control that says so."""
        self.fits_accepted: dict[str, int] = {}
        self.margin: dict[str, Margin] = {}
        """By currency, as the venue last stated."""
        self.margin_scales = MarginScales()
        self.equity_coin: dict[str, float] = {}
        self._take_catalog(catalog)

    def grow(self, catalog: Catalog) -> None:
        """Takes up new listings; everything known stays under its id."""
        for component in (
            self.market,
            self.forwards,
            self.calibrator,
            self.theo,
            self.features,
            self.intensity,
            self.skew,
            self.quoter,
            self.working,
            self.portfolio,
            self.breaker,
            self.hedger,
            self.flattener,
        ):
            component.resize(catalog)
        self.risk.resize(catalog, self.portfolio.position_lots, self.working)
        self._take_catalog(catalog)

    def apply_settings(self) -> None:
        """Puts parameters and the trader's knobs in force."""
        self.calibrator.apply_knobs(self.knobs)
        self.quoter.apply_settings(self.catalog, self.params.underlyings, self.knobs)

    def live(self) -> LiveColumns:
        """Quotes we believe rest."""
        working = self.working
        return LiveColumns(
            working.live_bid_ticks,
            working.live_bid_lots,
            working.live_ask_ticks,
            working.live_ask_lots,
        )

    def asked(self) -> LiveColumns:
        """The newest terms asked, else those that rest."""
        working = self.working
        return LiveColumns(
            working.asked_bid_ticks,
            working.asked_bid_lots,
            working.asked_ask_ticks,
            working.asked_ask_lots,
        )

    def collateral_coin(self, underlying: str) -> float:
        """The equity that counts as delta: 0 where it is not hedged or is no coin (what settles in
        a stable currency has none), NaN where it is not known."""
        is_coin = self.catalog.is_inverse[self.catalog.perpetual[underlying]]
        if not (is_coin and self.underlyings[underlying].hedge.collateral_hedged):
            return 0.0
        return self.equity_coin.get(self.settle_currency[underlying], math.nan)

    def refresh_risk_greeks(self, underlying: str, now_ns: Ns) -> None:
        """Gives the pre-trade gate fresh greeks and account numbers; at a pace."""
        currency = self.settle_currency[underlying]
        self.risk.set_account(
            underlying,
            AccountState(
                base_delta_coin=self.collateral_coin(underlying),
                index_usd=self.index_usd(underlying),
                margin_use=self._margin_use(currency),
                margin_room_usd=self._margin_room_usd(underlying),
                margin_scale=self.margin_scales.of(currency),
            ),
        )
        self._calibrate_margin(underlying, now_ns)
        market, tick = self.market, self.catalog.tick
        seen = Seen(market.mark, market.bid_ticks * tick, market.ask_ticks * tick)
        self.risk.refresh_greeks(underlying, self.theo.columns, now_ns, seen)

    def margin_terms(self, underlying: str) -> MarginTerms:
        """Shares of the margin balance that are asked, reserved, and asked if everything
        outstanding filled at its worst."""
        currency = self.settle_currency[underlying]
        margin = self.margin.get(currency)
        if margin is None:
            return MarginTerms(math.nan, math.nan, math.nan)
        worst_usd = -self.risk.worst_stress_usd(underlying) - self.risk.held_loss_usd(underlying)
        balance_usd = margin.balance * self._coin_usd(underlying)
        added = worst_usd * self.margin_scales.of(currency) / balance_usd if balance_usd else 0.0
        return MarginTerms(
            read=margin.use,
            reserved=self._reserved_coin(currency) / margin.balance if margin.balance else math.nan,
            estimated=margin.use + added,
        )

    def _margin_use(self, currency: str) -> float:
        margin = self.margin.get(currency)
        return math.nan if margin is None else margin.use

    def _margin_room_usd(self, underlying: str) -> float:
        """What margin may still be asked for this underlying; shared evenly where several settle in
        one currency."""
        currency = self.settle_currency[underlying]
        margin = self.margin.get(currency)
        if margin is None:
            return math.nan
        stop = self.underlyings[underlying].limits.margin_stop_ratio
        sharing = list(self.settle_currency.values()).count(currency)
        room = stop * margin.balance - margin.initial
        return room * self._coin_usd(underlying) / sharing

    def _calibrate_margin(self, underlying: str, now_ns: Ns) -> None:
        currency = self.settle_currency[underlying]
        margin, coin_usd = self.margin.get(currency), self._coin_usd(underlying)
        if margin is None or currency in self.shared_currencies:
            # With two underlyings in one account nothing says which of them asks how much.
            return
        self.margin_scales.observe(
            currency,
            asked_usd=(margin.initial - self._reserved_coin(currency)) * coin_usd,
            loss_usd=self.risk.held_loss_usd(underlying),
            balance_usd=margin.balance * coin_usd,
            now_ns=now_ns,
        )

    def _reserved_coin(self, currency: str) -> float:
        """Held by the venue for the protection groups of this currency."""
        total = 0.0
        for name, params in self.underlyings.items():
            if self.settle_currency[name] == currency:
                coin = self.index_usd(name) / self._coin_usd(name)
                total += RESERVE_SHARE * params.mmp.quote_quantity_max * coin
        return total

    def _coin_usd(self, underlying: str) -> float:
        """USD of one unit of the settlement currency: 1 where it is not the underlying itself."""
        perpetual = self.catalog.instruments[self.catalog.perpetual[underlying]]
        return self.index_usd(underlying) if perpetual.is_inverse else 1.0

    def index_usd(self, underlying: str) -> float:
        price_index = self.underlyings[underlying].price_index
        return self.market.index_price.get(price_index, math.nan)

    def count_refusal(self, refused: Refused, now_ns: Ns) -> None:
        """Counts what the pre-trade gate refused. Of sizes a storm is one of rejects (C13)."""
        self.metrics.add("mm_risk_refusals_total", control=refused.control)
        if refused.reason in SIZE_REASONS:
            self.breaker.size_refusals.add(now_ns)

    def position_greeks(self, underlying: str, now_ns: Ns) -> GreekTotals:
        """Greeks of what is held, NaN where something held that has not ended has none now."""
        board = self.theo.columns[PRICE : FORWARD + 1]
        lot_greeks(self.catalog, board, now_ns, self._lot_rows)
        return portfolio_greeks(
            self.buckets[underlying], self._lot_rows, self.portfolio.position_lots
        )

    def lot_risk(self, instrument_id: int) -> tuple[float, float]:
        """(premium-adjusted delta in coin, vega in USD per vol point) of one lot."""
        lot = float(self.catalog.lot[instrument_id])
        delta = float(self.theo.delta_adjusted[instrument_id]) * lot
        return delta, float(self.theo.vega[instrument_id]) * lot * 0.01

    def size_lots(self, underlying: str) -> Floats:
        """Configured quote size by instrument id, in lots."""
        quoting = self.underlyings[underlying].quoting
        is_wing = np.abs(self.theo.delta) < quoting.wing_delta
        return np.where(is_wing, float(quoting.size_lots_wing), float(quoting.size_lots_near))

    def digest(self) -> bytes:
        """16 bytes over every component."""
        hasher = blake2b(digest_size=16)
        for component in (
            self.market,
            self.forwards,
            self.calibrator,
            self.theo,
            self.features,
            self.intensity,
            self.skew,
            self.knobs,
            self.quoter,
            self.scheduler,
            self.working,
            self.portfolio,
            self.adjustments,
            self.risk,
            self.throttle,
            self.breaker,
            self.hedger,
            self.flattener,
        ):
            hasher.update(component.digest())
        words = (
            self.client_ids.next_sequence,
            self.margin,
            self.margin_scales.words(),
            self.equity_coin,
            self.fits_accepted,
            self.reconcile_broken_since_ns,
            self.foreign_fills,
            self.freezes.words(),
            self.slowed,
            self.absent.digest_words(),
        )
        hasher.update(repr((words, self.metrics.counts)).encode())
        return hasher.digest()

    def _take_catalog(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.names = tuple(instrument.name for instrument in catalog.instruments)
        self.index_of = {name: index for index, name in enumerate(catalog.underlyings)}
        self.option_ids: dict[str, Ints] = {
            name: catalog.option_ids(name) for name in catalog.underlyings
        }
        self.buckets = {name: buckets_of(catalog, name) for name in catalog.underlyings}
        self._lot_rows: Floats = np.full((LOT_ROWS, len(catalog)), np.nan)
        self.settle_currency = {
            name: catalog.instruments[catalog.perpetual[name]].settle_currency
            for name in catalog.underlyings
        }
        self.hedge_ids: dict[str, tuple[int, ...]] = {
            name: tuple(
                i.id for i in catalog.instruments if i.underlying == name and not i.is_option
            )
            for name in catalog.underlyings
        }
        """Perpetual and futures of each underlying."""
        shared = list(self.settle_currency.values())
        self.shared_currencies = tuple(c for c in shared if shared.count(c) > 1)
        """Currencies in which more than one underlying settles."""
        self.shared_index = {
            name: self.underlyings[name].price_index
            for name, currency in self.settle_currency.items()
            if shared.count(currency) > 1
        }
        """The price index of each underlying whose currency holds another one too."""
        self.perpetuals = {
            catalog.perpetual[name]: self.settle_currency[name] for name in catalog.underlyings
        }
        """Settlement currency of each underlying's perpetual, by instrument id."""
        self.apply_settings()


def _label_prefix(start: Start) -> str:
    """Environment and shard in front of every client id: who owns an order is in its name."""
    return f"{start.params.environment[0]}{start.params.shard}"
