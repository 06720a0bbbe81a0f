"""Workflows by the command line, in a folder of their own: in this process, or in processes with Parsl's workers."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import yaml
from click.testing import CliRunner, Result

from lambda_hat.cli.app import cli
from lambda_hat.records.tables import read_frame
from tests.conftest import HANGING, wait_until

MARK = "LAMBDA_HAT_TEST_MARK"
ONE_WORKER = {"label": "only", "max_workers": 1, "worker_init": "export JAX_ENABLE_X64=false"}
QUADRATIC = {"target": "quadratic", "seed": 3, "overrides": {"dim": 4, "num_data": 200}}
SGLD_SPACE = {
    "eta0": {"dist": "float", "low": 1e-4, "high": 1e-3, "log": True},
    "steps": {"dist": "int", "low": 4000, "high": 8000, "step": 1000},
}


RunInline = Callable[..., Result]


def run_workflow_inline(folder: Path, name: str, *arguments: str) -> Result:
    """Run `lambda-hat workflow NAME --inline` in this process, on files in `folder`."""
    with contextlib.chdir(folder):
        return CliRunner().invoke(cli, ["workflow", name, "--inline", *arguments], prog_name="lambda-hat")


@pytest.fixture(scope="session")
def run_inline() -> RunInline:
    return run_workflow_inline


@pytest.fixture(scope="session")
def run_study(run_inline: RunInline) -> Callable[..., Result]:
    """Runs a study in a folder, in this process."""

    def run_study(folder: Path, study: dict[str, Any], *arguments: str) -> Result:
        (folder / "study.yaml").write_text(yaml.safe_dump(study))
        return run_inline(folder, "optuna", "--config", "study.yaml", *arguments)

    return run_study


class SmallStudy:
    """A study of SGLD on a quadratic with an exact reference: in this process, or with one worker of Parsl's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "runs" / "optuna" / "v1"
        self.mark = uuid.uuid4().hex
        self.study = {
            "problems": [QUADRATIC],
            "methods": ["sgld"],
            "optuna": {"max_trials_per_method": 3, "concurrency": {"batch_size": 2}},
            "search_space": {"sgld": SGLD_SPACE},
            "confirm": {"top_k": 0},
            "reference": "exact",
            "execution": {"budget": {"hmc_sec": 600, "trial_sec": 60}},
        }
        (folder / "study.yaml").write_text(yaml.safe_dump(self.study), encoding="utf-8")
        card = {"type": "local", "executors": [ONE_WORKER]}
        (folder / "card.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")

    def run(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        """stdout and stderr of a command in this process that has to end with `code`."""
        result = run_workflow_inline(self.folder, "optuna", "--config", "study.yaml", *arguments)
        assert result.exit_code == code, result.stderr
        return result.stdout, result.stderr

    def start(self, *arguments: str, card: str = "--parsl-card=card.yaml") -> subprocess.Popen[str]:
        """A command as a user starts it, by default with a worker."""
        command = [sys.executable, "-m", "lambda_hat", "workflow", "optuna", "--config", "study.yaml"]
        return subprocess.Popen(
            [*command, card, *arguments],
            cwd=self.folder,
            env=os.environ | {MARK: self.mark},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run_with_workers(self, *arguments: str) -> None:
        """A command as a user starts it, which has to end well and to leave no process."""
        process = self.start(*arguments)
        _, stderr = process.communicate(timeout=HANGING)
        assert process.returncode == 0, stderr
        self.wait_until_nothing_is_left()

    def send(self, process: subprocess.Popen[str], number: signal.Signals) -> None:
        """A signal as it comes: Ctrl-C to all that the terminal started, others to the command alone."""
        if number is signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                words = " ".join(process.cmdline())
                is_ours = str(self.folder) in words or process.environ().get(MARK) == self.mark
                if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def wait_until_nothing_is_left(self) -> None:
        wait_until(lambda: not self.processes(), lambda: f"{self.processes()} are left")

    @property
    def table(self) -> pd.DataFrame:
        return read_frame(self.root / "tables/optuna_trials.parquet")

    def trial_files(self, name: str) -> list[Path]:
        return sorted(self.root.glob(f"trials/*/*/*/{name}"))


@pytest.fixture
def small_study(tmp_path: Path) -> SmallStudy:
    return SmallStudy(tmp_path)
