"""A process that writes output folders, for tests that stop it in the middle."""

from __future__ import annotations

import argparse
import ctypes
import errno
import itertools
import logging
import platform
import signal
import struct
import sys
from pathlib import Path

from retort.errors import RetortError
from retort.output.output_folder import output_folder

FILES = ("config.json", "onnx/model.onnx", "onnx/model_quantized.onnx", "conversion.json")


def write_version(folder: Path, version: str) -> None:
    """Write all files of a finished folder, each holding nothing but the version."""
    for name in FILES:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(version)


def refuse(call: str, error: int) -> None:
    """Have the kernel answer one system call of this process with an error, as a disk would."""
    numbers = {
        "x86_64": {"fsync": 74, "renameat2": 316},
        "aarch64": {"fsync": 82, "renameat2": 276},
    }
    load, jump_if_equal, answer = 0x20, 0x15, 0x06
    filter_ = ctypes.create_string_buffer(
        struct.pack("HBBI", load, 0, 0, 0)  # the number of the system call
        + struct.pack("HBBI", jump_if_equal, 0, 1, numbers[platform.machine()][call])
        + struct.pack("HBBI", answer, 0, 0, 0x00050000 | error)
        + struct.pack("HBBI", answer, 0, 0, 0x7FFF0000)  # allow
    )
    program = ctypes.create_string_buffer(struct.pack("@HP", 4, ctypes.addressof(filter_)))
    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privileges, set_seccomp, filter_mode = 38, 22, 2
    if libc.prctl(no_new_privileges, 1, 0, 0, 0) or libc.prctl(set_seccomp, filter_mode, program):
        raise OSError(ctypes.get_errno(), "the kernel takes no seccomp filter")


def main() -> int:
    """Write one folder, told when to finish by a line on stdin; or many, until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("target", type=Path)
    parser.add_argument("--version", default="new")
    parser.add_argument("--force", action="store_true")
    parser.add_argument("--forever", action="store_true")
    parser.add_argument("--without_exchange", action="store_true")
    parser.add_argument("--full_at_fsync", action="store_true")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    # A runner may have had these ignored (nohup, a job in the background).
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if options.without_exchange:
        refuse("renameat2", errno.EINVAL)
    if options.full_at_fsync:
        refuse("fsync", errno.ENOSPC)
    for number in itertools.count():
        try:
            with output_folder(options.target, force=options.force) as output:
                write_version(output.folder, f"{options.version}.{number}")
                sys.stdout.write("inside\n")
                sys.stdout.flush()
                if not options.forever:
                    sys.stdin.readline()
        except RetortError as error:
            sys.stderr.write(f"{error}\n")
            return error.exit_code
        if not options.forever:
            break
    return 0


if __name__ == "__main__":
    sys.exit(main())
