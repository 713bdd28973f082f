"""Ask the package index for known weaknesses of what `constraints.txt` pins.

`python .ci/audit.py` ends with 1 if there are some; with `--tell` it only tells of them, and where there is no index to
ask, or none that knows of weaknesses, it says that.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PINS = Path(__file__).resolve().parents[1] / "constraints.txt"
SECONDS = 120
"""For all packages together. A mirror without such knowledge takes a quarter of a minute."""


def main() -> int:
    """Ask, and say what was found."""
    command = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "--progress-spinner", "off"]
    try:
        asked = subprocess.run(  # noqa: S603 - a tool of this environment
            [*command, "--format", "json", "--requirement", str(PINS)],
            capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        found = json.loads(asked.stdout)["dependencies"]
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError):
        print("audit: no index of packages can be asked for known weaknesses")
        return 0
    weak = [(each["name"], each["version"], each["vulns"]) for each in found if each.get("vulns")]
    unknown = sum("skip_reason" in each for each in found)
    for name, version, those in weak:
        marks = ", ".join(f"{one['id']} (mended in {', '.join(one['fix_versions']) or 'no version'})" for one in those)
        print(f"audit: {name} {version}: {marks}")
    print(
        f"audit: {len(found)} packages, {len(weak)} with known weaknesses, {unknown} of which the index knows nothing"
    )
    return 1 if weak and "--tell" not in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
