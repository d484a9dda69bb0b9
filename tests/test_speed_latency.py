import math
import time

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vasa_ref.errors import VasaError
from vasa_ref.face.detail import build_face
from vasa_ref.face.networks import FaceConfig
from vasa_ref.speed.latency import (
    Stage,
    count,
    decoder_parts,
    drift,
    floor_seconds,
    latency,
    live_figures,
    machine_limits,
    offline_fps,
    stages,
    stream_figures,
    stream_latency,
)
from vasa_ref.talking.talker import Talker


def test_macs_of_each_operation():
    conv = nn.Conv3d(4, 6, 3, padding=1, groups=2)
    assert count(lambda: conv(torch.zeros(2, 4, 5, 6, 7))).total == 2 * 6 * 5 * 6 * 7 * 2 * 27
    linear = nn.Linear(10, 7)
    assert count(lambda: linear(torch.zeros(3, 10))).total == 3 * 10 * 7
    assert count(lambda: torch.zeros(5, 3, 4) @ torch.zeros(5, 4, 2)).total == 5 * 3 * 4 * 2
    q, k = torch.zeros(2, 3, 8, 16), torch.zeros(2, 3, 5, 16)
    assert count(lambda: F.scaled_dot_product_attention(q, k, k)).total == 2 * 2 * 3 * 8 * 5 * 16
    image, grid = torch.zeros(1, 3, 8, 8), torch.zeros(1, 4, 4, 2)
    assert count(lambda: F.grid_sample(image, grid, align_corners=False)).total == 4 * 3 * 16
    assert count(lambda: torch.zeros(9).exp()).total == 0


def test_bytes_are_inputs_weights_and_outputs_once():
    a, b = torch.zeros(3, 4), torch.zeros(4, 5)
    assert count(lambda: a @ b).bytes == 4 * (12 + 20 + 15)


class Known(nn.Module):
    "Each of the operations once."
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.line, self.turn = nn.Linear(6, 10), nn.Linear(10, 10, bias=False)

    # (2, 3, 16, 16), (2, 4, 4, 2), (1, 5, 8, 8, 8), (1, 2, 3, 4, 3)
    def forward(self, image, grid, volume, places):
        x = F.grid_sample(self.conv(image), grid, align_corners=False).flatten(2).mT      # (2, 16, 6)
        x = self.turn(self.line(x)).unflatten(2, (2, 5)).transpose(1, 2)                  # (2, 2, 16, 5)
        x = F.scaled_dot_product_attention(x, x[:, :, :7], x[:, :, :7])
        return x @ x.mT, F.grid_sample(volume, places, align_corners=False)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_count_of_a_known_model_is_that_of_a_hand_and_of_torch(device):
    model, inputs = Known().to(device), [torch.zeros(s, device=device)
                                         for s in ((2, 3, 16, 16), (2, 4, 4, 2), (1, 5, 8, 8, 8), (1, 2, 3, 4, 3))]
    by_hand = {"conv": 2 * 6 * 8 * 8 * 3 * 9, "line": 2 * 16 * 6 * 10, "turn": 2 * 16 * 10 * 10,
               "attention": 2 * 2 * 2 * 16 * 7 * 5,
               "product": 2 * 2 * 16 * 16 * 5, "warp": 4 * 2 * 6 * 16, "warp of a volume": 8 * 5 * 2 * 3 * 4}
    ledger = count(lambda: model(*inputs))
    assert ledger.total == sum(by_hand.values()) == sum(ledger.macs.values())
    assert ledger.macs["grid_sampler_2d"] == by_hand["warp"]
    assert ledger.macs["grid_sampler_3d"] == by_hand["warp of a volume"]
    with torch.no_grad(), FlopCounterMode(display=False) as library:
        model.conv(inputs[0])
        model.line(torch.zeros(2, 16, 6, device=device))
        model.turn(torch.zeros(2, 16, 10, device=device))
    assert library.get_total_flops() == 2 * (by_hand["conv"] + by_hand["line"] + by_hand["turn"])


def test_bytes_are_those_of_whatever_is_counted():
    """Of the convolution of a whole model, and of a warp: inputs, weights and outputs, four bytes each."""
    conv, image, grid = nn.Conv2d(3, 8, 5, stride=2), torch.zeros(1, 3, 33, 33), torch.zeros(1, 4, 4, 2)
    assert count(lambda: conv(image).relu()).bytes == 4 * (3 * 33 * 33 + 8 * 3 * 25 + 8 + 8 * 15 * 15)
    assert count(lambda: F.grid_sample(image, grid, align_corners=False)).bytes == 4 * (3 * 33 * 33 + 32 + 3 * 16)


def test_meta_and_cpu_count_the_same():
    counts = [[count(s.call).total for s in stages(Talker.random("tiny", device=d))] for d in ("cpu", "meta")]
    assert counts[0] == counts[1] and all(counts[0])


def test_paper_preset_has_the_papers_sizes():
    table = {s.name: s for s in stages(Talker.random("paper", device="meta", batch=1))}
    assert table["decoding"].calls == 50 and table["denoising"].calls == 50
    assert 10e9 < count(table["decoding"].call).total < 40e9
    sizes = {name: sum(p.numel() for p in part.parameters())
             for name, part in Talker.random("paper", device="meta").face.named_children()}
    assert 190e6 < sum(sizes.values()) < 210e6
    assert sizes["from_canonical"] + sizes["decoder"] < 0.06 * sum(sizes.values())


@pytest.mark.parametrize("config, pixels", [(FaceConfig.tiny(), ["8 px", "16 px", "32 px"]),
                                            (FaceConfig.tiny_detail(), ["4 px", "8 px", "16 px", "32 px"])],
                         ids=["plain", "detail"])
