"""Models are refused by name when bytes, layout or shape differ; else they answer in float32."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from mm_daemon.domain.errors import ConfigError
from mm_daemon.domain.outputs import AskInference
from mm_daemon.inference.manifest import MANIFEST, MODEL, Manifest, OutputRange
from mm_daemon.inference.onnx_session import ROWS_BOUND
from mm_daemon.inference.registry import LoadedModel, ModelRunner

LAYOUT = "layout-1"
WEIGHTS = np.array([[1.0, 0.5], [2.0, -1.0], [0.0, 4.0]], dtype=np.float32)


LINEAR = (helper.make_node("MatMul", ["x", "w"], ["y"]),)
BY_INDEX = (
    helper.make_node("ReduceSum", ["x", "features"], ["sum"], keepdims=0),
    helper.make_node("Cast", ["sum"], ["row"], to=TensorProto.INT64),
    helper.make_node("Gather", ["w", "row"], ["y"]),
)
"""Row of W by the sum of the features: loads well, and fails where there is no such row."""


def write_model(directory: Path, nodes: tuple[NodeProto, ...] = LINEAR, **changed: object) -> None:
    """A model of three features and two outputs, y = x W, with a true manifest."""
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [
            numpy_helper.from_array(WEIGHTS, "w"),
            numpy_helper.from_array(np.array([1], dtype=np.int64), "features"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    directory.mkdir(exist_ok=True)
    content = model.SerializeToString()
    (directory / MODEL).write_bytes(content)
    fields: dict[str, object] = {
        "name": "fill",
        "version": "1",
        "kind": "fill",
        "sha256": hashlib.sha256(content).hexdigest(),
        "feature_layout_hash": LAYOUT,
        "features": ("a", "b", "c"),
        "outputs": (OutputRange("y0", -10.0, 10.0), OutputRange("y1", -10.0, 10.0)),
        "trained_at": "2026-01-01",
        "trained_on": "nothing",
        "metrics": {},
        "seed": 1,
    }
    manifest = Manifest(**{**fields, **changed})  # type: ignore[arg-type]
    (directory / MANIFEST).write_bytes(msgspec.json.encode(manifest))


def runner(directory: Path) -> ModelRunner:
    ticks = iter(range(0, 10_000, 5))
    return ModelRunner({"fill": LoadedModel(directory, LAYOUT)}, lambda: next(ticks))


@pytest.mark.parametrize("count", [0, 1, 60, ROWS_BOUND + 3])
def test_answer_is_the_models_output_for_every_row(tmp_path: Path, count: int) -> None:
    write_model(tmp_path / "m")
    rows = np.linspace(-1.0, 1.0, 3 * count, dtype=np.float32).reshape(count, 3)
    answer = runner(tmp_path / "m").run(AskInference(9, "fill", count, rows.tobytes()))
    assert answer.error == ""
    assert (answer.ask_id, answer.columns, answer.duration_ns) == (9, 2, 5)
    found = np.frombuffer(answer.outputs, dtype="<f4").reshape(count, 2)
    expected = rows[:, :1] * WEIGHTS[0] + rows[:, 1:2] * WEIGHTS[1] + rows[:, 2:] * WEIGHTS[2]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_unknown_model_and_wrong_row_size_answer_with_an_error(tmp_path: Path) -> None:
    write_model(tmp_path / "m")
    run = runner(tmp_path / "m").run
    assert "no model named 'hedge'" in run(AskInference(1, "hedge", 0, b"")).error
    assert "8 bytes of features for 1 rows of 3" in run(AskInference(1, "fill", 1, b"x" * 8)).error


def test_a_model_that_fails_on_its_rows_answers_with_an_error_and_serves_the_next(
    tmp_path: Path,
) -> None:
    """The hot process asks it inline: what it raises must not get there."""
    write_model(tmp_path / "m", BY_INDEX)
    run = runner(tmp_path / "m").run
    bad = run(AskInference(7, "fill", 1, np.array([9, 9, 9], dtype="<f4").tobytes()))
    assert (bad.ask_id, bad.outputs, bad.columns) == (7, b"", 0)
    assert bad.error.startswith("model 'fill' failed on 1 rows: ")
    assert bad.duration_ns > 0
    good = run(AskInference(8, "fill", 1, np.array([1, 0, 0], dtype="<f4").tobytes()))
    assert good.error == ""
    assert np.frombuffer(good.outputs, dtype="<f4").tolist() == WEIGHTS[1].tolist()


def test_changed_model_file_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path / "m")
    path = tmp_path / "m" / MODEL
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ConfigError, match="the file changed after it was validated"):
        LoadedModel(tmp_path / "m", LAYOUT)


def test_other_feature_layout_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path / "m")
    with pytest.raises(ConfigError, match="trained on feature layout layout-1"):
        LoadedModel(tmp_path / "m", "layout-2")


def test_manifest_that_names_other_shapes_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path / "m", features=("a", "b"))
    with pytest.raises(ConfigError, match=r"expected \(n, 2\) to \(n, 2\)"):
        LoadedModel(tmp_path / "m", LAYOUT)


def test_file_that_is_not_onnx_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path / "m", sha256=hashlib.sha256(b"junk").hexdigest())
    (tmp_path / "m" / MODEL).write_bytes(b"junk")
    with pytest.raises(ConfigError, match="not a loadable ONNX model"):
        LoadedModel(tmp_path / "m", LAYOUT)


@pytest.mark.parametrize("damage", [b"{}", b"not json"])
def test_damaged_manifest_is_refused_by_path(tmp_path: Path, damage: bytes) -> None:
    write_model(tmp_path / "m")
    (tmp_path / "m" / MANIFEST).write_bytes(damage)
    with pytest.raises(ConfigError, match=MANIFEST):
        LoadedModel(tmp_path / "m", LAYOUT)


def test_missing_model_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="absent"):
        LoadedModel(tmp_path / "absent", LAYOUT)
