"""One lesion as a time line, its next step and its gates; and a form for any row of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from csp.decorators import csp
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from trocar.errors import InputError
from trocar.model.care import STATES
from trocar.model.columns import columns
from trocar.pathway import workflow
from trocar.pathway.gates import title_of
from trocar.registry import chain, roles, store
from trocar.registry.convert import to_record
from trocar.registry.models import MODELS
from trocar.web import cases
from trocar.web import kept as files
from trocar.web.curve import curve
from trocar.web.forms import (
    IN_ORDER,
    RowForm,
    answers,
    differences,
    display,
    initial_of,
    label,
    row_form,
    sentence,
)
from trocar.web.guard import allowed, case_of, needs, role_of
from trocar.web.pages.sheet import happened, zero_of
from trocar.web.templatetags.clinic import moment

# The right that lets one enter and change a table's rows; taking out needs CORRECT everywhere.
TABLE_RIGHTS = {
    "patients": roles.REFER,
    "lesions": roles.REFER,
    "referrals": roles.REFER,
    "selection": roles.MEET,
    "meetings": roles.MEET,
    "images": roles.MEET,
    "exclusions": roles.MEET,
    "consents": roles.CONSENT,
    "runs": roles.PLAN,
    "procedures": roles.TREAT,
    "devices": roles.TREAT,
    "injections": roles.TREAT,
    "injection_events": roles.TREAT,
    "ablations": roles.TREAT,
    "assessments": roles.TREAT,
    "leaks": roles.HARM,
    "complications": roles.HARM,
    "pain": roles.FOLLOW,
    "opioids": roles.FOLLOW,
    "visits": roles.FOLLOW,
    "events": roles.FOLLOW,
    "deaths": roles.FOLLOW,
}
# Written on pages of their own: steps by moving, plans as versions, votes by who signs them.
OWN_PAGES = ("steps", "plans", "votes")
TITLES = {
    "patients": _("Patient"), "lesions": _("Lesion"), "referrals": _("Referral"),
    "selection": _("Selection"), "meetings": _("Meeting"), "votes": _("Vote"),
    "consents": _("Consent"), "images": _("Images"), "plans": _("Plan"),
    "runs": _("Computed result"), "procedures": _("Procedure"), "devices": _("Device"),
    "injections": _("Cement injection"), "injection_events": _("During the injection"),
    "ablations": _("Ablation"), "assessments": _("Assessment by CT"), "leaks": _("Leak"),
    "complications": _("Complication"), "pain": _("Pain"), "opioids": _("Opioid"),
    "visits": _("Visit"), "events": _("Event"), "deaths": _("Death"),
    "exclusions": _("Exclusion"), "steps": _("Moved"),
}  # fmt: skip
SPECIAL = (
    ("bench", _("Workbench"), (roles.SEE,)),
    ("results", _("Results"), (roles.SEE,)),
    ("upload", _("Add images"), (roles.MEET,)),
    ("meeting", _("Meeting"), (roles.MEET, roles.VOTE)),
    ("consent", _("Consent"), (roles.CONSENT,)),
    ("plan", _("Plan"), (roles.PLAN,)),
    ("procedure", _("Procedure"), (roles.TREAT,)),
    ("visit", _("Follow-up call"), (roles.FOLLOW,)),
    ("complication", _("Complication"), (roles.HARM,)),
)
_HARM = ("complications", "leaks", "deaths")
_OF_PROCEDURE = ("devices", "injections", "injection_events", "ablations")
_IDS = ("lesion_id", "patient_id", "procedure_id")
# The order of what has no date, and of what happened on one day.
_ORDER = (
    "referrals", "images", "selection", "meetings", "consents", "plans", "runs", "steps", "visits",
    "pain", "opioids", "procedures", "leaks", "assessments", "complications", "events", "deaths",
    "exclusions",
)  # fmt: skip
_DATES = {
    "selection": "decided_on", "plans": "made_at", "runs": "started_at", "steps": "at",
}  # fmt: skip
_NOT_YET = date(2999, 1, 1)
_LONG_AGO = -1e6
_SEE = (roles.SEE, roles.SEE_OWN)
_WRITE = tuple(sorted(set(TABLE_RIGHTS.values())))


_SHEETS = ("plan_sha256", "result_sha256")
_MOMENTS = ("at", "made_at", "approved_at", "revoked_at", "signed_at", "started_at")


@dataclass(kw_only=True)
class Shown:
    """One row on the time line, and what who looks may do with it."""

    table: str
    uid: str
    title: str
    facts: list[tuple[str, str]]
    position: float
    when: str
    short: str = ""  # in place of the facts, where one line says it all
    may_change: bool = False
    may_remove: bool = False
    sheet: str = ""  # the address of a sheet that is kept
    subs: list[Shown] = field(default_factory=list)

    @property
    def harm(self) -> bool:
        """Whether it stands out on the line."""
        return self.table in _HARM

    @property
    def long(self) -> bool:
        """Whether it is folded at first."""
        return len(self.facts) > 12


# --- The case page ------------------------------------------------------------------------------


@needs(*_SEE)
@require_GET
def case(request: HttpRequest, uid: Any) -> HttpResponse:
    """A lesion: where it stands, what stands in the way, and everything that happened to it."""
    return _page(request, case_of(request, uid))


def _page(request: HttpRequest, lesion: Any, *, fault: str = "", status: int = 200) -> HttpResponse:
    held = store.gather(lesion)
    record, care = store.read_record(lesion, held), store.read_care(lesion, held)
    may_move = allowed(request, roles.MOVE)
    ways = [_way(request, s, record, care) for s in workflow.NEXT[care.state]]
    forward = workflow.forward(care.state)
    told = {
        "lesion": lesion, "uid": lesion.uid, "state": care.state, "fault": fault,
        "states": _states(care.state), "seen": care.steps[-1].number if care.steps else 0,
        "next": next((w for w in ways if w["state"] == forward), None),
        "others": [w for w in ways if w["state"] != forward], "may_move": may_move,
        "entries": timeline(request, lesion, record, held), "head": _head(request, lesion),
        "curve": curve(record.course.pain.scores, record.course.opioids.lines),
        "special": [(n, t) for n, t, some in SPECIAL if any(allowed(request, r) for r in some)],
        "addable": [(t, TITLES[t]) for t in TABLE_RIGHTS if _may_add(request, t)],
        "may_history": allowed(request, roles.HISTORY), "line": getattr(lesion, "case", None),
        "today": cases.today(),
    }  # fmt: skip
    return render(request, "case/case.html", told, status=status)


def _states(state: str) -> list[tuple[str, str]]:
    """The way through treatment and which parts of it are past."""
    on = [s for s in STATES if s != "declined"]
    if state == "declined":
        return [(s, "") for s in on] + [("declined", "here")]
    at = on.index(state)
    return [(s, "past" if i < at else "here" if i == at else "") for i, s in enumerate(on)]


def _way(request: HttpRequest, state: str, record: Any, care: Any) -> dict[str, Any]:
    """One state that may follow, its gates worst first, and whether who looks can go there."""
    role = role_of(request)
    gates = workflow.gates(state, record, care, today=cases.today())
    shut = workflow.blocked(gates, (), role)
    stuck = [g for g in shut if not workflow.may_override(role, g)]
    rows = []
    for g in gates:
        tone = "ok" if g.open is True else "stop" if g.hard and g.open is False else "caution"
        word = {True: _("open"), False: _("closed"), None: _("not known")}[g.open]
        rows.append(
            {
                "gate": g.gate, "title": g.title, "tone": tone, "word": word, "hard": g.hard,
                "text": sentence(g.reason, g.values), "clause": g.clause,
                "override": g in shut and workflow.may_override(role, g),
            }
        )  # fmt: skip
    return {
        "state": state, "gates": rows, "shut": shut, "stuck": stuck,
        "shut_gates": [r for r in rows if r["tone"] != "ok" and r["hard"]],
        "warnings": [r for r in rows if r["tone"] != "ok" and not r["hard"]],
        "open_gates": [r for r in rows if r["tone"] == "ok"],
        "needs_reason": bool(shut) or workflow.needs_reason(care.state, state),
    }  # fmt: skip


@needs(roles.MOVE)
@require_POST
def move(request: HttpRequest, uid: Any) -> HttpResponse:
    """Move a case to another state."""
    lesion = case_of(request, uid)
    state, reason = request.POST.get("state", ""), request.POST.get("reason", "")
    seen = request.POST.get("seen", "")
    try:
        if state not in STATES or not seen.isascii() or not seen.isdigit() or len(seen) > 9:
            raise InputError("the step is not one that may follow; open the case again")
        cases.move(
            lesion, state, who=request.user.get_username(), role=role_of(request), reason=reason,
            overridden=request.POST.getlist("override"), seen=int(seen),
        )  # fmt: skip
    except store.Conflict as conflict:
        return _page(request, case_of(request, uid), fault=str(conflict), status=409)
    except InputError as error:
        return _page(request, case_of(request, uid), fault=str(error), status=422)
    messages.success(request, gettext("The case was moved."), extra_tags="ok")
    return redirect("case", uid=uid)


def _head(request: HttpRequest, lesion: Any) -> list[Shown]:
    return [
        _shown(request, "lesions", lesion, to_record(lesion), lesion, 0, ""),
        _shown(request, "patients", lesion.patient, to_record(lesion.patient), lesion, 0, ""),
    ]


def timeline(
    request: HttpRequest, lesion: Any, record: Any, held: Mapping[str, list[Any]]
) -> list[Shown]:
    """Every row of a lesion, what was first on top; small rows stand within what they are of."""
    days = sorted(p.date for p in record.procedures if p.date and len(p.date) == 10)
    zero = date.fromisoformat(days[0]) if days else None
    line: list[Shown] = []
    for table in _ORDER:
        for row in held[table]:
            kept = to_record(row)
            position, when = _when(table, kept, zero)
            line.append(_shown(request, table, row, kept, lesion, position, when))
    procedures = {s.uid: s for s in line if s.table == "procedures"}
    for table in _OF_PROCEDURE:
        for row in held[table]:
            shown = _shown(request, table, row, to_record(row), lesion, 0, "")
            procedures[str(row.procedure.uid)].subs.append(shown)
    meetings = {s.when: s for s in line if s.table == "meetings"}
    for row in held["votes"]:
        vote = to_record(row)
        shown = _shown(request, "votes", row, vote, lesion, *_when("votes", vote, zero))
        if shown.when in meetings:
            meetings[shown.when].subs.append(shown)
        else:
            line.append(shown)
    return _by_visit(sorted(line, key=lambda s: s.position))


def _by_visit(line: list[Shown]) -> list[Shown]:
    """Pain and opioids of a visit's day stand within the visit."""
    visits = {s.position: s for s in line if s.table == "visits"}
    kept = []
    for s in line:
        day = visits.get(s.position) if s.table in ("pain", "opioids") else None
        if day is None:
            kept.append(s)
        else:
            day.subs.append(s)
    return kept


