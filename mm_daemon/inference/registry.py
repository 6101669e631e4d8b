"""The models a daemon runs with: loaded, checked against this build, and asked by name.

Answers are inputs of the decision: the runner turns one request into one answer, with the time it
took, and an error instead of an exception. It never judges an output; the decision does.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from mm_daemon.domain.inputs import InferenceAnswer
from mm_daemon.domain.outputs import AskInference
from mm_daemon.domain.params import ModelSlot
from mm_daemon.inference.manifest import MODEL, Manifest, load_manifest, require_layout
from mm_daemon.inference.onnx_session import ModelError, OnnxSession


class LoadedModel:
    """A model whose manifest, bytes and layout agreed."""

    def __init__(self, directory: Path, layout_hash: str) -> None:
        self.manifest: Manifest = load_manifest(directory)
        require_layout(self.manifest, layout_hash)
        self.session = OnnxSession(
            directory / MODEL,
            features=len(self.manifest.features),
            outputs=len(self.manifest.outputs),
        )

    def slot(self, *, refresh_ms: int, deadline_ms: int) -> ModelSlot:
        """What the decision is told of it."""
        return ModelSlot(
            name=self.manifest.name,
            sha256=self.manifest.sha256,
            feature_layout_hash=self.manifest.feature_layout_hash,
            refresh_ms=refresh_ms,
            deadline_ms=deadline_ms,
        )


class ModelRunner:
    """Runs requests for the models it holds."""

    def __init__(self, models: dict[str, LoadedModel], mono_ns: Callable[[], int]) -> None:
        self._models = models
        self._mono_ns = mono_ns

    def run(self, ask: AskInference) -> InferenceAnswer:
        """The answer to one request. Whatever goes wrong is its `error`."""
        started_ns = self._mono_ns()
        outputs = b""
        columns = 0
        error = ""
        model = self._models.get(ask.model)
        if model is None:
            error = f"no model named {ask.model!r} is loaded"
        elif len(ask.features) != 4 * ask.rows * model.session.features:
            error = (
                f"{len(ask.features)} bytes of features for {ask.rows} rows of"
                f" {model.session.features}"
            )
        else:
            rows = np.frombuffer(ask.features, dtype="<f4")
            try:
                result = model.session.run(rows.reshape(ask.rows, model.session.features))
            except ModelError as failure:
                error = f"model {ask.model!r} failed on {ask.rows} rows: {failure}"
            else:
                outputs = result.astype("<f4", copy=False).tobytes()
                columns = model.session.outputs
        return InferenceAnswer(
            ask_id=ask.ask_id,
            model=ask.model,
            outputs=outputs,
            columns=columns,
            error=error,
            duration_ns=self._mono_ns() - started_ns,
        )
