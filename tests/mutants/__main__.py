"""Change one formula at a time and see that a test fails.

    python -m tests.mutants [align/maths/kl.py …]

Prints every mutation with its fate and `killed / total`; exits 1 if one survived. A survivor is a
sentence of the code that no test reads.
"""

from __future__ import annotations

import sys

from tests.mutants import engine
from tests.mutants.catalogue import MUTANTS

if __name__ == "__main__":
    engine.warm_up()
    raise SystemExit(engine.main(MUTANTS, only=sys.argv[1:]))
