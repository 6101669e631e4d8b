"""Exposition: slots become families a Prometheus client can parse, within the budget of series."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from mm_daemon.domain.metrics import help_texts, page_slots
from mm_daemon.domain.permission import OPERATOR, PRESETS
from mm_daemon.ipc.latch import LatchStore
from mm_daemon.ipc.page import Page
from mm_daemon.ops.metrics import AuditCollector, PageCollector, parse_series

SERIES_MAX = 5_000
UNDERLYINGS = ("BTC", "ETH")


def scrape(page: Page) -> str:
    registry = CollectorRegistry()
    registry.register(PageCollector(page, help_texts(UNDERLYINGS), lambda: 0))
    return generate_latest(registry).decode()


def test_every_slot_is_exposed_with_its_labels_and_value(tmp_path: Path) -> None:
    page = Page.create(tmp_path / "page", page_slots(UNDERLYINGS))
    for index in range(len(page.slot_names)):
        page.slots[index] = float(index + 1)
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(scrape(page))
        for sample in family.samples
    }
    for index, series in enumerate(page.slot_names):
        name, labels = parse_series(series)
        if "_bucket" not in name and not name.endswith(("seconds_sum", "seconds_count")):
            assert samples[name, tuple(sorted(labels.items()))] == index + 1, series
    assert len(samples) < SERIES_MAX


def test_histogram_buckets_are_cumulative_and_end_at_the_count(tmp_path: Path) -> None:
    page = Page.create(tmp_path / "page", page_slots(UNDERLYINGS))
    for series, index in page.slot_index.items():
        if series.startswith("mm_tick_to_quote_seconds_bucket"):
            page.slots[index] = 2.0
    page.slots[page.slot_index["mm_tick_to_quote_seconds_sum"]] = 0.5
    text = scrape(page)
    assert 'mm_tick_to_quote_seconds_bucket{le="5e-05"} 2.0' in text
    assert 'mm_tick_to_quote_seconds_bucket{le="+Inf"} 28.0' in text
    assert "mm_tick_to_quote_seconds_count 28.0" in text


def test_no_label_of_any_series_is_unbounded() -> None:
    names = {parse_series(series)[0] for series in page_slots(UNDERLYINGS)}
    labels = {key for series in page_slots(UNDERLYINGS) for key in parse_series(series)[1]}
    assert all(name.startswith("mm_") for name in names)
    assert labels.isdisjoint({"instrument", "order_id", "client_id", "error", "message"})


def test_permissions_are_shown_for_all_and_for_each_underlying(tmp_path: Path) -> None:
    page = Page.create(tmp_path / "page", page_slots(UNDERLYINGS), UNDERLYINGS)
    latch = LatchStore(tmp_path / "latch.json", page)
    latch.init(ts_ns=1)
    latch.raise_page(OPERATOR, PRESETS["cancel_all"], "drill", ts_ns=2, scope="ETH")
    text = scrape(page)
    assert 'mm_permission{kind="quote",scope="all"} 1.0' in text
    assert 'mm_permission{kind="quote",scope="BTC"} 1.0' in text
    assert 'mm_permission{kind="quote",scope="ETH"} 0.0' in text
    latch.raise_page(OPERATOR, PRESETS["halt_quoting"], "drill", ts_ns=3)
    text = scrape(page)
    assert 'mm_permission{kind="quote",scope="BTC"} 0.0' in text
    assert 'mm_permission{kind="hedge",scope="BTC"} 1.0' in text
    assert f"mm_kill_generation {page.generation}.0" in text


def test_a_damaged_audit_log_is_seen_by_a_scrape() -> None:
    registry = CollectorRegistry()
    problems = [""]
    registry.register(AuditCollector(lambda: problems[0]))
    assert registry.get_sample_value("mm_audit_usable") == 1.0
    problems[0] = "audit log damaged"
    assert registry.get_sample_value("mm_audit_usable") == 0.0
