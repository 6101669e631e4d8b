"""The choice of one quote side: legal ticks enumerated, the most valuable one taken.

For each candidate price

    net = edge to theo - fee(price) - adverse cost - lean - own-size cost
    value = fills per day(price) / 24 * queue share * net * amount * USD per price unit

Candidates run from the most aggressive price that may be had (short of the other side of the
market, and not better than theo less the minimum edge) to some levels behind the touch. A rounding
of the continuous optimum is not used: markets are two or three ticks wide, and the fee's cap makes
the fee itself a function of the price.

The value of staying counts the place in the queue we already have (half of what others show there,
the mean of a uniform prior), that of a newcomer all of it; so the value of the queue is part of the
comparison and not a constant beside it. Everything is written for a sign, +1 to buy and -1 to sell.
The functions are pure and know no time but `now_ns`.
"""

from __future__ import annotations

import math

from mm_daemon.core.catalog import Floats
from mm_daemon.core.quote_terms import (
    CANDIDATES_MAX,
    I_ADVERSE,
    I_K,
    I_LN_A,
    L_LEAN,
    L_OWN_SIZE,
    P_EDGE_MIN_TICKS,
    P_GAIN_MIN_USD,
    P_LEAN_CAP,
    P_LEAN_RATIO,
    P_LEVELS_BACK,
    P_WIDTH,
    R_BEHIND_EDGE,
    R_BEHIND_FEE,
    R_EDGE,
    R_FEE,
    R_KEPT,
    R_LEAN_CAP,
    R_NO_INTENSITY,
    R_NO_PRICE,
    R_NO_SIZE,
    R_NO_THEO,
    R_QUOTED,
    Contract,
    CostMatrices,
    SideTerms,
)
from mm_daemon.domain import grid
from mm_daemon.pricing.arrays import kernel

HALF_SPREAD_VOL_MAX = 0.04
"""A market wider than eight vol points says nothing about where trades happen: theo does."""
HALF_SPREAD_STEPS_MAX = 4.0
"""... unless that is still only a few ticks wide."""
IMPROVE_STEPS_MAX = 16
STUB_HALF_SPREADS = 3.0
KEEP_EDGE_SHARE = 0.5
"""A resting quote may live on this share of the minimum edge, else quotes at the edge flicker."""
KEEP_SIZE_SHARE = 0.5
_HOURS_PER_DAY = 24.0
_LN_FILLS_MAX = 25.0

floor_legal = kernel(grid.floor_legal)
ceil_legal = kernel(grid.ceil_legal)


@kernel
def fee_at(price: float, contract: Contract) -> float:
    """Trading fee per unit of amount at a price, in price units; a rebate is not capped."""
    rate = contract.maker if contract.is_inverse else contract.maker * contract.forward
    return min(rate, contract.fee_cap * price) if rate > 0.0 else rate


@kernel
def back_legal(ticks: int, sign: int, above: int, step: int) -> int:
    """The next legal price away from the market: lower for a bid, higher for an ask."""
    if sign > 0:
        return floor_legal(ticks - 1, above, step)
    return ceil_legal(ticks + 1, above, step)


@kernel
def toward_legal(price: float, tick: float, sign: int, above: int, step: int) -> int:
    """The legal tick nearest to a price that is not more aggressive than it."""
    if sign > 0:
        return floor_legal(math.floor(price / tick + 1e-9), above, step)
    return ceil_legal(math.ceil(price / tick - 1e-9), above, step)


@kernel
def others_touch(
    best: int, second: int, best_amount: float, own_ticks: int, own_amount: float
) -> tuple[int, float]:
    """Best price and amount of others on one side, given our own resting quote."""
    if own_ticks == best and own_amount > 0.0:
        left = best_amount - own_amount
        if left <= 1e-9:
            return second, 0.0
        return best, left
    return best, best_amount


@kernel
def reference(bid: int, ask: int, contract: Contract, vega_price: float) -> tuple[float, float]:
    """Middle and half-spread that distances are measured by; theo's own where the market has none.

    vega_price: change of price per 1.00 of vol, in price units.
    """
    step = contract.step if contract.theo > contract.above * contract.tick else 1
    step_price = step * contract.tick
    half_max = max(HALF_SPREAD_STEPS_MAX * step_price, HALF_SPREAD_VOL_MAX * vega_price)
    if bid > 0 and ask > 0:
        half = 0.5 * (ask - bid) * contract.tick
        if half <= half_max:
            return 0.5 * (ask + bid) * contract.tick, half
    return contract.theo, min(half_max, max(step_price, 0.5 * HALF_SPREAD_VOL_MAX * vega_price))


