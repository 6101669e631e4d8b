"""Unit, alerts, runbook and token layout: true of this daemon, and valid where tools can tell."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from mm_daemon.domain.metrics import help_texts
from mm_daemon.guard.settings import Settings
from mm_daemon.guard.supervisor import OTHERS_BUDGET_S
from mm_daemon.ops.auth import Role, load_tokens

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
RULES = (DEPLOY / "prometheus" / "mm-daemon.rules.yml").read_text()
UNIT = (DEPLOY / "systemd" / "mm-daemon.service").read_text()
RUNBOOK = (DEPLOY / "RUNBOOK.md").read_text()
EXPOSURE_MAX = 2.0

ALERTS = re.findall(r"- alert: (\w+)", RULES)
EXPRESSIONS = dict(re.findall(r"- alert: (\w+)\n\s+expr: '((?:[^']|'')*)'", RULES))
SECTIONS = dict(re.findall(r"^## (\w+)\n\n(.*?)(?=^## |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL))


def _exposed_names() -> set[str]:
    """Metrics of the page, and those ops makes of the page's words."""
    ops = re.findall(r'"(mm_\w+)"', (ROOT / "mm_daemon" / "ops" / "metrics.py").read_text())
    return set(help_texts(["BTC"])) | set(ops)


def test_every_alert_has_an_expression() -> None:
    assert len(ALERTS) == len(set(ALERTS))
    assert set(ALERTS) == set(EXPRESSIONS)


@pytest.mark.parametrize("alert", ALERTS)
def test_alerts_use_metrics_that_exist(alert: str) -> None:
    known = _exposed_names()
    for name in re.findall(r"\bmm_\w+", EXPRESSIONS[alert]):
        base = re.sub(r"_(total|bucket|sum|count)$", "", name)
        assert name in known or base in known, f"{alert}: no metric {name}"


@pytest.mark.parametrize("alert", ALERTS)
def test_alerts_name_their_section_of_the_runbook(alert: str) -> None:
    assert f"runbook: deploy/RUNBOOK.md#{alert.lower()}\n" in RULES
    assert re.findall(r"\*\*(\w+):\*\*", SECTIONS[alert]) == [
        "Means",
        "Check",
        "Act",
        "Reset",
        "Escalate",
    ]


def test_every_section_of_the_runbook_has_its_alert() -> None:
    assert list(SECTIONS) == ALERTS


def test_rules_satisfy_promtool() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    config = DEPLOY / "prometheus" / "prometheus.yml"
    done = subprocess.run(
        [promtool, "check", "config", str(config)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _unit(key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", UNIT, re.MULTILINE)


def test_unit_waits_for_the_guards_word_and_gives_it_time_to_sweep() -> None:
    assert _unit("Type") == ["notify"]
    assert _unit("KillMode") == ["mixed"]
    stop_s = float(_unit("TimeoutStopSec")[0])
    budget = re.search(
        r"^stop_budget_s = ([\d.]+)", (ROOT / "config.example.toml").read_text(), re.M
    )
    assert budget is not None
    defaults: dict[str, Any] = {one.name: one.default for one in fields(Settings)}
    others = len(("venue", "compute", "ops"))
    assert stop_s > float(budget[1]) + defaults["sweep_budget_s"] + others * OTHERS_BUDGET_S


def test_unit_keeps_a_kill_file_over_a_restart() -> None:
    assert _unit("RuntimeDirectoryPreserve") == ["yes"]


def test_unit_never_restarts_what_a_person_must_look_at() -> None:
    """2: the configuration cannot be used; 3: the venue did not confirm."""
    assert _unit("RestartPreventExitStatus") == ["2 3"]


def test_unit_lets_kernels_be_compiled() -> None:
    assert _unit("MemoryDenyWriteExecute") == []


def test_unit_is_exposed_little() -> None:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not installed")
    done = subprocess.run(
        [tool, "security", "--offline=true", str(DEPLOY / "systemd" / "mm-daemon.service")],
        capture_output=True,
        text=True,
        check=False,
    )
    level = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert level is not None, done.stdout + done.stderr
    assert float(level[1]) <= EXPOSURE_MAX


def test_token_layout_is_what_the_control_api_reads(tmp_path: Path) -> None:
    example = DEPLOY / "etc" / "tokens.example.json"
    roles = [Role[entry["role"].upper()] for entry in json.loads(example.read_text())["tokens"]]
    copy = tmp_path / "tokens.json"
    shutil.copyfile(example, copy)
    load_tokens(copy)
    assert Role.HALT in roles
    assert Role.ADMIN not in roles
