"""Every planted fault, room by room."""

from __future__ import annotations

from tests.mutants.mutant import Mutant
from tests.mutants.rows_guard import GUARD_MUTANTS
from tests.mutants.rows_kernel import KERNEL_MUTANTS
from tests.mutants.rows_lives import LIFE_MUTANTS
from tests.mutants.rows_ops import OPS_MUTANTS
from tests.mutants.rows_orders import ORDER_MUTANTS
from tests.mutants.rows_risk import RISK_MUTANTS
from tests.mutants.rows_simulation import SIMULATION_MUTANTS
from tests.mutants.rows_valuation import VALUATION_MUTANTS
from tests.mutants.rows_venues import VENUE_MUTANTS

MUTANTS: tuple[Mutant, ...] = (
    *KERNEL_MUTANTS,
    *ORDER_MUTANTS,
    *RISK_MUTANTS,
    *GUARD_MUTANTS,
    *OPS_MUTANTS,
    *LIFE_MUTANTS,
    *VENUE_MUTANTS,
    *SIMULATION_MUTANTS,
    *VALUATION_MUTANTS,
)
