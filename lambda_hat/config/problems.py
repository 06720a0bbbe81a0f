"""What a problem may say: the data, networks and posterior that define one target and its reference."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from lambda_hat.config.base import Expected, Frozen

__all__ = [
    "TARGETS",
    "DataSpec",
    "DeepLinearProblem",
    "LinearRegressionProblem",
    "LocalizationRadius",
    "MLPProblem",
    "ModelSpec",
    "PosteriorSpec",
    "PotentialProblem",
    "Problem",
    "ProblemEntry",
    "QuadraticProblem",
    "ReducedRankProblem",
    "TeacherSpec",
    "TrainingSpec",
]

Activation = Literal["tanh", "relu", "gelu", "softplus", "identity"]


class LocalizationRadius(Frozen):
    """Localization from a radius relative to |w0|: γ_loc = d / (ρ |w0|)²."""

    radius: PositiveFloat = 0.1
    """Ρ, relative to |w0|."""


class PosteriorSpec(Frozen):
    """The local posterior π(w) ∝ exp(−nβ L_n(w) − (γ_loc/2) |w − w0|²)."""

    localization: PositiveFloat | LocalizationRadius = LocalizationRadius()
    """Γ_loc, or a radius it follows from."""
    inverse_temperature: PositiveFloat | None = None
    """Β; null means 1/log n."""

    def nbeta(self, num_data: int) -> float:
        """n·β, the factor of L_n in the local posterior."""
        return num_data * (self.inverse_temperature or 1 / math.log(num_data))

    def localization_at(self, dim: int, w0_norm: float) -> float:
        """γ_loc at a w0 of `dim` entries; a radius around the origin counts as relative to |w0| = 1."""
        if isinstance(self.localization, LocalizationRadius):
            return dim / (self.localization.radius * (w0_norm or 1.0)) ** 2
        return self.localization


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


class MLPProblem(Frozen):
    """Teacher–student regression or classification with a fully connected student."""

    has_exact_llc: ClassVar[bool] = False

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


class QuadraticProblem(Frozen):
    """L_n(w) = ½ (w − w0)ᵀ H (w − w0) with per-example linear terms g_i·(w − w0), Σ g_i = 0: exact in closed form."""

    has_exact_llc: ClassVar[bool] = True

    target: Literal["quadratic"] = "quadratic"
    dim: PositiveInt = 10
    num_data: Annotated[int, Field(ge=2)] = 1000
    smallest_curvature: PositiveFloat = 0.1
    """Eigenvalues of H are spaced evenly in logarithm between these two."""
    largest_curvature: PositiveFloat = 10.0
    is_rotated: bool = True
    """Eigenvectors drawn at random instead of the axes."""
    gradient_noise: Annotated[float, Field(ge=0)] = 1.0
    """Standard deviation of each coordinate of g_i."""
    posterior: PosteriorSpec = PosteriorSpec(localization=1.0)
    seed: Annotated[int, Field(ge=0)] = 0


class LinearRegressionProblem(Frozen):
    """y = w·x + N(0, σ²) noise with σ known, w0 the least-squares solution: exact in closed form."""

    has_exact_llc: ClassVar[bool] = True

    target: Literal["linear_regression"] = "linear_regression"
    dim: PositiveInt = 10
    num_data: Annotated[int, Field(ge=2)] = 1000
    input_condition: Annotated[float, Field(ge=1)] = 10.0
    """Largest over smallest variance of the inputs."""
    noise_scale: PositiveFloat = 1.0
    """Σ."""
    posterior: PosteriorSpec = PosteriorSpec(localization=1.0)
    seed: Annotated[int, Field(ge=0)] = 0


class PotentialProblem(Frozen):
    """L_n(w) = w₁²ᵏ w₂²ˡ around w0 = 0, with linear terms g_i·w, Σ g_i = 0: singular, exact by quadrature."""

    has_exact_llc: ClassVar[bool] = True

    target: Literal["potential"] = "potential"
    k: PositiveInt = 1
    l: PositiveInt = 1  # noqa: E741
    num_data: Annotated[int, Field(ge=2)] = 1000
    gradient_noise: Annotated[float, Field(ge=0)] = 0.1
    """Standard deviation of each coordinate of g_i."""
    posterior: PosteriorSpec = PosteriorSpec(localization=1.0)
    seed: Annotated[int, Field(ge=0)] = 0


class LinearNetworkProblem(Frozen):
    """f(w, x) = x W₁⋯W_L, labelled without noise by a product of low rank, of which w0 is one factorisation."""

    has_exact_llc: ClassVar[bool] = False

    rank: Annotated[int, Field(ge=0)] = 2
    """Of the product."""
    fibre: Literal["lowest", "full_rank"] = "lowest"
    """Where on the fibre of equal products w0 lies: where the learning coefficient is lowest, or where all layers
    but the last have full rank."""
    num_data: Annotated[int, Field(ge=2)] = 1000
    noise_scale: PositiveFloat = 0.1
    """Σ of the loss |f − y|²/(2σ²)."""
    posterior: PosteriorSpec = PosteriorSpec(localization=1.0)
    seed: Annotated[int, Field(ge=0)] = 0


class DeepLinearProblem(LinearNetworkProblem):
    """A deep linear network: inputs, hidden layers and outputs of the given widths."""

    target: Literal["deep_linear"] = "deep_linear"
    widths: Annotated[
        tuple[PositiveInt, ...],
        Field(min_length=3),
        Expected("a list of at least three whole numbers greater than 0"),
    ] = (5, 5, 5, 5)


class ReducedRankProblem(LinearNetworkProblem):
    """Reduced-rank regression: a linear network with one hidden layer."""

    target: Literal["reduced_rank"] = "reduced_rank"
    in_dim: PositiveInt = 5
    hidden_dim: PositiveInt = 3
    out_dim: PositiveInt = 5

    @property
    def widths(self) -> tuple[int, int, int]:
        """Inputs, hidden units, outputs."""
        return self.in_dim, self.hidden_dim, self.out_dim


Problem = Annotated[
    MLPProblem | QuadraticProblem | LinearRegressionProblem | PotentialProblem | DeepLinearProblem | ReducedRankProblem,
    Field(discriminator="target"),
]

TARGETS: dict[str, type[Problem]] = {
    "mlp": MLPProblem,
    "quadratic": QuadraticProblem,
    "linear_regression": LinearRegressionProblem,
    "potential": PotentialProblem,
    "deep_linear": DeepLinearProblem,
    "reduced_rank": ReducedRankProblem,
}


class ProblemEntry(Frozen):
    """One entry of `problems:` as the file has it: names of presets, a seed, overrides (dotted or nested)."""

    target: Literal["mlp", "quadratic", "linear_regression", "potential", "deep_linear", "reduced_rank"] = "mlp"
    """Kind of target."""
    model: str = "small"
    """Preset of the network (mlp)."""
    data: str = "small"
    """Preset of the data (mlp)."""
    teacher: str = "_null"
    """Preset of the network that labels them (mlp)."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of data, training and everything random in the target."""
    overrides: dict[str, object] = {}
    """Values over the presets', dotted or nested."""

    @property
    def title(self) -> str:
        """The entry in one line, as people are shown it."""
        parts = [self.target]
        if self.target == "mlp":
            parts += [f"{kind} {getattr(self, kind)}" for kind in ("model", "data", "teacher")]
        parts += [f"seed {self.seed}", *(f"{key}={value}" for key, value in self.overrides.items())]
        return ", ".join(parts)
