"""Tables of rows: their columns, what comes back, and what is refused."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime

import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from lambda_hat.errors import InputError
from lambda_hat.records.metrics import Metrics
from lambda_hat.records.reference import ReferenceRecord
from lambda_hat.records.rows import RunRow, TrialRow
from lambda_hat.records.state import State
from lambda_hat.records.tables import read_frame, read_table, rows_of_others, write_table

KEYS = {"pid": "p_1", "method": "sgld", "run_id": "r_1", "number": 0, "state": State.COMPLETE}
PARAMS = {"eta0": 1e-3, "steps": 500, "precond_type": "adam"}
FULL = KEYS | {
    "llc_hat": 15.5, "se_hat": 0.3, "llc_ref": 15.0, "se_ref": 0.4, "error": 0.5, "num_gradient_evaluations": 1000,
    "x64": False, "seed": 2**31 - 1, "reports": {"k_hat": 0.5},
    "started": "2026-01-02T03:04:05+02:00", "finished": datetime(2026, 1, 2, tzinfo=UTC),
    "hyperparameters": PARAMS,
}  # fmt: skip
BARE = KEYS | {"number": 1, "state": State.FAIL, "run_id": None, "reason": "worker lost", "llc_hat": math.nan}
REFERENCE = {"method": "hmc", "llc": 15.0, "se": 0.4, "is_certified": True}


def row(values):
    return TrialRow(**values)


def test_rows_come_back_with_missing_values_missing(tmp_path):
    path = tmp_path / "tables" / "trials.parquet"
    write_table(path, [row(FULL), row(BARE)], TrialRow)
    table = read_frame(path)
    assert list(table["state"]) == ["COMPLETE", "FAIL"]
    for name, value in FULL.items():
        if name not in ("started", "finished", "hyperparameters", "reports"):
            assert table[name][0] == value
    assert table["k_hat"][0] == 0.5
    assert json.loads(table["hyperparameters"][0]) == PARAMS
    assert {name: table[f"param_{name}"][0] for name in PARAMS} == PARAMS
    assert table["started"][0] == datetime(2026, 1, 2, 1, 4, 5, tzinfo=UTC)
    assert table["finished"][0] == datetime(2026, 1, 2, tzinfo=UTC)
    known = BARE.keys() - {"run_id", "llc_hat"} | {"hyperparameters", "versions", "arguments"}
    for name in table.columns:
        assert bool(table[name].isna()[1]) == (name not in known)
    assert table["param_steps"].dtype == "Int64"
    assert read_table(path, TrialRow) == [row(FULL), row(BARE)]


@pytest.mark.parametrize("rows", [[], [BARE], [FULL, BARE]])
def test_columns_and_types_do_not_depend_on_the_rows(tmp_path, rows):
    path = tmp_path / "trials.parquet"
    write_table(path, [row(values) for values in rows], TrialRow)
    write_table(path, [row(values) for values in rows], TrialRow)  # over the old one
    schema = pq.read_schema(path)
    types = {str: "string", float: "double", int: "int64", bool: "bool", datetime: "timestamp[us, tz=UTC]"}
    expected = {name: types[column.kind] for name, column in TrialRow.columns().items()}
    found = {field.name: str(field.type) for field in schema if not field.name.startswith("param_")}
    assert found == expected
    assert list(found) == list(TrialRow.columns())
    assert [item.name for item in tmp_path.iterdir()] == ["trials.parquet"]


def test_hyperparameters_have_their_methods_types_whatever_the_values(tmp_path):
    path = tmp_path / "trials.parquet"
    names = ("eta0", "batch", "M", "whitening_mode", "adjusted", "max_rank")
    write_table(path, [row(KEYS | {"hyperparameters": dict.fromkeys(names)})], TrialRow)
    schema = pq.read_schema(path)
    types = {name: str(schema.field(f"param_{name}").type) for name in names}
    assert types == {
        "eta0": "double", "batch": "int64", "M": "int64", "whitening_mode": "string", "adjusted": "bool",
        "max_rank": "int64",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"reports": {"llc": 1.0}}, "The table trials.parquet has no column called llc"),
        ({"hyperparameters": {"colour": 1.0}}, "The table trials.parquet has no column called param_colour"),
        ({"hyperparameters": {"eta0": "x"}}, "The column param_eta0 of the table trials.parquet cannot hold a value"),
    ],
)
def test_what_has_no_place_is_refused(tmp_path, extra, message):
    with pytest.raises(InputError, match=message):
        write_table(tmp_path / "trials.parquet", [row(KEYS | extra)], TrialRow)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"llc": 1.0}, "llc\n  Extra inputs are not permitted"),
        ({"number": "three"}, "number\n  Input should be a valid integer"),
        ({"started": "2026-01-02T03:04:05"}, "started\n  Value error, the time has no zone"),
    ],
)
def test_a_row_has_what_its_fields_can_hold(extra, message):
    with pytest.raises(ValidationError, match=message):
        row(KEYS | extra)


def measured(reference, **metrics):
    """The row of a trial that ended so, by its problem's reference."""
    ended = Metrics(**{"state": State.COMPLETE, "llc_hat": 15.5, "se_hat": 0.3} | metrics)
    return TrialRow.of(ended, ReferenceRecord(**REFERENCE | reference), "htex64", **KEYS)


