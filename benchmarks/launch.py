"""Run a program as all roles on this machine; with --plain over TCP without encryption, as the peers run.

python benchmarks/launch.py [--plain] [--without-producer] [--wan 40ms,350mbit] [--parties a,b] program.py -- ...

Under `wan.py` each role runs on a host of its own; `--wan` needs no such hosts, and relays connections.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile

import hosts

from tacit.cli.local import follow, launch_local
from tacit.session.config import Config
from tacit.session.roles import ALONE
from tacit.session.trial import write_trial


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--without-producer", action="store_true")
    parser.add_argument("--wan")
    parser.add_argument("--parties", default="alice,bob")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("script")
    parser.add_argument("arguments", nargs="*")
    options = parser.parse_args()
    protocol = {"protocol": ALONE} if options.without_producer else {}
    if hosts.namespaces():
        return on_hosts(options, protocol)
    return launch_local(
        options.script,
        parties=options.parties.split(","),
        args=options.arguments,
        settings=protocol | ({"tls": "insecure-plaintext"} if options.plain else {}),
        threads=options.threads,
        wan=options.wan,
        on_line=show,
    )


def on_hosts(options: argparse.Namespace, protocol: dict[str, str]) -> int:
    """Run each role on the host of its number."""
    settings = (
        protocol | {"threads": options.threads} | ({"tls": "insecure-plaintext-anywhere"} if options.plain else {})
    )
    with tempfile.TemporaryDirectory(prefix="tacit-") as folder:
        path = write_trial(folder, options.parties.split(","), settings)
        config, literal = Config.load(path), json.loads(path.read_text())
        for host, role in enumerate(config.roles):
            literal[role] = f"{hosts.address(host)}:{config.address(role).port}"
        path.write_text(json.dumps(literal))
        run = [sys.executable, "-m", "tacit", "run", options.script, "--config", str(path), "--as"]
        commands = {
            role: ["nsenter", f"--net={namespace}", *run, role, "--", *options.arguments]
            for role, namespace in zip(config.roles, hosts.namespaces(), strict=False)
        }
        return follow(commands, {**os.environ, "OMP_NUM_THREADS": str(options.threads)}, show)


def show(role: str, line: str) -> None:
    """Print what a role has printed."""
    print(f"{role}: {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
