from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

MINIMAL = """\
problems:
  - {model: small}
methods: [sgld]
search_space:
  sgld:
    eta0: {dist: float, low: 1e-6, high: 1e-1, log: true}
"""


@pytest.fixture
def study_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Writes `study.yaml` into the current folder: the minimal study, pieces replaced, a tail appended."""
    monkeypatch.chdir(tmp_path)

    def write(*replacements: tuple[str, str], tail: str = "", text: str = MINIMAL) -> str:
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        Path("study.yaml").write_text(text + tail, encoding="utf-8")
        return "study.yaml"

    return write


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The repository's root, made the current folder."""
    monkeypatch.chdir(REPOSITORY)
    return REPOSITORY
