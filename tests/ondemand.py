"""Open OnDemand's app of ours, rendered by Ruby's ERB as a portal does it, and its job as the template `basic` puts it
together."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

SITE = Path(__file__).parent.parent / "assignments" / "cluster"
APP = SITE / "ondemand"
FORM = {"gpus": "1", "cores": "2", "folder": "", "bc_queue": "teaching", "bc_num_hours": "1"}

# the form's values are methods where a template is evaluated, and of `context` in the job's own files
RENDER = """
require "erb"; require "json"; require "ostruct"
said = JSON.parse($stdin.read)
context = OpenStruct.new(said["values"])
context.context = context
puts ERB.new(said["text"], trim_mode: "-").result(context.instance_eval { binding })
"""

# what `basic` puts around before.sh, script.sh and after.sh (ood_core, batch_connect/template.rb), in our words
JOB = """#!/bin/bash
cd {folder}
clean_up() {{ [ -n "${{script:-}}" ] && pkill -P "$script"; kill "${{script:-}}" 2>/dev/null; exit "${{1:-0}}"; }}
find_port() {{ {python} -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }}
create_passwd() {{ tr -cd 'a-zA-Z0-9' < /dev/urandom | head -c "$1"; }}
wait_until_port_used() {{
  for _ in $(seq "$2"); do (exec 3<>"/dev/tcp/127.0.0.1/${{1##*:}}") 2>/dev/null && return 0; sleep 1; done; return 1
}}
host=$(hostname)
source before.sh
bash script.sh &
script=$!
source after.sh
(umask 077; echo "{{\\"port\\": $port, \\"password\\": \\"$password\\", \\"base_path\\": \\"$base_path\\"}}" > told)
mv told connection.json
wait "$script"
"""


def rendered(name: str, **values: Any) -> str:
    """A file of the app with a form's values."""
    if shutil.which("ruby") is None:
        pytest.skip("no Ruby here, which renders Open OnDemand's files: apt-get install ruby")
    said = json.dumps({"text": (APP / name).read_text(), "values": {**FORM, **values}})
    done = subprocess.run(["ruby", "-e", RENDER], input=said, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def job(folder: Path, python: str, **values: Any) -> Path:
    """The batch file of a session in its own folder, as it goes to sbatch together with `options`."""
    for name in ("before.sh", "script.sh", "after.sh"):
        (folder / name).write_text(rendered(f"template/{name}.erb", **values))
    path = folder / "session.sh"
    path.write_text(JOB.format(folder=folder, python=python))
    return path


def options(**values: Any) -> list[str]:
    """What sbatch is given for a session: the app's own, and what a portal makes of the hours and the partition."""
    said = yaml.safe_load(rendered("submit.yml.erb", **values))
    form = {**FORM, **values}
    native: list[str] = said["script"]["native"]
    return [*native, f"--partition={form['bc_queue']}", f"--time={form['bc_num_hours']}:00:00"]
