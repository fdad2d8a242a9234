"""The lesion and where it sits: sites, wall defects, lesions and findings about them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from trocar.errors import InputError
from trocar.model.space import Float, Mask

SiteKind = Literal[
    "vertebra", "sacrum", "ilium", "acetabulum", "ischium", "pubis", "femur", "humerus"
]
Side = Literal["", "left", "right"]

_LEVEL = re.compile(r"^(C[1-7]|T(?:[1-9]|1[0-3])|L[1-6])$")
_PELVIC = ("ilium", "acetabulum", "ischium", "pubis")
LEVELS = (
    *(f"C{i}" for i in range(1, 8)),
    *(f"T{i}" for i in range(1, 13)),
    *(f"L{i}" for i in range(1, 6)),
)


@dataclass(frozen=True, kw_only=True)
class Site:
    """A place in the skeleton: the kind of bone, the vertebral level, the side."""

    kind: SiteKind
    level: str = ""
    side: Side = ""

    @classmethod
    def parse(cls, text: str) -> Site:
        """A site from words: ``L1``, ``T10``, ``sacrum``, ``acetabulum right``, ``femur_left``.

        >>> Site.parse("L1")
        Site(kind='vertebra', level='L1', side='')
        >>> str(Site.parse("acetabulum_right"))
        'right acetabulum'
        """
        words = re.split(r"[\s_\-]+", text.strip().lower().replace("vertebrae_", ""))
        if len(words) == 1 and _LEVEL.match(words[0].upper()):
            return cls(kind="vertebra", level=words[0].upper())
        if len(words) == 1 and re.match(r"^s[1-5]$", words[0]):
            return cls(kind="sacrum", level=words[0].upper())
        if words == ["sacrum"]:
            return cls(kind="sacrum")
        sides = [w for w in words if w in ("left", "right")]
        kinds = [w for w in words if w not in ("left", "right")]
        alias = {"hip": "ilium", "roof": "acetabulum", "ramus": "pubis", "pubic": "pubis"}
        kinds = [alias.get(k, k) for k in kinds]
        known = (*_PELVIC, "femur", "humerus")
        if len(sides) == 1 and kinds and all(k in known for k in kinds) and len(set(kinds)) == 1:
            return cls(kind=kinds[0], side=sides[0])  # type: ignore[arg-type]
        raise InputError(
            f"the site {text!r} is not one trocar knows; give a level such as L1 or T10, 'sacrum', "
            "or a bone with its side such as 'acetabulum right' or 'femur left'"
        )

    @property
    def bone_label(self) -> str:
        """The TotalSegmentator class that holds this site."""
        if self.kind == "vertebra":
            return f"vertebrae_{self.level}"
        if self.kind == "sacrum":
            return "sacrum"
        return f"{'hip' if self.kind in _PELVIC else self.kind}_{self.side}"

    @property
    def region(self) -> str:
        """Region used to choose needles: cervical, upper_thoracic, lower_thoracic, lumbar, ..."""
        if self.kind == "vertebra":
            if self.level.startswith("C"):
                return "cervical"
            if self.level.startswith("T"):
                return "upper_thoracic" if int(self.level[1:]) <= 5 else "lower_thoracic"
            return "lumbar"
        if self.kind == "sacrum":
            return "sacrum"
        return "pelvis" if self.kind in _PELVIC else "long_bone"

    def __str__(self) -> str:
        if self.kind in ("vertebra", "sacrum"):
            return self.level or "sacrum"
        return f"{self.side} {self.kind}"


class Gravity(StrEnum):
    """How grave a finding is; a sheet prints the gravest first."""

    STOP = "stop"
    CAUTION = "caution"
    NOTE = "note"

    @property
    def rank(self) -> int:
        """0 for stop, 1 for caution, 2 for note."""
        return list(Gravity).index(self)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something a person must be told: a sentence with its numbers kept apart.

    ``message`` is an English sentence with ``str.format`` places for ``values``; it is also the
    key under which a report finds its translation.
    """

    gravity: Gravity
    message: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.message.format(**self.values)


def gravest_first(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """The same findings, stop before caution before note, otherwise in the order they came."""
    return tuple(sorted(findings, key=lambda f: f.gravity.rank))


@dataclass(frozen=True, eq=False, kw_only=True)
class WallDefect:
    """A hole in the cortex: which wall, how large, where."""

    wall: str  # "posterior wall", "superior end plate", "left pedicle", "medial wall", ...
    area_mm2: float
    centre_mm: Float
    extent_mm: float = 0.0  # longest distance across the hole
    points_mm: Float | None = None  # (n, 3) points of the hole on the bone's surface


@dataclass(frozen=True, eq=False, kw_only=True)
class Lesion:
    """One painful lesion as read on one CT.

    ``mask`` is the whole lesion; ``soft_tissue_ml`` is its part outside the bone's own outline.
    ``bone_fraction`` is lesion volume inside the bone over bone volume; ``mirels_fraction`` the
    largest share of the bone's diameter it takes in any cut across the bone's axis.
    """

    lesion_id: str
    site: Site
    mask: Mask
    kind: Literal["lytic", "mixed", "blastic", "unknown"]
    volume_ml: float
    diameters_mm: tuple[float, float, float]  # longest first, mutually perpendicular
    mean_hu: float
    bone_fraction: float
    mirels_fraction: float
    soft_tissue_ml: float
    defects: tuple[WallDefect, ...] = ()
    distances_mm: Mapping[str, float] = field(
        default_factory=dict
    )  # surface to surface, 0 = touches
    found_by: str = ""  # "given mask", "one click", "proposed", "corrected by hand"
    findings: tuple[Finding, ...] = ()

    @property
    def centre_mm(self) -> Float:
        """LPS centre of mass of the lesion."""
        return self.mask.centroid_mm
