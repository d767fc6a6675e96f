"""What transports need of the files of ``[tls]``: that they can be used, how, and that a renewed one is noticed."""

import asyncio
import ssl
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from prometheus_client import Counter, Gauge

from drift_core.errors import StartError
from drift_core.file_state import file_states
from drift_core.protocols.drivers import Services
from drift_core.protocols.transport import ServerSettings

LOOK_SECONDS: Final = 5.0
"""How often files are looked at that somebody may have renewed."""

SUITES: Final = "@SECLEVEL=2:ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2 those with forward secrecy and authenticated encryption (RFC 9325 section 4.2); TLS 1.3 has no others."""

TOO_OPEN: Final = stat.S_IWGRP | stat.S_IROTH | stat.S_IWOTH
"""What the file of a key should permit nobody; to read it is left to its group, such as that of the service."""


def certificate_files(settings: ServerSettings) -> tuple[Path, Path] | None:
    """Returns certificate and key, or None without TLS.

    Raises:
        StartError: a file is missing, unreadable, encrypted or of no kind that OpenSSL knows, or they do not match.
    """
    if settings.cert_file is None and settings.key_file is None:
        return None
    return _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), settings)


def tls_context(settings: ServerSettings, protocols: Sequence[str]) -> ssl.SSLContext | None:
    """Returns how TLS is spoken here, or None without TLS; ``protocols`` are those of ALPN, such as ``http/1.1``.

    TLS 1.2 or newer, with forward secrecy and authenticated encryption, neither compression nor renegotiation. Reads
    files, which takes milliseconds: once connections are served, in a thread.

    Raises:
        StartError: the files of ``[tls]`` cannot be used, see `certificate_files`.
    """
    if settings.cert_file is None and settings.key_file is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_ciphers(SUITES)
    context.set_alpn_protocols(list(protocols))
    _load(context, settings)
    if settings.client_ca_file is not None:
        # Whether a client needs a certificate is the guard's to say: another may log in by a password.
        context.verify_mode = ssl.CERT_OPTIONAL
        try:
            context.load_verify_locations(settings.client_ca_file)
        except OSError as error:
            message = f"tls.client_ca_file {settings.client_ca_file} cannot be used: {error}"
            raise StartError(message) from error
    return context


def _load(context: ssl.SSLContext, settings: ServerSettings) -> tuple[Path, Path]:
    if settings.cert_file is None or settings.key_file is None:
        message = "tls.cert_file and tls.key_file belong together; one of them is not set"
        raise StartError(message)
    certificate, key = Path(settings.cert_file), Path(settings.key_file)
    for name, path in (("tls.cert_file", certificate), ("tls.key_file", key)):
        try:
            path.read_bytes()
        except OSError as error:
            message = f"{name}: cannot read {path}: {error.strerror}"
            raise StartError(message) from error
    try:
        # Without a callback OpenSSL asks the terminal for the password of an encrypted key.
        context.load_cert_chain(certificate, key, password=lambda: "")
    except OSError as error:
        # `ssl.SSLError` is one; a file that somebody has just taken away is another.
        message = f"tls.cert_file {certificate} and tls.key_file {key} cannot be used: {error}"
        raise StartError(message) from error
    return certificate, key


class Renewal:
    """The files of ``[tls]`` of one listener: notices when they are others, and measures what serves.

    Made before the files are read, so that nothing is missed; without TLS it waits for ever. For tasks of one loop.
    Workers count together: ``drift_tls_certificate_expiry_seconds`` is when the first of the certificates that serve
    on a listener expires, in seconds since the epoch, and ``drift_tls_reload_failures`` how often a worker could not
    use new files.
    """

    def __init__(self, services: Services) -> None:
        settings = services.server
        self._listener = settings.bind_addr
        self._certificate, self._key = settings.cert_file, settings.key_file
        files = (settings.cert_file, settings.key_file, settings.client_ca_file)
        self._files = [file for file in files if file is not None]
        self._seen = file_states(self._files)
        self._log = services.log
        # What is true of a file needs to be said once.
        self._speaks = settings.worker == 0
        if self._files:
            self._expiry = Gauge(
                "drift_tls_certificate_expiry_seconds",
                "When the certificate expires that serves, in seconds since the epoch.",
                ["listener"],
                registry=services.metrics,
                multiprocess_mode="livemin",
            ).labels(self._listener)
            self._failures = Counter(
                "drift_tls_reload_failures",
                "Times that new files of TLS could not be used, and the old ones served on.",
                ["listener"],
                registry=services.metrics,
            ).labels(self._listener)

    def serves(self) -> None:
        """Says that what the files have now is what serves: measures it, and looks at who may read the key."""
        if self._certificate is None or self._key is None:
            return
        # A command that lists plugins does not need it.
        from cryptography import x509  # noqa: PLC0415

        try:
            leaf = x509.load_pem_x509_certificates(Path(self._certificate).read_bytes())[0]
            mode = Path(self._key).stat().st_mode
        except (OSError, ValueError) as error:
            self._log.warning("nobody knows when the certificate expires", listener=self._listener, reason=str(error))
            return
        self._expiry.set(leaf.not_valid_after_utc.timestamp())
        if mode & TOO_OPEN and self._speaks:
            said = "others than its owner and its group may read the key, or others than its owner write it"
            self._log.warning(said, file=self._key, mode=f"{stat.S_IMODE(mode):04o}")

    async def changed(self) -> None:
        """Returns when the files are others than before; one in the middle of a change is one."""
        if not self._files:
            await asyncio.get_running_loop().create_future()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            before, self._seen = self._seen, await asyncio.to_thread(file_states, self._files)
            if before != self._seen:
                return

    def renewed(self) -> None:
        """Says that new connections get what the files have now."""
        self._log.info("a new certificate serves", listener=self._listener)
        self.serves()

    def refused(self, error: StartError) -> None:
        """Says that new files could not be used; the old ones serve on."""
        self._failures.inc()
        self._log.error(
            "the new certificate cannot be used, the old one serves on", listener=self._listener, reason=str(error)
        )
