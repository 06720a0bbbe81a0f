"""A network of one's own, which a Python function builds."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from lambda_hat.config.base import Expected
from lambda_hat.config.numbers import Seed
from lambda_hat.config.problems.base import PosteriorSpec, ProblemSpec

__all__ = ["NUM_HEX_DIGITS", "Builder", "Patterns", "PythonProblem", "file_hash", "found_path"]

NUM_HEX_DIGITS = 24  # of every hash of content

_BUILDER = r"^(?:[^:]+\.py|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):[A-Za-z_]\w*$"

Builder = Annotated[
    str,
    Field(pattern=_BUILDER),
    Expected("FILE.py:FUNCTION or package.module:FUNCTION", "A relative FILE begins in the folder of the study file."),
]


def _as_patterns(value: Any) -> Any:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


Patterns = Annotated[tuple[str, ...], Field(min_length=1), BeforeValidator(_as_patterns)]


def file_hash(path: Path) -> str:
    """The first hexadecimal digits of the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:NUM_HEX_DIGITS]


def found_path(text: str, folder: Path | None) -> Path | None:
    """The file or folder that a text names, relative ones in `folder`; None where there is none."""
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        path = (folder or Path()) / Path(text).expanduser()
        return path if text and path.exists() else None
    return None


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


class PythonProblem(ProblemSpec):
    """A network, its parameters and its data, as a function of one's own returns them."""

    built_by: ClassVar[str] = "lambda_hat.targets.python:KIND"
    order: ClassVar[int] = 50
    entry_fields: ClassVar[tuple[str, ...]] = ("build", "arguments", "sampled")
    takes_seed: ClassVar[bool] = False

    target: Literal["python"] = "python"
    """Kind of target."""
    build: Builder
    """The function: `FILE.py:FUNCTION` or `package.module:FUNCTION`."""
    arguments: dict[str, object] = {}
    """Keyword arguments of the function."""
    sampled: Patterns | None = None
    """Patterns over the places of the leaves that are sampled, such as `layers/0/*`; null samples all parameters."""
    posterior: PosteriorSpec = PosteriorSpec()
    """The local posterior around the parameters."""
    seed: Seed = 0
    """Without effect: what is random in the function is a matter of its arguments."""
    sources: dict[str, str] = {}
    """Hashes of the source files that the function comes from, by their place beside its own; found when it is built.
    """
    content: str = ""
    """Hash of the arguments, of the files that they name, and of what the function returned; found when it is built."""
    sketch: tuple[float, ...] = ()
    """Two numbers for each array that the function returned, which tell rounding from another network; found likewise.
    """

    @property
    def function(self) -> str:
        """The name of the function."""
        return self.build.rpartition(":")[2]

    @property
    def module(self) -> str:
        """The file, or the name of the module."""
        return self.build.rpartition(":")[0]

    @property
    def told_arguments(self) -> str:
        """The arguments, for messages."""
        return ", ".join(f"{name}={value!r}" for name, value in self.arguments.items()) or "no arguments"

    @property
    def call(self) -> str:
        """The function with its arguments, for messages."""
        return f"`{self.function}` of {self.module} ({self.told_arguments})"

    @property
    def is_file(self) -> bool:
        """Whether the function is one of a file."""
        return self.module.endswith(".py")

    @property
    def is_built(self) -> bool:
        """Whether the content of the problem is known."""
        return bool(self.content)

    @property
    def folder(self) -> Path | None:
        """The folder of the file, where relative paths in `arguments` begin; None for a module."""
        return Path(self.module).parent if self.is_file else None

    def named_files(self) -> dict[str, str]:
        """Hashes of the files that arguments name, by those names."""
        return {
            text: file_hash(path)
            for text in _texts(self.arguments)
            if (path := found_path(text, self.folder)) is not None and path.is_file()
        }

    def identity(self) -> Mapping[str, Any]:
        """Content alone once it is known: neither where the file lies nor what it is called."""
        values = self.to_dict()
        del values["seed"], values["sketch"]
        if self.is_built:
            del values["build"], values["arguments"]
            values |= {"function": self.function, "sources": sorted(self.sources.values())}
        return values
