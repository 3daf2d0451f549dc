"""Names of containers: which may be, and two words, as people expect from docker, for those that got none."""

from __future__ import annotations

import random

from oci_tools.engine.api.answers import Refused

_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
_HOW = (
    "able amber bold brave brisk calm clear clever cosy crisp deft eager early fair fleet fond frank "
    "fresh gentle glad golden grand happy hardy honest jolly keen kind lively loyal lucky mellow merry "
    "mild neat nimble noble patient plain proud quick quiet rapid ready rosy sharp silver smooth snug "
    "solid spry steady still sunny swift tidy tough true vivid warm wise witty young zesty"
).split()
_WHAT = (
    "acorn alder anchor anvil apple aspen badger barley beacon birch bison brook cedar clover comet "
    "condor copper coral cricket dolphin dune eagle elm ember falcon fern finch fjord fox gannet garnet "
    "grove harbor hazel heron hill ibex iris island jay juniper kestrel lagoon lantern lark linden lynx "
    "maple marten meadow moth oak orca osprey otter pebble pine plover poplar quartz raven reed river "
    "robin rowan sable sail sparrow spruce stork swan thistle tiger topaz trout tulip vale walnut willow "
    "wren yew"
).split()


def made(taken: set[str]) -> str:
    """A name that is not taken."""
    while True:
        name = f"{random.choice(_HOW)}_{random.choice(_WHAT)}"
        if name not in taken:
            return name
        if f"{name}{random.randrange(10)}" not in taken:
            return f"{name}{random.randrange(1000)}"


def check(name: str, wrong: str) -> None:
    """Refuse what is no name; `wrong`: how that begins, with {} for it."""
    if not (len(name) > 1 and name[0] not in "_.-" and _NAME.issuperset(name)):
        raise Refused(400, f"{wrong.format(name)}, only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
