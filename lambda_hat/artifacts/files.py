"""Files that are either whole or absent, whenever the writer is killed."""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = [
    "append_json_line",
    "read_json",
    "read_json_lines",
    "write_bytes_atomic",
    "write_json_atomic",
    "write_text_atomic",
]


def write_bytes_atomic(path: Path, content: bytes) -> None:
    """Replace `path` by `content`, durably: temporary file in the same folder, fsync, rename, fsync of the folder."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # elsewhere a folder cannot be opened
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_text_atomic(path: Path, text: str) -> None:
    """Replace `path` by `text` in UTF-8, as `write_bytes_atomic` does."""
    write_bytes_atomic(path, text.encode())


def write_json_atomic(path: Path, obj: Any) -> None:
    """Replace `path` by indented JSON. Arrays become lists; NaN and infinities, which JSON lacks, become null."""
    write_text_atomic(path, json.dumps(_plain(obj), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in `path`; None where there is no file, or one that is empty or torn."""
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def append_json_line(path: Path, obj: Any) -> None:
    """Add one line of JSON, in one write, so that readers see all of it or its beginning.

    A line that a killed writer left unfinished is closed first, so that it costs itself and not its successor.
    """
    line = json.dumps(_plain(obj), separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode() + b"\n"
    with path.open("a+b") as file:
        if file.seek(0, os.SEEK_END) > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = b"\n" + line
        file.write(line)


def read_json_lines(path: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """The objects added after byte `offset`, and the offset to go on from; a file that shrank is read from its start.

    An unfinished last line is left for the next call. Lines that are no JSON object are what killed writers left.
    """
    try:
        with path.open("rb") as file:
            if file.seek(0, os.SEEK_END) < offset:
                offset = 0
            file.seek(offset)
            content = file.read()
    except FileNotFoundError:
        return [], 0
    end = content.rfind(b"\n") + 1
    rows: list[dict[str, Any]] = []
    for line in content[:end].splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            rows.append(value)
    return rows, offset + end


def _plain(obj: Any) -> Any:
    if isinstance(obj, Mapping):
        return {str(name): _plain(value) for name, value in obj.items()}
    if isinstance(obj, list | tuple):
        return [_plain(value) for value in obj]
    if isinstance(obj, float):
        return float(obj) if math.isfinite(obj) else None
    if hasattr(obj, "tolist"):  # NumPy and JAX arrays and scalars, without importing either
        return _plain(obj.tolist())
    if isinstance(obj, Path):
        return str(obj)
    return obj
