"""The samplers of the local posterior, one file each, and what they have in common.

A sampler is a kernel: `init` makes the state of a chain, `step` gives the next state and its `Info`. `build` makes one
from a method's settings, with the starts of its chains and its judge; `run_chains` runs it.
"""

from lambda_hat.draws.info import Info
from lambda_hat.samplers.base import MinibatchSampler, Sampler, State, TunableSampler
from lambda_hat.samplers.method import Built, Ended, FitDraws, Judge, Judgement, build
from lambda_hat.samplers.runner import Chains, init_chains, run_chains, run_together, sample_chains

__all__ = [
    "Built",
    "Chains",
    "Ended",
    "FitDraws",
    "Info",
    "Judge",
    "Judgement",
    "MinibatchSampler",
    "Sampler",
    "State",
    "TunableSampler",
    "build",
    "init_chains",
    "run_chains",
    "run_together",
    "sample_chains",
]
