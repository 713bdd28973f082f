"""`python -m tacit.sbom`: the bill of materials of this environment, as CycloneDX 1.5 in JSON.

It lists Tacit and all packages that it needs, as installed here, with version, licence and the digest of each package's
own list of its files. `--extra fhe` adds what an extra needs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

from tacit.session.program import environment

__all__ = ["bill", "main"]


def bill(extras: Sequence[str] = ()) -> dict[str, Any]:
    """The bill of materials, without a time or a serial number: the same environment has the same bill."""
    versions = environment(extras)
    parts = [_component(name, version) for name, version in versions.items() if name not in ("tacit", "python")]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": _component("tacit", versions["tacit"]) | {"type": "application"},
            "properties": [{"name": "python", "value": versions["python"]}],
        },
        "components": parts,
    }


def _component(name: str, version: str) -> dict[str, Any]:
    reference = f"pkg:pypi/{name}@{version}"
    part: dict[str, Any] = {
        "type": "library",
        "name": name,
        "version": version,
        "purl": reference,
        "bom-ref": reference,
    }
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return part
    licence = (found.metadata.get_all("License-Expression") or [""])[0] or _classified(
        found.metadata.get_all("Classifier") or []
    )
    if licence:
        part["licenses"] = [{"license": {"name": licence}}]
    record = found.read_text("RECORD")
    if record:
        part["hashes"] = [{"alg": "SHA-256", "content": hashlib.sha256(record.encode()).hexdigest()}]
    return part


def _classified(classifiers: Sequence[str]) -> str:
    names = [each.rpartition(" :: ")[2] for each in classifiers if each.startswith("License :: ")]
    return ", ".join(dict.fromkeys(names))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the bill."""
    parser = argparse.ArgumentParser(prog="python -m tacit.sbom", description="Print a bill of materials.")
    parser.add_argument("--extra", action="append", default=[], help="an extra of Tacit's, such as fhe; repeatable")
    json.dump(bill(parser.parse_args(arguments).extra), sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
