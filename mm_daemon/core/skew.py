"""Inventory skew by Greek factors: how far each option leans against the book we hold.

    lean = Gamma q = B (G (B' q))

B holds each instrument's exposure to the factors, fresh from the theo board; G comes from compute
as an input. B is sparse (an option sees the vol of its own expiry, skew, wing, basis, gamma and the
return), so a lean for a thousand options is a few microseconds. What an option risks beyond the
factors enters as a scalar of its own: sqrt(g s^2 / 2D), on its own position, and together with the
diagonal of B G B' as the cost of its own size.

Exposure to the return is the premium-adjusted delta, whichever collateral is hedged: a fill of an
inverse option pays its premium in the coin. Where the coin that backs the account is hedged, it is
part of the book as it is for the hedger: its hedge alone would read as a position, and every quote
would lean against it.

A positive lean means that buying adds risk: both quotes go down. Money here is USD inside and price
units at the end. The lean is not capped here; its cap depends on the market's width, which the
quoting kernel knows.
"""

from __future__ import annotations

import math
from hashlib import blake2b

import msgspec
import numpy as np

from mm_daemon.core.catalog import Bools, Catalog, Floats, Ints
from mm_daemon.core.quote_terms import I_K, I_LN_A, L_LEAN, L_OWN_SIZE, LEAN_ROWS
from mm_daemon.core.skew_exchange import FACTORS_BESIDE_VEGA, FactorsRequest, FactorsResult
from mm_daemon.core.theo import DELTA, DELTA_ADJUSTED, FORWARD, GAMMA, VEGA, TheoBoard
from mm_daemon.domain.inputs import FactorsAnswer
from mm_daemon.domain.params import SkewParams
from mm_daemon.domain.units import NS_PER_S, Ns, tte_years
from mm_daemon.pricing.arrays import kernel

REBUILD_INTERVAL_NS = 30 * NS_PER_S
ASK_TIMEOUT_NS = 10 * NS_PER_S
RESIDUAL_VOL_RATIO = 0.25
"""Share of an expiry's vol-of-vol that moves one option alone."""
BASIS_TENOR_YEARS = 0.25
"""The basis factor is stated at three months and grows with tenor: it is a rate times time."""
_SKEW, _WING, _BASIS, _GAMMA, _RETURN = range(FACTORS_BESIDE_VEGA)
_SPARSE = 1 + FACTORS_BESIDE_VEGA
"""Numbers kept per instrument: its own expiry's vega, then the factors beside vega."""


class _Book:
    """One underlying: whose exposures are where, and the inner matrix that is in force."""

    def __init__(self, catalog: Catalog, underlying: str) -> None:
        expiries = catalog.expiries[underlying]
        members = [item.id for item in catalog.instruments if item.underlying == underlying]
        self.ids: Ints = np.array(members, dtype=np.int64)
        self.perpetual_id = catalog.perpetual[underlying]
        self.expiries_ns = tuple(expiry.expiry_ns for expiry in expiries)
        slots = {expiry_ns: e for e, expiry_ns in enumerate(self.expiries_ns)}
        self.slot: Ints = np.array(
            [slots.get(int(catalog.expiry_ns[i]), -1) for i in members], dtype=np.int64
        )
        self.factors = len(expiries) + FACTORS_BESIDE_VEGA
        self.exposures: Floats = np.zeros((self.ids.size, _SPARSE))
        self.own: Floats = np.zeros((2, self.ids.size))
        """Residual scalar, and the cost of the own size in USD, as last measured."""
        self.inner: Floats = np.zeros((self.factors, self.factors))
        self.net: Floats = np.zeros(self.factors)
        self.version = 0
        self.accepted_version = -1
        self.accepted_ns = 0
        self.asked_ns = 0
        self.ask_id = -1


