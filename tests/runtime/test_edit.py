"""Changes said in words, merge documents (RFC 7386) and patches (RFC 6902)."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oci_tools.errors import Error
from oci_tools.runtime import edit, spec

SMALL = {"a": {"b": [1, {"n": "x", "v": 1}, {"n": "y", "v": 2}]}, "s": "t", "l": ["p", "q", "p"]}


@pytest.mark.parametrize(
    ("word", "path", "expected"),
    [
        ("s=u", "s", "u"),
        ("s=5", "s", 5),
        ('s="5"', "s", "5"),
        ("s=null", "s", None),
        ("s=", "s", ""),
        ("s=a=b", "s", "a=b"),
        ("new.deep.er=true", "new", {"deep": {"er": True}}),
        ("list[0]=x", "list", ["x"]),
        ("a.b[0]=7", "a", {"b": [7, *SMALL["a"]["b"][1:]]}),
        ("a.b[-1]=7", "a", {"b": [*SMALL["a"]["b"][:2], 7]}),
        ("a.b[3].v=7", "a", {"b": [*SMALL["a"]["b"], {"v": 7}]}),
        ("a.b[n=y].v=7", "a", {"b": [*SMALL["a"]["b"][:2], {"n": "y", "v": 7}]}),
        ("a.b[v=2].n=z", "a", {"b": [*SMALL["a"]["b"][:2], {"n": "z", "v": 2}]}),
        ("a[b][0]=7", "a", {"b": [7, *SMALL["a"]["b"][1:]]}),
        ('m["x.y=z"]=1', "m", {"x.y=z": 1}),
        ("m[x.y]=1", "m", {"x.y": 1}),
        ("l+=r", "l", ["p", "q", "p", "r"]),
        ("l+=[1]", "l", ["p", "q", "p", [1]]),
        ("more+=r", "more", ["r"]),
        ('a+={"c":1}', "a", {**SMALL["a"], "c": 1}),
        ("l-=p", "l", ["q"]),
        ("l[0]-", "l", ["q", "p"]),
        ("a.b[n=x]-", "a", {"b": [SMALL["a"]["b"][0], SMALL["a"]["b"][2]]}),
    ],
)
def test_a_change(word, path, expected):
    before = copy.deepcopy(SMALL)
    assert edit.apply(before, word) == {**SMALL, path: expected}
    assert before == SMALL, "the old document is left as it was"


def test_taking_out():
    assert "s" not in edit.apply(SMALL, "s-")
    assert edit.apply(SMALL, "none-") == SMALL


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("s", "not a change 's'"),
        ("", "not a change ''"),
        ("=5", "no path in change '=5'"),
        ("-", "no path in change '-'"),
        ("a..b=1", "empty name in path 'a..b'"),
        (".a=1", "empty name in path '.a'"),
        ("a.=1", "empty name in path 'a.'"),
        ("a[0=1", "not a change 'a[0=1'"),
        ("s.x=1", """cannot change 's.x=1': 'x' is looked for in "t\""""),
        ("s[0]=1", "cannot change 's[0]=1': item 0 is looked for in"),
        ("l.x=1", "cannot change 'l.x=1': 'x' is looked for in"),
        ("l[9]=1", "cannot change 'l[9]=1': there are 3 items"),
        ("l[-4]=1", "cannot change 'l[-4]=1': there are 3 items"),
        ("a.b[n=z].v=1", "cannot change 'a.b[n=z].v=1': no item with n=z"),
        ("l-=z", "cannot change 'l-=z': there is no such item"),
        ("s-=t", "cannot change 's-=t': there is no such item"),
        ("s+=t", """cannot change 's+=t': "t" is no list"""),
    ],
)
def test_a_change_that_cannot_be(word, message):
    with pytest.raises(Error) as caught:
        edit.apply(SMALL, word)
    assert str(caught.value).startswith(message)


def test_what_config_json_holds_decides_what_a_word_means():
    made = spec.default()
    for word in (
        "hostname=5", "annotations.a=true", "linux.sysctl[net.ipv4.ip_forward]=1", "process.args[0]=7",
        "process.env+=1=1", "process.user.uid=7", "process.terminal=true", 'process.args=["id","-u"]',
        "process.capabilities.bounding-=CAP_KILL", "mounts[destination=/sys].options+=rw",
        "linux.namespaces[type=network]-", "linux.resources.pids.limit=10",
    ):  # fmt: skip
        made = edit.apply(made, word)
    assert made["hostname"] == "5" and made["annotations"] == {"a": "true"}
    assert made["linux"]["sysctl"] == {"net.ipv4.ip_forward": "1"}
    assert made["process"]["args"] == ["id", "-u"] and made["process"]["env"][-1] == "1=1"
    assert made["process"]["user"]["uid"] == 7 and made["process"]["terminal"] is True
    assert "CAP_KILL" not in made["process"]["capabilities"]["bounding"]
    assert made["mounts"][3]["options"][-1] == "rw"
    assert {"type": "network"} not in made["linux"]["namespaces"]
    assert made["linux"]["resources"]["pids"] == {"limit": 10}


names = st.text(min_size=1, max_size=5).filter(lambda name: "]" not in name and "[" not in name)


