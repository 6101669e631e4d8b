"""The names of every metric that lives in the shared page, and what each means.

One row a family: name, help, label sets. The node writes the first group, the shell the second; the
page is laid out from this table, so every series exists from the start and none can appear later.
Labels are bounded: no instrument, no order id. `_total` counts; a histogram is its buckets.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import NamedTuple

from mm_daemon.domain.orders import RejectReason

LATENCY_BOUNDS_S = (
    "5e-05",
    "0.0001",
    "0.0002",
    "0.0005",
    "0.001",
    "0.002",
    "0.005",
    "0.01",
    "0.025",
    "0.05",
    "0.1",
    "0.25",
    "1.0",
    "+Inf",
)
FEEDS = ("market", "index", "private")
GREEKS = ("delta", "delta_black", "gamma", "vega", "theta")
PARTS = (
    "collateral",
    "theta",
    "delta",
    "gamma",
    "vega",
    "skew",
    "wings",
    "surface_refit",
    "spread",
    "hedge",
    "fees",
    "funding",
    "settlement",
    "mark_basis",
    "residual",
)
LIMITS = (
    "position",
    "delta",
    "gamma",
    "vega",
    "vega_expiry",
    "theta",
    "stress",
    "margin",
    "margin_reserved",
    "margin_estimated",
)
FALLBACKS = ("absent", "late", "non_finite", "out_of_range", "stale", "error")
BREAKS = ("order", "fill", "position", "cash")
CONTROLS = (
    *(f"C{number}" for number in range(1, 35)),
    "permit",
    "start",
)
PAGE_EVENTS = (
    "books_taken_over",
    "checkpoint_too_large",
    "control_tripped",
    "flatten",
    "flatten_needs_a_person",
    "foreign_fill",
    "instruments_given_up",
    "position_adjusted",
    "sweep_unconfirmed",
    "other",
)
"""Log events that call a person; one that is not named here counts as the last."""


class Family(NamedTuple):
    """One metric: its name, what it means, and every label set it can have."""

    name: str
    help: str
    labels: tuple[tuple[str, tuple[str, ...]], ...] = ()


def node_families(underlyings: Iterable[str]) -> tuple[Family, ...]:
    """What the decision itself counts."""
    names = tuple(underlyings)
    by = ("underlying", names)
    side = ("side", ("bid", "ask"))
    return (
        Family("mm_quotes_live", "Quote sides believed to rest", (by, side)),
        Family("mm_options_listed", "Options in the catalogue", (by,)),
        Family("mm_options_two_sided", "Options with both sides resting", (by,)),
        Family("mm_orders_live", "Single orders believed to rest"),
        Family("mm_orders_unknown", "Orders whose outcome is unknown"),
        Family("mm_order_state_age_seconds", "Age of the oldest unknown order"),
        Family(
            "mm_orders_total",
            "Requests by kind and what became of them",
            (
                ("kind", ("quote", "hedge", "flatten", "cancel")),
                ("outcome", ("sent", "accepted", "rejected", "unknown", "withheld")),
            ),
        ),
        Family(
            "mm_order_rejects_total",
            "Requests refused by the venue",
            (("reason", tuple(reason.value for reason in RejectReason)),),
        ),
        Family(
            "mm_risk_refusals_total", "Intents refused before sending", (("control", CONTROLS),)
        ),
        Family("mm_breaker_trips_total", "State controls tripped", (("control", CONTROLS),)),
        Family(
            "mm_instruments_held_total",
            "Instruments held back by the controls on single ones",
            (("control", ("C7", "C14", "C15", "C27")),),
        ),
        Family(
            "mm_fills_total", "Fills applied", (("source", ("stream", "reply", "recon", "start")),)
        ),
        Family("mm_fills_duplicate_total", "Fills seen again and not applied again"),
        Family("mm_fills_parked", "Fills that cannot be booked yet"),
        Family("mm_adjustments_total", "Positions booked without a trade, on a person's word"),
        Family("mm_adjustment_lots_standing", "Lots booked so that no trade has explained yet"),
        Family("mm_recon_break", "Differences from the venue", (("type", BREAKS),)),
        Family("mm_recon_last_success_timestamp_seconds", "When a reconcile last came out clean"),
        Family("mm_book_invalid", "Books without a valid state", (by,)),
        Family("mm_book_gaps_total", "Books lost and resynchronised"),
        Family("mm_frames_refused_total", "Frames that could not be understood"),
        Family("mm_feed_age_seconds", "Silence of each feed", (("feed", FEEDS),)),
        Family("mm_surface_rms_vol_points", "Rms of the accepted fit against mids", (by,)),
        Family("mm_surface_age_seconds", "Age of the accepted fit", (by,)),
        Family(
            "mm_surface_fits_total",
            "Fits by verdict",
            (by, ("verdict", ("accepted", "refused", "failed"))),
        ),
        Family("mm_greeks", "Greeks on position", (by, ("greek", GREEKS))),
        Family("mm_limit_utilization_ratio", "Worst case over limit", (by, ("limit", LIMITS))),
        Family("mm_pnl_usd", "Change of equity since opening, by part", (by, ("part", PARTS))),
        Family("mm_equity_usd", "Equity", (("version", ("venue", "desk")),)),
        Family("mm_hedge_orders_total", "Hedges sent", (by,)),
        Family("mm_flatten_positions", "Positions that a flatten has not closed yet", (by,)),
        Family("mm_flatten_stuck", "Positions without a way to trade: a person is needed", (by,)),
        Family("mm_hedge_slippage_bps", "Mean slippage of hedges against arrival mid", (by,)),
        Family("mm_hedge_band_breach_seconds_total", "Time out of the delta band", (by,)),
        Family("mm_mmp_trips_total", "Market-maker protection trips", (("by", ("venue", "own")),)),
        Family("mm_models_stage", "1 where a live model prices", (("model", ("fill", "spread")),)),
        Family(
            "mm_model_fallback_total",
            "Refreshes that fell back to the analytic policy",
            (("model", ("fill", "spread")), ("reason", FALLBACKS)),
        ),
        Family("mm_venue_rate_tokens", "Credits left", (("bucket", ("orders", "quotes")),)),
        Family("mm_clock_offset_seconds", "Daemon clock less venue clock"),
    )


def shell_families() -> tuple[Family, ...]:
    """What the trader's shell measures around the decision."""
    bounds = (("le", LATENCY_BOUNDS_S),)
    return (
        Family("mm_tick_to_quote_seconds_bucket", "Frame received to quote written", bounds),
        Family("mm_tick_to_quote_seconds_sum", "Frame received to quote written"),
        Family("mm_tick_to_quote_seconds_count", "Frame received to quote written"),
        Family("mm_loop_lag_seconds", "Lateness of the loop's last health timer"),
        Family("mm_frames_total", "Frames received", (("conn", ("market", "trade", "kill")),)),
        Family(
            "mm_ws_connects_total", "Connections opened", (("conn", ("market", "trade", "kill")),)
        ),
        Family("mm_frames_sent_total", "Frames written", (("kind", ("risk", "reduce", "safe")),)),
        Family("mm_late_send_total", "Frames of risk written after a kill was seen: must be 0"),
        Family("mm_frames_withheld_total", "Frames the gate did not write"),
        Family("mm_pages_total", "Log lines that call a person", (("event", PAGE_EVENTS),)),
        Family("mm_log_lines_dropped_total", "Log lines without a reader"),
        Family("mm_steps_total", "Steps of the node"),
    )


def series(families: Iterable[Family]) -> tuple[str, ...]:
    """Every series of the families, in order: the names of the page's slots."""
    names: list[str] = []
    for family in families:
        keys = [key for key, _ in family.labels]
        for values in product(*(allowed for _, allowed in family.labels)):
            inner = ",".join(f'{key}="{value}"' for key, value in zip(keys, values, strict=True))
            names.append(f"{family.name}{{{inner}}}" if inner else family.name)
    return tuple(names)


def page_slots(underlyings: Iterable[str]) -> tuple[str, ...]:
    """The page's whole layout: the node's series, then the shell's."""
    return series(node_families(underlyings)) + series(shell_families())


def help_texts(underlyings: Iterable[str]) -> dict[str, str]:
    """Help by family name, histograms without their endings."""
    families = (*node_families(underlyings), *shell_families())
    return {_base(family.name): family.help for family in families}


def _base(name: str) -> str:
    for ending in ("_bucket", "_sum", "_count"):
        name = name.removesuffix(ending)
    return name
