"""The shipped files mean the same to every reader of YAML."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from lambda_hat.config.locate import YamlLoader, parse_value

REPOSITORY = Path(__file__).parents[2]
FILES = [*REPOSITORY.glob("config/**/*.yaml"), *REPOSITORY.glob("lambda_hat/config/presets/**/*.yaml")]
TEXTS = {str(path.relative_to(REPOSITORY)): path.read_text(encoding="utf-8") for path in sorted(FILES)}
BLOCK = re.compile(r"^```yaml.*?\n(.*?)^```", re.DOTALL | re.MULTILINE)
TEXTS |= {
    f"docs/{page.name}:{number}": text
    for page in sorted((REPOSITORY / "docs").glob("*.md"))
    for number, text in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")))
}


@pytest.mark.parametrize("name", TEXTS)
def test_both_versions_of_yaml_read_the_same(name: str) -> None:
    """PyYAML reads by the rules of YAML 1.1, and ours takes besides those of 1.2 only underscores in numbers."""
    text = TEXTS[name]
    assert yaml.safe_load(text) == parse_value(text)
    numbers = [
        token.value for token in yaml.scan(text, YamlLoader) if isinstance(token, yaml.ScalarToken) and token.plain
    ]
    assert [value for value in numbers if re.fullmatch(r"[-+]?[0-9][0-9.]*_[0-9_.]*", value)] == []
