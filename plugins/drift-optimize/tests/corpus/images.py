"""The images, small ones first; each function makes one, and its name is the image's."""

import random
import tarfile
from collections.abc import Callable, Iterator

from .layouts import Image, Layer
from .tars import GNU, USTAR, Tar, header, sparse_old, sparse_pax

CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
"""What setcap writes for cap_net_raw=ep."""
IMAGES: dict[str, Callable[[], Image]] = {}
LARGE: dict[str, Callable[[], Image]] = {}
"""Those that take long, and are for the soak."""
ONLY_TAR = {"sparse_gnu", "contiguous"}
"""One layer with what tar reads and umoci, containerd and podman refuse: Go leaves these types to them."""


def names() -> Iterator[str]:
    """The images that are for every run, by name."""
    return iter(IMAGES)


def _image(make: Callable[[], Image]) -> Callable[[], Image]:
    IMAGES[make.__name__] = make
    return make


def _layers(*tars: Tar | bytes) -> Image:
    return Image(tuple(Layer(tar.end() if isinstance(tar, Tar) else tar) for tar in tars))


def _text(seed: int, size: int) -> bytes:
    return bytes(random.Random(seed).choices(b"abcdefghij \n", k=size))


def base_system() -> Tar:
    """A small system, on which other images stand."""
    tar = Tar().dir("./").dir("etc/").file("etc/passwd", b"root:x:0:0\n").file("etc/group", b"root:x:0:\n")
    tar.dir("usr/").dir("usr/bin/").file("usr/bin/sh", _text(1, 5000), mode=0o755).symlink("bin", "usr/bin")
    return tar.dir("tmp/", mode=0o1777).dir("var/").dir("var/log/").file("var/log/old", b"x" * 600)


@_image
def plain() -> Image:
    return _layers(base_system(), Tar().dir("etc/", mode=0o700).file("etc/passwd", b"changed\n", uid=5))


@_image
def empty_tars() -> Image:
    return _layers(Tar(), base_system(), b"", Tar().end(20), Tar())


@_image
def no_end_and_padding() -> Image:
    lower, upper = Tar().file("a", b"1"), Tar().file("b", b"2" * 700)
    return _layers(lower.end(0), upper.end(1), Tar().dir("c").end(), Tar().file("d").end(40))


@_image
def whiteouts() -> Image:
    lower = Tar().file("file1", b"1").dir("a").file("a/file2", b"2").dir("b").file("b/x").dir("c").file("c/file3")
    upper = Tar().gone("file1").dir("a").gone("a/file2").gone("b").file("file4", b"4").gone("nothing")
    again = Tar().file("file1", b"again").gone("file4").gone("a/never").gone("no/such")
    return _layers(lower, upper, again)


@_image
def whiteouts_beside_entries() -> Image:
    lower = Tar().file("a", b"old").dir("d").file("d/old").file("d/both", b"old").file("z", b"old")
    upper = Tar().file("a", b"new").gone("a").gone("d/both").file("d/both", b"new").file("d/more").gone("d/more")
    return _layers(lower, upper, Tar().gone("z").gone("d"), Tar().dir("d").file("d/last").file("z", b"z"))


@_image
def opaque_folders() -> Image:
    lower = (
        Tar().dir("a").dir("a/b").dir("a/b/c").file("a/b/c/bar", b"bar").file("a/x").dir("k", mode=0o711).file("k/x")
    )
    behind = Tar().dir("a").dir("a/b").dir("a/b/c").file("a/b/c/foo", b"foo").opaque("a").opaque("k")
    before = Tar().opaque("a/b").file("a/b/new").dir("n").opaque("n").file("n/x")
    return _layers(lower, behind, before)


@_image
def replaced_kinds() -> Image:
    lower = Tar().dir("d2f").file("d2f/x").file("f2d", b"f").symlink("s2d", "d2f").dir("d2s").file("d2s/y").fifo("p")
    upper = Tar().file("d2f", b"file").dir("f2d").file("f2d/in").dir("s2d").file("s2d/in").symlink("d2s", "f2d")
    third = Tar().dir("d2f").file("d2f/new").file("f2d", b"again").file("p", b"p").opaque("s2d").dir("s2d")
    return _layers(lower, upper, third)


@_image
def hardlinks() -> Image:
    lower = Tar().file("a", b"shared" * 100).link("b", "a").dir("d").link("d/c", "./a").symlink("s", "a").link("t", "s")
    return _layers(lower, Tar().file("e", b"two").link("f", "e").link("a2", "/e"))


