"""After warming, no kernel that Python calls is left to compile, and scipy was not needed."""

import importlib
import subprocess
import sys

import pytest

from mm_daemon.pricing.warm import warm_kernels

ENTRIES = {
    "arbitrage": ("_check_into",),
    "black76": ("greeks_into", "price_into", "second_order_into"),
    "forward": ("_parity", "_blend", "_lower_rungs", "_fast_forwards_into"),
    "implied_vol": ("implied_vol_into",),
    "scenario": ("unit_pnl_into", "book_pnl_into", "worst_after_trade"),
    "surface": ("chain_vols_into", "_chain_skews_into", "_at_the_money_into"),
    "svi": ("g_into", "_derivatives_into"),
    "valuation": ("value_into", "_minimum_variance_into"),
}


@pytest.mark.parametrize("module", ENTRIES)
def test_every_entry_kernel_is_compiled_after_warming(module: str) -> None:
    warm_kernels()
    room = importlib.import_module(f"mm_daemon.pricing.{module}")
    assert [name for name in ENTRIES[module] if not getattr(room, name).signatures] == []


@pytest.mark.parametrize("module", ENTRIES)
def test_every_kernel_that_fills_an_array_is_listed(module: str) -> None:
    room = importlib.import_module(f"mm_daemon.pricing.{module}")
    own = [
        name
        for name, value in vars(room).items()
        if hasattr(value, "py_func") and value.py_func.__module__ == room.__name__
    ]
    assert [name for name in own if name.endswith("_into") and name not in ENTRIES[module]] == []


def test_evaluation_never_loads_the_fitting_library() -> None:
    """numba looks at scipy's version by itself; its solvers must stay out of the hot process."""
    program = (
        "import sys; from mm_daemon.pricing import warm, skew_stickiness, surface_gate;"
        "warm.warm_kernels(); sys.exit('scipy.optimize' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
