"""One lesion from referral to audit in a real browser, in both languages, read by axe as well.

The server is the one that clinics start, in a process of its own, with a folder that is thrown
away. Nothing here reaches into its database.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import browsing
import pytest
from browsing import TABLET, WIDE

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PEOPLE = {
    "radiologist": ("radiologist", "radiology"),
    "surgeon": ("radiologist", "spinal surgery"),
    "coordinator": ("coordinator", ""),
    "lead": ("audit lead", ""),
    "chief": ("administrator", ""),
    "researcher": ("researcher", ""),
    "referrer": ("referrer", "oncology"),
}
_FILL = """
import sys
from trocar.web import serve
serve.prepare()
from trocar.io.records import example_study
from trocar.registry import store
from trocar.registry.models import MODELS
from trocar.web import cases
for name, role, specialty in {people!r}:
    serve.make_account(name, {password!r}, role=role, who="trocar", specialty=specialty)
store.take_in(example_study(), who="trocar", why="example")
for lesion in MODELS["lesions"].objects.all():
    store.recount(lesion, cases.standing)
"""
_OUTSIDE = """() => [...document.querySelectorAll('body *')].filter(e => {
  const r = e.getBoundingClientRect();
  const held = e.closest('.scroll, .visually-hidden, .skip, svg, iframe');
  return r.width && !held && (r.right > innerWidth + 1 || r.left < -1);
}).map(e => e.tagName + ' ' + e.textContent.slice(0, 40))"""


def ago(days: int) -> str:
    return (datetime.now(UTC).date() - timedelta(days=days)).isoformat()


@dataclass(kw_only=True)
class Visitor:
    """A tab of a browser that remembers what it complained of."""

    page: Any
    address: str
    complaints: list[str] = field(default_factory=list)

    def go(self, path: str) -> Any:
        return self.page.goto(self.address + path.lstrip("/"))

    def at(self) -> str:
        """The path the tab is at."""
        return str(self.page.url).removeprefix(self.address.rstrip("/"))

    def log_in(self, name: str) -> None:
        browsing.logged_in(self.page, self.address, name)

    def speak(self, language: str) -> None:
        self.go("about/")
        if self.page.locator("html").get_attribute("lang") != language:
            self.page.click(f"button[name=language][value={language}]")
            self.page.wait_for_selector(f"html[lang={language}]")

    def fill(self, values: dict[str, Any], prefix: str = "") -> None:
        """Answer fields by their names: text, choices, ticks, and lists in order."""
        for name, value in values.items():
            fields = self.page.locator(f"[name='{prefix}{name}']")
            one = fields.first
            kind, tag = one.get_attribute("type"), one.evaluate("e => e.tagName")
            if kind in ("radio", "checkbox"):
                for v in [value] if isinstance(value, str) else value:
                    self.page.check(f"[name='{prefix}{name}'][value='{v}']")
            elif tag == "SELECT" and not isinstance(value, str):
                for i, v in enumerate(value):
                    fields.nth(i).select_option(v)
            elif tag == "SELECT":
                one.select_option(value)
            else:
                one.fill(str(value))

    def press(self, name: str) -> None:
        """Press the button of that name, and wait for the page that answers."""
        with self.page.expect_navigation():
            self.page.get_by_role("button", name=name, exact=True).last.click()

    def tab_to(self, selector: str) -> None:
        """Go to a field or link with the tabulator key alone."""
        for _ in range(200):
            self.page.keyboard.press("Tab")
            if self.page.evaluate("s => document.activeElement.matches(s)", selector):
                return
        raise AssertionError(f"the keyboard does not reach {selector}")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browsing.launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, chromium: Any) -> Iterator[str]:
    """The address of a running ``trocar serve`` with seven accounts and the Hong Kong series."""
    people = [(name, role, specialty) for name, (role, specialty) in PEOPLE.items()]
    filling = _FILL.format(people=people, password=browsing.PASSWORD)
    with browsing.served(tmp_path_factory.mktemp("registry"), filling) as (address, _):
        yield address


def visitor(chromium: Any, site: str, **context: Any) -> Visitor:
    tab = chromium.new_context(**({"viewport": WIDE} | context)).new_page()
    made = Visitor(page=tab, address=site)
    tab.on("dialog", lambda d: d.accept())
    tab.on("pageerror", lambda e: made.complaints.append(str(e)))

    def heard(message: Any) -> None:
        # htmx tells of a question that a newer one replaced, as it is meant to.
        replaced = message.text.startswith(("htmx:afterRequest", "htmx:sendAbort"))
        if message.type in ("error", "warning") and not replaced:
            made.complaints.append(message.text)

    tab.on("console", heard)
    return made


@pytest.fixture(scope="module")
def radiologist(chromium: Any, site: str) -> Iterator[Visitor]:
    made = visitor(chromium, site)
    made.log_in("radiologist")
    yield made
    made.page.context.close()


# --- One lesion from referral to audit ----------------------------------------------------------

BASELINE = {
    "pain_present": "yes", "site_of_maximal_pain": "yes", "matches_imaging": "yes",
    "failed_treatments": ["analgesia", "opioids"], "analgesia_maximised": "yes",
    "radiotherapy_given": "no", "spinal_surgery_access": "yes", "audit_registered": "yes",
    "governance_approved": "yes", "operator_trained": "yes", "operator_cases": "64",
    "mdt_members": ["radiology", "spinal surgery"], "infection": "no",
    "uncorrectable_coagulopathy": "no", "cement_allergy": "no", "cord_compression_fragment": "no",
    "asymptomatic_stable": "no", "new_neuro_deficit": "no", "myelopathy": "no",
    "radicular_dominant": "no", "cortical_defect": "no", "joint_surface": "no", "pregnancy": "no",
    "severe_cardiopulmonary": "no", "levels_per_session": "1", "inr": "1.1",
    "platelets_e9_l": "220", "ecog": "2", "karnofsky": "60", "expected_survival_months": "9",
    "visceral": "none", "skeletal_lesions": "3", "planned_ablation": "none",
    "sins_alignment": "normal", "sins_collapse_percent": "10", "sins_body_involved_percent": "40",
    "sins_posterolateral": "none", "escc": "0", "frankel": "E",
}  # fmt: skip


def audited(tab: Visitor, last: str = "") -> dict[str, Any]:
    """Ask for an audit of the Hong Kong register, wait for it, and take its numbers."""
    tab.go("audit/")
    tab.page.get_by_role("link", name=re.compile("Audit Cementoplasty")).click()
    tab.page.fill("[name=last]", last)
    tab.press("Make the audit")
    tab.page.wait_for_selector("iframe.sheet", timeout=120_000)
    with tab.page.expect_download() as taken:
        tab.page.get_by_role("button", name="Every number (JSON)").click()
    told: dict[str, Any] = json.loads(Path(taken.value.path()).read_text(encoding="utf-8"))
    return told


def counted(numbers: dict[str, Any]) -> dict[tuple[str, str, str, str], tuple[Any, Any]]:
    return {
        (t["name"], t["unit"], r["group"], r["label"]): (r["x"], r["n"])
        for t in numbers["counts"].values()
        for r in t["rows"]
    }


def move(tab: Visitor, case: str, state: str, *, overridden: str = "", reason: str = "") -> None:
    """Take the next step; every gate but one overridden was opened by what was entered."""
    tab.go(case)
    if overridden:
        tab.page.check(f"[name=override][value='{overridden}']")
        tab.page.fill(f"#reason-{state}", reason)
    tab.press(f"Move to: {state}")
    assert tab.page.locator(".way .here").inner_text() == state, tab.page.inner_text("main")


def refer(tab: Visitor) -> str:
    tab.go("refer/")
    tab.fill({"date": ago(60), "urgency": "soon", "pain_now": "8"}, "referral-")
    lesion = {"site": "L3", "diagnosis": "metastasis", "nature": "lytic", "volume_ml": "9.5",
              "posterior_wall_defect": "no", "soft_tissue": "no"}  # fmt: skip
    tab.fill(lesion, "lesion-")
    tab.fill({"sex": "female", "age_years": "64", "primary": "breast"}, "patient-")
    tab.press("Refer")
    assert re.fullmatch(r"/case/[0-9a-f-]{36}/", tab.at())
    return tab.at()


def select(tab: Visitor, case: str) -> None:
    """The worksheet: scores as they are typed, then the meeting and its decision."""
    move(tab, case, "selection")
    tab.go(f"{case}meeting/")
    scores = tab.page.locator("#scores")
    assert "SINS has" not in scores.inner_text()
    tab.fill(BASELINE, "b-")
    tab.page.select_option("[name=b-sins_pain]", "mechanical")
    # L3 1, mechanical 3, lytic 2, aligned 0, under half of the body 1 or none, nothing behind 0.
    scores.get_by_text(re.compile(r"SINS has \d+ points")).wait_for()
    before = scores.inner_text()
    tab.page.fill("[name=b-sins_collapse_percent]", "60")
    tab.page.wait_for_function("s => document.querySelector('#scores').innerText !== s", arg=before)
    assert tab.page.locator("#votes").count() == 0  # nothing was kept by typing
    tab.page.fill("[name=b-sins_collapse_percent]", "10")
    tab.fill({"mdt_date": ago(52), "decided_on": ago(52)}, "b-")
    tab.fill({"date": ago(52), "decision": "cementoplasty", "reason": "Nothing else helped."}, "m-")
    tab.press("Keep the worksheet")


def sign(tab: Visitor, case: str) -> None:
    tab.go(f"{case}meeting/")
    tab.page.select_option("#vote", "for")
    tab.press("Sign my vote")
    assert "Your vote is signed." in tab.page.inner_text("main")


def consent(tab: Visitor, case: str) -> None:
    tab.go(f"{case}consent/")
    told = {"date": ago(48), "form_version": "3", "techniques": ["cement"], "capacity": "yes",
            "risks": ["cement leak", "infection", "death"]}  # fmt: skip
    tab.fill(told, "c-")
    tab.press("Keep the consent")
    assert tab.page.locator(".pill.ok", has_text="holds").count() == 1


def plan(tab: Visitor, case: str) -> None:
    tab.go(f"{case}plan/new/")
    told = {"techniques": ["cement"], "route": "transpedicular", "guidance": ["CT"],
            "needles": "1", "needle_gauge": "11", "cement": "high viscosity PMMA",
            "cement_ml": "4.5", "stop_ml": "6", "verdict": "ok", "why": "first"}  # fmt: skip
    tab.fill(told)
    tab.press("Keep as the next version")
    tab.press("Approve and sign")
    assert "Approved by radiologist" in tab.page.inner_text("main")


def procedure(tab: Visitor, case: str) -> None:
    """Two devices with lots, one mix of cement, a leak that halted the injection."""
    tab.go(f"{case}procedure/")
    told = {"date": ago(40), "techniques": ["cement"], "anaesthesia": "local",
            "guidance": ["CT", "fluoroscopy"], "needles": "1", "needle_gauge": "11",
            "cement_ml": "4.2", "injection_start_s": "240", "technical_success": "yes",
            "leak_watch": ["injecting", "leak detected", "waiting to harden", "resumed"],
            "leak_assessed": "CT", "leak_found": "yes", "mobilised_h": "4",
            "cement_instructions_followed": "yes"}  # fmt: skip
    tab.fill(told, "p-")
    tab.fill({"kind": "needle", "name": "Bone needle 11G", "lot": "N-7781"}, "devices-0-")
    tab.page.locator("section", has_text="Devices and lots").get_by_role(
        "button", name="One more line"
    ).first.click()
    tab.page.wait_for_selector("[name=devices-1-kind]")
    cement = {"kind": "cement", "name": "PMMA", "lot": "C-0412", "radiopacifier": "barium"}
    tab.fill(cement, "devices-1-")
    mix = {"cement": "PMMA", "lot": "C-0412", "room_c": "20.5", "start_s": "240", "end_s": "510",
           "volume_ml": "4.2"}  # fmt: skip
    tab.fill(mix, "injections-0-")
    leak = {"second": "330", "event": "leak detected", "compartment": "disc superior",
            "volume_ml": "2.1"}  # fmt: skip
    tab.fill(leak, "injection_events-0-")
    tab.press("Keep the procedure")
    assert re.fullmatch(rf"{case}procedure/[0-9a-f-]{{36}}/", tab.at()), tab.page.inner_text("main")
    assert tab.page.input_value("[name=devices-1-lot]") == "C-0412"


def call(tab: Visitor, day: int, pain: str, dose: str) -> None:
    """One follow-up with the keyboard alone, from the case page to the answer."""
    keys = tab.page.keyboard
    tab.tab_to("a[href$='/visit/']")
    with tab.page.expect_navigation():
        keys.press("Enter")
    tab.tab_to("[name=date]")
    keys.press("Control+a")
    keys.type(ago(40 - day))
    tab.tab_to("[name=pain]")
    keys.type(pain)
    tab.tab_to("[name=recall]")
    keys.type("worst")
    tab.tab_to("[name=instrument]")
    keys.type("NRS")
    tab.tab_to("[name=o-0-drug]")
    keys.type("morph")
    tab.tab_to("[name=o-0-route]")
    keys.type("oral")
    tab.tab_to("[name=o-0-dose]")
    keys.type(dose)
    tab.tab_to("[name=o-0-unit]")
    keys.type("mg/d")
    tab.tab_to("[name=v-walking]")
    keys.type("3")
    tab.tab_to("[name=v-mobility]")
    keys.type("impr")
    # What was typed is reckoned beside it before it is kept.
    tab.page.locator("#reckoned", has_text=f"{dose} mg").wait_for()
    assert f"day {day}" in tab.page.inner_text("#reckoned")
    with tab.page.expect_navigation():
        keys.press("Enter")
    assert "The visit was kept." in tab.page.inner_text("main")
    tab.tab_to(".head-line a")
    with tab.page.expect_navigation():
        keys.press("Enter")


def harm(tab: Visitor, case: str) -> None:
    tab.go(f"{case}complication/")
    told = {"day": "2", "event": "fever", "cirse": "2", "sir": "2", "ctcae": "1",
            "relation": "cement", "device_related": "no", "sequelae": "no",
            "temperature_c": "38.4"}  # fmt: skip
    tab.fill(told, "h-")
    tab.press("Keep the complication")
    assert "day 2: fever" in tab.page.inner_text("main")


def test_one_lesion_from_referral_to_audit(radiologist: Visitor, chromium: Any, site: str) -> None:
    tab = radiologist
    before = audited(tab)
    case = refer(tab)
    select(tab, case)
    sign(tab, case)
    surgeon = visitor(chromium, site)
    surgeon.log_in("surgeon")
    sign(surgeon, case)
    votes = surgeon.page.locator("#votes tbody tr")
    assert sorted(votes.locator("th").all_inner_texts()) == ["radiologist", "surgeon"]
    assert surgeon.page.locator("#votes .pill.caution").count() == 0  # all are signed
    surgeon.page.context.close()
    move(tab, case, "meeting")
    move(tab, case, "consent")
    consent(tab, case)
    move(tab, case, "planning")
    plan(tab, case)
    move(tab, case, "ready")
    procedure(tab, case)
    # Its approval is of today, the procedure of forty days ago: that needs a reason.
    move(tab, case, "treated", overridden="plan", reason="entered from paper afterwards")
    tab.go(case)
    for day, pain, dose in ((3, "6", "40"), (7, "4", "30"), (28, "2-3", "20")):
        call(tab, day, pain, dose)
    line = tab.page.inner_text("ol.line")
    for said in ("day 3", "day 7", "day 28", "2-3 NRS", "morphine 20 mg/day", "leak detected"):
        assert said in line, said
    harm(tab, case)
    move(tab, case, "follow-up")
    after = audited(tab)
    was, now = counted(before), counted(after)
    assert now["sizes", "patients and lesions", "lesions", "treated"] == (12, 12)
    assert now["sizes", "patients and lesions", "patients", "treated"] == (11, 11)
    grown = {k: (now[k][0] - was[k][0], now[k][1] - was[k][1]) for k in was if k in now}
    # One lesion more, in every row at most once; nothing else moved.
    assert set(grown.values()) <= {(0, 0), (0, 1), (1, 1)}
    raised = {k for k, (x, _) in grown.items() if x} | {k for k in now if k not in was}
    assert ("characteristics", "patients and lesions", "region", "lumbar") in raised
    assert ("characteristics", "patients and lesions", "site", "L3") in raised
    assert any(label == "fever" for _, _, _, label in raised)
    assert not any(label in ("pelvis", "scapula", "thoracic") for _, _, _, label in raised)
    # Without the lesion, every count is what it was.
    without = counted(audited(tab, last="2012-12-31"))
    of_choice = {k for k in was if k[0] == "exclusions"}  # a choice of dates leaves them out
    assert {k: without.get(k) for k in was if k not in of_choice} == {
        k: v for k, v in was.items() if k not in of_choice
    }
    assert set(tab.complaints) == set()


# --- Every main page, in both languages ---------------------------------------------------------

# Every piece of text as a page shows it; what the log names is written as the database has it.
_PIECES = """() => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    if (!walker.currentNode.parentElement.closest('code, script, textarea'))
      found.push(walker.currentNode.data.trim());
  }
  return found;
}"""
_SHOWN = {
    "radiologist": (
        "work/", "refer/", "{case}", "{case}meeting/", "{case}consent/", "{case}plan/",
        "{case}plan/new/", "{case}procedure/", "{case}visit/", "{case}complication/",
        "{case}removed/", "{case}add/images/", "{case}add/leaks/", "audit/", "{audit}", "tokens/",
        "about/", "accounts/password/", "accounts/2fa/",
    ),
    "chief": ("", "people/", "log/", "import/"),
    "lead": ("shared/", "export/"),
    "referrer": ("", "refer/"),
    "": ("accounts/login/",),
}  # fmt: skip
LONG = 12  # shorter texts are words that a unit's own data may hold


@cache
def translated() -> dict[str, str]:
    """English texts of the catalogue that read otherwise in Chinese, without places for values."""
    pofile = pytest.importorskip("babel.messages.pofile", reason="babel is not installed")
    where = Path(__file__).resolve().parents[2] / "src/trocar/web/locale/zh_Hant/LC_MESSAGES"
    with (where / "django.po").open("rb") as stream:
        held = pofile.read_po(stream, locale="zh_Hant")
    plain = {e.id: e.string for e in held if isinstance(e.id, str) and len(e.id) > LONG}
    return {t: z for t, z in plain.items() if t != z and not re.search(r"[{%]", t)}


def paths(tab: Visitor, who: str) -> Iterator[str]:
    """The pages of one account, with a lesion and a study of the register."""
    case = audit = ""
    if who == "radiologist":
        tab.go("work/")
        tab.page.select_option("[name=state]", index=1)  # all of them: the series is closed
        with tab.page.expect_navigation():
            tab.page.evaluate("document.querySelector('#filters').submit()")
        links = "main tbody th a[href^='/case/']"
        case = str(tab.page.locator(links).first.get_attribute("href"))
        tab.go("audit/")
        audit = str(tab.page.locator("main tbody a").first.get_attribute("href"))
    for path in _SHOWN[who]:
        yield path.format(case=case, audit=audit)


@pytest.fixture(params=["en", "zh-hant"])
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("who", list(_SHOWN))
def test_pages_are_accessible_within_their_width_and_quiet(
    who: str, language: str, chromium: Any, site: str
) -> None:
    driven = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    )
    axe, tab = driven.Axe(), visitor(chromium, site)
    if who:
        tab.log_in(who)
    tab.speak(language) if who else None
    faults, english = [], []
    for path in paths(tab, who):
        answer = tab.go(path)
        assert answer.status == 200, path
        for size in (WIDE, TABLET):
            tab.page.set_viewport_size(size)
            faults += [(path, size["width"], o) for o in tab.page.evaluate(_OUTSIDE)]
        for v in axe.run(tab.page).response["violations"]:
            if v["impact"] in ("serious", "critical"):
                faults.append((path, v["id"], v["nodes"][0]["html"]))
        if language != "en" and who:
            shown = {piece.casefold() for piece in tab.page.evaluate(_PIECES)}
            english += [(path, text) for text in translated() if text.casefold() in shown]
        assert "Research use only" in tab.page.inner_text(".foot") or language != "en"
    assert faults == []
    assert english == [], sorted({t for _, t in english})
    assert tab.complaints == []  # neither errors nor what the policy of the page refused
    tab.page.context.close()


def test_the_policy_is_there_to_be_broken(radiologist: Visitor) -> None:
    """What is not of the site's own files does not run, and the browser says so."""
    tab = radiologist
    tab.go("about/")
    seen = len(tab.complaints)
    tab.page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<p id=probe style=\"color:red\">x</p>')"
    )
    tab.page.wait_for_timeout(200)
    assert any("Content Security Policy" in c for c in tab.complaints[seen:])
    del tab.complaints[seen:]


