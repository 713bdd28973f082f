"""Keys and certificates on disk."""

from __future__ import annotations

import datetime
import os
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509

from tacit.errors import ConfigError
from tacit.net import certificates
from tacit.net.certificates import Identity, fingerprint, make_certificate, read_certificate, signing_key


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


def test_a_certificate_is_valid_for_less_than_a_year(folder: Path) -> None:
    made = read_certificate(folder / "alice.crt")

    assert made.not_valid_after_utc - made.not_valid_before_utc < datetime.timedelta(days=365)


@pytest.mark.parametrize(("offset", "problem"), [(-400, "has expired, on "), (9, "is valid from ")])
def test_a_certificate_out_of_date_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, offset: float, problem: str
) -> None:
    moved = datetime.timedelta(days=offset)
    monkeypatch.setattr(certificates, "LIFETIME", certificates.LIFETIME + moved)
    begin, original = datetime.datetime.now(datetime.UTC) + moved, x509.CertificateBuilder.not_valid_before
    monkeypatch.setattr(x509.CertificateBuilder, "not_valid_before", lambda self, time: original(self, begin))
    make_certificate(folder, "bob", rotate=True)

    with pytest.raises(ConfigError, match=rf"bob\.crt {problem}"):
        Identity.load(folder, "alice", ("bob",))


def test_the_last_month_of_a_certificate_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "LIFETIME", datetime.timedelta(days=20))
    (folder / "bob.key").unlink()
    make_certificate(folder, "bob")

    with pytest.warns(UserWarning, match=r"bob\.crt expires on .*: `tacit keygen --rotate`"):
        Identity.load(folder, "alice", ("bob",))


def test_a_revoked_certificate_is_refused_though_it_is_pinned(folder: Path) -> None:
    for role in ("alice", "bob"):
        with pytest.raises(ConfigError, match=rf"{role}\.crt is among the certificates that 'tacit\.revoked' names"):
            Identity.load(folder, "alice", ("bob",), (fingerprint(folder / f"{role}.crt"),))
    Identity.load(folder, "alice", ("bob",), ("00:" * 31 + "00",))


def test_a_rotated_key_is_new_and_its_old_certificate_stays(folder: Path) -> None:
    before, key = (folder / "bob.crt").read_bytes(), (folder / "bob.key").read_bytes()
    day = read_certificate(folder / "bob.crt").not_valid_before_utc.date()

    for _ in range(2):
        make_certificate(folder, "bob", rotate=True)

    assert (folder / f"bob.{day}.crt").read_bytes() == before
    assert (folder / f"bob.{day}.2.crt").exists()
    assert before != (folder / "bob.crt").read_bytes()
    assert not any(path.read_bytes() == key for path in folder.iterdir())
    assert Identity.load(folder, "bob", ("alice",)).is_pinned("alice", None) is False


@pytest.mark.parametrize("source", ["variable", "descriptor"])
def test_an_encrypted_key_wants_its_passphrase(folder: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    with pytest.raises(ConfigError, match="set TACIT_KEY_PASSPHRASE or TACIT_KEY_PASSPHRASE_FD"):
        make_certificate(folder, "bob", rotate=True, encrypt=True)
    if source == "variable":
        monkeypatch.setenv("TACIT_KEY_PASSPHRASE", "Geheimnis ß")
    else:
        reading, writing = os.pipe()
        os.write(writing, "Geheimnis ß\n".encode())
        os.close(writing)
        monkeypatch.setenv("TACIT_KEY_PASSPHRASE_FD", str(reading))
        certificates._read_descriptor.cache_clear()
    make_certificate(folder, "bob", rotate=True, encrypt=True)

    assert b"ENCRYPTED" in (folder / "bob.key").read_bytes()
    Identity.load(folder, "bob", ("alice",))
    assert signing_key(folder, "bob").public_key() == read_certificate(folder / "bob.crt").public_key()
    monkeypatch.delenv("TACIT_KEY_PASSPHRASE", raising=False)
    monkeypatch.delenv("TACIT_KEY_PASSPHRASE_FD", raising=False)
    for load in (lambda: Identity.load(folder, "bob", ("alice",)), lambda: signing_key(folder, "bob")):
        with pytest.raises(ConfigError, match="the private key is encrypted: set TACIT_KEY_PASSPHRASE"):
            load()
    monkeypatch.setenv("TACIT_KEY_PASSPHRASE", "another")
    with pytest.raises(ConfigError, match="do not fit"):
        Identity.load(folder, "bob", ("alice",))


def test_a_key_that_was_encrypted_is_not_followed_by_one_that_is_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TACIT_KEY_PASSPHRASE", "secret")
    make_certificate(folder, "bob", rotate=True, encrypt=True)
    before = (folder / "bob.key").read_bytes()

    with pytest.raises(ConfigError, match="is encrypted, and its successor would not be: say --encrypt"):
        make_certificate(folder, "bob", rotate=True)

    assert (folder / "bob.key").read_bytes() == before


@pytest.mark.parametrize("full", ["key", "certificate"])
def test_a_key_is_replaced_once_its_successor_is_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write, marked = Path.write_bytes, "bob.key" if full == "key" else "bob.crt"

    def refusing(self: Path, data: bytes) -> int:
        if marked in self.name:
            raise OSError(28, "No space left on device")
        return write(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", refusing)
        with pytest.raises(ConfigError, match=r"the key of bob cannot be written to .*: No space left on device"):
            make_certificate(folder, "bob", rotate=True)

    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    Identity.load(folder, "bob", ("alice",))
