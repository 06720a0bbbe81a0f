"""What keeps a command from beginning, found before it has started or written anything. A dry run says the same."""

from __future__ import annotations

from lambda_hat.artifacts.ids import problem_id
from lambda_hat.artifacts.paths import within
from lambda_hat.config.card import InlineCard
from lambda_hat.config.load import LoadedStudy
from lambda_hat.errors import RunStateError
from lambda_hat.records.reference import ReferenceRecord
from lambda_hat.tasks import trial_task
from lambda_hat.tuning.plan import StudyPlan, conditions, definition, with_slots
from lambda_hat.tuning.stored import read_journal, refuse_another_definition
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
    problems = {problem_id(problem.identity()): problem.to_dict() for problem in plan.loaded.problems}
    refuse_changed_problems(plan.paths, problems)
    if isinstance(plan.loaded, LoadedStudy):
        _refuse_changed_studies(plan.loaded, plan)
    if not isinstance(plan.loaded.card, InlineCard):
        within(plan.paths.root, "the run's", plan.loaded.card.run_dir)


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
    (problem,) = [problem for problem in plan.problems if problem.pid == pid]
    return StudyPlan(
        pid=pid,
        title=problem.title,
        arguments=problem.arguments,
        method=method,
        label=plan.routes[f"methods.{method}"].label,
        settings=with_slots(loaded.samplers[method], method, study.space(method)),
        reference=reference,
        seed=study.optuna.sampler.seed,
        num_trials=study.num_trials(method),
        trial_sec=study.execution.budget.trial_sec,
        setup_sec=study.execution.budget.setup_sec,
        function=trial_task,
    )


def _refuse_changed_studies(loaded: LoadedStudy, plan: Plan) -> None:
    stored, study = read_journal(plan.paths.journal), loaded.study
    for item in plan.studies:
        name, space = f"{item.pid}:{item.method}", study.space(item.method)
        begun_with = stored[name].definition if name in stored else None
        reference = stored_reference(plan.paths, item.pid, study.reference)
        if begun_with is not None and reference is not None:  # with another one no trials could be compared
            settings = study_plan(loaded, plan, item.pid, item.method, reference).settings
            wanted = conditions(item.method, settings, space, reference)
            wanted = definition(item.method, study.optuna.objective, space, wanted)
            refuse_another_definition(name, begun_with, wanted)
