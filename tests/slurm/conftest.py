"""A real Slurm for the tests of this folder; without its packages they are skipped, and say so."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm.cluster import Cluster, missing


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    if absent := missing():
        pytest.skip(f"no Slurm here ({', '.join(absent)}): apt-get install slurm-wlm munge")
    # the address of a socket has at most 107 bytes
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        found = Cluster(Path(folder))
        before = dict(os.environ)
        os.environ.update(found.environment)
        try:
            found.start()
            yield found
        finally:
            found.stop()
            os.environ.clear()
            os.environ.update(before)