def _when(table: str, kept: Any, zero: date | None) -> tuple[float, str]:
    """Where a row stands on the line, in days after the procedure, and what its date is."""
    day = getattr(kept, "day", None)
    rank = _ORDER.index(table) / 1000 if table in _ORDER else 0.5
    told = str(getattr(kept, _DATES.get(table, "date"), None) or "")[:10]
    if day is not None:
        # Day 0 is just before the procedure, whose place on its day is 0.011.
        same = 0 if table in ("visits", "pain", "opioids") else rank
        return day + (0.008 if same == 0 else same), gettext("day {day}").format(day=f"{day:g}")
    after = table in ("leaks", "assessments", "deaths", "exclusions")
    if told:
        try:
            full = told if len(told) == 10 else (told + "-01-01")[:10]
            # Before any procedure has a day, dates still follow one another.
            return (date.fromisoformat(full) - (zero or _NOT_YET)).days + rank, told
        except ValueError:
            return _LONG_AGO + rank, told
    if table == "procedures":
        return rank, told
    return (1e-3 if after else _LONG_AGO) + rank, told


def _shown(
    request: HttpRequest, table: str, row: Any, kept: Any, lesion: Any, position: float, when: str
) -> Shown:
    sheet = _sheet_of(lesion, table, row, kept)
    known = _facts(kept, leave_out=(*_IDS, "date", "day"))
    short = _short(table, kept)
    if short:
        known = []
    may = _may_change(request, table, row)
    return Shown(
        table=table, uid=str(row.uid), title=str(TITLES[table]), facts=known, position=position,
        when=when, short=short, may_change=may, sheet=sheet,
        may_remove=table not in (*OWN_PAGES, "lesions", "patients")
        and allowed(request, roles.CORRECT)
        and not (table == "consents" and kept.date is not None),  # one that was signed stays
    )  # fmt: skip


