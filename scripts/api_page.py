"""The page of the Python interface, from the source of what `lambda_hat` exports: no module is imported for it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import lambda_hat

__all__ = ["api_page"]

REPOSITORY = Path(__file__).resolve().parents[1]
_SECTION = re.compile(r"^(Args|Raises|Returns):$", re.MULTILINE)
_HEADINGS = {"Args": "Arguments", "Raises": "Raises", "Returns": "Returns"}
_WIDTH = 100  # beyond which a signature has a line for each argument


def api_page() -> str:
    """All functions first, then all classes."""
    nodes = {name: _find(name) for name in lambda_hat.__all__}
    functions = [name for name, (node, _) in nodes.items() if not isinstance(node, ast.ClassDef)]
    parts = [
        "# Python reference\n",
        "What `import lambda_hat` offers. [Your own model, in Python](python.md) explains it with examples.\n",
        "![What `plot()` of an `LLCSeries` draws: λ̂ along training](figures/along_training.png)\n",
    ]
    for name in [*functions, *(other for other in nodes if other not in functions)]:
        node, lines = nodes[name]
        parts.append(f"## `{name}`\n")
        parts += _class(node, lines) if isinstance(node, ast.ClassDef) else _function(node, f"lambda_hat.{name}")
    return "\n".join(parts).rstrip() + "\n"


Definition = ast.FunctionDef | ast.ClassDef


def _find(name: str) -> tuple[Definition, list[str]]:
    path = REPOSITORY / f"{lambda_hat._HOMES[name].replace('.', '/')}.py"
    text = path.read_text(encoding="utf-8")
    found = (node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef | ast.ClassDef))
    return next(node for node in found if node.name == name), text.splitlines()


def _function(node: ast.FunctionDef, name: str) -> Iterator[str]:
    yield f"```text\n{_signature(node, name)}\n```\n"
    yield from _docstring(node)


def _signature(node: ast.FunctionDef, name: str, *, is_method: bool = False) -> str:
    args = ast.unparse(node.args)
    inside = args.removeprefix("self").removeprefix("cls").lstrip(", ") if is_method else args
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    text = f"{name}({inside}){returns}"
    if len(text) <= _WIDTH:
        return text
    return f"{name}(\n{''.join(f'    {part},{chr(10)}' for part in _arguments(node, is_method))}){returns}"


def _arguments(node: ast.FunctionDef, is_method: bool) -> Iterator[str]:
    args = node.args
    plain = [*args.posonlyargs, *args.args][1 if is_method else 0 :]
    defaults: list[ast.expr | None] = [*([None] * (len(plain) - len(args.defaults))), *args.defaults]
    for arg, default in zip(plain, defaults, strict=True):
        yield _argument(arg, default)
    if args.kwonlyargs:
        yield f"*{ast.unparse(args.vararg)}" if args.vararg else "*"
    for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        yield _argument(arg, default)
    if args.kwarg:
        yield f"**{ast.unparse(args.kwarg)}"


def _argument(arg: ast.arg, default: ast.expr | None) -> str:
    return ast.unparse(arg) + (f" = {ast.unparse(default)}" if default is not None else "")


def _docstring(node: Definition) -> Iterator[str]:
    """Its paragraphs, and its lists of arguments and errors as lists."""
    first, *rest = _SECTION.split(ast.get_docstring(node) or "")
    yield f"{first.strip()}\n"
    for title, body in zip(rest[::2], rest[1::2], strict=True):
        yield f"**{_HEADINGS[title]}**\n"
        for item in re.split(r"\n(?=    \S)", f"\n{body.strip(chr(10))}".rstrip()):
            name, colon, text = " ".join(item.split()).partition(": ")
            if colon:
                yield f"- `{name}`: {text}"
        yield ""


def _class(node: ast.ClassDef, lines: list[str]) -> Iterator[str]:
    yield from _docstring(node)
    rows = list(_fields(node, lines))
    if rows:
        yield "| field | type | what it is |\n| --- | --- | --- |"
        yield from rows
        yield ""
    for child in node.body:
        if isinstance(child, ast.FunctionDef) and not child.name.startswith("_"):
            decorators = {ast.unparse(decorator) for decorator in child.decorator_list}
            title = child.name if "property" in decorators else _signature(child, child.name, is_method=True)
            yield f"### `{' '.join(title.split())}`\n"
            yield from _docstring(child)


def _fields(node: ast.ClassDef, lines: list[str]) -> Iterator[str]:
    """A row for every public field: its comment, or the docstring below it, says what it is."""
    for child, following in zip(node.body, [*node.body[1:], None], strict=True):
        if not isinstance(child, ast.AnnAssign) or not isinstance(child.target, ast.Name) or child.target.id[0] == "_":
            continue
        _, _, comment = lines[child.lineno - 1].partition("  # ")
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            comment = " ".join(str(following.value.value).split())
        cells = (f"`{child.target.id}`", f"`{ast.unparse(child.annotation)}`", comment)
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
