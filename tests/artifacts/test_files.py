"""Files are whole or absent, and lines that a killed writer left cost nothing but themselves."""

import errno
import json
import os
import pickle
import re
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambda_hat.artifacts.files import (
    append_json_line,
    make_dir,
    read_arrays,
    read_bytes,
    read_json,
    read_json_lines,
    read_yaml,
    touch,
    write_bytes_atomic,
    write_json_atomic,
    write_text_atomic,
)
from lambda_hat.errors import RunStateError, StorageError

FULL = "could not be written: No space left on device"
OBJECTS = st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.booleans(), max_size=3), max_size=4)
WRITERS = [
    lambda path: write_bytes_atomic(path, b"new" * 10_000),
    lambda path: write_text_atomic(path, "new" * 10_000),
    lambda path: write_json_atomic(path, {"new": "new" * 10_000}),
    lambda path: append_json_line(path, {"new": "new" * 10_000}),
]


def test_json_reads_back(tmp_path):
    path = tmp_path / "a.json"
    write_json_atomic(path, {"a": np.float32(1.5), "b": np.arange(3), "c": float("nan"), "d": [np.inf], "e": tmp_path})
    assert read_json(path) == {"a": 1.5, "b": [0, 1, 2], "c": None, "d": [None], "e": str(tmp_path)}


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path):
    path = tmp_path / "a.txt"
    write_text_atomic(path, "old")
    with pytest.raises(TypeError):
        write_bytes_atomic(path, "not bytes")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "content",
    [None, b"", b"\n", b'{"a": 1', b"[1]", b"\xff", b"\x80\x04K\x01.", b'{"a":' * 100_000, b"[" * 100_000, b"9" * 5000],
)
def test_absent_empty_torn_and_foreign_json_is_none(tmp_path, content):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    assert read_json(path) is None


@pytest.mark.slow
@pytest.mark.parametrize("text", ["- a list", "[" * 10_000, "", "{", "\ud800".encode("utf-8", "surrogatepass")])
def test_yaml_that_is_no_mapping_reads_as_nothing(tmp_path, text):
    path = tmp_path / "config.yaml"
    assert read_yaml(path) is None
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert read_yaml(path) is None


def test_lines_are_read_once_and_a_torn_one_waits_for_its_end(tmp_path):
    path = tmp_path / "lines.jsonl"
    assert read_json_lines(path, 0) == ([], 0)
    append_json_line(path, {"step": 1})
    rows, offset = read_json_lines(path, 0)
    assert rows == [{"step": 1}]
    with path.open("ab") as file:
        file.write(b'{"step": 2')
    assert read_json_lines(path, offset) == ([], offset)
    with path.open("ab") as file:
        file.write(b"}\n")
    rows, offset = read_json_lines(path, offset)
    assert rows == [{"step": 2}]
    assert offset == path.stat().st_size


def test_a_new_line_is_not_glued_to_a_torn_one(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b'{"step": 1}\n{"st')
    append_json_line(path, {"step": 3})
    assert read_json_lines(path, 0)[0] == [{"step": 1}, {"step": 3}]


def test_a_file_that_shrank_is_read_from_its_start(tmp_path):
    path = tmp_path / "lines.jsonl"
    for step in range(3):
        append_json_line(path, {"step": step})
    _, offset = read_json_lines(path, 0)
    path.unlink()
    append_json_line(path, {"step": 7})
    assert read_json_lines(path, offset)[0] == [{"step": 7}]


@settings(max_examples=50)
@given(OBJECTS, st.data())
def test_of_a_cut_file_nothing_is_read_and_of_cut_lines_the_whole_ones(obj, data):
    with tempfile.TemporaryDirectory() as folder:
        path, lines = Path(folder) / "a.json", Path(folder) / "lines.jsonl"
        write_json_atomic(path, obj)
        assert read_json(path) == obj
        content = path.read_bytes()
        path.write_bytes(content[: data.draw(st.integers(0, len(content) - 2))])  # the last byte is a newline
        assert read_json(path) is None

        rows = [{"number": number, "obj": obj} for number in range(3)]
        for row in rows:
            append_json_line(lines, row)
        content = lines.read_bytes()
        end = data.draw(st.integers(0, len(content)))
        lines.write_bytes(content[:end])
        first, offset = read_json_lines(lines)
        assert first == rows[: content[:end].count(b"\n")]
        lines.write_bytes(content)
        assert first + read_json_lines(lines, offset)[0] == rows


