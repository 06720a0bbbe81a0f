"""The notebooks run as they stand, and hold nothing of the machine that they ran on."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
NOTEBOOKS = sorted((REPOSITORY / "examples/notebooks").glob("*.ipynb"))


def outputs(path: Path) -> str:
    """Everything that its cells print and show, pictures left out."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    shown = [output for cell in notebook["cells"] for output in cell.get("outputs", ())]
    assert not any(output["output_type"] == "error" or output.get("name") == "stderr" for output in shown)
    return "\n".join(
        "".join(text)
        for output in shown
        for kind, text in {"text": output.get("text", ""), **output.get("data", {})}.items()
        if kind != "image/png"
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_stored_notebook_names_no_paths(path):
    outputs(path)
    assert not re.search(r"(?<![\w.<])/(home|root|tmp|usr|work|Users|opt)/", path.read_text(encoding="utf-8"))
    assert path.stat().st_size < 300_000


@pytest.mark.parametrize(
    ("name", "words"),
    [
        pytest.param(
            "first_estimate",
            ("reliable: True", "not reliable", "sgld, fails the control", "sgld, passes the control"),
            marks=pytest.mark.slow(seconds=10),
        ),
        pytest.param(
            "own_network", ("all parameters", "the hidden layer", "d =  9", "Laplace"), marks=pytest.mark.nightly
        ),
        pytest.param(
            "reading_a_study",
            ("reference λ", "relative_error", "relative_rmse", "36 trials"),
            marks=pytest.mark.nightly,
        ),
    ],
)
def test_a_notebook_runs(name, words, tmp_path):
    command = (sys.executable, "scripts/run_notebooks.py", name, "--into", str(tmp_path))
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shown = outputs(tmp_path / f"{name}.ipynb")
    assert [word for word in words if word not in shown] == []
