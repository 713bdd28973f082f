"""What ledgers prove: that nothing in one was changed, who wrote it, and that those of several roles agree.

Roles write what they took part in revealing, each into a file of its own, in lines that are chained and signed
(`chain`). All roles of a run write its identity, and with each reveal the number of operators so far and their
transcript; so the reveals of one run must be the same in all ledgers, but for the line of the program, the time, and
receivers that are no roles: their names may differ from server to server, and a role that hands out no share has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.x509.oid import NameOID

from tacit.errors import ConfigError
from tacit.net.certificates import read_certificate
from tacit.net.framing import printable
from tacit.session.chain import SIGNED, Linked, read
from tacit.session.registered import outsider_of

__all__ = ["Account", "Revealed", "Run", "compare", "read_account", "read_certificates"]


class Revealed(NamedTuple):
    """What must be the same in all ledgers of a run."""

    name: str
    shape: tuple[int, ...]
    receivers: tuple[str, ...]
    operator: int
    transcript: str
    outside: bool = False
    """Whether it was given to somebody who plays no role."""

    def __str__(self) -> str:
        return f"{self.name!r} {self.shape} to {', '.join(self.receivers)} at operator {self.operator}"


@dataclass(slots=True)
class Run:
    """What a ledger says of one run."""

    identity: str
    begun: int
    """The number of its first line."""
    helper: bool
    """Whether the ledger is of a role that holds no shares, which knows nothing of what clients are given."""
    reveals: list[Revealed] = field(default_factory=list)
    ended: str = ""
    lines: int = 0
    roles: tuple[str, ...] = ()
    """Who took part."""
    certificates: dict[str, str] = field(default_factory=dict)
    """By which the role knew the others, and itself: fingerprints by names. None of a run without TLS."""


@dataclass(slots=True)
class Account:
    """One ledger, read and checked."""

    path: Path
    role: str = ""
    runs: list[Run] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """Whatever shows that it was changed, or is not whole, or not signed as it should be."""
    noted: list[str] = field(default_factory=list)
    """What a reader should know, and what can happen to an honest role."""
    signers: dict[str, str] = field(default_factory=dict)
    """Fingerprint of each certificate that signed lines of it, and its file."""


def read_certificates(folder: Path) -> dict[str, tuple[Path, x509.Certificate]]:
    """All certificates in a folder by their fingerprints: those that roles have now, and those that they had."""
    found = {}
    for path in sorted(folder.glob("*.crt")):
        certificate = read_certificate(path)
        found[certificate.fingerprint(hashes.SHA256()).hex(":")] = (path, certificate)
    if not found:
        raise ConfigError(f"there are no certificates in {folder}")
    return found


def read_account(path: Path, certificates: dict[str, tuple[Path, x509.Certificate]] | None) -> Account:
    """Read a ledger, and check its chain and, by these certificates, its signatures; None leaves signatures out."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"the ledger {path} cannot be read: {error.strerror}") from None
    account = Account(path)
    lines = 0
    for line in read(data):
        lines += 1
        _take(account, line, certificates)
    if not lines:
        account.noted.append("nothing has been written to it")
    for run in account.runs:
        if not run.ended:
            account.noted.append(
                f"run {run.identity[:8]}, from line {run.begun} on, has no end: it was killed, goes on, or lines are "
                f"missing"
            )
    return account


def _take(account: Account, line: Linked, certificates: dict[str, tuple[Path, x509.Certificate]] | None) -> None:
    if line.between:
        account.noted.append(
            f"before line {line.number} stand {line.between} without a chain: of a process that died while it wrote, "
            f"or of an older version"
        )
    if not line.record:
        return
    where = f"line {line.number}"
    if not line.whole:
        account.wrong.append(f"{where} does not follow from what stands before it: something was changed or left out")
    try:
        kind, role, run = (str(line.record[key]) for key in ("kind", "role", "run"))
        if not account.role:
            account.role = role
        elif role != account.role:
            account.wrong.append(f"{where} is of {printable(role)}, and those before are of {account.role}")
        if kind == "run":
            account.runs.append(_begun(line, run, role))
        current = next((known for known in reversed(account.runs) if known.identity == run), None)
        if run and current is None:
            account.wrong.append(f"{where} is of run {printable(run)[:8]}, whose beginning is not there")
        elif current is not None:
            current.lines += 1
            if kind == "reveal":
                current.reveals.append(_revealed(line.record))
            elif kind == "end":
                current.ended = str(line.record["how"])
    except (KeyError, TypeError, ValueError, AttributeError):
        account.wrong.append(f"{where} is none that Tacit writes")
        return
    if certificates is not None:
        _check_signature(account, line, certificates)


