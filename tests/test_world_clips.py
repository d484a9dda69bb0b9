"""Clips of the world: a number makes a clip, bit by bit the same; files give it back; held-out clips are others."""
import pytest
import torch
from safetensors.torch import save_file

from vasa_ref.errors import VasaError
from vasa_ref.media.clips import Clip
from vasa_ref.world import clips
from vasa_ref.world.clips import (
    MOTION,
    Truth,
    draw,
    make_clip,
    make_clips,
    plan_clip,
    read_clip,
    read_clips,
    render_motion,
    write_clip,
)
from vasa_ref.world.people import random_people
from vasa_ref.world.performer import perform
from vasa_ref.world.picture import make_figures, studio
from vasa_ref.world.voice import VOICES, Voice, say


@pytest.fixture(scope="module")
def clip():
    return make_clip(3, size=32, seconds=0.4)


def same(a, b):
    "Whether sound, pictures and truth of two clips agree in every bit."
    tensors = lambda c: [c.waveform, c.truth.people.flat(), c.truth.speech.starts, c.truth.speech.ends,
                         *(getattr(c.truth.motion, name) for name in MOTION)]
    words = lambda c: (c.truth.speech.phonemes, c.truth.speech.text, c.truth.speech.voice, c.truth.speech.language,
                       c.truth.motion.distance, c.fps)
    pictures = (a.frames is None and b.frames is None) or torch.equal(a.frames, b.frames)
    return pictures and words(a) == words(b) and all(map(torch.equal, tensors(a), tensors(b)))


def test_a_clip_is_whole(clip):
    assert clip.frames.shape == (10, 32, 32, 3) and clip.frames.dtype == torch.uint8
    assert len(clip) == len(clip.truth.motion) == 10 and len(clip.waveform) == 6400
    assert clip.frames.float().std() > 10 and len(clip.truth.people) == 1


def test_the_same_seed_is_the_same_clip_bit_by_bit(clip):
    assert same(clip, make_clip(3, size=32, seconds=0.4))


def test_other_seeds_are_other_clips():
    clips = [make_clip(seed, render_frames=False) for seed in (3, 4)]
    a, b = (c.truth for c in clips)
    assert not torch.equal(a.people.flat(), b.people.flat()) and a.speech.text != b.speech.text
    assert clips[0].frames is None and len(clips[0]) == len(a.motion) != len(b.motion)


def test_frames_left_out_change_nothing_else(clip):
    silent = make_clip(3, seconds=0.4, render_frames=False)
    assert same(Clip(clip.frames, silent.waveform, silent.fps, silent.truth), clip)


def test_batches_change_no_frame(clip):
    figures, motion = make_figures(clip.truth.people), clip.truth.motion
    many, few = (render_motion(figures, motion, 32, studio(), batch=batch).int() for batch in (10, 3))
    assert (many - few).abs().max() <= 1


def test_files_give_the_clip_back(clip, tmp_path):
    path = tmp_path / "clip.safetensors"
    write_clip(path, clip, {"seed": 3, "size": 32})
    assert same(read_clip(path), clip)
    assert read_clip(path, recipe_only=True) == {"seed": 3, "size": 32}
    assert [p.name for p in tmp_path.iterdir()] == ["clip.safetensors"]          # and nothing beside it


def test_a_voice_of_ones_own_has_a_name_in_the_file(tmp_path):
    for given, name in ((Voice("f2"), "f2"), (VOICES["mia"], "mia"), ("theo", "theo")):
        speech = say("Yes.", voice=given)
        assert speech.voice == name
        truth = Truth(random_people(1, draw(0, "person")), perform(speech, generator=draw(0, "performance")), speech)
        write_clip(tmp_path / "a.safetensors", Clip(None, speech.waveform, truth=truth))
        back = read_clip(tmp_path / "a.safetensors").truth.speech
        assert back.voice == name and torch.equal(back.waveform, speech.waveform) and back.phonemes == speech.phonemes


def test_clips_without_frames_are_files_too(tmp_path):
    silent = make_clip(5, seconds=0.4, render_frames=False)
    write_clip(tmp_path / "clip.safetensors", silent)
    back = read_clip(tmp_path / "clip.safetensors")
    assert same(back, silent) and read_clip(tmp_path / "clip.safetensors", recipe_only=True) == {}


