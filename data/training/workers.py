"""Set-up of a data-loading process before its first sample."""

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
LARGEST_KEPT, KEPT_FREE = 32 * 2**20, 256 * 2**20  # bytes per process: the arrays of a sample, and all of them


def init_worker(worker_id: int) -> None:
    """Worker initialisation for `DataLoader(worker_init_fn=...)`: one thread per worker, to avoid contention for cores.

    Nothing is seeded, because a sample draws from its own generator, made from (seed, epoch, index).
    """
    leave_stopping_to_parent()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    keep_decoder_memory()
    keep_freed_memory(LARGEST_KEPT, KEPT_FREE)


def keep_decoder_memory() -> None:
    """Let Pillow reuse its image memory between files instead of returning it to the system after each file.

    New pages for a photograph can cost more than decoding it (measured on a virtual machine: 25 ms with them, 9 ms
    without). Small blocks of one size fit every picture; large blocks would be resized from file to file.
    """
    Image.core.set_block_size(DECODER_BLOCK)
    Image.core.set_blocks_max(KEPT_DECODER_BLOCKS)


def leave_stopping_to_parent() -> None:
    """Ignore the signal to stop a run, which a terminal or a batch system sends to all processes.

    The training process needs its loaders to finish its iteration, and then ends them with its own SIGTERM. If this
    SIGTERM cannot be distinguished from others, it ends the process at once. This is the case on systems that do not
    report the sender of a signal (macOS), and if other threads are running already, which could receive the signal (in
    a process that is not forked, numerical libraries have such threads).
    """
    training = multiprocessing.parent_process()  # under forkserver, this is not the system's parent process
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo") and _is_only_thread():
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # threads started later inherit it
        parent = os.getppid() if training is None else training.pid
        threading.Thread(target=_end_when_parent_asks, args=(parent,), daemon=True).start()


def _is_only_thread() -> bool:
    """Return whether this process has one thread, counting native ones; False if the system does not report it."""
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


def _end_when_parent_asks(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
