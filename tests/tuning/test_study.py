"""A study keeps every trial, through crashes and in its pickle, and tells Optuna only finite numbers."""

import math
import pickle

import optuna
import pytest

from lambda_hat.artifacts.paths import Paths
from lambda_hat.config.study import FloatDist, IntDist, Objective, OptunaSection, PrunerSpec, SearchAlgorithm
from lambda_hat.errors import RunStateError
from lambda_hat.tuning.objective import WORST_VALUE
from lambda_hat.tuning.study import StudyStore

SPACE = {
    "eta0": FloatDist(dist="float", low=1e-6, high=1e-1, log=True),
    "steps": IntDist(dist="int", low=100, high=1000, step=50),
}
SPEC = OptunaSection(sampler=SearchAlgorithm(n_startup_trials=5), pruner=PrunerSpec(n_startup_trials=2))


@pytest.fixture
def paths(tmp_path):
    (tmp_path / "studies").mkdir()
    return Paths(tmp_path)


def open_study(store):
    return store.open("p_1", "sgld", SPACE)


def run_trials(study, num_trials):
    params = []
    for _ in range(num_trials):
        trial = study.ask()
        study.attach_run(trial.number, f"r_{trial.number}", seed=trial.number)
        study.tell_complete(trial.number, abs(math.log10(trial.params["eta0"]) + 3))
        params.append(trial.params)
    return params


def test_the_search_is_reproducible_and_does_not_repeat_itself_after_reopening(tmp_path):
    searches = []
    for name in ("a", "b"):
        folder = tmp_path / name
        (folder / "studies").mkdir(parents=True)
        with StudyStore(Paths(folder), SPEC) as store:
            first = run_trials(open_study(store), 12)
        with StudyStore(Paths(folder), SPEC) as store:
            searches.append(first + run_trials(open_study(store), 12))
    assert searches[0] == searches[1]
    assert len({trial["eta0"] for trial in searches[0]}) == 24


def test_trials_that_keep_constraints_are_better_than_any_that_break_one(paths):
    with StudyStore(paths, SPEC) as store:
        study = open_study(store)
        for value, gates in (
            (0.3, {"rhat": -0.2, "bias": -0.5}),
            (0.0, {"rhat": 0.4, "bias": -0.9}),
            (0.1, {"rhat": 0.1}),
        ):
            trial = study.ask()
            study.constrain(trial.number, gates)
            study.tell_complete(trial.number, value)
        assert study.best.number == 0
    with StudyStore(paths, SPEC) as store:
        study = open_study(store)
        assert study.best.number == 0
        assert [trial.violation for trial in study.trials] == [0.0, 0.4, 0.1]
        assert [trial.number for trial in sorted(study.trials, key=lambda trial: trial.rank)] == [0, 1, 2]


def test_reopening_finds_every_trial(paths):
    with StudyStore(paths, SPEC) as store:
        study = open_study(store)
        run_trials(study, 3)
        study.tell_failed(study.ask().number, "no luck")
        study.report(study.ask().number, 1, 0.7)
        study.tell_pruned(4)
        study.tell_pruned(study.ask().number, 123.0)
        study.attach_run(study.ask().number, "r_6", seed=6)
        before = study.trials
    with StudyStore(paths, SPEC) as store:
        study = open_study(store)
        assert study.trials == before
        assert [trial.state for trial in study.trials] == ["COMPLETE"] * 3 + ["FAIL", "PRUNED", "PRUNED", "RUNNING"]
        assert [trial.value for trial in study.trials[3:6]] == [None, 0.7, 123.0]
        assert (study.trials[3].run_id, study.trials[3].reason) == (None, "no luck")
        assert [(trial.number, trial.run_id, trial.seed) for trial in study.running] == [(6, "r_6", 6)]
        assert (study.num_asked, study.num_finished) == (7, 6)
        assert study.best == min(study.trials[:3], key=lambda trial: trial.value)


def test_studies_of_one_journal_are_apart(paths):
    with StudyStore(paths, SPEC) as store:
        run_trials(open_study(store), 3)
        other = store.open("p_2", "sgld", SPACE)
        run_trials(other, 2)
        assert other.num_asked == 2
        assert open_study(store).num_asked == 3


def test_a_torn_record_costs_only_itself(paths):
    with StudyStore(paths, SPEC) as store:
        run_trials(open_study(store), 3)
    with paths.journal.open("ab") as file:
        file.write(b'{"op_code": 4, "wor')
    with StudyStore(paths, SPEC) as store:
        run_trials(open_study(store), 2)
    with StudyStore(paths, SPEC) as store:
        assert open_study(store).num_finished == 5


def test_a_damaged_journal_is_an_error_that_names_it(paths):
    paths.journal.write_bytes(b"{}}\n{}\n")
    with pytest.raises(RunStateError, match=r"optuna\.journal is damaged"):
        StudyStore(paths, SPEC)


def test_optuna_reads_the_journal_while_it_is_written(paths):
    with StudyStore(paths, SPEC) as store:
        run_trials(open_study(store), 3)
        backend = optuna.storages.journal.JournalFileBackend(str(paths.journal))
        study = optuna.load_study(study_name="p_1:sgld", storage=optuna.storages.JournalStorage(backend))
        assert len(study.trials) == 3
        run_trials(open_study(store), 1)
        assert len(study.trials) == 4


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 1e300])
def test_infinity_is_never_told(paths, value):
    with StudyStore(paths, SPEC) as store:
        study = open_study(store)
        study.report(study.ask().number, 1, value)
        study.tell_complete(0, value)
        study.tell_pruned(study.ask().number, value)
        assert [trial.value for trial in study.trials] == [WORST_VALUE, WORST_VALUE]


