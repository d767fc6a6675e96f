"""What is private in aioquic and qh3 and used here is still there: of another version this names what is gone."""

import ast
import ssl
from pathlib import Path
from types import ModuleType

import pytest
from aioquic.h3.connection import H3Connection
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet_builder import QuicPacketBuilder
from drift_quic_aioquic import aioquic_session, http3, qh3_session
from qh3._hazmat import QuicConnectionCore
from qh3.quic import configuration as qh3_configuration
from qh3.quic import connection as qh3_connection

OF_A_SESSION = {"_happened", "_http", "_kinds", "_of_stream", "_quic", "_took"}
"""What a session of ours has from its base."""

MODULES: dict[str, ModuleType] = {"aioquic": aioquic_session, "http3": http3, "qh3": qh3_session}


@pytest.fixture(scope="module")
def objects() -> dict[str, dict[str, object]]:
    connection = QuicConnection(configuration=QuicConfiguration(verify_mode=ssl.CERT_NONE, alpn_protocols=["h3"]))
    connection.connect(("192.0.2.1", 443), 0.0)
    http = H3Connection(connection)
    stream = connection._streams[2]
    aioquic = {
        "connection": connection,
        "builder": QuicPacketBuilder(
            host_cid=bytes(8), peer_cid=bytes(8), version=1, is_client=False, max_datagram_size=1200
        ),
        "recovery": connection._loss,
        "sender": stream.sender,
        "tls": connection.tls,
        "crypto": connection._cryptos_initial[1],
        "aead": connection._cryptos_initial[1].send.aead,
        "protection": connection._cryptos_initial[1].send.hp,
    }
    qh3 = {
        "connection": qh3_connection.QuicConnection(configuration=qh3_configuration.QuicConfiguration()),
        "core": QuicConnectionCore,
    }
    return {"aioquic": aioquic, "http3": {"h3": http}, "qh3": qh3}


@pytest.mark.parametrize(
    ("module", "name", "attribute"),
    [(key, name, one) for key, module in MODULES.items() for name in module.PRIVATE for one in module.PRIVATE[name]],
)
def test_it_is_there(objects: dict[str, dict[str, object]], module: str, name: str, attribute: str) -> None:
    assert hasattr(objects[module][name], attribute), f"{name}.{attribute} is gone"


@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
def test_nothing_else_is_private(module: ModuleType) -> None:
    """Every private attribute in the module is in the list, so that the test above says all."""
    tree = ast.parse(Path(str(module.__file__)).read_text())
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    own |= {
        target.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self"
    }
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    private = {name for name in used if name.startswith("_") and not name.startswith("__")}
    listed = {one for names in module.PRIVATE.values() for one in names}
    assert private - own - OF_A_SESSION <= listed
