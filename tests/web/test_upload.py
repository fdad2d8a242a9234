"""Images come in file by file, are freed of names, and are refused at the first sign of harm."""

from __future__ import annotations

import io
import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import browsing
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from trocar.errors import InputError
from trocar.io.pseudonyms import Key
from trocar.io.volumes import inspect, write_volume
from trocar.model.space import Grid, Volume
from trocar.registry.convert import to_record
from trocar.registry.models import MODELS, Job
from trocar.web import arrivals, bench, daily, jobs, work_kinds
from trocar.web.pages.upload import _scan, run_read

NAME, HOSPITAL = "Chan^Tai Man", "St Elsewhere"


def ct(slices: int = 6, *, series: str = "", study: str = "") -> list[bytes]:
    """A small CT of a person, one file a slice."""
    series, study, frame = series or generate_uid(), study or generate_uid(), generate_uid()
    made = []
    for k in range(slices):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
        ds.PatientName, ds.PatientID, ds.PatientBirthDate = NAME, "HK1234567", "19520304"
        ds.InstitutionName, ds.PatientComments = HOSPITAL, f"{NAME} <script>alert(1)</script>"
        ds.StudyInstanceUID, ds.SeriesInstanceUID = study, series
        ds.FrameOfReferenceUID, ds.Modality, ds.ImageType = frame, "CT", ["ORIGINAL", "PRIMARY"]
        ds.StudyDate = ds.SeriesDate = "20260102"
        ds.PatientPosition, ds.InstanceNumber, ds.KVP = "HFS", k + 1, "120"
        ds.ImageOrientationPatient, ds.PixelSpacing = [1, 0, 0, 0, 1, 0], [0.8, 0.8]
        ds.ImagePositionPatient, ds.SliceThickness = [-12.0, -12.0, 1.5 * k], "1.5"
        ds.Rows = ds.Columns = 32
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        ds.RescaleSlope, ds.RescaleIntercept = "1", "0"
        values = np.full((32, 32), -1000, np.int16)
        values[8:24, 8:24] = 40 + 10 * k
        ds.PixelData = values.tobytes()
        out = io.BytesIO()
        pydicom.dcmwrite(out, ds, enforce_file_format=True)
        made.append(out.getvalue())
    return made


@pytest.fixture
def home(settings: Any, tmp_path: Path) -> Path:
    settings.KEPT_FILES = tmp_path / "files"
    settings.JOBS_HERE = True
    return tmp_path


class Sender:
    """A browser that sends as the page does."""

    def __init__(self, client: Any, lesion: Any, committed: Any) -> None:
        self.client, self.base, self.committed = client, f"/case/{lesion.uid}/upload/", committed
        self.to = client.post(f"{self.base}begin/").json()

    def send(self, number: int, data: bytes, ending: str = ".dcm", **where: Any) -> Any:
        query = "&".join(f"{k}={v}" for k, v in where.items())
        return self.client.post(
            f"{self.to['file']}{number}/?{query}", data, content_type="application/octet-stream",
            headers={"x-ending": ending},
        )  # fmt: skip

    def end(self, **about: str) -> Any:
        with self.committed(execute=True):
            told = {"purpose": "planning", "date": "2026-01-02", "series": ""} | about
            return self.client.post(self.to["end"], told)


@pytest.fixture
def sender(
    home: Path, lesion: Any, clients: Any, django_capture_on_commit_callbacks: Any
) -> Sender:
    return Sender(clients["coordinator"], lesion, django_capture_on_commit_callbacks)


def everything_below(place: Path) -> bytes:
    return b"".join(p.read_bytes() for p in place.rglob("*") if p.is_file())


