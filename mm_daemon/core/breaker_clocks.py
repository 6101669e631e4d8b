"""Two windows over time itself: how late the loop is, how far the venue's clock is from ours."""

from __future__ import annotations

from collections import deque

from mm_daemon.domain.units import NS_PER_S, Ns

HELD_NS = 2 * NS_PER_S
OFFSET_WINDOW_NS = 5 * NS_PER_S


class LagWindow:
    """Loop lag as the shell measures it; what holds for two seconds is no accident."""

    def __init__(self) -> None:
        self._samples: deque[tuple[int, int]] = deque(maxlen=4_096)

    def add(self, lag_ns: int, now_ns: Ns) -> None:
        self._samples.append((now_ns, lag_ns))
        while len(self._samples) > 1 and self._samples[1][0] <= now_ns - HELD_NS:
            self._samples.popleft()

    def held_ns(self, now_ns: Ns) -> int:
        """The lowest lag of the last two seconds; 0 where they were not all sampled."""
        if not self._samples or self._samples[0][0] > now_ns - HELD_NS:
            return 0
        return min(lag_ns for _, lag_ns in self._samples)

    def words(self) -> list[tuple[int, int]]:
        return list(self._samples)


class OffsetWindow:
    """Our clock less the venue's stamp of the quickest message of the last five to ten seconds.

    A message arrives after it was stamped, so the smallest difference is the offset plus the
    shortest way. One late message says nothing, and neither does a feed that is silent or a stamp
    that was seen before.
    """

    def __init__(self) -> None:
        self._stamp_ns = 0
        self._since_ns = 0
        self._now_least: int | None = None
        self._before_least: int | None = None

    def add(self, stamp_ns: int, now_ns: Ns) -> None:
        """A message that the venue stamped so was received now."""
        if stamp_ns <= self._stamp_ns:
            return
        self._stamp_ns = stamp_ns
        self._turn(now_ns)
        least, behind_ns = self._now_least, now_ns - stamp_ns
        self._now_least = behind_ns if least is None else min(least, behind_ns)

    def offset_ns(self, now_ns: Ns) -> int:
        """Changes nothing: gauges ask for it outside of steps."""
        elapsed_ns = now_ns - self._since_ns
        if elapsed_ns >= 2 * OFFSET_WINDOW_NS:
            return 0
        is_turned = elapsed_ns >= OFFSET_WINDOW_NS
        seen = (self._now_least, None if is_turned else self._before_least)
        known = [one for one in seen if one is not None]
        return min(known) if known else 0

    def words(self) -> tuple[int, int, int | None, int | None]:
        return self._stamp_ns, self._since_ns, self._now_least, self._before_least

    def _turn(self, now_ns: Ns) -> None:
        elapsed_ns = now_ns - self._since_ns
        if elapsed_ns < OFFSET_WINDOW_NS:
            return
        self._before_least = self._now_least if elapsed_ns < 2 * OFFSET_WINDOW_NS else None
        self._since_ns, self._now_least = now_ns, None
