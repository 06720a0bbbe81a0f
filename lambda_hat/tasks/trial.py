"""One trial: a manifest in, progress and metrics out."""

from __future__ import annotations

import os
import socket
import traceback
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lambda_hat.artifacts.files import append_json_line, read_json, write_json_atomic
from lambda_hat.artifacts.paths import MANIFEST_JSON, METRICS_JSON, PROGRESS_JSONL, STOP_FLAG, TRACES_NPZ
from lambda_hat.config.methods import MethodSettings, parse_settings
from lambda_hat.errors import StorageError
from lambda_hat.estimate.run import MethodRun, RunProgress, run_method
from lambda_hat.estimate.traces import Traces
from lambda_hat.numbers import now
from lambda_hat.samplers.pace import OutOfTime
from lambda_hat.tasks.budget import Limits, end_busy_worker, log_event, watchdog
from lambda_hat.tasks.problem import load_coordinates, load_problem
from lambda_hat.tasks.provenance import Clock, provenance

__all__ = ["run_trial"]


RESERVE = 0.1  # of the budget, for what comes after the sampling: losses of a fit's draws, SGLD's predicted bias


def run_trial(trial_dir: str, problem_dir: str) -> dict[str, Any]:
    """See `lambda_hat.tasks.trial_task`."""
    folder = Path(trial_dir)
    if (stored := read_json(folder / METRICS_JSON)) is not None:  # by a worker that was given up a moment too early
        return stored
    clock = Clock()
    log_event(folder, "started", pid=os.getpid(), host=socket.gethostname())
    try:
        manifest = read_json(folder / MANIFEST_JSON)
        if manifest is None:
            raise FileNotFoundError(f"{folder / MANIFEST_JSON} is missing or torn")
        settings = parse_settings(manifest["method"], manifest["settings"])
        seconds = float(manifest["budget"]["trial_sec"])
        limits = Limits(clock.start, seconds, RESERVE * seconds)
        with (
            watchdog(limits, "execution.budget.trial_sec", folder / METRICS_JSON, partial(_facts, clock)),
            jax.enable_x64(settings.dtype == "float64"),
        ):
            metrics = _trial(folder, Path(problem_dir), manifest, settings, clock, limits)
    except StorageError:
        raise  # of the machine, not of this task
    except (Exception, OutOfTime) as error:
        is_late = isinstance(error, OutOfTime)
        metrics = {
            "state": "FAIL",
            "reason": "out of time before the first draw" if is_late else f"{type(error).__name__}: {error}",
            "traceback": traceback.format_exc(),
            **_facts(clock),
            "finished": now(),
            **provenance(),
        }
    write_json_atomic(folder / METRICS_JSON, metrics)
    log_event(folder, "ended", state=metrics["state"])
    end_busy_worker()
    return metrics


def _facts(clock: Clock) -> dict[str, Any]:
    return {"timings": clock.timings(), "started": clock.started}


def _trial(
    folder: Path, problem_dir: Path, manifest: dict[str, Any], settings: MethodSettings, clock: Clock, limits: Limits
) -> dict[str, Any]:
    made_by = provenance()
    with limits.sampling_guard():
        loaded = load_problem(problem_dir)
        posterior = loaded.posterior(settings.dtype)
        coordinates = load_coordinates(problem_dir, settings.dtype)
    clock.mark_loaded()

    def on_progress(progress: RunProgress) -> None:
        append_json_line(
            folder / PROGRESS_JSONL,
            {"step": progress.num_steps_done, "fraction": progress.fraction, "llc_hat": progress.llc},
        )

    run = run_method(
        posterior,
        settings,
        coordinates=coordinates,
        seed=int(manifest["seed"]),
        deadline=limits.deadline,
        should_stop=(folder / STOP_FLAG).exists,
        on_progress=on_progress,
        sampling_guard=limits.sampling_guard,
        evaluation_guard=limits.evaluation_guard,
    )
    _traces(run, loaded.nbeta).save(folder / TRACES_NPZ)
    return {
        **_judgement(run),
        **_facts(clock),
        "dtype": str(run.info.excess_loss.dtype),
        "x64": jnp.result_type(float) == jnp.float64,
        "finished": now(),
        **made_by,
    }


def _traces(run: MethodRun, nbeta: float) -> Traces:
    of_draws = float(np.sum(run.info.num_gradient_evaluations))
    work_before = max(0.0, run.num_gradient_evaluations - of_draws)
    return Traces.of_draws(run.info, nbeta, work_before=work_before, fit_draws=run.fit_draws)


def _judgement(run: MethodRun) -> dict[str, Any]:
    estimate = run.estimate
    state, reason = ("COMPLETE" if run.state == "COMPLETE" else "PRUNED"), run.reason
    if state == "COMPLETE" and estimate.llc < -2 * estimate.se:
        state = "FAIL"
        reason = f"λ̂ = {estimate.llc:.4g} ± {estimate.se:.2g} is negative by more than two standard errors"
    return {
        "state": state,
        "reason": reason,
        "is_diverged": run.state == "DIVERGED",
        "llc_hat": estimate.llc,
        "se_hat": estimate.se,
        "rhat": estimate.rhat,
        "rhat_loss": estimate.rhat_loss,
        "rhat_distance": estimate.rhat_distance,
        "ess_bulk": estimate.ess_bulk,
        "ess_tail": estimate.ess_tail,
        "num_draws": estimate.num_draws,
        "num_steps_done": run.num_steps_done,
        "num_gradient_evaluations": run.num_gradient_evaluations,
        "is_truncated": run.is_truncated,
        **run.extras,
    }
