"""The tables of the registry: one for every record of ``model/``, and those that guard them.

Made from the records' own columns (``registry.columns``), so that a record and its table cannot
disagree. A row has an opaque ``uid`` for addresses, a ``version`` that tells of edits in between,
and a history of every state it was in.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from simple_history.models import HistoricalRecords

from trocar.model.care import ALL_TABLES, STATES
from trocar.model.columns import columns
from trocar.model.study import DataNote, StudyInfo
from trocar.registry.columns import OWN, constraints, field, reference


class Row(models.Model):
    """What every clinical row has beside its columns."""

    table: ClassVar[str]
    record: ClassVar[type]

    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    version = models.PositiveIntegerField(default=1, editable=False)
    history = HistoricalRecords(
        inherit=True, history_change_reason_field=models.TextField(null=True)
    )

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.table} {self.uid}"


# Table -> model. A model is called by the record's name unless another already says it better.
NAMES = {"lesions": "Lesion", "selection": "Baseline", "events": "CourseEvent"}
MODELS: dict[str, type[Row]] = {}


def _model(table: str, record: type) -> type[Row]:
    name = NAMES.get(table, record.__name__)
    body: dict[str, Any] = {
        "__module__": __name__,
        "__doc__": record.__doc__,
        "table": table,
        "record": record,
    }
    for c in columns(record):
        to = reference(table, c.name)
        body[to[1] if to else c.name] = field(table, c)
    if table in OWN or table in ("exclusions", "images", "runs", "study", "notes"):
        body["study"] = models.ForeignKey(
            "registry.Study", on_delete=models.PROTECT, related_name=f"{table}_in"
        )
    body["Meta"] = type("Meta", (), {"constraints": constraints(table, record), "ordering": ["pk"]})
    return type(name, (Row,), body)


class Study(Row):
    """A study or a unit's own register: the head under which patients are entered."""

    table = "study"
    record = StudyInfo

    study_id = models.TextField(unique=True)
    title = models.TextField()
    unit = models.TextField(null=True, blank=True)
    period_start = models.CharField(max_length=10, null=True, blank=True)
    period_end = models.CharField(max_length=10, null=True, blank=True)
    source = models.TextField(null=True, blank=True)
    pain_recall = models.TextField(null=True, blank=True)
    pain_activity = models.TextField(null=True, blank=True)
    note = models.TextField(null=True, blank=True)

    class Meta:
        constraints = tuple(constraints("study", StudyInfo))


Note = _model("notes", DataNote)
for _table, _record in ALL_TABLES.items():
    MODELS[_table] = _model(_table, _record)
    globals()[MODELS[_table].__name__] = MODELS[_table]
MODELS_AND_HEADS: dict[str, type[Row]] = {"study": Study, "notes": Note, **MODELS}


class Case(models.Model):
    """Where a lesion stands: what the worklist sorts and filters, all of it derived from rows.

    Kept by ``store``; :func:`trocar.registry.store.recount` makes it anew from the rows.
    """

    lesion = models.OneToOneField(
        "registry.Lesion", on_delete=models.PROTECT, related_name="case", primary_key=True
    )
    state = models.CharField(max_length=20, choices=[(s, s) for s in STATES], default="referred")
    since = models.CharField(max_length=32)
    operator = models.TextField(blank=True, default="")
    referrer = models.TextField(blank=True, default="")
    procedure_date = models.CharField(max_length=10, blank=True, default="")
    last_visit_day = models.FloatField(null=True)
    next_due = models.CharField(
        max_length=10, blank=True, default=""
    )  # ISO day, "" when nothing is
    due_what = models.TextField(blank=True, default="")
    unsigned_plan = models.BooleanField(default=False)
    missing_scores = models.PositiveIntegerField(default=0)
    open_gates = models.PositiveIntegerField(default=0)
    changed_at = models.CharField(max_length=32)

    class Meta:
        indexes = (
            models.Index(fields=["state", "next_due"]),
            models.Index(fields=["next_due"]),
            models.Index(fields=["changed_at"]),
        )

    def __str__(self) -> str:
        return f"case {self.lesion_id}"


