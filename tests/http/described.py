"""Compares what a server answers with what its document says, whoever asks: every status, body and form of an error."""

import json
import re
from collections.abc import Iterator
from typing import Any, Self

import httpx
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

METHODS = ("get", "head", "post", "put", "patch", "delete", "options")
JSON = "application/json"

Operation = tuple[str, str]
"""A method and a path with its parameters in braces."""


class Described:
    """The document of a server; ``answered`` are the operations that were seen to succeed as it says."""

    def __init__(self, url: str, document: dict[str, Any]) -> None:
        self.url = url
        self.document = document
        self.answered: set[Operation] = set()

    @classmethod
    def of(cls, url: str, auth: tuple[str, str] | None = None) -> Self:
        """Asks a server for its document."""
        answer = httpx.get(f"{url}/schema/openapi.json", auth=auth, timeout=60)
        return cls(url, answer.raise_for_status().json())

    def operations(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        for path, item in self.document["paths"].items():
            yield from ((path, method, item[method]) for method in METHODS if method in item)

    def watch(self, client: httpx.Client) -> None:
        """Has every answer that a client gets checked, but for paths that are none of the document."""

        def check(answer: httpx.Response) -> None:
            asked = answer.request
            if str(asked.url).startswith(self.url) and self.find(asked.method, asked.url.path) is not None:
                self.check(answer)

        client.event_hooks["response"].append(check)

    def find(self, method: str, path: str) -> Operation | None:
        """Returns the operation that answers a request: what is literal goes before parameters."""
        for wild in ("[^/]+", ".+"):
            fitting = [
                template
                for template, item in self.document["paths"].items()
                if method.lower() in item and re.fullmatch(_pattern(template, wild), path)
            ]
            if fitting:
                return method.lower(), min(fitting, key=lambda template: template.count("{"))
        return None

    def check(self, answer: httpx.Response) -> None:
        """Asserts that an answer, and the body for which it was given, are as the document says."""
        answer.read()
        asked = answer.request
        found = self.find(asked.method, asked.url.path)
        assert found is not None, (asked.method, asked.url.path)
        method, template = found
        operation = self.document["paths"][template][method]
        where = f"{asked.method} {asked.url.path}: {answer.status_code} {answer.text[:2000]}"
        shown = operation["responses"].get(str(answer.status_code))
        if shown is None:
            assert answer.is_error, f"no such status is shown: {where}"
            shown = operation["responses"]["default"]
        self._check_content(shown, answer.headers.get("content-type", ""), answer.content, where)
        if answer.is_success or answer.is_redirect:
            body = operation.get("requestBody", {}).get("content", {})
            # Bolt's client says of JSON that it is something else.
            if (kind := asked.headers.get("content-type", "")) in body:
                self._check_content({"content": body}, kind, asked.content, where)
            self.answered.add(found)

    def _check_content(self, shown: dict[str, Any], media_type: str, content: bytes, where: str) -> None:
        if "$ref" in shown:
            shown = self.document["components"]["responses"][shown["$ref"].rpartition("/")[2]]
        kind = media_type.partition(";")[0]
        if "content" not in shown:
            assert content == b"", f"no content is shown: {where}"
            return
        assert kind in shown["content"], f"{kind} is not shown: {where}"
        schema = shown["content"][kind].get("schema")
        if kind == JSON and schema is not None:
            validator = Draft202012Validator({**schema, "components": self.document["components"]})
            error: Any = best_match(validator.iter_errors(json.loads(content)))
            assert error is None, f"{error.json_path}: {error.message[:500]}: {where}"


def _pattern(template: str, wild: str) -> str:
    return wild.join(re.escape(part) for part in re.split(r"\{\w+\}", template))
