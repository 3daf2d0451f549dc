"""Layers of our own that unpackers find tricky, beside ../shared/layers: for each room's tests the same.

Each is a list of layers, each layer a list of entries as `make.archive` takes them, or an archive's bytes.
"""

from __future__ import annotations

from typing import Any

from tests.layer.make import T
from tests.test_tar import header, member, pax

ACL = bytes.fromhex("0200000001000700ffffffff04000500ffffffff20000500ffffffff")
SIZED = ((b"l", b"2"), (b"d", b"5"), (b"p", b"6"), (b"e/", b"\0"))
CAP2 = bytes.fromhex("0100000200040000000000000000000000000000")
CAP3 = bytes.fromhex("010000030004000000000000000000000000000000000000")


def d(name: str, **more: Any) -> dict[str, Any]:
    return {"kind": "d", "name": name, **more}


def f(name: str | bytes, data: bytes = b"x", **more: Any) -> dict[str, Any]:
    return {"name": name, "data": data, **more}


def one(data: bytes, *records: tuple[str, str]) -> list[bytes]:
    return [(pax(*records) if records else b"") + data + bytes(1024)]


# umoci makes the same of these
AGREED: dict[str, list[Any]] = {
    "opaque over a link to a directory": [["r/", "r/a", "l>r"], ["l/.wh..wh..opq", "l/b"]],
    "opaque in a directory that replaces a link": [["r/", "r/a", "l>r"], ["l/", "l/.wh..wh..opq", "l/b"]],
    "whiteout of a link to a directory": [["r/", "r/a", "l>r"], [".wh.l"]],
    "whiteout through a link": [["r/", "r/a", "r/b", "l>r"], ["l/.wh.a"]],
    "whiteout after its directory": [["d/", "d/a", "d/b"], ["d/", "d/c", ".wh.d"]],
    "whiteout, then a file for the directory": [["d/", "d/a"], [".wh.d", "d"]],
    "whiteout after the same file": [["f"], [("f", b"new"), ".wh.f"]],
    "directory over a link": [["r/", "r/a", "l>r"], ["l/", "l/b"]],
    "directory over a link to nowhere": [["l>nowhere"], ["l/", "l/b"]],
    "a name through a link to nowhere": [["l>nowhere"], ["l/b"]],
    "file over directory": [["d/", "d/a", "d/e/", "d/e/f"], [("d", b"file")]],
    "link over directory": [["d/", "d/a"], ["d>x"]],
    "hard link into a lower layer": [["a"], ["b=a"]],
    "that is then replaced": [["a"], ["b=a", ("a", b"new")]],
    "that was replaced before": [["a"], [("a", b"new"), "b=a"]],
    "hard link to a lower link": [["t", "l>t"], ["h=l"]],
    "hard link to a directory": [["d/", "h=d"]],
    "hard link through a lower link": [["d/", "d/f", "l>d"], ["h=l/f"]],
    "hard link to what a later whiteout takes": [["a"], ["b=a", ".wh.a"]],
    "hard link to nothing": [["a=missing"]],
    "hard link to itself, which is nothing": [["a=a"]],
    "hard links in a chain": [["a"], ["b=a", "c=b", "d/", "d/e=c"]],
    "hard link to a name that is then another file": [["a", "b=a", ("a", b"2nd")]],
    "hard link over a file": [["a", "b"], ["b=a"]],
    "hard link with dots": [["d/", "d/f", "d/h=d/../d/f"]],
    # what containerd and Docker try
    "a name through a link that leads out and back": [["etc/", "dummy/", "l>/dummy/../etc", "l/f"]],
    "a name through two links": [["etc/", "dummy/", "dummy/etc>/etc", "l>dummy/etc", "l/f"]],
    "a file emptied through a link": [["etc/", "etc/f", "l>/etc", ("l/f", b"")]],
    "hard link through a link that leads out": [["etc/", "etc/f", "b/", "b/d>../b/../../etc", "b/h=/b/d/f"]],
    "hard link with many dots": [["etc/", "etc/f", "h=../../../etc/f"]],
    "a link whose name ends in dots": [["etc/", "etc/f", "l/sub/..>/etc/", "l/h=/etc/f"]],
    "link over a lower directory, and a name through it": [["etc/", "etc/f", "l/"], ["l>/etc", "l/h=/etc/f"]],
    "directory over a lower link, and a hard link in it": [["etc/", "etc/f", "l>/etc"], ["l/", "l/h=/etc/f"]],
    "directory over a lower link through which a hard link is": [["etc/", "etc/f", "l>etc", "l/h=/etc/f"], ["l/", ("l/h", b"other")]],
    "whiteout through a link to nowhere": [["etc/", "etc/f", "l>/dne"], ["l/.wh.etc"]],
    "whiteout with dots": [["etc/", "etc/f"], ["dne/../.wh.etc"]],
    "hard link to a link before what that leads to": [["etc/", "l>/etc/f", "h=l", "etc/f"]],
    "whiteouts of names with dots, and an opaque root": [
        [".baz", "bar/", "bar/bax", "bar/bay/", "baz", "foo/", "foo/.abc", "foo/.bcd/", "foo/.bcd/a", "foo/cde/", "foo/cde/def", "foobar"],
        [".bay", ".wh.baz", "foo/", "foo/.bce", "foo/.wh..wh..opq", "foo/cde/", "foo/cde/efg"],
        [".bay", ".wh..baz", ".wh.foobar", "foo/", "foo/.abc", "foo/.wh.cde", "bar/"],
    ],
    "an opaque root": [["a", "d/", "d/b"], [".abc", ".wh..wh..opq", "d/", "d/c"]],
    "a directory twice": [[d("d", mode=0o700, uid=1), "d/a", d("d", uid=2)]],
    "a name of every type": [["x", "x/", "x/y", "x>z"]],
    "file, directory, file": [["x", "x/", "x/y", ("x", b"end")]],
    "into a read-only directory": [[d("d", mode=0o555), "d/a"], ["d/b"]],
    "sticky and set-id bits": [[d("d", mode=0o3777, gid=5), f("d/s", mode=0o6755, uid=3, gid=4)]],
    "set-user-ID and a capability": [[f("f", mode=0o4755, uid=7, xattrs={b"security.capability": CAP2})]],
    "a capability of a namespace": [[f("f", mode=0o755, xattrs={b"security.capability": CAP3})]],
    "attributes of a directory are taken away": [[d("d", xattrs={b"user.a": b"1"}), "d/x"], [d("d"), "d/y"]],
    "and replaced": [[d("d", xattrs={b"user.a": b"1"})], [d("d", xattrs={b"user.b": b"2"})]],
    "an attribute with zero bytes": [[f("f", xattrs={b"user.e": b"a\0b\n=x"})]],
    "a label of SELinux": [[f("f", xattrs={b"security.selinux": b"system_u:object_r:x:s0\0"})]],
    "an attribute of a link": [[{"kind": "l", "name": "l", "link": "x", "xattrs": {b"trusted.t": b"1"}}]],
    "fifo and devices": [[
        {"kind": "p", "name": "p", "mode": 0o622}, {"kind": "c", "name": "c", "mode": 0o666, "device": (1, 3)},
        {"kind": "b", "name": "b", "mode": 0o660, "device": (7, 300), "gid": 6},
    ]],
    "parts of seconds": [[f("f", mtime=T + 123456789), d("d", mtime=5), {"kind": "l", "name": "l", "link": "f", "mtime": 7_000_000_001}]],
    "before 1970": [[f("f", mtime=-1_500_000_000), f("g", mtime=-5_000_000_000_000_000)]],
    "whiteout in an implied directory": [[d("d", mode=0o711, uid=9), "d/a", "d/b"], ["d/.wh.a"]],
    "whiteout in a missing directory": [["x"], ["d/e/.wh.a", "y"]],
    "opaque in a missing directory": [["x"], ["d/.wh..wh..opq", "y"]],
    "opaque, a directory in it again": [["d/", "d/e/", "d/e/a", "d/f"], ["d/", "d/.wh..wh..opq", "d/e/", "d/e/b"]],
    "opaque on a file": [["d"], ["d/.wh..wh..opq"]],
    "opaque between layers": [["d/", "d/a"], ["d/b"], ["d/.wh..wh..opq", "d/c"], ["d/d"]],
    "removed, and there again": [["d/", "d/a"], [".wh.d"], ["d/", "d/b"]],
    "removed, and only implied again": [[d("d", mode=0o700, uid=5), "d/a"], [".wh.d"], ["d/b"]],
    "removed, and what is in it": [["d/", "d/a", "x"], [".wh.d", "d/.wh.a"]],
    "what is in it removed, and then it": [["d/", "d/a", "x"], ["d/.wh.a", ".wh.d"]],
    "removed, and opaque": [["d/", "d/a", "x"], [".wh.d", "d/.wh..wh..opq"]],
    "removed twice": [["a"], [".wh.a"], [".wh.a"]],
    "opaque and whiteout": [["d/", "d/a", "d/b"], ["d/.wh..wh..opq", "d/.wh.a", "d/c"]],
    "implied over described": [[d("d", mode=0o711, uid=9, gid=8), "d/a"], ["d/b"]],
    "slashes and dots": [[f("./a//b/./c"), "d//"]],
    "absolute, and above the root": [[f("/a"), f("./b"), f("../c"), f("d/../../e")]],
    "a link to itself as a directory": [["l>l"], ["l/x"]],
    "an absolute link on the way": [["a/", "a/b>/c", "c/"], ["a/b/f"]],
    "a link on the way that leaves": [["a/", "a/b>../../../c", "c/"], ["a/b/f"]],
    "a link on the way, then a file": [["l>d", "d/", "l/x", ("l", b"now a file")]],
    "long names": [[("d/" * 120 + "f", b"z"), ("n" * 255, b"z"), {"kind": "l", "name": "l", "link": "t" * 3000}]],
    "names in no encoding": [[f(b"caf\xc3\xa9"), f(b"caf\xe9"), f(b"\xff\xfe"), f(b"a\nb")]],
    "large owners": [[f("f", uid=0xFFFFFFFE, gid=3_000_000)]],
    "letters of both cases": [["A/", "A/x", "a/", "a/x"]],
    "a layer of nothing": [["a"], [], ["b"]],
    "30 layers": [["d/", f"d/{at}"] for at in range(30)],
    "pax path": [one(member(b"ignored", b"x"), ("path", "real"))],
    "pax path of nothing": [one(member(b"kept", b"x"), ("path", ""))],
    "pax owners": [one(member(b"u", b"x"), ("uid", "3000000"), ("gid", "4000000"), ("uname", "bob"))],
    "pax attributes of libarchive": [one(member(b"u", b"x"), ("LIBARCHIVE.xattr.user.a", "MQ=="))],
    "pax flags and numbers": [one(member(b"u", b"x"), ("SCHILY.fflags", "immutable"), ("SCHILY.dev", "5"), ("SCHILY.ino", "6"))],
    "pax time in tenths of nanoseconds": [one(member(b"u", b"x"), ("mtime", "1600000000.1234567891"))],
    "pax other times": [one(member(b"u", b"x"), ("atime", "1500000000.5"), ("ctime", "1.5"))],
    "one block of zeros": [[member(b"u", b"x") + bytes(512)]],
    "a megabyte of zeros": [one(member(b"u", b"x") + bytes(1 << 20))],
    # what moby's pkg/archive and pkg/chrootarchive, and go-containerregistry's mutate try besides
    "names that begin with dots": [["..gitme", "...", "d/", "d/..b", "d/..c/", "d/..c/x"], ["d/.wh...b", ".wh....", "d/.wh...c"]],
    "a hard link out, and a link through it": [["v/", "v/hello"], ["h=../v/hello", "l>h/hello"]],
    "a link out, and a file in its place": [["v/", "v/hello"], ["l>../v", ("l", b"file")]],
    "a link out, and a hard link through it": [["v/", "v/hello"], ["l>../v", "h=l/hello"]],
    "a hard link through a link, to what is below a directory": [["v/", "v/hello"], ["v/", "l>v", "h=l/hello"]],
    "a hard link through a link of each layer": [["v/", "v/hello", "m>v"], ["l>m", "h=l/hello"]],
    "hard links of hard links, the first of them replaced": [["t2"], ["t1=t2", "t3=t1"], [("t1", b"456")]],
    "hard links of hard links, the first of them removed": [["t2"], ["t1=t2", "t3=t1"], [".wh.t1", ".wh.t2"]],
    # what docker, podman and containerd make the same of as well, unless they refuse it
    "whiteout through a link of its own layer": [["r/", "r/a"], ["l>r", "l/.wh.a"]],
    "whiteout through a link in a directory's place": [["r/", "r/a", "l/", "l/a"], ["l>/r/../r", "l/.wh.a"]],
    "whiteout before the link it could go through": [["r/", "r/a", "l/", "l/a"], ["l/.wh.a", "l>r"]],
    "whiteout through links of both layers": [["r/", "r/a", "m>r"], ["l>m", "l/.wh.a"]],
    "whiteout through a link over what is not there": [["d>l/../a", "a/", "a/b"], ["d/.wh.b"]],
    "another name of a file, through a link over what is not there": [["d>l/../a", "a/", "a/b"], ["h=d/b"]],
    "opaque over a link of its own layer": [["r/", "r/a"], ["l>r", "l/.wh..wh..opq"]],
    "whiteouts that are no files": [
        ["a", "b", "c", "d", "e/"],
        [".wh.a/", {"kind": "l", "name": ".wh.b", "link": "x"}, {"kind": "h", "name": ".wh.c", "link": "d"}, {"kind": "p", "name": ".wh.e"}],
    ],
    "whiteouts with slashes": [["a", "b/", "b/c"], [f("//.wh.a", b""), f("./b//./.wh.c", b"")]],
    "whiteouts in no encoding": [[f(b"a\xff"), f(b"b\n")], [f(b".wh.a\xff", b""), f(b".wh.b\n", b"")]],
    "an opaque directory as a directory": [["d/", "d/a"], ["d/.wh..wh..opq/", "d/b"]],
    "an attribute of a whiteout that AUFS might have": [["a"], [".wh..wh.a", "b"]],
    "hard links over three layers": [["a"], ["b=a"], ["c=b", ".wh.a"]],
    "hard link to what is removed with its directory": [["d/", "d/a"], ["b=d/a"], [".wh.d"]],
    "hard link that is then a file": [["a"], ["b=a", ("b", b"new")]],
    "hard link to a lower link through which a name is": [["d/", "l>d"], ["l/x", "h=l"]],
    "hard link to a directory that is only implied": [["d/x", "h=d"]],
    "hard link to a lower directory that is only implied": [["d/"], ["d/x", "h=d"]],
    "hard link to a fifo": [[{"kind": "p", "name": "p"}, "q=p"]],
    "names that end in a slash": [
        ["f", {"kind": "l", "name": "l/", "link": "x"}, {"kind": "h", "name": "h/", "link": "f"}, {"kind": "p", "name": "p/"}],
    ],
    "a directory that is then the root": [["a/", d("a/..", mode=0o711), d("a/.", mode=0o700)]],
    "a directory through a lower link, twice": [["r/", "r/s/", "r/s/a", "l>r"], [d("l/s", mode=0o700, uid=4), "l/s/b"]],
    "link, directory, link": [["r/", "r/a", "x>r"], ["x/", "x/b"], ["x>r", "x/c"]],
    "a fifo over a directory": [["x/", "x/y"], [{"kind": "p", "name": "x"}]],
    "a default ACL is not passed on": [[d("d", xattrs={b"system.posix_acl_default": ACL}), "d/f", "d/e/"]],
    "sizes of what has no data": [[b"".join(header(name, kind, 512, link=b"f".ljust(100, b"\0")) for name, kind in SIZED) + bytes(1024)]],
    "pax size over the header's": [[pax(("size", "5")) + header(b"f") + b"hello".ljust(512, b"\0") + bytes(1024)]],
    "pax header before a pax header": [[pax(("path", "one"), ("uid", "5")) + pax(("path", "two")) + member(b"u", b"x") + bytes(1024)]],
    "pax numbers and times with little in them": [one(member(b"u", b"x"), ("uid", "+7"), ("gid", "007"), ("mtime", "+1600000000."))],
    "GNU long name of a whiteout": [["f"], [member(b"L", b".wh.f\0", b"L") + member(b"zzz") + bytes(1024)]],
    "GNU long name without its end, and of nothing": [
        [member(b"L", b"gnu", b"L") + member(b"f", b"x") + member(b"L", b"\0", b"L") + member(b"g", b"x") + bytes(1024)],
    ],
    "a prefix in a GNU header, as old Docker wrote it": [[
        b"".join(
            member(name, b"x", prefix=prefix.ljust(155, b"\0"), magic=b"ustar  \0") for name, prefix in
            ((b"f", b"usr/lib"), (b"g", b"0" * 12 + b"x"), (b"h", b"00000000017\x0000000000017\0"), (b"i", b"\x80" + b"\xff" * 11 + b"x"), (b"j", b"n\xff"))
        ) + bytes(1024),
    ]],
    "an archive that ends with its last byte": [[(member(b"f", b"x") + member(b"g", b"y"))[:1537]]],
    "an archive that ends with a pax header": [one(member(b"f", b"x") + pax(("path", "z")))],
    "a number, and something": [[header(b"f", uid=b"7\0xxxxx\0") + bytes(1024)]],
    "GNU long name and pax path": [[member(b"L", b"gnu\0", b"L") + pax(("path", "pax")) + member(b"f", b"x") + bytes(1024)]],
    "bits of the type in the mode": [[member(b"f", b"x", mode=b"0100644\0") + member(b"d", b"", b"5", mode=b"7777777\0") + bytes(1024)]],
    "a name that a removed one begins": [["baz/", "baz/x", "bazaar", "red/", "red/green", "red/blue/", "red/blue/x"], [".wh.baz", "red/.wh.blue"]],
}  # fmt: skip

