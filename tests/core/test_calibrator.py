"""When a fit is asked for, what it is asked about, and which answers are believed."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from mm_daemon.core.calibrator import (
    ASK_TIMEOUT_NS,
    FIT_AGE_NS_MAX,
    Calibrator,
    FitReply,
    theo_outside,
)
from mm_daemon.core.knobs import Knobs
from mm_daemon.core.market import Market
from mm_daemon.core.theo import PRICE, TheoBoard
from mm_daemon.domain.inputs import FitAnswer, TraderKnob
from mm_daemon.domain.params import SurfaceParams
from mm_daemon.domain.units import NS_PER_DAY, NS_PER_S, Ns
from mm_daemon.pricing.surface import Surface
from mm_daemon.pricing.surface_fit import FitRequest, fit_surface
from mm_daemon.pricing.surface_gate import SurfaceReason, SurfaceVerdict
from tests.core.chain_world import (
    FORWARD,
    NOW,
    board,
    catalog,
    live,
    quoted_market,
    surface,
)

WORLD = catalog(days=(7.0, 30.0, 90.0), strikes=21, step=2_500.0)
IDS = WORLD.option_ids("BTC")
PARAMS = SurfaceParams(
    refit_forward_bps=20.0,
    refit_interval_s=60.0,
    refit_interval_min_s=2.0,
    rms_vp_max=0.75,
    ssr_initial=1.2,
    ssr_min=0.5,
    ssr_max=3.0,
)
AGE_S_MAX = 120.0
STILL = np.full(3, FORWARD)
LATER = Ns(NOW + 3 * NS_PER_S)


def asked(calibrator: Calibrator, now_ns: Ns = NOW, ask_id: int = 1) -> bytes:
    market = quoted_market(WORLD, board(WORLD))
    return calibrator.request(ask_id, "BTC", WORLD, market.touch, live(WORLD), STILL, now_ns)


def answer(fitted: Surface, ask_id: int = 1, error: str = "") -> FitAnswer:
    return FitAnswer(ask_id, "BTC", msgspec.msgpack.encode(FitReply(fitted)), error, 1)


def with_surface(vol: float = 0.55) -> Calibrator:
    calibrator = Calibrator(WORLD, PARAMS, age_s_max=AGE_S_MAX)
    asked(calibrator)
    assert calibrator.on_answer(answer(surface(WORLD, vol)), NOW).accepted
    return calibrator


def slices_with(**changes: object) -> Surface:
    fitted = surface(WORLD)
    first = msgspec.structs.replace(fitted.slices[0], **changes)
    return msgspec.structs.replace(fitted, slices=(first, *fitted.slices[1:]))


def test_request_is_what_the_fit_reads_and_its_answer_is_accepted() -> None:
    """The whole way: market to request, a real joint fit, its answer through the gate, theo."""
    calibrator = Calibrator(WORLD, PARAMS, age_s_max=AGE_S_MAX)
    request = msgspec.msgpack.decode(asked(calibrator), type=FitRequest)
    assert [len(expiry.strike) for expiry in request.expiries] == [42, 42, 42]
    outcome = fit_surface(request)
    reply = FitAnswer(1, "BTC", msgspec.msgpack.encode(outcome), "", 1)
    verdict = calibrator.on_answer(reply, LATER)
    assert verdict.accepted, verdict
    current = calibrator.current("BTC")
    assert current is not None
    theo = TheoBoard(WORLD)
    theo.refresh("BTC", STILL, current, NOW)
    truth = board(WORLD)
    core = np.abs(np.abs(truth.delta[IDS]) - 0.5) < 0.4
    assert np.abs(theo.vol[IDS][core] - truth.vol[IDS][core]).max() < 0.01


def test_our_own_quotes_are_not_fitted_to() -> None:
    theo = board(WORLD)
    market = quoted_market(WORLD, theo)
    i = int(IDS[20])
    rests = live(WORLD)
    rests.bid_ticks[i] = market.bid_ticks[i]
    rests.bid_lots[i] = 50
    calibrator = Calibrator(WORLD, PARAMS, age_s_max=AGE_S_MAX)
    plain = msgspec.msgpack.decode(asked(calibrator), type=FitRequest).expiries[0]
    less = msgspec.msgpack.decode(
        calibrator.request(2, "BTC", WORLD, market.touch, rests, STILL, NOW), type=FitRequest
    ).expiries[0]
    assert np.flatnonzero(np.array(plain.bid_usd) != np.array(less.bid_usd)).tolist() == [20]
    second = float(market.second_bid_ticks[i]) * 0.0001 * FORWARD
    assert less.bid_usd[20] == pytest.approx(second, rel=1e-12)


def test_expiry_without_forward_is_left_out() -> None:
    calibrator = Calibrator(WORLD, PARAMS, age_s_max=AGE_S_MAX)
    market = quoted_market(WORLD, board(WORLD))
    forwards = np.array([math.nan, FORWARD, FORWARD])
    request = calibrator.request(1, "BTC", WORLD, market.touch, live(WORLD), forwards, NOW)
    found = msgspec.msgpack.decode(request, type=FitRequest).expiries
    assert [x.expiry_ns for x in found] == [x.expiry_ns for x in WORLD.expiries["BTC"][1:]]


@pytest.mark.parametrize(
    ("candidate", "now_ns", "reason"),
    [
        (Surface("BTC", NOW, ()), NOW, SurfaceReason.EMPTY),
        (surface(WORLD), Ns(NOW + FIT_AGE_NS_MAX + 1), SurfaceReason.TOO_OLD),
        (slices_with(rms_vol_points=9.0), NOW, SurfaceReason.TOO_ROUGH),
        (slices_with(forward=math.nan), NOW, SurfaceReason.NOT_FINITE),
        (
            slices_with(svi=msgspec.structs.replace(surface(WORLD).slices[0].svi, a=0.5)),
            NOW,
            SurfaceReason.ARBITRAGE,
        ),
        (surface(WORLD, 0.75), NOW, SurfaceReason.LEAP),
    ],
)
def test_surface_that_fails_the_gate_changes_nothing(
    candidate: Surface, now_ns: Ns, reason: SurfaceReason
) -> None:
    calibrator = with_surface()
    before = calibrator.current("BTC")
    asked(calibrator, ask_id=2)
    assert calibrator.on_answer(answer(candidate, 2), now_ns).reason is reason
    assert calibrator.current("BTC") is before
    assert calibrator.refused("BTC") == {reason.value: 1}


def test_market_that_disagrees_refuses_the_fit() -> None:
    off = tuple(msgspec.structs.replace(item, inside_share=0.3) for item in surface(WORLD).slices)
    calibrator = with_surface()
    asked(calibrator, ask_id=2)
    candidate = msgspec.structs.replace(surface(WORLD), slices=off)
    assert calibrator.on_answer(answer(candidate, 2), NOW).reason is SurfaceReason.OFF_MARKET


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (answer(surface(WORLD), 2, error="solver failed"), "error"),
        (FitAnswer(2, "BTC", b"\x00garbage", "", 1), "unreadable"),
        (answer(msgspec.structs.replace(surface(WORLD), underlying="ETH"), 2), "mismatch"),
        (answer(surface(WORLD, fitted_ns=NOW + 1), 2), "mismatch"),
    ],
)
def test_answer_that_is_no_surface_of_ours_is_refused_and_counted(
    reply: FitAnswer, reason: str
) -> None:
    calibrator = with_surface()
    asked(calibrator, ask_id=2)
    assert not calibrator.on_answer(reply, NOW).accepted
    assert calibrator.refused("BTC") == {reason: 1}


def test_late_answer_to_an_older_ask_is_not_taken() -> None:
    calibrator = with_surface()
    before = calibrator.current("BTC")
    asked(calibrator, ask_id=2)
    asked(calibrator, ask_id=3)
    assert not calibrator.on_answer(answer(surface(WORLD, 0.56), 2), NOW).accepted
    assert calibrator.current("BTC") is before


def test_asks_first_at_once_then_by_move_time_and_consensus_but_never_too_fast() -> None:
    calibrator = Calibrator(WORLD, PARAMS, age_s_max=AGE_S_MAX)
    assert calibrator.is_due("BTC", STILL, math.nan, NOW)
    assert not calibrator.is_due("BTC", np.full(3, math.nan), math.nan, NOW)
    calibrator = with_surface()
    moved = STILL * 1.0021
    assert not calibrator.is_due("BTC", moved, 0.0, Ns(NOW + NS_PER_S))
    assert calibrator.is_due("BTC", moved, 0.0, LATER)
    assert not calibrator.is_due("BTC", STILL * 1.0019, 0.0, LATER)
    assert not calibrator.is_due("BTC", STILL, 0.10, LATER)
    assert calibrator.is_due("BTC", STILL, 0.11, LATER)
    assert calibrator.is_due("BTC", STILL, math.nan, Ns(NOW + 60 * NS_PER_S))


def test_one_ask_at_a_time_until_it_times_out() -> None:
    calibrator = with_surface()
    asked(calibrator, LATER, ask_id=2)
    assert not calibrator.is_due("BTC", STILL * 1.1, 1.0, Ns(LATER + ASK_TIMEOUT_NS - 1))
    assert calibrator.is_due("BTC", STILL * 1.1, 1.0, Ns(LATER + ASK_TIMEOUT_NS))


def test_frozen_fit_is_neither_asked_for_nor_taken() -> None:
    calibrator, knobs = with_surface(), Knobs()
    asked(calibrator, ask_id=2)
    knobs.set(TraderKnob("freeze_fit", "BTC", 0, "", 1.0, "trader"), WORLD)
    calibrator.apply_knobs(knobs)
    assert not calibrator.on_answer(answer(surface(WORLD, 0.56), 2), NOW).accepted
    assert calibrator.refused("BTC") == {"frozen": 1}
    assert not calibrator.is_due("BTC", STILL * 1.1, 1.0, Ns(NOW + 600 * NS_PER_S))
    knobs.set(TraderKnob("freeze_fit", "BTC", 0, "", 0.0, "trader"), WORLD)
    calibrator.apply_knobs(knobs)
    assert calibrator.is_due("BTC", STILL * 1.1, 1.0, Ns(NOW + 600 * NS_PER_S))


def test_offsets_are_per_expiry_in_vol_points_and_raise_the_version() -> None:
    calibrator, knobs = with_surface(), Knobs()
    before = calibrator.current("BTC")
    expiry_ns = WORLD.expiries["BTC"][1].expiry_ns
    knobs.set(TraderKnob("vol_offset_vp", "BTC", expiry_ns, "", 1.5, "trader"), WORLD)
    knobs.set(TraderKnob("skew_offset_vp", "BTC", 0, "", -0.5, "trader"), WORLD)
    calibrator.apply_knobs(knobs)
    current = calibrator.current("BTC")
    assert current is not None
    assert before is not None
    assert current.bumps.vol.tolist() == [0.0, 0.015, 0.0]
    assert current.bumps.skew.tolist() == [-0.005] * 3
    assert current.version > before.version


def test_stickiness_is_learned_from_accepted_fits_and_stays_in_its_bounds() -> None:
    """The forward falls by 1 % a fit and vols rise by a point: more than fixed strikes say."""
    calibrator = with_surface()
    now, forward, vol = NOW, FORWARD, 0.55
    for step in range(2, 30):
        now = Ns(now + 3 * NS_PER_S)
        forward *= 0.99
        vol += 0.01
        fitted = surface(WORLD, vol, fitted_ns=now)
        moved = tuple(msgspec.structs.replace(x, forward=forward) for x in fitted.slices)
        asked(calibrator, now, ask_id=step)
        candidate = msgspec.structs.replace(fitted, slices=moved)
        assert calibrator.on_answer(answer(candidate, step), now).accepted
    current = calibrator.current("BTC")
    assert current is not None
    assert (current.ssr > PARAMS.ssr_initial).all()
    assert (current.ssr <= PARAMS.ssr_max).all()


def test_checkpoint_restores_surface_and_stickiness() -> None:
    calibrator = with_surface()
    fresh = Calibrator(WORLD, PARAMS, age_s_max=AGE_S_MAX)
    assert fresh.current("BTC") is None
    fresh.restore(calibrator.checkpoint())
    assert fresh.checkpoint() == calibrator.checkpoint()
    current = fresh.current("BTC")
    assert current is not None
    assert current.surface == surface(WORLD)
    assert fresh.surface_age_ns("BTC", LATER) == LATER - NOW
    with pytest.raises(msgspec.MsgspecError):
        fresh.restore(b"\x00\x01")


def leaping(calibrator: Calibrator, now_ns: Ns, vol: float = 0.75) -> SurfaceVerdict:
    """The verdict on a fit twenty points above the one in force, its forward where it was."""
    asked(calibrator, now_ns)
    return calibrator.on_answer(answer(surface(WORLD, vol, now_ns)), now_ns)


def test_a_leap_is_refused_until_the_surface_before_it_is_old() -> None:
    calibrator = with_surface()
    age_ns = round(AGE_S_MAX * NS_PER_S)
    for since_ns in range(3 * NS_PER_S, age_ns + 1, 30 * NS_PER_S):
        assert leaping(calibrator, Ns(NOW + since_ns)).reason is SurfaceReason.LEAP
    assert leaping(calibrator, Ns(NOW + age_ns)).reason is SurfaceReason.LEAP
    assert leaping(calibrator, Ns(NOW + age_ns + 1)).accepted
    assert leaping(calibrator, Ns(NOW + age_ns + NS_PER_S), 0.55).reason is SurfaceReason.LEAP


def test_a_surface_kept_over_a_weekend_does_not_refuse_the_market_that_it_missed() -> None:
    """Kept with the time of its fits, and as it was kept before slices told theirs."""
    kept = with_surface().checkpoint()
    (underlying,) = old = msgspec.msgpack.decode(kept)
    for item in underlying["surface"]["slices"]:
        del item["fitted_ns"]
    for checkpoint in (kept, msgspec.msgpack.encode(old)):
        fresh = Calibrator(WORLD, PARAMS, age_s_max=AGE_S_MAX)
        fresh.restore(checkpoint)
        assert leaping(fresh, Ns(NOW + 2 * NS_PER_DAY)).accepted


def test_new_listing_is_unfitted_until_a_fit_has_its_slice() -> None:
    calibrator = with_surface()
    assert calibrator.unfitted_ns("BTC") == ()
    larger = catalog(days=(7.0, 30.0, 60.0, 90.0), strikes=21, step=2_500.0)
    calibrator.resize(larger)
    assert calibrator.unfitted_ns("BTC") == (larger.expiries["BTC"][2].expiry_ns,)
    current = calibrator.current("BTC")
    assert current is not None
    assert current.ssr.size == 4


def test_share_of_theos_outside_the_market() -> None:
    theo = board(WORLD)
    market = quoted_market(WORLD, theo)
    rests = live(WORLD)
    assert theo_outside(IDS, WORLD, market.touch, rests, theo) == 0.0
    assert math.isnan(theo_outside(IDS, WORLD, Market(WORLD).touch, rests, theo))
    core = IDS[np.abs(np.abs(theo.delta[IDS]) - 0.5) <= 0.45]
    theo.columns[PRICE, core[: core.size // 4]] += 0.01
    share = theo_outside(IDS, WORLD, market.touch, rests, theo)
    assert share == pytest.approx((core.size // 4) / core.size, abs=0.05)


def test_equal_histories_have_equal_digests() -> None:
    assert with_surface().digest() == with_surface().digest()
    other = with_surface()
    asked(other, LATER, ask_id=2)
    assert other.digest() != with_surface().digest()
