"""The command line: parse, call one function, print."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trocar import NOTICE, __version__, terminal
from trocar.errors import InputError, TrocarError

if TYPE_CHECKING:
    from trocar.model.ablation import Protection
    from trocar.model.study import Study
    from trocar.pathway import FollowedLesion

app = typer.Typer(
    name="trocar",
    help=f"Treat a painful bone metastasis with a needle: select, plan, assess, audit. {NOTICE}",
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


Ct_ = Annotated[Path, typer.Argument(help="DICOM folder, zip or file; NIfTI, NRRD or MHA.")]
Series_ = Annotated[
    str | None, typer.Option(help="Series number or UID when the folder holds several.")
]
Out_ = Annotated[Path, typer.Option("--out", "-o", help="Folder for the sheets.")]
Case_ = Annotated[str | None, typer.Option("--case", help="Pseudonym printed on the sheet.")]
_OUT = Path("trocar-out")
Source_ = Annotated[
    Path,
    typer.Argument(help="A CT as for 'plan', or the folder of a plan, which is then gone on from."),
]
Moved_ = Annotated[
    Path | None, typer.Option("--ct", help="Where the CT of the plan is now, when it has moved.")
]
Out_known = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", help="Folder for the sheets; left out: that of the plan, or trocar-out."
    ),
]
Site_known = Annotated[
    str | None,
    typer.Option("--site", "-s", help="As for 'plan'; the folder of a plan has its own."),
]
Site_ = Annotated[
    str, typer.Option("--site", "-s", help="L1, T10, sacrum, 'acetabulum right', 'femur left'.")
]
Labels_ = Annotated[
    Path | None,
    typer.Option("--labels", "-l", help="Label map, DICOM SEG or RTSTRUCT with named regions."),
]
Lesion_ = Annotated[
    str | None,
    typer.Option(
        "--lesion",
        help="A mask file, or a click inside the lesion: x,y,z in LPS mm (ras:x,y,z for RAS, "
        "ijk:column,row,slice for voxels), or ball:x,y,z,radius. Left out: proposed.",
    ),
]
Lesion_known = Annotated[
    str | None, typer.Option("--lesion", help="A mask file, a click or a ball, as for 'plan'.")
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
    """Treat a painful bone metastasis with a needle: select, plan, assess, audit."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the sheet.")] = Path("trocar-demo"),
    bone: Annotated[str, typer.Option(help="Synthetic patient; see 'trocar phantom'.")] = (
        "vertebra_l3"
    ),
    language: Language = "en",
    seed: Seed = 0,
    viewer: Viewer = True,
    cement: Annotated[
        bool, typer.Option("--cement/--no-cement", help="Go on to cement and the CT afterwards.")
    ] = True,
    ablation: Annotated[
        bool, typer.Option("--ablation/--no-ablation", help="Heat the lesion before the cement.")
    ] = True,
    strength: Annotated[
        bool, typer.Option("--strength/--no-strength", help="Load the bone, before and after.")
    ] = True,
    runs: Annotated[int, typer.Option(help="Simulated injections in the leak forecast.")] = 48,
    serve: Annotated[
        bool,
        typer.Option(
            "--serve/--no-serve", help="End in a registry for the browser; --json has none."
        ),
    ] = True,
    as_json: Json = False,
) -> None:
    """Carry a synthetic patient through every step, and show a registry that holds it."""
    from trocar.demonstration import carry

    _check_language(language)
    with terminal.progress(as_json) as tell:
        done = carry(
            bone, out=out, seed=seed, ablation=ablation, cement=cement, strength=strength,
            runs=runs, language=language, viewer=viewer, progress=tell,
        )  # fmt: skip
    if done.not_loaded:
        print(f"no strength: {done.not_loaded}", file=sys.stderr)
    terminal.say_planned(
        done.planned, dict(done.files), as_json, (done.cemented, done.assessed),
        ablation=done.ablated, strength=done.loaded,
    )  # fmt: skip
    if serve and not as_json:
        from trocar.web.demo import show

        show(out / "registry", seed=seed, computed=done)


