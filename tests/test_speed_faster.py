import copy
import shutil
import sys
import threading

import pytest
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from vasa_ref.errors import VasaError
from vasa_ref.face.detail import build_face
from vasa_ref.face.networks import FaceConfig, WeightStandardised
from vasa_ref.hearing.features import FRAME
from vasa_ref.media.clips import save_video
from vasa_ref.motion.network import MotionConfig, MotionModel
from vasa_ref.speed.faster import (
    FastTalker,
    Graphed,
    Tricks,
    ahead,
    by_length,
    each_and_all,
    fetch,
    fold,
    named,
    painter,
    perturbed,
    trick_table,
)
from vasa_ref.talking.talker import Talker

compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
SPEECH = 0.1 * torch.randn(16 * FRAME, generator=torch.Generator().manual_seed(0))
PORTRAIT = F.interpolate(torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(1)), size=32,
                         mode="bilinear")[0]


@pytest.fixture(scope="module", params=["tiny_detail", "tiny"])
def talker(request):
    "With either kind of face model."
    torch.manual_seed(0)
    face = build_face(getattr(FaceConfig, request.param)()).eval().requires_grad_(False)
    audio = Talker.random("tiny").audio
    motion = MotionModel(MotionConfig.tiny(motion_dim=6 + face.config.z_dyn_dim, audio_dim=audio.config.hidden_size))
    return perturbed(Talker(face, audio, motion.eval().requires_grad_(False)))


def standardised(module): return sum(isinstance(m, WeightStandardised) for m in module.modules())


def test_folding_keeps_the_numbers_of_every_convolution():
    torch.manual_seed(0)
    face = build_face(FaceConfig.tiny()).eval().requires_grad_(False)
    for parameter in face.parameters(): parameter.add_(0.05 * torch.randn(parameter.shape))
    folded = fold(copy.deepcopy(face))
    assert standardised(face) > 20 and standardised(folded) == 0
    image = PORTRAIT[None]
    assert torch.allclose(folded.appearance(image), face.appearance(image), atol=1e-4)
    assert torch.allclose(folded(image, image.flip(3)), face(image, image.flip(3)), atol=1e-5)
    assert standardised(build_face(FaceConfig.tiny_detail())) == 0            # there is nothing to fold


@pytest.mark.parametrize("tricks, tolerance", [
    (Tricks(folded=True), 1e-5), (Tricks(channels_last=True), 1e-5), (Tricks(batch=4), 1e-5), (Tricks(half=True), 0.03),
    pytest.param(Tricks(compiled=True, batch=4), 1e-4, marks=[compiler, pytest.mark.slow]),
    (Tricks.best(batch=4), 1e-5)],
                         ids=lambda x: named(x) if isinstance(x, Tricks) else "")
def test_each_trick_agrees_with_plain_float32(talker, tricks, tolerance):
    with torch.inference_mode():
        portrait, motion = talker.encode(PORTRAIT), 0.2 * torch.randn(3, talker.motion_model.config.motion_dim)
        motion[:, 5] += 1
        plain = torch.cat([talker.images(portrait, row[None]) for row in motion])
        fast = FastTalker(talker, tricks)
        parts = motion.split(len(motion) if tricks.batch > 1 else 1)
        got = torch.cat([fast.images(portrait, part) for part in parts])
    assert got.shape == plain.shape and (got - plain).abs().max() < tolerance
    assert plain.std() > 0.01 and (plain[0] - plain[1]).abs().max() > 10 * 1e-5   # there is something to get wrong
    assert tricks.half == (got.dtype == torch.float32 and not torch.equal(got, plain)
                           and (got - plain).abs().max() > 1e-4)


@pytest.mark.parametrize("tricks", [Tricks(overlap=True, batch=3), Tricks.best(), Tricks(overlap=True, folded=True)],
                         ids=named)
def test_the_film_is_the_same(talker, tricks):
    wanted = talker.animate(PORTRAIT, SPEECH, seed=3)
    got = FastTalker(talker, tricks).animate(PORTRAIT, SPEECH, seed=3)
    assert got.frames.shape == wanted.frames.shape and (got.frames.int() - wanted.frames.int()).abs().max() <= 1
    streamed = [list(t.stream(PORTRAIT, SPEECH.split(1000), seed=3)) for t in (talker, FastTalker(talker, tricks))]
    assert len(streamed[0]) == len(streamed[1]) == 16
    assert (torch.stack(streamed[0]).int() - torch.stack(streamed[1]).int()).abs().max() <= 1


