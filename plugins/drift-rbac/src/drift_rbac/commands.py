"""`drift rbac`: everything that the routes can do, on the database itself, for who runs the server."""

import getpass
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import click
import msgspec
import uvloop
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from drift_core.api import Config, Identity, configured, open_driver
from drift_rbac import edits
from drift_rbac.builtin import BUILT_IN
from drift_rbac.directory import KINDS, Difference
from drift_rbac.document import described, from_text, replacing, to_toml
from drift_rbac.editing import Edit
from drift_rbac.entities import Action, Assignment, Organization, Permission, Resource, Role, Team, User
from drift_rbac.explaining import Circumstances, explain
from drift_rbac.needs import snake
from drift_rbac.policy import Policy

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


@click.group()
def rbac() -> None:
    """Decide who may do what: organizations, teams, roles and users."""


@rbac.group()
def org() -> None:
    """Organizations, each of which owns the repositories below its name."""


@rbac.group()
def team() -> None:
    """Teams, each named ORGANIZATION/TEAM."""


@rbac.group()
def role() -> None:
    """Roles, and who has them."""


@rbac.group()
def user() -> None:
    """Users, by the names under which they log in."""


@org.command("create")
@click.argument("organization")
@click.option("--name", default="", help="A name to show.")
@click.option("--description", default="", help="What it is.")
@click.option("--owner", help="Who runs it; gets the role org-admin for it.")
@click.option("--public", is_flag=True, help="Anybody may pull from it.")
@configured
def create_organization(
    settings: Config, organization: str, name: str, description: str, owner: str | None, *, public: bool
) -> None:
    """Make an organization."""
    fields: dict[str, Any] = {"name": name, "description": description, "owner_id": owner}
    if public:
        fields["settings"] = {"allow_public_repos": True, "default_visibility": "public"}
    _change(settings, edits.create(_entity(Organization, {"id": organization, **fields})))


@org.command("list")
@as_json_option
@configured
def list_organizations(settings: Config, *, as_json: bool) -> None:
    """List organizations."""

    def row(one: Any) -> Sequence[str]:
        return one.id, one.name, one.owner_id or "", str(len(one.members)), ", ".join(one.public)

    _list(settings, "organizations", ("Organization", "Name", "Owner", "Members", "Public"), row, as_json=as_json)


@org.command("show")
@click.argument("organization")
@configured
def show_organization(settings: Config, organization: str) -> None:
    """Show an organization as JSON."""
    _show(settings, "organizations", organization)


@org.command("delete")
@click.argument("organization")
@click.confirmation_option(prompt="Its repositories will belong to no organization. Delete it?")
@configured
def delete_organization(settings: Config, organization: str) -> None:
    """Delete an organization, its teams, and what was granted within it."""
    _change(settings, edits.delete(Organization, organization))


@org.command("add-member")
@click.argument("organization")
@click.argument("user")
@click.option("--role", "roles", multiple=True, help="A role for this organization; may be repeated.")
@configured
def add_member(settings: Config, organization: str, user: str, roles: tuple[str, ...]) -> None:
    """Make USER a member of an organization."""
    _change(settings, edits.add_member(organization, user, roles))


@org.command("remove-member")
@click.argument("organization")
@click.argument("user")
@configured
def remove_member(settings: Config, organization: str, user: str) -> None:
    """Take from USER all that he has in an organization: membership, teams and roles."""
    _change(settings, edits.remove_member(organization, user))


@team.command("create")
@click.argument("team")
@click.option("--role", "roles", multiple=True, help="A role that all members have; may be repeated.")
@click.option("--repository", "repositories", multiple=True, help="A glob, such as acme/*-api; may be repeated.")
@click.option("--group", "groups", multiple=True, help="A group of the login whose members belong to it.")
@click.option("--member", "members", multiple=True, help="A user; may be repeated.")
@configured
def create_team(
    settings: Config,
    team: str,
    roles: tuple[str, ...],
    repositories: tuple[str, ...],
    groups: tuple[str, ...],
    members: tuple[str, ...],
) -> None:
    """Make a team, named ORGANIZATION/TEAM."""
    organization, _, name = team.partition("/")
    lists = {"roles": roles, "repositories": repositories, "groups": groups, "members": sorted(members)}
    _change(settings, edits.create(_entity(Team, {"id": name, "organization_id": organization, **lists})))


