"""The plan of a dry run, printed as text for people or as plain data for programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from lambda_hat.config.explain import to_yaml
from lambda_hat.formatting import clock
from lambda_hat.workflows.plan import Plan, PlannedConfirmation, PlannedProblem, PlannedRun, TimeBound

__all__ = ["plan_to_dict", "plan_to_text"]


def plan_to_dict(plan: Plan) -> dict[str, Any]:
    """The plan as data that JSON can hold."""
    return {
        "config": plan.loaded.resolved,
        "card": plan.loaded.card.to_dict(),
        "root": str(plan.paths.root),
        "executors": [
            {"label": label, "workers": number, "pack": plan.packs.get(label, 1)}
            for label, number in plan.capacity.items()
        ],
        "executor_map": {key: asdict(route) for key, route in plan.routes.items()},
        "warnings": list(plan.warnings),
        "problems": [asdict(problem) | {"needs_reference": problem.needs_reference} for problem in plan.problems],
        **(
            {
                "studies": [asdict(study) | {"num_to_run": study.num_to_run} for study in plan.studies],
                "confirmations": [asdict(item) for item in plan.confirmations],
            }
            if plan.studies
            else {"runs": [asdict(run) | {"num_to_run": run.num_to_run} for run in plan.runs]}
        ),
        "time_bounds": [
            asdict(bound) | {"seconds": bound.seconds, "usual_seconds": bound.usual_seconds} for bound in plan.bounds
        ],
        "max_seconds": plan.max_seconds,
        "usual_seconds": plan.usual_seconds,
        "needs_resume": plan.needs_resume,
    }


def plan_to_text(plan: Plan) -> str:
    """The plan under headings. The configuration comes first, so that a terminal ends with everything else."""
    # What is not built yet has no id.
    names = {problem.pid: problem.pid if problem.is_built else problem.title for problem in plan.problems}
    sections = {
        f"Configuration ({plan.loaded.source})": to_yaml(plan.loaded.resolved).rstrip().splitlines(),
        f"Executors ({plan.loaded.card_path})": list(_executor_lines(plan)),
        "Problems": [_problem_line(problem, plan.loaded.sections.reference.method) for problem in plan.problems],
        "Studies": [
            f"{names[study.pid]}:{study.method}  {study.num_finished} trials done, {study.num_to_run} to run on "
            f"{study.label}"
            for study in plan.studies
        ],
        "Confirmation": [_confirmation_line(item, names[item.pid]) for item in plan.confirmations],
        "Runs": [_run_line(run, names[run.pid], is_known=names[run.pid] == run.pid) for run in plan.runs],
        "Sampling, at most": [*map(_bound_line, plan.bounds), _total_line(plan)],
        "Place": [str(plan.paths.root)],
    }
    return "\n\n".join("\n  ".join([title, *lines]) for title, lines in sections.items() if lines)


def _executor_lines(plan: Plan) -> Iterator[str]:
    for label, number in plan.capacity.items():
        packs = f", {plan.packs[label]} trials at once on each" if plan.packs.get(label, 1) > 1 else ""
        workers = "this process" if plan.is_inline else f"{number} {'worker' if number == 1 else 'workers'}"
        yield f"{label}  {workers}{packs}"
    for key, route in plan.routes.items():
        yield f"{key} → {route.label}  ({'explicit' if route.is_explicit else 'AUTO'}: {route.reason})"
    for warning in plan.warnings:
        yield f"Warning: {warning}"


_COMPUTED = {"exact": "exact reference to compute", "laplace": "Laplace value to compute", "none": "no reference"}
_REUSED = {"exact": "exact reference reused", "laplace": "Laplace value reused", "none": "no reference"}


def _problem_line(problem: PlannedProblem, reference_method: str) -> str:
    if not problem.is_built:
        return f"{problem.title}: network to build, whose content names the problem, reference to sample"
    target = "target there" if problem.has_target else "target to train"
    reference = _REUSED.get(reference_method, f"reference reused, {problem.why_not or 'certified'}")
    if problem.needs_reference:
        reference = f"reference to sample again ({problem.why_not})" if problem.has_reference else "reference to sample"
        if problem.is_begun:
            reference = "reference to sample on from its last round"
        reference = _COMPUTED.get(reference_method, reference)
    return f"{problem.pid}  {problem.title}: {target}, {reference}"


def _confirmation_line(item: PlannedConfirmation, name: str) -> str:
    whose = "its best settings" if item.kind == "confirm" else "the best settings of other problems"
    return f"{name}:{item.method}  {whose} under new seeds: {item.num_to_run} to run on {item.label}"


def _run_line(run: PlannedRun, name: str, *, is_known: bool) -> str:
    method = "" if run.method == run.sampler else f" ({run.method})"
    state = "done" if run.is_finished else f"to run on {run.label}"
    run_id = f"  {run.run_id}" if is_known else ""
    return f"{name}:{run.sampler}{method}{run_id}  {state}"


def _bound_line(bound: TimeBound) -> str:
    what = bound.what if bound.num_tasks > 1 else bound.what.removesuffix("s")
    packs = " (packs not counted)" if bound.pack > 1 else ""
    return (
        f"{bound.num_tasks} {what} on {bound.label}, {bound.num_parallel} at once{packs}: "
        f"{bound.num_rounds} × {bound.budget_sec:g} s = {clock(bound.seconds)}{_usual(bound.usual_seconds)}"
    )


def _usual(seconds: float | None) -> str:
    return (
        "; none has ended here yet"
        if seconds is None
        else f"; about {clock(seconds)} with setting up, by those that have ended"
    )


_SCHEDULERS = {"slurm": "Slurm", "pbs": "PBS", "kubernetes": "Kubernetes"}  # by the types of their cards


def _total_line(plan: Plan) -> str:
    if not plan.bounds:
        return "nothing is left to run"
    about = "" if plan.usual_seconds is None else f"; about {clock(plan.usual_seconds)}"
    if plan.is_inline:
        return f"in all {clock(plan.max_seconds)}: one task after the other{about}"
    scheduler = _SCHEDULERS.get(plan.loaded.card.type)
    waiting = f"waiting for {scheduler}, " if scheduler else ""
    kinds = list(dict.fromkeys(bound.what for bound in plan.bounds))
    return (
        f"in all {clock(plan.max_seconds)}: {', then '.join(kinds)}, all executors side by side; "
        f"{waiting}starting workers, training, compiling and repeating lost tasks come on top{about}"
    )
