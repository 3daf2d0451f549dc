"""Is a layout what it says it is?  Every digest, size, diff id and history, and what to pull again.

Reads every byte once, and every layer's plain tar.  Not here: repairing; a damaged blob is
written again by the next pull of an image that has it, after it is removed.
"""

from __future__ import annotations

import os

from oci_tools.errors import Error
from oci_tools.image import config as configs
from oci_tools.image import digest as digests
from oci_tools.image import gc
from oci_tools.image import manifest as manifests
from oci_tools.image import names
from oci_tools.image.archive import check_diff_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from oci_tools.image.layout import Descriptor, Layout

    Problem = tuple[str, str, str]  # digest, what is wrong, the image it harms or ""


def check(layout: Layout, fast: bool = False) -> Iterator[Problem]:
    """Everything that is wrong, each with the image it harms; `fast` leaves layers' contents alone."""
    checker = _Checker(layout, fast)
    known: dict[object, list[tuple[str, str]]] = {}
    for entry in layout.index()["manifests"]:
        content = names.content(entry)
        if content not in known:
            known[content] = list(dict.fromkeys(checker.image(entry, set())))
        image = names.ref_name(entry) or str(content)
        yield from ((digest, what, image) for digest, what in known[content])
    for digest, file in gc.stored(layout):
        if not fast and digest not in checker.judged:
            what = checker.blob({"digest": digest, "size": file.stat().st_size})
            if what:
                yield digest, what, ""


class _Checker:
    """Judges each blob and each layer's content once."""

    def __init__(self, layout: Layout, fast: bool) -> None:
        self.judged: dict[str, str] = {}  # digest -> what is wrong, "" if nothing
        self._contents: dict[tuple[str, str], str] = {}  # (digest, diff id) -> what is wrong
        self._layout = layout
        self._fast = fast

    def image(
        self, descriptor: Descriptor, seen: set[str], optional: bool = False, depth: int = 0
    ) -> Iterator[tuple[str, str]]:
        """What is wrong with an image, an index and its images, or anything else that has a descriptor."""
        try:
            digest = ":".join(digests.check_descriptor(descriptor)[:2])
        except Error as error:
            yield str(descriptor.get("digest")), str(error)
            return
        if digest in seen or (optional and not os.path.lexists(self._layout.blob_path(digest))):
            return
        seen.add(digest)
        what = self.blob(descriptor)
        if what:
            yield digest, what
        elif manifests.is_index(descriptor.get("mediaType")) or manifests.is_manifest(
            descriptor.get("mediaType")
        ):
            try:
                found = manifests.load(self._layout, descriptor)
            except Error as error:
                yield digest, str(error)
                return
            if depth == manifests.MAX_DEPTH:
                yield digest, "its indexes are nested too deeply"
                return
            for child in found.get("manifests", ()):
                yield from self.image(child, seen, True, depth + 1)
            if "layers" in found:
                yield from self._parts(digest, found, seen)

    def _parts(self, digest: str, found: dict[str, Any], seen: set[str]) -> Iterator[tuple[str, str]]:
        wrong = False
        for child in manifests.children(found):
            for problem in self.image(child, seen, bool(child.get("urls")), manifests.MAX_DEPTH):
                wrong = True
                yield problem
        if wrong or found["config"].get("mediaType") not in manifests.CONFIGS:
            return
        try:
            config = configs.load(self._layout, found)
        except Error as error:
            yield digest, str(error)
            return
        told = _told(config)
        if told not in (None, len(found["layers"])):
            yield (
                found["config"]["digest"],
                f"its history tells of {told} layers, there are {len(found['layers'])}",
            )
        if not self._fast:
            for layer, diff_id in zip(found["layers"], configs.diff_ids(config), strict=True):
                if self._layout.has(layer) and (what := self._content(layer, diff_id)):
                    yield layer["digest"], what

    def blob(self, descriptor: Descriptor) -> str:
        """What is wrong with a blob's bytes; a layer's are not read when it must be fast."""
        digest = descriptor["digest"]
        if digest not in self.judged:
            document = str(descriptor.get("mediaType")).endswith("json")
            try:
                with digests.Verifier(self._layout.blob(descriptor), descriptor) as stream:
                    if document or not self._fast:
                        stream.drain()
                self.judged[digest] = ""
            except (Error, OSError) as error:
                self.judged[digest] = str(error)
        return self.judged[digest]

    def _content(self, layer: Descriptor, diff_id: str) -> str:
        pair = (layer["digest"], diff_id)
        if pair not in self._contents:
            try:
                check_diff_id(self._layout, layer, diff_id)
                self._contents[pair] = ""
            except Error as error:
                self._contents[pair] = str(error)
        return self._contents[pair]


def _told(config: dict[str, Any]) -> int | None:
    """How many layers a history tells of; None if there is none."""
    history = config.get("history")
    if not isinstance(history, list) or not history:
        return None
    return sum(not (isinstance(step, dict) and step.get("empty_layer")) for step in history)
