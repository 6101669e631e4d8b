"""Why an option is quoted as it is, or why a hedge left: the state behind one decision, for people.

Asked after the step that sent the message, of a node that re-decided the recorded inputs, so that
what is shown is what was known then. It reads and changes nothing. What was chosen comes from the
quoter's own columns; the candidates are priced again by the same kernel that chose.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from mm_daemon.core.features import FEATURES
from mm_daemon.core.intensity import Model
from mm_daemon.core.quote_terms import (
    ASK,
    BID,
    I_ADVERSE,
    I_K,
    I_LN_A,
    L_LEAN,
    L_OWN_SIZE,
    M_EDGE,
    M_GAIN,
    M_VALUE,
    CostMatrices,
    Reason,
)
from mm_daemon.core.quoter import SideExplanation
from mm_daemon.core.state import EngineState
from mm_daemon.core.view_builder import limit_use
from mm_daemon.domain.instruments import Instrument
from mm_daemon.domain.units import NS_PER_DAY, NS_PER_S, Ns

if TYPE_CHECKING:
    from mm_daemon.core.engine import Engine


class MarketWhy(msgspec.Struct, frozen=True):
    """What was seen of the instrument and its underlying; prices in the instrument's unit."""

    bid: float
    bid_amount: float
    ask: float
    ask_amount: float
    is_book_valid: bool
    book_age_s: float
    mark: float
    mark_vol: float
    index_usd: float
    flow_amount: float
    """Signed taker flow, decaying; positive = buyers."""


class TheoWhy(msgspec.Struct, frozen=True):
    """The value and what it came from."""

    price: float
    vol: float
    delta: float
    gamma: float
    vega: float
    theta: float
    forward: float
    forward_source: str
    forward_age_s: float
    tte_days: float
    surface_age_s: float
    surface_rms_vp: float
    svi: tuple[float, ...]
    """a, b, rho, m, sigma of the slice, as it was fitted."""


class IntensityWhy(msgspec.Struct, frozen=True):
    """One side's fills and adverse cost: ln fills a day = ln_a - k x distance in half-spreads."""

    ln_a: float
    k: float
    adverse: float
    fill_source: str
    """Name of the model, or `analytic`."""
    spread_source: str
    features: dict[str, float]
    """The row a model would be asked with at this moment."""


class LeanWhy(msgspec.Struct, frozen=True):
    """The inventory's lean on this option, in its price unit, and the book behind it."""

    lean: float
    own_size: float
    position: float
    factors_age_s: float
    net_exposures: dict[str, float]


class SideWhy(msgspec.Struct, frozen=True):
    """One side: what was chosen, and every candidate price with its terms."""

    price: float
    amount: float
    reason: str
    value_usd_per_hour: float
    gain_usd_per_hour: float
    edge_usd: float
    resting_price: float
    """What the daemon believed to rest before this message was answered; 0 = nothing."""
    touch_of_others: float
    candidates: tuple[dict[str, float], ...]
    intensity: IntensityWhy


class RiskWhy(msgspec.Struct, frozen=True):
    """The checks the message passed, as they stood with it counted."""

    limit_use: dict[str, float]
    """Worst case of position, live, in-flight and unknown orders over each limit."""
    collar: float
    """Furthest allowed from theo, in the option's price unit."""
    controls_tripped: tuple[str, ...]
    permission: int
    reasons_not_quoting: tuple[str, ...]


class OptionWhy(msgspec.Struct, frozen=True):
    """All of one option's quote."""

    instrument: str
    ts_ns: int
    market: MarketWhy
    theo: TheoWhy
    lean: LeanWhy
    settings: dict[str, float]
    bid: SideWhy
    ask: SideWhy
    risk: RiskWhy


class HedgeWhy(msgspec.Struct, frozen=True):
    """All of one hedge order."""

    instrument: str
    ts_ns: int
    policy: str
    delta_coin: float
    """The underlying's delta as the plan saw it, with orders under way."""
    band_coin: float
    out_of_band_s: float
    failures: int
    escalation: str
    delta_by_expiry_coin: tuple[float, ...]
    gamma_usd: float
    market: MarketWhy
    risk: RiskWhy


