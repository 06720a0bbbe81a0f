"""Files of a run: what is written comes back, whatever the version of the program that wrote it, or is refused."""

from __future__ import annotations

import json
import math
import pickle
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_hat.artifacts.files import append_json_line, write_json_atomic
from lambda_hat.artifacts.ids import run_id
from lambda_hat.config.methods import REPORTS
from lambda_hat.config.study import Confirm, ReferenceSpec
from lambda_hat.errors import RunStateError
from lambda_hat.records.base import FormatError, append_line
from lambda_hat.records.begun import Begun, Confirmations
from lambda_hat.records.ending import Ending
from lambda_hat.records.event import Begin, End, Stalled, TaskEvent, read_commands
from lambda_hat.records.manifest import Manifest, TrialBudget
from lambda_hat.records.metrics import Metrics
from lambda_hat.records.progress import Alive, Chunk, Ended, Stage, Started, read_progress
from lambda_hat.records.provenance import Provenance, Timings
from lambda_hat.records.reference import (
    CriterionRecord,
    ReferenceFailure,
    ReferenceRecord,
    SpectrumRecord,
    TraceRecord,
    WellsRecord,
)
from lambda_hat.records.state import State

NOW = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)

figures = st.none() | st.floats() | st.integers(-(10**9), 10**9)
finite = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(max_size=8)
maybe = st.none() | words
whole = st.none() | st.integers(0, 2**40)
values = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | finite | words
moments = st.none() | st.datetimes(timezones=st.just(timezone(timedelta(hours=2)))).map(
    lambda time: time.replace(microsecond=time.microsecond // 1000 * 1000)
)
flags = st.none() | st.booleans()


def mappings(contents):
    return st.dictionaries(words, contents, max_size=3)


provenances = st.builds(
    Provenance, started=moments, finished=moments, host=maybe, pid=whole, executor_label=maybe, device=maybe,
    versions=st.none() | mappings(maybe),
)  # fmt: skip
timings = st.builds(Timings, load=figures, compile=figures, sample=figures, total=figures)
findings = {
    **dict.fromkeys(("llc_hat", "se_hat", "rhat", "rhat_loss", "ess_bulk", "num_gradient_evaluations"), figures),
    **dict.fromkeys(("num_draws", "num_steps_done", "num_together"), whole),
    **dict.fromkeys(("is_diverged", "is_truncated", "x64"), flags),
    "dtype": maybe,
    "reports": st.dictionaries(st.sampled_from(sorted(REPORTS)), figures, max_size=3),
}
endings = {
    "state": st.sampled_from(State), "reason": maybe, "traceback": maybe, "provenance": provenances,
}  # fmt: skip
criteria = st.builds(CriterionRecord, name=words, value=figures, bound=figures, is_met=st.booleans())
references = st.builds(
    ReferenceRecord,
    method=words,
    llc=figures,
    se=figures,
    is_certified=st.booleans(),
    reasons=st.lists(words, max_size=2).map(tuple),
    certificate=st.lists(criteria, max_size=2).map(tuple),
    diagnostics=mappings(st.builds(TraceRecord, rhat=figures, mcse=figures)),
    spectrum=st.none() | st.builds(SpectrumRecord, smallest=figures, largest=figures, is_exact=st.booleans()),
    wells=st.none() | st.builds(WellsRecord, num_descents=st.integers(0, 9), masses=st.tuples(figures, figures)),
    target=mappings(values),
    stages=mappings(finite),
    num_draws=whole,
    spec=st.builds(ReferenceSpec, seed=st.integers(0, 9)),
    provenance=provenances,
)
manifests = st.builds(
    Manifest, pid=words, method=words, hyperparams=mappings(values), settings=mappings(values),
    seed=st.integers(0, 2**31), budget=st.builds(TrialBudget, trial_sec=finite),
)  # fmt: skip
RECORDS = {
    Manifest: manifests,
    Metrics: st.builds(Metrics, **findings, **endings, timings=st.none() | timings),
    ReferenceRecord: references,
    ReferenceFailure: st.builds(ReferenceFailure, **endings),
    Begun: st.builds(Begun, pids=st.tuples(words), methods=st.tuples(words), num_trials=st.integers(0, 9)),
    Confirmations: st.builds(
        Confirmations, spec=st.builds(Confirm, top_k=st.integers(0, 3)), lanes=mappings(st.tuples(words))
    ),
    Started: st.builds(Started, pid=whole, host=maybe, time=moments),
    Begin: st.builds(Begin, at=finite, pid=whole, host=maybe, caps=mappings(st.integers(0, 9)), batch_size=whole),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_what_is_written_comes_back(kind, data):
    record = data.draw(RECORDS[kind])
    text = json.dumps(record.to_json(), allow_nan=False)
    again = kind.from_json(json.loads(text), Path("file.json"))
    assert again == record
    assert again.to_json() == record.to_json()
    assert pickle.loads(pickle.dumps(record)) == record, "workers hand it to the controller"


def example(kind):
    """A record of this kind, as plain data."""
    by_kind = {
        Manifest: Manifest.of("p_1", "sgld", hyperparams={}, settings={}, seed=0, trial_sec=1.0),
        Metrics: Metrics(state=State.COMPLETE, llc_hat=1.0),
        ReferenceRecord: ReferenceRecord(method="hmc", llc=1.0, se=0.1, is_certified=True),
        ReferenceFailure: ReferenceFailure.failed("out of time"),
        Begun: Begun(),
        Confirmations: Confirmations(spec=Confirm()),
    }
    return by_kind[kind].to_json()


STORED = [Manifest, Metrics, ReferenceRecord, ReferenceFailure, Begun, Confirmations]


@pytest.mark.parametrize("kind", STORED, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("found", [99, "new"])
def test_a_file_of_another_format_is_refused_by_name(tmp_path, kind, found):
    path = tmp_path / "file.json"
    write_json_atomic(path, example(kind) | {"format": found})
    with pytest.raises(FormatError) as caught:
        kind.read(path)
    assert str(caught.value) == (
        f"{path} is of format {found}; this version of lambda-hat reads format {kind.FORMAT}. "
        "Use the version that wrote it, or choose another `store.namespace`."
    )
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_reference_of_an_older_format_counts_as_missing_where_it_is_made_anew(tmp_path):
    path = tmp_path / "ref.json"
    write_json_atomic(path, example(ReferenceRecord) | {"format": 1})
    assert ReferenceRecord.read_current(path) is None
    with pytest.raises(FormatError):
        ReferenceRecord.read(path)
    write_json_atomic(path, example(ReferenceRecord) | {"format": ReferenceRecord.FORMAT + 1})
    with pytest.raises(FormatError):
        ReferenceRecord.read_current(path)


@pytest.mark.parametrize("kind", STORED, ids=lambda kind: kind.__name__)
def test_a_missing_and_a_torn_file_say_nothing(tmp_path, kind):
    path = tmp_path / "file.json"
    assert kind.read(path) is None
    path.write_text(json.dumps(example(kind))[:-1], encoding="utf-8")
    assert kind.read(path) is None


@pytest.mark.parametrize("kind", STORED, ids=lambda kind: kind.__name__)
def test_keys_that_are_not_known_are_left_alone(tmp_path, kind):
    path = tmp_path / "file.json"
    write_json_atomic(path, example(kind) | {"colour": "green"})
    assert kind.read(path).to_json() == example(kind)


@pytest.mark.parametrize(
    ("kind", "changes", "place"),
    [
        (Metrics, {"state": "DONE"}, "state: Input should be"),
        (Metrics, {"num_draws": "many"}, "num_draws: Input should be"),
        (Manifest, {"budget": {}}, "budget.trial_sec: Field required"),
        (ReferenceRecord, {"certificate": [{"name": "R̂"}]}, "certificate.0.is_met: Field required"),
    ],
)
def test_a_value_that_a_field_cannot_have_is_refused_with_its_place(tmp_path, kind, changes, place):
    path = tmp_path / "file.json"
    write_json_atomic(path, example(kind) | changes)
    with pytest.raises(RunStateError, match=rf"file\.json is damaged: {place}.* Remove it, or choose another"):
        kind.read(path)


def test_files_from_before_there_was_a_format_are_read(tmp_path):
    """As earlier versions wrote them, in part."""
    path = tmp_path / "file.json"
    write_json_atomic(path, {
        "state": "COMPLETE", "reason": "", "is_diverged": False, "llc_hat": 8.2, "se_hat": 0.1, "rhat": None,
        "num_draws": 12000, "num_gradient_evaluations": 5124.0, "is_truncated": False, "predicted_bias": 0.02,
        "timings": {"load": 0.1, "compile": 1.0, "sample": 2.0, "total": 3.1}, "x64": False,
        "started": "2026-01-02T03:04:05.678+00:00", "host": "here", "pid": 7, "executor_label": None,
        "versions": {"jax": "0.10.2", "git_commit": "c0ffee"}, "num_together": 1,
    })  # fmt: skip
    metrics = Metrics.read(path)
    assert (metrics.state, metrics.llc_hat, metrics.rhat) == (State.COMPLETE, 8.2, None)
    assert (metrics.reports, metrics.timings.total) == ({"predicted_bias": 0.02}, 3.1)
    origin = metrics.provenance
    assert (origin.started, origin.host, origin.pid, origin.git_commit) == (NOW, "here", 7, "c0ffee")
    content = {
        "pid": "p_1", "method": "sgld", "hyperparams": {"eta0": 1e-3}, "settings": {"eta0": 1e-3, "steps": 500.0},
        "seed": 3, "budget": {"trial_sec": 60},
    }  # fmt: skip
    write_json_atomic(path, content)
    decides = {name: value for name, value in content.items() if name != "budget"}
    assert Manifest.read(path).run_id == run_id(decides), "neither the format nor the budget is part of an id"
    write_json_atomic(path, {"pids": ["p_1"], "methods": ["sgld"], "num_trials": 24})
    assert Begun.read(path) == Begun(pids=("p_1",), methods=("sgld",), num_trials=24)


def test_numbers_that_are_not_finite_are_unknown():
    metrics = Metrics(state=State.PRUNED, llc_hat=math.nan, rhat=math.inf, reports={"k_hat": -math.inf})
    assert (metrics.llc_hat, metrics.rhat, metrics.reports) == (None, None, {"k_hat": None})
    content = metrics.to_json()
    assert (content["llc_hat"], content["rhat"], content["k_hat"]) == (None, None, None)
    assert "se_hat" not in content, "what nobody set is not written"


@pytest.mark.parametrize("kind", [Metrics, ReferenceFailure])
def test_a_failure_says_why_and_where(kind):
    try:
        raise ValueError("a bug")
    except ValueError as error:
        failure = kind.failed(error, provenance=Provenance(host="here"))
        renamed = kind.failed(error, reason="out of time")
    assert isinstance(failure, Ending)
    assert (failure.state, failure.reason, failure.provenance.host) == (State.FAIL, "ValueError: a bug", "here")
    assert failure.traceback.startswith("Traceback")
    assert renamed.reason == "out of time"
    assert (kind.failed("lost").reason, kind.failed("lost").traceback) == ("lost", None)


@pytest.mark.parametrize("llc_hat", [None, math.nan, math.inf])
def test_a_run_without_an_estimate_is_not_complete(llc_hat):
    metrics = Metrics(state=State.COMPLETE, llc_hat=llc_hat)
    assert (metrics.state, metrics.reason) == (State.FAIL, "the estimate is not a finite number")


def test_a_failure_without_a_reason_has_one():
    assert Metrics(state=State.FAIL).reason == "the task gave no reason"


def test_every_state_has_a_word():
    assert {state: state.word for state in State} == {
        "WAITING": "waiting", "RUNNING": "unfinished", "COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed",
    }  # fmt: skip


def test_lines_of_progress_come_back_by_kind(tmp_path):
    path = tmp_path / "progress.jsonl"
    lines = [
        Started(pid=1, host="here", time=NOW), Stage(stage="training"),
        Stage(stage="rounds", seconds=2.0, llc=8.0, se=math.nan), Chunk(step=10, fraction=0.1, llc_hat=8.0),
        Alive(seconds=3.5, is_compiling=True), Ended(state=State.PRUNED, time=NOW),
    ]  # fmt: skip
    for line in lines:
        append_line(path, line)
        append_json_line(path, {"event": "resumed"})
        append_json_line(path, {"step": "three"})
    found, offset = read_progress(path)
    assert found == lines
    append_line(path, Chunk(step=20, fraction=0.2))
    assert read_progress(path, offset)[0] == [Chunk(step=20, fraction=0.2)]


def test_lines_of_earlier_versions_are_read(tmp_path):
    path = tmp_path / "progress.jsonl"
    for line in ({"event": "started", "pid": 1, "host": "a"}, {"step": 5, "fraction": 0.5, "llc_hat": None}):
        append_json_line(path, line)
    assert read_progress(path)[0] == [Started(pid=1, host="a"), Chunk(step=5, fraction=0.5)]


@pytest.mark.parametrize(("read", "line"), [(read_progress, {"event": "started"}), (read_commands, {"kind": "begin"})])
def test_lines_of_another_format_are_refused(tmp_path, read, line):
    path = tmp_path / "lines.jsonl"
    append_json_line(path, line | {"format": 2})
    with pytest.raises(FormatError, match=r"lines\.jsonl is of format 2; this version of lambda-hat reads format 1"):
        read(path)


def test_events_come_back_by_kind(tmp_path):
    path = tmp_path / "events.jsonl"
    lines = [
        Begin(time=NOW, at=0.0, pid=1, host="here", caps={"a": 2}, capacity={"a": 2}),
        TaskEvent(kind="started", time=NOW, at=1.0, lane="p_1:sgld", label="a", task="r_1"),
        Stalled(time=NOW, at=2.0, label="a", message="nothing moved", is_restarted=True),
        TaskEvent(kind="retried", time=NOW, at=3.0, lane="p_1:sgld", label="a", task="r_1", message="gone"),
        End(time=NOW, at=4.0),
    ]
    append_line(path, lines[1])  # what is left of a command whose beginning is lost
    for line in lines:
        append_line(path, line)
        append_json_line(path, {"kind": "paused", "at": 1.0})
    contents = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line for line in contents[1:] if line["kind"] != "paused"] == [line.to_json() for line in lines]
    assert contents[1]["format"] == 1
    (command,) = read_commands(path)
    assert [command.begin, *command.lines] == lines
