"""What is sampled of a pytree, and what data and losses may look like."""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lambda_hat import certify_llc, estimate_llc
from lambda_hat.config.problems import PosteriorSpec
from lambda_hat.errors import InputError
from lambda_hat.posterior import checked_posterior_of
from lambda_hat.targets import read_model

RNG = np.random.default_rng(0)
NUM_DATA, LOCALIZATION = 60, 20.0
X = RNG.standard_normal((NUM_DATA, 3))
Y = X @ np.array([1.0, -1.0, 0.5]) + 0.3 * RNG.standard_normal(NUM_DATA)
HEAD = np.array([[0.7, 0.1], [-0.4, 0.3], [0.2, 0.9]])
OUT = np.array([1.0, 0.5])
PARAMS = {"head": HEAD, "out": {"w": OUT, "b": np.zeros(1)}}


def squares(params, batch):
    """A linear network of two layers, and so quadratic in each of them alone."""
    return (batch["x"] @ params["head"] @ params["out"]["w"] + params["out"]["b"] - batch["y"]) ** 2


DATA = {"x": X, "y": Y}


def gaussian_llc(model, localization: float = LOCALIZATION) -> float:
    """λ̂ where L_n is quadratic in what is sampled and w0 is its minimum: the Laplace value."""
    with jax.enable_x64(True):
        posterior = checked_posterior_of(model, PosteriorSpec(localization=localization), "float64")
        curvatures = np.linalg.eigvalsh(posterior.hessian(posterior.w0))
    return float(0.5 * np.sum(curvatures / (curvatures + localization)))


MASK = np.array([[True, False], [False, False], [True, True]])
CHOICES = {
    "a pattern": ("out/*", ["params['out']['b']", "params['out']['w']"], 3),
    "a part of the tree": ("out", ["params['out']['b']", "params['out']['w']"], 3),
    "patterns": (["head", "*/w"], ["params['head']", "params['out']['w']"], 8),
    "a function": (lambda place, leaf: leaf.ndim == 2, ["params['head']"], 6),
    "a function of entries": (lambda place, leaf: MASK if place == "head" else False, ["params['head']"], 3),
    "a tree": ({"head": MASK, "out": {"w": True, "b": False}}, ["params['head']", "params['out']['w']"], 5),
    "a prefix of a tree": ({"head": False, "out": True}, ["params['out']['b']", "params['out']['w']"], 3),
}


@pytest.mark.parametrize("choice", CHOICES)
def test_what_is_sampled(choice):
    sampled, places, dim = CHOICES[choice]
    model = read_model(squares, PARAMS, DATA, sampled=sampled)
    assert (sorted(place for place, _ in model.sampled), model.dim) == (places, dim)
    assert model.num_frozen + dim == 9
    back = model.loss_fn.params(jnp.asarray(model.w0), *model.frozen)
    for one, other in zip(jax.tree.leaves(back), jax.tree.leaves(PARAMS), strict=True):
        np.testing.assert_array_equal(one, np.asarray(other, one.dtype))


def test_a_mask_moves_its_entries_alone():
    model = read_model(squares, PARAMS, DATA, sampled={"head": MASK, "out": False})
    moved = model.loss_fn.params(jnp.asarray(model.w0) + 1.0, *model.frozen)
    np.testing.assert_allclose(moved["head"] - HEAD, MASK, atol=1e-6)


@pytest.mark.nightly
@pytest.mark.parametrize("sampled", ["head", {"head": MASK, "out": False}])
def test_a_restricted_llc_is_that_of_the_rest_closed_over(sampled):
    """By the Laplace value, which is exact here, and by the same draws."""
    mask = np.ones_like(MASK) if sampled == "head" else MASK

    def closed(part, batch):
        head = jnp.asarray(HEAD).astype(part.dtype).at[np.nonzero(mask)].set(part)
        return squares({"head": head, "out": {"w": jnp.asarray(OUT), "b": jnp.zeros(1)}}, batch)

    quick = {"sampler": "hmc", "steps": 40, "localization": LOCALIZATION}
    one = estimate_llc(squares, PARAMS, DATA, sampled=sampled, **quick)
    other = estimate_llc(closed, HEAD[mask], DATA, **quick)
    assert one.dim == other.dim == mask.sum()
    assert one.laplace_llc == pytest.approx(other.laplace_llc, rel=1e-9)
    np.testing.assert_allclose(one.loss_trace[:, :3], other.loss_trace[:, :3], rtol=1e-6)
    assert (one.num_frozen, other.num_frozen) == (9 - mask.sum(), 0)
    assert f"restricted to params['head']: {9 - mask.sum()} stay as they are" in repr(one)
    assert "restricted" not in repr(other)
    assert one.to_dict()["sampled"] == ["params['head']"]


