"""A small motion model and what it is fed with, for the tests of its three modules."""
from dataclasses import replace

import torch
import torch.nn as nn

from vasa_ref.motion.conditions import CONDITIONS, clip_conditions
from vasa_ref.motion.latents import Latents
from vasa_ref.motion.network import Conditions, MotionConfig

M, A = 9, 5
CONFIG = MotionConfig.tiny(motion_dim=M, audio_dim=A, width=32, layers=2, heads=2)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def conditions(n=2, seed=0, config=CONFIG, **keep):
    gen = seeded(seed)

    def draw(*shape):
        return torch.randn(n, *shape, generator=gen)
    sequences = {"prev_motion": draw(config.context, config.motion_dim),
                 "prev_audio": draw(config.context, config.audio_dim),
                 "audio": draw(config.window, config.audio_dim)}
    return Conditions({name: draw(CONDITIONS[name].size) for name in clip_conditions()} | sequences,
                      {name: torch.full((n,), value) for name, value in keep.items()})


def changed(c, **values):
    return replace(c, values=c.values | values)


def noisy(n=2, config=CONFIG):
    return torch.randn(n, config.window, config.motion_dim, generator=seeded(5)), torch.arange(n) * 100 + 50


def toy_latents(clips, seed, audio_dim=A, motion_dim=M):
    "Clips whose mouth (motion 6 to 8) is a function of the audio, whose pose wanders slowly about the gaze."
    gen, parts = seeded(seed), []
    mix = torch.randn(3, audio_dim, generator=seeded(99))
    kernel = torch.hann_window(7, periodic=False)[None, None] / 3
    for _ in range(clips):
        frames = int(torch.randint(70, 120, (), generator=gen))
        source = nn.functional.conv1d(torch.randn(3, 1, frames, generator=gen), kernel, padding=3)[:, 0].T
        gaze, distance = 0.2 * torch.randn(2, generator=gen), 1 + 0.1 * torch.randn(1, generator=gen)
        wander = torch.randn(1, 6, generator=gen) + torch.arange(frames)[:, None] / 25 * torch.rand(6, generator=gen)
        pose = 0.1 * wander.sin()
        pose[:, :2] += gaze
        pose[:, 5] += distance
        motion = torch.cat([pose, source.tanh()], 1)
        parts.append(Latents.of(motion, source @ mix, torch.tensor([frames]), gaze=gaze[None], distance=distance[None],
                                emotion=torch.rand(1, 7, generator=gen), head_motion=torch.rand(1, 1, generator=gen),
                                blink_rate=60 * torch.rand(1, 1, generator=gen)))
    return Latents.cat(parts)
