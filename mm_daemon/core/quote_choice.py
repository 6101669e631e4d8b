"""The choice for many instruments: which may be quoted at all, and both sides of those that may.

One call looks at every option whose theo, book or rest changed. A barred instrument wants nothing
on both sides and says why. What of ours rests is taken out of the market first, so that we never
outbid ourselves; what we asked for last is what a new choice is compared with, and the two differ
while a request is on its way.

A quote that stays is approved anew: the forward and vol it is judged stale against are today's.
"""

from __future__ import annotations

import math

from mm_daemon.core.catalog import Bools, Floats, Ints
from mm_daemon.core.quote_kernel import (
    bar,
    choose_side,
    others_touch,
    reference,
    side_terms,
)
from mm_daemon.core.quote_terms import (
    A_EDGE,
    A_THEO,
    B_EDGE_USD,
    B_FORWARD,
    B_VOL,
    C_EXPIRY_NS,
    C_TICK_ABOVE,
    C_TICK_STEP,
    F_OPEN,
    F_PRICE_MAX,
    F_PRICE_MIN,
    F_VALID,
    M_EDGE,
    M_GAIN,
    M_VALUE,
    MONEY_ROWS,
    P_BLACKLISTED,
    P_DELTA_MAX,
    P_DELTA_MIN,
    P_EXPIRY_MAX_NS,
    P_LOTS_NEAR,
    P_LOTS_WING,
    P_PULL_FRACTION,
    P_STOP_NS,
    P_WING_DELTA,
    Q_LOTS,
    Q_REASON,
    Q_TICKS,
    R_BLACKLIST,
    R_BOOK_INVALID,
    R_DELTA_RANGE,
    R_EXPIRY_FAR,
    R_EXPIRY_NEAR,
    R_HELD,
    R_KEPT,
    R_NO_SLICE,
    R_NO_THEO,
    R_NOT_OPEN,
    R_QUOTED,
    R_SELF_CROSS,
    T_FEE_CAP,
    T_FEE_MAKER,
    T_LOT,
    T_TICK,
    Contract,
    ContractMatrices,
    CostMatrices,
    TouchMatrices,
    WantedMatrices,
)
from mm_daemon.core.theo import DELTA, FORWARD, PRICE, VEGA, VOL
from mm_daemon.pricing.arrays import kernel


@kernel
def choose_into(
    ids: Ints,
    now_ns: int,
    lots_ratio: float,
    credit_price_usd: float,
    touch_ticks: Ints,
    touch_money: Floats,
    touch_flags: Bools,
    rest_bid_ticks: Ints,
    rest_bid_lots: Ints,
    rest_ask_ticks: Ints,
    rest_ask_lots: Ints,
    asked_bid_ticks: Ints,
    asked_bid_lots: Ints,
    asked_ask_ticks: Ints,
    asked_ask_lots: Ints,
    lean_rows: Floats,
    intensity: Floats,
    contract_ints: Ints,
    is_inverse: Bools,
    terms: Floats,
    board: Floats,
    policy: Floats,
    held: Ints,
    basis: Floats,
    quotes: Ints,
    money: Floats,
    is_stale_out: Bools,
    approved: Floats,
    trace: Floats,
) -> None:
    """Choose both sides of every id into quotes (3, 2, n), money (3, 2, n) and is_stale_out (2, n).

    held (2, n) bars a side by its reason; basis (3, 2, n) of a side that stays is renewed, and
    approved (2, n) of an option all of whose sides stay: they were approved again just now.
    Arrays come flat, because a tuple of arrays costs three times as much to pass; inside they are
    grouped again at no cost.
    """
    touch = TouchMatrices(touch_ticks, touch_money, touch_flags)
    costs = CostMatrices(lean_rows, intensity)
    contracts = ContractMatrices(contract_ints, is_inverse, terms)
    out = WantedMatrices(quotes, money, is_stale_out)
    for i in ids:
        barred = gate(i, now_ns, touch, contracts, board, policy)
        own = ((asked_bid_ticks[i], asked_bid_lots[i]), (asked_ask_ticks[i], asked_ask_lots[i]))
        for side in range(2):
            _want_nothing(out, side, i, barred if barred != R_QUOTED else held[side, i])
        if barred == R_QUOTED:
            rests = ((rest_bid_ticks[i], rest_bid_lots[i]), (rest_ask_ticks[i], rest_ask_lots[i]))
            _choose_sides(
                i,
                lots_ratio,
                credit_price_usd,
                touch,
                rests,
                own,
                costs,
                contracts,
                board,
                policy,
                held,
                out,
                trace,
            )
        _renew(i, own, board, policy, is_inverse, basis, approved, out)


