"""Figures of a problem itself: how it was trained, what the network says, the curvature at w0."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import ValidationError

from lambda_hat.artifacts.files import read_arrays, read_bytes
from lambda_hat.artifacts.paths import PROBLEM_YAML, REFERENCE_NPZ, TARGET_NPZ
from lambda_hat.config.problems import ProblemSpec, parse_problem
from lambda_hat.errors import TargetError
from lambda_hat.records.reference import ReferenceRecord
from lambda_hat.report.drawing import GREY, REFERENCE_COLOUR, Picture, drawn, log_scale
from lambda_hat.targets import Model, Predictions, kind_of, load_target

__all__ = ["draw_problem"]

_SIZE = (6.4, 3.2)
_MAX_POINTS = 2000


def draw_problem(folder: Path, reference: ReferenceRecord) -> Iterator[tuple[str, Picture]]:
    """Names of the figures, and the figures, that the files in a problem's `folder` allow."""
    try:
        problem = parse_problem(yaml.safe_load(read_bytes(folder / PROBLEM_YAML) or b"") or {})
        # What is built again wherever it is loaded has nothing here to show, and is no matter of a report.
        target = load_target(folder / TARGET_NPZ, problem) if kind_of(problem).is_stored else None
    except (TargetError, ValidationError, yaml.YAMLError):
        problem, target = None, None
    if target is not None and target.info.get("training_curve"):
        yield "training", _training(target.info)
    if problem is not None and target is not None and (predictions := _predictions(problem, target)) is not None:
        yield "prediction", _prediction(predictions)
    path = folder / REFERENCE_NPZ
    arrays = read_arrays(path) if path.is_file() else {}
    if "spectrum.values" in arrays:
        yield "spectrum", _spectrum(arrays, reference.localization)


def _training(info: Mapping[str, Any]) -> Picture:
    steps, losses = np.array(info["training_curve"], np.float64).T
    with drawn(*_SIZE) as figure:
        axes = figure.subplots()
        num_adam_steps = info.get("num_adam_steps", 0)
        is_adam = steps <= num_adam_steps
        axes.plot(steps[is_adam], losses[is_adam], color="#0072b2", label="batch loss, by Adam")
        if not is_adam.all():
            axes.plot(steps[~is_adam], losses[~is_adam], color="#d55e00", label="loss, polished")
        axes.axhline(info["loss"], color=REFERENCE_COLOUR, linestyle="--", linewidth=1.0, label="L(w0)")
        if (losses > 0).all():
            log_scale(axes.yaxis, losses.min() / 1.1, 1.1 * losses.max())
        axes.set_xlabel("step")
        axes.set_ylabel("mean loss (nats per example)")
        figure.legend(loc="outside upper right", ncols=3)
        return Picture(figure, "loss while the target was trained")


def _predictions(problem: ProblemSpec, target: Model) -> Predictions | None:
    import jax

    predictions_of = kind_of(problem).predictions_of
    if predictions_of is None:
        return None
    with jax.enable_x64(True):
        return predictions_of(problem, target)


def _prediction(predictions: Predictions) -> Picture:
    teacher, outputs, labels = predictions
    step = max(1, len(outputs) // _MAX_POINTS)
    with drawn(_SIZE[0], 4.4) as figure:
        axes = figure.subplots()
        axes.plot(teacher[::step], labels[::step], "o", color=GREY, markersize=2.5, alpha=0.5, label="labels")
        axes.plot(
            teacher[::step], outputs[::step], "o", color="#0072b2", markersize=3, alpha=0.7, label="network at w0"
        )
        ends = [min(teacher.min(), outputs.min()), max(teacher.max(), outputs.max())]
        axes.plot(ends, ends, color=REFERENCE_COLOUR, linestyle="--", linewidth=1.0, label="equal")
        axes.set_xlabel("output of the teacher")
        axes.set_ylabel("output of the network; label")
        figure.legend(loc="outside upper right", ncols=3)
        return Picture(figure, "outputs of network and teacher")


def _spectrum(arrays: Mapping[str, np.ndarray], localization: float | None) -> Picture:
    """All eigenvalues, or how many are above a value where they are known by a quadrature."""
    values, weights = arrays["spectrum.values"], arrays["spectrum.weights"]
    order = np.argsort(-values.ravel())
    sizes = np.abs(values.ravel()[order])
    counts = np.cumsum(weights.ravel()[order]) / len(values)
    with drawn(*_SIZE) as figure:
        axes = figure.subplots()
        is_positive = values.ravel()[order] > 0
        style: dict[str, Any] = {"markersize": 3.5, "alpha": 0.8, "markeredgewidth": 0}
        axes.plot(counts[is_positive], sizes[is_positive], "o", color="#0072b2", label="positive", **style)
        if not is_positive.all():
            axes.plot(counts[~is_positive], sizes[~is_positive], "o", color="#d55e00", label="negative", **style)
        if localization:
            axes.axhline(localization, color=REFERENCE_COLOUR, linestyle="--", linewidth=1.0, label="γ_loc")
        shown = np.append(sizes[sizes > 0], localization or 1.0)
        log_scale(axes.yaxis, max(shown.min(), 1e-12 * shown.max()) / 2, 2 * shown.max())
        axes.set_xlabel("eigenvalues that are at least as large")
        axes.set_ylabel("|eigenvalue| of the Hessian of nβL at w0")
        figure.legend(loc="outside upper right", ncols=3)
        return Picture(figure, "spectrum of the Hessian at w0")
