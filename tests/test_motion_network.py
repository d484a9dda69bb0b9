"""The motion network: its parts against torch.nn, masks and nulls, statistics, and what its weights carry."""
import math
from dataclasses import asdict, replace

import pytest
import torch
import torch.nn as nn
from motion_parts import CONFIG, M, changed, conditions, noisy, seeded

from vasa_ref.errors import VasaError
from vasa_ref.motion.conditions import CONDITIONS, clip_conditions
from vasa_ref.motion.network import (
    FORMER,
    EncoderLayer,
    MotionConfig,
    MotionModel,
    MotionSampling,
    attention_mask,
    load_motion,
)
from vasa_ref.motion.sampling import generate_motion
from vasa_ref.motion.training import MotionTraining
from vasa_ref.store import load_weights, save_tensors, save_weights


@pytest.fixture
def model():
    torch.manual_seed(0)
    return MotionModel(CONFIG).eval()


@pytest.fixture(params=["tokens", "adaptive"])
def either(request, model):
    """A model whose conditions are tokens, and one whose layers adapt to them."""
    if request.param == "tokens":
        return model
    model = MotionModel(replace(CONFIG, adaptive=True, skip=False)).eval()
    for layer in model.layers:
        nn.init.normal_(layer.adapt.weight, std=0.1)      # they begin at zero, where layers say nothing
    return model


def test_encoder_layer_equals_torch():
    torch.manual_seed(0)
    gelu = nn.functional.gelu
    ours = EncoderLayer(32, 4)
    twin = nn.TransformerEncoderLayer(32, 4, 128, 0.0, gelu, batch_first=True, norm_first=True)
    names = {"self_attn.in_proj_": "attention.qkv.", "self_attn.out_proj.": "attention.out.",
             "linear1.": "mlp.0.", "linear2.": "mlp.2."}
    state = ours.state_dict()
    for theirs, name in names.items():
        state |= {name + part: twin.state_dict()[theirs + part] for part in ("weight", "bias")}
    ours.load_state_dict(state)
    x, mask = torch.randn(2, 11, 32), torch.rand(11, 11) > 0.3
    mask.fill_diagonal_(True)
    assert torch.allclose(ours(x)[0], twin(x), atol=1e-5)
    assert torch.allclose(ours(x, mask=mask)[0], twin(x, src_mask=~mask), atol=1e-5)


def test_memory_equals_one_encoder_with_a_block_mask(model):
    "Conditions encoded once and remembered give what one long sequence gives whose conditions do not look at x_t."
    c, (x_t, t) = conditions(), noisy()
    memory, skip, _, last = model.encode(c)
    parts = {name: model.embed(c, name) for name in CONDITIONS}
    past, now = model.position.split([CONFIG.context, CONFIG.window])
    for name, position in (("prev_motion", past), ("prev_audio", past), ("audio", now)):
        parts[name] = parts[name] + position
    first = torch.cat([parts[name] for name in CONDITIONS], 1)
    second = torch.cat([model.time(t), model.inputs["motion"](x_t) + model.types["motion"] + now + skip], 1)
    x, n = torch.cat([first, second], 1), first.shape[1]
    mask = torch.cat([torch.ones(n, x.shape[1], dtype=torch.bool), model.mask])
    mask[:n, n:] = False
    for layer in model.layers:
        x, _ = layer(x, mask=mask)
    guess = model.output(model.norm(x[:, n + 1:]))
    assert torch.allclose(guess, model(x_t, t, c), atol=1e-5)
    model.carry = nn.Parameter(torch.randn(CONFIG.window, M))
    model.config = replace(CONFIG, precondition=True)
    alpha_bar = model.schedule.alpha_bar(t)[:, None, None]
    guess = alpha_bar.sqrt() * x_t + (1 - alpha_bar).sqrt() * guess
    assert torch.allclose(guess + (1 - alpha_bar) * model.carry * last, model(x_t, t, c), atol=1e-5)
    assert len(memory) == CONFIG.layers


