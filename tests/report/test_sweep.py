"""The figure of a sweep: what is drawn, what lies outside, and that nothing hides another."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from lambda_hat.config.experiments import Experiments
from lambda_hat.records.rows import RunRow
from lambda_hat.records.state import State
from lambda_hat.report.sweep import sweep_figures

SAMPLERS = {"fine": "hmc", "rough": "hmc", "quick": "sgld"}


def axes_of(values, llcs, samplers=SAMPLERS, laplace=5.0):
    """The figure of a sweep over `values`, where every sampler found the same."""
    entry = {"target": "python", "build": "networks.py:f", "sweep": {"checkpoint": list(values)}}
    experiments = {"targets": [entry], "samplers": [{"name": name, "method": samplers[name]} for name in samplers]}
    pids = [f"p_{index}" for index in range(len(values))]
    rows = [
        RunRow(
            pid=pid,
            sampler=name,
            method=method,
            state=State.COMPLETE,
            llc_hat=llc,
            se_hat=0.1 if llc > 0 else 2000.0,
            is_minimum=llc > 0,
            laplace_llc=laplace,
        )
        for pid, llc in zip(pids, llcs, strict=True)
        for name, method in samplers.items()
    ]
    run = SimpleNamespace(
        config=Experiments.model_validate(experiments), begun=SimpleNamespace(pids=pids), llc_runs=rows
    )
    (picture,) = sweep_figures(run)
    picture.figure.draw_without_rendering()
    return picture.figure.axes[0]


def labels(axes):
    return axes.get_legend_handles_labels()[1]


def test_what_is_far_below_zero_is_marked_and_counted():
    axes = axes_of(["a", "b", "c", "d"], [-913.0, -52.0, 3.0, 4.0])
    assert {f"{name}, no minimum, 2 far below zero" for name in SAMPLERS} | set(SAMPLERS) | {"Laplace"} == set(
        labels(axes)
    )
    triangles = [line for line in axes.lines if line.get_marker() == "v"]
    low, high = axes.get_ylim()
    for line in triangles:
        np.testing.assert_array_equal(line.get_xdata(), [0, 1])
        assert low < line.get_ydata()[0] < 0
        assert line.get_markerfacecolor() == "white"
    assert high < 6, "as high as what is drawn"


def test_a_laplace_value_is_in_the_picture_unless_it_is_far_above():
    assert axes_of(["a", "b"], [4.0, 5.0], laplace=9.0).get_ylim()[1] > 9.0
    axes = axes_of(["a", "b"], [4.0, 5.0], laplace=1e6)
    assert axes.get_ylim()[1] < 12.0
    (high,) = [line for line in axes.lines if line.get_marker() == "^"]
    assert high.get_label() == "Laplace, 2 far above"


def test_samplers_that_agree_stand_beside_each_other():
    axes = axes_of(["a", "b"], [3.0, 4.0])
    marks = [container.lines[0] for container in axes.containers]
    places = [line.get_transform().transform((0.0, 3.0))[0] for line in marks]
    assert np.diff(places).min() > 3
    assert len({(line.get_color(), line.get_marker()) for line in marks}) == 3


@pytest.mark.parametrize("count", [3, 12, 100])
def test_names_under_the_axis_do_not_overlap(count):
    axes = axes_of([f"step-{index}00.npz" for index in range(count)], [3.0] * count, {"fine": "hmc"})
    boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
    is_aslant = axes.get_xticklabels()[0].get_rotation() > 0
    assert is_aslant == (count > 3)
    starts = [box.x1 for box in boxes]
    assert min(np.diff(starts)) > (8 if is_aslant else max(box.width for box in boxes))


def test_numbers_stand_at_their_places():
    axes = axes_of([0, 10, 1000], [3.0, 4.0, 5.0])
    np.testing.assert_array_equal(axes.containers[0].lines[0].get_xdata(), [0, 10, 1000])
