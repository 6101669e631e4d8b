"""When to fit the surface again, what to fit it to, and whether to believe the answer.

A fit is asked for when the forward has moved, when time has passed, or when too many theos lie
outside the market; never twice at once and never faster than the floor. It is fitted to the market
without our own quotes, else we would fit to ourselves. The answer is judged by the gate: age,
arbitrage, roughness, consensus with the market, leaps. What fails changes nothing and is counted.

Each accepted fit also teaches how far vols move with the forward (the skew-stickiness ratio), which
slides the surface until the next fit. The trader's offsets come on top and never enter a fit.
A checkpoint carries surfaces and ratios over a restart.
"""

from __future__ import annotations

import math
from hashlib import blake2b

import msgspec
import numpy as np

from mm_daemon.core.calibration import Calibration
from mm_daemon.core.catalog import Bools, Catalog, Floats, Ints
from mm_daemon.core.knobs import Knobs
from mm_daemon.core.quote_kernel import others_touch
from mm_daemon.core.quote_terms import LiveColumns, TouchMatrices
from mm_daemon.core.theo import DELTA, PRICE, TheoBoard
from mm_daemon.domain.inputs import FitAnswer
from mm_daemon.domain.params import SurfaceParams
from mm_daemon.domain.units import NS_PER_S, Ns
from mm_daemon.pricing.arrays import kernel
from mm_daemon.pricing.skew_stickiness import SsrEstimate, SsrPrior, observed, ratio
from mm_daemon.pricing.surface import Bumps, Surface, SurfaceSlice
from mm_daemon.pricing.surface_gate import GateLimits, SurfaceReason, SurfaceVerdict, judge_surface
from mm_daemon.pricing.surface_quotes import ExpiryQuotes
from mm_daemon.pricing.svi import w_and_derivatives
from mm_daemon.pricing.variance_time import FLAT_CLOCK, VarianceClock

ASK_TIMEOUT_NS = 20 * NS_PER_S
OUTSIDE_SHARE_MAX = 0.10
"""More theos than this outside the market call for a refit; 15 % would already widen quotes."""
CORE_DELTA_MIN = 0.05
INSIDE_SHARE_MIN = 0.5
"""A fit that misses half of the quotes it was made from has found something else."""
ATM_LEAP_MAX = 0.15
LEAP_FORWARD_MOVE_MAX = 0.01
FIT_AGE_NS_MAX = 30 * NS_PER_S
SSR_DECAY = 0.98
SSR_FORWARD_MOVE_MIN = 5e-4
"""Smaller moves of the forward teach noise."""
_REFUSED = SurfaceVerdict(SurfaceReason.EMPTY)


class FitAsk(msgspec.Struct, frozen=True):
    """What compute is sent: the fields of its fit request that the decision knows."""

    underlying: str
    now_ns: int
    expiries: tuple[ExpiryQuotes, ...]
    previous: Surface | None
    clock: VarianceClock


class FitReply(msgspec.Struct, frozen=True):
    """What is read of compute's answer; its own report of arbitrage is not believed."""

    surface: Surface


class ExpirySsr(msgspec.Struct, frozen=True):
    """Evidence on one expiry's skew-stickiness ratio."""

    expiry_ns: int
    estimate: SsrEstimate


class UnderlyingCheckpoint(msgspec.Struct, frozen=True):
    """What survives a restart for one underlying."""

    underlying: str
    surface: Surface | None
    ssr: tuple[ExpirySsr, ...]


class _State:
    """One underlying's calibration."""

    def __init__(self) -> None:
        self.expiries_ns: tuple[int, ...] = ()
        self.surface: Surface | None = None
        self.ssr: dict[int, SsrEstimate] = {}
        self.bumps = Bumps(np.zeros(0), np.zeros(0), np.zeros(0))
        self.is_frozen = False
        self.version = 0
        self.current: Calibration | None = None
        self.ask_id = -1
        self.asked_ns = 0
        self.asked_forward: Floats = np.zeros(0)
        self.verdict: SurfaceVerdict | None = None
        self.refused: dict[str, int] = {}