# Here we do something else than umoci, and say so in oci-unpack(1).
OURS: dict[str, list[Any]] = {
    "whiteout after a name in it, which is only implied": [[d("d", mode=0o700), "d/a"], ["d/b", ".wh.d"]],
    "a name in a file": [["f", "f/g"]],
    "a name in a lower file": [["f"], ["f/b"]],
    "hard link to what a whiteout before it takes": [["a"], [".wh.a", "b=a"]],
    "hard link to itself": [["a", "a=a"]],
    "a hard link out to a directory, and a name through it": [["victim/", "victim/hello"], ["h=../victim", "h/file"]],
    "hard link to itself below": [["a"], ["a=a"]],
    "hard link into a lower layer, and to itself": [["a"], ["b=a", "b=b"]],
    "an attribute without a value": [[f("f", xattrs={b"user.e": b""})]],
    "marks of overlayfs": [[d("d"), "d/a"], [d("d", xattrs={b"trusted.overlay.opaque": b"y"}), "d/b"]],
    "a global pax header": [one(pax(("comment", "0123"), kind=b"g") + member(b"a", b"x"))],
    "a global pax header with a name": [one(pax(("comment", "0123"), ("path", "no/such"), kind=b"g") + member(b"a", b"x"))],
    "what AUFS left": [[d(".wh..wh.plnk"), f(".wh..wh.plnk/12.34"), "x=.wh..wh.plnk/12.34", f(".wh..wh.aufs"), d(".wh..wh.orph")]],
}


def archives(layers: list[Any]) -> list[Any]:
    """Layers as the tests' makers take them: an archive's bytes, or entries."""
    return [layer[0] if layer and isinstance(layer[0], bytes) else layer for layer in layers]
