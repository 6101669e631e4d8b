"""The joint fit: all expiries of an underlying at once, without static arbitrage.

Slices fitted one by one do cross, and mending them one after another pushes the error down the
line; so butterfly and calendar conditions enter one least-squares problem as one-sided penalties.
The penalty starts soft and is stiffened in stages, because against a stiff wall the solver creeps.
After every stage the exact check of `arbitrage` decides whether more is needed.

An expiry under six hours, or with too few quotes, is not fitted: its slice of the previous surface,
aged in variance time, takes part in the same problem in place of quotes. Runs in the compute
process (scipy); nothing here is called inside a decision.
"""

import math
from collections.abc import Callable

import msgspec
import numpy as np
from scipy.optimize import least_squares

from mm_daemon.pricing.arbitrage import ArbitrageReport, check_surface
from mm_daemon.pricing.arrays import FloatArray, kernel
from mm_daemon.pricing.surface import SliceSource, Surface, SurfaceSlice
from mm_daemon.pricing.surface_quotes import ExpiryQuotes, SliceQuotes, select, usable_quotes
from mm_daemon.pricing.surface_residuals import (
    FitProblem,
    from_slice,
    quote_cost,
    reduced,
    to_slice,
)
from mm_daemon.pricing.svi import N_PARAMETERS, SviSlice, w_one
from mm_daemon.pricing.svi_start import quasi_explicit
from mm_daemon.pricing.variance_time import (
    FLAT_CLOCK,
    VarianceClock,
    calendar_years,
    variance_years,
)

_NODES = 61
_NODES_FINE = 241
"""Nodes of the extra stages: by then only dips between the coarse nodes can be left."""
_REACH_SD = 5.5
"""Nodes reach beyond the five deviations of the check, as theta is only a guess of the variance."""
_CARRIED_SD = (-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)
_CARRIED_WIDTH = 0.01
"""A carried slice speaks as nine quotes one vol point wide."""
_PRIOR = (math.log(0.7), math.log(0.3), -0.2, 0.0, 0.0)
"""A plain crypto smile in slice units, for directions that few quotes leave open."""
_DAY_YEARS = 1.0 / 365.0
_CORE_WIDTH_MAX = 0.10
_CORE_WIDTH_MAX_SHORT = 0.30
"""Quotes wider than this, in vol, are no market to judge a fit by; they still weigh a little."""
_UNKNOWN_BOUNDS = ((-4.0, 1.0), (-4.0, 2.0), (-2.0, 2.0), (-4.0, 4.0), (-2.5, 2.5))
"""Where a start may lie; the fit itself is unbounded."""


class FitSettings(msgspec.Struct, frozen=True):
    """How to fit. Widths are in vol; the defaults are the ones calibrated on recorded chains.

    wing_weight: of quotes under five delta, relative to the core; wing_weight_short: the same under
    a day, where the wings are many, far out and hardly traded.
    stages: penalty weights in order; from a previous surface they begin at the second. While the
    check still finds arbitrage, up to `extra_stages_max` more follow on a finer grid, each three
    times stiffer and with twice the margin.
    """

    tte_years_min: float = 0.25 / 365.0
    quotes_min: int = 5
    width_min: float = 0.002
    wing_weight: float = 0.6
    wing_weight_short: float = 0.2
    prior_weight: float = 0.1
    stages: tuple[float, ...] = (3.0, 30.0, 300.0)
    extra_stages_max: int = 4
    evaluations_max: int = 120
    g_margin: float = 1e-3
    gap_margin: float = 1e-4


class FitRequest(msgspec.Struct, frozen=True):
    """A chain to fit at `now_ns`, and the surface that held until now, if any."""

    underlying: str
    now_ns: int
    expiries: tuple[ExpiryQuotes, ...]
    previous: Surface | None = None
    clock: VarianceClock = FLAT_CLOCK
    settings: FitSettings = FitSettings()


class FitOutcome(msgspec.Struct, frozen=True):
    """The surface and what the fit cost; unfitted expiries are in no slice at all."""

    surface: Surface
    arbitrage: ArbitrageReport
    evaluations: int
    unfitted_ns: tuple[int, ...]


