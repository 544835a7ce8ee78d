"""`align new` on forty rows of one's own: what it writes is a recipe that a run can use."""

import csv
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from align.config.recipe import load_recipe
from align.data import load_instructions, load_preferences, load_prompts, prompt_key
from stages.cli.texts import TEXTS
from stages.command import main

ROOT = Path(__file__).parents[3]
KOREAN = [
    {"prompt": f"{n}에 {n + 1}을 더하면?", "chosen": f"{2 * n + 1}입니다.", "rejected": f"몰라 {n}"}
    for n in range(40)
]
ENGLISH = [
    {"instruction": f"Name the number after {n}.", "input": "", "output": f"It is {n + 1}."}
    for n in range(40)
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a space and Hangul in its name, in which the command runs."""
    place = tmp_path / "내 자료 1"
    place.mkdir()
    monkeypatch.chdir(place)
    for name in ("ALIGN_LANG", "LC_ALL", "LANG"):
        monkeypatch.delenv(name, raising=False)
    return place


def write_jsonl(path, rows):
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path.name


def write_csv(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path.name


def keys(rows):
    return {prompt_key(row.prompt) for row in rows}


def test_forty_korean_pairs_feed_every_stage_and_a_fifth_of_the_prompts_is_never_trained_on(
    folder, capsys
):
    file = write_jsonl(folder / "내 쌍.jsonl", KOREAN)
    assert main(["new", "나의", "--preferences", file, "--language", "ko"]) == 0
    recipe = load_recipe(Path("나의.yaml"))
    assert recipe.name == "나의"
    data = recipe.data
    trained = load_preferences(data.preferences)
    heldout = load_preferences(data.preferences_heldout)
    assert len(trained) + len(heldout) == 40
    assert 2 <= len(heldout) <= 16
    assert keys(load_instructions(data.instructions)) == keys(trained)
    assert keys(load_prompts(data.prompts)) == keys(trained)
    assert keys(load_prompts(data.evaluation)) == keys(heldout)
    assert (recipe.ppo.iterations, recipe.ppo.kl_coef, recipe.ppo.learning_rate) == (10, 0.3, 1e-4)
    told = capsys.readouterr().out
    assert "preferences: 내 쌍.jsonl: 40행, preference" in told
    assert "다음 명령: align run '나의.yaml'" in told
    text = Path("나의.yaml").read_text(encoding="utf-8")
    assert "보상 모델과 DPO가 배우는 선호 쌍" in text
    assert "\\u" not in text


def test_forty_english_instructions_train_sft_and_give_the_prompts(folder, capsys):
    file = write_csv(folder / "my rows.csv", ENGLISH)
    assert main(["new", "mine", "--instructions", file, "--full", "--device", "cpu"]) == 0
    recipe = load_recipe(Path("mine.yaml"))
    trained = keys(load_instructions(recipe.data.instructions))
    evaluated = keys(load_prompts(recipe.data.evaluation))
    assert keys(load_prompts(recipe.data.prompts)) == trained
    assert len(trained) + len(evaluated) == 40
    assert not trained & evaluated
    assert recipe.data.preferences.path == str(ROOT / "data/tiny/preferences.jsonl")
    assert recipe.data.preferences_heldout.path == str(ROOT / "data/tiny/preferences.test.jsonl")
    told = capsys.readouterr().out
    assert "instructions: my rows.csv: 40 rows, alpaca" in told
    assert "preferences: none given; those of the embedded world are used" in told
    assert (recipe.sft.lora, recipe.model.device) == (None, "cpu")


@pytest.mark.parametrize(
    "file, option, layout",
    [("도서관.jsonl", "--preferences", "preference"), ("library.csv", "--instructions", "prompt")],
)
def test_a_librarians_forty_rows_make_a_recipe(folder, capsys, file, option, layout):
    (folder / file).write_bytes((Path(__file__).parent / "own" / file).read_bytes())
    assert main(["new", "내 도서관", option, file]) == 2  # a space is no name of a run
    assert main(["new", "도서관", option, file]) == 0
    assert f"{file}: 40 rows, {layout}" in capsys.readouterr().out
    assert load_recipe(Path("도서관.yaml")).name == "도서관"


def test_instructions_that_ask_what_is_held_out_of_the_pairs_are_held_out_too(folder):
    pairs = write_jsonl(folder / "pairs.jsonl", KOREAN)
    rows = [{"prompt": row["prompt"], "response": row["chosen"]} for row in KOREAN]
    answers = write_jsonl(folder / "answers.jsonl", rows)
    assert main(["new", "a", "--preferences", pairs, "--instructions", answers]) == 0
    data = load_recipe(Path("a.yaml")).data
    assert not keys(load_instructions(data.instructions)) & keys(load_prompts(data.evaluation))
    others = write_csv(folder / "others.csv", ENGLISH)
    assert main(["new", "b", "--preferences", pairs, "--instructions", others]) == 0
    assert len(load_instructions(load_recipe(Path("b.yaml")).data.instructions)) == 40


def test_own_prompts_are_split_and_an_own_evaluation_leaves_all_of_them_to_ppo(folder):
    pairs = write_jsonl(folder / "pairs.jsonl", KOREAN)
    asked = write_csv(folder / "asked.csv", [{"prompt": f"Tell me {n}"} for n in range(40)])
    assert main(["new", "a", "--preferences", pairs, "--prompts", asked]) == 0
    data = load_recipe(Path("a.yaml")).data
    left, right = keys(load_prompts(data.prompts)), keys(load_prompts(data.evaluation))
    assert len(left) + len(right) == 40
    assert not left & right
    own = write_csv(folder / "own.csv", [{"prompt": f"And {n}?"} for n in range(4)])
    given = ["--preferences", pairs, "--prompts", asked, "--evaluation", own]
    assert main(["new", "b", *given]) == 0
    data = load_recipe(Path("b.yaml")).data
    assert len(load_prompts(data.prompts)) == 40
    assert len(load_prompts(data.evaluation)) == 4


def test_without_any_file_the_recipe_is_of_the_embedded_world(folder, capsys):
    assert main(["new", "world", "--lora"]) == 0
    recipe = load_recipe(Path("world.yaml"))
    assert recipe.sft.lora is not None and recipe.ppo.lora is not None
    assert (recipe.ppo.iterations, recipe.ppo.kl_coef) == (30, 0.1)
    assert len(load_prompts(recipe.data.evaluation)) == 480
    assert main(["doctor", "world.yaml"]) == 0
    assert "fault" not in capsys.readouterr().out


def test_how_long_and_how_fast_is_left_to_the_number_of_rows(folder):
    few = write_jsonl(folder / "few.jsonl", KOREAN)
    assert main(["new", "few", "--preferences", few]) == 0
    recipe = load_recipe(Path("few.yaml"))
    assert {**recipe.sft.trainer, **recipe.reward.trainer, **recipe.dpo.trainer} == {}
    text = Path("few.yaml").read_text(encoding="utf-8")
    assert "chosen by the number of rows" in text and "align settings dpo.trainer" in text


@pytest.mark.parametrize(
    "arguments, code, told",
    [
        (["taken"], 2, "error: taken.yaml: exists already and is kept; give another NAME"),
        (["taken.yaml"], 2, "error: taken.yaml: exists already and is kept; give another NAME"),
        (["a/b"], 2, "error: NAME=a/b: names the recipe and its run directory"),
        (["x", "--base", "some/model"], 2, "error: base=some/model: no such folder or GGUF file"),
        (["x", "--base", "."], 2, "error: base=.: has no config.json; give a folder"),
        (["x", "--preferences", "no.csv"], 3, "error: preferences=no.csv: no such file; give a"),
        (["x", "--preferences", "empty.csv"], 3, "error: empty.csv: no rows; put at least one"),
        (["x", "--instructions", "odd.csv"], 3, "error: odd.csv:2: row: columns a, b fit no known"),
        (["x", "--device", "gpu"], 2, "error: device=gpu: choose auto, cpu, cuda"),
        (["x", "--language", "fr"], 2, "error: language=fr: choose en, ko"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_nothing_is_written(
    folder, capsys, arguments, code, told
):
    Path("taken.yaml").write_text("mine", encoding="utf-8")
    Path("empty.csv").write_text("prompt,chosen,rejected\n", encoding="utf-8")
    Path("odd.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert main(["new", *arguments]) == code
    errors = capsys.readouterr().err
    assert errors.startswith(told)
    assert errors.count("\n") == 1
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_model_on_the_hub_is_named_with_its_commit_and_trained_with_lora(folder):
    given = ["--base", "Some/Model-1B", "--revision", "0123456789"]
    assert main(["new", "hub", *given]) == 0
    recipe = load_recipe(Path("hub.yaml"))
    assert (recipe.model.path, recipe.model.revision) == ("Some/Model-1B", "0123456789")
    assert recipe.sft.lora is not None


@pytest.mark.parametrize(
    "config, longest",
    [
        ({"max_position_embeddings": 128}, 128),
        ({"n_positions": 256}, 256),
        ({"text_config": {"max_position_embeddings": 100}}, 100),
        ({"max_position_embeddings": 8192}, 512),
        (
            {
                "max_position_embeddings": 4096,
                "rope_parameters": {"original_max_position_embeddings": 300},
            },
            300,
        ),
    ],
)
def test_rows_are_no_longer_than_the_positions_of_the_model(folder, config, longest):
    Path("base").mkdir()
    Path("base/config.json").write_text(json.dumps(config), encoding="utf-8")
    assert main(["new", "mine", "--base", "base"]) == 0
    recipe = load_recipe(Path("mine.yaml"))
    assert {recipe.sft.max_length, recipe.reward.max_length, recipe.dpo.max_length} == {longest}
    assert recipe.ppo.max_new_tokens <= longest // 4


@pytest.mark.parametrize(
    "file", ["null.jsonl", "a: b.jsonl", "#1.jsonl", "1e5.jsonl", "가 나.jsonl", 'it\'s "so".jsonl']
)
def test_any_file_name_is_read_back_as_it_was_given(folder, file):
    write_jsonl(folder / file, KOREAN)
    assert main(["new", "mine", "--preferences", file]) == 0
    assert load_recipe(Path("mine.yaml")).data.preferences.path == file


def test_every_text_is_there_in_both_languages_with_the_same_placeholders():
    for english, korean in TEXTS.values():
        assert sorted(re.findall(r"{\w+}", english)) == sorted(re.findall(r"{\w+}", korean))
        assert re.search("[가-힣]", korean) and not re.search("[가-힣]", english)


def converse(folder, arguments, answers):
    """Run the command on a terminal; answer when a question ends with `: `; return code, screen."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "stages.command", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    screen, waiting, deadline = "", list(answers), time.monotonic() + 120
    try:
        while time.monotonic() < deadline:
            ready = select.select([master], [], [], 1.0)[0]
            try:
                part = os.read(master, 4096).decode("utf-8", "replace") if ready else ""
            except OSError:  # the other end is closed
                break
            screen += part
            if part.rstrip(" ").endswith(":") and waiting:
                os.write(master, waiting.pop(0).encode())
            if not part and process.poll() is not None:
                break
        return process.wait(timeout=10), screen
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        os.close(master)


def test_on_a_terminal_it_asks_and_a_wrong_answer_is_asked_again(folder):
    file = write_jsonl(folder / "쌍.jsonl", KOREAN)
    answers = ["ko\n", "\n", "\n", "missing.csv\n", f"{file}\n", "\n", "lora\n", "cpu\n"]
    code, screen = converse(folder, ["new", "asked"], answers)
    assert code == 0, screen
    assert "preferences=missing.csv: no such file" in screen
    assert "장치 (auto: 있으면 GPU, cpu, cuda) [auto]:" in screen
    recipe = load_recipe(Path("asked.yaml"))
    assert recipe.data.preferences.path == file
    assert (recipe.model.device, recipe.ppo.lora is not None) == ("cpu", True)


def test_the_end_of_the_input_at_a_question_writes_nothing(folder):
    code, screen = converse(folder, ["new", "asked"], ["\x04"])
    assert code == 2, screen
    told = "error: nothing was written: an answer is missing; give options"
    assert screen.splitlines()[1:] == [told]
    assert not list(folder.iterdir())