def explain_option(engine: Engine, instrument_id: int, now_ns: Ns) -> OptionWhy:
    """Why this option is quoted as it is, as of the last step."""
    state = engine.state
    assert state is not None, "nothing was decided before the catalogue was known"
    instrument = state.catalog.instruments[instrument_id]
    name = instrument.underlying
    params = state.underlyings[name]
    found = state.quoter.explain(
        instrument_id,
        state.market.touch,
        state.live(),
        state.asked(),
        CostMatrices(state.skew.columns, state.intensity.columns),
        state.theo,
        now_ns,
        lots_ratio=state.modes.lots_ratio(params, now_ns),
        credit_price_usd=state.scheduler.credit_price_usd(params.mmp.group, now_ns),
    )
    return OptionWhy(
        instrument=instrument.name,
        ts_ns=now_ns,
        market=_market(state, instrument_id, now_ns),
        theo=_theo(state, instrument_id, now_ns),
        lean=_lean(state, instrument_id, now_ns),
        settings=found.settings,
        bid=_side(state, instrument_id, BID, found.bid, now_ns),
        ask=_side(state, instrument_id, ASK, found.ask, now_ns),
        risk=_risk(state, instrument_id),
    )


def explain_hedge(engine: Engine, instrument_id: int, now_ns: Ns) -> HedgeWhy:
    """Why a hedge in this instrument left in the last step."""
    state = engine.state
    assert state is not None, "nothing was decided before the catalogue was known"
    name = state.catalog.instruments[instrument_id].underlying
    totals = state.position_greeks(name, now_ns)
    standing = state.hedger.state(name, now_ns)
    return HedgeWhy(
        instrument=state.names[instrument_id],
        ts_ns=now_ns,
        policy=state.underlyings[name].hedge.policy,
        delta_coin=standing.delta_coin,
        band_coin=standing.band_coin,
        out_of_band_s=standing.out_of_band_s,
        failures=standing.failures,
        escalation=standing.escalation.name.lower(),
        delta_by_expiry_coin=tuple(float(delta) for delta in totals.delta_by_expiry),
        gamma_usd=float(totals.gamma_usd),
        market=_market(state, instrument_id, now_ns),
        risk=_risk(state, instrument_id),
    )


def _market(state: EngineState, i: int, now_ns: Ns) -> MarketWhy:
    market, catalog = state.market, state.catalog
    tick = float(catalog.tick[i])
    params = state.underlyings[catalog.instruments[i].underlying]
    return MarketWhy(
        bid=int(market.bid_ticks[i]) * tick,
        bid_amount=float(market.bid_amount[i]),
        ask=int(market.ask_ticks[i]) * tick,
        ask_amount=float(market.ask_amount[i]),
        is_book_valid=bool(market.book_valid[i]),
        book_age_s=(now_ns - int(market.book_ts_recv_ns[i])) / NS_PER_S,
        mark=float(market.mark[i]),
        mark_vol=float(market.mark_vol[i]),
        index_usd=market.index_price.get(params.price_index, math.nan),
        flow_amount=market.flow(i, now_ns),
    )


def _theo(state: EngineState, i: int, now_ns: Ns) -> TheoWhy:
    instrument, board = state.catalog.instruments[i], state.theo
    name, expiry_ns = instrument.underlying, instrument.expiry_ns
    forwards = {one.expiry_ns: one for one in state.forwards.views(name, now_ns)}
    forward = forwards[expiry_ns]
    calibration = state.calibrator.current(name)
    slices = calibration.surface.slices if calibration is not None else ()
    mine = [one for one in slices if one.expiry_ns == expiry_ns]
    return TheoWhy(
        price=float(board.price[i]),
        vol=float(board.vol[i]),
        delta=float(board.delta[i]),
        gamma=float(board.gamma[i]),
        vega=float(board.vega[i]),
        theta=float(board.theta[i]),
        forward=float(board.forward[i]),
        forward_source=forward.source,
        forward_age_s=forward.age_ns / NS_PER_S,
        tte_days=(expiry_ns - now_ns) / NS_PER_DAY,
        surface_age_s=state.calibrator.surface_age_ns(name, now_ns) / NS_PER_S,
        surface_rms_vp=mine[0].rms_vol_points if mine else math.nan,
        svi=tuple(float(value) for value in mine[0].svi.row()) if mine else (),
    )


