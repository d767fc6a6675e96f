"""What is kept of an event: the form of the contract, without secrets, and nothing that could pass for more."""

import csv
import json
from typing import Any

import pytest
from drift_audit.config import AuditConfig
from drift_audit.export import COLUMNS, csv_header, csv_line
from drift_audit.record import LIMIT, MOST, NAME_LIMIT, decoded, encoded, plain, record_of
from drift_audit.selection import Selection

from drift_core.api import AuditEvent, Credentials, Digest, Identity

SECRET = "hunter2-tr0ub4dor"
REQUEST = Credentials(
    f"Basic {SECRET}",
    [("user-agent", "curl/8.5"), ("authorization", f"Basic {SECRET}"), ("cookie", SECRET), ("x-api-key", SECRET)],
    "192.0.2.7",
    "PUT",
    "/v2/team/app/manifests/v1",
    "https",
    None,
    "request-1",
)
IDENTITY = Identity("robot$ci", "token", frozenset({"b", "a"}), frozenset({"developer"}))
PUSH = AuditEvent(
    type="ImagePushed",
    identity=IDENTITY,
    resource_type="Image",
    resource_id="team/app",
    tag="v1",
    digest=Digest.of(b"x"),
    size=2,
    parameters={"mediaType": "application/json", "subject": Digest.of(b"y")},
)


def stored(event: AuditEvent, request: Credentials | None = None) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(encoded(record_of(event, request), 7))
    return record


def test_the_form_is_that_of_the_contract() -> None:
    record = stored(PUSH, REQUEST)
    assert len(record.pop("id")) == 32
    assert record.pop("timestamp").endswith("Z")
    assert record == {
        "sequence": 7,
        "event_type": "ImagePushed",
        "severity": "Info",
        "user": {
            "id": "robot$ci",
            "username": "robot$ci",
            "teams": ["a", "b"],
            "roles": ["developer"],
            "service_account": True,
        },
        "resource": {
            "type_": "Image",
            "id": "team/app",
            "name": "team/app",
            "namespace": "team",
            "repository": "team/app",
            "tag": "v1",
            "digest": str(Digest.of(b"x")),
            "size": 2,
        },
        "action": {
            "operation": "push",
            "method": "PUT",
            "path": "/v2/team/app/manifests/v1",
            "parameters": {"mediaType": "application/json", "subject": str(Digest.of(b"y"))},
        },
        "result": {"success": True, "error_message": None},
        "network": {
            "client_ip": "192.0.2.7",
            "protocol": "https",
            "user_agent": "curl/8.5",
            "request_id": "request-1",
        },
        "metadata": {"source": "token"},
        "correlation_id": "request-1",
    }


def test_a_claimed_name_is_no_identity() -> None:
    event = AuditEvent(type="AuthenticationFailed", severity="warning", success=False, reason="no", username="root")
    record = stored(event)
    assert record["user"] == {"username": "root"}
    assert record["result"] == {"success": False, "error_message": "no"}
    assert (record["severity"], record["action"]["operation"], record["network"]) == ("Warning", "fail", {})


def test_no_secret_is_copied() -> None:
    nested = {"headers": {"Authorization": SECRET}, "list": [{"api_key": SECRET}], "kept": 1}
    names = ("password", "new_passwd", "client_secret", "refreshToken", "Cookie", "session_id", "privateKey", "code")
    event = AuditEvent(type="UserModified", parameters=dict.fromkeys(names, SECRET) | {"nested": nested})
    content = encoded(record_of(event, REQUEST), 1)
    assert SECRET.encode() not in content
    parameters = json.loads(content)["action"]["parameters"]
    assert parameters["password"] == "***"
    assert parameters["nested"]["kept"] == 1


@pytest.mark.parametrize(
    "text",
    ["line\nline", "\r", "\x1b[31mred", "\x00", "\x85", "\u2028", "\u202egnp.exe", "\udcff", "ä\nö"],
)
def test_no_text_passes_for_another_line(text: str) -> None:
    event = AuditEvent(type="Login", reason=text, username=text, resource_id=text, parameters={text: [text]})
    content = encoded(record_of(event, REQUEST), 1).decode()
    assert content.isprintable()
    record = json.loads(content)
    assert record["result"]["error_message"] == plain(text) != text
    assert record["user"]["username"].isprintable()


def test_texts_and_tables_are_bounded() -> None:
    long = "x" * 100_000
    deep: Any = "end"
    for _ in range(1000):
        deep = [deep]
    event = AuditEvent(
        type=long,
        username=long,
        reason=long,
        resource_id=long,
        parameters={**{f"p{number}": long for number in range(1000)}, "deep": deep},
    )
    record = stored(event)
    assert len(record["user"]["username"]) == NAME_LIMIT
    assert len(record["action"]["parameters"]) == MOST
    assert len(encoded(record_of(event, None), 1)) < 2 * LIMIT * MOST
    deep_only = stored(AuditEvent(type="Login", parameters={"deep": deep, "large": 10**30, "odd": object}))
    assert "…" in json.dumps(deep_only, ensure_ascii=False)
    assert deep_only["action"]["parameters"]["large"] == str(10**30)


def test_what_was_encoded_is_read_back() -> None:
    record = decoded(encoded(record_of(PUSH, REQUEST), 7))
    assert (record.sequence, record.resource.tag, record.network.request_id) == (7, "v1", "request-1")


def takes(event: AuditEvent, request: Credentials | None = None, **keys: Any) -> bool:
    return Selection(AuditConfig(enabled=True, **keys)).takes(event, request)


def test_selection() -> None:
    warning = AuditEvent(type="PermissionDenied", severity="warning", identity=IDENTITY, resource_id="team/app")
    pull = AuditEvent(type="ImagePulled", resource_id="team/app")
    assert takes(warning)
    assert takes(warning, min_severity="warning")
    assert not takes(warning, min_severity="error")
    assert takes(warning, enabled_event_types=("PermissionDenied",))
    assert not takes(warning, enabled_event_types=("Login",))
    assert not takes(warning, exclude_patterns=("nobody", "eam/a"))
    assert not takes(warning, exclude_patterns=("bot$",))
    assert takes(warning, exclude_patterns=("Team",))
    assert not takes(AuditEvent(type="Login", username="probe-1"), exclude_patterns=("probe",))
    assert takes(pull, REQUEST)
    assert not takes(pull, REQUEST, pulls=False)


@pytest.mark.parametrize("kind", ["ImagePulled", "PermissionDenied"])
def test_only_who_asks_for_a_digest_pulls_nothing(kind: str) -> None:
    head = Credentials(None, [], "192.0.2.7", "HEAD", "/v2/team/app/manifests/v1")
    assert takes(AuditEvent(type=kind), head) is (kind != "ImagePulled")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "=cmd|'/c calc'!A0"])
def test_a_spreadsheet_calculates_nothing(text: str) -> None:
    event = AuditEvent(type="Login", username=text, reason=text, resource_id=text)
    lines = (csv_header() + csv_line(encoded(record_of(event, None), 1))).decode()
    (row,) = csv.DictReader(lines.splitlines())
    assert tuple(row) == COLUMNS
    for column in ("username", "error_message", "resource_id"):
        assert row[column] == f"'{text}"
    assert row["sequence"] == "1"