@team.command("list")
@as_json_option
@configured
def list_teams(settings: Config, *, as_json: bool) -> None:
    """List teams."""

    def row(one: Any) -> Sequence[str]:
        return one.key, ", ".join(one.roles), ", ".join(one.repositories) or "all", str(len(one.members))

    _list(settings, "teams", ("Team", "Roles", "Repositories", "Members"), row, as_json=as_json)


@team.command("show")
@click.argument("team")
@configured
def show_team(settings: Config, team: str) -> None:
    """Show a team as JSON."""
    _show(settings, "teams", team)


@team.command("delete")
@click.argument("team")
@configured
def delete_team(settings: Config, team: str) -> None:
    """Delete a team."""
    _change(settings, edits.delete(Team, team))


@team.command("add-member")
@click.argument("team")
@click.argument("user")
@configured
def add_to_team(settings: Config, team: str, user: str) -> None:
    """Make USER a member of a team."""
    _change(settings, edits.add_to_team(team, user))


@team.command("remove-member")
@click.argument("team")
@click.argument("user")
@configured
def remove_from_team(settings: Config, team: str, user: str) -> None:
    """Take USER out of a team."""
    _change(settings, edits.remove_from_team(team, user))


@team.command("grant")
@click.argument("team")
@click.argument("role")
@configured
def grant_team(settings: Config, team: str, role: str) -> None:
    """Give ROLE to all members of a team."""
    _change(settings, edits.give_team(team, role))


@team.command("revoke")
@click.argument("team")
@click.argument("role")
@configured
def revoke_team(settings: Config, team: str, role: str) -> None:
    """Take ROLE from a team."""
    _change(settings, edits.take_from_team(team, role))


@role.command("create")
@click.argument("role")
@click.option("--permission", "permissions", multiple=True, help="Such as repository.pull; may be repeated.")
@click.option("--if", "conditions", multiple=True, metavar="KIND=VALUE", help="A condition on every permission.")
@click.option("--parent", help="The role from which it inherits.")
@click.option("--scope", default="global", show_default=True, help="Where it can be held at all.")
@click.option("--priority", type=click.IntRange(0, 1000), default=0, show_default=True)
@configured
def create_role(
    settings: Config,
    role: str,
    permissions: tuple[str, ...],
    conditions: tuple[str, ...],
    parent: str | None,
    scope: str,
    priority: int,
) -> None:
    """Make a role."""
    split = [condition.partition("=") for condition in conditions]
    conditional = [{"type_": kind, "value": value} for kind, _, value in split]
    fields = {
        "id": role,
        "permissions": [_permission(name, conditional) for name in permissions],
        "parent_role": parent,
        "scope": scope,
        "priority": priority,
    }
    _change(settings, edits.create(_entity(Role, fields)))


@role.command("list")
@as_json_option
@configured
def list_roles(settings: Config, *, as_json: bool) -> None:
    """List roles, built in or not."""

    def row(one: Any) -> Sequence[str]:
        rights = ", ".join(right.name for right in one.permissions)
        return one.id, str(one.priority), one.scope, one.parent_role or "", rights, "yes" if one.system_role else ""

    headings = ("Role", "Priority", "Scope", "Inherits", "Permissions", "Built in")
    _list(settings, "roles", headings, row, as_json=as_json)


@role.command("show")
@click.argument("role")
@configured
def show_role(settings: Config, role: str) -> None:
    """Show a role as JSON."""
    _show(settings, "roles", role)


@role.command("delete")
@click.argument("role")
@configured
def delete_role(settings: Config, role: str) -> None:
    """Delete a role that nobody has."""
    _change(settings, edits.delete(Role, role))


