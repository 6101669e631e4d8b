"""The reading half of a reconcile: which questions to ask the venue, in which order, until the
answers form one consistent picture.

A picture is consistent when no trade of ours happened while it was taken: own trades are read
first and again last, and what lies between is read in between. New trades in the second reading
mean that the cut is taken anew, at most `REPEATS_MAX` times in a row before a pause. A failed or
overdue query is asked again, later each time; it is never taken for an empty answer. Trades are
read page by page from five minutes before the newest one booked, but never from before the keys
that the books keep: what is older cannot be told from a trade that is booked.

One task runs at a time, the most thorough first. The start holds back what the streams say until
its picture is complete, because there the books may still be closed. Nothing here judges: see
`reconcile_verdict`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from enum import Enum, IntEnum

import msgspec

from mm_daemon.core.fill_keys import FillKey
from mm_daemon.core.portfolio import Portfolio
from mm_daemon.domain.events import (
    AccountsRead,
    OpenOrdersRead,
    PositionsRead,
    QueryFailed,
    TradesRead,
)
from mm_daemon.domain.intents import (
    ReadAccounts,
    ReadOpenOrders,
    ReadPositions,
    ReadTrades,
    SafeIntent,
)
from mm_daemon.domain.orders import FillEvidence, OrderEvidence
from mm_daemon.domain.params import Params
from mm_daemon.domain.units import NS_PER_MS, NS_PER_S, Ns

OVERLAP_NS = 300 * NS_PER_S
PAGE_TRADES = 1_000
REPEATS_MAX = 3
RETRY_FIRST_NS = 250 * NS_PER_MS
RETRY_MAX_NS = 5 * NS_PER_S
REPEAT_PAUSE_NS = 2 * NS_PER_S
FULL_INTERVAL_NS = 300 * NS_PER_S
PAGES_MAX = 1_000
_JITTER_MASK = (1 << 64) - 1
_JITTER_STEP = 6_364_136_223_846_793_005
_JITTER_SPAN = 1 << 32
"""A congruential generator (Knuth's multiplier) over the session's seed; its high half is drawn."""
HELD_MAX = 100_000


class Task(IntEnum):
    """What is reconciled; the higher is the more urgent and includes the lower."""

    ORDERS = 0
    TRADES = 1
    POSITIONS = 2
    FULL = 3
    """On reconnect, after a gap, a trip or a reject storm, and every five minutes."""
    START = 4


class Step(Enum):
    """One question of a task."""

    TRADES = "trades"
    ORDERS = "orders"
    POSITIONS = "positions"
    ACCOUNTS = "accounts"
    TRADES_AGAIN = "trades_again"


_WHOLE = (Step.TRADES, Step.ORDERS, Step.POSITIONS, Step.ACCOUNTS, Step.TRADES_AGAIN)
STEPS = {
    Task.ORDERS: (Step.ORDERS,),
    Task.TRADES: (Step.TRADES,),
    Task.POSITIONS: (Step.TRADES, Step.POSITIONS, Step.ACCOUNTS, Step.TRADES_AGAIN),
    Task.FULL: _WHOLE,
    Task.START: _WHOLE,
}


class Cut(msgspec.Struct):
    """One consistent picture of the account, as far as its task looks."""

    task: Task
    since_ns: dict[str, int] = {}
    """Venue time from which on own trades were read, by currency."""
    keys: dict[FillKey, None] = {}
    """What the trades are known by."""
    booked_before: int = 0
    """Fills in the books when this picture was begun."""
    fills: list[FillEvidence] = []
    """Own trades of both readings, each once, oldest first by currency."""
    trades_sent_ns: int = 0
    """When the last reading of trades was begun; 0 = not read."""
    orders: OpenOrdersRead | None = None
    orders_sent_ns: int = 0
    positions: PositionsRead | None = None
    accounts: AccountsRead | None = None
    repeats: int = 0
    is_consistent: bool = True
    """False where trades kept coming in every attempt: positions cannot be compared."""


class _Query(msgspec.Struct):
    request_id: int
    sent_ns: int


class _Run(msgspec.Struct):
    """A task under way."""

    task: Task
    cut: Cut
    since_ns: dict[str, int]
    """Where the reading of trades starts, by currency."""
    step: int = 0
    is_fresh: bool = True
    """Nothing of this attempt has been asked yet."""
    currency: int = 0
    page_since_ns: int = -1
    """Where the next page starts; negative = at the beginning of the currency."""
    pages: int = 0
    is_moved: bool = False
    """The second reading had trades that the first had not."""
    query: _Query | None = None
    failures: int = 0
    not_before_ns: int = 0


class Reconciler:
    """Asks; hands out a `Cut` when a task is complete."""

    def __init__(self, params: Params, currencies: tuple[str, ...], seed: int = 0) -> None:
        self._currencies = currencies
        self._jitter = seed & _JITTER_MASK
        self._timeout_ns = 2 * params.request_timeout_ms * NS_PER_MS
        self._interval_ns = {
            Task.ORDERS: int(params.reconcile_orders_s * NS_PER_S),
            Task.TRADES: int(params.reconcile_trades_s * NS_PER_S),
            Task.POSITIONS: int(params.reconcile_positions_s * NS_PER_S),
            Task.FULL: FULL_INTERVAL_NS,
        }
        self._due_ns: dict[Task, int] = {}
        self._run: _Run | None = None
        self._held: list[FillEvidence | OrderEvidence] = []
        self._unclean = 0
        self.queries_failed = 0

    @property
    def is_holding(self) -> bool:
        """Whether orders and trades of the streams must be given to `hold` for now."""
        return Task.START in self._due_ns or (
            self._run is not None and self._run.task is Task.START
        )

    def request(self, task: Task, now_ns: Ns) -> None:
        """Wants a task from this moment on. A start puts everything else aside."""
        self._due_ns[task] = min(now_ns, self._due_ns.get(task, now_ns))
        if self._run is not None and self._run.task < task:
            self._due_ns[self._run.task] = now_ns
            self._run = None

    def again(self, task: Task, now_ns: Ns) -> None:
        """The picture that trading waits for was not clean. At once the first time, for our own
        leftovers have just been cancelled; then later each time, or the questions would eat all
        credits."""
        delay_ns = 0
        if self._unclean:
            delay_ns = min(RETRY_FIRST_NS << min(self._unclean - 1, 8), RETRY_MAX_NS)
        self._unclean += 1
        self.request(task, Ns(now_ns + delay_ns))

    def is_over(self) -> None:
        """It was clean."""
        self._unclean = 0

    def hold(self, event: FillEvidence | OrderEvidence) -> None:
        """Keeps a stream's word until the start is complete."""
        if len(self._held) >= HELD_MAX:
            # What is dropped here is read again: the start begins anew.
            self._held.clear()
            if self._run is not None:
                since = self._run.cut.since_ns
                self._run = _Run(Task.START, Cut(Task.START, dict(since)), dict(since))
        self._held.append(event)

    def take_held(self) -> list[FillEvidence | OrderEvidence]:
        """What the streams said meanwhile, to be applied after the cut."""
        held, self._held = self._held, []
        return held

    def poll(
        self,
        portfolio: Portfolio,
        next_id: Callable[[], int],
        now_ns: Ns,
        *,
        can_read: bool,
    ) -> list[SafeIntent]:
        """The question to ask now, if any."""
        run = self._run
        if run is not None and run.query is not None:
            if now_ns - run.query.sent_ns < self._timeout_ns:
                return []
            self._failed(run, now_ns)
        if not can_read:
            return []
        if run is None:
            run = self._begin(now_ns, portfolio)
            if run is None:
                return []
        if run.is_fresh:
            run.is_fresh, run.cut.booked_before = False, portfolio.booked
        if now_ns < run.not_before_ns:
            return []
        request_id = next_id()
        run.query = _Query(request_id, now_ns)
        return [self._question(run, request_id, now_ns)]

    def on_answer(
        self,
        answer: OpenOrdersRead | TradesRead | PositionsRead | AccountsRead | QueryFailed,
        now_ns: Ns,
    ) -> Cut | None:
        """Takes an answer; a cut where it completed the task. Late and foreign answers are
        dropped: their question has been asked again."""
        run = self._run
        if run is None or run.query is None or answer.request_id != run.query.request_id:
            return None
        sent_ns = run.query.sent_ns
        run.query = None
        if isinstance(answer, QueryFailed):
            self._failed(run, now_ns)
            return None
        run.failures = 0
        if isinstance(answer, TradesRead):
            if not self._take_trades(run, answer, sent_ns):
                return None
        elif isinstance(answer, OpenOrdersRead):
            run.cut.orders, run.cut.orders_sent_ns = answer, sent_ns
        elif isinstance(answer, PositionsRead):
            run.cut.positions = answer
        else:
            run.cut.accounts = answer
        run.step += 1
        run.currency, run.page_since_ns, run.pages = 0, -1, 0
        if run.step < len(STEPS[run.task]):
            return None
        return self._complete(run, now_ns)

    def next_deadline_ns(self) -> Ns | None:
        """When `poll` may next have something to ask."""
        if self._run is None:
            wanted = self._wanted()
            return Ns(min(wanted.values())) if wanted else None
        if self._run.query is not None:
            return Ns(self._run.query.sent_ns + self._timeout_ns)
        return Ns(self._run.not_before_ns)

    def digest(self) -> bytes:
        state = msgspec.msgpack.encode(
            (
                repr(self._run),
                [(task.value, due) for task, due in self._due_ns.items()],
                self._held,
                self._unclean,
                self.queries_failed,
                self._jitter,
            )
        )
        return hashlib.blake2b(state, digest_size=16).digest()

    def _wanted(self) -> dict[Task, int]:
        """What may begin, with its time: nothing else while a start waits for its own."""
        if Task.START in self._due_ns:
            return {Task.START: self._due_ns[Task.START]}
        return self._due_ns

    def _begin(self, now_ns: int, portfolio: Portfolio) -> _Run | None:
        due = [task for task, at in self._wanted().items() if at <= now_ns]
        if not due:
            return None
        task = max(due)
        del self._due_ns[task]
        since = {currency: _since_ns(portfolio, currency, now_ns) for currency in self._currencies}
        self._run = _Run(task, Cut(task, dict(since)), since)
        return self._run

    def _question(self, run: _Run, request_id: int, now_ns: int) -> SafeIntent:
        step = STEPS[run.task][run.step]
        if step is Step.ORDERS:
            return ReadOpenOrders(request_id)
        if step is Step.POSITIONS:
            return ReadPositions(request_id)
        if step is Step.ACCOUNTS:
            return ReadAccounts(request_id)
        currency = self._currencies[run.currency]
        if run.page_since_ns < 0:
            run.page_since_ns = run.since_ns[currency]
        if run.currency == 0 and run.pages == 0:
            run.cut.trades_sent_ns = now_ns
        return ReadTrades(request_id, currency, Ns(run.page_since_ns), PAGE_TRADES)

    def _take_trades(self, run: _Run, page: TradesRead, sent_ns: int) -> bool:
        """Takes one page; True where the reading of all currencies is complete."""
        currency = self._currencies[run.currency]
        is_again = STEPS[run.task][run.step] is Step.TRADES_AGAIN
        newest = run.page_since_ns
        for fill in page.fills:
            key = (currency, fill.trade_id, fill.order_id, fill.leg)
            newest = max(newest, fill.ts_venue_ns)
            if key not in run.cut.keys:
                run.cut.keys[key] = None
                run.cut.fills.append(fill)
                run.is_moved = run.is_moved or is_again
        run.pages += 1
        if page.has_more and run.pages < PAGES_MAX:
            # More trades within one millisecond than a page holds cannot be paged by time: going
            # on behind it loses some, which the position compare then shows.
            is_stuck = newest <= run.page_since_ns
            run.page_since_ns = newest + NS_PER_MS if is_stuck else newest
            return False
        if not is_again:
            # The second reading needs to go back only a little behind the end of the first.
            overlap = min(OVERLAP_NS, 2 * NS_PER_S)
            run.since_ns[currency] = max(run.since_ns[currency], newest - overlap)
        run.currency += 1
        run.page_since_ns = -1
        return run.currency == len(self._currencies)

    def _complete(self, run: _Run, now_ns: int) -> Cut | None:
        cut = run.cut
        if run.is_moved and cut.repeats < REPEATS_MAX:
            run.step, run.is_moved, run.is_fresh = 0, False, True
            cut.repeats += 1
            return None
        cut.is_consistent = not run.is_moved
        self._run = None
        if not cut.is_consistent:
            self._due_ns[run.task] = now_ns + REPEAT_PAUSE_NS
            return cut
        for task, interval_ns in self._interval_ns.items():
            if task <= run.task:
                self._due_ns[task] = max(self._due_ns.get(task, 0), now_ns + interval_ns)
        return cut

    def _failed(self, run: _Run, now_ns: int) -> None:
        """A question without an answer: asked again later, each time about twice as late. Instances
        that failed together do not come back together."""
        self.queries_failed += 1
        run.query = None
        self._jitter = (self._jitter * _JITTER_STEP + 1) & _JITTER_MASK
        longest_ns = min(RETRY_FIRST_NS << min(run.failures, 10), RETRY_MAX_NS)
        wait_ns = longest_ns - (self._jitter >> 32) * (longest_ns // 4) // _JITTER_SPAN
        run.failures += 1
        run.not_before_ns = now_ns + wait_ns


def _since_ns(portfolio: Portfolio, currency: str, now_ns: int) -> int:
    """Where the reading of trades begins: a little before the newest booked, or the oldest that
    could not be, but within the keys. In whole milliseconds, as the venue takes it."""
    booked_ns = portfolio.read_from_ns(currency)
    newest_ns = now_ns if booked_ns is None else booked_ns
    since_ns = max(newest_ns - OVERLAP_NS, portfolio.keys.from_ns, 0)
    return since_ns // NS_PER_MS * NS_PER_MS