def test_a_ct_comes_in_without_its_names(sender: Sender, lesion: Any, home: Path) -> None:
    slices = ct()
    for n, data in enumerate(slices):
        assert sender.send(n, data).json() == {"whole": True}
    answer = sender.end()
    assert answer.status_code == 200, answer.content
    job = Job.objects.get(kind="read")
    assert (job.state, job.error) == ("done", "")
    row = MODELS["images"].objects.get(uid=json.loads(job.result)["image"])
    record = to_record(row)
    assert (record.purpose, record.date, record.slices) == ("planning", "2026-01-02", 6)
    assert record.deidentified is True
    scan = bench.scan(row)
    assert scan.volume.values.shape == (6, 32, 32)
    assert [int(v) for v in scan.volume.values[:, 16, 16]] == [40, 50, 60, 70, 80, 90]
    assert scan.volume.grid.spacing_mm == pytest.approx((1.5, 0.8, 0.8))
    # Nothing waits any more, and no name is left where images are kept.
    assert not list((home / "arriving").iterdir())
    left = everything_below(home / "files")
    for told in (NAME, HOSPITAL, "HK1234567", "19520304", "script", "Chan"):
        assert told.encode() not in left
    uids = {pydicom.dcmread(io.BytesIO(d)).SOPInstanceUID for d in slices}
    assert not any(str(uid).encode() in left for uid in uids)
    # The way back is kept apart, and readable by the site's owner alone.
    key = arrivals.key_place()
    assert key.stat().st_mode & 0o077 == 0
    assert home / "files" not in key.parents


def test_all_who_come_first_at_once_share_one_key(home: Path) -> None:
    def met(number: int) -> str:
        with Key.at(arrivals.key_place()) as key:
            return key.pseudonym(f"HK{number}", NAME)

    with ThreadPoolExecutor(8) as pool:
        names = set(pool.map(met, range(8)))
    assert set(Key.read(arrivals.key_place()).people) == names
    assert len(names) == 8


def test_a_zip_comes_in_pieces(sender: Sender) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for n, data in enumerate(ct()):
            archive.writestr(f"CT/{NAME}/{n}.dcm", data)
    data, middle = out.getvalue(), len(out.getvalue()) // 2
    assert not sender.send(0, data[:middle], ".zip", at=0, of=len(data)).json()["whole"]
    assert sender.send(0, data[middle:], ".zip", at=middle, of=len(data)).json()["whole"]
    sender.end()
    job = Job.objects.get(kind="read")
    assert (job.state, job.error) == ("done", "")


def test_pieces_that_do_not_follow_each_other_are_refused(sender: Sender) -> None:
    data = ct(1)[0]
    sender.send(0, data[:200], at=0, of=len(data))
    answer = sender.send(0, data[300:], at=300, of=len(data))
    assert answer.status_code == 422
    assert "a piece at 300 came where 200 was expected" in answer.json()["error"]


@pytest.mark.parametrize(
    ("data", "ending", "said", "status"),
    [
        # What a disc holds beside its images, and the sender passes over ...
        (b"\0" * 100_000, ".dcm", "nothing but zeros", 415),
        (b"hello, I am no image at all", ".dcm", "expected DICOM", 415),
        (b"MZ" + b"\0" * 100, ".exe", "expected DICOM", 415),
        (b"PK\x03\x04" + b"\0" * 100, ".dcm", "archive", 415),
        # ... and what was meant to be read.
        (b"MZ" + b"\0" * 100, ".zip", "is no zip", 422),
        (b"MZ" + b"\0" * 400, ".nii", "not what its name says", 422),
        (b"", ".dcm", "a size that is none", 422),
    ],
)
def test_the_first_block_shows_what_is_none(
    sender: Sender, home: Path, data: bytes, ending: str, said: str, status: int
) -> None:
    answer = sender.send(0, data, ending)
    assert answer.status_code == status
    assert said in answer.json()["error"]
    left = [p for p in (home / "arriving").rglob("*") if p.is_file() and p.name != "about.json"]
    assert not left


def test_what_is_no_ct_is_refused_and_taken_away(sender: Sender, home: Path) -> None:
    for n, data in enumerate(ct(3)):
        ds = pydicom.dcmread(io.BytesIO(data))
        ds.Modality, ds.SOPClassUID = "MR", "1.2.840.10008.5.1.4.1.1.4"
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        out = io.BytesIO()
        pydicom.dcmwrite(out, ds)
        sender.send(n, out.getvalue())
    sender.end()
    job = Job.objects.get(kind="read")
    assert job.state == "failed"
    assert "no CT came" in job.error
    assert NAME not in job.error
    assert not list((home / "arriving").iterdir())


