"""Teacher–student problems of fully connected networks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lambda_hat.config.base import Frozen
from lambda_hat.config.locate import Finding
from lambda_hat.config.numbers import LARGEST, NaturalInt, NonNegativeFloat, PositiveFloat, PositiveInt, Seed, Size
from lambda_hat.config.problems.base import PosteriorSpec, ProblemSpec

__all__ = ["Activation", "DataSpec", "MLPProblem", "ModelSpec", "TeacherSpec", "TrainingSpec"]

Depth = Annotated[PositiveInt, Field(le=1000)]
Activation = Literal["tanh", "relu", "gelu", "softplus", "identity"]


class ModelSpec(Frozen):
    """A fully connected network: `depth` hidden layers of `width` units."""

    in_dim: Size = 4
    """Inputs."""
    out_dim: Size = 1
    """Outputs."""
    depth: Depth = 2
    """Hidden layers."""
    width: Size = 4
    """Units of each hidden layer."""
    activation: Activation = "tanh"
    """Activation of the hidden units."""
    bias: bool = True
    """Whether layers have biases."""


class TeacherSpec(Frozen):
    """The network that labels the data; a null depth, width or activation is the student's own."""

    depth: Depth | None = None
    """Hidden layers; null takes the student's."""
    width: Size | None = None
    """Units of each hidden layer; null takes the student's."""
    activation: Activation | None = None
    """Activation of the hidden units; null takes the student's."""
    weight_scale: PositiveFloat = 1.0
    """Standard deviation of the weights, times 1/√fan_in."""


class DataSpec(Frozen):
    """Inputs, and labels = teacher + noise. All scales are standard deviations unless a comment says otherwise.

    With the loss `cross_entropy` labels are classes, drawn with probabilities softmax(teacher / noise_scale): there
    `noise_scale` is a temperature, and `noise` stays `gauss`. A low one makes classes that can be separated, for which
    no minimum exists.
    """

    num_data: Annotated[NaturalInt, Field(ge=2)] = 100
    """Rows of data n."""
    num_test: NaturalInt = 0
    """Rows to measure a test loss on; 0 measures none."""
    inputs: Literal["gauss_iso", "gauss_aniso", "mixture", "lowdim_manifold", "heavy_tail"] = "gauss_iso"
    """Distribution of the inputs."""
    input_condition: Annotated[NonNegativeFloat, Field(ge=1)] = 10.0
    """Largest over smallest variance of the inputs, for `gauss_aniso`."""
    num_mixture: Size = 4
    """Gaussians, for `mixture`."""
    manifold_dim: Size = 2
    """Dimension of the inputs before they are embedded, for `lowdim_manifold`."""
    input_dof: Annotated[float, Field(gt=2, le=LARGEST)] = 4.0
    """Degrees of freedom of the t distribution, for `heavy_tail`."""
    noise: Literal["gauss", "hetero", "student_t", "outliers"] = "gauss"
    """Distribution of the noise in the labels."""
    noise_scale: PositiveFloat = 0.1
    """Standard deviation of the noise; with `cross_entropy`, the temperature of the classes."""
    noise_dof: Annotated[float, Field(gt=2, le=LARGEST)] = 4.0
    """Degrees of freedom of the t distribution, for `student_t`."""
    outlier_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the labels that are outliers, for `outliers`."""
    outlier_scale: PositiveFloat = 10.0
    """Standard deviation of the noise of outliers over `noise_scale`, for `outliers`."""


class TrainingSpec(Frozen):
    """Adam on minibatches, then full-batch second-order steps until the gradient is small."""

    learning_rate: PositiveFloat = 1e-2
    """Learning rate of Adam."""
    batch_size: PositiveInt = 500
    """Rows of a minibatch."""
    num_steps: NaturalInt = 6000
    """Steps of Adam."""
    max_polish_steps: NaturalInt = 300
    """Second-order steps on the full data that follow, at most."""
    tolerance: PositiveFloat = 1e-4
    """Largest nβ × (decrease of L_n still available) per parameter that a minimum may have."""


_NEEDED = {  # by a setting of the data: the one that it means something with
    "input_condition": ("inputs", "gauss_aniso"),
    "num_mixture": ("inputs", "mixture"),
    "manifold_dim": ("inputs", "lowdim_manifold"),
    "input_dof": ("inputs", "heavy_tail"),
    "noise_dof": ("noise", "student_t"),
    "outlier_fraction": ("noise", "outliers"),
    "outlier_scale": ("noise", "outliers"),
}


class MLPProblem(ProblemSpec):
    """Teacher–student regression or classification with a fully connected student."""

    built_by: ClassVar[str] = "lambda_hat.targets.mlp:KIND"
    order: ClassVar[int] = 0
    presets: ClassVar[tuple[str, ...]] = ("model", "data", "teacher")

    target: Literal["mlp"] = "mlp"
    """Kind of target."""
    model: ModelSpec = ModelSpec()
    """The student network, which is trained."""
    data: DataSpec = DataSpec()
    """The data."""
    teacher: TeacherSpec = TeacherSpec()
    """The network that labels the data."""
    training: TrainingSpec = TrainingSpec()
    """How the student is trained."""
    loss: Literal["gaussian_nll", "mse", "student_t_nll", "cross_entropy"] = "gaussian_nll"
    """Loss per row."""
    loss_dof: Annotated[float, Field(gt=2, le=LARGEST)] | None = None
    """Degrees of freedom of `student_t_nll`; null takes `data.noise_dof`."""
    posterior: PosteriorSpec = PosteriorSpec()
    """The local posterior around w0."""
    seed: Seed = 0
    """Seed of the data, the training and everything else that is random in the target."""

    @property
    def num_rows(self) -> int:
        """Rows of data n."""
        return self.data.num_data

    def inconsistencies(self) -> Iterator[Finding]:
        """Settings of one loss that another one does not know."""
        if self.loss_dof is not None and self.loss != "student_t_nll":
            message = f"found {self.loss_dof:g} with loss `{self.loss}`, which has no degrees of freedom"
            yield Finding(("loss_dof",), message, "Remove it, or set `loss: student_t_nll`.")
        yield from self._without_effect()
        if self.loss != "cross_entropy":
            return
        if self.model.out_dim < 2:
            message = f"found {self.model.out_dim} with loss `cross_entropy`, expected one output per class, at least 2"
            yield Finding(("model", "out_dim"), message, "Set `model.out_dim` to the number of classes.")
        if self.data.noise != "gauss":
            message = (
                f"found '{self.data.noise}' with loss `cross_entropy`, whose labels are drawn and have no added noise"
            )
            hint = "Remove it; `data.noise_scale` is the temperature of the classes."
            yield Finding(("data", "noise"), message, hint)

    def _without_effect(self) -> Iterator[Finding]:
        """Settings of the data that were written and that the kinds of inputs and noise do not use."""
        written = self.data.model_fields_set
        for name, (field, kind) in _NEEDED.items():
            value = getattr(self.data, field)
            is_used = value == kind or (name == "noise_dof" and self.loss == "student_t_nll" and self.loss_dof is None)
            if name in written and not is_used:
                message = f"it has no effect with `data.{field}: {value}`"
                yield Finding(("data", name), message, f"Remove it, or set `data.{field}: {kind}`.", is_about_key=True)
