"""The shipped Slurm card on a real Slurm."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.workflows.conftest import SmallStudy

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

CARD = Path(__file__).parents[2] / "config" / "parsl" / "slurm" / "cpu.yaml"
NODE = {
    "walltime": "00:05:00",
    "cores_per_node": 2,
    "mem_per_node": None,
    "max_workers": 1,
    "max_blocks": 1,
}
STEPS = 150_000  # some seconds, so that a trial can be hit
SECONDS_OF_AN_ORPHAN = 60  # until the job of a controller that was killed has noticed
SPACES = {
    "sgld": {
        "eta0": {"dist": "float", "low": 1e-4, "high": 1e-3},
        "steps": {"dist": "int", "low": 20_000, "high": 30_000},
    },
    "mclmc": {"L": {"dist": "float", "low": 1.0, "high": 2.0}, "steps": {"dist": "int", "low": 300, "high": 600}},
}


@pytest.fixture
def study(tmp_path, slurm):
    """A small study whose card is the shipped one."""
    study = SmallStudy(tmp_path)
    (study.folder / "card.yaml").write_text(CARD.read_text())
    return study


def arguments(**sets) -> list[str]:
    pairs = {**NODE, "optuna.pruner.type": "none", **sets}
    return [word for key, value in pairs.items() for word in ("--set", f"{key}={json.dumps(value)}")]


def events(study, name: str) -> list[int]:
    return [path.read_text().count(f'"event":"{name}"') for path in study.trial_files("progress.jsonl")]


def test_a_whole_study(study, slurm):
    before = set(study.folder.iterdir())
    study.run(*arguments(methods=list(SPACES), search_space=SPACES))
    table = study.table
    assert len(table) == 6
    assert set(table["state"]) == {"COMPLETE"}
    assert set(table["executor"]) == {"htex_slurm"}
    assert table.groupby("method")["dtype"].unique().map(list).to_dict() == {"mclmc": ["float64"], "sgld": ["float32"]}
    slurm.wait_for(lambda: not slurm.jobs(), 15)
    assert {path.name for path in set(study.folder.iterdir()) - before} == {"runs"}, "jobs write into the run's folder"


@pytest.fixture
def long_study(tmp_path, slurm):
    """Starts studies in folders of their own; what is left of them is ended."""
    studies = []

    def start(name: str, num_trials: int, **sets) -> SmallStudy:
        folder = tmp_path / name
        folder.mkdir()
        study = SmallStudy(folder)
        studies.append(study)
        (folder / "card.yaml").write_text(CARD.read_text())
        space = {"eta0": SPACES["sgld"]["eta0"], "steps": {"dist": "int", "low": STEPS, "high": STEPS}}
        sets |= {"search_space": {"sgld": space}, "optuna.max_trials_per_method": num_trials, "cores_per_node": 1}
        study.arguments = arguments(**sets)
        study.process = study.start(*study.arguments)
        return study

    yield start
    for study in studies:
        if study.process.poll() is None:
            study.process.terminate()
            study.process.communicate(timeout=60)


def is_running(study) -> bool:
    """Whether a trial is running, and one has ended."""
    return sum(events(study, "started")) > sum(events(study, "ended")) >= 1


def test_studies_whose_blocks_and_controllers_end(long_study, slurm):
    """Four studies at a time, since most of it is waiting: a cancelled block, a walltime, SIGKILL and SIGTERM."""
    minute = {"walltime": "00:01:00", "execution.budget": {"hmc_sec": 50, "trial_sec": 50}}
    expiring = long_study("expiring", 20, **minute)
    cancelled, killed, terminated = (long_study(name, 4) for name in ("cancelled", "killed", "terminated"))

    cancelled.wait_for(lambda: is_running(cancelled), 180)
    (job,) = jobs_of(slurm, cancelled)
    slurm.ask("scancel", job)

    terminated.wait_for(lambda: is_running(terminated), 180)
    terminated.send(terminated.process, signal.SIGTERM)
    terminated.process.communicate(timeout=60)
    assert terminated.process.returncode == 143
    slurm.wait_for(lambda: not jobs_of(slurm, terminated), 15)

    killed.wait_for(lambda: is_running(killed), 180)
    killed.send(killed.process, signal.SIGKILL)
    killed.process.communicate(timeout=60)
    slurm.wait_for(lambda: not jobs_of(slurm, killed), SECONDS_OF_AN_ORPHAN)
    killed.process = killed.start("--resume", *killed.arguments)

    for study in (cancelled, killed, expiring):
        _, stderr = study.process.communicate(timeout=300)
        assert study.process.returncode == 0, stderr
        table = study.table
        assert set(table["state"]) == {"COMPLETE"}
        assert sorted(table["number"]) == list(range(len(table)))
        assert max(events(study, "ended")) == 1, "no finished trial was run again"
    assert sum(events(cancelled, "started")) > len(cancelled.table), "one was retried"
    for study in (cancelled, expiring):
        assert len(list(study.root.glob("parsl_runinfo/**/*.stdout"))) >= 2, "it took more than one block"
    slurm.wait_for(lambda: not slurm.jobs(), 30)
    for study in (cancelled, killed, expiring, terminated):
        study.wait_until_nothing_is_left(15)


def jobs_of(slurm, study) -> list[str]:
    """Jobs that were submitted from the study's folder."""
    lines = (line.split(maxsplit=1) for line in slurm.ask("squeue", "--noheader", "--format=%i %Z").splitlines())
    return [job for job, folder in lines if Path(folder) == study.folder]
