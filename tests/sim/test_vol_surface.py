"""The base surface shows the calibrated smiles; no state of its factors opens an arbitrage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_daemon.sim.calibration import CHAIN, TENOR_NODES_DAYS
from mm_daemon.sim.option_math import chain_prices
from mm_daemon.sim.vol_surface import LEVEL_LOADING_VP, SmileTermStructure, chain_vols

NODES = np.array(TENOR_NODES_DAYS) / 365.0


def surface(name: str) -> SmileTermStructure:
    return SmileTermStructure(name, level_scale=LEVEL_LOADING_VP[name])


@pytest.mark.parametrize("name", sorted(CHAIN))
def test_smiles_at_the_nodes_show_level_risk_reversal_and_butterfly(name: str) -> None:
    atm, tilt, curl, turn = surface(name).smiles(NODES, 0.0, 0.0, 0.0)
    strike = np.array([math.exp(k) for k in np.linspace(-1.5, 1.5, 6001).tolist()])
    for i, tte in enumerate(NODES.tolist()):
        size = strike.size
        expiry = np.zeros(size, dtype=np.int64)
        one = np.array([1.0])
        vol = np.empty(size)
        at = slice(i, i + 1)
        chain_vols(expiry, strike, one, np.array([tte]), atm[at], tilt[at], curl[at], turn[at], vol)
        out = np.empty(size), np.empty(size), np.empty(size)
        ones = np.ones(size)
        chain_prices(ones, strike, ones * tte, vol, np.ones(size, dtype=np.bool_), *out)
        put25, call25 = np.interp([-0.75, -0.25], -out[1], vol)
        middle = float(np.interp(1.0, strike, vol))
        targets = CHAIN[name]
        assert 100.0 * middle == pytest.approx(targets.atm_vp[i], abs=0.02)
        assert 100.0 * (call25 - put25) == pytest.approx(targets.rr25_vp[i], abs=0.05)
        butterfly = 0.5 * (call25 + put25) - middle
        assert 100.0 * butterfly == pytest.approx(targets.bf25_vp[i], abs=0.05)


def butterfly_condition(
    x: np.ndarray, atm: float, tilt: float, curl: float, turn: float, tte: float
) -> np.ndarray:
    """Durrleman's g along the smile, in standardised log-moneyness."""
    sd = atm * math.sqrt(tte)
    root = (x * x + turn * turn) ** 0.5
    w = 1.0 + tilt * x + curl * (root - turn)
    slope = tilt + curl * x / root
    bend = curl * turn * turn / root**3
    total = sd * sd * w
    first = sd * slope
    return (1.0 - x * slope / (2.0 * w)) ** 2 - first**2 / 4.0 * (1.0 / total + 0.25) + bend / 2.0


@settings(max_examples=60)
@given(
    name=st.sampled_from(sorted(CHAIN)),
    level=st.floats(-3.0, 3.0),
    slope=st.floats(-3.0, 3.0),
    skew=st.floats(-0.6, 0.6),
    days=st.floats(0.02, 400.0),
)
def test_no_state_of_the_factors_opens_a_butterfly(
    name: str, level: float, slope: float, skew: float, days: float
) -> None:
    tte = np.array([days / 365.0])
    atm, tilt, curl, turn = surface(name).smiles(tte, level, slope, skew)
    x = np.linspace(-8.0, 8.0, 401)
    g = butterfly_condition(
        x, float(atm[0]), float(tilt[0]), float(curl[0]), float(turn[0]), float(tte[0])
    )
    assert g.min() >= -1e-9


@pytest.mark.parametrize("name", sorted(CHAIN))
def test_total_variance_rises_with_tenor_on_the_base_surface(name: str) -> None:
    tte = np.array([d / 365.0 for d in np.geomspace(0.1, 400.0, 60).tolist()])
    atm, tilt, curl, turn = surface(name).smiles(tte, 0.0, 0.0, 0.0)
    sd = atm * tte**0.5
    for k in np.linspace(-0.6, 0.6, 25).tolist():
        x = k / sd
        within = np.abs(x) <= 8.0
        w = sd**2 * (1.0 + tilt * x + curl * ((x * x + turn * turn) ** 0.5 - turn))
        assert (np.diff(w[within]) >= -1e-10).all()


def test_the_level_factor_moves_short_tenors_most() -> None:
    calm = surface("BTC").smiles(NODES, 0.0, 0.0, 0.0)[0]
    wild = surface("BTC").smiles(NODES, 1.0, 0.0, 0.0)[0]
    moves = (wild - calm).tolist()
    assert all(move > 0.0 for move in moves)
    assert moves[2] > 5 * moves[-1]
