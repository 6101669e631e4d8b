"""Credits of callers without a name, by address.

Deribit limits unauthenticated use per address; the account pools of the exchange do not see it.
Pools are token buckets in credits with Deribit's own costs.
"""

from collections import OrderedDict
from typing import Final

import msgspec

from mm_daemon.sim.deribit_wire_rpc import WireError
from mm_daemon.sim.exchange_types import CreditClass

ADDRESSES_MAX: Final = 1_024


class Pool(msgspec.Struct, frozen=True):
    """Cost of one call, size of the pool, refill a second; all in credits."""

    cost: int
    size: int
    refill_per_s: int


POOLS: Final = {
    CreditClass.NON_MATCHING: Pool(cost=500, size=50_000, refill_per_s=10_000),
    CreditClass.GET_INSTRUMENTS: Pool(cost=10_000, size=500_000, refill_per_s=10_000),
    CreditClass.SUBSCRIBE: Pool(cost=3_000, size=30_000, refill_per_s=10_000),
    CreditClass.TRANSACTION_LOG: Pool(cost=10_000, size=80_000, refill_per_s=10_000),
}


class AddressPools:
    """What each address has left."""

    def __init__(self) -> None:
        self._left: OrderedDict[tuple[str, CreditClass], tuple[int, int]] = OrderedDict()

    def charge(self, address: str, credit_class: CreditClass, now_us: int) -> None:
        """Take one call's cost; 10028 when the pool is dry."""
        pool = POOLS[credit_class]
        key = (address, credit_class)
        left_micro, since_us = self._left.pop(key, (pool.size * 1_000_000, now_us))
        refilled = left_micro + max(now_us - since_us, 0) * pool.refill_per_s
        left_micro = min(refilled, pool.size * 1_000_000)
        refused = left_micro < pool.cost * 1_000_000
        if not refused:
            left_micro -= pool.cost * 1_000_000
        self._left[key] = (left_micro, now_us)
        if len(self._left) > ADDRESSES_MAX:
            self._left.popitem(last=False)
        if refused:
            raise WireError(10028, "too_many_requests")
