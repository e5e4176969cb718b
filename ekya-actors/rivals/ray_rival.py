"""Ray's side of `cargo xtask bench actors --rivals PYTHON`: the workload of src/lib.rs, for actors of Ray.

The driver is on one Ray node and the actor on another, both on the loopback, as two processes on two
nodes are for the others. Payloads are also measured with the actor on the driver's own node, where
they go through shared memory. They are handed over as buffers, which Ray maps instead of copying;
nothing is encrypted. Prints one JSON document; progress goes to stderr.
"""

import argparse
import contextlib
import json
import logging
import os
import pickle
import statistics
import sys
import time

# Read by Ray while it is imported.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray
from ray.cluster_utils import Cluster

PING = b"\x07" * 64
IN_FLIGHT = 2048
PAYLOAD = 44 << 20
# On the loopback, like all of 127.0.0.0/8; Ray replaces 127.0.0.1 itself by an address that others reach.
HERE, THERE = "127.0.0.2", "127.0.0.3"
STORE = 512 << 20
# Ten thousand do not fit: each is a process.
ACTORS = (20, 100)


class Weights:
    """Bytes that Ray hands over without pickling them one by one."""

    def __init__(self, data):
        self.data = data

    def __reduce__(self):
        return Weights, (pickle.PickleBuffer(self.data),)

    def __len__(self):
        return memoryview(self.data).nbytes


@ray.remote(num_cpus=0)
class Echo:
    def __init__(self):
        self.weights = None

    def echo(self, ping):
        return ping

    def payload(self):
        if self.weights is None:
            self.weights = Weights(bytearray(PAYLOAD))
        return self.weights


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of it, and 20 actors at most")
    args = parser.parse_args()
    scale = 1 if args.quick else 10
    # Ray prints its warnings where the document goes.
    with contextlib.redirect_stdout(sys.stderr):
        cluster = start_cluster()
        try:
            document = measure(scale)
        finally:
            ray.shutdown()
            cluster.shutdown()
    print(json.dumps(document))


def start_cluster():
    """Two Ray nodes on this machine, `here` and `there`, with the driver on the first."""
    common = {
        "num_cpus": os.cpu_count(),
        "object_store_memory": STORE,
        "include_dashboard": False,
    }
    head = {"resources": {"here": 1000}, "node_ip_address": HERE, **common}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(resources={"there": 1000}, node_ip_address=THERE, **common)
    ray.init(
        address=cluster.address,
        _node_ip_address=HERE,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    return cluster


def measure(scale):
    there, here = start_one("there"), start_one("here")
    asks = ask_times(there, 200 * scale)
    progress("asks")
    figures = {
        "ask_p50_us": quantile(asks, 0.5) * 1e6,
        "ask_p99_us": quantile(asks, 0.99) * 1e6,
        "asks_per_second": pipelined(there, 0.3 * scale),
        "payload_ms": payload(there, scale) * 1e3,
        "payload_same_node_ms": payload(here, scale) * 1e3,
    }
    progress("pipelined asks and payloads")
    for actors in ACTORS if scale > 1 else ACTORS[:1]:
        figures[f"start_{actors}_ms"] = starting(actors) * 1e3
        progress(f"{actors} actors")
    return {
        "version": ray.__version__,
        "transport": "gRPC in the clear, payloads through shared memory",
        "figures": figures,
        "failed": {"start_10000_ms": "every actor of Ray is a process"},
    }


def start_one(node):
    """An actor on that node that has answered."""
    actor = Echo.options(resources={node: 0.001}).remote()
    ray.get(actor.echo.remote(PING))
    return actor


def ask_times(actor, asks):
    """One ask after another; the first tenth warms up."""
    times = []
    for _ in range(asks + asks // 10):
        start = time.perf_counter()
        ray.get(actor.echo.remote(PING))
        times.append(time.perf_counter() - start)
    return times[asks // 10 :]


def pipelined(actor, seconds):
    """Asks per second, so many at once for so long; the first of them warm up."""
    ray.get([actor.echo.remote(PING) for _ in range(IN_FLIGHT)])
    asks, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        ray.get([actor.echo.remote(PING) for _ in range(IN_FLIGHT)])
        asks += IN_FLIGHT
    return asks / (time.perf_counter() - start)


def payload(actor, scale):
    """Median of the times until the driver has the actor's payload; the first warms up."""
    times = []
    for _ in range(1 + max(3, scale)):
        start = time.perf_counter()
        weights = ray.get(actor.payload.remote())
        times.append(time.perf_counter() - start)
        assert len(weights) == PAYLOAD
        del weights
    return statistics.median(times[1:])


def starting(actors):
    """The time until so many actors have been started on the other node and each has answered."""
    start = time.perf_counter()
    started = [Echo.options(resources={"there": 0.001}).remote() for _ in range(actors)]
    ray.get([actor.echo.remote(PING) for actor in started])
    took = time.perf_counter() - start
    for actor in started:
        ray.kill(actor)
    return took


def quantile(times, part):
    return sorted(times)[min(int(len(times) * part), len(times) - 1)]


def progress(what):
    print(f"Ray: {what}: done", file=sys.stderr)


if __name__ == "__main__":
    main()
