import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from nas.errors import RecipeError
from nas.full_training.ranks import OneRank, share_of_batch, share_of_split

CPU = torch.device("cpu")


@pytest.mark.parametrize(("size", "world"), [(8, 1), (8, 2), (12, 3), (6, 6), (10, 2), (9, 3)])
def test_shares_of_a_batch_are_equal_and_together_are_the_batch(size, world):
    rows = np.random.default_rng(0).permutation(100)[:size]
    shares = [share_of_batch(rows, rank, world) for rank in range(world)]
    assert {len(share) for share in shares} == {size // world}
    assert sorted(np.concatenate(shares)) == sorted(rows)
    places = [[list(rows).index(row) for row in share] for share in shares]
    assert all(place == sorted(place) for place in places)


@pytest.mark.parametrize(("size", "world"), [(8, 2), (12, 3), (16, 4)])
def test_the_two_images_that_mixup_mixes_are_in_one_share_and_mirror_each_other_there(size, world):
    batch = torch.arange(size)
    partners = batch.flip(0)
    for rank in range(world):
        share = share_of_batch(batch, rank, world)
        assert torch.equal(share.flip(0), partners[share])


def test_rows_of_several_dimensions_are_shared_by_the_first():
    rows = torch.arange(12).view(4, 3)
    assert share_of_batch(rows, 1, 2).tolist() == [[3, 4, 5], [6, 7, 8]]


@pytest.mark.parametrize(("size", "world", "remedy"), [(10, 4, 8), (11, 4, 12), (1, 2, 2)])
def test_a_batch_that_does_not_divide_is_refused_with_one_that_does(size, world, remedy):
    with pytest.raises(RecipeError, match=f"use batch_size={remedy}$") as error:
        share_of_batch(np.arange(size), 0, world)
    assert error.value.field == "batch_size"


@pytest.mark.parametrize(("count", "world"), [(0, 2), (1, 3), (7, 2), (10, 4), (100, 1)])
def test_each_image_of_a_split_is_evaluated_on_one_rank(count, world):
    shares = [share_of_split(count, rank, world) for rank in range(world)]
    assert [image for share in shares for image in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_one_rank_is_a_plain_process():
    ranks = OneRank(device=CPU)
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    assert ranks.wrap(module, sync_batch_norm=True) is module
    assert not any(isinstance(layer, nn.SyncBatchNorm) for layer in module)
    ranks.average_statistics(module)
    ranks.barrier()
    assert (ranks.rank, ranks.world, ranks.is_first) == (0, 1, True)
    assert (ranks.total(torch.tensor(3)).item(), ranks.from_first("stop")) == (3, "stop")
    assert ranks.gather(torch.tensor([[1, 2]])).tolist() == [[1, 2]]


GROUP = """
import json, sys
import torch
from torch import distributed, nn
from nas.errors import RecipeError
from nas.full_training.ranks import TorchRanks, share_of_batch, share_of_split

rank, world, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
ranks = TorchRanks(device=torch.device("cpu"))
said = {"rank": ranks.rank, "world": ranks.world, "is_first": ranks.is_first}

count = torch.tensor([rank + 1, 10])
said["total"] = ranks.total(count).tolist()
said["own"] = count.tolist()
said["images"] = int(ranks.total(torch.tensor(len(share_of_split(7, rank, world)))))
said["text"] = ranks.from_first(f"checkpoint {rank} \\u00e9")
said["empty"] = ranks.from_first("")
said["gathered"] = ranks.gather(torch.arange(2 * rank).view(-1, 2)).tolist()
said["nothing"] = list(ranks.gather(torch.empty(0, 2)).shape)

images = torch.randn(12, 3, 4, 4, generator=torch.Generator().manual_seed(0))
torch.manual_seed(rank)
network = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
network[0].weight.requires_grad_(False)
wrapped = ranks.wrap(network)
said["weights"] = network[3].weight.tolist()
for layer in network:
    if isinstance(layer, nn.BatchNorm2d):
        layer.momentum = None  # the plain mean over all batches
mine = share_of_batch(images, rank, world)
wrapped(mine).square().mean().backward()
said["frozen"] = network[0].weight.grad is None
said["gradient"] = network[3].weight.grad.tolist()
said["mean"] = network[1].running_mean.tolist()
ranks.average_statistics(network)
said["averaged"] = network[1].running_mean.tolist()
with torch.no_grad():
    whole = network[0](images).mean((0, 2, 3))
said["whole"] = whole.tolist()
network.eval()
before = network[1].running_var.clone()
for _ in range(5):
    ranks.average_statistics(network)
said["unchanged"] = torch.equal(before, network[1].running_var)
said["evaluated"] = network(mine[: rank + 1]).shape[0]  # needs no other rank

said["nothing to train"] = type(ranks.wrap(network.requires_grad_(False))).__name__
try:
    ranks.wrap(network, sync_batch_norm=True)
except RecipeError as error:
    said["refused"] = [error.field, str(error)]
ranks.barrier()
distributed.destroy_process_group()
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    """What each of three processes found."""
    folder = tmp_path_factory.mktemp("group")
    command = [sys.executable, "-c", GROUP]
    processes = [
        subprocess.Popen([*command, str(rank), "3", str(folder)], stdout=subprocess.PIPE, text=True)
        for rank in range(3)
    ]
    return [json.loads(process.communicate(timeout=240)[0]) for process in processes]


@pytest.mark.slow
def test_every_rank_gets_the_sum_and_the_first_ranks_text(group):
    assert [said["rank"] for said in group] == [0, 1, 2]
    assert [said["is_first"] for said in group] == [True, False, False]
    for said in group:
        assert said["world"] == 3
        assert said["total"] == [6, 30]
        assert said["own"] == [said["rank"] + 1, 10]
        assert (said["text"], said["empty"]) == ("checkpoint 0 é", "")


@pytest.mark.slow
def test_an_evaluation_counts_each_of_seven_images_once(group):
    assert [said["images"] for said in group] == [7, 7, 7]


@pytest.mark.slow
def test_every_rank_gets_the_rows_of_all_ranks_in_their_order(group):
    for said in group:
        assert said["gathered"] == [[0, 1], [0, 1], [2, 3]]
        assert said["nothing"] == [0, 2]


@pytest.mark.slow
def test_ranks_start_from_the_first_ranks_weights_and_share_one_gradient(group):
    for name in ("weights", "gradient"):
        assert group[0][name] == group[1][name] == group[2][name]
    assert all(said["frozen"] for said in group)
    assert [said["nothing to train"] for said in group] == ["Sequential"] * 3


@pytest.mark.slow
def test_statistics_of_batch_norms_are_each_ranks_own_until_they_are_averaged(group):
    assert group[0]["mean"] != group[1]["mean"] != group[2]["mean"]
    for said in group:
        assert said["averaged"] == group[0]["averaged"]
        assert said["averaged"] == pytest.approx(said["whole"], abs=1e-6)
        assert said["unchanged"], "equal statistics must stay equal to the bit"


@pytest.mark.slow
def test_a_rank_evaluates_without_waiting_for_others(group):
    assert [said["evaluated"] for said in group] == [1, 2, 3]


@pytest.mark.slow
def test_synchronised_batch_norms_are_refused_on_cpus(group):
    for said in group:
        field, message = said["refused"]
        assert field == "sync_batch_norm"
        assert "leave sync_batch_norm out" in message
