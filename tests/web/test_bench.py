"""The workbench's server: what is shown is the case, what is edited is a version, none is lost."""

from __future__ import annotations

import gzip
import io
import json
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from trocar import phantom
from trocar.errors import InputError
from trocar.io.formats import read_volume, write_labels, write_volume
from trocar.model.care import Assessment, Imaging, SimulationRun
from trocar.model.case import WallDefect
from trocar.model.plan import Trajectory
from trocar.model.result import Scan
from trocar.model.space import Float, Grid, Labels, Mask, Volume
from trocar.pathway import Planned, edits
from trocar.phantom.files import as_scan
from trocar.planning.routes import routes_for
from trocar.planning.trajectory import score_path
from trocar.registry.models import MODELS, ChainEvent
from trocar.report import sheet
from trocar.report.page import Speaker
from trocar.report.viewer import needle_stl
from trocar.web import bench, cases, jobs, kept, picture, strokes

COARSE_MM = (2.0, 1.6, 1.6)


@cache
def patient() -> phantom.Phantom:
    return phantom.make("vertebra_l3", spacing_mm=COARSE_MM)


@cache
def planned() -> Planned:
    """A synthetic patient's lesion with two needles by hand."""
    made = patient()
    case = edits.outlined(
        as_scan(made), made.site, labels=made.labels, lesion_mask=made.lesion, case_id="one"
    )
    maps = edits.Live(case)
    for aside in (45.0, -45.0):
        one = maps.measure(entry_mm=entry_of(case, aside), target_mm=case.lesion.centre_mm)
        case = edits.with_needle(case, one)
    return case


@cache
def live() -> edits.Live:
    return edits.Live(planned())


def entry_of(case: Planned, aside_mm: float) -> Float:
    axes = case.anatomy.axes
    return case.lesion.centre_mm + 75.0 * axes.posterior + aside_mm * axes.left


def keep_image(lesion: Any, scan: Scan, name: str, purpose: str) -> Any:
    image = Imaging(
        image_id=name, lesion_id=lesion.lesion_id, modality="CT", purpose=purpose,
        date="2026-11-20", sha256=bench.keep_image(scan),
    )  # fmt: skip
    return cases.save("images", image, who="radiologist", why="added", study=lesion.study)


@pytest.fixture
def files(settings: Any, tmp_path: Path) -> Path:
    settings.KEPT_FILES = tmp_path / "files"
    return tmp_path


@pytest.fixture
def imaged(files: Path, lesion: Any, people: Any) -> Any:
    """A lesion whose CT is kept, without a plan."""
    keep_image(lesion, planned().scan, "before", "planning")
    return lesion


@pytest.fixture
def on_bench(imaged: Any) -> Any:
    """A lesion with its CT and a computed plan, as version 1."""
    bench.keep_version(imaged, planned(), who="radiologist", why="drawn", parent=None)
    return imaged


@pytest.fixture
def radiologist(clients: dict[str, Any]) -> Any:
    return clients["radiologist"]


def scene(client: Any, lesion: Any, **given: Any) -> dict[str, Any]:
    page = client.get(reverse("bench-side", args=[lesion.uid]), given)
    assert page.status_code == 200
    text = page.content.decode()
    start = text.index(">", text.index('id="scene"')) + 1
    told: dict[str, Any] = json.loads(text[start : text.index("</script>", start)])
    return told


def post(client: Any, name: str, lesion: Any, *more: Any, **body: Any) -> Any:
    address = reverse(name, args=[lesion.uid, *more])
    return client.post(address, json.dumps(body), content_type="application/json")


def nifti(response: Any, folder: Path) -> Volume:
    assert response.status_code == 200
    place = folder / "came.nii.gz"
    place.write_bytes(response.content)
    return read_volume(place)[0]


# --- The page -------------------------------------------------------------------------------------


def test_without_a_ct_the_page_says_so(files: Path, lesion: Any, radiologist: Any) -> None:
    page = radiologist.get(reverse("bench", args=[lesion.uid]))
    assert page.status_code == 200
    assert "No CT of this lesion is kept yet" in page.content.decode()


def test_without_a_plan_one_clicks_the_lesion(imaged: Any, radiologist: Any) -> None:
    page = radiologist.get(reverse("bench", args=[imaged.uid])).content.decode()
    assert "There is no plan yet." in page
    told = scene(radiologist, imaged)
    assert (told["version"], told["needles"], told["layers"]) == (None, [], [])
    assert told["editable"]


@pytest.mark.parametrize("language", ["en", "zh-hant"])
def test_every_number_stands_on_the_page(on_bench: Any, radiologist: Any, language: str) -> None:
    """The words of the page are the plan sheet's, to the last digit."""
    radiologist.cookies["django_language"] = language
    page = radiologist.get(reverse("bench", args=[on_bench.uid])).content.decode()
    t, case = Speaker("en" if language == "en" else "zh-Hant"), planned()
    for option in case.plan.options:
        rows = sheet.needle_rows(option, case.anatomy, t) + sheet.room_rows(option, case.scan, t)
        for row in rows:
            assert row.value in page.replace("&#x27;", "'")
        for margin in option.margins:
            told = sheet.margin_row(margin, t)
            assert told.structure in page
            assert margin.distance_mm > 100 or told.distance in page
    for row in sheet.lesion_rows(case.lesion, t):
        assert row.value in page


def test_looking_is_logged_once_a_page(on_bench: Any, clients: dict[str, Any]) -> None:
    def views() -> int:
        return ChainEvent.objects.filter(kind="view", subject__startswith="images:").count()

    client = clients["specialist"]
    image = MODELS["images"].objects.get(image_id="before")
    part = reverse("bench-ct", args=[on_bench.uid, image.uid, "around"])
    assert client.get(part).status_code == 200  # past the page
    assert views() == 1
    client.get(reverse("bench", args=[on_bench.uid]))
    assert views() == 2
    for _ in range(3):
        client.get(part)
    assert views() == 2
    assert ChainEvent.objects.filter(kind="view").last().subject == f"images:{image.uid}"


