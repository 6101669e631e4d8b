"""After the warm-up no kernel of the decision is left to compile inside a step."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

from mm_daemon import app
from mm_daemon.core import warm_up as module
from mm_daemon.domain.inputs import Start
from mm_daemon.domain.params import ModelSlot

CORE = Path(module.__file__).parent
AFTER_THE_FACT = {"mm_daemon.core.quote_kernel.others_touch"}
"""Called from Python only where a quote is explained, which no step does."""


def _start() -> Start:
    config = app.load_config(None)
    fill, spread = (
        ModelSlot(name=name, sha256="", feature_layout_hash="", refresh_ms=200, deadline_ms=100)
        for name in ("fill", "spread")
    )
    return Start(
        session="20260101T000000Z",
        epoch=1,
        first_sequence=1,
        seed=1,
        wall_offset_ns=0,
        params=config.params(fill_model=fill, spread_model=spread),
        venue_settings=b"",
        checkpoint=b"",
        ledger_tail=b"",
        latch_generation=0,
        latch_permission=0,
        latch_tasks=0,
    )


def _is_kernel(node: ast.AST) -> bool:
    decorators = getattr(node, "decorator_list", [])
    return any("kernel" in ast.dump(one) or "jit" in ast.dump(one) for one in decorators)


def _called_by_python(tree: ast.AST, names: dict[str, object]) -> Iterator[object]:
    """What is called outside kernels: what a kernel calls is compiled with it."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield names.get(node.func.id)
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
        ):
            yield getattr(names.get(node.func.value.id), node.func.attr, None)
        if not _is_kernel(node):
            yield from _called_by_python(node, names)


def test_every_kernel_that_python_calls_is_compiled_after_the_warm_up() -> None:
    entries = {}
    for path in sorted(CORE.glob("*.py")):
        room = importlib.import_module(f"mm_daemon.core.{path.stem}")
        for called in _called_by_python(ast.parse(path.read_text()), vars(room)):
            if hasattr(called, "py_func"):
                entries[f"{called.py_func.__module__}.{called.py_func.__name__}"] = called
    assert len(entries) > 20
    assert module.warm_up(_start()) > 0
    needed = {where: one for where, one in entries.items() if where not in AFTER_THE_FACT}
    cold = [where for where, one in needed.items() if not one.signatures]
    assert cold == [], f"would compile inside a step: {', '.join(cold)}"