def test_adaptive_layers_begin_as_the_identity_and_leave_the_conditions_of_the_clip_to_the_vector():
    torch.manual_seed(0)
    layer, x, vector = EncoderLayer(32, 4, adaptive=True), torch.randn(2, 7, 32), torch.randn(2, 1, 32)
    assert torch.equal(layer(x, vector=vector)[0], x) and not torch.allclose(layer(x)[0], x)
    nn.init.normal_(layer.adapt.weight)
    shift, scale, weight, *second = layer.adapt(nn.functional.silu(vector)).chunk(6, -1)
    heard = x + weight * layer.attention(layer.norm1(x) * (1 + scale) + shift)[0]
    expected = heard + second[2] * layer.mlp(layer.norm2(heard) * (1 + second[1]) + second[0])
    assert torch.allclose(layer(x, vector=vector)[0], expected, atol=1e-6)
    mask, plain = attention_mask(replace(CONFIG, adaptive=True)), attention_mask(CONFIG)[:, len(clip_conditions()):]
    plain[1:, -CONFIG.window - 1] = False                                       # t
    assert torch.equal(mask, plain)
    model, c = MotionModel(replace(CONFIG, adaptive=True)), conditions()
    moved = {name: c[name] + 1 for name in ("gaze", "distance", "emotion")}
    one, other = model.encode(c), model.encode(changed(c, **moved))
    assert all(torch.equal(a, b) for pair in zip(one.memory, other.memory) for a, b in zip(*pair))
    assert not torch.equal(one.clip, other.clip)


def test_preconditioned_output_is_x_t_itself_where_it_is_clean():
    c, (x_t, _), clean = conditions(), noisy(), torch.zeros(2, dtype=torch.int64)
    near, plain = (MotionModel(replace(CONFIG, precondition=p, carry=False)) for p in (True, False))
    assert (near(x_t, clean, c) - x_t).std() < 0.1 < (plain(x_t, clean, c) - x_t).std()


@pytest.mark.parametrize("reach", [0, 3, None])
def test_attention_mask(reach):
    config = replace(CONFIG, audio_reach=reach)
    mask, k, w = attention_mask(config), config.context, config.window
    assert mask.shape == (1 + w, len(clip_conditions()) + 2 * k + w + 1 + w)
    first = len(clip_conditions()) + k
    assert mask[0].all() and mask[:, :first].all() and mask[:, first + k + w:].all()
    audio = mask[1:, first:first + k + w]
    distance = (torch.arange(w)[:, None] + k - torch.arange(k + w)).abs()
    assert torch.equal(audio, distance <= (math.inf if reach is None else reach))


def test_presets_and_parameter_counts():
    tiny, laptop, paper = (getattr(MotionConfig, name)() for name in ("tiny", "laptop", "paper"))
    assert (paper.layers, paper.width, paper.heads) == (8, 512, 8) and paper.audio_reach is None
    assert not paper.skip and not paper.carry and not paper.precondition
    assert (MotionTraining.paper().drop_prob, MotionTraining.paper().drop_prev_prob) == (0.1, 0.5)
    assert (laptop.window, laptop.context) == (50, 10)
    assert MotionSampling.paper() == MotionSampling(steps=50, temperature=1.0, lean=0.0, steady=False,
                                                      cfg_scale={"audio": 0.5, "gaze": 1.0}, overstate={})
    counts = [sum(p.numel() for p in MotionModel(c).parameters()) for c in (tiny, laptop, paper)]
    assert counts[0] < 0.3e6 < counts[1] < 5e6 and 25e6 < counts[2] < 31e6


