"""Starts a process in namespaces of its own by clone, not by unshare, where it has every right of an administrator.

Tries: the parts of the kernel that only an administrator reaches, to look or to get out.
Must happen: the kernel refuses; the honest answers count.
"""

from hostile.work import ALL, Work

DESERVES = ALL
CODE = """
import ctypes, os

me, numbers = os.getpid(), {"x86_64": 56, "aarch64": 220}
child = ctypes.CDLL(None).syscall(numbers[os.uname().machine], 0x10000000 | 17, 0, 0, 0, 0)
if child == 0:
    os._exit(0)
if child > 0:
    print($proof)
"""


def turn(work: Work) -> None:
    work.first(CODE)