@pytest.mark.slow
def test_the_radius_belongs_to_what_is_sampled():
    result = estimate_llc(squares, PARAMS, DATA, sampled="out/w", sampler="hmc", steps=40, localization={"radius": 0.1})
    assert result.localization == pytest.approx(2 / (0.1 * np.linalg.norm(OUT)) ** 2)


@pytest.mark.slow
def test_another_checkpoint_compiles_nothing():
    seen = []

    def loss_fn(params, batch):
        seen.append(None)
        return squares(params, batch)

    quick = {"sampler": "hmc", "steps": 40, "localization": LOCALIZATION, "sampled": "head"}
    estimate_llc(loss_fn, PARAMS, DATA, **quick)
    seen.clear()
    other = {"head": HEAD + 0.1, "out": {"w": 2 * OUT, "b": np.ones(1)}}
    result = estimate_llc(loss_fn, other, DATA, **quick)
    assert not seen
    model = read_model(squares, other, DATA, sampled="head")
    assert result.laplace_llc == pytest.approx(gaussian_llc(model), rel=1e-9)  # its own frozen leaves


FORMS = "expected a pytree of booleans like params, patterns such as 'layers/0/*', or a function (path, leaf) -> bool."
WRONG = [
    ("haed", "sampled: 'haed' matches nothing of `head`, `out/b`, `out/w`.\n    Did you mean `head`?"),
    (["head", "x/*"], "sampled: 'x/*' matches nothing of `head`, `out/b`, `out/w`."),
    (lambda place, leaf: False, "sampled: chooses nothing of `head`, `out/b`, `out/w`; expected at least one entry."),
    (lambda place, leaf: 1, "sampled: found an int for params['head'], expected True, False or booleans."),
    (
        {"head": np.ones(3, bool), "out": False},
        "sampled: found booleans of shape (3,) for params['head'], expected (3, 2).",
    ),
    ([], "sampled: chooses nothing of `head`, `out/b`, `out/w`; expected at least one entry."),
    ({"head": True}, f"sampled: found no choice for `out/b`, `out/w`; {FORMS}"),
    (
        {"head": True, "out": {"w": True}, "tail": False},
        f"sampled: found no choice for `out/b` and a choice for `tail`, which params do not have; {FORMS}",
    ),
]


@pytest.mark.parametrize(("sampled", "message"), WRONG, ids=range(len(WRONG)))
def test_a_choice_that_cannot_be_used(sampled, message):
    with pytest.raises(InputError) as caught:
        estimate_llc(squares, PARAMS, DATA, sampled=sampled)
    assert str(caught.value) == message


def test_whole_numbers_cannot_be_sampled():
    with pytest.raises(InputError, match=r"sampled: chooses params\['step'\], an array of shape \(1,\); expected"):
        estimate_llc(
            squares, {**PARAMS, "step": np.ones(1, int)}, DATA, sampled={"head": True, "out": True, "step": 1 > 0}
        )


class Dropout(eqx.Module):
    weight: jax.Array
    p: float = 0.5

    def __call__(self, x):
        return x @ self.weight


def test_numbers_in_modules_are_no_parameters():
    model = read_model(lambda module, batch: module(batch["x"]) ** 2, Dropout(jnp.ones(3)), DATA)
    assert [place for place, _ in model.sampled] == ["params.weight"]


def test_statistics_of_a_batch_norm_are_no_parameters():
    variables = {"params": {"w": np.ones(3)}, "batch_stats": {"mean": np.zeros(3)}}
    model = read_model(lambda tree, batch: batch["x"] @ tree["params"]["w"], variables, DATA)
    assert [place for place, _ in model.sampled] == ["params['params']['w']"]
    assert model.num_frozen == 3


def per_token(params, batch):
    return jnp.stack([squares(params, batch), 3 * squares(params, batch)], axis=1)


def doubled(params, batch):
    return 2 * squares(params, batch)


