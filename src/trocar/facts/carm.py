"""A C-arm's distances, for simulated fluoroscopy."""

from __future__ import annotations

from trocar.facts.source import Value, load


def value(name: str) -> Value:
    """One C-arm fact by its name in ``carm.toml``, such as ``source_detector``.

    >>> value("source_detector").mean
    1100.0
    """
    return load("carm")[name]