def test_the_main_forms_work_without_javascript(chromium: Any, site: str) -> None:
    tab = visitor(chromium, site, java_script_enabled=False)
    tab.log_in("coordinator")
    case = refer(tab)
    tab.go(f"{case}procedure/")
    tab.fill({"date": ago(9), "techniques": ["cement"]}, "p-")
    # A further line is had from the server, and what was typed comes back with it.
    tab.page.locator("button[name=add][value=devices]").click()
    assert tab.page.input_value("[name=p-date]") == ago(9)
    tab.fill({"kind": "needle", "name": "Bone needle", "lot": "N-1"}, "devices-1-")
    tab.press("Keep the procedure")
    tab.go(f"{case}visit/")
    tab.fill({"date": ago(2), "pain": "4"})
    tab.fill({"walking": "2"}, "v-")
    tab.press("Keep the visit")
    assert "The visit was kept." in tab.page.inner_text("main")
    tab.go(case)
    assert "day 7" in tab.page.inner_text("ol.line")
    tab.page.context.close()


def test_somebody_who_is_too_late_loses_nothing(chromium: Any, site: str) -> None:
    """Two tabs change one row; the second is told, sees both, and its words are still there."""
    first, second = visitor(chromium, site), visitor(chromium, site)
    first.log_in("radiologist")
    second.log_in("coordinator")
    case = refer(first)
    first.go(case)
    row = str(first.page.locator("a[href^='/row/referrals/']").first.get_attribute("href"))
    for tab in (first, second):
        tab.go(row)
    first.fill({"urgency": "urgent", "why": "worse today"})
    first.press("Save")
    second.fill({"note": "Prefers mornings.", "why": "telephoned"})
    second.press("Save")
    told = second.page.locator("[role=alert]").inner_text()
    assert "radiologist" in told
    assert "urgent" in told
    assert second.page.input_value("[name=note]") == "Prefers mornings."
    second.press("Save")
    assert "Prefers mornings." in second.page.inner_text("ol.line")
    for tab in (first, second):
        tab.page.context.close()
