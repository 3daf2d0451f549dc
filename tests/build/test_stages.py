"""Stages: which of them are built at once."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.root]

MEET = "RUN --mount=type=cache,target=/c touch /c/OWN; for i in $(seq 300); do test -e /c/OTHER && exit; sleep 0.1; done; exit 9\n"


def meet(own: str, other: str) -> str:
    """A RUN that ends well if the other one has begun before it ends."""
    return MEET.replace("OWN", own).replace("OTHER", other)


@pytest.mark.parametrize(
    "text",
    {
        "two that need nothing": f"FROM BASE AS a\n{meet('a', 'b')}FROM BASE AS b\n{meet('b', 'a')}FROM BASE\nCOPY --from=a / /a\nCOPY --from=b / /b\n",
        "one behind a stage that waits for its base": (
            f"FROM BASE AS a\n{meet('a', 'b')}FROM a AS c\nRUN true\nFROM BASE AS b\n{meet('b', 'a')}"
            "FROM BASE\nCOPY --from=b / /b\nCOPY --from=c / /c\n"
        ),
        "one behind stages that wait for its files": (
            f"FROM BASE AS a\n{meet('a', 'b')}FROM scratch AS c\nCOPY --from=a / /\nFROM scratch AS d\nCOPY --from=a / /\n"
            f"FROM BASE AS b\n{meet('b', 'a')}FROM BASE\nCOPY --from=b / /b\nCOPY --from=c / /c\nCOPY --from=d / /d\n"
        ),
        "what a stage does before it needs another": f"FROM BASE AS a\n{meet('a', 'b')}FROM BASE\n{meet('b', 'a')}COPY --from=a / /a\n",
    }.items(),
    ids=lambda case: case[0],
)  # fmt: skip
def test_what_is_built_at_once(built: Any, text: tuple[str, str]) -> None:
    built(text[1], "--jobs", "2")


@pytest.mark.parametrize(
    "first, second, seen",
    [
        ("shared", "shared", "here, at once"), ("shared", "private", "elsewhere, at once"), ("shared", "locked", "here, afterwards"),
        ("private", "private", "elsewhere, at once"), ("private", "shared", "elsewhere, at once"), ("private", "locked", "here, afterwards"),
        ("locked", "locked", "here, afterwards"), ("locked", "shared", "elsewhere, at once"), ("locked", "private", "elsewhere, at once"),
    ],
)  # fmt: skip
def test_how_a_cache_is_shared(built: Any, cat: Any, first: str, second: str, seen: str) -> None:
    """What the step sees that wants a cache while another one has it."""
    signs = "--mount=type=cache,target=/s"
    text = f"FROM BASE AS a\nRUN --mount=type=cache,id=c,target=/c,sharing={first} {signs} touch /c/f /s/begun; WAIT; touch /s/over\n"
    text += f"FROM BASE AS b\nRUN {signs} for i in $(seq 300); do test -e /s/begun && exit; sleep 0.1; done; exit 9\n"
    text += f"RUN --mount=type=cache,id=c,target=/c,sharing={second} {signs} touch /s/came; (test -e /c/f && echo here, || echo elsewhere,) > /seen; "
    text += "(test -e /s/over && echo afterwards || echo at once) >> /seen\nFROM BASE\nCOPY --from=b /seen /seen\nCOPY --from=a /bin/busybox /a\n"
    waiting = "for i in $(seq 300); do test -e /s/came && break; sleep 0.1; done"
    built(text.replace("WAIT", waiting if "at once" in seen else "sleep 1"), "--jobs", "2")
    assert cat("/seen").split() == seen.split()


def test_steps_that_want_the_same_caches_do_not_wait_for_each_other(built: Any) -> None:
    mounts = [f"--mount=type=cache,target=/{name},sharing=locked" for name in "xyz"]
    orders = [" ".join(mounts[n:] + mounts[:n]) for n in range(3)]
    stages = "".join(f"FROM BASE AS s{n}\n" + "".join(f"RUN {order} echo {step}\n" for step in range(9)) for n, order in enumerate(orders))
    built(f"{stages}FROM BASE\n" + "".join(f"COPY --from=s{n} /bin/busybox /{n}\n" for n in range(3)), "--jobs", "3")


def test_no_more_at_once_than_asked_for(built: Any) -> None:
    """Who waits for a stage does not count while he waits, and counts again behind it."""
    counted = "RUN --mount=type=cache,target=/c mkdir -p /c/now && touch /c/now/OWN && ls /c/now | wc -l >> /c/most; sleep 0.1; rm /c/now/OWN\n"
    stages = "".join(
        f"FROM BASE AS s{n}\n{counted.replace('OWN', f's{n}')}FROM scratch AS f{n}\nCOPY --from=s0 /bin/busybox /s\n"
        f"FROM BASE AS t{n}\nCOPY --from=f0 /s /s\n{counted.replace('OWN', f't{n}')}"
        for n in range(3)
    )
    last = "RUN --mount=type=cache,target=/c sort -n /c/most | tail -1 > /most\n"
    built(f"{stages}FROM BASE\n" + "".join(f"COPY --from=t{n} /s /{n}\n" for n in range(3)) + last + "RUN grep -x 2 /most\n", "--jobs", "2")


def test_a_failure_ends_the_others(built: Any) -> None:
    """Those that run, those that wait for a base and those that wait for files."""
    text = "FROM BASE AS a\nRUN --mount=type=cache,target=/c touch /c/a; sleep 60; exit 7\nFROM a AS b\nRUN true\nFROM scratch AS c\nCOPY --from=a / /\n"
    text += "FROM BASE AS d\nRUN --mount=type=cache,target=/c for i in $(seq 300); do test -e /c/a && exit 5; sleep 0.1; done; exit 6\nFROM scratch\nCOPY --from=b / /b\nCOPY --from=c / /c\nCOPY --from=d / /d\n"
    assert built(text, "--jobs", "2", code=1).stderr.splitlines()[-1].endswith("did not complete successfully: exit code: 5")
