"""What was measured of cement as a DICOM Structured Report (TID 1500), for the picture archive."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trocar.errors import InputError
from trocar.io.segmentation import SCHEME, identity, image_headers
from trocar.model.result import CementLeak, Fill

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_ML = ("ml", "UCUM", "milliliter")
_MM = ("mm", "UCUM", "millimeter")
_PERCENT = ("%", "UCUM", "percent")
# What no standard has a code for: code value and meaning.
_OWN = {
    "LOW": "Volume, lower end of interval",
    "HIGH": "Volume, upper end of interval",
    "LESIONFILL": "Share of the lesion that is filled",
    "BONEFILL": "Share of the bone that is filled",
    "INLESION": "Volume of cement in the lesion",
    "ALL": "Volume of cement, in bone and leaked",
    "REACH": "Reach beyond the surface of the bone",
    "DISTANCE": "Distance to structure at risk",
    "COMPARTMENT": "Compartment of leaked cement",
    "YEOM": "Type of leak (Yeom 2003; D intradiscal)",
    "CEMENT": "Bone cement",
    "LEAK": "Leaked bone cement",
}


def write_measurements(path: Path, fill: Fill, seg: Path, source: Sequence[str]) -> None:
    """Writes the volumes, fills, reaches and distances of a fill as a DICOM SR (TID 1500).

    One group of measurements for each segment of the SEG at ``seg``, which must hold cement in
    the bone first and then the leaks in their order. ``source`` are the CT images it refers to.
    Raises InputError when the CT's headers lack what the report must carry over.
    """
    from highdicom.sr import (
        Comprehensive3DSR,
        MeasurementReport,
        ObservationContext,
        ObserverContext,
        PersonObserverIdentifyingAttributes,
    )
    from pydicom import dcmread
    from pydicom.sr.codedict import codes

    images = image_headers(source, 1.0)
    outlined = dcmread(seg)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            context = ObservationContext(
                observer_person_context=ObserverContext(
                    observer_type=codes.DCM.Person,
                    observer_identifying_attributes=PersonObserverIdentifyingAttributes(
                        name="trocar^software"
                    ),
                )
            )
            report = MeasurementReport(
                observation_context=context,
                procedure_reported=codes.cid100.CTUnspecifiedBodyRegion,
                imaging_measurements=_groups(fill, outlined),
                title=codes.DCM.ImagingMeasurementReport,
            )
            told = Comprehensive3DSR(
                evidence=[*images, outlined],
                content=report,
                is_complete=True,
                is_verified=False,
                **_own_identity(),
            )
            told.StudyID = str(told.get("StudyID", None) or "")[:16]
            told.save_as(path)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"the CT's headers do not allow a DICOM SR to refer to them ({error})"
        ) from error


def _own_identity() -> dict[str, Any]:
    said = identity("trocar measurements", 901)
    return {key: value for key, value in said.items() if key != "content_description"}


def _groups(fill: Fill, seg: Dataset) -> list[Any]:
    """One group for each segment: the cement in the bone, then every leak."""
    present = [str(s.SegmentLabel) for s in seg.SegmentSequence]
    groups = []
    for number, label in enumerate(present, start=1):
        leak = next((k for k in fill.leaks if label == f"cement leak, {k.compartment}"[:64]), None)
        groups.append(_group(seg, number, label, _of_bone(fill) if leak is None else _of(leak),
                             leak))  # fmt: skip
    return groups


def _group(seg: Dataset, number: int, label: str, rows: list[Any], leak: CementLeak | None) -> Any:
    from highdicom.seg import Segmentation
    from highdicom.sr import (
        CodedConcept,
        QualitativeEvaluation,
        ReferencedSegment,
        TrackingIdentifier,
        VolumetricROIMeasurementsAndQualitativeEvaluations,
    )

    where = ReferencedSegment.from_segmentation(Segmentation.from_dataset(seg), number)
    said = []
    if leak is not None:
        said.append(
            QualitativeEvaluation(
                name=_own("COMPARTMENT"),
                value=CodedConcept(_code(leak.compartment), SCHEME, leak.compartment),
            )
        )
        if leak.kind:
            said.append(
                QualitativeEvaluation(
                    name=_own("YEOM"),
                    value=CodedConcept(f"TYPE{leak.kind}", SCHEME, f"type {leak.kind}"),
                )
            )
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        referenced_segment=where,
        tracking_identifier=TrackingIdentifier(identifier=label),
        finding_type=_own("CEMENT" if leak is None else "LEAK"),
        measurements=rows,
        qualitative_evaluations=said or None,
    )


def _of_bone(fill: Fill) -> list[Any]:
    rows = [_volume(fill.volume_ml if fill.in_bone_ml is None else fill.in_bone_ml)]
    rows += [
        _measured(_own("ALL"), fill.volume_ml, _ML),
        _measured(_own("LOW"), fill.low_ml, _ML),
        _measured(_own("HIGH"), fill.high_ml, _ML),
    ]
    for key, value, unit, times in (
        ("INLESION", fill.in_lesion_ml, _ML, 1.0),
        ("LESIONFILL", fill.lesion_fill, _PERCENT, 100.0),
        ("BONEFILL", fill.bone_fill, _PERCENT, 100.0),
    ):
        if value is not None:  # what is not known is not in the report
            rows.append(_measured(_own(key), times * value, unit))
    return rows


def _of(leak: CementLeak) -> list[Any]:
    rows = [
        _volume(leak.volume_ml),
        _measured(_own("LOW"), leak.low_ml, _ML),
        _measured(_own("HIGH"), leak.high_ml, _ML),
        _measured(_own("REACH"), leak.reach_mm, _MM),
    ]
    for name, mm in sorted(leak.distances_mm.items()):
        said = f"{_OWN['DISTANCE']}: {name.replace('_', ' ')}"
        rows.append(_measured(_concept(_code(f"d {name}"), said[:64]), mm, _MM))
    return rows


def _volume(ml: float) -> Any:
    from pydicom.sr.codedict import codes

    return _measured(codes.SCT.Volume, ml, _ML)


def _measured(name: Any, value: float, unit: tuple[str, str, str]) -> Any:
    from highdicom.sr import CodedConcept, Measurement

    return Measurement(name=name, value=round(float(value), 4), unit=CodedConcept(*unit))


def _own(key: str) -> Any:
    return _concept(key, _OWN[key])


def _concept(code: str, meaning: str) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(code, SCHEME, meaning)


def _code(name: str) -> str:
    """A name as a code value: capitals and digits, at most 16.

    >>> _code("epidural or canal")
    'EPIDURALORCANAL'
    """
    return "".join(c for c in name.upper() if c.isalnum())[:16]
