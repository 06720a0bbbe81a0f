"""The files that ship beside the code: studies and notebooks to begin with, and Parsl cards.

They lie in the repository's `config` and `examples`; a wheel has them below `lambda_hat/shipped`.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from lambda_hat.errors import InputError

__all__ = ["STARTERS", "Starter", "card_names", "shipped_file", "shipped_names", "write_starter"]

_PACKAGE = Path(str(files("lambda_hat")))
_ROOTS = (_PACKAGE / "shipped", _PACKAGE.parent)  # of a wheel, of a checkout
_CONFIG, _CARDS = "config", "config/parsl"
_SUFFIXES = (".ipynb", ".yaml")
_SCHEMA_LINE = "# yaml-language-server:"  # the schema that it names does not come along


@dataclass(frozen=True)
class Starter:
    """Files to begin with, and what to type once they are there."""

    summary: str
    sources: tuple[str, ...]
    """Files, or folders of files, by their places in the repository."""
    commands: tuple[tuple[str, ...], ...] = ()
    """Words of commands; a word that is the name of a written file stands for its path."""


_TUNE, _RUN = ("lambda-hat", "workflow", "optuna", "--config"), ("lambda-hat", "workflow", "llc", "--config")
STARTERS: Mapping[str, Starter] = {
    "quickstart": Starter(
        "a first study of a few minutes",
        ("config/optuna/quickstart.yaml",),
        ((*_TUNE, "quickstart.yaml", "--local"),),
    ),
    "default": Starter(
        "a whole study, with a comment on every key",
        ("config/optuna/default.yaml",),
        (
            ("lambda-hat", "config", "validate", "default.yaml"),
            (*_TUNE, "default.yaml", "--local", "--dry-run"),
        ),
    ),
    "own-network": Starter(
        "a network of your own: its Python file, a study and experiments",
        ("examples/study/networks.py", "examples/study/study.yaml", "examples/study/experiments.yaml"),
        (
            ("python", "networks.py"),
            (*_TUNE, "study.yaml", "--local"),
            (*_RUN, "experiments.yaml", "--local"),
        ),
    ),
    "experiments": Starter(
        "samplers with fixed settings on several targets",
        ("config/experiments.yaml",),
        ((*_RUN, "experiments.yaml", "--local"),),
    ),
    "real-data": Starter(
        "small networks on real data",
        ("config/real-data.yaml",),
        ((*_RUN, "real-data.yaml", "--local"),),
    ),
    "ground-truths": Starter(
        "methods against answers that are known exactly",
        ("config/optuna/ground-truths.yaml",),
        ((*_TUNE, "ground-truths.yaml", "--local"),),
    ),
    "notebooks": Starter(
        "three notebooks: a first estimate, a network of your own, reading a study",
        ("examples/notebooks",),
        (("jupyter", "lab", "first_estimate.ipynb"),),
    ),
    "cards": Starter("all Parsl cards: for Slurm, PBS, Kubernetes and known sites", (_CARDS,)),
}


def card_names() -> list[str]:
    """The names of all cards that ship."""
    return [f"{Path(_CARDS).parent.as_posix()}/{name}" for name, _ in _sources("cards")]


def shipped_names() -> list[str]:
    """The names of all studies, experiments and cards that ship."""
    folder = next(root / _CONFIG for root in _ROOTS if (root / _CONFIG).exists())
    return sorted(path.relative_to(folder.parent).as_posix() for path in folder.rglob("*.yaml"))


def shipped_file(name: str | Path) -> Path | None:
    """The study, experiments or card that ships as `name`, such as `config/parsl/slurm/cpu.yaml`; None if none does."""
    path = Path(name)
    if ".." in path.parts or not path.is_relative_to(_CONFIG) or path.suffix != ".yaml":
        return None
    return next((root / path for root in _ROOTS if (root / path).is_file()), None)


def write_starter(kind: str, folder: Path) -> list[Path]:
    """Write the files of `STARTERS[kind]` into `folder`, which is made if need be, and say where they lie.

    Comments that name a shipped study by its place in the repository name the written file instead. Files that are
    there and say the same are no mistake.

    Raises:
        InputError: a file that says something else is there, or `folder` is no folder. Nothing is written then.
    """
    texts = {
        folder / name: _adapted(source.read_text(encoding="utf-8"), kind, folder) for name, source in _sources(kind)
    }
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: name a folder for the study.")
    if there := [str(path) for path, text in texts.items() if path.exists() and not _says(path, text)]:
        raise InputError(
            f"{', '.join(there)} {'is' if len(there) == 1 else 'are'} there already, and nothing was written. "
            f"Name another folder: `lambda-hat init {kind} FOLDER`."
        )
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(texts)


def _says(path: Path, text: str) -> bool:
    return path.is_file() and path.read_bytes() == text.encode()


def _sources(kind: str) -> Iterator[tuple[str, Path]]:
    """The name of every file that is written, and the file that it is a copy of."""
    for place in STARTERS[kind].sources:
        source = next(root / place for root in _ROOTS if (root / place).exists())
        below = sorted(path for path in source.rglob("*") if path.suffix in _SUFFIXES) if source.is_dir() else [source]
        yield from ((path.relative_to(source.parent).as_posix(), path) for path in below)


def _adapted(text: str, kind: str, folder: Path) -> str:
    lines = [line for line in text.splitlines(keepends=True) if not line.startswith(_SCHEMA_LINE)]
    text = "".join(lines)
    for place in STARTERS[kind].sources:
        if place != _CARDS:
            text = text.replace(place, shlex.quote((folder / Path(place).name).as_posix()))
    return text
