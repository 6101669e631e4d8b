"""A fitted head as a model directory: ONNX graph, manifest, card.

The graph is the forward pass of `hinge_basis` operator by operator, in float32, at a pinned IR and
operator version, so that equal weights give equal bytes and any onnxruntime of the lock runs it.
The file is written whole and loaded again through the daemon's own door before the command says
that it is there: a model that cannot be served is never left behind under a good name.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from mm_daemon.core.catalog import Floats
from mm_daemon.core.features import FEATURES, LAYOUT_HASH, Rows
from mm_daemon.domain.errors import ConfigError
from mm_daemon.inference.manifest import MANIFEST, MODEL, Manifest, OutputRange
from mm_daemon.inference.registry import LoadedModel
from mm_daemon.research.hinge_basis import Z_MAX, LinearHead

CARD = "card.md"
IR_VERSION = 9
OPSET = 17
PARITY_MAX = 1e-5
"""Largest relative difference between the graph and the forward pass it was written from."""


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the manifest says beside the bytes."""

    kind: str
    outputs: tuple[OutputRange, ...]
    trained_at: str
    trained_on: str
    metrics: dict[str, float]
    seed: int


def onnx_bytes(head: LinearHead, name: str) -> bytes:
    """The serialised graph. Raises ConfigError where the `train` extra is not installed."""
    try:
        from onnx import TensorProto, helper, numpy_helper
    except ImportError as error:
        raise ConfigError(
            "training needs the onnx package: install mm-daemon with the extra `train`"
        ) from error
    basis = head.basis
    constants: dict[str, Any] = {
        "mean": basis.mean,
        "inverse_sd": basis.inverse_sd,
        "z_min": np.array(-Z_MAX, dtype=np.float32),
        "z_max": np.array(Z_MAX, dtype=np.float32),
        "weights": head.weights,
        "bias": head.bias,
    }
    nodes = [
        helper.make_node("Sub", ["features", "mean"], ["centred"]),
        helper.make_node("Mul", ["centred", "inverse_sd"], ["scaled"]),
        helper.make_node("Clip", ["scaled", "z_min", "z_max"], ["z"]),
    ]
    columns = "z"
    if basis.knots.size:
        constants["select"], constants["minus_knots"] = basis.select, -basis.knots
        nodes += [
            helper.make_node("Gemm", ["z", "select", "minus_knots"], ["beyond"]),
            helper.make_node("Relu", ["beyond"], ["hinges"]),
            helper.make_node("Concat", ["z", "hinges"], ["columns"], axis=1),
        ]
        columns = "columns"
    nodes.append(helper.make_node("Gemm", [columns, "weights", "bias"], ["outputs"]))
    shape_in: list[str | int | None] = ["rows", basis.mean.size]
    shape_out: list[str | int | None] = ["rows", head.bias.size]
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, shape_in)],
        [helper.make_tensor_value_info("outputs", TensorProto.FLOAT, shape_out)],
        [numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="mm-daemon",
    )
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def write_model(
    directory: Path, head: LinearHead, facts: ModelFacts, card: str, check_rows: Rows
) -> Manifest:
    """Writes the directory whole, replacing what was there, and returns its manifest.

    check_rows: rows on which the served model must give what `head` gives.
    Raises: ConfigError where it does not, or where the directory cannot be written.
    """
    content = onnx_bytes(head, facts.kind)
    sha256 = hashlib.sha256(content).hexdigest()
    manifest = Manifest(
        name=facts.kind,
        version=f"{facts.trained_at}.{sha256[:8]}",
        kind=facts.kind,
        sha256=sha256,
        feature_layout_hash=LAYOUT_HASH,
        features=FEATURES,
        outputs=facts.outputs,
        trained_at=facts.trained_at,
        trained_on=facts.trained_on,
        metrics=facts.metrics,
        seed=facts.seed,
    )
    fresh = directory.with_name(f".{directory.name}.new")
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        (fresh / MODEL).write_bytes(content)
        text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
        (fresh / MANIFEST).write_bytes(text + b"\n")
        (fresh / CARD).write_text(card)
        _require_parity(fresh, head, check_rows)
        shutil.rmtree(directory, ignore_errors=True)
        fresh.rename(directory)
    except OSError as error:
        raise ConfigError(f"{directory}: cannot write the model: {error.strerror}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return manifest


def parity(served: Floats, expected: Floats) -> float:
    """Largest difference, relative where values are beyond one."""
    if not served.size:
        return 0.0
    return float(np.max(np.abs(served - expected) / np.maximum(np.abs(expected), 1.0)))


def _require_parity(directory: Path, head: LinearHead, rows: Rows) -> None:
    served = LoadedModel(directory, LAYOUT_HASH).session.run(rows)
    found = parity(served.astype(np.float64), head.outputs(rows).astype(np.float64))
    if not found <= PARITY_MAX:
        raise ConfigError(
            f"{directory / MODEL}: the served model differs from the fitted one by {found:.2g},"
            f" expected at most {PARITY_MAX:g}: it was not kept"
        )
