"""The venue's clock seen from ours: an offset measured from replies, the least delayed sample wins.

A reply carries when the venue received the request and when it answered. The shorter the round
trip without the venue's own time, the less the two ways can differ, so the offset of the fastest
recent reply is the best. Never a source of decisions on its own: it converts, nothing else.
"""

from __future__ import annotations

from mm_daemon.domain.units import NS_PER_MS, NS_PER_S, Ns

_SAMPLES_MAX = 16
_SPACING_NS = NS_PER_S
"""Samples closer than this share a slot, so that a burst of replies cannot age out a better one."""
_NS_PER_US = 1_000
_US_MAX = 1 << 53


class VenueClock:
    """Offset of the venue's clock from the daemon's, in nanoseconds."""

    def __init__(self) -> None:
        self.offset_ns = 0
        self.rtt_ns = -1
        """Round trip of the sample in use; −1 before the first."""
        self._samples: list[tuple[int, int, int]] = []

    def observe(self, *, sent_ns: Ns, received_ns: Ns, us_in: int, us_out: int) -> None:
        """Learns from one reply; a reply with impossible stamps teaches nothing."""
        in_ns, out_ns = us_in * _NS_PER_US, us_out * _NS_PER_US
        rtt_ns = (received_ns - sent_ns) - (out_ns - in_ns)
        if not 0 < us_in <= us_out <= _US_MAX or rtt_ns < 0:
            return
        offset_ns = ((in_ns - sent_ns) + (out_ns - received_ns)) // 2
        samples = self._samples
        if samples and received_ns - samples[-1][0] < _SPACING_NS:
            if rtt_ns >= samples[-1][1]:
                return
            samples[-1] = (samples[-1][0], rtt_ns, offset_ns)
        else:
            samples.append((received_ns, rtt_ns, offset_ns))
            del samples[:-_SAMPLES_MAX]
        _, self.rtt_ns, self.offset_ns = min(samples, key=lambda sample: sample[1])

    def venue_ns(self, now_ns: int) -> Ns:
        """The venue's time at our `now_ns`."""
        return Ns(now_ns + self.offset_ns)

    def venue_ms(self, now_ns: int) -> int:
        """The venue's time in its own unit, rounded down: a deadline never grows by conversion."""
        return (now_ns + self.offset_ns) // NS_PER_MS

    def state(self) -> tuple[object, ...]:
        """Everything remembered, for the digest."""
        return (self.offset_ns, self.rtt_ns, self._samples)
