"""Parameters for the tests of the account side: wide limits, to be narrowed one by one."""

from __future__ import annotations

from typing import Any

import msgspec

from mm_daemon.domain.params import (
    BreakerParams,
    FlattenParams,
    HedgeParams,
    IntensityParams,
    MmpParams,
    Params,
    QuotingParams,
    RiskLimits,
    SkewParams,
    SurfaceParams,
    ThrottleParams,
    UnderlyingParams,
)

FLATTEN = FlattenParams(
    clip_lots_max=5,
    clip_future_usd_max=30_000.0,
    depth_share=0.5,
    orders_live_max=2,
    pace_ms=200,
    cost_theo_ratio=0.05,
    cost_ticks=2,
    cost_wide_theo_ratio=0.2,
    cost_wide_ticks=5,
    cost_future_bps=2.0,
    cost_wide_future_bps=10.0,
    tries_max=2,
    rest_s=3.0,
    person_wait_s=20.0,
)

LIMITS = RiskLimits(
    order_lots_max=1_000,
    order_notional_usd_max=1e9,
    order_vega_usd_max=1e9,
    collar_theo_ratio=0.5,
    collar_ticks=10,
    position_lots_max=100_000,
    delta_coin_max=1e6,
    gamma_usd_max=1e9,
    vega_usd_max=1e9,
    vega_expiry_usd_max=1e9,
    theta_usd_day_max=1e9,
    stress_loss_usd_max=1e12,
    wing_short_lots_max=100_000,
    short_dated_gamma_usd_max=1e9,
    open_orders_max=10_000,
    margin_stop_ratio=0.7,
    margin_reduce_ratio=0.85,
    hedge_order_usd_max=1e9,
)

HEDGE = HedgeParams(
    policy="fixed",
    band_delta_coin=0.5,
    band_delta_coin_max=5.0,
    risk_aversion_per_usd=1e-6,
    collateral_hedged=False,
    cost_bps=5.0,
    order_size_coin_min=0.0,
    order_size_coin_max=3.0,
    slippage_bps_max=10.0,
    retry_ms=500,
    widen_after_s=5.0,
    stop_after_s=15.0,
    page_after_s=30.0,
    expiry_delta_coin_max=4.0,
)

QUOTING = QuotingParams(
    edge_min_ticks=1.0,
    width_multiplier=1.0,
    levels_back_max=3,
    size_lots_near=5,
    size_lots_wing=2,
    wing_delta=0.1,
    requote_gain_min_usd=0.0,
    pull_edge_fraction=0.5,
    stop_before_expiry_s=3600.0,
    expiry_days_max=400.0,
    delta_abs_min=0.01,
    delta_abs_max=0.99,
    valid_for_ms=1000,
    reentry_size_ratio=0.25,
    reentry_s=60.0,
)

SKEW = SkewParams(
    risk_aversion_per_usd=1e-6,
    horizon_days=1.0,
    vol_of_vol=0.02,
    vol_tenor_exponent=0.5,
    expiry_correlation=0.8,
    skew_factor_vp=1.0,
    wing_factor_vp=1.0,
    basis_factor=0.001,
    lean_cap_inverse_k=2.0,
    intensity_floor_per_day=0.1,
)

BREAKER = BreakerParams(
    book_age_ms_max=5_000,
    feed_silence_ms_max=3_000,
    index_age_ms_max=5_000,
    surface_age_s_max=60.0,
    surface_rms_vp_max=1.5,
    model_age_s_max=120.0,
    crossed_ms_max=250,
    index_divergence_bps_max=50.0,
    theo_outside_widen_ratio=0.15,
    theo_outside_halt_ratio=0.30,
    rejects_per_10s_max=20,
    loss_day_usd_max=10_000.0,
    loss_hour_usd_max=5_000.0,
    drawdown_usd_max=8_000.0,
    loss_underlying_ratio=0.5,
    fills_window_s=5.0,
    fills_window_lots_max=200,
    fills_window_delta_coin_max=20.0,
    fills_window_vega_usd_max=20_000.0,
    fills_drift_window_s=60.0,
    fills_drift_ratio_max=0.25,
    fills_drift_ticks_max=5,
    messages_window_s=600.0,
    messages_per_fill_max=2_000.0,
    slow_gain_usd=5.0,
    same_side_streak_max=6,
    repeat_fills_max=8,
    repeat_window_s=10.0,
    unknown_orders_max=50,
    unknown_age_s_max=5.0,
    loop_lag_ms_max=250,
    clock_offset_ms_max=250,
    journal_lag_ms_max=1_000,
    hysteresis_s=10.0,
    permit_quote_age_s_max=3.0,
    permit_order_age_s_max=10.0,
)


def params(**limits: Any) -> Params:
    """One underlying with wide limits; keywords narrow single limits."""
    underlying = UnderlyingParams(
        name="BTC",
        price_index="btc_usd",
        hedge_instrument="BTC-PERPETUAL",
        quoting=QUOTING,
        skew=SKEW,
        intensity=IntensityParams(10.0, 1.0, 0.5),
        hedge=HEDGE,
        flatten=FLATTEN,
        limits=msgspec.structs.replace(LIMITS, **limits),
        mmp=MmpParams("maker", 5, 0, 100.0, 50.0, 1e6, 500.0),
    )
    return Params(
        venue="deribit",
        account="maker",
        shard="a",
        environment="sim",
        underlyings=(underlying,),
        breaker=BREAKER,
        throttle=ThrottleParams(0.8, 3.0, 0.0),
        surface=SurfaceParams(5.0, 30.0, 1.0, 1.0, 1.2, 0.5, 3.0),
        fill_model=None,
        spread_model=None,
        reconcile_orders_s=5.0,
        reconcile_trades_s=10.0,
        reconcile_positions_s=30.0,
        request_timeout_ms=2_000,
    )
