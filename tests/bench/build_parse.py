"""Reading a Dockerfile of 5,000 lines, its interpreter's start included"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.measure import Side

LIMIT = 50  # ms
ROUNDS = 10
TOP = Path(__file__).resolve().parent.parent.parent
CODE = "import sys; sys.path.insert(0, {top!r}); from oci_tools.build.dockerfile import Dockerfile; Dockerfile(open({path!r}, 'rb').read(), 'x')"
BLOCK = "# a comment\nRUN apt-get update && \\\n    apt-get install -y a b c\nENV A=b C=\"d e\"\nCOPY --chown=a:b x/y z /w/\nLABEL a=b\n"


@contextmanager
def sides(work: Path) -> Iterator[dict[str, Side]]:
    path = work / "Dockerfile"
    path.write_text("FROM scratch\n" + BLOCK * (5000 // BLOCK.count("\n")))
    code = CODE.format(top=str(TOP), path=str(path))
    yield {"oci-build": Side(lambda i: ["/usr/bin/python3", "-I", "-S", "-c", code])}
