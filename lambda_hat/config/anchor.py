"""Where the paths that a file names begin."""

from __future__ import annotations

import os
from collections.abc import Collection
from copy import deepcopy
from pathlib import Path
from typing import Any

from lambda_hat.config.locate import Finding, KeyPath
from lambda_hat.config.study import Store
from lambda_hat.formatting import user_path

__all__ = ["anchored"]

_RUN, _REFERENCES, _ROOT = ("store", "run"), ("store", "references"), ("store", "root")
_PATHS = (_ROOT, _RUN, _REFERENCES, ("execution", "parsl_card"))
_NAMES_OF_RUN: tuple[KeyPath, ...] = (_ROOT, ("store", "namespace"), ("store", "layout_version"))


def anchored(data: dict[str, Any], file: Path, written: Collection[KeyPath]) -> tuple[dict[str, Any], list[Finding]]:
    """The data with the paths of `relative_to: file` made absolute, and findings on folders that are missing.

    What `written` names comes from the command line. Paths there begin where the command runs, and the name of another
    run there takes the place of `store.run`.
    """
    data = deepcopy(data)
    if _text_at(data, _RUN) and not _is_in(_RUN, written) and any(_is_in(place, written) for place in _NAMES_OF_RUN):
        data["store"]["run"] = None
    _anchor_builders(data, file, written)
    if data.get("relative_to") != "file":
        return data, []
    if not file.is_file():
        return data, [Finding(("relative_to",), "found 'file', but the file is a pipe and lies in no folder")]
    data["relative_to"] = "cwd"
    if isinstance(store := data.setdefault("store", {}), dict):
        store.setdefault("root", Store.model_fields["root"].default)
    findings = []
    for place in _PATHS:
        text, (section, name) = _text_at(data, place), place
        if text is None or _is_in(place, written):
            continue
        path = Path(os.path.normpath(file.resolve().parent / user_path(text)))
        data[section][name] = str(path)
        if place in (_RUN, _REFERENCES) and not path.is_dir():
            hint = "Create it, or name one that is there." if place == _REFERENCES else ""
            findings.append(Finding(place, f"found {text!r}, but there is no folder {path}", hint))
    return data, findings


def _anchor_builders(data: dict[str, Any], file: Path, written: Collection[KeyPath]) -> None:
    """Make the files of `build` absolute: they lie beside the file that names them, whatever `relative_to` says."""
    for section in ("problems", "targets"):
        entries = data.get(section)
        for index, entry in enumerate(entries if isinstance(entries, list) else []):
            text = entry.get("build") if isinstance(entry, dict) else None
            module, colon, function = text.rpartition(":") if isinstance(text, str) else ("", "", "")
            if not module.endswith(".py"):
                continue
            is_beside = file.is_file() and not _is_in((section, index, "build"), written)
            folder = file.resolve().parent if is_beside else Path.cwd()
            entry["build"] = f"{os.path.normpath(folder / user_path(module))}{colon}{function}"


def _is_in(place: KeyPath, written: Collection[KeyPath]) -> bool:
    return any(place[: len(other)] == other for other in written)


def _text_at(data: Any, place: KeyPath) -> str | None:
    for part in place:
        data = data.get(part) if isinstance(data, dict) else None
    return data if isinstance(data, str) else None
