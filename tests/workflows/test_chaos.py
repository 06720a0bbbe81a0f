"""A real study whose processes are killed is finished with everything in it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "chaos.py"


@pytest.mark.slow
def test_five_kills_and_nothing_is_amiss(tmp_path):
    folder = tmp_path / "chaos"
    command = [sys.executable, str(SCRIPT), str(folder), "--kills", "5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    log = (folder / "chaos.log").read_text(encoding="utf-8")
    assert done.returncode == 0, f"{done.stdout}{done.stderr}{log}"
    record = json.loads((folder / "chaos.json").read_text(encoding="utf-8"))
    assert record["faults"] == []
    assert record["kills"] == {"controller": 2, "worker": 1, "manager": 1, "interchange": 1}
    assert record["num_commands"] >= 3
    assert record["num_attempts"] >= 2 * record["num_trials"]
