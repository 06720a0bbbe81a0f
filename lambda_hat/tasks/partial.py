"""What a reference that is still sampled has so far, on the disk: a later call goes on from its last round."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from zipfile import BadZipFile

import numpy as np

from lambda_hat.artifacts.files import read_arrays, write_bytes_atomic
from lambda_hat.artifacts.paths import PARTIAL_NPZ
from lambda_hat.config.study import ReferenceSpec
from lambda_hat.records.reference import ReferenceRecord

__all__ = ["BOUNDS", "Keeper", "Partial", "added", "write_arrays"]

BOUNDS = {"max_relative_mcse", "on_uncertified", "cross_check", "draws_per_round"}
"""Fields of a `ReferenceSpec` in which a stored reference may differ and still be gone on from."""

_ABOUT = "about"
_MIN_SEC = 20.0  # of sampling between two times of writing
_MAX_SHARE = 0.05  # of the time that writing takes


@dataclass(frozen=True)
class Partial:
    """The arrays of a reference that was interrupted, and the seconds by stage that went into them."""

    arrays: dict[str, np.ndarray]
    stages: dict[str, float]

    @classmethod
    def read(cls, folder: Path, spec: ReferenceSpec) -> Self | None:
        """That of the problem in `folder`; None if there is none, or none that `spec` can go on from."""
        try:
            arrays = read_arrays(folder / PARTIAL_NPZ)
            about = json.loads(str(arrays.pop(_ABOUT)))
            stages = {str(name): float(seconds) for name, seconds in about["stages"].items()}
            return cls(arrays, stages) if about["key"] == _key(spec) else None
        except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, BadZipFile):
            return None


class Keeper:
    """Writes what there is after a round, unless that would take more than a twentieth of the time."""

    def __init__(
        self,
        folder: Path,
        spec: ReferenceSpec,
        stages: Mapping[str, float],
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`stages` are seconds that earlier calls have spent."""
        self._path = folder / PARTIAL_NPZ
        self._key = _key(spec)
        self._stages = dict(stages)
        self._now = now
        self._next = now() + _MIN_SEC

    def __call__(self, arrays: Callable[[], Mapping[str, np.ndarray]], seconds: Mapping[str, float]) -> None:
        """After a round: `arrays` gives what to write, and `seconds` are those of this call by stage."""
        start = self._now()
        if start < self._next:
            return
        about = {"key": self._key, "stages": added(self._stages, seconds)}
        write_arrays(self._path, {**arrays(), _ABOUT: np.asarray(json.dumps(about))})
        end = self._now()
        self._next = end + max(_MIN_SEC, (end - start) / _MAX_SHARE)


def added(stages: Mapping[str, float], seconds: Mapping[str, float]) -> dict[str, float]:
    """Seconds by stage, of two together."""
    return {name: stages.get(name, 0.0) + seconds.get(name, 0.0) for name in {**stages, **seconds}}


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Replace `path` by a compressed archive of NumPy's."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # pyright: ignore[reportArgumentType]
    write_bytes_atomic(path, buffer.getvalue())


def _key(spec: ReferenceSpec) -> str:
    """What has to be the same for going on."""
    known = {"format": ReferenceRecord.FORMAT, **spec.model_dump(mode="json", exclude=BOUNDS)}
    return json.dumps(known, sort_keys=True)
