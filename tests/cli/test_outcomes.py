"""What a run ends with: exit codes, results on stdout, everything else on stderr."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from lambda_hat.errors import (
    ConfigError,
    ExecutionError,
    Fault,
    RunStateError,
    StorageError,
    TargetError,
    TooManyFailedTrials,
    UncertifiedReference,
)
from lambda_hat.records.begun import Begun
from tests.conftest import wait_until

BEGUN = Path("runs/optuna/v1/meta/begun.json")
EMPTY = {
    "rows": [], "references": {}, "places": {"run": Path("here")}, "failure": None, "confirmed": [], "why_none": {},
}  # fmt: skip


@pytest.fixture(autouse=True)
def begun(folder):
    """The file that says that the run of the study has begun."""
    path = folder / BEGUN
    path.parent.mkdir(parents=True)
    Begun().write(path)
    return path


def kept_and_next(*settings):
    """What every ending but a refusal says of the study in the current folder, of which nothing is there yet."""
    place = Path("runs/optuna/v1").resolve()
    again = "lambda-hat workflow optuna --config study.yaml --local --resume"
    sets = "".join(f" --set {setting}" for setting in settings)
    return f"{'kept':15}0 of 1 reference and 0 of 5 trials in {place}\n{'next':15}{again}{sets}\n"


def ends_with(error):
    def run_optuna(loaded, *, resume, progress):
        raise error

    return run_optuna


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (ExecutionError("no executors"), 1),
        (TargetError("no target"), 1),
        (ConfigError([Fault(key="a", message="wrong")]), 2),
        (RunStateError("in use"), 2),
        (TooManyFailedTrials("too many"), 3),
        (UncertifiedReference("not certified"), 4),
    ],
)
def test_expected_failures_end_with_their_code_and_no_traceback(run_with, error, exit_code):
    result = run_with(ends_with(error))
    assert (result.exit_code, result.stdout) == (exit_code, "")
    prefix = "" if isinstance(error, ConfigError) else "Error: "
    has_begun = not isinstance(error, ConfigError | RunStateError)
    assert result.stderr == f"{prefix}{error}\n{kept_and_next() if has_begun else ''}"
    assert "Traceback" in run_with(ends_with(error), "-v").stderr


@pytest.mark.parametrize("error", [ValueError("a bug"), EOFError(), OSError("disk")])
def test_unexpected_failures_show_where(run_with, error):
    result = run_with(ends_with(error))
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"{type(error).__name__}" in result.stderr
    assert result.stderr.endswith("This is a mistake in lambda-hat; the traceback above says where.\n")


def test_a_full_disk_is_told_like_an_expected_failure_whoever_met_it(run_with):
    hint = "Once there is room and it can be written, the same command does; `--resume` goes on with a run."
    bare = OSError(errno.ENOSPC, "No space left on device")
    named = OSError(errno.EROFS, "Read-only file system", "/data/x")
    for error, reason in [
        (bare, "A file could not be written: No space left on device."),
        (named, "/data/x could not be written: Read-only file system."),
        (StorageError(f"Nothing could be written. {hint}"), "Nothing could be written."),
    ]:
        result = run_with(ends_with(error))
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == f"Error: {reason} {hint}\n{kept_and_next()}"
    assert "Traceback" in run_with(ends_with(bare), "-v").stderr


@pytest.mark.parametrize(("error", "exit_code"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143)])
def test_signals_end_with_their_code(run_with, error, exit_code):
    result = run_with(ends_with(error))
    assert result.exit_code == exit_code
    assert "Traceback" not in result.stderr
    assert result.stderr.endswith(kept_and_next())


@pytest.mark.parametrize(
    "advice",
    [("execution.budget.trial_sec=60",), ("execution.budget.setup_sec=7200", "optuna.max_failed_fraction=1")],
)
def test_an_ending_advises_the_command_that_was_given_with_what_helps(run_with, advice):
    error = TooManyFailedTrials("9 of 10").advising(*advice)
    result = run_with(ends_with(error), "--set", "execution.budget.trial_sec=30", "--set", "optuna.sampler.seed=1")
    kept = [text for text in ("execution.budget.trial_sec=30",) if "trial_sec" not in advice[0]]
    assert result.stderr.endswith(kept_and_next(*kept, "optuna.sampler.seed=1", *advice))


def test_what_ends_before_its_run_has_begun_leaves_nothing_to_go_on_with(run_with, begun):
    begun.unlink()
    assert run_with(ends_with(ExecutionError("no executors"))).stderr == "Error: no executors\n"
    setting = "execution.budget.setup_sec=7200"
    result = run_with(ends_with(ExecutionError("too slow").advising(setting)))
    again = f"lambda-hat workflow optuna --config study.yaml --local --set {setting}"
    assert result.stderr == f"Error: too slow\n{'next':15}{again}\n"


def test_results_go_to_stdout_and_messages_to_stderr(run_with):
    def run_optuna(loaded, *, resume, progress):
        progress.message("a message")
        progress.message("a detail", level=1)
        progress.warning("a warning")
        assert resume
        return SimpleNamespace(**EMPTY)

    result = run_with(run_optuna, "--resume")
    assert result.exit_code == 0
    again = "lambda-hat workflow optuna --config study.yaml --local --resume --set optuna.max_trials_per_method=10"
    assert result.stdout.endswith(f"run  here\n{'next':15}lambda-hat diagnose here\n{'':15}{again}\n")
    assert result.stderr == "a message\nWarning: a warning\n"
    assert run_with(run_optuna, "--resume", "-v").stderr == "a message\na detail\nWarning: a warning\n"
    assert run_with(run_optuna, "--resume", "-q").stderr == "Warning: a warning\n"


def test_a_failure_is_told_after_the_results_there_are(run_with):
    result = run_with(
        lambda loaded, *, resume, progress: SimpleNamespace(**EMPTY | {"failure": TooManyFailedTrials("6 of 10")})
    )
    assert result.exit_code == 3
    assert result.stdout.endswith("run  here\n")
    assert result.stderr == f"Error: 6 of 10\n{kept_and_next()}"


def run_process(statements):
    """A real process of the command line with `statements` in the workflow's place."""
    program = (
        "import errno, logging, os, signal, sys, types\n"
        "module = types.ModuleType('lambda_hat.workflows.optuna')\n"
        f"def run_optuna(*args, **kwargs):\n    {statements}\n"
        "module.run_optuna = run_optuna\n"
        "sys.modules[module.__name__] = module\n"
        "sys.argv = ['lambda-hat', 'workflow', 'optuna', '--config', 'study.yaml', '--local']\n"
        "from lambda_hat.cli import main\n"
        "main()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)


@pytest.mark.slow
def test_an_interrupt_of_a_real_process_is_130(folder):
    done = run_process("os.kill(os.getpid(), signal.SIGINT)")
    assert done.returncode == 128 + signal.SIGINT
    stopping = "Stopping: workers are ended and tables are written. Ctrl-C again ends at once."
    assert (done.stdout, done.stderr) == ("", f"\n{stopping}\n\nInterrupted.\n{kept_and_next()}")


def is_over(pid: int) -> bool:
    """Whether a process has ended; nobody may wait for it here."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


@pytest.mark.slow
def test_a_second_interrupt_ends_at_once_with_all_children(folder):
    done = run_process(
        "import psutil, subprocess, threading\n"
        "    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(10**6)'])\n"
        "    print(child.pid, flush=True)\n"
        "    try:\n        os.kill(os.getpid(), signal.SIGINT)\n        threading.Event().wait()\n"
        "    finally:\n        os.kill(os.getpid(), signal.SIGINT)\n        threading.Event().wait()"
    )
    assert done.returncode == 128 + signal.SIGINT
    assert done.stderr.endswith("\nEnded at once. `--resume` goes on.\n")
    wait_until(lambda: is_over(int(done.stdout)))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_log_on_a_full_disk_says_nothing_beside_the_error(folder):
    done = run_process(
        "logging.getLogger('parsl').addHandler(logging.FileHandler('/dev/full'))\n"
        "    logging.getLogger('parsl').warning('a line that is lost')\n"
        "    raise OSError(errno.ENOSPC, 'No space left on device', 'x')"
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "Error: x could not be written: No space left on device. "
        "Once there is room and it can be written, the same command does; `--resume` goes on with a run.\n"
        f"{kept_and_next()}"
    )
