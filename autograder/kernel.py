"""Calls of Linux's kernel that Python does not offer: namespaces, mounts, Landlock, seccomp.

Each raises `OSError` where the kernel refuses or does not know the call. Sources: the manual pages unshare(2),
mount(2), mount_setattr(2), prctl(2), landlock(7) and seccomp(2).
"""

import ctypes
import os
import platform
import stat
import struct
from collections.abc import Iterable

NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 0x1000, 0x4000, 0x40000

_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 22, 36, 38
_MOUNT_SETATTR, _LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 442, 444, 445, 446
_AT_FDCWD, _AT_RECURSIVE, _ATTR_RDONLY = -100, 0x8000, 1

_CAPABILITIES = 0x20080522  # the form of capset's data

# Landlock's rights over files, and how many of them each version of it knows
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE, _IOCTL = 1, 2, 4, 8, 1 << 14, 1 << 15
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_OF_A_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL
_TCP, _SCOPES = 3, 3  # bind and connect; abstract sockets and signals

# For seccomp: each machine's own numbers.
_MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_SOCKET = {"x86_64": 41, "aarch64": 198}
_REFUSED = {
    # ptrace, process_vm_readv and _writev, mount, umount2, unshare, setns, bpf, add_key, request_key, keyctl,
    # perf_event_open, userfaultfd, open_by_handle_at, io_uring_setup, pidfd_getfd;
    # memory that belongs to no process: memfd_create, memfd_secret, shmget, msgget
    "x86_64": (101, 310, 311, 165, 166, 272, 308, 321, 248, 249, 250, 298, 323, 304, 425, 438, 319, 447, 29, 68),
    "aarch64": (117, 270, 271, 40, 39, 97, 268, 280, 217, 218, 219, 241, 282, 265, 425, 438, 279, 447, 194, 186),
}
_CLONE = {"x86_64": 56, "aarch64": 220}
_CLONE3 = 435  # its flags lie in memory, where no filter looks: libraries fall back to clone where it is not known
_NAMESPACES = NEWNS | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET | 0x2000000  # and those of control groups
_X32 = 0x40000000  # calls under x86_64's other numbering
_AF_UNIX, _EPERM, _ENOSYS = 1, 1, 38
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x50000


def _call(function: str, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result: int = getattr(libc, function)(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")
    return result


def _prctl(option: int, value: object = 0, more: object = 0) -> None:
    _call("prctl", option, ctypes.c_ulong(value) if isinstance(value, int) else value, more, 0, 0)


def unshare(namespaces: int) -> None:
    """Leave these namespaces for new ones."""
    _call("unshare", namespaces)


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2)."""
    _call("mount", source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())


def make_readable_only(path: str, everything_below: bool = True) -> None:
    """Make a mount read-only, with all mounts below it."""
    _set_attributes(path, _ATTR_RDONLY, 0, _AT_RECURSIVE if everything_below else 0)


def make_writable(path: str) -> None:
    """Make one mount writable again."""
    _set_attributes(path, 0, _ATTR_RDONLY, 0)


def _set_attributes(path: str, wanted: int, unwanted: int, flags: int) -> None:
    attributes = struct.pack("=QQQQ", wanted, unwanted, 0, 0)
    _call("syscall", _MOUNT_SETATTR, _AT_FDCWD, path.encode(), flags, attributes, ctypes.c_size_t(len(attributes)))


def die_with_parent(signal: int) -> None:
    """This process gets `signal` when its parent ends."""
    _prctl(_PR_SET_PDEATHSIG, signal)


def adopt_orphans() -> None:
    """What a descendant leaves behind becomes this process's child."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def give_up_privileges() -> None:
    """No program that is started from here on gains rights by being setuid."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def drop_capabilities() -> None:
    """Give up all capabilities, those within a user namespace of one's own as well."""
    header = struct.pack("=Ii", _CAPABILITIES, 0)
    _call("capset", header, bytes(24))


def landlock_version() -> int:
    """The kernel's version of Landlock; raises where there is none."""
    return _call("syscall", _LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1)


def landlock(readable: Iterable[str], writable: Iterable[str]) -> int:
    """From here on, this process and its children see these paths only; the version that was in force.

    Needs `give_up_privileges` first. From version 4 on TCP is closed, from 6 on signals to others as well.
    """
    version = landlock_version()
    rights = (1 << _RIGHTS[min(version, max(_RIGHTS))]) - 1
    asked = struct.pack("=QQQ", rights, _TCP if version >= 4 else 0, _SCOPES if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    rules = _call("syscall", _LANDLOCK_CREATE, asked, ctypes.c_size_t(size), 0)
    try:
        for path in readable:
            _allow(rules, path, rights & (_EXECUTE | _READ_FILE | _READ_DIR))
        for path in writable:
            _allow(rules, path, rights)
        _call("syscall", _LANDLOCK_RESTRICT, rules, 0)
    finally:
        os.close(rules)
    return version


def _allow(rules: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            rights &= _OF_A_FILE
        _call("syscall", _LANDLOCK_ADD, rules, 1, struct.pack("=Qi", rights, place), 0)
    finally:
        os.close(place)


def seccomp(unix_sockets: bool) -> None:
    """Refuse calls that look into other processes or change the system's view, and sockets to any network.

    Needs `give_up_privileges` first. With `unix_sockets` those within the machine stay.
    """
    machine = platform.machine()
    if machine not in _MACHINES:
        raise OSError(f"the numbers of {machine}'s calls are not known")
    program = _filter(machine, unix_sockets)
    kept = ctypes.create_string_buffer(program)
    described = struct.pack("@HP", len(program) // 8, ctypes.addressof(kept))
    _prctl(_PR_SET_SECCOMP, 2, described)


def _filter(machine: str, unix_sockets: bool) -> bytes:
    """A program for the kernel: (code, jump if true, jump if false, constant), eight bytes each."""
    family, flags, refuse, unknown, allow = range(1000, 1005)  # where a jump goes to; 0 is the next line
    lines = [(_LOAD, 0, 0, 4), (_EQUAL, 0, refuse, _MACHINES[machine]), (_LOAD, 0, 0, 0)]
    lines += [(_EQUAL, refuse, 0, number) for number in _REFUSED[machine]]
    lines += [(_AT_LEAST, refuse, 0, _X32)] if machine == "x86_64" else []
    lines += [(_EQUAL, unknown, 0, _CLONE3), (_EQUAL, flags, 0, _CLONE[machine])]
    lines += [(_EQUAL, family, allow, _SOCKET[machine])]
    n = len(lines)
    places = {0: 0, family: n, flags: n + 2, refuse: n + 4, unknown: n + 5, allow: n + 6}
    lines += [(_LOAD, 0, 0, 16), (_EQUAL, allow if unix_sockets else refuse, refuse, _AF_UNIX)]
    lines += [(_LOAD, 0, 0, 16), (_ANY_BIT, refuse, allow, _NAMESPACES)]
    lines += [(_RETURN, 0, 0, _ERRNO | _EPERM), (_RETURN, 0, 0, _ERRNO | _ENOSYS), (_RETURN, 0, 0, _ALLOW)]

    def ahead(label: int, line: int) -> int:
        return places[label] - line - 1 if label else 0

    packed = [struct.pack("=HBBI", code, ahead(yes, k), ahead(no, k), n) for k, (code, yes, no, n) in enumerate(lines)]
    return b"".join(packed)
