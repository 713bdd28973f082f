"""Keys and certificates on disk."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path

import pytest

from tacit.errors import ConfigError
from tacit.net.certificates import Identity, fingerprint, make_certificate


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for role in ("alice", "bob"):
        make_certificate(tmp_path, role)
    return tmp_path


def test_only_the_owner_may_read_a_key(folder: Path) -> None:
    assert stat.S_IMODE((folder / "alice.key").stat().st_mode) == 0o600

    (folder / "alice.key").chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        Identity.load(folder, "alice", ("bob",))


def test_a_key_is_never_overwritten(folder: Path) -> None:
    before = (folder / "alice.key").read_bytes(), fingerprint(folder / "alice.crt")

    with pytest.raises(ConfigError, match=r"alice\.key is there already"):
        make_certificate(folder, "alice")

    assert ((folder / "alice.key").read_bytes(), fingerprint(folder / "alice.crt")) == before


def test_an_identity_accepts_the_pinned_certificate_and_no_other(folder: Path) -> None:
    identity = Identity.load(folder, "alice", ("bob",))
    bob, alice = (ssl.PEM_cert_to_DER_cert((folder / f"{role}.crt").read_text()) for role in ("bob", "alice"))

    assert identity.is_pinned("bob", bob)
    assert not identity.is_pinned("bob", alice)
    assert not identity.is_pinned("bob", None)
    context = identity.context("bob", server=True)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3


def spoil(folder: Path, what: str) -> None:
    alice, bob = folder / "alice.key", folder / "bob.crt"
    if what == "no key":
        alice.unlink()
    elif what == "no certificate":
        bob.unlink()
    elif what == "not a certificate":
        bob.write_text("hello")
    elif what == "another key":
        alice.write_bytes((folder / "bob.key").read_bytes())
    else:
        bob.write_bytes((folder / "alice.crt").read_bytes())


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no key", r"no private key .*alice\.key: make it with `tacit keygen`"),
        ("no certificate", r"no certificate .*bob\.crt"),
        ("not a certificate", r"bob\.crt is not a certificate"),
        ("another key", r"alice\.key and alice\.crt in .* do not fit"),
        ("the same", r"alice\.crt and bob\.crt in .* are the same"),
    ],
)
def test_what_is_missing_or_wrong_is_named(folder: Path, what: str, message: str) -> None:
    spoil(folder, what)

    with pytest.raises(ConfigError, match=message):
        Identity.load(folder, "alice", ("bob",))


def test_two_peers_have_two_certificates(folder: Path) -> None:
    make_certificate(folder, "crypto-producer")
    (folder / "crypto-producer.crt").write_bytes((folder / "bob.crt").read_bytes())

    with pytest.raises(ConfigError, match=r"bob\.crt and crypto-producer\.crt in .* are the same certificate"):
        Identity.load(folder, "alice", ("bob", "crypto-producer"))
