import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vasa_ref.dynamics import from_z_dyn
from vasa_ref.errors import VasaError
from vasa_ref.face.separation import SWAPS
from vasa_ref.hearing.features import PhonemeRecogniser, load_audio_encoder
from vasa_ref.hearing.spectra import Wav2Vec2, Wav2Vec2Config
from vasa_ref.measure import metrics
from vasa_ref.measure.estimator import (
    LIDS,
    EstimatorConfig,
    FaceDataset,
    MetricsTraining,
    MotionEstimator,
    Reading,
    classify_emotion,
    correlation,
    corrupt,
    estimator_loss,
    examples,
    face_crop,
    face_dataset,
    load_metrics,
    mirror,
    mouth_opening,
    train_metrics,
)
from vasa_ref.measure.frame_judges import FrameConfig, FrameEncoder, FrameJudges
from vasa_ref.measure.lipsync import Judges, SyncConfig, fingerprint
from vasa_ref.measure.metrics import (
    Instruments,
    Take,
    angle_deg,
    asked_emotion,
    bench,
    closures,
    closures_met,
    coupling_figures,
    delta_p,
    earlier,
    frame_codes,
    frechet_distance,
    held_out_truth,
    lag_curve,
    load_instruments,
    main_gaze,
    make_take,
    mouth_sync,
    runs,
    sequence_codes,
    silent_frames,
    take_figures,
    true_take,
    video_distance,
    window_jumps,
)
from vasa_ref.store import save_weights
from vasa_ref.talking.talker import Talker
from vasa_ref.units import EMOTIONS
from vasa_ref.world.frames import Pool, marks_of, random_poses
from vasa_ref.world.head import UNIT
from vasa_ref.world.people import person
from vasa_ref.world.performer import perform
from vasa_ref.world.picture import make_figures, render
from vasa_ref.world.speaking import SHAPES, face_of
from vasa_ref.world.voice import PHONEMES, say


@pytest.fixture(scope="module")
def truth():
    return held_out_truth(7, "happy", seconds=1.6)


@pytest.fixture(scope="module")
def estimator():
    torch.manual_seed(0)
    return MotionEstimator(EstimatorConfig.tiny()).eval()


@pytest.fixture(scope="module")
def instruments(estimator):
    torch.manual_seed(1)
    audio_encoder = Wav2Vec2(Wav2Vec2Config.tiny()).eval()
    judges = Judges(SyncConfig.tiny(audio_dim=audio_encoder.config.hidden_size)).eval()
    watching = FrameEncoder(FrameConfig.like(judges.config, estimator.config, "tiny")).eval()
    return Instruments(estimator, judges, FrameJudges(watching, judges, estimator, audio_encoder), audio_encoder)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def perfect_take(truth):
    "What a perfect model and a perfect instrument would give."
    motion = truth.motion
    reading = Reading(motion.pose, motion.units, motion.gaze, mouth_opening(motion.units))
    return Take(truth, torch.cat([motion.pose, motion.dynamics], 1), reading, noise(len(motion), 8),
                torch.zeros(len(motion), 3, 32, 32, dtype=torch.uint8), noise(len(motion), 32, seed=2),
                noise(len(motion), 64))


def test_correlation_is_numpys():
    a, b = noise(50), noise(50, seed=1)
    assert correlation(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-5)
    assert correlation(a, 3 * a + 2) == pytest.approx(1) and correlation(a, -a) == pytest.approx(-1)
    assert correlation(a, torch.ones(50)) == 0


@settings(max_examples=20, deadline=None)
@given(st.integers(-8, 8))
def test_a_shift_is_found(shift):
    track = noise(120).cumsum(0)
    late = track.roll(shift)[10:-10]
    corr, lag = mouth_sync([(track[10:-10], late)])
    assert lag == shift and corr > 0.999
    assert lag_curve(track, track).argmax() == 8


def test_one_shift_for_all_clips_does_not_flatter_chance():
    pairs = [(noise(80, seed=2 * i), noise(80, seed=2 * i + 1)) for i in range(30)]
    alone = sum(mouth_sync([pair])[0] for pair in pairs) / len(pairs)
    assert mouth_sync(pairs)[0] < 0.5 * alone


def test_runs():
    assert runs(torch.tensor([1, 1, 0, 0, 1], dtype=torch.bool)) == [(0, 2), (4, 5)]
    assert runs(torch.zeros(3, dtype=torch.bool)) == []


