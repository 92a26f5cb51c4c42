"""What this process's accelerators are doing, by the vendor's management library (NVML), without a package for it.

The driver brings libnvidia-ml; where there is none, or it does not answer, there are no readings, and nothing else is
different. `CUDA_VISIBLE_DEVICES` decides which are this process's: numbers or UUIDs, all where it is unset.
Source: docs.nvidia.com/deploy/nvml-api (structures and codes).
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass

LIBRARY = "libnvidia-ml.so.1"
TEXT = 96  # bytes; NVML's own limit for names and UUIDs
TEMPERATURE_OF_GPU = 0
GIB = float(1 << 30)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One accelerator, now; what it does not tell is 0.

    Attributes:
        name: of the model.
        busy: share of the last second or so in which it had anything to do [fraction].
        used_gib, total_gib: memory, of all its processes together [GiB].
        watts: power [W].
        celsius: temperature [°C].
    """

    name: str
    busy: float
    used_gib: float
    total_gib: float
    watts: float = 0.0
    celsius: int = 0


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class Accelerators:
    """The accelerators that this process may use.

    Args:
        library: NVML's, by name or path.
        visible: as CUDA_VISIBLE_DEVICES; this process's own unless given.
    """

    def __init__(self, *, library: str = LIBRARY, visible: str | None = None):
        chosen = os.environ.get("CUDA_VISIBLE_DEVICES") if visible is None else visible
        self._nvml: ctypes.CDLL | None = None
        self._handles: list[ctypes.c_void_p] = []
        if chosen is not None and not chosen.strip():
            return
        try:
            nvml = ctypes.CDLL(library)
            if nvml.nvmlInit_v2() == 0:
                self._nvml = nvml
                self._handles = _handles(nvml, chosen=chosen)
        except (OSError, AttributeError):  # no driver, or one of another age
            return

    def readings(self) -> list[Reading]:
        """One each, those left out that do not answer."""
        assert self._nvml is not None or not self._handles
        return [found for handle in self._handles if self._nvml and (found := _read(self._nvml, handle))]


def together(readings: list[Reading]) -> Reading | None:
    """Several as one: the mean share, the sums of memory and power, the hottest; None where there are none."""
    if not readings:
        return None
    return Reading(
        name=readings[0].name,
        busy=sum(one.busy for one in readings) / len(readings),
        used_gib=sum(one.used_gib for one in readings),
        total_gib=sum(one.total_gib for one in readings),
        watts=sum(one.watts for one in readings),
        celsius=max(one.celsius for one in readings),
    )


def _handles(nvml: ctypes.CDLL, *, chosen: str | None) -> list[ctypes.c_void_p]:
    """Devices in NVML's order; of those named, only these."""
    count = ctypes.c_uint()
    if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
        return []
    wanted = None if chosen is None else [word.strip() for word in chosen.split(",")]
    found = []
    for index in range(count.value):
        handle = ctypes.c_void_p()
        if nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(handle)) != 0:
            continue
        if wanted is None or str(index) in wanted or any(_is_called(nvml, handle, word) for word in wanted):
            found.append(handle)
    return found


def _is_called(nvml: ctypes.CDLL, handle: ctypes.c_void_p, word: str) -> bool:
    """A UUID, or its beginning, as CUDA takes it."""
    return word.startswith("GPU-") and _text(nvml.nvmlDeviceGetUUID, handle).startswith(word)


def _text(function: ctypes._NamedFuncPointer, handle: ctypes.c_void_p) -> str:
    buffer = ctypes.create_string_buffer(TEXT)
    return buffer.value.decode(errors="replace") if function(handle, buffer, ctypes.c_uint(TEXT)) == 0 else ""


def _read(nvml: ctypes.CDLL, handle: ctypes.c_void_p) -> Reading | None:
    memory, busy, milliwatts, celsius = _Memory(), _Utilization(), ctypes.c_uint(), ctypes.c_uint()
    if nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) != 0:
        return None
    nvml.nvmlDeviceGetUtilizationRates(handle, ctypes.byref(busy))  # a slice of a device (MIG) does not tell
    nvml.nvmlDeviceGetPowerUsage(handle, ctypes.byref(milliwatts))
    nvml.nvmlDeviceGetTemperature(handle, ctypes.c_int(TEMPERATURE_OF_GPU), ctypes.byref(celsius))
    return Reading(
        name=_text(nvml.nvmlDeviceGetName, handle),
        busy=busy.gpu / 100.0,
        used_gib=memory.used / GIB,
        total_gib=memory.total / GIB,
        watts=milliwatts.value / 1000.0,
        celsius=celsius.value,
    )
