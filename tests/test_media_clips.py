"""Clips: media files in and out, their bad inputs, and plans made from seeds."""
import contextlib
import dataclasses
import math
import os
import struct
import subprocess
import zlib
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vasa_ref.errors import VasaError
from vasa_ref.media import files
from vasa_ref.media.clips import (
    MADE,
    Clip,
    frames_for,
    load_audio,
    load_portrait,
    read_comment,
    read_frames,
    read_sound,
    save_video,
    show_frames,
)
from vasa_ref.world.clips import draw, plan_clip, speak
from vasa_ref.world.voice import TRAINING_LANGUAGES, VOICES, say

AAC_BLOCK = 1024  # samples; ffmpeg before 6 does not cut what fills up the last one


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tone(samples=16_000, rate=16_000, hertz=440.0, level=0.5):
    return (level * np.sin(2 * np.pi * hertz * np.arange(samples) / rate)).astype(np.float32)


def smooth_video(count=13, height=48, width=64):
    "Colour gradients that drift: (T, H, W, 3) uint8, easy for a codec, different in every frame."
    t, y, x = np.meshgrid(np.arange(count), np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    values = np.stack([0.5 + 0.4 * np.sin(3 * x + t / 4), 0.2 + 0.6 * y, 0.5 + 0.3 * np.cos(2 * y - t / 5)], -1)
    return torch.from_numpy((values * 255).round().astype(np.uint8))


def psnr(a, b):
    return -10 * math.log10(((a.float() - b.float()) / 255).square().mean().item())


def ffmpeg(*arguments, stdout=None):
    command = [files.ffmpeg_exe(), "-nostdin", "-loglevel", "error", *map(str, arguments)]
    done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr


@pytest.fixture(params=sorted({imageio_ffmpeg.get_ffmpeg_exe(), files.ffmpeg_exe()}), ids=os.path.basename)
def each_ffmpeg(request, monkeypatch):
    "The bundled program, and the one on PATH where there is one that we use."
    monkeypatch.setattr(files, "ffmpeg_exe", lambda: request.param)


def one_sentence(error):
    message = str(error.value)
    assert "\n" not in message and message.count("; ") <= 2 and 20 < len(message) < 400
    return message


@pytest.fixture(scope="module")
def clip():
    return Clip(smooth_video(), torch.from_numpy(tone(13 * 640 - 100)))


@pytest.fixture(scope="module")
def video(clip, tmp_path_factory):
    return clip.save(tmp_path_factory.mktemp("video") / "clip.mp4")


# video out and in

def test_video_round_trip(clip, tmp_path, each_ffmpeg):
    video = clip.save(tmp_path / "clip.mp4")
    again = Clip.load(video)
    assert again.frames.shape == clip.frames.shape and again.frames.dtype == torch.uint8
    assert psnr(again.frames, clip.frames) > 36
    assert min(psnr(a, b) for a, b in zip(again.frames, clip.frames)) > 34
    assert (again.frames.float().mean((0, 1, 2)) - clip.frames.float().mean((0, 1, 2))).abs().max() < 2  # the same hue
    assert len(again.waveform) == 13 * 640 and again.fps == 25 and again.truth is None


@pytest.mark.parametrize("comment", [None, MADE])
def test_a_comment_is_in_the_file_if_one_is_given(clip, tmp_path, each_ffmpeg, comment):
    path = save_video(tmp_path / "a.mp4", clip.frames, clip.waveform, comment=comment)
    assert read_comment(path) == comment


def test_frames_keep_their_order(clip, video):
    again = Clip.load(video)
    nearest = [int((clip.frames.float() - frame.float()).square().mean((1, 2, 3)).argmin()) for frame in again.frames]
    assert nearest == list(range(len(clip)))


def test_sound_is_not_shifted(tmp_path, each_ffmpeg):
    noise = torch.randn(25 * 640, generator=torch.Generator().manual_seed(0))
    spoken = torch.nn.functional.avg_pool1d(noise[None], 5, 1, 2)[0] * 0.3
    heard = load_audio(save_video(tmp_path / "a.mp4", smooth_video(25), spoken))
    assert 0 <= len(heard) - len(spoken) < AAC_BLOCK
    heard = heard[:len(spoken)]
    fits = [torch.dot(spoken, heard.roll(-shift)).item() for shift in range(-1100, 1101)]
    assert int(np.argmax(fits)) == 1100
    assert np.corrcoef(spoken, heard)[0, 1] > 0.95


def test_live_sound_is_asked_for_when_the_frames_are_through(clip, tmp_path):
    came = []
    def frames():
        for frame in clip.frames:
            came.append(frame)
            yield frame
    def sound():
        assert len(came) == len(clip.frames)
        return clip.waveform
    save_video(tmp_path / "live.mp4", frames(), sound)
    back = Clip.load(tmp_path / "live.mp4")
    assert len(back) == len(clip)
    assert torch.corrcoef(torch.stack([back.waveform[:len(clip.waveform)], clip.waveform]))[0, 1] > 0.9
    with pytest.raises(ValueError, match="do not fit"):
        save_video(tmp_path / "short.mp4", clip.frames, lambda: clip.waveform[:640])
    assert not (tmp_path / "short.mp4").exists()


def test_video_is_what_browsers_play(video):
    described = subprocess.run([files.ffmpeg_exe(), "-hide_banner", "-i", video], capture_output=True, text=True).stderr
    assert "h264" in described and "yuv420p" in described and "bt709" in described and "25 fps" in described
    assert "aac" in described and "16000 Hz, mono" in described
    data = video.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # faststart


def test_odd_sizes_are_made_even(tmp_path):
    frames = smooth_video(2, 31, 45)
    back = torch.stack(list(read_frames(save_video(tmp_path / "a.mp4", frames, tone(1280)))))
    assert back.shape == (2, 32, 46, 3)
    assert psnr(back[:, :31, :45], frames) > 32
    assert psnr(back[:, 31, :45], frames[:, 30]) > 28  # the last row, repeated


@pytest.mark.parametrize("fps, samples", [(25, 1), (25, 641), (30, 16_000), (24, 7_777)])
def test_frames_and_sound_agree(tmp_path, fps, samples):
    count = frames_for(samples, fps)
    assert count == math.ceil(samples * fps / 16_000)
    path = save_video(tmp_path / "a.mp4", smooth_video(count), tone(samples), fps)
    assert len(list(read_frames(path, fps))) == count
    assert 0 <= len(load_audio(path)) - count * 16_000 // fps < AAC_BLOCK


def test_other_frame_rates_become_25(tmp_path):
    path = save_video(tmp_path / "a.mp4", smooth_video(60, 16, 16), tone(16_000), 60)
    again = Clip.load(path)
    assert len(again) == 25 and len(again.waveform) == 16_000


def test_lying_videos_are_turned_upright(tmp_path, video):
    if b"display_rotation" not in subprocess.run([files.ffmpeg_exe(), "-h", "long"], capture_output=True).stdout:
        pytest.skip("this ffmpeg is too old to make such a video")
    lying = tmp_path / "lying.mp4"
    ffmpeg("-display_rotation", 90, "-i", video, "-c", "copy", lying)
    assert next(read_frames(lying)).shape == (64, 48, 3)


def test_pixels_become_square(tmp_path, video):
    flat = tmp_path / "flat.mp4"
    ffmpeg("-i", video, "-vf", "setsar=2/1", "-c:a", "copy", flat)
    assert next(read_frames(flat)).shape == (48, 128, 3)


def test_frames_stream_in_and_out(tmp_path):
    asked = []

    def lazily():
        for index, frame in enumerate(smooth_video(5)):
            asked.append(index)
            yield frame.numpy()
    path = save_video(tmp_path / "a.mp4", lazily(), tone(5 * 640))
    assert asked == list(range(5))
    reader = read_frames(path)
    next(reader)
    reader.close()  # stopping early leaves no error and no process


def test_a_video_without_sound_is_no_clip(tmp_path, video):
    ffmpeg("-i", video, "-an", "-c:v", "copy", tmp_path / "mute.mp4")
    with pytest.raises(VasaError) as error:
        Clip.load(tmp_path / "mute.mp4")
    assert "is missing in it" in one_sentence(error)


# atomicity and failures of writing

def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_failing_source_leaves_nothing(tmp_path):
    def failing():
        yield from smooth_video(3)
        raise RuntimeError("no more")
    with pytest.raises(RuntimeError, match="no more"):
        save_video(tmp_path / "a.mp4", failing(), tone())
    assert names(tmp_path) == []


@pytest.mark.parametrize("frames", [smooth_video(24), smooth_video(26), smooth_video(0), smooth_video(25).float(),
                                    [*smooth_video(24), *smooth_video(1, 32, 32)]])
def test_frames_that_do_not_fit_are_refused(tmp_path, frames):
    (tmp_path / "a.mp4").write_bytes(b"the old one")
    with pytest.raises(ValueError):
        save_video(tmp_path / "a.mp4", frames, tone())
    assert (tmp_path / "a.mp4").read_bytes() == b"the old one" and names(tmp_path) == ["a.mp4"]


def test_sound_that_is_not_finite_is_refused(tmp_path):
    with pytest.raises(VasaError, match="NaN"):
        save_video(tmp_path / "a.mp4", smooth_video(25), np.full(16_000, np.nan, np.float32))
    assert names(tmp_path) == []


@pytest.mark.parametrize("name, reason", [("a.avi", "ends in .mp4"), ("a", "ends in .mp4"), ("no/a.mp4", "no folder"),
                                          ("dir.mp4", "is a folder")])
def test_impossible_outputs_are_refused_before_any_frame(tmp_path, name, reason):
    (tmp_path / "dir.mp4").mkdir()
    drawn = (pytest.fail("a frame was asked for") for _ in range(1))
    with pytest.raises(VasaError) as error:
        save_video(tmp_path / name, drawn, tone())
    assert reason in one_sentence(error)


def test_no_permission(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(VasaError, match="permission denied"):
        save_video(tmp_path / "a.mp4", smooth_video(25), tone())


@pytest.mark.skipif(os.name != "posix", reason="needs a shell script")
def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    fake = tmp_path / "ffmpeg"
    fake.write_text("#!/bin/sh\nhead -c 5000 >/dev/null\n"
                    "echo '[out#0/mp4 @ 0x1] Error writing trailer: No space left on device' >&2\nexit 228\n")
    fake.chmod(0o755)
    monkeypatch.setattr(files, "ffmpeg_exe", lambda: str(fake))
    (tmp_path / "out").mkdir()
    with pytest.raises(VasaError) as error:
        save_video(tmp_path / "out" / "a.mp4", smooth_video(25, 256, 256), tone())
    assert "the disk is full" in one_sentence(error) and names(tmp_path / "out") == []


# portraits

def picture(size=(64, 48), mode="RGB"):
    width, height = size
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    values = np.stack([x, y, 0.5 * np.ones_like(x)], -1)
    return Image.fromarray((values * 255).round().astype(np.uint8)).convert(mode)


MODES = ("1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16", "PA", "RGBX")


@settings(max_examples=60, deadline=None)
@given(mode=st.sampled_from(MODES), width=st.integers(1, 90), height=st.integers(1, 90),
       size=st.sampled_from([1, 16, 33]), fill=st.integers(0, 255))
def test_any_mode_and_size(mode, width, height, size, fill):
    image = Image.new(mode, (width, height), fill if len(Image.new(mode, (1, 1)).getbands()) == 1 else None)
    if min(width, height) < 16:
        with pytest.raises(VasaError, match=f"{width} x {height} px"):
            load_portrait(image, size)
        return
    values = load_portrait(image, size)
    assert values.shape == (1, 3, size, size) and values.dtype == torch.float32
    assert 0 <= values.min() and values.max() <= 1
    assert (values - values[..., :1, :1]).abs().max() < 1e-6  # one colour stays one colour


@pytest.mark.parametrize("kind, options", [("png", {}), ("jpeg", {"quality": 95, "subsampling": 0}),
                                           ("webp", {"lossless": True}), ("tiff", {}), ("bmp", {})])
def test_the_same_picture_in_any_format(tmp_path, kind, options):
    picture().save(tmp_path / "a.bin", format=kind, **options)  # the content decides, not the name
    assert (load_portrait(tmp_path / "a.bin", 48) - load_portrait(picture(), 48)).abs().mean() < 0.01


def test_centre_square_and_orientation(tmp_path):
    whole = torch.from_numpy(np.array(picture())).permute(2, 0, 1) / 255
    assert torch.allclose(load_portrait(picture(), 48)[0], whole[:, :, 8:56], atol=1e-6)
    for orientation, turn in ((3, Image.Transpose.ROTATE_180), (6, Image.Transpose.ROTATE_90),
                              (8, Image.Transpose.ROTATE_270), (2, Image.Transpose.FLIP_LEFT_RIGHT),
                              (4, Image.Transpose.FLIP_TOP_BOTTOM), (5, Image.Transpose.TRANSPOSE),
                              (7, Image.Transpose.TRANSVERSE)):
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture().transpose(turn).save(tmp_path / "a.png", exif=exif)
        assert torch.allclose(load_portrait(tmp_path / "a.png", 48), load_portrait(picture(), 48), atol=1e-6)


def test_alpha_lies_on_mid_grey(tmp_path):
    image = picture(mode="RGBA")
    image.putalpha(0)
    assert torch.allclose(load_portrait(image, 16), torch.tensor(0.5))
    image.putalpha(51)
    expected = 0.2 * load_portrait(picture(), 48) + 0.4
    assert torch.allclose(load_portrait(image, 48), expected, atol=0.02)
    indexed = Image.new("P", (32, 32), 3)
    indexed.putpalette([200, 0, 0] * 8)
    indexed.save(tmp_path / "a.png", transparency=3)
    assert torch.allclose(load_portrait(tmp_path / "a.png", 16), torch.tensor(0.5))


def test_sixteen_bits_and_inks_keep_their_values(tmp_path):
    grey = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (64, 1))
    Image.fromarray(grey).save(tmp_path / "a.png")
    expected = torch.linspace(0, 1, 64).expand(3, 64, 64)
    assert torch.allclose(load_portrait(tmp_path / "a.png", 64)[0], expected, atol=1e-3)
    assert torch.allclose(load_portrait(Image.fromarray(grey / np.float32(65535)), 64)[0], expected, atol=1e-3)
    assert (load_portrait(picture(mode="CMYK"), 48) - load_portrait(picture(), 48)).abs().max() < 0.02


def test_draft_mode_decodes_less(tmp_path):
    large = picture((800, 600))
    large.save(tmp_path / "a.jpg", quality=90)
    with files.open_picture(tmp_path / "a.jpg", draft_size=64) as image:
        assert image.size == (100, 75)
    assert (load_portrait(tmp_path / "a.jpg", 32) - load_portrait(large, 32)).abs().max() < 0.03


@pytest.mark.parametrize("width, height", [(11_000, 10_000), (20_000, 20_000)])
def test_enormous_pictures_are_not_unpacked(tmp_path, width, height):
    picture().save(tmp_path / "a.png")
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[16:24] = struct.pack(">II", width, height)  # a small file that says it is enormous
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(VasaError) as error:
        load_portrait(tmp_path / "a.png")
    assert "megapixels" in one_sentence(error)


def broken_picture(path):
    picture((200, 200)).save(path, format="png")
    path.write_bytes(path.read_bytes()[:300])


@pytest.mark.parametrize("make, reason", [
    (lambda path: None, "no such file"), (lambda path: path.mkdir(), "is a directory"),
    (lambda path: path.touch(), "empty"),
    (lambda path: path.write_text("hello"), "no picture"), (broken_picture, "truncated"),
    (lambda path: picture((200, 5)).save(path, format="png"), "200 x 5 px"),
])
def test_bad_portraits(tmp_path, make, reason):
    make(tmp_path / "a.png")
    with pytest.raises(VasaError) as error:
        load_portrait(tmp_path / "a.png")
    assert reason in one_sentence(error) and "accepted are JPEG" in str(error.value)


def test_a_picture_of_nan_is_refused():
    with pytest.raises(VasaError, match="not finite"):
        load_portrait(Image.fromarray(np.full((20, 20), np.nan, np.float32)))


# recordings

@pytest.mark.parametrize("rate, channels, subtype", [(8_000, 1, "PCM_U8"), (16_000, 2, "PCM_16"), (22_050, 1, "PCM_24"),
                                                     (44_100, 2, "FLOAT"), (96_000, 6, "DOUBLE")])
def test_any_rate_and_channel_count(tmp_path, rate, channels, subtype):
    soundfile.write(tmp_path / "a.wav", np.repeat(tone(rate, rate)[:, None], channels, 1), rate, subtype)
    waveform = load_audio(tmp_path / "a.wav")
    assert waveform.shape == (16_000,) and waveform.dtype == torch.float32
    assert np.abs(waveform.numpy() - tone())[320:-320].max() < (0.02 if subtype == "PCM_U8" else 1e-3)


@pytest.fixture(scope="module")
def speech():
    return say("Peter Piper picked a peck of pickled peppers by the sea shore.").waveform.numpy()


@pytest.fixture
def stereo(speech, tmp_path):
    "A recording whose channels differ; their mean is 0.75 of `speech`."
    soundfile.write(tmp_path / "in.wav", np.stack([speech, 0.5 * speech], 1), 16_000)
    return tmp_path / "in.wav"


MONO = "-af pan=mono|c0=0.5*c0+0.5*c1"  # -ac 1 would be louder by 3 dB where samples are floats


def assert_same_sound(path, speech, level=1.0, alike=0.97):
    "What is heard is the speech and not only as long or as loud, up to the delay of an encoder."
    heard = load_audio(path).numpy()
    assert abs(len(heard) - len(speech)) < 1_800
    assert abs(np.sqrt(np.square(heard).sum() / np.square(level * speech).sum()) - 1) < 0.1
    size = 2 * max(len(heard), len(speech))
    # by the delay; early ones at the end
    fits = np.fft.irfft(np.fft.rfft(heard, size) * np.fft.rfft(speech, size).conj())
    assert np.roll(fits, 600)[:1_800].max() > alike * np.sqrt(np.square(heard).sum() * np.square(speech).sum())


@pytest.mark.parametrize("name, options", [
    *((f"a.{kind}", "") for kind in "m4a webm wma mp4 mkv mov avi flac ogg opus mp3 aac aiff au caf w64 ac3 ts tta "
      "wv".split()),
    *((f"{codec}.wav", f"-c:a {codec}")
      for codec in "pcm_u8 pcm_s24le pcm_s32le pcm_f32le pcm_f64le pcm_alaw adpcm_ms".split()),
    ("a.flv", "-ar 44100"), ("a.3gp", "-c:a aac"), ("large.wav", "-rf64 always"), ("floats.w64", "-c:a pcm_f32le"),
    ("floats.caf", "-c:a pcm_f64le"), ("8.m4a", "-ar 8000"), ("mono.m4a", f"-ar 48000 {MONO}"), ("mono.webm", MONO)])
def test_the_same_sound_from_any_format(tmp_path, each_ffmpeg, stereo, speech, name, options):
    ffmpeg("-i", stereo, *options.split(), tmp_path / name)
    assert_same_sound(tmp_path / name, speech, 0.75)


def test_six_channels(tmp_path, each_ffmpeg, stereo, speech):
    ffmpeg("-i", stereo, "-af", "pan=5.1|FL=c0|FC=c0|BR=c1", tmp_path / "a.m4a")
    assert_same_sound(tmp_path / "a.m4a", speech, 2.5 / 6)


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "ogg", "matroska", "webm", "au", "caf", "adts"])
def test_a_stream_is_read_to_its_end(tmp_path, each_ffmpeg, stereo, speech, kind):
    "Who writes into a pipe cannot go back and put the length into the header."
    ffmpeg("-i", stereo, "-f", kind, "pipe:", stdout=(tmp_path / "a.bin").open("wb"))
    assert_same_sound(tmp_path / "a.bin", speech, 0.75)


