"""Networks of one's own: what names them, and what is said where they cannot be built."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from types import ModuleType

import jax
import numpy as np
import pytest

from lambda_hat.artifacts.ids import problem_id
from lambda_hat.config.problems import PythonProblem
from lambda_hat.errors import TargetError
from lambda_hat.targets import build_target, load_target
from lambda_hat.targets.python import build_anew, find_function

SOURCE = """\
import numpy as np
import helper


def loss_fn(params, batch):
    x, y = batch
    return helper.square(x @ params["w"] - y + params["b"])


def network(width=2, checkpoint=None, shift=0.0):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, width))
    w = np.ones(width) if checkpoint is None else np.load(checkpoint)
    return loss_fn, {"w": w, "b": np.full(1, shift)}, (x, x @ np.ones(width))
"""
HELPER = "def square(x):\n    return x**2\n"


def write(folder: Path, source: str = SOURCE) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "helper.py").write_text(HELPER)
    (folder / "networks.py").write_text(textwrap.dedent(source))
    return folder / "networks.py"


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """What files of a test put into this process does not outlast it."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name == "helper" or name.startswith("lambda_hat_build_"):
            del sys.modules[name]


def problem(path: Path, function: str = "network", **fields) -> PythonProblem:
    return PythonProblem(build=f"{path}:{function}", **fields)


def content(path: Path, **arguments) -> str:
    found = problem(path, arguments=arguments)
    return problem_id(build_anew(found).named(found).identity())


@pytest.mark.slow
def test_content_names_a_problem_and_no_path_does(tmp_path):
    np.save(tmp_path / "trained.npy", np.full(2, 0.5))
    path = write(tmp_path)
    ids = [content(path), content(path, shift=1.0), content(path, checkpoint="trained.npy")]
    assert len(set(ids)) == 3
    absolute = content(path, checkpoint=str(tmp_path / "trained.npy"))
    assert absolute == ids[2], "a file counts by its content"
    np.save(tmp_path / "trained.npy", np.full(2, 0.6))
    assert content(path, checkpoint="trained.npy") != ids[2], "an edited checkpoint is another problem"


@pytest.mark.slow
def test_an_unchanged_file_is_found_again_from_another_folder(tmp_path):
    one = build_anew(problem(write(tmp_path / "one")))
    del sys.modules["helper"]
    sys.path.remove(str(tmp_path / "one"))
    other = build_anew(problem(write(tmp_path / "other")))
    assert (one.content, one.sources) == (other.content, other.sources)
    assert sorted(one.sources) == ["helper.py", "networks.py"]


