"""What fuzzing found is refused or taken as it should be, and so is all that it begins with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz import seeds, targets

CORPUS = Path(__file__).parent / "corpus"
FOUND = [(path.parent.name, path.name) for path in sorted(CORPUS.glob("*/*")) if path.parent.name in targets.TARGETS]


@pytest.mark.root  # devices and owners
@pytest.mark.parametrize(("target", "name"), FOUND)
def test_what_was_found(target: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "PLACE", tmp_path)
    targets.TARGETS[target]((CORPUS / target / name).read_bytes())


@pytest.mark.root
@pytest.mark.parametrize("target", targets.TARGETS)
def test_what_it_begins_with(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "PLACE", tmp_path)
    inputs = list(seeds.of(target))
    assert len(inputs) > 9
    for data in inputs:
        targets.TARGETS[target](data)
    assert seeds.search(target, targets.TARGETS[target], 50) >= 50


def test_the_judge_sees_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unpacker that writes beside its root is one."""
    monkeypatch.setattr(targets, "PLACE", tmp_path)
    data = bytes((0, 0, 0)) + next(seeds.of("apply"))[3:]
    unpack = targets._unpack

    def escaping(layers: list[bytes], path: Path) -> str | None:
        (path.parent.parent / "canary").write_text("x")
        return unpack(layers, path)

    monkeypatch.setattr(targets, "_unpack", escaping)
    with pytest.raises(AssertionError):
        targets.apply(data)