def test_who_may_not_plan_looks(on_bench: Any, clients: dict[str, Any]) -> None:
    page = clients["specialist"].get(reverse("bench", args=[on_bench.uid])).content.decode()
    assert 'data-mode="look"' in page
    assert 'data-mode="needle"' not in page
    assert 'data-act="prefer"' not in page
    assert not scene(clients["specialist"], on_bench)["editable"]
    assert post(clients["specialist"], "bench-measure", on_bench).status_code == 403
    assert clients["referrer"].get(reverse("bench", args=[on_bench.uid])).status_code == 403


def test_an_older_version_is_looked_at_and_not_edited(on_bench: Any, radiologist: Any) -> None:
    two = edits.preferred(planned(), 1)
    bench.keep_version(on_bench, two, who="radiologist", why="other first", parent=1)
    assert scene(radiologist, on_bench)["version"] == 2
    told = scene(radiologist, on_bench, version=1)
    assert (told["version"], told["editable"], told["last"]) == (1, False, 2)
    response = post(
        radiologist, "bench-prefer", on_bench, version=1, parent=2, index=1, why="on an old one"
    )
    assert response.status_code == 422
    assert MODELS["plans"].objects.filter(lesion=on_bench).count() == 2


# --- Voxels and surfaces --------------------------------------------------------------------------


