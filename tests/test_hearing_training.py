"""The dataset of the audio encoder, its loss, and its training."""
import pytest
import torch
from safetensors.torch import load_file

from vasa_ref.errors import VasaError
from vasa_ref.hearing import training
from vasa_ref.hearing.features import PhonemeRecogniser, audio_features, load_audio_encoder
from vasa_ref.hearing.spectra import Wav2Vec2Config
from vasa_ref.hearing.training import (
    STEP,
    UNKNOWN,
    SpeechDataset,
    make_speech,
    mel_start,
    recogniser_loss,
    speech_of,
    train_audio,
    utterances,
)
from vasa_ref.world.voice import PHONEMES


def noise(n, seed=0):
    return 0.1 * torch.randn(n, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def dataset():
    return make_speech(6, seed=3, workers=2, quiet=True)


def test_the_dataset_is_made_by_its_seed(dataset):
    again, other = make_speech(6, seed=3, workers=1, quiet=True), make_speech(6, seed=4, workers=2, quiet=True)
    for name in ("waveform", "labels", "prosody"):
        assert torch.equal(getattr(dataset, name), getattr(again, name))
    assert len(dataset.waveform) == 80 * len(dataset.labels) == 640 * dataset.prosody.shape[1]
    assert not torch.equal(dataset.labels[:400], other.labels[:400])
    assert dataset.labels.max() < len(PHONEMES)
    silent = (dataset.labels == 0).repeat_interleave(80)
    level = lambda x: (x.float() / 32767).square().mean().sqrt()
    assert level(dataset.waveform[silent]) < 0.2 * level(dataset.waveform[~silent])


def spoken_dataset():
    """Two utterances with half a second of silence between: labels by hand, i and m, one stretch unknown."""
    one = torch.zeros(2 * 200, dtype=torch.uint8)
    one[20:380], one[200:380], one[300:310] = PHONEMES.index("i"), PHONEMES.index("m"), UNKNOWN
    labels = torch.cat([one, torch.zeros(100, dtype=torch.uint8), one])
    sound = torch.arange(len(labels) * STEP, dtype=torch.int16)
    return SpeechDataset(sound, labels, torch.zeros(3, len(labels) * STEP // 640).half())


def test_pieces_between_pauses_become_speech():
    dataset = spoken_dataset()
    pieces = utterances(dataset)
    assert len(pieces) == 2 and all(1.8 < (b - a) / 200 < 2.6 and a % 8 == b % 8 == 0 for a, b in pieces)
    speech = speech_of(dataset, *pieces[1])
    assert speech.phonemes == ["_", "i", "m", "_"]                           # what is unknown goes to the m before it
    assert torch.equal(speech.starts[1:], speech.ends[:-1])
    assert speech.starts[0] == 0 and speech.ends[-1] == len(speech.waveform)
    m = int(speech.ends[2] - speech.starts[2])
    assert m == 180 * STEP
    begin = pieces[1][0] * STEP
    assert torch.equal((speech.waveform * 32767).round().short(), dataset.waveform[begin:begin + len(speech.waveform)])


def test_pieces_are_long_enough_short_enough_and_known():
    dataset = spoken_dataset()
    assert utterances(dataset, least=3) == utterances(dataset, most=1) == utterances(dataset, sure=0.99) == []
    assert len(utterances(dataset, pause=1)) == 1                               # then they are one piece


def test_training_learns_stops_saves_and_resumes(tmp_path, monkeypatch):
    monkeypatch.setitem(training.DATASET_SIZES, "tiny", 8)
    quiet = dict(preset="tiny", quiet=True)
    train_audio(max_steps=6, out=tmp_path / "at_once", **quiet)
    train_audio(max_steps=3, out=tmp_path / "in_two", **quiet)
    encoder = train_audio(max_steps=6, out=tmp_path / "in_two", resume=tmp_path / "in_two", **quiet)
    once, two = (load_file(tmp_path / name / "audio.safetensors") for name in ("at_once", "in_two"))
    assert once.keys() == two.keys() and all(torch.equal(once[k], two[k]) for k in once)
    assert not encoder.training and not any(p.requires_grad for p in encoder.parameters())
    loaded, waveform = load_audio_encoder(tmp_path / "in_two"), noise(6400)
    assert all(p.dtype == torch.float32 for p in loaded.parameters())
    assert torch.allclose(audio_features(loaded, waveform), audio_features(encoder, waveform), atol=0.02)
    with pytest.raises(VasaError, match="accepted are tiny, laptop"):
        train_audio("paper", max_steps=1)
    with pytest.raises(VasaError, match="needs a limit"):
        train_audio("tiny")


def test_the_loss_falls_and_reaches_every_parameter(dataset):
    torch.manual_seed(0)
    model = PhonemeRecogniser(Wav2Vec2Config.tiny())
    mel_start(model.encoder.feature_extractor.conv_layers[0].conv)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for step in range(25):
        loss, parts = recogniser_loss(model, dataset, torch.Generator().manual_seed(step), batch=4, seconds=1.0)
        optimizer.zero_grad()
        loss.backward()
        for name, p in model.named_parameters():   # a bias of the keys adds the same to all scores: softmax ignores it
            assert "k_proj.bias" in name or p.grad.abs().sum() > 0, name
        optimizer.step()
        losses.append(parts["phoneme"].item())
    assert sum(losses[-5:]) < sum(losses[:5]) - 1.5
