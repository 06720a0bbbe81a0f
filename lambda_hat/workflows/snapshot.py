"""The configuration that a run keeps, as a file that goes on with the run from any folder, wherever the run lies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lambda_hat.artifacts.files import write_text_atomic
from lambda_hat.artifacts.paths import Paths, RunContext
from lambda_hat.config.explain import to_yaml
from lambda_hat.config.load import LoadedFile
from lambda_hat.formatting import escaped, user_path

__all__ = ["portable", "save_snapshot"]


def save_snapshot(context: RunContext, loaded: LoadedFile) -> None:
    """Replace `meta/resolved_config.yaml`, and the card beside it."""
    values = portable(loaded, context.paths, context.paths.resolved_config.parent)
    values["store"]["run"] = os.pardir
    write_text_atomic(context.paths.card, to_yaml(loaded.card.to_dict()))
    context.save_config(to_yaml(values))


def portable(loaded: LoadedFile, paths: Paths, folder: Path) -> dict[str, Any]:
    """The resolved file as it has to be in `folder`, inside the run: other runs beside this one, and its card.

    What lies elsewhere has an absolute path.
    """
    store, values = loaded.sections.store, loaded.resolved
    root = user_path(store.root).resolve()
    if paths.root.is_relative_to(root):
        root = os.path.relpath(root, folder)
    references = None if paths.references is None else escaped(str(paths.references))
    values["relative_to"] = "file"
    values["store"] |= {"root": escaped(str(root)), "run": None, "references": references}
    values["execution"]["parsl_card"] = os.path.relpath(paths.card, folder)
    return values
