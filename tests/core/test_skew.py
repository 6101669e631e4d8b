"""The lean pushes every net greek down, follows the factors, and fails safe."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_daemon.core.catalog import Catalog
from mm_daemon.core.quote_terms import L_LEAN, L_OWN_SIZE
from mm_daemon.core.skew import REBUILD_INTERVAL_NS, Skew
from mm_daemon.core.skew_exchange import FactorsRequest, FactorsResult
from mm_daemon.core.skew_factors import build_factors, factor_covariance
from mm_daemon.core.theo import TheoBoard
from mm_daemon.domain.inputs import FactorsAnswer
from mm_daemon.domain.units import Ns
from tests.core.chain_world import FORWARD, NOW, board, catalog, costs, skew_params
from tests.core.dense_skew import dense_gamma, root_of

WORLD = catalog(days=(7.0, 30.0, 90.0), strikes=9)
IDS = WORLD.option_ids("BTC")
NEAR, MIDDLE, FAR = (expiry.ids for expiry in WORLD.expiries["BTC"])
INTENSITY = costs(WORLD).intensity
HALF = np.full(len(WORLD), 0.0005)
SIZE = np.full(len(WORLD), 10.0)


class Made:
    """A skew with factors in force, and the request they came from."""

    def __init__(self, world: Catalog = WORLD) -> None:
        self.skew = Skew(world)
        self.board: TheoBoard = board(world)
        self.request_bytes = self.ask(NOW, 1)
        result = build_factors(self.request_bytes)
        assert self.skew.on_answer(FactorsAnswer(1, "BTC", result, "", 1), NOW) == ""

    def ask(self, now_ns: Ns, ask_id: int) -> bytes:
        n = len(WORLD.expiries["BTC"])
        return self.skew.request(
            ask_id,
            "BTC",
            skew_params(),
            self.board,
            INTENSITY,
            HALF,
            SIZE,
            atm_vol=np.full(n, 0.55),
            spot_beta=np.full(n, -0.5),
            now_ns=now_ns,
        )

    def lean(self, positions: dict[int, int], collateral_coin: float = 0.0) -> np.ndarray:
        lots = np.zeros(len(WORLD), dtype=np.int64)
        for i, held in positions.items():
            lots[i] = held
        self.skew.measure(
            "BTC",
            skew_params(),
            self.board,
            INTENSITY,
            HALF,
            SIZE,
            now_ns=NOW,
        )
        self.skew.refresh("BTC", lots, self.board, collateral_coin=collateral_coin)
        leans: np.ndarray = self.skew.columns[L_LEAN].copy()
        return leans


BALANCED = Made()


def test_flat_book_leans_nowhere_but_charges_for_size() -> None:
    made = Made()
    assert not made.lean({})[IDS].any()
    assert (made.skew.columns[L_OWN_SIZE, IDS] > 0.0).all()


def test_long_vega_lowers_every_straddle() -> None:
    """A straddle has no delta to speak of, so its lean is that of its vega and gamma."""
    made = Made()
    straddle = {int(MIDDLE[8]): 100, int(MIDDLE[9]): 100}
    perpetual = -round(
        sum(float(made.board.delta_adjusted[i]) * 0.1 * lots for i, lots in straddle.items())
        * FORWARD
        / 10.0
    )
    leans = made.lean({**straddle, 0: perpetual})
    calls, puts = IDS[WORLD.is_call[IDS]], IDS[~WORLD.is_call[IDS]]
    assert (leans[calls] + leans[puts] > 0.0).all()
    # Its own expiry leans most: other expiries share its vol only in part.
    at_the_money = [int(ids[8]) for ids in (NEAR, MIDDLE, FAR)]
    usd = leans[at_the_money] / made.board.vega[at_the_money]
    assert usd[1] == max(usd)


def test_lean_is_odd_and_linear_in_the_position() -> None:
    made = Made()
    once = made.lean({int(NEAR[4]): 10, int(FAR[3]): -7})
    assert made.lean({int(NEAR[4]): -10, int(FAR[3]): 7}) == pytest.approx(-once, rel=1e-12)
    assert made.lean({int(NEAR[4]): 30, int(FAR[3]): -21}) == pytest.approx(3 * once, rel=1e-12)


def test_trading_along_the_lean_reduces_the_risk_it_prices() -> None:
    """Net exposures enter with a positive semi-definite matrix: q' Gamma q falls."""
    made = Made()
    leans = made.lean({int(NEAR[8]): 50, int(FAR[2]): -80, 0: 3_000})
    sold = int(IDS[np.argmax(leans[IDS])])
    after = made.lean({int(NEAR[8]): 50, int(FAR[2]): -80, 0: 3_000, sold: -5})
    assert after[sold] < leans[sold]


