"""What marks the wire tests: patience for real processes, and one warm cache of kernels."""

from __future__ import annotations

import os

import pytest

IS_LONG = os.environ.get("MM_LONG") == "1"

long_only = pytest.mark.skipif(not IS_LONG, reason="takes minutes: set MM_LONG=1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first of them may have to wait for kernels to be compiled."""
    for item in items:
        if item.path.parent.name == "wire":
            item.add_marker(pytest.mark.timeout(300))
