"""What keeps a command from beginning, found before it has started or written anything. A dry run says the same."""

from __future__ import annotations

from collections.abc import Mapping

from lambda_hat.artifacts.ids import problem_id
from lambda_hat.config.load import LoadedStudy
from lambda_hat.config.methods import METHODS
from lambda_hat.config.study import CategoricalDist, Distribution, IntDist
from lambda_hat.errors import RunStateError
from lambda_hat.records.reference import ReferenceRecord
from lambda_hat.tasks import hard_limit, trial_task
from lambda_hat.tuning.plan import StudyPlan
from lambda_hat.workflows.changes import refuse_changed_problems, refuse_other_workflow
from lambda_hat.workflows.plan import Plan
from lambda_hat.workflows.references import stored_reference

__all__ = ["refuse_changes", "refuse_to_begin", "refuse_unfinished", "study_plan"]


def refuse_to_begin(plan: Plan, *, resume: bool) -> None:
    """Do nothing, unless the folder is another workflow's, something of it changed, or `--resume` is missing.

    Raises:
        RunStateError: that says which.
    """
    refuse_changes(plan)
    refuse_unfinished(plan, resume=resume)


def refuse_changes(plan: Plan) -> None:
    """Do nothing, unless the folder is another workflow's, or what it holds was begun with other settings.

    Raises:
        RunStateError: that says which.
    """
    refuse_other_workflow(plan.paths, is_search=bool(plan.studies))
    problems = [problem.to_dict() for problem in plan.loaded.problems]
    refuse_changed_problems(plan.paths, {problem_id(problem): problem for problem in problems})
    if isinstance(plan.loaded, LoadedStudy) and plan.paths.journal.is_file():
        _refuse_changed_studies(plan.loaded, plan)


def refuse_unfinished(plan: Plan, *, resume: bool) -> None:
    """Do nothing, unless there is something unfinished and `resume` is False.

    Raises:
        RunStateError: there is.
    """
    if plan.needs_resume and not resume:
        what = "an unfinished study" if plan.studies else "unfinished runs"
        raise RunStateError(
            f"{plan.paths.root} holds {what}. Pass `--resume` to go on with it, or choose another `store.namespace`."
        )


def study_plan(loaded: LoadedStudy, plan: Plan, pid: str, method: str, reference: ReferenceRecord) -> StudyPlan:
    """What all trials of one problem and method have in common beside what is searched."""
    study = loaded.study
    slots = _slots(METHODS[method].slots, study.search_space[method])
    return StudyPlan(
        pid=pid,
        method=method,
        label=plan.routes[f"methods.{method}"].label,
        settings={**loaded.samplers[method], **slots},
        reference=reference,
        seed=study.optuna.sampler.seed,
        trial_sec=study.execution.budget.trial_sec,
        max_seconds=hard_limit(study.execution.budget.trial_sec),
        function=trial_task,
    )


def _refuse_changed_studies(loaded: LoadedStudy, plan: Plan) -> None:
    from lambda_hat.tuning.study import definition_of, refuse_changed, stored_definitions  # here: they import Optuna

    stored = stored_definitions(plan.paths.journal)
    study = loaded.study
    for item in plan.studies:
        name, space = f"{item.pid}:{item.method}", study.search_space[item.method]
        reference = stored_reference(plan.paths, item.pid, study.reference)
        if name in stored and reference is not None:  # with another one the trials could not be compared at all
            conditions = study_plan(loaded, plan, item.pid, item.method, reference).conditions(space)
            refuse_changed(name, stored[name], definition_of(study.optuna, item.method, space, conditions))


def _slots(slots: Mapping[str, str], space: Mapping[str, Distribution]) -> dict[str, int]:
    """Slots for the largest value searched of each hyperparameter that has them: one program serves them all."""
    found: dict[str, int] = {}
    for slot, name in slots.items():
        match space.get(name):
            case CategoricalDist(choices=choices):
                found[slot] = max(int(choice) for choice in choices if isinstance(choice, int))
            case IntDist(high=high):
                found[slot] = high
            case _:
                pass
    return found
