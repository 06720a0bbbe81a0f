"""Maps of settings: which axes, who is trusted, how trials fail."""

from __future__ import annotations

import pytest

from lambda_hat.artifacts.files import write_text_atomic
from lambda_hat.records.begun import Begun
from lambda_hat.records.rows import TrialRow
from lambda_hat.records.state import State
from lambda_hat.records.tables import write_table
from lambda_hat.report.failure_modes import failure_modes, is_trusted, modes_of
from lambda_hat.report.run_files import RunFiles
from lambda_hat.report.settings_map import settings_map_figure, settings_maps
from tests.report.conftest import CONFIG, PID, trial_row

GOOD = {
    "llc_hat": 8.3, "se_hat": 0.1, "error": 0.05, "relative_error": 0.006, "z": 0.4, "rhat": 1.01, "objective": 0.05,
    "virial_excess": 0.01, "stationarity": 1.0, "self_check_bias": 0.01, "is_diverged": False, "localization": 56.0,
    "nbeta": 21.7,
}  # fmt: skip


def row(**values) -> TrialRow:
    return trial_row(**GOOD | {"hyperparameters": {"eta0": 0.01, "steps": 1000}} | values)


@pytest.mark.parametrize(
    ("values", "mode"),
    [
        ({"is_diverged": True, "state": State.PRUNED, "llc_hat": None}, "diverges"),
        ({"llc_hat": -3.0}, "falls below w0"),
        ({"rhat": 1.2}, "chains disagree"),
        ({"se_hat": 1.0}, "is noisy"),
        ({"stationarity": 9.0}, "is not stationary"),
        ({"self_check_bias": -0.2}, "steps bias it"),
        ({"reports": {"k_hat": 1.2}}, "misses part of the posterior"),
    ],
)
def test_each_way_to_fail_has_its_sign(values, mode):
    assert mode in modes_of(row(**values))
    assert not is_trusted(row(**values))
    assert mode in {found.name for found in failure_modes([row(**values)])}


def test_a_trial_that_is_wrong_without_a_sign_is_not_trusted_and_counted():
    silent = row(relative_error=0.3, z=9.0)
    assert not list(modes_of(silent))
    assert not is_trusted(silent)
    (found,) = failure_modes([silent, row()])
    assert (found.name, found.num_trials) == ("is wrong without a sign", 1)
    assert found.cure == "Lower `eta0`, or enlarge the minibatches, and compare"


def test_a_good_trial_is_trusted_and_fails_in_no_way():
    assert is_trusted(row())
    assert not is_trusted(row(is_reference_certified=False))  # nobody knows
    assert failure_modes([row()]) == ()


def grid(localizations=(56.0,), **values):
    """Trials over a grid of step sizes and steps; those with large steps are biased."""
    return [
        row(
            number=number, hyperparameters={"eta0": eta0, "steps": steps}, localization=localization,
            self_check_bias=eta0, relative_error=eta0, **values,
        )
        for number, (eta0, steps, localization) in enumerate(
            (eta0, steps, localization)
            for eta0 in (0.001, 0.01, 0.1, 0.5) for steps in (1000, 5000) for localization in localizations
        )
    ]  # fmt: skip


def labels(picture):
    first = picture.figure.axes[0]
    return first.get_xlabel(), first.get_ylabel()


def test_the_axes_are_step_size_and_what_else_varies():
    assert labels(settings_map_figure(grid())) == ("eta0", "steps")
    assert labels(settings_map_figure(grid((1.0, 50.0)))) == ("eta0", "localization γ")
    adapted = [
        trial.model_copy(update={"reports": {"adapted_step_size": 0.1 * (n + 1)}}) for n, trial in enumerate(grid())
    ]
    assert labels(settings_map_figure(adapted)) == ("step size, adapted", "steps")


@pytest.mark.slow
def test_green_lies_where_trials_can_be_trusted():
    picture = settings_map_figure(grid())
    (region, points) = picture.figure.axes[0].collections
    (outline,) = region.get_paths()
    assert outline.contains_point((0.0015, 1200.0))  # small steps
    assert not outline.contains_point((0.3, 1200.0))  # large ones
    assert "<image" not in picture.svg()
    assert sorted(points.get_linewidths()) == [0.4] * 4 + [1.1] * 4
    assert "4 of 8 trials can be trusted, by eta0 and steps" in picture.alt


def test_green_ends_within_reach_of_trials_that_can_be_trusted():
    far = [row(number=n, hyperparameters={"eta0": 0.3 + 0.001 * n, "steps": 1000}) for n in range(60)]
    bad = row(number=99, hyperparameters={"eta0": 1.0, "steps": 5000}, rhat=2.0)
    (region, _) = settings_map_figure([*far, bad]).figure.axes[0].collections
    assert region.get_paths()[0].contains_point((0.33, 1200.0))
    assert not region.get_paths()[0].contains_point((0.58, 1200.0))


def test_whole_numbers_have_ticks_at_the_values_there_are():
    trials = grid()
    for place, trial in enumerate(trials):
        trials[place] = trial.model_copy(
            update={"hyperparameters": {"eta0": trial.hyperparameters["eta0"], "M": (2, 3, 8)[place % 3]}}
        )
    figure = settings_map_figure(trials).figure
    figure.canvas.draw()
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["2", "3", "8"]


def test_there_is_no_map_without_something_to_map():
    assert settings_map_figure([]) is None
    assert settings_map_figure(grid()[:6]) is None
    assert settings_map_figure([row(number=n, hyperparameters={"eta0": 0.1, "steps": n}) for n in range(9)]) is None


def test_problems_that_differ_in_their_posterior_share_a_map(make_run):
    paths, other = make_run(num_trials=2), "p_ba9876543210"
    entries = CONFIG.splitlines()[1].replace("overrides: {}", "overrides: {posterior.localization: 1.0}")
    write_text_atomic(paths.resolved_config, CONFIG.replace("methods:", f"{entries}\nmethods:", 1))
    Begun(pids=(PID, other), methods=("sgld",), num_trials=8).write(paths.begun)
    rows = [*grid(), *(trial.model_copy(update={"pid": other, "localization": 1.0}) for trial in grid())]
    write_table(paths.trials_table, rows, TrialRow)
    (found,) = settings_maps(RunFiles(paths))
    assert found.title == "sgld"
    assert labels(found.figure) == ("eta0", "localization γ")
    assert [mode.name for mode in found.modes] == ["steps bias it"]
