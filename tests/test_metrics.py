import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vasa_ref.audio import PhonemeRecogniser, Wav2Vec2, Wav2Vec2Config, load_audio_encoder
from vasa_ref.errors import VasaError
from vasa_ref.estimator import (EstimatorConfig, Lessons, MotionEstimator, Reading, classify_emotion, correlation,
                                estimator_loss, face_crop, load_metrics, mirror, mouth_opening, spoil, train_metrics)
from vasa_ref.lipsync import Judges, SyncConfig, fingerprint
from vasa_ref.metrics import (Instruments, Take, angle_deg, asked_emotion, bench, closures_met, coupling_figures, delta_p,
                              frame_codes, frechet_distance, held_out_truth, lag_curve, load_instruments, main_gaze, make_take,
                              mouth_sync, runs, sequence_codes, silent_frames, take_figures, true_take, video_distance,
                              window_jumps)
from vasa_ref.performer import EMOTIONS
from vasa_ref.separation import SWAPS
from vasa_ref.talker import Talker
from vasa_ref.voice import PHONEMES
from vasa_ref.weights import save_weights


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
    return Instruments(estimator, Judges(SyncConfig.tiny(audio_dim=Wav2Vec2Config.tiny().hidden_size)).eval(), Wav2Vec2(Wav2Vec2Config.tiny()).eval())


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def perfect_take(truth):
    "What a perfect model and a perfect instrument would give."
    motion = truth.motion
    reading = Reading(motion.pose, motion.expression, motion.gaze, mouth_opening(motion.expression))
    return Take(truth, torch.cat([motion.pose, motion.dynamics], 1), reading, noise(len(motion), 8), noise(len(motion), 64))


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


def test_closures():
    expression = torch.zeros(30, 14)
    expression[:, 0], expression[14:17, 3] = 0.6, 1.0
    opening = mouth_opening(expression)
    assert opening[15] == 0 and opening[0] == pytest.approx(0.6)
    assert closures_met(expression, opening) == [True]
    assert closures_met(expression, opening.roll(2)) == [True]
    assert closures_met(expression, opening.roll(6)) == [False]
    assert closures_met(expression, torch.zeros(30)) == [False], "a mouth that never opens closes nothing"
    assert closures_met(expression, torch.full((30,), 0.4)) == [False]
    expression[:, 0] = 0.05
    assert closures_met(expression, opening) == [], "the true mouth was shut anyway"


