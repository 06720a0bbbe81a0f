"""What is imported without a heavy package comes without it, and comes all the same where that fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lambda_hat.imports import import_without

LEAN = "try:\n    import heavy_one\nexcept ImportError:\n    heavy_one = None\n"
NEEDY = "import light_two.part\nimport heavy_two\nfrom heavy_two import VALUE\n"


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {
        "heavy_one": "", "light_one": LEAN, "heavy_two": "VALUE = 2\n", "light_two": "", "heavy_three": "",
        "light_three": "import sys\nif sys.modules['heavy_three'] is None: raise RuntimeError\n",
    }.items():  # fmt: skip
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(text)
    (tmp_path / "light_two" / "part.py").write_text("")
    (tmp_path / "light_two" / "whole.py").write_text(NEEDY)
    (tmp_path / "light_three" / "__init__.py").write_text("import heavy_three\nassert heavy_three\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("packages")
def test_the_heavy_package_is_left_out_and_can_still_be_had():
    assert import_without("heavy_one", "light_one").heavy_one is None
    assert "heavy_one" not in sys.modules
    import heavy_one  # pyright: ignore[reportMissingImports]

    assert import_without("heavy_one", "light_one").heavy_one is None, "it is there already"
    assert heavy_one.__name__ == "heavy_one"


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize(("heavy", "name"), [("heavy_two", "light_two.whole"), ("heavy_three", "light_three")])
def test_the_ordinary_import_follows_where_that_fails(heavy, name):
    module = import_without(heavy, name)
    assert sys.modules[name] is module
    assert heavy in sys.modules
    assert sys.modules[heavy] is not None


NEEDS = """
import builtins, sys
real = builtins.__import__
def strict(name, *args, **kwargs):
    if name.partition(".")[0] == {package!r} and sys.modules.get({heavy!r}, 0) is None:
        raise RuntimeError("it is needed after all")
    return real(name, *args, **kwargs)
builtins.__import__ = strict
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "heavy", "statement"),
    [
        ("parsl", "sqlalchemy", "from lambda_hat.execution.parsl.cluster import Cluster as found"),
        ("arviz_stats", "xarray", "from lambda_hat.draws.array_stats import array_stats as found; found.ess"),
    ],
)
def test_parsl_and_arviz_are_imported_even_if_they_need_what_is_left_out(package, heavy, statement):
    program = f"{NEEDS.format(package=package, heavy=heavy)}\n{statement}\nprint({heavy!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("True\n", "")
