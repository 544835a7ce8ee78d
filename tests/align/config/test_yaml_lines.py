import pytest

from align.config.yaml_lines import parse_scalar, parse_yaml, read_yaml
from align.messages.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("-3", -3),
        ("007", "007"),
        ("no", "no"),
        ("off", "off"),
        ("true", True),
        ("null", None),
        ("", None),
        ("2026-01-02", "2026-01-02"),
        ("1_000", "1_000"),
        ("'1'", "1"),
        ("[1, a]", [1, "a"]),
        ("{r: 8, alpha: 1e1}", {"r": 8, "alpha": 10.0}),
        ("data/tiny/sft.jsonl", "data/tiny/sft.jsonl"),
    ],
)
def test_scalars_are_read_as_a_person_means_them(text, value):
    read = parse_scalar(text)
    assert read == value
    assert type(read) is type(value)


def test_every_key_knows_its_line():
    document = parse_yaml("a: 1\nb:\n  c: [1,\n    2]\n", "r.yaml")
    assert document.data == {"a": 1, "b": {"c": [1, 2]}}
    assert document.lines[("a",)] == 1
    assert document.lines[("b", "c")] == 3
    assert document.lines[("b", "c", 1)] == 4


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\na: 2\n", "r.yaml:2: a: given twice (first on line 1); remove one"),
        (
            "a: &x 1\nb: *x\n",
            "r.yaml:1: anchors and aliases are not read; write the value out",
        ),
        ("a: !!python/name:os.system\n", "r.yaml:1: tag:yaml.org,2002:python/name:os.system"),
        ("? [1]\n: 2\n", "r.yaml:1: a key must be a word"),
    ],
)
def test_what_yaml_allows_and_a_recipe_does_not_is_a_problem_with_its_line(text, problem):
    problems = parse_yaml(text, "r.yaml").problems
    assert str(problems[0]).startswith(problem)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a:\n\tb: 1\n", "r.yaml:2: not YAML"),
        (b"a: [1\n", "r.yaml:2: not YAML"),
        (b"- 1\n", "r.yaml:1: expected `key: value` lines"),
        (b"", "r.yaml:1: expected `key: value` lines"),
        (b"a: 1\n\xff\n", "r.yaml:2: not UTF-8"),
        (b"a: \x00\n", "r.yaml: not YAML"),
        (b"a: 1\n---\nb: 2\n", "r.yaml:2: not YAML"),
        (b"a: " + b"[" * 600 + b"]" * 600, "r.yaml: nested too deeply"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused_with_its_line(
    tmp_path, monkeypatch, content, message
):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "r.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_yaml(path.relative_to(tmp_path))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_is_harmless(tmp_path):
    (tmp_path / "r.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_yaml(tmp_path / "r.yaml").data == {"a": 1}