@given(st.lists(names | st.integers(0, 0), min_size=1, max_size=4), st.integers())
def test_any_name_can_be_written_in_brackets(steps, value):
    if not isinstance(steps[0], str):
        steps = ["x", *steps]
    word = "".join(f"[{step}]" if isinstance(step, int) else f'["{step}"]' for step in steps)
    found = edit.apply({}, f"{word}={value}")
    kind = edit._kind(edit.parse(word), edit.CONFIG)
    for step in steps:
        found = found[step]
    assert found == (
        value if kind is None or isinstance(kind, (dict, list, tuple)) or kind == "bool" else str(value)
    )


# -- the examples of the RFCs ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [  # RFC 7386, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge(target, patch, result):
    assert edit.merge(target, patch) == result


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [  # RFC 6902, appendix A
        ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"foo": "bar", "baz": "qux"}),
        ({"foo": ["bar", "baz"]}, [{"op": "add", "path": "/foo/1", "value": "q"}], {"foo": ["bar", "q", "baz"]}),
        ({"baz": "q", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
        ({"foo": ["a", "b", "c"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["a", "c"]}),
        ({"baz": "q", "foo": "bar"}, [{"op": "replace", "path": "/baz", "value": 1}], {"baz": 1, "foo": "bar"}),
        ({"foo": {"bar": "baz", "w": "f"}, "q": {"c": "g"}}, [{"op": "move", "from": "/foo/w", "path": "/q/t"}],
         {"foo": {"bar": "baz"}, "q": {"c": "g", "t": "f"}}),
        ({"foo": ["all", "g", "c", "eat"]}, [{"op": "move", "from": "/foo/1", "path": "/foo/3"}],
         {"foo": ["all", "c", "eat", "g"]}),
        ({"baz": "q", "foo": ["a", 2, "c"]},
         [{"op": "test", "path": "/baz", "value": "q"}, {"op": "test", "path": "/foo/1", "value": 2}],
         {"baz": "q", "foo": ["a", 2, "c"]}),
        ({"foo": "bar"}, [{"op": "add", "path": "/child", "value": {"g": {}}}], {"foo": "bar", "child": {"g": {}}}),
        ({"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}),
        ({"foo": ["bar"]}, [{"op": "add", "path": "/foo/-", "value": ["x"]}], {"foo": ["bar", ["x"]]}),
        ({"a": [1]}, [{"op": "copy", "from": "/a", "path": "/b"}], {"a": [1], "b": [1]}),
        ({"a": 1}, [{"op": "replace", "path": "", "value": 5}], 5),
        ({"a": None}, [{"op": "test", "path": "/a", "value": None}], {"a": None}),
        ({"a": [1]}, [{"op": "replace", "path": "/a/0", "value": 2}], {"a": [2]}),
        ({"": 1}, [{"op": "remove", "path": "/"}], {}),
        ({"a": 1.0}, [{"op": "test", "path": "/a", "value": 1}], {"a": 1.0}),
    ],
)  # fmt: skip
def test_patch(target, patch, result):
    before = copy.deepcopy(target)
    assert edit.patch(target, patch) == result
    assert target == before


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ({}, "cannot patch: expected a list of operations, got {}"),
        ([5], "cannot patch: operation 0: expected an object, got 5"),
        ([{"op": "x", "path": ""}], 'cannot patch: operation 0: unknown operation "x"'),
        (
            [{"op": "add", "path": "a", "value": 1}],
            'cannot patch: operation 0: path: expected a JSON pointer, got "a"',
        ),
        ([{"op": "add", "path": "/a"}], "cannot patch: operation 0: value: missing"),
        ([{"op": "add", "path": "/x/y", "value": 1}], "cannot patch: operation 0: there is no 'x'"),
        ([{"op": "remove", "path": "/x"}], "cannot patch: operation 0: there is no 'x'"),
        ([{"op": "remove", "path": ""}], "cannot patch: operation 0: cannot take out the whole document"),
        ([{"op": "replace", "path": "/x", "value": 1}], "cannot patch: operation 0: there is no '/x'"),
        ([{"op": "add", "path": "/l/3", "value": 1}], "cannot patch: operation 0: there is no item '3'"),
        ([{"op": "remove", "path": "/l/2"}], "cannot patch: operation 0: there is no item '2'"),
        ([{"op": "remove", "path": "/l/-"}], "cannot patch: operation 0: there is no item '-'"),
        ([{"op": "add", "path": "/l/01", "value": 1}], "cannot patch: operation 0: there is no item '01'"),
        (
            [{"op": "test", "path": "/s", "value": "x"}],
            "cannot patch: operation 0: test of '/s' failed: it is \"t\"",
        ),
        (
            [{"op": "test", "path": "/l", "value": [1, True]}],
            "cannot patch: operation 0: test of '/l' failed",
        ),
        (
            [{"op": "move", "from": "/o", "path": "/o/x"}],
            "cannot patch: operation 0: cannot move a value into itself",
        ),
        (
            [{"op": "copy", "from": 5, "path": "/x"}],
            "cannot patch: operation 0: from: expected a JSON pointer, got 5",
        ),
        (
            [{"op": "remove", "path": "/s"}, {"op": "remove", "path": "/s"}],
            "cannot patch: operation 1: there is no",
        ),
    ],
)
def test_a_patch_that_cannot_be(patch, message):
    with pytest.raises(Error) as caught:
        edit.patch({"s": "t", "l": [1, 1], "o": {}}, patch)
    assert str(caught.value).startswith(message)
