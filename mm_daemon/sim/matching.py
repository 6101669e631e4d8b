"""One book with price-time priority: resting orders, levels, and what changed since last told.

Each side keeps its prices as keys `price * sign`, so that on both sides the best is the largest
key and the last of a sorted list. Inside a level orders stand in a dict in order of arrival; an
order that must lose its place is removed and added again. The book never decides who trades or
what is allowed: it answers who is first, and records which levels a call touched so that one
change event per call can be told with the net effect.
"""

from bisect import bisect_left

from mm_daemon.sim.exchange_events import BookChanged, LevelChange
from mm_daemon.sim.exchange_types import Order
from mm_daemon.sim.spec import BUY, SELL


class Level:
    """Orders of one price in order of arrival, and what they show in total."""

    __slots__ = ("orders", "total_e8")

    def __init__(self) -> None:
        self.orders: dict[int, Order] = {}
        self.total_e8 = 0


class BookSide:
    """One side; `sign` +1 holds bids, -1 asks."""

    __slots__ = ("keys", "levels", "sign", "touched")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.keys: list[int] = []
        self.levels: dict[int, Level] = {}
        self.touched: dict[int, int] = {}

    def best_price_e8(self) -> int:
        """The best price, or 0 on an empty side."""
        return self.keys[-1] * self.sign if self.keys else 0

    def best_amount_e8(self) -> int:
        return self.levels[self.keys[-1]].total_e8 if self.keys else 0

    def first(self) -> Order | None:
        """The order with the highest priority."""
        if not self.keys:
            return None
        return next(iter(self.levels[self.keys[-1]].orders.values()))

    def add(self, order: Order) -> None:
        """Puts an order at the back of its level."""
        assert order.price_e8 is not None
        assert order.price_e8 > 0, f"{order.order_id} rests at {order.price_e8}"
        key = order.price_e8 * self.sign
        level = self.levels.get(key)
        if level is None:
            level = self.levels[key] = Level()
            keys = self.keys
            if not keys or key > keys[-1]:
                keys.append(key)
            else:
                keys.insert(bisect_left(keys, key), key)
        if key not in self.touched:
            self.touched[key] = level.total_e8
        level.orders[order.seq] = order
        level.total_e8 += order.remaining_e8

    def remove(self, order: Order) -> None:
        """Takes a resting order off, with what remains of it."""
        assert order.price_e8 is not None
        key = order.price_e8 * self.sign
        level = self.levels[key]
        if key not in self.touched:
            self.touched[key] = level.total_e8
        del level.orders[order.seq]
        level.total_e8 -= order.remaining_e8
        if not level.orders:
            assert level.total_e8 == 0, f"empty level at {key} holds {level.total_e8}"
            self._drop(key)

    def reduce(self, order: Order, by_e8: int) -> None:
        """Says that a resting order's remaining amount is about to fall by `by_e8`, in place."""
        assert order.price_e8 is not None
        key = order.price_e8 * self.sign
        level = self.levels[key]
        if key not in self.touched:
            self.touched[key] = level.total_e8
        level.total_e8 -= by_e8
        assert level.total_e8 >= 0, f"level at {key} fell to {level.total_e8}"

    def holds(self, order: Order) -> bool:
        if order.price_e8 is None:
            return False
        level = self.levels.get(order.price_e8 * self.sign)
        return level is not None and order.seq in level.orders

    def _drop(self, key: int) -> None:
        del self.levels[key]
        keys = self.keys
        if keys[-1] == key:
            keys.pop()
        else:
            del keys[bisect_left(keys, key)]

    def take_changes(self) -> tuple[LevelChange, ...]:
        """The net effect on levels since last asked, best price first."""
        if not self.touched:
            return ()
        changes: list[LevelChange] = []
        for key in sorted(self.touched, reverse=True):
            before = self.touched[key]
            level = self.levels.get(key)
            after = 0 if level is None else level.total_e8
            if before == after:
                continue
            action = "new" if before == 0 else "delete" if after == 0 else "change"
            changes.append((action, key * self.sign, after))
        self.touched.clear()
        return tuple(changes)

    def depth(self, levels_max: int) -> tuple[tuple[int, int], ...]:
        """Up to `levels_max` levels as (price, total), best first."""
        keys = self.keys[-levels_max:] if levels_max < len(self.keys) else self.keys
        return tuple((key * self.sign, self.levels[key].total_e8) for key in reversed(keys))


class Book:
    """Both sides of one instrument and the link of its change ids."""

    __slots__ = ("asks", "bids", "change_id", "instrument")

    def __init__(self, instrument: str) -> None:
        self.instrument = instrument
        self.bids = BookSide(BUY)
        self.asks = BookSide(SELL)
        self.change_id = 0

    def side(self, sign: int) -> BookSide:
        return self.bids if sign > 0 else self.asks

    def would_cross(self, sign: int, price_e8: int | None) -> bool:
        """True where an order of this side and price (None: any price) would trade at once."""
        opposite = self.asks if sign > 0 else self.bids
        if not opposite.keys:
            return False
        return price_e8 is None or sign * (price_e8 - opposite.best_price_e8()) >= 0

    def available_e8(self, sign: int, price_e8: int, wanted_e8: int, but_account: str) -> int:
        """How much of `wanted_e8` others' resting orders would fill at `price_e8` or better."""
        opposite = self.side(-sign)
        found = 0
        for key in reversed(opposite.keys):
            if sign * (price_e8 - key * opposite.sign) < 0:
                break
            for order in opposite.levels[key].orders.values():
                if order.account != but_account:
                    found += order.remaining_e8
                if found >= wanted_e8:
                    return wanted_e8
        return found

    def meets_own(self, account: str, sign: int, price_e8: int, amount_e8: int) -> bool:
        """True where filling `amount_e8` up to `price_e8` would reach an order of `account`."""
        opposite = self.side(-sign)
        left = amount_e8
        for key in reversed(opposite.keys):
            if left <= 0 or sign * (price_e8 - key * opposite.sign) < 0:
                return False
            for order in opposite.levels[key].orders.values():
                if left <= 0:
                    return False
                if order.account == account:
                    return True
                left -= order.remaining_e8
        return False

    def take_event(self, next_change_id: int, ts_us: int) -> BookChanged | None:
        """The change event since last asked, with its id; None where nothing changed in net."""
        bids = self.bids.take_changes()
        asks = self.asks.take_changes()
        if not bids and not asks:
            return None
        previous = self.change_id
        self.change_id = next_change_id
        return BookChanged(
            instrument=self.instrument,
            ts_us=ts_us,
            change_id=next_change_id,
            prev_change_id=previous,
            bids=bids,
            asks=asks,
        )
