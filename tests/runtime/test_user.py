"""Users are looked up in the image's files, which are a stranger's."""

import os

import pytest

from oci_tools.errors import Error
from oci_tools.runtime import user

PASSWD = """\
# a comment
root:x:0:0:root:/root:/bin/sh
app:x:1000:1001:App:/home/app:/bin/sh
5:x:77:77:a name like a number:/five:/bin/sh
broken
wrap:x:4294967296:0::/:
minus:x:-1:0::/:
bad:x:12x:0::/:
nohome:x:2000:2000:::/bin/sh
"""
GROUP = """\
root:x:0:root
bin:x:1:root,daemon
wheel:x:10:root,app
app:x:1001:
extra:x:1002:app,root
again:x:1002:app
big:x:4294967295:app
7:x:70:
"""


@pytest.fixture
def rootfs(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return tmp_path


def ids(text, rootfs):
    found = user.resolve(text, rootfs if rootfs is None else str(rootfs))
    return found["uid"], found["gid"], found["additionalGids"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (0, 0, [0, 1, 10, 1002])),
        ("root", (0, 0, [0, 1, 10, 1002])),
        ("0", (0, 0, [0, 1, 10, 1002])),
        ("app", (1000, 1001, [1001, 10, 1002])),
        ("1000", (1000, 1001, [1001, 10, 1002])),
        ("app:", (1000, 1001, [1001, 10, 1002])),
        ("app:wheel", (1000, 10, [10])),
        ("app:0", (1000, 0, [0])),
        (":wheel", (0, 10, [10])),
        ("5", (5, 0, [0])),  # never the user who is called 5
        ("1:7", (1, 7, [7])),  # nor the group
        ("4294967294:4294967294", (4294967294, 4294967294, [4294967294])),
        ("007", (7, 0, [0])),
    ],
)
def test_resolve(rootfs, text, expected):
    assert ids(text, rootfs) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nobody", "unable to find user 'nobody': no matching entries in passwd file"),
        ("app:none", "unable to find group 'none': no matching entries in group file"),
        ("-1", "unable to find user '-1'"),
        ("+0", "unable to find user '+0'"),
        (" 0", "unable to find user ' 0'"),
        ("1_0", "unable to find user '1_0'"),
        ("٣", "unable to find user '٣'"),
        ("0x0", "unable to find user '0x0'"),
        ("4294967295", "invalid user '4294967295': ids end at 4294967294"),
        ("4294967296", "invalid user '4294967296'"),
        ("18446744073709551616", "invalid user"),
        ("9" * 5000, "invalid user"),
        ("0:4294967295", "invalid user '0:4294967295'"),
        ("0:-1", "unable to find group '-1'"),
        ("app:wheel:x", "unable to find group 'wheel:x'"),
        ("wrap", "invalid user 'wrap'"),
        ("minus", "unable to find user 'minus'"),
        ("bad", "unable to find user 'bad'"),
    ],
)
def test_no_such_user(rootfs, text, message):
    with pytest.raises(Error) as caught:
        ids(text, rootfs)
    assert str(caught.value).startswith(message)


def test_without_files_numbers_are_enough(tmp_path):
    assert ids("", tmp_path) == (0, 0, [0])
    assert ids("5:6", tmp_path) == (5, 6, [6])
    assert ids("5", None) == (5, 0, [0])
    assert ids("", None) == (0, 0, [0])
    with pytest.raises(Error, match="cannot look up user 'app': no root file system"):
        ids("app", None)


def test_group(rootfs):
    assert user.group("wheel", str(rootfs)) == 10
    assert user.group("7", str(rootfs)) == 7
    assert user.group("12", None) == 12
    with pytest.raises(Error, match="unable to find group 'x'"):
        user.group("x", str(rootfs))
    with pytest.raises(Error, match="cannot look up group 'x'"):
        user.group("x", None)


def test_home(rootfs):
    assert user.home(1000, str(rootfs)) == "/home/app"
    assert user.home(2000, str(rootfs)) == "/"
    assert user.home(99, str(rootfs)) == "/"


# -- hostile files -----------------------------------------------------------------------


def test_links_are_followed_inside_only(rootfs, tmp_path_factory):
    outside = tmp_path_factory.mktemp("host") / "passwd"
    outside.write_text("app:x:0:0::/:\n")
    (rootfs / "etc/passwd").unlink()
    (rootfs / "etc/passwd").symlink_to(outside)
    with pytest.raises(Error, match="unable to find user 'app'"):
        ids("app", rootfs)
    (rootfs / "real").write_text(PASSWD)
    (rootfs / "etc/passwd").unlink()
    (rootfs / "etc/passwd").symlink_to("/../../../../real")
    assert ids("app", rootfs)[0] == 1000


def test_a_directory_link_out_of_the_tree_stays_inside(rootfs, tmp_path_factory):
    outside = tmp_path_factory.mktemp("host")
    (outside / "passwd").write_text("app:x:0:0::/:\n")
    (rootfs / "etc").rename(rootfs / "was")
    (rootfs / "etc").symlink_to(outside)
    with pytest.raises(Error, match="unable to find user 'app'"):
        ids("app", rootfs)


@pytest.mark.parametrize("kind", ["fifo", "directory", "loop"])
def test_what_is_no_file_is_refused_and_never_waited_for(rootfs, kind):
    path = rootfs / "etc/passwd"
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("passwd")
    with pytest.raises(Error, match="cannot read '/etc/passwd'"):
        ids("app", rootfs)


def test_a_huge_file_is_not_read(rootfs):
    with open(rootfs / "etc/group", "ab") as file:
        file.truncate(1 << 40)
    with pytest.raises(Error, match="cannot read '/etc/group': larger than 1048576 bytes"):
        ids("app", rootfs)


def test_a_missing_rootfs(tmp_path):
    with pytest.raises(Error, match="cannot open rootfs"):
        ids("app", tmp_path / "none")
