from __future__ import annotations

import math
from datetime import UTC, datetime

import pyarrow.parquet as pq
import pytest

from lambda_hat.errors import InputError
from lambda_hat.report.tables import (
    COLUMNS,
    RUN_COLUMNS,
    laplace_relative_error,
    read_trials_table,
    rows_of_other_studies,
    rows_of_others,
    with_reference,
    write_table,
    write_trials_table,
)

KEYS = {"pid": "p_1", "method": "sgld", "run_id": "r_1", "number": 0, "state": "COMPLETE"}
FULL = KEYS | {
    "llc_hat": 15.5, "se_hat": 0.3, "llc_ref": 15.0, "se_ref": 0.4, "error": 0.5, "num_gradient_evaluations": 1000,
    "x64": False, "seed": 2**31 - 1,
    "started": "2026-01-02T03:04:05+02:00", "finished": datetime(2026, 1, 2, tzinfo=UTC),
    "param_eta0": 1e-3, "param_steps": 500, "param_precond_type": "adam", "hyperparameters": '{"eta0":0.001}',
}  # fmt: skip
BARE = KEYS | {"number": 1, "state": "FAIL", "run_id": None, "reason": "worker lost", "llc_hat": math.nan}


def test_rows_come_back_with_missing_values_missing(tmp_path):
    path = tmp_path / "tables" / "trials.parquet"
    write_trials_table(path, [FULL, BARE])
    table = read_trials_table(path)
    assert list(table["state"]) == ["COMPLETE", "FAIL"]
    for name, value in FULL.items():
        if name not in ("started", "finished"):
            assert table[name][0] == value
    assert table["started"][0] == datetime(2026, 1, 2, 1, 4, 5, tzinfo=UTC)
    assert table["finished"][0] == datetime(2026, 1, 2, tzinfo=UTC)
    for name in table.columns:
        assert bool(table[name].isna()[1]) == (name not in BARE or name in ("run_id", "llc_hat"))
    assert table["param_steps"].dtype == "Int64"


@pytest.mark.parametrize("rows", [[], [BARE], [FULL, BARE]])
def test_columns_and_types_do_not_depend_on_the_rows(tmp_path, rows):
    path = tmp_path / "trials.parquet"
    write_trials_table(path, rows)
    write_trials_table(path, rows)  # over the old one
    schema = pq.read_schema(path)
    types = {str: "string", float: "double", int: "int64", bool: "bool", datetime: "timestamp[us, tz=UTC]"}
    expected = {name: types[kind] for name, kind in COLUMNS.items()}
    found = {field.name: str(field.type) for field in schema if not field.name.startswith("param_")}
    assert found == expected
    assert list(found) == list(COLUMNS)
    assert [item.name for item in tmp_path.iterdir()] == ["trials.parquet"]


def test_hyperparameters_have_their_methods_types_whatever_the_values(tmp_path):
    path = tmp_path / "trials.parquet"
    names = ("eta0", "batch", "M", "whitening_mode", "adjusted", "max_rank")
    write_trials_table(path, [KEYS | {f"param_{name}": None for name in names}])
    schema = pq.read_schema(path)
    types = {name: str(schema.field(f"param_{name}").type) for name in names}
    assert types == {
        "eta0": "double", "batch": "int64", "M": "int64", "whitening_mode": "string", "adjusted": "bool",
        "max_rank": "int64",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"llc": 1.0}, "The table trials.parquet has no column called llc"),
        ({"param_colour": 1.0}, "The table trials.parquet has no column called param_colour"),
        ({"number": "three"}, "The column number of the table trials.parquet cannot hold a value"),
        ({"started": "2026-01-02T03:04:05"}, "The column started of the table trials.parquet .* has no time zone"),
    ],
)
def test_what_has_no_place_is_refused(tmp_path, extra, message):
    with pytest.raises(InputError, match=message):
        write_trials_table(tmp_path / "trials.parquet", [KEYS | extra])
    assert not list(tmp_path.iterdir())


def test_z_counts_both_errors():
    reference = {"se": 0.4, "localization": 100.0, "nbeta": 263.0, "is_certified": True, "llc": 15.0}
    row = with_reference(FULL, reference)
    assert row["z"] == pytest.approx(0.5 / 0.5)
    assert (row["localization"], row["nbeta"], row["is_reference_certified"]) == (100.0, 263.0, True)


@pytest.mark.parametrize("row", [FULL | {"se_hat": None}, FULL | {"error": None}, BARE])
def test_without_an_estimate_there_is_no_z(row):
    assert with_reference(row, {"se": 0.4})["z"] is None


def test_the_laplace_value_is_a_baseline_with_an_error_of_its_own(tmp_path):
    row = with_reference(FULL, {"se": 0.4, "llc": 15.0, "laplace_llc": 14.7})
    assert row["laplace_relative_error"] == pytest.approx(-0.02)
    write_trials_table(tmp_path / "trials.parquet", [row])
    table = read_trials_table(tmp_path / "trials.parquet")
    assert (table["laplace_llc"][0], table["laplace_relative_error"][0]) == (14.7, pytest.approx(-0.02))


@pytest.mark.parametrize("reference", [{"llc": 15.0}, {"llc": 0.0, "laplace_llc": 1.0}, {"laplace_llc": 1.0}])
def test_without_a_laplace_value_or_a_reference_there_is_no_such_error(reference):
    assert laplace_relative_error(reference) is None
    assert with_reference(FULL, reference)["laplace_relative_error"] is None


def test_rows_of_other_studies_stay(tmp_path):
    path = tmp_path / "t.parquet"
    studies = [("p_1", "sgld"), ("p_1", "vi"), ("p_2", "sgld")]
    started = "2026-11-25T10:00:00.000+00:00"
    rows = [
        {"pid": pid, "method": method, "number": 0, "param_steps": 5, "started": started} for pid, method in studies
    ]
    write_trials_table(path, rows)
    others = rows_of_other_studies(path, {("p_1", "sgld")})
    assert [(row["pid"], row["method"]) for row in others] == studies[1:]
    write_trials_table(path, [*others, {**rows[0], "number": 7}])
    table = read_trials_table(path)
    assert list(table["number"]) == [0, 0, 7]
    assert table["started"].nunique() == 1
    path.write_bytes(path.read_bytes()[:50])
    assert rows_of_other_studies(path, ()) == []
    assert rows_of_other_studies(tmp_path / "none", ()) == []


def test_runs_have_the_columns_of_trials_where_they_mean_the_same(tmp_path):
    assert RUN_COLUMNS.keys() - COLUMNS.keys() == {"sampler"}
    assert COLUMNS.keys() - RUN_COLUMNS.keys() == {"number", "objective"}
    path = tmp_path / "runs.parquet"
    rows = [{"pid": "p_1", "sampler": name, "method": "vi", "param_M": 2} for name in ("a", "b")]
    write_table(path, rows, RUN_COLUMNS)
    assert list(read_trials_table(path)["sampler"]) == ["a", "b"]
    (other,) = rows_of_others(path, RUN_COLUMNS, ("pid", "sampler"), {("p_1", "a")})
    assert (other["sampler"], other["param_M"]) == ("b", 2)
    with pytest.raises(InputError, match=r"The table runs\.parquet has no column called number"):
        write_table(path, [KEYS | {"sampler": "a"}], RUN_COLUMNS)
