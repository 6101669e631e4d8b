"""The command line: every name a person types, its exit codes, and nothing that works.

Exit codes: 0 done, 1 the check or comparison failed, 2 usage or configuration, 3 stopped without
confirmation from the venue, which is also what a kill is that no running daemon took or that the
firm was not told of. Imports are inside the commands, because `kill` must start fast.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from mm_daemon.domain.errors import ConfigError, MmError

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNCONFIRMED = 3

app = typer.Typer(
    name="mm-daemon",
    help="A market-making daemon for crypto options.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigOption = Annotated[
    Path | None, typer.Option("--config", envvar="MM_CONFIG", help="TOML file.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
UrlOption = Annotated[str, typer.Option("--url", help="Control API instead of the unix socket.")]


def _fail(message: str, code: int) -> NoReturn:
    sys.stderr.write(f"mm-daemon: {message}\n")
    raise typer.Exit(code)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Configuration errors are exit 2 with one line; the operator's are exit 1."""
    from mm_daemon.ipc.segments import JournalError
    from mm_daemon.run.operator import OperatorError

    try:
        yield
    except ConfigError as error:
        _fail(str(error), EXIT_USAGE)
    except (MmError, OperatorError, JournalError, OSError, ValueError) as error:
        _fail(str(error), EXIT_FAILED)


def _show(value: Any, as_json: bool, render: Callable[[Any], str]) -> None:
    if as_json:
        sys.stdout.write(json.dumps(value, default=str) + "\n")
    else:
        sys.stdout.write(render(value) + "\n")


@app.command()
def run(
    config: ConfigOption = None,
    for_seconds: Annotated[float, typer.Option("--for", help="Stop after SECONDS.")] = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Guard, trader, ops and compute; without a config, the embedded venue too."""
    from mm_daemon import app as root

    def announce(places: dict[str, str]) -> None:
        _show(places, as_json, lambda found: f"console: {found['console']}")
        sys.stdout.flush()

    with _one_line_errors():
        root.run(config, for_seconds, announce)


@app.command()
def venue(
    listen: Annotated[str, typer.Option(help="HOST:PORT.")] = "127.0.0.1:8712",
    seed: Annotated[int, typer.Option(help="Seed of the world.")] = 1,
    scenario: Annotated[str, typer.Option(help="Name of a shipped scenario or a file.")] = "calm",
    speed: Annotated[float, typer.Option(help="Pace of the world; the clock stays real.")] = 1.0,
    tier: Annotated[str, typer.Option(help="Rate-limit tier of the maker.")] = "top",
    as_json: JsonOption = False,
) -> None:
    """The simulated exchange alone: Deribit's protocol over websocket and REST."""
    from mm_daemon import app as root

    def announce(line: str) -> None:
        _show({"venue": line.removeprefix("venue: ")}, as_json, lambda _: line)
        sys.stdout.flush()

    with _one_line_errors():
        root.serve_venue(
            listen, seed=seed, scenario=scenario, speed=speed, tier=tier, announce=announce
        )


@app.command()
def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Validates config, models, connectivity and venue settings; changes nothing."""
    from mm_daemon import app_inspect as root
    from mm_daemon.run.check import render

    with _one_line_errors():
        report = root.check(config)
    _show(report, as_json, render)
    if not report["ok"]:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def status(
    config: ConfigOption = None,
    url: UrlOption = "",
    watch: Annotated[bool, typer.Option("--watch", help="Repeat each second.")] = False,
    as_json: JsonOption = False,
) -> None:
    """What the daemon is doing."""
    import time

    from mm_daemon import cli_operator as root

    with _one_line_errors():
        endpoint = root.endpoint(config, url)
        while True:
            _show(endpoint.request("GET", "/v1/status"), as_json, root.render_status)
            if not watch:
                return
            time.sleep(1.0)


@app.command()
def kill(
    level: Annotated[str, typer.Option(help="Kill level.")] = "cancel_all",
    scope: Annotated[str, typer.Option(help="firm, or an underlying's name.")] = "firm",
    reason: Annotated[str, typer.Option(help="Kept in the audit log.")] = "",
    config: ConfigOption = None,
    url: UrlOption = "",
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Return once latched.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Stops the trading, also when ops is dead; waits until the venue shows nothing left."""
    from mm_daemon import cli_operator as root

    with _one_line_errors():
        result = root.kill(
            config, url, level=level, scope=scope, reason=reason, is_waiting=not no_wait
        )
    _show(result.__dict__, as_json, root.render_kill)
    if not result.is_done(is_waiting=not no_wait):
        raise typer.Exit(EXIT_UNCONFIRMED)


@app.command()
def reset(
    reason: Annotated[str, typer.Option(help="Why it is safe again (10 or more characters).")] = "",
    generation: Annotated[int, typer.Option(help="Latch generation you have seen.")] = -1,
    scope: Annotated[str, typer.Option(help="Only this: firm, or an underlying's name.")] = "",
    approve: Annotated[str, typer.Option(metavar="ID", help="Be the second person.")] = "",
    init: Annotated[bool, typer.Option("--init", help="Create the latch file.")] = False,
    config: ConfigOption = None,
    url: UrlOption = "",
    as_json: JsonOption = False,
) -> None:
    """Lifts the latch, after the venue was found clean; most latches take two people."""
    from mm_daemon import cli_operator as root
    from mm_daemon.run import operator

    with _one_line_errors():
        if init:
            answer: Any = root.init_latch(config)
        elif approve:
            answer = operator.approve(root.endpoint(config, url), approve, reason)
        else:
            answer = operator.reset(root.endpoint(config, url), generation, scope, reason)
    _show(answer, as_json, root.render_reset)


@app.command()
def adopt(
    reason: Annotated[str, typer.Option(help="Why the venue is right (10 characters).")] = "",
    approve: Annotated[str, typer.Option(metavar="ID", help="Be the second person.")] = "",
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask: the difference is known.")
    ] = False,
    config: ConfigOption = None,
    url: UrlOption = "",
    as_json: JsonOption = False,
) -> None:
    """The last resort: books the venue's positions where ours differ; shows them first and asks."""
    from mm_daemon import cli_operator as root
    from mm_daemon.run import operator_adopt

    with _one_line_errors():
        endpoint = root.endpoint(config, url)
        if approve:
            shown = operator_adopt.look_at_request(endpoint, approve, reason)
        else:
            shown = operator_adopt.look(endpoint, reason)
        sys.stderr.write(root.render_difference(shown) + "\n")
        if not yes and not typer.confirm("Book the venue's positions?", err=True):
            _fail("nothing was adopted", EXIT_FAILED)
        answer = operator_adopt.carry_out(endpoint, shown)
    _show(answer, as_json, root.render_adopt)


