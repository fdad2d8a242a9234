"""A kind of farmed work for tests, and a site that knows it: ``python farm_kinds.py serve``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

KINDS = {"made up": "farm_kinds:MADE_UP"}


def _gather(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return dict(parameters)


def _keep(parameters: Mapping[str, Any], who: str, outcome: Any) -> str:
    """A row of a name that cannot be there twice."""
    from trocar.registry.models import SiteKey

    SiteKey.objects.create(name=f"kept {parameters['n']}", key=who)
    return str(outcome)


def __getattr__(name: str) -> Any:
    """Django is set up when this is asked for, and not before."""
    if name != "MADE_UP":
        raise AttributeError(name)
    from farm_work import work

    from trocar.web.jobs import Farmed

    return Farmed(gather=_gather, compute=work, keep=_keep)


if __name__ == "__main__":
    from trocar.web.serve import prepare, run

    prepare()
    from trocar.registry.models import Job
    from trocar.web import jobs

    jobs.KINDS |= KINDS
    for n in range(int(sys.argv[1])):
        asked = {"do": "steps", "n": n, "seconds": 2.0}
        Job.objects.create(kind="made up", asked_by="ann", asked_at=f"{n}", parameters=asked)
    run("127.0.0.1", 0, 2)
