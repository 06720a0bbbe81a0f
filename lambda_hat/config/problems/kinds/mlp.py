"""Teacher–student problems of fully connected networks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from lambda_hat.config.base import Frozen
from lambda_hat.config.locate import Finding
from lambda_hat.config.problems.base import PosteriorSpec, ProblemSpec

__all__ = ["Activation", "DataSpec", "MLPProblem", "ModelSpec", "TeacherSpec", "TrainingSpec"]

Activation = Literal["tanh", "relu", "gelu", "softplus", "identity"]


class ModelSpec(Frozen):
    """A fully connected network: `depth` hidden layers of `width` units."""

    in_dim: PositiveInt = 4
    out_dim: PositiveInt = 1
    depth: PositiveInt = 2
    width: PositiveInt = 4
    activation: Activation = "tanh"
    bias: bool = True


class TeacherSpec(Frozen):
    """The network that labels the data; a null depth, width or activation is the student's own."""

    depth: PositiveInt | None = None
    width: PositiveInt | None = None
    activation: Activation | None = None
    weight_scale: PositiveFloat = 1.0
    """Standard deviation of its weights, times 1/√fan_in."""


class DataSpec(Frozen):
    """Inputs, and labels = teacher + noise. All scales are standard deviations unless a comment says otherwise.

    With the loss `cross_entropy` labels are classes, drawn with probabilities softmax(teacher / noise_scale): there
    `noise_scale` is a temperature, and `noise` stays `gauss`. A low one makes classes that can be separated, for which
    no minimum exists.
    """

    num_data: Annotated[int, Field(ge=2)] = 100
    num_test: Annotated[int, Field(ge=0)] = 0
    inputs: Literal["gauss_iso", "gauss_aniso", "mixture", "lowdim_manifold", "heavy_tail"] = "gauss_iso"
    input_condition: Annotated[float, Field(ge=1)] = 10.0
    """gauss_aniso: largest over smallest variance."""
    num_mixture: PositiveInt = 4
    """mixture: number of Gaussians."""
    manifold_dim: PositiveInt = 2
    """lowdim_manifold: dimension before embedding."""
    input_dof: Annotated[float, Field(gt=2)] = 4.0
    """heavy_tail: degrees of freedom of the t distribution."""
    noise: Literal["gauss", "hetero", "student_t", "outliers"] = "gauss"
    noise_scale: PositiveFloat = 0.1
    noise_dof: Annotated[float, Field(gt=2)] = 4.0
    """Student_t."""
    outlier_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Outliers."""
    outlier_scale: PositiveFloat = 10.0
    """outliers: their noise over noise_scale."""


class TrainingSpec(Frozen):
    """Adam on minibatches, then full-batch second-order steps until the gradient is small."""

    learning_rate: PositiveFloat = 1e-2
    batch_size: PositiveInt = 500
    num_steps: Annotated[int, Field(ge=0)] = 6000
    max_polish_steps: Annotated[int, Field(ge=0)] = 300
    tolerance: PositiveFloat = 1e-4
    """Largest nβ × (decrease of L_n still available) per parameter of a minimum."""


class MLPProblem(ProblemSpec):
    """Teacher–student regression or classification with a fully connected student."""

    built_by: ClassVar[str] = "lambda_hat.targets.mlp:KIND"
    order: ClassVar[int] = 0
    presets: ClassVar[tuple[str, ...]] = ("model", "data", "teacher")

    target: Literal["mlp"] = "mlp"
    model: ModelSpec = ModelSpec()
    data: DataSpec = DataSpec()
    teacher: TeacherSpec = TeacherSpec()
    training: TrainingSpec = TrainingSpec()
    loss: Literal["gaussian_nll", "mse", "student_t_nll", "cross_entropy"] = "gaussian_nll"
    loss_dof: Annotated[float, Field(gt=2)] | None = None
    """student_t_nll: degrees of freedom; null means data.noise_dof."""
    posterior: PosteriorSpec = PosteriorSpec()
    seed: Annotated[int, Field(ge=0)] = 0

    def inconsistencies(self) -> Iterator[Finding]:
        """Settings of one loss that another one does not know."""
        if self.loss_dof is not None and self.loss != "student_t_nll":
            message = f"found {self.loss_dof:g} with loss `{self.loss}`, which has no degrees of freedom"
            yield Finding(("loss_dof",), message, "Remove it, or set `loss: student_t_nll`.")
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
