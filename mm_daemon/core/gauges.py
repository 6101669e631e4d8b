"""Gauges of the decision, brought up to date when the shell publishes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mm_daemon.core.book import Validity
from mm_daemon.core.intensity import FALLBACK_LABELS, Fallback, Model
from mm_daemon.core.state import EngineState
from mm_daemon.core.throttle import Pool
from mm_daemon.core.view_builder import limit_use, two_sided
from mm_daemon.domain.metrics import BREAKS, FALLBACKS
from mm_daemon.domain.units import NS_PER_S, Ns

if TYPE_CHECKING:
    from mm_daemon.core.engine import Engine


def set_gauges(engine: Engine, state: EngineState, now_ns: Ns) -> None:
    """Writes every gauge that follows from the state; changes nothing of it."""
    _orders(state, now_ns)
    for name in state.underlyings:
        _underlying(engine, state, name, now_ns)
    _pnl(engine, state)
    put = state.metrics.set
    put("mm_book_gaps_total", state.market.refused[Validity.LOST.value])
    put("mm_feed_age_seconds", _age_s(state.market.last_event_ns, now_ns), feed="market")
    put("mm_clock_offset_seconds", engine.controls.clock_offset_ns(now_ns) / NS_PER_S)
    _models(state, now_ns)


def _models(state: EngineState, now_ns: Ns) -> None:
    put, intensity = state.metrics.set, state.intensity
    age_s_max = state.params.breaker.model_age_s_max
    totals = {(model, reason): 0 for model in Model for reason in FALLBACKS}
    for (_, name, reason), count in intensity.fallbacks.items():
        totals[Model(name), FALLBACK_LABELS[Fallback(reason)]] += count
    for model in Model:
        is_used = any(intensity.is_used(model, name) for name in state.underlyings)
        is_young = intensity.age_ns(model, now_ns) <= age_s_max * NS_PER_S
        put("mm_models_stage", float(is_used and is_young), model=model.value)
    for (model, reason), count in totals.items():
        put("mm_model_fallback_total", count, model=model.value, reason=reason)


def _pnl(engine: Engine, state: EngineState) -> None:
    put = state.metrics.set
    for name in state.underlyings:
        for part, usd in engine.pnl.parts_usd(state.settle_currency[name]).items():
            put("mm_pnl_usd", usd, underlying=name, part=part)
    for version, usd in engine.pnl.equity_usd.items():
        put("mm_equity_usd", usd, version=version)
    for kind in BREAKS:
        put("mm_recon_break", engine.reconciles.breaks.get(kind, 0), type=kind)
    put("mm_recon_last_success_timestamp_seconds", engine.reconciles.last_clean_ns / NS_PER_S)


def set_tokens(state: EngineState, now_ns: Ns) -> None:
    """Credits left. Reading a bucket refills it, so this runs inside a step only."""
    put, throttle = state.metrics.set, state.throttle
    put("mm_venue_rate_tokens", throttle.available(Pool.ORDERS, now_ns), bucket="orders")
    put("mm_venue_rate_tokens", throttle.available(Pool.QUOTES, now_ns), bucket="quotes")


def _orders(state: EngineState, now_ns: Ns) -> None:
    put = state.metrics.set
    unknowns = state.working.unknowns()
    put("mm_orders_unknown", unknowns.count)
    oldest = _age_s(unknowns.oldest_since_ns, now_ns) if unknowns.oldest_since_ns else 0.0
    put("mm_order_state_age_seconds", oldest)
    put(
        "mm_orders_live",
        sum(1 for order in state.working.open_orders() if order.rests and not order.is_quote),
    )
    put("mm_fills_parked", len(state.portfolio.parked))
    put("mm_adjustment_lots_standing", state.adjustments.lots_standing)


def _underlying(engine: Engine, state: EngineState, name: str, now_ns: Ns) -> None:
    put = state.metrics.set
    ids = state.option_ids[name]
    working = state.working
    put("mm_options_listed", ids.size, underlying=name)
    put("mm_options_two_sided", two_sided(state, name), underlying=name)
    bids = np.count_nonzero(working.live_bid_lots[ids])
    asks = np.count_nonzero(working.live_ask_lots[ids])
    put("mm_quotes_live", float(bids), underlying=name, side="bid")
    put("mm_quotes_live", float(asks), underlying=name, side="ask")
    progress = state.flattener.progress(name)
    put("mm_flatten_positions", progress.positions_left, underlying=name)
    put("mm_flatten_stuck", len(progress.called_for), underlying=name)
    invalid = np.count_nonzero(~state.market.book_valid[ids])
    put("mm_book_invalid", float(invalid), underlying=name)
    totals = state.position_greeks(name, now_ns)
    put("mm_greeks", totals.delta_adjusted, underlying=name, greek="delta")
    put("mm_greeks", totals.delta, underlying=name, greek="delta_black")
    put("mm_greeks", totals.gamma_usd, underlying=name, greek="gamma")
    put("mm_greeks", totals.vega_usd, underlying=name, greek="vega")
    put("mm_greeks", totals.theta_usd, underlying=name, greek="theta")
    for limit, use in limit_use(state, name).items():
        put("mm_limit_utilization_ratio", use, underlying=name, limit=limit)
    slippage_bps = engine.hedges.slippage_bps.get(name, math.nan)
    put("mm_hedge_slippage_bps", slippage_bps, underlying=name)
    terms = state.margin_terms(name)
    for limit, use in (
        ("margin", terms.read),
        ("margin_reserved", terms.reserved),
        ("margin_estimated", terms.estimated),
    ):
        put("mm_limit_utilization_ratio", use, underlying=name, limit=limit)
    put(
        "mm_surface_age_seconds",
        state.calibrator.surface_age_ns(name, now_ns) / NS_PER_S,
        underlying=name,
    )
    calibration = state.calibrator.current(name)
    if calibration is not None:
        slices = calibration.surface.slices
        rms = math.sqrt(sum(item.rms_vol_points**2 for item in slices) / max(1, len(slices)))
        put("mm_surface_rms_vol_points", rms, underlying=name)


def _age_s(since_ns: int, now_ns: Ns) -> float:
    return (now_ns - since_ns) / NS_PER_S
