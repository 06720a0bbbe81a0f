"""Presets, and what entries of `problems:` and `samplers:` become with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import cache
from importlib.resources import files
from typing import Any

from pydantic import ValidationError

from lambda_hat.config.locate import Finding, KeyPath, dotted, parse_value
from lambda_hat.config.problems import PosteriorSpec, ProblemEntry, ProblemSpec, find_kind
from lambda_hat.config.suggest import did_you_mean, one_of
from lambda_hat.config.validation import findings_of
from lambda_hat.errors import ConfigError, Fault, TargetError

__all__ = [
    "PRESET_KINDS",
    "load_preset",
    "preset_names",
    "problem_or_findings",
    "resolve_problem",
    "resolve_sampler",
    "unknown_preset",
    "written_overrides",
]

_PRESETS = files("lambda_hat.config") / "presets"
PRESET_KINDS = ("model", "data", "teacher")


@cache
def preset_names(kind: str) -> tuple[str, ...]:
    """The presets of this kind (`model`, `data`, `teacher`, `sampler`) that ship with the package."""
    return tuple(sorted(item.name.removesuffix(".yaml") for item in (_PRESETS / kind).iterdir()))


def load_preset(kind: str, name: str) -> dict[str, Any]:
    """What the preset sets."""
    return parse_value((_PRESETS / kind / f"{name}.yaml").read_text(encoding="utf-8")) or {}


def unknown_preset(path: KeyPath, kind: str, name: object) -> Finding | None:
    """The finding on a name that is no preset of this kind, if it is none."""
    names = preset_names(kind)
    if name in names:
        return None
    return Finding(path, f"found {name!r}, expected a {kind} preset: {one_of(names)}", did_you_mean(name, names))


def resolve_problem(entry: ProblemEntry, posterior: PosteriorSpec | None = None) -> ProblemSpec:
    """The problem that presets, then the study's posterior, then the entry's overrides and seed make.

    Raises:
        ConfigError: a preset that does not exist, or overrides that do not fit the target; keys are the entry's.
    """
    problem, findings = problem_or_findings(entry, posterior)
    if problem is None:
        raise ConfigError([Fault(key=dotted(item.path), message=item.message, hint=item.hint) for item in findings])
    return problem


def problem_or_findings(
    entry: ProblemEntry, posterior: PosteriorSpec | None
) -> tuple[ProblemSpec | None, list[Finding]]:
    """The resolved problem, or else everything that is wrong with the entry."""
    try:
        kind = find_kind(entry.target)
    except TargetError as error:
        return None, [Finding(("target",), str(error))]
    posteriors = (kind.model_fields["posterior"].default, posterior)
    values: dict[str, Any] = {
        "target": entry.target,
        "posterior": {
            key: value for spec in posteriors if spec for key, value in spec.model_dump(exclude_unset=True).items()
        },
    }
    findings = []
    for preset in PRESET_KINDS:
        name = getattr(entry, preset)
        if preset in kind.presets:
            if finding := unknown_preset((preset,), preset, name):
                findings.append(finding)
            else:
                values[preset] = load_preset(preset, name)
        elif preset in entry.model_fields_set:
            hint = f"Put the fields of the {entry.target} target itself into `overrides`."
            findings.append(Finding((preset,), f"target `{entry.target}` takes no {preset} preset", hint, True))
    for name in ("build", "arguments", "sampled", "sweep", "seed"):
        if name in kind.entry_fields and name in entry.model_fields_set:
            values[name] = deepcopy(getattr(entry, name))
        elif name in entry.model_fields_set and not _takes(kind, name):
            hint = "Put it into `arguments`." if name == "seed" else "Only `target: python` has it."
            findings.append(Finding((name,), f"target `{entry.target}` takes no `{name}`", hint, True))

    written: dict[KeyPath, KeyPath] = {}  # where each override came from
    for path, source, value in _leaves(entry.overrides, (), ("overrides",)):
        if path[0] in ("seed", "target"):
            message = f"not an override; the entry has a `{path[0]}` of its own"
            findings.append(Finding(source, message, f"Move it next to `overrides`, as `{path[0]}:`.", True))
        elif clash := next((old for old in written if path[: len(old)] == old or old[: len(path)] == path), None):
            hint = f"It is set by `{dotted(written[clash])}` already: remove one of the two."
            findings.append(Finding(source, "given twice", hint, True))
        else:
            written[path] = source
            _put(values, path, value)
    values["seed"] = entry.seed

    try:
        problem = kind.model_validate(values)
    except ValidationError as error:
        found = findings_of(error, kind, values)
        entry_fields = kind.entry_fields
        return None, findings + [
            finding if finding.path[:1] and finding.path[0] in entry_fields else _at_its_source(finding, written)
            for finding in found
        ]
    findings += [_at_its_source(finding, written) for finding in problem.inconsistencies()]
    return (None if findings else problem), findings


def _takes(kind: type[ProblemSpec], name: str) -> bool:
    """Whether entries of this kind may have the field."""
    if name == "seed":
        return kind.takes_seed
    return "arguments" in kind.entry_fields if name == "sweep" else name in kind.entry_fields


def written_overrides(entry: ProblemEntry) -> dict[KeyPath, KeyPath]:
    """By place in the problem: where in the entry each override stands."""
    return {path: source for path, source, _ in _leaves(entry.overrides, (), ("overrides",))}


def _leaves(
    overrides: Mapping[str, object], path: KeyPath, source: KeyPath
) -> Iterator[tuple[tuple[str, ...], KeyPath, object]]:
    """(place in the problem, place in the entry, value) of every override, however dots and nesting are mixed."""
    for key, value in overrides.items():
        here = (*path, *key.split("."))
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, here, (*source, key))
        else:
            yield tuple(map(str, here)), (*source, key), value


def _put(values: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    for part in path[:-1]:
        if not isinstance(values.get(part), dict):
            values[part] = {}  # a number that localization was before gives way to `localization.radius`
        values = values[part]
    if value == {} and isinstance(values.get(path[-1]), dict):
        return  # an empty mapping changes nothing
    values[path[-1]] = value


def _at_its_source(finding: Finding, written: Mapping[KeyPath, KeyPath]) -> Finding:
    for path, source in written.items():
        if path[: len(finding.path)] == finding.path or finding.path[: len(path)] == path:
            return Finding(source + finding.path[len(path) :], finding.message, finding.hint, finding.is_about_key)
    return finding.under(("overrides",))


def resolve_sampler(method: str, fixed: Mapping[str, object]) -> dict[str, object]:
    """The preset's settings with the fixed ones over them, by YAML's names; `preset` defaults to the method's own."""
    preset = load_preset("sampler", str(fixed.get("preset", method)))
    return preset | {name: value for name, value in fixed.items() if name != "preset"}
