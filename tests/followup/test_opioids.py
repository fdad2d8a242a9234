from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trocar import followup as f
from trocar.errors import InputError
from trocar.followup.opioids import opioid_table
from trocar.model.course import OPIOIDS, OpioidLine
from trocar.model.study import Record

Make = Callable[..., Record]


def line(
    drug: str, dose: float, unit: str = "mg/day", route: str | None = "oral", day: float = 0
) -> OpioidLine:
    return OpioidLine(lesion_id="1", day=day, drug=drug, route=route, dose=dose, unit=unit)


NONE = line("none", 0, route=None)

# The published tables, typed again: drug, route, dose, unit -> mg by ANZCA 2021, 2014, CDC 2022.
EXAMPLES = [
    ("morphine", "oral", 30, "mg/day", 30, 30, 30),
    ("oxycodone", "oral", 40, "mg/day", 60, 60, 60),
    ("oxycodone", "rectal", 40, "mg/day", 60, 60, None),
    ("hydromorphone", "oral", 8, "mg/day", 40, 40, 40),
    ("codeine", "oral", 240, "mg/day", 31.2, 31.2, 36),
    ("dextropropoxyphene", "oral", 400, "mg/day", 40, 40, None),
    ("tramadol", "oral", 200, "mg/day", 40, 40, 40),
    ("tapentadol", "oral", 200, "mg/day", 60, 80, 80),
    ("hydrocodone", "oral", 40, "mg/day", None, None, 40),
    ("oxymorphone", "oral", 20, "mg/day", None, None, 60),
    ("buprenorphine", "sublingual", 0.4, "mg/day", 16, 16, None),
    ("buprenorphine", "transdermal", 20, "ug/h", 40, 40, None),
    ("fentanyl", "transdermal", 25, "ug/h", 75, 75, 60),
    ("morphine", "parenteral", 20, "mg/day", 60, 60, None),
    ("oxycodone", "parenteral", 20, "mg/day", 60, 60, None),
    ("hydromorphone", "parenteral", 4, "mg/day", 60, 60, None),
    ("codeine", "parenteral", 120, "mg/day", 30, 30, None),
    ("pethidine", "parenteral", 100, "mg/day", 40, 40, None),
    ("fentanyl", "parenteral", 300, "ug/day", 60, 60, None),
    ("sufentanil", "parenteral", 30, "ug/day", 60, 60, None),
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: f"{e[0]} {e[1]}")
def test_each_factor_of_each_table(
    example: tuple[str, str, float, str, float, float, float],
) -> None:
    drug, route, dose, unit, *expected = example
    for table, mg in zip(("anzca-2021", "anzca-2014", "cdc-2022"), expected, strict=True):
        found = f.omed([line(drug, dose, unit, route)], table)
        assert found.table == table
        if mg is None:
            assert found.mg_per_day is None
            assert found.not_converted[0].reason.endswith(f"no factor for {route} {drug}")
        else:
            assert found.mg_per_day == pytest.approx(mg, abs=1e-9)


def test_no_factor_is_untested() -> None:
    asked = {(e[0], e[1]) for e in EXAMPLES}
    for table in f.opioid_tables():
        assert set(opioid_table(table).factors) - asked <= {("methadone", "oral")}


def test_a_list_is_summed_and_the_table_named() -> None:
    found = f.omed(
        [line("oxycodone", 40), line("fentanyl", 25, "ug/h", "transdermal"), line("tramadol", 200)]
    )
    assert found.mg_per_day == 60 + 75 + 40
    assert [p.mg_per_day for p in found.parts] == [60, 75, 40]
    assert (found.table, found.version) == ("anzca-2021", opioid_table("anzca-2021").version)
    assert str(found) == "175 mg/day"


def test_methadone_is_converted_only_when_asked_for() -> None:
    lines = [line("methadone", 10), line("morphine", 30)]
    for table in f.opioid_tables():
        found = f.omed(lines, table)
        assert found.mg_per_day is None
        assert str(found) == "not known: methadone is not converted by itself"
        assert [p.mg_per_day for p in found.parts] == [30]
    assert f.omed(lines, "cdc-2022", convert_methadone=True).mg_per_day == 77
    assert f.omed(lines, "anzca-2021", convert_methadone=True).mg_per_day is None


def test_units_are_turned_only_where_they_make_sense() -> None:
    assert f.omed([line("morphine", 500, "ug/day", "parenteral")]).mg_per_day == 1.5
    assert f.omed([line("buprenorphine", 400, "ug/day", "sublingual")]).mg_per_day == 16
    assert f.omed([line("fentanyl", 0.3, "mg/day", "parenteral")]).mg_per_day == 60
    # an infusion of 50 ug/h is 1200 ug a day
    assert f.omed([line("fentanyl", 50, "ug/h", "parenteral")]).mg_per_day == 240
    patch = f.omed([line("fentanyl", 600, "ug/day", "transdermal")])
    assert patch.mg_per_day is None
    assert patch.not_converted[0].reason == "transdermal fentanyl is in ug/day; expected ug/h"
    assert f.omed([line("morphine", 30, "ug/h", "oral")]).mg_per_day is None


