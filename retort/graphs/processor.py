"""Which 8-bit instructions this processor has."""

from __future__ import annotations

import logging
import platform
from pathlib import Path

logger = logging.getLogger(__name__)

CPU_FLAGS = Path("/proc/cpuinfo")


def resolve_target(target: str) -> str:
    """Return the target itself, or for ``auto`` the one that this processor is.

    A processor with AVX-VNNI counts as ``avx512_vnni``: neither saturates at 16 bits.
    """
    if target != "auto":
        return target
    if platform.machine().lower() in {"arm64", "aarch64"}:
        return "arm64"
    if not CPU_FLAGS.is_file():
        logger.warning("cannot tell whether this processor has VNNI; assuming avx2 (see --target)")
        return "avx2"
    flags = CPU_FLAGS.read_text(encoding="utf-8", errors="replace").split()
    return "avx512_vnni" if {"avx512_vnni", "avx_vnni"} & set(flags) else "avx2"
