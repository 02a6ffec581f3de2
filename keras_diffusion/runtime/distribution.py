"""tf.distribute: which strategy, who is chief, and the few things that replicas do together.

The only file that knows of strategies. With one replica every function here is the identity,
or nearly so. `docs/scaling.md` tells how it is used.
"""

import contextlib
import json
import os

import numpy as np
import tensorflow as tf


def make_strategy(name="auto"):
    """Returns the `tf.distribute.Strategy` of a name; call it before anything else of TensorFlow.

    Args:
        name: "single": one device. "mirrored": all GPUs of this machine, or all its logical
            CPUs where there is no GPU. "multiworker": the machines in the environment variable
            TF_CONFIG. "tpu": the TPU that TensorFlow finds. "auto": multiworker where TF_CONFIG
            is set, else mirrored where there are several GPUs, else single.

    Raises:
        ValueError: no such hardware, or a TF_CONFIG that does not name this worker.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if name == "auto":
        name = "mirrored" if len(gpus) > 1 else "single"
        if "TF_CONFIG" in os.environ:
            name = "multiworker"
    if name == "single":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    if name == "multiworker":
        workers, index = _cluster()
        print(f"worker {index} of {len(workers)}, waiting for: {', '.join(workers)}", flush=True)
        return tf.distribute.MultiWorkerMirroredStrategy()
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect()
    except Exception as error:  # TensorFlow raises several kinds
        raise ValueError(f"--strategy: no TPU was found ({error}).") from error
    return tf.distribute.TPUStrategy(resolver)


def _cluster():
    """Returns (addresses of the workers, number of this one), as TF_CONFIG says."""
    example = """{"cluster": {"worker": ["host0:1234", "host1:1234"]}, """
    example += """"task": {"type": "worker", "index": 0}}"""
    try:
        config = json.loads(os.environ["TF_CONFIG"])
        workers, task = config["cluster"]["worker"], config["task"]
        assert task["type"] == "worker" and 0 <= task["index"] < len(workers)
    except (KeyError, ValueError, TypeError, AssertionError) as error:
        raise ValueError(
            f"--strategy: multiworker needs the environment variable TF_CONFIG, such as {example}; "
            f"it is {os.environ.get('TF_CONFIG', 'not set')}."
        ) from error
    return workers, task["index"]


def is_multi_worker(strategy):
    """bool: several processes, each with its own copy of this program."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return False
    cluster = strategy.cluster_resolver.cluster_spec()
    return cluster is not None and len(cluster.as_dict().get("worker", ())) > 1


def is_chief(strategy):
    """bool: this process writes the files: the only one, or the first worker."""
    return not is_multi_worker(strategy) or strategy.cluster_resolver.task_id == 0


def per_replica(strategy, batch_size, parts=1):
    """Returns how many images of a batch one replica gets.

    Raises:
        ValueError: the batch cannot be shared out evenly, into `parts` on every replica.
    """
    replicas = strategy.num_replicas_in_sync
    step = replicas * parts
    if batch_size % step:
        low, high = batch_size // step * step, -(-batch_size // step) * step
        nearest = f"{low} or {high}" if low else f"{high}"
        raise ValueError(
            f"{batch_size} images cannot be shared out evenly over {replicas} replicas "
            f"in {parts} parts (--accumulate). Nearest: {nearest}."
        )
    return batch_size // replicas


# Data ---------------------------------------------------------------------------------------


def share_out(strategy, batches):
    """Returns data for `fit` under a strategy: every replica gets its rows of each batch.

    Unlike TensorFlow's own distribution, which row goes where is fixed: replica r of R gets
    the rows from r B / R to (r + 1) B / R, on one machine or on several. A last batch that is
    smaller is shared out as well as it goes; it must have a row for every replica.

    Args:
        strategy: a `tf.distribute.Strategy`.
        batches: tf.data.Dataset of dicts, the batches of all replicas together.
    """
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return batches

    def of_this_worker(context):
        local = replicas // context.num_input_pipelines
        first = context.input_pipeline_id * local
        ranks = tf.data.Dataset.range(first, first + local, output_type=tf.int32)
        rows = batches.flat_map(lambda batch: ranks.map(lambda r: _rows(batch, r, replicas)))
        return rows.prefetch(2 * local)

    return strategy.distribute_datasets_from_function(of_this_worker)


