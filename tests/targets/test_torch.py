"""PyTorch modules as JAX functions: value and gradient are PyTorch's, and what cannot be turned is refused.

Only where PyTorch is: `.ci/nightly` installs it for these tests.
"""

from __future__ import annotations

from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lambda_hat import estimate_llc, from_torch
from lambda_hat.errors import InputError
from lambda_hat.targets import read_model

torch = pytest.importorskip("torch")
if find_spec("torchax") is None:
    pytest.skip("torchax is not installed", allow_module_level=True)
pytestmark = pytest.mark.filterwarnings("ignore")  # of the two libraries

RNG = np.random.default_rng(0)
NUM_ROWS, NUM_CLASSES = 60, 3


def cross_entropy(module, batch):
    inputs, labels = batch
    return torch.nn.functional.cross_entropy(module(inputs), labels, reduction="none")


def per_token(module, batch):
    logits = module(batch)
    labels = batch.roll(-1, dims=1)
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(
        labels.shape
    )


class Transformer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(7, 8)
        self.layer = torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.head = torch.nn.Linear(8, 7)

    def forward(self, tokens):
        return self.head(self.layer(self.embed(tokens)))


def mlp():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, NUM_CLASSES)).eval()


def cnn():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(3)
    ).eval()


INPUTS = torch.as_tensor(RNG.standard_normal((NUM_ROWS, 4)), dtype=torch.float32)
LABELS = torch.as_tensor(RNG.integers(0, NUM_CLASSES, NUM_ROWS))
IMAGES = torch.as_tensor(RNG.standard_normal((NUM_ROWS, 1, 6, 6)), dtype=torch.float32)
TOKENS = torch.as_tensor(RNG.integers(0, 7, (NUM_ROWS, 5)))


def transformer():
    torch.manual_seed(0)
    return Transformer().eval()


CASES = {
    "mlp": (mlp, cross_entropy, (INPUTS, LABELS)),
    "transformer": (transformer, per_token, TOKENS),
}


@pytest.mark.parametrize("case", CASES)
def test_losses_are_those_of_pytorch(case):
    build, loss, data = CASES[case]
    module = build()
    loss_fn, params, columns = from_torch(module, loss, data)
    expected = loss(module, data).detach().numpy()
    np.testing.assert_allclose(loss_fn(params, columns), expected, rtol=1e-4, atol=1e-6)
    assert sum(value.size for value in params["params"].values()) == sum(p.numel() for p in module.parameters())
    with jax.enable_x64(True):
        double = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64 if leaf.dtype.kind == "f" else None), params)
        rows = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64 if leaf.dtype.kind == "f" else None), columns)
        assert loss_fn(double, rows).dtype == "float64"


def test_statistics_of_a_batch_norm_are_not_sampled():
    module = cnn()
    module(IMAGES)
    loss_fn, params, columns = from_torch(module, cross_entropy, (IMAGES, LABELS))
    model = read_model(loss_fn, params, columns)
    assert model.num_frozen == 8
    assert all("running" not in place for place, _ in model.sampled)


def test_an_llc_of_a_module_is_that_of_the_function_in_jax():
    module = mlp()
    loss_fn, params, columns = from_torch(module, cross_entropy, (INPUTS, LABELS))

    def written(weights, batch):
        inputs, labels = batch
        hidden = jnp.tanh(inputs @ weights["0.weight"].T + weights["0.bias"])
        scores = jax.nn.log_softmax(hidden @ weights["2.weight"].T + weights["2.bias"])
        return -jnp.take_along_axis(scores, labels[:, None], 1)[:, 0]

    quick = {"sampler": "hmc", "steps": 40, "localization": 50.0, "dtype": "float64"}
    one = estimate_llc(loss_fn, params, columns, sampled="params/2.*", **quick)
    other = estimate_llc(written, params["params"], columns, sampled="2.*", **quick)
    assert one.laplace_llc == pytest.approx(other.laplace_llc, rel=1e-6)
    np.testing.assert_allclose(one.loss_trace[:, :3], other.loss_trace[:, :3], rtol=1e-5)


def test_other_weights_of_a_module_compile_nothing():
    module = mlp()
    one, _, _ = from_torch(module, cross_entropy, (INPUTS, LABELS))
    with torch.no_grad():
        module[0].weight.mul_(0.5)
    other, params, _ = from_torch(module, cross_entropy, (INPUTS, LABELS))
    assert (one, hash(one)) == (other, hash(other))
    np.testing.assert_array_equal(params["params"]["0.weight"], module[0].weight.detach().numpy())


def in_train_mode():
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Dropout(0.5)).train()


def frozen():
    return mlp().requires_grad_(False)


class Random(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 3)

    def forward(self, inputs):
        return self.linear(inputs) * torch.rand(())


FAULTS = [
    (
        in_train_mode,
        cross_entropy,
        r"module: found Dropout `1` in train mode, where its output is random\. Call ",
    ),
    (frozen, cross_entropy, "module: found no parameter with `requires_grad`"),
    (lambda: len, cross_entropy, r"module: found a builtin_function_or_method, expected a torch\.nn\.Module"),
    (mlp, lambda module, batch: cross_entropy(module, batch).mean(), "loss: found a single number, expected a tensor"),
    (Random, cross_entropy, r"module: its losses differ by .* between PyTorch and JAX"),
]


@pytest.mark.parametrize(("build", "loss", "message"), FAULTS, ids=range(len(FAULTS)))
def test_a_module_that_cannot_be_used(build, loss, message):
    with pytest.raises(InputError, match=message):
        from_torch(build(), loss, (INPUTS, LABELS))
