"""The build hook: the viewer is pinned, and its absence never breaks an installation."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytest.importorskip("hatchling", reason="hatchling is only needed to build")
if not (ROOT / "hatch_build.py").is_file():
    pytest.skip("not in a checkout", allow_module_level=True)


class App:
    """Stands for hatchling's application: keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def display_warning(self, text: str) -> None:
        self.told.append(text)


@pytest.fixture
def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("package.json", "package-lock.json"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def _made(hook: ModuleType, root: Path):
    app = App()
    return hook.ViewerHook(str(root), {}, None, None, str(root), "wheel", app), app


def test_every_package_is_pinned_by_hash_and_no_host_is_named() -> None:
    text = (ROOT / "package-lock.json").read_text(encoding="utf-8")
    assert not re.search(r"https?:|resolved", text)
    packages = {k: v for k, v in json.loads(text)["packages"].items() if k}
    assert len(packages) > 5
    assert all(v["integrity"].startswith("sha512-") for v in packages.values())


@pytest.mark.parametrize("fault", [RuntimeError("no npm"), OSError("disk\nfull"), KeyError("x")])
def test_whatever_fails_the_build_goes_on_with_one_line(
    hook: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def fail(root: Path) -> None:
        raise fault

    monkeypatch.setattr(hook, "fetch", fail)
    made, app = _made(hook, checkout)
    made.initialize("standard", {})
    (line,) = app.told
    assert line.startswith("trocar is built without the interactive viewer:")
    assert "\n" not in line


def test_nothing_is_fetched_twice_or_against_the_users_wish(
    hook: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Path] = []
    monkeypatch.setattr(hook, "fetch", calls.append)
    made, _ = _made(hook, checkout)
    monkeypatch.setenv("TROCAR_VIEWER", "0")
    made.initialize("standard", {})
    assert calls == []
    assert made.dependencies() == []
    monkeypatch.delenv("TROCAR_VIEWER")
    assets = checkout / "src" / "trocar" / "report" / "assets"
    assets.mkdir(parents=True)
    (assets / "niivue.umd.js").write_text("//")
    (assets / "version.txt").write_text(hook._pinned(checkout))
    made.initialize("standard", {})
    assert calls == []
    (assets / "version.txt").write_text("another version")
    made.initialize("standard", {})
    assert calls == [checkout]


def test_an_npm_is_asked_for_only_where_there_is_none(
    hook: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = _made(hook, checkout)
    monkeypatch.setattr(hook.shutil, "which", lambda name: "/somewhere/npm")
    assert made.dependencies() == []
    monkeypatch.setattr(hook.shutil, "which", lambda name: None)
    monkeypatch.setattr(hook.sys, "platform", "darwin")
    monkeypatch.setattr(hook.platform, "machine", lambda: "arm64")
    assert made.dependencies() == [hook.NODE_WHEEL]
    monkeypatch.setattr(hook.platform, "machine", lambda: "riscv64")
    assert made.dependencies() == []
