"""tf.distribute: strategies, and the operations that need more than one replica or worker.

The rest of the package does not depend on the strategy. With one replica every function here is
close to the identity. How to train on several devices: `docs/scaling.md`.
"""

import contextlib
import json
import os

import numpy as np
import tensorflow as tf


def make_strategy(name="auto"):
    """Returns a `tf.distribute.Strategy`; call it before any other function of TensorFlow.

    Args:
        name: one of
            "single": one device.
            "mirrored": all GPUs of this machine, or its logical CPUs if there is no GPU.
            "multiworker": the workers in the environment variable TF_CONFIG.
            "tpu": a TPU.
            "auto": "multiworker" if TF_CONFIG names other machines, "mirrored" with several GPUs,
                else "single".

    Raises:
        ValueError: no TPU, or a missing or invalid TF_CONFIG.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if name == "auto":
        alone = "mirrored" if len(gpus) > 1 else "single"
        name = alone if _is_alone() else "multiworker"
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
    except Exception as error:  # of various classes
        raise ValueError(f"--strategy: no TPU found ({error}).") from error
    return tf.distribute.TPUStrategy(resolver)


def _is_alone():
    """bool: TF_CONFIG is missing, empty, or names this process only, as a chief or worker."""
    try:
        config = json.loads(os.environ.get("TF_CONFIG", "").strip() or "{}")
        tasks = {
            (job, i) for job, hosts in config.get("cluster", {}).items() for i in range(len(hosts))
        }
        own = config.get("task", {"type": "worker", "index": 0})
        return not tasks or tasks == {(own["type"], own["index"])} <= {("chief", 0), ("worker", 0)}
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


def _cluster():
    """Returns (addresses of the workers, index of this one) from TF_CONFIG."""
    example = """{"cluster": {"worker": ["host0:1234", "host1:1234"]}, """
    example += """"task": {"type": "worker", "index": 0}}"""
    try:
        config = json.loads(os.environ["TF_CONFIG"])
        workers, task = config["cluster"]["worker"], config["task"]
        if task["type"] != "worker" or not 0 <= task["index"] < len(workers):
            raise ValueError("task")  # not an assertion: python -O leaves those out
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(
            f"--strategy: multiworker needs the environment variable TF_CONFIG, which is "
            f"{os.environ.get('TF_CONFIG', 'not set')}. Example: {example}. For one machine give "
            "--strategy single."
        ) from error
    return workers, task["index"]


def is_multi_worker(strategy):
    """Returns True if the strategy has several worker processes."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return False
    cluster = strategy.cluster_resolver.cluster_spec()
    return cluster is not None and len(cluster.as_dict().get("worker", ())) > 1


def is_chief(strategy):
    """Returns True if this process writes the files: the only process, or worker 0."""
    return not is_multi_worker(strategy) or strategy.cluster_resolver.task_id == 0


def images_per_replica(strategy, batch_size, parts=1):
    """Returns the number of images of a batch per replica.

    Args:
        strategy: a `tf.distribute.Strategy`.
        batch_size: images in the global batch.
        parts: microbatches per replica.

    Raises:
        ValueError: `batch_size` is not a multiple of replicas times `parts`.
    """
    replicas = strategy.num_replicas_in_sync
    step = replicas * parts
    if batch_size % step:
        low, high = batch_size // step * step, -(-batch_size // step) * step
        nearest = f"{low} or {high}" if low else f"{high}"
        raise ValueError(
            f"{batch_size} is not a multiple of {replicas} replicas times {parts} microbatches "
            f"(--accumulate). Nearest: {nearest}."
        )
    return batch_size // replicas


# Data ---------------------------------------------------------------------------------------


def share_out(strategy, batches):
    """Returns data for `fit` under a strategy, in which every replica gets its rows of a batch.

    Unlike in TensorFlow's own distribution, the rows of a replica are fixed: replica r of R gets
    rows r B / R to (r + 1) B / R, with one or several workers. A smaller last batch needs at least
    one row per replica.

    Args:
        strategy: a `tf.distribute.Strategy`.
        batches: tf.data.Dataset of dicts, global batches.
    """
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return batches

    def rows_of_worker(context):
        local = replicas // context.num_input_pipelines
        first = context.input_pipeline_id * local
        ranks = tf.data.Dataset.range(first, first + local, output_type=tf.int32)
        rows = batches.flat_map(lambda batch: ranks.map(lambda r: _rows(batch, r, replicas)))
        return rows.prefetch(2 * local)

    return strategy.distribute_datasets_from_function(rows_of_worker)


