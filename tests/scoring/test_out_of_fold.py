"""The slices of votes by script."""

import pytest

from stages.scoring.out_of_fold import script


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What is 2 + 2?", "latin"),
        ("ｆｕｌｌ　ｗｉｄｔｈ", "latin"),
        ("𝐛𝐨𝐥𝐝", "latin"),
        ("Сколько будет 9 + 8?", "cyrillic"),
        ("データー", "cjk"),
        ("ーーー", "cjk"),
        ("々", "cjk"),
        ("ｶﾀｶﾅ", "cjk"),
        ("한국의 수도", "hangul"),
        ("2 + 2 = ? 👍", "none"),
        ("", "none"),
    ],
)
def test_every_text_has_a_script(text, expected):
    assert script(text) == expected
