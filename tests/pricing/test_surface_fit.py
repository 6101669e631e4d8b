"""The joint fit recovers, repairs, carries and holds out; real chains are in tests/research."""

import math

import msgspec
import numpy as np
import pytest

from mm_daemon.pricing import black76
from mm_daemon.pricing import surface_fit as fit
from mm_daemon.pricing.arbitrage import check_surface
from mm_daemon.pricing.surface import SliceSource, Surface
from mm_daemon.pricing.surface_quotes import ExpiryQuotes
from mm_daemon.pricing.svi import SviSlice, is_admissible, total_variance
from mm_daemon.pricing.variance_time import DAY_NS

VOGT = SviSlice(a=-0.0410, b=0.1331, rho=0.3060, m=0.3586, sigma=0.4153)
NOW = 20_485 * DAY_NS
DAYS = (0.5, 2.0, 9.0, 30.0, 90.0)


def true_slice(days: float) -> SviSlice:
    t = days / 365.0
    root = math.sqrt(t)
    return SviSlice(a=0.1 * t, b=0.12 * root, rho=-0.4, m=0.02 * root, sigma=0.3 * root)


def chain(
    days: float, svi: SviSlice, *, forward: float = 80_000.0, half: float = 0.005
) -> ExpiryQuotes:
    """41 strikes over three deviations, quoted `half` of vol around the slice."""
    t = days / 365.0
    k = np.linspace(-3.0, 3.0, 41) * math.sqrt(float(total_variance(np.zeros(1), svi)[0]))
    strike = forward * np.exp(k)
    is_call = strike >= forward
    vol = np.sqrt(total_variance(k, svi) / t)
    return ExpiryQuotes(
        NOW + int(days * DAY_NS),
        (forward,) * 41,
        tuple(strike.tolist()),
        tuple(is_call.tolist()),
        tuple(black76.price(forward, strike, t, vol - half, is_call).tolist()),
        tuple(black76.price(forward, strike, t, vol + half, is_call).tolist()),
    )


def request(**changes: object) -> fit.FitRequest:
    base = fit.FitRequest("BTC", NOW, tuple(chain(days, true_slice(days)) for days in DAYS))
    return msgspec.structs.replace(base, **changes)


def test_a_sound_surface_is_recovered() -> None:
    outcome = fit.fit_surface(request())
    assert outcome.arbitrage.violations == 0
    assert outcome.unfitted_ns == ()
    assert [item.quotes for item in outcome.surface.slices] == [41] * 5
    for item in outcome.surface.slices:
        # A faint prior and unequal widths cost a few hundredths of a vol point.
        assert item.rms_vol_points < 0.05
        assert item.inside_share == 1.0
        assert is_admissible(item.svi)


def test_a_previous_surface_changes_nothing_where_the_quotes_speak() -> None:
    cold = fit.fit_surface(request())
    warm = fit.fit_surface(request(previous=cold.surface))
    for a, b in zip(cold.surface.slices, warm.surface.slices, strict=True):
        assert a.atm_vol() == pytest.approx(b.atm_vol(), abs=2e-4)


def test_a_wrong_previous_surface_does_no_harm() -> None:
    """Fits do not inherit an optimum: from a mirrored, tripled past the result is as good."""
    cold = fit.fit_surface(request())
    wrong = msgspec.structs.replace(
        cold.surface,
        slices=tuple(
            msgspec.structs.replace(
                item,
                svi=msgspec.structs.replace(
                    item.svi, a=3.0 * item.svi.a, b=3.0 * item.svi.b, rho=-item.svi.rho
                ),
            )
            for item in cold.surface.slices
        ),
    )
    found = fit.fit_surface(request(previous=wrong))
    assert found.arbitrage.violations == 0
    for a, b in zip(cold.surface.slices, found.surface.slices, strict=True):
        assert b.rms_vol_points <= a.rms_vol_points + 0.01


def test_junk_quotes_do_not_count_in_the_figures_of_a_slice() -> None:
    sound = chain(30.0, true_slice(30.0))
    asks = list(sound.ask_usd)
    asks[15] *= 3.0
    junk = msgspec.structs.replace(sound, ask_usd=tuple(asks))
    found = fit.fit_surface(request(expiries=(junk,))).surface.slices[0]
    plain = fit.fit_surface(request(expiries=(sound,))).surface.slices[0]
    assert found.core_quotes == plain.core_quotes - 1
    assert found.rms_vol_points < 0.2


