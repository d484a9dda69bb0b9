"""The measures of separation: pictures against pictures, probes, swaps against the rendered truth, leaks."""
import math

import pytest
import torch

from vasa_ref.face.networks import FaceConfig, FaceModel
from vasa_ref.face.perceptual import psnr, ssim
from vasa_ref.face.separation import (
    BROWS,
    LIDS,
    LOOKS,
    MOUTH,
    SWAPS,
    fit_mlp,
    fit_ridge,
    gradient_energy,
    held_out_cast,
    leak_matrix,
    leak_table,
    looks_table,
    probe_identity,
    probe_r2,
    read_codes,
    reading_errors,
    said_r2,
    swap_table,
)
from vasa_ref.world.head import UNIT
from vasa_ref.world.people import HATS, LOOK


def generator(seed=0): return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def face():
    torch.manual_seed(0)
    return FaceModel(FaceConfig.tiny()).eval()


def test_psnr_of_a_known_error():
    images = torch.rand(3, 3, 8, 8, generator=generator(1)) * 0.8
    assert psnr(images + 0.1, images).tolist() == pytest.approx([20] * 3, abs=1e-3)
    assert psnr(images, images).tolist() == pytest.approx([100] * 3)


def test_ssim_agrees_with_scipy():
    from scipy.ndimage import gaussian_filter
    a = torch.rand(2, 3, 32, 40, generator=generator(1))
    b = (a + 0.2 * torch.randn(a.shape, generator=generator(2))).clamp(0, 1)
    def one(x, y):
        blur = lambda z: gaussian_filter(z, 1.5, truncate=3.5)[5:-5, 5:-5]
        mx, my = blur(x), blur(y)
        vx, vy, cov = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
        c1, c2 = 0.01 ** 2, 0.03 ** 2
        return ((2 * mx * my + c1) * (2 * cov + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))).mean()
    twin = [sum(one(x.double().numpy(), y.double().numpy()) for x, y in zip(p, q)) / 3 for p, q in zip(a, b)]
    assert ssim(a, b).tolist() == pytest.approx(twin, abs=1e-4)
    assert ssim(a, a).tolist() == pytest.approx([1, 1])


def test_ssim_agrees_with_torchmetrics():
    image = pytest.importorskip("torchmetrics.functional.image")
    a = torch.rand(2, 3, 32, 32, generator=generator(1))
    b = (a + 0.2 * torch.randn(a.shape, generator=generator(2))).clamp(0, 1)
    _, full = image.structural_similarity_index_measure(a, b, data_range=1.0, reduction="none", return_full_image=True)
    # torchmetrics also counts a reflected border; we do not
    inside = full[..., 5:-5, 5:-5]
    assert torch.allclose(ssim(a, b), inside.mean(dim=(1, 2, 3)), atol=1e-4)


@pytest.mark.parametrize("fit", [fit_ridge, fit_mlp])
def test_probes_find_what_is_there_and_nothing_else(fit):
    codes = torch.randn(400, 6, generator=generator(1))
    noise = torch.randn(400, 1, generator=generator(3))
    truth = torch.cat([codes[:, :2] @ torch.randn(2, 2, generator=generator(2)), noise], dim=1)
    r2 = probe_r2(codes, truth, fit)
    assert (r2[:2] > 0.9).all() and r2[2] < 0.1
    who = torch.arange(8).repeat_interleave(50)
    centres = torch.randn(8, 6, generator=generator(4)) * 3
    assert probe_identity(centres[who] + 0.1 * codes, who, fit) > 0.95
    assert probe_identity(codes, who, fit) < 0.3


def test_only_the_network_reads_what_is_folded():
    codes = torch.randn(600, 4, generator=generator(5))
    truth = codes[:, :1].square() - codes[:, 1:2].square()
    assert probe_r2(codes, truth, fit_ridge) < 0.1 and probe_r2(codes, truth, fit_mlp) > 0.5


def test_fits_leave_the_global_generator_alone():
    torch.manual_seed(3)
    before = torch.rand(1)
    torch.manual_seed(3)
    fit_mlp(torch.randn(20, 3, generator=generator()), torch.randn(20, 1, generator=generator()), steps=2)
    assert torch.equal(torch.rand(1), before)


def test_looks_differ_and_the_truth_does_not():
    casts = {looks: held_out_cast(12, 2, 3, 16, looks) for looks in LOOKS}
    plain = casts["plain"]
    for cast in casts.values():
        assert torch.equal(cast.figures.people.identity.shape, plain.figures.people.identity.shape)
        assert torch.equal(cast.pose, plain.pose) and torch.equal(cast.dynamics, plain.dynamics)
        assert torch.equal(cast.body, plain.body)
        assert torch.equal(cast.shots, plain.shots) and torch.equal(cast.scenes, plain.scenes)
    look = {looks: cast.figures.people.look for looks, cast in casts.items()}
    worn = {looks: rows[:, [LOOK[name] for name in ("glasses", "beard", "hat")]].sum() for looks, rows in look.items()}
    assert worn["plain"] == 0 and worn["dressed"] > 0
    strange = look["held_out"]
    assert ((strange[:, LOOK["face_paint"]] > 0) | (strange[:, LOOK["hat"]] == HATS.index("top hat"))).any()
    with pytest.raises(ValueError, match="accepted are plain, dressed, held_out"): held_out_cast(2, 2, 0, 32, "nude")


