"""`os` without the abstract classes, which come when somebody asks for one."""

import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
PYTHON = getattr(sys, "_base_executable", sys.executable)  # no environment's, which has imported more by then


def test_os_is_as_ever_without_the_abstract_classes() -> None:
    """They come when somebody asks for them, in a process whose imports are sealed as well."""
    lines = [
        "import sys", f"sys.path[:0] = [{str(TOP)!r}]", "from oci_tools import abstract", "import os",
        "assert type(sys.modules['_collections_abc']) is abstract._Abstract",
        "os.environ['A'] = '1'",
        "assert os.environ.get('A') == '1' and os.environ.get('B') is None and 'A' in os.environ and 'B' not in os.environ",
        "assert os.environ.pop('A') == '1' and os.environ.pop('A', '2') == '2'",
        "os.environ['A'] = '1'",
        "assert dict(os.environ) == {**os.environ} == dict(os.environ.items()) and 'A' in set(os.environ.keys())",
        "assert list(os.environ.values()) and os.environ.setdefault('A', '3') == '1'",
        "assert type(sys.modules['_collections_abc']) is abstract._Abstract",
        "meta, sys.meta_path = sys.meta_path, [] if {sealed} else sys.meta_path",
        "assert (os.environ | {'C': '4'})['C'] == '4' and os.environ == dict(os.environ) and os.environ != {}",
        "sys.meta_path = meta",
        "import collections.abc, pathlib, threading",
        "assert type(sys.modules['_collections_abc']) is type(sys) and sys.modules['_collections_abc'].__spec__",
        "assert isinstance(os.environ, collections.abc.MutableMapping) and isinstance(os.environ, collections.abc.Mapping)",
        "assert isinstance(pathlib.Path(), os.PathLike) and not isinstance('', os.PathLike) and not isinstance(1, os.PathLike)",
        "os.environ.update(D='5'); assert os.getenv('D') == '5'; os.environ.clear(); assert not os.environ",
        "try: os.environ.popitem()",
        "except KeyError: print('empty')",
    ]  # fmt: skip
    for sealed in ("True", "False"):
        text = "\n".join(lines).replace("{sealed}", sealed)
        done = subprocess.run([PYTHON, "-IS", "-c", text], capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "empty\n", "")


def test_threads_that_want_the_abstract_classes_at_once() -> None:
    lines = [
        "import sys", f"sys.path[:0] = [{str(TOP)!r}]", "from oci_tools import abstract", "import _thread, time",
        "classes, seen = sys.modules['_collections_abc'], []",
        "sys.setswitchinterval(1e-6)",
        "def look(): seen.append(classes.Sequence)",
        "for _ in range(20): _thread.start_new_thread(look, ())",
        "while len(seen) < 20: time.sleep(0.001)",
        "assert set(seen) == {classes.Sequence}, seen",
    ]  # fmt: skip
    done = subprocess.run([PYTHON, "-IS", "-c", "\n".join(lines)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
