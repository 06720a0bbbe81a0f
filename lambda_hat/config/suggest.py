"""Suggestions for names that do not exist."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path

__all__ = ["did_you_mean", "file_meant", "one_of"]


def did_you_mean(word: object, candidates: Iterable[object]) -> str:
    """A question that names the candidate closest to `word`; empty if none is close."""
    if not isinstance(word, str):
        return ""
    by_lower = {candidate.lower(): candidate for candidate in candidates if isinstance(candidate, str)}
    return _question(word, 0.6, by_lower)


def file_meant(name: str, candidates: Iterable[str]) -> str:
    """As `did_you_mean`, of files: by their names without folder and ending, which many have in common."""
    by_stem: dict[str, str] = {}
    for candidate in candidates:
        by_stem.setdefault(Path(candidate).stem.lower(), candidate)
    return _question(Path(name).stem, 0.7, by_stem)


def _question(word: str, cutoff: float, by_lower: Mapping[str, str]) -> str:
    found = get_close_matches(word.lower(), by_lower, n=1, cutoff=cutoff)
    return f"Did you mean `{by_lower[found[0]]}`?" if found else ""


def one_of(candidates: Iterable[object]) -> str:
    """The candidates as a phrase: "one of `a`, `b`", or "`a`" where there is only one."""
    names = [f"`{str(name).lower() if isinstance(name, bool) else name}`" for name in candidates]
    return names[0] if len(names) == 1 else "one of " + ", ".join(names)
