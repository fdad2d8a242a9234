"""Routes as values: which there are, which way they point, what they guard."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trocar.errors import InputError
from trocar.facts import limits
from trocar.model.case import LEVELS, Site
from trocar.model.result import Axes
from trocar.planning.routes import Route, guard, guards_of, routes_for

AXES = Axes(
    origin_mm=np.zeros(3),
    left=np.array([1.0, 0, 0]),
    posterior=np.array([0, 1.0, 0]),
    superior=np.array([0, 0, 1.0]),
)


def names(site: str) -> set[str]:
    return {
        r.name.removesuffix(" left").removesuffix(" right") for r in routes_for(Site.parse(site))
    }


@pytest.mark.parametrize(
    ("site", "expected"),
    [
        ("L1", {"transpedicular", "bipedicular", "posterolateral"}),
        ("T12", {"transpedicular", "bipedicular", "parapedicular", "transcostovertebral"}),
        ("T3", {"transpedicular", "bipedicular", "parapedicular", "transcostovertebral"}),
        ("C5", {"anterolateral"}),
        ("C1", set()),
        ("sacrum", {"sacral short axis", "sacral long axis", "transiliac"}),
        ("ischium left", {"posterior column", "ischial"}),
        ("pubis right", {"pubic ramus medial", "pubic ramus lateral"}),
        ("femur left", {"along femoral neck", "femur lateral"}),
        ("humerus right", {"humerus lateral"}),
    ],
)
def test_each_site_has_the_routes_of_the_reference(site: str, expected: set[str]) -> None:
    assert names(site) == expected


def test_every_vertebra_from_c3_down_has_a_route_on_each_side() -> None:
    for level in LEVELS[2:]:
        sides = {r.side for r in routes_for(Site.parse(level))}
        assert sides == {"left", "right"}


def test_left_and_right_mirror_each_other_and_needles_come_from_their_own_side() -> None:
    for left, right in zip(*[iter(routes_for(Site.parse("L1")))] * 2, strict=True):
        assert left.direction(AXES) == pytest.approx(right.direction(AXES) * [-1, 1, 1])
        assert left.direction(AXES)[0] > 0
        assert left.direction(AXES)[1] > 0.5  # from behind: the patient lies prone


def test_the_bone_is_followed_when_it_is_turned() -> None:
    turned = Axes(
        origin_mm=np.zeros(3),
        left=np.array([0, 1.0, 0]),
        posterior=np.array([-1.0, 0, 0]),
        superior=np.array([0, 0, 1.0]),
    )
    route = routes_for(Site.parse("L1"))[0]
    a, b = route.direction(AXES), route.direction(turned)
    assert b == pytest.approx([-a[1], a[0], a[2]])


def test_everything_named_is_of_a_known_kind() -> None:
    for site in ("L1", "T3", "C5", "sacrum", "acetabulum left", "ilium left", "femur left"):
        for route in routes_for(Site.parse(site)):
            for name in (*route.avoid, *route.crosses):
                if name not in ("spermatic_cord",):
                    assert limits.kind(name) != "unknown", name


def test_a_structure_that_is_crossed_on_purpose_is_not_guarded(toy_vertebra: Any) -> None:
    _, anatomy, _ = toy_vertebra()
    route = Route(
        name="mine", toward=(0, 1, 0), cone_deg=20, position="prone", crosses=("foramen",)
    )
    kept = {g.structure for g in guards_of(route, anatomy)}
    assert kept == {"spinal_canal", "aorta", "inferior_vena_cava"}


def test_a_guard_asks_for_caution_below_twice_its_limit() -> None:
    assert (guard("spinal_canal").margin_mm, guard("spinal_canal").caution_mm) == (2.0, 4.0)
    assert guard("sacral_foramina_left").margin_mm == 3.0  # a nerve's
    assert guard("metal").margin_mm > 0


@pytest.mark.parametrize(
    "wrong", [{"toward": (0.0, 0.0, 0.0)}, {"cone_deg": 0.0}, {"cone_deg": 181.0}]
)
def test_a_route_without_direction_is_refused(wrong: dict[str, Any]) -> None:
    good: dict[str, Any] = {
        "name": "mine",
        "toward": (0.0, 1.0, 0.0),
        "cone_deg": 20.0,
        "position": "prone",
    }
    with pytest.raises(InputError, match="'mine'"):
        Route(**{**good, **wrong})
