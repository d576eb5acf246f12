#!/usr/bin/env python3
"""Losses and gradients of losses.c by torch, as a C table: losses.py > wanted.h"""
import math

import torch
import torch.nn.functional as F

ROWS, COLS = 4, 6


def number(i, salt):
    return (i * 7919 + salt * 104729) % 1009 / 504.5 - 1


def matrix(salt, positive=False):
    return torch.tensor([[number(r * COLS + c, salt) * (0.45 if positive else 1) + (0.5 if positive else 0) for c in range(COLS)] for r in range(ROWS)], dtype=torch.float64)


def vector(salt):
    return torch.tensor([number(i, salt) for i in range(ROWS)], dtype=torch.float64)


MASK = torch.tensor([1, 0, 1, 1, 0, 0, 1, 1, 1, 0, 0, 1, 0, 1, 1, 0, 1, 0, 1, 1, 1, 1, 0, 0]).reshape(ROWS, COLS).bool()
T, P, S, A, OLD = matrix(1), matrix(2, True), matrix(3), vector(4), vector(5)
LABELS, SOME = torch.tensor([2, 0, 5, 1]), torch.tensor([2, -1, 5, -1])


def log_prob(x, mean, log_dev):
    return -0.5 * ((x - mean) / log_dev.exp()) ** 2 - log_dev - 0.5 * math.log(2 * math.pi)


def kl(mean, log_dev):
    return -0.5 * (1 + 2 * log_dev - mean**2 - (2 * log_dev).exp()).sum(1).mean()


def log_p(x):
    return F.log_softmax(x, 1).gather(1, LABELS[:, None])[:, 0]


def gram(x):
    f = x.reshape(2, 3, 4)
    return f @ f.transpose(1, 2) / 12


def policy(x):
    logs = F.log_softmax(x, 1)
    return -(log_p(x) * (x.mean(1) * A).detach()).mean() + 0.01 * (logs.exp() * logs).sum(1).mean()


def ppo(x):
    r = (log_p(x) - OLD + 1.7).exp()
    return -torch.min(r * A, r.clamp(0.8, 1.2) * A).mean()


def value(x):
    v = x.mean(1)
    return torch.max((v - A) ** 2, (OLD + (v - OLD).clamp(-0.2, 0.2) - A) ** 2).mean()


CASES = {
    "cross_entropy": lambda x: F.cross_entropy(x, LABELS),
    "ignore": lambda x: F.cross_entropy(x, SOME, ignore_index=-1),
    "nll": lambda x: F.nll_loss(F.log_softmax(x, 1), LABELS),
    "bce_logits": lambda x: F.binary_cross_entropy_with_logits(x, P),
    "bce": lambda x: F.binary_cross_entropy(torch.sigmoid(x), P),
    "mse": lambda x: F.mse_loss(x, T),
    "mae": lambda x: F.l1_loss(x, T),
    "huber": lambda x: F.huber_loss(x, T, delta=0.4),
    "masked_mse": lambda x: ((x - T) ** 2)[MASK].mean(),
    "masked_mae": lambda x: (x - T).abs()[MASK].mean(),
    "gaussian": lambda x: -log_prob(T, x, x * S).mean(),
    "elbo": lambda x: kl(x, x * S) - log_prob(T, x, S).sum(1).mean(),
    "policy": policy,
    "ppo": ppo,
    "value": value,
    "gram": lambda x: 100 * F.mse_loss(gram(x), gram(T)),
}


def main():
    print("/* Made by losses.py: loss and gradient of every case, by torch in double. */")
    print("static const struct { const char *name; double loss, gradient[24]; } wanted[] = {")
    for name, f in CASES.items():
        x = matrix(0).requires_grad_()
        loss = f(x)
        loss.backward()
        print(f'    {{"{name}", {loss.item():.10g}, {{{", ".join(f"{g:.9g}" for g in x.grad.flatten().tolist())}}}}},')
    print("};")


if __name__ == "__main__":
    main()