audit_app = typer.Typer(help="The log of who did what.", no_args_is_help=True)
app.add_typer(audit_app, name="audit")


@audit_app.command("verify")
def audit_verify(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Walks the whole chain; exit 1 at the first line that does not follow."""
    from mm_daemon import app_inspect as root
    from mm_daemon import cli_operator

    with _one_line_errors():
        cli_operator.chosen(config)
        report = root.verify_audit(config)
    _show(report, as_json, lambda found: ("ok   " if found["ok"] else "FAIL ") + found["summary"])
    if not report["ok"]:
        raise typer.Exit(EXIT_FAILED)


@audit_app.command("show")
def audit_show(
    last: Annotated[int, typer.Option("--last", min=1, help="How many lines.")] = 20,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """The newest lines, newest last; it works with the daemon up, down or gone."""
    from mm_daemon import app_inspect as root
    from mm_daemon import cli_operator

    with _one_line_errors():
        cli_operator.chosen(config)
        report = root.show_audit(config, last)
    lines = map(cli_operator.render_line, report["entries"])
    _show(report, as_json, lambda _: "\n".join(lines))


@app.command()
def replay(
    session: Annotated[Path, typer.Argument(help="Session directory.")],
    verify: Annotated[bool, typer.Option("--verify", help="Exit 1 at a differing byte.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Re-decides a recorded session."""
    from mm_daemon import app_inspect as root

    with _one_line_errors():
        report = root.replay(session, verify=verify)
    _show(report, as_json, _render_replay)
    if report["difference"] is not None:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def explain(
    session: Annotated[Path, typer.Argument(help="Session directory.")],
    what: Annotated[str, typer.Argument(metavar="ID", help="[quote:|order:|trade:]id.")],
    as_json: JsonOption = False,
) -> None:
    """Why this quote, order or fill: inputs, features, model outputs, skew terms, checks."""
    from mm_daemon import app_inspect as root
    from mm_daemon.run.explain import render

    with _one_line_errors():
        answer = root.explain(session, what)
    _show(answer, as_json, render)


@app.command()
def surface(
    file: Annotated[Path, typer.Argument(help="Chain snapshot (CSV, plain or gzip).")],
    as_json: JsonOption = False,
) -> None:
    """Fits every underlying of a chain snapshot and prints how good the fit is."""
    from mm_daemon.research import surface_report

    with _one_line_errors():
        report = surface_report.surface_report(file)
    _show(report, as_json, surface_report.render_text)


train_app = typer.Typer(help="Fits a model on recorded sessions.", no_args_is_help=True)
app.add_typer(train_app, name="train")
models_app = typer.Typer(help="The model directories.", no_args_is_help=True)
app.add_typer(models_app, name="models")

SessionsArgument = Annotated[list[Path], typer.Argument(help="Session directories.")]
OutOption = Annotated[Path, typer.Option("--out", help="Model directory to write.")]
SeedOption = Annotated[int, typer.Option(help="Seed of what is sampled.")]


@train_app.command("fill")
def train_fill(
    sessions: SessionsArgument, out: OutOption, seed: SeedOption = 1, as_json: JsonOption = False
) -> None:
    """How often quotes fill: censored maximum likelihood."""
    _train("fill", sessions, out, seed, as_json)


@train_app.command("spread")
def train_spread(
    sessions: SessionsArgument, out: OutOption, seed: SeedOption = 1, as_json: JsonOption = False
) -> None:
    """What a fill costs: regression of delta-hedged markouts."""
    _train("spread", sessions, out, seed, as_json)


def _train(kind: str, sessions: list[Path], out: Path, seed: int, as_json: bool) -> None:
    from mm_daemon import app as root

    def say(session: str, records: int, seconds: float) -> None:
        if sys.stderr.isatty():
            line = f"\r{session}: {records:,} records, {seconds:,.0f} s"
            sys.stderr.write(line)
            sys.stderr.flush()

    with _one_line_errors():
        report = root.train(kind, sessions, out, seed=seed, on_progress=say)
    if sys.stderr.isatty():
        sys.stderr.write("\n")
    _show(report, as_json, _render_model)


@models_app.command("list")
def models_list(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Every model, its version, and whether this build can serve it."""
    from mm_daemon import app as root

    with _one_line_errors():
        report = root.list_models(config)
    _show(report, as_json, _render_models)


@models_app.command("show")
def models_show(
    name: Annotated[str, typer.Argument(help="Directory name, such as fill.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """One model's manifest and card."""
    from mm_daemon import app as root

    with _one_line_errors():
        report = root.show_model(config, name)
    _show(report, as_json, lambda m: f"{_render_model(m)}\n\n{m['card']}")


@app.command()
def simulate(
    scenario: Annotated[str, typer.Option(help="Name of a row of the simulation.")] = "small",
    seed: Annotated[int, typer.Option(help="Seed of the row's world and network.")] = 1,
    for_seconds: Annotated[float, typer.Option("--for", help="Virtual SECONDS of the row.")] = 0.0,
    seeds: Annotated[int, typer.Option(help="Judge so many drawn plans instead.")] = 0,
    first: Annotated[int, typer.Option(help="The first of these seeds.")] = 0,
    sweep: Annotated[int, typer.Option(help="Act at every step of so many short runs.")] = 0,
    steps: Annotated[int, typer.Option(help="Steps of each swept run.")] = 334,
    plan: Annotated[str, typer.Option(help="Judge one plan: its JSON or a file.")] = "",
    jobs: Annotated[int, typer.Option(help="Processes for seeds and sweeps.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """The whole daemon on a virtual clock against the simulated venue, judged by invariants."""
    from mm_daemon import cli_simulation as root

    with _one_line_errors():
        if seeds or sweep or plan:
            if seeds:
                report = root.seeds(first, seeds, jobs)
            else:
                report = root.plan(plan) if plan else root.sweep(sweep, steps, jobs)
            _show(report, as_json, root.render)
        else:
            report = root.scenario(scenario, seed, for_seconds)
            _show(report, as_json, root.render_scenario)
    if report.get("violations") or report.get("failed"):
        raise typer.Exit(EXIT_FAILED)


@app.command(name="_process", hidden=True)
def process(role: str, resolved: Path) -> None:
    """A child of the guard: trader, ops, compute or venue."""
    from mm_daemon import app as root

    with _one_line_errors():
        raise typer.Exit(root.process(role, resolved))


def _render_model(model: Any) -> str:
    lines = [
        f"{model['name']} {model['version']} ({model['trained_on']}; seed {model['seed']})",
        *[f"  {name:<32} {value:.4g}" for name, value in model["metrics"].items()],
    ]
    return "\n".join(lines)


def _render_models(report: Any) -> str:
    lines = [
        f"ok   {one['name']:<10} {one['version']}"
        if one["ok"]
        else f"FAIL {one['name']:<10} {one['problem']}"
        for one in report["models"]
    ]
    return "\n".join(lines) or f"no models in {report['directory']}"


def _render_replay(report: Any) -> str:
    verdict = "not compared"
    if report["difference"] is not None:
        found = report["difference"]
        verdict = (
            f"DIFFERS at record {found['record_index']}\n"
            f"  tape:   {found['expected']}\n  replay: {found['found']}"
        )
    elif report["verified"]:
        verdict = "0 differing bytes"
    notes = [f"note: machine differs: {what}" for what in report["machine_mismatches"]]
    if report["torn_tail"]:
        notes.append(f"note: {report['torn_tail']}")
    summary = (
        f"{report['session']}: {report['inputs']} inputs, {report['outputs']} outputs,"
        f" {report['session_s']:.1f} s in {report['replay_s']:.2f} s"
        f" ({report['speed']:.1f} x real time): {verdict}"
    )
    return "\n".join([summary, *notes])
