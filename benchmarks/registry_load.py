"""`registry-load`: a registry of 50 000 lesions, thirty people at once, on this machine alone.

A synthetic cohort goes in through the registry's own import; the real server is started; thirty
clients, each logged in, open worklist pages and cases and save visits, thinking for three seconds
on average between two clicks. Told are the 50th and 95th percentile of each kind of answer, and how
long the audit of the whole registry takes. Bars: 95th percentiles under 300 ms, the audit under
60 s.

    python benchmarks/registry_load.py                    # 50 000 lesions, some minutes to fill
    python benchmarks/registry_load.py --lesions 2000 --seconds 20
    TROCAR_DATABASE=postgresql://... python benchmarks/registry_load.py
"""

from __future__ import annotations

import argparse
import gc
import http.cookiejar
import json
import os
import platform
import random
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

BAR_MS, BAR_AUDIT_S = 300.0, 60.0
PASSWORD = "a long bench password 42"
SITES = ("L1", "L2", "L3", "L4", "L5", "T10", "T11", "T12", "sacrum", "ilium", "acetabulum")


def cohort(lesions: int, seed: int = 0) -> Any:
    """As many lesions, each with a procedure, seven pain scores, three visits, some leaks."""
    from trocar.model.course import Leak, PainScore, Procedure, Visit
    from trocar.model.patient import Baseline, PainfulLesion, Patient
    from trocar.model.study import Study, StudyInfo

    rng = np.random.default_rng(seed)
    held: dict[str, list[Any]] = defaultdict(list)
    for i in range(lesions):
        name, patient = f"L{i:06d}", f"P{i // 1.25:06.0f}"
        if not held["patients"] or held["patients"][-1].patient_id != patient:
            sex = ("female", "male")[int(rng.integers(2))]
            age = float(rng.integers(35, 90))
            held["patients"].append(
                Patient(patient_id=patient, sex=sex, age_years=age, primary="lung")
            )
        held["lesions"].append(
            PainfulLesion(
                lesion_id=name, patient_id=patient, site=SITES[int(rng.integers(len(SITES)))],
                diagnosis="metastasis", nature="lytic",
            )
        )  # fmt: skip
        held["selection"].append(
            Baseline(lesion_id=name, pain_present=True, failed_treatments=("radiotherapy",))
        )
        day = np.datetime64("2020-01-01") + int(rng.integers(0, 2500))
        held["procedures"].append(
            Procedure(
                procedure_id=f"R{i:06d}", lesion_id=name, date=str(day), techniques=("cement",),
                operator_id=f"op{int(rng.integers(8))}", leak_assessed="CT",
                leak_found=bool(rng.random() < 0.2), cement_ml=float(np.round(rng.gamma(4, 1), 1)),
            )
        )  # fmt: skip
        if held["procedures"][-1].leak_found:
            held["leaks"].append(Leak(lesion_id=name, compartment="disc superior"))
        pain = int(rng.integers(5, 11))
        for at in (0, 1, 3, 7, 30, 60, 90):
            score = float(np.clip(pain - (at > 0) * rng.integers(0, 7), 0, 10))
            held["pain"].append(PainScore(lesion_id=name, day=at, low=score, instrument="VAS"))
        for at in (7, 30, 90):
            held["visits"].append(Visit(lesion_id=name, day=at, walking=int(rng.integers(0, 5))))
    info = StudyInfo(study_id="bench", title="Synthetic cohort")
    return Study(info=info, sha256="0" * 64, **{t: tuple(rows) for t, rows in held.items()})


def fill(lesions: int) -> dict[str, float]:
    """Make the database and enter the cohort; the seconds of each part."""
    import django

    django.setup()
    from django.contrib.auth import get_user_model

    from trocar.registry import store
    from trocar.registry.models import Person, Study
    from trocar.web import cases
    from trocar.web.serve import prepare

    prepare()
    took = {}
    start = time.perf_counter()
    study = cohort(lesions)
    store.take_in(study, who="trocar", why="benchmark")
    took["import"] = time.perf_counter() - start
    start = time.perf_counter()
    store.recount_all(Study.objects.get(study_id="bench"), cases.standing)
    took["worklist lines"] = time.perf_counter() - start
    for k in range(30):
        user = get_user_model().objects.create_user(f"person{k}", password=PASSWORD)
        Person.objects.create(user=user, role="radiologist")
    return took


class Client:
    """One person with a browser's cookies."""

    def __init__(self, base: str, name: str) -> None:
        self.base, self.name = base, name
        self.jar = http.cookiejar.CookieJar()
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.jar))

    def get(self, path: str) -> str:
        with self.opener.open(self.base + path, timeout=60) as answer:
            return str(answer.read().decode())

    def post(self, path: str, **values: str) -> str:
        token = next((c.value for c in self.jar if c.name.startswith("csrftoken")), "") or ""
        data = urllib.parse.urlencode({"csrfmiddlewaretoken": token, **values}).encode()
        request = urllib.request.Request(self.base + path, data, {"Referer": self.base + path})
        with self.opener.open(request, timeout=60) as answer:
            return str(answer.read().decode())

    def log_in(self) -> None:
        self.get("/accounts/login/")
        page = self.post("/accounts/login/", login=self.name, password=PASSWORD)
        assert "csrfmiddlewaretoken" in page


