"""The diffusion machine: schedules, the forward process, samplers against diffusers, the oracle, guidance."""
import diffusers
import pytest
import torch

from vasa_ref.motion.diffusion import (
    NoiseSchedule,
    add_noise,
    ddim_step,
    ddpm_step,
    dpm_step,
    guide,
    randn,
    sample,
    sampling,
)

SCHEDULES = {"cosine": (NoiseSchedule.cosine, dict(beta_schedule="squaredcos_cap_v2")),
             "linear": (NoiseSchedule.linear, dict(beta_schedule="linear", beta_start=2e-4, beta_end=4e-2))}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def network(x_t, t):
    "A smooth stand-in for a trained network: reads the sample, its neighbours and the time."
    weight = torch.randn(6, 6, generator=seeded(9)) / 3
    return torch.tanh(x_t @ weight + (t[:, None, None] / 500 - 0.5))


def twin(kind, options, steps):
    clip = {} if kind is diffusers.DPMSolverMultistepScheduler else {"clip_sample": False}
    scheduler = kind(500, prediction_type="sample", timestep_spacing="trailing", **clip, **options)
    scheduler.set_timesteps(steps)
    return scheduler


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_equal_diffusers(name):
    make, options = SCHEDULES[name]
    expected = diffusers.DDPMScheduler(500, **options).alphas_cumprod
    assert torch.allclose(make(500).alpha_bars, expected, atol=1e-6, rtol=1e-4)
    assert make(500).alpha_bar(-1) == 1


def test_cosine_ends_in_noise_and_starts_clean():
    schedule = NoiseSchedule.cosine(500)
    assert len(schedule) == 500
    assert schedule.alpha_bars[0] > 0.999 and schedule.alpha_bars[-1] < 1e-6
    assert (schedule.alpha_bars.diff() < 0).all()


def test_alpha_bar_takes_times_of_any_shape():
    schedule = NoiseSchedule.cosine(100)
    t = torch.tensor([[-1, 0], [50, 99]])
    assert torch.equal(schedule.alpha_bar(t).flatten()[1:], schedule.alpha_bars[[0, 50, 99]])
    assert schedule.alpha_bar(t)[0, 0] == 1


@pytest.mark.parametrize("bad", [[0.5, 0.9], [1.0, 0.5], [0.5, 0.0], [[0.5, 0.4]]])
def test_schedule_refuses_what_does_not_fall(bad):
    with pytest.raises(ValueError, match="falling"):
        NoiseSchedule(torch.tensor(bad))


@pytest.mark.parametrize("steps", [1, 7, 20, 50, 499, 500])
def test_timesteps_start_at_the_top_and_fall(steps):
    times = NoiseSchedule.cosine(500).timesteps(steps)
    assert times[0] == 499 and len(times) == steps and times[-1] >= 0
    assert all(a > b for a, b in zip(times, times[1:]))
    if 500 % steps == 0:   # otherwise diffusers' float range may end in an extra -1
        assert times == twin(diffusers.DDIMScheduler, {}, steps).timesteps.tolist()


@pytest.mark.parametrize("steps", [0, 501])
def test_timesteps_refuse(steps):
    with pytest.raises(ValueError, match="accepted is 1 to 500"):
        NoiseSchedule.cosine(500).timesteps(steps)


@pytest.mark.parametrize("name", SCHEDULES)
def test_add_noise_equals_diffusers(name):
    make, options = SCHEDULES[name]
    x0, noise = torch.randn(2, 16, 5, 6, generator=seeded())
    t = torch.randint(0, 500, (16,), generator=seeded())
    expected = diffusers.DDPMScheduler(500, **options).add_noise(x0, noise, t)
    assert torch.allclose(add_noise(x0, t, noise, make()), expected, atol=1e-5)
    assert torch.allclose(add_noise(x0, int(t[0]), noise, make())[0], expected[0], atol=1e-5)


def test_add_noise_keeps_variance():
    schedule, x0 = NoiseSchedule.cosine(), torch.randn(20000, 1, generator=seeded())
    for t in (10, 250, 490):
        assert abs(add_noise(x0, t, torch.randn(20000, 1, generator=seeded(t)), schedule).var() - 1) < 0.05


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("sampler, eta", [("ddim", 0.0), ("ddim", 0.3), ("ddim", 1.0), ("ddpm", 0.0), ("dpm", 0.0)])
@pytest.mark.parametrize("steps", [5, 20, 50, 500])
def test_samplers_equal_diffusers(name, sampler, eta, steps):
    make, options = SCHEDULES[name]
    ours = sample(network, (4, 5, 6), make(), steps, sampler, eta, seeded(1))
    kinds = {"ddpm": diffusers.DDPMScheduler, "ddim": diffusers.DDIMScheduler,
             "dpm": diffusers.DPMSolverMultistepScheduler}
    scheduler = twin(kinds[sampler], options, steps)
    generator, extra = seeded(1), {"eta": eta} if sampler == "ddim" else {}
    x = torch.randn(4, 5, 6, generator=generator)
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, t.expand(4)), int(t), x, generator=generator, **extra).prev_sample
    assert torch.allclose(ours, x, atol=1e-5, rtol=0)


@pytest.mark.parametrize("sampler, eta", [("ddim", 0.0), ("ddim", 1.0), ("ddpm", 0.0), ("dpm", 0.0)])
@pytest.mark.parametrize("steps", [1, 10, 500])
def test_oracle_is_returned(sampler, eta, steps):
    answer = torch.randn(3, 4, 5, generator=seeded())
    made = sample(lambda x_t, t: answer, answer.shape, NoiseSchedule.cosine(), steps, sampler, eta, seeded(2))
    assert torch.allclose(made, answer, atol=1e-5)


