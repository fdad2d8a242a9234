"""Keep a study as plain files, spoil one cell, and be told where; then read the example inside.

Run: python examples/ex03_keep_a_study.py [FOLDER]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from trocar.errors import InputError
from trocar.io.records import example_study, read_study, write_study
from trocar.model.course import PainScore, Procedure
from trocar.model.patient import PainfulLesion, Patient
from trocar.model.study import Study, StudyInfo


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()) / "our-study"
    study = Study(
        info=StudyInfo(study_id="ours", title="One lesion, to begin with"),
        patients=(Patient(patient_id="P1", sex="female", age_years=61, primary="breast"),),
        lesions=(PainfulLesion(lesion_id="P1-L3", patient_id="P1", site="L3"),),
        procedures=(
            Procedure(
                procedure_id="1",
                lesion_id="P1-L3",
                date="2024-05-06",
                techniques=("radiofrequency", "cement"),
            ),
        ),
        pain=(
            PainScore(lesion_id="P1-L3", day=0, low=9, high=10),  # "nine to ten"
            PainScore(lesion_id="P1-L3", day=7, low=2),
        ),
    )
    write_study(folder, study)
    print("kept as", ", ".join(sorted(file.name for file in folder.iterdir())))
    print("read back the same:", read_study(folder) == study)

    pain = folder / "pain.csv"
    pain.write_text(pain.read_text().replace("7,2,", "7,two,"))
    try:
        read_study(folder)
    except InputError as error:
        print(error)

    for record in example_study():
        before = record.course.pain.before
        last = record.course.pain.scores[-1]
        print(
            f"lesion {record.lesion_id}, {record.lesion.site}: pain "
            f"{'not known' if before is None else before} before, {last} on day {last.day:g}"
        )


if __name__ == "__main__":
    main()