def work(client: Client, until: float, think_s: float, told: dict[str, list[float]],
         lock: threading.Lock, wrong: list[str], seed: int) -> None:  # fmt: skip
    """Worklist, case, now and then a visit saved, until the time is over."""
    rng = random.Random(time.time_ns() + seed)  # a folder tried again sees other days
    time.sleep(rng.expovariate(1 / think_s))  # thirty people do not click at one moment
    while time.monotonic() < until:
        steps: list[tuple[str, float]] = []
        try:
            start = time.perf_counter()
            page = client.get(f"/work/?page={rng.randint(1, 20)}")
            steps.append(("worklist", time.perf_counter() - start))
            time.sleep(rng.expovariate(1 / think_s))
            uids = re.findall(r"/case/([0-9a-f-]{36})/", page)
            uid = rng.choice(uids)
            start = time.perf_counter()
            client.get(f"/case/{uid}/")
            steps.append(("case page", time.perf_counter() - start))
            time.sleep(rng.expovariate(1 / think_s))
            form = client.get(f"/case/{uid}/visit/")
            # Before the procedure, so that no day lies ahead; hardly ever the same twice.
            values = hidden(form) | {"day": f"{-rng.uniform(1, 364):.4f}"}
            values |= {"pain": str(rng.randint(0, 10)), "walking": str(rng.randint(0, 4))}
            start = time.perf_counter()
            client.post(f"/case/{uid}/visit/", **values)
            steps.append(("saving a visit", time.perf_counter() - start))
            time.sleep(rng.expovariate(1 / think_s))
        except Exception as error:
            with lock:
                wrong.append(f"{type(error).__name__}: {error}")
        with lock:
            for name, seconds in steps:
                told[name].append(seconds)


def hidden(page: str) -> dict[str, str]:
    """The hidden values of a form."""
    found = {}
    for tag in re.findall(r"<input[^>]*type=\"hidden\"[^>]*>", page):
        name = re.search(r'name="([^"]+)"', tag)
        value = re.search(r'value="([^"]*)"', tag)
        if name and name[1] != "csrfmiddlewaretoken":
            found[name[1]] = value[1] if value else ""
    return found


def audit_seconds() -> float:
    """The audit of all of it, as the job runs it."""
    import django

    django.setup()
    gc.disable()  # as in the job's own process
    from trocar.audit.summary import audit_study
    from trocar.registry import store
    from trocar.registry.models import Study

    start = time.perf_counter()
    audit_study(store.read_study(Study.objects.get(study_id="bench")))
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lesions", type=int, default=50_000)
    parser.add_argument("--people", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--think", type=float, default=3.0, help="mean pause between clicks, s")
    parser.add_argument("--home", type=Path, help="a folder filled before, to try again")
    options = parser.parse_args()
    home = options.home or Path(tempfile.mkdtemp())
    os.environ["TROCAR_HOME"] = str(home)
    os.environ["DJANGO_SETTINGS_MODULE"] = "trocar.web.settings"
    took = {} if options.home else fill(options.lesions)
    server = "PostgreSQL" if os.environ.get("TROCAR_DATABASE") else "SQLite"
    machine = f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    when = time.strftime("%Y-%m-%dT%H:%M:%S")
    print(f"# {when} | {machine} | {server} | {options.lesions} lesions", flush=True)
    print(f"filled {home}: " + ", ".join(f"{k} {v:.0f} s" for k, v in took.items()), flush=True)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = [sys.executable, "-m", "trocar.cli", "serve", "--port", str(port), "--yes"]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    base = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(base + "/health/", timeout=2)
                break
            except OSError:
                time.sleep(0.2)
        clients = [Client(base, f"person{k}") for k in range(options.people)]
        for client in clients:
            client.log_in()
        told: dict[str, list[float]] = defaultdict(list)
        wrong: list[str] = []
        lock, until = threading.Lock(), time.monotonic() + options.seconds
        threads = [
            threading.Thread(
                target=work, args=(c, until, options.think, told, lock, wrong, i), daemon=True
            )
            for i, c in enumerate(clients)
        ]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    finally:
        running.terminate()
        running.wait(20)
    met = not wrong
    for name, seconds in told.items():
        p50, p95 = np.percentile(np.array(seconds) * 1e3, [50, 95])
        met &= bool(p95 <= BAR_MS)
        shown = f"50 % within {p50:.0f} ms, 95 % within {p95:.0f} ms"
        bar = f"target {BAR_MS:.0f} ms {'met' if p95 <= BAR_MS else 'MISSED'}"
        print(f"{name:<16} {len(seconds):6d} answers, {shown} | {bar}")
    rate = sum(map(len, told.values())) / options.seconds
    print(f"{rate:.0f} answers a second, {len(wrong)} failed {wrong[:2] or ''}")
    seconds = audit_seconds()
    met &= seconds <= BAR_AUDIT_S
    bar = f"target {BAR_AUDIT_S:.0f} s {'met' if seconds <= BAR_AUDIT_S else 'MISSED'}"
    print(f"audit of all     {seconds:.1f} s | {bar}")
    print(json.dumps({"met": bool(met)}), flush=True)
    from trocar.registry import chain

    gc.enable()
    start = time.perf_counter()
    report = chain.verify()
    told = f"{report.links} links, {report.rows} rows"
    print(f"verifying        {time.perf_counter() - start:.0f} s for {told}, sound: {report.sound}")


if __name__ == "__main__":
    main()
