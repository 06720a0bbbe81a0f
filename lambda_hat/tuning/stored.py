"""What the journal of a run's studies says, read without Optuna and without a change to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lambda_hat.artifacts.files import read_bytes
from lambda_hat.artifacts.ids import canonical_json
from lambda_hat.errors import RunStateError

__all__ = ["parse_records", "refuse_another_definition", "stored_definitions"]

_CREATE_STUDY, _SET_STUDY_ATTRIBUTE = 0, 2  # Optuna's numbers of operations


def parse_records(content: bytes, path: Path) -> list[dict[str, Any]]:
    """The records in whole lines of the journal at `path`.

    Raises:
        RunStateError: a line is no record of Optuna's.
    """
    try:
        records = [json.loads(line) for line in content.splitlines()]
        if not all(isinstance(record, dict) and {"op_code", "worker_id"} <= record.keys() for record in records):
            raise ValueError("a line is no record of Optuna's")
    except (ValueError, RecursionError) as error:
        raise RunStateError(
            f"{path} is damaged ({error}). Move it away to begin the studies of this run anew."
        ) from error
    return records


def stored_definitions(journal: Path) -> dict[str, Mapping[str, object]]:
    """By name, the definition that each study of a journal was begun with; empty where there is no journal.

    Raises:
        RunStateError: the journal is damaged.
    """
    content = read_bytes(journal) or b""
    names: dict[str, None] = {}  # in the order of their numbers
    definitions: dict[str, Mapping[str, object]] = {}
    for record in parse_records(content[: content.rfind(b"\n") + 1], journal):
        if record["op_code"] == _CREATE_STUDY:
            names.setdefault(record["study_name"])
        elif record["op_code"] == _SET_STUDY_ATTRIBUTE and "definition" in record["user_attr"]:
            definitions[list(names)[record["study_id"]]] = record["user_attr"]["definition"]
    return definitions


def refuse_another_definition(name: str, stored: Mapping[str, object], wanted: Mapping[str, object]) -> None:
    """Refuse to go on with the study `name` under another definition than its own.

    Raises:
        RunStateError: naming what differs.
    """
    keys = sorted(stored.keys() | wanted.keys())
    changed = [key for key in keys if canonical_json(stored.get(key)) != canonical_json(wanted.get(key))]
    if changed:
        raise RunStateError(
            f"The study {name} was begun with another {', '.join(f'`{key}`' for key in changed)}. "
            "Restore it, or choose another `store.namespace`."
        )
