"""The detector: AUCs by counting, scores that are sums of places, made faces found among people it has never seen, and
`vasa detect` on whatever it is given."""
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vasa_ref.app import cli, detection
from vasa_ref.media.clips import save_video
from vasa_ref.talking.offline import Reenactor
from vasa_ref.trust import detector
from vasa_ref.trust.detector import (
    Detector,
    DetectorConfig,
    Verdict,
    auc,
    auc_interval,
    detect,
    detect_lips,
    lip_score,
    load_detector,
    residual,
    to_size,
)
from vasa_ref.units import SAMPLE_RATE
from vasa_ref.world.clips import make_clip
from vasa_ref.world.picture import portraits

torch.set_num_threads(1)


@pytest.fixture
def vasa(capsys):
    def run(*argv):
        capsys.readouterr()
        try: code = cli.main([str(a) for a in argv])
        except SystemExit as stop: code = stop.code
        return code, *capsys.readouterr()
    return run


@pytest.fixture(scope="module")
def face():
    from vasa_ref.face.detail import load_face
    return Reenactor(load_face("laptop"))


def turned_twins(face, people, seed):
    """Held-out people: rendered, and the same turned a little by the face model, uint8 (N, 256, 256, 3) each."""
    from vasa_ref.world.people import random_people
    people = random_people(people, torch.Generator().manual_seed(seed), held_out=True)
    true = (portraits(people, 256) * 255).round().byte().movedim(1, -1)
    made = []
    for frame in true:
        motion = face.read(frame[None]).clone()
        motion[:, 0] += 0.12
        made.append(next(iter(face.decode(face.encode(frame.numpy()), motion)))[0])
    return true, torch.stack(made)


@pytest.fixture(scope="module")
def twins(face): return turned_twins(face, 8, 77)


@pytest.fixture(scope="module")
def many_twins(face):
    "72 pairs: of enough people to tell."
    return tuple(torch.cat(frames) for frames in zip(*(turned_twins(face, 24, seed) for seed in (77, 78, 79))))


def scores(frames): return torch.tensor([detect([frame]).score for frame in frames])


# ---- the arithmetic

def test_auc_counts_pairs_and_halves_ties():
    generator = torch.Generator().manual_seed(0)
    made, true = torch.randint(9, (2, 50), generator=generator).float()
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in made.tolist() for b in true.tolist()]
    assert auc(made, true) == pytest.approx(sum(pairs) / len(pairs))
    assert auc(made, true) == pytest.approx(1 - auc(true, made))
    assert auc(2 * made.exp(), 2 * true.exp()) == pytest.approx(auc(made, true)), "only the order counts"


def test_the_interval_covers_the_true_auc_nineteen_times_in_twenty():
    generator, exact, inside = torch.Generator().manual_seed(1), 0.5 * (1 + torch.erf(torch.tensor(0.5)).item()), 0
    for trial in range(100):
        made, true = torch.randn(40, generator=generator) + 1, torch.randn(40, generator=generator)
        low, high = auc_interval(made, true, draws=200, seed=trial)
        inside += low <= exact <= high
    assert 86 <= inside <= 99
    assert auc_interval(torch.ones(5) + 1, torch.ones(5)) == (1.0, 1.0)


def test_rows_are_drawn_whole():
    g = torch.Generator().manual_seed(0)
    made, true = torch.randn(2, 30, generator=g)
    again = [x[:, None].expand(-1, 4) for x in (made + 1, true)]
    assert auc_interval(*again) == auc_interval(made + 1, true), "the same four times is no more than once"
    low, high = auc_interval(*(x.flatten() for x in again))
    wide = auc_interval(*again)
    assert high - low < 0.7 * (wide[1] - wide[0]), "as if they were independent"


def test_scores_of_people_that_are_stored_give_the_figures_that_are_stored():
    figures = json.loads((Path(__file__).parents[1] / "nbs/results/detector.json").read_text())
    for damage, row in figures["pairs"]["shipped"].items():
        made, true = (torch.tensor(figures["frame scores"][name][damage]) for name in ("shipped", "true"))
        assert made.shape == true.shape == (figures["people"], 3)
        assert abs(auc(made.flatten(), true.flatten()) - row["frame"]) < 1e-3
        assert abs(auc(made.mean(1), true.mean(1)) - row["person"]) < 1e-3
    persons = torch.tensor([score for scores in figures["threshold set on"].values() for score in scores])
    assert len(persons) == 2 * figures["people"] and abs(float(persons.quantile(0.95)) - figures["threshold"]) < 2e-3


