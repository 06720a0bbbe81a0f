"""A real study whose processes are killed is finished with everything in it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

NUM_KILLS = 20
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "chaos.py"


@pytest.mark.nightly  # in short: `test_recovery.py`, and `tests/execution` for managers and interchanges
def test_processes_are_killed_and_nothing_is_amiss(tmp_path):
    """The first kill is of the controller, the second of a worker, then of a manager and an interchange, and again."""
    folder = tmp_path / "chaos"
    command = [sys.executable, str(SCRIPT), str(folder), "--kills", str(NUM_KILLS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    log = (folder / "chaos.log").read_text(encoding="utf-8")
    assert done.returncode == 0, f"{done.stdout}{done.stderr}{log}"
    record = json.loads((folder / "chaos.json").read_text(encoding="utf-8"))
    kinds = ("controller", "worker", "manager", "interchange")
    assert record["faults"] == []
    assert record["kills"] == {kind: len(range(index, NUM_KILLS, 4)) for index, kind in enumerate(kinds)}
    assert record["num_commands"] >= 1 + record["kills"]["controller"]
    assert record["num_attempts"] >= 2 * record["num_trials"]
