"""Nothing that people read acts on them: control, bidirectional and unseen characters, forged
lines."""

import ast
import json
from pathlib import Path

import pytest

from align.config import DataSource
from align.config.recipe import load_recipe
from align.data.load import load_instructions
from align.messages import json_text, one_line, tell, visible
from align.messages.errors import ConfigError, DataError
from align.messages.visible import SHOWN_CHARACTERS
from align.runs.command import exit_code_of
from align.runs.tracking import Tracker

ROOT = Path(__file__).parents[3]
ACTING = [chr(code) for code in (*range(0x0A), *range(0x0B, 0x20), 0x7F, *range(0x80, 0xA0))]
ACTING += [*"\u00ad\u034f\u061c\u115f\u1160\u17b4\u180e\u200b\u200e\u200f\u2028\u2029"]
ACTING += [*map(chr, (*range(0x202A, 0x202F), *range(0x2060, 0x2070)))]
ACTING += [*"\u3164\ufeff\uffa0\u2800\U000e0041\U000e0100\ud800\ue000\ufdd0"]


def test_every_acting_character_is_shown_and_none_is_left():
    for character in ACTING:
        shown = visible(f"a{character}b")
        assert character not in shown
        assert shown.startswith("a")
        assert shown.endswith("b")
    assert visible("\x1b]0;x\x07 \x9b31m \x7f \u202e") == "␛]0;x␇ ⟨U+009B⟩31m ␡ ⟨U+202E⟩"


@pytest.mark.parametrize(
    "text",
    [
        "한글과 English, 漢字 かな é ñ €",
        "한글",
        "👨‍👩‍👧 ❤️ 👍🏽 🇰🇷",
        "می‌خواهم",
        "क्‍ष",
        "a\nb",
        "Ünïcode — “quotes” ´",
    ],
)
def test_what_people_write_stays_as_it_is(text):
    assert visible(text) == text


def test_a_joiner_between_letters_that_do_not_join_is_shown():
    assert visible("pass\u200dword") == "pass⟨U+200D⟩word"
    assert visible("\u200d") == "⟨U+200D⟩"


def test_a_value_is_one_line_and_has_an_end():
    assert one_line("a\r\nerror: forged") == "a␍␊error: forged"
    cut = one_line("x" * 5000)
    assert cut == "x" * SHOWN_CHARACTERS + f" … ({5000 - SHOWN_CHARACTERS} more characters)"


def test_making_visible_twice_changes_nothing():
    text = "".join(ACTING)
    assert visible(visible(text)) == visible(text)


def test_json_for_people_reads_back_as_it_was():
    value = {"a\x1b\u202e": ["\x9b", "\u2028", "한글", "👨‍👩‍👧", "\U000e0041", 'q"\\'], "b": 1.5}
    text = json_text(value)
    assert json.loads(text) == value
    assert visible(text) == text
    assert "한글" in text


FORGED = "\nerror: all is well\x1b]0;owned\x07\u202e"


def test_a_key_of_a_row_forges_no_line(tmp_path, capsys):
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({FORGED: "x"}) + "\n" + json.dumps({"prompt": 1, FORGED: 2}) + "\n")
    code = exit_code_of(lambda: len(load_instructions(DataSource(path=str(file)))))
    assert code == DataError.exit_code
    told = capsys.readouterr().err
    assert visible(told) == told
    assert not [line for line in told.split("\n") if line.startswith("error: all is well")]


def test_the_name_of_a_file_forges_no_line(tmp_path, capsys):
    for name in (f"data{FORGED.replace('/', '')}.jsonl", f"data{FORGED}.exe"):
        file = tmp_path / name
        file.write_text('{"prompt": ""}\n[1]\n')
        assert exit_code_of(lambda: len(load_instructions(DataSource(path=str(file))))) == 3  # noqa: B023
    told = capsys.readouterr().err
    assert visible(told) == told
    assert not [line for line in told.split("\n") if line.startswith("error: all is well")]


def test_a_key_of_a_recipe_forges_no_line(tmp_path, capsys):
    file = tmp_path / "recipe.yaml"
    file.write_text(f"{json.dumps(FORGED)}: 1\nsft: {{{json.dumps('x' + FORGED)}: 2}}\n")

    def read():
        load_recipe(file)
        return 0

    assert exit_code_of(read) == ConfigError.exit_code
    told = capsys.readouterr().err
    assert visible(told) == told
    assert not [line for line in told.split("\n") if line.startswith("error: all is well")]


def test_what_others_raise_is_one_line_in_an_error_of_ours():
    error = ConfigError("{path}: {error}; mend it", path="a", error=ValueError("x" + FORGED))
    assert str(error).count("\n") == 0
    nested = DataError("{where}: {error}", where="f:1", error=ConfigError("one\ntwo"))
    assert str(nested) == "f:1: one\ntwo"


def test_the_terminal_gets_no_acting_character(capsys):
    tell("answer \x1b[2J\u202e")
    assert capsys.readouterr().out == "answer ␛[2J⟨U+202E⟩\n"


def test_a_note_beside_the_progress_is_one_line(tmp_path, capsys):
    with Tracker(tmp_path, "sft") as tracker:
        tracker.note("moved\nerror: \x1b[2J")
    assert capsys.readouterr().out == "moved␊error: ␛[2J\n"


WRITERS = {"align/messages/visible.py", "align/config/methods.py", "stages/rules.py"}
"""May print: the one place, and two that speak to make."""


def test_nothing_is_printed_but_through_the_one_place():
    found = []
    for path in (p for top in ("align", "stages") for p in (ROOT / top).rglob("*.py")):
        place = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Name) and node.id == "print" and place not in WRITERS:
                found.append(f"{place}:{node.lineno}")
    assert not found
