"""Finds what would make a decision differ between two runs: the walls that imports alone do not
show.

A rule is a function from a parsed module to findings. Functions compiled by numba are exempt from
the transcendental rule:
they are the one place where such functions give equal bits on every machine.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

TRANSCENDENTAL = frozenset(
    """
    exp expm1 exp2 log log1p log2 log10 sqrt cbrt power sin cos tan arcsin arccos arctan arctan2
    sinh cosh tanh hypot erf dot matmul vdot inner einsum tensordot convolve
    """.split()  # noqa: SIM905 - a table reads better than a list of quoted words
)
CLOCK_CALLS = frozenset(
    """
    time.time time.time_ns time.monotonic time.monotonic_ns time.perf_counter
    time.perf_counter_ns time.sleep datetime.now datetime.utcnow datetime.today date.today
    datetime.datetime.now
    """.split()  # noqa: SIM905 - a table reads better than a list of quoted words
)
BUILTINS = frozenset({"open", "hash", "id", "print", "input", "eval", "exec", "globals", "vars"})
SEEDED = frozenset({"Generator", "Philox", "SeedSequence", "PCG64", "BitGenerator"})
NUMBA = frozenset({"njit", "jit", "vectorize", "guvectorize", "kernel"})


@dataclass(frozen=True)
class Finding:
    line: int
    what: str


def findings(source: str, *, numpy_transcendental_allowed: bool = False) -> list[Finding]:
    """Everything impure in one module's source."""
    tree = ast.parse(source)
    found = [*_impure_calls(tree), *_set_iterations(tree)]
    if not numpy_transcendental_allowed:
        found.extend(_transcendental(tree))
    return sorted(found, key=lambda finding: finding.line)


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return ""


def _impure_calls(tree: ast.AST) -> Iterator[Finding]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            name = _dotted(node)
            if name.startswith(("np.random.", "numpy.random.")) and node.attr not in SEEDED:
                yield Finding(node.lineno, f"{name}: randomness enters once, by a seeded Generator")
            if name in ("os.environ", "sys.argv"):
                yield Finding(node.lineno, f"{name}: environment in a pure room")
        if isinstance(node, ast.Call):
            name = _dotted(node.func)
            if name in CLOCK_CALLS:
                yield Finding(node.lineno, f"{name}(): time is an argument")
            if name in BUILTINS:
                yield Finding(node.lineno, f"{name}(): not in a pure room")
        if isinstance(node, ast.AsyncFunctionDef | ast.Await):
            yield Finding(node.lineno, "async in a pure room")


def _is_set(node: ast.expr, known: frozenset[str]) -> bool:
    if isinstance(node, ast.Set | ast.SetComp):
        return True
    if isinstance(node, ast.Call):
        if _dotted(node.func) in ("set", "frozenset"):
            return True
        if _dotted(node.func) in ("list", "tuple", "iter", "enumerate") and node.args:
            return _is_set(node.args[0], known)
        return isinstance(node.func, ast.Attribute) and node.func.attr in (
            "union", "intersection", "difference", "symmetric_difference",
        ) and _is_set(node.func.value, known)  # fmt: skip
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr | ast.BitAnd | ast.Sub):
        return _is_set(node.left, known) or _is_set(node.right, known)
    return _dotted(node) in known and _dotted(node) != ""


def _set_names(tree: ast.AST) -> frozenset[str]:
    """Names and attributes that are assigned or annotated as sets anywhere in the module."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and _is_set(node.value, frozenset()):
            names.extend(_dotted(target) for target in node.targets)
        if isinstance(node, ast.AnnAssign | ast.arg) and node.annotation is not None:
            text = ast.unparse(node.annotation)
            if text.startswith(("set[", "frozenset[", "Set[", "AbstractSet[")) or text in (
                "set",
                "frozenset",
            ):
                names.append(node.arg if isinstance(node, ast.arg) else _dotted(node.target))
    return frozenset(name for name in names if name)


def _set_iterations(tree: ast.AST) -> Iterator[Finding]:
    known = _set_names(tree)
    ordered = [
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and _dotted(node.func) in ("sorted", "len", "min", "max", "sum", "any", "all")
        for inner in ast.walk(node)
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.For):
            iterables = [node.iter]
        elif (
            isinstance(node, ast.ListComp | ast.DictComp | ast.GeneratorExp) and node not in ordered
        ):
            iterables = [comprehension.iter for comprehension in node.generators]
        elif isinstance(node, ast.Starred):
            iterables = [node.value]
        elif isinstance(node, ast.Call) and _dotted(node.func) in ("list", "tuple", "iter", "next"):
            iterables = list(node.args)
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "pop"
        ):
            iterables = [node.func.value] if not node.args else []
        else:
            continue
        for iterable in iterables:
            if _is_set(iterable, known) and iterable not in ordered:
                yield Finding(node.lineno, "iteration over a set: its order differs between runs")


def _transcendental(tree: ast.AST) -> Iterator[Finding]:
    compiled: list[tuple[int, int]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and any(
            _is_numba(item) for item in node.decorator_list
        ):
            compiled.append((node.lineno, node.end_lineno or node.lineno))
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if any(first <= line <= last for first, last in compiled):
            continue
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
            yield Finding(line, "@: matrix products differ between BLAS builds")
        if isinstance(node, ast.Attribute):
            name = _dotted(node)
            root, _, leaf = name.rpartition(".")
            if root in ("np", "numpy") and leaf in TRANSCENDENTAL:
                yield Finding(
                    line, f"{name}: SIMD kernels differ between machines; use a numba kernel"
                )
            if root in ("np.linalg", "numpy.linalg", "np.fft", "numpy.fft"):
                yield Finding(line, f"{name}: linear algebra belongs in compute")


def _is_numba(decorator: ast.expr) -> bool:
    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    return _dotted(target).rpartition(".")[2] in NUMBA
