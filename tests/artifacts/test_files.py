"""Files are whole or absent, and lines that a killed writer left cost nothing but themselves."""

import numpy as np
import pytest

from lambda_hat.artifacts.files import (
    append_json_line,
    read_json,
    read_json_lines,
    write_bytes_atomic,
    write_json_atomic,
    write_text_atomic,
)


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


@pytest.mark.parametrize("content", [None, b"", b'{"a": 1', b"[1]", b"\xff"])
def test_absent_empty_torn_and_foreign_json_is_none(tmp_path, content):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    assert read_json(path) is None


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
