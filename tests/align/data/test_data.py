"""Every format people have is read; every unusable row is named with its line and a remedy."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from align.config import DataSource
from align.data import load_instructions, load_preferences, load_prompts, prompt_key, spread
from align.messages.errors import ConfigError, DataError
from tests.align.data.written import (
    BAD,
    GOOD,
    INSTRUCTIONS,
    MESSAGES,
    PREFERENCES,
    USER,
    hh,
    source,
    write,
)

SHARED = Path(__file__).parents[4] / "shared" / "data"


OK = {"prompt": "a", "response": "b"}
UNWANTED = {"messages": [MESSAGES[0], MESSAGES[1] | {"weight": 0}]}


@pytest.mark.parametrize("format", INSTRUCTIONS)
def test_instructions_of_every_layout(tmp_path, format):
    path = write(tmp_path / "rows.jsonl", [INSTRUCTIONS[format] | {"family": "sums"}])
    (row,) = load_instructions(source(path))
    assert row.messages == MESSAGES
    assert row.where == f"{path}:1"
    assert row.extra == {"family": "sums"}


@pytest.mark.parametrize("format", PREFERENCES)
def test_preferences_of_every_layout(tmp_path, format):
    path = write(tmp_path / "rows.jsonl", [PREFERENCES[format] | {"family": "sums"}])
    (row,) = load_preferences(source(path))
    assert (row.prompt, row.chosen, row.rejected) == (MESSAGES[:1], GOOD, BAD)
    assert row.extra == {"family": "sums"}


@pytest.mark.parametrize("format", [*INSTRUCTIONS, "prompt"])
def test_prompts_of_every_layout(tmp_path, format):
    row = INSTRUCTIONS.get(format, {"prompt": USER, "id": 7})
    path = write(tmp_path / "rows.jsonl", [row | {"checks": [{"kind": "number", "answer": 5}]}])
    (prompt,) = load_prompts(source(path))
    assert prompt.messages == MESSAGES[:1]
    assert prompt.checks == [{"kind": "number", "answer": 5}]
    assert prompt.extra == ({"id": 7} if format == "prompt" else {})


def test_checks_that_are_no_list_are_refused_with_the_key_that_a_check_has(tmp_path):
    path = write(tmp_path / "rows.jsonl", [{"prompt": "1 + 1?", "checks": {"kind": "number"}}])
    with pytest.raises(DataError, match=r'rows\.jsonl:1: checks: .*write \[\{"kind": …\}, …\]'):
        load_prompts(DataSource(path=str(path)))


def test_alpaca_input_and_system_join_the_prompt(tmp_path):
    row = {"instruction": "Sort", "input": "3 1", "output": "1 3", "system": "Be brief."}
    (read,) = load_instructions(source(write(tmp_path / "rows.jsonl", [row])))
    assert [m["content"] for m in read.messages] == ["Be brief.", "Sort\n\n3 1", "1 3"]
    assert read.messages[0]["role"] == "system"


@pytest.mark.parametrize(
    ("row", "texts"),
    [
        ({"question": "a", "answer": "b"}, ["a", "b"]),
        ({"질문": "a", "답변": "b"}, ["a", "b"]),
        ({"질문": "a", "답": "b"}, ["a", "b"]),
        ({"prompt": "a", "response": "b", "답": "c", "question": "d"}, ["a", "b"]),
    ],
)
def test_columns_by_the_names_that_people_give_them(tmp_path, row, texts):
    (read,) = load_instructions(source(write(tmp_path / "rows.jsonl", [row])))
    assert [m["content"] for m in read.messages] == texts


def test_a_question_about_a_context_is_not_read_without_it(tmp_path):
    path = write(tmp_path / "rows.jsonl", [{"question": "a", "context": "b", "answer": "c"}])
    with pytest.raises(DataError, match="columns question, context, answer fit no known format"):
        load_instructions(source(path))


@pytest.mark.parametrize(
    ("row", "sound", "told"),
    [
        (
            OK | {"label": False},
            OK | {"label": True},
            "label: marks an unwanted answer",
        ),
        (OK | {"label": "False"}, OK | {"label": "entailed"}, "label: marks an unwanted"),
        (UNWANTED, {"messages": MESSAGES}, "messages[1].weight: marks an unwanted"),
    ],
)
def test_an_answer_that_is_marked_as_unwanted_is_not_learnt(tmp_path, row, sound, told):
    path = write(tmp_path / "rows.jsonl", [row, sound])
    with pytest.raises(DataError, match=re.escape(f"rows.jsonl:1: {told}")):
        load_instructions(source(path))
    (kept,) = load_instructions(source(path, max_bad_rows=1))
    assert kept.where == f"{path}:2"
    assert len(load_prompts(source(path))) == 2  # what was asked may be answered anew


def test_a_few_faults_of_one_kind_are_all_listed(tmp_path):
    path = write(tmp_path / "rows.jsonl", [OK, *[OK | {"response": ""}] * 10])
    with pytest.raises(DataError) as caught:
        load_instructions(source(path))
    assert [f"rows.jsonl:{n}: " in str(caught.value) for n in range(1, 13)] == [
        False,
        *[True] * 10,
        False,
    ]


def test_hh_turns_of_one_speaker_in_a_row_are_one_turn(tmp_path):
    chosen = "\n\nHuman: a\n\nAssistant: b\n\nAssistant: c"
    path = write(tmp_path / "rows.jsonl", [{"chosen": chosen, "rejected": hh("a", "d")}])
    (row,) = load_preferences(source(path))
    assert (row.chosen, row.rejected) == ("b\n\nc", "d")


PAIR = {"prompt": "a", "chosen": "b", "rejected": "c"}
BAD_INSTRUCTIONS = [
    (OK | {"response": ""}, "response: empty; give a text"),
    (OK | {"response": "  \n"}, "response: empty"),
    (OK | {"response": None}, "response: missing"),
    ({"prompt": "a"}, "response: missing"),
    (OK | {"prompt": 3}, "prompt: a int, not text"),
    (OK | {"prompt": []}, "prompt: empty; give a text"),
    (OK | {"response": ["x"]}, "response: a list, not text"),
    (OK | {"response": float("nan")}, "response: missing"),
    (OK | {"response": "\ud800"}, "response: holds half of a surrogate pair"),
    ([1, 2], "row: a list, not an object"),
    ("text", "row: a str, not an object"),
]
BAD_CONVERSATIONS = [
    ({"messages": []}, "messages: not a list of messages"),
    ({"messages": "hi"}, "messages: not a list of messages"),
    ({"messages": ["hi"]}, r"messages\[0\]: a str, not a message"),
    ({"messages": [{"role": "tool", "content": "x"}]}, r"messages\[0\].role: 'tool'; use system"),
    ({"messages": [{"role": ["x"], "content": "x"}]}, r"messages\[0\].role"),
    ({"messages": [{"role": "user"}]}, r"messages\[0\].content: missing"),
    ({"messages": MESSAGES[:1]}, "messages: does not end with the assistant"),
    ({"messages": MESSAGES[1:]}, "messages: turn 1 is by assistant, expected user"),
    ({"messages": MESSAGES + MESSAGES[1:]}, "messages: turn 3 is by assistant"),
]
BAD_PAIRS = [
    (PAIR | {"rejected": "b"}, "rejected: the same text as chosen; remove the row"),
    (PAIR | {"rejected": " b "}, "rejected: the same text as chosen"),
    (PAIR | {"chosen": ""}, "chosen: empty"),
    (PAIR | {"rejected": ""}, "rejected: empty"),
    ({"prompt": "a", "chosen": "b"}, "rejected: missing"),
    (PAIR | {"prompt": ""}, "prompt: empty"),
]
BAD_TRANSCRIPTS = [
    ({"chosen": hh("a", ""), "rejected": hh("a", "b")}, "chosen: empty; give a text"),
    ({"chosen": hh("a", "b"), "rejected": hh("c", "d")}, "rejected: answers another prompt"),
    ({"chosen": hh("a"), "rejected": hh("a")}, "chosen: does not end with the assistant"),
    ({"chosen": "b", "rejected": "c"}, "chosen: no hh-rlhf transcript; begin with"),
]


@pytest.mark.parametrize(
    ("load", "good", "row", "problem"),
    [(load_instructions, OK, *case) for case in BAD_INSTRUCTIONS]
    + [(load_instructions, {"messages": MESSAGES}, *case) for case in BAD_CONVERSATIONS]
    + [(load_preferences, PAIR, *case) for case in BAD_PAIRS]
    + [(load_preferences, INSTRUCTIONS["hh"], *case) for case in BAD_TRANSCRIPTS],
)
def test_a_bad_row_is_one_line_with_file_line_field_and_remedy(tmp_path, load, good, row, problem):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(r) for r in [good, row, good]), "utf-8")
    with pytest.raises(DataError, match=rf"^{path}:2: .*{problem}") as caught:
        load(source(path))
    assert "\n" not in str(caught.value)
    assert "; " in str(caught.value)
    assert len(load(source(path, max_bad_rows=1))) == 2


def test_dropped_rows_are_told_and_more_than_allowed_are_fatal(tmp_path):
    path = write(tmp_path / "rows.jsonl", [OK] + [OK | {"response": ""}] * 12)
    told = []
    assert len(load_instructions(source(path, max_bad_rows=12), warn=told.append)) == 1
    assert told[0] == (
        f"dropped {path}:2: response: empty; give a text in `response` or remove the row"
    )
    assert told[-1] == f"dropped {path}: 12 bad rows of 13: 12 × response: empty"
    with pytest.raises(DataError, match=r"12 bad rows, max_bad_rows=11; correct them, or raise"):
        load_instructions(source(path, max_bad_rows=11))


def test_a_named_column_that_is_absent_is_told(tmp_path):
    path = write(tmp_path / "rows.jsonl", [OK])
    with pytest.raises(DataError, match=r"1: q: no such column \(columns.prompt=q\); the row has"):
        load_instructions(source(path, columns={"prompt": "q"}))


def test_no_prompt_is_on_both_sides_of_a_split_in_any_layout(tmp_path):
    pairs = [{"chosen": hh(f"Q {i}", "a"), "rejected": hh(f"Q {i}", "b")} for i in range(300)]
    path = write(tmp_path / "pairs.jsonl", pairs)
    parts = {
        part: {
            load.__name__: {
                prompt_key(row.prompt) for row in load(source(path, part=part, holdout=0.2))
            }
            for load in (load_instructions, load_preferences, load_prompts)
        }
        for part in ("train", "heldout")
    }
    train, heldout = (set.union(*parts[part].values()) for part in ("train", "heldout"))
    assert not train & heldout
    assert len(train | heldout) == 300
    assert all(keys == train for keys in parts["train"].values())
    assert abs(len(heldout) / 300 - 0.2) < 0.07  # three standard deviations


def test_continuations_of_a_dialogue_stay_on_one_side():
    first = {"role": "user", "content": "Hello  there"}
    longer = [{"role": "system", "content": "s"}, {"role": "user", "content": "hello there "}]
    assert prompt_key([first]) == prompt_key([*longer, {"role": "assistant", "content": "x"}])


def test_a_part_that_holds_nothing_is_told(tmp_path):
    path = write(tmp_path / "rows.jsonl", [OK])
    with pytest.raises(DataError, match=r"none of 1 rows is in part=\w+ with holdout="):
        for part in ("train", "heldout"):
            load_instructions(source(path, part=part, holdout=0.5))


def test_max_rows_takes_the_first_good_rows(tmp_path):
    rows = [{"prompt": str(i), "response": "b"} for i in range(5)]
    read = load_instructions(source(write(tmp_path / "rows.jsonl", rows), max_rows=2))
    assert [row.messages[0]["content"] for row in read] == ["0", "1"]


@pytest.mark.skipif(not SHARED.exists(), reason="the sample data sets are not part of the project")
def test_real_data_sets_load_with_format_auto():
    pairs = source(SHARED / "hh-rlhf/harmless-base-test.jsonl.gz", max_bad_rows=4)
    assert len(load_preferences(pairs)) == 2308
    assert len(load_prompts(pairs)) > 2300
    alpaca = load_instructions(source(SHARED / "samples/alpaca_en_demo.json", max_bad_rows=9))
    assert len(alpaca) > 980


def test_a_format_that_does_not_exist_is_refused_with_the_nearest_that_does(tmp_path):
    path = write(tmp_path / "rows.jsonl", [{"prompt": "1 + 1?", "response": "2"}])
    with pytest.raises(ConfigError, match=r"rows\.jsonl: format=alpacca: .*mean `alpaca`\?"):
        load_instructions(DataSource(path=str(path), format="alpacca"))


def test_some_rows_are_spread_over_all_of_them():
    assert spread(range(7), 3) == range(0, 7, 2)
    assert spread(range(3), 5) == range(3)
    assert len(spread(range(599), 300)) == 599 and len(spread(range(600), 300)) == 300
