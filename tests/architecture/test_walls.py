"""The walls of the house, beyond import-linter: purity of the pure rooms, one writer, bounded
modules."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.purity import findings

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "mm_daemon"
PURE_ROOMS = ("domain", "pricing", "core", "venues", "node", "sim")
STEP_ROOTS = ("mm_daemon.core.engine", "mm_daemon.node.node", "mm_daemon.venues.deribit.protocol")
MODULE_LINES_MAX = 500


def _modules(*rooms: str) -> list[Path]:
    return sorted(path for room in rooms for path in (PACKAGE / room).rglob("*.py"))


def _imports(path: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
            names.extend(f"{node.module}.{alias.name}" for alias in node.names)
    return [name for name in names if name.startswith("mm_daemon")]


def _path_of(module: str) -> Path | None:
    base = ROOT / module.replace(".", "/")
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _reachable_from_step() -> list[Path]:
    """Every module that can run inside `Node.step`, by following imports."""
    waiting = [path for root in STEP_ROOTS if (path := _path_of(root)) is not None]
    seen: dict[Path, None] = {}
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen[path] = None
            waiting.extend(p for name in _imports(path) if (p := _path_of(name)) is not None)
    return sorted(seen)


@pytest.mark.parametrize("path", _modules(*PURE_ROOMS), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_pure_room_has_no_clock_randomness_io_or_set_order(path: Path) -> None:
    assert findings(path.read_text(), numpy_transcendental_allowed=True) == []


@pytest.mark.parametrize("path", _reachable_from_step(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_step_computes_transcendentals_in_numba_only(path: Path) -> None:
    assert findings(path.read_text()) == []


@pytest.mark.parametrize(
    "planted",
    [
        "import time\ndef f() -> float:\n    return time.time()\n",
        "from datetime import datetime\nx = datetime.now()\n",
        "import numpy as np\nx = np.random.default_rng()\n",
        "def f(path):\n    return open(path).read()\n",
        "def f(x):\n    return hash(x)\n",
        "def f(x):\n    return id(x)\n",
        "def f(xs):\n    seen = {1, 2}\n    return [x for x in seen]\n",
        "def f(xs: set[int]):\n    for x in xs:\n        print(x)\n",
        "class A:\n    def __init__(self):\n        self.live: set[int] = set()\n"
        "    def f(self):\n        return list(self.live)\n",
        "import numpy as np\ndef f(x):\n    return np.exp(x)\n",
        "def f(a, b):\n    return a @ b\n",
        "import numpy as np\ndef f(a):\n    return np.linalg.inv(a)\n",
        "async def f():\n    pass\n",
        "import os\nx = os.environ['A']\n",
    ],
)
def test_planted_impurity_is_caught(planted: str) -> None:
    assert findings(planted) != []


@pytest.mark.parametrize(
    "clean",
    [
        "import numpy as np\nfrom numba import njit\n"
        "@njit(cache=True)\ndef f(x):\n    return np.exp(x)\n",
        "def f(xs: set[int]):\n    return sorted(xs)\n",
        "def f(xs: set[int], y):\n    return y in xs and len(xs)\n",
    ],
)
def test_allowed_forms_are_not_reported(clean: str) -> None:
    assert findings(clean) == []


def test_only_the_gate_writes_to_a_wire() -> None:
    """`WsWire.write` is the only way to a trading session's bytes and `kernel/gate.py` its only
    caller."""
    callers = [
        path.relative_to(PACKAGE).as_posix()
        for path in _modules("kernel", "node", "core", "venues", "inference", "run")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "write"
        and "wire" in ast.unparse(node.func.value)
    ]
    assert callers == ["kernel/gate.py"]
    transports = [
        path.relative_to(PACKAGE).as_posix()
        for path in _modules("shell")
        if "WSTransport" in path.read_text()
    ]
    assert transports == ["shell/ws_session.py"]


def test_gate_never_awaits_and_never_calls_back_into_the_loop() -> None:
    source = (PACKAGE / "kernel" / "gate.py").read_text()
    assert "await" not in re.sub(r'""".*?"""', "", source, flags=re.S)
    assert "asyncio" not in source


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_module_fits_in_the_head(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MODULE_LINES_MAX


PLANTED_IMPORTS = [
    ("mm_daemon/domain/planted.py", "import mm_daemon.core.catalog\n"),
    ("mm_daemon/pricing/planted.py", "import mm_daemon.core.catalog\n"),
    ("mm_daemon/core/planted.py", "import mm_daemon.venues.protocol\n"),
    ("mm_daemon/core/planted.py", "import scipy.optimize\n"),
    ("mm_daemon/venues/planted.py", "import asyncio\n"),
    ("mm_daemon/sim/planted.py", "import mm_daemon.pricing.valuation\n"),
    ("mm_daemon/ipc/planted.py", "import msgspec\n"),
    ("mm_daemon/guard/planted.py", "import numpy\n"),
    ("mm_daemon/ops/planted.py", "import mm_daemon.core.catalog\n"),
    ("mm_daemon/shell/planted.py", "import mm_daemon.venues.deribit.protocol\n"),
    ("mm_daemon/shell/planted.py", "import mm_daemon.ops\n"),
    ("mm_daemon/node/planted.py", "import mm_daemon.kernel.gate\n"),
]


@pytest.mark.parametrize(("where", "line"), PLANTED_IMPORTS)
def test_planted_import_breaks_a_contract(where: str, line: str, tmp_path: Path) -> None:
    """Each wall is proven by a violation: a copy of the package with one forbidden import fails."""
    for path in sorted(PACKAGE.rglob("*.py")):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text())
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    planted = tmp_path / where
    planted.write_text(line)
    run = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )
    assert run.returncode == 1, run.stdout + run.stderr
    assert "planted" in run.stdout
