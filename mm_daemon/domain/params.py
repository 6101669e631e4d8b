"""Every number the decision is run by, frozen, as the configuration states it. No limit has a
default here.

Units are in the names; vols and ratios are decimals; `_vp` is volatility points (0.01 of vol). A
session's first input
carries the whole tree, so a replay needs no configuration file.
"""

from __future__ import annotations

import msgspec


class QuotingParams(msgspec.Struct, frozen=True):
    """How quotes are chosen."""

    edge_min_ticks: float
    """Least expected edge after fee, adverse cost and lean, in ticks of the option."""
    width_multiplier: float
    levels_back_max: int
    """How many legal ticks behind the touch are tried."""
    size_lots_near: int
    """Quote size in lots for |delta| >= `wing_delta`."""
    size_lots_wing: int
    wing_delta: float
    requote_gain_min_usd: float
    """A quote moves only if the expected gain per hour exceeds this."""
    pull_edge_fraction: float
    """Pull at once when theo has moved by more than this share of the edge since sending."""
    stop_before_expiry_s: float
    expiry_days_max: float
    delta_abs_min: float
    """Options below this |delta| are not quoted."""
    delta_abs_max: float
    valid_for_ms: int
    """`valid_until` of a quote message: bounds bytes stuck on the way, not the life of the
    quote."""
    reentry_size_ratio: float
    """Share of the size used for `reentry_s` after an operator's reset."""
    reentry_s: float


class SkewParams(msgspec.Struct, frozen=True):
    """Inventory skew by Greek factors (theory: multi-asset closed form in factor form)."""

    risk_aversion_per_usd: float
    horizon_days: float
    vol_of_vol: float
    """Daily standard deviation of at-the-money vol at 30 days, in vol; scaled by tenor."""
    vol_tenor_exponent: float
    expiry_correlation: float
    skew_factor_vp: float
    wing_factor_vp: float
    basis_factor: float
    """Daily standard deviation of the forward basis, as a ratio of the forward."""
    lean_cap_inverse_k: float
    """Cap of |lean| in units of 1/k; beyond it the adding side is not quoted."""
    intensity_floor_per_day: float


class IntensityParams(msgspec.Struct, frozen=True):
    """The analytic fill policy ln lambda = ln A - k delta that stands behind the models."""

    fills_per_day_atm: float
    k_per_half_spread: float
    adverse_half_spread_ratio: float
    """Expected adverse selection as a share of the market's half-spread."""


class HedgeParams(msgspec.Struct, frozen=True):
    """Delta hedging of one underlying. Deltas in coin."""

    policy: str
    """fixed | whalley_wilmott"""
    band_delta_coin: float
    band_delta_coin_max: float
    """Whalley-Wilmott is clamped to [band_delta_coin, band_delta_coin_max]."""
    risk_aversion_per_usd: float
    collateral_hedged: bool
    """Whether the coin balance counts as delta; a required choice, because mixing conventions
    costs delta."""
    cost_bps: float
    order_size_coin_max: float
    slippage_bps_max: float
    retry_ms: int
    widen_after_s: float
    stop_after_s: float
    page_after_s: float
    expiry_delta_coin_max: float
    """C34: above this delta in one expiry the dated future of that expiry is used."""


class RiskLimits(msgspec.Struct, frozen=True):
    """Pre-trade and state limits of one underlying, on the worst case of position + live +
    in-flight + unknown."""

    order_lots_max: int
    order_notional_usd_max: float
    order_vega_usd_max: float
    collar_theo_ratio: float
    """C2: largest |price - theo| as a share of theo ..."""
    collar_ticks: int
    """... plus this many ticks."""
    position_lots_max: int
    delta_coin_max: float
    gamma_usd_max: float
    """Change of USD delta for a 1 % move."""
    vega_usd_max: float
    """Per 0.01 of vol."""
    vega_expiry_usd_max: float
    theta_usd_day_max: float
    stress_loss_usd_max: float
    """C31."""
    wing_short_lots_max: int
    """C32: short contracts per strike with |delta| < 0.05."""
    short_dated_gamma_usd_max: float
    """C33: gamma cap for options within 24 hours of expiry."""
    open_orders_max: int
    margin_stop_ratio: float
    margin_reduce_ratio: float
    hedge_order_usd_max: float


class BreakerParams(msgspec.Struct, frozen=True):
    """State controls: what trips, after how much."""

    book_age_ms_max: int
    feed_silence_ms_max: int
    index_age_ms_max: int
    surface_age_s_max: float
    surface_rms_vp_max: float
    model_age_s_max: float
    crossed_ms_max: int
    index_divergence_bps_max: float
    theo_outside_widen_ratio: float
    theo_outside_halt_ratio: float
    rejects_per_10s_max: int
    loss_day_usd_max: float
    loss_hour_usd_max: float
    drawdown_usd_max: float
    fills_window_s: float
    fills_window_lots_max: int
    fills_window_delta_coin_max: float
    fills_window_vega_usd_max: float
    same_side_streak_max: int
    repeat_fills_max: int
    repeat_window_s: float
    unknown_orders_max: int
    unknown_age_s_max: float
    loop_lag_ms_max: int
    clock_offset_ms_max: int
    journal_lag_ms_max: int
    hysteresis_s: float
    permit_quote_age_s_max: float
    """T1: a permit older than this stops quoting."""
    permit_order_age_s_max: float
    """T2: a permit older than this cancels all."""


class ThrottleParams(msgspec.Struct, frozen=True):
    """How much of the venue's stated credits the daemon may use."""

    use_ratio: float
    cancel_reserve: float
    """Requests that quoting can never spend."""
    quote_value_per_credit_min_usd: float


class SurfaceParams(msgspec.Struct, frozen=True):
    refit_forward_bps: float
    refit_interval_s: float
    refit_interval_min_s: float
    rms_vp_max: float
    ssr_initial: float
    ssr_min: float
    ssr_max: float


class MmpParams(msgspec.Struct, frozen=True):
    """The venue's market-maker protection of one group, set and read back before quoting."""

    group: str
    interval_s: int
    frozen_time_s: int
    quantity_limit: float
    delta_limit: float
    vega_limit: float
    quote_quantity_max: float


class UnderlyingParams(msgspec.Struct, frozen=True):
    """One underlying's whole set."""

    name: str
    price_index: str
    hedge_instrument: str
    quoting: QuotingParams
    skew: SkewParams
    intensity: IntensityParams
    hedge: HedgeParams
    limits: RiskLimits
    mmp: MmpParams


class ModelSlot(msgspec.Struct, frozen=True):
    """A model the node may ask for: identified by hash, never loaded in the node."""

    name: str
    sha256: str
    feature_layout_hash: str
    refresh_ms: int
    deadline_ms: int


class Params(msgspec.Struct, frozen=True):
    """Everything the decision is run by."""

    venue: str
    account: str
    environment: str
    underlyings: tuple[UnderlyingParams, ...]
    breaker: BreakerParams
    throttle: ThrottleParams
    surface: SurfaceParams
    fill_model: ModelSlot | None
    spread_model: ModelSlot | None
    flush_age_ms_max: int
    view_interval_ms: int
    reconcile_orders_s: float
    reconcile_trades_s: float
    reconcile_positions_s: float
    request_timeout_ms: int