@app.command()
def plan(
    ct: Ct_,
    site: Site_,
    labels: Labels_ = None,
    lesion: Lesion_ = None,
    series: Series_ = None,
    out: Out_ = _OUT,
    case_id: Case_ = None,
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
    where = _where(lesion)
    with terminal.progress(as_json) as tell:
        planned, files = pathway.plan_case(
            ct,
            site=site,
            out=out,
            labels=labels,
            **where,
            series=series,
            case_id=case_id,
            language=language,
            viewer=viewer,
            count=options,
            needles_per_lesion=needles,
            seed=seed,
            progress=tell,
        )
    terminal.say_planned(planned, files, as_json)


@app.command()
def cement(
    ct: Source_,
    site: Site_known = None,
    labels: Labels_ = None,
    lesion: Lesion_ = None,
    series: Series_ = None,
    out: Out_known = None,
    moved: Moved_ = None,
    case_id: Case_ = None,
    kind: Annotated[
        str, typer.Option("--cement", help="Viscosity (low, medium, high) or a brand by its name.")
    ] = "medium",
    room_c: Annotated[float, typer.Option(help="Room temperature, degC.")] = 22.0,
    rate: Annotated[
        float | None, typer.Option("--rate", help="Rate of injection, ml/s; left out: 0.05.")
    ] = None,
    target: Annotated[
        float | None,
        typer.Option("--target", help="Wished volume, ml; left out: from body and lesion."),
    ] = None,
    given: Annotated[
        float, typer.Option("--given", help="Cement given before in this session, ml.")
    ] = 0.0,
    needles: Annotated[int, typer.Option(help="How many needles cement goes through.")] = 1,
    runs: Annotated[int, typer.Option(help="Simulated injections in the leak forecast.")] = 256,
    strength: Annotated[
        bool,
        typer.Option("--strength/--no-strength", help="Show on the sheet what the bone bears."),
    ] = True,
    language: Language = "en",
    seed: Seed = 0,
    viewer: Viewer = True,
    as_json: Json = False,
) -> None:
    """Plan needles and cement: how much, when, when to stop, and how likely a leak is."""
    from trocar.pathway.cement import cement_case

    _check_language(language)
    where, folder = _where(lesion), _folder(ct, site, out)
    with terminal.progress(as_json) as tell:
        case, files = cement_case(
            ct,
            site=site,
            out=folder,
            now_at=moved,
            labels=labels,
            **where,
            series=series,
            case_id=case_id,
            needles_per_lesion=max(2, needles),
            language=language,
            viewer=viewer,
            strength=strength,
            seed=seed,
            options={
                "cement": kind,
                "room_c": room_c,
                "rate_ml_s": rate,
                "target_ml": target,
                "given_ml_this_session": given,
                "needles": needles,
                "runs": runs,
            },
            progress=tell,
        )
    terminal.say_planned(case.planned, files, as_json, (case, None))


@app.command()
def ablate(
    ct: Source_,
    site: Site_known = None,
    labels: Labels_ = None,
    lesion: Lesion_ = None,
    series: Series_ = None,
    out: Out_known = None,
    moved: Moved_ = None,
    case_id: Case_ = None,
    device: Annotated[
        str, typer.Option("--device", "-d", help="An applicator by its name; 'list' shows them.")
    ] = "osteocool_15",
    place: Annotated[
        str,
        typer.Option(help="search: fewest applicators, shortest time; needle: as planned."),
    ] = "search",
    applicators: Annotated[
        int | None,
        typer.Option(
            "--applicators", "-n", help="How many: at most (search, 5), or just (needle, 1)."
        ),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Time of heating or of each freeze (place needle).")
    ] = None,
    pulled_back: Annotated[
        float, typer.Option("--pulled-back", help="mm the needle is pulled back (place needle).")
    ] = 0.0,
    margin: Annotated[
        float | None, typer.Option(help="mm around the lesion that should die, too.")
    ] = None,
    protect: Annotated[
        list[str] | None,
        typer.Option(
            help="gas:STRUCTURE:MM, fluid:STRUCTURE:MM or thermocouple:STRUCTURE:DEGC; repeat it."
        ),
    ] = None,
    language: Language = "en",
    seed: Seed = 0,
    viewer: Viewer = True,
    as_json: Json = False,
) -> None:
    """Plan an ablation: what dies, and how warm or cold every nerve gets."""
    from trocar.facts.ablation import applicators as known
    from trocar.pathway.ablation import ablate_case

    _check_language(language)
    if device == "list":
        print("\n".join(known()))
        return
    where, folder = _where(lesion), _folder(ct, site, out)
    protections = tuple(_protection(text) for text in protect or ())
    if not as_json:
        terminal.say_unfinished(folder)
    with terminal.progress(as_json, "the same command goes on from what is finished") as tell:
        case, files = ablate_case(
            ct,
            site=site,
            out=folder,
            now_at=moved,
            labels=labels,
            **where,
            series=series,
            case_id=case_id,
            language=language,
            viewer=viewer,
            seed=seed,
            options={
                "device": device,
                "place": place,
                "applicators": applicators or (5 if place == "search" else 1),
                "seconds": seconds,
                "pulled_back_mm": pulled_back,
                "margin_mm": margin,
                "protections": protections,
            },
            progress=tell,
        )
    terminal.say_planned(case.planned, files, as_json, ablation=case)


@app.command()
def strength(
    ct: Source_,
    site: Site_known = None,
    labels: Labels_ = None,
    lesion: Lesion_ = None,
    cement: Annotated[
        list[Path] | None,
        typer.Option(
            help="Cement: folder of 'trocar cement' (planned) or 'trocar assess' (found), or a "
            "mask or share file in the space of the CT; repeat it."
        ),
    ] = None,
    weight: Annotated[
        float | None, typer.Option("--weight", help="Body weight, kg, where loads depend on it.")
    ] = None,
    voxel: Annotated[
        float | None, typer.Option("--voxel", help="Side of a cube, mm; left out: 1, or as few do.")
    ] = None,
    interval: Annotated[
        bool, typer.Option("--interval/--no-interval", help="Run the weak and the strong end, too.")
    ] = True,
    load: Annotated[
        list[str] | None,
        typer.Option("--load", help="A load by its name; 'list' shows them; repeat it."),
    ] = None,
    series: Series_ = None,
    out: Out_known = None,
    moved: Moved_ = None,
    language: Language = "en",
    viewer: Viewer = True,
    as_json: Json = False,
) -> None:
    """Say what the bone bears: intact, as it is, and with planned or found cement."""
    from trocar.pathway.strength import loads_at, strength_case

    _check_language(language)
    if load == ["list"]:
        print("\n".join(loads_at(site)))
        return
    where, folder = _where(lesion), _folder(ct, site, out)
    with terminal.progress(as_json) as tell:
        case, files = strength_case(
            ct,
            site=site,
            out=folder,
            now_at=moved,
            labels=labels,
            **where,
            cement=cement or (),
            loads=load or (),
            weight_kg=weight,
            voxel_mm=voxel,
            interval=interval,
            series=series,
            language=language,
            viewer=viewer,
            progress=tell,
        )
    if as_json:
        print(json.dumps(terminal.strength_summary(case, files), indent=1))
        return
    terminal.say_strength(case)
    print(f"sheet   {files['strength sheet']}")
    print(NOTICE)


@app.command()
def assess(
    post: Annotated[Path, typer.Option("--post", help="CT after the procedure.")],
    site: Site_,
    pre: Annotated[
        Path | None, typer.Option("--pre", help="CT before, if there is one: finds far more.")
    ] = None,
    labels: Labels_ = None,
    lesion: Lesion_known = None,
    predicted: Annotated[
        Path | None, typer.Option("--predicted", help="Folder of 'trocar cement', to compare with.")
    ] = None,
    achieved: Annotated[
        Path | None,
        typer.Option("--needles", help="Slicer markups: the needles as they lie on --post."),
    ] = None,
    series: Annotated[
        str | None, typer.Option(help="Series number or UID of --post when there are several.")
    ] = None,
    pre_series: Annotated[
        str | None, typer.Option(help="Series number or UID of --pre when there are several.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the sheet.")] = Path(
        "trocar-result"
    ),
    strength: Annotated[
        bool,
        typer.Option("--strength/--no-strength", help="Show on the sheet what the bone bears."),
    ] = True,
    language: Language = "en",
    viewer: Viewer = True,
    as_json: Json = False,
) -> None:
    """Find cement on the CT afterwards: how much, how full the lesion is, what leaked where.

    Labels and lesion belong to --pre where there is one, else to --post. Without --lesion its fill
    stays unknown.
    """
    from trocar.pathway.cement import assess_case

    _check_language(language)
    where = _where(lesion)
    with terminal.progress(as_json) as tell:
        case, files = assess_case(
            post,
            site=site,
            out=out,
            pre=pre,
            labels=labels,
            **where,
            predicted=predicted,
            achieved=achieved,
            series=series,
            pre_series=pre_series,
            language=language,
            viewer=viewer,
            strength=strength,
            progress=tell,
        )
    if as_json:
        print(json.dumps(terminal.assessed_summary(case, files), indent=1))
        return
    terminal.say_assessed(case)
    print(f"sheet   {files['result sheet']}")
    print(NOTICE)


@app.command()
def cohort(
    folder: Annotated[Path, typer.Argument(help="Folder with the cases and their cases.csv.")],
    do: Annotated[
        str, typer.Option("--do", help="What is done: plan, cement, assess or strength.")
    ] = "plan",
    template: Annotated[
        bool, typer.Option("--template", help="Print the table of cases for FOLDER, to fill in.")
    ] = False,
    table: Annotated[
        Path | None, typer.Option(help="The table of cases; left out: cases.csv in FOLDER.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for sheets and tables.")] = Path(
        "trocar-cohort"
    ),
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Processes; left out: as cores and memory reach; 0: this one."),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(envvar="TROCAR_SCHEDULER", help="Dask scheduler, such as tcp://host:8786."),
    ] = None,
    limit_s: Annotated[
        float, typer.Option("--limit-s", min=1, help="Seconds without a word that end a case.")
    ] = 900.0,
    runs: Annotated[int, typer.Option(help="Simulated injections in a leak forecast.")] = 256,
    language: Language = "en",
    seed: Seed = 0,
    viewer: Annotated[
        bool, typer.Option("--viewer/--no-viewer", help="Put the viewer into every sheet.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Plan or assess hundreds of cases; what was done by an earlier start is not done again."""
    from trocar import cohort as many

    _check_language(language)
    if template:
        print(many.template(folder), end="")
        return
    with terminal.progress(as_json, "the same command goes on from what is finished") as tell:
        done = many.run_cohort(
            folder, do=do, table=table, out=out, workers=workers, scheduler=scheduler,
            limit_s=limit_s, runs=runs, language=language, seed=seed, viewer=viewer, progress=tell,
        )  # fmt: skip
    missing = done.of("")
    if as_json:
        files = {name: str(path) for name, path in done.files.items()}
        print(json.dumps({"notice": NOTICE, "cases": done.rows, "files": files}, indent=1))
    else:
        for row in missing:
            print(f"{row['case']}: {row['error']}")
        counts = ", ".join(f"{len(done.of(v))} {v}" for v in ("stop", "unknown", "caution", "ok"))
        print(f"cases   {len(done.rows)}: {counts}, {len(missing)} not computed")
        for name, path in done.files.items():
            print(f"{name:8} {path}")
        print(NOTICE)
    if missing:
        raise typer.Exit(1)


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
def deid(
    source: Annotated[Path, typer.Argument(help="Folder, zip or file with images of people.")],
    out: Annotated[Path, typer.Argument(help="New folder for the images without names.")],
    key: Annotated[
        Path | None,
        typer.Option(help="The file that can undo it, made where there is none; beside OUT."),
    ] = None,
    dates: Annotated[str, typer.Option(help="shifted (intervals stay) or removed.")] = "shifted",
) -> None:
    """Take names, dates and identifiers out of images, so that nobody is recognised in them."""
    from trocar.io.deidentify import Key, deidentify_folder, way_with_dates

    way_back = key or out.parent / f"{out.name}.key.json"
    if way_back.resolve().is_relative_to(out.resolve()):
        raise InputError(
            f"the key {way_back} lies in {out} and would travel with the images; "
            "give a file elsewhere"
        )
    with Key.at(way_back) as kept, terminal.progress(False) as tell:
        told = deidentify_folder(source, out, kept, dates=way_with_dates(dates), progress=tell)
    print("\n".join((*told.lines(), f"images: {out}")))
    there = way_back.exists()
    print(f"key: {way_back} (it alone can undo this)" if there else "key: none; nobody was named")


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

    with terminal.progress(False) as tell:
        seconds = warm_kernels(tell)
    print(f"all kernels compiled and kept ({seconds:.0f} s)")


StudyPath = Annotated[
    Path | None,
    typer.Argument(help="Study folder, zip or JSON file ('trocar study new' makes one)."),
]
Example = Annotated[
    bool,
    typer.Option("--example", help="Use the Hong Kong series of 2013, which ships with trocar."),
]
OneLesion = Annotated[
    str | None, typer.Option("--lesion", help="Name of one lesion; left out: every lesion.")
]
Opioids = Annotated[
    str, typer.Option("--opioids", help="Table of opioid equivalents: anzca-2021 or cdc-2022.")
]


@app.command()
def select(
    study: StudyPath = None,
    example: Example = False,
    lesion: OneLesion = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for a decision sheet per lesion.")
    ] = None,
    language: Language = "en",
    as_json: Json = False,
) -> None:
    """Decide lesion by lesion, clause by clause, whether cementoplasty is supported."""
    from trocar import pathway

    _check_language(language)
    cases = pathway.select_cases(_study(study, example), lesion, out=out, language=language)
    if as_json:
        from trocar.io.exports import plain

        told = [
            {"decision": c.decision, "sheet": None if c.sheet is None else str(c.sheet)}
            for c in cases
        ]
        print(json.dumps({"notice": NOTICE, "cases": plain(told)}, indent=1))
        return
    for case in cases:
        decision = case.decision
        print(f"lesion {decision.lesion_id}, {case.record.lesion.site}: {decision.outcome.upper()}")
        for status in ("not met", "unknown", "discuss"):
            for v in decision.of(status):  # type: ignore[arg-type]
                print(f"  {status:8} {v.rule:4} {v.text} [{v.clause}]")
        kept = [v.rule for v in decision.of("met")]
        print(f"  met      {', '.join(kept) or 'nothing'}")
        for score in decision.scores:
            points = "not known" if score.points is None else f"{score.points:g}"
            mark = "" if score.evidence == "verified" else f" ({score.evidence})"
            print(f"  score    {score.name} {points} {score.group}{mark}".rstrip())
        if case.sheet is not None:
            print(f"  sheet    {case.sheet}")
    print(NOTICE)


@app.command()
def follow(
    study: StudyPath = None,
    example: Example = False,
    lesion: OneLesion = None,
    opioids: Opioids = "anzca-2021",
    as_json: Json = False,
) -> None:
    """Say lesion by lesion what became of the pain: response, opioids, how long relief lasted."""
    from trocar import pathway

    told = pathway.follow_cases(_study(study, example), lesion, opioid_table=opioids)
    if as_json:
        from trocar.io.exports import plain

        print(json.dumps({"notice": NOTICE, "lesions": plain(told)}, indent=1))
        return
    for one in told:
        print(f"lesion {one.lesion_id}, {one.record.lesion.site}")
        scores = ", ".join(f"day {s.day:g}: {s}" for s in one.record.course.pain)
        print(f"  pain     {scores or 'never scored'}")
        for label, row in one.responses.items():
            how = "" if row.after is None else f" ({row.after.how})"
            kind = _RESPONSES[row.response.kind]
            print(f"  {_TIMES[label]:8} {kind}: {row.response.reason}{how}")
        print(f"  relief   {_relief(one)}")
        before, after = one.walking
        if before is not None and after is not None:
            print(f"  walking  {before:g} before, {after:g} when last asked (4 is best)")
        for event in one.record.course.complications:
            grade = "" if event.cirse is None else f", CIRSE {event.cirse}"
            print(f"  harm     {event.event} on day {event.day:g}{grade}")
    print(NOTICE)


@app.command()
def audit(
    study: StudyPath = None,
    example: Example = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the page.")] = Path(
        "trocar-audit"
    ),
    opioids: Opioids = "anzca-2021",
    suppress_below: Annotated[
        int | None,
        typer.Option(help="Hide counts below this, and what would give them away, for sharing."),
    ] = None,
    language: Language = "en",
    as_json: Json = False,
) -> None:
    """Audit a study: pain, harm, governance and comparison with the published series, one page."""
    from trocar import pathway

    _check_language(language)
    cases = _study(study, example)
    with terminal.progress(as_json) as tell:
        audited, files = pathway.audit_cases(
            cases,
            out=out,
            opioid_table=opioids,
            suppress_below=suppress_below,
            language=language,
            progress=tell,
        )
    if as_json:
        from trocar.io.exports import plain

        told = {"notice": NOTICE, "files": {name: str(path) for name, path in files.items()}}
        print(json.dumps(told | {"headline": plain(audited.changes[:1])}, indent=1))
        return
    from trocar.report.audit import alerts_of, headline
    from trocar.report.page import Speaker, spoken_language

    speaker = Speaker(spoken_language(language))
    for alert in alerts_of(audited, speaker):
        if alert.grade != "note":
            print(f"{alert.grade.upper():8}{alert.text}")
    print(f"result  {headline(audited, speaker)}")
    print(f"page    {files['page']}")
    print(NOTICE)


@app.command()
def serve(
    host: Annotated[
        str, typer.Option(help="Address to answer at; 127.0.0.1 reaches this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="Ask nothing: make up and print the first password."),
    ] = False,
    processes: Annotated[
        int | None, typer.Option(min=1, max=64, help="Processes that answer; left out: 2 at most.")
    ] = None,
) -> None:
    """Run the registry for the browser; the first time it makes its database and administrator."""
    from trocar.web.serve import serve as run

    run(host, port, yes=yes, processes=processes)


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="Zip to write; it must not be there yet.")],
) -> None:
    """Write the whole registry, its history, log, accounts and files, into one zip."""
    from trocar.web.serve import prepare_existing

    prepare_existing()
    from trocar.web.backup import backup as write

    kept = write(file)
    print(f"{kept.path}: {kept.rows} rows, {kept.files} files, {kept.links} links of the log")
    print(f"head  {kept.head}   (keep this elsewhere: it proves the log later)")


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="Zip that 'trocar backup' wrote.")],
    head: Annotated[
        str | None, typer.Option(help="The head that was printed with the backup.")
    ] = None,
) -> None:
    """Make the registry of a backup in an empty database: all of it, or nothing."""
    from trocar.web.serve import nothing_left, prepare

    if not file.is_file():
        raise InputError(f"{file} is not there")
    with nothing_left():
        prepare()
        from trocar.web.backup import restore as read

        kept = read(file, head=head)
    print(f"{kept.rows} rows and {kept.files} files restored; the log holds ({kept.links} links)")


