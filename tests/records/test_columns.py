"""The columns of the tables are the fields of the rows, and no figure of a run is lost on the way to them."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Annotated

import pytest

from lambda_hat.config.methods import METHODS, REPORTS
from lambda_hat.records.base import Figure
from lambda_hat.records.columns import Column
from lambda_hat.records.metrics import Findings, Metrics
from lambda_hat.records.provenance import Provenance, Timings
from lambda_hat.records.reference import ReferenceRecord
from lambda_hat.records.rows import AcrossRow, ConfirmedRow, RunRow, TrialRow
from lambda_hat.records.state import State
from lambda_hat.records.tables import read_frame, read_table, write_table

TABLES = [TrialRow, RunRow, ConfirmedRow, AcrossRow]
REFERENCE = ReferenceRecord(method="hmc", llc=2.0, se=0.3, is_certified=True, laplace_llc=1.5)
TRIAL = {"pid": "p_1", "method": "sgld", "number": 0, "state": State.COMPLETE}

# What the tables leave to `metrics.json`.
NOT_A_COLUMN = {"traceback"}
# Columns under a name of their own, or that something else decides too.
RENAMED = {"executor_label": "executor", "pid": "pid_worker", "state": "state", "reason": "reason"}


@pytest.mark.parametrize("kind", TABLES, ids=lambda kind: kind.__name__)
def test_every_column_has_a_title_and_a_sentence(kind):
    for column in kind.columns().values():
        assert column.title
        assert column.sentence.endswith("."), column.name


@pytest.mark.parametrize("kind", [TrialRow, RunRow])
def test_every_field_of_the_metrics_is_a_column_or_said_not_to_be(kind):
    columns, fields = kind.columns(), set(Metrics.model_fields) - NOT_A_COLUMN
    assert REPORTS.keys() <= columns.keys()
    assert {f"{name}_sec" for name in Timings.model_fields} <= columns.keys()
    fields = (fields - {"reports", "timings", "provenance"}) | set(Provenance.model_fields)
    assert {RENAMED.get(name, name) for name in fields} <= columns.keys()


def test_what_any_method_reports_is_a_column():
    assert {report.name for method in METHODS.values() for report in method.reports} <= TrialRow.columns().keys()


def test_every_figure_of_a_run_is_in_its_row():
    metrics = Metrics(
        state=State.COMPLETE, llc_hat=2.5, se_hat=0.4, raw_llc_hat=2.6, virial_excess=0.01, self_check_bias=0.02,
        stationarity=1.5, degree=2.1, is_diverged=False, rhat=1.01, rhat_loss=1.0, rhat_distance=1.01,
        ess_bulk=500.0, ess_tail=400.0, num_draws=3000, num_steps_done=1000, num_gradient_evaluations=1e4,
        is_truncated=False, short_of="trial_sec",
        reports=dict.fromkeys(REPORTS, 0.5), num_together=1, dtype="float32", x64=False,
        timings=Timings(load=0.1, compile=1.0, sample=2.0, total=3.1),
        provenance=Provenance(host="here", pid=7, device="cpu", versions={"git_commit": "c0ffee"}),
    )  # fmt: skip
    assert metrics.model_fields_set >= Findings.model_fields.keys()
    row = TrialRow.of(metrics, REFERENCE, "htex32", **TRIAL, hyperparameters={"eta0": 0.1}, seed=3)
    for name in Findings.model_fields:
        assert getattr(row, name) == getattr(metrics, name)
    assert (row.error, row.relative_error, row.z) == (0.5, 0.25, pytest.approx(1.0))
    assert (row.laplace_relative_error, row.is_reference_certified) == (-0.25, True)
    assert (row.executor, row.pid_worker, row.git_commit, row.total_sec) == ("htex32", 7, "c0ffee", 3.1)


def test_a_run_that_has_not_ended_has_a_row():
    row = RunRow.of(None, REFERENCE, "a", pid="p_1", sampler="fine", method="sgld", state=State.RUNNING)
    assert (row.state, row.error, row.llc_ref, row.executor) == (State.RUNNING, None, 2.0, "a")


class RowWithColour(TrialRow):
    """A row with one more field."""

    colour: Annotated[Figure, Column("colour", "nm", ".0f")] = None
    """Wavelength."""


def test_a_field_more_is_a_column_more(tmp_path):
    path = tmp_path / "trials.parquet"
    rows = [RowWithColour(**TRIAL, hyperparameters={"eta0": 0.1, "steps": 500}, reports={"k_hat": 0.3}, colour=530.0)]
    column = RowWithColour.columns()["colour"]
    assert (column.kind, column.title, column.unit, column.spec, column.sentence) == (
        float, "colour", "nm", ".0f", "Wavelength.",
    )  # fmt: skip
    write_table(path, rows, RowWithColour)
    assert read_table(path, RowWithColour) == rows
    frame = read_frame(path)
    assert (frame["colour"][0], frame["k_hat"][0], frame["param_eta0"][0]) == (530.0, 0.3, 0.1)


def test_a_field_more_is_a_line_more_in_the_documentation(monkeypatch):
    scripts = Path(__file__).parents[2] / "scripts"
    monkeypatch.syspath_prepend(scripts)
    column_table = runpy.run_path(str(scripts / "generate_docs.py"))["column_table"]
    assert "| `colour` | nm | Wavelength. |\n" in column_table(RowWithColour)


def test_a_table_of_an_earlier_version_is_read(tmp_path):
    path = tmp_path / "trials.parquet"
    write_table(path, [RowWithColour(**TRIAL, colour=530.0)], RowWithColour)
    assert read_table(path, TrialRow) == [TrialRow(**TRIAL)], "a column that no field knows is left out"
    write_table(path, [TrialRow(**TRIAL)], TrialRow)
    assert read_table(path, RowWithColour) == [RowWithColour(**TRIAL)], "one that is missing is unknown"
