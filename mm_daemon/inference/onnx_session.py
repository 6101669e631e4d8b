"""One ONNX model on one thread, over buffers that are bound once.

Inference runs inline behind a step, so it may neither allocate much nor start threads. Rows beyond
the bound buffers go in slices. The session knows nothing of features: bytes in, bytes out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from mm_daemon.domain.errors import ConfigError

ROWS_BOUND = 4096


class ModelError(Exception):
    """A loaded model did not get through its rows."""


class OnnxSession:
    """A loaded model: float32 (rows, features) to float32 (rows, outputs)."""

    def __init__(self, path: Path, *, features: int, outputs: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(
                str(path), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises bare types of its own
            raise ConfigError(f"{path}: not a loadable ONNX model: {error}") from error
        self._check_shape(path, features, outputs)
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name
        self.features = features
        self.outputs = outputs
        self._rows_in: npt.NDArray[np.float32] = np.zeros((ROWS_BOUND, features), dtype=np.float32)
        self._rows_out: npt.NDArray[np.float32] = np.zeros((ROWS_BOUND, outputs), dtype=np.float32)

    def run(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Outputs of (n, features) rows; the result is a fresh array of (n, outputs).

        Raises ModelError.
        """
        parts = [
            self._run_bound(rows[start : start + ROWS_BOUND])
            for start in range(0, len(rows), ROWS_BOUND)
        ]
        return np.concatenate(parts) if parts else np.empty((0, self.outputs), dtype=np.float32)

    def _run_bound(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        count = len(rows)
        self._rows_in[:count] = rows
        binding = self._session.io_binding()
        binding.bind_input(
            self._input, "cpu", 0, np.float32, (count, self.features), self._rows_in.ctypes.data
        )
        binding.bind_output(
            self._output, "cpu", 0, np.float32, (count, self.outputs), self._rows_out.ctypes.data
        )
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:  # onnxruntime raises bare types of its own
            raise ModelError(str(error)) from error
        return self._rows_out[:count].copy()

    def _check_shape(self, path: Path, features: int, outputs: int) -> None:
        found_in = [item.shape for item in self._session.get_inputs()]
        found_out = [item.shape for item in self._session.get_outputs()]
        if len(found_in) != 1 or len(found_out) != 1:
            raise ConfigError(f"{path}: expected one input and one output, found {found_in} and"
                              f" {found_out}")  # fmt: skip
        if found_in[0][-1] != features or found_out[0][-1] != outputs:
            raise ConfigError(
                f"{path}: expected (n, {features}) to (n, {outputs}), found {found_in[0]} to"
                f" {found_out[0]}"
            )
