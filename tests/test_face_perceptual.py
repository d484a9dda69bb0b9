"""Distances of features: the world's critic, and VGG19 against torchvision's."""
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from vasa_ref.errors import VasaError
from vasa_ref.face.networks import FaceConfig, FaceModel
from vasa_ref.face.perceptual import VGG19, Critic
from vasa_ref.face.pretraining import Recogniser


@pytest.fixture(scope="module")
def vgg():
    torch.manual_seed(0)
    return VGG19()


def test_critic_is_a_frozen_copy():
    face = FaceModel(FaceConfig.tiny())
    critic = Critic(face.motion_encoder, Recogniser(face.identity_encoder, face.config.z_id_dim))
    before = critic.motion.dynamics.out.weight.clone()
    with torch.no_grad(): face.motion_encoder.dynamics.out.weight.add_(1)
    assert torch.equal(critic.motion.dynamics.out.weight, before)
    assert not any(p.requires_grad for frozen in (critic.motion, critic.recogniser) for p in frozen.parameters())


def test_vgg_is_a_frozen_chain_of_convolutions(vgg):
    """Written out once more, from the paper's configuration E: 2, 2, 4, 4 convolutions with pooling between, and the
    first of the last four."""
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    x = (images - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    convolutions, expected = iter(vgg.features.values()), []
    for group, count in enumerate((2, 2, 4, 4, 1)):
        if group: x = F.max_pool2d(x, 2)
        for i in range(count):
            convolution = next(convolutions)
            x = F.relu(F.conv2d(x, convolution.weight, convolution.bias, padding=1))
            if i == 0: expected.append(x)
    for one, other in zip(vgg(images), expected, strict=True): assert torch.allclose(one, other, atol=1e-5)
    assert not any(p.requires_grad for p in vgg.parameters())
    assert sum(p.numel() for p in vgg.features.parameters()) == 20_024_384 - 3 * (9 * 512 * 512 + 512)


def test_vgg_reads_torchvisions_weights(tmp_path):
    "torchvision's `vgg19().features`, written as its make_layers does: a list in which a layer's place is its name."
    torch.manual_seed(1)
    layers, before = [], 3
    for width in (64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512, 512, 512, 512,
                  "M"):
        if width == "M": layers.append(nn.MaxPool2d(2))
        else: layers, before = [*layers, nn.Conv2d(before, width, 3, padding=1), nn.ReLU()], width
    theirs = nn.Sequential(*layers)
    state = {f"features.{name}": x
             for name, x in theirs.state_dict().items()} | {"classifier.0.bias": torch.zeros(4096)}
    save_file(state, tmp_path / "vgg19.safetensors", {"format": "pt"})
    ours = VGG19(tmp_path / "vgg19.safetensors")
    images = torch.rand(1, 3, 64, 64)
    x, expected = (images - ours.mean) / ours.std, []
    with torch.no_grad():
        for number, layer in enumerate(theirs):
            x = layer(x)
            if number in (1, 6, 11, 20, 29): expected.append(x.clone())           # relu1_1 to relu5_1
    for one, other in zip(ours(images), expected, strict=True): assert torch.allclose(one, other, atol=1e-5)


def test_vgg_gives_gradients_to_the_picture(vgg):
    image = torch.rand(1, 3, 32, 32, requires_grad=True)
    vgg(image)[-1].sum().backward()
    assert image.grad.abs().sum() > 0


def test_vgg_refuses_what_is_not_vgg(tmp_path):
    save_file({"0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "part.safetensors")
    with pytest.raises(VasaError, match="not torchvision's VGG19"): VGG19(tmp_path / "part.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    with pytest.raises(VasaError, match="no safetensors file"): VGG19(tmp_path / "text.safetensors")
    with pytest.raises(VasaError, match="no file at"): VGG19(tmp_path / "none.safetensors")