def _lean(state: EngineState, i: int, now_ns: Ns) -> LeanWhy:
    instrument = state.catalog.instruments[i]
    lots = int(state.portfolio.position_lots[i])
    return LeanWhy(
        lean=float(state.skew.columns[L_LEAN, i]),
        own_size=float(state.skew.columns[L_OWN_SIZE, i]),
        position=math.copysign(instrument.amount(abs(lots)), lots) if lots else 0.0,
        factors_age_s=state.skew.factor_age_ns(instrument.underlying, now_ns) / NS_PER_S,
        net_exposures=state.skew.net_exposures(instrument.underlying),
    )


def _side(state: EngineState, i: int, side: int, found: SideExplanation, now_ns: Ns) -> SideWhy:
    instrument, wanted = state.catalog.instruments[i], state.quoter.wanted
    working = state.working
    ticks, lots = (
        (working.live_bid_ticks, working.live_bid_lots),
        (working.live_ask_ticks, working.live_ask_lots),
    )[side]
    return SideWhy(
        price=_price(instrument, int(wanted.ticks[side, i])),
        amount=instrument.amount(int(wanted.lots[side, i])),
        reason=Reason(int(wanted.reason[side, i])).name.lower(),
        value_usd_per_hour=float(wanted.money[M_VALUE, side, i]),
        gain_usd_per_hour=float(wanted.money[M_GAIN, side, i]),
        edge_usd=float(wanted.money[M_EDGE, side, i]),
        resting_price=_price(instrument, int(ticks[i])) if lots[i] else 0.0,
        touch_of_others=_price(instrument, found.touch_ticks),
        candidates=found.candidates,
        intensity=_intensity(state, i, side, now_ns),
    )


def _price(instrument: Instrument, ticks: int) -> float:
    return instrument.grid.price(ticks) if ticks > 0 else 0.0


def _intensity(state: EngineState, i: int, side: int, now_ns: Ns) -> IntensityWhy:
    instrument = state.catalog.instruments[i]
    params, columns = state.params, state.intensity.columns
    age_ns_max = int(params.breaker.model_age_s_max * NS_PER_S)
    sources = {}
    for model, slot in ((Model.FILL, params.fill_model), (Model.SPREAD, params.spread_model)):
        used = slot is not None and state.intensity.is_from_model(model, i, now_ns, age_ns_max)
        sources[model] = slot.name if used and slot is not None else "analytic"
    ids = np.array([i], dtype=np.int64)
    rows = state.features.build(instrument.underlying, ids, state.market, state.theo, now_ns)
    return IntensityWhy(
        ln_a=float(columns[I_LN_A, side, i]),
        k=float(columns[I_K, side, i]),
        adverse=float(columns[I_ADVERSE, side, i]),
        fill_source=sources[Model.FILL],
        spread_source=sources[Model.SPREAD],
        features=dict(zip(FEATURES, (float(value) for value in rows[side]), strict=True)),
    )


def _risk(state: EngineState, i: int) -> RiskWhy:
    instrument = state.catalog.instruments[i]
    limits = state.underlyings[instrument.underlying].limits
    theo = abs(float(state.theo.price[i]))
    tick = float(state.catalog.tick[i])
    return RiskWhy(
        limit_use=limit_use(state, instrument.underlying),
        collar=limits.collar_theo_ratio * theo + limits.collar_ticks * tick,
        controls_tripped=tuple(
            f"{code} {place}"
            for code, place, _ in state.breaker.active()
            if place == instrument.name or place not in state.catalog.id_of
        ),
        permission=state.modes.permission,
        reasons_not_quoting=state.modes.quoting_reasons,
    )
