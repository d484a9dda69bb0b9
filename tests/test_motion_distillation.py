"""Distillation: the guess that leads somewhere, the student's lesson, and what its file does for streams."""
from dataclasses import replace

import pytest
import torch

from vasa_ref.errors import VasaError
from vasa_ref.hearing.spectra import Wav2Vec2, Wav2Vec2Config
from vasa_ref.motion.diffusion import NoiseSchedule, add_noise, ddim_step
from vasa_ref.motion.distillation import distil_motion, distillation_loss, guess_between
from vasa_ref.motion.latents import toy_latents
from vasa_ref.motion.network import MotionConfig, MotionModel, MotionSampling, load_motion, load_quick
from vasa_ref.motion.sampling import guided
from vasa_ref.motion.training import MotionTraining, random_conditions, train_motion
from vasa_ref.store import save_weights
from vasa_ref.talking.offline import SpeechToMotion
from vasa_ref.talking.talker import Talker

SMALL = MotionConfig(motion_dim=16, audio_dim=16, width=32, layers=2, window=12, context=4)
PLAN = MotionTraining(batch=6)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def toy():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, latents = MotionModel(SMALL), toy_latents(8, seeded(1))
    model.set_statistics(**dict(latents.items()))
    return model, random_conditions(model, latents, seeded(), PLAN)


@pytest.mark.parametrize("t, u", [(499, 350), (350, 100), (120, 119), (30, -1)])
def test_a_step_with_the_guess_between_leads_there(t, u):
    schedule = NoiseSchedule.cosine(500)
    x_t, x_u = torch.randn(2, 2, 3, 4, generator=seeded()).double()
    guess = guess_between(x_t, x_u, torch.tensor([t, t]), torch.tensor([u, u]), schedule)
    torch.testing.assert_close(ddim_step(x_t, guess, t, u, schedule), x_u, rtol=0, atol=1e-4)


def test_a_teacher_that_knows_the_truth_teaches_the_truth(toy):
    """Every step of such a teacher stays on the line from the truth to the noise, and so does one long step."""
    model, (x0, given, valid) = toy

    class Knowing(MotionModel):
        def denoise(self, x_t, t, encoded): return x0.repeat(len(x_t) // len(x0), 1, 1)
    teacher, student = Knowing(SMALL), Knowing(SMALL)
    loss, parts = distillation_loss(student, teacher, x0, given, valid, seeded(), PLAN, steps=3, leap=4)
    assert loss < 1e-6 and parts.keys() == {"pose", "dyn", "pose_velocity", "dyn_velocity"}


def test_the_lesson_is_where_the_guided_path_goes(toy):
    model, (x0, given, valid) = toy
    loss = [distillation_loss(model, model, x0, given, valid, seeded(), PLAN, steps=2, leap=leap, cfg_scale=scale)[0]
            for leap, scale in ((1, {}), (3, {}), (1, None))]
    assert loss[0] < 1e-6 < 1e-4 < min(loss[1:])
    other = MotionModel(SMALL)
    loss, _ = distillation_loss(other, model, x0, given, valid, seeded(), PLAN, steps=2, leap=3)
    loss.backward()
    assert all(p.grad is None for p in model.parameters())                 # the teacher is not taught
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in other.parameters())


def test_guidance_works_on_batches_as_on_single_windows(toy):
    model, (x0, given, _) = toy
    x_t = add_noise(x0, 300, torch.randn(x0.shape, generator=seeded()), model.schedule)
    t, scale = torch.full((len(x0),), 300), {"audio": 1.0}
    with torch.no_grad():
        together = guided(model, given, scale)(x_t, t)
        for i in range(len(x0)):
            one = replace(given, values={k: v[i:i + 1] for k, v in given.values.items()},
                          keep={k: v[i:i + 1] for k, v in given.keep.items()})
            torch.testing.assert_close(guided(model, one, scale)(x_t[i:i + 1], t[:1]), together[i:i + 1],
                                       rtol=0, atol=1e-4)


def test_training_writes_a_student_of_the_weights_beside_it(tmp_path):
    same = dict(clips=2, max_steps=2, quiet=True, workers=1)
    with pytest.raises(VasaError, match="accepted are"):
        distil_motion("huge", max_steps=1)
    torch.manual_seed(0)
    config = Wav2Vec2Config.tiny()
    save_weights(tmp_path / "audio.safetensors", Wav2Vec2(config), config, preset="tiny")
    train_motion("tiny", out=tmp_path, **same)
    assert load_quick(tmp_path) is None
    student = distil_motion("tiny", out=tmp_path, steps=2, leap=2, **same)
    found, teacher = load_quick(tmp_path), load_motion(tmp_path)
    assert found.sampling == replace(teacher.sampling, steps=2, cfg_scale={}) and found.config == teacher.config
    for name, value in student.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value, rtol=2e-3, atol=2e-3)
    assert not any(p.requires_grad for p in student.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(student.state_dict().values(), teacher.state_dict().values()))


def test_streams_play_the_student_unless_something_else_is_asked():
    talker = Talker.random("tiny")
    student = MotionModel(talker.motion_model.config, MotionSampling().quick)
    with_student = SpeechToMotion(talker.audio, talker.motion_model, student)
    quick = with_student.quick
    assert with_student.performance(live=True).model is quick
    assert with_student.performance(live=True).cfg_scale == {}
    assert with_student.performance(live=True, cfg_scale={"audio": 1.0, "gaze": 0.0}).model is quick   # the default
    for asked in (dict(steps=5), dict(sampler="dpm"), dict(cfg_scale={"audio": 2.0}), dict(cfg_scale={"gaze": 1.0})):
        performance = with_student.performance(live=True, **asked)
        assert performance.model is talker.motion_model and performance.cfg_scale
    assert with_student.performance().model is talker.motion_model
    without = SpeechToMotion(talker.audio, talker.motion_model)
    assert without.performance(live=True).model is talker.motion_model                     # there is no student
    assert without.performance(live=True).cfg_scale
