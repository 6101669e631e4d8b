"""What a model file claims to be, checked before anything asks it for a number.

A model is a directory: `model.onnx`, `manifest.json`, `card.md`. The manifest names the bytes by
SHA-256 and the features by the hash of their layout, so a model trained on other columns, or a
file that changed since it was validated, is refused by name and never run.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import msgspec

from mm_daemon.domain.errors import ConfigError

MODEL = "model.onnx"
MANIFEST = "manifest.json"
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]


class OutputRange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One output column: its name and the range outside which it is not believed."""

    name: str
    low: float
    high: float


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything the daemon needs to know of a model without opening it."""

    name: str
    version: str
    kind: str
    """fill | spread."""
    sha256: Sha256
    feature_layout_hash: str
    features: tuple[str, ...]
    outputs: tuple[OutputRange, ...]
    trained_at: str
    """UTC date."""
    trained_on: str
    """What the training rows were, and how many."""
    metrics: dict[str, float]
    """Held-out figures, by name."""
    seed: int


def load_manifest(directory: Path) -> Manifest:
    """Reads and checks `directory/manifest.json` against the file beside it.

    Raises: ConfigError naming what differs.
    """
    path = directory / MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{path}: {error}") from error
    found = file_sha256(directory / MODEL)
    if found != manifest.sha256:
        raise ConfigError(
            f"{directory / MODEL}: SHA-256 is {found}, the manifest says {manifest.sha256}:"
            " the file changed after it was validated"
        )
    return manifest


def require_layout(manifest: Manifest, layout_hash: str) -> None:
    """Raises ConfigError where the model was trained on another feature layout."""
    if manifest.feature_layout_hash != layout_hash:
        raise ConfigError(
            f"model {manifest.name} {manifest.version}: trained on feature layout"
            f" {manifest.feature_layout_hash}, this build has {layout_hash}: train it again"
        )


def file_sha256(path: Path) -> str:
    """Raises ConfigError where the file cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