# Where the sheet in a kept folder is shown.
_SHEET_PAGES = {"plans": "plan-sheet", "runs": "run", "assessments": "assessment"}


def _sheet_of(lesion: Any, table: str, row: Any, kept: Any) -> str:
    """The address of what was computed for a row, "" when nothing is kept."""
    for name in _SHEETS:
        sha256 = getattr(kept, name, None)
        if sha256 and files.holds(f"{sha256}.html"):
            return reverse("case-sheet", args=[lesion.uid, sha256])
        if sha256 and table in _SHEET_PAGES and files.holds(f"{sha256}.zip"):
            if table == "runs" and kept.kind == "plan":
                return ""  # its sheet is that of the plan's version
            return reverse(_SHEET_PAGES[table], args=[lesion.uid, row.uid])
    return ""


def _facts(kept: Any, *, leave_out: Sequence[str]) -> list[tuple[str, str]]:
    """What a row says; a moment to the minute, a gate by its title."""
    told = []
    for c in columns(type(kept)):
        value = getattr(kept, c.name)
        if value is None or c.name in leave_out or c.name.endswith("sha256"):
            continue  # a hash is for machines; a row's history tells it
        if c.name in _MOMENTS:
            said = moment(value)
        elif c.name == "overridden" and value:
            said = "; ".join(gettext(title_of(key)) for key in value)
        else:
            said = display(c, value)
        told.append((str(label(c.help)), said))
    return told


