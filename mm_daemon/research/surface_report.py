"""How well the surface fits a recorded chain: the figures of `mm-daemon surface FILE`.

A chain file is a CSV, plain or gzip, one row per option, with prices in coin and each row's own
forward, because the rows of one expiry are not one instant. The fit is the one the daemon runs.

Measures, per underlying. Core: out of the money, bid > 0, ask > bid, 5 % <= |delta| <= 50 %, at
least a day to expiry, at most 10 vol points wide. Short: the same between six hours and a day, of
any width. Wings: |delta| below 5 %, a day or more. Delta is Black's at the venue's mark vol where
the file has one, since the mid of a junk quote says nothing about its delta; else at the mid vol.
rms is unweighted, model minus mid vol, in vol points; inside is the share of model prices within
bid and ask in coin. The hold-out rms is over core quotes that the fit did not see.
"""

import csv
import datetime as dt
import gzip
import io
import math
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from mm_daemon.pricing import black76
from mm_daemon.pricing.arrays import BoolArray, FloatArray
from mm_daemon.pricing.surface import SurfaceSlice
from mm_daemon.pricing.surface_fit import (
    FitOutcome,
    FitRequest,
    fit_surface,
    fitted_quotes,
    hold_out_errors,
    slice_vols,
)
from mm_daemon.pricing.surface_quotes import CORE_DELTA_MIN, ExpiryQuotes, SliceQuotes

CORE_DELTA_MAX = 0.5
CORE_WIDTH_MAX = 0.10
DAY_YEARS = 1.0 / 365.0
TICK_STEP_ABOVE_COIN = 0.005
TICK_BELOW_COIN = 0.0001
TICK_ABOVE_COIN = 0.0005
_FLAG_COLUMNS = (1, 3, 4)
"""Fields of a Sample that hold flags rather than errors."""
_NEEDED_COLUMNS = (
    "timestamp",
    "currency",
    "underlying",
    "strike",
    "option_type",
    "expiry_datetime",
    "bid_price",
    "ask_price",
)


class ChainFileError(ValueError):
    """The file is not a chain snapshot; the message names the file, the place and the remedy."""


class Chain(msgspec.Struct, frozen=True):
    """One underlying of a snapshot, grouped by expiry.

    mark_vol: the venue's vol per option, aligned with `expiries`; NaN where the file has none.
    """

    underlying: str
    now_ns: int
    expiries: tuple[ExpiryQuotes, ...]
    mark_vol: tuple[tuple[float, ...], ...]


class Sample(msgspec.Struct, frozen=True):
    """Per-quote outcomes of one underlying, ready to be pooled over snapshots.

    Errors are in vol points; inside flags as 0 or 1.
    """

    core_error: FloatArray
    core_inside: BoolArray
    short_error: FloatArray
    short_inside: BoolArray
    wing_inside: BoolArray
    hold_out_error: FloatArray


class Judged(msgspec.Struct, frozen=True):
    """A fitted chain: the fit, its seconds, and the sample measured on it."""

    outcome: FitOutcome
    seconds: float
    sample: Sample


def surface_report(path: str | Path) -> dict[str, dict[str, Any]]:
    """Fit every underlying of the snapshot at `path`; one plain object per underlying."""
    chains = read_chains(Path(path))
    # One untimed fit first: `seconds` measures fitting, not the compiler of a fresh installation.
    fit_surface(FitRequest(chains[0].underlying, chains[0].now_ns, chains[0].expiries))
    return {chain.underlying: _summary(judge(chain)) for chain in chains}


def judge(chain: Chain, *, folds: int = 5) -> Judged:
    """Fit a chain cold and measure it; without folds there is no hold-out sample."""
    request = FitRequest(chain.underlying, chain.now_ns, chain.expiries)
    started = time.perf_counter()
    outcome = fit_surface(request)
    seconds = time.perf_counter() - started
    return Judged(outcome, seconds, _measure(request, outcome, chain, folds))


def read_chains(path: Path) -> tuple[Chain, ...]:
    """The chains of a snapshot file, by underlying name."""
    rows = _rows(path)
    underlyings = sorted({row["currency"] for row in rows})
    return tuple(_chain(name, rows, path) for name in underlyings)


