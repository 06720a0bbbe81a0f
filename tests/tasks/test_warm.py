"""A worker that has run one trial of a method compiles nothing for the next ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import pytest

from lambda_hat.tasks import trial_task
from tests.conftest import HANGING

VI = {"max_components": 3, "max_rank": 2, "num_draws": 200, "batch_size": 32}
# The first trial may compile; the others change every number that a search may, and each choice that shares a shape.
TRIALS: dict[str, list[dict[str, Any]]] = {
    "sgld": [
        {"eta0": 1e-3, "steps": 300},
        {"eta0": 2e-3, "gamma": 0.3, "t0": 50.0, "steps": 450, "burn_in_fraction": 0.5},
        {"eta0": 1e-2, "precond_type": "whitened", "steps": 200},
        {"eta0": 1e-3, "precond_type": "rmsprop", "b2": 0.9, "eps": 0.1, "steps": 300},
        {"eta0": 1e-3, "precond_type": "adam", "b1": 0.8, "eps": 0.2, "steps": 300},
    ],
    "vi": [
        VI | {"lr": 1e-2, "M": 2, "r": 1, "whitening_mode": "rmsprop", "steps": 100},
        VI | {"lr": 2e-2, "M": 3, "r": 2, "whitening_mode": "adam", "steps": 150},
        VI | {"lr": 5e-3, "M": 1, "r": 0, "whitening_mode": "none", "steps": 120},
    ],
    "mclmc": [
        {"step_size": 0.5, "steps": 100},
        {"step_size": 0.3, "L": 0.5, "target_accept": 0.8, "steps": 130, "burn_in_fraction": 0.5},
        {"step_size": 0.2, "L": 2.0, "target_accept": 0.7, "steps": 70},
    ],
    "hmc": [
        {"step_size": 0.5, "steps": 100},
        {"step_size": 0.3, "num_integration_steps": 3, "target_accept": 0.7, "steps": 130, "burn_in_fraction": 0.5},
        {"step_size": 0.7, "num_integration_steps": 6, "target_accept": 0.9, "steps": 70},
    ],
}


@pytest.mark.nightly
@pytest.mark.parametrize(
    "method", [method if method == "sgld" else pytest.param(method, marks=pytest.mark.nightly) for method in TRIALS]
)
def test_a_warm_trial_compiles_nothing(method: str, quadratic_dir: Path, tmp_path: Path, compiled: list[str]) -> None:
    def run(number: int, settings: dict[str, Any]) -> dict[str, Any]:
        folder = tmp_path / str(number)
        folder.mkdir()
        manifest = {
            "pid": "p_0",
            "method": method,
            "hyperparams": {},
            "settings": settings,
            "seed": number,
            "budget": {"trial_sec": HANGING},
        }
        (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        return trial_task(str(folder), str(quadratic_dir)).to_json()

    first, *others = TRIALS[method]
    jax.clear_caches()
    assert run(0, first)["state"] == "COMPLETE"
    assert any("_run_chunk" in name for name in compiled)  # the counting works
    for number, settings in enumerate(others, start=1):
        compiled.clear()
        metrics = run(number, settings)
        assert metrics["state"] == "COMPLETE", metrics["reason"]
        assert metrics["num_steps_done"] == settings["steps"]
        assert compiled == []
