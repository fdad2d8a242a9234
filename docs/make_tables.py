"""Write the tables of docs/pathway/records.md from the columns; ``--check`` only compares."""

from __future__ import annotations

import sys
from pathlib import Path

from trocar.model.columns import Column, columns
from trocar.model.study import KEYS, TABLES, StudyInfo

PAGE = Path(__file__).with_name("pathway") / "records.md"
BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"


def cell(text: str) -> str:
    """A text that does not break a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")


def row(c: Column) -> str:
    """One column as a line of the table."""
    name = f"**`{c.name}`**" if c.required else f"`{c.name}`"
    return f"| {name} | {cell(c.help)} | {cell(c.expected)} |"


def table(title: str, cls: type, key: tuple[str, ...]) -> str:
    """One table of the record: what a row is, what it may hold."""
    lines = [f"### {title}", "", (cls.__doc__ or "").strip().partition("\n")[0]]
    if key:
        lines[-1] += f" No two rows share {', '.join(f'`{k}`' for k in key)}."
    lines += ["", "| column | what | may hold |", "|---|---|---|", *map(row, columns(cls)), ""]
    return "\n".join(lines)


def page(before: str) -> str:
    """The page with its tables made anew."""
    head, _, rest = before.partition(BEGIN)
    tail = rest.partition(END)[2]
    made = [table("study.json: study", StudyInfo, ())]
    made += [table(f"{name}.csv", cls, KEYS.get(name, ())) for name, cls in TABLES.items()]
    return f"{head}{BEGIN}\n\n" + "\n".join(made) + f"\n{END}{tail}"


def main() -> int:
    """Write the page, or compare it."""
    before = PAGE.read_text(encoding="utf-8")
    after = page(before)
    if "--check" in sys.argv:
        if before != after:
            print("docs/pathway/records.md is out of date; run python docs/make_tables.py")
            return 1
        return 0
    PAGE.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
