"""PyTorch modules as JAX functions, by torchax, each checked against PyTorch itself.

Tested with torch 2.13.0 and torchax 0.0.13. Everything that touches either of them is here.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lambda_hat.errors import InputError

__all__ = ["TESTED_VERSIONS", "TorchLoss", "from_torch"]

TESTED_VERSIONS = {"torch": "2.13.0", "torchax": "0.0.13"}
NUM_ROWS_CHECKED = 8
TOLERANCE = 1e-3  # of the largest entry: float32 rounding of two orders of summation stays far below

_RANDOM = ("Dropout", "AlphaDropout", "FeatureAlphaDropout", "Dropout1d", "Dropout2d", "Dropout3d", "RReLU")
_OF_BATCHES = ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm")
_INSTALL = "from_torch needs PyTorch and torchax: `pip install torch==2.13.0 torchax==0.0.13`."


@dataclass(frozen=True)
class TorchLoss:
    """`loss(module, batch)` as a function of ({"params": …, "buffers": …}, batch) in JAX.

    Equal for the same module and function, whatever its weights: those come with each call.
    """

    module: Any
    loss: Callable[[Any, Any], Any]

    def __call__(self, params: Any, batch: Any) -> jax.Array:
        """Losses (B,) or (B, T) of a batch of arrays, which the function sees as tensors."""
        torch, torchax = _libraries()
        wrapped = _wrapped(self.module, self.loss)
        named = {f"module.{name}": value for part in params.values() for name, value in part.items()}
        with torchax.default_env():
            tensors, rows = torchax.interop.torch_view(jax.tree.map(jnp.asarray, (named, batch)))
            return torchax.interop.jax_view(torch.func.functional_call(wrapped, tensors, (rows,)))


def from_torch(
    module: Any, loss: Callable[[Any, Any], Any], data: Any
) -> tuple[TorchLoss, dict[str, dict[str, np.ndarray]], Any]:
    """What `estimate_llc` takes, from a PyTorch module: (loss_fn, params, data).

    Value and gradient of a few rows are compared with PyTorch's own before anything is returned.

    Args:
        module: a trained `torch.nn.Module`, in eval mode.
        loss: `loss(module, batch)` gives a tensor (B,), or (B, T) of losses per token, neither summed nor averaged.
        data: any pytree of tensors or arrays with one row per example; a batch is the same with fewer rows.

    Parameters without `requires_grad` and buffers stay as they are. `params` has `"params"` and `"buffers"`, each by
    PyTorch's own names, so that patterns for `sampled` read `"params/encoder.*"`.

    Raises:
        InputError: PyTorch or torchax is not there or is another one than works, a module in train mode whose layers
            then are random or mix rows, or a module that does not compute in JAX what it computes in PyTorch.
    """
    torch, _ = _libraries()
    if not isinstance(module, torch.nn.Module):
        raise InputError(f"module: found a {type(module).__name__}, expected a torch.nn.Module.")
    _refuse_train_mode(module)
    trained = {name: _array(value) for name, value in module.named_parameters() if value.requires_grad}
    if not trained:
        raise InputError("module: found no parameter with `requires_grad`, expected at least one: those are sampled.")
    fixed = {name: _array(value) for name, value in module.named_parameters() if not value.requires_grad}
    fixed |= {name: _array(value) for name, value in module.named_buffers()}
    params = {"params": trained, **({"buffers": fixed} if fixed else {})}
    columns = jax.tree.map(_array, data)
    loss_fn = TorchLoss(module, loss)
    _check(loss_fn, params, columns)
    return loss_fn, params, columns


def _array(value: Any) -> np.ndarray:
    """A tensor as an array of its own; arrays as they are."""
    if isinstance(value, np.ndarray | jax.Array):
        return np.asarray(value)
    torch, _ = _libraries()
    if not isinstance(value, torch.Tensor):
        raise InputError(f"data: found a {type(value).__name__}, expected tensors or arrays.")
    tensor = value.detach().cpu()
    return np.array((tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy())


def _refuse_train_mode(module: Any) -> None:
    """Refuse layers that are random, or see other rows, as long as they are in train mode."""
    for name, layer in module.named_modules():
        kind = type(layer).__name__
        is_random = kind in _RANDOM and getattr(layer, "p", 1.0) > 0
        is_attention = kind in ("MultiheadAttention", "LSTM", "GRU", "RNN") and getattr(layer, "dropout", 0.0) > 0
        if layer.training and (is_random or is_attention or kind in _OF_BATCHES):
            what = "random" if kind not in _OF_BATCHES else "a function of the whole batch"
            raise InputError(
                f"module: found {kind} `{name}` in train mode, where its output is {what}. Call `module.eval()` first."
            )


@functools.lru_cache(maxsize=64)
def _wrapped(module: Any, loss: Callable[[Any, Any], Any]) -> Any:
    """The loss as a module, whose parameters `functional_call` can replace."""
    torch, _ = _libraries()

    class Loss(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, batch: Any) -> Any:
            return loss(self.module, batch)

    return Loss()


def _check(loss_fn: TorchLoss, params: dict[str, dict[str, np.ndarray]], data: Any) -> None:
    """Compare losses and the gradient of their sum on a few rows with PyTorch's own."""
    torch, _ = _libraries()
    rows = jax.tree.map(lambda column: column[:NUM_ROWS_CHECKED], data)
    dtype = "float64" if any(value.dtype == np.float64 for value in params["params"].values()) else "float32"
    losses = loss_fn.loss(loss_fn.module, jax.tree.map(torch.as_tensor, rows))
    if not isinstance(losses, torch.Tensor) or losses.ndim == 0:
        raise InputError(
            "loss: found a single number, expected a tensor with the loss of each row. Leave out the mean over the "
            "batch (`reduction='none'`)."
        )
    wanted = dict(loss_fn.module.named_parameters())
    names = list(params["params"])
    gradients = torch.autograd.grad(losses.sum(), [wanted[name] for name in names], allow_unused=True)
    own = [losses, *gradients]
    with jax.enable_x64(dtype == "float64"):
        try:
            found, gradient = jax.jit(
                lambda trained: (
                    loss_fn({**params, "params": trained}, rows),
                    jax.grad(lambda w: jnp.sum(loss_fn({**params, "params": w}, rows)))(trained),
                )
            )(params["params"])
        except Exception as error:  # whatever torchax does where it knows no JAX for an operation
            raise InputError(f"module: torchax cannot turn it into JAX: {type(error).__name__}: {error}") from error
    for name, one, other in zip(
        ["losses", *(f"gradient of {name}" for name in names)],
        own,
        [found, *(gradient[name] for name in names)],
        strict=True,
    ):
        expected = np.zeros(np.shape(other)) if one is None else np.asarray(_array(one), np.float64)
        difference = float(np.max(np.abs(np.asarray(other, np.float64) - expected), initial=0.0))
        scale = float(np.max(np.abs(expected), initial=0.0))
        if not (math.isfinite(difference) and difference <= TOLERANCE * max(scale, 1e-3)):
            raise InputError(
                f"module: its {name} differ by {difference:.3g} between PyTorch and JAX, of at most {scale:.3g}. "
                "Write the part that differs in JAX, or use another operation."
            )