@app.command()
def verify(
    head: Annotated[
        str | None, typer.Option(help="A head printed earlier; it must stand in the log.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check that no link of the log and no row was changed unseen; name the first that was."""
    from trocar.web.serve import prepare_existing

    prepare_existing()
    from trocar.registry.chain import NOT_HERE
    from trocar.registry.chain import verify as walk

    report = walk(known_head=head)
    if as_json:
        from dataclasses import asdict

        print(json.dumps(asdict(report) | {"sound": report.sound}, indent=1))
        if not report.sound:
            raise typer.Exit(1)
        return
    if report.why == NOT_HERE:
        raise InputError(report.why)
    if report.broken_at is not None:
        raise InputError(f"the log is broken at link {report.broken_at}: {report.why}")
    if report.changed_rows:
        rows = ", ".join(report.changed_rows)
        raise InputError(f"rows are not as the log tells; changed past trocar: {rows}")
    print(f"sound: {report.links} links, {report.rows} rows")
    print(f"head  {report.head}")


studies = typer.Typer(
    help="Keep a study as plain files: start one, check it, convert it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(studies, name="study")


@studies.command("new")
def study_new(
    folder: Annotated[Path, typer.Argument(help="Folder to make.")],
) -> None:
    """Make an empty study: one CSV a table with its headings, and a page that explains them."""
    from trocar.io.records import template

    print(template(folder))


@studies.command("check")
def study_check(
    path: Annotated[Path, typer.Argument(help="Study folder, zip or JSON file.")],
    as_json: Json = False,
) -> None:
    """Read a study and say everything that is wrong with it, with file, row and column."""
    from trocar.io.records import problems, read_study

    wrong = problems(path)
    if as_json:
        from trocar.io.exports import plain

        print(json.dumps({"problems": plain(wrong)}, indent=1))
        if wrong:
            raise typer.Exit(1)
        return
    for problem in wrong:
        print(problem)
    if wrong:
        count = "1 problem" if len(wrong) == 1 else f"{len(wrong)} problems"
        raise InputError(f"{path} has {count}; nothing was loaded")
    found = read_study(path)
    for note in found.notes:
        print(f"{note.note_id:4} {note.text}")
    print(f"{path}: {len(found.patients)} patients, {len(found.lesions)} lesions, no problem found")


@studies.command("convert")
def study_convert(
    source: Annotated[Path, typer.Argument(help="Study to read.")],
    target: Annotated[Path, typer.Argument(help="Folder, .json or .zip to write.")],
) -> None:
    """Write a study in another form (folder of CSV, one JSON file, zip); nothing is lost.

    The Hong Kong example is the folder facts/studies/hong_kong_2013 of the installed package.
    """
    from trocar.io.records import read_study, write_study

    print(write_study(target, read_study(source)))


@studies.command("schema")
def study_schema() -> None:
    """Print the JSON Schema of a study in one file."""
    from trocar.io.records import study_schema as schema

    print(json.dumps(schema(), indent=1))


_TIMES = {"Wk1": "1 week", "M1": "1 month", "M2": "2 months", "M3": "3 months"}
_RESPONSES = {
    "CR": "complete response",
    "PR": "partial response",
    "IR": "indeterminate",
    "PP": "pain progression",
    "not evaluable": "not evaluable",
}


def _relief(one: FollowedLesion) -> str:
    """How long the relief of a lesion lasted, in words."""
    if one.relief is None:
        return f"none: {one.no_relief}"
    end = {
        "lost": f"lost on day {one.relief.end_day:g}",
        "died": "until death",
        "last score": "still there at the last score",
    }[one.relief.ended]
    return f"from day {one.relief.start_day:g} to day {one.relief.last_relieved_day:g}, {end}"


def _study(path: Path | None, example: bool) -> Study:
    """The study asked for on the command line."""
    from trocar.io.records import example_study, read_study

    if (path is None) != example:
        raise InputError(
            "give either a study (folder, zip or JSON file) or --example, not "
            + ("both" if example else "neither")
        )
    study = example_study() if path is None else read_study(path)
    for note in study.notes:
        print(f"{note.note_id:4} {note.text}", file=sys.stderr)
    return study


def _check_language(language: str) -> None:
    if language not in ("en", "zh-Hant"):
        raise typer.BadParameter(f"{language!r} is not a sheet language; give en or zh-Hant")


def _folder(source: Path, site: str | None, out: Path | None) -> Path:
    """Where the sheets go: as said, into the plan that is gone on from, or as usual."""
    from trocar.io.plans import holds_plan

    if holds_plan(source):
        return out or source
    if site is None:
        raise typer.BadParameter(
            "say which bone with --site, such as --site L1 (only the folder of a plan has its own)"
        )
    return out or _OUT


def _where(lesion: str | None) -> dict[str, Any]:
    """What ``--lesion`` says, as the pathway takes it: a mask, a click or a ball."""
    mask, point = _lesion_argument(lesion)
    ball = point is not None and point[0] == "ball"
    return {
        "lesion": mask,
        "click": None if ball else point,
        "ball_mm": point[1] if point is not None and ball else None,
    }


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


def _protection(text: str) -> Protection:
    """What ``--protect`` says.

    >>> _protection("gas:spinal_canal:5").gap_mm
    5.0
    """
    from trocar.model.ablation import Protection

    parts = text.split(":")
    try:
        kind, structure, number = parts[0], parts[1], float(parts[2])
        if len(parts) != 3 or kind not in ("gas", "fluid", "thermocouple"):
            raise ValueError
    except (IndexError, ValueError):
        raise InputError(
            f"--protect {text!r} is not one trocar knows; write gas:STRUCTURE:MM, "
            "fluid:STRUCTURE:MM or thermocouple:STRUCTURE:DEGC, such as gas:spinal_canal:5"
        ) from None
    if kind == "thermocouple":
        return Protection(kind="thermocouple", structure=structure, stop_c=number)
    return Protection(kind="gas" if kind == "gas" else "fluid", structure=structure, gap_mm=number)


if __name__ == "__main__":
    main()
