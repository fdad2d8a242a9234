"""Work of minutes on one lesion, from kept files to kept files, for whoever has a free hand.

Each takes an :class:`Asked` and a ``tell(step, fraction)`` that may raise to stop it, and gives a
:class:`Made`: the folder that the command line would have written, and what a registry's row says
of it. Nothing here knows a database: the same call gives the same result on any machine.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trocar.errors import InputError
from trocar.io.exact import fingerprint
from trocar.io.kept_scan import open_scan
from trocar.io.plans import read_plan
from trocar.model.case import Site
from trocar.model.plan import worst_verdict
from trocar.model.result import Run, Scan
from trocar.pathway import Planned

Tell = Callable[[str, float], None]
LANGUAGES = ("en", "zh-Hant")
_PACKED = (".html", ".png")  # large texts; all else is packed already


@dataclass(frozen=True, kw_only=True)
class File:
    """A kept file on its way: by its place where that can be seen, else by its bytes."""

    place: str
    data: bytes | None = None

    @contextmanager
    def at(self) -> Iterator[Path]:
        """Where it lies here."""
        place = Path(self.place)
        if self.data is None or place.is_file():
            yield place
            return
        with tempfile.TemporaryDirectory(prefix="trocar-") as folder:
            copy = Path(folder) / place.name
            copy.write_bytes(self.data)
            yield copy


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What work is about: the CT, the plan it goes on from, and how it is to be done."""

    scan: File
    plan: File | None = None
    after: File | None = None  # the CT afterwards
    predicted: File | None = None  # the injection that foretold it
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Made:
    """A folder as a zip, and its numbers by name."""

    files: bytes
    told: Mapping[str, Any]


def outline(asked: Asked, tell: Tell) -> Made:
    """The bone and its lesion from a point in it (``click_mm``, LPS) or as the program proposes."""
    from trocar.pathway.edits import outlined

    options = dict(asked.options)
    site = Site.parse(options.pop("site"))
    with asked.scan.at() as place:
        planned = outlined(open_scan(place), site, progress=tell, **options)
    return kept_plan(planned)


def search(asked: Asked, tell: Tell) -> Made:
    """The best needles of every route, beside those that a person drew."""
    from trocar.pathway.edits import searched

    with _planned(asked) as planned:
        return kept_plan(searched(planned, progress=tell, **asked.options))


def ablate(asked: Asked, tell: Tell) -> Made:
    """What heat or cold does along the needles of the plan."""
    from trocar.pathway.ablation import ablate_lesion, write_ablation_case

    with _planned(asked) as planned:
        case = ablate_lesion(
            planned, command="ablation", progress=_part(tell, 0.0, 0.9), **asked.options
        )
        tell("sheet", 0.9)
        files = _folder(lambda out, how: write_ablation_case(out, case, **how), "ablation.html")
    return Made(
        files=files,
        told=_run(case.run)
        | {
            "kind": "ablation",
            "verdict": worst_verdict((case.dose.verdict, *(r.verdict for r in case.plan.rules))),
            "device": case.plan.applicators[0].device.name,
            "seconds_on": sum(phase.seconds for phase in case.plan.phases),
            "covered": case.dose.lesion_covered,
        },
    )


def inject(asked: Asked, tell: Tell) -> Made:
    """How much cement, how likely it leaks, where it goes; with the exercise at the C-arm."""
    from trocar.pathway.cement import cement_lesion, write_cement
    from trocar.pathway.training import make_training, write_training

    with _planned(asked) as planned:
        case = cement_lesion(
            planned, command="injection", progress=_part(tell, 0.0, 0.8), **asked.options
        )
        tell("fluoroscopy", 0.8)
        training = make_training(case)
        tell("sheet", 0.9)
        files = _folder(
            lambda out, how: write_cement(out, case, **how),
            "cement.html",
            also=lambda out: write_training(out, training),
        )
    plan = case.plan
    return Made(
        files=files,
        told=_run(case.run)
        | {
            "kind": "leak forecast",
            "verdict": plan.verdict,
            "cement": plan.cement.name,
            "target_ml": float(plan.target_ml),
            "stop_ml": None if plan.stop_ml is None else float(plan.stop_ml),
        },
    )


