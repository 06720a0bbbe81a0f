"""Small networks trained on data sets that scikit-learn brings along."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lambda_hat.config.numbers import PositiveFloat, Seed, Size
from lambda_hat.config.problems.base import PosteriorSpec, ProblemSpec
from lambda_hat.config.problems.kinds.mlp import TrainingSpec
from lambda_hat.config.validation import Finding

__all__ = ["RealDataProblem"]

_NUM_ROWS = {"digits": 1797, "diabetes": 442}
_NEEDED = {
    "label_smoothing": "digits",
    "noise_scale": "diabetes",
}  # by a setting: the data that it means something with


class RealDataProblem(ProblemSpec):
    """A tanh network trained on scikit-learn's digits (classes) or diabetes (a number), by the extra `datasets`."""

    built_by: ClassVar[str] = "lambda_hat.targets.real_data:KIND"
    order: ClassVar[int] = 40

    target: Literal["real_data"] = "real_data"
    """Kind of target."""
    dataset: Literal["digits", "diabetes"] = "digits"
    """Data: 1797 images of 8 × 8 pixels in ten classes, or ten measurements of 442 patients, all standardised."""
    network: Literal["mlp", "cnn"] = "mlp"
    """One hidden layer, or two convolutions of 3 × 3 with stride 2, for `digits`, before a linear layer."""
    width: Size = 8
    """Units of the hidden layer, or channels of each convolution."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Probability of the classes that a label does not name, for `digits`. With 0 a network that separates the classes
    has no minimum at finite weights.
    """
    noise_scale: PositiveFloat = 0.7
    """Standard deviation of a Gaussian's errors, for `diabetes`. Linear regression leaves 0.7."""
    training: TrainingSpec = TrainingSpec()
    """How the network is trained."""
    posterior: PosteriorSpec = PosteriorSpec()
    """The local posterior around w0."""
    seed: Seed = 0
    """Seed of the starting point and the minibatches of the training."""

    @property
    def num_rows(self) -> int:
        """Rows of data n."""
        return _NUM_ROWS[self.dataset]

    def inconsistencies(self) -> Iterator[Finding]:
        """Settings that the data or the network do not know, and data that are not there."""
        if find_spec("sklearn") is None:
            message = f"found '{self.dataset}', and scikit-learn, which has it, is not installed"
            yield Finding(("dataset",), message, "Install the extra: `pip install 'lambda-hat[datasets]'`.")
        if self.network == "cnn" and self.dataset != "digits":
            message = f"found 'cnn' with dataset `{self.dataset}`, expected `mlp`: there are no images in it"
            yield Finding(("network",), message)
        for name, dataset in _NEEDED.items():
            if name in self.model_fields_set and self.dataset != dataset:
                message = f"it has no effect with `dataset: {self.dataset}`"
                yield Finding((name,), message, f"Remove it, or set `dataset: {dataset}`.", is_about_key=True)
