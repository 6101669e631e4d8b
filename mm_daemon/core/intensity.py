"""How often a quote fills at a distance, and what a fill costs: by models, else by a rule.

    ln lambda(d) = ln_a - k d          fills per day of one side, d in half-spreads from the middle

The fill model gives (ln_a, ln k), the spread model the expected adverse move after a fill in
half-spreads. Both answer late, wrongly or not at all now and then; each row that is not finite, out
of range or too old is replaced by the analytic policy, and the reason is counted by underlying. So
the quoter always finds numbers here and never asks where they come from.
"""

from __future__ import annotations

import math
from collections import deque
from enum import Enum
from hashlib import blake2b

import msgspec
import numpy as np

from mm_daemon.core.catalog import Bools, Catalog, Floats, Ints
from mm_daemon.core.quote_terms import I_ADVERSE, I_K, I_LN_A, INTENSITY_ROWS
from mm_daemon.core.theo import DELTA, TheoBoard
from mm_daemon.domain.inputs import InferenceAnswer
from mm_daemon.domain.params import IntensityParams, ModelSlot
from mm_daemon.domain.units import NS_PER_MS, NS_PER_S, Ns
from mm_daemon.pricing.arrays import kernel

LN_A_MIN, LN_A_MAX = -10.0, 12.0
LN_K_MIN, LN_K_MAX = -3.0, 3.0
ADVERSE_MIN, ADVERSE_MAX = -1.0, 5.0
"""Outside these a model is extrapolating: e^12 fills a day is one every half second."""
OPEN_ASKS_MAX = 16
FAULT_WINDOW_NS = 60 * NS_PER_S
FAULTS_MAX = 1_024
FAULT_SHARE = 0.5
"""An answer with more rows than this of no use is a fault of the model; fewer are single options
outside what it knows."""
ACTIVITY_DELTA = 0.25
"""At and above this out-of-the-money delta an option trades as often as at the money."""
ACTIVITY_MIN = 0.05
ACTIVITY_IN_THE_MONEY = 0.2
"""Options in the money are 15 % of the flow."""


class Model(Enum):
    """What a slot answers; the value is the name in asks."""

    FILL = "fill"
    SPREAD = "spread"


_COLUMNS = {Model.FILL: 2, Model.SPREAD: 1}


class Fallback(Enum):
    """Why the analytic policy stands in for a model."""

    ABSENT = "absent"
    ERROR = "error"
    LATE = "late"
    SHAPE = "shape"
    NOT_FINITE = "not_finite"
    OUT_OF_RANGE = "out_of_range"
    TOO_OLD = "too_old"
    SWITCHED_OFF = "switched_off"
    UNANSWERED = "unanswered"


FALLBACK_LABELS = {
    Fallback.ABSENT: "absent",
    Fallback.SWITCHED_OFF: "absent",
    Fallback.ERROR: "error",
    Fallback.SHAPE: "error",
    Fallback.LATE: "late",
    Fallback.UNANSWERED: "late",
    Fallback.NOT_FINITE: "non_finite",
    Fallback.OUT_OF_RANGE: "out_of_range",
    Fallback.TOO_OLD: "stale",
}
"""The label of each reason in the metrics."""


class _Ask(msgspec.Struct, frozen=True):
    model: Model
    underlying: str
    ids: Ints
    asked_ns: int


