"""The surface on recorded chains meets its figures, and the report says what it measured.

Every fifth chain of the fortnight and the worst hour of its crash; all 55 with MM_ALL_CHAINS=1. The
hold-out, five more fits a chain, runs on every tenth, or all. The crash counts in the limits that
hold for every chain, and in the pooled ones when the pool is the whole fortnight.
"""

import gzip
import json
import math
import os
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest

from mm_daemon.pricing.implied_vol import implied_vol
from mm_daemon.pricing.surface_fit import FitRequest, fit_surface
from mm_daemon.research import surface_report as sr

CRASH = "20260205T212937Z"
IS_WHOLE = os.environ.get("MM_ALL_CHAINS") == "1"


def chain_files() -> list[Path]:
    default = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get("MM_REFERENCE_DATA", default)) / "deribit-chains"
    files = sorted(folder.glob("deribit_options_snapshot_*.csv.gz"))
    if not files:
        pytest.skip(f"reference data absent: {folder} (set MM_REFERENCE_DATA)")
    return files


@cache
def judged() -> dict[str, list[tuple[str, sr.Judged]]]:
    """Every chosen chain fitted once, by underlying."""
    found: dict[str, list[tuple[str, sr.Judged]]] = {}
    for number, file in enumerate(chain_files()):
        if not (IS_WHOLE or number % 5 == 0 or CRASH in file.name):
            continue
        for chain in sr.read_chains(file):
            item = sr.judge(chain, folds=5 if IS_WHOLE or number % 10 == 0 else 0)
            found.setdefault(chain.underlying, []).append((file.name, item))
    return found


def pooled(underlying: str, column: str) -> np.ndarray:
    return np.concatenate(
        [
            getattr(item.sample, column)
            for name, item in judged()[underlying]
            if IS_WHOLE or CRASH not in name
        ]
    )


BOTH = pytest.mark.parametrize("underlying", ["BTC", "ETH"])


@BOTH
def test_no_arbitrage_is_left_on_any_chain(underlying: str) -> None:
    left = {name: item.outcome.arbitrage.violations for name, item in judged()[underlying]}
    assert set(left.values()) == {0}, left


@BOTH
def test_core_error_is_small_pooled_and_on_every_chain(underlying: str) -> None:
    assert sr.rms(pooled(underlying, "core_error")) <= 0.40
    for name, item in judged()[underlying]:
        assert sr.rms(item.sample.core_error) <= 0.75, name


@pytest.mark.parametrize(("underlying", "share"), [("BTC", 0.93), ("ETH", 0.97)])
def test_model_prices_lie_inside_the_market(underlying: str, share: float) -> None:
    assert sr.share(pooled(underlying, "core_inside")) >= share
    for name, item in judged()[underlying]:
        assert sr.share(item.sample.core_inside) >= 0.80, name


@BOTH
def test_options_under_a_day_fit_too(underlying: str) -> None:
    assert sr.rms(pooled(underlying, "short_error")) <= 1.2
    assert sr.share(pooled(underlying, "short_inside")) >= 0.95


@BOTH
def test_wings_lie_within_half_a_tick_of_the_market(underlying: str) -> None:
    assert sr.share(pooled(underlying, "wing_inside")) >= 0.85


@BOTH
def test_held_out_strikes_are_predicted(underlying: str) -> None:
    assert sr.rms(pooled(underlying, "hold_out_error")) <= 0.5


@BOTH
def test_a_surface_six_hours_old_never_makes_the_next_one_worse(underlying: str) -> None:
    """Into and out of the crash, each fit given the one before it."""
    names = [file.name for file in chain_files()]
    crash = next(i for i, name in enumerate(names) if CRASH in name)
    previous = None
    for file in chain_files()[crash - 2 : crash + 3]:
        chain = next(c for c in sr.read_chains(file) if c.underlying == underlying)
        asked = FitRequest(underlying, chain.now_ns, chain.expiries)
        alone = fit_surface(asked)
        found = fit_surface(msgspec.structs.replace(asked, previous=previous))
        assert found.arbitrage.violations == 0
        fitted = {item.expiry_ns: item for item in found.surface.slices}
        squares = [
            sum(
                fitted[i.expiry_ns].rms_vol_points ** 2 * i.core_quotes
                for i in alone.surface.slices
            ),
            sum(i.rms_vol_points**2 * i.core_quotes for i in alone.surface.slices),
        ]
        # The fit minimises width-weighted error over wings too: its core rms may differ a little.
        assert squares[0] <= 1.1 * squares[1]
        previous = found.surface


