"""`os` without the abstract classes: they take a tenth of a small command's start, and nothing else of it.

`os` wants them for the base of `os.environ`.  Whoever imports this module before `os` has `_collections_abc` made when
somebody asks for one of its 25 classes; until then `os.environ` is as it is with them.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MODULE: "Any" = type(sys)


class _Abstract(_MODULE):  # type: ignore[misc]
    """`_collections_abc` as `os` needs it: its 25 classes, a millisecond, are made when somebody asks for one."""

    def __getattr__(self, name: str) -> "Any":
        if name[:2] == "__" and name != "__all__":
            raise AttributeError(name)  # Python's own looking around
        with _MAKING:
            if type(self) is _Abstract:
                spec: Any = FrozenImporter.find_spec(self.__name__) or _find_spec(self.__name__, None)
                self.__spec__, self.__loader__ = spec, spec.loader
                spec.loader.exec_module(self)
                self.MutableMapping.register(type(os.environ))
                self.__class__ = _MODULE
        return getattr(self, name)


class _Kind(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _abstract.Mapping)


class _Mapping(metaclass=_Kind):
    """The base of `os.environ`: what is asked of it most; the rest is the true class's."""

    def get(self, key: str, default: "Any" = None) -> "Any":
        try:
            return self[key]  # type: ignore[index]
        except KeyError:
            return default

    def pop(self, key: str, *default: "Any") -> "Any":
        if default and key not in self:
            return default[0]
        value = self[key]  # type: ignore[index]
        del self[key]
        return value

    def __contains__(self, key: object) -> bool:
        try:
            self[key]  # type: ignore[index]
        except KeyError:
            return False
        return True

    def __eq__(self, other: object) -> "Any":
        return _abstract.Mapping.__eq__(self, other)

    def keys(self) -> "Any":
        return dict.fromkeys(self).keys()

    def values(self) -> "Any":
        return {key: self[key] for key in self}.values()  # type: ignore[attr-defined,index]

    def items(self) -> "Any":
        return {key: self[key] for key in self}.items()  # type: ignore[attr-defined,index]

    __hash__ = None  # type: ignore[assignment]

    def __getattr__(self, name: str) -> "Any":
        return getattr(_abstract.MutableMapping, name).__get__(self)


if "os" not in sys.modules and "_collections_abc" not in sys.modules:
    from _frozen_importlib import FrozenImporter, _find_spec  # type: ignore[attr-defined]
    from _thread import RLock

    _MAKING = RLock()
    sys.modules["_collections_abc"] = _abstract = _Abstract("_collections_abc")
    _abstract.Mapping = _abstract.MutableMapping = _Mapping
    _abstract._check_methods = lambda *words: _abstract._check_methods(*words)  # noqa: PLW0108 (which is another then)
    import os

    del _abstract.Mapping, _abstract.MutableMapping, _abstract._check_methods
