"""All families of requests, from the files beside this one."""

from __future__ import annotations

from data.tiny import families_facts as facts
from data.tiny import families_language as language
from data.tiny import families_social as social
from data.tiny.family import Family


def all_families() -> list[Family]:
    """Every family, in the order in which reports show them."""
    return [facts.CAPITAL, facts.OPPOSITE, facts.TRANSLATE, facts.ARITHMETIC, facts.COMPARE, facts.COUNT,
            language.LIST, language.REWRITE, language.EXPLAIN,
            social.GREET, social.COMFORT, social.FORMAT, social.UNKNOWN, social.HARMLESS, social.DANGEROUS]  # fmt: skip
