from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from trocar.errors import InputError
from trocar.io import files
from trocar.io.files import inside_zips, open_items, open_source


def _zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_folder_and_zip_give_the_same_files(tmp_path: Path) -> None:
    (tmp_path / "d" / "sub").mkdir(parents=True)
    (tmp_path / "d" / "a").write_bytes(b"one")
    (tmp_path / "d" / "sub" / "b").write_bytes(b"two")
    (tmp_path / "d" / ".hidden").write_bytes(b"x")
    packed = _zip(tmp_path / "z.zip", {"a": b"one", "sub/b": b"two", "__MACOSX/a": b"x"})
    for place in (tmp_path / "d", packed):
        with open_items(place) as items:
            assert [(i.name, i.read(), i.head(2), i.size) for i in items] == [
                ("a", b"one", b"on", 3),
                ("sub/b", b"two", b"tw", 3),
            ]
            sources = [i.source for i in items]
        assert [open_source(s).read() for s in sources] == [b"one", b"two"]


def test_names_in_a_zip_lead_nowhere(tmp_path: Path) -> None:
    inner = tmp_path / "in"
    inner.mkdir()
    packed = _zip(inner / "z.zip", {"../../evil": b"boo", "/etc/evil": b"boo"})
    with open_items(packed) as items:
        assert [i.read() for i in items] == [b"boo", b"boo"]
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["in", "z.zip"]


def test_a_zip_bomb_is_stopped_by_what_it_unpacks_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = _zip(tmp_path / "bomb.zip", {"a": bytes(10_000_000)})
    assert packed.stat().st_size < 20_000
    monkeypatch.setattr(files, "MAX_MEMBER_BYTES", 1_000_000)
    with open_items(packed) as (item,), pytest.raises(InputError, match="unpacks to more"):
        item.read()
    monkeypatch.setattr(files, "MAX_TOTAL_BYTES", 5_000_000)
    with pytest.raises(InputError, match="would unpack"), open_items(packed):
        pass
    monkeypatch.setattr(files, "MAX_FILES", 0)
    with pytest.raises(InputError, match="holds 1 files"), open_items(packed):
        pass


def test_zips_in_a_folder_are_opened_but_not_those_inside_them(tmp_path: Path) -> None:
    inner = _zip(tmp_path / "inner.zip", {"deep": b"deep"}).read_bytes()
    (tmp_path / "inner.zip").unlink()
    _zip(tmp_path / "one.zip", {"a": b"one", "inner.zip": inner})
    (tmp_path / "sub").mkdir()
    _zip(tmp_path / "sub" / "two.ZIP", {"a": b"two"})
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 and nothing more")
    (tmp_path / "c").write_bytes(b"three")
    with open_items(tmp_path) as items, inside_zips(items) as (found, refused):
        assert {i.name: i.read() for i in found} == {
            "c": b"three",
            "one.zip/a": b"one",
            "one.zip/inner.zip": inner,
            "sub/two.ZIP/a": b"two",
        }
        source = next(i.source for i in found if i.name == "sub/two.ZIP/a")
    assert open_source(source).read() == b"two"
    assert refused == {"bad.zip": "bad.zip is a damaged zip archive"}


def test_the_zips_of_a_folder_share_the_guards_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        _zip(tmp_path / f"{name}.zip", {"x": bytes(400), "y": bytes(400)})

    def opened() -> tuple[list[str], list[str]]:
        with open_items(tmp_path) as items, inside_zips(items) as (found, refused):
            return sorted({i.name.split("/")[0] for i in found}), sorted(refused)

    assert opened() == (["a.zip", "b.zip", "c.zip"], [])
    with monkeypatch.context() as less:
        less.setattr(files, "MAX_TOTAL_BYTES", 2000)
        assert opened() == (["a.zip", "b.zip"], ["c.zip"])
    with monkeypatch.context() as less:
        less.setattr(files, "MAX_FILES", 4)
        assert opened() == (["a.zip", "b.zip"], ["c.zip"])
    monkeypatch.setattr(files, "MAX_ARCHIVES", 2)
    assert opened() == ([], ["a.zip", "b.zip", "c.zip"])


def test_what_is_not_there_or_damaged_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"), open_items(tmp_path / "no"):
        pass
    packed = _zip(tmp_path / "z.zip", {"a": bytes(range(256)) * 4})
    data = bytearray(packed.read_bytes())
    data[60:70] = b"0123456789"  # among the compressed bytes of the member
    packed.write_bytes(bytes(data))
    with open_items(packed) as (item,), pytest.raises(InputError, match="a cannot be read"):
        item.read()
    with pytest.raises(InputError, match="no longer where it was read"):
        open_source(f"{packed}::gone")
