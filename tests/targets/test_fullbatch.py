import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lambda_hat.targets.fullbatch import hessian_vector_product, mean_hessian, mean_loss, mean_loss_and_grad
from lambda_hat.targets.losses import SquaredError
from lambda_hat.targets.networks import MLP

LOSS_FN = SquaredError(MLP((2, 3, 1)), 2.0)


@pytest.mark.slow
@pytest.mark.parametrize("num_rows", [3, pytest.param(1024, marks=pytest.mark.nightly), 1500])
def test_chunked_derivatives_equal_those_of_the_whole(float64, num_rows):
    rng = np.random.default_rng(0)
    position = jnp.asarray(rng.standard_normal(LOSS_FN.network.dim))
    vector = jnp.asarray(rng.standard_normal(LOSS_FN.network.dim))
    data = (jnp.asarray(rng.standard_normal((num_rows, 2))), jnp.asarray(rng.standard_normal((num_rows, 1))))

    @jax.jit
    def whole(w):
        return jnp.mean(LOSS_FN(w, data))

    loss, gradient = mean_loss_and_grad(LOSS_FN, position, data)
    hessian = jax.jit(jax.hessian(whole))(position)
    np.testing.assert_allclose(mean_loss(LOSS_FN, position, data), whole(position), rtol=1e-12)
    np.testing.assert_allclose(loss, whole(position), rtol=1e-12)
    np.testing.assert_allclose(gradient, jax.grad(whole)(position), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(mean_hessian(LOSS_FN, position, data), hessian, rtol=1e-10, atol=1e-11)
    product = hessian_vector_product(LOSS_FN, position, vector, data)
    np.testing.assert_allclose(product, hessian @ vector, rtol=1e-10, atol=1e-11)