@pytest.mark.slow
def test_losses_per_token_count_with_their_mean():
    quick = {"sampler": "hmc", "steps": 40, "localization": LOCALIZATION, "sampled": "head"}
    one, other = (estimate_llc(loss_fn, PARAMS, DATA, **quick) for loss_fn in (per_token, doubled))
    assert one.laplace_llc == pytest.approx(other.laplace_llc, rel=1e-9)
    assert one.loss_at_w0 == pytest.approx(other.loss_at_w0, rel=1e-12)
    assert one.num_data == NUM_DATA


def numpy_index(params, batch):
    inputs, labels = batch
    scores = jax.nn.log_softmax(inputs @ params["w"])
    return -scores[np.arange(scores.shape[0]), labels][np.arange(scores.shape[0])[::-1]][::-1]


@pytest.mark.nightly
def test_an_index_of_numpy_in_either_precision():
    data = (X.astype("float32"), RNG.integers(0, 4, NUM_DATA))
    params = {"w": 0.1 * RNG.standard_normal((3, 4))}
    for sampler in ("sgld", "hmc"):
        result = estimate_llc(numpy_index, params, data, sampler=sampler, steps=40, localization=LOCALIZATION)
        assert math.isfinite(result.llc)


def half(params, batch):
    cast = jax.tree.map(lambda leaf: leaf.astype("float16"), (params, batch))
    return squares(*cast)


def single(params, batch):
    return squares(*jax.tree.map(lambda leaf: leaf.astype("float32"), (params, batch)))


LEAST_SQUARES = np.linalg.lstsq(X @ HEAD, Y)[0]
TRAINED = {"head": HEAD, "out": {"w": LEAST_SQUARES, "b": np.zeros(1)}}


@pytest.mark.nightly
def test_a_loss_in_less_precision_says_what_that_costs():
    quick = {"sampler": "hmc", "steps": 1000, "localization": LOCALIZATION, "sampled": "out/w"}
    exact = estimate_llc(squares, TRAINED, DATA, **quick)
    fine = estimate_llc(single, TRAINED, DATA, **quick)
    assert abs(fine.llc - exact.laplace_llc) < 4 * fine.se
    assert not [reason for reason in fine.reasons if "rounding" in reason]
    coarse = estimate_llc(half, TRAINED, DATA, **quick | {"inverse_temperature": 100.0, "steps": 100})
    assert any(reason.startswith("rounding of float16 within the loss, over λ̂ is ") for reason in coarse.reasons)


@pytest.mark.nightly
def test_a_certificate_of_losses_in_single_precision():
    result = certify_llc(
        squares, TRAINED, DATA, sampled="out/w", dtype="float32", localization=LOCALIZATION, seconds=600
    )
    truth = gaussian_llc(read_model(squares, TRAINED, DATA, sampled="out/w"))
    assert abs(result.llc - truth) < 4 * result.se
    assert result.is_reliable, result.reasons


NAMES = [
    ("hmc", "lr", "lr: found here; expected another name.\n    Did you mean `step_size`?"),
    ("sgld", "lr", "lr: found here; expected another name.\n    Did you mean `eta0`?"),
    (
        "sgld",
        "nbeta",
        "nbeta: found here; expected another name.\n    Did you mean `inverse_temperature`? `inverse_temperature` is β "
        "= nβ/n, for the n rows of data.",
    ),
    (
        "sgld",
        "num_burnin_steps",
        "num_burnin_steps: found here; expected another name.\n    Did you mean `burn_in_fraction`? `burn_in_fraction` "
        "is a share of `steps`.",
    ),
    (
        "sgld",
        "num_draws",
        "num_draws: found here; expected another name.\n    Did you mean `steps`? `steps` counts the burn-in too.",
    ),
    ("auto", "localisation", "localisation: found here; expected another name.\n    Did you mean `localization`?"),
    ("sgld", "device", "device: no setting of this call.\n    JAX chooses it: set JAX_PLATFORMS."),
]


@pytest.mark.parametrize(("sampler", "name", "message"), NAMES, ids=range(len(NAMES)))
def test_names_of_other_packages(sampler, name, message):
    with pytest.raises(InputError) as caught:
        estimate_llc(squares, PARAMS, DATA, sampler=sampler, **{name: 1})
    assert str(caught.value) == message
