"""Pictures of a terminal in `docs/figures`: `python scripts/terminal_figures.py [--run RUN]`.

Each shows what a command prints, as it prints it. `--run` names a finished run of the quick start, for the picture of
`artifacts ls`.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME
from rich.text import Text

REPOSITORY = Path(__file__).resolve().parents[1]
FIGURES = REPOSITORY / "docs" / "figures"
WIDTH = 96
_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)  # none is loaded from elsewhere


def printed(command: str, folder: Path) -> str:
    """What a command prints in `folder`, both streams, without places on this machine."""
    words = [sys.executable, "-m", "lambda_hat", *command.split()[1:]]
    done = subprocess.run(
        words,
        cwd=folder, env=os.environ | {"COLUMNS": str(WIDTH)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, check=False,
    )  # fmt: skip
    return done.stdout.replace(f"{REPOSITORY}/", "").replace(f"{folder}/", "").rstrip()


def part(text: str, first: str, last: str) -> str:
    """The lines from that which begins with `first` to before that which begins with `last`."""
    lines = text.splitlines()
    begin = next(index for index, line in enumerate(lines) if line.startswith(first))
    end = next(index for index, line in enumerate(lines) if index > begin and line.startswith(last))
    return "\n".join(lines[begin:end]).rstrip()


def picture(name: str, *shown: tuple[str, str]) -> None:
    """A terminal with commands and what each of them prints."""
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=WIDTH, file=nowhere)
        for command, text in shown:
            console.print(Text(f"$ {command}", style="bold"))
            console.print(Text(text))
        svg = console.export_svg(title="", theme=DEFAULT_TERMINAL_THEME, unique_id=name)
    plain = "\n".join(line.rstrip() for line in _FONTS.sub("", svg).splitlines())
    (FIGURES / f"{name}.svg").write_text(f"{plain}\n", encoding="utf-8")


def draw(folder: Path, run: Path | None) -> Iterator[str]:
    """Draw all pictures that there is something for, and name them."""
    printed("lambda-hat init quickstart", folder)
    study = (folder / "quickstart.yaml").read_text(encoding="utf-8")
    wrong = study.replace("eta0:", "eta_0:", 1).replace("max_trials_per_method: 24", "max_trials_per_method: many")
    (folder / "mine.yaml").write_text(wrong, encoding="utf-8")
    picture("commands", ("lambda-hat --help", printed("lambda-hat --help", folder)))
    yield "commands"
    check = "lambda-hat config validate mine.yaml"
    picture("mistakes", (check, printed(check, folder)))
    yield "mistakes"
    show = "lambda-hat config show quickstart.yaml --set optuna.max_trials_per_method=12"
    picture("origins", (show, "\n".join([*printed(show, folder).splitlines()[:22], "…"])))
    yield "origins"
    plan = "lambda-hat workflow optuna --config quickstart.yaml --local --dry-run"
    text = printed(plan, folder)
    picture(
        "plan", (plan, "\n".join(["…", part(text, "Executors", "Problems"), "…", part(text, "Sampling", "  in all")]))
    )
    yield "plan"
    if run is not None:
        shutil.copytree(run.parents[1], folder / "runs", ignore=shutil.ignore_patterns("parsl_runinfo"))
        picture("runs", ("lambda-hat artifacts ls", printed("lambda-hat artifacts ls", folder)))
        yield "runs"


def main() -> None:
    """Draw them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in draw(Path(folder), options.run):
            print(FIGURES / f"{name}.svg")


if __name__ == "__main__":
    main()
