"""The scripts that write the pages of validation/ and time the kernels still find what they name.

They take too long to be run with the tests; a name that moved in the package is found here.
"""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OTHER_PYTHON = "fe_dolfinx.py"  # run by the machine's own Python, which has DOLFINx
PEERS = {
    "itk",
    "jax",
    "psutil",
    "pyamg",
    "skfem",
    "trimesh",
}  # of the extra `bench`, and scikit-fem
SCRIPTS = sorted(
    p for room in ("validation", "benchmarks") for p in (ROOT / room).glob("*.py")
    if p.name != OTHER_PYTHON
)  # fmt: skip


def test_there_are_scripts() -> None:
    assert {"validation", "benchmarks"} == {p.parent.name for p in SCRIPTS}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_what_a_script_names_is_there(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(script.parent))
    try:
        runpy.run_path(str(script), run_name="looked at")
    except ModuleNotFoundError as absent:
        peer = str(absent.name).partition(".")[0]
        if peer not in PEERS:
            raise
        pytest.skip(f"{peer}, a peer, is not installed")
