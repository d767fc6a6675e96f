"""What the console does with a page, an act or a login that fails or is refused."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

import pytest
from drift_ui.live import MostLive
from drift_ui.sessions import COOKIE, Session, csrf_token
from drift_ui.site import HostOf, Site

from drift_core.api import AuditEvent, Console, Credentials, Identity, RegistryError, Scope, Unavailable, pages

ANN = Identity("ann", "test")
SECRET = "s" * 43


class Rights:
    """Everybody may do everything, but ann, who may do nothing."""

    def __init__(self) -> None:
        self.shown: list[Credentials] = []

    async def identify(self, credentials: Credentials) -> Identity | None:
        self.shown.append(credentials)
        return ANN if credentials.certificate else None

    async def verdicts(self, identity: Identity | None, scopes: Sequence[Scope]) -> Sequence[bool]:
        return [identity is None for _ in scopes]


class Logins:
    """Ann is logged in, or nobody."""

    seconds = 60.0

    def __init__(self, identity: Identity | None) -> None:
        self._identity = identity
        self.ended: list[str] = []

    async def end(self, name: str, session: str) -> bool:
        self._identity = None
        self.ended.append(f"{name} {session}")
        return True

    async def find(self, secret: str, *, used: bool = True) -> Session | None:
        del secret, used
        return None if self._identity is None else Session("id", self._identity, "", "", 0.0, 0.0)


class Noted:
    def __init__(self) -> None:
        self.events: list[AuditEvent] = []

    async def note(self, event: AuditEvent) -> None:
        self.events.append(event)


class Place:
    """A console with one page, which is what a test says."""

    def __init__(self, page: pages.Page, identity: Identity | None = None, rights: Rights | None = None) -> None:
        self.failures: list[Exception] = []
        self.stopping = asyncio.Event()
        self.gone: set[str] = set()
        self.noted = Noted()
        self.rights = rights or Rights()
        self.logins = Logins(identity)
        sessions: Any = self.logins
        lent: Any = self.rights
        noted: Any = self.noted

        async def nobody(*_: Any) -> None:
            """Counts nothing."""

        async def stands(identity: Identity, _: Credentials) -> bool:
            return identity.name not in self.gone

        async def log_out(_: Credentials) -> Sequence[tuple[str, str]]:
            return (("set-cookie", "elsewhere=; Max-Age=0"),)

        async def figures() -> Sequence[pages.Figure]:
            return ()

        console = Console(
            pages=(page,),
            logins=(),
            attempt=nobody,
            visit=nobody,
            failed=lambda _, failure: self.failures.append(failure),
            stands=stands,
            log_out=log_out,
            log_out_everywhere=nobody,
            figures=figures,
            stopping=self.stopping,
        )
        self._site = Site(console, (), sessions, lent, noted, HostOf("127.0.0.1:5000", None), MostLive(3, 2))

    async def ask(
        self, method: str = "GET", path: str = "/page", form: Any = None, certificate: str | None = None
    ) -> tuple[int, str]:
        answer = await self.answered(method, path, form, certificate)
        return answer[0]["status"], answer[1]["body"].decode()

    async def answered(
        self, method: str = "GET", path: str = "/page", form: Any = None, certificate: str | None = None
    ) -> list[dict[str, Any]]:
        headers = [
            (b"cookie", f"{COOKIE}={SECRET}".encode()),
            (b"content-type", b"application/x-www-form-urlencoded"),
        ]
        credentials = Credentials(None, [("host", "localhost")], "127.0.0.1", certificate=certificate)
        scope = {"method": method, "path": path, "query_string": b"", "headers": headers, "auth": credentials}
        body = urlencode({"csrf": csrf_token(SECRET), **(form or {})}).encode()
        answer: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body}

        async def send(event: dict[str, Any]) -> None:
            answer.append(event)

        await self._site(scope, receive, send)
        return answer


@pytest.mark.parametrize("failure", [Unavailable("the database is away"), RuntimeError("a defect")])
async def test_nothing_is_done_where_it_cannot_be_asked_twice(failure: Exception) -> None:
    done: list[str] = []

    async def show(_: pages.Asked) -> Sequence[pages.Block]:
        raise failure

    async def act(_: pages.Asked) -> pages.Done:
        done.append("gone")
        return pages.Done("gone")

    place = Place(pages.Page("/page", "Page", show, acts={"delete": pages.Act(act, needs=None)}))
    status, text = await place.ask("POST", form={"act": "delete"})
    assert (done, status >= 500) == ([], True)
    assert ("the database is away" if isinstance(failure, RegistryError) else "the log of the server") in text
    assert failure in place.failures


async def test_what_is_refused_is_kept_in_the_trail() -> None:
    async def show(_: pages.Asked) -> Sequence[pages.Block]:
        return ()

    needed = Scope("repository", "team/app", "pull")
    place = Place(pages.Page("/page", "Page", show, needs=needed), ANN)
    status, _ = await place.ask()
    assert status == 403
    (event,) = place.noted.events
    assert (event.type, event.success, event.identity) == ("PermissionDenied", False, ANN)
    assert (event.resource_type, event.resource_id, event.parameters) == (
        "Repository",
        "team/app",
        {"scopes": [str(needed)]},
    )


async def test_a_certificate_logs_nobody_in() -> None:
    async def show(_: pages.Asked) -> Sequence[pages.Block]:
        return ()

    class Closed(Rights):
        async def verdicts(self, identity: Identity | None, scopes: Sequence[Scope]) -> Sequence[bool]:
            del identity
            return [False for _ in scopes]

    place = Place(pages.Page("/page", "Page", show), rights=Closed())
    status, text = await place.ask(path="/login", certificate="of ann")
    assert (status, "ann" in text) == (200, False)
    assert [shown.certificate for shown in place.rights.shown] == [None]


async def test_a_page_is_laid_out_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    async def show(_: pages.Asked) -> Sequence[pages.Block]:
        return (pages.Text("hello"),)

    threads: list[threading.Thread] = []
    place = Place(pages.Page("/page", "Page", show))
    renderer: Any = vars(place)["_site"]._renderer
    page = renderer.page

    def noted(*arguments: Any) -> str:
        threads.append(threading.current_thread())
        text: str = page(*arguments)
        return text

    monkeypatch.setattr(renderer, "page", noted)
    status, text = await place.ask()
    assert (status, "hello" in text) == (200, True)
    assert threading.current_thread() not in threads


async def test_whose_account_is_gone_is_logged_out_and_does_nothing() -> None:
    done: list[str] = []

    async def show(_: pages.Asked) -> Sequence[pages.Block]:
        return ()

    async def act(_: pages.Asked) -> pages.Done:
        done.append("a token")
        return pages.Done("made")

    page = pages.Page("/page", "Page", show, needs=None, acts={"make": pages.Act(act, needs=None)})

    class Closed(Rights):
        async def verdicts(self, identity: Identity | None, scopes: Sequence[Scope]) -> Sequence[bool]:
            return [identity is not None for _ in scopes]

    for method in ("GET", "POST"):
        place = Place(page, ANN, Closed())
        assert (await place.ask(method, form={"act": "make"}))[0] in (200, 303)
        made = len(done)
        place.gone.add("ann")
        start, _ = await place.answered(method, form={"act": "make"})
        assert (start["status"], dict(start["headers"])[b"location"].partition(b"?")[0]) == (303, b"/login")
        assert place.logins.ended == ["ann id"]
        assert len(done) == made
        (event,) = place.noted.events
        assert (event.type, event.identity) == ("Logout", ANN)
        assert "gone" in str(event.reason)
    assert done == ["a token"]


async def test_who_logs_out_is_logged_out_elsewhere_too() -> None:
    async def show(_: pages.Asked) -> Sequence[pages.Block]:
        return ()

    place = Place(pages.Page("/page", "Page", show, needs=None), ANN)
    start, _ = await place.answered("POST", "/logout")
    cookies = [value for name, value in start["headers"] if name == b"set-cookie"]
    assert (start["status"], len(cookies), cookies[-1]) == (303, 2, b"elsewhere=; Max-Age=0")
    assert place.logins.ended == ["ann id"]
