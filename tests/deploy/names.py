"""A name server that answers what stands in /etc/hosts at that moment, as the one that Docker gives its containers."""

import socket
import struct
from ipaddress import IPv4Address
from pathlib import Path

ADDRESS = "127.0.0.11"
A_RECORD = 1
ANSWER, UNKNOWN = 0x8180, 0x8183
"""Flags of a response: with a recursive server's answer, and that the name does not exist (RFC 1035 section 4.1.1)."""


def answer(question: bytes, hosts: str) -> bytes:
    """Returns the response to a message with one question, in the form of RFC 1035 section 4."""
    labels, place = [], 12
    while length := question[place]:
        labels.append(question[place + 1 : place + 1 + length].decode("ascii").lower())
        place += 1 + length
    end = place + 5
    (kind,) = struct.unpack_from(">H", question, place + 1)
    name = ".".join(labels)
    lines = [line.split() for line in hosts.splitlines()]
    found = [IPv4Address(line[0]).packed for line in lines if name in line[1:]]
    records = [struct.pack(">HHHIH", 0xC00C, A_RECORD, 1, 1, 4) + address for address in found if kind == A_RECORD]
    head = question[:2] + struct.pack(">HHHHH", ANSWER if found else UNKNOWN, 1, len(records), 0, 0)
    return head + question[12:end] + b"".join(records)


def main() -> None:
    """Answers for as long as the machine runs."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((ADDRESS, 53))
        while True:
            question, sender = server.recvfrom(4096)
            server.sendto(answer(question, Path("/etc/hosts").read_text(encoding="ascii")), sender)


if __name__ == "__main__":
    main()
