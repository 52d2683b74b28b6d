"""Numbers that no comparison expects: NaN, infinities, an integer of a million digits, minus zero.

Tries: a comparison with NaN is never false the way one thinks; nbgrader gives full marks for nan as a last value.
Must happen: NaN fails, a huge number stops nothing.
"""

from hostile.work import NOTHING, Work

DESERVES = NOTHING


def turn(work: Work) -> None:
    work.wrong()
    work.answer(
        number="number = 10 ** 1_000_000",
        softsign="def softsign(x):\n    return np.full(np.shape(x), np.nan)",
        build="def build(width):\n    layer = nn.Linear(4, width)\n    nn.init.constant_(layer.weight, float('nan'))\n"
        "    nn.init.constant_(layer.bias, float('inf'))\n    return nn.Sequential(layer)",
    )
    work.first("get_ipython().input_transformers_post.append(lambda lines: ['float(\"nan\")'])")