@kernel
def _renew(
    i: int,
    own: tuple[tuple[int, int], tuple[int, int]],
    board: Floats,
    policy: Floats,
    is_inverse: Bools,
    basis: Floats,
    approved: Floats,
    out: WantedMatrices,
) -> None:
    """Approve anew what stays, and judge what rests by what it was approved on."""
    stays = (own[0][1] == 0 or out.quotes[Q_REASON, 0, i] == R_KEPT) and (
        own[1][1] == 0 or out.quotes[Q_REASON, 1, i] == R_KEPT
    )
    if stays:
        _approve(i, board, out.quotes[Q_LOTS], out.money, is_inverse, approved)
    for side in range(2):
        if out.quotes[Q_REASON, side, i] == R_KEPT:
            basis[B_FORWARD, side, i] = board[FORWARD, i]
            basis[B_VOL, side, i] = board[VOL, i]
            basis[B_EDGE_USD, side, i] = out.money[M_EDGE, side, i]
        out.is_stale[side, i] = own[side][1] > 0 and is_stale(
            i, basis[:, side], board, policy[P_PULL_FRACTION, i]
        )


@kernel
def _choose_sides(
    i: int,
    lots_ratio: float,
    credit_price_usd: float,
    touch: TouchMatrices,
    rests: tuple[tuple[int, int], tuple[int, int]],
    own: tuple[tuple[int, int], tuple[int, int]],
    costs: CostMatrices,
    contracts: ContractMatrices,
    board: Floats,
    policy: Floats,
    held: Ints,
    out: WantedMatrices,
    trace: Floats,
) -> None:
    contract = contract_of(i, contracts, board)
    lots = quote_lots(i, lots_ratio, board, policy)
    bid = others_touch(
        touch.ticks[0, i],
        touch.ticks[2, i],
        touch.money[0, i],
        rests[0][0],
        rests[0][1] * contract.lot,
    )
    ask = others_touch(
        touch.ticks[1, i],
        touch.ticks[3, i],
        touch.money[1, i],
        rests[1][0],
        rests[1][1] * contract.lot,
    )
    yardstick = reference(bid[0], ask[0], contract, board[VEGA, i] / contract.usd)
    for side in range(2):
        sign = 1 - 2 * side
        if held[side, i] != R_QUOTED:
            continue
        barred = bar(sign, i, lots, yardstick[1], costs, policy)
        if barred != R_QUOTED:
            out.quotes[Q_REASON, side, i] = barred
            continue
        terms = side_terms(
            sign,
            i,
            lots,
            contract,
            ask if side else bid,
            bid[0] if side else ask[0],
            touch.money[F_PRICE_MIN if side else F_PRICE_MAX, i],
            yardstick,
            costs,
            policy,
        )
        ticks, chosen_lots, value, gain, net, reason = choose_side(
            i, lots, credit_price_usd, contract, terms, own[side], policy, trace[side]
        )
        out.quotes[Q_TICKS, side, i] = ticks
        out.quotes[Q_LOTS, side, i] = chosen_lots
        out.money[M_VALUE, side, i] = value
        out.money[M_GAIN, side, i] = gain
        out.money[M_EDGE, side, i] = net
        out.quotes[Q_REASON, side, i] = reason
    bid_wanted, ask_wanted = out.quotes[Q_TICKS, 0, i], out.quotes[Q_TICKS, 1, i]
    if bid_wanted > 0 and ask_wanted > 0 and bid_wanted >= ask_wanted:
        weaker = 0 if out.money[M_VALUE, 0, i] < out.money[M_VALUE, 1, i] else 1
        _want_nothing(out, weaker, i, R_SELF_CROSS)


@kernel
def _want_nothing(out: WantedMatrices, side: int, i: int, reason: int) -> None:
    out.quotes[Q_TICKS, side, i] = 0
    out.quotes[Q_LOTS, side, i] = 0
    out.quotes[Q_REASON, side, i] = reason
    for row in range(MONEY_ROWS):
        out.money[row, side, i] = 0.0


