"""The state controls applied: samples in, holds, widths, halts and latches out.

The quick pass runs each flush before anything is quoted and holds what may not stay; the table runs
at a pace on one sample of ages and values. What the breaker says is in force is written to the
quoter (holds, widths), to the modes (halts) and to the outbox (latches).
"""

from __future__ import annotations

import math

import numpy as np

from mm_daemon.core.breaker import WIDEN_FACTOR, Effects
from mm_daemon.core.breaker_scan import ScanInputs
from mm_daemon.core.calibrator import theo_outside
from mm_daemon.core.catalog import Bools, Floats, Ints
from mm_daemon.core.controls import (
    CONTROLS,
    QUICK_CONTROLS,
    Action,
    Reset,
    Sample,
    UnderlyingSample,
    number_of,
)
from mm_daemon.core.reconcile_desk import ReconcileDesk
from mm_daemon.core.state import EngineState
from mm_daemon.core.venue_freeze import FREEZE_CONTROL
from mm_daemon.domain.events import SessionPhase
from mm_daemon.domain.frames import Conn
from mm_daemon.domain.inputs import HealthSample
from mm_daemon.domain.intents import ResetMmp
from mm_daemon.domain.params import UnderlyingParams
from mm_daemon.domain.permission import QUOTE
from mm_daemon.domain.units import NS_PER_S, Ns, Side

EVALUATE_NS = NS_PER_S // 4
SCAN_NS = NS_PER_S // 50
"""Ages are looked at this often; a book or state that changed is looked at in the same flush."""
OUTSIDE_NS = NS_PER_S
OUTSIDE_WEIGHT = 0.1
"""Of the newest look in the average that C14 judges: it forgets half in seven seconds."""
_NOTHING: Ints = np.empty(0, dtype=np.int64)
RECONCILE_AFTER = ("C12", "C13", "C21")
"""Trips after which what we believe is compared with the venue at once: our own protection, a storm
of rejects, too many orders without a known outcome."""
CALLS_A_PERSON = tuple(
    row.id for row in CONTROLS if row.action is Action.PAGE or row.reset is not Reset.AUTO
)
"""What only a person lifts, and what calls for one."""