def load(asked: Asked, tell: Tell) -> Made:
    """What the bone bears, before and with the cement that was foretold or found."""
    from trocar.io.results import read_predicted
    from trocar.pathway.strength import strength_of, write_strength_case

    with _planned(asked) as planned:
        cement = None
        if asked.predicted is not None:
            with unpacked(asked.predicted) as folder:
                cement = read_predicted(folder)
        case = strength_of(
            planned.scan, planned.anatomy, planned.lesion, planned=cement,
            earlier=planned.plan.run, command="strength", progress=_part(tell, 0.0, 0.85),
            **asked.options,
        )  # fmt: skip
        tell("sheet", 0.85)
        files = _folder(lambda out, how: write_strength_case(out, case, **how), "strength.html")
    return Made(files=files, told=_run(case.run) | {"kind": "strength", "verdict": None})


def assess(asked: Asked, tell: Tell) -> Made:
    """What the CT afterwards shows of cement, beside what was foretold, and what the bone bears."""
    from trocar.io.results import read_predicted
    from trocar.pathway.cement import assess_lesion, borne, write_result

    if asked.after is None:
        raise InputError("there is no CT afterwards; add one to the lesion first")
    with _planned(asked) as planned, asked.after.at() as place:
        foretold = None
        if asked.predicted is not None:
            with unpacked(asked.predicted) as folder:
                foretold = read_predicted(folder)
        case = assess_lesion(
            open_scan(place), planned.plan.site, pre=planned.scan, anatomy=planned.anatomy,
            lesion=planned.lesion, predicted=foretold, command="assessment",
            progress=_part(tell, 0.0, 0.7),
        )  # fmt: skip
        tell("strength", 0.7)
        bears = borne(
            case.run, planned.scan, planned.anatomy, planned.lesion, planned=foretold,
            found=case.fill, progress=_part(tell, 0.7, 0.85),
        )  # fmt: skip
        case = replace(case, **bears)
        tell("sheet", 0.85)
        files = _folder(lambda out, how: write_result(out, case, **how), "result.html")
    fill = case.fill
    return Made(
        files=files,
        told=_run(case.run)
        | {
            "kind": "assessment",
            "verdict": None,
            "cement_ml": float(fill.volume_ml),
            "low_ml": float(fill.low_ml),
            "high_ml": float(fill.high_ml),
            "lesion_fill": None if fill.lesion_fill is None else float(fill.lesion_fill),
            "compartments": [leak.compartment for leak in fill.leaks],
        },
    )


def sheet(asked: Asked, tell: Tell) -> Made:
    """The plan sheet of a kept plan, in one ``language``."""
    from trocar.pathway import seen
    from trocar.pathway.edits import skins_of
    from trocar.report.sheet import write_plan_sheet

    with _planned(asked) as planned, tempfile.TemporaryDirectory() as folder:
        tell("views", 0.1)
        views = seen(planned)
        tell("skin", 0.4)
        skin = skins_of(planned) if planned.plan.options else ()
        tell("sheet", 0.6)
        page = write_plan_sheet(
            Path(folder) / "plan.html", scan=planned.scan, anatomy=planned.anatomy,
            plan=planned.plan, views=views, skin=skin, language=asked.options["language"],
        )  # fmt: skip
        return Made(files=page.read_bytes(), told={})


