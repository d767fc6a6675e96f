"""Shows an OpenAPI document to people: one page that needs no script, no font and no other request."""

from base64 import b64encode
from collections.abc import Iterable, Mapping
from hashlib import sha256
from html import escape
from typing import Any, Final

METHODS: Final = ("get", "post", "put", "patch", "delete")
"""Those that are shown: HEAD is GET without a body."""

STYLE: Final = """
:root { color-scheme: light dark; font-family: system-ui, sans-serif; line-height: 1.5 }
body { margin: 0 auto; max-width: 60rem; padding: 1rem }
code { font-family: ui-monospace, monospace; overflow-wrap: anywhere }
h2 { border-bottom: 1px solid; margin-top: 3rem }
section { margin: 2rem 0 }
table { border-collapse: collapse; width: 100% }
th, td { border-bottom: 1px solid #8886; padding: 0.25rem 1rem 0.25rem 0; text-align: left; vertical-align: top }
.method { display: inline-block; min-width: 4.5rem; text-transform: uppercase }
.needs { font-size: 0.9rem }
"""

CSP: Final = (
    "default-src 'none'; frame-ancestors 'none'; form-action 'none'; base-uri 'none'; "
    f"style-src 'sha256-{b64encode(sha256(STYLE.encode()).digest()).decode()}'"
)
"""What a browser may do with the page: use the one style that is in it."""

PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{body}
</main>
</body>
</html>
"""

Document = Mapping[str, Any]


def page(document: Document) -> str:
    """Returns the page of a document of `drift_core.http.schema`; what stands in it is text, never markup."""
    operations = [
        (path, method, item[method]) for path, item in document["paths"].items() for method in METHODS if method in item
    ]
    tags = list(dict.fromkeys(operation["tags"][0] for _, _, operation in operations))
    links = " · ".join(f'<a href="#tag-{escape(tag)}">{escape(tag)}</a>' for tag in tags)
    about = _text(document["info"]["description"])
    parts = [about, f'<p>For programs: <a href="/schema/openapi.json">OpenAPI {escape(document["openapi"])}</a></p>']
    parts.append(f'<nav aria-label="Parts">{links} · <a href="#schemas">schemas</a></nav>')
    for tag in tags:
        parts.append(f'<h2 id="tag-{escape(tag)}">{escape(tag)}</h2>')
        parts += [_operation(*one, document["components"]) for one in operations if one[2]["tags"][0] == tag]
    parts.append('<h2 id="schemas">Schemas</h2>')
    parts += [_schema(name, schema) for name, schema in sorted(document["components"]["schemas"].items())]
    title = f"{document['info']['title']} {document['info']['version']}"
    return PAGE.format(title=escape(title), style=STYLE, body="\n".join(parts))


def _operation(path: str, method: str, operation: Document, components: Document) -> str:
    name = f'<code><span class="method">{method}</span>{escape(path)}</code>'
    parts = [f'<section id="{escape(operation["operationId"])}"><h3>{name}</h3>', _text(operation["summary"])]
    parts.append(_text(operation.get("description", "")))
    parts.append(f'<p class="needs">Needs: <code>{escape(operation["x-drift-needs"])}</code></p>')
    parameters = [
        (f"<code>{escape(one['name'])}</code>", one["in"], _kind(one.get("schema", {})), _required(one.get("required")))
        for one in operation.get("parameters", ())
    ]
    parts.append(_table(("Parameter", "In", "Type", ""), parameters))
    bodies = [("Body", media, one) for media, one in operation.get("requestBody", {}).get("content", {}).items()]
    for status, answer in operation["responses"].items():
        word = "Other answers" if status == "default" else status
        shared = answer.get("$ref", "").rpartition("/")[2]
        contents = (components["responses"][shared] if shared else answer).get("content") or {"": {}}
        bodies += [(word, media, one) for media, one in contents.items()]
    rows = [(word, escape(media), _kind(one["schema"]) if "schema" in one else "") for word, media, one in bodies]
    parts.append(_table(("", "Media type", "Content"), rows))
    return "\n".join(part for part in parts if part) + "\n</section>"


def _schema(name: str, schema: Document) -> str:
    required = schema.get("required", ())
    rows = [
        (f"<code>{escape(field)}</code>", _kind(one), _required(field in required), _default(one))
        for field, one in schema.get("properties", {}).items()
    ]
    about = _text(schema.get("description", ""))
    shown = _table(("Field", "Type", "", "Default"), rows) if rows else f"<p>{_kind(schema)}</p>"
    return f'<section id="schema-{escape(name)}"><h3><code>{escape(name)}</code></h3>\n{about}{shown}</section>'


def _kind(schema: Document) -> str:
    """Returns what a schema says a value is, in words."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#schema-{name}">{name}</a>'
    for word in ("anyOf", "oneOf", "allOf"):
        if word in schema:
            return " or ".join(dict.fromkeys(map(_kind, schema[word])))
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    if values:
        return ", ".join(f"<code>{escape(str(value))}</code>" for value in values)
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {_kind(schema.get('items') or {})}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"object of {_kind(schema['additionalProperties'])}"
    kind = " or ".join(kind) if isinstance(kind, list) else str(kind)
    limits = (("minimum", "from"), ("maximum", "to"), ("maxLength", "at most"), ("pattern", "like"), ("format", "as"))
    return escape(" ".join([kind, *(f"{word} {schema[key]}" for key, word in limits if key in schema)]))


def _default(schema: Document) -> str:
    return f"<code>{escape(str(schema['default']))}</code>" if "default" in schema else ""


def _required(required: object) -> str:
    return "required" if required else ""


def _text(text: str) -> str:
    """Returns paragraphs, with what stands between backticks as code."""
    paragraphs = (" ".join(one.split()) for one in text.split("\n\n") if one.strip())
    return "".join(f"<p>{_marked(escape(one))}</p>" for one in paragraphs)


def _marked(text: str) -> str:
    parts = text.replace("``", "`").split("`")
    return "".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts))


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    rows = [tuple(row) for row in rows]
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{escape(name)}</th>' if name else "<td></td>" for name in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
