"""What can be known before a run is said before it: by `config validate`, a dry run and the run, in the same words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
TPE = (
    "`consider_prior`, `prior_weight`, `consider_magic_clip`, `consider_endpoints`, `n_ei_candidates`, `multivariate`, "
    "`group`, `warn_independent_sampling`, `constant_liar`"
)
FAULTS = {
    "optuna.sampler.options={nope: 1}": f"optuna.sampler.options.nope: unknown option of `tpe`; expected one of {TPE}",
    "optuna.sampler.options={n_ei_candidate: 1}": "optuna.sampler.options.n_ei_candidate: unknown option of `tpe`; "
    f"expected one of {TPE}\n    Did you mean `n_ei_candidates`?",
    'optuna.sampler={type: tpe, n_startup_trials: 1, options: {n_ei_candidates: "24"}}': "optuna.sampler.options."
    "n_ei_candidates: found '24' (text), expected a whole number\n    Remove the quotes.",
    "optuna.sampler.options={n_ei_candidates: 0}": "optuna.sampler.options: tpe cannot search with them: ValueError: "
    "The size of `samples` must be positive, but got 0.",
    "optuna.sampler.options={gamma: 3}": "optuna.sampler.options.gamma: takes what YAML cannot say; expected one of "
    f"{TPE}",
    "optuna.sampler.options={seed: 3}": "optuna.sampler.options.seed: not an option; `optuna.sampler` has a `seed` of "
    "its own\n    Move it next to `options`, as `seed:`.",
    "optuna.sampler={type: random, options: {group: true}}": "optuna.sampler.options.group: unknown option of "
    "`random`, which takes none",
    "optuna.sampler={type: qmc, options: {qmc_type: x}}": "optuna.sampler.options: qmc: The `qmc_type='x'` is invalid. "
    "Choose either `halton` or `sobol`.",
    "execution.executor_map.hmc=gpu": "execution.executor_map.hmc: `gpu` is no executor of the Parsl card; found "
    "`htex64`, `htex32`.\n    `--set execution.executor_map={}` names no executors: each is chosen by precision.",
    "samplers.sgld.chunk_size=3000000000": "samplers.sgld.chunk_size: found 3000000000, expected at most 2147483647",
}


@pytest.mark.parametrize("argument", FAULTS)
def test_it_is_said_in_the_same_words_with_the_same_code(invoke, argument):
    expected = f'--set "{argument}"  {FAULTS[argument]}\n'
    options = ("--config", "study.yaml", "--inline", "--set", argument)
    for command in (("config", "validate"), ("workflow", "optuna", "--dry-run"), ("workflow", "optuna")):
        result = invoke(*command, *options)
        assert (result.exit_code, result.stdout, result.stderr) == (2, "", expected)
    assert not Path("runs").exists()


BATCHES = {
    ("search_space.sgld.batch={dist: categorical, choices: [32, 128, 256]}",): "`search_space.sgld.batch` 128, 256",
    ("search_space.sgld.batch={dist: int, low: 50, high: 500, step: 50}",): "`search_space.sgld.batch` 101 to 500",
    ("samplers.sgld.batch=128",): "`samplers.sgld.batch` 128",
    ("methods=[vi]", "search_space={vi: {batch_size: {dist: categorical, choices: [100, 101]}}}"): (
        "`search_space.vi.batch_size` 101"
    ),
    ("methods=[sghmc]", "search_space={sghmc: {batch: {dist: int, low: 200, high: 300}}}"): (
        "`search_space.sghmc.batch` 200 to 300"
    ),
    ("search_space.sgld.batch={dist: categorical, choices: [32, 100]}",): None,
}


@pytest.mark.parametrize("arguments", BATCHES)
def test_one_warning_names_the_batch_sizes_above_the_number_of_rows(invoke, arguments):
    options = ["--config", "study.yaml", "--local", *(word for text in arguments for word in ("--set", text))]
    validated = invoke("config", "validate", *options)
    plan = json.loads(invoke("workflow", "optuna", "--dry-run", "--json", *options).stdout)
    assert validated.exit_code == 0
    if BATCHES[arguments] is None:
        assert (plan["warnings"], "Warning" in validated.stderr) == ([], False)
        return
    warning = (
        f"A batch size above the number of rows takes all of them: {BATCHES[arguments]}, "
        "where `problems.0` has 100 rows."
    )
    assert plan["warnings"] == [warning]
    assert validated.stderr.startswith(f"Warning: {warning}\n")


def test_a_card_is_validated_as_a_card(invoke, folder):
    valid = invoke("config", "validate", "slurm.yaml", "--set", "walltime=02:00:00")
    assert (valid.exit_code, valid.stderr) == (0, "slurm.yaml is a valid card.\n")
    for text, expected in {
        "type: slurm\npartitions: x\nwalltime: 90\nmax_workers: 1\n": (
            "card.yaml:3:11  walltime: found 90, expected a time as [days-]HH:MM:SS\n    For 90 seconds write"
        ),
        "type: slurm\n": "card.yaml:1:1  max_workers: `auto` needs `cores_per_node` or `gpus_per_node`",
        "executors: [{label: a}]\n": "card.yaml  type: missing; expected one of `local`",
        "type: slrum\n": "Did you mean `slurm`?",
    }.items():
        Path("card.yaml").write_text(text)
        result = invoke("config", "validate", "card.yaml")
        assert (result.exit_code, "problems" in result.stderr) == (2, False)
        assert expected.removeprefix("card.yaml:1:1  ") in result.stderr
    assert json.loads(invoke("config", "show", "slurm.yaml", "--json").stdout)["walltime"] == "00:00:30"
    other = invoke("config", "validate", "slurm.yaml", "--local")
    assert (other.exit_code, "is a Parsl card: leave" in other.stderr) == (2, True)


def test_files_in_each_others_place_are_told_by_what_they_are(invoke):
    card_as_study = invoke("workflow", "optuna", "--config", "slurm.yaml", "--local")
    assert (card_as_study.exit_code, card_as_study.stderr) == (
        2,
        "slurm.yaml  found the keys of a Parsl card, expected a study file\n"
        "    Give it with `--parsl-card`, beside a file to run.\n",
    )
    study_as_card = invoke("workflow", "optuna", "--config", "study.yaml", "--parsl-card", "study.yaml")
    assert (study_as_card.exit_code, study_as_card.stderr) == (
        2,
        "study.yaml  found the keys of a study file, expected a Parsl card\n    Give it with `--config`.\n",
    )


DEFAULT = ("workflow", "optuna", "--config", "config/optuna/default.yaml")
PLANS_COMMANDS = [
    ((*DEFAULT, "--local", "--dry-run"), {"htex64", "htex32"}, 0),
    (
        (*DEFAULT, "--set", "optuna.max_trials_per_method=24", "--set", "optuna.concurrency.batch_size=6",
         "--set", "execution.budget.trial_sec=300"),
        {"htex64", "htex32"}, 0,
    ),
    ((*DEFAULT, "--parsl-card", "config/parsl/slurm/gpu-a100.yaml", "--set", "walltime=04:00:00"), {"htex_slurm"}, 1),
]  # fmt: skip


@pytest.mark.parametrize(("words", "labels", "num_warnings"), PLANS_COMMANDS)
def test_the_plans_commands_run_as_printed(invoke, monkeypatch, words, labels, num_warnings):
    monkeypatch.chdir(REPOSITORY)
    result = invoke(*words, *(() if "--dry-run" in words else ("--dry-run",)), "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    plan = json.loads(result.stdout)
    assert {route["label"] for route in plan["executor_map"].values()} == labels
    assert len(plan["warnings"]) == num_warnings


def test_an_exact_reference_has_no_bound(invoke):
    words = ("workflow", "optuna", "--config", "study.yaml", "--local", "--dry-run", "--json")
    plan = json.loads(invoke(*words, "--set", "reference=exact", "--set", "problems=[{target: potential}]").stdout)
    assert {bound["what"] for bound in plan["time_bounds"]} == {"trials", "confirmations"}
