"""Writes the generated pages and schemas: `python scripts/generate_docs.py [--check]`.

That is `docs/configuration.md` (every key of the study file and the card), `docs/cli.md` (every command and option),
`docs/api.md` (what the package exports),
the columns of the tables in `docs/results.md`, and `config/schema/*.json` (for editors). `--check` writes nothing and
ends with code 1 if one of them is not up to date.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import click
from api_page import api_page
from pydantic import BaseModel

from lambda_hat.cli.app import cli
from lambda_hat.config.card import AnyCard
from lambda_hat.config.describe import expected, fields_of
from lambda_hat.config.experiments import Experiments
from lambda_hat.config.explain import json_schema, schema_names
from lambda_hat.config.methods import METHODS
from lambda_hat.config.problems import TARGETS
from lambda_hat.config.resolve import load_preset, preset_names
from lambda_hat.config.study import Study
from lambda_hat.records.columns import Row
from lambda_hat.records.rows import AcrossRow, ConfirmedRow, TrialRow

REPOSITORY = Path(__file__).resolve().parents[1]
TABLES: dict[str, type[Row]] = {"optuna_trials": TrialRow, "confirmed": ConfirmedRow, "across_problems": AcrossRow}
NOTE = "<!-- Written by scripts/generate_docs.py; change the code instead. -->\n"
INTRODUCTION = """\
A study is one YAML file. Keys that it leaves out have the defaults given here. `lambda-hat config validate FILE`
finds mistakes and tells them together. `lambda-hat config show FILE` prints the file with all defaults and says where
each value came from. `--set KEY=VALUE` changes one value for one command.

![A study file with all defaults, and where each value came from](figures/origins.svg)

The shipped files begin with a line such as `# yaml-language-server: $schema=../schema/study.json`, for editors with a
YAML language server. `lambda-hat config schema study` prints that schema.
"""
EXIT_CODES = """\
## Exit codes

| code | meaning |
| --- | --- |
| 0 | success |
| 1 | something failed while running: executors, a target, a full disk, a mistake in the program |
| 2 | a mistake in the command line or the configuration, or a run's folder in the wrong state |
| 3 | too many trials failed (`optuna.max_failed_fraction`) |
| 4 | a reference could not be certified (`reference.on_uncertified: warn` continues all the same) |
| 129 | hung up (SIGHUP) |
| 130 | interrupted (Ctrl-C, SIGINT) |
| 143 | terminated (SIGTERM) |

## Completion

Shells complete commands, options, runs under `runs`, ids of problems and trials, cards that ship, names of schemas,
and the keys of `--set` with their values. Switch it on in the start-up file of your shell:

| shell | file | line |
| --- | --- | --- |
| bash ≥ 4.4 | `~/.bashrc` | `eval "$(_LAMBDA_HAT_COMPLETE=bash_source lambda-hat)"` |
| zsh | `~/.zshrc` | `eval "$(_LAMBDA_HAT_COMPLETE=zsh_source lambda-hat)"` |
| fish | `~/.config/fish/completions/lambda-hat.fish` | `_LAMBDA_HAT_COMPLETE=fish_source lambda-hat \\| source` |

## Output

Results go to stdout, everything else to stderr. `NO_COLOR` is honoured. If stderr is no terminal, progress is one line
per study every 30 seconds.
"""


def pages() -> dict[str, str]:
    """The text of every generated file, by its path in the repository."""
    schemas = {name: json_schema(name) for name in schema_names() if name not in METHODS}
    return {
        "docs/configuration.md": configuration(),
        "docs/cli.md": commands(),
        "docs/api.md": api_page().replace("\n\n", f"\n\n{NOTE}\n", 1),
        "docs/results.md": with_columns((REPOSITORY / "docs/results.md").read_text(encoding="utf-8")),
        **{
            f"config/schema/{name}.json": json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
            for name, schema in schemas.items()
        },
    }


def configuration() -> str:
    """The page of every key, by section."""
    parts = [
        f"# Configuration\n\n{NOTE}",
        INTRODUCTION,
        "## The study file\n",
    ]
    for path, model in walk(Study, ()):
        parts.append(section(path, model, 3))
    parts.append("## The experiments file\n")
    parts.append("`lambda-hat workflow llc` runs this file. Sections that a study also has mean the same here.\n")
    for path, model in walk(Experiments, ()):
        if not path or path[0] == "samplers" or path == ("store",):
            parts.append(section(path, model, 3))
    parts.append("## Targets: what `overrides` may change\n")
    parts.append(
        "An entry of `problems` names a target, presets (`mlp` only) and a seed. `overrides` changes values of the "
        "presets. Keys are dotted (`data.noise_scale: 0.2`) or nested.\n"
    )
    first = next(iter(TARGETS))
    for name, problem in TARGETS.items():
        for path, model in walk(problem, (name,)):
            if path[-1] != "localization" or name == first:  # it is the same everywhere
                parts.append(section(path, model, 3))
    parts.append("## Presets\n")
    for kind in ("model", "data", "teacher", "sampler"):
        for preset in preset_names(kind):
            values = json.dumps(load_preset(kind, preset), ensure_ascii=False)
            parts.append(f"- `{kind}/{preset}`: `{values}`")
    parts.append("\n## Methods: what `search_space` and `samplers` may set\n")
    for name, settings in METHODS.items():
        parts.append(section((name,), settings, 3))
    parts.append("## The Parsl card\n")
    for card in get_args(AnyCard):
        for path, model in walk(card, ()):
            kind = fields_of(card)["type"]
            title = f"type: {get_args(kind.annotation)[0]}" if not path else ""
            parts.append(section(path, model, 3 if not path else 4, title))
    return "\n".join(parts).rstrip() + "\n"


def with_columns(page: str) -> str:
    """The page with the columns of each table between its marks `<!-- columns: NAME -->` and `<!-- end -->`."""
    for name, kind in TABLES.items():
        mark = f"<!-- columns: {name} -->\n"
        before, rest = page.split(mark)
        _, after = rest.split("<!-- end -->", maxsplit=1)
        page = f"{before}{mark}\n{column_table(kind)}\n<!-- end -->{after}"
    return page


def column_table(kind: type[Row]) -> str:
    """What every column of a table is."""
    rows = ["| column | unit | what it is |", "| --- | --- | --- |"]
    for column in kind.columns().values():
        rows.append(f"| `{column.name}` | {column.unit} | {cell(column.sentence)} |")
    return "\n".join(rows) + "\n"


def walk(annotation: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], type[BaseModel]]]:
    """Every section below a type, with the path of its keys."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield path, annotation
        for name, field in fields_of(annotation).items():
            yield from walk(field.annotation, (*path, name))
    elif get_origin(annotation) is dict:
        name = "<name>" if path[-1] in ("<method>", "<name>") else "<method>"
        yield from walk(get_args(annotation)[1], (*path, name))
    elif get_origin(annotation) is tuple:
        yield from walk(get_args(annotation)[0], (*path, "<i>"))
    else:
        for part in get_args(annotation):
            if not isinstance(part, str):
                yield from walk(part, path)


