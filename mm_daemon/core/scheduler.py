"""Which of the wanted quotes are sent now: the most valuable ones for the credits there are.

What we want and what we last asked for differ on some sides. Pulls go first, in messages of their
own, because a message that only pulls may use the credits kept for cancelling. Then come sides
whose quote is stale: each is moved, or pulled where no credit is left to move it. All others are
sent in order of gain per credit until credits run out; the gain of the first side left out is the
price of a credit, which the quoter asks a quote to earn before it moves.

A side with a request on its way waits for the answer, unless it must be pulled or is stale. The
two sides of an instrument go in one entry where one would otherwise meet the other: the venue moves
the ask first when both go up. One message holds one MMP group and at most a hundred entries.
Nothing is sent or counted here; the engine may still refuse every message.
"""

from __future__ import annotations

import math
from hashlib import blake2b

import msgspec
import numpy as np

from mm_daemon.core.catalog import Bools, Floats, Ints
from mm_daemon.core.quote_terms import M_GAIN, LiveColumns, WantedColumns
from mm_daemon.domain.intents import QUOTES_PER_MESSAGE_MAX, MassQuote, QuoteEntry
from mm_daemon.domain.units import NS_PER_S, Lots, Ns, Ticks
from mm_daemon.pricing.arrays import kernel

MESSAGES_PER_PLAN_MAX = 4
"""More would hold up the next tick: what is left over goes with the next decision."""
FULL_SCAN_INTERVAL_NS = NS_PER_S // 10
CREDIT_PRICE_HALF_LIFE_NS = 2 * NS_PER_S
_URGENT = 1e15
"""Added to the rank of a stale side: no gain in USD an hour comes near it."""

_NONE, _MOVE, _PULL = range(3)
_COLUMNS = 7
"""Of a row: id, then action, ticks and lots of the bid, then those of the ask."""


class Credits(msgspec.Struct, frozen=True):
    """What the throttle has now; the pull columns include the reserve for cancels."""

    sides: int
    messages: int
    pull_sides: int
    pull_messages: int


class FlightColumns(msgspec.Struct, frozen=True):
    """Requests without an answer by instrument id."""

    bid: Ints
    ask: Ints


class Planned(msgspec.Struct, frozen=True):
    """One message and the instruments in it."""

    intent: MassQuote
    ids: Ints
    is_pull: bool


class Plan(msgspec.Struct, frozen=True):
    """Messages in the order in which they must leave, and how many sides had to wait."""

    messages: tuple[Planned, ...]
    sides_left: int


_NOTHING = Plan((), 0)


class Addressing(msgspec.Struct, frozen=True):
    """How messages of this plan are named: request ids count up from the first."""

    mmp_group: str
    first_request_id: int
    valid_until_ns: Ns


