"""Pictures of the decision for people: what the control API, the console and `status` show.

Built by the engine on request from the state after its last step, sent as MessagePack, rendered as
JSON by ops. Wide tables are columns, because a chain has thousands of rows. Money in USD unless the
name says coin; vols are decimals; times are nanoseconds since the epoch.
"""

from __future__ import annotations

import msgspec


class Reentry(msgspec.Struct, frozen=True):
    """An underlying that comes back from a reset in a small size, and until when."""

    size_ratio: float
    until_ns: int


class ResetTerms(msgspec.Struct, frozen=True):
    """What the decision knows of whether a reset may be carried out."""

    reconcile_age_s: float
    """Since the last clean picture of the venue; NaN where there was none."""
    parked_fills: int
    is_informed: bool
    """The controls have seen every input once; before that nothing is known to be clear."""
    controls_holding: tuple[str, ...]
    """Rows of the control table whose condition holds, each with its place: `C13 venue`."""


class PositionDifference(msgspec.Struct, frozen=True):
    """A position that is one thing in our books and another at the venue, in its amount unit; in
    lots where its instrument is not known, and of a trade that has no place `trade ID in NAME`."""

    instrument: str
    ours: float
    venue: float


class AdoptionView(msgspec.Struct, frozen=True):
    """What a person could have adopted from the venue, and what has been."""

    difference_id: str
    """Follows from the numbers; empty where no position differs."""
    differences: tuple[PositionDifference, ...]
    standing_s: float
    why_not: str
    """What stands in the way, empty = nothing."""
    wanted_by: str
    """Whose wish waits for the next whole picture of the venue."""
    ended: int
    """Wishes that have come to an end; `outcome` is that of the last."""
    outcome: str
    lots_standing: int
    """Lots in our books that no trade explains: adopted, and not taken back by a late trade."""


class StatusView(msgspec.Struct, frozen=True):
    """One line for an operator."""

    session: str
    environment: str
    venue: str
    ts_ns: int
    uptime_s: float
    state: str
    reasons_not_quoting: tuple[str, ...]
    generation: int
    permission: tuple[str, ...]
    tasks: tuple[str, ...]
    swept_generation: int
    sessions: dict[str, str]
    is_reconciled: bool
    options_listed: int
    options_two_sided: int
    quotes_live: int
    orders_live: int
    unknown_orders: int
    fills: int
    net_delta_coin: dict[str, float]
    equity_usd: float
    flatten: dict[str, str] = {}
    """How the flatten of each underlying stands, where one is asked for."""
    reentry: dict[str, Reentry] = {}
    """Underlyings in the first stage after a reset; one that is not here quotes its full size."""
    reset: ResetTerms | None = None
    adoption: AdoptionView | None = None
    """None before the catalogue is known."""


class PositionRow(msgspec.Struct, frozen=True):
    instrument: str
    amount: float
    """Signed, in the venue's amount unit (USD for inverse futures, coin for options)."""
    average_price: float
    mark_price: float
    theo_price: float
    delta_coin: float
    gamma_usd: float
    vega_usd: float
    theta_usd_day: float


class PositionsView(msgspec.Struct, frozen=True):
    positions: tuple[PositionRow, ...]
    cash_coin: dict[str, float]


class ExpiryGreeks(msgspec.Struct, frozen=True):
    expiry: str
    delta_coin: float
    gamma_usd: float
    """Change of USD delta for a 1 % move."""
    vega_usd: float
    """Per 0.01 of vol."""
    theta_usd_day: float


class UnderlyingGreeks(msgspec.Struct, frozen=True):
    """Greeks of one underlying on position, and the limits they are held against."""

    delta_coin: float
    """In the convention of `hedge.collateral_hedged`, futures included."""
    delta_black_coin: float
    delta_band_coin: float
    gamma_usd: float
    vega_usd: float
    theta_usd_day: float
    expiries: tuple[ExpiryGreeks, ...]
    limit_use: dict[str, float]
    """Share of each hard limit that the worst case uses."""


class GreeksView(msgspec.Struct, frozen=True):
    underlyings: dict[str, UnderlyingGreeks]


class QuotesView(msgspec.Struct, frozen=True):
    """Every option, by column; 0 price = none. `why_*` names why a side is not quoted."""

    instrument: tuple[str, ...]
    bid_market: list[float]
    ask_market: list[float]
    theo: list[float]
    vol: list[float]
    delta: list[float]
    bid: list[float]
    bid_amount: list[float]
    ask: list[float]
    ask_amount: list[float]
    lean: list[float]
    position: list[float]
    why_no_bid: list[str]
    why_no_ask: list[str]


class OrderRow(msgspec.Struct, frozen=True):
    client_id: str
    order_id: str
    instrument: str
    side: str
    price: float
    amount: float
    filled: float
    state: str
    purpose: str
    age_s: float


class OrdersView(msgspec.Struct, frozen=True):
    """Single orders; quotes are in `QuotesView`."""

    orders: tuple[OrderRow, ...]


class SliceView(msgspec.Struct, frozen=True):
    expiry: str
    tte_days: float
    forward: float
    forward_source: str
    atm_vol: float
    rms_vp: float
    svi: tuple[float, ...]


class SurfaceView(msgspec.Struct, frozen=True):
    underlyings: dict[str, tuple[SliceView, ...]]
    age_s: dict[str, float]
    fits_accepted: dict[str, int]
    fits_refused: dict[str, int]
    last_refusal: dict[str, str]


class PnlView(msgspec.Struct, frozen=True):
    """Parts of the change of equity since the session's opening, by underlying; they sum to
    total."""

    parts_usd: dict[str, dict[str, float]]
    total_usd: dict[str, float]
    equity_usd: dict[str, float]
    """By version: venue (its marks at its stamp) and desk (our theo)."""
    venue_difference_e8: dict[str, int]
    """Our equity less the venue's at the last portfolio stamp, in 1e-8 coin, by currency."""


class HedgeRow(msgspec.Struct, frozen=True):
    underlying: str
    delta_coin: float
    band_coin: float
    state: str
    out_of_band_s: float
    hedges: int
    slippage_bps: float


class HedgesView(msgspec.Struct, frozen=True):
    hedges: tuple[HedgeRow, ...]


class ModelRow(msgspec.Struct, frozen=True):
    name: str
    sha256: str
    in_use: bool
    age_s: float
    fallbacks: dict[str, int]


class ModelsView(msgspec.Struct, frozen=True):
    models: tuple[ModelRow, ...]


VIEWS: dict[str, type[msgspec.Struct]] = {
    "status": StatusView,
    "positions": PositionsView,
    "greeks": GreeksView,
    "quotes": QuotesView,
    "orders": OrdersView,
    "surface": SurfaceView,
    "pnl": PnlView,
    "hedges": HedgesView,
    "models": ModelsView,
}
"""Every view by the name it has in the control API."""
