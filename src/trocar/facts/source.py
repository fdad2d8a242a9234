"""A known number and where it comes from."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

Evidence = Literal["verified", "general knowledge", "placeholder"]


@dataclass(frozen=True, kw_only=True)
class Value:
    """A number with its spread, unit, source and evidence grade.

    ``evidence`` is ``verified`` (read in the source), ``general knowledge`` (believed, not looked
    up) or ``placeholder`` (a stand-in until somebody supplies the right number).
    """

    name: str
    mean: float
    unit: str
    source: str
    evidence: Evidence
    low: float | None = None
    high: float | None = None
    note: str = ""

    def __float__(self) -> float:
        return float(self.mean)

    @property
    def verified(self) -> bool:
        """Whether the number was read in its source."""
        return self.evidence == "verified"


@dataclass(frozen=True, eq=False, kw_only=True)
class Table:
    """One file of facts: its values by name, other data, version and content hash."""

    name: str
    version: str
    sha256: str
    values: Mapping[str, Value]
    data: Mapping[str, Any]

    def __getitem__(self, key: str) -> Value:
        try:
            return self.values[key]
        except KeyError:
            raise KeyError(f"facts/{self.name}.toml holds no {key!r}") from None


@cache
def load(name: str) -> Table:
    """The facts file ``<name>.toml``; every ``[values.x]`` block becomes a :class:`Value`."""
    raw = resources.files("trocar.facts").joinpath(f"{name}.toml").read_bytes()
    data = tomllib.loads(raw.decode("utf-8"))
    values = {key: Value(name=key, **block) for key, block in data.get("values", {}).items()}
    return Table(
        name=name,
        version=str(data["version"]),
        sha256=hashlib.sha256(raw).hexdigest(),
        values=values,
        data=data,
    )


def versions() -> dict[str, str]:
    """Version and short hash of every facts file, for the provenance of a result."""
    names = sorted(
        entry.name.removesuffix(".toml")
        for entry in resources.files("trocar.facts").iterdir()
        if entry.name.endswith(".toml")
    )
    return {n: f"{load(n).version} ({load(n).sha256[:12]})" for n in names}
