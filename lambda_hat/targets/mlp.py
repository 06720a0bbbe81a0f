"""Networks trained on data that a teacher network labels."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from lambda_hat.config.problems import MLPProblem
from lambda_hat.targets.datasets import Stream, build_dataset, random_stream
from lambda_hat.targets.fullbatch import mean_loss
from lambda_hat.targets.kind import Predictions, TargetKind
from lambda_hat.targets.losses import build_network_loss
from lambda_hat.targets.model import Model
from lambda_hat.targets.networks import MLP
from lambda_hat.targets.training import train

__all__ = ["KIND"]


def _build(problem: MLPProblem) -> Model:
    loss_fn = build_network_loss(problem)
    dataset = build_dataset(problem)
    start = loss_fn.network.init(random_stream(problem.seed, Stream.INIT))
    batch_seed = int(random_stream(problem.seed, Stream.BATCHES).integers(2**31))
    w0, info = train(loss_fn, start, dataset.data, problem.training, problem.posterior, batch_seed)
    if problem.data.num_test:
        info["test_loss"] = float(mean_loss(loss_fn, jnp.asarray(w0), tuple(map(jnp.asarray, dataset.test_data))))
    return Model(w0, dataset.data, loss_fn, info)


def _predictions(problem: MLPProblem, model: Model) -> Predictions | None:
    if problem.loss == "cross_entropy":  # whose labels are classes
        return None
    dataset = build_dataset(problem)
    inputs = jnp.asarray(model.data[0])
    teacher = dataset.teacher(jnp.asarray(dataset.teacher_position), inputs)
    network = MLP.from_spec(problem.model)(jnp.asarray(model.w0), inputs)
    return Predictions(np.asarray(teacher).ravel(), np.asarray(network).ravel(), np.asarray(model.data[1]).ravel())


KIND = TargetKind(build=_build, loss_of=build_network_loss, predictions_of=_predictions)