def _short(table: str, kept: Any) -> str:
    """A score or a dose on one line."""
    if table == "pain":
        words = (kept.instrument, kept.recall, kept.activity)
        return " ".join([str(kept), *(gettext(w) for w in words if w)])
    if table == "opioids":
        way = f" ({gettext(kept.route)})" if kept.route else ""
        dose = f" {kept.dose:g} {gettext(kept.unit)}" if kept.dose else ""
        return f"{gettext(kept.drug)}{dose}{way}"
    return ""


def _may_add(request: HttpRequest, table: str) -> bool:
    if table in ("patients", "lesions") or not allowed(request, TABLE_RIGHTS[table]):
        return False
    return allowed(request, roles.SEE) or table == "referrals"


def _may_change(request: HttpRequest, table: str, row: Any) -> bool:
    if table not in TABLE_RIGHTS or not allowed(request, TABLE_RIGHTS[table]):
        return False
    if allowed(request, roles.SEE):
        return True
    # Who sees only the own cases changes only the own referrals.
    return table == "referrals" and row.referrer_id == request.user.get_username()


# --- Sheets that were kept ----------------------------------------------------------------------


@needs(*_SEE)
@require_GET
@csp(files.SHEET_POLICY)
def sheet(request: HttpRequest, uid: Any, sha256: str) -> HttpResponse:
    """A plan, ablation, cement or result sheet of a lesion; that it was seen is logged."""
    lesion = case_of(request, uid)
    held = store.gather(lesion)
    rows = (row for t in ("plans", "runs", "assessments") for row in held[t])
    if not any(sha256 in (getattr(row, n, None) for n in _SHEETS) for row in rows):
        raise Http404
    page = files.kept(f"{sha256}.html")
    who = request.user.get_username()
    chain.log("view", who, f"lesions:{lesion.uid}", what="sheet", sha256=sha256)
    return HttpResponse(page)


# --- Any row ------------------------------------------------------------------------------------


def _named(table: str) -> str:
    if table not in MODELS:
        raise Http404
    return table


def _lesion_of(request: HttpRequest, row: Any, table: str) -> Any:
    """A lesion of a row (or of a state in its history) that who asks may see; else 404."""
    names = {f.name for f in row._meta.fields}
    if table == "exclusions":
        named = MODELS["lesions"].objects.filter(
            study=row.study_id, patient__patient_id=row.patient_id
        )
        uids = [lesion.uid for lesion in named]
    elif table == "lesions":
        uids = [row.uid]
    elif table == "patients":
        uids = [x.uid for x in MODELS["lesions"].objects.filter(patient__uid=row.uid)]
    elif "lesion" in names:
        uids = [row.lesion.uid]
    elif "procedure" in names:
        uids = [row.procedure.lesion.uid]
    else:
        uids = [x.uid for x in MODELS["lesions"].objects.filter(patient=row.patient_id)]
    for uid in uids:
        try:
            return case_of(request, uid)
        except Http404:
            continue
    raise Http404


def row_of(request: HttpRequest, table: str, uid: Any) -> tuple[Any, Any]:
    """A row and its lesion, if who asks may see them; else 404."""
    row = MODELS[_named(table)].objects.filter(uid=uid).first()
    if row is None:
        raise Http404
    return row, _lesion_of(request, row, table)


