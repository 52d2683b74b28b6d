"""Is a replay what was recorded, and is its back-propagation right by finite differences?"""

from dataclasses import replace

import numpy as np
import pytest

from labkit import initialisations
from labkit.experiments import Experiment
from labkit.recorder import Recorder
from labkit.recording import RecordingError
from labkit.replay import backpropagate, replay, start_of
from labkit.training import train


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh", "leaky_relu", "linear"])
def test_gradients_are_central_differences(activation: str) -> None:
    e = Experiment().replace(activation=activation)
    random = np.random.RandomState(1)
    images, labels = random.uniform(0, 1, (5, 12)), random.randint(0, 4, 5)
    layers = initialisations.draw((12, 6, 5, 4), "he_normal", seed=3)
    layers = [(w, b + random.uniform(-0.1, 0.1, b.shape)) for w, b in layers]
    _, gradients = backpropagate(layers, images, labels, e)
    step = 1e-6
    for layer, pair in enumerate(gradients):
        for part, gradient in enumerate(pair):
            for index in list(np.ndindex(gradient.shape))[::7]:
                sides = []
                for sign in (1, -1):
                    moved = [[w.copy(), b.copy()] for w, b in layers]
                    moved[layer][part][index] += sign * step
                    sides.append(backpropagate([(w, b) for w, b in moved], images, labels, e)[0])
                assert gradient[index] == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-4, abs=1e-9)


@pytest.mark.parametrize(
    "changes",
    [{}, {"activation": "sigmoid"}, {"optimizer": "sgd", "learning_rate": 0.1, "clip_norm": 0.3}, {"dtype": "float64"}],
)
def test_a_replay_is_what_was_recorded(short, changes: dict) -> None:
    recording = train(short.replace(epochs=6, **changes), device="cpu", progress=False)
    tolerance = 1e-9 if changes.get("dtype") == "float64" else 1e-4
    for checkpoint, start in enumerate(recording.checkpoint_iteration.tolist()[:-1]):
        again = replay(recording, checkpoint, 7)
        stretch = slice(start, start + len(again.loss))
        assert len(again.loss) == min(7, recording.iterations - start)
        np.testing.assert_allclose(again.loss, recording.loss[stretch], rtol=tolerance)
        for column in range(5):
            off = np.abs(again.gradient[:, :, column] - recording.gradient[stretch, :, column])
            assert (off <= tolerance * again.gradient[:, :, 3]).all()
        np.testing.assert_allclose(again.update_norm, recording.update_norm[stretch], rtol=10 * tolerance)
        np.testing.assert_allclose(again.weight_norm, recording.weight_norm[stretch], rtol=tolerance)


def test_the_start_is_the_first_checkpoint(runs) -> None:
    for recording in runs.values():
        start = start_of(recording.origin.experiment)
        np.testing.assert_allclose(recording.checkpoint_parameters[0], start, rtol=1e-6, atol=1e-9)


def test_another_seed_is_far_off(runs, ada) -> None:
    """What a replay can tell apart: honest noise is 1e-6 of a layer's spread, another seed's figures are not."""
    recording = runs["relu"]
    again = replay(recording, 4, 3, ada["relu"].replace(seed=1))
    stretch = slice(again.start, again.start + 3)
    off = np.abs(again.gradient[:, :, 1] - recording.gradient[stretch, :, 1]) / again.gradient[:, :, 2]
    assert off.max() > 0.01


def test_what_cannot_be_replayed_says_why(runs, short) -> None:
    from labkit import networks

    alone = Recorder(networks.of_experiment(short)).recording()
    with pytest.raises(RecordingError, match="follows no experiment"):
        replay(alone, 0, 1)
    with pytest.raises(RecordingError, match="not the experiment's"):
        replay(runs["relu"], 0, 1, short.replace(widths=(784, 9, 10)))
    headless = replace(
        runs["relu"],
        origin=replace(runs["relu"].origin, moments=()),
        checkpoint_moments=runs["relu"].checkpoint_moments[:, :0],
    )
    with pytest.raises(RecordingError, match="no moments of Adam"):
        replay(headless, 0, 1)