class Calibrator:
    """Surfaces, stickiness and offsets of all underlyings."""

    def __init__(
        self,
        catalog: Catalog,
        params: SurfaceParams,
        *,
        age_s_max: float,
        clock: VarianceClock = FLAT_CLOCK,
    ) -> None:
        self._params = params
        self._age_ns_max = round(age_s_max * NS_PER_S)
        """Beyond this nothing is quoted on a surface, and it says nothing against a new one."""
        self._clock = clock
        self._states: dict[str, _State] = {}
        self.resize(catalog)

    def resize(self, catalog: Catalog) -> None:
        """Take up new expiries; `apply_knobs` must follow, as offsets are per expiry."""
        for underlying in catalog.underlyings:
            state = self._states.setdefault(underlying, _State())
            state.expiries_ns = tuple(e.expiry_ns for e in catalog.expiries[underlying])
            n = len(state.expiries_ns)
            state.bumps = Bumps(np.zeros(n), np.zeros(n), np.zeros(n))
            self._renew(underlying)

    def apply_knobs(self, knobs: Knobs) -> None:
        """Put the trader's offsets and freezes in force."""
        for underlying, state in self._states.items():
            offsets = {
                name: np.array(
                    [
                        knobs.value(name, 0.0, underlying=underlying, expiry_ns=expiry_ns)
                        for expiry_ns in state.expiries_ns
                    ]
                )
                for name in ("vol_offset_vp", "skew_offset_vp")
            }
            state.bumps = Bumps(
                0.01 * offsets["vol_offset_vp"],
                0.01 * offsets["skew_offset_vp"],
                np.zeros(len(state.expiries_ns)),
            )
            frozen = knobs.value("freeze_fit", 0.0, underlying=underlying, expiry_ns=0)
            state.is_frozen = frozen > 0.5
            self._renew(underlying)

    def current(self, underlying: str) -> Calibration | None:
        """The calibration in force, None before any surface was accepted or restored."""
        return self._states[underlying].current

    def is_due(self, underlying: str, forwards: Floats, outside_share: float, now_ns: Ns) -> bool:
        """Whether to ask for a fit now; outside_share as of `theo_outside`, NaN where unknown."""
        state = self._states[underlying]
        if state.is_frozen or not np.isfinite(forwards).any():
            return False
        since_ns = now_ns - state.asked_ns
        if state.ask_id >= 0 and since_ns < ASK_TIMEOUT_NS:
            return False
        if since_ns < self._params.refit_interval_min_s * NS_PER_S:
            return False
        if state.surface is None or since_ns >= self._params.refit_interval_s * NS_PER_S:
            return True
        if state.asked_forward.size != forwards.size or outside_share > OUTSIDE_SHARE_MAX:
            return True
        moves = np.abs(forwards / state.asked_forward - 1.0)
        return bool(np.nan_to_num(moves).max() > 1e-4 * self._params.refit_forward_bps)

    def request(
        self,
        ask_id: int,
        underlying: str,
        catalog: Catalog,
        touch: TouchMatrices,
        rests: LiveColumns,
        forwards: Floats,
        now_ns: Ns,
    ) -> bytes:
        """The request for compute: the market of every expiry with a forward, less our quotes."""
        state = self._states[underlying]
        expiries = []
        for expiry, forward in zip(catalog.expiries[underlying], forwards, strict=True):
            if forward > 0.0 and expiry.expiry_ns > now_ns:
                quotes = _gathered(catalog, expiry.ids, touch, rests, float(forward))
                expiries.append(
                    ExpiryQuotes(
                        expiry_ns=expiry.expiry_ns,
                        forward=(float(forward),) * int(expiry.ids.size),
                        strike=tuple(catalog.strike[expiry.ids].tolist()),
                        is_call=tuple(catalog.is_call[expiry.ids].tolist()),
                        bid_usd=tuple(quotes[0].tolist()),
                        ask_usd=tuple(quotes[1].tolist()),
                    )
                )
        state.ask_id, state.asked_ns = ask_id, now_ns
        state.asked_forward = forwards.copy()
        ask = FitAsk(underlying, now_ns, tuple(expiries), state.surface, self._clock)
        return msgspec.msgpack.encode(ask)

    def on_answer(self, answer: FitAnswer, now_ns: Ns) -> SurfaceVerdict:
        """Judge an answer and take it if it passes; the verdict says why not."""
        state = self._states.get(answer.underlying)
        if state is None or answer.ask_id != state.ask_id:
            return _REFUSED
        state.ask_id = -1
        verdict, candidate, reason = self._judged(state, answer, now_ns)
        state.verdict = verdict
        if candidate is None or not verdict.accepted:
            state.refused[reason] = state.refused.get(reason, 0) + 1
            return verdict
        self._learn_ssr(state, candidate)
        state.surface = candidate
        self._renew(answer.underlying)
        return verdict

    def surface_age_ns(self, underlying: str, now_ns: Ns) -> int:
        """Age of the surface in force; the age of the epoch where there is none."""
        surface = self._states[underlying].surface
        return now_ns - (surface.fitted_ns if surface else 0)

    def unfitted_ns(self, underlying: str) -> tuple[int, ...]:
        """Expiries without a slice of their own in the surface in force."""
        state = self._states[underlying]
        fitted = {item.expiry_ns for item in state.surface.slices} if state.surface else set()
        return tuple(expiry_ns for expiry_ns in state.expiries_ns if expiry_ns not in fitted)

    def refused(self, underlying: str) -> dict[str, int]:
        """Answers not taken, by reason."""
        return dict(self._states[underlying].refused)

    def verdict(self, underlying: str) -> SurfaceVerdict | None:
        """The last verdict of the gate."""
        return self._states[underlying].verdict

    def checkpoint(self) -> bytes:
        """Surfaces and ratios as MessagePack, for a restart."""
        return msgspec.msgpack.encode(
            [
                UnderlyingCheckpoint(
                    underlying,
                    state.surface,
                    tuple(ExpirySsr(ns, state.ssr[ns]) for ns in sorted(state.ssr)),
                )
                for underlying, state in self._states.items()
            ]
        )

    def restore(self, checkpoint: bytes) -> None:
        """Take over a checkpoint; its surface serves, aged, until a fit is accepted.

        Raises msgspec.MsgspecError where the bytes are no checkpoint.
        """
        kept = msgspec.msgpack.decode(checkpoint, type=list[UnderlyingCheckpoint])
        for item in kept:
            state = self._states.get(item.underlying)
            if state is not None:
                state.surface = item.surface
                state.ssr = {entry.expiry_ns: entry.estimate for entry in item.ssr}
                self._renew(item.underlying)

    def digest(self) -> bytes:
        """16 bytes over all calibrations and open asks, equal for equal histories."""
        state = blake2b(self.checkpoint(), digest_size=16)
        for underlying, item in self._states.items():
            words = (underlying, item.version, item.is_frozen, item.ask_id, item.asked_ns)
            state.update(repr((*words, item.refused, item.expiries_ns)).encode())
            state.update(item.asked_forward.tobytes())
            for column in (item.bumps.vol, item.bumps.skew):
                state.update(column.tobytes())
        return state.digest()

    def _judged(
        self, state: _State, answer: FitAnswer, now_ns: Ns
    ) -> tuple[SurfaceVerdict, Surface | None, str]:
        if answer.error:
            return _REFUSED, None, "error"
        if state.is_frozen:
            return _REFUSED, None, "frozen"
        try:
            candidate = msgspec.msgpack.decode(answer.result, type=FitReply).surface
        except msgspec.MsgspecError:
            return _REFUSED, None, "unreadable"
        if candidate.underlying != answer.underlying or candidate.fitted_ns > now_ns:
            return _REFUSED, None, "mismatch"
        limits = GateLimits(
            age_ns_max=FIT_AGE_NS_MAX,
            rms_vol_points_max=self._params.rms_vp_max,
            inside_share_min=INSIDE_SHARE_MIN,
            atm_leap_max=ATM_LEAP_MAX,
            leap_forward_move_max=LEAP_FORWARD_MOVE_MAX,
            leap_age_ns_max=self._age_ns_max,
        )
        verdict = judge_surface(candidate, state.surface, now_ns=now_ns, limits=limits)
        return verdict, candidate, verdict.reason.value

    def _learn_ssr(self, state: _State, candidate: Surface) -> None:
        """One observation per expiry that both surfaces hold and whose forward really moved."""
        before = {item.expiry_ns: item for item in state.surface.slices} if state.surface else {}
        for item in candidate.slices:
            old = before.get(item.expiry_ns)
            if old is None:
                continue
            move = math.log(item.forward / old.forward)
            if abs(move) < SSR_FORWARD_MOVE_MIN:
                continue
            state.ssr[item.expiry_ns] = observed(
                state.ssr.get(item.expiry_ns, SsrEstimate()),
                skew=_atm_skew(old),
                log_forward_move=move,
                atm_vol_move=item.atm_vol() - old.atm_vol(),
                decay=SSR_DECAY,
            )
        live = {item.expiry_ns for item in candidate.slices}
        state.ssr = {ns: estimate for ns, estimate in state.ssr.items() if ns in live}

    def _renew(self, underlying: str) -> None:
        """A new version of the calibration after any of its parts changed."""
        state = self._states[underlying]
        state.version += 1
        if state.surface is None:
            state.current = None
            return
        prior = SsrPrior(ratio=self._params.ssr_initial)
        low, high = self._params.ssr_min, self._params.ssr_max
        ratios = [
            min(max(ratio(state.ssr.get(expiry_ns, SsrEstimate()), prior), low), high)
            for expiry_ns in state.expiries_ns
        ]
        state.current = Calibration(
            version=state.version,
            surface=state.surface,
            ssr=np.array(ratios, dtype=np.float64),
            bumps=state.bumps,
            clock=self._clock,
        )


