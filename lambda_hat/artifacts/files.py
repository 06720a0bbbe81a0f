"""Files that are either whole or absent, even if the writer is killed or the disk is full.

Nothing is written through a symbolic link. Every new file gets the permissions that the umask leaves it.
"""

from __future__ import annotations

import errno
import io
import json
import math
import os
import secrets
import stat
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lambda_hat.errors import RunStateError, StorageError

if TYPE_CHECKING:  # the command line starts without NumPy
    import numpy as np

__all__ = [
    "append_json_line",
    "drop_link",
    "make_dir",
    "open_to_append",
    "read_arrays",
    "read_bytes",
    "read_json",
    "read_json_lines",
    "read_yaml",
    "sync_dir",
    "touch",
    "write_all",
    "write_bytes_atomic",
    "write_json_atomic",
    "write_text_atomic",
    "writing",
]

_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)  # neither is everywhere


@contextmanager
def writing(path: Path) -> Generator[None]:
    """Turn an `OSError` while writing `path` into an error of this project.

    Raises:
        StorageError: the disk or a quota is full, or the disk is read-only or broken.
        RunStateError: anything else, such as a symbolic link or a folder in the place of the file.
    """
    try:
        yield
    except OSError as error:
        reason = StorageError.from_os_error(error, path)
        raise reason or RunStateError(f"{path} cannot be written: {_reason(error, path)}.") from error


def write_all(descriptor: int, content: bytes) -> None:
    """Write every byte to a descriptor.

    A nearly full disk takes only the bytes that fit, so one call of the system may not be enough.
    """
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def write_bytes_atomic(path: Path, content: bytes) -> None:
    """Replace `path` by `content`, durably: temporary file in the same folder, fsync, rename, fsync of the folder."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    with writing(path):
        try:
            with temporary.open("xb", buffering=0) as file:
                write_all(file.fileno(), content)
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):  # which would hide the first
                temporary.unlink(missing_ok=True)
            raise
        sync_dir(path.parent)


def write_text_atomic(path: Path, text: str) -> None:
    """Replace `path` by `text` in UTF-8, durably and whole or not at all."""
    write_bytes_atomic(path, text.encode())


def write_json_atomic(path: Path, obj: Any) -> None:
    """Replace `path` by indented JSON. Arrays become lists; NaN and infinities, which JSON lacks, become null."""
    write_bytes_atomic(path, _encoded(json.dumps(_plain(obj), indent=2, ensure_ascii=False, allow_nan=False) + "\n"))


def touch(path: Path) -> None:
    """Make an empty file, or leave an existing one unchanged."""
    os.close(open_to_append(path))


def drop_link(path: Path) -> None:
    """Remove a symbolic link that stands where a file belongs."""
    with writing(path):
        if path.is_symlink():
            path.unlink()


def make_dir(path: Path) -> None:
    """Make a folder and its missing parents, durably."""
    with writing(path):
        if path.is_dir():
            return
        make_dir(path.parent)
        path.mkdir(exist_ok=True)
        sync_dir(path.parent)


def sync_dir(path: Path) -> None:
    """Wait until the names in a folder are on disk."""
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_to_append(path: Path) -> int:
    """A descriptor that reads anywhere in the file and writes at its end. A missing file is made."""
    with writing(path):
        return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | _NO_LINK, 0o666)


def append_json_line(path: Path, obj: Any) -> None:
    """Append one line of JSON in one write, so that a reader sees the whole line or its beginning.

    A line that a killed writer left unfinished is closed first. It is lost, but the new line is not.
    """
    line = _encoded(json.dumps(_plain(obj), separators=(",", ":"), ensure_ascii=False, allow_nan=False)) + b"\n"
    descriptor = open_to_append(path)
    try:
        with writing(path):
            if os.lseek(descriptor, 0, os.SEEK_END) > 0:
                os.lseek(descriptor, -1, os.SEEK_END)
                if os.read(descriptor, 1) != b"\n":
                    line = b"\n" + line
            write_all(descriptor, line)
    finally:
        os.close(descriptor)


def read_bytes(path: Path) -> bytes | None:
    """The content of `path`; None if there is no file.

    Raises:
        RunStateError: the path cannot be read, for instance a folder or another user's file.
    """
    return _read_from(path, 0)[0]


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays in an archive of NumPy's, by name. Pickles in it are refused.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an array in it is pickled, or the file is no archive.
    """
    import numpy as np

    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:  # np.load leaves a torn file open
        return {name: archive[name] for name in archive.files}


def read_yaml(path: Path) -> dict[str, Any] | None:
    """The mapping in `path`; None if there is no file, or if it is empty, torn or holds something else.

    Raises:
        RunStateError: the path cannot be read, for instance a folder or another user's file.
    """
    try:
        content = yaml.safe_load(read_bytes(path) or b"")
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in `path`; None if there is no file, or if it is empty, torn or holds something else.

    Raises:
        RunStateError: the path cannot be read, for instance a folder or another user's file.
    """
    content = read_bytes(path)
    return None if content is None else _object(content)


def read_json_lines(path: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """The objects added after byte `offset`, and the offset of the next call; a file that shrank is read from its
    start.

    An unfinished last line is left for the next call. Lines that hold no JSON object, which killed writers leave, are
    skipped.

    Raises:
        RunStateError: the path cannot be read, for instance a folder or another user's file.
    """
    content, offset = _read_from(path, offset)
    if content is None:
        return [], 0
    end = content.rfind(b"\n") + 1
    rows = [_object(line) for line in content[:end].splitlines()]
    return [row for row in rows if row is not None], offset + end


def _read_from(path: Path, offset: int) -> tuple[bytes | None, int]:
    """The bytes from `offset` on, with that offset; if the file is shorter, all bytes with offset 0."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would wait for its writer
            raise RunStateError(f"{path} is not a file. Remove it, or choose another `store.namespace`.")
        with path.open("rb") as file:
            offset = file.seek(offset if offset <= status.st_size else 0)
            return file.read(), offset
    except FileNotFoundError:
        return None, 0
    except OSError as error:
        raise RunStateError(f"{path} cannot be read: {_reason(error, path)}.") from error


def _object(content: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _encoded(text: str) -> bytes:
    return text.encode(errors="backslashreplace")  # half a surrogate pair, as in odd file names: JSON's own escape


def _reason(error: OSError, path: Path) -> str:
    if error.errno == errno.ELOOP and path.is_symlink():
        return "it is a symbolic link"
    return error.strerror or str(error)


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