class Intensity:
    """Intensity parameters by instrument and side: `columns` (3, 2, n), rows ln_a, k, adverse."""

    def __init__(self, catalog: Catalog, fill: ModelSlot | None, spread: ModelSlot | None) -> None:
        self._slots = {Model.FILL: fill, Model.SPREAD: spread}
        self._off: dict[Model, bool] = {Model.FILL: False, Model.SPREAD: False}
        self._asks: dict[int, _Ask] = {}
        self._asked_ns: dict[tuple[str, str], int] = {}
        self._distrusted: dict[str, bool] = {}
        """Underlyings whose models are asked and judged, and not used (C17)."""
        self._good_ns: dict[tuple[str, str], int] = {}
        """When a model last gave an answer of use, by (model, underlying); before the first, when
        it was first asked."""
        self._faults: dict[str, deque[int]] = {}
        self.fallbacks: dict[tuple[str, str, str], int] = {}
        """Rows or answers replaced, by (underlying, model, reason)."""
        self.columns: Floats = np.zeros((INTENSITY_ROWS, 2, 0))
        self._analytic: Floats = self.columns
        self._model: Floats = self.columns
        self._answered_ns: Ints = np.zeros((2, 0), dtype=np.int64)
        self.resize(catalog)

    def resize(self, catalog: Catalog) -> None:
        """Grow to a larger catalogue; new options have NaN until the analytic policy is set."""
        self._underlying_of = [instrument.underlying for instrument in catalog.instruments]
        old, new = self.columns.shape[2], len(catalog)
        for name in ("columns", "_analytic", "_model"):
            grown = np.full((INTENSITY_ROWS, 2, new), np.nan)
            grown[..., :old] = getattr(self, name)
            setattr(self, name, grown)
        answered = np.zeros((2, new), dtype=np.int64)
        answered[:, :old] = self._answered_ns
        self._answered_ns = answered

    def set_analytic(self, ids: Ints, params: IntensityParams, board: TheoBoard) -> None:
        """Recompute the analytic policy of these options from their deltas."""
        _analytic_into(
            ids,
            board.columns,
            params.fills_per_day_atm,
            params.k_per_half_spread,
            params.adverse_half_spread_ratio,
            self._analytic,
        )

    def switch(self, model: Model, is_on: bool) -> None:
        """Drift or an operator takes a model out of use, or puts it back."""
        self._off[model] = not is_on

    def distrust(self, underlying: str, is_distrusted: bool) -> None:
        """A control takes the models of one underlying out of use, or puts them back. They go on
        being asked, because only good answers show that they may come back."""
        self._distrusted[underlying] = is_distrusted

    def faults(self, underlying: str, now_ns: Ns) -> int:
        """Answers of no use within the last minute: failed, late, or mostly unusable rows."""
        times = self._faults.get(underlying)
        while times and times[0] <= now_ns - FAULT_WINDOW_NS:
            times.popleft()
        return len(times) if times else 0

    def worst_age_ns(self, underlying: str, now_ns: Ns) -> int:
        """Since the last answer of use, of the model in use whose is the oldest; 0 where no model
        is in use or none was asked yet."""
        ages = [
            now_ns - self._good_ns[model.value, underlying]
            for model in Model
            if self._is_on(model) and (model.value, underlying) in self._good_ns
        ]
        return max(ages, default=0)

    def is_due(self, model: Model, underlying: str, now_ns: Ns) -> bool:
        """Whether a model should be asked again about this underlying."""
        slot = self._slots[model]
        if slot is None or self._off[model] or len(self._asks) >= OPEN_ASKS_MAX:
            return False
        last_ns = self._asked_ns.get((model.value, underlying), 0)
        return now_ns - last_ns >= slot.refresh_ms * NS_PER_MS

    def next_due_ns(self, underlyings: tuple[str, ...]) -> Ns | None:
        """When the first model is due again, None where no model is in use."""
        dues = [
            self._asked_ns.get((model.value, underlying), 0) + slot.refresh_ms * NS_PER_MS
            for model, slot in self._slots.items()
            if slot is not None and not self._off[model]
            for underlying in underlyings
        ]
        return Ns(min(dues)) if dues else None

    def on_asked(self, ask_id: int, model: Model, underlying: str, ids: Ints, now_ns: Ns) -> None:
        """An ask for the rows of `FeatureBoard.build(ids)` has left."""
        self._drop_unanswered(now_ns)
        self._asks[ask_id] = _Ask(model, underlying, ids, now_ns)
        self._good_ns.setdefault((model.value, underlying), now_ns)
        self._asked_ns[model.value, underlying] = now_ns

    def on_answer(self, answer: InferenceAnswer, now_ns: Ns) -> Fallback | None:
        """Take in an answer; the reason where all of it was refused."""
        ask = self._asks.pop(answer.ask_id, None)
        if ask is None:
            return Fallback.UNANSWERED
        slot = self._slots[ask.model]
        refused: Fallback | None = None
        rows = 2 * ask.ids.size
        if answer.error:
            refused = Fallback.ERROR
        elif slot is None or self._off[ask.model]:
            refused = Fallback.SWITCHED_OFF
        elif answer.duration_ns > slot.deadline_ms * NS_PER_MS:
            refused = Fallback.LATE
        elif answer.columns != _COLUMNS[ask.model] or len(answer.outputs) != 4 * rows * (
            answer.columns
        ):
            refused = Fallback.SHAPE
        if refused is not None:
            self._count(ask, refused, 1)
            if refused is not Fallback.SWITCHED_OFF:
                self._note_fault(ask, now_ns)
            return refused
        outputs = np.frombuffer(answer.outputs, dtype="<f4").astype(np.float64)
        accept = _accept_fill if ask.model is Model.FILL else _accept_spread
        row = 0 if ask.model is Model.FILL else 1
        not_finite, out_of_range = accept(
            ask.ids, outputs, now_ns, self._model, self._answered_ns[row]
        )
        self._count(ask, Fallback.NOT_FINITE, not_finite)
        self._count(ask, Fallback.OUT_OF_RANGE, out_of_range)
        if not_finite + out_of_range > FAULT_SHARE * rows:
            self._note_fault(ask, now_ns)
        else:
            self._good_ns[ask.model.value, ask.underlying] = now_ns
        return None

    def compose(self, underlying: str, ids: Ints, now_ns: Ns, *, age_ns_max: int) -> None:
        """Put together what the quoter reads: model rows young enough, else the analytic ones."""
        used = [self.is_used(model, underlying) for model in Model]
        uses = np.array(used, dtype=np.bool_)
        stood_in = _compose_into(
            ids,
            now_ns,
            age_ns_max,
            uses,
            self._model,
            self._analytic,
            self._answered_ns,
            self.columns,
        )
        for model, count in zip(Model, stood_in, strict=True):
            if self._is_on(model) and count:
                is_off = self._distrusted.get(underlying, False)
                reason = Fallback.SWITCHED_OFF if is_off else Fallback.TOO_OLD
                key = (underlying, model.value, reason.value)
                self.fallbacks[key] = self.fallbacks.get(key, 0) + int(count)

    def is_from_model(self, model: Model, instrument_id: int, now_ns: Ns, age_ns_max: int) -> bool:
        """Whether an option's numbers come from this model now; for explanations."""
        row = 0 if model is Model.FILL else 1
        age_ns = now_ns - int(self._answered_ns[row, instrument_id])
        is_used = self.is_used(model, self._underlying_of[instrument_id])
        return is_used and age_ns <= age_ns_max

    def is_used(self, model: Model, underlying: str) -> bool:
        """Whether a model's rows are used where they are young enough."""
        return self._is_on(model) and not self._distrusted.get(underlying, False)

    def age_ns(self, model: Model, now_ns: Ns) -> int:
        """Age of the newest row taken from a model; the age of the epoch before the first."""
        row = 0 if model is Model.FILL else 1
        answered = self._answered_ns[row]
        return now_ns - (int(answered.max()) if answered.size else 0)

    def digest(self) -> bytes:
        """16 bytes over all numbers and open asks, equal for equal histories."""
        state = blake2b(digest_size=16)
        for column in (self.columns, self._analytic, self._model, self._answered_ns):
            state.update(column.tobytes())
        asks = [
            (ask_id, ask.model.value, ask.underlying, ask.asked_ns, ask.ids.tolist())
            for ask_id, ask in self._asks.items()
        ]
        off = [model.value for model, is_off in self._off.items() if is_off]
        faults = [(name, list(times)) for name, times in self._faults.items()]
        words = (asks, self._asked_ns, off, self.fallbacks, self._distrusted, self._good_ns, faults)
        state.update(repr(words).encode())
        return state.digest()

    def _is_on(self, model: Model) -> bool:
        return self._slots[model] is not None and not self._off[model]

    def _drop_unanswered(self, now_ns: Ns) -> None:
        """An ask that was never answered does not hold its place for ever."""
        for ask_id, ask in list(self._asks.items()):
            slot = self._slots[ask.model]
            if slot is None or now_ns - ask.asked_ns > 10 * slot.deadline_ms * NS_PER_MS:
                self._count(ask, Fallback.UNANSWERED, 1)
                self._note_fault(ask, now_ns)
                del self._asks[ask_id]

    def _note_fault(self, ask: _Ask, now_ns: Ns) -> None:
        self._faults.setdefault(ask.underlying, deque(maxlen=FAULTS_MAX)).append(now_ns)

    def _count(self, ask: _Ask, reason: Fallback, rows: int) -> None:
        if rows:
            key = (ask.underlying, ask.model.value, reason.value)
            self.fallbacks[key] = self.fallbacks.get(key, 0) + int(rows)


