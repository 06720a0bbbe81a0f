"""Arguments of the Python call, read by the models that read the YAML."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from pydantic import ValidationError

from lambda_hat.config.base import Frozen
from lambda_hat.config.locate import Finding, dotted
from lambda_hat.config.suggest import did_you_mean, one_of
from lambda_hat.config.validation import findings_of
from lambda_hat.errors import Fault, InputError, told_together

__all__ = ["choose", "parse", "parse_seed", "read_settings"]

Spec = TypeVar("Spec", bound=Frozen)


def parse(
    spec: type[Spec], values: Mapping[str, Any], what: str, arguments: Mapping[str, str] = MappingProxyType({})
) -> Spec:
    """The values as `spec` declares them, NumPy's numbers as Python's; or every fault at once.

    `arguments` tells what the caller knows a field as, where that is another name.

    Raises:
        InputError: a line for each fault, with what was found, what is expected and a did-you-mean.
    """
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}
    faults: list[str] = []
    for name, field in spec.model_fields.items():
        if field.alias in plain and name in plain:
            faults.append(_fault(name, f"found beside `{field.alias}`, which is the same; expected one of them"))
            del plain[name]
    findings: list[Finding] = []
    try:
        read = spec.model_validate(plain)
        if not faults:
            return read
    except ValidationError as error:
        findings = findings_of(error, spec, plain)
    faults += [
        _fault(
            arguments.get(dotted(finding.path), dotted(finding.path)),
            finding.message.replace("unknown key", f"unknown {what}").replace(" or null", " or None"),
            finding.hint,
        )
        for finding in findings
    ]
    raise InputError("\n".join(faults))


# What other packages call things, and what to write here. Empty: there is no such setting.
_ELSEWHERE = {
    "lr": ("eta0", "eta", "step_size"),
    "learning_rate": ("eta0", "eta", "lr", "step_size"),
    "epsilon": ("eta0", "eta", "step_size"),
    "nbeta": ("inverse_temperature",),
    "n_beta": ("inverse_temperature",),
    "beta": ("inverse_temperature",),
    "temperature": ("inverse_temperature",),
    "gamma_loc": ("localization",),
    "elasticity": ("localization",),
    "num_draws": ("steps", "draws_per_round"),
    "draws": ("steps", "draws_per_round"),
    "num_samples": ("steps", "draws_per_round"),
    "num_burnin_steps": ("burn_in_fraction",),
    "num_warmup": ("burn_in_fraction",),
    "warmup": ("burn_in_fraction",),
    "batch_size": ("batch",),
    "chains": ("num_chains",),
    "cores": (),
    "device": (),
    "optimizer_kwargs": (),
    "sampling_method": ("sampler",),
    "trainable": ("sampled",),
    "optimize_over": ("sampled",),
}
_IN_OTHER_UNITS = {
    "nbeta": "`inverse_temperature` is β = nβ/n, for the n rows of data.",
    "n_beta": "`inverse_temperature` is β = nβ/n, for the n rows of data.",
    "temperature": "`inverse_temperature` is one over it.",
    "num_burnin_steps": "`burn_in_fraction` is a share of `steps`.",
    "num_warmup": "`burn_in_fraction` is a share of `steps`.",
    "warmup": "`burn_in_fraction` is a share of `steps`.",
    "num_draws": "`steps` counts the burn-in too.",
    "draws": "`steps` counts the burn-in too.",
    "num_samples": "`steps` counts the burn-in too.",
    "device": "JAX chooses it: set JAX_PLATFORMS.",
    "cores": "All chains are one program.",
    "optimizer_kwargs": "Give its entries as arguments.",
}
_ARGUMENTS = (
    "inverse_temperature", "localization", "sampler", "sampled", "num_chains", "rows", "queries", "progress", "seed",
)  # fmt: skip


def read_settings(
    spec: type[Spec], settings: Mapping[str, Any], what: str, arguments: Mapping[str, Any] = MappingProxyType({})
) -> Spec:
    """The settings of a call as `spec` declares them, beside those of its `arguments` that `spec` knows too.

    Names that other packages use, and misspelt names of the call's own arguments, are answered with the right ones.

    Raises:
        InputError: a line for each such name, and for every other fault.
    """
    foreign = _foreign_names(settings, spec)
    known = {name: value for name, value in settings.items() if name not in foreign}

    def refuse_foreign_names() -> None:
        if foreign:
            raise InputError("\n".join(sorted(foreign.values())))

    return told_together(refuse_foreign_names, lambda: parse(spec, {**arguments, **known}, what))[1]


def _foreign_names(settings: Mapping[str, Any], spec: type[Frozen]) -> dict[str, str]:
    """What to say of each name that is no setting but one of another package, or nearly one of the call's own."""
    own = {key for name, field in spec.model_fields.items() for key in (name, field.alias or name)}
    faults: dict[str, str] = {}
    for name in settings.keys() & _ELSEWHERE.keys() - own:
        meant = [f"`{word}`" for word in _ELSEWHERE[name] if word in own or word in _ARGUMENTS]
        unit = _IN_OTHER_UNITS.get(name, "")
        hint = f"Did you mean {meant[0]}? {unit}".rstrip() if meant else unit
        faults[name] = _fault(name, "found here; expected another name" if meant else "no setting of this call", hint)
    for name in settings.keys() - own - _ELSEWHERE.keys() - set(_ARGUMENTS):  # some calls do not take all of these
        if (hint := did_you_mean(name, _ARGUMENTS)) and not did_you_mean(name, own):
            faults[name] = _fault(name, "found here; expected another name", hint)
    return faults


def choose(argument: str, value: Any, choices: Mapping[str, Any]) -> Any:
    """What `value` names.

    Raises:
        InputError: it names nothing.
    """
    if not isinstance(value, str) or value not in choices:
        raise InputError(_fault(argument, f"found {value!r}, expected {one_of(choices)}", did_you_mean(value, choices)))
    return choices[value]


def parse_seed(seed: Any) -> int:
    """The seed as a Python number.

    Raises:
        InputError: it is no whole number, or one that a random key cannot be made of.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**31:
        raise InputError(_fault("seed", f"found {seed!r}, expected a whole number from 0 to 2³¹ − 1"))
    return int(seed)


def _fault(argument: str, message: str, hint: str = "") -> str:
    return str(Fault(key=argument, message=f"{message}.", hint=hint))
