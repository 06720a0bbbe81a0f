"""Any name that a folder can have, and the plain path to it that other programs are given."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given

from lambda_hat.config.card import InlineCard, KubernetesCard, LocalCard, LocalExecutor, PBSCard, SlurmCard, Volume
from lambda_hat.errors import ExecutionError
from lambda_hat.execution import plain
from lambda_hat.execution.parsl.cards import load_parsl_config_from_card
from lambda_hat.execution.plain import check_folder, is_plain, plain_path
from tests.names import FOLDER_NAMES

LOCAL = LocalCard(executors=(LocalExecutor(label="only", max_workers=1),))
SLURM = SlurmCard(type="slurm", max_workers=1)
CARDS = (LOCAL, SLURM, PBSCard(type="pbs", max_workers=1))
HOSTILE = "a b$(touch MARK)`touch MARK`;\"'[0.1]{x}{{y}}%j#\\é\n$HOME~*?&|<>!"


def kubernetes(path: str) -> KubernetesCard:
    return KubernetesCard(
        type="kubernetes", image="i", address="a", max_workers=1, persistent_volumes=(Volume(claim="c", path=path),)
    )


@pytest.mark.slow
@given(FOLDER_NAMES)
@example(HOSTILE)
@example("my runs")
@example("lr=[0.1]")
@example("-")
@example("~")
@example("a:b")
@example("x" * 250)
def test_every_name_has_a_plain_path_while_it_is_needed(name):
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place).resolve() / name
        folder.mkdir()
        (folder / "file").write_text("of the run")
        for card in CARDS:
            assert check_folder(folder, card) == []
            with plain_path(folder, card) as path:
                assert is_plain(path)
                assert "[" not in str(path)
                assert (path / "file").read_text() == "of the run"
            assert path == folder or not os.path.lexists(path)
        assert [path.name for path in Path(place).iterdir()] == [name]


def test_a_plain_name_is_its_own_path(tmp_path):
    folder = tmp_path / "runs" / "optuna-1" / "v1.2_+"
    with plain_path(folder, LOCAL) as path:
        assert path == folder


def test_a_link_that_a_killed_command_left_is_replaced(tmp_path):
    folder = tmp_path / "my runs"
    folder.mkdir()
    with plain_path(folder, SLURM) as path:
        pass
    path.symlink_to(tmp_path / "gone")
    with plain_path(folder, SLURM) as again:
        assert again == path
        assert again.resolve() == folder


def test_what_is_no_link_of_ours_stays(tmp_path):
    folder = tmp_path / "my runs"
    folder.mkdir()
    with plain_path(folder, SLURM) as path:
        pass
    path.mkdir()
    with pytest.raises(ExecutionError, match="cannot be made: File exists"), plain_path(folder, SLURM):
        pass
    assert path.is_dir()


def test_on_clusters_the_link_lies_above_the_folder_on_its_own_file_system(tmp_path):
    folder = tmp_path / "plain" / "my runs" / "b"
    folder.mkdir(parents=True)
    with plain_path(folder, SLURM) as path:
        assert path.parent == tmp_path / "plain"
    with plain_path(folder, kubernetes(str(tmp_path))) as path:
        assert path.parent == tmp_path / "plain", "what pods mount holds it"


@pytest.mark.parametrize("card", [SLURM, kubernetes("/elsewhere")], ids=["slurm", "kubernetes"])
def test_where_no_link_can_be_the_folder_is_refused_by_name(tmp_path, monkeypatch, card):
    folder = tmp_path / "my runs"
    monkeypatch.setenv("HOME", str(tmp_path / "no home"))
    monkeypatch.setattr(plain.os, "access", lambda *_: False)
    (fault,) = check_folder(folder, card)
    assert fault.key == "store.root"
    assert fault.message == (
        f"found ' ' in {str(folder)!r}: the programs that start workers need a plain name, "
        "and there is no place for a link on a file system that the workers share"
    )
    assert check_folder(folder, InlineCard()) == []
    with pytest.raises(ExecutionError, match="no place for a link"), plain_path(folder, card):
        pass


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("x" * 256, "found a name of 256 bytes, and the file system takes 255"),
        ("é" * 128, "found a name of 256 bytes, and the file system takes 255"),
        ("/".join(["x" * 200] * 20), "found a path of "),
        ("a\udcffb", "which is not UTF-8"),
        ("file/runs", "/file' is no folder"),
    ],
    ids=["long", "long in bytes", "long path", "bytes", "file"],
)
@pytest.mark.parametrize("card", [LOCAL, SLURM, InlineCard()], ids=lambda card: card.type)
def test_a_folder_that_cannot_be_is_refused_on_every_card(tmp_path, name, reason, card):
    (tmp_path / "file").touch()
    (fault,) = check_folder(tmp_path / name, card)
    assert reason in fault.message


def test_an_environment_that_cannot_be_in_path_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(plain.sysconfig, "get_path", lambda _: "/home/a:b/bin")
    (fault,) = check_folder(tmp_path, LOCAL)
    assert fault.message == "lambda-hat is installed in '/home/a:b/bin', a name that cannot be in PATH"
    assert check_folder(tmp_path, SLURM) == [], "its jobs have environments of their own"


@pytest.mark.parametrize("card", [LOCAL, SLURM], ids=["local", "slurm"])
def test_workers_find_the_environment_and_the_cache_whatever_their_names(tmp_path, monkeypatch, card):
    scripts, cache = tmp_path / f"{HOSTILE} bin", tmp_path / f"{HOSTILE} cache"
    scripts.mkdir()
    (scripts / "my-python").write_text("#!/bin/sh\necho found")
    (scripts / "my-python").chmod(0o755)
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(scripts))
    (executor,) = load_parsl_config_from_card(card, tmp_path / "parsl_runinfo", cache).executors
    script = f'{executor.provider.worker_init}\nmy-python; printf %s "$JAX_COMPILATION_CACHE_DIR"'
    done = subprocess.run(["bash"], input=script, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (f"found\n{cache}", "")
    assert not (tmp_path / "MARK").exists()
