"""Children that leave the group and the session, are adopted, close everything and go on.

Tries: to live on after the grade, with the instructor's rights.
Must happen: nothing that it started is alive afterwards.
"""

from hostile.work import ALL, Work

DESERVES = ALL
CODE = """
import os, subprocess, sys, time

command = [sys.executable, "-c", "import time; time.sleep(300)", "$student"]
subprocess.Popen(command)
subprocess.Popen(command, start_new_session=True)
subprocess.Popen(["sh", "-c", "nohup sleep 300 & disown 2>/dev/null; exit 0", "$student"])
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 256)
        os.chdir("/")
        until = time.time() + 300
        while time.time() < until:
            try:
                open("$place/alive", "w").close()
            except OSError:
                pass
            time.sleep(0.5)
    os._exit(0)
"""


def turn(work: Work) -> None:
    work.first(CODE)
