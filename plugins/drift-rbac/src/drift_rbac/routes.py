"""All management routes."""

from collections.abc import Sequence
from typing import Any

from drift_core.api import Access
from drift_rbac.editing import Editor
from drift_rbac.organization_routes import OrganizationRoutes
from drift_rbac.report_routes import ReportRoutes
from drift_rbac.role_routes import RoleRoutes
from drift_rbac.team_routes import TeamRoutes
from drift_rbac.user_routes import UserRoutes


def routes(editor: Editor, access: Access) -> Sequence[Any]:
    """Returns every handler below `/api` that this plugin has."""
    parts = (
        OrganizationRoutes(editor),
        TeamRoutes(editor),
        RoleRoutes(editor),
        UserRoutes(editor, access),
        ReportRoutes(editor),
    )
    return [handler for part in parts for handler in part.handlers()]
