"""Six exercises of the lab, each solved by six people who did not talk to each other: what honest pairs share.

Data for tests/test_similarity.py; written from the exercises alone, in six ways of working.
"""

ANSWERS = {
    "careful": {
        "activation_gradients": '''
def activation_gradients(name, x):
    """The activation "relu" or "sigmoid" at x and its derivative, each shaped like x."""
    copied = x.detach().clone()
    copied.requires_grad = True
    if name == "relu":
        value = torch.relu(copied)
    elif name == "sigmoid":
        value = torch.sigmoid(copied)
    else:
        raise ValueError(f"unknown activation {name}")
    total = value.sum()
    total.backward()
    return value.detach(), copied.grad
''',
        "build_network": '''
def build_network(activation, seed=0):
    """784-10-10-10-10 with "relu" or "sigmoid" between the layers, named as above."""
    from collections import OrderedDict

    torch.manual_seed(seed)

    def dense(inputs, outputs):
        layer = nn.Linear(inputs, outputs)
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
        return layer

    def between():
        return nn.ReLU() if activation == "relu" else nn.Sigmoid()

    return nn.Sequential(OrderedDict([
        ("flatten", nn.Flatten()),
        ("fc_1", dense(784, 10)),
        (f"{activation}_1", between()),
        ("fc_2", dense(10, 10)),
        (f"{activation}_2", between()),
        ("fc_3", dense(10, 10)),
        (f"{activation}_3", between()),
        ("fc_4", dense(10, 10)),
    ]))
''',
        "model_loss": '''
def model_loss(network, images, labels):
    """The mean cross-entropy, and a dict of the gradients of all learnables by name."""
    network.zero_grad()
    logits = network(images)
    loss = nn.CrossEntropyLoss()(logits, labels)
    loss.backward()
    gradients = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            gradients[name] = parameter.grad.clone()
    return loss.item(), gradients
''',
        "gradient_distributions": '''
def gradient_distributions(values):
    """30 bin centres (30,) and the number of values in each bin (30,)."""
    flat = values.detach().cpu().numpy().flatten()
    smallest, largest = flat.min(), flat.max()
    edges = np.linspace(smallest, largest, 31)
    counts, _ = np.histogram(flat, bins=edges)
    half = (edges[1] - edges[0]) / 2
    centres = edges[:30] + half
    return centres, counts
''',
        "train_loop": '''
def train_loop(network, optimizer, recorder, experiment):
    """Train for experiment.epochs epochs and give the recording."""
    for epoch in range(experiment.epochs):
        batches = labkit.data.epoch_batches(experiment, epoch)  # index arrays, in order
        for batch in batches:
            x, y = images[batch], labels[batch]
            optimizer.zero_grad()
            prediction = network(x)
            loss = torch.nn.functional.cross_entropy(prediction, y)
            loss.backward()
            optimizer.step()
            recorder.step(loss)
        recorder.end_epoch()
    return recorder.recording()
''',
        "attenuation_values": """
relu_ratio = attenuation(relu.statistic("abs_mean"))
sigmoid_ratio = attenuation(sigmoid.statistic("abs_mean"))
attenuation_at_start = {"relu": relu_ratio[0], "sigmoid": sigmoid_ratio[0]}
attenuation_over_training = {"relu": np.median(relu_ratio), "sigmoid": np.median(sigmoid_ratio)}
""",
    },
    "terse": {
        "activation_gradients": '''
def activation_gradients(name, x):
    """The activation "relu" or "sigmoid" at x and its derivative, each shaped like x."""
    x = x.clone().detach().requires_grad_()
    y = getattr(torch, name)(x)
    g, = torch.autograd.grad(y, x, torch.ones_like(y))
    return y.detach(), g
''',
        "build_network": '''
def build_network(activation, seed=0):
    """784-10-10-10-10 with "relu" or "sigmoid" between the layers, named as above."""
    from collections import OrderedDict as OD
    torch.manual_seed(seed)
    A = nn.ReLU if activation == "relu" else nn.Sigmoid
    d = OD(flatten=nn.Flatten())
    for i, n in enumerate([784, 10, 10, 10], 1):
        d[f"fc_{i}"] = nn.Linear(n, 10)
        if i != 4: d[f"{activation}_{i}"] = A()
    net = nn.Sequential(d)
    for n, p in net.named_parameters():
        nn.init.zeros_(p) if "bias" in n else nn.init.xavier_uniform_(p)
    return net
''',
        "model_loss": '''
def model_loss(network, images, labels):
    """The mean cross-entropy, and a dict of the gradients of all learnables by name."""
    p = dict(network.named_parameters())
    l = nn.functional.cross_entropy(network(images), labels)
    return l.detach(), dict(zip(p, torch.autograd.grad(l, p.values())))
''',
        "gradient_distributions": '''
def gradient_distributions(values):
    """30 bin centres (30,) and the number of values in each bin (30,)."""
    n, e = np.histogram(values.numpy(force=True), 30)
    return np.convolve(e, [.5, .5], "valid"), n
''',
        "train_loop": '''
def train_loop(network, optimizer, recorder, experiment):
    """Train for experiment.epochs epochs and give the recording."""
    for epoch in range(experiment.epochs):
        batches = labkit.data.epoch_batches(experiment, epoch)  # index arrays, in order
        for b in batches:
            l = nn.functional.cross_entropy(network(images[b]), labels[b])
            optimizer.zero_grad(); l.backward(); optimizer.step()
            recorder.step(l)
        recorder.end_epoch()
    return recorder.recording()
''',
        "attenuation_values": """
a = {k: attenuation(r.statistic("abs_mean")) for k, r in zip(("relu", "sigmoid"), (relu, sigmoid))}
attenuation_at_start = {k: v[0] for k, v in a.items()}
attenuation_over_training = {k: np.median(v) for k, v in a.items()}
""",
    },
    "object-minded": {
        "activation_gradients": '''
ACTIVATIONS = dict(relu=nn.ReLU(), sigmoid=nn.Sigmoid())

def activation_gradients(name, x):
    """The activation "relu" or "sigmoid" at x and its derivative, each shaped like x."""
    with torch.enable_grad():
        leaf = torch.tensor(x.numpy(), requires_grad=True)
        out = ACTIVATIONS[name](leaf)
        out.backward(gradient=torch.ones(out.shape, dtype=out.dtype))
    return out.data, leaf.grad.data
''',
        "build_network": '''
class Builder:
    def __init__(self, activation):
        self.kind = activation
        self.parts = []

    def add(self, number, inputs):
        layer = nn.Linear(inputs, 10)
        torch.nn.init.xavier_uniform_(layer.weight.data)
        layer.bias.data.fill_(0.0)
        self.parts.append(("fc_" + str(number), layer))

    def activate(self, number):
        made = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}[self.kind]()
        self.parts.append((self.kind + "_" + str(number), made))

def build_network(activation, seed=0):
    """784-10-10-10-10 with "relu" or "sigmoid" between the layers, named as above."""
    torch.manual_seed(seed)
    builder = Builder(activation)
    builder.parts.append(("flatten", nn.Flatten(1)))
    builder.add(1, 28 * 28)
    for number in (2, 3, 4):
        builder.activate(number - 1)
        builder.add(number, 10)
    network = nn.Sequential()
    for name, part in builder.parts:
        network.add_module(name, part)
    return network
''',
        "model_loss": '''
criterion = nn.CrossEntropyLoss(reduction="mean")

def model_loss(network, images, labels):
    """The mean cross-entropy, and a dict of the gradients of all learnables by name."""
    for weights in network.parameters():
        weights.grad = None
    value = criterion(network.forward(images), labels)
    value.backward()
    found = {name: weights.grad for name, weights in network.named_parameters()}
    return float(value), found
''',
        "gradient_distributions": '''
def gradient_distributions(values):
    """30 bin centres (30,) and the number of values in each bin (30,)."""
    array = np.asarray(values.tolist()).reshape(-1)
    low, high = min(array), max(array)
    width = (high - low) / 30
    index = np.minimum(((array - low) / width).astype(int), 29)
    return np.array([low + (k + 0.5) * width for k in range(30)]), np.bincount(index, minlength=30)
''',
        "train_loop": '''
criterion = nn.CrossEntropyLoss()

def train_one(network, optimizer, rows):
    optimizer.zero_grad(set_to_none=True)
    value = criterion(network(images[rows]), labels[rows])
    value.backward()
    optimizer.step()
    return value

def train_loop(network, optimizer, recorder, experiment):
    """Train for experiment.epochs epochs and give the recording."""
    for epoch in range(experiment.epochs):
        batches = labkit.data.epoch_batches(experiment, epoch)  # index arrays, in order
        for rows in batches:
            recorder.step(train_one(network, optimizer, rows))
        recorder.end_epoch()
    return recorder.recording()
''',
        "attenuation_values": """
attenuation_at_start, attenuation_over_training = {}, {}
for run in (relu, sigmoid):
    which = "relu" if run is relu else "sigmoid"
    series = attenuation(run.statistic("abs_mean"))
    attenuation_at_start[which] = float(series[0])
    attenuation_over_training[which] = float(np.median(series))
""",
    },
    "from-formulas": {
        "activation_gradients": '''
def activation_gradients(name, x):
    """The activation "relu" or "sigmoid" at x and its derivative, each shaped like x."""
    z = torch.nn.Parameter(x.clone())
    if name == "sigmoid":
        f = 1 / (1 + torch.exp(-z))
    if name == "relu":
        f = z.clamp(min=0)
    f.sum().backward()
    return f.detach(), z.grad.detach()
''',
        "build_network": '''
def build_network(activation, seed=0):
    """784-10-10-10-10 with "relu" or "sigmoid" between the layers, named as above."""
    torch.manual_seed(seed)
    network = nn.Sequential()
    network.add_module("flatten", nn.Flatten())
    fan_in = 784
    for layer in range(4):
        fc = nn.Linear(fan_in, 10)
        limit = (6 / (fan_in + 10)) ** 0.5
        with torch.no_grad():
            fc.weight.uniform_(-limit, limit)
            fc.bias.zero_()
        network.add_module("fc_%d" % (layer + 1), fc)
        if layer < 3 and activation == "relu":
            network.add_module("relu_%d" % (layer + 1), nn.ReLU())
        if layer < 3 and activation == "sigmoid":
            network.add_module("sigmoid_%d" % (layer + 1), nn.Sigmoid())
        fan_in = 10
    return network
''',
        "model_loss": '''
def model_loss(network, images, labels):
    """The mean cross-entropy, and a dict of the gradients of all learnables by name."""
    scores = network(images)
    log_p = scores - torch.logsumexp(scores, dim=1, keepdim=True)
    rows = torch.arange(len(labels))
    L = -log_p[rows, labels].mean()
    grads = dict()
    for n, w in network.named_parameters():
        grads[n] = torch.autograd.grad(L, w, retain_graph=True)[0]
    return L.detach().numpy(), grads
''',
        "gradient_distributions": '''
def gradient_distributions(values):
    """30 bin centres (30,) and the number of values in each bin (30,)."""
    v = values.reshape(-1).double()
    a, b = v.min().item(), v.max().item()
    counts = torch.histc(v, bins=30, min=a, max=b)
    h = (b - a) / 30
    centres = a + h * (torch.arange(30) + 0.5)
    return centres.numpy(), counts.numpy()
''',
        "train_loop": '''
def train_loop(network, optimizer, recorder, experiment):
    """Train for experiment.epochs epochs and give the recording."""
    for epoch in range(experiment.epochs):
        batches = labkit.data.epoch_batches(experiment, epoch)  # index arrays, in order
        k = 0
        while k < len(batches):
            X = images[batches[k]]
            t = labels[batches[k]]
            for w in network.parameters():
                w.grad = None
            z = network(X)
            J = (torch.logsumexp(z, 1) - z.gather(1, t[:, None])[:, 0]).mean()
            J.backward()
            optimizer.step()
            recorder.step(J)
            k += 1
        recorder.end_epoch()
    return recorder.recording()
''',
        "attenuation_values": """
g = relu.statistic("abs_mean")
s = sigmoid.statistic("abs_mean")
attenuation_at_start = {"relu": g[0, -1] / g[0, 0], "sigmoid": s[0, -1] / s[0, 0]}
attenuation_over_training = {
    "relu": float(np.median(g[:, -1] / g[:, 0])),
    "sigmoid": float(np.median(s[:, -1] / s[:, 0])),
}
""",
    },
    "from-the-tutorial": {
        "activation_gradients": '''
def activation_gradients(name, x):
    """The activation "relu" or "sigmoid" at x and its derivative, each shaped like x."""
    import torch.nn.functional as F
    inp = torch.tensor(x.detach().numpy(), requires_grad=True)
    fns = [("relu", F.relu), ("sigmoid", F.sigmoid)]
    for key, fn in fns:
        if key == name:
            out = fn(inp)
            out.backward(torch.ones_like(inp))
            return out.detach().clone(), inp.grad.clone()
''',
        "build_network": '''
def init_weights(m):
    if type(m) == nn.Linear:
        nn.init.xavier_uniform_(m.weight)
        m.bias.data.fill_(0)

def build_network(activation, seed=0):
    """784-10-10-10-10 with "relu" or "sigmoid" between the layers, named as above."""
    import collections
    torch.manual_seed(seed)
    sizes = [28 * 28] + [10] * 4
    act = nn.ReLU if activation == "relu" else nn.Sigmoid
    modules = [("flatten", nn.Flatten())]
    for i in range(len(sizes) - 1):
        modules += [("fc_{}".format(i + 1), nn.Linear(sizes[i], sizes[i + 1]))]
        modules += [("{}_{}".format(activation, i + 1), act())]
    modules.pop()
    model = nn.Sequential(collections.OrderedDict(modules))
    model.apply(init_weights)
    return model
''',
        "model_loss": '''
def model_loss(network, images, labels):
    """The mean cross-entropy, and a dict of the gradients of all learnables by name."""
    import torch.nn.functional as F
    network.train()
    network.zero_grad(set_to_none=True)
    output = F.log_softmax(network(images), dim=1)
    loss = F.nll_loss(output, labels)
    loss.backward()
    grads = {k: v.grad.detach().clone() for k, v in network.named_parameters() if v.grad is not None}
    return loss.detach(), grads
''',
        "gradient_distributions": '''
def gradient_distributions(values):
    """30 bin centres (30,) and the number of values in each bin (30,)."""
    data = torch.flatten(values.detach()).numpy()
    hist, bin_edges = np.histogram(data, bins=30, range=(data.min(), data.max()))
    bin_centers = []
    for i in range(len(bin_edges) - 1):
        bin_centers.append((bin_edges[i] + bin_edges[i + 1]) / 2)
    return np.array(bin_centers), hist
''',
        "train_loop": '''
def train_loop(network, optimizer, recorder, experiment):
    """Train for experiment.epochs epochs and give the recording."""
    for epoch in range(experiment.epochs):
        batches = labkit.data.epoch_batches(experiment, epoch)  # index arrays, in order
        network.train()
        loss_fn = nn.CrossEntropyLoss()
        running_loss = 0.0
        for i, idx in enumerate(batches):
            inputs, targets = images[idx], labels[idx]
            optimizer.zero_grad()
            outputs = network(inputs)
            loss = loss_fn(outputs, targets)
            loss.backward()
            optimizer.step()
            recorder.step(loss)
            running_loss += loss.item()
        print(f"epoch {epoch}: {running_loss / len(batches):.3f}")
        recorder.end_epoch()
    return recorder.recording()
''',
        "attenuation_values": """
runs = [("relu", relu), ("sigmoid", sigmoid)]
attenuation_at_start = dict()
attenuation_over_training = dict()
for label, run in runs:
    values = attenuation(run.statistic("abs_mean"))
    attenuation_at_start[label] = values[0]
    attenuation_over_training[label] = np.median(values)
""",
    },
    "functional": {
        "activation_gradients": '''
def activation_gradients(name, x):
    """The activation "relu" or "sigmoid" at x and its derivative, each shaped like x."""
    function = torch.sigmoid if name == "sigmoid" else nn.functional.relu
    value, derivative = torch.autograd.functional.vjp(function, x.detach(), v=torch.ones_like(x))
    return value, derivative
''',
        "build_network": '''
def build_network(activation, seed=0):
    """784-10-10-10-10 with "relu" or "sigmoid" between the layers, named as above."""
    from collections import OrderedDict
    from itertools import chain

    def layer(number):
        linear = nn.Linear(784 if number == 1 else 10, 10)
        linear.bias = nn.Parameter(torch.zeros_like(linear.bias))
        nn.init.xavier_uniform_(linear.weight, gain=1)
        kinds = dict(relu=nn.ReLU(), sigmoid=nn.Sigmoid())
        nonlinear = [] if number == 4 else [(f"{activation}_{number}", kinds[activation])]
        return [(f"fc_{number}", linear), *nonlinear]

    torch.manual_seed(seed)
    return nn.Sequential(OrderedDict(chain([("flatten", nn.Flatten())], *map(layer, range(1, 5)))))
''',
        "model_loss": '''
def model_loss(network, images, labels):
    """The mean cross-entropy, and a dict of the gradients of all learnables by name."""
    parameters = {name: p.detach() for name, p in network.named_parameters()}

    def loss_of(parameters):
        return nn.functional.cross_entropy(torch.func.functional_call(network, parameters, (images,)), labels)

    gradients, loss = torch.func.grad_and_value(loss_of)(parameters)
    return loss, gradients
''',
        "gradient_distributions": '''
def gradient_distributions(values):
    """30 bin centres (30,) and the number of values in each bin (30,)."""
    counts, edges = torch.histogram(values.detach().float().flatten(), bins=30)
    return (0.5 * (edges[1:] + edges[:-1])).numpy(), counts.numpy().astype(int)
''',
        "train_loop": '''
def train_loop(network, optimizer, recorder, experiment):
    """Train for experiment.epochs epochs and give the recording."""
    for epoch in range(experiment.epochs):
        batches = labkit.data.epoch_batches(experiment, epoch)  # index arrays, in order
        def loss_of(indices):
            return nn.functional.cross_entropy(network(images[indices]), labels[indices])

        def step(indices):
            optimizer.zero_grad()
            loss = loss_of(indices)
            loss.backward()
            optimizer.step()
            return loss

        for loss in map(step, batches):
            recorder.step(loss)
        recorder.end_epoch()
    return recorder.recording()
''',
        "attenuation_values": """
def summary(of):
    named = {"relu": relu, "sigmoid": sigmoid}
    return {name: of(attenuation(run.statistic("abs_mean"))) for name, run in named.items()}

attenuation_at_start = summary(lambda ratios: ratios[0])
attenuation_over_training = summary(np.median)
""",
    },
}
