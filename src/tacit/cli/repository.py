"""Where the programs lie that come with Tacit but are not part of the library: `examples` and `benchmarks`."""

from __future__ import annotations

from pathlib import Path

import tacit
from tacit.errors import ConfigError

__all__ = ["find"]


def find(name: str) -> Path:
    """Return a folder or file of the repository that this package was installed from in place, or of the wheel."""
    package = Path(tacit.__file__).parent
    for root in (package.parents[1], package):
        if (root / name).exists():
            return root / name
    raise ConfigError(f"{name} is not part of an installed Tacit: clone its repository and run `make` there")