def test_each_person_keeps_light_and_scene():
    cast = held_out_cast(2, 2, 4, 32)
    images = cast.images()
    assert images.shape == (2, 2, 3, 32, 32)
    again = cast.draw(cast.pose[:, 1:], cast.dynamics[:, 1:], cast.body[:, 1:])
    assert torch.allclose(again[:, 0], images[:, 1], atol=1e-4)
    assert (images[0, 0] - cast.scenes[0]).abs().amin(0).min() < 1e-6 < (images[0, 0] - images[1, 0]).abs().mean()


@pytest.fixture(scope="module")
def cast(): return held_out_cast(3, 12, 1, 32)


def test_tables_hold_their_keys(face, cast):
    swap, leak = swap_table(face, people=3, frames=2), leak_table(*read_codes(face, cast))
    assert set(swap) == {f"{name}_{measure}" for name in SWAPS for measure in ("psnr", "ssim")} | {"sharpness"}
    assert 3 < swap["self_psnr"] < 30
    assert set(leak) == {"id_from_z_dyn", "id_chance", "pose_from_z_dyn_r2", "expression_from_z_dyn_r2",
                         "gaze_from_z_dyn_r2", "gaze_open_from_z_dyn_r2", "pose_error_deg"}
    assert leak["id_chance"] == pytest.approx(1 / 3) and leak["pose_error_deg"] > 3


def test_sharpness_falls_with_blur_and_does_not_depend_on_brightness():
    images = torch.rand(2, 3, 16, 16, generator=generator())
    soft = torch.nn.functional.avg_pool2d(images, 3, 1, 1)
    assert gradient_energy(images).shape == (2,) and (gradient_energy(soft) < 0.3 * gradient_energy(images)).all()
    assert torch.allclose(gradient_energy(images * 0.5 + 0.2), 0.25 * gradient_energy(images))
    ramp = torch.arange(8.0).expand(1, 3, 8, 8) * 0.1
    assert gradient_energy(ramp).item() == pytest.approx(0.01, rel=1e-4)


def test_a_perfect_model_makes_no_error():
    "One that is told the truth behind each picture and draws with the renderer: right in all four swaps."
    told = held_out_cast(3, 3, 5, 32)
    pictures = told.images().flatten(0, 1)
    truth = torch.cat([told.dynamics, told.body], 2).flatten(0, 1)
    def find(images, table):
        gaps = (images[:, None] - pictures[None]).abs().mean(dim=(2, 3, 4))
        assert gaps.amin(dim=1).max() < 1e-5
        return table[gaps.argmin(dim=1)]
    class Perfect:
        config = FaceConfig.tiny()
        def appearance(self, images): return find(images, torch.arange(3).repeat_interleave(3))
        def identity(self, images): return images
        def motion(self, images): return find(images, told.pose.flatten(0, 1)), find(images, truth)
        def decode(self, whose, z_id, pose, z_dyn):
            one = held_out_cast(3, 3, 5, 32)
            one.figures, one.shots, one.scenes = one.figures[whose], one.shots[whose], one.scenes[whose]
            return one.draw(pose[None], *(x[None] for x in z_dyn.split([54, 3], 1)))[0]
    scores = swap_table(Perfect(), people=3, frames=2, seed=5)
    assert all(scores[f"{name}_psnr"] > 90 for name in SWAPS) and scores["sharpness"] == pytest.approx(1), scores
    class Forgetful(Perfect):
        "Draws everybody with the dynamics of its first frame."
        def decode(self, whose, z_id, pose, z_dyn):
            return super().decode(whose, z_id, pose, truth[3 * whose].expand(len(pose), -1))
    scores = swap_table(Forgetful(), people=3, frames=2, seed=5)
    assert all(scores[f"{name}_psnr"] < 60 for name in SWAPS), "the expressions are wrong"


def test_readings_are_compared_in_their_units():
    pose, dynamics = torch.zeros(2, 6), torch.zeros(2, 54)
    other, face = pose.clone(), dynamics.clone()
    other[:, 0], face[:, 52:], face[:, UNIT["jawOpen"]], face[:, UNIT["browInnerUp"]] = 0.3, 0.1, 0.7, 0.6
    errors = reading_errors((pose, dynamics), (other, face))
    assert errors["pose_deg"].tolist() == pytest.approx([5.7296] * 2, abs=1e-3)
    assert errors["gaze_deg"].tolist() == pytest.approx([5.7296] * 2, abs=1e-3)
    assert errors["mouth"].tolist() == pytest.approx([0.7 / len(MOUTH)] * 2)
    assert errors["brows"].tolist() == pytest.approx([0.6 / len(BROWS)] * 2) and len(MOUTH) == 27 and len(BROWS) == 5


