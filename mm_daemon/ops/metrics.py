"""Prometheus exposition of the shared page's slots and of ops' own counters.

A slot is named by its whole series, `mm_quotes_live{underlying="BTC",side="bid"}`; the kind follows
from the name (`_total` counts, `_bucket` with `le`, `_sum` and `_count` make a histogram, the rest
are gauges). Reading is a copy of the page, so a scrape can never delay a quote.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from mm_daemon.domain.permission import scope_mask
from mm_daemon.ipc.page import (
    CRASH_COUNT,
    FENCE_EPOCH,
    GENERATION_SEEN,
    JOURNAL_FAULT,
    PERMIT_DEADLINE_MONO_NS,
    PERMIT_RENEWED_MONO_NS,
    PID_WORDS,
    PROGRESS_WORDS,
    SCOPED_MASKS,
    LeaseState,
    Page,
)
from mm_daemon.ops.redis_bus import ERROR_KINDS, RedisBus

_SERIES = re.compile(r"^(?P<name>[a-z_:][a-z0-9_:]*)(?:\{(?P<labels>[^}]*)\})?$")
_LABEL = re.compile(r'([a-z_]+)="([^"]*)"')
PERMISSIONS = (("quote", 1), ("hedge", 2), ("reduce", 4))


@dataclass
class _Family:
    kind: str
    labels: tuple[str, ...]
    slots: list[tuple[tuple[str, ...], str, int]] = field(default_factory=list)
    """(label values without `le`, suffix or `le` bound, slot index)."""


def parse_series(series: str) -> tuple[str, dict[str, str]]:
    """Name and labels. Raises ValueError for what is not a series."""
    match = _SERIES.match(series)
    if match is None:
        raise ValueError(f'{series!r}: expected name{{label="value",...}}')
    return match["name"], dict(_LABEL.findall(match["labels"] or ""))


class PageCollector(Collector):
    """Reads the page at each scrape."""

    def __init__(self, page: Page, help_of: dict[str, str], mono_ns: Callable[[], int]) -> None:
        self._page = page
        self._help_of = help_of
        self._mono_ns = mono_ns
        self._families: dict[str, _Family] = {}
        for index, series in enumerate(page.slot_names):
            self._add(series, index)

    def collect(self) -> Iterator[Metric]:
        values = self._page.slots.tolist()
        for name, family in self._families.items():
            yield _render(name, self._help_of.get(name, name), family, values)
        yield from self._page_words()

    def _add(self, series: str, index: int) -> None:
        name, labels = parse_series(series)
        kind, suffix = "gauge", ""
        if name.endswith("_total"):
            kind = "counter"
        for ending in ("_bucket", "_sum", "_count"):
            if name.endswith(ending) and name != "mm_crash_count":
                kind, suffix, name = "histogram", ending, name.removesuffix(ending)
        if suffix == "_bucket":
            suffix = labels.pop("le")
        family = self._families.setdefault(name, _Family(kind, tuple(labels)))
        assert family.labels == tuple(labels), (series, family.labels)
        family.slots.append((tuple(labels.values()), suffix, index))

    def _lease_words(self) -> Iterable[Metric]:
        words = self._page.words
        state = self._page.lease_state
        yield GaugeMetricFamily(
            "mm_fence_epoch", "Tenure under which a trader may live, 0 = none", words[FENCE_EPOCH]
        )
        yield GaugeMetricFamily(
            "mm_lease_held",
            "1 where the right to trade the shard is ours",
            value=float(state is LeaseState.HELD),
        )
        states = GaugeMetricFamily("mm_lease_state", "1 for the lease's state", labels=["state"])
        for one in LeaseState:
            states.add_metric([one.name.lower()], float(one is state))
        yield states
        renewed_ns = words[PERMIT_RENEWED_MONO_NS]
        yield GaugeMetricFamily(
            "mm_permit_age_seconds",
            "Since the last renewal of the permit was asked for, NaN where none was",
            value=(self._mono_ns() - renewed_ns) / 1e9 if renewed_ns else float("nan"),
        )

    def _page_words(self) -> Iterable[Metric]:
        words = self._page.words
        permission = GaugeMetricFamily(
            "mm_permission",
            "1 where the latch grants this permission, for all of the daemon or one underlying",
            labels=["scope", "kind"],
        )
        held = self._page.permission
        own = [scope_mask(words[SCOPED_MASKS], k) for k in range(len(self._page.scopes))]
        masks = {"all": held}
        masks |= {
            name: held & mask.permission for name, mask in zip(self._page.scopes, own, strict=True)
        }
        for scope, mask in masks.items():
            for name, bit in PERMISSIONS:
                permission.add_metric([scope, name], float(bool(mask & bit)))
        yield permission
        yield GaugeMetricFamily(
            "mm_kill_generation", "Generation of the latch", value=self._page.generation
        )
        yield GaugeMetricFamily(
            "mm_kill_generation_seen", "Generation the gate has seen", value=words[GENERATION_SEEN]
        )
        yield GaugeMetricFamily(
            "mm_permit_remaining_seconds",
            "Time until the permit to add risk runs out",
            value=(words[PERMIT_DEADLINE_MONO_NS] - self._mono_ns()) / 1e9,
        )
        yield from self._lease_words()
        yield GaugeMetricFamily(
            "mm_crashes_recent", "Crashes of the trader in ten minutes", value=words[CRASH_COUNT]
        )
        yield GaugeMetricFamily(
            "mm_journal_fault",
            "0 = the journal is kept, 1 = the disk refused a sync, 2 = no room for a next segment",
            value=words[JOURNAL_FAULT],
        )
        alive = GaugeMetricFamily("mm_process_up", "1 where the process runs", labels=["process"])
        for name, word in PID_WORDS.items():
            alive.add_metric([name], float(words[word] != 0))
        yield alive
        progress = CounterMetricFamily(
            "mm_progress", "Progress counters the watchdog reads", labels=["counter"]
        )
        for name, word in PROGRESS_WORDS.items():
            progress.add_metric([name], words[word])
        yield progress


class AuditCollector(Collector):
    """Whether the audit log takes lines: without it nothing is lifted."""

    def __init__(self, problem: Callable[[], str]) -> None:
        self._problem = problem

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "mm_audit_usable", "0 where the log is damaged", value=float(not self._problem())
        )


class TokensCollector(Collector):
    """Whether the token file is what the tokens are: a removed token of a damaged file goes on."""

    def __init__(self, problem: Callable[[], str]) -> None:
        self._problem = problem

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "mm_tokens_usable",
            "0 where the token file is damaged and older tokens are in force",
            value=float(not self._problem()),
        )


class PagerCollector(Collector):
    """How pages go out to their receiver."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        counts = CounterMetricFamily(
            "mm_pages_pushed_total",
            "Pages sent to the receiver, requests that failed, pages given up",
            labels=["outcome"],
        )
        for outcome, count in self._counts.items():
            counts.add_metric([outcome], count)
        yield counts