class ChainEvent(models.Model):
    """One link of the log: what happened, chained to the link before by its hash. Never changed."""

    number = models.BigIntegerField(primary_key=True)
    at = models.CharField(max_length=32)  # ISO, UTC, as hashed
    who = models.TextField()
    kind = models.CharField(max_length=40)
    subject = models.TextField(blank=True)  # table and uid, never a name
    detail = models.TextField()  # canonical JSON
    before = models.CharField(max_length=64)
    sha256 = models.CharField(max_length=64)

    class Meta:
        indexes = (models.Index(fields=["subject", "number"]), models.Index(fields=["kind"]))

    def __str__(self) -> str:
        return f"{self.number} {self.kind}"


class ChainHead(models.Model):
    """The last link: writers take turns on this row, and a cut-off end of the chain shows."""

    number = models.BigIntegerField(default=0)
    sha256 = models.CharField(max_length=64, default="")

    def __str__(self) -> str:
        return f"{self.number} {self.sha256[:12]}"


class Person(models.Model):
    """What the registry knows of an account beside its name: its role, language, limits."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="person"
    )
    role = models.CharField(max_length=20)
    specialty = models.TextField(blank=True, default="")
    language = models.CharField(max_length=10, default="en")
    # An administrator knows the password: nothing is done with the account until it is changed.
    must_change = models.BooleanField(default=False)

    def __str__(self) -> str:
        return f"{self.user} ({self.role})"


class SiteKey(models.Model):
    """A secret of the registry, made once and kept for good: it goes where the database goes."""

    name = models.CharField(max_length=40, unique=True)
    key = models.CharField(max_length=100)

    def __str__(self) -> str:
        return self.name


class Token(models.Model):
    """A key to the programming interface; only its hash is kept."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="tokens"
    )
    name = models.TextField()
    sha256 = models.CharField(max_length=64, unique=True)
    scopes = models.JSONField(default=list)
    made_at = models.CharField(max_length=32)
    ends_at = models.CharField(max_length=32)
    revoked_at = models.CharField(max_length=32, blank=True, default="")

    def __str__(self) -> str:
        return self.name


class Job(models.Model):
    """Long work asked for in the browser: what, by whom, how far, and where its result lies."""

    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    kind = models.CharField(max_length=40)
    asked_by = models.TextField()
    asked_at = models.CharField(max_length=32)
    parameters = models.JSONField(default=dict)
    state = models.CharField(max_length=20, default="waiting")  # running, done, failed, cancelled
    step = models.TextField(blank=True, default="")
    fraction = models.FloatField(default=0.0)
    begun_at = models.CharField(max_length=32, blank=True, default="")  # the last try
    ended_at = models.CharField(max_length=32, blank=True, default="")
    result = models.TextField(blank=True, default="")
    error = models.TextField(blank=True, default="")
    tries = models.PositiveIntegerField(default=0)  # how often a worker began
    log = models.TextField(blank=True, default="")  # lines with their time, no patient's value
    claim = models.CharField(max_length=32, blank=True, default="")  # of the one who watches it
    watched_at = models.CharField(max_length=32, blank=True, default="")

    class Meta:
        indexes = (models.Index(fields=["state"]),)

    def __str__(self) -> str:
        return f"{self.kind} {self.state}"

    @property
    def seconds_left(self) -> int | None:
        """As long again as the rest needs at the pace so far; None while there is no pace."""
        if self.state != "running" or not self.begun_at or not 0 < self.fraction <= 1:
            return None
        gone = datetime.now(UTC) - datetime.fromisoformat(self.begun_at)
        return round(gone.total_seconds() * (1 - self.fraction) / self.fraction)