def _rows(batch, rank, replicas):
    """Returns the rows of one replica, with a static shape if that is known."""
    count = next(iter(batch.values())).shape[0]
    even = count is not None and count % replicas == 0

    def own(values):
        size = tf.shape(values)[0]
        part = values[rank * size // replicas : (rank + 1) * size // replicas]
        return tf.ensure_shape(part, (count // replicas, *values.shape[1:])) if even else part

    return {name: own(values) for name, values in batch.items()}


# Inside of a training step ------------------------------------------------------------------


def replica():
    """Returns (index of this replica, number of replicas); the index is an int or a tensor."""
    context = tf.distribute.get_replica_context()
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if context is None or replicas == 1:
        return 0, 1
    return context.replica_id_in_sync_group, replicas


def mean_over_replicas(tensors):
    """Returns the means of tensors over all replicas, a list."""
    _, replicas = replica()
    if replicas == 1:
        return tensors
    shares = [tensor / replicas for tensor in tensors]
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, shares)


def apply_reduced(optimizer, gradients, variables):
    """Applies gradients that are already averaged over the replicas.

    Keras clips the gradients of each replica and then sums them. Here the mean gradient is
    clipped, as on one device, so Keras' sum is replaced by the identity.
    """
    if replica()[1] > 1:
        optimizer._all_reduce_sum_gradients = list  # takes an iterable of (gradient, variable)
    optimizer.apply(gradients, variables)


def cond_on_replicas(condition, true_fn, false_fn):
    """`tf.cond` whose functions may assign variables under a strategy.

    The condition must be the same on all replicas. In a plain `tf.cond` TensorFlow allows
    assignments only for strategies without merge calls. Keras' LossScaleOptimizer makes the same
    distinction.
    """

    def once(branch):
        branch()
        return tf.constant(True)  # branches must return a tensor

    def on_all(strategy, condition):
        def everywhere(branch):
            strategy.extended.call_for_each_replica(branch)
            return tf.constant(True)

        condition = strategy.experimental_local_results(condition)[0]
        tf.cond(condition, lambda: everywhere(true_fn), lambda: everywhere(false_fn))

    if tf.__internal__.distribute.strategy_supports_no_merge_call():
        tf.cond(condition, lambda: once(true_fn), lambda: once(false_fn))
    else:
        tf.distribute.get_replica_context().merge_call(on_all, args=(condition,))


def as_logs(results):
    """Returns the results of a step in the form that `fit` needs.

    With several workers Keras 3 averages logs over their first axis and fails for scalars
    (https://github.com/keras-team/keras/issues/20585), so they get the shape (1,).
    """
    if not is_multi_worker(tf.distribute.get_strategy()):
        return results
    return {name: value[None] for name, value in results.items()}


# Between steps ------------------------------------------------------------------------------


class Votes:
    """Sums of numbers over the workers, for decisions that all of them must make alike.

    Clocks and signals differ between workers, and if one stopped alone the others would wait for
    it. A sum takes 1 to 2 ms between processes on one machine.

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
        local = len(self.strategy.extended.worker_devices)  # each replica has added its copy
        sums = self.strategy.experimental_local_results(sums)[0].numpy() / local
        return sums.tolist()

    def of_chief(self, values):
        """Returns the chief's numbers on all workers."""
        return self.total([value if self.is_chief else 0.0 for value in values])

    def _sum_of_workers(self, values):
        def summed(values):  # tf.identity: a tensor on this replica's device
            context = tf.distribute.get_replica_context()
            return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(values))

        return self.strategy.run(summed, args=(values,))


class WorkerLost(Exception):
    """Another worker has died. TensorFlow cannot continue without it."""


@contextlib.contextmanager
def raising_worker_lost(strategy):
    """Raises `WorkerLost` instead of TensorFlow's various errors about other workers."""
    kinds = ("Aborted", "Cancelled", "DeadlineExceeded", "Internal", "Unavailable")
    try:
        yield
    except tuple(getattr(tf.errors, f"{kind}Error") for kind in kinds) as error:
        if not is_multi_worker(strategy):
            raise
        raise WorkerLost("another worker is gone; start all workers again.") from error


# Sampling -----------------------------------------------------------------------------------


def local_replicas(strategy):
    """Returns the number of replicas that sample together: all; 1 with several workers."""
    return 1 if is_multi_worker(strategy) else strategy.num_replicas_in_sync


def run_on_shares(strategy, graph, rows, common):
    """Calls a graph on every replica with its share of the rows.

    Args:
        strategy: a `tf.distribute.Strategy` with several replicas on one machine.
        graph: `tf.function` with keyword arguments that calls `strategy.run`.
        rows: dict of arrays (N, ...), split over the replicas; padded with repeated rows to equal
            shares.
        common: dict of arrays, the same for every replica.

    Returns:
        List of arrays, one per replica. The results of the padding come last.
    """
    replicas = strategy.num_replicas_in_sync
    count = len(next(iter(rows.values())))
    share = -(-count // replicas)
    padded = {
        name: np.resize(values, (share * replicas, *values.shape[1:]))
        for name, values in rows.items()
    }

    def distribute(values):
        def rows_of(context):
            first = context.replica_id_in_sync_group * share
            return tf.constant(values[first : first + share])

        return strategy.experimental_distribute_values_from_function(rows_of)

    arguments = {name: distribute(values) for name, values in padded.items()}
    arguments.update({name: tf.constant(value) for name, value in common.items()})
    return [part.numpy() for part in strategy.experimental_local_results(graph(arguments))]