def test_silence_is_not_none() -> None:
    assert f.omed([]).mg_per_day is None
    assert not f.omed([]).recorded
    assert str(f.omed([])) == "not recorded"
    assert f.omed([NONE]).mg_per_day == 0
    assert f.omed([NONE]).recorded
    assert f.omed([NONE, line("morphine", 30)]).mg_per_day is None
    assert f.omed([line("morphine", 30, route=None)]).mg_per_day is None


def test_wrong_calls_are_refused() -> None:
    with pytest.raises(
        InputError, match="no table of opioid equivalents 'who'; choose one of anzca"
    ):
        f.omed([], "who")
    with pytest.raises(InputError, match="lines of days 0, 7"):
        f.omed([line("morphine", 30), line("morphine", 20, day=7)])
    with pytest.raises(InputError, match="convert both by one table"):
        f.opioid_change(f.omed([NONE]), f.omed([NONE], "cdc-2022"))


@given(st.sampled_from(OPIOIDS[1:]), st.sampled_from(f.opioid_tables()), st.data())
def test_a_total_is_never_too_small(drug: str, table: str, data: st.DataObject) -> None:
    route = data.draw(
        st.sampled_from([None, "oral", "rectal", "parenteral", "sublingual", "transdermal"])
    )
    unit = data.draw(st.sampled_from(["mg/day", "ug/day", "ug/h"]))
    lines = [line("morphine", 30), line(drug, 10.0, unit, route, day=0)]
    found = f.omed(lines, table)
    assert len(found.parts) + len(found.not_converted) == 2
    if found.not_converted:
        assert found.mg_per_day is None
    else:
        assert found.mg_per_day is not None
        assert found.mg_per_day > 30


@pytest.mark.parametrize(
    ("before", "after", "word", "half", "less"),
    [
        (60, 0, "stopped", True, True),
        (60, 30, "at most half", True, True),
        (60, 29, "at most half", True, True),
        (60, 31, "reduced", False, True),
        (60, 60, "same", False, False),
        (60, 61, "increased", False, False),
        (0, 0, "none before or after", None, None),
        (0, 30, "started", None, None),
        (None, 30, "not known", None, None),
        (60, None, "not known", None, None),
    ],
)
def test_what_became_of_the_opioids(
    before: float | None, after: float | None, word: str, half: bool | None, less: bool | None
) -> None:
    def regimen(mg: float | None) -> f.Omed:
        if mg is None:
            return f.omed([])
        return f.omed([line("morphine", mg) if mg else NONE])

    found = f.opioid_change(regimen(before), regimen(after))
    assert (found.word, found.at_most_half, found.decreased) == (word, half, less)
    assert found.stopped is (None if less is None else word == "stopped")


def test_the_same_regimen_in_another_order_is_the_same() -> None:
    lines = [line("codeine", 110), line("tramadol", 150), line("oxycodone", 7)]
    assert f.opioid_change(f.omed(lines), f.omed(lines[::-1])).word == "same"


def test_opioids_of_all_lesions(make_record: Make) -> None:
    rows = [
        # fentanyl patch halved at a week; the article's case 1
        make_record(
            {},
            lesion="half",
            opioids=[
                (-3, "fentanyl", "transdermal", 50, "ug/h"),
                (7, "fentanyl", "transdermal", 25, "ug/h"),
            ],
        ),
        make_record(
            {},
            lesion="stop",
            opioids=[(0, "oxycodone", "oral", 40, "mg/day"), (7, "none", None, 0, "mg/day")],
        ),
        # nothing recorded after: what was taken before is not carried past the procedure
        make_record({}, lesion="unknown", opioids=[(0, "oxycodone", "oral", 40, "mg/day")]),
        make_record(
            {},
            lesion="late",
            opioids=[(0, "morphine", "oral", 40, "mg/day"), (8, "none", None, 0, "mg/day")],
        ),
    ]
    found = f.opioid_changes(rows, 7)
    assert found.assessable == ("half", "stop")
    assert found.not_known == ("unknown", "late")
    asked = (found.proportion("stopped"), found.proportion("at most half"))
    assert [(p.x, p.n) for p in (*asked, found.proportion("any decrease"))] == [
        (1, 2),
        (2, 2),
        (2, 2),
    ]
    assert found.changes["half"].fraction == -0.5
    assert found.sentence.endswith("ANZCA Faculty of Pain Medicine, June 2021.")
