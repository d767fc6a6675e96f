"""The page of whoever is logged in: how the console looks, and where they are logged in."""

from collections.abc import Awaitable, Callable, Sequence

from drift_core.api import Identity, Unauthorized, pages
from drift_ui.sessions import Sessions

SHORT = 12
"""Characters of a session's id that name it in a form: of one person's own sessions, that is enough."""


class Preferences:
    """Ends only sessions of who asks; ``log_out_everywhere`` ends the logins beside them, see `Console`."""

    def __init__(self, sessions: Sessions, log_out_everywhere: Callable[[Identity], Awaitable[None]]) -> None:
        self._sessions = sessions
        self._log_out_everywhere = log_out_everywhere

    def own(self) -> list[pages.Page]:
        """Returns the one page."""
        acts = {"end": pages.Act(self.end, needs=None), "end-all": pages.Act(self.end_all, needs=None)}
        return [pages.Page("/preferences", "Preferences", self.show, "Preferences", needs=None, acts=acts)]

    async def show(self, asked: pages.Asked) -> Sequence[pages.Block]:
        """See `Page`."""
        if asked.identity is None:
            return (pages.Text("Nobody has to log in here, so that there are no sessions."),)
        sessions = await self._sessions.of(asked.identity.name)
        facts = (
            ("Name", asked.identity.name),
            ("Known by", asked.identity.source),
            ("Groups", ", ".join(sorted(asked.identity.groups)) or None),
            ("Roles", ", ".join(sorted(asked.identity.roles)) or None),
        )
        rows = [
            (one.id[:SHORT], pages.Moment(one.created_at), pages.Moment(one.used_at), one.address, one.agent or None)
            for one in sessions
        ]
        columns = ("Session", "Began", "Last used", "From", "Browser")
        choices = [one.id[:SHORT] for one in sessions]
        field = pages.Field("session", "Session", "choice", choices[0] if choices else "", choices)
        return (
            pages.Facts("You", facts),
            pages.Table("Sessions", columns, rows),
            pages.Form("End one session", "End it", (field,), act="end"),
            pages.Form("Log out everywhere", "End all sessions", act="end-all", danger=True),
        )

    async def end(self, asked: pages.Asked) -> pages.Done:
        """Ends one of the sessions of who asks."""
        if asked.identity is None:
            raise Unauthorized("you are not logged in")
        wanted = asked.form.get("session", "")
        ended = [
            await self._sessions.end(asked.identity.name, one.id)
            for one in await self._sessions.of(asked.identity.name)
            if one.id[:SHORT] == wanted
        ]
        return pages.Done("The session has ended." if any(ended) else "There is no such session any more.")

    async def end_all(self, asked: pages.Asked) -> pages.Done:
        """Ends all of them, with that which asks."""
        if asked.identity is None:
            raise Unauthorized("you are not logged in")
        await self._log_out_everywhere(asked.identity)
        count = await self._sessions.end_all(asked.identity.name)
        return pages.Done(f"{count} sessions have ended.", then="/login")
