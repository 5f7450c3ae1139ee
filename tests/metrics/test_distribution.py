"""Known answers of FID, KID and Inception Score, on features given and on pictures through the whole network."""

import numpy as np
import pytest
import runs
import torch
from PIL import Image

from diffdistill.errors import InputError
from diffdistill.metrics.distribution import FID, KID, InceptionScore
from diffdistill.metrics.inception import Inception, bilinear_matrix, to_input
from diffdistill.metrics.seeds import further_seeds


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of Inception weights with the names and shapes of torch-fidelity's; the same random values everywhere."""
    with torch.device("meta"):
        tensors = Inception().state_dict()
    for number, (name, tensor) in enumerate(tensors.items()):
        # NumPy promises these bits for all its versions.
        bits = np.random.PCG64(number).random_raw(tensor.numel())
        values = torch.from_numpy(bits / 2**63 - 1).float().reshape(tensor.shape)  # from -1 to 1
        if name.endswith("num_batches_tracked"):
            values = torch.tensor(0)
        elif name.endswith("running_var"):
            values = 1 + values / 2
        elif values.ndim == 1:
            values = values / 10 + name.endswith("bn.weight")
        else:
            values = values * (6 / values[0].numel()) ** 0.5
        tensors[name] = values
    file = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(tensors, file)
    return file


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three pictures of 24 x 16 pixels."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(3):
        Image.fromarray(noise(number, 16, 24)).save(folder / f"{number}.png")
    return folder


def noise(seed: int, height: int = 16, width: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def given(metric_class, real=None, **attributes):
    """A metric that is given features, without the network."""
    metric = metric_class.__new__(metric_class)
    for name, value in (dict(files=["a"], real=real, subsets=50, subset_size=100, splits=1) | attributes).items():
        setattr(metric, name, value)
    return metric


def exact(mean, covariance, n: int, seed: int) -> torch.Tensor:
    """`n` samples with exactly this mean and (unbiased) covariance."""
    x = torch.randn(n, len(mean), generator=torch.Generator().manual_seed(seed)).double()
    x = x - x.mean(0)
    x = x @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T
    return x @ torch.linalg.cholesky(covariance).T + mean


MEANS = torch.tensor([[0.0, 1.0, -2.0], [3.0, 0.0, -1.0]]).double()
DIAGONALS = torch.tensor([[4.0, 1.0, 0.25], [9.0, 1.0, 1.0]]).double()
# |mu - mu'|^2 + sum (sigma - sigma')^2 for covariances that commute
FRECHET = (9 + 1 + 1) + (1 + 0 + 0.25)


@pytest.mark.parametrize("turned", [False, True])
def test_fid_of_two_gaussians_is_the_closed_form(turned):
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)).double())[0]
    turn = turn if turned else torch.eye(3).double()
    real, fake = (
        exact(mean @ turn.T, turn @ torch.diag(diagonal) @ turn.T, 50, seed)
        for seed, (mean, diagonal) in enumerate(zip(MEANS, DIAGONALS, strict=True))
    )
    assert given(FID, real).compute_metrics(list(fake))["fid"] == pytest.approx(FRECHET, rel=1e-9)


def test_fid_to_precomputed_statistics(weights, tmp_path):
    """The file of pytorch-fid: `mu` and `sigma`."""
    file = tmp_path / "real.npz"
    np.savez(file, mu=MEANS[0].numpy(), sigma=np.diag(DIAGONALS[0].numpy()))
    metric = FID(str(file), str(weights))
    assert metric.compute_metrics(list(exact(MEANS[1], torch.diag(DIAGONALS[1]), 50, 1)))["fid"] == pytest.approx(FRECHET)
    assert metric.settings()["reference"].startswith("real.npz (")
    np.savez(file, mu=MEANS[1].numpy(), sigma=np.diag(DIAGONALS[0].numpy()))
    assert FID(str(file), str(weights)).settings() != metric.settings()


def test_kid_is_unbiased():
    """Its mean over pairs of sets from one distribution is 0, where the biased estimate is far from it."""
    draw = torch.Generator().manual_seed(0)
    found = []
    for _ in range(100):
        real, fake = (torch.randn(20, 4, generator=draw).double() for _ in range(2))
        found.append(given(KID, real, subsets=1).compute_metrics(list(fake))["kid"])
    error = np.std(found) / 10
    assert abs(np.mean(found)) < 3 * error
    biased = (
        np.mean([((torch.randn(20, 4, generator=draw).double().square().sum(1) / 4 + 1) ** 3).mean() for _ in range(9)]) / 10
    )
    assert biased > 20 * error


