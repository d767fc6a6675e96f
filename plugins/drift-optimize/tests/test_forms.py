"""Each form holds the same tar, and says what is in it as the tools do that pull it."""

import base64
import gzip
import hashlib
import io
import json
import os
import random
import struct
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import zstandard
from drift_optimize.confined.child import packed
from drift_optimize.forms import media
from drift_optimize.forms.chunked import MANIFEST_CHECKSUM, MANIFEST_POSITION, TARSPLIT_POSITION
from drift_optimize.forms.estargz import CHUNK, TOC_DIGEST, TOC_NAME, UNPACKED_SIZE
from drift_optimize.forms.reading import Genuine, Guard
from drift_optimize.forms.refusal import Refused
from drift_optimize.forms.sampling import Sampler
from drift_optimize.forms.tape import cleaned
from fastcrc import crc64
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tools import tool

NAMES = ("gzip", "zstd", "zstd-chunked", "estargz", "tar")
INDEXED = ("zstd-chunked", "estargz")
Result = dict[str, Any]
Add = Callable[..., None]


def packed_by(name: str, data: bytes) -> bytes:
    """Packs as a stranger would."""
    if name == "tar":
        return data
    return gzip.compress(data, 1, mtime=0) if name == "gzip" else zstandard.ZstdCompressor(1).compress(data)


def made(data: bytes, name: str, level: int = 3, packing: media.Packing = "tar", ratio: int = 200) -> Result:
    """Packs a layer in this process, and returns the result with the bytes in ``blob`` and ``toc``."""
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    source = Genuine(io.BytesIO(data), digest, len(data))
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as table, tempfile.TemporaryFile() as spare:
        files = [out.fileno(), table.fileno(), spare.fileno()]
        job = {"form": {"name": name, "level": level, "threads": 0}, "files": files, "digest": digest}
        result = packed(job, source, packing, Guard(source, ratio, 1 << 30))
        for file in (out, table):
            file.seek(0)
        return result | {"blob": out.read(), "toc": table.read()}


def unpacked(name: str, blob: bytes) -> bytes:
    """Unpacks by the tool that users have."""
    command = {"gzip": "gzip", "estargz": "gzip", "zstd": "zstd", "zstd-chunked": "zstd"}.get(name)
    if command is None:
        return blob
    return subprocess.run([tool(command), "-dc"], input=blob, check=True, capture_output=True).stdout


def archive(format_: int, fill: Callable[[Add], None]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format_) as opened:

        def add(name: str, content: bytes = b"", **about: Any) -> None:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            for key, value in about.items():
                setattr(entry, key, value)
            opened.addfile(entry, io.BytesIO(content))

        fill(add)
    return file.getvalue()


