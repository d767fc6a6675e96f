"""The routes that explain decisions, report on access, and take or give the whole policy."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec
from litestar import Response, get, post
from msgspec import Struct

from drift_core.api import Identity, Scope
from drift_rbac.answering import Asked, Paging, actor, answer, page, read
from drift_rbac.document import described, from_text, replacing, to_document, to_toml
from drift_rbac.editing import Editor
from drift_rbac.entities import Action, Group, Name, Resource, Text
from drift_rbac.errors import EntityInvalid
from drift_rbac.explaining import Circumstances, Explanation, Unused, explain, unused


class Context(Struct, frozen=True, forbid_unknown_fields=True):
    """From where, when and with what somebody asks; ``time`` such as ``09:30``; now, where it is left out."""

    ip: Text | None = None
    user_agent: Text | None = None
    time: Text | None = None
    tag: Text | None = None
    groups: tuple[Group, ...] = ()
    roles: tuple[Text, ...] = ()


class Question(Struct, forbid_unknown_fields=True):
    """The body that asks for an explanation; ``user_id`` None is nobody in particular."""

    user_id: Name | None
    resource: Resource
    action: Action
    resource_id: Text = "*"
    context: Context = Context()


class Import(Struct):
    """The query of an import."""

    dry_run: bool = False


class OfRepository(Paging, kw_only=True):
    """The query of a report."""

    repository: str


class Changed(Struct, frozen=True):
    """A field of an entity."""

    before: Any
    after: Any


class Described(Struct, frozen=True):
    """What is done to an entity, as `described` has it; ``fields`` are those that are modified."""

    change: Literal["create", "delete", "modify"]
    kind: str
    id: str
    fields: dict[str, Changed]


class Imported(Struct, frozen=True):
    """What an import has changed, or would."""

    dry_run: bool
    changes: list[Described]


class Allowed(Struct, frozen=True):
    """What somebody may do with a repository: each action that is allowed, and why."""

    user_id: str
    allowed: dict[str, str]


class AccessReport(Struct, frozen=True):
    """A page of users with what each may do with a repository."""

    access: list[Allowed]


Document = dict[Literal["organizations", "roles", "teams", "users"], dict[str, dict[str, Any]]]
"""The policy as JSON: a table for each kind, with one for each entity, without what is empty."""

POLICY: Final = {"application/toml": str, "application/json": Document}


class ReportRoutes:
    """`/api/rbac` and `/api/reports`; all need `registry:*:*`."""

    def __init__(self, editor: Editor) -> None:
        self._editor = editor

    def handlers(self) -> Sequence[Any]:
        """Returns the handlers."""
        return [
            post("/api/rbac/explain", status_code=200, body=Question, answers=Explanation)(self.explain),
            get("/api/rbac/export", answers=POLICY)(self.export),
            post("/api/rbac/import", status_code=200, query=Import, body=POLICY, answers=Imported)(self.take),
            get("/api/reports/access", query=OfRepository, answers=AccessReport)(self.access),
            get("/api/reports/unused-permissions", answers=Unused)(self.unused_permissions),
        ]

    async def explain(self, request: Asked) -> Response[Any]:
        """Says whether somebody would be allowed something, and why."""
        question = await read(request, Question)
        context = question.context
        circumstances = Circumstances(ip=context.ip, time=context.time, tag=context.tag)
        identity = None
        if question.user_id is not None:
            identity = Identity(question.user_id, "rbac", frozenset(context.groups), frozenset(context.roles))
        policy = await self._editor.policy()
        found: Explanation = explain(
            policy, identity, question.resource, question.action, question.resource_id, circumstances
        )
        return answer(found)

    async def export(self, request: Asked) -> Response[Any]:
        """Returns the policy, as JSON where that is what the sender accepts, else as TOML."""
        directory = (await self._editor.policy()).directory
        if "json" in request.headers.get("accept", ""):
            return answer(await asyncio.to_thread(to_document, directory))
        return Response(await asyncio.to_thread(to_toml, directory), media_type="application/toml")

    async def take(self, request: Asked) -> Response[Any]:
        """Makes the policy what the body says, in TOML or JSON; with ``dry_run=true`` only says what would change."""
        try:
            text = (await request.body()).decode()
        except UnicodeDecodeError as error:
            raise EntityInvalid("the document is not UTF-8") from error
        as_json = "json" in request.headers.get("content-type", "")
        edit = replacing(await asyncio.to_thread(from_text, text, as_json=as_json))
        dry = request.query_params.get("dry_run", "false") == "true"
        sender = actor(request)
        changes = (await self._editor.plan(edit, sender))[1] if dry else await self._editor.change(edit, sender)
        return answer(Imported(dry, msgspec.convert(described(changes), list[Described])))

    async def access(self, request: Asked) -> Response[Any]:
        """Lists users with what each may do with a repository."""
        repository = request.query_params.get("repository")
        if not repository:
            raise EntityInvalid("repository: name the repository that the report is about")
        policy = await self._editor.policy()

        def entry(name: str) -> Allowed:
            holder = policy.holder(Identity(name, "rbac"))
            judged = {
                action: policy.judge(holder, Scope("repository", repository, action))
                for action in ("pull", "push", "delete")
            }
            allowed = {action: one.verdict.reason for action, one in judged.items() if one.verdict.allowed}
            return Allowed(name, allowed)

        return page(request, AccessReport, sorted(policy.directory.users), entry)

    async def unused_permissions(self) -> Response[Any]:
        """Lists roles that nobody has, and assignments that give nothing beyond what the user has otherwise."""
        policy = await self._editor.policy()
        return answer(await asyncio.to_thread(unused, policy))
