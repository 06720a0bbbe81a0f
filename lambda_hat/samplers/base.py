"""The contract of every sampler: `init` makes a State, `step` gives (State, Info).

What a sampler can do beside, it declares by its base class.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, Self, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lambda_hat.draws.info import Info
from lambda_hat.posterior import Identities, LocalPosterior, Virials, Whitening
from lambda_hat.samplers.noise import indices

__all__ = ["Held", "LangevinSampler", "MinibatchSampler", "Sampler", "State", "TunableSampler", "halton"]

HALTON_PERIOD = 1024
SHARE_OF_IDENTITIES = 0.04  # of a step's multiplications, and up to a twentieth of its time
FREE_MULTIPLICATIONS = 100_000  # of a step, which cost no more than a program's overhead
OF_LATEST = 0.01  # the weight of a reading in what is known of the noise
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


class Held(NamedTuple):
    """What a corrected reading has from the latest step at which the second identity was read: see `LangevinSampler`.

    The means, the variance and the covariance forget: the latest hundred readings count.
    """

    rest: Array  # R − b F
    share: Array  # b
    num_readings: Array
    mean_fresh: Array
    mean_rest: Array
    variance: Array  # of F
    covariance: Array  # of F and R

    @classmethod
    def nothing(cls, dtype: jnp.dtype) -> Held:
        """Before the first step."""
        return cls(*[jnp.zeros((), dtype)] * len(cls._fields))

    def renewed(self, fresh: Array, rest: Array) -> Held:
        """With another F and R; b is by those before them, so that it knows nothing of their noise."""
        share = jnp.where(self.variance > 0, self.covariance / self.variance, 0.0)
        share = jnp.clip(share, -1.0, 1.0)
        weight = jnp.maximum(1 / (self.num_readings + 1), OF_LATEST)
        off_fresh, off_rest = fresh - self.mean_fresh, rest - self.mean_rest
        return Held(
            rest=rest - share * fresh,
            share=share,
            num_readings=self.num_readings + 1,
            mean_fresh=self.mean_fresh + weight * off_fresh,
            mean_rest=self.mean_rest + weight * off_rest,
            variance=(1 - weight) * (self.variance + weight * off_fresh**2),
            covariance=(1 - weight) * (self.covariance + weight * off_fresh * off_rest),
        )


class LangevinSampler(MinibatchSampler):
    """A sampler of chains by minibatch gradients, which reads the identities without a Metropolis decision.

    The second identity takes two products with A, and may cost more than the gradient of a minibatch. So it is read at
    every `interval`-th step only. The corrected reading is, up to constants,

        nβ (L − L(w0)) − c₁ = F + R,      F = nβ (L − L(w0)) − c₀ + (γ_loc/2) r²,      R = ½ r·(1 − M)∇U − (γ_loc/2) r².

    F costs two inner products and is read at every step; R holds until it is read again. For a quadratic loss whose A
    whitens neither depends on w, but for the noise of the minibatch. What F tells of that noise in R is not held
    either: the reading is (1 + b) F + (R − b F), with the last term held and b the regression of R on F by what was
    read before. The mean does not depend on b.
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
        """Fields of the identities: at their interval they take a twentieth of a step's time, or it is the largest."""
        identities = Identities(at_w0 or whitening, posterior.localization)
        of_step = 3 * batch_size * posterior.dim + FREE_MULTIPLICATIONS
        if is_whitened:
            of_step += 2 * whitening.num_multiplications
        of_identities = 2 * identities.at_w0.num_multiplications
        interval = min(math.ceil(of_identities / (SHARE_OF_IDENTITIES * of_step)), MAX_INTERVAL)
        return {
            "identities": identities,
            "interval": jnp.asarray(interval, jnp.int32),
            "is_due": jnp.asarray(True),
        }

    def at_step(self, index: Array) -> Self:
        """This sampler at a step of its run: whether the second identity is read there."""
        return dataclasses.replace(self, is_due=index % self.interval == 0)

    def virials(
        self, excess_loss: Array, displacement: Float[Array, " d"], force: Float[Array, " d"], held: Held
    ) -> tuple[Virials, Held]:
        """The identities, the second one as a corrected reading has it; and what is held of it from now on."""
        plain = self.identities.plain(displacement, force)
        loss = self.posterior.nbeta * excess_loss
        pull = 0.5 * self.posterior.localization * (displacement @ displacement)
        fresh = loss - plain + pull

        def read() -> Held:
            rest = self.identities.flat(displacement, force) - pull
            # What is read at every step needs no b.
            return jax.lax.cond(self.interval > 1, lambda: held.renewed(fresh, rest), lambda: held._replace(rest=rest))

        held = jax.lax.cond(self.is_due, read, lambda: held)  # a branch on a value that all chains share
        return Virials(plain, loss - (1 + held.share) * fresh - held.rest), held


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
