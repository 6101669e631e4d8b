"""The venue's clock from replies."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mm_daemon.domain.units import NS_PER_S, Ns
from mm_daemon.venues.deribit.venue_clock import VenueClock

T0 = 1_770_000_000 * NS_PER_S


@given(
    st.integers(-5_000_000, 5_000_000),
    st.lists(
        st.tuples(st.integers(100, 50_000), st.integers(100, 50_000)), min_size=1, max_size=15
    ),
)
def test_the_error_is_at_most_half_the_best_round_trip(
    offset_us: int, legs_us: list[tuple[int, int]]
) -> None:
    clock = VenueClock()
    for rank, (out_us, back_us) in enumerate(legs_us):
        sent = T0 + rank * 2 * NS_PER_S
        us_in = sent // 1_000 + out_us + offset_us
        received = sent + (out_us + 300 + back_us) * 1_000
        clock.observe(sent_ns=Ns(sent), received_ns=Ns(received), us_in=us_in, us_out=us_in + 300)
    best_us = min(out + back for out, back in legs_us)
    assert clock.rtt_ns == best_us * 1_000
    assert abs(clock.offset_ns - offset_us * 1_000) <= best_us * 1_000 / 2 + 1_000


def test_impossible_stamps_teach_nothing() -> None:
    clock = VenueClock()
    for us_in, us_out in ((0, 0), (T0 // 1_000 + 9, T0 // 1_000 + 5), (1, 10**18)):
        clock.observe(sent_ns=Ns(T0), received_ns=Ns(T0 + 1_000), us_in=us_in, us_out=us_out)
    assert (clock.offset_ns, clock.rtt_ns) == (0, -1)


def test_a_burst_of_slow_replies_does_not_displace_a_fast_one() -> None:
    clock = VenueClock()

    def reply(at_ns: int, rtt_us: int) -> None:
        us_in = at_ns // 1_000 + rtt_us
        clock.observe(
            sent_ns=Ns(at_ns), received_ns=Ns(at_ns + rtt_us * 1_000), us_in=us_in, us_out=us_in
        )

    reply(T0, 100)
    for rank in range(1_000):
        reply(T0 + rank * 1_000_000, 5_000)
    assert clock.rtt_ns == 100_000


def test_deadlines_round_down() -> None:
    clock = VenueClock()
    assert clock.venue_ms(1_999_999) == 1
