"""Networks of one's own in a study: the function that builds one, what it gives, and the content that names it."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.util
import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import jax

from lambda_hat.artifacts.ids import canonical_json
from lambda_hat.config.problems import PythonProblem
from lambda_hat.config.problems.kinds.python import NUM_HEX_DIGITS, file_hash, found_path
from lambda_hat.config.suggest import did_you_mean
from lambda_hat.errors import InputError, TargetError
from lambda_hat.targets.fingerprint import is_same_but_for_rounding, model_content, model_sketch
from lambda_hat.targets.kind import TargetKind
from lambda_hat.targets.model import Model
from lambda_hat.targets.pytrees import read_model
from lambda_hat.targets.selection import kind_of_value

__all__ = ["KIND", "Built", "build_anew", "find_function", "place_in_source"]

_NOT_OURS = ("site-packages", "dist-packages")


@dataclass(frozen=True, eq=False)
class Built:
    """What a function gave, with the hashes that tell it from any other."""

    model: Model
    content: str
    sources: dict[str, str]
    sketch: tuple[float, ...]

    def named(self, problem: PythonProblem) -> PythonProblem:
        """The problem with its content."""
        found = {"content": self.content, "sources": self.sources, "sketch": self.sketch}
        return problem.model_copy(update=found)


def find_function(problem: PythonProblem) -> Callable[..., Any]:
    """The function that `problem.build` names, once it is known to take the problem's arguments.

    Raises:
        TargetError: where and why its file cannot be imported, that it is not there, or which arguments it takes.
    """
    module, _ = _import(problem)
    function = getattr(module, problem.function, None)
    if not callable(function):
        names = [name for name, value in vars(module).items() if isinstance(value, FunctionType)]
        hint = did_you_mean(problem.function, names)
        found = "no such function" if function is None else kind_of_value(function)
        where = f"`{problem.function}` of {problem.module}"
        raise TargetError(f"{where}: found {found}, expected a function. {hint}".strip())
    try:
        inspect.signature(function).bind(**problem.arguments)
    except TypeError as error:
        raise TargetError(
            f"`{problem.function}{inspect.signature(function)}` of {problem.module} does not take these arguments: "
            f"{error} ({problem.told_arguments})."
        ) from error
    return function


def build_anew(problem: PythonProblem) -> Built:
    """What the function gives now, whether or not it is what the problem is named by.

    It runs in the precision that its module chooses (JAX's own default is 32 bits), on the CPU, and in the folder of
    its file.

    Raises:
        TargetError: the function fails, with its place, or what it gives cannot be used.
    """
    function = find_function(problem)
    _, is_double = _import(problem)
    try:
        with jax.enable_x64(is_double), _on_cpu(), _in_its_folder(problem):
            given = function(**problem.arguments)
            model = _read(given, problem)
            content = _content(model, problem)
    except InputError as error:
        raise TargetError(f"{problem.call} gave: {error}") from error
    except (Exception, SystemExit) as error:  # whatever it does
        raise TargetError(
            f"{problem.call} failed{place_in_source(error, problem)}: {type(error).__name__}: {error}"
        ) from error
    return Built(model, content, _sources(problem), model_sketch(model))


def _read(given: Any, problem: PythonProblem) -> Model:
    if isinstance(given, Model):
        if problem.sampled is not None:
            raise InputError("a Model, which says itself what is sampled. Take `sampled` out of the study")
        return given
    if not isinstance(given, tuple) or len(given) != 3:
        what = f"a tuple of {len(given)}" if isinstance(given, tuple) else kind_of_value(given)
        raise InputError(f"{what}; expected (loss_fn, params, data) or a lambda_hat.Model")
    loss_fn, params, data = given
    return read_model(loss_fn, params, data, sampled=problem.sampled)


def place_in_source(error: BaseException, problem: PythonProblem) -> str:
    """Where in the user's own code, as far as it got there."""
    frames = traceback.extract_tb(error.__traceback__)
    folder = _folder(problem)
    own = [frame for frame in frames if folder is not None and Path(frame.filename).is_relative_to(folder)]
    if isinstance(error, SyntaxError) and error.filename:
        return f" in {error.filename}, line {error.lineno}"
    return f" in {own[-1].filename}, line {own[-1].lineno}, `{own[-1].name}`" if own else ""


# Importing


def _import(problem: PythonProblem) -> tuple[ModuleType, bool]:
    """The module, and whether it switches JAX to 64 bits.

    Raises:
        TargetError: where and why it cannot be imported.
    """
    if not problem.is_file:
        return _import_named(problem.module, problem)
    path = Path(problem.module)
    try:
        source = path.read_bytes()
    except OSError as error:
        raise TargetError(f"{path} cannot be read: {error.strerror}.") from error
    return _import_file(str(path), _hash(source), problem.function)


def _import_named(name: str, problem: PythonProblem) -> tuple[ModuleType, bool]:
    return _in_default_mode(lambda: importlib.import_module(name), problem)


@functools.lru_cache(maxsize=64)
def _import_file(path: str, source_hash: str, function: str) -> tuple[ModuleType, bool]:
    """The file as a module, imported once for each content; what lies beside it can be imported, as in a script."""
    name = f"lambda_hat_build_{_hash(path.encode())}_{source_hash}"
    problem = PythonProblem(build=f"{path}:{function}")
    if name in sys.modules:
        return sys.modules[name], _IS_DOUBLE.get(name, False)
    folder = str(Path(path).parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)

    def load() -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # where dataclasses look for it
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module

    module, _IS_DOUBLE[name] = _in_default_mode(load, problem)
    return module, _IS_DOUBLE[name]


_IS_DOUBLE: dict[str, bool] = {}  # by module


def _in_default_mode(load: Callable[[], ModuleType], problem: PythonProblem) -> tuple[ModuleType, bool]:
    """Import with JAX as a fresh process has it, and see whether the module switches it to 64 bits."""
    with jax.enable_x64(False), _on_cpu():
        outside = _global_mode()
        try:
            module = load()
        except (Exception, SystemExit) as error:  # whatever the module does when it is imported
            raise TargetError(
                f"{problem.module} cannot be imported: {type(error).__name__}{place_in_source(error, problem)}: {error}"
            ) from error
        is_double = _global_mode() and not outside
        if is_double:
            jax.config.update("jax_enable_x64", outside)
    return module, is_double


def _global_mode() -> bool:
    """JAX's precision mode, whatever a `with` block around says: those belong to a thread."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(lambda: bool(jax.config.read("jax_enable_x64"))).result()


@contextlib.contextmanager
def _on_cpu() -> Generator[None]:
    """Have arrays computed on the CPU, if there is one beside a GPU, so that every machine gets the same."""
    try:
        device = jax.devices("cpu")[0]
    except RuntimeError:
        yield
        return
    with jax.default_device(device):
        yield


@contextlib.contextmanager
def _in_its_folder(problem: PythonProblem) -> Generator[None]:
    """Have relative paths in arguments begin in the folder of the file."""
    if not problem.is_file:
        yield
        return
    before = Path.cwd()
    os.chdir(Path(problem.module).parent)
    try:
        yield
    finally:
        os.chdir(before)


# Content


def _folder(problem: PythonProblem) -> Path | None:
    """Where the sources of one's own lie: the folder of the file, or that of the package."""
    if problem.is_file:
        return Path(problem.module).resolve().parent
    top = sys.modules.get(problem.module.partition(".")[0])
    file = getattr(top, "__file__", None)
    if file is None:
        return None
    path = Path(file).resolve()
    return path.parent if path.name == "__init__.py" else path


def _sources(problem: PythonProblem) -> dict[str, str]:
    """Hashes of the modules that are loaded from one's own folder, by their place in it."""
    folder = _folder(problem)
    if folder is None:
        return {}
    files = {Path(problem.module).resolve()} if problem.is_file else set[Path]()
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or not file.endswith(".py") or not Path(file).is_absolute():
            continue  # PyTorch has modules whose files are names alone
        path = Path(file).resolve()
        is_other_build = module.__name__.startswith("lambda_hat_build_")
        if path.is_relative_to(folder) and not is_other_build and not _is_installed(path, folder):
            files.add(path)
    base = folder if folder.is_dir() else folder.parent
    return {path.relative_to(base).as_posix(): _hash(path.read_bytes()) for path in sorted(files)}


def _is_installed(path: Path, folder: Path) -> bool:
    """Whether the path is one of a virtual environment within the folder, or of lambda-hat itself."""
    own = Path(__file__).resolve().parents[1]
    return any(part in _NOT_OURS for part in path.relative_to(folder).parts) or path.is_relative_to(own)


def _content(model: Model, problem: PythonProblem) -> str:
    """Hash of the arguments, with the content of files in place of their names, and of the model."""
    digest = hashlib.sha256(canonical_json(_without_paths(problem.arguments, problem.folder)).encode())
    digest.update(model_content(model).encode())
    return digest.hexdigest()[:NUM_HEX_DIGITS]


def _without_paths(value: Any, folder: Path | None) -> Any:
    """Plain data in which files are their hashes; a folder counts by what the function makes of it."""
    if isinstance(value, dict):
        return {str(key): _without_paths(item, folder) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_paths(item, folder) for item in value]
    if isinstance(value, str) and (path := found_path(value, folder)) is not None:
        return {"file": file_hash(path)} if path.is_file() else {"folder": ""}
    return value


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:NUM_HEX_DIGITS]


