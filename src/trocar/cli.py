"""The command line: parse, call one function, print."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trocar import NOTICE, __version__
from trocar.errors import InputError, TrocarError

if TYPE_CHECKING:
    from trocar.pathway import Planned

app = typer.Typer(
    name="trocar",
    help=f"Plan where a needle goes into a painful bone metastasis. {NOTICE}",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]
Language = Annotated[str, typer.Option("--language", help="Sheet language: en or zh-Hant.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything random.")]
Viewer = Annotated[
    bool, typer.Option("--viewer/--no-viewer", help="Put the interactive viewer into the sheet.")
]


def main() -> None:
    """Run the command line; every error trocar foresees ends in one sentence and exit code 1."""
    try:
        app()
    except TrocarError as error:
        print(f"trocar: {error}", file=sys.stderr)
        sys.exit(1)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"trocar {__version__} - {NOTICE}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Plan where a needle goes into a painful bone metastasis."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the sheet.")] = Path("trocar-demo"),
    bone: Annotated[str, typer.Option(help="Synthetic patient; see 'trocar phantom'.")] = (
        "vertebra_l3"
    ),
    language: Language = "en",
    seed: Seed = 0,
    viewer: Viewer = True,
    as_json: Json = False,
) -> None:
    """Make a synthetic patient, plan it and write its sheet: no data needed."""
    from trocar import pathway
    from trocar.phantom import make
    from trocar.phantom.files import as_scan

    _check_language(language)
    with _progress(as_json) as tell:
        tell("synthetic patient", 0.0)
        patient = make(bone, seed=seed)
        planned = pathway.plan_lesion(
            as_scan(patient),
            patient.site,
            labels=patient.labels,
            click_mm=patient.click_mm,
            case_id=f"Synthetic patient {seed}",
            seed=seed,
            command="trocar demo",
            progress=tell,
        )
        files = pathway.write_case(out, planned, language=language, viewer=viewer, progress=tell)
    _say_planned(planned, files, as_json)


@app.command()
def plan(
    ct: Annotated[Path, typer.Argument(help="DICOM folder, zip or file; NIfTI, NRRD or MHA.")],
    site: Annotated[
        str, typer.Option("--site", "-s", help="L1, T10, sacrum, 'acetabulum right', 'femur left'.")
    ],
    labels: Annotated[
        Path | None,
        typer.Option("--labels", "-l", help="Label map, DICOM SEG or RTSTRUCT with named regions."),
    ] = None,
    lesion: Annotated[
        str | None,
        typer.Option(
            "--lesion",
            help="A mask file, or a click inside the lesion: x,y,z in LPS mm (ras:x,y,z for RAS, "
            "ijk:column,row,slice for voxels), or ball:x,y,z,radius. Left out: proposed.",
        ),
    ] = None,
    series: Annotated[
        str | None, typer.Option(help="Series number or UID when the folder holds several.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the sheet.")] = Path(
        "trocar-out"
    ),
    case_id: Annotated[
        str | None, typer.Option("--case", help="Pseudonym printed on the sheet.")
    ] = None,
    options: Annotated[int, typer.Option(help="How many distinct needles to propose.")] = 6,
    needles: Annotated[int, typer.Option(help="How many needles used together.")] = 2,
    language: Language = "en",
    seed: Seed = 0,
    viewer: Viewer = True,
    as_json: Json = False,
) -> None:
    """Plan needles into one lesion and write the plan sheet."""
    from trocar import pathway

    _check_language(language)
    mask, point = _lesion_argument(lesion)
    with _progress(as_json) as tell:
        planned, files = pathway.plan_case(
            ct,
            site=site,
            out=out,
            labels=labels,
            lesion=mask,
            click=None if point is None or point[0] == "ball" else point,
            ball_mm=point[1] if point is not None and point[0] == "ball" else None,
            series=series,
            case_id=case_id,
            language=language,
            viewer=viewer,
            count=options,
            needles_per_lesion=needles,
            seed=seed,
            progress=tell,
        )
    _say_planned(planned, files, as_json)


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="Folder, zip or file to look into.")],
    as_json: Json = False,
) -> None:
    """Say what images there are and, for each, why it can or cannot be used."""
    from trocar.io.volumes import inspect as look

    found = look(path)
    if as_json:
        from trocar.io.exports import plain

        print(json.dumps(plain(found), indent=1))
        return
    for number, row in enumerate(found.rows, start=1):
        print(f"{number}. {row.state}: {row.description}")
        for line in row.lines():
            print(f"   {line}")


@app.command()
def phantom(
    name: Annotated[str, typer.Argument(help="Which bone; left out: list them.")] = "",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the files.")] = Path(
        "trocar-phantom"
    ),
    seed: Seed = 0,
) -> None:
    """Write a synthetic patient: CT, labels, lesion and the exact truth."""
    from trocar.phantom import NAMES, make
    from trocar.phantom.files import write

    if not name:
        print("\n".join(NAMES))
        return
    for path in write(out, make(name, seed=seed)).values():
        print(path)


@app.command()
def warmup() -> None:
    """Compile every kernel now, so that the first result of a day does not wait for it."""
    from trocar.pathway import warm_kernels

    with _progress(False) as tell:
        seconds = warm_kernels(tell)
    print(f"all kernels compiled and kept ({seconds:.0f} s)")


def _check_language(language: str) -> None:
    if language not in ("en", "zh-Hant"):
        raise typer.BadParameter(f"{language!r} is not a sheet language; give en or zh-Hant")


def _lesion_argument(text: str | None) -> tuple[Path | None, tuple[str, Any] | None]:
    """A mask path, or the kind of coordinates with the numbers of a click or a ball.

    >>> _lesion_argument("ras:-10,20,30.5")
    (None, ('ras', (-10.0, 20.0, 30.5)))
    """
    if text is None:
        return None, None
    kind, numbers = "lps", text
    if text[:4] in ("lps:", "ras:", "ijk:") or text.startswith("ball:"):
        kind, _, numbers = text.partition(":")
    try:
        values = tuple(float(p) for p in numbers.split(","))
    except ValueError:
        values = ()
    if len(values) == (4 if kind == "ball" else 3):
        return None, (kind, values)
    if numbers is not text or values:
        raise InputError(
            f"--lesion {text!r} is neither a file nor a point; write x,y,z or ball:x,y,z,radius"
        )
    return Path(text), None


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str, float], None]]:
    """A bar with the step's name and the time left, on a terminal; silence elsewhere."""
    try:
        with _bar(quiet) as tell:
            yield tell
    except KeyboardInterrupt:
        raise TrocarError("stopped; nothing was changed") from None