def test_the_residual_sees_fine_structure_only():
    assert residual(torch.full((1, 3, 9, 9), 0.3)).abs().max() < 1e-5
    ramp = torch.linspace(0, 1, 32).expand(1, 3, 32, 32)
    assert residual(ramp)[..., 1:-1].abs().max() < 1e-4
    chess = (torch.arange(32)[:, None] + torch.arange(32)) % 2 * 1.0
    assert residual(chess.expand(1, 3, 32, 32)).abs().min() > 2


def test_a_score_is_the_mean_of_its_places():
    torch.manual_seed(0)
    net, images = Detector(DetectorConfig(widths=(4, 8))), torch.rand(2, 3, 64, 48)
    places = net.places(images)
    assert places.shape == (2, 16, 12) and torch.allclose(places.mean((1, 2)), net(images), atol=1e-6)


def test_frames_of_any_size_become_centre_squares():
    frame = torch.zeros(1, 40, 100, 3, dtype=torch.uint8)
    frame[:, :, 30:70] = 255
    assert to_size(frame, 16).shape == (1, 3, 16, 16) and to_size(frame, 16).min() > 0.99
    assert torch.equal(to_size(frame[:, :, 30:70], 40), torch.ones(1, 3, 40, 40))


def test_lips_are_scored_at_no_shift_and_one_frame_beside():
    flat, dip = torch.ones(21), torch.ones(21)
    dip[10] = 0.4
    assert lip_score(flat) == 0 and lip_score(dip) == pytest.approx(-0.6)
    assert lip_score(dip.roll(1)) == lip_score(dip.roll(-1)) == pytest.approx(-0.6)
    assert lip_score(dip.roll(2)) == lip_score(dip.roll(-7)) == 0
    assert detect_lips(flat).made and not detect_lips(dip).made


# ---- the shipped weights

def test_weights_are_small_and_have_both_thresholds():
    path = detector.PRETRAINED / "laptop" / "detector.safetensors"
    assert path.stat().st_size < 0.7e6
    net, thresholds = load_detector()
    assert set(thresholds) == {"frames", "lips"} and not any(p.requires_grad for p in net.parameters())


def test_made_faces_score_higher_than_their_true_twins(many_twins):
    true, made = map(scores, many_twins)
    assert (made > true).sum() >= 63 and auc(made, true) > 0.8, "seven of eight"


def test_it_does_not_read_the_watermark(many_twins):
    from vasa_ref.trust.watermark import mark_frames
    marked = scores(torch.stack(list(mark_frames(many_twins[0], 0x5EED1234))))
    true, made = map(scores, many_twins)
    assert (marked - true).abs().mean() < 0.1 * (made - true).mean()
    assert (made > marked).sum() >= 63, "a mark does not make a true picture look made"


def test_a_film_is_judged_by_the_mean_of_every_fifth_frame(twins):
    frames = torch.cat(twins)
    verdict = detect(frames)
    assert isinstance(verdict, Verdict) and len(verdict.frames) == 4
    assert verdict.frames == pytest.approx(scores(frames[::5]).tolist())
    assert verdict.score == pytest.approx(sum(verdict.frames) / 4)
    assert len(detect(frames, most=2, every=3).frames) == 2
    with pytest.raises(ValueError, match="no frame"): detect([])


# ---- the command

@pytest.fixture(scope="module")
def film(tmp_path_factory, face):
    """A talking film of 50 frames with its sound: what a face model makes of a true motion."""
    from vasa_ref.dynamics import to_z_dyn
    clip = make_clip(3, seconds=2.0, held_out=True, render_frames=False)
    moves = clip.truth.motion
    motion = torch.cat([moves.pose, to_z_dyn(moves.units, moves.gaze, moves.body)], 1)
    portrait = face.encode(portraits(clip.truth.people, 256))
    frames = torch.cat(list(face.decode(portrait, motion)))
    return save_video(tmp_path_factory.mktemp("film") / "made.mp4", frames, clip.waveform)


def test_a_film_with_sound(vasa, film, tmp_path):
    code, out, err = vasa("detect", film, "--json", tmp_path / "v.json")
    assert code == 0 and str(film) in out and "pixels" in out and "lips" in out and "10 frames" in out
    assert "knows nothing of other generators" in err
    figures = json.loads((tmp_path / "v.json").read_text())
    assert figures["made"] == (figures["score"] > figures["threshold"]) and figures["frames"] == 10
    assert figures["lips_off"] == (figures["lips_score"] > figures["lips_threshold"])
    assert vasa("detect", film, "--quiet") == (0, "", "")