def test_the_ct_comes_voxel_by_voxel(on_bench: Any, radiologist: Any, files: Path) -> None:
    case = planned()
    told = scene(radiologist, on_bench)
    came = nifti(radiologist.get(told["ct"]["around"]), files)
    whole = case.scan.volume
    # Every voxel that came is the CT's at the same place, exactly.
    corner = np.rint(whole.grid.to_index(came.grid.to_world([0, 0, 0]))).astype(int)
    far = np.rint(whole.grid.to_index(came.grid.to_world(np.array(came.grid.shape) - 1))).astype(
        int
    )
    low, high = np.minimum(corner, far), np.maximum(corner, far) + 1
    box = whole.values[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    points = came.grid.to_world(np.argwhere(np.ones(came.grid.shape, bool))[::997])
    index = np.rint(whole.grid.to_index(points)).astype(int)
    np.testing.assert_allclose(whole.grid.to_world(index), points, atol=1e-3)
    assert np.array_equal(np.sort(came.values.ravel()), np.sort(np.rint(box).ravel()))
    np.testing.assert_allclose(came.sample(points), np.rint(whole.sample(points)), atol=1e-6)
    # Bone, lesion and every needle are in it, with the margin.
    for option in case.plan.options:
        assert came.grid.contains(np.stack([option.entry_mm, option.target_mm])).all()
    assert came.grid.contains(case.anatomy.bone.points_mm()).all()


def test_that_the_part_was_reduced_is_told(
    on_bench: Any, radiologist: Any, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values of joined voxels are not the CT's; the page asks for those then."""
    told = scene(radiologist, on_bench)
    voxels = nifti(radiologist.get(told["ct"]["around"]), files).values.size
    for most, is_reduced in ((voxels, False), (voxels - 1, True)):
        monkeypatch.setattr(picture, "MOST_VOXELS", most)
        assert scene(radiologist, on_bench)["reduced"] is is_reduced


def test_it_comes_again_only_when_it_changed(on_bench: Any, radiologist: Any) -> None:
    address = scene(radiologist, on_bench)["ct"]["around"]
    first = radiologist.get(address)
    assert first["Cache-Control"] == "private, no-cache"
    again = radiologist.get(address, HTTP_IF_NONE_MATCH=first["ETag"])
    assert (again.status_code, again.content) == (304, b"")
    whole = radiologist.get(scene(radiologist, on_bench)["ct"]["whole"])
    assert whole["ETag"] != first["ETag"]


def test_overlays_are_the_masks(on_bench: Any, radiologist: Any, files: Path) -> None:
    case = planned()
    layers = {layer["kind"]: layer for layer in scene(radiologist, on_bench)["layers"]}
    lesion = nifti(radiologist.get(layers["lesion"]["url"]), files)
    assert int((lesion.values > 0).sum()) == case.lesion.mask.voxels
    points = case.lesion.mask.points_mm()
    np.testing.assert_allclose(lesion.sample(points), 1, atol=1e-4)
    structures = nifti(radiologist.get(layers["structures"]["url"]), files)
    canal = next(r for r in layers["structures"]["regions"] if r["name"] == "spinal canal")
    mask = case.anatomy.structures["spinal_canal"]
    assert int((structures.values == canal["number"]).sum()) <= mask.voxels
    inside = structures.grid.to_world(np.argwhere(structures.values == canal["number"]))
    assert mask.holds(inside).all()
    assert len(inside) > 0.9 * mask.voxels  # what lies over it shows instead


def test_surfaces_enclose_the_mask_and_face_outward(on_bench: Any, radiologist: Any) -> None:
    case = planned()
    stl = radiologist.get(scene(radiologist, on_bench)["bone"]["address"]).content
    count = int(np.frombuffer(stl[80:84], np.uint32)[0])
    kind = [("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("none", "<u2")]
    corners = np.frombuffer(stl[84:], dtype=kind)["corners"].astype(float)
    assert len(corners) == count > 1000
    # Signed by how its triangles turn: positive when they are seen from outside.
    ml = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6000
    assert ml == pytest.approx(case.anatomy.bone.volume_ml, rel=0.1)
    middle = corners.reshape(-1, 3).mean(axis=0) * [-1, -1, 1]
    assert np.linalg.norm(middle - case.anatomy.bone.centroid_mm) < 8


def test_needles_are_those_of_the_plan(on_bench: Any, radiologist: Any) -> None:
    import base64

    told = scene(radiologist, on_bench)["needles"]
    for needle, option in zip(told, planned().plan.options, strict=True):
        np.testing.assert_allclose(needle["entry"], option.entry_mm)
        np.testing.assert_allclose(needle["target"], option.target_mm)
        assert needle["outer"] == option.needle.outer_mm
        assert base64.b64decode(needle["stl"]) == needle_stl(option)


def test_nothing_of_another_case_is_given(on_bench: Any, radiologist: Any, registry: Any) -> None:
    other = MODELS["lesions"].objects.exclude(pk=on_bench.pk).first()
    told = scene(radiologist, on_bench)
    for address in (
        told["ct"]["around"],
        told["layers"][0]["url"],
        told["bone"]["address"],
        told["picture"],
    ):
        assert radiologist.get(address).status_code in (200, 422)
        strange = address.replace(str(on_bench.uid), str(other.uid))
        assert radiologist.get(strange).status_code == 404
    wrong = told["layers"][0]["url"].replace("structures", "nothing")
    assert radiologist.get(wrong).status_code == 404
    assert radiologist.get(told["layers"][0]["url"].replace("plans", "people")).status_code == 404


# --- Which side is which --------------------------------------------------------------------------

MARK_MM = (38.0, -24.0, 30.0)  # to the patient's left, to the front, to the head


def marked() -> Volume:
    """Soft tissue with one bright ball off the middle in all three ways."""
    grid = Grid.from_spacing((60, 64, 64), (2.0, 2.0, 2.0), (-63.0, -63.0, -59.0))
    points = grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1))
    ball = np.linalg.norm(points - MARK_MM, axis=-1) < 9
    return Volume(grid=grid, values=np.where(ball, 1400, 30).astype(np.int16))


def bright(png: bytes) -> tuple[float, float]:
    """(across, down) shares of the picture where its whitest part is, without letters and bar."""
    from PIL import Image

    image = np.asarray(Image.open(io.BytesIO(png)).convert("L")).astype(float)
    image[: len(image) // 12] = image[-len(image) // 10 :] = 0
    image[:, : len(image) // 12] = image[:, -len(image) // 12 :] = 0
    rows, columns = np.nonzero(image > 200)
    return float(columns.mean() + 0.5) / len(image), float(rows.mean() + 0.5) / len(image)


@pytest.mark.parametrize(
    ("plane", "edges", "across", "down"),
    [
        ("axial", ("R", "A", "L", "P"), 0, 1),
        ("coronal", ("R", "H", "L", "F"), 0, -2),
        ("sagittal", ("A", "H", "P", "F"), 1, -2),
    ],
)
def test_the_pictures_left_is_the_patients_right(
    plane: str, edges: tuple[str, ...], across: int, down: int
) -> None:
    centre = np.zeros(3)
    normal = {"axial": 2, "coronal": 1, "sagittal": 0}[plane]
    centre[normal] = MARK_MM[normal]
    pane = picture.plane(plane, centre, 120.0)
    assert picture.edges(pane) == edges
    png = picture.png(marked(), pane, pixels=400, window=(400, 1800))
    u, v = bright(png)
    sign = -1 if down < 0 else 1
    assert (u - 0.5) * 120 == pytest.approx(MARK_MM[across], abs=1.0)
    assert (v - 0.5) * 120 == pytest.approx(sign * MARK_MM[abs(down)], abs=1.0)
    # And back: that pixel is the mark.
    pixel = [0, 400 * v - 0.5, 400 * u - 0.5]
    np.testing.assert_allclose(pane.grid(120 / 400).to_world(pixel), MARK_MM, atol=1.0)
    # The letters are drawn where they are told: a picture without them differs only there.
    from PIL import Image

    drawn = np.asarray(Image.open(io.BytesIO(png)).convert("L")).astype(int)
    grey = marked().on(pane.grid(120 / 400)).values[0]
    plain = np.rint(np.clip((grey + 500) / 1800, 0, 1) * 255)
    differs = np.abs(drawn - plain) > 3
    for rows, columns in (
        (slice(180, 220), slice(0, 40)), (slice(180, 220), slice(360, 400)),
        (slice(0, 40), slice(180, 220)), (slice(360, 400), slice(180, 220)),
    ):  # fmt: skip
        assert differs[rows, columns].sum() > 40


def test_a_still_picture_shows_the_layers_that_were_asked_for(
    on_bench: Any, radiologist: Any
) -> None:
    from PIL import Image

    told = scene(radiologist, on_bench)
    at = ",".join(str(v) for v in told["at"])
    given = {"centre": at, "right": "1,0,0", "down": "0,1,0", "side": "120", "px": "240",
             "window": "400,1800"}  # fmt: skip
    plain = radiologist.get(told["picture"], given)
    lesion = next(k for k in told["layers"] if k["kind"] == "lesion")
    over = radiologist.get(told["picture"], given | {"layers": f"{lesion['key']}:0.5"})
    a, b = (
        np.asarray(Image.open(io.BytesIO(r.content)).convert("RGB")).astype(int)
        for r in (plain, over)
    )
    differs = np.abs(a - b).sum(axis=-1) > 10
    pane = picture.plane("axial", np.array(told["at"]), 120.0)
    pixels = np.moveaxis(np.indices((1, 240, 240)), 0, -1)
    inside = planned().lesion.mask.holds(pane.grid(120 / 240).to_world(pixels).reshape(-1, 3))
    inside = inside.reshape(240, 240)
    assert np.array_equal(differs[30:210, 30:210], inside[30:210, 30:210])


@pytest.mark.parametrize(
    "given",
    [
        {"centre": "nan,0,0"}, {"right": "0,0,0"}, {"down": "1,0,0"}, {"side": "-3"},
        {"side": "1e9"}, {"px": "100000"}, {"window": "40,0"}, {"centre": "1,2"},
        {"side": "inf"}, {"right": "2,0,0"},
    ],
)  # fmt: skip
def test_what_is_no_cut_is_refused(on_bench: Any, radiologist: Any, given: Any) -> None:
    address = scene(radiologist, on_bench)["picture"]
    sound = {"centre": "0,0,0", "right": "1,0,0", "down": "0,1,0", "side": "100", "px": "64"}
    assert radiologist.get(address, sound).status_code == 200
    assert radiologist.get(address, sound | given).status_code == 422


# --- Needles --------------------------------------------------------------------------------------


def asked(case: Planned, aside: float = 30.0) -> dict[str, Any]:
    target = case.lesion.centre_mm + np.array([1.25, -0.5, 2.0])
    return {"entry": entry_of(case, aside).tolist(), "target": target.tolist()}


def test_what_is_measured_is_the_librarys_to_the_last_digit(
    on_bench: Any, radiologist: Any
) -> None:
    case, body = planned(), asked(planned())
    response = post(radiologist, "bench-measure", on_bench, version=1, parent=1, **body)
    assert response.status_code == 200
    told = response.json()
    needle = next(
        n for n in live().stock if n.gauge == told["gauge"] and n.length_mm == told["length"]
    )
    route = next(r for r in routes_for(case.plan.site) if r.name == told["route"])
    library = score_path(
        case.anatomy, case.lesion, entry_mm=np.array(body["entry"]),
        target_mm=np.array(body["target"]), needle=needle, route=route,
        seed=case.plan.run.seed if case.plan.run else 0,
    )  # fmt: skip
    t = Speaker("en")
    numbers = told["numbers"]
    printed = [
        *sheet.needle_rows(library, case.anatomy, t), *sheet.room_rows(library, case.scan, t)
    ]  # fmt: skip
    assert [(f["what"], f["value"], f["remark"]) for f in numbers["facts"]] == [
        (r.what, r.value, r.remark) for r in printed
    ]
    rows = {m.structure: sheet.margin_row(m, t) for m in library.margins}
    spoken = {t.name(k): r for k, r in rows.items()}
    for margin in numbers["margins"]:
        row = spoken[margin["structure"]]
        assert (margin["distance"], margin["required"], margin["verdict"]) == (
            row.distance, row.required, row.verdict
        )  # fmt: skip
        assert margin["distance"] in told["html"]
    order = [("stop", "unknown", "caution", "ok").index(m["verdict"]) for m in numbers["margins"]]
    assert order == sorted(order)
    assert told["verdict"] == ("ok" if library.verdict == "note" else library.verdict.value)


def test_a_needle_through_the_canal_is_a_stop_in_words_and_sign(
    on_bench: Any, radiologist: Any
) -> None:
    case = planned()
    canal = case.anatomy.structures["spinal_canal"].centroid_mm
    way = canal - case.lesion.centre_mm
    body = {"target": case.lesion.centre_mm.tolist(),
            "entry": (case.lesion.centre_mm + 4 * way).tolist()}  # fmt: skip
    told = post(radiologist, "bench-measure", on_bench, version=1, **body).json()
    assert told["verdict"] == "stop"
    first = told["numbers"]["margins"][0]
    assert (first["verdict"], first["sign"], first["word"]) == ("stop", "✕", "stop")


def test_a_needle_is_kept_as_it_was_measured(on_bench: Any, radiologist: Any) -> None:
    body = asked(planned())
    told = post(radiologist, "bench-measure", on_bench, version=1, **body).json()
    response = post(
        radiologist, "bench-needle", on_bench, version=1, parent=1, why="nearer the midline",
        replacing=1, **body,
    )  # fmt: skip
    assert response.json() == {"number": 2}
    row, case = bench.newest(on_bench) or (None, None)
    assert case is not None
    assert (row.number, row.made_by, row.why) == (2, "radiologist", "nearer the midline")
    kept_one = case.plan.options[1]
    assert len(case.plan.options) == 2
    np.testing.assert_allclose(kept_one.entry_mm, body["entry"])
    again = scene(radiologist, on_bench)["needles"][1]
    assert {k: again[k] for k in ("gauge", "length", "route", "verdict", "stl")} == {
        k: told[k] for k in ("gauge", "length", "route", "verdict", "stl")
    }


def test_take_this_one_and_take_it_out(on_bench: Any, radiologist: Any) -> None:
    second = planned().plan.options[1]
    given = {"why": "shorter", "index": 1}
    assert post(radiologist, "bench-prefer", on_bench, version=1, parent=1, **given).json() == {
        "number": 2
    }
    _, case = bench.newest(on_bench) or (None, None)
    assert case is not None
    np.testing.assert_allclose(case.plan.options[0].entry_mm, second.entry_mm)
    assert post(radiologist, "bench-remove", on_bench, version=2, parent=2, **given).json() == {
        "number": 3
    }
    _, case = bench.newest(on_bench) or (None, None)
    assert case is not None
    assert len(case.plan.options) == 1


def test_two_people_at_one_plan(on_bench: Any, radiologist: Any) -> None:
    """The second is told who made which version; what they sent can be kept on top of it."""
    body = asked(planned())
    bench.keep_version(on_bench, edits.preferred(planned(), 1), who="surgeon", why="mine", parent=1)
    late = post(radiologist, "bench-needle", on_bench, version=1, parent=1, why="drawn", **body)
    assert late.status_code == 409
    assert late.json()["conflict"] | {"error": ""} == {"by": "surgeon", "number": 2, "error": ""}
    assert MODELS["plans"].objects.filter(lesion=on_bench).count() == 2
    again = post(radiologist, "bench-needle", on_bench, version=2, parent=2, why="drawn", **body)
    assert again.json() == {"number": 3}
    _, case = bench.newest(on_bench) or (None, None)
    assert case is not None
    assert len(case.plan.options) == 3


def test_an_edit_revokes_an_approval(on_bench: Any, radiologist: Any) -> None:
    row = MODELS["plans"].objects.get(lesion=on_bench)
    cases.approve(row, who="radiologist", why="seen")
    page = radiologist.get(reverse("bench", args=[on_bench.uid])).content.decode()
    assert "An edit makes a new version and revokes the approval." in page
    post(radiologist, "bench-prefer", on_bench, version=1, parent=1, index=1, why="shorter")
    page = radiologist.get(reverse("bench-side", args=[on_bench.uid])).content.decode()
    assert "not approved" in page
    assert MODELS["plans"].objects.get(lesion=on_bench, number=1).revoked_at is not None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"why": " "}, "why"),
        ({"entry": [1, 2]}, "entry"),
        ({"entry": [1, 2, "x"]}, "entry"),
        ({"entry": [1, 2, None]}, "entry"),
        ({"entry": [1, 2, 10**400]}, "entry"),
        ({"entry": [1, 2, float("inf")]}, "entry"),
        ({"gauge": -(10**400)}, "gauge"),
        ({"target": "somewhere"}, "target"),
        ({"gauge": 3}, "gauge"),
        ({"route": "through the wall"}, "route"),
        ({"replacing": 7}, "needle"),
        ({"version": "latest"}, "version"),
    ],
)
def test_what_cannot_be_kept_is_told_in_a_sentence(
    on_bench: Any, radiologist: Any, change: Mapping[str, Any], told: str
) -> None:
    body = asked(planned()) | {"version": 1, "parent": 1, "why": "drawn"} | change
    response = post(radiologist, "bench-needle", on_bench, **body)
    assert response.status_code == 422
    assert told in response.json()["error"]
    assert MODELS["plans"].objects.filter(lesion=on_bench).count() == 1


