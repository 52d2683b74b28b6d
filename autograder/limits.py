"""What a submission may use while it is graded."""

from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Limits:
    """Processor time counts, not the wall of a busy machine; waiting has limits of its own, `patience` times longer."""

    cell_seconds: float = 30  # processor time of one cell; the next cell runs all the same
    call_seconds: float = 10  # processor time of one call of a student's function
    cpu_seconds: float = 240  # processor time of the whole submission
    patience: float = 3  # wall time for every second of processor time, where something only waits
    data_bytes: int = 3 * 2**30  # memory that is written; torch needs 1 GB
    address_bytes: int = 12 * 2**30  # memory that is merely reserved, libraries included
    file_bytes: int = 512 * 2**20  # the largest file
    open_files: int = 256
    processes: int = 64  # at the same time; a DataLoader's workers are some
    disk_bytes: int = 2 * 2**30  # all files together

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Limits":
        return cls(**{f.name: values[f.name] for f in fields(cls)})
