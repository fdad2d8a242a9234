"""What the package promises to the outside."""

from __future__ import annotations

import subprocess
import sys

import trocar


def test_every_public_name_can_be_had_and_says_what_it_is_for() -> None:
    for name in trocar.__all__:
        thing = getattr(trocar, name)
        assert thing is not None
        if callable(thing):
            assert thing.__doc__, name


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    heavy = ["numpy", "scipy", "numba", "matplotlib", "SimpleITK", "pydicom", "highdicom"]
    code = f"import sys, trocar.cli; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