def test_kid_tells_distributions_apart_and_is_deterministic():
    draw = torch.Generator().manual_seed(0)
    real, fake = torch.randn(200, 4, generator=draw).double(), 1 + torch.randn(200, 4, generator=draw).double()
    state = torch.get_rng_state()
    one, two = (given(KID, real).compute_metrics(list(fake)) for _ in range(2))
    assert one == two
    assert torch.equal(torch.get_rng_state(), state)
    assert one["kid"] > 5 * one["kid_std"] > 0


@pytest.mark.parametrize("classes", [2, 5])
def test_inception_score_is_the_number_of_classes_that_are_certain_and_equally_many(classes):
    logits = 100 * torch.eye(classes).repeat(4, 1)
    assert given(InceptionScore).compute_metrics(list(logits)) == dict(inception_score=pytest.approx(classes))


def test_inception_score_of_one_answer_to_everything_is_1():
    logits = torch.randn(1, 7).repeat(20, 1)
    figures = given(InceptionScore, splits=4).compute_metrics(list(logits))
    assert figures == dict(inception_score=pytest.approx(1), inception_score_std=pytest.approx(0, abs=1e-6))


def test_the_network_has_the_published_layers():
    """Tensors and parameters of torch-fidelity's file."""
    with torch.device("meta"):
        network = Inception()
    assert len(network.state_dict()) == 566
    assert sum(p.numel() for p in network.parameters()) == 23_850_960
    assert network.state_dict()["Mixed_7c.branch3x3dbl_3b.conv.weight"].shape == (384, 384, 3, 1)


@pytest.mark.parametrize(
    ("like", "features", "logits"),
    [
        ("torch-fidelity", [6.58942, 0.361126, 0.0, 0.108935], [3.79864, 0.85457, -3.22378, -6.16043]),
        ("pytorch-fid", [6.6129, 0.343354, 0.0, 0.135867], [3.77532, 0.909675, -3.2341, -6.16553]),
    ],
)
def test_outputs_are_those_of_the_packages(like, features, logits, weights):
    """Recorded from torch-fidelity 0.4.0 and pytorch-fid 0.3.0 (its features; it leaves the logits to others)."""
    picture = (np.arange(3 * 40 * 24) * 7 % 256).astype(np.uint8).reshape(3, 40, 24).transpose(1, 2, 0)
    ((found_features, found_logits),) = InceptionScore(str(weights), like=like).extract([picture])
    assert found_features[:4].tolist() == pytest.approx(features, rel=1e-4, abs=1e-4)
    assert found_logits[:4].tolist() == pytest.approx(logits, rel=1e-4, abs=1e-4)


def test_pictures_come_to_the_network_as_in_the_two_packages():
    """TensorFlow 1 samples at i * size / 299: 598 pixels are halved by dropping every other one."""
    pictures = torch.from_numpy(noise(0, 598, 299)).permute(2, 0, 1)[None]
    expected = (pictures[:, :, ::2].float() - 128) / 128
    torch.testing.assert_close(to_input(pictures, "torch-fidelity"), expected)
    assert bilinear_matrix(16).sum(1) == pytest.approx(1)
    halved = pictures.float().unflatten(2, (299, 2)).mean(3) / 127.5 - 1  # at the centres of two pixels
    torch.testing.assert_close(to_input(pictures, "pytorch-fid"), halved, atol=1e-4, rtol=0)


def test_the_three_share_one_pass_and_the_reference_is_read_once(weights, folder):
    """The pictures of the folder themselves, of two sizes: KID with all of them in one subset is at most 0."""
    metrics = [KID(str(folder), str(weights), resize=16), InceptionScore(str(weights), resize=16)]
    passes = []
    metrics[0].load = lambda load=metrics[0].load, **options: passes.append(options) or load(**options)
    records = [dict(image=np.asarray(Image.open(file))) for file in sorted(folder.glob("*.png"))]
    for metric in metrics:
        metric.process(None, records)
    assert metrics[1].inception is None  # it found the features of the first in the records
    kid = metrics[0].evaluate(3)
    assert kid["kid"] < 0
    assert set(metrics[1].evaluate(3)) == {"inception_score", "inception_score_std"}
    real = metrics[0].real
    torch.testing.assert_close(
        real.float(), torch.stack([record["inception", str(weights), 16, "torch-fidelity"][0] for record in records])
    )
    metrics[0].process(None, records)
    metrics[0].evaluate(3)
    assert metrics[0].real is real
    assert len(passes) == 1
    assert metrics[0].settings() == dict(
        weights="weights.pth",
        resize=16,
        like="torch-fidelity",
        reference=f"3 pictures of {folder.name}",
        subsets="100 of 1000",
    )


