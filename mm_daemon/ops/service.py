"""The ops process: its listeners, its permit and its log, in one task group.

Control and metrics have listeners of their own, so that a scrape storm cannot reach the control
API; the command line comes in over a unix socket, which works without tokens. Whatever dies in
here, the trader only sees its permit run out.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from mm_daemon.domain.permission import QUOTE
from mm_daemon.ipc.latch import LatchStore
from mm_daemon.ipc.layout import Layout
from mm_daemon.ipc.line_pipe import STDERR, LinePipe
from mm_daemon.ipc.page import (
    PERMIT_DEADLINE_MONO_NS,
    PROGRESS_LOOP,
    LeaseState,
    Page,
    TraderState,
)
from mm_daemon.ops.answers import Handler
from mm_daemon.ops.api import ControlApi
from mm_daemon.ops.audit import AUDIT_FILE, AuditLog
from mm_daemon.ops.firm_kill import FirmKill, warn_without_store
from mm_daemon.ops.idempotency import ANSWERS_FILE, AnswerStore
from mm_daemon.ops.identity import identity_of_trader
from mm_daemon.ops.latch_watch import LatchWatch
from mm_daemon.ops.lease_setup import LeaseHouse, LeaseSettings, set_up_lease
from mm_daemon.ops.logs import make_logger, write_line
from mm_daemon.ops.metrics import (
    AuditCollector,
    PageCollector,
    PagerCollector,
    StoreCollector,
    TokensCollector,
)
from mm_daemon.ops.pager import Pager, tee
from mm_daemon.ops.refusal import RefusedError
from mm_daemon.ops.scribe import Scribe
from mm_daemon.ops.surroundings import Identity, ResetRules, Surroundings
from mm_daemon.ops.token_file import TokenFile
from mm_daemon.ops.token_notes import follow_tokens
from mm_daemon.ops.trader_client import TraderAwayError, TraderClient

CONSOLE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
CONSOLE_TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css"}
HEALTH_STALL_S = 2.0
THREAD_SWITCH_S = 0.0005
"""How long a thread in here, such as a scrape's rendering, may keep the loop waiting each time it
wakes: with Python's 5 ms a kill that comes during a scrape takes longer than it has."""


@dataclass(frozen=True)
class OpsSettings:
    """What the ops process is told."""

    layout: Layout
    page: Path
    control_listen: str
    metrics_listen: str
    tokens_file: Path
    lease: LeaseSettings
    environment: str
    log_level: str
    build: dict[str, Any]
    config_sha256: str
    rules: ResetRules
    page_url: str
    """Who takes pages, empty = nobody but those who look at logs and metrics."""
    instance: str
    help_texts: dict[str, str]


def run_ops(settings: OpsSettings) -> int:
    """Serves until SIGTERM."""
    import uvloop

    sys.setswitchinterval(THREAD_SWITCH_S)
    uvloop.run(_serve(settings))
    return 0


async def _serve(settings: OpsSettings) -> None:
    labels = {"environment": settings.environment, "instance": settings.instance}
    pager = Pager(settings.page_url, labels)
    log = make_logger(settings.log_level, "ops", LinePipe(STDERR, "ops").put, tee(pager.put))
    page = Page.attach(settings.page)
    trader = TraderClient(settings.layout.trader_socket, lambda line: write_line(log, line))
    latch = LatchStore(settings.layout.latch, page)

    async def on_firm_lifted(generation: int) -> None:
        with suppress(TraderAwayError):
            await trader.notify_reset(generation)

    house = set_up_lease(
        settings.lease,
        layout=settings.layout,
        page=page,
        latch=latch,
        on_firm_lifted=on_firm_lifted,
        log=log,
    )
    around, scribe = _surroundings(settings, page, latch, trader, house)
    registry = CollectorRegistry()
    around.watch.publish(registry)
    registry.register(AuditCollector(lambda: around.audit.problem))
    registry.register(TokensCollector(lambda: around.tokens.problem))
    follow_tokens(around.tokens, scribe, log)
    if around.audit.problem or (problem := around.watch.begin()):
        log.critical("audit_unusable", problem=around.audit.problem or problem)
    if house.bus is None:
        warn_without_store(latch, log)
    control = ControlApi(around, scribe).application(console_handlers())
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    runners = [
        await _listen(control, settings.control_listen, settings.layout.ops_socket),
        await _listen(
            _metrics_app(settings, page, trader, house, registry), settings.metrics_listen, None
        ),
    ]
    log.info("ops_started", control=settings.control_listen, metrics=settings.metrics_listen)
    registry.register(PagerCollector(pager.counts))
    lives = (trader.run(), house.tenure.run(), around.watch.run(), pager.run())
    tasks = [asyncio.create_task(life) for life in lives]
    tasks.append(asyncio.create_task(_until(stop)))
    # What start-up made lives on: a full collection of it is 20 ms in which no kill is heard.
    gc.collect()
    gc.freeze()
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            # What ends by itself has met a defect: the guard starts ops again.
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for runner in runners:
            await runner.cleanup()
        scribe.close()


