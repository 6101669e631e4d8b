"""Faults in what options are worth and risk: settlement, surfaces, leans and models."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

VALUATION_MUTANTS = (
    Mutant(
        "average-on-the-nearest-expiry",
        "core/theo.py",
        "            is_own = expiry_ns == averaging.expiry_ns\n",
        "            is_own = e == 0 and averaging.fixed_share > 0.0\n",
        "At 08:00 UTC tomorrow's options have no delta for a minute, and their hedge is sold.",
        ("core/test_theo.py::test_an_average_touches_the_expiry_it_settles_and_no_other",),
    ),
    Mutant(
        "estimate-taken-for-the-mean-so-far",
        "core/market.py",
        "            index_usd=index,\n",
        "            index_usd=event.price,\n",
        "Half through the window a move of the index is counted three quarters instead of half.",
        (
            "core/test_theo_and_delivery.py::"
            "test_once_the_index_stands_still_theo_is_the_delivery_that_follows",
        ),
    ),
    Mutant(
        "ended-counts-as-unknown",
        "core/portfolio_greeks.py",
        "        if has_ended(expiry_ns[i], now_ns):\n"
        "            out[:, i] = 0.0\n"
        "            continue\n",
        "",
        "Until the venue says a delivery price nothing is hedged, and quoting latches.",
        (
            "core/test_portfolio_greeks.py::"
            "test_what_has_ended_counts_nothing_though_nobody_has_said_its_delivery_price",
        ),
        is_kernel=True,
    ),
    Mutant(
        "leap-from-a-surface-of-any-age",
        "core/calibrator.py",
        "            leap_age_ns_max=self._age_ns_max,\n",
        "            leap_age_ns_max=now_ns,\n",
        "After a weekend every fit is refused for what the market did meanwhile.",
        (
            "core/test_calibrator.py::"
            "test_a_surface_kept_over_a_weekend_does_not_refuse_the_market_that_it_missed",
        ),
    ),
    Mutant(
        "lean-sees-the-hedge-of-collateral-alone",
        "core/skew.py",
        "            collateral_coin * price if collateral_coin else 0.0,\n",
        "            0.0,\n",
        "Every call is quoted down and every put up for a delta that is hedged.",
        (
            "core/test_skew.py::"
            "test_hedged_collateral_leans_nothing_and_open_collateral_as_a_perpetual_would",
        ),
    ),
    Mutant(
        "model-failure-in-the-hot-process",
        "inference/onnx_session.py",
        "            raise ModelError(str(error)) from error\n",
        "            raise\n",
        "One row that a model cannot digest cancels everything and restarts the trader.",
        (
            "inference/test_inference.py::"
            "test_a_model_that_fails_on_its_rows_answers_with_an_error_and_serves_the_next",
        ),
    ),
)