def test_the_opening_is_what_the_lips_of_the_mesh_do():
    "Against the gap of the inner lips on the fine mesh of a person, which knows nothing of opening_weights."
    mouths = torch.stack([face_of(SHAPES[shape][3]) for shape in ("rest", "M", "A", "E", "O", "S", "W")])
    opening = dict(zip(("rest", "M", "A", "E", "O", "S", "W"), mouth_opening(mouths).tolist()))
    assert opening["A"] > opening["E"] > opening["S"] > opening["M"] == 0 == opening["rest"]
    assert opening["O"] > opening["W"]
    one = torch.zeros(52)
    one[UNIT["jawOpen"]] = 1
    assert mouth_opening(one) == pytest.approx(1)
    one[UNIT["mouthClose"]] = 1
    assert mouth_opening(one) < 0.02, "mouthClose takes back what jawOpen opens"
    assert mouth_opening(torch.rand(2, 3, 52)).shape == (2, 3)


def talking(frames=30):
    units = torch.zeros(frames, 52)
    units[:, UNIT["jawOpen"]] = 0.6
    units[14:17, UNIT["mouthClose"]] = 0.6
    return units


def test_closures():
    units = talking()
    opening = mouth_opening(units)
    assert opening[15] < 0.01 and opening[0] == pytest.approx(0.6) and closures(units) == [(14, 17)]
    assert closures_met(units, opening) == [True]
    assert closures_met(units, opening.roll(2)) == [True]
    assert closures_met(units, opening.roll(6)) == [False]
    assert closures_met(units, torch.zeros(30)) == [False], "a mouth that never opens closes nothing"
    assert closures_met(units, torch.full((30,), 0.4)) == [False]
    assert closures_met(0.1 * units, opening) == [], "the true mouth was hardly open"


def test_a_late_track_is_taken_earlier_without_wrapping_around():
    assert earlier(torch.arange(5), 2).tolist() == [2, 3, 4, 4, 4]
    assert earlier(torch.arange(5), -2).tolist() == [0, 0, 0, 1, 2]
    assert earlier(torch.arange(5), 0).tolist() == [0, 1, 2, 3, 4] and earlier(torch.arange(3), 9).tolist() == [2, 2, 2]


def test_what_a_late_film_shows_first_counts_for_no_closure_at_its_end(truth, estimator):
    """A film three frames late with lips that meet only in its first frames, which a wrap would put under the last
    closure."""
    frames = len(truth.motion)
    opening = mouth_opening(truth.motion.units)
    units = truth.motion.units.clone()
    # open, shut, open at the very end
    units[-6:], units[-3:-1] = units[opening.argmax()], 0
    true = mouth_opening(units)
    late = torch.cat([torch.zeros(3), true])[:frames]
    assert closures(units)[-1] == (frames - 3, frames - 1)
    take = perfect_take(truth)
    take.truth = replace(truth, motion=replace(truth.motion, units=units))
    take.reading = replace(take.reading, opening=late)
    figures = take_figures([take], estimator, window=50)
    met = closures_met(units, earlier(late, 3))
    assert figures["mouth_lag_frames"] == 3 and not met[-1] and figures["closure_recall"] == sum(met) / len(met)
    assert closures_met(units, late.roll(-3))[-1], "a wrap would have met it"


def test_silence_at_the_ends_and_a_mouth_that_stays_shut_are_no_closures():
    units = talking()
    units[:5], units[25:] = 0, 0
    assert closures(units) == [(14, 17)]
    assert closures(torch.zeros(30, 52)) == []


def test_every_m_of_a_sentence_is_a_closure_or_next_to_silence():
    said = perform(say("Mama may move many more men", rate=130), style=torch.zeros(12),
                   generator=torch.Generator().manual_seed(0))
    assert 5 <= len(closures(said.units)) <= 7


