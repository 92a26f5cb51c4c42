"""What the engine settles for its whole process: threads, precision of products, memory that stays or runs out."""

from __future__ import annotations

import ctypes
import functools
import sys
from typing import TYPE_CHECKING

import torch

from workloads.errors import UnfitDevice

if TYPE_CHECKING:
    from workloads.spec import Compute

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # glibc's names for mallopt
_LARGEST_MMAP_THRESHOLD = 32 * 2**20  # glibc refuses more
_KEPT = 2**31 - 1


def settle(compute: Compute, device: torch.device) -> None:
    """Make this process fit for training on the device; costs next to nothing the second time.

    Raises:
        UnfitDevice: the device has no such precision, or no such promise.
    """
    if compute.precision == "tf32" and device.type != "cuda":
        raise UnfitDevice(f"compute.precision: tf32 needs a CUDA device, got {device.type}; set it to fp32 or bf16")
    if compute.precision == "bf16" and device.type == "cpu" and compute.program == "eager":
        way_out = "set compute.program to compiled, or the precision to fp32"
        raise UnfitDevice(f"compute.precision: eager bf16 on CPU rounds differently in other company; {way_out}")
    torch.set_float32_matmul_precision("high" if compute.precision == "tf32" else "highest")
    if device.type == "cpu":
        torch.set_num_threads(1)  # two threads a process measured 2–45 times slower; one order of sums
        keep_freed_memory()


@functools.cache
def keep_freed_memory() -> None:
    """Tell glibc to keep what a step frees for the next step.

    By default it returns the top of the heap to the system after every step, and the next one faults each page in
    again: a cohort of 8 small transformers spent a quarter of its time so.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # musl has none
        libc.mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        libc.mallopt(_TRIM_THRESHOLD, _KEPT)
        libc.mallopt(_TOP_PAD, 2 * _LARGEST_MMAP_THRESHOLD)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether memory did not suffice, here or on the device; also behind what that led to."""
    if error is None:
        return False
    short = isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
    return short or is_out_of_memory(error.__cause__ or error.__context__)
