"""`tacit keygen`: private keys and the certificates that go with them."""

from __future__ import annotations

from pathlib import Path

import click

from tacit.errors import ConfigError
from tacit.net.certificates import fingerprint, make_certificate
from tacit.outside.deployment import Deployment
from tacit.session.config import ROLE_NAME, Config

__all__ = ["keygen"]


@click.command()
@click.option("--config", "config_path", type=click.Path(path_type=Path), help="The config of the run.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="The folder to write to; else the one that the config names."
)
@click.option("--as", "role", metavar="ROLE", help="Make only this role's, on this role's machine.")
@click.option("--rotate", is_flag=True, help="Make new keys for old: certificates stay under names with a date.")
@click.option("--encrypt", is_flag=True, help="Encrypt the key with the passphrase in TACIT_KEY_PASSPHRASE.")
@click.option("--client", metavar="NAME", help="Make the key of a client instead, which needs no config.")
@click.option(
    "--public", type=click.Path(path_type=Path), help="Make no key, but write what clients need to know to this file."
)
def keygen(
    config_path: Path | None,
    out: Path | None,
    role: str | None,
    rotate: bool,
    encrypt: bool,
    client: str | None,
    public: Path | None,
) -> None:
    """Make the certificates by which roles know each other.

    With --as, one role makes its own key and sends the certificate to the others: this is how it is done in earnest,
    because a private key should never leave its machine. Without --as, all keys are made here, for trying out.
    Certificates are valid for 360 days. A passphrase may also come from the file descriptor TACIT_KEY_PASSPHRASE_FD.
    """
    if client is not None:
        _for_client(client, out or Path(), rotate=rotate, encrypt=encrypt)
        return
    if config_path is None:
        raise ConfigError("--config says whose keys to make")
    config = Config.load(config_path)
    if public is not None:
        _publish(config, public)
        return
    folder = out or (config_path.parent / "certs" if config.plaintext else Path(config.tls))
    roles = config.settled if role is None else (config.check_role(role),)
    there = [] if rotate else [str(path) for name in roles if (path := folder / f"{name}.key").exists()]
    if there:
        raise ConfigError(f"{' and '.join(there)} exist already: --rotate makes new keys for old")
    for name in roles:
        certificate = make_certificate(folder, name, rotate=rotate, encrypt=encrypt)
        click.echo(f"{name}: {certificate}\n    SHA-256 {fingerprint(certificate)}")
    if config.awaits_clients:
        click.echo(
            f"{folder / roles[0]}.key stays here. `tacit keygen --config {config_path} --public public.json` writes "
            "what clients need to know."
        )
    elif role is None:
        click.echo(f"{folder} holds the private keys of all roles: for trying out on one machine only.")
    else:
        others = " and ".join(name for name in config.roles if name != role)
        click.echo(
            f"Send {folder / role}.crt to {others}, and put theirs into {folder}. "
            f"Compare fingerprints over another channel. {folder / role}.key stays here."
        )


def _for_client(name: str, folder: Path, *, rotate: bool, encrypt: bool) -> None:
    if not ROLE_NAME.fullmatch(name):
        raise ConfigError(f"{name!r} cannot name a client: use up to 63 letters, digits, '-', '_' and '.'")
    certificate = make_certificate(folder, name, rotate=rotate, encrypt=encrypt)
    click.echo(f"{name}: {certificate}\n    SHA-256 {fingerprint(certificate)}")
    click.echo(
        f'Send it to every server, for the folder under "providers" in its config. {folder / name}.key stays here.'
    )


def _publish(config: Config, path: Path) -> None:
    deployment = Deployment.of(config)
    deployment.save(path)
    for server in deployment.servers:
        click.echo(f"{server.name}: {server.address}\n    SHA-256 {server.fingerprint}")
    click.echo(f"{path} is for all clients. It holds nothing secret, but they trust whom it names.")