@pytest.mark.parametrize("body", [b"", b"[1]", b"{", b"\xff\xfe", b'"x"', b"null", b"NaN"])
def test_what_is_no_json_is_refused(on_bench: Any, radiologist: Any, body: bytes) -> None:
    for name in ("bench-measure", "bench-needle", "bench-brush", "bench-outline", "bench-prefer"):
        address = reverse(name, args=[on_bench.uid])
        response = radiologist.post(address, body, content_type="application/json")
        assert response.status_code == 422, name


@pytest.mark.slow
def test_a_needle_under_the_mouse_is_measured_at_once(on_bench: Any, radiologist: Any) -> None:
    """Below 100 ms with all that the site does around it; prints the figures."""
    rng, took = np.random.default_rng(0), []
    post(radiologist, "bench-measure", on_bench, version=1, **asked(planned()))
    for _ in range(30):
        body = asked(planned(), 30 + 20 * rng.random())
        began = time.perf_counter()
        response = post(radiologist, "bench-measure", on_bench, version=1, **body)
        took.append(1000 * (time.perf_counter() - began))
        assert response.status_code == 200
    print(f"measure: median {np.median(took):.0f} ms, worst {max(took):.0f} ms")
    assert np.median(took) < 100


# --- The brush ------------------------------------------------------------------------------------


