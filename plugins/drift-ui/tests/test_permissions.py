"""Who may see and do what, and how long somebody is logged in."""

import re
import time
from collections.abc import Iterator

import httpx
import pytest
from drift_ui.config import UiConfig
from drift_ui.sessions import Sessions, check_token, csrf_token
from drift_ui.tables import sessions as table
from sqlalchemy import update

from drift_core.api import Credentials, Denied, Identity, Records, Scope
from tests.server import Server

from .browsing import PASSWORDS, Pusher, Visitor, said

EVERYBODY, ROOT, NOBODY = {"root", "ann"}, {"root"}, set[str]()

PAGES = {
    "/": EVERYBODY,
    "/repositories": EVERYBODY,
    "/search?q=app": EVERYBODY,
    "/compare": EVERYBODY,
    "/preferences": EVERYBODY,
    "/repositories/open/app": EVERYBODY,
    "/repositories/open/app/-/manifests/v1": EVERYBODY,
    "/repositories/closed/app": ROOT,
    "/repositories/closed/app/-/manifests/v1": ROOT,
    "/repositories/closed/app/-/layers/{layer}": ROOT,
    "/repositories/closed/app/-/sbom/{digest}": ROOT,
    "/compare?left=closed/app:v1&right=open/app:v1": ROOT,
    "/compare?left=open/app:v1&right=closed/app:v1": ROOT,
    "/cluster": ROOT,
    "/collection": ROOT,
    "/signing": ROOT,
    "/plugins": ROOT,
    "/configuration": ROOT,
}
"""Every page, and who may see it."""

ACTS = {
    ("/collection", "collect"): ROOT,
    ("/collection", "dry-run"): ROOT,
    ("/preferences", "end"): EVERYBODY,
}


@pytest.fixture(scope="module")
def layer(guarded: Server) -> str:
    """The layer of what only root may see."""
    with Pusher(guarded, "root") as pusher:
        pusher.image("open/app", "v1")
        content: bytes = pusher.image("closed/app", "v1").content
    return content.decode().split('"layers"')[1].split('"digest": "')[1].split('"')[0]


@pytest.fixture
def people(guarded: Server) -> Iterator[dict[str, Visitor]]:
    found = {name: Visitor(guarded) for name in PASSWORDS}
    for name, visitor in found.items():
        assert visitor.log_in(name).status_code == 303
    yield found
    for visitor in found.values():
        visitor.http.close()


@pytest.fixture
def stranger(guarded: Server) -> Iterator[Visitor]:
    visitor = Visitor(guarded)
    yield visitor
    visitor.http.close()


def test_every_page_is_shown_to_whom_it_is_for(people: dict[str, Visitor], stranger: Visitor, layer: str) -> None:
    people["root"].until("/repositories/closed/app", "v1")
    digest = f"sha256:{'0' * 64}"
    for form, allowed in PAGES.items():
        path = form.format(layer=layer, digest=digest)
        for name, visitor in people.items():
            status = visitor.get(path).status_code
            assert (status == 403) == (name not in allowed), (path, name, status)
        answer = stranger.get(path)
        assert answer.status_code == 303, path
        assert answer.headers["location"].startswith("/login?next="), path


def test_the_menu_and_lists_have_only_what_may_be_seen(people: dict[str, Visitor], layer: str) -> None:
    del layer
    people["root"].until("/repositories", "closed/app")
    ann = said(people["ann"].get("/repositories").text)
    assert "open/app" in ann
    assert "closed" not in ann
    for path in ("/", "/search?q=closed", "/search?q=tag:v1", "/compare"):
        assert "closed/app" not in people["ann"].get(path).text, path
    assert "Configuration" not in ann
    assert "Configuration" in said(people["root"].get("/").text)
    assert "Storage" not in said(people["ann"].get("/").text)
    assert re.search(r"Users\s+2\s+who log in with a password", said(people["root"].get("/").text))
    assert "who log in" not in said(people["ann"].get("/").text)


def test_every_act_needs_its_right(people: dict[str, Visitor], stranger: Visitor) -> None:
    for (path, act), allowed in ACTS.items():
        for name, visitor in people.items():
            status = visitor.post(path, {"act": act}).status_code
            assert (status == 403) == (name not in allowed), (path, act, name, status)
        assert stranger.post(path, {"act": act}).headers["location"].startswith("/login")


@pytest.mark.parametrize("path", ["/collection", "/preferences", "/logout", "/theme", "/login"])
def test_a_form_of_another_site_does_nothing(people: dict[str, Visitor], path: str) -> None:
    root = people["root"]
    form = {"act": "collect", "confirmed": "1", "csrf": root.token("/")}
    own = {"origin": root.origin}
    forged: list[tuple[dict[str, str], dict[str, str]]] = [
        ({**form, "csrf": "0" * 64}, own),
        ({key: value for key, value in form.items() if key != "csrf"}, own),
        ({**form, "csrf": people["ann"].token("/")}, own),
        (form, {"origin": "http://evil.example"}),
        (form, {"origin": "null"}),
        (form, {**own, "sec-fetch-site": "cross-site"}),
        (form, {**own, "sec-fetch-site": "same-site"}),
    ]
    for sent, headers in forged:
        assert root.http.post(path, data=sent, headers=headers).status_code == 403, (sent, headers)
    assert root.http.post(path, json=form, headers=own).status_code == 400
    assert root.get("/configuration").status_code == 200
    bare = httpx.post(f"{root.origin}{path}", data={"csrf": csrf_token("")}, headers=own, trust_env=False)
    assert bare.status_code == 403


