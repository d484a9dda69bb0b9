"""The audio module against its library twins, at its edges, and as a thing that learns."""
import json
import math

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from vasa_ref.errors import VasaError
from vasa_ref.hearing import audio
from vasa_ref.hearing.audio import (
    Wav2Vec2,
    Wav2Vec2Config,
    audio_features,
    band_mask,
    load_audio_encoder,
    load_recogniser,
    log_mel,
    train_audio,
)
from vasa_ref.hearing.dataset import STEP, UNKNOWN, Tape, make_tape, speech_of, utterances
from vasa_ref.world.voice import PHONEMES

LAYOUTS = {"base": {}, "large": {"conv_bias": True, "feat_extract_norm": "layer", "do_stable_layer_norm": True}}
SMALL = dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, conv_dim=[24] * 7,
             num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4)


def noise(n, seed=0):
    return 0.1 * torch.randn(n, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return Wav2Vec2(Wav2Vec2Config.tiny()).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def tape():
    return make_tape(6, seed=3, workers=2, quiet=True)


def test_log_mel_is_librosas():
    librosa = pytest.importorskip("librosa")
    waveform = noise(8000)
    theirs = librosa.feature.melspectrogram(y=waveform.numpy(), sr=16000, n_fft=400, hop_length=160, n_mels=80,
                                            htk=True, norm=None, center=False)
    assert torch.allclose(log_mel(waveform).exp(), torch.tensor(theirs).T, rtol=1e-3, atol=1e-4)
    assert log_mel(torch.stack([waveform, waveform])).shape == (2, 48, 80)
    with pytest.raises(ValueError, match="less than one window"):
        log_mel(waveform[:399])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["Wav2Vec2Model", "Wav2Vec2ForCTC"])
@pytest.mark.parametrize("names", ["new", "old"])
def test_public_checkpoints_give_the_same_states(layout, kind, names, tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    theirs = getattr(transformers, kind)(transformers.Wav2Vec2Config(**SMALL, **LAYOUTS[layout])).eval()
    for p in theirs.parameters():
        p.data += 0.1 * torch.randn_like(p)
    theirs.save_pretrained(tmp_path)
    if names == "old":
        state = load_file(tmp_path / "model.safetensors")
        old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
        for new, name in old.items():
            state = {k.replace(new, name): v for k, v in state.items()}
        assert any(k.endswith("conv.weight_g") for k in state)
        save_file(state, tmp_path / "model.safetensors")
    ours = Wav2Vec2.from_pretrained(tmp_path)
    assert not ours.training and not any(p.requires_grad for p in ours.parameters())
    waveform = 10 * noise(2 * 6000).reshape(2, 6000)
    with torch.no_grad():
        expected = getattr(theirs, "wav2vec2", theirs)(waveform, output_hidden_states=True)
        expected = [*expected.hidden_states[:-1], expected.last_hidden_state]
        states = ours.hidden_states(waveform)
    assert len(states) == len(expected)
    for a, b in zip(states, expected):
        assert a.shape == b.shape and (a - b).abs().max() < 1e-4


def test_the_input_is_normed_as_the_preprocessor_does(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    theirs = transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**SMALL, **LAYOUTS["large"])).eval()
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
    # tells nothing of it
    (tmp_path / "processor_config.json").write_text(json.dumps({"processor_class": "Wav2Vec2Processor"}))
    assert not Wav2Vec2.from_pretrained(tmp_path).config.do_normalize
    (tmp_path / "preprocessor_config.json").unlink()
    assert Wav2Vec2.from_pretrained(tmp_path).config.do_normalize


@pytest.mark.parametrize("normed", [True, False])
def test_the_processor_of_newer_transformers_is_read(normed, tmp_path):
    transformers = pytest.importorskip("transformers")
    transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**SMALL, **LAYOUTS["large"])).save_pretrained(tmp_path)
    vocabulary = {name: i for i, name in enumerate(("<pad>", "<s>", "</s>", "<unk>", "|", "a"))}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=normed)
    tokenizer = transformers.Wav2Vec2CTCTokenizer(tmp_path / "vocab.json")
    transformers.Wav2Vec2Processor(feature_extractor=extractor, tokenizer=tokenizer).save_pretrained(tmp_path)
    assert (tmp_path / "processor_config.json").is_file() != (tmp_path / "preprocessor_config.json").is_file()
    assert Wav2Vec2.from_pretrained(tmp_path).config.do_normalize == normed
    told = {"feature_extractor": {"do_normalize": normed}}                          # whichever version is here
    (tmp_path / "processor_config.json").write_text(json.dumps(told))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_normalize": not normed}))
    assert Wav2Vec2.from_pretrained(tmp_path).config.do_normalize == normed


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "processor_config.json"])
@pytest.mark.parametrize("text",
                         ["[]", '"wav2vec2"', "7", "null", "[" * 100_000, "\xff", '{"feature_extractor": []}',
                          '{"hidden_size": "x"}',
                          '{"conv_kernel": 3}', '{"num_conv_pos_embedding_groups": 0}'])
def test_settings_that_are_no_settings_are_one_sentence(name, text, tmp_path, encoder):
    (tmp_path / "config.json").write_text("{}")
    save_file({k: v.contiguous() for k, v in encoder.state_dict().items()}, tmp_path / "model.safetensors")
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(VasaError) as error:
        Wav2Vec2.from_pretrained(tmp_path)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 500


