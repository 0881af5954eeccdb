"""The sample stream: its order is a function of (seed, epoch) and of nothing else."""

from itertools import islice

import pytest
import torch
from torch.utils.data import Dataset

from data.training.loader import EpochSampler, build_train_loader
from runtime.errors import InputError


class Echo(Dataset):
    def __len__(self) -> int:
        return 10

    def __getitem__(self, key: tuple[int, int]) -> torch.Tensor:
        return torch.tensor(key)


def stream(count: int, **options) -> list[tuple[int, int]]:
    return list(islice(EpochSampler(size=10, seed=3, **options), count))


def test_each_epoch_is_a_permutation_of_its_own():
    epochs = [stream(30)[i : i + 10] for i in (0, 10, 20)]
    for number, epoch in enumerate(epochs):
        assert [n for n, _ in epoch] == [number] * 10
        assert sorted(index for _, index in epoch) == list(range(10))
    assert len({tuple(index for _, index in epoch) for epoch in epochs}) == 3


def test_starting_late_cuts_the_head_off():
    assert stream(20, start=13) == stream(33)[13:]


@pytest.mark.parametrize("world_size", [2, 3, 7])
def test_processes_deal_one_common_order(world_size):
    dealt = [stream(10, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert [sample for hand in zip(*dealt, strict=True) for sample in hand] == stream(10 * world_size)


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_batches_do_not_depend_on_workers_or_on_resuming(num_workers):
    loader = build_train_loader(Echo(), batch_size=4, num_workers=num_workers, seed=3, start_iteration=2)
    batches = torch.stack(list(islice(loader, 3)))
    expected = torch.tensor(stream(20)[8:]).reshape(3, 4, 2)
    assert torch.equal(batches, expected)


def test_an_empty_epoch_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        EpochSampler(size=0, seed=0)


def test_prefetching_and_lasting_workers_reach_the_loader_and_change_no_sample():
    plain = build_train_loader(Echo(), batch_size=4, num_workers=1, seed=3)
    loader = build_train_loader(Echo(), batch_size=4, num_workers=1, seed=3, prefetch_factor=5, persistent_workers=True)
    assert (plain.prefetch_factor, plain.persistent_workers) == (2, False)
    assert (loader.prefetch_factor, loader.persistent_workers) == (5, True)
    assert torch.equal(torch.stack(list(islice(loader, 3))), torch.stack(list(islice(plain, 3))))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_workers": 0, "prefetch_factor": 2}, "prefetch_factor: is for loading processes, and num_workers is 0"),
        ({"num_workers": 0, "persistent_workers": True}, "persistent_workers: is for loading processes"),
        ({"prefetch_factor": 0}, "prefetch_factor: expected a whole number of at least 1 or null, got 0"),
        (
            {"fixed_views": 6, "late_start": 2, "late_crop_size": 8},
            "late_crop_size=8: the 6 fixed views keep their crop size throughout; leave out late_crop_size, or fixed_v",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused_with_the_cause(settings, message):
    with pytest.raises(InputError, match=message):
        build_train_loader(Echo(), batch_size=4, **settings)
