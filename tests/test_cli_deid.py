"""``trocar deid``: what it prints, where the key lies, what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from typer.testing import CliRunner

from trocar import cli
from trocar.errors import InputError
from trocar.io.pseudonyms import Key

runner = CliRunner()


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    study, series = generate_uid(), generate_uid()
    for k in range(3):
        d = Dataset()
        d.SOPClassUID, d.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", generate_uid()
        d.StudyInstanceUID, d.SeriesInstanceUID = study, series
        d.PatientName, d.PatientID, d.StudyDate = "Quillfeather^Jo", "QF-77123", "20210317"
        d.Modality, d.InstanceNumber = "CT", k + 1
        d.Rows = d.Columns = 4
        d.BitsAllocated = d.BitsStored = 16
        d.HighBit, d.PixelRepresentation, d.SamplesPerPixel = 15, 1, 1
        d.PhotometricInterpretation = "MONOCHROME2"
        d.PixelData = np.full(16, k, np.int16).tobytes()
        d.file_meta = FileMetaDataset()
        d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        d.save_as(folder / f"{k}.dcm", enforce_file_format=True)
    (folder / "letter.pdf").write_bytes(b"%PDF")
    (folder / "note.txt").write_text("x")
    return folder


def test_it_says_what_was_done_and_refused_and_where_the_key_is(scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = runner.invoke(cli.app, ["deid", str(scan), str(out)])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    key = Key.read(tmp_path / "out.key.json")
    (who,) = key.people
    assert lines == [
        "files: 3 taken, 2 refused; of 1 patient",
        f"pseudonyms: {who}",
        "dates: shifted",
        "refused: letter.pdf and 1 more: it is neither DICOM nor a volume file (NIfTI, NRRD, "
        "MetaImage)",
        f"images: {out}",
        f"key: {tmp_path / 'out.key.json'} (it alone can undo this)",
    ]
    assert key.people[who]["patient_id"] == "QF-77123"
    assert not list(out.rglob("*.json"))
    assert all(b"Quill" not in p.read_bytes() for p in out.rglob("*.dcm"))


def test_one_key_for_two_folders_gives_one_pseudonym(scan: Path, tmp_path: Path) -> None:
    key = tmp_path / "keys" / "ward.json"
    key.parent.mkdir()
    said = [
        runner.invoke(cli.app, ["deid", str(scan), str(tmp_path / n), "--key", str(key), *more])
        for n, more in (("a", []), ("b", ["--dates", "removed"]))
    ]
    assert [s.exit_code for s in said] == [0, 0]
    assert said[0].output.splitlines()[1] == said[1].output.splitlines()[1]
    assert "dates: removed" in said[1].output
    assert len(Key.read(key).people) == 1


def test_the_folder_one_stands_in_is_refused_in_a_sentence(
    scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(scan)
    done = runner.invoke(cli.app, ["deid", str(scan), "."])
    assert isinstance(done.exception, InputError)


@pytest.mark.parametrize("inside", ["out/key.json", "out/a/../key.json", "link/key.json"])
def test_a_key_within_the_images_is_refused(scan: Path, tmp_path: Path, inside: str) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "out")
    done = runner.invoke(
        cli.app, ["deid", str(scan), str(tmp_path / "out"), "--key", str(tmp_path / inside)]
    )
    assert isinstance(done.exception, InputError)
    assert "would travel with the images" in str(done.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--dates", "kept"], "expected shifted or removed"),
        (["--key", "none/key.json"], "cannot be kept"),
    ],
)
def test_what_cannot_be_done_leaves_nothing(
    scan: Path, tmp_path: Path, arguments: list[str], says: str
) -> None:
    done = runner.invoke(cli.app, ["deid", str(scan), str(tmp_path / "out"), *arguments])
    assert isinstance(done.exception, InputError)
    assert says in str(done.exception)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]


def test_no_key_is_made_where_nobody_was_met(tmp_path: Path) -> None:
    done = runner.invoke(cli.app, ["deid", str(tmp_path / "nothing"), str(tmp_path / "out")])
    assert isinstance(done.exception, InputError)
    assert list(tmp_path.iterdir()) == []
