"""Files that only their owner may read."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tacit import private_files


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_that_was_open_to_others_is_so_no_more(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"old")
    path.chmod(0o644)

    private_files.write(path, b"new")

    assert (path.read_bytes(), mode(path)) == (b"new", 0o600)
    assert [p.name for p in tmp_path.iterdir()] == ["key"]


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    elsewhere, path = tmp_path / "elsewhere", tmp_path / "key"
    elsewhere.write_bytes(b"theirs")
    path.symlink_to(elsewhere)

    private_files.write(path, b"mine")

    assert elsewhere.read_bytes() == b"theirs"
    assert not path.is_symlink()
    (tmp_path / "another").symlink_to(elsewhere)
    with pytest.raises(FileExistsError):
        private_files.create(tmp_path / "another")


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "key"
    private_files.write(path, b"old")

    def fail() -> None:
        with private_files.replacing(path) as partial:
            partial.write_bytes(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()

    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["key"]


def test_modes_are_read() -> None:
    assert not private_files.is_private(Path(__file__).parents[1] / "README.md")
