"""What was published, as data: the source documents' figures, and one estimate from several series.

Every figure carries its document, its clause and how sure we are to have read it. Printed figures
are strings, because 5.0 and 5 do not say the same; counts are whole numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from trocar.errors import InputError
from trocar.facts.source import Evidence, Value, load
from trocar.stats.exact import Interval, Proportion

if TYPE_CHECKING:
    from trocar.stats.pooling import PooledProportion, ProportionMethod

LIKE_OURS = ("malignant", "mixed")
"""Populations an audit of bone metastases is compared with."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """Where figures come from: its short name, how to cite it, where to find it."""

    key: str
    name: str
    cite: str
    link: str


@dataclass(frozen=True, kw_only=True)
class Item:
    """One published figure. ``key`` names it, ``outcome`` says what it can be compared with.

    ``unit`` is what was counted or measured in, ``time`` the time point as printed and ``day`` its
    nominal day after the procedure, ``series`` tells series of one clause apart. ``n_assumed``: n
    is that of the series and not printed beside the figure. ``same_as`` is the key of an item that
    tells of the same patients.
    """

    key: str
    document: Document
    clause: str
    outcome: str
    what: str
    unit: str
    time: str = ""
    day: float | None = None
    series: str = ""
    population: str = "malignant"
    note: str = ""
    evidence: Evidence = "verified"
    n_assumed: bool = False
    same_as: str = ""

    @property
    def label(self) -> str:
        """Document, clause and series, as a row of a forest plot is named."""
        return f"{self.document.name} {self.clause}" + (f", {self.series}" if self.series else "")


@dataclass(frozen=True, kw_only=True)
class Count(Item):
    """x of n units; ``printed`` is the percentage printed beside it, ``limits`` those of 95 %."""

    x: int
    n: int
    printed: str = ""
    limits: tuple[str, str] | None = None

    @property
    def proportion(self) -> Proportion:
        """The counts, for intervals and print."""
        return Proportion(self.x, self.n)


@dataclass(frozen=True, kw_only=True)
class Percent(Item):
    """A percentage, or from ``low`` to ``high``, without counts; ``n`` where it is printed."""

    printed: str = ""
    low: str = ""
    high: str = ""
    n: int | None = None


@dataclass(frozen=True, kw_only=True)
class Mean(Item):
    """A mean with its SD. ``scale`` is the lowest and highest score, ``step`` that of the scale.

    ``step`` is empty where the source does not say in what steps scores were read.
    """

    mean: str
    sd: str = ""
    n: int | None = None
    scale: tuple[float, float] | None = None
    step: str = ""


@dataclass(frozen=True, kw_only=True)
class Change(Item):
    """A printed difference of two means, ``of`` (before, after) by their keys."""

    of: tuple[str, str]
    printed: str
    sd: str = ""
    n: int | None = None


@dataclass(frozen=True, kw_only=True)
class Number(Item):
    """Any other figure: ``printed``, or from ``low`` to ``high``."""

    printed: str = ""
    low: str = ""
    high: str = ""


@dataclass(frozen=True, kw_only=True)
class Total(Item):
    """Parts that must add up to ``total``; ``rounded`` for percentages rounded one by one."""

    parts: Mapping[str, str]
    total: str
    rounded: bool = False


@dataclass(frozen=True, kw_only=True)
class PValue(Item):
    """A printed P. ``test`` and the counts or items (``of``, by key) it comes from, where known."""

    printed: str
    test: str = ""
    n: int | None = None
    better: int | None = None
    worse: int | None = None
    ties: int = 0
    of: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Twice(Item):
    """One thing told in two places. They may differ "only if" what ``because`` says."""

    told: Mapping[str, str]
    because: str = ""


_KINDS: dict[str, type[Item]] = {
    "count": Count, "percent": Percent, "mean": Mean, "change": Change, "number": Number,
    "total": Total, "p": PValue, "twice": Twice,
}  # fmt: skip


def evidence(outcome: str | None = None, document: str | None = None) -> tuple[Item, ...]:
    """Which figures were published, of an outcome or in a document?

    ``document`` is a key ("S0") or a name ("IPG179"). Raises InputError for an outcome or a
    document that nothing is known of.

    >>> [f"{i.x}/{i.n}" for i in evidence("leak", "IPG179") if isinstance(i, Count)]
    ['1/18', '2/14', '3/11', '9/18']
    """
    items = tuple(_items().values())
    if outcome is not None and outcome not in outcomes():
        raise InputError(
            f'nothing was published of the outcome "{outcome}"; expected one of '
            + ", ".join(outcomes())
        )
    names = {d.key for d in documents()} | {d.name for d in documents()}
    if document is not None and document not in names:
        raise InputError(
            f'"{document}" is no document trocar knows; expected one of '
            + ", ".join(f"{d.key} ({d.name})" for d in documents())
        )
    return tuple(
        i
        for i in items
        if outcome in (None, i.outcome) and document in (None, i.document.key, i.document.name)
    )


def item(key: str) -> Item:
    """The figure of that key, such as ``S0-leak-1``. Raises InputError when there is none."""
    try:
        return _items()[key]
    except KeyError:
        raise InputError(
            f'"{key}" is no key of a published figure; expected one of facts/evidence.toml'
        ) from None


def documents() -> tuple[Document, ...]:
    """The documents figures come from, the five source documents first."""
    return tuple(_documents().values())


@cache
def outcomes() -> tuple[str, ...]:
    """The outcomes of which something was published, in alphabetical order."""
    return tuple(sorted({i.outcome for i in _items().values()}))


@cache
def _documents() -> dict[str, Document]:
    blocks = load("evidence").data["documents"]
    return {key: Document(key=key, **block) for key, block in blocks.items()}


@cache
def _items() -> dict[str, Item]:
    return {i.key: i for i in _read(load("evidence").data["sections"])}


def _read(sections: list[dict[str, Any]]) -> Iterator[Item]:
    for section in sections:
        shared = {k: v for k, v in section.items() if k not in ("document", "items")}
        shared["document"] = _documents()[section["document"]]
        for block in section["items"]:
            fields = shared | {k: _frozen(v) for k, v in block.items() if k != "kind"}
            yield _KINDS[block["kind"]](**fields)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


# ---- what an audit is compared with


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published rate to set an own one beside.

    x, n and the exact interval are None where no counts were printed. ``printed`` is the
    percentage, or range of percentages, as the source prints it.
    """

    item: Item
    label: str
    x: int | None
    n: int | None
    interval: Interval | None
    printed: str

    @property
    def fraction(self) -> float | None:
        """x / n; None without counts."""
        return None if self.x is None or not self.n else self.x / self.n


