"""What we want to quote: both sides of every option, with the reason where a side is not quoted.

The quoter keeps the trader's settings as columns, the sides that controls hold back, and what each
resting quote was approved on. The choice itself is one kernel call for all options that changed; an
explanation runs the same kernel on one option and keeps its candidates, so that what is explained
is what was done. The quoter sends nothing and knows no credits; the scheduler does.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import msgspec
import numpy as np

from mm_daemon.core.catalog import Bools, Catalog, Floats, Ints
from mm_daemon.core.knobs import Knobs
from mm_daemon.core.quote_choice import approve_into, block_into, choose_into
from mm_daemon.core.quote_kernel import others_touch
from mm_daemon.core.quote_terms import (
    APPROVED_ROWS,
    ASK,
    BASIS_ROWS,
    BID,
    C_EXPIRY_NS,
    C_TICK_ABOVE,
    C_TICK_STEP,
    CANDIDATES_MAX,
    CONTRACT_INT_ROWS,
    L_LEAN,
    L_OWN_SIZE,
    MONEY_ROWS,
    P_BLACKLISTED,
    P_DELTA_MAX,
    P_DELTA_MIN,
    P_EDGE_MIN_TICKS,
    P_EXPIRY_MAX_NS,
    P_GAIN_MIN_USD,
    P_LEAN_CAP,
    P_LEAN_RATIO,
    P_LEVELS_BACK,
    P_LOTS_NEAR,
    P_LOTS_WING,
    P_PULL_FRACTION,
    P_STOP_NS,
    P_WIDTH,
    P_WING_DELTA,
    POLICY_ROWS,
    Q_LOTS,
    Q_REASON,
    Q_TICKS,
    QUOTE_ROWS,
    T_FEE_CAP,
    T_FEE_MAKER,
    T_LOT,
    T_TICK,
    TERMS_ROWS,
    TRACE_FIELDS,
    CostMatrices,
    LiveColumns,
    Reason,
    TouchMatrices,
    WantedColumns,
)
from mm_daemon.core.theo import TheoBoard
from mm_daemon.domain.params import UnderlyingParams
from mm_daemon.domain.units import NS_PER_DAY, NS_PER_S, Ns

_NO_TRACE: Floats = np.empty((2, 0, len(TRACE_FIELDS)))


class SideExplanation(msgspec.Struct, frozen=True):
    """One side's choice with every candidate price and its terms, most aggressive first."""

    ticks: int
    lots: int
    reason: str
    value_usd_per_hour: float
    gain_usd_per_hour: float
    edge_usd: float
    touch_ticks: int
    """Best price of others on this side as the choice saw it; 0 = none."""
    touch_amount: float
    candidates: tuple[dict[str, float], ...]


class Explanation(msgspec.Struct, frozen=True):
    """Why an option is quoted as it is; money in the option's price unit unless named otherwise."""

    instrument: str
    theo: float
    vol: float
    forward: float
    delta: float
    lean: float
    own_size: float
    settings: dict[str, float]
    bid: SideExplanation
    ask: SideExplanation


