"""Keyless signatures: a certificate of Fulcio for some minutes, and a log's proof that it was good in time.

The package ``sigstore`` judges them, offline by a given trusted root; it is the extra ``keyless``.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from cryptography import x509

from drift_core.api import StartError
from drift_sign_cosign.artifact import Sealed
from drift_sign_cosign.dsse import IN_TOTO
from drift_sign_cosign.optional import optional
from drift_sign_cosign.refusal import LONGEST_REASON, Refused

T = TypeVar("T")


class _Policy(Generic[T]):
    """Asks whose the certificate is, where ``sigstore`` asks its own policies; ``found`` is empty before."""

    def __init__(self, identify: Callable[[x509.Certificate], T]) -> None:
        self._identify = identify
        self.found: list[T] = []

    def verify(self, cert: x509.Certificate) -> None:
        """See ``sigstore.verify.policy.VerificationPolicy``."""
        self.found.append(self._identify(cert))


class Keyless:
    """Judges bundles by a ``sigstore.verify.Verifier``; ``parse`` makes its bundles from JSON."""

    def __init__(self, verifier: Any, parse: Callable[[bytes], Any]) -> None:
        self._verifier = verifier
        self._parse = parse

    def prove(self, content: bytes, sealed: Sealed, identify: Callable[[x509.Certificate], T]) -> T:
        """Returns what ``identify`` says of the certificate, once everything about the bundle is proved.

        ``content`` is the bundle in JSON, and ``sealed`` what was read of it. When it was signed is then known to be
        within the certificate's validity, which is over by now.

        Raises:
            Refused: the certificate, its SCT, the entry of the log, a timestamp or the signature is not good; or
                ``identify`` does.
        """
        policy = _Policy(identify)
        try:
            bundle = self._parse(content)
            said = self._verifier.verify_dsse(bundle, policy)
            same = (bundle.signing_certificate, *said) == (sealed.certificates[0], IN_TOTO, sealed.payload)
        except Refused:
            raise
        # Whatever it raises about something that a client sent, the signature is not proved.
        except Exception as error:  # noqa: BLE001
            raise Refused(f"sigstore: {ascii(str(error))[1 : LONGEST_REASON + 1]}".removesuffix("'")) from None
        if not same or len(policy.found) != 1:
            raise Refused("sigstore has judged something else")
        return policy.found[0]


def load_keyless(path: str) -> Keyless:
    """Returns what judges by the ``trusted_root.json`` at ``path``; nothing is fetched.

    Raises:
        StartError: the file cannot be used, or the extra is not installed.
    """
    verify, models = optional("sigstore.verify"), optional("sigstore.models")
    if verify is None or models is None:
        message = "signing.cosign.trusted_root needs sigstore: pip install 'drift-sign-cosign[keyless]'"
        raise StartError(message)
    try:
        root = models.TrustedRoot.from_file(path)
    # Its errors are those of files, of JSON and of pydantic.
    except Exception as error:  # noqa: BLE001
        message = f"{path}: the trusted root cannot be used: {type(error).__name__}"
        raise StartError(message) from None
    return Keyless(verify.Verifier(trusted_root=root), models.Bundle.from_json)
