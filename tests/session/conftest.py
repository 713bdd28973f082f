"""What holds for tests of sessions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tacit.session import changes


@pytest.fixture
def no_other_session() -> Iterator[None]:
    """No session is open but the test's own: what other tests have left open, for all tests of a file, begins anew."""
    left = changes._open
    for _ in range(left):
        changes.end()
    yield
    for _ in range(left):
        changes.begin()