class Quoter:
    """Wanted quotes, settings and holds, as columns by instrument id."""

    wanted: WantedColumns
    """The last choice of every option; UNDECIDED where none was made yet."""

    def __init__(self, catalog: Catalog) -> None:
        self._size = 0
        self._widen: Floats = np.empty(0)
        self._settings: Floats = np.zeros((POLICY_ROWS, 0))
        self._policy: Floats = self._settings
        self._held: Ints = np.zeros((2, 0), dtype=np.int64)
        self._unfitted: Bools = np.zeros(0, dtype=np.bool_)
        self._basis: Floats = np.full((BASIS_ROWS, 2, 0), np.nan)
        self.approved: Floats = np.full((APPROVED_ROWS, 0), np.nan)
        """Rows theo, edge (price units): what each option's resting quotes were last approved on,
        when sent or found still right; a control on moved theos judges them by it."""
        self._quotes, self._money, self._is_stale = _no_wants(0)
        self.resize(catalog)

    def resize(self, catalog: Catalog) -> None:
        """Grow to a larger catalogue. `apply_settings` must follow: new options have none."""
        old, new = self._size, len(catalog)
        quotes, money, is_stale = _no_wants(new)
        quotes[..., :old] = self._quotes
        money[..., :old] = self._money
        is_stale[:, :old] = self._is_stale
        self._quotes, self._money, self._is_stale = quotes, money, is_stale
        self.wanted = _columns(quotes, money, is_stale)
        held, basis = self._held, self._basis
        self._held = np.zeros((2, new), dtype=np.int64)
        self._held[:, :old] = held
        self._basis = np.full((BASIS_ROWS, 2, new), np.nan)
        self._basis[..., :old] = basis
        approved = np.full((APPROVED_ROWS, new), np.nan)
        approved[:, :old] = self.approved
        self.approved = approved
        unfitted = np.zeros(new, dtype=np.bool_)
        unfitted[:old] = self._unfitted
        self._unfitted = unfitted
        self._changed: Ints = np.empty(new, dtype=np.int64)
        widen = self._widen
        self._widen = np.ones(new)
        self._widen[:old] = widen
        settings = self._settings
        self._settings = np.zeros((POLICY_ROWS, new))
        self._settings[P_BLACKLISTED] = 1.0
        self._settings[:, :old] = settings
        self._policy = self._settings.copy()
        terms = np.zeros((TERMS_ROWS, new))
        terms[T_TICK] = catalog.tick
        terms[T_LOT] = catalog.lot
        terms[T_FEE_MAKER] = catalog.fee_maker
        terms[T_FEE_CAP] = catalog.fee_cap
        integers = np.zeros((CONTRACT_INT_ROWS, new), dtype=np.int64)
        integers[C_EXPIRY_NS] = catalog.expiry_ns
        integers[C_TICK_ABOVE] = catalog.tick_above
        integers[C_TICK_STEP] = catalog.tick_step
        self._contract_ints: Ints = integers
        self._is_inverse: Bools = catalog.is_inverse
        self._terms: Floats = terms
        self._names = tuple(instrument.name for instrument in catalog.instruments)
        self._size = new

    def apply_settings(
        self, catalog: Catalog, params: Iterable[UnderlyingParams], knobs: Knobs
    ) -> None:
        """Put parameters and knobs into columns; an underlying without parameters is barred."""
        self._settings[P_BLACKLISTED] = 1.0
        for underlying in params:
            for expiry in catalog.expiries[underlying.name]:
                column = _settings_of(underlying, knobs, expiry.expiry_ns, "")
                self._settings[:, expiry.ids] = column[:, np.newaxis]
            for name in knobs.instruments():
                i = catalog.id_of[name]
                item = catalog.instruments[i]
                if item.is_option and item.underlying == underlying.name:
                    column = _settings_of(underlying, knobs, item.expiry_ns, name)
                    self._settings[:, i] = column
        self._widened()

    def widen(self, ids: Ints, multiplier: float) -> None:
        """Multiply width and minimum edge of these options; 1.0 is back to normal."""
        assert multiplier >= 1.0, f"a control may widen and never narrow, found {multiplier}"
        self._widen[ids] = multiplier
        self._widened()

    def set_unfitted(self, ids: Ints) -> None:
        """These options, and no others, wait for a fitted slice of their own."""
        self._unfitted[:] = False
        self._unfitted[ids] = True

    def set_blocked(self, bid: Bools, ask: Bools) -> Ints:
        """Bar exactly these sides (n,) for the controls; returns the options whose bar changed."""
        count = block_into(bid, ask, self._unfitted, self._held, self._changed)
        return self._changed[:count].copy()

    def choose(
        self,
        ids: Ints,
        touch: TouchMatrices,
        rests: LiveColumns,
        asked: LiveColumns,
        costs: CostMatrices,
        board: TheoBoard,
        now_ns: Ns,
        *,
        lots_ratio: float = 1.0,
        credit_price_usd: float = 0.0,
    ) -> None:
        """Decide both sides of every id into `wanted`.

        rests: quotes believed at the venue; asked: the newest terms sent. credit_price_usd: what a
        message side is worth elsewhere, USD an hour; a quote moves only for more than that.
        """
        choose_into(
            ids,
            now_ns,
            lots_ratio,
            credit_price_usd,
            *touch,
            *rests,
            *asked,
            *costs,
            self._contract_ints,
            self._is_inverse,
            self._terms,
            board.columns,
            self._policy,
            self._held,
            self._basis,
            self._quotes,
            self._money,
            self._is_stale,
            self.approved,
            _NO_TRACE,
        )

    def approve(self, ids: Ints, board: TheoBoard) -> None:
        """Remember what the wanted quotes of these ids were decided on; call as they are sent."""
        approve_into(
            ids,
            board.columns,
            self._quotes,
            self._money,
            self._is_inverse,
            self._basis,
            self.approved,
        )

    def explain(
        self,
        instrument_id: int,
        touch: TouchMatrices,
        rests: LiveColumns,
        asked: LiveColumns,
        costs: CostMatrices,
        board: TheoBoard,
        now_ns: Ns,
        *,
        lots_ratio: float = 1.0,
        credit_price_usd: float = 0.0,
    ) -> Explanation:
        """The choice for one option with all its terms; changes nothing."""
        quotes, money, is_stale = _no_wants(self._size)
        wanted = _columns(quotes, money, is_stale)
        trace = np.full((2, CANDIDATES_MAX, len(TRACE_FIELDS)), np.nan)
        choose_into(
            np.array([instrument_id], dtype=np.int64),
            now_ns,
            lots_ratio,
            credit_price_usd,
            *touch,
            *rests,
            *asked,
            *costs,
            self._contract_ints,
            self._is_inverse,
            self._terms,
            board.columns,
            self._policy,
            self._held,
            self._basis.copy(),
            quotes,
            money,
            is_stale,
            self.approved.copy(),
            trace,
        )
        i = instrument_id
        return Explanation(
            instrument=self._names[i],
            theo=float(board.price[i]),
            vol=float(board.vol[i]),
            forward=float(board.forward[i]),
            delta=float(board.delta[i]),
            lean=float(costs.lean[L_LEAN, i]),
            own_size=float(costs.lean[L_OWN_SIZE, i]),
            settings=self.settings_of(i),
            bid=_explained(wanted, trace, 0, i, self._touch(touch, rests, BID, i)),
            ask=_explained(wanted, trace, 1, i, self._touch(touch, rests, ASK, i)),
        )

    def _touch(
        self, touch: TouchMatrices, rests: LiveColumns, side: int, i: int
    ) -> tuple[int, float]:
        """Best price and amount of others on one side."""
        own_amount = int(rests[2 * side + 1][i]) * float(self._terms[T_LOT, i])
        return others_touch(
            int(touch.ticks[side, i]),
            int(touch.ticks[2 + side, i]),
            float(touch.money[side, i]),
            int(rests[2 * side][i]),
            own_amount,
        )

    def settings_of(self, instrument_id: int) -> dict[str, float]:
        """The settings in force for one option, by name."""
        column = self._policy[:, instrument_id]
        return {
            "edge_min_ticks": float(column[P_EDGE_MIN_TICKS]),
            "width": float(column[P_WIDTH]),
            "lots_near": float(column[P_LOTS_NEAR]),
            "lots_wing": float(column[P_LOTS_WING]),
            "lean_ratio": float(column[P_LEAN_RATIO]),
            "lean_cap_inverse_k": float(column[P_LEAN_CAP]),
            "gain_min_usd_per_hour": float(column[P_GAIN_MIN_USD]),
            "blacklisted": float(column[P_BLACKLISTED]),
        }

    def digest(self) -> bytes:
        """16 bytes over wants, settings, holds and bases, equal for equal histories."""
        state = blake2b(digest_size=16)
        rows = (self._settings, self._held, self._basis, self._widen, self.approved)
        for column in (*self.wanted, *rows, self._unfitted):
            state.update(column.tobytes())
        return state.digest()

    def _widened(self) -> None:
        self._policy[:] = self._settings
        self._policy[P_WIDTH] *= self._widen


