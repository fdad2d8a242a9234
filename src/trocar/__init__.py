"""trocar: plan, simulate, assess and audit percutaneous treatment of painful bone metastases.

Research use only. Not a medical device.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

NOTICE = "Research use only. Not a medical device."

# Public name -> where it lives. Loaded on first use, so that ``import trocar`` costs nothing.
_PUBLIC = {
    "TrocarError": "errors",
    "InputError": "errors",
    "NotPlannable": "errors",
    "FrameMismatch": "errors",
    "Grid": "model.space",
    "Volume": "model.space",
    "Mask": "model.space",
    "Labels": "model.space",
    "Segment": "model.space",
    "Site": "model.case",
    "Lesion": "model.case",
    "Finding": "model.case",
    "Scan": "model.result",
    "Anatomy": "model.result",
    "View": "model.result",
    "Guard": "model.plan",
    "Trajectory": "model.plan",
    "Plan": "model.plan",
    "Needle": "facts.products",
    "Route": "planning.routes",
    "read_scan": "io.volumes",
    "read_labels": "io.volumes",
    "read_mask": "io.volumes",
    "inspect": "io.volumes",
    "read_anatomy": "imaging.bone",
    "find_lesion": "imaging.lesion",
    "find_paths": "planning.trajectory",
    "score_path": "planning.trajectory",
    "needle_views": "simulation.fluoroscopy",
    "write_plan_sheet": "report.sheet",
    "plan_lesion": "pathway",
    "plan_case": "pathway",
    "write_case": "pathway",
    "read_case": "pathway",
    "AblationPlan": "model.ablation",
    "Placed": "model.ablation",
    "Phase": "model.ablation",
    "Protection": "model.ablation",
    "StructureDose": "model.ablation",
    "ThermalDose": "model.ablation",
    "Applicator": "facts.ablation",
    "applicator": "facts.ablation",
    "ablate": "simulation.ablation",
    "ablate_interval": "simulation.ablation",
    "plan_ablation": "planning.ablation",
    "ablate_case": "pathway.ablation",
    "Strength": "model.strength",
    "Bearing": "model.strength",
    "Spread": "model.strength",
    "LoadCase": "facts.strength",
    "load_case": "facts.strength",
    "bone_strength": "simulation.strength",
    "strength_case": "pathway.strength",
    "strengths": "pathway.strength",
    "Study": "model.study",
    "Record": "model.study",
    "Decision": "model.decision",
    "read_study": "io.records",
    "write_study": "io.records",
    "example_study": "io.records",
    "decide": "selection.criteria",
    "audit_study": "audit.summary",
    "Proportion": "stats.exact",
    "select_cases": "pathway",
    "follow_cases": "pathway",
    "audit_cases": "pathway",
}

__all__ = ["NOTICE", "__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"trocar.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'trocar' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
