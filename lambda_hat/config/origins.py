"""Where every value of a valid configuration came from: a line of a file, an argument, a preset, or a default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lambda_hat.config.load import LoadedStudy
from lambda_hat.config.locate import Document, KeyPath
from lambda_hat.config.problems import ProblemEntry
from lambda_hat.config.resolve import PRESET_KINDS, load_preset, written_overrides

__all__ = ["PARTS", "Origins", "part_of"]

Origins = Callable[[KeyPath], str]
DEFAULT = "default"

PARTS = ("study", "card", "problems", "samplers")


def part_of(
    loaded: LoadedStudy, part: str, name_of: Callable[[dict[str, Any]], str], card_option: str | None = None
) -> tuple[dict[str, Any], Origins]:
    """Plain data of one of `PARTS`, and where each value of it came from.

    `name_of` gives the id of a resolved problem; `card_option` is what chose the card, where the file did not.
    """
    match part:
        case "card":
            return loaded.card.to_dict(), _of_document(loaded.card_document)
        case "problems":
            resolved = [problem.to_dict() for problem in loaded.study.resolved_problems]
            origins = {
                name_of(problem): _of_problem(loaded, index, entry)
                for index, (entry, problem) in enumerate(zip(loaded.study.problems, resolved, strict=True))
            }
            values = dict(zip(origins, resolved, strict=True))
            return values, lambda path: origins[str(path[0])](path[1:])
        case "samplers":
            samplers: dict[str, Any] = {**loaded.study.resolved_samplers}
            return samplers, lambda path: _of_sampler(loaded, path)
        case _:
            return loaded.resolved, _of_study(loaded, card_option)


def _of_document(document: Document) -> Origins:
    return lambda path: document.origin(path) or DEFAULT


def _of_study(loaded: LoadedStudy, card_option: str | None) -> Origins:
    def origin(path: KeyPath) -> str:
        if path == ("execution", "parsl_card") and card_option is not None:
            return card_option
        return loaded.study_document.origin(path) or DEFAULT

    return origin


def _of_problem(loaded: LoadedStudy, index: int, entry: ProblemEntry) -> Origins:
    """Of one problem's values by their place in the resolved problem; overrides win over presets and the posterior."""
    document, place = loaded.study_document, ("problems", index)
    written = written_overrides(entry)
    presets = {kind: load_preset(kind, getattr(entry, kind)) for kind in PRESET_KINDS} if entry.target == "mlp" else {}

    def origin(path: KeyPath) -> str:
        for target, source in written.items():
            if path[: len(target)] == target or target[: len(path)] == path:
                return (
                    document.origin((*place, *source, *path[len(target) :])) or document.origin((*place, *source)) or ""
                )
        if path in (("seed",), ("target",)):
            return document.origin((*place, *path)) or DEFAULT
        if path[0] in presets and _has(presets[str(path[0])], path[1:]):
            return f"preset {path[0]}/{getattr(entry, str(path[0]))}"
        if path[0] == "posterior":
            return document.origin(path) or f"default of target {entry.target}"
        return DEFAULT

    return origin


def _of_sampler(loaded: LoadedStudy, path: KeyPath) -> str:
    method = str(path[0])
    fixed: Mapping[str, Any] = {**loaded.study.samplers}.get(method, {})
    return loaded.study_document.origin(("samplers", *path)) or f"preset sampler/{fixed.get('preset', method)}"


def _has(values: Any, path: KeyPath) -> bool:
    for part in path:
        if not isinstance(values, Mapping) or part not in values:
            return False
        values = values[part]
    return True
