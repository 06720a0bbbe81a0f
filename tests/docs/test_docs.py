"""The documentation is up to date, and what it tells people to type works as printed."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from lambda_hat.cli.app import cli
from lambda_hat.config import shipped
from lambda_hat.config.load import load_cfg

REPOSITORY = Path(__file__).parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
# Not run: they install, run the tests themselves, or ask for what this machine may not have.
NOT_RUN = (
    "pip install",
    "uv run pytest",
    "uv run ruff",
    "uv run basedpyright",
    "uv run lint-imports",
    "uv run pre-commit",
    ".ci/run",
    ".ci/nightly",
    "uv run --extra cuda",
)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands(page: Path) -> Iterator[str]:
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            for command in line.split("#")[0].split("&&"):
                if command.strip():
                    yield command.strip()


@pytest.mark.slow
def test_generated_pages_and_schemas_are_up_to_date():
    done = subprocess.run(
        [sys.executable, "scripts/generate_docs.py", "--check"],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_yaml_is_valid(page, tmp_path):
    for text in blocks(page, "yaml"):
        data = yaml.safe_load(text)
        whole = yaml.safe_load((REPOSITORY / "config/optuna/quickstart.yaml").read_text(encoding="utf-8"))
        for section, values in data.items():
            whole[section] = {**whole.get(section, {}), **values} if isinstance(values, dict) else values
        study = tmp_path / "study.yaml"
        study.write_text(yaml.safe_dump(whole), encoding="utf-8")
        load_cfg(study, local=True)


@pytest.fixture(scope="session")
def checkout(tmp_path_factory):
    """A folder like a fresh checkout, whose quick start has a rough reference and few trials, and confirms little."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(REPOSITORY / "config", folder / "config")
    study = folder / "config/optuna/quickstart.yaml"
    text = study.read_text(encoding="utf-8")
    for many, few in (
        ("max_trials_per_method: 24", "max_trials_per_method: 1"),
        ("hmc_sec: 600, trial_sec: 30}", "hmc_sec: 600, trial_sec: 300}"),  # for a machine that has much else to do
        ("top_k: 2, num_seeds: 4}", "top_k: 1, num_seeds: 2}\nreference: {max_relative_mcse: 0.1}"),
    ):
        text, num = re.subn(many, few, text)
        assert num == 1
    study.write_text(text, encoding="utf-8")
    return folder


def run(command: str, folder: Path) -> None:
    """Run a command in `folder`: in this process if it starts none itself, which saves seconds of imports."""
    words = shlex.split(command.removeprefix("uv run "))
    if words[0] == "lambda-hat" and ("--dry-run" in words or words[1] not in ("doctor", "report", "workflow")):
        result = CliRunner().invoke(cli, words[1:], prog_name="lambda-hat")
        code, output = result.exit_code, result.output
    else:
        if words[0] in ("lambda-hat", "python"):
            words = [sys.executable, *(["-m", "lambda_hat"] if words[0] == "lambda-hat" else []), *words[1:]]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
        code, output = done.returncode, done.stdout + done.stderr
    assert code == 0, f"{command}\n{output[-4000:]}"


@pytest.mark.slow
def test_commands_that_start_nothing_work_as_printed(checkout, monkeypatch):
    """What the pages say to try before a study, in this process."""
    monkeypatch.chdir(checkout)
    monkeypatch.setattr(shipped, "_ROOTS", (checkout, *shipped._ROOTS))  # what `init` writes copies of
    pages = [command.removeprefix("uv run ") for page in PAGES for command in commands(page)]
    tried = [
        command
        for command in dict.fromkeys(pages)
        if command.startswith(("lambda-hat init", "lambda-hat config", "cp "))
        or ("--dry-run" in command and "workflow" in command)
    ]
    for command in tried:
        run(command.replace(" --resume", ""), checkout)  # there is nothing to go on with
    assert len(tried) >= 10


@pytest.mark.nightly
def test_commands_work_as_printed(checkout, monkeypatch):
    """One after the other, since later ones look at what earlier ones leave; the same one is not run twice."""
    monkeypatch.chdir(checkout)
    monkeypatch.setattr(shipped, "_ROOTS", (checkout, *shipped._ROOTS))  # what `init` writes copies of
    done = set()
    order = sorted(PAGES, key=lambda page: ("quickstart" not in page.name, page.name == "README.md", page.name))
    for page in order:
        for command in commands(page):
            words = command.removeprefix("uv run ")
            if words not in done and not command.startswith(NOT_RUN):
                done.add(words)
                run(command, checkout)
        for program in blocks(page, "python") if page.name != "README.md" else ():
            run(shlex.join(["python", "-c", program]), checkout)
    assert len(done) >= 15


def test_every_message_of_the_troubleshooting_page_is_one_that_the_program_has():
    source = "\n".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "lambda_hat").rglob("*.py"))
    joined = re.sub(r'"\s*\n\s*f?"', "", source)
    page = (REPOSITORY / "docs/troubleshooting.md").read_text(encoding="utf-8")
    missing = []
    for title in re.findall(r"^\*\*(.*?)\*\*$", page, re.MULTILINE):
        for message in re.findall(r"`(.*?)`", title):
            for part in re.split(r"…|\d+%", message):
                words = part.strip(" .:,")
                if len(words.split()) >= 2 and words.replace("Pass --resume", "Pass `--resume`") not in joined:
                    missing.append(words)
    assert missing == []


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
