"""Rules that join several fields of one problem and that types cannot express."""

from __future__ import annotations

from collections.abc import Iterator

from lambda_hat.config.locate import Finding
from lambda_hat.config.problems import DeepLinearProblem, MLPProblem, Problem, QuadraticProblem, ReducedRankProblem

__all__ = ["inconsistencies"]


def inconsistencies(problem: Problem) -> Iterator[Finding]:
    """Findings on fields that are valid alone but not together. Paths are those of the problem."""
    match problem:
        case MLPProblem():
            yield from _of_loss(problem)
        case QuadraticProblem(smallest_curvature=low, largest_curvature=high) if low > high:
            message = f"found smallest_curvature {low} above largest_curvature {high}, expected smallest ≤ largest"
            yield Finding(("smallest_curvature",), message)
        case DeepLinearProblem() | ReducedRankProblem():
            yield from _of_linear_network(problem)
        case _:
            pass


def _of_linear_network(problem: DeepLinearProblem | ReducedRankProblem) -> Iterator[Finding]:
    smallest, in_dim = min(problem.widths), problem.widths[0]
    if problem.rank > smallest:
        message = f"found {problem.rank}, expected at most {smallest}, the smallest of the widths"
        yield Finding(("rank",), message, "No product of such layers has a higher rank.")
    if problem.num_data < in_dim:
        message = f"found {problem.num_data}, expected at least {in_dim}, the number of inputs"
        yield Finding(("num_data",), message, "Fewer examples leave a part of the product free.")


def _of_loss(problem: MLPProblem) -> Iterator[Finding]:
    if problem.loss_dof is not None and problem.loss != "student_t_nll":
        message = f"found {problem.loss_dof:g} with loss `{problem.loss}`, which has no degrees of freedom"
        yield Finding(("loss_dof",), message, "Remove it, or set `loss: student_t_nll`.")
    if problem.loss != "cross_entropy":
        return
    if problem.model.out_dim < 2:
        message = f"found {problem.model.out_dim} with loss `cross_entropy`, expected one output per class, at least 2"
        yield Finding(("model", "out_dim"), message, "Set `model.out_dim` to the number of classes.")
    if problem.data.noise != "gauss":
        message = (
            f"found '{problem.data.noise}' with loss `cross_entropy`, whose labels are drawn and have no added noise"
        )
        yield Finding(("data", "noise"), message, "Remove it; `data.noise_scale` is the temperature of the classes.")
