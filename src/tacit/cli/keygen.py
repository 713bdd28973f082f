"""`tacit keygen`: private keys and the certificates that go with them."""

from __future__ import annotations

from pathlib import Path

import click

from tacit.errors import ConfigError
from tacit.net.certificates import fingerprint, make_certificate
from tacit.session.config import Config

__all__ = ["keygen"]


@click.command()
@click.option("--config", "config_path", required=True, type=click.Path(path_type=Path), help="The config of the run.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="The folder to write to; else the one that the config names."
)
@click.option("--as", "role", metavar="ROLE", help="Make only this role's, on this role's machine.")
def keygen(config_path: Path, out: Path | None, role: str | None) -> None:
    """Make the certificates by which roles know each other.

    With --as, one role makes its own key and sends the certificate to the others: this is how it is done in earnest,
    because a private key should never leave its machine. Without --as, all keys are made here, for trying out.
    """
    config = Config.load(config_path)
    folder = out or (config_path.parent / "certs" if config.plaintext else Path(config.tls))
    roles = config.roles if role is None else (config.check_role(role),)
    there = [str(path) for name in roles if (path := folder / f"{name}.key").exists()]
    if there:
        raise ConfigError(f"{' and '.join(there)} exist already: delete them if their roles are to have new keys")
    for name in roles:
        certificate = make_certificate(folder, name)
        click.echo(f"{name}: {certificate}\n    SHA-256 {fingerprint(certificate)}")
    if role is None:
        click.echo(f"{folder} holds the private keys of all roles: for trying out on one machine only.")
    else:
        others = " and ".join(name for name in config.roles if name != role)
        click.echo(
            f"Send {folder / role}.crt to {others}, and put theirs into {folder}. "
            f"Compare fingerprints over another channel. {folder / role}.key stays here."
        )