def _form_of(request: HttpRequest, table: str, *, change: bool) -> type[RowForm]:
    """The generic form: references that cannot change and names of one's own are left out."""
    out = ["lesion_id", "patient_id"]
    own = {"patients": "patient_id", "procedures": "procedure_id", "images": "image_id",
           "runs": "run_id"}.get(table)  # fmt: skip
    if change and (own or table in _OF_PROCEDURE):
        out.append(own or "procedure_id")
    if table == "referrals" and not allowed(request, roles.SEE):
        out.append("referrer_id")
    return row_form(table, leave_out=tuple(out))


@needs(*_WRITE)
@require_http_methods(["GET", "POST"])
def add(request: HttpRequest, uid: Any, table: str) -> HttpResponse:
    """A new row of any table for a lesion."""
    lesion = case_of(request, uid)
    if _named(table) in OWN_PAGES or not _may_add(request, table):
        raise PermissionDenied
    made = _form_of(request, table, change=False)
    data = request.POST if request.method == "POST" else None
    options = {}
    if table in _OF_PROCEDURE:
        options["procedure_id"] = [
            p.procedure_id
            for p in MODELS["procedures"].objects.filter(lesion=lesion).order_by("pk")
        ]
    form = made(data, options=options, initial=_first(lesion, table, options))
    if data is not None and form.is_valid():
        base = {"lesion_id": lesion.lesion_id, "patient_id": lesion.patient.patient_id}
        base["referrer_id"] = request.user.get_username()
        kept = form.to_record(base)
        if kept is not None and _happened(table, form, kept, lesion):
            try:
                cases.save(table, kept, who=request.user.get_username(), why="",
                           study=lesion.study)  # fmt: skip
                messages.success(request, gettext("Saved."), extra_tags="ok")
                return redirect("case", uid=lesion.uid)
            except InputError as error:
                form.refuse(error)
    told = {"form": form, "lesion": lesion, "title": TITLES[table], "adding": True}
    return render(request, "case/row.html", told, status=200 if data is None else 422)


def _happened(table: str, form: RowForm, kept: Any, lesion: Any) -> bool:
    """Whether what is told to have happened is not still to come; else told at the field."""
    return happened(table, form, kept, zero_of(store.read_record(lesion)))


def _first(lesion: Any, table: str, options: dict[str, list[str]]) -> dict[str, Any]:
    """What a new row's form begins with."""
    names = {c.name for c in columns(MODELS[table].record)}
    begin: dict[str, Any] = {}
    if len(options.get("procedure_id", ())) == 1:
        begin["procedure_id"] = options["procedure_id"][0]
    if "number" in names:
        key = "procedure__lesion" if table in _OF_PROCEDURE else "lesion"
        begin["number"] = MODELS[table].objects.filter(**{key: lesion}).count() + 1
    return begin


@needs(*_WRITE)
@require_http_methods(["GET", "POST"])
def edit(request: HttpRequest, table: str, uid: Any) -> HttpResponse:
    """Change a row, saying why."""
    row, lesion = row_of(request, table, uid)
    if not _may_change(request, table, row):
        raise PermissionDenied
    made = _form_of(request, table, change=True)
    held = to_record(row)
    told: dict[str, Any] = {"lesion": lesion, "title": TITLES[table], "row": row, "table": table}
    told["may_remove"] = _shown(request, table, row, held, lesion, 0, "").may_remove
    told["fixed"] = [
        (label(c.help), display(c, getattr(held, c.name)))
        for c in columns(type(held))
        if c.name not in made.base_fields
    ]
    if request.method != "POST":
        form = made(initial=initial_of(held), version=row.version)
        return render(request, "case/row.html", {**told, "form": form})
    form = made(request.POST, version=row.version)
    kept = form.to_record(vars(held)) if form.is_valid() else None
    if kept is not None and _happened(table, form, kept, lesion):
        kept = _as_ordered(held, kept)
        try:
            cases.save(
                table, kept, who=request.user.get_username(), why=form.why, study=lesion.study,
                row=row, expected=form.expected,
            )  # fmt: skip
            messages.success(request, gettext("Saved."), extra_tags="ok")
            return redirect("case", uid=lesion.uid)
        except store.Conflict as conflict:
            told["conflict"] = conflict
            told["differences"] = differences(conflict.theirs, conflict.yours)
            again = form.again(conflict.row.version)
            return render(request, "case/row.html", {**told, "form": again}, status=409)
        except InputError as error:
            form.refuse(error)
    return render(request, "case/row.html", {**told, "form": form}, status=422)


def _as_ordered(held: Any, kept: Any) -> Any:
    """Ticked lists have no order: one with the same members keeps the order it had."""
    same = {}
    for c in columns(type(kept)):
        old, new = getattr(held, c.name), getattr(kept, c.name)
        ticked = c.kind == "list" and c.name not in IN_ORDER
        if ticked and old != new and old and new and set(old) == set(new):
            same[c.name] = old
    return replace(kept, **same) if same else kept


