"""A file of stacked layers is read as overlayfs would show it."""

import os
import stat

import pytest

from oci_tools.errors import Error
from oci_tools.layer import lookup


@pytest.fixture
def stack(tmp_path):
    """Three empty layers, the top one first."""
    trees = [tmp_path / name for name in ("top", "middle", "bottom")]
    for tree in trees:
        (tree / "etc").mkdir(parents=True)
    return trees


def read(trees, path="etc/passwd", limit=100):
    found = lookup.reader([str(tree) for tree in trees], limit)(path)
    return None if found is None else found.decode()


def whiteout(path):
    os.mknod(path, stat.S_IFCHR, 0)


def opaque(path):
    try:
        os.setxattr(path, "trusted.overlay.opaque" if os.geteuid() == 0 else "user.overlay.opaque", b"y")
    except OSError as error:
        pytest.skip(f"no extended attributes here: {error}")


def test_the_highest_layer_that_has_it(stack):
    _, middle, bottom = stack
    assert read(stack) is None
    (bottom / "etc/passwd").write_text("bottom")
    assert read(stack) == "bottom"
    (middle / "etc/passwd").write_text("middle")
    assert read(stack) == "middle"


def test_whiteouts(stack):
    top, middle, bottom = stack
    (bottom / "etc/passwd").write_text("bottom")
    whiteout(middle / "etc/passwd")
    assert read(stack) is None
    (top / "etc/passwd").write_text("top")
    assert read(stack) == "top"


def test_a_directory_that_was_removed_or_replaced(stack):
    top, middle, bottom = stack
    (bottom / "etc/passwd").write_text("bottom")
    (middle / "etc").rmdir()
    whiteout(middle / "etc")
    assert read(stack) is None, "top has it again, empty"
    (top / "etc").rmdir()
    assert read(stack) is None
    (middle / "etc").unlink()
    (middle / "etc").write_text("a file")
    assert read(stack) is None
    assert read(stack, "etc") == "a file"


def test_opaque_directories(stack):
    _, middle, bottom = stack
    (bottom / "etc/passwd").write_text("bottom")
    opaque(middle / "etc")
    assert read(stack) is None
    (middle / "etc/passwd").write_text("middle")
    assert read(stack) == "middle"


def test_links_stay_in_the_stack(stack, tmp_path):
    top, _, bottom = stack
    (tmp_path / "passwd").write_text("the host's")
    (bottom / "real").write_text("bottom")
    for target in ("/real", "../real", "../../../../real", "/etc/../real", "/./etc//../real"):
        (top / "etc/passwd").symlink_to(target)
        assert read(stack) == "bottom", target
        (top / "etc/passwd").unlink()
    (top / "etc/passwd").symlink_to(tmp_path / "passwd")
    assert read(stack) is None
    (top / "etc").rename(top / "was")
    (top / "etc").symlink_to(tmp_path)
    assert read(stack) is None


def test_a_link_to_a_directory_of_lower_layers(stack):
    top, middle, bottom = stack
    (top / "etc").rmdir()
    (top / "etc").symlink_to("usr/etc")
    (middle / "usr/etc").mkdir(parents=True)
    (bottom / "usr/etc").mkdir(parents=True)
    (bottom / "usr/etc/passwd").write_text("bottom")
    assert read(stack) == "bottom"


def test_a_loop_of_links(stack):
    (stack[0] / "etc/passwd").symlink_to("passwd")
    with pytest.raises(Error, match="cannot read 'etc/passwd': too many levels of symbolic links"):
        read(stack)


def test_what_is_no_file(stack):
    os.mkfifo(stack[0] / "etc/passwd")
    with pytest.raises(Error, match="cannot read 'etc/passwd': not a regular file"):
        read(stack)
    with pytest.raises(Error, match="cannot read 'etc': not a regular file"):
        read(stack, "etc")
    (stack[0] / "file").write_text("x")
    assert read(stack, "file/passwd") is None


def test_only_so_much_is_read(stack):
    with open(stack[2] / "etc/passwd", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(Error, match="cannot read 'etc/passwd': larger than 100 bytes"):
        read(stack)


def test_no_descriptor_is_left_open(stack):
    (stack[2] / "etc/passwd").write_text("x")
    before = os.listdir("/proc/self/fd")
    read(stack)
    read(stack, "none/none")
    assert os.listdir("/proc/self/fd") == before