def benchmarks(outcome: str, *, level: float = 0.95) -> tuple[Published, ...]:
    """Which published rates can an own rate of this outcome be set beside?

    Series of malignant or mixed disease, each patient once, with Clopper and Pearson's interval.
    Rates printed without counts (HTG3's ranges) are among them and have none. What is counted
    (patients, lesions, levels) and how it was defined stand in ``item``. Raises InputError for an
    outcome of which nothing was published.

    >>> print(*(b.label for b in benchmarks("mobility")), sep="; ")
    IPG179 2.3.2, 14 patients; HTG3 2.3.1, one study
    """
    rows = (i for i in evidence(outcome) if i.population in LIKE_OURS and not i.same_as)
    return tuple(_published(i, level) for i in rows if isinstance(i, Count | Percent))


def _published(i: Count | Percent, level: float) -> Published:
    if isinstance(i, Percent):
        printed = i.printed or (f"{i.low}–{i.high}" if i.low else f"≤{i.high}")
        return Published(item=i, label=i.label, x=None, n=None, interval=None, printed=printed)
    interval = i.proportion.clopper_pearson(level)
    return Published(item=i, label=i.label, x=i.x, n=i.n, interval=interval, printed=i.printed)


_STANDARDS = {
    "leak": "leak_at_most",
    "symptomatic leak": "symptomatic_leak_at_most",
    "leak intervention": "leak_intervention_at_most",
    "pain relief": "pain_relief_at_least",
    "less medication": "less_medication_at_least",
    "mobility": "mobility_at_least",
    "satisfaction": "satisfied_at_least",
}


def standard(outcome: str) -> Value | None:
    """What NICE's documents let one expect of an outcome, as a fraction; None where they are mute.

    >>> standard("leak").mean
    0.27
    """
    name = _STANDARDS.get(outcome)
    return None if name is None else load("governance")[name]


# ---- several series together


