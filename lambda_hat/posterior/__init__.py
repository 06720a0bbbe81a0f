"""The local posterior around a trained solution, and the coordinates in which it is easy to sample."""

from lambda_hat.posterior.local import LocalPosterior, LossFn, build_posterior, localization_of, nbeta_of
from lambda_hat.posterior.whitening import (
    Coordinates,
    DenseWhitening,
    DiagonalWhitening,
    Whitening,
    hessian_whitening,
    identity_whitening,
    laplace_llc,
    whitening_from_arrays,
    whitening_from_hessian,
)

__all__ = [
    "Coordinates",
    "DenseWhitening",
    "DiagonalWhitening",
    "LocalPosterior",
    "LossFn",
    "Whitening",
    "build_posterior",
    "hessian_whitening",
    "identity_whitening",
    "laplace_llc",
    "localization_of",
    "nbeta_of",
    "whitening_from_arrays",
    "whitening_from_hessian",
]