@pytest.mark.parametrize("length", [0, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_wav_may_be_wrong_about_its_length(tmp_path, each_ffmpeg, speech, length):
    soundfile.write(tmp_path / "a.wav", speech, 16_000)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    data[4:8] = data[40:44] = struct.pack("<I", length)
    assert data[36:40] == b"data"
    (tmp_path / "a.wav").write_bytes(data)
    assert np.abs(load_audio(tmp_path / "a.wav").numpy() - speech).max() < 1e-4


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "a.wav")
    with pytest.raises(VasaError) as error:
        load_audio(tmp_path / "a.wav")
    assert "save it as a file" in one_sentence(error)


def test_mixdown_silence_and_loudness(tmp_path):
    stereo = np.stack([tone(), -tone()], 1)
    soundfile.write(tmp_path / "a.wav", stereo, 16_000, "FLOAT")
    assert load_audio(tmp_path / "a.wav").abs().max() < 1e-7  # opposite channels cancel
    soundfile.write(tmp_path / "a.wav", tone(level=20.0), 16_000, "FLOAT")
    assert torch.allclose(load_audio(tmp_path / "a.wav"), torch.from_numpy(tone(level=1.0)), atol=1e-4)
    soundfile.write(tmp_path / "a.wav", np.zeros(1), 16_000)
    assert torch.equal(load_audio(tmp_path / "a.wav"), torch.zeros(1))


def test_what_16_khz_cannot_hold_is_removed(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(48_000, 48_000, 10_000), 48_000)
    assert load_audio(tmp_path / "a.wav")[320:-320].abs().max() < 1e-3


@pytest.mark.parametrize("rate, channels", [(8_000, 1), (44_100, 2), (96_000, 6)])
def test_blocks_are_the_whole_recording(tmp_path, rate, channels):
    samples = np.repeat(tone(rate * 5 // 2, rate)[:, None], channels, 1)
    samples[:, 0] *= 0.5                                                  # the mean of channels, not their sum
    soundfile.write(tmp_path / "a.wav", samples, rate, "FLOAT")
    blocks = list(read_sound(tmp_path / "a.wav"))
    assert [len(block) for block in blocks] == [16_000, 16_000, 8_000] and blocks[0].dtype == torch.float32
    whole = load_audio(tmp_path / "a.wav")
    assert (torch.cat(blocks) - whole)[320:-320].abs().max() < 1e-3
    odd = list(read_sound(tmp_path / "a.wav", 7_001))
    assert {len(block) for block in odd[:-1]} == {7_001} and torch.equal(torch.cat(odd), torch.cat(blocks))


def test_what_nobody_asks_for_is_not_decoded(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", np.zeros(16_000 * 600), 16_000)
    ended, run = [], files.run_ffmpeg

    @contextlib.contextmanager
    def watched(*args, **options):
        with run(*args, **options) as process:
            try: yield process
            finally: ended.append(process)
    monkeypatch.setattr(files, "run_ffmpeg", watched)
    blocks = read_sound(tmp_path / "a.wav")
    assert len(next(blocks)) == 16_000 and not ended
    blocks.close()
    assert ended[0].returncode not in (None, 0), "ffmpeg is ended in the middle of its ten minutes"


def test_blocks_are_finite_and_within_one(tmp_path):
    samples = np.array([0.5, np.nan, np.inf, -np.inf, 3.0, -0.5] * 10, np.float32)
    soundfile.write(tmp_path / "a.wav", samples, 16_000, "FLOAT", format="WAV")
    sound, = read_sound(tmp_path / "a.wav")
    assert torch.equal(sound, torch.tensor([0.5, 0, 1, -1, 1, -0.5] * 10))


def write_sound(samples):
    return lambda path: soundfile.write(path, np.asarray(samples, np.float32), 16_000, "FLOAT", format="WAV")


@pytest.mark.parametrize("make, reason", [
    (lambda path: None, "no such file"), (lambda path: path.mkdir(), "is a directory"),
    (lambda path: path.touch(), "0 bytes"),
    (lambda path: path.write_text("hello " * 50), "no sound or video file"), (write_sound([]), "no samples"),
    (write_sound([0, np.nan]), "NaN"), (write_sound([0, np.inf]), "infinite"),
    (lambda path: picture().save(path, format="png"), "is missing in it"),
])
def test_bad_recordings(tmp_path, each_ffmpeg, make, reason):
    make(tmp_path / "a.wav")
    with pytest.raises(VasaError) as error:
        load_audio(tmp_path / "a.wav")
    assert reason in one_sentence(error)
    if reason in ("NaN", "infinite"): return                            # which are silence, and a loud sample, there
    with pytest.raises(VasaError) as error:
        list(read_sound(tmp_path / "a.wav"))
    assert reason in one_sentence(error)


def test_raw_sound_and_odd_names(tmp_path):
    (tmp_path / "a.raw").write_bytes(bytes(1000))
    with pytest.raises(VasaError):
        load_audio(tmp_path / "a.raw")
    path = save_video(tmp_path / "pipe:0 %d 'x'.mp4", smooth_video(25), tone())  # a name that ffmpeg could misread
    assert 0 <= len(load_audio(path)) - 16_000 < AAC_BLOCK and len(list(read_frames(path))) == 25
    assert names(tmp_path) == ["a.raw", "pipe:0 %d 'x'.mp4"]


@pytest.mark.parametrize("make, reason", [
    (lambda path: None, "no such file"), (lambda path: path.write_text("hello " * 50), "no sound or video file"),
    (write_sound(tone()), "is missing in it"),
])
def test_bad_videos(tmp_path, make, reason):
    make(tmp_path / "a.mp4")
    with pytest.raises(VasaError) as error:
        Clip.load(tmp_path / "a.mp4")
    assert reason in one_sentence(error)


# the clip

@pytest.fixture(scope="module")
def flashes(tmp_path_factory):
    "A film of 3 s that is white from 1 s on, and a second of silence and two of noise, in tracks of their own."
    folder = tmp_path_factory.mktemp("flashes")
    frames = torch.zeros(75, 32, 32, 3, dtype=torch.uint8)
    frames[25:] = 255
    noise = 0.3 * torch.randn(48_000, generator=torch.Generator().manual_seed(0)).clamp(-3, 3)
    noise[:16_000] = 0
    return save_video(folder / "a.mp4", frames, noise)


@pytest.mark.parametrize("kind", ["mp4", "mkv", "mov"])
@pytest.mark.parametrize("offset", [-1.0, 0.0, 0.4, 1.0])
def test_tracks_that_begin_apart_stay_in_time(tmp_path, each_ffmpeg, flashes, kind, offset):
    "The sound's track is `offset` seconds late; light and noise, together in the source, are as far apart in the clip."
    path = tmp_path / f"a.{kind}"
    late = ["-itsoffset", offset, "-i", flashes, "-i", flashes, "-map", "0:a", "-map", "1:v"]
    if offset < 0: late = ["-i", flashes, "-itsoffset", -offset, "-i", flashes, "-map", "0:a", "-map", "1:v"]
    ffmpeg(*late, "-c", "copy", path)
    back = Clip.load(path)
    light = int((back.frames.float().mean((1, 2, 3)) > 128).nonzero()[0])
    sound = int((back.waveform.abs() > 0.1).nonzero()[0])
    assert sound - light * 640 == pytest.approx(offset * 16_000, abs=AAC_BLOCK + 640)
    assert abs(int((torch.cat([*read_sound(path)]).abs() > 0.1).nonzero()[0]) - sound) <= 1
    assert len(back) == 75 + 25 * (offset < 0) and light == 25 + 25 * (offset < 0)


def test_a_film_from_its_content(video):
    expected = Clip.load(video)
    with open(video, "rb") as file:
        for form in (video.read_bytes(), file):
            clip = Clip.load(form)
            assert torch.equal(clip.frames, expected.frames) and torch.equal(clip.waveform, expected.waveform)
            assert torch.equal(next(read_sound(form)), next(read_sound(video)))
    for wrong in (b"", None, 3, b"no film"):
        with pytest.raises(VasaError, match="the video"):
            Clip.load(wrong)


def test_frames_and_sound_of_any_layout_are_written(clip, tmp_path):
    flipped = clip.frames.numpy()[:, :, :, ::-1], clip.waveform.numpy()[::-1]
    plain = tuple(np.ascontiguousarray(x) for x in flipped)
    written = [Clip.load(save_video(tmp_path / f"{i}.mp4", *parts)) for i, parts in enumerate((flipped, plain))]
    assert torch.equal(written[0].frames, written[1].frames) and torch.equal(written[0].waveform, written[1].waveform)
    assert psnr(written[0].frames, torch.from_numpy(plain[0])) > 34
    assert np.array_equal(np.asarray(show_frames(flipped[0])), np.asarray(show_frames(plain[0])))


def test_the_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    picture().save(tmp_path / "p.png")
    soundfile.write(tmp_path / "s.wav", tone(), 16_000)
    assert torch.equal(load_portrait("~/p.png", 48), load_portrait(tmp_path / "p.png", 48))
    assert torch.equal(load_audio("~/s.wav"), load_audio(tmp_path / "s.wav"))


def test_a_film_is_written_into_the_home_folder(clip, tmp_path, monkeypatch):
    home, here = tmp_path / "own", tmp_path / "here"
    home.mkdir(), here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    assert clip.save("~/a.mp4") == home / "a.mp4"
    clip.save(home / "b.mp4")
    assert torch.equal(Clip.load("~/a.mp4").frames, Clip.load(home / "b.mp4").frames)
    assert names(home) == ["a.mp4", "b.mp4"] and names(here) == []
    with pytest.raises(VasaError, match="there is no folder '.*none'"):
        clip.save("~/none/a.mp4")


def test_a_film_is_not_written_over_a_link_to_itself(clip, tmp_path):
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    with pytest.raises(VasaError, match=r"loop.mp4 is a symbolic link that leads back to itself: remove it, or choose"):
        clip.save(tmp_path / "loop.mp4")
    assert names(tmp_path) == ["loop.mp4"] and os.readlink(tmp_path / "loop.mp4") == "loop.mp4"


def test_an_output_that_is_a_link_or_read_only(clip, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link.mp4").symlink_to(tmp_path / "real" / "film.bin")
    clip.save(tmp_path / "link.mp4")
    assert (tmp_path / "link.mp4").is_symlink() and len(Clip.load(tmp_path / "real" / "film.bin")) == len(clip)
    (tmp_path / "real" / "film.bin").chmod(0o444)
    drawn = (pytest.fail("a frame was asked for") for _ in range(1))
    with pytest.raises(VasaError, match="read-only"):
        save_video(tmp_path / "link.mp4", drawn, tone())
    assert len(Clip.load(tmp_path / "link.mp4")) == len(clip) and names(tmp_path / "real") == ["film.bin"]


def test_a_clip_is_consistent(clip):
    assert len(clip) == 13 and repr(clip) == "Clip(13 frames, 64 x 48 px, 0.51 s)"
    with pytest.raises(ValueError, match="do not fit"):
        Clip(clip.frames[1:], clip.waveform)
    blind = Clip(None, clip.waveform)
    assert len(blind) == 13 and "not rendered" in repr(blind) and "not rendered" in blind._repr_html_()
    for use in (blind.contact_sheet, lambda: blind.save("a.mp4")):
        with pytest.raises(ValueError, match="no frames"):
            use()


def test_views(clip):
    assert clip.contact_sheet(6, columns=3).size == (3 * 64, 2 * 48)
    first = np.asarray(clip.contact_sheet(2))[:, :64]
    assert np.array_equal(first, clip.frames[0].numpy())
    images = clip.frames[:5].permute(0, 3, 1, 2) / 255
    assert show_frames(images, 4).size == (4 * 64, 2 * 48)
    assert np.array_equal(np.asarray(show_frames(images, 4)), np.asarray(show_frames(clip.frames[:5], 4)))
    with pytest.raises(ValueError):
        show_frames(images[0])
    html = clip._repr_html_()
    assert html.startswith("<video") and "data:video/mp4;base64," in html and len(html) < 60_000


# clips from seeds

def test_streams_of_draws_are_independent():
    state = draw(3, "rate").get_state()
    assert torch.equal(state, draw(3, "rate").get_state())
    for other in (draw(4, "rate"), draw(3, "pitch"), draw(3, "rate", held_out=True)):
        assert not torch.equal(state, other.get_state())


def test_plans_cover_the_world_and_stay_in_range():
    plans = [plan_clip(seed) for seed in range(600)]
    assert {plan.language for plan in plans} == set(TRAINING_LANGUAGES)
    assert 0.4 < np.mean([plan.language == "en" for plan in plans]) < 0.6
    gaze = np.rad2deg([plan.gaze for plan in plans])
    assert 18 < np.abs(gaze[:, 0]).max() <= 20 and 11 < np.abs(gaze[:, 1]).max() <= 12
    assert 0.85 <= min(plan.distance for plan in plans) and max(plan.distance for plan in plans) <= 1.25
    assert all((plan.emotion_strength == 0) == (plan.emotion == "neutral") for plan in plans)
    assert plan_clip(5, language="de") == dataclasses.replace(
        plan_clip(5), language="de", text=plan_clip(5, language="de").text)  # nothing else changes


def test_the_held_out_half_shares_nothing():
    plans, held_out = ([plan_clip(seed, held_out=half) for seed in range(400)] for half in (False, True))
    assert {plan.voice for plan in held_out} == {name for name, voice in VOICES.items() if voice.held_out}
    assert {plan.voice for plan in plans} == {name for name, voice in VOICES.items() if not voice.held_out}
    assert not {plan.text for plan in plans} & {plan.text for plan in held_out}


@pytest.mark.parametrize("seconds", [0.04, 1.0, 9.0])
def test_exact_lengths(seconds):
    speech = speak(plan_clip(2), seconds)
    assert len(speech.waveform) == round(seconds * 25) * 640 == speech.ends[-1]
    assert len(speech.phonemes) == len(speech.starts) == len(speech.ends)


def test_bad_lengths_and_languages():
    with pytest.raises(VasaError, match="seconds"):
        speak(plan_clip(1), 0.0)
    with pytest.raises(VasaError, match="language"):
        plan_clip(1, language="tlh")


def test_what_is_said_is_what_was_planned():
    plan = plan_clip(6, held_out=True)
    speech = speak(plan)
    assert (speech.text, speech.voice, speech.language) == (plan.text, plan.voice, plan.language)
    assert torch.equal(speech.waveform, speak(plan).waveform)


def test_metadata_that_cannot_be_read_does_not_veto_a_picture(tmp_path):
    """A resolution of -1 / 0 as a signed rational, beside the note of how the camera was held."""
    entries = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack(">HHII", 0x011A, 10, 1, 8 + 2 + 2 * 12 + 4)
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x02" + entries + b"\0\0\0\0" + struct.pack(">ii", -1, 0)
    picture().transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.jpg", quality=95, exif=exif)
    assert (load_portrait(tmp_path / "a.jpg", 48) - load_portrait(picture(), 48)).abs().mean() < 0.02


FAR = b"Exif\0\0MM\0*" + struct.pack(">I", 90_000)                       # entries behind the end of the file
CUT = b"Exif\0\0MM\0*" + struct.pack(">IHHHII", 8, 9, 0x0112, 3, 1, 0)    # nine entries are announced, one is there


@pytest.mark.parametrize("ending", ["png", "webp", "jpg"])
@pytest.mark.parametrize("exif", [b"garbage", b"Exif\0\0garbage", FAR, CUT], ids=["garbage", "marked", "far", "cut"])
def test_metadata_that_are_none_leave_a_picture_as_it_is(tmp_path, recwarn, ending, exif):
    path = tmp_path / f"a.{ending}"
    picture().save(path, exif=exif, **{"jpg": {"quality": 95}, "webp": {"lossless": True}}.get(ending, {}))
    recwarn.clear()
    wanted = load_portrait(picture(), 48)
    for source in (path, path.read_bytes()):
        assert (load_portrait(source, 48) - wanted).abs().mean() < (0.02 if ending == "jpg" else 1e-6)
    assert files.kind_of(path.read_bytes(), "it") == "picture"
    assert not [str(warning.message) for warning in recwarn]


def test_a_colon_in_a_folder_is_no_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("take:2").mkdir()
    save_video("take:2/a.mp4", torch.full((25, 32, 32, 3), 90, dtype=torch.uint8), 0.1 * torch.ones(16_000))
    assert len(Clip.load("take:2/a.mp4")) == 25 and load_audio("take:2/a.mp4").abs().max() > 0.01