class Skew:
    """Lean and own-size cost of every instrument, rows of `columns` (2, n), in price units."""

    def __init__(self, catalog: Catalog) -> None:
        self.columns: Floats = np.zeros((LEAN_ROWS, 0))
        self._books: dict[str, _Book] = {}
        self.refused = 0
        self.resize(catalog)

    def resize(self, catalog: Catalog) -> None:
        """Grow to a larger catalogue; an underlying with new expiries waits for its new factors."""
        grown = np.zeros((LEAN_ROWS, len(catalog)))
        grown[:, : self.columns.shape[1]] = self.columns
        self.columns = grown
        self._is_option = catalog.is_option
        self._is_inverse = catalog.is_inverse
        self._lot = catalog.lot
        books: dict[str, _Book] = {}
        for underlying in catalog.underlyings:
            book, old = _Book(catalog, underlying), self._books.get(underlying)
            if old is not None:
                book.version = old.version + 1
                book.inner = _carried(old, book)
                book.accepted_version, book.accepted_ns = old.accepted_version, old.accepted_ns
            books[underlying] = book
        self._books = books

    def is_due(self, underlying: str, now_ns: Ns) -> bool:
        """Whether compute should be asked for fresh factors."""
        book = self._books[underlying]
        if book.ask_id >= 0 and now_ns - book.asked_ns < ASK_TIMEOUT_NS:
            return False
        return book.accepted_ns == 0 or now_ns - book.accepted_ns >= REBUILD_INTERVAL_NS

    def request(
        self,
        ask_id: int,
        underlying: str,
        params: SkewParams,
        board: TheoBoard,
        intensity: Floats,
        half_spread: Floats,
        size_lots: Floats,
        *,
        atm_vol: Floats,
        spot_beta: Floats,
        now_ns: Ns,
    ) -> bytes:
        """The request for compute; atm_vol and spot_beta per expiry, half_spread and size by id."""
        book = self._books[underlying]
        self._expose(book, board, now_ns)
        weighted = np.zeros((book.factors, book.factors))
        _weigh_into(
            book.ids,
            book.slot,
            book.exposures,
            self._is_option,
            self._is_inverse,
            board.columns,
            intensity,
            half_spread,
            size_lots,
            self._lot,
            params.intensity_floor_per_day,
            weighted,
        )
        book.version += 1
        book.ask_id, book.asked_ns = ask_id, now_ns
        years = [tte_years(now_ns, expiry_ns) for expiry_ns in book.expiries_ns]
        return msgspec.msgpack.encode(
            FactorsRequest(
                factors_version=book.version,
                skew=params,
                tte_years=years,
                atm_vol=np.nan_to_num(atm_vol).tolist(),
                spot_beta=np.nan_to_num(spot_beta).tolist(),
                weighted=weighted.reshape(-1).tolist(),
            )
        )

    def on_answer(self, answer: FactorsAnswer, now_ns: Ns) -> str:
        """Take in the inner matrix; the reason where it was refused, empty where it was taken."""
        book = self._books.get(answer.underlying)
        if book is None or answer.ask_id != book.ask_id:
            self.refused += 1
            return "no such ask is open"
        book.ask_id = -1
        reason = answer.error or self._take(book, answer.result, now_ns)
        if reason:
            self.refused += 1
        return reason

    def measure(
        self,
        underlying: str,
        params: SkewParams,
        board: TheoBoard,
        intensity: Floats,
        half_spread: Floats,
        size_lots: Floats,
        *,
        now_ns: Ns,
    ) -> None:
        """Renew exposures, residual scalars and own-size costs; a second is often enough."""
        book = self._books[underlying]
        self._expose(book, board, now_ns)
        _measure_into(
            book.ids,
            book.slot,
            book.exposures,
            book.inner,
            self._lot,
            self._is_option,
            self._is_inverse,
            board.columns,
            intensity,
            half_spread,
            size_lots,
            params.intensity_floor_per_day,
            params.risk_aversion_per_usd,
            params.vol_of_vol * RESIDUAL_VOL_RATIO,
            params.vol_tenor_exponent,
            np.array([tte_years(now_ns, ns) for ns in book.expiries_ns], dtype=np.float64),
            book.own,
        )

    def refresh(
        self, underlying: str, position_lots: Ints, board: TheoBoard, *, collateral_coin: float
    ) -> None:
        """Lean of every option of an underlying for these positions; call after each fill.

        collateral_coin: the equity that is hedged with them, 0 where none is. NaN where it is not
        known, which makes every lean unknown, and nothing is quoted on those.
        """
        book = self._books[underlying]
        price = float(board.columns[FORWARD, book.perpetual_id])
        _lean_into(
            book.ids,
            book.slot,
            book.exposures,
            book.inner,
            book.own,
            position_lots,
            self._lot,
            self._is_option,
            self._is_inverse,
            board.columns,
            collateral_coin * price if collateral_coin else 0.0,
            book.net,
            self.columns,
        )

    def net_exposures(self, underlying: str) -> dict[str, float]:
        """The book's exposure to each factor as of the last refresh, by name; for explanations."""
        book = self._books[underlying]
        names = [f"vega_{expiry_ns}" for expiry_ns in book.expiries_ns]
        names += ["skew", "wing", "basis", "gamma", "return"]
        return dict(zip(names, book.net.tolist(), strict=True))

    def is_ready(self, underlying: str) -> bool:
        """Whether an inner matrix is in force; before the first there is no lean at all."""
        return self._books[underlying].accepted_ns > 0

    def factor_age_ns(self, underlying: str, now_ns: Ns) -> int:
        """Age of the inner matrix in force; the age of the epoch before the first."""
        return now_ns - self._books[underlying].accepted_ns

    def digest(self) -> bytes:
        """16 bytes over leans, matrices and open asks, equal for equal histories."""
        state = blake2b(self.columns.tobytes(), digest_size=16)
        for name, book in self._books.items():
            words = (name, book.version, book.accepted_version, book.accepted_ns, book.ask_id)
            state.update(repr((*words, book.asked_ns, self.refused)).encode())
            state.update(book.inner.tobytes())
            state.update(book.exposures.tobytes())
        return state.digest()

    def _expose(self, book: _Book, board: TheoBoard, now_ns: Ns) -> None:
        years = np.array([tte_years(now_ns, ns) for ns in book.expiries_ns], dtype=np.float64)
        _expose_into(
            book.ids,
            book.slot,
            years,
            self._is_option,
            board.columns,
            book.exposures,
        )

    def _take(self, book: _Book, result: bytes, now_ns: Ns) -> str:
        try:
            found = msgspec.msgpack.decode(result, type=FactorsResult)
        except msgspec.MsgspecError as error:
            return f"answer cannot be read: {error}"
        if found.factors_version != book.version:
            return f"answer to version {found.factors_version}, expected {book.version}"
        if len(found.inner) != book.factors**2:
            return f"expected {book.factors**2} numbers, found {len(found.inner)}"
        inner = np.array(found.inner, dtype=np.float64).reshape(book.factors, book.factors)
        if not np.isfinite(inner).all():
            return "a number is not finite"
        book.inner = inner
        book.accepted_version, book.accepted_ns = found.factors_version, now_ns
        return ""