def slowly(mask: Mask, stroke: strokes.Stroke) -> np.ndarray:
    """Voxel by voxel, as the rule is written."""
    points = mask.grid.to_world(np.moveaxis(np.indices(mask.grid.shape), 0, -1))
    out = mask.values.copy()
    half = float(np.abs(stroke.normal @ mask.grid.affine[:3, :3]).sum()) / 2
    for index in np.ndindex(mask.grid.shape):
        p = points[index]
        height = float((p - stroke.points_mm[0]) @ stroke.normal)
        if not -half < height <= half:
            continue
        flat = p - height * stroke.normal
        best = np.inf
        ends = stroke.points_mm
        for a, b in pairwise(ends) if len(ends) > 1 else [(ends[0],) * 2]:
            way = b - a
            share = 0.0 if not way.any() else float(np.clip((flat - a) @ way / (way @ way), 0, 1))
            best = min(best, float(np.linalg.norm(flat - a - share * way)))
        if best <= stroke.radius_mm:
            out[index] = stroke.adds
    return out


@given(
    normal=st.sampled_from([(0, 0, 1), (0, 1, 0), (1, 0, 0)]),
    points=st.lists(
        st.tuples(*(st.floats(-12, 12) for _ in range(3))), min_size=1, max_size=3
    ),
    radius=st.floats(0.5, 7),
    adds=st.booleans(),
    seed=st.integers(0, 9),
)  # fmt: skip
def test_a_stroke_reaches_what_the_rule_says(
    normal: Any, points: Any, radius: float, adds: bool, seed: int
) -> None:
    grid = Grid.from_spacing((7, 9, 8), (2.5, 1.25, 1.5), (-6.1, -5.3, -7.7))
    mask = Mask(grid=grid, values=np.random.default_rng(seed).random(grid.shape) < 0.5)
    flat = [[0.0 if n else v for n, v in zip(normal, p, strict=True)] for p in points]
    told = {"points": flat, "normal": normal, "radius": radius, "adds": adds}
    (stroke,) = strokes.read([told])
    drawn = strokes.applied(mask, [stroke]).values
    # Where a centre lies on the very edge, rounding decides.
    assert np.count_nonzero(drawn != slowly(mask, stroke)) <= 1


def test_strokes_beside_the_voxels_change_nothing() -> None:
    grid = Grid.from_spacing((4, 4, 4), (1.0, 1.0, 1.0))
    mask = Mask(grid=grid, values=np.ones(grid.shape, bool))
    far = {"points": [[50, 50, 50]], "normal": [0, 0, 1], "radius": 3, "adds": False}
    assert strokes.applied(mask, strokes.read([far])).values.all()


@pytest.mark.parametrize(
    "told",
    [
        None, [], {}, [{}], [{"points": [[1, 2]], "normal": [0, 0, 1], "radius": 3, "adds": True}],
        [{"points": [[1, 2, 3]], "normal": [0, 0, 0], "radius": 3, "adds": True}],
        [{"points": [[1, 2, 3]], "normal": [0, 0, 1], "radius": 300, "adds": True}],
        [{"points": [[1, 2, float("nan")]], "normal": [0, 0, 1], "radius": 3, "adds": True}],
        [{"points": [[1, 2, 3]], "normal": [0, 0, 1], "radius": 3, "adds": 1}],
        [{"points": [[1, 2, 10**400]], "normal": [0, 0, 1], "radius": 3, "adds": True}],
        [{"points": [[1, 2, 3]], "normal": [0, 0, 1], "radius": 10**400, "adds": True}],
        [{"points": [], "normal": [0, 0, 1], "radius": 3, "adds": True}],
        [{"points": [[0, 0, 0]], "normal": [0, 0, 1], "radius": 3, "adds": True}] * 2001,
        [{"points": [[0, 0, 0]] * 21_000, "normal": [0, 0, 1], "radius": 3, "adds": True}] * 2,
    ],
)  # fmt: skip
def test_what_is_no_stroke_is_refused(told: Any) -> None:
    with pytest.raises(InputError):
        strokes.read(told)


def test_the_brush_makes_a_version_with_the_lesion_as_drawn(
    on_bench: Any, radiologist: Any
) -> None:
    case = planned()
    edge = case.lesion.mask.points_mm()[0]
    drawn = [{"points": [edge.tolist()], "normal": [0, 0, 1], "radius": 4.0, "adds": True}]
    response = post(
        radiologist, "bench-brush", on_bench, version=1, parent=1, strokes=drawn, why="its rim"
    )
    assert response.json() == {"number": 2}
    _, new = bench.newest(on_bench) or (None, None)
    assert new is not None
    wanted = strokes.applied(case.lesion.mask, strokes.read(drawn))
    assert new.lesion.mask.on(wanted.grid).voxels == wanted.voxels > case.lesion.mask.voxels
    assert len(new.plan.options) == len(case.plan.options)