def kept_plan(planned: Planned) -> Made:
    """A plan as it is kept between two edits: all that is needed to go on, and no sheet yet."""
    from trocar.io.exports import write_plan
    from trocar.io.plans import keep_plan

    with tempfile.TemporaryDirectory(prefix="trocar-") as name:
        folder = Path(name)
        write_plan(folder, planned.scan, planned.anatomy, planned.plan)
        keep_plan(folder, planned.scan, planned.anatomy, planned.plan)
        return Made(files=packed(folder.iterdir()), told=_run(planned.plan.run))


def made_on(folder: Path) -> str:
    """The hash of the CT that the plan in a folder was made on."""
    return read_plan(folder).sha256


def open_plan(scan: Scan, folder: Path) -> Planned:
    """The plan that a folder holds, on its CT.

    Raises InputError when the plan was made on another CT.
    """
    kept = read_plan(folder)
    if kept.sha256 != scan.sha256:
        raise InputError(
            f"the plan was made on another CT than {scan.name}; choose the CT it was made on"
        )
    return Planned(scan=scan, anatomy=kept.anatomy, plan=kept.plan, views={})


@contextmanager
def unpacked(file: File) -> Iterator[Path]:
    """A kept folder, unpacked for as long as it is needed."""
    with file.at() as place, tempfile.TemporaryDirectory(prefix="trocar-") as folder:
        unpack(place, Path(folder))
        yield Path(folder)


def packed(files: Iterable[Path]) -> bytes:
    """Files as a zip without folders; the same files give the same bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for place in sorted((p for p in files if p.is_file()), key=lambda p: p.name):
            info = zipfile.ZipInfo(place.name, (1980, 1, 1, 0, 0, 0))
            smaller = place.suffix in _PACKED
            info.compress_type = zipfile.ZIP_DEFLATED if smaller else zipfile.ZIP_STORED
            archive.writestr(info, place.read_bytes(), compresslevel=1)
    return out.getvalue()


def unpack(place: Path, into: Path) -> None:
    """The files of a folder that :func:`packed` made."""
    with zipfile.ZipFile(place) as archive:
        for info in archive.infolist():
            if Path(info.filename).name != info.filename:
                raise InputError(f"{place.name} holds {info.filename!r}, which is no plain name")
            (into / info.filename).write_bytes(archive.read(info))


def translated(name: str, language: str) -> str:
    """The name of a sheet in a language.

    >>> translated("cement.html", "zh-Hant"), translated("cement.html", "en")
    ('cement.zh-Hant.html', 'cement.html')
    """
    stem, _, suffix = name.rpartition(".")
    return name if language == LANGUAGES[0] else f"{stem}.{language}.{suffix}"


def _folder(
    write: Callable[[Path, Mapping[str, Any]], object],
    sheet_name: str,
    also: Callable[[Path], object] | None = None,
) -> bytes:
    """A result's folder with its sheet in every language."""
    with tempfile.TemporaryDirectory(prefix="trocar-") as name:
        out = Path(name) / "out"
        for language in reversed(LANGUAGES):  # the first is written last, under its own name
            write(out, {"language": language})
            if language != LANGUAGES[0]:
                (out / sheet_name).rename(out / translated(sheet_name, language))
        if also is not None:
            also(out)
        return packed(out.iterdir())


@contextmanager
def _planned(asked: Asked) -> Iterator[Planned]:
    if asked.plan is None:
        raise InputError("there is no plan to go on from; outline the lesion first")
    with asked.scan.at() as place, unpacked(asked.plan) as folder:
        yield open_plan(open_scan(place), folder)


def _part(tell: Tell, start: float, end: float) -> Tell:
    return lambda step, f: tell(step, start + (end - start) * min(max(float(f), 0.0), 1.0))


def _run(run: Run | None) -> dict[str, Any]:
    """What a row says of how a result came about."""
    if run is None:
        return {}
    return {
        "started": run.started,
        "seconds": float(run.seconds),
        "seed": int(run.seed),
        "version": run.version,
        "inputs_sha256": fingerprint(dict(run.inputs)),
        "facts_sha256": fingerprint(dict(run.facts)),
    }