@pytest.mark.slow
def test_a_function_of_a_package(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    write(tmp_path / "mine", SOURCE.replace("import helper", "from mine import helper"))
    (tmp_path / "mine" / "__init__.py").write_text("")
    found = PythonProblem(build="mine.networks:network", sampled=("w",))
    built = build_anew(found)
    assert sorted(built.sources) == ["__init__.py", "helper.py", "networks.py"]
    assert build_target_in_x64(built.named(found)).dim == 2
    for name in ("mine", "mine.networks", "mine.helper"):
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(TargetError, match=r"mine\.absent cannot be imported: ModuleNotFoundError"):
        find_function(PythonProblem(build="mine.absent:network"))


@pytest.mark.slow
def test_an_edited_file_is_another_problem(tmp_path):
    path = write(tmp_path)
    before = content(path)
    write(tmp_path, SOURCE.replace("batch\n", "batch  # edited\n"))
    assert content(path) != before


def test_modules_whose_files_are_names_alone_are_no_sources(tmp_path, monkeypatch):
    odd = ModuleType("odd")
    odd.__file__ = "_classes.py"
    monkeypatch.setitem(sys.modules, "odd", odd)
    monkeypatch.chdir(write(tmp_path).parent)
    assert sorted(build_anew(problem(tmp_path / "networks.py")).sources) == ["helper.py", "networks.py"]


@pytest.mark.slow
def test_a_closure_is_content(tmp_path):
    source = """
    import numpy as np

    def network(scale):
        factor = scale * np.ones(2)

        def loss_fn(params, batch):
            return (batch @ (factor * params)) ** 2

        return loss_fn, np.ones(2), np.eye(2)

    def hidden(scale):
        return network(scale)
    """
    path = write(tmp_path, source)
    one, other = (build_anew(problem(path, arguments={"scale": value})) for value in (1.0, 2.0))
    assert one.content != other.content


@pytest.mark.slow
def test_a_stored_target_is_built_again_where_it_is_loaded(tmp_path):
    found = problem(write(tmp_path), sampled=("w",))
    found = build_anew(found).named(found)
    with jax.enable_x64(True):
        built = build_target(found)
    built.save(tmp_path / "target.npz")
    loaded = load_target(tmp_path / "target.npz", found)
    assert loaded.loss_fn is built.loss_fn
    np.testing.assert_array_equal(loaded.data[0], built.data[0])
    assert (loaded.dim, loaded.num_frozen) == (2, 1)
    assert (tmp_path / "target.npz").stat().st_size < 2000, "the data are not in it"


@pytest.mark.slow
def test_the_precision_is_what_the_module_says(tmp_path):
    source = """
    import jax, jax.numpy as jnp
    {switch}

    def loss_fn(params, batch):
        return batch @ params

    def network():
        return loss_fn, jnp.ones(2), jnp.full((3, 2), 0.1)
    """
    single = build_anew(problem(write(tmp_path / "a", source.format(switch=""))))
    switch = 'jax.config.update("jax_enable_x64", True)'
    double = build_anew(problem(write(tmp_path / "b", source.format(switch=switch))))
    assert [built.model.data[0].dtype for built in (single, double)] == ["float32", "float64"]
    assert not jax.config.jax_enable_x64


@pytest.mark.slow
def test_what_changed_while_a_run_goes_on_is_refused(tmp_path):
    path = write(tmp_path)
    found = problem(path)
    found = build_anew(found).named(found)
    write(tmp_path, SOURCE + "\n# edited\n")
    with pytest.raises(TargetError, match=r"networks\.py changed since this command began: what it builds now"):
        build_target_in_x64(found)


def test_a_function_that_gives_something_else_every_time(tmp_path):
    source = """
    import numpy as np

    def network():
        return (lambda params, batch: batch @ params), np.random.standard_normal(2), np.ones((3, 2))
    """
    found = problem(write(tmp_path, source))
    found = build_anew(found).named(found)
    with pytest.raises(TargetError, match=r"built another model here than when this command began \(content \w+, not"):
        build_target_in_x64(found)


@pytest.mark.slow
def test_rounding_is_not_another_network(tmp_path):
    found = problem(write(tmp_path))
    found = build_anew(found).named(found)
    rounded = found.model_copy(update={"content": "of another machine"})
    assert build_target_in_x64(rounded).dim == 3
    other = rounded.model_copy(update={"sketch": tuple(1.001 * value for value in found.sketch)})
    with pytest.raises(TargetError, match="built another model here"):
        build_target_in_x64(other)


def build_target_in_x64(found: PythonProblem):
    with jax.enable_x64(True):
        return build_target(found)


FAULTS = [
    ("def network(:\n    pass\n", {}, r"networks\.py cannot be imported: SyntaxError in .*networks\.py, line 1: "),
    (
        "import nothing_like_it\n",
        {},
        r"cannot be imported: ModuleNotFoundError in .*networks\.py, line 1, `<module>`: ",
    ),
    ("def netwrk():\n    pass\n", {}, r"found no such function, expected a function\. Did you mean `netwrk`\?"),
    ("network = 1\n", {}, r"found an int, expected a function\."),
    (
        "def network(width):\n    pass\n",
        {"widht": 2},
        r"`network\(width\)` of .* does not take these arguments: missing a required argument: 'width' \(widht=2\)\.",
    ),
]
WRONG = [
    (
        "def network(width):\n    return 1 / width\n",
        r"\(width=0\) failed in .*networks\.py, line 2, `network`: Zero",
    ),
    (
        "def network(width):\n    return 1\n",
        r"\(width=0\) gave: an int; expected \(loss_fn, params, data\) or a",
    ),
    ("def network(width):\n    return 1, 2\n", r"gave: a tuple of 2; expected"),
    (
        "def network(width):\n    raise SystemExit(7)\n",
        r"\(width=0\) failed in .*networks\.py, line 2, `network`: SystemExit: 7",
    ),
    (
        "import numpy as np\ndef network(width):\n    return len, {'w': np.array([np.nan])}, np.ones((3, 1))\n",
        r"gave: params\['w'\]: found 1 of 1 entries NaN or infinite, expected finite numbers\.",
    ),
]


@pytest.mark.parametrize(("source", "arguments", "message"), FAULTS, ids=range(len(FAULTS)))
def test_a_function_that_cannot_be_found(tmp_path, source, arguments, message):
    with pytest.raises(TargetError, match=message):
        find_function(problem(write(tmp_path, source), arguments=arguments))


@pytest.mark.parametrize(("source", "message"), WRONG, ids=range(len(WRONG)))
def test_a_function_that_fails(tmp_path, source, message):
    with pytest.raises(TargetError, match=message):
        build_anew(problem(write(tmp_path, source), arguments={"width": 0}))


def test_a_pattern_that_matches_nothing(tmp_path):
    with pytest.raises(TargetError, match=r"gave: sampled: 'x' matches nothing of `b`, `w`\."):
        build_anew(problem(write(tmp_path), sampled=("x",)))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(TargetError, match=r"absent\.py cannot be read: No such file or directory\."):
        find_function(problem(tmp_path / "absent.py"))