@kernel
def gate(
    i: int,
    now_ns: int,
    touch: TouchMatrices,
    contracts: ContractMatrices,
    board: Floats,
    policy: Floats,
) -> int:
    """Reason why neither side of an instrument may be quoted, or R_QUOTED."""
    if not touch.flags[F_OPEN, i]:
        return R_NOT_OPEN
    if policy[P_BLACKLISTED, i] > 0.0:
        return R_BLACKLIST
    if not touch.flags[F_VALID, i]:
        return R_BOOK_INVALID
    left_ns = contracts.integers[C_EXPIRY_NS, i] - now_ns
    if left_ns <= policy[P_STOP_NS, i]:
        return R_EXPIRY_NEAR
    if left_ns > policy[P_EXPIRY_MAX_NS, i]:
        return R_EXPIRY_FAR
    usable = board[PRICE, i] > 0.0 and board[FORWARD, i] > 0.0 and board[VEGA, i] >= 0.0
    if not (usable and math.isfinite(board[PRICE, i] + board[VEGA, i] + board[DELTA, i])):
        return R_NO_THEO
    size = abs(board[DELTA, i])
    if size < policy[P_DELTA_MIN, i] or size > policy[P_DELTA_MAX, i]:
        return R_DELTA_RANGE
    return R_QUOTED


@kernel
def contract_of(i: int, contracts: ContractMatrices, board: Floats) -> Contract:
    """Gather one instrument's terms and theo."""
    return Contract(
        tick=contracts.terms[T_TICK, i],
        above=contracts.integers[C_TICK_ABOVE, i],
        step=contracts.integers[C_TICK_STEP, i],
        is_inverse=contracts.is_inverse[i],
        maker=contracts.terms[T_FEE_MAKER, i],
        fee_cap=contracts.terms[T_FEE_CAP, i],
        lot=contracts.terms[T_LOT, i],
        theo=board[PRICE, i],
        forward=board[FORWARD, i],
        usd=board[FORWARD, i] if contracts.is_inverse[i] else 1.0,
    )


@kernel
def quote_lots(i: int, lots_ratio: float, board: Floats, policy: Floats) -> int:
    """Size to quote: near or wing, times the ratio, at least one lot where any is wanted."""
    is_near = abs(board[DELTA, i]) >= policy[P_WING_DELTA, i]
    full = policy[P_LOTS_NEAR, i] if is_near else policy[P_LOTS_WING, i]
    if not (full >= 1.0 and lots_ratio > 0.0):
        return 0
    return max(int(full * lots_ratio), 1)


@kernel
def is_stale(i: int, basis: Floats, board: Floats, fraction: float) -> bool:
    """Whether theo moved by more than a share of the approved edge since the quote was approved.

    basis (3, n) of one side. NaN anywhere counts as moved.
    """
    moved = abs(board[DELTA, i] * (board[FORWARD, i] - basis[B_FORWARD, i]))
    moved += abs(board[VEGA, i] * (board[VOL, i] - basis[B_VOL, i]))
    return not moved <= fraction * basis[B_EDGE_USD, i]


@kernel
def approve_into(
    ids: Ints,
    board: Floats,
    quotes: Ints,
    money: Floats,
    is_inverse: Bools,
    basis: Floats,
    approved: Floats,
) -> None:
    """Record what the wanted quotes of these ids were decided on, as they are sent."""
    for i in ids:
        _approve(i, board, quotes[Q_LOTS], money, is_inverse, approved)
        for side in range(2):
            if quotes[Q_LOTS, side, i] > 0:
                basis[B_FORWARD, side, i] = board[FORWARD, i]
                basis[B_VOL, side, i] = board[VOL, i]
                basis[B_EDGE_USD, side, i] = money[M_EDGE, side, i]


@kernel
def _approve(
    i: int, board: Floats, lots: Ints, money: Floats, is_inverse: Bools, approved: Floats
) -> None:
    edge_usd = math.inf
    for side in range(2):
        if lots[side, i] > 0:
            edge_usd = min(edge_usd, money[M_EDGE, side, i])
    approved[A_THEO, i] = board[PRICE, i]
    approved[A_EDGE, i] = edge_usd / (board[FORWARD, i] if is_inverse[i] else 1.0)


@kernel
def block_into(bid: Bools, ask: Bools, unfitted: Bools, held: Ints, changed: Ints) -> int:
    """Set the bars (2, n) to exactly these; write the ids whose bars changed, return how many."""
    count = 0
    for i in range(bid.size):
        free = R_NO_SLICE if unfitted[i] else R_QUOTED
        on_bid = R_HELD if bid[i] else free
        on_ask = R_HELD if ask[i] else free
        if held[0, i] != on_bid or held[1, i] != on_ask:
            held[0, i] = on_bid
            held[1, i] = on_ask
            changed[count] = i
            count += 1
    return count
