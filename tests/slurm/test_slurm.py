"""The shipped Slurm card on a real Slurm: a whole study each time, and what a cluster does to studies at night.

Most of the time is waiting. So the studies that lose a block or their controller run beside the others, and come last.
"""

from __future__ import annotations

import json
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings

from tests.conftest import HANGING, wait_until
from tests.names import FOLDER_NAMES
from tests.workflows.conftest import SmallStudy

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

CARD = Path(__file__).parents[2] / "config" / "parsl" / "slurm" / "cpu.yaml"
HOSTILE = "a b$(touch MARK)`touch MARK`;\"'[0.1]{x}%j%N#\\é~*&|!"
NODE = {
    "walltime": "01:00:00",
    "cores_per_node": 1,
    "mem_per_node": None,
    "max_workers": 1,
    "max_blocks": 1,
    "optuna.pruner.type": "none",
}
SPACES = {
    "sgld": {
        "eta0": {"dist": "float", "low": 1e-4, "high": 1e-3},
        "steps": {"dist": "int", "low": 20_000, "high": 30_000},
    },
    "mclmc": {"L": {"dist": "float", "low": 1.0, "high": 2.0}, "steps": {"dist": "int", "low": 300, "high": 600}},
}
STEPS = 600_000  # three seconds and more, so that a trial can be hit
LONG = {
    "search_space": {"sgld": {"eta0": SPACES["sgld"]["eta0"], "steps": {"dist": "int", "low": STEPS, "high": STEPS}}},
    "execution.budget": {"hmc_sec": 50, "trial_sec": 50},
}


def sets_of(values: dict[str, object]) -> list[str]:
    return [word for key, value in values.items() for word in ("--set", f"{key}={json.dumps(value)}")]


class SlurmStudy(SmallStudy):
    """A small study whose card is the shipped one, for the test's Slurm."""

    def __init__(self, folder: Path, slurm, **sets: object) -> None:
        folder.mkdir()
        super().__init__(folder)
        (folder / "card.yaml").write_text(CARD.read_text())
        self.slurm = slurm
        self.arguments = sets_of(NODE | sets)

    def begin(self, *arguments: str) -> None:
        self.process = self.start(*self.arguments, *arguments)

    def submit(self) -> str:
        """Begin it in a job of its own, which resumes it when it runs again; the job's number."""
        command = ["exec", sys.executable, "-m", "lambda_hat", "workflow", "optuna", "--config", "study.yaml"]
        words = shlex.join([*command, "--parsl-card=card.yaml", *self.arguments])
        script = self.folder / "job.sh"
        script.write_text(f"#!/bin/sh\n{words} ${{SLURM_RESTART_COUNT:+--resume}}\n")
        options = ("--parsable", "--requeue", "--ntasks=1", f"--chdir={self.folder}", "--output=job.log")
        return self.slurm.ask("sbatch", *options, "--open-mode=append", str(script))

    def end(self, code: int) -> str:
        """stderr of a command that has to end with `code`."""
        _, stderr = self.process.communicate(timeout=HANGING)
        assert self.process.returncode == code, stderr
        return stderr

    def jobs(self) -> list[str]:
        """Jobs that were submitted from the study's folder."""
        lines = (
            line.split(maxsplit=1) for line in self.slurm.ask("squeue", "--noheader", "--format=%i %Z").splitlines()
        )
        return [job for job, folder in lines if Path(folder) == self.folder]

    def events(self, name: str) -> list[list[dict[str, object]]]:
        """By trial, what its workers recorded under that name."""
        files = [path.read_text().splitlines() for path in self.trial_files("progress.jsonl")]
        return [[json.loads(line) for line in lines if f'"event":"{name}"' in line] for lines in files]

    def num_ended(self) -> int:
        return sum(map(len, self.events("ended")))

    def num_running(self) -> int:
        return sum(map(len, self.events("started"))) - self.num_ended()

    def num_blocks(self) -> int:
        return len(list(self.root.glob("parsl_runinfo/**/*.stdout")))

    def assert_complete(self, num_trials: int) -> None:
        table = self.table
        assert list(table["state"]) == ["COMPLETE"] * num_trials
        assert table["run_id"].is_unique
        assert [len(ends) for ends in self.events("ended")] == [1] * num_trials, "no finished trial was run again"
        self.slurm.wait_for(lambda: not self.jobs())
        self.wait_until_nothing_is_left()


