"""Words: translation, names, and what happens when a sentence lost a number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trocar.errors import InputError
from trocar.model.case import Finding, Gravity, Site
from trocar.report import words


@pytest.mark.parametrize(
    ("term", "english", "chinese"),
    [
        ("spinal_canal", "spinal canal", "椎管"),
        ("iliac_vena_left", "left iliac vein", "左側髂靜脈"),
        ("nerve root right", "right nerve root", "右側神經根"),
        ("left pedicle", "left pedicle", "左側椎弓根"),
        ("posterior wall", "posterior wall", "後壁"),
        ("transpedicular left", "left transpedicular", "左側經椎弓根"),
        ("vertebrae_L2", "L2 vertebra", "L2 椎骨"),
        ("other_bone", "another bone", "其他骨"),
        ("pedicle_cortex", "pedicle wall", "椎弓根壁"),
        ("far_wall", "bone wall beyond the tip", "針尖前方骨壁"),
        ("rib_left_12", "left rib 12", "左側第12肋骨"),
        ("flux_capacitor", "flux capacitor", "flux capacitor"),
    ],
)
def test_names(term: str, english: str, chinese: str) -> None:
    assert words.name(term, "en") == english
    assert words.name(term, "zh-Hant") == chinese


def test_a_site_in_words() -> None:
    assert words.site(Site.parse("acetabulum right"), "en") == "right acetabulum"
    assert words.site(Site.parse("acetabulum right"), "zh-Hant") == "右側髖臼"
    assert words.site(Site.parse("T10"), "zh-Hant") == "T10 椎骨"


def test_a_finding_is_said_in_both_languages_with_its_numbers() -> None:
    finding = Finding(
        gravity=Gravity.STOP,
        message="skin to tip is {depth:.0f} mm, more than the {limit:.0f} mm this needle reaches",
        values={"depth": 162.4, "limit": 150.0},
    )
    assert words.say(finding, "en") == str(finding)
    assert words.say(finding, "zh-Hant") == "皮膚至針尖 162 mm，超出此針可達的 150 mm"


def test_an_untranslated_sentence_stays_english() -> None:
    finding = Finding(
        gravity=Gravity.NOTE, message="never heard of {what}", values={"what": "aorta"}
    )
    assert words.say(finding, "zh-Hant") == "never heard of 主動脈"


def test_a_finding_that_lost_a_number_is_still_read() -> None:
    finding = Finding(gravity=Gravity.NOTE, message="{a:.1f} of {b}", values={"b": "canal"})
    assert words.say(finding, "en") == "{a:.1f} of {b} (b: canal)"


def test_a_language_without_a_catalogue_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"'fr'.*en or zh-Hant"):
        words.catalogue("fr")


def test_untranslated_sees_missing_sentences_and_lost_places() -> None:
    assert words.untranslated(["Lesion"], "zh-Hant") == ()
    assert words.untranslated(["no such sentence"], "zh-Hant") == ("no such sentence",)


def test_every_entry_keeps_the_places_of_its_english() -> None:
    book = words.catalogue("zh-Hant")
    for table in (book.sentences, book.clauses):
        wrong = [k for k, v in table.items() if words._places(k) != words._places(v)]
        assert wrong == []


def test_a_reason_with_its_numbers_inside_is_retold() -> None:
    text = (
        "Runs through the left pedicle with 1.1 mm of bone to spare around it; 68 mm outside the "
        "bone, 32 mm in it; meets the cortex 9° from its normal; tightest margin 4.5 mm to the "
        "spinal canal (limit 2 mm); 10 G is the thickest in stock."
    )
    assert words.retell(text, "zh-Hant") == (
        "通過左側椎弓根，四周尚餘 1.1 mm 骨；骨外 68 mm，骨內 32 mm；與骨皮質法線成 9°；"
        "最窄處距椎管 4.5 mm（限度 2 mm）；10 G 為現有最粗"
    )
    refusal = "of 12 000 paths 9 000 pass closer than 5 mm to the aorta, 3 000 fail otherwise"
    assert words.retell(refusal, "zh-Hant") == (
        "在 12 000 條路徑中，9 000 條距主動脈少於 5 mm，3 000 條因其他原因不合格"
    )


def test_a_reason_is_said_in_plain_words_in_english_too() -> None:
    text = "nearest structure at risk 4.5 mm, the right iliac vena (limit 2 mm); x"
    assert words.retell(text, "en") == text.replace("vena", "vein")
    assert words.retell(text, "zh-Hant").startswith("最近的高危結構為右側髂靜脈，距離 4.5 mm")


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
def test_no_text_breaks_the_retelling_and_english_stays_as_it_is(text: str) -> None:
    words.retell(text, "zh-Hant")
    assert words.retell(text, "en") == text