def _carried(old: _Book, new: _Book) -> Floats:
    """The old inner matrix on the factors both books have; a new expiry leans on none yet."""
    rows = {expiry_ns: e for e, expiry_ns in enumerate(old.expiries_ns)}
    source = [rows.get(expiry_ns, -1) for expiry_ns in new.expiries_ns]
    source += [len(old.expiries_ns) + j for j in range(FACTORS_BESIDE_VEGA)]
    inner = np.zeros((new.factors, new.factors))
    for a, from_a in enumerate(source):
        for b, from_b in enumerate(source):
            if from_a >= 0 and from_b >= 0:
                inner[a, b] = old.inner[from_a, from_b]
    return inner


@kernel
def column_of(j: int, slot: int, factors: int) -> int:
    """Column of B that an instrument's j-th number stands in."""
    return slot if j == 0 else factors - FACTORS_BESIDE_VEGA + j - 1


@kernel
def _expose_into(
    ids: Ints,
    slot: Ints,
    years: Floats,
    is_option: Bools,
    board: Floats,
    out: Floats,
) -> None:
    """Exposures in USD per unit of amount and unit of factor; 0 for what has no greeks now."""
    for row in range(ids.size):
        i = ids[row]
        for j in range(_SPARSE):
            out[row, j] = 0.0
        forward = board[FORWARD, i]
        delta_usd = board[DELTA_ADJUSTED, i] * forward
        if not math.isfinite(delta_usd):
            continue
        tenor = years[slot[row]] / BASIS_TENOR_YEARS if slot[row] >= 0 else 0.0
        out[row, 1 + _BASIS] = delta_usd * tenor
        out[row, 1 + _RETURN] = delta_usd
        vega, gamma = board[VEGA, i], board[GAMMA, i]
        if not (is_option[i] and math.isfinite(vega + gamma)):
            continue
        call_delta = board[DELTA, i] if board[DELTA, i] > 0.0 else 1.0 + board[DELTA, i]
        # 1 at the 25-delta call, -1 at the 25-delta put, 0 at the money.
        side = 4.0 * (0.5 - call_delta)
        out[row, 0] = vega
        out[row, 1 + _SKEW] = 0.5 * side * vega
        out[row, 1 + _WING] = side * side * vega
        out[row, 1 + _GAMMA] = 0.5 * gamma * forward * forward


