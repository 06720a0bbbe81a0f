"""Pages of the site from the notebooks in `examples/notebooks`, with the outputs that are stored in them."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["NOTEBOOKS", "notebook_pages", "with_links_to_pages"]

NOTEBOOKS = Path(__file__).resolve().parents[1] / "examples" / "notebooks"
FOLDER = "notebooks"  # of the site
_LINK = re.compile(rf"\]\((?:\.\./)+examples/{FOLDER}/(\w+)\.ipynb\)")
_STYLE = re.compile(r"<style.*?</style>", re.DOTALL)
_TABLE = re.compile(r"<table[^>]*>")


def notebook_pages() -> Iterator[tuple[str, str | bytes]]:
    """Every file that notebooks add to the site, by its path: pages, their pictures, and the notebooks themselves."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        text = path.read_text(encoding="utf-8")
        pictures: dict[str, bytes] = {}
        page = "\n\n".join(_parts(json.loads(text)["cells"], path.stem, pictures)) + "\n"
        yield f"{FOLDER}/{path.stem}.md", page
        yield f"{FOLDER}/{path.name}", text
        for name, content in pictures.items():
            yield f"{FOLDER}/{name}", content


def with_links_to_pages(markdown: str) -> str:
    """Links to notebooks in the repository as links to their pages."""
    return _LINK.sub(rf"]({FOLDER}/\1.md)", markdown)


def _parts(cells: list[dict[str, Any]], stem: str, pictures: dict[str, bytes]) -> Iterator[str]:
    for number, cell in enumerate(cells):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            yield source
            if number == 0:
                yield f"[Download the notebook]({stem}.ipynb), or write it by `lambda-hat init notebooks`."
            continue
        yield f"```python\n{source}\n```"
        for output in cell["outputs"]:
            yield from _shown(output, stem, pictures)


def _shown(output: dict[str, Any], stem: str, pictures: dict[str, bytes]) -> Iterator[str]:
    if output["output_type"] == "stream":
        yield _as_text(output["text"])
        return
    data = output["data"]
    if "image/png" in data:
        name = f"{stem}_{len(pictures)}.png"
        pictures[name] = base64.b64decode("".join(data["image/png"]))
        yield f"![What the cell above draws]({name})"
    elif "text/html" in data:
        shown = _TABLE.sub("<table>", _STYLE.sub("", "".join(data["text/html"])))
        yield f"<div>{' '.join(shown.split())}</div>"
    elif not "".join(data["text/plain"]).startswith("<"):  # what Python calls an object says nothing
        yield _as_text(data["text/plain"])


def _as_text(text: str | list[str]) -> str:
    return f"```text\n{''.join(text).rstrip()}\n```"
