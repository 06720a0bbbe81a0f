"""Reads YAML files and keeps the line and column of every value."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lambda_hat.config.suggest import file_meant
from lambda_hat.errors import Fault

__all__ = ["Document", "Finding", "KeyPath", "YamlLoader", "dotted", "parse_argument", "parse_value", "read_document"]

KeyPath = tuple[str | int, ...]
_TAG = "tag:yaml.org,2002:"
_NULL = r"~|null|Null|NULL|"


def dotted(path: KeyPath) -> str:
    """The path as people write it, for instance `executors.0.label`."""
    return ".".join(map(str, path))


@dataclass(frozen=True)
class Finding:
    """A fault with its place in the data, before it is known which file and line that is."""

    path: KeyPath
    message: str
    hint: str = ""
    is_about_key: bool = False  # the key itself is wrong, not its value

    def under(self, prefix: KeyPath) -> Finding:
        """The finding at its place in larger data, where this data lies at `prefix`."""
        return Finding(prefix + self.path, self.message, self.hint, self.is_about_key)


class YamlLoader(yaml.SafeLoader):
    """Safe YAML with the types of YAML 1.2: 1e-6 is a number, 12:00:00 and `no` are text. 5_000 is a number too."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    yaml_constructors = {
        tag: function
        for tag, function in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.removeprefix(_TAG) in {"null", "bool", "float", "str", "seq", "map"}
    }

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """A whole number in decimal, 0x or 0o; a leading zero does not make it octal."""
        text = node.value.replace("_", "")
        return int(text, 0 if re.match(r"[-+]?0[xo]", text) else 10)

    def construct_yaml_str(self, node: yaml.ScalarNode) -> str:
        """Text, in which two escapes of JSON's may together be one sign: `"\\ud83d\\ude00"`."""
        text = super().construct_yaml_str(node)
        return text.encode("utf-16", "surrogatepass").decode("utf-16")


YamlLoader.add_constructor(_TAG + "int", YamlLoader.construct_yaml_int)
YamlLoader.add_constructor(_TAG + "str", YamlLoader.construct_yaml_str)
for _tag, _pattern, _first in (
    ("null", _NULL, ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9][0-9_]*|[-+]?0x[0-9a-fA-F_]+|[-+]?0o[0-7_]+", list("-+0123456789")),
    ("float", r"[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", list("-+.")),
    ("merge", r"<<", ["<"]),
):
    YamlLoader.add_implicit_resolver(_TAG + _tag, re.compile(rf"^(?:{_pattern})$"), _first)


@dataclass(frozen=True)
class Document:
    """One YAML file: its data, the place of each value, and what is wrong with it as YAML."""

    source: str
    data: dict[str, Any] | None  # None where the file cannot be used at all; `faults` says why
    root: yaml.Node | None = None
    faults: tuple[Fault, ...] = ()
    arguments: Mapping[KeyPath, str] = field(default_factory=dict)  # what `--set` wrote over the file, by place

    def locate(self, finding: Finding) -> Fault:
        """The fault with its line and column, or with the `--set` argument that caused it."""
        if argument := self._argument(finding.path):
            return _fault(f'--set "{argument}"', finding, None)
        return _fault(self.source, finding, self._mark(finding))

    def origin(self, path: KeyPath) -> str | None:
        """Where the value at `path` was written: `study.yaml:12`, or the `--set` argument; None if nowhere."""
        if argument := self._argument(path):
            return f'--set "{argument}"'
        node, line = self.root, 0
        for part in path:
            child = _child(node, part)
            if child is None:
                return None
            key_node, node = child
            line = (key_node or node).start_mark.line + 1
        return f"{self.source}:{line}" if path else None

    def _argument(self, path: KeyPath) -> str | None:
        """The last argument that wrote this place, something around it, or something in it that the file lacks."""
        is_in_file, node = True, self.root
        for part in path:
            child = _child(node, part)
            is_in_file, node = is_in_file and child is not None, child[1] if child else None
        for place, argument in reversed(list(self.arguments.items())):
            if path[: len(place)] == place or (not is_in_file and path and place[: len(path)] == path):
                return argument
        return None

    def _mark(self, finding: Finding) -> yaml.Mark | None:
        node, mark = self.root, None
        for depth, part in enumerate(finding.path, start=1):
            child = _child(node, part)
            if child is None:
                break
            key_node, node = child
            is_key_wanted = depth < len(finding.path) or finding.is_about_key
            mark = (key_node if key_node is not None and is_key_wanted else node).start_mark
        return mark


def _child(node: yaml.Node | None, part: str | int) -> tuple[yaml.Node | None, yaml.Node] | None:
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return None, node.value[part]
    if isinstance(node, yaml.MappingNode):
        pairs = [(key, value) for key, value in node.value if key.value == part]
        return pairs[-1] if pairs else None  # the last of duplicates is the one in the data
    return None


def parse_value(text: str) -> Any:
    """The data of a piece of YAML such as the right side of `--set key=value`.

    Raises:
        yaml.YAMLError: the text is not YAML, or holds more than plain data.
    """
    root, findings = _compose(text)
    if findings:
        raise yaml.YAMLError(findings[0][1].message)
    return _construct(root)


