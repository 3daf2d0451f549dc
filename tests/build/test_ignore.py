"""`.dockerignore`: patterns as moby's patternmatcher has them, and lines as moby reads them."""

from __future__ import annotations

import pytest

from oci_tools.build import ignore
from oci_tools.errors import Error
from tests.long import rounds


@pytest.mark.parametrize(
    "pattern, path, wanted",
    [
        ("**", "file", True), ("**", "file/", True), ("**/", "file", True), ("**/", "file/", True),
        ("**", "/", True), ("**/", "/", True), ("**", "dir/file", True), ("**/", "dir/file", True),
        ("**", "dir/file/", True), ("**/**", "dir/file", True), ("**/**", "dir/file/", True),
        ("dir/**", "dir/file", True), ("dir/**", "dir/file/", True), ("dir/**", "dir/dir2/file", True),
        ("dir/**", "dir/dir2/file/", True), ("**/dir", "dir", True), ("**/dir", "dir/file", True),
        ("**/dir2/*", "dir/dir2/file", True), ("**/dir2/*", "dir/dir2/file/", True),
        ("**/dir2/**", "dir/dir2/dir3/file", True), ("**/dir2/**", "dir/dir2/dir3/file/", True),
        ("**file", "file", True), ("**file", "dir/file", True), ("**/file", "dir/file", True),
        ("**file", "dir/dir/file", True), ("**/file", "dir/dir/file", True), ("**/file*", "dir/dir/file", True),
        ("**/file*", "dir/dir/file.txt", True), ("**/file*txt", "dir/dir/file.txt", True),
        ("**/file*.txt", "dir/dir/file.txt", True), ("**/file*.txt*", "dir/dir/file.txt", True),
        ("**/**/*.txt", "dir/dir/file.txt", True), ("**/**/*.txt2", "dir/dir/file.txt", False),
        ("**/*.txt", "file.txt", True), ("**/**/*.txt", "file.txt", True), ("a**/*.txt", "a/file.txt", True),
        ("a**/*.txt", "a/dir/file.txt", True), ("a**/*.txt", "a/dir/dir/file.txt", True),
        ("a/*.txt", "a/dir/file.txt", False), ("a/*.txt", "a/file.txt", True), ("a/*.txt**", "a/file.txt", True),
        ("a[b-d]e", "ae", False), ("a[b-d]e", "ace", True), ("a[b-d]e", "aae", False), ("a[^b-d]e", "aze", True),
        (".*", ".foo", True), (".*", "foo", False), ("abc.def", "abcdef", False), ("abc.def", "abc.def", True),
        ("abc.def", "abcZdef", False), ("abc?def", "abcZdef", True), ("abc?def", "abcdef", False),
        ("a\\\\", "a\\", True), ("**/foo/bar", "foo/bar", True), ("**/foo/bar", "dir/foo/bar", True),
        ("**/foo/bar", "dir/dir2/foo/bar", True), ("abc/**", "abc", False), ("abc/**", "abc/def", True),
        ("abc/**", "abc/def/ghi", True), ("**/.foo", ".foo", True), ("**/.foo", "bar.foo", False),
        ("a(b)c/def", "a(b)c/def", True), ("a(b)c/def", "a(b)c/xyz", False), ("a.|)$(}+{bc", "a.|)$(}+{bc", True),
        ("dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl", "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl", True),
        ("dist/*.whl", "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl", True),
        ("a*c", "abbc", True), ("a*c", "ab/c", False), ("docs", "docs/README.md", True), ("docs/", "docs/README.md", True),
        ("docs/../src", "src/x", True), ("?", "é", True), ("[é]", "é", True),
    ],
)  # fmt: skip
def test_one_pattern(pattern: str, path: str, wanted: bool) -> None:
    assert ignore.Patterns([pattern]).match(ignore.clean(path)) is wanted