@pytest.mark.parametrize("content", [b"", b"not a clip", b"\x10" + 30 * b"\0"])
def test_other_files_are_refused(content, tmp_path):
    path = tmp_path / "other.safetensors"
    path.write_bytes(content)
    for recipe_only in (False, True):
        with pytest.raises(VasaError, match="other.safetensors"): read_clip(path, recipe_only)


def test_safetensors_of_something_else_and_missing_files_are_refused(tmp_path):
    save_file({"weight": torch.zeros(3)}, tmp_path / "weights.safetensors")
    with pytest.raises(VasaError, match="cannot read the clip"): read_clip(tmp_path / "weights.safetensors")
    with pytest.raises(VasaError, match="nowhere"): read_clip(tmp_path / "nowhere.safetensors")


def test_held_out_clips_are_others():
    known, kept = ([plan_clip(seed, held) for seed in range(200)] for held in (False, True))
    for what in ("voice", "text"): assert not {getattr(p, what) for p in known} & {getattr(p, what) for p in kept}, what
    a, b = (make_clip(7, seconds=0.2, held_out=held, render_frames=False) for held in (False, True))
    assert not torch.equal(a.truth.people.flat(), b.truth.people.flat()) and not torch.equal(a.waveform, b.waveform)
    assert a.truth.speech.voice != b.truth.speech.voice


@pytest.mark.parametrize("seconds", [0, -1, 0.01])
def test_clips_of_no_length_are_refused(seconds):
    with pytest.raises(VasaError, match="seconds"): make_clip(1, seconds=seconds, render_frames=False)


def test_unknown_languages_are_refused():
    with pytest.raises(VasaError, match="language"): make_clip(1, language="tlh", render_frames=False)


@pytest.mark.parametrize("seconds", [0.04, 9.0])
def test_sound_motion_and_frames_have_the_length_asked_for(seconds):
    clip = make_clip(2, seconds=seconds, render_frames=False)
    assert len(clip.waveform) == round(seconds * 25) * 640
    assert len(clip.truth.motion) == len(clip) == round(seconds * 25)


# many clips

def test_clips_do_not_depend_on_workers(tmp_path):
    options = dict(seconds=0.12, render_frames=False, quiet=True)
    many = make_clips(range(4), workers=2, folder=tmp_path, **options)
    assert all(map(same, many, [make_clip(seed, seconds=0.12, render_frames=False) for seed in range(4)]))
    assert all(map(same, many, read_clips(tmp_path)))


def test_what_is_there_is_not_made_again(tmp_path, monkeypatch):
    made, options = [], dict(size=16, seconds=0.12, workers=1, quiet=True)
    monkeypatch.setattr(clips, "make_clip", lambda seed, **options: made.append(seed) or make_clip(seed, **options))
    first = make_clips(range(2), folder=tmp_path, **options)
    assert first[0].frames.shape == (3, 16, 16, 3)
    (tmp_path / "00000001.safetensors").unlink()
    assert all(map(same, make_clips(range(3), folder=tmp_path, **options), first)) and made == [0, 1, 1, 2]
    with pytest.raises(VasaError, match="another folder"):
        make_clips(range(2), folder=tmp_path, held_out=True, **options)
    assert made == [0, 1, 1, 2]


def test_clips_come_in_the_order_asked_for_and_need_no_folder():
    first, second = make_clips([7, 3], workers=1, seconds=0.04, render_frames=False, quiet=True)
    assert first.frames is None and first.truth.speech.text == plan_clip(7).text != plan_clip(3).text
    assert second.truth.speech.text == plan_clip(3).text


def test_the_progress_bar_can_be_silenced(capfd):
    make_clips([1], workers=1, seconds=0.04, render_frames=False, quiet=True)
    assert capfd.readouterr() == ("", "")
    make_clips([1], workers=1, seconds=0.04, render_frames=False)
    assert "1/1" in capfd.readouterr().err


def test_cut_files_and_folders_without_clips_are_refused(tmp_path):
    write_clip(tmp_path / "a.safetensors", make_clip(1, seconds=0.04, render_frames=False))
    (tmp_path / "a.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes()[:-50])
    with pytest.raises(VasaError, match="make_clips"): read_clip(tmp_path / "a.safetensors")
    with pytest.raises(VasaError, match="make_clips"): read_clip(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(VasaError, match="no clips"): read_clips(tmp_path / "empty")
