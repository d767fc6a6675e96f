"""Writes and checks what is signed: which digest an image has, and where it is.

Source: containers/image, containers-signature(5).
"""

from collections.abc import Mapping
from typing import Any

from drift_core.api import Descriptor
from drift_sign_simple.config import SigningConfig
from drift_sign_simple.encoding import exactly, member, read_json, write_json
from drift_sign_simple.refusal import Refused

TYPE = "atomic container signature"
CREATOR = "creator"
TIMESTAMP = "timestamp"


def write_payload(reference: str, digest: str, annotations: Mapping[str, str], now: float) -> bytes:
    """Returns what is signed; ``reference`` is ``host/repository``, ``now`` in seconds since the epoch.

    Raises:
        Refused: an annotation is called as something that the signer says itself.
    """
    if {CREATOR, TIMESTAMP} & annotations.keys():
        raise Refused(f"{CREATOR} and {TIMESTAMP} are what the signer says itself")
    critical = {
        "identity": {"docker-reference": reference},
        "image": {"docker-manifest-digest": digest},
        "type": TYPE,
    }
    optional: dict[str, Any] = {**annotations, CREATOR: "drift", TIMESTAMP: int(now)}
    return write_json({"critical": critical, "optional": dict(sorted(optional.items()))})


def check_payload(payload: bytes, subject: Descriptor, repository: str, config: SigningConfig) -> None:
    """Says nothing of a payload that is about ``subject`` in ``repository``.

    Raises:
        Refused: it is about another image or repository, or has another form than containers-signature(5) says.
    """
    said = read_json(payload, "payload")
    critical, optional = member(said, "critical", dict), member(said, "optional", dict)
    exactly(said, "critical", "optional")
    exactly(critical, "identity", "image", "type")
    identity, image = member(critical, "identity", dict), member(critical, "image", dict)
    exactly(identity, "docker-reference")
    exactly(image, "docker-manifest-digest")
    if CREATOR in optional:
        member(optional, CREATOR, str)
    if TIMESTAMP in optional:
        member(optional, TIMESTAMP, int)
    if member(critical, "type", str) != TYPE:
        raise Refused("the type of the signature is another")
    if member(image, "docker-manifest-digest", str) != subject.digest:
        raise Refused("another digest was signed")
    reference = member(identity, "docker-reference", str)
    if config.simple.identity == "repository" and not _refers(_name_of(reference), repository, config):
        raise Refused("it was signed for another repository")


def reference_of(config: SigningConfig, repository: str) -> str:
    """Returns how a signature names a repository: with the registry's public name, where it has one."""
    return repository if config.registry_name is None else f"{config.registry_name}/{repository}"


def _refers(name: str, repository: str, config: SigningConfig) -> bool:
    """Says whether a name is the one that a repository has to be signed for."""
    expected = reference_of(config, repository)
    for remap in config.simple.remap:
        if f"{expected}/".startswith(f"{remap.prefix}/"):
            return name == remap.signed_prefix + expected.removeprefix(remap.prefix)
    if config.registry_name is not None or name == expected:
        return name == expected
    host, _, rest = name.partition("/")
    # What a first part has to have so that it is no part of a path: distribution/reference, "domain".
    return rest == repository and (host == "localhost" or "." in host or ":" in host)


def _name_of(reference: str) -> str:
    """Returns a reference without its digest and its tag, which comes after the last part of the path."""
    path, slash, last = reference.partition("@")[0].rpartition("/")
    return path + slash + last.partition(":")[0]