@pytest.mark.parametrize(
    "patterns, path, wanted",
    [
        (["*", "!a"], "a", False), (["*", "!a"], "b", True), (["!a", "*"], "a", True),
        (["docs", "!docs/README.md"], "docs/README.md", False), (["docs", "!docs/README.md"], "docs/x", True),
        (["docs", "!docs/README.md"], "docs", True), (["docs", "!docs", "docs/x"], "docs/x", True),
        (["**", "!util/docker/web"], "util/docker/web/foo", False), (["**", "!util/docker/web"], "util/docker/x", True),
        (["**", "!util/docker/web", "util/docker/web/foo"], "util/docker/web/foo", True),
        (["**", "!dist/*.whl"], "dist/x.whl", False), (["*.md", "!README*.md", "README-secret.md"], "README-secret.md", True),
        (["a/b", "!a/b/c", "a/b/c/d"], "a/b/c/e", False), (["a/b", "!a/b/c", "a/b/c/d"], "a/b/c/d", True),
    ],
)  # fmt: skip
def test_the_last_one_that_matches_says(patterns: list[str], path: str, wanted: bool) -> None:
    assert ignore.Patterns(patterns).match(path) is wanted


def test_a_walk_says_the_same() -> None:
    patterns = ignore.Patterns(["a", "!a/b/c", "**/x", "!a/b/c/x/y"])
    for path in ("a", "a/b", "a/b/c", "a/b/c/x", "a/b/c/x/y", "a/b/d", "z/x", "z"):
        above, hidden = None, False
        parts = path.split("/")
        for end in range(1, len(parts) + 1):
            hidden, above = patterns.below("/".join(parts[:end]), above)
        assert hidden is patterns.match(path), path
    assert patterns.may_show("a/b") and not patterns.may_show("z")


@pytest.mark.parametrize("pattern", ["[", "[]", "[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[^", "a[", "a[x", "\\", "!"])
def test_bad_patterns(pattern: str) -> None:
    with pytest.raises(Error, match="syntax error in pattern|illegal exclusion pattern"):
        ignore.Patterns([pattern])


def test_lines() -> None:
    data = b"\xef\xbb\xbftest1\n/test2\n/a/file/here\n\nlastfile\n# this is a comment\n! /inverted/abs/path\n!\n! \n  spaced \n #x\n./y/../z/\n"
    assert ignore.lines(data) == [
        "test1", "test2", "a/file/here", "lastfile", "!inverted/abs/path", "!", "!", "spaced", "#x", "z",
    ]  # fmt: skip


def test_many_patterns_say_what_one_after_the_other_says() -> None:
    """Patterns are looked for together: the answers are those of a plain reading of moby's rules."""
    import random
    import re

    chance = random.Random(7)
    kinds = ["{}", "{}/**", "**/{}", "*.{}", "**/*.{}", "{}*", "?{}", "[a-c]{}", "{}/*", "**/{}/*", "{}/{}", "**"]
    names = ["a", "b", "c", "a.b", "x.c", "ab"]
    for _ in range(rounds(300, 5000)):
        texts = []
        for _ in range(chance.randrange(1, 12)):
            text = chance.choice(kinds).replace("{}", chance.choice(names))
            texts.append(chance.choice(["", "", "!"]) + text)
        rules = [(text.startswith("!"), ignore.compiled(text.lstrip("!")), *ignore.translated(text.lstrip("!"))) for text in texts]

        def one(text: str, rule: re.Pattern[str], kind: str, path: str) -> bool:
            if kind == "prefix":
                return path.startswith(text[:-2])
            if kind == "suffix":
                return path.endswith(text[2:]) or (text[2:3] == "/" and path == text[3:])
            return rule.match(path) is not None

        patterns = ignore.Patterns(texts)
        for _ in range(20):
            path = "/".join(chance.choice(names) for _ in range(chance.randrange(1, 4)))
            parts = path.split("/")
            above: list[bool] | None = None
            hidden = False
            flags = [False] * len(texts)
            for end in range(1, len(parts) + 1):
                here, matched = "/".join(parts[:end]), False
                for number, (negated, rule, kind, _) in enumerate(rules):
                    hit = flags[number] or (negated == matched and one(texts[number].lstrip("!"), rule, kind, here))
                    flags[number] = hit
                    matched = not negated if hit else matched
                hidden, above = patterns.below(here, above)
                assert hidden == matched, (texts, here)