class Scheduler:
    """The price of a credit and the next full look, by MMP group; all else comes with the call."""

    def __init__(self) -> None:
        self._price_usd: dict[str, float] = {}
        self._priced_ns: dict[str, int] = {}
        self._full_scan_ns: dict[str, int] = {}

    def plan(
        self,
        ids: Ints,
        group_ids: Ints,
        wanted: WantedColumns,
        asked: LiveColumns,
        flights: FlightColumns,
        budget: Credits,
        addressing: Addressing,
        now_ns: Ns,
        *,
        gain_min_usd: float,
    ) -> Plan:
        """Choose among the options of one group that were decided on since the last plan (`ids`).

        All of the group (`group_ids`) is looked at when something had to wait the last time, and
        every tenth of a second, so that nothing is ever forgotten. gain_min_usd: a quote that
        rests and is not stale is replaced only for this gain an hour.
        """
        group = addressing.mmp_group
        if now_ns >= self._full_scan_ns.get(group, 0):
            ids = group_ids
            self._full_scan_ns[group] = now_ns + FULL_SCAN_INTERVAL_NS
        rows = np.empty((ids.size, _COLUMNS), dtype=np.int64)
        rank = np.empty(ids.size)
        count = _classify_into(
            ids,
            wanted.ticks,
            wanted.lots,
            wanted.money,
            wanted.is_stale,
            *asked,
            flights.bid,
            flights.ask,
            gain_min_usd,
            rows,
            rank,
        )
        if count == 0:
            return _NOTHING
        order = np.argsort(-rank[:count], kind="stable")
        pulls: list[QuoteEntry] = []
        moves: list[QuoteEntry] = []
        left, first_left_usd = _fill(rows[order], rank[order].tolist(), budget, pulls, moves)
        messages = _messages(pulls, moves, budget, addressing)
        self._reprice(group, first_left_usd, now_ns)
        sent = sum(_sides(entry) for planned in messages for entry in planned.intent.entries)
        cut = sum(_sides(entry) for entry in (*pulls, *moves)) - sent
        if left + cut:
            self._full_scan_ns[group] = now_ns
        return Plan(messages, left + cut)

    def credit_price_usd(self, mmp_group: str, now_ns: Ns) -> float:
        """What a credit would have earned elsewhere, USD an hour, fading when there are enough."""
        price = self._price_usd.get(mmp_group, 0.0)
        if price == 0.0:
            return 0.0
        age_ns = now_ns - self._priced_ns[mmp_group]
        faded = price * math.pow(0.5, age_ns / CREDIT_PRICE_HALF_LIFE_NS)
        return faded if faded > 1e-6 else 0.0

    def digest(self) -> bytes:
        """16 bytes over the prices, equal for equal histories."""
        words = (self._price_usd, self._priced_ns, self._full_scan_ns)
        return blake2b(repr(words).encode(), digest_size=16).digest()

    def _reprice(self, mmp_group: str, seen_usd: float, now_ns: Ns) -> None:
        price = max(self.credit_price_usd(mmp_group, now_ns), seen_usd)
        self._price_usd[mmp_group] = price
        self._priced_ns[mmp_group] = now_ns


def _fill(
    ranked: Ints,
    rank: list[float],
    budget: Credits,
    pulls: list[QuoteEntry],
    moves: list[QuoteEntry],
) -> tuple[int, float]:
    """Spend credits row by row; sides left out, and the gain of the best of them."""
    sides = budget.sides if budget.messages > 0 else 0
    pull_sides = budget.pull_sides if budget.pull_messages > 0 else 0
    left, first_left_usd = 0, 0.0
    for at, (row, value) in enumerate(zip(ranked.tolist(), rank, strict=True)):
        if value < _URGENT and min(sides, pull_sides) == 0:
            # Only moves are left, and no credit for them.
            left += int(np.count_nonzero(ranked[at:, (1, 4)] == _MOVE))
            return left, max(first_left_usd, value)
        bid_act, ask_act = row[1], row[4]
        pulled = (bid_act == _PULL) + (ask_act == _PULL)
        moved = (bid_act == _MOVE) + (ask_act == _MOVE)
        if pulled > pull_sides:
            # Without the pull the other side might meet the quote that should be gone.
            left += pulled + moved
            continue
        if pulled:
            pull_sides -= pulled
            pulls.append(_pull(row, _PULL))
        if not moved:
            continue
        # Pulls and moves draw on one pool, so what pulls have taken is gone for moves too.
        if moved <= min(sides, pull_sides):
            sides -= moved
            pull_sides -= moved
            moves.append(_move(row))
            continue
        left += moved
        is_urgent = value >= _URGENT
        if is_urgent and moved <= pull_sides:
            pull_sides -= moved
            pulls.append(_pull(row, _MOVE))
        elif not is_urgent:
            first_left_usd = max(first_left_usd, value)
    return left, first_left_usd


def _move(row: list[int]) -> QuoteEntry:
    """New terms for the sides that move."""
    i, bid_act, bid_ticks, bid_lots, ask_act, ask_ticks, ask_lots = row
    moves_bid, moves_ask = bid_act == _MOVE, ask_act == _MOVE
    return QuoteEntry(
        i,
        Ticks(bid_ticks) if moves_bid else None,
        Lots(bid_lots) if moves_bid else None,
        Ticks(ask_ticks) if moves_ask else None,
        Lots(ask_lots) if moves_ask else None,
    )


def _pull(row: list[int], kind: int) -> QuoteEntry:
    """Take away the sides that have this action."""
    return QuoteEntry(
        row[0],
        None,
        Lots(0) if row[1] == kind else None,
        None,
        Lots(0) if row[4] == kind else None,
    )