def _no_wants(size: int) -> tuple[Ints, Floats, Bools]:
    """Matrices of wanted quotes (3, 2, n), their money (3, 2, n) and staleness (2, n)."""
    quotes = np.zeros((QUOTE_ROWS, 2, size), dtype=np.int64)
    quotes[Q_REASON] = Reason.UNDECIDED
    return quotes, np.zeros((MONEY_ROWS, 2, size)), np.zeros((2, size), dtype=np.bool_)


def _columns(quotes: Ints, money: Floats, is_stale: Bools) -> WantedColumns:
    return WantedColumns(quotes[Q_TICKS], quotes[Q_LOTS], quotes[Q_REASON], money, is_stale)


def _settings_of(params: UnderlyingParams, knobs: Knobs, expiry_ns: int, instrument: str) -> Floats:
    """The column of settings of one expiry, or of one option in it."""
    quoting = params.quoting

    def knob(name: str, default: float) -> float:
        return knobs.value(
            name, default, underlying=params.name, expiry_ns=expiry_ns, instrument=instrument
        )

    size_ratio = knob("size_ratio", 1.0)
    column = np.zeros(POLICY_ROWS)
    column[P_EDGE_MIN_TICKS] = knob("edge_min_ticks", quoting.edge_min_ticks)
    column[P_WIDTH] = knob("width", quoting.width_multiplier)
    column[P_LEVELS_BACK] = quoting.levels_back_max
    column[P_LOTS_NEAR] = round(quoting.size_lots_near * size_ratio)
    column[P_LOTS_WING] = round(quoting.size_lots_wing * size_ratio)
    column[P_WING_DELTA] = quoting.wing_delta
    column[P_GAIN_MIN_USD] = quoting.requote_gain_min_usd
    column[P_PULL_FRACTION] = quoting.pull_edge_fraction
    column[P_STOP_NS] = quoting.stop_before_expiry_s * NS_PER_S
    column[P_EXPIRY_MAX_NS] = quoting.expiry_days_max * NS_PER_DAY
    column[P_DELTA_MIN] = quoting.delta_abs_min
    column[P_DELTA_MAX] = quoting.delta_abs_max
    column[P_LEAN_RATIO] = knob("lean_ratio", 1.0)
    column[P_LEAN_CAP] = params.skew.lean_cap_inverse_k
    column[P_BLACKLISTED] = knob("blacklist", 0.0)
    return column


def _explained(
    wanted: WantedColumns, trace: Floats, side: int, i: int, touch: tuple[int, float]
) -> SideExplanation:
    rows = trace[side][~np.isnan(trace[side, :, 0])]
    return SideExplanation(
        ticks=int(wanted.ticks[side, i]),
        lots=int(wanted.lots[side, i]),
        reason=Reason(int(wanted.reason[side, i])).name.lower(),
        value_usd_per_hour=float(wanted.money[0, side, i]),
        gain_usd_per_hour=float(wanted.money[1, side, i]),
        edge_usd=float(wanted.money[2, side, i]),
        touch_ticks=touch[0],
        touch_amount=touch[1],
        candidates=tuple(
            dict(zip(TRACE_FIELDS, (float(value) for value in row), strict=True)) for row in rows
        ),
    )