async def _until(stop: asyncio.Event) -> None:
    await stop.wait()


def _surroundings(
    settings: OpsSettings, page: Page, latch: LatchStore, trader: TraderClient, house: LeaseHouse
) -> tuple[Surroundings, Scribe]:
    layout = settings.layout
    audit = AuditLog(layout.state_dir / AUDIT_FILE)
    identity = Identity(settings.build, settings.config_sha256)
    scribe = Scribe(audit, build=identity.build, config_sha256=identity.config_sha256)
    firm = None
    if house.bus is not None and house.firm is not None:
        firm = FirmKill(house.bus, house.firm)
    around = Surroundings(
        page=page,
        latch=latch,
        layout=layout,
        audit=audit,
        watch=LatchWatch(page, latch, scribe, wall_ns=time.time_ns, mono_ns=time.monotonic_ns),
        tokens=TokenFile(settings.tokens_file),
        answers=AnswerStore(layout.state_dir / ANSWERS_FILE, time.time()),
        trader=trader,
        identity=identity,
        trader_identity=lambda: identity_of_trader(layout),
        rules=settings.rules,
        is_open=settings.environment == "sim",
        lease=lambda: house.tenure.face().as_status(),
        firm=firm,
    )
    return around, scribe


async def _listen(app: web.Application, listen: str, unix: Path | None) -> web.AppRunner:
    """Raises OSError naming the address where the port is taken."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    host, _, port = listen.rpartition(":")
    try:
        await web.TCPSite(runner, host, int(port)).start()
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {listen}: {error.strerror}") from error
    if unix is not None:
        unix.unlink(missing_ok=True)
        await web.UnixSite(runner, str(unix)).start()
        unix.chmod(0o600)
    return runner


def console_handlers() -> dict[str, Handler]:
    """The console's files, by route name."""

    async def page(request: web.Request) -> web.Response:
        name = request.match_info.get("name", "index.html")
        kind = CONSOLE_TYPES.get(name.rpartition(".")[2])
        file = resources.files("mm_daemon.ops") / "console" / name
        if kind is None or "/" in name or not file.is_file():
            raise RefusedError("not_found", f"no file {name!r}")
        return web.Response(
            text=file.read_text(), content_type=kind, charset="utf-8", headers=CONSOLE_HEADERS
        )

    return {"index": page, "console": page}


def _metrics_app(
    settings: OpsSettings,
    page: Page,
    trader: TraderClient,
    house: LeaseHouse,
    registry: CollectorRegistry,
) -> web.Application:
    if house.bus is not None:
        registry.register(StoreCollector(house.bus))
    registry.register(PageCollector(page, settings.help_texts, time.monotonic_ns))
    health = Health(page)

    async def metrics(_: web.Request) -> web.Response:
        text = await asyncio.to_thread(generate_latest, registry)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def healthz(_: web.Request) -> web.Response:
        is_alive = health.loop_progresses(time.monotonic())
        return web.json_response({"loop": is_alive}, status=200 if is_alive else 503)

    async def readyz(_: web.Request) -> web.Response:
        checks = health.ready_checks(trader.is_connected)
        body = {**checks, "lease_state": page.lease_state.name.lower()}
        return web.json_response(body, status=200 if all(checks.values()) else 503)

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    return app


class Health:
    """Judges the page: is the trader's loop alive, and may it quote."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._last_count = -1
        self._changed_s = 0.0

    def loop_progresses(self, now_s: float) -> bool:
        """False once the loop counter has stood still for `HEALTH_STALL_S` between two looks."""
        count = self._page.words[PROGRESS_LOOP]
        if count != self._last_count:
            self._last_count, self._changed_s = count, now_s
        return now_s - self._changed_s < HEALTH_STALL_S

    def ready_checks(self, trader_is_connected: bool) -> dict[str, bool]:
        """Each condition of quoting, by name."""
        permit_ns = self._page.words[PERMIT_DEADLINE_MONO_NS] - time.monotonic_ns()
        return {
            "trader_connected": trader_is_connected,
            "trader_running": self._page.trader_state is TraderState.RUNNING,
            "permission": bool(self._page.permission & QUOTE),
            "lease_held": self._page.lease_state is LeaseState.HELD,
            "permit_fresh": permit_ns > 0,
        }
