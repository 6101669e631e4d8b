"""Margin as the venue states it, what of it is reserved for quotes, and what all of ours could ask.

*Read*: initial margin over margin balance, from the account's summary. *Reserved*: the share that
the venue holds for each protection group whether it quotes or not; it is inside what is read.
*Estimated*: what would be asked if everything outstanding filled at its worst. The venue's formula
is not public; ours is the stress loss on the desk's own grid times a scale, the ratio of what the
venue asks for the positions we hold to our stress loss of the same positions. It is measured at the
first position worth measuring, whenever the loss has doubled since, and every hour; until then it
is 1, which is more than a portfolio margin asks, for our grid is wider.

Adding stops where the estimate of everything passes the stop ratio, so in the gate it is a limit on
the stress loss, set from the room that is left.
"""

from __future__ import annotations

import math

import msgspec

from mm_daemon.domain.units import NS_PER_S, Ns

RESERVE_SHARE = 0.03
"""Of a group's largest quote quantity, held by the venue as initial margin."""
CALIBRATE_NS = 3_600 * NS_PER_S
MEASURABLE_SHARE = 0.01
"""Of the margin balance: below it the ratio of two small numbers says nothing."""
SCALE_MIN, SCALE_MAX = 0.2, 3.0


class Margin(msgspec.Struct, frozen=True):
    """One currency's account at its last summary, in coin."""

    balance: float
    initial: float
    maintenance: float
    available: float

    @property
    def use(self) -> float:
        """Initial margin over margin balance; infinite where there is no balance to carry it."""
        if self.balance > 0.0:
            return self.initial / self.balance
        return math.inf if self.initial > 0.0 else math.nan


class MarginTerms(msgspec.Struct, frozen=True):
    """Shares of the margin balance, for people and limits; NaN where unknown."""

    read: float
    reserved: float
    estimated: float


class _Scale(msgspec.Struct):
    value: float = 1.0
    measured_ns: int = 0
    loss_usd: float = 0.0
    """Of the positions that it was measured on."""


class MarginScales:
    """What the venue asks for each USD of our own stress loss, by currency."""

    def __init__(self) -> None:
        self._scales: dict[str, _Scale] = {}

    def of(self, currency: str) -> float:
        scale = self._scales.get(currency)
        return 1.0 if scale is None else scale.value

    def observe(
        self, currency: str, *, asked_usd: float, loss_usd: float, balance_usd: float, now_ns: Ns
    ) -> None:
        """The venue asks `asked_usd` for positions whose worst stress loss is `loss_usd` (>= 0)."""
        scale = self._scales.setdefault(currency, _Scale())
        is_due = now_ns - scale.measured_ns >= CALIBRATE_NS or loss_usd > 2.0 * scale.loss_usd
        is_known = math.isfinite(asked_usd) and loss_usd > MEASURABLE_SHARE * balance_usd > 0.0
        if is_due and is_known:
            scale.value = min(max(asked_usd / loss_usd, SCALE_MIN), SCALE_MAX)
            scale.measured_ns, scale.loss_usd = now_ns, loss_usd

    def words(self) -> list[tuple[str, float, int, float]]:
        return [
            (name, one.value, one.measured_ns, one.loss_usd) for name, one in self._scales.items()
        ]
