"""What the workbench looks at and edits: the CTs, plans and results of a lesion, as kept files.

Rows say which file; files say what. Each process holds the last few open, so that a needle that is
dragged is measured at once.
"""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from django.conf import settings
from django.http import Http404

from trocar import tasks
from trocar.errors import InputError
from trocar.io.exact import fingerprint
from trocar.io.kept_scan import keep_scan, open_scan
from trocar.model.care import PlanVersion, SimulationRun
from trocar.model.plan import Plan
from trocar.model.result import Scan
from trocar.pathway import Planned
from trocar.registry.convert import to_record
from trocar.registry.models import MODELS
from trocar.web import cases, kept

if TYPE_CHECKING:
    from trocar.pathway.edits import Live

T = TypeVar("T")
_HELD = 4  # plans open at once in a process; a CT is mapped, not read
_GAUGES = (8, 20)  # that the registry's column holds


class _Shelf:
    """The last few things that were made, by key; the oldest goes first."""

    def __init__(self) -> None:
        self._held: OrderedDict[Any, Any] = OrderedDict()
        self._lock = Lock()
        self._making: dict[Any, Lock] = {}

    def get(self, key: Any, make: Callable[[], T]) -> T:
        """What is held under a key, made once however many ask at the same time."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]  # type: ignore[no-any-return]
            one = self._making.setdefault(key, Lock())
        with one:
            with self._lock:
                if key in self._held:
                    return self._held[key]  # type: ignore[no-any-return]
            made = make()
            with self._lock:
                self._held[key] = made
                self._making.pop(key, None)
                while len(self._held) > _HELD:
                    self._held.popitem(last=False)
            return made


_scans, _plans, _lives = _Shelf(), _Shelf(), _Shelf()


def keep_image(scan: Scan) -> str:
    """Keep the voxels of a CT; returns the hash that its row tells."""
    folder = Path(settings.KEPT_FILES)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=folder) as part:
        return kept.keep_file(keep_scan(Path(part) / "scan.ct", scan)).partition(".")[0]


def images(lesion: Any) -> list[Any]:
    """The image studies of a lesion whose voxels are kept, oldest first."""
    rows = MODELS["images"].objects.filter(lesion=lesion, sha256__isnull=False).order_by("pk")
    return [row for row in rows if kept.holds(f"{row.sha256}.ct")]


def scan(row: Any) -> Scan:
    """The CT of an image study; 404 when its voxels are not kept."""
    name = f"{row.sha256}.ct"
    return _scans.get(name, lambda: open_scan(kept.place(name)))


def planned(row: Any) -> Planned:
    """The computed plan of a version on its CT.

    404 when its file is not kept; InputError when the CT it was made on is not there any more.
    """
    name = f"{row.plan_sha256}.zip"
    if not kept.holds(name):
        raise Http404
    return _plans.get(name, lambda: _open(row, name))


def _open(row: Any, name: str) -> Planned:
    with tasks.unpacked(tasks.File(place=str(kept.place(name)))) as folder:
        wanted = tasks.made_on(folder)
        for image in images(row.lesion):
            if scan(image).sha256 == wanted:
                return tasks.open_plan(scan(image), folder)
    raise InputError("the CT that this plan was made on is no longer kept; add it once more")


def image_of(lesion: Any, case: Planned) -> Any:
    """The row of the CT that a plan was made on."""
    for row in images(lesion):
        if scan(row).sha256 == case.scan.sha256:
            return row
    raise Http404


def newest(lesion: Any, upto: int | None = None) -> tuple[Any, Planned] | None:
    """The newest version of a lesion's plan that was computed, with the plan; None without one.

    A version typed since then may be newer: the parent of an edit is :func:`last_number`. ``upto``
    is the last version that counts: what was seen when work was asked for.
    """
    rows = MODELS["plans"].objects.filter(lesion=lesion, plan_sha256__isnull=False)
    if upto is not None:
        rows = rows.filter(number__lte=upto)
    for row in rows.order_by("-number"):
        if kept.holds(f"{row.plan_sha256}.zip"):
            return row, planned(row)
    return None


def last_number(lesion: Any) -> int | None:
    """The number of the newest version of all; None while there is none."""
    row = MODELS["plans"].objects.filter(lesion=lesion).order_by("-number").first()
    return None if row is None else int(row.number)


def live(row: Any) -> Live:
    """The plan of a version made ready to measure needles."""
    from trocar.pathway.edits import Live

    return _lives.get(f"{row.plan_sha256}", lambda: Live(planned(row)))


def keep_version(lesion: Any, case: Planned, *, who: str, why: str, parent: int | None) -> Any:
    """Keep an edited plan as the lesion's next version; the row.

    ``parent`` is the newest version the editor saw: ``store.Conflict`` when there is a newer one.
    """
    made = tasks.kept_plan(case)
    return keep_made(lesion, case, made.files, who=who, why=why, parent=parent)


def keep_made(
    lesion: Any, case: Planned, files: bytes, *, who: str, why: str, parent: int | None
) -> Any:
    """The same for a plan that a worker packed."""
    name = kept.keep(files, "zip")
    last = MODELS["plans"].objects.filter(lesion=lesion).order_by("-number").first()
    base = (
        PlanVersion(lesion_id=lesion.lesion_id, number=1, techniques=("cement",))
        if last is None
        else to_record(last)
    )
    told = replace(
        base, parent=parent, why=why, plan_sha256=name.partition(".")[0],
        **_without_what_was_for_another(last, case), **said_of(case),
    )  # fmt: skip
    return cases.plan(lesion, told, who=who, why=why, parent=parent)


def _without_what_was_for_another(row: Any, case: Planned) -> dict[str, Any]:
    """Volumes and ablation of a version are not those of another lesion or needle."""
    if row is None or not kept.holds(f"{row.plan_sha256}.zip"):
        return {}
    was = planned(row).plan
    if fingerprint(_ground(was)) == fingerprint(_ground(case.plan)):
        return {}
    return dict.fromkeys(("cement_ml", "stop_ml", "ablation"))


def _ground(plan: Plan) -> tuple[Any, ...]:
    """What cement and heat were reckoned for."""
    best = plan.best
    return (plan.lesion.mask, None if best is None else (best.path, best.needle))


def same_plan(lesion: Any, number: int | None, row: Any) -> bool:
    """Whether an earlier version tells of the same computed plan as a row."""
    of = MODELS["plans"].objects.filter(lesion=lesion, number=number).first()
    return of is not None and of.plan_sha256 is not None and of.plan_sha256 == row.plan_sha256


def said_of(case: Planned) -> dict[str, Any]:
    """What a plan version's columns say of a computed plan's best needle."""
    best, verdict = case.plan.best, case.plan.verdict
    if best is None:
        return {"route": None, "needles": None, "needle_gauge": None, "verdict": verdict}
    gauge = best.needle.gauge
    held = gauge is not None and _GAUGES[0] <= gauge <= _GAUGES[1]
    return {
        "route": best.route.replace("_", " "),
        "needles": 1,
        "needle_gauge": gauge if held else None,
        "verdict": verdict,
    }


def keep_run(lesion: Any, made: tasks.Made, *, who: str, number: int | None, summary: str) -> Any:
    """Keep a simulation's folder and the row that tells of it."""
    told: Mapping[str, Any] = made.told
    sha256 = kept.keep(made.files, "zip").partition(".")[0]
    record = SimulationRun(
        run_id=f"{told['kind'].replace(' ', '-')}-{sha256[:12]}", lesion_id=lesion.lesion_id,
        plan_number=number, kind=told["kind"], started_at=told["started"],
        seconds=round(told["seconds"], 1), seed=told["seed"], trocar_version=told["version"],
        inputs_sha256=told["inputs_sha256"], facts_sha256=told["facts_sha256"],
        verdict=told["verdict"], result_sha256=sha256, summary=summary or None,
    )  # fmt: skip
    return cases.save("runs", record, who=who, why="computed", study=lesion.study)


