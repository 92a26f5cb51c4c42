"""Randomness as a function of (seed, purpose, block): never of company, slot, width or restarts.

A block of steps is drawn at once from a native generator that is seeded for that block alone, so
any step can be reached without replaying the ones before it. The block's length is part of the
streams' meaning: changing it changes every run, and needs a new version of every task.
"""

from __future__ import annotations

import hashlib

import torch

BLOCK_STEPS = 16


def generator(seed: int, purpose: str, block: int = 0, *, device: torch.device) -> torch.Generator:
    """The generator of one purpose and block, fresh."""
    text = f"{seed}/{purpose}/{block}".encode()
    state = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
    return torch.Generator(device=device).manual_seed(state >> 1)
