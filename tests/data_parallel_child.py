"""What one process of test_data_parallel.py does, started by torchrun: the same updates with every policy."""

import sys
from pathlib import Path

import torch
from test_agent import make_batch
from test_every_part import make_agent

from offpol import processes
from offpol.agent import Agent
from offpol.config import conf_dir
from offpol.data_parallel import DataParallelAgent

POLICIES = sorted(file.stem for file in (conf_dir() / "policy").glob("*.yaml"))
BATCH = 6


def learned(agent: Agent, spoiled: int | None = None) -> dict[str, object]:
    """Return what three updates did: gradients and priorities of the last, parameters and all the policy keeps.

    In the batch of the update `spoiled` the last reward is infinite.
    """
    finite = []
    for seed in range(3):
        batch = make_batch(size=BATCH, seed=seed)
        if seed == spoiled:
            batch.reward[-1, 0] = torch.inf
        update = agent.update(batch)
        finite.append(bool(update.finite))
    return {
        "finite": torch.tensor(finite),
        "gradients": [parameter.grad for parameter in agent.parameters], "priority": update.priority,
        "parameters": list(agent.parameters), "policy": agent.policy.state_dict(), "updates": agent.updates,
    }  # fmt: skip


def main(out: str) -> None:
    results = {}
    with processes.joined(torch.device("cpu")):
        for policy in POLICIES:
            agent = make_agent(kind=DataParallelAgent, policy=policy)
            if processes.rank() > 0:  # whatever it starts from, it is to follow the first process
                agent.load_state_dict({**agent.state_dict(), "network": make_agent(policy=policy).network.state_dict()})
                torch.nn.init.zeros_(agent.parameters[0])
                agent.serve()
            else:
                results[policy] = learned(agent)
                agent.close()
        agent = make_agent(kind=DataParallelAgent, critic="scalar")
        if processes.rank() > 0:
            agent.serve()
        else:
            results["spoiled"] = learned(agent, spoiled=1)
            agent.close()
    if results:
        torch.save(results, Path(out))


if __name__ == "__main__":
    main(sys.argv[1])
