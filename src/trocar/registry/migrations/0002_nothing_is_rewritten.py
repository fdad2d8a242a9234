"""The database itself refuses to change or delete a link of the log or a state of the history."""

from __future__ import annotations

from typing import Any

from django.db import migrations

_SAYS = "history and log are never changed"
_FUNCTION = f"""
CREATE OR REPLACE FUNCTION trocar_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION '{_SAYS}'; END $$
"""


def _tables(apps: Any) -> list[str]:
    models = apps.get_app_config("registry").get_models()
    return [
        m._meta.db_table
        for m in models
        if m.__name__.startswith("Historical") or m.__name__ == "ChainEvent"
    ]


def guard(apps: Any, schema_editor: Any) -> None:
    """One trigger a table for changes, one for deletions; on PostgreSQL one for emptying too."""
    vendor = schema_editor.connection.vendor
    if vendor == "postgresql":
        schema_editor.execute(_FUNCTION)
    for table in _tables(apps):
        for word in ("UPDATE", "DELETE"):
            name = f"{table}_no_{word.lower()}"[:63]
            if vendor == "postgresql":
                schema_editor.execute(
                    f'CREATE TRIGGER "{name}" BEFORE {word} ON "{table}" '
                    "FOR EACH ROW EXECUTE FUNCTION trocar_refuse()"
                )
            else:
                schema_editor.execute(
                    f'CREATE TRIGGER "{name}" BEFORE {word} ON "{table}" '
                    f"BEGIN SELECT RAISE(ABORT, '{_SAYS}'); END"
                )
        if vendor == "postgresql":
            schema_editor.execute(
                f'CREATE TRIGGER "{table}_no_truncate" BEFORE TRUNCATE ON "{table}" '
                "FOR EACH STATEMENT EXECUTE FUNCTION trocar_refuse()"
            )


def release(apps: Any, schema_editor: Any) -> None:
    """Take the triggers away."""
    vendor = schema_editor.connection.vendor
    for table in _tables(apps):
        for word in ("update", "delete", "truncate"):
            name = f"{table}_no_{word}"[:63]
            if vendor == "postgresql":
                schema_editor.execute(f'DROP TRIGGER IF EXISTS "{name}" ON "{table}"')
            elif word != "truncate":
                schema_editor.execute(f'DROP TRIGGER IF EXISTS "{name}"')


class Migration(migrations.Migration):
    dependencies = [("registry", "0001_tables")]
    operations = [migrations.RunPython(guard, release)]