class StoreCollector(Collector):
    """How the firm's store answers; only where there is one."""

    def __init__(self, bus: RedisBus) -> None:
        self._bus = bus

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "mm_redis_up", "1 where the last round trip came out well", value=float(self._bus.is_up)
        )
        errors = CounterMetricFamily(
            "mm_redis_errors_total", "Round trips that failed", labels=["kind"]
        )
        for kind in ERROR_KINDS:
            errors.add_metric([kind], self._bus.errors[kind])
        yield errors


def _render(name: str, text: str, family: _Family, values: Sequence[float]) -> Metric:
    labels = list(family.labels)
    if family.kind == "counter":
        counter = CounterMetricFamily(name.removesuffix("_total"), text, labels=labels)
        for label_values, _, index in family.slots:
            counter.add_metric(list(label_values), values[index])
        return counter
    if family.kind == "histogram":
        return _render_histogram(name, text, family, values)
    gauge = GaugeMetricFamily(name, text, labels=labels)
    for label_values, _, index in family.slots:
        gauge.add_metric(list(label_values), values[index])
    return gauge


def _render_histogram(name: str, text: str, family: _Family, values: Sequence[float]) -> Metric:
    """Slots count each bucket by itself; the exposition wants them cumulated."""
    histogram = HistogramMetricFamily(name, text, labels=list(family.labels))
    for label_values in dict.fromkeys(slot[0] for slot in family.slots):
        mine = {suffix: values[i] for held, suffix, i in family.slots if held == label_values}
        total = 0.0
        buckets: list[tuple[str, float]] = []
        for bound, count in mine.items():
            if bound not in ("_sum", "_count"):
                total += count
                buckets.append((bound, total))
        histogram.add_metric(list(label_values), buckets, sum_value=mine["_sum"])
    return histogram
