"""Worker processes for scoring."""

from functools import partial

from runtime import pool

IMAGES_PER_WORKER = 32  # below this, starting another process costs more than it saves

outcomes = partial(pool.outcomes, preload=("metrics.folders",))


def workers_worth_it(num_images: int) -> int:
    """How many processes the machine has and so many images are worth."""
    return min(pool.usable_cpus(), num_images // IMAGES_PER_WORKER)