# --- Work of minutes ------------------------------------------------------------------------------


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What was asked for, in place of its being done."""
    asked_for: list[Any] = []
    real = jobs.submit

    def submit(kind: str, parameters: Any, who: str) -> Any:
        asked_for.append((kind, dict(parameters), who))
        return type("Job", (), {"uid": "00000000-0000-0000-0000-000000000001"})

    monkeypatch.setattr(jobs, "submit", submit)
    yield asked_for
    monkeypatch.setattr(jobs, "submit", real)


def test_a_click_asks_for_an_outline(imaged: Any, radiologist: Any, submitted: list[Any]) -> None:
    image = MODELS["images"].objects.get(image_id="before")
    click = patient().click_mm.tolist()
    body = {"image": str(image.uid), "click": click, "site": "L3", "why": "seen on the MR"}
    told = post(radiologist, "bench-outline", imaged, parent=None, **body).json()
    assert told["job"].endswith("/job/00000000-0000-0000-0000-000000000001/")
    assert submitted == [
        ("outline", {"lesion": str(imaged.uid), "parent": None, "why": "seen on the MR",
                     "image": str(image.uid), "click_mm": click, "site": "L3"}, "radiologist")
    ]  # fmt: skip
    for wrong in (
        {"site": ""}, {"site": "knee"}, {"click": [9000, 0, 0]}, {"image": "none"}, {"why": ""}
    ):  # fmt: skip
        assert post(radiologist, "bench-outline", imaged, **(body | wrong)).status_code == 422
    assert len(submitted) == 1


@pytest.mark.parametrize(
    ("kind", "given", "asked_for"),
    [
        ("search", {"count": 4}, {"count": 4}),
        ("ablate", {"device": "rf_10", "place": "needle", "seconds": 600, "applicators": 1},
         {"device": "rf_10", "place": "needle", "seconds": 600.0, "applicators": 1}),
        ("inject", {"cement": "medium", "needles": 1, "target_ml": None},
         {"cement": "medium", "needles": 1}),
        ("load", {"weight": 70}, {"weight_kg": 70.0}),
    ],
)  # fmt: skip
def test_simulations_are_asked_for(
    on_bench: Any, radiologist: Any, submitted: list[Any], kind: str, given: Any, asked_for: Any
) -> None:
    body = given | {"why": "to see", "version": 1, "parent": 1}
    assert post(radiologist, "bench-compute", on_bench, kind, **body).status_code == 200
    told = {"lesion": str(on_bench.uid), "parent": 1, "why": "to see"}
    assert submitted == [(kind, told | asked_for, "radiologist")]


def test_no_simulation_on_a_version_that_is_no_more(
    on_bench: Any, radiologist: Any, submitted: list[Any]
) -> None:
    bench.keep_version(on_bench, edits.preferred(planned(), 1), who="surgeon", why="mine", parent=1)
    late = post(radiologist, "bench-compute", on_bench, "search", why="x", version=1, parent=1)
    assert late.status_code == 409
    assert post(radiologist, "bench-compute", on_bench, "verify", why="x").status_code == 404
    assert not submitted


# --- Results over the CT --------------------------------------------------------------------------


def zipped(folder: Path) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for place in folder.iterdir():
            archive.write(place, place.name)
    return out.getvalue()


def kept_folder(folder: Path) -> str:
    return kept.keep(zipped(folder), "zip").partition(".")[0]


def test_heat_is_shown_in_bands(on_bench: Any, radiologist: Any, files: Path) -> None:
    folder = files / "ablation"
    folder.mkdir()
    grid = Grid.from_spacing((3, 3, 5), (2.0, 2.0, 2.0), tuple(planned().lesion.centre_mm))
    celsius = np.full(grid.shape, 37.0, np.float32)
    celsius[1, 1] = (42.0, 45.0, 55.0, 60.0, 80.0)
    dead = np.zeros(grid.shape, np.uint8)
    dead[1, 1, 3:] = 1
    write_volume(folder / "temperature_c.nii.gz", Volume(grid=grid, values=celsius, unit="degC"))
    write_volume(folder / "cem43_min.nii.gz", Volume(grid=grid, values=celsius * 0, unit="min"))
    write_labels(folder / "dead.nii.gz", Labels(grid=grid, values=dead, names={1: "dead"}))
    run = SimulationRun(
        run_id="a1", lesion_id=on_bench.lesion_id, plan_number=1, kind="ablation",
        verdict="caution", result_sha256=kept_folder(folder),
    )  # fmt: skip
    cases.save("runs", run, who="radiologist", why="computed", study=on_bench.study)
    told = scene(radiologist, on_bench)
    layers = {k["kind"]: k for k in told["layers"]}
    assert "dose" not in layers  # nothing reached a dose
    levels = [r["name"] for r in layers["heat"]["regions"]]
    assert levels == sorted(levels)
    bands = nifti(radiologist.get(layers["heat"]["url"]), files)
    for place, value in zip(range(5), celsius[1, 1], strict=True):
        at = grid.to_world([1, 1, place])
        reached = sum(value >= float(w.split()[1]) for w in levels)
        assert np.nan_to_num(bands.sample(at[None])[0]) == pytest.approx(reached, abs=1e-4)
    assert layers["dead"]["on"]
    assert not layers["dead"]["other"]
    assert layers["dead"]["from"] == "Ablation, version 1"
    page = radiologist.get(reverse("bench-side", args=[on_bench.uid])).content.decode()
    assert reverse("run", args=[on_bench.uid, MODELS["runs"].objects.get(run_id="a1").uid]) in page


def test_leaks_are_told_by_compartment_and_laid_where_the_bone_was(
    on_bench: Any, radiologist: Any, files: Path
) -> None:
    """What was found lies in the later scan's space; on the bench it lies over the earlier bone."""
    folder = files / "result"
    folder.mkdir()
    centre = planned().lesion.centre_mm
    transform = np.eye(4)
    transform[:3, 3] = (11.0, -7.0, 5.0)
    there = Grid.from_spacing((4, 4, 4), (2.0, 2.0, 2.0), tuple(centre + transform[:3, 3]))
    values = np.zeros(there.shape, np.uint8)
    values[0, 0, :2], values[1, 1, 1], values[2, 2, 2], values[3, 3, 3] = 1, 2, 3, 4
    names = {1: "cement in bone", 2: "cement leak, disc", 3: "cement leak, epidural or canal",
             4: "cement leak, disc"}  # fmt: skip
    write_labels(folder / "leaks.nii.gz", Labels(grid=there, values=values, names=names))
    told = {"fill": {"registration": {"transform": transform.tolist()}}}
    (folder / "result.json").write_text(json.dumps(told))
    scan = planned().scan
    moved = Grid(shape=scan.volume.grid.shape, affine=transform @ scan.volume.grid.affine)
    post_scan = replace(
        scan, sha256="f" * 64, volume=Volume(grid=moved, values=np.array(scan.volume.values))
    )
    keep_image(on_bench, post_scan, "later", "after")
    found = Assessment(
        lesion_id=on_bench.lesion_id, date="2026-11-22", image_id="later",
        result_sha256=kept_folder(folder),
    )  # fmt: skip
    cases.save("assessments", found, who="radiologist", why="read", study=on_bench.study)
    seen = scene(radiologist, on_bench)
    layer = next(k for k in seen["layers"] if k["kind"] == "found")
    words = [r["name"] for r in layer["regions"]]
    assert words == ["cement in bone", "epidural or canal", "disc"]  # the worst leak first
    laid = nifti(radiologist.get(layer["url"]), files)
    at = laid.grid.to_world(np.argwhere(laid.values == 1))
    np.testing.assert_allclose(at.mean(axis=0), centre + np.array([1.0, 0, 0]), atol=1e-3)
    assert int((laid.values == 3).sum()) == 2
    (after,) = seen["after"]
    assert after["registered"]
    came = nifti(radiologist.get(after["ct"]), files)
    points = came.grid.to_world(np.argwhere(np.ones(came.grid.shape, bool))[::501])
    expected = np.rint(scan.volume.sample(points, outside=np.nan))
    sound = np.isfinite(expected)
    np.testing.assert_allclose(came.sample(points)[sound], expected[sound], atol=1.01)