def test_silence_is_where_nothing_sounds(truth):
    silent = silent_frames(truth.speech, len(truth.motion))
    assert silent[:8].all() and silent[-8:].all() and not silent[len(silent) // 2]
    assert mouth_opening(truth.motion.units)[silent].max() < 0.1


def test_gaze_is_measured_in_the_cameras_frame(truth):
    take = perfect_take(truth)
    assert angle_deg(main_gaze(take.reading), truth.motion.main_gaze) < 4
    turned = Reading(take.reading.pose + torch.tensor([0.3, 0, 0, 0, 0, 0]), *list(vars(take.reading).values())[1:])
    assert angle_deg(main_gaze(turned), truth.motion.main_gaze) > 12


def test_blinks_do_not_count_for_gaze():
    pose, gaze, units = torch.zeros(4, 6), torch.zeros(4, 2), torch.zeros(4, 52)
    gaze[0], units[0, LIDS] = torch.tensor([1.0, 0.0]), 1.0
    reading = Reading(pose, units, gaze, torch.zeros(4))
    assert main_gaze(reading).abs().max() < 1e-6
    units[:, LIDS] = 1.0
    assert main_gaze(reading)[0] > 0.1, "a clip of shut eyes is still measured"


def test_angles():
    assert angle_deg(torch.tensor([0.2, 0.0]), torch.tensor([-0.1, 0.0])) == pytest.approx(math.degrees(0.3), abs=1e-3)
    assert angle_deg(torch.tensor([0.2, 0.1]), torch.tensor([0.2, 0.1])) < 0.05


def test_delta_p_scales_with_the_motion(truth):
    pose = truth.motion.pose
    assert delta_p(2 * pose) == pytest.approx(2 * delta_p(pose), rel=1e-4)
    assert delta_p(pose[:1].expand(20, 6)) == 0
    step = torch.zeros(3, 6)
    step[1:, 0] = math.radians(3)
    assert delta_p(step) == pytest.approx(0.5)


def test_a_jerk_at_the_seams_is_seen():
    smooth = torch.linspace(0, 1, 100)[:, None].sin()
    broken = smooth + (torch.arange(100)[:, None] >= 50) * 0.5
    for motion, low, high in ((smooth, 0.5, 2.0), (broken, 10, math.inf)):
        seams, inside = window_jumps(motion, 50, motion.std(0))
        assert len(seams) == 1 and len(inside) == 98 and low < seams.mean() / inside.mean() < high


def test_a_seam_of_what_hardly_moves_counts_little(truth, estimator):
    take = perfect_take(truth)
    base = take_figures([take], estimator, window=20)["seam_ratio"]
    still = take.motion.clone()
    still[:, 30] = 0.001 * (torch.arange(len(still)) // 20 % 2)           # jumps at seams, and nowhere else
    ratio = take_figures([replace(take, motion=still)], estimator, window=20)["seam_ratio"]
    assert ratio == pytest.approx(base, rel=0.05)


def test_a_perfect_model_gets_perfect_figures(truth, estimator):
    figures = take_figures([perfect_take(truth)], estimator, window=50)
    assert figures["mouth_corr"] > 0.999 and figures["mouth_lag_frames"] == 0
    assert figures["closure_recall"] == 1 and figures["silence_still"] == 1
    assert figures["gaze_error_deg"] < 4 and figures["distance_error"] < 0.02
    assert figures["delta_p"] == figures["delta_p_true"] > 0.05


def test_a_clip_without_seams_has_no_seam_ratio(truth, estimator):
    figures = take_figures([perfect_take(truth)], estimator, window=500)
    assert "seam_ratio" not in figures and None not in figures.values()


def test_held_out_truths_have_quiet_ends_and_take_turns(truth):
    assert truth.speech.starts[0] == 0 and truth.speech.ends[-1] == len(truth.speech.waveform)
    assert (truth.speech.starts[1:] == truth.speech.ends[:-1]).all()
    assert truth.speech.waveform[:9000].abs().max() == 0
    assert [asked_emotion(held_out_truth(i, seconds=0.5).motion) for i in (0, 1)] == list(EMOTIONS[:2])
    assert asked_emotion(truth.motion) == "happy"


def test_make_take(truth, instruments):
    take = make_take(Talker.random("tiny"), instruments, truth, seed=3)
    assert len(take.motion) == len(take.reading.opening) == len(take.codes) == len(take.features) == len(truth.motion)
    assert torch.equal(take.motion, make_take(Talker.random("tiny"), instruments, truth, seed=3).motion)
    other = make_take(Talker.random("tiny"), instruments, truth, seed=3, cfg_scale={"audio": 3.0}, steps=2)
    assert not torch.allclose(take.motion, other.motion)


def test_the_true_take_is_the_truth(truth, instruments):
    take = true_take(instruments, truth)
    assert torch.equal(take.motion[:, :6], truth.motion.pose) and len(take.codes) == len(truth.motion)
    told = from_z_dyn(take.motion[:, 6:])
    assert torch.allclose(told.units, truth.motion.units, atol=1e-6)
    assert torch.allclose(told.body, truth.motion.body, atol=1e-6)


def test_coupling_of_short_clips_has_no_capp(truth, instruments):
    take = perfect_take(truth)
    assert len(take.motion) < 75
    assert set(coupling_figures([take], instruments.judges)) == {"sync_c", "sync_d", "sync_offset"}
    longer = held_out_truth(8, seconds=2.4)
    both = coupling_figures([take, perfect_take(longer)], instruments.judges)
    assert set(both) == {"sync_c", "sync_d", "sync_offset", "capp", "capp_shift3"} and -1 <= both["capp"] <= 1


def test_frechet_distance_equals_scipys():
    from scipy.linalg import sqrtm
    a, b = noise(300, 6) @ noise(6, 6, seed=1), noise(200, 6, seed=2) @ noise(6, 6, seed=3) + 1
    cov_a, cov_b = np.cov(a.T.double()), np.cov(b.T.double())
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum().item() + np.trace(cov_a + cov_b - 2 * sqrtm(cov_a @ cov_b).real)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-4)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


def test_sequences_know_their_mean_and_their_change():
    codes = torch.arange(30.0)[:, None] * torch.tensor([1.0, -2.0])
    rows = sequence_codes(codes)
    # the first frame has no change
    assert torch.allclose(rows, torch.tensor([[12.0, -24, 0.96, 1.92], [17, -34, 1, 2]]))
    assert video_distance([noise(80, 4)], [noise(80, 4)], axes=3) == pytest.approx(0, abs=1e-4)
    assert video_distance([noise(80, 4)], [noise(80, 4) * 2], axes=3) > 0.1


def test_frame_codes_do_not_depend_on_batches(estimator):
    frames = (torch.rand(5, 32, 32, 3, generator=torch.Generator().manual_seed(0)) * 255).byte()
    assert torch.allclose(frame_codes(estimator, frames, batch=2), frame_codes(estimator, frames), atol=1e-5)


def test_a_folder_without_instruments_gets_the_shipped_ones(tmp_path):
    torch.manual_seed(0)
    audio_encoder = PhonemeRecogniser(Wav2Vec2Config.tiny())
    save_weights(tmp_path / "audio.safetensors", audio_encoder, audio_encoder.config, phonemes=PHONEMES)
    shipped, here = load_instruments("laptop"), load_instruments(tmp_path)
    assert here.audio_encoder.config == shipped.audio_encoder.config
    judges = Judges(SyncConfig.tiny(audio_dim=audio_encoder.config.hidden_size))
    save_weights(tmp_path / "sync.safetensors", judges, judges.config, ears=fingerprint(load_audio_encoder(tmp_path)))
    assert load_instruments(tmp_path).audio_encoder.config == audio_encoder.config
    save_weights(tmp_path / "sync.safetensors", judges, judges.config, ears=fingerprint(shipped.audio_encoder))
    with pytest.raises(VasaError, match="another audio encoder"):
        load_instruments(tmp_path)


def random_dataset(n, size, seed=0):
    "Images uint8 (n, 3, S, S), pose (n, 6) and dynamics (n, 54) that have nothing to do with each other."
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=generator)
    return images, random_poses(n, generator), torch.rand(n, 54, generator=generator)


