"""Attests of an image what the operator has written into a file."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from drift_sign_cosign.algorithms import sign
from drift_sign_cosign.bundle import write_artifact
from drift_sign_cosign.dsse import IN_TOTO, pae
from drift_sign_cosign.encoding import as_object, read_json, write_json
from drift_sign_cosign.keys import Key
from drift_sign_cosign.refusal import Refused
from drift_sign_cosign.signer import KeySigner, load, reference_of
from drift_sign_cosign.statement import SIGNED, write_statement

from drift_core.api import Descriptor, KeyInfo, Services, Signature, StartError, Struct
from drift_sign_intoto.config import InTotoConfig, SigningConfig

LARGEST = 1 << 20
"""Most bytes of a predicate: in base64 and with a statement around it a bundle of it is one that is read."""


class Predicate(Struct, frozen=True):
    """What is attested, and the URI that says what that is."""

    type: str
    content: Mapping[str, Any]


def make(
    config: SigningConfig,
    predicate: Predicate | None,
    key: Key,
    repository: str,
    subject: Descriptor,
    annotations: Mapping[str, str],
    tagged: Mapping[str, bytes],
    now: float,
) -> Sequence[Signature]:
    """Returns the bundle that attests ``predicate``; see `drift_sign_cosign.signer.Make`.

    The annotations are those of the statement's subject; ``timestamp`` is the signer's own.

    Raises:
        Refused: there is no predicate.
    """
    del tagged
    if predicate is None:
        raise Refused("there is nothing to attest: configure signing.in_toto.predicate_path and predicate_type")
    statement = write_statement(
        subject, annotations, now, predicate.type, predicate.content, reference_of(config, repository)
    )
    signature = sign(key.private, pae(IN_TOTO, statement))
    return [write_artifact(subject, statement, signature, key.signs_as, now, predicate.type)]


def load_predicate(config: InTotoConfig) -> Predicate | None:
    """Returns what is attested, or None where nothing is configured.

    Raises:
        StartError: the file cannot be read, or is no JSON object; or one of path and type is missing, or the type is
            that of a signature.
    """
    if config.predicate_path is None and config.predicate_type is None:
        return None
    if config.predicate_path is None or config.predicate_type is None:
        message = "signing.in_toto: predicate_path and predicate_type are of no use without one another"
        raise StartError(message)
    if config.predicate_type == SIGNED:
        message = f"signing.in_toto.predicate_type: {SIGNED} is a signature, which the format cosign makes"
        raise StartError(message)
    try:
        return Predicate(config.predicate_type, _read(config.predicate_path))
    except (OSError, ValueError, Refused) as error:
        message = f"{config.predicate_path}: the predicate cannot be used: {getattr(error, 'strerror', None) or error}"
        raise StartError(message) from None


class AttestationSigner(KeySigner):
    """Signs a predicate; without one it has no keys, since there is nothing that it could sign."""

    def __init__(
        self,
        config: SigningConfig,
        predicate: Predicate | None,
        keys: Sequence[Key],
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(config.private_files(), keys, partial(make, config, predicate), clock)
        self._able = predicate is not None

    def keys(self) -> Sequence[KeyInfo]:
        """See `Signer`."""
        return super().keys() if self._able else []


@asynccontextmanager
async def open_signer(config: SigningConfig, services: Services) -> AsyncIterator[AttestationSigner]:
    """Opens the signer with the keys and the predicate of a configuration. Raises `StartError`."""
    predicate = await asyncio.to_thread(load_predicate, config.in_toto)
    yield AttestationSigner(config, predicate, await load(config, services))


def _read(path: str) -> Mapping[str, Any]:
    """Returns the JSON object in a file. Raises `Refused`, OSError and, as a path or a text may, ValueError."""
    with Path(path).open("rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise Refused(f"it has more than {LARGEST} bytes")
    found = read_json(content, "predicate")
    # A number that is too large for others, or half a character, can be read but not written.
    if not isinstance(found, dict) or read_json(write_json(found), "predicate") != found:
        raise Refused("it is no JSON object")
    return as_object(found)
