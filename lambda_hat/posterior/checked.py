"""The local posterior of a model that nobody has tried yet."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from lambda_hat.config.problems import PosteriorSpec
from lambda_hat.posterior.local import LocalPosterior, posterior_of
from lambda_hat.targets.model import Model
from lambda_hat.targets.pytrees import check_loss_type, check_loss_values, check_rows

__all__ = ["checked_posterior_of"]


def checked_posterior_of(model: Model, spec: PosteriorSpec, dtype: str) -> LocalPosterior:
    """The local posterior that `spec` describes around the model's w0, once its loss has been tried in `dtype`.

    Raises:
        InputError: a loss of another shape or type, that is not finite at w0, or that mixes rows.
    """
    check_loss_type(model, dtype)
    posterior = posterior_of(model, spec, dtype)
    check_loss_values(np.asarray(posterior.row_losses_at_w0).reshape(-1)[: posterior.num_data])
    signs = jnp.where(jnp.arange(posterior.dim) % 2, -1, 1)
    elsewhere = posterior.w0 + signs / jnp.sqrt(posterior.localization)
    check_rows(model.loss_fn, elsewhere, tuple(column[0] for column in posterior.rows))
    return posterior