def test_of_several_series_one_is_chosen_without_sending_again(sender: Sender) -> None:
    study = generate_uid()
    both = ct(study=study) + ct(9, study=study)
    for n, data in enumerate(both):
        sender.send(n, data)
    sender.end()
    job = Job.objects.get(kind="read")
    assert "there are 2 CT series" in job.error
    sender.end(series="2")
    job = Job.objects.filter(kind="read").latest("pk")
    assert (job.state, job.error) == ("done", "")


def test_of_several_series_one_is_chosen_on_the_page_of_the_job(
    sender: Sender, lesion: Any, clients: Any, home: Path, django_capture_on_commit_callbacks: Any
) -> None:
    def again(**told: str) -> Job:
        with django_capture_on_commit_callbacks(execute=True):
            answer = clients["coordinator"].post(f"{page()}again/", told)
        assert answer.status_code == 302
        return Job.objects.filter(kind="read").latest("pk")

    def page() -> str:
        return f"/case/{lesion.uid}/job/{Job.objects.filter(kind='read').latest('pk').uid}/"

    def asked(who: str = "coordinator") -> bool:
        return 'name="series"' in clients[who].get(page()).content.decode()

    study = generate_uid()
    for n, data in enumerate(ct(study=study) + ct(9, study=study)):
        sender.send(n, data)
    sender.end()
    job = Job.objects.get(kind="read")
    assert job.error.startswith("there are 2 CT series; choose one (1: ")
    assert asked()
    assert not asked("specialist")  # who may not bring images may choose none
    wrong = again(series="7")
    assert wrong.state == "failed"
    assert wrong.error.startswith("no series answers to '7'; choose one (1: ")
    for one in (job, wrong):
        assert "; 2: " in one.error
        for told in ("--series", str(home), "arriving", "trocar inspect"):
            assert told not in one.error
    assert asked()
    done = again(series=" 2 ")
    assert (done.state, done.error) == ("done", "")
    assert done.parameters["series"] == "2"
    assert not list((home / "arriving").iterdir())
    assert not asked()
    Job.objects.filter(pk=done.pk).delete()
    assert not asked()  # the files no longer wait


def test_no_path_is_told_of_what_holds_no_series(tmp_path: Path) -> None:
    for n, data in enumerate(ct()):
        ds = pydicom.dcmread(io.BytesIO(data))
        ds.ImageOrientationPatient = [0, 0, 0, 0, 0, 0]
        ds.save_as(tmp_path / f"{n}.dcm")
    with pytest.raises(InputError) as told:
        _scan(tmp_path, "", inspect(tmp_path))
    assert type(told.value) is InputError  # nothing to choose from
    assert str(tmp_path) not in str(told.value)


def volume_file(place: Path, values: Any) -> bytes:
    """A NIfTI of 4 mm slices."""
    grid = Grid.from_spacing(values.shape, (4.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    return write_volume(place / "any.nii.gz", Volume(grid=grid, values=values)).read_bytes()


def test_of_several_volume_files_the_ct_is_taken_and_the_labels_are_told_of(
    sender: Sender, lesion: Any, clients: Any, home: Path, tmp_path: Path
) -> None:
    hu = np.full((5, 16, 16), -1000, np.int16)
    hu[:, 4:12, 4:12] = np.arange(40, 90, 10)[:, None, None]
    labels = np.zeros(hu.shape, np.uint8)
    labels[:, 4:12, 4:12] = 33
    for n, values in enumerate((labels, hu, np.minimum(labels, 1))):
        assert sender.send(n, volume_file(tmp_path, values), ".nii.gz").json() == {"whole": True}
    assert sender.send(3, b'{"33": "vertebra"}', ".json").status_code == 415
    sender.end(passed="1")
    job = Job.objects.get(kind="read")
    assert (job.state, job.error) == ("done", "")
    row = MODELS["images"].objects.get(uid=json.loads(job.result)["image"])
    np.testing.assert_array_equal(bench.scan(row).volume.values, hu)
    page = clients["coordinator"].get(f"/case/{lesion.uid}/job/{job.uid}/").content.decode()
    assert page.count("passed over: label map") == 2
    assert "whole numbers from 0 to 33: a label map" in page
    assert "give it as labels" not in page  # there is no place for them here
    assert not list((home / "arriving").iterdir())


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ((-1000, -900), "2 volume files came that can be a CT (3x4x4 voxels of 4x1x1 mm; "),
        ((1, 33), "no CT came, but label map "),
    ],
)
def test_volume_files_of_which_none_is_the_ct_are_refused_with_the_true_reason(
    sender: Sender, tmp_path: Path, files: tuple[int, ...], said: str
) -> None:
    for n, value in enumerate(files):
        values = np.full((3, 4, 4), value, np.int16)
        values[0] = 0
        sender.send(n, volume_file(tmp_path, values), ".nii.gz")
    sender.end()
    job = Job.objects.get(kind="read")
    assert job.state == "failed"
    assert said in job.error
    assert "there is no DICOM" not in job.error


