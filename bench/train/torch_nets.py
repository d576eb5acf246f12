"""The models of models.c for PyTorch: step_of(name, compiled) gives a function that does one training step on fixed data (one action: ppo_act),
and one that lists the tensors which live from step to step. peak_bytes counts what a step allocates."""
import torch
import torch.nn.functional as F
from torch import nn


def step_of(name, compiled):
    torch.manual_seed(0)
    ints = torch.randint

    class Block(nn.Module):
        def __init__(self, i, o, stride):
            super().__init__()
            self.c1, self.b1 = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
            self.c2, self.b2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
            self.skip = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o)) if stride != 1 or i != o else nn.Identity()

        def forward(self, x):
            return F.relu(self.b2(self.c2(F.relu(self.b1(self.c1(x))))) + self.skip(x))

    class Adapted(nn.Module):
        def __init__(self, i, o):
            super().__init__()
            self.frozen, self.a, self.b = nn.Linear(i, o).requires_grad_(False), nn.Parameter(torch.randn(8, i) * 0.01), nn.Parameter(torch.zeros(o, 8))

        def forward(self, x):
            return self.frozen(x) + 2 * F.linear(F.linear(x, self.a), self.b)

    class Attention(nn.Module):
        def __init__(self, c, heads, dense):
            super().__init__()
            self.heads, self.norm1, self.norm2 = heads, nn.LayerNorm(c), nn.LayerNorm(c)
            self.qkv, self.out, self.up, self.down = dense(c, 3 * c), dense(c, c), dense(c, 4 * c), dense(4 * c, c)

        def forward(self, x):
            b, t, c = x.shape
            q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
            x = x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, c))
            return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))

    class Gpt(nn.Module):
        def __init__(self, dense=nn.Linear):
            super().__init__()
            self.tokens, self.positions = nn.Embedding(5000, 192), nn.Parameter(torch.randn(128, 192) * 0.02)
            self.layers, self.norm = nn.Sequential(*[Attention(192, 6, dense) for _ in range(6)]), nn.LayerNorm(192)

        def forward(self, i):
            return F.linear(self.norm(self.layers(self.tokens(i) + self.positions)), self.tokens.weight)

    class Lstm(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.layers, self.words = nn.Embedding(10000, 256), nn.LSTM(256, 256, 2), nn.Linear(256, 10000)

        def forward(self, i):
            return self.words(self.layers(self.tokens(i))[0])

    class TimeBlock(nn.Module):
        def __init__(self, i, o):
            super().__init__()
            self.norm1, self.conv1, self.time = nn.GroupNorm(8, i), nn.Conv2d(i, o, 3, 1, 1), nn.Linear(128, o)
            self.norm2, self.conv2, self.skip = nn.GroupNorm(8, o), nn.Conv2d(o, o, 3, 1, 1), nn.Conv2d(i, o, 1) if i != o else nn.Identity()

        def forward(self, x, t):
            y = self.conv1(F.silu(self.norm1(x))) + self.time(F.silu(t))[:, :, None, None]
            return self.conv2(F.silu(self.norm2(y))) + self.skip(x)

    class Places(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.qkv, self.out = nn.GroupNorm(8, 128), nn.Conv2d(128, 384, 1), nn.Conv2d(128, 128, 1)

        def forward(self, x):
            q, k, v = self.qkv(self.norm(x)).reshape(8, 3, 4, 32, 64).transpose(-1, -2).unbind(1)
            return x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(-1, -2).reshape(8, 128, 8, 8))

    class Unet(nn.Module):
        def __init__(self):
            super().__init__()
            self.enter, self.time = nn.Conv2d(3, 32, 3, 1, 1), nn.Sequential(nn.Linear(32, 128), nn.SiLU(), nn.Linear(128, 128))
            self.down1, self.half1, self.down2, self.half2 = TimeBlock(32, 32), nn.Conv2d(32, 32, 3, 2, 1), TimeBlock(32, 64), nn.Conv2d(64, 64, 3, 2, 1)
            self.middle1, self.places, self.middle2 = TimeBlock(64, 128), Places(), TimeBlock(128, 128)
            self.double2, self.up2, self.double1, self.up1 = nn.Conv2d(128, 64, 3, 1, 1), TimeBlock(128, 64), nn.Conv2d(64, 32, 3, 1, 1), TimeBlock(64, 32)
            self.leave = nn.Sequential(nn.GroupNorm(8, 32), nn.SiLU(), nn.Conv2d(32, 3, 3, 1, 1))

        def forward(self, x, times, noise):
            t = self.time(times)
            a = self.down1(self.enter(x), t)
            b = self.down2(self.half1(a), t)
            h = self.middle2(self.places(self.middle1(self.half2(b), t)), t)
            h = self.up2(torch.cat([self.double2(F.interpolate(h, scale_factor=2.0)), b], 1), t)
            h = self.up1(torch.cat([self.double1(F.interpolate(h, scale_factor=2.0)), a], 1), t)
            return F.mse_loss(self.leave(h), noise)

    class Vae(nn.Module):
        def __init__(self):
            super().__init__()
            self.e, self.m, self.v, self.d1, self.d2 = nn.Linear(784, 400), nn.Linear(400, 20), nn.Linear(400, 20), nn.Linear(20, 400), nn.Linear(400, 784)

        def forward(self, x, noise):
            h = F.relu(self.e(x))
            mean, log = self.m(h), self.v(h)
            r = self.d2(F.relu(self.d1(mean + noise * torch.exp(0.5 * log))))
            return F.binary_cross_entropy_with_logits(r, x, reduction="sum") - 0.5 * torch.sum(1 + log - mean * mean - log.exp())

    class Actor(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.p, self.v = nn.Linear(4, 128), nn.Linear(128, 128), nn.Linear(128, 2), nn.Linear(128, 1)

        def outputs(self, s):
            h = torch.tanh(self.b(torch.tanh(self.a(s))))
            return self.p(h), self.v(h)

        def forward(self, s, action, old, advantage, back):
            logits, value = self.outputs(s)
            logs, value = F.log_softmax(logits, -1), value[:, 0]
            r = torch.exp(logs.gather(1, action[:, None])[:, 0] - old)
            entropy = -(logs.exp() * logs).sum(1).mean()
            return -torch.min(r * advantage, r.clamp(0.8, 1.2) * advantage).mean() + 0.5 * F.mse_loss(value, back) - 0.01 * entropy

    def ce(net):
        return lambda x, y: F.cross_entropy(net(x).flatten(0, -2), y.flatten())

    def sgd(p):
        return torch.optim.SGD(p, 1e-3, fused=not compiled or None)

    def momentum(p):
        return torch.optim.SGD(p, 1e-3, momentum=0.9, fused=not compiled or None)

    def adam(p):
        return torch.optim.Adam(p, 1e-4, fused=not compiled or None)

    def adamw(p):
        return torch.optim.AdamW(p, 1e-4, fused=not compiled or None)

    if name == "mlp":
        net = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
        loss, data, make = ce(net), (torch.randn(64, 784), ints(10, (64,))), momentum
    elif name == "lenet":
        net = nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))
        loss, data, make = ce(net), (torch.randn(64, 1, 28, 28), ints(10, (64,))), momentum
    elif name == "resnet20":
        stages = [Block(16 if i < 4 else 32 if i < 7 else 64, 16 << i // 3, 2 if i and i % 3 == 0 else 1) for i in range(9)]
        net = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
        loss, data, make = ce(net), (torch.randn(32, 3, 32, 32), ints(10, (32,))), momentum
    elif name == "vae":
        net = Vae()
        loss, data, make = net, (torch.rand(64, 784), torch.randn(64, 20)), adam
    elif name == "lstm":
        net = Lstm()
        loss, data, make = ce(net), (ints(10000, (35, 20)), ints(10000, (35, 20))), sgd
    elif name == "unet":
        net = Unet()
        loss, data, make = net, (torch.randn(8, 3, 32, 32), torch.randn(8, 32), torch.randn(8, 3, 32, 32)), adamw
    elif name in ("gpt", "lora"):
        net = Gpt(Adapted if name == "lora" else nn.Linear)
        if name == "lora":
            for key, p in net.named_parameters():
                p.requires_grad_(key.endswith((".a", ".b")))
        loss, data, make = ce(net), (ints(5000, (8, 128)), ints(5000, (8, 128))), adamw
    else:
        net = Actor()
        loss, data, make = net, (torch.randn(64, 4), ints(2, (64,)), -torch.rand(64), torch.randn(64), torch.randn(64)), adam
    if name == "ppo_act":
        outputs = torch.compile(net.outputs) if compiled else net.outputs
        seen = torch.randn(1, 4)

        def act():
            with torch.no_grad():
                return int(torch.multinomial(torch.softmax(outputs(seen)[0], -1), 1))

        return act, lambda: list(net.parameters())
    optimizer = make([p for p in net.parameters() if p.requires_grad])
    forward = torch.compile(loss) if compiled else loss
    update = torch.compile(lambda: optimizer.step()) if compiled else optimizer.step

    def step():
        optimizer.zero_grad(set_to_none=True)
        forward(*data).backward()
        update()

    def kept():
        return [*net.parameters(), *net.buffers(), *[t for s in optimizer.state.values() for t in s.values() if torch.is_tensor(t)]]

    return step, kept


def peak_bytes(step, kept):
    """The tensors that live on, and at most so many bytes of others at the same time in a step (scratch memory of libraries is not seen)."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as p:
        step()
    now = peak = 0
    for e in p.profiler.kineto_results.events():
        if e.name() == "[memory]":
            now += e.nbytes()
            peak = max(peak, now)
    return sum(t.numel() * t.element_size() for t in kept()) + peak
