"""Rows of the layouts people have, turned into our three records. Pure functions of one row.

| format          | columns                                                                        |
|-----------------|--------------------------------------------------------------------------------|
| messages        | `messages` (or ShareGPT's `conversations`), a list of role and content         |
| prompt-response | `prompt` (or `question`; text or messages) and `response` (or `completion`,    |
|                 | `answer`, `output`); or `질문`, `답변`                                       |
| alpaca          | `instruction`, `input`, `output` (`system`)                                    |
| preference      | `prompt`, `chosen`, `rejected` (texts or messages); `prompt` may be left out   |
|                 | where chosen and rejected are messages that begin alike                        |
| hh-rlhf         | `chosen`, `rejected`: transcripts of `\\n\\nHuman: …` and `\\n\\nAssistant: …` |

A preference row also serves as an instruction (its chosen answer) and as a prompt.
"""

from __future__ import annotations

import json
import re
from typing import Any

from align.config.section import suggest
from align.data.rows import Instruction, Message, Preference, Prompt, RowError
from align.messages import say

FORMATS = ("messages", "prompt-response", "alpaca", "preference", "hh-rlhf")
ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant"}
RESPONSE = ("response", "completion", "answer", "output")
NAMES = {"question": "prompt", "질문": "prompt", "답변": "response", "답": "response"}
"""What people call our columns. With a `context` a question is not the whole prompt."""
_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")


def require_known(format: str) -> None:
    """Refuse a `format` that no row can have.

    Raises:
        ValueError: what to write instead.
    """
    if format not in ("auto", *FORMATS):
        raise ValueError(
            say(
                "format={format}: unknown; {suggestion}",
                format=format,
                suggestion=suggest(format, ("auto", *FORMATS)),
            )
        )


def named(row: dict[str, Any]) -> dict[str, Any]:
    """The row under our names of columns, where it lacks them."""
    if "context" in row:
        return row
    names = {theirs: ours for theirs, ours in NAMES.items() if ours not in row}
    return {names.get(name, name): value for name, value in row.items()}


def detect(row: dict[str, Any]) -> str:
    """Name the format of a row from its columns."""
    chosen = row.get("chosen")
    if "chosen" in row and "rejected" in row:
        return "hh-rlhf" if isinstance(chosen, str) and "prompt" not in row else "preference"
    if "messages" in row or "conversations" in row:
        return "messages"
    if "instruction" in row:
        return "alpaca"
    if "prompt" in row:
        return "prompt-response"
    raise RowError(
        "row",
        "columns {columns} fit no known format",
        "call them prompt and response (in pairs prompt, chosen, rejected), or name yours in the "
        "data source of the recipe, as `columns: {{prompt: request, response: reply}}`",
        columns=", ".join(map(str, row)) or "none",
    )


def instruction(row: dict[str, Any], format: str, where: str) -> Instruction:
    """Read a demonstration."""
    _refuse_unwanted(row)
    used: tuple[str, ...]
    match format:
        case "messages":
            messages, used = _conversation(row), ("messages", "conversations")
        case "alpaca":
            messages = [*_alpaca(row), _answer(_text(row, "output"))]
            used = ("instruction", "input", "output", "system")
        case "prompt-response":
            name = next((name for name in RESPONSE if name in row), RESPONSE[0])
            messages, used = [*_prompt(row), _answer(_text(row, name))], ("prompt", name)
        case _:
            pair = preference(row, format, where)
            messages, used = [*pair.prompt, _answer(pair.chosen)], ("prompt", "chosen", "rejected")
    _check_turns(messages, last="assistant", field="messages")
    return Instruction(messages, where, _rest(row, used))


