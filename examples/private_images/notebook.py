"""Make walk.ipynb of walk.py, whose cells begin with `# %%`; of this folder's, or of one that is named.

python examples/private_images/notebook.py                           # write it
python examples/private_images/notebook.py --check                   # only say whether it is up to date
python examples/private_images/notebook.py examples/credit/walk.py
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("walk.py")
MARKDOWN = " [markdown]"


def notebook(source: str) -> str:
    """The notebook of a script, without outputs."""
    cells = []
    for place, part in enumerate(re.split(r"^# %%", source, flags=re.MULTILINE)[1:]):
        head, _, body = part.partition("\n")
        text = body.strip()
        cell: dict[str, object] = {"id": f"cell-{place}", "metadata": {}}
        if head == MARKDOWN:
            text = re.sub(r"^# ?", "", text, flags=re.MULTILINE)
            cell |= {"cell_type": "markdown"}
        else:
            cell |= {"cell_type": "code", "execution_count": None, "outputs": []}
        cells.append(cell | {"source": text.splitlines(keepends=True)})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    whole = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the notebook, or check it."""
    source = next((Path(given) for given in sys.argv[1:] if given != "--check"), SOURCE)
    path, made = source.with_suffix(".ipynb"), notebook(source.read_text(encoding="utf-8"))
    if "--check" not in sys.argv:
        path.write_text(made, encoding="utf-8")
    elif path.read_text(encoding="utf-8") != made:
        sys.exit(f"{path.name} is out of date: run {Path(__file__).name}")


if __name__ == "__main__":
    main()