def test_what_was_passed_over_is_told(sender: Sender, lesion: Any, clients: Any) -> None:
    for n, data in enumerate(ct()):
        sender.send(n, data)
    sender.end(passed="3")
    job = Job.objects.get(kind="read")
    assert job.state == "done"
    page = clients["coordinator"].get(f"/case/{lesion.uid}/job/{job.uid}/").content.decode()
    assert "3 files that are no images were passed over." in page


@pytest.mark.parametrize("fault", [jobs.Cancelled(), KeyboardInterrupt(), ValueError("x")])
def test_nothing_waits_after_work_that_was_stopped(
    sender: Sender, lesion: Any, home: Path, fault: BaseException
) -> None:
    for n, data in enumerate(ct()):
        sender.send(n, data)
    token = sender.to["file"].split("/")[-2]

    def stopping(step: str, fraction: float) -> None:
        if step == "reading":
            raise fault

    asked = {"lesion": str(lesion.uid), "token": token, "purpose": "planning", "date": "",
             "series": ""}  # fmt: skip
    with pytest.raises(type(fault)):
        run_read(asked, "coordinator", stopping)
    assert not list((home / "arriving").iterdir())


def test_nothing_waits_for_a_lesion_that_was_taken_out(
    sender: Sender, lesion: Any, home: Path, monkeypatch: Any
) -> None:
    sender.send(0, ct(1)[0])
    monkeypatch.setattr(work_kinds, "lesion_of", Mock(side_effect=InputError("no lesion")))
    sender.end()
    assert Job.objects.get(kind="read").error == "no lesion"
    assert not list((home / "arriving").iterdir())


