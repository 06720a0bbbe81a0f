"""What a call of `estimate_llc` or `certify_llc` found, with everything that is needed to judge it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from lambda_hat.formatting import estimate, number
from lambda_hat.reference.certificate import Certificate
from lambda_hat.reference.survey import Survey

if TYPE_CHECKING:
    import arviz as az

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
    laplace_llc: float | None  # λ̂ if the posterior were Gaussian; None where the Hessian is too large
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

    @property
    def is_reliable(self) -> bool:
        """Whether there is no reason against it."""
        return not self.reasons

    def __repr__(self) -> str:
        verdict = "certified" if self.certificate else "reliable"
        facts = {
            "Laplace": number(self.laplace_llc),
            "γ_loc": number(self.localization),
            "nβ": number(self.nbeta),
            "d": str(self.dim),
            "n": str(self.num_data),
        }
        diagnostics = {
            "R̂": number(self.rhat, ".3f"),
            "bulk ESS": number(self.ess_bulk, ",.0f"),
            "tail ESS": number(self.ess_tail, ",.0f"),
            **{
                label: number(self.extras[name], spec)
                for name, label, spec in (
                    ("acceptance_rate", "acceptance", ".2f"),
                    ("k_hat", "k̂", ".2f"),
                    ("llc_psis", "λ̂ by importance sampling", ".4g"),
                    ("predicted_bias", "predicted bias", "+.1%"),
                )
                if name in self.extras
            },
            "gradients": number(self.num_gradient_evaluations, ",.0f"),
            "seconds": number(self.seconds, ",.1f"),
        }
        lines = [
            f"λ̂ = {estimate(self.llc, self.se)}  {self.sampler}, {verdict if self.is_reliable else 'not ' + verdict}",
            *("  ".join(f"{name} {value}" for name, value in row.items()) for row in (facts, diagnostics)),
            *([f"restricted to {self._named_parts}: {self.num_frozen} stay as they are"] if self.num_frozen else []),
            self.survey.describe(),
            *(f"because {reason}" for reason in self.reasons),
        ]
        return "\n  ".join(lines)

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
        """ArviZ's container: `posterior` has `excess_loss` = L_n(w) − L_n(w0) and `squared_distance` = r².

        Attributes are those of `to_dict`, lists and mappings as JSON and without what is None, so that it can be
        written to netCDF.
        """
        attrs = {
            name: json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value
            for name, value in self.to_dict().items()
            if value is not None
        }
        attrs["is_reliable"] = int(self.is_reliable)  # netCDF has no truth values
        posterior = {"excess_loss": self.loss_trace / self.nbeta, "squared_distance": self.distance_trace}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # announces ArviZ 1.0, which this project does not use yet
            warnings.simplefilter("ignore", UserWarning)  # fewer draws than chains
            import arviz as az

            return az.from_dict(posterior=posterior, sample_stats=dict(self.sample_stats), attrs=attrs)
