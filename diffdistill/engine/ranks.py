"""What the ranks of a run agree on."""

import torch
from mmengine.dist import all_reduce, get_comm_device, get_world_size


def on_all_ranks(flag: bool) -> bool:
    """Whether `flag` holds on every rank, which all of them must ask at the same moment."""
    if get_world_size() == 1:
        return flag
    count = torch.tensor(int(flag), device=get_comm_device())
    all_reduce(count)
    return int(count) == get_world_size()


def on_any_rank(flag: bool) -> bool:
    """Whether `flag` holds on one rank or more, which all of them must ask at the same moment."""
    return not on_all_ranks(not flag)
