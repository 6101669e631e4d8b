"""What moves the simulated market: spot, volatility, skew, basis and funding of correlated
underlyings on a fixed grid.

Return and volatility share one activity state, so calm and wild hours alternate; volatility moves
grow faster than proportionally with activity, which gives the recorded fat tails and a leverage
that is mild in quiet markets and strong in a crash. Everything is driven by named random streams
and computed by one kernel, at any step: 50 ms for the live world, hours for statistics over years.
The path is the truth: nothing that trades may change it, and only who is entitled may look ahead.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
from numba import njit

from mm_daemon.sim.option_math import FloatArray
from mm_daemon.sim.streams import stream

DAY_S: Final = 86_400.0
DAYS_PER_YEAR: Final = 365.0

LOG_SPOT, ACTIVITY, LEVEL, SLOPE, SKEW, BASIS, PREMIUM = range(7)
"""Columns of a path: log spot, log activity, the three surface factors, basis shift per year,
perpetual premium.
"""
STATE_SIZE: Final = 7

DRAWS: Final = 7
"""Normal draws a step and underlying, one a column of the state."""


class FactorParams(msgspec.Struct, frozen=True, kw_only=True):
    """Dynamics of one underlying; time in days, volatility decimal a year, half-lives in days."""

    spot_start: float
    diffusion_vol: float
    """Annual volatility at median activity, without jumps."""
    activity_sd: float
    activity_half_life: float
    level_power: float
    """Volatility moves scale with exp(power x activity), returns with exp(activity)."""
    leverage: float
    """Correlation of the level factor's increment with the return's at a fixed activity, negative.
    """
    level_half_life: float
    slope_half_life: float
    skew_sd: float
    skew_half_life: float
    skew_leverage: float
    basis_sd: float
    basis_half_life: float
    premium_sd: float
    premium_half_life: float
    jumps_per_day: float
    jump_mean: float
    jump_sd: float
    jump_level: float
    """Level-factor move per unit of standardised jump (jump over a day's diffusion), times -1."""


BTC: Final = FactorParams(
    spot_start=70_000.0,
    diffusion_vol=0.58,
    activity_sd=0.45,
    activity_half_life=1.0,
    level_power=2.0,
    leverage=-0.86,
    level_half_life=3.0,
    slope_half_life=3.0,
    skew_sd=0.15,
    skew_half_life=2.0,
    skew_leverage=0.4,
    basis_sd=0.008,
    basis_half_life=2.0,
    premium_sd=0.00015,
    premium_half_life=0.01,
    jumps_per_day=0.05,
    jump_mean=-0.006,
    jump_sd=0.025,
    jump_level=0.8,
)

ETH: Final = msgspec.structs.replace(
    BTC,
    spot_start=2_100.0,
    diffusion_vol=0.72,
    level_power=1.85,
    leverage=-0.82,
    jump_mean=-0.008,
    jump_sd=0.03,
    basis_sd=0.01,
)

FACTORS: Final = {"BTC": BTC, "ETH": ETH}

SPOT_CORRELATION: Final = 0.86
FACTOR_CORRELATION: Final = 0.75
"""Between the underlyings, of returns and of every other factor."""
COMMON_JUMP_SHARE: Final = 0.8
"""Chance that the second underlying jumps with the first."""


class Regime(msgspec.Struct, frozen=True):
    """How a scenario bends the dynamics over a stretch of time: volatility of everything, and rate
    of jumps.
    """

    vol_multiple: float = 1.0
    jump_multiple: float = 1.0


class Shock(msgspec.Struct, frozen=True):
    """A scripted move at one step: log return, level and skew factor moves."""

    step: int
    log_return: float = 0.0
    level: float = 0.0
    skew: float = 0.0


CALM: Final = Regime()


class PathGenerator:
    """Extends the joint path of all underlyings step by step from one seed; equal calls give equal
    paths.

    `step_days` is fixed at construction. The first underlying leads: the others' returns and
    factors correlate with it.
    """

    __slots__ = (
        "_common",
        "_draws",
        "_jumps",
        "_params",
        "_sizes",
        "_states",
        "_step_days",
        "names",
    )

    def __init__(
        self,
        *,
        seed: int,
        params: dict[str, FactorParams],
        step_days: float,
        activity_start: float = 0.0,
    ) -> None:
        self.names = tuple(params)
        self._params = params
        self._step_days = step_days
        self._common = stream(seed, "paths/common-jump")
        self._draws = {name: stream(seed, f"paths/{name}/normal") for name in self.names}
        self._jumps = {name: stream(seed, f"paths/{name}/jump") for name in self.names}
        self._sizes = {name: stream(seed, f"paths/{name}/jump-size") for name in self.names}
        self._states: dict[str, FloatArray] = {}
        for name, param in params.items():
            state = np.zeros(STATE_SIZE)
            state[LOG_SPOT] = math.log(param.spot_start)
            state[ACTIVITY] = activity_start
            self._states[name] = state

    def extend(
        self, steps: int, *, regime: Regime = CALM, shocks: dict[str, list[Shock]] | None = None
    ) -> dict[str, FloatArray]:
        """The next `steps` states of every underlying, shape (steps, STATE_SIZE); shocks count
        steps from this call.
        """
        leader: FloatArray | None = None
        leader_jumps: npt.NDArray[np.bool_] | None = None
        paths = {}
        common = self._common.random(steps)
        for name in self.names:
            own = self._draws[name].standard_normal((steps, DRAWS))
            uniform = self._jumps[name].random(steps)
            size = self._sizes[name].standard_normal(steps)
            param = self._params[name]
            chance = param.jumps_per_day * regime.jump_multiple * self._step_days
            jumps = uniform < chance
            if leader is None or leader_jumps is None:
                leader, leader_jumps = own, jumps
            else:
                own = _correlate(own, leader)
                jumps = np.where(common < COMMON_JUMP_SHARE, leader_jumps, jumps)
            jump = np.where(jumps, param.jump_mean + param.jump_sd * size, 0.0)
            script = np.zeros((steps, 3))
            for shock in (shocks or {}).get(name, ()):
                script[shock.step] += (shock.log_return, shock.level, shock.skew)
            out = np.empty((steps, STATE_SIZE))
            _advance(
                self._states[name],
                own,
                jump,
                script,
                _coefficients(param, self._step_days),
                regime.vol_multiple,
                out,
            )
            self._states[name] = out[-1].copy()
            paths[name] = out
        return paths


def _correlate(own: FloatArray, leader: FloatArray) -> FloatArray:
    rho = np.full(DRAWS, FACTOR_CORRELATION)
    rho[LOG_SPOT] = SPOT_CORRELATION
    rest = np.array([math.sqrt(1.0 - r * r) for r in rho.tolist()])
    return rho * leader + rest * own


def _coefficients(p: FactorParams, step_days: float) -> FloatArray:
    """Per-step constants in the order `_advance` unpacks them."""

    def keep(half_life: float) -> float:
        return math.exp(-math.log(2.0) * step_days / half_life)

    def noise(sd: float, half_life: float) -> float:
        return sd * math.sqrt(1.0 - keep(half_life) ** 2)

    day_vol = p.diffusion_vol / math.sqrt(DAYS_PER_YEAR)
    return np.array([
        day_vol * math.sqrt(step_days),
        keep(p.activity_half_life), noise(p.activity_sd, p.activity_half_life),
        p.level_power, p.leverage, math.sqrt(1.0 - p.leverage**2),
        keep(p.level_half_life), keep(p.slope_half_life), math.sqrt(step_days),
        keep(p.skew_half_life), noise(p.skew_sd, p.skew_half_life),
        p.skew_leverage, math.sqrt(1.0 - p.skew_leverage**2),
        keep(p.basis_half_life), noise(p.basis_sd, p.basis_half_life),
        keep(p.premium_half_life), noise(p.premium_sd, p.premium_half_life),
        p.jump_level / day_vol,
    ])  # fmt: skip


@njit(cache=True, nogil=True)
def _advance(
    start: FloatArray,
    normal: FloatArray,
    jump: FloatArray,
    script: FloatArray,
    c: FloatArray,
    vol_multiple: float,
    out: FloatArray,
) -> None:
    """Exact mean reversion, Euler diffusion; columns as LOG_SPOT … PREMIUM."""
    spot, act, level, slope, skew, basis, prem = (
        start[0], start[1], start[2], start[3], start[4], start[5], start[6],
    )  # fmt: skip
    for i in range(normal.shape[0]):
        z = normal[i]
        scale = math.exp(act) * vol_multiple
        surge = math.exp(c[3] * act) * vol_multiple
        move = c[0] * scale
        leap = jump[i] + script[i, 0]
        spot += move * z[0] - 0.5 * move * move + leap
        level = level * c[6] + surge * c[8] * (c[4] * z[0] + c[5] * z[2])
        level += script[i, 1] - c[17] * leap
        slope = slope * c[7] + surge * c[8] * z[3]
        skew = skew * c[9] + c[10] * scale * (-c[11] * z[0] + c[12] * z[4]) + script[i, 2]
        act = act * c[1] + c[2] * z[1]
        basis = basis * c[13] + c[14] * z[5]
        prem = prem * c[15] + c[16] * z[6]
        out[i, 0] = spot
        out[i, 1] = act
        out[i, 2] = level
        out[i, 3] = slope
        out[i, 4] = skew
        out[i, 5] = basis
        out[i, 6] = prem