def builder(folder: Path, slurm) -> Iterator[Callable[..., SlurmStudy]]:
    """Begins studies in folders of their own; what is left of them is ended."""
    studies: list[SlurmStudy] = []

    def begin(name: str, num_trials: int, **sets: object) -> SlurmStudy:
        study = SlurmStudy(folder / name, slurm, **{"optuna.max_trials_per_method": num_trials, **sets})
        study.begin()
        studies.append(study)
        return study

    yield begin
    for study in studies:
        if study.process.poll() is None:
            study.process.terminate()
            study.process.communicate(timeout=HANGING)


@pytest.fixture
def begin(tmp_path, slurm):
    yield from builder(tmp_path, slurm)


@dataclass
class Beside:
    """Studies that go on while others are tested."""

    expiring: SlurmStudy
    cancelled: SlurmStudy
    killed: SlurmStudy
    orphan: str  # the job of the controller that was killed


@pytest.fixture(scope="module")
def beside(tmp_path_factory, slurm):
    builders = builder(tmp_path_factory.mktemp("beside"), slurm)
    begin = next(builders)
    try:
        expiring = begin("expiring", 500, **LONG | {"walltime": "00:01:00"})
        cancelled, killed = (begin(name, 3, **LONG) for name in ("cancelled", "killed"))
        hit: dict[str, str] = {}

        def are_hit() -> bool:
            """Hit each as soon as it is in the middle of its trials: neither waits for the other."""
            for study in (cancelled, killed):
                if study.folder.name not in hit and study.num_running() and study.num_ended():
                    (job,) = study.jobs()
                    if study is cancelled:
                        slurm.ask("scancel", job)
                    else:
                        study.send(study.process, signal.SIGKILL)
                    hit[study.folder.name] = job
            return len(hit) == 2

        wait_until(are_hit)
        killed.end(-signal.SIGKILL)
        killed.begin("--resume")
        yield Beside(expiring, cancelled, killed, hit["killed"])
    finally:
        next(builders, None)


@pytest.fixture(scope="module")
def begin_early(tmp_path_factory, slurm):
    """As `begin`, for studies that wait while others are tested."""
    yield from builder(tmp_path_factory.mktemp("early"), slurm)


def is_amid_trials(study: SlurmStudy) -> bool:
    return study.num_running() > 0 and study.num_ended() > 0


@pytest.fixture(scope="module")
def preempted(begin_early, slurm) -> tuple[SlurmStudy, str]:
    """A study that begins without a block, and whose only job is put back into the queue amid its trials."""
    study = begin_early("preempted", 3, **LONG | {"init_blocks": 0, "min_blocks": 0})
    wait_until(lambda: is_amid_trials(study))
    (job,) = study.jobs()
    slurm.preempt(job, sending="TERM")
    return study, job


def assert_goes_on_in_the_same_job(study: SlurmStudy, job: str) -> None:
    study.end(0)
    study.assert_complete(3)
    assert sum(map(len, study.events("started"))) == 4, "only the trial that was hit is begun again"
    assert (study.slurm.restarts(job), study.num_blocks()) == (1, 1)


def test_a_whole_study(begin):
    study = begin(HOSTILE, 3, methods=list(SPACES), search_space=SPACES)
    study.end(0)
    names = [path.name for path in study.folder.parent.iterdir()]
    assert names == [HOSTILE], "the link is gone, and no shell ran what the name says"
    study.assert_complete(6)
    table = study.table
    assert set(table["executor"]) == {"htex_slurm"}
    assert table.groupby("method")["dtype"].unique().map(list).to_dict() == {"mclmc": ["float64"], "sgld": ["float32"]}
    assert len({start["pid"] for (start,) in study.events("started")}) == 1, "one worker, both precisions"
    assert {path.name for path in study.folder.iterdir()} == {"card.yaml", "runs", "study.yaml"}, (
        "jobs write there, too"
    )


