from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest

from lambda_hat.formatting import clock, estimate, number
from lambda_hat.report import progress as module
from lambda_hat.report.progress import ExecutorLine, Progress, ReferenceLine, Snapshot, StudyLine


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock_at(monkeypatch):
    """Sets the time that decides when lines are due."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, seconds)


def snapshot(elapsed, done=0, running=2, **study):
    known = {"name": "p_1:sgld", "done": done, "running": running, "failed": 0, "pruned": 0, "total": 10}
    line = StudyLine(**known | study)
    references = (ReferenceLine("p_1", "certified 1.234 ± 0.003"),)
    pools = (ExecutorLine("htex32", 2, 4),)
    total = {"num_ended": 1 + line.num_finished, "num_tasks": 1 + line.total, "seconds_left": 30.0 if done else None}
    return Snapshot(studies=(line,), references=references, executors=pools, elapsed=elapsed, **total)


def test_lines_off_a_terminal(clock_at):
    stream = io.StringIO()
    with Progress(stream) as progress:
        progress.update(snapshot(0, setting_up=1))
        progress.update(snapshot(20, done=1, failed=1, pruned=2, best=0.01234))
    assert stream.getvalue() == (
        "[0:00:00] p_1 reference: certified 1.234 ± 0.003\n"
        "[0:00:00] p_1:sgld: 0/10 trials (2 running, 1 of them compiling, 0 failed, 0 pruned), best objective –\n"
        "[0:00:00] 1/11 tasks, ETA –, busy: htex32 2/4\n"
        "[0:00:20] p_1 reference: certified 1.234 ± 0.003\n"
        "[0:00:20] p_1:sgld: 4/10 trials (2 running, 1 failed, 2 pruned), best objective 0.01234\n"
        "[0:00:20] 5/11 tasks, ETA 0:00:30, busy: htex32 2/4\n"
    )


def test_tasks_that_are_no_trials_have_no_best(clock_at):
    stream = io.StringIO()
    with Progress(stream) as progress:
        progress.update(snapshot(0, done=1, total=3, noun="runs"))
    assert "p_1:sgld: 1/3 runs (2 running, 0 failed, 0 pruned)\n" in stream.getvalue()


def test_lines_come_every_half_minute_and_once_at_the_end(clock_at):
    stream = io.StringIO()
    with Progress(stream) as progress:
        for second in range(65):
            clock_at(second)
            progress.update(snapshot(second))
    times = [line.split("]")[0] for line in stream.getvalue().splitlines() if "busy" in line]
    assert times == ["[0:00:00", "[0:00:30", "[0:01:00", "[0:01:04"]


@pytest.mark.parametrize(("is_quiet", "verbosity", "expected"), [
    (False, 0, "one\nWarning: three\n"),
    (False, 1, "one\ntwo\nWarning: three\n"),
    (True, 0, "Warning: three\n"),
])  # fmt: skip
def test_quiet_leaves_warnings_only(is_quiet, verbosity, expected):
    stream = io.StringIO()
    with Progress(stream, is_quiet, verbosity) as progress:
        progress.message("one")
        progress.message("two", level=1)
        progress.warning("three")
        if is_quiet:
            progress.update(snapshot(0))
    assert stream.getvalue() == expected


def test_messages_keep_their_brackets_and_long_lines():
    stream = io.StringIO()
    text = "[bold]" + "x" * 300
    with Progress(stream) as progress:
        progress.message(text)
    assert stream.getvalue() == f"{text}\n"


def test_tables_on_a_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    with Progress(stream) as progress:
        progress.update(snapshot(5, done=3, best=0.5))
        progress.message("a message")
        progress.warning("careful")
    text = stream.getvalue()
    for part in (
        "p_1:sgld",
        "certified 1.234 ± 0.003",
        "htex32 2/4",
        "4/11 tasks, ETA 0:00:30",
        "━",
        "a message",
        "Warning: careful",
        "\x1b[33m",
    ):
        assert part in text


def drawn(snapshot, monkeypatch, width=80, height=24):
    """The lines of the last picture that a terminal of this size shows."""
    for name, value in {"TERM": "xterm-256color", "COLUMNS": str(width), "LINES": str(height), "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    stream = Terminal()
    with Progress(stream) as progress:
        progress.update(snapshot)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue().rsplit("\r", 1)[-1]).splitlines()


def test_columns_stay_where_they_are_at_80(monkeypatch):
    name = "sgld on data.noise_scale=0.25, seed 42"
    few = drawn(snapshot(5, done=3, name=name), monkeypatch)
    many = drawn(snapshot(999, done=103, running=16, setting_up=12, total=1000, best=1.25e-5, name=name), monkeypatch)
    assert max(map(len, few + many)) <= 80
    assert few[-4] == many[-4]  # the headings
    ends = [[match.end() for match in re.finditer(r"\S+", lines[-3])][-7:] for lines in (few, many)]
    assert ends[0] == ends[1]
    assert few[-3].startswith("sgld on …")
    assert "=0.25, seed 42 " in few[-3]
    assert many[-3].split()[-7:] == ["103", "16", "12", "0", "0", "1000", "1.25e-05"]


@pytest.mark.parametrize("width", [40, 60, 80])
def test_names_that_differ_in_their_middle_stay_apart(monkeypatch, width):
    names = [f"checkpoint=runs/long/name/of/a/folder/step_{step}.npz" for step in (1000, 12000)]
    one = snapshot(5, name=names[0])
    studies = (*one.studies, replace(one.studies[0], name=names[1]))
    references = tuple(ReferenceLine(name, "waiting") for name in names)
    lines = drawn(replace(one, references=references, studies=studies), monkeypatch, width=width)
    assert max(map(len, lines)) <= width
    shown = [line.split()[0] for line in lines if line.startswith("ch")]
    assert len(shown) == 4
    assert shown[0] != shown[1]
    assert shown[2] != shown[3]
    assert "1000" in shown[2]
    assert "1200" in shown[3]


def test_a_reference_tells_all_at_80(monkeypatch):
    state = "importance sampling: λ 12.345 ± 0.023, 13/21 criteria, 117/120 s"
    references = (ReferenceLine("mlp, seed 42", state), ReferenceLine("mlp, seed 43", "waiting"))
    assert any(state in line for line in drawn(replace(snapshot(5), references=references), monkeypatch))


def test_no_more_lines_than_the_terminal_has(monkeypatch):
    one = snapshot(5, done=3)
    studies = tuple(
        StudyLine(name=f"study {index}", done=done, running=0, failed=0, pruned=0, total=10)
        for index, done in enumerate([10] * 10 + [2] * 3)
    )
    lines = drawn(replace(one, studies=studies), monkeypatch, height=14)
    assert len(lines) <= 14
    assert [line.split()[1] for line in lines if line.startswith("study ")][-3:] == ["10", "11", "12"]  # open ones stay
    assert "and 6 studies more" in lines
    assert "tasks, ETA" in lines[-2]


def test_no_color_is_honoured(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    with Progress(stream) as progress:
        progress.warning("careful")
    assert "\x1b[3" not in stream.getvalue()


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"FORCE_COLOR": "1"}])
def test_terminals_that_cannot_and_files_that_are_no_terminal_get_lines(monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    stream = Terminal() if "TERM" in environment else io.StringIO()
    with Progress(stream) as progress:
        progress.update(snapshot(5))
    assert stream.getvalue().startswith("[0:00:05] p_1 reference")


def test_a_terminal_that_a_debugger_needs_gets_lines(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    with Progress(stream, may_redraw=False) as progress:
        progress.update(snapshot(5))
    assert stream.getvalue().startswith("[0:00:05] p_1 reference")


def test_numbers():
    assert clock(3725.4) == "1:02:05"
    assert clock(47 * 3600) == "47:00:00"
    assert clock(76 * 3600 + 61) == "3 d 4:01:01"
    assert number(None) == number(float("nan")) == number(float("inf")) == "–"
    assert estimate(15.6374, 0.0071) == "15.6374 ± 0.0071"
    assert estimate(1542.61, 2.3) == "1542.6 ± 2.3"
    assert estimate(1542.61, 230.0) == "1543 ± 230"
    assert estimate(None, 1.0) == "–"
    assert estimate(1.5, None) == "1.5 ± ?"
    assert estimate(0.39027266, 0.0) == "0.390273 exactly"
