"""The comments beside the fields of the schema: what editors and the documentation say of a key."""

from __future__ import annotations

import ast
import inspect
import io
import textwrap
import tokenize
from typing import Any, get_args

from pydantic import BaseModel

__all__ = ["field_comments", "models_in"]


def field_comments(model: type[BaseModel]) -> dict[str, str]:
    """By YAML's name, the comment behind each field, or the lines of comment above it."""
    comments: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if issubclass(cls, BaseModel) and cls is not BaseModel:
            comments |= _comments_of_class(cls)
    return {field.alias or name: comments[name] for name, field in model.model_fields.items() if comments.get(name)}


def _comments_of_class(cls: type[BaseModel]) -> dict[str, str]:
    source = textwrap.dedent(inspect.getsource(cls))
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    by_line = {token.start[0]: token.string.lstrip("# ").strip() for token in tokens if token.type == tokenize.COMMENT}
    lines = source.splitlines()
    comments: dict[str, str] = {}
    (definition,) = ast.parse(source).body
    for node in definition.body if isinstance(definition, ast.ClassDef) else ():
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            words = [
                by_line[line] for line in range(node.lineno, (node.end_lineno or node.lineno) + 1) if line in by_line
            ]
            above = node.lineno - 1
            while above >= 1 and lines[above - 1].strip().startswith("#"):
                words.insert(0, by_line[above])
                above -= 1
            comments[node.target.id] = " ".join(word for word in words if not word.startswith(("noqa", "pyright")))
    return comments


def models_in(annotation: Any) -> dict[str, type[BaseModel]]:
    """By name, every model that a field of this type can hold, at any depth."""
    found: dict[str, type[BaseModel]] = {}
    waiting = [annotation]
    while waiting:
        part = waiting.pop()
        if isinstance(part, type) and issubclass(part, BaseModel):
            if part.__name__ not in found:
                found[part.__name__] = part
                waiting += [field.annotation for field in part.model_fields.values() if not field.exclude]
        else:
            waiting += get_args(part)
    return found