class ControlDesk:
    """Runs the breaker over the state."""

    def __init__(self, state: EngineState, reconciles: ReconcileDesk) -> None:
        self._s = state
        self._reconciles = reconciles
        self._due_ns = 0
        self._scan_due_ns = 0
        self._scanned: tuple[object, ...] = ()
        """What the last scan saw of everything that can block but time."""
        self._sampled_ns = Ns(0)
        self._quick_counted: dict[str, int] = {}
        """Trips of the controls by instrument that the metrics have."""
        self._outside_due_ns = 0
        self._outside: dict[str, tuple[float, ...]] = {}
        self._outside_mean: dict[str, tuple[float, ...]] = {}
        self._health = HealthSample(loop_lag_ns=0, clock_offset_ns=0, journal_lag_ns=0)
        self._width: dict[str, float] = {}
        self._adding_barred: tuple[str, ...] = ()
        """Underlyings whose margin lets only those sides stay that reduce it."""
        self._trading_lost_ns = 0
        """Since when the trading session has not been ready; 0 = it is."""

    def on_health(self, sample: HealthSample, now_ns: Ns) -> None:
        self._health = sample
        # A shell that measures no percentile says how late its one timer was.
        lag_ns = sample.loop_lag_p99_ns or sample.loop_lag_ns
        self._s.breaker.lag.add(lag_ns, now_ns)

    def clock_offset_ns(self, now_ns: Ns) -> int:
        """The larger of what our clocks differ by among themselves and from the venue's."""
        venue_ns = self._s.breaker.venue_offset.offset_ns(now_ns)
        return max(self._health.clock_offset_ns, venue_ns, key=abs)

    def outside_share(self, underlying: str) -> float:
        """Share of core options whose theo lies outside the market, NaN before the first look."""
        shares = [share for share in self._outside.get(underlying, ()) if share >= 0.0]
        return max(shares) if shares else math.nan

    def resize(self) -> None:
        """New listings: averages by expiry begin anew, for a new one may lie between old ones."""
        self._outside.clear()
        self._outside_mean.clear()
        self._outside_due_ns = 0

    def scan(self, now_ns: Ns) -> Ints:
        """The controls by instrument: bars what they block; the options whose bar changed."""
        s = self._s
        if not s.modes.is_informed:
            # Nothing is quoted yet, and what has not begun cannot have gone stale: a book that is
            # still to come would be held for the hysteresis after it came.
            return _NOTHING
        seen = (
            s.market.touch.flags.tobytes(),
            [s.market.is_locked(params.price_index) for params in s.params.underlyings],
            s.breaker.counts["C7"],
            self._adding_barred,
        )
        if now_ns < self._scan_due_ns and seen == self._scanned:
            return _NOTHING
        self._scan_due_ns, self._scanned = now_ns + SCAN_NS, seen
        market, theo, working = s.market, s.theo, s.working
        result = s.breaker.scan(
            ScanInputs(
                seen_ns=np.maximum(market.book_ts_recv_ns, market.ticker_ts_recv_ns),
                book_valid=market.book_valid,
                is_open=self._open(),
                theo=theo.price,
                theo_sent=s.quoter.approved[0],
                edge_sent=s.quoter.approved[1],
                live_bid_lots=working.live_bid_lots,
                live_ask_lots=working.live_ask_lots,
            ),
            now_ns,
        )
        bid, ask = result.blocked_bid, result.blocked_ask
        for name in self._adding_barred:
            ids = s.option_ids[name]
            bid[ids] |= self._adds(name, ids, Side.BUY)
            ask[ids] |= self._adds(name, ids, Side.SELL)
        return s.quoter.set_blocked(bid, ask)

    def evaluate(self, now_ns: Ns, *, early_ns: int = 0) -> None:
        """The table, at its pace or up to `early_ns` before."""
        if now_ns + early_ns < self._due_ns:
            return
        self._due_ns = now_ns + EVALUATE_NS
        self._scan_due_ns = 0
        s = self._s
        self._watch_trading(now_ns)
        s.modes.is_informed = s.modes.is_informed or self._is_informed()
        if not s.modes.is_informed and s.modes.journal_is_sound:
            # Before everything was seen once, nothing can be stale; nothing is quoted either. A
            # life without a journal has nothing to wait for: it is to sweep and end.
            return
        if now_ns >= self._outside_due_ns:
            self._outside_due_ns = now_ns + OUTSIDE_NS
            for name in s.underlyings:
                self._look_outside(name)
        self._count_breaches(now_ns)
        self._sampled_ns = now_ns
        effects = s.breaker.evaluate(self._sample(now_ns), now_ns)
        s.freezes.on_judged()
        self._apply(effects)
        self._count_quick()

    def digest_words(self) -> tuple[object, ...]:
        return (
            self._due_ns,
            self._scan_due_ns,
            self._scanned,
            self._quick_counted,
            self._sampled_ns,
            self._outside_due_ns,
            self._outside,
            self._outside_mean,
            self._width,
            self._trading_lost_ns,
            self._adding_barred,
            self._health,
        )

    def _apply(self, effects: Effects) -> None:
        s = self._s
        barred = zip(s.underlyings, effects.is_adding_barred, strict=True)
        self._adding_barred = tuple(name for name, is_barred in barred if is_barred)
        for row, name in enumerate(s.underlyings):
            _hold(s.modes.halted, name, effects.halted[row] or self._thaw(name))
            _hold(s.modes.hedge_halted, name, effects.frozen[row])
            _hold(s.slowed, name, "C10" if effects.is_slow[row] else "")
            self._widen(name, effects.width[row], effects.wide_expiries[row])
            s.intensity.distrust(name, effects.use_analytic[row])
        for control in effects.tripped:
            s.metrics.add("mm_breaker_trips_total", control=number_of(control))
            page = control in CALLS_A_PERSON
            s.outbox.log("warning", "control_tripped", control=control, page=page)
            if control == "C12":
                s.metrics.add("mm_mmp_trips_total", by="own")
            if control in RECONCILE_AFTER:
                self._reconciles.request_full(self._sampled_ns)
        for latch in effects.latches:
            s.outbox.put(latch)

    def _thaw(self, name: str) -> str:
        """Asks the venue to reset its protection where nothing else keeps quotes back; the row that
        holds the underlying until it has."""
        s, now_ns = self._s, self._sampled_ns
        if not s.freezes.is_frozen(name):
            return ""
        may_quote = not s.modes.quoting_reasons and s.modes.own_mask(name).permission & QUOTE
        if may_quote and s.freezes.is_due(name, now_ns):
            intent = ResetMmp(s.outbox.take_id(), s.underlyings[name].mmp.group)
            if s.throttle.try_spend(intent, now_ns):
                s.freezes.on_asked(name, intent.request_id, now_ns)
                s.outbox.log("warning", "mmp_reset_asked", underlying=name)
                s.outbox.send(intent)
        return FREEZE_CONTROL

    def _count_breaches(self, now_ns: Ns) -> None:
        """Time for which delta was out of its band, by underlying."""
        elapsed_s = (now_ns - self._sampled_ns) / NS_PER_S if self._sampled_ns else 0.0
        for name in self._s.underlyings:
            if self._s.hedger.state(name, now_ns).out_of_band_s > 0.0:
                self._s.metrics.add(
                    "mm_hedge_band_breach_seconds_total", elapsed_s, underlying=name
                )

    def _count_quick(self) -> None:
        """The controls by instrument trip in the scan, too often to say each by itself; what only
        a person lifts is said, and counts as a trip too."""
        s = self._s
        for row in QUICK_CONTROLS:
            new = s.breaker.counts[row.id] - self._quick_counted.get(row.id, 0)
            if new:
                self._quick_counted[row.id] = s.breaker.counts[row.id]
                s.metrics.add("mm_instruments_held_total", new, control=number_of(row.id))
                if row.reset is not Reset.AUTO:
                    s.metrics.add("mm_breaker_trips_total", new, control=number_of(row.id))
                    s.outbox.log("warning", "control_tripped", control=row.id, page=True)

    def _widen(self, name: str, width: float, wide: tuple[int, ...]) -> None:
        """Puts the width of every expiry in force where it changed."""
        s = self._s
        for expiry in s.catalog.expiries[name]:
            wanted = max(width, WIDEN_FACTOR if expiry.expiry_ns in wide else 1.0)
            key = f"{name} {expiry.expiry_ns}"
            if self._width.get(key, 1.0) != wanted:
                self._width[key] = wanted
                s.quoter.widen(expiry.ids, wanted)

    def _is_informed(self) -> bool:
        """Whether index, perpetual, surface and margin have each been seen once."""
        s = self._s
        return s.modes.is_reconciled and all(
            s.calibrator.current(name) is not None
            and math.isfinite(s.forwards.perpetual(name))
            and params.price_index in s.market.index_price
            and s.settle_currency[name] in s.margin
            and s.skew.is_ready(name)
            and math.isfinite(s.risk.worst_stress_usd(name))
            for name, params in s.underlyings.items()
        )

    def _adds(self, name: str, ids: Ints, side: Side) -> Bools:
        """Which options' quotes of a side would not leave less margin to carry."""
        s = self._s
        lots = s.underlyings[name].quoting.size_lots_near
        held = s.portfolio.position_lots[ids] * -int(side) > 0
        adds = np.ones(ids.size, dtype=np.bool_)
        for row in np.flatnonzero(held).tolist():
            adds[row] = not s.risk.reduces_margin(int(ids[row]), side, lots)
        return adds

    def _open(self) -> Bools:
        """Instruments that are open and whose index is not locked."""
        s = self._s
        is_open = s.market.is_open
        locked = [n for n, p in s.underlyings.items() if s.market.is_locked(p.price_index)]
        if locked:
            is_open = is_open.copy()
            for name in locked:
                is_open[s.option_ids[name]] = False
        return is_open

    def _look_outside(self, name: str) -> None:
        """Measures the shares anew and moves their averages.

        Slow makers leave stale quotes behind for seconds after a move of the forward; only a
        disagreement that lasts is about our theo.
        """
        s = self._s
        live = s.live()
        seen = []
        for expiry in s.catalog.expiries[name]:
            share = theo_outside(expiry.ids, s.catalog, s.market.touch, live, s.theo)
            seen.append(0.0 if math.isnan(share) else share)
        self._outside[name] = tuple(seen)
        before = self._outside_mean.get(name, ())
        if len(before) != len(seen):
            before = (0.0,) * len(seen)
        self._outside_mean[name] = tuple(
            mean + OUTSIDE_WEIGHT * (share - mean) for mean, share in zip(before, seen, strict=True)
        )

    def _sample(self, now_ns: Ns) -> Sample:
        s = self._s
        modes = s.modes
        day, hour, drawdown = s.breaker.losses.losses()
        return Sample(
            underlyings=tuple(self._underlying(params, now_ns) for params in s.params.underlyings),
            rejects_10s=s.breaker.rejects.count(now_ns),
            size_refusals_10s=s.breaker.size_refusals.count(now_ns),
            clock_offset_ns=self._health.clock_offset_ns,
            venue_offset_ns=s.breaker.venue_offset.offset_ns(now_ns),
            loop_lag_ns=self._health.loop_lag_ns,
            loop_lag_held_ns=s.breaker.lag.held_ns(now_ns),
            journal_lag_ns=self._health.journal_lag_ns,
            journal_failed=not modes.journal_is_sound,
            permit_age_ns=self._permit_age_ns(now_ns),
            feed_silence_ns=now_ns - s.market.last_event_ns,
            sessions_ready=all(
                modes.phases[conn] is SessionPhase.READY for conn in (Conn.MARKET, Conn.TRADE)
            ),
            settings_confirmed=modes.confirmed is not None,
            trading_lost_ns=now_ns - self._trading_lost_ns if self._trading_lost_ns else 0,
            reconcile_broken=s.reconcile_broken_since_ns > 0,
            reconcile_broken_ns=(
                now_ns - s.reconcile_broken_since_ns if s.reconcile_broken_since_ns else 0
            ),
            foreign_orders=self._reconciles.foreign_orders + s.foreign_fills,
            newer_epoch_seen=self._reconciles.newer_epoch_seen,
            loss_day_usd=day,
            loss_hour_usd=hour,
            drawdown_usd=drawdown,
            margin_reduce_ratios=tuple(
                params.limits.margin_reduce_ratio for params in s.params.underlyings
            ),
        )

    def _underlying(self, params: UnderlyingParams, now_ns: Ns) -> UnderlyingSample:
        s, name = self._s, params.name
        fills = s.breaker.fills[name].totals(now_ns)
        day, hour, drawdown = s.breaker.losses_of[name].losses()
        unknowns = s.working.unknowns(name)
        since_ns = unknowns.oldest_since_ns
        return UnderlyingSample(
            index_age_ns=s.market.index_age_ns(params.price_index, now_ns),
            index_divergence_bps=self._divergence_bps(params),
            surface_age_ns=s.calibrator.surface_age_ns(name, now_ns),
            surface_rms_vp=self._rms_vp(name),
            model_age_ns=s.intensity.worst_age_ns(name, now_ns),
            model_faults=s.intensity.faults(name, now_ns),
            theo_outside=self._outside_mean.get(name, (0.0,) * len(s.catalog.expiries[name])),
            expiry_delta_coin=self._expiry_deltas(name, now_ns),
            expiry_delta_coin_max=params.hedge.expiry_delta_coin_max,
            own_loss_day_usd=day,
            own_loss_hour_usd=hour,
            own_drawdown_usd=drawdown,
            hedge_escalation=int(s.hedger.state(name, now_ns).escalation),
            fills_lots=fills.lots,
            fills_delta_coin=fills.delta_coin,
            fills_vega_usd=fills.vega_usd,
            fills_drift=s.breaker.drifts[name].drift(now_ns),
            messages_per_fill=s.breaker.messages[name].ratio(now_ns),
            is_pulled_by_venue=s.freezes.is_tripped(name, now_ns),
            streak=fills.streak,
            unknown_orders=unknowns.count,
            unknown_age_ns=now_ns - since_ns if since_ns else 0,
            margin_use=s.margin_terms(name).read,
            margin_stop_ratio=params.limits.margin_stop_ratio,
        )

    def _divergence_bps(self, params: UnderlyingParams) -> float:
        """Index against perpetual and against parity of near options, of which only what lies
        beyond its own spread counts; 0 where one is missing, which other controls judge."""
        index = self._s.market.index_price.get(params.price_index, math.nan)
        perpetual = self._s.forwards.perpetual(params.name)
        parity, half = self._s.forwards.parity_spot(params.name)
        apart = (abs(perpetual - index), abs(parity - index) - half)
        return max((1e4 * one / index for one in apart if math.isfinite(one / index)), default=0.0)

    def _permit_age_ns(self, now_ns: Ns) -> int:
        """Where a lease is required: T1 at its deadline, and more after. Without one a lost permit
        pulls quotes through the modes and never latches; before the first there is none to lose."""
        s, deadline_ns = self._s, self._s.modes.permit_deadline_ns
        if not s.params.lease_required or deadline_ns == 0:
            return 0
        quote_age_ns = int(s.params.breaker.permit_quote_age_s_max * NS_PER_S)
        return max(0, now_ns - deadline_ns + quote_age_ns)

    def _watch_trading(self, now_ns: Ns) -> None:
        if self._s.modes.phases[Conn.TRADE] is SessionPhase.READY:
            self._trading_lost_ns = 0
        elif not self._trading_lost_ns:
            self._trading_lost_ns = now_ns

    def _expiry_deltas(self, name: str, now_ns: Ns) -> tuple[float, ...]:
        """Delta held by expiry of the catalogue, 0 where no future of its own hedges it."""
        s = self._s
        deltas = s.position_greeks(name, now_ns).delta_by_expiry.tolist()
        by_expiry = dict(zip(s.buckets[name].expiries_ns, deltas, strict=True))
        return tuple(
            by_expiry.get(expiry.expiry_ns, 0.0) if expiry.future_id >= 0 else 0.0
            for expiry in s.catalog.expiries[name]
        )

    def _rms_vp(self, name: str) -> float:
        calibration = self._s.calibrator.current(name)
        if calibration is None:
            return math.nan
        return pooled_rms_vp(np.array([i.rms_vol_points for i in calibration.surface.slices]))


def _hold(held: dict[str, str], name: str, control: str) -> None:
    """Notes which control holds an underlying, or that none does."""
    if control:
        held[name] = control
    else:
        held.pop(name, None)


def pooled_rms_vp(rms: Floats) -> float:
    """Rms over slices of equal weight."""
    return math.sqrt(float((rms * rms).mean())) if rms.size else math.nan
