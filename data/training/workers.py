"""What a data-loading process sets before its first sample."""

import multiprocessing
import os
import signal
import threading

import cv2
import torch
from PIL import Image

from runtime.memory import keep_freed_memory

DECODER_BLOCK = 512 * 1024  # bytes
KEPT_DECODER_BLOCKS = 128  # 64 MB per process
LARGEST_KEPT, KEPT_FREE = 32 * 2**20, 256 * 2**20  # bytes, per process: arrays of a sample, and all of them


def init_worker(worker_id: int) -> None:
    """For `DataLoader(worker_init_fn=...)`: one thread per worker, so that workers do not fight for cores.

    Nothing is seeded: a sample draws from its own generator, made from (seed, epoch, index).
    """
    leave_stopping_to_parent()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    keep_decoder_memory()
    keep_freed_memory(LARGEST_KEPT, KEPT_FREE)


def keep_decoder_memory() -> None:
    """Let Pillow reuse its image memory between files instead of returning it to the system after each.

    Fresh pages for a photograph can cost more than decoding it (measured on a virtual machine: 25 ms with, 9 ms
    without). Small blocks of one size fit every picture; large ones would be resized from file to file.
    """
    Image.core.set_block_size(DECODER_BLOCK)
    Image.core.set_blocks_max(KEPT_DECODER_BLOCKS)


def leave_stopping_to_parent() -> None:
    """Outlast the signal that asks a run to stop, which a terminal or a batch system sends to all its processes.

    The training process finishes its iteration, for which it needs its loaders, and ends them then, by a SIGTERM of its
    own. Where that cannot be told from another's, SIGTERM ends the process at once: on systems that do not say who sent
    a signal (macOS), and where other threads run already, one of which would get it (a process that is not forked has
    those of numerical libraries).
    """
    training = multiprocessing.parent_process()  # under forkserver another process than the system's parent
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo") and _is_only_thread():
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # threads started later inherit it
        parent = os.getppid() if training is None else training.pid
        threading.Thread(target=_end_when_parent_asks, args=(parent,), daemon=True).start()


def _is_only_thread() -> bool:
    """Whether this is the process's one thread, native ones counted; False where the system does not tell."""
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


def _end_when_parent_asks(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
