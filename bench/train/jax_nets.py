"""The models of models.c for JAX: step_of(name) gives a function that does one compiled training step on fixed data (one action: ppo_act).
Images are channels-last, which is what XLA prefers on CPUs; parameters and optimizer state are donated."""
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, nn

random = np.random.default_rng(0)


def normal(*shape, scale=1.0):
    return jnp.asarray(random.standard_normal(shape) * scale, jnp.float32)


def integers(high, *shape):
    return jnp.asarray(random.integers(0, high, shape), jnp.int32)


def affine(n):
    return {"scale": jnp.ones(n), "bias": jnp.zeros(n)}


def dense(i, o):
    return {"w": normal(i, o, scale=i**-0.5), "b": jnp.zeros(o)}


def conv(k, i, o, bias=True):
    w = {"w": normal(k, k, i, o, scale=(k * k * i) ** -0.5)}
    return {**w, "b": jnp.zeros(o)} if bias else w


def apply_dense(p, x):
    return x @ p["w"] + p["b"]


def apply_conv(p, x, stride=1, pad=None):
    pad = p["w"].shape[0] // 2 if pad is None else pad
    y = lax.conv_general_dilated(x, p["w"], (stride, stride), [(pad, pad)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return y + p["b"] if "b" in p else y


def standardised(x, axes):
    mean = x.mean(axes, keepdims=True)
    return (x - mean) * lax.rsqrt(((x - mean) ** 2).mean(axes, keepdims=True) + 1e-5)


def scaled(p, x):
    return x * p["scale"] + p["bias"]


def group_norm(p, x):
    b, h, w, c = x.shape
    return scaled(p, standardised(x.reshape(b, h * w, 8, c // 8), (1, 3)).reshape(x.shape))


def cross_entropy(logits, labels):
    return -jnp.take_along_axis(nn.log_softmax(logits, -1), labels[..., None], -1).mean()


def attention(q, k, v, mask=None):
    """[batch, heads, places, width]"""
    scores = q @ k.swapaxes(-1, -2) * q.shape[-1] ** -0.5
    return nn.softmax(scores if mask is None else jnp.where(mask, scores, -1e30), -1) @ v


# ---- models: parameters, loss(parameters, *data), data, optimizer ----
def mlp():
    params = [dense(784, 512), dense(512, 512), dense(512, 10)]

    def loss(p, x, y):
        h = nn.relu(apply_dense(p[1], nn.relu(apply_dense(p[0], x))))
        return cross_entropy(apply_dense(p[2], h), y)

    return params, loss, (normal(64, 784), integers(10, 64)), momentum


def max_pool(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def lenet():
    params = [conv(5, 1, 6), conv(5, 6, 16), dense(400, 120), dense(120, 84), dense(84, 10)]

    def loss(p, x, y):
        x = max_pool(nn.relu(apply_conv(p[0], x)))
        x = max_pool(nn.relu(apply_conv(p[1], x, pad=0))).reshape(64, 400)
        return cross_entropy(apply_dense(p[4], nn.relu(apply_dense(p[3], nn.relu(apply_dense(p[2], x))))), y)

    return params, loss, (normal(64, 28, 28, 1), integers(10, 64)), momentum


def resnet20():
    def normed(k, i, o):
        return {"conv": conv(k, i, o, False), "norm": affine(o)}

    def apply(p, x, stride=1):
        return scaled(p["norm"], standardised(apply_conv(p["conv"], x, stride), (0, 1, 2)))

    blocks, strides, i = [], [], 16
    for n in range(9):
        o, stride = 16 << n // 3, 2 if n and n % 3 == 0 else 1
        blocks.append({"first": normed(3, i, o), "second": normed(3, o, o), **({"skip": normed(1, i, o)} if i != o else {})})
        strides.append(stride)
        i = o
    params = {"stem": normed(3, 3, 16), "blocks": blocks, "classes": dense(64, 10)}

    def loss(p, x, y):
        x = nn.relu(apply(p["stem"], x))
        for b, stride in zip(p["blocks"], strides):
            h = apply(b["second"], nn.relu(apply(b["first"], x, stride)))
            x = nn.relu(h + (apply(b["skip"], x, stride) if "skip" in b else x))
        return cross_entropy(apply_dense(p["classes"], x.mean((1, 2))), y)

    return params, loss, (normal(32, 32, 32, 3), integers(10, 32)), momentum


def lstm():
    layers = [{"x": dense(256, 1024), "h": normal(256, 1024, scale=1 / 16)} for _ in range(2)]
    params = {"tokens": normal(10000, 256), "layers": layers, "words": dense(256, 10000)}

    def loss(p, tokens, y):
        x = p["tokens"][tokens]
        for layer in p["layers"]:

            def cell(state, gates, weight=layer["h"]):
                h, c = state
                i, f, g, o = jnp.split(gates + h @ weight, 4, -1)
                c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
                h = nn.sigmoid(o) * jnp.tanh(c)
                return (h, c), h

            zero = jnp.zeros((20, 256))
            x = lax.scan(cell, (zero, zero), apply_dense(layer["x"], x))[1]
        return cross_entropy(apply_dense(p["words"], x), y)

    return params, loss, (integers(10000, 35, 20), integers(10000, 35, 20)), sgd


SIZES = {"qkv": (192, 576), "out": (192, 192), "up": (192, 768), "down": (768, 192)}


def language_model(adapted):
    layers = [{"norm1": affine(192), "norm2": affine(192), **{k: dense(*s) for k, s in SIZES.items()}} for _ in range(6)]
    whole = {"tokens": normal(5000, 192, scale=0.02), "positions": normal(128, 192, scale=0.02), "layers": layers, "norm": affine(192)}
    low = [{k: {"a": normal(i, 8, scale=0.01), "b": jnp.zeros((8, o))} for k, (i, o) in SIZES.items()} for _ in range(6)]
    causal = jnp.tril(jnp.ones((128, 128), bool))

    def model_loss(p, adapters, tokens, y):
        x = p["tokens"][tokens] + p["positions"]
        for n, layer in enumerate(p["layers"]):

            def linear(key, x, n=n, layer=layer):
                y = apply_dense(layer[key], x)
                return y if adapters is None else y + 2 * (x @ adapters[n][key]["a"] @ adapters[n][key]["b"])

            qkv = linear("qkv", scaled(layer["norm1"], standardised(x, -1))).reshape(8, 128, 3, 6, 32)
            q, k, v = jnp.moveaxis(qkv, (2, 3), (0, 2))
            x = x + linear("out", attention(q, k, v, causal).swapaxes(1, 2).reshape(8, 128, 192))
            x = x + linear("down", nn.gelu(linear("up", scaled(layer["norm2"], standardised(x, -1)))))
        return cross_entropy(scaled(p["norm"], standardised(x, -1)) @ p["tokens"].T, y)

    data = (integers(5000, 8, 128), integers(5000, 8, 128))
    if not adapted:
        return whole, lambda p, *data: model_loss(p, None, *data), data, adamw
    return low, lambda p, whole, *data: model_loss(whole, p, *data), (whole, *data), adamw


def vae():
    params = {"e": dense(784, 400), "m": dense(400, 20), "v": dense(400, 20), "d1": dense(20, 400), "d2": dense(400, 784)}

    def loss(p, x, noise):
        h = nn.relu(apply_dense(p["e"], x))
        mean, log = apply_dense(p["m"], h), apply_dense(p["v"], h)
        r = apply_dense(p["d2"], nn.relu(apply_dense(p["d1"], mean + noise * jnp.exp(0.5 * log))))
        return jnp.sum(nn.softplus(r) - r * x) - 0.5 * jnp.sum(1 + log - mean * mean - jnp.exp(log))

    return params, loss, (jnp.abs(normal(64, 784, scale=0.3)), normal(64, 20)), adam


def unet():
    def block(i, o):
        p = {"norm1": affine(i), "conv1": conv(3, i, o), "time": dense(128, o), "norm2": affine(o), "conv2": conv(3, o, o)}
        return {**p, "skip": conv(1, i, o)} if i != o else p

    def apply_block(p, x, t):
        y = apply_conv(p["conv1"], nn.silu(group_norm(p["norm1"], x))) + apply_dense(p["time"], nn.silu(t))[:, None, None, :]
        return apply_conv(p["conv2"], nn.silu(group_norm(p["norm2"], y))) + (apply_conv(p["skip"], x) if "skip" in p else x)

    def places(p, x):
        q, k, v = jnp.moveaxis(apply_conv(p["qkv"], group_norm(p["norm"], x)).reshape(8, 64, 3, 4, 32), (2, 3), (0, 2))
        return x + apply_conv(p["out"], attention(q, k, v).swapaxes(1, 2).reshape(8, 8, 8, 128))

    def doubled(x):
        return jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)

    params = {
        "in": conv(3, 3, 32), "time1": dense(32, 128), "time2": dense(128, 128), "down1": block(32, 32), "half1": conv(3, 32, 32),
        "down2": block(32, 64), "half2": conv(3, 64, 64), "middle1": block(64, 128), "middle2": block(128, 128),
        "places": {"norm": affine(128), "qkv": conv(1, 128, 384), "out": conv(1, 128, 128)},
        "double2": conv(3, 128, 64), "up2": block(128, 64), "double1": conv(3, 64, 32), "up1": block(64, 32), "norm": affine(32), "out": conv(3, 32, 3),
    }  # fmt: skip

    def loss(p, x, times, noise):
        t = apply_dense(p["time2"], nn.silu(apply_dense(p["time1"], times)))
        a = apply_block(p["down1"], apply_conv(p["in"], x), t)
        b = apply_block(p["down2"], apply_conv(p["half1"], a, 2), t)
        h = apply_block(p["middle1"], apply_conv(p["half2"], b, 2), t)
        h = apply_block(p["middle2"], places(p["places"], h), t)
        h = apply_block(p["up2"], jnp.concatenate([apply_conv(p["double2"], doubled(h)), b], -1), t)
        h = apply_block(p["up1"], jnp.concatenate([apply_conv(p["double1"], doubled(h)), a], -1), t)
        return ((apply_conv(p["out"], nn.silu(group_norm(p["norm"], h))) - noise) ** 2).mean()

    return params, loss, (normal(8, 32, 32, 3), normal(8, 32), normal(8, 32, 32, 3)), adamw


def actor(p, s):
    h = jnp.tanh(apply_dense(p["b"], jnp.tanh(apply_dense(p["a"], s))))
    return apply_dense(p["policy"], h), apply_dense(p["value"], h)[:, 0]


def ppo():
    params = {"a": dense(4, 128), "b": dense(128, 128), "policy": dense(128, 2), "value": dense(128, 1)}

    def loss(p, s, action, old, advantage, back):
        logits, value = actor(p, s)
        logs = nn.log_softmax(logits, -1)
        r = jnp.exp(jnp.take_along_axis(logs, action[:, None], 1)[:, 0] - old)
        entropy = -(jnp.exp(logs) * logs).sum(1).mean()
        return -jnp.minimum(r * advantage, jnp.clip(r, 0.8, 1.2) * advantage).mean() + 0.5 * ((value - back) ** 2).mean() - 0.01 * entropy

    return params, loss, (normal(64, 4), integers(2, 64), -jnp.abs(normal(64)), normal(64), normal(64)), adam


# ---- optimizers: new parameters and slots from parameters, gradients, slots, step ----
def each(f, *trees):
    return jax.tree_util.tree_map(f, *trees)


def sgd(p, g, m, v, t):
    return each(lambda p, g: p - 1e-3 * g, p, g), m, v


def momentum(p, g, m, v, t):
    m = each(lambda m, g: 0.9 * m + g, m, g)
    return each(lambda p, m: p - 1e-3 * m, p, m), m, v


def adam(p, g, m, v, t, decay=0.0):
    m, v = each(lambda m, g: 0.9 * m + 0.1 * g, m, g), each(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
    a, b = 1 - 0.9**t, 1 - 0.999**t
    return each(lambda p, m, v: p - 1e-4 * ((m / a) / (jnp.sqrt(v / b) + 1e-8) + decay * p), p, m, v), m, v


def adamw(p, g, m, v, t):
    return adam(p, g, m, v, t, 0.01)


MODELS = {"mlp": mlp, "lenet": lenet, "resnet20": resnet20, "lstm": lstm, "gpt": lambda: language_model(False), "lora": lambda: language_model(True),
          "vae": vae, "unet": unet, "ppo": ppo}  # fmt: skip


def acting():
    params = ppo()[0]
    seen = np.zeros((1, 4), np.float32)

    @jax.jit
    def choose(p, s, key):
        key, now = jax.random.split(key)
        return jax.random.categorical(now, actor(p, s)[0]), key

    state = [jax.random.PRNGKey(0)]

    def act():
        action, state[0] = choose(params, seen, state[0])
        return int(action[0])

    return act


def step_of(name):
    if name == "ppo_act":
        return acting()
    params, loss, data, optimizer = MODELS[name]()

    def update(p, m, v, t, *data):
        value, g = jax.value_and_grad(loss)(p, *data)
        p, m, v = optimizer(p, g, m, v, t + 1)
        return p, m, v, t + 1, value

    compiled = jax.jit(update, donate_argnums=(0, 1, 2))
    zeros = each(jnp.zeros_like, params), each(jnp.zeros_like, params)
    state = [(params, *zeros, jnp.zeros(()))]

    def step():
        *state[0], value = compiled(*state[0], *data)
        jax.block_until_ready(state[0])
        return value

    return step
