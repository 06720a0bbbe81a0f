"""`lambda-hat init` writes files that work as they stand, wherever they are written."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml

from lambda_hat.config.load import load_file
from lambda_hat.config.shipped import STARTERS, shipped_file, write_starter

REPOSITORY = Path(__file__).parents[2]


def test_quickstart_is_what_comes_without_words(invoke):
    result = invoke("init")
    assert result.stdout == ("quickstart.yaml\nnext  lambda-hat workflow optuna --config quickstart.yaml --local\n")


@pytest.mark.parametrize("kind", ["quickstart", "default", "experiments", "real-data", "ground-truths"])
def test_a_written_file_is_the_shipped_one_and_valid(invoke, kind):
    result = invoke("init", kind, "a study")
    (written,) = Path("a study").iterdir()
    (source,) = STARTERS[kind].sources
    text = written.read_text(encoding="utf-8")
    assert yaml.safe_load(text) == yaml.safe_load((REPOSITORY / source).read_text(encoding="utf-8"))
    assert f"--config '{written}' --local" in text
    assert "$schema" not in text
    if kind != "real-data":  # which wants a package for its data
        assert invoke("config", "validate", str(written)).exit_code == 0
    commands = [shlex.split(line[6:]) for line in result.stdout.splitlines()[1:]]
    assert all(str(written) in words and words[0] == "lambda-hat" for words in commands)


def test_the_network_of_ones_own_is_found_by_its_study(invoke):
    result = invoke("init", "own-network", "net")
    assert result.stdout.splitlines()[:4] == [
        "net/networks.py", "net/study.yaml", "net/experiments.yaml", "next  python net/networks.py",
    ]  # fmt: skip
    for name in ("study.yaml", "experiments.yaml"):
        file, _, function = str(load_file(f"net/{name}").sections.entries[0].build).partition(":")
        assert Path(file) == Path.cwd() / "net" / "networks.py"
        assert f"def {function}(checkpoint):" in Path(file).read_text(encoding="utf-8")


def test_all_cards_come_in_their_folders(invoke):
    result = invoke("init", "cards", "mine")
    assert len(result.stdout.splitlines()) == len(list((REPOSITORY / "config/parsl").rglob("*.yaml")))
    text = Path("mine/parsl/slurm/cpu.yaml").read_text(encoding="utf-8")
    assert text in (REPOSITORY / "config/parsl/slurm/cpu.yaml").read_text(encoding="utf-8")


def test_notebooks_come_as_they_are(invoke):
    result = invoke("init", "notebooks", "mine")
    written = sorted(Path("mine/notebooks").iterdir())
    assert [path.name for path in written] == ["first_estimate.ipynb", "own_network.ipynb", "reading_a_study.ipynb"]
    for path in written:
        assert path.read_bytes() == (REPOSITORY / "examples/notebooks" / path.name).read_bytes()
    assert result.stdout.splitlines()[-1] == "next  jupyter lab mine/notebooks/first_estimate.ipynb"


def test_nothing_is_overwritten_and_nothing_half_written(invoke):
    Path("net").mkdir()
    Path("net/study.yaml").write_text("mine", encoding="utf-8")
    result = invoke("init", "own-network", "net")
    assert result.exit_code == 2
    assert result.stderr == (
        "Error: net/study.yaml is there already, and nothing was written. "
        "Name another folder: `lambda-hat init own-network FOLDER`.\n"
    )
    assert [path.name for path in Path("net").iterdir()] == ["study.yaml"]
    assert invoke("init", "default", "net/study.yaml").stderr == (
        "Error: net/study.yaml is a file: name a folder for the study.\n"
    )


def test_the_same_again_is_no_mistake(invoke):
    first = invoke("init")
    assert invoke("init").stdout == first.stdout
    Path("quickstart.yaml").write_text("mine", encoding="utf-8")
    assert invoke("init").exit_code == 2
    assert Path("quickstart.yaml").read_text(encoding="utf-8") == "mine"


def test_shipped_files_are_found_by_their_names_only(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = shipped_file("config/parsl/slurm/cpu.yaml")
    assert found is not None
    assert found.read_bytes() == (REPOSITORY / "config/parsl/slurm/cpu.yaml").read_bytes()
    assert shipped_file("config/parsl/../optuna/default.yaml") is None
    assert shipped_file("local.yaml") is None
    assert shipped_file("config/schema/study.json") is None
    assert shipped_file("config/parsl/other.yaml") is None


def test_a_folder_is_made(tmp_path):
    assert write_starter("quickstart", tmp_path / "a/b") == [tmp_path / "a/b/quickstart.yaml"]


def test_shipped_studies_run_by_their_names(invoke):
    result = invoke("config", "validate", "config/optuna/ground-truths.yaml")
    assert result.exit_code == 0, result.stderr
    result = invoke("workflow", "llc", "--config", "config/experiments.yaml", "--local", "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert str(Path("runs").resolve()) in result.stdout
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("init", "quickstrat"), "quickstart"),
        (("workflow", "optuna", "--config", "quickstrat.yaml"), "config/optuna/quickstart.yaml"),
        (("config", "validate", "config/experiments.yaml", "--parsl-card", "locl.yaml"), "config/parsl/local.yaml"),
        (("doctor", "--parsl-card", "locl.yaml"), "config/parsl/local.yaml"),
        (("config", "validate", "config/optuna/quickstart.yaml", "--set", "execution.parsl_card=locl.yaml"),
         "config/parsl/local.yaml"),
    ],
)  # fmt: skip
def test_similar_names_are_suggested(invoke, words, meant):
    assert f"Did you mean `{meant}`?" in invoke(*words).stderr


def test_names_that_share_their_ending_alone_are_not(invoke):
    Path("syn.yaml").write_text("", encoding="utf-8")
    assert "Did you mean" not in invoke("config", "validate", "nope.yaml").stderr