def test_long_delta_left_unhedged_lowers_calls_and_raises_puts() -> None:
    made = Made()
    leans = made.lean({0: 200_000})
    calls = IDS[WORLD.is_call[IDS]]
    puts = IDS[~WORLD.is_call[IDS]]
    assert (leans[calls] > 0.0).all()
    assert (leans[puts] < 0.0).all()


def test_hedging_the_delta_takes_its_lean_away() -> None:
    made = Made()
    call = int(MIDDLE[8])
    open_delta = float(made.board.delta_adjusted[call]) * 10.0
    hedge = -round(open_delta * FORWARD / 10.0)
    naked, hedged = made.lean({call: 100}), made.lean({call: 100, 0: hedge})
    assert abs(made.skew.net_exposures("BTC")["return"]) < 20.0
    put = int(MIDDLE[9])
    assert hedged[put] > naked[put]


def test_hedged_collateral_leans_nothing_and_open_collateral_as_a_perpetual_would() -> None:
    """200 coins of equity against 200 coins of perpetuals sold: no delta, and none leant on."""
    made = Made()
    perpetual = round(200.0 * FORWARD / 10.0)
    assert np.abs(made.lean({0: -perpetual}, 200.0)[IDS]).max() < 1e-15
    assert made.skew.net_exposures("BTC")["return"] == pytest.approx(0.0, abs=1e-6)
    alone = made.lean({}, 200.0)
    assert np.abs(alone[IDS]).max() > 1e-6
    assert made.lean({0: perpetual}) == pytest.approx(alone, rel=1e-9)


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(st.sampled_from(IDS.tolist()), st.integers(-500, 500), max_size=6),
    st.integers(-2_000_000, 2_000_000),
)
def test_where_the_hedger_sees_no_delta_the_lean_sees_no_return(
    options: dict[int, int], perpetual_lots: int
) -> None:
    """Equity and premium-adjusted deltas add up to nothing, whatever options are held."""
    held = {**options, 0: perpetual_lots}
    adjusted = BALANCED.board.delta_adjusted
    delta_coin = sum(lots * float(WORLD.lot[i] * adjusted[i]) for i, lots in held.items())
    BALANCED.lean(held, -delta_coin)
    scale_usd = FORWARD * sum(abs(lots) * float(WORLD.lot[i]) for i, lots in held.items())
    found = BALANCED.skew.net_exposures("BTC")["return"]
    assert found == pytest.approx(0.0, abs=1e-9 * max(scale_usd, 1.0))


def test_unknown_equity_that_is_hedged_makes_every_lean_unknown() -> None:
    assert np.isnan(Made().lean({0: 1_000}, math.nan)[IDS]).all()


def test_equals_the_dense_closed_form_plus_the_own_scalar() -> None:
    """Gamma from B D Omega densely, against the sparse kernels, to 1e-9."""
    made = Made()
    asked = msgspec.msgpack.decode(made.request_bytes, type=FactorsRequest)
    omega = factor_covariance(asked)
    n = len(WORLD.expiries["BTC"])
    theo = made.board
    exposures = np.zeros((IDS.size, n + 5))
    for row, i in enumerate(IDS):
        e = [x.expiry_ns for x in WORLD.expiries["BTC"]].index(int(WORLD.expiry_ns[i]))
        call_delta = theo.delta[i] if WORLD.is_call[i] else 1.0 + theo.delta[i]
        side = 4.0 * (0.5 - call_delta)
        usd = theo.delta_adjusted[i] * FORWARD
        exposures[row, e] = theo.vega[i]
        exposures[row, n:] = (
            0.5 * side * theo.vega[i],
            side * side * theo.vega[i],
            usd * asked.tte_years[e] / 0.25,
            0.5 * theo.gamma[i] * FORWARD**2,
            usd,
        )
    weight = np.full(IDS.size, 10 * 0.1 * np.exp(4.0) * 1.5 / (0.0005 * FORWARD) / np.e)
    gamma = dense_gamma(exposures @ root_of(omega), weight, 1e-6)
    lots = np.zeros(len(WORLD), dtype=np.int64)
    lots[IDS] = np.random.default_rng(3).integers(-50, 50, IDS.size)
    leans = made.lean({int(i): int(lots[i]) for i in IDS})
    days = (WORLD.expiry_ns[IDS] - NOW) / 86_400e9
    spread = 0.25 * 0.03 * (30.0 / days) ** 0.5 * theo.vega[IDS]
    scalar = np.sqrt(0.5e-6 * spread**2 / weight)
    expected = (gamma @ (lots[IDS] * 0.1) + scalar * lots[IDS] * 0.1) / FORWARD
    assert np.abs(leans[IDS] - expected).max() <= 1e-9 * np.abs(expected).max()
    own = 0.5 * 1.0 * (np.diag(gamma) + scalar) / FORWARD
    assert made.skew.columns[L_OWN_SIZE, IDS] == pytest.approx(own, rel=1e-9)


