import pytest
import torch

from robench.models import ARCHITECTURES, build
from robench.utils.errors import UserError

SHAPES = {
    "conv_large": (3, 32, 32),
    "dirt_large": (3, 32, 32),
    "dirt_small": (3, 32, 32),
    "digit_cnn": (1, 8, 8),
    "lenet": (1, 28, 28),
    "small_cnn": (1, 28, 28),
    "resnet18": (3, 32, 32),
    "wrn-28-10": (3, 16, 16),
    "wrn-34-10": (3, 8, 8),
    "dm-wrn-28-10": (3, 8, 8),
    "mobilenetv2": (3, 16, 16),
    "preactresnet18": (3, 16, 16),
    "preactresnet18-bn": (3, 16, 16),
    "preactresnet18-fast": (3, 16, 16),
    **dict.fromkeys(("vgg11", "vgg13", "vgg16", "vgg19"), (3, 32, 32)),
}

HUGE = {"wrn-34-20", "wrn-70-16", "dm-wrn-34-20", "dm-wrn-70-16"}
"""Built without their weights."""


def test_every_network_is_looked_at() -> None:
    assert {*SHAPES, *HUGE} == set(ARCHITECTURES)


@pytest.mark.parametrize("arch", SHAPES)
def test_logits_features_and_map_fit_together(arch: str) -> None:
    model = build(arch, SHAPES[arch], 7).eval()
    x = torch.rand(3, *SHAPES[arch])
    features = model.features(x)
    assert model(x).shape == (3, 7)
    assert features.dim() == 2
    assert torch.equal(model.head(features), model(x))
    assert torch.equal(model.pool(model.feature_map(x)), features)


def test_sizes_are_the_papers() -> None:
    counts = {arch: sum(p.numel() for p in build(arch, SHAPES[arch], 10).parameters()) for arch in SHAPES}
    assert counts["lenet"] == 44_426
    assert counts["small_cnn"] == 312_202
    assert counts["resnet18"] == 11_173_962
    assert counts["wrn-28-10"] == 36_479_194
    assert counts["wrn-34-10"] == 46_160_474
    assert counts["dm-wrn-28-10"] == counts["wrn-28-10"]
    assert counts["preactresnet18"] == counts["preactresnet18-fast"] == 11_171_146
    assert counts["preactresnet18-bn"] == 11_171_146 + 2 * 512
    assert counts["mobilenetv2"] == 2_296_922
    vggs = {"vgg11": 9_231_114, "vgg13": 9_416_010, "vgg16": 14_728_266, "vgg19": 20_040_522}
    assert {arch: counts[arch] for arch in vggs} == vggs
    assert counts["conv_large"] == sum(
        out * (into * size**2 + 3)  # a bias, and batch norm's two
        for into, out, size in [
            *((3, 128, 3), (128, 128, 3), (128, 128, 3), (128, 256, 3), (256, 256, 3), (256, 256, 3)),
            *((256, 512, 3), (512, 256, 1), (256, 128, 1)),
        ]
    ) + 10 * (128 + 1)
    assert counts["dirt_small"] == 64 * (3 * 9 + 3) + 8 * 64 * (64 * 9 + 3) + 10 * (64 + 1)
    wide = [(3, 96), (96, 96), (96, 96), (96, 192), *[(192, 192)] * 5]
    assert counts["dirt_large"] == sum(out * (into * 9 + 3) for into, out in wide) + 10 * (192 + 1)
    assert build("lenet", (1, 28, 28), 10).feature_map(torch.rand(1, 1, 28, 28)).shape == (1, 16, 4, 4)


@pytest.mark.parametrize("arch", sorted(HUGE))
def test_huge_networks_are_as_large_as_the_papers_say(arch: str) -> None:
    with torch.device("meta"):
        model = build(arch, (3, 32, 32), 10).eval().to("meta")
        assert sum(p.numel() for p in model.parameters()) == (266_796_506 if "70-16" in arch else 184_531_674)
        assert model(torch.rand(2, 3, 32, 32)).shape == (2, 10)


def test_parameters_bear_the_public_names() -> None:
    resnet = build("resnet18", (3, 32, 32), 10).state_dict()
    assert {"conv1.weight", "bn1.running_var", "layer1.0.conv1.weight", "layer2.0.shortcut.0.weight"} <= set(resnet)
    assert resnet["linear.weight"].shape == (10, 512)
    wide = build("wrn-28-10", (3, 32, 32), 10).state_dict()
    assert {"conv1.weight", "block1.layer.0.bn1.weight", "block1.layer.0.convShortcut.weight"} <= set(wide)
    assert {"block3.layer.3.conv2.weight", "bn1.running_mean", "fc.bias"} <= set(wide)
    small = build("small_cnn", (1, 28, 28), 10).state_dict()
    convolutions = {f"feature_extractor.conv{i}.weight" for i in range(1, 5)}
    assert convolutions | {f"classifier.fc{i}.bias" for i in range(1, 4)} <= set(small)
    assert not small["classifier.fc3.weight"].any()


@pytest.mark.parametrize("arch", SHAPES)
def test_what_is_encoded_is_decoded(arch: str) -> None:
    model = build(arch, SHAPES[arch], 7).eval()
    x = torch.rand(2, *SHAPES[arch])
    assert torch.allclose(model.decode(model.encode(x)), model(x), atol=1e-6)


def test_domains_are_compared_after_the_second_pool() -> None:
    model = build("dirt_large", (3, 32, 32), 10)
    assert model.encode(torch.rand(2, 3, 32, 32)).shape == (2, 192, 8, 8)
    assert model.feature_map(torch.rand(2, 3, 32, 32)).shape == (2, 192, 8, 8)
    assert not torch.equal(model(x := torch.rand(2, 3, 32, 32)), model(x))  # dropout and noise, in training
    darker = build("dirt_small", (1, 8, 8), 10).eval()
    x = torch.rand(2, 1, 8, 8)
    assert torch.allclose(darker(x), darker(0.5 * x + 0.2), atol=1e-3)  # instance norm of the input


def test_normalisation_is_a_layer_outside_the_state_dict() -> None:
    plain, normalised = build("lenet", (1, 28, 28), 10), build("lenet", (1, 28, 28), 10, mean=[0.1], std=[0.3])
    normalised.load_state_dict(plain.state_dict())
    x = torch.rand(2, 1, 28, 28)
    assert torch.allclose(normalised(x), plain((x - 0.1) / 0.3), atol=1e-6)
    assert not any("normalize" in name for name in plain.state_dict())


@pytest.mark.parametrize(
    ("arch", "shape", "mean", "message"),
    [
        ("lennet", (1, 28, 28), [0.0], "did you mean 'lenet'"),
        ("lenet", (1, 8, 8), [0.0], "at least 16x16"),
        ("lenet", (28, 28), [0.0], "channels, height, width"),
        ("resnet18", (3, 32, 32), [0.1, 0.2], "1 or 3 values for the mean"),
    ],
)
def test_a_network_that_cannot_be_built(arch: str, shape: tuple[int, ...], mean: list[float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(arch, shape, 10, mean=mean)