@role.command("grant")
@click.argument("user")
@click.argument("role")
@click.option("--scope", default="global", show_default=True, help="Such as organization:acme or repository:acme/app.")
@configured
def grant_role(settings: Config, user: str, role: str, scope: str) -> None:
    """Give USER a ROLE."""
    _change(settings, edits.grant(user, _entity(Assignment, {"role": role, "scope": scope})))


@role.command("revoke")
@click.argument("user")
@click.argument("role")
@click.option("--scope", default="global", show_default=True, help="The scope within which it was granted.")
@configured
def revoke_role(settings: Config, user: str, role: str, scope: str) -> None:
    """Take a ROLE from USER; running servers know it within a second."""
    _change(settings, edits.revoke(user, _entity(Assignment, {"role": role, "scope": scope})))


@user.command("add")
@click.argument("user")
@click.option("--email", default="")
@click.option("--full-name", default="")
@click.option("--attribute", "attributes", multiple=True, metavar="NAME=VALUE", help="May be repeated.")
@configured
def add_user(settings: Config, user: str, email: str, full_name: str, attributes: tuple[str, ...]) -> None:
    """Make a USER known before roles are granted; how he logs in is not said here."""
    pairs = {name: value for name, _, value in (one.partition("=") for one in attributes)}
    fields = {"id": user, "email": email, "full_name": full_name, "attributes": pairs}
    _change(settings, edits.create(_entity(User, fields)))


@user.command("list")
@as_json_option
@configured
def list_users(settings: Config, *, as_json: bool) -> None:
    """List users whom the policy knows."""

    def row(one: Any) -> Sequence[str]:
        roles = ", ".join(f"{held.role} ({held.scope})" for held in one.direct_roles)
        return one.id, one.email, roles, "yes" if one.active else "no"

    _list(settings, "users", ("User", "Email", "Roles", "Active"), row, as_json=as_json)


@user.command("show")
@click.argument("user")
@configured
def show_user(settings: Config, user: str) -> None:
    """Show a user as JSON."""
    _show(settings, "users", user)


@user.command("disable")
@click.argument("user")
@configured
def disable_user(settings: Config, user: str) -> None:
    """Deny USER everything, however he logs in."""
    _set_active(settings, user, active=False)


@user.command("enable")
@click.argument("user")
@configured
def enable_user(settings: Config, user: str) -> None:
    """Let USER do again what his roles allow."""
    _set_active(settings, user, active=True)


@user.command("remove")
@click.argument("user")
@configured
def remove_user(settings: Config, user: str) -> None:
    """Forget USER; who can still log in then has the default role, so that `disable` may be better."""
    _change(settings, edits.delete(User, user))


@rbac.command("export")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True), default="-")
@configured
def export_policy(settings: Config, file: Path) -> None:
    """Write the whole policy as TOML to FILE, or to the standard output."""
    text = to_toml(uvloop.run(_policy(settings)).directory)
    if str(file) == "-":
        click.echo(text, nl=False)
    else:
        file.write_text(text, encoding="utf-8")


@rbac.command("import")
@click.argument("file", type=click.File(encoding="utf-8"))
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@as_json_option
@configured
def import_policy(settings: Config, file: Any, *, dry_run: bool, as_json: bool) -> None:
    """Make the policy what FILE says, all at once; what it does not name is removed."""
    edit = replacing(from_text(file.read()))
    found = described(uvloop.run(_planned(settings, edit) if dry_run else _changed(settings, edit)))
    if as_json:
        click.echo(json.dumps({"dry_run": dry_run, "changes": found}, indent=2))
        return
    signs = {"create": "+", "delete": "-", "modify": "~"}
    for one in found:
        click.echo(f"{signs[one['change']]} {one['kind']}.{one['id']}")
        for name, values in one["fields"].items():
            click.echo(f"    {name}: {json.dumps(values['before'])} -> {json.dumps(values['after'])}")
    click.echo(f"{len(found)} {'would be changed' if dry_run else 'changed'}")