def theo_outside(
    ids: Ints, catalog: Catalog, touch: TouchMatrices, rests: LiveColumns, board: TheoBoard
) -> float:
    """Share of two-sided core options whose theo is outside the market of others; NaN if none."""
    outside, counted = _outside(ids, catalog.tick, catalog.lot, *touch, *rests, board.columns)
    return outside / counted if counted else math.nan


def _atm_skew(item: SurfaceSlice) -> float:
    """d(vol)/dk at the money of a slice."""
    w, slope, _ = w_and_derivatives(0.0, *item.svi.row())
    return 0.5 * slope / math.sqrt(w * item.tte_years)


def _gathered(
    catalog: Catalog, ids: Ints, touch: TouchMatrices, rests: LiveColumns, forward: float
) -> Floats:
    """Bid and ask in USD of others, rows of (2, n); 0 where there is none."""
    out = np.zeros((2, ids.size))
    _gather_into(ids, forward, catalog.tick, catalog.lot, catalog.is_inverse, *touch, *rests, out)
    return out


@kernel
def _gather_into(
    ids: Ints,
    forward: float,
    tick: Floats,
    lot: Floats,
    is_inverse: Bools,
    touch_ticks: Ints,
    touch_money: Floats,
    touch_flags: Bools,
    bid_ticks: Ints,
    bid_lots: Ints,
    ask_ticks: Ints,
    ask_lots: Ints,
    out: Floats,
) -> None:
    for position in range(ids.size):
        i = ids[position]
        if not touch_flags[0, i]:
            continue
        bid, _ = others_touch(
            touch_ticks[0, i],
            touch_ticks[2, i],
            touch_money[0, i],
            bid_ticks[i],
            bid_lots[i] * lot[i],
        )
        ask, _ = others_touch(
            touch_ticks[1, i],
            touch_ticks[3, i],
            touch_money[1, i],
            ask_ticks[i],
            ask_lots[i] * lot[i],
        )
        unit = tick[i] * (forward if is_inverse[i] else 1.0)
        out[0, position] = bid * unit
        out[1, position] = ask * unit


@kernel
def _outside(
    ids: Ints,
    tick: Floats,
    lot: Floats,
    touch_ticks: Ints,
    touch_money: Floats,
    touch_flags: Bools,
    bid_ticks: Ints,
    bid_lots: Ints,
    ask_ticks: Ints,
    ask_lots: Ints,
    board: Floats,
) -> tuple[int, int]:
    outside, counted = 0, 0
    for i in ids:
        size = abs(board[DELTA, i])
        theo = board[PRICE, i]
        if not (CORE_DELTA_MIN <= size <= 1.0 - CORE_DELTA_MIN and theo > 0.0):
            continue
        bid, _ = others_touch(
            touch_ticks[0, i],
            touch_ticks[2, i],
            touch_money[0, i],
            bid_ticks[i],
            bid_lots[i] * lot[i],
        )
        ask, _ = others_touch(
            touch_ticks[1, i],
            touch_ticks[3, i],
            touch_money[1, i],
            ask_ticks[i],
            ask_lots[i] * lot[i],
        )
        if not touch_flags[0, i] or bid == 0 or ask == 0:
            continue
        counted += 1
        outside += theo < bid * tick[i] or theo > ask * tick[i]
    return outside, counted
