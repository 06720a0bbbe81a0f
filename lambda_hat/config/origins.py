"""Where every value of a valid configuration came from: a line of a file, an argument, a preset, or a default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lambda_hat.config.load import LoadedCard, LoadedExperiments, LoadedFile, LoadedStudy
from lambda_hat.config.locate import Document, KeyPath
from lambda_hat.config.problems import ProblemEntry, find_kind
from lambda_hat.config.resolve import load_preset, written_overrides

__all__ = ["PARTS", "Origins", "part_of"]

Origins = Callable[[KeyPath], str]
DEFAULT = "default"

PARTS = ("study", "card", "problems", "samplers")


def part_of(
    loaded: LoadedFile | LoadedCard,
    part: str,
    name_of: Callable[[Mapping[str, Any]], str],
    card_option: str | None = None,
) -> tuple[dict[str, Any], Origins]:
    """Plain data of one of `PARTS`, and a function that says where each value came from.

    `name_of` gives the id of a resolved problem. `card_option` is the option that chose the card, if one did.
    """
    if isinstance(loaded, LoadedCard):  # which is all that there is
        return loaded.card.to_dict(), _of_document(loaded.document)
    match part:
        case "card":
            return loaded.card.to_dict(), _of_document(loaded.card_document)
        case "problems":
            points = zip(loaded.places, loaded.sections.entries, loaded.problems, strict=True)
            origins = {
                name_of(problem.identity()): _of_problem(loaded, index, entry) for index, entry, problem in points
            }
            values = dict(zip(origins, [problem.to_dict() for problem in loaded.problems], strict=True))
            return values, lambda path: origins[str(path[0])](path[1:])
        case "samplers":
            return _samplers(loaded)
        case _:
            return loaded.resolved, _of_study(loaded, card_option)


def _of_document(document: Document) -> Origins:
    return lambda path: document.origin(path) or DEFAULT


def _of_study(loaded: LoadedFile, card_option: str | None) -> Origins:
    def origin(path: KeyPath) -> str:
        if path == ("execution", "parsl_card") and card_option is not None:
            return card_option
        return loaded.document.origin(path) or DEFAULT

    return origin


def _of_problem(loaded: LoadedFile, index: int, entry: ProblemEntry) -> Origins:
    """The origin of one problem's values by their place; overrides win over presets and the posterior."""
    document, place = loaded.document, (_entries(loaded), index)
    written = written_overrides(entry)
    kind = find_kind(entry.target)
    fields, presets = kind.entry_fields, {name: load_preset(name, getattr(entry, name)) for name in kind.presets}

    def origin(path: KeyPath) -> str:
        for target, source in written.items():
            if path[: len(target)] == target or target[: len(path)] == path:
                return (
                    document.origin((*place, *source, *path[len(target) :])) or document.origin((*place, *source)) or ""
                )
        if path in (("seed",), ("target",)) or path[0] in fields:
            swept = ("sweep", *path[1:2]) if path[0] == "arguments" else ()
            return document.origin((*place, *path)) or document.origin((*place, *swept)) or DEFAULT
        if path[0] in presets and _has(presets[str(path[0])], path[1:]):
            return f"preset {path[0]}/{getattr(entry, str(path[0]))}"
        if path[0] == "posterior":
            return document.origin(path) or f"default of target {entry.target}"
        return DEFAULT

    return origin


def _samplers(loaded: LoadedFile) -> tuple[dict[str, Any], Origins]:
    """The settings of every method or, in an experiments file, of every sampler, by name."""
    if isinstance(loaded, LoadedExperiments):
        samplers = loaded.samplers
        values: dict[str, Any] = {sampler.name: sampler.settings for sampler in samplers}
        places = {sampler.name: ("samplers", index, "overrides") for index, sampler in enumerate(samplers)}
        presets = {sampler.name: sampler.overrides.get("preset", sampler.method) for sampler in samplers}
    else:
        assert isinstance(loaded, LoadedStudy)
        values = {**loaded.samplers}
        places = {method: ("samplers", method) for method in values}
        fixed: dict[str, Mapping[str, Any]] = {**loaded.study.samplers}
        presets = {method: fixed.get(method, {}).get("preset", method) for method in values}

    def origin(path: KeyPath) -> str:
        name = str(path[0])
        return loaded.document.origin((*places[name], *path[1:])) or f"preset sampler/{presets[name]}"

    return values, origin


def _entries(loaded: LoadedFile) -> str:
    return "targets" if isinstance(loaded, LoadedExperiments) else "problems"


def _has(values: Any, path: KeyPath) -> bool:
    for part in path:
        if not isinstance(values, Mapping) or part not in values:
            return False
        values = values[part]
    return True