def preference(row: dict[str, Any], format: str, where: str) -> Preference:
    """Read a preference pair."""
    if format == "hh-rlhf":
        chosen, rejected = _transcript(row, "chosen"), _transcript(row, "rejected")
    elif format == "preference":
        chosen, rejected = _side(row, "chosen"), _side(row, "rejected")
    else:
        raise RowError(
            "chosen, rejected", "missing", "give the better and the worse answer to each prompt"
        )
    prompt = chosen[:-1]
    if prompt != rejected[:-1]:
        raise RowError(
            "rejected", "answers another prompt than chosen", "pair answers to one prompt"
        )
    _check_turns(prompt, last="user", field="prompt")
    better, worse = chosen[-1]["content"], rejected[-1]["content"]
    for side, answer in (("chosen", better), ("rejected", worse)):
        _clean(answer, side)
    if better == worse:
        raise RowError("rejected", "the same text as chosen", "remove the row: it prefers nothing")
    return Preference(prompt, better, worse, where, _rest(row, ("prompt", "chosen", "rejected")))


def prompt(row: dict[str, Any], format: str, where: str) -> Prompt:
    """Read a prompt; an answer that follows it is left out."""
    used: tuple[str, ...] = ("checks", "prompt", *RESPONSE)
    match format:
        case "messages":
            messages, used = _conversation(row), ("checks", "messages", "conversations")
            messages = messages[:-1] if messages[-1]["role"] == "assistant" else messages
        case "alpaca":
            messages, used = _alpaca(row), ("checks", "instruction", "input", "output", "system")
        case "hh-rlhf":
            messages, used = _transcript(row, "chosen")[:-1], ("checks", "chosen", "rejected")
        case "preference":
            messages, used = _side(row, "chosen")[:-1], ("checks", "prompt", "chosen", "rejected")
        case _:
            messages = _prompt(row)
    _check_turns(messages, last="user", field="prompt")
    return Prompt(messages, where, _checks(row), _rest(row, used))


def _refuse_unwanted(row: dict[str, Any]) -> None:
    """Rows of KTO and of OpenAI may say that their answer is not to be learnt."""
    messages = _parsed(row.get("messages"))
    marks = {"label": str(row.get("label")).lower() == "false"}
    for number, message in enumerate(messages if isinstance(messages, list) else []):
        marks[f"messages[{number}].weight"] = (
            isinstance(message, dict) and message.get("weight") == 0
        )
    for field, unwanted in marks.items():
        if unwanted:
            raise RowError(field, "marks an unwanted answer", "leave it out, or raise max_bad_rows")


def _rest(row: dict[str, Any], used: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in used and value is not None}


def _answer(text: str) -> Message:
    return {"role": "assistant", "content": text}


def _clean(value: Any, field: str) -> str:
    if value is None or (isinstance(value, float) and value != value):
        raise RowError(field, "missing", "give every row a text in `{field}`", field=field)
    if not value and value != 0:
        raise RowError(field, "empty", "give a text in `{field}` or remove the row", field=field)
    if not isinstance(value, str):
        raise RowError(field, "a {kind}, not text", "put it in quotes", kind=type(value).__name__)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RowError(
            field, "holds half of a surrogate pair", "write the character itself"
        ) from error
    if not value.strip():
        raise RowError(field, "empty", "give a text in `{field}` or remove the row", field=field)
    return value.strip()


def _text(row: dict[str, Any], field: str) -> str:
    return _clean(row.get(field), field)


def _alpaca(row: dict[str, Any]) -> list[Message]:
    request = _text(row, "instruction")
    if row.get("input") not in (None, ""):
        request = f"{request}\n\n{_text(row, 'input')}"
    system = [{"role": "system", "content": _text(row, "system")}] if row.get("system") else []
    return [*system, {"role": "user", "content": request}]


def _prompt(row: dict[str, Any]) -> list[Message]:
    value = _parsed(row.get("prompt"))
    if isinstance(value, list) and value:
        return _messages(value, "prompt")
    system = [{"role": "system", "content": _text(row, "system")}] if row.get("system") else []
    return [*system, {"role": "user", "content": _text(row, "prompt")}]