@kernel
def side_terms(
    sign: int,
    i: int,
    lots: int,
    contract: Contract,
    touch: tuple[int, float],
    opposite: int,
    price_limit: float,
    yardstick: tuple[float, float],
    costs: CostMatrices,
    policy: Floats,
) -> SideTerms:
    """Gather one side; the lean comes capped, the width factor applied.

    A touch further from the middle than any market is wide is a stub: there is nothing to join.
    A theo beyond the other side of the market is believed only up to there: that everybody else
    is wrong is the rarer case, and such an edge is mostly adverse selection.
    """
    side = 0 if sign > 0 else 1
    middle, half = yardstick
    ticks, amount = touch
    if sign * (middle - ticks * contract.tick) > STUB_HALF_SPREADS * half:
        ticks, amount = 0, 0.0
    theo = contract.theo
    if opposite > 0:
        theo = sign * min(sign * theo, sign * opposite * contract.tick)
    width = policy[P_WIDTH, i]
    k = costs.intensity[I_K, side, i]
    cap = policy[P_LEAN_CAP, i] * half / k
    lean = costs.lean[L_LEAN, i] * policy[P_LEAN_RATIO, i]
    step = contract.step if contract.theo > contract.above * contract.tick else 1
    return SideTerms(
        sign=sign,
        theo=theo,
        touch=ticks,
        touch_amount=amount,
        opposite=opposite,
        price_limit=price_limit,
        middle=middle,
        half=half,
        ln_touch=costs.intensity[I_LN_A, side, i] - k,
        k=k / width,
        adverse=costs.intensity[I_ADVERSE, side, i] * half * width,
        lean=min(max(lean, -cap), cap),
        own_size=costs.lean[L_OWN_SIZE, i],
        edge_min=policy[P_EDGE_MIN_TICKS, i] * step * contract.tick * width,
        amount=lots * contract.lot,
    )


@kernel
def bar(sign: int, i: int, lots: int, half: float, costs: CostMatrices, policy: Floats) -> int:
    """Reason why this side may not be quoted whatever the price, or R_QUOTED; NaN-safe."""
    side = 0 if sign > 0 else 1
    if lots < 1:
        return R_NO_SIZE
    k = costs.intensity[I_K, side, i]
    usable = 0.0 < k < math.inf and half > 0.0
    usable = usable and abs(costs.intensity[I_LN_A, side, i]) < _LN_FILLS_MAX
    if not (usable and abs(costs.intensity[I_ADVERSE, side, i]) < math.inf):
        return R_NO_INTENSITY
    lean = costs.lean[L_LEAN, i] * policy[P_LEAN_RATIO, i]
    if not (abs(lean) < math.inf and costs.lean[L_OWN_SIZE, i] >= 0.0):
        return R_NO_THEO
    if sign * lean > policy[P_LEAN_CAP, i] * half / k:
        return R_LEAN_CAP
    return R_QUOTED


@kernel
def net_edge(price: float, contract: Contract, side: SideTerms) -> float:
    """What a fill at `price` earns after every cost, in price units per unit of amount."""
    fee = fee_at(price, contract)
    edge = side.sign * (side.theo - price)
    return edge - fee - side.adverse - side.sign * side.lean - side.own_size


@kernel
def fills_per_day(price: float, side: SideTerms) -> float:
    """Expected fills of one side at the front of the queue; falls with distance at any input."""
    distance = side.sign * (side.middle - price) / side.half
    return math.exp(min(side.ln_touch - side.k * (distance - 1.0), _LN_FILLS_MAX))


@kernel
def start_ticks(contract: Contract, side: SideTerms) -> int:
    """The most aggressive price worth looking at; 0 or less where there is none."""
    sign, tick = side.sign, contract.tick
    above, step = contract.above, contract.step
    rebate = min(fee_at(side.theo, contract), 0.0)
    room = side.adverse + side.own_size + side.edge_min + rebate
    ticks = toward_legal(side.theo - side.lean - sign * room, tick, sign, above, step)
    if side.opposite > 0:
        ticks = sign * min(sign * ticks, sign * back_legal(side.opposite, sign, above, step))
    if 0.0 < side.price_limit < math.inf:
        bound = toward_legal(side.price_limit, tick, sign, above, step)
        ticks = sign * min(sign * ticks, sign * bound)
    if side.touch > 0:
        reach = side.touch + sign * IMPROVE_STEPS_MAX * (step if side.touch > above else 1)
        bound = toward_legal(reach * tick, tick, sign, above, step)
        ticks = sign * min(sign * ticks, sign * bound)
    return ticks if sign > 0 else max(ticks, 1)