def _begun(line: Linked, run: str, role: str) -> Run:
    roles, known = tuple(map(str, line.record["roles"])), line.record.get("certificates", {})
    helper = role in roles and role not in line.record["parties"]
    certificates = {str(name): str(mark) for name, mark in known.items()}
    return Run(run, line.number, helper, roles=roles, certificates=certificates)


def _revealed(record: dict[str, Any]) -> Revealed:
    receivers, outside = [], False
    for receiver in record["receivers"]:
        outsider = outsider_of(str(receiver))
        outside = outside or outsider is not None
        receivers.append(str(receiver) if outsider is None else outsider.word)
    shape = tuple(int(n) for n in record["shape"])
    operator, transcript = int(record.get("operator", 0)), str(record.get("transcript", ""))
    return Revealed(str(record["name"]), shape, tuple(dict.fromkeys(receivers)), operator, transcript, outside)


def _check_signature(account: Account, line: Linked, certificates: dict[str, tuple[Path, x509.Certificate]]) -> None:
    if not line.signature:
        account.wrong.append(f"line {line.number} is not signed")
        return
    for mark, (path, certificate) in certificates.items():
        key = certificate.public_key()
        if not isinstance(key, EllipticCurvePublicKey) or account.role not in _names(certificate):
            continue
        try:
            key.verify(line.signature, SIGNED + line.chain, ECDSA(hashes.SHA256()))
        except InvalidSignature:
            continue
        account.signers[mark] = str(path)
        return
    account.wrong.append(f"line {line.number} is not signed with the key of any certificate of {account.role}")


def _names(certificate: x509.Certificate) -> list[str]:
    return [str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]


def compare(accounts: Sequence[Account]) -> list[str]:
    """Where ledgers of different roles say different things of one run, each in a sentence."""
    found = []
    runs: dict[str, list[tuple[Account, Run]]] = {}
    for account in accounts:
        for run in account.runs:
            runs.setdefault(run.identity, []).append((account, run))
    for identity, told in runs.items():
        (first, its), *others = told
        for account, run in others:
            if account.role == first.role:
                found.append(f"run {identity[:8]}: {first.path} and {account.path} are both of {account.role}")
                continue
            found += _unlike(first, its, account, run)
            difference = _difference(its, run)
            if difference is not None:
                place, one, other = difference
                found.append(
                    f"run {identity[:8]}, reveal {place}: {first.role} has {one or 'no more'}, "
                    f"and {account.role} has {other or 'no more'}"
                )
    return found + [text for account in accounts for other in accounts for text in _missing(account, other)]


def _unlike(first: Account, its: Run, account: Account, run: Run) -> Iterator[str]:
    """What two roles say differently of how a run began."""
    if its.roles != run.roles:
        yield (
            f"run {run.identity[:8]}: its roles are {', '.join(map(printable, its.roles))} for {first.role}, and "
            f"{', '.join(map(printable, run.roles))} for {account.role}"
        )
    for role in its.certificates.keys() & run.certificates.keys():
        one, other = (printable(each.certificates[role])[:23] for each in (its, run))
        if its.certificates[role] != run.certificates[role]:
            yield (
                f"run {run.identity[:8]}: {first.role} knew {printable(role)} by the certificate {one}…, and "
                f"{account.role} by {other}…"
            )


def _missing(account: Account, other: Account) -> Iterator[str]:
    """Runs of one ledger that the other, whose role took part, has not, though it was kept already by then.

    One that broke off before anything was revealed may not have begun at a role.
    """
    held, kept = {run.identity for run in other.runs}, False
    for run in account.runs:
        kept = kept or run.identity in held
        told = run.reveals or run.ended == "in agreement"
        if kept and told and run.identity not in held and other.role in run.roles and other.role != account.role:
            yield f"run {run.identity[:8]}: {account.role} took part in it with {other.role}, whose ledger lacks it"


def _difference(one: Run, other: Run) -> tuple[int, Revealed | None, Revealed | None] | None:
    """The first reveal in which two ledgers of a run differ; of runs that did not end, one may be some lines ahead."""
    rows = [run.reveals for run in (one, other)]
    if one.helper or other.helper:
        rows = [[each for each in row if not each.outside] for row in rows]
    cut = not (one.ended == other.ended == "in agreement")
    for place, (x, y) in enumerate(zip_longest(*rows), start=1):
        if x != y:
            return None if cut and (x is None or y is None) and abs(len(rows[0]) - len(rows[1])) <= 1 else (place, x, y)
    return None