@_image
def hardlinks_across_layers() -> Image:
    lower = Tar().dir("d").file("d/a", b"shared" * 100).link("d/b", "d/a").file("one", b"one").file("two", b"two")
    upper = Tar().link("up", "d/b").link("uno", "one").link("due", "two").link("tre", "due")
    third = Tar().gone("d/a").file("one", b"replaced").gone("two").link("again", "d/b")
    return _layers(lower, upper, third, Tar().gone("d").gone("due"))


@_image
def xattrs() -> Image:
    lower = Tar().file("ping", b"ping", mode=0o755, xattrs={"security.capability": CAPABILITY, "user.a": b"1"})
    lower.dir("d", xattrs={"user.d": b"dir", "user.utf": "ä".encode()}).file("f", xattrs={"user.empty": b""})
    upper = Tar().dir("d", xattrs={"user.e": b"\0\n=\xff"}).file("d/g", xattrs={"user.long": b"v" * 1000})
    return _layers(lower, upper.file("f", xattrs={"user.f": b"x"}).link("pong", "ping"))


@_image
def devices() -> Image:
    lower = Tar().dir("dev").device("dev/null", tarfile.CHRTYPE, 1, 3).device("dev/sda", tarfile.BLKTYPE, 8, 0)
    lower.fifo("dev/pipe", uid=3, mode=0o620).device("dev/big", tarfile.CHRTYPE, 4000, 1_000_000).fifo("old")
    return _layers(lower, Tar().device("dev/null", tarfile.CHRTYPE, 1, 5).link("dev/sdb", "dev/sda").gone("old"))


@_image
def long_names() -> Image:
    long, longer = "n" * 150, "/".join(["folder" * 12] * 5)
    gnu = Tar(GNU).file(long, b"gnu").symlink("s", "t" * 120).dir(longer).file(f"{longer}/{long}", b"x").file("é" * 90)
    pax = Tar().file("p" * 200, b"pax").symlink("q", "t" * 300).link("h" * 130, long).file("p" * 100).file("p" * 101)
    ustar = Tar(USTAR).file("u" * 90 + "/" + "v" * 90, b"ustar").dir("u" * 90 + "/" + "w" * 99)
    return _layers(gnu, pax, ustar, Tar().gone("p" * 200).gone(long[:140]))


@_image
def names_not_utf8() -> Image:
    lower = Tar().file(b"\xff\xfe", b"1").dir(b"caf\xe9").file(b"caf\xe9/\xa0", b"2").symlink("s", b"caf\xe9/\xa0")
    upper = (
        Tar(GNU).file(b"l\xf6ng" * 40, b"3").link(b"h\xe4rd", b"\xff\xfe").file("new\nline tab\t", b"4").file(" sp ")
    )
    return _layers(lower, upper, Tar().file(b"p\xe4x" * 50, b"5").raw(Tar().gone("caf").end(0)))


@_image
def modes() -> Image:
    tar = Tar().file("setuid", b"s", mode=0o4755).file("setgid", b"g", mode=0o2755).dir("sticky", mode=0o1777)
    tar.file("none", mode=0).dir("shut", mode=0o500).file("shut/in", b"x", mode=0o400).file("type", mode=0o100640)
    return _layers(tar, Tar().file("setuid", b"s2", mode=0o755).dir("sticky", mode=0o2770))


@_image
def owners() -> Image:
    tar = Tar().file("pax", b"1", uid=2_000_000_000, gid=3_000_000_000, uname="ü" * 20, gname="g" * 40)
    gnu = Tar(GNU).file("gnu", b"2", uid=4_000_000_000, gid=2_097_152, uname="user").dir("d", uid=2_097_151, gid=100)
    return _layers(tar, gnu)


@_image
def times() -> Image:
    tar = Tar().file("fraction", mtime=1_500_000_000.25).file("nine", pax={"mtime": "1500000000.123456789"})
    tar.file("old", mtime=-86_400).file("older", pax={"mtime": "-1000000000.5"}).file("zero", mtime=0)
    tar.dir("later", mtime=8_000_000_000.5).symlink("s", "zero", mtime=1.5).file("trailing", pax={"mtime": "7.500"})
    return _layers(tar, Tar(GNU).file("base256", mtime=-5).file("later/x"))


@_image
def symlinks() -> Image:
    tar = Tar().symlink("loop", "loop").symlink("a", "b").symlink("b", "a").symlink("abs", "/etc/passwd")
    tar.symlink("up", "../../../../etc").symlink("dangling", "no/where").dir("etc").symlink("etc/self", ".")
    return _layers(tar, Tar().symlink("a", "etc").gone("loop").file("abs", b"no link"))


