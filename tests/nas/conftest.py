import os
import sys

import pytest

from search_spaces import Conv, Head, MBConv, Network, SearchSpace, Stage, choice


def make_space(name="small", classes=4) -> SearchSpace:
    """1,296 candidates of a few thousand multiply-adds."""

    def stage(stride):
        op = MBConv(kernel_size=choice(3, 5), expand_ratio=choice(1, 3, 6))
        return Stage(op=op, channels=choice(8, 16), repeats=choice(1, 2, 3), stride=stride)

    stem = Stage(op=Conv(kernel_size=3), channels=8, stride=2)
    template = Network(
        stem=stem, stages=(stage(1), stage(2)), head=Head(channels=16), resolution=8, num_classes=classes
    )
    return SearchSpace(template, name=name)


@pytest.fixture(autouse=True)
def _folders_of_own_files_are_forgotten(monkeypatch):
    """A file named by `file.py:name` adds its folder to the path."""
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture(scope="session")
def small_space() -> SearchSpace:
    return make_space()


@pytest.fixture(scope="session")
def local_ray(request):
    """A local Ray with four CPUs, two made-up GPUs and a phone, started only where a test needs it."""
    if not any(item.get_closest_marker("ray") for item in request.session.items):
        yield None
        return
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    ray.init(
        address="local",
        num_cpus=4,
        num_gpus=2,
        resources={"phone": 1},
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        object_store_memory=200 << 20,
    )
    yield ray
    ray.shutdown()
