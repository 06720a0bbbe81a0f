"""The contract of every sampler: `init` makes a State, `step` gives (State, Info).

What a sampler can do beside, it declares by its base class.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Self, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lambda_hat.draws.info import Info
from lambda_hat.posterior import Identities, LocalPosterior, Virials, Whitening
from lambda_hat.samplers.noise import indices

__all__ = ["LangevinSampler", "MinibatchSampler", "Sampler", "State", "TunableSampler", "halton"]

HALTON_PERIOD = 1024
SHARE_OF_IDENTITIES = 0.05  # of a step's multiplications
FREE_MULTIPLICATIONS = 100_000  # of a step, which cost no more than a program's overhead
MAX_INTERVAL = 20  # beyond it the corrected estimate loses more than the time is worth

State: TypeAlias = Any  # a pytree of arrays, whose shapes and dtypes never change


class Sampler(eqx.Module):
    """One chain's kernel. It is a pytree: numeric hyperparameters are leaves, so a new value never recompiles."""

    @abc.abstractmethod
    def init(self, rng_key: Array, displacement: Float[Array, " d"]) -> State:
        """State of a chain that starts at w0 + displacement."""

    @abc.abstractmethod
    def step(self, rng_key: Array, state: State) -> tuple[State, Info]:
        """One step of one chain."""

    @abc.abstractmethod
    def displacement(self, state: State) -> Float[Array, " d"]:
        """w − w0 of a state."""

    def at_step(self, index: Array) -> Self:
        """This sampler at a step of its run, for what all chains do at some steps only."""
        del index
        return self

    @property
    def is_minibatch(self) -> bool:
        """Whether a step looks at fewer rows than there are.

        Then there is little to keep in cache, and chains go as one batch however large they are.
        """
        return False

    @property
    def on_full_data(self) -> Self:
        """The sampler that looks at every row in each step.

        It starts chains just as this one does. Programs of what no minibatch takes part in are compiled for it, so that
        one serves all sizes of minibatches.
        """
        return self


class TunableSampler(Sampler):
    """A sampler whose step size the runner adapts to `target_accept` during warm-up."""

    step_size: Array
    target_accept: Array

    @property
    def tuned_numbers(self) -> dict[str, Array]:
        """The fields that a run changes, by name: what a chain needs to go on later beside its position."""
        return {"step_size": self.step_size}

    def with_numbers(self, **numbers: Any) -> Self:
        """This sampler with other values of some `tuned_numbers`."""
        cast = {name: jnp.asarray(value, self.tuned_numbers[name].dtype) for name, value in numbers.items()}
        return dataclasses.replace(self, **cast)


class MinibatchSampler(Sampler):
    """A sampler whose step reads the loss off `batch_size` rows, drawn with replacement; off all where there are fewer.

    Readings are paired, mean over the minibatch of l_i(w) − l_i(w0): unbiased for positions that do not depend on it.
    """

    posterior: LocalPosterior
    batch_size: int = eqx.field(static=True)

    @property
    def is_minibatch(self) -> bool:
        """Whether a step looks at fewer rows than there are."""
        return self.batch_size < self.posterior.num_data

    @property
    def on_full_data(self) -> Self:
        """The sampler that looks at every row in each step."""
        return dataclasses.replace(self, batch_size=self.posterior.num_data)

    @property
    def share_of_data(self) -> float:
        """What one gradient of a minibatch costs, on the full-data scale."""
        return min(1.0, self.batch_size / self.posterior.num_data)

    def draw_loss(self, rng_key: Array) -> Callable[[Float[Array, " d"]], Array]:
        """L_B(w) − L_B(w0) as a function of w − w0, on the rows B of a fresh minibatch."""
        posterior = self.posterior
        if not self.is_minibatch:  # the whole data: no minibatch noise
            return lambda displacement: posterior.excess_loss(posterior.w0 + displacement)
        batch, at_w0 = posterior.take(indices(rng_key, self.batch_size, posterior.num_data))
        return lambda displacement: posterior.paired_excess_loss(posterior.w0 + displacement, batch, at_w0)


class LangevinSampler(MinibatchSampler):
    """A sampler of chains by minibatch gradients, which reads the identities without a Metropolis decision.

    The second identity takes two products with A, and may cost more than the gradient of a minibatch. So the corrected
    reading nβ (L − L(w0)) − c₁ is taken at every `interval`-th step only, and holds until the next: neighbouring steps
    say nearly the same.
    """

    whitening: Whitening
    identities: Identities
    preconditioner: Array  # index into the class's preconditioners: traced, so that all of them share one program
    interval: Array
    is_due: Array

    @staticmethod
    def reading(
        posterior: LocalPosterior, batch_size: int, whitening: Whitening, at_w0: Whitening | None, *, is_whitened: bool
    ) -> dict[str, Any]:
        """Fields of the identities: at their interval they take a twentieth of a step's multiplications."""
        identities = Identities(at_w0 or whitening, posterior.localization)
        of_step = 3 * batch_size * posterior.dim + FREE_MULTIPLICATIONS
        if is_whitened:
            of_step += 2 * whitening.num_multiplications
        of_identities = 2 * identities.at_w0.num_multiplications
        interval = min(max(1, round(of_identities / (SHARE_OF_IDENTITIES * of_step))), MAX_INTERVAL)
        return {
            "identities": identities,
            "interval": jnp.asarray(interval, jnp.int32),
            "is_due": jnp.asarray(True),
        }

    def at_step(self, index: Array) -> Self:
        """This sampler at a step of its run: whether a corrected reading is taken there."""
        return dataclasses.replace(self, is_due=index % self.interval == 0)

    def virials(
        self, excess_loss: Array, displacement: Float[Array, " d"], force: Float[Array, " d"], held: Array
    ) -> tuple[Virials, Array]:
        """The identities, the second one as a corrected reading has it: the latest, which is to be held, or `held`."""
        plain = self.identities.plain(displacement, force)
        loss = self.posterior.nbeta * excess_loss
        # A branch on a value that all chains share.
        corrected = jax.lax.cond(
            self.is_due, lambda: loss - plain + self.identities.flat(displacement, force), lambda: held
        )
        return Virials(plain, loss - corrected), corrected


def halton(index: Array, base: int) -> Array:
    """The van der Corput number of `index` (modulo 1024) in `base`, in [0, 1): a low-discrepancy sequence.

    All chains share it, so that under `vmap` every trajectory of a step has the same number of integration steps.
    """
    return jnp.asarray(_van_der_corput(base), jnp.result_type(float))[index % HALTON_PERIOD]


@functools.cache
def _van_der_corput(base: int) -> np.ndarray:
    # A table: digits computed in the program cost XLA seconds of compilation.
    numbers, factor, rest = np.zeros(HALTON_PERIOD), 1.0 / base, np.arange(HALTON_PERIOD)
    while rest.any():
        numbers += (rest % base) * factor
        rest, factor = rest // base, factor / base
    return numbers