def test_ahead_makes_the_next_item_while_one_is_used():
    made = [threading.Event() for _ in range(3)]
    def items():
        for event in made:
            event.set()
            yield made.index(event)
        raise KeyError("the end")
    given = ahead(items())
    assert not made[0].is_set() and next(given) == 0
    assert made[1].wait(timeout=20)   # nobody asked for it yet
    assert next(given) == 1 and next(given) == 2
    with pytest.raises(KeyError, match="the end"):
        next(given)
    assert list(ahead([])) == []


def test_turns_are_short_while_threads_work_together(talker):
    usual = sys.getswitchinterval()
    for overlap in (False, True):
        frames = FastTalker(talker, Tricks(overlap=overlap)).stream(PORTRAIT, SPEECH.split(1000), seed=3)
        assert sys.getswitchinterval() == usual
        next(frames)
        assert (sys.getswitchinterval() < 0.1 * usual) is overlap
        frames.close() if overlap else list(frames)
        assert sys.getswitchinterval() == usual


def test_painter_does_what_it_is_told_to_a_copy(talker, monkeypatch):
    seen = []
    monkeypatch.setattr(type(talker.face), "decode", lambda face, *codes: seen.append(face) or codes[2])
    for tricks in (Tricks(), Tricks(folded=True), Tricks(channels_last=True)):
        painter(talker.face, tricks)(None, None, torch.zeros(1, 6), None)
    plain = standardised(talker.face.decoder)
    assert [standardised(face.decoder) for face in seen] == [plain, 0, plain]
    assert plain == (0 if talker.face.config.detail else 4)
    last = [face.decoder.blocks[0].conv1.weight.is_contiguous(memory_format=torch.channels_last) for face in seen]
    born = [face.decoder.blocks[0].conv1.weight.is_contiguous() for face in seen]
    assert last == [False, False, True] and born == [True, True, False]
    assert all(face.canonical is talker.face.canonical and face.decoder is not talker.face.decoder for face in seen)


def test_warps_keep_their_digits_in_half_precision(talker):
    from vasa_ref.face.warps import from_canonical_grid, to_canonical_grid
    pose, flow = torch.tensor([[0.4, 0.2, 0.1, 0.05, -0.03, 1.1]]), 0.1 * torch.randn(1, 3, 4, 8, 8)
    for grid in (from_canonical_grid, to_canonical_grid):
        plain = grid(pose, flow, (8, 16, 16))
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(grid(pose, flow, (8, 16, 16)), plain)


def test_fetch_rounds_to_grey_levels():
    images = torch.tensor([-0.1, 0.0, 0.5, 0.9981, 2.0]).reshape(1, 1, 1, 5).repeat(2, 3, 4, 1)
    frames = fetch(images)
    assert frames.shape == (2, 4, 5, 3) and frames.dtype == torch.uint8
    assert frames[1, 2, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_incomplete_batches_are_filled_for_compiled_painters(talker, monkeypatch):
    seen = []
    def compiled(function, dynamic):
        return lambda *args: seen.append(len(args[2])) or function(*args)
    monkeypatch.setattr(torch, "compile", compiled)
    portrait = talker.encode(PORTRAIT)
    motion = torch.ones(3, talker.motion_model.config.motion_dim)
    with torch.inference_mode():
        paint = painter(talker.face, Tricks(compiled=True, batch=5))
        got = paint(portrait.appearance, portrait.z_id, motion[:, :6], motion[:, 6:])
    assert seen == [5] and len(got) == 3


def test_compiled_talkers_leave_others_compiled(talker, monkeypatch):
    """Neither does one more talker make torch forget what others have compiled, nor do many exhaust its patience with
    one function."""
    built, compile = [], torch.compile
    def backend(graph, inputs):
        built.append(graph)
        return graph.forward
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: compile(function, dynamic=dynamic, backend=backend))
    mine = compile(lambda x: x + 1, backend=backend)
    mine(torch.ones(3))
    portrait, motion = talker.encode(PORTRAIT), torch.ones(4, talker.motion_model.config.motion_dim)
    plain = talker.images(portrait, motion)
    with torch._dynamo.config.patch(recompile_limit=1), torch.no_grad():
        for batch in (4, 5, 6):
            before = len(built)
            paint = painter(talker.face, Tricks(compiled=True, batch=batch))
            for _ in range(2):
                torch.testing.assert_close(paint(portrait.appearance, portrait.z_id, motion[:, :6], motion[:, 6:]),
                                           plain, atol=1e-5, rtol=0)
            assert len(built) > before, f"batch {batch} was not compiled"
        before = len(built)
        mine(torch.ones(3))
        assert len(built) == before