def test_the_crop_holds_eyes_and_mouth_at_the_same_places_in_any_pose():
    pose = random_poses(6, torch.Generator().manual_seed(2))
    figures = make_figures(person(5))
    _, truth = render(figures, pose, torch.zeros(6, 52), torch.zeros(6, 2), size=64, maps=True)
    x, y = marks_of(truth).unbind(-1)                                                       # (6, 3)
    column, row = (((v + 1) * 32).round().long().clamp(0, 63) for v in (x, y))
    dots = torch.zeros(6, 3, 64, 64)
    # each mark in a colour of its own
    for i in range(6): dots[i, torch.arange(3), row[i], column[i]] = 1
    crops = face_crop(torch.nn.functional.avg_pool2d(dots, 3, 1, 1) * 9, pose, 64).clamp(min=0)
    assert (crops.sum((2, 3)) > 2).all(), "all marks are inside"
    places = torch.arange(64.0)
    rows = (crops.sum(3) * places).sum(2) / crops.sum((2, 3))                               # (6, 3)
    assert (rows[:, :2].mean(1) - 20).abs().max() < 6 and (rows[:, 2] - 44).abs().max() < 7, "eyes above, mouth below"
    assert (rows[:, 0] - rows[:, 1]).abs().max() < 6, "upright"