@pytest.mark.nightly
@settings(max_examples=3)
@given(name=FOLDER_NAMES)
def test_a_study_in_a_folder_of_any_name(begin_early, name):
    """Each begins in a folder of its own, or is refused by its name before anything is submitted."""
    study = begin_early(name, 2)
    if study.process.wait(HANGING) == 2:
        assert "folder" in study.process.communicate()[1]
        assert study.jobs() == []
        return
    study.end(0)
    study.assert_complete(2)


@pytest.mark.nightly  # it is lost after 120 s
def test_a_preempted_job_goes_on_when_it_runs_again(preempted):
    assert_goes_on_in_the_same_job(*preempted)


@pytest.mark.nightly
def test_a_signal_that_announces_the_end_loses_nothing_either(begin, slurm):
    study = begin("announced", 3, **LONG)
    wait_until(lambda: is_amid_trials(study))
    (job,) = study.jobs()
    slurm.preempt(job, sending="USR1")
    assert_goes_on_in_the_same_job(study, job)


@pytest.mark.nightly
def test_a_controller_in_a_preempted_job_resumes_its_study(tmp_path, slurm):
    study = SlurmStudy(tmp_path / "controller", slurm, **LONG | {"optuna.max_trials_per_method": 3})
    job = study.submit()
    try:
        wait_until(lambda: is_amid_trials(study))
        slurm.preempt(job, sending="TERM")
        slurm.wait_for(lambda: not study.jobs())
        study.assert_complete(3)
        assert slurm.restarts(job) == 1
    finally:
        slurm.ask("scancel", *study.jobs(), job)


@pytest.mark.nightly
@pytest.mark.usefixtures("beside")
@pytest.mark.parametrize(
    ("number", "code", "size", "num_jobs"),
    [(signal.SIGTERM, 143, "max_blocks", 2), (signal.SIGINT, 130, "nodes_per_block", 1)],  # the second under srun
)
def test_jobs_of_an_interrupted_controller_are_cancelled(begin, slurm, number, code, size, num_jobs):
    study = begin("interrupted", 500, **LONG | {size: 2})
    wait_until(lambda: study.num_running() >= 2)
    assert len(study.jobs()) == num_jobs
    study.send(study.process, number)
    study.end(code)
    slurm.wait_for(lambda: not study.jobs())
    study.wait_until_nothing_is_left()


@pytest.mark.nightly
@pytest.mark.usefixtures("beside")
def test_a_job_that_slurm_refuses_ends_the_study_with_what_slurm_said(begin):
    study = begin("refused", 3, partition="nosuch")
    assert "its first block is refused: sbatch: error: invalid partition specified: nosuch" in study.end(1)


@pytest.mark.nightly
def test_a_cancelled_block_is_replaced_and_its_trial_retried(beside):
    study = beside.cancelled
    study.end(0)
    study.assert_complete(3)
    assert sum(map(len, study.events("started"))) > 3
    assert study.num_blocks() == 2


@pytest.mark.nightly
def test_the_job_of_a_killed_controller_ends_and_its_study_can_be_resumed_at_once(beside, slurm):
    study = beside.killed
    study.end(0)
    study.assert_complete(3)
    slurm.wait_for(lambda: beside.orphan not in slurm.jobs())  # an hour before its walltime: it misses heartbeats


@pytest.mark.nightly
def test_a_study_goes_on_in_the_next_block_when_the_walltime_is_over(beside, slurm):
    study = beside.expiring
    wait_until(lambda: study.num_blocks() >= 2)
    num_before = study.num_ended()
    wait_until(lambda: study.num_ended() > num_before)
    study.send(study.process, signal.SIGTERM)  # how many trials a block takes depends on the machine
    study.end(143)
    num_trials = study.num_ended() + 2
    study.begin("--resume", *sets_of({"optuna.max_trials_per_method": num_trials}))
    study.end(0)
    study.assert_complete(num_trials)
    assert slurm.jobs() == []
