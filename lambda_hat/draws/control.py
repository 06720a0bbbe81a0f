"""Traces of nβ (L_n(w) − L_n(w0)) corrected by what is known to vanish on average (`posterior.identities`)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from lambda_hat.draws.array_stats import array_stats
from lambda_hat.draws.criteria import Correction
from lambda_hat.draws.info import Info

__all__ = [
    "MAX_GAIN",
    "corrected_by_regression",
    "corrected_by_virial",
    "error_of",
    "has_identities",
    "readings_of",
]


MAX_GAIN = 4.0  # of an error by fitted coefficients: what was seen on networks is 2.6 to 4
MIN_DRAWS = 8  # of a chain, for an error to be known


def has_identities(info: Info) -> bool:
    """Whether the identities were read at every draw, and hold: the loss is a number all around."""
    is_read = np.isfinite(info.virial).all() and np.isfinite(info.curved_virial).all()
    return bool(is_read and info.virial.size and not np.any(info.is_undefined))


def readings_of(info: Info, nbeta: float, correction: Correction) -> Float[np.ndarray, "chains draws"]:
    """Readings whose mean is λ̂: nβ (L − L(w0)), corrected where identities hold.

    Where steps were turned down because the loss is no number there, π ends at an edge, and they do not. Fitted
    coefficients are used only if they make the error smaller.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # a diverged chain
        if correction == "none" or not has_identities(info):
            return nbeta * np.asarray(info.excess_loss, np.float64)
        if correction == "virial":
            return corrected_by_virial(info, nbeta)
        raw, corrected = nbeta * np.asarray(info.excess_loss, np.float64), corrected_by_regression(info, nbeta)
        return corrected if _error(corrected) <= _error(raw) else raw  # of chains that do not mix it is worse


def error_of(corrected: float, raw: float, correction: Correction) -> float:
    """The standard error to go by, of those of the corrected and of the raw readings.

    That of readings corrected by fitted coefficients counts as no smaller than `raw`/`MAX_GAIN`. Chains that stop once
    the corrected readings vary little may not have been everywhere yet, as in the far arms of a hyperbola
    (w₁w₂ − 1)², and their corrected readings cannot tell. Of n effective draws none need fall into a part of mass 3/n;
    what is missed there is of the size of 3 sd(raw)/n, which is below sd(raw)/(4√n) from n = 144 on.
    """
    if correction == "regression" and np.isfinite(raw):
        return max(corrected, raw / MAX_GAIN)
    return corrected


def _error(trace: np.ndarray) -> float:
    """Monte Carlo standard error of the mean, 0 of a constant."""
    error = float(array_stats.mcse(trace, method="mean")) if trace.shape[1] >= MIN_DRAWS and np.ptp(trace) > 0 else 0.0
    return error if np.isfinite(error) else np.inf


def corrected_by_virial(info: Info, nbeta: float) -> Float[np.ndarray, "chains draws"]:
    """nβ (L − L(w0)) − ½ (r·M∇U − tr M), of any sampler.

    Its mean is exact for every quadratic loss, whatever the law of the draws: the coefficient is 1 and never fitted,
    since a sampler with a bias of its own does not make the mean of the identity vanish. With minibatches loss and
    gradient are those of the same rows.
    """
    return nbeta * np.asarray(info.excess_loss, np.float64) - np.asarray(info.curved_virial, np.float64)


def corrected_by_regression(info: Info, nbeta: float) -> Float[np.ndarray, "chains draws"]:
    """nβ (L − L(w0)) minus its regression on both identities, of a sampler without bias (control variates).

    The coefficients of a chain come from the other ones (of one chain, those of a half from the other half), so that
    they do not depend on the draws they are used on and the mean stays unbiased.
    """
    readings = nbeta * np.asarray(info.excess_loss, np.float64)
    controls = np.stack([np.asarray(info.virial, np.float64), np.asarray(info.curved_virial, np.float64)], axis=-1)
    num_folds = readings.shape[0] if readings.shape[0] > 1 else 2
    folds = np.array_split(np.arange(readings.size), num_folds)
    flat, flat_controls = readings.ravel(), controls.reshape(-1, 2)
    products = [_products(flat[fold], flat_controls[fold]) for fold in folds]
    corrected = flat.copy()
    for fold in folds:
        others = [product for product, one in zip(products, folds, strict=True) if one is not fold]
        gram, right = (np.sum(terms, axis=0) for terms in zip(*others, strict=True))
        if np.isfinite(gram).all() and np.isfinite(right).all():  # else a chain has run away, and raw readings say so
            corrected[fold] -= flat_controls[fold] @ np.linalg.lstsq(gram, right, rcond=1e-10)[0]
    return corrected.reshape(readings.shape)


def _products(
    readings: Float[np.ndarray, " draws"], controls: Float[np.ndarray, "draws 2"]
) -> tuple[Float[np.ndarray, "2 2"], Float[np.ndarray, " 2"]]:
    """Gram matrix and right-hand side of the regression within a fold, which has a level of its own."""
    centred = controls - controls.mean(axis=0)
    return centred.T @ centred, centred.T @ (readings - readings.mean())
