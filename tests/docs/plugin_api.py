"""Writes the reference of the plugin API from the source, so that what a plugin's author reads is what holds."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

from msgspec import Struct

from drift_core import (
    address,
    api,
    asking,
    certificates,
    command,
    config,
    errors,
    file_state,
    hookspecs,
    layer,
    lent,
    listener,
    model,
    pace,
    protocols,
    signing_tables,
    snapshot,
)
from drift_core.metadata import inventory, locks, statement
from drift_core.plugins import FAMILIES, Family
from drift_core.protocols import (
    access,
    audit,
    changes,
    collection,
    console,
    drivers,
    features,
    observing,
    optimization,
    records,
    registry,
    signing,
    storage,
    transport,
)

PROTOCOLS = (
    drivers,
    storage,
    access,
    signing,
    transport,
    optimization,
    collection,
    features,
    changes,
    console,
    observing,
    records,
    audit,
    registry,
)
MODULES = (
    hookspecs,
    *PROTOCOLS,
    model,
    config,
    command,
    asking,
    snapshot,
    signing_tables,
    statement,
    locks,
    inventory,
    layer,
    lent,
    listener,
    certificates,
    pace,
    file_state,
    address,
    api,
)
"""Where the names of the API are defined, in the order of the page; errors have a table of their own."""

HEAD = """# The API of plugins

Written from the source by `python -m tests.docs.test_plugin_api`: do not edit. A plugin imports what is here from
`drift_core.api`, and nothing else of the core. How to write one: [a page for each family](../how-to/plugins/README.md).
"""
FIELDS = """
| Field | Type | Default |
|---|---|---|
"""
ERRORS = """
A plugin can raise those that it can import; the others are the core's own.

| Error | Is a | Code | Status | Message, unless another is given | Importable |
|---|---|---|---|---|---|
"""


class Definition(Struct, frozen=True):
    """A statement that defines a name, the docstring that belongs to it, and the source that it is part of."""

    node: ast.stmt
    doc: str
    source: str

    def text(self, node: ast.AST) -> str:
        """Returns a part of it as it was written, without comments."""
        return re.sub(r"\s+# .*", "", ast.get_source_segment(self.source, node, padded=True) or "")

    @property
    def bases(self) -> list[str]:
        """Those of a class, else none."""
        return [ast.unparse(base) for base in getattr(self.node, "bases", ())]


def definitions(module: ModuleType) -> dict[str, Definition]:
    """Returns what a module defines."""
    source = inspect.getsource(module)
    return dict(_definitions(ast.parse(source).body, source))


def _definitions(body: list[ast.stmt], source: str) -> Iterator[tuple[str, Definition]]:
    for node, following in zip(body, [*body[1:], ast.Pass()], strict=True):
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.name, Definition(node, ast.get_docstring(node) or "", source)
            case ast.Assign(targets=[target]) | ast.AnnAssign(target=target):
                match following:
                    case ast.Expr(value=ast.Constant(value=str() as text)):  # a value's docstring stands behind it
                        yield ast.unparse(target), Definition(node, inspect.cleandoc(text), source)
                    case _:
                        yield ast.unparse(target), Definition(node, "", source)


def markdown(doc: str) -> str:
    """Returns a docstring as Markdown: one kind of backtick, "Raises:" as a list, without a hook's example."""
    text = doc.partition("\nExample::")[0].strip().replace("``", "`").replace("Raises:\n", "Raises:\n\n")
    text = re.sub(r"^    (\w+): ", r"- `\1`: ", text, flags=re.MULTILINE)
    return re.sub(r"^ {8}", "  ", text, flags=re.MULTILINE)


def cell(text: str) -> str:
    """Returns a text as it stands in a table."""
    return " ".join(text.split()).replace("|", "\\|")


def link(name: str) -> str:
    """Returns a link to the section of a name."""
    return f"[`{name}`](#{name.lower()})"


def signature(definition: Definition) -> str:
    """Returns how something is called, or what it is, as it was written."""
    match definition.node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() as node:
            decorators = [f"@{ast.unparse(one)}\n" for one in node.decorator_list if ast.unparse(one) != "hookspec"]
            lines = definition.source.splitlines()[node.lineno - 1 : node.body[0].lineno - 1]
            header = re.sub(r"\s+# .*", "", textwrap.dedent("\n".join(lines)))
            return f"{''.join(decorators)}{header} ..."
        case ast.AnnAssign() as node:
            return f"{ast.unparse(node.target)}: {definition.text(node.annotation).strip()}"
        case node:
            return textwrap.dedent(definition.text(node))


def block(lines: Iterable[str]) -> str:
    """Returns Python in a block of its own, or nothing."""
    text = "\n".join(lines)
    return f"\n```python\n{text}\n```\n" if text else ""


def paragraph(doc: str) -> str:
    """Returns a docstring behind an empty line, or nothing."""
    return f"\n{markdown(doc)}\n" if doc else ""


