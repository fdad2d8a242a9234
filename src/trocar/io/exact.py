"""Records in one file and back, equal bit for bit: arrays as they are, all else as JSON in one npz.

For trocar's own way from one step to the next; what others read is written by ``exports``. Such a
file cannot run anything: only records of ``trocar.model`` and ``trocar.facts`` are made from it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trocar.errors import InputError
from trocar.io.formats import write_whole

_ROOMS = ("trocar.model.", "trocar.facts.")
_TREE, _HASH = "json", "sha256"


def write_exact(path: str | Path, value: Any) -> Path:
    """Writes records, arrays, mappings and plain values; whole or not at all.

    The name must end in ``.npz``. Raises TypeError for what is none of these.
    """
    arrays: list[NDArray[Any]] = []
    text = _json(_taken_apart(value, arrays))
    held = {f"a{k}": a for k, a in enumerate(arrays)}
    held[_TREE] = np.frombuffer(text, np.uint8)
    held[_HASH] = np.array(_digest(text, arrays))

    def write(part: Path) -> None:
        np.savez_compressed(part, **held)  # type: ignore[arg-type]

    return write_whole(Path(path), write)


def read_exact(path: str | Path) -> Any:
    """What :func:`write_exact` was given. Raises InputError for a file that does not say it."""
    place = Path(path)
    try:
        with np.load(place, allow_pickle=False) as file:
            held = {name: file[name] for name in file.files}
        text = held[_TREE].tobytes()
        # Not every reader of a zip looks at its checksums.
        if _digest(text, [held[f"a{k}"] for k in range(len(held) - 2)]) != held[_HASH]:
            raise ValueError("its content is not what was written")
        return _put_together(json.loads(text), held)
    except Exception as error:  # a damaged file fails in many ways; none may pass
        raise InputError(
            f"{place.name} is damaged or of another version of trocar "
            f"({type(error).__name__}: {error})"
        ) from error


def fingerprint(value: Any) -> str:
    """A hash of every bit of records, arrays, mappings and plain values.

    >>> fingerprint((1, 2.0)) == fingerprint((1, 2.0)), fingerprint((1, 2)) == fingerprint((1, 2.0))
    (True, False)
    """
    arrays: list[NDArray[Any]] = []
    return _digest(_json(_taken_apart(value, arrays)), arrays)


def _digest(text: bytes, arrays: Sequence[NDArray[Any]]) -> str:
    digest = hashlib.sha256(text)
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _json(tree: Any) -> bytes:
    return json.dumps(tree, ensure_ascii=False).encode()  # a float's shortest form reads back exact


def _taken_apart(value: Any, arrays: list[NDArray[Any]]) -> Any:
    """JSON values with the places of the arrays, which are added to ``arrays``."""
    if isinstance(value, Enum):
        return {"enum": _name_of(type(value)), "value": value.value}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (np.ndarray, np.generic)):
        return _array(np.asarray(value), arrays) | {"scalar": isinstance(value, np.generic)}
    if isinstance(value, tuple):
        return {"tuple": [_taken_apart(v, arrays) for v in value]}
    if isinstance(value, list):
        return [_taken_apart(v, arrays) for v in value]
    if isinstance(value, Mapping):
        return {"map": [[_taken_apart(x, arrays) for x in pair] for pair in value.items()]}
    if is_dataclass(value) and not isinstance(value, type):
        held = {f.name: _taken_apart(getattr(value, f.name), arrays) for f in fields(value)}
        return {"record": _name_of(type(value)), "held": held}
    raise TypeError(f"{type(value).__name__} cannot be kept exactly")


def _array(array: NDArray[Any], arrays: list[NDArray[Any]]) -> dict[str, Any]:
    if array.dtype.hasobject:
        raise TypeError("an array of objects cannot be kept exactly")
    bits = array.dtype == np.bool_  # masks are many and large: eight voxels to a byte
    arrays.append(np.packbits(array) if bits else array)
    return {"array": len(arrays) - 1, "bits": list(array.shape) if bits else None}


def _put_together(tree: Any, held: Mapping[str, NDArray[Any]]) -> Any:
    if isinstance(tree, list):
        return [_put_together(v, held) for v in tree]
    if not isinstance(tree, dict):
        return tree
    if "enum" in tree:
        return _class(tree["enum"])(tree["value"])
    if "tuple" in tree:
        return tuple(_put_together(v, held) for v in tree["tuple"])
    if "map" in tree:
        return {_put_together(k, held): _put_together(v, held) for k, v in tree["map"]}
    if "record" in tree:
        values = {name: _put_together(v, held) for name, v in tree["held"].items()}
        return _class(tree["record"])(**values)
    array = held[f"a{tree['array']}"]
    if tree["bits"] is not None:
        shape = tuple(tree["bits"])
        count = int(np.prod(shape, dtype=np.int64))
        array = np.unpackbits(array, count=count).view(np.bool_).reshape(shape)
    return array[()] if tree["scalar"] else array


def _name_of(kind: type) -> str:
    if not kind.__module__.startswith(_ROOMS):
        raise TypeError(f"{kind.__module__}.{kind.__qualname__} is no record that can be kept")
    return f"{kind.__module__}:{kind.__qualname__}"


def _class(name: str) -> Any:
    module, _, kind = name.partition(":")
    if not module.startswith(_ROOMS):
        raise TypeError(f"{name} is no record")
    found = getattr(import_module(module), kind)
    if not (isinstance(found, type) and (is_dataclass(found) or issubclass(found, Enum))):
        raise TypeError(f"{name} is no record")
    return found
