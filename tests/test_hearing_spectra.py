"""The log-mel spectrogram and Wav2Vec2 against their library twins, and at their edges."""
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from vasa_ref.errors import VasaError
from vasa_ref.hearing.spectra import Wav2Vec2, Wav2Vec2Config, band_mask, log_mel

LAYOUTS = {"base": {}, "large": {"conv_bias": True, "feat_extract_norm": "layer", "do_stable_layer_norm": True}}
SMALL = dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, conv_dim=[24] * 7,
             num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4)


def noise(n, seed=0):
    return 0.1 * torch.randn(n, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return Wav2Vec2(Wav2Vec2Config.tiny()).eval().requires_grad_(False)


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


@pytest.mark.parametrize("normed", [True, False])
def test_the_processor_of_newer_transformers_is_read(normed, tmp_path):
    transformers = pytest.importorskip("transformers")
    transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**SMALL, **LAYOUTS["large"])).save_pretrained(tmp_path)
    letters = ("<pad>", "<s>", "</s>", "<unk>", "|", "a")
    (tmp_path / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(letters)}))
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
@pytest.mark.parametrize("text", ["[]", '"wav2vec2"', "7", "null", "[" * 100_000, "\xff", '{"feature_extractor": []}',
                                  '{"hidden_size": "x"}', '{"conv_kernel": 3}', '{"num_conv_pos_embedding_groups": 0}'])
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
