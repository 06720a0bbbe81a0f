"""`manifest.json`: what a worker has to do for one trial or run."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Self

from lambda_hat.artifacts.ids import run_id
from lambda_hat.config.methods import MethodSettings, parse_settings, program_of
from lambda_hat.config.study import Budget
from lambda_hat.records.base import Part, Record, Value

__all__ = ["Manifest", "TrialBudget"]


class TrialBudget(Part):
    """What a trial may spend."""

    trial_sec: float
    """Seconds of sampling."""
    setup_sec: float = Budget().setup_sec
    """Seconds of loading, building and compiling."""


class Manifest(Record):
    """Everything that decides the result of a trial. The hash of all but the budget names the trial's folder."""

    pid: str
    """Id of the problem."""
    method: str
    """Method to run."""
    hyperparams: Mapping[str, Value]
    """What was chosen for this trial, under YAML's names."""
    settings: Mapping[str, Value]
    """Everything that the method is given, `hyperparams` included, under YAML's names."""
    seed: int
    """Seed of the run's random numbers."""
    budget: TrialBudget
    """What the run may spend."""

    @classmethod
    def of(
        cls,
        pid: str,
        method: str,
        *,
        hyperparams: Mapping[str, object],
        settings: Mapping[str, object],
        seed: int,
        trial_sec: float,
        setup_sec: float = Budget().setup_sec,
    ) -> Self:
        """The manifest of a run of `method` with `settings`, of which `hyperparams` were chosen for it."""
        return cls.model_validate(
            {
                "pid": pid,
                "method": method,
                "hyperparams": dict(hyperparams),
                "settings": dict(settings),
                "seed": seed,
                "budget": {"trial_sec": trial_sec, "setup_sec": setup_sec},
            }
        )

    @property
    def run_id(self) -> str:
        """`r_` and a hash of all but the budget: a run that lacked time is the same run when it gets more."""
        return run_id(self.model_dump(exclude={"budget"}))

    @property
    def program(self) -> Hashable | None:
        """What chooses the compiled program; None for settings that the method does not take."""
        return program_of(self.method, dict(self.settings))

    def parse(self) -> MethodSettings:
        """The method's typed settings.

        Raises:
            pydantic.ValidationError: a name or value that the method does not take.
        """
        return parse_settings(self.method, dict(self.settings))
