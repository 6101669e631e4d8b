"""The state controls applied: samples in, holds, widths, halts and latches out.

The quick pass runs each flush before anything is quoted and holds what may not stay; the table runs
at a pace on one sample of ages and values. What the breaker says is in force is written to the
quoter (holds, widths), to the modes (halts) and to the outbox (latches).
"""

from __future__ import annotations

import math

import numpy as np

from mm_daemon.core.breaker import WIDEN_FACTOR, Effects, ScanInputs
from mm_daemon.core.calibrator import theo_outside
from mm_daemon.core.catalog import Bools, Floats, Ints
from mm_daemon.core.controls import Sample, UnderlyingSample, number_of
from mm_daemon.core.intensity import Model
from mm_daemon.core.reconcile_desk import ReconcileDesk
from mm_daemon.core.state import EngineState
from mm_daemon.domain.events import SessionPhase
from mm_daemon.domain.frames import Conn
from mm_daemon.domain.inputs import HealthSample
from mm_daemon.domain.params import UnderlyingParams
from mm_daemon.domain.units import NS_PER_S, Ns

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
NEVER_NS = 1 << 60
"""The age of what was never seen, as the controls read it."""


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
        self._outside_due_ns = 0
        self._outside: dict[str, tuple[float, ...]] = {}
        self._outside_mean: dict[str, tuple[float, ...]] = {}
        self._health = HealthSample(loop_lag_ns=0, clock_offset_ns=0, journal_lag_ns=0)
        self._width: dict[str, float] = {}
        self.is_venue_pulled = False

    def on_health(self, sample: HealthSample) -> None:
        self._health = sample

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
        seen = (
            s.market.touch.flags.tobytes(),
            [s.market.is_locked(params.price_index) for params in s.params.underlyings],
            s.breaker.counts["C7"],
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
        return s.quoter.set_blocked(result.blocked_bid, result.blocked_ask)

    def evaluate(self, now_ns: Ns, *, early_ns: int = 0) -> None:
        """The table, at its pace or up to `early_ns` before."""
        if now_ns + early_ns < self._due_ns:
            return
        self._due_ns = now_ns + EVALUATE_NS
        self._scan_due_ns = 0
        s = self._s
        s.modes.is_informed = s.modes.is_informed or self._is_informed()
        if not s.modes.is_informed:
            # Before everything was seen once, nothing can be stale; nothing is quoted either.
            return
        if now_ns >= self._outside_due_ns:
            self._outside_due_ns = now_ns + OUTSIDE_NS
            for name in s.underlyings:
                self._look_outside(name)
        self._sampled_ns = now_ns
        effects = s.breaker.evaluate(self._sample(now_ns), now_ns)
        self._apply(effects)

    def digest_words(self) -> tuple[object, ...]:
        return (
            self._due_ns,
            self._scan_due_ns,
            self._scanned,
            self._outside_due_ns,
            self._outside,
            self._outside_mean,
            self._width,
            self.is_venue_pulled,
        )

    def _apply(self, effects: Effects) -> None:
        s = self._s
        self.is_venue_pulled = effects.is_venue_pulled
        for name, halted, width, wide, analytic in zip(
            s.underlyings,
            effects.halted,
            effects.width,
            effects.wide_expiries,
            effects.use_analytic,
            strict=True,
        ):
            if halted:
                s.modes.halted[name] = halted
            else:
                s.modes.halted.pop(name, None)
            self._widen(name, width, wide)
            for model in Model:
                s.intensity.switch(model, not analytic)
        for control in effects.tripped:
            s.metrics.add("mm_breaker_trips_total", control=number_of(control))
            s.outbox.log("warning", "control_tripped", control=control)
            if control in RECONCILE_AFTER:
                self._reconciles.request_full(self._sampled_ns)
        for latch in effects.latches:
            s.outbox.put(latch)

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
            and s.settle_currency[name] in s.margin_use
            and s.skew.is_ready(name)
            and math.isfinite(s.risk.worst_stress_usd(name))
            for name, params in s.underlyings.items()
        )

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
            clock_offset_ns=self._health.clock_offset_ns,
            loop_lag_ns=self._health.loop_lag_ns,
            journal_lag_ns=0 if modes.journal_is_sound else NEVER_NS,
            journal_failed=not modes.journal_is_sound,
            # An embedded permit pulls quotes through the modes and never latches.
            permit_age_ns=0,
            feed_silence_ns=now_ns - s.market.last_event_ns,
            sessions_ready=all(
                modes.phases[conn] is SessionPhase.READY for conn in (Conn.MARKET, Conn.TRADE)
            ),
            settings_confirmed=modes.confirmed is not None,
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
        unknowns = s.working.unknowns()
        since_ns = unknowns.oldest_since_ns
        return UnderlyingSample(
            index_age_ns=s.market.index_age_ns(params.price_index, now_ns),
            index_divergence_bps=self._divergence_bps(params),
            surface_age_ns=s.calibrator.surface_age_ns(name, now_ns),
            surface_rms_vp=self._rms_vp(name),
            model_age_ns=0,
            model_faults=0,
            theo_outside=self._outside_mean.get(name, (0.0,) * len(s.catalog.expiries[name])),
            hedge_escalation=int(s.hedger.state(name, now_ns).escalation),
            fills_lots=fills.lots,
            fills_delta_coin=fills.delta_coin,
            fills_vega_usd=fills.vega_usd,
            streak=fills.streak,
            unknown_orders=unknowns.count,
            unknown_age_ns=now_ns - since_ns if since_ns else 0,
            margin_use=s.margin_use.get(s.settle_currency[name], math.nan),
        )

    def _divergence_bps(self, params: UnderlyingParams) -> float:
        """Index against perpetual; 0 where one is missing, which other controls judge."""
        index = self._s.market.index_price.get(params.price_index, math.nan)
        perpetual = self._s.forwards.perpetual(params.name)
        apart = abs(perpetual / index - 1.0) * 1e4
        return apart if math.isfinite(apart) else 0.0

    def _rms_vp(self, name: str) -> float:
        calibration = self._s.calibrator.current(name)
        if calibration is None:
            return math.nan
        return pooled_rms_vp(np.array([i.rms_vol_points for i in calibration.surface.slices]))


def pooled_rms_vp(rms: Floats) -> float:
    """Rms over slices of equal weight."""
    return math.sqrt(float((rms * rms).mean())) if rms.size else math.nan
