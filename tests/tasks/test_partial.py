"""A reference that is killed goes on from its last round."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from lambda_hat.artifacts.files import read_arrays, read_json
from lambda_hat.config.study import ReferenceSpec
from lambda_hat.tasks import partial
from lambda_hat.tasks.partial import Keeper, Partial
from lambda_hat.tasks.reference import run_reference
from tests.conftest import HANGING

SPEC = ReferenceSpec(draws_per_round=50)


def arrays(value: float):
    return lambda: {"chains.x": np.asarray(value)}


def test_it_is_written_when_that_takes_a_twentieth_of_the_time(tmp_path):
    clock = [0.0]
    keeper = Keeper(tmp_path, SPEC, {"training": 2.0}, now=lambda: clock[0])

    def keep(at: float, value: float, cost: float = 0.0) -> float | None:
        """What is on the disk after a round that ended then."""
        clock[0] = at

        def slow():
            clock[0] += cost
            return arrays(value)()

        keeper(slow, {"rounds": at})
        kept = Partial.read(tmp_path, SPEC)
        return None if kept is None else float(kept.arrays["chains.x"])

    assert keep(19.0, 1.0) is None
    assert keep(20.0, 2.0, cost=3.0) == 2.0
    assert keep(23.0 + 59.0, 3.0) == 2.0, "writing took three seconds: not again within sixty"
    assert keep(23.0 + 60.0, 4.0) == 4.0
    kept = Partial.read(tmp_path, SPEC)
    assert kept is not None
    assert kept.stages == {"training": 2.0, "rounds": 83.0}
    assert Partial.read(tmp_path, SPEC.model_copy(update={"max_relative_mcse": 0.5})) is not None
    assert Partial.read(tmp_path, SPEC.model_copy(update={"seed": 7})) is None


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04torn", b"\x93NUMPY"])
def test_what_cannot_be_read_is_not_gone_on_from(tmp_path, content):
    (tmp_path / "ref.partial.npz").write_bytes(content)
    assert Partial.read(tmp_path, SPEC) is None


def test_what_would_have_to_be_unpickled_is_not_read(tmp_path):
    np.savez(tmp_path / "ref.partial.npz", about=np.asarray([{}], object), allow_pickle=True)
    assert Partial.read(tmp_path, SPEC) is None


@pytest.mark.slow
def test_a_reference_that_is_killed_goes_on_from_its_last_round(quadratic_dir, tmp_path, monkeypatch):
    folder = tmp_path / "problem"
    folder.mkdir()
    for name in ("problem.yaml", "target.npz"):
        shutil.copy(quadratic_dir / name, folder)
    keep = Keeper.__call__

    def keep_and_die(self, *args):
        keep(self, *args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(partial, "_MIN_SEC", 0.0)
        patch.setattr(Keeper, "__call__", keep_and_die)
        with pytest.raises(KeyboardInterrupt):
            run_reference(str(folder), SPEC, HANGING)
    assert not (folder / "ref.json").exists()
    before = read_arrays(folder / "ref.partial.npz")
    result = run_reference(str(folder), SPEC, HANGING)
    assert result.state == "COMPLETE"
    assert not (folder / "ref.partial.npz").exists()
    record, after = read_json(folder / "ref.json"), read_arrays(folder / "ref.npz")
    assert record["is_certified"]
    assert {"training", "hessian", "wells"} <= record["stages"].keys(), "those of the first call too"
    assert record["num_gradient_evaluations"] > float(before["num_gradient_evaluations"])
    for name in ("chains.excess_loss", "chains.squared_distance"):
        num_before = before[name].shape[1]
        assert after[name].shape[1] > num_before
        np.testing.assert_array_equal(after[name][:, :num_before], before[name], name)
