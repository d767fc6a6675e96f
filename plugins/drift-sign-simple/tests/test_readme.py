"""What the README shows can be configured."""

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
from drift_sign_simple.config import SigningConfig

README = Path(__file__).parents[1] / "README.md"


def secret(kind: type, value: Any) -> Any:
    return kind(value)


def test_the_examples() -> None:
    """Together they are one file; the core reads two of its keys itself."""
    examples = re.findall(r"^```toml\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    table = tomllib.loads("\n".join(examples))["signing"]
    del table["enabled"], table["signature_formats"]
    config = msgspec.convert(table, SigningConfig, dec_hook=secret)
    assert config.simple.verification_keys
