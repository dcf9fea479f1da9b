"""Seeds of the random parts of a training, each derived from the user's seed."""

import numpy as np

ORDER, DROPOUT = 0, 1
"""Purposes of a seed: the order of the training windows, the random numbers of dropout."""


def derived(seed: int, purpose: int) -> int:
    """A 63-bit seed for one purpose; `derived(seed, purpose) + epoch` does not repeat for another seed or purpose.

    Consecutive user seeds are independent: with `seed + epoch` itself, epoch 1 of seed 1 would equal epoch 0 of seed 2.
    """
    return int(np.random.SeedSequence([seed, purpose]).generate_state(1, np.uint64)[0] >> 1)
