"""Rate limits: pools of credits that refill continuously, by the venue's rules.

A pool holds integer credits in millionths so that a refill over any whole number of microseconds
is exact. Running dry refuses the request and takes nothing. Which refusal ends the session is
the caller's matter: see `charge`.
"""

from mm_daemon.sim.exchange_config import (
    COMMON_LIMITS,
    SUBSCRIBE_COST_CREDITS,
    SUBSCRIBE_POOL_CREDITS,
    SUBSCRIBE_REFILL_CREDITS_PER_S,
    TIERS,
)
from mm_daemon.sim.exchange_errors import Code, VenueError
from mm_daemon.sim.exchange_records import Limits, RateLimit
from mm_daemon.sim.exchange_types import CreditClass
from mm_daemon.sim.spec import SECOND_US


class CreditPool:
    """A token bucket: `level` in credit-microseconds-per-second units, full at the start."""

    __slots__ = ("cost", "level", "level_max", "refill_per_us", "updated_us")

    def __init__(
        self, *, cost_credits: int, pool_credits: int, refill_credits_per_s: int, now_us: int
    ) -> None:
        assert cost_credits > 0
        assert pool_credits >= cost_credits
        self.cost = cost_credits * SECOND_US
        self.level_max = pool_credits * SECOND_US
        self.level = self.level_max
        self.refill_per_us = refill_credits_per_s
        self.updated_us = now_us

    def take(self, count: int, now_us: int) -> bool:
        """Takes `count` requests, or nothing and answers False."""
        elapsed_us = now_us - self.updated_us
        assert elapsed_us >= 0, f"time fell by {-elapsed_us} us"
        self.level = min(self.level_max, self.level + elapsed_us * self.refill_per_us)
        self.updated_us = now_us
        if self.level < count * self.cost:
            return False
        self.level -= count * self.cost
        return True


class AccountCredits:
    """All pools of one account at one tier."""

    def __init__(self, tier: int, now_us: int) -> None:
        assert tier in TIERS, f"tier {tier}, expected one of {sorted(TIERS)}"
        self.limits: dict[CreditClass, RateLimit] = {**COMMON_LIMITS, **TIERS[tier]}
        self._pools = {
            name: CreditPool(
                cost_credits=1,
                pool_credits=limit.burst,
                refill_credits_per_s=limit.rate,
                now_us=now_us,
            )
            for name, limit in self.limits.items()
        }
        self._pools[CreditClass.SUBSCRIBE] = CreditPool(
            cost_credits=SUBSCRIBE_COST_CREDITS,
            pool_credits=SUBSCRIBE_POOL_CREDITS,
            refill_credits_per_s=SUBSCRIBE_REFILL_CREDITS_PER_S,
            now_us=now_us,
        )

    def charge(self, name: CreditClass, now_us: int, count: int = 1) -> None:
        """Takes from one pool. Raises 10028, which ends the session."""
        if not self._pools[name].take(count, now_us):
            raise VenueError(Code.TOO_MANY_REQUESTS, terminates_session=True)

    def charge_mass_quote(self, quote_sides: int, now_us: int) -> None:
        """One mass quote of `quote_sides`: guaranteed rate first, then the shared maximum.

        Raises 13903 without ending the session where the quotes are too many, 10028 where the
        requests are; a refusal by quotes has cost its request.
        """
        if not self._pools[CreditClass.GUARANTEED_MASS_QUOTES].take(1, now_us):
            self.charge(CreditClass.MAXIMUM_MASS_QUOTES, now_us)
        if not self._pools[CreditClass.MAXIMUM_QUOTES].take(quote_sides, now_us):
            limit = self.limits[CreditClass.MAXIMUM_QUOTES]
            raise VenueError(
                Code.TOO_MANY_QUOTES,
                data={"quotes": quote_sides, "rate": limit.rate, "burst": limit.burst},
            )

    def statement(self) -> Limits:
        """`limits` as the account summary prints them."""
        limits = self.limits
        return Limits(
            non_matching_engine=limits[CreditClass.NON_MATCHING],
            matching_engine=limits[CreditClass.MATCHING],
            maximum_quotes=limits[CreditClass.MAXIMUM_QUOTES],
            maximum_mass_quotes=limits[CreditClass.MAXIMUM_MASS_QUOTES],
            guaranteed_mass_quotes=limits[CreditClass.GUARANTEED_MASS_QUOTES],
            cancel_all=limits[CreditClass.CANCEL_ALL],
        )