class _Candidate(msgspec.Struct, frozen=True):
    """One expiry on its way into the problem: quotes, or the aged slice that stands for them."""

    expiry_ns: int
    tte_years: float
    forward: float
    quotes: SliceQuotes
    carried: SurfaceSlice | None
    before: SurfaceSlice | None


def fit_surface(request: FitRequest) -> FitOutcome:
    """Fit every expiry of the request jointly; the outcome says whether arbitrage is left."""
    candidates, unfitted = _candidates(request)
    return _fit(request, candidates, unfitted)


def serve_fit(request: bytes) -> bytes:
    """Answer one MessagePack `FitRequest` with a MessagePack `FitOutcome`: compute's work.

    Raises msgspec.MsgspecError where the bytes are no request.
    """
    asked = msgspec.msgpack.decode(request, type=FitRequest)
    return msgspec.msgpack.encode(fit_surface(asked))


def hold_out_errors(request: FitRequest, folds: int = 5) -> tuple[FloatArray, ...]:
    """Model minus mid vol of each quote under a fit that did not see it, per fitted expiry.

    Folds go round by strike. Aligned with `fitted_quotes(request)`.
    """
    candidates, unfitted = _candidates(request)
    errors = tuple(np.full(item.quotes.k.size, np.nan) for item in candidates)
    for fold in range(folds):
        left_out = [np.arange(item.quotes.k.size) % folds == fold for item in candidates]
        seen = [
            msgspec.structs.replace(item, quotes=select(item.quotes, ~out))
            for item, out in zip(candidates, left_out, strict=True)
        ]
        outcome = _fit(request, seen, unfitted)
        for item, out, slice_, error in zip(
            candidates, left_out, outcome.surface.slices, errors, strict=True
        ):
            vols = slice_vols(item.quotes.k[out], slice_)
            error[out] = vols - item.quotes.mid_vol[out]
    return tuple(
        error for error, item in zip(errors, candidates, strict=True) if item.carried is None
    )


def fitted_quotes(request: FitRequest) -> tuple[tuple[int, SliceQuotes], ...]:
    """Expiry and usable quotes of every expiry the request would fit, ordered by expiry."""
    candidates, _ = _candidates(request)
    return tuple((item.expiry_ns, item.quotes) for item in candidates if item.carried is None)


def slice_vols(k: FloatArray, slice_: SurfaceSlice) -> FloatArray:
    """Vols of one slice at k (n,), at its own fit."""
    out = np.empty(k.size)
    _vols_into(k, *slice_.svi.row(), slice_.tte_years, out)
    return out


def repair_slice(slice_: SviSlice, low: float, high: float) -> SviSlice:
    """Nearest slice without butterfly arbitrage, by vol error over ln(K/F) from low to high."""
    theta = w_one(0.0, *slice_.row())
    assert theta > 0.0, f"a slice needs positive variance at the money, found {theta}"
    k = np.linspace(low, high, _NODES)
    vols = np.empty(_NODES)
    _vols_into(k, *slice_.row(), 1.0, vols)
    usable = np.isfinite(vols)
    quotes = _pseudo_quotes(k[usable], vols[usable])
    settings = FitSettings(prior_weight=1e-3, wing_weight=1.0, wing_weight_short=1.0)
    candidate = _Candidate(0, 1.0, 1.0, quotes, None, None)
    solution = _solve([candidate], settings)
    assert solution.report.violations == 0, f"no slice without arbitrage was found near {slice_}"
    return solution.slices[0]


def _candidates(request: FitRequest) -> tuple[list[_Candidate], tuple[int, ...]]:
    """Expiries in order: those with quotes, those carried, and those left out."""
    before = {
        item.expiry_ns: item for item in (request.previous.slices if request.previous else ())
    }
    found: list[_Candidate] = []
    unfitted: list[int] = []
    for chain in sorted(request.expiries, key=lambda item: item.expiry_ns):
        tte_years = calendar_years(request.now_ns, chain.expiry_ns)
        previous = before.get(chain.expiry_ns)
        if tte_years >= request.settings.tte_years_min:
            quotes = usable_quotes(chain, tte_years)
            if quotes.k.size >= request.settings.quotes_min:
                forward = float(np.median(np.array(chain.forward)))
                found.append(
                    _Candidate(chain.expiry_ns, tte_years, forward, quotes, None, previous)
                )
                continue
        if tte_years > 0.0 and previous is not None and request.previous is not None:
            aged = _aged(previous, request.previous.fitted_ns, request)
            found.append(_carried_candidate(aged))
        else:
            unfitted.append(chain.expiry_ns)
    return found, tuple(unfitted)