def render_text(report: dict[str, dict[str, Any]]) -> str:
    """The report as a table for people."""
    lines: list[str] = []
    for underlying, figures in report.items():
        lines.append(
            f"{underlying}: {figures['options']} core options,"
            f" rms {_show(figures, 'rms_vol_points')} vol points"
            f" ({_show(figures, 'holdout_rms_vol_points')} held out),"
            f" inside {_show(figures, 'inside_bid_ask')},"
            f" violations {figures['violations']}, {figures['seconds']:.2f} s"
        )
        lines.append(
            f"  under a day: rms {_show(figures, 'short_rms_vol_points')},"
            f" inside {_show(figures, 'short_inside_bid_ask')};"
            f" wings inside {_show(figures, 'wings_inside_half_tick')}"
        )
        lines.append(
            "  expiry                 days   forward      atm   skew  quotes    rms  inside"
        )
        for item in figures["expiries"]:
            lines.append(
                f"  {item['expiry']:<20} {item['days']:>6.2f} {item['forward']:>9.1f}"
                f" {item['atm_vol']:>8.4f} {item['skew']:>6.2f} {item['quotes']:>7d}"
                f" {item['rms_vol_points']:>6.2f} {item['inside_bid_ask']:>7.3f}"
            )
        if figures["expiries_without_fit"]:
            lines.append(f"  without a fit: {', '.join(figures['expiries_without_fit'])}")
    return "\n".join(lines)


def _show(figures: dict[str, Any], name: str) -> str:
    value = figures[name]
    return "none" if value is None else f"{value:.3f}"


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ChainFileError(f"{path}: cannot be read as CSV or gzipped CSV: {error}") from error
    reader = csv.DictReader(io.StringIO(text))
    missing = [name for name in _NEEDED_COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise ChainFileError(
            f"{path}: not a chain snapshot, columns missing: {', '.join(missing)};"
            f" found: {', '.join(reader.fieldnames or ()) or 'none'}"
        )
    rows = list(reader)
    if not rows:
        raise ChainFileError(f"{path}: the snapshot holds no option rows")
    return rows


def _chain(underlying: str, rows: list[dict[str, str]], path: Path) -> Chain:
    by_expiry: dict[int, list[tuple[float, float, bool, float, float, float]]] = {}
    now_ns = 0
    for number, row in enumerate(rows, start=2):
        if row["currency"] != underlying:
            continue
        try:
            now_ns = max(now_ns, _moment_ns(row["timestamp"]))
            forward = float(row["underlying"])
            quote = (
                forward,
                float(row["strike"]),
                row["option_type"] == "call",
                float(row["bid_price"] or 0.0) * forward,
                float(row["ask_price"] or 0.0) * forward,
                float(row.get("implied_volatility") or math.nan),
            )
            expiry_ns = _moment_ns(row["expiry_datetime"])
        except (TypeError, ValueError) as error:
            raise ChainFileError(f"{path}, line {number}: {error}; expected an option") from error
        by_expiry.setdefault(expiry_ns, []).append(quote)
    columns = {ns: tuple(zip(*quotes, strict=True)) for ns, quotes in sorted(by_expiry.items())}
    return Chain(
        underlying,
        now_ns,
        tuple(ExpiryQuotes(ns, *column[:5]) for ns, column in columns.items()),
        tuple(column[5] for column in columns.values()),
    )


def _moment_ns(text: str) -> int:
    """An ISO moment with zone as integer nanoseconds."""
    moment = dt.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"moment {text!r} has no time zone")
    return (moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1) * 1000


def _measure(request: FitRequest, outcome: FitOutcome, chain: Chain, folds: int) -> Sample:
    """Errors and inside flags of every quote, sorted into core, short and wings."""
    by_expiry = {
        item.expiry_ns: (item, np.array(marks))
        for item, marks in zip(chain.expiries, chain.mark_vol, strict=True)
    }
    fitted = fitted_quotes(request)
    nothing = tuple(np.empty(0) for _ in fitted)
    held_out = hold_out_errors(request, folds) if folds else nothing
    parts: list[tuple[FloatArray | BoolArray, ...]] = []
    for (expiry_ns, quotes), slice_, unseen in zip(
        fitted, outcome.surface.slices, held_out, strict=True
    ):
        listed, marks = by_expiry[expiry_ns]
        vols = slice_vols(quotes.k, slice_)
        error = 100.0 * (vols - quotes.mid_vol)
        inside, near = _inside(vols, quotes, listed, slice_)
        ratio = (np.array(listed.strike) / np.array(listed.forward))[quotes.source]
        core, short, wing = _classes(quotes, ratio, marks[quotes.source], slice_.tte_years)
        parts.append(
            (
                error[core],
                inside[core],
                error[short],
                inside[short],
                near[wing],
                100.0 * unseen[core] if folds else unseen,
            )
        )
    return Sample(*(_pooled(parts, column) for column in range(6)))


