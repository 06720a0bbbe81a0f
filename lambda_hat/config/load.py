"""A study file, its Parsl card and `--set` arguments, validated together: all faults at once or frozen data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from lambda_hat.config.card import AnyCard, Card
from lambda_hat.config.checks import check_card, check_study
from lambda_hat.config.describe import fields_of
from lambda_hat.config.interpolate import resolve_interpolations
from lambda_hat.config.locate import Document, Finding, KeyPath, read_document
from lambda_hat.config.overrides import Override, apply, misdirected, parse_overrides
from lambda_hat.config.problems import PosteriorSpec, Problem, ProblemEntry
from lambda_hat.config.resolve import problem_or_findings, resolve_sampler
from lambda_hat.config.study import Execution, Store, Study
from lambda_hat.config.validation import findings_of, unknown_key
from lambda_hat.errors import ConfigError, Fault, UsageError

__all__ = ["LoadedCard", "LoadedStudy", "find_card", "load_card", "load_cfg"]

_LOCAL_CARD = "config/parsl/local.yaml"
_SHIPPED_CARDS = Path(str(files("lambda_hat.config") / "presets" / "card"))


@dataclass(frozen=True)
class LoadedStudy:
    """A valid study with the card it runs on."""

    study: Study
    card: AnyCard
    source: Path
    card_path: Path
    study_document: Document = field(repr=False, compare=False)
    card_document: Document = field(repr=False, compare=False)

    @property
    def resolved(self) -> dict[str, Any]:
        """The study as a plain dict that, written as YAML, is a study file for the same runs."""
        values = self.study.to_dict()
        values["execution"]["parsl_card"] = str(self.card_path)
        if self.study.posterior:  # what the user did not set stays each target's own choice
            values["posterior"] = self.study.posterior.model_dump(mode="json", exclude_unset=True)
        return values

    def locate(self, fault: Fault, *, is_in_card: bool = False) -> Fault:
        """The same fault with the file and line, or the `--set` argument, that its key comes from."""
        return _located(self.card_document if is_in_card else self.study_document, fault)


@dataclass(frozen=True)
class LoadedCard:
    """A valid card without a study, and where runs would lie."""

    card: AnyCard
    store: Store
    document: Document = field(repr=False, compare=False)

    def locate(self, fault: Fault) -> Fault:
        """As `LoadedStudy.locate`."""
        return _located(self.document, fault)


def load_card(dotlist: Sequence[str] = (), *, parsl_card: str | None = None, local: bool = False) -> LoadedCard:
    """The card at `parsl_card`, by default the local one, with `dotlist` written over it and over `store`, validated.

    Raises:
        ConfigError: with every fault of the card and `dotlist`.
        UsageError: both `parsl_card` and `local` are given.
    """
    _refuse_two_cards(parsl_card, local)
    for_study, for_card, faults = parse_overrides(dotlist)
    for override in for_study:
        if override.parts[0] != "store":
            faults.append(override.fault("there is no study file that this could change", "Give one: `--config FILE`."))
    study, store = Document("the study", {"store": {}}), None
    faults += apply(study, [override for override in for_study if override.parts[0] == "store"])
    values = (study.data or {})["store"]
    try:
        store = Store.model_validate(values)
    except ValidationError as error:
        faults += [study.locate(finding.under(("store",))) for finding in findings_of(error, Store, values)]
    path = parsl_card if parsl_card is not None else str(find_card(_LOCAL_CARD))
    document = read_document(Path(path), path)
    card, more = _load_card(document, for_card)
    faults += more
    if faults or store is None or card is None:
        raise ConfigError(_in_order(faults, [path]))
    return LoadedCard(card, store, document)


def load_cfg(
    path: str | Path, dotlist: Sequence[str] = (), *, parsl_card: str | None = None, local: bool = False
) -> LoadedStudy:
    """The study at `path` with `dotlist` (`key=value`) written over it and over its card, validated.

    `parsl_card` wins over the study's own; `local` means `config/parsl/local.yaml`, here or as it ships.

    Raises:
        ConfigError: with every fault of the study file, the card and `dotlist`.
        UsageError: both `parsl_card` and `local` are given.
    """
    _refuse_two_cards(parsl_card, local)
    path = Path(path)
    for_study, for_card, faults = parse_overrides(dotlist)

    document = read_document(path, str(path))
    study, data, findings = None, None, []
    if document.data is not None:
        faults += apply(document, for_study)
        data, findings = resolve_interpolations(document.data)
        study, more = _validated_study(data)
        findings += more

    card_path = Path(parsl_card) if parsl_card is not None else None
    if local:
        card_path = find_card(_LOCAL_CARD)
    elif card_path is None and data is not None and isinstance(wanted := _card_of(data), str):
        card_path = find_card(wanted, beside=path)
        if card_path is None:
            message = f"found {wanted!r}, expected a file, here or in the study's folder or one above it"
            findings.append(Finding(("execution", "parsl_card"), message))
    faults += [*document.faults, *map(document.locate, findings)]

    card_document = Document("the card", None) if card_path is None else read_document(card_path, str(card_path))
    card, more = _load_card(card_document, for_card)
    faults += more
    if faults or study is None or card is None or card_path is None:
        raise ConfigError(_in_order(faults, [str(path), str(card_path)]))
    return LoadedStudy(study, card, path, card_path, document, card_document)


def find_card(name: str, beside: Path | None = None) -> Path | None:
    """The card called `name` in a study: here, by the study `beside` or above it, or shipped."""
    folders = [Path()]
    if beside is not None:
        folders += [beside.parent, *beside.resolve().parents[1:]]
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    return _SHIPPED_CARDS / "local.yaml" if name == _LOCAL_CARD else None


def _refuse_two_cards(parsl_card: str | None, local: bool) -> None:
    if parsl_card is not None and local:
        raise UsageError("`--local` and `--parsl-card` exclude each other: give one of the two")


def _located(document: Document, fault: Fault) -> Fault:
    path = tuple(int(part) if part.isdecimal() else part for part in fault.key.split("."))
    place = document.locate(Finding(path, fault.message))
    return replace(fault, source=place.source, line=place.line, column=place.column)


def _card_of(data: dict[str, Any]) -> object:
    execution = data.get("execution", {})
    default = Execution.model_fields["parsl_card"].default
    return execution.get("parsl_card", default) if isinstance(execution, dict) else None


def _validated_study(data: dict[str, Any]) -> tuple[Study | None, list[Finding]]:
    findings = []
    for key in Study.model_fields.keys() & data.keys() - fields_of(Study).keys():  # what resolving fills in
        findings.append(unknown_key((key,), tuple(fields_of(Study))))
    data = {key: value for key, value in data.items() if (key,) not in {finding.path for finding in findings}}
    study = None
    try:
        study = Study.model_validate(data)
    except ValidationError as error:
        findings += findings_of(error, Study, data)
    findings += check_study(data)
    problems, more = _resolved_problems(data)
    findings += more
    if findings or study is None:
        return None, findings
    samplers = {method: resolve_sampler(method, study.samplers.get(method, {})) for method in study.methods}
    return study.model_copy(update={"resolved_problems": tuple(problems), "resolved_samplers": samplers}), []


def _resolved_problems(data: dict[str, Any]) -> tuple[list[Problem], list[Finding]]:
    try:
        posterior = PosteriorSpec.model_validate(data["posterior"]) if data.get("posterior") is not None else None
    except ValidationError:  # reported with the study
        posterior = None
    entries = data.get("problems")
    problems: dict[int, Problem] = {}
    findings: list[Finding] = []
    for index, values in enumerate(entries if isinstance(entries, list) else []):
        try:
            entry = ProblemEntry.model_validate(values)
        except ValidationError:  # likewise
            continue
        problem, more = problem_or_findings(entry, posterior)
        place: KeyPath = ("problems", index)
        findings += [finding.under(place) for finding in more]
        twin = next((other for other, known in problems.items() if known == problem), None)
        if twin is not None:
            findings.append(
                Finding(place, f"resolves to the same problem as `problems.{twin}`", "Remove one of the two.")
            )
        elif problem is not None:
            problems[index] = problem
    return list(problems.values()), findings


def _load_card(document: Document, overrides: list[Override]) -> tuple[AnyCard | None, list[Fault]]:
    found = (document.data or {}).get("type")
    card_type = found if isinstance(found, str) else None
    faults, fitting = list(document.faults), []
    for override in overrides:
        if fault := misdirected(override, card_type, document.source):
            faults.append(fault)
        else:
            fitting.append(override)
    if document.data is None:
        return None, faults
    faults += apply(document, fitting)
    card, findings = None, []
    try:
        card = TypeAdapter(Card).validate_python(document.data)
    except ValidationError as error:
        findings += findings_of(error, Card, document.data)
    findings += check_card(document.data)
    return card, faults + [document.locate(finding) for finding in findings]


def _in_order(faults: list[Fault], sources: list[str]) -> list[Fault]:
    """By place, arguments last, and one fault per place: the second would only follow from the first."""
    by_place: dict[tuple[object, ...], Fault] = {}
    for fault in faults:
        by_place.setdefault((fault.source, fault.key, fault.line, fault.column), fault)
    rank = {source: position for position, source in enumerate(dict.fromkeys(sources))}
    return sorted(by_place.values(), key=lambda f: (rank.get(f.source, len(rank)), f.line or 0, f.column or 0))