def test_a_line_that_cannot_be_parsed_costs_only_itself(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b'{"step": 1}\n' + b"[" * 100_000 + b"\n\xff\xfe\n\n" + b'{"step": 2}\n')
    assert read_json_lines(path)[0] == [{"step": 1}, {"step": 2}]


def test_a_writer_killed_at_any_point_leaves_the_old_or_the_new_content(tmp_path):
    """Forks one writer for each line of the module that a write runs, and kills it there."""
    program = """
import os, sys
from pathlib import Path
from lambda_hat.artifacts import files

path = Path(sys.argv[1])

def child(last):
    num_lines = 0
    def trace(frame, event, arg):
        nonlocal num_lines
        if frame.f_code.co_filename != files.__file__:
            return None
        num_lines += event == "line"
        if num_lines == last:
            os.kill(os.getpid(), 9)
        return trace
    sys.settrace(trace)
    files.write_bytes_atomic(path, b"new" * 1000)
    os._exit(0)

for last in range(1, 1000):
    path.write_bytes(b"old")
    pid = os.fork()
    if pid == 0:
        child(last)
    _, status = os.waitpid(pid, 0)
    print(path.read_bytes()[:3].decode(), path.stat().st_size, os.WIFSIGNALED(status))
    if not os.WIFSIGNALED(status):
        break
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "a")], capture_output=True, text=True, check=True
    )
    *killed, last = done.stdout.splitlines()
    assert set(killed) == {"old 3 True", "new 3000 True"}
    assert len(killed) > 10
    assert last == "new 3000 False"


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("is_torn", [False, True])
def test_a_full_disk_is_an_error_that_names_the_file_and_costs_nothing_that_was_there(
    tmp_path, failing_writes, write, is_torn
):
    path = tmp_path / "a"
    append_json_line(path, {"old": 1})
    with failing_writes(1, is_torn=is_torn), pytest.raises(StorageError, match=re.escape(f"{path} {FULL}")):
        write(path)
    assert read_json_lines(path)[0] == [{"old": 1}]
    assert list(tmp_path.iterdir()) == [path]
    append_json_line(path, {"new": 2})
    assert read_json_lines(path)[0] == [{"old": 1}, {"new": 2}]


@pytest.mark.parametrize("write", WRITERS)
def test_a_limit_that_the_system_itself_sets_is_met_the_same_way(tmp_path, write):
    path = tmp_path / "a"
    append_json_line(path, {"old": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(StorageError, match="a could not be written: File too large"):
            write(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert read_json_lines(path)[0] == [{"old": 1}]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_disk_that_fails_while_syncing_is_an_error_that_names_the_file(tmp_path, monkeypatch, number):
    def fail(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError, match=re.escape(f"{tmp_path}/a could not be written: {os.strerror(number)}")):
        write_bytes_atomic(tmp_path / "a", b"new")
    with pytest.raises(StorageError, match=re.escape(f"{tmp_path}/b could not be written: {os.strerror(number)}")):
        make_dir(tmp_path / "b")
    assert not (tmp_path / "a").exists()


def test_the_error_of_a_full_disk_survives_the_way_from_a_worker():
    error = StorageError.from_os_error(OSError(errno.ENOSPC, "No space left on device"), Path("a"))
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.exit_code) == (StorageError, str(error), 1)
    assert str(error).startswith(f"a {FULL}. ")
    assert StorageError.from_os_error(FileNotFoundError(errno.ENOENT, "No such file")) is None


@pytest.mark.parametrize("is_dangling", [False, True])
def test_nothing_is_written_through_a_link(tmp_path, is_dangling):
    other, path = tmp_path / "other", tmp_path / "a"
    if not is_dangling:
        other.write_text("precious")
    for write in (WRITERS[3], touch):
        path.symlink_to(other)
        with pytest.raises(RunStateError, match=re.escape(f"{path} cannot be written: it is a symbolic link.")):
            write(path)
        path.unlink()
    for write in WRITERS[:3]:
        path.symlink_to(other)
        write(path)
        assert not path.is_symlink()
        path.unlink()
    assert (other.read_text() if other.exists() else None) == (None if is_dangling else "precious")


def test_a_flag_is_an_empty_file_and_one_that_is_there_stays(tmp_path):
    touch(tmp_path / "stop")
    assert (tmp_path / "stop").read_bytes() == b""
    (tmp_path / "stop").write_text("x")
    touch(tmp_path / "stop")
    assert (tmp_path / "stop").read_text() == "x"


@pytest.mark.parametrize("umask", [0o027, 0o077])
def test_new_files_and_folders_have_the_permissions_that_the_umask_leaves(tmp_path, umask):
    old = os.umask(umask)
    try:
        for number, write in enumerate((*WRITERS, touch, make_dir)):
            write(tmp_path / str(number))
    finally:
        os.umask(old)
    modes = [(tmp_path / str(number)).stat().st_mode & 0o777 for number in range(6)]
    assert modes == [0o666 & ~umask] * 5 + [0o777 & ~umask]


def test_folders_are_made_on_the_way_and_each_is_synced_in_the_one_above(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr("lambda_hat.artifacts.files.sync_dir", synced.append)
    make_dir(tmp_path / "a" / "b")
    make_dir(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    assert synced == [tmp_path, tmp_path / "a"]


@pytest.mark.parametrize("stranger", ["a file", "a dangling link"])
def test_what_is_in_the_way_of_a_folder_is_named(tmp_path, stranger):
    path = tmp_path / "a"
    if stranger == "a file":
        path.write_text("")
    else:
        path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(RunStateError, match=re.escape(f"{path} cannot be written: File exists.")):
        make_dir(path)
    assert not (tmp_path / "nowhere").exists()


def test_arrays_read_back_and_pickled_ones_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, one=np.arange(3), two=np.ones((2, 2)))
    arrays = read_arrays(path)
    assert {name: array.tolist() for name, array in arrays.items()} == {"one": [0, 1, 2], "two": [[1, 1], [1, 1]]}
    np.savez(path, allow_pickle=True, one=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_arrays(path)
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "none.npz")


def test_folders_and_pipes_in_the_place_of_files_are_named(tmp_path):
    folder, pipe = tmp_path / "folder", tmp_path / "pipe"
    folder.mkdir()
    os.mkfifo(pipe)
    for path in (folder, pipe):
        for read in (read_bytes, read_json, read_json_lines, read_yaml):
            with pytest.raises(RunStateError, match=re.escape(f"{path} is not a file.")):
                read(path)
    for write in (*WRITERS, touch):
        with pytest.raises(RunStateError, match=re.escape(f"{folder} cannot be written: Is a directory.")):
            write(folder)
    assert sorted(tmp_path.iterdir()) == [folder, pipe]


def test_a_file_where_a_folder_was_expected_is_an_error_and_no_traceback(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(RunStateError, match=re.escape(f"{tmp_path}/a/b cannot be read: Not a directory.")):
        read_json(tmp_path / "a" / "b")
    with pytest.raises(RunStateError, match=re.escape(f"{tmp_path}/a/b cannot be written: Not a directory.")):
        write_json_atomic(tmp_path / "a" / "b", {})


def test_files_that_others_keep_to_themselves_are_named(tmp_path, monkeypatch):
    def refuse(path, *args, **kwargs):  # root, as whom tests may run, is refused nothing
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    write_json_atomic(tmp_path / "a", {})
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(RunStateError, match=re.escape(f"{tmp_path}/a cannot be read: Permission denied.")):
        read_json(tmp_path / "a")
    with pytest.raises(RunStateError, match=re.escape(f"{tmp_path}/a cannot be written: Permission denied.")):
        write_json_atomic(tmp_path / "a", {})


def test_text_that_is_no_unicode_is_escaped_and_reads_back(tmp_path):
    name = os.fsdecode(b"caf\xe9")  # as Python spells a file name in Latin-1
    write_json_atomic(tmp_path / "a", {"name": name})
    append_json_line(tmp_path / "b", {"name": name})
    assert read_json(tmp_path / "a") == {"name": name}
    assert read_json_lines(tmp_path / "b")[0] == [{"name": name}]
    assert json.loads((tmp_path / "a").read_text(encoding="utf-8")) == {"name": name}
