"""Features for frames of video: aligned, the same in chunks and in a growing signal, and good for something."""
import json
import math

import pytest
import torch
import torch.nn.functional as F

from vasa_ref.errors import VasaError
from vasa_ref.hearing.features import audio_features, load_recogniser
from vasa_ref.hearing.moonshine import MoonshineConfig
from vasa_ref.hearing.spectra import Wav2Vec2, Wav2Vec2Config
from vasa_ref.world.voice import PHONEMES

SMALL = dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, conv_dim=[24] * 7,
             num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, conv_bias=True, feat_extract_norm="layer",
             do_stable_layer_norm=True)   # the layout of the large models


def noise(n, seed=0):
    return 0.1 * torch.randn(n, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return Wav2Vec2(Wav2Vec2Config.tiny()).eval().requires_grad_(False)


def test_the_input_is_normed_as_the_preprocessor_does(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    theirs = transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**SMALL)).eval()
    theirs.save_pretrained(tmp_path)
    preprocessor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    preprocessor.save_pretrained(tmp_path)
    ours, waveform = Wav2Vec2.from_pretrained(tmp_path), noise(640 * 10) + 0.3
    normed = preprocessor(waveform.numpy(), sampling_rate=16000, return_tensors="pt").input_values
    with torch.no_grad():
        expected = theirs(F.pad(normed, (40, 40))).last_hidden_state.unflatten(1, (10, 2)).mean(2)[0]
    assert ours.config.do_normalize
    assert (audio_features(ours, waveform) - expected).abs().max() < 1e-4
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    assert not Wav2Vec2.from_pretrained(tmp_path).config.do_normalize
    settings = {"processor_class": "Wav2Vec2Processor"}                      # tells nothing of it
    (tmp_path / "processor_config.json").write_text(json.dumps(settings))
    assert not Wav2Vec2.from_pretrained(tmp_path).config.do_normalize
    (tmp_path / "preprocessor_config.json").unlink()
    assert Wav2Vec2.from_pretrained(tmp_path).config.do_normalize


@pytest.mark.parametrize("n, frames", [(1, 1), (639, 1), (640, 1), (641, 2), (16000, 25), (16001, 26)])
def test_a_feature_for_every_frame_of_video(encoder, n, frames):
    features = audio_features(encoder, torch.zeros(n))
    assert features.shape == (frames, 64) and features.isfinite().all()


def test_chunks_offsets_and_lengths_agree_with_the_whole(encoder):
    waveform = noise(640 * 200 + 17)
    whole = audio_features(encoder, waveform, chunk=10_000)
    scale = whole.abs().max()
    for chunk in (7, 50, 199):
        assert (audio_features(encoder, waveform, chunk=chunk) - whole).abs().max() < 1e-5 * scale
    assert (audio_features(encoder, waveform, first=150) - whole[150:]).abs().max() < 1e-5 * scale
    assert (audio_features(encoder, waveform, frames=30) - whole[:30]).abs().max() < 1e-5 * scale
    padded = audio_features(encoder, F.pad(waveform, (0, 640 * 210 - len(waveform))))
    assert (audio_features(encoder, waveform, frames=210) - padded).abs().max() < 1e-5 * scale
    pairs = audio_features(encoder, waveform, rate=50)
    assert pairs.shape == (402, 64) and (pairs.unflatten(0, (-1, 2)).mean(1) - whole).abs().max() < 1e-5 * scale
    assert audio_features(encoder, waveform, first=201).shape == (0, 64)


def test_a_growing_signal_alters_the_last_rows_only(encoder):
    waveform = noise(640 * 100)
    whole, now = audio_features(encoder, waveform), audio_features(encoder, waveform[:640 * 60])
    ahead = math.ceil((encoder.config.context[1] * 320 + (encoder.config.receptive_field - 320) / 2) / 640)
    assert (now - whole[:60])[:60 - ahead].abs().max() < 1e-5
    assert (now - whole[:60])[60 - ahead:].abs().max() > 1e-3


@pytest.mark.parametrize("waveform", [torch.zeros(0), torch.zeros(2, 100), torch.zeros(640, dtype=torch.int16),
                                      torch.tensor([0.0, math.nan] * 400), torch.tensor([0.0, math.inf] * 400)])
def test_what_is_no_waveform_is_refused(encoder, waveform):
    with pytest.raises(VasaError, match="finite float"):
        audio_features(encoder, waveform)


def test_features_of_a_frozen_encoder_can_train_others(encoder):
    head = torch.nn.Linear(64, 3)
    head(audio_features(encoder, noise(6400))).sum().backward()
    assert head.weight.grad.abs().sum() > 0


def test_the_shipped_encoder_hears_unknown_voices():
    from vasa_ref.world.voice import VISEMES, frame_labels, say, viseme_of
    recogniser = load_recogniser("laptop")
    assert recogniser.config == MoonshineConfig.laptop()
    viseme = torch.tensor([list(VISEMES).index(viseme_of(phoneme)) for phoneme in PHONEMES])
    right = []
    for voice in ("june", "rolf"):
        speech = say("My uncle keeps a brave potato in the museum.", voice=voice)
        labels = frame_labels(speech)
        heard = recogniser.phonemes(audio_features(recogniser.encoder, speech.waveform, rate=50)).argmax(-1)
        right.append(viseme[heard[:len(labels)]] == viseme[labels])
    assert torch.cat(right).float().mean() > 0.65
