"""`tacit ledger`: what roles wrote down of their reveals, checked."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tacit.session.evidence import Account, compare, read_account, read_certificates

__all__ = ["ledger"]


@click.group()
def ledger() -> None:
    """Check what roles wrote down of their reveals."""


@ledger.command()
@click.argument("ledgers", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--certs",
    type=click.Path(path_type=Path),
    help="A folder with the certificates of the roles, those that they had before as well.",
)
def verify(ledgers: tuple[Path, ...], certs: Path | None) -> None:
    """Check LEDGERS: that nothing in them was changed, who signed them, and that several roles say the same.

    The exit code is 0 if nothing is wrong. What can happen to an honest role, such as a run that was killed, is noted.
    Lines that were cut off at the end show only in comparison with another role's ledger.
    """
    certificates = None if certs is None else read_certificates(certs)
    accounts = [read_account(path, certificates) for path in ledgers]
    for account in accounts:
        _tell(account, signed=certs is not None)
    differences = compare(accounts)
    for difference in differences:
        click.echo(f"WRONG: {difference}")
    if len(accounts) > 1 and not differences:
        shared = _shared(accounts)
        click.echo(f"{shared} {'run is' if shared == 1 else 'runs are'} in more than one ledger, and they say the same")
    sys.exit(1 if differences or any(account.wrong for account in accounts) else 0)


def _tell(account: Account, *, signed: bool) -> None:
    reveals = sum(len(run.reveals) for run in account.runs)
    by = "signatures were not checked: --certs says where certificates are"
    if signed:
        by = "signed with " + ", ".join(sorted(account.signers.values())) if account.signers else "not signed"
    state = "has been changed" if account.wrong else "is whole"
    click.echo(
        f"{account.path}: of {account.role or 'nobody'}, {len(account.runs)} runs, {reveals} reveals; it {state}; {by}"
    )
    for text in account.wrong:
        click.echo(f"  WRONG: {text}")
    for text in account.noted:
        click.echo(f"  note: {text}")


def _shared(accounts: list[Account]) -> int:
    held = [{run.identity for run in account.runs} for account in accounts]
    return len({identity for one in held for identity in one if sum(identity in other for other in held) > 1})
