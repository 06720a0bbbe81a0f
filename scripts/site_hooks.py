"""Hooks of MkDocs: formulas become MathML, so that pages load no program to show them; notebooks become pages.

The footer names the version.
"""

from __future__ import annotations

import html
import re
import sys
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File

from lambda_hat import __version__

sys.path.insert(0, str(Path(__file__).parent))  # MkDocs loads this file from somewhere else
from notebook_pages import notebook_pages, with_links_to_pages

_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_config(config: Any) -> Any:
    """The version, at the foot of each page."""
    config.copyright = f"lambda-hat {__version__}"
    return config


def on_files(files: Any, *, config: Any) -> Any:
    """The pages of the notebooks beside those of `docs`."""
    for place, content in notebook_pages():
        files.append(File.generated(config, place, content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with links to notebooks as links to their pages."""
    return with_links_to_pages(markdown)


def on_page_content(page_html: str, **_: Any) -> str:
    """The page with every formula as MathML; a formula that cannot be read ends the build."""
    return _FORMULA.sub(_to_mathml, page_html)


def _to_mathml(found: re.Match[str]) -> str:
    tag, bracket, text = found.groups()
    mathml = convert(html.unescape(text).strip(), display="block" if bracket == "[" else "inline")
    scroll = ' style="overflow-x: auto"' if tag == "div" else ""
    return f'<{tag} class="formula"{scroll}>{mathml}</{tag}>'
