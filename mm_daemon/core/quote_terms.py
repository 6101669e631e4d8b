"""Columns and codes that the quoting kernel and those who fill or read its tables agree on.

A kernel takes matrices rather than structs, because a call with sixty arrays costs more than the
work in it. The row numbers live here, so that nobody counts rows twice. No arithmetic here.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

from mm_daemon.core.catalog import Bools, Floats, Ints

BID: Final = 0
ASK: Final = 1
"""Row of a side in every two-row array of quotes."""


class Reason(IntEnum):
    """Why a side is quoted as it is, or is not. Values below `NO_THEO` rest in the market."""

    QUOTED = 0
    KEPT = 1
    """The resting quote stays: moving it would gain less than it costs."""
    BEHIND_FEE = 2
    """Quoted behind the touch, which could not earn its fee."""
    BEHIND_EDGE = 3
    """Quoted behind the touch, which is too near theo even without a fee."""
    NO_THEO = 4
    BOOK_INVALID = 5
    NOT_OPEN = 6
    EXPIRY_NEAR = 7
    EXPIRY_FAR = 8
    DELTA_RANGE = 9
    BLACKLIST = 10
    HELD = 11
    """A control asked for it to be pulled."""
    FEE = 12
    """No legal price earns the minimum edge after the fee."""
    EDGE = 13
    LEAN_CAP = 14
    """Inventory leans beyond the cap: the side that would add to it is not quoted."""
    NO_PRICE = 15
    """No legal tick lies on our side of the market and inside the venue's band."""
    SELF_CROSS = 16
    NO_INTENSITY = 17
    NO_SIZE = 18
    UNDECIDED = 19
    NO_SLICE = 20
    """A new expiry is quoted only once a slice of its own was fitted."""


LAST_QUOTED: Final = Reason.BEHIND_EDGE

R_QUOTED: Final = int(Reason.QUOTED)
R_KEPT: Final = int(Reason.KEPT)
R_BEHIND_FEE: Final = int(Reason.BEHIND_FEE)
R_BEHIND_EDGE: Final = int(Reason.BEHIND_EDGE)
R_NO_THEO: Final = int(Reason.NO_THEO)
R_BOOK_INVALID: Final = int(Reason.BOOK_INVALID)
R_NOT_OPEN: Final = int(Reason.NOT_OPEN)
R_EXPIRY_NEAR: Final = int(Reason.EXPIRY_NEAR)
R_EXPIRY_FAR: Final = int(Reason.EXPIRY_FAR)
R_DELTA_RANGE: Final = int(Reason.DELTA_RANGE)
R_BLACKLIST: Final = int(Reason.BLACKLIST)
R_HELD: Final = int(Reason.HELD)
R_NO_SLICE: Final = int(Reason.NO_SLICE)
R_FEE: Final = int(Reason.FEE)
R_EDGE: Final = int(Reason.EDGE)
R_LEAN_CAP: Final = int(Reason.LEAN_CAP)
R_NO_PRICE: Final = int(Reason.NO_PRICE)
R_NO_INTENSITY: Final = int(Reason.NO_INTENSITY)
R_NO_SIZE: Final = int(Reason.NO_SIZE)
R_SELF_CROSS: Final = int(Reason.SELF_CROSS)
"""The codes as plain integers: kernels freeze them as constants."""

(
    P_EDGE_MIN_TICKS,
    P_WIDTH,
    P_LEVELS_BACK,
    P_LOTS_NEAR,
    P_LOTS_WING,
    P_WING_DELTA,
    P_GAIN_MIN_USD,
    P_PULL_FRACTION,
    P_STOP_NS,
    P_EXPIRY_MAX_NS,
    P_DELTA_MIN,
    P_DELTA_MAX,
    P_LEAN_RATIO,
    P_LEAN_CAP,
    P_BLACKLISTED,
) = range(15)
POLICY_ROWS: Final = 15
"""Rows of the policy matrix: the trader's settings of each instrument."""