def _rows(batch, rank, replicas):
    """The rows of one replica; of a static number where that is known."""
    count = next(iter(batch.values())).shape[0]
    even = count is not None and count % replicas == 0

    def own(values):
        size = tf.shape(values)[0]
        part = values[rank * size // replicas : (rank + 1) * size // replicas]
        return tf.ensure_shape(part, (count // replicas, *values.shape[1:])) if even else part

    return {name: own(values) for name, values in batch.items()}


# Inside of a training step ------------------------------------------------------------------


def replica():
    """Returns (number of this replica, number of replicas), the first an int or a tensor."""
    context = tf.distribute.get_replica_context()
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if context is None or replicas == 1:
        return 0, 1
    return context.replica_id_in_sync_group, replicas


def mean_over_replicas(tensors):
    """Returns the means over all replicas of a list of tensors."""
    _, replicas = replica()
    if replicas == 1:
        return tensors
    shares = [tensor / replicas for tensor in tensors]
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, shares)


def apply_reduced(optimizer, gradients, variables):
    """`optimizer.apply` with gradients that are the same on all replicas already.

    Keras would clip each replica's gradients by themselves and then sum; here the whole
    gradient is clipped, as on one device, so its own sum is taken out.
    """
    if replica()[1] > 1:
        optimizer._all_reduce_sum_gradients = list  # of pairs (gradient, variable)
    optimizer.apply(gradients, variables)


def either(condition, yes, no):
    """Calls yes() or no() on every replica, by a condition that is the same on all of them.

    Both may assign variables. TensorFlow allows that in a plain tf.cond only where replicas
    need not wait for each other (Keras' LossScaleOptimizer has the same two ways).
    """

    def once(branch):
        branch()
        return tf.constant(True)  # branches have to return something

    def on_all(strategy, condition):
        def everywhere(branch):
            strategy.extended.call_for_each_replica(branch)
            return tf.constant(True)

        condition = strategy.experimental_local_results(condition)[0]
        tf.cond(condition, lambda: everywhere(yes), lambda: everywhere(no))

    if tf.__internal__.distribute.strategy_supports_no_merge_call():
        tf.cond(condition, lambda: once(yes), lambda: once(no))
    else:
        tf.distribute.get_replica_context().merge_call(on_all, args=(condition,))


def as_logs(results):
    """Returns the results of a step as `fit` needs them.

    With several workers Keras 3 averages logs over their first axis, and fails on scalars
    (https://github.com/keras-team/keras/issues/20585): there they get one.
    """
    if not is_multi_worker(tf.distribute.get_strategy()):
        return results
    return {name: value[None] for name, value in results.items()}


# Between steps ------------------------------------------------------------------------------


class Votes:
    """Sums over the workers, so that all of them decide the same, at the same step.

    Clocks and signals differ from worker to worker, and one that stops alone leaves the others
    waiting. One sum takes 1 to 2 ms between processes of one machine.

    Args:
        strategy: a `tf.distribute.Strategy`.
    """

    def __init__(self, strategy):
        self.strategy = strategy
        self.is_chief = is_chief(strategy)
        self._sum = tf.function(self._sum_of_workers) if is_multi_worker(strategy) else None

    def total(self, values):
        """Returns the sums over all workers of a list of numbers, as a list of floats."""
        values = [float(value) for value in values]
        if self._sum is None:
            return values
        sums = self._sum(tf.constant(values, tf.float64))
        local = len(self.strategy.extended.worker_devices)  # each replica has added its own
        sums = self.strategy.experimental_local_results(sums)[0].numpy() / local
        return sums.tolist()

    def of_chief(self, values):
        """Returns the chief's numbers, on all workers."""
        return self.total([value if self.is_chief else 0.0 for value in values])

    def _sum_of_workers(self, values):
        def summed(values):  # identity: a tensor of this replica's device
            context = tf.distribute.get_replica_context()
            return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(values))

        return self.strategy.run(summed, args=(values,))


class WorkerLost(Exception):
    """Another worker has died; TensorFlow cannot go on without it."""


@contextlib.contextmanager
def noticing_losses(strategy):
    """Turns TensorFlow's errors about other workers into `WorkerLost`, within seconds."""
    kinds = ("Aborted", "Cancelled", "DeadlineExceeded", "Internal", "Unavailable")
    try:
        yield
    except tuple(getattr(tf.errors, f"{kind}Error") for kind in kinds) as error:
        if not is_multi_worker(strategy):
            raise
        raise WorkerLost("another worker is gone; start all workers again.") from error


# Sampling -----------------------------------------------------------------------------------


def local_replicas(strategy):
    """int: how many replicas draw pictures together: all, or with several workers one."""
    return 1 if is_multi_worker(strategy) else strategy.num_replicas_in_sync


def on_shares(strategy, graph, rows, common):
    """Calls a graph on every replica with its share of the rows.

    Args:
        strategy: a `tf.distribute.Strategy` with more than one replica, on one machine.
        graph: tf.function of keyword arguments, that calls `strategy.run`.
        rows: dict of arrays (N, ...); rows are repeated so that all shares have equal sizes.
        common: dict of arrays that every replica gets whole.

    Returns:
        List of arrays, what each replica returned; the repeated rows come last.
    """
    replicas = strategy.num_replicas_in_sync
    count = len(next(iter(rows.values())))
    share = -(-count // replicas)
    padded = {
        name: np.resize(values, (share * replicas, *values.shape[1:]))
        for name, values in rows.items()
    }

    def dealt(values):
        def own(context):
            first = context.replica_id_in_sync_group * share
            return tf.constant(values[first : first + share])

        return strategy.experimental_distribute_values_from_function(own)

    arguments = {name: dealt(values) for name, values in padded.items()}
    arguments.update({name: tf.constant(value) for name, value in common.items()})
    return [part.numpy() for part in strategy.experimental_local_results(graph(arguments))]