def test_strain_and_cement_overlays_by_what_they_hold(files: Path) -> None:
    files.mkdir(exist_ok=True)
    grid = Grid.from_spacing((2, 2, 4), (1.0, 1.0, 1.0))
    values = np.zeros(grid.shape, np.float32)
    values[0, 0] = (0.1, 0.3, 0.6, 1.2)
    write_volume(files / "strain_now.nii.gz", Volume(grid=grid, values=values, unit="1"))
    names = {p.name: p.read_bytes() for p in files.glob("*.nii.gz")}
    (strain,) = picture.of_strength(names.get)
    assert [r.word for r in strain.regions] == ["≥ 25 %", "≥ 50 %", "≥ 100 %"]
    assert picture.of_ablation({}.get) == picture.of_cement({}.get) == ()
    assert picture.of_assessment({}.get) == ()


def test_holes_of_the_wall_are_shown_where_they_are() -> None:
    case = planned()
    rng = np.random.default_rng(0)
    middle = case.lesion.centre_mm
    holes = [
        WallDefect(wall="posterior wall", area_mm2=40.0, centre_mm=middle,
                   points_mm=middle + rng.uniform(-5, 5, (30, 3))),
        WallDefect(wall="left pedicle", area_mm2=5.0, centre_mm=middle + np.array([20.0, 0, 0])),
    ]  # fmt: skip
    lesion = replace(case.lesion, defects=tuple(holes))
    of = replace(case, plan=replace(case.plan, lesion=lesion))
    overlay = next(o for o in picture.of_plan(of) if o.key == "defects")
    assert [r.word for r in overlay.regions] == ["posterior wall", "left pedicle"]
    assert overlay.mask(1).holds(holes[0].points_mm).all()
    assert overlay.mask(2).holds(holes[1].centre_mm[None]).all()
    far = overlay.mask(2).points_mm() - holes[1].centre_mm
    assert np.linalg.norm(far, axis=1).max() < 2 * max(COARSE_MM)


# --- Skin, versions, size -------------------------------------------------------------------------


def test_the_skin_map_is_the_searchs(on_bench: Any, radiologist: Any) -> None:
    address = reverse("bench-skin", args=[on_bench.uid])
    told = radiologist.get(address, {"version": 1}).json()
    library = live().skin()
    np.testing.assert_allclose(told["points"], library.points_mm, atol=0.051)
    assert [told["names"][v] for v in told["verdicts"]] == list(library.verdicts)
    assert len(set(told["verdicts"])) > 1
    assert radiologist.get(address, {"version": 1, "route": "none"}).status_code == 422


def test_two_versions_side_by_side(on_bench: Any, radiologist: Any) -> None:
    bench.keep_version(on_bench, edits.preferred(planned(), 1), who="surgeon", why="mine", parent=1)
    address = reverse("bench-compare", args=[on_bench.uid])
    response = radiologist.get(address, {"from": 1, "to": 2})
    page = response.content.decode()
    assert response.status_code == 200
    assert page.count('class="still"') == 4
    for option in planned().plan.options:
        assert Speaker("en").number(option.depth_mm, "mm", 1) in page
    picture_address = page.split('class="still" src="')[1].split('"')[0].replace("&amp;", "&")
    assert radiologist.get(picture_address)["Content-Type"] == "image/png"
    assert radiologist.get(address, {"from": 1, "to": 9}).status_code == 404
    assert radiologist.get(address, {"from": 1}).status_code == 404


