"""What a call of `estimate_llc` or `certify_llc` found, with everything that is needed to judge it."""

from __future__ import annotations

import html
import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from lambda_hat.drawing import GREY, new_axes
from lambda_hat.draws.rows import RowLosses
from lambda_hat.formatting import estimate, html_table, number
from lambda_hat.reference.certificate import Certificate
from lambda_hat.reference.survey import Survey

if TYPE_CHECKING:
    import arviz as az
    from matplotlib.axes import Axes

__all__ = ["LLCResult"]

_MOST_NAMED = 4  # leaves


@dataclass(frozen=True, eq=False, repr=False)
class LLCResult:
    """λ̂ = nβ (E_π[L_n(w)] − L_n(w0)) and its Monte Carlo standard error, with the reasons not to rely on it.

    `rhat` is the larger of those of the loss and of r² = |w − w0|², `ess_bulk` and `ess_tail` the smaller ones. Traces
    are `(num_chains, num_draws)`, without burn-in; for VI they are draws of the fitted densities, a chain per fit.
    """

    sampler: str
    llc: float
    se: float
    raw_llc: float  # before its correction by identities; the mean of `loss_trace` where all draws weigh the same
    rhat: float
    ess_bulk: float
    ess_tail: float
    reasons: tuple[str, ...]  # a sentence each
    loss_trace: Float[np.ndarray, "chains draws"]  # nβ (L_n(w) − L_n(w0)); minibatch readings for SGLD
    distance_trace: Float[np.ndarray, "chains draws"]  # r²
    sample_stats: Mapping[str, np.ndarray]  # more traces: acceptance_rate, diverging, energy, weight
    localization: float  # γ_loc
    nbeta: float  # nβ
    dim: int  # d
    num_data: int  # n
    loss_at_w0: float  # L_n(w0)
    laplace_llc: float | None  # λ̂ if the posterior were Gaussian; None where a Hessian costs too much beside the run
    decrease_available: float  # what the local potential nβ(L_n(w) − L_n(w0)) + γ_loc r²/2 can still lose
    survey: Survey  # how far was looked for other wells, and what was seen
    num_gradient_evaluations: float  # on the full-data scale, burn-in and adaptation included
    num_curvature_passes: int  # over the data, for Hessians: one per column
    seconds: float
    seed: int
    settings: Mapping[str, Any]
    extras: Mapping[str, float]  # what only some samplers report, such as k_hat and llc_psis
    certificate: Certificate | None = None
    sampled: tuple[str, ...] = ()  # the leaves that d counts
    num_frozen: int = 0  # entries of the other floating leaves; where there are some, λ̂ is a restricted LLC
    row_losses: RowLosses | None = None  # of the `rows` that were asked for; None too where no time was left for draws

    @property
    def is_reliable(self) -> bool:
        """Whether there is no reason against it."""
        return not self.reasons

    @property
    def _verdict(self) -> str:
        verdict = "certified" if self.certificate else "reliable"
        return verdict if self.is_reliable else f"not {verdict}"

    @property
    def _facts(self) -> dict[str, str]:
        return {
            "Laplace": number(self.laplace_llc),
            "γ_loc": number(self.localization),
            "nβ": number(self.nbeta),
            "d": str(self.dim),
            "n": str(self.num_data),
        }

    @property
    def _diagnostics(self) -> dict[str, str]:
        return {
            "R̂": number(self.rhat, ".3f"),
            "bulk ESS": number(self.ess_bulk, ",.0f"),
            "tail ESS": number(self.ess_tail, ",.0f"),
            **{
                label: number(self.extras[name], spec)
                for name, label, spec in (
                    ("acceptance_rate", "acceptance", ".2f"),
                    ("k_hat", "k̂", ".2f"),
                    ("llc_psis", "λ̂ by importance sampling", ".4g"),
                    ("predicted_bias", "bias predicted by step and batch", "+.1%"),
                )
                if name in self.extras
            },
            "gradients": number(self.num_gradient_evaluations, ",.0f"),
            "seconds": number(self.seconds, ",.1f"),
        }

    def __repr__(self) -> str:
        lines = [
            f"λ̂ = {estimate(self.llc, self.se)}  {self.sampler}, {self._verdict}",
            *("  ".join(f"{name} {value}" for name, value in row.items()) for row in (self._facts, self._diagnostics)),
            *self._remarks,
            *(f"because {reason}" for reason in self.reasons),
        ]
        return "\n  ".join(lines)

    def _repr_html_(self) -> str:
        tables = html_table([self._facts | self._diagnostics])
        remarks = "".join(f"<div>{html.escape(remark)}</div>" for remark in self._remarks)
        reasons = "".join(f"<li>{html.escape(reason)}</li>" for reason in self.reasons)
        head = f"<b>λ̂ = {estimate(self.llc, self.se)}</b> {html.escape(self.sampler)}, {self._verdict}"
        return f"<div>{head}</div>{tables}{remarks}<ul>{reasons}</ul>"

    def plot(self, axes: Axes | None = None) -> Axes:
        """Readings nβ (L_n(w) − L_n(w0)) of each chain as running means, with λ̂ ± 1.96 standard errors.

        Where λ̂ is corrected by identities, or extrapolated, the means end beside it, and tell by how much. Draws that
        do not weigh the same, as of annealed steps, are averaged by their weights.
        """
        axes = new_axes() if axes is None else axes
        weights = np.asarray(self.sample_stats.get("weight", np.ones_like(self.loss_trace)), np.float64)
        with np.errstate(invalid="ignore", over="ignore"):  # a chain that diverged
            means = np.cumsum(weights * self.loss_trace, axis=1) / np.cumsum(weights, axis=1)
        for index, mean in enumerate(means):
            axes.plot(np.arange(1, mean.size + 1), mean, linewidth=0.8, label=None if index else "chains, running mean")
        axes.axhline(self.llc, color="black", linewidth=1.0, label="λ̂")
        if math.isfinite(self.se):
            axes.axhspan(self.llc - 1.96 * self.se, self.llc + 1.96 * self.se, color="black", alpha=0.15, linewidth=0)
        if self.laplace_llc is not None and math.isfinite(self.laplace_llc):
            axes.axhline(self.laplace_llc, color=GREY, linestyle="--", linewidth=1.0, label="Laplace")
        axes.set_xlabel("draw")
        axes.set_ylabel("λ̂")
        axes.set_title(f"{self.sampler}, {self._verdict}")
        axes.legend()
        return axes

    @property
    def _remarks(self) -> list[str]:
        restricted = f"restricted to {self._named_parts}: {self.num_frozen} stay as they are"
        return [*([restricted] if self.num_frozen else []), self.survey.describe()]

    @property
    def _named_parts(self) -> str:
        more = len(self.sampled) - _MOST_NAMED
        return ", ".join(self.sampled[:_MOST_NAMED]) + (f" and {more} more leaves" if more > 0 else "")

    def to_dict(self) -> dict[str, Any]:
        """Every figure but the traces, as plain data."""
        names = (
            "sampler", "llc", "se", "raw_llc", "rhat", "ess_bulk", "ess_tail", "is_reliable", "localization", "nbeta",
            "dim", "num_data", "loss_at_w0", "laplace_llc", "decrease_available", "num_gradient_evaluations",
            "num_curvature_passes", "seconds", "seed", "num_frozen",
        )  # fmt: skip
        certificate = None if self.certificate is None else self.certificate.to_list()
        return {
            **{name: getattr(self, name) for name in names},
            "reasons": list(self.reasons),
            "sampled": list(self.sampled),
            "settings": dict(self.settings),
            "extras": dict(self.extras),
            "certificate": certificate,
            "survey": self.survey.to_dict(),
        }

    def to_inference_data(self) -> az.InferenceData:
        """ArviZ's container: `posterior` has `excess_loss` = L_n(w) − L_n(w0), `squared_distance` = r² and `raw_llc`.

        `raw_llc` are readings nβ (L_n(w) − L_n(w0)), whose mean is λ̂ before its correction by identities. A group
        `row_losses` has what was kept of rows and queries, with the `step` of each draw. Attributes are those of
        `to_dict`, lists and mappings as JSON and without what is None, so that it can be written to netCDF.
        """
        attrs = {
            name: json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value
            for name, value in self.to_dict().items()
            if value is not None
        }
        attrs["is_reliable"] = int(self.is_reliable)  # netCDF has no truth values
        posterior = {
            "excess_loss": self.loss_trace / self.nbeta,
            "squared_distance": self.distance_trace,
            "raw_llc": self.loss_trace,
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # announces ArviZ 1.0, which this project does not use yet
            warnings.simplefilter("ignore", UserWarning)  # fewer draws than chains
            import arviz as az

            data = az.from_dict(posterior=posterior, sample_stats=dict(self.sample_stats), attrs=attrs)
            if self.row_losses is not None:
                data.add_groups({"row_losses": self.row_losses.to_dataset()})
            return data