def test_the_pruner_stops_what_is_worse_than_the_median(paths):
    with StudyStore(paths, SPEC) as store:
        study = open_study(store)
        for value in (3.0, 2.0, 1.0):
            number = study.ask().number
            study.report(number, 2, value)
            assert not study.should_prune(number)
            study.tell_complete(number, value)
        number = study.ask().number
        study.report(number, 2, 9.0)
        assert study.should_prune(number)


def test_without_a_pruner_nothing_is_stopped(paths):
    with StudyStore(paths, OptunaSection(pruner=PrunerSpec(type="none"))) as store:
        study = open_study(store)
        for value in (1.0, 1.0, 1.0, 99.0):
            number = study.ask().number
            study.report(number, 2, value)
            assert not study.should_prune(number)


def test_enqueued_values_come_first(paths):
    known = {"eta0": 1e-3, "steps": 500}
    with StudyStore(paths, SPEC) as store:
        study = open_study(store)
        study.enqueue(known)
        assert study.num_asked == 0
        assert study.ask().params == known


def test_known_values_are_enqueued_once_and_new_ones_when_the_study_goes_on(paths):
    with StudyStore(paths, SPEC) as store:
        study = open_study(store)
        study.enqueue({"eta0": 1e-3, "steps": 500}, "preset")
        run_trials(study, 3)
    with StudyStore(paths, SPEC) as store:
        study = open_study(store)
        study.enqueue({"eta0": 1e-3, "steps": 500}, "preset")
        study.enqueue({"eta0": 2e-3, "steps": 500})
        assert study.counts == {"WAITING": 1, "COMPLETE": 3}
        assert run_trials(study, 2)[0] == {"eta0": 2e-3, "steps": 500}
        assert [trial.origin for trial in study.trials] == ["preset", "search", "search", "enqueued", "search"]


def test_a_trial_that_was_left_running_is_asked_for_again_as_it_was(paths):
    known = {"eta0": 1e-3, "steps": 500}
    with StudyStore(paths, SPEC) as store:
        study = open_study(store)
        study.enqueue(known)
        asked = [study.ask() for _ in range(3)]
    with StudyStore(paths, SPEC) as store:
        study = open_study(store)
        assert [study.ask_again(trial.number) for trial in study.running] == asked
        assert (study.num_asked, study.num_finished) == (3, 0)
        study.tell_complete(0, 1.0)
        assert study.counts == {"RUNNING": 2, "COMPLETE": 1}
        assert study.ask().number == 3


@pytest.mark.parametrize("num_records", range(1, 6))
def test_a_trial_whose_asking_was_interrupted_keeps_what_it_had(paths, num_records):
    known = {"eta0": 1e-3, "steps": 500}
    with StudyStore(paths, SPEC) as store:
        study = open_study(store)
        study.enqueue(known)
        before = len(paths.journal.read_bytes().splitlines())
        study.ask()
    records = paths.journal.read_bytes().splitlines(keepends=True)
    paths.journal.write_bytes(b"".join(records[: before + num_records]))
    with StudyStore(paths, SPEC) as store:
        study = open_study(store)
        again = [study.ask_again(trial.number) for trial in study.running] or [study.ask()]
        assert [trial.params for trial in again] == [known]
        assert study.num_asked == 1


def test_another_space_or_objective_is_refused_by_name(paths):
    with StudyStore(paths, SPEC) as store:
        open_study(store)
    changed = {"eta0": SPACE["eta0"].model_copy(update={"high": 0.2}), "gamma": SPACE["eta0"]}
    with (
        StudyStore(paths, OptunaSection(objective=Objective(type="relative"))) as store,
        pytest.raises(RunStateError) as caught,
    ):
        store.open("p_1", "sgld", changed)
    assert str(caught.value) == (
        "The study p_1:sgld was begun with another `optuna.objective`, `search_space.sgld.eta0`, "
        "`search_space.sgld.gamma`, `search_space.sgld.steps`. Restore it, or choose another `store.namespace`."
    )


def test_other_fixed_settings_or_another_reference_are_refused_by_name(paths):
    conditions = {"samplers.sgld.num_chains": 4, "reference": {"llc": 8.2, "se": 0.1}}
    with StudyStore(paths, SPEC) as store:
        store.open("p_1", "sgld", SPACE, conditions)
    with StudyStore(paths, SPEC) as store:
        store.open("p_1", "sgld", SPACE, conditions)
        with pytest.raises(RunStateError, match=r"with another `reference`, `samplers\.sgld\.num_chains`\. Restore it"):
            store.open("p_1", "sgld", SPACE, {**conditions, "samplers.sgld.num_chains": 2, "reference": {"llc": 8.3}})


@pytest.mark.parametrize("algorithm", ["tpe", "random", "qmc"])
def test_the_pickle_is_a_study_that_goes_on(paths, algorithm):
    spec = OptunaSection(sampler=SearchAlgorithm(type=algorithm, n_startup_trials=5))
    with StudyStore(paths, spec) as store:
        study = open_study(store)
        run_trials(study, 10)
        study.tell_failed(study.ask().number, "no luck")
        study.ask()
        study.save_pickle()
    paths.journal.unlink()
    loaded = pickle.loads(paths.study_pickle("p_1", "sgld").read_bytes())
    assert isinstance(loaded, optuna.Study)
    assert [trial.number for trial in loaded.trials] == list(range(12))
    assert loaded.trials[10].user_attrs["reason"] == "no luck"
    assert type(loaded.sampler).__module__.startswith("optuna.")
    loaded.tell(11, 0.1)
    trial = loaded.ask()
    loaded.tell(trial, trial.suggest_float("eta0", 1e-6, 1e-1, log=True))
    assert len(loaded.trials) == 13
