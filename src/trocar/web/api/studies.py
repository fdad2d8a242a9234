"""Whole studies: which there are, the export, the audit's numbers; and the log."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from ninja import Status

from trocar.errors import InputError
from trocar.model.study import StudyInfo
from trocar.registry import chain, roles, store
from trocar.registry.models import MODELS, ChainHead, Study
from trocar.web.api import schemas
from trocar.web.api.access import page, study_of, told
from trocar.web.api.core import offer
from trocar.web.api.rows import Limit, Offset
from trocar.web.api.tokens import Caller

LARGEST_AUDIT = 2000  # lesions; a larger audit is asked for in the browser, as a job
LARGEST_EXPORT = 20_000  # lesions; a larger study is exported in the browser
_STUDY = "/studies/{uid}/"
_KNOWING = (roles.SEE, roles.REFER, roles.AUDIT, roles.SHARED, roles.EXPORT, roles.IMPORT)


@offer("GET", "/studies/", *_KNOWING, gives=schemas.PAGES["study"], name="studies", tag="studies")
def studies(request: HttpRequest, limit: Limit = 50, offset: Offset = 0) -> Any:
    """The studies of the registry."""
    return page(Study.objects.order_by("pk"), limit, offset)


@offer(
    "POST", "/studies/", roles.IMPORT, gives=schemas.ROWS["study"], made=201, name="study_create",
    tag="studies", body=schemas.StudyNew,
)  # fmt: skip
def study_create(request: HttpRequest, body: Any) -> Any:
    """Begin a study."""
    info = schemas.record_of("study", StudyInfo, body.record)
    return Status(201, told(store.put("study", info, who=request.auth.who, why=body.why)))


@offer("GET", _STUDY, *_KNOWING, gives=schemas.ROWS["study"], name="study", tag="studies")
def study(request: HttpRequest, uid: UUID) -> Any:
    """The head of a study."""
    return told(study_of(uid))


@offer("GET", f"{_STUDY}export/", roles.EXPORT, gives=dict[str, Any], name="export", tag="studies")
def export(request: HttpRequest, uid: UUID) -> Any:
    """A whole study in the one-file form that trocar reads; every export is logged."""
    from trocar.io.records import write_study

    row = study_of(uid)
    _refuse_large(row, LARGEST_EXPORT, "export a larger study in the browser")
    held = store.read_study(row)
    with tempfile.TemporaryDirectory() as folder:
        text = write_study(Path(folder) / "study.json", held).read_bytes()
    chain.log(
        "export", request.auth.who, f"study:{row.uid}", form="json", by="interface",
        sha256=held.sha256, lesions=len(held),
    )  # fmt: skip
    return HttpResponse(text, content_type="application/json")


@offer(
    "GET", f"{_STUDY}audit/", roles.AUDIT, roles.SHARED, gives=dict[str, Any], name="audit",
    tag="studies",
)  # fmt: skip
def audit(request: HttpRequest, uid: UUID) -> Any:
    """The numbers of the audit; who sees only shared tables gets its counts, none of them small."""
    from trocar.audit.sharing import FEWEST
    from trocar.audit.summary import audit_study
    from trocar.io.exports import plain
    from trocar.web.pages.exchange import shared_counts

    caller: Caller = request.auth
    row = study_of(uid)
    _refuse_large(row, LARGEST_AUDIT, "ask for a larger audit in the browser")
    held = store.read_study(row)
    below = None if caller.may(roles.AUDIT) else FEWEST
    made = audit_study(held, suppress_below=below)
    chain.log(
        "export", caller.who, f"study:{row.uid}", form="audit", by="interface",
        sha256=held.sha256, suppress_below=below,
    )  # fmt: skip
    if below is not None:
        return {"suppress_below": below, "counts": shared_counts(made)}
    return plain(made)


def _refuse_large(row: Study, most: int, instead: str) -> None:
    """Refuse a study that is too large for one call, before any of it is read."""
    count = MODELS["lesions"].objects.filter(study=row).count()
    if count > most:
        raise InputError(
            f"the study holds {count} lesions; expected at most {most} here, {instead}"
        )


# --- The log ------------------------------------------------------------------------------------


@offer("GET", "/log/head/", roles.LOG, gives=schemas.Head, name="log_head", tag="log")
def log_head(request: HttpRequest) -> Any:
    """The last link of the log: note it outside, and hold the log against it later."""
    head = ChainHead.objects.filter(pk=1).first()
    return {"number": head.number if head else 0, "sha256": head.sha256 if head else ""}


@offer("POST", "/log/verify/", roles.LOG, gives=schemas.Verified, name="log_verify", tag="log")
def log_verify(request: HttpRequest, body: schemas.Verify) -> Any:
    """Whether every link of the log and every row holds, and the first that does not."""
    report = chain.verify(rows=body.rows, known_head=body.known_head)
    return vars(report) | {"sound": report.sound, "changed_rows": list(report.changed_rows)}
