"""What the page on the architecture names is there: a newcomer who follows it never looks for what was renamed."""

import ast
import re
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from drift_core import api
from drift_core.cli import main
from drift_core.config import Config
from tests.tools import ROOT

PAGE = ROOT / "docs/explanation/architecture.md"
CORE = ROOT / "drift_core"
FOLDERS = (ROOT, CORE, *ROOT.glob("plugins/*/src"))

SPAN = re.compile(r"`([^`]+)`")
IN_FILE = re.compile(r"((?:`[\w.]+`(?:,\s+|\s+and\s+))*`[\w.]+`)\s+in\s+`([\w./]+)`")
"""One or several names, and the file that has them."""


def files(name: str) -> list[Path]:
    """Returns every file or folder that a name of the page may mean."""
    return [folder / name for folder in FOLDERS if (folder / name).exists()]


@cache
def definitions(file: Path) -> frozenset[str]:
    """Returns what a module defines, and ``Class.member`` of its classes; what it merely imports is not its own."""
    return frozenset(_defined(ast.parse(file.read_text()).body))


def _defined(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        if isinstance(node, ast.ClassDef):
            yield from (f"{node.name}.{member}" for member in _defined(node.body))
        if isinstance(node, ast.AnnAssign):
            yield ast.unparse(node.target)
        if isinstance(node, ast.Assign):
            yield from (ast.unparse(target) for target in node.targets)


def in_api(name: str) -> bool:
    """Says whether a plugin can import a name, or the class whose member it is."""
    owner, _, member = name.partition(".")
    return owner in api.__all__ and (not member or hasattr(getattr(api, owner), member))


def is_module(name: str) -> bool:
    """Says whether a name is that of a module or a package of the core."""
    return (CORE / name).is_dir() or (CORE / f"{name}.py").is_file()


def is_setting(table: str, key: str) -> bool:
    """Says whether a table of the core's own configuration has a key."""
    return key in getattr(Config.__annotations__.get(table), "__struct_fields__", ())


FORMS: tuple[tuple[str, Callable[[re.Match[str]], bool]], ...] = (
    (r"(GET|POST|PUT|PATCH)( \S+)?", lambda _: True),
    (r"drift (\w+)", lambda found: found[1] in main.commands),
    (r"make (\w+)", lambda found: f"\n{found[1]}:" in (ROOT / "Makefile").read_text()),
    (r"\[(\w+)\] (\w+)", lambda found: is_setting(found[1], found[2])),
    (r"\S*/\S*|\S+\.py", lambda found: len(files(found[0])) == 1),
    (r"[\w.]+", lambda found: found[0] in api.ACTIONS or in_api(found[0]) or is_module(found[0])),
    (r".*", lambda found: any(found[0] in file.read_text() for file in CORE.rglob("*.py"))),
)
"""What may stand in backticks with no file beside it, and whether it is there; the first form that fits counts."""


def is_there(span: str) -> bool:
    """Says whether something in backticks, with no file named beside it, exists."""
    return next(check(found) for form, check in FORMS if (found := re.fullmatch(form, span, re.DOTALL)))


def missing(text: str) -> list[str]:
    """Returns whatever a page names that is not there."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    found = []
    for names, file in IN_FILE.findall(text):
        paths = files(file)
        known = definitions(paths[0]) if len(paths) == 1 and paths[0].is_file() else frozenset()
        found += [f"{name} in {file}" for name in SPAN.findall(names) if name not in known]
    return found + [span for span in SPAN.findall(IN_FILE.sub("", text)) if not is_there(span)]


def test_all_that_the_page_names_is_there() -> None:
    assert missing(PAGE.read_text()) == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("`Changes.admit` in `registry/changes.py`", "`Changes.ask` in `registry/changes.py`"),
        ("`Changes.admit` in `registry/changes.py`", "`Changes.admit` in `registry/change.py`"),
        ("`link_blob` in `metadata/queries.py`", "`link_blob` in `metadata/outbox.py`"),
        ("`discover`, `Found` in", "`discovers`, `Found` in"),
        ("`Manifests.get` in `registry/manifests.py`, ", "`Manifests.get`, "),
        ("`Subscriber.on_event`", "`Subscriber.on_change`"),
        ("(`Gate`)", "(`Gates`)"),
        ("`blob.pull`", "`blob.get`"),
        ("`http/`", "`https/`"),
        ("`drift_core/api.py`", "`drift_core/apis.py`"),
        ("`[plugins] gate_seconds`", "`[plugins] gate_minutes`"),
        ("`drift serve`", "`drift run`"),
        ("`make lint`", "`make lints`"),
        ("`ChangeMark` in `metadata/mark.py`", "`ChangeMarks` in `metadata/mark.py`"),
        ("`background` >", "`foreground` >"),
    ],
)
def test_a_wrong_name_is_found(right: str, wrong: str) -> None:
    text = PAGE.read_text()
    assert right in text
    assert set(missing(text.replace(right, wrong))) > set(missing(text))


def test_the_layers_are_those_that_lint_checks() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    checked = [layer.replace("drift_core.", "").split(" | ") for layer in layers]
    (told,) = re.findall(r"^((?:`\w+`(?: >|,)\s)+`errors`)", PAGE.read_text(), re.MULTILINE)
    assert [SPAN.findall(layer) for layer in told.split(">")] == checked