@pytest.mark.parametrize("name", CONDITIONS)
def test_each_condition_counts_and_its_null_does_not(either, name):
    model = either
    (x_t, t), c = noisy(), conditions()
    other = changed(c, **{name: c[name] + 1})
    assert (model(x_t, t, c) - model(x_t, t, other)).abs().max() > 1e-4
    gone = {name: torch.zeros(2, dtype=torch.bool)}
    dropped = model(x_t, t, replace(c, keep=gone))
    assert torch.equal(dropped, model(x_t, t, replace(other, keep=gone)))
    assert (dropped - model(x_t, t, c)).abs().max() > 1e-5


def test_nulls_are_no_zeros(model):
    (x_t, t), c = noisy(), conditions()
    for name in ("gaze", "distance", "emotion"):
        zero = model(x_t, t, changed(c, **{name: torch.zeros_like(c[name])}))
        null = model(x_t, t, replace(c, keep={name: torch.zeros(2, dtype=torch.bool)}))
        assert (zero - null).abs().max() > 1e-5


def test_dropped_tail_of_audio_is_not_read(model):
    (x_t, t), c = noisy(), conditions()
    keep = (torch.arange(CONFIG.window) < 20).expand(2, -1)
    c = replace(c, keep={"audio": keep})
    other = changed(c, audio=torch.cat([c["audio"][:, :20], c["audio"][:, 20:] + 9], 1))
    assert torch.equal(model(x_t, t, c), model(x_t, t, other))


def test_passes_put_guidance_in_one_batch(model):
    (x_t, t), c = noisy(), conditions(gaze=False)
    out = model(x_t.repeat(3, 1, 1), t.repeat(3), c.passes(["audio", "distance"])).split(2)
    for name, got in zip((None, "audio", "distance"), out):
        keep = c.keep | ({name: torch.zeros(2, dtype=torch.bool)} if name else {})
        assert torch.allclose(got, model(x_t, t, replace(c, keep=keep)), atol=1e-5)


def test_normalisation_is_undone_and_saved(model, tmp_path):
    motion = torch.randn(500, M, generator=seeded()) * torch.arange(1, M + 1) + 3
    model.set_statistics(motion=motion, gaze=motion[:, :2])
    assert torch.allclose(model.normalise(motion).std(0), torch.ones(M), atol=1e-2)
    assert torch.allclose(model.denormalise(model.normalise(motion)), motion, atol=1e-4)
    save_weights(tmp_path / "motion.safetensors", model, CONFIG)
    loaded = load_motion(tmp_path)
    assert loaded.config == CONFIG and torch.equal(loaded.motion_std, model.motion_std)
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    (x_t, t), c = noisy(), conditions()
    assert torch.equal(loaded(x_t, t, c), model(x_t, t, c))


def test_constant_channels_do_not_blow_up(model):
    model.set_statistics(motion=torch.ones(50, M))
    assert model.normalise(torch.ones(3, M)).abs().max() < 1e-3


def test_numbers_of_z_dyn_that_hardly_vary_stay_small():
    "No number of z_dyn is divided by less than a quarter of their median spread; the pose is in units of its own."
    spread = torch.tensor([1e-2] * 6 + [0.0, 0.01, 0.2, 1.0, 1.0, 2.0, 4.0])
    model = MotionModel(replace(CONFIG, motion_dim=13))
    motion = torch.randn(2000, 13, generator=seeded()) * spread
    model.set_statistics(motion=motion)
    expected = torch.cat([torch.ones(6), spread[6:] / spread[6:].clamp(min=0.25)])
    assert torch.allclose(model.normalise(motion).std(0), expected, rtol=0.05, atol=1e-6)
    assert torch.allclose(model.denormalise(model.normalise(motion)), motion, atol=1e-4)


def test_attention_under_bfloat16_is_close_to_float32(model):
    (x_t, t), c = noisy(), conditions()
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(x_t, t, c)
    fine = model(x_t, t, c)
    assert torch.allclose(rough.float(), fine, atol=0.05) and not torch.equal(rough.float(), fine)


# three configs, and what weights carry of them