def test_crops_do_not_see_where_the_head_is():
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    plain = face_crop(image, torch.tensor([[0.0, 0, 0, 0, 0, 1]]), 32)
    moved = face_crop(image.roll(4, -1), torch.tensor([[0.0, 0, 0, 0.25, 0, 1]]), 32)
    assert plain.shape == (1, 3, 32, 32) and (moved - plain).abs().max() < 1e-5


def test_mirror_twice_is_nothing():
    data = random_dataset(2, 32)
    assert all(torch.equal(a, b) for a, b in zip(data, mirror(*mirror(*data))))
    images, pose, dynamics = mirror(*data)
    assert torch.equal(dynamics[:, UNIT["eyeBlinkLeft"]], data[2][:, UNIT["eyeBlinkRight"]])
    assert torch.equal(dynamics[:, UNIT["jawOpen"]], data[2][:, UNIT["jawOpen"]])
    assert torch.equal(dynamics[:, 52], -data[2][:, 52])
    assert torch.equal(pose[:, 0], -data[1][:, 0]) and torch.equal(images, data[0].flip(-1))


def test_examples_are_of_people_who_do_anything_and_of_talks():
    (images, pose, dynamics), (talk_images, talk_pose, talk) = (examples(number, 3, 32) for number in (2, 1))
    assert images.shape == talk_images.shape == (3, 3, 32, 32) and images.dtype == torch.uint8
    assert all(torch.equal(a, b) for a, b in zip(examples(2, 3, 32), (images, pose, dynamics)))
    spread = lambda pose: (pose[:, 5].amax() - pose[:, 5].amin()).item()
    assert spread(talk_pose) < 0.1 < spread(pose), "who talks keeps the distance"
    assert talk.shape == dynamics.shape == (3, 54)


def test_fewer_examples_than_are_kept_are_the_first(tmp_path):
    path = tmp_path / "examples.safetensors"
    plan = lambda people: MetricsTraining(people=people, frames=2)
    three = face_dataset(plan(3), 16, kept=path)
    before, two = path.read_bytes(), face_dataset(plan(2), 16, kept=path)
    assert len(three.images) == 6 and path.read_bytes() == before
    assert all(torch.equal(a, b[:4]) for a, b in zip(two.all(), three.all()))


def test_examples_of_a_pool_are_its_frames(tmp_path):
    pool = Pool.make(tmp_path, 16, 1, 32, quiet=True)
    dataset = FaceDataset.of_pool(tmp_path, 16)
    assert dataset.images.shape == (16, 3, 16, 16) and dataset.pose.shape == (16, 6)
    assert dataset.dynamics.shape == (16, 54)
    frames = pool.files[0].get_tensor("images").float().flatten(0, 1)
    assert (torch.nn.functional.avg_pool2d(frames, 2) - dataset.images).abs().mean() < 4


