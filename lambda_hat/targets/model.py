"""A model: parameters w0, data, and the loss that a local posterior is made of."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from jaxtyping import Array, Float

from lambda_hat.artifacts.files import write_bytes_atomic
from lambda_hat.errors import InputError, TargetError

__all__ = ["Data", "ExactLLC", "Model", "PerExampleLossFn", "losses_of"]

Data: TypeAlias = tuple[Any, ...]  # arrays that share their first axis, one row per example
ExactLLC: TypeAlias = Callable[[float, float], float]  # λ̂ of (nβ, γ_loc)

_FORMAT = 1


class PerExampleLossFn(Hashable, Protocol):
    """Losses (B,) of a batch at a flat position: pure JAX, in the precision of its arguments.

    Hashable, and equal where it computes the same, because compiled kernels take it as a static argument. A model with
    `frozen` arrays has a loss that takes them as further arguments: they are no part of the program.
    """

    def __call__(self, position: Float[Array, " d"], batch: Data) -> Float[Array, " B"]:
        """Losses of the rows of `batch`."""
        ...


def losses_of(
    loss_fn: PerExampleLossFn, position: Float[Array, " d"], batch: Data, frozen: tuple[Array, ...]
) -> Float[Array, " B"]:
    """Losses of a batch, by a loss that takes the frozen arrays of its model, if there are any."""
    call: Callable[..., Array] = loss_fn
    return call(position, batch, *frozen)


@dataclass(frozen=True, eq=False)
class Model:
    """Parameters `w0` (d,) in float64, `data` (arrays of n rows) and the loss whose mean over the rows is L_n.

    It comes from a problem of the configuration (`build_target`) or from what somebody hands in (`read_model`).
    """

    w0: Float[np.ndarray, " d"]
    data: tuple[np.ndarray, ...]
    loss_fn: PerExampleLossFn
    info: dict[str, Any] = field(default_factory=dict)  # JSON: how good a minimum w0 is, the training curve
    problem_id: str = ""  # of the problem it was made from; empty for a model without one
    exact_llc_fn: ExactLLC | None = None  # λ̂ of (nβ, γ_loc), where it is known
    frozen: tuple[np.ndarray, ...] = ()  # floating arrays that the loss needs and that are not sampled
    sampled: tuple[tuple[str, int], ...] = ()  # leaves of w0 in their order: place and number of entries, if known
    num_frozen: int = 0  # floating entries of the parameters that are not sampled
    is_stored: bool = True  # whether the file of a model holds its data; else whoever loads it builds it again
    data_names: tuple[str, ...] = ()  # what the columns are called in messages; `data[0]`, … unless given

    @property
    def num_data(self) -> int:
        """Number of examples n."""
        return self.data[0].shape[0]

    @property
    def dim(self) -> int:
        """Number of parameters d."""
        return self.w0.size

    def exact_llc(self, nbeta: float, localization: float) -> float | None:
        """λ̂ itself where the model's own mathematics gives it, without sampling; None for other models."""
        return None if self.exact_llc_fn is None else self.exact_llc_fn(nbeta, localization)

    def columns(self, dtype: str) -> tuple[np.ndarray, ...]:
        """The data with real numbers in `dtype`, and whole numbers no wider than it.

        Raises:
            InputError: a whole number that 32 bits cannot hold.
        """
        names = self.data_names or tuple(f"data[{index}]" for index in range(len(self.data)))
        return tuple(_column(array, name, dtype) for array, name in zip(self.data, names, strict=True))

    def save(self, path: Path) -> None:
        """Write the arrays and `info` to a NumPy archive at once; functions are rebuilt from the problem.

        Raises:
            TargetError: it was not made from a problem, so that nothing could tell whose file it is.
        """
        if not self.problem_id:
            raise TargetError("A model without a problem_id cannot be saved: it was not made from a problem.")
        data = self.data if self.is_stored else ()
        header = {"format": _FORMAT, "problem_id": self.problem_id, "num_arrays": len(data), "info": self.info}
        arrays = {"header": np.array(json.dumps(header)), "w0": self.w0}
        arrays |= {f"data_{index}": array for index, array in enumerate(data)}
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        write_bytes_atomic(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path, problem_id: str, loss_fn: PerExampleLossFn) -> Model:
        """The model that `save` wrote for `problem_id`.

        Raises:
            TargetError: the file is missing, torn, of another format or of another problem.
        """
        remedy = "Delete it and run again to make it anew."
        try:
            # Read whole first: np.load leaves a torn file open.
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
                header = json.loads(str(archive["header"]))
                if header["format"] != _FORMAT:
                    raise TargetError(f"{path}: format {header['format']}, expected {_FORMAT}. {remedy}")
                if header["problem_id"] != problem_id:
                    raise TargetError(f"{path}: made for problem {header['problem_id']}, not {problem_id}. {remedy}")
                w0 = archive["w0"]
                data = tuple(archive[f"data_{index}"] for index in range(header["num_arrays"]))
        except FileNotFoundError as error:
            raise TargetError(f"{path}: there is no stored target. Run its reference first.") from error
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise TargetError(f"{path}: not a complete target file ({error}). {remedy}") from error
        return cls(w0, data, loss_fn, header["info"], problem_id)


def _column(array: np.ndarray, name: str, dtype: str) -> np.ndarray:
    if np.issubdtype(array.dtype, np.floating):
        return array.astype(dtype, copy=False)
    if dtype == "float64" or array.dtype.itemsize < 8:
        return array
    narrow = np.int32 if array.dtype.kind == "i" else np.uint32
    limits = np.iinfo(narrow)
    if array.size and (array.min() < limits.min or array.max() > limits.max):
        raise InputError(
            f"{name}: found whole numbers beyond 32 bits, which a float32 run cannot hold. Pass dtype='float64'."
        )
    return array.astype(narrow)