def test_the_request_and_its_outcome_survive_the_wire() -> None:
    cold = fit.fit_surface(request())
    asked = request(previous=cold.surface)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(asked), type=fit.FitRequest) == asked
    encoded = msgspec.msgpack.encode(cold)
    assert msgspec.msgpack.decode(encoded, type=fit.FitOutcome) == cold


def test_bytes_in_give_the_fit_as_bytes_and_junk_is_refused() -> None:
    served = fit.serve_fit(msgspec.msgpack.encode(request()))
    assert msgspec.msgpack.decode(served, type=fit.FitOutcome) == fit.fit_surface(request())
    with pytest.raises(msgspec.MsgspecError):
        fit.serve_fit(b"junk")


def test_the_same_request_gives_the_same_surface() -> None:
    assert fit.fit_surface(request()) == fit.fit_surface(request())


def test_crossing_quotes_are_fitted_without_calendar_arbitrage() -> None:
    """The 30-day quotes lie under the 9-day ones by a fifth of variance; the fit parts them."""
    crossed = msgspec.structs.replace(
        true_slice(9.0), a=true_slice(30.0).a * 1.2, b=true_slice(30.0).b * 1.1
    )
    chains = (chain(9.0, crossed), chain(30.0, true_slice(30.0)))
    alone = [fit.fit_surface(request(expiries=(item,))).surface.slices[0] for item in chains]
    params = np.array([item.svi.row() for item in alone])
    span = (
        np.array([item.quoted_low for item in alone]),
        np.array([item.quoted_high for item in alone]),
    )
    assert check_surface(params, *span).calendar_count == 1
    assert fit.fit_surface(request(expiries=chains)).arbitrage.violations == 0


def test_vogt_slice_is_repaired() -> None:
    repaired = fit.repair_slice(VOGT, -1.5, 1.5)
    report = check_surface(np.array([repaired.row()]), np.array([-1.5]), np.array([1.5]))
    assert report.violations == 0
    assert report.g_min[0] >= -1e-9
    k = np.linspace(-1.5, 1.5, 61)
    move = np.sqrt(total_variance(k, repaired)) - np.sqrt(total_variance(k, VOGT))
    # The published repair lifts the right wing by some vol points; ours may not do worse.
    assert 100.0 * np.sqrt((move**2).mean()) < 2.0


def test_a_sound_slice_is_left_as_it_is_by_repair() -> None:
    sound = true_slice(90.0)
    repaired = fit.repair_slice(sound, -0.8, 0.8)
    k = np.linspace(-0.8, 0.8, 33)
    gap = np.sqrt(total_variance(k, repaired)) - np.sqrt(total_variance(k, sound))
    assert np.abs(gap).max() < 1e-4


def test_a_quoted_butterfly_is_fitted_without_arbitrage() -> None:
    # One year of Vogt's slice, quoted where its density is negative.
    strike = 100.0 * np.exp(np.linspace(-1.5, 1.5, 61))
    vol = np.sqrt(total_variance(np.log(strike / 100.0), VOGT))
    is_call = strike >= 100.0
    quotes = ExpiryQuotes(
        NOW + 365 * DAY_NS,
        (100.0,) * 61,
        tuple(strike.tolist()),
        tuple(is_call.tolist()),
        tuple(black76.price(100.0, strike, 1.0, vol - 0.002, is_call).tolist()),
        tuple(black76.price(100.0, strike, 1.0, vol + 0.002, is_call).tolist()),
    )
    assert fit.fit_surface(request(expiries=(quotes,))).arbitrage.violations == 0


def thin(item: ExpiryQuotes, keep: int) -> ExpiryQuotes:
    return msgspec.structs.replace(
        item, bid_usd=item.bid_usd[:keep] + (0.0,) * (len(item.bid_usd) - keep)
    )


def test_too_few_quotes_carry_the_previous_slice_aged() -> None:
    before = fit.fit_surface(request()).surface
    later = NOW + DAY_NS
    expiries = list(request().expiries[2:])
    expiries[0] = thin(expiries[0], 4)
    outcome = fit.fit_surface(request(now_ns=later, expiries=tuple(expiries), previous=before))
    carried = outcome.surface.slices[0]
    assert carried.source is SliceSource.CARRIED
    assert carried.expiry_ns == expiries[0].expiry_ns
    assert outcome.surface.slices[1].source is SliceSource.FITTED
    assert [one.fitted_ns for one in outcome.surface.slices[:2]] == [NOW, later]
    # Eight of nine days are left: vol stays, variance shrinks.
    assert carried.atm_vol() == pytest.approx(before.slices[2].atm_vol(), abs=5e-4)
    assert carried.tte_years == pytest.approx(8.0 / 365.0)
    assert outcome.arbitrage.violations == 0


