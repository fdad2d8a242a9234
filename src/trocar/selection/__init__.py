"""Select: which lesions may be treated by cementoplasty, clause by clause, and what scores say."""

from __future__ import annotations

from trocar.selection.criteria import RULES, coagulation, decide, outcome, worst_first
from trocar.selection.prognosis import (
    Noms,
    bollen,
    ecog_from_karnofsky,
    katagiri,
    noms,
    tokuhashi,
    tomita,
)
from trocar.selection.rule import Answer, Candidate, Rule
from trocar.selection.scores import (
    bilsky,
    collapse_percent,
    escc,
    genant,
    genant_grade,
    harrington,
    mirels,
    sins,
)

__all__ = [
    "RULES",
    "Answer",
    "Candidate",
    "Noms",
    "Rule",
    "bilsky",
    "bollen",
    "coagulation",
    "collapse_percent",
    "decide",
    "ecog_from_karnofsky",
    "escc",
    "genant",
    "genant_grade",
    "harrington",
    "katagiri",
    "mirels",
    "noms",
    "outcome",
    "sins",
    "tokuhashi",
    "tomita",
    "worst_first",
]