@dataclass(frozen=True, kw_only=True)
class Forest:
    """The rows of a forest plot and the diamond under them.

    ``pooled`` holds estimate, limits, tau2 and Q. ``note`` says what the rows have in common and
    what they do not.
    """

    outcome: str
    unit: str
    rows: tuple[Published, ...]
    pooled: PooledProportion
    method: str
    note: str = field(repr=False)

    @property
    def prediction(self) -> tuple[float, float] | None:
        """Limits for the true rate of one further series; None where the method has none."""
        low, high = self.pooled.prediction_low, self.pooled.prediction_high
        return None if low is None or high is None else (low, high)


EVERY_WAY: tuple[tuple[ProportionMethod, bool], ...] = (
    ("glmm", False), ("logit-dl", False), ("logit-reml", False), ("logit-reml", True),
    ("freeman-tukey", False), ("crude", False),
)  # fmt: skip
"""Method, and whether with Hartung and Knapp's interval; the default first."""

_WORDS = {
    "glmm": "binomial-normal model (GLMM)",
    "logit-dl": "logits, DerSimonian-Laird",
    "logit-reml": "logits, REML",
    "freeman-tukey": "Freeman-Tukey double arcsines",
    "freeman-tukey-reml": "Freeman-Tukey double arcsines, REML",
    "crude": "all counted as one series",
}


def pooled(
    outcome: str,
    method: ProportionMethod = "glmm",
    *,
    document: str | None = None,
    unit: str | None = None,
    hartung_knapp: bool = False,
    level: float = 0.95,
) -> Forest:
    """What rate do the published series of an outcome show together?

    Series of malignant or mixed disease with counts, each patient once; of one ``document`` or of
    all. Patients, lesions and levels are never mixed: where series differ, ``unit`` says which to
    take. For ``method`` and ``hartung_knapp`` see :func:`trocar.stats.pooling.pool_proportions`.

    Raises InputError for an unknown outcome, document or method, for units that differ, and for
    fewer than two series.

    >>> forest = pooled("leak", document="IPG179")
    >>> f"{forest.pooled.estimate:.4f} of {len(forest.rows)} series"
    '0.2125 of 4 series'
    """
    from trocar.stats.pooling import pool_proportions

    evidence(outcome, document)  # an unknown name is an error, no rows is another
    rows = [
        b
        for b in benchmarks(outcome, level=level)
        if b.x is not None
        and document in (None, b.item.document.key, b.item.document.name)
        and unit in (None, b.item.unit)
    ]
    units = sorted({b.item.unit for b in rows})
    if len(units) > 1:
        raise InputError(
            f'"{outcome}" is told of {" and of ".join(units)}; say which to pool, as unit="'
            f'{units[0]}"'
        )
    if len(rows) < 2:
        raise InputError(
            f'{len(rows)} series of "{outcome}" with counts'
            + (f" of {unit}" if unit else "")
            + (f" in {document}" if document else "")
            + " cannot be pooled; expected two or more"
        )
    result = pool_proportions(
        [b.x for b in rows if b.x is not None],
        [b.n for b in rows if b.n is not None],
        method=method,
        hartung_knapp=hartung_knapp,
        level=level,
    )
    return Forest(
        outcome=outcome,
        unit=units[0],
        rows=tuple(rows),
        pooled=result,
        method=_WORDS[method] + (", Hartung-Knapp" if hartung_knapp else ""),
        note=_note(rows, result),
    )


def pooled_every_way(
    outcome: str,
    *,
    document: str | None = None,
    unit: str | None = None,
    level: float = 0.95,
) -> tuple[Forest, ...]:
    """Does the estimate depend on the method? The same series by each of ``EVERY_WAY``."""
    return tuple(
        pooled(outcome, m, document=document, unit=unit, hartung_knapp=hk, level=level)
        for m, hk in EVERY_WAY
    )


def _note(rows: list[Published], result: PooledProportion) -> str:
    """How many series, how unlike, and what was said of their definitions."""
    parts = [f"{len(rows)} series, {result.total} {rows[0].item.unit}"]
    if result.i2_percent is not None:
        parts.append(f"I² {result.i2_percent:.0f} %")
    if result.corrected:
        parts.append(f"{result.corrected} with none or all, half a case added")
    whats = dict.fromkeys(b.item.what for b in rows)
    if len(whats) > 1:
        parts.append("definitions differ: " + ", ".join(whats))
    parts += dict.fromkeys(b.item.note for b in rows if b.item.note)
    if any(b.item.evidence != "verified" for b in rows):
        parts.append("some figures were not checked in their source")
    return "; ".join(parts)
