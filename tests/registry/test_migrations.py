"""A database that an older trocar made becomes one of today, with every row as it was."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

STORED = sorted((Path(__file__).parent / "stored").glob("at_*.sql"))

# Run where the stored database is the site's own: upgrades it and tells what is there.
UPGRADE = """
import json
import django
django.setup()
from django.core.management import call_command
from django.db import DatabaseError, connection
from trocar.registry import chain, store
from trocar.registry.models import MODELS, MODELS_AND_HEADS, ChainEvent

call_command("migrate", verbosity=0)
report = chain.verify()
lesion = MODELS["lesions"].objects.get(lesion_id="L1")
visit = MODELS["visits"].objects.get()
refused = 0
for model in (ChainEvent, *(m.history.model for m in MODELS_AND_HEADS.values())):
    with connection.cursor() as cursor:
        try:
            cursor.execute(f'DELETE FROM "{model._meta.db_table}"')
        except DatabaseError:
            refused += 1
told = {
    "sound": report.sound, "links": report.links, "head": report.head, "why": report.why,
    "changed": report.changed_rows,
    "rows": {t: m.objects.count() for t, m in MODELS_AND_HEADS.items() if m.objects.exists()},
    "history": sum(m.history.count() for m in MODELS_AND_HEADS.values()),
    "note": [[x.old, x.new, x.who] for x in store.history(visit) if x.column == "note"],
    "plan": store.read_care(lesion).plan.approved, "seed": store.read_care(lesion).runs[0].seed,
    "refused": refused,
}
store.put("visits", store.to_record(visit).__class__(lesion_id="L1", day=90.0), who="trocar",
          study=lesion.study)
told["sound_after"] = chain.verify(known_head=report.head).sound
print(json.dumps(told))
"""


def restored(file: Path, home: Path) -> sqlite3.Connection:
    """The stored dump as the embedded database of a home."""
    base = sqlite3.connect(home / "registry.sqlite3")
    base.executescript(file.read_text(encoding="utf-8"))
    return base


def in_home(home: Path, program: str) -> Any:
    """What a program prints that finds its embedded database in a home."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TROCAR_")}
    environment |= {"TROCAR_HOME": str(home), "DJANGO_SETTINGS_MODULE": "trocar.web.settings"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_there_is_a_stored_database() -> None:
    assert [f.name for f in STORED][:1] == ["at_0001.sql"]


@pytest.mark.parametrize("file", STORED, ids=lambda f: f.stem)
def test_an_old_database_is_upgraded_without_loss(file: Path, tmp_path: Path) -> None:
    base = restored(file, tmp_path)
    number, head = base.execute("SELECT number, sha256 FROM registry_chainhead").fetchone()
    history = [
        base.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]
        for (name,) in base.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' "
            "AND name LIKE 'registry_historical%'"
        ).fetchall()
    ]
    base.close()
    told = in_home(tmp_path, UPGRADE)
    assert told["sound"], told
    assert (told["links"], told["head"]) == (number, head)
    assert told["history"] == sum(history) > 0
    assert told["rows"] == {
        "study": 1, "patients": 1, "lesions": 1, "procedures": 1, "pain": 1, "visits": 1,
        "referrals": 1, "plans": 1, "runs": 1,
    }  # fmt: skip
    assert told["note"] == [
        ["骨痛好轉 – less pain", None, "trocar"], [None, "骨痛好轉 – less pain", "trocar"],
    ]  # fmt: skip
    assert told["plan"] is True
    assert told["seed"] == 2**63 - 1
    held = [count for count in history if count]  # a row trigger has nothing to refuse elsewhere
    assert told["refused"] == len(held) + 1, "an upgraded table lets its past be deleted"
    assert told["sound_after"]


@pytest.mark.parametrize("file", STORED, ids=lambda f: f.stem)
def test_a_change_made_before_the_upgrade_shows_after_it(file: Path, tmp_path: Path) -> None:
    base = restored(file, tmp_path)
    base.execute("UPDATE registry_painscore SET low = 1.0, high = NULL")
    base.commit()
    base.close()
    told = in_home(tmp_path, UPGRADE)
    assert not told["sound"]
    assert [row.split(":")[0] for row in told["changed"]] == ["pain"]


@pytest.mark.django_db
def test_the_records_and_the_migrations_agree() -> None:
    # Ends the process with 1 when a record has a column no migration knows.
    call_command("makemigrations", "--check", "--dry-run", verbosity=1)