def _side(row: dict[str, Any], side: str) -> list[Message]:
    """The prompt and one of its two answers, as messages."""
    value = _parsed(row.get(side))
    if isinstance(value, list):
        messages = _messages(value, side)
        if not messages or messages[-1]["role"] != "assistant":
            raise RowError(side, "does not end with the assistant", "end it with the answer")
        opening = _prompt(row) if row.get("prompt") and len(messages) == 1 else []
        return [*opening, *messages]
    return [*_prompt(row), _answer(_text(row, side))]


def _conversation(row: dict[str, Any]) -> list[Message]:
    field = "messages" if "messages" in row else "conversations"
    value = _parsed(row.get(field))
    if not isinstance(value, list) or not value:
        raise RowError(field, "not a list of messages", 'write [{"role": "user", "content": …}, …]')
    system = [{"role": "system", "content": _text(row, "system")}] if row.get("system") else []
    return [*system, *_messages(value, field)]


def _messages(value: list[Any], field: str) -> list[Message]:
    messages = []
    for number, item in enumerate(value):
        at = f"{field}[{number}]"
        if not isinstance(item, dict):
            raise RowError(
                at, "a {kind}, not a message", "give role and content", kind=type(item).__name__
            )
        role = item.get("role", item.get("from"))
        role = ROLES.get(role, role) if isinstance(role, str) else role
        if role not in ("system", "user", "assistant"):
            raise RowError(f"{at}.role", "{role!r}", "use system, user or assistant", role=role)
        content = item.get("content", item.get("value"))
        messages.append({"role": role, "content": _clean(content, f"{at}.content")})
    return messages


def _parsed(value: Any) -> Any:
    """A CSV cell can hold messages only as JSON text."""
    if isinstance(value, str) and value.lstrip().startswith('[{"'):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value  # a text that only begins like messages
    return value


def _transcript(row: dict[str, Any], field: str) -> list[Message]:
    """Read `\\n\\nHuman: … \\n\\nAssistant: …`; turns of one role in a row are one turn."""
    _clean(row.get(field), field)
    opening, *turns = _TURN.split(row[field])
    if opening.strip() or not turns:
        raise RowError(
            field, "no hh-rlhf transcript", "begin with '\\n\\nHuman: ', or add a column `prompt`"
        )
    messages: list[Message] = []
    for speaker, content in zip(turns[::2], turns[1::2], strict=True):
        role = "user" if speaker == "Human" else "assistant"
        if messages and messages[-1]["role"] == role:
            joined = f"{messages[-1]['content']}\n\n{content.strip()}".strip()
            messages[-1] = {"role": role, "content": joined}
        else:
            messages.append({"role": role, "content": content.strip()})
    if messages[-1]["role"] != "assistant":
        raise RowError(field, "does not end with the assistant", "end it with the answer")
    return messages


def _check_turns(messages: list[Message], *, last: str, field: str) -> None:
    """A system message may open; then user and assistant take turns, and `last` closes."""
    turns = [m for m in messages[:1] if m["role"] != "system"] + messages[1:]
    for number, message in enumerate(turns):
        expected = ("user", "assistant")[number % 2]
        if message["role"] != expected:
            raise RowError(
                field,
                "turn {turn} is by {role}, expected {expected}",
                "let user and assistant take turns",
                turn=number + 1,
                role=message["role"],
                expected=expected,
            )
    if not turns or turns[-1]["role"] != last:
        raise RowError(
            field, "does not end with the {last}", "end it with a message of the {last}", last=last
        )
    for number, message in enumerate(messages):
        if not message["content"]:
            answer = message is messages[-1] and last == "assistant"
            place = "answer" if answer else f"{field}[{number}]"
            raise RowError(place, "empty", "give a text or remove the row")


def _checks(row: dict[str, Any]) -> list[dict[str, Any]]:
    checks = _parsed(row.get("checks"))
    if checks is None or checks == "":
        return []
    if not isinstance(checks, list) or not all(isinstance(check, dict) for check in checks):
        raise RowError("checks", "not a list of objects", 'write [{"kind": …}, …]')
    return checks
