"""Arguments of the Python call, read by the models that read the YAML."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from pydantic import ValidationError

from lambda_hat.config.base import Frozen
from lambda_hat.config.locate import dotted
from lambda_hat.config.suggest import did_you_mean, one_of
from lambda_hat.config.validation import findings_of
from lambda_hat.errors import Fault, InputError

__all__ = ["choose", "parse", "parse_seed"]

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
    for name, field in spec.model_fields.items():
        if field.alias in plain and name in plain:
            raise InputError(_fault(name, f"found beside `{field.alias}`, which is the same; expected one of them"))
    try:
        return spec.model_validate(plain)
    except ValidationError as error:
        findings = findings_of(error, spec, plain)
    faults = [
        _fault(
            arguments.get(dotted(finding.path), dotted(finding.path)),
            finding.message.replace("unknown key", f"unknown {what}").replace(" or null", " or None"),
            finding.hint,
        )
        for finding in findings
    ]
    raise InputError("\n".join(faults))


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
