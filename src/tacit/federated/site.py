"""A SuperNode that runs the app that its site has approved, and no other.

Under Flower a client's code comes from whoever runs the SuperLink: it hands every SuperNode the app bundle of the run.
So what this code says, Tacit's mod and its settings among it, binds nobody unless the site decides which bundle may
run. Flower's `--trusted-entities` does that for bundles from its hub; this does it for any, by the bundle's digest: a
bundle that the site approved gets a signature of a key that this process has made for itself, which the SuperNode then
asks for, and one that it did not is answered by Flower's own error and is never unpacked.
"""

from __future__ import annotations

import base64
import hashlib
import inspect
import json
import logging
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tacit.errors import ConfigError

__all__ = ["approved", "digest_of", "run_supernode"]

LOG = logging.getLogger("flwr.tacit")

SCHEME = "sha256:"
ENTITY = "tacit-site"
FORBIDDEN = {
    "--trusted-entities": "the approved app is what this site trusts",
    "--allow-runtime-dependency-installation": "what the app imports would come from elsewhere",
    "--insecure": "whoever is between could answer for the SuperLink",
}
"""Options of Flower's that undo what is pinned, and why."""


def digest_of(app: str) -> str:
    """Return the digest of an app's bundle: of a folder, of a built `.fab`, or as it is written, `sha256:…`."""
    if app.startswith(SCHEME):
        digest = app.removeprefix(SCHEME).lower()
        if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
            raise ConfigError(f"{app!r} is no digest: write sha256: and 64 hexadecimal digits, or the app's folder")
        return digest
    path = Path(app)
    if path.is_dir():
        from flwr.cli.build import build_fab_from_disk

        try:
            return hashlib.sha256(build_fab_from_disk(path)).hexdigest()
        except Exception as error:  # whatever Flower finds wrong with a project
            raise ConfigError(f"{app} is no Flower app that can be bundled: {error}") from None
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"{app}: no app can be read there ({error.strerror})") from None


def approved(pull: Callable[..., int | None], digests: Collection[str]) -> Callable[..., int | None]:
    """Return Flower's function that takes in a message and its app, so that it takes in none but the approved apps."""
    known = inspect.signature(pull).parameters
    if not {"get_fab", "trusted_entities"} <= set(known):
        raise ConfigError("this version of Flower takes in apps in another way: install one that Tacit knows")
    key = Ed25519PrivateKey.generate()
    entities = {ENTITY: key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()}

    def vouched(fab: Any) -> Any:
        digest, now = hashlib.sha256(fab.content), int(time.time())
        if digest.hexdigest() not in digests:
            LOG.error("refused app %s%s: this site has not approved it", SCHEME, digest.hexdigest())
            return replace(fab, verifications={})
        signature = base64.urlsafe_b64encode(key.sign(now.to_bytes(8, "big") + digest.digest())).decode()
        proof = json.dumps({"signed_at": now, "signature": signature})
        return replace(fab, verifications={"valid_license": "Valid", ENTITY: proof})

    def guarded(*args: Any, **kwargs: Any) -> int | None:
        given = inspect.signature(pull).bind(*args, **kwargs).arguments
        get_fab = given["get_fab"]
        return pull(**given | {"get_fab": lambda *ask: vouched(get_fab(*ask)), "trusted_entities": entities})

    return guarded


def run_supernode(apps: Sequence[str], arguments: Sequence[str]) -> None:
    """Run Flower's SuperNode in this process, with its own arguments, for the approved apps."""
    names = [argument.split("=")[0] for argument in arguments]
    for option, reason in FORBIDDEN.items():
        # Flower takes an option by any unambiguous beginning of it
        if any(name.startswith("--") and name != "--" and option.startswith(name) for name in names):
            raise ConfigError(f"{option} cannot be used with approved apps: {reason}")
    digests = {digest_of(app) for app in apps}
    if not digests:
        raise ConfigError("a site has to say which app it approves: --app, with the app's folder or its digest")
    from flwr.supernode import start_client_internal
    from flwr.supernode.cli.flower_supernode import flower_supernode

    pull = getattr(start_client_internal, "_pull_and_store_message", None)
    if pull is None:
        raise ConfigError("this version of Flower takes in apps in another way: install one that Tacit knows")
    start_client_internal._pull_and_store_message = approved(pull, digests)
    for digest in sorted(digests):
        LOG.info("this site runs app %s%s, and no other", SCHEME, digest)
    sys.argv = ["flower-supernode", *arguments]
    flower_supernode()