def test_a_cookie_is_of_this_host_and_of_no_script(stranger: Visitor) -> None:
    before = stranger.get("/login").headers["set-cookie"]
    answer = stranger.log_in("ann")
    cookie = answer.headers["set-cookie"]
    for part in ("drift-console=", "Path=/", "HttpOnly", "SameSite=Lax"):
        assert part in cookie
    # Whoever has planted the cookie of a visitor does not know that of the session.
    assert cookie.partition(";")[0] != before.partition(";")[0]


def test_a_wrong_password_logs_nobody_in(stranger: Visitor) -> None:
    for name, password in (("ann", "wrong"), ("nobody", "x"), ("ann:x", "y"), ("", ""), ("\u00e4nn", "\u20ac")):
        answer = stranger.log_in(name, password)
        assert answer.status_code == 401
        assert "wrong" in said(answer.text) or "password" in said(answer.text)
        assert "www-authenticate" not in answer.headers
    assert stranger.get("/").status_code == 303


def test_a_login_leads_back_to_where_one_was(stranger: Visitor) -> None:
    answer = stranger.get("/repositories/open/app?after=x")
    assert answer.headers["location"] == "/login?next=%2Frepositories%2Fopen%2Fapp%3Fafter%3Dx"
    form = {"username": "ann", "password": PASSWORDS["ann"], "next": "/repositories/open/app?after=x"}
    assert stranger.post("/login", form).headers["location"] == "/repositories/open/app?after=x"
    stranger.post("/logout", {})
    assert stranger.post("/login", {**form, "next": "//evil.example"}).headers["location"] == "/"


def test_who_logs_out_is_out(people: dict[str, Visitor]) -> None:
    ann = people["ann"]
    kept = ann.http.cookies.get("drift-console")
    assert ann.post("/logout", {}).headers["location"] == "/login"
    assert ann.get("/").status_code == 303
    stolen = httpx.get(f"{ann.origin}/", cookies={"drift-console": str(kept)}, trust_env=False)
    assert stolen.status_code == 303
    assert people["root"].get("/").status_code == 200


def test_all_sessions_end_at_once(guarded: Server, people: dict[str, Visitor]) -> None:
    second = Visitor(guarded)
    second.log_in("ann")
    assert people["ann"].post("/preferences", {"act": "end-all", "confirmed": "1"}).status_code == 303
    assert second.get("/").status_code == 303
    second.http.close()
    assert people["root"].get("/preferences").status_code == 200


ANN = Identity("ann", "basic", frozenset({"g"}), frozenset({"admin"}), frozenset({Scope("repository", "a", "pull")}))
SENT = Credentials(None, [("user-agent", "Firefox\n" + "x" * 400)], "127.0.0.1")


@pytest.fixture
async def kept(records: Records) -> Sessions:
    return Sessions(records, UiConfig(session_idle_minutes=10, session_hours=2))


async def test_a_session_knows_whose_it_is(kept: Sessions) -> None:
    secret = await kept.begin(ANN, SENT)
    session = await kept.find(secret)
    assert session is not None
    assert session.identity == ANN
    assert len(session.agent) == 255
    assert secret not in session.id
    assert await kept.find(secret[:-1] + ("A" if secret[-1] != "A" else "B")) is None


@pytest.mark.parametrize(("column", "age"), [("used_at", 601.0), ("created_at", 7201.0)])
async def test_a_session_ends_by_itself(kept: Sessions, records: Records, column: str, age: float) -> None:
    secret = await kept.begin(ANN, SENT)
    changed = update(table).values({column: time.time() - age + 5})
    await records.write(lambda db: db.execute(changed))
    assert await kept.find(secret) is not None
    await records.write(lambda db: db.execute(update(table).values({column: time.time() - age})))
    assert await kept.find(secret) is None
    assert await kept.of("ann") == []
    # Who logs in sweeps up.
    await kept.begin(ANN, SENT)
    assert len(await kept.of("ann")) == 1


async def test_a_session_is_ended_by_its_owner_alone(kept: Sessions) -> None:
    secret = await kept.begin(ANN, SENT)
    session = await kept.find(secret)
    assert session is not None
    assert not await kept.end("bob", session.id)
    assert await kept.find(secret) is not None
    assert await kept.end("ann", session.id)
    assert await kept.find(secret) is None


async def test_a_token_of_a_program_does_not_log_in(kept: Sessions) -> None:
    with pytest.raises(Denied):
        await kept.begin(Identity("ci", "token", delegated=True), SENT)


def test_the_token_of_a_page_is_of_one_browser() -> None:
    check_token("a", csrf_token("a"))
    for shown in (None, "", csrf_token("b"), "\u00e4"):
        with pytest.raises(Denied):
            check_token("a", shown)
