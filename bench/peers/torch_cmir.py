"""CmIR written in PyTorch: what the engine is compared with, in results (tests/fixtures/make_parity.py) and in
time (bench/peers/train_step.py). Module names are the engine's parameter names.

Sequences are padded here, as PyTorch users have them: x [samples, steps, width] and lengths [samples].
"""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


def philox_words(blocks, seed, step, site):
    """uint32 [blocks, 4]: Philox4x32-10 with counter (block low, block high, site, step) and key seed."""
    block = np.arange(blocks, dtype=np.uint64)
    mask = np.uint64(0xFFFFFFFF)
    c = [block & mask, block >> np.uint64(32), np.full(blocks, site, np.uint64), np.full(blocks, step, np.uint64)]
    key = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ np.uint64(key[0]), p1 & mask, (p0 >> np.uint64(32)) ^ c[3] ^ np.uint64(key[1]), p0 & mask]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return np.stack(c, axis=1).astype(np.uint32)


def philox_normals(count, seed, step, site):
    """The engine's standard normals 0 .. count-1 of one stream, in f64."""
    words = philox_words((count + 3) // 4, seed, step, site).astype(np.float64)
    u = np.floor(words / 256)
    pairs = []
    for first in (0, 2):
        radius = np.sqrt(-2 * np.log((u[:, first] + 1) / 2**24))
        angle = 2 * np.pi * u[:, first + 1] / 2**24
        pairs += [radius * np.cos(angle), radius * np.sin(angle)]
    return np.stack(pairs, axis=1).reshape(-1)[:count]


def sinusoids(steps, width):
    position = torch.arange(steps, dtype=torch.float64)[:, None]
    rate = 10000 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    table = torch.zeros(steps, width, dtype=torch.float64)
    table[:, 0::2] = torch.sin(position * rate)
    table[:, 1::2] = torch.cos(position * rate)[:, : width // 2]
    return table


class Projection(nn.Module):
    def __init__(self, raw, width):
        super().__init__()
        self.projection = nn.Linear(raw, width)

    def forward(self, x, lengths):
        return self.projection(x)


class ConvTransformer(nn.Module):
    """Conv1D to the shared width, positions, a post-norm Transformer, the mean over each sample's own steps, of which there are at most
    `most_steps`."""

    def __init__(self, raw, width, layers, heads, feed_forward, dropout, kernel=3, most_steps=512):
        super().__init__()
        self.register_buffer("positions", sinusoids(most_steps, width), persistent=False)
        self.conv = nn.Conv1d(raw, width, kernel, padding=kernel // 2)
        layer = nn.TransformerEncoderLayer(width, heads, feed_forward, dropout, batch_first=True)
        self.transformer = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.dropout = dropout

    def forward(self, x, lengths):
        steps = x.shape[1]
        padding = torch.arange(steps, device=x.device)[None] >= lengths[:, None]
        y = self.conv(x.transpose(1, 2)).transpose(1, 2)
        y = y + self.positions[:steps].to(y.dtype)
        y = F.dropout(y, self.dropout, self.training)
        y = self.transformer(y, src_key_padding_mask=padding)
        y = y.masked_fill(padding[..., None], 0)
        return y.sum(1) / lengths.clamp(min=1)[:, None].to(y.dtype)


class Encoder(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.invariant = nn.Linear(hidden, width)
        self.spurious = nn.Linear(hidden, width)


def decoder(width, hidden):
    return nn.Sequential(nn.Linear(2 * width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, width))


class CmIR(nn.Module):
    """`networks`: {modality: module}. Reading B of the predictor, R_inv over all pairs, R_dec per sample."""

    def __init__(self, networks, width, hidden, environments, noise_intensity, weights, alpha):
        super().__init__()
        self.unimodal = nn.ModuleDict(networks)
        self.encoder = nn.ModuleDict({m: Encoder(width, hidden) for m in networks})
        self.decoder = nn.ModuleDict({m: decoder(width, hidden) for m in networks})
        self.predictor = nn.Sequential(nn.Linear(len(networks) * width, hidden), nn.ReLU(), nn.Linear(hidden, hidden),
                                       nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        self.environments, self.noise_intensity, self.weights, self.alpha = environments, noise_intensity, weights, alpha

    def forward(self, inputs, labels, noise=None):
        """`inputs`: {modality: (x, lengths or None)}; `noise`: {modality: eps [K, N, d]}, drawn here if None."""
        terms, invariants, k = {}, [], self.environments
        for name, network in self.unimodal.items():
            x = network(*inputs[name])
            eps = noise[name] if noise is not None else torch.randn(k, *x.shape, dtype=x.dtype, device=x.device)
            scale = self.noise_intensity * torch.arange(1, k + 1, dtype=x.dtype, device=x.device).view(k, 1, 1)
            variants = torch.cat([x[None], x[None] + scale * eps]).flatten(0, 1)
            encoder = self.encoder[name]
            trunk = encoder.trunk(variants)
            z = encoder.invariant(trunk).view(k + 1, *x.shape)
            spurious = encoder.spurious(trunk[: x.shape[0]])
            invariants.append(z[0])
            terms["invariance." + name] = self.invariance(z)
            terms["decorrelation." + name] = self.decorrelation(z[0], spurious)
            rebuilt = self.decoder[name](torch.cat([z[0], spurious], 1))
            terms["reconstruction." + name] = F.mse_loss(rebuilt, x)
        prediction = self.predictor(torch.cat(invariants, 1))
        terms["prediction"] = F.mse_loss(prediction[:, 0], labels)
        l1, l2, l3 = self.weights
        weight = {"prediction": 1.0, "invariance": l1, "decorrelation": l2, "reconstruction": l3}
        terms["total"] = sum(weight[n.split(".")[0]] * v for n, v in terms.items())
        return prediction, terms

    @staticmethod
    def invariance(z):
        """The sum over pairs of the mean absolute difference over samples and features."""
        pairs = [(a, b) for a in range(len(z)) for b in range(a + 1, len(z))]
        return sum((z[a] - z[b]).abs().mean() for a, b in pairs)

    def decorrelation(self, a, b):
        def normalise(x):
            return (x - x.mean(1, keepdim=True)) / torch.sqrt(x.var(1, keepdim=True) + 1e-12)

        c = normalise(a) @ normalise(b).T
        off = self.alpha * (1 - torch.eye(len(c), dtype=c.dtype, device=c.device))
        return torch.linalg.matrix_norm(c * (off + torch.eye(len(c), dtype=c.dtype, device=c.device)))