def test_a_film_without_sound_and_silent_and_short_ones(vasa, film, tmp_path):
    import subprocess

    from vasa_ref.media.clips import read_frames
    from vasa_ref.media.files import ffmpeg_exe
    frames = list(read_frames(film))
    bare = tmp_path / "bare.mp4"
    subprocess.run([ffmpeg_exe(), "-v", "error", "-i", film, "-an", "-c", "copy", bare], check=True)
    silent = save_video(tmp_path / "silent.mp4", frames, torch.zeros(len(frames) * 640))
    generator = torch.Generator().manual_seed(0)
    short = save_video(tmp_path / "short.mp4", frames[:20], 0.1 * torch.randn(20 * 640, generator=generator))
    for path, said in ((bare, "no sound"), (silent, "no sound"), (short, "from 2 s on")):
        code, out, err = vasa("detect", path)
        assert code == 0 and "pixels" in out and "lips  " not in out and said in err, path


def test_a_picture_of_any_kind(vasa, twins, tmp_path):
    Image.fromarray(twins[1][0].numpy()).save(tmp_path / "a.png")
    Image.fromarray(twins[1][0].numpy()).resize((80, 80)).convert("L").save(tmp_path / "small.jpg")
    code, out, err = vasa("detect", tmp_path / "a.png")
    assert code == 0 and "(1 frame)" in out and "lips" not in out and "enlarged" not in err
    code, out, err = vasa("detect", tmp_path / "small.jpg")
    assert code == 0 and "(1 frame)" in out and "enlarged from 80 px" in err


@pytest.mark.parametrize("content, said", [(b"", "empty"), (b"no film at all" * 50, "no sound or video file"),
                                           (None, "no such file")])
def test_what_is_no_film_is_one_line(vasa, tmp_path, content, said):
    path = tmp_path / "x.mp4"
    if content is not None: path.write_bytes(content)
    code, out, err = vasa("detect", path)
    assert code == 2 and out == "" and err.startswith("vasa: ") and err.count("\n") == 1 and said in err


def test_sound_alone_is_one_line(vasa, tmp_path):
    import soundfile
    soundfile.write(tmp_path / "s.wav", np.zeros(SAMPLE_RATE), SAMPLE_RATE)
    code, out, err = vasa("detect", tmp_path / "s.wav")
    assert code == 2 and out == "" and err.count("\n") == 1 and "missing in it" in err


def test_the_output_is_checked_before_the_work(vasa, film, tmp_path, monkeypatch):
    monkeypatch.setattr(detection, "look", lambda path: pytest.fail("it has begun"))
    code, out, err = vasa("detect", film, "--json", tmp_path / "v.txt")
    assert code == 2 and "should end in .json" in err


def test_no_face_is_one_line_and_a_small_one_is_cut_out(monkeypatch, vasa, twins, tmp_path):
    """With a finder of faces, in whose place stands one that knows the answer."""
    from vasa_ref.talking import photograph
    Image.fromarray(twins[0][0].numpy()).save(tmp_path / "a.png")
    monkeypatch.setattr(photograph, "can_find_faces", lambda: True)
    monkeypatch.setattr(photograph, "find_faces", lambda image: [])
    code, out, err = vasa("detect", tmp_path / "a.png")
    assert code == 2 and out == "" and err.count("\n") == 1 and "no face was found" in err and "a.png" in err

    page = np.full((600, 900, 3), 40, dtype=np.uint8)
    page[100:356, 50:306] = twins[0][0]
    place = photograph.Similarity.of(128.0, 0.0, (50 + 128.0, 100 + 128.0))

    class Found:
        turn, place = (0.0, 0.0, 0.0), photograph.Similarity.of(128.0, 0.0, (50 + 128.0, 100 + 128.0))
    monkeypatch.setattr(photograph, "find_faces", lambda image: [Found()])
    assert detection.place_of_face(torch.from_numpy(page))[0].scale == pytest.approx(place.scale)
    Image.fromarray(page).save(tmp_path / "page.png")
    pixels, lips, notes = detection.look(tmp_path / "page.png")
    assert pixels.score == pytest.approx(detect([twins[0][0]]).score, abs=0.1) and lips is None and notes == []


def test_no_more_than_ten_seconds_are_looked_at(monkeypatch, twins, tmp_path):
    from vasa_ref.media import clips
    seen = []

    def endless(path):
        while True:
            seen.append(1)
            yield twins[0][0]
    monkeypatch.setattr(clips, "read_frames", endless)
    monkeypatch.setattr(detection, "first_sound", lambda path: None)
    pixels, lips, _ = detection.look(tmp_path / "x.mp4")
    assert len(pixels.frames) == 50 and len(seen) <= 251 and lips is None
