"""Recurrent networks, written out step by step, so that the hidden state of every time step is a tensor of the graph.

For each step t, with drive x_t = W x_t + b of the inputs and u_t = U h_{t-1} (+ c in a gru) of the state before it:

    rnn     h = a(x + u)
    lstm    i, f, o = sigmoid of theirs, g = tanh of its      c' = f c + i g       h = o tanh(c')
    gru     r, z = sigmoid of theirs, n = tanh(x_n + r u_n)   h = (1 - z) n + z h_{t-1}

Hochreiter & Schmidhuber 1997 with the forget gates of Gers et al. 2000; Cho et al. 2014, with the reset gate where
torch has it. Gates are stacked as torch stacks them: i f g o, and r z n. torch has a second bias vector in every cell;
only a gru's is not a sum with the first, and is here.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from labkit.activations import LEAKY_SLOPE
from labkit.experiments import Activation, Architecture, ExperimentError, Normalisation
from labkit.initialisations import GATES
from labkit.networks.parts import activation_module, linear

State = tuple[Tensor, Tensor]  # the hidden state h and the memory, (batch, units) each


class GateNorm(nn.Module):
    """Layer normalisation of each gate's units by themselves, with a scale and a shift for each (Ba et al. 2016)."""

    def __init__(self, gates: int, units: int, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.units, self.epsilon = units, epsilon
        self.weight, self.bias = nn.Parameter(torch.ones(gates * units)), nn.Parameter(torch.zeros(gates * units))

    def forward(self, z: Tensor, first: int = 0) -> Tensor:
        """z (batch, n * units) of the n gates from `first` on."""
        part = slice(first * self.units, first * self.units + z.shape[1])
        each = functional.layer_norm(z.unflatten(1, (-1, self.units)), (self.units,), eps=self.epsilon)
        return each.flatten(1) * self.weight[part] + self.bias[part]


class Recurrent(nn.Module, ABC):
    """Sequences (batch, steps, inputs) to logits (batch, classes), read from the last hidden state.

    The weights of `input` and of `recurrent` have `units` rows for each gate. After a forward pass, `states` are its
    T hidden states h_t (batch, units), and `memory` what a step hands on to the next past all gates' outputs: an
    lstm's cells c_t, elsewhere the hidden states themselves. Ask for their gradients with `torch.autograd.grad(loss,
    network.states)`. An lstm's h_t reaches later steps through its gates alone, c_t directly: look at both.
    """

    def __init__(
        self,
        architecture: Architecture,
        widths: Sequence[int],
        activation: Activation = "tanh",
        leaky: float = LEAKY_SLOPE,
        normalisation: Normalisation = "none",
    ) -> None:
        super().__init__()
        (inputs, units, classes), gates = widths, GATES[architecture]
        self.units = units
        self.input = linear(inputs, gates * units)
        self.recurrent = linear(units, gates * units, bias=architecture == "gru")
        self.norm = GateNorm(gates, units) if normalisation == "layer" else None
        self._activation = activation
        self.add_module(activation, activation_module(activation, leaky))
        self.output = linear(units, classes)
        self.states: list[Tensor] = []
        self.memory: list[Tensor] = []

    def forward(self, sequences: Tensor) -> Tensor:
        inputs = self.input.in_features
        if sequences.ndim != 3 or sequences.shape[1] < 1 or sequences.shape[2] != inputs:
            raise ExperimentError(
                f"the sequences have a shape of {tuple(sequences.shape)}: give (batch, steps, {inputs})"
            )
        drive = self.input(sequences)
        state: State = (drive.new_zeros(len(sequences), self.units),) * 2
        self.states, self.memory = [], []
        for x in drive.unbind(1):
            state = self.step(x, state)
            self.states.append(state[0])
            self.memory.append(state[1])
        logits: Tensor = self.output(state[0])
        return logits

    @abstractmethod
    def step(self, x: Tensor, state: State) -> State:
        """The next state, from the drive x (batch, gates * units) and the state before."""

    def activate(self, z: Tensor) -> Tensor:
        found: Tensor = getattr(self, self._activation)(z)
        return found

    def normed(self, z: Tensor, first: int = 0) -> Tensor:
        """The summed pre-activations of the gates from `first` on, normalised where the network does that."""
        return z if self.norm is None else self.norm(z, first)

    def __getstate__(self) -> dict[str, object]:
        # tensors inside a graph can be neither copied nor stored, and belong to a pass, not to the network
        return {**self.__dict__, "states": [], "memory": []}


class RNN(Recurrent):
    def step(self, x: Tensor, state: State) -> State:
        h = self.activate(self.normed(x + self.recurrent(state[0])))
        return h, h


class LSTM(Recurrent):
    def step(self, x: Tensor, state: State) -> State:
        h, memory = state
        i, f, g, o = self.normed(x + self.recurrent(h)).chunk(4, 1)
        memory = torch.sigmoid(f) * memory + torch.sigmoid(i) * self.activate(g)
        return torch.sigmoid(o) * self.activate(memory), memory


class GRU(Recurrent):
    def step(self, x: Tensor, state: State) -> State:
        h, both = state[0], [2 * self.units, self.units]
        last = self.recurrent(h)
        (x_rz, x_n), (u_rz, u_n) = x.split(both, 1), last.split(both, 1)
        r, z = torch.sigmoid(self.normed(x_rz + u_rz)).chunk(2, 1)
        n = self.activate(self.normed(x_n + r * u_n, first=2))
        h = (1 - z) * n + z * h
        return h, h


def recurrent(
    architecture: Architecture,
    widths: Sequence[int],
    activation: Activation = "tanh",
    leaky: float = LEAKY_SLOPE,
    normalisation: Normalisation = "none",
) -> Recurrent:
    """The network of that architecture; widths are inputs, units and classes. Parameters hold nothing yet."""
    kinds: dict[Architecture, type[RNN] | type[LSTM] | type[GRU]] = {"rnn": RNN, "lstm": LSTM, "gru": GRU}
    return kinds[architecture](architecture, widths, activation, leaky, normalisation)
