"""From a moved market to quotes that may leave: theo, choice, schedule, limits, in that order.

One pass looks only at what moved since the last: expiries whose forward or surface moved, options
whose book changed, and everything when inventory, models or settings did. Each message passes the
risk gate and the throttle before it is counted as working, put on the ledger and handed on.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mm_daemon.core.catalog import Ints
from mm_daemon.core.intensity import Model
from mm_daemon.core.quote_terms import CostMatrices
from mm_daemon.core.scheduler import Addressing, Credits, FlightColumns, Planned
from mm_daemon.core.skew_terms import atm_terms, half_spreads
from mm_daemon.core.state import EngineState
from mm_daemon.core.throttle import Pool
from mm_daemon.domain.intents import CancelQuotes, MassQuote, Resync
from mm_daemon.domain.outputs import AskFactors, AskFit, AskInference, QuoteRecord
from mm_daemon.domain.params import UnderlyingParams
from mm_daemon.domain.units import NS_PER_MS, NS_PER_S, Ns

RECOMPOSE_NS = NS_PER_S
"""Pace of refreshing intensities, leans and the whole choice without any other cause."""
RISK_GREEKS_NS = NS_PER_S // 4
"""Pace of giving the risk gate fresh greeks: between two, positions move and greeks hardly do."""
PULL_RETRY_NS = NS_PER_S // 2
_NOTHING: Ints = np.empty(0, dtype=np.int64)


class QuoteDesk:
    """The quoting of all underlyings. Holds only what it must look at again."""

    def __init__(self, state: EngineState) -> None:
        self._s = state
        self._recompose_ns: dict[str, int] = {}
        self._refresh_all: dict[str, bool] = {}
        self._greeks_ns: dict[str, int] = {}
        self._pulled_ns = 0
        self._halt_pulled_ns: dict[str, int] = {}
        self._is_idle: dict[str, bool] = {}
        """Underlyings that did not quote in the last pass."""
        self.settle_ns = 0
        """The latest `valid_until` of any quote message that left."""

    def invalidate(self, underlying: str = "") -> None:
        """Look at every option again at the next pass: inventory, settings or permission moved."""
        for params in self._s.params.underlyings:
            if underlying in ("", params.name):
                self._refresh_all[params.name] = True

    def relean(self, underlying: str) -> None:
        """Inventory or factors moved: new leans at once, and every option is looked at again."""
        self._refresh_lean(underlying)
        self.invalidate(underlying)

    def take_surface(self) -> None:
        """A surface was accepted or a listing is new: expiries without a slice wait for theirs."""
        s = self._s
        waiting = [
            expiry.ids
            for name in s.underlyings
            for expiry in s.catalog.expiries[name]
            if expiry.expiry_ns in s.calibrator.unfitted_ns(name)
        ]
        s.quoter.set_unfitted(np.concatenate(waiting) if waiting else _NOTHING)
        for name in s.underlyings:
            if not s.skew.is_ready(name):
                # A first surface: leans and models have waited for it, and quoting waits for them.
                self._recompose_ns[name] = 0

    def revalue(self, now_ns: Ns) -> dict[str, Ints]:
        """Moves forwards and theo with the market; the option ids to look at, by underlying."""
        s = self._s
        dirty = s.market.take_dirty()
        moved_underlyings = s.market.take_dirty_underlyings()
        moved: dict[str, Ints] = {}
        for params in s.params.underlyings:
            name = params.name
            is_due = now_ns >= self._recompose_ns.get(name, 0)
            changed = _NOTHING
            if name in moved_underlyings or is_due or self._refresh_all.get(name, False):
                changed = self._revalue_one(name, now_ns)
                self._refresh_greeks(name, now_ns, early_ns=0)
            if is_due:
                self._recompose(params, now_ns)
            mine = dirty[s.catalog.underlying[dirty] == s.index_of[name]] if dirty.size else dirty
            if self._refresh_all.pop(name, False):
                moved[name] = s.option_ids[name]
            elif changed.size or mine.size:
                moved[name] = np.concatenate((changed, mine)) if mine.size else changed
        return moved

    def renew(self, now_ns: Ns, *, early_ns: int) -> None:
        """Renews between ticks what is due within `early_ns`, so that a tick seldom has to; the
        next pass looks at every option of what was renewed."""
        for params in self._s.params.underlyings:
            name = params.name
            if now_ns + early_ns >= self._recompose_ns.get(name, 0):
                self._revalue_one(name, now_ns)
                self._recompose(params, now_ns)
            self._refresh_greeks(name, now_ns, early_ns=early_ns)

    def calibrate(self, outside_share: Callable[[str], float], now_ns: Ns) -> None:
        """Asks for a fit where one is due; fits are seconds apart, so no flush asks."""
        s = self._s
        for name in s.underlyings:
            forwards = s.forwards.of(name)
            if not s.calibrator.is_due(name, forwards, outside_share(name), now_ns):
                continue
            ask_id = s.outbox.take_id()
            request = s.calibrator.request(
                ask_id, name, s.catalog, s.market.touch, s.live(), forwards, now_ns
            )
            s.outbox.put(AskFit(ask_id=ask_id, underlying=name, request=request))

    def resync(self) -> None:
        """Books found impossible get a fresh snapshot, each by itself."""
        s = self._s
        for instrument_id in s.market.take_resyncs():
            s.outbox.send(Resync(request_id=s.outbox.take_id(), instrument_id=instrument_id))

    def look_at(self, ids: Ints, moved: dict[str, Ints]) -> None:
        """Adds options to those that will be decided on in this pass."""
        if not ids.size:
            return
        s = self._s
        for name in s.underlyings:
            mine = ids[s.catalog.underlying[ids] == s.index_of[name]]
            if mine.size:
                moved[name] = np.concatenate((moved.get(name, _NOTHING), mine))

    def quote(self, moved: dict[str, Ints], now_ns: Ns) -> None:
        """Chooses and sends for every underlying that may be quoted."""
        for params in self._s.params.underlyings:
            name = params.name
            ids = moved.get(name, _NOTHING)
            if self._s.option_ids[name].size and self._s.modes.may_quote(name):
                if self._is_idle.pop(name, False):
                    # What was wanted when this one last quoted is of another market.
                    ids = self._s.option_ids[name]
                self._quote_one(params, ids, now_ns)
                continue
            self._is_idle[name] = True
            if self._s.modes.why_held(name):
                self.pull_held(name, now_ns)

    def has_quotes(self) -> bool:
        """Whether any quote of ours is believed to rest."""
        working = self._s.working
        return bool(working.live_bid_lots.any() or working.live_ask_lots.any())

    def pull_held(self, name: str, now_ns: Ns) -> None:
        """An underlying that is held back keeps no quotes; repeated until none is left."""
        s = self._s
        ids = s.option_ids[name]
        rests = s.working.live_bid_lots[ids].any() or s.working.live_ask_lots[ids].any()
        if not rests or now_ns - self._halt_pulled_ns.get(name, 0) < PULL_RETRY_NS:
            return
        self._halt_pulled_ns[name] = now_ns
        why = s.modes.why_held(name)
        s.outbox.log("warning", "underlying_pulled", underlying=name, control=why)
        price_index = s.shared_index.get(name, "")
        currency = "" if price_index else s.settle_currency[name]
        self.cancel_quotes(currency, freeze=False, now_ns=now_ns, price_index=price_index)

    def pull(self, reason: str, now_ns: Ns, *, freeze: bool) -> None:
        """Takes every quote away by a cancel, which nothing blocks; repeated until none is left."""
        s = self._s
        if now_ns - self._pulled_ns < PULL_RETRY_NS:
            return
        self._pulled_ns = now_ns
        s.outbox.log("warning", "quotes_pulled", reason=reason, live=s.working.open_count())
        self.cancel_quotes("", freeze=freeze, now_ns=now_ns)

    def cancel_quotes(
        self, currency: str, *, freeze: bool, now_ns: Ns, price_index: str = ""
    ) -> None:
        s = self._s
        intent = CancelQuotes(
            request_id=s.outbox.take_id(),
            currency=currency,
            instrument_id=-1,
            freeze=freeze,
            price_index=price_index,
        )
        s.throttle.try_spend(intent, now_ns)
        s.working.register(intent, now_ns)
        s.outbox.send(intent)
        s.metrics.add("mm_orders_total", kind="cancel", outcome="sent")

    def digest_words(self) -> tuple[object, ...]:
        return (
            self._recompose_ns,
            self._refresh_all,
            self._greeks_ns,
            self._pulled_ns,
            self._halt_pulled_ns,
            self._is_idle,
            self.settle_ns,
        )

    def _revalue_one(self, name: str, now_ns: Ns) -> Ints:
        s = self._s
        forwards = s.forwards.refresh(name, s.market, now_ns)
        s.features.observe(name, s.forwards.perpetual(name), now_ns)
        for instrument_id, price in s.forwards.linear_prices(name, s.market):
            s.theo.set_linear(instrument_id, price)
        averaging = s.market.averaging(s.underlyings[name].price_index, now_ns)
        return s.theo.refresh(name, forwards, s.calibrator.current(name), now_ns, averaging)

    def _refresh_greeks(self, name: str, now_ns: Ns, *, early_ns: int) -> None:
        if now_ns + early_ns >= self._greeks_ns.get(name, 0):
            self._greeks_ns[name] = now_ns + RISK_GREEKS_NS
            self._s.refresh_risk_greeks(name, now_ns)

    def _recompose(self, params: UnderlyingParams, now_ns: Ns) -> None:
        """Intensities and leans for the whole underlying; asks the models when they are due."""
        s, name = self._s, params.name
        ids = s.option_ids[name]
        self._recompose_ns[name] = now_ns + RECOMPOSE_NS
        self._refresh_all[name] = True
        s.intensity.set_analytic(ids, params.intensity, s.theo)
        age_ns_max = int(s.params.breaker.model_age_s_max * NS_PER_S)
        s.intensity.compose(name, ids, now_ns, age_ns_max=age_ns_max)
        self._lean(params, now_ns)
        for model in Model:
            if s.intensity.is_due(model, name, now_ns) and s.calibrator.current(name) is not None:
                rows = s.features.build(name, ids, s.market, s.theo, now_ns)
                ask_id = s.outbox.take_id()
                s.intensity.on_asked(ask_id, model, name, ids, now_ns)
                s.outbox.put(
                    AskInference(
                        ask_id=ask_id, model=model.value, rows=len(rows), features=rows.tobytes()
                    )
                )

    def _lean(self, params: UnderlyingParams, now_ns: Ns) -> None:
        """Renews leans, and asks compute for the factors' inner matrix when it is due."""
        s, name = self._s, params.name
        calibration = s.calibrator.current(name)
        if calibration is None:
            return
        half = half_spreads(s.catalog, s.option_ids[name], s.market.touch, s.theo)
        sizes = s.size_lots(name)
        if s.skew.is_due(name, now_ns):
            ask_id = s.outbox.take_id()
            atm, beta = atm_terms(s.catalog, name, calibration)
            request = s.skew.request(
                ask_id,
                name,
                params.skew,
                s.theo,
                s.intensity.columns,
                half,
                sizes,
                atm_vol=atm,
                spot_beta=beta,
                now_ns=now_ns,
            )
            s.outbox.put(AskFactors(ask_id=ask_id, underlying=name, request=request))
        s.skew.measure(
            name,
            params.skew,
            s.theo,
            s.intensity.columns,
            half,
            sizes,
            now_ns=now_ns,
        )
        self._refresh_lean(name)

    def _refresh_lean(self, name: str) -> None:
        s = self._s
        positions, collateral_coin = s.portfolio.position_lots, s.collateral_coin(name)
        s.skew.refresh(name, positions, s.theo, collateral_coin=collateral_coin)

    def _quote_one(self, params: UnderlyingParams, ids: Ints, now_ns: Ns) -> None:
        s, name = self._s, params.name
        working = s.working
        group = params.mmp.group
        asked = s.asked()
        credit_usd = s.scheduler.credit_price_usd(group, now_ns)
        slow_usd = s.params.breaker.slow_gain_usd if name in s.slowed else 0.0
        if ids.size:
            s.quoter.choose(
                ids,
                s.market.touch,
                s.live(),
                asked,
                CostMatrices(s.skew.columns, s.intensity.columns),
                s.theo,
                now_ns,
                lots_ratio=s.modes.lots_ratio(params, now_ns),
                credit_price_usd=credit_usd,
            )
        plan = s.scheduler.plan(
            ids,
            s.option_ids[name],
            s.quoter.wanted,
            asked,
            FlightColumns(working.inflight_bid, working.inflight_ask),
            self._credits(now_ns),
            Addressing(
                mmp_group=group,
                first_request_id=s.outbox.next_id,
                valid_until_ns=Ns(now_ns + params.quoting.valid_for_ms * NS_PER_MS),
            ),
            now_ns,
            gain_min_usd=max(params.quoting.requote_gain_min_usd, credit_usd, slow_usd),
        )
        if plan.messages:
            s.risk.refresh(s.portfolio.position_lots, s.working)
            for planned in plan.messages:
                self._send(name, planned, now_ns)

    def _credits(self, now_ns: Ns) -> Credits:
        throttle = self._s.throttle
        return Credits(
            sides=throttle.available(Pool.QUOTES, now_ns),
            messages=throttle.available(Pool.MASS_QUOTES, now_ns),
            pull_sides=throttle.available(Pool.QUOTES, now_ns, for_cancel=True),
            pull_messages=throttle.available(Pool.MASS_QUOTES, now_ns, for_cancel=True),
        )

    def _send(self, underlying: str, planned: Planned, now_ns: Ns) -> None:
        s = self._s
        request_id = s.outbox.take_id()
        assert request_id == planned.intent.request_id, (request_id, planned.intent.request_id)
        verdict = s.risk.check(planned.intent, s.working, now_ns)
        for refused in verdict.refused:
            s.count_refusal(refused, now_ns)
        allowed = verdict.allowed
        if not isinstance(allowed, MassQuote) or not allowed.entries:
            return
        if not s.throttle.try_spend(allowed, now_ns):
            s.metrics.add("mm_risk_refusals_total", control="C6")
            return
        s.working.register(allowed, now_ns)
        s.quoter.approve(planned.ids, s.theo)
        self.settle_ns = max(self.settle_ns, allowed.valid_until_ns)
        s.outbox.put(_record(allowed, s))
        s.outbox.send(allowed)
        s.breaker.messages[underlying].add_message(now_ns)
        s.metrics.add("mm_orders_total", kind="quote", outcome="sent")


def _record(intent: MassQuote, state: EngineState) -> QuoteRecord:
    """The ledger's line; −1 where a side is left as it is."""
    names = state.names
    return QuoteRecord(
        request_id=intent.request_id,
        quote_id=intent.quote_id,
        mmp_group=intent.mmp_group,
        entries=tuple(
            (
                names[entry.instrument_id],
                -1 if entry.bid_ticks is None else entry.bid_ticks,
                -1 if entry.bid_lots is None else entry.bid_lots,
                -1 if entry.ask_ticks is None else entry.ask_ticks,
                -1 if entry.ask_lots is None else entry.ask_lots,
            )
            for entry in intent.entries
        ),
        valid_until_ns=intent.valid_until_ns,
    )
