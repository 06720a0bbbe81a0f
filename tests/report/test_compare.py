"""Runs side by side."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from lambda_hat.artifacts.files import write_text_atomic
from lambda_hat.errors import UsageError
from lambda_hat.records.rows import ConfirmedRow
from lambda_hat.records.tables import write_table
from lambda_hat.report.compare import Comparison, Line, Part, compare, print_comparison
from lambda_hat.report.html import write_comparison
from lambda_hat.report.run_files import RunFiles
from tests.report.conftest import confirmed_row


def with_errors(paths, rmse, rmse_se):
    write_table(
        paths.confirmed_table, [confirmed_row(rmse=rmse, rmse_se=rmse_se, hyperparameters={"eta0": 0.1})], ConfirmedRow
    )
    return RunFiles(paths)


def cells(comparison: Comparison, name: str) -> tuple[str, ...]:
    (found,) = [line.cells for part in comparison.parts for line in part.lines if line.name == name]
    return found


def notes(comparison: Comparison) -> list[str]:
    return [note for part in comparison.parts for note in part.notes]


@pytest.fixture(scope="module")
def pair(make_run):
    """Two runs of one problem: the second has another reference, other errors and another number of trials."""
    one, other = make_run(num_trials=6), make_run(num_trials=7, llc=8.45, se=0.07)
    text = other.resolved_config.read_text(encoding="utf-8")
    write_text_atomic(other.resolved_config, text.replace("high: 0.5", "high: 0.25"))
    return with_errors(one, 0.3, 0.01), with_errors(other, 0.1, 0.01)


def test_what_differs_is_said(pair):
    found = compare(pair)
    assert found.letters == ("A", "B")
    assert cells(found, "search_space.sgld.eta0.high") == ("0.5", "0.25")
    assert cells(found, "reference λ") == ("8.250 ± 0.070", "8.450 ± 0.070")
    assert cells(found, "sgld rms error") == ("0.300 ± 0.010", "0.100 ± 0.010")
    assert cells(found, "trials") == ("8 complete, 2 pruned, 2 failed", "10 complete, 2 pruned, 2 failed")
    assert notes(found) == [
        "λ of A and B disagree: they are 2.02 combined standard errors apart.",
        "sgld: B errs less.",
    ]
    assert "methods" not in {line.name for part in found.parts for line in part.lines}


def test_other_questions_do_not_compare(make_run, pair):
    other = compare([pair[0], RunFiles(make_run(num_trials=2, localization=100.0))])
    assert "λ of A and B answer different questions: γ_loc differ." in notes(other)
    without = compare([pair[0], RunFiles(make_run(num_trials=2, without=("reference",)))])
    assert "B has no reference: out of time." in notes(without)


def test_errors_within_error_are_the_same(make_run, pair):
    same = with_errors(make_run(num_trials=2), 0.29, 0.02)
    assert "sgld: the errors of A and B do not differ within error." in notes(compare([pair[0], same]))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_it_fits_a_narrow_terminal_and_loses_no_number(pair, monkeypatch):
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "80", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    stream = Terminal()
    print_comparison(stream, compare(pair))
    lines = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue()).splitlines()
    assert max(map(len, lines[3:])) <= 80
    assert any("0.300 ± 0.010" in line and "0.100 ± 0.010" in line for line in lines)


def test_names_are_never_cut(monkeypatch):
    names = ("search_space.vi.whitening_mode.choices.0", "search_space.vi.whitening_mode.choices.1")
    lines = tuple(Line(name, ("a" * 60, "b" * 60)) for name in names)
    comparison = Comparison((("A", "finished", Path("a")), ("B", "finished", Path("b"))), (Part("Part", lines),))
    stream = io.StringIO()
    print_comparison(stream, comparison)
    assert all(f"  {name}  {'a' * 60}  {'b' * 60}" in stream.getvalue() for name in names)
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "80", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    stream = Terminal()
    print_comparison(stream, comparison)
    assert "…" not in stream.getvalue()


def test_the_page_has_all_of_it(pair, tmp_path):
    page = write_comparison(compare(pair), tmp_path / "compared.html").read_text(encoding="utf-8")
    assert '<tr class="differs"><th scope="row">sgld rms error</th><td>0.300 ± 0.010</td>' in page
    assert "sgld: B errs less." in page


def test_what_cannot_be_compared_is_refused(pair):
    for runs in (pair[:1], (pair[0], pair[0])):
        with pytest.raises(UsageError, match="Give from 2 to 26 different runs to compare"):
            compare(runs)