def test_a_reader_adds_its_errors_for_every_swap(face):
    read = lambda images: (torch.zeros(len(images), 6), torch.zeros(len(images), 54))
    scores = swap_table(face, people=2, frames=1, read=read)
    assert all(scores[f"{name}_{key}"] == 0 for name in SWAPS for key in ("pose_deg", "gaze_deg", "mouth", "brows"))


def test_gaze_behind_lids_is_not_asked():
    "A code that holds the gaze wherever it can be seen, and noise behind shut lids."
    generator = torch.Generator().manual_seed(0)
    truth = {"who": torch.arange(4).repeat_interleave(100), "pose": torch.randn(400, 6, generator=generator),
             "units": torch.rand(400, 52, generator=generator), "gaze": torch.randn(400, 2, generator=generator)}
    shut = truth["units"][:, LIDS].amax(dim=1, keepdim=True) >= 0.5
    said = {"units": truth["units"], "gaze": torch.where(shut, torch.randn(400, 2, generator=generator), truth["gaze"])}
    table = leak_table({"pose": truth["pose"], "z_dyn": said["gaze"]}, truth, said)
    assert table["gaze_open_from_z_dyn_r2"] > 0.99 and table["gaze_from_z_dyn_r2"] < 0.5


def test_the_leak_matrix_asks_every_code_for_every_factor(face, cast):
    codes, truth, said = read_codes(face, cast)
    assert said["units"].shape == (36, 52) and said["gaze"].shape == (36, 2)
    assert {name: len(code) for name, code in codes.items()} == {"V_app": 36, "z_id": 36, "pose": 36, "z_dyn": 36}
    codes["z_dyn"] = torch.cat([truth["units"], truth["gaze"]], 1)
    codes["pose"] = truth["pose"]
    many = {name: code.repeat(8, 1) + 1e-3 * torch.randn(288, code.shape[1], generator=generator())
            for name, code in codes.items()}
    matrix = leak_matrix(many, {name: x.repeat(8, *[1] * (x.ndim - 1)) for name, x in truth.items()})
    assert matrix["z_dyn"]["units"] > 0.9 and matrix["pose"]["pose"] > 0.9
    assert set(matrix["z_id"]) == {"who", "pose", "units", "gaze"}
    assert all(0 <= x <= 1 for row in matrix.values() for x in row.values())


def test_one_number_that_leaks_is_not_hidden_by_five_that_do_not():
    code = torch.randn(400, 4, generator=generator())
    pose = torch.cat([code[:, :1], torch.randn(400, 5, generator=generator(1))], dim=1)
    truth = {"who": torch.arange(4).repeat_interleave(100), "pose": pose, "units": torch.rand(400, 52),
             "gaze": torch.rand(400, 2)}
    codes = {"pose": pose, "z_dyn": code}
    assert leak_table(codes, truth, truth)["pose_from_z_dyn_r2"] > 0.9
    assert 0.14 < leak_matrix(codes, truth)["z_dyn"]["pose"] < 0.25


@pytest.mark.parametrize("fit", [fit_ridge, fit_mlp])
def test_both_probes_find_a_factor_that_is_half_noise(fit):
    code = torch.randn(600, 16, generator=generator())
    factor = code[:, :3] + torch.randn(600, 3, generator=generator(1))
    assert 0.3 < probe_r2(code, factor, fit).mean() < 0.6


def test_what_is_said_is_compared_as_it_is():
    truth = torch.randn(200, 2, generator=generator())
    assert torch.allclose(said_r2(truth, truth), torch.ones(2)) and (said_r2(-truth, truth) < -2).all()
    assert said_r2(truth.mean(0).expand(200, 2), truth).abs().max() < 1e-5


def test_other_looks_are_asked_for_the_same_two():
    generator_ = generator(3)
    units = 0.3 * torch.rand(60, 52, generator=generator_)
    units[:, :5] *= 3                                                                # only these move enough
    truth = {"who": torch.arange(6).repeat_interleave(10), "units": units, "pose": torch.zeros(60, 6)}
    noisy = torch.cat([units[:, :5], torch.rand(60, 47, generator=generator_)], 1)
    table = looks_table({"same": ({"pose": truth["pose"]}, truth, {"units": noisy}),
                         "turned": ({"pose": truth["pose"] + 0.1}, truth, {"units": -units})})
    assert table["expression_from_z_dyn_r2_same"] == pytest.approx(1, abs=1e-5)
    assert table["expression_from_z_dyn_r2_turned"] < 0
    assert table["pose_error_deg_same"] == 0
    assert table["pose_error_deg_turned"] == pytest.approx(math.degrees(0.1), rel=1e-4)