(T_TICK, T_LOT, T_FEE_MAKER, T_FEE_CAP) = range(4)
TERMS_ROWS: Final = 4
"""Rows of the contract-terms matrix."""

(B_FORWARD, B_VOL, B_EDGE_USD) = range(3)
BASIS_ROWS: Final = 3
"""What a resting quote was approved on: forward, vol, and the edge it then had in USD a coin."""

(M_VALUE, M_GAIN, M_EDGE) = range(3)
MONEY_ROWS: Final = 3
"""Value and gain over what rests, in USD an hour; net edge in USD per unit of amount."""

(Q_TICKS, Q_LOTS, Q_REASON) = range(3)
QUOTE_ROWS: Final = 3
(I_LN_A, I_K, I_ADVERSE) = range(3)
INTENSITY_ROWS: Final = 3
(L_LEAN, L_OWN_SIZE) = range(2)
LEAN_ROWS: Final = 2
(C_EXPIRY_NS, C_TICK_ABOVE, C_TICK_STEP) = range(3)
CONTRACT_INT_ROWS: Final = 3

(F_VALID, F_OPEN) = range(2)
(F_PRICE_MIN, F_PRICE_MAX) = (2, 3)
"""Rows of the touch's flags, and of its price band in the money matrix."""
(A_THEO, A_EDGE) = range(2)
APPROVED_ROWS: Final = 2
"""Theo and smallest net edge (price units) that an option's resting quotes were approved on."""

TRACE_FIELDS: Final = (
    "ticks",
    "price",
    "edge",
    "fee",
    "adverse",
    "lean",
    "own_size",
    "net",
    "distance_half_spreads",
    "fills_per_day",
    "queue_share",
    "value_usd_per_hour",
)
"""Columns of an explanation's candidates; money in price units per unit of amount."""
CANDIDATES_MAX: Final = 48


class TouchMatrices(NamedTuple):
    """The market by instrument id.

    ticks (4, n): best bid, best ask, second bid, second ask; 0 = none. money (4, n): amount of the
    best bid and ask, lowest and highest price the venue takes. flags (2, n): book valid, open.
    """

    ticks: Ints
    money: Floats
    flags: Bools


class CostMatrices(NamedTuple):
    """What a fill costs and how often it comes, by instrument id.

    lean (2, n) with rows L_*, in price units; intensity (3, 2, n) with rows I_*, distances in
    half-spreads.
    """

    lean: Floats
    intensity: Floats


class LiveColumns(NamedTuple):
    """What we believe rests at the venue, by instrument id; 0 lots = nothing."""

    bid_ticks: Ints
    bid_lots: Ints
    ask_ticks: Ints
    ask_lots: Ints


class ContractMatrices(NamedTuple):
    """Contract terms by instrument id: integers (3, n), rows C_*; terms (4, n), rows T_*."""

    integers: Ints
    is_inverse: Bools
    terms: Floats


class WantedMatrices(NamedTuple):
    """The choice as a kernel writes it: quotes (3, 2, n), rows Q_*; money (3, 2, n), rows M_*."""

    quotes: Ints
    money: Floats
    is_stale: Bools


class WantedColumns(NamedTuple):
    """The choice, rows bid and ask; money (3, 2, n) has the rows M_*."""

    ticks: Ints
    lots: Ints
    reason: Ints
    money: Floats
    is_stale: Bools


class Contract(NamedTuple):
    """One instrument as the kernel sees it: terms, theo, and what a price unit is in USD."""

    tick: float
    above: int
    step: int
    is_inverse: bool
    maker: float
    fee_cap: float
    lot: float
    theo: float
    forward: float
    usd: float


class SideTerms(NamedTuple):
    """One side of one instrument; money in price units per unit of amount, ticks 0 = none.

    `theo` is what this side believes: never beyond the other side of the market.
    """

    sign: int
    theo: float
    touch: int
    touch_amount: float
    opposite: int
    price_limit: float
    middle: float
    half: float
    ln_touch: float
    k: float
    adverse: float
    lean: float
    own_size: float
    edge_min: float
    amount: float