def test_a_carried_slice_is_checked_over_the_strikes_of_its_own_fit() -> None:
    """Its deviation has shrunk since, its quoted span has not: the gate will look there too."""
    before = fit.fit_surface(request()).surface
    first = before.slices[0]
    spread = msgspec.structs.replace(first, quoted_low=-0.5, quoted_high=0.5)
    before = msgspec.structs.replace(before, slices=(spread, *before.slices[1:]))
    outcome = fit.fit_surface(request(now_ns=NOW + int(0.4 * DAY_NS), previous=before))
    found = outcome.surface
    assert found.slices[0].source is SliceSource.CARRIED
    low = np.array([item.quoted_low for item in found.slices])
    high = np.array([item.quoted_high for item in found.slices])
    assert (low[0], high[0]) == (-0.5, 0.5)
    assert check_surface(found.parameters(), low, high) == outcome.arbitrage
    assert outcome.arbitrage.violations == 0


def test_an_expiry_under_six_hours_is_carried_even_when_quoted() -> None:
    before = fit.fit_surface(request()).surface
    later = NOW + int(0.3 * DAY_NS)
    outcome = fit.fit_surface(request(now_ns=later, previous=before))
    assert outcome.surface.slices[0].source is SliceSource.CARRIED
    assert outcome.surface.slices[0].tte_years == pytest.approx(0.2 / 365.0)


def test_without_a_previous_slice_a_thin_expiry_is_left_out() -> None:
    expiries = (thin(request().expiries[0], 4), *request().expiries[1:])
    outcome = fit.fit_surface(request(expiries=expiries))
    assert outcome.unfitted_ns == (expiries[0].expiry_ns,)
    assert len(outcome.surface.slices) == 4


def test_an_expired_slice_is_left_out() -> None:
    before = fit.fit_surface(request()).surface
    outcome = fit.fit_surface(request(now_ns=NOW + DAY_NS, previous=before))
    assert outcome.unfitted_ns == (request().expiries[0].expiry_ns,)


def test_nothing_to_fit_gives_an_empty_surface() -> None:
    outcome = fit.fit_surface(request(expiries=()))
    assert outcome.surface == Surface("BTC", NOW, ())
    assert outcome.arbitrage.violations == 0


def test_one_wild_quote_hardly_moves_the_slice() -> None:
    """A junk quote is wide, so it counts little: bid at its value, ask ten times that."""
    sound = chain(30.0, true_slice(30.0))
    asks = list(sound.ask_usd)
    asks[38] *= 10.0
    junk = msgspec.structs.replace(sound, ask_usd=tuple(asks))
    a, b = (fit.fit_surface(request(expiries=(item,))).surface.slices[0] for item in (sound, junk))
    assert a.atm_vol() == pytest.approx(b.atm_vol(), abs=1e-3)


def test_hold_out_errors_are_those_of_quotes_the_fit_did_not_see() -> None:
    """Exact quotes: interpolating them costs hundredths of a point, seeing them even less."""
    asked = request(expiries=request().expiries[2:])
    errors = fit.hold_out_errors(asked)
    quotes = fit.fitted_quotes(asked)
    assert [error.size for error in errors] == [item.k.size for _, item in quotes]
    for error in errors:
        assert np.isfinite(error).all()
        assert 100.0 * math.sqrt(float((error**2).mean())) < 0.1


def test_a_held_out_outlier_shows_its_whole_error() -> None:
    base = chain(30.0, true_slice(30.0))
    t = 30.0 / 365.0
    bids, asks = list(base.bid_usd), list(base.ask_usd)
    strike, is_call = base.strike[20], base.is_call[20]
    vol = math.sqrt(float(total_variance(np.log([strike / 80_000.0]), true_slice(30.0))[0]) / t)
    bids[20] = float(black76.price(80_000.0, strike, t, vol + 0.045, is_call))
    asks[20] = float(black76.price(80_000.0, strike, t, vol + 0.055, is_call))
    moved = msgspec.structs.replace(base, bid_usd=tuple(bids), ask_usd=tuple(asks))
    (error,) = fit.hold_out_errors(request(expiries=(moved,)))
    assert error[20] == pytest.approx(-0.05, abs=0.005)
