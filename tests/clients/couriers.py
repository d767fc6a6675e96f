"""Moves images between OCI image layouts and the registry, the same way with every client."""

from pathlib import Path

from tests.clients.programs import Output, Programs

COURIERS = ("crane", "oras", "regctl", "skopeo")


def plain_http(reference: str) -> tuple[str, str]:
    """Returns the options that make regctl speak plain HTTP to the registry that `reference` names."""
    return "--host", f"reg={reference.partition('/')[0]},tls=disabled"


def push(run: Programs, client: str, layout: Path, reference: str, *, may_fail: bool = False) -> Output:
    """Pushes the layout's tag `v1`, with all that it needs, to `reference`."""
    command: tuple[str | Path, ...]
    match client:
        case "crane":
            command = ("crane", "push", "--insecure", layout, reference)
        case "oras":
            command = ("oras", "cp", "--no-tty", "--from-oci-layout", "--to-plain-http", f"{layout}:v1", reference)
        case "regctl":
            command = ("regctl", "image", "copy", *plain_http(reference), f"ocidir://{layout}:v1", reference)
        case "skopeo":
            options = ("--all", "--preserve-digests", "--dest-tls-verify=false")
            command = ("skopeo", "copy", *options, f"oci:{layout}:v1", f"docker://{reference}")
        case _:
            raise AssertionError(client)
    return run(str(command[0]), *command[1:], may_fail=may_fail)


def pull(run: Programs, client: str, reference: str, layout: Path, *, may_fail: bool = False) -> Output:
    """Pulls `reference`, with all that it needs, into a new layout."""
    command: tuple[str | Path, ...]
    match client:
        case "crane":
            command = ("crane", "pull", "--insecure", "--format=oci", reference, layout)
        case "oras":
            command = ("oras", "cp", "--no-tty", "--from-plain-http", "--to-oci-layout", reference, f"{layout}:v1")
        case "regctl":
            command = ("regctl", "image", "copy", *plain_http(reference), reference, f"ocidir://{layout}:v1")
        case "skopeo":
            options = ("--all", "--preserve-digests", "--src-tls-verify=false")
            command = ("skopeo", "copy", *options, f"docker://{reference}", f"oci:{layout}:v1")
        case _:
            raise AssertionError(client)
    return run(str(command[0]), *command[1:], may_fail=may_fail)