def members(definition: Definition, node: ast.ClassDef) -> str:
    """Returns the attributes of a class, how it is made where that is its own, and its public methods."""
    found = dict(_definitions(node.body, definition.source))
    text = block(signature(one) for one in found.values() if isinstance(one.node, ast.AnnAssign))
    for name, one in found.items():
        # A method that overrides another says nothing new.
        if name == "__init__" or (isinstance(one.node, ast.FunctionDef | ast.AsyncFunctionDef) and one.doc):
            text += block([signature(one)]) + paragraph(one.doc)
    return text


def fields(definition: Definition, node: ast.ClassDef) -> str:
    """Returns the table of a Struct."""
    text = "\nBy keyword only.\n" if "kw_only" in {keyword.arg for keyword in node.keywords} else ""
    text += FIELDS
    for name, one in _definitions(node.body, definition.source):
        if isinstance(one.node, ast.AnnAssign):
            default = "required" if one.node.value is None else f"`{cell(one.text(one.node.value))}`"
            text += f"| `{name}` | `{cell(one.text(one.node.annotation))}` | {default} |\n"
    return text


def section(name: str, definition: Definition) -> str:
    """Returns all that is said of one name."""
    head, said = f"\n### `{name}`\n", paragraph(definition.doc)
    if not isinstance(definition.node, ast.ClassDef):
        return head + block([signature(definition)]) + said
    describe = fields if "Struct" in definition.bases else members
    return head + said + describe(definition, definition.node)


def hook(family: Family | None, name: str, definition: Definition) -> str:
    """Returns what is said of a hook: what it offers, how its drivers are chosen, and what their failure means."""
    text, _, failure = markdown(definition.doc).partition("Failure: ")
    head = f"\n### `{name}`\n{block([signature(definition)])}"
    if family is not None:
        table, protocol = family.path("NAME"), link(family.protocol.__name__)
        head += f"\nFamily `{family.name}`, table `[{table}]`; what is opened does what {protocol} says.\n"
    return f"{head}\n{text.strip()}\n\n**Failure:** {failure}\n"


def powers(known: dict[str, Definition]) -> dict[str, list[str]]:
    """Returns each family's Protocol, and those of its powers, whose docstrings begin with what has them."""
    found: dict[str, list[str]] = {family.protocol.__name__: [] for family in FAMILIES}
    nouns = {name.lower(): name for name in found} | {"store": "BlobStore"}
    for name, definition in known.items():
        noun = re.match(r"An? (\w+) ", definition.doc)
        if name not in found and "Protocol" in definition.bases and noun and noun[1] in nouns:
            found[nouns[noun[1]]].append(name)
    return found


def error(name: str, kind: type[Any]) -> str:
    """Returns an error's row."""
    told = f"`{kind.code}` | {kind.status} | {cell(kind.text)}" if hasattr(kind, "code") else "| |"
    return f"| `{name}` | `{kind.__bases__[0].__name__}` | {told} |{' yes' if name in api.__all__ else ''} |\n"


def page() -> str:
    """Returns the whole page."""
    known = {name: one for module in MODULES for name, one in definitions(module).items() if name in api.__all__}
    tree = definitions(errors)
    foreign = [name for name in api.__all__ if name not in known and name not in tree]
    families = {family.hook: family for family in FAMILIES}
    introduction, _, example = markdown(inspect.getdoc(hookspecs) or "").partition(":\n\n    ")
    text = f"{HEAD}\n## Hooks\n\n{introduction}\n\n```toml\n{textwrap.dedent(f'    {example}')}\n```\n"
    for name, one in definitions(hookspecs).items():
        text += hook(families.get(name), name, one) if name.startswith("drift_") else ""
    text += f"\n## What an opened driver does\n{paragraph(inspect.getdoc(protocols) or '')}"
    for protocol, beside in powers(known).items():
        text += section(protocol, known.pop(protocol))
        text += f"\nOptional powers beside it: {', '.join(map(link, beside))}.\n" if beside else ""
        text += "".join(section(power, known.pop(power)) for power in beside)
    text += "\n## What the core lends, and what is passed\n"
    text += "".join(section(name, one) for name, one in known.items())
    modules = [name for name in foreign if isinstance(getattr(api, name), ModuleType)]
    for name in foreign:
        if name not in modules:
            text += f"\n### `{name}`\n\nThat of `{getattr(api, name).__module__}`.\n"
    for name in modules:
        module = getattr(api, name)
        text += f"\n## Of `{name}`\n{paragraph(inspect.getdoc(module) or '')}"
        text += "".join(section(inner, one) for inner, one in definitions(module).items())
    text += f"\n## Errors\n{ERRORS}{''.join(error(name, getattr(errors, name)) for name in tree)}"
    for name, one in tree.items():
        if name in api.__all__ and isinstance(one.node, ast.ClassDef) and (one.doc or members(one, one.node)):
            text += section(name, one)
    return text