@kernel
def activity(delta: float) -> float:
    """Share of an at-the-money option's flow that an option of this delta sees."""
    size = abs(delta)
    ratio = math.sqrt(min(min(size, 1.0 - size) / ACTIVITY_DELTA, 1.0))
    if size > 0.5:
        # From the money inwards the flow fades to its in-the-money share within a tenth of delta.
        ratio *= max(1.0 - (size - 0.5) * (1.0 - ACTIVITY_IN_THE_MONEY) / 0.1, 0.2)
    return max(ratio, ACTIVITY_MIN)


@kernel
def _analytic_into(
    ids: Ints, board: Floats, fills: float, k: float, adverse: float, out: Floats
) -> None:
    for i in ids:
        # The parameter is stated at the touch, one half-spread from the middle.
        ln_a = math.log(fills * activity(board[DELTA, i])) + k
        for side in range(2):
            out[I_LN_A, side, i] = ln_a
            out[I_K, side, i] = k
            out[I_ADVERSE, side, i] = adverse


@kernel
def _accept_fill(
    ids: Ints, outputs: Floats, now_ns: int, model: Floats, answered_ns: Ints
) -> tuple[int, int]:
    """Take rows (ln_a, ln k) of bids, then asks; an option is taken only with both sides."""
    n = ids.size
    not_finite, out_of_range = 0, 0
    for position in range(n):
        i = ids[position]
        is_good = True
        for side in range(2):
            ln_a = outputs[2 * (position + side * n)]
            ln_k = outputs[2 * (position + side * n) + 1]
            if not math.isfinite(ln_a + ln_k):
                not_finite += 1
                is_good = False
            elif not (LN_A_MIN <= ln_a <= LN_A_MAX and LN_K_MIN <= ln_k <= LN_K_MAX):
                out_of_range += 1
                is_good = False
        answered_ns[i] = now_ns if is_good else 0
        if is_good:
            for side in range(2):
                model[I_LN_A, side, i] = outputs[2 * (position + side * n)]
                model[I_K, side, i] = math.exp(outputs[2 * (position + side * n) + 1])
    return not_finite, out_of_range


