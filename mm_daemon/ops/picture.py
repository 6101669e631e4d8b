"""What the daemon held at the moment of an act, as far as the trader says so in time."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from mm_daemon.ops.trader_client import TraderAwayError, TraderClient

PATIENCE_S: Final = 0.5
STATUS_KEYS: Final = (
    "quotes_live",
    "orders_live",
    "unknown_orders",
    "fills",
    "net_delta_coin",
    "equity_usd",
)
GREEK_KEYS: Final = ("delta_coin", "gamma_usd", "vega_usd", "theta_usd_day")


async def picture(trader: TraderClient, status: dict[str, Any] | None = None) -> dict[str, Any]:
    """Open orders and greeks for an audit line; says so where they could not be had."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            seen = await trader.view("status") if status is None else status
            greeks = await trader.view("greeks")
    except (TraderAwayError, TimeoutError) as error:
        return {"held": None, "held_problem": str(error) or "the trader did not answer in time"}
    held = {key: seen[key] for key in STATUS_KEYS}
    held["greeks"] = {
        name: {key: one[key] for key in GREEK_KEYS} for name, one in greeks["underlyings"].items()
    }
    return {"held": held}
