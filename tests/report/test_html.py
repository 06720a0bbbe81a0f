"""The report of a run, read as a parser and as a person would read it."""

from __future__ import annotations

import io
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lambda_hat.errors import RunStateError, UsageError
from lambda_hat.records.rows import AcrossRow, ConfirmedRow, RunRow, TrialRow
from lambda_hat.records.state import State
from lambda_hat.records.tables import read_table, write_table
from lambda_hat.report.analysis import best_trial
from lambda_hat.report.html import write_report
from lambda_hat.report.run_files import RunFiles, find_run
from lambda_hat.report.summary import figures_of, print_summary, settings_text, trials_by_method
from tests.report.conftest import confirmed_row

PID = "p_0123456789ab"
CITATION = "Cite this: λ = 8.250 ± 0.070 at γ_loc = 56, nβ = 21.7, n = 100, reference certified."
TITLE = "mlp, model small, data small, teacher _null, seed 42"
MAX_BYTES = 3_000_000  # of a study of 300 trials
_VOID = {"meta", "link", "input", "br", "img", "hr"}


class Page(HTMLParser):
    """Elements with their attributes, and the text of each section."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append((tag, dict(attrs)))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if data.strip() and self.open and self.open[-1][0] not in ("style", "script"):
            for tag, attrs in self.open:
                if tag == "section" or attrs.get("id") == "notes":
                    self.texts.setdefault(attrs["id"], []).append(data.strip())

    def text(self, section: str) -> str:
        return " ".join(self.texts.get(section, []))

    def figures(self) -> list[str]:
        return [attrs["aria-label"] or "" for tag, attrs in self.elements if tag == "svg"]


@pytest.fixture(scope="module")
def run_paths(make_run):
    """A run that is through, with its report."""
    paths = make_run()
    write_report(paths)
    return paths


@pytest.fixture(scope="module")
def page(run_paths):
    return Page(run_paths.report)


@pytest.mark.slow
def test_the_report_lies_in_the_run_and_is_well_formed(page, run_paths):
    assert run_paths.report == run_paths.root / "report.html"
    assert page.open == []


def test_the_verdict_comes_first(page):
    assert list(page.texts) == [
        "verdict", "provenance", "references", "studies", "maps", "cost", "failures", "executors", "trials",
    ]  # fmt: skip
    verdict = page.text("verdict")
    assert TITLE in verdict
    assert f"{TITLE} {PID} {CITATION}" in verdict
    assert "Laplace 8.5 +0.25 +3.0%" in verdict
    assert "also the luckiest" in verdict
    assert "sgld agrees with the reference: best trial" in verdict


def test_the_figures_say_what_they_show(page):
    figures = page.figures()
    assert len(figures) == 1 + 1 + 2 * 4 + 1 + 1 + 1
    expected = [
        "Estimates of the best trials", "3 of 3 criteria", "Objective of 10 completed trials", "Importance of",
        "Trials across eta0, steps", "Objective against lr, whitening_mode", "Error against cost of 20",
        "25 tasks on 3",
    ]  # fmt: skip
    for words in expected:
        assert any(label.startswith(words) for label in figures), words


def test_nothing_is_loaded_from_anywhere(page):
    assert not re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", page.source, re.IGNORECASE)
    assert {
        name: sum(tag == name and attrs.get("type") != "text/css" for tag, attrs in page.elements)
        for name in ("script", "style", "link")
    } == {"script": 1, "style": 1, "link": 1}
    for tag, attrs in page.elements:
        assert not attrs.get("src"), tag
        href = attrs.get("href") or ""
        assert not href or href.startswith(("#", "data:,", "trials/", "tables/", "meta/", "problems/")), href
    policies = [attrs["content"] for _, attrs in page.elements if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policies[0].startswith("default-src 'none'")


def test_links_lead_to_files(page, run_paths):
    links = [attrs["href"] for tag, attrs in page.elements if tag == "a" and not attrs["href"].startswith("#")]
    assert f"trials/{PID}/sgld/r_sgld5/metrics.json" in links
    assert all((run_paths.root / link).is_file() for link in links)


@pytest.mark.slow
def test_links_lead_to_files_from_another_place_too(run_paths):
    output = run_paths.root.parent.parent / "pages" / "mine.html"
    page = Page(write_report(run_paths, output=output))
    links = [attrs["href"] for tag, attrs in page.elements if tag == "a" and not attrs["href"].startswith("#")]
    assert f"../quickstart/v1/trials/{PID}/sgld/r_sgld5/metrics.json" in links
    assert all((output.parent / link).is_file() for link in links)


def test_what_a_run_says_is_never_markup(page):
    assert "<script>alert" not in page.source
    assert "RuntimeError: <script>alert('no')</script>" in page.text("failures")
    assert "2 of 24 trials failed" in page.text("failures")


def test_report_table_and_console_agree(page, run_paths):
    run, rows = RunFiles(run_paths), read_table(run_paths.trials_table, TrialRow)
    stream = io.StringIO()
    print_summary(stream, rows, run.references, {}, run.titles)
    console = " ".join(stream.getvalue().split())
    for method, trials in trials_by_method(rows, PID).items():
        best = best_trial(trials)
        assert best is not None
        shown = " ".join((method, *figures_of(best)))
        assert shown in console
        assert shown in page.text("verdict")
        assert settings_text(best.hyperparameters) in console
        assert settings_text(best.hyperparameters) in page.text("verdict")
        assert float(shown.split()[1]) == pytest.approx(best.llc_hat, abs=best.se_hat)
    for value in ("56", "0.1", "21.7", "59,016", "9.7"):
        assert value in page.text("references")
        assert value in console


def test_every_trial_is_in_the_table_with_what_it_is_sorted_by(page):
    cells = [attrs["data-v"] for tag, attrs in page.elements if tag == "td" and "data-v" in attrs]
    columns = [attrs["data-name"] for tag, attrs in page.elements if tag == "th" and "data-name" in attrs]
    rows = [
        dict(zip(columns, cells[start : start + len(columns)], strict=True))
        for start in range(0, len(cells), len(columns))
    ]
    assert len(rows) == 24
    objectives = [float(row["objective"]) for row in rows if row["state"] == "complete"]
    assert objectives == sorted(objectives)
    assert [row["objective"] for row in rows if row["state"] == "failed"] == ["", ""]
    assert [row["llc_hat"] for row in rows if row["state"] == "failed"] == ["", ""]
    assert {row["state"] for row in rows} == {"complete", "pruned", "failed"}


@pytest.mark.nightly
def test_a_default_study_stays_small(make_run):
    path = write_report(make_run(num_trials=150))
    assert path.stat().st_size < MAX_BYTES


@pytest.mark.slow
def test_a_report_is_the_same_every_time(page, run_paths):
    assert write_report(run_paths).read_text(encoding="utf-8") == page.source


@pytest.mark.slow
def test_an_uncertified_reference_puts_everything_in_doubt(make_run):
    reasons = ["R̂ of r² is 1.15, at most 1.01 wanted"]
    page = Page(write_report(make_run(is_certified=False, reasons=reasons)))
    assert f"the reference is not certified, because {reasons[0]}." in page.text("verdict")
    assert "Nothing can be recommended" in page.text("verdict")
    assert f"because {reasons[0]}" in page.text("references")
    assert any(attrs.get("class") == "verdict bad" for _, attrs in page.elements)


@pytest.mark.slow
def test_a_killed_run_says_how_far_it_came(make_run):
    paths = make_run(without=("table", "end"))
    page = Page(write_report(paths))
    notes = page.text("notes")
    assert "The last command was interrupted: this is how far it came." in notes
    assert f"To go on, type lambda-hat workflow optuna --config {paths.resolved_config} --resume" in notes
    assert "There is no table of trials yet, but 24 trials have ended" in notes
    assert CITATION in page.text("verdict")
    assert "studies" not in page.texts


@pytest.mark.slow
def test_a_run_without_a_reference_says_why(make_run):
    page = Page(write_report(make_run(without=("reference", "trials"))))
    notes = page.text("notes")
    assert "The last command failed: The reference of p failed: out of time." in notes
    assert f"The reference of {TITLE} failed: out of time." in notes
    assert "To go on, type lambda-hat workflow optuna --config" in notes
    nothing = "Nothing to cite: there is no reference (out of time)."
    assert nothing in page.text("verdict")
    assert nothing in page.text("references")
    assert ".." not in notes
    assert f"problems/{PID}/failure.json" in page.source


@pytest.mark.slow
@pytest.mark.parametrize(
    "without",
    [
        *(pytest.param(one, marks=pytest.mark.nightly) for one in (("events",), ("table",), ("reference",))),
        ("trials", "events"),
        ("reference", "trials", "events", "table"),
    ],
)
def test_no_missing_piece_stops_it(make_run, without):
    page = Page(write_report(make_run(without=without)))
    assert page.open == []
    assert "Verdict" in page.text("verdict")


@pytest.mark.slow
def test_a_torn_table_is_no_table(make_run):
    paths = make_run()
    paths.trials_table.write_bytes(paths.trials_table.read_bytes()[:-100])
    assert "There is no table of trials yet" in Page(write_report(paths)).text("notes")


@pytest.mark.slow
def test_few_trials_have_no_importances(make_run):
    page = Page(write_report(make_run(num_trials=3)))
    assert not any(label.startswith("Importance") for label in page.figures())


@pytest.mark.slow
def test_confirmed_settings_are_shown_first(make_run):
    paths = make_run()

    def write_confirmed(*rms_z):
        found = [
            {"run_id": "r_1", "hyperparameters": {"eta0": 0.01}, "rmse": 0.3, "rmse_se": 0.05, "relative_rmse": 0.036},
            {"run_id": "r_2", "hyperparameters": {"lr": 0.02}, "rmse": 0.1, "rmse_se": 0.02, "relative_rmse": 0.012},
        ]
        rows = [
            confirmed_row(method=method, rms_z=z, **values)
            for method, z, values in zip(("sgld", "vi"), rms_z, found, strict=True)
        ]
        write_table(paths.confirmed_table, rows, ConfirmedRow)

    write_confirmed(None, None)
    across = AcrossRow(method="vi", found_on=PID, pid="p_2", loss=0.25, num_seeds=4, num_failed=0)
    write_table(paths.across_table, [across], AcrossRow)
    page = Page(write_report(paths))
    verdict = page.text("verdict")
    assert "Use vi, the only one to trust (– gradients), with lr=0.02." in verdict
    assert "vi agrees with the reference: rms error 0.100 ± 0.020 (1.2%)." in verdict
    assert "sgld is no closer than Laplace: rms error 0.300 ± 0.050 (3.6%), Laplace is off by 0.25." in verdict
    assert "luckiest" not in verdict
    assert verdict.index("Best settings of each method under fresh seeds") < verdict.index("Best trial of each method")
    write_confirmed(1.0, 3.0)
    verdict = Page(write_report(paths)).text("verdict")
    assert "No method can be recommended: something speaks against each." in verdict
    assert "vi is biased, or its standard errors are too small: its errors are 3.0 times" in verdict
    assert list(page.texts)[:3] == ["verdict", "confirmed", "across"]
    assert "+25.0%" in page.text("across")
    assert "relative rmse" in page.text("confirmed")
    assert "0.100 ± 0.020" in page.text("confirmed")


def test_runs_of_another_workflow_are_shown(make_run):
    paths = make_run(without=("trials",))
    values = {"llc_hat": 8.26, "se_hat": 0.05, "is_truncated": False, "hyperparameters": {"steps": 500}}
    run = RunRow(pid=PID, sampler="fine", method="hmc", state=State.COMPLETE, **values)
    write_table(paths.runs_table, [run], RunRow)
    page = Page(write_report(paths))
    headings = "problem sampler method state settings λ̂ standard error truncated"
    assert page.text("runs") == f"Runs {headings} mlp fine hmc complete steps=500 8.26 0.05 no"
    assert "fine agrees with the reference: estimate 8.260 ± 0.050." in page.text("verdict")
    assert "notes" not in page.texts


def test_a_folder_that_is_no_run_is_refused_with_what_is_missing(make_run, tmp_path):
    with pytest.raises(RunStateError, match=r"nowhere is no run's folder: it does not exist"):
        find_run(tmp_path / "nowhere")
    with pytest.raises(RunStateError, match=r"no `meta/resolved_config\.yaml` in it. Name one"):
        find_run(tmp_path)
    paths = make_run()
    with pytest.raises(RunStateError, match=r"Did you mean `.*quickstart/v1`"):
        find_run(paths.root.parent)
    assert find_run(paths.root) == paths


@pytest.mark.slow
def test_references_of_other_runs_are_found(make_run, tmp_path):
    paths = make_run()
    (paths.root / "problems").rename(tmp_path / "shared")
    config = paths.resolved_config.read_text(encoding="utf-8").replace(
        "references: null", f"references: {tmp_path}/shared"
    )
    paths.resolved_config.write_text(config, encoding="utf-8")
    found = find_run(paths.root)
    assert found.references == tmp_path / "shared"
    assert CITATION in Page(write_report(found)).text("verdict")


@pytest.mark.nightly
def test_interactive_figures_are_inlined(run_paths, tmp_path):
    page = Page(write_report(run_paths, output=tmp_path / "report.html", is_interactive=True))
    assert f"Accuracy against cost: {TITLE}" in page.text("interactive")
    assert [attrs.get("src") for tag, attrs in page.elements if tag == "script" and attrs.get("src")] == []
    assert '"showSendToCloud": false' in page.source


@pytest.mark.slow
def test_interactive_figures_need_plotly(run_paths, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(UsageError, match=r"needs Plotly, which is not installed: `pip install 'lambda-hat\[plotly\]'`"):
        write_report(run_paths, is_interactive=True)
