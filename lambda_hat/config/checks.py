"""Rules that join several fields and that types cannot express, checked on the data as read.

Every check skips values of a wrong type, which are reported already, and continues with the rest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from lambda_hat.config.describe import fields_of, scalar_types
from lambda_hat.config.locate import Finding, KeyPath, dotted
from lambda_hat.config.methods import METHODS, hyperparameter_names
from lambda_hat.config.problems import TARGETS, ProblemEntry, find_kind
from lambda_hat.config.resolve import load_preset, resolve_sampler, unknown_preset
from lambda_hat.config.study import Objective, ReferenceSpec
from lambda_hat.config.suggest import did_you_mean, one_of
from lambda_hat.config.validation import findings_of, found, is_number
from lambda_hat.errors import TargetError

__all__ = ["check_card", "check_experiments", "check_filled_in", "check_study"]

_PLACEHOLDER = re.compile(r"<[^<>]+>")
_WORDS = ("select_options",)  # in job scripts
_FOLDERS_OF_RUNS = ("problems", "trials", "studies", "tables", "meta", "cache")


def check_study(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Faults of methods, search space, fixed settings and the kind of reference."""
    methods, space, samplers = _list(data.get("methods")), _mapping(data.get("search_space")), data.get("samplers")
    for index, method in enumerate(methods):
        if method in methods[:index]:
            yield Finding(("methods", index), f"`{method}` is listed twice", "Remove one of the two.")
        elif not isinstance(method, str) or method not in METHODS:
            continue
        elif METHODS[method].is_composite:
            if space.get(method):
                message = f"`{method}` chooses its settings by itself: there is nothing to search"
                yield Finding(("search_space", method), message, f"Fix settings in `samplers.{method}` instead.")
        elif method not in space or space[method] == {}:
            message = (
                f"`{method}` has no search space; expected `search_space.{method}` with at least one hyperparameter"
            )
            yield Finding(("methods", index), message, f"Add `search_space.{method}`, or take {method} from the list.")
    for method, distributions in space.items():
        if method in METHODS:
            for name, distribution in _mapping(distributions).items():
                yield from _check_distribution(method, name, distribution)
    for method, fixed in _mapping(samplers).items():
        if method in METHODS:
            yield from _check_fixed(("samplers", method), method, _mapping(fixed), _mapping(space.get(method)))
    for method, entries in _mapping(_mapping(data.get("optuna")).get("enqueue")).items():
        for index, entry in enumerate(_list(entries)):
            place = ("optuna", "enqueue", method, index)
            yield from _check_enqueued(_mapping(entry), _mapping(space.get(method)), method, place)
    yield from _check_exact(data, "problems")
    yield from _check_objective(data)


