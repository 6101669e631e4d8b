"""The refusals of the simulated venue: Deribit's codes and messages, raised as one exception.

A `VenueError` is the venue's answer to one request, never a fault of the simulation: the wire
writes it as the JSON-RPC error of that request. `terminates_session` is set where the venue
closes the connection after answering (10028). Faults of the simulation itself are assertions.
"""

from enum import IntEnum

ErrorData = dict[str, str | int | float]


class Code(IntEnum):
    """Deribit's numbers; the member name in lower case is the message unless one is given."""

    AUTHORIZATION_REQUIRED = 10000
    QTY_TOO_LOW = 10002
    ORDER_OVERLAP = 10003
    ORDER_NOT_FOUND = 10004
    PRICE_TOO_LOW = 10005
    PRICE_TOO_HIGH = 10007
    NOT_ENOUGH_FUNDS = 10009
    ALREADY_CLOSED = 10010
    PRICE_NOT_ALLOWED = 10011
    BOOK_CLOSED = 10012
    LOCKED_BY_ADMIN = 10019
    INVALID_OR_UNSUPPORTED_INSTRUMENT = 10020
    INVALID_AMOUNT = 10021
    INVALID_PRICE = 10023
    TOO_MANY_REQUESTS = 10028
    NOT_OWNER_OF_ORDER = 10029
    SETTLEMENT_IN_PROGRESS = 10041
    PRICE_WRONG_TICK = 10043
    MATCHING_ENGINE_QUEUE_FULL = 10047
    COD_ENABLE_FAILED = 10049
    ALREADY_FILLED = 11008
    INVALID_ARGUMENTS = 11029
    OTHER_REJECT = 11030
    NOT_OPEN_ORDER = 11044
    BAD_REQUEST = 11050
    SYSTEM_MAINTENANCE = 11051
    POST_ONLY_REJECT = 11054
    NOT_FOUND = 13020
    FORBIDDEN = 13021
    MMP_TRIGGER = 13030
    LABEL_NOT_UNIQUE = 13032
    MMP_REQUIRED = 13040
    COD_NOT_ENABLED = 13042
    QUOTES_FROZEN = 13043
    REQUEST_CANCELLED = 13666
    REPLACED = 13777
    RAW_SUBSCRIPTIONS_NOT_AVAILABLE = 13778
    TIMED_OUT = 13888
    MASS_QUOTES_NOT_ENABLED = 13902
    TOO_MANY_QUOTES = 13903
    INVALID_PARAMS = -32602


_MESSAGES = {
    Code.INVALID_PARAMS: "Invalid params",
    Code.MASS_QUOTES_NOT_ENABLED: "mass_quotes_not_enabled",
    Code.LABEL_NOT_UNIQUE: "non_unique_order_label",
}


class VenueError(Exception):
    """One refused request: code, message and optional data, as the wire must print them."""

    def __init__(
        self,
        code: Code,
        message: str = "",
        *,
        data: ErrorData | None = None,
        terminates_session: bool = False,
    ) -> None:
        self.code = code
        self.message = message or _MESSAGES.get(code, code.name.lower())
        self.data = data
        self.terminates_session = terminates_session
        super().__init__(f"{int(code)} {self.message} {data or ''}".rstrip())


def invalid_params(param: str, reason: str) -> VenueError:
    """The -32602 answer, whose data names the parameter and the reason."""
    return VenueError(Code.INVALID_PARAMS, data={"param": param, "reason": reason})
