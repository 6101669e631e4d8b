"""What README and runbook tell people to type is there, and what is there they tell."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from mm_daemon.cli import app
from mm_daemon.domain.permission import PRESETS
from mm_daemon.ops.auth import Role
from mm_daemon.ops.refusal import ADOPTION_CODES, TERMS_CODES
from mm_daemon.ops.routes import BY_PLACE, ROUTES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
RUNBOOK = (ROOT / "deploy" / "RUNBOOK.md").read_text()
UNTOLD = ("index", "console")
"""Routes that are the console's own files."""


def commands() -> dict[str, Any]:
    """Every command that people see, with its options; of a group its members."""
    found: dict[str, Any] = {}
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        members = getattr(command, "commands", None)
        if members is None:
            found[name] = command
        else:
            found |= {f"{name} {one}": member for one, member in members.items()}
    return {name: one for name, one in found.items() if not one.hidden}


def table_rows() -> list[str]:
    """First cells of the README's table of commands."""
    section = README.partition("## Commands")[2].partition("\n## ")[0]
    return re.findall(r"^\| (`.*?`) \|", section.replace("\\|", "/"), re.MULTILINE)


def told() -> set[str]:
    names = set()
    for usage in re.findall(r"`([^`]+)`", " ".join(table_rows())):
        words = usage.split()
        last = [words[1]] if len(words) > 1 and words[1][0].islower() else []
        for choice in last[0].split("/") if last else [""]:
            names.add(f"{words[0]} {choice}".strip())
    return names


def options_of(command: Any) -> set[str]:
    return {one for parameter in command.params for one in parameter.opts if one[:2] == "--"}


def test_every_command_has_its_row_and_every_row_its_command() -> None:
    assert told() == set(commands())


def test_every_option_in_a_row_exists() -> None:
    known = commands()
    for usage in re.findall(r"`([^`]+)`", " ".join(table_rows())):
        words = usage.split()
        name = next(one for one in known if one.split()[0] == words[0])
        options = set(re.findall(r"--[a-z-]+", usage))
        assert options <= options_of(known[name]) | {"--help"}, usage


@pytest.mark.parametrize("text", [README, RUNBOOK], ids=["readme", "runbook"])
def test_every_call_of_the_command_that_is_told_can_be_typed(text: str) -> None:
    known = commands()
    calls = re.findall(r"(?:`|/|^ +)mm-daemon ([^`\n#|]+)", text, re.MULTILINE)
    assert calls
    for usage in calls:
        words = usage.split()
        name = next((one for one in (" ".join(words[:2]), words[0]) if one in known), "")
        assert name or words[0] == "COMMAND", usage
        if name:
            options = set(re.findall(r"(?<= )--[a-z-]+", usage))
            assert options <= options_of(known[name]) | {"--help"}, usage


def told_routes() -> set[tuple[str, str]]:
    found = set()
    for method, path in re.findall(r"`(GET|POST) (/v1/[^` ]+)`", README):
        stem, brace, rest = path.partition("{")
        names = rest.rstrip("}").split(",") if brace else [""]
        found |= {(method, stem + name) for name in names}
    return found


def test_every_route_is_told_and_every_told_route_is_there() -> None:
    served = {place for place, route in BY_PLACE.items() if route.name not in UNTOLD}
    assert told_routes() == served


def test_every_code_that_a_person_meets_on_the_way_to_quoting_has_its_advice() -> None:
    advised = set(re.findall(r"`(\w+)`", RUNBOOK.partition("## ")[0]))
    assert {*TERMS_CODES, *ADOPTION_CODES} - advised == set()


def test_levels_and_roles_are_all_told() -> None:
    for name in PRESETS:
        assert f"`{name}`" in README
    roles = " < ".join(role.name.lower() for role in sorted(Role))
    assert roles in README


def test_every_act_needs_a_body_and_a_role_above_looking() -> None:
    for route in ROUTES:
        if route.method == "POST":
            assert route.body is not None
            assert route.role > Role.VIEW
