"""Reads a study or experiments file, its card and `--set` arguments, and validates them together.

The result is frozen data, or an error with all faults.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import TypeAdapter, ValidationError

from lambda_hat.config.anchor import anchored
from lambda_hat.config.card import AnyCard, Card
from lambda_hat.config.checks import check_card, check_experiments, check_filled_in, check_study, method_of
from lambda_hat.config.describe import fields_of, names_at
from lambda_hat.config.experiments import Experiments, FixedSampler, SamplerEntry
from lambda_hat.config.interpolate import resolve_interpolations
from lambda_hat.config.locate import Document, Finding, KeyPath, read_document
from lambda_hat.config.methods import Method
from lambda_hat.config.overrides import Override, apply, misdirected, parse_overrides
from lambda_hat.config.problems import PosteriorSpec, ProblemEntry, ProblemSpec
from lambda_hat.config.resolve import problem_or_findings, resolve_sampler
from lambda_hat.config.shipped import card_names, shipped_file, shipped_names
from lambda_hat.config.study import Execution, Store, Study
from lambda_hat.config.suggest import file_meant
from lambda_hat.config.validation import findings_of
from lambda_hat.errors import ConfigError, Fault, UsageError
from lambda_hat.formatting import escaped, user_path

__all__ = [
    "LoadedCard",
    "LoadedExperiments",
    "LoadedFile",
    "LoadedStudy",
    "find_card",
    "find_file",
    "kind_of",
    "load_card",
    "load_cfg",
    "load_experiments",
    "load_file",
]

_LOCAL_CARD, _INLINE_CARD = "config/parsl/local.yaml", "config/parsl/inline.yaml"


@dataclass(frozen=True)
class LoadedFile(ABC):
    """A valid file with the card it runs on, and what presets and overrides make of its entries."""

    problems: tuple[ProblemSpec, ...]
    card: AnyCard
    source: Path
    card_path: Path
    document: Document = field(repr=False, compare=False)
    card_document: Document = field(repr=False, compare=False)

    @property
    @abstractmethod
    def sections(self) -> Study | Experiments:
        """The sections that every kind of file has."""

    @property
    @abstractmethod
    def methods(self) -> tuple[Method, ...]:
        """Every method that runs."""

    @property
    def resolved(self) -> dict[str, Any]:
        """The file as a plain dict. Written as YAML, it is a file for the same runs."""
        sections = self.sections
        values = sections.to_dict()
        values["execution"]["parsl_card"] = str(self.card_path)
        if sections.posterior:  # what the user did not set stays each target's own choice
            values["posterior"] = sections.posterior.model_dump(mode="json", exclude_unset=True)
        return _escaped(values)

    @property
    def places(self) -> tuple[int, ...]:
        """Of each problem, the index of the entry that it comes from: a sweep gives several."""
        written = self.sections.problems if isinstance(self.sections, Study) else self.sections.targets
        return tuple(index for index, entry in enumerate(written) for _ in entry.expanded())

    @property
    def entries_name(self) -> str:
        """The section that names problems."""
        return "problems" if isinstance(self.sections, Study) else "targets"

    def locate(self, fault: Fault, *, is_in_card: bool = False) -> Fault:
        """`fault` with the file and line, or the `--set` argument, that its key comes from."""
        return _located(self.card_document if is_in_card else self.document, fault)


@dataclass(frozen=True)
class LoadedStudy(LoadedFile):
    """A valid study with the card that it runs on."""

    study: Study
    samplers: Mapping[str, Mapping[str, object]]  # what is not searched, by method and by YAML's names

    @property
    def sections(self) -> Study:
        """The study."""
        return self.study

    @property
    def methods(self) -> tuple[Method, ...]:
        """What is tuned."""
        return self.study.methods


@dataclass(frozen=True)
class LoadedExperiments(LoadedFile):
    """Valid experiments with the card that they run on."""

    experiments: Experiments
    samplers: tuple[FixedSampler, ...]

    @property
    def sections(self) -> Experiments:
        """The experiments."""
        return self.experiments

    @property
    def methods(self) -> tuple[Method, ...]:
        """Methods of all samplers, each once."""
        return tuple(dict.fromkeys(sampler.method for sampler in self.samplers))


@dataclass(frozen=True)
class LoadedCard:
    """A valid card without a study, and the folder where runs would lie."""

    card: AnyCard
    store: Store
    source: Path
    document: Document = field(repr=False, compare=False)

    def locate(self, fault: Fault) -> Fault:
        """`fault` with the line of the card, or the `--set` argument, that its key comes from."""
        return _located(self.document, fault)


def load_card(
    dotlist: Sequence[str] = (), *, parsl_card: str | None = None, local: bool = False, inline: bool = False
) -> LoadedCard:
    """The card at `parsl_card`, by default the local one, with `dotlist` written over it and over `store`, validated.

    Raises:
        ConfigError: with every fault of the card and `dotlist`.
        UsageError: more than one of `parsl_card`, `local` and `inline` is given.
    """
    path = _chosen_card(parsl_card, local, inline) or find_card(_LOCAL_CARD)
    assert path is not None  # one ships
    return _card_alone(_File(path, _read_card(path)), dotlist)


def _card_alone(file: _File, dotlist: Sequence[str]) -> LoadedCard:
    path, document = file
    for_study, for_card, faults = parse_overrides(dotlist, Study)
    for override in for_study:
        if override.parts[0] != "store":
            faults.append(override.fault("there is no study file that this could change", "Give one: `--config FILE`."))
    overrides = [override for override in for_study if override.parts[0] == "store"]
    study, more = apply(Document("the study", {"store": {}}), overrides, Study)
    faults += more
    store = None
    values = (study.data or {})["store"]
    try:
        store = Store.model_validate(values)
    except ValidationError as error:
        faults += [study.locate(finding.under(("store",))) for finding in findings_of(error, Store, values)]
    card, document, more = _load_card(document, for_card, _STUDY)
    faults += more
    if faults or store is None or card is None:
        raise ConfigError(_in_order(faults, [str(path)]))
    return LoadedCard(card, store, path, document)


def load_cfg(
    path: str | Path,
    dotlist: Sequence[str] = (),
    *,
    parsl_card: str | None = None,
    local: bool = False,
    inline: bool = False,
) -> LoadedStudy:
    """The study at `path` with its card, validated.

    `parsl_card` wins over the study's own; `local` means `config/parsl/local.yaml`, and `inline` `inline.yaml` beside
    it, here or as they ship.

    Raises:
        ConfigError: with every fault of the study file, the card and `dotlist`.
        UsageError: more than one of `parsl_card`, `local` and `inline` is given.
    """
    return _loaded_study(_read(path), dotlist, _chosen_card(parsl_card, local, inline))


def load_experiments(
    path: str | Path,
    dotlist: Sequence[str] = (),
    *,
    parsl_card: str | None = None,
    local: bool = False,
    inline: bool = False,
) -> LoadedExperiments:
    """The experiments at `path`; everything else is as in `load_cfg`."""
    return _loaded_experiments(_read(path), dotlist, _chosen_card(parsl_card, local, inline))


def load_file(
    path: str | Path,
    dotlist: Sequence[str] = (),
    *,
    parsl_card: str | None = None,
    local: bool = False,
    inline: bool = False,
) -> LoadedStudy | LoadedExperiments | LoadedCard:
    """The study, the experiments or the card at `path`, told apart by their keys. The file is read once.

    Arguments and errors are those of `load_cfg`; a card takes no other card.
    """
    card_path = _chosen_card(parsl_card, local, inline)
    file = _read(path)
    if _is_card(file.document.data):
        if card_path is not None:
            raise UsageError(f"{path} is a Parsl card: leave `--local`, `--inline` and `--parsl-card` out")
        return _card_alone(file, dotlist)
    load = _loaded_experiments if _is_like(_EXPERIMENTS, file.document.data) else _loaded_study
    return load(file, dotlist, card_path)


def _loaded_study(file: _File, dotlist: Sequence[str], card_path: Path | None) -> LoadedStudy:
    study, rest = _load(_STUDY, file, dotlist, card_path)
    samplers = {method: resolve_sampler(method, study.samplers.get(method, {})) for method in study.methods}
    return LoadedStudy(*rest, study, samplers)


def _loaded_experiments(file: _File, dotlist: Sequence[str], card_path: Path | None) -> LoadedExperiments:
    experiments, rest = _load(_EXPERIMENTS, file, dotlist, card_path)
    return LoadedExperiments(*rest, experiments, tuple(map(_fixed_sampler, experiments.samplers)))


class _File(NamedTuple):
    """A file that was read, once: it may be a pipe."""

    path: Path
    document: Document


def _read(path: str | Path) -> _File:
    path = find_file(path)
    return _File(path, read_document(path, str(path), () if path.exists() else shipped_names()))


def _read_card(path: Path) -> Document:
    return read_document(path, str(path), () if path.exists() else card_names())


FileT = TypeVar("FileT", Study, Experiments)


@dataclass(frozen=True)
class _Kind(Generic[FileT]):
    """A kind of file that can be run."""

    name: str
    command: str
    model: type[FileT]
    entries: str  # the section that names problems
    own_keys: tuple[str, ...]  # that files of no other kind have
    check: Callable[[Mapping[str, Any]], Iterator[Finding]]


class _Rest(NamedTuple):
    problems: tuple[ProblemSpec, ...]
    card: AnyCard
    source: Path
    card_path: Path
    document: Document
    card_document: Document


def _load(kind: _Kind[FileT], file: _File, dotlist: Sequence[str], card_path: Path | None) -> tuple[FileT, _Rest]:
    for_file, for_card, faults = parse_overrides(dotlist, kind.model)

    path, document = file
    _refuse_other_kind(kind, document)
    sections, problems, data, findings = None, (), None, []
    if document.data is not None:
        document, more = apply(document, for_file, kind.model)
        faults += more
        data, findings = resolve_interpolations(document.data or {})
        data, more = anchored(data, path, document.arguments)
        findings += more
        sections, problems, more = _validated(kind, data)
        findings += more

    if card_path is None and data is not None and isinstance(wanted := _card_of(data), str):
        card_path = find_card(wanted, beside=path)
        if card_path is None:
            message = f"found {wanted!r}, expected a file, here or in the study's folder or one above it"
            findings.append(Finding(("execution", "parsl_card"), message, file_meant(wanted, card_names())))
    faults += [*document.faults, *map(document.locate, findings)]

    card_document = Document("the card", None) if card_path is None else _read_card(card_path)
    card, card_document, more = _load_card(card_document, for_card, kind)
    faults += more
    if faults or sections is None or card is None or card_path is None:
        raise ConfigError(_in_order(faults, [str(path), str(card_path)]))
    return sections, _Rest(problems, card, path, card_path, document, card_document)


def _is_like(kind: _Kind[Any], data: Mapping[str, Any] | None) -> bool:
    """Whether the data has keys of this kind of file and none of the other kind."""
    counts = {other.name: sum(key in (data or {}) for key in other.own_keys) for other in (_STUDY, _EXPERIMENTS)}
    is_list = kind is _EXPERIMENTS and isinstance((data or {}).get("samplers"), list)
    return bool(counts[kind.name] or is_list) and not any(counts[name] for name in counts.keys() - {kind.name})


def _is_card(data: Mapping[str, Any] | None) -> bool:
    """Whether the data has keys of a card and none of a study or of experiments."""
    sections = {*fields_of(Study), *fields_of(Experiments)}
    return bool(data) and not sections & data.keys() and bool(data.keys() & set(names_at(Card, None)))


def _refuse_other_kind(kind: _Kind[Any], document: Document) -> None:
    if _is_card(document.data):
        message = f"found the keys of a Parsl card, expected {_with_article(kind.name)}"
        raise ConfigError([document.locate(Finding((), message, "Give it with `--parsl-card`, beside a file to run."))])
    for other in (_STUDY, _EXPERIMENTS):
        if other is not kind and _is_like(other, document.data):
            message = f"found the keys of {_with_article(other.name)}, expected {_with_article(kind.name)}"
            fault = document.locate(Finding((), message, f"Run it with `lambda-hat workflow {other.command}`."))
            raise ConfigError([fault])


def _with_article(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def find_card(name: str, beside: Path | None = None) -> Path | None:
    """The path of the card called `name`: in this folder, beside the study `beside` or above it, or as it ships."""
    folders = [Path()]
    if beside is not None:
        folders += [beside.parent, *beside.resolve().parents[1:]]
    path = user_path(name)
    for folder in folders:
        if (folder / path).exists() and not (folder / path).is_dir():  # it may be a pipe
            return folder / path
    return shipped_file(name)


def find_file(name: str | Path) -> Path:
    """The path of the study or experiments called `name`: in this folder, or as it ships."""
    path = user_path(name)
    return path if path.exists() else shipped_file(path) or path


def kind_of(name: str | Path) -> type[Study] | type[Experiments] | None:
    """What the file called `name` is; None where its keys do not tell."""
    data = read_document(path := find_file(name), str(path)).data
    return next((kind.model for kind in (_STUDY, _EXPERIMENTS) if _is_like(kind, data)), None)


def _chosen_card(parsl_card: str | None, local: bool, inline: bool) -> Path | None:
    """What the command line says; None where it leaves the choice to the file."""
    chosen = {
        "`--local`": find_card(_LOCAL_CARD) if local else None,
        "`--inline`": find_card(_INLINE_CARD) if inline else None,
        "`--parsl-card`": None if parsl_card is None else find_card(parsl_card) or user_path(parsl_card),
    }
    given = {option: path for option, path in chosen.items() if path is not None}
    if len(given) > 1:
        first, second, *_ = given
        raise UsageError(f"{first} and {second} exclude each other: give one of the two")
    return next(iter(given.values()), None)


def _located(document: Document, fault: Fault) -> Fault:
    path = tuple(int(part) if part.isdecimal() else part for part in fault.key.split("."))
    place = document.locate(Finding(path, fault.message))
    return replace(fault, source=place.source, line=place.line, column=place.column)


def _card_of(data: dict[str, Any]) -> object:
    execution = data.get("execution", {})
    default = Execution.model_fields["parsl_card"].default
    return execution.get("parsl_card", default) if isinstance(execution, dict) else None


def _validated(kind: _Kind[FileT], data: dict[str, Any]) -> tuple[FileT | None, tuple[ProblemSpec, ...], list[Finding]]:
    model, findings = kind.model, []
    sections = None
    try:
        sections = model.model_validate(data)
    except ValidationError as error:
        findings += findings_of(error, model, data)
    findings += kind.check(data)
    problems, more = _resolved_problems(data, kind.entries)
    findings += more
    return sections, tuple(problems), findings


def _fixed_sampler(entry: SamplerEntry) -> FixedSampler:
    method = method_of({"name": entry.name, "method": entry.method})
    settings = resolve_sampler(method, entry.overrides)
    return FixedSampler(name=entry.name, method=method, overrides=entry.overrides, settings=settings, seed=entry.seed)


def _resolved_problems(data: dict[str, Any], section: str) -> tuple[list[ProblemSpec], list[Finding]]:
    try:
        posterior = PosteriorSpec.model_validate(data["posterior"]) if data.get("posterior") is not None else None
    except ValidationError:  # reported with the study
        posterior = None
    entries = data.get(section)
    problems: list[tuple[int, ProblemSpec]] = []
    findings: list[Finding] = []
    for index, values in enumerate(entries if isinstance(entries, list) else []):
        entry, faulty = _usable(values)
        if entry is None:
            continue
        place: KeyPath = (section, index)
        for point in entry.expanded():
            problem, more = problem_or_findings(point, posterior)
            findings += [finding.under(place) for finding in more if finding.path[0] not in faulty]
            if faulty:
                continue
            twin = next((other for other, known in problems if known == problem), None)
            if twin is not None:
                findings.append(
                    Finding(place, f"resolves to the same problem as `{section}.{twin}`", "Remove one of the two.")
                )
            elif problem is not None:
                problems.append((index, problem))
    return [problem for _, problem in problems], findings


def _usable(values: Any) -> tuple[ProblemEntry | None, set[str]]:
    """An entry without those of its keys that are faulty, and these: they are reported with the file."""
    try:
        return ProblemEntry.model_validate(values), set()
    except ValidationError as error:
        faulty = {str(key) for detail in error.errors(include_url=False) for key in detail["loc"][:1]}
        if not isinstance(values, Mapping) or "target" in faulty:  # which says what the others mean
            return None, faulty
        return ProblemEntry.model_validate({key: value for key, value in values.items() if key not in faulty}), faulty


def _load_card(
    document: Document, overrides: list[Override], kind: _Kind[Any]
) -> tuple[AnyCard | None, Document, list[Fault]]:
    for file in (_STUDY, _EXPERIMENTS):
        if _is_like(file, document.data):
            message = f"found the keys of {_with_article(file.name)}, expected a Parsl card"
            return None, document, [document.locate(Finding((), message, "Give it with `--config`."))]
    found = (document.data or {}).get("type")
    card_type = found if isinstance(found, str) else None
    faults, fitting = list(document.faults), []
    for override in overrides:
        if fault := misdirected(override, card_type, document.source, kind.model, kind.name):
            faults.append(fault)
        else:
            fitting.append(override)
    if document.data is None:
        return None, document, faults
    document, more = apply(document, fitting, Card)
    faults += more
    card, data = None, document.data or {}
    findings = list(check_filled_in(data))
    try:
        card = TypeAdapter(Card).validate_python(data)
    except ValidationError as error:
        findings += findings_of(error, Card, data)
    findings += check_card(data)
    return card, document, faults + [document.locate(finding) for finding in findings]


def _escaped(data: Any) -> Any:
    """Plain data in which no text is an interpolation any more."""
    if isinstance(data, dict):
        return {key: _escaped(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_escaped(value) for value in data]
    return escaped(data) if isinstance(data, str) else data


def _in_order(faults: list[Fault], sources: list[str]) -> list[Fault]:
    """The faults by place, arguments last, and only the first at each place: later ones follow from it."""
    by_place: dict[tuple[object, ...], Fault] = {}
    for fault in faults:
        by_place.setdefault((fault.source, fault.key, fault.line, fault.column), fault)
    rank = {source: position for position, source in enumerate(dict.fromkeys(sources))}
    return sorted(by_place.values(), key=lambda f: (rank.get(f.source, len(rank)), f.line or 0, f.column or 0))


_STUDY = _Kind(
    "study file", "optuna", Study, "problems", ("problems", "methods", "search_space", "optuna"), check_study
)
_EXPERIMENTS = _Kind("experiments file", "llc", Experiments, "targets", ("targets",), check_experiments)
