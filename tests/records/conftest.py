"""Sessions and small tables."""

from __future__ import annotations

import pytest

import tacit


@pytest.fixture
def session():
    with tacit.session() as session:
        yield session


@pytest.fixture
def write(tmp_path):
    """Write a file, and return its path."""

    def written(text, name="people.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        return path

    return written