@contextmanager
def _bar(quiet: bool) -> Iterator[Callable[[str, float], None]]:
    if quiet or not sys.stderr.isatty():
        yield lambda step, fraction: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<18}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("starting", total=1.0)
        yield lambda step, fraction: bars.update(task, description=step, completed=fraction)


def _say_planned(planned: Planned, files: dict[str, Path], as_json: bool) -> None:
    """Tell what was found: the gravest first, then the best needle, then where the sheet is."""
    plan = planned.plan
    if as_json:
        print(json.dumps(_summary(planned, files), indent=1))
        return
    for finding in plan.findings:
        if finding.gravity != "note":
            print(f"{finding.gravity.value.upper():8}{finding}")
    lesion = plan.lesion
    kind = "of unknown kind" if lesion.kind == "unknown" else lesion.kind
    print(f"lesion  {lesion.volume_ml:.1f} ml {kind} in {plan.site}, {lesion.found_by}")
    best = plan.best
    if best is None:
        print("needle  none is safe:")
        for refusal in plan.refusals:
            print(f"        {refusal.route}: {refusal.reason}")
    else:
        worst = best.worst
        near = ""
        if worst is not None:
            name = worst.structure.replace("_", " ")
            near = f", tightest {name} {worst.distance_mm:.1f} mm"
        print(f"needle  {best.route}, {best.needle}, depth {best.depth_mm:.0f} mm{near}")
        stops = sum(o.verdict == "stop" for o in plan.options)
        apart = f", {stops} of them to be stopped by what is not known" if stops else ""
        refused = len(plan.refusals)
        routes = "1 route" if refused == 1 else f"{refused} routes"
        print(f"        {len(plan.options)} options{apart}; {routes} refused")
        if planned.anatomy.missing:
            names = ", ".join(m.replace("_", " ") for m in planned.anatomy.missing)
            print(f"        not identified, so not kept away from: {names}")
    print(f"sheet   {files['sheet']}")
    print(NOTICE)


def _summary(planned: Planned, files: dict[str, Path]) -> dict[str, Any]:
    from trocar.io.exports import plain

    best = planned.plan.best
    return {
        "notice": NOTICE,
        "version": __version__,
        "site": str(planned.plan.site),
        "lesion_ml": planned.lesion.volume_ml,
        "options": len(planned.plan.options),
        "best": None if best is None else plain(best),
        "findings": [{"gravity": f.gravity.value, "text": str(f)} for f in planned.plan.findings],
        "refusals": [{"route": r.route, "reason": r.reason} for r in planned.plan.refusals],
        "files": {name: str(path) for name, path in files.items()},
    }


if __name__ == "__main__":
    main()