@rbac.command("explain")
@click.argument("user")
@click.argument("action")
@click.argument("resource")
@click.option("--ip", help="The address from which is asked.")
@click.option("--time", "at", help="Such as 09:30, in the zone rbac.timezone; now, if left out.")
@click.option("--tag", help="The tag that is pulled, pushed or deleted.")
@click.option("--group", "groups", multiple=True, help="A group of the login; may be repeated.")
@click.option("--kind", default="Repository", show_default=True, help="What RESOURCE is.")
@as_json_option
@configured
def explain_decision(
    settings: Config,
    user: str,
    action: str,
    resource: str,
    ip: str | None,
    at: str | None,
    tag: str | None,
    groups: tuple[str, ...],
    kind: str,
    *,
    as_json: bool,
) -> None:
    """Say whether USER may do ACTION with RESOURCE, and why; ends with 1 if not."""
    asked = _entity(Permission, _permission(f"{kind}.{action}", []))
    identity = Identity(user, "rbac", frozenset(groups))
    policy = uvloop.run(_policy(settings))
    found = explain(policy, identity, asked.resource, asked.action, resource, Circumstances(ip=ip, time=at, tag=tag))
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found), indent=2))
    else:
        click.echo(f"{'allowed' if found.allowed else 'refused'}: {found.reason}")
    raise SystemExit(not found.allowed)


async def _policy(settings: Config) -> Policy:
    async with open_driver(settings, "authz", "rbac") as opened:
        policy: Policy = await opened.policy()
        return policy


async def _changed(settings: Config, edit: Edit) -> list[Difference]:
    async with open_driver(settings, "authz", "rbac") as opened:
        actor = Identity(getpass.getuser(), "cli")
        found: list[Difference] = await opened.editor.change(edit, actor, trusted=True)
        return found


async def _planned(settings: Config, edit: Edit) -> list[Difference]:
    async with open_driver(settings, "authz", "rbac") as opened:
        _, found = await opened.editor.plan(edit, None)
        return found


def _change(settings: Config, edit: Edit) -> None:
    found = uvloop.run(_changed(settings, edit))
    for one in found:
        done = "created" if one.before is None else "deleted" if one.after is None else "changed"
        click.echo(f"{done} {one.kind}.{one.key}")
    if not found:
        click.echo("nothing to change")


def _set_active(settings: Config, user: str, *, active: bool) -> None:

    _change(settings, edits.modify(User, user, {"active": active}))


def _list(
    settings: Config, kind: str, headings: Sequence[str], row: Callable[[Any], Sequence[str]], *, as_json: bool
) -> None:

    directory = uvloop.run(_policy(settings)).directory
    every = {**getattr(directory, kind), **(BUILT_IN if kind == "roles" else {})}
    if as_json:
        click.echo(json.dumps([msgspec.to_builtins(every[key]) for key in sorted(every)], indent=2))
        return
    table = Table(*headings)
    for key in sorted(every):
        table.add_row(*(escape(cell) for cell in row(every[key])))
    Console().print(table)


def _show(settings: Config, kind: str, key: str) -> None:

    directory = uvloop.run(_policy(settings)).directory
    found: Any = directory.role(key) if kind == "roles" else directory.get(KINDS[kind], key)
    click.echo(json.dumps(msgspec.to_builtins(found), indent=2))


def _permission(name: str, conditions: list[dict[str, str]]) -> dict[str, Any]:
    """Returns what ``repository.pull`` stands for; the case of its parts does not matter."""
    resource, _, action = name.lower().replace("-", "_").partition(".")
    resources = {snake(one): one for one in get_args(Resource)}
    actions = {form: one for one in get_args(Action) for form in (snake(one), one.lower())}
    if resource not in resources or action not in actions:
        message = f"{name}: a permission is RESOURCE.ACTION; resources are {', '.join(resources)}; actions are "
        raise click.BadParameter(message + ", ".join(snake(one) for one in get_args(Action)))
    return {"resource": resources[resource], "action": actions[action], "conditions": conditions}


def _entity(kind: type[Any], fields: dict[str, Any]) -> Any:

    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise click.BadParameter(str(error)) from error
