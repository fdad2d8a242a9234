"""A synthetic patient carried through every step, for people who want to see before they trust."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from trocar import pathway
from trocar.errors import InputError
from trocar.pathway import Planned
from trocar.pathway import cement as cementing
from trocar.pathway.ablation import AblationCase, ablate_lesion, write_ablation_case
from trocar.pathway.cement import AssessedCase, CementCase
from trocar.pathway.runs import Progress, Spans
from trocar.pathway.strength import StrengthCase, strength_of, write_strength_case
from trocar.pathway.training import make_training, write_training
from trocar.phantom import Phantom, make
from trocar.phantom.cement import after
from trocar.phantom.files import as_scan
from trocar.simulation.injection import inject
from trocar.simulation.porous import Constants, read_bed

_COMMAND = "trocar demo"
_CUBE_MM = 1.5  # a third of the time of the finest, and nearly the same ratios
_PELVIS_MM = 2.0  # a hip bone is ten times larger


@dataclass(frozen=True, kw_only=True, eq=False)
class Carried:
    """What was computed for one synthetic patient, and the files it was written to."""

    planned: Planned
    files: Mapping[str, Path]
    ablated: AblationCase | None = None
    cemented: CementCase | None = None
    assessed: AssessedCase | None = None
    loaded: StrengthCase | None = None
    not_loaded: str = ""  # why the bone could not be loaded
    # Kind of computation -> the files it was written to.
    folders: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)


def carry(
    bone: str,
    *,
    out: Path,
    seed: int = 0,
    ablation: bool = True,
    cement: bool = True,
    strength: bool = True,
    runs: int = 48,
    language: str = "en",
    viewer: bool = True,
    progress: Progress | None = None,
) -> Carried:
    """Plan, heat, cement, look at the CT afterwards, load the bone; every sheet into ``out``.

    ``bone`` is a name of ``phantom.NAMES``, ``runs`` the number of injections of the leak forecast.
    """
    tell = Spans(progress)
    tell("synthetic patient", 0.0)
    patient = make(bone, seed=seed)
    plan = tell.during("", 0.0, 0.3 if cement or ablation or strength else 1.0)
    planned = pathway.plan_lesion(
        as_scan(patient), patient.site, labels=patient.labels, click_mm=patient.click_mm,
        case_id=f"Synthetic patient {seed}", seed=seed, command=_COMMAND, progress=plan,
    )  # fmt: skip
    files = pathway.write_case(out, planned, language=language, viewer=viewer, progress=plan)
    ablated = cemented = assessed = loaded = None
    folders: dict[str, tuple[Path, ...]] = {}

    def wrote(kind: str, done: Mapping[str, Path]) -> None:
        files.update(done)
        # The names of a label map lie beside it.
        names = [p.with_name(p.name.replace(".nii.gz", ".json")) for p in done.values()]
        beside = [p for p in names if p.is_file() and p not in files.values()]
        folders[kind] = tuple(dict.fromkeys([*done.values(), *beside]))

    last, not_loaded = 0.9 if strength else 1.0, ""
    if ablation and planned.plan.options:
        ablated = ablate_lesion(
            planned, device="rf_10", applicators=1, command=_COMMAND,
            progress=tell.during("", 0.3, 0.5 if cement else last),
        )  # fmt: skip
        wrote("ablation", write_ablation_case(out, ablated, language=language, viewer=viewer))
    if cement and planned.plan.options:
        cemented, assessed = cement_and_look(
            planned, patient, runs=runs, seed=seed, progress=tell.during("", 0.5, last)
        )
    if strength:
        try:
            loaded = _load(planned, cemented, assessed, tell.during("", last, 0.98))
            wrote("strength", write_strength_case(out, loaded, language=language, viewer=viewer))
        except InputError as error:  # such as a bone that is not whole in the image
            not_loaded = str(error)
    if cemented is not None and assessed is not None:
        borne = None if loaded is None else loaded.strength
        cemented, assessed = replace(cemented, strength=borne), replace(assessed, strength=borne)
        how: dict[str, Any] = {"language": language, "viewer": viewer}
        exercise = write_training(out, make_training(cemented))
        wrote("leak forecast", cementing.write_cement(out, cemented, **how) | exercise)
        wrote("assessment", cementing.write_result(out, assessed, **how))
    tell("sheet", 1.0)
    return Carried(
        planned=planned, files=files, ablated=ablated, cemented=cemented, assessed=assessed,
        loaded=loaded, not_loaded=not_loaded, folders=folders,
    )  # fmt: skip


def cement_and_look(
    planned: Planned, patient: Phantom, *, runs: int, seed: int, progress: Progress | None = None
) -> tuple[CementCase, AssessedCase]:
    """The synthetic patient's cement, and a CT afterwards on which not all went as foreseen."""
    tell = Spans(progress)
    case = cementing.cement_lesion(
        planned, runs=runs, seed=seed, command=_COMMAND, progress=tell.during("", 0.0, 0.7)
    )
    tell("CT afterwards", 0.75)
    drawn = np.random.default_rng([seed, 5]).uniform(0.1, 0.9, len(Constants.names()))
    bed = read_bed(planned.scan.volume, planned.anatomy, planned.lesion)
    came = inject(bed, case.plan, constants=Constants.drawn(drawn, 1.0))
    made = after(patient.name, came.fill, seed=seed)
    assessed = cementing.assess_lesion(
        as_scan(patient, later=made.ct), planned.plan.site, pre=planned.scan,
        anatomy=planned.anatomy, lesion=planned.lesion, predicted=case.injection.fill,
        command=_COMMAND, progress=tell.during("", 0.8, 1.0),
    )  # fmt: skip
    return case, assessed


def _load(
    planned: Planned, case: CementCase | None, assessed: AssessedCase | None, progress: Progress
) -> StrengthCase:
    """What the synthetic bone bears, with what cement there is; mean numbers on large cubes."""
    return strength_of(
        planned.scan, planned.anatomy, planned.lesion,
        planned=None if case is None else case.injection.fill,
        found=None if assessed is None else assessed.fill,
        voxel_mm=_PELVIS_MM if planned.plan.site.region == "pelvis" else _CUBE_MM,
        interval=False, command=_COMMAND, progress=progress,
    )  # fmt: skip
