"""Every scenario ends well: books equal, trades once, ids unique, nothing left at the venue."""

from __future__ import annotations

from pathlib import Path

import pytest

from mm_daemon.app_simulation import row_parts
from mm_daemon.run.simulation_rows import ROWS, run_row
from tests.simulation.rig import IS_LONG

OF_THEIR_OWN = ("expiry", "late_delivery")
SMALL = [name for name, row in ROWS.items() if not row.whole and name not in OF_THEIR_OWN]
"""Expiries have tests of their own in `test_accounts`."""
SEEDS = range(1, 21) if IS_LONG else (7,)


@pytest.mark.parametrize("name", SMALL)
def test_row_ends_without_a_violation(name: str, tmp_path: Path) -> None:
    row = ROWS[name]
    for seed in SEEDS:
        report = run_row(row, row_parts(row), seed=seed, directory=tmp_path / str(seed))
        assert report.violations == (), f"{name} seed {seed}"
        assert report.risk_frames > 0, f"{name} seed {seed}: nothing was ever quoted"
        assert report.open_orders == 0
