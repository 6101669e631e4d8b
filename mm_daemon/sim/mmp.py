"""Market-maker protection: the counters of one group on one index, and its configuration.

The window does not slide: it starts with a trade and lasts `interval`; the first trade after its
end starts the next with counters at zero. Quantity adds up absolute base-coin amounts; delta is
the signed net transaction delta (Black delta less mark price for inverse options, the Black
delta otherwise); vega is signed USD per vol point. Greeks are those of the time of the trade.
Sums are floats: they are estimates compared with limits, not money.
"""

from mm_daemon.sim.exchange_errors import Code, VenueError, invalid_params
from mm_daemon.sim.exchange_records import Mark, MmpConfig
from mm_daemon.sim.exchange_types import MmpConfigRequest
from mm_daemon.sim.fees import coin_size_e8
from mm_daemon.sim.spec import E8, MS_US, SECOND_US, InstrumentSpec

INTERVAL_S_MAX = 3_600
GROUP_NAME_CHARS_MAX = 64
LIMIT_DECIMALS_E8 = 10_000  # four decimals, in 1e-8 units
LIMIT_MAX_E8 = {"BTC": 500 * E8, "ETH": 5_000 * E8}


class MmpGroup:
    """One group: its limits, its running window and whether it is frozen."""

    __slots__ = (
        "config",
        "delta",
        "frozen_until_us",
        "is_frozen",
        "quantity_e8",
        "vega_usd",
        "window_end_us",
    )

    def __init__(self, config: MmpConfig) -> None:
        self.config = config
        self.window_end_us = 0
        self.quantity_e8 = 0
        self.delta = 0.0
        self.vega_usd = 0.0
        self.is_frozen = False
        self.frozen_until_us = 0

    def frozen_at(self, now_us: int) -> bool:
        """True while new orders get 13030; a timed freeze ends by itself."""
        if self.is_frozen and self.config.frozen_time_s and now_us >= self.frozen_until_us:
            self.reset()
        return self.is_frozen

    def frozen_until_ms(self) -> int:
        return self.frozen_until_us // MS_US

    def reset(self) -> None:
        """Ends a freeze and starts counting anew with the next trade."""
        self.is_frozen = False
        self.frozen_until_us = 0
        self.window_end_us = 0

    def on_trade(self, *, coin_e8: int, delta: float, vega_usd: float, now_us: int) -> bool:
        """Counts one fill; True where it broke a limit and so froze the group."""
        if now_us >= self.window_end_us:
            self.window_end_us = now_us + self.config.interval_s * SECOND_US
            self.quantity_e8, self.delta, self.vega_usd = 0, 0.0, 0.0
        self.quantity_e8 += abs(coin_e8)
        self.delta += delta
        self.vega_usd += vega_usd
        if self.is_frozen or not self._broken():
            return False
        self.is_frozen = True
        frozen_us = self.config.frozen_time_s * SECOND_US
        self.frozen_until_us = now_us + frozen_us if frozen_us else 0
        return True

    def _broken(self) -> bool:
        limits = self.config
        if limits.quantity_limit_e8 is not None and self.quantity_e8 >= limits.quantity_limit_e8:
            return True
        if limits.delta_limit_e8 is not None and abs(self.delta) * E8 >= limits.delta_limit_e8:
            return True
        return limits.vega_limit_e8 is not None and abs(self.vega_usd) * E8 >= limits.vega_limit_e8


def trade_measures(
    spec: InstrumentSpec, mark: Mark | None, amount_e8: int, price_e8: int
) -> tuple[int, float, float]:
    """(coin amount, net transaction delta, vega in USD) of a signed fill, at the current mark."""
    coin_e8 = coin_size_e8(spec, amount_e8, price_e8)
    if not spec.is_option:
        return coin_e8, coin_e8 / E8, 0.0
    if mark is None:
        return coin_e8, 0.0, 0.0
    premium_part = mark.mark_price_e8 / E8 if spec.is_inverse else 0.0
    size = amount_e8 / E8
    return coin_e8, size * (mark.delta - premium_part), size * mark.vega


def config_of(request: MmpConfigRequest) -> MmpConfig:
    """The configuration that a request asks for. Raises -32602 naming the parameter."""
    if not 0 <= request.interval_s <= INTERVAL_S_MAX:
        raise invalid_params("interval", f"must be 0 to {INTERVAL_S_MAX} seconds")
    if not 0 <= request.frozen_time_s <= INTERVAL_S_MAX:
        raise invalid_params("frozen_time", f"must be 0 to {INTERVAL_S_MAX} seconds")
    if len(request.mmp_group) > GROUP_NAME_CHARS_MAX:
        raise invalid_params("mmp_group", f"longer than {GROUP_NAME_CHARS_MAX} characters")
    if request.max_quote_quantity_e8 is None:
        raise invalid_params("max_quote_quantity", "value required")
    limits = {
        "max_quote_quantity": request.max_quote_quantity_e8,
        "quantity_limit": request.quantity_limit_e8,
        "delta_limit": request.delta_limit_e8,
        "vega_limit": request.vega_limit_e8,
    }
    cap_e8 = LIMIT_MAX_E8.get(request.index_name.partition("_")[0].upper())
    for name, limit_e8 in limits.items():
        _check_limit(name, limit_e8, None if name == "vega_limit" else cap_e8)
    quantity_e8, delta_e8 = request.quantity_limit_e8, request.delta_limit_e8
    if quantity_e8 is not None and delta_e8 is not None and delta_e8 >= quantity_e8:
        raise invalid_params("delta_limit", "must be less than quantity_limit")
    return MmpConfig(
        index_name=request.index_name,
        mmp_group=request.mmp_group,
        interval_s=request.interval_s,
        frozen_time_s=request.frozen_time_s,
        max_quote_quantity_e8=request.max_quote_quantity_e8,
        quantity_limit_e8=quantity_e8,
        delta_limit_e8=delta_e8,
        vega_limit_e8=request.vega_limit_e8,
    )


def _check_limit(name: str, limit_e8: int | None, cap_e8: int | None) -> None:
    if limit_e8 is None:
        return
    if limit_e8 <= 0:
        raise invalid_params(name, "must be positive")
    if limit_e8 % LIMIT_DECIMALS_E8:
        raise invalid_params(name, "at most 4 decimals")
    if cap_e8 is not None and limit_e8 > cap_e8:
        raise invalid_params(name, f"at most {cap_e8 / E8:g}")


def check_quote_size(config: MmpConfig, *, amount_coin_e8: int, side_open_coin_e8: int) -> None:
    """Refuses a quote as large as the quantity limit, or past the group's open size per side."""
    limit_e8 = config.quantity_limit_e8
    if limit_e8 is not None and amount_coin_e8 >= limit_e8:
        raise VenueError(
            Code.INVALID_AMOUNT,
            data={"reason": "amount must be less than the group's quantity_limit"},
        )
    if side_open_coin_e8 + amount_coin_e8 > config.max_quote_quantity_e8:
        raise VenueError(
            Code.INVALID_AMOUNT,
            data={"reason": "open size of the side would exceed max_quote_quantity"},
        )
