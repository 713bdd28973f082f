"""`tacit serve-fhe`: encrypted prediction as an HTTP service."""

from __future__ import annotations

import os
import tempfile

import click

from tacit.errors import TacitError


@click.command("serve-fhe", help="Answer encrypted queries with the model in MODEL, a folder written by save_server().")
@click.argument("model", type=click.Path())
@click.option("--client", type=click.Path(), help="Publish this client's half (a folder of save_client()).")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Processes that answer.")
@click.option("--keys", type=click.Path(file_okay=False), help="Keep public keys here (default: for this run only).")
@click.option("--certfile", type=click.Path(exists=True), help="TLS certificate (chain) of this service.")
@click.option("--keyfile", type=click.Path(exists=True), help="TLS private key of this service.")
@click.option("--origin", "origins", multiple=True, help="Let pages of this origin ask (CORS); may be given again.")
@click.option("--insecure-plaintext", is_flag=True, help="Serve plain HTTP beyond this machine (behind a TLS proxy).")
def serve_fhe(
    model: str, client: str | None, host: str, port: int, workers: int, keys: str | None,
    certfile: str | None, keyfile: str | None, origins: tuple[str, ...], insecure_plaintext: bool,
) -> None:  # fmt: skip
    """Check what was asked for, then serve until stopped."""
    import uvicorn

    from tacit.fhe import service
    from tacit.fhe.remote import on_this_machine

    if certfile is None and not on_this_machine(host) and not insecure_plaintext:
        raise click.ClickException(
            "plain HTTP beyond this machine lets an attacker swap the client's half of the model: "
            "give --certfile and --keyfile, or --insecure-plaintext behind a proxy that speaks TLS"
        )
    with tempfile.TemporaryDirectory(prefix="tacit-fhe-") as scratch:
        os.environ[service.MODEL] = model
        os.environ[service.KEYS] = keys or scratch
        os.environ[service.ORIGINS] = " ".join(origins)
        if client is not None:
            os.environ[service.CLIENT] = client
        else:
            os.environ.pop(service.CLIENT, None)
        try:
            service.from_environment()  # fail here with one sentence, not in each worker with a traceback
        except TacitError as error:
            raise click.ClickException(str(error)) from error
        uvicorn.run(
            "tacit.fhe.service:from_environment", factory=True, host=host, port=port, workers=workers,
            ssl_certfile=certfile, ssl_keyfile=keyfile, log_level="warning",
        )  # fmt: skip
