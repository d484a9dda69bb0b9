"""Moonshine's encoder against transformers, at another rate, cut to a band, and as the encoder of features."""
from dataclasses import replace

import pytest
import torch

from vasa_ref.errors import VasaError
from vasa_ref.hearing.features import (
    PhonemeRecogniser,
    audio_features,
    keep_audio_encoder,
    load_audio_encoder,
    load_recogniser,
    public_encoder,
)
from vasa_ref.hearing.moonshine import Moonshine, MoonshineConfig, MoonshineStream, angles, looking_ahead, turned
from vasa_ref.hearing.spectra import Wav2Vec2, Wav2Vec2Config
from vasa_ref.hearing.training import make_speech, recogniser_loss, train_audio
from vasa_ref.media.clips import frames_for
from vasa_ref.store import save_weights
from vasa_ref.talking.talker import FeatureStream, MoonshineFeatures, feature_stream
from vasa_ref.world.voice import PHONEMES

SIZES = dict(hidden_size=40, intermediate_size=48, encoder_num_hidden_layers=3, encoder_num_attention_heads=2,
             decoder_num_hidden_layers=1, decoder_num_attention_heads=2, vocab_size=30)
SMALL = replace(MoonshineConfig.laptop(), hidden_size=40, intermediate_size=48, num_attention_heads=2,
                num_hidden_layers=2, attention_context=(6, 1))


