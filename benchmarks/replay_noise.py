"""How far honest recordings are from their replay, and how far another seed's: what the graders' tolerance rests on.

    python benchmarks/replay_noise.py [--seeds 10]

Off is the largest difference of mean |gradient| to the replay, after every checkpoint, in units of that layer's own
spread (its standard deviation). The tolerance in autograder/authenticity.py has to lie between the two.
"""

import argparse

import numpy as np
import torch

import labkit
from autograder.authenticity import STEPS, TOLERANCE
from labkit.recording import STATISTICS, Recording
from labkit.replay import replay

_SIZE, _SPREAD = STATISTICS.index("abs_mean"), STATISTICS.index("sd")


def off(recording: Recording, experiment: labkit.Experiment) -> float:
    """The largest difference to the replay of `experiment`."""
    worst = 0.0
    for checkpoint, start in enumerate(recording.checkpoint_iteration.tolist()[:-1]):
        again = replay(recording, checkpoint, STEPS, experiment)
        recorded = recording.gradient[start : start + STEPS, :, _SIZE]
        share = np.abs(again.gradient[:, :, _SIZE] - recorded) / again.gradient[:, :, _SPREAD]
        worst = max(worst, float(share.max()))
    return worst


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seeds", type=int, default=10)
    seeds = arguments.parse_args().seeds
    print(f"torch {torch.__version__}, {seeds} seeds, {STEPS} iterations after each checkpoint")
    print(f"tolerance {TOLERANCE:g}\n")
    print(f"{'network':10}{'dtype':10}{'honest, largest':>18}{'another seed, smallest':>25}")
    for activation in ("relu", "sigmoid"):
        for dtype in ("float32", "float64"):
            honest, other = [], []
            for seed in range(seeds):
                e = labkit.experiment(f"vanishing/{activation}").replace(seed=seed, dtype=dtype, epochs=20)
                recording = labkit.train(e, device="cpu", progress=False)
                honest.append(off(recording, e))
                other.append(off(recording, e.replace(seed=seed + 1000)))
            print(f"{activation:10}{dtype:10}{max(honest):18.1e}{min(other):25.1e}")


if __name__ == "__main__":
    main()
