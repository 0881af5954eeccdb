"""Worker processes for scoring."""

from functools import partial

from runtime import pool

IMAGES_PER_WORKER = 32  # with fewer images, starting another process costs more than it saves

outcomes = partial(pool.outcomes, preload=("metrics.folders",))


def workers_worth_it(num_images: int) -> int:
    """Number of processes for a number of images on this machine."""
    return min(pool.usable_cpus(), num_images // IMAGES_PER_WORKER)
