"""A venue for the guard's tests."""

from collections.abc import Iterator

import pytest

from tests.guard.rest_venue import RestVenue


@pytest.fixture
def venue() -> Iterator[RestVenue]:
    venue = RestVenue()
    venue.start()
    yield venue
    venue.stop()
