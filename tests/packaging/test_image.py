"""The Dockerfile keeps the rules an image of this daemon must keep; it is parsed, not built."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _instructions() -> list[tuple[str, str]]:
    """Instructions in order, with continuation lines joined and comments left out."""
    lines = [
        line
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if not line.lstrip().startswith("#")
    ]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [
        (line.split(maxsplit=1)[0], line.split(maxsplit=1)[1])
        for line in joined.splitlines()
        if line.strip()
    ]


def _stages() -> list[list[tuple[str, str]]]:
    stages: list[list[tuple[str, str]]] = []
    for keyword, rest in _instructions():
        if keyword == "FROM":
            stages.append([])
        if stages:
            stages[-1].append((keyword, rest))
    return stages


def _last(keyword: str) -> str:
    return [rest for name, rest in _stages()[-1] if name == keyword][-1]


def test_has_a_build_stage_and_a_stage_without_tools() -> None:
    build, final = _stages()
    assert "AS build" in build[0][1]
    assert [rest for keyword, rest in final if keyword == "COPY"] == ["--from=build /opt /opt"]
    assert not any("pip" in rest for keyword, rest in final if keyword == "RUN")


def test_base_is_slim_and_can_be_given_by_digest() -> None:
    arguments = [rest for keyword, rest in _instructions() if keyword == "ARG"]
    assert arguments[0] == "PYTHON_IMAGE=python:3.11-slim-bookworm"
    assert all(stage[0][1].startswith("${PYTHON_IMAGE}") for stage in _stages())


def test_installs_by_hash_from_wheels_then_the_package_alone() -> None:
    runs = [rest for keyword, rest in _stages()[0] if keyword == "RUN"]
    installs = [part for run in runs for part in run.split("&&") if "pip install" in part]
    assert len(installs) == 2
    assert "--require-hashes" in installs[0]
    assert "--only-binary :all:" in installs[0]
    assert "--no-deps" in installs[1]
    assert "--no-build-isolation" in installs[1]


def test_runs_as_a_user_without_rights() -> None:
    uid, _, gid = _last("USER").partition(":")
    assert int(uid) >= 10_000
    assert int(gid) >= 10_000
    names = [keyword for keyword, _ in _stages()[-1]]
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert "RUN" not in names[names.index("USER") :]


def test_commands_are_lists_so_that_signals_reach_the_daemon() -> None:
    assert json.loads(_last("ENTRYPOINT")) == ["mm-daemon"]
    assert json.loads(_last("CMD")) == ["run"]
    assert _last("STOPSIGNAL") == "SIGTERM"


def test_every_command_in_it_acts_on_the_one_configuration() -> None:
    (named,) = re.findall(r"MM_CONFIG=(\S+)", _last("ENV"))
    assert f":{named}:ro" in (ROOT / "Dockerfile").read_text()
    assert f"export MM_CONFIG={named}" in (ROOT / "deploy" / "RUNBOOK.md").read_text()


def test_health_is_asked_at_healthz_by_a_program_that_is_there() -> None:
    check = _last("HEALTHCHECK")
    command = json.loads(check[check.index("CMD") + 4 :])
    assert command[:2] == ["python", "-c"]
    compile(command[2], "HEALTHCHECK", "exec")
    assert "/healthz" in _last("ENV")


def test_kernels_are_compiled_in_the_image_and_found_at_run_time() -> None:
    build, final = _stages()
    assert any("-m mm_daemon.warm" in rest for keyword, rest in build if keyword == "RUN")
    variables = [
        dict(pair.split("=", 1) for pair in rest.split() if "=" in pair)
        for stage in (build, final)
        for keyword, rest in stage
        if keyword == "ENV"
    ]
    assert {found["NUMBA_CACHE_DIR"] for found in variables} == {"/opt/kernels"}


def test_sources_have_whole_seconds_before_kernels_are_compiled() -> None:
    """Image layers drop fractions of a second; a cache stamped with them would be stale at once."""
    runs = " && ".join(rest for keyword, rest in _stages()[0] if keyword == "RUN")
    steps = [step.strip() for step in runs.split("&&")]
    touched = next(i for i, step in enumerate(steps) if "touch --date=" in step)
    compiled = next(i for i, step in enumerate(steps) if "compileall" in step)
    warmed = next(i for i, step in enumerate(steps) if "mm_daemon.warm" in step)
    assert touched < compiled < warmed


def test_what_is_copied_is_in_the_context_and_nothing_else_is() -> None:
    copied = {
        source.removeprefix("./")
        for keyword, rest in _stages()[0]
        if keyword == "COPY"
        for source in rest.split()[:-1]
    }
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignore[1] == "*"
    assert copied == {line[1:] for line in ignore if line.startswith("!")}
    assert all((ROOT / source).exists() for source in copied)


@pytest.mark.parametrize("word", ["secret", "password", "token", "client_id"])
def test_no_secret_is_baked_in(word: str) -> None:
    for keyword, rest in _instructions():
        if keyword in ("ARG", "ENV", "COPY"):
            assert word not in rest.lower()


def test_labels_say_what_it_is() -> None:
    found = re.findall(r"org\.opencontainers\.image\.(\w+)=", _last("LABEL"))
    assert set(found) >= {"title", "description", "licenses", "version", "revision"}


def test_the_command_that_compiles_says_where_kernels_are() -> None:
    """Only its help-less entry: compiling everything takes a minute and is done by the build."""
    program = "import mm_daemon.warm as w, sys; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
