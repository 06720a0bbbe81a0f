"""Figures, by the data that they draw."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from lambda_hat.config.study import CategoricalDist, FloatDist, IntDist
from lambda_hat.records.state import State
from lambda_hat.report.analysis import by_rank
from lambda_hat.report.figures import cost_figure, estimates_figure, history_figure, parallel_figure, slices_figure
from lambda_hat.report.interactive import _dimension
from lambda_hat.report.scale import scale_of
from tests.report.conftest import confirmed_row, reference_record, trial_row

# Choices in an order that is neither that of the alphabet nor that of numbers.
CHOICES: dict[str, list[Any]] = {
    "whitening_mode": ["rmsprop", "hessian"],
    "precond_type": ["whitened", "none", "adam"],
    "batch": [100, 32, 64],
    "adjusted": [True, False],
    "mixed": ["zero", 1, 0.5],
}
SPACE = {name: CategoricalDist(dist="categorical", choices=choices) for name, choices in CHOICES.items()} | {
    "eta0": FloatDist(dist="float", low=1e-3, high=1.0, log=True),
    "steps": IntDist(dist="int", low=100, high=900, step=100),
}


def trials(best: dict[str, Any]):
    """One trial per combination of places, and the best with the settings it is told."""
    others = [
        {name: choices[number % len(choices)] for name, choices in CHOICES.items()}
        | {"eta0": 10 ** -(number % 3), "steps": 100 + 100 * (number % 9)}
        for number in range(12)
    ]
    rows = [
        trial_row(number=number, run_id=f"r_{number}", objective=1.0 + number, hyperparameters=settings)
        for number, settings in enumerate(others)
    ]
    known = others[4] | best
    return [*rows, trial_row(number=99, run_id="r_99", objective=0.1, hyperparameters=known)], known


def label_at(axes, place: int, height: float) -> str:
    """The label that a reader finds at the end of a line."""
    labels = [text for text in axes.texts if text.xy[0] == place]
    return min(labels, key=lambda text: abs(text.xy[1] - height)).get_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "choice"), list(itertools.chain.from_iterable([(n, c) for c in cs] for n, cs in CHOICES.items()))
)
@pytest.mark.parametrize("space", [SPACE, {}], ids=["known", "unknown"])
def test_the_best_line_ends_at_the_label_of_the_best_setting(name, choice, space):
    rows, best = trials({name: choice})
    picture = parallel_figure(rows, space)
    assert picture is not None
    (axes,) = picture.figure.axes
    names = [label.get_text() for label in axes.get_xticklabels()]
    line = axes.lines[-1].get_ydata()
    for place, hyperparameter in enumerate(names):
        if hyperparameter in CHOICES and (space or hyperparameter != "batch"):
            assert label_at(axes, place, line[place]) == str(best[hyperparameter])


def test_a_trial_that_breaks_a_gate_is_the_best_in_no_figure():
    rows, _ = trials({})
    breaking = trial_row(
        number=50, run_id="r_50", objective=0.01, violation=0.2, hyperparameters=rows[0].hyperparameters
    )
    late = trial_row(number=120, run_id="r_120", state=State.FAIL)
    history = history_figure([*rows, breaking, late], None, None)
    assert history is not None
    assert "the best is 0.1" in history.alt
    (axes,) = history.figure.axes
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines["breaks a gate"].get_xdata()) == [50]
    assert 50 not in lines["complete"].get_xdata()
    assert lines["best so far"].get_xdata()[-1] == 120, "up to the last trial"
    assert lines["best so far"].get_ydata()[-1] == 0.1
    pictures = [parallel_figure(ours, SPACE) for ours in ([*rows, breaking], rows)]
    best, best_without = (picture.figure.axes[0].lines[-1].get_ydata() for picture in pictures if picture)
    assert list(best) == list(best_without)
    assert by_rank([breaking, late, *rows])[0].number == 99
    assert [row.number for row in by_rank([breaking, late, *rows])[-2:]] == [50, 120]


def test_a_trial_that_breaks_a_gate_is_not_the_best_for_its_cost():
    sound = trial_row(number=1, run_id="r_1", objective=0.1, error=0.1, num_gradient_evaluations=100.0)
    lucky = trial_row(
        number=2, run_id="r_2", objective=0.001, error=0.001, num_gradient_evaluations=50.0, violation=0.2
    )
    for rows, front in (([sound, lucky], [100.0]), ([lucky], [50.0])):
        picture = cost_figure({"sgld": rows}, None)
        assert picture is not None
        assert picture.alt.endswith("hollow where they break a gate")
        (line,) = [line for line in picture.figure.axes[0].lines if line.get_label() == "best for its cost"]
        assert list(line.get_xdata()) == front


def test_every_figure_has_the_same_order():
    rows, _ = trials({})
    values = [row.hyperparameters["precond_type"] for row in rows]
    scale = scale_of(values, SPACE["precond_type"])
    assert scale.categories == ("whitened", "none", "adam")
    assert [scale.categories[int(place)] for place in scale.places] == values
    slices = slices_figure(rows, SPACE, None)
    assert slices is not None
    (axes,) = [axes for axes in slices.figure.axes if axes.get_xlabel() == "precond_type"]
    assert tuple(label.get_text() for label in axes.get_xticklabels()) == scale.categories
    star = next(line for line in axes.lines if line.get_marker() == "*")
    assert scale.categories[int(star.get_xdata()[0])] == values[-1]
    assert _dimension("precond_type", values, SPACE["precond_type"])["ticktext"] == scale.categories


def test_confirmed_settings_are_drawn_before_lucky_trials():
    reference = reference_record()
    by_method = {"sgld": [trial_row(llc_hat=8.26, se_hat=0.1, objective=0.01)]}
    row = confirmed_row(rmse=0.5, mean_error=0.4)
    picture = estimates_figure(by_method, reference, {"sgld": row})
    assert picture is not None
    assert picture.alt.startswith("Means of the confirmed settings (sgld 8.65) and the best trials (sgld 8.26)")
    (axes,) = picture.figure.axes
    xs = [float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() == "o"]
    assert xs == [pytest.approx(8.65), pytest.approx(8.26)]
    plain = estimates_figure(by_method, reference, {})
    assert plain is not None
    assert plain.alt.startswith("Estimates of the best trials")


def test_one_trial_has_no_history():
    assert history_figure([trial_row(objective=0.1)], None, None) is None
    picture = history_figure([trial_row(number=n, objective=0.1) for n in range(2)], None, None)
    assert picture is not None
    assert list(picture.figure.axes[0].get_xticks()) == [0, 1]