def _aged(slice_: SurfaceSlice, fitted_ns: int, request: FitRequest) -> SurfaceSlice:
    """The slice with the variance that is still ahead at the request's moment."""
    ahead = variance_years(request.clock, request.now_ns, slice_.expiry_ns)
    share = ahead / variance_years(request.clock, fitted_ns, slice_.expiry_ns)
    svi = msgspec.structs.replace(slice_.svi, a=slice_.svi.a * share, b=slice_.svi.b * share)
    return msgspec.structs.replace(
        slice_,
        svi=svi,
        tte_years=calendar_years(request.now_ns, slice_.expiry_ns),
        source=SliceSource.CARRIED,
    )


def _carried_candidate(aged: SurfaceSlice) -> _Candidate:
    reach = math.sqrt(w_one(0.0, *aged.svi.row()))
    k = np.array(_CARRIED_SD) * reach
    quotes = _pseudo_quotes(k, slice_vols(k, aged))
    return _Candidate(aged.expiry_ns, aged.tte_years, aged.forward, quotes, aged, aged)


def _pseudo_quotes(k: FloatArray, vols: FloatArray) -> SliceQuotes:
    half = 0.5 * _CARRIED_WIDTH
    return SliceQuotes(k, vols, vols - half, vols + half, np.full(k.size, 0.5), np.arange(k.size))


class _Solution(msgspec.Struct, frozen=True):
    """Raw slices of a solved problem, the verdict of the exact check, the cost of the quotes."""

    slices: tuple[SviSlice, ...]
    report: ArbitrageReport
    cost: float
    evaluations: int


def _fit(
    request: FitRequest, candidates: list[_Candidate], unfitted: tuple[int, ...]
) -> FitOutcome:
    solution = _solve(candidates, request.settings)
    slices = tuple(
        _finished(item, svi, request.now_ns)
        for item, svi in zip(candidates, solution.slices, strict=True)
    )
    return FitOutcome(
        Surface(request.underlying, request.now_ns, slices),
        solution.report,
        solution.evaluations,
        unfitted,
    )


def _finished(item: _Candidate, svi: SviSlice, now_ns: int) -> SurfaceSlice:
    """The slice with the figures of its fit."""
    if item.carried is not None:
        return msgspec.structs.replace(item.carried, svi=svi)
    quotes = item.quotes
    vols = np.empty(quotes.k.size)
    _vols_into(quotes.k, *svi.row(), item.tte_years, vols)
    width_max = _CORE_WIDTH_MAX if item.tte_years >= _DAY_YEARS else _CORE_WIDTH_MAX_SHORT
    core = quotes.is_core & (quotes.width <= width_max)
    counted = max(int(core.sum()), 1)
    error = vols[core] - quotes.mid_vol[core]
    inside = (vols[core] >= quotes.bid_vol[core]) & (vols[core] <= quotes.ask_vol[core])
    return SurfaceSlice(
        expiry_ns=item.expiry_ns,
        forward=item.forward,
        tte_years=item.tte_years,
        svi=svi,
        quoted_low=float(quotes.k[0]),
        quoted_high=float(quotes.k[-1]),
        quotes=int(quotes.k.size),
        core_quotes=int(core.sum()),
        rms_vol_points=100.0 * math.sqrt(float((error * error).sum()) / counted),
        inside_share=float(inside.sum()) / counted,
        fitted_ns=now_ns,
    )