@pytest.mark.slow
def test_a_large_ct_comes_at_once(files: Path, lesion: Any, people: Any, radiologist: Any) -> None:
    """512 x 512 x 300 in under 3 s, the part to work on and all of it; prints the figures."""
    case = planned()
    grid = Grid.from_spacing((300, 512, 512), (1.0, 0.8, 0.8), tuple(
        case.lesion.centre_mm - [205.0, 205.0, 150.0]
    ))  # fmt: skip
    rng = np.random.default_rng(0)
    values = rng.normal(40, 25, grid.shape).astype(np.int16)
    scan = Scan(volume=Volume(grid=grid, values=values), name="large", sha256="1" * 64)
    keep_image(lesion, scan, "large", "planning")
    anatomy = replace(case.anatomy)
    large = replace(case, scan=scan, anatomy=anatomy)
    row = bench.keep_version(lesion, large, who="radiologist", why="drawn", parent=None)
    assert row.number == 1
    bench._scans._held.clear()
    told = scene(radiologist, lesion)
    for part in ("around", "whole"):
        began = time.perf_counter()
        came = radiologist.get(told["ct"][part])
        first = time.perf_counter() - began
        began = time.perf_counter()
        radiologist.get(told["ct"][part])
        again = time.perf_counter() - began
        size = len(gzip.decompress(came.content))
        print(f"{part}: {first:.2f} s, again {again:.2f} s; {len(came.content) / 1e6:.1f} MB "
              f"of {size / 1e6:.0f} MB")  # fmt: skip
        assert first < 3.0
    assert isinstance(case.plan.options[0], Trajectory)


def test_what_lies_at_a_point_is_told(on_bench: Any, radiologist: Any) -> None:
    told = scene(radiologist, on_bench)
    lesion = next(k for k in told["layers"] if k["kind"] == "lesion")
    address = told["picture"].replace(".png", ".json")
    at = planned().lesion.mask.points_mm()[3]
    given = {"at": ",".join(map(str, at)), "layers": f"{lesion['key']}:1"}
    found = radiologist.get(address, given).json()
    assert found["names"] == ["lesion"]
    assert found["hu"] == round(float(planned().scan.volume.sample(at)))
    outside = radiologist.get(address, given | {"at": "9000,0,0"}).json()
    assert outside == {"hu": None, "names": []}
    assert radiologist.get(address, given | {"at": "nan,0,0"}).status_code == 422


def test_another_ct_can_be_chosen_to_start_from(on_bench: Any, radiologist: Any) -> None:
    """A lesion outlined on another CT is the next version all the same."""
    keep_image(on_bench, replace(planned().scan, sha256="4" * 64), "other", "diagnosis")
    other = MODELS["images"].objects.get(image_id="other")
    page = radiologist.get(reverse("bench", args=[on_bench.uid])).content.decode()
    assert f'value="{other.uid}"' in page
    told = scene(radiologist, on_bench, image=str(other.uid))
    assert (told["image"], told["version"], told["last"]) == (str(other.uid), None, 1)
    assert told["editable"]
    # The plan's own CT, chosen by its name, is shown with the plan.
    own = MODELS["images"].objects.get(image_id="before")
    told = scene(radiologist, on_bench, image=str(own.uid))
    assert (told["image"], told["version"], len(told["needles"])) == (str(own.uid), 1, 2)


def test_approval_is_always_told(on_bench: Any, radiologist: Any) -> None:
    assert scene(radiologist, on_bench)["approval"]["text"] == "! version 1 not approved"
    row = MODELS["plans"].objects.get(lesion=on_bench)
    assert row.verdict == "stop"
    # What says stop is approved with a reason, and stays red.
    page = radiologist.get(reverse("bench-side", args=[on_bench.uid])).content.decode()
    assert "It says stop. Why is it approved all the same?" in page
    sign = reverse("plan-approve", args=[on_bench.uid, row.uid])
    refused = radiologist.post(sign, {"version": row.version})
    assert refused.status_code == 422
    assert "write why it is approved all the same" in refused.content.decode()
    assert not cases.to_record(MODELS["plans"].objects.get(lesion=on_bench)).approved
    radiologist.post(sign, {"version": row.version, "why": "the canal is opened anyway"})
    told = scene(radiologist, on_bench)["approval"]
    text = "✕ version 1 approved all the same by radiologist"
    assert told == {"tone": "stop", "text": text}
    # A version that was typed since then is the newest, and the picture is not its own.
    row = MODELS["plans"].objects.get(lesion=on_bench)
    typed = replace(cases.to_record(row), plan_sha256=None, route="other", parent=1)
    cases.plan(on_bench, typed, who="radiologist", why="typed", parent=1)
    told = scene(radiologist, on_bench)
    assert (told["version"], told["last"]) == (1, 2)
    # The words are of the version that is shown, and say that another one counts.
    assert told["approval"]["text"] == "! version 1 not approved; version 2 is newer"
    page = radiologist.get(reverse("bench", args=[on_bench.uid])).content.decode()
    assert "A version typed since then has no picture of its own." in page
    kept_one = post(radiologist, "bench-prefer", on_bench, version=1, parent=2, index=1, why="x")
    assert kept_one.json() == {"number": 3}


def test_what_did_not_change_is_not_drawn_again(on_bench: Any, radiologist: Any) -> None:
    """Another needle makes another version; its CT, lesion and bone are known to the page."""
    before = scene(radiologist, on_bench)
    surface = radiologist.get(before["bone"]["address"])
    body = asked(planned())
    post(radiologist, "bench-needle", on_bench, version=1, parent=1, why="drawn", **body)
    after = scene(radiologist, on_bench)
    assert after["version"] == 2
    assert (after["low"], after["high"]) == (before["low"], before["high"])
    assert [k["stamp"] for k in after["layers"]] == [k["stamp"] for k in before["layers"]]
    assert after["bone"]["stamp"] == before["bone"]["stamp"]
    assert radiologist.get(after["bone"]["address"])["ETag"] == surface["ETag"]
    drawn = [{"points": [before["at"]], "normal": [0, 0, 1], "radius": 20.0, "adds": True}]
    post(radiologist, "bench-brush", on_bench, version=2, parent=2, strokes=drawn, why="larger")
    stamps = {k["kind"]: k["stamp"] for k in scene(radiologist, on_bench)["layers"]}
    old = {k["kind"]: k["stamp"] for k in before["layers"]}
    assert stamps["structures"] == old["structures"]
    assert stamps["lesion"] != old["lesion"]
