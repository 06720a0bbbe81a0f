"""What a worker compiled while it waited, a trial need not compile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import pytest

from lambda_hat.tasks import compile_task, import_task, trial_task

VI = {"M": 2, "max_components": 3, "max_rank": 2, "num_draws": 200, "batch_size": 32}
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "sgld": [{"eta0": 1e-3}, {"eta0": 1e-3, "precond_type": "whitened", "batch": 32}],
    "vi": [VI | {"whitening_mode": "adam"}, VI | {"whitening_mode": "hessian"}],
    "mclmc": [{}, {"adjusted": False}],
    "hmc": [{}],
}


def trial(folder: Path, problem_dir: Path, method: str, settings: dict[str, Any]) -> dict[str, Any]:
    folder.mkdir()
    manifest = {
        "pid": "p_0",
        "method": method,
        "hyperparams": {},
        "settings": settings,
        "seed": 1,
        "budget": {"trial_sec": 60.0},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return trial_task(str(folder), str(problem_dir)).to_json()


@pytest.mark.slow
@pytest.mark.parametrize("method", SETTINGS)
def test_a_trial_compiles_nothing_that_was_compiled_ahead(method, quadratic_dir, tmp_path, compiled):
    import_task()
    jax.clear_caches()
    for number, settings in enumerate(SETTINGS[method]):
        folder = tmp_path / str(number)
        compile_task(str(quadratic_dir), method, settings, 60.0)
        assert any("_run_chunk" in name for name in compiled)  # the counting works
        compiled.clear()
        metrics = trial(folder, quadratic_dir, method, settings | {"steps": 700})
        assert (metrics["state"], metrics["num_steps_done"]) == ("COMPLETE", 700)
        assert [name for name in compiled if "convert_element_type" not in name] == []


def test_nothing_is_left_of_it(quadratic_dir):
    before = sorted(quadratic_dir.iterdir())
    assert compile_task(str(quadratic_dir), "sgld", {"steps": 10**9}, 60.0) < 60
    assert sorted(quadratic_dir.iterdir()) == before


def test_importing_finds_the_devices():
    found = import_task()
    assert found.device
    assert found.versions["jax"] == jax.__version__