@kernel
def best_candidate(
    contract: Contract, side: SideTerms, levels_back: float, trace: Floats
) -> tuple[int, float, float, bool]:
    """Most valuable legal tick, its value (USD an hour) and net edge; whether a fee barred one."""
    best_ticks, best_value, best_net = 0, 0.0, 0.0
    fee_bars = False
    behind = 0
    last_value = -math.inf
    ticks = start_ticks(contract, side)
    for row in range(CANDIDATES_MAX):
        if ticks <= 0 or behind > levels_back:
            break
        price = ticks * contract.tick
        net = net_edge(price, contract, side)
        is_behind = side.touch <= 0 or side.sign * (side.touch - ticks) >= 0
        if net >= side.edge_min:
            ahead = side.touch_amount if is_behind and side.touch > 0 else 0.0
            value = fill_value(price, side.amount, ahead, net, contract, side)
            if best_ticks == 0 or value > best_value:
                best_ticks, best_value, best_net = ticks, value, net
            # With a constant queue, exp(-distance) * net has one peak: past it nothing is better.
            is_past = behind > 0 and value < last_value and trace.shape[0] == 0
            if is_past and not _fee_bends(price, levels_back, contract, side):
                break
            behind += is_behind
            last_value = value if is_behind else -math.inf
        elif net + max(fee_at(price, contract), 0.0) >= side.edge_min:
            fee_bars = True
        if row < trace.shape[0]:
            _trace_candidate(trace[row], ticks, is_behind, contract, side)
        ticks = back_legal(ticks, side.sign, contract.above, contract.step)
    return best_ticks, best_value, best_net, fee_bars


@kernel
def _fee_bends(price: float, levels_back: float, contract: Contract, side: SideTerms) -> bool:
    """Whether a bid's fee may still reach its cap further back, which steepens its net edge."""
    if side.sign < 0 or contract.maker <= 0.0:
        return False
    rate = contract.maker if contract.is_inverse else contract.maker * contract.forward
    reach = (levels_back + 1.0) * contract.step * contract.tick
    bend = rate / contract.fee_cap
    return price > bend >= price - reach


@kernel
def fill_value(
    price: float, amount: float, ahead: float, net: float, contract: Contract, side: SideTerms
) -> float:
    """USD an hour of `amount` at `price` with `ahead` in the queue before it.

    A print that reaches us is taken to be about as large as we are, hence the share.
    """
    share = amount / (amount + ahead)
    return fills_per_day(price, side) * share * net * amount * contract.usd / _HOURS_PER_DAY


@kernel
def choose_side(
    i: int,
    lots: int,
    credit_price_usd: float,
    contract: Contract,
    side: SideTerms,
    live: tuple[int, int],
    policy: Floats,
    trace: Floats,
) -> tuple[int, int, float, float, float, int]:
    """Ticks, lots, value and gain in USD an hour, net edge in USD a coin, reason.

    Ticks 0 = no quote. `gain` is over what rests now (over nothing where nothing rests).
    """
    live_ticks, live_lots = live
    sign = side.sign
    best_ticks, best_value, best_net, fee_bars = best_candidate(
        contract, side, policy[P_LEVELS_BACK, i], trace
    )
    stay_value, stay_net = 0.0, -math.inf
    if live_lots > 0:
        price = live_ticks * contract.tick
        stay_net = net_edge(price, contract, side)
        is_behind = side.touch > 0 and sign * (side.touch - live_ticks) >= 0
        ahead = 0.5 * side.touch_amount if is_behind else 0.0
        held = live_lots * contract.lot
        stay_value = fill_value(price, held, ahead, stay_net, contract, side)
    if best_ticks == 0:
        if start_ticks(contract, side) <= 0:
            return 0, 0, 0.0, max(-stay_value, 0.0), 0.0, R_NO_PRICE
        return 0, 0, 0.0, max(-stay_value, 0.0), 0.0, R_FEE if fee_bars else R_EDGE
    gain = best_value - stay_value
    crosses = side.opposite > 0 and sign * (side.opposite - live_ticks) <= 0
    # A price once sent was legal; the grid of an instrument does not change while it lives.
    may_stay = KEEP_SIZE_SHARE * lots <= live_lots <= lots and not crosses
    may_stay = may_stay and stay_net >= KEEP_EDGE_SHARE * side.edge_min
    is_cheap = gain <= policy[P_GAIN_MIN_USD, i] + credit_price_usd
    if may_stay and (best_ticks == live_ticks or is_cheap):
        return live_ticks, live_lots, stay_value, 0.0, stay_net * contract.usd, R_KEPT
    reason = R_QUOTED
    if side.touch > 0 and sign * (side.touch - best_ticks) > 0:
        at_touch = net_edge(side.touch * contract.tick, contract, side)
        if at_touch < side.edge_min:
            reason = R_BEHIND_FEE if fee_bars else R_BEHIND_EDGE
    return best_ticks, lots, best_value, gain, best_net * contract.usd, reason


@kernel
def _trace_candidate(
    row: Floats, ticks: int, is_behind: bool, contract: Contract, side: SideTerms
) -> None:
    price = ticks * contract.tick
    ahead = side.touch_amount if is_behind and side.touch > 0 else 0.0
    net = net_edge(price, contract, side)
    row[0] = ticks
    row[1] = price
    row[2] = side.sign * (side.theo - price)
    row[3] = fee_at(price, contract)
    row[4] = side.adverse
    row[5] = side.sign * side.lean
    row[6] = side.own_size
    row[7] = net
    row[8] = side.sign * (side.middle - price) / side.half
    row[9] = fills_per_day(price, side)
    row[10] = side.amount / (side.amount + ahead)
    row[11] = fill_value(price, side.amount, ahead, net, contract, side)