def _pooled(parts: list[tuple[FloatArray | BoolArray, ...]], column: int) -> Any:
    """One column of all expiries; flags keep their type even when there is no expiry at all."""
    empty: Any = np.empty(0, dtype=np.bool_ if column in _FLAG_COLUMNS else np.float64)
    return np.concatenate([empty, *(part[column] for part in parts)])


def _classes(
    quotes: SliceQuotes, ratio: FloatArray, marks: FloatArray, tte_years: float
) -> tuple[BoolArray, BoolArray, BoolArray]:
    """Core, short and wing masks of a slice's quotes; ratio is strike over forward."""
    vols = np.where(marks > 0.0, marks, quotes.mid_vol)
    size = np.abs(black76.greeks(1.0, ratio, tte_years, vols, ratio >= 1.0).delta)
    middle = (size >= CORE_DELTA_MIN) & (size <= CORE_DELTA_MAX)
    never = np.zeros(size.shape, dtype=np.bool_)
    if tte_years < DAY_YEARS:
        return never, middle, never
    return middle & (quotes.width <= CORE_WIDTH_MAX), never, size < CORE_DELTA_MIN


def _inside(
    vols: FloatArray, quotes: SliceQuotes, listed: ExpiryQuotes, slice_: SurfaceSlice
) -> tuple[BoolArray, BoolArray]:
    """Model price in coin within bid and ask, exactly and widened by half a tick."""
    forward = np.array(listed.forward)[quotes.source]
    model = (
        black76.price(
            forward,
            np.array(listed.strike)[quotes.source],
            slice_.tte_years,
            vols,
            np.array(listed.is_call)[quotes.source],
        )
        / forward
    )
    bid = np.array(listed.bid_usd)[quotes.source] / forward
    ask = np.array(listed.ask_usd)[quotes.source] / forward
    half = 0.5 * np.where(model >= TICK_STEP_ABOVE_COIN, TICK_ABOVE_COIN, TICK_BELOW_COIN)
    return (model >= bid) & (model <= ask), (model >= bid - half) & (model <= ask + half)


def _summary(judged: Judged) -> dict[str, Any]:
    sample = judged.sample
    return {
        "options": int(sample.core_error.size),
        "rms_vol_points": rms(sample.core_error),
        "inside_bid_ask": share(sample.core_inside),
        "short_rms_vol_points": rms(sample.short_error),
        "short_inside_bid_ask": share(sample.short_inside),
        "wings_inside_half_tick": share(sample.wing_inside),
        "holdout_rms_vol_points": rms(sample.hold_out_error),
        "violations": judged.outcome.arbitrage.violations,
        "seconds": judged.seconds,
        "expiries": [_expiry(item) for item in judged.outcome.surface.slices],
        "expiries_without_fit": [_date(ns) for ns in judged.outcome.unfitted_ns],
    }


def _expiry(item: SurfaceSlice) -> dict[str, Any]:
    return {
        "expiry": _date(item.expiry_ns),
        "days": item.tte_years * 365.0,
        "forward": item.forward,
        "atm_vol": item.atm_vol(),
        "skew": item.atm_skew(),
        "quotes": item.quotes,
        "rms_vol_points": item.rms_vol_points,
        "inside_bid_ask": item.inside_share,
        "svi": msgspec.structs.asdict(item.svi),
    }


def _date(moment_ns: int) -> str:
    return dt.datetime.fromtimestamp(moment_ns / 1e9, tz=dt.UTC).strftime("%Y-%m-%dT%H:%MZ")


def rms(values: FloatArray) -> float | None:
    """Root mean square; None for an empty sample."""
    return math.sqrt(float((values * values).mean())) if values.size else None


def share(flags: BoolArray) -> float | None:
    """Share of true flags; None for an empty sample."""
    return float(flags.mean()) if flags.size else None
