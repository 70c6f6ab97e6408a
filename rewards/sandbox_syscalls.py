"""The system calls that a sandboxed program is refused, as a filter that bubblewrap loads before the program starts.

Namespaces take files, network and processes away; what is left of the kernel is still large. The filter refuses memory
that no resource limit counts (shared memory segments, memory files), sockets of families that have no namespace
(vsock), tracing, key rings, mounts and interfaces with a long record of kernel bugs. Python needs none of them.

A filter is an array of `struct sock_filter` (code, jump if true, jump if false, operand), see seccomp(2).
"""

from __future__ import annotations

import platform
import struct

from data.records import UserError

_EPERM, _ENOSYS = 1, 38
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_OFFSET_NUMBER, _OFFSET_ARCHITECTURE, _OFFSET_FIRST_ARGUMENT = 0, 4, 16
_X32_BIT = 0x40000000  # x86-64 kernels may take 32-bit-pointer calls under these numbers, past any list

_SAME_NUMBER = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428, "move_mount": 429,
    "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "pidfd_open": 434, "pidfd_getfd": 438,
    "process_madvise": 440, "mount_setattr": 442, "memfd_secret": 447,
}  # fmt: skip
_PR_SET_PDEATHSIG = 1
"""The operation of prctl with which a program could outlive the process that started its sandbox."""

_CLONE3 = 435
"""Refused as unknown rather than forbidden: the C library then uses clone, whose flags the kernel's limits cover."""

# name: (x86-64, aarch64), from the kernel's tables of system calls
_DIFFERENT_NUMBER = {
    "socket": (41, 198), "shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180),
    "memfd_create": (319, 279), "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "kcmp": (312, 272), "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "chroot": (161, 51), "add_key": (248, 217), "request_key": (249, 218),
    "keyctl": (250, 219), "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "vmsplice": (278, 75), "fanotify_init": (300, 262), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "kexec_load": (246, 104), "init_module": (175, 105), "finit_module": (313, 273),
    "quotactl": (179, 60), "swapon": (167, 224), "personality": (135, 92),
}  # fmt: skip

_PRCTL = (157, 167)
_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
"""Machine to its AUDIT_ARCH_* value and its column in the tables above."""


def syscall_filter(machine: str | None = None) -> bytes:
    """The filter for a machine (default: this one). UserError for machines whose call numbers are not known here."""
    machine = machine or platform.machine()
    if machine not in _ARCHITECTURES:
        raise UserError(
            f"sandbox: machine {machine!r} is not supported: code tasks run on {' or '.join(_ARCHITECTURES)}; "
            "leave them out of the recipe"
        )
    architecture, column = _ARCHITECTURES[machine]
    refused = sorted({*_SAME_NUMBER.values(), *(numbers[column] for numbers in _DIFFERENT_NUMBER.values())})
    program = [
        (_LOAD, 0, 0, _OFFSET_ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _OFFSET_NUMBER),
        (_JUMP_AT_LEAST, 0, 1, _X32_BIT),
        (_RETURN, 0, 0, _ERRNO | _ENOSYS),
        (_JUMP_EQUAL, 0, 1, _CLONE3),
        (_RETURN, 0, 0, _ERRNO | _ENOSYS),
        # Jumps count the instructions they skip: over the rest of the list and all but the last return.
        *((_JUMP_EQUAL, len(refused) - index + 4, 0, number) for index, number in enumerate(refused)),
        (_JUMP_EQUAL, 1, 0, _PRCTL[column]),
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, _OFFSET_FIRST_ARGUMENT),
        (_JUMP_EQUAL, 1, 0, _PR_SET_PDEATHSIG),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _ERRNO | _EPERM),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
