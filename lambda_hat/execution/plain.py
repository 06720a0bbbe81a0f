"""Paths that every program takes as they are. Needs no Parsl.

Parsl writes the path of its folder into shell scripts, job scripts and patterns. A blank, a `$` or a bracket means
something there. So its programs see a link of our own with a plain name wherever the user's folder has another.
"""

from __future__ import annotations

import hashlib
import os
import re
import sysconfig
import tempfile
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lambda_hat.config.card import AnyCard, InlineCard, KubernetesCard, LocalCard
from lambda_hat.errors import ExecutionError, Fault

__all__ = ["check_folder", "is_plain", "plain_path"]

_PLAIN = re.compile(r"[A-Za-z0-9/._+-]+")  # with no meaning in shells, job scripts, templates and patterns
_MAX_BYTES = 200  # of a plain path: schedulers cut longer ones
_MAX_PLACE_BYTES = 120  # of the folder that holds a link
_OWN_BYTES = 250  # of the longest path inside a run's folder


def is_plain(path: Path) -> bool:
    """Whether no program reads anything else into the path than the path."""
    text = os.fspath(path)
    return _PLAIN.fullmatch(text) is not None and len(text) <= _MAX_BYTES


@contextmanager
def plain_path(folder: Path, card: AnyCard) -> Generator[Path]:
    """A plain path to `folder` that this machine and the card's workers share, while the block runs.

    `folder` is absolute. It is the path itself where it is plain, else a link.

    Raises:
        ExecutionError: there is no place for a link, or it cannot be made.
    """
    if is_plain(folder):
        yield folder
        return
    place = _place_of_link(folder, card)
    if place is None:
        raise ExecutionError(_no_place(folder, card))
    # The same name each time: a link that a killed command left is replaced, not added to.
    link = place / f".lambda-hat-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]}"
    try:
        _remove_own(link)
        link.symlink_to(folder)
    except OSError as error:
        raise ExecutionError(f"The link {link} cannot be made: {error.strerror}.") from error
    try:
        yield link
    finally:
        with suppress(OSError):
            _remove_own(link)


def check_folder(folder: Path, card: AnyCard) -> list[Fault]:
    """What is wrong with `folder`, absolute, as the folder of a run on `card`; it need not exist."""
    if reason := _why_impossible(folder):
        return [Fault(key="store.root", message=reason, hint="Choose another folder.")]
    if isinstance(card, InlineCard):
        return []
    faults = []
    if not is_plain(folder) and _place_of_link(folder, card) is None:
        hint = "Choose a folder with a plain name."
        faults.append(Fault(key="store.root", message=_no_place(folder, card), hint=hint))
    scripts = sysconfig.get_path("scripts")
    if isinstance(card, LocalCard) and (":" in scripts or not _is_utf8(scripts)):
        message = f"lambda-hat is installed in {scripts!r}, a name that cannot be in PATH"
        faults.append(Fault(key="execution.parsl_card", message=message, hint="Install it elsewhere."))
    return faults


def _is_utf8(name: str) -> bool:
    try:
        os.fsencode(name).decode()
    except UnicodeDecodeError:
        return False
    return True


def _why_impossible(folder: Path) -> str:
    """Why no run can lie there, on any card; empty where one can."""
    name = os.fspath(folder)
    if not _is_utf8(name):
        return f"found {name!r}, which is not UTF-8: no YAML file can hold it"
    existing = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not existing.is_dir():
        return f"found {name!r}, but {os.fspath(existing)!r} is no folder"
    if not hasattr(os, "pathconf"):
        return ""
    longest = max(len(os.fsencode(part)) for part in folder.parts)
    if longest > (limit := os.pathconf(existing, "PC_NAME_MAX")):
        return f"found a name of {longest} bytes, and the file system takes {limit}"
    if (length := len(os.fsencode(folder))) + _OWN_BYTES > (limit := os.pathconf(existing, "PC_PATH_MAX")):
        return f"found a path of {length} bytes, and the system takes {limit}, a run's own names in it included"
    return ""


def _no_place(folder: Path, card: AnyCard) -> str:
    odd = "".join(dict.fromkeys(re.sub(_PLAIN, "", os.fspath(folder))))
    what = f"found {odd!r} in {os.fspath(folder)!r}" if odd else f"found a path of {len(os.fspath(folder))} characters"
    where = "here" if isinstance(card, LocalCard) else "on a file system that the workers share"
    return f"{what}: the programs that start workers need a plain name, and there is no place for a link {where}"


def _place_of_link(folder: Path, card: AnyCard) -> Path | None:
    return next(filter(_is_place, _places(folder, card)), None)


def _is_place(path: Path) -> bool:
    is_short = len(os.fspath(path)) <= _MAX_PLACE_BYTES
    return is_short and path.is_absolute() and is_plain(path) and path.is_dir() and os.access(path, os.W_OK | os.X_OK)


def _places(folder: Path, card: AnyCard) -> Iterator[Path]:
    """Folders that could hold a link, best first."""
    if isinstance(card, LocalCard):
        with suppress(FileNotFoundError):
            yield Path(tempfile.gettempdir())
        yield from map(Path, ("/tmp", "/var/tmp"))
    else:  # above the folder, as far as its own file system goes, whatever workers see of it they see there too
        yield from _above(folder, card)
    if not isinstance(card, KubernetesCard):
        with suppress(RuntimeError):
            yield Path.home()


def _above(folder: Path, card: AnyCard) -> Iterable[Path]:
    existing = [path for path in folder.parents if path.is_dir()]
    device = existing[0].stat().st_dev
    above = [path for path in existing if path.stat().st_dev == device]
    if isinstance(card, KubernetesCard):
        mounted = [volume.path for volume in card.persistent_volumes]
        return [path for path in above if any(path.is_relative_to(place) for place in mounted)]
    return above


def _remove_own(link: Path) -> None:
    """Remove a link of ours; whatever else is there, or belongs to somebody else, stays."""
    with suppress(FileNotFoundError):
        if link.is_symlink() and link.lstat().st_uid == os.geteuid():
            link.unlink()
