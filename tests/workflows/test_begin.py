"""A dry run on a folder that holds something ends as the run would, and neither changes what is refused."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def refused(small_study):
    """What a command that is refused says, with `--dry-run` and without; it changes nothing."""

    def refused(*arguments):
        before = {path: path.read_bytes() for path in small_study.root.rglob("*") if path.is_file()}
        plan, told = small_study.run("--dry-run", *arguments, code=2)
        assert small_study.run(*arguments, code=2) == ("", told)
        assert {path: path.read_bytes() for path in small_study.root.rglob("*") if path.is_file()} == before
        return plan, told

    return refused


def test_a_dry_run_says_what_the_run_would_say(small_study, refused):
    small_study.run()
    stdout, stderr = small_study.run("--dry-run")
    assert ("nothing is left to run" in stdout, stderr) == (True, "")

    more = ("--set", "optuna.max_trials_per_method=5")
    plan, told = refused(*more)
    assert ":sgld  3 trials done, 2 to run on htex32" in plan
    assert told == (
        f"Error: {small_study.root} holds an unfinished study. Pass `--resume` to go on with it, or choose another "
        "`store.namespace`.\n"
    )
    stdout, stderr = small_study.run("--dry-run", "--resume", *more)
    assert ("--resume" in stdout, stderr) == (False, "")

    for change, key in {
        "search_space.sgld.eta0.high=0.5": "search_space.sgld.eta0",
        "samplers.sgld.batch=64": "samplers.sgld.batch",
        "optuna.objective.type=relative": "optuna.objective",
    }.items():
        for arguments in ((), ("--resume", *more)):
            plan, told = refused("--set", change, *arguments)
            assert plan == ""
            assert told.startswith("Error: The study p_")
            assert told.endswith(f":sgld was begun with another `{key}`. Restore it, or choose another "
                                 "`store.namespace`.\n")  # fmt: skip

    journal = small_study.root / "studies" / "optuna.journal"
    journal.write_bytes(b"no record\n")
    assert f"{journal} is damaged" in refused()[1]
