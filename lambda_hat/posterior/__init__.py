"""The local posterior around a trained solution, and the coordinates in which it is easy to sample."""

from lambda_hat.posterior.checked import checked_posterior_of
from lambda_hat.posterior.geometry import (
    Geometry,
    average_whitening,
    factored_whitening,
    geometry_at_w0,
    whitening_from_arrays,
)
from lambda_hat.posterior.identities import Identities, Virials
from lambda_hat.posterior.local import LocalPosterior, PosteriorScales, build_posterior, posterior_of, scales_of
from lambda_hat.posterior.spectrum import Spectrum
from lambda_hat.posterior.whitening import (
    Coordinates,
    DenseWhitening,
    DiagonalWhitening,
    Whitening,
    hessian_whitening,
    identity_whitening,
    whitening_from_hessian,
)

__all__ = [
    "Coordinates",
    "DenseWhitening",
    "DiagonalWhitening",
    "Geometry",
    "Identities",
    "LocalPosterior",
    "PosteriorScales",
    "Spectrum",
    "Virials",
    "Whitening",
    "average_whitening",
    "build_posterior",
    "checked_posterior_of",
    "factored_whitening",
    "geometry_at_w0",
    "hessian_whitening",
    "identity_whitening",
    "posterior_of",
    "scales_of",
    "whitening_from_arrays",
    "whitening_from_hessian",
]
