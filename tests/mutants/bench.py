"""Copies of the project in which faults are planted, and what the tests say there.

A bench is a private copy, so that a fault never stands in the project itself and two benches may
work side by side. Compiled kernels are taken along: numba finds them by the path of their source,
so the caches are renamed to the copy's paths; where that does not fit another version of numba,
kernels compile once more and nothing else happens. A fault outside compiled code keeps all of them,
although the cache's name changes with the source; one inside begins with none.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from mm_daemon.kernel_cache import source_digest, use_kernel_cache
from tests.mutants.mutant import PACKAGE, Mutant

PROJECT = Path(__file__).resolve().parents[2]
COPIED = (
    PACKAGE,
    "tests",
    "models",
    "deploy",
    "pyproject.toml",
    "config.example.toml",
    "README.md",
)
BASELINE_TIME_S_MAX = 900.0
PYTEST = ("-m", "pytest", "-x", "-q", "-rfE", "-p", "no:cacheprovider", "--no-header", "--tb=short")
_BROKEN = re.compile(r"^FAILED .*\n  (\S+)", re.MULTILINE)
"""The first invariant of a failed plan."""
_FAILED = re.compile(r"^(?:FAILED|ERROR) tests/(\S+)", re.MULTILINE)
_IMPORT_FAILED = re.compile(r"\b(?:ImportError|ModuleNotFoundError|SyntaxError)\b")


class Fate(Enum):
    CAUGHT = "caught"
    SURVIVED = "SURVIVED"
    BROKEN = "BROKEN"
    """The tests could not run at all, which shows nothing."""


@dataclass(frozen=True, slots=True)
class Result:
    mutant: Mutant
    fate: Fate
    time_s: float
    by: str
    """The test that failed, or what happened instead."""


@dataclass(frozen=True, slots=True)
class _Run:
    code: int | None
    """None: not ended in its time."""
    text: str
    time_s: float


class Bench:
    """One copy of the project."""

    def __init__(self, root: Path) -> None:
        self._root = root / "project"
        self._caches = root / "numba"
        for name in COPIED:
            _copy(PROJECT / name, self._root / name)
        self._digest = source_digest(self._root / PACKAGE)
        _move_kernels(use_kernel_cache(), self._caches / f"numba-{self._digest}", self._root)

    def baseline(self, mutants: Sequence[Mutant]) -> str | None:
        """Runs every test that is named, without a fault; returns what failed, None where none."""
        nodes = list(dict.fromkeys(node for one in mutants for node in one.tests))
        run = self._pytest(nodes, BASELINE_TIME_S_MAX) if nodes else _Run(0, "", 0.0)
        if run.code != 0:
            return run.text or "the tests did not end"
        for command in dict.fromkeys(one.command for one in mutants if one.command):
            run = self._python(("-m", PACKAGE, *command), BASELINE_TIME_S_MAX)
            if run.code != 0:
                return f"mm-daemon {' '.join(command)}\n{run.text}"
        return None

    def judge(self, mutant: Mutant) -> Result:
        """What the fault's tests say of it. The copy is as before afterwards."""
        with self._planted(mutant):
            if mutant.command:
                run = self._python(("-m", PACKAGE, *mutant.command), mutant.time_s_max)
            else:
                run = self._pytest(mutant.tests, mutant.time_s_max)
        fate, by = judged_by(mutant, run.code, run.text)
        return Result(mutant, fate, run.time_s, by)

    @contextmanager
    def _planted(self, mutant: Mutant) -> Iterator[None]:
        path = self._root / mutant.path
        status, source = path.stat(), path.read_text()
        path.write_text(mutant.applied(source))
        digest = source_digest(self._root / PACKAGE)
        cache = self._caches / f"numba-{digest}"
        try:
            if digest != self._digest and not mutant.is_kernel:
                _link(self._caches / f"numba-{self._digest}", cache)
            yield
        finally:
            if digest != self._digest:
                shutil.rmtree(cache, ignore_errors=True)
            path.write_text(source)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _pytest(self, nodes: Sequence[str], time_s_max: float) -> _Run:
        return self._python((*PYTEST, *(f"tests/{node}" for node in nodes)), time_s_max)

    def _python(self, arguments: Sequence[str], time_s_max: float) -> _Run:
        environment = os.environ | {
            "NUMBA_CACHE_DIR": str(self._caches),
            "PYTHONPATH": str(self._root),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        began_s = time.monotonic()
        child = subprocess.Popen(
            (sys.executable, *arguments),
            cwd=self._root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            text, _ = child.communicate(timeout=time_s_max)
            code: int | None = child.returncode
        except subprocess.TimeoutExpired:
            # The tests' own children hold the pipe as well: end the whole group of this run.
            os.killpg(child.pid, signal.SIGKILL)
            text, _ = child.communicate()
            code = None
        return _Run(code, text, time.monotonic() - began_s)


def judged_by(mutant: Mutant, code: int | None, text: str) -> tuple[Fate, str]:
    """What an exit code (None: not ended in time) and an output say, and the test that failed."""
    if code is None:
        fate = Fate.CAUGHT if mutant.is_caught_by_timeout else Fate.BROKEN
        return fate, f"not ended in {mutant.time_s_max:g} s"
    if code == 0:
        return Fate.SURVIVED, "nothing failed"
    if code != 1 or _IMPORT_FAILED.search(text):
        return Fate.BROKEN, f"exit {code}: {_last_line(text)}"
    if mutant.command:
        broken = _BROKEN.search(text)
        if broken is None:
            return Fate.BROKEN, f"exit 1 without a violation: {_last_line(text)}"
        return Fate.CAUGHT, f"{' '.join(mutant.command)}: {broken[1]}"
    failed = _FAILED.search(text)
    if failed is None:
        return Fate.BROKEN, f"exit 1 without a failed test: {_last_line(text)}"
    return Fate.CAUGHT, failed[1]


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no output"


def _copy(source: Path, target: Path) -> None:
    """Times are kept: numba takes a source with another time for a changed one."""
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    elif source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


def _move_kernels(origin: Path, target: Path, root: Path) -> None:
    """The project's compiled kernels under the names that numba looks for in the copy."""
    target.mkdir(parents=True)
    package = PROJECT / PACKAGE
    for path in sorted({file.parent for file in package.rglob("*.py")}):
        compiled = origin / _cache_name(path)
        if compiled.is_dir():
            copied = root / PACKAGE / path.relative_to(package)
            shutil.copytree(compiled, target / _cache_name(copied))


def _cache_name(directory: Path) -> str:
    return f"{directory.name}_{hashlib.sha1(str(directory).encode()).hexdigest()}"


def _link(origin: Path, target: Path) -> None:
    """Indexes are replaced as a whole by numba, never written in place: links are enough."""
    if origin.is_dir():
        shutil.copytree(origin, target, copy_function=os.link, dirs_exist_ok=True)
