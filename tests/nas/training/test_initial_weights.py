import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

import nas
from nas.cli.main import main
from nas.errors import DataError, NasError, StudyError, TrainingError, UsageError
from nas.training.initial_weights import InitialWeights, place_of
from search_spaces import MBConv, build, cost, efficientnet, reference, small

SPACE = small(resolution=32, num_classes=3)
NETWORK = SPACE.reference
RECIPE = nas.Recipe(epochs=0.5, warmup_epochs=0.1, precision="float32")
LITE0 = "efficientnet_lite0"


def images(classes=3, channels=3, count=60):
    rng = np.random.default_rng(0)
    labels = np.arange(count) % classes
    return nas.from_arrays(rng.integers(0, 255, (count, 32, 32, channels), dtype=np.uint8), labels)


def weights_of(network, seed=5, **given):
    module = build(network, seed=seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point() and "norm" in name:
                tensor.add_(torch.rand_like(tensor))
    return InitialWeights(name="x", tensors=module.state_dict(), **given)


def started(network, init):
    module = build(network, seed=0)
    return module.state_dict(), init.give_to(module)


def with_ops(**changes):
    stages = tuple(replace(one, op=replace(one.op, **changes)) for one in NETWORK.stages)
    return replace(NETWORK, stages=stages)


def test_an_equal_network_takes_all_but_the_classifier():
    init = weights_of(NETWORK)
    state, taken = started(NETWORK, init)
    assert all(
        torch.equal(state[name], one) for name, one in init.tensors.items() if "classifier" not in name
    )
    assert not state["head.classifier.weight"].any()
    classifier = NETWORK.head.channels * 3 + 3
    assert taken == cost(NETWORK).params - classifier


def test_the_classifier_of_the_same_classes_is_taken_too():
    init = weights_of(NETWORK, has_classifier=True)
    state, taken = started(NETWORK, init)
    assert taken == cost(NETWORK).params
    assert torch.equal(state["head.classifier.weight"], init.tensors["head.classifier.weight"])


def test_a_narrower_candidate_takes_the_first_channels_with_their_statistics():
    init = weights_of(with_ops(expand_ratio=6))
    state, _ = started(with_ops(expand_ratio=3), init)
    for name in ("stage2.block1.body.expand.conv.weight", "stage2.block1.body.expand.norm.running_mean"):
        assert torch.equal(state[name], init.tensors[name][: len(state[name])])
    name = "stage2.block1.body.project.conv.weight"
    assert torch.equal(state[name], init.tensors[name][:, : state[name].shape[1]])


def test_a_smaller_kernel_is_the_middle_of_a_larger_one_and_a_larger_has_zeros_around_it():
    name = "stage2.block1.body.depthwise.conv.weight"
    large = weights_of(with_ops(kernel_size=5))
    state, _ = started(with_ops(kernel_size=3), large)
    assert torch.equal(state[name], large.tensors[name][:, :, 1:4, 1:4])
    little = weights_of(with_ops(kernel_size=3))
    state, _ = started(with_ops(kernel_size=5), little)
    assert torch.equal(state[name][:, :, 1:4, 1:4], little.tensors[name])
    assert state[name].abs().sum() == pytest.approx(float(little.tensors[name].abs().sum()), rel=1e-5)


def test_a_candidate_with_larger_kernels_computes_what_the_network_did():
    init = weights_of(with_ops(kernel_size=3), has_classifier=True)
    before, after = build(with_ops(kernel_size=3), seed=1), build(with_ops(kernel_size=5), seed=2)
    before.load_state_dict(dict(init.tensors))
    init.give_to(after)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(before.eval()(x), after.eval()(x), atol=1e-4)


def test_blocks_and_layers_that_the_network_does_not_have_stay_as_they_are():
    longer = replace(NETWORK, stages=tuple(replace(one, repeats=one.repeats + 1) for one in NETWORK.stages))
    fresh = build(longer, seed=0).state_dict()
    state, _ = started(longer, weights_of(NETWORK))
    new = f"stage3.block{NETWORK.stages[2].repeats}."
    assert all(torch.equal(state[name], fresh[name]) for name in fresh if name.startswith(new))
    plain = with_ops(se_ratio=0.0)
    fresh = build(NETWORK, seed=0).state_dict()
    state, _ = started(NETWORK, weights_of(plain))
    gates = [name for name in fresh if ".se." in name]
    assert gates
    assert all(torch.equal(state[name], fresh[name]) for name in gates)


def test_a_wider_candidate_keeps_its_own_further_channels():
    wide = replace(NETWORK, stem=replace(NETWORK.stem, channels=24))
    init = weights_of(NETWORK)
    state, _ = started(wide, init)
    name = "stem.block0.conv.weight"
    fresh = build(wide, seed=0).state_dict()[name]
    assert torch.equal(state[name][:16], init.tensors[name])
    assert torch.equal(state[name][16:], fresh[16:])


def test_a_depthwise_kernel_is_not_taken_for_a_full_one():
    fused = MBConv(kernel_size=3, expand_ratio=6)
    first = replace(NETWORK.stages[1], op=fused)
    assert place_of("stage2.block1.body.depthwise.conv.weight") == "stage2.block1.depthwise.conv.weight"
    one = {"a.conv.weight": torch.ones(8, 1, 3, 3)}
    module = torch.nn.Sequential()
    module.a = torch.nn.Sequential()
    module.a.conv = torch.nn.Conv2d(8, 8, 3, bias=False)
    before = module.a.conv.weight.detach().clone()
    assert InitialWeights(name="x", tensors=one).give_to(module) == 0
    assert torch.equal(module.a.conv.weight, before)
    assert first.op == fused


def test_lite0_gives_most_of_its_parameters_to_a_network_of_the_space_around_b0():
    space = efficientnet(resolution=32, num_classes=10)
    init, data = nas.initial_weights(LITE0, images())
    module = build(space.reference, seed=0)
    assert init.give_to(module) > 0.7 * cost(space.reference).params
    assert data.mean == (127 / 255,) * 3


def test_lite0_starts_candidates_for_grey_images():
    init, data = nas.initial_weights(LITE0, images(channels=1))
    assert init.tensors["stem.block0.conv.weight"].shape[1] == 1
    assert len(data.mean) == 1


def test_the_fingerprint_changes_with_the_weights_and_crosses_to_workers():
    data = images()
    one, other = weights_of(NETWORK), weights_of(NETWORK, seed=6)
    made = [nas.ProxyEvaluator(data, RECIPE, init=init).fingerprint for init in (None, one, other)]
    assert len(set(made)) == 3
    again = pickle.loads(pickle.dumps(nas.ProxyEvaluator(data, RECIPE, init=one)))
    assert again.fingerprint == made[1]
    assert replace(one, has_classifier=True).fingerprint != one.fingerprint


def test_a_trial_says_how_many_parameters_it_took():
    evaluator = nas.ProxyEvaluator(images(), RECIPE, init=weights_of(NETWORK))
    job = nas.Candidate(network=NETWORK, job=_job())
    found = {metric.name: metric.value for metric in evaluator.evaluate(job).metrics}
    assert found["params_taken"] == cost(NETWORK).params - NETWORK.head.channels * 3 - 3
    assert "params_taken" in evaluator.measures


def test_a_promoted_candidate_goes_on_from_its_own_weights():
    evaluator = nas.ProxyEvaluator(images(), RECIPE, init=weights_of(NETWORK))
    first = evaluator.evaluate(nas.Candidate(network=NETWORK, job=_job()))
    again = evaluator.evaluate(nas.Candidate(network=NETWORK, job=_job(), weights=first.weights()))
    assert "params_taken" not in {metric.name for metric in again.metrics}


def _job():
    from nas.trial import Job

    return Job(trial=0, attempt=1, tokens=(0,), seed=0)


def test_weights_that_no_layer_matches_are_refused():
    init = InitialWeights(name="x", tensors={"trunk.0.weight": torch.ones(3, 3)})
    with pytest.raises(DataError, match="cannot start from x") as error:
        nas.ProxyEvaluator(images(), RECIPE, init=init).check(NETWORK)
    assert error.value.field == "init"


def test_a_file_that_does_not_say_its_network_is_refused(tmp_path):
    torch.save(build(reference("mobilenet_v2"), seed=0).state_dict(), tmp_path / "w.pth")
    with pytest.raises(TrainingError, match="of which network") as error:
        nas.initial_weights(tmp_path / "w.pth", images())
    assert error.value.field == "init"


@pytest.mark.parametrize("given", ["nothere", "timm:nope", "efficientnet_lite2", "nothere.pth"])
def test_init_is_named_where_there_are_no_such_weights(given):
    with pytest.raises(NasError) as error:
        nas.initial_weights(given, images())
    assert error.value.field == "init"


def test_an_evaluator_of_ones_own_has_its_own_start(tmp_path):
    evaluator = nas.ProxyEvaluator(images(), RECIPE)
    with pytest.raises(UsageError, match="leave one of them out") as error:
        nas.search(SPACE, out=tmp_path / "s", evaluator=evaluator, init=LITE0)
    assert error.value.field == "init"


@pytest.mark.slow
def test_a_search_from_weights_is_continued_with_them_and_not_without(tmp_path, capsys):
    data = images(count=120)
    np.savez(tmp_path / "d.npz", train_images=data.train.images, train_labels=data.train.labels)
    words = ["search", "--data", str(tmp_path / "d.npz"), "--space", "small", "--epochs", "1", "--executor",
             "inline", "--compare-seeds", "0", "--out", str(tmp_path / "s")]  # fmt: skip
    assert main([*words, "--init", LITE0, "--trials", "2"]) == 0
    capsys.readouterr()
    assert main(["resume", str(tmp_path / "s"), "--trials", "3"]) == 0
    study = nas.open_study(tmp_path / "s")
    assert len(study.completed) == 3
    taken = [one.value for trial in study.completed for one in trial.metrics if one.name == "params_taken"]
    assert len(taken) == 3
    assert min(taken) > 0
    assert study.settings["init"] == LITE0
    text = json.loads(study.provenance.preprocessing_json)
    assert text["mean"] == [127 / 255] * 3
    with pytest.raises(StudyError):
        nas.search(SPACE, data=data, recipe=RECIPE, out=tmp_path / "s")