@pytest.fixture
def written(model, tmp_path):
    "A folder with weights, and a function that writes them anew with other metadata."
    path = tmp_path / "motion.safetensors"
    save_weights(path, model, CONFIG, sampling=asdict(MotionSampling(steps=7, lean=0.0)),
                 training=asdict(MotionTraining.tiny()))
    def rewrite(change):
        state, metadata = load_weights(path)
        change(metadata)
        save_tensors(path, state, metadata)
        return tmp_path
    return rewrite


def test_the_shipped_weights_are_of_the_preset_and_say_how_they_are_played():
    model = load_motion("laptop")
    assert model.config == MotionConfig.laptop()
    assert model.sampling == MotionSampling.laptop()
    assert model.sampling == MotionSampling(steps=10, temperature=1.0, lean=0.15, steady=False)


@torch.no_grad()
def test_a_short_window_is_the_window_of_a_shorter_model(model):
    """The first n frames alone give what a model of windows of n frames gives that has the same weights."""
    n, c, (x_t, t) = 7, conditions(), noisy()
    short = replace(c, values=c.values | {"audio": c["audio"][:, :n]}, keep={})
    config = replace(CONFIG, window=n)
    shorter, state = MotionModel(config).eval(), model.state_dict()
    shorter.load_state_dict(state | {"position": state["position"][:CONFIG.context + n]})
    assert torch.equal(model.mask_of(n), attention_mask(config))
    assert torch.equal(model.mask_of(CONFIG.window), attention_mask(CONFIG))
    assert torch.allclose(model(x_t[:, :n], t, short), shorter(x_t[:, :n], t, short), atol=1e-6)


def test_weights_of_one_config_load(written):
    "Metadata as it was: what is now sampling and training stands in the config; sampling is taken from there."
    def as_before(metadata):
        metadata["config"] |= metadata.pop("training") | asdict(MotionSampling(steps=7, temperature=0.9, steady=False))
        del metadata["config"]["cfg_scale"], metadata["config"]["overstate"]   # which came later
        metadata["config"]["drop_tail_prob"] = metadata["config"].pop("short_prob")
        metadata.pop("sampling"), metadata["config"].pop("conditions")
        assert FORMER <= metadata["config"].keys()
    loaded = load_motion(written(as_before))
    assert loaded.config == CONFIG
    assert loaded.sampling == MotionSampling(steps=7, temperature=0.9, lean=0.15, steady=False)


def test_sampling_and_training_make_no_other_version(written):
    def other_settings(metadata):
        metadata["sampling"] = {"steps": 20, "fashion": "of next year"}
        metadata["training"] = {"nothing": "that is known"}
    loaded = load_motion(written(other_settings))
    assert loaded.config == CONFIG and loaded.sampling == MotionSampling(steps=20)
    assert load_motion(written(lambda metadata: metadata.pop("sampling"))).sampling == MotionSampling()


@pytest.mark.parametrize("change, said", [
    ({"fashion": 1}, "made by another version: it differs in fashion of MotionConfig"),
    ({"width": 48}, "does not fit MotionModel")])
def test_another_architecture_is_refused(written, change, said):
    with pytest.raises(VasaError, match=said):
        load_motion(written(lambda metadata: metadata["config"].update(change)))


def test_settings_are_said_for_a_performance_or_for_the_model(model):
    audio = torch.randn(60, CONFIG.audio_dim, generator=seeded())
    play = lambda model, **asked: generate_motion(model, audio, generator=seeded(1), **asked)
    other = MotionSampling(steps=2, temperature=0.5, lean=0.0, steady=False)
    twin = MotionModel(CONFIG, other).eval()
    twin.load_state_dict(model.state_dict())
    assert torch.equal(play(twin), play(model, settings=other)) and not torch.allclose(play(twin), play(model))
    assert torch.equal(play(twin, steps=3), play(model, settings=replace(other, steps=3)))
    assert torch.equal(play(twin, temperature=1.0), play(model, settings=replace(other, temperature=1.0)))
