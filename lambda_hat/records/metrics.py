"""`metrics.json`: what a trial or run ended with."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import model_validator

from lambda_hat.config.methods import REPORTS
from lambda_hat.draws.criteria import MAX_RELATIVE_BIAS, MAX_RHAT_APPROXIMATE, MAX_VIRIAL
from lambda_hat.records.base import Beside, Figure, Part
from lambda_hat.records.columns import Column, Reports
from lambda_hat.records.ending import Ending
from lambda_hat.records.provenance import Timings
from lambda_hat.records.state import State

__all__ = ["Findings", "Metrics"]


class Findings(Part):
    """What a sampler's run found. Each field is also a column of the tables of trials and of runs."""

    llc_hat: Annotated[Figure, Column("λ̂")] = None
    """Estimate of the LLC."""
    se_hat: Annotated[Figure, Column("standard error")] = None
    """Monte Carlo standard error of the estimate."""
    raw_llc_hat: Annotated[Figure, Column("raw λ̂")] = None
    """The estimate before its correction by the identities that hold under the local posterior."""
    virial_excess: Annotated[Figure, Column("virial excess", spec="+.2%")] = None
    """E[r·∇U]/d − 1, zero under the local posterior π ∝ e^(−U): what it is beyond its error, step size and minibatches
    have caused."""
    self_check_bias: Annotated[Figure, Column("self-check", spec=".1%", bound=MAX_RELATIVE_BIAS)] = None
    """Bias that the identities find in the raw estimate of a sampler without a Metropolis decision, over λ̂. The
    correction takes off most of it; above 5 % smaller steps are wanted."""
    stationarity: Annotated[Figure, Column("stationarity", "standard errors", ".1f", bound=MAX_VIRIAL)] = None
    """Distance from what holds once a chain is stationary, step size and minibatches included. Above 4 it is not."""
    degree: Annotated[Figure, Column("degree", spec=".2f")] = None
    """q = nβ E[r·∇L_n]/λ̂: 2 where the loss is quadratic and Laplace's value holds, more where it is flatter."""
    is_diverged: Annotated[bool | None, Column("diverged")] = None
    """Whether the chains left the neighbourhood of w0, or a value was not finite."""
    rhat: Annotated[Figure, Column("R̂", spec=".3f", bound=MAX_RHAT_APPROXIMATE)] = None
    """Rank-normalised split R̂: the larger of those of the loss and of r² = |w − w0|². Above 1.05 chains disagree."""
    rhat_loss: Annotated[Figure, Column("R̂ of the loss", spec=".3f", bound=MAX_RHAT_APPROXIMATE)] = None
    """R̂ of the loss alone."""
    rhat_distance: Annotated[Figure, Column("R̂ of r²", spec=".3f", bound=MAX_RHAT_APPROXIMATE)] = None
    """R̂ of r² = |w − w0|² alone."""
    ess_bulk: Annotated[Figure, Column("bulk ESS", "draws", ",.0f")] = None
    """Effective sample size of the bulk, the smaller of those of the loss and of r²."""
    ess_tail: Annotated[Figure, Column("tail ESS", "draws", ",.0f")] = None
    """Effective sample size of the tails, the smaller of those of the loss and of r²."""
    num_draws: Annotated[int | None, Column("draws", spec=",d")] = None
    """Draws that the estimate is made of, of all chains together."""
    num_steps_done: Annotated[int | None, Column("steps", spec=",d")] = None
    """Steps of each chain, burn-in included."""
    num_gradient_evaluations: Annotated[Figure, Column("gradients", "full-data gradients", ",.0f")] = None
    """Work of all chains, burn-in, set-up and diagnosis included; a minibatch counts by its share of the data."""
    is_truncated: Annotated[bool | None, Column("truncated")] = None
    """Whether the budget of time ended the run before its last step."""
    short_of: Annotated[str | None, Column("short of")] = None
    """The budget that a failed run ran out of, `trial_sec` or `setup_sec`. With a larger one `--resume` repeats it."""
    reports: Annotated[Reports, Beside(REPORTS)] = {}
    """What the method reports beside the estimate, by the names in `REPORTS`."""
    num_together: Annotated[int | None, Column("together", "trials", "d")] = None
    """Trials that the worker ran at once and that share its seconds; empty where it was lost with its worker."""
    dtype: Annotated[str | None, Column("dtype")] = None
    """Precision that the run sampled in."""
    x64: Annotated[bool | None, Column("x64")] = None
    """Whether JAX was in its double-precision mode."""


class Metrics(Findings, Ending):
    """The end of a trial or run: COMPLETE with an estimate, PRUNED by the pruner or by divergence, or FAIL."""

    timings: Timings | None = None
    """Where the seconds of the run went."""

    @model_validator(mode="before")
    @classmethod
    def _judge(cls, data: Any) -> Any:
        """A run that is complete has an estimate, and one that failed a reason."""
        if not isinstance(data, dict):
            return data
        llc_hat = data.get("llc_hat")
        if data.get("state") == State.COMPLETE and (llc_hat is None or not math.isfinite(llc_hat)):
            return data | {"state": State.FAIL, "reason": "the estimate is not a finite number"}
        if data.get("state") == State.FAIL and not data.get("reason"):
            return data | {"reason": "the task gave no reason"}
        return data