@BOTH
def test_the_sample_is_the_one_defined(underlying: str) -> None:
    """Counted afresh from the file by plain Python, for one snapshot."""
    file = chain_files()[0]
    count = 0
    for chain in sr.read_chains(file):
        if chain.underlying != underlying:
            continue
        for quotes, marks in zip(chain.expiries, chain.mark_vol, strict=True):
            tte = (quotes.expiry_ns - chain.now_ns) / 1e9 / 86_400 / 365
            if tte < 1.0 / 365.0:
                continue
            columns = zip(
                quotes.forward,
                quotes.strike,
                quotes.is_call,
                quotes.bid_usd,
                quotes.ask_usd,
                marks,
                strict=True,
            )
            for f, k, is_call, bid, ask, mark in columns:
                if is_call != (k >= f) or not 0.0 < bid < ask:
                    continue
                sd = mark * math.sqrt(tte)
                d1 = math.log(f / k) / sd + 0.5 * sd
                delta = 0.5 * math.erfc(-d1 / math.sqrt(2.0)) - (0.0 if is_call else 1.0)
                low, high = (float(implied_vol(price, f, k, tte, is_call)) for price in (bid, ask))
                count += 0.05 <= abs(delta) <= 0.5 and high - low <= 0.10
    assert count == judged()[underlying][0][1].sample.core_error.size


def test_the_report_is_plain_json_with_the_agreed_names() -> None:
    report = sr.surface_report(chain_files()[0])
    assert json.loads(json.dumps(report)) == report
    assert sorted(report) == ["BTC", "ETH"]
    for figures in report.values():
        assert {
            "options",
            "rms_vol_points",
            "inside_bid_ask",
            "short_rms_vol_points",
            "short_inside_bid_ask",
            "wings_inside_half_tick",
            "holdout_rms_vol_points",
            "violations",
            "seconds",
            "expiries",
        } <= set(figures)
        assert figures["violations"] == 0
        assert 150 < figures["options"] < 300
        assert 8 <= len(figures["expiries"]) <= 13
    text = sr.render_text(report)
    assert "BTC:" in text
    assert text.count("2026-") >= 16


HEADER = (
    "timestamp,instrument_name,underlying,option_type,strike,expiry_datetime,"
    "bid_price,ask_price,currency\n"
)
ROW = "2026-02-01T00:00:00+00:00,X,80000.0,call,90000.0,2026-03-01T08:00:00+00:00,0.01,0.011,BTC\n"


def written(tmp_path: Path, text: str, *, zipped: bool = False) -> Path:
    path = tmp_path / "chain.csv"
    path.write_bytes(gzip.compress(text.encode()) if zipped else text.encode())
    return path


@pytest.mark.parametrize("zipped", [False, True])
def test_plain_and_gzipped_files_are_read_and_missing_marks_do_no_harm(
    tmp_path: Path, zipped: bool
) -> None:
    (chain,) = sr.read_chains(written(tmp_path, HEADER + ROW * 3, zipped=zipped))
    assert chain.underlying == "BTC"
    assert chain.expiries[0].bid_usd == (800.0,) * 3
    assert all(math.isnan(vol) for vol in chain.mark_vol[0])


def test_a_chain_too_thin_to_fit_reports_nothing_fitted(tmp_path: Path) -> None:
    report = sr.surface_report(written(tmp_path, HEADER + ROW))
    assert report["BTC"]["expiries"] == []
    assert report["BTC"]["options"] == 0
    assert report["BTC"]["rms_vol_points"] is None
    assert report["BTC"]["expiries_without_fit"] == ["2026-03-01T08:00Z"]
    assert "none" in sr.render_text(report)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "columns missing"),
        ("a,b\n1,2\n", "columns missing: timestamp"),
        (HEADER, "no option rows"),
        (HEADER + ROW.replace("90000.0", "ninety"), "line 2"),
        (HEADER + ROW.replace("+00:00", ""), "no time zone"),
    ],
)
def test_a_file_that_is_no_chain_is_refused_with_its_place(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(sr.ChainFileError, match=message) as caught:
        sr.read_chains(written(tmp_path, text))
    assert "chain.csv" in str(caught.value)


def test_an_unreadable_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(sr.ChainFileError, match=r"absent\.csv"):
        sr.read_chains(tmp_path / "absent.csv")
    broken = tmp_path / "broken.csv"
    broken.write_bytes(b"\x1f\x8bnot gzip")
    with pytest.raises(sr.ChainFileError, match=r"broken\.csv"):
        sr.read_chains(broken)
