"""Rows in the layouts that people have, and the files that hold them."""

from __future__ import annotations

import json

from align.config import DataSource

USER, GOOD, BAD = "2 + 3?", "5", "6"
MESSAGES = [{"role": "user", "content": USER}, {"role": "assistant", "content": GOOD}]


def write(path, rows):
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    return path


def source(path, **settings):
    return DataSource(path=str(path), **settings)


def hh(*turns):
    names = ("Human", "Assistant")
    return "".join(f"\n\n{names[i % 2]}: {turn}" for i, turn in enumerate(turns))


INSTRUCTIONS = {
    "messages": {"messages": MESSAGES},
    "sharegpt": {
        "conversations": [{"from": "human", "value": USER}, {"from": "gpt", "value": GOOD}]
    },
    "response": {"prompt": USER, "response": GOOD},
    "completion": {"prompt": MESSAGES[:1], "completion": GOOD},
    "alpaca": {"instruction": USER, "input": "", "output": GOOD},
    "preference": {"prompt": USER, "chosen": GOOD, "rejected": BAD},
    "hh": {"chosen": hh(USER, GOOD), "rejected": hh(USER, BAD)},
}
PREFERENCES = {
    "text": INSTRUCTIONS["preference"],
    "messages": {
        "prompt": MESSAGES[:1],
        "chosen": [{"role": "assistant", "content": GOOD}],
        "rejected": [{"role": "assistant", "content": BAD}],
    },
    "whole messages": {
        "chosen": MESSAGES,
        "rejected": [MESSAGES[0], {"role": "assistant", "content": BAD}],
    },
    "hh": INSTRUCTIONS["hh"],
}
