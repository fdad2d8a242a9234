"""The overview of a cohort: every case there, the worst first, each in the reader's language."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trocar import NOTICE
from trocar.cohort import RESULTS, SHEETS
from trocar.model.result import Run
from trocar.report import page
from trocar.report.cohort import write_cohort_page

RUN = Run(
    version="0.1.0", command="trocar cohort", inputs={}, facts={}, parameters={"do": "plan"},
    seed=0, started="2026-11-25T10:00:00+00:00", seconds=1.0, peak_mb=1.0, packages={},
)  # fmt: skip
DONE: dict[str, Any] = {
    "state": "done", "site": "L3", "lesion_ml": 4.77, "route": "transpedicular left", "gauge": 10,
    "depth_mm": 101.6, "nearest": "spinal_canal", "margin_mm": 1.05, "cement_ml": 3.2,
    "stop_ml": 2.9, "fill": 0.41, "leaks": ["epidural or canal"], "leaked_ml": 0.123,
    "load_over_strength": 0.87, "of_intact": 0.62, "weakest": "vertebral body",
    "gravest": "the canal was not found",
}  # fmt: skip


def row(case: str, verdict: str, **more: Any) -> dict[str, Any]:
    given = DONE | {"case": case, "verdict": verdict, "sheet": f"{case}/plan.html"} | more
    return {name: given.get(name, "" if name == "error" else None) for name in RESULTS}


ROWS = [
    row("lost", "", state="died", error="its worker died 3 times", sheet=None),
    row("bad one", "stop"), row("unsure", "unknown", leaks=None), row("well", "ok", leaks=[]),
]  # fmt: skip


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", html.split("</style>")[1]))


@pytest.mark.parametrize("do", list(SHEETS))
def test_every_case_is_there_with_its_numbers_and_its_sheet(do: str, tmp_path: Path) -> None:
    html = write_cohort_page(tmp_path / "c.html", do=do, rows=ROWS, run=RUN).read_text()
    text = text_of(html)
    assert html.count(NOTICE) >= 2
    assert 'href="bad%20one/plan.html"' in html
    assert "lost L3 its worker died its worker died 3 times" in text
    order = [text.index(name) for name in ("lost", "bad one", "unsure", "well")]
    assert order == sorted(order)
    assert "4.8 ml" in text
    said = {
        "plan": "10 G 102 mm spinal canal 1.1 mm",  # 1.05 is a little more in binary
        "cement": "2.9 ml 41 %",
        "assess": "41 % canal or epidural space 0.12 ml",
        "strength": "0.87 62 % vertebral body",
    }[do]
    assert said.replace(
        "canal or epidural space", page.Speaker("en").name("epidural or canal")
    ) in (text.replace("−", "-"))
    assert "unknown" in text
    assert "none" in text or do in ("plan", "strength")


def test_nothing_is_loaded_and_no_name_can_leave_its_cell(tmp_path: Path) -> None:
    bad = row("<script>x</script>", "stop", gravest="<img src=http://x>")
    html = write_cohort_page(tmp_path / "c.html", do="plan", rows=[bad], run=RUN).read_text()
    assert "<script" not in html
    assert "<img" not in html
    assert not re.search(r'(src|href)="https?:', html)
    assert "default-src 'none'" in html


def test_a_finding_is_told_in_the_language_of_the_page(tmp_path: Path) -> None:
    message = "the site {site} is not in the image"
    apart = row("a", "stop") | {"finding": {"message": message, "values": {"site": "sacrum"}}}
    pages = [
        write_cohort_page(tmp_path / "c.html", do="plan", rows=[apart], run=RUN, language=code)
        .read_text()
        for code in ("en", "zh-Hant")
    ]  # fmt: skip
    assert "the site sacrum is not in the image" in text_of(pages[0])
    assert "the canal was not found" not in pages[0]
    assert page.Speaker("zh-Hant").name("sacrum") in pages[1]


@pytest.mark.parametrize("do", list(SHEETS))
def test_it_is_said_in_chinese(
    do: str, tmp_path: Path, untranslated: Callable[..., dict[str, None]]
) -> None:
    missing = untranslated()
    states = [row(s, "", state=s, error="x") for s in ("failed", "died", "hung", "not done")]
    rows = [one | {"gravest": ""} for one in (*states, *ROWS)]  # told by the rooms, not here
    html = write_cohort_page(
        tmp_path / "c.html", do=do, rows=rows, run=RUN, language="zh-Hant"
    ).read_text()
    assert 'lang="zh-Hant"' in html
    assert not missing
