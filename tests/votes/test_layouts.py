"""A file of every layout that people have goes to the same table; what is none is refused."""

import pytest

from stages.config.errors import UserError
from stages.votes.layouts import LAYOUTS
from tests.support.places import REPO
from tests.support.raw import frame, kaggle, written

ASK = {"role": "user", "content": "Why is the sky blue?"}
GOOD, BAD = (
    {"role": "assistant", "content": "It scatters blue light."},
    {"role": "assistant", "content": "It is paint."},
)
TALK = [ASK, GOOD, {"role": "user", "content": "And at dusk?"}]
RED, GREEN = (
    {"role": "assistant", "content": "Then red is left."},
    {"role": "assistant", "content": "Green, of course."},
)
SINGLE = (["Why is the sky blue?"], ["It scatters blue light."], ["It is paint."])
DOUBLE = (
    ["Why is the sky blue?", "And at dusk?"],
    ["It scatters blue light.", "Then red is left."],
    ["It scatters blue light.", "Green, of course."],
)
TEXTS = {"prompt": ASK["content"], "response_a": GOOD["content"], "response_b": BAD["content"]}


def turns(battles, place=0):
    return tuple(battles[name][place] for name in ("prompt", "response_a", "response_b"))


def targets(battles):
    return battles[["target_a", "target_b", "target_tie"]].to_numpy().round(6).tolist()


