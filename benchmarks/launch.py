"""Run a program as all roles on this machine; with --plain over TCP without encryption, as the peers run.

python benchmarks/launch.py [--plain] [--wan 40ms,350mbit] [--parties a,b,c] [--threads 1] program.py -- ...
"""

from __future__ import annotations

import argparse
import sys

from tacit.cli.local import launch_local


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--wan")
    parser.add_argument("--parties", default="alice,bob")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("script")
    parser.add_argument("arguments", nargs="*")
    options = parser.parse_args()
    return launch_local(
        options.script,
        parties=options.parties.split(","),
        args=options.arguments,
        settings={"tls": "insecure-plaintext"} if options.plain else {},
        threads=options.threads,
        wan=options.wan,
        on_line=lambda role, line: print(f"{role}: {line}", flush=True),
    )


if __name__ == "__main__":
    sys.exit(main())