def everything(add: Add) -> None:
    """Adds all that an image's layer usually has."""
    add("./", type=tarfile.DIRTYPE, mode=0o755)
    add("etc/", type=tarfile.DIRTYPE, mode=0o1777, uid=3, uname="daemon", gname="wheel")
    add("etc/.wh.gone")
    add("etc/passwd", b"root:x:0:0\n" * 500, mtime=1_700_000_000, uname="daemon", uid=3)
    add("etc/" + "long/" * 30 + "name", b"long", mode=0o4755)
    add("etc/link", type=tarfile.SYMTYPE, linkname="../" * 45 + "target")
    add("etc/hard", type=tarfile.LNKTYPE, linkname="etc/passwd")
    add("dev/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3)
    add("dev/disk", type=tarfile.BLKTYPE, devmajor=8)
    add("run/pipe", type=tarfile.FIFOTYPE)
    add("zeros", bytes(100_000), gid=2_000_000)
    add("large", random.Random(1).randbytes(128 * 1024) * 72)


def pax(add: Add) -> None:
    """Adds what only extended headers can say."""
    everything(add)
    headers = {"SCHILY.xattr.user.mime": "text/\N{SNOWMAN}", "SCHILY.xattr.security.capability": "\x01=\n"}
    add("caf\N{LATIN SMALL LETTER E WITH ACUTE}", b"x" * 513, pax_headers={**headers, "atime": "1.25", "ctime": "-2.5"})
    add("fraction", b"y", mtime=1_700_000_000.75)


def many(add: Add) -> None:
    for number in range(2000):
        add(f"d/{number:05}", str(number).encode() * (number % 7))


TARS = {
    "ustar": archive(tarfile.USTAR_FORMAT, lambda add: add("p" * 99 + "/" + "n" * 99, b"prefix")),
    "gnu": archive(tarfile.GNU_FORMAT, everything),
    "pax": archive(tarfile.PAX_FORMAT, pax),
    "many": archive(tarfile.PAX_FORMAT, many),
    "no entry": archive(tarfile.PAX_FORMAT, lambda _: None),
    "no byte": b"",
    "padding": archive(tarfile.PAX_FORMAT, everything) + bytes(3 << 20),
    "no end": archive(tarfile.PAX_FORMAT, lambda add: add("a", b"b" * 512))[:1024],
}
tars = pytest.mark.parametrize("data", TARS.values(), ids=TARS)


@pytest.mark.parametrize("name", NAMES)
@tars
def test_same_tar(name: str, data: bytes) -> None:
    result = made(data, name)
    assert unpacked(name, result["blob"]) == data
    assert result["diff_id"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert (result["digest"], result["size"]) == (
        f"sha256:{hashlib.sha256(result['blob']).hexdigest()}",
        len(result["blob"]),
    )
    with tarfile.open(fileobj=io.BytesIO(data or bytes(1024))) as opened:
        assert result["entries"] == len(opened.getmembers())


@pytest.mark.parametrize("name", NAMES)
def test_same_bytes_from_whatever_the_layer_was(name: str) -> None:
    data = TARS["pax"]
    first = made(data, name)
    for packing in ("tar", "gzip", "zstd"):
        assert made(packed_by(packing, data), name, packing=packing) == first
    members = packed_by("gzip", data[:1000]) + packed_by("gzip", b"") + packed_by("gzip", data[1000:])
    assert made(members, name, packing="gzip") == first
    skippable = b"\x5a\x2a\x4d\x18" + struct.pack("<I", 5) + b"hello"
    frames = (
        skippable + packed_by("zstd", data[:99]) + skippable + packed_by("zstd", b"") + packed_by("zstd", data[99:])
    )
    assert made(frames, name, packing="zstd") == first
    form: media.Packing = "tar" if name == "tar" else "gzip" if name in {"gzip", "estargz"} else "zstd"
    assert made(first["blob"], name, packing=form) == first


def test_no_time_and_no_name_in_gzip() -> None:
    for name in ("gzip", "estargz"):
        blob = made(TARS["gnu"], name)["blob"]
        assert blob[:4] == b"\x1f\x8b\x08\x00"
        assert blob[4:8] == bytes(4)


def test_zstd_has_a_checksum() -> None:
    for name in ("zstd", "zstd-chunked"):
        assert zstandard.get_frame_parameters(made(TARS["gnu"], name)["blob"]).has_checksum


# zstd:chunked ------------------------------------------------------------------------------------------------------


def frames(blob: bytes) -> bytes:
    return zstandard.ZstdDecompressor().stream_reader(blob, read_across_frames=True).read()


def tables(blob: bytes, footer: int = 64) -> tuple[dict[str, Any], bytes]:
    """Returns both tables by the footer, which before 2024 had only the first."""
    numbers = struct.unpack(f"<{footer // 8 - 1}Q", blob[-footer:-8])
    start, size, length = numbers[:3]
    table = frames(blob[start : start + size])
    assert len(table) == length
    if len(numbers) == 4:
        return json.loads(table), b""
    split = frames(blob[numbers[4] : numbers[4] + numbers[5]])
    assert len(split) == numbers[6]
    return json.loads(table), split


@tars
def test_chunked_each_file_by_itself(data: bytes) -> None:
    blob = made(data, "zstd-chunked")["blob"]
    table, _ = tables(blob)
    with tarfile.open(fileobj=io.BytesIO(data or bytes(1024))) as opened:
        members = opened.getmembers()
        assert [cleaned(member.name) for member in members] == [cleaned(entry["name"]) for entry in table["entries"]]
        for member, entry in zip(members, table["entries"], strict=True):
            assert entry.get("size", 0) == member.size
            if member.size:
                content = frames(blob[entry["offset"] : entry["endOffset"]])
                assert content == opened.extractfile(member).read()  # type: ignore[union-attr]
                assert entry["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"


@tars
def test_chunked_annotations(data: bytes) -> None:
    result = made(data, "zstd-chunked")
    blob, annotations = result["blob"], result["annotations"]
    start, size, length, kind = map(int, annotations[MANIFEST_POSITION].split(":"))
    assert kind == 1
    table = blob[start : start + size]
    assert annotations[MANIFEST_CHECKSUM] == f"sha256:{hashlib.sha256(table).hexdigest()}"
    assert len(frames(table)) == length
    split_start, split_size, split_length = map(int, annotations[TARSPLIT_POSITION].split(":"))
    split = blob[split_start : split_start + split_size]
    assert json.loads(frames(table))["tarSplitDigest"] == f"sha256:{hashlib.sha256(split).hexdigest()}"
    assert len(frames(split)) == split_length


@tars
def test_chunked_tar_split_makes_the_tar_again(data: bytes) -> None:
    blob = made(data, "zstd-chunked")["blob"]
    table, split = tables(blob)
    files = {entry["name"]: entry for entry in table["entries"]}
    again = b""
    for position, line in enumerate(map(json.loads, split.splitlines())):
        assert line["position"] == position
        payload = None if line["payload"] is None else base64.b64decode(line["payload"])
        if line["type"] == 2:
            again += payload or b""
        elif line.get("size"):
            content = frames(blob[files[line["name"]]["offset"] : files[line["name"]]["endOffset"]])
            assert payload == crc64.go_iso(content).to_bytes(8, "big")
            again += content
    assert again == data


def layout(folder: Path, data: bytes) -> None:
    """Writes an image of one layer, not packed."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(media_type: str, content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    layer = put(media.OCI, data)
    about = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}}
    config = put("application/vnd.oci.image.config.v1+json", json.dumps(about).encode())
    manifest_type = "application/vnd.oci.image.manifest.v1+json"
    manifest = {"schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": [layer]}
    index = {"schemaVersion": 2, "manifests": [put(manifest_type, json.dumps(manifest).encode())]}
    (folder / "index.json").write_text(json.dumps(index))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


@pytest.mark.parametrize("name", ["ustar", "gnu", "pax"])
def test_chunked_table_is_that_of_skopeo(name: str, tmp_path: Path) -> None:
    layout(tmp_path / "from", TARS[name])
    command = [tool("skopeo"), "copy", "--insecure-policy", "--dest-compress-format", "zstd:chunked"]
    command += ["--dest-compress", f"oci:{tmp_path / 'from'}", f"oci:{tmp_path / 'to'}:tag"]
    subprocess.run(command, check=True, capture_output=True)
    blob = next(
        content
        for path in (tmp_path / "to" / "blobs" / "sha256").iterdir()
        if (content := path.read_bytes()).startswith(b"\x28\xb5\x2f\xfd")
    )
    # Debian 12's writes the first version of the format, with a shorter footer.
    theirs, _ = tables(blob, 64 if blob.endswith(b"GNUlInUx") else 40)
    ours, _ = tables(made(TARS[name], "zstd-chunked")["blob"])
    # Where a file's bytes lie is the writer's choice; a time that is not known was once the year 1.
    places = {"offset", "endOffset", "chunkSize", "chunkOffset", "chunkDigest", "chunkType"}

    def comparable(entry: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in entry.items() if key not in places and value != "0001-01-01T00:00:00Z"}

    expected = [comparable(entry) for entry in theirs["entries"] if entry["type"] != "chunk"]
    assert [comparable(entry) for entry in ours["entries"]] == expected


# eStargz -----------------------------------------------------------------------------------------------------------


@tars
def test_estargz_each_part_by_itself(data: bytes) -> None:
    result = made(data, "estargz")
    with tarfile.open(fileobj=io.BytesIO(result["toc"])) as opened:
        assert opened.getnames() == [TOC_NAME]
        table = opened.extractfile(TOC_NAME).read()  # type: ignore[union-attr]
    assert result["annotations"] == {
        TOC_DIGEST: f"sha256:{hashlib.sha256(table).hexdigest()}",
        UNPACKED_SIZE: str(len(data)),
    }
    entries = json.loads(table)["entries"]
    with tarfile.open(fileobj=io.BytesIO(data or bytes(1024))) as opened:
        for member in opened.getmembers():
            parts = [entry for entry in entries if cleaned(entry["name"]) == cleaned(member.name)]
            content = b"".join(part_of(result["blob"], part, member.size) for part in parts if member.size)
            if member.isreg():
                assert content == opened.extractfile(member).read()  # type: ignore[union-attr]
                assert parts[0]["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
                assert len(parts) == max(1, -(-member.size // CHUNK))


def part_of(blob: bytes, part: dict[str, Any], size: int) -> bytes:
    """Reads as the snapshotter does: from the member that begins there, as many bytes as the part has."""
    wanted = part.get("chunkSize") or size - part.get("chunkOffset", 0)
    content = zlib.decompressobj(31).decompress(blob[part["offset"] :], wanted)
    assert part["chunkDigest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
    return content


def test_estargz_footer() -> None:
    footer = made(TARS["gnu"], "estargz")["blob"][-46:]
    assert footer[10:33] == b"\x15\0SG\x11\0STARGZEXTERNALTOC"
    assert gzip.decompress(footer) == b""


def test_estargz_table() -> None:
    with tarfile.open(fileobj=io.BytesIO(made(TARS["pax"], "estargz")["toc"])) as opened:
        entries = json.loads(opened.extractfile(TOC_NAME).read())["entries"]  # type: ignore[union-attr]
    of = {entry["name"]: entry for entry in reversed(entries)}
    assert of["etc/"] == {
        "name": "etc/", "type": "dir", "mode": 0o1777, "uid": 3, "userName": "daemon", "groupName": "wheel"
    }  # fmt: skip
    assert of["etc/hard"]["linkName"] == "etc/passwd"
    assert (of["dev/null"]["devMajor"], of["dev/null"]["devMinor"]) == (1, 3)
    assert of["fraction"]["modtime"] == "2023-11-14T22:13:21Z"
    assert base64.b64decode(of["caf\xe9"]["xattrs"]["security.capability"]) == b"\x01=\n"
    # The name of an owner is said once.
    assert "userName" not in of["etc/passwd"]


# What has no table -------------------------------------------------------------------------------------------------


def header(**about: Any) -> bytes:
    return archive(tarfile.GNU_FORMAT, lambda add: add(about.pop("name", "a"), **about))[:512]


def summed(block: bytes) -> bytes:
    total = sum(block[:148]) + sum(block[156:]) + 256
    return block[:148] + b"%06o\0 " % total + block[156:]


def pax_header(*records: bytes) -> bytes:
    content = b"".join(b"%d %b\n" % (len(record) + 4, record) for record in records)
    block = summed(header(name="x")[:124] + b"%011o\0" % len(content) + header(name="x")[136:156] + b"x" + bytes(355))
    return block + content.ljust(512, b"\0")


AMBIGUOUS = {
    "two of a name": header(name="a/b") + header(name="./a//b/") + bytes(1024),
    "global header": archive(tarfile.PAX_FORMAT, lambda add: add("a", type=b"g")),
    "unknown type": header(type=b"Z") + bytes(1024),
    "sparse": header(type=b"S") + bytes(1024),
    "no UTF-8": summed(b"\xff" + header()[1:]) + bytes(1024),
    "wrong checksum": b"b" + header()[1:] + bytes(1024),
    "cut in a file": archive(tarfile.GNU_FORMAT, lambda add: add("a", b"b" * 2000))[:1500],
    "cut in a header": archive(tarfile.GNU_FORMAT, lambda add: add("a", b"b" * 512))[:1100],
    "no name": summed(bytes(100) + header()[100:]) + bytes(1024),
    "a file as a folder": summed(b"a/".ljust(100, b"\0") + header()[100:156] + b"0" + header()[157:]) + bytes(1024),
    "entry behind the end": header() + bytes(512) + header(name="b") + bytes(1024),
    "folder with content": summed(header()[:124] + b"%011o\0" % 9 + header()[136:156] + b"5" + header()[157:]),
    "two pax headers": pax_header(b"path=b") + pax_header(b"path=c") + header() + bytes(1024),
    "broken pax header": pax_header(b"path") + header() + bytes(1024),
    "a pax header and no entry": pax_header(b"path=b") + bytes(1024),
    "pax sparse": pax_header(b"GNU.sparse.major=1") + header() + bytes(1024),
    "pax size": pax_header(b"size=+5") + header() + bytes(1024),
    "not a tar": b"text " * 1000,
}


@pytest.mark.parametrize("name", INDEXED)
@pytest.mark.parametrize("data", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_what_could_be_read_in_two_ways_has_no_table(name: str, data: bytes) -> None:
    with pytest.raises(Refused) as refused:
        made(data, name)
    assert refused.value.kind == "unsupported"
    assert unpacked("zstd", made(data, "zstd")["blob"]) == data


def test_estargz_hard_links_and_own_name() -> None:
    def link(add: Add) -> None:
        add("a", type=tarfile.LNKTYPE, linkname="b")

    for data in (archive(tarfile.GNU_FORMAT, link), archive(tarfile.GNU_FORMAT, lambda add: add(f"./{TOC_NAME}"))):
        with pytest.raises(Refused):
            made(data, "estargz")
        made(data, "zstd-chunked")


def test_a_sparse_file_of_gnu_tar(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        for place in range(40):
            file.seek(place * 200_000)
            file.write(b"x" * 5000)
    for format_ in ("gnu", "pax"):
        command = [tool("tar"), "-C", str(tmp_path), "--sparse", f"--format={format_}", "-cf-", "sparse"]
        data = subprocess.run(command, check=True, capture_output=True).stdout
        result = made(data, "gzip")
        assert (result["entries"], unpacked("gzip", result["blob"])) == (1, data)
        for name in INDEXED:
            with pytest.raises(Refused):
                made(data, name)


# Layers that are damaged, or meant to do harm ----------------------------------------------------------------------


def refusal(data: bytes, packing: media.Packing, **about: Any) -> str:
    with pytest.raises(Refused) as refused:
        made(data, "tar", packing=packing, **about)
    return refused.value.kind


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
def test_cut_at_every_byte(packing: media.Packing) -> None:
    data = packed_by(packing, b"one") + packed_by(packing, b"two")
    whole = len(packed_by(packing, b"one"))
    for end in range(len(data)):
        if end == whole:
            assert made(data[:end], "tar", packing=packing)["blob"] == b"one"
        else:
            assert refusal(data[:end], packing) == "damaged"
    for behind in (b"\0", b"garbage", data[:4]):
        assert refusal(data + behind, packing) == "damaged"


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["gzip", "zstd"]), st.data())
def test_a_bit_that_is_wrong(packing: media.Packing, draw: st.DataObject) -> None:
    tar = TARS["gnu"][:30_000]
    data = bytearray(packed_by(packing, tar))
    place = draw.draw(st.integers(0, len(data) - 1))
    data[place] ^= 1 << draw.draw(st.integers(0, 7))
    try:
        result = made(bytes(data), "tar", packing=packing)
    except Refused as refused:
        assert refused.kind in {"damaged", "unsupported", "bomb"}  # noqa: PT017
    else:
        # Parts of headers say nothing of the content, and zstd was told to write no checksum.
        assert packing == "zstd" or result["blob"] == tar


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["gzip", "zstd", "tar"]), st.sampled_from(INDEXED), st.binary(max_size=3000))
def test_any_bytes(packing: media.Packing, name: str, data: bytes) -> None:
    starts = {"gzip": b"\x1f\x8b\x08\x00", "zstd": b"\x28\xb5\x2f\xfd", "tar": b""}
    for content in (data, starts[packing] + data):
        with suppress(Refused):
            assert made(content, name, packing=packing)["entries"] is not None


def test_not_what_the_descriptor_says() -> None:
    good = hashlib.sha256(b"abc").hexdigest()
    for digest, size in ((f"sha256:{'0' * 64}", 3), (f"sha256:{good}", 4), (f"sha256:{good}", 2), ("md5:abc", 3)):
        with pytest.raises(Refused):
            read_all(digest, size)


def read_all(digest: str, size: int) -> None:
    source = Genuine(io.BytesIO(b"abc"), digest, size)
    while source.read(10):
        pass
    source.check()


def rle(blocks: int) -> bytes:
    """Returns zstd of blocks of 128 KiB zeros, each in four bytes."""
    body = b"".join(struct.pack("<I", (131072 << 3) | 2)[:3] + b"\0" for _ in range(blocks))
    return b"\x28\xb5\x2f\xfd\x00\x38" + body + b"\x01\x00\x00"


def test_bombs() -> None:
    assert unpacked("zstd", rle(2)) == bytes(2 << 17)
    assert refusal(rle(1 << 12), "zstd") == "bomb"
    assert refusal(gzip.compress(bytes(1 << 20), 9) * 100, "gzip") == "bomb"
    assert refusal(packed_by("gzip", bytes(5 << 20)), "gzip", ratio=100) == "bomb"
    assert made(packed_by("gzip", bytes(1 << 20)) * 4, "tar", packing="gzip")["size"] == 4 << 20


def test_a_window_that_is_too_large() -> None:
    for header_ in (b"\x00\x98", b"\xe0" + struct.pack("<Q", 1 << 40)):
        assert refusal(b"\x28\xb5\x2f\xfd" + header_ + b"\x01\x00\x00", "zstd") == "unsupported"
    assert refusal(b"\x28\xb5\x2f\xfd\x01\x38\x05\x01\x00\x00", "zstd") == "unsupported"


# Any tar -----------------------------------------------------------------------------------------------------------

paths = st.lists(
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="/\0"), min_size=1, max_size=40),
    min_size=1,
    max_size=5,
).map("/".join)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    st.dictionaries(paths, st.tuples(st.binary(max_size=1500), st.integers(0, 1 << 40), st.integers(0, 1 << 33))),
)
def test_any_tar(format_: int, files: dict[str, tuple[bytes, int, int]]) -> None:
    def fill(add: Add) -> None:
        for name, (content, mtime, uid) in files.items():
            add(name, content, mtime=min(mtime, 250_000_000_000), uid=uid)

    data = archive(format_, fill)
    for name in INDEXED:
        try:
            result = made(data, name)
        except Refused as refused:
            assert refused.kind == "unsupported"  # noqa: PT017
            names = [cleaned(name) for name in files]
            assert len(set(names)) < len(names) or "" in names or "stargz.index.json" in names
        else:
            assert unpacked("tar", gzip_or_zstd(name, result["blob"])) == data
            assert result["entries"] == len(files)


def gzip_or_zstd(name: str, blob: bytes) -> bytes:
    return gzip.decompress(blob) if name == "estargz" else frames(blob)


# The rest ----------------------------------------------------------------------------------------------------------


def test_entropy() -> None:
    def of(data: bytes) -> float:
        sampler = Sampler()
        for start in range(0, len(data), 1 << 18):
            sampler.add(data[start : start + (1 << 18)])
        return sampler.entropy

    assert of(b"") == 1
    assert of(b"a") == 0
    assert of(bytes(1 << 20)) == 0
    assert of(os.urandom(4 << 20)) > 0.99
    assert 0.4 < of(b"the same words again and again " * 40_000) < 0.6


def test_media_types() -> None:
    assert media.packing_of("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip") is None
    assert media.packing_of("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip") is None
    assert media.packing_of(f"{media.OCI}+gzip+encrypted") is None
    assert media.packing_of(f"{media.DOCKER}.gzip") == "gzip"
    assert media.repacked(f"{media.DOCKER}.gzip", "zstd", annotated=False) == f"{media.DOCKER}.zstd"
    assert media.repacked(f"{media.DOCKER}.gzip", "zstd", annotated=True) == f"{media.OCI}+zstd"
    assert media.repacked(media.OCI, "gzip", annotated=False) == f"{media.OCI}+gzip"