def check_experiments(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Faults of the samplers' names and settings and of the kind of reference."""
    seen: list[tuple[object, ...]] = []
    entries = list(map(_mapping, _list(data.get("samplers"))))
    yield from _repeated([entry.get("name") for entry in entries], "names", ("samplers",), "name")
    for index, entry in enumerate(entries):
        path, name, method = ("samplers", index), entry.get("name"), method_of(entry)
        if method in METHODS:
            yield from _check_fixed((*path, "overrides"), method, _mapping(entry.get("overrides")), {})
        elif isinstance(name, str) and entry.get("method") is None:
            message = f"missing, and the name {name!r} is no method; expected {one_of(tuple(METHODS))}"
            yield Finding((*path, "method"), message, did_you_mean(name, tuple(METHODS)))
        twin = (method, entry.get("overrides", {}), entry.get("seed", 0))
        if method is not None and twin in seen:
            message = f"the same run as `samplers.{seen.index(twin)}`: method, overrides and seed agree"
            yield Finding(path, message, "Remove one of the two, or give it another `seed`.")
        seen.append(twin)
    yield from _check_exact(data, "targets")


def method_of(entry: Mapping[str, Any]) -> Any:
    """The method of an entry of `samplers:`; an entry without `method` has it as its name."""
    return entry.get("name") if entry.get("method") is None else entry["method"]


def _check_enqueued(
    entry: Mapping[str, Any], space: Mapping[str, Any], method: str, place: KeyPath
) -> Iterator[Finding]:
    for name, value in entry.items():
        spec = _mapping(space.get(name))
        if name not in space:
            message = f"`{name}` is not searched, so that it cannot be tried first"
            hint = did_you_mean(name, list(space)) or f"Add it to `search_space.{method}`, or fix it in `samplers`."
            yield Finding((*place, name), message, hint, is_about_key=True)
        elif (wanted := _outside(value, spec)) is not None:
            yield Finding((*place, name), f"found {found(value)}, expected {wanted}, as it is searched")


def _outside(value: object, spec: Mapping[str, Any]) -> str | None:
    """What a value has to be to lie in a valid distribution; None if it does."""
    low, high, step = spec.get("low"), spec.get("high"), spec.get("step", 1)
    if isinstance(choices := spec.get("choices"), list):
        is_there = any(value == choice and isinstance(value, bool) == isinstance(choice, bool) for choice in choices)
        return None if is_there else one_of(choices)
    if not (is_number(low) and is_number(high) and is_number(step)):
        return None
    is_whole = spec.get("dist") == "int"
    if is_number(value) and low <= value <= high and not (is_whole and (not float(value).is_integer())):
        if is_whole and step > 1 and (value - low) % step:
            return f"{found(low)} plus a multiple of {found(step)}"
        return None
    return f"a {'whole ' if is_whole else ''}number from {found(low)} to {found(high)}"


def _check_objective(data: Mapping[str, Any]) -> Iterator[Finding]:
    objective = _mapping(_mapping(data.get("optuna")).get("objective"))
    kind = objective.get("type", Objective.model_fields["type"].default)
    value, default = objective.get("delta"), Objective.model_fields["delta"].default
    if kind in ("abs", "relative") and is_number(value) and value != default:
        message, hint = f"found {found(value)}, which has no effect with `type: {kind}`", "Remove it, or use `huber`."
        yield Finding(("optuna", "objective", "delta"), message, hint, is_about_key=True)


def _check_exact(data: Mapping[str, Any], entries: str) -> Iterator[Finding]:
    reference = data.get("reference")
    place = ("reference",) if isinstance(reference, str) else ("reference", "method")
    reference = {"method": reference} if isinstance(reference, str) else _mapping(reference)
    method = reference.get("method")
    if method in ("laplace", "none") and entries == "problems":
        message = f"found '{method}', expected `hmc` or `exact`: methods are tuned against a reference"
        yield Finding(place, message, "`lambda-hat workflow llc` does without.")
    if method in ("laplace", "none"):
        yield from _without_effect(reference)
    if method != "exact":
        return
    exact = [name for name, problem in TARGETS.items() if problem.has_exact_llc]
    for index, entry in enumerate(_list(data.get(entries))):
        target = _mapping(entry).get("target", ProblemEntry.model_fields["target"].default)
        if isinstance(entry, Mapping) and isinstance(target, str) and not _may_be_exact(target):
            message = f"found `{target}`, whose exact value is not known, with `reference: exact`"
            names = ", ".join(f"`{name}`" for name in exact)
            hint = f"Exact values are known of {names}; others need `reference: hmc`."
            yield Finding((entries, index, "target"), message, hint)
    yield from _without_effect(reference)


def _without_effect(reference: Mapping[str, Any]) -> Iterator[Finding]:
    """Settings of chains where there are none."""
    for name, value in reference.items():
        field = ReferenceSpec.model_fields.get(name)
        if name != "method" and field is not None and value != field.default:
            message = f"found {found(value)}, which has no effect with `method: {reference['method']}`"
            yield Finding(("reference", name), message, "Remove it.", is_about_key=True)


def _may_be_exact(target: str) -> bool:
    try:
        return find_kind(target).has_exact_llc
    except TargetError:  # reported with the entry
        return True


def _check_distribution(method: str, name: str, distribution: object) -> Iterator[Finding]:
    path = ("search_space", method, name)
    if name not in hyperparameter_names(method):
        yield _unknown_hyperparameter(path, method)
        return
    spec = _mapping(distribution)
    kind = spec.get("dist")
    if kind == "categorical":
        choices = _list(spec.get("choices"))
        yield from _repeated(choices, "choices", (*path, "choices"))
        for index, choice in enumerate(choices):
            yield from _unaccepted(method, name, choice, (*path, "choices", index))
    elif kind in ("float", "int"):
        types = scalar_types(fields_of(METHODS[method])[name])
        if kind == "float" and int in types and float not in types:
            yield Finding((*path, "dist"), f"found 'float', but `{name}` is a whole number; expected `int`")
        elif not types & {int, float}:
            yield Finding((*path, "dist"), f"found '{kind}', but `{name}` is no number; expected `categorical`")
        else:
            yield from _check_range(method, name, spec, path)
    else:  # a kind that is missing or misspelt is reported already
        yield from _check_order(spec, path)


def _check_range(method: str, name: str, spec: Mapping[str, Any], path: KeyPath) -> Iterator[Finding]:
    low, high, step = spec.get("low"), spec.get("high"), spec.get("step", 1)
    for end in ("low", "high"):
        if is_number(spec.get(end)):
            yield from _unaccepted(method, name, spec[end], (*path, end))
    if is_number(low) and spec.get("log") is True and low <= 0:
        yield Finding((*path, "low"), f"found {found(low)} for a logarithmic range, expected more than 0")
    if not (is_number(low) and is_number(high)):
        return
    yield from _check_order(spec, path)
    if low <= high and spec["dist"] == "int" and is_number(step) and step > 1:
        if spec.get("log") is True:
            message = f"found {found(step)} with `log: true`, expected no step in a logarithmic range"
            yield Finding((*path, "step"), message, "Remove `step`, or set `log: false`.")
        elif rest := (high - low) % step:
            message = f"steps of {found(step)} from {found(low)} miss high {found(high)}, expected to end there"
            yield Finding((*path, "high"), message, f"Use {high - rest} or {high - rest + step}.")


def _check_order(spec: Mapping[str, Any], path: KeyPath) -> Iterator[Finding]:
    low, high = spec.get("low"), spec.get("high")
    if is_number(low) and is_number(high) and low > high:
        message = f"found low {found(low)} above high {found(high)}, expected low ≤ high"
        yield Finding((*path, "low"), message, "Swap the two.")


def _unaccepted(method: str, name: str, value: object, path: KeyPath) -> Iterator[Finding]:
    """Findings on one value of a hyperparameter that the method's settings refuse."""
    settings = METHODS[method]
    try:
        settings.model_validate({name: value})
    except ValidationError as error:
        for finding in findings_of(error, settings, {name: value}):
            yield Finding(path, finding.message, finding.hint)


def _unknown_hyperparameter(path: KeyPath, method: str) -> Finding:
    settings, name = METHODS[method], str(path[-1])
    field = settings.model_fields.get(name)  # people who read the code know the long name
    meant = f"Did you mean `{field.alias}`?" if field else did_you_mean(name, hyperparameter_names(method))
    meant = settings.names_elsewhere.get(name, meant)
    hint = f"{meant}  `lambda-hat config schema {method}` lists them all."
    return Finding(path, f"unknown hyperparameter of {method}.", hint.strip(), is_about_key=True)


def _check_fixed(path: KeyPath, method: str, fixed: Mapping[str, Any], space: Mapping[str, Any]) -> Iterator[Finding]:
    for name, value in fixed.items():
        if name == "preset":
            continue
        if name not in hyperparameter_names(method):
            yield _unknown_hyperparameter((*path, name), method)
            continue
        yield from _unaccepted(method, name, value, (*path, name))
        if name in space:
            hint = f"Remove it here, or from `search_space.{method}`."
            yield Finding((*path, name), "both fixed and searched; expected one of the two", hint, is_about_key=True)
    preset = fixed.get("preset", method)
    if finding := unknown_preset((*path, "preset"), "sampler", preset):
        yield finding
        return
    if strangers := sorted(load_preset("sampler", preset).keys() - set(hyperparameter_names(method))):
        names = ", ".join(f"`{name}`" for name in strangers)
        yield Finding((*path, "preset"), f"preset `{preset}` sets {names}, which {method} does not take")
        return
    resolved = resolve_sampler(method, fixed)
    yield from _check_slots(path, method, fixed, {**resolved, **_largest_searched(space)})
    for moot in METHODS[method].without_effect:
        if moot.name in space and resolved.get(moot.setting) == moot.value:
            value = str(moot.value).lower() if isinstance(moot.value, bool) else moot.value
            message = f"found {value}, while `search_space.{method}.{moot.name}` is searched; {moot.reason}"
            hint = f"Remove `{moot.name}` from the search space, or {moot.remedy}."
            yield Finding((*path, moot.setting if moot.setting in fixed else "preset"), message, hint)


def _largest_searched(space: Mapping[str, Any]) -> dict[str, Any]:
    """By name, the largest number that a search may suggest."""
    found: dict[str, Any] = {}
    for name, spec in space.items():
        ends = [*_list(_mapping(spec).get("choices")), _mapping(spec).get("high")]
        if numbers := [value for value in ends if is_number(value)]:
            found[name] = max(numbers)
    return found


def _check_slots(
    path: KeyPath, method: str, fixed: Mapping[str, Any], resolved: Mapping[str, Any]
) -> Iterator[Finding]:
    """Findings on fixed slots that what they are for does not fit into."""
    for slot, name in METHODS[method].slots.items():
        slots, wanted = fixed.get(slot), resolved.get(name)
        if is_number(slots) and is_number(wanted) and slots < wanted:
            message = f"found {found(slots)}, expected at least the largest `{name}`, which is {found(wanted)}"
            yield Finding((*path, slot), message, "Leave it out: it is as large as needed.")


def check_filled_in(data: object, path: KeyPath = ()) -> Iterator[Finding]:
    """Values of a card such as `<account>`, which only its user knows."""
    if isinstance(data, str) and _PLACEHOLDER.fullmatch(data):
        hint = f"Give it with `--set {dotted(path)}=NAME`, or write it into the card."
        yield Finding(path, f"`{data}` is not filled in", hint)
    children = data.items() if isinstance(data, Mapping) else enumerate(_list(data))
    for key, value in children:
        yield from check_filled_in(value, (*path, key))


def check_card(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Faults of executors' labels and GPUs, volumes, blocks and their launcher, and the folder of Parsl's files."""
    executors, volumes = (list(map(_mapping, _list(data.get(key)))) for key in ("executors", "persistent_volumes"))
    for index, executor in enumerate(executors):
        yield from _check_gpus(executor, ("executors", index))
    yield from _repeated([executor.get("label") for executor in executors], "labels", ("executors",), "label")
    yield from _repeated(_list(data.get("labels")), "labels", ("labels",))
    yield from _repeated([volume.get("path") for volume in volumes], "paths", ("persistent_volumes",), "path")
    if data.get("run_dir") in _FOLDERS_OF_RUNS:
        names = ", ".join(f"`{name}`" for name in _FOLDERS_OF_RUNS)
        yield Finding(("run_dir",), f"found {found(data['run_dir'])}, expected none of the run's own folders ({names})")
    if data.get("type") == "local":
        return
    for name in _WORDS:
        value = data.get(name)
        if isinstance(value, str) and not re.fullmatch(r"[^\s#\"'\\\x00-\x1f]*", value):
            yield Finding((name,), f"found {found(value)}, expected one word, as it can stand in a job script")
    for name, bound in (("min_blocks", "max_blocks"), ("init_blocks", "max_blocks")):
        least, most = data.get(name, 1), data.get(bound, 1)
        if isinstance(least, int) and isinstance(most, int) and least > most:
            yield Finding((name,), f"found {least}, expected at most `{bound}` ({most})")
    yield from _check_launcher(data)
    yield from _check_scheduler(data)


def _check_launcher(data: Mapping[str, Any]) -> Iterator[Finding]:
    launcher, nodes = data.get("launcher", "auto"), data.get("nodes_per_block", 1)
    if not is_number(nodes):
        return
    if launcher == "single_node" and nodes > 1:
        message = f"found 'single_node', which would start all workers of {nodes} nodes on the first, expected `auto`"
        yield Finding(("launcher",), message)
    starts_on_one = launcher == "single_node" or (launcher == "auto" and nodes == 1)
    if data.get("launcher_overrides") is not None and starts_on_one:
        given = found(data["launcher_overrides"])
        message = f"found {given}, which has no effect with `launcher: {launcher}` on one node"
        yield Finding(("launcher_overrides",), message, "Name the `launcher`, or remove it.", is_about_key=True)


def _check_scheduler(data: Mapping[str, Any]) -> Iterator[Finding]:
    if data.get("address") is not None and data.get("interface") is not None:
        yield Finding(("interface",), "found beside `address`; expected one of the two", is_about_key=True)
    if data.get("gpu_type") is not None and (data.get("gpus_per_node") is None or data.get("gpu_directive") == "none"):
        asked = "`gpus_per_node`" if data.get("gpus_per_node") is None else "another `gpu_directive`"
        message = f"found {found(data['gpu_type'])}, which has no effect without {asked}"
        yield Finding(("gpu_type",), message, "Remove it.", is_about_key=True)
    for name, other in (("select", "select_options"), ("walltime", "walltime")):
        if name in _mapping(data.get("resources")):
            yield Finding(("resources", name), f"this is what `{other}` is for", "Remove it here.", is_about_key=True)
    for name, other in (("user_id", "group_id"), ("group_id", "user_id")):
        if data.get(name) is not None and data.get(other) is None:
            yield Finding((name,), f"has no effect without `{other}`", f"Give `{other}` too.", is_about_key=True)


def _check_gpus(executor: Mapping[str, Any], path: KeyPath) -> Iterator[Finding]:
    gpus = executor.get("available_accelerators", 0)
    names = list(map(str, _list(gpus)))
    for index, name in enumerate(names):
        if name in names[:index]:
            message = f"found {found(gpus[index])} again, expected GPUs that differ"
            yield Finding((*path, "available_accelerators", index), message, "For more workers, raise `max_workers`.")
    fraction, num_workers = executor.get("memory_fraction"), executor.get("max_workers", "auto")
    num_gpus = len(names) if isinstance(gpus, list) else gpus
    if not is_number(fraction) or not is_number(num_gpus):
        return
    if num_gpus == 0:
        message = f"found {found(fraction)}, which has no effect without `available_accelerators`"
        yield Finding((*path, "memory_fraction"), message, "Remove it.", is_about_key=True)
    elif is_number(num_workers) and num_gpus > 0 and (sharing := math.ceil(num_workers / num_gpus)) * fraction > 1:
        message = f"found {found(fraction)} for each of {sharing} workers on one GPU, expected 1 or less in all"
        yield Finding((*path, "memory_fraction"), message, "Lower it, or `max_workers`.")


def _repeated(values: Sequence[object], what: str, path: KeyPath, key: str | None = None) -> Iterator[Finding]:
    """Findings on values that an earlier one equals; they stand at `path`, or under `key` of the mappings there."""
    for index, value in enumerate(values):
        first = values.index(value)  # 32 equals 32.0, and `true` equals 1
        if value is None or first == index:
            continue
        place = (*path, index) if key is None else (*path, index, key)
        name = repr(value) if isinstance(value, str) else found(value)
        same = "has it already" if type(values[first]) is type(value) else f"is {found(values[first])}, the same value"
        hint = f"`{dotted((*path, first))}` {same}."
        yield Finding(place, f"found {name} again, expected {what} that differ", hint)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