# Each: the layout, rows, the turns of the first battle, and the targets of all.
A, B, TIE = [1, 0, 0], [0, 1, 0], [0, 0, 1]
KNOWN = {
    "kaggle, lists": (
        "kaggle",
        [kaggle(1), kaggle(2, "b"), kaggle(3, "tie")],
        (["question 1"], ["yes"], ["no"]),
        [A, B, TIE],
    ),
    "kaggle, plain texts": (
        "kaggle",
        [kaggle(1, **TEXTS), kaggle(2, "b", **TEXTS)],
        SINGLE,
        [A, B],
    ),
    "kaggle, lists as Python writes them": (
        "kaggle",
        [
            kaggle(n, v, prompt=repr(["it's", "so"]), response_a="['a', None]")
            for n, v in ((1, "a"), (2, "b"))
        ],
        (["it's", "so"], ["a", ""], ["no", ""]),
        [A, B],
    ),
    "kaggle, shares": (
        "kaggle",
        [
            kaggle(1, winner_model_a="0.25", winner_model_b="0.25", winner_tie="0.5"),
            kaggle(2, "a"),
            kaggle(3, "b"),
        ],
        (["question 1"], ["yes"], ["no"]),
        [[0.25, 0.25, 0.5], A, B],
    ),
    "WSDM": (
        "winner",
        [{"id": "1", **TEXTS, "winner": "model_a"}, {"id": "2", **TEXTS, "winner": "model_b"}],
        SINGLE,
        [A, B],
    ),
    "arena": (
        "arena",
        [
            {"conversation_a": [*TALK, RED], "conversation_b": [*TALK, GREEN], "winner": winner}
            for winner in ("model_a", "model_b", "tie", "tie (bothbad)", "both_bad")
        ],
        DOUBLE,
        [A, B, TIE, TIE, TIE],
    ),
    "arena, content parts": (
        "arena",
        [
            {
                "conversation_a": [
                    {
                        "role": "user",
                        "content": [{"type": "text", "text": "Look:"}, {"type": "image"}],
                    },
                    {"role": "assistant", "content": [{"type": "text", "text": "A cat."}]},
                ],
                "conversation_b": [
                    {
                        "role": "user",
                        "content": [{"type": "text", "text": "Look:"}, {"type": "image"}],
                    },
                    {"role": "assistant", "content": None, "tool_calls": [{"name": "zoom"}]},
                ],
                "winner": winner,
            }
            for winner in ("model_a", "model_b")
        ],
        (["Look:\n\n[image]"], ["A cat."], ["[tool call]"]),
        [A, B],
    ),
    "chosen, conversational with a prompt": (
        "chosen",
        [{"prompt": TALK, "chosen": [RED], "rejected": [GREEN]}] * 2,
        DOUBLE,
        None,
    ),
    "chosen, implicit prompt": (
        "chosen",
        [{"chosen": [*TALK, RED], "rejected": [*TALK, GREEN]}] * 2,
        DOUBLE,
        None,
    ),
    "chosen, UltraFeedback": (
        "chosen",
        [
            {
                "prompt": ASK["content"],
                "prompt_id": f"{n}",
                "chosen": [ASK, GOOD],
                "rejected": [ASK, BAD],
                "score_chosen": 8.0,
                "score_rejected": 2.0,
            }
            for n in range(2)
        ],
        SINGLE,
        None,
    ),
    "chosen, RewardBench": (
        "chosen",
        [
            {
                "id": n,
                "prompt": ASK["content"],
                "chosen": GOOD["content"],
                "rejected": BAD["content"],
            }
            | {"chosen_model": "x", "rejected_model": "y", "subset": "chat"}
            for n in range(2)
        ],
        SINGLE,
        None,
    ),
    "hh-rlhf": (
        "chosen",
        [
            {
                "chosen": "\n\nHuman: Why is the sky blue?\n\nAssistant: It scatters blue light.",
                "rejected": "\n\nHuman: Why is the sky blue?\n\nAssistant: It is paint.",
            }
        ]
        * 2,
        SINGLE,
        None,
    ),
    "HelpSteer2": (
        "helpsteer2",
        [
            {
                "prompt": TEXTS["prompt"],
                "response_1": TEXTS["response_a"],
                "response_2": TEXTS["response_b"],
            }
            | {"preference_strength": grade}
            for grade in (-3, 1, 0)
        ],
        SINGLE,
        [A, [0.3, 0.7, 0], TIE],
    ),
    "HelpSteer3": (
        "helpsteer3",
        [
            {"context": TALK, "response1": RED["content"], "response2": GREEN["content"]}
            | {
                "overall_preference": -2,
                "individual_preference": [{"score": -2}, {"score": None}, {"score": 3}],
            }
        ],
        DOUBLE,
        [[0.85, 0.15, 0], B],
    ),
    "Auto-J": (
        "auto_j",
        [
            {
                "prompt": TEXTS["prompt"],
                "response 1": TEXTS["response_a"],
                "response 2": TEXTS["response_b"],
            }
            | {"label": label}
            for label in (0, 1, 2)
        ],
        SINGLE,
        [A, B, TIE],
    ),
    "PandaLM": (
        "pandalm",
        [
            {"instruction": "Why is the sky blue?", "input": "", "response1": GOOD["content"]}
            | {"response2": BAD["content"], "annotator1": 1, "annotator2": 2, "annotator3": 0}
        ],
        SINGLE,
        [A, B, TIE],
    ),
    "LLMBar": (
        "llmbar",
        [
            {
                "input": TEXTS["prompt"],
                "output_1": GOOD["content"],
                "output_2": BAD["content"],
                "label": n,
            }
            for n in (1, 2)
        ],
        SINGLE,
        [A, B],
    ),
    "SHP": (
        "shp",
        [
            {
                "history": TEXTS["prompt"],
                "human_ref_A": GOOD["content"],
                "human_ref_B": BAD["content"],
            }
            | {"labels": n}
            for n in (1, 0)
        ],
        SINGLE,
        [A, B],
    ),
    "PKU-SafeRLHF": (
        "safe_rlhf",
        [
            {"prompt": TEXTS["prompt"], "response_0": GOOD["content"], "response_1": BAD["content"]}
            | {"better_response_id": n}
            for n in (0, 1)
        ],
        SINGLE,
        [A, B],
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_layout_is_recognised_and_read(tmp_path, name):
    layout, rows, first, wanted = KNOWN[name]
    part = written(tmp_path, rows)
    battles = frame(part)
    assert part.layout.startswith(f"{layout} (") and part.quarantine.empty
    if wanted:
        assert targets(battles) == wanted and turns(battles) == first
        assert part.counts["votes_dealt"] == 0
        return
    assert part.counts["votes_dealt"] == len(battles) == 2
    for place, target in enumerate(targets(battles)):  # the chosen answer wins on either side
        prompt, a, b = turns(battles, place)
        assert (prompt, a, b) == (first if target == A else (first[0], first[2], first[1]))


def test_any_table_is_read_by_names_and_values_from_params(tmp_path):
    rows = [
        {"q": "Why?", "left": "So.", "right": "No.", "better": value} for value in ("L", "R", "=")
    ]
    columns = {"prompt": "q", "response_a": "left", "response_b": "right", "label": "better"}
    labels = {"L": "a", "R": "b", "=": "tie"}
    battles = frame(written(tmp_path, rows, columns=columns, labels=labels))
    assert targets(battles) == [A, B, TIE] and turns(battles) == (["Why?"], ["So."], ["No."])
    soft = labels | {"=": [0.4, 0.4, 0.2]}
    assert targets(frame(written(tmp_path, rows, columns=columns, labels=soft)))[2] == [
        0.4,
        0.4,
        0.2,
    ]


@pytest.mark.parametrize(
    ("rows", "settings", "parts"),
    [
        (
            [{"question": "Why?", "one": "So.", "two": "No."}],
            {},
            ["question, one, two", "data.columns"],
        ),
        ([kaggle(1)], {"format": "kagle"}, ["'kagle' is not known", "auto or kaggle"]),
        ([kaggle(1)], {"columns": {"promt": "x"}}, ["promt is no column of ours"]),
        (
            [{**TEXTS, "winner": value} for value in ("left", "right")],
            {},
            ["its votes cannot be read", "winner is 'left'", "data.labels"],
        ),
    ],
)
def test_what_is_no_known_layout_is_refused_in_words(tmp_path, rows, settings, parts):
    with pytest.raises(UserError) as error:
        written(tmp_path, rows, **settings)
    assert all(part in str(error.value) for part in parts), error.value


def test_labels_are_no_advice_for_a_grade_that_is_missing(tmp_path):
    row = {"context": [ASK], "response1": "So.", "response2": "No.", "overall_preference": None}
    with pytest.raises(UserError, match="overall_preference is None: expected 0, -1 ") as error:
        written(tmp_path, [row | {"individual_preference": [{"score": None}]}])
    assert "data.labels" not in str(error.value) and "Mend these values" in str(error.value)


def test_what_a_row_knows_beside_its_vote_is_kept(tmp_path):
    row = {"conversation_a": [{"role": "system", "content": "Be brief."}, *TALK, RED]}
    row |= {"conversation_b": [*TALK, GREEN], "question_id": "q7", "judge": "arena_user_3"}
    row |= {"model_a": "x", "model_b": "y", "language": "English"}
    part = written(tmp_path, [row | {"winner": "tie (bothbad)"}, row | {"winner": "model_a"}])
    battles = frame(part)
    assert battles.system.tolist() == ["Be brief."] * 2, "and no turn of the prompt"
    assert battles.prompt[0] == DOUBLE[0] and battles.both_bad.tolist() == [True, False]
    assert battles[["annotator", "language", "model_a", "model_b"]].values[0].tolist() == [
        *("arena_user_3", "English", "x", "y")
    ]
    assert battles.id.tolist() == ["q7", "q7#2"] and part.counts["ids_made_unique"] == 1
    assert battles.source.unique().tolist() == ["votes"] and battles.weight.tolist() == [1, 1]


def test_one_answer_to_several_turns_is_that_to_the_last(tmp_path):
    rows = [{"prompt": TALK, "response_a": RED["content"], "response_b": GREEN["content"]}]
    rows = [rows[0] | {"winner": winner} for winner in ("model_a", "model_b")]
    assert turns(frame(written(tmp_path, rows))) == DOUBLE


@pytest.mark.parametrize(
    "asked",
    [
        {"question": ASK["content"], "system": "Be brief."},
        {"instruction": ASK["content"], "input": "", "system": "Be brief."},
        {"messages": [{"role": "system", "content": "Be brief."}, ASK]},
        {"conversations": [{"from": "human", "value": ASK["content"]}], "system": "Be brief."},
    ],
)
@pytest.mark.parametrize("answers", [(GOOD["content"], BAD["content"]), (GOOD, BAD)])
def test_chosen_and_rejected_answers_stand_beside_a_prompt_of_any_name(tmp_path, asked, answers):
    """None is read as the beginning that two answers share."""
    chosen, rejected = answers
    rows = [asked | {"id": n, "chosen": chosen, "rejected": rejected} for n in range(2)]
    battles = frame(written(tmp_path, rows))
    assert battles.system.tolist() == ["Be brief."] * 2
    for place, label in enumerate(battles.label):
        prompt, *sides = turns(battles, place)
        assert (prompt, sides[label]) == ([ASK["content"]], [GOOD["content"]])


def test_transcripts_among_plain_prompts_are_read_as_such(tmp_path):
    talk = "Why?\n<extra_id_1>Assistant\nSo.\n<extra_id_1>User\nAnd at dusk?"
    answers = {"response_1": "Red.", "response_2": "Green."}
    rows = [
        {"prompt": prompt, **answers, "preference_strength": strength}
        for prompt, strength in ((talk, -1), ("Why?", 2), (talk, 0))
    ]
    part = written(tmp_path, rows)
    assert part.quarantine.empty
    assert turns(frame(part)) == (["Why?", "And at dusk?"], ["So.", "Red."], ["So.", "Green."])
    assert turns(frame(part), 1) == (["Why?"], ["Red."], ["Green."])


def test_dealt_votes_depend_on_seed_and_id_alone(tmp_path):
    rows = [{"id": n, "prompt": f"{n}?", "chosen": "yes", "rejected": "no"} for n in range(60)]
    first, again = (frame(written(tmp_path, order)) for order in (rows, rows[::-1]))
    assert 15 < (first.label == 0).sum() < 45
    assert (first.response_a.str[0] == "yes").tolist() == (first.label == 0).tolist()
    assert first.set_index("id").label.to_dict() == again.set_index("id").label.to_dict()


def test_several_people_who_judge_a_pair_are_votes_each(tmp_path):
    _, rows, *_ = KNOWN["PandaLM"]
    battles = frame(written(tmp_path, [rows[0] | {"idx": 5}]))
    assert battles.id.tolist() == ["5/annotator1", "5/annotator2", "5/annotator3"]
    assert battles.annotator.tolist() == ["annotator1", "annotator2", "annotator3"]


def test_readme_has_a_line_for_each_layout():
    text = (REPO / "README.md").read_text(encoding="utf-8")
    missing = [
        name for name, layout in LAYOUTS.items() if f"| `{name}` | {layout.about} |" not in text
    ]
    assert not missing, [f"| `{name}` | {LAYOUTS[name].about} |" for name in missing]
