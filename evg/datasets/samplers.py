"""Orders in which a training reads its samples."""

import itertools
import random
from collections.abc import Iterator, Sized

from mmengine.dist import get_dist_info
from torch.utils.data import Sampler

from evg.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class BlockShuffleSampler(Sampler[int]):
    """Reads blocks of neighbouring samples in random order and shuffles in a buffer, as one reads tar files.

    `DefaultSampler` reads anywhere and keeps a permutation of all samples; this one reads `block` neighbours after
    each other, which disks and networks want, and keeps `buffer` numbers. A sample leaves the buffer after `buffer`
    others on average. Each epoch holds every sample once, in the same order for any number of processes; the first of
    them come again at the end so that all processes have equally many.

    Args:
        dataset: its length counts.
        seed: seed of the order; with the epoch it makes the same order again.
        block: neighbouring samples that are read together; about a tar file holds them.
        buffer: samples that are mixed.
    """

    def __init__(self, dataset: Sized, seed: int = 0, block: int = 1024, buffer: int = 16384) -> None:
        self._count = len(dataset)
        self._rank, self._processes = get_dist_info()
        self.seed, self.block, self.buffer = seed or 0, block, buffer
        self.epoch = 0

    def __iter__(self) -> Iterator[int]:
        whole = itertools.chain(self._order(), self._order())
        return itertools.islice(whole, self._rank, len(self) * self._processes, self._processes)

    def __len__(self) -> int:
        """Samples of this process."""
        return (self._count + self._processes - 1) // self._processes

    def set_epoch(self, epoch: int) -> None:
        """Choose the order."""
        self.epoch = epoch

    def _order(self) -> Iterator[int]:
        random_numbers = random.Random(f'{self.seed}/{self.epoch}')
        blocks = list(range(0, self._count, self.block))
        random_numbers.shuffle(blocks)
        waiting: list[int] = []
        for start in blocks:
            for position in range(start, min(start + self.block, self._count)):
                if len(waiting) < self.buffer:
                    waiting.append(position)
                    continue
                place = random_numbers.randrange(self.buffer)
                waiting[place], position = position, waiting[place]  # noqa: PLW2901 (they change places)
                yield position
        random_numbers.shuffle(waiting)
        yield from waiting
