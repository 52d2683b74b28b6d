"""What the live view costs a training: ratios to the same training with the plain bar, in a real kernel.

    python benchmarks/live.py [--rounds 9]

A kernel is started, and this process takes all its messages as a front end does. S1's two networks are trained with and
without the view in turn; then the loop that everybody writes around a Recorder. Times are the kernel process's CPU
times, all its threads together, and wall times; the ratio is the median over the rounds, with the quartiles. The
figure that takes the view's place at the end is drawn when training is over: its time is shown by itself. On a busy
machine the ratios scatter; the share of the CPU time that the training thread spent on looks scatters less.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Times = tuple[float, float]


def clock() -> Times:
    return time.process_time(), time.perf_counter()


class Timed:
    """A watch whose end, the figure's drawing, is timed by itself."""

    latest_only, live = True, True

    def __init__(self) -> None:
        import labkit

        self.view = labkit.LiveTraining()
        self.attend, self.looks, self.looking, self.asked = self.view.attend, 0, 0.0, 0.0
        self.drawing = (0.0, 0.0)

    def due(self) -> bool:
        self.asked = time.thread_time()
        return self.view.due()

    def __call__(self, recordings: Any) -> None:
        self.looks += 1
        self.view(recordings)
        self.looking += time.thread_time() - self.asked

    def end(self, recordings: Any) -> None:
        before = clock()
        self.view.end(recordings)
        after = clock()
        self.drawing = (after[0] - before[0], after[1] - before[1])
        if self.view.problem:
            raise RuntimeError(self.view.problem)


def spent(run: Callable[[Any], None], watch: Timed | None) -> Times:
    """CPU and wall time of a run, less what the last figure took."""
    before = clock()
    run(watch)
    after = clock()
    drawing = watch.drawing if watch else (0.0, 0.0)
    return after[0] - before[0] - drawing[0], after[1] - before[1] - drawing[1]


def trained(watch: Any) -> None:
    import labkit

    pair = [labkit.experiment(f"vanishing/{name}", "ada") for name in ("relu", "sigmoid")]
    labkit.train_many(pair, device="cpu", watch=watch)


def own_loop(watch: Any) -> None:
    from loops import by_hand

    import labkit

    by_hand(labkit.experiment("vanishing/relu", "ada"), watch=watch)


def measure(rounds: int) -> None:
    """In the kernel."""
    import torch

    torch.set_num_threads(1)
    for name, run in {"train_many, relu and sigmoid": trained, "a loop of one's own, Recorder": own_loop}.items():
        run(None)
        run(Timed())  # what is loaded on first use
        pairs, watches = [], []
        for number in range(rounds):
            order: list[Timed | None] = [None, Timed()]
            times = {k: spent(run, order[k]) for k in ((0, 1) if number % 2 else (1, 0))}
            pairs.append((times[0], times[1]))
            watches.append(order[1])
        show(name, pairs, [watch for watch in watches if watch])


def show(name: str, pairs: list[tuple[Times, Times]], watches: list[Timed]) -> None:
    for kind, what in enumerate(("CPU", "wall")):
        ratios = [after[kind] / before[kind] for before, after in pairs]
        low, middle, high = statistics.quantiles(ratios, n=4)
        without = statistics.median(before[kind] for before, _ in pairs)
        print(f"{name:32}{what:5}{without:7.2f} s without{middle:8.3f} ({low:.3f} to {high:.3f})")
    looks = statistics.median(watch.looks for watch in watches)
    drawing = statistics.median(watch.drawing[0] for watch in watches)
    looking = statistics.median(w.looking / after[0] for w, (_, after) in zip(watches, pairs, strict=True))
    print(f"{'':32}{looks:.0f} looks, with the statistics that they bring forward {looking:.1%} of the CPU time")
    print(f"{'':32}the figure at the end took {drawing:.2f} s of CPU\n")


def main() -> None:
    from jupyter_client.manager import start_new_kernel

    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=9)
    rounds = arguments.parse_args().rounds
    manager, client = start_new_kernel(kernel_name="python3")
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import live; live.measure({rounds})"
    try:
        asked, taken = client.execute(code, allow_stdin=True), 0
        while True:
            message = client.get_iopub_msg(timeout=600)
            if message["parent_header"].get("msg_id") != asked:
                continue
            taken += len(message["buffers"])
            content = message["content"]
            if message["msg_type"] == "stream":
                print(content["text"], end="", flush=True)
            elif message["msg_type"] == "error":
                raise SystemExit("\n".join(content["traceback"]))
            elif content.get("execution_state") == "idle":
                break
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    print(f"{taken:,} buffers of numbers were sent")


if __name__ == "__main__":
    main()