# The kind


def _build(problem: PythonProblem) -> Model:
    """The model of a problem whose content is known, built once in a process.

    Raises:
        TargetError: it fails, or is another one than the study was begun with.
    """
    return _built(json.dumps(problem.to_dict(), sort_keys=True))


@functools.lru_cache(maxsize=8)
def _built(definition: str) -> Model:
    problem = PythonProblem.model_validate(json.loads(definition))
    built = build_anew(problem)
    if not problem.is_built:
        return replace(built.model, info={})
    base = _folder(problem)
    changed = [
        place
        for place, known in problem.sources.items()
        if base is not None and _hash_or_none((base if base.is_dir() else base.parent) / place) != known
    ]
    if changed:
        raise TargetError(
            f"{', '.join(changed)} changed since this command began: what it builds now is another problem. Start the "
            "command again."
        )
    if built.content != problem.content and not is_same_but_for_rounding(built.sketch, problem.sketch):
        raise TargetError(
            f"{problem.call} built another model here than when this "
            f"command began (content {built.content}, not {problem.content}). It has to give the same parameters and "
            "data wherever and whenever it is called: fix its seeds, or load what it computes from a file."
        )
    return built.model


def _hash_or_none(path: Path) -> str | None:
    try:
        return file_hash(path)
    except OSError:
        return None


KIND = TargetKind(build=_build, loss_of=lambda problem: _build(problem).loss_fn, is_stored=False)
