"""Prints its own environment and that of every process, their command lines, open files and folders.

Tries: keys of the instructor stand in the environment; /proc shows other processes.
Must happen: no word of the instructor's, and no process but its own.
"""

from hostile.work import NOTHING, Work

DESERVES = NOTHING
CODE = """
import glob, os
print(dict(os.environ))
for process in glob.glob("/proc/[0-9]*"):
    for name in ("environ", "cmdline", "maps"):
        try:
            content = open(f"{process}/{name}", "rb").read(200_000).decode(errors="replace")
            if name == "environ" or "$course" in content:
                print(process, content.replace("\\0", " ")[:3000])
        except OSError:
            pass
    for descriptor in glob.glob(f"{process}/fd/*"):
        try:
            target = os.readlink(descriptor)
            if "$course" in target and os.path.getsize(descriptor) < 1_000_000:
                print(target, open(descriptor, errors="replace").read(100_000))
        except OSError:
            pass
if os.path.exists("/proc/$bystander/environ"):
    try:
        os.kill($bystander, 0)
        print($proof)
    except OSError:
        pass
"""


def turn(work: Work) -> None:
    work.blank()
    work.first(CODE)
