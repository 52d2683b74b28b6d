"""The simulated class of the recurrent-gradients lab: its kinds of student, what they write and how they forge."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from autograder.classes.vanishing_gradients import scaled, zeroed
from autograder.classroom import Class, Edit, Kind
from labkit.recording import Recording

ESSAYS = {
    "dial_words": "One step back multiplies by U transposed, which is orthogonal times the factor, so 19 steps by its "
    "19th power. The slope of tanh is at most 1 and takes something away at every step.",
    "gates_words": "The memory is carried on by a sum: its gradient is multiplied by the forget gate alone. My LSTM "
    "has a ratio of {lstm:.2g} at the start, my RNN {rnn:.2g} and my GRU {gru:.2g}, whose gate is half closed.",
    "clip_words": "My clipped loss went from {clipped_start:.3g} to {clipped_end:.3g} instead of to infinity. The "
    "ratio through time is the same {clipped:.3g} with clipping and without, and nothing short is made longer.",
}


def own_numbers(work: Path) -> dict[str, float]:
    """What a student quotes from the own recordings."""
    runs = {name: Recording.load(work / f"{name}.safetensors") for name in ("rnn", "lstm", "gru", "clipped")}
    ratios = {name: float(run.through_time[0, 0] / run.through_time[0, -1]) for name, run in runs.items()}
    return {
        **ratios,
        "clipped_start": float(runs["clipped"].loss[0]),
        "clipped_end": float(runs["clipped"].loss[-1]),
    }


def evened(r: Recording) -> Recording:
    """No time step's gradient is smaller than the last one's, as one would wish of a cell with gates."""
    return replace(r, through_time=r.through_time * 0 + r.through_time[:, -1:])


ALL = {"chance": 2, "rnn_step": 2, "gradients_through_time": 3, "jacobians": 4, "dial": 3, "runs": 3, "time_ratios": 3,
       "forget_gate": 3, "exploding_recurrence": 3, "clipped_recurrence": 3}  # fmt: skip
# what rests on recordings; what a network shows at its start follows from the seed alone
RUNS = {"runs": 3, "time_ratios": 3, "exploding_recurrence": 3, "clipped_recurrence": 3}
ONE_RUN = {"runs": 1, "time_ratios": 3}


def _without(*questions: str) -> dict[str, float]:
    return {name: points for name, points in ALL.items() if name not in questions}


def _mistake(name: str, loses: Mapping[str, float], cell: str, *changes: tuple[str, str], says: str = "") -> Kind:
    return Kind(name, loses, tuple(Edit(cell, old, new) for old, new in changes), says=says)


RECURRENT = (
    Kind("complete", {}),
    Kind("partly done", _without("chance", "rnn_step", "gradients_through_time", "jacobians", "dial"),
         stops_after="dial"),
    _mistake("forgot the bias", {"rnn_step": 2, "gradients_through_time": 2}, "rnn_step", (" + b", ""),
             says="x @ W.T"),
    Kind("empty", ALL, runs=False),
    _mistake("error-raising", {"forget_gate": 2}, "forget_gate", ('experiments["lstm"]', 'experiment["lstm"]')),
    Kind("infinite loop", {"clipped_recurrence": 3}, skips=("clipped_recurrence",), edits=(Edit("clipped_recurrence",
        "norm_before = n", "row = 0\nwhile row < 10:\n    row + 1\nnorm_before = n"),)),
    Kind("fabricated numbers", ONE_RUN, forge=evened, forged=("lstm",), says="replay"),
    Kind("copied, own id typed in", RUNS, copies=True, says="another student's", edits=(
        Edit("student_id", 'student = "{classmate}"', 'student = "{me}"'),)),
    _mistake("bits for nats", {"chance": 2, "time_ratios": 1}, "entropy", ("np.log(", "np.log2("), says="natural log"),
    _mistake("the last step first", {"gradients_through_time": 2}, "gradients_through_time",
             ("for h in states]", "for h in states[::-1]]"), says="first step first"),
    _mistake("the other order", {"jacobians": 2}, "jacobian_product",
             ("torch.diag(1 - h**2) @ recurrent_weight @ product", "product @ torch.diag(1 - h**2) @ recurrent_weight"),
             says="on the left"),
    _mistake("eigenvalue for singular value", {"jacobians": 1}, "spectrum",
             ("torch.linalg.matrix_norm(matrix, 2)", "torch.linalg.eigvals(matrix).abs().max()"),
             says="singular value"),
    _mistake("20 steps apart", {"dial": 1}, "dial", ("(steps - 1)", "steps"), says="how many steps"),
    _mistake("20th root", {"time_ratios": 1}, "time_ratios", ("(steps - 1)", "steps"), says="19 apart"),
    _mistake("states for the memory", {"forget_gate": 2}, "forget_gate", ("network.memory", "network.states"),
             says="not of the states"),
    _mistake("the input gates", {"forget_gate": 2}, "forget_gate", ("[16:32]", "[0:16]"), says="forget gates' rows"),
    _mistake("factor too small", {"exploding_recurrence": 3}, "exploding_recurrence", ("gain=1.3", "gain=1.0"),
             says="more than 1"),
    _mistake("clipped at 2", {"exploding_recurrence": 2}, "exploding_recurrence", ("clip_norm=1.0", "clip_norm=2.0"),
             says="clip_norm=1.0"),
    _mistake("after for before", {"clipped_recurrence": 1}, "clipped_recurrence", (" / clipped.clip_factor", ""),
             says="over its clip_factor"),
    Kind("classmate's recording", ONE_RUN, borrows=("gru",), says="another student's"),
    Kind("zeros", ONE_RUN, forge=zeroed, forged=("rnn",), says="exactly 0"),
    Kind("scaled", ONE_RUN, forge=scaled, forged=("gru",), says="scaled"),
)  # fmt: skip
CLASS = Class(RECURRENT, (), ESSAYS, own_numbers)
