"""The grammar of channel names.

A name is read into one typed `Channel`, or into None when Deribit would not know it; the venue
then leaves it out of the list it grants, silently, exactly as Deribit does.

This module never asks whether an instrument exists; the hub does.
"""

from enum import Enum
from typing import Final

import msgspec

KINDS: Final = ("future", "option", "spot", "future_combo", "option_combo")
KIND_WORDS: Final = (*KINDS, "combo", "any")
CURRENCIES: Final = ("BTC", "ETH", "SOL", "XRP", "USDC", "USDT", "EURR")
INTERVALS: Final = ("raw", "100ms", "agg2")
GROUP_DEPTHS: Final = (1, 10, 20)
CHART_RESOLUTIONS: Final = (
    "1",
    "3",
    "5",
    "10",
    "15",
    "30",
    "60",
    "120",
    "180",
    "360",
    "720",
    "1D",
)


class Family(Enum):
    """What a channel carries; the value is the stem of its name."""

    BOOK = "book"
    BOOK_GROUPED = "book grouped"
    TICKER = "ticker"
    INCREMENTAL_TICKER = "incremental_ticker"
    QUOTE = "quote"
    TRADES = "trades"
    CHART = "chart.trades"
    PERPETUAL = "perpetual"
    PRICE_INDEX = "deribit_price_index"
    PRICE_RANKING = "deribit_price_ranking"
    PRICE_STATISTICS = "deribit_price_statistics"
    VOLATILITY_INDEX = "deribit_volatility_index"
    MARK_PRICES = "markprice.options"
    EXPIRATION_PRICE = "estimated_expiration_price"
    INSTRUMENT_STATE = "instrument.state"
    PLATFORM_STATE = "platform_state"
    PUBLIC_METHODS_STATE = "platform_state.public_methods_state"
    ANNOUNCEMENTS = "announcements"
    USER_ORDERS = "user.orders"
    USER_TRADES = "user.trades"
    USER_CHANGES = "user.changes"
    USER_COMBO_TRADES = "user.combo_trades"
    USER_PORTFOLIO = "user.portfolio"
    USER_MMP_TRIGGER = "user.mmp_trigger"
    USER_LOCK = "user.lock"
    USER_ACCESS_LOG = "user.access_log"
    BLOCK_TRADES = "block_trade_confirmations"
    RFQ_MAKER = "block_rfq.maker"
    RFQ_MAKER_QUOTES = "block_rfq.maker.quotes"
    RFQ_TAKER = "block_rfq.taker"
    RFQ_TRADES = "block_rfq.trades"


SCOPES: Final[dict[Family, str]] = {
    Family.USER_ORDERS: "trade",
    Family.USER_TRADES: "trade",
    Family.USER_CHANGES: "trade",
    Family.USER_COMBO_TRADES: "trade",
    Family.USER_PORTFOLIO: "account",
    Family.USER_MMP_TRIGGER: "trade",
    Family.USER_LOCK: "account",
    Family.USER_ACCESS_LOG: "account",
    Family.BLOCK_TRADES: "block_trade",
    Family.RFQ_MAKER: "block_rfq",
    Family.RFQ_MAKER_QUOTES: "block_rfq",
    Family.RFQ_TAKER: "block_rfq",
}
"""Families that need private/subscribe, with the area whose `read` they need."""


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """One channel: which of the optional fields are set follows from the family."""

    name: str
    family: Family
    instrument: str | None = None
    kind: str = "any"
    currency: str = "any"
    interval: str = "raw"
    index: str | None = None
    group: float | None = None
    depth: int = 0
    resolution: str | None = None

    @property
    def is_private(self) -> bool:
        """Whether the channel belongs to one account."""
        return self.family in SCOPES


_INSTRUMENT_INTERVAL: Final = {
    "ticker": Family.TICKER,
    "perpetual": Family.PERPETUAL,
    "trades": Family.TRADES,
    "book": Family.BOOK,
}
_INSTRUMENT_ONLY: Final = {
    "incremental_ticker": Family.INCREMENTAL_TICKER,
    "quote": Family.QUOTE,
}
_INDEX_ONLY: Final = {
    "deribit_price_index": Family.PRICE_INDEX,
    "deribit_price_ranking": Family.PRICE_RANKING,
    "deribit_price_statistics": Family.PRICE_STATISTICS,
    "deribit_volatility_index": Family.VOLATILITY_INDEX,
    "estimated_expiration_price": Family.EXPIRATION_PRICE,
}
_WHOLE_NAMES: Final = {
    "platform_state": Family.PLATFORM_STATE,
    "platform_state.public_methods_state": Family.PUBLIC_METHODS_STATE,
    "announcements": Family.ANNOUNCEMENTS,
    "user.lock": Family.USER_LOCK,
    "user.access_log": Family.USER_ACCESS_LOG,
    "block_trade_confirmations": Family.BLOCK_TRADES,
}
_USER_EVENTS: Final = {
    "orders": Family.USER_ORDERS,
    "trades": Family.USER_TRADES,
    "changes": Family.USER_CHANGES,
    "combo_trades": Family.USER_COMBO_TRADES,
}
_RFQ_FAMILIES: Final = {
    "maker": Family.RFQ_MAKER,
    "taker": Family.RFQ_TAKER,
    "trades": Family.RFQ_TRADES,
}