def test_ddim_with_the_true_noise_undoes_add_noise():
    schedule = NoiseSchedule.cosine()
    x0, noise = torch.randn(2, 8, 3, generator=seeded())
    x_t = add_noise(x0, 400, noise, schedule)
    assert torch.allclose(ddim_step(x_t, x0, 400, 100, schedule), add_noise(x0, 100, noise, schedule), atol=1e-4)


def test_dpm_is_of_the_second_order():
    """Where the guess changes in a straight line on the solver's clock, two remembered guesses are enough and one is
    not."""
    schedule = NoiseSchedule.linear()
    clock = lambda t: (schedule.alpha_bar(t).log() - (1 - schedule.alpha_bar(t)).log()) / 2
    guess = lambda t: 0.3 + 0.2 * clock(t).reshape(1, 1)
    def walk(times, remember):
        x, before = torch.ones(1, 1), None
        for t, t_prev in zip(times, times[1:]):
            x, before = dpm_step(x, guess(t), t, t_prev, schedule, before if remember else None), (guess(t), t)
        return x
    exact = walk(list(range(400, 99, -1)), True)
    coarse = list(range(400, 99, -50))
    assert (walk(coarse, True) - exact).abs() < 0.2 * (walk(coarse, False) - exact).abs()


def test_ddpm_is_ddim_with_eta_one():
    schedule, (x_t, x0, noise) = NoiseSchedule.cosine(), torch.randn(3, 8, 3, generator=seeded())
    for t, t_prev in ((499, 474), (250, 200), (24, -1)):
        ddim = ddim_step(x_t, x0, t, t_prev, schedule, 1.0, noise)
        assert torch.allclose(ddim, ddpm_step(x_t, x0, t, t_prev, schedule, noise), atol=1e-4)


def test_exact_denoiser_of_a_gaussian_gives_that_gaussian():
    schedule, mean, std = NoiseSchedule.cosine(), 3.0, 0.5

    def exact(x_t, t):
        a = schedule.alpha_bar(t)[:, None]
        return mean + a.sqrt() * std ** 2 / (a * std ** 2 + 1 - a) * (x_t - a.sqrt() * mean)
    for sampler in ("ddim", "ddpm"):
        made = sample(exact, (20000, 1), schedule, 100, sampler, generator=seeded())
        assert abs(made.mean() - mean) < 0.03 and abs(made.std() - std) < 0.03


def test_generator_decides_and_dtype_is_kept():
    schedule = NoiseSchedule.cosine()
    a, b = (sample(network, (2, 5, 6), schedule, 5, "ddpm", generator=seeded(3)) for _ in range(2))
    other = sample(network, (2, 5, 6), schedule, 5, "ddpm", generator=seeded(4))
    assert torch.equal(a, b) and not torch.allclose(a, other)
    double = sample(lambda x, t: x.tanh(), (2, 3), schedule, 5, generator=seeded(), dtype=torch.float64)
    assert double.dtype == torch.float64
    assert torch.equal(randn((4,), seeded(), dtype=torch.float64).float(), randn((4,), seeded()))


def test_sampling_yields_noise_then_every_step_and_sample_its_end():
    schedule = NoiseSchedule.cosine()
    path = [x.detach() for x in sampling(network, (2, 5, 6), schedule, 7, generator=seeded())]
    assert len(path) == 8 and torch.equal(path[0], torch.randn(2, 5, 6, generator=seeded()))
    assert torch.equal(path[-1], sample(network, (2, 5, 6), schedule, 7, generator=seeded()))


def test_unknown_sampler_is_refused():
    with pytest.raises(ValueError, match="accepted are ddim, ddpm, dpm"):
        sample(network, (1, 5, 6), NoiseSchedule.cosine(), 5, "euler")


def test_temperature_is_the_spread_of_the_first_noise_and_of_what_comes_of_it():
    schedule = NoiseSchedule.cosine()
    def exact(x_t, t):                                            # data are N(0, 1)
        return schedule.alpha_bar(t).sqrt()[:, None] * x_t
    first = next(iter(sampling(exact, (5000, 1), schedule, 20, generator=seeded(), temperature=0.5)))
    assert abs(first.std() - 0.5) < 0.02
    full, half = (sample(exact, (5000, 1), schedule, 20, generator=seeded(), temperature=t) for t in (1.0, 0.5))
    assert torch.allclose(half, full / 2, atol=1e-5)              # the exact denoiser is linear here
    for sampler in ("ddim", "ddpm"):                              # nothing random is left at 0
        cold = sample(exact, (4, 1), schedule, 20, sampler, generator=seeded(), temperature=0.0)
        assert torch.equal(cold, torch.zeros(4, 1)) == (sampler == "ddim")


def test_guide_is_equation_2():
    x0, no_audio, no_gaze = torch.randn(3, 2, 5, 6, generator=seeded())
    nulls = {"audio": no_audio, "gaze": no_gaze}
    assert torch.allclose(guide(x0, nulls, {"audio": 0.5, "gaze": 1.0}), 2.5 * x0 - 0.5 * no_audio - no_gaze, atol=1e-6)
    assert torch.equal(guide(x0, nulls, {"audio": 0.0, "gaze": 0.0}), x0)
    assert torch.equal(guide(x0, {}, {}), x0)
    assert torch.allclose(guide(x0, {"audio": x0}, {"audio": 3.0}), x0, atol=1e-5)
    with pytest.raises(KeyError):
        guide(x0, nulls, {"distance": 1.0})