def _solve(candidates: list[_Candidate], settings: FitSettings) -> _Solution:
    """Solve from the quotes alone, then from the previous shapes too, and keep the better end.

    Two starts cost little and free the surface from its past: a poor optimum found once would
    otherwise be handed from fit to fit.
    """
    if not candidates:
        empty = check_surface(np.empty((0, N_PARAMETERS)), np.empty(0), np.empty(0))
        return _Solution((), empty, 0.0, 0)
    theta = np.array([_theta(item) for item in candidates])
    cold = [
        _cold_start(item, float(t), settings) for item, t in zip(candidates, theta, strict=True)
    ]
    best = _descend(candidates, theta, cold, settings.stages, settings)
    if any(item.before is not None for item in candidates):
        warm = [
            start if item.before is None else _unknowns_of(_in_own_units(item.before.svi))
            for item, start in zip(candidates, cold, strict=True)
        ]
        other = _descend(candidates, theta, warm, settings.stages[1:], settings)
        evaluations = best.evaluations + other.evaluations
        best = min(best, other, key=lambda found: (found.report.violations, found.cost))
        best = msgspec.structs.replace(best, evaluations=evaluations)
    return best


def _descend(
    candidates: list[_Candidate],
    theta: FloatArray,
    starts: list[FloatArray],
    stages: tuple[float, ...],
    settings: FitSettings,
) -> _Solution:
    """Stiffen the penalty stage by stage until the exact check finds nothing."""
    low, high = np.array([_quoted_span(item) for item in candidates]).T.copy()
    unknowns = np.concatenate(starts)
    problem = _problem(candidates, theta, low, high, settings, _NODES)
    evaluations = 0
    for penalty in stages[:-1]:
        soft = msgspec.structs.replace(problem, penalty=penalty)
        unknowns, used = _minimise(unknowns, soft, settings.evaluations_max)
        evaluations += used
    problem = msgspec.structs.replace(problem, penalty=stages[-1])
    for extra in range(settings.extra_stages_max + 1):
        unknowns, used = _minimise(unknowns, problem, settings.evaluations_max)
        evaluations += used
        slices = _slices(unknowns, theta)
        report = check_surface(np.array([item.row() for item in slices]), low, high)
        if report.violations == 0:
            break
        fine = _problem(candidates, theta, low, high, settings, _NODES_FINE)
        problem = msgspec.structs.replace(
            fine,
            penalty=stages[-1] * 3.0 ** (extra + 1),
            g_margin=settings.g_margin * 2.0 ** (extra + 1),
            gap_margin=settings.gap_margin * 2.0 ** (extra + 1),
        )
    return _Solution(slices, report, quote_cost(unknowns, problem), evaluations)


def _quoted_span(item: _Candidate) -> tuple[float, float]:
    """Ends of ln(K/F) that were quoted; of a carried slice, those of its own fit."""
    if item.carried is not None:
        return item.carried.quoted_low, item.carried.quoted_high
    return float(item.quotes.k[0]), float(item.quotes.k[-1])


def _slices(unknowns: FloatArray, theta: FloatArray) -> tuple[SviSlice, ...]:
    table = unknowns.reshape(-1, N_PARAMETERS)
    return tuple(to_slice(row, float(unit)) for row, unit in zip(table, theta, strict=True))


def _minimise(
    unknowns: FloatArray, problem: FitProblem, evaluations_max: int
) -> tuple[FloatArray, int]:
    """One stage of scipy's least squares; residuals and Jacobian share their work.

    MINPACK rather than scipy's own trust region: it needs no BLAS, whose threads cost more than the
    whole fit on a busy machine. The unknowns are of order one, so they need no scaling.
    """
    fun, jac = _shared_evaluation(problem)
    result = least_squares(
        fun,
        unknowns,
        jac=jac,
        method="lm",
        x_scale=1.0,
        ftol=1e-5,
        xtol=1e-6,
        max_nfev=evaluations_max,
    )
    return np.asarray(result.x, dtype=np.float64), int(result.nfev)


def _shared_evaluation(
    problem: FitProblem,
) -> tuple[Callable[[FloatArray], FloatArray], Callable[[FloatArray], FloatArray]]:
    """Residual and Jacobian functions for scipy, which asks for both at the same point."""
    last: list[FloatArray] = []

    def fun(unknowns: FloatArray) -> FloatArray:
        residuals, jacobian = reduced(unknowns, problem)
        last[:] = unknowns.copy(), jacobian
        return residuals

    def jac(unknowns: FloatArray) -> FloatArray:
        if last and np.array_equal(last[0], unknowns):
            return last[1]
        return reduced(unknowns, problem)[1]

    return fun, jac


