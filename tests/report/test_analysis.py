"""What trials say together, on tables whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from lambda_hat.config.study import Objective
from lambda_hat.records.state import State
from lambda_hat.report.analysis import (
    best_so_far,
    best_trial,
    completed,
    doubts,
    objective_error,
    parameter_importances,
    parameters,
    pareto_front,
    priced,
)
from tests.report.conftest import reference_record, trial_row


def trial(number, objective, state=State.COMPLETE, **values):
    return trial_row(number=number, objective=objective, state=state, **values)


def tried(number, objective, **hyperparameters):
    return trial(number, objective, hyperparameters=hyperparameters)


def test_the_best_so_far_never_rises_and_forgets_what_was_pruned():
    trials = [trial(0, 0.5), trial(1, 1e-9, State.PRUNED), trial(2, 0.7), trial(3, None, State.FAIL), trial(4, 0.2)]
    assert best_so_far(trials) == ([0, 2, 4], [0.5, 0.5, 0.2])
    assert [row.number for row in completed(trials)] == [0, 2, 4]
    assert best_trial(trials) is trials[4]
    assert best_trial(trials[3:4]) is None
    broken, kept = trial(7, 0.1, violation=0.5), trial(8, 0.3, violation=0.0)
    assert best_trial([broken, kept]) is kept
    assert best_so_far([broken, kept]) == ([8], [0.3])
    assert best_trial([broken, trial(9, 0.2, violation=0.1)]) is broken


def test_the_hyperparameter_that_decides_is_found():
    rng = np.random.default_rng(0)
    trials = []
    for number in range(60):
        eta, idle, mode = rng.uniform(-3, 0), rng.uniform(), rng.choice(["a", "b"])
        objective = abs(eta + 1.5) + 0.05 * rng.uniform()
        trials.append(tried(number, objective, eta0=10**eta, idle=idle, mode=str(mode), one=1))
    shares = parameter_importances(trials)
    assert next(iter(shares)) == "eta0"
    assert shares["eta0"] > 0.5
    assert max(shares["idle"], shares["mode"]) < 0.15
    assert parameters(trials) == ["eta0", "idle", "mode"]


def test_a_category_that_decides_is_found():
    trials = [tried(n, 1.0 + n % 2 + 0.001 * n, mode="ab"[n % 2], steps=n) for n in range(20)]
    assert parameter_importances(trials)["mode"] == pytest.approx(1 - 165 / 665 * 19 / 18, abs=0.01)


def test_few_trials_say_nothing_of_importances():
    assert parameter_importances([tried(n, float(n), eta0=float(n)) for n in range(7)]) == {}


def test_equal_objectives_have_no_importances():
    assert parameter_importances([tried(n, 1.0, eta0=float(n)) for n in range(9)]) == {"eta0": 0.0}


def test_the_front_holds_what_nothing_beats():
    points = [(100, 0.5), (200, -0.1), (200, 0.3), (300, 0.2), (400, 0.05), (50, None)]
    trials = [trial(n, 0.0, num_gradient_evaluations=work, error=error) for n, (work, error) in enumerate(points)]
    assert [one.trial.number for one in pareto_front(priced(trials))] == [0, 1, 4]


def test_what_came_close_by_luck_is_doubted() -> None:
    rows = [
        trial_row(z=0.1, rhat=1.8),
        trial_row(z=0.1, rhat=1.01, reports={"k_hat": 2.0}),
        trial_row(z=0.1, rhat=1.01),
        trial_row(z=0.2),
    ]
    assert [len(doubts(row)) for row in rows] == [1, 1, 0, 0]


@pytest.mark.parametrize(("kind", "expected"), [("abs", 0.5), ("relative", 0.1), ("huber", None)])
def test_the_references_error_in_units_of_the_objective(kind, expected):
    reference = reference_record(llc=-5.0, se=0.5)
    assert objective_error(Objective(type=kind), reference) == expected
    assert objective_error(Objective(type=kind), None) is None
    assert objective_error(None, reference) is None