def parse_channel(name: str) -> Channel | None:
    """The channel of that name, or None when the grammar does not know it."""
    if name in _WHOLE_NAMES:
        return Channel(name=name, family=_WHOLE_NAMES[name])
    stem, _, rest = name.partition(".")
    parts = rest.split(".") if rest else []
    if not parts or not all(parts):
        return None
    if stem == "user":
        return _user_channel(name, parts)
    if stem == "block_rfq":
        return _rfq_channel(name, parts)
    if stem == "block_trade_confirmations" and len(parts) == 1:
        currency = _currency_word(parts[0])
        if currency is None:
            return None
        return Channel(name=name, family=Family.BLOCK_TRADES, currency=currency)
    return _market_channel(name, stem, parts)


def _market_channel(name: str, stem: str, parts: list[str]) -> Channel | None:
    if stem in _INDEX_ONLY and len(parts) == 1:
        return Channel(name=name, family=_INDEX_ONLY[stem], index=parts[0])
    if stem in _INSTRUMENT_ONLY and len(parts) == 1:
        return Channel(name=name, family=_INSTRUMENT_ONLY[stem], instrument=parts[0])
    if stem in _INSTRUMENT_INTERVAL and len(parts) == 2:
        if parts[1] not in INTERVALS:
            return None
        family = _INSTRUMENT_INTERVAL[stem]
        return Channel(name=name, family=family, instrument=parts[0], interval=parts[1])
    if stem == "book" and len(parts) == 4:
        return _grouped_book(name, parts)
    if stem == "trades" and len(parts) == 3:
        return _by_kind(name, Family.TRADES, parts)
    if stem == "markprice" and len(parts) == 2 and parts[0] == "options":
        return Channel(name=name, family=Family.MARK_PRICES, index=parts[1])
    if stem == "instrument" and len(parts) == 3 and parts[0] == "state":
        return _by_kind(name, Family.INSTRUMENT_STATE, [*parts[1:], "raw"])
    if stem == "chart" and len(parts) == 3 and parts[0] == "trades":
        if parts[2] not in CHART_RESOLUTIONS:
            return None
        return Channel(name=name, family=Family.CHART, instrument=parts[1], resolution=parts[2])
    return None


def _currency_word(word: str) -> str | None:
    if word.lower() == "any":
        return "any"
    return word.upper() if word.upper() in CURRENCIES else None


def _by_kind(name: str, family: Family, parts: list[str]) -> Channel | None:
    kind, currency_word, interval = parts
    currency = _currency_word(currency_word)
    if kind not in KIND_WORDS or currency is None or interval not in INTERVALS:
        return None
    return Channel(name=name, family=family, kind=kind, currency=currency, interval=interval)


def _grouped_book(name: str, parts: list[str]) -> Channel | None:
    instrument, group_word, depth_word, interval = parts
    if interval not in ("100ms", "agg2") or depth_word not in ("1", "10", "20"):
        return None
    group: float | None = None
    if group_word != "none":
        try:
            group = float(group_word.replace("d", "."))
        except ValueError:
            return None
        if not 0.0 < group < 1e9:
            return None
    return Channel(
        name=name,
        family=Family.BOOK_GROUPED,
        instrument=instrument,
        group=group,
        depth=int(depth_word),
        interval=interval,
    )


def _user_channel(name: str, parts: list[str]) -> Channel | None:
    subject, words = parts[0], parts[1:]
    if subject in _USER_EVENTS:
        family = _USER_EVENTS[subject]
        if len(words) == 3:
            return _by_kind(name, family, words)
        if len(words) == 2 and words[1] in INTERVALS:
            return Channel(name=name, family=family, instrument=words[0], interval=words[1])
        return None
    if subject == "portfolio" and len(words) == 1:
        currency = _currency_word(words[0])
        if currency is None:
            return None
        return Channel(name=name, family=Family.USER_PORTFOLIO, currency=currency)
    if subject == "mmp_trigger" and len(words) == 1:
        index = words[0].lower()
        if index.upper() in CURRENCIES:  # one article of Deribit's writes the bare currency
            index = f"{index}_usd"
        return Channel(name=name, family=Family.USER_MMP_TRIGGER, index=index)
    return None


def _rfq_channel(name: str, parts: list[str]) -> Channel | None:
    family = _RFQ_FAMILIES.get(parts[0])
    words = parts[1:]
    if parts[0] == "maker" and words and words[0] == "quotes":
        family, words = Family.RFQ_MAKER_QUOTES, words[1:]
    if family is None or len(words) != 1:
        return None
    currency = _currency_word(words[0])
    if currency is None:
        return None
    return Channel(name=name, family=family, currency=currency)
