"""The sweep believes two empty reads and nothing else, over a real HTTP connection."""

import random
import threading

import pytest

from mm_daemon.guard.sweep_client import SweepClient, SweepConfig, SweepReport
from mm_daemon.venues.deribit import sweep as deribit
from tests.guard.rest_venue import SECRET, RestVenue

ORDERS = {"1": "BTC", "2": "ETH", "quote-3": "BTC", "USDC-4": "USDC"}


def config(venue: RestVenue, secret: str = SECRET, gap_s: float = 0.05) -> SweepConfig:
    return SweepConfig(
        rest_url=venue.url,
        client_id="demo-guard",
        client_secret=secret,
        currencies=("BTC", "ETH"),
        timeout_s=0.25,
        empty_gap_s=gap_s,
        retry_s_min=0.001,
        retry_s_max=0.005,
    )


def sweep(venue: RestVenue, deadline_s: float = 5.0, **options: object) -> SweepReport:
    client = SweepClient(
        config(venue, **options),  # type: ignore[arg-type]
        deribit,
        random.Random(1),
        threading.Event().wait,
    )
    try:
        return client.sweep(deadline_s)
    finally:
        client.close()


def test_everything_open_is_cancelled_and_read_empty_twice(venue: RestVenue) -> None:
    venue.orders.update(ORDERS)
    report = sweep(venue)
    assert report.is_confirmed
    assert (report.cancelled, report.open_count, report.rounds) == (4, 0, 2)
    assert venue.orders == {}
    reads = [at for at, what in venue.happened if what == "read 0"]
    assert len(reads) == 2
    assert reads[1] - reads[0] >= 0.05


def test_empty_venue_still_takes_two_reads(venue: RestVenue) -> None:
    report = sweep(venue)
    assert report.is_confirmed
    assert [what for _, what in venue.happened] == ["read 0", "read 0"]


def test_order_that_appears_between_the_reads_starts_the_count_again(venue: RestVenue) -> None:
    venue.faults.late_order = 1
    report = sweep(venue)
    assert report.is_confirmed
    assert report.rounds == 3
    assert venue.orders == {}


@pytest.mark.parametrize(
    "fault", ["busy_cancels", "garbled_reads", "dropped", "refuse_auth", "no_rfq"]
)
def test_faults_that_pass_are_outlasted(venue: RestVenue, fault: str) -> None:
    venue.orders.update(ORDERS)
    setattr(venue.faults, fault, 3)
    report = sweep(venue)
    assert report.is_confirmed
    assert venue.orders == {}


def test_garbled_reads_never_confirm(venue: RestVenue) -> None:
    venue.faults.garbled_reads = 10**9
    report = sweep(venue, deadline_s=0.2)
    assert not report.is_confirmed
    assert report.open_count is None
    assert "not JSON" in report.detail


def test_venue_that_does_not_cancel_is_reported_with_what_is_open(venue: RestVenue) -> None:
    venue.orders.update(ORDERS)
    venue.faults.is_cancel_deaf = True
    report = sweep(venue, deadline_s=0.2)
    assert not report.is_confirmed
    assert report.open_count == 4
    assert "4 open after cancel" in report.detail


def test_failed_cancels_never_confirm_even_an_empty_venue(venue: RestVenue) -> None:
    venue.faults.busy_cancels = 10**9
    report = sweep(venue, deadline_s=0.2)
    assert not report.is_confirmed
    assert report.open_count == 0
    assert "10028" in report.detail


def test_stuck_account_queue_does_not_hold_up_the_currencies(venue: RestVenue) -> None:
    venue.orders.update({"1": "BTC", "2": "ETH"})
    venue.faults.stuck_wide_s = 1.0
    report = sweep(venue, deadline_s=0.3)
    assert not report.is_confirmed
    assert venue.orders == {}


def test_dead_venue_ends_at_the_deadline_with_its_reason(venue: RestVenue) -> None:
    venue.faults.is_dead = True
    report = sweep(venue, deadline_s=0.2)
    assert not report.is_confirmed
    assert report.seconds < 2.0
    assert "public/auth" in report.detail


def test_wrong_key_is_named_without_the_secret(venue: RestVenue) -> None:
    report = sweep(venue, deadline_s=0.1, secret="wrong-secret")
    assert not report.is_confirmed
    assert "13004" in report.detail
    assert "wrong-secret" not in repr(report)
    assert SECRET not in repr(config(venue))


def test_token_that_has_run_out_is_replaced(venue: RestVenue) -> None:
    client = SweepClient(config(venue), deribit, random.Random(1), threading.Event().wait)
    assert client.sweep(5.0).is_confirmed
    with venue.lock:
        venue.tokens = {"other", "and another"}
        venue.orders.update(ORDERS)
    assert client.sweep(5.0).is_confirmed
    assert venue.orders == {}
    client.close()


def test_call_off_ends_a_sweep_in_its_pause(venue: RestVenue) -> None:
    client = SweepClient(config(venue, gap_s=60.0), deribit, random.Random(1), lambda _: True)
    assert not client.sweep(120.0).is_confirmed
    client.close()


def test_read_once_tells_the_count_or_that_it_is_unknown(venue: RestVenue) -> None:
    client = SweepClient(config(venue), deribit, random.Random(1), threading.Event().wait)
    assert client.read_once() == 0
    venue.orders.update(ORDERS)
    assert client.read_once() == 4
    venue.faults.garbled_reads = 1
    assert client.read_once() is None
    client.close()


def test_sweep_that_is_given_up_sends_no_further_cancel(venue: RestVenue) -> None:
    """It is given up in the middle of a round, as its first call is under way."""
    venue.orders.update(ORDERS)
    given_up = threading.Event()
    client = SweepClient(config(venue), deribit, random.Random(1), given_up.wait)
    venue.faults.stuck_wide_s = 0.2
    sweeping = threading.Thread(target=client.sweep, args=(5.0,))
    sweeping.start()
    while not any(b'"private/cancel_all"' in body for body in venue.bodies):
        threading.Event().wait(0.001)
    given_up.set()
    sweeping.join()
    client.close()
    lane = [b"cancel_all_block_rfq_quotes" in body for body in venue.bodies]
    assert not any(lane), "the rest of the wide lane"