@kernel
def size_weight(
    i: int,
    usd: float,
    intensity: Floats,
    half_spread: Floats,
    size_lots: Floats,
    lot: Floats,
    floor: float,
) -> float:
    """D of one instrument, z A k / e, of its less active side; amount squared per day and USD."""
    weight = math.inf
    for side in range(2):
        k_usd = intensity[I_K, side, i] / (half_spread[i] * usd)
        fills = max(math.exp(min(intensity[I_LN_A, side, i], 25.0)), floor)
        weight = min(weight, size_lots[i] * lot[i] * fills * k_usd / math.e)
    return weight


@kernel
def _weigh_into(
    ids: Ints,
    slot: Ints,
    exposures: Floats,
    is_option: Bools,
    is_inverse: Bools,
    board: Floats,
    intensity: Floats,
    half_spread: Floats,
    size_lots: Floats,
    lot: Floats,
    floor: float,
    out: Floats,
) -> None:
    """C = B' D B over the options that have a weight."""
    factors = out.shape[0]
    for row in range(ids.size):
        i = ids[row]
        if not is_option[i]:
            continue
        usd = board[FORWARD, i] if is_inverse[i] else 1.0
        weight = size_weight(i, usd, intensity, half_spread, size_lots, lot, floor)
        if not 0.0 < weight < math.inf:
            continue
        for a in range(_SPARSE):
            for b in range(_SPARSE):
                term = weight * exposures[row, a] * exposures[row, b]
                out[column_of(a, slot[row], factors), column_of(b, slot[row], factors)] += term


@kernel
def _measure_into(
    ids: Ints,
    slot: Ints,
    exposures: Floats,
    inner: Floats,
    lot: Floats,
    is_option: Bools,
    is_inverse: Bools,
    board: Floats,
    intensity: Floats,
    half_spread: Floats,
    size_lots: Floats,
    floor: float,
    risk_aversion: float,
    residual_vol: float,
    tenor_exponent: float,
    years: Floats,
    own: Floats,
) -> None:
    """Residual scalar sqrt(g s^2 / 2D) and own-size cost z / 2 (Gamma_ii + scalar), in USD."""
    factors = inner.shape[0]
    for row in range(ids.size):
        i = ids[row]
        own[0, row] = 0.0
        own[1, row] = 0.0
        if not is_option[i]:
            continue
        diagonal = 0.0
        for a in range(_SPARSE):
            column = column_of(a, slot[row], factors)
            for b in range(_SPARSE):
                other = column_of(b, slot[row], factors)
                diagonal += exposures[row, a] * inner[column, other] * exposures[row, b]
        usd = board[FORWARD, i] if is_inverse[i] else 1.0
        weight = size_weight(i, usd, intensity, half_spread, size_lots, lot, floor)
        if 0.0 < weight < math.inf:
            days = max(years[slot[row]] * 365.0, 0.25)
            spread = residual_vol * math.pow(30.0 / days, tenor_exponent) * exposures[row, 0]
            own[0, row] = math.sqrt(0.5 * risk_aversion * spread * spread / weight)
        size = size_lots[i] * lot[i]
        if size > 0.0:
            own[1, row] = 0.5 * size * (max(diagonal, 0.0) + own[0, row])


@kernel
def _lean_into(
    ids: Ints,
    slot: Ints,
    exposures: Floats,
    inner: Floats,
    own: Floats,
    position_lots: Ints,
    lot: Floats,
    is_option: Bools,
    is_inverse: Bools,
    board: Floats,
    collateral_usd: float,
    net: Floats,
    out: Floats,
) -> None:
    """Lean and own-size cost in price units; net (r,) takes B' q and the collateral's return."""
    factors = inner.shape[0]
    net[:] = 0.0
    net[column_of(1 + _RETURN, 0, factors)] = collateral_usd
    for row in range(ids.size):
        quantity = position_lots[ids[row]] * lot[ids[row]]
        if quantity != 0.0:
            for j in range(_SPARSE):
                if j > 0 or slot[row] >= 0:
                    net[column_of(j, slot[row], factors)] += quantity * exposures[row, j]
    price = np.zeros(factors)
    for a in range(factors):
        for b in range(factors):
            price[a] += inner[a, b] * net[b]
    for row in range(ids.size):
        i = ids[row]
        if not is_option[i]:
            continue
        lean = own[0, row] * position_lots[i] * lot[i]
        for a in range(_SPARSE):
            lean += exposures[row, a] * price[column_of(a, slot[row], factors)]
        usd = board[FORWARD, i] if is_inverse[i] else 1.0
        out[L_LEAN, i] = lean / usd
        out[L_OWN_SIZE, i] = own[1, row] / usd