def test_trick_table(talker):
    rows = trick_table(talker, [Tricks(half=True), Tricks(batch=4)], repeats=1)
    assert [row["tricks"] for row in rows] == ["none", "half", "batch 4"]
    assert rows[0]["times_faster"] == 1 and rows[0]["error"] == 0 and 1e-4 < rows[1]["error"] < 0.05
    assert rows[2]["error"] < 1e-4
    assert rows[2]["times_faster"] == pytest.approx(rows[0]["ms_per_frame"] / rows[2]["ms_per_frame"])


def test_what_is_tried_on_each_device():
    assert not any(t.graph for t in each_and_all("cpu")) and any(t.graph for t in each_and_all("cuda"))
    assert Tricks.best("cuda").half and not Tricks.best("cpu").half
    assert len({named(t) for t in each_and_all("cuda")}) == len(each_and_all("cuda"))


class FromHost(TorchFunctionMode):
    """Notes every call that brings numbers from the host to the device or back, which no CUDA graph can record."""
    names = {"tensor", "new_tensor", "from_numpy", "item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__"}

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        of_host = [a for a in args if isinstance(a, torch.Tensor) and a.device.type == "cpu" and a.ndim]
        if func.__name__ in self.names or of_host: self.found.append(func.__name__)
        return func(*args, **(kwargs or {}))


def test_nothing_comes_from_the_host_where_a_graph_is_recorded(talker):
    talker = Talker(*(copy.deepcopy(m).to("meta") for m in (talker.face, talker.audio, talker.motion_model)))
    model, c = talker.motion_model, talker.face.config
    zeros = lambda *shape: torch.zeros(*shape, device="meta")
    with torch.no_grad():
        encoded = model.encode(talker.performance().conditions(zeros(model.config.window, model.config.audio_dim)))
        portrait = talker.encode(PORTRAIT)
        x_t, t = zeros(1, model.config.window, model.config.motion_dim), zeros(1).long()
        model.denoise(x_t, t, encoded)   # the noise schedule moves to the device once
        with FromHost() as host:
            model.denoise(x_t, t, encoded)
            talker.face.decode(portrait.appearance, portrait.z_id, zeros(2, 6), zeros(2, c.z_dyn_dim))
        assert host.found == []
        with FromHost() as host: zeros(3).new_tensor([1.0, 2.0, 3.0]) + torch.zeros(3).to("meta")
        assert host.found == ["new_tensor", "to"]   # the net catches fish


def test_an_encoder_that_is_not_there(tmp_path):
    with pytest.raises(VasaError, match="cannot write the video"):
        save_video(tmp_path / "a.mp4", [torch.zeros(64, 64, 3).byte()], torch.zeros(FRAME), codec="h264_nowhere")
    assert not list(tmp_path.iterdir())


@gpu
def test_a_recorded_function_follows_its_inputs_whoever_calls():
    double = Graphed(lambda pair, x: {"sum": pair[0] + pair[1], "twice": 2 * x})
    for seed, size in enumerate((5, 5, 7, 5)):
        a, b, c = torch.randn(3, size, generator=torch.Generator().manual_seed(seed)).cuda()
        with torch.inference_mode(seed % 2 == 1):
            got = double((a, b), c)
        assert torch.equal(got["sum"], a + b) and torch.equal(got["twice"], 2 * c)
    assert len(double.recordings) == 2


@gpu
@pytest.mark.parametrize("tricks",
                         [*each_and_all("cuda", 4), Tricks(overlap=True, batch=4),
                          Tricks(graph=True, overlap=True, batch=4)], ids=named)
def test_tricks_on_a_gpu(talker, tricks):
    plain = Talker(*(copy.deepcopy(m).cuda() for m in (talker.face, talker.audio, talker.motion_model)), batch=1)
    fast, most = FastTalker(plain, tricks), 12 if tricks.half else 2
    speech = 0.1 * torch.randn(120 * FRAME, generator=torch.Generator().manual_seed(0))   # three windows
    def compare(make):
        films = [torch.stack(list(make(t))).int() for t in (plain, fast)]
        assert (films[0] - films[1]).abs().max() <= most
    compare(lambda t: t.frames(PORTRAIT, speech, seed=3))
    compare(lambda t: t.stream(PORTRAIT, speech.split(5000), seed=3))
    compare(lambda t: t.frames(PORTRAIT, speech, seed=4, cfg_scale={"audio": 1.0}))
    compare(lambda t: (frame for pair in zip(t.frames(PORTRAIT, speech, seed=1), t.frames(PORTRAIT, speech, seed=2))
                       for frame in pair))


def test_only_whole_windows_meet_the_compiled_denoiser():
    denoise = by_length(50, lambda *_: "whole", lambda *_: "shorter")
    assert [denoise(torch.zeros(2, n, 3), None, None) for n in (50, 49, 3)] == ["whole", "shorter", "shorter"]