def test_z_counts_both_errors():
    ours = measured({"localization": 100.0, "nbeta": 263.0})
    assert ours.z == pytest.approx(0.5 / 0.5)
    assert (ours.localization, ours.nbeta, ours.is_reference_certified) == (100.0, 263.0, True)


@pytest.mark.parametrize(
    "metrics", [{"se_hat": None}, {"state": State.FAIL, "llc_hat": None}, {"state": State.FAIL, "llc_hat": math.nan}]
)
def test_without_an_estimate_there_is_no_z(metrics):
    assert measured({}, **metrics).z is None


def test_the_laplace_value_is_a_baseline_with_an_error_of_its_own(tmp_path):
    ours = measured({"laplace_llc": 14.7})
    assert ours.laplace_relative_error == pytest.approx(-0.02)
    write_table(tmp_path / "trials.parquet", [ours], TrialRow)
    table = read_frame(tmp_path / "trials.parquet")
    assert (table["laplace_llc"][0], table["laplace_relative_error"][0]) == (14.7, pytest.approx(-0.02))


@pytest.mark.parametrize(
    "reference", [{"llc": 15.0}, {"llc": 0.0, "laplace_llc": 1.0}, {"llc": None, "laplace_llc": 1.0}]
)
def test_without_a_laplace_value_or_a_reference_there_is_no_such_error(reference):
    assert ReferenceRecord(**REFERENCE | reference).laplace_relative_error is None
    assert measured(reference).laplace_relative_error is None


def test_rows_of_other_studies_stay(tmp_path):
    path = tmp_path / "t.parquet"
    studies = [("p_1", "sgld"), ("p_1", "vi"), ("p_2", "sgld")]
    started = "2026-11-25T10:00:00.000+00:00"
    rows = [
        row(KEYS | {"pid": pid, "method": method, "hyperparameters": {"steps": 5}, "started": started})
        for pid, method in studies
    ]
    write_table(path, rows, TrialRow)
    others = rows_of_others(path, TrialRow, {("p_1", "sgld")})
    assert [(other.pid, other.method) for other in others] == studies[1:]
    write_table(path, [*others, rows[0].model_copy(update={"number": 7})], TrialRow)
    table = read_frame(path)
    assert list(table["number"]) == [0, 0, 7]
    assert table["started"].nunique() == 1
    path.write_bytes(path.read_bytes()[:50])
    assert rows_of_others(path, TrialRow, ()) == []
    assert rows_of_others(tmp_path / "none", TrialRow, ()) == []


def test_a_row_says_what_its_problem_is(tmp_path):
    path, what = (
        tmp_path / "runs.parquet",
        {"title": "networks.py:f", "arguments": {"checkpoint": "a.npz", "k": [1, 2]}},
    )
    kinds = [(RunRow, {"sampler": "a"}), (TrialRow, {"number": 0})]
    for kind, keys in kinds:
        write_table(path, [kind(pid="p_1", method="vi", state=State.COMPLETE, **keys, **what)], kind)
        assert read_frame(path)["arguments"][0] == '{"checkpoint": "a.npz", "k": [1, 2]}'
        (row,) = rows_of_others(path, kind, ())
        assert (row.title, row.arguments) == (what["title"], what["arguments"])


def test_runs_have_the_columns_of_trials_where_they_mean_the_same(tmp_path):
    trials, runs = TrialRow.columns(), RunRow.columns()
    assert runs.keys() - trials.keys() == {"sampler", "loss_at_w0", "decrease_available", "is_minimum"}
    assert trials.keys() - runs.keys() == {"number", "objective", "violation"}
    path = tmp_path / "runs.parquet"
    rows = [
        RunRow(pid="p_1", sampler=name, method="vi", state=State.COMPLETE, hyperparameters={"M": 2}) for name in "ab"
    ]
    write_table(path, rows, RunRow)
    assert list(read_frame(path)["sampler"]) == ["a", "b"]
    (other,) = rows_of_others(path, RunRow, {("p_1", "a")})
    assert (other.sampler, other.hyperparameters) == ("b", {"M": 2})
    with pytest.raises(ValidationError, match="number\n  Extra inputs are not permitted"):
        RunRow(**KEYS | {"sampler": "a"})