@kernel
def _accept_spread(
    ids: Ints, outputs: Floats, now_ns: int, model: Floats, answered_ns: Ints
) -> tuple[int, int]:
    """Take rows (adverse half-spreads) of bids, then asks."""
    n = ids.size
    not_finite, out_of_range = 0, 0
    for position in range(n):
        i = ids[position]
        is_good = True
        for side in range(2):
            adverse = outputs[position + side * n]
            if not math.isfinite(adverse):
                not_finite += 1
                is_good = False
            elif not ADVERSE_MIN <= adverse <= ADVERSE_MAX:
                out_of_range += 1
                is_good = False
        answered_ns[i] = now_ns if is_good else 0
        if is_good:
            for side in range(2):
                model[I_ADVERSE, side, i] = outputs[position + side * n]
    return not_finite, out_of_range


@kernel
def _compose_into(
    ids: Ints,
    now_ns: int,
    age_ns_max: int,
    uses: Bools,
    model: Floats,
    analytic: Floats,
    answered_ns: Ints,
    out: Floats,
) -> tuple[int, int]:
    """Fill the columns of these ids; how many options each model had to be replaced for."""
    stood_in_fill, stood_in_spread = 0, 0
    for i in ids:
        fill = uses[0] and answered_ns[0, i] > 0 and now_ns - answered_ns[0, i] <= age_ns_max
        spread = uses[1] and answered_ns[1, i] > 0 and now_ns - answered_ns[1, i] <= age_ns_max
        stood_in_fill += not fill
        stood_in_spread += not spread
        for side in range(2):
            chosen = model if fill else analytic
            out[I_LN_A, side, i] = chosen[I_LN_A, side, i]
            out[I_K, side, i] = chosen[I_K, side, i]
            out[I_ADVERSE, side, i] = (model if spread else analytic)[I_ADVERSE, side, i]
    return stood_in_fill, stood_in_spread
