"""Records of arrays as plain JSON and arrays, and back; nothing is executed.

An object of a known class is written as the name of its class and its attributes. It is read back
by giving the attributes to an empty object of that class: no constructor runs, and a name that is
not known is refused. Fields of dataclasses with the metadata `NOT_STORED` are left out. Objects
that belong to a process, such as compiled functions, are written as names, and given to the reader.

An array comes back with its order in memory, since sums over it are rounded otherwise in another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

__all__ = ["NOT_STORED", "CodecError", "decode", "encode"]

# Key of the metadata of a dataclass field that is not written: it is made again when needed.
NOT_STORED = "not stored"
# Most bytes of an array with gaps: more come from a damaged file. Conventional.
MAX_BYTES = 2**40
# What damaged records raise where they are read; those of lengths that no memory holds, too.
_DAMAGE = (
    AttributeError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)
_FLOATS = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


class CodecError(ValueError):
    """An object cannot be written, or a record cannot be read; the message says which."""


def encode(
    root: object, names: Mapping[type, str], outside: Mapping[str, object] | None = None
) -> tuple[Any, list[np.ndarray]]:
    """Turn an object into values that JSON knows, and a list of arrays.

    Parameters
    ----------
    root : object
    names : mapping
        Name of each class whose objects may occur.
    outside : mapping, optional
        Objects of which no more than the name is written.

    Returns
    -------
    node : object
        Numbers, texts, lists and dicts.
    arrays : list of numpy.ndarray
        Arrays of numbers, referred to by their place in the list. An array or object that occurs
        twice is written once.

    Raises
    ------
    CodecError
        If there is an object of another class.
    """
    writer = _Writer(names, outside or {})
    return writer.node(root, type(root).__name__), writer.arrays


def decode(
    node: Any,
    arrays: Sequence[np.ndarray],
    classes: Mapping[str, type],
    outside: Mapping[str, object] | None = None,
) -> Any:
    """Turn values and arrays that `encode` has returned into the object.

    Parameters
    ----------
    node : object
    arrays : sequence of numpy.ndarray
    classes : mapping
        Class of each name.
    outside : mapping, optional
        Objects of which no more than the name was written.

    Raises
    ------
    CodecError
        If the values are not what `encode` returns, or name a class that is not known.
    """
    try:
        return _Reader(arrays, classes, outside or {}).value(node)
    except CodecError:
        raise
    except _DAMAGE as error:
        raise CodecError(f"a record is damaged ({type(error).__name__}: {error})") from error


class _Writer:
    def __init__(self, names: Mapping[type, str], outside: Mapping[str, object]) -> None:
        self.names = names
        self.arrays: list[np.ndarray] = []
        # Objects are kept beside their number, so that no other object gets their id.
        self.known: dict[int, tuple[Any, Any]] = {
            id(value): (value, {"outside": name}) for name, value in outside.items()
        }
        self.n_objects = 0

    def node(self, value: Any, path: str) -> Any:
        """Return the node of a value; `path` says in an error where the value is."""
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            return value if math.isfinite(value) else {"float": str(value)}
        if kind is list:
            return [self.node(v, f"{path}[{i}]") for i, v in enumerate(value)]
        if kind is tuple:
            return {"tuple": [self.node(v, f"{path}[{i}]") for i, v in enumerate(value)]}
        if kind is slice:
            parts = (value.start, value.stop, value.step)
            return {"slice": [self.node(v, path) for v in parts]}
        if isinstance(value, Mapping):
            items = ((k, v, f"{path}[{k!r}]") for k, v in value.items())
            return {"dict": [[self.node(k, at), self.node(v, at)] for k, v, at in items]}
        if isinstance(value, np.generic):
            return {"scalar": self.array(np.asarray(value), path)}
        if id(value) in self.known:
            return self.known[id(value)][1]
        if kind in self.names:
            number = self.n_objects
            self.n_objects += 1
            self.known[id(value)] = value, {"same": number}
            return {
                "class": self.names[kind],
                "number": number,
                "attributes": {n: self.node(v, f"{path}.{n}") for n, v in _attributes(value)},
            }
        if isinstance(value, sparse.csr_matrix):
            parts = (value.data, value.indices, value.indptr)
            return {"csr": [self.array(p, path) for p in parts], "shape": list(value.shape)}
        array = _as_array(value)
        if array is None:
            raise CodecError(f"{path} is a {kind.__module__}.{kind.__qualname__}")
        node: dict[str, Any] = {"array": self.array(array, path)}
        if not array.flags.forc:
            node["strides"] = list(array.strides)
        self.known[id(value)] = value, node
        return node

    def array(self, array: np.ndarray, path: str) -> int:
        if array.dtype.hasobject:
            raise CodecError(f"{path} is an array of objects")
        self.arrays.append(array)
        return len(self.arrays) - 1


class _Reader:
    def __init__(
        self,
        arrays: Sequence[np.ndarray],
        classes: Mapping[str, type],
        outside: Mapping[str, object],
    ) -> None:
        self.arrays, self.classes, self.outside = arrays, classes, outside
        self.placed: dict[int, np.ndarray] = {}
        self.objects: dict[int, Any] = {}

    def value(self, node: Any) -> Any:
        """Return the value of a node."""
        if isinstance(node, list):
            return [self.value(v) for v in node]
        if not isinstance(node, dict):
            return node
        if "class" in node:
            return self.instance(node)
        if "csr" in node:
            parts = tuple(self.arrays[i] for i in node["csr"])
            matrix = sparse.csr_matrix(parts, shape=tuple(node["shape"]))
            # SciPy's products do not check indices: they would read beyond the array.
            matrix.check_format(full_check=True)
            return matrix
        if "strides" in node:
            return self.strided(node["array"], node["strides"])
        [(kind, content)] = node.items()
        if kind == "tuple":
            return tuple(self.value(v) for v in content)
        if kind == "dict":
            return {self.value(k): self.value(v) for k, v in content}
        if kind == "slice":
            return slice(*(self.value(v) for v in content))
        if kind == "array":
            return self.arrays[content]
        if kind == "scalar":
            return self.arrays[content][()]
        if kind == "float":
            return _FLOATS[content]
        if kind == "same":
            return self.objects[content]
        if kind == "outside":
            return self.outside[content]
        raise CodecError(f"{kind!r} is no kind of value")

    def strided(self, number: int, strides: list[int]) -> np.ndarray:
        """Return an array as it lay in memory, with gaps or its axes in another order."""
        if number not in self.placed:
            self.placed[number] = _placed(self.arrays[number], strides)
        return self.placed[number]

    def instance(self, node: dict[str, Any]) -> Any:
        name = node["class"]
        if name not in self.classes:
            raise CodecError(f"{name!r} is no class of a fit")
        kind, attributes = self.classes[name], node["attributes"]
        if is_dataclass(kind):
            for f in fields(kind):
                if f.name not in attributes and f.default is MISSING:
                    raise CodecError(f"a {name} has no {f.name!r}")
        new: Any = object.__new__(kind)
        self.objects[node["number"]] = new
        vars(new).update((str(n), self.value(v)) for n, v in attributes.items())
        return new


def _attributes(value: object) -> list[tuple[str, Any]]:
    """Return an object's attributes without those that are computed again when they are needed."""
    kind = type(value)
    left_out = set()
    if is_dataclass(kind):
        left_out = {f.name for f in fields(kind) if f.metadata.get(NOT_STORED)}
    return [
        (name, v) for name, v in vars(value).items()
        if name not in left_out and not isinstance(getattr(kind, name, None), cached_property)
    ]  # fmt: skip


def _placed(array: np.ndarray, strides: Sequence[int]) -> np.ndarray:
    """Return a copy of an array with given steps, in bytes, between elements of each axis."""
    if len(strides) != array.ndim or any(type(step) is not int for step in strides):
        raise CodecError("the steps of an array are damaged")
    ends = [step * (n - 1) for step, n in zip(strides, array.shape, strict=True)]
    first = -sum(end for end in ends if end < 0)
    size = first + sum(end for end in ends if end > 0) + array.itemsize
    if size > MAX_BYTES:
        raise CodecError("the steps of an array are damaged")
    out: np.ndarray = np.ndarray(
        array.shape, array.dtype, np.empty(size, np.uint8), first, tuple(strides)
    )
    out[...] = array
    return out


def _as_array(value: Any) -> np.ndarray | None:
    """Return an array, or what NumPy takes for one, as an array; None for anything else."""
    if type(value) is np.ndarray:
        return value
    if not hasattr(value, "__array__"):
        return None
    array = np.asarray(value)
    return None if array.dtype.hasobject else array
