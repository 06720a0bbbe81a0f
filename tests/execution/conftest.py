from pathlib import Path

import pytest

import lambda_hat

# What Parsl leaves to the garbage collector, and forks from a process with threads or JAX in it: its own affairs.
_PARSL_WARNINGS = (
    r"ignore:unclosed file:ResourceWarning",
    r"ignore:subprocess \d+ is still running:ResourceWarning",
    r"ignore:unclosed (context|socket):ResourceWarning",
    r"ignore:os.fork\(\) was called:RuntimeWarning",
    r"ignore:.*use of fork\(\) may lead to deadlocks:DeprecationWarning",
)


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for warning in _PARSL_WARNINGS:
                item.add_marker(pytest.mark.filterwarnings(warning))


@pytest.fixture(scope="session")
def workers_find_package():
    """Workers are fresh processes: let them import the package under test, installed or not."""
    root = str(Path(lambda_hat.__file__).parents[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", root)
        yield