def test_what_is_no_checkpoint_is_said_in_one_sentence(tmp_path, encoder):
    with pytest.raises(VasaError, match="accepted are a folder"):
        Wav2Vec2.from_pretrained(tmp_path / "nothing")
    with pytest.raises(VasaError, match="has no config.json"):
        Wav2Vec2.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "wav2vec2"}))
    with pytest.raises(VasaError, match="has no model.safetensors"):
        Wav2Vec2.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(VasaError, match="damaged"):
        Wav2Vec2.from_pretrained(tmp_path)
    save_file({k: v.contiguous() for k, v in encoder.state_dict().items()}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "wav2vec2", "hidden_size": 32,
                                                      "num_hidden_layers": 1, "num_attention_heads": 2}))
    with pytest.raises(VasaError, match="does not fit"):
        Wav2Vec2.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "wav2vec2-bert"}))
    with pytest.raises(VasaError, match="wav2vec2-bert"):
        Wav2Vec2.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(VasaError, match="damaged"):
        Wav2Vec2.from_pretrained(tmp_path)


def test_band_mask_lets_each_frame_see_its_neighbours_only(encoder):
    mask = band_mask(6, (2, 1))
    assert mask.sum(1).tolist() == [2, 3, 4, 4, 4, 3] and mask[3].tolist() == [False, True, True, True, True, False]
    assert band_mask(6, None) is None
    waveform = noise(320 * 120 + 870)[None].requires_grad_()
    gradient, = torch.autograd.grad(encoder(waveform)[0, 60].square().sum(), waveform)
    first, last = (gradient[0].nonzero().min().item(), gradient[0].nonzero().max().item())
    left, right = encoder.config.context
    assert (60 - left) * 320 <= first < (61 - left) * 320
    assert (60 + right) * 320 <= last < (60 + right) * 320 + encoder.config.receptive_field


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


def test_the_tape_is_made_by_its_seed(tape):
    again, other = make_tape(6, seed=3, workers=1, quiet=True), make_tape(6, seed=4, workers=2, quiet=True)
    for name in ("waveform", "labels", "prosody"):
        assert torch.equal(getattr(tape, name), getattr(again, name))
    assert len(tape.waveform) == 80 * len(tape.labels) == 640 * tape.prosody.shape[1]
    assert not torch.equal(tape.labels[:400], other.labels[:400])
    assert tape.labels.max() < len(PHONEMES)
    silent = (tape.labels == 0).repeat_interleave(80)
    level = lambda x: (x.float() / 32767).square().mean().sqrt()
    assert level(tape.waveform[silent]) < 0.2 * level(tape.waveform[~silent])


def spoken_tape():
    """Two utterances with half a second of silence between: labels by hand, i and m, one stretch unknown."""
    one = torch.zeros(2 * 200, dtype=torch.uint8)
    one[20:380], one[200:380], one[300:310] = PHONEMES.index("i"), PHONEMES.index("m"), UNKNOWN
    labels = torch.cat([one, torch.zeros(100, dtype=torch.uint8), one])
    sound = torch.arange(len(labels) * STEP, dtype=torch.int16)
    return Tape(sound, labels, torch.zeros(3, len(labels) * STEP // 640).half())


def test_pieces_between_pauses_become_speech():
    tape = spoken_tape()
    pieces = utterances(tape)
    assert len(pieces) == 2 and all(1.8 < (b - a) / 200 < 2.6 and a % 8 == b % 8 == 0 for a, b in pieces)
    speech = speech_of(tape, *pieces[1])
    assert speech.phonemes == ["_", "i", "m", "_"]                           # what is unknown goes to the m before it
    assert torch.equal(speech.starts[1:], speech.ends[:-1]) and speech.starts[0] == 0
    assert speech.ends[-1] == len(speech.waveform)
    m = int(speech.ends[2] - speech.starts[2])
    assert m == 180 * STEP
    begin = pieces[1][0] * STEP
    assert torch.equal((speech.waveform * 32767).round().short(), tape.waveform[begin:begin + len(speech.waveform)])


def test_pieces_are_long_enough_short_enough_and_known():
    tape = spoken_tape()
    assert utterances(tape, least=3) == utterances(tape, most=1) == utterances(tape, sure=0.99) == []
    assert len(utterances(tape, pause=1)) == 1                               # then they are one piece


def test_training_learns_stops_saves_and_resumes(tmp_path, monkeypatch):
    monkeypatch.setitem(audio.TAPES, "tiny", 8)
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


def test_the_loss_falls_and_reaches_every_parameter(tape):
    torch.manual_seed(0)
    model = audio.PhonemeRecogniser(Wav2Vec2Config.tiny())
    audio.mel_start(model.encoder.feature_extractor.conv_layers[0].conv)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for step in range(25):
        loss, parts = audio.recogniser_loss(model, tape, torch.Generator().manual_seed(step), batch=4, seconds=1.0)
        optimizer.zero_grad()
        loss.backward()
        for name, p in model.named_parameters():   # a bias of the keys adds the same to all scores: softmax ignores it
            assert "k_proj.bias" in name or p.grad.abs().sum() > 0, name
        optimizer.step()
        losses.append(parts["phoneme"].item())
    assert sum(losses[-5:]) < sum(losses[:5]) - 1.5


def test_the_shipped_encoder_hears_unknown_voices():
    from vasa_ref.world.voice import VISEMES, frame_labels, say, viseme_of
    recogniser = load_recogniser("laptop")
    assert recogniser.config == Wav2Vec2Config.laptop()
    viseme = torch.tensor([list(VISEMES).index(viseme_of(phoneme)) for phoneme in PHONEMES])
    right = []
    for voice in ("june", "rolf"):
        speech = say("My uncle keeps a brave potato in the museum.", voice=voice)
        labels = frame_labels(speech)
        heard = recogniser.phonemes(audio_features(recogniser.encoder, speech.waveform, rate=50)).argmax(-1)
        right.append(viseme[heard[:len(labels)]] == viseme[labels])
    assert torch.cat(right).float().mean() > 0.65
