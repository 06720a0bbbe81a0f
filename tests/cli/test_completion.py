"""What a shell is offered, by the words that are typed so far."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from lambda_hat.cli.app import cli


@pytest.fixture
def offered(folder):
    run = folder / "runs" / "quickstart" / "v1"
    for place in ("meta", "problems/p_0123456789ab", "trials/p_0123456789ab/sgld/r_aaaaaaaaaaaa"):
        (run / place).mkdir(parents=True)

    def offered(*words: str) -> list[str]:
        *before, incomplete = words
        found = ShellComplete(cli, {}, "lambda-hat", "_LAMBDA_HAT_COMPLETE").get_completions(list(before), incomplete)
        return [item.value if item.type == "plain" else f"<{item.type}>" for item in found]

    return offered


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("re",), ["report"]),
        (("init", "ow"), ["own-network"]),
        (("report", ""), ["runs/quickstart/v1"]),
        (("report", "elsewhere/"), ["<dir>"]),
        (("diagnose", "runs/quickstart/v1", "r_"), ["r_aaaaaaaaaaaa"]),
        (("artifacts", "show", ""), ["p_0123456789ab", "r_aaaaaaaaaaaa"]),
        (("artifacts", "show", "--root", "none", ""), []),
        (("config", "schema", "sg"), ["sghmc", "sgld"]),
        (("config", "validate", "st"), ["<file>"]),
        (("doctor", "--parsl-card", "config/parsl/slurm/c"), ["config/parsl/slurm/cpu.yaml"]),
        (("doctor", "--parsl-card", "mine"), ["<file>"]),
        (("workflow", "optuna", "--set", "optuna.pr"), ["optuna.pruner."]),
        (("workflow", "optuna", "--set", "optuna.pruner.t"), ["optuna.pruner.type="]),
        (("workflow", "optuna", "--set", "optuna.pruner.type=m"), ["optuna.pruner.type=median"]),
        (("workflow", "optuna", "--set", "samplers.sgld.et"), ["samplers.sgld.eta0="]),
        (("workflow", "optuna", "--set", "samplers.s"), ["samplers.sghmc.", "samplers.sgld."]),
        (("workflow", "optuna", "--set", "targ"), []),
        (("workflow", "llc", "--set", "targ"), ["targets="]),
        (("config", "validate", "config/optuna/quickstart.yaml", "--set", "t"), []),
        (("config", "validate", "--config", "config/experiments.yaml", "--set", "t"), ["targets="]),
        (("config", "validate", "--config", "not-there.yaml", "--set", "t"), ["targets="]),
    ],
)  # fmt: skip
def test_what_fits_is_offered(offered, words, expected):
    assert sorted(offered(*words)) == expected


def test_every_command_has_an_example():
    def commands(group, path):
        for name, command in group.commands.items():
            yield " ".join((*path, name)), command.help
            if hasattr(command, "commands"):
                yield from commands(command, (*path, name))

    without = [name for name, text in commands(cli, ()) if f"  lambda-hat {name}" not in text]
    assert without == []
    assert "  lambda-hat init" in str(cli.help)


def test_the_docs_say_how_to_switch_it_on():
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    for shell in ("bash", "zsh", "fish"):
        assert f"_LAMBDA_HAT_COMPLETE={shell}_source lambda-hat" in page
