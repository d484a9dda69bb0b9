"""Pieces become clips: consent, sound in time, sharp pictures, a ledger; and clips that training takes."""
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import c2pa
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vasa_ref.app import cli
from vasa_ref.dynamics import to_z_dyn
from vasa_ref.errors import VasaError
from vasa_ref.footage import clips, films
from vasa_ref.footage.clips import (
    CONSENT,
    Footage,
    Reading,
    film_offset,
    film_sound,
    fit_at,
    make_clips,
    open_clips,
    read_consent,
    sharpness,
    sound_of,
)
from vasa_ref.footage.films import Film, Seen
from vasa_ref.hearing.spectra import Wav2Vec2, Wav2Vec2Config
from vasa_ref.measure.lipsync import load_judges
from vasa_ref.media.clips import Clip, read_film, save_video, write_pictures
from vasa_ref.motion.latents import encode_clip
from vasa_ref.motion.network import load_motion
from vasa_ref.motion.training import train_motion
from vasa_ref.store import save_weights
from vasa_ref.trust.credentials import Made, digest, inspect
from vasa_ref.units import EMOTIONS, FRAME
from vasa_ref.world.clips import make_clip
from vasa_ref.world.clips import make_clips as world_clips

SAID = "people: nobody\nagreed: drawn people\nknown: by seed\nresponsible: me, here\ndate: 2026-11-27\n"
SECONDS, SIZE = 2.4, 64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def talks():
    return [make_clip(seed, seconds=SECONDS, held_out=True, language="en", render_frames=False) for seed in range(3)]


@pytest.fixture(scope="module")
def judges():
    return load_judges()


def noised(units):
    """As exact as a reading."""
    return (units + 0.12 * torch.randn(units.shape, generator=seeded(9))).clamp(0, 1)