class Doodler:
    """A model whose teacher draws noise of its seed, a little brighter than the student's."""

    draws_teacher = False

    def __init__(self):
        self.asked = []

    def sample(self, captions, seeds, teacher=False):
        self.asked.append((list(captions), list(seeds), teacher))
        return np.stack([noise(seed) // 2 + 100 for seed in seeds])


def test_the_teacher_is_the_reference_from_seeds_of_its_own(weights, tmp_path):
    """The same as its pictures in a folder; drawn once, and of the captions that were measured."""
    model, students = Doodler(), [dict(image=noise(n), caption=f"caption {n}", seed=n) for n in range(3)]
    for number, picture in enumerate(model.sample([], further_seeds(range(3), 1))):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    model.asked.clear()
    metrics = [kind("teacher", str(weights), resize=16) for kind in (FID, KID)]
    by_folder = KID(str(tmp_path), str(weights), resize=16)
    for metric in metrics:
        assert (metric.needs_model, metric.needs_teacher) == (True, True)
        assert metric.settings()["reference"] == "the teacher, from other seeds"
        metric.model = model
    assert (by_folder.needs_model, by_folder.needs_teacher) == (False, False)
    for start in (0, 2):
        batch = students[start : start + 2]
        for metric in (*metrics, by_folder):
            metric.process(None, batch)
    expected = by_folder.features(by_folder.results)
    for metric in metrics:
        for found, known in zip(metric.features(metric.results), expected, strict=True):
            torch.testing.assert_close(found, known)
        metric.process(None, [dict(sample, image=noise(9)) for sample in students])  # as in a later validation
    assert metrics[1].evaluate(6)["kid"] != pytest.approx(by_folder.evaluate(3)["kid"])
    assert model.asked == [([f"caption {n}" for n in ids], further_seeds(ids, 1), True) for ids in ([0, 1], [2])]


def test_a_teacher_as_reference_without_a_teacher_is_refused_before_a_run(weights, thin_sdxl, tmp_path):
    config = tmp_path / "alone.py"
    config.write_text(
        f"_base_ = ['diffdistill::shapes/{runs.SHAPES}']\n"
        "model = dict(losses=dict(output=None, feature=None))\n"
        f"val_evaluator = [dict(type='FID', reference='teacher', weights={str(weights)!r})]\n"
    )
    ended = runs.tool("train", config, "--work-dir", tmp_path / "run", *runs.options(**runs.shapes(thin_sdxl)))
    runs.assert_one_line(ended, "val_evaluator.0: FID compares with the teacher, and no loss keeps it", "OutputKD")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("build", "parts"),
    [
        (lambda file, folder: FID(str(folder), "/nowhere.pth"), ["FID.weights=/nowhere.pth", "https://"]),
        (lambda file, folder: FID(str(folder), str(folder / "0.png")), ["FID.weights=", "is not Inception's"]),
        (lambda file, folder: FID("/nowhere", str(file)), ["FID.reference=/nowhere", "no folder with pictures"]),
        (lambda file, folder: FID("/nowhere.npz", str(file)), ["FID.reference=/nowhere.npz", "mu and sigma"]),
        (lambda file, folder: KID(str(folder), str(file), subset_size=1), ["subset_size=1"]),
        (lambda file, folder: InceptionScore(str(file), splits=0), ["splits=0"]),
        (lambda file, folder: InceptionScore(str(file), resize=0), ["InceptionScore.resize=0"]),
        (lambda file, folder: InceptionScore(str(file), like="clean-fid"), ["like='clean-fid'", "pytorch-fid"]),
    ],
)
def test_what_is_missing_is_said_at_once(build, parts, weights, folder):
    with pytest.raises(InputError) as error:
        build(weights, folder)
    assert not [part for part in parts if part not in str(error.value)]


def test_without_torchmetrics_the_error_says_how_to_get_it(weights, monkeypatch):
    monkeypatch.setattr("diffdistill.metrics.features.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install diffdistill\[metrics\]"):
        InceptionScore(str(weights))