def parse_argument(text: str, *, is_text: bool, may_be_null: bool) -> Any:
    """The value that `--set key=text` means: YAML, or with `is_text` the text as it stands.

    Quotes around the whole text are YAML's even then, and so are the words for null where there may be one.

    Raises:
        yaml.YAMLError: it has to be YAML and is not, or has a comment, which would be lost.
    """
    text = text.strip()
    if not is_text:
        value, root = parse_value(text), _compose(text)[0]
        if text.startswith("#") or (root is not None and text[root.end_mark.index :].lstrip().startswith("#")):
            raise yaml.MarkedYAMLError(problem="`#` begins a comment")
        return value
    if not text or (may_be_null and re.fullmatch(_NULL, text)):
        return None
    if text[0] in "\"'":
        try:
            value = parse_value(text)
        except yaml.YAMLError:
            return text
        return value if isinstance(value, str) else text
    return text


def read_document(path: Path, source: str, others: Iterable[str] = ()) -> Document:
    """The file at `path`, called `source` in messages. Its `faults` say what is wrong with it as YAML.

    Where there is none, another one in its folder, or one of the `others`, may have been meant.
    """
    try:
        text = path.read_text(encoding="utf-8")
        root, findings = _compose(text)
        data = _construct(root)
    except FileNotFoundError:
        siblings = [other.name for other in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        return _unusable(source, "there is no such file", file_meant(path.name, [*siblings, *others]))
    except UnicodeDecodeError:
        return _unusable(source, "cannot be read: not a text file in UTF-8")
    except OSError as error:
        return _unusable(source, f"cannot be read: {error.strerror}")
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        return _unusable(source, f"not valid YAML: {problem}", mark=getattr(error, "problem_mark", None))
    if not isinstance(data, dict):
        found = "an empty file" if data is None else "a list" if isinstance(data, list) else f"only `{data}`"
        return _unusable(source, f"found {found}, expected a mapping (`key: value` lines)")
    faults = tuple(_fault(source, finding, mark) for mark, finding in findings)
    return Document(source, data, root, faults)


def _unusable(source: str, message: str, hint: str = "", mark: yaml.Mark | None = None) -> Document:
    return Document(source, None, faults=(_fault(source, Finding((), message, hint), mark),))


def _fault(source: str, finding: Finding, mark: yaml.Mark | None) -> Fault:
    line, column = (mark.line + 1, mark.column + 1) if mark else (None, None)
    return Fault(
        key=dotted(finding.path), message=finding.message, hint=finding.hint, source=source, line=line, column=column
    )


def _compose(text: str) -> tuple[yaml.Node | None, list[tuple[yaml.Mark, Finding]]]:
    """The node tree without keys that are no text, and the faults of its keys."""
    try:
        loader = YamlLoader(text)
        root = loader.get_single_node()
        loader.dispose()
        return root, list(_key_findings(root, (), [], set())) if root else []
    except RecursionError:
        raise yaml.YAMLError("nested too deeply") from None


def _construct(root: yaml.Node | None) -> Any:
    if root is None:
        return None
    try:
        return _without_sharing(YamlLoader("").construct_document(root))
    except (ValueError, KeyError, TypeError) as error:  # an explicit tag such as `!!int abc`
        raise yaml.MarkedYAMLError(problem="a value does not fit its tag", problem_mark=root.start_mark) from error


def _without_sharing(data: Any) -> Any:
    """A copy in which every alias has its own data, so that a write to one place changes one place."""
    if isinstance(data, dict):
        return {key: _without_sharing(value) for key, value in data.items()}
    return [_without_sharing(value) for value in data] if isinstance(data, list) else data


def _key_findings(
    node: yaml.Node, path: KeyPath, above: list[yaml.Node], done: set[yaml.Node]
) -> Iterator[tuple[yaml.Mark, Finding]]:
    if node in above:
        raise yaml.MarkedYAMLError(problem="an alias refers to what contains it", problem_mark=node.start_mark)
    if node in done:
        return
    done.add(node)
    above = [*above, node]
    if isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            yield from _key_findings(child, (*path, index), above, done)
    elif isinstance(node, yaml.MappingNode):
        first: dict[str, yaml.Mark] = {}
        for key, value in list(node.value):
            if key.tag == _TAG + "str":
                if key.value in first:
                    hint = f"It stands in line {first[key.value].line + 1} already: remove one of the two."
                    yield key.start_mark, Finding((*path, key.value), "given twice", hint)
                first.setdefault(key.value, key.start_mark)
            elif key.tag != _TAG + "merge":
                found = f"`{key.value}`" if isinstance(key, yaml.ScalarNode) else "a list or mapping"
                yield key.start_mark, Finding(path, f"found {found} as a key, expected text", "Put quotes around it.")
                node.value.remove((key, value))  # so that the rest can still be checked
                continue
            yield from _key_findings(value, (*path, key.value), above, done)