def picture(seed):
    """A sharp picture of its own colours."""
    g = seeded(seed)
    grey = torch.rand(SIZE // 4, SIZE // 4, generator=g).repeat_interleave(4, 0).repeat_interleave(4, 1)
    return (grey[..., None] * 200 * torch.rand(3, generator=g)).byte()


@dataclass
class TrueReaders:
    """Reads the truth of talks: which one, the colours say."""
    talks: list
    judges: object
    read_films: list = field(default_factory=list)
    stop_at: int = 10 ** 6

    def read(self, crops, poses=None):
        if len(self.read_films) >= self.stop_at: raise KeyboardInterrupt
        mean = crops[0].float().mean((0, 1))
        which = min(range(len(self.talks)), key=lambda i: (picture(i).float().mean((0, 1)) - mean).norm())
        self.read_films.append(which)
        m, n = self.talks[which].truth.motion, len(crops)
        return Reading(poses, m.units[:n], m.gaze[:n], m.body[:n], m.main_gaze, m.emotion)

    def curve(self, units, sound):
        return self.judges.sync_curve(noised(units), sound)


@pytest.fixture
def readers(talks, judges):
    return TrueReaders(talks, judges)


def tracker():
    return lambda frame: [Seen(SIZE / 2, SIZE / 2, SIZE / 2)] if frame.std() > 5 else []


def save(path, talks, order=(0,), late=0, voices=None):
    frames = [picture(i) for i in order for _ in range(round(25 * SECONDS))]
    sound = torch.cat([talks[i].waveform for i in voices or order])
    return save_video(path, frames, torch.roll(sound, late * FRAME), crf=8)


@pytest.fixture
def folder(tmp_path, talks):
    where = tmp_path / "films"
    where.mkdir()
    (where / CONSENT).write_text(SAID)
    return where


def make(folder, readers, **options):
    return make_clips(folder, folder.parent / "clips", size=SIZE, make_tracker=tracker, readers=readers, quiet=True,
                      **options)


# ---- consent

def test_a_template_is_written_and_nothing_happens_until_it_is_filled_in(tmp_path):
    with pytest.raises(VasaError, match="was written"): read_consent(tmp_path)
    template = (tmp_path / CONSENT).read_text()
    for _ in range(2):
        with pytest.raises(VasaError, match="not filled in: people, agreed, known, responsible, date"):
            read_consent(tmp_path)
    assert (tmp_path / CONSENT).read_text() == template
    (tmp_path / CONSENT).write_text(SAID.replace("known: by seed", "known:"))
    with pytest.raises(VasaError, match="not filled in: known must"): read_consent(tmp_path)
    (tmp_path / CONSENT).write_text(SAID.replace("2026-11-27", "yesterday"))
    with pytest.raises(VasaError, match="'yesterday' is none, accepted is 2026-11-27"): read_consent(tmp_path)
    (tmp_path / CONSENT).write_text("# a comment: with a colon\n" + SAID)
    assert read_consent(tmp_path)["responsible"] == "me, here"


def test_no_film_is_read_without_consent(folder, talks, readers, monkeypatch):
    save(folder / "a.mp4", talks)
    (folder / CONSENT).unlink()
    monkeypatch.setattr(clips, "scan", lambda *args: pytest.fail("a film was read"))
    with pytest.raises(VasaError, match="was written"): make(folder, readers)
    with pytest.raises(VasaError, match="not filled in"): make(folder, readers)
    assert not (folder.parent / "clips").exists()


# ---- sound

def test_sound_is_cut_late_or_early_and_filled_with_silence():
    ramp = np.arange(1, 10 * FRAME + 1, dtype=np.float32)
    assert sound_of(ramp, 2, 4, 1)[0] == 3 * FRAME + 1 and sound_of(ramp, 2, 4, -1)[0] == FRAME + 1
    early = sound_of(ramp, 0, 3, -2)
    assert not early[:2 * FRAME].any() and early[2 * FRAME] == 1 and len(early) == 3 * FRAME
    assert not sound_of(ramp, 0, 2, -5).any() and not sound_of(ramp, 20, 22).any()
    assert len(sound_of(ramp, 20, 22)) == len(sound_of(ramp, 0, 2, -5)) == 2 * FRAME


@pytest.mark.parametrize("late", [-3, -1, 0, 3])
def test_the_offset_of_a_film_is_found(talks, judges, late):
    curves = [judges.sync_curve(noised(t.truth.motion.units), torch.roll(t.waveform, late * FRAME)) for t in talks]
    found, sure = film_offset(curves, [60] * 3)
    assert found == late and sure > clips.SURE and all(fit_at(curve, late) > clips.FIT for curve in curves)


def test_a_voice_of_another_fits_nowhere(talks, judges):
    pairs = zip(talks, talks[1:] + talks[:1])
    curves = [judges.sync_curve(noised(t.truth.motion.units), other.waveform) for t, other in pairs]
    assert film_offset(curves, [60] * 3)[1] < clips.SURE


def test_longer_clips_weigh_more():
    k = torch.arange(-15, 16.)
    at = lambda o: 1.3 - 0.4 * torch.exp(-(k - o) ** 2)
    assert film_offset([at(2), at(7)], [250, 50])[0] == 2 and film_offset([at(2), at(7)], [50, 250])[0] == 7


def test_a_film_without_sound_is_said_to_be(folder, talks):
    write_pictures(folder / "mute.mp4", [picture(0).numpy()] * 60, 25, {"vcodec": "libx264"}, "", "")
    film = Film(folder / "mute.mp4", "mute", "", folder / "mute.mp4")
    with pytest.raises(VasaError, match="cannot read the sound .*mute.mp4.*is missing in it; accepted is any audio"):
        film_sound(film, folder)


def test_a_full_disk_is_said_to_be(folder, monkeypatch):
    def endless(path):
        while True: yield torch.zeros(1 << 20)
    monkeypatch.setattr(clips, "read_sound", endless)
    (folder / "sound.f32").symlink_to("/dev/full")
    with pytest.raises(VasaError, match="cannot keep the sound of .*a.mp4.*; free some space"):
        film_sound(Film(folder / "a.mp4", "a", "", folder / "a.mp4"), folder)


def test_sound_of_any_rate_comes_out_at_16_khz_and_stays_on_disk(folder):
    import soundfile
    tone = np.sin(2 * np.pi * 440 * np.arange(44100) / 44100)
    soundfile.write(folder / "tone.wav", np.stack([tone, tone], 1) * 0.5, 44100)
    sound = film_sound(Film(folder / "none.mp4", "none", "", folder / "tone.wav"), folder)
    assert isinstance(sound, np.memmap) and abs(len(sound) - 16000) < 50
    peak = np.abs(np.fft.rfft(sound[:16000])).argmax()
    assert abs(peak - 440) <= 1 and 0.4 < np.abs(sound).max() < 0.6


# ---- sharpness

def test_blur_lowers_sharpness_and_light_does_not():
    sharp = F.interpolate(torch.rand(1, 3, 32, 32, generator=seeded()), (128, 128), mode="nearest")
    blurred = F.avg_pool2d(F.pad(sharp, (8,) * 4, mode="replicate"), 17, 1)
    frames = lambda x: (x * 255).byte().permute(0, 2, 3, 1)
    pose = torch.tensor([[0, 0, 0, 0, 0, 1.0]])
    assert sharpness(frames(sharp), pose) > clips.SHARP > sharpness(frames(blurred), pose)
    assert abs(sharpness(frames(sharp), pose) - sharpness(frames(0.5 * sharp + 0.2), pose)) < 0.02


# ---- whole films

def test_late_sound_is_mended_and_the_clip_is_whole(folder, talks, readers):
    save(folder / "talk.mp4", talks, (0, 1, 2), late=3)
    page, = make(folder, readers)
    assert page["late"] == 3 and page["clips"] == ["talk_000000", "talk_000060", "talk_000120"] and not page["lost"]
    out = folder.parent / "clips"
    frames, sound = read_film(out / "talk_000060.mp4")
    assert frames.shape == (60, SIZE, SIZE, 3)
    assert (frames.float() - picture(1)).abs().mean() < 12 < (frames.float() - picture(2)).abs().mean()
    kept = list(open_clips(out))
    for clip, talk in zip(kept, talks):
        assert len(clip) == 60 and (clip.waveform - talk.waveform)[:50 * FRAME].abs().mean() < 0.01
        assert torch.equal(clip.truth.motion.units, talk.truth.motion.units)
        assert torch.allclose(clip.truth.motion.pose, torch.tensor([0, 0, 0, 0, 0, 1.0]), atol=1e-5)
    assert (sound - kept[1].waveform).abs().mean() < 0.02
    assert "drawn people" in (out / f"films-{CONSENT}").read_text() and not list(out.glob(".work*"))


def test_a_clip_says_from_which_film_it_was_cut_and_a_made_film_stays_made(folder, talks, readers):
    save(folder / "bare.mp4", talks, (0,))
    save(folder / "made.mp4", talks, (1,))
    save(folder / "spoilt.mp4", talks, (2,))
    for name in ("made", "spoilt"): Made().sign(folder / f"{name}.mp4")
    film = bytearray((folder / "spoilt.mp4").read_bytes())
    film[film.rindex(b"mdat") + 40] ^= 1
    (folder / "spoilt.mp4").write_bytes(film)
    assert [inspect(folder / f"{name}.mp4").state for name in ("bare", "made", "spoilt")] == [
        "absent", "intact", "altered"]
    assert all(page["clips"] for page in make(folder, readers))
    kinds = {"bare": None, "made": "trainedAlgorithmicMedia", "spoilt": None}
    for name, kind in kinds.items():
        clip = folder.parent / "clips" / f"{name}_000000.mp4"
        report = inspect(clip)
        assert (report.state, report.known, report.source) == ("intact", True, kind)
        assert report.facts == {"film": f"sha256:{digest(folder / f'{name}.mp4')}", "consent": "drawn people"}
        store = json.loads(c2pa.Reader(str(clip)).json())
        manifest = store["manifests"][store["active_manifest"]]
        assert [(x["title"], x["relationship"]) for x in manifest["ingredients"]] == [(f"{name}.mp4", "parentOf")]
        actions, = (x["data"]["actions"] for x in manifest["assertions"] if x["label"].startswith("c2pa.actions"))
        assert [x["action"] for x in actions] == ["c2pa.opened", "c2pa.trimmed", "c2pa.cropped"]
        assert manifest["title"] == clip.name


def test_a_key_that_cannot_sign_ends_it_before_a_film_is_read(folder, talks, readers, monkeypatch, tmp_path):
    save(folder / "a.mp4", talks)
    (tmp_path / "key.pem").write_text("no key")
    monkeypatch.setenv("VASA_HOME", str(tmp_path))
    with pytest.raises(VasaError, match="key.pem.* holds no private key"): make(folder, readers)
    assert not readers.read_films


def test_voices_of_others_and_films_of_no_use_are_left_out_with_a_reason(folder, talks, readers):
    save(folder / "dubbed.mp4", talks, (0, 1, 2), voices=(1, 2, 0))
    save(folder / "good.mp4", talks, (2,))
    save_video(folder / "wall.mp4", torch.full((60, SIZE, SIZE, 3), 90, dtype=torch.uint8), torch.zeros(60 * FRAME))
    write_pictures(folder / "mute.mp4", [picture(0).numpy()] * 60, 25, {"vcodec": "libx264"}, "", "")
    (folder / "broken.mp4").write_bytes(b"nothing" * 99)
    pages = {page["film"]: page for page in make(folder, readers)}
    assert [len(pages[name]["clips"]) for name in ("dubbed", "good", "wall", "mute", "broken")] == [0, 1, 0, 0, 0]
    assert {piece["why"] for piece in pages["dubbed"]["lost"]} == {"not the voice of this face"}
    assert pages["wall"]["problem"] == "no face was found" and "is missing in it" in pages["mute"]["problem"]
    assert "it is no sound or video file" in pages["broken"]["problem"]
    (folder / "good.mp4").unlink()
    with pytest.raises(VasaError, match="no clip came out of 4 films: not the voice of this face: 3 pieces") as error:
        make(folder, readers)
    assert "\n" not in str(error.value) and "wall: no face was found" in str(error.value)


def test_an_interrupted_run_goes_on_where_it_stopped(folder, talks, readers):
    for i in range(3): save(folder / f"{i}.mp4", talks, (i,))
    readers.stop_at = 1
    with pytest.raises(KeyboardInterrupt): make(folder, readers)
    out = folder.parent / "clips"
    assert sorted(path.name for path in (out / "ledger").iterdir()) == ["0.json"] and not list(out.glob(".work*"))
    readers.stop_at = 10 ** 6
    assert [page["clips"] for page in make(folder, readers)] == [["0_000000"], ["1_000000"], ["2_000000"]]
    assert readers.read_films == [0, 1, 2], "the first film was not read again"
    make(folder, readers)
    assert readers.read_films == [0, 1, 2]


def test_a_film_that_changed_is_read_again_and_its_old_clips_go(folder, talks, readers):
    save(folder / "a.mp4", talks, (0, 1))
    save(folder / "a_b.mp4", talks, (2,))
    make(folder, readers)
    save(folder / "a.mp4", talks, (1,))
    os.utime(folder / "a.mp4", (1, 1))
    make(folder, readers)
    out = folder.parent / "clips"
    assert sorted(path.name for path in out.glob("*.mp4")) == ["a_000000.mp4", "a_b_000000.mp4"]
    assert readers.read_films == [0, 1, 2, 1]
    (out / "ledger" / "a_b.json").write_text("{ not json")
    make(folder, readers)
    assert readers.read_films == [0, 1, 2, 1, 2]


def test_clips_do_not_go_where_films_are(folder, talks, readers):
    save(folder / "a.mp4", talks)
    for out in (folder, folder / "clips"):
        with pytest.raises(VasaError, match="choose a folder outside of it"):
            make_clips(folder, out, make_tracker=tracker, readers=readers, quiet=True)
    assert sorted(path.name for path in folder.iterdir()) == [CONSENT, "a.mp4"]


# ---- what was read

def test_emotions_are_told_by_the_mean_face():
    g = seeded()
    faces = torch.rand(len(EMOTIONS), 52, generator=g)
    instrument = SimpleNamespace(emotion_faces=faces, emotion_std=torch.full((52,), 0.1))
    readers = clips.Readers(None, None, instrument)
    assert not readers.emotion(faces[:1].expand(9, -1)).any()
    assert torch.allclose(readers.emotion(faces[3:4].expand(9, -1)), F.one_hot(torch.tensor(3), 7).float())
    part = readers.emotion((0.3 * faces[0] + 0.7 * faces[2])[None].expand(9, -1))
    assert part.argmax() == 2 and abs(float(part[2]) - 0.7) < 1e-4


def test_the_shipped_networks_read_a_person_of_the_world():
    talk = make_clip(5, size=128, seconds=0.4, held_out=True)
    truth, readers = talk.truth.motion, clips.Readers.from_pretrained()
    reading = readers.read(talk.frames, truth.pose)
    assert torch.allclose(reading.pose, clips.smooth_pose(truth.pose), atol=1e-4)
    assert (reading.gaze - truth.gaze).abs().mean().rad2deg() < 10
    assert (reading.main_gaze - truth.main_gaze).abs().max().rad2deg() < 15
    assert (readers.read(talk.frames).pose - truth.pose)[:, :3].abs().mean().rad2deg() < 10
    assert reading.emotion.shape == (7,) and reading.units.shape == (10, 52)


# ---- training

@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A folder with a tiny audio encoder, and the world's clips beside it."""
    where = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    encoder = Wav2Vec2(Wav2Vec2Config.tiny())
    save_weights(where / "audio.safetensors", encoder, encoder.config)
    world_clips(range(2), seconds=0.8, render_frames=False, folder=where / "world", workers=1, quiet=True)
    return where


def footage(talks, repeat=1):
    for talk in talks * repeat:
        m = talk.truth.motion
        read = Reading(m.pose, m.units + 0.01, m.gaze, m.body, m.main_gaze, m.emotion)
        yield Clip(None, talk.waveform, truth=Footage(read))


def test_a_reading_stands_where_the_truth_stands(talks, tiny):
    torch.manual_seed(0)
    latents = encode_clip(next(footage(talks)), Wav2Vec2(Wav2Vec2Config.tiny()).eval())
    m = talks[0].truth.motion
    assert torch.allclose(latents.motion, torch.cat([m.pose, to_z_dyn(m.units + 0.01, m.gaze, m.body)], 1))
    assert torch.equal(latents.conditions["gaze"][0], m.main_gaze)
    assert torch.allclose(latents.conditions["distance"], m.pose[:, 5].mean())
    assert torch.equal(latents.conditions["emotion"][0], m.emotion)


def test_motion_learns_from_footage_and_keeps_the_statistics(talks, tiny, tmp_path):
    options = dict(data=tiny / "world", audio=tiny, quiet=True)
    begun = train_motion("tiny", max_steps=1, out=tmp_path / "begun", **options)
    went = train_motion("tiny", footage=footage(talks), start=tmp_path / "begun", max_steps=4, out=tmp_path / "went",
                        **options)
    state, before = load_motion(tmp_path / "went").state_dict(), begun.state_dict()
    statistics = [name for name in before if name.endswith(("_mean", "_std"))]
    assert statistics and all(torch.allclose(state[name], before[name].half().float()) for name in statistics)
    moved = [name for name in before if not torch.allclose(state[name], before[name].half().float())]
    assert moved and all(value.isfinite().all() for value in went.state_dict().values())


def test_footage_is_half_of_what_is_learned_from(talks, tiny, monkeypatch):
    from vasa_ref.motion import training
    torch.manual_seed(0)
    encoder, run = Wav2Vec2(Wav2Vec2Config.tiny()).eval(), training.Run(max_steps=1, quiet=True)
    world_clips(range(6), seconds=0.8, render_frames=False, folder=tiny / "six", workers=1, quiet=True)
    latents = training.clip_latents(encoder, run, "tiny", None, tiny / "six", None, footage(talks), 1)
    assert latents.lengths.tolist() == [20] * 6 + [60] * 6


# ---- the command

def call(capsys, *words):
    code = cli.main(list(map(str, words)))
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command_stops_with_one_line(folder, talks, capsys, monkeypatch):
    code, out, err = call(capsys, "clips", folder / "none", "-o", folder.parent / "clips")
    assert (code, out, err.count("\n")) == (2, "", 1) and "no folder" in err
    save(folder / "a.mp4", talks)
    (folder / CONSENT).unlink()
    code, out, err = call(capsys, "clips", folder, "-o", folder.parent / "clips")
    assert (code, out, err.count("\n")) == (2, "", 1) and "CONSENT.txt was written" in err
    (folder / CONSENT).write_text(SAID)
    monkeypatch.setattr(films, "mediapipe_solutions", lambda: None)
    code, out, err = call(capsys, "clips", folder, "-o", folder.parent / "clips")
    assert (code, out, err.count("\n")) == (2, "", 1) and "pip install 'vasa_ref[photo]'" in err
    assert call(capsys, "clips", folder, "-o", folder.parent / "clips", "--size", "65")[2].startswith("vasa: --size 65")


def test_the_command_says_what_came_out(folder, talks, readers, capsys, monkeypatch):
    save(folder / "a.mp4", talks, (0, 1))
    save(folder / "b.mp4", talks, (0, 1), voices=(1, 0))
    made = lambda *args, **options: make_clips(*args, **{**options, "make_tracker": tracker, "readers": readers})
    monkeypatch.setattr(clips, "make_clips", made)
    code, out, err = call(capsys, "clips", folder, "-o", folder.parent / "clips", "--size", SIZE, "--quiet")
    assert (code, out, err) == (0, "", "")
    code, out, _ = call(capsys, "clips", folder, "-o", folder.parent / "clips", "--size", SIZE)
    assert code == 0 and "2 clips, 0.1 of 0.2 minutes, from 2 films" in out
    assert "lost: not the voice of this face: 2 pieces, 5 s" in out
    page = json.loads((folder.parent / "clips/ledger/a.json").read_text())
    assert page["made_with"]["size"] == SIZE and Path(page["made_with"]["weights"]).name == "laptop"


def test_only_motion_learns_from_clips(folder, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for part in ("face", "all"):
        code, out, err = call(capsys, "train", part, "--clips", folder)
        assert (code, err.count("\n")) == (2, 1) and f"--clips is for motion, not for {part}" in err
    code, out, err = call(capsys, "train", "motion", "--clips", folder)
    assert code == 2 and err == f"vasa: no clips in {folder}: expected a folder that `vasa clips` wrote\n"
    assert not (tmp_path / "runs").exists()