def result_file(sha256: str, name: str) -> bytes:
    """One file of a kept result; 404 when either is not there."""
    with _zip(sha256) as archive:
        try:
            return archive.read(name)
        except KeyError:
            raise Http404 from None


def result_names(sha256: str) -> tuple[str, ...]:
    """The files of a kept result; none when it is not kept."""
    if not kept.holds(f"{sha256}.zip"):
        return ()
    with _zip(sha256) as archive:
        return tuple(archive.namelist())


def _zip(sha256: str) -> zipfile.ZipFile:
    name = f"{sha256}.zip"
    if not kept.holds(name):
        raise Http404
    return zipfile.ZipFile(kept.place(name))


def remembered(key: str, suffix: str, make: Callable[[], bytes]) -> bytes:
    """What takes long to draw and follows from kept files: drawn once, then read.

    It may be deleted at any time; it is not in a backup.
    """
    place = _drawn(key, suffix)
    if not place.is_file():
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(prefix=".part-", dir=place.parent) as part:
            whole = Path(part) / place.name
            whole.write_bytes(make())
            whole.replace(place)
    return place.read_bytes()


def is_remembered(key: str, suffix: str) -> bool:
    """Whether it was drawn already."""
    return _drawn(key, suffix).is_file()


def _drawn(key: str, suffix: str) -> Path:
    folder = Path(settings.KEPT_FILES).parent / "drawn"
    return folder / f"{hashlib.sha256(key.encode()).hexdigest()}.{suffix}"