def test_corrupt_keeps_shape_and_range_and_repeats():
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    one, two = (corrupt(images, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(one, two) and one.shape == images.shape and 0 <= one.min() and one.max() <= 1
    assert not torch.equal(one, corrupt(images, torch.Generator().manual_seed(2)))


def test_estimator_reads_bytes_and_floats_alike(estimator):
    frames = torch.randint(0, 256, (3, 40, 40, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    a, b = estimator.read(frames), estimator.read(frames.permute(0, 3, 1, 2).float() / 255)
    for x, y in zip(vars(a).values(), vars(b).values()):
        assert len(x) == 3 and torch.allclose(x, y, atol=1e-5)
    assert 0 <= a.units.min() and a.units.max() <= 1 and a.opening.min() >= 0


def test_every_part_of_the_estimator_gets_a_gradient():
    model, dataset = MotionEstimator(EstimatorConfig.tiny()), FaceDataset.cat([random_dataset(4, 48)])
    estimator_loss(model, dataset, 4, torch.Generator().manual_seed(0))[0].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_nearest_centre(estimator):
    estimator.emotion_faces.copy_(torch.eye(7, 52))
    assert [classify_emotion(estimator, torch.eye(52)[k].expand(5, 52)) for k in range(7)] == list(EMOTIONS)


def test_training_saves_what_loading_reads(tmp_path):
    model = train_metrics("tiny", max_steps=3, out=tmp_path, quiet=True)
    again = load_metrics(tmp_path)
    frames = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(model.read(frames).pose, again.read(frames).pose, atol=0.02)
    assert set(again.errors) == {"pose_deg", "distance", "gaze_deg", "units", "opening_corr", "emotion_accuracy"}
    assert again.errors == pytest.approx(model.errors) and again.emotion_faces.abs().sum() > 0


def test_training_arguments():
    with pytest.raises(VasaError, match="tiny, laptop, paper"):
        train_metrics("huge", max_steps=1)
    with pytest.raises(ValueError, match="limit"):
        train_metrics("tiny")


KEYS = """self_psnr swap_psnr self_ssim swap_ssim id_from_z_dyn id_chance pose_from_z_dyn_r2 expression_from_z_dyn_r2
    pose_error_deg mouth_corr mouth_lag_frames mouth_corr_languages closure_recall silence_still gaze_error_deg
    distance_error emotion_accuracy seam_ratio delta_p delta_p_true rtf fps_cpu size_px preset people clips seed
    pose_psnr dynamics_psnr pose_ssim dynamics_ssim gaze_from_z_dyn_r2 gaze_open_from_z_dyn_r2
    pose_error_deg_dressed pose_error_deg_held_out
    expression_from_z_dyn_r2_dressed expression_from_z_dyn_r2_held_out sync_c sync_d sync_offset capp capp_shift3 fvd
    sync_c_true sync_d_true sync_offset_true capp_true capp_shift3_true mouth_corr_true closure_recall_true
    gaze_error_deg_true seam_ratio_true
    distance_error_true emotion_accuracy_true sharpness""".split()
KEYS += [f"frame_{key}" for key in KEYS if key.startswith(("sync", "capp"))]
KEYS += [f"{swap}_{error}" for swap in SWAPS for error in ("pose_deg", "gaze_deg", "mouth", "brows")]


def test_bench_measures_any_weights(tmp_path, estimator, monkeypatch):
    """Models that have learned nothing, small instruments, short clips: every figure is there and finite, and nothing
    is good."""
    monkeypatch.setattr(metrics, "held_out_truth",
                        lambda seed, language="en", seconds=0: held_out_truth(seed, language=language, seconds=0.4))
    talker = Talker.random("tiny")
    audio_encoder = PhonemeRecogniser(Wav2Vec2Config.tiny())
    save_weights(tmp_path / "face.safetensors", talker.face, talker.face.config)
    save_weights(tmp_path / "motion.safetensors", talker.motion_model, talker.motion_model.config)
    save_weights(tmp_path / "audio.safetensors", audio_encoder, audio_encoder.config, phonemes=PHONEMES)
    save_weights(tmp_path / "metrics.safetensors", estimator, estimator.config, errors={})
    judges = Judges(SyncConfig.tiny(audio_dim=audio_encoder.config.hidden_size))
    save_weights(tmp_path / "sync.safetensors", judges, judges.config, ears=fingerprint(load_audio_encoder(tmp_path)))
    figures = bench(tmp_path, quick=True, quiet=True)
    assert set(figures) <= set(KEYS)
    assert set(KEYS) - set(figures) <= {
        "mouth_corr_languages", "closure_recall", "closure_recall_true", "seam_ratio", "fvd", "capp", "capp_shift3",
        "seam_ratio_true", "capp_true", "capp_shift3_true", "frame_capp", "frame_capp_shift3",
        "frame_capp_true",
        "frame_capp_shift3_true"}
    assert all(math.isfinite(value) for value in figures.values() if not isinstance(value, str))
    assert figures["mouth_corr"] < 0.5 and figures["swap_psnr"] < 20 and figures["clips"] == 7
    assert figures["size_px"] == 32


def test_bench_needs_weights(tmp_path):
    with pytest.raises(VasaError):
        bench(tmp_path)