def section(path: tuple[str, ...], model: type[BaseModel], level: int, title: str = "") -> str:
    """A heading, what the section is, and a table of its keys."""
    rows = []
    for name, field in fields_of(model).items():
        meaning = (field.description or "").replace("\n", " ")
        rows.append(f"| `{name}` | {cell(expected(field))} | {cell(default_of(field))} | {cell(meaning)} |")
    name = title or (f"`{'.'.join(path)}`" if path else "sections")
    if path and path[0] == "search_space":
        name += f" (`dist: {get_args(fields_of(model)['dist'].annotation)[0]}`)"
    text = " ".join((model.__doc__ or "").split())
    head = "| key | expected | default | meaning |\n| --- | --- | --- | --- |"
    return "\n".join([f"{'#' * level} {name}\n", f"{text}\n", head, *rows, ""])


def default_of(field: Any) -> str:
    """The default as YAML has it; empty where the key is required."""
    if field.is_required():
        return "*required*"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "as below"
    if value == "":
        return "empty"
    if isinstance(value, tuple):
        value = list(value)
    return f"`{json.dumps(value, ensure_ascii=False)}`" if not isinstance(value, str) else f"`{value}`"


def cell(text: str) -> str:
    """Text that a cell of a Markdown table can hold."""
    return text.replace("|", "\\|").replace("<", "&lt;") if "`" not in text else text.replace("|", "\\|")


def commands() -> str:
    """The page of every command with its options."""
    parts = [f"# Command line\n\n{NOTE}", "![All commands](figures/commands.svg)\n"]
    parts += list(command_sections(cli, ("lambda-hat",)))
    parts.append(EXIT_CODES)
    return "\n".join(parts).rstrip() + "\n"


def command_sections(command: click.Command, path: tuple[str, ...]) -> Iterator[str]:
    """One section per command, groups before what is in them."""
    context = click.Context(command, info_name=" ".join(path), **cli.context_settings)
    usage = command.get_usage(context).removeprefix("Usage: ")
    lines = [f"## `{' '.join(path)}`\n" if len(path) > 1 else "", f"{help_text(command)}\n"]
    lines += [f"```text\n{usage}\n```\n"]
    options = [option for option in command.get_params(context) if isinstance(option, click.Option)]
    shown = [option.get_help_record(context) for option in options if not option.hidden]
    if shown:
        lines += ["| option | meaning |", "| --- | --- |"]
        lines += [f"| `{record[0].replace('|', chr(92) + '|')}` | {cell(record[1])} |" for record in shown if record]
        lines.append("")
    yield "\n".join(lines)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None and not child.hidden:
                yield from command_sections(child, (*path, name))


def help_text(command: click.Command) -> str:
    """The help of a command; its paragraphs that keep their lines, such as examples, as blocks of code."""
    parts = inspect.cleandoc(command.help or "").split("\n\n")
    return "\n\n".join(as_block(part.removeprefix("\b\n")) if part.startswith("\b\n") else part for part in parts)


def as_block(text: str) -> str:
    """Indented lines as a block of code, below the lines before them."""
    lines = text.splitlines()
    before = [line for line in lines if not line.startswith("  ")]
    code = "\n".join(line.removeprefix("  ") for line in lines if line.startswith("  "))
    return "\n".join([*before, *([""] if before else []), f"```text\n{code}\n```"])


def main() -> None:
    """Write the pages, or check them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true")
    is_check = parser.parse_args().check
    stale = []
    for name, text in pages().items():
        path = REPOSITORY / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not is_check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
    if is_check and stale:
        sys.exit(f"Not up to date: {', '.join(stale)}. Run `python scripts/generate_docs.py`.")


if __name__ == "__main__":
    main()
