"""Whatever the bytes of a study's files are, reading raises InputError with a place, or nothing."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from trocar.errors import InputError
from trocar.io.records import example_study, problems, read_study, write_study
from trocar.model.study import TABLES

FUZZ = settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of the example in its three forms, by name."""
    place = tmp_path_factory.mktemp("valid")
    folder = write_study(place / "folder", example_study())
    files = {p.name: p.read_bytes() for p in folder.iterdir()}
    for form in ("one.json", "one.zip"):
        files[form] = write_study(place / form, example_study()).read_bytes()
    return files


def read(path: Path) -> None:
    """Read; what is wrong must be an InputError that names a file, and be the same each time."""
    found = problems(path)
    if not found:
        read_study(path)
        return
    with pytest.raises(InputError) as error:
        read_study(path)
    assert all(p.file and p.came for p in found)
    assert all(str(p) in str(error.value) for p in found[:50])
    str(error.value).encode()  # can be printed


def folder(place: Path, valid: dict[str, bytes], **changed: bytes) -> Path:
    place.mkdir(exist_ok=True)
    for name, data in valid.items():
        if not name.startswith("one."):
            (place / name).write_bytes(changed.get(name.replace(".", "_"), data))
    return place


@st.composite
def mutations(draw: st.DrawFn) -> list[tuple[str, float, bytes]]:
    """A few changes of a file: what is done, where (a share of its length), with which bytes."""
    snippets = st.sampled_from(
        [b'"', b",", b";", b"\t", b"\n", b"\r", b"\r\n", b"\0", b"\xff", b"\xef\xbb\xbf", b"nan",
         b"1e999", b"-1", b"inf", b"{", b"}", b"[", b"]", b":", b"null", b"true", b"\\ud800",
         b"9" * 5000, b"x" * 140_000, b"[" * 3000, b'{"a":' * 3000, b"none", b"=1+1", "é".encode(),
         b"1", b"2010-13", b"\x1c", b"\xe2\x80\xa8"]
    )  # fmt: skip
    some = snippets | st.binary(max_size=6)
    change = st.tuples(st.sampled_from(["insert", "replace", "cut", "copy"]), st.floats(0, 1), some)
    return draw(st.lists(change, min_size=1, max_size=4))


def mutated(data: bytes, changes: list[tuple[str, float, bytes]]) -> bytes:
    for what, where, some in changes:
        at = int(where * len(data))
        if what == "insert":
            data = data[:at] + some + data[at:]
        elif what == "replace":
            data = data[:at] + some + data[at + len(some) :]
        elif what == "cut":
            data = data[:at] + data[at + 1 + len(some) :]
        else:
            data = data + data[at : at + 400]
    return data


@pytest.mark.parametrize("name", ["study.json", "patients.csv", "pain.csv", "procedures.csv"])
@FUZZ
@given(changes=mutations())
def test_a_changed_folder(
    tmp_path: Path, valid: dict[str, bytes], name: str, changes: list[tuple[str, float, bytes]]
) -> None:
    data = mutated(valid[name], changes)
    read(folder(tmp_path / "a", valid, **{name.replace(".", "_"): data}))


@pytest.mark.parametrize("name", ["one.json", "one.zip"])
@FUZZ
@given(changes=mutations())
def test_a_changed_file(
    tmp_path: Path, valid: dict[str, bytes], name: str, changes: list[tuple[str, float, bytes]]
) -> None:
    (tmp_path / name).write_bytes(mutated(valid[name], changes))
    read(tmp_path / name)


@pytest.mark.parametrize("name", ["study.json", "pain.csv", "one.json", "one.zip"])
@FUZZ
@given(data=st.binary(max_size=200) | st.text(max_size=80).map(lambda t: t.encode("utf-8")))
@example(data=b"")
@example(data=b"\xef\xbb\xbf")
@example(data=b'"')
@example(data=b"PK\x05\x06" + bytes(18))
@example(data=b"PK\x05\x06" + bytes(8) + b"\xff" * 10)
def test_any_bytes(tmp_path: Path, valid: dict[str, bytes], name: str, data: bytes) -> None:
    if name.startswith("one."):
        (tmp_path / name).write_bytes(data)
        read(tmp_path / name)
    else:
        read(folder(tmp_path / "a", valid, **{name.replace(".", "_"): data}))


CELLS = st.text(max_size=8) | st.sampled_from(
    ["1", "L1", "yes", "none", "2010-02", "cement", "metastasis", "P1", "7", "-0", "1e5", "a;b", ""]
)


@FUZZ
@given(data=st.data())
def test_any_cells_below_right_names(
    tmp_path: Path, valid: dict[str, bytes], data: st.DataObject
) -> None:
    table = data.draw(st.sampled_from(list(TABLES)))
    names = list(TABLES[table].__dataclass_fields__)
    header = data.draw(st.lists(st.sampled_from([*names, "", "other"]), max_size=8))
    rows = data.draw(st.lists(st.lists(CELLS, max_size=9), max_size=4))
    mark = data.draw(st.sampled_from(",;\t"))
    lines = [header, *rows]
    text = "\n".join(mark.join(f'"{c.replace(chr(34), chr(34) * 2)}"' for c in ln) for ln in lines)
    place = folder(tmp_path / "a", valid)
    (place / f"{table}.csv").write_text(text, "utf-8", errors="replace", newline="")
    read(place)
    (place / f"{table}.csv").write_bytes(valid.get(f"{table}.csv", b""))
    if f"{table}.csv" not in valid:
        (place / f"{table}.csv").unlink()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from(["trocar-study", "P1", "1", "L1", 10**400, -(10**30)]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.text(max_size=3)
        | st.sampled_from(["patient_id", "lesion_id", "site", "day", "low", "note_id", "text",
                           "techniques", "study_id", "title", *TABLES]),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@FUZZ
@given(data=st.data())
def test_any_json_in_any_place(
    tmp_path: Path, valid: dict[str, bytes], data: st.DataObject
) -> None:
    whole = json.loads(valid["one.json"])
    for _ in range(data.draw(st.integers(1, 3))):
        spot: Any = whole
        while True:  # walk down to some place in the file and put anything there
            keys = list(spot) if isinstance(spot, dict) else list(range(len(spot)))
            if not keys:
                break
            key = data.draw(st.sampled_from(keys))
            if isinstance(spot[key], dict | list) and data.draw(st.booleans()):
                spot = spot[key]
                continue
            spot[key] = data.draw(JSON)
            break
    (tmp_path / "a.json").write_text(json.dumps(whole), "utf-8")
    read(tmp_path / "a.json")


@FUZZ
@given(
    names=st.lists(
        st.text(max_size=9)
        | st.sampled_from(
            ["study.json", "pain.csv", "a/pain.csv", "../x", "a/", "Pain.csv", "x.csv", "."]
        ),
        max_size=4,
    )
)
def test_any_names_in_a_zip(tmp_path: Path, names: list[str]) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in dict.fromkeys(n.encode("utf-8", "replace").decode() for n in names):
            archive.writestr(zipfile.ZipInfo(name or "-"), b"{}")
    (tmp_path / "a.zip").write_bytes(out.getvalue())
    read(tmp_path / "a.zip")
