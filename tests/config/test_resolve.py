from __future__ import annotations

from itertools import pairwise

import pytest

from lambda_hat.artifacts.ids import problem_id
from lambda_hat.config.methods import METHODS, hyperparameter_names, parse_settings, program_of
from lambda_hat.config.problems import (
    TARGETS,
    LocalizationRadius,
    MLPProblem,
    PosteriorSpec,
    ProblemEntry,
    QuadraticProblem,
)
from lambda_hat.config.resolve import load_preset, preset_names, resolve_problem, resolve_sampler
from lambda_hat.errors import ConfigError


def num_parameters(problem: MLPProblem) -> int:
    model = problem.model
    widths = [model.in_dim, *[model.width] * model.depth, model.out_dim]
    return sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(widths))


def test_the_small_model_has_45_parameters() -> None:
    problem = resolve_problem(ProblemEntry())
    assert isinstance(problem, MLPProblem)
    assert num_parameters(problem) == 45
    assert problem.data.num_data == 100
    assert (problem.teacher.depth, problem.teacher.width, problem.teacher.activation) == (None, None, None)


@pytest.mark.parametrize("model", preset_names("model"))
@pytest.mark.parametrize("data", preset_names("data"))
@pytest.mark.parametrize("teacher", preset_names("teacher"))
def test_every_combination_of_presets_is_a_problem(model: str, data: str, teacher: str) -> None:
    problem = resolve_problem(ProblemEntry(model=model, data=data, teacher=teacher, seed=3))
    assert isinstance(problem, MLPProblem)
    assert problem.seed == 3
    assert problem.model.activation == "tanh"


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_preset_that_it_takes_whole(method: str) -> None:
    preset = load_preset("sampler", method)
    assert preset.keys() <= set(hyperparameter_names(method))
    parse_settings(method, preset)


@pytest.mark.parametrize(
    ("entry", "pid"),
    [
        ({"seed": 42}, "p_8c71f44a9183"),
        ({"model": "base", "data": "base", "teacher": "small"}, "p_96793f2ab15d"),
        ({"target": "quadratic"}, "p_38a770c481ef"),
        ({"target": "linear_regression"}, "p_f6f529fdae20"),
        ({"target": "potential"}, "p_842466570792"),
        ({"target": "deep_linear"}, "p_a3e59c15786b"),
        ({"target": "reduced_rank", "overrides": {"rank": 1, "posterior.localization": 2.5}}, "p_3220ff2a4b0b"),
    ],
    ids=lambda value: value.get("target", "mlp") if isinstance(value, dict) else value,
)
def test_a_problem_keeps_the_id_that_its_stored_reference_has(entry: dict[str, object], pid: str) -> None:
    assert problem_id(resolve_problem(ProblemEntry(**entry)).to_dict()) == pid


def test_kinds_are_listed_in_their_order() -> None:
    names = ("mlp", "quadratic", "linear_regression", "potential", "deep_linear", "reduced_rank", "real_data", "python")
    assert tuple(TARGETS) == names
    assert ProblemEntry().target == "mlp"


def test_dotted_nested_and_mixed_overrides_are_the_same() -> None:
    dotted = {"data.noise_scale": 0.5, "data.num_data": 7, "posterior.localization.radius": 0.3}
    nested = {"data": {"noise_scale": 0.5, "num_data": 7}, "posterior": {"localization": {"radius": 0.3}}}
    mixed = {"data": {"noise_scale": 0.5}, "data.num_data": 7, "posterior": {"localization.radius": 0.3}}
    problems = [resolve_problem(ProblemEntry(overrides=overrides)) for overrides in (dotted, nested, mixed)]
    assert problems[0] == problems[1] == problems[2]
    assert isinstance(problems[0], MLPProblem)
    assert problems[0].data.noise_scale == 0.5
    assert problems[0].posterior.localization == LocalizationRadius(radius=0.3)


def test_an_empty_override_changes_nothing() -> None:
    assert resolve_problem(ProblemEntry(data="base", overrides={"data": {}})) == resolve_problem(
        ProblemEntry(data="base")
    )


def test_overrides_win_over_the_posterior_which_wins_over_the_target() -> None:
    posterior = PosteriorSpec(inverse_temperature=0.5)
    plain = resolve_problem(ProblemEntry(target="quadratic"), posterior)
    assert plain == QuadraticProblem(posterior=PosteriorSpec(localization=1.0, inverse_temperature=0.5))
    own = resolve_problem(
        ProblemEntry(target="quadratic", overrides={"posterior.localization": 2.0, "dim": 3}), posterior
    )
    assert own == QuadraticProblem(dim=3, posterior=PosteriorSpec(localization=2.0, inverse_temperature=0.5))


def test_faults_name_the_entrys_keys() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_problem(ProblemEntry(model="smal", overrides={"loss": "mae"}))
    assert str(caught.value) == (
        "model: found 'smal', expected a model preset: one of `base`, `small`\n    Did you mean `small`?\n"
        "overrides.loss: found 'mae', expected one of `gaussian_nll`, `mse`, `student_t_nll`, `cross_entropy`\n"
        "    Did you mean `mse`?"
    )


def test_samplers_take_their_preset_and_what_is_fixed() -> None:
    preset = load_preset("sampler", "sgld")
    assert resolve_sampler("sgld", {}) == preset
    assert resolve_sampler("sgld", {"preset": "sgld", "steps": 5}) == preset | {"steps": 5}


@pytest.mark.parametrize(
    ("method", "name", "values"),
    [
        ("sgld", "eta0", (1e-4, 1e-3)),
        ("sgld", "steps", (100, 200)),
        ("sgld", "b1", (0.8, 0.9)),
        ("sgld", "burn_in_fraction", (0.2, 0.5)),
        ("vi", "M", (1, 4)),
        ("vi", "r", (0, 2)),
        ("vi", "lr", (1e-3, 1e-2)),
        ("vi", "whitening_mode", ("none", "rmsprop")),
        ("mclmc", "L", (0.5, 2.0)),
        ("hmc", "target_accept", (0.7, 0.8)),
    ],
)
def test_numbers_that_are_searched_choose_no_program(method: str, name: str, values: tuple[object, ...]) -> None:
    slots = {"max_components": 4, "max_rank": 2} if method == "vi" else {}
    programs = {program_of(method, {**slots, name: value}) for value in values}
    assert len(programs) == 1
    assert None not in programs


@pytest.mark.parametrize(
    ("method", "name", "values"),
    [
        ("sgld", "precond_type", ("none", "rmsprop", "adam", "whitened")),
        ("sgld", "batch", (64, 128)),
        ("sgld", "dtype", ("float32", "float64")),
        ("sgld", "num_chains", (2, 4)),
        ("vi", "M", (1, 4)),
        ("vi", "max_rank", (2, 3)),
        ("vi", "whitening_mode", ("none", "hessian")),
        ("vi", "batch_size", (64, 128)),
        ("mclmc", "adjusted", (False, True)),
        ("mclmc", "chunk_size", (50, 100)),
        ("hmc", "num_integration_steps", (3, 5)),
    ],
)
def test_what_is_a_shape_or_a_branch_chooses_the_program(method: str, name: str, values: tuple[object, ...]) -> None:
    programs = [program_of(method, {name: value}) for value in values]
    assert len(set(programs)) == len(values)
    assert len({program_of(other, {}) for other in METHODS}) == len(METHODS)


def test_settings_that_a_method_does_not_take_have_no_program() -> None:
    assert program_of("sgld", {"eta": 1e-3}) is None
    assert program_of("sgld", {"eta0": -1.0}) is None