def test_silence_is_where_nothing_sounds(truth):
    silent = silent_frames(truth.speech, len(truth.motion))
    assert silent[:8].all() and silent[-8:].all() and not silent[len(silent) // 2]
    assert mouth_opening(truth.motion.expression)[silent].max() < 0.05


def test_gaze_is_measured_in_the_cameras_frame(truth):
    take = perfect_take(truth)
    assert angle_deg(main_gaze(take.reading), truth.motion.main_gaze) < 4
    turned = Reading(take.reading.pose + torch.tensor([0.3, 0, 0, 0, 0, 0]), *list(vars(take.reading).values())[1:])
    assert angle_deg(main_gaze(turned), truth.motion.main_gaze) > 12


def test_blinks_do_not_count_for_gaze():
    pose, gaze, expression = torch.zeros(4, 6), torch.zeros(4, 2), torch.zeros(4, 14)
    gaze[0], expression[0, 10:12] = torch.tensor([1.0, 0.0]), 1.0
    reading = Reading(pose, expression, gaze, torch.zeros(4))
    assert main_gaze(reading).abs().max() < 1e-6
    expression[:, 10:12] = 1.0
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
        seams, inside = window_jumps(motion, 50)
        assert len(seams) == 1 and len(inside) == 98 and low < seams.mean() / inside.mean() < high


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
    take = true_take(instruments, truth, 48)
    assert torch.equal(take.motion[:, :6], truth.motion.pose) and len(take.codes) == len(truth.motion)


def test_coupling_of_short_clips_has_no_capp(truth, instruments):
    take = perfect_take(truth)
    assert len(take.motion) < 75 and set(coupling_figures([take], instruments.judges)) == {"sync_c", "sync_d", "sync_offset"}
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
    assert torch.allclose(rows, torch.tensor([[12.0, -24, 0.96, 1.92], [17, -34, 1, 2]]))      # the first frame has no change
    assert video_distance([noise(80, 4)], [noise(80, 4)], axes=3) == pytest.approx(0, abs=1e-4)
    assert video_distance([noise(80, 4)], [noise(80, 4) * 2], axes=3) > 0.1


def test_frame_codes_do_not_depend_on_batches(estimator):
    frames = (torch.rand(5, 32, 32, 3, generator=torch.Generator().manual_seed(0)) * 255).byte()
    assert torch.allclose(frame_codes(estimator, frames, batch=2), frame_codes(estimator, frames), atol=1e-5)


def test_a_folder_without_instruments_gets_the_shipped_ones(tmp_path):
    torch.manual_seed(0)
    ears = PhonemeRecogniser(Wav2Vec2Config.tiny())
    save_weights(tmp_path / "audio.safetensors", ears, ears.config, phonemes=PHONEMES)
    shipped, here = load_instruments("laptop"), load_instruments(tmp_path)
    assert here.ears.config == shipped.ears.config
    judges = Judges(SyncConfig.tiny(audio_dim=ears.config.hidden_size))
    save_weights(tmp_path / "sync.safetensors", judges, judges.config, ears=fingerprint(load_audio_encoder(tmp_path)))
    assert load_instruments(tmp_path).ears.config == ears.config
    save_weights(tmp_path / "sync.safetensors", judges, judges.config, ears=fingerprint(shipped.ears))
    with pytest.raises(VasaError, match="another audio encoder"):
        load_instruments(tmp_path)


def test_crop_is_upright_centred_and_of_one_size():
    lessons = Lessons.make(1, 48, torch.Generator().manual_seed(2))
    image = lessons.images.float() / 255
    plain = face_crop(image, torch.tensor([[0.0, 0, 0, 0, 0, 1]]), 32)
    assert plain.shape == (1, 3, 32, 32)
    near = face_crop(image, torch.tensor([[0.0, 0, 0, 0, 0, 0.46]]), 48)
    theta_shift = face_crop(image.roll(6, -1), torch.tensor([[0.0, 0, 0, 0.25, 0, 1]]), 32)
    assert (theta_shift - plain).abs().mean() < 1e-5
    assert near.shape == (1, 3, 48, 48) and near.isfinite().all()


def test_mirror_twice_is_nothing():
    lessons = Lessons.make(2, 32, torch.Generator().manual_seed(2))
    data = lessons.images, lessons.pose, lessons.dynamics
    assert all(torch.equal(a, b) for a, b in zip(data, mirror(*mirror(*data))))
    assert torch.equal(mirror(*data)[2][:, 10], lessons.dynamics[:, 11])
    assert torch.equal(mirror(*data)[1][:, 0], -lessons.pose[:, 0])


def test_spoil_keeps_shape_and_range_and_repeats():
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    one, two = (spoil(images, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(one, two) and one.shape == images.shape and 0 <= one.min() and one.max() <= 1
    assert not torch.equal(one, spoil(images, torch.Generator().manual_seed(2)))


def test_estimator_reads_bytes_and_floats_alike(estimator):
    frames = torch.randint(0, 256, (3, 40, 40, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    a, b = estimator.read(frames), estimator.read(frames.permute(0, 3, 1, 2).float() / 255)
    for x, y in zip(vars(a).values(), vars(b).values()):
        assert len(x) == 3 and torch.allclose(x, y, atol=1e-5)
    assert a.expression.min() >= 0 and a.opening.max() <= 1


def test_every_part_of_the_estimator_gets_a_gradient():
    model, lessons = MotionEstimator(EstimatorConfig.tiny()), Lessons.make(4, 48, torch.Generator().manual_seed(0))
    estimator_loss(model, lessons, 4, torch.Generator().manual_seed(0))[0].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_nearest_centre(estimator):
    estimator.emotion_faces.copy_(torch.eye(7, 14))
    assert [classify_emotion(estimator, torch.eye(14)[k].expand(5, 14)) for k in range(7)] == list(EMOTIONS)


def test_training_saves_what_loading_reads(tmp_path):
    model = train_metrics("tiny", max_steps=3, out=tmp_path, quiet=True)
    again = load_metrics(tmp_path)
    frames = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(model.read(frames).pose, again.read(frames).pose, atol=0.02)
    assert set(again.errors) == {"pose_deg", "distance", "gaze_deg", "expression", "opening_corr", "emotion_accuracy"}
    assert again.errors == pytest.approx(model.errors) and again.emotion_faces.abs().sum() > 0


def test_training_arguments():
    with pytest.raises(VasaError, match="tiny, laptop, paper"):
        train_metrics("huge", max_steps=1)
    with pytest.raises(ValueError, match="limit"):
        train_metrics("tiny")


KEYS = """self_psnr swap_psnr self_ssim swap_ssim id_from_z_dyn id_chance pose_from_z_dyn_r2 expression_from_z_dyn_r2
    pose_error_deg mouth_corr mouth_lag_frames mouth_corr_languages closure_recall silence_still gaze_error_deg
    distance_error emotion_accuracy seam_ratio delta_p delta_p_true rtf fps_cpu size_px preset people clips seed
    pose_psnr dynamics_psnr pose_ssim dynamics_ssim gaze_from_z_dyn_r2 gaze_open_from_z_dyn_r2 pose_error_deg_dressed pose_error_deg_held_out
    expression_from_z_dyn_r2_dressed expression_from_z_dyn_r2_held_out sync_c sync_d sync_offset capp capp_shift3 fvd
    sync_c_true sync_d_true sync_offset_true capp_true capp_shift3_true mouth_corr_true closure_recall_true gaze_error_deg_true
    distance_error_true emotion_accuracy_true""".split()
KEYS += [f"{swap}_{error}" for swap in SWAPS for error in ("pose_deg", "gaze_deg", "mouth", "brows")]


def test_bench_measures_any_weights(tmp_path):
    "Models that have learned nothing: every figure is there and finite, and nothing is good."
    talker = Talker.random("tiny")
    ears = PhonemeRecogniser(Wav2Vec2Config.tiny())
    save_weights(tmp_path / "face.safetensors", talker.face, talker.face.config)
    save_weights(tmp_path / "motion.safetensors", talker.motion_model, talker.motion_model.config)
    save_weights(tmp_path / "audio.safetensors", ears, ears.config, phonemes=PHONEMES)
    figures = bench(tmp_path, quick=True, quiet=True)
    assert set(figures) <= set(KEYS) and set(KEYS) - set(figures) <= {"mouth_corr_languages", "closure_recall", "closure_recall_true", "seam_ratio", "fvd"}
    assert all(math.isfinite(value) for value in figures.values() if not isinstance(value, str))
    assert figures["mouth_corr"] < 0.5 and figures["swap_psnr"] < 20 and figures["clips"] == 7 and figures["size_px"] == 32


def test_bench_needs_weights(tmp_path):
    with pytest.raises(VasaError):
        bench(tmp_path)