def _problem(
    candidates: list[_Candidate],
    theta: FloatArray,
    low: FloatArray,
    high: FloatArray,
    settings: FitSettings,
    nodes: int,
) -> FitProblem:
    n = len(candidates)
    roots = [math.sqrt(value) for value in theta]
    node_z = np.empty((n, nodes))
    for i, root in enumerate(roots):
        node_z[i] = np.linspace(
            min(-_REACH_SD, low[i] / root), max(_REACH_SD, high[i] / root), nodes
        )
    quotes = [item.quotes for item in candidates]
    return FitProblem(
        quote_slice=np.repeat(np.arange(n), [item.k.size for item in quotes]),
        quote_z=np.concatenate([item.k / root for item, root in zip(quotes, roots, strict=True)]),
        quote_vol=np.concatenate([item.mid_vol for item in quotes]),
        quote_weight=np.concatenate([_weights(item, settings) for item in candidates]),
        theta=theta,
        tte_years=np.array([item.tte_years for item in candidates]),
        node_z=node_z,
        pair_k=node_z[:-1] * np.array(roots[:-1])[:, None],
        prior=np.tile(np.array(_PRIOR), (n, 1)),
        prior_weight=np.full(N_PARAMETERS, settings.prior_weight),
        penalty=settings.stages[0],
        g_margin=settings.g_margin,
        gap_margin=settings.gap_margin,
    )


def _weights(item: _Candidate, settings: FitSettings) -> FloatArray:
    """Inverse width, reduced in the wings."""
    is_short = item.tte_years < _DAY_YEARS
    wing = settings.wing_weight_short if is_short else settings.wing_weight
    share = np.where(item.quotes.is_core, 1.0, wing)
    weights: FloatArray = share / np.maximum(item.quotes.width, settings.width_min)
    return weights


def _theta(item: _Candidate) -> float:
    """At-the-money total variance read off the quotes, the unit of the slice."""
    vol = float(np.interp(0.0, item.quotes.k, item.quotes.mid_vol))
    return vol * vol * item.tte_years


def _cold_start(item: _Candidate, theta: float, settings: FitSettings) -> FloatArray:
    """Unknowns of a quasi-explicit fit to the slice's own quotes."""
    root = math.sqrt(theta)
    vols = item.quotes.mid_vol
    w = vols * vols * item.tte_years / theta
    weight = vols / (np.maximum(item.quotes.width, settings.width_min) * w)
    return _unknowns_of(quasi_explicit(item.quotes.k / root, w, weight * weight, 2.0 / root))


def _unknowns_of(shape: SviSlice) -> FloatArray:
    """Unknowns of a slice in its own units, kept where a start may lie."""
    bounds = np.array(_UNKNOWN_BOUNDS)
    return np.clip(from_slice(_opened(shape), 1.0), bounds[:, 0], bounds[:, 1])


def _in_own_units(svi: SviSlice) -> SviSlice:
    """The slice measured in its own at-the-money variance and deviation."""
    theta = w_one(0.0, *svi.row())
    root = math.sqrt(theta)
    return SviSlice(svi.a / theta, svi.b / root, svi.rho, svi.m / root, svi.sigma / root)


def _opened(shape: SviSlice) -> SviSlice:
    """The slice with slope, width and minimum lifted off zero, where their logarithms exist."""
    b = max(shape.b, 0.02)
    sigma = max(shape.sigma, 0.1)
    rho = min(max(shape.rho, -0.95), 0.95)
    floor = b * sigma * math.sqrt(1.0 - rho * rho)
    return SviSlice(a=max(shape.a, 0.02 - floor), b=b, rho=rho, m=shape.m, sigma=sigma)


@kernel
def _vols_into(
    k: FloatArray,
    a: float,
    b: float,
    rho: float,
    m: float,
    sigma: float,
    tte_years: float,
    out: FloatArray,
) -> None:
    for i in range(k.size):
        out[i] = math.sqrt(w_one(k[i], a, b, rho, m, sigma) / tte_years)