PIECES = [(0, b"start..." * 64), (1 << 20, b"middle.." * 640), ((1 << 21) + 512, b"end")]
MANY = [(place * 4096, b"%04d" % place * 128) for place in range(60)]


@_image
def sparse() -> Image:
    lower = Tar().file("before", b"b")
    for version in ("0.0", "0.1", "1.0"):
        lower.raw(sparse_pax(f"pax{version}".encode(), 3 << 20, PIECES, version))
    lower.raw(sparse_pax(b"all" * 50, 60 * 4096, MANY, "1.0")).raw(sparse_pax(b"hole", 1 << 20, [], "1.0"))
    return _layers(lower, Tar().link("linked", "pax1.0").file("pax0.0", b"dense"), Tar().gone("pax1.0"))


@_image
def sparse_gnu() -> Image:
    lower = Tar().raw(sparse_old(b"old", 3 << 20, PIECES)).raw(sparse_old(b"many", 1 << 20, MANY)).file("after", b"a")
    return _layers(lower)


@_image
def contiguous() -> Image:
    return _layers(Tar().raw(header(b"file", b"7", 2, magic=b"ustar\x0000")).raw(b"ab".ljust(512, b"\0")))


@_image
def deep_folders() -> Image:
    path = "/".join(f"d{depth}" for depth in range(100))
    parts = path.split("/")
    tar = Tar()
    for depth in range(1, 101):
        tar.dir("/".join(parts[:depth]), mode=0o750)
    return _layers(tar.file(path + "/leaf", b"deep"), Tar().gone("/".join(parts[:90])), Tar().file(path + "/new"))


@_image
def strange_names() -> Image:
    lower = Tar().dir("./", mode=0o711).file("./a", b"1").file("/abs", b"2").file("x//y/./z", b"3").dir("e/./f/")
    return _layers(lower, Tar().file("e/../b", b"4").file("a/", b"no folder").dir("x/y/").gone("./abs"))


@_image
def duplicates() -> Image:
    lower = Tar().file("a", b"first").dir("d", mode=0o700).file("d/x").file("a", b"second", uid=7).dir("d", mode=0o755)
    return _layers(lower, Tar().file("b", b"1").link("c", "b").file("b", b"2").symlink("c2", "b").file("c2", b"3"))


@_image
def implied_folders() -> Image:
    lower = Tar().file("a/b/c", b"1").file("only/x", b"2").file("k/l/m/n", b"3")
    return _layers(lower, Tar().gone("only/x").gone("k/l/m"), Tar().dir("a/b", mode=0o700, uid=9).gone("a"), Tar())


@_image
def old_formats() -> Image:
    v7 = Tar().raw(header(b"v7", b"\0", 3)).raw(b"old".ljust(512, b"\0")).raw(header(b"folder/", b"\0", 0))
    return _layers(v7, Tar(GNU).file("gnu", b"g"), Tar(USTAR).file("ustar", b"u"))


@_image
def compressions() -> Image:
    tars = base_system().end(), Tar().file("more", _text(2, 20_000)).end(), Tar().gone("etc/group").end()
    return Image((Layer(tars[0], "members"), Layer(tars[1], "zstd"), Layer(tars[2], "none"), Layer(tars[1], "gzip")))


@_image
def same_diff_ids() -> Image:
    tar = base_system().end()
    return Image((Layer(tar, "gzip"), Layer(tar, "zstd"), Layer(Tar().gone("etc").end()), Layer(tar, "none")))


@_image
def wrong_history() -> Image:
    return Image(plain().layers, history=7)


@_image
def several_platforms() -> Image:
    arm = Image((Layer(base_system().end()), Layer(Tar().file("arm", b"arm").end())), "arm64")
    return Image(plain().layers, others=(arm,))


def _many(count: int) -> Image:
    lower, upper, third = Tar(USTAR), Tar(USTAR), Tar(USTAR)
    for number in range(count):
        if number % 100 == 0:
            lower.dir(f"many/{number // 100:04}")
        lower.file(f"many/{number // 100:04}/file{number:06}", b"%d" % number)
        if number % 10 == 0:
            upper.file(f"many/{number // 100:04}/file{number:06}", b"new")
        if number % 10 == 1:
            third.gone(f"many/{number // 100:04}/file{number:06}")
    return _layers(lower, upper, third)


@_image
def five_thousand_files() -> Image:
    return _many(5000)


def hundred_thousand_files() -> Image:
    return _many(100_000)


LARGE["hundred_thousand_files"] = hundred_thousand_files
