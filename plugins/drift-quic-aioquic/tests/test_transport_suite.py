"""The kit's rules of every transport, which speak HTTP/1.1: through a gateway of quic-go's to this one.

What they find is what a client gets that has such a gateway near it. Rules of an address of TCP, or of TLS over it, are
about the gateway; test_endpoint.py has those of UDP.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from drift_quic_aioquic.config import BACKENDS, TransportConfig
from drift_quic_aioquic.transport import QuicTransport

from drift_core.api import AsgiApp, Records, ServerSettings, Transport
from drift_core.conformance import services
from drift_core.conformance.suites import transport as suite
from drift_core.conformance.suites.transport import MIB, OpenTransport, Served

from .conftest import HOST, free_port, needed, write_certificate
from .gateway_process import command


class Behind:
    """The transport with a gateway before it, which stops as it does."""

    def __init__(self, transport: QuicTransport, ca_file: str, port: int, address: str) -> None:
        self._transport = transport
        self._command = command(ca_file, port, "-listen", address)

    async def serve(self, app: AsgiApp, ready: Callable[[], None]) -> None:
        """Serves until cancelled."""
        listening = asyncio.Event()
        serving = asyncio.create_task(self._transport.serve(app, listening.set))
        await listening.wait()
        gateway = await asyncio.create_subprocess_exec(*self._command, stdout=asyncio.subprocess.PIPE)
        try:
            assert gateway.stdout is not None
            assert (await gateway.stdout.readline()).startswith(b"listening")
            ready()
            # To wait for the task itself would be to be cancelled only after it.
            await asyncio.wait([serving])
        finally:
            gateway.send_signal(signal.SIGTERM)
            serving.cancel()
            # Whoever asks again for a stop does not cut this short: else the gateway would stay.
            while not serving.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([serving])
            # Its clients hear the end of what was cut.
            await asyncio.sleep(0.05)
            with suppress(ProcessLookupError):
                gateway.kill()
            await gateway.wait()


def of_the_gateway(reason: str) -> pytest.MarkDecorator:
    """Says which rule cannot hold through a gateway, and why; most would have to wait for what never comes."""
    return pytest.mark.xfail(reason=reason, run=False)


class ThroughAGateway(suite.TransportSuite):
    large = 24 * MIB
    idle = 200

    @pytest.fixture(autouse=True)
    def _less_in_flight(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Less than the rules allow, so that the windows of QUIC show and not only the buffers of TCP."""
        monkeypatch.setattr(suite, "IN_FLIGHT", 20 * MIB)

    @pytest.fixture
    def certificate(self) -> None:  # type: ignore[override]
        """None for the gateway, whose TLS is not in question: that of the transport is in every test."""

    @pytest.fixture(params=BACKENDS)
    def open_transport(self, records: Records, tmp_path: Path, request: pytest.FixtureRequest) -> OpenTransport:
        files = write_certificate(tmp_path)

        @asynccontextmanager
        async def open_(settings: ServerSettings) -> AsyncIterator[Transport]:
            port = free_port()
            given = {"cert_path": str(files[0]), "key_path": str(files[1]), "backend": needed(request.param)}
            config = TransportConfig(enabled=True, bind_addr=f"{HOST}:{port}", **given)
            transport = QuicTransport(config, services("quic", settings, records=records))
            yield Behind(transport, str(files[0]), port, settings.bind_addr)

        return open_

    @of_the_gateway("what comes by QUIC is https")
    async def test_scope(self, served: Served) -> None:
        """`test_http3.py` looks at all of the scope."""

    @of_the_gateway("it takes the request back before it has sent any of it, so that there is nothing to tell")
    async def test_body_cut_short(self, served: Served) -> None:
        """`test_http3.test_a_sender_that_leaves` breaks a body off that has begun."""

    @of_the_gateway("it asks for the body before it knows whether that is wanted")
    async def test_refusal_without_continue(self, served: Served) -> None:
        """`test_http3.test_a_client_that_waits_to_be_asked_for_the_body` does not."""

    @of_the_gateway("it closes the TCP connection of a client that goes on sending what nobody reads")
    async def test_refusal_is_heard(self, served: Served) -> None:
        """`test_http3.test_a_refused_upload_is_heard` hears it by QUIC."""

    @of_the_gateway("it refuses a coding with 501 and malformed heads by itself: the transport sees none of them")
    async def test_malformed(self, served: Served) -> None:
        """`test_http3.test_what_is_refused` has those of HTTP/3."""

    @of_the_gateway("the address is of the gateway's TCP; test_endpoint.py has that of UDP")
    async def test_port_in_use(self, served: Served) -> None:
        """There, it is a clear error."""

    @of_the_gateway("the address is of the gateway's TCP; test_endpoint.py has those of UDP")
    async def test_bad_address(self, served: Served) -> None:
        """There, it is a clear error."""


@pytest.mark.soak
class TestThroughAGateway(ThroughAGateway):
    """All of the rules."""


SHORT = frozenset(
    {
        "test_get",
        "test_head",
        "test_partial_content",
        "test_keep_alive",
        "test_upload",
        "test_early_answer",
        "test_reader_leaves",
        "test_broken_answer",
        "test_failing_application",
        "test_drain",
        "test_serves_again",
    }
)
"""Rules of what a client gets; `test_http3.py` has those of slow and of many clients without a gateway."""


class TestSomeThroughAGateway(ThroughAGateway):
    """The others are not collected, which `TestThroughAGateway` has."""

    large = 4 * MIB


for _name in {one for one in dir(suite.TransportSuite) if one.startswith("test_")} - SHORT:
    setattr(TestSomeThroughAGateway, _name, None)
