"""Results of a long benchmark, a line each as soon as it is there, so that the next command goes on where one ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["Lines"]


class Lines:
    """Rows in a file of JSON lines; what `key` names in a row says which result it is."""

    def __init__(self, path: Path, key: tuple[str, ...]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._key = path, key
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]

    def missing(self, wanted: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Those of the wanted results that are not there."""
        done = {tuple(row[name] for name in self._key) for row in self.rows}
        return [result for result in wanted if result not in done]

    def add(self, result: tuple[Any, ...], values: dict[str, Any]) -> None:
        """One more row."""
        row = {**dict(zip(self._key, result, strict=True)), **values}
        self.rows.append(row)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
