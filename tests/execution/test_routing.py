import subprocess
import sys

import pytest

from lambda_hat.config.card import LocalCard, LocalExecutor, SlurmCard
from lambda_hat.config.study import ExecutorMap
from lambda_hat.errors import ConfigError
from lambda_hat.execution.routing import (
    Route,
    check_labels,
    effective_map,
    executor_for,
    labels_of,
    single_executor_warning,
)

BOTH = ("htex64", "htex32")


@pytest.mark.parametrize(
    ("role", "method", "labels", "expected"),
    [
        ("hmc", "sgld", BOTH, "htex64"),
        ("method", "hmc", BOTH, "htex64"),
        ("method", "mclmc", BOTH, "htex64"),
        ("method", "sgld", BOTH, "htex32"),
        ("method", "sghmc", BOTH, "htex32"),
        ("method", "vi", BOTH, "htex32"),
        ("method", "vi", (*BOTH, "gpu"), "htex32"),
        ("hmc", "hmc", ("htex64", "gpu"), "htex64"),
        ("hmc", "hmc", ("gpu",), "gpu"),
        ("method", "mclmc", ("htex32",), "htex32"),
    ],
)
def test_auto_follows_the_rules(role, method, labels, expected):
    route = executor_for(role, method, ExecutorMap(), labels)
    assert (route.label, route.is_explicit) == (expected, False)


def test_explicit_wins():
    executor_map = ExecutorMap(hmc="htex32", methods={"sgld": "htex64"})
    assert executor_for("hmc", "hmc", executor_map, BOTH) == Route("htex32", True, "execution.executor_map.hmc")
    assert executor_for("method", "sgld", executor_map, BOTH).label == "htex64"
    assert executor_for("method", "hmc", executor_map, BOTH).label == "htex64", "`hmc:` names references only"


def test_auto_without_a_rule_lists_the_labels():
    with pytest.raises(ConfigError, match="found `htex64`, `gpu`"):
        executor_for("method", "sgld", ExecutorMap(), ("htex64", "gpu"))


def test_all_label_faults_come_together():
    executor_map = ExecutorMap(hmc="htx64", methods={"vi": "cpu"})
    faults = check_labels(executor_map, {"htex32": 3, "htex_32": 2}, ["sgld", "vi"], BOTH)
    assert [str(fault) for fault in faults] == [
        "execution.executor_map.hmc: `htx64` is no executor of the Parsl card; found `htex64`, `htex32`.\n"
        "    Did you mean `htex64`?",
        "execution.executor_map.methods.vi: `cpu` is no executor of the Parsl card; found `htex64`, `htex32`.\n"
        "    `--set execution.executor_map={}` names no executors: each is chosen by precision.",
        "optuna.concurrency.per_executor.htex_32: `htex_32` is no executor of the Parsl card; "
        "found `htex64`, `htex32`.\n    Did you mean `htex32`?",
    ]


def test_no_faults_in_a_good_map():
    assert check_labels(ExecutorMap(hmc="htex64"), {"htex32": 3}, ["sgld", "vi", "mclmc"], BOTH) == []


def test_effective_map_and_its_one_warning():
    routes = effective_map(ExecutorMap(hmc="gpu"), ["sgld", "vi"], ["gpu"])
    assert {key: (route.label, route.is_explicit) for key, route in routes.items()} == {
        "hmc": ("gpu", True),
        "methods.sgld": ("gpu", False),
        "methods.vi": ("gpu", False),
    }
    assert single_executor_warning(routes, ["gpu"]) == (
        "The card has one executor, `gpu`: methods.sgld, methods.vi go there."
    )
    assert single_executor_warning(effective_map(ExecutorMap(), ["sgld"], BOTH), BOTH) is None


def test_labels_of_cards():
    assert labels_of(LocalCard(executors=(LocalExecutor(label="a"), LocalExecutor(label="b")))) == ("a", "b")
    assert labels_of(SlurmCard(type="slurm")) == ("htex_slurm",)


@pytest.mark.slow
def test_routing_and_resources_import_nothing_heavy():
    code = (
        "import sys, lambda_hat.execution.routing, lambda_hat.execution.resources;"
        "print(sorted({'jax', 'optuna', 'parsl'} & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output == "[]\n"