def test_option_without_greeks_contributes_nothing_and_has_no_finite_lean() -> None:
    made = Made()
    lost = int(NEAR[0])
    made.board.columns[:, lost] = np.nan
    leans = made.lean({lost: 50})
    others = IDS[lost != IDS]
    assert np.isnan(leans[lost])
    assert not leans[others].any()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda r: msgspec.structs.replace(r, factors_version=r.factors_version + 1),
        lambda r: msgspec.structs.replace(r, inner=r.inner[:-1]),
        lambda r: msgspec.structs.replace(r, inner=[float("nan")] * len(r.inner)),
    ],
)
def test_answer_that_does_not_fit_is_refused_and_the_old_factors_stay(spoil) -> None:  # type: ignore[no-untyped-def]
    made = Made()
    before = made.lean({int(NEAR[4]): 10})
    later = Ns(NOW + REBUILD_INTERVAL_NS)
    result = msgspec.msgpack.decode(build_factors(made.ask(later, 2)), type=FactorsResult)
    spoiled = msgspec.msgpack.encode(spoil(result))
    assert made.skew.on_answer(FactorsAnswer(2, "BTC", spoiled, "", 1), later) != ""
    assert made.skew.refused == 1
    assert np.array_equal(made.lean({int(NEAR[4]): 10}), before)


def test_errors_and_strangers_are_refused() -> None:
    made = Made()
    result = build_factors(made.ask(NOW, 5))
    assert made.skew.on_answer(FactorsAnswer(4, "BTC", result, "", 1), NOW) != ""
    assert made.skew.on_answer(FactorsAnswer(5, "BTC", b"", "compute died", 1), NOW) != ""
    assert made.skew.on_answer(FactorsAnswer(6, "XRP", result, "", 1), NOW) != ""


def test_asks_again_when_factors_have_aged_and_not_while_an_ask_is_open() -> None:
    skew = Skew(WORLD)
    assert skew.is_due("BTC", NOW)
    assert not skew.is_ready("BTC")
    made = Made()
    assert made.skew.is_ready("BTC")
    assert not made.skew.is_due("BTC", NOW)
    later = Ns(NOW + REBUILD_INTERVAL_NS)
    assert made.skew.is_due("BTC", later)
    made.ask(later, 2)
    assert not made.skew.is_due("BTC", Ns(later + 1))


def test_new_expiry_keeps_the_lean_of_old_ones_and_has_none_itself() -> None:
    made = Made()
    before = made.lean({int(NEAR[4]): 10})
    larger = catalog(days=(7.0, 30.0, 90.0, 180.0), strikes=9)
    made.skew.resize(larger)
    made.board = board(larger)
    lots = np.zeros(len(larger), dtype=np.int64)
    lots[NEAR[4]] = 10
    wide = costs(larger).intensity
    n = len(larger)
    made.skew.measure(
        "BTC",
        skew_params(),
        made.board,
        wide,
        np.full(n, 0.0005),
        np.full(n, 10.0),
        now_ns=NOW,
    )
    made.skew.refresh("BTC", lots, made.board, collateral_coin=0.0)
    assert made.skew.columns[L_LEAN, IDS] == pytest.approx(before[IDS], rel=1e-9)


def test_equal_histories_have_equal_digests() -> None:
    assert Made().skew.digest() == Made().skew.digest()