@needs(roles.CORRECT)
@require_http_methods(["GET", "POST"])
def take_out(request: HttpRequest, table: str, uid: Any) -> HttpResponse:
    """Take a row out of the record, saying why; its history stays."""
    row, lesion = row_of(request, table, uid)
    if table in (*OWN_PAGES, "lesions", "patients"):
        raise PermissionDenied
    told: dict[str, Any] = {"lesion": lesion, "row": row, "table": table, "title": TITLES[table],
                            "facts": answers(to_record(row), leave_out=_IDS)}  # fmt: skip
    status = 200
    if request.method == "POST":
        version = request.POST.get("version", "")
        known = version.isascii() and version.isdigit() and len(version) < 10
        try:
            cases.remove(
                row, who=request.user.get_username(), why=request.POST.get("why", ""),
                expected=int(version) if known else -1,
            )  # fmt: skip
            messages.success(request, gettext("Taken out; its history is kept."), extra_tags="ok")
            return redirect("case", uid=lesion.uid)
        except store.Conflict as conflict:
            told["fault"], status = str(conflict), 409
            told["row"] = conflict.row
        except InputError as error:
            told["fault"], status = str(error), 422
    return render(request, "case/remove.html", told, status=status)


@needs(roles.HISTORY)
@require_GET
def history(request: HttpRequest, table: str, uid: Any) -> HttpResponse:
    """Every change of every column of a row, also of one that was taken out."""
    model = MODELS[_named(table)]
    row = model.objects.filter(uid=uid).first()
    state = row or model.history.filter(uid=uid).first()  # type: ignore[attr-defined]
    if state is None:
        raise Http404
    lesion = _lesion_of(request, state, table)
    names = {c.name: c for c in columns(model.record)}
    items = [
        {
            "at": i.at[:19].replace("T", " "), "who": i.who, "why": i.why, "version": i.version,
            "column": label(names[i.column].help), "old": display(names[i.column], i.old),
            "new": display(names[i.column], i.new),
        }
        for i in store.history(model(uid=uid))
    ]  # fmt: skip
    told = {"items": items, "lesion": lesion, "title": TITLES[table], "gone": row is None}
    return render(request, "case/history.html", told)


@needs(roles.HISTORY)
@require_GET
def removed(request: HttpRequest, uid: Any) -> HttpResponse:
    """What was taken out of a lesion's record."""
    lesion = case_of(request, uid)
    found: list[dict[str, Any]] = []
    for table, model in MODELS.items():
        names = {f.name for f in model._meta.fields}
        where: dict[str, Any] = {"history_type": "-"}
        if table in ("lesions", "patients"):
            continue
        if table == "exclusions":
            where |= {"study": lesion.study_id, "patient_id": lesion.patient.patient_id}
        elif "lesion" in names:
            where["lesion"] = lesion.pk
        elif "procedure" in names:
            procedures = MODELS["procedures"].history.filter(lesion=lesion.pk)  # type: ignore[attr-defined]
            where["procedure__in"] = list(procedures.values_list("id", flat=True).distinct())
        else:
            where["patient"] = lesion.patient_id
        states: Sequence[Any] = model.history.filter(**where).select_related("history_user")  # type: ignore[attr-defined]
        found += [
            {
                "title": TITLES[table], "table": table, "uid": s.uid, "who": str(s.history_user),
                "at": f"{s.history_date:%Y-%m-%d %H:%M}", "why": s.history_change_reason or "",
            }
            for s in states
        ]  # fmt: skip
    found.sort(key=lambda f: str(f["at"]), reverse=True)
    return render(request, "case/removed.html", {"found": found, "lesion": lesion})


urlpatterns: list[Any] = [
    path("case/<uuid:uid>/", case, name="case"),
    path("case/<uuid:uid>/move/", move, name="move"),
    path("case/<uuid:uid>/sheet/<slug:sha256>/", sheet, name="case-sheet"),
    path("case/<uuid:uid>/removed/", removed, name="removed"),
    path("case/<uuid:uid>/add/<slug:table>/", add, name="add"),
    path("row/<slug:table>/<uuid:uid>/", edit, name="row"),
    path("row/<slug:table>/<uuid:uid>/history/", history, name="history"),
    path("row/<slug:table>/<uuid:uid>/remove/", take_out, name="remove"),
]
