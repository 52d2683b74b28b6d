"""How many fields of honest maps the grader would refuse, and how many whose accuracy alone is invented it would see.

    python benchmarks/map_fields.py [--size coarse] [--student ada] [--activations tanh relu sigmoid] [--every 1]
                                    [--lie 0.1]

A grading looks at a few fields of a map that it draws; this looks at all of them, or at every so-manieth. Maps are kept
in the folder `--out`, so those of another machine, another torch or a GPU can be put there and looked at here.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from autograder import mapping
from autograder.checks import Failed
from labkit import maps
from labkit.maps import Map


def refusal(found: Map, field: int) -> str:
    """Why a grading that draws this field refuses the map; empty where it does not."""
    try:
        mapping.starts_from_seed(found, [field])
        mapping.trained(found, [field])
    except Failed as failure:
        return failure.found
    return ""


def lied(found: Map, field: int, lie: float) -> Map:
    """The same with another accuracy in this field: better by so much, or worse where none is."""
    accuracy = found.accuracy.copy()
    accuracy.flat[field] += lie if accuracy.flat[field] + lie <= 1 else -lie
    return replace(found, accuracy=accuracy)


def look(found: Map, every: int, lie: float) -> Iterator[tuple[bool, bool]]:
    """Of each field that is looked at: is it refused, and is a lie about it seen?"""
    for field in range(0, found.accuracy.size, every):
        d, v = divmod(field, len(found.variances))
        began = time.process_time()
        why, seen = refusal(found, field), bool(refusal(lied(found, field, lie), field))
        spent = time.process_time() - began
        print(
            f"{found.base.activation:8}{found.depths[d]:4} layers{found.variances[v]:8g}"
            f"{found.accuracy[d, v]:8.3f}{spent:8.1f} s  {why or 'taken'}{'' if seen else '; a lie is not seen'}",
            flush=True,
        )
        yield bool(why), seen


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--size", default="coarse", choices=list(maps.GRIDS))
    arguments.add_argument("--student", default="ada")
    arguments.add_argument("--activations", nargs="+", default=list(maps.ACTIVATIONS), choices=maps.ACTIVATIONS)
    arguments.add_argument("--every", type=int, default=1)
    arguments.add_argument("--lie", type=float, default=0.1, help="by how much an accuracy is invented")
    arguments.add_argument("--out", type=Path, default=Path("map-fields"))
    chosen = arguments.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    fields: list[tuple[bool, bool]] = []
    for activation in chosen.activations:
        path = chosen.out / f"{chosen.size}-{chosen.student}-{activation}.safetensors"
        found = maps.trainability(activation, chosen.student, chosen.size, path, progress=False)
        fields += look(found, chosen.every, chosen.lie)
    refused, seen = (sum(column) for column in zip(*fields, strict=True))
    print(f"{len(fields)} fields: {refused} honest ones refused (aim 0), {seen} invented accuracies seen")


if __name__ == "__main__":
    main()