def _sides(entry: QuoteEntry) -> int:
    return (entry.bid_lots is not None) + (entry.ask_lots is not None)


def _messages(
    pulls: list[QuoteEntry], moves: list[QuoteEntry], budget: Credits, addressing: Addressing
) -> tuple[Planned, ...]:
    """Cut entries into messages, pulls before moves, as many as there are credits for."""
    made: list[Planned] = []
    for entries, is_pull in ((pulls, True), (moves, False)):
        allowed = budget.pull_messages if is_pull else budget.messages
        for start in range(0, len(entries), QUOTES_PER_MESSAGE_MAX):
            if len(made) >= min(MESSAGES_PER_PLAN_MAX, allowed):
                break
            chunk = tuple(entries[start : start + QUOTES_PER_MESSAGE_MAX])
            request_id = addressing.first_request_id + len(made)
            intent = MassQuote(
                request_id=request_id,
                mmp_group=addressing.mmp_group,
                quote_id=str(request_id),
                entries=chunk,
                valid_until_ns=addressing.valid_until_ns,
            )
            ids = np.array([entry.instrument_id for entry in chunk], dtype=np.int64)
            made.append(Planned(intent, ids, is_pull))
    return tuple(made)


@kernel
def _classify_into(
    ids: Ints,
    ticks: Ints,
    lots: Ints,
    money: Floats,
    is_stale: Bools,
    asked_bid_ticks: Ints,
    asked_bid_lots: Ints,
    asked_ask_ticks: Ints,
    asked_ask_lots: Ints,
    flights_bid: Ints,
    flights_ask: Ints,
    gain_min_usd: float,
    rows: Ints,
    rank: Floats,
) -> int:
    """Write a row and a rank for every instrument with something to send; returns their number.

    The rank is the gain per side in USD an hour, with stale sides and pulls above all others.
    """
    count = 0
    for i in ids:
        asked_ticks = (asked_bid_ticks[i], asked_ask_ticks[i])
        asked_lots = (asked_bid_lots[i], asked_ask_lots[i])
        in_flight = (flights_bid[i] > 0, flights_ask[i] > 0)
        row = rows[count]
        urgent = False
        for side in range(2):
            act = _NONE
            if lots[side, i] == 0:
                if asked_lots[side] > 0:
                    act = _PULL
                    urgent = True
            elif lots[side, i] != asked_lots[side] or ticks[side, i] != asked_ticks[side]:
                stale = is_stale[side, i] and asked_lots[side] > 0
                # Presence is worth a credit in itself; only a replacement must gain something.
                worth = asked_lots[side] == 0 or money[M_GAIN, side, i] >= gain_min_usd
                if stale or (worth and not in_flight[side]):
                    act = _MOVE
                    urgent = urgent or stale
            row[1 + 3 * side] = act
            row[2 + 3 * side] = ticks[side, i]
            row[3 + 3 * side] = lots[side, i]
        _join_sides(row, asked_ticks, asked_lots, in_flight)
        if row[1] == _NONE and row[4] == _NONE:
            continue
        row[0] = i
        gain, sides = 0.0, 0
        for side in range(2):
            if row[1 + 3 * side] == _MOVE:
                gain += money[M_GAIN, side, i]
                sides += 1
        rank[count] = gain / max(sides, 1) + (_URGENT if urgent else 0.0)
        count += 1
    return count


@kernel
def _join_sides(
    row: Ints,
    asked_ticks: tuple[int, int],
    asked_lots: tuple[int, int],
    in_flight: tuple[bool, bool],
) -> None:
    """A side that would meet our own other side moves together with it, or waits."""
    for side in range(2):
        other = 1 - side
        if row[1 + 3 * side] != _MOVE or row[1 + 3 * other] != _NONE or asked_lots[other] == 0:
            continue
        bid = row[2] if side == 0 else asked_ticks[0]
        ask = asked_ticks[1] if side == 0 else row[5]
        if bid < ask:
            continue
        if row[3 + 3 * other] > 0 and not in_flight[other]:
            row[1 + 3 * other] = _MOVE
        else:
            row[1 + 3 * side] = _NONE
