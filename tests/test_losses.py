"""Is the loss of one output the binary cross-entropy, and of several the cross-entropy?"""

import torch

from labkit.losses import logits_of_classes, mean_cross_entropy


def test_one_output_is_binary_cross_entropy() -> None:
    z = torch.linspace(-30, 30, 13, dtype=torch.float64).view(-1, 1).requires_grad_()
    labels = torch.arange(13) % 2
    theirs = torch.nn.functional.binary_cross_entropy_with_logits(z[:, 0], labels.double())
    ours = mean_cross_entropy(z, labels)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    a, b = (torch.autograd.grad(loss, z, retain_graph=True)[0] for loss in (ours, theirs))
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-18)


def test_several_outputs_are_classes() -> None:
    z, labels = torch.randn(5, 3, generator=torch.manual_seed(0)), torch.tensor([0, 2, 1, 1, 0])
    assert torch.equal(mean_cross_entropy(z, labels), torch.nn.functional.cross_entropy(z, labels))
    assert logits_of_classes(z) is z


def test_classes_may_lie_along_any_axis() -> None:
    z = torch.tensor([[[1.5, -2.0]]])  # (networks, outputs, batch)
    two = logits_of_classes(z, 1)
    assert two.shape == (1, 2, 2)
    torch.testing.assert_close(two.softmax(1)[:, 1:], z.sigmoid())