def noise(n, seed=0):
    return 0.1 * torch.randn(n, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def public(tmp_path_factory):
    "A folder with random weights that transformers saved, and its encoder."
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("moonshine")
    torch.manual_seed(0)
    model = transformers.MoonshineModel(transformers.MoonshineConfig(**SIZES)).eval()
    with torch.no_grad():
        for weight in model.parameters(): weight.mul_(1.5)                # far enough from zero to see a difference
    model.save_pretrained(folder)
    return folder, model.encoder


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return Moonshine(SMALL).eval().requires_grad_(False)


@pytest.mark.parametrize("n", [895, 1278, 1279, 16000])
def test_the_states_are_those_of_transformers(public, n):
    folder, theirs = public
    ours, waveform = Moonshine.from_pretrained(folder), noise(n)[None]
    with torch.no_grad():
        expected = theirs(waveform).last_hidden_state
    assert ours(waveform).shape == expected.shape and ours.config.num_hidden_layers == 3
    assert torch.allclose(ours(waveform), expected, atol=1e-4)


def test_another_hop_looks_up_the_same_stem_more_often(public):
    folder, _ = public
    slow, waveform = Moonshine.from_pretrained(folder), noise(16000)[None]
    fast = public_encoder(folder)
    assert (slow.config.hop, fast.config.hop) == (384, 320)
    a, b = slow.hidden_states(waveform)[0][0, ::5], fast.hidden_states(waveform)[0][0, ::6]
    n = min(len(a), len(b))
    assert n > 6 and torch.allclose(a[:n], b[:n], atol=1e-5)
    assert len(fast.hidden_states(waveform)[0][0]) > len(slow.hidden_states(waveform)[0][0])


def test_positions_are_seen_as_distances_only():
    q, k = torch.randn(2, 1, 12, generator=torch.Generator().manual_seed(0))
    score = lambda s, t: (turned(q, angles(torch.tensor([s]), 8)) * turned(k, angles(torch.tensor([t]), 8))).sum()
    assert torch.allclose(score(2.0, 5.5), score(40.0, 43.5), atol=1e-4)
    assert not torch.allclose(score(2.0, 5.5), score(2.0, 9.5), atol=1e-2)
    assert torch.equal(turned(q, angles(torch.tensor([9.0]), 8))[..., 8:], q[..., 8:])


def test_features_in_chunks_are_those_of_the_whole(encoder):
    waveform = noise(640 * 90 + 17)
    whole = audio_features(encoder, waveform, chunk=10_000)
    assert whole.shape == (91, 40)
    assert torch.allclose(audio_features(encoder, waveform, chunk=7), whole, atol=1e-4)


@pytest.mark.parametrize("cuts", [[9000], [333] * 27 + [9], [1, 4000, 4998, 1], [894, 8106]])
def test_states_are_final_when_they_come_and_all_come(encoder, cuts):
    waveform, made = noise(9000), []
    stream = MoonshineStream(encoder)
    for k, piece in enumerate(waveform.split(cuts)):
        made.append(stream.push(piece, last=k == len(cuts) - 1))
        assert all(x.shape[1] <= 1 for x in stream.waiting)                # for one state more
        assert all(x.shape[-2] <= 6 + 1 for x in stream.seen)              # what later states may see
    assert torch.allclose(torch.cat(made), encoder(waveform[None])[0], atol=1e-4)
    assert all(x.shape[1] == 0 for x in stream.waiting)


@pytest.mark.parametrize("states", range(9))
@torch.no_grad()
def test_each_look_ahead_is_streamed_as_of_the_whole_and_in_time(states):
    torch.manual_seed(0)
    full = Moonshine(replace(MoonshineConfig.laptop(), hidden_size=40, intermediate_size=48, num_attention_heads=2))
    encoder, waveform, made = looking_ahead(full.eval(), states), noise(20_000), []
    stream = MoonshineStream(encoder)
    for k, piece in enumerate(waveform.split(777)):
        made.append(stream.push(piece))
        arrived = 1 + (min(777 * (k + 1), 20_000) - encoder.config.receptive_field) // encoder.config.hop
        assert sum(map(len, made)) == max(0, arrived - states)
    made.append(stream.push(waveform[:0], last=True))
    assert len(made[-1]) == states and torch.allclose(torch.cat(made), encoder(waveform[None])[0], atol=1e-5)


@torch.no_grad()
def test_a_push_computes_nothing_but_new_states(encoder):
    "Of the linear layers, each row is a state that is new to them: two for a frame, wherever it is in the sound."
    rows, stream = {}, MoonshineStream(encoder)
    layers = {name: module for name, module in encoder.layers.named_modules() if isinstance(module, torch.nn.Linear)}
    hooks = [module.register_forward_hook(lambda module, x, y, name=name: rows.update({name: y.shape[1]}))
             for name, module in layers.items()]
    for _ in range(3):
        stream.push(noise(6400))
        stream.push(noise(640))
        assert set(rows.values()) == {2} and len(rows) == 2 * (4 + 2)
    for hook in hooks: hook.remove()


@torch.no_grad()
def test_where_in_the_sound_a_state_is_does_not_count(encoder):
    "Only the place among what is kept does: the same sound has the same states again, to the bit, and nothing grows."
    stream, piece = MoonshineStream(encoder), noise(640 * 30)
    stream.push(noise(640 * 500, seed=1))
    first, again = stream.push(piece), stream.push(piece)
    assert torch.equal(first[-20:], again[-20:])
    assert max(x.shape[-2] for x in stream.seen) <= 6 + 1


def test_a_stream_lives_where_its_encoder_does():
    torch.manual_seed(0)
    double = Moonshine(SMALL).double().eval().requires_grad_(False)         # another type stands for another device
    source, waveform = feature_stream(double), noise(6400)
    source.push(waveform)
    assert torch.allclose(source.features(0, 10), audio_features(double, waveform), atol=1e-8)
    assert source.features(9, 10).dtype == torch.float64


def test_another_encoder_is_no_teacher(tmp_path):
    save_weights(tmp_path / "audio.safetensors", Wav2Vec2(Wav2Vec2Config.tiny()), Wav2Vec2Config.tiny())
    with pytest.raises(VasaError, match="the teacher is no Moonshine"):
        train_audio("tiny", teacher=tmp_path, max_steps=1, quiet=True)


@pytest.mark.parametrize("kind", [FeatureStream, MoonshineFeatures])
@pytest.mark.parametrize("n", [1, 640, 32017])
@pytest.mark.parametrize("new, ahead", [(3, 1), (1, 0), (50, 0)])
def test_features_of_a_stream_are_those_of_the_whole_to_its_end(encoder, kind, n, new, ahead):
    waveform, results = noise(n), []
    for cut in (777, 100_000):
        source, made, done = kind(encoder), [], 0
        for chunk in [*waveform.split(cut), None]:
            if chunk is not None: source.push(chunk)
            while chunk is None or source.received >= source.needed(done + new + ahead):
                stop = min(done + new + ahead, frames_for(source.received))
                if done >= stop: break
                found = source.features(done, stop)
                assert len(found) == stop - done
                made.append(found[:new])
                done = min(done + new, stop)
        results.append(torch.cat(made))
    assert torch.allclose(results[0], audio_features(encoder, waveform), atol=1e-4)
    assert torch.equal(*results)                                           # to the bit, however it was cut


def test_a_stream_remembers_where_the_encoder_allows_it(encoder, public):
    assert type(feature_stream(encoder)) is MoonshineFeatures
    assert type(feature_stream(public_encoder(public[0]))) is FeatureStream      # looks at everything


def test_a_recogniser_is_kept_and_found_again(encoder, tmp_path):
    torch.manual_seed(1)
    model = PhonemeRecogniser(SMALL).eval()
    save_weights(tmp_path / "audio.safetensors", model, SMALL, dtype=torch.float8_e4m3fn, phonemes=PHONEMES)
    again, waveform = load_recogniser(tmp_path), noise(6400)[None]
    assert again.config == SMALL and isinstance(again.encoder, Moonshine)
    assert again.phonemes.weight.dtype == torch.float32
    close = torch.nn.functional.cosine_similarity(again.encoder(waveform), model.encoder(waveform), -1)
    assert 0.98 < close.min() < 1                                          # eight bits are not thirty-two
    assert torch.equal(load_audio_encoder(tmp_path)(waveform), again.encoder(waveform))


def test_a_public_checkpoint_is_copied_beside_what_learns_from_it(public, tmp_path):
    kept = keep_audio_encoder(str(public[0]), tmp_path)
    assert isinstance(kept, Moonshine) and len(audio_features(kept, noise(6400))) == 10
    assert load_audio_encoder(tmp_path).config == kept.config


def test_what_is_no_audio_encoder_is_refused(tmp_path, public):
    save_weights(tmp_path / "audio.safetensors", torch.nn.Linear(2, 2), replace(SMALL), phonemes=PHONEMES)
    with pytest.raises(VasaError, match="does not fit PhonemeRecogniser"): load_recogniser(tmp_path)
    with pytest.raises(VasaError, match="is no Moonshine"):
        transformers = pytest.importorskip("transformers")
        transformers.Wav2Vec2Config().save_pretrained(tmp_path)
        (tmp_path / "model.safetensors").write_bytes((public[0] / "model.safetensors").read_bytes())
        Moonshine.from_pretrained(tmp_path)
    with pytest.raises(VasaError, match="hop must be 320"):
        audio_features(Moonshine.from_pretrained(public[0]), noise(640))


def test_training_goes_on_from_an_encoder_without_heads(encoder, tmp_path):
    start = tmp_path / "start"
    start.mkdir()
    save_weights(start / "audio.safetensors", encoder, SMALL)
    trained = train_audio("tiny", start=start, max_steps=2, out=tmp_path / "out", quiet=True)
    assert isinstance(trained, Moonshine) and load_recogniser(tmp_path / "out").config == SMALL
    moved = [not torch.equal(a, b) for a, b in zip(trained.state_dict().values(), encoder.state_dict().values())]
    assert sum(moved) > len(moved) / 2
    again = train_audio("tiny", start=tmp_path / "out", max_steps=1, quiet=True)      # with heads
    assert isinstance(again, Moonshine)


def test_the_loss_reaches_every_weight():
    torch.manual_seed(0)
    model = PhonemeRecogniser(SMALL)
    loss, _ = recogniser_loss(model, make_speech(2, seed=1, quiet=True), torch.Generator().manual_seed(0), batch=2)
    loss.backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())
