"""What a shell offers to complete: runs, ids, keys and their values, cards, names of schemas.

Click asks these functions when the shell does; nothing here is imported heavily before that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["complete_card", "complete_file", "complete_id", "complete_key", "complete_run", "complete_schema"]

_ROOT = Path("runs")


def _files(incomplete: str, kind: str = "file") -> CompletionItem:
    """Leaves the rest to the shell: names of files (`kind` file) or folders (`dir`)."""
    return CompletionItem(incomplete, type=kind)


def _beginning(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def complete_run(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Folders of runs under `runs`; else any folder."""
    found = sorted(meta.parent.as_posix() for meta in _ROOT.glob("*/*/meta") if meta.is_dir())
    return _beginning(found, incomplete) or [_files(incomplete, "dir")]


def complete_id(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of problems and trials: of the run that the command line names, or of all runs under its `--root`."""
    root, run = ctx.params.get("root") or _ROOT, ctx.params.get("run")
    runs = [Path(run)] if run is not None else [meta.parent for meta in Path(root).glob("*/*/meta")]
    folders = (folder for one in runs for place in ("problems/p_*", "trials/*/*/r_*") for folder in one.glob(place))
    return _beginning(sorted({folder.name for folder in folders}), incomplete)


def complete_file(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Files."""
    return [_files(incomplete)]


def complete_card(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Cards that ship, by their names; else any file."""
    from lambda_hat.config.shipped import card_names

    return _beginning(card_names(), incomplete) or [_files(incomplete)]


def complete_schema(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of schemas, methods included."""
    from lambda_hat.config.explain import schema_names

    return _beginning(schema_names(), incomplete)


def complete_key(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Keys of the file, part by part, and behind `=` the values of keys that have a closed set of them."""
    models = _models(ctx)
    key, equals, value = incomplete.partition("=")
    if equals:
        return [CompletionItem(f"{key}={name}") for name in _values(models, key.split(".")) if name.startswith(value)]
    *above, _ = key.split(".")
    before = "".join(f"{part}." for part in above)
    found = []
    for name in _names(models, above):
        end = "." if _names(models, [*above, name]) else "="
        found.append(f"{before}{name}{end}")
    return _beginning(found, incomplete)


def _models(ctx: click.Context) -> tuple[type[BaseModel], ...]:
    """What the file can be: by its keys, or else by the command."""
    from lambda_hat.config.experiments import Experiments
    from lambda_hat.config.load import kind_of
    from lambda_hat.config.study import Study

    given = (
        *map(ctx.params.get, ("config", "config_file", "file")),
        *ctx.args,
    )  # where click leaves FILE
    name = next(filter(None, given), None)
    by_command = {"optuna": Study, "llc": Experiments}.get(ctx.info_name or "")
    kind = (kind_of(name) if name else None) or by_command
    return (kind,) if kind else (Study, Experiments)


def _names(models: Sequence[type[BaseModel]], path: list[str]) -> tuple[str, ...]:
    from lambda_hat.config.describe import names_at, type_at
    from lambda_hat.config.methods import METHODS, hyperparameter_names
    from lambda_hat.config.study import Study

    if Study in models and len(path) == 2 and path[0] in ("samplers", "search_space") and path[1] in METHODS:
        return hyperparameter_names(path[1])
    found = (names_at(type_at(model, _nested(path), tuple(path)), None) for model in models)
    return next(filter(None, found), ()) if path else tuple(dict.fromkeys(name for names in found for name in names))


def _values(models: Sequence[type[BaseModel]], path: list[str]) -> Iterator[str]:
    from lambda_hat.config.describe import closed_set, type_at

    annotation = next(filter(None, (type_at(model, _nested(path), tuple(path)) for model in models)), None)
    yield from map(str, closed_set(annotation) if annotation is not None else ())
    if annotation is bool:
        yield from ("true", "false")


def _nested(path: list[str]) -> dict[str, Any]:
    """Mappings one in the other, as in a file that has this key."""
    data: dict[str, Any] = {}
    for part in reversed(path):
        data = {part: data}
    return data
