"""What a search space allows is what comes out."""

import re

import optuna
import pytest

from lambda_hat.config.study import CategoricalDist, FloatDist, IntDist, PrunerSpec, SearchAlgorithm
from lambda_hat.errors import ConfigError
from lambda_hat.tuning.algorithms import build_pruner, build_search_algorithm
from lambda_hat.tuning.grid import GridSearch
from lambda_hat.tuning.space import nearest_params, suggest_params_from_yaml

SPACE = {
    "eta0": FloatDist(dist="float", low=1e-6, high=1e-1, log=True),
    "gamma": FloatDist(dist="float", low=0.3, high=1.0),
    "batch": CategoricalDist(dist="categorical", choices=(32, 64)),
    "precond_type": CategoricalDist(dist="categorical", choices=("none", "adam")),
    "steps": IntDist(dist="int", low=5_000, high=20_000, step=1_000),
}


@pytest.mark.parametrize("algorithm", ["tpe", "random", "qmc", "grid"])
@pytest.mark.parametrize("pruner", ["median", "hyperband", "none"])
def test_values_lie_in_the_space_and_have_its_types(algorithm, pruner):
    study = optuna.create_study(
        sampler=build_search_algorithm(SearchAlgorithm(type=algorithm, n_startup_trials=3), 0, SPACE),
        pruner=build_pruner(PrunerSpec(type=pruner)),
    )
    for _ in range(12):
        trial = study.ask()
        params = suggest_params_from_yaml(trial, SPACE)
        trial.report(1.0, 1)
        trial.should_prune()
        study.tell(trial, params["eta0"])
        assert list(params) == list(SPACE)
        assert 1e-6 <= params["eta0"] <= 1e-1
        assert 0.3 <= params["gamma"] <= 1.0
        assert params["batch"] in (32, 64)
        assert params["precond_type"] in ("none", "adam")
        assert type(params["steps"]) is int
        assert params["steps"] % 1_000 == 0


def test_plain_dicts_are_taken_as_yaml_has_them():
    plain = {name: distribution.to_dict() for name, distribution in SPACE.items()}
    first, second = (
        suggest_params_from_yaml(optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask(), space)
        for space in (plain, SPACE)
    )
    assert first == second
    assert type(first["steps"]) is int


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"dist": "normal"}, "x.dist: found 'normal', expected one of `float`, `int`, `categorical`"),
        ({"low": 0, "high": 1}, "x.dist: missing; expected one of `float`, `int`, `categorical`"),
        ({"dist": "float", "low": 0}, "x.high: missing; expected a number"),
        ({"dist": "int", "low": 0, "high": "1"}, "x.high: found '1' (text), expected a whole number"),
    ],
)
def test_a_dict_that_is_no_distribution_is_an_error(spec, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        suggest_params_from_yaml(optuna.create_study().ask(), {"x": spec})


def test_an_option_that_the_algorithm_lacks_is_a_configuration_error():
    with pytest.raises(ConfigError, match=r"optuna\.sampler\.options: random: .*n_ei_candidates"):
        build_search_algorithm(SearchAlgorithm(type="random", options={"n_ei_candidates": 3}), 0, SPACE)
    with pytest.raises(ConfigError, match=r"optuna\.sampler\.options: tpe: .*seed"):
        build_search_algorithm(SearchAlgorithm(options={"seed": 3}), 0, SPACE)


def test_an_algorithm_without_its_package_says_so(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"optuna\.sampler\.type: `cmaes` needs the package"):
        build_search_algorithm(SearchAlgorithm(type="cmaes"), 0, SPACE)


def test_known_settings_move_into_the_space():
    settings = {"eta0": 1.0, "gamma": 0, "batch": 128, "precond_type": "none", "steps": 5_600, "num_chains": 4}
    assert nearest_params(settings, SPACE) == {"eta0": 0.1, "gamma": 0.3, "precond_type": "none", "steps": 6_000}
    study = optuna.create_study()
    study.enqueue_trial(nearest_params(settings, SPACE))
    assert suggest_params_from_yaml(study.ask(), SPACE).items() >= nearest_params(settings, SPACE).items()


def test_a_truth_value_is_no_choice_of_one():
    space = {"batch": CategoricalDist(dist="categorical", choices=(1, True))}
    assert nearest_params({"batch": True}, space)["batch"] is True


def suggestions(sampler, num, enqueued=()):
    study = optuna.create_study(sampler=sampler)
    for params in enqueued:
        study.enqueue_trial(params)
    found = []
    for _ in range(num):
        trial = study.ask()
        found.append(tuple(suggest_params_from_yaml(trial, GRID).values()))
        study.tell(trial, 1.0)
    return found


GRID = {
    "eta0": FloatDist(dist="float", low=1e-3, high=1e-1, log=True),
    "gamma": FloatDist(dist="float", low=0.0, high=1.0),
    "batch": CategoricalDist(dist="categorical", choices=(32, 64)),
    "steps": IntDist(dist="int", low=1000, high=3000, step=1000),
}


def test_a_grid_tries_every_point_once_and_then_again():
    found = suggestions(GridSearch(GRID, points=3, seed=1), 55)
    assert len(set(found[:54])) == 54
    assert found[54] == found[0]
    assert [sorted(set(values)) for values in zip(*found, strict=True)] == [
        [0.001, pytest.approx(0.01), 0.1], [0.0, 0.5, 1.0], [32, 64], [1000, 2000, 3000],
    ]  # fmt: skip
    assert found == suggestions(GridSearch(GRID, points=3, seed=1), 55)
    assert found != suggestions(GridSearch(GRID, points=3, seed=2), 55)


def test_what_is_enqueued_takes_no_point_of_the_grid():
    mine = {"eta0": 0.05, "gamma": 0.3, "batch": 32, "steps": 2000}
    found = suggestions(GridSearch(GRID, points=3, seed=1), 3, enqueued=[mine])
    assert found[0] == tuple(mine.values())
    assert found[1:] == suggestions(GridSearch(GRID, points=3, seed=1), 2)


def test_a_grid_that_makes_no_sense_is_refused():
    for options, message in (({"points": 1}, "at least 2 wanted"), ({"points": 2000}, "the grid has 24000000 points")):
        with pytest.raises(ConfigError, match=f"optuna.sampler.options: grid: .*{message}"):
            build_search_algorithm(SearchAlgorithm(type="grid", options=options), 0, GRID)
