"""How much memory an iteration should take, written down before it is measured.

One micro-batch of the update, or sampling with the cache of all rows, whichever is more, on top of
weights, adapters and Adam. Activations are what autograd keeps of a token in a Llama layer, in
elements: the two norms keep their input in float32 and normalised (2 · 3), q, k, v, the rotated q
and k and the attention's output (6): 12 · hidden; gate, up, silu(gate) and their product:
4 · intermediate. Adapters keep the same inputs.
"""

from __future__ import annotations

from tests.benchmarks.floors import layer_shapes, trunk_weights
from tests.benchmarks.workload import Shape

SIZES = {"float32": 4, "bfloat16": 2}
ADAM = 4 + 4 + 4  # gradient and two moments of a trained weight, in float32


def shared_plan(shape: Shape, *, rank: int, micro: int) -> dict[str, int]:
    """Bytes of our shared layout: one base, three adapters, of which two are trained."""
    size = SIZES[shape.dtype]
    adapter = rank * shape.layers * sum(n + m for n, m in layer_shapes(shape))
    width = shape.longest + shape.new_tokens
    kept = shape.layers * (12 * shape.hidden + 4 * shape.intermediate)
    cache = 2 * shape.layers * shape.hidden * width * shape.prompts * size
    # a step's logits, their log-probabilities in float32, and a float64 cumulative sum
    drawing = shape.prompts * shape.vocab * (size + 4 + 4 + 8)
    # logits, the same in float32, their log-softmax and the gradients of the three
    logits = micro * shape.new_tokens * shape.vocab * 2 * (size + 4 + 4)
    parts = {
        "base": (trunk_weights(shape) + shape.vocab * shape.hidden) * size,
        "adapters": 3 * adapter * 4,
        "Adam": 2 * adapter * ADAM,
        "sampling": cache + drawing,
        "update": micro * width * kept * size + logits,
    }
    steady = parts["base"] + parts["adapters"] + parts["Adam"]
    return parts | {"peak": steady + max(parts["sampling"], parts["update"])}
