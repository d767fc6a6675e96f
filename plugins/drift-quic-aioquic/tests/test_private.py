"""What is private in aioquic and used here is still there: of another version this names what is gone."""

import ast
import ssl
from pathlib import Path

import pytest
from aioquic.h3.connection import H3Connection
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet_builder import QuicPacketBuilder
from drift_quic_aioquic import aioquic_session
from drift_quic_aioquic.aioquic_session import PRIVATE


@pytest.fixture(scope="module")
def objects() -> dict[str, object]:
    connection = QuicConnection(configuration=QuicConfiguration(verify_mode=ssl.CERT_NONE, alpn_protocols=["h3"]))
    connection.connect(("192.0.2.1", 443), 0.0)
    http = H3Connection(connection)
    stream = connection._streams[2]
    return {
        "connection": connection,
        "builder": QuicPacketBuilder(
            host_cid=bytes(8), peer_cid=bytes(8), version=1, is_client=False, max_datagram_size=1200
        ),
        "recovery": connection._loss,
        "sender": stream.sender,
        "h3": http,
        "tls": connection.tls,
        "crypto": connection._cryptos_initial[1],
        "aead": connection._cryptos_initial[1].send.aead,
        "protection": connection._cryptos_initial[1].send.hp,
    }


@pytest.mark.parametrize(("name", "attribute"), [(name, one) for name in PRIVATE for one in PRIVATE[name]])
def test_it_is_there(objects: dict[str, object], name: str, attribute: str) -> None:
    assert hasattr(objects[name], attribute), f"{name}.{attribute} is gone from aioquic"


def test_nothing_else_is_private() -> None:
    """Every private attribute in the module is in the list, so that the test above says all."""
    tree = ast.parse(Path(aioquic_session.__file__).read_text())
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
    listed = {one for names in PRIVATE.values() for one in names}
    assert private - own <= listed
