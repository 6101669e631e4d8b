"""Every number the decision is run by, frozen, as the configuration states it. No limit has a
default here.

Units are in the names; vols and ratios are decimals; `_vp` is volatility points (0.01 of vol). A
session's first input
carries the whole tree, so a replay needs no configuration file.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Positive = Annotated[float, msgspec.Meta(gt=0.0)]
NonNegative = Annotated[float, msgspec.Meta(ge=0.0)]
Ratio = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Correlation = Annotated[float, msgspec.Meta(ge=-1.0, le=1.0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Whole = Annotated[int, msgspec.Meta(ge=0)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class QuotingParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How quotes are chosen."""

    edge_min_ticks: NonNegative
    """Least expected edge after fee, adverse cost and lean, in ticks of the option."""
    width_multiplier: Positive
    levels_back_max: Whole
    """How many legal ticks behind the touch are tried."""
    size_lots_near: Count
    """Quote size in lots for |delta| >= `wing_delta`."""
    size_lots_wing: Count
    wing_delta: Ratio
    requote_gain_min_usd: NonNegative
    """A quote moves only if the expected gain per hour exceeds this."""
    pull_edge_fraction: Ratio
    """Pull at once when theo has moved by more than this share of the edge since sending."""
    stop_before_expiry_s: NonNegative
    expiry_days_max: Positive
    delta_abs_min: Ratio
    """Options below this |delta| are not quoted."""
    delta_abs_max: Ratio
    valid_for_ms: Count
    """`valid_until` of a quote message: bounds bytes stuck on the way, not the life of the
    quote."""
    reentry_size_ratio: Ratio
    """Share of the size used for `reentry_s` after an operator's reset."""
    reentry_s: NonNegative


class SkewParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Inventory skew by Greek factors (theory: multi-asset closed form in factor form)."""

    risk_aversion_per_usd: Positive
    horizon_days: Positive
    vol_of_vol: NonNegative
    """Daily standard deviation of at-the-money vol at 30 days, in vol; scaled by tenor."""
    vol_tenor_exponent: NonNegative
    expiry_correlation: Correlation
    skew_factor_vp: NonNegative
    wing_factor_vp: NonNegative
    basis_factor: NonNegative
    """Daily standard deviation of the forward basis, as a ratio of the forward."""
    lean_cap_inverse_k: Positive
    """Cap of |lean| in units of 1/k; beyond it the adding side is not quoted."""
    intensity_floor_per_day: Positive


class IntensityParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The analytic fill policy ln lambda = ln A - k delta that stands behind the models."""

    fills_per_day_atm: Positive
    k_per_half_spread: Positive
    adverse_half_spread_ratio: NonNegative
    """Expected adverse selection as a share of the market's half-spread."""


class HedgeParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Delta hedging of one underlying. Deltas in coin."""

    policy: Literal["fixed", "whalley_wilmott"]
    band_delta_coin: NonNegative
    band_delta_coin_max: Positive
    """Whalley-Wilmott is clamped to [band_delta_coin, band_delta_coin_max]."""
    risk_aversion_per_usd: Positive
    collateral_hedged: bool
    """Whether the coin balance counts as delta; a required choice, because mixing conventions
    costs delta."""
    cost_bps: NonNegative
    order_size_coin_min: NonNegative
    """A hedge is at least this much, as far as the delta goes."""
    order_size_coin_max: Positive
    slippage_bps_max: Positive
    retry_ms: Count
    widen_after_s: Positive
    stop_after_s: Positive
    page_after_s: Positive
    expiry_delta_coin_max: Positive
    """C34: above this delta in one expiry the dated future of that expiry is used."""


class RiskLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Pre-trade and state limits of one underlying, on the worst case of position + live +
    in-flight + unknown."""

    order_lots_max: Count
    """Of an option; an order in a future is limited by its notional."""
    order_notional_usd_max: Positive
    order_vega_usd_max: Positive
    collar_theo_ratio: Ratio
    """C2: largest |price - theo| as a share of theo ..."""
    collar_ticks: Whole
    """... plus this many ticks."""
    position_lots_max: Count
    delta_coin_max: Positive
    gamma_usd_max: Positive
    """Change of USD delta for a 1 % move."""
    vega_usd_max: Positive
    """Per 0.01 of vol."""
    vega_expiry_usd_max: Positive
    theta_usd_day_max: Positive
    stress_loss_usd_max: Positive
    """C31."""
    wing_short_lots_max: Count
    """C32: short contracts per strike with |delta| < 0.05."""
    short_dated_gamma_usd_max: Positive
    """C33: gamma cap for options within 24 hours of expiry."""
    open_orders_max: Count
    margin_stop_ratio: Ratio
    margin_reduce_ratio: Ratio
    hedge_order_usd_max: Positive


class BreakerParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """State controls: what trips, after how much."""

    book_age_ms_max: Count
    feed_silence_ms_max: Count
    index_age_ms_max: Count
    surface_age_s_max: Positive
    surface_rms_vp_max: Positive
    model_age_s_max: Positive
    crossed_ms_max: Count
    index_divergence_bps_max: Positive
    theo_outside_widen_ratio: Ratio
    theo_outside_halt_ratio: Ratio
    rejects_per_10s_max: Count
    loss_day_usd_max: Positive
    loss_hour_usd_max: Positive
    drawdown_usd_max: Positive
    loss_underlying_ratio: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)]
    """Share of the three loss limits that one underlying's settlement currency may lose alone."""
    fills_window_s: Positive
    fills_window_lots_max: Count
    fills_window_delta_coin_max: Positive
    fills_window_vega_usd_max: Positive
    fills_drift_window_s: Positive
    fills_drift_ratio_max: Positive
    """C3: the price at which one side of an option fills may drift by this share of itself, beyond
    what its delta explains, ..."""
    fills_drift_ticks_max: Whole
    """... plus this many ticks."""
    messages_window_s: Positive
    messages_per_fill_max: Positive
    """C10: above it a quote moves only for `slow_gain_usd` an hour."""
    slow_gain_usd: NonNegative
    same_side_streak_max: Count
    repeat_fills_max: Count
    repeat_window_s: Positive
    unknown_orders_max: Count
    unknown_age_s_max: Positive
    loop_lag_ms_max: Count
    clock_offset_ms_max: Count
    journal_lag_ms_max: Count
    hysteresis_s: NonNegative
    permit_quote_age_s_max: Positive
    """T1: a permit older than this stops quoting."""
    permit_order_age_s_max: Positive
    """T2: by this age of its permit a trader has been ended; one that was not does nothing more."""


class ThrottleParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much of the venue's stated credits the daemon may use."""

    use_ratio: Ratio
    cancel_reserve: NonNegative
    """Requests that quoting can never spend."""
    quote_value_per_credit_min_usd: NonNegative


class SurfaceParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    refit_forward_bps: Positive
    refit_interval_s: Positive
    refit_interval_min_s: Positive
    rms_vp_max: Positive
    ssr_initial: Positive
    ssr_min: NonNegative
    ssr_max: Positive


class MmpParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The venue's market-maker protection of one group, set and read back before quoting."""

    group: Name
    interval_s: Whole
    frozen_time_s: Whole
    quantity_limit: Positive
    delta_limit: Positive
    vega_limit: Positive
    quote_quantity_max: Positive


class FlattenParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a flatten closes what is held: in which pieces, how quickly, at which cost at most."""

    clip_lots_max: Count
    """Largest order in an option, in lots."""
    clip_future_usd_max: Positive
    """Largest order in a perpetual or future."""
    depth_share: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)]
    """Share of the amount shown at the touch that one order takes; a lot at least."""
    orders_live_max: Count
    """Orders without an end at one time."""
    pace_ms: Count
    """Least time between two orders of the underlying."""
    cost_theo_ratio: Ratio
    """An option trades at most this share of theo away from theo ..."""
    cost_ticks: Whole
    """... plus this many ticks;"""
    cost_wide_theo_ratio: Ratio
    cost_wide_ticks: Whole
    """where that finds nobody, this far. The collar of the limits holds all the same."""
    cost_future_bps: Positive
    cost_wide_future_bps: Positive
    tries_max: Count
    """Attempts in one way before the next way is tried."""
    rest_s: Positive
    """How long a resting order waits before it is priced anew."""
    person_wait_s: Positive
    """After a person was called: how long until everything is tried again."""


class UnderlyingParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One underlying's whole set."""

    name: Name
    price_index: Name
    hedge_instrument: Name
    quoting: QuotingParams
    skew: SkewParams
    intensity: IntensityParams
    hedge: HedgeParams
    flatten: FlattenParams
    limits: RiskLimits
    mmp: MmpParams


class ModelSlot(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model the node may ask for: identified by hash, never loaded in the node."""

    name: Name
    sha256: str
    feature_layout_hash: str
    refresh_ms: Count
    deadline_ms: Count


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything the decision is run by."""

    venue: Name
    account: Name
    shard: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]{1,12}$")]
    environment: Literal["sim", "test", "prod"]
    underlyings: tuple[UnderlyingParams, ...]
    breaker: BreakerParams
    throttle: ThrottleParams
    surface: SurfaceParams
    fill_model: ModelSlot | None
    spread_model: ModelSlot | None
    reconcile_orders_s: Positive
    reconcile_trades_s: Positive
    reconcile_positions_s: Positive
    request_timeout_ms: Count
    lease_required: bool = False
    """The permit comes from a lease that the firm's store grants: where it is lost for the lease's
    ttl, the guard ends the trader, and whatever lives on until T2 does nothing more until a person
    resets (C24). Without a store a lost permit pulls and latches nothing."""
