"""The whole policy as one document, in TOML or JSON, and back."""

import tomllib
from datetime import datetime
from typing import Any

import msgspec
import tomli_w

from drift_rbac.directory import KINDS, Difference, Directory, changed_fields
from drift_rbac.editing import Edit
from drift_rbac.entities import Entity, Organization
from drift_rbac.errors import EntityInvalid
from drift_rbac.policy import Policy

KEYS = frozenset({"id", "organization_id"})
"""Fields that the name of an entry says already."""

EMPTY: tuple[Any, ...] = (None, "", (), [], {})
"""What is left out."""


def to_document(directory: Directory) -> dict[str, dict[str, Any]]:
    """Returns a table for each kind, with one for each entity; what is empty is left out."""
    document: dict[str, dict[str, Any]] = {}
    for kind in KINDS:
        entities: dict[str, Entity] = getattr(directory, kind)
        if entities:
            document[kind] = {key: _fields(entity) for key, entity in entities.items()}
    return document


def to_toml(directory: Directory) -> str:
    """Returns the document as TOML."""
    return tomli_w.dumps(to_document(directory))


def from_document(document: Any) -> Directory:
    """Returns what a document says. Raises `EntityInvalid` with the path of what is wrong."""
    if not isinstance(document, dict):
        raise EntityInvalid("the document is no table")
    kinds: dict[str, Any] = {}
    for kind, entries in document.items():  # pyright: ignore[reportUnknownVariableType]
        if kind not in KINDS or not isinstance(entries, dict):
            raise EntityInvalid(f"{kind}: is no table of the policy; those are {', '.join(KINDS)}")
        kinds[kind] = {key: _entity(kind, key, fields) for key, fields in entries.items()}  # pyright: ignore[reportUnknownVariableType,reportUnknownArgumentType]
    return Directory(**kinds)


def from_text(text: str, *, as_json: bool = False) -> Directory:
    """Returns what a document in TOML or JSON says. Raises `EntityInvalid`."""
    try:
        document: Any = msgspec.json.decode(text) if as_json else tomllib.loads(text)
    except (tomllib.TOMLDecodeError, msgspec.DecodeError) as error:
        raise EntityInvalid(f"the document cannot be read: {error}") from error
    return from_document(document)


def replacing(directory: Directory) -> Edit:
    """Makes the edit after which the policy is what a document says; the times that it leaves out stay."""

    def change(policy: Policy) -> Directory:
        kinds: dict[str, Any] = {
            kind: {
                key: _dated(entity, getattr(policy.directory, kind).get(key))
                for key, entity in getattr(directory, kind).items()
            }
            for kind in KINDS
        }
        return Directory(**kinds)

    return change


def described(differences: list[Difference]) -> list[dict[str, Any]]:
    """Returns differences for people and programs: what is done to which entity, and its fields before and after."""
    found: list[dict[str, Any]] = []
    for one in differences:
        done = "create" if one.before is None else "delete" if one.after is None else "modify"
        fields = changed_fields(one) if done == "modify" else {}
        changed = {name: {"before": before, "after": after} for name, (before, after) in fields.items()}
        found.append({"change": done, "kind": one.kind, "id": one.key, "fields": changed})
    return found


def _fields(entity: Entity) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(entity, builtin_types=(datetime,))
    if isinstance(entity, Organization):
        # TOML has no null.
        fields["settings"] = {name: value for name, value in fields["settings"].items() if value is not None}
    return {name: value for name, value in fields.items() if name not in KEYS and value not in EMPTY}


def _entity(kind: str, key: str, fields: Any) -> Entity:
    named: dict[str, Any] = {"id": key}
    if kind == "teams":
        organization, _, team = key.partition("/")
        named = {"id": team, "organization_id": organization}
    if not isinstance(fields, dict) or KEYS & fields.keys():
        raise EntityInvalid(f"{kind}.{key}: has to be a table without id")
    try:
        return msgspec.convert({**fields, **named}, KINDS[kind])
    except msgspec.ValidationError as error:
        raise EntityInvalid(f"{kind}.{key}: {error}") from error


def _dated(entity: Entity, before: Entity | None) -> Entity:
    if before is None:
        return entity
    if entity.created_at is None:
        entity = msgspec.structs.replace(entity, created_at=before.created_at)
    if isinstance(entity, Organization) and isinstance(before, Organization) and entity.updated_at is None:
        entity = msgspec.structs.replace(entity, updated_at=before.updated_at)
    return entity