def test_a_path_in_a_zip_leads_nowhere(sender: Sender, home: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("../../outside.dcm", ct(1)[0])
    data = out.getvalue()
    sender.send(0, data, ".zip", at=0, of=len(data))
    sender.end()
    job = Job.objects.get(kind="read")
    assert job.state == "failed"
    assert "points outside" in job.error
    assert not list(home.rglob("outside.dcm"))


def test_more_than_is_told_is_not_taken(sender: Sender) -> None:
    answer = sender.send(0, ct(1)[0], at=0, of=10)
    assert answer.status_code == 422
    answer = sender.send(0, ct(1)[0], at=0, of=arrivals.LARGEST + 1)
    assert "more than 4 GB" in answer.json()["error"]
    assert sender.send(arrivals.MOST_FILES, ct(1)[0]).status_code == 422
    assert sender.send(0, ct(1)[0], at="x", of=3).status_code == 422


def test_who_did_not_begin_it_cannot_add_to_it(sender: Sender, clients: Any, lesion: Any) -> None:
    address = f"{sender.to['file']}0/"
    body = {"data": ct(1)[0], "content_type": "application/octet-stream"}
    assert clients["radiologist"].post(address, **body).status_code == 422
    assert clients["researcher"].post(address, **body).status_code == 403
    other = MODELS["lesions"].objects.exclude(pk=lesion.pk).first()
    moved = address.replace(str(lesion.uid), str(other.uid))
    assert clients["coordinator"].post(moved, **body).status_code == 422


def test_a_day_to_come_and_no_purpose_are_told(sender: Sender) -> None:
    sender.send(0, ct(1)[0])
    assert "has not come yet" in sender.end(date="2999-01-01").json()["error"]
    assert "what the CT is for" in sender.end(purpose="").json()["error"]


def test_without_scripts_one_file_is_sent_by_the_form(
    home: Path, lesion: Any, clients: Any, django_capture_on_commit_callbacks: Any
) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for n, data in enumerate(ct()):
            archive.writestr(f"{n}.dcm", data)
    out.seek(0)
    out.name = "ct.zip"
    see, base = clients["coordinator"], f"/case/{lesion.uid}/upload/"
    assert see.get(base).status_code == 200
    with django_capture_on_commit_callbacks(execute=True):
        answer = see.post(f"{base}whole/", {"file": out, "purpose": "after", "date": ""})
    assert answer.status_code == 302, answer.content[:3000]
    assert Job.objects.get(kind="read").error == ""
    assert MODELS["images"].objects.get(lesion=lesion, purpose="after").date is None
    nothing = see.post(f"{base}whole/", {"purpose": "after"})
    assert nothing.status_code == 422
    assert "No file came" in nothing.content.decode()


def test_what_nobody_took_in_goes(sender: Sender, home: Path, monkeypatch: Any) -> None:
    sender.send(0, ct(1)[0])
    assert len(list((home / "arriving").iterdir())) == 1
    monkeypatch.setattr(arrivals, "_KEEP_S", -1)
    arrivals.forget_old()
    assert not list((home / "arriving").iterdir())


def test_what_nobody_took_in_goes_though_nobody_uploads(
    sender: Sender, home: Path, monkeypatch: Any
) -> None:
    calendar = daily.Calendar(lambda: None)
    assert calendar.look()
    assert len(list((home / "arriving").iterdir())) == 1
    monkeypatch.setattr(arrivals, "_KEEP_S", -1)
    assert calendar.look()  # on the same day
    assert not list((home / "arriving").iterdir())


_FILL = """
from trocar.web import serve
serve.prepare()
from trocar.io.records import example_study
from trocar.registry import store
from trocar.registry.models import MODELS
serve.make_account("radiologist", {password!r}, role="radiologist", who="trocar", specialty="")
store.take_in(example_study(), who="trocar", why="example")
print(f"case/{{MODELS['lesions'].objects.order_by('pk').first().uid}}/")
"""


@pytest.mark.browser
@pytest.mark.slow
def test_the_folder_of_a_disc_is_taken_with_what_lies_beside_its_images(tmp_path: Path) -> None:
    disc, nothing = tmp_path / "disc", tmp_path / "nothing"
    for folder in (disc, nothing):
        folder.mkdir()
        (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1" + bytes(6000))
        (folder / "autorun.inf").write_text("[autorun]\nopen=viewer.exe\n")
        (folder / "viewer.exe").write_bytes(b"MZ" + bytes(9 << 20))  # more than a piece
    for n, data in enumerate(ct()):
        (disc / f"IM{n}").write_bytes(data)
    filling = _FILL.format(password=browsing.PASSWORD)
    with (
        browsing.launched(*browsing.NO_GL) as chromium,
        browsing.served(tmp_path / "home", filling) as (address, told),
    ):
        tab = chromium.new_page()
        browsing.logged_in(tab, address, "radiologist")

        def send(what: str, place: Path) -> None:
            tab.goto(f"{address}{told.split()[-1]}upload/")
            tab.set_input_files(what, place)
            tab.click("#send")

        # All of it, or the only file: why is told, and nothing is read.
        for what, place in (("#folder", nothing), ("#file", nothing / "viewer.exe")):
            send(what, place)
            tab.wait_for_selector("#refused:not([hidden])")
            assert "is no image" in tab.inner_text("#refused")
        send("#folder", disc)
        tab.wait_for_selector(".alert.ok, .alert.stop", timeout=120_000)
        assert "3 files that are no images were passed over." in tab.inner_text("main")