# Importing


@functools.cache
def _libraries() -> tuple[Any, Any]:
    """PyTorch and torchax.

    Raises:
        InputError: what is missing or does not fit, and what to install.
    """
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise InputError(_INSTALL) from error
    try:
        with _missing_overloads_tolerated(torch):
            torchax = importlib.import_module("torchax")
            importlib.import_module("torchax.interop")
            torchax.default_env()  # which loads the tables of operations
    except ImportError as error:
        raise InputError(_INSTALL) from error
    except Exception as error:  # of versions that do not fit
        versions = ", ".join(f"{name} {version}" for name, version in TESTED_VERSIONS.items())
        raise InputError(
            f"torchax does not work with torch {torch.__version__} ({type(error).__name__}: {error}). Tested: "
            f"{versions}."
        ) from error
    return torch, torchax


@contextlib.contextmanager
def _missing_overloads_tolerated(torch: Any) -> Generator[None]:
    """While torchax loads its tables, overloads that this torch no longer has (named tensors) are nothing at all."""
    packet = type(torch.ops.aten.add)
    original = packet.__getattr__

    def tolerant(self: Any, name: str) -> Any:
        try:
            return original(self, name)
        except AttributeError:
            if "imname" not in name and "names" not in name:
                raise
            return None

    packet.__getattr__ = tolerant
    try:
        yield
    finally:
        packet.__getattr__ = original
