"""Pictures of the decision for people, built from the state as it is; changes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from mm_daemon.core.intensity import Model
from mm_daemon.core.quote_terms import ASK, BID, LAST_QUOTED, Reason
from mm_daemon.core.reset_view import reentry, reset_terms
from mm_daemon.core.state import EngineState
from mm_daemon.domain.frames import Conn
from mm_daemon.domain.permission import permission_names, task_names
from mm_daemon.domain.units import COIN_SCALE, NS_PER_S, Ns
from mm_daemon.domain.views import (
    ExpiryGreeks,
    GreeksView,
    HedgeRow,
    HedgesView,
    ModelRow,
    ModelsView,
    OrderRow,
    OrdersView,
    PnlView,
    PositionRow,
    PositionsView,
    QuotesView,
    SliceView,
    StatusView,
    SurfaceView,
    UnderlyingGreeks,
)

if TYPE_CHECKING:
    from mm_daemon.core.engine import Engine

DAYS_PER_YEAR = 365.0
REASON_NAMES = {int(reason): reason.name.lower() for reason in Reason}


def build_view(engine: Engine, name: str, now_ns: Ns) -> bytes:
    """The view as MessagePack. Raises KeyError for a name that `domain.views` does not have."""
    return msgspec.msgpack.encode(_BUILDERS[name](engine, now_ns))


def two_sided(state: EngineState, underlying: str) -> int:
    """Options of an underlying with both of our sides believed to rest."""
    ids = state.option_ids[underlying]
    working = state.working
    return int(
        np.count_nonzero((working.live_bid_lots[ids] > 0) & (working.live_ask_lots[ids] > 0))
    )


def limit_use(state: EngineState, underlying: str) -> dict[str, float]:
    """Worst case over limit, by limit; NaN where the worst case is unknown."""
    limits = state.underlyings[underlying].limits
    worst = np.abs(state.risk.worst_case(underlying)).max(axis=1)
    return {
        "delta": float(worst[0]) / limits.delta_coin_max,
        "gamma": float(worst[1]) / limits.gamma_usd_max,
        "vega": float(worst[2]) / limits.vega_usd_max,
        "theta": float(worst[3]) / limits.theta_usd_day_max,
        "stress": -state.risk.worst_stress_usd(underlying) / limits.stress_loss_usd_max,
    }


def _status(engine: Engine, now_ns: Ns) -> StatusView:
    modes, state = engine.modes, engine.state
    params = engine.start.params
    names = [one.name for one in params.underlyings]
    unknown = state.working.unknowns().count if state is not None else 0
    delta = (
        {name: state.position_greeks(name, now_ns).delta_adjusted for name in names}
        if state is not None
        else dict.fromkeys(names, math.nan)
    )
    live = 0
    if state is not None:
        working = state.working
        live = int(
            np.count_nonzero(working.live_bid_lots) + np.count_nonzero(working.live_ask_lots)
        )
    return StatusView(
        session=engine.start.session,
        environment=params.environment,
        venue=params.venue,
        ts_ns=now_ns,
        uptime_s=(now_ns - engine.started_ns) / NS_PER_S,
        state=engine.standing().stage.value,
        reasons_not_quoting=(
            *modes.quoting_reasons,
            *(f"{name} held by {why}" for name in names if (why := modes.why_held(name))),
        ),
        generation=modes.generation,
        permission=permission_names(modes.permission),
        tasks=task_names(modes.tasks),
        swept_generation=engine.sweeps.sweep.confirmed_generation,
        sessions={conn.name.lower(): modes.phases[conn].value for conn in Conn},
        is_reconciled=modes.is_reconciled,
        options_listed=sum(state.option_ids[n].size for n in names) if state is not None else 0,
        options_two_sided=sum(two_sided(state, n) for n in names) if state is not None else 0,
        quotes_live=live,
        orders_live=_orders_live(state),
        unknown_orders=unknown,
        fills=engine.account.fills_applied if state is not None else 0,
        net_delta_coin=delta,
        equity_usd=engine.pnl.equity_usd["venue"] if state is not None else math.nan,
        flatten=_flattens(engine),
        reentry=reentry(engine, now_ns),
        reset=reset_terms(engine, now_ns),
        adoption=engine.reconciles.adoption.view(now_ns) if state is not None else None,
    )


def _flattens(engine: Engine) -> dict[str, str]:
    state = engine.state
    if state is None:
        return {}
    found = {}
    for name in state.underlyings:
        if engine.modes.is_flatten_wanted(name):
            progress = state.flattener.progress(name)
            left, needed = progress.positions_left, len(progress.called_for)
            found[name] = f"{progress.state.value}: {left} positions left, {needed} need a person"
    return found


def _orders_live(state: EngineState | None) -> int:
    if state is None:
        return 0
    return sum(1 for order in state.working.open_orders() if not order.is_quote and order.rests)


def _positions(engine: Engine, now_ns: Ns) -> PositionsView:
    state = engine.state
    if state is None:
        return PositionsView(positions=(), cash_coin={})
    rows = []
    for i in np.flatnonzero(state.portfolio.position_lots).tolist():
        instrument = state.catalog.instruments[i]
        lots = int(state.portfolio.position_lots[i])
        amount = instrument.amount(lots)
        forward = float(state.theo.forward[i])
        rows.append(
            PositionRow(
                instrument=instrument.name,
                amount=amount,
                average_price=state.portfolio.average_price_e8(i) / COIN_SCALE,
                mark_price=float(state.market.mark[i]),
                theo_price=float(state.theo.price[i]),
                delta_coin=float(state.theo.delta_adjusted[i]) * amount,
                gamma_usd=float(state.theo.gamma[i]) * amount * forward * forward * 0.01,
                vega_usd=float(state.theo.vega[i]) * amount * 0.01,
                theta_usd_day=float(state.theo.theta[i]) * amount / DAYS_PER_YEAR,
            )
        )
    cash = {name: amount / COIN_SCALE for name, amount in state.portfolio.cash_e8.items()}
    return PositionsView(positions=tuple(rows), cash_coin=cash)


def _greeks(engine: Engine, now_ns: Ns) -> GreeksView:
    state = engine.state
    if state is None:
        return GreeksView(underlyings={})
    found: dict[str, UnderlyingGreeks] = {}
    for name in state.underlyings:
        totals = state.position_greeks(name, now_ns)
        expiries = state.buckets[name].expiries_ns
        found[name] = UnderlyingGreeks(
            delta_coin=totals.delta_adjusted,
            delta_black_coin=totals.delta,
            delta_band_coin=state.hedger.state(name, now_ns).band_coin,
            gamma_usd=totals.gamma_usd,
            vega_usd=totals.vega_usd,
            theta_usd_day=totals.theta_usd,
            expiries=tuple(
                ExpiryGreeks(
                    expiry=_expiry_name(state, expiry_ns),
                    delta_coin=float(totals.delta_by_expiry[e]),
                    gamma_usd=float(totals.gamma_by_expiry[e]),
                    vega_usd=float(totals.vega_by_expiry[e]),
                    theta_usd_day=math.nan,
                )
                for e, expiry_ns in enumerate(expiries)
            ),
            limit_use=limit_use(state, name),
        )
    return GreeksView(underlyings=found)


def _expiry_name(state: EngineState, expiry_ns: int) -> str:
    """The date as the venue writes it, from any instrument that ends then."""
    row = int(np.flatnonzero(state.catalog.expiry_ns == expiry_ns)[0])
    return state.names[row].split("-")[1]


def _quotes(engine: Engine, now_ns: Ns) -> QuotesView:
    state = engine.state
    if state is None:
        return QuotesView((), [], [], [], [], [], [], [], [], [], [], [], [], [])
    ids = np.concatenate([state.option_ids[name] for name in state.underlyings])
    market, working, theo, catalog = state.market, state.working, state.theo, state.catalog
    tick, lot = catalog.tick[ids], catalog.lot[ids]
    reason = state.quoter.wanted.reason
    return QuotesView(
        instrument=tuple(state.names[i] for i in ids.tolist()),
        bid_market=(market.bid_ticks[ids] * tick).tolist(),
        ask_market=(market.ask_ticks[ids] * tick).tolist(),
        theo=theo.price[ids].tolist(),
        vol=theo.vol[ids].tolist(),
        delta=theo.delta[ids].tolist(),
        bid=(working.live_bid_ticks[ids] * tick * (working.live_bid_lots[ids] > 0)).tolist(),
        bid_amount=(working.live_bid_lots[ids] * lot).tolist(),
        ask=(working.live_ask_ticks[ids] * tick * (working.live_ask_lots[ids] > 0)).tolist(),
        ask_amount=(working.live_ask_lots[ids] * lot).tolist(),
        lean=state.skew.columns[0][ids].tolist(),
        position=(state.portfolio.position_lots[ids] * lot).tolist(),
        why_no_bid=[_why(int(code)) for code in reason[BID][ids]],
        why_no_ask=[_why(int(code)) for code in reason[ASK][ids]],
    )


def _why(code: int) -> str:
    return "" if code <= LAST_QUOTED else REASON_NAMES[code]


def _orders(engine: Engine, now_ns: Ns) -> OrdersView:
    state = engine.state
    if state is None:
        return OrdersView(orders=())
    rows = []
    for order in state.working.open_orders():
        if order.is_quote:
            continue
        instrument = state.catalog.instruments[order.instrument_id]
        label = "unknown" if order.is_unknown else order.status.name.lower()
        rows.append(
            OrderRow(
                client_id=order.client_id,
                order_id=order.order_id,
                instrument=instrument.name,
                side="buy" if order.side_index == 0 else "sell",
                price=instrument.grid.price(order.price_ticks),
                amount=instrument.amount(max(order.total_lots, order.asked_lots)),
                filled=instrument.amount(order.booked_lots),
                state=label,
                purpose=order.purpose.value,
                age_s=(now_ns - order.active_ns) / NS_PER_S,
            )
        )
    return OrdersView(orders=tuple(rows))


def _surface(engine: Engine, now_ns: Ns) -> SurfaceView:
    state = engine.state
    if state is None:
        return SurfaceView({}, {}, {}, {}, {})
    slices: dict[str, tuple[SliceView, ...]] = {}
    ages: dict[str, float] = {}
    refused: dict[str, int] = {}
    last: dict[str, str] = {}
    for name in state.underlyings:
        calibration = state.calibrator.current(name)
        by_expiry = {v.expiry_ns: v for v in state.forwards.views(name, now_ns)}
        refused[name] = sum(state.calibrator.refused(name).values())
        verdict = state.calibrator.verdict(name)
        last[name] = "" if verdict is None or verdict.accepted else verdict.reason.value
        if calibration is None:
            slices[name] = ()
            continue
        ages[name] = state.calibrator.surface_age_ns(name, now_ns) / NS_PER_S
        slices[name] = tuple(
            SliceView(
                expiry=_expiry_name(state, item.expiry_ns),
                tte_days=item.tte_years * DAYS_PER_YEAR,
                forward=by_expiry[item.expiry_ns].forward,
                forward_source=by_expiry[item.expiry_ns].source,
                atm_vol=item.atm_vol(),
                rms_vp=item.rms_vol_points,
                svi=tuple(float(value) for value in item.svi.row()),
            )
            for item in calibration.surface.slices
            if item.expiry_ns in by_expiry
        )
    accepted = {name: state.fits_accepted.get(name, 0) for name in state.underlyings}
    return SurfaceView(slices, ages, accepted, refused, last)


def _pnl(engine: Engine, now_ns: Ns) -> PnlView:
    state = engine.state
    if state is None:
        return PnlView({}, {}, {}, {})
    parts = {name: engine.pnl.parts_usd(state.settle_currency[name]) for name in state.underlyings}
    return PnlView(
        parts_usd=parts,
        total_usd={name: math.fsum(mine.values()) for name, mine in parts.items()},
        equity_usd=engine.pnl.equity_usd,
        venue_difference_e8=engine.pnl.difference_e8,
    )


def _hedges(engine: Engine, now_ns: Ns) -> HedgesView:
    state = engine.state
    if state is None:
        return HedgesView(hedges=())
    rows = []
    for name in state.underlyings:
        found = state.hedger.state(name, now_ns)
        rows.append(
            HedgeRow(
                underlying=name,
                delta_coin=found.delta_coin,
                band_coin=found.band_coin,
                state=found.escalation.name.lower(),
                out_of_band_s=found.out_of_band_s,
                hedges=engine.hedges.hedges.get(name, 0),
                slippage_bps=engine.hedges.slippage_bps.get(name, math.nan),
            )
        )
    return HedgesView(hedges=tuple(rows))


def _models(engine: Engine, now_ns: Ns) -> ModelsView:
    params, state = engine.start.params, engine.state
    rows = []
    for slot, model in ((params.fill_model, Model.FILL), (params.spread_model, Model.SPREAD)):
        if slot is None:
            continue
        fallbacks: dict[str, int] = {}
        age_s = math.nan
        if state is not None:
            age_s = state.intensity.age_ns(model, now_ns) / NS_PER_S
            for (_, name, reason), count in state.intensity.fallbacks.items():
                if name == model.value:
                    fallbacks[reason] = fallbacks.get(reason, 0) + count
        in_use = age_s <= params.breaker.model_age_s_max
        rows.append(ModelRow(slot.name, slot.sha256, in_use, age_s, fallbacks))
    return ModelsView(models=tuple(rows))


_BUILDERS: dict[str, Callable[[Engine, Ns], msgspec.Struct]] = {
    "status": _status,
    "positions": _positions,
    "greeks": _greeks,
    "quotes": _quotes,
    "orders": _orders,
    "surface": _surface,
    "pnl": _pnl,
    "hedges": _hedges,
    "models": _models,
}
