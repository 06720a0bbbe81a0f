"""λ̂ along checkpoints: the numbers of single calls, compiled once, kept on the way, marked at no minimum."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from lambda_hat import estimate_llc, estimate_llc_series
from lambda_hat.api.series import SeriesPoint
from lambda_hat.errors import InputError

RNG = np.random.default_rng(0)
X = RNG.standard_normal((100, 2))
Y = X @ np.array([1.0, -1.0]) + 0.3 * RNG.standard_normal(100)
BEST = np.linalg.lstsq(X, Y)[0]
QUICK = {"sampler": "hmc", "steps": 200, "localization": 20.0}
TRACED = []


def loss_fn(params, batch):
    TRACED.append(None)
    return (batch["x"] @ params["w"] - batch["y"]) ** 2 / 0.18


DATA = {"x": X, "y": Y}
CHECKPOINTS = {0: {"w": BEST + 0.5}, 100: {"w": BEST}, 200: {"w": BEST + 1e-9}}


@pytest.mark.slow
def test_the_numbers_of_single_calls_with_one_compilation():
    estimate_llc(loss_fn, CHECKPOINTS[0], DATA, **QUICK)  # no minimum, around which more programs look
    single = estimate_llc(loss_fn, CHECKPOINTS[100], DATA, **QUICK)
    TRACED.clear()
    series = estimate_llc_series(loss_fn, CHECKPOINTS, DATA, **QUICK)
    assert not TRACED
    assert [point.step for point in series] == [0, 100, 200]
    point = series.points[1]
    assert (point.llc, point.se, point.laplace_llc) == (single.llc, single.se, single.laplace_llc)
    assert [point.is_minimum for point in series] == [False, True, True]
    frame = series.to_frame()
    assert list(frame.index) == [0, 100, 200]
    assert frame.loc[100, "llc"] == single.llc
    assert repr(series).splitlines()[1].endswith(", no minimum")


@pytest.mark.slow
def test_the_figure_marks_what_is_no_minimum_or_not_reliable():
    near = {**CHECKPOINTS, 50: {"w": BEST + 0.02}}
    series = estimate_llc_series(loss_fn, near, DATA, **QUICK)
    points = [replace(point, is_reliable=point.step == 100) for point in series]
    axes = replace(series, points=tuple(points)).plot()
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert set(labels) == {"Laplace", "λ̂", "λ̂, not reliable", "λ̂ at no minimum", "far below zero, at no minimum"}
    faces = {container.get_label(): container.lines[0] for container in axes.containers}
    assert faces["λ̂ at no minimum"].get_markerfacecolor() == "white" != faces["λ̂"].get_markerfacecolor()
    np.testing.assert_array_equal(faces["λ̂"].get_xdata(), [100])
    np.testing.assert_array_equal(faces["λ̂, not reliable"].get_xdata(), [200])
    np.testing.assert_array_equal(faces["λ̂ at no minimum"].get_xdata(), [50])


@pytest.mark.slow
def test_an_interrupted_series_is_gone_on_with(tmp_path):
    file, loaded = tmp_path / "series.json", []

    def lazily(step):
        def load():
            loaded.append(step)
            return CHECKPOINTS[step]

        return load

    def stop(point):
        raise KeyboardInterrupt

    pairs = [(step, lazily(step)) for step in CHECKPOINTS]
    with pytest.raises(KeyboardInterrupt):
        estimate_llc_series(loss_fn, pairs, DATA, resume_from=file, on_point=stop, **QUICK)
    assert loaded == [0], "a checkpoint is loaded when its turn comes"
    before = json.loads(file.read_text())["points"]["0"]["point"]["seconds"]
    series = estimate_llc_series(loss_fn, pairs, DATA, resume_from=file, **QUICK)
    assert series.points[0].seconds == before
    again = estimate_llc_series(loss_fn, pairs, DATA, resume_from=file, **QUICK)
    assert again.points == series.points
    other = estimate_llc_series(loss_fn, {0: {"w": BEST}}, DATA, resume_from=file, **QUICK)
    assert other.points[0].loss_at_w0 != series.points[0].loss_at_w0, "an edited checkpoint is another one"


@pytest.mark.slow
def test_what_is_no_number_is_kept_as_such(tmp_path):
    arguments = QUICK | {"sampler": "sgld", "eta0": 10.0}
    file = tmp_path / "series.json"
    one, other = (
        estimate_llc_series(loss_fn, {"end": {"w": BEST}}, DATA, resume_from=file, **arguments) for _ in range(2)
    )
    assert not one.points[0].is_reliable
    assert math.isfinite(one.points[0].llc) or math.isnan(other.points[0].llc)


def unreadable():
    raise OSError("the disk is gone")


FAULTS = [
    ([], "checkpoints: found none, expected at least one."),
    (3, "checkpoints: found an int, expected {step: params} or pairs (step, params)."),
    ([{"w": BEST}], "checkpoints[0]: found a dict, expected {step: params} or pairs (step, params)."),
    ([(0, {"w": BEST}), (0, {"w": BEST})], "checkpoints: found step 0 twice, expected steps that differ."),
    (
        {0: {"w": BEST}, 1: {"w": np.ones(3)}},
        "checkpoints[1]: found another architecture than at step 0: params['w'] has the shape (3,), not (2,). "
        "Give the checkpoints of one network.",
    ),
    (
        {0: {"w": BEST}, 1: {"v": BEST}},
        "checkpoints[1]: found another architecture than at step 0: missing params['w']; added params['v']. Give the "
        "checkpoints of one network.",
    ),
    (
        {0: {"w": BEST}, 1: {"w": BEST * np.nan}},
        "checkpoints[1]: params['w']: found 2 of 2 entries NaN or infinite, expected finite numbers.",
    ),
    (
        {0: {"w": BEST}, 1: unreadable},
        "checkpoints[1]: cannot be loaded: OSError: the disk is gone",
    ),
]


@pytest.mark.parametrize(("checkpoints", "message"), FAULTS, ids=range(len(FAULTS)))
def test_checkpoints_that_cannot_be_used(checkpoints, message):
    with pytest.raises(InputError) as caught:
        estimate_llc_series(loss_fn, checkpoints, DATA, **QUICK)
    assert str(caught.value) == message


def test_settings_are_read_before_checkpoints():
    with pytest.raises(InputError) as caught:
        estimate_llc_series(loss_fn, {0: unreadable}, DATA, **QUICK | {"steps": 0}, seed=-1)
    assert str(caught.value) == (
        "steps: found 0, expected a whole number greater than 0.\nseed: found -1, expected a whole number from 0 to "
        "2³¹ − 1."
    )


def test_an_error_of_the_loss_names_the_step():
    with pytest.raises(KeyError) as caught:
        estimate_llc_series(lambda params, batch: params["v"], {7: {"w": BEST}}, DATA, **QUICK)
    assert caught.value.__notes__[-1] == "This was checkpoints[7]."


def test_a_point_says_why_it_is_not_reliable():
    point = SeriesPoint(
        step=3,
        llc=1.5,
        se=0.1,
        is_reliable=False,
        is_minimum=True,
        reasons=("tail ESS is 9, at least 400 wanted. Raise `steps`.", "another"),
        loss_at_w0=0.5,
        laplace_llc=1.4,
        decrease_available=0.0,
        rhat=1.0,
        localization=1.0,
        nbeta=10.0,
        dim=3,
        num_data=20,
        num_gradient_evaluations=1.0,
        seconds=1.0,
        seed=0,
    )
    assert repr(point).endswith("loss 0.5, not reliable: tail ESS is 9, at least 400 wanted. Raise `steps`.")
    assert repr(replace(point, is_minimum=False)).endswith("loss 0.5, no minimum")


def test_a_file_of_something_else(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="which holds no series; expected a new file or one of a series"):
        estimate_llc_series(loss_fn, CHECKPOINTS, DATA, resume_from=tmp_path / "notes.txt", **QUICK)
    assert (tmp_path / "notes.txt").read_text() == "mine"
