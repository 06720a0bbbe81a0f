"""Results for other programs and for papers."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil

import pytest

from lambda_hat.records.rows import ConfirmedRow
from lambda_hat.records.tables import write_table
from lambda_hat.report.drawing import Picture
from lambda_hat.report.export import TABLES, summary, to_csv, to_json, to_latex, write_figures
from lambda_hat.report.root import is_root, write_root
from lambda_hat.report.run_files import RunFiles
from tests.report.conftest import confirmed_row


@pytest.fixture(scope="module")
def run(make_run):
    paths = make_run()
    won = confirmed_row(
        llc_ref=8.25, rmse=0.21, rmse_se=0.03, mean_error=0.15, relative_rmse=0.0255, worst_rhat=1.012,
        num_gradient_evaluations=12804.0, hyperparameters={"eta0": 0.1},
    )  # fmt: skip
    write_table(paths.confirmed_table, [won], ConfirmedRow)
    return RunFiles(paths)


def test_the_summary_has_a_row_for_each_method(run):
    sgld, vi = summary(run)
    assert (sgld.source, sgld.error, sgld.se_error, sgld.rhat, sgld.settings) == (
        "confirmed", 0.21, 0.03, 1.012, "eta0=0.1",
    )  # fmt: skip
    assert sgld.llc_hat == pytest.approx(8.4)
    assert sgld.se_hat == pytest.approx(math.sqrt((0.21**2 - 0.15**2) / 3))
    assert (vi.source, vi.llc_ref, vi.localization) == ("best trial", 8.25, 56.0)
    assert vi.error == pytest.approx((vi.llc_hat or 0.0) - 8.25)


@pytest.mark.parametrize("table", TABLES)
def test_csv_and_json_hold_the_same(run, table):
    rows = TABLES[table](run)
    read = list(csv.DictReader(io.StringIO(to_csv(rows))))
    loaded = json.loads(to_json(rows))
    assert len(read) == len(loaded) == len(rows)
    for line, known in zip(read, loaded, strict=True):
        assert {name for name, value in line.items() if value} == {
            name for name, value in known.items() if value not in (None, "")
        }
    if table == "trials":
        assert [float(line["error"]) for line in read if line["error"]] == [
            row.error for row in run.rows if row.error is not None
        ]


def test_latex_is_a_table_by_itself(run):
    lines = to_latex(run).splitlines()
    assert lines[2:7] == [
        r"\begin{tabular}{lrrrrrr}",
        r"\toprule",
        r"method & $\hat\lambda$ & error & relative & $\hat R$ & $\hat k$ & gradients \\",
        r"\midrule",
        r"\multicolumn{7}{l}{mlp, model small, data small, teacher \_null, seed 42: "
        r"$\lambda = 8.250 \pm 0.070$, certified ($\gamma = 56$, $n\beta = 21.7$, $n = 100$)} \\",
    ]
    assert lines[7] == r"\quad sgld & $8.400 \pm 0.085$ & $0.210 \pm 0.030$ & 2.5\% & 1.012 & -- & 12,804 \\"
    assert r"\quad Laplace & $8.5$ & $0.25$ & 3.0\% & -- & -- & -- \\".replace(" -- & -- & --", "  &  & ") in lines
    assert lines.count(r"\end{tabular}") == 1


def test_figures_are_files_of_their_own(run, tmp_path, monkeypatch):
    monkeypatch.setattr(Picture, "file", lambda _, kind: kind.encode())  # to draw them all takes seconds
    written = write_figures(run, tmp_path / "figures")
    names = {path.name for path in written}
    assert {"estimates.svg", "estimates.pdf", "history-sgld.svg", "slices-vi.pdf", "certificate.pdf"} <= names
    assert {path.stem for path in written if path.stem.startswith("map-")} == {"map-0-sgld"}
    assert all(path.read_text(encoding="utf-8") == path.suffix[1:] for path in written)


def test_a_root_has_a_page_of_its_runs(run, make_run, tmp_path):
    root = tmp_path / "runs"
    shutil.copytree(run.paths.root, root / "quickstart" / "v1")
    shutil.copytree(make_run(num_trials=2, without=("reference",)).root, root / "wide" / "v1")
    (root / "quickstart" / "v1" / "report.html").write_text("x", encoding="utf-8")
    assert is_root(root)
    assert not is_root(root / "wide" / "v1")
    page = write_root(root).read_text(encoding="utf-8")
    assert page.count("<article") == 2
    assert '<a href="quickstart/v1/report.html">quickstart/v1</a>' in page
    assert "Cite this: λ = 8.250 ± 0.070 at γ_loc = 56, nβ = 21.7, n = 100, reference certified." in page
    assert f"lambda-hat report {root / 'wide' / 'v1'}" in page