def test_parts_of_a_frame_add_up(config, pixels):
    face = build_face(config).eval()
    parts = decoder_parts(face, repeats=2)
    with torch.no_grad():
        codes = torch.zeros(1, config.z_id_dim), torch.zeros(1, 6) + 0.5, torch.zeros(1, config.z_dyn_dim)
        appearance = face.appearance(torch.zeros(1, 3, 32, 32), codes[0], codes[1:])
    whole = count(lambda: face.decode(appearance, *codes))
    front = ["front"] * config.detail
    assert list(parts) == ["flow", "warps and the rest", *front, *pixels]
    assert sum(p.macs for p in parts.values()) == whole.total and sum(p.bytes for p in parts.values()) == whole.bytes
    assert all(p.seconds > 0 for p in parts.values()) and all(p.macs > 0 for p in parts.values())
    # every layer is in a part, and no hook is left
    for module in face.decoder.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks
    inner = sum(p.macs for name, p in parts.items() if "px" in name or name == "front")
    assert parts["warps and the rest"].macs == whole.total - inner - parts["flow"].macs


def test_latency_with_tricks():
    figures = latency("tiny", quick=True, threads=1, tricks=True)
    told = {k for k in figures if k.startswith(("decode_ms", "decode_error"))}
    assert {"decode_ms (none)", "decode_error (half)", "decode_ms (folded, channels_last, batch 32)"} <= told
    assert figures["decode_error (none)"] == 0 < figures["decode_error (half)"] < 0.1
    assert all(figures[k] < 1e-4 for k in told if "error" in k and "half" not in k)


def test_floors_and_offline_fps():
    stage = Stage("x", lambda: None, 2, macs=100, bytes=50, seconds=0.25)
    assert floor_seconds(stage, (10, 25)) == (10, 2)
    assert offline_fps([stage, Stage("once", lambda: None, 0, seconds=9.0)], 50) == 100


def test_machine_limits_are_those_of_the_best_run(monkeypatch):
    times, done = iter([2.0, 0.5, 1.0, 0.25, 4.0, 8.0]), []
    def clocked(function, device, repeats, warm_up):
        done.append((function().numel(), warm_up))
        return next(times)
    monkeypatch.setattr("vasa_ref.speed.latency.timed", clocked)
    macs, bandwidth = machine_limits("cpu", torch.float32, repeats=3)
    assert macs == 1536 ** 3 / 0.5 and bandwidth == 2 * 2 ** 27 / 0.25
    assert done == [(1536 ** 2, True), (1536 ** 2, False), (1536 ** 2, False), (2 ** 27, True), (2 ** 27, False),
                    (2 ** 27, False)]


def test_percentiles_need_enough_steps():
    figures = stream_figures(Talker.random("tiny"), budget=0)
    assert figures["stream_fps"] > 0 and figures["first_frame_ms"] > 0
    assert figures["lookahead_ms"] >= 4 * 40
    assert "stream_ms_p50" in figures and "stream_ms_p95" not in figures and "stream_ms_p99" not in figures


def test_latency_of_a_live_stream():
    """By hand: steps of two frames; the first needs 0.2 s of sound, the third takes too long and delays the fourth."""
    late = stream_latency([0.05, 0.05, 0.2, 0.05], 2, 0.2)
    done = [0.25, 0.33, 0.56, 0.61]               # the steps' sound is there at 0.2, 0.28, 0.36, 0.44
    assert late.tolist() == pytest.approx([done[i // 2] - i * 0.04 for i in range(8)])
    assert drift(torch.arange(50) * 0.04 * 0.3 + 1, 1) == pytest.approx(0.3) and drift(torch.zeros(50), 5) == 0
    assert drift(torch.zeros(45), 5) is None


def test_latency_is_a_flat_object_of_the_known_keys():
    before = torch.get_num_threads()
    figures = latency("tiny", quick=True, threads=1)
    assert torch.get_num_threads() == before
    keys = {"device", "preset", "size_px", "params_face", "params_motion", "gmac_per_frame", "gmac_per_portrait",
            "offline_fps", "stream_fps", "stream_ms_p50", "stream_ms_p95", "stream_ms_p99", "first_frame_ms",
            "lookahead_ms", "latency_ms", "stream_latency_ms", "drift", "peak_memory_mb", "torch", "date"}
    of_stream = {"first_frame_ms", "lookahead_ms", "latency_ms", "drift"} | {k for k in keys if "stream" in k}
    keys |= {f"soon_{key}" for key in of_stream}
    assert figures["soon_lookahead_ms"] < figures["lookahead_ms"]
    assert set(figures) <= keys and {"offline_fps", "stream_fps", "gmac_per_frame"} <= set(figures)
    numbers = {k: v for k, v in figures.items() if not isinstance(v, str)}
    assert all(math.isfinite(v) and (v > 0 or k.endswith("drift")) for k, v in numbers.items())
    assert figures["size_px"] == Talker.random("tiny").size


def test_unknown_preset():
    with pytest.raises(VasaError, match="tiny, laptop, paper"):
        latency("huge")


def test_a_live_stream_that_cannot_keep_up_is_given_up():
    class Slow:
        size = 8
        def encode(self, image): return image
        def delay(self, new_frames, lookahead): return 0.1
        def stream(self, portrait, chunks, **choice):
            for _ in chunks: yield from pause(0.05 if isinstance(chunks, list) else 0.5)

    def pause(seconds):
        time.sleep(seconds)
        yield None
    figures = live_figures(Slow(), 0.8, new_frames=1, lookahead=0)
    assert figures["lookahead_ms"] == 100 and "drift" not in figures              # two or three frames of eighty
    assert 400 < figures["latency_ms"] <= figures["stream_latency_ms"]
