"""Executes the notebooks in `examples/notebooks`: `uv run python scripts/run_notebooks.py [NAME…]`.

Each runs in an empty folder of its own, and its file then has the new outputs, without what names this machine.
`--into FOLDER` writes there instead.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from notebook_pages import NOTEBOOKS

SECONDS = 900  # after which a cell hangs


def executed(path: Path) -> Any:
    """The notebook with what its cells print and draw."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=SECONDS, resources={"metadata": {"path": folder}}).execute()
        text = nbformat.writes(cleaned(notebook))
        for place in (folder, str(NOTEBOOKS.parents[1]), sys.prefix, str(Path.home())):
            if place in text:
                raise SystemExit(f"{path.name}: an output names {place}, a folder of this machine.")
    return notebook


def cleaned(notebook: Any) -> Any:
    """Without progress and warnings on stderr, and without times and versions of the kernel."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


def main() -> None:
    """Execute those that are named, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--into", type=Path, default=NOTEBOOKS, metavar="FOLDER")
    options = parser.parse_args()
    paths = [path for path in sorted(NOTEBOOKS.glob("*.ipynb")) if path.stem in options.names or not options.names]
    for path in paths:
        nbformat.write(executed(path), options.into / path.name)
        print(options.into / path.name)


if __name__ == "__main__":
    main()
