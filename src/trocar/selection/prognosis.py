"""Scores of the patient: how long to live, how fit, and the letters of NOMS.

Plain arguments, each None when not known; points and words stand in ``facts/scores.toml``, see
:mod:`trocar.selection.scores`. None of these scores is a cut-off for treatment in the sources.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trocar.errors import InputError
from trocar.facts.source import Evidence
from trocar.model.decision import Score
from trocar.model.patient import PRIMARIES
from trocar.selection.scores import (
    graded,
    limit,
    number_from,
    one_of,
    points_of,
    summed,
    table,
    weakest,
)

_VISCERAL = ("none", "nodular removable", "nodular unremovable", "disseminated")


def katagiri(
    *,
    primary: str | None,
    visceral: str | None,
    ecog: int | None,
    previous_chemotherapy: bool | None,
    skeletal_lesions: int | None,
    crp_mg_dl: float | None = None,
    ldh_iu_l: float | None = None,
    albumin_g_dl: float | None = None,
    platelets_e9_l: float | None = None,
    calcium_mg_dl: float | None = None,
    bilirubin_mg_dl: float | None = None,
    hormone_dependent: bool | None = None,
    targeted_drug: bool | None = None,
) -> Score:
    """How long will a patient with skeletal metastases live? 0 to 10 points, high is poor.

    ``primary`` one of ``PRIMARIES``; breast and prostate ask whether hormone dependent, lung
    whether treated with a targeted drug. ``visceral`` none, nodular removable, nodular
    unremovable, disseminated. A critical laboratory value decides even if others are not known;
    otherwise all that could change the points must be. Source: Katagiri, Cancer Med 2014;3:1359-67.

    >>> katagiri(primary="rectum", visceral="nodular unremovable", ecog=2, skeletal_lesions=3,
    ...     previous_chemotherapy=True, crp_mg_dl=2.0, platelets_e9_l=200, calcium_mg_dl=9.0,
    ...     bilirubin_mg_dl=0.5).group
    'poor'
    """
    points = table("katagiri")["points"]
    growth, asked = _katagiri_growth(
        primary, {"hormone_dependent": hormone_dependent, "targeted_drug": targeted_drug}
    )
    laboratory, untested = _laboratory(
        critical={
            "platelets": _below(platelets_e9_l, "katagiri_platelets"),
            "calcium": _from(calcium_mg_dl, "katagiri_calcium"),
            "bilirubin": _from(bilirubin_mg_dl, "katagiri_bilirubin"),
        },
        abnormal={
            "C-reactive protein": _from(crp_mg_dl, "katagiri_crp"),
            "lactate dehydrogenase": _from(ldh_iu_l, "katagiri_ldh"),
            "albumin": _below(albumin_g_dl, "katagiri_albumin"),
        },
    )
    spread = {
        "none": "none",
        "nodular removable": "nodular",
        "nodular unremovable": "nodular",
        "disseminated": "disseminated",
    }
    found = one_of("visceral", visceral, _VISCERAL)
    number_from("ecog", ecog, 0, 5)
    multiple = _several(skeletal_lesions)
    poor = None if ecog is None else ecog >= limit("katagiri_ecog")
    parts = {
        "primary": points_of(points, "primary", growth),
        "visceral": points_of(points, "visceral", None if found is None else spread[found]),
        "laboratory": points_of(points, "laboratory", laboratory),
        "ecog": _if_so(points["yes"], "ecog", poor),
        "chemotherapy": _if_so(points["yes"], "chemotherapy", previous_chemotherapy),
        "skeletal": _if_so(points["yes"], "skeletal", multiple),
    }
    missing = {
        "primary": (asked,),
        "visceral": ("visceral metastases",),
        "laboratory": untested,
        "ecog": ("ECOG",),
        "chemotherapy": ("previous chemotherapy",),
        "skeletal": ("number of skeletal metastases",),
    }
    return summed("katagiri", parts, missing=missing)


def _katagiri_growth(
    primary: str | None, facts: Mapping[str, bool | None]
) -> tuple[str | None, str]:
    """Growth of the primary, or None and what is not known."""
    said = table("katagiri")
    if one_of("primary", primary, PRIMARIES) is None:
        return None, "primary"
    ask = said["asks"].get(primary)
    if ask is None:
        return said["primary"][primary], ""
    answer = facts[ask["fact"]]
    if answer is None:
        return None, ask["fact"].replace("_", " ")
    return (ask["yes"] if answer else ask["no"]), ""


def _laboratory(
    *, critical: Mapping[str, bool | None], abnormal: Mapping[str, bool | None]
) -> tuple[str | None, tuple[str, ...]]:
    """critical, abnormal or normal; or None with the tests that could still change it."""
    if any(critical.values()):
        return "critical", ()
    untested = [name for name, beyond in critical.items() if beyond is None]
    if not any(abnormal.values()):
        untested += [name for name, beyond in abnormal.items() if beyond is None]
    if untested:
        return None, tuple(untested)
    return ("abnormal" if any(abnormal.values()) else "normal"), ()


def tokuhashi(
    *,
    karnofsky: int | None,
    extraspinal_lesions: int | None,
    vertebral_lesions: int | None,
    visceral: str | None,
    frankel: str | None,
    primary: str | None,
) -> Score:
    """How long will a patient with a spinal metastasis live? Revised score, 0 to 15, high is good.

    ``extraspinal_lesions`` bone foci outside the spine; ``vertebral_lesions`` vertebral bodies
    with metastases, this one included, at least 1; ``visceral`` as in :func:`katagiri`; ``frankel``
    A to E. A Karnofsky index between two tens counts with the lower. Source: Tokuhashi, Spine
    2005;30:2186-91, with the survival as its author corrected it in NICE CG75.

    >>> tokuhashi(karnofsky=60, extraspinal_lesions=1, vertebral_lesions=1, visceral="none",
    ...           frankel="E", primary="kidney").points
    11.0
    """
    said = table("tokuhashi")
    number_from("karnofsky", karnofsky, 0, 100)
    number_from("extraspinal_lesions", extraspinal_lesions, 0, 1000)
    number_from("vertebral_lesions", vertebral_lesions, 1, 30)
    many = limit("tokuhashi_many")
    performance = foci = bodies = None
    if karnofsky is not None:
        good, moderate = limit("tokuhashi_kps_good"), limit("tokuhashi_kps_poor")
        performance = (
            "good" if karnofsky >= good else "moderate" if karnofsky >= moderate else "poor"
        )
    if extraspinal_lesions is not None:
        foci = "many" if extraspinal_lesions >= many else "few" if extraspinal_lesions else "none"
    if vertebral_lesions is not None:
        bodies = "many" if vertebral_lesions >= many else "one" if vertebral_lesions == 1 else "two"
    organs = {
        "none": "none",
        "nodular removable": "removable",
        "nodular unremovable": "unremovable",
        "disseminated": "unremovable",
    }
    found = one_of("visceral", visceral, _VISCERAL)
    palsy = one_of("frankel", frankel, said["frankel"])
    tumour = one_of("primary", primary, PRIMARIES)
    parts = {
        "performance": points_of(said["points"], "performance", performance),
        "extraspinal": points_of(said["points"], "extraspinal", foci),
        "vertebral": points_of(said["points"], "vertebral", bodies),
        "visceral": points_of(said["points"], "visceral", None if found is None else organs[found]),
        "palsy": points_of(
            said["points"], "palsy", None if palsy is None else said["frankel"][palsy]
        ),
        "primary": None if tumour is None else float(said["primary"][tumour]),
    }
    missing = {
        "performance": ("Karnofsky",),
        "extraspinal": ("number of skeletal metastases",),
        "vertebral": ("number of vertebral metastases",),
        "visceral": ("visceral metastases",),
        "palsy": ("Frankel",),
    }
    return summed("tokuhashi", parts, missing=missing)


def tomita(*, primary: str | None, visceral: str | None, skeletal_lesions: int | None) -> Score:
    """What aim suits a spinal metastasis? 2 to 10 points, low is good.

    ``visceral`` as in :func:`katagiri`: removable nodules are treatable, others are not. A primary
    that our copy of the table does not name leaves the score not known, with a note.
    Source: Tomita, Spine 2001;26:298-306.

    >>> tomita(primary="kidney", visceral="none", skeletal_lesions=1).points
    3.0
    """
    said = table("tomita")
    tumour = one_of("primary", primary, PRIMARIES)
    growth = said["primary"].get(tumour)
    reach = {
        "none": "none",
        "nodular removable": "treatable",
        "nodular unremovable": "untreatable",
        "disseminated": "untreatable",
    }
    found = one_of("visceral", visceral, _VISCERAL)
    multiple = _several(skeletal_lesions)
    number = None if multiple is None else "multiple" if multiple else "solitary"
    parts = {
        "primary": points_of(said["points"], "growth", growth),
        "visceral": points_of(said["points"], "visceral", None if found is None else reach[found]),
        "bone": points_of(said["points"], "bone", number),
    }
    missing = {
        "visceral": ("visceral metastases",),
        "bone": ("number of skeletal metastases",),
    }
    unnamed = tumour is not None and growth is None
    return summed("tomita", parts, missing=missing, note=said["unnamed"] if unnamed else "")


def bollen(
    *,
    primary: str | None,
    karnofsky: int | None,
    visceral: str | None,
    profiles: Mapping[str, str] | None = None,
) -> Score:
    """Which of the four survival categories, A (long) to D? ``points`` 1 to 4.

    Off by default: ``profiles`` (primary -> favourable, moderate, unfavourable) differ between
    versions of the score, and those of ``scores.toml`` are a stand-in to be replaced by a unit.
    ``visceral`` as in :func:`katagiri`. Source: Bollen, Neuro-Oncol 2014;16:991-8.

    >>> bollen(primary="breast", karnofsky=90, visceral="none").group
    'category A'
    """
    said = table("bollen")
    those = said["profiles"] if profiles is None else profiles
    tumour = one_of("primary", primary, PRIMARIES)
    profile = one_of("profile", those.get(tumour), said["flow"]) if tumour else None
    number_from("karnofsky", karnofsky, 0, 100)
    found = one_of("visceral", visceral, _VISCERAL)
    facts = {"primary": profile, "Karnofsky": karnofsky, "visceral metastases": found}
    missing = tuple(name for name, value in facts.items() if value is None)
    note = said["unnamed"] if tumour is not None and profile is None else ""
    if profile is None or karnofsky is None or found is None:
        return graded("bollen", None, missing=missing, note=note)
    fitness = "good" if karnofsky >= limit("bollen_kps_good") else "poor"
    category = said["flow"][profile][fitness]["without" if found == "none" else "with"]
    return graded("bollen", said["categories"][category])


def ecog_from_karnofsky(*, karnofsky: int | None) -> Score:
    """Which ECOG performance status is this Karnofsky index? ``points`` 0 to 5.

    >>> [ecog_from_karnofsky(karnofsky=k).points for k in (100, 80, 60, 40, 20, 0)]
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    """
    if karnofsky is None:
        return graded("ecog", None, missing=("Karnofsky",))
    number_from("karnofsky", karnofsky, 0, 100)
    rows: list[Mapping[str, Any]] = table("ecog")["grades"]
    row = next(r for r in rows if karnofsky >= r["from_karnofsky"])
    return graded("ecog", row, points=float(row["ecog"]))


@dataclass(frozen=True, kw_only=True)
class Noms:
    """The four letters of NOMS as they stand, for a meeting to read; nothing follows from them.

    A letter is a value or None: ESCC grade and myelopathy (N), sensitivity to radiotherapy (O),
    the class of SINS (M), ECOG and visceral metastases (S).
    """

    escc: str | None
    myelopathy: bool | None
    radiosensitivity: str | None
    stability: str | None
    ecog: int | None
    visceral: str | None
    source: str
    evidence: Evidence

    @property
    def missing(self) -> tuple[str, ...]:
        """The letters of which something is not known, in order."""
        letters = {
            "N": (self.escc, self.myelopathy),
            "O": (self.radiosensitivity,),
            "M": (self.stability,),
            "S": (self.ecog, self.visceral),
        }
        return tuple(letter for letter, parts in letters.items() if None in parts)


def noms(
    *,
    escc: str | None,
    myelopathy: bool | None,
    primary: str | None,
    sins: Score,
    ecog: int | None,
    visceral: str | None,
) -> Noms:
    """What do the four letters of NOMS say of this spinal tumour? No decision is made.

    ``sins`` as :func:`trocar.selection.scores.sins` returns it. A primary the list does not name
    leaves O not known. Source: NOMS (Laufer 2013).
    """
    said = table("noms")
    tumour = one_of("primary", primary, PRIMARIES)
    return Noms(
        escc=one_of("escc", escc, table("escc")["grades"]),
        myelopathy=myelopathy,
        radiosensitivity=said["radiosensitivity"].get(tumour),
        stability=sins.group or None,
        ecog=ecog,
        visceral=one_of("visceral", visceral, _VISCERAL),
        source=said["source"],
        evidence=weakest(said["evidence"], sins.evidence),
    )


def _several(lesions: int | None) -> bool | None:
    if lesions is not None and lesions < 1:
        raise InputError(f"skeletal_lesions is {lesions}; expected at least 1, this one included")
    return None if lesions is None else lesions > 1


def _below(value: float | None, name: str) -> bool | None:
    return None if value is None else value < limit(name)


def _from(value: float | None, name: str) -> bool | None:
    return None if value is None else value >= limit(name)


def _if_so(points: Mapping[str, float], item: str, so: bool | None) -> float | None:
    return None if so is None else float(points[item]) if so else 0.0
