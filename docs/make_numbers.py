"""Write docs/numbers.md from the facts; ``--check`` says whether the page is up to date."""

from __future__ import annotations

import sys
from pathlib import Path

from trocar.facts import products, source

PAGE = Path(__file__).with_name("numbers.md")

HEAD = """# Numbers

Every clinical and physical number trocar uses, with its source and evidence grade. This page is
generated from `src/trocar/facts`. *verified*: read in the source. *general knowledge*: believed,
not looked up. *placeholder*: a stand-in until somebody supplies the right number; whatever rests on
it is marked on the sheet.
"""


def number(value: float | None) -> str:
    """A number as short as it is exact."""
    return "" if value is None else f"{value:g}"


def page() -> str:
    """The whole page as Markdown."""
    parts = [HEAD]
    for name in source.versions():
        table = source.load(name)
        parts.append(f"\n## {name} (version {table.version})\n")
        if table.values:
            parts.append("| name | value | low | high | unit | evidence | source |")
            parts.append("|---|---|---|---|---|---|---|")
        for v in table.values.values():
            cells = [v.name, number(v.mean), number(v.low), number(v.high), v.unit, v.evidence]
            parts.append("| " + " | ".join([*cells, v.source.replace("|", "/")]) + " |")
        if name == "products":
            parts.append("| gauge | outer mm | inner mm | dead volume of 100 mm, ml |")
            parts.append("|---|---|---|---|")
            for gauge in table.data["gauges"]:
                n = products.needle(int(gauge), 100.0)
                row = [gauge, f"{n.outer_mm:.2f}", f"{n.inner_mm:.2f}", f"{n.dead_volume_ml:.2f}"]
                parts.append("| " + " | ".join(row) + " |")
            parts.append(f"\n{table.data['needle_source']} ({table.data['needle_evidence']}).")
        if name == "cement":
            parts += listed(table.data["classes"]) + listed(table.data["kinetics"])
        if name == "strength":
            parts += listed(table.data["laws"]) + listed(table.data["sites"])
    return "\n".join(parts) + "\n"


def listed(rows: dict[str, dict[str, object]]) -> list[str]:
    """A table of named rows, one column for each key that any row has."""
    keys = list(dict.fromkeys(key for row in rows.values() for key in row))
    head = ["", "| | " + " | ".join(keys) + " |", "|---" * (len(keys) + 1) + "|"]
    body = [[name, *(str(row.get(key, "")) for key in keys)] for name, row in rows.items()]
    return head + ["| " + " | ".join(cells) + " |" for cells in body]


def main() -> int:
    """Write the page, or compare it."""
    text = page()
    if "--check" in sys.argv:
        if PAGE.read_text(encoding="utf-8") != text:
            print("docs/numbers.md is out of date; run python docs/make_numbers.py")
            return 1
        return 0
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
